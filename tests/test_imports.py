"""Imports run one way: read from the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import disco_trace

PACKAGE = Path(disco_trace.__file__).parent

# What each part of the package may import of the package; `config`, `costs`, `errors` and `paths`
# are the ground that all stand on. A part that is not named here fails the test: name it.
GROUND = {"errors", "paths", "config", "costs", "requests", "jit", "compile", "state"}
ALLOWED = {
    "errors": set(),
    "paths": {"errors"},
    "costs": {"errors", "paths"},
    "config": {"errors", "paths", "costs"},
    "requests": {"config"},
    "state": set(),
    "places": {"state"},
    "linking": set(),
    "jit": {"compile", "linking", "places"},
    # Compiling ahead means to load the kernels of every part.
    "compile": {"jit", "machine", "memory", "replay", "trace", "errors"},
    "guest": GROUND - {"requests"},
    "trace": GROUND - {"requests"},
    # The row formats (`trace.schema`) are data that kernels fill in.
    "memory": GROUND - {"requests"} | {"trace"},
    # One compiled loop runs both: the machine calls the monitor where a trap reaches it.
    "machine": GROUND - {"requests"} | {"trace", "memory", "monitor"},
    "monitor": GROUND - {"requests"} | {"trace", "memory", "machine"},
    "replay": GROUND | {"trace", "memory"},
    "report": GROUND | {"trace"},
    "checkpoint": GROUND | {"guest", "machine", "monitor", "memory", "trace", "replay"},
    "boot": GROUND | {"guest", "machine", "monitor"},
    "capture": GROUND
    | {"boot", "guest", "machine", "monitor", "memory", "trace", "replay", "checkpoint"},
    "experiments": GROUND
    | {"boot", "capture", "guest", "machine", "trace", "replay", "report", "cli"},
    "blame": GROUND | {"trace", "replay", "report"},
    "api": GROUND | {"capture", "guest", "trace", "replay", "report", "cli"},
    "cli": GROUND
    | {
        "api",
        "blame",
        "capture",
        "checkpoint",
        "experiments",
        "guest",
        "trace",
        "replay",
        "report",
    },
    "__init__": {"api", "errors"},
    "__main__": {"cli"},
}


def imported(file: Path) -> set[str]:
    """Return the dotted names below `disco_trace` that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide directions"
            module = node.module or ""
            if module == "disco_trace":
                found |= {f"disco_trace.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return {name.split(".", 1)[1] for name in found if name.startswith("disco_trace.")}


def files_of(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]


def parts() -> list[str]:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    return sorted(folders | {path.stem for path in PACKAGE.glob("*.py")})


@pytest.mark.parametrize("part", parts())
def test_imports_run_one_way(part: str) -> None:
    assert part in ALLOWED, f"say in this test what {part} may import"
    for file in files_of(part):
        above = {
            name for name in imported(file) if name.split(".")[0] not in ALLOWED[part] | {part}
        }
        above -= {"__version__", "DiscoError"}
        assert not above, f"{file.relative_to(PACKAGE)} imports {sorted(above)}"


def test_what_lies_lowest_takes_the_schema_only_of_trace() -> None:
    for part in ("memory", "machine"):
        for file in files_of(part):
            names = {name for name in imported(file) if name.startswith("trace")}
            assert names <= {"trace.schema"}, f"{file.relative_to(PACKAGE)} imports {sorted(names)}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, disco_trace; disco_trace.__version__; disco_trace.DiscoError;"
        "heavy = {'numba', 'numpy', 'pyarrow', 'polars', 'duckdb', 'altair', 'typer'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.split() == []


def test_no_python_outside_the_package_and_tests() -> None:
    top = PACKAGE.parent
    for folder in ("capture", "reports", "traces"):
        assert not list((top / folder).rglob("*.py")), f"{folder} holds what is not Python"
