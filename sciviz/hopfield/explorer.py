"""Explorers of the Hopfield wing: controls → an experiment → a figure."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import xarray as xr

from sciviz.hopfield import experiments, theory
from sciviz.hopfield.canvas import HIDDEN, DigitCanvas
from sciviz.hopfield.figures import plot_energy_surface
from sciviz.hopfield.memories import ClassicalMemory, random_patterns
from sciviz.lab import data, theme
from sciviz.lab.drag import DragPoints
from sciviz.lab.panel import Choices, Panel, Range

Memories = Literal["classical", "pseudo-inverse", "dense, order 4", "exponential", "modern"]
_STEPS = 8


class _Settling(NamedTuple):
    """What the digit explorer draws: a cue, where it led, and the step at which the reader stands."""

    cue: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]
    energy: np.ndarray[Any, Any]
    nearest: np.ndarray[Any, Any]
    cosine: float
    step: int
    memory: str
    beta: float


def explore_digits(*, seed: int = 0, X: Any = None) -> Panel:
    """Explore what memories make of a digit that is drawn or half hidden, step by step, with the energy beside it.

    Parameters
    ----------
    seed
        Decides which digits are stored, and with what hidden pixels begin.
    X
        Pictures of your own, (num, 64) in [0, 1], at least ten, in place of the digits.

    Returns
    -------
    A panel with a canvas to draw on and controls for memory, number stored, inverse temperature and step.

    Raises
    ------
    ValueError
        If your pictures are not (num, 64).
    """
    if X is None:
        digits = data.load_digits(seed=seed, num_train=200)
        images = torch.tensor(digits.X.values[:200], dtype=torch.float32)
    else:
        images = torch.as_tensor(X, dtype=torch.float32)
        if images.ndim != 2 or images.shape[1] != 64 or len(images) < 10:
            raise ValueError(f"X must have shape (num, 64) with num at least 10, got {tuple(images.shape)}.")
    canvas = DigitCanvas(images[:5].tolist())
    noise = random_patterns(1, 64, seed=seed)[0]

    @lru_cache(maxsize=32)
    def settle(cue: tuple[float, ...], name: str, num_stored: int, beta: float) -> tuple[Any, ...]:
        drawn = torch.tensor(cue)
        hidden = drawn == HIDDEN
        stored = experiments.encode_images(images[:num_stored], name)
        if name == "modern":
            begin = torch.nn.functional.normalize(torch.where(hidden, 0.0, drawn - 0.5), dim=-1)
            begin = begin * (~hidden).float().mean().sqrt()
        else:
            begin = torch.where(hidden, noise, torch.where(drawn > 0.5, 1.0, -1.0))
        memory = experiments.make_memory(name, beta=beta, seed=seed % 2**31).store(stored)
        path = memory.retrieve(begin[None], max_steps=_STEPS, tolerance=1e-5, keep_path=True).path
        assert path is not None
        states = path[:, 0]
        # One length for every cue: what is not moving any more stays as it is.
        states = torch.cat([states, states[-1:].expand(_STEPS + 1 - len(states), -1)])[: _STEPS + 1]
        similar = torch.nn.functional.cosine_similarity(states[:, None], stored[None], dim=-1)
        near = similar.argmax(1)
        return (
            states.numpy(),
            memory.energy(states).numpy(),
            images[near].numpy(),
            float(similar[-1].max()),
        )

    def compute(
        cue: tuple[float, ...] = (),
        memory: Annotated[Memories, Choices("Memory")] = "modern",
        num_stored: Annotated[int, Range(2, 200, log=True, label="Digits stored")] = 16,
        beta: Annotated[float, Range(1.0, 200.0, log=True, step=12, label="β")] = 40.0,
        step: Annotated[int, Range(0, _STEPS, label="Step", play=True)] = 1,
    ) -> _Settling:
        states, energy, nearest, cosine = settle(tuple(cue), memory, min(num_stored, len(images)), float(beta))
        shown = np.array(cue, dtype=float)
        shown[shown == HIDDEN] = 0.35
        return _Settling(shown, states, energy, nearest, cosine, step, memory, beta)

    return Panel(
        compute,
        _draw_digits,
        title="Half a digit in, a whole one out",
        describe=_describe_digits,
        hint="Draw or hide pixels on the canvas, or use the selector and sliders beside it. Then store more, and lower β.",
        controls={"cue": canvas},
    )


def _describe_digits(now: _Settling) -> str:
    moved = int((np.abs(np.diff(now.states, axis=0)).max(1) > 1e-3).sum())
    return (
        f"The {now.memory} memory moves for {moved} step{'s' if moved != 1 else ''}; its energy goes from "
        f"{now.energy[0]:.3g} to {now.energy[-1]:.3g}. The end's cosine with the nearest stored digit is {now.cosine:.2f}."
    )


@lru_cache(maxsize=1)
def _digit_layout() -> dict[str, Any]:
    """What no move changes: plotly takes longer to check it than all the rest of a drawing takes."""
    fig = theme.figure(title="-", alt="-", height=330)
    theme.columns(
        fig,
        ("Cue", "", ""),
        ("State", "", ""),
        ("Nearest stored", "", ""),
        ("Energy", "Step", ""),
        widths=(1.0, 1.0, 1.0, 1.5),
        gap=0.06,
    )
    layout: dict[str, Any] = {"margin": {"l": 24, "r": 24}}
    for end in ("", "2", "3"):
        bare = {"showticklabels": False, "ticks": "", "constrain": "domain"}
        layout[f"yaxis{end}"] = {**bare, "autorange": "reversed", "scaleanchor": f"x{end}"}
        layout[f"xaxis{end}"] = bare
    fig.update_layout(layout)
    kept: dict[str, Any] = fig.layout.to_plotly_json()
    return kept


def _draw_digits(now: _Settling) -> theme.Figure:
    layout = deepcopy(_digit_layout())
    layout["title"]["text"] = f"{now.memory.capitalize()} memory after {now.step} step{'s' if now.step != 1 else ''}"
    layout["annotations"][1]["text"] = f"<b>State, step {now.step}</b>"
    layout["meta"] = {
        "alt": f"Left: the cue. Then the state of the {now.memory} memory after {now.step} steps, and the stored digit nearest "
        f"to it. Right: the energy, from {now.energy[0]:.3g} to {now.energy[-1]:.3g} over {_STEPS} steps."
    }
    fig = theme.Figure(layout=layout)
    state = now.states[now.step]
    span = max(float(np.abs(now.states).max()), 1e-6)
    pictures = ((now.cue, 0.0, 1.0), (state, -span, span), (now.nearest[now.step], 0.0, 1.0))
    for column, (picture, low, high) in enumerate(pictures, start=1):
        theme.add_heatmap(
            fig, picture.reshape(8, 8), title=("cue", "state", "nearest stored")[column - 1], column=column
        )
        fig.data[-1].update(showscale=False, zmin=low, zmax=high)
    steps = np.arange(_STEPS + 1)
    theme.add_measurement(fig, steps, now.energy, "", shade=theme.MUTED, markers=True, column=4)
    fig.data[-1].name = "energy"
    theme.add_data(fig, [now.step], [now.energy[now.step]], "this step", tone=theme.ACTIVE, size=13, column=4)
    return fig


def explore_surface(*, patterns: Any = None) -> Panel:
    """Explore the modern memory's energy over the plane: move patterns and β, and watch valleys split and merge.

    Parameters
    ----------
    patterns
        Where the patterns are at first, (num, 2) within ±1.5; two pairs and one more if left out.

    Returns
    -------
    A panel with draggable patterns and a control for the inverse temperature.
    """
    first = [(-0.9, 0.6), (-0.6, 0.9), (0.9, 0.6), (0.7, 0.3), (0.0, -1.0)] if patterns is None else patterns
    points = DragPoints(first, x_range=(-1.4, 1.4), y_range=(-1.4, 1.4))

    def compute(
        points: tuple[Any, ...] = (),
        beta: Annotated[float, Range(0.3, 60.0, log=True, step=24, label="β", play=True)] = 6.0,
    ) -> xr.Dataset:
        return experiments.energy_surface(list(points), float(beta), num_grid=37, extent=1.5)

    return Panel(
        compute,
        lambda ds: plot_energy_surface(ds, active=True),
        title="A memory as a landscape",
        describe=_describe_surface,
        hint="Drag a cross, or choose it and use the two sliders. Then cool down: raise β and count the valleys.",
        controls={"points": points},
    )


def _describe_surface(ds: xr.Dataset) -> str:
    kinds = [str(kind) for kind in ds.point_kind.values]
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in theory.KINDS if kind in kinds)
    return (
        f"At β = {ds.attrs['beta']:.3g} the {ds.sizes['pattern']} patterns lead to {len(kinds)} fixed points: {said}."
    )


class _Capacity(NamedTuple):
    """What the capacity explorer draws: the collapse at one size, and how capacities grow with it."""

    loads: np.ndarray[Any, Any]
    overlap: np.ndarray[Any, Any]
    theory: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
    growth: dict[str, np.ndarray[Any, Any]]
    measured: tuple[xr.Dataset, xr.Dataset]
    dimension: int
    load: float
    here: float


def explore_capacity(*, seed: int = 0, dense: xr.Dataset | None = None, modern: xr.Dataset | None = None) -> Panel:
    """Explore how much memories hold: the classical collapse at a size and load, and all capacities by dimension.

    Parameters
    ----------
    seed
        Draws the patterns.
    dense, modern
        Data sets of `experiments.dense_capacity` and `experiments.modern_capacity`, if computed already.

    Returns
    -------
    A panel with controls for dimension and load.
    """
    if dense is None:
        dense = experiments.dense_capacity(seed=seed, num_seeds=2, sizes=(12, 16, 24))
    if modern is None:
        modern = experiments.modern_capacity(seed=seed, num_seeds=2, dimensions=(8, 10, 12, 14), most=2**13)
    both = (dense, modern)
    fine = np.concatenate([np.linspace(0.01, 0.137, 30), np.linspace(0.139, 0.4, 20)])
    ideal = theory.zero_temperature_overlap(torch.tensor(fine)).numpy()
    sizes = np.geomspace(8, 256, 30)
    growth = {
        "dimension": sizes,
        "classical": theory.critical_load() * sizes,
        "order 4": theory.critical_load(4) * sizes**3,
        "modern, guaranteed": np.array([
            theory.exponential_capacity(round(n), 1.0, radius=float(np.sqrt(round(n) / (round(n) - 1)))) for n in sizes
        ]),
    }  # fmt: skip
    loads = np.array([0.02, 0.06, 0.1, 0.13, 0.16, 0.2, 0.3, 0.4])

    @lru_cache(maxsize=16)
    def collapse(dimension: int) -> Any:
        return np.array([_kept(dimension, float(load), seed) for load in loads])

    def compute(
        dimension: Annotated[int, Range(16, 256, log=True, label="Dimension")] = 128,
        load: Annotated[float, Range(0.02, 0.4, step=0.02, label="Patterns per dimension")] = 0.1,
    ) -> _Capacity:
        here = _kept(dimension, load, seed)
        return _Capacity(loads, collapse(dimension), (fine, ideal), growth, both, dimension, load, here)

    return Panel(
        compute,
        _draw_capacity,
        title="How much is too much?",
        describe=_describe_capacity,
        hint="Raise the load beyond 0.138, at a small and at a large dimension. Then compare the slopes on the right.",
    )


def _kept(dimension: int, load: float, seed: int) -> float:
    patterns = random_patterns(max(1, round(load * dimension)), dimension, seed=seed)
    cue = patterns[:40]
    settled = ClassicalMemory(order="synchronous").store(patterns).retrieve(cue, max_steps=15).state
    return float((settled * cue).mean())


def _describe_capacity(now: _Capacity) -> str:
    count = max(1, round(now.load * now.dimension))
    return (
        f"{count} patterns in {now.dimension} dimensions: the classical network keeps an overlap of {now.here:.2f}. "
        f"Theory allows it {0.138 * now.dimension:.0f}."
    )


def _draw_capacity(now: _Capacity) -> theme.Figure:
    dense, modern = now.measured
    fig = theme.figure(
        title=f"{max(1, round(now.load * now.dimension))} patterns in {now.dimension} dimensions",
        alt=f"Left: overlap that the classical network of {now.dimension} spins keeps, against the load, beside the dashed "
        f"mean-field curve; at load {now.load:.2f} it is {now.here:.2f}. Right: capacities against dimension on log-log axes: "
        "the classical line rises slowest, the order-4 line faster, and the guaranteed exponential one fastest in the end; "
        "dots are measured.",
        height=400,
    )
    theme.columns(
        fig,
        ("Classical network", "Patterns per dimension", "Overlap kept"),
        ("Capacity by dimension", "Dimension", "Patterns"),
        gap=0.13,
    )
    theme.add_theory(fig, *now.theory, "")
    fig.data[-1].name = "mean field"
    theme.add_measurement(fig, now.loads, now.overlap, "", markers=True)
    fig.data[-1].name = "measured"
    theme.add_data(fig, [now.load], [now.here], "this load", tone=theme.ACTIVE, size=14)
    sizes = now.growth["dimension"]
    for name, dash in (("classical", "dash"), ("order 4", "dot"), ("modern, guaranteed", "longdash")):
        theme.add_theory(fig, sizes, now.growth[name], name, column=2)
        fig.data[-1].line.dash = dash
    theme.add_data(
        fig, dense["size"], dense.capacity.mean("seed"), "order 4, measured", tone=theme.color(1), size=9, column=2
    )
    fig.data[-1].marker.symbol = theme.MARKERS[1]
    theme.add_data(
        fig, modern.dimension, modern.capacity.mean("seed"), "modern, measured", tone=theme.color(2), size=9, column=2
    )
    fig.data[-1].marker.symbol = theme.MARKERS[2]
    count = max(1, round(now.load * now.dimension))
    theme.add_data(fig, [now.dimension], [count], "stored now", tone=theme.ACTIVE, size=14, column=2)
    fig.layout.yaxis.range = [-0.05, 1.08]
    fig.layout.xaxis2.update(type="log", dtick=1)
    fig.layout.yaxis2.update(type="log", dtick=2, range=[-0.3, 8])
    fig.update_layout(margin={"r": 140})
    return fig
