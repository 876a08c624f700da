"""What every verb shares: envelope, exit codes, the next command, progress, file names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from disco_trace.cli import common, main
from disco_trace.cli import progress as progress_module
from disco_trace.cli.envelope import dumps
from disco_trace.cli.progress import Progress, readable
from disco_trace.errors import DiscoError

Capture = pytest.CaptureFixture[str]


def run(body: Any, *, as_json: bool = False, quiet: bool = False) -> int:
    """Run a verb's body; return the exit code."""
    try:
        with common.verb("check", json=as_json, quiet=quiet) as out:
            body(out)
    except typer.Exit as end:
        return end.exit_code
    return 0


def raising(error: BaseException) -> Any:
    def body(out: common.Output) -> None:
        raise error

    return body


def test_the_envelope_of_success(capsys: Capture) -> None:
    def body(out: common.Output) -> None:
        out.say("for people")
        out.warn("careful")
        out.set(path=Path("traces/x"), totals={"cycles": 3})
        out.next("info", Path("a b"))

    assert run(body, as_json=True) == 0
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert list(value)[:3] == ["schema", "ok", "exit_code"]
    assert value["schema"] == "disco-trace/check@1"
    assert value["ok"] is True
    assert value["path"] == "traces/x"
    assert value["warnings"] == ["careful"]
    assert value["next"].endswith("info 'a b'")
    assert captured.err == "warning: careful\n"


def test_people_get_lines_and_the_next_command(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/disco-trace", "check"])

    def body(out: common.Output) -> None:
        out.say("a line")
        out.next("info", "x")

    assert run(body) == 0
    assert capsys.readouterr().out == "a line\nnext: .venv/bin/disco-trace info x\n"
    assert run(body, quiet=True) == 0
    assert capsys.readouterr().out == ""


def test_an_error_is_one_line_in_both_forms(capsys: Capture) -> None:
    error = DiscoError(
        "damaged part", file="refs/part-00000.parquet", expected="5 rows", found="4 rows", hint="h"
    )
    assert run(raising(error), as_json=True) == 2
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert value["ok"] is False
    assert value["exit_code"] == 2
    assert value["error"] == {
        "message": "damaged part",
        "file": "refs/part-00000.parquet",
        "expected": "5 rows",
        "found": "4 rows",
        "hint": "h",
    }
    line = "refs/part-00000.parquet: damaged part (expected 5 rows, found 4 rows)"
    assert captured.err == f"error: {line}\nhint: h\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DiscoError("no", exit_code=3), 3, "no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (FileNotFoundError(2, "No such file or directory", "x.toml"), 2, "x.toml"),
        (PermissionError(13, "Permission denied", "dir"), 2, "dir: permission denied"),
        (OSError(28, "No space left on device", "part"), 3, "no space left"),
        (OSError(28, "No space left on device"), 3, "no space left"),
        (MemoryError(), 3, "memory ran out"),
        (ModuleNotFoundError("No module named 'ziglang'", name="ziglang"), 3, "'ziglang'"),
        (ModuleNotFoundError("x", name="disco_trace.nothing"), 70, "a bug in disco-trace"),
        (ZeroDivisionError("by\nzero"), 70, "a bug in disco-trace: ZeroDivisionError: by zero"),
    ],
)
def test_what_is_raised_becomes_a_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("DISCO_TRACE_DEBUG", raising=False)
    assert run(raising(error)) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.splitlines()[0].startswith("error: ")
    assert len(list(tmp_path.iterdir())) == (1 if code == 70 else 0)


def test_our_bug_keeps_its_traceback_and_debug_shows_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("DISCO_TRACE_DEBUG", raising=False)
    assert run(raising(ValueError("odd"))) == 70
    (kept,) = tmp_path.iterdir()
    assert str(kept) in capsys.readouterr().err
    assert "ValueError: odd" in kept.read_text()
    monkeypatch.setenv("DISCO_TRACE_DEBUG", "1")
    assert run(raising(ValueError("odd"))) == 70
    assert "Traceback" in capsys.readouterr().err


def test_the_answer_no_is_not_an_error(capsys: Capture) -> None:
    def body(out: common.Output) -> None:
        out.exit_code = 1

    assert run(body, as_json=True) == 1
    value = json.loads(capsys.readouterr().out)
    assert (value["ok"], value["exit_code"], "error" in value) == (False, 1, False)


def test_wrong_usage_gives_the_envelope_too(capsys: Capture) -> None:
    assert main.main(["config", "show", "--json", "--nonsense"]) == 2
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert value["schema"] == "disco-trace/config@1"
    assert "--nonsense" in value["error"]["message"]
    assert "--help" in value["error"]["hint"]
    assert captured.err.startswith("error: ")


def test_usage_after_the_guests_dashes_is_not_ours(capsys: Capture) -> None:
    assert main.main(["capture", "--nonsense", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_the_next_command_is_as_invoked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["./bin/disco-trace"])
    assert common.command_line("info", "x") == "./bin/disco-trace info x"
    script = tmp_path / "disco-trace"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert common.command_line("info") == "disco-trace info"
    monkeypatch.setenv("PATH", "/nowhere")
    assert common.command_line("info") == f"{script} info"
    monkeypatch.setattr(sys, "argv", ["/x/disco_trace/__main__.py"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "disco_trace"])
    assert common.command_line("info") == "python3 -m disco_trace info"


def test_json_has_plain_values_only() -> None:
    import numpy as np

    value = {
        "count": np.uint64(2**63),
        "nan": float("nan"),
        "array": np.arange(3),
        Path("k"): {1},
        "bytes": b"\xff\x00ok",
        "error": DiscoError("x"),
    }
    assert json.loads(dumps(value)) == {
        "count": 2**63,
        "nan": None,
        "array": [0, 1, 2],
        "k": [1],
        "bytes": "\ufffd\x00ok",
        "error": "x",
    }


def test_derived_names() -> None:
    assert common.trace_path("radix", 8) == Path("traces/radix-8cpu")
    assert common.trace_path("./my/own.elf", 1) == Path("traces/own-1cpu")
    assert common.trace_path("radix", 8, vms=2) == Path("traces/radix-disco2-8cpu")
    assert common.report_path(Path("traces/radix-8cpu/")) == Path("traces/radix-8cpu.html")
    assert common.report_path(Path("traces/v1.5")) == Path("traces/v1.5.html")
    assert common.report_path(Path()).name == f"{Path.cwd().name}.html"


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    common.check_free(tmp_path / "new", force=False, what="trace")
    common.check_free(tmp_path, force=True, what="trace")
    with pytest.raises(DiscoError, match="exists already"):
        common.check_free(tmp_path, force=False, what="trace")
    for force in (False, True):
        with pytest.raises(DiscoError, match="this is a folder"):
            common.check_free(tmp_path, force=force, what="page")
        with pytest.raises(DiscoError, match="a device or pipe"):
            common.check_free(Path(os.devnull), force=force, what="report")


def test_a_full_disk_takes_no_envelope_and_shows_no_traceback(tmp_path: Path) -> None:
    """The verb fails, and so does its last word: one line and an exit code are left."""
    if not Path("/dev/full").is_char_device():
        pytest.skip("the system has no /dev/full")
    words = ["-u", "-m", "disco_trace", "info", str(tmp_path / "none"), "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, *words], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert b"no space left" in done.stderr


def test_progress_is_sparse_lines_off_a_terminal(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with Progress("capture", total=1000, unit="instructions") as progress:
        for second in range(1, 71):
            now[0] += 1
            progress(second * 10, note="step")
    lines = capsys.readouterr().err.splitlines()
    # At 5 s, then every 15 s: 5, 20, 35, 50, 65. At 5 s 50 of 1000 are done: 95 s are left.
    assert len(lines) == 5
    assert lines[0] == "capture: 50 of 1.00 k instructions, 5 %, about 95 s left (step)"


def test_next_to_nothing_done_gives_no_estimate(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with Progress("capture", total=10**9, unit="instructions") as progress:
        now[0] += 6
        progress(10)
    assert capsys.readouterr().err == "capture: 10 of 1.00 G instructions, 6 s so far\n"


def test_progress_is_silent_where_hidden(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress_module, "UPDATE_SECONDS", 0.0)
    with Progress("x", hidden=True) as progress:
        progress(1)
    assert capsys.readouterr().err == ""


def test_counts_read_well() -> None:
    assert [readable(n) for n in (0, 950, 12_345, 118e6, 4_200_000_000)] == [
        "0",
        "950",
        "12.3 k",
        "118 M",
        "4.20 G",
    ]


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m disco_trace config show | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_with_130() -> None:
    code = (
        "import sys, time, disco_trace.cli.doctor as doctor\n"
        "def look():\n"
        "    print('ready', file=sys.stderr, flush=True); time.sleep(30)\n"
        "doctor.look = look\n"
        "from disco_trace.cli.main import main\n"
        "sys.exit(main(['doctor', '--json']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "ready\n"
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert json.loads(out)["exit_code"] == 130
    assert err == "error: interrupted\n"
