/* An engineering workload after that of Verghese et al. (1996): several logic simulations, which
   share one netlist, and several simulations of multiprocessors, each a process of its own. They
   have nothing to do with each other but that there are more of them than CPUs. Each checks itself
   by a second method; the guest succeeds if all do. */
#include "engineering.h"

#define MAX_JOBS 32

static uint32_t verilogs = 6, machines = 6, vectors = 2, references = 16 << 10, seed = 1;
static uint32_t wrong;

/* The largest power of two that is not above a number. */
static uint32_t power_of_two(uint32_t most) {
  uint32_t power = 1;
  while (power <= most / 2) power *= 2;
  return power;
}

static uint32_t start(const char *kind, uint32_t index, process_function *function,
                      struct job *job) {
  char name[16];
  uint32_t length = (uint32_t)strlen(kind);
  memcpy(name, kind, length);
  name[length++] = ' ';
  if (index >= 10) name[length++] = (char)('0' + index / 10);
  name[length++] = (char)('0' + index % 10);
  name[length] = 0;
  return process_start(name, function, job);
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "verilogs", .help = "logic simulations", .number = &verilogs, .most = MAX_JOBS},
      {.key = "machines", .help = "machine simulations", .number = &machines, .most = MAX_JOBS},
      {.key = "vectors", .help = "input vectors of a logic simulation", .number = &vectors,
       .least = 1, .most = 1 << 20},
      {.key = "references", .help = "references of each simulated processor",
       .number = &references, .least = 1, .most = 64 << 20},
      {.key = "multipliers", .help = "multipliers in the netlist", .number = &multiplier_count,
       .least = 1, .most = MAX_MULTIPLIERS},
      {.key = "bits", .help = "bits of their operands", .number = &multiplier_bits, .least = 2,
       .most = MAX_BITS},
      {.key = "random", .help = "gates of random logic", .number = &random_gates,
       .most = MAX_GATES},
      {.key = "cluster", .help = "gates that stay together in memory", .number = &cluster,
       .least = 1, .most = 1024},
      {.key = "activity", .help = "percent of the operands that change with a vector",
       .number = &activity, .least = 1, .most = 100},
      {.key = "sets", .help = "sets of a simulated cache, down to a power of two", .number = &cache_sets, .least = 64,
       .most = 8 << 10},
      {.key = "lines", .help = "lines of simulated memory, likewise", .number = &memory_lines,
       .least = 1 << 10, .most = 1 << 20},
      {.key = "seed", .help = "which netlist, vectors and references", .number = &seed,
       .most = ~0u},
      {.key = "wrong", .help = "1: spoil a logic simulation, 2: a machine simulation",
       .number = &wrong, .most = 2},
  };
  uint32_t started[2 * MAX_JOBS], count = 0, failed = 0;
  struct job job;
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  cache_sets = power_of_two(cache_sets);
  memory_lines = power_of_two(memory_lines);
  if (verilogs) {
    phase_begin(PHASE_NETLIST);
    netlist_make(seed);
    netlist_seal();
    phase_end(PHASE_NETLIST);
  }
  phase_begin(PHASE_START);
  for (uint32_t i = 0; i < verilogs || i < machines; i++) {
    if (i < verilogs) {
      job = (struct job){seed + i, vectors, wrong == 1 && i == 0};
      started[count++] = start("verilog", i + 1, verilog, &job);
    }
    if (i < machines) {
      job = (struct job){seed + i, references, wrong == 2 && i == 0};
      started[count++] = start("machine", i + 1, machine, &job);
    }
  }
  phase_end(PHASE_START);
  phase_begin(PHASE_WAIT);
  for (uint32_t i = 0; i < count; i++) failed += process_wait(started[i]) != 0;
  phase_end(PHASE_WAIT);
  if (failed) fatal("engineering: %u of %u processes failed\n", failed, count);
  printf("engineering: %u processes, %u gates, checked\n", count, gate_count);
  return 0;
}
