"""The grid of a sweep: its axes as the command line gives them, its points, their keys, and the order to run them in."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciviz.reports.parameters import Parameter, check_parameters

_DATA = ("xarray", "h5netcdf")
_PICTURES = ("plotly.graph_objects", "IPython.display", "sciviz.lab.theme")
_SAFE: dict[str, tuple[str, ...]] = {
    "sciviz": ("sciviz.lab.runtime",),
    "xarray|record|experiments": _DATA,
    "plotly|theme|figures": _PICTURES,
    "explorer|panel": (*_PICTURES, "ipywidgets", "sciviz.lab.panel"),
    "scipy": ("scipy",),
}
_WINGS = ("ntk", "flow", "kan", "hopfield", "snn", "ode")


def parse_grid(known: Sequence[Parameter], specifications: Sequence[str]) -> dict[str, list[Any]]:
    """Read axes as the command line gives them; `check_grid` then reads the words in their parameters' types.

    `width=64,256,1024` lists values, `seed=0:8` counts from 0 to 7 (and `seed=0:8:2` in steps of 2), and
    `name=["a,b", "c"]` is a list in brackets, for values that hold commas.

    Raises
    ------
    ValueError
        One sentence on the first that does not fit.

    >>> parse_grid([Parameter("width", "int", 64), Parameter("seed", "int", 0)], ["width=64,256", "seed=0:3"])
    {'width': ['64', '256'], 'seed': [0, 1, 2]}
    """
    types = {parameter.name: parameter.type for parameter in known}
    found: dict[str, list[Any]] = {}
    for text in specifications:
        name, sign, values = text.partition("=")
        name = name.strip()
        if not sign or not name:
            raise ValueError(f"--grid takes NAME=VALUES, as in width=64,256 or seed=0:8, got {text!r}.")
        if name in found:
            raise ValueError(f"--grid {name} is given twice.")
        counted = re.fullmatch(r"\s*(-?\d+):(-?\d+)(?::(-?\d+))?\s*", values) if types.get(name) == "int" else None
        if counted:
            first, last, step = int(counted[1]), int(counted[2]), int(counted[3] or 1)
            if step == 0:
                raise ValueError(f"--grid {name} counts in steps of 0, which never ends.")
            if len(range(first, last, step)) > 1_000_000:
                raise ValueError(f"--grid {name} counts more than a million values.")
            found[name] = list(range(first, last, step))
        elif values.lstrip().startswith("["):
            try:
                found[name] = list(ast.literal_eval(values.strip()))
            except (ValueError, SyntaxError, TypeError):
                raise ValueError(f"--grid {name} holds a list that is not Python, {values!r}.") from None
        else:
            found[name] = values.split(",")
    return found


def check_grid(
    known: Sequence[Parameter], grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Return the axes with their values in the parameters' types, each checked as a parameter is.

    Raises
    ------
    ValueError
        If there is no axis, one is empty or also given as a fixed parameter, holds a value twice or one that the
        parameter does not take.
    """
    if not grid:
        raise ValueError("a sweep needs at least one axis, as in --grid width=64,256,1024.")
    checked: dict[str, list[Any]] = {}
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence | range | np.ndarray):
            raise ValueError(f"axis {name} takes a list of values, got {values!r}.")
        plain = [value.item() if isinstance(value, np.generic) else value for value in values]
        if not plain:
            raise ValueError(f"axis {name} holds no value.")
        if name in fixed:
            raise ValueError(f"parameter {name} is given both as an axis and as a fixed value.")
        read = [check_parameters(list(known), {name: value})[name] for value in plain]
        if any(not isinstance(value, (bool, int, float, str)) for value in read):
            raise ValueError(f"axis {name} takes numbers, words or true and false, got {read[0]!r}.")
        if len(set(read)) < len(read):
            twice = next(value for i, value in enumerate(read) if value in read[:i])
            raise ValueError(f"axis {name} holds {twice!r} twice.")
        checked[name] = read
    return checked


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the points of a grid, the last axis moving fastest.

    >>> points_of({"width": [64, 256], "seed": [0, 1]})[1]
    {'width': 64, 'seed': 1}
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def notebook_digest(notebook: Any) -> str:
    """Return a digest of what a notebook runs: the code of its cells, in order, and nothing else."""
    digest = hashlib.sha256()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tag = "parameters" if "parameters" in cell["metadata"].get("tags", []) else ""
            digest.update(json.dumps([tag, cell["source"]]).encode())
    return digest.hexdigest()[:16]


def wings_of(notebook: Any) -> tuple[str, ...]:
    """Return the sub-packages that a notebook's code names; `flow` integrates with `ode`."""
    code = "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    found = {wing for wing in _WINGS if re.search(rf"\b{wing}\b", code)}
    return tuple(sorted(found | ({"ode"} if "flow" in found else set())))


def imports_of(notebook: str, wings: Sequence[str]) -> tuple[str, ...]:
    r"""Return what a kernel may have imported before it runs a notebook: what its text names of what is known to be safe.

    An import may have effects, so no module of the user's is among them.

    >>> imports_of("import torch\nfrom sciviz import ntk", ["ntk"])
    ('torch', 'numpy', 'sciviz.lab.runtime', 'sciviz.ntk')
    """
    found = ["torch"] if re.search(r"\b(torch|sciviz)\b", notebook) else []
    found.append("numpy")
    for word, modules in _SAFE.items():
        if re.search(rf"\b(?:{word})\b", notebook):
            found += modules
    return (*dict.fromkeys(found), *(f"sciviz.{wing}" for wing in wings))


def package_digest(wings: Sequence[str]) -> str:
    """Return a digest of the bench and of these sub-packages, by the rule of the record: syntax, and nothing that draws."""
    from sciviz.lab.claims import package_hash

    root = Path(__file__).resolve().parents[1]
    found = [f"{folder}:{package_hash(root / folder)}" for folder in ("lab", *wings)]
    return hashlib.sha256(" ".join(found).encode()).hexdigest()[:12]


def key_of(notebook: str, package: str, parameters: Mapping[str, Any]) -> str:
    """Return the name under which a point's result is kept.

    >>> key_of("a", "0.1.0", {"seed": 1}) == key_of("a", "0.1.0", {"seed": 1})
    True
    >>> key_of("a", "0.1.0", {"seed": 1}) == key_of("a", "0.1.0", {"seed": 1.0})
    False
    """
    content = json.dumps([notebook, package, parameters], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


class Durations:
    """Guesses how long each point takes, from those that are done.

    The logarithm of the time is taken to be a sum of one term an axis: a slope for numbers (on a logarithmic scale)
    and an offset for words. Before anything is known, larger numbers are taken to last longer; a seed says nothing.

    >>> guess = Durations({"width": [64, 1024], "seed": [0, 1]})
    >>> guess.longest_first([{"width": 64, "seed": 0}, {"width": 1024, "seed": 0}])
    [1, 0]
    """

    def __init__(self, grid: Mapping[str, Sequence[Any]]) -> None:
        self._axes: list[tuple[str, Any]] = []
        before = [0.0]
        for name, values in grid.items():
            numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
            if numbers:
                self._axes.append((name, None))
                before.append(0.0 if name == "seed" else 1.0)
            else:
                self._axes += [(name, value) for value in values]
                before += [0.0] * len(values)
        self._before = np.array(before)
        self._rows: list[list[float]] = []
        self._logs: list[float] = []

    def _row(self, point: Mapping[str, Any]) -> list[float]:
        terms = [
            math.copysign(math.log1p(abs(point[name])), point[name]) if word is None else float(point[name] == word)
            for name, word in self._axes
        ]
        return [1.0, *terms]

    def add(self, point: Mapping[str, Any], seconds: float) -> None:
        """Learn how long a point took."""
        self._rows.append(self._row(point))
        self._logs.append(math.log(max(seconds, 1e-3)))

    def longest_first(self, points: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the points' places, the longest first; equals stay in their order."""
        weights = self._before
        if self._rows:
            rows, logs = np.array(self._rows), np.array(self._logs)
            # The guess from before counts as much as a tenth of one point.
            left = rows.T @ rows + 0.1 * np.eye(rows.shape[1])
            weights = self._before + np.linalg.solve(left, rows.T @ (logs - rows @ self._before))
        expected = np.array([self._row(point) for point in points]) @ weights
        return [int(i) for i in np.argsort(-expected, kind="stable")]
