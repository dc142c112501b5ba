"""Explorers of the tangent-kernel wing: controls → an experiment → a figure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.panel import Choices, Panel, Range
from sciviz.ntk import experiments

Kernel = Literal["relu", "erf", "sine"]


class _Moment(NamedTuple):
    """What the training explorer draws: a path, and where on it the reader stands."""

    path: xr.Dataset
    moment: int
    components: int
    member: int


def explore_kernel(*, seed: int = 0, X: Any = None, y: Any = None) -> Panel:
    """Explore the kernel of random networks, and the Gaussian process that wide ones become.

    Parameters
    ----------
    seed
        Decides all random networks: the same controls show the same networks again.
    X, y
        Data of your own for the right panel, one number a point each; four points if left out.

    Returns
    -------
    A panel with controls for width, depth, activation, weight variance, and whether the data have been seen.
    """

    def compute(
        width: Annotated[int, Range(16, 2048, log=True, label="Width")] = 64,
        depth: Annotated[int, Range(1, 4, label="Hidden layers")] = 1,
        activation: Annotated[Kernel, Choices("Activation", {"relu": "ReLU"})] = "relu",
        weight_variance: Annotated[float, Range(0.5, 4.0, step=0.1, label="Weight variance")] = 2.0,
        posterior: Annotated[bool, Choices("After seeing the data")] = False,
    ) -> dict[str, xr.Dataset]:
        common: dict[str, Any] = {
            "width": width,
            "depth": depth,
            "activation": activation,
            "weight_variance": weight_variance,
        }
        return {
            "slice": experiments.kernel_slice(**common, num_seeds=5, seed=seed),
            "band": experiments.process_band(**common, posterior=posterior, X=X, y=y, seed=seed),
        }

    return Panel(
        compute,
        _draw_kernel,
        title="One random network, and the crowd it belongs to",
        describe=_describe_kernel,
        hint="Widen the network and watch the pink curves meet the dashed one. Then add layers.",
    )


def _distance(ds: xr.Dataset) -> float:
    gap = np.linalg.norm(ds.kernel - ds.limit, axis=(1, 2)) / np.linalg.norm(ds.limit)
    return float(np.mean(gap))


def _describe_kernel(data: dict[str, xr.Dataset]) -> str:
    cut, band = data["slice"], data["band"]
    inside = float(((band.sample >= band.low) & (band.sample <= band.high)).mean())
    return (
        f"The kernels of these networks differ from the infinite-width kernel by {100 * _distance(cut):.0f}% on average. "
        f"Their outputs lie inside the ± 2 standard deviations of the limit at {100 * inside:.0f}% of the inputs."
    )


def _draw_kernel(data: dict[str, xr.Dataset]) -> theme.Figure:
    cut, band = data["slice"], data["band"]
    width, depth = cut.attrs["width"], cut.attrs["depth"]
    degrees = np.degrees(cut.angle.values)
    seen = bool(band.attrs["posterior"])
    fig = theme.figure(
        title=f"{width:,} hidden units in each of {depth} layer{'s' if depth > 1 else ''}",
        alt=f"Three panels for random {cut.attrs['activation']} networks of width {width} and depth {depth}. Left: the "
        "kernel of one network between all pairs of angles, largest on the diagonal. Middle: its row at angle zero, for "
        f"five networks, beside the dashed infinite-width limit; they differ by {100 * _distance(cut):.0f} percent. Right: "
        f"five networks' outputs, {'moved to fit four data points' if seen else 'before any data'}, beside the band "
        "that the limit predicts.",
        height=380,
    )
    theme.columns(
        fig,
        ("Kernel of one network", "Angle (degrees)", "Other angle (degrees)"),
        ("Its row at 0°, 5 networks", "Angle (degrees)", "Kernel"),
        ("Outputs after the data" if seen else "Outputs before any data", "Input", "Output"),
        widths=(1.0, 1.1, 1.1),
        gap=0.09,
    )
    theme.add_heatmap(fig, cut.kernel.isel(seed=0).values, degrees, degrees, title="kernel", signed=True)
    fig.data[-1].update(showscale=False)
    theme.add_bundle(fig, degrees, cut.slice, "kernels of five networks", active=True, column=2)
    theme.add_theory(fig, degrees, cut.limit_slice, "", column=2)
    fig.data[-1].name = "infinite width, kernel"
    theme.add_measurement(fig, band.x, band.mean_output, low=band.low, high=band.high, shade=theme.MUTED, column=3)
    fig.data[-1].update(line={"color": theme.INK, "dash": "dash", "width": 2}, name="infinite width, mean")
    theme.add_bundle(fig, band.x, band.sample, "outputs of five networks", active=True, column=3)
    # Data that the networks have not seen yet are there, but faint.
    theme.add_data(fig, band.data_x, band.data_y, "data" if seen else "data, not seen yet", column=3)
    fig.data[-1].marker.opacity = 1.0 if seen else 0.2
    fig.update_layout(margin={"l": 60, "r": 24})
    return fig


def explore_training(*, seed: int = 0, X: Any = None, y: Any = None, path: xr.Dataset | None = None) -> Panel:
    """Explore training in time: really trained networks beside the path that their kernel predicts.

    Parameters
    ----------
    seed
        Decides the networks.
    X, y
        Data of your own, inputs in [−1, 1] and targets; a wave with a sharp step if left out.
    path
        A data set of `experiments.training_path`, if it has been computed already.

    Returns
    -------
    A panel with controls for the time, the number of components in the prediction, and the network shown.
    """
    trained = experiments.training_path(X=X, y=y, seed=seed) if path is None else path
    last, members, components = trained.sizes["time"] - 1, trained.sizes["seed"], trained.sizes["component"]

    def compute(moment: int = last // 2, components_used: int = components, network: int = 1) -> _Moment:
        return _Moment(trained, moment, components_used, network - 1)

    return Panel(
        compute,
        _draw_training,
        title="Run training forwards and backwards",
        describe=_describe_training,
        hint="Press play, or move the moment with the arrow keys. Then take components out of the prediction.",
        ranges={
            "moment": Range(0, last, label="Moment", play=True),
            "components_used": Range(1, components, label="Components in the prediction"),
            "network": Range(1, members, label="Network shown"),
        },
    )


def _describe_training(now: _Moment) -> str:
    ds = now.path.isel(time=now.moment)
    left = ds.remaining.values
    done = int((left < 0.1).sum())
    return (
        f"After {int(ds.time):,} steps {done} of {len(left)} components are learnt to nine tenths; of the slowest, "
        f"{100 * float(left[-1]):.0f}% of the error remains."
    )


def _draw_training(now: _Moment) -> theme.Figure:
    ds = now.path.isel(time=now.moment)
    partial = ds.contribution.isel(component=slice(0, now.components)).sum("component")
    share = (now.moment + 1) / now.path.sizes["time"]
    used = "all components" if now.components == ds.sizes["component"] else f"the first {now.components}"
    left = ds.remaining.values
    fig = theme.figure(
        title=f"After {int(ds.time):,} steps",
        alt=f"Left: after {int(ds.time)} steps, the output of a trained network, the dashed prediction of the kernel from "
        f"{used}, its band over initialisations, and the training points. Right: what remains of each component of "
        f"the error, from {100 * left[0]:.0f} percent of the first to {100 * left[-1]:.0f} percent of the last.",
        height=380,
    )
    theme.columns(
        fig,
        ("Output", "Input", "Output"),
        ("Error left, predicted", "Component", "Share left"),
        widths=(2.0, 1.0),
        gap=0.12,
    )
    theme.add_measurement(fig, ds.x, ds.predicted, low=ds.low, high=ds.high, shade=theme.MUTED)
    fig.data[-1].update(line={"color": theme.GRID, "width": 1}, name="predicted mean, all components")
    theme.add_measurement(fig, ds.x, ds.network.isel(seed=now.member), active=True)
    fig.data[-1].name = f"network {now.member + 1}"
    theme.add_theory(fig, ds.x, partial, "")
    fig.data[-1].name = f"predicted mean, {used}"
    theme.add_data(fig, ds.data_x, ds.data_y, size=9)
    tones = [theme.time_color(share) if k < now.components else "#d9d6cc" for k in range(len(left))]
    fig.add_bar(x=ds.component.values, y=left, marker_color=tones, xaxis="x2", yaxis="y2", name="share left")
    low, high = float(ds.data_y.min()), float(ds.data_y.max())
    # Fixed axes: what moves is the curve, not the frame around it. A wild start may leave it for a moment.
    fig.layout.yaxis.range = [low - 0.6 * (high - low), high + 0.6 * (high - low)]
    fig.layout.yaxis2.range = [0, 1.05]
    fig.layout.xaxis2.dtick = 1
    fig.update_layout(margin={"r": 24})
    return fig
