/* Calls each of a kernel's services `rounds` times, in a phase of its own, with everything warm that
   a service can find warm: so the phase's events are those of the service's path and of the loop
   around it, which makes no system call. counts.toml beside this file says what one call does.

   They are the services of the paper's breakdown of a compilation (table 2), as far as this OS has
   them; in place of execve, which it has not, a process is started and awaited: a new address
   space, filled with copies of its parent's pages.  Exit status 0 if all is well. */
#include "libos.h"

enum { DEMAND_ZERO = 1, QUICK_FAULT, UTLB_MISS, OPEN, READ, WRITE, SPAWN };

/* Pages are touched in every other place, because two neighbours share an entry of the TLB. */
#define STEP (2 * PAGE_BYTES / sizeof(uint32_t))
#define CLEAN_PAGES 16 /* far fewer than a TLB holds */
#define MISS_PAGES 512 /* so many more that a page is gone before it is touched again */
#define NAME "a file with a name of some length"

static uint32_t rounds = 400, sum;

/* A page that was never touched: a frame, zeros, and its entry. */
static void demand_zero(void) {
  uint32_t *page = pages_map(rounds * STEP * sizeof *page);
  phase_begin(DEMAND_ZERO);
  for (uint32_t i = 0; i < rounds; i++) page[i * STEP] = i + 1;
  phase_end(DEMAND_ZERO);
  for (uint32_t i = 0; i < rounds; i++)
    if (page[i * STEP] != i + 1 || page[i * STEP + 1] != 0) fatal("services: demand zero\n");
  pages_unmap(page, rounds * STEP * sizeof *page);
}

/* The first store to a page that is there, but marked clean. */
static void quick_fault(void) {
  volatile uint32_t *page = pages_map(CLEAN_PAGES * STEP * sizeof *page);
  for (uint32_t i = 0; i < CLEAN_PAGES; i++) page[i * STEP] = 0;
  for (uint32_t done = 0; done < rounds;) {
    pages_clean((void *)page, CLEAN_PAGES * STEP * sizeof *page);
    for (uint32_t i = 0; i < CLEAN_PAGES; i++) sum += page[i * STEP]; /* refills: not its price */
    phase_begin(QUICK_FAULT);
    for (uint32_t i = 0; i < CLEAN_PAGES && done < rounds; i++, done++) page[i * STEP]++;
    phase_end(QUICK_FAULT);
  }
}

/* A page that is there, and not in the TLB. */
static void utlb_miss(void) {
  volatile uint32_t *page = pages_map(MISS_PAGES * STEP * sizeof *page);
  for (uint32_t i = 0; i < MISS_PAGES; i++) page[i * STEP] = i;
  uint32_t found = 0, expected = 0;
  phase_begin(UTLB_MISS);
  for (uint32_t i = 0; i < rounds; i++) found += page[i % MISS_PAGES * STEP];
  phase_end(UTLB_MISS);
  for (uint32_t i = 0; i < rounds; i++) expected += i % MISS_PAGES;
  if (found != expected) fatal("services: refill\n");
}

static void files(void) {
  static uint32_t buffer[PAGE_BYTES / 4] PAGE_ALIGNED;
  uint32_t file = file_open(NAME);
  if (file == NO_FILE || file_read(file, PAGE_BYTES, buffer, PAGE_BYTES) != PAGE_BYTES ||
      buffer[5] != mix(1024 + 5))
    fatal("services: no file to read\n");
  file_close(file_open(NAME));
  phase_begin(OPEN);
  for (uint32_t i = 0; i < rounds; i++)
    if (!file_close(file_open(NAME))) fatal("services: open\n");
  phase_end(OPEN);
  phase_begin(READ);
  for (uint32_t i = 0; i < rounds; i++)
    if (file_read(file, PAGE_BYTES, buffer, PAGE_BYTES) != PAGE_BYTES) fatal("services: read\n");
  phase_end(READ);
  buffer[5] = ~mix(1024 + 5);
  phase_begin(WRITE);
  for (uint32_t i = 0; i < rounds; i++)
    if (file_write(file, PAGE_BYTES, buffer, PAGE_BYTES) != PAGE_BYTES) fatal("services: write\n");
  phase_end(WRITE);
  buffer[5] = 0;
  if (file_read(file, PAGE_BYTES, buffer, PAGE_BYTES) != PAGE_BYTES ||
      buffer[5] != (uint32_t)~mix(1024 + 5))
    fatal("services: written is not read\n");
}

static int child(void *argument) { return (int)(uintptr_t)argument; }

static void spawn(void) {
  if (process_wait(process_start("warm", child, (void *)1)) != 1) fatal("services: spawn\n");
  phase_begin(SPAWN);
  for (uint32_t i = 0; i < rounds / 4 + 1; i++)
    if (process_wait(process_start("spawned", child, (void *)(uintptr_t)(i % 100))) !=
        (int)(i % 100))
      fatal("services: spawn %u\n", i);
  phase_end(SPAWN);
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "rounds", .help = "calls of each service", .number = &rounds, .least = 1,
       .most = 10000},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  files();
  spawn();
  demand_zero();
  quick_fault();
  utlb_miss();
  printf("services: %u calls of each, checked\n", rounds);
  return 0;
}
