/* Frames for user pages. The OS knows nothing of nodes: frames leave in ascending order of address,
   a chunk to a CPU at a time so that faults on different CPUs seldom meet at the lock. */
#include "kernel.h"

#define CHUNK_FRAMES 8

static struct spinlock frames_lock;
static uint32_t fresh_next, fresh_end; /* never handed out so far */
static uint32_t free_head;             /* freed frames, last in first out; 0 ends the list */
/* Links stand outside the frames: the content of a freed frame is dead, by its mark. */
static uint16_t free_link[RAM_MAX / PAGE_BYTES];
/* Address spaces that have a frame mapped beside its owner, the first one or the page cache:
   read-only pages only. One address space may map a page of a file several times. */
static uint8_t sharers[RAM_MAX / PAGE_BYTES];
_Static_assert(MAX_PROCESSES * (MAX_MAPPINGS + 1) <= 256, "sharers are counted in a byte");

void frames_boot(uint32_t first, uint32_t end) {
  fresh_next = first;
  fresh_end = end;
}

/* Return a frame number, or 0 when memory is exhausted. */
uint32_t frame_take(struct cpu *me) {
  uint32_t frame = 0;
  if (me->chunk_next == me->chunk_end) {
    spin_lock(&frames_lock);
    if (free_head) { /* warm in some cache, so first choice */
      frame = free_head;
      free_head = free_link[frame];
    } else {
      uint32_t left = fresh_end - fresh_next;
      me->chunk_next = fresh_next;
      fresh_next += left < CHUNK_FRAMES ? left : CHUNK_FRAMES;
      me->chunk_end = fresh_next;
    }
    spin_unlock(&frames_lock);
  }
  if (!frame && me->chunk_next != me->chunk_end) frame = me->chunk_next++;
  if (frame) device_write(MARK_ALLOCATED, frame << PAGE_SHIFT);
  return frame;
}

/* Note one more address space that maps a frame. */
void frame_share(uint32_t frame) {
  spin_lock(&frames_lock);
  sharers[frame]++;
  spin_unlock(&frames_lock);
}

/* Tell whether address spaces beside its owner map a frame. */
int frame_is_shared(uint32_t frame) { return SHARED_READ(sharers[frame]) != 0; }

/* An address space does not map a frame any more: without sharers it is free. The mark comes
   before the frame can be taken again. */
void frame_give(uint32_t frame) {
  spin_lock(&frames_lock);
  if (sharers[frame] > 0) {
    sharers[frame]--;
  } else {
    device_write(MARK_FREED, frame << PAGE_SHIFT);
    free_link[frame] = (uint16_t)free_head;
    free_head = frame;
  }
  spin_unlock(&frames_lock);
}
