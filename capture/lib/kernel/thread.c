/* One user thread a CPU: starting them together, joining, and sleeping on a word of memory.
   To wake a CPU: make its condition true, then bump its `wake`, then interrupt it. */
#include "kernel.h"

static struct {
  uint32_t generation; /* counts jobs; an idle CPU compares it with the last one it took */
  uint32_t running;    /* threads not yet finished, without CPU 0's own */
  uint32_t entry, function, argument;
} job __attribute__((aligned(LINE_BYTES)));

static struct spinlock sleep_lock; /* guards every cpu.waits_on */

static void wake(uint32_t cpu) {
  __atomic_fetch_add(&cpus[cpu].wake, 1, __ATOMIC_SEQ_CST);
  device_write(CPU_RAISE, cpu);
}

uint32_t thread_stack(uint32_t cpu) { return USER_STACK_TOP - cpu * USER_STACK_STRIDE; }

/* Start entry(function, argument, cpu) on all CPUs but this one. Return 0 if a job is running. */
int thread_start_all(struct cpu *me, uint32_t entry, uint32_t function, uint32_t argument) {
  if (me != cpus || SHARED_READ(job.running)) return 0;
  job.entry = entry;
  job.function = function;
  job.argument = argument;
  SHARED_WRITE(job.running, cpu_total - 1);
  SHARED_WRITE(job.generation, job.generation + 1);
  for (uint32_t i = 1; i < cpu_total; i++) wake(i);
  return 1;
}

/* Sleep until the threads that thread_start_all() began have finished. */
void thread_join(struct cpu *me) {
  for (;;) {
    uint32_t seen = SHARED_READ(me->wake);
    if (!SHARED_READ(job.running)) return;
    idle_until_changed(&me->wake, seen);
  }
}

/* Wait for the next job and run it. */
void thread_idle(struct cpu *me) {
  for (;;) {
    uint32_t seen = SHARED_READ(me->wake);
    uint32_t generation = SHARED_READ(job.generation);
    if (generation != me->job) {
      me->job = generation;
      enter_user(job.entry, thread_stack(cpu_index(me)), job.function, job.argument,
                 cpu_index(me));
    }
    idle_until_changed(&me->wake, seen);
  }
}

void thread_exit(struct cpu *me) {
  if (__atomic_fetch_sub(&job.running, 1, __ATOMIC_SEQ_CST) == 1) wake(0);
  thread_idle(me);
}

/* Sleep on a user word for as long as it holds the expected value when we look. Looking happens
   under the lock, and a waker changes the word before it takes the lock: no wake-up is lost. */
void thread_sleep(struct cpu *me, uint32_t vaddr, uint32_t expected) {
  const uint32_t *word = (const uint32_t *)vaddr;
  /* A fault under the lock would be against its rule. Touched here, the page is mapped; at worst
     the look below takes a TLB refill, which needs no lock. */
  if (SHARED_READ(*word) != expected) return;
  spin_lock(&sleep_lock);
  if (SHARED_READ(*word) == expected) SHARED_WRITE(me->waits_on, vaddr);
  spin_unlock(&sleep_lock);
  for (;;) {
    uint32_t seen = SHARED_READ(me->wake);
    if (!SHARED_READ(me->waits_on)) return;
    idle_until_changed(&me->wake, seen);
  }
}

/* Wake every thread that sleeps on a user word; return how many. */
uint32_t thread_wake(uint32_t vaddr) {
  uint32_t woken = 0;
  spin_lock(&sleep_lock);
  for (uint32_t i = 0; i < cpu_total; i++) {
    if (cpus[i].waits_on != vaddr) continue;
    SHARED_WRITE(cpus[i].waits_on, 0);
    wake(i);
    woken++;
  }
  spin_unlock(&sleep_lock);
  return woken;
}
