/* Console output by polling the UART, the end of a run, and the report of a fatal fault. */
#include "kernel.h"

static struct spinlock console_lock;

static void put_byte(char byte) {
  while (!(device_read(UART_LINE_STATUS) & UART_TRANSMIT_EMPTY)) {
  }
  device_write(UART_DATA, (uint8_t)byte);
}

/* Write kernel or user text. User text is copied in pieces first: touching it may fault, and a
   fault must not happen under the lock. */
void console_write(const char *text, uint32_t bytes) {
  char piece[128]; /* as much as printf writes at once: its lines stay whole */
  while (bytes > 0) {
    uint32_t now = bytes < sizeof piece ? bytes : sizeof piece;
    for (uint32_t i = 0; i < now; i++) piece[i] = text[i];
    spin_lock(&console_lock);
    for (uint32_t i = 0; i < now; i++) put_byte(piece[i]);
    spin_unlock(&console_lock);
    text += now;
    bytes -= now;
  }
}

/* The two below take no lock: they serve report(), which may run while the lock is held. */
void console_text(const char *text) {
  while (*text) put_byte(*text++);
}

void console_hex(uint32_t value) {
  for (int shift = 28; shift >= 0; shift -= 4) put_byte("0123456789abcdef"[value >> shift & 15]);
}

void power_off(uint32_t status) {
  for (;;) device_write(POWER, status);
}

/* Print a line that says why something ends, and the registers if a trap led here. */
void report(const struct frame *frame, const char *why) {
  static const char names[32][3] = {"0",  "at", "v0", "v1", "a0", "a1", "a2", "a3",
                                    "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7",
                                    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
                                    "t8", "t9", "k0", "k1", "gp", "sp", "fp", "ra"};
  console_text("\npanic: ");
  console_text(why);
  console_text(": cpu ");
  console_hex(cpu_index(this_cpu()));
  if (frame) {
    console_text(" pc ");
    console_hex(frame->epc);
    console_text(" vaddr ");
    console_hex(frame->badvaddr);
    console_text(" cause ");
    console_hex(frame->cause);
    console_text(" status ");
    console_hex(frame->status);
    for (int i = 1; i < 32; i++) {
      if (i == 26 || i == 27) continue; /* k0 and k1 are not saved */
      console_text(i % 8 == 1 ? "\n  " : "  ");
      console_text(names[i]);
      console_text(" ");
      console_hex(frame->r[i]);
    }
  }
  console_text("\n");
}

/* End the run with such a report and a status. */
void fail(const struct frame *frame, const char *why, uint32_t status) {
  report(frame, why);
  power_off(status);
}
