"""FPU registers, control registers, conditions and moves: what the manual's volume I says."""

from __future__ import annotations

import pytest

from disco_trace.machine import isa, layout
from tests.machine.assemble import ROWS, assemble
from tests.machine.board import CODE, Board

CU1, FR = 1 << 29, 1 << 26
EXL = 2
RI, CPU, FPE = 10, 11, 15
A, B = 0x0123456789ABCDEF, 0xFEDCBA9876543210


def run(text: str, status: int = CU1 | FR, count: int | None = None, **registers: int) -> Board:
    """Run a program's instructions once each, in kernel mode with the FPU enabled."""
    board = Board()
    board.program(text)
    board.set(status=status)
    board.floats(**{k: v for k, v in registers.items() if k[0] in "dwf"})
    board.set(**{k: v for k, v in registers.items() if k[0] not in "dwf"})
    board.step(count or len(assemble(text)))
    return board


def test_what_software_finds():
    board = run(
        "mfc0 $t0, config1\n cfc1 $t1, $0\n mtc0 $t2, status\n mfc0 $t3, status", t2=0xFF00FF00
    )
    assert board.get("t0") & 1 == 1
    assert board.get("t1") == 0x00739300  # F64, L, W, D, S
    assert board.get("t3") == 0x3C00FF00  # CU1, CU0, RP, FR, interrupt mask


def test_without_an_fpu():
    board = Board("machine.fpu=false")
    board.program("mfc0 $t0, config1\n mtc0 $t1, status\n mfc0 $t2, status\n mtc1 $t0, $f0")
    board.set(t1=CU1 | FR)
    board.run(100, stop=0x80000180)
    assert board.get("t0") & 1 == 0
    assert board.get("t2") == 0
    assert board.get("cause") & 0x3000007C == 1 << 28 | CPU << 2


FLOAT_ROWS = [row for row in isa.TABLE if "F" in row.flags]


@pytest.mark.parametrize("row", FLOAT_ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("user", [False, True])
def test_every_instruction_needs_cu1(row, user):
    """Unusable comes before whatever else is wrong: the address here is none, the page unmapped."""
    board = Board()
    board.program("nop", 0x80001000)
    board.tlb(0, 0x00400000, 0, 1 << 6 | 0x1E)
    code = 0x00401000 if user else CODE
    board.words(0x1000, [0, row.match, 0])
    board.set(status=FR | (0x10 if user else 0), **{"0": 0})
    board.floats(d0=A, fcsr=0x1F83)
    board.jump(code)
    board.run(10, stop=0x80000180)
    assert board.get("cause") & 0x3000007C == 1 << 28 | CPU << 2
    assert board.get("epc") == code + 4
    assert board.float("fcsr") == 0x1F83
    assert board.m.g[layout.G_INSTRUCTIONS] == 1


@pytest.mark.parametrize("word", [
    0x46C00000, 0x46800000, 0x46800005, 0x46000020, 0x46200021, 0x46800024, 0x46A00024,
    0x4600002F, 0x46000028, 0x46000012 | 4 << 21, 0x46C00030, 0x45200000, 0x45400000,
    0x45800000, 0x44200000, 0x44A00000, 0x4C000002, 0x4C00001E, 0x4C000026, 0x4C00003E,
    0x4600007C,
])  # fmt: skip
def test_formats_and_functions_that_do_not_exist(word):
    board = Board()
    board.words(0x1000, [word])
    board.set(status=CU1 | FR)
    board.jump(CODE)
    board.run(10, stop=0x80000180)
    assert board.get("cause") & 0x7C == RI << 2
    assert board.get("epc") == CODE


def test_32_registers_of_64_bits():
    text = "\n".join(f"mtc1 ${n}, $f{n}\n mthc1 ${31 - n}, $f{n}" for n in range(32))
    board = run(text, **{str(n): 0x01010101 * n for n in range(32)})
    for n in range(32):
        assert board.float(f"d{n}") == (0x01010101 * (31 - n) << 32 | 0x01010101 * n)
    board = run("\n".join(f"mfc1 ${n}, $f{31 - n}" for n in range(32)),
                **{f"d{n}": A + n for n in range(32)})  # fmt: skip
    assert [board.get(str(n)) for n in range(1, 32)] == [
        A + 31 - n & 0xFFFFFFFF for n in range(1, 32)
    ]
    assert board.get("0") == 0
    board = run("mfhc1 $t0, $f5\n mfhc1 $zero, $f5", d5=A)
    assert board.get("t0") == A >> 32
    assert board.get("zero") == 0


def test_32_registers_of_32_bits():
    """With FR = 0 a double lies in an even register and the next odd one, the low word first."""
    board = run("\n".join(f"mtc1 ${n}, $f{n}" for n in range(32)), CU1,
                **{str(n): 0x01010101 * n for n in range(32)})  # fmt: skip
    assert [board.float(f"w{n}") for n in range(32)] == [0x01010101 * n for n in range(32)]
    board = run("mov.d $f8, $f30\n mfc1 $t0, $f8\n mfc1 $t1, $f9\n mfhc1 $t2, $f8\n"
                "mthc1 $s0, $f2\n mfc1 $t3, $f3", CU1, w30=5, w31=6, s0=77)  # fmt: skip
    assert [board.get(f"t{n}") for n in range(4)] == [5, 6, 6, 77]
    # Singles live in odd registers, too: 1 + 1 = 2, and 2 as a double.
    board = run("add.s $f7, $f5, $f5\n cvt.d.s $f10, $f7", CU1, w5=0x3F800000)
    assert board.float("w7") == 0x40000000
    assert (board.float("w10"), board.float("w11")) == (0, 0x40000000)


PAIR = [f"{name}.d $f{{0}}, $f{{1}}, $f{{2}}" for name in ("add", "sub", "mul", "div")]
PAIR += [f"{name}.d $f{{0}}, $f{{1}}"
         for name in ("sqrt", "abs", "neg", "mov", "recip", "rsqrt")]  # fmt: skip
PAIR += [f"{name}.d $f{{0}}, $f{{1}}, $f{{2}}, $f{{3}}"
         for name in ("madd", "msub", "nmadd", "nmsub")]  # fmt: skip
PAIR += ["c.eq.d $f{0}, $f{1}", "movf.d $f{0}, $f{1}", "movt.d $f{0}, $f{1}",
         "movz.d $f{0}, $f{1}, $zero", "movn.d $f{0}, $f{1}, $t0"]  # fmt: skip
ONE = ["cvt.s.d $f1, $f{0}", "cvt.d.s $f{0}, $f1", "cvt.d.w $f{0}, $f1", "cvt.w.d $f1, $f{0}",
       "round.w.d $f1, $f{0}", "trunc.w.d $f1, $f{0}", "ceil.w.d $f1, $f{0}",
       "floor.w.d $f1, $f{0}", "ldxc1 $f{0}, $zero($s1)", "sdxc1 $f{0}, $zero($s1)"]  # fmt: skip


@pytest.mark.parametrize("fcsr", [0, 1])
@pytest.mark.parametrize("text", PAIR + ONE)
def test_odd_registers_of_doubles(text, fcsr):
    """Reserved with FR = 0, whichever operand it is; never with FR = 1."""
    fields = text.count("{")
    for odd in range(-1, fields):
        numbers = [4 * n + 2 + (n == odd) for n in range(fields)]
        for fr in (0, FR):
            board = Board()
            board.program(text.format(*numbers))
            board.set(status=CU1 | fr, s1=0x80002000)
            board.floats(fcsr=fcsr)
            reserved = odd >= 0 and fr == 0
            board.run(1, stop=0x80000180 if reserved else -1)
            assert board.get("cause") & 0x7C == (RI << 2 if reserved else 0), (numbers, fr)


LONG = [f"{name}.l.{fmt} $f2, $f4" for name in ("round", "trunc", "ceil", "floor", "cvt")
        for fmt in "sd"] + ["cvt.s.l $f2, $f4", "cvt.d.l $f2, $f4", "luxc1 $f2, $zero($s1)",
                            "suxc1 $f2, $zero($s1)"]  # fmt: skip


@pytest.mark.parametrize("text", LONG)
def test_long_words_need_64_bit_registers(text):
    for fr in (0, FR):
        board = Board()
        board.program(text)
        board.set(status=CU1 | fr, s1=0x80002000)
        board.run(1, stop=-1 if fr else 0x80000180)
        assert board.get("cause") & 0x7C == (0 if fr else RI << 2)


def test_a_word_leaves_the_upper_half_alone():
    board = run("mtc1 $t0, $f1\n lwc1 $f2, 0($s0)\n cvt.w.d $f3, $f9\n add.s $f4, $f4, $f4",
                t0=7, s0=0x80002000, d1=A, d2=A, d3=A, d4=A, d9=0)  # fmt: skip
    assert board.float("d1") == A >> 32 << 32 | 7
    assert board.float("d2") == A >> 32 << 32
    assert board.float("d3") == A >> 32 << 32
    assert board.float("d4") >> 32 == A >> 32


@pytest.mark.parametrize(
    ("number", "before", "value", "after"),
    [
        (31, 0, 0xFFFFFFFF & ~0x3F000, 0xFF800FFF),  # bits 22 to 18 are fixed
        (31, 0xFF800FFF, 0x0001F000, 0x0001F000),  # causes that nothing enables
        (25, 0x01000F83, 0xFF, 0xFF800F83),  # FCCR: conditions
        (25, 0xFE800F83, 0x81, 0x80800F83),
        (25, 0xFE800F83, 0x02, 0x02000F83),
        (26, 0x01800003, 0xFFFFFFFF & ~0x20000, 0x0181F07F),  # FEXR: causes and flags
        (26, 0xFF81F07F, 0, 0xFF800003),
        (28, 0x0080007C, 0xFFFFFFFF, 0x01800FFF),  # FENR: enables, FS in bit 2, mode
        (28, 0x0181007F, 0x00000002, 0x0081007E),
        (0, 0x123, 0xFFFFFFFF, 0x123),  # FIR is read-only
        (1, 0x123, 0xFFFFFFFF, 0x123),
        (30, 0x123, 0xFFFFFFFF, 0x123),
    ],
)
def test_writes_of_control_registers(number, before, value, after):
    board = run(f"ctc1 $t0, ${number}", t0=value, fcsr=before)
    assert hex(board.float("fcsr")) == hex(after)


def test_reads_of_control_registers():
    board = run("cfc1 $t0, $31\n cfc1 $t1, $25\n cfc1 $t2, $26\n cfc1 $t3, $28\n cfc1 $t4, $0\n"
                "cfc1 $t5, $7\n cfc1 $zero, $31", fcsr=0xA7815FAE)  # fmt: skip
    assert board.get("t0") == 0xA7815FAE
    assert board.get("t1") == 0xA7  # conditions 7 to 1 from bits 31:25, condition 0 from 23
    assert board.get("t2") == 0x0001502C
    assert board.get("t3") == 0x00000F86  # FS was bit 24
    assert board.get("t4") == 0x00739300
    assert board.get("t5") == 0
    assert board.get("zero") == 0


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("name", ["bc1f", "bc1t", "bc1fl", "bc1tl"])
def test_branches(name, truth, code):
    """All other conditions are the opposite; an untaken likely branch skips its slot."""
    bit = 1 << (24 + code if code else 23)
    fcsr = bit if truth else 0xFE800000 & ~bit
    where = f"{code}, far" if code else "far"
    text = f"{name} {where}\n addiu $t0, $t0, 1\n addiu $t1, $t1, 1\n far: addiu $t2, $t2, 1"
    taken = truth == (name[3] == "t")
    likely = name.endswith("l")
    board = run(text, fcsr=fcsr, count=3 if taken or likely else 4)
    assert board.get("t0") == (0 if likely and not taken else 1)
    assert board.get("t1") == (0 if taken else 1)
    assert board.get("t2") == 1
    assert board.float("fcsr") == fcsr


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("truth", [0, 1])
def test_moves_on_conditions(truth, code):
    bit = 1 << (24 + code if code else 23)
    fcsr = bit if truth else 0xFE800000 & ~bit
    board = run(
        f"movf $t0, $s0, {code}\n movt $t1, $s0, {code}\n movt $zero, $s0, {code}\n"
        f"movf $zero, $s0, {code}\n movf.s $f1, $f9, {code}\n movt.s $f2, $f9, {code}\n"
        f"movf.d $f3, $f9, {code}\n movt.d $f4, $f9, {code}",
        s0=5, t0=1, t1=1, d1=B, d2=B, d3=B, d4=B, d9=A, fcsr=fcsr,
    )  # fmt: skip
    single = B >> 32 << 32 | A & 0xFFFFFFFF
    assert (board.get("t0"), board.get("t1")) == ((1, 5) if truth else (5, 1))
    assert board.get("zero") == 0
    assert (board.float("d1"), board.float("d2")) == ((B, single) if truth else (single, B))
    assert (board.float("d3"), board.float("d4")) == ((B, A) if truth else (A, B))
    assert board.float("fcsr") == fcsr


@pytest.mark.parametrize("value", [0, 1, 0x80000000])
def test_moves_on_general_registers(value):
    board = run(
        "movz.s $f1, $f9, $t0\n movn.s $f2, $f9, $t0\n movz.d $f3, $f9, $t0\n movn.d $f4, $f9, $t0",
        t0=value, d1=B, d2=B, d3=B, d4=B, d9=A,
    )  # fmt: skip
    single = B >> 32 << 32 | A & 0xFFFFFFFF
    assert (board.float("d1"), board.float("d2")) == ((B, single) if value else (single, B))
    assert (board.float("d3"), board.float("d4")) == ((B, A) if value else (A, B))


def test_moves_are_not_arithmetic():
    """A signalling NaN passes; causes of the operation before stay."""
    board = run("mov.d $f1, $f9\n movz.d $f2, $f9, $zero\n mov.s $f3, $f9\n prefx 5, $t0($t1)",
                d9=0x7FF8000000000001, fcsr=0x1F003)  # fmt: skip
    assert board.float("d1") == board.float("d2") == 0x7FF8000000000001
    assert board.float("fcsr") == 0x1F003


def test_every_row_is_known_to_the_assembler():
    """So that the tests above can name each instruction."""
    from tests.machine.assemble import OPERANDS

    names = {name.replace(name.split(".")[1], "cond") if name.startswith("c.") else name
             for name in OPERANDS}  # fmt: skip
    assert {row.name for row in FLOAT_ROWS} <= names
    assert set(ROWS) >= {row.name for row in FLOAT_ROWS}
