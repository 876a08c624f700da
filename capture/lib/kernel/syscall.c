/* System calls: decode, check what the program gave, and hand on. */
#include "devices.h"

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
    case INFO_PROCESS: return me->current->process->number;
    default: return ~0u;
  }
}

/* A wrong argument ends the process, as a wrong access would. */
static void __attribute__((noreturn))
refuse(struct cpu *me, const struct frame *frame, const char *why) {
  if (process_is_first(me->current->process)) fail(frame, why, EXIT_USER_FAULT);
  report(frame, why);
  process_exit(me, EXIT_USER_FAULT);
}

/* Copy a name of at most `most` bytes from user memory; touching it may fault, and sleep. */
static void copy_name(char *copy, uint32_t name, uint32_t most) {
  uint32_t i = 0;
  for (; i < most && !bad_range(name + i, 1); i++)
    if (!(copy[i] = ((const char *)name)[i])) break;
  copy[i] = 0;
}

static uint32_t start(struct frame *frame, uint32_t name) {
  char copy[NAME_BYTES + 1];
  copy_name(copy, name, NAME_BYTES);
  return process_fork(this_cpu(), frame, copy);
}

static uint32_t open(struct process *process, uint32_t name) {
  char copy[48];
  copy_name(copy, name, sizeof copy - 1);
  return fs_open(process, copy);
}

/* End the process unless the kernel may read, or write, a range of its memory. */
static void want(const struct frame *frame, uint32_t address, uint32_t bytes, int write) {
  if (!memory_present(address, bytes, write))
    refuse(this_cpu(), frame, write ? "bad buffer" : "bad data");
}

/* `me` and its thread are those of the call; a call that sleeps may return on another CPU. */
void system_call(struct cpu *me, struct frame *frame) {
  struct thread *thread = me->current;
  uint32_t a0 = frame->r[4], a1 = frame->r[5], a2 = frame->r[6], a3 = frame->r[7];
  uint32_t *result = &frame->r[2];
  uint64_t now;
  switch (*result) {
    case CALL_EXIT:
      if (process_is_first(thread->process)) power_off(a0);
      process_exit(me, a0);
    case CALL_WRITE:
      if (bad_range(a0, a1)) refuse(me, frame, "bad text for write");
      console_write((const char *)a0, a1);
      return;
    case CALL_MAP:
      *result = memory_map(thread->process, a0);
      return;
    case CALL_UNMAP:
      *result = (uint32_t)memory_unmap(me, a0, a1);
      return;
    case CALL_START:
      *result = (uint32_t)thread_start_all(thread, a0, a1, a2);
      return;
    case CALL_JOIN:
      if (thread->pinned != 0) refuse(me, frame, "join outside CPU 0");
      thread_join(thread);
      return;
    case CALL_THREAD_EXIT:
      if (thread->pinned == 0 || thread->pinned == ANY_CPU)
        refuse(me, frame, "thread exit on CPU 0");
      thread_exit(thread);
    case CALL_SLEEP:
      if (bad_range(a0, 4) || a0 & 3) refuse(me, frame, "bad word for sleep");
      thread_sleep_on_word(thread, a0, a1);
      return;
    case CALL_WAKE:
      if (bad_range(a0, 4) || a0 & 3) refuse(me, frame, "bad word for wake");
      *result = thread_wake_word(thread, a0);
      return;
    case CALL_CLOCK:
      now = clock_now(me);
      result[0] = (uint32_t)now;
      result[1] = (uint32_t)(now >> 32);
      return;
    case CALL_INFO:
      *result = info(me, a0);
      return;
    case CALL_PROCESS:
      *result = start(frame, a0);
      return;
    case CALL_WAIT:
      result[0] = (uint32_t)process_await(thread->process, a0, &result[1]);
      return;
    case CALL_PHASE:
      process_enter_phase(thread, a0);
      return;
    case CALL_SEAL:
      *result = (uint32_t)memory_seal(me, a0, a1);
      return;
    case CALL_CLEAN:
      *result = (uint32_t)memory_clean(a0, a1);
      return;
    case CALL_OPEN:
      *result = open(thread->process, a0);
      return;
    case CALL_CLOSE:
      *result = (uint32_t)fs_close(thread->process, a0);
      return;
    case CALL_SIZE:
      *result = fs_size(thread->process, a0);
      return;
    case CALL_READ:
    case CALL_WRITE_FILE:
      want(frame, a2, a3, *result == CALL_READ);
      *result = fs_transfer(thread->process, a0, a1, a2, a3, *result == CALL_WRITE_FILE);
      return;
    case CALL_MAP_FILE:
      *result = fs_map(thread->process, a0, a1, a2);
      return;
    case CALL_SYNC:
      *result = cache_sync();
      return;
    case CALL_SEND:
      want(frame, a2, a3, 0);
      *result = (uint32_t)port_send(a0, a1, a2, a3);
      return;
    case CALL_RECEIVE:
      want(frame, a1, a2, 1);
      if (!port_receive(a0, a1, a2, &result[0], &result[1])) *result = ~0u;
      return;
    case CALL_ADDRESS:
      if (!port_address(a0, &result[0], &result[1])) *result = ~0u;
      return;
    default:
      refuse(me, frame, "unknown system call");
  }
}
