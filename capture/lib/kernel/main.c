/* Boot: CPU 0 builds memory and starts the program; the others wait for work.
   Arguments that begin with "os." are ours, the rest is the program's. */
#include "kernel.h"

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

static uint32_t number(const char *text) {
  uint32_t value = 0;
  if (!*text) fail(0, "os.tick wants a number of counts", EXIT_NO_RESOURCE);
  for (; *text; text++) {
    if (*text < '0' || *text > '9' || value > 0x0fffffff)
      fail(0, "os.tick wants a number of counts", EXIT_NO_RESOURCE);
    value = value * 10 + (uint32_t)(*text - '0');
  }
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
      clock_counts_per_tick = number(value);
    } else if ((value = value_of(text, "os.zero")) && (same(value, "cpu") || same(value, "board"))) {
      memory_zeroed_by_board = same(value, "board");
    } else {
      fail(0, "unknown argument; the OS knows os.tick=COUNTS (0: none) and os.zero=cpu|board",
           EXIT_NO_RESOURCE);
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
  uint32_t lines = STATUS_IPI;
  if (cpu != 0) {
    /* An interrupt that CPU 0 raises meanwhile stays pending and ends the WAIT at once. */
    WRITE_CP0(CP0_STATUS, lines);
    HAZARD_BARRIER();
    idle_until_changed(&booted, 0);
    if (clock_counts_per_tick) {
      WRITE_CP0(CP0_STATUS, lines | STATUS_TIMER);
      clock_boot(me);
    }
    thread_idle(me);
  }

  const char *list[MAX_ARGUMENTS];
  cpu_total = device_read(CPU_COUNT);
  if (cpu_total > MAX_CPUS) cpu_total = MAX_CPUS;
  if (ram_bytes < 2 * KERNEL_WINDOW || ram_bytes > RAM_MAX)
    fail(0, "RAM must be 4 MiB to 256 MiB", EXIT_NO_RESOURCE);
  if (argc > MAX_ARGUMENTS) fail(0, "too many arguments", EXIT_NO_RESOURCE);
  memory_boot(ram_bytes); /* before the arguments: they may lie in mapped memory */
  const uint32_t *physical = kernel_address(argv & 0x1fffffff);
  for (uint32_t i = 0; i < argc; i++) list[i] = kernel_address(physical[i] & 0x1fffffff);
  argc = take_options(list, argc);
  if (clock_counts_per_tick) {
    lines |= STATUS_TIMER;
    clock_boot(me);
  }
  WRITE_CP0(CP0_STATUS, lines);
  HAZARD_BARRIER();
  SHARED_WRITE(booted, 1);
  for (uint32_t i = 1; i < cpu_total; i++) device_write(CPU_RAISE, i);

  uint32_t stack = push_arguments(list, argc);
  enter_user((uint32_t)user_entry, stack, argc, stack, 0);
}
