"""A figure with a slider, every position of it drawn beforehand: it moves on a page that has no kernel behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sciviz.lab import theme

MOST = 25


def with_slider(
    draw: Callable[[Any], theme.Figure],
    positions: Sequence[tuple[str, Any]],
    *,
    label: str,
    start: Any = None,
    most: int = MOST,
) -> theme.Figure:
    """Draw a figure at each position, and put a slider over them.

    Parameters
    ----------
    draw
        Value → figure; always the same number and kinds of traces.
    positions
        Text and value of each.
    label
        What the slider moves.
    start
        The value shown first; the first one if it is none of them.
    most
        How many positions are kept at most, evenly spread. Both ends and the start are among them.

    Raises
    ------
    ValueError
        If there are fewer than two positions, or figures differ in their traces.

    >>> def draw(width: int) -> theme.Figure:
    ...     return theme.add_data(theme.figure(title="One dot", alt=f"A dot at {width}."), [width], [1])
    >>> fig = with_slider(draw, [("16", 16), ("64", 64)], label="Width", start=64)
    >>> [frame.data[0].x.tolist() for frame in fig.frames], fig.layout.sliders[0].active
    ([[16], [64]], 1)
    """
    if len(positions) < 2:
        raise ValueError(f"positions must be at least two, got {len(positions)}.")
    values = [value for _, value in positions]
    first = values.index(start) if start in values else 0
    kept = sorted({first, *np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int).tolist()})
    drawn = {i: _parts(draw(values[i])) for i in kept}
    figure = draw(values[first])
    kinds = [trace["type"] for trace in drawn[first]["data"]]
    if any([trace["type"] for trace in parts["data"]] != kinds for parts in drawn.values()):
        raise ValueError("positions must all draw the same traces, so that one can move into the next.")
    moving = [
        number
        for number in range(len(kinds))
        if any(_differ(parts["data"][number], drawn[first]["data"][number]) for parts in drawn.values())
    ]
    names = {name for parts in drawn.values() for name in parts["layout"]} - {"template"}
    changing = {
        n for n in names if any(_differ(p["layout"].get(n), drawn[first]["layout"].get(n)) for p in drawn.values())
    }
    figure.frames = [
        {
            "name": str(i),
            "data": [drawn[i]["data"][number] for number in moving],
            "traces": moving,
            "layout": {name: drawn[i]["layout"][name] for name in changing if name in drawn[i]["layout"]},
        }
        for i in kept
    ]
    steps = [{"label": positions[i][0], "method": "animate", "args": [[str(i)], {"mode": "immediate"}]} for i in kept]
    figure.update_layout(
        sliders=[{"active": kept.index(first), "currentvalue": {"prefix": f"{label}: "}, "steps": steps}]
    )
    return figure


def _parts(figure: Any) -> dict[str, Any]:
    return {
        "data": [_slim(trace.to_plotly_json()) for trace in figure.data],
        "layout": figure.layout.to_plotly_json(),
    }


def _slim(value: Any) -> Any:
    """Halve what travels: a picture needs no more than seven digits."""
    if isinstance(value, dict):
        return {name: _slim(part) for name, part in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value.astype(np.float32)
    return value


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        return not np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() != other.keys() or any(_differ(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) != len(other) or any(map(_differ, one, other))
    return bool(one != other)
