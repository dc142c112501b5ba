"""The page of a sweep, made from its store alone: each claim and chosen measures against each axis of the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from sciviz.lab import theme
from sciviz.reports.collect import open_sweep
from sciviz.reports.page import figure_html

_TEMPLATE = Path(__file__).with_name("sweep.html.jinja")
_FACTS = ("seconds", "peak_memory_mb")
_MOST_FAILURES = 50
_MOST_DOTS = 600
_MARKS = {"holds": "✓", "fails": "✗", "undecided": "?"}


def write_sweep_page(folder: Path | str, *, measures: Sequence[str] = ()) -> Path:
    """Write `sweep.html` from the store of a sweep.

    Parameters
    ----------
    measures
        What to show besides the claims, as "data set.variable"; of a variable with dimensions of its own the mean over
        them is shown. If empty, every number that was recorded without dimensions is shown.

    Raises
    ------
    ValueError
        If nothing has been collected there, or a measure is not in the store.
    """
    from plotly.offline import get_plotlyjs

    folder = Path(folder)
    tree = open_sweep(folder)
    try:
        root = tree.to_dataset()
        axes = [name for name in root.status.dims]
        chosen = [*_claims(root), *_measures(tree, axes, measures)]
        figures: list[dict[str, str]] = []
        for about, values, outcome in chosen:
            for axis in _shown_axes(values, axes):
                fig = _figure(values, axis, axes, outcome)
                drawn = figure_html(json.loads(fig.to_json()), len(figures) + 1)
                # One heading for all that a claim measured.
                repeated = bool(figures) and figures[-1]["about"] == about
                heading = "" if repeated or outcome is None else about
                figures.append(
                    {"about": about, "heading": heading, "html": drawn, "description": theme.describe_html(fig)}
                )
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATE.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        counts = root.attrs["points"]
        page = environment.get_template(_TEMPLATE.name).render(
            title=root.attrs["title"],
            counts=counts,
            total=sum(counts.values()),
            axes=[
                {
                    "name": name,
                    "meaning": root[name].attrs.get("long_name", ""),
                    "values": _values_text(root[name].values),
                }
                for name in axes
            ],
            claims=_claims_rows(root),
            failures=_failures(root, axes),
            more_failures=max(0, counts["failed"] - _MOST_FAILURES),
            figures=figures,
            facts=[
                ("Fixed", ", ".join(f"{name} = {value}" for name, value in root.attrs["fixed"].items()) or "nothing"),
                ("Package", str(root.attrs["package"])),
                ("Time of the points, one after the other", f"{float(root.seconds.sum()):,.0f} s"),
                ("Groups of the store", ", ".join(tree.children) or "none"),
            ],
            plotly=get_plotlyjs() if figures else "",
            ink=theme.INK,
            card=theme.CARD,
            active=theme.ACTIVE,
        )
    finally:
        tree.close()
    path = folder / "sweep.html"
    scratch = folder / ".sweep.html.new"
    scratch.write_text(page, encoding="utf-8")
    scratch.replace(path)
    return path


def _values_text(values: Any) -> str:
    texts = [f"{value:,.6g}" if isinstance(value, (float, np.floating)) else str(value) for value in values.tolist()]
    return ", ".join(texts) if len(texts) <= 12 else f"{', '.join(texts[:5])} … {texts[-1]} ({len(texts)} values)"


def _claims(root: Any) -> list[tuple[str, Any, Any]]:
    """Return name, values and outcomes of everything that a claim measured."""
    outcomes = {
        variable.attrs["claim"]: variable
        for variable in root.data_vars.values()
        if variable.attrs.get("role") == "outcome"
    }
    found = []
    for variable in root.data_vars.values():
        if variable.attrs.get("role") == "measured":
            values = variable.load()
            values.attrs["label"] = str(variable.attrs["long_name"])
            values.attrs["long_name"] = variable.attrs["part"] or "measured"
            found.append((str(variable.attrs["says"]), values, outcomes[variable.attrs["claim"]].load()))
    return found


def _measures(tree: Any, axes: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, Any, Any]]:
    found = []
    scalars = {
        f"{group}.{name}": variable
        for group, child in tree.children.items()
        for name, variable in child.to_dataset().data_vars.items()
        if name in child.data_vars and variable.dtype.kind in "fiub" and set(axes) <= set(variable.dims)
    }
    names = list(wanted) or [name for name, variable in scalars.items() if set(variable.dims) == set(axes)]
    for name in names:
        if name in _FACTS:
            found.append((name, tree[name].load(), None))
            continue
        if name not in scalars:
            raise ValueError(f"measure {name!r} is not in the store; it has {', '.join(sorted(scalars)) or 'none'}.")
        variable = scalars[name]
        within = [dim for dim in variable.dims if dim not in axes]
        values = variable.mean(within, keep_attrs=True) if within else variable
        label = str(variable.attrs.get("long_name", name))
        if within:
            values.attrs["long_name"] = f"{label}, mean over {', '.join(map(str, within))}"
        found.append((f"{name}{' (mean)' if within else ''}", values.load(), None))
    if not wanted:
        found += [(name, tree[name].load(), None) for name in _FACTS]
    return found


def _shown_axes(values: Any, axes: Sequence[str]) -> list[str]:
    """Return the axes to draw a quantity against: those that vary; none if no point measured it."""
    if not np.isfinite(values.values.astype(float)).any():
        return []
    varied = [name for name in axes if values.sizes[name] > 1] or list(axes[:1])
    # A seed is no cause: its axis is worth a figure only where there is no other.
    return [name for name in varied if name != "seed"] or varied


def _figure(values: Any, name: str, axes: Sequence[str], outcome: Any) -> theme.Figure:
    """Draw one quantity against one axis: dots are points, a line is their mean, a band their spread over all the rest.

    There is one line for each value of a second axis, where that has few.
    """
    others = [other for other in axes if other != name and values.sizes[other] > 1]
    causes = [other for other in others if other != "seed" and values.sizes[other] <= len(theme.MEASURED)]
    split = causes[0] if causes else None
    rest = [other for other in others if other != split]
    label, named = theme.axis_title(values), str(values.attrs.get("label", theme.axis_title(values)))
    finite = values.values[np.isfinite(values.values.astype(float))].astype(float)
    positive = bool((finite > 0).all()) and finite.max() / max(finite.min(), 1e-300) > 30
    spread = f"band: one standard deviation over {', '.join(rest)}" if rest else ""
    marks = "" if outcome is None else "dots: ● holds  ✕ does not  ○ undecided"
    numeric = values[name].dtype.kind in "fiu"
    fig = theme.figure(
        title=_finding(values, name, named),
        subtitle="; ".join(filter(None, [marks, spread])),
        alt=_alt(values, name, split, rest, named, outcome),
        x=_axis_title(values, name),
        y=label,
        x_type=_x_type(values, name),
        y_type="log" if positive else "linear",
    )
    if not numeric:
        words = [_one_line(value) for value in values[name].values.tolist()]
        fig.update_xaxes(type="category", categoryorder="array", categoryarray=words)
    # A tick at each value that was run, where they are few.
    elif values.sizes[name] <= 8:
        ticks = values[name].values.tolist()
        fig.update_xaxes(tickmode="array", tickvals=ticks, ticktext=[f"{tick:,.6g}" for tick in ticks], minor=None)
    if split is None:
        # Nothing is written at the end of a single line.
        fig.update_layout(margin={"r": 24})
        _draw(fig, values, name, outcome, numeric, 0, "")
    else:
        for index in range(values.sizes[split]):
            verdicts = None if outcome is None else outcome.isel({split: index})
            text = " ".join(str(values[split].values[index]).split())[:18]
            _draw(fig, values.isel({split: index}), name, verdicts, numeric, index, f"{split} {text}")
    if numeric and values.sizes[name] <= 8:
        # Drawing lines may have set its own.
        fig.update_xaxes(tickmode="array", tickvals=ticks, ticktext=[f"{tick:,.6g}" for tick in ticks])
    return fig


def _draw(fig: theme.Figure, values: Any, name: str, outcome: Any, numeric: bool, index: int, label: str) -> None:
    xs = values[name].values if numeric else np.array([_one_line(value) for value in values[name].values.tolist()])
    table = values.transpose(name, ...).values.reshape(len(xs), -1).astype(float)
    verdicts = outcome.transpose(name, ...).values.reshape(len(xs), -1) if outcome is not None else None
    step = max(1, table.size // _MOST_DOTS)
    places = np.repeat(np.arange(len(xs)), table.shape[1])[::step]
    flat, said = table.ravel()[::step], (verdicts.ravel()[::step] if verdicts is not None else None)
    tone = theme.color(index)
    for kind, symbol in (("holds", "circle"), ("fails", "x"), ("undecided", "circle-open"), ("", "circle")):
        chosen = np.isfinite(flat) & ((said == kind) if said is not None else np.full(flat.shape, kind == ""))
        if chosen.any():
            called = " ".join(filter(None, ["points", label, kind]))
            theme.add_data(fig, xs[places[chosen]], flat[chosen], called, size=6, tone=tone)
            fig.data[-1].update(marker={"symbol": symbol, "opacity": 0.55})
    count = np.isfinite(table).sum(1)
    keep = count > 0
    rows = [row[np.isfinite(row)] for row in table[keep]]
    mean = np.array([row.mean() for row in rows])
    spread = np.array([row.std(ddof=1) if len(row) > 1 else 0.0 for row in rows])
    low, high = mean - spread, mean + spread
    if fig.layout.yaxis.type == "log" and rows:
        # A band that reaches zero has no place on this axis.
        low = np.maximum(low, 0.5 * min(row.min() for row in rows))
    band = bool((count > 1).any())
    theme.add_measurement(
        fig, xs[keep], mean, label, low=low if band else None, high=high if band else None, markers=True, index=index
    )
    fig.data[-1].name = f"mean {label}".strip()


def _one_line(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:23]}…"


def _x_type(values: Any, name: str) -> str:
    numbers = values[name].values
    if numbers.dtype.kind not in "fiu" or len(numbers) < 2:
        return "linear"
    return (
        "log"
        if float(numbers.min()) > 0 and float(numbers.max()) / float(numbers.min()) >= 8 and name != "seed"
        else "linear"
    )


def _axis_title(values: Any, name: str) -> str:
    meaning = str(values[name].attrs.get("long_name", name))
    short = meaning.split(";")[0].split(",")[0].strip()
    return f"{name}: {short}" if short and short != name and len(short) <= 40 else name


def _means(values: Any, name: str) -> tuple[Any, Any]:
    table = values.transpose(name, ...).values.reshape(values.sizes[name], -1).astype(float)
    kept = np.isfinite(table).any(1)
    means = np.array([row[np.isfinite(row)].mean() for row in table[kept]])
    return values[name].values[kept], means


def _finding(values: Any, name: str, label: str) -> str:
    """Return what the figure shows, in words that only say what was computed."""
    xs, means = _means(values, name)
    short = label if len(label) <= 60 else f"{label[:57]}…"
    if len(means) < 2:
        return f"{short}: {means[0]:.3g}" if len(means) else short
    return f"{short}: {means[0]:.3g} at {name} {_one_line(xs[0])}, {means[-1]:.3g} at {_one_line(xs[-1])}"


def _alt(values: Any, name: str, split: str | None, rest: Sequence[str], named: str, outcome: Any) -> str:
    sentences = []
    parts = [("", values)]
    if split is not None:
        parts = [(f" for {split} {_one_line(v)}", values.isel({split: i})) for i, v in enumerate(values[split].values)]
    over = f", averaged over {' and '.join(rest)}" if rest else ""
    for place, part in parts:
        xs, means = _means(part, name)
        listed = "; ".join(f"{_one_line(x)}: {mean:.3g}" for x, mean in list(zip(xs, means, strict=True))[:12])
        sentences.append(f"{named} against {name}{place}{over}: {listed or 'nothing measured'}.")
    if outcome is not None:
        counts = {word: int((outcome.values == word).sum()) for word in _MARKS}
        sentences.append(
            "Of the points, " + ", ".join(f"{count} {_verb(word)}" for word, count in counts.items()) + "."
        )
    return " ".join(sentences)


def _verb(outcome: str) -> str:
    return {"holds": "hold", "fails": "do not hold", "undecided": "are undecided"}[outcome]


def _claims_rows(root: Any) -> list[dict[str, Any]]:
    rows = []
    for variable in root.data_vars.values():
        if variable.attrs.get("role") != "outcome":
            continue
        values = variable.values
        rows.append(
            {
                "id": variable.attrs["claim"],
                "says": variable.attrs["says"],
                "criterion": variable.attrs["criterion"],
                "expected": variable.attrs["expected"],
                "why": variable.attrs.get("why", ""),
                "counts": [
                    {"mark": mark, "text": f"{int((values == word).sum())} {_verb(word)}"}
                    for word, mark in _MARKS.items()
                    if (values == word).any()
                ],
            }
        )
    return rows


def _failures(root: Any, axes: Sequence[str]) -> list[dict[str, str]]:
    errors = root.error.values
    rows = []
    for place in np.argwhere(root.status.values == "failed")[:_MOST_FAILURES]:
        where = ", ".join(f"{name} = {root[name].values[i]}" for name, i in zip(axes, place, strict=True))
        rows.append({"where": where, "error": str(errors[tuple(place)])})
    return rows
