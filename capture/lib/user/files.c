/* Files and messages: stubs of system calls. */
#include "libos.h"
#include "system_calls.h"

static uint32_t call(uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  register uint32_t v0 __asm__("$2") = number;
  register uint32_t a0 __asm__("$4") = a;
  register uint32_t a1 __asm__("$5") = b;
  register uint32_t a2 __asm__("$6") = c;
  register uint32_t a3 __asm__("$7") = d;
  __asm__ volatile("syscall" : "+r"(v0) : "r"(a0), "r"(a1), "r"(a2), "r"(a3) : "$3", "memory");
  return v0;
}

uint32_t file_open(const char *name) { return call(CALL_OPEN, (uint32_t)name, 0, 0, 0); }
int file_close(uint32_t file) { return (int)call(CALL_CLOSE, file, 0, 0, 0); }
uint32_t file_size(uint32_t file) { return call(CALL_SIZE, file, 0, 0, 0); }

uint32_t file_read(uint32_t file, uint32_t offset, void *buffer, uint32_t bytes) {
  return call(CALL_READ, file, offset, (uint32_t)buffer, bytes);
}

uint32_t file_write(uint32_t file, uint32_t offset, const void *data, uint32_t bytes) {
  return call(CALL_WRITE_FILE, file, offset, (uint32_t)data, bytes);
}

const void *file_map(uint32_t file, uint32_t offset, uint32_t bytes) {
  return (const void *)call(CALL_MAP_FILE, file, offset, bytes, 0);
}

uint32_t files_sync(void) { return call(CALL_SYNC, 0, 0, 0, 0); }

int message_send(uint32_t port, uint32_t to, const void *message, uint32_t bytes) {
  return (int)call(CALL_SEND, port, to, (uint32_t)message, bytes);
}

uint32_t message_receive(uint32_t port, void *buffer, uint32_t bytes, uint32_t *from) {
  register uint32_t v0 __asm__("$2") = CALL_RECEIVE;
  register uint32_t v1 __asm__("$3");
  register uint32_t a0 __asm__("$4") = port;
  register uint32_t a1 __asm__("$5") = (uint32_t)buffer;
  register uint32_t a2 __asm__("$6") = bytes;
  __asm__ volatile("syscall" : "+r"(v0), "=r"(v1) : "r"(a0), "r"(a1), "r"(a2) : "memory");
  if (from && v0 != ~0u) *from = v1;
  return v0;
}

uint32_t message_address(uint32_t port, uint32_t *subnet) {
  register uint32_t v0 __asm__("$2") = CALL_ADDRESS;
  register uint32_t v1 __asm__("$3");
  register uint32_t a0 __asm__("$4") = port;
  __asm__ volatile("syscall" : "+r"(v0), "=r"(v1) : "r"(a0) : "memory");
  if (subnet && v0 != ~0u) *subnet = v1;
  return v0;
}

void pages_clean(void *address, size_t bytes) {
  if (!call(CALL_CLEAN, (uint32_t)address, bytes, 0, 0))
    fatal("pages_clean: bad range %x, %u bytes\n", (unsigned)(uintptr_t)address, (unsigned)bytes);
}
