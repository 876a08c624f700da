/* The library OS as a program sees it: threads, barriers, memory, console, phases.
   A program is one `int main(int argc, char **argv)`; what main returns is the exit status. */
#ifndef LIBOS_H
#define LIBOS_H

#include <stddef.h>
#include <stdint.h>

#define LINE_BYTES 128 /* keep apart what different CPUs write */
#define PAGE_BYTES 4096
#define MAX_CPUS 64
#define LINE_ALIGNED __attribute__((aligned(LINE_BYTES)))
#define PAGE_ALIGNED __attribute__((aligned(PAGE_BYTES)))

/* Phases: no-ops that the machine reports. n is a constant from 1 to 32767. */
#ifdef __mips__
#define phase_begin(n) __asm__ volatile("addiu $0, $0, %0" : : "i"(n) : "memory")
#define phase_end(n) __asm__ volatile("addiu $0, $0, %0" : : "i"(-(n)) : "memory")
#else /* a program built for the host, to compare results */
#define phase_begin(n) ((void)(n))
#define phase_end(n) ((void)(n))
#endif

/* Machine. */
uint32_t cpu_count(void);
uint32_t cpu_number(void); /* without a system call */
uint32_t node_count(void);
uint32_t node_number(void);
uint32_t tick_count(void);
uint64_t clock_counts(void); /* one count is two cycles */

/* Threads: run function(argument, cpu) on all CPUs, the caller included, and wait for all.
   Only main's thread may call this, and it does not nest. */
typedef void thread_function(void *argument, uint32_t cpu);
void parallel(thread_function *function, void *argument);

/* Processes: a copy of the caller runs function(argument) in an address space of its own, and exits
   with what that returns. Read-only pages are shared with it, all others are copied. Traces show
   its name (28 bytes). A process runs on any CPU and may move; so it says by process_phase() what
   it is doing, and not by the marks above, which are the CPU's. A process that breaks the rules
   ends with status 125; only the first one takes all others with it. Not while threads run. */
typedef int process_function(void *argument);
uint32_t process_start(const char *name, process_function *function, void *argument);
int process_wait(uint32_t process); /* until it has ended; returns its exit status */
uint32_t process_number(void);
void process_phase(uint32_t n); /* in place of the phase before; 0 for none */

/* Sense-reversing barrier. Arrivals and the sense that waiters poll are on lines of their own. */
typedef struct {
  uint32_t arrived LINE_ALIGNED;
  uint32_t members;
  uint32_t sleepers;
  uint32_t sense LINE_ALIGNED;
} LINE_ALIGNED barrier_t;
void barrier_init(barrier_t *barrier, uint32_t members);
void barrier_wait(barrier_t *barrier);

/* Mutual exclusion: test and test-and-set, sleeping after a bounded spin. Zero is unlocked. */
typedef struct {
  uint32_t state; /* 0 free, 1 held, 2 held and someone may sleep */
} LINE_ALIGNED mutex_t;
void mutex_lock(mutex_t *mutex);
void mutex_unlock(mutex_t *mutex);

/* Memory. Pages are zero when first touched, and get their frame then. */
void *pages_map(size_t bytes);                 /* never returns NULL: exhausted space is fatal */
void pages_unmap(void *address, size_t bytes); /* both multiples of PAGE_BYTES */
void pages_seal(void *address, size_t bytes);  /* make whole pages read-only, for good */
void pages_clean(void *address, size_t bytes); /* the next store to each faults, and is repaired */
void *allocate(size_t bytes, size_t alignment); /* from an arena; never given back */
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

/* Files on the first disk (`[files]` in guest.toml). They keep their size. All go through a cache of
   pages, which is written to the disk by files_sync() and when a page must give way. */
#define NO_FILE 0xffffffffu
uint32_t file_open(const char *name); /* a handle of this process, or NO_FILE */
int file_close(uint32_t file);
uint32_t file_size(uint32_t file);
uint32_t file_read(uint32_t file, uint32_t offset, void *buffer, uint32_t bytes); /* bytes read */
uint32_t file_write(uint32_t file, uint32_t offset, const void *data, uint32_t bytes);
const void *file_map(uint32_t file, uint32_t offset, uint32_t bytes); /* whole pages; or NULL */
uint32_t files_sync(void);                                            /* pages written */

/* Messages between the ports of the network, of at most MOST_MESSAGE bytes. A port listens from its
   first use on and holds four messages; what it has no room for is lost. Ports of this machine have
   numbers from 0 up. Messages go to addresses and come from them: these are the numbers, too, but
   where virtual machines share a subnet, MACHINE_PORTS of them are each machine's. */
#define MACHINE_PORTS 4
#define MOST_MESSAGE (15 * PAGE_BYTES)
#define NO_PORT 0xffffffffu
#define EVERYBODY 0xffffffffu /* all other ports */
uint32_t message_address(uint32_t port, uint32_t *subnet); /* of a port; whether it is shared */
int message_send(uint32_t port, uint32_t to, const void *message, uint32_t bytes); /* 0: refused */
uint32_t message_receive(uint32_t port, void *buffer, uint32_t bytes, uint32_t *from); /* length */

/* Console. printf knows %d %u %x %c %s %% with width, 0 and - flags, and ll for u and x. */
void console_write_text(const char *text, size_t bytes);
int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
__attribute__((noreturn)) void exit(int status);
__attribute__((noreturn)) void fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2))); /* prints, then exits with status 1 */

/* Arguments of the form key=value. A number may be decimal or 0x, with K or M behind it. A key or
   value that the table does not allow is fatal: it prints the table and exits with status 2. */
typedef struct {
  const char *key;
  const char *help;
  uint32_t *number;     /* where a number goes, or NULL for a choice */
  uint32_t least, most; /* bounds of a number */
  const char *choices;  /* "a|b|c" for a choice */
  uint32_t *choice;     /* its index */
} argument_t;
void arguments_parse(int argc, char **argv, const argument_t *table, size_t entries);

/* Deterministic noise: a bijection of 32-bit words (the 32-bit finaliser of MurmurHash3). */
static inline uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85ebca6bu;
  x ^= x >> 13;
  x *= 0xc2b2ae35u;
  return x ^ x >> 16;
}

/* The part of `total` items that one of `parts` owns: [share_begin(i), share_begin(i + 1)). */
static inline uint32_t share_begin(uint32_t total, uint32_t parts, uint32_t index) {
  uint32_t each = total / parts, left = total % parts;
  return each * index + (index < left ? index : left);
}

#endif
