"""Figures of the wing `flow`: each takes a data set of `sciviz.flow.experiments` and returns a figure with alt text."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.theme import Figure, axis_title


def add_paths(
    fig: Figure, paths: Any, name: str, *, tone: str, column: int = 1, width: float = 1.2, opacity: float = 0.8
) -> Figure:
    """Add paths in the plane, (particle, time, 2), as thin lines of one colour."""
    paths = np.asarray(paths, dtype=float)
    # One trace with gaps: plotly's cost is by the trace.
    gap = np.full((len(paths), 1, 2), np.nan)
    flat = np.concatenate([paths, gap], axis=1).reshape(-1, 2)[:-1] if len(paths) else np.empty((0, 2))
    end = "" if column == 1 else str(column)
    fig.add_trace(
        go.Scatter(
            x=flat[:, 0],
            y=flat[:, 1],
            mode="lines",
            line={"color": tone, "width": width},
            opacity=opacity,
            name=name,
            hoverinfo="skip",
            xaxis=f"x{end}",
            yaxis=f"y{end}",
        )
    )
    return fig


def dots(fig: Figure, points: Any, name: str, *, tone: str, size: int, column: int = 1) -> Figure:
    """Add points of the plane, (num, 2), as dots."""
    points = np.asarray(points)
    return theme.add_data(fig, points[:, 0], points[:, 1], name, tone=tone, size=size, column=column)


def square(fig: Figure, columns: int, extent: float | None = None) -> Figure:
    """Give panels of the plane one scale on both axes, without tick marks where only shapes matter."""
    layout: dict[str, Any] = {}
    for number in range(1, columns + 1):
        end = "" if number == 1 else str(number)
        shown = {} if extent is None else {"range": [-extent, extent]}
        # The panel's height stays: with its width left to fit, panels of one figure keep one scale.
        layout[f"yaxis{end}"] = {"scaleanchor": f"x{end}", "scaleratio": 1, "nticks": 5, **shown}
        layout[f"xaxis{end}"] = {"constrain": "domain", "nticks": 5, **shown}
    fig.update_layout(layout)
    return fig


def _timed_paths(fig: Figure, paths: Any, column: int, parts: int = 5) -> None:
    """Draw paths from light (the start) to dark (the end)."""
    paths = np.asarray(paths)
    edges = np.linspace(0, paths.shape[1] - 1, parts + 1).round().astype(int)
    for place in range(parts):
        piece = paths[:, edges[place] : edges[place + 1] + 1]
        tone = theme.time_color(place / (parts - 1))
        add_paths(fig, piece, f"paths, part {place + 1} of {parts}", tone=tone, column=column)


def plot_rounds(ds: xr.Dataset, num_particles: int = 90) -> Figure:
    """Plot the paths of each flow in the chain, from light at the start to dark at the end."""
    straight = ds.straightness.isel(seed=0).values
    count = ds.sizes["round"]
    words = ", then ".join(f"{value:.2g}" for value in straight)
    fig = theme.figure(
        title="One reflow is enough to straighten the paths",
        subtitle="Each path goes from light (noise) to dark (data); S is the straightness, 0 for straight lines at constant speed",
        alt=f"Paths of {num_particles} points from noise in the middle to {ds.attrs['target'].replace('_', ' ')}, one panel a "
        f"flow. In the first the paths bend; from the second on they are straight. Straightness: {words}.",
        height=400,
    )
    theme.columns(
        fig,
        *((f"Flow {n + 1}: S = {straight[n]:.2g}", "x₁", "x₂" if n == 0 else "") for n in range(count)),
        gap=0.06,
    )
    for number in range(count):
        _timed_paths(fig, ds.path.isel(round=number).values[:num_particles], number + 1)
    extent = 1.1 * float(np.abs(ds.path.values[:, :num_particles]).max())
    return square(fig, count, extent)


def plot_rounds_in_time(ds: xr.Dataset, num_particles: int = 40) -> Figure:
    """Plot one coordinate of the paths of each flow against time: straight paths at constant speed are straight lines."""
    straight = ds.straightness.isel(seed=0).values
    count = ds.sizes["round"]
    first = ds.axis.values[0]
    fig = theme.figure(
        title="Against time the first flow's detour shows: all go to the middle first",
        subtitle=f"First coordinate of {num_particles} points; a straight line is a straight path at constant speed",
        alt=f"The coordinate {first} of {num_particles} points against time, one panel a flow. In the first flow nearly all "
        "curves draw together until the middle of the time, and then part; from the second on they are straight lines.",
        height=340,
    )
    theme.columns(
        fig,
        *((f"Flow {n + 1}: S = {straight[n]:.2g}", axis_title(ds.time), "x₁" if n == 0 else "") for n in range(count)),
        gap=0.06,
    )
    for number in range(count):
        paths = ds.path.isel(round=number, axis=0).values[:num_particles]
        theme.add_bundle(fig, ds.time, paths, f"paths of flow {number + 1}", column=number + 1)
    extent = 1.1 * float(np.abs(ds.path.isel(axis=0).values[:, :num_particles]).max())
    fig.update_yaxes(range=[-extent, extent])
    fig.update_xaxes(tickvals=[0, 0.5, 1])
    return fig


def plot_straightness(ds: xr.Dataset) -> Figure:
    """Plot straightness against the round, one line for the mean and dots for seeds."""
    mean = ds.straightness.mean("seed").values
    falls = [f"{one / other:.2g}" for one, other in itertools.pairwise(mean)]
    fig = theme.figure(
        title="The first reflow does most of the straightening",
        subtitle=f"S falls by a factor of {', then '.join(falls)}; dots: {ds.sizes['seed']} seeds, line: their mean"
        if falls
        else f"Dots: {ds.sizes['seed']} seeds",
        alt=f"Straightness S on a logarithmic axis against the flow in the chain: {', '.join(f'{v:.2g}' for v in mean)}.",
        x=axis_title(ds["round"]),
        y=axis_title(ds.straightness),
        y_type="log",
        height=320,
    )
    theme.add_measurement(fig, ds["round"], mean, "", markers=False)
    fig.data[-1].name = "mean"
    rounds = np.repeat(ds["round"].values, ds.sizes["seed"]).astype(float)
    shift = np.tile(np.linspace(-0.06, 0.06, ds.sizes["seed"]), ds.sizes["round"])
    theme.add_data(fig, rounds + shift, ds.straightness.values.ravel(), "seeds", tone=theme.color(0), size=8)
    fig.update_xaxes(tickvals=ds["round"].values, range=[0.7, ds.sizes["round"] + 0.3])
    return fig


def plot_costs(ds: xr.Dataset) -> Figure:
    """Plot transport costs of all couplings, as shares of the independent coupling's, for each convex cost."""
    share = (ds.transport_cost / ds.transport_cost.sel(coupling="independent")).mean("seed")
    names = [str(name) for name in ds.coupling.values]
    first = share.sel(coupling="flow 1").values
    fig = theme.figure(
        title="No convex cost rises, in any round",
        subtitle=f"Mean cost of a pair, as a share of the independent coupling's; {ds.sizes['seed']} seeds",
        alt=f"For each of {ds.sizes['cost']} convex costs: the independent coupling is 1; the first flow's coupling costs "
        f"{first.min():.2f} to {first.max():.2f} of it; later flows the same or a little less.",
        y="Share of the independent cost",
        height=380,
    )
    place = np.arange(ds.sizes["cost"])
    theme.add_baseline(fig, [-0.4, ds.sizes["cost"] - 0.6], [1, 1], "independent")
    for index, name in enumerate(names[1:]):
        here = share.sel(coupling=name).values
        shift = 0.16 * (index - (len(names) - 2) / 2)
        theme.add_data(fig, place + shift, here, name, tone=theme.color(index), size=12)
        fig.data[-1].marker.symbol = theme.MARKERS[index]
        fig.add_annotation(
            x=place[-1] + shift, y=here[-1], text=name.removeprefix("flow "), showarrow=False, yshift=17,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )  # fmt: skip
    fig.add_annotation(
        x=place[-1] - 0.36, y=share.sel(coupling="flow 1").values[-1], text="flow", showarrow=False, yshift=17,
        font={"color": theme.MUTED, "size": 13},
    )  # fmt: skip
    fig.update_xaxes(tickvals=place, ticktext=[str(name) for name in ds.cost.values], range=[-0.5, len(place) - 0.5])
    fig.update_yaxes(range=[0, 1.1])
    return fig


def plot_errors(ds: xr.Dataset) -> Figure:
    """Plot the distance of samples to the target against the number of Euler steps, for each flow."""
    one = ds.error.sel(euler_steps=ds.euler_steps[0]).mean("seed").values
    fig = theme.figure(
        title="After a reflow one Euler step does what fifty did",
        subtitle=f"Band: lowest to highest of {ds.sizes['seed']} seeds; grey: two fresh samples of the target",
        alt=f"Sliced Wasserstein distance to the target against the number of Euler steps, both logarithmic. After "
        f"{int(ds.euler_steps[0])} step: "
        + ", ".join(f"flow {n + 1} {value:.2f}" for n, value in enumerate(one))
        + ". The first flow's falls with the steps; the others' are flat, near the distance of two fresh samples.",
        x=axis_title(ds.euler_steps),
        y="Distance to the target",
        x_type="log",
        y_type="log",
    )
    theme.add_baseline(
        fig, ds.euler_steps, np.full(ds.sizes["euler_steps"], float(ds.floor.mean())), "two fresh samples"
    )
    # The third flow lies on the second: two lines say it better than three.
    for index in range(min(2, ds.sizes["round"])):
        here = ds.error.isel(round=index)
        theme.add_measurement(
            fig, ds.euler_steps, here.mean("seed"), "", low=here.min("seed"), high=here.max("seed"), index=index,
            markers=True,
        )  # fmt: skip
        fig.data[-1].name = f"flow {index + 1}"
        fig.add_annotation(
            x=0.0, y=float(np.log10(here.mean("seed")[0])), text=f"flow {index + 1}", showarrow=False, xshift=32, yshift=10,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )  # fmt: skip
    steps = [int(value) for value in ds.euler_steps.values]
    fig.update_xaxes(tickmode="array", tickvals=steps, ticktext=[str(value) for value in steps])
    fig.update_layout(margin={"r": 150})
    return fig


def plot_sde_paths(ds: xr.Dataset) -> Figure:
    """Plot paths from one set of starting points, for each strength of the noise."""
    count = ds.sizes["epsilon"]
    fig = theme.figure(
        title="Different paths, the same law at the end",
        subtitle="Exact velocity and score of a stochastic interpolant; light to dark: time",
        alt="Paths of forty points from two clusters on the left to five clusters on a circle: smooth for ε = 0, and the more "
        "jagged the stronger the noise. The end points fill the same five clusters.",
        height=400,
    )
    theme.columns(
        fig, *((f"ε = {float(e):g}", "x₁", "x₂" if n == 0 else "") for n, e in enumerate(ds.epsilon.values)), gap=0.06
    )
    for number in range(count):
        paths = ds.path.isel(epsilon=number).values
        _timed_paths(fig, paths, number + 1)
        theme.add_data(fig, paths[:, -1, 0], paths[:, -1, 1], "ends", tone=theme.INK, size=5, column=number + 1)
    return square(fig, count, 1.05 * float(np.abs(ds.path.values).max()))


def plot_same_law(ds: xr.Dataset) -> Figure:
    """Plot the distance of the end's law from the target for each strength of the noise."""
    fig = theme.figure(
        title="Flow and noisy paths end equally near the target",
        subtitle=f"Dots: {ds.sizes['seed']} seeds; grey: two fresh samples of the target, mean over seeds",
        alt="Sliced Wasserstein distance to the target at each strength of the noise: with exact fields "
        + ", ".join(f"{float(v):.3f}" for v in ds.distance.sel(fields="exact").mean("seed"))
        + f"; two fresh samples are {float(ds.floor.mean()):.3f} apart.",
        x=axis_title(ds.epsilon),
        y="Distance to the target",
        height=340,
    )
    place = np.arange(ds.sizes["epsilon"])
    theme.add_baseline(fig, [-0.4, len(place) - 0.6], [float(ds.floor.mean())] * 2, "two fresh samples")
    for index, name in enumerate(ds.fields.values):
        values = ds.distance.sel(fields=name).values
        shift = 0.22 * (index - (ds.sizes["fields"] - 1) / 2)
        spread = np.linspace(-0.05, 0.05, ds.sizes["seed"])
        x = (place[:, None] + shift + spread).ravel()
        theme.add_data(fig, x, values.ravel(), f"{name} fields", tone=theme.color(index), size=9)
        fig.data[-1].marker.symbol = theme.MARKERS[index]
        fig.add_annotation(
            x=place[0] + shift, y=float(values[0].max()), text=str(name), showarrow=False, yshift=16,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )  # fmt: skip
    fig.update_xaxes(tickvals=place, ticktext=[f"{float(e):g}" for e in ds.epsilon], range=[-0.5, len(place) - 0.5])
    fig.update_yaxes(rangemode="tozero")
    fig.update_layout(margin={"r": 140})
    return fig


def plot_transfer(ds: xr.Dataset) -> Figure:
    """Plot one data set, where its points are carried, and where they come back to."""
    fig = theme.figure(
        title="From one data set to another, and back",
        subtitle=f"Colour: where a point started. Carried there and back, no point ends more than {ds.attrs['round_trip']:.1g} "
        "from its start",
        alt=f"Three clouds of {ds.sizes['particle']} points, coloured by where each started: the start, where the flow carries "
        f"them beside the target in grey, and where the reversed flow brings them. Sliced Wasserstein distance to the target "
        f"{ds.attrs['error']:.2f}; two fresh samples of it are {ds.attrs['floor']:.2f} apart.",
        height=400,
    )
    theme.columns(
        fig, ("Start", "x₁", "x₂"), ("Carried to the target (grey)", "x₁", ""), ("And back", "x₁", ""), gap=0.06
    )
    angle = ds.start.values[:, 0]
    bins = np.digitize(angle, np.quantile(angle, [0.25, 0.5, 0.75]))
    dots(fig, ds.goal.values, "target", tone=theme.BASELINE, size=4, column=2)
    fig.data[-1].marker.opacity = 0.5
    for column, name in enumerate(("start", "end", "back"), start=1):
        for group in range(4):
            dots(fig, ds[name].values[bins == group], f"{name}, quarter {group + 1} from the left",
                tone=theme.color(group), size=5, column=column,
            )  # fmt: skip
    return square(fig, 3, 1.08 * float(np.abs(np.stack([ds.start, ds.end, ds.goal])).max()))


def mosaic(images: Any, side: int) -> np.ndarray[Any, Any]:
    """Return images (rows, columns, pixels) as one picture, with a rim between them."""
    images = np.asarray(images)
    rows, columns, _ = images.shape
    result = np.full((rows * (side + 1), columns * (side + 1)), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (side + 1), column * (side + 1)
            result[top : top + side, left : left + side] = images[row, column].reshape(side, side)
    return np.nan_to_num(result[:-1, :-1], nan=-1.0)


def plot_digits(ds: xr.Dataset) -> Figure:
    """Plot the digits that each network makes, one row a number of steps."""
    side = round(ds.sizes["pixel"] ** 0.5)
    # Six of the ten fill the panel's width at a size at which they can be judged.
    ds = ds.isel(digit=slice(0, 6))
    steps = [int(value) for value in ds.euler_steps.values]
    names = {"straight": "Straight lines", "reflowed": "After reflow", "diffusion": "Diffusion's path"}
    fig = theme.figure(
        title="After reflow one step gives digits; along a diffusion's path it gives fog",
        subtitle=f"Same noise in each column; networks of one size and {ds.attrs['num_steps']:,} steps of training",
        alt="Three mosaics of the digits 0 to 5, one row a number of Euler steps from "
        f"{steps[0]} to {steps[-1]}. Straight lines: blurred in one step, clear from four on. After reflow: clear from one step "
        "on. Diffusion's path: noise in one step, digits only with many.",
        height=330,
    )
    theme.columns(fig, *((names[str(name)], "", "") for name in ds.path.values), gap=0.05)
    layout: dict[str, Any] = {"margin": {"l": 70, "r": 20, "b": 20}}
    for column, name in enumerate(ds.path.values, start=1):
        picture = mosaic(ds.image.sel(path=name).values, side)
        theme.add_heatmap(fig, picture, title=str(name), column=column)
        fig.data[-1].update(showscale=False, zmin=-1, zmax=1)
        end = "" if column == 1 else str(column)
        bare = {"ticks": "", "constrain": "domain", "showline": False}
        middle = [(side + 1) * n + side / 2 - 0.5 for n in range(len(steps))]
        words = [f"{count} step{'s' if count > 1 else ''}" for count in steps] if column == 1 else [""] * len(steps)
        layout[f"yaxis{end}"] = {
            **bare, "autorange": "reversed", "scaleanchor": f"x{end}", "tickvals": middle, "ticktext": words,
        }  # fmt: skip
        layout[f"xaxis{end}"] = {**bare, "showticklabels": False}
    fig.update_layout(layout)
    return fig


def plot_digit_distance(ds: xr.Dataset) -> Figure:
    """Plot how far made digits are from held-out ones, against the number of steps."""
    mean = ds.distance.mean("seed")
    one = mean.isel(euler_steps=0)
    fig = theme.figure(
        title="One step is enough after a reflow; along a diffusion's path many are too few",
        subtitle="Fréchet distance of a small classifier's features to held-out digits (not FID); grey: training digits",
        alt="Distance to held-out digits against the number of Euler steps. After one step: "
        + ", ".join(f"{name} {float(one.sel(path=name)):.2f}" for name in ds.path.values)
        + f"; training digits themselves are {float(ds.floor.mean()):.2f} away.",
        x=axis_title(ds.euler_steps),
        y="Distance to held-out digits",
        x_type="log",
        y_type="log",
    )
    # A little longer than the curves, so that its name stands clear of their last points.
    ends = [float(ds.euler_steps[0]), 1.3 * float(ds.euler_steps[-1])]
    theme.add_baseline(fig, ends, [float(ds.floor.mean())] * 2, "training digits")
    for index, name in enumerate(ds.path.values):
        here = ds.distance.sel(path=name)
        theme.add_measurement(fig, ds.euler_steps, here.mean("seed"), "", index=index, markers=True)
        fig.data[-1].name = str(name)
        fig.add_annotation(
            x=0.0, y=float(np.log10(here.mean("seed")[0])), text=str(name), showarrow=False, xanchor="left", xshift=14,
            yshift=10, font={"color": theme.text_color(theme.color(index)), "size": 13},
        )  # fmt: skip
    steps = [int(value) for value in ds.euler_steps.values]
    fig.update_xaxes(tickmode="array", tickvals=steps, ticktext=[str(value) for value in steps])
    fig.update_layout(margin={"r": 150})
    return fig


def plot_crossing(ds: xr.Dataset, *, active: bool = False) -> Figure:
    """Plot two crossing lines, the velocity that a regression learns, and where a point that follows it ends."""
    meeting = ds.attrs["gap"]
    fig = theme.figure(
        title="Where lines cross at the same time, the flow cannot follow either",
        subtitle=f"Dashed: the lines, {meeting:.2f} apart when nearest; blue, orange: what follows the mean (grey, at time "
        f"{ds.attrs['time']:.2f})",
        alt="Two dashed lines from sources on the left to targets on the right. Arrows show the mean velocity of lines near "
        "each place at this time. Points that follow it from the sources end at "
        + " and ".join(f"({float(x):.2f}, {float(y):.2f})" for x, y in ds.flow.values[:, -1])
        + f". At the crossing the expected velocity is ({ds.attrs['velocity'][0]:.2f}, {ds.attrs['velocity'][1]:.2f}).",
        x="x₁",
        y="x₂",
        height=420,
    )
    for start, end in zip(ds.start.values, ds.end.values, strict=True):
        theme.add_theory(fig, [start[0], end[0]], [start[1], end[1]], "")
        fig.data[-1].name = "line of a pair"
    grid, arrow = ds.place.values.reshape(-1, 2), ds.arrow.values.reshape(-1, 2)
    add_paths(fig, np.stack([grid, grid + 0.11 * arrow], axis=1), "expected velocity", tone=theme.BASELINE, width=1.6)
    dots(fig, grid, "place of an arrow", tone=theme.BASELINE, size=4)
    for index, path in enumerate(ds.flow.values):
        theme.add_measurement(fig, path[:, 0], path[:, 1], "", index=index)
        fig.data[-1].name = f"follows the mean from source {index + 1}"
    dots(fig, ds.flow.values[:, int(ds.attrs["now"])], "now", tone=theme.ACTIVE, size=12)
    dots(fig, ds.start.values, "sources", tone=theme.ACTIVE if active else theme.INK, size=11)
    dots(fig, ds.end.values, "targets", tone=theme.ACTIVE if active else theme.INK, size=11)
    fig.data[-1].marker.symbol = "square"
    fig.update_xaxes(range=[-1.6, 1.6])
    fig.update_yaxes(range=[-1.35, 1.35])
    fig.update_layout(margin={"r": 30})
    return fig


def plot_particles(ds: xr.Dataset) -> Figure:
    """Plot particles at one moment and the paths they take, coloured by curvature."""
    now = int(ds.attrs["now"])
    bend = ds.curvature.values
    fig = theme.figure(
        title=f"Flow {ds.attrs['round']} with {ds.attrs['steps']} Euler steps: S = {ds.attrs['straightness']:.2g}",
        subtitle="Paths: the darker, the more they bend; grey: the target",
        alt=f"{ds.sizes['particle']} particles on their way from {ds.attrs['source']} to {ds.attrs['target']} at time "
        f"{float(ds.time[now]):.2f}, with their paths. Sliced Wasserstein distance of the ends to the target: "
        f"{ds.attrs['distance']:.2f}.",
        x="x₁",
        y="x₂",
        height=480,
    )
    dots(fig, ds.goal.values, "target", tone=theme.BASELINE, size=4)
    fig.data[-1].marker.opacity = 0.35
    path = ds.path.values
    levels = (
        (0.0, 0.05, "#9dbfd6", "nearly straight"),
        (0.05, 0.4, "#4a86a8", "bent"),
        (0.4, np.inf, "#0b2f53", "sharply bent"),
    )
    for low, high, tone, name in levels:
        chosen = path[(bend >= low) & (bend < high)]
        add_paths(fig, chosen, name, tone=tone)
    dots(fig, path[:, now], "particles", tone=theme.ACTIVE, size=6)
    fig.update_layout(margin={"r": 30})
    return square(fig, 1, float(ds.attrs["extent"]))


# ------------------------------------------------------------------ five papers on paths, costs and solvers


def _over_draws(values: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the mean over seeds with the least and the largest value."""
    return values.mean("seed").values, values.min("seed").values, values.max("seed").values


def plot_sampling_steps(ds: xr.Dataset) -> Figure:
    """Plot the errors of probability-flow sampling against the number of steps, one colour a noise schedule."""
    steps = ds["num_steps"].values
    first, last = (float(ds.discretisation.isel(num_steps=k).mean()) for k in (0, -1))
    plateau = ds.initialisation.mean("seed").values
    fig = theme.figure(
        title="Twice the steps, half the error – until only the error of the start is left",
        subtitle=f"Gaussians in {ds.attrs['dimension']} dimensions, exact score, {ds.attrs['integrator']} steps; "
        f"bands: {ds.sizes['seed']} Gaussians",
        alt=f"Two log-log panels against the number of steps. Left: the distance from the law of the exact flow falls from "
        f"{first:.2g} to {last:.2g} on average, parallel to the dashed line of slope −1, for each of {ds.sizes['schedule']} "
        f"schedules. Right: the distance from the data flattens out at what the start leaves, from {plateau.min():.2g} to "
        f"{plateau.max():.2g}.",
        x_type="log",
        y_type="log",
    )
    theme.columns(
        fig,
        ("From the exact flow", axis_title(ds["num_steps"]), "W₂ distance"),
        ("From the data", axis_title(ds["num_steps"]), ""),
        gap=0.2,
    )
    for index, name in enumerate(ds.schedule.values):
        for column, values in ((1, ds.discretisation), (2, ds.total)):
            mean, low, high = _over_draws(values.sel(schedule=name))
            label = str(name) if column == 2 else ""
            theme.add_measurement(fig, steps, mean, label, low=low, high=high, index=index, column=column)
    theme.add_theory(fig, steps, first * steps[0] / steps, "slope −1")
    fig.update_layout(margin={"r": 120})
    return fig


def plot_separation(ds: xr.Dataset) -> Figure:
    """Plot the separation function of point sets, and the energy that the straight schedule wastes."""
    per_dimension = ds["samples_per_dimension"].values
    gap, low, high = _over_draws(100 * ds.gap)
    shown = np.unique(np.linspace(0, ds.sizes["case"] - 1, 4).round().astype(int))
    fig = theme.figure(
        title="The fewer samples a dimension, the better the straight schedule",
        subtitle=f"Gaussian points, {ds.sizes['seed']} draws",
        alt=f"Left: the separation function against the angle from noise to data rises to 1 earlier the higher the dimension; "
        f"the dashed curve is its lower limit, that of a full Gaussian. Right, log-log: the energy of the straight schedule "
        f"above the least falls from {gap[per_dimension.argmax()]:.3g} percent at {per_dimension.max():g} samples per "
        f"dimension to {gap[per_dimension.argmin()]:.2g} percent at {per_dimension.min():g}.",
        x_type="linear",
    )
    theme.columns(
        fig,
        ("Separation λ in d dimensions", "Angle from noise to data (rad)", "λ"),
        ("Waste of the straight schedule", axis_title(ds["samples_per_dimension"]), "Energy above the least (%)"),
        gap=0.2,
    )
    angle = ds.angle.values
    for place, case in enumerate(shown):
        mean = ds.separation.isel(case=case).mean("seed").values
        theme.add_measurement(fig, angle, mean, "", index=place)
        fig.data[-1].name = f"d = {int(ds.dimension[case])}"
        # All curves end at 1: name them above the place where they come there.
        fig.add_annotation(
            x=float(angle[int(np.argmax(mean > 0.95))]), y=1.0, yshift=11, xanchor="center", showarrow=False,
            text=f"d = {int(ds.dimension[case])}" if place == 0 else f"{int(ds.dimension[case]):,}",
            font={"color": theme.text_color(theme.color(place)), "size": 12},
        )  # fmt: skip
    theme.add_theory(fig, angle, np.sin(angle) ** 2, "")
    theme.add_measurement(fig, per_dimension, gap, "", low=low, high=high, markers=True, column=2)
    fig.update_layout(
        xaxis2={"type": "log", "dtick": 1}, yaxis2={"type": "log", "dtick": 1}, yaxis={"range": [-0.05, 1.18]}
    )
    return fig


def plot_kinetic_paths(ds: xr.Dataset) -> Figure:
    """Plot schedules of least kinetic energy in the plane of data weight and noise weight."""
    lows = [float(value) for value in ds.least_energy]
    fig = theme.figure(
        title="In high dimension the schedule of least energy is nearly the straight one",
        subtitle=f"{int(ds.num_samples[0])} Gaussian points in d dimensions; schedules run from noise (0, 1) to data (1, 0)",
        alt="Weight of the noise against weight of the data, from (0, 1) to (1, 0). The dashed straight schedule is a line; "
        "schedules of least energy bulge away from the origin, most in low dimension. Least energies per dimension: "
        + ", ".join(f"{low:.2f} in {int(d)} dimensions" for low, d in zip(lows, ds.dimension.values, strict=True))
        + ".",
        x=axis_title(ds.alpha),
        y=axis_title(ds.sigma),
    )
    for index in range(min(ds.sizes["case"], 4)):
        one = ds.isel(case=index)
        theme.add_measurement(fig, one.alpha, one.sigma, "", index=index)
        # The curves part in their middle; the last one hugs the dashed line, and is named on its other side.
        below = index == min(ds.sizes["case"], 4) - 1 and index > 0
        near = int(np.abs(one.alpha.values - (0.38 if below else 0.5)).argmin())
        fig.add_annotation(
            x=float(one.alpha[near]), y=float(one.sigma[near]), text=f"d = {int(one.dimension):,}", showarrow=False,
            xanchor="right" if below else "left", yanchor="top" if below else "bottom", xshift=-10 if below else 6,
            yshift=-4 if below else 2, font={"color": theme.text_color(theme.color(index)), "size": 13},
        )  # fmt: skip
        fig.data[-1].name = f"d = {int(one.dimension)}"
    theme.add_theory(fig, [0, 1], [1, 0], "straight")
    return fig


def plot_bespoke(ds: xr.Dataset) -> Figure:
    """Plot the error of generic solvers and of the fitted one against evaluations, and the learnt time and scale."""
    number = int(ds.attrs["bespoke_evaluations"])
    fitted = ds.error.sel(solver="bespoke", evaluations=number)
    generic = ds.error.sel(solver="midpoint", evaluations=number)
    fig = theme.figure(
        title=f"{ds.attrs['num_parameters']} learnt numbers beat the midpoint rule – and a higher order beats both",
        subtitle=f"Fresh starts; {ds.sizes['seed']} trained flows to {ds.attrs['density'].replace('_', ' ')}",
        alt=f"Left, log-log: the error of the midpoint rule falls like the square of its evaluations, that of RK4 faster. At "
        f"{number} evaluations the midpoint rule errs by {float(generic.mean()):.2g}, the fitted solver by "
        f"{float(fitted.mean()):.2g}; RK4 at 20 by {float(ds.error.sel(solver='rk4', evaluations=20).mean()):.2g}. Right: the "
        "learnt time and scale against the solver's own clock, beside the plain ones, dashed.",
        y_type="log",
        x_type="log",
    )
    theme.columns(
        fig,
        ("Error", axis_title(ds.evaluations), "RMSE of the end points"),
        ("What was learnt", axis_title(ds.knot), ""),
        widths=(1.4, 1),
        gap=0.17,
    )
    for index, (name, label) in enumerate((("midpoint", "midpoint"), ("rk4", "RK4"), ("bespoke", "bespoke"))):
        values = ds.error.sel(solver=name).dropna("evaluations")
        mean, low, high = _over_draws(values)
        theme.add_measurement(fig, values.evaluations, mean, label, low=low, high=high, index=index, markers=True)
    for index, (values, label) in enumerate(((ds.time, "time"), (ds.scale, "scale"))):
        mean, low, high = _over_draws(values)
        theme.add_measurement(fig, ds.knot, mean, label, low=low, high=high, index=index + 2, column=2)
    theme.add_theory(fig, [0, 1], [0, 1], "", column=2)
    theme.add_theory(fig, [0, 1], [1, 1], "", column=2)
    plain = {"type": "linear", "tickmode": "array", "tickvals": [0, 0.5, 1], "ticktext": ["0", "0.5", "1"], "minor": {}}
    fig.update_layout(xaxis2=plain, yaxis2=plain)
    return fig


def plot_gaussian_rectification(ds: xr.Dataset) -> Figure:
    """Plot the cost of rectified turned Gaussians by round, by gradients and without restriction."""
    last = ds.ratio.isel(round=-1).mean("seed")
    gradient, free = (float(last.sel(rectification=name)) for name in ("gradient", "unrestricted"))
    fig = theme.figure(
        title="Gradients unwind the turn; unrestricted rectification keeps it for ever",
        subtitle=f"Exact fields; bands: {ds.sizes['seed']} turns and stretches",
        alt=f"Cost over the least cost against rounds of rectification. Unrestricted it stays at {free:.2f}; with gradients it "
        f"falls to {gradient:.4f}. The dashed line is the least cost.",
        x=axis_title(ds["round"]),
        y=axis_title(ds.ratio),
    )
    for index, name in enumerate(("gradient", "unrestricted")):
        mean, low, high = _over_draws(ds.ratio.sel(rectification=name))
        theme.add_measurement(fig, ds["round"], mean, name, low=low, high=high, index=index, markers=True)
    theme.add_theory(fig, ds["round"], np.ones(ds.sizes["round"]), "")
    fig.update_xaxes(dtick=1)
    return fig


def plot_c_rectified(ds: xr.Dataset) -> Figure:
    """Plot where points go before and after c-rectification: starts, ends and the lines between them."""
    final = ds.sizes["round"] - 1
    shown = [0, final]
    ratio, stray = ds.ratio.mean("seed").values, ds.stray.mean("seed").values
    strays = ds.attrs["source"] == "clusters" and bool(stray[-1] > 0.03)
    fig = theme.figure(
        title="Between separate clusters a smooth potential leaves points on the way"
        if strays
        else f"{ds.sizes['round'] - 1} rounds of gradients turn a random pairing into the cheapest one",
        subtitle="Lines join starts (light) to ends (dark)",
        alt=f"Two panels of points in the plane, joined start to end. Left, the independent pairing: lines cross everywhere, the "
        f"cost is {ratio[0]:.2f} times the least. Right, after {final} rounds: {ratio[-1]:.3f} times, "
        f"and {100 * stray[-1]:.1f} percent of the ends lie away from the target.",
        height=420,
    )
    names = ["Independent pairing", f"After {final} rounds"]
    theme.columns(
        fig,
        *(
            (f"{name}: cost {ratio[number]:.2f} × least", "x", "y" if place == 0 else "")
            for place, (name, number) in enumerate(zip(names, shown, strict=True))
        ),
        gap=0.08,
    )
    for column, number in enumerate(shown, start=1):
        start, end = ds.start.values, ds.end.isel(round=number).values
        add_paths(fig, np.stack([start, end], axis=1)[:120], "pairs", tone=theme.BASELINE, column=column, opacity=0.5)
        dots(fig, start, "starts", tone=theme.time_color(0.0), size=5, column=column)
        dots(fig, end, "ends", tone=theme.time_color(1.0), size=5, column=column)
    every = np.concatenate([ds.start.values, *(ds.end.isel(round=number).values for number in shown)])
    low, high = every.min(0) - 0.4, every.max(0) + 0.4
    square(fig, 2)
    # One window for both panels: they are compared.
    fig.update_xaxes(range=[float(low[0]), float(high[0])])
    fig.update_yaxes(range=[float(low[1]), float(high[1])])
    return fig


def plot_between_modes(ds: xr.Dataset) -> Figure:
    """Plot predicted clean points on their way, and how samples between modes waver in the end."""
    good, bad = (ds.variance.values[ds.kind.values == kind] for kind in (0, 1))
    share = 100 * float(ds.share.mean())
    tallest = 0.0
    fig = theme.figure(
        title="Samples between the modes waver until the last steps",
        subtitle=f"{ds.sizes['mode']} modes; {share:.2g}% of the samples of {ds.sizes['seed']} models lie between",
        alt="Left: predicted clean points against the share of reverse steps done. Paths that end in a mode settle there; paths "
        "that end between two modes swing between them to the end. Right: histogram of the variance of the predicted clean "
        f"point over the last twentieth of the steps, on a logarithmic axis: median {np.median(good):.2g} in the modes, "
        f"{np.median(bad) if len(bad) else float('nan'):.2g} between.",
    )
    theme.columns(
        fig,
        ("Predicted clean point", axis_title(ds.progress), "x"),
        ("Variance, last 5% of steps", "Variance (log₁₀)", "Share of samples"),
        gap=0.14,
    )
    for kind, label, tone in ((0, "in a mode", theme.NEGATIVE), (1, "between", theme.POSITIVE)):
        for path in ds.predicted.values[ds.path_kind.values == kind]:
            fig.add_scatter(
                x=ds.progress.values, y=path, mode="lines", line={"color": tone, "width": 1.2}, opacity=0.6, name=label
            )
    reach = float(np.abs(ds.centre.values).max()) + 0.6
    fig.update_layout(yaxis={"range": [-reach, reach]}, xaxis={"range": [0.3, 1.0]})
    edges = np.linspace(np.log10(max(good.min(), 1e-9)), np.log10(max(good.max(), *bad, 1e-8)), 41)
    for values, label, tone, shift in ((good, "in a mode", theme.NEGATIVE, 0), (bad, "between", theme.POSITIVE, 1)):
        if not len(values):
            continue
        counts, _ = np.histogram(np.log10(np.maximum(values, 1e-9)), edges)
        peak = int(counts.argmax())
        tallest = max(tallest, float(counts.max() / counts.sum()))
        fig.add_scatter(
            x=(edges[1:] + edges[:-1]) / 2,
            y=counts / counts.sum(),
            mode="lines+text",
            line={"color": tone, "width": 2.2, "shape": "hvh", "dash": ("solid", "dot")[shift]},
            text=[label if k == peak else "" for k in range(len(counts))],
            textposition="top center",
            textfont={"color": theme.text_color(tone)},
            name=label,
            xaxis="x2",
            yaxis="y2",
        )
    fig.update_layout(yaxis2={"range": [0, 1.18 * (tallest or 1.0)]})
    return fig
