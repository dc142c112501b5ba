"""A small notebook that is everything a tutorial must be, for tests to break in one place at a time."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

PAPERS = frozenset({"toy-line"})
RECORD: dict[str, Any] = {"claims": {f"toy-line/{part}": {"quick": {}} for part in ("slope", "end", "middle", "dear")}}

CELLS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "markdown",
        "title",
        (),
        """
        # A line, and what it teaches

        Runs in 20 s and 700 MB.
        """,
    ),
    ("markdown", "need", (), "## Do, learn, need\n\nNothing is needed."),
    ("markdown", "predict", (), "## Predict first\n\nWhere does the line end?"),
    (
        "code",
        "parameters",
        ("parameters",),
        """
        seed: int = 0  # which random draw [0..4294967295]
        profile: str = "quick"  # how much is run {quick, full}
        device: str = "auto"  # where it is run {auto, cpu, cuda}
        points: int = 9  # points on the line [2..100]
        steep: float = 2.0  # slope of the line [0.1..10]
        shift: bool = False  # lift the line by one
        """,
    ),
    (
        "code",
        "setup",
        ("setup",),
        """
        from typing import Annotated

        import numpy as np
        import xarray as xr

        import sciviz
        from sciviz.lab import theme
        from sciviz.lab.panel import Panel, Range

        run = sciviz.start(seed=seed, profile=profile, device=device)
        """,
    ),
    ("markdown", "idea", (), "## The line\n\nIts equation is $y = a x^2$, or rather $y = a x$."),
    (
        "code",
        "line",
        (),
        """
        x = np.linspace(0.0, 1.0, points)
        line = xr.Dataset({"height": ("place", steep * x + shift)}, {"place": x})
        line.height.attrs = {"long_name": "height", "units": "m"}
        line.place.attrs = {"long_name": "place", "units": "m"}
        run.record("line", line);
        """,
    ),
    (
        "code",
        "check",
        ("nbval-check-output",),
        """
        sciviz.check_close(np.ones(2), np.ones(2), what="the two ways")
        """,
    ),
    (
        "code",
        "figure",
        (),
        """
        fig = theme.figure(title="The line climbs", alt="A line that climbs.", x="Place (m)", y="Height (m)")
        theme.add_measurement(fig, line.place, line.height, "line")
        """,
    ),
    (
        "code",
        "claims-live",
        (),
        """
        slope = float(np.polyfit(line.place, line.height, 1)[0])
        run.claim(
            "toy-line/slope",
            says="the line climbs",
            measured=slope,
            holds=slope > 0,
            criterion="slope above 0, 1 seed",
            seeds=1,
        )
        run.claim(
            id="toy-line/end",
            says="the line ends below its start",
            measured=float(line.height[-1] - line.height[0]),
            holds=bool(line.height[-1] < line.height[0]),
            criterion="end below start, 1 seed",
            expected="fails",
            why="it climbs",
        )
        run.claim("toy-line/middle", says="s", measured=None, holds=None, criterion="c", expected="undecided", why="w");
        """,
    ),
    (
        "code",
        "claims-dear",
        (),
        """
        if run.profile == "full":
            run.claim("toy-line/dear", says="s", measured=1.0, holds=True, criterion="c")
        else:
            run.recall("toy-line/dear")
        """,
    ),
    (
        "code",
        "large",
        ("gpu",),
        """
        if run.gpu("a line of a billion points", record="toy-line/large"):
            run.claim("toy-line/large", says="s", measured=1.0, holds=True, criterion="c")
        """,
    ),
    (
        "code",
        "explorer",
        ("explorer",),
        """
        def climb(slope: Annotated[float, Range(0.5, 4.0, step=0.5, label="Slope")] = 1.0):
            return slope


        def draw(slope):
            fig = theme.figure(title=f"Slope {slope:.1f}", alt=f"A line of slope {slope:.1f}.", x="x", y="y", height=260)
            return theme.add_measurement(fig, x, slope * x, "line", active=True)


        Panel(climb, draw, title="Climb", describe=lambda slope: f"The line ends at {slope:.1f}.")
        """,
    ),
    ("markdown", "exercises", (), "## Exercises\n\nDouble a number."),
    (
        "code",
        "exercise-1",
        ("exercise",),
        """
        def double(number):
            return ...
        """,
    ),
    (
        "code",
        "exercise-1-check",
        ("exercise",),
        """
        run.exercise(
            "1. Double",
            double,
            [
                (lambda f: f(0) == 0, "Twice nothing is nothing."),
                (lambda f: f(3) == 6, "Three becomes six; did you square it?"),
            ],
        )
        """,
    ),
    (
        "markdown",
        "exercise-1-solution",
        ("solution",),
        """
        <details><summary>Solution</summary>

        ```python
        def double(number):
            return 2 * number
        ```

        </details>
        """,
    ),
    ("markdown", "breaks", (), "## Where it breaks\n\nOn curves. ![A curve](curve.png)"),
    ("markdown", "own", (), "## Bring your own line\n\nGive it points."),
    ("markdown", "claims", (), "## The claims\n\nAs measured here."),
    ("code", "claims-table", (), "run.claims_table()"),
    ("markdown", "recap", (), "## Recap\n\nA line climbs."),
    ("markdown", "next", (), "## What to try next\n\nTwo lines."),
    ("markdown", "references", (), "## References\n\nNone."),
    ("code", "stamp", (), "run.stamp()"),
)
ANSWERS = """
[[exercise]]
title = "1. Double"
wrong = [
'''
def double(number):
    return number + 2
''',
'''
def double(number):
    return number**2
''',
]
"""
# One black dot.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
_STORED = "the two ways agree: largest difference 0 (allowed 0 + 1e-05 · |expected|)\n"


def good() -> Any:
    """Return the whole notebook, as it would be committed."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "sciviz": {"budget": {"seconds": 20, "memory_mb": 700}},
        }
    )
    notebook.cells = [make_cell(*cell) for cell in CELLS]
    checked = cell(notebook, "check")
    checked.execution_count = 1
    checked.outputs = [nbformat.v4.new_output("stream", name="stdout", text=_STORED)]
    return notebook


def make_cell(kind: str, id: str, tags: tuple[str, ...], source: str) -> Any:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    made = make(textwrap.dedent(source).strip(), id=id)
    if tags:
        made.metadata["tags"] = list(tags)
    return made


def small(*code: str) -> Any:
    """Return a notebook of a parameters cell, a setup cell, and these."""
    notebook = good()
    notebook.cells = [cell(notebook, "parameters"), cell(notebook, "setup")]
    notebook.cells += [make_cell("code", f"cell-{place}", (), source) for place, source in enumerate(code)]
    return notebook


def cell(notebook: Any, id: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == id)


def broken(change: Callable[[Any], Any]) -> Any:
    """Return the good notebook after one change to it."""
    notebook = good()
    change(notebook)
    return notebook


def write(notebook: Any, path: Path) -> Path:
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return path
