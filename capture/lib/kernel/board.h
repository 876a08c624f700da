/* The board and the memory map of the library OS, for C and assembly.

   physical               use
   0x00000000             exception vectors (refill +0x000, general +0x180)
   0x00001000             kernel image: text, data, bss
   behind it              pages for page tables and the threads' kernel stacks, growing up
   ... 0x00200000         the CPUs' own stacks for boot and idling, a page each, CPU 0 at the top
   0x00200000             user image (text, then data), loaded by the board
   behind it              frames for demand-zero and copied pages, handed out in ascending order
   last page of RAM       arguments, put there by the board

   virtual (user)         use, in each address space
   0x00400000             user text and read-only data
   0x00800000 and up      user data and bss
   0x10000000             heap: what pages_map() reserves
   ... 0x7fff0000         user stacks, one a thread, 512 KiB apart, the lowest page of each a guard

   The kernel reaches physical memory at KERNEL_BASE + physical and devices at DEVICE_BASE +
   physical. Linked at KSEG0 these are 0x80000000 and 0xa0000000; linked in the supervisor segment
   both are 0xc0000000 and go through the TLB. */
#ifndef BOARD_H
#define BOARD_H

#define MAX_CPUS 64
#define PAGE_BYTES 4096
#define PAGE_SHIFT 12
#define LINE_BYTES 128 /* second-level line: what must not be shared falsely */

#define KERNEL_WINDOW 0x00200000 /* physical end of image, tables and stacks */
#define KERNEL_STACK_SHIFT 12
#define KERNEL_STACKS_TOP (KERNEL_BASE + KERNEL_WINDOW)
#define RAM_MAX 0x10000000

#define USER_HEAP 0x10000000
#define USER_HEAP_END 0x70000000
#define USER_STACK_TOP 0x7fff0000
#define USER_STACK_STRIDE 0x00080000
#define USER_END 0x80000000

/* Physical addresses of devices (docs/architecture.md, "The board"). */
#define UART_DATA 0x1f000000
#define UART_LINE_STATUS 0x1f000014 /* register 5, registers 4 bytes apart */
#define UART_TRANSMIT_EMPTY 0x20
#define POWER 0x1f001000
#define CPU_COUNT 0x1f002004
#define CPU_NODES 0x1f002008
#define CPU_NODE 0x1f00200c
#define CPU_RAISE 0x1f002010
#define CPU_CLEAR 0x1f002014
#define DEVICE_LINE_CPU 0x1f002020 /* who gets the interrupts of virtio devices: CPU 0 at first */
#define CPU_SPECIAL 0x1f002024 /* read where a monitor shows a special page (0: none), write its memory */
#define MARK_ALLOCATED 0x1f003000
#define MARK_FREED 0x1f003004
#define MARK_ZERO 0x1f003008
#define MARK_CLASS 0x1f00300c
#define MARK_PROCESS 0x1f003010
#define MARK_PHASE 0x1f003014
#define VIRTIO 0x1f010000
#define VIRTIO_SLOT_BYTES 0x200
#define VIRTIO_SLOTS 8
#define DEVICES 0x1f000000 /* 128 KiB from here hold every device used */

#define CLASS_TEXT 1
#define CLASS_DATA 2
#define CLASS_CACHE 3
#define CLASS_PAGE_TABLE 4
#define CLASS_STACK 5
#define CLASS_KERNEL 6

#endif
