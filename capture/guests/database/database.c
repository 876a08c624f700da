/* Decision support on a star schema: sales, products, customers.
   Each CPU owns a contiguous part of the sales (private: worth migrating) and probes one shared
   hash table of products (read only: worth replicating). Grouping fills private hash tables that
   are merged by partition, all to all. With load=serial, the default, CPU 0 touches everything
   first, as loaders do. The answers are computed again by check.c and compared. */
#include "tables.h"

enum {
  PHASE_LOAD = 1,
  PHASE_BUILD,
  PHASE_QUERY,
  PHASE_SCAN,
  PHASE_JOIN,
  PHASE_GROUP,
  PHASE_MERGE,
  PHASE_CHECK,
};

uint32_t row_count = 256 << 10, product_count = 8 << 10, customer_count = 2 << 10, seed = 1;
static uint32_t rounds = 2, load_parallel = 0;

/* Open addressing, empty where the code is 0. The table of products holds row numbers. */
struct probe {
  uint32_t code;
  uint32_t row;
};
struct group {
  uint32_t code;
  uint32_t orders, pieces;
  uint32_t unused;
};

static struct sale *sales;
static struct product *products;
static struct probe *probes;
static uint32_t probe_slots;              /* a power of two, at least twice the products */
static struct group *groups[MAX_CPUS];    /* private, by CPU */
static struct group *merged;              /* shared; each CPU owns the slots of its partition */
static uint32_t group_slots;
static uint32_t cpus, current_round;
static barrier_t barrier;
static struct answer found[MAX_CPUS] LINE_ALIGNED, expected[MAX_CPUS] LINE_ALIGNED;

static uint32_t power_of_two(uint32_t least) {
  uint32_t power = 16;
  while (power < least) power *= 2;
  return power;
}

static void load_sales(uint32_t begin, uint32_t end) {
  for (uint32_t row = begin; row < end; row++) {
    struct sale *sale = &sales[row];
    uint32_t random = noise(row, 2);
    sale->number = row;
    sale->product = product_code(sale_product_index(row));
    sale->customer = customer_code(sale_customer_index(row));
    sale->day = sale_day(random);
    sale->quantity = sale_quantity(random);
    sale->price = sale_price(random);
    sale->discount = sale_discount(random);
    sale->comment[8] = row ^ random; /* the row's second half gets its memory, too */
  }
}

static void load_products(uint32_t begin, uint32_t end) {
  for (uint32_t row = begin; row < end; row++) {
    products[row].code = product_code(row);
    products[row].category = product_category(row);
    products[row].weight = product_weight(row);
    products[row].comment[4] = row;
  }
}

static void load(uint32_t cpu) {
  if (load_parallel) {
    load_sales(share_begin(row_count, cpus, cpu), share_begin(row_count, cpus, cpu + 1));
    load_products(share_begin(product_count, cpus, cpu),
                  share_begin(product_count, cpus, cpu + 1));
  } else if (cpu == 0) {
    load_sales(0, row_count);
    load_products(0, product_count);
    /* A loader's allocator clears what it hands out, the hash tables included. */
    memset(probes, 0, probe_slots * sizeof *probes);
  }
}

/* Insert own share of the products. Slots are claimed by LL/SC, so shares need not be disjoint in
   the table. */
static void build(uint32_t cpu) {
  uint32_t end = share_begin(product_count, cpus, cpu + 1);
  for (uint32_t row = share_begin(product_count, cpus, cpu); row < end; row++) {
    uint32_t code = products[row].code;
    for (uint32_t slot = code & (probe_slots - 1);; slot = (slot + 1) & (probe_slots - 1)) {
      uint32_t empty = 0;
      if (__atomic_load_n(&probes[slot].code, __ATOMIC_RELAXED) == 0 &&
          __atomic_compare_exchange_n(&probes[slot].code, &empty, code, 0, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST)) {
        probes[slot].row = row; /* read only behind the barrier */
        break;
      }
    }
  }
}

static void scan(uint32_t cpu, struct answer *answer) {
  const struct sale *sale = &sales[share_begin(row_count, cpus, cpu)];
  const struct sale *end = &sales[share_begin(row_count, cpus, cpu + 1)];
  uint64_t revenue = 0;
  uint32_t chosen = 0;
  for (; sale < end; sale++) {
    if (!is_chosen(sale->day, sale->discount, sale->quantity, current_round)) continue;
    revenue += (uint64_t)(sale->quantity * sale->price) * sale->discount;
    chosen++;
  }
  answer->revenue = revenue;
  answer->chosen = chosen;
}

static void join(uint32_t cpu, struct answer *answer) {
  const struct sale *sale = &sales[share_begin(row_count, cpus, cpu)];
  const struct sale *end = &sales[share_begin(row_count, cpus, cpu + 1)];
  uint32_t category = joined_category(current_round);
  for (; sale < end; sale++) {
    uint32_t slot = sale->product & (probe_slots - 1);
    while (probes[slot].code != sale->product) slot = (slot + 1) & (probe_slots - 1);
    const struct product *product = &products[probes[slot].row];
    if (product->category != category) continue;
    answer->weight[customer_region(sale->customer)] += sale->quantity * product->weight;
    answer->joined++;
  }
}

/* Return the group of a code in a table, made if it is new. */
static struct group *group_of(struct group *table, uint32_t code) {
  uint32_t slot = code & (group_slots - 1);
  while (table[slot].code != code) {
    if (table[slot].code == 0) {
      table[slot].code = code;
      break;
    }
    slot = (slot + 1) & (group_slots - 1);
  }
  return &table[slot];
}

static void group(uint32_t cpu) {
  const struct sale *sale = &sales[share_begin(row_count, cpus, cpu)];
  const struct sale *end = &sales[share_begin(row_count, cpus, cpu + 1)];
  memset(groups[cpu], 0, group_slots * sizeof(struct group));
  for (; sale < end; sale++) {
    struct group *group = group_of(groups[cpu], sale->customer);
    group->orders++;
    group->pieces += sale->quantity;
  }
}

/* Merge the codes of the own partition from the private tables of all CPUs. Partitions have merged
   tables of their own, one behind the other, so that no two CPUs write to one. */
static void merge(uint32_t cpu, struct answer *answer) {
  struct group *own = merged + cpu * group_slots;
  memset(own, 0, group_slots * sizeof(struct group));
  for (uint32_t c = 0; c < cpus; c++) {
    const struct group *from = groups[(cpu + c) % cpus]; /* not all at one table at a time */
    for (uint32_t slot = 0; slot < group_slots; slot++) {
      uint32_t code = from[slot].code;
      if (code == 0 || scaled(mix(code), cpus) != cpu) continue;
      struct group *into = group_of(own, code);
      into->orders += from[slot].orders;
      into->pieces += from[slot].pieces;
    }
  }
  for (uint32_t slot = 0; slot < group_slots; slot++) {
    if (own[slot].code == 0) continue;
    answer->group_fingerprint += group_term(own[slot].code, own[slot].orders, own[slot].pieces);
    answer->groups++;
  }
}

static void query(uint32_t cpu, struct answer *answer) {
  memset(answer, 0, sizeof *answer);
  phase_begin(PHASE_SCAN);
  scan(cpu, answer);
  barrier_wait(&barrier);
  phase_end(PHASE_SCAN);
  phase_begin(PHASE_JOIN);
  join(cpu, answer);
  barrier_wait(&barrier);
  phase_end(PHASE_JOIN);
  phase_begin(PHASE_GROUP);
  group(cpu);
  barrier_wait(&barrier);
  phase_end(PHASE_GROUP);
  phase_begin(PHASE_MERGE);
  merge(cpu, answer);
  barrier_wait(&barrier);
  phase_end(PHASE_MERGE);
}

static void add(struct answer *into, const struct answer *part) {
  into->revenue += part->revenue;
  for (uint32_t region = 0; region < REGIONS; region++)
    into->weight[region] += part->weight[region];
  into->group_fingerprint += part->group_fingerprint;
  into->chosen += part->chosen;
  into->joined += part->joined;
  into->groups += part->groups;
}

static void compare(uint32_t round) {
  struct answer sum, want;
  memset(&sum, 0, sizeof sum);
  memset(&want, 0, sizeof want);
  for (uint32_t c = 0; c < cpus; c++) {
    add(&sum, &found[c]);
    add(&want, &expected[c]);
  }
  if (sum.revenue != want.revenue || sum.chosen != want.chosen)
    fatal("database: scan %u found %u sales, not %u\n", round, sum.chosen, want.chosen);
  if (memcmp(sum.weight, want.weight, sizeof sum.weight) != 0 || sum.joined != want.joined)
    fatal("database: join %u found %u sales, not %u\n", round, sum.joined, want.joined);
  if (sum.group_fingerprint != want.group_fingerprint || sum.groups != want.groups)
    fatal("database: grouping %u found %u groups, not %u\n", round, sum.groups, want.groups);
  printf("round %u: %u sales chosen, revenue %llu, %u joined, %u groups, checked\n", round,
         sum.chosen, sum.revenue, sum.joined, sum.groups);
}

static void work(void *argument, uint32_t cpu) {
  (void)argument;
  phase_begin(PHASE_LOAD);
  load(cpu);
  barrier_wait(&barrier);
  phase_end(PHASE_LOAD);
  phase_begin(PHASE_BUILD);
  build(cpu);
  barrier_wait(&barrier);
  phase_end(PHASE_BUILD);
  for (uint32_t round = 0; round < rounds; round++) {
    if (cpu == 0) current_round = round;
    barrier_wait(&barrier);
    phase_begin(PHASE_QUERY);
    query(cpu, &found[cpu]);
    phase_end(PHASE_QUERY);
    phase_begin(PHASE_CHECK);
    memset(&expected[cpu], 0, sizeof expected[cpu]);
    check_rows(cpu, round, &expected[cpu]);
    barrier_wait(&barrier);
    check_groups(cpu, &expected[cpu]);
    barrier_wait(&barrier);
    if (cpu == 0) compare(round);
    phase_end(PHASE_CHECK);
  }
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "rows", .help = "sales, 64 bytes each", .number = &row_count, .least = 1,
       .most = 2 << 20},
      {.key = "products", .help = "products, 32 bytes each", .number = &product_count, .least = 1,
       .most = 256 << 10},
      {.key = "customers", .help = "customers, at most as many groups",
       .number = &customer_count, .least = 1, .most = 256 << 10},
      {.key = "rounds", .help = "how often to query", .number = &rounds, .least = 1, .most = 1000},
      {.key = "seed", .help = "which rows", .number = &seed, .most = ~0u},
      {.key = "load", .help = "who fills the tables: CPU 0 alone, or each CPU its part",
       .choices = "serial|parallel", .choice = &load_parallel},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  cpus = cpu_count();
  probe_slots = power_of_two(2 * product_count);
  group_slots = power_of_two(2 * customer_count);
  sales = pages_map(row_count * sizeof *sales);
  products = pages_map(product_count * sizeof *products);
  probes = pages_map(probe_slots * sizeof *probes);
  merged = pages_map(cpus * group_slots * sizeof *merged);
  for (uint32_t c = 0; c < cpus; c++) groups[c] = pages_map(group_slots * sizeof(struct group));
  check_prepare();
  barrier_init(&barrier, cpus);
  parallel(work, NULL);
  printf("database: %u sales, %u products, %u cpus\n", row_count, product_count, cpus);
  return 0;
}
