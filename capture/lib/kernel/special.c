/* The special page of a monitor: CP0 registers without side effects, seen in memory. Without one this
   file does nothing. With one, the kernel's own code is changed: loads and stores take the place of
   instructions that would trap. */
#include "devices.h"

/* Two instructions for the two at an address; a section that READ_SPECIAL and its like fill. */
struct patch {
  uint32_t *at;
  uint32_t words[2];
};
extern const struct patch special_patches[], special_patches_end[];
extern const uint32_t special_refill[], special_refill_end[];
extern uint32_t tlb_refill[];

static void change(uint32_t *at, uint32_t word) {
  *(volatile uint32_t *)at = word;
  __asm__ volatile("synci 0(%0)" : : "r"(at) : "memory");
}

/* Runs on CPU 0 with interrupts off, while the others are in boot_wait(). Either way of reading and
   writing holds while the page is there, so the order of the changes does not matter. */
void special_boot(void) {
  if (device_read(CPU_SPECIAL) != SPECIAL_PAGE) return;
  /* One for each CPU, in a row: nothing has been given back to the window so far. */
  uint32_t first = window_take(CLASS_KERNEL), last = first;
  for (uint32_t cpu = 1; cpu < cpu_total && last; cpu++) last = window_take(CLASS_KERNEL);
  if (!last) fail(0, "no room for special pages", EXIT_NO_RESOURCE);
  device_write(CPU_SPECIAL, physical_address((void *)first));
  for (const struct patch *patch = special_patches; patch < special_patches_end; patch++) {
    change(patch->at, patch->words[0]);
    change(patch->at + 1, patch->words[1]);
  }
  for (uint32_t i = 0; special_refill + i < special_refill_end; i++)
    change(tlb_refill + i, special_refill[i]);
  __asm__ volatile("sync\n\tehb" : : : "memory");
}
