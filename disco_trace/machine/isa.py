"""The instruction table: the single source for decode, disassembly checks and later translation.

Each row gives a mnemonic, its 32-bit encoding and flags. In an encoding, 0 and 1 are fixed bits,
letters are operand fields (s rs, t rt, d rd, a shift amount, i immediate, c code, v FPU register
fr, w ft, x fs, y fd, h hint, k condition code, e select, n ignored). Each format of an FPU
operation is a row; formats without a row are reserved. The row's index is the dense opcode id
that the execute loop dispatches on; `tests/machine/test_isa.py` matches rows to arms.

Source: MIPS32 Architecture for Programmers, volume II, revision 2.62.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# RESERVED_FLOAT: an undefined operation of coprocessor 1, which is unusable before it is reserved.
UNDECODED, RESERVED, NOP, PHASE, RESERVED_FLOAT = range(5)
FIRST_ROW = 5


@dataclass(frozen=True)
class Row:
    """One instruction: `flags` names what a translator or a test must know of it.

    B has a delay slot · L branch-likely · M accesses memory · W writes memory · D writes only rd,
    T writes only rt (so that a zero destination makes it a no-op) · P privileged · F needs the FPU
    """

    name: str
    encoding: str
    flags: str = ""

    @property
    def mask(self) -> int:
        """Return the bits that the encoding fixes."""
        return int("".join("1" if c in "01" else "0" for c in self._bits), 2)

    @property
    def match(self) -> int:
        """Return what the fixed bits must be."""
        return int("".join("1" if c == "1" else "0" for c in self._bits), 2)

    @property
    def _bits(self) -> str:
        bits = self.encoding.replace(" ", "")
        assert len(bits) == 32, (self.name, len(bits))
        return bits


def _special(
    name: str, funct: int, flags: str = "", fields: str = "sssss ttttt ddddd nnnnn"
) -> Row:
    return Row(name, f"000000 {fields} {funct:06b}", flags)


def _shift(name: str, funct: int, rotate: int, variable: bool) -> Row:
    fields = f"sssss ttttt ddddd nnnn{rotate}" if variable else f"0000{rotate} ttttt ddddd aaaaa"
    return _special(name, funct, "D", fields)


def _immediate(name: str, opcode: int, flags: str = "T") -> Row:
    return Row(name, f"{opcode:06b} sssss ttttt iiiiiiiiiiiiiiii", flags)


def _regimm(name: str, rt: int, flags: str = "") -> Row:
    return Row(name, f"000001 sssss {rt:05b} iiiiiiiiiiiiiiii", flags)


def _special2(name: str, funct: int, flags: str = "") -> Row:
    return Row(name, f"011100 sssss ttttt ddddd nnnnn {funct:06b}", flags)


def _cop0(name: str, funct: int) -> Row:
    return Row(name, f"010000 1 nnnnnnnnnnnnnnnnnnn {funct:06b}", "P")


_FORMATS = {"s": 16, "d": 17, "w": 20, "l": 21}


def _float(
    name: str, funct: int, formats: str = "sd", fields: str = "nnnnn xxxxx yyyyy"
) -> tuple[Row, ...]:
    return tuple(
        Row(f"{name}.{letter}", f"010001 {_FORMATS[letter]:05b} {fields} {funct:06b}", "F")
        for letter in formats
    )


def _binary(name: str, funct: int) -> tuple[Row, ...]:
    return _float(name, funct, fields="wwwww xxxxx yyyyy")


def _condition(letter: str) -> Row:
    encoding = f"010001 {_FORMATS[letter]:05b} wwwww xxxxx kkk00 11cccc"
    return Row(f"c.cond.{letter}", encoding, "F")


def _multiply_add(name: str, funct: int) -> tuple[Row, ...]:
    fields = "010011 vvvvv wwwww xxxxx yyyyy"
    return tuple(
        Row(f"{name}.{letter}", f"{fields} {funct | which:06b}", "F")
        for which, letter in enumerate("sd")
    )


TABLE: tuple[Row, ...] = (
    _shift("sll", 0, 0, False), _shift("srl", 2, 0, False), _shift("rotr", 2, 1, False),
    _shift("sra", 3, 0, False), _shift("sllv", 4, 0, True), _shift("srlv", 6, 0, True),
    _shift("rotrv", 6, 1, True), _shift("srav", 7, 0, True),
    Row("movf", "000000 sssss kkk00 ddddd 00000 000001", "F"),
    Row("movt", "000000 sssss kkk01 ddddd 00000 000001", "F"),
    _special("jr", 8, "B"), _special("jalr", 9, "B"),
    _special("movz", 10, "D"), _special("movn", 11, "D"),
    _special("syscall", 12, fields="ccccc ccccc ccccc ccccc"),
    _special("break", 13, fields="ccccc ccccc ccccc ccccc"),
    _special("sync", 15), _special("mfhi", 16, "D"), _special("mthi", 17),
    _special("mflo", 18, "D"), _special("mtlo", 19), _special("mult", 24), _special("multu", 25),
    _special("div", 26), _special("divu", 27), _special("add", 32), _special("addu", 33, "D"),
    _special("sub", 34), _special("subu", 35, "D"), _special("and", 36, "D"),
    _special("or", 37, "D"), _special("xor", 38, "D"), _special("nor", 39, "D"),
    _special("slt", 42, "D"), _special("sltu", 43, "D"),
    _special("tge", 48), _special("tgeu", 49), _special("tlt", 50), _special("tltu", 51),
    _special("teq", 52), _special("tne", 54),
    _regimm("bltz", 0, "B"), _regimm("bgez", 1, "B"), _regimm("bltzl", 2, "BL"),
    _regimm("bgezl", 3, "BL"), _regimm("tgei", 8), _regimm("tgeiu", 9), _regimm("tlti", 10),
    _regimm("tltiu", 11), _regimm("teqi", 12), _regimm("tnei", 14), _regimm("bltzal", 16, "B"),
    _regimm("bgezal", 17, "B"), _regimm("bltzall", 18, "BL"), _regimm("bgezall", 19, "BL"),
    _regimm("synci", 31, "M"),
    Row("j", "000010 " + "i" * 26, "B"), Row("jal", "000011 " + "i" * 26, "B"),
    _immediate("beq", 4, "B"), _immediate("bne", 5, "B"),
    Row("blez", "000110 sssss 00000 iiiiiiiiiiiiiiii", "B"),
    Row("bgtz", "000111 sssss 00000 iiiiiiiiiiiiiiii", "B"),
    _immediate("addi", 8, ""), _immediate("addiu", 9), _immediate("slti", 10),
    _immediate("sltiu", 11), _immediate("andi", 12), _immediate("ori", 13),
    _immediate("xori", 14), Row("lui", "001111 nnnnn ttttt iiiiiiiiiiiiiiii", "T"),
    Row("mfc0", "010000 00000 ttttt ddddd nnnnn nnneee", "P"),
    Row("mtc0", "010000 00100 ttttt ddddd nnnnn nnneee", "P"),
    Row("rdpgpr", "010000 01010 ttttt ddddd nnnnn nnnnnn", "P"),
    Row("di", "010000 01011 ttttt 01100 nnnnn 0nnnnn", "P"),
    Row("ei", "010000 01011 ttttt 01100 nnnnn 1nnnnn", "P"),
    Row("wrpgpr", "010000 01110 ttttt ddddd nnnnn nnnnnn", "P"),
    _cop0("tlbr", 1), _cop0("tlbwi", 2), _cop0("tlbwr", 6), _cop0("tlbp", 8),
    _cop0("eret", 24), _cop0("deret", 31), _cop0("wait", 32),
    Row("mfc1", "010001 00000 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("cfc1", "010001 00010 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("mfhc1", "010001 00011 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("mtc1", "010001 00100 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("ctc1", "010001 00110 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("mthc1", "010001 00111 ttttt xxxxx nnnnn nnnnnn", "F"),
    Row("bc1f", "010001 01000 kkk00 iiiiiiiiiiiiiiii", "BF"),
    Row("bc1t", "010001 01000 kkk01 iiiiiiiiiiiiiiii", "BF"),
    Row("bc1fl", "010001 01000 kkk10 iiiiiiiiiiiiiiii", "BLF"),
    Row("bc1tl", "010001 01000 kkk11 iiiiiiiiiiiiiiii", "BLF"),
    *_float("mov", 6), *_float("movf", 17, fields="kkk00 xxxxx yyyyy"),
    *_float("movt", 17, fields="kkk01 xxxxx yyyyy"),
    *_float("movz", 18, fields="ttttt xxxxx yyyyy"),
    *_float("movn", 19, fields="ttttt xxxxx yyyyy"),
    # From here to the comparisons stands all arithmetic of coprocessor 1, for the hot loop.
    *_binary("add", 0), *_binary("sub", 1), *_binary("mul", 2), *_binary("div", 3),
    *_float("sqrt", 4), *_float("abs", 5), *_float("neg", 7),
    *_float("round.l", 8), *_float("trunc.l", 9), *_float("ceil.l", 10), *_float("floor.l", 11),
    *_float("round.w", 12), *_float("trunc.w", 13), *_float("ceil.w", 14),
    *_float("floor.w", 15), *_float("recip", 21), *_float("rsqrt", 22),
    *_float("cvt.s", 32, "dwl"), *_float("cvt.d", 33, "swl"), *_float("cvt.w", 36),
    *_float("cvt.l", 37), *_multiply_add("madd", 32), *_multiply_add("msub", 40),
    *_multiply_add("nmadd", 48), *_multiply_add("nmsub", 56),
    _condition("s"), _condition("d"),
    Row("cop2", "010010 " + "n" * 26),
    Row("lwxc1", "010011 sssss ttttt nnnnn yyyyy 000000", "FM"),
    Row("ldxc1", "010011 sssss ttttt nnnnn yyyyy 000001", "FM"),
    Row("luxc1", "010011 sssss ttttt nnnnn yyyyy 000101", "FM"),
    Row("swxc1", "010011 sssss ttttt xxxxx nnnnn 001000", "FMW"),
    Row("sdxc1", "010011 sssss ttttt xxxxx nnnnn 001001", "FMW"),
    Row("suxc1", "010011 sssss ttttt xxxxx nnnnn 001101", "FMW"),
    Row("prefx", "010011 sssss ttttt hhhhh nnnnn 001111", "F"),
    _immediate("beql", 20, "BL"), _immediate("bnel", 21, "BL"),
    Row("blezl", "010110 sssss 00000 iiiiiiiiiiiiiiii", "BL"),
    Row("bgtzl", "010111 sssss 00000 iiiiiiiiiiiiiiii", "BL"),
    _special2("madd", 0), _special2("maddu", 1), _special2("mul", 2, "D"), _special2("msub", 4),
    _special2("msubu", 5), _special2("clz", 32, "D"), _special2("clo", 33, "D"),
    Row("sdbbp", "011100 " + "c" * 20 + " 111111"),
    Row("ext", "011111 sssss ttttt ddddd aaaaa 000000", "T"),
    Row("ins", "011111 sssss ttttt ddddd aaaaa 000100", "T"),
    Row("wsbh", "011111 nnnnn ttttt ddddd 00010 100000", "D"),
    Row("seb", "011111 nnnnn ttttt ddddd 10000 100000", "D"),
    Row("seh", "011111 nnnnn ttttt ddddd 11000 100000", "D"),
    Row("rdhwr", "011111 nnnnn ttttt ddddd nnnnn 111011"),
    _immediate("lb", 32, "M"), _immediate("lh", 33, "M"), _immediate("lwl", 34, "M"),
    _immediate("lw", 35, "M"), _immediate("lbu", 36, "M"), _immediate("lhu", 37, "M"),
    _immediate("lwr", 38, "M"), _immediate("sb", 40, "MW"), _immediate("sh", 41, "MW"),
    _immediate("swl", 42, "MW"), _immediate("sw", 43, "MW"), _immediate("swr", 46, "MW"),
    _immediate("cache", 47, "PM"), _immediate("ll", 48, "M"), _immediate("lwc1", 49, "FM"),
    _immediate("pref", 51, ""), _immediate("ldc1", 53, "FM"), _immediate("sc", 56, "MW"),
    _immediate("swc1", 57, "FMW"), _immediate("sdc1", 61, "FMW"),
    Row("lwc2", "110010 " + "n" * 26), Row("ldc2", "110110 " + "n" * 26),
    Row("swc2", "111010 " + "n" * 26), Row("sdc2", "111110 " + "n" * 26),
)  # fmt: skip

ID = {row.name: FIRST_ROW + index for index, row in enumerate(TABLE)}
NAMES = ("undecoded", "reserved", "nop", "phase", "reserved-float", *(row.name for row in TABLE))
assert len(NAMES) == len(ID) + FIRST_ROW <= 256


def _decode_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows sorted by major opcode: start[65], match, mask, id, destination (0, 16 or 11)."""
    order = sorted(range(len(TABLE)), key=lambda i: (TABLE[i].match >> 26, i))
    start = np.zeros(65, np.int64)
    for index in order:
        start[(TABLE[index].match >> 26) + 1] += 1
    start = np.cumsum(start)
    rows = [TABLE[index] for index in order]
    destination = [11 if "D" in row.flags else 16 if "T" in row.flags else 0 for row in rows]
    return (
        start,
        np.array([row.match for row in rows], np.int64),
        np.array([row.mask for row in rows], np.int64),
        np.array([ID[row.name] for row in rows], np.int64),
        np.array(destination, np.int64),
    )


DECODE_START, DECODE_MATCH, DECODE_MASK, DECODE_ID, DECODE_DESTINATION = _decode_tables()

# Operations of coprocessor 1, by opcode id.
IS_FLOAT = np.array([n == RESERVED_FLOAT for n in range(FIRST_ROW)]
                    + ["F" in row.flags for row in TABLE])  # fmt: skip
