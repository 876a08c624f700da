"""A small assembler for tests: text to words, on the encodings of the instruction table.

`test_isa.py` holds those encodings against capstone, so that an error in the table does not hide
behind itself here.
"""

from __future__ import annotations

import re

from disco_trace.machine.isa import TABLE, Row

REGISTERS = {
    name: number
    for number, name in enumerate(
        [
            "zero",
            "at",
            "v0",
            "v1",
            "a0",
            "a1",
            "a2",
            "a3",
            "t0",
            "t1",
            "t2",
            "t3",
            "t4",
            "t5",
            "t6",
            "t7",
            "s0",
            "s1",
            "s2",
            "s3",
            "s4",
            "s5",
            "s6",
            "s7",
            "t8",
            "t9",
            "k0",
            "k1",
            "gp",
            "sp",
            "fp",
            "ra",
        ]
    )
} | {str(number): number for number in range(32)}

CP0 = {
    "index": (0, 0), "random": (1, 0), "entrylo0": (2, 0), "entrylo1": (3, 0), "context": (4, 0),
    "userlocal": (4, 2), "pagemask": (5, 0), "wired": (6, 0), "hwrena": (7, 0), "badvaddr": (8, 0),
    "count": (9, 0), "entryhi": (10, 0), "compare": (11, 0), "status": (12, 0), "intctl": (12, 1),
    "cause": (13, 0), "epc": (14, 0), "prid": (15, 0), "ebase": (15, 1), "config": (16, 0),
    "config1": (16, 1), "config2": (16, 2), "config3": (16, 3), "config7": (16, 7),
    "srsctl": (12, 2), "srsmap": (12, 3), "lladdr": (17, 0), "watchlo": (18, 0), "debug": (23, 0),
    "perfctl": (25, 0), "errctl": (26, 0), "taglo": (28, 0), "dtaglo": (28, 2), "taghi": (29, 0),
    "errorepc": (30, 0), "desave": (31, 0),
}  # fmt: skip

ROWS = {row.name: row for row in TABLE}

# Operands in their written order: a field's letter, m for offset(base), z for size − 1 in the
# field d, y for the last bit in the field d, p for a CP0 register, r for a branch, g for a jump.
_OPERANDS = {
    "dst": "addu subu add sub and or xor nor slt sltu movz movn mul",
    "dta": "sll srl sra rotr",
    "dts": "sllv srlv srav rotrv",
    "st": "mult multu div divu madd maddu msub msubu tge tgeu tlt tltu teq tne",
    "s": "jr mthi mtlo",
    "ds": "jalr clz clo",
    "d": "mfhi mflo",
    "dt": "wsbh seb seh",
    "tsi": "addi addiu slti sltiu andi ori xori",
    "ti": "lui",
    "si": "tgei tgeiu tlti tltiu teqi tnei",
    "str": "beq bne beql bnel",
    "sr": "blez bgtz blezl bgtzl bltz bgez bltzl bgezl bltzal bgezal bltzall bgezall",
    "g": "j jal",
    "tp": "mfc0 mtc0",
    "t": "di ei",
    "td": "rdhwr rdpgpr",
    "m": "synci",
    "tm": "lb lh lwl lw lbu lhu lwr sb sh swl sw swr ll sc cache pref",
    "tsaz": "ext",
    "tsay": "ins",
    "": "syscall break sync tlbr tlbwi tlbwr tlbp eret deret wait sdbbp",
}
OPERANDS = {name: order for order, names in _OPERANDS.items() for name in names.split()}
_BASE = {row.name: row.match for row in TABLE}
_SHIFT = {"s": 21, "t": 16, "d": 11, "a": 6, "i": 0}


def encode(name: str, **fields: int) -> int:
    """Return an instruction's word from the fields s, t, d, a, i (truncated to their width)."""
    word = _BASE[name]
    for field, value in fields.items():
        word |= (value & (0xFFFF if field == "i" else 31)) << _SHIFT[field]
    return word


def assemble(text: str, at: int = 0x80001000, **symbols: int) -> list[int]:
    """Return the words of a program that starts at `at`.

    One instruction a line, `#` starts a comment, `name:` a label, `.word` gives data; `li` is two
    words, `nop`, `move` and `b` one. Numbers may be symbols, with `+n` behind them.
    """
    lines: list[tuple[str, list[str]]] = []
    labels = dict(symbols)
    for raw in text.splitlines():
        line = raw.split("#")[0].strip()
        while match := re.match(r"(\w+):\s*", line):
            labels[match[1]] = at + 4 * len(lines)
            line = line[match.end() :]
        if not line:
            continue
        name, _, rest = line.partition(" ")
        operands = [part.strip() for part in rest.split(",")] if rest.strip() else []
        if name == "li":
            lines.append(("lui", [operands[0], "hi:" + operands[1]]))
            lines.append(("ori", [operands[0], operands[0], "lo:" + operands[1]]))
        elif name == "nop":
            lines.append(("sll", ["$zero", "$zero", "0"]))
        elif name == "move":
            lines.append(("or", [*operands, "$zero"]))
        elif name == "b":
            lines.append(("beq", ["$zero", "$zero", *operands]))
        else:
            lines.append((name, operands))
    return [_line(name, ops, at + 4 * n, labels) for n, (name, ops) in enumerate(lines)]


def _line(name: str, operands: list[str], here: int, labels: dict[str, int]) -> int:
    def number(text: str) -> int:
        if text.startswith("hi:"):
            return number(text[3:]) >> 16 & 0xFFFF
        if text.startswith("lo:"):
            return number(text[3:]) & 0xFFFF
        if text.startswith("-"):
            return -number(text[1:])
        first, plus, second = text.partition("+")
        value = labels[first] if first in labels else int(first, 0)
        return value + (number(second) if plus else 0)

    def register(text: str) -> int:
        return REGISTERS[text.removeprefix("$")]

    if name == ".word":
        return number(operands[0]) & 0xFFFFFFFF
    order = OPERANDS[name]
    assert len(order) == len(operands), (name, operands)
    word = _BASE[name]
    position = 0
    for kind, text in zip(order, operands, strict=True):
        if kind in "std":
            value = register(text) if text.startswith("$") else number(text)
            word |= value << _SHIFT[kind]
        elif kind == "a":
            position = number(text)
            word |= position << 6
        elif kind == "z":
            word |= (number(text) - 1) << 11
        elif kind == "y":
            word |= (position + number(text) - 1) << 11
        elif kind == "i":
            word |= number(text) & 0xFFFF
        elif kind == "r":
            word |= (number(text) - here - 4) >> 2 & 0xFFFF
        elif kind == "g":
            word |= number(text) >> 2 & 0x3FFFFFF
        elif kind == "p":
            which, select = CP0[text]
            word |= which << 11 | select
        else:
            offset, base = re.fullmatch(r"(.*)\((.*)\)", text).groups()
            word |= number(offset or "0") & 0xFFFF | register(base) << 21
    return word


def row_of(name: str) -> Row:
    """Return the table's row of a mnemonic."""
    return ROWS[name]
