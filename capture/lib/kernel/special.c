/* The special page of a monitor: CP0 registers without side effects, seen in memory, so that reading and
   writing them does not trap. Each CPU has one, and other vectors, which use it. */
#include "devices.h"

uint32_t special_page;

extern char special_vectors[];

/* CPU 0: ask for the pages, and find memory for them. */
void special_boot(void) {
  if (device_read(CPU_SPECIAL) != SPECIAL_PAGE) return;
  for (uint32_t cpu = 0; cpu < cpu_total; cpu++) {
    uint32_t page = window_take(CLASS_KERNEL);
    if (!page) fail(0, "no room for special pages", EXIT_NO_RESOURCE);
    *(uint32_t *)(page + PAGE_BYTES + SPECIAL_CPU) = cpu;
    cpus[cpu].special = physical_address((void *)page);
  }
}

/* Use this CPU's page from here on, if it has one. */
void special_use(struct cpu *me) {
  if (!me->special) return;
  device_write(CPU_SPECIAL, me->special);
  WRITE_CP0(CP0_EBASE, special_vectors);
  HAZARD_BARRIER();
  special_page = 1;
}

/* idle_until_changed() with interrupts on. */
void special_wait(const uint32_t *address, uint32_t seen) {
  if (this_cpu()->special) {
    uint32_t status = SPECIAL_WORD(STATUS);
    SPECIAL_WORD(STATUS) = status | STATUS_IE;
    /* Only a new interrupt is delivered because of what the page says. For one that waits already,
       MTC0 has the monitor look. */
    if (SPECIAL_WORD(CAUSE) & status & CAUSE_LINES) WRITE_CP0(CP0_STATUS, status | STATUS_IE);
    idle_until_changed(address, seen);
    SPECIAL_WORD(STATUS) = status;
  } else {
    uint32_t status = READ_CP0(CP0_STATUS);
    WRITE_CP0(CP0_STATUS, status | STATUS_IE);
    HAZARD_BARRIER();
    idle_until_changed(address, seen);
    WRITE_CP0(CP0_STATUS, status);
    HAZARD_BARRIER();
  }
}
