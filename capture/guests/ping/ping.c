/* Two processes, one at each port of the network. First one sends messages of growing size, and the
   other turns every bit of them round and sends them back; then both send at once. At last a port
   sends more than the other holds: it keeps the first four and loses the others.
   Exit status 0 if all is well. */
#include "libos.h"

enum { PHASE_PING = 1, PHASE_EXCHANGE, PHASE_OVERFLOW };
enum { ASK, ANSWER }; /* ports */

#define HELD 4    /* messages that a port holds */
#define SHORTEST 8

static uint32_t rounds = 20, bytes = 60 << 10;
static uint32_t base, subnet; /* address of this machine's first port; other machines are near */
static uint32_t *message;

static void send(uint32_t port, uint32_t to, uint32_t length) {
  if (to != EVERYBODY) to += base;
  if (!message_send(port, to, message, length)) fatal("ping: port %u does not send\n", port);
}

static void receive(uint32_t port, uint32_t from, uint32_t length) {
  uint32_t sender = NO_PORT, got = message_receive(port, message, MOST_MESSAGE, &sender);
  if (got != length || sender != base + from)
    fatal("ping: port %u got %u bytes from %u\n", port, got, sender);
}

static void fill(uint32_t length, uint32_t salt) {
  for (uint32_t i = 0; i < length / 4; i++) message[i] = mix(i) ^ salt;
}

static void check(uint32_t length, uint32_t salt, const char *what) {
  for (uint32_t i = 0; i < length / 4; i++)
    if (message[i] != (mix(i) ^ salt)) fatal("ping: %s: word %u is %x\n", what, i, message[i]);
}

/* The length of a round's message: from the shortest to the longest. */
static uint32_t length_of(uint32_t round) {
  uint32_t steps = rounds > 1 ? rounds - 1 : 1;
  return SHORTEST + (bytes - SHORTEST) / 4 / steps * round * 4;
}

static int answer(void *argument) {
  (void)argument;
  receive(ANSWER, ASK, SHORTEST);
  fill(SHORTEST, 0);
  send(ANSWER, ASK, SHORTEST);
  for (uint32_t i = 0; i < rounds; i++) {
    uint32_t length = length_of(i);
    receive(ANSWER, ASK, length);
    check(length, i, "asked");
    for (uint32_t word = 0; word < length / 4; word++) message[word] = ~message[word];
    send(ANSWER, ASK, length);
  }
  for (uint32_t i = 0; i < rounds; i++) {
    fill(length_of(i), ANSWER);
    send(ANSWER, ASK, length_of(i));
    receive(ANSWER, ASK, bytes);
    check(bytes, ASK, "exchanged");
  }
  return 0;
}

static void ping(void) {
  phase_begin(PHASE_PING);
  /* From here on the own port listens, before anybody sends to it; the other has since `main`. */
  send(ASK, ANSWER, SHORTEST);
  uint32_t process = process_start("answer", answer, NULL);
  receive(ASK, ANSWER, SHORTEST);
  for (uint32_t i = 0; i < rounds; i++) {
    uint32_t length = length_of(i);
    fill(length, i);
    send(ASK, i % 2 && !subnet ? EVERYBODY : ANSWER, length);
    receive(ASK, ANSWER, length);
    check(length, ~i, "answered");
  }
  phase_end(PHASE_PING);
  phase_begin(PHASE_EXCHANGE);
  for (uint32_t i = 0; i < rounds; i++) {
    fill(bytes, ASK);
    send(ASK, ANSWER, bytes);
    receive(ASK, ANSWER, length_of(i));
    check(length_of(i), ANSWER, "exchanged");
  }
  if (process_wait(process) != 0) fatal("ping: the other process found something wrong\n");
  phase_end(PHASE_EXCHANGE);
}

static void overflow(void) {
  phase_begin(PHASE_OVERFLOW);
  for (uint32_t i = 0; i < 2 * HELD; i++) {
    fill(SHORTEST + 4 * i, i);
    send(ASK, ANSWER, SHORTEST + 4 * i);
  }
  for (uint32_t i = 0; i < HELD; i++) {
    receive(ANSWER, ASK, SHORTEST + 4 * i);
    check(SHORTEST + 4 * i, i, "kept");
  }
  fill(bytes, 77);
  send(ASK, ANSWER, bytes);
  message[0] = 1;
  if (message_receive(ANSWER, message + 1, 8, NULL) != bytes || message[0] != 1 ||
      message[2] != (mix(1) ^ 77) || message[3] != (mix(3) ^ 77))
    fatal("ping: a message that does not fit\n");
  phase_end(PHASE_OVERFLOW);
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "rounds", .help = "messages each way", .number = &rounds, .least = 1, .most = 10000},
      {.key = "bytes", .help = "longest message", .number = &bytes, .least = 64,
       .most = MOST_MESSAGE},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  bytes &= -4u;
  message = pages_map(MOST_MESSAGE + PAGE_BYTES); /* room for one that is too long */
  message[0] = 0;
  if (message_send(9, ANSWER, message, 8)) fatal("ping: there is a port 9\n");
  if (message_receive(9, message, 8, NULL) != NO_PORT) fatal("ping: there is a port 9\n");
  if (message_send(ASK, ANSWER, message, MOST_MESSAGE + 1)) fatal("ping: too long a message\n");
  base = message_address(ANSWER, &subnet) - ANSWER;
  if (base + ANSWER == NO_PORT)
    fatal("ping: there is no port %u (machine.network_ports=2 makes one)\n", ANSWER);
  send(ANSWER, ASK, SHORTEST); /* lost, since nobody listens yet */
  ping();
  overflow();
  printf("ping: %u messages of up to %u bytes, checked\n", 4 * rounds, bytes);
  return 0;
}
