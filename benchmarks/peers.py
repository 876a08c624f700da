"""Measure peers in the same run as ours: pycachesim over addresses, QEMU with its cache plugin."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
from captures import ONE_CPU, State
from timing import Skip, Table, disco, median, million, run

from disco_trace.trace.reader import TraceReader

HERE = Path(__file__).resolve().parent
PLUGIN = "QEMU_CACHE_PLUGIN"
ROUNDS = 8
AIM_QEMU = 2.5
SHAPE = (
    "dcachesize=32768,dassoc=2,dblksize=32,icachesize=32768,iassoc=2,iblksize=64,"
    "l2cachesize=1048576,l2assoc=2,l2blksize=128,limit=1"
)
ADDRESSES = 4_000_000


def pycachesim(table: Table, state: State, trace: str) -> None:
    """Add pycachesim's rate with one call for a list, on our recorded addresses and on a mix."""
    try:
        import cachesim
    except ImportError:
        raise Skip("pycachesim is not installed (extra `test`)") from None

    def simulate(addresses: list[int]) -> float:
        memory = cachesim.MainMemory()
        second = cachesim.Cache("L2", 4096, 2, 128, "LRU")
        first = cachesim.Cache("L1", 256, 2, 64, "LRU", store_to=second, load_from=second)
        memory.load_to(second)
        memory.store_from(second)
        simulator = cachesim.CacheSimulator(first, memory)
        begin = time.perf_counter()
        simulator.load(addresses)
        return len(addresses) / (time.perf_counter() - begin)

    ours = {"recorded": state.rates["replay on one core"]}
    ours["original"] = state.rates["original on one core"]
    for kind, addresses in (("recorded", _recorded(state, trace)), ("original", _mixed())):
        rate = median([simulate(addresses) for _ in range(state.runs)])
        what = "our recorded references" if kind == "recorded" else "a synthetic mix, most hit"
        table.add(
            f"pycachesim, {what}", million(rate),
            note="list call, one CPU, loads only, unified 32 KiB 2-way first level",
        )  # fmt: skip
        table.add(f"  … ours ÷ theirs, {kind} references", f"{ours[kind] / rate:.2f} ×")


def _recorded(state: State, trace: str) -> list[int]:
    """Return the first physical addresses that a trace recorded."""
    reader, found, count = TraceReader(state.traces[trace]), [], 0
    for segment in reader.iter_segments():
        refs = segment.refs
        found.append(refs["guest_page"] << np.uint64(12) | refs["vaddr"] & np.uint64(4095))
        count += len(found[-1])
        if count >= ADDRESSES:
            break
    return np.concatenate(found)[:ADDRESSES].tolist()


def _mixed() -> list[int]:
    """Return addresses as a program makes them: scans by words, a hot set, a few far probes."""
    rng = np.random.default_rng(1)
    kind = rng.random(ADDRESSES)
    scan = 0x100000 + 4 * np.arange(ADDRESSES) % (4 << 20)
    hot = 4 * rng.integers(0, 4096, ADDRESSES)
    far = 0x1000000 + 4 * rng.integers(0, 2 << 20, ADDRESSES)
    return np.where(kind < 0.5, scan, np.where(kind < 0.98, hot, far)).tolist()


def qemu(table: Table, state: State) -> None:
    """Add rates of the integer program: ours with every event written, QEMU plain and with plugin.

    The plugin's count of instructions is the rate's numerator for all of QEMU's figures. Runs of
    ours and theirs alternate, so that a busy machine spoils both.
    """
    for tool in ("mipsel-linux-gnu-gcc", "qemu-mipsel"):
        if shutil.which(tool) is None:
            raise Skip(f"{tool} is not installed (apt: gcc-mipsel-linux-gnu, qemu-user)")
    work = state.work
    disco(("guests", "build", HERE / "integer", "-o", work, "--force"), work)
    hosted = work / "integer-hosted"
    gcc = ("mipsel-linux-gnu-gcc", "-O2", "-march=mips32r2", "-static", "-DHOSTED")
    run((*gcc, "-o", hosted, HERE / "integer" / "integer.c"), work)
    line = ("capture", work / "integer.elf", "-o", work / "integer", "--force", *ONE_CPU)
    plugin = os.environ.get(PLUGIN)
    ours, plain, plugged, counts = [], [], [], [0]
    for _ in range(state.runs):
        answer = disco((*line, "--", f"rounds={ROUNDS}"), work).answer
        ours.append(answer["instructions_per_second"])
        plain.append(run(("qemu-mipsel", hosted, str(ROUNDS)), work).seconds)
        if plugin:
            log = work / "qemu.log"
            words = ("qemu-mipsel", "-plugin", f"{plugin},{SHAPE}", "-d", "plugin", "-D", log)
            plugged.append(run((*words, hosted, str(ROUNDS)), work).seconds)
            counts.append(_instructions(log.read_text()))
    said = f"`capture benchmarks/integer`, {answer['totals']['instructions'] / 1e6:.0f} M"
    rate = median(ours)
    state.rates["integer"] = rate
    first = answer["totals"]["l1i_misses"] + answer["totals"]["l1d_misses"]
    missed = 1000 * first / answer["totals"]["instructions"]
    table.add(
        "capture integer, 1 CPU", million(rate), "≥ 80 M/s", rate >= 80e6,
        f"{said} instructions, {missed:.1f} first-level misses a thousand",
    )  # fmt: skip
    if not plugin:
        raise Skip(f"set {PLUGIN} to QEMU's contrib/plugins/cache.c, built (docs/performance.md)")
    theirs = counts[-1] / median(plugged)
    table.add("QEMU, nothing recorded", million(counts[-1] / median(plain)))
    table.add("QEMU with its cache plugin", million(theirs), note=f"{counts[-1] / 1e6:.0f} M")
    ratio = rate / theirs
    table.add("  … ours ÷ QEMU with plugin", f"{ratio:.2f} ×", "≥ 2.5 ×", ratio >= AIM_QEMU)


def _instructions(log: str) -> int:
    """Return the instructions that the plugin's log counts: its fourth number of core 0."""
    for line in log.splitlines():
        if re.match(r"0\s", line):
            return int(line.split()[4])
    raise RuntimeError("the plugin's log has no line for core 0")
