/* Vectors, boot, trap entry and return, and the idle wait. Vectors, entry and return are here twice: with
   CP0 registers, and for the special page of a monitor (special.c).
   Everything is .set noreorder: a delay slot is marked "(delay)" and indented by one. */
#include "board.h"
#include "mips.h"

        .set    noreorder
        .set    noat

/* ---- vectors, at physical 0 ------------------------------------------------------------- */
        .section .vectors, "ax", @progbits
        .globl  tlb_refill
        .type   tlb_refill, @function
/* Load the pair of page-table entries of the address that missed, from the page tables of this
   CPU's address space. Both levels always exist: unused slots of the root point to a table of
   zeros, whose entries are invalid and bring the reference back through the general vector. Only k0
   and k1 may change. */
tlb_refill:
        mfc0    $k1, CP0_CONTEXT
        lui     $k0, %hi(cpus + CPU_ROOT)
        srl     $k1, $k1, 23            /* own CPU number */
        sll     $k1, $k1, CPU_SHIFT
        addu    $k1, $k1, $k0
        mfc0    $k0, CP0_BADVADDR
        lw      $k1, %lo(cpus + CPU_ROOT)($k1)
        srl     $k0, $k0, 22            /* 4 MiB that the address lies in */
        sll     $k0, $k0, 2
        addu    $k1, $k1, $k0
        lw      $k1, 0($k1)
        mfc0    $k0, CP0_CONTEXT        /* page pair, from bit 4 up */
        srl     $k0, $k0, 1             /* 8 bytes a pair */
        andi    $k0, $k0, 0xff8         /* within one table */
        addu    $k1, $k1, $k0
        lw      $k0, 0($k1)
        lw      $k1, 4($k1)
        mtc0    $k0, CP0_ENTRYLO0
        mtc0    $k1, CP0_ENTRYLO1
        ehb                             /* TLBWR must see the new EntryLo */
        tlbwr
        eret
        .size   tlb_refill, . - tlb_refill

        .org    0x180
        .globl  general_vector
        .type   general_vector, @function
general_vector:
        lui     $k0, %hi(trap_entry)    /* absolute: the vectors may run at another alias */
        addiu   $k0, $k0, %lo(trap_entry)
        jr      $k0
         nop                            /* (delay) */
        .size   general_vector, . - general_vector

/* ---- vectors over a special page ---------------------------------------------------------- */
        .section .special_vectors, "ax", @progbits
        .globl  special_vectors
        .type   special_vectors, @function
/* The same refill handler. A store to the page needs a third register, which the page has room for. */
special_vectors:
        lui     $k0, SPECIAL_END
        sw      $1, SPECIAL_SAVED($k0)
        lw      $k1, SPECIAL_CPU($k0)
        lui     $1, %hi(cpus + CPU_ROOT)
        sll     $k1, $k1, CPU_SHIFT
        addu    $k1, $k1, $1
        lw      $1, SPECIAL_BADVADDR($k0)
        lw      $k1, %lo(cpus + CPU_ROOT)($k1)
        srl     $1, $1, 22
        sll     $1, $1, 2
        addu    $k1, $k1, $1
        lw      $k1, 0($k1)
        lw      $1, SPECIAL_CONTEXT($k0)
        srl     $1, $1, 1
        andi    $1, $1, 0xff8
        addu    $k1, $k1, $1
        lw      $1, 0($k1)
        lw      $k1, 4($k1)
        sw      $1, SPECIAL_ENTRYLO0($k0)
        sw      $k1, SPECIAL_ENTRYLO1($k0)
        lw      $1, SPECIAL_SAVED($k0)
        tlbwr
        eret
        .org    0x180
        lui     $k0, %hi(special_trap_entry)
        addiu   $k0, $k0, %lo(special_trap_entry)
        jr      $k0
         nop                            /* (delay) */
        .size   special_vectors, . - special_vectors

/* ---- boot ------------------------------------------------------------------------------- */
        .section .text.boot, "ax", @progbits
        .globl  _start
        .type   _start, @function
/* Every CPU starts here: a0 = argc, a1 = argv, a3 = bytes of RAM. Linked in the supervisor
   segment this runs at its KSEG0 alias until the jump below, so nothing before the jump may use
   the link address of code or data. */
_start:
        mtc0    $zero, CP0_CAUSE
        mtc0    $zero, CP0_WIRED
        mtc0    $zero, CP0_PAGEMASK
        mfc0    $t0, CP0_CONFIG
        ori     $t0, $t0, 7
        xori    $t0, $t0, 4             /* Config.K0 = 3: KSEG0 is cached */
        mtc0    $t0, CP0_CONFIG
        mfc0    $t9, CP0_EBASE
        andi    $t9, $t9, 0x3ff         /* own CPU number */
        lui     $t0, KERNEL_BASE >> 16
        or      $t0, $t0, $t9
        mtc0    $t0, CP0_EBASE          /* vectors at physical 0 (bits 31..30 are fixed to 2 by
                                           hardware; a monitor may honour the whole address) */
        sll     $t0, $t9, 23
        mtc0    $t0, CP0_CONTEXT        /* CPU number for trap_entry and tlb_refill */
        ehb
        sltiu   $t0, $t9, MAX_CPUS
        bnez    $t0, 1f
         nop                            /* (delay) */
0:      wait                            /* more CPUs than we know: stay out of the way */
        b       0b
         nop                            /* (delay) */

1:      mfc0    $t0, CP0_CONFIG1        /* put distinct unmatchable addresses into the TLB */
        srl     $t0, $t0, 25
        andi    $t0, $t0, 0x3f          /* index of the last entry */
        lui     $t1, 0x8000
        mtc0    $zero, CP0_ENTRYLO0
        mtc0    $zero, CP0_ENTRYLO1
2:      mtc0    $t0, CP0_INDEX
        sll     $t2, $t0, 13
        addu    $t2, $t1, $t2
        mtc0    $t2, CP0_ENTRYHI
        ehb
        tlbwi
        bnez    $t0, 2b
         addiu  $t0, $t0, -1            /* (delay) */

#if KERNEL_BASE == 0xc0000000
        /* Wired entry 0: image, pool and stacks; entry 1: devices, uncached. All other memory is
           reached through page tables. */
        lui     $t0, KERNEL_BASE >> 16
        mtc0    $t0, CP0_ENTRYHI
        li      $t0, PAGEMASK_1M
        mtc0    $t0, CP0_PAGEMASK
        li      $t0, PTE_CACHED | PTE_DIRTY | PTE_VALID | PTE_GLOBAL
        mtc0    $t0, CP0_ENTRYLO0
        li      $t1, 0x100000 >> PAGE_SHIFT << PTE_FRAME_SHIFT
        or      $t0, $t0, $t1
        mtc0    $t0, CP0_ENTRYLO1
        mtc0    $zero, CP0_INDEX
        ehb
        tlbwi
        lui     $t0, (KERNEL_BASE + DEVICES) >> 16
        mtc0    $t0, CP0_ENTRYHI
        li      $t0, PAGEMASK_64K
        mtc0    $t0, CP0_PAGEMASK
        li      $t0, DEVICES >> PAGE_SHIFT << PTE_FRAME_SHIFT | PTE_UNCACHED | PTE_DIRTY | PTE_VALID | PTE_GLOBAL
        mtc0    $t0, CP0_ENTRYLO0
        addiu   $t0, $t0, 0x10000 >> PAGE_SHIFT << PTE_FRAME_SHIFT
        mtc0    $t0, CP0_ENTRYLO1
        li      $t0, 1
        mtc0    $t0, CP0_INDEX
        ehb
        tlbwi
        li      $t0, 2
        mtc0    $t0, CP0_WIRED
        mtc0    $zero, CP0_PAGEMASK
        ehb
#endif
        mtc0    $zero, CP0_ENTRYHI      /* KERNEL_ASID */
        li      $t0, HWRENA_CPU_AND_COUNT
        mtc0    $t0, CP0_HWRENA
        mtc0    $zero, CP0_STATUS       /* kernel mode, no BEV, interrupts off */
        ehb

        lui     $sp, KERNEL_STACKS_TOP >> 16
        sll     $t0, $t9, KERNEL_STACK_SHIFT
        subu    $sp, $sp, $t0
        sll     $t0, $t9, CPU_SHIFT
        lui     $t1, %hi(cpus)
        addiu   $t1, $t1, %lo(cpus)
        addu    $t0, $t0, $t1
        sw      $t0, STACK_CPU - PAGE_BYTES($sp)
        addiu   $sp, $sp, -24           /* the callee's argument space and a fifth word */
        sw      $zero, 16($sp)
        move    $a2, $a3                /* kernel_main(argc, argv, ram_bytes, cpu) */
        move    $a3, $t9
        move    $fp, $zero
        lui     $t0, %hi(kernel_main)
        addiu   $t0, $t0, %lo(kernel_main)
        jalr    $t0
         move   $gp, $zero              /* (delay) */
3:      b       3b                      /* kernel_main does not return */
         nop                            /* (delay) */
        .size   _start, . - _start

/* ---- traps ------------------------------------------------------------------------------ */
        .text
/* Read a register from CP0, or from the special page. */
        .macro  read special, register, cp0, offset
        .if     \special
        lui     \register, SPECIAL_END
        lw      \register, \offset(\register)
        .else
        mfc0    \register, \cp0
        .endif
        .endm

        .macro  trap_code entry, begin, special
        .globl  \entry
        .type   \entry, @function
/* From user mode: start on the empty kernel stack of this CPU's thread. From kernel mode (a page fault on a
   user address, an interrupt while idle): continue on the current one. */
\entry:
        read    \special, $k0, CP0_STATUS, SPECIAL_STATUS
        andi    $k0, $k0, STATUS_USER
        beqz    $k0, 1f
         move   $k1, $sp                /* (delay) */
        .if     \special
        lui     $k0, SPECIAL_END
        lw      $k0, SPECIAL_CPU($k0)
        .else
        mfc0    $k0, CP0_CONTEXT
        srl     $k0, $k0, 23
        .endif
        sll     $k0, $k0, CPU_SHIFT
        lui     $sp, %hi(cpus + CPU_STACK_TOP)
        addu    $sp, $sp, $k0
        lw      $sp, %lo(cpus + CPU_STACK_TOP)($sp)
1:      addiu   $sp, $sp, -FRAME_BYTES
        sw      $zero, FRAME_REGISTER(0)($sp)
        sw      $1, FRAME_REGISTER(1)($sp)
        sw      $2, FRAME_REGISTER(2)($sp)
        sw      $3, FRAME_REGISTER(3)($sp)
        sw      $4, FRAME_REGISTER(4)($sp)
        sw      $5, FRAME_REGISTER(5)($sp)
        sw      $6, FRAME_REGISTER(6)($sp)
        sw      $7, FRAME_REGISTER(7)($sp)
        sw      $8, FRAME_REGISTER(8)($sp)
        sw      $9, FRAME_REGISTER(9)($sp)
        sw      $10, FRAME_REGISTER(10)($sp)
        sw      $11, FRAME_REGISTER(11)($sp)
        sw      $12, FRAME_REGISTER(12)($sp)
        sw      $13, FRAME_REGISTER(13)($sp)
        sw      $14, FRAME_REGISTER(14)($sp)
        sw      $15, FRAME_REGISTER(15)($sp)
        sw      $16, FRAME_REGISTER(16)($sp)
        sw      $17, FRAME_REGISTER(17)($sp)
        sw      $18, FRAME_REGISTER(18)($sp)
        sw      $19, FRAME_REGISTER(19)($sp)
        sw      $20, FRAME_REGISTER(20)($sp)
        sw      $21, FRAME_REGISTER(21)($sp)
        sw      $22, FRAME_REGISTER(22)($sp)
        sw      $23, FRAME_REGISTER(23)($sp)
        sw      $24, FRAME_REGISTER(24)($sp)
        sw      $25, FRAME_REGISTER(25)($sp)
        sw      $28, FRAME_REGISTER(28)($sp)
        sw      $k1, FRAME_REGISTER(29)($sp)
        sw      $30, FRAME_REGISTER(30)($sp)
        sw      $31, FRAME_REGISTER(31)($sp)
        mfhi    $t0
        mflo    $t1
        sw      $t0, FRAME_HI($sp)
        sw      $t1, FRAME_LO($sp)
        read    \special, $t0, CP0_STATUS, SPECIAL_STATUS
        read    \special, $t1, CP0_CAUSE, SPECIAL_CAUSE
        read    \special, $t2, CP0_EPC, SPECIAL_EPC
        read    \special, $t3, CP0_BADVADDR, SPECIAL_BADVADDR
        sw      $t0, FRAME_STATUS($sp)
        sw      $t1, FRAME_CAUSE($sp)
        sw      $t2, FRAME_EPC($sp)
        sw      $t3, FRAME_BADVADDR($sp)
        ori     $t0, $t0, STATUS_LEVEL
        xori    $t0, $t0, STATUS_LEVEL  /* kernel mode, interrupts off, and EXL clear: from here
                                           on a TLB miss uses the refill vector again */
        .if     \special
        lui     $1, SPECIAL_END
        sw      $t0, SPECIAL_STATUS($1)
        .else
        mtc0    $t0, CP0_STATUS
        ehb
        .endif
        move    $gp, $zero
        jal     trap
         move   $a0, $sp                /* (delay) */
2:                                      /* return */
        lw      $t0, FRAME_STATUS($sp)  /* EXL was set when it was saved: from here to ERET no
                                           exception may occur, and none can */
        lw      $t1, FRAME_EPC($sp)
        lw      $t2, FRAME_HI($sp)
        lw      $t3, FRAME_LO($sp)
        .if     \special
        lui     $1, SPECIAL_END
        sw      $t0, SPECIAL_STATUS($1)
        sw      $t1, SPECIAL_EPC($1)
        .else
        mtc0    $t0, CP0_STATUS
        ehb
        mtc0    $t1, CP0_EPC
        .endif
        mthi    $t2
        mtlo    $t3
        lw      $1, FRAME_REGISTER(1)($sp)
        lw      $2, FRAME_REGISTER(2)($sp)
        lw      $3, FRAME_REGISTER(3)($sp)
        lw      $4, FRAME_REGISTER(4)($sp)
        lw      $5, FRAME_REGISTER(5)($sp)
        lw      $6, FRAME_REGISTER(6)($sp)
        lw      $7, FRAME_REGISTER(7)($sp)
        lw      $8, FRAME_REGISTER(8)($sp)
        lw      $9, FRAME_REGISTER(9)($sp)
        lw      $10, FRAME_REGISTER(10)($sp)
        lw      $11, FRAME_REGISTER(11)($sp)
        lw      $12, FRAME_REGISTER(12)($sp)
        lw      $13, FRAME_REGISTER(13)($sp)
        lw      $14, FRAME_REGISTER(14)($sp)
        lw      $15, FRAME_REGISTER(15)($sp)
        lw      $16, FRAME_REGISTER(16)($sp)
        lw      $17, FRAME_REGISTER(17)($sp)
        lw      $18, FRAME_REGISTER(18)($sp)
        lw      $19, FRAME_REGISTER(19)($sp)
        lw      $20, FRAME_REGISTER(20)($sp)
        lw      $21, FRAME_REGISTER(21)($sp)
        lw      $22, FRAME_REGISTER(22)($sp)
        lw      $23, FRAME_REGISTER(23)($sp)
        lw      $24, FRAME_REGISTER(24)($sp)
        lw      $25, FRAME_REGISTER(25)($sp)
        lw      $28, FRAME_REGISTER(28)($sp)
        lw      $30, FRAME_REGISTER(30)($sp)
        lw      $31, FRAME_REGISTER(31)($sp)
        lw      $29, FRAME_REGISTER(29)($sp)
        .ifeq   \special
        ehb                             /* ERET must see EPC */
        .endif
        eret
        .size   \entry, . - \entry

/* A new thread comes here out of switch_stacks(), with its first frame on the stack
   and the scheduler's lock held. */
        .globl  \begin
        .type   \begin, @function
\begin:
        jal     schedule_started
         nop                            /* (delay) */
        b       2b
         nop                            /* (delay) */
        .size   \begin, . - \begin
        .endm

        trap_code trap_entry, thread_begin, 0
        trap_code special_trap_entry, special_thread_begin, 1

/* switch_stacks(save, sp): keep what a callee must, note the stack at *save, and return from the
   call of the same function that noted the other stack. */
        .globl  switch_stacks
        .type   switch_stacks, @function
switch_stacks:
        addiu   $sp, $sp, -SWITCH_BYTES
        sw      $16, 0($sp)
        sw      $17, 4($sp)
        sw      $18, 8($sp)
        sw      $19, 12($sp)
        sw      $20, 16($sp)
        sw      $21, 20($sp)
        sw      $22, 24($sp)
        sw      $23, 28($sp)
        sw      $30, 32($sp)
        sw      $31, SWITCH_RA($sp)
        sw      $sp, 0($a0)
        move    $sp, $a1
        lw      $16, 0($sp)
        lw      $17, 4($sp)
        lw      $18, 8($sp)
        lw      $19, 12($sp)
        lw      $20, 16($sp)
        lw      $21, 20($sp)
        lw      $22, 24($sp)
        lw      $23, 28($sp)
        lw      $30, 32($sp)
        lw      $31, SWITCH_RA($sp)
        jr      $ra
         addiu  $sp, $sp, SWITCH_BYTES  /* (delay) */
        .size   switch_stacks, . - switch_stacks

/* idle_until_changed(address, seen): WAIT until *address differs from seen. An interrupt between the
   load and WAIT would be lost; trap() therefore restarts whatever it interrupts between idle_begin
   and idle_end at idle_begin. */
        .globl  idle_until_changed
        .type   idle_until_changed, @function
        .globl  idle_begin
idle_until_changed:
idle_begin:
        lw      $v0, 0($a0)
        bne     $v0, $a1, 1f
         nop                            /* (delay) */
        wait
        .globl  idle_end
idle_end:
        b       idle_begin
         nop                            /* (delay) */
1:      jr      $ra
         nop                            /* (delay) */
        .size   idle_until_changed, . - idle_until_changed
