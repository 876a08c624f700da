/* Barrier and mutex: LL/SC through the compiler's atomics, spinning for a while, then sleeping.
   Sleeping costs two system calls and an interrupt; the bound on spinning is about that. */
#include "libos.h"

#define SPINS 400

void sleep_on(uint32_t *word, uint32_t expected);
void wake_all(uint32_t *word);

static uint32_t read_shared(const uint32_t *word) {
  return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

void barrier_init(barrier_t *barrier, uint32_t members) {
  barrier->arrived = 0;
  barrier->sleepers = 0;
  barrier->members = members;
  barrier->sense = 0;
}

/* The last to arrive turns the sense; nobody can come back before that, so one counter does. */
void barrier_wait(barrier_t *barrier) {
  uint32_t sense = read_shared(&barrier->sense);
  if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_SEQ_CST) == barrier->members) {
    barrier->arrived = 0;
    __atomic_store_n(&barrier->sense, !sense, __ATOMIC_SEQ_CST);
    /* A waiter counts itself before the kernel compares the sense: if we see no sleeper here,
       it will see the new sense there. */
    if (read_shared(&barrier->sleepers)) wake_all(&barrier->sense);
    return;
  }
  for (int i = 0; i < SPINS; i++)
    if (read_shared(&barrier->sense) != sense) return;
  __atomic_add_fetch(&barrier->sleepers, 1, __ATOMIC_SEQ_CST);
  while (read_shared(&barrier->sense) == sense) sleep_on(&barrier->sense, sense);
  __atomic_sub_fetch(&barrier->sleepers, 1, __ATOMIC_SEQ_CST);
}

void mutex_lock(mutex_t *mutex) {
  for (int i = 0; i < SPINS; i++) {
    uint32_t free = 0;
    if (read_shared(&mutex->state) == 0 &&
        __atomic_compare_exchange_n(&mutex->state, &free, 1, 0, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
      return;
  }
  /* From here on the lock is taken as 2, so that its holder wakes whoever sleeps after us. */
  while (__atomic_exchange_n(&mutex->state, 2, __ATOMIC_SEQ_CST) != 0)
    sleep_on(&mutex->state, 2);
}

void mutex_unlock(mutex_t *mutex) {
  if (__atomic_exchange_n(&mutex->state, 0, __ATOMIC_SEQ_CST) == 2) wake_all(&mutex->state);
}
