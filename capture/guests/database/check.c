/* The second method: answers straight from the row generator, without tables, hashes or joins.
   Groups are counted in a dense array by customer index, which all CPUs add to by LL/SC. */
#include "tables.h"

static struct {
  uint32_t orders, pieces;
} *customers;

void check_prepare(void) { customers = pages_map(customer_count * sizeof *customers); }

void check_rows(uint32_t cpu, uint32_t round, struct answer *answer) {
  uint32_t cpus = cpu_count();
  uint32_t end = share_begin(row_count, cpus, cpu + 1);
  for (uint32_t row = share_begin(row_count, cpus, cpu); row < end; row++) {
    uint32_t random = noise(row, 2), product = sale_product_index(row);
    uint32_t customer = sale_customer_index(row), quantity = sale_quantity(random);
    if (is_chosen(sale_day(random), sale_discount(random), quantity, round)) {
      answer->revenue += (uint64_t)(quantity * sale_price(random)) * sale_discount(random);
      answer->chosen++;
    }
    if (product_category(product) == joined_category(round)) {
      answer->weight[customer_region(customer_code(customer))] +=
          quantity * product_weight(product);
      answer->joined++;
    }
    __atomic_fetch_add(&customers[customer].orders, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&customers[customer].pieces, quantity, __ATOMIC_RELAXED);
  }
}

/* Fold own share of the customers and clear it for the next round. */
void check_groups(uint32_t cpu, struct answer *answer) {
  uint32_t cpus = cpu_count();
  uint32_t end = share_begin(customer_count, cpus, cpu + 1);
  for (uint32_t i = share_begin(customer_count, cpus, cpu); i < end; i++) {
    if (customers[i].orders == 0) continue;
    answer->group_fingerprint +=
        group_term(customer_code(i), customers[i].orders, customers[i].pieces);
    answer->groups++;
    customers[i].orders = customers[i].pieces = 0;
  }
}
