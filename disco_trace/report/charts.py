"""Turn a chart's description and its rows into a Vega-Lite specification; colours stay the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from disco_trace.report.pages import Channel, Chart

Row = Mapping[str, Any]
Spec = dict[str, Any]

# A bar or a heat-map row in pixels; the text beside it is 12 px high.
_STEP: Final = 24
_ROW_STEP: Final = 18
_LINE_HEIGHT: Final = 260
# Of a heat map's values, those within this factor of the largest are told apart.
_HEAT_RANGE: Final = 300
# The order is the order of the stack. Middle tones: readable on white and on near-black. Work is
# cool, stalls grow warmer with distance, idle is grey.
_PALETTES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "components": {
        "user": "#3b7dd8",
        "kernel": "#22a39f",
        "work": "#3b7dd8",
        "refill": "#7a6fd0",
        "l1_stall": "#8fb4d9",
        "local": "#6fae4e",
        "remote": "#e8a33d",
        "dirty": "#d9583b",
        "upgrade": "#c9638f",
        "uncached": "#a07855",
        "monitor": "#b04fc4",
        "idle": "#9aa0a6",
    },
    "memory": {"text": "#3b7dd8", "data": "#22a39f", "cache": "#e8a33d", "monitor": "#b04fc4"},
    "services": {
        "kernel": "#22a39f",
        "TLB writes": "#b04fc4",
        "privileged": "#c9638f",
        "call + fault": "#e8a33d",
        "kernel TLB": "#3b7dd8",
    },
    "sources": {"local": "#6fae4e", "remote": "#e8a33d", "dirty": "#d9583b"},
    "actions": {
        "place": "#9aa0a6",
        "migrate": "#3b7dd8",
        "replicate": "#6fae4e",
        "collapse": "#e8a33d",
        "refuse": "#d9583b",
    },
}


def facets(chart: Chart, rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Split rows by the facet, in the order of first appearance; without one, a nameless part."""
    if chart.facet is None:
        return [("", list(rows))]
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        parts[str(row[chart.facet.field])].append(row)
    return list(parts.items())


def vega_spec(
    chart: Chart, rows: Sequence[Row], everything: Sequence[Row], *, legend: bool = True
) -> Spec:
    """Return the specification of one facet, with its rows inside.

    `everything` holds the rows of all facets: their scales are shared, so that they compare.
    """
    used = [c for c in (chart.x, chart.y, chart.color) if c is not None]
    values = [{c.field: row[c.field] for c in used} for row in rows]
    spec: Spec = {"data": {"values": values}, "width": "container"}
    match chart.kind:
        case "bar" | "stacked-bar":
            spec |= _bars(chart, everything)
        case "line" | "stacked-area":
            spec |= _lines(chart, everything)
        case "heat-map":
            spec |= _heat_map(chart, everything)
        case "table":
            raise ValueError("a table is not drawn")
    if not legend and "color" in spec["encoding"]:
        spec["encoding"]["color"]["legend"] = None
    spec["encoding"]["tooltip"] = [
        {"field": c.field, "title": c.title or c.field, "type": _type_of(c, everything)}
        | ({"format": c.format or _tooltip_format(c, everything)} if _numeric(c, rows) else {})
        for c in used
    ]
    return spec


def _bars(chart: Chart, rows: Sequence[Row]) -> Spec:
    assert chart.x is not None
    assert chart.y is not None
    x: Spec = {"field": chart.x.field, "type": "quantitative", "axis": _axis(chart.x)}
    x["scale"] = {"domainMin": 0, "domainMax": _longest(chart, rows), "nice": False}
    encoding: Spec = {
        "x": x,
        "y": {
            "field": chart.y.field,
            "type": "nominal",
            "sort": None,
            "axis": {"title": chart.y.title or None, "labelLimit": 250, "ticks": False},
        },
    }
    if chart.color is not None:
        encoding["color"] = _color(chart, rows)
        encoding["order"] = {"field": "_order", "type": "quantitative"}
    spec: Spec = {
        "mark": {"type": "bar"},
        "encoding": encoding,
        "height": {"step": _STEP},
    }
    if chart.color is not None:
        # Stacked in the order of the legend, not of the alphabet.
        domain = encoding["color"]["scale"]["domain"]
        spec["transform"] = [
            {"calculate": f"indexof({domain!r}, datum['{chart.color.field}'])", "as": "_order"}
        ]
    return spec


def _lines(chart: Chart, rows: Sequence[Row]) -> Spec:
    assert chart.x is not None
    assert chart.y is not None
    stacked = chart.kind == "stacked-area"
    y: Spec = {
        "field": chart.y.field,
        "type": "quantitative",
        "axis": _axis(chart.y),
        "stack": "zero" if stacked else None,
    }
    if chart.y.format.endswith("%"):
        y["scale"] = {"domain": [0, 1]}
    elif chart.facet is not None and not stacked:
        y["scale"] = {"domain": [0, max(float(row[chart.y.field] or 0) for row in rows) or 1]}
    lone = len({row[chart.x.field] for row in rows}) < 3
    mark: Spec = (
        {"type": "area", "interpolate": "step-after", "line": False}
        if stacked
        else {"type": "line", "strokeWidth": 2, "point": lone}
    )
    encoding: Spec = {
        "x": {
            "field": chart.x.field,
            "type": "quantitative",
            "axis": _axis(chart.x),
            "scale": {"nice": False},
        },
        "y": y,
        "color": _color(chart, rows),
    }
    if not stacked:
        encoding["color"]["legend"]["symbolType"] = "stroke"
    spec: Spec = {"mark": mark, "encoding": encoding, "height": _LINE_HEIGHT}
    if stacked and chart.color is not None:
        domain = encoding["color"]["scale"]["domain"]
        spec["transform"] = [
            {"calculate": f"indexof({domain!r}, datum['{chart.color.field}'])", "as": "_order"}
        ]
        encoding["order"] = {"field": "_order", "type": "quantitative"}
    return spec


def _heat_map(chart: Chart, rows: Sequence[Row]) -> Spec:
    assert chart.x is not None
    assert chart.y is not None
    assert chart.color is not None
    largest = max((row[chart.color.field] or 0 for row in rows), default=0)
    return {
        "mark": {"type": "rect"},
        "encoding": {
            "x": {
                "field": chart.x.field,
                "type": "ordinal",
                "sort": None if not _numeric(chart.x, rows) else "ascending",
                "axis": {"title": chart.x.title or None, "labelAngle": 0, "ticks": False},
            },
            "y": {
                "field": chart.y.field,
                "type": "nominal",
                "sort": None,
                "axis": {"title": chart.y.title or None, "labelLimit": 190, "ticks": False},
            },
            "color": {
                "field": chart.color.field,
                "type": "quantitative",
                # A few pages may take a hundred times the misses of the next: a logarithm keeps
                # those apart; linear near zero, so that a few misses look like few.
                "scale": {
                    "type": "symlog",
                    "constant": max(largest / _HEAT_RANGE, 1),
                    "domain": [0, largest or 1],
                },
                "legend": {
                    "title": chart.color.title or chart.color.field,
                    "labelExpr": f"format(datum.value, '{chart.color.format or '~s'}')",
                    "orient": "bottom",
                    "direction": "horizontal",
                    "gradientLength": 180,
                    "tickCount": 3,
                },
            },
        },
        "height": {"step": _ROW_STEP},
    }


def _color(chart: Chart, rows: Sequence[Row]) -> Spec:
    assert chart.color is not None
    present = list(dict.fromkeys(str(row[chart.color.field]) for row in rows))
    fixed = _PALETTES[chart.palette]
    domain = [name for name in fixed if name in present]
    domain += [name for name in present if name not in fixed]
    scale: Spec = {"domain": domain}
    if domain and all(name in fixed for name in domain):
        scale["range"] = [fixed[name] for name in domain]
    return {
        "field": chart.color.field,
        "type": "nominal",
        "scale": scale,
        "legend": {
            "title": None,
            "orient": "bottom",
            "direction": "horizontal",
            "columns": 4 if max(map(len, domain), default=0) < 14 else 3,
            "labelLimit": 180,
        },
    }


def _axis(channel: Channel) -> Spec:
    # Each label by itself: an axis format of Vega would write 0 as 0M beside 20M.
    label = f"format(datum.value, '{channel.format or '~s'}')"
    return {"title": channel.title or None, "labelExpr": label, "tickCount": 6}


def _longest(chart: Chart, rows: Sequence[Row]) -> float:
    """Return the length of the longest bar of any facet; a part of one goes up to one."""
    assert chart.x is not None
    assert chart.y is not None
    if chart.x.format.endswith("%"):
        return 1
    lengths: dict[tuple[Any, Any], float] = defaultdict(float)
    for row in rows:
        facet = row[chart.facet.field] if chart.facet is not None else ""
        lengths[facet, row[chart.y.field]] += float(row[chart.x.field] or 0)
    return max(lengths.values(), default=0) or 1


def _numeric(channel: Channel, rows: Sequence[Row]) -> bool:
    return all(isinstance(row[channel.field], int | float | None) for row in rows)


def _type_of(channel: Channel, rows: Sequence[Row]) -> str:
    return "quantitative" if _numeric(channel, rows) else "nominal"


def _tooltip_format(channel: Channel, rows: Sequence[Row]) -> str:
    whole = all(isinstance(row[channel.field], int | None) for row in rows)
    return "," if whole else ",.4~r"
