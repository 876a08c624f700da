/* Messages between the ports of the network: one frame each, of which a program sees the data. A
   frame's data begin a page, behind a piece with all headers. A port that is not listening, or has
   no buffer left, loses what is sent to it; who needs an answer asks for one. */
#include "devices.h"

#define RECEIVE 0
#define TRANSMIT 1
#define MAX_PORTS 4
#define BUFFERS 4 /* frames that a port holds until they are received */
#define PAGES (MOST_MESSAGE / PAGE_BYTES)
#define MESSAGE_TYPE 0xb588 /* IEEE 802 local experimental 1, in network order */
#define EVERYBODY 0xffffffff

struct headers {
  uint8_t virtio[12];
  uint8_t to[6], from[6];
  uint16_t type;
  uint16_t sender;
  uint32_t bytes;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct headers) == 32, "one piece");

struct buffer {
  struct headers headers __attribute__((aligned(32)));
  uint32_t frames[PAGES];
  uint32_t part; /* for the last piece of a sent message, if it fills no page; 0: none */
};

static struct port {
  struct spinlock lock;
  uint32_t state; /* 0 not started, 1 it was, 2 there is no such port */
  uint8_t address[6];
  struct virtqueue queues[2];
  struct buffer sending, buffers[BUFFERS];
  uint32_t sender;           /* 1 while somebody sends */
  uint32_t sent;             /* 1 when the device has taken the frame */
  uint8_t owner[QUEUE_ENTRIES]; /* buffer of a chain, by its head */
  uint8_t arrived[BUFFERS];  /* buffers with a message, in order of arrival */
  uint32_t arrivals;
} ports[MAX_PORTS];

static uint32_t take(void) {
  uint32_t frame = frame_take(this_cpu());
  if (frame) mark_class(frame, CLASS_KERNEL);
  return frame;
}

static int fill(struct buffer *buffer) {
  for (uint32_t i = 0; i < PAGES; i++)
    if (!(buffer->frames[i] = take())) return 0;
  return 1;
}

static int fill_to_send(struct buffer *buffer) {
  return fill(buffer) && (buffer->part = take());
}

/* Return the frame of a message's page. What fills none goes to a frame of its own, because the
   usual one may still be shown to the last receiver, who gets only whole pages without a copy. */
static uint32_t frame_for(const struct buffer *buffer, uint32_t page, uint32_t bytes) {
  return bytes < PAGE_BYTES && buffer->part ? buffer->part : buffer->frames[page];
}

/* Describe a buffer for the device; return the number of pieces. */
static uint32_t describe(const struct buffer *buffer, struct piece *pieces, uint32_t bytes) {
  uint32_t count = 0;
  pieces[count].physical = physical_address(&buffer->headers);
  pieces[count++].bytes = sizeof buffer->headers;
  for (uint32_t i = 0; bytes > 0; i++) {
    pieces[count].physical = frame_for(buffer, i, bytes) << PAGE_SHIFT;
    pieces[count].bytes = bytes < PAGE_BYTES ? bytes : PAGE_BYTES;
    bytes -= pieces[count++].bytes;
  }
  return count;
}

/* Let the device have a buffer to receive into. */
static void offer(struct port *port, uint32_t number) {
  struct piece pieces[1 + PAGES];
  uint32_t count = describe(&port->buffers[number], pieces, MOST_MESSAGE);
  uint32_t head = virtio_offer(&port->queues[RECEIVE], 0, 0, pieces, count);
  port->owner[head] = (uint8_t)number;
}

static void port_interrupt(struct port *port) {
  uint32_t head, bytes;
  spin_lock(&port->lock);
  while (virtio_taken(&port->queues[RECEIVE], &head, &bytes)) {
    uint32_t number = port->owner[head];
    const struct headers *headers = &port->buffers[number].headers;
    if (headers->type == MESSAGE_TYPE && headers->bytes <= bytes - sizeof *headers) {
      port->arrived[port->arrivals++] = (uint8_t)number;
      thread_wake(&port->arrivals);
    } else {
      offer(port, number); /* some other frame */
    }
  }
  while (virtio_taken(&port->queues[TRANSMIT], &head, &bytes)) {
    port->sent = 1;
    thread_wake(&port->sent);
  }
  spin_unlock(&port->lock);
}

static void interrupt_0(void) { port_interrupt(&ports[0]); }
static void interrupt_1(void) { port_interrupt(&ports[1]); }
static void interrupt_2(void) { port_interrupt(&ports[2]); }
static void interrupt_3(void) { port_interrupt(&ports[3]); }
static void (*const interrupts[MAX_PORTS])(void) = {interrupt_0, interrupt_1, interrupt_2,
                                                    interrupt_3};

/* Return a port, started if need be, with its lock held; 0 if there is no such port. */
static struct port *find(uint32_t number) {
  if (number >= MAX_PORTS) return 0;
  struct port *port = &ports[number];
  spin_lock(&port->lock);
  if (port->state == 0) {
    uint32_t device = virtio_find(VIRTIO_NETWORK, number);
    port->state = device && virtio_start(device, port->queues, 2, interrupts[number]) ? 1 : 2;
    for (uint32_t i = 0; port->state == 1 && i < 6; i++)
      port->address[i] = (uint8_t)(virtio_config(device, i & 4) >> 8 * (i & 3));
    for (uint32_t i = 0; port->state == 1 && i < BUFFERS; i++)
      if (!fill(&port->buffers[i])) fail(0, "out of memory", EXIT_NO_RESOURCE);
    if (port->state == 1 && !fill_to_send(&port->sending))
      fail(0, "out of memory", EXIT_NO_RESOURCE);
    for (uint32_t i = 0; port->state == 1 && i < BUFFERS; i++) offer(port, i);
  }
  if (port->state == 1) return port;
  spin_unlock(&port->lock);
  return 0;
}

/* Numbers of addresses: the last two bytes count from 1. The network's own are before them
   (docs/architecture.md): in the fourth, whether virtual machines share it. */
static uint32_t number_of(const uint8_t *address) { return (address[4] << 8 | address[5]) - 1u; }
static uint32_t is_subnet(const struct port *port) { return port->address[3]; }

static void set_address(const struct port *port, uint8_t *address, uint32_t number) {
  for (uint32_t i = 0; i < 6; i++) address[i] = number == EVERYBODY ? 0xff : port->address[i];
  if (number == EVERYBODY) return;
  address[4] = (uint8_t)((number + 1) >> 8);
  address[5] = (uint8_t)(number + 1);
}

/* Say what address a port has, and whether it is on a subnet of several machines. Return 0 for a
   port that is not there. */
int port_address(uint32_t number, uint32_t *address, uint32_t *subnet) {
  struct port *port = find(number);
  if (!port) return 0;
  *address = number_of(port->address);
  *subnet = is_subnet(port);
  spin_unlock(&port->lock);
  return 1;
}

/* Copy between a buffer's pages and user memory. */
static void copy(const struct buffer *buffer, uint32_t address, uint32_t bytes, int from_user) {
  for (uint32_t i = 0; bytes > 0; i++) {
    uint32_t now = bytes < PAGE_BYTES ? bytes : PAGE_BYTES;
    void *page = kernel_address(frame_for(buffer, i, bytes) << PAGE_SHIFT);
    if (from_user)
      copy_bytes(page, (const void *)address, now);
    else
      copy_bytes((void *)address, page, now);
    address += now;
    bytes -= now;
  }
}

/* Give pages back that a message fills wholly: on a subnet their last receiver may be shown them,
   and the first store would copy what is dead. */
static void renew(const struct port *port, uint32_t bytes) {
  for (uint32_t i = 0; is_subnet(port) && i < bytes / PAGE_BYTES; i++)
    device_write(MARK_FREED, port->sending.frames[i] << PAGE_SHIFT);
}

/* Send user memory from a port to an address, or to EVERYBODY else; sleep until it is on its way.
   Return 0 for a port that is not there, or a message that is too long. */
int port_send(uint32_t number, uint32_t to, uint32_t address, uint32_t bytes) {
  struct port *port = bytes <= MOST_MESSAGE ? find(number) : 0;
  if (!port) return 0;
  while (port->sender) thread_sleep(&port->sender, &port->lock);
  port->sender = 1;
  spin_unlock(&port->lock); /* the user's memory may fault */
  struct headers *headers = &port->sending.headers;
  for (uint32_t i = 0; i < sizeof headers->virtio; i++) headers->virtio[i] = 0;
  set_address(port, headers->to, to);
  copy_bytes(headers->from, port->address, sizeof headers->from);
  headers->type = MESSAGE_TYPE;
  headers->sender = (uint16_t)number_of(port->address);
  headers->bytes = bytes;
  renew(port, bytes);
  copy(&port->sending, address, bytes, 1);
  struct piece pieces[1 + PAGES];
  uint32_t count = describe(&port->sending, pieces, bytes);
  spin_lock(&port->lock);
  port->sent = 0;
  virtio_offer(&port->queues[TRANSMIT], pieces, count, 0, 0);
  virtio_notify(&port->queues[TRANSMIT]);
  while (!port->sent) thread_sleep(&port->sent, &port->lock);
  port->sender = 0;
  thread_wake(&port->sender);
  spin_unlock(&port->lock);
  return 1;
}

/* Receive a message at a port into user memory, as much of it as there is room for; sleep until
   there is one. Say how long it was, and which address sent it. Return 0 for a port that is not
   there. */
int port_receive(uint32_t number, uint32_t address, uint32_t bytes, uint32_t *received,
                    uint32_t *from) {
  struct port *port = find(number);
  if (!port) return 0;
  while (!port->arrivals) thread_sleep(&port->arrivals, &port->lock);
  uint32_t taken = port->arrived[0];
  port->arrivals--;
  for (uint32_t i = 0; i < port->arrivals; i++) port->arrived[i] = port->arrived[i + 1];
  spin_unlock(&port->lock);
  const struct buffer *buffer = &port->buffers[taken];
  *received = buffer->headers.bytes;
  *from = buffer->headers.sender;
  copy(buffer, address, *received < bytes ? *received : bytes, 0);
  spin_lock(&port->lock);
  offer(port, taken);
  spin_unlock(&port->lock);
  return 1;
}
