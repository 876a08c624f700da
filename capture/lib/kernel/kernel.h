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
/* The same for registers without side effects, by name: from and to the special page, if there is one. */
#define SPECIAL_WORD(name) (*(volatile uint32_t *)(SPECIAL_PAGE + PAGE_BYTES + SPECIAL_##name))
#define READ_SPECIAL(name) (special_page ? SPECIAL_WORD(name) : READ_CP0(CP0_##name))
#define WRITE_SPECIAL(name, value)      \
  do {                                  \
    if (special_page)                   \
      SPECIAL_WORD(name) = (value);     \
    else                                \
      WRITE_CP0(CP0_##name, (value));   \
  } while (0)
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

struct spinlock {
  uint32_t next, serving;
} __attribute__((aligned(LINE_BYTES)));

#define NAME_BYTES 28
#define MAX_PROCESSES 64
#define MAX_THREADS 160 /* 64 processes, and 63 threads beside the first's own */

#define MAX_FILES 8    /* that a process has open */
#define MAX_MAPPINGS 3 /* of files; with 64 processes fewer than 256, see frames.c */

/* A file that a process has open: an extent of pages of the disk. */
struct open_file {
  uint32_t first; /* 0 for a handle that is not in use: page 0 is no file's */
  uint32_t bytes;
  uint32_t next; /* page after the last one read: reading it next is reading in order */
};

/* Pages of a file in an address space. */
struct file_mapping {
  uint32_t start, end; /* virtual */
  uint32_t first;      /* page of the disk */
};

/* A process: an address space, and who waits for its end. The first is the program itself. */
struct process {
  struct {
    uint32_t asid;
    char name[NAME_BYTES];
  } mark; /* as MARK_PROCESS wants it; mark.asid is the address space's ASID */
  uint32_t number; /* 0 for a free slot */
  struct process *parent;
  uint32_t ended, status; /* written under the scheduler's lock */
  uint32_t threads;       /* that have not ended */
  uint32_t **root;        /* page tables, see memory.c */
  uint32_t heap_end;
  struct open_file files[MAX_FILES];
  struct file_mapping mappings[MAX_MAPPINGS];
  uint32_t mapped;      /* how many there are; they stay */
  struct spinlock lock; /* guards root slots, heap_end, files and mappings */
};

/* ENDED: its stack is still in use, by the switch away from it. */
enum thread_state { THREAD_FREE, THREAD_READY, THREAD_RUNNING, THREAD_SLEEPING, THREAD_ENDED };

#define ANY_CPU 0xffffffff
#define STACK_END 0x5afe57ac /* at the lowest word of a kernel stack: overwritten by an overflow */

/* A thread: a kernel stack, on which it waits, and what the scheduler knows of it. The frame of its
   last trap from user mode lies at the top of the stack. All but `phase` and `fpu`, which are the
   thread's own, is guarded by schedule_lock. */
struct thread {
  struct thread *next; /* in the list of ready, sleeping or free threads */
  struct process *process;
  uint32_t state;
  uint32_t stack;   /* its lowest address; one page */
  uint32_t sp;      /* while it does not run */
  uint32_t channel; /* what it sleeps on, see thread_sleep() */
  uint32_t pinned;  /* the only CPU that may run it, or ANY_CPU */
  uint32_t last;    /* CPU that ran it last, or ANY_CPU */
  uint32_t used;    /* ticks that it ran for */
  uint32_t phase;   /* as told by process_phase(), 0 for none */
  uint32_t fpu[FPU_BYTES / 4] __attribute__((aligned(8))); /* while the FPU does not hold it */
} __attribute__((aligned(LINE_BYTES)));

struct thread_queue {
  struct thread *first, *last; /* last means nothing in an empty queue */
};

/* What a CPU keeps for itself; in the second line what others write. */
struct cpu {
  uint32_t stack_top; /* of the current thread */
  uint32_t **root;    /* page tables in force: the refill handler starts here */
  struct thread *current;
  struct thread *ended; /* ran here before, and left its stack to be freed */
  uint32_t slice;       /* ticks left to the current thread */
  uint32_t chunk_next, chunk_end; /* frames reserved for this CPU's faults */
  uint32_t ticks;
  uint32_t clock_last, clock_high; /* extend Count to 64 bits */
  uint32_t special;                /* physical address of its special page, or 0 */
  uint32_t wake __attribute__((aligned(LINE_BYTES))); /* counts wake-ups from WAIT */
  uint32_t flush;             /* 1: another CPU asks for a TLB flush */
  struct thread_queue pinned; /* ready threads that only this CPU may run */
} __attribute__((aligned(LINE_BYTES)));
_Static_assert(sizeof(struct cpu) == 1 << CPU_SHIFT, "entry.S finds a CPU by its number");
_Static_assert(offsetof(struct cpu, stack_top) == CPU_STACK_TOP, "known to entry.S");
_Static_assert(offsetof(struct cpu, root) == CPU_ROOT, "known to entry.S");

extern struct cpu cpus[MAX_CPUS];
extern uint32_t cpu_total;

/* entry.S */
void idle_until_changed(const uint32_t *address, uint32_t seen);
void switch_stacks(uint32_t *save, uint32_t sp);
void thread_begin(void);
void special_thread_begin(void);
extern char idle_begin[], idle_end[];

/* fpu.S: the registers, in the layout of struct thread; Status.CU1 must be set. */
void fpu_save(uint32_t *to);
void fpu_load(const uint32_t *from);

/* lock.c: ticket locks. A holder never waits for another CPU and never takes a page fault. */
void spin_lock(struct spinlock *lock);
void spin_unlock(struct spinlock *lock);

/* console.c */
void console_write(const char *text, uint32_t bytes);
void console_text(const char *text);
void console_hex(uint32_t value);
__attribute__((noreturn)) void power_off(uint32_t status);
void report(const struct frame *frame, const char *why);
__attribute__((noreturn)) void fail(const struct frame *frame, const char *why, uint32_t status);

/* memory.c: address spaces. */
extern int memory_zeroed_by_board; /* 1: ask the board for zeroed pages (os.zero=board) */
void memory_boot(uint32_t ram_bytes, struct process *first);
int memory_fault(struct cpu *me, uint32_t vaddr);
uint32_t memory_map(struct process *process, uint32_t bytes);
int memory_unmap(struct cpu *me, uint32_t vaddr, uint32_t bytes);
int memory_seal(struct cpu *me, uint32_t vaddr, uint32_t bytes);
int memory_clean(uint32_t vaddr, uint32_t bytes);
int memory_modified(uint32_t vaddr);
int memory_present(uint32_t vaddr, uint32_t bytes, int write);
int memory_copy(struct cpu *me, struct process *child, struct process *parent);
void memory_free(struct process *process);
uint32_t memory_take_entry(struct process *process, uint32_t vaddr);
uint32_t memory_physical(struct process *process, uint32_t vaddr);

/* window.c: pages of the kernel's own window, which is always mapped. */
void window_boot(uint32_t first);
uint32_t window_take(uint32_t class);
void window_give(uint32_t page);

/* frames.c */
void frames_boot(uint32_t first, uint32_t end);
uint32_t frame_take(struct cpu *me);
void frame_share(uint32_t frame);
int frame_is_shared(uint32_t frame);
void frame_give(uint32_t frame);

/* tlb.c */
void tlb_replace(uint32_t vaddr, uint32_t even, uint32_t odd);
void tlb_flush(void);
void tlb_shootdown(struct cpu *me);
void tlb_answer(struct cpu *me);

/* trap.c */
void trap(struct frame *frame);

/* special.c */
extern uint32_t special_page; /* 1: there is one for each CPU */
void special_boot(void);
void special_use(struct cpu *me);
void special_wait(const uint32_t *address, uint32_t seen);

/* main.c */
__attribute__((noreturn)) void kernel_main(uint32_t argc, uint32_t argv, uint32_t ram_bytes,
                                           uint32_t cpu);

/* syscall.c */
void system_call(struct cpu *me, struct frame *frame);

/* schedule.c: who runs where. */
extern uint32_t schedule_affinity; /* 0: whoever is ready may run anywhere (os.sched=any) */
extern uint32_t schedule_slice, schedule_balance;
extern struct spinlock schedule_lock;
void schedule_ready(struct thread *thread);
void schedule_sleep(uint32_t channel);
uint32_t schedule_wake(uint32_t channel);
__attribute__((noreturn)) void schedule_end(void);
void schedule_started(void);
void schedule_tick(struct cpu *me, int from_user);
__attribute__((noreturn)) void schedule_idle(struct cpu *me);
uint32_t schedule_least_used(void);

/* thread.c */
extern uint32_t user_status; /* Status of user mode: which interrupts are on */
void thread_boot(void);
struct thread *thread_make(struct process *process, uint32_t pinned);
void thread_free(struct thread *thread);
void thread_enter(struct thread *thread, uint32_t pc, uint32_t sp, uint32_t a0, uint32_t a1,
                  uint32_t a2);
int thread_start_all(struct thread *me, uint32_t entry, uint32_t function, uint32_t argument);
void thread_join(struct thread *me);
__attribute__((noreturn)) void thread_exit(struct thread *me);
void thread_sleep(const void *channel, struct spinlock *lock);
uint32_t thread_wake(const void *channel);
void thread_sleep_on_word(struct thread *me, uint32_t vaddr, uint32_t expected);
uint32_t thread_wake_word(struct thread *me, uint32_t vaddr);
uint32_t thread_stack(uint32_t number);
int thread_use_fpu(struct thread *me, struct frame *frame);

/* process.c */
extern struct process kernel_process; /* what idle CPUs run in */
extern struct process processes[MAX_PROCESSES];
extern uint32_t process_asids;        /* how many address spaces there may be (os.asids) */
struct process *process_boot(void);
void process_name(struct process *process, const char *name);
uint32_t process_fork(struct cpu *me, const struct frame *frame, const char *name);
int process_await(struct process *parent, uint32_t number, uint32_t *status);
__attribute__((noreturn)) void process_exit(struct cpu *me, uint32_t status);
void process_enter_phase(struct thread *me, uint32_t phase);
static inline int process_is_first(const struct process *process) { return process->number == 1; }

/* clock.c */
extern uint32_t clock_counts_per_tick;
void clock_boot(struct cpu *me);
void clock_tick(struct cpu *me);
uint64_t clock_now(struct cpu *me);

static inline struct cpu *this_cpu(void) {
  /* A kernel stack is a page. Volatile, as a thread may go on on another CPU. */
  struct cpu *me;
  __asm__ volatile("ori %0, $sp, %1\n\tlw %0, %2(%0)"
                   : "=&r"(me)
                   : "i"(PAGE_BYTES - 1), "i"(STACK_CPU - (PAGE_BYTES - 1)));
  return me;
}

static inline uint32_t cpu_index(const struct cpu *me) { return (uint32_t)(me - cpus); }

static inline struct frame *frame_of(const struct thread *thread) {
  return (struct frame *)(thread->stack + PAGE_BYTES - FRAME_BYTES);
}

static inline void *kernel_address(uint32_t physical) { return (void *)(KERNEL_BASE + physical); }

static inline uint32_t physical_address(const void *kernel) {
  return (uint32_t)kernel - KERNEL_BASE;
}

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
