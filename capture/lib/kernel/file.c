/* Files on the disk: a table in its first page, and an extent of pages for each. A file keeps its
   name, place and size; its bytes can be read, written and mapped, all through the page cache. */
#include "devices.h"

#define MAGIC 0x53465444 /* "DTFS" */
#define VERSION 1
#define TABLE_AT 64
#define FILE_NAME_BYTES 48

struct table {
  uint32_t magic, version, files, pages;
};
struct table_entry {
  char name[FILE_NAME_BYTES];
  uint32_t first, bytes, unused[2];
};
_Static_assert(sizeof(struct table_entry) == 64, "layout on the disk");
#define MOST_FILES (PAGE_BYTES / sizeof(struct table_entry) - 1)

static int same(const char *a, const char *b) {
  for (uint32_t i = 0; i < FILE_NAME_BYTES; i++) {
    if (a[i] != b[i]) return 0;
    if (a[i] == 0) return 1;
  }
  return 0;
}

/* Look a name up; return 0 if there is no disk, none with files, or no such file. */
static int look_up(const char *name, struct open_file *file) {
  struct cached *entry = cache_get(0, 1);
  if (!entry) return 0;
  const struct table *table = kernel_address(cache_frame(entry) << PAGE_SHIFT);
  const struct table_entry *found = (const void *)((const char *)table + TABLE_AT);
  uint32_t left = table->magic == MAGIC && table->version == VERSION ? table->files : 0;
  if (left > MOST_FILES) left = MOST_FILES;
  while (left > 0 && !same(found->name, name)) found++, left--;
  if (left > 0) {
    file->first = found->first;
    file->bytes = found->bytes;
    file->next = 0;
  }
  cache_put(entry, 0);
  return left > 0 && file->first != 0;
}

/* Open a file; return a handle, or ~0 if there is no such file or no handle left. */
uint32_t fs_open(struct process *process, const char *name) {
  struct open_file file;
  if (!look_up(name, &file)) return ~0u;
  uint32_t handle = 0;
  spin_lock(&process->lock);
  while (handle < MAX_FILES && process->files[handle].first) handle++;
  if (handle < MAX_FILES) {
    process->files[handle].first = file.first;
    process->files[handle].bytes = file.bytes;
    process->files[handle].next = file.first; /* from the start is in order */
  }
  spin_unlock(&process->lock);
  return handle < MAX_FILES ? handle : ~0u;
}

static struct open_file *find(struct process *process, uint32_t handle) {
  return handle < MAX_FILES && process->files[handle].first ? &process->files[handle] : 0;
}

int fs_close(struct process *process, uint32_t handle) {
  struct open_file *file = find(process, handle);
  if (!file) return 0;
  SHARED_WRITE(file->first, 0);
  return 1;
}

/* Return the length in bytes, or ~0 for a bad handle. */
uint32_t fs_size(struct process *process, uint32_t handle) {
  struct open_file *file = find(process, handle);
  return file ? file->bytes : ~0u;
}

/* Tell whether a piece of at most a page touches a mapped file. */
static int is_mapped(struct process *process, uint32_t address, uint32_t bytes) {
  uint32_t run;
  return fs_page(process, address, &run) || fs_page(process, address + bytes - 1, &run);
}

/* Copy between a file, from a byte offset on, and user memory; return how many bytes there were,
   or ~0 for a bad handle. Reading in order loads pages ahead.

   What is written from a mapped file goes by way of a page of the kernel's: the copy out of it may
   fault and wait for room in the cache, which nobody may who has a page there. */
uint32_t fs_transfer(struct process *process, uint32_t handle, uint32_t offset, uint32_t address,
                     uint32_t bytes, int write) {
  struct open_file *file = find(process, handle);
  if (!file) return ~0u;
  uint32_t first = file->first, size = file->bytes, moved = 0;
  if (offset >= size) return 0;
  if (bytes > size - offset) bytes = size - offset;
  uint32_t end = first + (size + PAGE_BYTES - 1) / PAGE_BYTES; /* of the extent */
  uint32_t aside = 0;
  while (moved < bytes) {
    uint32_t at = offset + moved, page = first + (at >> PAGE_SHIFT), in_page = at % PAGE_BYTES;
    uint32_t now = PAGE_BYTES - in_page < bytes - moved ? PAGE_BYTES - in_page : bytes - moved;
    int in_order = page == file->next || page + 1 == file->next;
    uint32_t left = end - page, run = in_order && left > READAHEAD ? READAHEAD : left;
    if (!in_order) run = 1;
    const void *source = (const void *)(address + moved);
    if (write && is_mapped(process, address + moved, now)) {
      if (!aside && !(aside = window_take(CLASS_KERNEL)))
        fail(0, "no room to write from a file", EXIT_NO_RESOURCE);
      copy_bytes((void *)aside, source, now);
      source = (const void *)aside;
    }
    struct cached *entry = cache_get(page, run);
    if (!entry) break; /* an extent beyond the end of the disk */
    if (page == file->next && left > 1)
      cache_ahead(page + 1, left - 1 < READAHEAD ? left - 1 : READAHEAD);
    if (file->next != page + 1) file->next = page + 1;
    char *cached = (char *)kernel_address(cache_frame(entry) << PAGE_SHIFT) + in_page;
    if (write)
      copy_bytes(cached, source, now);
    else
      copy_bytes((void *)(address + moved), cached, now);
    cache_put(entry, write);
    moved += now;
  }
  if (aside) window_give(aside);
  return moved;
}

/* Reserve addresses for whole pages of a file, which are there, read-only, when touched. Return the
   first address, or 0. */
uint32_t fs_map(struct process *process, uint32_t handle, uint32_t offset, uint32_t bytes) {
  struct open_file *file = find(process, handle);
  if (!file || offset % PAGE_BYTES || offset >= file->bytes || bytes > file->bytes - offset)
    return 0;
  uint32_t first = file->first + offset / PAGE_BYTES;
  uint32_t address = memory_map(process, bytes);
  if (!address) return 0;
  spin_lock(&process->lock);
  uint32_t number = process->mapped;
  if (number < MAX_MAPPINGS) {
    struct file_mapping *mapping = &process->mappings[number];
    mapping->start = address;
    mapping->end = address + ((bytes + PAGE_BYTES - 1) & -PAGE_BYTES);
    mapping->first = first;
    SHARED_WRITE(process->mapped, number + 1);
  }
  spin_unlock(&process->lock);
  return number < MAX_MAPPINGS ? address : 0;
}

/* Return the page of the disk that is mapped at an address, or 0; and how many follow. */
uint32_t fs_page(struct process *process, uint32_t vaddr, uint32_t *run) {
  uint32_t mapped = SHARED_READ(process->mapped);
  for (uint32_t i = 0; i < mapped; i++) {
    const struct file_mapping *mapping = &process->mappings[i];
    if (vaddr < mapping->start || vaddr >= mapping->end) continue;
    uint32_t left = (mapping->end - vaddr + PAGE_BYTES - 1) >> PAGE_SHIFT;
    *run = left < READAHEAD ? left : READAHEAD;
    return mapping->first + ((vaddr - mapping->start) >> PAGE_SHIFT);
  }
  return 0;
}

/* Take pages of the disk from every address space that has them mapped, and return when no TLB
   knows them; the next reference faults again. The cache keeps them meanwhile. */
void fs_unmap(const uint32_t *pages, uint32_t count) {
  uint32_t frames[MOST_UNMAPPED], given[MOST_UNMAPPED], total = 0;
  for (uint32_t i = 0; i < count; i++) given[i] = 0;
  for (uint32_t slot = 0; slot < MAX_PROCESSES; slot++) {
    struct process *process = &processes[slot];
    spin_lock(&process->lock); /* its page tables stay, see memory_free() */
    for (uint32_t m = 0; m < process->mapped; m++) {
      const struct file_mapping *mapping = &process->mappings[m];
      uint32_t mapped = (mapping->end - mapping->start) >> PAGE_SHIFT;
      for (uint32_t i = 0; i < count; i++) {
        if (pages[i] - mapping->first >= mapped) continue;
        uint32_t vaddr = mapping->start + ((pages[i] - mapping->first) << PAGE_SHIFT);
        uint32_t old = memory_take_entry(process, vaddr);
        if (!(old & PTE_VALID)) continue;
        frames[i] = PTE_FRAME(old);
        given[i]++;
        total++;
      }
    }
    spin_unlock(&process->lock);
  }
  if (!total) return;
  tlb_shootdown(this_cpu());
  for (uint32_t i = 0; i < count; i++)
    for (; given[i] > 0; given[i]--) frame_give(frames[i]);
}
