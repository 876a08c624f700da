/* Declarations of virtio devices and what stands on them: page cache, files, messages. */
#ifndef DEVICES_H
#define DEVICES_H

#include "kernel.h"

/* virtio.c: one split virtqueue, its rings in a page of the kernel's window (VIRTIO 1.2, 2.7). */
#define QUEUE_ENTRIES 64
#define VIRTIO_NETWORK 1
#define VIRTIO_BLOCK 2
struct virtqueue {
  uint32_t device; /* physical address of the slot, 0 while there is none */
  uint32_t number;
  struct descriptor *table;
  struct available *available;
  struct used *used;
  uint32_t first_free, free; /* list of free descriptors, and how many they are */
  uint16_t offered, seen;    /* entries of the rings so far */
};
/* A piece of memory for a device. */
struct piece {
  uint32_t physical, bytes;
};
uint32_t virtio_find(uint32_t kind, uint32_t which);
int virtio_start(uint32_t device, struct virtqueue *queues, uint32_t count, void (*interrupt)(void));
uint32_t virtio_offer(struct virtqueue *queue, const struct piece *out, uint32_t outs,
                      const struct piece *in, uint32_t ins);
void virtio_notify(const struct virtqueue *queue);
int virtio_taken(struct virtqueue *queue, uint32_t *head, uint32_t *bytes);
void virtio_interrupt(void);
static inline uint32_t virtio_config(uint32_t device, uint32_t offset) {
  return device_read(device + 0x100 + offset);
}

/* block.c: transfers of whole pages. The cache's lock is held by callers, and while `done` runs. */
#define MOST_TRANSFER 16 /* pages of one request */
int block_boot(void (*done)(uint32_t page, uint32_t count, int write));
uint32_t block_pages(void); /* on the disk */
int block_start(uint32_t page, const uint32_t *frames, uint32_t count, int write);

/* cache.c: pages of the disk in memory. */
#define CACHE_LIMIT 4096
#define READAHEAD 8 /* pages */
#define MOST_UNMAPPED 16 /* pages that are taken from programs at once */
struct cached;
extern uint32_t cache_pages; /* the most that are kept (os.cache) */
struct cached *cache_get(uint32_t page, uint32_t run);
void cache_put(struct cached *entry, int written);
void cache_ahead(uint32_t page, uint32_t run);
uint32_t cache_frame(const struct cached *entry);
uint32_t cache_sync(void);

/* file.c */
uint32_t fs_open(struct process *process, const char *name);
int fs_close(struct process *process, uint32_t handle);
uint32_t fs_size(struct process *process, uint32_t handle);
uint32_t fs_transfer(struct process *process, uint32_t handle, uint32_t offset, uint32_t address,
                     uint32_t bytes, int write);
uint32_t fs_map(struct process *process, uint32_t handle, uint32_t offset, uint32_t bytes);
uint32_t fs_page(struct process *process, uint32_t vaddr, uint32_t *run);
void fs_unmap(const uint32_t *pages, uint32_t count);

/* message.c */
#define MOST_MESSAGE (15 * PAGE_BYTES)
int port_address(uint32_t port, uint32_t *address, uint32_t *subnet);
int port_send(uint32_t port, uint32_t to, uint32_t address, uint32_t bytes);
int port_receive(uint32_t port, uint32_t address, uint32_t bytes, uint32_t *received,
                 uint32_t *from);

/* Copy between kernel and user memory, or within either; touching user memory may fault. */
void copy_bytes(void *to, const void *from, uint32_t bytes);

#endif
