/* The address space: two-level page tables, demand-zero faults, and reserving the heap.
   Every root slot points to a table; slots not in use share a table of zeros (see tlb_refill). */
#include "kernel.h"

#define ROOT_SHIFT 22 /* 4 MiB for each root slot */
#define TABLE_ENTRIES 1024

/* Set by the linker script. User symbols are virtual, with the physical place beside. */
extern char kernel_end[];
extern char user_text_start[], user_text_end[], user_text_physical[];
extern char user_data_start[], user_data_end[], user_data_physical[];
extern char user_bss_end[], user_image_physical_end[];

uint32_t *page_root[TABLE_ENTRIES] __attribute__((aligned(PAGE_BYTES)));
static uint32_t empty_table[TABLE_ENTRIES] __attribute__((aligned(PAGE_BYTES)));

static struct spinlock table_lock; /* guards root slots and the pool */
static uint32_t pool_next;         /* physical */
static struct spinlock heap_lock;
static uint32_t heap_end = USER_HEAP;
int memory_zeroed_by_board;

static uint32_t entry_of(uint32_t frame, uint32_t flags) {
  return frame << PTE_FRAME_SHIFT | PTE_CACHED | PTE_VALID | flags;
}

/* Return the page-table entry of an address; make its table if need be. */
static uint32_t *find_entry(uint32_t vaddr) {
  uint32_t slot = vaddr >> ROOT_SHIFT;
  if (SHARED_READ(page_root[slot]) == empty_table) {
    spin_lock(&table_lock);
    if (page_root[slot] == empty_table) {
      uint32_t stacks = KERNEL_WINDOW - (cpu_total << KERNEL_STACK_SHIFT);
      if (pool_next + PAGE_BYTES > stacks) fail(0, "no room for page tables", EXIT_NO_RESOURCE);
      uint32_t *table = kernel_address(pool_next);
      mark_class(pool_next >> PAGE_SHIFT, CLASS_PAGE_TABLE);
      pool_next += PAGE_BYTES;
      for (uint32_t i = 0; i < TABLE_ENTRIES; i++) table[i] = 0;
      SHARED_WRITE(page_root[slot], table);
    }
    spin_unlock(&table_lock);
  }
  return &page_root[slot][vaddr >> PAGE_SHIFT & (TABLE_ENTRIES - 1)];
}

static void map_image(uint32_t start, uint32_t end, uint32_t physical, uint32_t flags,
                      uint32_t class) {
  for (; start < end; start += PAGE_BYTES, physical += PAGE_BYTES) {
    *find_entry(start) = entry_of(physical >> PAGE_SHIFT, flags);
    mark_class(physical >> PAGE_SHIFT, class);
  }
}

/* Build the page tables; runs on CPU 0 before any other CPU touches mapped memory. */
void memory_boot(uint32_t ram_bytes) {
  uint32_t kernel_bytes = (uint32_t)kernel_end - KERNEL_BASE;
  for (uint32_t i = 0; i < TABLE_ENTRIES; i++) page_root[i] = empty_table;
  pool_next = (kernel_bytes + PAGE_BYTES - 1) & -PAGE_BYTES;
  for (uint32_t frame = 0; frame < pool_next >> PAGE_SHIFT; frame++)
    mark_class(frame, CLASS_KERNEL);
#if KERNEL_BASE == 0xc0000000
  /* All of RAM, for zeroing frames and reading arguments; global, as every thread enters here. */
  for (uint32_t pa = 0; pa < ram_bytes; pa += PAGE_BYTES)
    *find_entry(KERNEL_BASE + pa) = entry_of(pa >> PAGE_SHIFT, PTE_DIRTY | PTE_GLOBAL);
#endif
  map_image((uint32_t)user_text_start, (uint32_t)user_text_end, (uint32_t)user_text_physical, 0,
            CLASS_TEXT);
  map_image((uint32_t)user_data_start, (uint32_t)user_data_end, (uint32_t)user_data_physical,
            PTE_DIRTY, CLASS_DATA);
  /* The last page of RAM holds the arguments. */
  frames_boot((uint32_t)user_image_physical_end >> PAGE_SHIFT, (ram_bytes >> PAGE_SHIFT) - 1);
}

/* Return the class of demand-zero memory at an address, or 0 if nothing may be there. */
static uint32_t demand_class(uint32_t vaddr) {
  if (vaddr >= USER_HEAP && vaddr < SHARED_READ(heap_end)) return CLASS_DATA;
  if (vaddr >= (uint32_t)user_data_end && vaddr < (uint32_t)user_bss_end) return CLASS_DATA;
  uint32_t below = USER_STACK_TOP - 1 - vaddr;
  if (vaddr < USER_STACK_TOP && below / USER_STACK_STRIDE < cpu_total &&
      below % USER_STACK_STRIDE < USER_STACK_STRIDE - PAGE_BYTES)
    return CLASS_STACK;
  return 0;
}

static void zero_frame(uint32_t frame) {
  if (memory_zeroed_by_board) {
    device_write(MARK_ZERO, frame << PAGE_SHIFT);
    return;
  }
  uint32_t *word = kernel_address(frame << PAGE_SHIFT);
  for (uint32_t *end = word + PAGE_BYTES / 4; word < end; word += 4)
    word[0] = word[1] = word[2] = word[3] = 0;
}

/* Handle a reference that found no valid entry. Return 0 if the address is not the program's. */
int memory_fault(struct cpu *me, uint32_t vaddr) {
  if (vaddr >= USER_END) return 0;
  uint32_t *entry = find_entry(vaddr);
  uint32_t *even = (uint32_t *)((uint32_t)entry & ~4u);
  uint32_t present = SHARED_READ(*entry);
  /* A valid entry: another CPU mapped the page while this one held the invalid pair in its TLB. A
     store to a page without PTE_DIRTY then comes back as TLB-modified, which is final. */
  if (!(present & PTE_VALID)) {
    uint32_t class = demand_class(vaddr);
    if (!class) return 0;
    uint32_t frame = frame_take(me);
    if (!frame) fail(0, "out of memory", EXIT_NO_RESOURCE);
    zero_frame(frame);
    mark_class(frame, class);
    uint32_t nothing = 0;
    if (!__atomic_compare_exchange_n(entry, &nothing, entry_of(frame, PTE_DIRTY), 0,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      frame_give(frame); /* two CPUs faulted on one page and the other was first */
  }
  tlb_replace(vaddr, SHARED_READ(even[0]), SHARED_READ(even[1]));
  return 1;
}

/* Reserve whole pages of heap and return their address, or 0. Addresses are not used twice. */
uint32_t memory_map(uint32_t bytes) {
  uint32_t address = 0;
  bytes = (bytes + PAGE_BYTES - 1) & -PAGE_BYTES;
  spin_lock(&heap_lock);
  if (bytes > 0 && bytes <= USER_HEAP_END - heap_end) {
    address = heap_end;
    SHARED_WRITE(heap_end, heap_end + bytes);
  }
  spin_unlock(&heap_lock);
  return address;
}

/* Give whole heap pages back: entries first, then every TLB, and only then the frames. A later
   reference to the range finds demand-zero pages again. Return 0 for a range outside the heap. */
int memory_unmap(struct cpu *me, uint32_t vaddr, uint32_t bytes) {
  uint32_t limit = SHARED_READ(heap_end);
  if (vaddr & (PAGE_BYTES - 1) || bytes & (PAGE_BYTES - 1)) return 0;
  if (vaddr < USER_HEAP || vaddr > limit || bytes > limit - vaddr) return 0;
  enum { BATCH = 64 };
  uint32_t frames[BATCH];
  while (bytes > 0) {
    uint32_t held = 0;
    for (; bytes > 0 && held < BATCH; vaddr += PAGE_BYTES, bytes -= PAGE_BYTES) {
      uint32_t old = __atomic_exchange_n(find_entry(vaddr), 0, __ATOMIC_SEQ_CST);
      if (old & PTE_VALID) frames[held++] = old >> PTE_FRAME_SHIFT;
    }
    if (held) tlb_shootdown(me);
    while (held > 0) frame_give(frames[--held]);
  }
  return 1;
}
