/* The library OS of a guest program that is compiled for the host: threads are POSIX threads, as
   many as CPUS in the environment says, and processes are the host's. A second opinion on results,
   not on anything else.
   Linked with capture/lib/user/text.c, which is the same on both. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libos.h"

static uint32_t threads(void) {
  const char *text = getenv("CPUS");
  return text ? (uint32_t)atoi(text) : 1;
}

uint32_t cpu_count(void) { return threads(); }

void console_write_text(const char *text, size_t bytes) {
  if (write(1, text, bytes) != (ssize_t)bytes) abort();
}

void *pages_map(size_t bytes) {
  void *pages = calloc(1, bytes);
  if (!pages) abort();
  return pages;
}

void pages_unmap(void *address, size_t bytes) { memset(address, 0, bytes); }

void pages_seal(void *address, size_t bytes) {
  if (mprotect(address, bytes, PROT_READ)) abort();
}

uint32_t process_start(const char *name, process_function *function, void *argument) {
  pid_t child = fork();
  (void)name;
  if (child < 0) abort();
  if (child == 0) _exit(function(argument));
  return (uint32_t)child;
}

int process_wait(uint32_t process) {
  int status;
  if (waitpid((pid_t)process, &status, 0) < 0 || !WIFEXITED(status)) abort();
  return WEXITSTATUS(status);
}

void process_phase(uint32_t n) { (void)n; }

static struct {
  thread_function *function;
  void *argument;
} job;

static void *run(void *cpu) {
  job.function(job.argument, (uint32_t)(uintptr_t)cpu);
  return NULL;
}

void parallel(thread_function *function, void *argument) {
  pthread_t started[MAX_CPUS];
  job.function = function;
  job.argument = argument;
  for (uintptr_t cpu = 1; cpu < threads(); cpu++)
    if (pthread_create(&started[cpu], NULL, run, (void *)cpu)) abort();
  function(argument, 0);
  for (uint32_t cpu = 1; cpu < threads(); cpu++) pthread_join(started[cpu], NULL);
}

void barrier_init(barrier_t *barrier, uint32_t members) {
  barrier->arrived = barrier->sense = 0;
  barrier->members = members;
}

void barrier_wait(barrier_t *barrier) {
  uint32_t sense = __atomic_load_n(&barrier->sense, __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_SEQ_CST) == barrier->members) {
    barrier->arrived = 0;
    __atomic_store_n(&barrier->sense, !sense, __ATOMIC_SEQ_CST);
  }
  while (__atomic_load_n(&barrier->sense, __ATOMIC_SEQ_CST) == sense) sched_yield();
}

void mutex_lock(mutex_t *mutex) {
  while (__atomic_exchange_n(&mutex->state, 1, __ATOMIC_SEQ_CST)) sched_yield();
}

void mutex_unlock(mutex_t *mutex) { __atomic_store_n(&mutex->state, 0, __ATOMIC_SEQ_CST); }
