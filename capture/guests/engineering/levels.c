/* The second method for logic: every gate once, after its inputs, without events or times. */
#include "engineering.h"

static uint8_t values[MAX_GATES] PAGE_ALIGNED;

/* Compute all gates from the operands, and count those that are something else. */
uint32_t levels_differ(const uint32_t *operands, uint32_t (*value_of)(uint32_t gate)) {
  uint32_t differ = 0;
  for (uint32_t operand = 0; operand < 2 * multiplier_count; operand++)
    for (uint32_t bit = 0; bit < multiplier_bits; bit++)
      values[multipliers[operand / 2].operand[operand % 2][bit]] = operands[operand] >> bit & 1;
  for (uint32_t i = 0; i < gate_count; i++) {
    uint32_t n = by_level[i];
    if (gates[n].type != INPUT)
      values[n] = (uint8_t)gate_output(gates[n].type, values[gates[n].input[0]],
                                       values[gates[n].input[1]]);
    differ += values[n] != value_of(n);
  }
  return differ;
}
