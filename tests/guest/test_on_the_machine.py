"""Run every guest on the simulated machine, on one and on many CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from disco_trace.guest.resolve import find_guest
from tests.guest.host import host_console

slow = pytest.mark.slow


def run(tmp_path: Path, guest: str, *args: str, cpus: int = 8, limit: int = 60_000_000):
    from disco_trace.capture import capture
    from disco_trace.config import resolve
    from disco_trace.requests import CaptureRequest

    spec = resolve(machine="flash8", sets=[f"machine.cpus={cpus}", f"machine.nodes={min(cpus, 8)}"])
    return capture(
        CaptureRequest(
            guest=guest, args=list(args), spec=spec, out=tmp_path / "trace", max_instructions=limit
        )
    )


@slow
@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("guest", ["hello", "hello-sseg"])
def test_hello(tmp_path, guest, cpus):
    result = run(tmp_path, guest, cpus=cpus)
    lines = result.console.decode().splitlines()
    nodes = min(cpus, 8)
    assert lines[0] == f"hello: {cpus} cpus, {nodes} nodes"
    assert lines[1:-1] == [
        f"hello from cpu {cpu} on node {cpu * nodes // cpus}" for cpu in range(cpus)
    ]
    assert lines[-1] == "goodbye"
    assert result.guest_exit_status == 0


@slow
def test_hello_on_64_cpus(tmp_path):
    assert run(tmp_path, "hello", cpus=64, limit=1_000_000_000).guest_exit_status == 0


@slow
@pytest.mark.parametrize("cpus", [1, 4, 8])
@pytest.mark.parametrize("guest", ["radix", "radix-sseg"])
def test_radix(tmp_path, guest, cpus):
    result = run(tmp_path, guest, "keys=16K", cpus=cpus)
    assert result.console == f"radix: 16384 keys sorted by {cpus} cpus, checked\n".encode()
    assert result.guest_exit_status == 0


@slow
@pytest.mark.parametrize("cpus", [1, 4, 8])
@pytest.mark.parametrize("load", ["serial", "parallel"])
def test_database(tmp_path, load, cpus):
    result = run(
        tmp_path, "database", "rows=4K", "products=500", "customers=300", f"load={load}", cpus=cpus
    )
    # The rows do not depend on who loads them: every run finds the same.
    assert b"300 groups, checked" in result.console
    assert result.console.count(b"checked") == 2
    assert result.guest_exit_status == 0


def children(result) -> dict[str, list[str]]:
    """Return the lines of the `processes` guest by their first word."""
    lines: dict[str, list[str]] = {}
    for line in result.console.decode().splitlines():
        lines.setdefault(line.split(" ")[0], []).append(line)
    return lines


@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("guest", ["processes", "processes-sseg"])
def test_processes(tmp_path, guest, cpus):
    result = run(tmp_path, guest, *find_guest(guest).ci_args, cpus=cpus)
    assert result.guest_exit_status == 0, result.console
    assert result.console.endswith(f"processes: checked on {cpus} cpus\n".encode())
    assert len(children(result)["panic:"]) == 4


@pytest.mark.parametrize("sched", ["any", "affinity"])
def test_processes_share_and_move(tmp_path, sched):
    """More processes than CPUs, slices of a tick; some are seen on more than one CPU."""
    options = [f"os.sched={sched}", "os.tick=5000", "os.slice=1", "os.balance=2"]
    result = run(tmp_path, "processes", "children=7", "work=8K", *options, cpus=3)
    assert result.guest_exit_status == 0, result.console
    (line,) = children(result)["round"]
    assert int(line.split()[-2]) >= 2


def test_address_space_numbers_are_used_again(tmp_path):
    """Twelve for four children, as many grandchildren and orphans: each is used several times."""
    from disco_trace.report.database import connect

    options = ["os.asids=14", "os.tick=5000", "os.slice=1"]
    words = ["children=4", "work=100", "rounds=6", *options]
    result = run(tmp_path, "processes", *words, cpus=4)
    assert result.guest_exit_status == 0, result.console
    with connect([tmp_path / "trace"]) as database:
        frame = database.query(
            "SELECT process, count(DISTINCT c.asid) AS spaces FROM _contexts AS c GROUP BY ALL"
        )
        spaces = dict(frame.rows())
        assert spaces.pop("kernel") == 1
        named = {name for name in spaces if name.startswith("child")}
        assert named == {f"child 0{i} of round {r}" for i in range(4) for r in range(6)}
        assert max(database.query("SELECT DISTINCT asid FROM _contexts")["asid"]) <= 14


@pytest.mark.parametrize(("wrong", "check"), [(1, 2), (2, 7)])
def test_a_child_that_finds_something_wrong_fails_the_guest(tmp_path, wrong, check):
    result = run(tmp_path, "processes", "children=2", "work=100", f"wrong={wrong}", cpus=2)
    assert result.guest_exit_status == 1
    assert f"failed check {check}".encode() in result.console


@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("guest", ["raytrace", "raytrace-sseg"])
def test_raytrace(tmp_path, guest, cpus):
    """The picture's sum is the same on any number of CPUs; on the host, see below."""
    result = run(tmp_path, guest, *find_guest(guest).ci_args, cpus=cpus)
    assert result.guest_exit_status == 0, result.console
    picture, used = result.console.decode().splitlines()
    assert picture == RAYTRACE
    assert used.startswith(f"raytrace: {cpus} cpus, ")


RAYTRACE = "raytrace: 288 triangles, 100 spheres, picture 5e63fb25, 12 pixels checked"


def test_raytrace_built_by_all_cpus(tmp_path):
    words = find_guest("raytrace").ci_args
    result = run(tmp_path, "raytrace", *words, "build=parallel", cpus=4)
    assert result.guest_exit_status == 0, result.console
    assert result.console.decode().splitlines()[0] == RAYTRACE


def test_a_grid_that_lacks_objects_fails_raytrace(tmp_path):
    words = find_guest("raytrace").ci_args
    result = run(tmp_path, "raytrace", *words, "wrong=1", cpus=4)
    assert result.guest_exit_status == 1
    assert b"pixels differ without the grid" in result.console


@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("guest", ["engineering", "engineering-sseg"])
def test_engineering(tmp_path, guest, cpus):
    """The processes end in any order; what they find does not depend on who ran them where."""
    result = run(tmp_path, guest, *find_guest(guest).ci_args, cpus=cpus)
    assert result.guest_exit_status == 0, result.console
    assert sorted(result.console.decode().splitlines()) == ENGINEERING


ENGINEERING = [
    "engineering: 4 processes, 735 gates, checked",
    "machine 1: 200 steps, 452 hits, 1148 misses, 13 invalidations, checked",
    "machine 2: 200 steps, 452 hits, 1148 misses, 13 invalidations, checked",
    "verilog 1: 1 vectors, 358 changes, c49471b9, checked",
    "verilog 2: 1 vectors, 223 changes, 3c252ca3, checked",
]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(1, "verilog 1: vector 0: 0 products are wrong, 1 gates differ"), (2, "machine 1: 0 wrong")],
)
def test_a_process_that_is_wrong_fails_engineering(tmp_path, wrong, words):
    result = run(tmp_path, "engineering", *find_guest("engineering").ci_args, f"wrong={wrong}")
    assert result.guest_exit_status == 1
    lines = result.console.decode().splitlines()
    assert any(line.startswith(words) for line in lines)
    assert lines[-1] == "engineering: 1 of 4 processes failed"


@pytest.mark.parametrize("guest", ["raytrace", "engineering"])
def test_the_host_finds_the_same(tmp_path, guest):
    words = [word for word in find_guest(guest).ci_args if not word.startswith("os.")]
    console = host_console(guest, *words, cpus=3, folder=tmp_path).splitlines()
    if guest == "raytrace":
        assert console[0] == RAYTRACE
    else:
        assert sorted(console) == ENGINEERING


def test_processes_and_their_memory_have_names(tmp_path):
    """By process in every view, and by the symbol of what lies in a page."""
    from disco_trace.report.database import connect

    run(tmp_path, "engineering", *find_guest("engineering").ci_args, cpus=4)
    with connect([tmp_path / "trace"]) as database:

        def column(query: str) -> set[str]:
            return set(database.query(query)[:, 0].to_list())

        names = {"kernel", "engineering", "verilog 1", "verilog 2", "machine 1", "machine 2"}
        assert column("SELECT DISTINCT process FROM refs") == names
        assert column("SELECT DISTINCT process FROM misses") == names
        assert column("SELECT DISTINCT process FROM tlb_misses") == names - {"kernel"}
        assert column("SELECT DISTINCT process FROM symbol_misses WHERE symbol = 'machine'") == {
            "machine 1", "machine 2",
        }  # fmt: skip
        pages = column("SELECT DISTINCT symbol FROM page_heat")
        # Not all: what ended processes leave, others fill, and a page is named by its most use.
        assert {"gates", "directory", "caches", "latest"} <= pages
        phases = "SELECT DISTINCT process FROM refs WHERE phase = '{}'"
        assert column(phases.format("simulate")) == names - {"kernel", "engineering"}
        assert column(phases.format("netlist")) == {"engineering"}


@slow
def test_pages_zeroed_by_the_board(tmp_path):
    cpu = run(tmp_path / "cpu", "radix", "keys=16K")
    board = run(tmp_path / "board", "radix", "keys=16K", "os.zero=board")
    assert board.console == cpu.console
    assert board.guest_exit_status == 0


@slow
def test_statuses(tmp_path):
    assert run(tmp_path / "7", "exit7").guest_exit_status == 7
    fault = run(tmp_path / "125", "fault", "kind=store")
    assert fault.guest_exit_status == 125
    assert b"panic: address not mapped: cpu 00000000" in fault.console


@slow
def test_spin_runs_to_the_limit(tmp_path):
    result = run(tmp_path, "spin", cpus=4, limit=3_000_000)
    assert result.exit_reason == "instruction-limit"
    assert result.guest_exit_status is None
