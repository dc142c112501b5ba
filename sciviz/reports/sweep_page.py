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
            if _shown(values):
                fig = _figure(values, axes, outcome)
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


def _shown(values: Any) -> bool:
    return bool(np.isfinite(values.values.astype(float)).any())


def _figure(values: Any, axes: Sequence[str], outcome: Any) -> theme.Figure:
    """Draw one quantity against each axis: dots are points of the grid, the band is their spread over all other axes."""
    varied = [name for name in axes if values.sizes[name] > 1] or list(axes[:1])
    # A seed is no cause: its axis is worth a panel only where there is no other.
    panels = [name for name in varied if name != "seed"] or varied
    panels = panels[:3]
    label = theme.axis_title(values)
    finite = values.values[np.isfinite(values.values.astype(float))].astype(float)
    positive = bool((finite > 0).all()) and finite.max() / max(finite.min(), 1e-300) > 30
    others = {name: [other for other in varied if other != name] for name in panels}
    fig = theme.figure(
        title=_finding(values, panels[0], str(values.attrs.get("label", label))),
        subtitle="" if outcome is None else "dots: ● holds  ✕ does not  ○ undecided",
        alt=_alt(values, panels, others, str(values.attrs.get("label", label)), outcome),
        x=_axis_title(values, panels[0]),
        y=label,
        x_type=_x_type(values, panels[0]),
        y_type="log" if positive else "linear",
    )
    if len(panels) > 1:
        theme.columns(fig, *((f"Against {name}", _axis_title(values, name), label) for name in panels))
        if outcome is not None:
            fig.update_layout(margin={"t": 128})
    # Nothing is written at the ends of lines here.
    fig.update_layout(margin={"r": 24})
    for column, name in enumerate(panels, start=1):
        axis = fig.layout[f"xaxis{'' if column == 1 else column}"]
        numeric = values[name].dtype.kind in "fiu"
        axis.type = _x_type(values, name) if numeric else "category"
        _draw(fig, values, name, others[name], outcome, column, numeric)
    return fig


def _draw(
    fig: theme.Figure, values: Any, name: str, others: list[str], outcome: Any, column: int, numeric: bool
) -> None:
    xs = values[name].values if numeric else np.array([str(value) for value in values[name].values.tolist()])
    table = values.transpose(name, ...).values.reshape(len(xs), -1).astype(float)
    verdicts = outcome.transpose(name, ...).values.reshape(len(xs), -1) if outcome is not None else None
    step = max(1, table.size // _MOST_DOTS)
    places = np.repeat(np.arange(len(xs)), table.shape[1])[::step]
    flat, said = table.ravel()[::step], (verdicts.ravel()[::step] if verdicts is not None else None)
    for kind, symbol in (("holds", "circle"), ("fails", "x"), ("undecided", "circle-open"), ("", "circle")):
        chosen = np.isfinite(flat) & ((said == kind) if said is not None else np.full(flat.shape, kind == ""))
        if chosen.any():
            theme.add_data(fig, xs[places[chosen]], flat[chosen], f"points {kind}".strip(), size=6, column=column)
            fig.data[-1].update(marker={"symbol": symbol, "opacity": 0.55})
    with np.errstate(all="ignore"):
        count = np.isfinite(table).sum(1)
        keep = count > 0
        mean = np.array([row[np.isfinite(row)].mean() if n else np.nan for row, n in zip(table, count, strict=True)])
        spread = np.array(
            [row[np.isfinite(row)].std(ddof=1) if n > 1 else 0.0 for row, n in zip(table, count, strict=True)]
        )
    low, high = mean - spread, mean + spread
    if fig.layout[f"yaxis{'' if column == 1 else column}"].type == "log":
        low = np.maximum(low, np.nanmin(np.where(table > 0, table, np.nan)) * 0.5)
    band = bool((count > 1).any())
    theme.add_measurement(
        fig,
        xs[keep],
        mean[keep],
        low=low[keep] if band else None,
        high=high[keep] if band else None,
        markers=True,
        column=column,
    )
    fig.data[-1].name = f"mean over {', '.join(others)}" if others else "value"


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
    return f"{short}: {means[0]:.3g} at {name} {xs[0]}, {means[-1]:.3g} at {xs[-1]}"


def _alt(values: Any, panels: Sequence[str], others: dict[str, list[str]], label: str, outcome: Any) -> str:
    sentences = []
    for name in panels:
        xs, means = _means(values, name)
        listed = "; ".join(f"{x}: {mean:.3g}" for x, mean in list(zip(xs, means, strict=True))[:12])
        over = f", averaged over {' and '.join(others[name])}" if others[name] else ""
        sentences.append(f"{label} against {name}{over}: {listed}.")
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
