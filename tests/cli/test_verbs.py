"""The thin verbs: what they ask the machinery for, and how they say what it answered.

The machinery itself is replaced here; `tests/test_end_to_end.py` runs the real one.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from disco_trace import compile as kernels
from disco_trace.cli.main import main
from disco_trace.requests import CaptureRequest, CaptureResult, Dump, ExitReason, ReplayResult

Capture = pytest.CaptureFixture[str]

COUNTERS = {
    "instructions": 1_000_000,
    "cycles": 2_500_000,
    "l2_misses": 1000,
    "local_misses": 250,
    "remote_misses": 700,
    "dirty_misses": 50,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace guest, capture and replay; return what they were asked and shall answer."""
    state: dict[str, Any] = {"reason": ExitReason.POWER_OFF, "status": 0, "console": b"hello\n"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["disco-trace"])
    monkeypatch.setattr(kernels, "is_warm", lambda: True)

    def capture(request: CaptureRequest) -> CaptureResult:
        state["request"] = request
        if request.console and request.on_console:
            request.on_console(state["console"])
        return CaptureResult(
            path=request.out,
            exit_reason=state["reason"],
            guest_exit_status=state["status"],
            console=state["console"],
            seconds=2.0,
            instructions_per_second=500_000.0,
            compile_seconds=0.0,
            totals=COUNTERS,
            per_cpu=[COUNTERS],
            registers=[{"v0": 1}],
            cp0=[{"status": 2}],
            warnings=[],
        )

    def replay(trace: Path, spec: Any, **options: Any) -> ReplayResult:
        state["replay"] = (trace, spec, options)
        return ReplayResult(
            path=trace / "runs" / "x-00000000",
            totals=COUNTERS,
            per_cpu=[COUNTERS],
            seconds=1.0,
            compile_seconds=0.0,
            recorded_references=20_000_000,
            references_per_second=2e7,
            original_references=10**9,
            reused=False,
            fidelity={"placement.policy": "no feedback"},
        )

    image = tmp_path / "hello.elf"
    image.write_bytes(b"\x7fELF")
    guest = SimpleNamespace(
        name="hello", machine="flash4", args=[], image=image, phases={2: "sort"}
    )
    state["image"] = image
    for name, values in {
        "disco_trace.capture": {"capture": capture},
        "disco_trace.guest.resolve": {
            "find_guest": lambda name: guest,
            "guest_to_run": lambda name, deprivileged: guest,
        },
        "disco_trace.replay.engine": {"replay": replay},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return state


def test_capture_takes_the_guests_machine_and_derives_the_name(asked: Any, capsys: Capture) -> None:
    assert main(["capture", "hello", "--json"]) == 0
    request = asked["request"]
    assert request.spec.machine.cpus == 4
    assert request.out == Path("traces/hello-4cpu")
    value = json.loads(capsys.readouterr().out)
    assert value["totals"]["local_misses"] == 250
    assert value["exit_reason"] == "power-off"
    assert value["guest_exit_status"] == 0
    assert value["seconds"] == 2.0
    assert value["registers"] == [{"v0": 1}]
    assert value["next"] == "disco-trace replay traces/hello-4cpu --policy first-touch"


def test_capture_passes_every_option(asked: Any, tmp_path: Path) -> None:
    blob = tmp_path / "a@b.bin"
    blob.write_bytes(b"x")
    words = [
        *("capture", "hello", "--machine", "uniprocessor", "--set", "machine.cpus=2"),
        *("--policy", "round-robin", "--costs", "native", "-o", "out", "--force"),
        *("--load", f"{blob}@0x100000", "--entry", "0x80001000", "--stop-at", "0x80002000"),
        *("--max-instructions", "5_000_000", "--max-bytes", "2GiB", "--no-events"),
        *("--save-at", "sort"),
        *("--dump", "0x1000:4KiB=mem.bin", "--dump", "2/0:16=a/b=c"),
        *("--quiet", "--", "keys=4", "--odd"),
    ]
    assert main(words) == 0
    request = asked["request"]
    assert (request.spec.machine.cpus, request.spec.placement.policy) == (2, "round-robin")
    assert request.spec.costs.table == "native"
    assert request.args == ["keys=4", "--odd"]
    assert (request.out, request.force, request.no_events) == (Path("out"), True, True)
    assert request.load == [(blob, 0x100000)]
    assert (request.entry, request.stop_at) == (0x80001000, 0x80002000)
    assert (request.max_instructions, request.max_bytes) == (5_000_000, 2 << 30)
    assert request.dump == [Dump(0x1000, 4096, Path("mem.bin")), Dump(0, 16, Path("a/b=c"), 2)]
    assert (request.save_at, request.resume) == (2, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vms", "2"], "needs a monitor"),
        (["--monitor", "disco", "--vms", "vms.toml"], "vms.toml: no such file"),
        (["--monitor", "disco", "--vms", "0"], "--vms"),
        (["--run", "ls"], "later version"),
        (["--save-at", "x"], "no phase 'x'"),
        (["--save-at", "0"], "no phase '0'"),
        (["--resume", "x"], "no checkpoint here"),
        (["--monitor", "xen"], "monitor.kind"),
        (["--machine", "flash9"], "flash9"),
        (["--entry", "main"], "--entry"),
        (["--entry", "0x100000000"], "--entry"),
        (["--stop-at", "-4"], "--stop-at"),
        (["--max-instructions", "0"], "--max-instructions"),
        (["--max-instructions", "1e6"], "--max-instructions"),
        (["--max-bytes", "many"], "--max-bytes"),
        (["--load", "file"], "FILE@PHYS"),
        (["--load", "none@0"], "none"),
        (["--dump", "0=x"], "PHYS:LENGTH=FILE"),
        (["--dump", "0:0=x"], "--dump"),
        (["--dump", "0xffffffff:2=x"], "--dump"),
        (["--policy", "nearest"], "unknown policy"),
        (["--set", "placement.policy=nearest"], "placement.policy"),
        (["--set", "machine.cpu=1"], "machine.cpu"),
    ],
)
def test_capture_refuses_what_it_cannot_do(
    words: list[str], said: str, asked: Any, capsys: Capture
) -> None:
    assert main(["capture", "hello", *words]) == 2
    assert said in capsys.readouterr().err
    assert "request" not in asked


def test_capture_does_not_overwrite(asked: Any, capsys: Capture) -> None:
    Path("traces/hello-4cpu").mkdir(parents=True)
    assert main(["capture", "hello"]) == 2
    assert "--force" in capsys.readouterr().err
    assert "request" not in asked


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (ExitReason.POWER_OFF, 0, 0),
        (ExitReason.POWER_OFF, 7, 4),
        (ExitReason.STOP_AT, None, 0),
        (ExitReason.INSTRUCTION_LIMIT, None, 4),
        (ExitReason.BYTE_LIMIT, None, 4),
        (ExitReason.DEADLOCK, None, 4),
        (ExitReason.LOCKUP, None, 4),
        (ExitReason.INTERRUPTED, None, 130),
    ],
)
def test_how_a_capture_ended_is_its_exit_code(
    reason: ExitReason, status: int | None, code: int, asked: Any, capsys: Capture
) -> None:
    asked.update(reason=reason, status=status)
    assert main(["capture", "hello", "--json"]) == code
    value = json.loads(capsys.readouterr().out)
    assert value["exit_code"] == code
    assert value["ok"] is (code == 0)
    assert value["guest_exit_status"] == status
    assert "error" not in value


def test_the_console_is_shown_once(asked: Any, capsys: Capture) -> None:
    assert main(["capture", "hello", "--console"]) == 0
    assert capsys.readouterr().out.count("hello\n") == 1
    assert main(["capture", "hello", "--console", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "hello\n"
    assert json.loads(captured.out)["console"] == "hello\n"


def trace_with(config: dict[str, Any]) -> Path:
    """Make a folder with a manifest: all that the verb itself reads of a trace."""
    folder = Path("traces/t")
    folder.mkdir(parents=True)
    manifest = {
        "format_version": 1,
        "guest": {"name": "hello", "sha256": "0"},
        "config": config,
        "cpus": 8,
        "nodes": 8,
        "ram_pages": [16384],
        "l1_ways": 2,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_replay_starts_from_the_captures_own_specification(asked: Any, capsys: Capture) -> None:
    from disco_trace.config import resolve, to_dict

    own = resolve(machine="flash8", sets=["memory.remote_ns=777"])
    trace = trace_with(to_dict(own))
    words = ["replay", str(trace), "--policy", "migrate", "--set", "placement.trigger_misses=64"]
    assert main([*words, "--record-misses", "--phase", "join", "--json"]) == 0
    folder, spec, options = asked["replay"]
    assert folder == trace
    assert spec.memory.remote_ns == 777
    assert spec.placement.policy == "migrate"
    assert spec.placement.trigger_misses == 64
    assert options["record_misses"] is True
    assert options["phase"] == "join"
    value = json.loads(capsys.readouterr().out)
    assert value["recorded_references"] == 20_000_000
    assert value["reused"] is False
    assert value["fidelity"] == {"placement.policy": "no feedback"}
    assert value["next"] == "disco-trace report traces/t"


def test_replay_names_a_missing_or_damaged_trace(asked: Any, capsys: Capture) -> None:
    assert main(["replay", "traces/none"]) == 2
    assert "traces/none" in capsys.readouterr().err
    trace = trace_with({"machine": {"cpus": "many"}})
    assert main(["replay", str(trace)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_config_show_prints_toml_that_reads_back(capsys: Capture) -> None:
    assert main(["config", "show", "--machine", "uma8", "--set", "machine.seed=3"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["machine"]["seed"] == 3
    assert "[--set]" in text
    assert "[uma8.toml]" in text


def test_config_show_a_part(capsys: Capture) -> None:
    assert main(["config", "show", "memory.l2", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert set(value["config"]) == {
        f"memory.l2.{name}" for name in ("size_bytes", "ways", "line_bytes", "replacement")
    }
    assert main(["config", "show", "memori"]) == 2
    assert "memori" in capsys.readouterr().err


def test_doctor_lists_what_it_found(capsys: Capture) -> None:
    code = main(["doctor", "--json"])
    value = json.loads(capsys.readouterr().out)
    names = [finding["what"] for finding in value["findings"]]
    assert {"Python", "numba", "pyarrow", "disk space", "kernels"} <= set(names)
    missing = [finding for finding in value["findings"] if finding["ok"] is False]
    assert code == (3 if missing else 0)


@pytest.fixture
def demo_asked(asked: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the demo's machinery answer too: warm kernels, a report, one figure a policy."""
    from disco_trace import api
    from disco_trace.cli import demo

    asked["replays"] = []
    cycles = {"guest": 1000, "first-touch": 1100, "migrate": 800}

    def replay(trace: Path, spec: Any, **options: Any) -> ReplayResult:
        near = spec.memory.remote_ns == spec.memory.local_ns
        asked["replays"].append(spec)
        name = "near" if near else spec.placement.policy
        return ReplayResult(
            path=trace / "runs" / f"{name}-{len(asked['replays']):08}",
            totals=COUNTERS,
            per_cpu=[COUNTERS],
            seconds=1.0,
            compile_seconds=0.0,
            recorded_references=10**7,
            references_per_second=1e7,
            original_references=10**8,
            reused=False,
        )

    def counted(trace: Path, runs: list[Path]) -> dict[Path, dict[str, int]]:
        return {
            run: {
                "cycles": 7 + (500 if run.name[:4] == "near" else cycles.get(run.name[:-9], 1000)),
                "idle_cycles": 7,
                "l2_misses": 1000,
                "local_misses": 250,
                "migrations": 2,
                "replications": 3,
            }
            for run in runs
        }

    sys.modules["disco_trace.replay.engine"].replay = replay  # type: ignore[attr-defined]
    monkeypatch.setattr(demo, "counted", counted)

    class FakeTrace:
        def __init__(self, path: Path) -> None:
            self.path = path

        def report(self) -> Path:
            return self.path.with_suffix(".html")

    monkeypatch.setattr(api, "Trace", FakeTrace)
    return asked


def test_demo_captures_replays_and_says_what_it_found(demo_asked: Any, capsys: Capture) -> None:
    assert main(["demo"]) == 0
    text = capsys.readouterr().out
    assert demo_asked["request"].args == ["rows=128K", "products=4K", "rounds=4"]
    assert demo_asked["request"].spec.machine.nodes == 8
    assert len(demo_asked["replays"]) == 9
    flat = " ".join(text.split())
    # 250 local of 1000 misses; migrate takes 800 of 1000 cycles; the bound takes 500.
    assert "25 % of the query's second-level misses are served by the CPU's own node" in flat
    assert "50 % of the time would go" in flat
    assert 'Best is "migrate": it saves 20 % of the time' in flat
    assert '"first-touch" by 10 %, "first-touch at query" by 10 %.' in flat
    assert "traces/demo-database-8cpu.html" in text


def test_demo_uses_again_what_is_there(
    demo_asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from disco_trace.cli.demo import ARGUMENTS, SETS
    from disco_trace.compile import simulator_id
    from disco_trace.config import resolve, to_dict

    boot = ModuleType("disco_trace.boot")
    start = SimpleNamespace(image=SimpleNamespace(sha256="0"))
    boot.starts_of = lambda request: [start]  # type: ignore[attr-defined]
    boot.disks_of = lambda request, starts: []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "disco_trace.boot", boot)
    trace = trace_with(to_dict(resolve(machine="flash8", sets=SETS)))
    manifest = json.loads((trace / "manifest.json").read_text())
    manifest["guest"] = {"name": "database", "sha256": "0", "args": list(ARGUMENTS)}
    for complete in (False, True):
        manifest["complete"] = complete
        (trace / "manifest.json").write_text(json.dumps(manifest))
        (trace / "runs" / "captured").mkdir(parents=True, exist_ok=True)
        (trace / "runs" / "captured" / "run.json").touch()
        (trace / "provenance.json").write_text(json.dumps({"simulator": simulator_id()}))
        demo_asked.pop("request", None)
        assert main(["demo", "-o", str(trace), "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
        assert value["captured"] == ("reused" if complete else "made")
        assert ("request" in demo_asked) is not complete
    assert main(["demo", "-o", str(trace), "--json", "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["captured"] == "made"
    (trace / "provenance.json").write_text("{}")  # of a version that did not say which
    assert main(["demo", "-o", str(trace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["captured"] == "made"
    (trace / "provenance.json").write_text(json.dumps({"simulator": simulator_id()}))
    start.image.sha256 = "1"  # the guest was built anew
    assert main(["demo", "-o", str(trace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["captured"] == "made"


def test_demo_leaves_foreign_traces_alone(demo_asked: Any, capsys: Capture) -> None:
    trace = trace_with({})
    assert main(["demo", "-o", str(trace)]) == 2
    assert "not the demo's trace" in capsys.readouterr().err
    Path("notes").mkdir()
    assert main(["demo", "-o", "notes"]) == 2
    assert "notes" in capsys.readouterr().err
    assert "request" not in demo_asked


def test_a_failing_demo_guest_is_told(demo_asked: Any, capsys: Capture) -> None:
    demo_asked["status"] = 3
    assert main(["demo"]) == 4
    assert "status 3" in capsys.readouterr().err


def test_a_file_that_is_no_elf_needs_an_entry(asked: Any, capsys: Capture) -> None:
    asked["image"].write_bytes(b"# text")
    assert main(["capture", "./hello.elf"]) == 2
    error = capsys.readouterr().err
    assert "not an ELF file" in error
    assert "--entry" in error
    assert main(["capture", "./hello.elf", "--entry", "0x80000000"]) == 0


@pytest.mark.parametrize("policy", ["origin", "best-static"])
def test_policies_of_later_versions_say_so(asked: Any, capsys: Capture, policy: str) -> None:
    assert main(["capture", "hello", "--policy", policy]) == 2
    assert "later version" in capsys.readouterr().err
    trace = trace_with({})
    assert main(["replay", str(trace), "--set", f"placement.policy={policy}"]) == 2
    assert "later version" in capsys.readouterr().err


def test_a_run_is_told_from_a_trace(asked: Any, capsys: Capture) -> None:
    run = trace_with({}) / "runs" / "captured"
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text("{}")
    assert main(["replay", str(run)]) == 2
    error = capsys.readouterr().err
    assert "a run, not a trace" in error
    assert str(run.parent.parent) in error


@pytest.mark.parametrize("verb", ["info", "check", "replay"])
def test_a_file_that_is_no_trace_is_named(capsys: Capture, tmp_path: Path, verb: str) -> None:
    note = tmp_path / "note.md"
    note.write_text("no trace")
    assert main([verb, str(note)]) == 2
    error = capsys.readouterr().err
    assert str(note) in error
    assert "found a file" in error


def test_a_count_with_a_suffix_is_told_how_to_be_written(asked: Any, capsys: Capture) -> None:
    assert main(["capture", "hello", "--max-instructions", "3M"]) == 2
    assert "hint: write 3_000_000" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["capture", "hello"], ["replay", "trace"]])
def test_an_unknown_policy_is_told_those_that_there_are(
    asked: Any, capsys: Capture, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "manifest.json").write_text("{}")
    assert main([*words, "--policy", "nosuch"]) == 2
    said = capsys.readouterr().err
    assert "migrate-replicate" in said
    assert "best-static" not in said


def test_a_tables_prices_are_told_as_one_change() -> None:
    from disco_trace.cli.replay import _changes

    prices = [f"costs.prices.{name}_us" for name in ("privileged", "forward", "ipi", "schedule")]
    policy = {"placement.policy": "exact"}
    assert _changes(policy | dict.fromkeys(prices, "no feedback")) == [
        "placement.policy: exact",
        "4 of costs.prices: no feedback",
    ]
    mixed = dict.fromkeys(prices, "no feedback") | {"costs.prices.migrate_us": "exact"}
    assert _changes(mixed) == ["4 of costs.prices: no feedback", "1 of costs.prices: exact"]
    assert _changes({prices[0]: "exact"}) == [f"{prices[0]}: exact"]
