"""A capture ends where it was told to, says why, and what it leaves is a sound trace."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from disco_trace.capture import capture
from disco_trace.requests import CaptureRequest, ExitReason
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.writer import TraceWriter
from tests.capture.words import WAIT, addiu, image, power_off
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    rows_of,
    run_guest,
    spec_at,
)


@pytest.mark.parametrize(("cpus", "nodes"), [(1, 1), (4, 2)])
def test_instruction_limits_are_exact(tmp_path, cpus, nodes):
    spec = spec_at(cpus, nodes)
    run_guest("radix", spec, tmp_path / "whole", TINY["radix"])
    whole = rows_of(tmp_path / "whole", 0)[0]
    for limit in (1, 2, 3, 1000, 12_345, 99_999):
        trace = tmp_path / str(limit)
        result = run_guest("radix", spec, trace, TINY["radix"], max_instructions=limit)
        assert result.exit_reason is ExitReason.INSTRUCTION_LIMIT
        assert result.totals["instructions"] == limit
        assert result.guest_exit_status is None
        assert_sound(trace)
        assert TraceReader(trace).complete, "all that was asked for"
        assert_same(replayed(trace, spec), captured(trace))
        # A limit cuts the stream short and changes nothing before.
        refs = rows_of(trace, 0)[0]
        for name in ("cycle", "vaddr", "guest_page", "pc", "cpu", "kind", "way"):
            assert np.array_equal(refs[name], whole[name][: len(refs)]), (limit, name)


def test_a_limit_beyond_the_end_changes_nothing(tmp_path):
    spec = spec_at(2, 2)
    run_guest("radix", spec, tmp_path / "a", TINY["radix"])
    run_guest("radix", spec, tmp_path / "b", TINY["radix"], max_instructions=10**9)
    assert TraceReader(tmp_path / "a").trace_id == TraceReader(tmp_path / "b").trace_id


SPIN = {"machine__l1d__size_bytes": "1KiB", "machine__ram_bytes": "8MiB"}


def test_a_limit_of_bytes(tmp_path):
    spec, trace, limit = spec_at(4, 4, **SPIN), tmp_path / "t", 3 << 20
    result = run_guest("spin", spec, trace, [], max_bytes=limit, max_instructions=200_000_000)
    assert result.exit_reason is ExitReason.BYTE_LIMIT
    assert_sound(trace)
    reader = TraceReader(trace)
    sizes = [sum(part.bytes for part in line.parts.values()) for line in reader.segments]
    # Whole segments: the limit is passed by less than two of them.
    assert sum(sizes[:-2]) < limit <= sum(sizes)
    assert_same(replayed(trace, spec), captured(trace))


def test_a_slow_disk_does_not_move_the_limit_of_bytes(tmp_path, monkeypatch):
    spec, limit = spec_at(4, 4, **SPIN), {"max_bytes": 1, "max_instructions": 30_000_000}
    run_guest("spin", spec, tmp_path / "a", [], **limit)
    write = TraceWriter._write_part

    def slowly(self, kind, columns):
        time.sleep(0.05)
        return write(self, kind, columns)

    def at_once(self, *rows):
        submit(self, *rows)
        self.flush()

    submit = TraceWriter.submit
    monkeypatch.setattr(TraceWriter, "_write_part", slowly)
    run_guest("spin", spec, tmp_path / "b", [], **limit)
    monkeypatch.setattr(TraceWriter, "submit", at_once)
    run_guest("spin", spec, tmp_path / "c", [], **limit)
    ids = {TraceReader(tmp_path / name).trace_id for name in "abc"}
    assert len(ids) == 1


def test_an_address_never_reached_is_named(tmp_path):
    result = run_guest("radix", spec_at(1, 1), tmp_path / "t", TINY["radix"], stop_at=0x9000_0000)
    assert result.exit_reason is ExitReason.POWER_OFF
    assert result.warnings == ["the address to stop at, 0x90000000, was not reached"]


def test_stop_at_a_symbol(tmp_path):
    spec = spec_at(4, 4)
    run_guest("radix", spec, tmp_path / "whole", TINY["radix"])
    table = TraceReader(tmp_path / "whole").symbols()
    names = {s["name"]: s["address"] for s in table.to_pylist()}
    result = run_guest("radix", spec, tmp_path / "t", TINY["radix"], stop_at=names["main"])
    assert result.exit_reason is ExitReason.STOP_AT
    assert result.succeeded
    assert names["main"] in [row["pc"] for row in result.registers]
    assert 0 < result.totals["instructions"] < 500_000
    assert_sound(tmp_path / "t")
    assert_same(replayed(tmp_path / "t", spec), captured(tmp_path / "t"))


@pytest.mark.parametrize("step", range(6))
def test_stop_at_each_instruction(tmp_path, step):
    """Stop before the instruction at the address: also at the first, and in a delay slot."""
    words = [addiu(9, 9, 1)] * 4 + [0x10000003, addiu(9, 9, 16)] + [0] * 2 + power_off(9)
    path = image(tmp_path / "raw.bin", words)
    result = capture(
        CaptureRequest(
            guest=str(path), args=[], spec=spec_at(1, 1), out=tmp_path / "t",
            stop_at=0x80000000 + 4 * step,
        )
    )  # fmt: skip
    assert result.exit_reason is ExitReason.STOP_AT
    assert result.totals["instructions"] == step
    assert result.registers[0]["r9"] == min(step, 4)
    assert result.registers[0]["pc"] == 0x80000000 + 4 * step


def test_a_guest_that_hangs(tmp_path, cli):
    path = image(tmp_path / "hang.bin", [WAIT, *power_off(0)])
    words = ("--entry", "0x80000000", "--set", "machine.cpus=2")
    answer = cli("capture", path, "-o", tmp_path / "t", *words)
    assert answer["exit_code"] == 4
    assert answer["exit_reason"] == "deadlock"
    assert answer["guest_exit_status"] is None
    assert answer["totals"]["instructions"] == 2
    assert "hangs" in answer["warnings"][0]
    assert_sound(tmp_path / "t")


def test_exit_status_7(tmp_path, cli):
    answer = cli("capture", "exit7", "-o", tmp_path / "t")
    assert answer["exit_code"] == 4
    assert answer["exit_reason"] == "power-off"
    assert answer["guest_exit_status"] == 7
    assert_sound(tmp_path / "t")
    assert TraceReader(tmp_path / "t").complete
    assert cli("check", tmp_path / "t")["exit_code"] == 0
    assert cli("replay", tmp_path / "t", "--policy", "first-touch")["exit_code"] == 0


def test_the_command_line_says_what_a_limit_left(tmp_path, cli):
    out = ("-o", tmp_path / "t", "--set", "machine.cpus=1", "--set", "machine.nodes=1")
    answer = cli("capture", "radix", *out, "--max-instructions", "10_000", "--", "keys=2K")
    assert answer["exit_code"] == 4
    assert answer["exit_reason"] == "instruction-limit"
    assert answer["totals"]["instructions"] == 10_000
    assert answer["instructions_per_second"] > 0
    assert answer["per_cpu"][0]["instructions"] == 10_000


def test_no_events(tmp_path, cli):
    sets = ("--set", "machine.cpus=4", "--set", "machine.nodes=4")
    full = cli("capture", "radix", *sets, "-o", tmp_path / "full", "--", *TINY["radix"])
    bare = cli(
        "capture", "radix", *sets, "-o", tmp_path / "bare", "--no-events", "--", *TINY["radix"]
    )
    assert bare["exit_code"] == 0
    assert bare["totals"] == full["totals"]
    assert bare["per_cpu"] == full["per_cpu"]
    for name in ("accounts", "heat", "moves", "intervals"):
        one, other = (Run.open(tmp_path / n / "runs" / "captured") for n in ("full", "bare"))
        assert one.table(name).equals(other.table(name)), name
    assert not (tmp_path / "bare" / "refs").exists()
    assert_sound(tmp_path / "bare")
    answer = cli("replay", tmp_path / "bare")
    assert answer["exit_code"] == 2
    assert "--no-events" in answer["error"]["message"]
    assert not list(Path(tmp_path / "bare" / "runs").glob("guest-*"))
