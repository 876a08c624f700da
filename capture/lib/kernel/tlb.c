/* The TLB of the own CPU, and shootdown on all of them when pages are unmapped.
   Between the CP0 writes of one operation no mapped memory is touched, so that no refill can come
   in between: code, stack and per-CPU data are unmapped (KSEG0) or wired. */
#include "kernel.h"

/* The CPU that flushes others. Its waiters answer requests to themselves, or two CPUs that both
   want to flush would wait for each other. */
static uint32_t shootdown_busy;

static uint32_t tlb_entries(void) { return (READ_CP0(CP0_CONFIG1) >> 25 & 0x3f) + 1; }

/* Put a pair of entries in force on this CPU, in place of an invalid pair if that is loaded. */
void tlb_replace(uint32_t vaddr, uint32_t even, uint32_t odd) {
  uint32_t asid = READ_SPECIAL(ENTRYHI) & ASID_BITS;
  WRITE_CP0(CP0_ENTRYHI, (vaddr & ~(2 * PAGE_BYTES - 1u)) | asid);
  HAZARD_BARRIER();
  __asm__ volatile("tlbp" : : : "memory");
  HAZARD_BARRIER();
  uint32_t index = READ_SPECIAL(INDEX);
  WRITE_SPECIAL(ENTRYLO0, even);
  WRITE_SPECIAL(ENTRYLO1, odd);
  HAZARD_BARRIER();
  if (index >> 31)
    __asm__ volatile("tlbwr" : : : "memory");
  else
    __asm__ volatile("tlbwi" : : : "memory");
  HAZARD_BARRIER();
}

/* Drop every entry that is not wired. Each gets an address of its own in KSEG0, which never
   reaches the TLB, because two equal entries would be a machine check. */
void tlb_flush(void) {
  uint32_t last = tlb_entries(), asid = READ_SPECIAL(ENTRYHI) & ASID_BITS;
  WRITE_SPECIAL(ENTRYLO0, 0);
  WRITE_SPECIAL(ENTRYLO1, 0);
  for (uint32_t i = READ_SPECIAL(WIRED); i < last; i++) {
    WRITE_SPECIAL(INDEX, i);
    WRITE_CP0(CP0_ENTRYHI, (0x80000000u + (i << (PAGE_SHIFT + 1))) | asid);
    HAZARD_BARRIER();
    __asm__ volatile("tlbwi" : : : "memory");
  }
  WRITE_CP0(CP0_ENTRYHI, asid);
  HAZARD_BARRIER();
}

/* Flush if another CPU asked for it. Clearing the request is the answer. */
void tlb_answer(struct cpu *me) {
  if (SHARED_READ(me->flush)) {
    tlb_flush();
    SHARED_WRITE(me->flush, 0);
  }
}

/* Flush the TLBs of all CPUs and return when all have done so. */
void tlb_shootdown(struct cpu *me) {
  uint32_t free = 0;
  while (!__atomic_compare_exchange_n(&shootdown_busy, &free, 1, 0, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST)) {
    free = 0;
    tlb_answer(me);
  }
  for (uint32_t i = 0; i < cpu_total; i++) {
    if (&cpus[i] == me) continue;
    SHARED_WRITE(cpus[i].flush, 1);
    device_write(CPU_RAISE, i);
  }
  tlb_flush();
  for (uint32_t i = 0; i < cpu_total; i++)
    while (SHARED_READ(cpus[i].flush)) {
    }
  SHARED_WRITE(shootdown_busy, 0);
}
