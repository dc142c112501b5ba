"""Explorers of the neural-ODE wing: controls → an experiment → a figure."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.lab import theme
from sciviz.lab.drag import DragPoints
from sciviz.lab.panel import Choices, Panel, Range
from sciviz.ode import experiments
from sciviz.ode.figures import add_classes, add_field, add_marks, add_paths
from sciviz.ode.systems import System, make_system
from sciviz.ode.tableaus import METHODS

Method = Literal["euler", "heun", "rk4", "bosh3", "dopri5", "tsit5"]
Named = Literal["pendulum", "van_der_pol", "lotka_volterra", "lorenz"]
_SYSTEM_NAMES = {
    "pendulum": "Pendulum",
    "van_der_pol": "Van der Pol",
    "lotka_volterra": "Lotka-Volterra",
    "lorenz": "Lorenz",
}
_METHOD_NAMES = {
    name: f"{name} ({'adaptive' if table.error is not None else 'fixed steps'})" for name, table in METHODS.items()
}


@cache
def _frame(panels: tuple[tuple[str, str, str], ...], widths: tuple[float, ...], gap: float) -> dict[str, Any]:
    """Return the layout of panels side by side: most of plotly's time goes into it, and it stays while the rest moves."""
    frame = theme.figure(title="Frame", alt="An empty frame.", height=430)
    layout: dict[str, Any] = theme.columns(frame, *panels, widths=widths, gap=gap).layout.to_plotly_json()
    return layout


def _figure(
    title: str,
    alt: str,
    *panels: tuple[str, str, str],
    axes: Mapping[str, Mapping[str, Any]],
    widths: tuple[float, ...] = (),
    gap: float = 0.11,
) -> theme.Figure:
    """Make a figure of panels side by side, with changes to its axes."""
    layout = copy.deepcopy(_frame(panels, widths, gap))
    layout["title"]["text"] = title
    layout["meta"] = {"alt": alt}
    layout["margin"]["r"] = 24
    layout["dragmode"] = False
    for name, changes in axes.items():
        layout[name].update(changes)
    return theme.Figure(layout=layout)


class _Walk(NamedTuple):
    """What the solver's explorer draws: the field, and the steps through it."""

    portrait: xr.Dataset
    steps: xr.Dataset


def explore_solver(
    *,
    system: str | System = "pendulum",
    func: Callable[[Tensor, Tensor], Tensor] | None = None,
    window: tuple[tuple[float, float], tuple[float, float]] = ((-3.0, 3.0), (-3.0, 3.0)),
    duration: float | None = None,
    starts: Sequence[Sequence[float]] | None = None,
) -> Panel:
    """Explore how a solver walks through a vector field: its steps, those it refuses, what they cost, how wrong it is.

    Parameters
    ----------
    system
        A named system of two variables, or one of your own.
    func, window
        A right-hand side (t, y) → dy/dt of your own for states (batch, 2), in place of the system, and the part of the
        plane to look at.
    duration
        How long to follow it; 6 for a field of your own, at most 4 for a system, if left out.
    starts
        Where the draggable points are at first.

    Returns
    -------
    A panel with draggable starting points and controls for method, tolerance and number of steps.

    Raises
    ------
    ValueError
        If the system is not one of two variables.
    """
    own = _planar(system, func, window)
    end = duration or (6.0 if func is not None else min(own.duration, 4.0))
    low_high = own.window
    first = starts or _default_starts(low_high)
    points = DragPoints(
        first,
        x_range=low_high[0],
        y_range=low_high[1],
        x_label=own.variables[0].capitalize(),
        y_label=own.variables[1].capitalize(),
    )
    field = experiments.phase_portrait(own, num_times=2, duration=1e-3)

    def compute(
        points: tuple[Any, ...] = (),
        method: Annotated[Method, Choices("Method", _METHOD_NAMES)] = "bosh3",
        tolerance: Annotated[float, Range(1e-4, 1e-1, log=True, step=7, label="Tolerance")] = 1e-3,
        num_steps: Annotated[int, Range(16, 128, log=True, label="Steps, if fixed")] = 32,
    ) -> _Walk:
        steps = experiments.trajectory_steps(
            own, starts=points, duration=end, method=method, tolerance=tolerance, num_steps=num_steps, num_times=100
        )  # fmt: skip
        return _Walk(field, steps)

    return Panel(
        compute,
        _draw_walk,
        title="Follow a solver through a vector field",
        describe=_describe_walk,
        hint="Drag a starting point in the left panel (or choose it and use the two sliders). Then loosen the tolerance.",
        controls={"points": points},
    )


def _planar(system: str | System, func: Callable[[Tensor, Tensor], Tensor] | None, window: tuple[Any, Any]) -> System:
    if func is not None:
        given = func

        def on_any_grid(t: Tensor | float, y: Tensor, _: Any) -> Tensor:
            # The solver asks for a batch of states, the arrows for a grid of them.
            rows = y.reshape(-1, y.shape[-1])
            time = torch.as_tensor(t, dtype=y.dtype, device=y.device).expand(*y.shape[:-1], 1).reshape(-1, 1)
            return given(time, rows).view(y.shape)

        return System(
            name="own", title="Your own field", equation="", variables=("x1", "x2"), units=("1", "1"), time_units="1",
            parameters={}, function=on_any_grid, start=(0.0, 0.0), duration=6.0, window=window,
        )  # fmt: skip
    found = make_system(system) if isinstance(system, str) else system
    if len(found.variables) != 2:
        raise ValueError(f"system must have two variables, got {found.name!r} with {len(found.variables)}.")
    return found


def _default_starts(window: tuple[tuple[float, float], tuple[float, float]]) -> list[tuple[float, float]]:
    (left, right), (bottom, top) = window
    places = ((0.68, 0.5), (0.12, 0.72))
    return [(left + a * (right - left), bottom + b * (top - bottom)) for a, b in places]


def _inside(values: Any, low: float, high: float) -> Any:
    """Return the values with gaps where they have left the picture far behind."""
    reach = 3 * (high - low)
    values = np.asarray(values, dtype=float)
    return np.where((values > low - reach) & (values < high + reach), values, np.nan)


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "not finite"


def _describe_walk(walk: _Walk) -> str:
    ds = walk.steps
    worst = float(ds.error.max())
    return (
        f"{int(ds.taken.sum())} steps taken, {int(ds.rejected.sum())} refused, {int(ds.evaluations.sum())} evaluations of f "
        f"for {ds.sizes['trajectory']} trajectories. Largest error at the end, against a tight reference: {_number(worst)}."
    )


def _draw_walk(walk: _Walk) -> theme.Figure:
    ds, field = walk.steps, walk.portrait
    taken, refused = int(ds.taken.sum()), int(ds.rejected.sum())
    ranges = [(float(axis[0]), float(axis[-1])) for axis in (field.arrow_x.values, field.arrow_y.values)]
    end = float(ds.time[-1])
    fig = _figure(
        f"{taken} steps taken, {refused} refused, {int(ds.evaluations.sum())} evaluations",
        f"Left: the vector field of {ds.attrs['title']} with {ds.sizes['trajectory']} trajectories by "
        f"{ds.attrs['method']}, a dot at each of {taken} steps and a cross at each of {refused} refused ones, beside the dashed "
        f"reference. Right: the size of each step against time. Largest error at the end {_number(float(ds.error.max()))}.",
        ("Vector field and trajectories", theme.axis_title(field.arrow_x), theme.axis_title(field.arrow_y)),
        ("Size of each step", theme.axis_title(ds.time), "Step size"),
        widths=(1.5, 1.0),
        gap=0.1,
        axes={
            "xaxis": {"range": ranges[0]},
            "yaxis": {"range": ranges[1]},
            "xaxis2": {"range": [-0.03 * end, 1.03 * end]},
            "yaxis2": {"type": "log", "dtick": 1, "minor": {"dtick": "D1", "ticks": "outside", "ticklen": 2}},
        },
    )
    x, y = (_inside(ds.state.isel(variable=k).transpose("trajectory", "time"), *ranges[k]) for k in (0, 1))
    exact_x, exact_y = (
        _inside(ds.reference.isel(variable=k).transpose("trajectory", "time"), *ranges[k]) for k in (0, 1)
    )
    add_field(fig, field)
    add_paths(fig, exact_x, exact_y, "tight reference", theme.INK, width=1.4)
    fig.data[-1].line.dash = "dash"
    add_paths(fig, x, y, "trajectories", theme.ACTIVE, width=2.4)
    tried = ~np.isnan(ds.step_time.values)
    marks = [_inside(ds.step_state.isel(variable=k), *ranges[k]) for k in (0, 1)]
    seen = tried & np.isfinite(marks[0]) & np.isfinite(marks[1])
    sizes = np.where(tried, np.abs(ds.step_size.values), np.nan)
    time = ds.step_time.values
    good, bad = ds.accepted.values, ~ds.accepted.values
    # What is empty keeps one gap, so that a trace never comes or goes.
    for name, tone, symbol, size, rows in (
        ("steps taken", theme.color(0), "circle", 6, good),
        ("steps refused", theme.POSITIVE, "x-thin", 9, bad),
    ):
        gap = [np.nan]
        here = seen & rows
        add_marks(fig, np.append(marks[0][here], gap), np.append(marks[1][here], gap), name, tone, symbol, size=size)
        there = tried & rows
        add_marks(
            fig, np.append(time[there], gap), np.append(sizes[there], gap), f"sizes of {name}", tone, symbol, size=size,
            column=2,
        )  # fmt: skip
    start_x, start_y = (ds.step_state.isel(attempt=0, variable=k).values for k in (0, 1))
    add_marks(fig, start_x, start_y, "starting points", theme.ACTIVE, "circle", size=15)
    return fig


class _Depth(NamedTuple):
    """What the explorer of depth draws: a trained pair of models, and where in time and in which of them we are."""

    flow: xr.Dataset
    moment: int
    model: str


def explore_depth(
    *, data: str = "nested", seed: int = 0, X: Any = None, y: Any = None, flow: xr.Dataset | None = None
) -> Panel:
    """Explore a classifier whose depth is time: move the time, and the points move; add a dimension, and they pass.

    Parameters
    ----------
    data, seed
        "nested", "two_moons" or "two_spirals", and what decides points and weights.
    X, y
        Points of your own (sample, 2) and their classes 0 and 1.
    flow
        A data set of `experiments.classifier_flow`, if it has been computed already; two models are trained otherwise.

    Returns
    -------
    A panel with controls for the time and for the extra dimension.
    """
    trained = experiments.classifier_flow(data, seed=seed, num_seeds=1, X=X, y=y) if flow is None else flow
    last = trained.sizes["time"] - 1

    def compute(
        moment: int = 0,
        augmented: Annotated[bool, Choices("One more dimension")] = False,
    ) -> _Depth:
        return _Depth(trained, moment, "augmented" if augmented else "plain")

    return Panel(
        compute,
        _draw_depth,
        title="A classifier whose depth is time",
        describe=_describe_depth,
        hint="Press play, or move the time with the arrow keys. Then add a dimension, and play again.",
        ranges={"moment": Range(0, last, label="Time step", play=True)},
    )


def _describe_depth(now: _Depth) -> str:
    ds = now.flow.isel(seed=0).sel(model=now.model)
    right = (ds.score.isel(time=now.moment).values > 0) == (ds.label.values == 1)
    return (
        f"If the flow stopped here, {100 * right.mean():.0f}% of the points drawn would be on their side of the cut. At the "
        f"end the {now.model} model is right on {100 * float(ds.test_accuracy):.1f}% of fresh points and needs "
        f"{int(ds.evaluations)} evaluations."
    )


def _draw_depth(now: _Depth) -> theme.Figure:
    both = now.flow.isel(seed=0)
    ds = both.sel(model=now.model)
    here, label = ds.position.isel(time=now.moment).values, ds.label.values
    time = float(ds.time[now.moment])
    right = float(((ds.score.isel(time=now.moment).values > 0) == (label == 1)).mean())
    place = ds.position.values
    across = _fixed(place[..., 0])
    side = "x3 (added)" if now.model == "augmented" else "x3 (not there)"
    fig = _figure(
        f"Time {time:.2f}: {'in three dimensions' if now.model == 'augmented' else 'in the plane'}",
        f"Two views of the points of two classes at time {time:.2f} of the {now.model} model, with the way they came: from "
        f"above (x1, x2), and from the side (x1, x3). Stopped here, {100 * right:.0f} percent lie on their side of the cut.",
        ("From above", "x1", "x2"),
        ("From the side", "x1", side),
        gap=0.12,
        axes={
            "xaxis": {"range": across},
            "xaxis2": {"range": across},
            "yaxis": {"range": _fixed(place[..., 1])},
            "yaxis2": {"range": _fixed(place[..., 2])},
        },
    )
    came = ds.position.values[max(0, now.moment - 4) : now.moment + 1]
    for column, up in ((1, 1), (2, 2)):
        tails_x, tails_y = came[:, :, 0].T, came[:, :, up].T
        add_paths(fig, tails_x, tails_y, "the way they came", "#b9bcc4", width=1.0, column=column)
        add_classes(fig, here[:, 0], here[:, up], label, column=column)
    return fig


def _fixed(values: Any) -> list[float]:
    # Fixed axes: what moves is the points, not the frame around them.
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 1.0
    return [low - pad, high + pad]


class _Phase(NamedTuple):
    """What the explorer of phase portraits draws, and up to when."""

    portrait: xr.Dataset
    shown: float


# Which sliders belong to which system; the others are put away.
_OWN_SLIDERS = {
    "pendulum": {"damping": "damping", "drive": "drive"},
    "van_der_pol": {"mu": "mu"},
    "lotka_volterra": {"birth": "birth", "death": "death"},
    "lorenz": {"rho": "rho", "sigma": "sigma"},
}


def explore_phase_portrait(*, system: str = "pendulum") -> Panel:
    """Explore the phase portrait of a named system: its arrows, and three trajectories through them.

    Parameters
    ----------
    system
        Which system is shown first.

    Returns
    -------
    A panel with controls for the system, its parameters, and the time shown.

    Raises
    ------
    ValueError
        If there is no such system.
    """
    if system not in _OWN_SLIDERS:
        known = ", ".join(map(repr, _OWN_SLIDERS))
        raise ValueError(f"system must be one of {known}, got {system!r}.")

    def compute(
        name: Annotated[Named, Choices("System", _SYSTEM_NAMES)] = "pendulum",
        damping: Annotated[float, Range(0.0, 2.0, step=0.05, label="Damping", unit="1/s")] = 0.25,
        drive: Annotated[float, Range(0.0, 10.0, step=0.2, label="Drive", unit="1/s²")] = 0.0,
        mu: Annotated[float, Range(0.0, 6.0, step=0.1, label="Nonlinear damping μ")] = 1.0,
        birth: Annotated[float, Range(0.2, 2.0, step=0.1, label="Births of prey", unit="1/year")] = 1.0,
        death: Annotated[float, Range(0.2, 2.0, step=0.1, label="Deaths of predators", unit="1/year")] = 1.0,
        rho: Annotated[float, Range(0.0, 50.0, step=0.5, label="Rayleigh number ρ")] = 28.0,
        sigma: Annotated[float, Range(2.0, 20.0, step=0.5, label="Prandtl number σ")] = 10.0,
        shown: Annotated[float, Range(0.05, 1.0, step=0.05, label="Share of the time shown", play=True)] = 1.0,
    ) -> _Phase:
        every = {
            "damping": damping, "drive": drive, "mu": mu, "birth": birth, "death": death, "rho": rho, "sigma": sigma,
        }  # fmt: skip
        chosen = {parameter: every[slider] for slider, parameter in _OWN_SLIDERS[name].items()}
        starts = _LORENZ_STARTS if name == "lorenz" else None
        return _Phase(
            experiments.phase_portrait(name, starts=starts, num_times=240, tolerance=1e-3, num_arrows=13, **chosen),
            shown,
        )

    panel = Panel(
        compute,
        _draw_phase,
        title="Phase portraits: every path is drawn by the arrows",
        describe=_describe_phase,
        hint="Choose a system and move its parameters. Two systems change their nature at a certain value: find both.",
    )
    choice = panel.controls["name"]

    def put_away(_change: Any = None) -> None:
        for owner, sliders in _OWN_SLIDERS.items():
            for slider in sliders:
                panel.controls[slider].layout.display = "" if owner == choice.value else "none"

    choice.observe(put_away, names="value")
    if system != "pendulum":
        panel.set(name=system)
    put_away()
    return panel


# Two that start a hair apart, to be seen parting.
_LORENZ_STARTS = ((1.0, 1.0, 20.0), (1.01, 1.0, 20.0))


def _describe_phase(now: _Phase) -> str:
    ds = now.portrait
    ends = ds.state.isel(time=-1, variable=slice(0, 2)).values
    spread = float(np.linalg.norm(ends - ends.mean(0), axis=1).max())
    return (
        f"{ds.sizes['trajectory']} trajectories over {float(ds.time[-1]):.3g} units of time, {int(ds.evaluations.sum())} "
        f"evaluations. They end up to {spread:.2g} from their mean."
    )


def _draw_phase(now: _Phase) -> theme.Figure:
    ds = now.portrait
    count = max(2, round(now.shown * ds.sizes["time"]))
    path = ds.isel(time=slice(0, count))
    names = [str(name) for name in ds.component.values]
    ranges = [(float(axis[0]), float(axis[-1])) for axis in (ds.arrow_x.values, ds.arrow_y.values)]
    fig = _figure(
        f"{ds.attrs['title']}, to time {float(path.time[-1]):.3g}",
        f"Left: the vector field of {ds.attrs['title']} in the plane of {names[0]} and {names[1]}, with "
        f"{ds.sizes['trajectory']} trajectories up to time {float(path.time[-1]):.3g}. Right: {names[0]} of each against time.",
        ("Phase plane", theme.axis_title(ds.arrow_x), theme.axis_title(ds.arrow_y)),
        (f"{names[0].capitalize()} along time", theme.axis_title(ds.time), theme.axis_title(ds.arrow_x)),
        widths=(1.4, 1.0),
        gap=0.12,
        axes={
            "xaxis": {"range": ranges[0]},
            "yaxis": {"range": ranges[1]},
            "xaxis2": {"range": [0.0, float(ds.time[-1])]},
            "yaxis2": {"range": ranges[0]},
        },
    )
    add_field(fig, ds)
    state = path.state.transpose("trajectory", "time", "variable").values
    x, y = (_inside(state[..., k], *ranges[k]) for k in (0, 1))
    shades = [theme.ACTIVE, theme.color(0), theme.color(2)]
    for row in range(ds.sizes["trajectory"]):
        name = f"trajectory {row + 1}"
        tone = shades[row % len(shades)]
        add_paths(fig, x[row : row + 1], y[row : row + 1], name, tone, width=2.2)
        add_paths(fig, path.time.values[None], x[row : row + 1], f"{name}, along time", tone, width=1.8, column=2)
    add_marks(fig, state[:, 0, 0], state[:, 0, 1], "starting points", theme.INK, "circle", size=9)
    last = np.where(np.isnan(x[:, -1:] + y[:, -1:]), np.nan, 1.0)
    add_marks(fig, (last * x[:, -1:]).ravel(), (last * y[:, -1:]).ravel(), "now", theme.INK, "diamond", size=9)
    return fig
