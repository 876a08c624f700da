"""The instruction table against itself, capstone, and the execute loop's source."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import numpy as np
import pytest

import disco_trace.machine.hot as hot
import disco_trace.machine.kernel as kernel
from disco_trace.jit import kernel as compiled
from disco_trace.machine import decode, isa
from disco_trace.machine.fpu import execute, table
from disco_trace.machine.fpu.table import ELSEWHERE, KIND
from tests.machine.assemble import OPERANDS, assemble

capstone = pytest.importorskip("capstone")

ROWS = {row.name: row for row in isa.TABLE}


@compiled
def _decode(word):
    return decode.decode(word)


def words_of(row: isa.Row, count: int = 64) -> list[int]:
    """Return words that a row encodes, with random operands but no destination 0."""
    rng = random.Random(row.name)
    free = ~row.mask & 0xFFFFFFFF
    words = []
    while len(words) < count:
        word = row.match | rng.getrandbits(32) & free
        if (word >> 11 & 31 or "D" not in row.flags) and (word >> 16 & 31 or "T" not in row.flags):
            words.append(word)
    return words


@pytest.mark.parametrize("row", isa.TABLE, ids=lambda row: row.name)
def test_row_decodes_to_itself(row):
    for word in words_of(row):
        assert isa.NAMES[_decode(word)] == row.name, f"{word:08x}"


def test_no_two_rows_claim_a_word():
    for index, a in enumerate(isa.TABLE):
        for b in isa.TABLE[index + 1 :]:
            common = a.mask & b.mask
            assert a.match & common != b.match & common, (a.name, b.name)


# Capstone says these by their aliases, for some or all operands.
ALIASES = {
    "sll": {"nop", "ssnop", "ehb", "pause"}, "addu": {"move"}, "or": {"move"}, "nor": {"not"},
    "sub": {"neg"}, "subu": {"negu"}, "beq": {"b", "beqz"}, "bne": {"bnez"}, "beql": {"beqzl"},
    "bnel": {"bnezl"}, "bgezal": {"bal"}, "jr": {"jr.hb"}, "jalr": {"jalr.hb"},
    "addiu": {"li"}, "ori": {"li"},
}  # fmt: skip
# What the manual reserves or leaves unpredictable, so that capstone may refuse it, is not drawn:
# operands that the tests' assembler can write are.
SAMPLES = {
    "d": "$t0", "s": "$s1", "t": "$a3", "a": "5", "z": "7", "y": "7", "i": "-2", "r": "here",
    "g": "here", "m": "-8($t1)", "V": "$f2", "W": "$f4", "X": "$f6", "Y": "$f8", "K": "3",
    "k": "3", "x": "$31", "o": "$a3($s1)", "h": "5",
}  # fmt: skip
CAPSTONE_LACKS = {"rdpgpr", "wrpgpr", "recip.s", "recip.d", "rsqrt.s", "rsqrt.d", "prefx"}
WIDE = {"luxc1", "suxc1", "mfhc1", "mthc1"}


def sample(name: str) -> int:
    if name == "mfc0" or name == "mtc0":
        return assemble(f"{name} $t0, status")[0]
    if name in ("andi", "ori", "xori", "lui"):
        return assemble(f"{name} " + {"lui": "$t0, 0x8001"}.get(name, "$t0, $t1, 0x8001"))[0]
    if name in ("cache", "pref"):
        return assemble(f"{name} 1, 8($t1)")[0]
    if name in ("clz", "clo"):
        return assemble(f"{name} $t0, $s1")[0] | 8 << 16
    if name.startswith("c."):
        return assemble(f"{name} $f6, $f4")[0]
    if name == "rdhwr":
        return assemble("rdhwr $t0, $29")[0]
    order = OPERANDS[name]
    return assemble(f"here: {name} " + ", ".join(SAMPLES[letter] for letter in order))[0]


@pytest.mark.parametrize("name", sorted(set(OPERANDS) - CAPSTONE_LACKS))
def test_capstone_reads_the_same_mnemonic(name):
    # The format L is known to capstone for 64-bit processors only.
    mode = capstone.CS_MODE_MIPS64 if ".l" in name or name in WIDE else capstone.CS_MODE_MIPS32
    engine = capstone.Cs(capstone.CS_ARCH_MIPS, mode)
    found = list(engine.disasm(sample(name).to_bytes(4, "little"), 0x80001000))
    assert found, f"capstone does not know {sample(name):08x}"
    assert found[0].mnemonic in {name} | ALIASES.get(name, set())


@pytest.mark.parametrize(
    ("text", "operands"),
    [
        ("addu $t0, $s1, $a3", "$t0, $s1, $a3"),
        ("sll $t0, $a3, 5", "$t0, $a3, 5"),
        ("sllv $t0, $a3, $s1", "$t0, $a3, $s1"),
        ("ext $a3, $s1, 5, 7", "$a3, $s1, 5, 7"),
        ("ins $a3, $s1, 5, 7", "$a3, $s1, 5, 7"),
        ("lw $a3, -8($t1)", "$a3, -8($t1)"),
        ("slti $a3, $s1, -2", "$a3, $s1, -2"),
        ("bne $s1, $a3, there", "$s1, $a3, 0x80002000"),
        ("bltzal $s1, there", "$s1, 0x80002000"),
        ("jal there", "0x80002000"),
        ("mult $s1, $a3", "$s1, $a3"),
        ("mfhi $t0", "$t0"),
        ("jalr $t0, $s1", "$t0, $s1"),
        ("seb $t0, $a3", "$t0, $a3"),
        ("teq $s1, $a3", "$s1, $a3"),
        ("tgei $s1, 2", "$s1, 2"),
        ("add.d $f8, $f6, $f4", "$f8, $f6, $f4"),
        ("sqrt.s $f9, $f7", "$f9, $f7"),
        ("madd.s $f1, $f2, $f3, $f4", "$f1, $f2, $f3, $f4"),
        ("c.olt.s $f1, $f2", "$f1, $f2"),
        ("bc1tl 5, there", "$fcc5, 0x80002000"),
        ("movt $t0, $s1, 2", "$t0, $s1, $fcc2"),
        ("movf.s $f1, $f2, 6", "$f1, $f2, $fcc6"),
        ("movz.s $f1, $f2, $a3", "$f1, $f2, $a3"),
        ("mtc1 $a3, $f5", "$a3, $f5"),
        ("ldc1 $f4, -8($t1)", "$f4, -8($t1)"),
        ("lwxc1 $f1, $a3($s1)", "$f1, $a3($s1)"),
        ("swxc1 $f1, $a3($s1)", "$f1, $a3($s1)"),
    ],
)
def test_assembler_puts_operands_where_capstone_finds_them(text, operands):
    engine = capstone.Cs(capstone.CS_ARCH_MIPS, capstone.CS_MODE_MIPS32)
    word = assemble(text, 0x80001000, there=0x80002000)[0]
    (found,) = engine.disasm(word.to_bytes(4, "little"), 0x80001000)
    assert found.op_str == operands


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("recip.s $f8, $f6", 0x46003215), ("recip.d $f8, $f6", 0x46203215),
        ("rsqrt.s $f8, $f6", 0x46003216), ("rsqrt.d $f8, $f6", 0x46203216),
        ("prefx 5, $a3($s1)", 0x4E27280F), ("c.olt.s 3, $f6, $f4", 0x46043334),
        ("c.ngt.d 7, $f6, $f4", 0x4624373F), ("c.f.d 1, $f6, $f4", 0x46243130),
    ],
)  # fmt: skip
def test_what_capstone_lacks(text, word):
    """Words as GNU binutils 2.40 encodes them."""
    assert assemble(text) == [word]
    assert isa.NAMES[_decode(word)].split(".")[0] == text.split()[0].split(".")[0]


# Without debug hardware these are reserved, which is the last arm of the chain.
DEBUG_ONLY = {"deret", "sdbbp"}


def test_every_row_has_an_arm():
    sources = (Path(kernel.__file__), Path(hot.__file__))
    used = {
        node.id for source in sources for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }  # fmt: skip
    for row in isa.TABLE:
        op = isa.ID[row.name]
        moves = hot.O_MOVF_S <= op <= hot.O_MOVN_D  # one arm for all
        if KIND[op] == ELSEWHERE and not moves and row.name not in DEBUG_ONLY:
            assert "O_" + row.name.upper().replace(".", "_") in used, row.name


def test_ranges_of_rows_that_the_hot_loop_relies_on():
    moves = [f"{name}.{letter}" for name in ("movf", "movt", "movz", "movn") for letter in "sd"]
    assert list(isa.NAMES[hot.O_MOVF_S : hot.O_MOVN_D + 1]) == moves
    kinds = KIND[hot.FIRST_FLOAT : hot.LAST_FLOAT + 1]
    control = {isa.ID["cfc1"], isa.ID["ctc1"]}
    assert (kinds != ELSEWHERE).all()
    assert set(np.flatnonzero(KIND)) - control == set(range(hot.FIRST_FLOAT, hot.LAST_FLOAT + 1))


def test_every_kind_of_fpu_operation_has_an_arm():
    tree = ast.parse(Path(execute.__file__).read_text())
    used = {node.id for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}  # fmt: skip
    for name in table.KINDS:
        assert {"c": "COMPARE"}.get(name, name.upper()) in used, name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (0x00000000, "nop"),
        (0x24000005, "phase"),
        (0x2400FFFB, "phase"),
        (0x24000000, "nop"),
        (0x25000001, "nop"),  # addiu $0, $8, 1
        (0x00000001, "movf"),  # of coprocessor 1 although its major opcode is SPECIAL
        (0x0000003F, "reserved"),
        (0x00000005, "reserved"),
        (0x0000002D, "reserved"),  # daddu
        (0xDC000000, "reserved"),  # ld
        (0x78000000, "reserved"),  # opcode 0x1e
        (0x74000000, "reserved"),  # jalx
        (0x04180000, "reserved"),  # REGIMM 24
        (0x18010000, "reserved"),  # blez with a non-zero rt
        (0x00200000 | 1 << 22, "reserved"),  # sll with other bits in rs
        (0x46000000 | 63, "c.cond.s"),
        (0x4400003F, "mfc1"),
        # Undefined in coprocessor 1: formats, functions, with a format that the function lacks.
        (0x45800000, "reserved-float"),
        (0x4600003F | 1 << 6, "reserved-float"),
        (0x46C00000, "reserved-float"),
        (0x46800000, "reserved-float"),
        (0x46000020, "reserved-float"),
        (0x46800024, "reserved-float"),
        (0x45200000, "reserved-float"),
        (0x4C00003E, "reserved-float"),
        (0x4C000026, "reserved-float"),
    ],
)
def test_special_words(word, name):
    assert isa.NAMES[_decode(word)] == name
