/* The floating-point registers of a thread, saved and loaded as 16 pairs (Status.FR = 0). */
#include "mips.h"

        .set    noreorder
        .set    hardfloat

        .text
        .globl  fpu_save
        .type   fpu_save, @function
fpu_save:
        cfc1    $t0, $31
        sdc1    $f0, 0($a0)
        sdc1    $f2, 8($a0)
        sdc1    $f4, 16($a0)
        sdc1    $f6, 24($a0)
        sdc1    $f8, 32($a0)
        sdc1    $f10, 40($a0)
        sdc1    $f12, 48($a0)
        sdc1    $f14, 56($a0)
        sdc1    $f16, 64($a0)
        sdc1    $f18, 72($a0)
        sdc1    $f20, 80($a0)
        sdc1    $f22, 88($a0)
        sdc1    $f24, 96($a0)
        sdc1    $f26, 104($a0)
        sdc1    $f28, 112($a0)
        sdc1    $f30, 120($a0)
        jr      $ra
         sw     $t0, FPU_FCSR($a0)      /* (delay) */
        .size   fpu_save, . - fpu_save

        .globl  fpu_load
        .type   fpu_load, @function
fpu_load:
        lw      $t0, FPU_FCSR($a0)
        ldc1    $f0, 0($a0)
        ldc1    $f2, 8($a0)
        ldc1    $f4, 16($a0)
        ldc1    $f6, 24($a0)
        ldc1    $f8, 32($a0)
        ldc1    $f10, 40($a0)
        ldc1    $f12, 48($a0)
        ldc1    $f14, 56($a0)
        ldc1    $f16, 64($a0)
        ldc1    $f18, 72($a0)
        ldc1    $f20, 80($a0)
        ldc1    $f22, 88($a0)
        ldc1    $f24, 96($a0)
        ldc1    $f26, 104($a0)
        ldc1    $f28, 112($a0)
        ldc1    $f30, 120($a0)
        jr      $ra
         ctc1   $t0, $31                /* (delay) */
        .size   fpu_load, . - fpu_load
