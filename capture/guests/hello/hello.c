/* The smallest guest: each CPU says hello in turn, and a few services of the library OS are checked.
   Exit status 0 if all is well. */
#include "libos.h"

static barrier_t barrier;
static mutex_t mutex;
static uint32_t counter, seen[MAX_CPUS];

/* A page that went back must come again as zeros, at the same address, and its neighbour stay. All
   CPUs do this at once, so that TLB shootdowns meet. */
static void give_back(uint32_t cpu) {
  uint32_t *page = pages_map(2 * PAGE_BYTES);
  page[5] = 7 + cpu;
  page[PAGE_BYTES / 4] = 8 + cpu;
  pages_unmap(page, PAGE_BYTES);
  if (page[5] != 0 || page[PAGE_BYTES / 4] != 8 + cpu)
    fatal("cpu %u: unmap lost or kept the wrong page\n", cpu);
}

static void greet(void *argument, uint32_t cpu) {
  (void)argument;
  for (uint32_t turn = 0; turn < cpu_count(); turn++) {
    if (turn == cpu) printf("hello from cpu %u on node %u\n", cpu, node_number());
    barrier_wait(&barrier);
  }
  for (int i = 0; i < 100; i++) {
    mutex_lock(&mutex);
    counter++;
    mutex_unlock(&mutex);
  }
  give_back(cpu);
  seen[cpu] = cpu_number();
}

int main(int argc, char **argv) {
  uint32_t cpus = cpu_count();
  arguments_parse(argc, argv, NULL, 0);
  printf("hello: %u cpus, %u nodes\n", cpus, node_count());
  uint64_t begin = clock_counts();
  phase_begin(1);
  barrier_init(&barrier, cpus);
  parallel(greet, NULL);
  phase_end(1);
  for (uint32_t i = 0; i < cpus; i++)
    if (seen[i] != i) fatal("cpu %u calls itself %u\n", i, seen[i]);
  if (counter != 100 * cpus) fatal("counter is %u, not %u\n", counter, 100 * cpus);

  if (clock_counts() <= begin) fatal("the clock stands still\n");
  printf("goodbye\n");
  return 0;
}
