/* Declarations of the kernel part of the library OS. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "mips.h"

/* Exit statuses of a run that the kernel ends; see fail(). */
#define EXIT_USER_FAULT 125   /* the program touched what it may not, or ran a bad instruction */
#define EXIT_KERNEL_FAULT 126 /* the kernel itself took an exception that it cannot handle */
#define EXIT_NO_RESOURCE 127  /* out of memory, bad board or bad arguments */

#define READ_CP0(reg)                                                  \
  ({                                                                   \
    uint32_t value_;                                                   \
    __asm__ volatile("mfc0 %0, " CP0_TEXT_(reg) : "=r"(value_));       \
    value_;                                                            \
  })
#define WRITE_CP0(reg, value) \
  __asm__ volatile("mtc0 %z0, " CP0_TEXT_(reg) : : "Jr"((uint32_t)(value)) : "memory")
#define CP0_TEXT_(...) CP0_TEXT2_(__VA_ARGS__)
#define CP0_TEXT2_(...) #__VA_ARGS__
/* Execution hazard barrier: earlier CP0 writes hold for the instructions that follow. */
#define HAZARD_BARRIER() __asm__ volatile("ehb" : : : "memory")

/* Registers at a trap; the layout is FRAME_* of mips.h. */
struct frame {
  uint32_t callee_space[4];
  uint32_t r[32]; /* r[26] and r[27] (k0, k1) are not saved */
  uint32_t hi, lo, status, cause, epc, badvaddr;
};
_Static_assert(offsetof(struct frame, badvaddr) == FRAME_BADVADDR, "frame layout");
_Static_assert(sizeof(struct frame) <= FRAME_BYTES, "frame size");

/* What a CPU keeps for itself. Other CPUs write only `wake`, `flush` and `waits_on`. */
struct cpu {
  uint32_t wake;     /* counts wake-ups; a sleeper waits for a change */
  uint32_t flush;    /* 1: another CPU asks for a TLB flush */
  uint32_t waits_on; /* user address that this CPU's thread sleeps on, 0 for none */
  uint32_t job;      /* generation of the last job taken */
  uint32_t chunk_next, chunk_end; /* frames reserved for this CPU's faults */
  uint32_t ticks;
  uint32_t clock_last, clock_high; /* extend Count to 64 bits */
} __attribute__((aligned(LINE_BYTES)));

struct spinlock {
  uint32_t next, serving;
} __attribute__((aligned(LINE_BYTES)));

extern struct cpu cpus[MAX_CPUS];
extern uint32_t cpu_total;

/* entry.S */
void idle_until_changed(const uint32_t *address, uint32_t seen);
__attribute__((noreturn)) void enter_user(uint32_t pc, uint32_t sp, uint32_t a0, uint32_t a1,
                                          uint32_t a2);
extern char idle_begin[], idle_end[];

/* lock.c: ticket locks. A holder never waits for another CPU and never takes a page fault. */
void spin_lock(struct spinlock *lock);
void spin_unlock(struct spinlock *lock);

/* console.c */
void console_write(const char *text, uint32_t bytes);
void console_text(const char *text);
void console_hex(uint32_t value);
__attribute__((noreturn)) void power_off(uint32_t status);
__attribute__((noreturn)) void fail(const struct frame *frame, const char *why, uint32_t status);

/* memory.c */
extern int memory_zeroed_by_board; /* 1: ask the board for zeroed pages (os.zero=board) */
void memory_boot(uint32_t ram_bytes);
int memory_fault(struct cpu *me, uint32_t vaddr);
uint32_t memory_map(uint32_t bytes);
int memory_unmap(struct cpu *me, uint32_t vaddr, uint32_t bytes);

/* frames.c */
void frames_boot(uint32_t first, uint32_t end);
uint32_t frame_take(struct cpu *me);
void frame_give(uint32_t frame);

/* tlb.c */
void tlb_boot(void);
void tlb_replace(uint32_t vaddr, uint32_t even, uint32_t odd);
void tlb_flush(void);
void tlb_shootdown(struct cpu *me);
void tlb_answer(struct cpu *me);

/* trap.c */
void trap(struct frame *frame);

/* main.c */
__attribute__((noreturn)) void kernel_main(uint32_t argc, uint32_t argv, uint32_t ram_bytes,
                                           uint32_t cpu);

/* syscall.c */
void system_call(struct cpu *me, struct frame *frame);

/* thread.c */
int thread_start_all(struct cpu *me, uint32_t entry, uint32_t function, uint32_t argument);
void thread_join(struct cpu *me);
__attribute__((noreturn)) void thread_idle(struct cpu *me);
__attribute__((noreturn)) void thread_exit(struct cpu *me);
void thread_sleep(struct cpu *me, uint32_t vaddr, uint32_t expected);
uint32_t thread_wake(uint32_t vaddr);
uint32_t thread_stack(uint32_t cpu);

/* clock.c */
extern uint32_t clock_counts_per_tick;
void clock_boot(struct cpu *me);
void clock_tick(struct cpu *me);
uint64_t clock_now(struct cpu *me);

static inline struct cpu *this_cpu(void) {
  /* Boot puts the CPU number into Context.PTEBase, which nothing else uses. */
  return &cpus[READ_CP0(CP0_CONTEXT) >> 23];
}

static inline uint32_t cpu_index(const struct cpu *me) { return (uint32_t)(me - cpus); }

static inline void *kernel_address(uint32_t physical) { return (void *)(KERNEL_BASE + physical); }

static inline uint32_t device_read(uint32_t physical) {
  return *(volatile uint32_t *)(DEVICE_BASE + physical);
}

static inline void device_write(uint32_t physical, uint32_t value) {
  *(volatile uint32_t *)(DEVICE_BASE + physical) = value;
}

static inline void mark_class(uint32_t frame, uint32_t class) {
  device_write(MARK_CLASS, frame << 4 | class);
}

/* Read what another CPU may write; write what another CPU waits for. Both are ordered. */
#define SHARED_READ(object) __atomic_load_n(&(object), __ATOMIC_SEQ_CST)
#define SHARED_WRITE(object, value) __atomic_store_n(&(object), (value), __ATOMIC_SEQ_CST)

#endif
