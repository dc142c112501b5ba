"""Every explorer of every wing, driven without a browser; and the driver itself, on panels that are broken."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pytest

from sciviz.lab import theme
from sciviz.lab.panel import Panel, Range
from tests.notebooks.explorers import drive, explorers, panels

EXPLORERS = explorers()


@pytest.mark.parametrize("name", EXPLORERS)
def test_explorer(name: str) -> None:
    found = list(panels(EXPLORERS[name]()))
    assert found, f"{name} returned no Panel"
    assert [problem for panel in found for problem in drive(panel)] == []


def _compute(
    width: Annotated[int, Range(2, 64, log=True)] = 8,
    gain: Annotated[float, Range(0.0, 2.0)] = 1.0,
    order: Annotated[int, Range(1, 5, play=True)] = 2,
    kind: Literal["line", "curve"] = "line",
    lifted: bool = False,
) -> Any:
    x = np.linspace(0, 1, width)
    return kind, x, gain * x ** (order if kind == "curve" else 1) + lifted


def _draw(state: Any) -> theme.Figure:
    kind, x, y = state
    return theme.add_measurement(theme.figure(title=f"A {kind}", alt=f"A {kind} up to {y[-1]:.2f}."), x, y, kind)


def _panel(compute: Any = _compute, draw: Any = _draw) -> Panel:
    return Panel(compute, draw, title="Toy")


def test_good_panel_and_its_coverage() -> None:
    seen = []

    def compute(
        width: Annotated[int, Range(2, 64, log=True)] = 8,
        gain: Annotated[float, Range(0.0, 2.0)] = 1.0,
        order: Annotated[int, Range(1, 5)] = 2,
        kind: Literal["line", "curve"] = "line",
        lifted: bool = False,
    ) -> Any:
        seen.append((width, gain, order, kind, lifted))
        return _compute(width, gain, order, kind, lifted)

    panel = _panel(compute)
    assert drive(panel) == []
    for place, ends in enumerate([{2, 8, 64}, {0.0, 1.0, 2.0}, {1, 2, 5}, {"line", "curve"}, {False, True}]):
        assert ends <= {values[place] for values in seen}
    assert len(set(seen)) > 35
    assert panel.values == {"width": 8, "gain": 1.0, "order": 2, "kind": "line", "lifted": False}


@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_callback_that_raises_is_caught(mode: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(mode)

    def compute(width: Annotated[int, Range(1, 8)] = 4) -> Any:
        if width == 8:
            raise ZeroDivisionError("eight is too wide")
        return "line", np.arange(width), np.arange(width)

    problems = drive(_panel(compute))
    assert problems and all("ZeroDivisionError: eight is too wide" in problem for problem in problems)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_what_cannot_be_drawn_is_caught(bad: Any, lenient: None) -> None:
    def draw(state: Any) -> theme.Figure:
        fig = theme.figure(title="Dots", alt="Dots.")
        return fig.add_scatter(x=[0, 1], y=[1.0, bad if state else 2.0], name="dots")

    def compute(broken: bool = False) -> bool:
        return broken

    problems = drive(_panel(compute, draw))
    assert problems and all("'dots'" in problem and "'broken': True" in problem for problem in problems)


def test_gap_and_hidden_trace_are_meant() -> None:
    def draw(state: Any) -> theme.Figure:
        fig = theme.add_bundle(
            theme.figure(title="Lines", alt="Two lines."), [0, 1, 2], [[0, 1, 2], [2, 1, 0]], "lines"
        )
        return fig.add_scatter(x=[0, 1], y=[np.nan, 1.0] if state else [0.0, 1.0], visible=not state)

    def compute(hidden: bool = False) -> bool:
        return hidden

    assert drive(_panel(compute, draw)) == []


def test_alt_text_lost_on_the_way_is_caught(lenient: None) -> None:
    def draw(state: Any) -> theme.Figure:
        fig = theme.add_data(theme.figure(title="Dots", alt="Dots."), [1], [1])
        if state:
            fig.layout.meta = None
        return fig

    def compute(broken: bool = False) -> bool:
        return broken

    assert drive(_panel(compute, draw)) != []


def test_empty_drawing_is_caught() -> None:
    def draw(state: Any) -> theme.Figure:
        fig = theme.figure(title="Dots", alt="Dots.")
        return fig if state else theme.add_data(fig, [1], [1])

    def compute(empty: bool = False) -> bool:
        return empty

    assert "draws nothing" in " ".join(drive(_panel(compute, draw)))
