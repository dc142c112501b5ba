"""The base of every explorer: its controls, its updates, and what happens when a callback raises."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import ipywidgets as widgets
import numpy as np
import pytest
from plotly.basedatatypes import Undefined

from sciviz.lab import theme
from sciviz.lab.panel import Choices, Panel, Range, sweep


def draw(values: Any) -> theme.Figure:
    return theme.add_data(theme.figure(title="Dots", alt=f"Dots up to {max(values)}."), [*range(len(values))], values)


def panel(compute: Any, **more: Any) -> Panel:
    return Panel(compute, more.pop("draw", draw), title=more.pop("title", "Toy"), **more)


def one(width: Annotated[int, Range(1, 100)] = 4) -> list[int]:
    return [width]


# Controls come from types


def test_controls_come_from_types() -> None:
    def compute(
        width: Annotated[int, Range(16, 256, log=True, label="Width", unit="units")] = 64,
        rate: Annotated[float, Range(0.01, 1.0, log=True)] = 0.1,
        depth: Annotated[int, Range(1, 6)] = 2,
        beta: Annotated[float, Range(0.0, 1.0, step=0.25, unit="1/s")] = 0.5,
        activation: Annotated[Literal["relu", "erf"], Choices("Activation", {"relu": "ReLU"})] = "erf",
        lifted: Annotated[bool, Choices("Lift it")] = False,
        big_one: bool = True,
    ) -> list[float]:
        return [width, rate, depth, beta, lifted, big_one]

    controls = panel(compute).controls
    assert isinstance(controls["width"], widgets.SelectionSlider) and isinstance(
        controls["rate"], widgets.SelectionSlider
    )
    assert [value for _, value in controls["width"]._options_full] == [16, 32, 64, 128, 256]
    assert controls["width"].label == "64 units" and controls["width"].description == "Width"
    rates = [value for _, value in controls["rate"]._options_full]
    assert (rates[0], rates[-1]) == (0.01, 1.0) and np.allclose(np.diff(np.log(rates)), np.log(rates[1] / rates[0]))
    assert isinstance(controls["depth"], widgets.IntSlider)
    assert (controls["depth"].min, controls["depth"].max, controls["depth"].step, controls["depth"].value) == (
        1,
        6,
        1,
        2,
    )
    assert (controls["beta"].step, controls["beta"].description) == (0.25, "Beta (1/s)")
    assert isinstance(controls["activation"], widgets.Dropdown)
    assert controls["activation"]._options_full == (("ReLU", "relu"), ("erf", "erf"))
    assert controls["activation"].value == "erf"
    assert isinstance(controls["lifted"], widgets.Checkbox) and controls["lifted"].description == "Lift it"
    assert controls["big_one"].description == "Big one" and controls["big_one"].value is True


def test_both_ends_of_a_log_range_can_be_chosen() -> None:
    def compute(width: Annotated[int, Range(10, 1000, log=True)] = 10) -> list[int]:
        return [width]

    values = [value for _, value in panel(compute).controls["width"]._options_full]
    assert (values[0], values[-1]) == (10, 1000)


def test_a_control_of_ones_own() -> None:
    own = widgets.IntText(value=3)

    def compute(points: Any = 3, width: Annotated[int, Range(1, 9)] = 2) -> list[int]:
        return [points, width]

    made = panel(compute, controls={"points": own})
    assert made.controls["points"] is own
    own.value = 7
    assert made.figure.data[0].y.tolist() == [7, 2]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [(int, "Parameter a must be Literal"), (str, "Parameter a must be Literal"), (None, "Parameter a must be Literal")],
)
def test_type_without_a_control(annotation: Any, words: str) -> None:
    def compute(a=1):
        return [a]

    compute.__annotations__ = {} if annotation is None else {"a": annotation}
    with pytest.raises(TypeError, match=words):
        panel(compute)


def test_parameter_without_a_default() -> None:
    def compute(a: bool) -> list[int]:
        return [a]

    with pytest.raises(TypeError, match="Parameter a needs a default"):
        panel(compute)


# Updates


def test_set_draws_once_and_at_the_end() -> None:
    seen = []

    def compute(a: Annotated[int, Range(0, 9)] = 0, b: Annotated[int, Range(0, 9)] = 0) -> list[int]:
        seen.append((a, b))
        return [a, b]

    made = panel(compute)
    made.set(a=3, b=5)
    assert seen == [(0, 0), (3, 5)]
    assert made.figure.data[0].y.tolist() == [3, 5]
    made.set(a=3, b=5)
    assert len(seen) == 2 and made.updates == 1


def test_set_refuses_what_a_control_does_not_take() -> None:
    made = panel(one)
    with pytest.raises(ValueError, match="this panel has no such control"):
        made.set(depth=3)

    def compute(kind: Literal["a", "b"] = "a") -> list[int]:
        return [1]

    with pytest.raises(ValueError, match="kind does not take 'c'"):
        panel(compute).set(kind="c")
    made.controls["width"].value = 7
    assert made.figure.data[0].y.tolist() == [7]


def test_stale_updates_are_dropped() -> None:
    """Of fifty moves that arrive together few are drawn, the last one among them, and none twice."""
    seen = []

    def compute(width: Annotated[int, Range(1, 100)] = 4) -> list[int]:
        seen.append(width)
        return [width]

    async def move(made: Panel) -> None:
        for value in range(1, 51):
            made.controls["width"].value = value
        assert len(seen) == 1
        await asyncio.sleep(0.2)

    made = panel(compute)
    asyncio.run(move(made))
    assert seen == [4, 50]
    assert made.figure.data[0].y.tolist() == [50]


def test_a_steady_stream_is_not_put_off_for_ever() -> None:
    async def move(made: Panel) -> int:
        for value in range(1, 61):
            made.controls["width"].value = value
            await asyncio.sleep(0.005)
        before_the_end = made.updates
        await asyncio.sleep(0.2)
        return before_the_end

    made = panel(one)
    assert asyncio.run(move(made)) > 2
    assert made.figure.data[0].y.tolist() == [60]


def test_only_what_differs_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(level: Annotated[int, Range(0, 9)] = 0) -> int:
        return level

    def two(level: int) -> theme.Figure:
        fig = theme.add_bundle(theme.figure(title="Two", alt="Two."), np.arange(50.0), np.zeros((2, 50)), "still")
        return theme.add_data(fig, np.arange(50.0), np.full(50, float(level)), "moving")

    made = panel(compute, draw=two)
    sent = []
    monkeypatch.setattr(made.figure, "_send_update_msg", lambda *a, **k: sent.append((a, k)))
    made.set(level=3)
    ((arguments, named),) = sent
    parts = [*arguments, *named.values()]
    restyle, traces = parts[0], parts[2]
    assert list(traces) == [1] and list(restyle) == ["y"], (restyle, traces)
    assert made.figure.data[1].y.tolist() == [3.0] * 50


def test_a_move_is_one_message_a_kind_of_trace_that_names_the_same_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a message does not name for a trace, plotly's widget thinks that it is gone."""
    x = np.arange(5.0)

    def compute(level: Annotated[int, Range(0, 9)] = 0) -> int:
        return level

    def drawing(level: int) -> theme.Figure:
        fig = theme.figure(title=f"At {level}", alt=f"At {level}.")
        theme.add_data(fig, x, x + level, "y moves")
        theme.add_data(fig, x + level, x, "x moves")
        theme.add_heatmap(fig, np.full((2, 3), float(level)), x[:3])
        fig.data[1].marker.size = 5 + level
        return fig

    made = panel(compute, draw=drawing)
    sent = []

    def keep(restyle_data: Any = None, relayout_data: Any = None, trace_indexes: Any = None, **_: Any) -> None:
        sent.append((restyle_data, relayout_data, list(trace_indexes)))

    monkeypatch.setattr(made.figure, "_send_update_msg", keep)
    made.set(level=3)
    assert sorted(traces for _, _, traces in sent) == [[0, 1], [2]]
    # The layout comes with the last of them, not in a message of its own.
    assert [bool(layout) for _, layout, _ in sent] == [False, True]
    for restyle, _, traces in sent:
        for name, values in restyle.items():
            assert len(values) == len(traces) and not any(value is Undefined for value in values), name
    scatter = next(restyle for restyle, _, traces in sent if traces == [0, 1])
    assert {"x", "y"} <= set(scatter)
    for values, wanted in ((scatter["x"], [x, x + 3]), (scatter["y"], [x + 3, x])):
        assert all(np.array_equal(found, right) for found, right in zip(values, wanted, strict=True))
    assert made.figure.data[0].marker.size != 8 and made.figure.data[1].marker.size == 8
    assert made.figure.layout.title.text == "At 3"


def test_an_unchanged_drawing_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = panel(one, draw=lambda values: draw([1]))
    sent = []
    for name in ("_send_update_msg", "_send_restyle_msg", "_send_relayout_msg"):
        monkeypatch.setattr(made.figure, name, lambda *a, **k: sent.append((a, k)))
    made.set(width=9)
    assert made.updates == 1 and sent == []


def test_other_kinds_of_traces() -> None:
    def compute(kind: Literal["dots", "map", "both"] = "dots") -> str:
        return kind

    def drawing(kind: str) -> theme.Figure:
        fig = theme.figure(title=kind, alt=f"Drawn as {kind}.")
        if kind != "map":
            theme.add_data(fig, [1, 2], [3, 4])
        if kind != "dots":
            theme.add_heatmap(fig, [[1.0, 2.0], [3.0, 4.0]])
        return fig

    made = panel(compute, draw=drawing)
    for kind, types in [("map", ["heatmap"]), ("both", ["scatter", "heatmap"]), ("dots", ["scatter"])]:
        made.set(kind=kind)
        assert [trace.type for trace in made.figure.data] == types
        assert made.figure.layout.title.text == kind
        assert theme.alt_text(made.figure) == made._names.alt == f"Drawn as {kind}."


def test_what_is_taken_away_goes() -> None:
    def compute(lined: bool = True) -> bool:
        return lined

    def drawing(lined: bool) -> theme.Figure:
        fig = theme.add_data(theme.figure(title="t", alt="a"), [1, 2], [3, 4])
        fig.data[0].text = ["x", "y"] if lined else None
        if lined:
            fig.add_hline(y=3.5)
        return fig

    made = panel(compute, draw=drawing)
    assert len(made.figure.layout.shapes) == 1
    made.set(lined=False)
    assert len(made.figure.layout.shapes) == 0 and made.figure.data[0].text is None
    made.set(lined=True)
    assert len(made.figure.layout.shapes) == 1 and list(made.figure.data[0].text) == ["x", "y"]


# Errors


def fussy(width: Annotated[int, Range(1, 9)] = 4) -> list[int]:
    if width == 8:
        raise ValueError("width must not be <8>")
    return [width]


def test_error_is_shown_and_goes_again(lenient: None) -> None:
    made = panel(fussy)
    made.set(width=8)
    assert isinstance(made.last_error, ValueError)
    assert "role='alert'" in made._status.value and "ValueError: width must not be &lt;8&gt;" in made._status.value
    assert made.figure.data[0].y.tolist() == [4]
    made.set(width=5)
    assert made.last_error is None and "alert" not in made._status.value
    assert made.figure.data[0].y.tolist() == [5]


def test_error_raises_in_strict_mode(strict: None) -> None:
    made = panel(fussy)
    with pytest.raises(ValueError, match="must not be <8>"):
        made.set(width=8)
    assert "alert" in made._status.value


def test_error_in_the_description_is_shown(lenient: None) -> None:
    made = panel(one, describe=lambda values: f"{1 / (values[0] - 8):.1f}")
    made.set(width=8)
    assert isinstance(made.last_error, ZeroDivisionError) and "alert" in made._status.value


def test_drawing_without_alt_text_is_an_error(lenient: None) -> None:
    def bare(values: list[int]) -> Any:
        return theme.go.Figure() if values[0] == 8 else draw(values)

    made = panel(one, draw=bare)
    made.set(width=8)
    assert "has no alt text" in str(made.last_error)
    with pytest.raises(ValueError, match="has no alt text"):
        panel(one, draw=lambda values: theme.go.Figure())


def test_error_at_first_sight_is_the_authors() -> None:
    def compute(width: Annotated[int, Range(1, 9)] = 8) -> list[int]:
        return fussy(width)

    with pytest.raises(ValueError, match="must not be <8>"):
        panel(compute)


# What a reader hears and animates


def test_what_is_said() -> None:
    made = panel(one, title="Width & more", hint="Move <it>", describe=lambda values: f"{values[0]} < 100")
    assert "4 &lt; 100" in made._status.value and "aria-live='polite'" in made._status.value
    head = made.children[0].value
    assert "Width &amp; more" in head and "Move &lt;it&gt;" in head
    made.set(width=7)
    assert "7 &lt; 100" in made._status.value
    assert made._names.title == "Width & more" and made._names.alt == "Dots up to 7."


def test_numbers_are_written_when_they_are_unfolded() -> None:
    made = panel(one)
    assert made._numbers.value == ""
    made._fold.selected_index = 0
    assert "Dots up to 4." in made._numbers.value and "<table" in made._numbers.value
    made.set(width=9)
    assert "Dots up to 9." in made._numbers.value


@pytest.mark.parametrize(
    ("extent", "default", "values"),
    [
        (Range(1, 5, play=True), 2, [1, 2, 3, 4, 5]),
        (Range(8, 64, log=True, play=True), 8, [8, 16, 32, 64]),
    ],
)
def test_play_moves_from_end_to_end(extent: Range, default: int, values: list[int]) -> None:
    def compute(width: int = default) -> list[int]:
        return [width]

    compute.__annotations__["width"] = Annotated[int, extent]
    made = panel(compute)
    (box,) = made.children[1].children
    play = box.children[0]
    assert isinstance(play, widgets.Play) and (play.min, play.max) == (0, len(values) - 1)
    assert "Animate" in play.tooltip
    seen = []
    # It starts where it stands: move it away first.
    for index in [*range(1, len(values)), 0]:
        play.value = index
        seen.append(made.controls["width"].value)
    assert [seen[-1], *seen[:-1]] == values


def test_play_of_a_continuous_range() -> None:
    def compute(gain: Annotated[float, Range(0.0, 1.0, step=0.1, play=True)] = 0.5) -> list[float]:
        return [gain]

    made = panel(compute)
    play = made.children[1].children[0].children[0]
    play.value = play.max
    assert made.controls["gain"].value == pytest.approx(1.0) and play.max == 10


def test_one_figure_widget_an_explorer() -> None:
    def count(widget: Any) -> int:
        inside = sum(count(child) for child in getattr(widget, "children", ()))
        return inside + isinstance(widget, theme.go.FigureWidget)

    assert count(panel(one)) == 1


def test_sweep_keeps_the_order() -> None:
    assert sweep(lambda width: 2 * width, [{"width": 3}, {"width": 1}]) == [6, 2]
