"""Every verb has help with examples, and help loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from disco_trace.cli import main as program

HEAVY = ("numba", "numpy", "pyarrow", "polars", "duckdb", "altair", "vl_convert", "jinja2")


def commands(verb: str) -> list[tuple[str, ...]]:
    """Return the commands of a verb as words: itself, or those below it."""
    below = getattr(program.load(verb), "commands", {})
    return [(verb, name) for name in below] or [(verb,)]


def help_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert program.main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", program.VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of((verb,), capsys)
    assert re.search(r"Examples?:\n", text), f"{verb} --help has no example"
    assert f"    disco-trace {verb}" in text


@pytest.mark.parametrize("verb", program.VERBS)
def test_every_command_has_examples_and_the_common_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in commands(verb):
        text = help_of(words, capsys)
        assert f"    disco-trace {' '.join(words)}" in text
        for option in ("--json", "--quiet", "--help"):
            assert option in text, f"{' '.join(words)} has no {option}"


@pytest.mark.parametrize("verb", program.VERBS)
def test_every_option_has_a_word_of_help(verb: str) -> None:
    command = program.load(verb)
    for below in getattr(command, "commands", {"": command}).values():
        for parameter in below.params:
            assert parameter.help, f"{verb} {below.name}: {parameter.name} has no help"


def test_help_loads_no_heavy_module() -> None:
    lines = [
        "import sys",
        "from disco_trace.cli.main import main",
        *(f"main([{verb!r}, '--help'])" for verb in program.VERBS),
        "main(['--help'])",
        f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1].split() == ["loaded:"], done.stderr


def test_the_programs_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "disco_trace", "--help"], capture_output=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 0.5


def test_the_bare_name_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    assert "Verbs:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import disco_trace

    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"disco-trace {disco_trace.__version__}\n"


@pytest.mark.parametrize("verb", program.LATER)
def test_later_verbs_are_not_listed_and_say_so(
    verb: str, capsys: pytest.CaptureFixture[Any]
) -> None:
    assert program.main([verb, "x"]) == 2
    assert "comes with a later version" in capsys.readouterr().err
    assert verb not in program.VERBS


def test_a_misspelt_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["replya"]) == 2
    assert "did you mean 'replay'?" in capsys.readouterr().err


def test_the_reference_page_is_current() -> None:
    from disco_trace.cli.reference import page

    written = Path(__file__).parents[2] / "docs" / "cli.md"
    assert written.read_text(encoding="utf-8") == page(), "run `make docs`"
