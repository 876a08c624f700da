/* Event-driven logic simulation: a timing wheel of value changes, each of which makes the readers of
   its gate compute their outputs anew. Changes are logged, as simulators do for a viewer.
   After each vector the products must be right, and all gates be what levels.c says. */
#include "engineering.h"

#define WHEEL 8 /* more than MAX_DELAY, a power of two */
#define MAX_EVENTS (2 * MAX_GATES)
#define LOG_ENTRIES (32 << 10) /* the latest changes */
#define NONE 0xffffffff

struct state {
  uint32_t value;
  uint32_t planned; /* value after the last change that is on the wheel */
  uint32_t toggles; /* changes so far, for an estimate of power */
  uint32_t changed; /* time of the last one */
};
struct event {
  uint32_t gate, value, next;
};

static struct state states[MAX_GATES] PAGE_ALIGNED;
static struct event events[MAX_EVENTS] PAGE_ALIGNED;
static struct change {
  uint32_t time, gate, value, toggles;
} change_log[LOG_ENTRIES] PAGE_ALIGNED;
static uint32_t operands[2 * MAX_MULTIPLIERS] PAGE_ALIGNED;
static uint32_t wheel_first[WHEEL], wheel_last[WHEEL];
static uint32_t events_used, events_free, pending, now, changes;
uint32_t activity = 50;

static void plan(uint32_t gate, uint32_t value, uint32_t time) {
  uint32_t number = events_free, slot = time % WHEEL;
  if (number != NONE)
    events_free = events[number].next;
  else if ((number = events_used++) == MAX_EVENTS)
    fatal("verilog: too many events\n");
  events[number] = (struct event){gate, value, NONE};
  if (wheel_first[slot] == NONE)
    wheel_first[slot] = number;
  else
    events[wheel_last[slot]].next = number;
  wheel_last[slot] = number;
  states[gate].planned = value;
  pending++;
}

static void change(uint32_t number, uint32_t value) {
  const struct gate *gate = &gates[number];
  struct state *state = &states[number];
  if (state->value == value) return;
  state->value = value;
  state->changed = now;
  state->toggles++;
  change_log[changes++ % LOG_ENTRIES] = (struct change){now, number, value, state->toggles};
  const uint32_t *reader = &fanouts[gate->fanout], *end = reader + gate->fanouts;
  for (; reader < end; reader++) {
    const struct gate *to = &gates[*reader];
    uint32_t output =
        gate_output(to->type, states[to->input[0]].value, states[to->input[1]].value);
    if (output != states[*reader].planned) plan(*reader, output, now + to->delay);
  }
}

/* Run until nothing is planned any more. */
static void settle(void) {
  while (pending) {
    uint32_t slot = now % WHEEL, number = wheel_first[slot];
    wheel_first[slot] = NONE;
    while (number != NONE) {
      struct event event = events[number];
      events[number].next = events_free;
      events_free = number;
      pending--;
      change(event.gate, event.value);
      number = event.next;
    }
    now++;
  }
}

/* Give an operand to a multiplier, bit by bit. */
static void apply(uint32_t operand, uint32_t value) {
  const uint32_t *bits = multipliers[operand / 2].operand[operand % 2];
  operands[operand] = value;
  for (uint32_t bit = 0; bit < multiplier_bits; bit++)
    if (states[bits[bit]].planned != (value >> bit & 1)) plan(bits[bit], value >> bit & 1, now);
}

static uint32_t wrong_products(void) {
  uint32_t wrong = 0;
  for (uint32_t m = 0; m < multiplier_count; m++) {
    uint32_t product = 0;
    for (uint32_t bit = 0; bit < 2 * multiplier_bits; bit++)
      product |= states[multipliers[m].product[bit]].value << bit;
    wrong += product != operands[2 * m] * operands[2 * m + 1];
  }
  return wrong;
}

static uint32_t value_of(uint32_t gate) { return states[gate].value; }

int verilog(void *argument) {
  const struct job job = *(struct job *)argument;
  uint32_t fingerprint = 0, toggles = 0;
  process_phase(PHASE_SETUP);
  events_free = NONE;
  for (uint32_t slot = 0; slot < WHEEL; slot++) wheel_first[slot] = NONE;
  /* All gates begin at 0, and those that should not be so change at once. */
  for (uint32_t n = 0; n < gate_count; n++)
    if (gates[n].type != INPUT && gate_output(gates[n].type, 0, 0)) plan(n, 1, 0);
  settle();
  for (uint32_t vector = 0; vector < job.steps; vector++) {
    process_phase(PHASE_SIMULATE);
    for (uint32_t operand = 0; operand < 2 * multiplier_count; operand++) {
      uint32_t random = mix(job.seed + vector * 2 * MAX_MULTIPLIERS + operand);
      if (random % 128 * 100 < activity * 128)
        apply(operand, random >> 7 & ((1u << multiplier_bits) - 1));
    }
    settle();
    process_phase(PHASE_CHECK);
    if (job.wrong && vector + 1 == job.steps) states[by_level[gate_count - 1]].value ^= 1;
    uint32_t products = wrong_products(), differ = levels_differ(operands, value_of);
    if (products || differ) {
      printf("verilog %u: vector %u: %u products are wrong, %u gates differ\n", job.seed, vector,
             products, differ);
      return 1;
    }
  }
  for (uint32_t n = 0; n < gate_count; n++) {
    toggles += states[n].toggles;
    fingerprint += mix(states[n].toggles ^ mix(n));
  }
  if (toggles != changes) return 2;
  printf("verilog %u: %u vectors, %u changes, %08x, checked\n", job.seed, job.steps, changes,
         fingerprint);
  return 0;
}
