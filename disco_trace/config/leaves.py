"""List the values of a specification by path: the one table for checks, `--set` and `show`."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from disco_trace.config.text import MOST_TEXT, parse_number, parse_size
from disco_trace.errors import DiscoError


@dataclass(frozen=True)
class Leaf:
    """Describe one value: type, range, choices, default, meaning.

    The type is `int`, `float`, `bool`, `str`, or `tuple` for a list of texts of at most `high`.
    """

    path: str
    type: type
    doc: str
    default: Any
    low: float | None = None
    high: float | None = None
    multiple_of: int | None = None
    power_of_two: bool = False
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """Say in words what this value may be."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type is str:
            return f"a text of {self.low} to {self.high} characters"
        if self.type is bool:
            return "true or false"
        if self.type is tuple:
            return f"a list of at most {self.high} texts (in a word: with commas between)"
        kind = "a number" if self.type is float else "a whole number"
        if self.path.endswith("_bytes"):
            kind = "a size"
        if self.power_of_two:
            kind = "a power of two"
        text = f"{kind} from {self.low:g} to {self.high:g}" if self.low is not None else kind
        if self.path.endswith("_bytes") and self.low is not None and self.high is not None:
            text = f"{kind} from {size_text(int(self.low))} to {size_text(int(self.high))}"
        elif self.type is int and self.low is not None and self.high is not None:
            text = f"{kind} from {int(self.low)} to {int(self.high)}"
        if self.multiple_of:
            text += f", a multiple of {size_text(self.multiple_of)}"
        return text

    def parse(self, value: Any) -> Any:
        """Return `value` as this leaf's type, from TOML, JSON or a word of `--set`.

        Raises DiscoError for anything outside the type or the range.
        """
        try:
            parsed = self._convert(value)
        except ValueError:
            parsed = None
        if parsed is None or not self._fits(parsed):
            raise DiscoError(
                f"bad value for {self.path}", expected=self.expected, found=repr(value)[:80]
            )
        return parsed

    def _convert(self, value: Any) -> Any:
        if self.type is str:
            return value if isinstance(value, str) else None
        if self.type is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}.get(value)
        if self.type is tuple:
            if isinstance(value, str):
                value = value.split(",") if value else ()
            texts = isinstance(value, list | tuple) and all(
                isinstance(v, str) and 0 < len(v) <= MOST_TEXT for v in value
            )
            return tuple(value) if texts else None
        if isinstance(value, bool):
            return None
        if isinstance(value, str):
            read = parse_size if self.path.endswith("_bytes") else parse_number
            value = read(value)
        if self.type is float and isinstance(value, int | float):
            return float(value)
        if self.type is int and isinstance(value, int):
            return value
        return None

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        measure = len(value) if self.type in (str, tuple) else value
        if isinstance(measure, float) and not math.isfinite(measure):
            return False
        if self.low is not None and measure < self.low:
            return False
        if self.high is not None and measure > self.high:
            return False
        if self.multiple_of and value % self.multiple_of:
            return False
        return not (self.power_of_two and value & (value - 1))


@functools.cache
def leaves() -> Mapping[str, Leaf]:
    """Return every value of a `Spec` by its dotted path, in the order of the definition."""
    from disco_trace.config.spec import Spec

    found: dict[str, Leaf] = {}
    _walk(inspect.type_info(Spec), "", msgspec.to_builtins(_undressed(Spec)), found)
    return found


def _undressed(spec_type: Any) -> dict[str, Any]:
    """Return the defaults of a Spec without constructing one (that would check, and need us)."""
    return dict(zip(spec_type.__struct_fields__, spec_type.__struct_defaults__, strict=True))


def _walk(info: Any, path: str, default: Any, found: dict[str, Leaf]) -> None:
    doc = ""
    extra: dict[str, Any] = {}
    while isinstance(info, inspect.Metadata):
        doc = (info.extra_json_schema or {}).get("description", doc)
        extra = {**extra, **(info.extra or {})}
        info = info.type
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            below = f"{path}.{field.name}" if path else field.name
            _walk(field.type, below, default[field.name], found)
        return
    limits: dict[str, Any] = {}
    if isinstance(info, inspect.IntType | inspect.FloatType):
        limits = {"low": info.ge, "high": info.le, "multiple_of": info.multiple_of}
        kind: type = int if isinstance(info, inspect.IntType) else float
    elif isinstance(info, inspect.BoolType):
        kind = bool
    elif isinstance(info, inspect.LiteralType):
        # Inspection sorts the choices; the order of the definition reads better.
        kind, limits = str, {"choices": tuple(str(choice) for choice in info.values)}
    elif isinstance(info, inspect.StrType):
        kind, limits = str, {"low": info.min_length, "high": info.max_length}
    elif isinstance(info, inspect.VarTupleType):
        kind, limits, default = tuple, {"high": info.max_length}, tuple(default)
    else:  # pragma: no cover - a new kind of field in spec.py
        raise TypeError(f"{path}: no rule for {info!r}")
    found[path] = Leaf(path, kind, doc, default, power_of_two=bool(extra), **limits)


def leaf(path: str) -> Leaf:
    """Return the leaf at `path`; DiscoError with the nearest path where there is none."""
    known = leaves()
    if path in known:
        return known[path]
    below = [name for name in known if name.startswith(path + ".")]
    if below:
        raise DiscoError(
            f"{path!r} is a group of values, not one",
            expected="the path of one value",
            hint=f"it has {', '.join(below)}",
        )
    raise DiscoError(f"no value is called {path!r}", hint=_nearest(path, list(known)))


def _nearest(path: str, known: list[str]) -> str:
    group, _, last = path.rpartition(".")
    fellows = [name for name in known if name.rpartition(".")[0] == group]
    if group and fellows:
        return _fellow(last, fellows)
    near = [name for name in known if name.rsplit(".", 1)[-1] == path][:1]
    near = near or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if not near:
        # `cpus` alone, or under the wrong root: compare the last names.
        last = path.rsplit(".", 1)[-1]
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        near = [tails[t] for t in difflib.get_close_matches(last, list(tails), n=1, cutoff=0.6)]
    if near:
        return f"did you mean {near[0]}?"
    roots = sorted({name.split(".")[0] for name in known})
    return f"paths begin with {', '.join(roots)}; `config show` lists all"


def _fellow(last: str, fellows: list[str]) -> str:
    """Return a hint for a wrong last name in a group that there is."""
    ends = {name.rpartition(".")[2]: name for name in fellows}
    near = difflib.get_close_matches(last, list(ends), n=1, cutoff=0.5)
    if not near:
        # An abbreviation: its letters, in order.
        shape = re.compile(".*".join(map(re.escape, last)))
        near = [end for end in ends if last and end[0] == last[0] and shape.match(end)][:1]
    if near:
        return f"did you mean {ends[near[0]]}?"
    return f"there are {', '.join(fellows)}"


def size_text(count: int) -> str:
    """Return bytes in the largest unit that divides them: 256KiB."""
    for unit, suffix in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count and count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)
