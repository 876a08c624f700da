/* Ticket locks of the kernel: first come, first served, so that no CPU starves.
   The two words share a line on purpose: a waiter needs both and nobody else needs either. */
#include "kernel.h"

void spin_lock(struct spinlock *lock) {
  uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_SEQ_CST);
  while (SHARED_READ(lock->serving) != ticket) {
  }
}

void spin_unlock(struct spinlock *lock) { SHARED_WRITE(lock->serving, lock->serving + 1); }
