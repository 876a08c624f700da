"""Every exception, in and out of delay slots, nested or not, at every vector base.

Expected values: MIPS32 Architecture for Programmers, volume III, revision 2.62, chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from disco_trace.machine import kernel, layout
from tests.machine.assemble import assemble
from tests.machine.board import Board

MOD, TLBL, TLBS, ADEL, ADES, IBE, DBE, SYS, BP, RI, CPU, OV, TR = range(1, 14)
EXL, ERL, BEV, IE, UM = 2, 4, 1 << 22, 1, 0x10
BD, IV = 1 << 31, 1 << 23
REFILL, GENERAL, INTERRUPT = 0, 0x180, 0x200
PHYSICAL = 0x1000
KERNEL_CODE, USER_CODE = 0x80001000, 0x00401000
OLD_EPC, OLD_BAD, PTE_BASE, ASID = 0x12345678, 0xDEADBEEF, 0xAB800000, 0x5A


@dataclass(frozen=True)
class Case:
    """An instruction that faults: t0 holds `address`, s0 0x7fffffff, s1 1, s2 −1."""

    text: str
    code: int
    address: int = 0
    vector: int = GENERAL
    ce: int = 0
    user: bool = False

    @property
    def bad(self) -> int | None:
        return self.address if self.code in (MOD, TLBL, TLBS, ADEL, ADES) else None


READ_ONLY, INVALID, UNMAPPED = 0x00800010, 0x00801004, 0x00900008
HOLE = 0xBE000000  # neither RAM nor device
LOADS = ["lb", "lbu", "lh", "lhu", "lw", "lwl", "lwr", "ll"]
STORES = ["sb", "sh", "sw", "swl", "swr"]

CASES = [
    *(Case(f"{name} $t1, 0($t0)", MOD, READ_ONLY) for name in STORES),
    *(Case(f"{name} $t1, 0($t0)", TLBL, INVALID) for name in LOADS),
    *(Case(f"{name} $t1, 0($t0)", TLBS, INVALID) for name in STORES),
    *(Case(f"{name} $t1, 0($t0)", TLBL, UNMAPPED, REFILL) for name in LOADS),
    *(Case(f"{name} $t1, 0($t0)", TLBS, UNMAPPED, REFILL) for name in STORES),
    *(Case(f"{name} $t1, 0($t0)", TLBL, UNMAPPED + 3, REFILL) for name in ["lb", "lwl", "lwr"]),
    *(Case(f"{name} $t1, 0($t0)", TLBS, UNMAPPED + 1, REFILL) for name in ["sb", "swl", "swr"]),
    Case("synci 0($t0)", TLBL, UNMAPPED, REFILL),
    Case("cache 0x15, 0($t0)", TLBL, UNMAPPED, REFILL),
    # Mapped kernel segment, all bits of BadVPN2.
    Case("lw $t1, 0($t0)", TLBL, 0xFFFFFFFC, REFILL),
    Case("sw $t1, 0($t0)", TLBS, 0xC0000000, REFILL),
    *(Case(f"{name} $t1, 0($t0)", ADEL, 0x80002001) for name in ["lw", "lh", "lhu", "ll"]),
    *(Case(f"{name} $t1, 0($t0)", ADES, 0x80002001) for name in ["sw", "sh", "sc"]),
    *(Case(f"{name} $t1, 0($t0)", ADEL, 0x80002002) for name in ["lw", "ll"]),
    *(Case(f"{name} $t1, 0($t0)", ADES, 0x80002002) for name in ["sw", "sc"]),
    Case("lw $t1, 0($t0)", ADEL, UNMAPPED + 2),  # before the TLB is looked at
    *(Case(f"{name} $t1, 0($t0)", DBE, HOLE) for name in LOADS + STORES),
    Case("lw $t1, 0($t0)", DBE, 0x81000000),  # KSEG0 beyond RAM
    Case("syscall", SYS),
    Case("break", BP),
    *(Case(f".word {word:#x}", RI) for word in
      [0x0000002D, 0x00000005, 0x78000000, 0xDC000000, 0x04180000, 0x7000003E, 0x7C00003F]),
    # Debug instructions without debug hardware.
    Case("sdbbp", RI),
    *(Case(f".word {word:#x}", CPU, ce=1) for word in
      [0x44001000, 0x45000000, 0x46000000, 0xC5000000, 0xD5000000, 0xE5000000, 0xF5000000,
       0x4C000000, 0x4C00003F, 0x00000001, 0x4400003F]),
    *(Case(f".word {word:#x}", CPU, ce=2) for word in
      [0x48000000, 0x4A000000, 0xC9000000, 0xD9000000, 0xE9000000, 0xF9000000]),
    Case("add $t1, $s0, $s1", OV),
    Case("addi $t1, $s0, 1", OV),
    Case("sub $t1, $s0, $s2", OV),
    Case("add $zero, $s0, $s0", OV),
    Case("teq $s1, $s1", TR), Case("tne $s0, $s1", TR), Case("tge $s1, $s2", TR),
    Case("tgeu $s2, $s1", TR), Case("tlt $s2, $s1", TR), Case("tltu $s1, $s2", TR),
    Case("teqi $s2, -1", TR), Case("tnei $s0, -1", TR), Case("tgei $s2, -1", TR),
    Case("tgeiu $s2, -2", TR), Case("tlti $s2, 0", TR), Case("tltiu $s1, -1", TR),
    # Only in user mode.
    *(Case(text, CPU, ce=0, user=True) for text in
      ["mfc0 $t1, status", "mtc0 $t1, status", "tlbwi", "tlbwr", "tlbr", "tlbp", "eret", "wait",
       "di $t1", "ei $t1", "cache 0, 0($s1)", "rdpgpr $t1, $t2", ".word 0x42000007"]),
    *(Case("lw $t1, 0($t0)", ADEL, at, user=True) for at in
      [0x80000000, 0x9FFFFFFC, 0xA0000000, 0xC0000000, 0xE0000000, 0xFFFFFFFC]),
    *(Case("sb $t1, 0($t0)", ADES, at, user=True) for at in
      [0x80000000, 0xBFFFFFFF, 0xC0000000, 0xFFFFFFFF]),
    Case("ll $t1, 0($t0)", ADEL, 0x80000000, user=True),
    Case("sc $t1, 0($t0)", ADES, 0x80002001, user=True),
    Case("synci 0($t0)", ADEL, 0x80000000, user=True),
    *(Case(f"rdhwr $t1, ${n}", RI, user=True) for n in (0, 1, 2, 3, 4, 29, 30, 31)),
]  # fmt: skip

PLAIN, TAKEN, NOT_TAKEN, LIKELY, JUMP, RETURN = range(6)
BRANCH = {
    TAKEN: "beq $zero, $zero, far",
    NOT_TAKEN: "bne $s1, $s1, far",
    LIKELY: "bgtzl $s1, far",
    JUMP: "jal far",
    RETURN: "jr $s3",
}


def prepare(case: Case, position: int, user: bool) -> tuple[Board, int, int]:
    """Return a board just before the case, the instruction's address and the expected EPC."""
    board = Board()
    code = USER_CODE if user else KERNEL_CODE
    lines = [BRANCH.get(position, "nop"), case.text, "nop", "far: nop"]
    board.program("\n".join(["nop", *lines]), KERNEL_CODE)
    if user:
        # The assembler's jumps keep the upper four bits of the address where they run.
        board.tlb(0, 0x00400000 | ASID, 0, (PHYSICAL >> 12) << 6 | 0x1E)
    board.jump(code)
    board.tlb(1, 0x00800000 | ASID, (8 << 6) | 0x1A, 0x18)  # a read-only and an invalid page
    board.set(
        t0=case.address, t1=0x11111111, s0=0x7FFFFFFF, s1=1, s2=-1, s3=code + 16,
        ra=0x31313131, epc=OLD_EPC, badvaddr=OLD_BAD, context=PTE_BASE, entryhi=ASID,
    )  # fmt: skip
    return board, code + 8, code + 8 if position == PLAIN else code + 4


def check(board: Board, case: Case, status: int, vector: int) -> None:
    assert board.get("pc") == vector
    cause = board.get("cause")
    assert cause >> 2 & 31 == case.code
    assert board.get("status") == status | EXL
    if case.code == CPU:
        assert cause >> 28 & 3 == case.ce
    assert board.get("badvaddr") == (OLD_BAD if case.bad is None else case.bad)
    if case.code in (MOD, TLBL, TLBS):
        assert board.get("context") == PTE_BASE | (case.address >> 13) << 4
        assert board.get("entryhi") == case.address & 0xFFFFE000 | ASID
    elif case.bad is None:
        assert board.get("context") == PTE_BASE
        assert board.get("entryhi") == ASID
    assert board.get("t1") == 0x11111111  # no destination is written
    assert board.m.g[layout.G_INSTRUCTIONS] == 2  # the faulting instruction does not retire


ids = [f"{n}-{case.text.split()[0]}-{case.code}" for n, case in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_plain_and_in_slots(case):
    for position in (PLAIN, *BRANCH):
        for user in (True,) if case.user else (False, True):
            if user and (case.address >= 1 << 31 or "cache" in case.text) and not case.user:
                continue
            board, _, epc = prepare(case, position, user)
            status = UM if user else 0
            board.set(status=status)
            board.run(100, stop=0x80000000 + case.vector)
            check(board, case, status, 0x80000000 + case.vector)
            assert board.get("epc") == epc
            assert board.get("cause") >> 31 == (position != PLAIN)


@pytest.mark.parametrize("case", [c for c in CASES if not c.user])
def test_nested_keeps_epc_and_bd_and_goes_to_the_general_vector(case):
    for position in (PLAIN, TAKEN):
        for old_bd in (0, BD):
            board, _, _ = prepare(case, position, False)
            board.set(status=EXL, cause=old_bd)
            board.run(100, stop=0x80000180)
            check(board, case, EXL, 0x80000180)
            assert board.get("epc") == OLD_EPC
            assert board.get("cause") & BD == old_bd


@pytest.mark.parametrize(
    ("status", "ebase", "base"),
    [
        (0, 0x80040000, 0x80040000),
        (0, 0xBFFFF000, 0xBFFFF000),
        (BEV, 0x80040000, 0xBFC00200),
    ],
)
@pytest.mark.parametrize(
    "case", [CASES[0], Case("syscall", SYS), Case("lw $t1, 0($t0)", TLBL, UNMAPPED, REFILL)]
)
def test_vector_bases(case, status, ebase, base):
    board, _, epc = prepare(case, PLAIN, False)
    board.set(status=status, ebase=ebase)
    board.run(100, stop=base + case.vector)
    check(board, case, status, base + case.vector)
    assert board.get("epc") == epc


@pytest.mark.parametrize(
    ("status", "cause", "vector"),
    [
        (0, 0, 0x80000180),
        (0, IV, 0x80000200),
        (BEV, 0, 0xBFC00380),
        (BEV, IV, 0xBFC00400),
    ],
)
@pytest.mark.parametrize("line", [0, 1])
def test_software_interrupt(status, cause, vector, line):
    board = Board()
    board.program("nop\n mtc0 $t0, cause\n nop")
    status |= IE | 0x100 << line
    board.set(status=status, t0=cause | 0x100 << line)
    board.run(100, stop=vector)
    assert board.get("pc") == vector
    assert board.get("epc") == KERNEL_CODE + 8
    assert board.get("cause") & 0x7C == 0
    assert board.get("cause") & 0x80000300 == 0x100 << line
    assert board.get("status") == status | EXL


@pytest.mark.parametrize("status", [0x300, IE, IE | 0x100, IE | EXL | 0x300, IE | ERL | 0x300])
def test_interrupts_that_are_held_back(status):
    board = Board()
    board.program("mtc0 $t0, cause\n nop\n nop\n nop")
    board.set(status=status, t0=0x200)
    board.step(4)
    assert board.get("pc") == KERNEL_CODE + 16
    assert board.get("cause") & 0x300 == 0x200


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_jump_to_an_odd_address(user, offset):
    """The jump and its slot finish; the fetch faults with EPC = BadVAddr = the target."""
    board, _, _ = prepare(Case("addiu $t2, $zero, 7", ADEL), RETURN, user)
    target = (USER_CODE if user else KERNEL_CODE) + 0x40 + offset
    board.set(status=UM if user else 0, s3=target)
    board.run(100, stop=0x80000180)
    assert board.get("cause") & 0x8000007C == ADEL << 2
    assert board.get("epc") == target
    assert board.get("badvaddr") == target
    assert board.get("t2") == 7


@pytest.mark.parametrize(
    ("target", "user", "code", "vector"),
    [
        (UNMAPPED, False, TLBL, REFILL),
        (UNMAPPED, True, TLBL, REFILL),
        (INVALID, True, TLBL, GENERAL),
        (0x80001000, True, ADEL, GENERAL),
        (0xFFFFFFFC, True, ADEL, GENERAL),
        (0xFFFFFFFC, False, TLBL, REFILL),
        (HOLE, False, IBE, GENERAL),
        (0xBF000000, False, IBE, GENERAL),  # a device holds no instructions
        (0x81000000, False, IBE, GENERAL),
    ],
)
def test_fetch_faults(target, user, code, vector):
    board, _, _ = prepare(Case("nop", code), RETURN, user)
    board.set(status=UM if user else 0, s3=target)
    board.run(100, stop=0x80000000 + vector)
    assert board.get("pc") == 0x80000000 + vector
    assert board.get("cause") & 0x8000007C == code << 2
    assert board.get("epc") == target
    assert board.get("badvaddr") == (OLD_BAD if code == IBE else target)
    if code == TLBL:
        assert board.get("context") == PTE_BASE | (target >> 13) << 4
        assert board.get("entryhi") == target & 0xFFFFE000 | ASID


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize(("valid", "vector"), [(True, GENERAL), (False, REFILL)])
def test_fetch_fault_of_a_slot_on_the_next_page(taken, valid, vector):
    board = Board()
    board.words(0x1FFC, [0x10000010 if taken else 0x14000010])  # beq / bne $0, $0
    board.tlb(0, 0x00400000 | ASID, 0, 1 << 6 | 0x1E)
    if valid:
        board.tlb(2, 0x00402000 | ASID, 0x18, 0x18)  # there, but invalid
    board.set(status=UM, entryhi=ASID)
    board.jump(0x00401FFC)
    board.run(100, stop=0x80000000 + vector)
    assert board.get("pc") == 0x80000000 + vector
    assert board.get("cause") & 0x8000007C == BD | TLBL << 2
    assert board.get("epc") == 0x00401FFC
    assert board.get("badvaddr") == 0x00402000


def test_handler_runs_and_returns():
    """A handler that steps over system calls, counts five."""
    board = Board()
    board.words(0x180, _handler())
    board.program("x: syscall\n addiu $t0, $t0, 1\n b x\n nop")
    board.run(5 * 9)  # six of the handler, three of the loop
    assert board.get("t0") == 5
    assert board.get("s0") == 5


def _handler() -> list[int]:
    return assemble(
        "mfc0 $k0, epc\n addiu $k0, $k0, 4\n mtc0 $k0, epc\n addiu $s0, $s0, 1\n nop\n eret",
        0x80000180,
    )


@pytest.mark.parametrize(
    ("status", "epc", "errorepc", "target", "after"),
    [
        (EXL, 0x80003000, 0x80004000, 0x80003000, 0),
        (ERL, 0x80003000, 0x80004000, 0x80004000, 0),
        (ERL | EXL, 0x80003000, 0x80004000, 0x80004000, EXL),
        (EXL | UM | IE, 0x00401000, 0, 0x00401000, UM | IE),
    ],
)
def test_eret(status, epc, errorepc, target, after):
    """ERET has no delay slot, looks at ERL before EXL, and clears the LL bit."""
    board = Board()
    board.program("eret\n addiu $t0, $t0, 1")
    board.tlb(0, 0x00400000, 0, 1 << 6 | 0x1E)
    board.set(status=status, epc=epc, errorepc=errorepc)
    board.m.s[0, layout.S_LL] = 1
    board.step(1)
    assert board.get("pc") == target
    assert board.get("status") == after
    assert board.get("t0") == 0
    assert board.m.s[0, layout.S_LL] == 0


@pytest.mark.parametrize(
    ("address", "code", "vector"),
    [(UNMAPPED, TLBS, REFILL), (INVALID & ~3, TLBS, GENERAL), (READ_ONLY, MOD, GENERAL),
     (HOLE, DBE, GENERAL)],
)  # fmt: skip
def test_store_conditional_translates_before_it_looks_at_the_reservation(address, code, vector):
    """Volume II, SC: AddressTranslation(vAddr, DATA, STORE) comes before `if LLbit`."""
    case = Case("sc $t1, 0($t0)", code, address, vector)
    board, _, epc = prepare(case, PLAIN, False)
    board.run(100, stop=0x80000000 + vector)
    check(board, case, 0, 0x80000000 + vector)
    assert board.get("epc") == epc


def test_exception_keeps_the_reservation_and_eret_breaks_it():
    board = Board()
    board.words(0x180, _handler())
    board.program(
        """
        li $s1, 0x80003000
        li $t9, 77
        ll $t0, 0($s1)
        syscall
        sc $t9, 0($s1)
        end: b end
        nop
        """
    )
    board.run(30)
    assert board.get("t9") == 0
    assert board.word(0x3000) == 0


def test_exceptions_without_an_instruction_at_the_vector_take_time():
    """A vector that lies where no memory is must not stop the clock for good."""
    board = Board()
    board.program("syscall")
    board.set(ebase=0xBFFFF000)
    kernel.start(board.m, board.memory)
    board.started = True
    for _ in range(50):
        code = int(kernel.run(board.m, board.memory, 1000))
        if code == layout.EXIT_NONE:
            return
        board.empty()
    raise AssertionError("50 full buffers of bus errors in less than 1000 cycles")


@pytest.mark.parametrize(
    "target",
    [1, 2, 3, 5, 61, 0x40000001, 0x80001001, 0xFFFFFFFD, 0xFFFFFFFF],
)
@pytest.mark.parametrize("how", ["eret", "slot", "start"])
def test_odd_addresses_of_every_kind(how, target):
    """Wherever an odd program counter comes from, it is an address error at the target.

    Among them are those that a "no line fetched yet" mark of the fetch path could look like.
    """
    board = Board()
    if how == "eret":
        board.program("eret")
    else:
        board.program("jr $t0\n tlbp")  # TLBP makes the fetch path look again
    board.set(t0=target, status=EXL if how == "eret" else 0, epc=target)
    if how == "start":
        board.jump(target)
    board.run(100, stop=0x80000180)
    assert board.get("pc") == 0x80000180
    assert board.get("cause") & 0x8000007C == ADEL << 2
    assert board.get("epc") == board.get("badvaddr") == target
    assert board.m.g[layout.G_INSTRUCTIONS] == {"eret": 1, "slot": 2, "start": 0}[how]


@pytest.mark.parametrize(
    ("text", "ebase"),
    [
        ("syscall", 0xBFFFF000),  # the vector's fetch is a bus error
        ("syscall", 0x80002000),  # the handler begins with another system call
        ("lw $t1, 1($zero)", 0x80002000),
    ],
)
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_vector_that_faults_for_ever_locks_the_cpu_up(text, ebase, cpus):
    """It ends, whatever the limit of instructions, once the other CPUs wait as well."""
    board = Board(cpus=cpus)
    board.words(0x2180, assemble("syscall"))
    board.program("wait", 0x80003000)
    board.program(text)
    board.set(ebase=ebase)
    if cpus == 2:
        board.jump(0x80003000, 1)
    assert board.run(1 << 40) == layout.EXIT_LOCKUP
    assert board.m.s[0, layout.S_WAITING] == layout.LOCKED
    assert board.m.g[layout.G_INSTRUCTIONS] == cpus - 1
    assert board.get("pc") == ebase + 0x180
    assert board.get("status") == EXL


def test_other_cpus_go_on_beside_one_that_is_locked_up():
    board = Board(cpus=2)
    board.program("x: b x\n addiu $t0, $t0, 1", 0x80003000)
    board.program("syscall")
    board.set(ebase=0xBFFFF000)
    board.jump(0x80003000, 1)
    assert board.run(200_000) == layout.EXIT_INSTRUCTIONS
    assert board.get("t0", 1) == 100_000


def test_faults_with_instructions_between_them_lock_nothing_up():
    """As many exceptions as one likes: a handler that runs one instruction has got on."""
    board = Board()
    board.words(0x180, assemble("eret"))
    board.program("syscall")
    board.run(40_000)
    assert board.m.s[0, layout.S_FRUITLESS] == 0
    assert board.m.s[0, layout.S_WAITING] == 0
