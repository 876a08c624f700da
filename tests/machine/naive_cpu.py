"""A slow, obvious MIPS32 release 2 processor: the manual's pseudocode, one instruction at a time.

Written from MIPS32 Architecture for Programmers, volumes II and III, for comparison with the
machine, from which it takes nothing but its memory map. It has the integer instructions, all modes,
the TLB and exceptions. What depends on time (Count, Random, WAIT), the FPU and devices it does not
know: it says so before it changes anything (`Unknown`). Where the manual leaves a result
unpredictable, it does what docs/machine.md says.
"""

from __future__ import annotations

import numpy as np

INT, MOD, TLBL, TLBS, ADEL, ADES, IBE, DBE, SYS, BP, RI, CPU, OV, TR = range(14)
FETCH, LOAD, STORE = range(3)
EXL, ERL, BEV, IV, BD = 2, 4, 1 << 22, 1 << 23, 1 << 31
M32 = 0xFFFFFFFF
DEVICES = range(0x1F000000, 0x1F020000)

INDEX, RANDOM, ENTRYLO0, ENTRYLO1, CONTEXT, PAGEMASK, WIRED, HWRENA = (8 * n for n in range(8))
BADVADDR, COUNT, ENTRYHI, COMPARE, STATUS, CAUSE, EPC = (8 * n for n in range(8, 15))
EBASE, LLADDR, ERROREPC, USERLOCAL, CONFIG = 15 * 8 + 1, 17 * 8, 30 * 8, 4 * 8 + 2, 16 * 8
WRITABLE = {
    INDEX: 0x3F, ENTRYLO0: 0x3FFFFFFF, ENTRYLO1: 0x3FFFFFFF, CONTEXT: 0xFF800000,
    PAGEMASK: 0x1FFFE000, WIRED: 0x3F, HWRENA: 0x2000000F, ENTRYHI: 0xFFFFE0FF,
    STATUS: 0x3C40FF1F, CAUSE: 0x08800300, EPC: M32, EBASE: 0x3FFFF000, ERROREPC: M32,
    USERLOCAL: M32, CONFIG: 7,
}  # fmt: skip


class Unknown(Exception):
    """The next instruction is none of this processor's."""


class Fault(Exception):
    """An exception of the architecture: its code, the address, whether no entry matched, CE."""

    def __init__(self, code: int, address: int = 0, missed: bool = False, unit: int = 0) -> None:
        self.code, self.address, self.missed, self.unit = code, address, missed, unit


def signed(value: int) -> int:
    return (value & M32 ^ 0x80000000) - 0x80000000


class Naive:
    """State as in the manual; `memory` is an array of words, written in place."""

    def __init__(self, memory: np.ndarray, entries: int = 64) -> None:
        self.memory, self.entries = memory, entries
        self.r = [0] * 32
        self.hi = self.lo = 0
        self.k = [0] * 256
        self.tlb = [(0, 0, 0, 0)] * entries
        self.pc, self.npc, self.slot = 0, 4, False
        self.reserved, self.reserved_at = False, 0

    # Modes and addresses.

    def mode(self) -> int:
        """Return 0 kernel, 1 supervisor, 2 user."""
        status = self.k[STATUS]
        return 0 if status & (EXL | ERL) else min(status >> 3 & 3, 2)

    def privileged(self) -> bool:
        return self.mode() == 0 or bool(self.k[STATUS] & 1 << 28)

    def look_up(self, address: int, access: int) -> int:
        code = TLBS if access == STORE else TLBL
        for hi, mask, lo0, lo1 in self.tlb:
            low = mask | 0x1FFF
            if hi & ~low & M32 != address & ~low & M32:
                continue
            if not lo0 & lo1 & 1 and hi & 0xFF != self.k[ENTRYHI] & 0xFF:
                continue
            size = (low + 1) >> 1
            lo = lo1 if address & size else lo0
            if not lo & 2:
                raise Fault(code, address)
            if access == STORE and not lo & 4:
                raise Fault(MOD, address)
            return (lo >> 6 << 12) & ~(size - 1) | address & (size - 1)
        raise Fault(code, address, missed=True)

    def translate(self, address: int, access: int, align: int) -> int:
        wrong = ADES if access == STORE else ADEL
        mode = self.mode()
        if address & (align - 1):
            raise Fault(wrong, address)
        top = address >> 29
        allowed = top < 4 or mode == 0 or (mode == 1 and top == 6)
        if not allowed:
            raise Fault(wrong, address)
        if top in (4, 5):
            physical = address & 0x1FFFFFFF
        elif top < 4 and self.k[STATUS] & ERL:
            physical = address
        else:
            physical = self.look_up(address, access)
        if physical < 4 * len(self.memory):
            return physical
        if physical in DEVICES and access != FETCH:
            raise Unknown("device")
        raise Fault(IBE if access == FETCH else DBE, address)

    # Exceptions.

    def enter(self, fault: Fault) -> None:
        k = self.k
        status = k[STATUS]
        offset = 0x180
        if not status & EXL:
            k[EPC] = (self.pc - 4 if self.slot else self.pc) & M32
            k[CAUSE] = k[CAUSE] & ~BD | (BD if self.slot else 0)
            if fault.missed:
                offset = 0
            elif fault.code == INT and k[CAUSE] & IV:
                offset = 0x200
        k[CAUSE] = k[CAUSE] & ~0x3000007C | fault.code << 2 | fault.unit << 28
        k[STATUS] = status | EXL
        if MOD <= fault.code <= ADES:
            k[BADVADDR] = fault.address
        if MOD <= fault.code <= TLBS:
            k[CONTEXT] = k[CONTEXT] & 0xFF800000 | (fault.address >> 13 << 4) & 0x7FFFF0
            k[ENTRYHI] = fault.address & 0xFFFFE000 | k[ENTRYHI] & 0xFF
        base = 0xBFC00200 if status & BEV else k[EBASE] & 0xFFFFF000
        self.jump(base + offset)

    def jump(self, address: int) -> None:
        self.pc, self.npc, self.slot = address & M32, address + 4 & M32, False

    def interrupted(self) -> bool:
        k = self.k
        return bool(k[CAUSE] & k[STATUS] & 0xFF00) and k[STATUS] & 7 == 1

    def snapshot(self) -> tuple:
        return self.pc, self.npc, self.slot, self.k.copy()

    def retire(self) -> None:
        """Run until one instruction has retired, through all exceptions before it.

        Raises Unknown, with all as it was before, if that cannot be said.
        """
        before = self.snapshot()
        for _ in range(20):
            try:
                if self.interrupted():
                    raise Fault(INT)
                at = self.translate(self.pc, FETCH, 4)
                self.execute(int(self.memory[at >> 2]))
                return
            except Fault as fault:
                self.enter(fault)
            except Unknown:
                break
        self.pc, self.npc, self.slot, self.k = before
        raise Unknown

    # Instructions.

    def execute(self, w: int) -> None:
        """Carry out one; all faults come before any change."""
        pc, npc = self.npc, (self.npc + 4) & M32
        nullify, slot = False, False
        r = self.r
        op, rs, rt, rd, sa, f = (
            w >> 26,
            w >> 21 & 31,
            w >> 16 & 31,
            w >> 11 & 31,
            w >> 6 & 31,
            w & 63,
        )
        a, b = r[rs], r[rt]
        imm = (w & 0xFFFF ^ 0x8000) - 0x8000
        taken: bool | None = None
        link = False
        target = (pc + 4 * imm) & M32
        where, value = 0, 0  # the register that is written
        if op == 0:
            where, value, target, taken = self.special(w, a, b, pc, npc)
        elif op == 1:
            if rt in (0, 2, 16, 18):
                taken, link = signed(a) < 0, rt >= 16
            elif rt in (1, 3, 17, 19):
                taken, link = signed(a) >= 0, rt >= 16
            elif rt in (8, 9, 10, 11, 12, 14):
                self.trap(rt & 7, a, imm & M32)
            elif rt == 31:
                self.quiet(a + imm)
            else:
                raise Fault(RI)
            nullify = rt in (2, 3, 18, 19)
            if link:
                where, value = 31, npc
        elif op in (2, 3):
            taken, target = True, pc & 0xF0000000 | (w & 0x3FFFFFF) << 2
            if op == 3:
                where, value = 31, npc
        elif op in (4, 5, 20, 21):
            taken, nullify = (a == b) == (op & 1 == 0), op >= 20
        elif op in (6, 7, 22, 23):
            if rt:
                raise Fault(RI)
            taken, nullify = (signed(a) > 0) == (op & 1 == 1), op >= 20
        elif op == 8:
            total = signed(a) + imm
            if total != signed(total):
                raise Fault(OV)
            where, value = rt, total
        elif op == 9:
            where, value = rt, a + imm
        elif op == 10:
            where, value = rt, signed(a) < imm
        elif op == 11:
            where, value = rt, a < imm & M32
        elif op in (12, 13, 14):
            low = w & 0xFFFF
            where, value = rt, a & low if op == 12 else a | low if op == 13 else a ^ low
        elif op == 15:
            where, value = rt, (w & 0xFFFF) << 16
        elif op == 16:
            if self.system(w, rs, rt, rd, f):
                return
        elif op in (17, 19, 49, 53, 57, 61):
            if self.k[STATUS] & 1 << 29:
                raise Unknown("FPU")
            raise Fault(CPU, unit=1)
        elif op in (18, 50, 54, 58, 62):
            raise Fault(CPU, unit=2)
        elif op == 28:
            where, value = self.special2(f, rd, a, b)
        elif op == 31:
            where, value = self.special3(w, rs, rt, rd, sa, f, a, b)
        elif op in (32, 33, 34, 35, 36, 37, 38, 48):
            where, value = rt, self.load(op, (a + imm) & M32, b)
        elif op in (40, 41, 42, 43, 46):
            self.store(op, (a + imm) & M32, b)
        elif op == 56:
            where, value = rt, self.store_conditional((a + imm) & M32, b)
        elif op == 47:
            if not self.privileged():
                raise Fault(CPU)
            if rt >> 2 in (1, 2):
                raise Unknown("cache tags")
            if rt in (0x14, 0x1C, 0x1D):  # fill and lock read memory, so that it must be there
                self.translate((a + imm) & M32, LOAD, 1)
            elif rt >> 2 >= 4:
                self.quiet(a + imm)
        elif op != 51:
            raise Fault(RI)
        if where:
            r[where] = int(value) & M32
        if taken is not None:
            slot = True
            if taken:
                npc = target
            elif nullify:
                pc, npc, slot = npc, (npc + 4) & M32, False
        self.pc, self.npc, self.slot = pc, npc, slot

    def quiet(self, address: int) -> None:
        """Translate for SYNCI and CACHE, to which missing memory does not matter."""
        try:
            self.translate(address & M32, LOAD, 1)
        except Fault as fault:
            if fault.code != DBE:
                raise
        except Unknown:
            pass

    def trap(self, kind: int, a: int, b: int) -> None:
        conditions = {0: signed(a) >= signed(b), 1: a >= b, 2: signed(a) < signed(b), 3: a < b,
                      4: a == b, 6: a != b}  # fmt: skip
        if conditions[kind]:
            raise Fault(TR)

    def special(
        self, w: int, a: int, b: int, pc: int, npc: int
    ) -> tuple[int, int, int, bool | None]:
        rs, rd, sa, f = w >> 21 & 31, w >> 11 & 31, w >> 6 & 31, w & 63
        if f in (0, 2, 3):
            if rs > (f == 2):
                raise Fault(RI)
            value = b << sa if f == 0 else b >> sa if f == 2 else signed(b) >> sa
            return rd, value | (b << 32 - sa if rs else 0), 0, None
        if f in (4, 6, 7):
            if sa > (f == 6):
                raise Unknown("bits to be zero")
            by = a & 31
            value = b << by if f == 4 else b >> by if f == 6 else signed(b) >> by
            return rd, value | (b << 32 - by if sa else 0), 0, None
        if f == 1:
            if w & 1 << 17 or sa:
                raise Unknown("bits to be zero")
            if self.k[STATUS] & 1 << 29:
                raise Unknown("FPU")
            raise Fault(CPU, unit=1)
        if f == 8:
            return 0, 0, a, True
        if f == 9:
            return rd, npc, a, True
        if f in (10, 11):
            return (rd, a, 0, None) if (b == 0) == (f == 10) else (0, 0, 0, None)
        if f in (12, 13):
            raise Fault(SYS if f == 12 else BP)
        if f == 15:
            return 0, 0, 0, None
        if f in (16, 18):
            return rd, self.hi if f == 16 else self.lo, 0, None
        if f == 17:
            self.hi = a
        elif f == 19:
            self.lo = a
        elif f in (24, 25):
            product = signed(a) * signed(b) if f == 24 else a * b
            self.hi, self.lo = product >> 32 & M32, product & M32
        elif f in (26, 27):
            x, y = (signed(a), signed(b)) if f == 26 else (a, b)
            if y == 0:  # unpredictable
                quotient, rest = (-1 if x >= 0 else 1), x
            else:
                quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
                rest = x - quotient * y
            self.hi, self.lo = rest & M32, quotient & M32
        elif f in (32, 34):
            total = signed(a) + signed(b) if f == 32 else signed(a) - signed(b)
            if total != signed(total):
                raise Fault(OV)
            return rd, total, 0, None
        elif f in (33, 35, 36, 37, 38, 39, 42, 43):
            value = {33: a + b, 35: a - b, 36: a & b, 37: a | b, 38: a ^ b, 39: ~(a | b),
                     42: signed(a) < signed(b), 43: a < b}[f]  # fmt: skip
            return rd, value, 0, None
        elif f in (48, 49, 50, 51, 52, 54):
            self.trap(f & 7, a, b)
        else:
            raise Fault(RI)
        return 0, 0, 0, None

    def special2(self, f: int, rd: int, a: int, b: int) -> tuple[int, int]:
        if f in (0, 1, 4, 5):
            product = signed(a) * signed(b) if f in (0, 4) else a * b
            total = (self.hi << 32 | self.lo) + (product if f < 4 else -product)
            self.hi, self.lo = total >> 32 & M32, total & M32
            return 0, 0
        if f == 2:
            return rd, signed(a) * signed(b)
        if f in (32, 33):
            value = a if f == 32 else ~a & M32
            return rd, 32 - value.bit_length()
        raise Fault(RI)

    def special3(
        self, w: int, rs: int, rt: int, rd: int, sa: int, f: int, a: int, b: int
    ) -> tuple[int, int]:
        if f == 0:
            return rt, a >> sa & ((1 << rd + 1) - 1)
        if f == 4:
            if rd < sa:  # unpredictable
                return 0, 0
            field = ((1 << rd - sa + 1) - 1) << sa
            return rt, b & ~field | a << sa & field
        if f == 32 and sa == 2:
            return rd, (b & 0xFF00FF) << 8 | b >> 8 & 0xFF00FF
        if f == 32 and sa == 16:
            return rd, (b & 0xFF ^ 0x80) - 0x80
        if f == 32 and sa == 24:
            return rd, (b & 0xFFFF ^ 0x8000) - 0x8000
        if f == 59:
            if not self.privileged() and not self.k[HWRENA] >> rd & 1:
                raise Fault(RI)
            if rd == 2:
                raise Unknown("Count")
            known = {0: 0, 1: 32, 3: 2, 29: self.k[USERLOCAL]}
            if rd not in known:
                raise Fault(RI)
            return rt, known[rd]
        raise Fault(RI)

    def system(self, w: int, rs: int, rt: int, rd: int, f: int) -> bool:
        """Carry out an instruction of coprocessor 0; return True if it has set pc itself."""
        if not self.privileged():
            raise Fault(CPU)
        k = self.k
        number = rd << 3 | w & 7
        if rs == 0:
            if number in (RANDOM, COUNT) or rd in (26, 28, 29) or (rd == 16 and w & 7 == 7):
                raise Unknown("time, cache tags, or plain storage")
            value = self.reserved_at >> 4 if number == LLADDR else k[number]
            self.r[rt] = value if rt else 0
        elif rs == 4:
            if number in (COUNT, COMPARE) or rd in (26, 28, 29) or (rd == 16 and w & 7 == 7):
                raise Unknown("time, cache tags, or plain storage")
            mask = WRITABLE.get(number, 0)
            k[number] = k[number] & ~mask | self.r[rt] & mask
            k[WIRED] = min(k[WIRED], self.entries - 1)  # undefined beyond the last entry
        elif rs in (10, 14):
            self.r[rd] = self.r[rt] if rd else 0
        elif rs == 11 and rd == 12:
            old = k[STATUS]
            k[STATUS] = old | 1 if w & 32 else old & ~1
            self.r[rt] = old if rt else 0
        elif rs < 16:
            raise Fault(RI)
        elif f == 1:
            if k[INDEX] & 63 < self.entries:
                hi, mask, lo0, lo1 = self.tlb[k[INDEX] & 63]
                k[ENTRYHI], k[PAGEMASK], k[ENTRYLO0], k[ENTRYLO1] = hi, mask, lo0, lo1
        elif f == 2:
            if k[INDEX] & 63 < self.entries:
                mask, both = k[PAGEMASK], k[ENTRYLO0] & k[ENTRYLO1] & 1
                self.tlb[k[INDEX] & 63] = (
                    k[ENTRYHI] & ~mask, mask, k[ENTRYLO0] & ~1 | both, k[ENTRYLO1] & ~1 | both
                )  # fmt: skip
        elif f == 8:
            k[INDEX] = 0x80000000
            for entry, (hi, mask, lo0, lo1) in reversed(list(enumerate(self.tlb))):
                low = mask | 0x1FFF
                if hi & ~low == k[ENTRYHI] & ~low:
                    if lo0 & lo1 & 1 or hi & 0xFF == k[ENTRYHI] & 0xFF:
                        k[INDEX] = entry
        elif f == 24:
            if k[STATUS] & ERL:
                k[STATUS] &= ~ERL
                self.jump(k[ERROREPC])
            else:
                k[STATUS] &= ~EXL
                self.jump(k[EPC])
            self.reserved = False
            return True
        elif f in (6, 32):
            raise Unknown("time")
        else:
            raise Fault(RI)
        return False

    # Memory.

    def load(self, op: int, address: int, old: int) -> int:
        align = {33: 2, 37: 2, 35: 4, 48: 4}.get(op, 1)
        physical = self.translate(address, LOAD, align)
        word = int(self.memory[physical >> 2])
        at = 8 * (physical & 3)
        if op == 48:
            self.reserved, self.reserved_at = True, physical
        if op in (35, 48):
            return word
        if op == 34:
            return word << 24 - at | old & (1 << 24 - at) - 1
        if op == 38:
            return word >> at | old & ~(M32 >> at)
        bits = 16 if op in (33, 37) else 8
        value = word >> at & (1 << bits) - 1
        return value - (value >> bits - 1 << bits) if op in (32, 33) else value

    def store(self, op: int, address: int, value: int) -> None:
        physical = self.translate(address, STORE, {41: 2, 43: 4}.get(op, 1))
        at = 8 * (physical & 3)
        word = int(self.memory[physical >> 2])
        if op == 42:
            word = word & ~(M32 >> 24 - at) | value >> 24 - at
        elif op == 46:
            word = word & (1 << at) - 1 | value << at & M32
        else:
            field = (1 << {40: 8, 41: 16, 43: 32}[op]) - 1 << at
            word = word & ~field | value << at & field
        self.memory[physical >> 2] = word

    def store_conditional(self, address: int, value: int) -> int:
        physical = self.translate(address, STORE, 4)
        done = self.reserved and self.reserved_at == physical
        if done:
            self.memory[physical >> 2] = value
        self.reserved = False
        return int(done)
