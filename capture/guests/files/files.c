/* Reads a file on all CPUs in pieces of several sizes, maps it, writes another and reads it back,
   before and after the cache was flushed to the disk. Word i of each file is mix(i) at first.
   Exit status 0 if every word is what it should be. */
#include "libos.h"

enum { PHASE_READ = 1, PHASE_AGAIN, PHASE_MAP, PHASE_WRITE, PHASE_SYNC };

#define PIECE (3 * PAGE_BYTES + 512)

static uint32_t rounds = 2;
static uint32_t numbers, scratch;
static barrier_t barrier;

static void check(const uint32_t *words, uint32_t first, uint32_t count, uint32_t salt,
                  const char *what) {
  for (uint32_t i = 0; i < count; i++)
    if (words[i] != (mix(first + i) ^ salt))
      fatal("files: %s: word %u is %x\n", what, first + i, words[i]);
}

/* Every CPU reads all of the file, each from a place of its own on, and in other pieces. */
static void read_all(uint32_t cpu) {
  uint32_t *buffer = pages_map(PIECE), size = file_size(numbers);
  uint32_t piece = 4 * (64 + mix(cpu) % (PIECE / 4 - 64));
  uint32_t start = share_begin(size / 4, cpu_count(), cpu) * 4;
  for (uint32_t done = 0; done < size;) {
    uint32_t offset = (start + done) % size;
    uint32_t wanted = size - done < piece ? size - done : piece;
    uint32_t got = file_read(numbers, offset, buffer, wanted);
    uint32_t expected = wanted < size - offset ? wanted : size - offset;
    if (got != expected) fatal("files: read %u of %u bytes\n", got, expected);
    check(buffer, offset / 4, got / 4, 0, "read");
    done += got;
  }
  pages_unmap(buffer, (PIECE + PAGE_BYTES - 1) & -PAGE_BYTES);
}

static const uint32_t *mapped;

static void reading(void *argument, uint32_t cpu) {
  (void)argument;
  if (cpu == 0) phase_begin(PHASE_READ);
  read_all(cpu);
  barrier_wait(&barrier);
  if (cpu == 0) phase_end(PHASE_READ);
  if (cpu == 0) phase_begin(PHASE_MAP);
  uint32_t words = file_size(numbers) / 4;
  for (uint32_t part = 0; part < cpu_count(); part++) { /* at another place than the others */
    uint32_t which = (part + cpu) % cpu_count();
    uint32_t begin = share_begin(words, cpu_count(), which);
    uint32_t end = share_begin(words, cpu_count(), which + 1);
    check(mapped + begin, begin, end - begin, 0, "map");
  }
  barrier_wait(&barrier);
  if (cpu == 0) phase_end(PHASE_MAP);
}

/* Write own pieces between others', so that CPUs meet in the pages, and at odd places. */
static void writing(void *argument, uint32_t cpu) {
  enum { PIECE_WORDS = 48 };
  uint32_t salt = (uintptr_t)argument, words = file_size(scratch) / 4, piece[PIECE_WORDS];
  for (uint32_t i = cpu * PIECE_WORDS; i < words; i += cpu_count() * PIECE_WORDS) {
    uint32_t count = words - i < PIECE_WORDS ? words - i : PIECE_WORDS, bytes = 4 * count;
    for (uint32_t j = 0; j < count; j++) piece[j] = mix(i + j) ^ salt;
    if (file_write(scratch, 4 * i, piece, 1) != 1 ||
        file_write(scratch, 4 * i + 1, (char *)piece + 1, bytes - 1) != bytes - 1)
      fatal("files: write at %u\n", 4 * i);
  }
}

/* Write from a mapped file into another one, in one piece. */
static void copying(void) {
  uint32_t size = file_size(scratch);
  if (file_write(scratch, 0, mapped, size) != size) fatal("files: copy\n");
}

static void read_back(uint32_t salt, const char *what) {
  uint32_t size = file_size(scratch), *buffer = pages_map(size);
  if (file_read(scratch, 0, buffer, size) != size) fatal("files: %s: too short\n", what);
  check(buffer, 0, size / 4, salt, what);
  pages_unmap(buffer, (size + PAGE_BYTES - 1) & -PAGE_BYTES);
}

/* In a child: what it maps and opens is its parent's, and a store to a file's page ends it. */
static int child(void *argument) {
  if (mapped[99] != mix(99) || file_size(numbers) == NO_FILE) return 1;
  if (argument) *(volatile uint32_t *)&mapped[99] = 0;
  uint32_t word = 0;
  uint32_t own = file_open("short");
  if (own == NO_FILE || file_read(own, 400, &word, 4) != 4 || word != mix(100)) return 2;
  if (!file_close(own) || file_size(own) != NO_FILE) return 3;
  return 7;
}

static void small_things(void) {
  uint32_t file = file_open("short"), words[2];
  if (file == NO_FILE || file_size(file) != 5000) fatal("files: no file of 5000 bytes\n");
  if (file_read(file, 4996, words, 8) != 4 || words[0] != mix(1249)) fatal("files: end of file\n");
  if (file_read(file, 5000, words, 4) != 0) fatal("files: behind the end\n");
  if (file_open("nothing") != NO_FILE || file_open("") != NO_FILE) fatal("files: opened nothing\n");
  if (file_map(file, 1, 8) || file_map(file, 8192, 1)) fatal("files: mapped what is not there\n");
  if (!file_close(file) || file_close(file)) fatal("files: close\n");
  if (file_read(file, 0, words, 4) != NO_FILE) fatal("files: read a closed file\n");
  if (process_wait(process_start("child", child, NULL)) != 7) fatal("files: child\n");
  if (process_wait(process_start("rogue", child, words)) != 125) fatal("files: rogue\n");
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "rounds", .help = "how often", .number = &rounds, .least = 1, .most = 1000},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  numbers = file_open("numbers");
  scratch = file_open("scratch");
  if (numbers == NO_FILE || scratch == NO_FILE) fatal("files: the files are not there\n");
  mapped = file_map(numbers, 0, file_size(numbers));
  if (!mapped) fatal("files: cannot map\n");
  barrier_init(&barrier, cpu_count());
  for (uint32_t i = 0; i < rounds; i++) {
    parallel(reading, NULL);
    phase_begin(PHASE_AGAIN);
    read_all(0);
    phase_end(PHASE_AGAIN);
    phase_begin(PHASE_WRITE);
    parallel(writing, (void *)(uintptr_t)(i + 1));
    read_back(i + 1, "cached");
    copying();
    read_back(0, "copied");
    parallel(writing, (void *)(uintptr_t)(i + 1));
    phase_end(PHASE_WRITE);
    phase_begin(PHASE_SYNC);
    files_sync();
    if (files_sync() != 0) fatal("files: dirty behind a sync\n");
    phase_end(PHASE_SYNC);
    read_all(1); /* takes the place of the written pages, if the cache is small */
    read_back(i + 1, "from the disk");
  }
  small_things();
  printf("files: %u words checked by %u cpus\n", file_size(numbers) / 4, cpu_count());
  return 0;
}
