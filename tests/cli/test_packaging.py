"""A wheel, made from an sdist, works outside the checkout with its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and, from it, a wheel; return the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    # --no-isolation: the backend is in the extra `test`, and no network is needed.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(TOP)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_sdist_holds_sources_and_tests_but_no_captures(wheel: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "Makefile", "tests/test_imports.py"} <= names
    traces = {name for name in names if name.startswith("traces/")}
    assert {name for name in traces if "/golden/" not in name} == {
        "traces/SCHEMA.md",
        "traces/CHANGES.md",
    }
    assert not [name for name in names if name.startswith(".venv/")]


def test_the_wheel_holds_every_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    listed = subprocess.run(
        ["git", "ls-files", "capture", "reports"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    files = [name for name in listed.stdout.splitlines() if (TOP / name).exists()]
    missing = [name for name in files if f"disco_trace/_data/{name}" not in names]
    assert not missing
    assert "disco_trace/_data/traces/SCHEMA.md" in names
    assert "disco_trace/py.typed" in names
    assert not [name for name in names if name.endswith((".pyc", ".traceback.txt"))]


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Before everything else on the path, so that the checkout's editable install is not met.
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "disco_trace", *words, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stdout, done.stderr
        value: dict[str, object] = json.loads(done.stdout)
        return value

    shown = run("config", "show", "--machine", "uma8")
    assert shown["ok"] is True
    assert {"flash8", "uniprocessor"} <= set(shown["machines"])  # type: ignore[call-overload]
    findings = run("doctor")["findings"]
    assert isinstance(findings, list)
    details = {finding["what"]: finding for finding in findings}
    for name in ("data folder capture", "data folder reports"):
        assert details[name]["ok"] is True
        assert str(site) in details[name]["detail"]
