"""Put a specification together: defaults, machine, file, cost table, options, `--set`.

Later layers win, in that order; `Resolved.origins` says for each value which layer it came from.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from disco_trace.config.checks import check_software_tlb
from disco_trace.config.identity import flat_dict, flatten, from_flat
from disco_trace.config.leaves import leaf, leaves
from disco_trace.config.spec import Spec
from disco_trace.errors import DiscoError

# No configuration of ours is near this; a larger file is something else.
MOST_TOML_BYTES: Final = 1 << 20

# What `--set` gives (words `PATH=VALUE`), or values by path.
Sets = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """Hold a specification and, by path, the layer that each value came from."""

    spec: Spec
    origins: dict[str, str]


def resolve(
    *,
    machine: str | Path | None = None,
    base: Spec | None = None,
    file: str | Path | None = None,
    sets: Sets = (),
    policy: str | None = None,
    costs: str | Path | None = None,
    monitor: str | None = None,
    vms: int | Sequence[str] | None = None,
) -> Spec:
    """Return the specification of the given layers; DiscoError names what is wrong in which."""
    return resolve_with_origins(
        machine=machine,
        base=base,
        file=file,
        sets=sets,
        policy=policy,
        costs=costs,
        monitor=monitor,
        vms=vms,
    ).spec


def resolve_with_origins(
    *,
    machine: str | Path | None = None,
    base: Spec | None = None,
    file: str | Path | None = None,
    sets: Sets = (),
    policy: str | None = None,
    costs: str | Path | None = None,
    monitor: str | None = None,
    vms: int | Sequence[str] | None = None,
) -> Resolved:
    """Return the specification with its origins.

    machine: a preset's name or a TOML file. base: start from this (a capture's own) instead of
    the defaults. file: a TOML file on top. sets: words `PATH=VALUE` or values by path. vms: how
    many virtual machines, or what each runs (see `config.machines`). The rest: their options.
    """
    values: dict[str, Any] = {path: known.default for path, known in leaves().items()}
    origins = dict.fromkeys(values, "default")

    def layer(flat: dict[str, Any], origin: str) -> None:
        for path, value in flat.items():
            values[path] = leaf(path).parse(value)
            origins[path] = origin

    if base is not None:
        layer(flat_dict(base), "captured")
    for name, path in (("machine", machine), ("file", file)):
        if path is not None:
            found = machine_file(path) if name == "machine" else Path(path)
            layer_file(found, layer)
    options: dict[str, tuple[Any, str]] = {
        "placement.policy": (policy, "--policy"),
        "costs.table": (None if costs is None else str(costs), "--costs"),
        "monitor.kind": (monitor, "--monitor"),
        "vm.count": (vms if vms is None or isinstance(vms, int) else len(vms), "--vms"),
        "vm.guests": (None if isinstance(vms, int) else vms, "--vms"),
    }
    for path, (value, option) in options.items():
        if value is not None:
            layer({path: value}, option)
    chosen = parse_sets(sets)
    layer({k: v for k, v in chosen.items() if k == "costs.table"}, "--set")
    # A capture's own prices stand in its specification: they are read again only for a new table.
    if base is None or origins["costs.table"] != "captured":
        table = costs_file(values["costs.table"])
        written = {k: v for k, v in values.items() if origins[k] not in ("default", "captured")}
        clock = chosen.get("machine.clock_mhz", values["machine.clock_mhz"])
        prices = cost_table(table, clock)
        layer({k: v for k, v in prices.items() if k not in written}, table.name)
        values["costs.table"] = table.stem
    layer({k: v for k, v in chosen.items() if k != "costs.table"}, "--set")
    if values["monitor.kind"] != "none" and origins["placement.policy"] == "default":
        # Disco gives a guest's page its machine page when it is first touched.
        layer({"placement.policy": "first-touch"}, "monitor")
    return Resolved(from_flat(values), origins)


def parse_sets(sets: Sets) -> dict[str, Any]:
    """Return values by path, checked; DiscoError for a malformed word, path or value."""
    if isinstance(sets, Mapping):
        return {path: leaf(path).parse(value) for path, value in sets.items()}
    if isinstance(sets, str):  # one word, where a sequence of words was meant
        sets = [sets]
    chosen: dict[str, Any] = {}
    for word in sets:
        path, equals, value = word.partition("=")
        if not equals or not path.strip():
            raise DiscoError(
                "malformed --set", expected="PATH=VALUE, as machine.cpus=4", found=repr(word)
            )
        known = leaf(path.strip())
        chosen[known.path] = known.parse(value.strip())
    return chosen


def layer_file(file: Path, layer: Any) -> None:
    """Read a TOML file into a layer; what is wrong in it names the file."""
    try:
        layer(flatten(read_toml(file)), file.name)
    except DiscoError as error:
        error.file = error.file or str(file)
        raise


def cost_table(file: Path, clock_mhz: int) -> dict[str, Any]:
    """Return a cost table by path: prices that it leaves out are zero, structure is as captured.

    `[prices]` are microseconds; `[instructions]` are counts by cause, of one cycle each on a CPU
    of `clock_mhz`: a faster clock makes them cheaper, as it does everything else that runs.
    """
    table = read_toml(file)
    table.pop("description", None)
    counts = table.pop("instructions", {})
    try:
        flat = flatten({"costs": table})
        flat |= _counted(counts, flat, clock_mhz)
        for path, value in flat.items():
            parsed = leaf(path).parse(value)
            if path == "costs.structure.software_tlb":
                check_software_tlb(parsed)
    except DiscoError as error:
        error.file = error.file or str(file)
        raise
    if "costs.table" in flat:
        raise DiscoError("a cost table has no name of its own", file=file, found="table")
    known = leaves().items()
    absent = {path: 0.0 for path, _ in known if path.startswith("costs.prices.")}
    absent |= {path: leaf.default for path, leaf in known if path.startswith("costs.structure.")}
    return {**absent, **flat}


def _counted(counts: Any, priced: Mapping[str, Any], clock_mhz: int) -> dict[str, float]:
    """Return the prices by path of counts of instructions by cause."""
    if not isinstance(counts, Mapping):
        raise DiscoError("instructions is not a table", expected="[instructions], by cause")
    prices: dict[str, float] = {}
    for cause, count in counts.items():
        path = leaf(f"costs.prices.{cause}_us").path
        if path in priced:
            raise DiscoError(
                "priced twice", expected=f"{cause} in [prices] or [instructions]", found="both"
            )
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 10**9:
            raise DiscoError(
                f"bad value for instructions.{cause}",
                expected="a whole number from 0 to 1000000000",
                found=repr(count)[:80],
            )
        prices[path] = count / clock_mhz
    return prices


def machine_names() -> list[str]:
    """Return the names of the machines that come with the package."""
    return _names("machines")


def costs_names() -> list[str]:
    """Return the names of the cost tables that come with the package."""
    return _names("costs")


def machine_file(name: str | Path) -> Path:
    """Return the TOML file of a machine: a preset's name, or a path with `/` or `.toml`."""
    return _named_file(name, "machines", "machine")


def costs_file(name: str | Path) -> Path:
    """Return the TOML file of a cost table: its name, or a path with `/` or `.toml`."""
    return _named_file(name, "costs", "cost table")


def _names(folder: str) -> list[str]:
    from disco_trace.paths import data_folder

    return sorted(path.stem for path in (data_folder("capture") / folder).glob("*.toml"))


def _named_file(name: str | Path, folder: str, what: str) -> Path:
    text = str(name)
    if "/" in text or text.endswith(".toml"):
        return Path(text)
    names = _names(folder)
    if text not in names:
        near = difflib.get_close_matches(text, names, n=1)
        raise DiscoError(
            f"no {what} is called {text!r}",
            expected=f"{', '.join(names)}, or a TOML file",
            hint=f"did you mean {near[0]}?" if near else None,
        )
    from disco_trace.paths import data_folder

    return data_folder("capture") / folder / f"{text}.toml"


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; DiscoError names the file and what is wrong in it."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_TOML_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise DiscoError(reason, file=file, expected="a TOML file") from None
    if len(data) > MOST_TOML_BYTES:
        raise DiscoError("too long for a configuration", file=file, expected="at most 1 MiB")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # also: numbers of too many digits
        found = " ".join(str(error).split())[:120] or "tables nested too deeply"
        raise DiscoError("not a TOML file", file=file, expected="TOML", found=found) from None
