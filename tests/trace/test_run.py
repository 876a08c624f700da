import json

import numpy as np
import pytest

from disco_trace.errors import DiscoError
from disco_trace.trace.run import Run, RunWriter, list_runs
from disco_trace.trace.schema import (
    HEAT,
    INTERVAL,
    METRIC_NAMES,
    METRICS,
    MISS,
    MOVE,
    N_METRICS,
)

I = {name: i for i, name in enumerate(METRIC_NAMES)}  # noqa: E741
PROMISED = [
    "instructions", "cycles", "l1i_misses", "l1d_misses", "upgrades", "l2_hits", "l2_misses",
    "local_misses", "remote_misses", "dirty_misses", "invalidations", "writebacks", "tlb_misses",
    "traps", "migrations", "replications",
]  # fmt: skip


def accounts():
    array = np.zeros((2, 8, N_METRICS), "u8")
    array[0, 0, I["instructions"]] = 100
    array[0, 0, I["work_cycles"]] = 100
    array[0, 6, I["remote_stall_cycles"]] = 270
    array[0, 6, I["remote_misses"]] = 1
    array[0, 6, I["monitor_migrate_cycles"]] = 5000
    array[1, 4, I["idle_cycles"]] = 30
    array[1, 4, I["local_misses"]] = 2**60
    return array


def moves(count):
    rows = np.zeros(count, MOVE)
    rows["seq"] = np.arange(count)
    rows["guest_page"] = 7
    return rows


def heat():
    rows = np.zeros(4, HEAT)
    rows["guest_page"] = [9, 3, 3, 5]
    rows["node"] = [0, 1, 0, 0]
    rows["local"] = [1, 2, 3, 0]
    return rows


def write(path, *, order=slice(None), pieces=1, force=False, **extra):
    with RunWriter(path, {"placement": {"policy": "guest"}}, trace_id="t", force=force) as run:
        run.accounts(accounts())
        for piece in np.array_split(moves(10), pieces):
            run.moves(piece)
        run.heat(heat()[order])
        for part in range(3):
            rows = np.zeros(4, MISS)
            rows["seq"] = part
            run.misses(rows)
        intervals = np.zeros(2, INTERVAL)
        intervals["metric"] = I["monitor_migrate_cycles"]
        run.intervals(intervals)
        run.close(**extra)
    return Run.open(path)


def test_totals_hold_what_the_command_line_promises(tmp_path):
    run = write(tmp_path / "r")
    assert set(PROMISED) <= set(run.totals)
    assert all(set(PROMISED) <= set(cpu) for cpu in run.per_cpu)
    assert run.totals["instructions"] == 100
    assert run.totals["cycles"] == 100 + 270 + 5000 + 30
    assert run.totals["elapsed_cycles"] == 5370
    assert run.totals["l2_misses"] == 2**60 + 1
    assert run.totals["monitor_cycles"] == run.totals["monitor_migrate_cycles"] == 5000
    assert [cpu["cycles"] for cpu in run.per_cpu] == [5370, 30]


def test_tables_come_back(tmp_path):
    run = write(tmp_path / "r", fidelity={"cycles": "exact"}, extra={"policy": "guest"})
    np.testing.assert_array_equal(run.accounts(), accounts())
    assert run.table("moves").num_rows == 10
    assert run.table("heat").to_pydict() == {
        "vm": [0, 0, 0], "guest_page": [3, 3, 9], "node": [0, 1, 0], "local": [3, 2, 1],
        "remote": [0] * 3, "writes": [0] * 3, "moves": [0] * 3,
    }  # fmt: skip
    assert run.table("intervals").column("metric").to_pylist() == ["monitor_migrate_cycles"] * 2
    assert run.misses().to_table().column("seq").to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    assert run.fidelity == {"cycles": "exact"}
    assert run.raw["policy"] == "guest"
    run.verify()


def test_the_fingerprint_is_of_the_results_alone(tmp_path):
    first = write(tmp_path / "a")
    same = write(tmp_path / "b", order=slice(None, None, -1), pieces=3, complete=False)
    assert first.fingerprint == same.fingerprint
    with RunWriter(tmp_path / "c", {}) as run:
        other = accounts()
        other[1, 4, I["idle_cycles"]] += 1
        run.accounts(other)
        run.moves(moves(10))
        run.heat(heat())
        assert run.close()["fingerprint"] != first.fingerprint


def test_no_moves_and_no_call_are_the_same(tmp_path):
    fingerprints = set()
    for name in ("a", "b"):
        with RunWriter(tmp_path / name, {}) as run:
            run.accounts(accounts())
            if name == "b":
                run.moves(moves(0))
                run.heat(np.zeros(3, HEAT))
            fingerprints.add(run.close()["fingerprint"])
    assert len(fingerprints) == 1
    assert Run.open(tmp_path / "a").table("moves").num_rows == 0


def test_existing_runs_are_kept_without_force(tmp_path):
    write(tmp_path / "r")
    with pytest.raises(DiscoError, match="exists"):
        RunWriter(tmp_path / "r", {})
    write(tmp_path / "r", force=True)


def test_a_run_needs_accounts_of_the_right_shape(tmp_path):
    with pytest.raises(ValueError, match="accounts"), RunWriter(tmp_path / "r", {}) as run:
        run.close()
    with RunWriter(tmp_path / "r", {}) as run:
        run.accounts(np.zeros((1, 4, len(METRICS)), "u8"))
        with pytest.raises(ValueError, match="shape"):
            run.close()
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("change", [{"shape": [1, 1, N_METRICS]}, {"shape": [2]}, {"totals": []}])
def test_a_damaged_run_is_refused(tmp_path, change):
    write(tmp_path / "r")
    file = tmp_path / "r" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DiscoError):
        Run.open(tmp_path / "r").accounts()


def test_runs_are_listed_captured_first(tmp_path):
    for name in ("migrate-1", "captured", "a"):
        write(tmp_path / "t" / "runs" / name)
    write(tmp_path / "more" / "b")
    (tmp_path / "t" / "runs" / ".x.new").mkdir()
    names = [p.name for p in list_runs(tmp_path / "t", tmp_path / "more")]
    assert names == ["captured", "a", "b", "migrate-1"]
