/* The disk: requests for runs of pages. The cache's lock guards everything here. */
#include "devices.h"

#define TYPE_READ 0
#define TYPE_WRITE 1
#define STATUS_DONE 0
#define SECTORS_PER_PAGE (PAGE_BYTES / 512)

struct request {
  struct {
    uint32_t type, reserved, sector, sector_high;
  } header;
  uint8_t status; /* the device writes it */
  uint32_t page, count;
};

static struct virtqueue disk;
static struct request requests[QUEUE_ENTRIES]; /* by the head of their chain */
static uint32_t pages;
static void (*completed)(uint32_t page, uint32_t count, int write);
void cache_interrupt(void); /* takes the lock, and calls block_interrupt() */
void block_interrupt(void);

/* Start the first disk; return 0 if there is none. `done` is called for each request. */
int block_boot(void (*done)(uint32_t page, uint32_t count, int write)) {
  uint32_t device = virtio_find(VIRTIO_BLOCK, 0);
  completed = done;
  if (!device || !virtio_start(device, &disk, 1, cache_interrupt)) return 0;
  /* The capacity in sectors. Pages beyond 2^32, 16 TiB, are out of reach. */
  uint32_t low = virtio_config(device, 0), high = virtio_config(device, 4);
  pages = high >> 3 ? ~0u : low / SECTORS_PER_PAGE | high << 29;
  return 1;
}

uint32_t block_pages(void) { return pages; }

/* Read or write a run of at most MOST_TRANSFER pages. Return 0 if the queue is full. */
int block_start(uint32_t page, const uint32_t *frames, uint32_t count, int write) {
  if (disk.free < count + 2) return 0;
  /* The request that belongs to the chain's head, which virtio_offer() takes from the list. */
  struct request *request = &requests[disk.first_free];
  request->header.type = write ? TYPE_WRITE : TYPE_READ;
  request->header.sector = page * SECTORS_PER_PAGE;
  request->header.sector_high = page >> 29;
  request->status = 0xff;
  request->page = page;
  request->count = count;
  struct piece pieces[MOST_TRANSFER + 2];
  pieces[0].physical = physical_address(&request->header);
  pieces[0].bytes = sizeof request->header;
  for (uint32_t i = 0; i < count; i++) {
    pieces[1 + i].physical = frames[i] << PAGE_SHIFT;
    pieces[1 + i].bytes = PAGE_BYTES;
  }
  pieces[1 + count].physical = physical_address(&request->status);
  pieces[1 + count].bytes = 1;
  uint32_t outs = write ? 1 + count : 1;
  virtio_offer(&disk, pieces, outs, pieces + outs, count + 2 - outs);
  virtio_notify(&disk);
  return 1;
}

void block_interrupt(void) {
  uint32_t head, bytes;
  while (virtio_taken(&disk, &head, &bytes)) {
    struct request *request = &requests[head];
    if (SHARED_READ(request->status) != STATUS_DONE)
      fail(0, "the disk reports an error", EXIT_NO_RESOURCE);
    completed(request->page, request->count, request->header.type == TYPE_WRITE);
  }
}
