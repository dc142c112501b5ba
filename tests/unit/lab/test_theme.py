"""The visual grammar: what it refuses, and that its colours can be told apart by everyone."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from sciviz.lab import claims, theme


def figure(**changes: Any) -> theme.Figure:
    return theme.figure(**{"title": "Spread falls", "alt": "A falling line.", "x": "Width", "y": "Spread", **changes})


# What is refused


@pytest.mark.parametrize("changes", [{"alt": ""}, {"alt": " \n"}, {"title": ""}, {"title": "  "}])
def test_title_and_alt_text_are_needed(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs a title that states the finding and alt text"):
        figure(**changes)


@pytest.mark.parametrize("layout", [{}, {"meta": None}, {"meta": {}}, {"meta": {"alt": " "}}, {"meta": "alt"}])
def test_figure_of_another_make_has_no_alt_text(layout: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="The figure has no alt text"):
        theme.alt_text(theme.go.Figure(layout=layout))


def test_axis_type() -> None:
    with pytest.raises(ValueError, match="x_type must be one of 'linear', 'log', got 'lin'"):
        figure(x_type="lin")


@pytest.mark.parametrize("index", [-1, 4])
def test_at_most_four_colours(index: int) -> None:
    with pytest.raises(ValueError, match=f"index must be from 0 to 3, got {index}"):
        theme.color(index)


# Colours. Contrast as WCAG 2.1 defines it; colour-blind vision as Viénot, Brettel and Mollon (1999) simulate it;
# distance as CIE 1976 has it, where about 2 can just be seen.


def _linear(color: str) -> np.ndarray:
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((_linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other)), reverse=True)
    return float((light + 0.05) / (dark + 0.05))


LMS = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


def seen(color: str, vision: str) -> np.ndarray:
    """Return the colour's CIELAB coordinates as an eye of that kind sees it."""
    linear = np.linalg.inv(LMS) @ VISION[vision] @ LMS @ _linear(color)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(seen(one, vision) - seen(other, vision)))


def test_the_measures_themselves() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert seen("#ffffff", "usual") == pytest.approx([100, 0, 0], abs=0.1)
    assert seen("#ff0000", "usual") == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    # Red and green of one lightness: far apart for most, near for the colour-blind.
    assert distance("#c04040", "#808000", "usual") > 3 * distance("#c04040", "#808000", "deuteranopia") > 0


LINES = [*theme.MEASURED, theme.ACTIVE, theme.POSITIVE, theme.NEGATIVE, theme.BASELINE, theme.INK]


@pytest.mark.parametrize("color", LINES)
def test_lines_stand_out_from_the_card(color: str) -> None:
    assert contrast(color, theme.CARD) >= 3.0


@pytest.mark.parametrize("color", [theme.INK, theme.MUTED, *theme.MEASURED[:1], theme.ACTIVE])
def test_text_can_be_read_on_the_card(color: str) -> None:
    assert contrast(color, theme.CARD) >= 4.5


@pytest.mark.parametrize("index", range(4))
def test_end_labels_can_be_read_on_the_card(index: int) -> None:
    fig = theme.add_measurement(figure(), [1, 2], [1, 2], "label", index=index)
    assert contrast(fig.data[-1].textfont.color, theme.CARD) >= 4.5


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_end_labels_of_moments_can_be_read(fraction: float) -> None:
    fig = theme.add_measurement(figure(), [1, 2], [1, 2], "label", shade=theme.time_color(fraction))
    assert contrast(fig.data[-1].textfont.color, theme.CARD) >= 4.5


@pytest.mark.parametrize("ink", ["#b3261e", "#1b6e3c", "#8a4b00", "#5b5f6b", "#4b5160", claims._INK])
def test_text_of_claims_can_be_read(ink: str) -> None:
    assert contrast(ink, claims._PAPER) >= 4.5


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("one", "other"), [*combinations(range(4), 2)])
def test_four_colours_are_told_apart(one: int, other: int, vision: str) -> None:
    apart = distance(theme.color(one), theme.color(other), vision)
    # And where colours come near, dash and marker differ as well.
    assert apart >= 15
    assert theme.DASHES[one] != theme.DASHES[other] and theme.MARKERS[one] != theme.MARKERS[other]


@pytest.mark.parametrize("vision", VISION)
def test_positive_and_negative_are_told_apart(vision: str) -> None:
    assert distance(theme.POSITIVE, theme.NEGATIVE, vision) >= 30
    assert distance(theme.DIVERGING[0][1], theme.DIVERGING[-1][1], vision) >= 30


@pytest.mark.parametrize("vision", VISION)
def test_what_is_moved_stands_out(vision: str) -> None:
    assert (
        min(distance(theme.ACTIVE, color, vision) for color in (*theme.MEASURED[:1], theme.INK, theme.BASELINE)) >= 15
    )


@pytest.mark.parametrize("scale", [theme.TIME, theme.SEQUENTIAL])
def test_time_runs_from_light_to_dark(scale: Any) -> None:
    lightness = [seen(color, "usual")[0] for _, color in scale]
    assert all(a - b > 5 for a, b in pairwise(lightness))


def test_time_color_is_even_and_bounded() -> None:
    lightness = [seen(theme.time_color(fraction), "usual")[0] for fraction in np.linspace(0, 1, 20)]
    assert np.all(np.diff(lightness) < 0)
    assert theme.time_color(-1) == theme.time_color(0) and theme.time_color(2) == theme.time_color(1)


# What is drawn


def test_theory_is_dashed_ink() -> None:
    line = theme.add_theory(figure(), [1, 2], [1, 2]).data[0].line
    assert (line.color, line.dash) == (theme.INK, "dash")


def test_measurement_has_a_band() -> None:
    fig = theme.add_measurement(figure(), [1, 2, 3], [1, 2, 3], "net", low=[0, 1, 2], high=[2, 3, 4], index=1)
    band, line = fig.data
    assert band.y.tolist() == [2, 3, 4, 2, 1, 0] and band.x.tolist() == [1, 2, 3, 3, 2, 1]
    assert (line.line.color, line.line.dash) == (theme.MEASURED[1], theme.DASHES[1])
    assert band.fillcolor.startswith("rgba(")


def test_active_is_the_one_saturated_colour() -> None:
    line = theme.add_measurement(figure(), [1, 2], [1, 2], active=True, index=2).data[0].line
    assert (line.color, line.dash) == (theme.ACTIVE, "solid")


def test_label_stands_at_the_end_only() -> None:
    fig = theme.add_measurement(figure(), [1, 2, 3], [1, 2, 3], "net")
    assert list(fig.data[0].text) == ["", "", " net"]
    assert "text" in fig.data[0].mode and fig.layout.showlegend is False
    assert theme.add_measurement(figure(), [1, 2], [1, 2]).data[0].text is None
    assert theme.add_measurement(figure(), [], [], "nothing").data[0].mode


def test_labels_that_end_together_are_moved_apart() -> None:
    fig = theme.add_measurement(figure(), [0, 1], [0, 10], "upper")
    theme.add_measurement(fig, [0, 1], [5, 9.9], "lower", index=1)
    assert [trace.textposition for trace in fig.data] == ["top right", "bottom right"]
    theme.add_measurement(apart := theme.add_measurement(figure(), [0, 1], [0, 10], "a"), [0, 1], [0, 5], "b", index=1)
    assert [trace.textposition for trace in apart.data] == ["middle right", "middle right"]


def test_labels_on_a_log_axis_are_apart_by_ratio() -> None:
    fig = theme.add_measurement(figure(y_type="log"), [0, 1], [1e-6, 1e-3], "a")
    theme.add_measurement(fig, [0, 1], [1.0, 1e-5], "b", index=1)
    assert [trace.textposition for trace in fig.data] == ["middle right", "middle right"]


def test_zero_on_a_log_axis_does_no_harm() -> None:
    theme.add_measurement(figure(y_type="log"), [0, 1], [0.0, 1.0], "a")
    theme.add_measurement(figure(y_type="log"), [0, 1], [0.0, 0.0], "a")


def test_long_log_axis_is_labelled_by_decades() -> None:
    fig = theme.add_measurement(figure(x_type="log"), [1, 1000], [1, 2], "a")
    assert fig.layout.xaxis.dtick == 1 and fig.layout.xaxis.tickvals is None


def test_short_log_axis_is_labelled_in_full() -> None:
    fig = theme.add_measurement(figure(x_type="log"), [64, 1024], [1, 2], "a")
    ticks = dict(zip(fig.layout.xaxis.tickvals, fig.layout.xaxis.ticktext, strict=True))
    assert ticks[100] == "100" and ticks[1000] == "1,000" and ticks[200] == "200"


def test_axis_title_comes_from_the_data() -> None:
    variable = xr.DataArray([1.0], attrs={"long_name": "membrane potential", "units": "mV"})
    assert theme.axis_title(variable) == "Membrane potential (mV)"
    assert theme.axis_title(variable.assign_attrs(units="1")) == "Membrane potential"
    assert theme.axis_title(xr.DataArray([1.0], name="width")) == "Width"


def test_description_tells_what_is_drawn() -> None:
    fig = theme.add_measurement(figure(), [1, 2, 3], [3.0, 1.0, 2.0], "net <1>", low=[2, 0, 1], high=[4, 2, 3])
    theme.add_heatmap(fig, [[0.0, 5.0], [1.0, np.nan]], title="kernel")
    rows = theme.drawn(fig)
    assert [row["Drawn"] for row in rows] == ["net <1>", "kernel"]
    assert (rows[0]["Points"], rows[0]["First → last"], rows[0]["Range"]) == ("3", "3 → 2", "1 to 3")
    assert rows[1]["Range"] == "0 to 5"
    shown = theme.describe_html(fig)
    assert "A falling line." in shown and "net &lt;1&gt;" in shown and "<th scope='col'" in shown
    assert theme.describe_text(fig).splitlines()[0] == "A falling line."


def test_figure_shows_its_description_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    theme.add_data(figure(), [1], [2])._ipython_display_()
    assert shown[0]["application/vnd.plotly.v1+json"]["layout"]["meta"] == {"alt": "A falling line."}
    assert "A falling line." in shown[1]["text/html"]


UPDATES: list[dict[str, Any]] = [
    {},
    {"height": 200, "margin": {"t": 12}},
    {"xaxis": {"title": {"text": "new"}, "range": [0, 1]}, "yaxis2": {"tickvals": [1, 2], "ticktext": ["a", "b"]}},
    {"xaxis_title_text": "taken apart by plotly", "title_text": "too"},
    {"yaxis": {"title_text": "inside"}},
    {"annotations": [{"text": "first, changed"}]},
    {"annotations": [{"text": "first"}, {"text": "second"}, {"text": "a third", "x": 1, "y": 0}]},
    {"shapes": [{"type": "rect", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]},
    {"xaxis": {"title": None, "range": None}},
    {"xaxis": go.layout.XAxis(title={"text": "an object"}), "paper_bgcolor": "white"},
    {"annotations": [go.layout.Annotation(text="an object", x=0, y=0)]},
]


@pytest.mark.parametrize("update", UPDATES, ids=range(len(UPDATES)))
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("as_keywords", [False, True])
def test_an_updated_layout_is_the_one_that_plotly_makes(
    update: dict[str, Any], overwrite: bool, as_keywords: bool
) -> None:
    def start() -> theme.Figure:
        fig = theme.figure(title="Two", alt="Two panels.", x="x", x_type="log", subtitle="A second line")
        fig.add_annotation(text="one", x=0.5, y=0.5, font={"size": 9})
        fig.add_annotation(text="two", x=0.1, y=0.2)
        return fig

    def filled(value: Any) -> Any:
        return {k: filled(v) for k, v in value.items() if v != {}} if isinstance(value, dict) else value

    ours, theirs = start(), go.Figure(start())
    for fig in (ours, theirs):
        if as_keywords:
            assert fig.update_layout(overwrite=overwrite, **update) is fig
        else:
            assert fig.update_layout(update, overwrite) is fig
    assert filled(ours.to_plotly_json()) == filled(theirs.to_plotly_json())


def test_a_layout_is_still_checked_when_it_is_updated() -> None:
    fig = theme.figure(title="One", alt="One panel.")
    before = fig.to_plotly_json()
    for wrong in ({"no_such_thing": 1}, {"nosuchthing": 1}, {"height": "tall"}, {"xaxis": {"nosuchthing": 1}}):
        with pytest.raises(ValueError):
            fig.update_layout(wrong)
    assert fig.to_plotly_json() == before
