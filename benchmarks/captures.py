"""Measure captures and replays: rates, misses, bytes a reference and peak memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from timing import Done, Table, disco, median, million

from disco_trace.trace.reader import TraceReader

ONE_CPU = ("--set", "machine.cpus=1", "--set", "machine.nodes=1")
AIM_ONE_CPU = 80e6
AIM_EIGHT_SHARE = 0.7
AIM_REPLAY = 15e6
AIM_BYTES = 10.0
AIM_RESIDENT = 1e9
REFERENCE_POLICY = "migrate"


@dataclass
class State:
    """Hold what later measures need of earlier ones: folders, rates, references."""

    work: Path
    runs: int
    rates: dict[str, float] = field(default_factory=dict)
    traces: dict[str, Path] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)


def capture(
    table: Table, state: State, name: str, words: tuple[str, ...], runs: int | None = None
) -> float:
    """Capture some times, keep the last trace; add its rate and misses. Returns instructions/s."""
    folder = state.work / name.replace(" ", "-").replace(",", "").replace("=", "")
    at = words.index("--") if "--" in words else len(words)
    line = ("capture", *words[:at], "-o", folder, "--force", *words[at:])
    done = [disco(line, state.work) for _ in range(runs or state.runs)]
    rate = median([each.answer["instructions_per_second"] for each in done])
    state.rates[name], state.traces[name] = rate, folder
    state.resident[f"capture {name}"] = max(each.resident_bytes for each in done)
    note = "`capture " + " ".join(words) + f"`; {_misses(done[-1])}"
    single, eight = name.endswith("1 CPU"), name.endswith("8 CPUs")
    if single:
        table.add(f"capture {name}", million(rate), "≥ 80 M/s", rate >= AIM_ONE_CPU, note)
        return rate
    table.add(f"capture {name}", million(rate), note=note)
    alone = state.rates.get(name.replace("8 CPUs", "1 CPU"))
    if eight and alone:
        share = rate / alone
        table.add(
            "  … of the rate of 1 CPU, same arguments", f"{share:.0%}", "≥ 70 %",
            share >= AIM_EIGHT_SHARE,
        )  # fmt: skip
    return rate


def _misses(done: Done) -> str:
    totals = done.answer["totals"]
    instructions = totals["instructions"]
    per_thousand = 1e3 / instructions
    first = (totals["l1i_misses"] + totals["l1d_misses"]) * per_thousand
    tlb = totals["tlb_misses"] * per_thousand
    return (
        f"{instructions / 1e6:.0f} M instructions in {done.answer['seconds']:.1f} s; a thousand"
        f" instructions: {first:.1f} first-level misses, {totals['l2_misses'] * per_thousand:.1f}"
        f" second-level, {tlb:.2f} TLB misses"
    )


def replay(table: Table, state: State, trace: str, *, core: int | None) -> float:
    """Replay a kept trace under migration; returns recorded references a second."""
    words = ("replay", state.traces[trace], "--policy", REFERENCE_POLICY, "--force")
    done = [disco(words, state.work, core=core) for _ in range(state.runs)]
    rate = median([each.answer["references_per_second"] for each in done])
    answer = done[-1].answer
    original = rate * answer["original_references"] / answer["recorded_references"]
    where = "on any core" if core is None else "on one core"
    totals = answer["totals"]
    table.add(
        f"replay {trace}, {REFERENCE_POLICY}, {where}", million(rate), "≥ 15 M/s",
        rate >= AIM_REPLAY,
        f"recorded references; {answer['recorded_references'] / 1e6:.1f} M of them,"
        f" {totals['migrations']} migrations, {totals['refused_moves']} refused",
    )  # fmt: skip
    table.add("  … in original references", million(original))
    state.rates[f"replay {where}"], state.rates[f"original {where}"] = rate, original
    state.resident[f"replay {trace}"] = max(each.resident_bytes for each in done)
    return rate


def sizes(table: Table, state: State, trace: str) -> None:
    """Add bytes a recorded reference: all parts of the trace over rows of refs, and refs alone."""
    segments = TraceReader(state.traces[trace]).segments
    parts = [item for segment in segments for item in segment.parts.items()]
    rows = sum(part.rows for kind, part in parts if kind == "refs")
    whole = sum(part.bytes for _, part in parts) / rows
    alone = sum(part.bytes for kind, part in parts if kind == "refs") / rows
    table.add(
        f"bytes a recorded reference, {trace}", f"{whole:.2f} B", "≤ 10 B", whole <= AIM_BYTES,
        f"the whole trace over rows of refs; refs alone {alone:.2f} B",
    )  # fmt: skip


def resident(table: Table, state: State) -> None:
    """Add the peak resident memory of the captures and replays made so far."""
    for name, size in state.resident.items():
        table.add(f"peak memory, {name}", f"{size / 1e6:.0f} MB", "≤ 1 GB", size <= AIM_RESIDENT)


def drop(state: State, trace: str) -> None:
    """Remove a trace that no later measure needs."""
    shutil.rmtree(state.traces.pop(trace), ignore_errors=True)
