/* Boot: CPU 0 builds memory and starts the program; the others wait for work.
   Arguments that begin with "os." are ours, the rest is the program's. */
#include "devices.h"

#define MAX_ARGUMENTS 64

struct cpu cpus[MAX_CPUS];
uint32_t cpu_total;
static uint32_t booted; /* 1 once other CPUs may use memory and take work */

extern char user_entry[];

/* Return the value of "key=value", or 0 if the argument has another key. */
static const char *value_of(const char *argument, const char *key) {
  while (*key && *argument == *key) argument++, key++;
  return *key == 0 && *argument == '=' ? argument + 1 : 0;
}

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static const char known[] =
    "unknown argument; the OS knows os.tick=COUNTS (0: none), os.zero=cpu|board,"
    " os.sched=affinity|any, os.slice=TICKS, os.balance=TICKS, os.asids=NUMBER and os.cache=PAGES";

/* Return a number of at least `least`, or end the run. */
static uint32_t number(const char *text, uint32_t least, uint32_t most) {
  uint32_t value = 0, digits = 0;
  for (; *text >= '0' && *text <= '9' && value <= 0x0fffffff; text++, digits++)
    value = value * 10 + (uint32_t)(*text - '0');
  if (!digits || *text || value < least || value > most) fail(0, known, EXIT_NO_RESOURCE);
  return value;
}

/* Take our own arguments out of the list; return how many are left. */
static uint32_t take_options(const char **list, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    const char *text = list[i], *value;
    if (i == 0 || text[0] != 'o' || text[1] != 's' || text[2] != '.') {
      list[kept++] = text;
    } else if ((value = value_of(text, "os.tick"))) {
      clock_counts_per_tick = number(value, 0, ~0u);
    } else if ((value = value_of(text, "os.slice"))) {
      schedule_slice = number(value, 1, 1000000);
    } else if ((value = value_of(text, "os.balance"))) {
      schedule_balance = number(value, 0, 1000000);
    } else if ((value = value_of(text, "os.asids"))) {
      process_asids = number(value, 1, process_asids);
    } else if ((value = value_of(text, "os.cache"))) {
      cache_pages = number(value, 2 * READAHEAD, CACHE_LIMIT);
    } else if ((value = value_of(text, "os.sched")) &&
               (same(value, "affinity") || same(value, "any"))) {
      schedule_affinity = same(value, "affinity");
    } else if ((value = value_of(text, "os.zero")) && (same(value, "cpu") || same(value, "board"))) {
      memory_zeroed_by_board = same(value, "board");
    } else {
      fail(0, known, EXIT_NO_RESOURCE);
    }
  }
  return kept;
}

/* Copy the arguments to the top of the program's stack, as (argc, argv) wants them. Storing there
   takes page faults, like any other store of the program. Return the stack pointer. */
static uint32_t push_arguments(const char **list, uint32_t count) {
  uint32_t top = thread_stack(0);
  uint32_t copies[MAX_ARGUMENTS + 1];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t bytes = 1;
    while (list[i][bytes - 1]) bytes++;
    top -= bytes;
    for (uint32_t b = 0; b < bytes; b++) ((char *)top)[b] = list[i][b];
    copies[i] = top;
  }
  copies[count] = 0;
  top = (top & ~7u) - (count + 1) * 4;
  top &= ~7u;
  for (uint32_t i = 0; i <= count; i++) ((uint32_t *)top)[i] = copies[i];
  return top;
}

void kernel_main(uint32_t argc, uint32_t argv, uint32_t ram_bytes, uint32_t cpu) {
  struct cpu *me = &cpus[cpu];
  uint32_t lines = STATUS_IPI | STATUS_DEVICES;
  if (cpu != 0) {
    /* An interrupt that CPU 0 raises meanwhile stays pending and ends the WAIT at once. */
    WRITE_CP0(CP0_STATUS, lines);
    HAZARD_BARRIER();
    idle_until_changed(&booted, 0);
    special_use(me);
    if (clock_counts_per_tick) {
      WRITE_CP0(CP0_STATUS, lines | STATUS_TIMER);
      clock_boot(me);
    }
    schedule_idle(me);
  }

  const char *list[MAX_ARGUMENTS];
  cpu_total = device_read(CPU_COUNT);
  if (cpu_total > MAX_CPUS) cpu_total = MAX_CPUS;
  if (ram_bytes < 2 * KERNEL_WINDOW || ram_bytes > RAM_MAX)
    fail(0, "RAM must be 4 MiB to 256 MiB", EXIT_NO_RESOURCE);
  if (argc > MAX_ARGUMENTS) fail(0, "too many arguments", EXIT_NO_RESOURCE);
  struct process *first = process_boot();
  memory_boot(ram_bytes, first); /* before the arguments: they may lie in mapped memory */
  special_boot();
  special_use(me);
  thread_boot();
  me->current = thread_make(first, 0);
  me->root = first->root;
  WRITE_CP0(CP0_ENTRYHI, FIRST_ASID);
  HAZARD_BARRIER();
  const uint32_t *physical = kernel_address(argv & 0x1fffffff);
  for (uint32_t i = 0; i < argc; i++) list[i] = kernel_address(physical[i] & 0x1fffffff);
  process_name(first, argc > 0 ? list[0] : "program");
  argc = take_options(list, argc);
  if (clock_counts_per_tick) {
    lines |= STATUS_TIMER;
    clock_boot(me);
  }
  user_status |= lines;
  WRITE_CP0(CP0_STATUS, lines);
  HAZARD_BARRIER();
  uint32_t stack = push_arguments(list, argc);
  thread_enter(me->current, (uint32_t)user_entry, stack, argc, stack, 0);
  spin_lock(&schedule_lock);
  schedule_ready(me->current);
  spin_unlock(&schedule_lock);
  SHARED_WRITE(booted, 1);
  for (uint32_t i = 1; i < cpu_total; i++) device_write(CPU_RAISE, i);
  schedule_idle(me);
}
