"""Structure in a live monitor: tagged hardware TLBs hold nothing that their owner does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disco_trace.boot import build_machine, starts_of
from disco_trace.capture import capture
from disco_trace.errors import DiscoError
from disco_trace.machine import kernel, layout
from disco_trace.memory import layout as memory_layout
from disco_trace.monitor.layout import (
    EMPTY,
    HW_ENTRIES,
    HW_WORDS,
    KEY_VALID,
    STLB_SET,
    STLB_WAYS,
    STLB_WORDS,
    TAG_SHIFT,
    V_BOOT,
    V_BOOT_PAGE,
    V_CPU,
    V_GPR,
    V_LAST,
    V_S,
    V_TLB,
    V_VM,
    VM_BASE,
    VM_PAGES,
    vm_record,
)
from disco_trace.monitor.special import SPECIAL
from disco_trace.requests import CaptureRequest
from disco_trace.trace.writer import REF_BUFFER_ROWS
from tests.monitor.guest import Guest
from tests.replay.runs import TINY, assert_same, captured, replayed, run_guest, spec_at

TAGGED = {
    "monitor__kind": "disco",
    "machine__ram_bytes": "16MiB",
    "costs__structure__tlb": "tagged",
}
FORMS = {
    "two machines": ("radix-sseg", {"vm__count": 2, "vm__vcpus": 2, "monitor__slice_us": 300}),
    "mapped": ("database", {"vm__vcpus": 5, "monitor__slice_us": 200, "machine__kseg0": "mapped"}),
    "processes": ("engineering-sseg", {"vm__vcpus": 3, "monitor__slice_us": 200}),
}


def words_of(guest: str) -> tuple[str, ...]:
    """Return a guest's small arguments, with ticks that leave it time for more than its ticks."""
    words = TINY[guest.removesuffix("-sseg")]
    return tuple(word.replace("os.tick=2000", "os.tick=50000") for word in words)


class Owner:
    """What a virtual CPU's own TLB, its software TLB and its start map."""

    def __init__(self, m: layout.Machine, which: int) -> None:
        at = int(m.p[layout.X_O_VCPU]) + which * int(m.p[layout.X_VCPU_STRIDE])
        running = int(m.mon[at + V_CPU])
        words = m.tlb[running] if running >= 0 else m.mon[at + V_TLB : at + V_TLB + m.tlb.shape[1]]
        self.own = words.reshape(-1, 4)[: int(m.p[layout.X_TLB])].tolist()
        sets = int(m.p[layout.X_STLB_SETS])
        first = int(m.p[layout.X_O_STLB]) + which * sets * STLB_SET
        ways = m.mon[first : first + sets * STLB_SET].reshape(sets, STLB_SET)[:, :-1]
        ways = ways.reshape(sets * STLB_WAYS, STLB_WORDS)
        self.pairs: dict[int, list[tuple[int, int]]] = {}
        for key, lo0, lo1, _ in ways[ways[:, 0] & KEY_VALID != 0].tolist():
            self.pairs.setdefault((key & 0xFFFFFFFF) >> 13, []).append((lo0, lo1))
        if m.mon[at + V_BOOT]:
            page = int(m.mon[at + V_BOOT_PAGE])
            lo = ((page << 13 & 0x1FFFFFFF) >> 6) | 7
            self.pairs.setdefault(page, []).append((lo, lo + 64))

    def maps(self, page: int) -> set[int]:
        """Return what page numbers the halves of a page pair are mapped to."""
        found = {lo >> 6 for pair in self.pairs.get(page >> 13, ()) for lo in pair if lo & 2}
        for hi, mask, lo0, lo1 in self.own:
            if (hi ^ page) & ~(mask | 0x1FFF) & 0xFFFFFFFF == 0:
                size = ((mask | 0x1FFF) + 1) >> 1
                for address in (page, page + 4096):
                    lo = lo1 if address & size else lo0
                    if lo & 2:
                        found.add(
                            ((lo >> 6) & ~((size >> 12) - 1)) | ((address & (size - 1)) >> 12)
                        )
        return found


def check_hardware(m: layout.Machine) -> int:
    """Assert that each entry that can match is its owner's; return how many are of those away."""
    away = 0
    owners = [Owner(m, which) for which in range(int(m.p[layout.X_VCPUS]))]
    for cpu in range(int(m.p[layout.X_CPUS])):
        base = cpu * HW_WORDS
        entries = m.mon[base : base + HW_ENTRIES].reshape(-1, 4)
        for hi, _, lo0, lo1 in entries[entries[:, 0] != EMPTY].tolist():
            which = (hi >> TAG_SHIFT) - 1
            assert 0 <= which < int(m.p[layout.X_VCPUS])
            at = int(m.p[layout.X_O_VCPU]) + which * int(m.p[layout.X_VCPU_STRIDE])
            machine = vm_record(m, int(m.mon[at + V_VM]))
            first, pages = int(machine[VM_BASE]), int(machine[VM_PAGES])
            halves = [lo for lo in (lo0, lo1) if lo & 2]
            assert all(first <= lo >> 6 < first + pages for lo in halves)
            if m.mon[at + V_LAST] != cpu:
                continue  # dropped before it runs here again
            away += int(m.mon[at + V_CPU] != cpu)
            page = hi & 0xFFFFE000
            if 0x80000000 <= page < 0xC0000000:
                continue
            mapped = {number + first for number in owners[which].maps(page)}
            if page == SPECIAL & 0xFFFFE000:
                own = m.s[cpu] if m.mon[at + V_CPU] == cpu else m.mon[at + V_S : at + V_GPR]
                mapped.add(int(own[layout.S_SPECIAL]) - 1)
            assert {lo >> 6 for lo in halves} <= mapped, (cpu, which, hex(page))
    return away


@pytest.mark.parametrize("form", FORMS)
def test_tagged_entries_are_always_their_owners(form):
    guest, sets = FORMS[form]
    # Without sharing a page of memory says whose it is.
    spec = spec_at(2, 2, vm__share=False, **TAGGED, **sets)
    args = list(words_of(guest))
    request = CaptureRequest(guest=guest, args=args, spec=spec, out=Path("unused"))
    m = build_machine(request, starts_of(request), [], REF_BUFFER_ROWS)
    memory = memory_layout.build(spec, contexts=4 * len(m.contexts))
    kernel.start(m, memory)
    m.p[layout.X_EVENTS] = 0
    m.p[layout.X_CONTEXTS_FULL] = 1  # a capture would make room for more
    away, moved = 0, set()
    steps = 0
    while m.g[layout.G_EXIT] == 0:
        code = int(kernel.run(m, memory, 20_000))
        assert code in (layout.EXIT_NONE, layout.EXIT_FULL, layout.EXIT_POWER), code
        for at in (layout.G_REFS, layout.G_PAGE_ROWS, layout.G_EVENTS, layout.G_CONSOLE):
            m.g[at] = 0
        memory.fill[:3] = 0
        away += check_hardware(m)
        moved |= {(int(m.s[cpu, layout.S_WHICH]), cpu) for cpu in range(2)}
        steps += 1
        assert steps < 4000
    assert m.g[layout.G_STATUS] == 0
    assert away > 0
    if form != "two machines":
        assert len(moved) > int(m.p[layout.X_VCPUS])  # some ran on both CPUs


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_replays_repeat_a_tagged_capture(tmp_path, form, feedback):
    guest, sets = FORMS[form]
    spec = spec_at(2, 2, time__feedback=feedback, **TAGGED, **sets)
    result = run_guest(guest, spec, tmp_path / "t", words_of(guest))
    assert result.console.count(b"checked") >= spec.vm.count
    assert_same(replayed(tmp_path / "t", spec), captured(tmp_path / "t"))


def test_a_tables_software_tlb_takes_the_place_of_the_monitors():
    sizes = {"monitor.stlb_entries=64": 16, "costs.structure.software_tlb=4096": 1024}
    for word, sets in sizes.items():
        assert Guest(word).m.p[layout.X_STLB_SETS] == sets
    both = Guest("monitor.stlb_entries=64", "costs.structure.software_tlb=0")
    assert both.m.p[layout.X_STLB_SETS] == 0


def test_an_unmapped_kernel_takes_no_entries():
    program = "lui $t0, 0x8020\n lw $t1, 0($t0)\n lw $t1, 8192($t0)\n nop"
    mapped, unmapped = Guest(), Guest("costs.structure.kernel=unmapped")
    for guest in (mapped, unmapped):
        guest.words(0x80200000, [1234])
        guest.words(0x80202000, [5678])
        guest.program(program)
        guest.set(status=0)
        guest.run(4)
        assert guest.get("t1") == 5678
    assert len(mapped.hardware()) == 3
    assert len(unmapped.hardware()) == 0
    assert unmapped.traps() == []
    np.testing.assert_array_equal(mapped.m.gpr, unmapped.m.gpr)


def test_a_capture_walks_no_guest_page_tables(tmp_path):
    spec = spec_at(1, 1, monitor__kind="disco", costs__structure__walk="nested")
    with pytest.raises(DiscoError, match="cannot walk guest page tables") as raised:
        capture(CaptureRequest(guest="radix-sseg", args=[], spec=spec, out=tmp_path / "t"))
    assert "costs.structure.walk=software" in str(raised.value.hint)
    assert not (tmp_path / "t").exists()
