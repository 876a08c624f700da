/* A simulator of a multiprocessor: a cache for each processor, least recently used, and a directory
   that keeps them coherent by invalidation. Each processor's references are a function of its
   number and the step. Checked in three ways: every copy that is read must be the latest version of
   its line; at the end the directory must say what the caches hold; and for some sets the counts of
   the first quarter must be those of naive.c. */
#include "engineering.h"

#define MAX_SETS (8 << 10)
#define MAX_LINES (1 << 20)

struct way {
  uint32_t line; /* + 1; 0 is empty */
  uint32_t used; /* step of the last reference */
  uint32_t version;
  uint32_t writable;
};
struct entry {
  uint8_t sharers, owned;
  uint16_t unused;
  uint32_t version; /* of memory */
  uint32_t readers, writes;
};

static struct way caches[PROCESSORS * MAX_SETS * MACHINE_WAYS] PAGE_ALIGNED;
static struct entry directory[MAX_LINES] PAGE_ALIGNED;
static uint32_t latest[MAX_LINES] PAGE_ALIGNED; /* what a reader must see */
static struct counts counts[PROCESSORS];
static struct counts sampled;
uint32_t cache_sets = 2 << 10, memory_lines = 128 << 10;

/* Private data that is walked through again and again, private data at random, and shared data
   that all read and some write. */
struct reference reference_of(uint32_t seed, uint32_t processor, uint32_t step) {
  uint32_t random = mix(step * PROCESSORS + processor + seed), choice = random & 15;
  uint32_t own = memory_lines / 2 / PROCESSORS, shared = memory_lines / 2, pick = random >> 8;
  if (choice < 4) return (struct reference){processor * own + (step / 4 & (own - 1)), choice == 0};
  if (choice < 10) return (struct reference){processor * own + (pick & (own - 1)), choice < 7};
  return (struct reference){shared + (pick & (choice < 13 ? shared / 8 - 1 : shared - 1)),
                            choice == 15};
}

static struct way *find(uint32_t processor, uint32_t line) {
  struct way *set = &caches[(processor * cache_sets + (line & (cache_sets - 1))) * MACHINE_WAYS];
  for (uint32_t way = 0; way < MACHINE_WAYS; way++)
    if (set[way].line == line + 1) return &set[way];
  return 0;
}

static void count(uint32_t processor, uint32_t line, uint32_t hits, uint32_t invalidations) {
  counts[processor].hits += hits;
  counts[processor].misses += !hits;
  counts[processor].invalidations += invalidations;
  if (!SAMPLED(line)) return;
  sampled.hits += hits;
  sampled.misses += !hits;
  sampled.invalidations += invalidations;
}

/* Make room in a set: the copy that was used longest ago leaves, and goes home if it is owned. */
static struct way *evict(uint32_t processor, uint32_t line) {
  struct way *set = &caches[(processor * cache_sets + (line & (cache_sets - 1))) * MACHINE_WAYS];
  struct way *victim = set;
  for (uint32_t way = 0; way < MACHINE_WAYS; way++) {
    if (set[way].line == 0) return &set[way];
    if (set[way].used < victim->used) victim = &set[way];
  }
  struct entry *home = &directory[victim->line - 1];
  home->sharers &= (uint8_t)~(1u << processor);
  if (victim->writable) {
    home->version = victim->version;
    home->owned = 0;
  }
  return victim;
}

/* Take a line from those who hold it: away, for a writer, or only the right to write. */
static uint32_t recall(uint32_t processor, uint32_t line, int away) {
  struct entry *home = &directory[line];
  uint32_t invalidated = 0;
  for (uint32_t other = 0; other < PROCESSORS; other++) {
    if (other == processor || !(home->sharers >> other & 1)) continue;
    struct way *copy = find(other, line);
    if (copy->writable) {
      home->version = copy->version;
      copy->writable = 0;
    }
    if (!away) continue;
    copy->line = 0;
    home->sharers &= (uint8_t)~(1u << other);
    invalidated++;
  }
  home->owned = 0;
  return invalidated;
}

/* Return 0 if the copy that is read is not the latest version. */
static int refer(uint32_t processor, struct reference reference, uint32_t step) {
  uint32_t line = reference.line, hit = 1, invalidated = 0;
  struct way *copy = find(processor, line);
  struct entry *home = &directory[line];
  if (!copy || (reference.write && !copy->writable)) {
    if (home->owned || reference.write) invalidated = recall(processor, line, (int)reference.write);
    if (!copy) {
      hit = 0;
      copy = evict(processor, line);
      *copy = (struct way){line + 1, 0, home->version, 0};
      home->sharers |= (uint8_t)(1u << processor);
      home->readers++;
    }
    if (reference.write) {
      copy->writable = 1;
      home->owned = 1;
    }
  }
  copy->used = step + 1;
  count(processor, line, hit, invalidated);
  if (copy->version != latest[line]) return 0;
  if (reference.write) {
    copy->version = ++latest[line];
    home->writes++;
  }
  return 1;
}

/* Count lines whose directory entry is not what the caches hold. */
static uint32_t wrong_entries(void) {
  uint32_t wrong = 0, held = 0;
  for (uint32_t i = 0; i < PROCESSORS * cache_sets * MACHINE_WAYS; i++) {
    const struct way *copy = &caches[i];
    if (copy->line == 0) continue;
    const struct entry *home = &directory[copy->line - 1];
    uint32_t processor = i / (cache_sets * MACHINE_WAYS);
    held++;
    wrong += !(home->sharers >> processor & 1);
    wrong += copy->writable && (home->sharers != 1u << processor || !home->owned);
    wrong += !copy->writable && copy->version != home->version;
  }
  for (uint32_t line = 0; line < memory_lines; line++)
    for (uint32_t sharers = directory[line].sharers; sharers; sharers &= sharers - 1) held--;
  return wrong + (held != 0);
}

int machine(void *argument) {
  const struct job job = *(struct job *)argument;
  struct counts all = {0, 0, 0}, early = {0, 0, 0};
  process_phase(PHASE_SETUP);
  for (uint32_t line = 0; line < memory_lines; line++)
    latest[line] = directory[line].version = mix(line ^ job.seed);
  process_phase(PHASE_SIMULATE);
  for (uint32_t step = 0; step < job.steps; step++) {
    if (step == NAIVE_STEPS(job.steps)) early = sampled;
    for (uint32_t processor = 0; processor < PROCESSORS; processor++)
      if (!refer(processor, reference_of(job.seed, processor, step), step)) {
        printf("machine %u: a stale copy was read at step %u\n", job.seed, step);
        return 1;
      }
  }
  process_phase(PHASE_CHECK);
  if (job.wrong) early.hits++;
  uint32_t wrong = wrong_entries();
  struct counts want = naive_counts(&job);
  if (wrong || early.hits != want.hits || early.misses != want.misses ||
      early.invalidations != want.invalidations) {
    printf("machine %u: %u wrong entries; %u hits, %u misses, %u invalidations, not %u, %u, %u\n",
           job.seed, wrong, early.hits, early.misses, early.invalidations, want.hits,
           want.misses, want.invalidations);
    return 1;
  }
  for (uint32_t p = 0; p < PROCESSORS; p++) {
    all.hits += counts[p].hits;
    all.misses += counts[p].misses;
    all.invalidations += counts[p].invalidations;
  }
  printf("machine %u: %u steps, %u hits, %u misses, %u invalidations, checked\n", job.seed,
         job.steps, all.hits, all.misses, all.invalidations);
  return 0;
}
