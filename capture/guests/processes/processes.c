/* Checks the processes of the library OS: that memory is private, sealed pages are shared and safe,
   registers survive time slices and moves, statuses arrive, and a broken process ends alone.
   Exit status 0 if all is well. */
#include "libos.h"

enum { PHASE_START = 1, PHASE_WORK, PHASE_WAIT };

#define MAX_CHILDREN 40
#define STATUS_FAULT 125 /* of a process that broke a rule */

static uint32_t children = 12, work = 20 << 10, generations = 1, wrong;
static uint32_t counter = 1000;     /* initialised data */
static uint32_t blank[2048];        /* bss, mapped on demand */
static uint32_t *heap;
static struct {
  uint32_t words;  /* what churn() makes of the child's number */
  double fraction; /* and churn_fractions() */
} table[256] PAGE_ALIGNED; /* sealed: one frame for all */

/* Work on many registers at once, HI and LO among them, so that a time slice that loses one shows.
   Also counts how often the process finds itself on another CPU. */
static uint32_t churn(uint32_t seed, uint32_t steps, uint32_t *moves) {
  uint32_t a = seed, b = mix(a), c = mix(b), d = mix(c), e = mix(d), f = mix(e);
  uint32_t here = cpu_number();
  for (uint32_t i = 0; i < steps; i++) {
    uint64_t product = (uint64_t)a * b;
    a = b ^ (uint32_t)product;
    b = c + (uint32_t)(product >> 32);
    c = d ^ a;
    d = e + b;
    e = f ^ (c >> 3);
    f = mix(a + i);
    if (moves && cpu_number() != here) {
      here = cpu_number();
      ++*moves;
    }
  }
  return a ^ b ^ c ^ d ^ e ^ f;
}

/* The same with floating point, each child with a rounding mode of its own. */
static double churn_fractions(uint32_t seed, uint32_t steps) {
  double a = seed + 1, b = 1 / a, c = 3 + b, d = c / 7, e = d * d, f = a / c;
  uint32_t mode = seed & 3, found;
  __asm__ volatile("ctc1 %0, $31" : : "r"(mode));
  for (uint32_t i = 0; i < steps; i++) {
    a = b + c / 3;
    b = c - d * 0.1;
    c = (d + e) / (1 + f * f);
    d = e * 0.7 + a;
    e = f - b * 0.3;
    f = a * 0.2 + __builtin_sqrt(d * d + 1);
  }
  __asm__ volatile("cfc1 %0, $31" : "=r"(found));
  __asm__ volatile("ctc1 $0, $31");
  if ((found & 3) != mode) return -1;
  return a + b + c + d + e + f;
}

static int answer(void *argument) { return *(int *)argument + 1; }

static int break_a_rule(void *argument) {
  switch ((uintptr_t)argument) {
    case 0: *(volatile uint32_t *)table = 1; break;          /* sealed */
    case 1: *(volatile uint32_t *)0x6ffff000 = 1; break;     /* not mapped */
    case 2: *(volatile uint32_t *)0x80001000 = 1; break;     /* the kernel's */
    default: __asm__ volatile(".word 0xffffffff");           /* reserved instruction */
  }
  return 0;
}

/* What an ended process of the same parent left must not be seen, and all else must be. */
static int child(void *argument) {
  uint32_t index = (uintptr_t)argument, moves = 0;
  process_phase(PHASE_WORK);
  if (counter != 1000 || heap[7] != 77 || blank[0] != 5 || blank[2047] != 0) return 1;
  counter += index;
  heap[7] = index;
  blank[0] = blank[2047] = index;
  uint32_t *own = pages_map(3 * PAGE_BYTES);
  own[2048] = index;
  if (churn(index, work, &moves) != table[index].words) return 2;
  if (churn_fractions(index, work / 4) != table[index].fraction) return 7;
  if (counter != 1000 + index || heap[7] != index || blank[0] != index) return 3;
  if (own[0] != 0 || own[2048] != index || blank[2047] != index) return 4;
  pages_unmap(own, 3 * PAGE_BYTES);
  if (own[2048] != 0) return 5;

  /* A child of its own, one that nobody waits for, and one that breaks the rules. */
  int value = (int)index;
  uint32_t grandchild = process_start("grandchild", answer, &value);
  process_start("orphan", answer, &value);
  if (process_wait(grandchild) != value + 1) return 6;
  process_phase(0);
  return 40 + (moves > 0);
}

static void round(uint32_t generation) {
  uint32_t number[MAX_CHILDREN], moved = 0;
  phase_begin(PHASE_START);
  for (uint32_t i = 0; i < children; i++) {
    char name[] = "child 00 of round 0";
    name[6] = (char)('0' + i / 10);
    name[7] = (char)('0' + i % 10);
    name[18] = (char)('0' + generation % 10);
    number[i] = process_start(name, child, (void *)(uintptr_t)i);
  }
  phase_end(PHASE_START);
  phase_begin(PHASE_WAIT);
  for (uint32_t i = children; i-- > 0;) {
    int status = process_wait(number[i]);
    if (status < 40) fatal("processes: child %u failed check %d\n", i, status);
    moved += (uint32_t)status - 40;
  }
  phase_end(PHASE_WAIT);
  printf("round %u: %u children, %u moved\n", generation, children, moved);
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "children", .help = "processes at a time", .number = &children, .least = 1,
       .most = MAX_CHILDREN},
      {.key = "work", .help = "steps of each", .number = &work, .least = 1, .most = 16 << 20},
      {.key = "rounds", .help = "how often", .number = &generations, .least = 1, .most = 1000},
      {.key = "wrong", .help = "1: spoil the words that the children check, 2: the fractions",
       .number = &wrong, .most = 2},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  heap = pages_map(PAGE_BYTES);
  heap[7] = 77;
  blank[0] = 5;
  for (uint32_t i = 0; i < children; i++) {
    table[i].words = churn(i, work, NULL) ^ (wrong == 1);
    table[i].fraction = churn_fractions(i, work / 4) + (wrong == 2);
  }
  pages_seal(table, sizeof table);
  for (uint32_t g = 0; g < generations; g++) round(g);

  for (uintptr_t i = 0; i < 4; i++) {
    int status = process_wait(process_start("rogue", break_a_rule, (void *)i));
    if (status != STATUS_FAULT) fatal("processes: rogue %u ended with %d\n", (unsigned)i, status);
  }
  if (counter != 1000 || heap[7] != 77 || blank[0] != 5)
    fatal("processes: a child wrote to its parent's memory\n");
  printf("processes: checked on %u cpus\n", cpu_count());
  return 0;
}
