/* Parallel radix sort of 32-bit keys, least significant digit first.
   Each pass: every CPU counts the digits of its keys; the counts become positions; every CPU moves
   its keys there, which scatters writes over the whole target array. Checked at the end by order
   and by sums over the multiset of keys, taken from the generator, not from memory. */
#include "libos.h"

enum { PHASE_INIT = 1, PHASE_SORT, PHASE_COUNT, PHASE_RANK, PHASE_PERMUTE, PHASE_CHECK };

#define MAX_BITS 12

static uint32_t keys = 1 << 20, bits = 8, key_bits = 32, seed = 1;
static uint32_t cpus, digits, salt;
static uint32_t *source, *target; /* exchanged by CPU 0 after each pass */
static uint32_t *table[MAX_CPUS]; /* per CPU: counts, then positions, by digit */
static barrier_t barrier;

/* What a CPU contributes; each on lines of its own. */
static struct {
  uint32_t slice_total; /* keys whose digit is in the slice of digits that this CPU ranks */
  uint32_t order_errors;
  /* Over the keys in memory, less the same over the keys generated: in the end all must be 0. */
  uint32_t sum, exclusive, squares;
} LINE_ALIGNED own[MAX_CPUS];

static inline uint32_t key_at(uint32_t index) {
  return mix(index * 0x9e3779b9u + salt) >> (32 - key_bits);
}

static void init(uint32_t cpu) {
  uint32_t end = share_begin(keys, cpus, cpu + 1);
  for (uint32_t i = share_begin(keys, cpus, cpu); i < end; i++) source[i] = key_at(i);
  table[cpu] = pages_map(digits * sizeof(uint32_t));
}

static void count(uint32_t cpu, uint32_t shift) {
  uint32_t *counts = table[cpu], mask = digits - 1;
  uint32_t end = share_begin(keys, cpus, cpu + 1);
  memset(counts, 0, digits * sizeof *counts);
  for (uint32_t i = share_begin(keys, cpus, cpu); i < end; i++)
    counts[source[i] >> shift & mask]++;
}

/* Turn counts into positions. Every CPU ranks a slice of the digits: first the total of its slice,
   then, behind a barrier, where the slice begins, and from there digit by digit, CPU by CPU. */
static void rank(uint32_t cpu) {
  uint32_t begin = share_begin(digits, cpus, cpu), end = share_begin(digits, cpus, cpu + 1);
  uint32_t total = 0, position = 0;
  for (uint32_t c = 0; c < cpus; c++)
    for (uint32_t d = begin; d < end; d++) total += table[c][d];
  own[cpu].slice_total = total;
  barrier_wait(&barrier);
  for (uint32_t c = 0; c < cpu; c++) position += own[c].slice_total;
  for (uint32_t d = begin; d < end; d++) {
    for (uint32_t c = 0; c < cpus; c++) {
      uint32_t here = table[c][d];
      table[c][d] = position;
      position += here;
    }
  }
}

static void permute(uint32_t cpu, uint32_t shift) {
  uint32_t *positions = table[cpu], mask = digits - 1;
  uint32_t end = share_begin(keys, cpus, cpu + 1);
  for (uint32_t i = share_begin(keys, cpus, cpu); i < end; i++) {
    uint32_t key = source[i];
    target[positions[key >> shift & mask]++] = key;
  }
}

static void check(uint32_t cpu) {
  uint32_t begin = share_begin(keys, cpus, cpu), end = share_begin(keys, cpus, cpu + 1);
  uint32_t before = begin > 0 ? source[begin - 1] : 0;
  uint32_t order_errors = 0, sum = 0, exclusive = 0, squares = 0;
  for (uint32_t i = begin; i < end; i++) {
    uint32_t key = source[i], noise = mix(key), want = mix(key_at(i));
    order_errors += key < before;
    before = key;
    sum += noise - want;
    exclusive ^= noise ^ want;
    squares += noise * noise - want * want;
  }
  own[cpu].order_errors = order_errors;
  own[cpu].sum = sum;
  own[cpu].exclusive = exclusive;
  own[cpu].squares = squares;
}

static void work(void *argument, uint32_t cpu) {
  (void)argument;
  phase_begin(PHASE_INIT);
  init(cpu);
  barrier_wait(&barrier);
  phase_end(PHASE_INIT);
  phase_begin(PHASE_SORT);
  for (uint32_t shift = 0; shift < key_bits; shift += bits) {
    phase_begin(PHASE_COUNT);
    count(cpu, shift);
    barrier_wait(&barrier);
    phase_end(PHASE_COUNT);
    phase_begin(PHASE_RANK);
    rank(cpu);
    barrier_wait(&barrier);
    phase_end(PHASE_RANK);
    phase_begin(PHASE_PERMUTE);
    permute(cpu, shift);
    barrier_wait(&barrier);
    phase_end(PHASE_PERMUTE);
    if (cpu == 0) {
      uint32_t *sorted = target;
      target = source;
      source = sorted;
    }
    barrier_wait(&barrier);
  }
  phase_end(PHASE_SORT);
  phase_begin(PHASE_CHECK);
  check(cpu);
  phase_end(PHASE_CHECK);
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "keys", .help = "number of keys", .number = &keys, .least = 1, .most = 8 << 20},
      {.key = "bits", .help = "bits of a digit", .number = &bits, .least = 1, .most = MAX_BITS},
      {.key = "key_bits", .help = "bits of a key", .number = &key_bits, .least = 1, .most = 32},
      {.key = "seed", .help = "which keys", .number = &seed, .most = ~0u},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  cpus = cpu_count();
  digits = 1u << bits;
  salt = mix(seed);
  source = pages_map(keys * sizeof *source);
  target = pages_map(keys * sizeof *target);
  barrier_init(&barrier, cpus);
  parallel(work, NULL);

  uint32_t errors = 0, sum = 0, exclusive = 0, squares = 0;
  for (uint32_t c = 0; c < cpus; c++) {
    errors += own[c].order_errors;
    sum += own[c].sum;
    exclusive ^= own[c].exclusive;
    squares += own[c].squares;
  }
  if (errors) fatal("radix: %u keys are out of order\n", errors);
  if (sum || exclusive || squares) fatal("radix: the sorted keys are not those generated\n");
  printf("radix: %u keys sorted by %u cpus, checked\n", keys, cpus);
  return 0;
}
