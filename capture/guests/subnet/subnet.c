/* A server and up to three clients on one network. A client asks for data and gets it, then sends
   data and gets their sum, in turn of whole pages and of any other length; both sides check every
   byte. Each is a virtual machine, the server first and its clients right behind it; machines behind
   those have nothing to do. Where no machines share the network both are processes of one, the
   client at its second port. `role=` says what a machine is that is not what its number makes it.

   A port listens from its first use on, and holds four messages; nobody knows who starts first. So
   a client says hello when it listens, and again whenever it is asked. The server greets one client
   after the other: it asks those that it has not heard of, and takes the next one when this one
   has said that it is ready; what it said before has arrived by then. So at most one message more
   than there are clients waits for the server, and none is lost. Exit status 0 if all is well. */
#include "libos.h"

enum { PHASE_GREET = 1, PHASE_SERVE, PHASE_ASK };
enum { AUTO, BOTH, SERVER, CLIENT };                             /* roles */
enum { HELLO, WELCOME, READY, START, GET, PUT, DATA, SUM, BYE }; /* messages */

#define MOST_CLIENTS 3

/* What every message begins with; data of `bytes` begin right behind it. */
struct head {
  uint32_t kind, bytes, salt, sum;
};
#define LEAST sizeof(struct head)

static uint32_t role, clients = 1, server = 0, rounds = 20;
static struct head *message;
static uint32_t port; /* of this side */

static void send(uint32_t to, uint32_t kind, uint32_t bytes, uint32_t salt, uint32_t sum) {
  message->kind = kind;
  message->bytes = bytes;
  message->salt = salt;
  message->sum = sum;
  uint32_t length = kind == PUT || kind == DATA ? LEAST + bytes : LEAST;
  if (!message_send(port, to, message, length)) fatal("subnet: port %u does not send\n", port);
}

static uint32_t receive(void) {
  uint32_t from = NO_PORT, got = message_receive(port, message, MOST_MESSAGE, &from);
  uint32_t data = message->kind == PUT || message->kind == DATA ? message->bytes : 0;
  if (got != LEAST + data) fatal("subnet: %u bytes from %u\n", got, from);
  return from;
}

/* Data that follow from a number, and their sum; the last word may be a part. */
static uint32_t fill(uint32_t bytes, uint32_t salt) {
  uint32_t *word = (uint32_t *)(message + 1), sum = 0;
  for (uint32_t i = 0; i < (bytes + 3) / 4; i++) {
    word[i] = mix(i) ^ salt;
    sum += word[i] & (4 * i + 4 <= bytes ? -1u : (1u << 8 * (bytes % 4)) - 1);
  }
  return sum;
}

static uint32_t check(uint32_t bytes, uint32_t salt, uint32_t from) {
  const uint32_t *word = (const uint32_t *)(message + 1);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < (bytes + 3) / 4; i++) {
    uint32_t wanted = 4 * i + 4 <= bytes ? -1u : (1u << 8 * (bytes % 4)) - 1;
    if ((word[i] ^ mix(i) ^ salt) & wanted)
      fatal("subnet: word %u of %u bytes from %u is %x\n", i, bytes, from, word[i]);
    sum += word[i] & wanted;
  }
  return sum;
}

/* Of even rounds whole pages with the head, of odd ones anything. */
static uint32_t length_of(uint32_t round, uint32_t salt) {
  if (round % 2) return mix(salt) % (MOST_MESSAGE - LEAST + 1);
  return (1 + salt % (MOST_MESSAGE / PAGE_BYTES)) * PAGE_BYTES - LEAST;
}

static void greet(const uint32_t *addresses) {
  uint32_t heard[MOST_CLIENTS] = {0};
  for (uint32_t i = 0; i < clients; i++) {
    int ready = 0, welcomed = 0;
    if (!heard[i]) send(addresses[i], HELLO, 0, 0, 0);
    while (!ready) {
      if (heard[i] && !welcomed) {
        send(addresses[i], WELCOME, 0, 0, 0);
        welcomed = 1;
      }
      uint32_t from = receive();
      for (uint32_t j = 0; j < clients; j++)
        if (from == addresses[j]) heard[j] = 1;
      ready = message->kind == READY && from == addresses[i];
      if (!ready && message->kind != HELLO)
        fatal("subnet: %u from %u in place of hello\n", message->kind, from);
    }
  }
  for (uint32_t i = 0; i < clients; i++) send(addresses[i], START, 0, 0, 0);
}

static void serve(uint32_t own, const uint32_t *addresses) {
  uint32_t left = clients, requests = 0;
  uint64_t moved = 0;
  process_phase(PHASE_GREET);
  greet(addresses);
  process_phase(PHASE_SERVE);
  while (left > 0) {
    uint32_t from = receive(), bytes = message->bytes, salt = message->salt;
    requests++;
    moved += bytes;
    if (message->kind == GET) {
      uint32_t sum = fill(bytes, salt);
      send(from, DATA, bytes, salt, sum);
    } else if (message->kind == PUT) {
      send(from, SUM, bytes, salt, check(bytes, salt, from));
    } else if (message->kind == BYE) {
      left--;
      requests--;
    } else {
      fatal("subnet: %u from %u\n", message->kind, from);
    }
  }
  process_phase(0);
  printf("subnet: server %u answered %u requests, %llu bytes, checked\n", own, requests,
         (unsigned long long)moved);
}

/* Wait for an answer of a kind from the server. */
static void expect(uint32_t address, uint32_t kind) {
  uint32_t from = receive();
  if (from != address || message->kind != kind)
    fatal("subnet: %u from %u in place of %u\n", message->kind, from, kind);
}

static void ask(uint32_t own, uint32_t address) {
  uint64_t moved = 0;
  process_phase(PHASE_GREET);
  send(address, HELLO, 0, 0, 0);
  do {
    if (receive() != address) fatal("subnet: a stranger\n");
    if (message->kind == HELLO)
      send(address, HELLO, 0, 0, 0);
    else if (message->kind == WELCOME)
      send(address, READY, 0, 0, 0);
  } while (message->kind != START);
  process_phase(PHASE_ASK);
  for (uint32_t round = 0; round < rounds; round++) {
    uint32_t salt = mix(round << 8 | own), bytes = length_of(round, salt);
    send(address, GET, bytes, salt, 0);
    expect(address, DATA);
    if (message->bytes != bytes || check(bytes, salt, address) != message->sum)
      fatal("subnet: wrong data in round %u\n", round);
    moved += bytes;
    salt = ~salt;
    bytes = length_of(round, salt);
    uint32_t sum = fill(bytes, salt);
    send(address, PUT, bytes, salt, sum);
    expect(address, SUM);
    if (message->sum != sum) fatal("subnet: wrong sum in round %u\n", round);
    moved += bytes;
  }
  send(address, BYE, 0, 0, 0);
  process_phase(0);
  printf("subnet: client %u asked %u times, %llu bytes, checked\n", own, 2 * rounds,
         (unsigned long long)moved);
}

static int second(void *argument) {
  (void)argument;
  port = 1;
  uint32_t own = message_address(port, NULL);
  ask(own, own - 1);
  return 0;
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "role", .help = "who this is", .choices = "auto|both|server|client", .choice = &role},
      {.key = "clients", .help = "machines behind the server's that ask", .number = &clients,
       .least = 1, .most = MOST_CLIENTS},
      {.key = "server", .help = "number of the server's machine", .number = &server, .least = 0,
       .most = 63},
      {.key = "rounds", .help = "of a client", .number = &rounds, .least = 1, .most = 10000},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  message = pages_map(MOST_MESSAGE);
  uint32_t subnet = 0, own = message_address(port, &subnet), process = 0;
  if (own == NO_PORT) fatal("subnet: there is no port 0\n");
  uint32_t number = own / MACHINE_PORTS;
  if (role == AUTO) {
    role = !subnet ? BOTH : number == server ? SERVER : CLIENT;
    if (role == CLIENT && (number < server || number > server + clients)) {
      printf("subnet: machine %u is none of the %u that ask (clients=)\n", number, clients);
      return 0;
    }
  }
  if (role != BOTH && !subnet)
    fatal("subnet: the network is this machine's own (vm.subnet joins several machines)\n");
  uint32_t addresses[MOST_CLIENTS];
  for (uint32_t i = 0; i < MOST_CLIENTS; i++) addresses[i] = own + (i + 1) * MACHINE_PORTS;
  if (role == CLIENT) {
    ask(own, server * MACHINE_PORTS);
    return 0;
  }
  if (role == BOTH) {
    clients = 1;
    addresses[0] = own + 1;
    process = process_start("client", second, NULL);
  }
  serve(own, addresses);
  if (role == BOTH && process_wait(process) != 0) fatal("subnet: the client found an error\n");
  return 0;
}
