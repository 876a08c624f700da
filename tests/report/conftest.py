"""Share one small trace with two runs, in which every number was chosen by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.small import CONFIG, event, write_run, write_trace

KERNEL, SUPERVISOR, USER, REFILL = range(4)
# Context ids: 0 = vm 0, cpu 0, asid 0, no phase; 1 = cpu 1, asid 7, phase 1; 2 = cpu 1, asid 7.
SYMBOLS = [
    (0, -1, "kernel", "boot", 0x80001000, 0x40, "func"),
    (0, -1, "kernel", "idle_loop", 0x80001040, 0, "func"),
    (0, -1, "kernel", "clock", 0x80002000, 0x100, "func"),
    (0, -1, "kernel", ".bss", 0x80003000, 0x4000, "section"),
    (0, -1, "kernel", "table", 0x80003800, 0x1000, "data"),
    (0, 7, "sort", "main", 0x00400000, 0x80, "func"),
]


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the trace `small` with the runs `captured` and `migrate-0000abcd`."""
    path = tmp_path_factory.mktemp("traces") / "small"
    write_trace(
        path,
        phases={1: "sort"},
        process_names=["init", "sorter"],
        symbols=SYMBOLS,
        events=[
            event("contexts", cycle=0, id=0),
            event("contexts", cycle=10, cpu=1, id=2, vcpu=1, asid=7),
            event("processes", cycle=11, cpu=1, asid=7, name=0),
            event("processes", cycle=12, cpu=1, asid=7, name=1),
            event("phases", cycle=20, cpu=1, context=8, event="open", phase=1, retired=5, depth=1),
            event("contexts", cycle=20, cpu=1, id=1, vcpu=1, asid=7, phase=1),
            event("phases", cycle=25, cpu=1, context=4, event="open", phase=2, retired=8, depth=2),
            event("exceptions", cycle=30, cpu=1, context=6, code=2, refill=1,
                  pc=0x00400010, vaddr=0x00400010),
            event("exceptions", cycle=32, cpu=1, context=6, code=3, refill=1,
                  pc=0x00400020, vaddr=0x10000000),
            event("exceptions", cycle=34, cpu=1, context=6, code=2, refill=1,
                  pc=0x00400020, vaddr=0x00400024, delay_slot=1),
            event("exceptions", cycle=36, cpu=1, context=6, code=2, pc=0x00400020, vaddr=0x20),
            event("exceptions", cycle=38, cpu=1, context=6, code=8, pc=0x00400028, detail=4),
            event("phases", cycle=40, cpu=1, context=4, event="close", phase=2, retired=20,
                  depth=1),
            event("phases", cycle=60, cpu=1, context=4, event="close", phase=1, retired=33,
                  depth=0),
            event("phases", cycle=70, cpu=0, event="open", phase=1, retired=9, depth=1),
            event("page_events", cycle=80, cpu=0, event="zero", guest_page=5, bytes=4096),
            event("schedule", cycle=90, cpu=1, event="preempt", from_vcpu=1, to_vcpu=65536),
            event("traps", cycle=95, cpu=1, context=6, cause=6, pc=0x00400030, vaddr=0x10,
                  tlb_entries=2, pages=(3 << 32) | 1, bytes_copied=64),
        ],
        refs=[
            {"cycle": 100, "vaddr": 0x80003900, "guest_page": 3, "pc": 0x80001008, "kind": 2,
             "work": 3},
            {"cycle": 101, "vaddr": 0x80003904, "guest_page": 3, "pc": 0x80001050, "kind": 1},
            {"cycle": 102, "vaddr": 0x00400100, "guest_page": 9, "pc": 0x00400040, "kind": 0,
             "context": 6, "cpu": 1},
            {"cycle": 103, "vaddr": 0x00400104, "guest_page": 9, "pc": 0x00409000, "kind": 3,
             "context": 6, "cpu": 1, "work": 2},
            {"cycle": 104, "vaddr": 0x00400108, "guest_page": 9, "pc": 0x80002004, "kind": 4,
             "context": 4, "cpu": 1},
        ],
    )  # fmt: skip
    write_run(
        path / "runs" / "captured",
        accounts={
            (0, 0, "instructions"): 70,
            (0, 0, "work_cycles"): 80,
            (0, 0, "local_stall_cycles"): 20,
            (1, 6, "instructions"): 40,
            (1, 6, "work_cycles"): 50,
            (1, 7, "work_cycles"): 5,
            (1, 5, "work_cycles"): 10,
            (1, 4, "work_cycles"): 5,
            (1, 6, "remote_stall_cycles"): 20,
            (1, 6, "remote_misses"): 2,
            (1, 6, "dirty_misses"): 1,
            (1, 6, "local_misses"): 4,
            (1, 6, "monitor_migrate_cycles"): 6,
            (1, 6, "monitor_shootdown_cycles"): 2,
            (1, 8, "idle_cycles"): 2,
        },
        contexts=12,
        heat=[
            {"guest_page": 3, "node": 0, "local": 9, "remote": 1, "writes": 2},
            {"guest_page": 9, "node": 1, "local": 1, "remote": 4, "moves": 1},
        ],
        moves=[
            {"seq": 19, "cycle": 101, "guest_page": 3, "action": 0, "from_node": 255},
            {"seq": 20, "cycle": 102, "guest_page": 9, "cycles": 300, "cpu": 1, "action": 1,
             "reason": 3, "from_node": 0, "to_node": 1},
        ],
        intervals=[
            {"cpu": 1, "start_cycle": 0, "end_cycle": 50, "metric": "local_misses", "value": 4},
        ],
        misses=[
            {"seq": 18, "cycle": 100, "vaddr": 0x80003900, "guest_page": 3, "pc": 0x80001008,
             "stall_cycles": 90, "kind": 2},
            {"seq": 20, "cycle": 102, "vaddr": 0x00400100, "guest_page": 9, "pc": 0x00400040,
             "stall_cycles": 270, "context": 6, "cpu": 1, "source": 1, "class": 1},
            {"seq": 21, "cycle": 103, "vaddr": 0x00400104, "guest_page": 9, "pc": 0x00400044,
             "stall_cycles": 330, "context": 6, "cpu": 1, "source": 2, "class": 2, "kind": 1,
             "home": 1},
        ],
    )  # fmt: skip
    migrate = {**CONFIG, "placement": {"policy": "migrate"}}
    write_run(
        path / "runs" / "migrate-0000abcd",
        spec=migrate,
        accounts={(0, 0, "work_cycles"): 80, (1, 6, "work_cycles"): 50},
        fidelity={"placement.policy": "no feedback"},
        contexts=12,
    )
    return path
