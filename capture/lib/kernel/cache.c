/* The page cache: pages of the disk in frames of memory, found by number, replaced by a clock hand.
   A page is loaded once, whoever asks; others sleep on its entry. What is written stays here until
   its entry is needed for another page, or until cache_sync(). */
#include "devices.h"

enum state { FREE, LOADING, VALID };

struct cached {
  struct cached *next; /* of the same hash, or free */
  uint32_t page, frame;
  uint8_t state, dirty, writing, referenced;
  uint32_t pins; /* users between cache_get() and cache_put() */
};

#define HASH_SIZE 512
#define ENTRIES_PER_FRAME (PAGE_BYTES / sizeof(struct cached))

uint32_t cache_pages = 1024;
static struct spinlock cache_lock; /* guards all that follows, and the disk */
static int booted, usable;
static struct cached *hash[HASH_SIZE], *free_list;
/* Entries stand in frames of their own, taken when they are needed. */
static struct cached *tables[CACHE_LIMIT / ENTRIES_PER_FRAME + 1];
static uint32_t entries_made, hand;
static const uint32_t room = 0; /* its address is the channel of those who wait for any completion */

static struct cached *entry_at(uint32_t i) {
  return &tables[i / ENTRIES_PER_FRAME][i % ENTRIES_PER_FRAME];
}

static struct cached **chain_of(uint32_t page) { return &hash[page % HASH_SIZE]; }

static struct cached *find(uint32_t page) {
  struct cached *entry = *chain_of(page);
  while (entry && entry->page != page) entry = entry->next;
  return entry;
}

static void forget(struct cached *entry) {
  struct cached **link = chain_of(entry->page);
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
}

/* A request is done; runs on the CPU that took the interrupt, with the lock. */
static void done(uint32_t page, uint32_t count, int write) {
  for (uint32_t i = 0; i < count; i++) {
    struct cached *entry = find(page + i);
    if (write)
      entry->writing = 0;
    else
      entry->state = VALID;
    thread_wake(entry);
  }
  thread_wake(&room);
}

void block_interrupt(void);
void cache_interrupt(void);
void cache_interrupt(void) {
  spin_lock(&cache_lock);
  block_interrupt();
  spin_unlock(&cache_lock);
}

/* Start writing the run of dirty pages that begins with an entry; return how many they are, 0 if
   the disk is busy. */
static uint32_t write_back(struct cached *entry) {
  uint32_t frames[MOST_TRANSFER], count = 0, page = entry->page;
  struct cached *run[MOST_TRANSFER];
  for (; entry && count < MOST_TRANSFER; entry = find(page + count)) {
    if (entry->state != VALID || !entry->dirty || entry->writing) break;
    run[count] = entry;
    frames[count++] = entry->frame;
  }
  if (!block_start(page, frames, count, 1)) return 0;
  for (uint32_t i = 0; i < count; i++) {
    run[i]->dirty = 0; /* whoever writes from now on makes it dirty again */
    run[i]->writing = 1;
  }
  return count;
}

/* Return one more entry, with a frame; 0 if there may be no more, or memory is exhausted. */
static struct cached *grow(void) {
  if (entries_made == cache_pages) return 0;
  struct cached **table = &tables[entries_made / ENTRIES_PER_FRAME];
  if (!*table) {
    uint32_t frame = frame_take(this_cpu());
    if (!frame) return 0;
    mark_class(frame, CLASS_KERNEL);
    *table = kernel_address(frame << PAGE_SHIFT);
  }
  uint32_t frame = frame_take(this_cpu());
  if (!frame) return 0;
  mark_class(frame, CLASS_CACHE);
  struct cached *entry = entry_at(entries_made++);
  entry->frame = frame;
  entry->pins = 0;
  return entry;
}

/* Return an entry that holds nothing; 0 if one has to be waited for. */
static struct cached *take(void) {
  struct cached *entry = free_list;
  if (entry) {
    free_list = entry->next;
    return entry;
  }
  entry = grow();
  if (entry) return entry;
  /* Twice round: the first time takes the marks of use away. */
  for (uint32_t i = 0; i < 2 * entries_made; i++) {
    entry = entry_at(hand);
    hand = hand + 1 == entries_made ? 0 : hand + 1;
    if (entry->state != VALID || entry->pins || entry->writing || frame_is_shared(entry->frame))
      continue;
    if (entry->referenced) {
      entry->referenced = 0;
    } else if (entry->dirty) {
      write_back(entry);
    } else {
      forget(entry);
      entry->state = FREE;
      return entry;
    }
  }
  return 0;
}

/* Start loading those of a run of pages that are not here, up to the first one that is. Return 0 if
   that takes an entry, or the disk, that has to be waited for. */
static int load(uint32_t page, uint32_t run) {
  uint32_t frames[MOST_TRANSFER], count = 0;
  struct cached *taken[MOST_TRANSFER];
  while (count < run && count < MOST_TRANSFER && !find(page + count)) {
    struct cached *entry = take();
    if (!entry) break;
    entry->page = page + count;
    entry->state = LOADING;
    entry->dirty = entry->writing = entry->referenced = 0;
    entry->next = *chain_of(entry->page);
    *chain_of(entry->page) = entry;
    taken[count] = entry;
    frames[count++] = entry->frame;
  }
  if (count && block_start(page, frames, count, 0)) return 1;
  for (uint32_t i = 0; i < count; i++) {
    forget(taken[i]);
    taken[i]->state = FREE;
    taken[i]->next = free_list;
    free_list = taken[i];
  }
  return 0;
}

static int start(void) {
  if (!booted) {
    usable = block_boot(done);
    booted = 1;
  }
  return usable;
}

/* Return a page's entry, which then stays until cache_put(); sleep until it is loaded. `run`: how
   many pages from this one on may be loaded with it. Return 0 if there is no disk or no such
   page. */
struct cached *cache_get(uint32_t page, uint32_t run) {
  struct cached *entry = 0;
  spin_lock(&cache_lock);
  if (start() && page < block_pages()) {
    for (;;) {
      entry = find(page);
      if (entry && entry->state == VALID) break;
      if (entry)
        thread_sleep(entry, &cache_lock);
      else if (!load(page, run))
        thread_sleep(&room, &cache_lock);
    }
    entry->pins++;
    entry->referenced = 1;
  }
  spin_unlock(&cache_lock);
  return entry;
}

void cache_put(struct cached *entry, int written) {
  spin_lock(&cache_lock);
  entry->pins--;
  if (written) entry->dirty = 1;
  spin_unlock(&cache_lock);
}

/* Start loading a run of pages that will be wanted, if at least half of it is missing; do not
   wait. */
void cache_ahead(uint32_t page, uint32_t run) {
  uint32_t missing = 0, first = run;
  spin_lock(&cache_lock);
  for (uint32_t i = 0; i < run; i++) {
    if (find(page + i)) continue;
    missing++;
    if (first == run) first = i;
  }
  if (2 * missing >= READAHEAD) load(page + first, run - first);
  spin_unlock(&cache_lock);
}

uint32_t cache_frame(const struct cached *entry) { return entry->frame; }

/* Write every dirty page to the disk, and sleep until it is there; return how many there were. */
uint32_t cache_sync(void) {
  uint32_t written = 0;
  spin_lock(&cache_lock);
  for (uint32_t i = 0; i < entries_made;) {
    struct cached *entry = entry_at(i);
    if (entry->state == VALID && entry->dirty && !entry->writing) {
      /* Begin with the first of its run. */
      for (struct cached *before = entry; before && before->dirty && !before->writing &&
                                          before->state == VALID && before->page > 0;)
        entry = before, before = find(before->page - 1);
      uint32_t count = write_back(entry);
      written += count;
      if (!count) thread_sleep(&room, &cache_lock);
    } else {
      i++;
    }
  }
  for (uint32_t i = 0; i < entries_made; i++)
    while (entry_at(i)->writing) thread_sleep(entry_at(i), &cache_lock);
  spin_unlock(&cache_lock);
  return written;
}
