/* System calls: decode, check what the program gave, and hand on. */
#include "kernel.h"

#include "../include/system_calls.h"

static int bad_range(uint32_t address, uint32_t bytes) {
  return address >= USER_END || bytes > USER_END - address;
}

static uint32_t info(struct cpu *me, uint32_t which) {
  switch (which) {
    case INFO_CPUS: return cpu_total;
    case INFO_NODES: return device_read(CPU_NODES);
    case INFO_NODE: return device_read(CPU_NODE);
    case INFO_TICKS: return me->ticks;
    default: return ~0u;
  }
}

void system_call(struct cpu *me, struct frame *frame) {
  uint32_t a0 = frame->r[4], a1 = frame->r[5], a2 = frame->r[6];
  uint32_t *result = &frame->r[2];
  uint64_t now;
  switch (*result) {
    case CALL_EXIT:
      power_off(a0);
    case CALL_WRITE:
      if (bad_range(a0, a1)) fail(frame, "bad text for write", EXIT_USER_FAULT);
      console_write((const char *)a0, a1);
      return;
    case CALL_MAP:
      *result = memory_map(a0);
      return;
    case CALL_UNMAP:
      *result = (uint32_t)memory_unmap(me, a0, a1);
      return;
    case CALL_START:
      *result = (uint32_t)thread_start_all(me, a0, a1, a2);
      return;
    case CALL_JOIN:
      if (me != cpus) fail(frame, "join outside CPU 0", EXIT_USER_FAULT);
      thread_join(me);
      return;
    case CALL_THREAD_EXIT:
      if (me == cpus) fail(frame, "thread exit on CPU 0", EXIT_USER_FAULT);
      thread_exit(me);
    case CALL_SLEEP:
      if (bad_range(a0, 4) || a0 & 3) fail(frame, "bad word for sleep", EXIT_USER_FAULT);
      thread_sleep(me, a0, a1);
      return;
    case CALL_WAKE:
      *result = thread_wake(a0);
      return;
    case CALL_CLOCK:
      now = clock_now(me);
      result[0] = (uint32_t)now;
      result[1] = (uint32_t)(now >> 32);
      return;
    case CALL_INFO:
      *result = info(me, a0);
      return;
    default:
      fail(frame, "unknown system call", EXIT_USER_FAULT);
  }
}
