/* The second method for caches: each sampled set of each processor is a list, the latest line
   first. A line that is written leaves the lists of all others. No directory, ages or versions. */
#include "engineering.h"

struct list {
  uint32_t line[MACHINE_WAYS], length;
};

static struct list lists[PROCESSORS][256];

/* Take a line out of a list; return 1 if it was there. */
static uint32_t take_out(struct list *list, uint32_t line) {
  for (uint32_t i = 0; i < list->length; i++) {
    if (list->line[i] != line) continue;
    for (; i + 1 < list->length; i++) list->line[i] = list->line[i + 1];
    list->length--;
    return 1;
  }
  return 0;
}

static void put_first(struct list *list, uint32_t line) {
  if (list->length < MACHINE_WAYS) list->length++;
  for (uint32_t i = list->length - 1; i > 0; i--) list->line[i] = list->line[i - 1];
  list->line[0] = line;
}

struct counts naive_counts(const struct job *job) {
  struct counts counts = {0, 0, 0};
  for (uint32_t step = 0; step < NAIVE_STEPS(job->steps); step++)
    for (uint32_t processor = 0; processor < PROCESSORS; processor++) {
      struct reference reference = reference_of(job->seed, processor, step);
      uint32_t set = reference.line & (cache_sets - 1);
      if (!SAMPLED(reference.line)) continue;
      if (take_out(&lists[processor][set / 64], reference.line))
        counts.hits++;
      else
        counts.misses++;
      put_first(&lists[processor][set / 64], reference.line);
      for (uint32_t other = 0; other < PROCESSORS && reference.write; other++)
        if (other != processor)
          counts.invalidations += take_out(&lists[other][set / 64], reference.line);
    }
  return counts;
}
