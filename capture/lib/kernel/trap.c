/* Every exception but the TLB refill: interrupts, page faults, system calls, and what is fatal. */
#include "devices.h"

/* A program did what it must not. The first process takes the whole run with it, another one ends
   and leaves it to its parent what that means. */
static void __attribute__((noreturn)) user_fault(struct frame *frame, const char *why) {
  struct cpu *me = this_cpu();
  if (process_is_first(me->current->process)) fail(frame, why, EXIT_USER_FAULT);
  report(frame, why);
  process_exit(me, EXIT_USER_FAULT);
}

static void interrupt(struct cpu *me, struct frame *frame) {
  uint32_t lines = frame->cause & frame->status;
  if (lines & CAUSE_IPI) {
    /* Clear first: a request that comes after this raises the line again. What the interrupt
       was for, the CPU finds out by looking: a flush here, a wake-up in its idle loop. */
    device_write(CPU_CLEAR, 0);
    tlb_answer(me);
  }
  if (lines & CAUSE_DEVICES) virtio_interrupt();
  if (frame->epc >= (uint32_t)idle_begin && frame->epc <= (uint32_t)idle_end)
    frame->epc = (uint32_t)idle_begin; /* see idle_until_changed */
  if (lines & CAUSE_TIMER) {
    clock_tick(me);
    schedule_tick(me, (frame->status & STATUS_USER) != 0); /* may run others meanwhile */
  }
}

void trap(struct frame *frame) {
  struct cpu *me = this_cpu();
  int from_user = (frame->status & STATUS_USER) != 0;
  switch (CAUSE_CODE(frame->cause)) {
    case CODE_INTERRUPT:
      interrupt(me, frame);
      return;
    case CODE_TLB_LOAD:
    case CODE_TLB_STORE:
      if (memory_fault(me, frame->badvaddr)) return;
      /* From kernel mode at a user address: a system call was given a bad pointer. */
      if (from_user || (frame->badvaddr < USER_END && me->current->process != &kernel_process))
        user_fault(frame, "address not mapped");
      break;
    case CODE_SYSCALL:
      if (from_user) {
        frame->epc += 4; /* the stubs never put SYSCALL into a delay slot */
        system_call(me, frame);
        return;
      }
      break;
    case CODE_UNUSABLE:
      if (from_user && CAUSE_UNIT(frame->cause) == 1 && thread_use_fpu(me->current, frame)) return;
      if (from_user) user_fault(frame, "program exception");
      break;
    case CODE_MODIFIED:
      if (memory_modified(frame->badvaddr)) return;
      if (from_user || (frame->badvaddr < USER_END && me->current->process != &kernel_process))
        user_fault(frame, "store to read-only memory");
      break;
    default:
      if (from_user) user_fault(frame, "program exception");
      break;
  }
  fail(frame, "kernel exception", EXIT_KERNEL_FAULT);
}
