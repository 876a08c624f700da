"""The hot loop: what every instruction does to registers and memory, when everything hits.

It makes no call, so that its state stays in registers; what it cannot do it leaves with a reason
for `kernel.run`. Dispatch is a flat chain of comparisons with dense opcode ids, which LLVM turns
into a jump table. Indices are unsigned: that saves Numba's wrap of negative ones.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import inline
from disco_trace.machine.fpu.fast import (
    HARD,
    ROUNDED,
    condition_bit,
    double_at,
    float_add,
    float_compare,
    float_convert,
    float_divide,
    float_multiply,
    float_root,
    float_sign,
    float_truncate,
    set_condition,
    settle,
)
from disco_trace.machine.fpu.table import (
    ABS,
    ADD,
    COMPARE,
    COST,
    CVT,
    DIV,
    HOT_KIND,
    LEAVES,
    MADD,
    MUL,
    NEG,
    NMSUB,
    SOURCE,
    SQRT,
    SUB,
    TARGET,
    TRUNC,
    D,
    S,
    W,
)
from disco_trace.machine.isa import ID, NOP, TABLE, UNDECODED
from disco_trace.machine.layout import HI, LO, S_LL, S_LLADDR, X_FPU_COSTS
from disco_trace.machine.registers import PLAIN_READ, PLAIN_WRITE

# Opcode ids, by mnemonic.
(
    O_SLL, O_SRL, O_ROTR, O_SRA, O_SLLV, O_SRLV, O_ROTRV, O_SRAV, O_JR, O_JALR, O_MOVZ, O_MOVN,
    O_SYSCALL, O_BREAK, O_SYNC, O_MFHI, O_MTHI, O_MFLO, O_MTLO, O_MULT, O_MULTU, O_DIV, O_DIVU,
    O_ADD, O_ADDU, O_SUB, O_SUBU, O_AND, O_OR, O_XOR, O_NOR, O_SLT, O_SLTU, O_TGE, O_TGEU, O_TLT,
    O_TLTU, O_TEQ, O_TNE, O_BLTZ, O_BGEZ, O_BLTZL, O_BGEZL, O_TGEI, O_TGEIU, O_TLTI, O_TLTIU,
    O_TEQI, O_TNEI, O_BLTZAL, O_BGEZAL, O_BLTZALL, O_BGEZALL, O_SYNCI, O_J, O_JAL, O_BEQ, O_BNE,
    O_BLEZ, O_BGTZ, O_ADDI, O_ADDIU, O_SLTI, O_SLTIU, O_ANDI, O_ORI, O_XORI, O_LUI, O_MFC0,
    O_MTC0, O_RDPGPR, O_DI, O_EI, O_WRPGPR, O_TLBR, O_TLBWI, O_TLBWR, O_TLBP, O_ERET, O_DERET,
    O_WAIT, O_COP2, O_BEQL, O_BNEL, O_BLEZL, O_BGTZL, O_MADD, O_MADDU, O_MUL, O_MSUB, O_MSUBU,
    O_CLZ, O_CLO, O_SDBBP, O_EXT, O_INS, O_WSBH, O_SEB, O_SEH, O_RDHWR, O_LB, O_LH, O_LWL, O_LW,
    O_LBU, O_LHU, O_LWR, O_SB, O_SH, O_SWL, O_SW, O_SWR, O_CACHE, O_LL, O_PREF, O_SC, O_LWC2,
    O_LDC2, O_SWC2, O_SDC2,
) = (ID[row.name] for row in TABLE if "F" not in row.flags)  # fmt: skip

# Those of coprocessor 1 that the hot loop knows; `fpu.execute` does the others.
(
    O_MOVF, O_MOVT, O_MFC1, O_MTC1, O_MFHC1, O_MTHC1, O_BC1F, O_BC1T, O_BC1FL, O_BC1TL,
    O_LWC1, O_LDC1, O_SWC1, O_SDC1, O_LWXC1, O_LDXC1, O_LUXC1, O_SWXC1, O_SDXC1, O_SUXC1, O_PREFX,
) = (
    ID[name]
    for names in (
        "movf movt mfc1 mtc1 mfhc1 mthc1 bc1f bc1t bc1fl bc1tl lwc1 ldc1 swc1 sdc1",
        "lwxc1 ldxc1 luxc1 swxc1 sdxc1 suxc1 prefx",
    )
    for name in names.split()
)  # fmt: skip
O_MOV_S, O_MOV_D, O_MOVF_S, O_MOVN_D = (ID[n] for n in ("mov.s", "mov.d", "movf.s", "movn.d"))
# Arithmetic, whose rows stand together.
FIRST_FLOAT, LAST_FLOAT = ID["add.s"], ID["c.cond.d"]

U = np.uint64
M32 = U(0xFFFFFFFF)
SIGN = U(0x80000000)
LOW5 = U(31)
HIGH = U(0xC0000000)
# A fetch line that no address equals, not even an odd one: beyond 32 bits.
NO_LINE = U(1 << 32)
PAGE_OFFSET = U(0xFFF)
FRAME = U(0xFFFFF000)
PAGE_VALID = U(1 << 20)
# Bits of a filter entry that a load, and a store, must find equal.
LOAD_BITS = U(0xFFFFFFFF00000002)
STORE_BITS = U(0xFFFFFFFF00000003)
U1, U2, U3, U4, U8, U12, U16, U24, U32 = (U(n) for n in (1, 2, 3, 4, 8, 12, 16, 24, 32))
SH_RS, SH_RT, SH_RD, SH_SA = U(21), U(16), U(11), U(6)

U7 = U(7)
DOUBLE = U(1 << 21)  # set in instructions of the format D, clear in S

# Why the hot loop was left.
W_LIMIT, W_FETCH, W_LOAD, W_STORE, W_SLOW, W_TRAP, W_OVERFLOW, W_DECODE, W_SC_FAIL, W_SC = range(10)


@inline
def rs_of(w):
    """Return the rs field of an instruction word."""
    return (w >> SH_RS) & LOW5


@inline
def rt_of(w):
    """Return the rt field of an instruction word."""
    return (w >> SH_RT) & LOW5


@inline
def rd_of(w):
    """Return the rd field of an instruction word."""
    return (w >> SH_RD) & LOW5


@inline
def signed(value):
    """Return the low 32 bits as a signed number."""
    return np.int64(np.int32(value & M32))


@inline
def imm16(w):
    """Return the sign-extended immediate, as 32 bits in an unsigned word."""
    return U(np.int64(np.int16(w & U(0xFFFF)))) & M32


@inline
def branch_target(pc, w):
    """Return a branch's target; `pc` is the address of its delay slot."""
    return (pc + (imm16(w) << U2)) & M32


@inline
def hit(l1, tags, order, s, ways, key):
    """Look in the two most recent ways of a set for a tag word; keep the order; 1 on a hit."""
    o = l1[order + s]
    first = U(o) & U(15)
    if l1[tags + s * ways + first] == key:
        return True
    second = (U(o) >> U4) & U(15)
    if l1[tags + s * ways + second] == key:
        l1[order + s] = (o & ~255) | np.int64((first << U4) | second)
        return True
    return False


@inline
def hit_clean_or_dirty(l1, tags, order, s, ways, key):
    """Like `hit`, for a load: the line may be clean or dirty."""
    o = l1[order + s]
    first = U(o) & U(15)
    if l1[tags + s * ways + first] | 1 == key:
        return True
    second = (U(o) >> U4) & U(15)
    if l1[tags + s * ways + second] | 1 == key:
        l1[order + s] = (o & ~255) | np.int64((first << U4) | second)
        return True
    return False


@inline
def fast_physical(va, f, fm, bits, writable, useg_end, kseg0_size, high_size):
    """Translate through the page filter or KSEG0; all ones if that is not enough.

    The three sizes say what the present mode may reach: of useg, of KSEG0 (RAM only) and of the
    mapped segments above 0xc0000000.
    """
    if va < useg_end or va - HIGH < high_size:
        page = va >> U12
        e = f[page & fm]
        if (e ^ (((page | PAGE_VALID) << U32) | writable)) & bits == U(0):
            return (e & FRAME) | (va & PAGE_OFFSET)
    elif va - SIGN < kseg0_size:
        return va - SIGN
    return ~U(0)


@inline
def load_word_address(
    va, f, fm, useg_end, kseg0_size, high_size, l1, tags, order, shift, sets, ways
):
    """Return the physical address of a load that hits everywhere, or all ones."""
    pa = fast_physical(va, f, fm, LOAD_BITS, U(0), useg_end, kseg0_size, high_size)
    if pa != ~U(0):
        key = (np.int64((pa >> shift) + U1) << 1) | 1
        if not hit_clean_or_dirty(l1, tags, order, (va >> shift) & sets, ways, key):
            pa = ~U(0)
    return pa


@inline
def store_word_address(
    va, f, fm, useg_end, kseg0_size, high_size, l1, tags, order, shift, sets, ways
):
    """Return the physical address of a store that hits a dirty line, or all ones."""
    pa = fast_physical(va, f, fm, STORE_BITS, U1, useg_end, kseg0_size, high_size)
    if pa != ~U(0):
        key = (np.int64((pa >> shift) + U1) << 1) | 1
        if not hit(l1, tags, order, (va >> shift) & sets, ways, key):
            pa = ~U(0)
    return pa


@inline
def loaded(op, va, word, old):
    """Return the register value that a load instruction makes of the aligned word it reads."""
    byte = va & U3
    value = word >> (byte << U3)
    if op == O_LB:
        return U(np.int64(np.int8(value & U(255)))) & M32
    if op == O_LBU:
        return value & U(255)
    if op == O_LH:
        return U(np.int64(np.int16(value & U(0xFFFF)))) & M32
    if op == O_LHU:
        return value & U(0xFFFF)
    if op == O_LWL:
        up = U24 - (byte << U3)
        return ((word << up) | (old & ((U1 << up) - U1))) & M32
    if op == O_LWR:
        return value | (old & ~(M32 >> (byte << U3)) & M32)
    return word


@inline
def stored(op, va, word, value):
    """Return the aligned word that a store instruction leaves in memory."""
    at = (va & U3) << U3
    if op == O_SB:
        return (word & ~(U(255) << at)) | ((value & U(255)) << at)
    if op == O_SH:
        return (word & ~(U(0xFFFF) << at)) | ((value & U(0xFFFF)) << at)
    if op == O_SWL:
        down = U24 - at
        return (word & ~(M32 >> down)) | (value >> down)
    if op == O_SWR:
        return (word & ((U1 << at) - U1)) | ((value << at) & M32)
    return value


@inline
def sa_of(w):
    """Return the shift amount of an instruction word, which is also the FPU's fd."""
    return (w >> SH_SA) & LOW5


@inline
def access_size(op):
    """Return the alignment that a memory instruction demands, in bytes."""
    if op == O_LDC1 or op == O_SDC1 or op == O_LDXC1 or op == O_SDXC1:
        return 8
    if op == O_LWC1 or op == O_SWC1 or op == O_LWXC1 or op == O_SWXC1:
        return 4
    if op == O_LW or op == O_SW or op == O_LL or op == O_SC:
        return 4
    if op == O_LH or op == O_LHU or op == O_SH:
        return 2
    return 1


@inline
def count_leading(value, ones):
    """Count leading zeros (or ones) of 32 bits."""
    x = value & M32
    if ones:
        x = ~x & M32
    n = 0
    while n < 32 and (x & SIGN) == U(0):
        x = (x << U1) & M32
        n += 1
    return U(n)


@inline
def divide(a, b):
    """Return (quotient, remainder) of signed 32-bit division; a zero divisor is unpredictable."""
    if b == 0:
        return np.int64(-1 if a >= 0 else 1), a
    q = abs(a) // abs(b)
    r = abs(a) - q * abs(b)
    if (a < 0) != (b < 0):
        q = -q
    if a < 0:
        r = -r
    return q, r


@inline
def run_hot(
    n, limit, pc, npc, slot, fbase, fdelta, fmask, stop_line,
    r, s, f, fm, useg_end, kseg0_size, high_size, ram, ops, l1, geometry, costs, k, privileged,
    fpu, p,
):  # fmt: skip
    """Run instructions that hit until `limit` base cycles or until something else is needed.

    Returns (why, cycles, pc, npc, in-slot, instruction's address, was in a slot, fetch line and
    what to add to its addresses, op, word, address, cycles beyond one an instruction). `why`
    other than W_LIMIT and W_FETCH stands for the instruction at "instruction's address", already
    counted and stepped over.

    fpu: the CPU's FPU registers as words, singles, doubles and 64-bit values, Status.FR, and masks
    of words that leave the loop: MAJOR with the FPU disabled; that and odd registers of 64-bit
    values with Status.FR = 0; that and MAJOR where only the slow way knows the results of
    arithmetic (another rounding mode, or Inexact enabled).
    """
    itags, iorder, ishift, isets, iways, dtags, dorder, dshift, dsets, dways = geometry
    mult_extra, div_extra = costs
    words, singles, doubles, wide, fr, off, odd, slow = fpu
    why = W_LIMIT
    op = np.int64(0)
    w = U(0)
    va = U(0)
    cur = pc
    was_slot = slot
    extra = np.int64(0)
    data = np.int64(0)
    while n < limit:
        if (pc ^ fbase) & fmask != U(0):
            # Another line, perhaps of another page. Does the first level hold it?
            if pc & (U3 | NO_LINE) != U(0) or pc & fmask == stop_line:
                why = W_FETCH
                break
            delta = fdelta
            if (pc ^ fbase) & (FRAME | NO_LINE) != U(0):
                pa = fast_physical(pc, f, fm, LOAD_BITS, U(0), useg_end, kseg0_size, high_size)
                if pa == ~U(0):
                    why = W_FETCH
                    break
                delta = (pa - pc) & M32
            if not hit(
                l1, itags, iorder, (pc >> ishift) & isets, iways,
                np.int64((((pc + delta) & M32) >> ishift) + U1) << 1,
            ):  # fmt: skip
                why = W_FETCH
                break
            fdelta = delta
            fbase = pc & fmask
        at = ((pc + fdelta) & M32) >> U2
        op = np.int64(ops[at])
        w = U(ram[at])
        n += 1
        was_slot = slot
        slot = np.int64(0)
        cur = pc
        pc = npc
        npc = (npc + U4) & M32

        if op == O_LW or op == O_LL:
            va = (U(r[rs_of(w)]) + imm16(w)) & M32
            pa = load_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if pa & U3 != U(0):
                why = W_LOAD
                break
            r[rt_of(w)] = ram[pa >> U2]
            r[0] = 0
            data += 1
            if op == O_LL:
                s[S_LL] = 1
                s[S_LLADDR] = np.int64(pa)
        elif op == O_SW:
            va = (U(r[rs_of(w)]) + imm16(w)) & M32
            pa = store_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if pa & U3 != U(0):
                why = W_STORE
                break
            ram[pa >> U2] = r[rt_of(w)]
            ops[pa >> U2] = 0
            data += 1
        elif op == O_LBU or op == O_LB or op == O_LHU or op == O_LH or op == O_LWL or op == O_LWR:
            va = (U(r[rs_of(w)]) + imm16(w)) & M32
            pa = load_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if pa == ~U(0) or (va & U1 != U(0) and (op == O_LHU or op == O_LH)):
                why = W_LOAD
                break
            rt = rt_of(w)
            r[rt] = loaded(op, va, U(ram[pa >> U2]), U(r[rt]))
            r[0] = 0
            data += 1
        elif op == O_SB or op == O_SH or op == O_SWL or op == O_SWR:
            va = (U(r[rs_of(w)]) + imm16(w)) & M32
            pa = store_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if pa == ~U(0) or (va & U1 != U(0) and op == O_SH):
                why = W_STORE
                break
            ram[pa >> U2] = stored(op, va, U(ram[pa >> U2]), U(r[rt_of(w)]))
            ops[pa >> U2] = 0
            data += 1
        elif op == O_ADDIU:
            r[rt_of(w)] = U(r[rs_of(w)]) + imm16(w)
        elif op == O_ADDU:
            r[rd_of(w)] = U(r[rs_of(w)]) + U(r[rt_of(w)])
        elif op == O_SUBU:
            r[rd_of(w)] = U(r[rs_of(w)]) - U(r[rt_of(w)])
        elif op == O_BNE:
            if r[rs_of(w)] != r[rt_of(w)]:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif op == O_BEQ:
            if r[rs_of(w)] == r[rt_of(w)]:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif op == NOP:
            pass
        elif op == O_SLL:
            r[rd_of(w)] = U(r[rt_of(w)]) << ((w >> SH_SA) & LOW5)
        elif op == O_SRL:
            r[rd_of(w)] = U(r[rt_of(w)]) >> ((w >> SH_SA) & LOW5)
        elif op == O_SRA:
            r[rd_of(w)] = U(signed(U(r[rt_of(w)])) >> np.int64((w >> SH_SA) & LOW5))
        elif op == O_SLLV:
            r[rd_of(w)] = U(r[rt_of(w)]) << (U(r[rs_of(w)]) & LOW5)
        elif op == O_SRLV:
            r[rd_of(w)] = U(r[rt_of(w)]) >> (U(r[rs_of(w)]) & LOW5)
        elif op == O_SRAV:
            r[rd_of(w)] = U(signed(U(r[rt_of(w)])) >> np.int64(U(r[rs_of(w)]) & LOW5))
        elif op == O_ROTR:
            sa = (w >> SH_SA) & LOW5
            x = U(r[rt_of(w)])
            r[rd_of(w)] = (x >> sa) | (x << (U32 - sa))
        elif op == O_ROTRV:
            sa = U(r[rs_of(w)]) & LOW5
            x = U(r[rt_of(w)])
            r[rd_of(w)] = (x >> sa) | (x << (U32 - sa))
        elif op == O_AND:
            r[rd_of(w)] = r[rs_of(w)] & r[rt_of(w)]
        elif op == O_OR:
            r[rd_of(w)] = r[rs_of(w)] | r[rt_of(w)]
        elif op == O_XOR:
            r[rd_of(w)] = r[rs_of(w)] ^ r[rt_of(w)]
        elif op == O_NOR:
            r[rd_of(w)] = ~(U(r[rs_of(w)]) | U(r[rt_of(w)])) & M32
        elif op == O_ANDI:
            r[rt_of(w)] = U(r[rs_of(w)]) & (w & U(0xFFFF))
        elif op == O_ORI:
            r[rt_of(w)] = U(r[rs_of(w)]) | (w & U(0xFFFF))
        elif op == O_XORI:
            r[rt_of(w)] = U(r[rs_of(w)]) ^ (w & U(0xFFFF))
        elif op == O_LUI:
            r[rt_of(w)] = (w & U(0xFFFF)) << U16
        elif op == O_SLT:
            r[rd_of(w)] = 1 if signed(U(r[rs_of(w)])) < signed(U(r[rt_of(w)])) else 0
        elif op == O_SLTU:
            r[rd_of(w)] = 1 if r[rs_of(w)] < r[rt_of(w)] else 0
        elif op == O_SLTI:
            r[rt_of(w)] = 1 if signed(U(r[rs_of(w)])) < signed(imm16(w)) else 0
        elif op == O_SLTIU:
            r[rt_of(w)] = 1 if U(r[rs_of(w)]) < imm16(w) else 0
        elif op == O_MOVZ:
            if r[rt_of(w)] == 0:
                r[rd_of(w)] = r[rs_of(w)]
        elif op == O_MOVN:
            if r[rt_of(w)] != 0:
                r[rd_of(w)] = r[rs_of(w)]
        elif op == O_J:
            npc = (pc & U(0xF0000000)) | ((w & U(0x3FFFFFF)) << U2)
            slot = np.int64(1)
        elif op == O_JAL:
            r[31] = npc
            npc = (pc & U(0xF0000000)) | ((w & U(0x3FFFFFF)) << U2)
            slot = np.int64(1)
        elif op == O_JR:
            npc = U(r[rs_of(w)])
            slot = np.int64(1)
        elif op == O_JALR:
            target = U(r[rs_of(w)])
            r[rd_of(w)] = npc
            r[0] = 0
            npc = target
            slot = np.int64(1)
        elif op == O_BLEZ:
            if signed(U(r[rs_of(w)])) <= 0:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif op == O_BGTZ:
            if signed(U(r[rs_of(w)])) > 0:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif op == O_BLTZ or op == O_BLTZAL:
            taken = signed(U(r[rs_of(w)])) < 0
            if op == O_BLTZAL:
                r[31] = npc
            if taken:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif op == O_BGEZ or op == O_BGEZAL:
            taken = signed(U(r[rs_of(w)])) >= 0
            if op == O_BGEZAL:
                r[31] = npc
            if taken:
                npc = branch_target(pc, w)
            slot = np.int64(1)
        elif (
            op == O_BEQL or op == O_BNEL or op == O_BLEZL or op == O_BGTZL
            or op == O_BLTZL or op == O_BGEZL or op == O_BLTZALL or op == O_BGEZALL
        ):  # fmt: skip
            a = signed(U(r[rs_of(w)]))
            if op == O_BEQL:
                taken = r[rs_of(w)] == r[rt_of(w)]
            elif op == O_BNEL:
                taken = r[rs_of(w)] != r[rt_of(w)]
            elif op == O_BLEZL:
                taken = a <= 0
            elif op == O_BGTZL:
                taken = a > 0
            elif op == O_BLTZL or op == O_BLTZALL:
                taken = a < 0
            else:
                taken = a >= 0
            if op == O_BLTZALL or op == O_BGEZALL:
                r[31] = npc
            if taken:
                npc = branch_target(pc, w)
                slot = np.int64(1)
            else:
                # Not taken: the delay slot is nullified.
                pc = npc
                npc = (npc + U4) & M32
        elif op == O_MULT:
            product = signed(U(r[rs_of(w)])) * signed(U(r[rt_of(w)]))
            r[LO] = U(product) & M32
            r[HI] = U(product >> 32) & M32
            extra += mult_extra
            n += mult_extra
        elif op == O_MULTU:
            product_u = U(r[rs_of(w)]) * U(r[rt_of(w)])
            r[LO] = product_u & M32
            r[HI] = product_u >> U32
            extra += mult_extra
            n += mult_extra
        elif op == O_MUL:
            r[rd_of(w)] = U(r[rs_of(w)]) * U(r[rt_of(w)])
            extra += mult_extra
            n += mult_extra
        elif op == O_MADD or op == O_MSUB:
            product = signed(U(r[rs_of(w)])) * signed(U(r[rt_of(w)]))
            sum_ = (U(r[HI]) << U32) | U(r[LO])
            sum_ = sum_ + U(product) if op == O_MADD else sum_ - U(product)
            r[LO] = sum_ & M32
            r[HI] = sum_ >> U32
            extra += mult_extra
            n += mult_extra
        elif op == O_MADDU or op == O_MSUBU:
            product_u = U(r[rs_of(w)]) * U(r[rt_of(w)])
            sum_ = (U(r[HI]) << U32) | U(r[LO])
            sum_ = sum_ + product_u if op == O_MADDU else sum_ - product_u
            r[LO] = sum_ & M32
            r[HI] = sum_ >> U32
            extra += mult_extra
            n += mult_extra
        elif op == O_DIV:
            quotient, remainder = divide(signed(U(r[rs_of(w)])), signed(U(r[rt_of(w)])))
            r[LO] = U(quotient) & M32
            r[HI] = U(remainder) & M32
            extra += div_extra
            n += div_extra
        elif op == O_DIVU:
            quotient, remainder = divide(np.int64(r[rs_of(w)]), np.int64(r[rt_of(w)]))
            r[LO] = U(quotient) & M32
            r[HI] = U(remainder) & M32
            extra += div_extra
            n += div_extra
        elif op == O_MFHI:
            r[rd_of(w)] = r[HI]
        elif op == O_MFLO:
            r[rd_of(w)] = r[LO]
        elif op == O_MTHI:
            r[HI] = r[rs_of(w)]
        elif op == O_MTLO:
            r[LO] = r[rs_of(w)]
        elif op == O_ADD or op == O_SUB or op == O_ADDI:
            a = signed(U(r[rs_of(w)]))
            b = signed(imm16(w)) if op == O_ADDI else signed(U(r[rt_of(w)]))
            total = a - b if op == O_SUB else a + b
            if total != np.int64(np.int32(total)):
                why = W_OVERFLOW
                break
            r[rt_of(w) if op == O_ADDI else rd_of(w)] = U(total) & M32
            r[0] = 0
        elif op == O_CLZ:
            r[rd_of(w)] = count_leading(U(r[rs_of(w)]), False)
        elif op == O_CLO:
            r[rd_of(w)] = count_leading(U(r[rs_of(w)]), True)
        elif op == O_EXT:
            low = (w >> SH_SA) & LOW5
            size = rd_of(w) + U1
            r[rt_of(w)] = (U(r[rs_of(w)]) >> low) & ((U1 << size) - U1)
        elif op == O_INS:
            low = (w >> SH_SA) & LOW5
            high = rd_of(w)
            if high >= low:
                field = ((U1 << (high - low + U1)) - U1) << low
                r[rt_of(w)] = (U(r[rt_of(w)]) & ~field) | ((U(r[rs_of(w)]) << low) & field)
        elif op == O_WSBH:
            x = U(r[rt_of(w)])
            r[rd_of(w)] = ((x & U(0x00FF00FF)) << U8) | ((x >> U8) & U(0x00FF00FF))
        elif op == O_SEB:
            r[rd_of(w)] = U(np.int64(np.int8(U(r[rt_of(w)]) & U(255)))) & M32
        elif op == O_SEH:
            r[rd_of(w)] = U(np.int64(np.int16(U(r[rt_of(w)]) & U(0xFFFF)))) & M32
        elif (
            op == O_TEQ or op == O_TNE or op == O_TGE or op == O_TLT or op == O_TGEU
            or op == O_TLTU or op == O_TEQI or op == O_TNEI or op == O_TGEI or op == O_TLTI
            or op == O_TGEIU or op == O_TLTIU
        ):  # fmt: skip
            x = U(r[rs_of(w)])
            register = op == O_TEQ or op == O_TNE or op == O_TGE or op == O_TLT
            register = register or op == O_TGEU or op == O_TLTU
            y = U(r[rt_of(w)]) if register else imm16(w)
            if op == O_TEQ or op == O_TEQI:
                taken = x == y
            elif op == O_TNE or op == O_TNEI:
                taken = x != y
            elif op == O_TGE or op == O_TGEI:
                taken = signed(x) >= signed(y)
            elif op == O_TLT or op == O_TLTI:
                taken = signed(x) < signed(y)
            elif op == O_TGEU or op == O_TGEIU:
                taken = x >= y
            else:
                taken = x < y
            if taken:
                why = W_TRAP
                break
        elif op == O_SC:
            va = (U(r[rs_of(w)]) + imm16(w)) & M32
            if va & U3 != U(0):
                why = W_STORE
                break
            if s[S_LL] == 0:
                why = W_SC_FAIL
                break
            pa = store_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if pa == ~U(0):
                why = W_STORE
                break
            if s[S_LLADDR] != np.int64(pa):
                why = W_SC_FAIL
                break
            ram[pa >> U2] = r[rt_of(w)]
            ops[pa >> U2] = 0
            data += 1
            s[S_LL] = 0
            r[rt_of(w)] = 1
            r[0] = 0
            why = W_SC
            break
        elif op == O_MFC0:
            register = (rd_of(w) << U3) | (w & U(7))
            if not privileged or not PLAIN_READ[register]:
                why = W_SLOW
                break
            r[rt_of(w)] = k[register]
            r[0] = 0
        elif op == O_MTC0:
            register = (rd_of(w) << U3) | (w & U(7))
            mask = PLAIN_WRITE[register]
            if not privileged or mask == U(0):
                why = W_SLOW
                break
            k[register] = (U(k[register]) & ~mask) | (U(r[rt_of(w)]) & mask)
        elif op == O_SYNC or op == O_PREF:
            pass
        elif (
            op == O_LWC1 or op == O_LDC1 or op == O_LWXC1 or op == O_LDXC1 or op == O_LUXC1
        ):  # fmt: skip
            hard = w & off
            if op == O_LWC1 or op == O_LDC1:
                va = (U(r[rs_of(w)]) + imm16(w)) & M32
                number = rt_of(w)
            else:
                va = (U(r[rs_of(w)]) + U(r[rt_of(w)])) & M32
                number = sa_of(w)
                if op == O_LDXC1:
                    hard = w & odd & LEAVES[U(op)]
                elif op == O_LUXC1:
                    va &= ~U7
                    hard = odd
            if hard != U(0):
                why = W_SLOW
                break
            pa = load_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if op == O_LWC1 or op == O_LWXC1:
                if pa & U3 != U(0):
                    why = W_LOAD
                    break
                words[number << fr] = ram[pa >> U2]
            else:
                if pa & U7 != U(0):
                    why = W_LOAD
                    break
                wide[double_at(number, fr)] = U(ram[pa >> U2]) | (U(ram[(pa >> U2) + U1]) << U32)
            data += 1
        elif (
            op == O_SWC1 or op == O_SDC1 or op == O_SWXC1 or op == O_SDXC1 or op == O_SUXC1
        ):  # fmt: skip
            hard = w & off
            if op == O_SWC1 or op == O_SDC1:
                va = (U(r[rs_of(w)]) + imm16(w)) & M32
                number = rt_of(w)
            else:
                va = (U(r[rs_of(w)]) + U(r[rt_of(w)])) & M32
                number = rd_of(w)
                if op == O_SDXC1:
                    hard = w & odd & LEAVES[U(op)]
                elif op == O_SUXC1:
                    va &= ~U7
                    hard = odd
            if hard != U(0):
                why = W_SLOW
                break
            pa = store_word_address(
                va, f, fm, useg_end, kseg0_size, high_size, l1, dtags, dorder, dshift, dsets, dways
            )
            if op == O_SWC1 or op == O_SWXC1:
                if pa & U3 != U(0):
                    why = W_STORE
                    break
                ram[pa >> U2] = words[number << fr]
            else:
                if pa & U7 != U(0):
                    why = W_STORE
                    break
                value = wide[double_at(number, fr)]
                ram[pa >> U2] = value & M32
                ram[(pa >> U2) + U1] = value >> U32
                ops[(pa >> U2) + U1] = 0
            ops[pa >> U2] = 0
            data += 1
        elif op == O_MTC1 or op == O_MTHC1 or op == O_MFC1 or op == O_MFHC1:
            if w & off != U(0):
                why = W_SLOW
                break
            at = rd_of(w) << fr
            if op == O_MTHC1 or op == O_MFHC1:
                at |= U1
            if op == O_MTC1 or op == O_MTHC1:
                words[at] = r[rt_of(w)]
            else:
                r[rt_of(w)] = words[at]
                r[0] = 0
        elif op == O_BC1F or op == O_BC1T or op == O_BC1FL or op == O_BC1TL:
            if w & off != U(0):
                why = W_SLOW
                break
            if condition_bit(wide, w) == rt_of(w) & U1:
                npc = branch_target(pc, w)
                slot = np.int64(1)
            elif op == O_BC1F or op == O_BC1T:
                slot = np.int64(1)
            else:
                pc = npc
                npc = (npc + U4) & M32
        elif op == O_MOVF or op == O_MOVT:
            if off != U(0):
                why = W_SLOW
                break
            if condition_bit(wide, w) == rt_of(w) & U1:
                r[rd_of(w)] = r[rs_of(w)]
                r[0] = 0
        elif op == O_PREFX:
            if w & off != U(0):
                why = W_SLOW
                break
        elif op == UNDECODED:
            why = W_DECODE
            break
        elif FIRST_FLOAT <= op <= LAST_FLOAT:
            # All arithmetic has this form: operands, result, and whether it is known to be right.
            number = U(op)
            kind = HOT_KIND[number]
            source = SOURCE[number]
            target = TARGET[number]
            at = rd_of(w) << fr
            if source == D:
                x = doubles[at >> U1]
                y = doubles[double_at(rt_of(w), fr)]
            elif source == S:
                x = np.float64(singles[at])
                y = np.float64(singles[rt_of(w) << fr])
            else:
                x = np.float64(signed(U(words[at])))
                y = x
            single = target == S
            if kind == ADD:
                result, how = float_add(x, y, single)
            elif kind == SUB:
                result, how = float_add(x, -y, single)
            elif kind == MUL:
                result, how = float_multiply(x, y, single)
            elif kind == DIV:
                result, how = float_divide(x, y, single)
            elif kind == SQRT:
                result, how = float_root(x, single)
            elif MADD <= kind <= NMSUB:
                result, how = float_multiply(x, y, single)
                at = rs_of(w) << fr
                y = np.float64(singles[at]) if single else doubles[at >> U1]
                result, more = float_add(result, -y if w & U8 != U(0) else y, single)
                how |= more
                result = -result if w & U16 != U(0) else result
            elif kind == COMPARE:
                result, how = float_compare(x, y, w)
            elif kind == CVT and target < W:
                result, how = float_convert(x, single)
            elif kind == CVT or kind == TRUNC:
                result, how = float_truncate(x)
                how += np.int64(how == ROUNDED and kind == CVT)
            elif kind == ABS or kind == NEG:
                result, how = float_sign(x, kind == ABS)
            else:
                result, how = x, HARD
            if how >= HARD or w & slow & LEAVES[number] != U(0):
                why = W_SLOW
                break
            at = sa_of(w) << fr
            if kind == COMPARE:
                set_condition(wide, w, result)
            else:
                if target == D:
                    doubles[at >> U1] = result
                elif target == S:
                    singles[at] = np.float32(result)
                else:
                    words[at] = U(np.int64(result)) & M32
                settle(wide, how)
            extra += p[X_FPU_COSTS + COST[number]]
            n += p[X_FPU_COSTS + COST[number]]
        elif op == O_MOV_S or op == O_MOV_D or O_MOVF_S <= op <= O_MOVN_D:
            taken = True
            function = w & U(63)
            if function == U(17):  # movf, movt
                taken = condition_bit(wide, w) == rt_of(w) & U1
            elif function == U(18):  # movz
                taken = r[rt_of(w)] == 0
            elif function == U(19):  # movn
                taken = r[rt_of(w)] != 0
            if w & odd & LEAVES[U(op)] != U(0):
                why = W_SLOW
                break
            if taken:
                if w & DOUBLE == U(0):
                    words[sa_of(w) << fr] = words[rd_of(w) << fr]
                else:
                    wide[double_at(sa_of(w), fr)] = wide[double_at(rd_of(w), fr)]
        else:
            why = W_SLOW
            break
    return why, n, pc, npc, slot, cur, was_slot, fbase, fdelta, op, w, va, extra, data
