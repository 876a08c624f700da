/* The tables of the database guest, and the arithmetic that generates them.
   Every row is a function of its number, so that the check needs no memory of the tables. */
#ifndef TABLES_H
#define TABLES_H

#include "libos.h"

#define REGIONS 8
#define CATEGORIES 16
#define DAYS 2048

/* One sale. Half a second-level line, so that a scan drags along columns it does not need. */
struct sale {
  uint32_t number;
  uint32_t product;  /* code, sparse: see product_code() */
  uint32_t customer; /* code, sparse */
  uint32_t day;      /* 0 to DAYS - 1 */
  uint32_t quantity; /* 1 to 50 */
  uint32_t price;    /* of one piece, 1 to 1024 */
  uint32_t discount; /* percent, 0 to 15 */
  uint32_t comment[9];
};

/* One product: the dimension table that all CPUs probe and nobody writes. */
struct product {
  uint32_t code;
  uint32_t category;
  uint32_t weight;
  uint32_t comment[5];
};

/* What one CPU or the whole machine found; 64-bit sums wrap alike in both methods. */
struct answer {
  uint64_t revenue;             /* scan: quantity x price x discount of chosen sales */
  uint64_t weight[REGIONS];     /* join: quantity x weight of products of one category */
  uint64_t group_fingerprint;   /* group: over all customers */
  uint32_t chosen, joined, groups;
};

extern uint32_t row_count, product_count, customer_count, seed;

/* Codes are a bijection of 1..count, sparse over 32 bits and never 0 (mix() maps only 0 to 0). */
static inline uint32_t product_code(uint32_t index) { return mix(index + 1); }
static inline uint32_t customer_code(uint32_t index) { return mix((index + 1) ^ 0x40000000u); }

static inline uint32_t noise(uint32_t row, uint32_t column) {
  return mix(row * 16 + column + mix(seed));
}

/* Scale a random word to [0, range) without a division. */
static inline uint32_t scaled(uint32_t random, uint32_t range) {
  return (uint32_t)((uint64_t)random * range >> 32);
}

static inline uint32_t sale_product_index(uint32_t row) {
  return scaled(noise(row, 0), product_count);
}
static inline uint32_t sale_customer_index(uint32_t row) {
  return scaled(noise(row, 1), customer_count);
}
/* Several small columns come from one random word, by disjoint bits. */
static inline uint32_t sale_day(uint32_t random) { return random % DAYS; }
static inline uint32_t sale_quantity(uint32_t random) { return ((random >> 11 & 63) * 50 >> 6) + 1; }
static inline uint32_t sale_price(uint32_t random) { return (random >> 17 & 1023) + 1; }
static inline uint32_t sale_discount(uint32_t random) { return random >> 28; }

static inline uint32_t product_category(uint32_t index) {
  return mix(index ^ 0x51ab7000u) % CATEGORIES;
}
static inline uint32_t product_weight(uint32_t index) { return (index * 37 & 255) + 1; }
static inline uint32_t customer_region(uint32_t code) { return code >> 29; }

/* The predicate of the scan, and the category that the join selects, by round. */
static inline uint32_t first_day(uint32_t round) { return round * 300 % (DAYS / 2); }
static inline int is_chosen(uint32_t day, uint32_t discount, uint32_t quantity, uint32_t round) {
  uint32_t since = day - first_day(round);
  return since < DAYS / 4 && discount >= 4 && quantity < 25;
}
static inline uint32_t joined_category(uint32_t round) { return round % CATEGORIES; }

/* Fold one group into the fingerprint: a sum, so that the order of groups does not matter. */
static inline uint64_t group_term(uint32_t code, uint32_t orders, uint32_t pieces) {
  return (uint64_t)mix(code ^ mix(orders)) * (pieces | 1);
}

/* check.c: compute the answer of one round from the generator alone; all CPUs call it. */
void check_prepare(void);
void check_rows(uint32_t cpu, uint32_t round, struct answer *answer);
void check_groups(uint32_t cpu, struct answer *answer);

#endif
