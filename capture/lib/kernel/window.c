/* Pages of the kernel's window, for page tables and kernel stacks: always mapped, so that neither
   the refill handler nor a trap can miss there. */
#include "kernel.h"

static struct spinlock window_lock;
static uint32_t window_next; /* physical; never handed out so far */
static uint32_t *window_free; /* each free page points to the next */

void window_boot(uint32_t first) { window_next = first; }

/* Return the kernel address of a page of zeros, or 0 if there is none left. */
uint32_t window_take(uint32_t class) {
  uint32_t end = KERNEL_WINDOW - (cpu_total << KERNEL_STACK_SHIFT), page = 0;
  spin_lock(&window_lock);
  if (window_free) {
    page = (uint32_t)window_free;
    window_free = (uint32_t *)*window_free;
  } else if (window_next < end) {
    page = (uint32_t)kernel_address(window_next);
    window_next += PAGE_BYTES;
  }
  spin_unlock(&window_lock);
  if (!page) return 0;
  mark_class(physical_address((void *)page) >> PAGE_SHIFT, class);
  for (uint32_t *word = (uint32_t *)page, *last = word + PAGE_BYTES / 4; word < last; word++)
    *word = 0;
  return page;
}

void window_give(uint32_t page) {
  spin_lock(&window_lock);
  *(uint32_t *)page = (uint32_t)window_free;
  window_free = (uint32_t *)page;
  spin_unlock(&window_lock);
}
