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
# Of the FPU: V W X Y for registers fr ft fs fd, K for a condition code in bits 20:18 and k in 10:8
# (both may be left out), x for a control register, o for index(base).
CONDITIONS = ["f", "un", "eq", "ueq", "olt", "ult", "ole", "ule",
              "sf", "ngle", "seq", "ngl", "lt", "nge", "le", "ngt"]  # fmt: skip
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
    "YXW": "add.s add.d sub.s sub.d mul.s mul.d div.s div.d",
    "YX": (
        "sqrt.s sqrt.d abs.s abs.d mov.s mov.d neg.s neg.d recip.s recip.d rsqrt.s rsqrt.d"
        " round.l.s round.l.d trunc.l.s trunc.l.d ceil.l.s ceil.l.d floor.l.s floor.l.d"
        " round.w.s round.w.d trunc.w.s trunc.w.d ceil.w.s ceil.w.d floor.w.s floor.w.d"
        " cvt.s.d cvt.s.w cvt.s.l cvt.d.s cvt.d.w cvt.d.l cvt.w.s cvt.w.d cvt.l.s cvt.l.d"
    ),
    "YVXW": "madd.s madd.d msub.s msub.d nmadd.s nmadd.d nmsub.s nmsub.d",
    "kXW": " ".join(f"c.{name}.{fmt}" for fmt in "sd" for name in CONDITIONS),
    "YXt": "movz.s movz.d movn.s movn.d",
    "YXK": "movf.s movf.d movt.s movt.d",
    "dsK": "movf movt",
    "Kr": "bc1f bc1t bc1fl bc1tl",
    "tX": "mfc1 mtc1 mfhc1 mthc1",
    "tx": "cfc1 ctc1",
    "Wm": "lwc1 ldc1 swc1 sdc1",
    "Yo": "lwxc1 ldxc1 luxc1",
    "Xo": "swxc1 sdxc1 suxc1",
    "ho": "prefx",
    "": "syscall break sync tlbr tlbwi tlbwr tlbp eret deret wait sdbbp",
}
OPERANDS = {name: order for order, names in _OPERANDS.items() for name in names.split()}
_BASE = {row.name: row.match for row in TABLE} | {
    f"c.{name}.{fmt}": ROWS[f"c.cond.{fmt}"].match | number
    for fmt in "sd"
    for number, name in enumerate(CONDITIONS)
}
_SHIFT = {"s": 21, "t": 16, "d": 11, "a": 6, "i": 0, "v": 21, "w": 16, "x": 11, "y": 6, "h": 11}


def encode(name: str, **fields: int) -> int:
    """Return an instruction's word from its fields, truncated to their width.

    Fields: s, t, d, a, i, and v, w, x, y for the FPU's registers fr, ft, fs, fd.
    """
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
    if len(operands) < len(order):
        order = order.replace("K", "").replace("k", "")
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
        elif kind in "VWXY":
            assert text.startswith("$f"), text
            word |= int(text[2:]) << _SHIFT[kind.lower()]
        elif kind in "xh":
            word |= number(text.removeprefix("$")) << 11
        elif kind in "Kk":
            word |= number(text) << (18 if kind == "K" else 8)
        elif kind == "o":
            index, base = re.fullmatch(r"(.*)\((.*)\)", text).groups()
            word |= register(base) << 21 | register(index) << 16
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
