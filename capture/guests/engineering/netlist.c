/* The netlist: array multipliers, whose products are known, and random logic on top of them.

   Its gates are numbered in clusters: those of a cluster were made one after the other, and the
   clusters are shuffled. A simulator's elaboration does the same to a design, by modules; the
   smaller the clusters, the worse the locality. */
#include "engineering.h"

struct gate gates[MAX_GATES] PAGE_ALIGNED;
uint32_t fanouts[2 * MAX_GATES] PAGE_ALIGNED;
uint32_t by_level[MAX_GATES] PAGE_ALIGNED;
struct multiplier multipliers[MAX_MULTIPLIERS] PAGE_ALIGNED;
uint32_t gate_count, multiplier_count = 40, multiplier_bits = 8, random_gates = 12 << 10;
uint32_t cluster = 1;

static uint32_t salt;
static uint32_t *place; /* clusters in their shuffled order; only while the netlist is made */

static uint32_t noise(uint32_t n) { return mix(n ^ salt); }
static uint32_t scaled(uint32_t random, uint32_t range) {
  return (uint32_t)((uint64_t)random * range >> 32);
}

/* Return the number of the n-th gate that is made. The last cluster, not full, stays last. */
static uint32_t number_of(uint32_t n) {
  uint32_t full = gate_count / cluster;
  return n / cluster < full ? place[n / cluster] * cluster + n % cluster : n;
}

static uint32_t made; /* gates so far */

static uint32_t make(uint32_t type, uint32_t a, uint32_t b) {
  uint32_t number = number_of(made);
  struct gate *gate = &gates[number];
  gate->type = (uint8_t)type;
  gate->delay = (uint8_t)(1 + noise(made * 2 + 1) % MAX_DELAY);
  gate->input[0] = a;
  gate->input[1] = b;
  gate->level = type == INPUT ? 0 : 1 + (gates[a].level > gates[b].level ? gates[a].level
                                                                         : gates[b].level);
  for (uint32_t i = 0; i < 3; i++) gate->name[i] = noise(number * 4 + i);
  by_level[made++] = number; /* made after its inputs */
  return number;
}

/* Sum and carry of three bits. */
static uint32_t add(uint32_t a, uint32_t b, uint32_t c, uint32_t *carry) {
  uint32_t half = make(XOR, a, b), sum = make(XOR, half, c);
  /* One after the other: C leaves the order of arguments to the compiler, and it numbers gates. */
  uint32_t both = make(AND, a, b), passed = make(AND, half, c);
  *carry = make(OR, both, passed);
  return sum;
}

/* Rows of partial products, each added to the sum of those before by a chain of full adders. */
static void make_multiplier(struct multiplier *m) {
  uint32_t bits = multiplier_bits, row[MAX_BITS] = {0}, carry;
  for (uint32_t operand = 0; operand < 2; operand++)
    for (uint32_t i = 0; i < bits; i++) m->operand[operand][i] = make(INPUT, 0, 0);
  for (uint32_t i = 0; i < bits; i++) row[i] = make(AND, m->operand[0][i], m->operand[1][0]);
  uint32_t top = make(AND, row[0], make(NOR, row[0], row[0])); /* constant 0 */
  m->product[0] = row[0];
  for (uint32_t j = 1; j < bits; j++) {
    carry = make(AND, row[0], make(NOR, row[0], row[0]));
    for (uint32_t i = 0; i < bits; i++) {
      uint32_t above = i + 1 < bits ? row[i + 1] : top;
      row[i] = add(make(AND, m->operand[0][i], m->operand[1][j]), above, carry, &carry);
    }
    top = carry;
    m->product[j] = row[0];
  }
  for (uint32_t i = 1; i < bits; i++) m->product[bits + i - 1] = row[i];
  m->product[2 * bits - 1] = top;
}

static uint32_t multiplier_gates(void) {
  uint32_t bits = multiplier_bits;
  return 2 * bits + bits + 2 + (bits - 1) * (2 + 6 * bits);
}

/* Make the lists of readers, by counting. */
static void make_fanouts(void) {
  uint32_t start = 0;
  for (uint32_t n = 0; n < gate_count; n++)
    for (uint32_t i = 0; i < 2 && gates[n].type != INPUT; i++)
      gates[gates[n].input[i]].fanouts++;
  for (uint32_t n = 0; n < gate_count; n++) {
    gates[n].fanout = start;
    start += gates[n].fanouts;
    gates[n].fanouts = 0;
  }
  for (uint32_t n = 0; n < gate_count; n++)
    for (uint32_t i = 0; i < 2 && gates[n].type != INPUT; i++) {
      struct gate *from = &gates[gates[n].input[i]];
      fanouts[from->fanout + from->fanouts++] = n;
    }
}

void netlist_make(uint32_t seed) {
  salt = mix(seed ^ 0x6e65746c);
  gate_count = multiplier_count * multiplier_gates() + random_gates;
  if (gate_count > MAX_GATES) fatal("engineering: %u gates are too many\n", gate_count);
  uint32_t full = gate_count / cluster, bytes = (full + 1) * sizeof *place;
  bytes = (bytes + PAGE_BYTES - 1) & -PAGE_BYTES;
  place = pages_map(bytes);
  for (uint32_t i = 0; i < full; i++) { /* Fisher and Yates, inside out */
    uint32_t j = scaled(noise(i ^ 0x40000000), i + 1);
    place[i] = place[j];
    place[j] = i;
  }
  for (uint32_t m = 0; m < multiplier_count; m++) make_multiplier(&multipliers[m]);
  /* Random logic reads what was made lately, or anything. */
  for (uint32_t i = 0; i < random_gates; i++) {
    uint32_t input[2];
    for (uint32_t k = 0; k < 2; k++) {
      uint32_t random = noise(0x80000000 + 4 * i + k), recent = made < 512 ? made : 512;
      input[k] = by_level[random & 1 ? made - 1 - scaled(random, recent) : scaled(random, made)];
    }
    make(AND + noise(0x80000000 + 4 * i + 2) % (GATE_TYPES - AND), input[0], input[1]);
  }
  if (made != gate_count) fatal("engineering: %u gates made, not %u\n", made, gate_count);
  make_fanouts();
  pages_unmap(place, bytes); /* nothing of this is copied to the processes */
}

static void seal(void *array, uint32_t bytes) {
  pages_seal(array, (bytes + PAGE_BYTES - 1) & -PAGE_BYTES);
}

/* From here on all processes share it. */
void netlist_seal(void) {
  seal(gates, gate_count * sizeof *gates);
  seal(fanouts, 2 * gate_count * sizeof *fanouts);
  seal(by_level, gate_count * sizeof *by_level);
  seal(multipliers, multiplier_count * sizeof *multipliers);
}
