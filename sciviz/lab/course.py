"""The map of the course, and a check that the reader's own set-up can run it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from typing import Any

import nbformat
import numpy as np
import torch

from sciviz.lab import claims, runtime, theme
from sciviz.lab.places import tutorials


@dataclass(frozen=True)
class Chapter:
    """One tutorial on the map: what it teaches, what it needs, and what it costs to run.

    Attributes
    ----------
    needs
        Wings that come before it.
    seconds, memory_mb
        The budget it declares for the quick profile on two CPU cores.
    """

    number: int
    wing: str
    stem: str
    title: str
    needs: tuple[str, ...]
    seconds: int
    memory_mb: int


def chapters() -> list[Chapter]:
    """List the tutorials with what their notebooks say of themselves, in the order of the course.

    >>> chapters()[0].wing
    'ntk'
    """
    found = []
    for tutorial in tutorials():
        said = nbformat.read(tutorial.path, as_version=4).metadata["sciviz"]
        budget = said["budget"]
        found.append(
            Chapter(
                tutorial.number or 0,
                tutorial.wing,
                tutorial.stem,
                said["title"],
                tuple(said["needs"]),
                budget["seconds"],
                budget["memory_mb"],
            )
        )
    return found


def plot_course_map(course: list[Chapter] | None = None) -> theme.Figure:
    """Draw the course: one box a tutorial, an arrow from each to those that build on it."""
    course = chapters() if course is None else course
    depth: dict[str, int] = {}

    def place(wing: str) -> int:
        if wing not in depth:
            needs = next((chapter.needs for chapter in course if chapter.wing == wing), ())
            known = [place(need) for need in needs if any(chapter.wing == need for chapter in course)]
            depth[wing] = 1 + max(known, default=0)
        return depth[wing]

    columns: dict[int, list[Chapter]] = {}
    for chapter in course:
        columns.setdefault(place(chapter.wing), []).append(chapter)
    most = max((len(rows) for rows in columns.values()), default=1)
    spot = {"": (0.0, (most - 1) / 2)}
    for column, rows in columns.items():
        for row, chapter in enumerate(rows):
            spot[chapter.wing] = (float(column), most - 1 - row - (most - len(rows)) / 2)
    steps = [f"{c.number}. {c.title}" + (f" (after {', '.join(c.needs)})" if c.needs else "") for c in course]
    fig = theme.figure(
        title="Start anywhere that an arrow from “Start here” reaches",
        alt="A map of the course, read from left to right. " + "; ".join(steps) + ".",
        height=max(220, 110 + 90 * most),
    )
    for chapter in course:
        x1, y1 = spot[chapter.wing]
        for need in [need for need in chapter.needs if need in spot] or [""]:
            x0, y0 = spot[need]
            fig.add_annotation(
                x=x1 - 0.33, y=y1, ax=x0 + 0.33, ay=y0, xref="x", yref="y", axref="x", ayref="y",
                showarrow=True, arrowhead=3, arrowwidth=1.6, arrowcolor=theme.MUTED, text="",
            )  # fmt: skip
    _box(fig, spot[""], "<b>Start here</b><br>you are here", theme.ACTIVE)
    for chapter in course:
        minutes = f"about {max(1, round(chapter.seconds / 60))} min to run, {chapter.memory_mb / 1000:.1f} GB"
        _box(fig, spot[chapter.wing], f"<b>{chapter.number} · {chapter.title}</b><br>{minutes}", theme.INK)
    fig.update_xaxes(visible=False, range=[-0.5, max(columns, default=0) + 0.5])
    fig.update_yaxes(visible=False, range=[-0.6, most - 0.4])
    fig.update_layout(margin={"l": 20, "r": 20, "t": 58, "b": 16})
    return fig


def _box(fig: theme.Figure, spot: tuple[float, float], text: str, tone: str) -> None:
    fig.add_annotation(
        x=spot[0], y=spot[1], text=text, showarrow=False, bordercolor=tone, borderwidth=1.6, borderpad=8,
        bgcolor="#ffffff", font={"size": 13, "color": theme.INK},
    )  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What this machine has, and whether that is enough for the course."""

    rows: tuple[tuple[str, str, bool], ...]

    @property
    def ready(self) -> bool:
        """Whether every row is as it should be."""
        return all(good for _, _, good in self.rows)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        mark = {True: "✓", False: "✗"}
        lines = "".join(
            f"<li style='list-style:none'><strong style='color:{'#1b6e3c' if good else '#b3261e'}'>{mark[good]}</strong> "
            f"{name}: {value}</li>"
            for name, value, good in self.rows
        )
        verdict = "Your set-up is ready." if self.ready else "Something is missing: see the rows marked ✗."
        return {
            "text/html": f"<div style='{claims._CARD}'><strong>{verdict}</strong>"
            f"<ul style='margin:6px 0;padding:0'>{lines}</ul></div>",
            "text/plain": "\n".join([verdict, *(f"{mark[good]} {name}: {value}" for name, value, good in self.rows)]),
        }


def check_setup() -> Setup:
    """Check Python, the packages, the memory and the device of this machine.

    >>> check_setup().ready
    True
    """
    rows = [("Python", platform.python_version(), sys.version_info >= (3, 11))]
    for name in ("jupyterlab", "ipywidgets", "anywidget", "plotly", "torch", "xarray", "papermill"):
        try:
            rows.append((name, importlib.metadata.version(name), True))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, "not installed; run `make lab` again", False))
    free = _free_memory_gb()
    if free is not None:
        rows.append(("Memory free", f"{free:.1f} GB (a tutorial takes up to 1.5)", free >= 1.5))
    rows.append(("Processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads", True))
    found = torch.cuda.is_available()
    device = (
        runtime.device_name(torch.device("cuda")) if found else "no CUDA device: nothing in the course depends on one"
    )
    rows.append(("GPU", device, True))
    return Setup(tuple(rows))


def _free_memory_gb() -> float | None:
    import psutil

    return float(psutil.virtual_memory().available) / 1e9


def setup_figure() -> theme.Figure:
    """Return a figure in the course's visual grammar, with each of its signs explained by its own label."""
    x = np.linspace(0, 4, 80)
    truth = np.exp(-x)
    rng = np.random.default_rng(0)
    runs = truth + 0.06 * rng.standard_normal((6, 1)) + 0.02 * rng.standard_normal((6, 80)).cumsum(1) / 4
    fig = theme.figure(
        title="Theory is dashed, measurements are solid with a band, data are dots",
        alt="An example of the course's figures: a dashed theory curve falls exponentially; a solid measured curve with "
        "a band for its spread over six runs follows it; dots are data; a grey line is a baseline.",
        x="Time (s)",
        y="Amplitude (V)",
    )
    theme.add_measurement(fig, x, runs.mean(0), "measured, 6 runs", low=runs.min(0), high=runs.max(0))
    theme.add_theory(fig, x, truth, "theory")
    theme.add_baseline(fig, x, np.full_like(x, 0.5), "baseline")
    theme.add_data(fig, x[::8], runs[0, ::8], "data")
    return fig
