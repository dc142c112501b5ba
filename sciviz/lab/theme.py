"""One visual grammar for every figure of the course.

Theory is dashed ink, a measurement is a solid colour with a band for its spread, data are dots, a baseline is grey,
time runs from light to dark, positive is orange and negative blue, and what the reader is moving right now is the one
saturated colour. Lines are labelled at their ends; the title states the finding; every figure carries alt text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.basedatatypes import BasePlotlyType

from sciviz.lab.checks import check_choice

# Every figure sits on an opaque card, so that one set of colours reads well in a light and in a dark JupyterLab.
CARD, INK, MUTED, GRID = "#fdfcf9", "#1f2430", "#5b6170", "#e6e3da"
BASELINE, ACTIVE = "#8b8f99", "#d6006c"
POSITIVE, NEGATIVE = "#d8620f", "#2166ac"
# At most four, told apart by the colour-blind and in grey (their lightness differs), each ≥ 3:1 on the card.
MEASURED = ("#2166ac", "#c2570c", "#3b8a5a", "#4f2a74")
DASHES = ("solid", "dot", "dashdot", "longdash")
MARKERS = ("circle", "diamond", "square", "triangle-up")
HEIGHT = 380

TIME = ((0.0, "#d3e3ee"), (0.35, "#7fb0cf"), (0.7, "#2f76a8"), (1.0, "#0b2f53"))
DIVERGING = ((0.0, "#123f73"), (0.25, "#6b9fcb"), (0.5, "#f7f5ef"), (0.75, "#ee9a58"), (1.0, "#8f3a02"))
SEQUENTIAL = ((0.0, "#f7f5ef"), (0.35, "#b8cfd9"), (0.7, "#4a86a8"), (1.0, "#0b2f53"))

_FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'


class Figure(go.Figure):  # type: ignore[misc]
    """A plotly figure that shows its alt text wherever it is shown.

    The alt text is kept in `layout.meta["alt"]`. In a notebook the figure is followed by a folded description, which
    holds the alt text and a table of what is drawn, for readers who cannot see the picture.
    """

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        content = {**json.loads(self.to_json()), "config": {"displaylogo": False, "responsive": True}}
        for bundle in (
            {"application/vnd.plotly.v1+json": content, "text/plain": f"Figure: {alt_text(self)}"},
            {"text/html": describe_html(self), "text/plain": describe_text(self)},
        ):
            publish_display_data(bundle)

    def update_layout(self, dict1: Any = None, overwrite: bool = False, **kwargs: Any) -> Figure:
        """Update the layout as plotly does, ten times as fast: merged first, then set and checked in one go.

        Plotly's own way sets each property by its path and tells all listeners, of which a figure that is not shown yet has
        none. It is what an explorer's redrawing used to spend most of its time on.
        """
        given = {**(dict1 or {}), **kwargs}
        now: dict[str, Any] = self["layout"].to_plotly_json()
        if overwrite or not _plain(given, now):
            super().update_layout(dict1, overwrite, **kwargs)
        else:
            self["layout"] = _merged(now, given)
        return self


def _plain(value: Any, now: Any) -> bool:
    """Whether an update is no more than values in dictionaries.

    Left to plotly: its own objects, properties written with their parent's name before them (`title_text`), and lists of
    annotations or shapes where there are some already.
    """
    if isinstance(value, Mapping):
        inside = now if isinstance(now, Mapping) else {}
        return all(
            ("_" not in name or name in ("paper_bgcolor", "plot_bgcolor")) and _plain(part, inside.get(name))
            for name, part in value.items()
        )
    if isinstance(value, (list, tuple)) and any(isinstance(part, (Mapping, BasePlotlyType)) for part in value):
        return not now and all(_plain(part, None) for part in value)
    return not isinstance(value, BasePlotlyType)


def _merged(before: Any, after: Any) -> Any:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return {**before, **{name: _merged(before.get(name), value) for name, value in after.items()}}
    return after


def figure(
    *,
    title: str,
    alt: str,
    x: str = "",
    y: str = "",
    x_type: str = "linear",
    y_type: str = "linear",
    height: int = HEIGHT,
    subtitle: str = "",
) -> Figure:
    """Make an empty figure in the course's style.

    Parameters
    ----------
    title
        The finding, as a sentence.
    alt
        What a reader who cannot see the figure needs to know: what is drawn and what it shows.
    x, y
        Axis titles, with units; `axis_title` makes them from a data set's variable.
    x_type, y_type
        "linear" or "log".

    Raises
    ------
    ValueError
        If the title or the alt text is empty, or an axis type is neither of the two.

    >>> fig = figure(title="Spread falls like width⁻¹ᐟ²", alt="A falling line.", x="Width", y="Spread")
    >>> alt_text(fig)
    'A falling line.'
    """
    if not title.strip() or not alt.strip():
        raise ValueError(
            f"A figure needs a title that states the finding and alt text, got title={title!r}, alt={alt!r}."
        )
    check_choice(("linear", "log"), x_type=x_type, y_type=y_type)
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "ticks": "outside",
        "tickcolor": MUTED,
        "ticklen": 4,
        "showline": True,
        "automargin": True,
        "exponentformat": "power",
    }
    return Figure(
        layout={
            "template": "none",
            "meta": {"alt": alt},
            "title": {
                "text": title,
                "subtitle": {"text": subtitle, "font": {"size": 13, "color": MUTED}},
                "x": 0.0,
                "xref": "paper",
                "xanchor": "left",
                "font": {"size": 17, "color": INK},
                "yref": "container",
                "y": 0.95,
                "yanchor": "top",
            },
            "font": {"family": _FONT, "size": 13, "color": INK},
            "paper_bgcolor": CARD,
            "plot_bgcolor": CARD,
            "height": height,
            "margin": {"l": 64, "r": 120, "t": 74 if subtitle else 58, "b": 54},
            "showlegend": False,
            "hovermode": "closest",
            "xaxis": {**axis, "title": {"text": x, "standoff": 8}, "type": x_type, **_log_ticks(x_type)},
            "yaxis": {**axis, "title": {"text": y, "standoff": 8}, "type": y_type, **_log_ticks(y_type)},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": INK, "orientation": "v"},
            "colorway": list(MEASURED),
        }
    )


def columns(fig: Figure, *panels: tuple[str, str, str], widths: Sequence[float] = (), gap: float = 0.11) -> Figure:
    """Divide a figure into panels side by side; `column=2` of the `add_*` functions then draws into the second.

    Parameters
    ----------
    panels
        Heading, x title and y title of each panel.
    widths
        Relative widths; equal ones if empty.
    gap
        Space between two panels, as a share of the figure's width.

    >>> fig = columns(figure(title="Two", alt="Two panels."), ("Left", "x", "y"), ("Right", "x", "y"))
    >>> fig.layout.xaxis2.title.text
    'x'
    """
    shares = np.asarray(widths or [1.0] * len(panels), dtype=float)
    shares = shares / shares.sum() * (1 - gap * (len(panels) - 1))
    left = 0.0
    both = [fig.layout[f"{name}axis"].to_plotly_json() for name in ("x", "y")]
    common_x, common_y = ({k: v for k, v in axis.items() if k not in ("title", "domain")} for axis in both)
    small = {"tickfont": {"size": 11}}
    layout: dict[str, Any] = {
        "margin": {"t": 112 if fig.layout.title.subtitle.text else 86, "r": 70},
        "annotations": [],
    }
    for number, ((heading, x, y), share) in enumerate(zip(panels, shares, strict=True), start=1):
        end = "" if number == 1 else str(number)
        domain = [left, min(1.0, left + float(share))]
        x_title, y_title = ({"text": text, "standoff": 6, "font": {"size": 12}} for text in (x, y))
        layout[f"xaxis{end}"] = {**common_x, **small, "title": x_title, "domain": domain, "anchor": f"y{end}"}
        layout[f"yaxis{end}"] = {**common_y, **small, "title": y_title, "domain": [0, 1], "anchor": f"x{end}"}
        layout["annotations"].append(
            {
                "text": f"<b>{heading}</b>",
                "font": {"size": 12.5, "color": MUTED},
                "showarrow": False,
                "x": domain[0],
                "y": 1.02,
                **{"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"},
            }
        )
        left += float(share) + gap
    # One update: each costs plotly a validation of the whole layout.
    fig.update_layout(layout)
    return fig


def _axes(column: int) -> dict[str, str]:
    end = "" if column == 1 else str(column)
    return {"xaxis": f"x{end}", "yaxis": f"y{end}"}


def _log_ticks(kind: str) -> dict[str, Any]:
    # Plotly labels 2 and 5 between decades by default without their decade, which reads as "10, 2, 5, 100".
    return {"dtick": 1, "minor": {"dtick": "D1", "ticks": "outside", "ticklen": 2}} if kind == "log" else {}


def axis_title(variable: Any) -> str:
    """Return "long name (units)" of a data set's variable, from its attributes.

    >>> import xarray as xr
    >>> axis_title(xr.DataArray([1.0], dims="time", attrs={"long_name": "training time", "units": "1"}))
    'Training time'
    >>> axis_title(xr.DataArray([1.0], dims="time", attrs={"long_name": "membrane potential", "units": "mV"}))
    'Membrane potential (mV)'
    """
    name = str(variable.attrs.get("long_name", variable.name))
    units = str(variable.attrs.get("units", ""))
    name = name[:1].upper() + name[1:]
    return name if units in ("", "1", "dimensionless") else f"{name} ({units})"


def color(index: int) -> str:
    """Return the colour of the index-th measurement of a figure.

    Raises
    ------
    ValueError
        If a figure asks for a fifth colour: use facets, or a slider, or the time scale instead.
    """
    if not 0 <= index < len(MEASURED):
        raise ValueError(
            f"index must be from 0 to {len(MEASURED) - 1}, got {index}: a figure has at most four colours."
        )
    return MEASURED[index]


def time_color(fraction: float) -> str:
    """Return the colour of a moment between 0 (light, the start) and 1 (dark, the end).

    >>> time_color(0.0), time_color(1.0)
    ('#8bb7d3', '#0b2f53')
    """
    # The lightest part of the scale cannot be seen as a line, or read as a label, on the card.
    place = 0.3 + 0.7 * min(max(fraction, 0.0), 1.0)
    for (low, start), (high, end) in pairwise(TIME):
        if place <= high:
            share = (place - low) / (high - low)
            parts = [
                round(int(start[i : i + 2], 16) * (1 - share) + int(end[i : i + 2], 16) * share) for i in (1, 3, 5)
            ]
            return "#" + "".join(f"{part:02x}" for part in parts)
    return TIME[-1][1]


def _luminance(hex_color: str) -> float:
    parts = [int(hex_color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@cache
def text_color(hex_color: str) -> str:
    """Return the colour, darkened towards ink as far as text of it needs to be read on the card (4.5:1, WCAG 2.1).

    A line may be lighter than a word: 3:1 is enough for it.

    >>> text_color(INK), text_color("#c2570c")
    ('#1f2430', '#bb550d')
    """
    wanted = (_luminance(CARD) + 0.05) / 4.5 - 0.05
    for share in range(0, 101, 2):
        parts = [
            round((int(hex_color[i : i + 2], 16) * (100 - share) + int(INK[i : i + 2], 16) * share) / 100)
            for i in (1, 3, 5)
        ]
        result = "#" + "".join(f"{part:02x}" for part in parts)
        if _luminance(result) <= wanted:
            break
    return result


def _faded(hex_color: str, alpha: float) -> str:
    red, green, blue = (int(hex_color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _end_label(label: str, length: int) -> list[str]:
    return [""] * (length - 1) + [f" {label}"] if label and length else [""] * length


def add_theory(fig: Figure, x: Any, y: Any, label: str = "theory", column: int = 1) -> Figure:
    """Add a theoretical curve: dashed ink, labelled at its end."""
    x, y = np.asarray(x), np.asarray(y)
    return _add_line(fig, x, y, label, {"color": INK, "width": 2, "dash": "dash"}, INK, column)


def add_baseline(fig: Figure, x: Any, y: Any, label: str = "baseline", column: int = 1) -> Figure:
    """Add a baseline: a thin grey line, labelled at its end."""
    x, y = np.asarray(x), np.asarray(y)
    return _add_line(fig, x, y, label, {"color": BASELINE, "width": 2}, MUTED, column)


def add_measurement(
    fig: Figure,
    x: Any,
    y: Any,
    label: str = "",
    *,
    low: Any = None,
    high: Any = None,
    index: int = 0,
    active: bool = False,
    markers: bool = False,
    shade: str | None = None,
    column: int = 1,
) -> Figure:
    """Add a measured curve: a solid colour, with a band from `low` to `high` for its spread over seeds.

    Parameters
    ----------
    index
        Which of the four colours (and dashes, and markers) it takes.
    active
        Whether it is what the reader is moving right now; it then takes the one saturated colour.
    markers
        Mark the measured points; right where there are few of them.
    shade
        A colour of its own, as `time_color` gives for moments in time.
    """
    x, y = np.asarray(x), np.asarray(y)
    tone = ACTIVE if active else shade or color(index)
    if low is not None and high is not None:
        fig.add_trace(
            go.Scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([np.asarray(high), np.asarray(low)[::-1]]),
                fill="toself",
                fillcolor=_faded(tone, 0.18),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                name=f"{label or 'measured'}: spread",
                meta={"role": "band"},
                **_axes(column),
            )
        )
    dash = "solid" if active or shade else DASHES[index]
    line = {"color": tone, "width": 3 if active else 2.2, "dash": dash}
    symbol = MARKERS[0 if active else index] if markers else None
    return _add_line(fig, x, y, label, line, tone, column, symbol)


def add_bundle(
    fig: Figure, x: Any, ys: Any, label: str, *, active: bool = False, shade: str | None = None, column: int = 1
) -> Figure:
    """Add several curves of one kind, shape (curves, points), as thin lines of one colour: runs that are not told apart."""
    x, ys = np.asarray(x, dtype=float), np.asarray(ys, dtype=float)
    # One trace with gaps: plotly's cost is by the trace.
    gap = np.full((len(ys), 1), np.nan)
    fig.add_trace(
        go.Scatter(
            x=np.concatenate([np.broadcast_to(x, ys.shape), gap], axis=1).ravel()[:-1],
            y=np.concatenate([ys, gap], axis=1).ravel()[:-1],
            mode="lines",
            line={"color": ACTIVE if active else shade or color(0), "width": 1.4},
            opacity=0.8,
            name=label,
            **_axes(column),
        )
    )
    return fig


def add_data(
    fig: Figure, x: Any, y: Any, label: str = "data", *, tone: str = INK, size: int = 7, column: int = 1
) -> Figure:
    """Add data: dots with a light rim, so that they stay apart where they overlap."""
    fig.add_trace(
        go.Scatter(
            x=np.asarray(x),
            y=np.asarray(y),
            mode="markers",
            marker={"color": tone, "size": size, "line": {"color": CARD, "width": 1}},
            name=label,
            **_axes(column),
        )
    )
    return fig


def add_heatmap(
    fig: Figure, z: Any, x: Any = None, y: Any = None, *, title: str = "", signed: bool = False, column: int = 1
) -> Figure:
    """Add a heat map: blue–orange around zero if `signed`, light to dark otherwise."""
    z = np.asarray(z)
    extra: dict[str, Any] = {"zmid": 0.0} if signed else {}
    fig.add_trace(
        go.Heatmap(
            z=z,
            x=x,
            y=y,
            colorscale=[list(stop) for stop in (DIVERGING if signed else SEQUENTIAL)],
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.9},
            name=title or "heat map",
            **extra,
            **_axes(column),
        )
    )
    return fig


def _add_line(
    fig: Figure,
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    label: str,
    line: dict[str, Any],
    tone: str,
    column: int,
    symbol: str | None = None,
) -> Figure:
    # The label is text at the line's last point: it then moves with the data in an explorer.
    marker = {"symbol": symbol, "size": 8, "color": tone, "line": {"color": CARD, "width": 1}} if symbol else None
    fig.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines" + ("+markers" if symbol else "") + ("+text" if label else ""),
            line=line,
            marker=marker,
            text=_end_label(label, len(x)) if label else None,
            textposition="middle right",
            textfont={"color": text_color(tone), "size": 13},
            cliponaxis=False,
            name=label or "measured",
            **_axes(column),
        )
    )
    if label:
        _spread_labels(fig)
    _label_short_log_axes(fig)
    return fig


def _label_short_log_axes(fig: Figure) -> None:
    """Label steps between the decades in full on a logarithmic axis of less than two, where decades say too little."""
    for name in ("x", "y"):
        if fig.layout[f"{name}axis"].type != "log":
            continue
        drawn_on: dict[str, list[Any]] = {}
        for trace in fig.data:
            if trace.type == "scatter":
                drawn_on.setdefault(trace[f"{name}axis"] or name, []).append(_numbers(trace[name]))
        for place, arrays in drawn_on.items():
            axis = fig.layout[f"{name}axis{place[1:]}"]
            values = np.concatenate(arrays)
            values = values[values > 0]
            if axis.type != "log" or not values.size:
                continue
            low, high = np.log10(values.min()), np.log10(values.max())
            if high - low >= 2:
                axis.update(tickmode="linear", tickvals=None, ticktext=None)
                continue
            steps = (1, 2, 5) if high - low >= 0.8 else (1, 1.5, 2, 3, 5, 7)
            ticks = [m * 10.0**k for k in range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1) for m in steps]
            axis.update(tickmode="array", tickvals=ticks, ticktext=[f"{tick:,.6g}" for tick in ticks])


def _spread_labels(fig: Figure) -> None:
    """Move end labels apart where lines end close together: the upper one up, the lower one down."""
    lines = [t for t in fig.data if t.type == "scatter" and t.mode and "text" in t.mode and len(t.x)]
    groups: dict[tuple[str, str], list[Any]] = {}
    for trace in lines:
        groups.setdefault((trace.xaxis or "x", trace.yaxis or "y"), []).append(trace)
    for (_, y_name), traces in groups.items():
        axis = fig.layout["yaxis" + y_name[1:]]
        to_scale = np.log10 if axis.type == "log" else np.asarray

        def scaled(values: Any, to_scale: Any = to_scale) -> Any:
            with np.errstate(divide="ignore", invalid="ignore"):
                result = to_scale(np.asarray(values, dtype=float))
            return result[np.isfinite(result)]

        everything = np.concatenate([scaled(t.y) for t in traces])
        span = float(np.ptp(everything)) if everything.size else 0.0
        ends = sorted(((float(scaled(t.y)[-1]), i) for i, t in enumerate(traces) if scaled(t.y).size))
        for trace in traces:
            trace.textposition = "middle right"
        for (below, low), (above, high) in pairwise(ends):
            if above - below < 0.06 * (span or 1.0):
                traces[low].textposition = "bottom right"
                traces[high].textposition = "top right"


def alt_text(fig: Any) -> str:
    """Return a figure's alt text.

    Raises
    ------
    ValueError
        If it has none.
    """
    meta = fig.layout.meta
    if not isinstance(meta, dict) or not str(meta.get("alt", "")).strip():
        raise ValueError("The figure has no alt text: make it with sciviz.lab.theme.figure(title=…, alt=…).")
    return str(meta["alt"])


def _numbers(values: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(values if values is not None else [])
    if array.dtype.kind not in "fiub":
        return np.empty(0)
    finite: np.ndarray[Any, Any] = array[np.isfinite(array)].astype(float)
    return finite


def drawn(fig: Any) -> list[dict[str, str]]:
    """Return one row for each thing drawn: its name and the range of its values, as text."""
    rows = []
    for trace in fig.data:
        if isinstance(trace.meta, dict) and trace.meta.get("role") == "band":
            continue
        values = _numbers(trace.z if trace.type in ("heatmap", "surface", "contour") else trace.y)
        first_last = f"{values.flat[0]:.3g} → {values.flat[-1]:.3g}" if values.size else "—"
        low_high = f"{values.min():.3g} to {values.max():.3g}" if values.size else "—"
        rows.append(
            {"Drawn": str(trace.name), "Points": str(values.size), "First → last": first_last, "Range": low_high}
        )
    return rows


def describe_text(fig: Any) -> str:
    """Return the alt text and what is drawn, as plain lines."""
    lines = [
        f"{row['Drawn']}: {row['Points']} points, {row['First → last']}, range {row['Range']}" for row in drawn(fig)
    ]
    return "\n".join([alt_text(fig), *lines])


def rows_html(rows: Sequence[dict[str, str]]) -> str:
    """Return rows of text as an HTML table with its own ink and background."""
    if not rows:
        return ""
    cell = f"style='padding:2px 10px 2px 0;text-align:left;color:{INK};background:{CARD}'"
    heads = "".join(f"<th scope='col' {cell}>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{html.escape(value)}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return (
        f"<table style='font-size:12px;border-collapse:collapse'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def describe_html(fig: Any) -> str:
    """Return the folded description that stands under a figure: its alt text and a table of what is drawn."""
    return (
        f"<details class='sciviz-description' style='background:{CARD};color:{MUTED};padding:2px 12px 6px;"
        f"font-size:12.5px;max-width:1100px'><summary style='cursor:pointer'>Description and numbers of this figure"
        f"</summary><p style='margin:6px 0;color:{INK}'>{html.escape(alt_text(fig))}</p>"
        f"{rows_html(drawn(fig))}</details>"
    )
