/* Bytes and strings, printf, and arguments. */
#include <stdarg.h>

#include "libos.h"

void *memcpy(void *to, const void *from, size_t bytes) {
  uint8_t *d = to;
  const uint8_t *s = from;
  if ((((uintptr_t)d | (uintptr_t)s) & 3) == 0) {
    for (; bytes >= 4; bytes -= 4, d += 4, s += 4) *(uint32_t *)d = *(const uint32_t *)s;
  }
  while (bytes--) *d++ = *s++;
  return to;
}

void *memset(void *to, int byte, size_t bytes) {
  uint8_t *d = to;
  uint32_t word = (uint8_t)byte * 0x01010101u;
  for (; bytes && (uintptr_t)d & 3; bytes--) *d++ = (uint8_t)byte;
  for (; bytes >= 4; bytes -= 4, d += 4) *(uint32_t *)d = word;
  while (bytes--) *d++ = (uint8_t)byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
  const uint8_t *x = a, *y = b;
  for (; bytes; bytes--, x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}

size_t strlen(const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

int strcmp(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return (uint8_t)*a - (uint8_t)*b;
}

/* A line under construction, written when it is full and at the end. */
struct output {
  char text[128];
  size_t used, total;
};

static void put(struct output *out, char byte) {
  if (out->used == sizeof out->text) {
    console_write_text(out->text, out->used);
    out->used = 0;
  }
  out->text[out->used++] = byte;
  out->total++;
}

static void put_padded(struct output *out, const char *text, size_t bytes, size_t width, int left,
                       char pad) {
  size_t fill = bytes < width ? width - bytes : 0;
  if (!left)
    while (fill) put(out, pad), fill--;
  while (bytes--) put(out, *text++);
  while (fill) put(out, ' '), fill--;
}

/* Divide in place by a small base and return the remainder, in 16-bit steps: there is no 64-bit
   division without the compiler's own library, which we do without. */
static uint32_t divide(uint64_t *value, uint32_t base) {
  uint32_t rest = 0;
  uint64_t quotient = 0;
  for (int shift = 48; shift >= 0; shift -= 16) {
    uint32_t part = rest << 16 | ((uint32_t)(*value >> shift) & 0xffff);
    quotient = quotient << 16 | part / base;
    rest = part % base;
  }
  *value = quotient;
  return rest;
}

static void put_number(struct output *out, uint64_t value, int negative, uint32_t base,
                       size_t width, int left, char pad) {
  char digits[21];
  size_t at = sizeof digits;
  do digits[--at] = "0123456789abcdef"[divide(&value, base)];
  while (value);
  if (negative) digits[--at] = '-';
  put_padded(out, digits + at, sizeof digits - at, width, left, negative ? ' ' : pad);
}

static void format(struct output *out, const char *text, va_list list) {
  for (; *text; text++) {
    if (*text != '%') {
      put(out, *text);
      continue;
    }
    int left = 0, longs = 0;
    char pad = ' ';
    size_t width = 0;
    for (text++; *text == '-' || *text == '0'; text++) {
      if (*text == '-') left = 1;
      if (*text == '0') pad = '0';
    }
    for (; *text >= '0' && *text <= '9'; text++) width = width * 10 + (size_t)(*text - '0');
    for (; *text == 'l'; text++) longs++;
    if (left) pad = ' ';
    switch (*text) {
      case 'd': {
        int value = va_arg(list, int);
        put_number(out, value < 0 ? 0u - (uint32_t)value : (uint32_t)value, value < 0, 10, width,
                   left, pad);
        break;
      }
      case 'u':
      case 'x': {
        uint64_t value = longs == 2 ? va_arg(list, uint64_t) : va_arg(list, uint32_t);
        put_number(out, value, 0, *text == 'u' ? 10 : 16, width, left, pad);
        break;
      }
      case 'c': {
        char byte = (char)va_arg(list, int);
        put_padded(out, &byte, 1, width, left, ' ');
        break;
      }
      case 's': {
        const char *string = va_arg(list, const char *);
        put_padded(out, string, strlen(string), width, left, ' ');
        break;
      }
      case 0:
        return;
      default:
        put(out, *text);
    }
  }
}

int printf(const char *text, ...) {
  struct output out;
  out.used = out.total = 0;
  va_list list;
  va_start(list, text);
  format(&out, text, list);
  va_end(list);
  console_write_text(out.text, out.used);
  return (int)out.total;
}

void fatal(const char *text, ...) {
  struct output out;
  out.used = out.total = 0;
  va_list list;
  va_start(list, text);
  format(&out, text, list);
  va_end(list);
  console_write_text(out.text, out.used);
  exit(1);
}

/* Return 1 and the value if the text is a number. */
static int parse_number(const char *text, uint32_t *value) {
  uint64_t sum = 0;
  uint32_t base = 10;
  if (text[0] == '0' && text[1] == 'x') base = 16, text += 2;
  if (!*text) return 0;
  for (; *text; text++) {
    uint32_t digit;
    if (*text >= '0' && *text <= '9') digit = (uint32_t)(*text - '0');
    else if (*text >= 'a' && *text <= 'f') digit = (uint32_t)(*text - 'a') + 10;
    else break;
    if (digit >= base) return 0;
    sum = sum * base + digit;
    if (sum >> 32) return 0;
  }
  if (*text == 'K') sum <<= 10, text++;
  else if (*text == 'M') sum <<= 20, text++;
  *value = (uint32_t)sum;
  return *text == 0 && sum >> 32 == 0;
}

/* Return the index of a word in "a|b|c", or -1. */
static int parse_choice(const char *choices, const char *word) {
  size_t bytes = strlen(word);
  for (int index = 0;; index++) {
    const char *end = choices;
    while (*end && *end != '|') end++;
    if ((size_t)(end - choices) == bytes && memcmp(choices, word, bytes) == 0) return index;
    if (!*end) return -1;
    choices = end + 1;
  }
}

static void __attribute__((noreturn))
refuse(const char *program, const char *argument, const argument_t *table, size_t entries) {
  printf("%s: bad argument '%s'; known are:\n", program, argument);
  for (size_t i = 0; i < entries; i++) {
    if (table[i].number)
      printf("  %s=%u..%u (%u)  %s\n", table[i].key, table[i].least, table[i].most,
             *table[i].number, table[i].help);
    else
      printf("  %s=%s  %s\n", table[i].key, table[i].choices, table[i].help);
  }
  exit(2);
}

void arguments_parse(int argc, char **argv, const argument_t *table, size_t entries) {
  for (int a = 1; a < argc; a++) {
    const char *text = argv[a];
    size_t i, key = 0;
    while (text[key] && text[key] != '=') key++;
    for (i = 0; i < entries; i++)
      if (strlen(table[i].key) == key && memcmp(table[i].key, text, key) == 0) break;
    if (i == entries || text[key] != '=') refuse(argv[0], text, table, entries);
    const char *value = text + key + 1;
    if (table[i].number) {
      uint32_t number;
      if (!parse_number(value, &number) || number < table[i].least || number > table[i].most)
        refuse(argv[0], text, table, entries);
      *table[i].number = number;
    } else {
      int choice = parse_choice(table[i].choices, value);
      if (choice < 0) refuse(argv[0], text, table, entries);
      *table[i].choice = (uint32_t)choice;
    }
  }
}
