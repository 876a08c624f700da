"""What each virtual machine runs: the file of --vms and the words of vm.guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from disco_trace.config import from_dict, resolve, to_dict
from disco_trace.config.machines import (
    VirtualMachine,
    parse_machine,
    read_machines,
    virtual_machines,
)
from disco_trace.errors import DiscoError

MIXED = """
[[vm]]
vcpus = 2

[[vm]]
guest = "database"
args = ["rows=1K", "name=two words"]
count = 2
"""


def texts(tmp_path: Path, text: str, cpus: int = 8, args: tuple[str, ...] = ()) -> tuple[str, ...]:
    file = tmp_path / "vms.toml"
    file.write_text(text)
    return read_machines(file, "radix", args, cpus)


def test_a_file_of_unlike_machines(tmp_path: Path) -> None:
    found = texts(tmp_path, MIXED, args=("keys=2K",))
    database = VirtualMachine(2, "database", ("rows=1K", "name=two words"))  # 8 CPUs over three
    expected = [VirtualMachine(2, "radix", ("keys=2K",)), database, database]
    assert [parse_machine(text) for text in found] == expected
    spec = resolve(machine="flash8", monitor="disco", vms=found)
    assert spec.vm.count == 3
    assert virtual_machines(spec) == expected
    assert from_dict(to_dict(spec)) == spec


def test_machines_that_are_alike() -> None:
    spec = resolve(machine="flash8", monitor="disco", vms=3)
    assert virtual_machines(spec) == [VirtualMachine(2)] * 3
    spec = resolve(machine="flash8", monitor="disco", vms=3, sets=["vm.vcpus=5"])
    assert virtual_machines(spec) == [VirtualMachine(5)] * 3
    assert virtual_machines(resolve(machine="flash8")) == []
    # More machines than CPUs: one virtual CPU each.
    assert virtual_machines(resolve(monitor="disco", vms=4)) == [VirtualMachine(1)] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no [[vm]]"),
        (f'[[vm]]\nargs = ["{"x" * 5000}"]\n', "at most 4096 characters"),
        ("[vm]\ncount = 1\n", "not a file of virtual machines"),
        ("vm = 3\n", "not a file of virtual machines"),
        ("vm = [3]\n", "not a list of tables"),
        ("[machine]\ncpus = 3\n[[vm]]\n", "not a file of virtual machines"),
        ("[[vm]]\nvcpu = 3\n", "'vcpu'"),
        ("[[vm]]\nvcpus = 0\n", "1 to 64"),
        ("[[vm]]\nvcpus = true\n", "1 to 64"),
        ("[[vm]]\ncount = 65\n", "1 to 64"),
        ("[[vm]]\ncount = 64\n[[vm]]\n", "at most 64"),
        ("[[vm]]\nguest = 3\n", "vm.guest"),
        ("[[vm]]\nguest = ''\n", "vm.guest"),
        ("[[vm]]\nargs = 'a'\n", "vm.args"),
        ("[[vm]]\nguest = 'database'\n", "no machine runs radix"),
        ("[[vm\n", "not a TOML file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DiscoError) as raised:
        texts(tmp_path, text)
    error = raised.value
    assert words in f"{error} {error.expected} {error.found}"
    assert error.file == str(tmp_path / "vms.toml")


@pytest.mark.parametrize(
    "text",
    ["radix", ":2", "radix:", "radix:0", "radix:65", "radix:x", "'", " ", "r:1 " + 5000 * "x"],
)
def test_bad_words_are_refused(text: str) -> None:
    with pytest.raises(DiscoError, match=r"vm\.guests"):
        resolve(monitor="disco", vms=[text])


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({"vm.guests": ("radix:1",), "monitor.kind": "none"}, "vm.guests needs a monitor"),
        ({"vm.guests": ("radix:1",), "vm.count": 2}, "every virtual machine needs a guest"),
        ({"vm.guests": ("radix:1",), "vm.vcpus": 2}, "vm.guests says how many"),
    ],
)
def test_what_must_fit_together(sets: dict[str, object], words: str) -> None:
    with pytest.raises(DiscoError, match=words):
        resolve(sets={"monitor.kind": "disco", **sets})
