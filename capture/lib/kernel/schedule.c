/* Who runs where: ready threads, time slices, and the switch from one to the next.

   Threads that are pinned to a CPU are in its own queue, which comes first; all others are in one.

   With affinity (os.sched=affinity) a CPU prefers threads that ran on it last. It takes another's
   if it has nothing else to do, or if that one has fallen behind by `schedule_balance` ticks of CPU
   time: so CPUs with two threads and CPUs with one even out by moving threads now and then.
   Without (os.sched=any) it takes whoever waits longest.

   A thread that is not current on any CPU waits in switch_stacks() on its own kernel stack, which
   it entered holding schedule_lock; whoever runs next releases the lock. */
#include "kernel.h"

uint32_t schedule_affinity = 1, schedule_slice = 3, schedule_balance = 10;
struct spinlock schedule_lock; /* guards all that follows, and the threads' fields */

static struct thread_queue ready; /* threads that any CPU may run */
static struct thread *sleepers;
static uint32_t idle[MAX_CPUS / 32]; /* bits of CPUs that wait and have not been woken */
static struct thread idle_threads[MAX_CPUS];

static int is_idle(uint32_t cpu) { return idle[cpu / 32] >> cpu % 32 & 1; }

/* Wake a CPU that could run a thread which has just become ready, if one idles. */
static void poke(const struct thread *thread) {
  uint32_t cpu = thread->pinned != ANY_CPU ? thread->pinned : thread->last;
  if (cpu == ANY_CPU || !is_idle(cpu)) {
    if (thread->pinned != ANY_CPU) return; /* it is busy and will look when it is not */
    for (cpu = 0; cpu < cpu_total && !is_idle(cpu);) cpu++;
    if (cpu == cpu_total) return;
  }
  idle[cpu / 32] &= ~(1u << cpu % 32);
  /* Also for the own CPU, which may be in the idle loop below an interrupt. */
  SHARED_WRITE(cpus[cpu].wake, cpus[cpu].wake + 1);
  if (&cpus[cpu] != this_cpu()) device_write(CPU_RAISE, cpu);
}

/* Put a thread at the end of the queue; schedule_lock is held. */
void schedule_ready(struct thread *thread) {
  struct thread_queue *queue = thread->pinned == ANY_CPU ? &ready : &cpus[thread->pinned].pinned;
  thread->state = THREAD_READY;
  thread->next = 0;
  if (queue->first)
    queue->last->next = thread;
  else
    SHARED_WRITE(queue->first, thread);
  queue->last = thread;
  poke(thread);
}

/* Take the thread behind another (the first one behind 0) out of a queue. */
static struct thread *take(struct thread_queue *queue, struct thread *before) {
  struct thread *thread = before ? before->next : queue->first;
  if (before)
    before->next = thread->next;
  else
    queue->first = thread->next;
  if (queue->last == thread) queue->last = before;
  return thread;
}

/* Take the thread out of its queue that should run here now, if there is a better one than
   `running` (which may be 0). */
static struct thread *choose(struct cpu *me, const struct thread *running) {
  if (me->pinned.first) return take(&me->pinned, 0);
  if (!ready.first) return 0;
  if (!schedule_affinity) return take(&ready, 0);
  uint32_t cpu = cpu_index(me);
  struct thread *before_home = 0, *before_best = 0, *before = 0;
  const struct thread *home = 0, *best = ready.first;
  for (struct thread *thread = ready.first; thread; before = thread, thread = thread->next) {
    if (!home && (thread->last == cpu || thread->last == ANY_CPU)) {
      home = thread;
      before_home = before;
    }
    if (thread->used < best->used) {
      best = thread;
      before_best = before;
    }
  }
  const struct thread *rival = running ? running : home;
  if (!rival || best->used + schedule_balance < rival->used) return take(&ready, before_best);
  return home ? take(&ready, before_home) : 0;
}

static void use_space(struct cpu *me, const struct process *process) {
  me->root = process->root;
  WRITE_CP0(CP0_ENTRYHI, process->mark.asid);
  HAZARD_BARRIER();
}

/* Behind a switch: free what ended here, and release the lock. */
static void switched(void) {
  struct cpu *me = this_cpu();
  if (me->ended) {
    thread_free(me->ended);
    me->ended = 0;
  }
  spin_unlock(&schedule_lock);
}

/* Run another thread; returns, without the lock, when the present one is chosen again. */
static void switch_to(struct cpu *me, struct thread *next) {
  struct thread *before = me->current;
  if (*(uint32_t *)before->stack != STACK_END) fail(0, "kernel stack overflow", EXIT_KERNEL_FAULT);
  if (before->process != &kernel_process && frame_of(before)->status & STATUS_FPU) {
    /* The next use of the FPU traps, and loads what is saved here. */
    if (before->state != THREAD_ENDED) fpu_save(before->fpu);
    frame_of(before)->status &= ~STATUS_FPU;
  }
  if (before->phase) device_write(MARK_PHASE, -before->phase);
  if (next->process != before->process) use_space(me, next->process);
  if (next->phase) device_write(MARK_PHASE, next->phase);
  next->state = THREAD_RUNNING;
  next->last = cpu_index(me);
  me->current = next;
  me->stack_top = next->stack + PAGE_BYTES;
  *(struct cpu **)(next->stack + STACK_CPU) = me;
  me->slice = schedule_slice;
  switch_stacks(&before->sp, next->sp);
  switched();
}

/* Where a new thread begins: it comes from switch_stacks() like any other. */
void schedule_started(void) { switched(); }

/* Leave the CPU to others; the lock is held, and the current thread in some list or ended. */
static void leave(struct cpu *me) {
  struct thread *next = choose(me, 0);
  if (!next) next = &idle_threads[cpu_index(me)];
  switch_to(me, next);
}

/* Sleep until schedule_wake() on a channel; schedule_lock is held, and released on return. */
void schedule_sleep(uint32_t channel) {
  struct cpu *me = this_cpu();
  me->current->state = THREAD_SLEEPING;
  me->current->channel = channel;
  me->current->next = sleepers;
  sleepers = me->current;
  leave(me);
}

/* Make ready all that sleep on a channel, the first to sleep first; schedule_lock is held. */
uint32_t schedule_wake(uint32_t channel) {
  uint32_t woken = 0;
  struct thread *list = 0;
  for (struct thread **link = &sleepers; *link;) {
    struct thread *thread = *link;
    if (thread->channel != channel) {
      link = &thread->next;
      continue;
    }
    *link = thread->next;
    thread->next = list;
    list = thread;
  }
  for (; list; woken++) {
    struct thread *thread = list;
    list = thread->next;
    schedule_ready(thread);
  }
  return woken;
}

/* End the current thread; schedule_lock is held. */
void schedule_end(void) {
  struct cpu *me = this_cpu();
  me->current->state = THREAD_ENDED;
  me->ended = me->current;
  leave(me);
  fail(0, "an ended thread runs", EXIT_KERNEL_FAULT);
}

/* A tick of the clock: charge it, and let others run when the slice is over. */
void schedule_tick(struct cpu *me, int from_user) {
  struct thread *current = me->current;
  if (current == &idle_threads[cpu_index(me)]) return;
  current->used++;
  if (me->slice > 0) me->slice--;
  if (me->slice > 0 || !from_user || (!SHARED_READ(ready.first) && !SHARED_READ(me->pinned.first)))
    return;
  spin_lock(&schedule_lock);
  struct thread *next = choose(me, current);
  if (next) {
    schedule_ready(current);
    switch_to(me, next);
  } else {
    me->slice = schedule_slice;
    spin_unlock(&schedule_lock);
  }
}

/* The end of a CPU's boot: its own stack becomes that of its idle thread. */
void schedule_idle(struct cpu *me) {
  uint32_t cpu = cpu_index(me);
  struct thread *thread = &idle_threads[cpu];
  thread->process = &kernel_process;
  thread->state = THREAD_RUNNING;
  thread->stack = KERNEL_STACKS_TOP - ((cpu + 1) << KERNEL_STACK_SHIFT);
  *(uint32_t *)thread->stack = STACK_END;
  thread->pinned = thread->last = cpu;
  me->current = thread;
  use_space(me, &kernel_process);
  for (;;) {
    uint32_t seen = SHARED_READ(me->wake);
    spin_lock(&schedule_lock);
    struct thread *next = choose(me, 0);
    if (next) {
      idle[cpu / 32] &= ~(1u << cpu % 32);
      switch_to(me, next);
    } else {
      idle[cpu / 32] |= 1u << cpu % 32;
      spin_unlock(&schedule_lock);
      special_wait(&me->wake, seen);
    }
  }
}

/* Return the least CPU time of the threads that may move, where a new one starts: otherwise it
   would have to catch up with their whole lives. schedule_lock is held. */
uint32_t schedule_least_used(void) {
  uint32_t least = ~0u;
  for (const struct thread *thread = ready.first; thread; thread = thread->next)
    if (thread->used < least) least = thread->used;
  for (uint32_t cpu = 0; cpu < cpu_total; cpu++) {
    const struct thread *thread = SHARED_READ(cpus[cpu].current);
    if (thread && thread->pinned == ANY_CPU && thread->used < least) least = thread->used;
  }
  return least == ~0u ? 0 : least;
}
