"""Run the command line in this process and read what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from disco_trace.cli.main import main

Cli = Callable[..., dict[str, Any]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that runs a verb with --json and returns its object."""

    def run(verb: str, *words: object) -> dict[str, Any]:
        own, dashes, rest = list(map(str, words)), [], []
        if "--" in own:
            at = own.index("--")
            own, dashes, rest = own[:at], ["--"], own[at + 1 :]
        code = main([verb, *own, "--json", *dashes, *rest])
        answer = json.loads(capsys.readouterr().out)
        assert answer["exit_code"] == code
        assert answer["ok"] is (code == 0)
        return answer

    return run
