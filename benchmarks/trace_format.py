"""Measure the trace format: `python benchmarks/trace_format.py [--columns] [--rows N]`.

Prints bytes a reference, and nanoseconds of CPU time a reference to write, load and check, on
synthetic references that look like a multiprocessor's: CPUs in turns of some 300 cycles, each a
mix of random probes of a shared 8 MiB table, private scans, fetches with a skewed working set and
scattered kernel data, in three address spaces. `--columns` compares encodings column by column
instead: the table in `disco_trace/trace/encoding.py` was made with it.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.trace.check import check
from disco_trace.trace.columns import Splitter
from disco_trace.trace.digest import ContentDigest
from disco_trace.trace.encoding import DATA_PAGE_BYTES, DICTIONARY_BYTES, SCHEMAS, encode
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import CONTROL, EVENT, PAGE, REF
from disco_trace.trace.writer import TraceWriter

TABLE, SCAN, FETCH, KERNEL = range(4)
TABLE_BYTES = 8 << 20
SCAN_BYTES = 4 << 20
RAM_PAGES = 1 << 16
TURN_CYCLES = 330  # four references with their work and stalls
CONTROL_SHARE = 0.01
CODE = {kind.name: kind.code for kind in CONTROL}


def synthetic_refs(rows: int, cpus: int, seed: int, drift: bool = False) -> np.ndarray:
    """Return REF rows; about one sequence number in a hundred is left for control rows."""
    rng = np.random.default_rng(seed)
    lengths = rng.poisson(4.0, size=rows)  # references of a turn
    turn = np.repeat(np.arange(rows), lengths)[:rows]
    cpu = turn % cpus
    process = (turn // 2000) % 3
    stream = rng.choice(4, size=rows, p=[0.35, 0.35, 0.2, 0.1])
    out = np.zeros(rows, REF)
    text = np.where(stream == KERNEL, 0x80010000, 0x00400000)
    # Some three hundred program counters, a few of them hot; each belongs to one stream.
    out["pc"] = text + stream * 0x400 + 4 * (np.minimum(rng.zipf(1.5, size=rows), 75) - 1)
    out["vaddr"] = _addresses(rng, stream, cpu)
    out["pc"][stream == FETCH] = out["vaddr"][stream == FETCH]
    frames = rng.permutation(RAM_PAGES)
    scattered = frames[((out["vaddr"] >> 12).astype(np.int64) + process * 7919) % RAM_PAGES]
    direct = (out["vaddr"] & 0x1FFFFFFF) >> 12
    out["guest_page"] = np.where(stream == KERNEL, direct, scattered)
    dice = rng.random(rows)
    out["kind"] = np.where(stream == FETCH, 0, 1 + (dice > 0.65) + (dice > 0.85))
    out["way"] = rng.integers(0, 2, size=rows)
    out["work"] = np.minimum(rng.geometric(1 / 18.0, size=rows), 400)
    stall = rng.choice([10, 10, 10, 90, 270, 0], size=rows)
    out["cycle"] = _clocks(turn, cpu, out["work"] + stall, drift)
    out["context"] = np.where(stream == KERNEL, 0, 2) + 4 * (process * cpus + cpu)
    out["cpu"] = cpu
    out["seq"] = np.arange(rows) + np.cumsum(rng.random(rows) < CONTROL_SHARE)
    return out


def _clocks(turn: np.ndarray, cpu: np.ndarray, spent: np.ndarray, drift: bool) -> np.ndarray:
    """Return each row's clock; CPUs `drift` apart where stalls do not count in their turns."""
    clock = np.zeros(len(turn), np.uint64)
    if drift:
        for number in range(int(cpu.max()) + 1):
            clock[cpu == number] = np.cumsum(spent[cpu == number])
        return clock
    rounds = turn // (int(cpu.max()) + 1)
    total = np.cumsum(spent) - spent
    opening = np.flatnonzero(np.diff(turn, prepend=-1))
    within = total - np.repeat(total[opening], np.diff(np.append(opening, len(turn))))
    clock[:] = rounds * TURN_CYCLES + within
    return clock


def _addresses(rng: np.random.Generator, stream: np.ndarray, cpu: np.ndarray) -> np.ndarray:
    rows = len(stream)
    vaddr = np.zeros(rows, np.uint64)
    random = 0x10000000 + 8 * rng.integers(0, TABLE_BYTES // 8, size=rows)
    fetch = 0x00400000 + 64 * np.minimum(rng.zipf(1.3, size=rows), 4000)
    kernel = 0x80200000 + 4 * rng.integers(0, (2 << 20) // 4, size=rows)
    for which, values in ((TABLE, random), (FETCH, fetch), (KERNEL, kernel)):
        vaddr[stream == which] = values[stream == which]
    for number in range(int(cpu.max()) + 1):
        mine = np.flatnonzero((stream == SCAN) & (cpu == number))
        vaddr[mine] = 0x20000000 + number * SCAN_BYTES + (32 * np.arange(len(mine))) % SCAN_BYTES
    return vaddr


def control_rows(refs: np.ndarray, cpus: int, first: bool) -> np.ndarray:
    """Return EVENT rows for the numbers that `refs` leave: exceptions and returns by turns."""
    free = np.ones(int(refs["seq"][-1]) + 1, bool)
    free[refs["seq"].astype(np.int64)] = False
    events = np.zeros(int(free.sum()), EVENT)
    events["seq"] = np.flatnonzero(free)
    after = np.minimum(np.searchsorted(refs["seq"], events["seq"]), len(refs) - 1)
    for name in ("cycle", "cpu", "context"):
        events[name] = refs[name][after]
    events["instructions"] = 300
    events["kind"] = np.where(np.arange(len(events)) % 2, CODE["returns"], CODE["exceptions"])
    events["a0"] = np.where(events["kind"] == CODE["exceptions"], 8, 0)
    events["a2"] = np.where(events["kind"] == CODE["exceptions"], 0x400100, 0)
    if first:
        events["kind"][: 3 * cpus] = CODE["contexts"]
        for number in range(6):
            events[f"a{number}"][: 3 * cpus] = 0
        events["a0"][: 3 * cpus] = np.arange(3 * cpus)
    return events


def nanoseconds(work: Callable[[], object], rows: int, times: int = 3) -> float:
    """Return the least CPU time of some runs (all threads), in nanoseconds a row."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / rows * 1e9


def measure(rows: int, segments: int, cpus: int, drift: bool) -> None:
    """Write, load and check a trace; print one line for each step."""
    buffers = []
    base = 0
    for number in range(segments):
        refs = synthetic_refs(rows, cpus, number, drift)
        events = control_rows(refs, cpus, number == 0)
        for part in (refs, events):
            part["seq"] += np.uint64(base)
        base = 1 + int(max(refs["seq"][-1], events["seq"][-1]))
        buffers.append((refs, np.zeros(0, PAGE), events))
    total = rows * segments
    manifest = {
        "guest": {"name": "synthetic", "sha256": ""},
        "config": {}, "cpus": cpus, "nodes": cpus, "ram_pages": [RAM_PAGES], "l1_ways": 2,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"

        def write() -> None:
            with TraceWriter(path, manifest, force=True) as writer:
                for buffer in buffers:
                    writer.submit(*buffer)
                writer.close()

        def load(verify: bool) -> None:
            for index in range(segments):
                reader.load(index, verify=verify)

        split = Splitter()
        columns = Splitter().split(buffers[0][0])
        lines = [
            ("write, whole", nanoseconds(write, total)),
            ("  split", nanoseconds(lambda: split.split(buffers[0][0]), rows)),
            (
                "  content digest",
                nanoseconds(lambda: ContentDigest().update("refs", columns), rows),
            ),
            ("  encode", nanoseconds(lambda: encode("refs", SCHEMAS["refs"], columns), rows)),
        ]
        reader = TraceReader(path)
        lines += [
            ("load for a replay, verified", nanoseconds(lambda: load(True), total)),
            ("load for a replay, unverified", nanoseconds(lambda: load(False), total)),
            ("iterate, reading ahead", nanoseconds(lambda: list(reader.iter_segments()), total)),
            ("check (finds the synthetic clocks odd)", nanoseconds(lambda: check(path), total, 1)),
        ]
        parts = [p for s in reader.segments for p in s.parts.items()]
        in_refs = sum(p.bytes for kind, p in parts if kind == "refs") / total
        in_all = sum(p.bytes for _, p in parts) / total
        print(f"{segments} segments of {rows} references, {cpus} CPUs")
        print(f"{'bytes a reference, refs alone':40s} {in_refs:7.2f} B")
        print(f"{'bytes a reference, whole trace':40s} {in_all:7.2f} B")
        for name, value in lines:
            print(f"{name:40s} {value:7.1f} ns a reference")


def compare_encodings(rows: int, cpus: int) -> None:
    """Print size, write and read time of each column of `refs` in every encoding."""
    refs = synthetic_refs(rows, cpus, 1)
    codecs = [("NONE", None), ("LZ4", None), ("ZSTD", 1), ("ZSTD", 3)]
    for field in SCHEMAS["refs"]:
        table = pa.Table.from_arrays(
            [pa.array(np.ascontiguousarray(refs[field.name]))], schema=pa.schema([field])
        )
        results = []
        for encoding in ("PLAIN", "DICTIONARY", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"):
            for codec, level in codecs:
                results.append((*_one(table, encoding, codec, level), encoding, codec, level or ""))
        for size, write, read, *how in sorted(results)[:8]:
            print(
                f"{field.name:11s} {size:6.2f} B, write {write:5.1f} ns, read {read:4.1f} ns", *how
            )


def _one(table: pa.Table, encoding: str, codec: str, level: int | None) -> tuple[float, ...]:
    rows = table.num_rows
    options = {
        "compression": codec, "compression_level": level, "write_page_checksum": True,
        "data_page_size": DATA_PAGE_BYTES, "dictionary_pagesize_limit": DICTIONARY_BYTES,
        "use_dictionary": encoding == "DICTIONARY", "row_group_size": rows,
    }  # fmt: skip
    if encoding != "DICTIONARY":
        options["column_encoding"] = encoding

    def write() -> bytes:
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        return sink.getvalue()

    data = write()
    source = pa.BufferReader(data)
    read = nanoseconds(lambda: pq.ParquetFile(source).read(use_threads=False), rows)
    return len(data) / rows, nanoseconds(write, rows), read


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", action="store_true", help="compare encodings instead")
    parser.add_argument("--rows", type=int, default=1 << 20, help="references of a segment")
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--cpus", type=int, default=8)
    parser.add_argument("--drift", action="store_true", help="clocks as with time.feedback=none")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    if options.columns:
        compare_encodings(options.rows, options.cpus)
    else:
        measure(options.rows, options.segments, options.cpus, options.drift)
