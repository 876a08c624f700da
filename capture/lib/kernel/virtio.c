/* virtio over MMIO, version 2: finding and starting devices, their queues and interrupts.
   Section numbers are those of VIRTIO 1.2. */
#include "devices.h"

/* Registers of a slot (4.2.2). */
#define MAGIC 0x00
#define DEVICE_ID 0x08
#define DRIVER_FEATURES 0x20
#define DRIVER_FEATURES_SEL 0x24
#define QUEUE_SEL 0x30
#define QUEUE_NUM_MAX 0x34
#define QUEUE_NUM 0x38
#define QUEUE_READY 0x44
#define QUEUE_NOTIFY 0x50
#define INTERRUPT_STATUS 0x60
#define INTERRUPT_ACK 0x64
#define STATUS 0x70
#define QUEUE_DESC 0x80
#define QUEUE_DRIVER 0x90
#define QUEUE_DEVICE 0xa0

#define MAGIC_VALUE 0x74726976
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define FEATURE_VERSION_1 1 /* bit 32: bit 0 of the second word */

#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_WRITE 2

struct descriptor {
  uint32_t physical, physical_high, bytes;
  uint16_t flags, next;
};
struct available {
  uint16_t flags, index, ring[QUEUE_ENTRIES];
};
struct used {
  uint16_t flags, index;
  struct {
    uint32_t head, bytes;
  } ring[QUEUE_ENTRIES];
};
/* Where they lie in the queue's page. */
#define AVAILABLE_AT 1024
#define USED_AT 2048
_Static_assert(sizeof(struct descriptor) * QUEUE_ENTRIES <= AVAILABLE_AT, "a queue fits its page");
_Static_assert(AVAILABLE_AT + sizeof(struct available) <= USED_AT, "a queue fits its page");
_Static_assert(USED_AT + sizeof(struct used) <= PAGE_BYTES, "a queue fits its page");

/* Who is told of an interrupt. */
static struct spinlock handlers_lock;
static struct {
  uint32_t device;
  void (*handle)(void);
} handlers[VIRTIO_SLOTS];
static uint32_t handler_count;

/* Return the address of the which-th device of a kind, or 0. */
uint32_t virtio_find(uint32_t kind, uint32_t which) {
  for (uint32_t slot = 0; slot < VIRTIO_SLOTS; slot++) {
    uint32_t device = VIRTIO + slot * VIRTIO_SLOT_BYTES;
    if (device_read(device + MAGIC) != MAGIC_VALUE || device_read(device + DEVICE_ID) != kind)
      continue;
    if (which-- == 0) return device;
  }
  return 0;
}

static int start_queue(struct virtqueue *queue, uint32_t device, uint32_t number) {
  uint32_t page = window_take(CLASS_KERNEL);
  if (!page) return 0;
  queue->device = device;
  queue->number = number;
  queue->table = (struct descriptor *)page;
  queue->available = (struct available *)(page + AVAILABLE_AT);
  queue->used = (struct used *)(page + USED_AT);
  queue->offered = queue->seen = 0;
  queue->first_free = 0;
  queue->free = QUEUE_ENTRIES;
  for (uint32_t i = 0; i < QUEUE_ENTRIES; i++) queue->table[i].next = (uint16_t)(i + 1);
  device_write(device + QUEUE_SEL, number);
  if (device_read(device + QUEUE_NUM_MAX) < QUEUE_ENTRIES) return 0;
  device_write(device + QUEUE_NUM, QUEUE_ENTRIES);
  uint32_t physical = physical_address(queue->table);
  for (uint32_t half = 0; half < 8; half += 4) {
    device_write(device + QUEUE_DESC + half, half ? 0 : physical);
    device_write(device + QUEUE_DRIVER + half, half ? 0 : physical + AVAILABLE_AT);
    device_write(device + QUEUE_DEVICE + half, half ? 0 : physical + USED_AT);
  }
  device_write(device + QUEUE_READY, 1);
  return 1;
}

/* Start a device with its queues 0, 1 ... (3.1.1), none of its options taken. Return 0 if it does
   not want to. */
int virtio_start(uint32_t device, struct virtqueue *queues, uint32_t count,
                 void (*interrupt)(void)) {
  uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
  device_write(device + STATUS, 0);
  device_write(device + STATUS, STATUS_ACKNOWLEDGE);
  device_write(device + STATUS, status);
  for (uint32_t word = 0; word < 2; word++) {
    device_write(device + DRIVER_FEATURES_SEL, word);
    device_write(device + DRIVER_FEATURES, word ? FEATURE_VERSION_1 : 0);
  }
  status |= STATUS_FEATURES_OK;
  device_write(device + STATUS, status);
  if (!(device_read(device + STATUS) & STATUS_FEATURES_OK)) return 0;
  for (uint32_t i = 0; i < count; i++)
    if (!start_queue(&queues[i], device, i)) return 0;
  spin_lock(&handlers_lock);
  handlers[handler_count].device = device;
  handlers[handler_count].handle = interrupt;
  SHARED_WRITE(handler_count, handler_count + 1);
  spin_unlock(&handlers_lock);
  device_write(device + STATUS, status | STATUS_DRIVER_OK);
  return 1;
}

/* Offer a chain: pieces that the device reads, then pieces that it writes; there must be as many
   free descriptors. Return its head, by which it will come back. */
uint32_t virtio_offer(struct virtqueue *queue, const struct piece *out, uint32_t outs,
                      const struct piece *in, uint32_t ins) {
  uint32_t head = queue->first_free, at = head, last = head;
  for (uint32_t i = 0; i < outs + ins; i++) {
    const struct piece *piece = i < outs ? &out[i] : &in[i - outs];
    struct descriptor *descriptor = &queue->table[at];
    descriptor->physical = piece->physical;
    descriptor->physical_high = 0;
    descriptor->bytes = piece->bytes;
    descriptor->flags = DESCRIPTOR_NEXT | (i < outs ? 0 : DESCRIPTOR_WRITE);
    last = at;
    at = descriptor->next; /* the free list is the chain */
  }
  queue->table[last].flags &= ~DESCRIPTOR_NEXT;
  queue->first_free = at;
  queue->free -= outs + ins;
  queue->available->ring[queue->offered % QUEUE_ENTRIES] = (uint16_t)head;
  queue->offered++;
  SHARED_WRITE(queue->available->index, queue->offered); /* behind all that it stands for */
  return head;
}

void virtio_notify(const struct virtqueue *queue) {
  device_write(queue->device + QUEUE_NOTIFY, queue->number);
}

/* Take a chain back that the device is done with; return 0 if there is none. */
int virtio_taken(struct virtqueue *queue, uint32_t *head, uint32_t *bytes) {
  if (SHARED_READ(queue->used->index) == queue->seen) return 0;
  uint32_t entry = queue->seen % QUEUE_ENTRIES;
  *head = queue->used->ring[entry].head;
  *bytes = queue->used->ring[entry].bytes;
  queue->seen++;
  uint32_t last = *head;
  for (queue->free++; queue->table[last].flags & DESCRIPTOR_NEXT; queue->free++)
    last = queue->table[last].next;
  queue->table[last].next = (uint16_t)queue->first_free;
  queue->first_free = *head;
  return 1;
}

/* The interrupt of all devices. Acknowledged first: what comes after raises the line again. */
void virtio_interrupt(void) {
  uint32_t count = SHARED_READ(handler_count);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t device = handlers[i].device, why = device_read(device + INTERRUPT_STATUS);
    if (!why) continue;
    device_write(device + INTERRUPT_ACK, why);
    if (device_read(device + STATUS) & STATUS_NEEDS_RESET)
      fail(0, "a device refuses what we told it", EXIT_KERNEL_FAULT);
    handlers[i].handle();
  }
}

void copy_bytes(void *to, const void *from, uint32_t bytes) {
  uint8_t *target = to;
  const uint8_t *source = from;
  if ((((uint32_t)target | (uint32_t)source) & 3) == 0) {
    for (; bytes >= 16; bytes -= 16, target += 16, source += 16) {
      const uint32_t *word = (const uint32_t *)source;
      uint32_t a = word[0], b = word[1], c = word[2], d = word[3];
      uint32_t *into = (uint32_t *)target;
      into[0] = a, into[1] = b, into[2] = c, into[3] = d;
    }
  }
  for (; bytes > 0; bytes--) *target++ = *source++;
}
