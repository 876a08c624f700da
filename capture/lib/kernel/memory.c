/* Address spaces: two-level page tables, demand-zero faults, reserving the heap, and copies for new
   processes. Every root slot points to a table; slots not in use share a table of zeros (see
   tlb_refill). The slot of program text holds one table for all address spaces. */
#include "devices.h"

#define ROOT_SHIFT 22 /* 4 MiB for each root slot */
#define TABLE_ENTRIES 1024
#define USER_SLOTS (USER_END >> ROOT_SHIFT)

/* Set by the linker script. User symbols are virtual, with the physical place beside. */
extern char kernel_end[];
extern char user_text_start[], user_text_end[], user_text_physical[];
extern char user_data_start[], user_data_end[], user_data_physical[];
extern char user_bss_end[], user_image_physical_end[];

/* The kernel's own address space: what every other one has, too. */
static uint32_t *kernel_root[TABLE_ENTRIES] __attribute__((aligned(PAGE_BYTES)));
static uint32_t empty_table[TABLE_ENTRIES] __attribute__((aligned(PAGE_BYTES)));
int memory_zeroed_by_board;

static uint32_t entry_of(uint32_t frame, uint32_t flags) {
  return frame << PTE_FRAME_SHIFT | PTE_CACHED | PTE_VALID | flags;
}

static int is_text_slot(uint32_t slot) { return slot == (uint32_t)user_text_start >> ROOT_SHIFT; }

/* Return the page-table entry of an address; make its table if need be. */
static uint32_t *find_entry(struct process *process, uint32_t vaddr) {
  uint32_t slot = vaddr >> ROOT_SHIFT, **root = process->root;
  if (SHARED_READ(root[slot]) == empty_table) {
    spin_lock(&process->lock);
    if (root[slot] == empty_table) {
      uint32_t *table = (uint32_t *)window_take(CLASS_PAGE_TABLE);
      if (!table) fail(0, "no room for page tables", EXIT_NO_RESOURCE);
      SHARED_WRITE(root[slot], table);
    }
    spin_unlock(&process->lock);
  }
  return &root[slot][vaddr >> PAGE_SHIFT & (TABLE_ENTRIES - 1)];
}

/* Give a process an address space without user pages. Return 0 if there is no room. */
static int make_root(struct process *process) {
  uint32_t **root = (uint32_t **)window_take(CLASS_PAGE_TABLE);
  if (!root) return 0;
  for (uint32_t slot = 0; slot < TABLE_ENTRIES; slot++) root[slot] = kernel_root[slot];
  process->root = root;
  process->heap_end = USER_HEAP;
  process->mapped = 0;
  for (uint32_t i = 0; i < MAX_FILES; i++) process->files[i].first = 0;
  return 1;
}

static void map_image(struct process *process, uint32_t start, uint32_t end, uint32_t physical,
                      uint32_t flags, uint32_t class) {
  for (; start < end; start += PAGE_BYTES, physical += PAGE_BYTES) {
    *find_entry(process, start) = entry_of(physical >> PAGE_SHIFT, flags);
    mark_class(physical >> PAGE_SHIFT, class);
  }
}

/* Build the first page tables; runs on CPU 0 before any other CPU touches mapped memory. */
void memory_boot(uint32_t ram_bytes, struct process *first) {
  uint32_t end = ((uint32_t)kernel_end - KERNEL_BASE + PAGE_BYTES - 1) & -PAGE_BYTES;
  for (uint32_t i = 0; i < TABLE_ENTRIES; i++) kernel_root[i] = empty_table;
  kernel_process.root = kernel_root;
  window_boot(end);
  for (uint32_t frame = 0; frame < end >> PAGE_SHIFT; frame++) mark_class(frame, CLASS_KERNEL);
#if KERNEL_BASE == 0xc0000000
  /* All of RAM, for zeroing and copying frames and reading arguments; global, since every address
     space has it. */
  for (uint32_t pa = 0; pa < ram_bytes; pa += PAGE_BYTES)
    *find_entry(&kernel_process, KERNEL_BASE + pa) =
        entry_of(pa >> PAGE_SHIFT, PTE_DIRTY | PTE_GLOBAL);
#endif
  if (!make_root(first)) fail(0, "no room for page tables", EXIT_NO_RESOURCE);
  map_image(first, (uint32_t)user_text_start, (uint32_t)user_text_end,
            (uint32_t)user_text_physical, 0, CLASS_TEXT);
  map_image(first, (uint32_t)user_data_start, (uint32_t)user_data_end,
            (uint32_t)user_data_physical, PTE_DIRTY, CLASS_DATA);
  /* The last page of RAM holds the arguments. */
  frames_boot((uint32_t)user_image_physical_end >> PAGE_SHIFT, (ram_bytes >> PAGE_SHIFT) - 1);
}

/* Return the class of demand-zero memory at an address, or 0 if nothing may be there. */
static uint32_t demand_class(struct process *process, uint32_t vaddr) {
  if (vaddr >= USER_HEAP && vaddr < SHARED_READ(process->heap_end)) return CLASS_DATA;
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

/* Return the entry of a new page for an address, or 0 if nothing may be there: the page of a file
   that is mapped there, which may have to be waited for, or a page of zeros. */
static uint32_t new_page(struct process *process, uint32_t vaddr) {
  uint32_t run = 0, page = fs_page(process, vaddr, &run), frame;
  struct cached *cached = page ? cache_get(page, run) : 0;
  if (cached) {
    frame = cache_frame(cached);
    frame_share(frame);
    cache_put(cached, 0);
    return entry_of(frame, 0);
  }
  uint32_t class = demand_class(process, vaddr);
  if (!class) return 0;
  frame = frame_take(this_cpu());
  if (!frame) fail(0, "out of memory", EXIT_NO_RESOURCE);
  zero_frame(frame);
  mark_class(frame, class);
  return entry_of(frame, PTE_DIRTY);
}

/* Handle a reference that found no valid entry. Return 0 if the address is not the program's. The
   thread may sleep, and go on on another CPU. */
int memory_fault(struct cpu *me, uint32_t vaddr) {
  struct process *process = me->current->process; /* it stays the same wherever we wake */
  if (vaddr >= USER_END || process == &kernel_process) return 0;
  uint32_t *entry = find_entry(process, vaddr);
  uint32_t *even = (uint32_t *)((uint32_t)entry & ~4u);
  uint32_t present = SHARED_READ(*entry);
  /* A valid entry: another CPU mapped the page while this one held the invalid pair in its TLB. A
     store to a page without PTE_DIRTY then comes back as TLB-modified. */
  if (!(present & PTE_VALID)) {
    uint32_t page = new_page(process, vaddr), nothing = 0;
    if (!page) return 0;
    if (!__atomic_compare_exchange_n(entry, &nothing, page, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
      frame_give(PTE_FRAME(page)); /* two CPUs faulted on one page and the other was first */
  }
  tlb_replace(vaddr, SHARED_READ(even[0]), SHARED_READ(even[1]));
  return 1;
}

/* Clear the page-table entry of an address and return what it was, 0 if there is none. */
uint32_t memory_take_entry(struct process *process, uint32_t vaddr) {
  uint32_t *table = SHARED_READ(process->root[vaddr >> ROOT_SHIFT]);
  if (table == empty_table) return 0;
  return __atomic_exchange_n(&table[vaddr >> PAGE_SHIFT & (TABLE_ENTRIES - 1)], 0,
                             __ATOMIC_SEQ_CST);
}

/* Return the physical address of a user address whose page is mapped. */
uint32_t memory_physical(struct process *process, uint32_t vaddr) {
  uint32_t entry = SHARED_READ(*find_entry(process, vaddr));
  return PTE_FRAME(entry) << PAGE_SHIFT | (vaddr & (PAGE_BYTES - 1));
}

/* Reserve whole pages of heap and return their address, or 0. Addresses are not used twice. */
uint32_t memory_map(struct process *process, uint32_t bytes) {
  uint32_t address = 0;
  bytes = (bytes + PAGE_BYTES - 1) & -PAGE_BYTES;
  spin_lock(&process->lock);
  if (bytes > 0 && bytes <= USER_HEAP_END - process->heap_end) {
    address = process->heap_end;
    SHARED_WRITE(process->heap_end, process->heap_end + bytes);
  }
  spin_unlock(&process->lock);
  return address;
}

/* Give whole heap pages back: entries first, then every TLB, and only then the frames. A later
   reference to the range finds demand-zero pages again. Return 0 for a range outside the heap. */
int memory_unmap(struct cpu *me, uint32_t vaddr, uint32_t bytes) {
  struct process *process = me->current->process;
  uint32_t limit = SHARED_READ(process->heap_end);
  if (vaddr & (PAGE_BYTES - 1) || bytes & (PAGE_BYTES - 1)) return 0;
  if (vaddr < USER_HEAP || vaddr > limit || bytes > limit - vaddr) return 0;
  enum { BATCH = 64 };
  uint32_t frames[BATCH];
  while (bytes > 0) {
    uint32_t held = 0;
    for (; bytes > 0 && held < BATCH; vaddr += PAGE_BYTES, bytes -= PAGE_BYTES) {
      uint32_t old = __atomic_exchange_n(find_entry(process, vaddr), 0, __ATOMIC_SEQ_CST);
      if (old & PTE_VALID) frames[held++] = PTE_FRAME(old);
    }
    if (held) tlb_shootdown(me);
    while (held > 0) frame_give(frames[--held]);
  }
  return 1;
}

/* Make whole pages read-only, for good; pages that were never touched become zeros. Return 0 for a
   range that is not the program's. */
int memory_seal(struct cpu *me, uint32_t vaddr, uint32_t bytes) {
  struct process *process = me->current->process;
  if (vaddr & (PAGE_BYTES - 1) || bytes & (PAGE_BYTES - 1) || bytes > USER_END - vaddr) return 0;
  for (uint32_t end = vaddr + bytes; vaddr < end; vaddr += PAGE_BYTES) {
    if (!memory_fault(this_cpu(), vaddr)) return 0;
    __atomic_fetch_and(find_entry(process, vaddr), ~(PTE_DIRTY | PTE_CLEAN), __ATOMIC_SEQ_CST);
  }
  tlb_shootdown(this_cpu());
  return 1;
}

/* Note that whole pages have not been written from now on: the first store to each faults, and is
   repaired quickly. Pages that were never touched stay so. Return 0 for a range that is not the
   program's. */
int memory_clean(uint32_t vaddr, uint32_t bytes) {
  struct process *process = this_cpu()->current->process;
  if (vaddr & (PAGE_BYTES - 1) || bytes & (PAGE_BYTES - 1)) return 0;
  if (vaddr >= USER_END || bytes > USER_END - vaddr) return 0;
  for (uint32_t end = vaddr + bytes; vaddr < end; vaddr += PAGE_BYTES) {
    uint32_t *entry = find_entry(process, vaddr), old = SHARED_READ(*entry);
    while (old & PTE_DIRTY && !__atomic_compare_exchange_n(
               entry, &old, (old & ~PTE_DIRTY) | PTE_CLEAN, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
  }
  tlb_shootdown(this_cpu());
  return 1;
}

/* Handle a store to a page that the TLB holds without PTE_DIRTY. Return 0 if it is not allowed. */
int memory_modified(uint32_t vaddr) {
  struct process *process = this_cpu()->current->process;
  if (vaddr >= USER_END || process == &kernel_process) return 0;
  uint32_t *entry = find_entry(process, vaddr), old = SHARED_READ(*entry);
  uint32_t *even = (uint32_t *)((uint32_t)entry & ~4u);
  do {
    if (!(old & PTE_VALID)) return 1; /* taken away meanwhile: the store will find that out */
    if (!(old & (PTE_DIRTY | PTE_CLEAN))) return 0;
  } while (!__atomic_compare_exchange_n(entry, &old, (old | PTE_DIRTY) & ~PTE_CLEAN, 0,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  tlb_replace(vaddr, SHARED_READ(even[0]), SHARED_READ(even[1]));
  return 1;
}

/* Make the pages of a range present that the kernel is about to touch for the program. Return 0 if
   one of them is not the program's, or must not be written and should be. */
int memory_present(uint32_t vaddr, uint32_t bytes, int write) {
  struct process *process = this_cpu()->current->process;
  if (vaddr >= USER_END || bytes > USER_END - vaddr) return 0;
  for (uint32_t page = vaddr & -PAGE_BYTES; page < vaddr + bytes; page += PAGE_BYTES) {
    uint32_t entry = SHARED_READ(*find_entry(process, page));
    if (!(entry & PTE_VALID)) {
      if (!memory_fault(this_cpu(), page)) return 0;
      entry = SHARED_READ(*find_entry(process, page));
    }
    if (write && !(entry & (PTE_DIRTY | PTE_CLEAN))) return 0;
  }
  return 1;
}

static uint32_t copy_frame(struct cpu *me, uint32_t from, uint32_t class) {
  uint32_t frame = frame_take(me);
  if (!frame) fail(0, "out of memory", EXIT_NO_RESOURCE);
  const uint32_t *source = kernel_address(from << PAGE_SHIFT);
  uint32_t *word = kernel_address(frame << PAGE_SHIFT);
  for (uint32_t *end = word + PAGE_BYTES / 4; word < end; word += 4, source += 4) {
    uint32_t a = source[0], b = source[1], c = source[2], d = source[3];
    word[0] = a, word[1] = b, word[2] = c, word[3] = d;
  }
  mark_class(frame, class);
  return frame;
}

/* Give a child a copy of its parent's address space, which nobody changes meanwhile: what is
   read-only is shared, what can be written is copied. Return 0 if there is no room for its page
   tables; then it has none. */
int memory_copy(struct cpu *me, struct process *child, struct process *parent) {
  if (!make_root(child)) return 0;
  child->heap_end = parent->heap_end;
  copy_bytes(child->files, parent->files, sizeof child->files);
  copy_bytes(child->mappings, parent->mappings, sizeof child->mappings);
  SHARED_WRITE(child->mapped, parent->mapped); /* behind what it counts */
  for (uint32_t slot = 0; slot < USER_SLOTS; slot++) {
    const uint32_t *from = parent->root[slot];
    if (from == empty_table) continue;
    if (is_text_slot(slot)) {
      child->root[slot] = parent->root[slot];
      continue;
    }
    uint32_t *to = (uint32_t *)window_take(CLASS_PAGE_TABLE);
    if (!to) {
      memory_free(child);
      return 0;
    }
    child->root[slot] = to;
    uint32_t class = slot == (USER_STACK_TOP - 1) >> ROOT_SHIFT ? CLASS_STACK : CLASS_DATA;
    for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
      uint32_t entry = SHARED_READ(from[i]), frame = PTE_FRAME(entry);
      if (!(entry & PTE_VALID)) continue;
      if (entry & (PTE_DIRTY | PTE_CLEAN)) {
        to[i] = entry_of(copy_frame(me, frame, class), PTE_DIRTY);
      } else {
        frame_share(frame);
        if (SHARED_READ(from[i]) == entry)
          to[i] = entry;
        else
          frame_give(frame); /* a file's page that fs_unmap() has taken meanwhile */
      }
    }
  }
  return 1;
}

/* Take an address space apart. No CPU runs in it; TLBs may still hold entries of its ASID. */
void memory_free(struct process *process) {
  spin_lock(&process->lock); /* fs_unmap() looks at processes with mappings only */
  process->mapped = 0;
  spin_unlock(&process->lock);
  for (uint32_t slot = 0; slot < USER_SLOTS; slot++) {
    uint32_t *table = process->root[slot];
    if (table == empty_table || is_text_slot(slot)) continue;
    for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
      if (table[i] & PTE_VALID) frame_give(PTE_FRAME(table[i]));
    window_give((uint32_t)table);
  }
  window_give((uint32_t)process->root);
  process->root = 0;
}
