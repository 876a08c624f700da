/* The periodic timer of each CPU, and Count extended to 64 bits. */
#include "kernel.h"

uint32_t clock_counts_per_tick = 1500000; /* 10 ms at 300 MHz: Count advances every second cycle */

void clock_boot(struct cpu *me) {
  me->clock_last = READ_CP0(CP0_COUNT);
  WRITE_CP0(CP0_COMPARE, me->clock_last + clock_counts_per_tick);
  HAZARD_BARRIER();
}

/* Take a timer interrupt: writing Compare clears it. Ticks that were missed are made up for. */
void clock_tick(struct cpu *me) {
  uint32_t compare = READ_SPECIAL(COMPARE);
  do {
    me->ticks++;
    compare += clock_counts_per_tick;
    WRITE_CP0(CP0_COMPARE, compare);
    HAZARD_BARRIER();
  } while ((int32_t)(READ_CP0(CP0_COUNT) - compare) >= 0);
  clock_now(me); /* notes a wrap of Count, which comes every 28 s at 300 MHz */
}

/* Counts since reset. Without ticks (os.tick=0) a wrap is seen only if this is called in time. */
uint64_t clock_now(struct cpu *me) {
  uint32_t count = READ_CP0(CP0_COUNT);
  if (count < me->clock_last) me->clock_high++;
  me->clock_last = count;
  return (uint64_t)me->clock_high << 32 | count;
}
