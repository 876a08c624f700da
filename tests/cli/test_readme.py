"""The README's commands exist, and are the ones that .ci/run and the Makefile know."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from disco_trace.cli import main as program
from disco_trace.config import resolve

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")


def commands(start: str) -> list[list[str]]:
    """Return the console lines that begin with `start`, as words, without their comments."""
    lines = re.findall(r"^\$ (.*)$", README, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def test_the_two_commands_are_what_ci_runs() -> None:
    demo, test = (line for line in README.splitlines() if line.startswith("$ python3 -m venv"))
    assert demo.endswith("-e . && .venv/bin/disco-trace demo")
    assert test.endswith("-e '.[test]' && .venv/bin/pytest")
    # .ci/run takes the command out of the README by this pattern.
    pattern = r"s/^\$ \(.*\.venv\/bin\/pytest\)$/\1/p"
    assert pattern in (TOP / ".ci" / "run").read_text(encoding="utf-8")
    assert re.fullmatch(r"\$ .*\.venv/bin/pytest", test)
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    expected = {"help", "demo", "test", "test-slow", "bench", "lint", "guests"}
    assert expected <= set(targets)
    for target in re.findall(r"^([a-z-]+):", makefile, re.MULTILINE):
        assert target in targets, f"make {target} has no line of help"


@pytest.mark.parametrize("words", commands(".venv/bin/disco-trace"), ids=" ".join)
def test_every_command_line_names_verbs_and_options_that_exist(words: list[str]) -> None:
    _, verb, *rest = words
    command = program.load(verb)
    known = {name for parameter in command.params for name in parameter.opts}
    for word in rest:
        if word.startswith("-"):
            assert word in known, f"{verb} has no {word}"
    sets = [value for option, value in itertools.pairwise(rest) if option == "--set"]
    policies = [value for option, value in itertools.pairwise(rest) if option == "--policy"]
    resolve(machine="flash8", sets=sets, policy=policies[0] if policies else None)


def test_the_machine_of_the_readme_resolves(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "mine.toml"
    file.write_text(text)
    spec = resolve(machine=file)
    assert (spec.machine.cpus, spec.machine.nodes) == (4, 2)
    assert set(tomllib.loads(text)) == {"machine", "memory"}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (TOP / target).exists(), target


def test_make_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=TOP, capture_output=True, text=True, check=True)
    assert "test " in done.stdout
    assert sys.executable not in done.stdout


def test_ci_is_a_program() -> None:
    assert (TOP / ".ci" / "run").stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(TOP / ".ci" / "run")], check=True)
