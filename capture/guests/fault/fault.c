/* Does what a program must not, so that the OS ends the run with status 125 and the registers. */
#include "libos.h"

int main(int argc, char **argv) {
  uint32_t kind = 0;
  const argument_t table[] = {
      {.key = "kind", .help = "what to do wrong", .choices = "load|store|text|kernel|instruction|call",
       .choice = &kind},
  };
  arguments_parse(argc, argv, table, 1);
  switch (kind) {
    case 0: return *(volatile int *)0x00001000;         /* below the program */
    case 1: *(volatile int *)0x6ffff000 = 1; break;     /* heap that was not reserved */
    case 2: *(volatile int *)0x00400000 = 1; break;     /* read-only text */
    case 3: return *(volatile int *)0x80000000;         /* the kernel's segment: address error */
    case 4: __asm__ volatile(".word 0xffffffff"); break; /* reserved instruction */
    case 5: console_write_text((const char *)0x00001000, 8); break; /* bad pointer to the kernel */
  }
  fatal("fault: nothing happened\n");
}
