/* Runs until someone stops it: for instruction limits and interrupted captures. All CPUs walk over
   memory of their own, so that the trace keeps growing. */
#include "libos.h"

static void walk(void *argument, uint32_t cpu) {
  uint32_t bytes = *(const uint32_t *)argument;
  volatile uint32_t *words = pages_map(bytes);
  for (;;)
    for (uint32_t i = 0; i < bytes / 4; i += 8) words[i] += cpu;
}

int main(int argc, char **argv) {
  uint32_t bytes = 256 << 10;
  const argument_t table[] = {
      {.key = "bytes", .help = "memory that each CPU walks over", .number = &bytes, .least = 4096,
       .most = 16 << 20},
  };
  arguments_parse(argc, argv, table, 1);
  phase_begin(1);
  parallel(walk, &bytes);
  return 1;
}
