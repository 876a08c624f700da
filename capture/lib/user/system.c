/* System call stubs, program entry, threads, pages, and the arena. */
#include "libos.h"
#include "system_calls.h"

int main(int argc, char **argv);
void user_entry(int argc, char **argv);

/* The kernel saves every register but v0 and v1. */
static uint32_t call(uint32_t number, uint32_t a, uint32_t b, uint32_t c) {
  register uint32_t v0 __asm__("$2") = number;
  register uint32_t a0 __asm__("$4") = a;
  register uint32_t a1 __asm__("$5") = b;
  register uint32_t a2 __asm__("$6") = c;
  __asm__ volatile("syscall" : "+r"(v0) : "r"(a0), "r"(a1), "r"(a2) : "$3", "memory");
  return v0;
}

void exit(int status) {
  for (;;) call(CALL_EXIT, (uint32_t)status, 0, 0);
}

void user_entry(int argc, char **argv) { exit(main(argc, argv)); }

void console_write_text(const char *text, size_t bytes) {
  call(CALL_WRITE, (uint32_t)text, bytes, 0);
}

uint32_t cpu_count(void) { return call(CALL_INFO, INFO_CPUS, 0, 0); }
uint32_t node_count(void) { return call(CALL_INFO, INFO_NODES, 0, 0); }
uint32_t node_number(void) { return call(CALL_INFO, INFO_NODE, 0, 0); }
uint32_t tick_count(void) { return call(CALL_INFO, INFO_TICKS, 0, 0); }

uint32_t cpu_number(void) {
  uint32_t number;
  __asm__("rdhwr %0, $0" : "=r"(number)); /* hardware register 0: CPUNum */
  return number;
}

uint64_t clock_counts(void) {
  register uint32_t v0 __asm__("$2") = CALL_CLOCK;
  register uint32_t v1 __asm__("$3");
  __asm__ volatile("syscall" : "+r"(v0), "=r"(v1) : : "memory");
  return (uint64_t)v1 << 32 | v0;
}

/* Where a started thread begins. */
static void thread_entry(thread_function *function, void *argument, uint32_t cpu) {
  function(argument, cpu);
  for (;;) call(CALL_THREAD_EXIT, 0, 0, 0);
}

void parallel(thread_function *function, void *argument) {
  if (!call(CALL_START, (uint32_t)thread_entry, (uint32_t)function, (uint32_t)argument))
    fatal("parallel: threads are running already, or the caller is not main\n");
  function(argument, 0);
  call(CALL_JOIN, 0, 0, 0);
}

/* Sleep and wake, for sync.c. */
void sleep_on(uint32_t *word, uint32_t expected);
void wake_all(uint32_t *word);
void sleep_on(uint32_t *word, uint32_t expected) {
  call(CALL_SLEEP, (uint32_t)word, expected, 0);
}
void wake_all(uint32_t *word) { call(CALL_WAKE, (uint32_t)word, 0, 0); }

uint32_t process_start(const char *name, process_function *function, void *argument) {
  uint32_t number = call(CALL_PROCESS, (uint32_t)name, 0, 0);
  if (number == ~0u) fatal("process_start: no room for %s\n", name);
  if (number == 0) exit(function(argument)); /* we are the copy */
  return number;
}

int process_wait(uint32_t process) {
  register uint32_t v0 __asm__("$2") = CALL_WAIT;
  register uint32_t v1 __asm__("$3");
  register uint32_t a0 __asm__("$4") = process;
  __asm__ volatile("syscall" : "+r"(v0), "=r"(v1) : "r"(a0) : "memory");
  if (!v0) fatal("process_wait: %u is no child\n", process);
  return (int)v1;
}

uint32_t process_number(void) { return call(CALL_INFO, INFO_PROCESS, 0, 0); }
void process_phase(uint32_t phase) { call(CALL_PHASE, phase, 0, 0); }

void pages_seal(void *address, size_t bytes) {
  if (!call(CALL_SEAL, (uint32_t)address, bytes, 0))
    fatal("pages_seal: bad range %x, %u bytes\n", (unsigned)(uintptr_t)address, (unsigned)bytes);
}

void *pages_map(size_t bytes) {
  uint32_t address = bytes ? call(CALL_MAP, bytes, 0, 0) : 0;
  if (!address) fatal("pages_map: no room for %u bytes\n", (unsigned)bytes);
  return (void *)address;
}

void pages_unmap(void *address, size_t bytes) {
  if (!call(CALL_UNMAP, (uint32_t)address, bytes, 0))
    fatal("pages_unmap: bad range %x, %u bytes\n", (unsigned)(uintptr_t)address, (unsigned)bytes);
}

#define ARENA_BYTES (64 * PAGE_BYTES)

void *allocate(size_t bytes, size_t alignment) {
  static mutex_t lock;
  static uint32_t next, end;
  if (alignment == 0 || alignment & (alignment - 1) || alignment > PAGE_BYTES)
    fatal("allocate: alignment %u\n", (unsigned)alignment);
  if (bytes > ARENA_BYTES / 4) return pages_map(bytes); /* keeps what is left of the arena */
  mutex_lock(&lock);
  uint32_t place = (next + alignment - 1) & -alignment;
  if (next == 0 || place + bytes > end) {
    place = (uint32_t)pages_map(ARENA_BYTES);
    end = place + ARENA_BYTES;
  }
  next = place + bytes;
  mutex_unlock(&lock);
  return (void *)place;
}
