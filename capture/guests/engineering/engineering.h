/* The two programs of the engineering guest, and the netlist that the first kind shares. */
#ifndef ENGINEERING_H
#define ENGINEERING_H

#include "libos.h"

enum { PHASE_SETUP = 1, PHASE_SIMULATE, PHASE_CHECK, PHASE_NETLIST, PHASE_START, PHASE_WAIT };

#define MAX_GATES (128 << 10) /* inputs and gates of a netlist */
#define MAX_MULTIPLIERS 1024
#define MAX_BITS 16           /* of a multiplier's operand */

enum gate_type { INPUT, AND, OR, XOR, NAND, NOR, GATE_TYPES };

/* A quarter of a second-level line: what a simulator keeps of a gate beside its value. */
struct gate {
  uint8_t type, delay; /* delay 1 to MAX_DELAY */
  uint16_t fanouts;
  uint32_t fanout;     /* where its list of readers begins */
  uint32_t input[2];
  uint32_t level;      /* longest path from an input */
  uint32_t name[3];
};
#define MAX_DELAY 7

/* netlist.c: read-only once it is made; gates are scattered in memory, see netlist_make(). */
extern struct gate gates[MAX_GATES];
extern uint32_t fanouts[2 * MAX_GATES];
extern uint32_t by_level[MAX_GATES]; /* gates in an order that respects their inputs */
extern uint32_t gate_count;
struct multiplier {
  uint32_t operand[2][MAX_BITS], product[2 * MAX_BITS];
};
extern struct multiplier multipliers[MAX_MULTIPLIERS];
extern uint32_t multiplier_count, multiplier_bits, random_gates, cluster;
void netlist_make(uint32_t seed);
void netlist_seal(void);

static inline uint32_t gate_output(uint32_t type, uint32_t a, uint32_t b) {
  switch (type) {
    case AND: return a & b;
    case OR: return a | b;
    case XOR: return a ^ b;
    case NAND: return 1 ^ (a & b);
    case NOR: return 1 ^ (a | b);
    default: return a;
  }
}

/* What a process is told, and what it found. */
struct job {
  uint32_t seed;
  uint32_t steps;  /* vectors, or references of each simulated processor */
  uint32_t wrong;  /* 1: spoil a result, which its check must notice */
};

/* verilog.c: event-driven simulation of the netlist, checked by levels.c after each vector. */
extern uint32_t activity;
int verilog(void *job);
uint32_t levels_differ(const uint32_t *operands, uint32_t (*value_of)(uint32_t gate));

/* machine.c: a multiprocessor's caches and directory, checked by naive.c. */
#define PROCESSORS 8
struct reference {
  uint32_t line, write;
};
struct counts {
  uint32_t hits, misses, invalidations;
};
extern uint32_t cache_sets, memory_lines; /* powers of two */
int machine(void *job);
struct reference reference_of(uint32_t seed, uint32_t processor, uint32_t step);
#define MACHINE_WAYS 2
#define SAMPLED(line) ((line) % 64 == 5) /* sets that the second method follows: at least 64 */
#define NAIVE_STEPS(steps) ((steps) / 4)      /* and for how long */
struct counts naive_counts(const struct job *job);

#endif
