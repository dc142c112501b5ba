"""The figures of the Hopfield wing: each draws what its data set holds, says so, and follows the visual grammar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from sciviz.hopfield import experiments, figures
from sciviz.hopfield.canvas import HIDDEN, DigitCanvas
from sciviz.lab import theme

SMALL: dict[str, Callable[[], xr.Dataset]] = {
    "plot_one_step": lambda: experiments.one_step_retrieval(seed=0, num_seeds=2, num_stored=200, num_queries=10),
    "plot_collapse": lambda: experiments.classical_collapse(seed=0, num_seeds=2, size=60, loads=(0.05, 0.2, 0.4)),
    "plot_phases": lambda: experiments.classical_phases(loads=[0.02, 0.1]),
    "plot_dense_capacity": lambda: experiments.dense_capacity(seed=0, num_seeds=2, sizes=(12, 16)),
    "plot_modern_capacity": lambda: experiments.modern_capacity(seed=0, num_seeds=2, dimensions=(4, 6), most=2**9),
    "plot_retrieval_error": lambda: experiments.retrieval_error(seed=0, num_seeds=2, num_stored=20),
    "plot_fixed_points": lambda: experiments.fixed_points(seed=0, num_seeds=2, betas=[0.1, 8.0, 100.0]),
    "plot_examples": lambda: experiments.learning_from_examples(
        seed=0, num_seeds=2, num_examples=(5, 50), num_queries=5
    ),
    "plot_multitasking": lambda: experiments.multitasking(seed=0, num_seeds=2, size=1000, dilutions=(0.0, 0.3)),
    "plot_false_matches": lambda: experiments.false_matches(
        seed=0, num_seeds=1, dimensions=(256, 384), thresholds=(10,), num_codes=300
    ),
    "plot_sparsey": lambda: experiments.sparsey_codes(seed=0, num_seeds=2, num_stored=30, num_test=30),
    "plot_bags": lambda: experiments.bag_pooling(
        seed=0, num_seeds=2, relevant=(1, 3), num_train=16, num_test=16, num_steps=1
    ),
    "plot_hidden_digits": lambda: experiments.hidden_digits(seed=0, num_seeds=2, num_stored=(3, 6), num_queries=3),
    "plot_glass": lambda: experiments.glass_entropies(temperatures=[0.5, 0.9]),
    "plot_few_shot": lambda: experiments.few_shot(seed=0, num_seeds=2, num_steps=2, num_test=10, record_every=1),
    "plot_hulls": lambda: experiments.compare_hulls([torch.rand(n, 2) for n in (5, 9)], [[0, 1, 2], [3, 4, 5]]),
    "plot_hull_training": lambda: experiments.convex_hulls(
        seed=0, num_seeds=2, num_steps=2, num_records=2, num_test=20
    ),
    "plot_energy_surface": lambda: experiments.energy_surface([[1.0, 0.0], [-1.0, 0.0]], 8.0, num_grid=11),
}


def test_every_figure_is_tested() -> None:
    assert {name for name in vars(figures) if name.startswith("plot_")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_figure_draws_its_data(name: str) -> None:
    ds = SMALL[name]()
    fig: Any = getattr(figures, name)(ds)
    assert len(theme.alt_text(fig)) > 80
    assert fig.layout.title.text
    drawn = [np.asarray(v, dtype=float).ravel() for t in fig.data for v in (t.x, t.y, t.z if "z" in t else None)
             if v is not None and np.asarray(v).dtype.kind in "fiu"]  # fmt: skip
    seen = np.concatenate(drawn)
    assert np.isfinite(seen).all()
    colors = {
        t.line.color for t in fig.data if t.type == "scatter" and t.mode and "lines" in t.mode and t.line.dash in DASHED
    }
    assert colors <= {theme.INK}, "theory is dashed ink"


DASHED = ("dash",)


def test_energy_surface_marks_each_kind() -> None:
    cold = figures.plot_energy_surface(experiments.energy_surface([[1.0, 0.0], [-1.0, 0.0]], 8.0, num_grid=11))
    warm = figures.plot_energy_surface(experiments.energy_surface([[1.0, 0.0], [-1.0, 0.0]], 0.5, num_grid=11))
    marked = [{t.name: len(t.x) for t in fig.data if "fixed" in str(t.name)} for fig in (cold, warm)]
    assert marked[0] == {
        "fixed points: one pattern": 2,
        "fixed points: mean of some": 0,
        "fixed points: mean of all": 0,
    }
    assert marked[1]["fixed points: mean of all"] == 1
    assert sum(marked[1].values()) == 1


def test_hulls_of_trained_networks_stand_side_by_side() -> None:
    ds = experiments.convex_hulls(seed=0, num_seeds=1, num_steps=2, num_records=1, num_test=20, width=8)
    fig = figures.plot_hulls(ds)
    headings = [a.text for a in fig.layout.annotations]
    assert len(headings) == 2 and "pointing" in headings[0] and "fixed vocabulary" in headings[1]


def test_symmetric_glass_is_two_solutions_without_a_line_between() -> None:
    fig = figures.plot_glass(experiments.glass_entropies(temperatures=[0.5, 0.55, 0.8, 0.9]))
    parts = {t.name: list(t.x) for t in fig.data if "symmetric" in str(t.name)}
    assert parts == {"symmetric, q = 0": [0.9, 0.8], "symmetric, q > 0": [0.55, 0.5]}


def test_canvas_by_selector_and_sliders() -> None:
    canvas = DigitCanvas([[0.5] * 64, [0.25] * 64], hidden_rows=2)
    assert canvas.value == (0.5,) * 48 + (HIDDEN,) * 16
    canvas.start.value, canvas.cover.value = 1, 0
    assert canvas.value == (0.25,) * 64
    canvas.tool.value, canvas.row.value, canvas.column.value = "hide", 2, 3
    canvas.apply.click()
    assert canvas.value.index(HIDDEN) == 8 + 2
    assert list(canvas.value) == canvas.pixels.value


def test_canvas_by_pointer() -> None:
    canvas = DigitCanvas([[0.0] * 64], hidden_rows=0)
    painted = [0.0] * 64
    painted[9] = 1.0
    canvas.pixels.value = painted
    canvas.pixels.row = 5
    assert canvas.value == tuple(painted)
    assert canvas.row.value == 6


@pytest.mark.parametrize("wrong", [[0.0] * 63, [0.0] * 63 + [1.5], [0.0] * 63 + [float("nan")]])
def test_canvas_refuses(wrong: list[float]) -> None:
    canvas = DigitCanvas([[0.0] * 64])
    with pytest.raises(Exception, match=r"a drawing must|a pixel must"):
        canvas.value = wrong


def test_canvas_needs_a_picture() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        DigitCanvas([])
