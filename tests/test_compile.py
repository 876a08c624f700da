"""Compiled kernels are known to be there only where Numba will find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import disco_trace
from disco_trace import compile as kernels


def test_a_second_installation_is_not_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba keys its cache by the source's path and time, so a copy compiles anew and says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    package = Path(disco_trace.__file__).parent
    copy = tmp_path / "copy" / "disco_trace"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def said(top: Path) -> tuple[str, bool]:
        code = "from disco_trace import compile as k; print(k.prepare(), k.is_warm())"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(top)}, cwd=top,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        folder, warm = done.stdout.split()
        return folder, warm == "True"

    folder, warm = said(package.parent)
    assert not warm
    kernels._mark(Path(folder)).touch()
    assert said(package.parent) == (folder, True)
    assert said(copy.parent) == (folder, False), "the same sources, but Numba has not seen them"


def test_other_settings_have_another_folder_in_a_child_process(tmp_path: Path) -> None:
    """What checks every index must not find kernels that check none."""
    code = (
        "import os, subprocess, sys; from disco_trace import compile as k; print(k.prepare());"
        "print(os.environ['NUMBA_CACHE_DIR'], flush=True);"
        "again = 'from disco_trace import compile as k; print(k.prepare());'"
        "'import os; print(os.environ[\"NUMBA_CACHE_DIR\"])';"
        "subprocess.run([sys.executable, '-c', again], check=True,"
        " env=os.environ | {'NUMBA_BOUNDSCHECK': '1'})"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    env.pop("NUMBA_CACHE_DIR", None)
    env.pop("NUMBA_BOUNDSCHECK", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    parent, told, child, child_told = done.stdout.split()
    assert parent == told
    assert child == child_told
    assert child != parent
