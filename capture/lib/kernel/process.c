/* Processes: starting one as a copy of another, its end, and who gets which ASID.

   An ASID is an address space's as long as that lives. One that is given back is stale: TLBs may
   hold entries of it. When no clean one is left, all stale ones are cleaned at once by flushing
   every TLB. */
#include "kernel.h"

#define ASIDS 256

enum asid_state { ASID_CLEAN, ASID_USED, ASID_STALE, ASID_FLUSHING /* by CPU 0, and so on */ };

struct process kernel_process = {.mark.asid = KERNEL_ASID};
uint32_t process_asids = ASIDS - 1;
struct process processes[MAX_PROCESSES];
static struct spinlock process_lock; /* guards what follows, and who is whose parent */
static uint32_t last_number;
static uint8_t asids[ASIDS];

/* Name a process, also for whoever watches the machine. */
void process_name(struct process *process, const char *name) {
  uint32_t i = 0;
  for (; i < NAME_BYTES && name[i]; i++) process->mark.name[i] = name[i];
  for (; i < NAME_BYTES; i++) process->mark.name[i] = 0;
  device_write(MARK_PROCESS, physical_address(&process->mark));
}

/* Make the first process, which has no address space yet. */
struct process *process_boot(void) {
  struct process *first = &processes[0];
  first->number = last_number = 1;
  first->threads = 1;
  first->mark.asid = FIRST_ASID;
  asids[KERNEL_ASID] = asids[FIRST_ASID] = ASID_USED;
  process_name(&kernel_process, "kernel");
  return first;
}

/* Return an ASID that no TLB knows, or 0 if all are in use. */
static uint32_t take_asid(struct cpu *me) {
  uint8_t mine = (uint8_t)(ASID_FLUSHING + cpu_index(me));
  for (;;) {
    uint32_t stale = 0, flushing = 0;
    spin_lock(&process_lock);
    for (uint32_t asid = FIRST_ASID; asid <= process_asids; asid++) {
      if (asids[asid] == ASID_CLEAN) {
        asids[asid] = ASID_USED;
        spin_unlock(&process_lock);
        return asid;
      }
      flushing += asids[asid] >= ASID_FLUSHING;
    }
    for (uint32_t asid = FIRST_ASID; asid <= process_asids; asid++) {
      if (asids[asid] != ASID_STALE) continue;
      asids[asid] = mine;
      stale++;
    }
    spin_unlock(&process_lock);
    if (stale) {
      tlb_shootdown(me);
      spin_lock(&process_lock);
      for (uint32_t asid = FIRST_ASID; asid <= process_asids; asid++)
        if (asids[asid] == mine) asids[asid] = ASID_CLEAN;
      spin_unlock(&process_lock);
    } else if (flushing) {
      tlb_answer(me); /* another CPU is at it, and waits for us among others */
    } else {
      return 0;
    }
  }
}

static void give_asid(uint32_t asid, uint8_t state) {
  spin_lock(&process_lock);
  asids[asid] = state;
  spin_unlock(&process_lock);
}

static struct process *take_slot(struct process *parent) {
  struct process *found = 0;
  spin_lock(&process_lock);
  for (uint32_t i = 0; i < MAX_PROCESSES && !found; i++)
    if (processes[i].number == 0) found = &processes[i];
  if (found) {
    found->number = ++last_number;
    found->parent = parent;
    found->ended = 0;
    found->threads = 1;
  }
  spin_unlock(&process_lock);
  return found;
}

static void free_slot(struct process *process) {
  spin_lock(&process_lock);
  process->number = 0;
  spin_unlock(&process_lock);
}

/* Start a copy of the current process, which continues where the frame says but finds 0 in $v0.
   Return its number, or ~0 if there is no room. A process of several threads cannot be copied. */
uint32_t process_fork(struct cpu *me, const struct frame *frame, const char *name) {
  struct process *parent = me->current->process;
  if (SHARED_READ(parent->threads) > 1) return ~0u;
  struct process *child = take_slot(parent);
  if (!child) return ~0u;
  uint32_t number = child->number, asid = take_asid(me);
  struct thread *thread = asid ? thread_make(child, ANY_CPU) : 0;
  child->mark.asid = asid;
  if (!thread || !memory_copy(me, child, parent)) {
    if (thread) {
      spin_lock(&schedule_lock);
      thread_free(thread);
      spin_unlock(&schedule_lock);
    }
    if (asid) give_asid(asid, ASID_CLEAN);
    free_slot(child);
    return ~0u;
  }
  process_name(child, name);
  struct frame *copy = frame_of(thread);
  /* Word by word: for the assignment of a structure a compiler may call the program's memcpy. */
  const uint32_t *from = (const uint32_t *)frame;
  for (uint32_t i = 0; i < sizeof *copy / 4; i++) ((uint32_t *)copy)[i] = from[i];
  copy->r[2] = 0;
  if (frame->status & STATUS_FPU) {
    fpu_save(thread->fpu);
    copy->status &= ~STATUS_FPU;
  }
  spin_lock(&schedule_lock);
  schedule_ready(thread);
  spin_unlock(&schedule_lock);
  return number;
}

/* Sleep until a child has ended; return 1 and its status, or 0 if there is no such child. */
int process_await(struct process *parent, uint32_t number, uint32_t *status) {
  struct process *child = 0;
  spin_lock(&process_lock);
  for (uint32_t i = 0; i < MAX_PROCESSES; i++)
    if (processes[i].number == number && processes[i].parent == parent) child = &processes[i];
  if (!child || number == 0) {
    spin_unlock(&process_lock);
    return 0;
  }
  while (!child->ended) thread_sleep(child, &process_lock);
  *status = child->status;
  child->number = 0;
  spin_unlock(&process_lock);
  return 1;
}

/* End the current process, which is not the first and has one thread. */
void process_exit(struct cpu *me, uint32_t status) {
  struct thread *thread = me->current;
  struct process *process = thread->process;
  uint32_t asid = process->mark.asid;
  if (thread->phase) process_enter_phase(thread, 0);
  /* On to the kernel's address space, which the thread keeps until the switch. */
  me->root = kernel_process.root;
  WRITE_CP0(CP0_ENTRYHI, KERNEL_ASID);
  HAZARD_BARRIER();
  thread->process = &kernel_process;
  memory_free(process);
  give_asid(asid, ASID_STALE);
  spin_lock(&process_lock);
  for (uint32_t i = 0; i < MAX_PROCESSES; i++) {
    struct process *child = &processes[i];
    if (child->number == 0 || child->parent != process) continue;
    child->parent = 0; /* nobody will wait for it */
    if (child->ended) child->number = 0;
  }
  process->status = status;
  process->ended = 1;
  if (!process->parent) process->number = 0;
  spin_lock(&schedule_lock);
  spin_unlock(&process_lock);
  schedule_wake((uint32_t)process);
  schedule_end();
}

/* Say what a process is doing, on whatever CPU it does it; 0 for nothing in particular. */
void process_enter_phase(struct thread *me, uint32_t phase) {
  if (me->phase) device_write(MARK_PHASE, -me->phase);
  me->phase = phase;
  if (phase) device_write(MARK_PHASE, phase);
}
