/* The page cache: pages of the disk in frames of memory, found by number, replaced by a clock hand.
   A page is loaded once, whoever asks; others sleep on its entry. What is written stays here until
   its entry is needed for another page, or until cache_sync(). Pages that programs have mapped are
   taken from them when no others are left.

   A page that is here is found without the lock: cache_get() pins an entry and then looks whether
   it still holds the page, and take() empties an entry and then looks whether it has been pinned.
   Nobody waits for anything but the disk while he has a page pinned, so that room comes again. */
#include "devices.h"

enum state { FREE, LOADING, VALID };

struct cached {
  struct cached *next; /* of the same hash, or free */
  uint32_t page, frame;
  uint8_t state, dirty, writing, referenced;
  uint32_t pins; /* users between cache_get() and cache_put(): changed without the lock */
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
/* Those who wait for an entry, or for the disk: how many. Its address is their channel. */
static uint32_t room;

static struct cached *entry_at(uint32_t i) {
  return &tables[i / ENTRIES_PER_FRAME][i % ENTRIES_PER_FRAME];
}

static struct cached **chain_of(uint32_t page) { return &hash[page % HASH_SIZE]; }

static void pin(struct cached *entry) { __atomic_add_fetch(&entry->pins, 1, __ATOMIC_SEQ_CST); }

/* Who waits for room has looked at the pins under the lock, and sleeps before it is free again. */
static void unpin(struct cached *entry) {
  if (__atomic_sub_fetch(&entry->pins, 1, __ATOMIC_SEQ_CST) || !SHARED_READ(room)) return;
  spin_lock(&cache_lock);
  thread_wake(&room);
  spin_unlock(&cache_lock);
}

static struct cached *find(uint32_t page) {
  struct cached *entry = *chain_of(page);
  while (entry && entry->page != page) entry = entry->next;
  return entry;
}

/* Find and pin a page without the lock; 0 says nothing. Entries move from chain to chain meanwhile,
   so the way may end anywhere, but each is an entry. */
static struct cached *find_quickly(uint32_t page) {
  struct cached *entry = SHARED_READ(*chain_of(page));
  for (int steps = 0; entry && steps < 8; steps++, entry = SHARED_READ(entry->next)) {
    if (SHARED_READ(entry->page) != page) continue;
    pin(entry);
    if (SHARED_READ(entry->state) == VALID && SHARED_READ(entry->page) == page) return entry;
    unpin(entry);
    break;
  }
  return 0;
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
      SHARED_WRITE(entry->state, VALID); /* behind its page's number */
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
  /* Who writes from now on, while the disk reads, makes it dirty again. */
  for (uint32_t i = 0; i < count; i++) SHARED_WRITE(run[i]->dirty, 0);
  int started = block_start(page, frames, count, 1);
  for (uint32_t i = 0; i < count; i++) {
    if (started)
      run[i]->writing = 1;
    else
      run[i]->dirty = 1;
  }
  return started ? count : 0;
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
  entry->state = FREE;
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
    if (entry->state != VALID || entry->writing || frame_is_shared(entry->frame)) continue;
    if (SHARED_READ(entry->pins)) continue;
    if (entry->referenced) {
      entry->referenced = 0;
    } else if (entry->dirty) {
      write_back(entry);
    } else {
      SHARED_WRITE(entry->state, FREE);
      if (SHARED_READ(entry->pins) || SHARED_READ(entry->dirty) || frame_is_shared(entry->frame)) {
        /* Somebody was quicker. */
        SHARED_WRITE(entry->state, VALID);
        continue;
      }
      forget(entry);
      return entry;
    }
  }
  return 0;
}

/* Take some pages from the programs that have them mapped; return 0 if there are none. Called and
   left with the lock, which is free meanwhile: other CPUs must answer. */
static int unmap(void) {
  struct cached *chosen[MOST_UNMAPPED];
  uint32_t pages[MOST_UNMAPPED], count = 0;
  for (uint32_t i = 0; i < 2 * entries_made && count < MOST_UNMAPPED; i++) {
    struct cached *entry = entry_at(hand);
    hand = hand + 1 == entries_made ? 0 : hand + 1;
    if (entry->state != VALID || SHARED_READ(entry->pins) || !frame_is_shared(entry->frame))
      continue;
    if (entry->referenced) {
      entry->referenced = 0;
    } else {
      pin(entry); /* it stays this page's */
      pages[count] = entry->page;
      chosen[count++] = entry;
    }
  }
  if (!count) return 0;
  spin_unlock(&cache_lock);
  fs_unmap(pages, count);
  spin_lock(&cache_lock);
  for (uint32_t i = 0; i < count; i++) __atomic_sub_fetch(&chosen[i]->pins, 1, __ATOMIC_SEQ_CST);
  thread_wake(&room);
  return 1;
}

/* Start loading those of a run of pages that are not here, up to the first one that is; return the
   first one's entry, or 0 if that takes an entry, or the disk, that has to be waited for. */
static struct cached *load(uint32_t page, uint32_t run) {
  uint32_t frames[MOST_TRANSFER], count = 0;
  struct cached *taken[MOST_TRANSFER];
  while (count < run && count < MOST_TRANSFER && !find(page + count)) {
    struct cached *entry = take();
    if (!entry) break;
    SHARED_WRITE(entry->state, LOADING);
    SHARED_WRITE(entry->page, page + count);
    entry->dirty = entry->writing = entry->referenced = 0;
    entry->next = *chain_of(entry->page);
    SHARED_WRITE(*chain_of(entry->page), entry);
    taken[count] = entry;
    frames[count++] = entry->frame;
  }
  if (count && block_start(page, frames, count, 0)) return taken[0];
  for (uint32_t i = 0; i < count; i++) {
    forget(taken[i]);
    SHARED_WRITE(taken[i]->state, FREE);
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

/* Pin the page's entry once it is loaded, and load it first if need be; the lock is held. */
static struct cached *get_slowly(uint32_t page, uint32_t run) {
  for (;;) {
    struct cached *entry = find(page);
    if (entry && entry->state == VALID) {
      pin(entry);
      return entry;
    }
    if (entry) {
      thread_sleep(entry, &cache_lock);
      continue;
    }
    SHARED_WRITE(room, room + 1); /* before load() looks at the pins: see unpin() */
    entry = load(page, run);
    if (!entry && !unmap()) thread_sleep(&room, &cache_lock);
    SHARED_WRITE(room, room - 1);
    if (!entry) continue;
    /* Pinned by who asked for it, it cannot be lost between its arrival and our waking. */
    pin(entry);
    while (entry->state == LOADING) thread_sleep(entry, &cache_lock);
    return entry;
  }
}

/* Return a page's entry, which then stays until cache_put(); sleep until it is loaded. `run`: how
   many pages from this one on may be loaded with it. Return 0 if there is no disk or no such
   page. */
struct cached *cache_get(uint32_t page, uint32_t run) {
  struct cached *entry = find_quickly(page);
  if (!entry) {
    spin_lock(&cache_lock);
    if (start() && page < block_pages()) entry = get_slowly(page, run);
    spin_unlock(&cache_lock);
  }
  if (entry && !entry->referenced) entry->referenced = 1;
  return entry;
}

/* The mark comes before the pin goes: take() looks in the other order. */
void cache_put(struct cached *entry, int written) {
  if (written) SHARED_WRITE(entry->dirty, 1);
  unpin(entry);
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
