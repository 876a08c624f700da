/* Integer work for the comparison with QEMU: quicksort, a table-driven CRC-32 and division, over
   512 KiB. With -DHOSTED the same text is a Linux program, so that both run the same algorithm. */
#ifdef HOSTED
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#else
#include "libos.h"
#endif

#define WORDS (128 * 1024)

static uint32_t rounds = 8;
static uint32_t words[WORDS], crc_table[256];

static void crc_prepare(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; bit++) rest = rest & 1 ? rest >> 1 ^ 0xedb88320u : rest >> 1;
    crc_table[byte] = rest;
  }
}

static uint32_t crc(const uint8_t *bytes, uint32_t count) {
  uint32_t rest = ~0u;
  for (uint32_t i = 0; i < count; i++) rest = rest >> 8 ^ crc_table[(rest ^ bytes[i]) & 255];
  return ~rest;
}

static void sort(uint32_t *first, uint32_t *last) { /* last: beyond the end */
  while (last - first > 1) {
    uint32_t pivot = first[(last - first) / 2], *low = first, *high = last - 1;
    while (low <= high) {
      while (*low < pivot) low++;
      while (*high > pivot) high--;
      if (low <= high) {
        uint32_t held = *low;
        *low++ = *high;
        *high-- = held;
      }
    }
    if (high + 1 - first < last - low) { /* the smaller part by recursion: a shallow stack */
      sort(first, high + 1);
      first = low;
    } else {
      sort(low, last);
      last = high + 1;
    }
  }
}

static uint32_t divide(void) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < WORDS; i++) {
    uint32_t by = (i & 1023) + 3;
    sum += words[i] / by ^ words[i] % by;
  }
  return sum;
}

static uint32_t work(void) {
  uint32_t state = 1, result = 0;
  crc_prepare();
  for (uint32_t round = 0; round < rounds; round++) {
    for (uint32_t i = 0; i < WORDS; i++) words[i] = state = state * 1664525u + 1013904223u;
    sort(words, words + WORDS);
    result = crc((const uint8_t *)words, sizeof words) ^ divide() ^ result << 1;
  }
  return result;
}

int main(int argc, char **argv) {
#ifdef HOSTED
  if (argc > 1) rounds = (uint32_t)atoi(argv[1]);
#else
  const argument_t arguments[] = {
      {.key = "rounds", .help = "rounds of work", .number = &rounds, .least = 1, .most = 10000},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  phase_begin(1);
#endif
  uint32_t result = work();
#ifndef HOSTED
  phase_end(1);
#endif
  printf("integer: %x\n", result);
  return 0;
}
