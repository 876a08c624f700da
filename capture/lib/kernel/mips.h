/* What the architecture fixes: CP0 registers, Status and Cause bits, page-table entries.
   Shared by C and assembly; chapter numbers are those of the MIPS32 Privileged Resource manual. */
#ifndef MIPS_H
#define MIPS_H

/* CP0 registers by number (PRA chapter 9). */
#define CP0_INDEX $0
#define CP0_ENTRYLO0 $2
#define CP0_ENTRYLO1 $3
#define CP0_CONTEXT $4
#define CP0_PAGEMASK $5
#define CP0_WIRED $6
#define CP0_HWRENA $7
#define CP0_BADVADDR $8
#define CP0_COUNT $9
#define CP0_ENTRYHI $10
#define CP0_COMPARE $11
#define CP0_STATUS $12
#define CP0_CAUSE $13
#define CP0_EPC $14
#define CP0_EBASE $15, 1
#define CP0_CONFIG $16
#define CP0_CONFIG1 $16, 1

/* A monitor's special page (docs/monitor.md): CP0 register n, select s is the word at 4 * (8 * n + s).
   It ends at SPECIAL_END, so offsets from there are negative. Its upper half is the kernel's own. */
#define SPECIAL_PAGE 0xdffff000
#define SPECIAL_END 0xe000 /* for LUI */
#define SPECIAL_INDEX -4096
#define SPECIAL_ENTRYLO0 -4032
#define SPECIAL_ENTRYLO1 -4000
#define SPECIAL_CONTEXT -3968
#define SPECIAL_WIRED -3904
#define SPECIAL_BADVADDR -3840
#define SPECIAL_ENTRYHI -3776
#define SPECIAL_COMPARE -3744
#define SPECIAL_STATUS -3712
#define SPECIAL_CAUSE -3680
#define SPECIAL_EPC -3648
#define SPECIAL_CPU -2048   /* own CPU number */
#define SPECIAL_SAVED -2044 /* $at, in the refill handler */

/* Status. */
#define STATUS_IE 0x00000001    /* interrupts enabled */
#define STATUS_EXL 0x00000002   /* exception level */
#define STATUS_USER 0x00000010  /* KSU = user */
#define STATUS_LEVEL 0x0000001f /* KSU, ERL, EXL and IE together */
#define STATUS_IPI 0x00000400   /* IM2: inter-processor interrupt */
#define STATUS_DEVICES 0x00001000 /* IM4: virtio devices */
#define STATUS_TIMER 0x00008000 /* IM7: Count = Compare */
#define STATUS_FPU 0x20000000   /* CU1: floating point usable */

/* Cause. */
#define CAUSE_CODE(cause) (((cause) >> 2) & 0x1f)
#define CAUSE_IPI 0x00000400
#define CAUSE_DEVICES 0x00001000
#define CAUSE_TIMER 0x00008000
#define CAUSE_LINES 0xff00 /* all of them */
#define CODE_INTERRUPT 0
#define CODE_MODIFIED 1
#define CODE_TLB_LOAD 2
#define CODE_TLB_STORE 3
#define CODE_SYSCALL 8
#define CODE_UNUSABLE 11 /* coprocessor unusable; its number in CE */
#define CAUSE_UNIT(cause) (((cause) >> 28) & 3)
#define CONFIG1_FPU 1 /* there is a floating-point unit */

/* HWREna: what user mode may read by RDHWR: CPU number (0) and Count (2). */
#define HWRENA_CPU_AND_COUNT 0x5

/* EntryLo, which is also the form of our page-table entries. */
#define PTE_GLOBAL 0x01
#define PTE_VALID 0x02
#define PTE_DIRTY 0x04    /* stores allowed */
#define PTE_CACHED 0x18   /* C = 3 */
#define PTE_UNCACHED 0x10 /* C = 2 */
#define PTE_FRAME_SHIFT 6 /* frame number stands above */
/* Software's, ignored by EntryLo: stores are allowed, but none has been made since the page was
   declared clean; the first one sets PTE_DIRTY. */
#define PTE_CLEAN 0x40000000
#define PTE_FRAME(entry) (((entry) & 0x3fffffff) >> PTE_FRAME_SHIFT)

#define ASID_BITS 0xff  /* of EntryHi */
#define KERNEL_ASID 0   /* while no process runs */
#define FIRST_ASID 1    /* of the first process */

/* PageMask of the two wired entries of a kernel linked in the supervisor segment. */
#define PAGEMASK_1M 0x001fe000
#define PAGEMASK_64K 0x0001e000

/* The frame that trap entry builds: 16 bytes for callees, then the registers. */
#define FRAME_REGISTERS 16
#define FRAME_REGISTER(n) (FRAME_REGISTERS + 4 * (n))
#define FRAME_HI FRAME_REGISTER(32)
#define FRAME_LO FRAME_REGISTER(33)
#define FRAME_STATUS FRAME_REGISTER(34)
#define FRAME_CAUSE FRAME_REGISTER(35)
#define FRAME_EPC FRAME_REGISTER(36)
#define FRAME_BADVADDR FRAME_REGISTER(37)
#define FRAME_BYTES 168 /* a multiple of 8, as the ABI asks */

/* What switch_stacks() leaves on the stack of a thread that does not run: s0 to s7, fp, ra. */
#define SWITCH_BYTES 40
#define SWITCH_RA 36

/* In a kernel stack, which is a page: the struct cpu that runs on it. */
#define STACK_CPU 4

/* struct cpu, as far as assembly knows it. */
#define CPU_SHIFT 8 /* log2 of its size */
#define CPU_STACK_TOP 0
#define CPU_ROOT 4

/* Floating-point registers of a thread: 16 doubles (FR = 0), then FCSR. */
#define FPU_FCSR 128
#define FPU_BYTES 136

#endif
