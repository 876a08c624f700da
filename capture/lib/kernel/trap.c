/* Every exception but the TLB refill: interrupts, page faults, system calls, and what is fatal. */
#include "kernel.h"

static void interrupt(struct cpu *me, struct frame *frame) {
  uint32_t lines = frame->cause & frame->status;
  if (lines & CAUSE_IPI) {
    /* Clear first: a request that comes after this raises the line again. What the interrupt
       was for, the CPU finds out by looking: a flush here, a wake-up in its idle loop. */
    device_write(CPU_CLEAR, 0);
    tlb_answer(me);
  }
  if (lines & CAUSE_TIMER) clock_tick(me);
  if (frame->epc >= (uint32_t)idle_begin && frame->epc <= (uint32_t)idle_end)
    frame->epc = (uint32_t)idle_begin; /* see idle_until_changed */
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
      if (from_user || frame->badvaddr < USER_END)
        fail(frame, "address not mapped", EXIT_USER_FAULT);
      break;
    case CODE_SYSCALL:
      if (from_user) {
        frame->epc += 4; /* the stubs never put SYSCALL into a delay slot */
        system_call(me, frame);
        return;
      }
      break;
    case CODE_MODIFIED:
      if (from_user) fail(frame, "store to read-only memory", EXIT_USER_FAULT);
      break;
    default:
      if (from_user) fail(frame, "program exception", EXIT_USER_FAULT);
      break;
  }
  fail(frame, "kernel exception", EXIT_KERNEL_FAULT);
}
