/* Threads: making and ending them, sleeping and waking, a program's threads on all CPUs, and the
   floating-point registers, which a thread gets at its first use after it was switched to. */
#include "kernel.h"

static struct thread threads[MAX_THREADS];
static struct thread *free_threads;
uint32_t user_status = STATUS_USER | STATUS_EXL | STATUS_IE | STATUS_IPI; /* EXL until ERET */

void thread_boot(void) {
  for (uint32_t i = MAX_THREADS; i-- > 0;) {
    threads[i].next = free_threads;
    free_threads = &threads[i];
  }
}

/* Return a thread of a process that has yet to enter user mode, or 0 if there is no room. */
struct thread *thread_make(struct process *process, uint32_t pinned) {
  uint32_t stack = window_take(CLASS_KERNEL);
  if (!stack) return 0;
  spin_lock(&schedule_lock);
  struct thread *thread = free_threads;
  if (thread) {
    free_threads = thread->next;
    thread->used = pinned == ANY_CPU ? schedule_least_used() : 0;
  }
  spin_unlock(&schedule_lock);
  if (!thread) {
    window_give(stack);
    return 0;
  }
  thread->process = process;
  thread->stack = stack;
  thread->pinned = pinned;
  thread->last = ANY_CPU;
  thread->phase = 0;
  *(uint32_t *)stack = STACK_END;
  for (uint32_t i = 0; i < FPU_BYTES / 4; i++) thread->fpu[i] = 0;
  thread->sp = (uint32_t)frame_of(thread) - SWITCH_BYTES;
  *(uint32_t *)(thread->sp + SWITCH_RA) =
      (uint32_t)(special_page ? special_thread_begin : thread_begin);
  return thread;
}

/* Give back a thread that no CPU runs; schedule_lock is held. */
void thread_free(struct thread *thread) {
  window_give(thread->stack);
  thread->state = THREAD_FREE;
  thread->next = free_threads;
  free_threads = thread;
}

/* Say where a new thread enters user mode: pc(a0, a1, a2). */
void thread_enter(struct thread *thread, uint32_t pc, uint32_t sp, uint32_t a0, uint32_t a1,
                  uint32_t a2) {
  struct frame *frame = frame_of(thread);
  frame->status = user_status;
  frame->epc = pc;
  frame->r[29] = sp - 16; /* argument space for the user function */
  frame->r[4] = a0;
  frame->r[5] = a1;
  frame->r[6] = a2;
}

uint32_t thread_stack(uint32_t number) { return USER_STACK_TOP - number * USER_STACK_STRIDE; }

/* Start entry(function, argument, cpu) on all CPUs but this one. Return 0 if a job is running, or
   for another thread than the first. */
int thread_start_all(struct thread *me, uint32_t entry, uint32_t function, uint32_t argument) {
  struct process *process = me->process;
  if (!process_is_first(process) || me->pinned != 0 || SHARED_READ(process->threads) > 1) return 0;
  for (uint32_t cpu = 1; cpu < cpu_total; cpu++) {
    struct thread *thread = thread_make(process, cpu);
    if (!thread) fail(0, "no room for threads", EXIT_NO_RESOURCE);
    thread_enter(thread, entry, thread_stack(cpu), function, argument, cpu);
    spin_lock(&schedule_lock);
    process->threads++;
    schedule_ready(thread);
    spin_unlock(&schedule_lock);
  }
  return 1;
}

/* Sleep until the threads that thread_start_all() began have ended. */
void thread_join(struct thread *me) {
  spin_lock(&schedule_lock);
  while (me->process->threads > 1) {
    schedule_sleep((uint32_t)me->process);
    spin_lock(&schedule_lock);
  }
  spin_unlock(&schedule_lock);
}

void thread_exit(struct thread *me) {
  spin_lock(&schedule_lock);
  if (--me->process->threads == 1) schedule_wake((uint32_t)me->process);
  schedule_end();
}

/* Sleep until thread_wake() on the same channel, an address of the kernel's. The lock, which
   guards what is waited for, is released meanwhile; look again behind this. */
void thread_sleep(const void *channel, struct spinlock *lock) {
  spin_lock(&schedule_lock); /* from here on no wake-up is lost */
  spin_unlock(lock);
  schedule_sleep((uint32_t)channel);
  spin_lock(lock);
}

/* Wake every thread that sleeps on a channel; return how many. */
uint32_t thread_wake(const void *channel) {
  spin_lock(&schedule_lock);
  uint32_t woken = schedule_wake((uint32_t)channel);
  spin_unlock(&schedule_lock);
  return woken;
}

/* Sleep on a user word if it holds the expected value when we look. Its channel is its physical
   address. Looking happens under the lock, and a waker changes the word before it takes the lock:
   no wake-up is lost. */
void thread_sleep_on_word(struct thread *me, uint32_t vaddr, uint32_t expected) {
  const uint32_t *word = (const uint32_t *)vaddr;
  /* A fault under the lock would be against its rule. Touched here, the page is mapped; at worst
     the look below takes a TLB refill, which needs no lock. */
  if (SHARED_READ(*word) != expected) return;
  uint32_t channel = memory_physical(me->process, vaddr);
  spin_lock(&schedule_lock);
  if (SHARED_READ(*word) == expected)
    schedule_sleep(channel);
  else
    spin_unlock(&schedule_lock);
}

uint32_t thread_wake_word(struct thread *me, uint32_t vaddr) {
  return thread_wake((const void *)memory_physical(me->process, vaddr));
}

/* A thread used the FPU without having it. Return 0 if there is none, or if it has it. */
int thread_use_fpu(struct thread *me, struct frame *frame) {
  if (frame->status & STATUS_FPU || !(READ_CP0(CP0_CONFIG1) & CONFIG1_FPU)) return 0;
  frame->status |= STATUS_FPU;
  WRITE_CP0(CP0_STATUS, READ_CP0(CP0_STATUS) | STATUS_FPU);
  HAZARD_BARRIER();
  fpu_load(me->fpu);
  return 1;
}
