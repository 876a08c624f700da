"""Read what each virtual machine runs: from a TOML file, and from the specification's words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from disco_trace.config.text import MOST_TEXT
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.config.spec import Spec

MOST_MACHINES: Final = 64
MOST_VCPUS: Final = 64
_KEYS: Final = ("guest", "args", "vcpus", "count")


@dataclass(frozen=True)
class VirtualMachine:
    """Say what one machine runs; no `guest`: the capture's. No `args`: the guest's own."""

    vcpus: int
    guest: str | None = None
    args: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Return the machine as it stands in `vm.guests`: `GUEST:VCPUS ARG…`."""
        return shlex.join([f"{self.guest}:{self.vcpus}", *self.args])


def virtual_machines(spec: Spec) -> list[VirtualMachine]:
    """Return every virtual machine of a specification; none without a monitor.

    Without `vm.guests` all run the capture's guest and share the CPUs evenly, at least one each.
    """
    if spec.monitor.kind == "none":
        return []
    if spec.vm.guests:
        return [parse_machine(text) for text in spec.vm.guests]
    each = int(spec.vm.vcpus or max(1, spec.machine.cpus // spec.vm.count))
    return [VirtualMachine(each)] * int(spec.vm.count)


def machines_of(spec: Spec) -> int:
    """Return how many machines share the memory: virtual ones, or the bare one."""
    return len(virtual_machines(spec)) or 1


def shares(spec: Spec) -> bool:
    """Tell whether machines share pages copy on write."""
    return spec.monitor.kind != "none" and spec.vm.share


def joined(spec: Spec) -> bool:
    """Tell whether several machines are on one network."""
    return spec.vm.subnet and len(virtual_machines(spec)) > 1


def pooled(spec: Spec) -> bool:
    """Tell whether machines take turns on fewer frames than they have pages."""
    return spec.monitor.kind != "none" and spec.vm.pool_bytes > 0


def parse_machine(text: str) -> VirtualMachine:
    """Return the machine of one text of `vm.guests`; DiscoError if it is not one."""
    try:
        first, *args = shlex.split(text)
    except ValueError:  # quotes that do not end, or no word at all
        first, args = "", []
    guest, _, vcpus = first.rpartition(":")
    if not guest or not (vcpus.isascii() and vcpus.isdigit() and 1 <= int(vcpus) <= MOST_VCPUS):
        raise DiscoError(
            "bad value for vm.guests",
            expected=f"GUEST:VCPUS ARG…, with 1 to {MOST_VCPUS} virtual CPUs, as 'radix:2 keys=2K'",
            found=repr(text)[:80],
        )
    return VirtualMachine(int(vcpus), guest, tuple(args))


def read_machines(file: Path, guest: str, args: Sequence[str], cpus: int) -> tuple[str, ...]:
    """Return what the machines of a TOML file run, as texts of `vm.guests`.

    A `[[vm]]` has `guest` (default: the capture's, with its arguments), `args`, `vcpus` (default:
    the CPUs shared out evenly, at least one) and `count`, that many alike. Raises DiscoError,
    naming the file, for anything else, and if no machine runs `guest`.
    """
    from disco_trace.config.resolve import read_toml

    found = read_toml(file)
    tables = found.pop("vm", None)
    if found or not isinstance(tables, list) or not tables:
        raise DiscoError(
            "not a file of virtual machines",
            file=file,
            expected="one [[vm]] for each, with guest, args, vcpus or count",
            found=", ".join(found) or "no [[vm]]",
        )
    try:
        machines = [machine for table in tables for machine in _machines(table, guest, args)]
    except DiscoError as error:
        error.file = error.file or str(file)
        raise
    if len(machines) > MOST_MACHINES:
        raise DiscoError(
            "too many virtual machines",
            file=file,
            expected=f"at most {MOST_MACHINES}",
            found=str(len(machines)),
        )
    if all(machine.guest != guest for machine in machines):
        raise DiscoError(
            f"no machine runs {guest}, after which the trace is named",
            file=file,
            expected="a [[vm]] without guest, or with this one",
            found=", ".join(dict.fromkeys(str(machine.guest) for machine in machines)),
        )
    share = max(1, cpus // len(machines))
    texts = tuple(
        VirtualMachine(machine.vcpus or share, machine.guest, machine.args).words
        for machine in machines
    )
    if (longest := max(map(len, texts))) > MOST_TEXT:
        raise DiscoError(
            "too many words for a guest",
            file=file,
            expected=f"at most {MOST_TEXT} characters",
            found=str(longest),
        )
    return texts


def _machines(table: Any, guest: str, args: Sequence[str]) -> list[VirtualMachine]:
    """Return the machines of one `[[vm]]`; 0 virtual CPUs: the default."""
    if not isinstance(table, dict):
        raise DiscoError("vm is not a list of tables", expected="[[vm]]", found=repr(table)[:80])
    for key in table:
        if key not in _KEYS:
            raise DiscoError(f"no value of [[vm]] is called {key!r}", expected=", ".join(_KEYS))
    name = table.get("guest", guest)
    if not isinstance(name, str) or not name:
        raise DiscoError("bad value for vm.guest", expected="a name", found=repr(name)[:80])
    words = table.get("args", list(args) if name == guest else [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DiscoError(
            "bad value for vm.args", expected="a list of texts", found=repr(words)[:80]
        )
    vcpus = _whole(table, "vcpus", MOST_VCPUS) if "vcpus" in table else 0
    count = _whole(table, "count", MOST_MACHINES) if "count" in table else 1
    return [VirtualMachine(vcpus, name, tuple(words))] * count


def _whole(table: dict[str, Any], key: str, most: int) -> int:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise DiscoError(
            f"bad value for vm.{key}",
            expected=f"a whole number from 1 to {most}",
            found=repr(value)[:80],
        )
    return value


def deprivileged(spec: Spec) -> bool:
    """Tell whether guest kernels run in the supervisor segment, the monitor's own way."""
    return spec.monitor.kind != "none" and spec.machine.kseg0 == "direct"
