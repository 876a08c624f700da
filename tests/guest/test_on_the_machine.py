"""Run every guest on the simulated machine, on one and on many CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


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


def test_hello_on_64_cpus(tmp_path):
    assert run(tmp_path, "hello", cpus=64, limit=1_000_000_000).guest_exit_status == 0


@pytest.mark.parametrize("cpus", [1, 4, 8])
@pytest.mark.parametrize("guest", ["radix", "radix-sseg"])
def test_radix(tmp_path, guest, cpus):
    result = run(tmp_path, guest, "keys=16K", cpus=cpus)
    assert result.console == f"radix: 16384 keys sorted by {cpus} cpus, checked\n".encode()
    assert result.guest_exit_status == 0


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


def test_pages_zeroed_by_the_board(tmp_path):
    cpu = run(tmp_path / "cpu", "radix", "keys=16K")
    board = run(tmp_path / "board", "radix", "keys=16K", "os.zero=board")
    assert board.console == cpu.console
    assert board.guest_exit_status == 0


def test_statuses(tmp_path):
    assert run(tmp_path / "7", "exit7").guest_exit_status == 7
    fault = run(tmp_path / "125", "fault", "kind=store")
    assert fault.guest_exit_status == 125
    assert b"panic: address not mapped: cpu 00000000" in fault.console


def test_spin_runs_to_the_limit(tmp_path):
    result = run(tmp_path, "spin", cpus=4, limit=3_000_000)
    assert result.exit_reason == "instruction-limit"
    assert result.guest_exit_status is None
