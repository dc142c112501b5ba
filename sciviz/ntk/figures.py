"""Figures of the tangent-kernel wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.theme import Figure, axis_title


def _over_seeds(values: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the mean over seeds with the tenth and ninetieth percentile."""
    low, high = values.quantile([0.1, 0.9], "seed").values
    return values.mean("seed").values, low, high


def _through_first(x: Any, y: Any, slope: float) -> Any:
    """Return the power law of that slope through the first point."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return y[0] * (x / x[0]) ** slope


def plot_concentration(ds: xr.Dataset) -> Figure:
    """Plot the kernel's spread over seeds against width, beside the law width^-1/2."""
    slope = float(ds.spread_slope)
    fig = theme.figure(
        title="At initialisation the kernel loses its randomness like width⁻¹ᐟ²",
        subtitle=f"{ds.sizes['seed']} networks a width; fitted slope {slope:.2f}",
        alt=f"On log-log axes the kernel's relative spread over seeds falls from {float(ds.spread[0]):.2g} at width "
        f"{int(ds.width[0])} to {float(ds.spread[-1]):.2g} at width {int(ds.width[-1])}; the fitted slope is "
        f"{slope:.2f}, and a dashed line of slope minus one half runs beside it.",
        x=axis_title(ds.width),
        y=axis_title(ds.spread),
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.width, _through_first(ds.width, ds.spread, -0.5), "width⁻¹ᐟ²")
    return theme.add_measurement(fig, ds.width, ds.spread, "measured", markers=True)


def plot_kernel_change(ds: xr.Dataset) -> Figure:
    """Plot how far training moves the kernel, against width."""
    mean, low, high = _over_seeds(ds.change)
    slope = float(ds.change_slope)
    fig = theme.figure(
        title="The wider the network, the less training moves its kernel",
        subtitle=f"{ds.sizes['seed']} networks a width, all trained alike; fitted slope {slope:.2f}",
        alt=f"On log-log axes the kernel's relative change in training falls from {mean[0]:.2g} at width "
        f"{int(ds.width[0])} to {mean[-1]:.2g} at width {int(ds.width[-1])}, with slope {slope:.2f}: faster than the "
        "dashed line of slope minus one half that the known bound allows, and like the dashed line of slope minus one.",
        x=axis_title(ds.width),
        y=axis_title(ds.change),
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.width, _through_first(ds.width, mean, -0.5), "bound: width⁻¹ᐟ²")
    theme.add_theory(fig, ds.width, _through_first(ds.width, mean, -1.0), "perturbation theory: width⁻¹")
    theme.add_measurement(fig, ds.width, mean, "measured", low=low, high=high, markers=True)
    return fig.update_layout(margin={"r": 210})


def plot_kernel_flow(ds: xr.Dataset, num_times: int = 5) -> Figure:
    """Plot a trained network's outputs at several moments, beside those that the kernel at initialisation predicts."""
    one = ds.isel(seed=0)
    test = one.where(one.split == "test", drop=True)
    order = np.arange(test.sizes["point"])
    train = one.where(one.split == "train", drop=True)
    worst = float(ds.deviation.max())
    fig = theme.figure(
        title="A straight-line equation predicts every output at every moment",
        subtitle=f"Width {ds.attrs['width']}; largest deviation {100 * worst:.1f}% of the largest target; "
        "light is early, dark is late",
        alt=f"Outputs of a network of width {ds.attrs['width']} on a circle at {num_times} moments of training. Solid "
        f"lines (the network) and dashed lines (the kernel's prediction) coincide at each moment, up to {100 * worst:.1f} "
        "percent of the largest target, while the curve grows from its random start towards the data.",
        x="Angle (degrees)",
        y="Output",
    )
    angle = 360 * order / len(order)
    picks = np.unique(np.geomspace(1, ds.sizes["time"], num_times).round().astype(int) - 1)
    for place, index in enumerate(picks):
        step = int(ds.time[index])
        label = f"step {step}" if index in (picks[0], picks[-1]) else ""
        shade = theme.time_color(place / max(1, len(picks) - 1))
        theme.add_measurement(fig, angle, test.network.isel(time=index), label, shade=shade)
    for index in picks:
        theme.add_theory(fig, angle, test.predicted.isel(time=index), "")
    del train
    return fig


def plot_decay_rates(ds: xr.Dataset) -> Figure:
    """Plot the measured decay rate of each error component against its eigenvalue."""
    r = ds.rate_correlation
    fig = theme.figure(
        title="What the kernel likes, the network learns first",
        subtitle=f"Each dot is one eigen-direction of one network; correlation of logs {float(r.min()):.3f} or more",
        alt="On log-log axes the measured decay rates of the error's components lie on the dashed line that their "
        f"eigenvalues predict, over {_decades(ds):.1f} decades; the correlation of logs is at least {float(r.min()):.3f}.",
        x=axis_title(ds.eigenvalue),
        y=axis_title(ds.rate),
        x_type="log",
        y_type="log",
    )
    value, rate, expected = (ds[name].values.ravel() for name in ("eigenvalue", "rate", "predicted_rate"))
    keep = np.isfinite(rate)
    order = np.argsort(value[keep])
    theme.add_theory(fig, value[keep][order], expected[keep][order], "predicted")
    return theme.add_data(fig, value[keep], rate[keep], "measured", tone=theme.color(0))


def _decades(ds: xr.Dataset) -> float:
    value = ds.eigenvalue.values[np.isfinite(ds.rate.values)]
    return float(np.log10(value.max() / value.min())) if value.size else 0.0
