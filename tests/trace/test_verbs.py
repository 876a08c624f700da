import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace.synthetic import write_trace

ROOT = Path(__file__).parents[2]


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "disco_trace", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "toy-2cpu"
    write_trace(path)
    return path


def test_info_tells_what_the_trace_holds(trace):
    done = run("info", trace)
    assert done.returncode == 0, done.stderr
    for words in ("trace of toy -n 3, complete: power-off", "2 CPUs", "1,200 rows", "captured"):
        assert words in done.stdout


def test_info_as_json_is_the_captured_run(trace):
    body = json.loads(run("info", trace, "--json").stdout)
    captured = json.loads((trace / "runs" / "captured" / "run.json").read_text())
    assert body["schema"] == "disco-trace/info@1"
    assert body["totals"] == captured["totals"]
    assert body["per_cpu"] == captured["per_cpu"]
    assert body["rows"]["refs"] == 1200
    assert body["runs"] == ["captured"]
    assert body["bytes_on_disk"] == sum(body["bytes_by_kind"].values())


def test_info_of_a_run(trace):
    body = json.loads(run("info", trace / "runs" / "captured", "--json").stdout)
    assert (body["ok"], body["run"], len(body["per_cpu"])) == (True, "captured", 2)


def test_check_says_yes(trace):
    body = json.loads(run("check", trace, "--json").stdout)
    assert (body["ok"], body["exit_code"], body["problems"]) == (True, 0, [])


def test_check_says_no(tmp_path):
    write_trace(tmp_path / "t", segments=1)
    (tmp_path / "t" / "refs" / "part-00000.parquet").write_bytes(b"PAR1")
    done = run("check", tmp_path / "t", "--json")
    body = json.loads(done.stdout)
    assert (done.returncode, body["ok"], body["errors"]) == (1, False, len(body["problems"]))
    assert body["problems"][0]["file"].endswith("part-00000.parquet")
    assert run("info", tmp_path / "t").returncode == 0, "info reads no part"


def test_a_mistaken_path_is_one_line(tmp_path):
    for verb in ("info", "check"):
        for path in (tmp_path, tmp_path / "none"):
            done = run(verb, path)
            assert done.returncode == 2
            assert len(done.stderr.strip().splitlines()) <= 2
            assert "Traceback" not in done.stderr
