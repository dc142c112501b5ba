"""Figures of the tangent-kernel wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

import base64
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
        y="Relative spread over seeds",
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
        subtitle=f"{ds.sizes['seed']} networks a width, trained alike; fitted slope {slope:.2f}. Dashed: through the first point",
        alt=f"On log-log axes the kernel's relative change in training falls from {mean[0]:.2g} at width "
        f"{int(ds.width[0])} to {mean[-1]:.2g} at width {int(ds.width[-1])}, with slope {slope:.2f}: faster than the "
        "dashed line of slope minus one half, which is proved, and like the dashed line of slope minus one.",
        x=axis_title(ds.width),
        y="Relative change",
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.width, _through_first(ds.width, mean, -0.5), "proved: at least as steep")
    theme.add_theory(fig, ds.width, _through_first(ds.width, mean, -1.0), "width⁻¹")
    theme.add_measurement(fig, ds.width, mean, "measured", low=low, high=high, markers=True)
    fig.update_layout(margin={"r": 210})
    return fig


def plot_kernel_flow(ds: xr.Dataset, num_times: int = 5) -> Figure:
    """Plot a trained network's outputs at several moments, beside those that the kernel at initialisation predicts."""
    one = ds.isel(seed=0)
    test, train = (one.isel(point=(one.split == part).values) for part in ("test", "train"))
    worst = float(ds.deviation.max())
    # Evenly spaced on the scale of learning, not of time: most happens early.
    picks = np.unique(np.geomspace(1, ds.sizes["time"], num_times).round().astype(int) - 1)
    fig = theme.figure(
        title=f"A linear equation predicts all outputs to within {100 * worst:.1f}%, step by step",
        subtitle=f"Dashed: predicted; solid: network of width {ds.attrs['width']:,}, light is early: "
        f"steps {', '.join(f'{int(ds.time[i]):,}' for i in picks)}",
        alt=f"Outputs of a network of width {ds.attrs['width']} on a circle at {num_times} moments of training. Solid "
        f"lines (the network) and dashed lines (the kernel's prediction) coincide at each moment, up to "
        f"{100 * worst:.1f} percent of the largest target, while the curve grows from its random start towards the data.",
        x=axis_title(ds.angle if "angle" in ds.coords else ds.point),
        y="Output",
    )

    place = "angle" if "angle" in ds.coords else "point"
    for position, index in enumerate(picks):
        step = int(ds.time[index])
        label = f"step {step:,}" if index in (picks[0], picks[-1]) else ""
        shade = theme.time_color(position / max(1, len(picks) - 1))
        theme.add_measurement(fig, test[place], test.network.isel(time=index), label, shade=shade)
        # Wide enough to be seen on both sides of the dashes that lie on it.
        fig.data[-1].line.width = 6
    for index in picks:
        theme.add_theory(fig, test[place], test.predicted.isel(time=index), "")
        fig.data[-1].line.width = 1.5
    return theme.add_data(fig, train[place], train.target, "training data", size=9)


def plot_decay_rates(ds: xr.Dataset) -> Figure:
    """Plot the measured decay rate of each error component against its eigenvalue."""
    r = ds.rate_correlation
    fig = theme.figure(
        title="Each component decays at the rate that its eigenvalue predicts",
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


def plot_finite_width_density(ds: xr.Dataset) -> Figure:
    """Plot how far the output law of finite networks is from a Gaussian, and what the first correction explains."""
    narrow = ds.isel(width=0)
    width = int(narrow.width)
    share = float(narrow.error.sel(law="corrected") / narrow.error.sel(law="gaussian"))
    fig = theme.figure(
        title=f"One term of order 1/width explains {100 * (1 - share):.0f}% of the deviation at width {width}",
        subtitle=f"Difference from the Gaussian density, {ds.attrs['num_samples']:,} random networks",
        alt=f"The measured density of outputs minus the Gaussian density, for networks of width {width}: positive in the "
        "middle, negative beside it, positive again in the tails. The dashed correction with the fourth Hermite polynomial "
        f"has the same shape; what it leaves is {share:.2f} of the difference from the Gaussian alone.",
        x=axis_title(ds.output),
        y="Density minus Gaussian",
    )
    theme.add_baseline(fig, ds.output, np.zeros(ds.sizes["output"]), "")
    theme.add_measurement(fig, ds.output, narrow.density - narrow.gaussian, "measured")
    return theme.add_theory(fig, ds.output, narrow.corrected - narrow.gaussian, "fourth-Hermite term")


def plot_lazy_rich(ds: xr.Dataset) -> Figure:
    """Plot kernel movement and test error against the output scale."""
    kernel, features = ds.kernel_change, ds.feature_change
    fig = theme.figure(
        title="One number moves a network from rich to lazy: the scale α of its output",
        subtitle=f"The same architecture, data and targets; {ds.sizes['seed']} seeds",
        alt="Two panels against the output scale alpha, on logarithmic axes. The relative change of the kernel in training "
        f"falls from {float(kernel.mean('seed')[0]):.2g} to {float(kernel.mean('seed')[-1]):.2g} as alpha grows, and that "
        f"of the hidden features from {float(features.mean('seed')[0]):.2g} to {float(features.mean('seed')[-1]):.2g}.",
        x_type="log",
        y_type="log",
    )
    theme.columns(
        fig,
        ("How far training moves the kernel", axis_title(ds.alpha), "Relative change"),
        ("How far it moves the hidden features", axis_title(ds.alpha), "Relative change"),
    )
    for column, values in enumerate((kernel, features), start=1):
        mean, low, high = _over_seeds(values)
        theme.add_measurement(fig, ds.alpha, mean, "", low=low, high=high, markers=True, column=column)
    return fig


_MODEL_NAMES = {"network": "network", "quadratic": "quadratic model", "linear": "linear model"}


def plot_catapult(ds: xr.Dataset) -> Figure:
    """Plot the loss and the top kernel eigenvalue of network, quadratic and linear model at a large learning rate."""
    inside = ds.where((ds.lr_multiple > 2) & (ds.lr_multiple < 4), drop=True)
    one = inside.isel(lr_multiple=inside.sizes["lr_multiple"] // 2)
    multiple = float(one.lr_multiple)
    loss = one.loss.median("seed")
    fig = theme.figure(
        title="Above the stable learning rate the kernel must shrink, or the loss explodes",
        subtitle=f"Learning rate {multiple:g} over the top eigenvalue; medians of {ds.sizes['seed']} seeds",
        alt=f"Left: loss against steps at learning rate {multiple:g} over the top kernel eigenvalue. The linear model's loss "
        "grows without bound; network and quadratic model rise too, then fall far below their start. Right: the top "
        "eigenvalue times the learning rate of network and quadratic model falls below the dashed line at 2.",
        y_type="log",
        height=400,
    )
    theme.columns(
        fig,
        ("Loss", axis_title(ds.step), "Loss / loss at start"),
        ("Top eigenvalue of the kernel", axis_title(ds.step), "Times learning rate"),
        gap=0.2,
    )
    fig.layout.yaxis2.update(type="linear", dtick=None, minor=None)
    for index, model in enumerate(("network", "quadratic", "linear")):
        curve = loss.sel(model=model).values
        # A diverging curve would squeeze the others flat: it leaves the figure at a thousandfold of the start.
        shown = curve <= 1e3 if model == "linear" else np.isfinite(curve)
        args = (ds.step[shown], np.maximum(curve[shown], 1e-8), _MODEL_NAMES[model])
        if model == "linear":
            theme.add_baseline(fig, *args)
            continue
        theme.add_measurement(fig, *args, index=index)
        sharp = one.sharpness.sel(model=model).median("seed")
        theme.add_measurement(fig, ds.recorded_step, sharp, "", index=index, column=2)
    theme.add_theory(fig, ds.recorded_step, np.full(ds.sizes["recorded_step"], 2.0), "2: stable below", column=2)
    fig.update_layout(margin={"r": 120})
    return fig


def plot_grokking(ds: xr.Dataset) -> Figure:
    """Plot training and test error along time for each output scale, on a logarithmic time axis."""
    fig = theme.figure(
        title="The lazier the start, the longer the test error lags behind",
        subtitle=f"Medians of {ds.sizes['seed']} seeds; grey: where we call it learnt; a run ends once its test error is small",
        alt="One panel for each output scale alpha: training error and test error, relative to the variance of the target, "
        "against training steps on logarithmic axes. "
        + " ".join(
            f"At alpha {float(a):g} training error passes a tenth at step {float(ds.train_time.sel(alpha=a).median()):.0f} "
            f"and test error at step {float(ds.test_time.sel(alpha=a).median()):.0f}."
            for a in ds.alpha
        ),
        x_type="log",
        y_type="log",
    )
    names = [f"α = {float(a):g}" for a in ds.alpha]
    theme.columns(fig, *((name, axis_title(ds.time), "Error / variance") for name in names))
    keep = ds.time.values > 0
    for column in range(1, ds.sizes["alpha"] + 1):
        one = ds.isel(alpha=column - 1, time=keep)
        for index, (name, label) in enumerate((("train_error", "training"), ("test_error", "test"))):
            curve = np.maximum(one[name].median("seed"), 1e-5)
            shown = label if column == ds.sizes["alpha"] else ""
            theme.add_measurement(fig, one.time, curve, shown, index=index, column=column)
            fig.data[-1].name = f"{label}, {names[column - 1]}"
        theme.add_baseline(fig, one.time, np.full(int(keep.sum()), 0.1), "", column=column)
    return fig


def plot_alignment(ds: xr.Dataset, alpha: float) -> Figure:
    """Plot the alignment of kernel and target along training, for one output scale."""
    one = ds.sel(alpha=alpha, method="nearest")
    mean, low, high = _over_seeds(one.alignment)
    fig = theme.figure(
        title=f"As the test error falls, the kernel's alignment with the target grows {mean[-1] / mean[0]:.1f}-fold",
        subtitle=f"α = {float(one.alpha):g}, {ds.sizes['seed']} seeds",
        alt=f"Alignment of the centred kernel with the target against training steps: from {mean[0]:.2g} at the start to "
        f"{mean[-1]:.2g} at the end.",
        x=axis_title(ds.alignment_time),
        y="Kernel–target alignment",
        x_type="log",
    )
    later = ds.alignment_time.values > 0
    time = ds.alignment_time[later]
    return theme.add_measurement(fig, time, mean[later], "alignment", low=low[later], high=high[later])


_PARAMETRISATION_NAMES = {"mup": "maximal update (μP)", "ntk": "NTK", "standard": "standard"}


def plot_feature_change(ds: xr.Dataset) -> Figure:
    """Plot how far training moves the last hidden features against width, for each parametrisation."""
    slopes = {str(name): float(ds.slope.sel(parametrisation=name)) for name in ds.parametrisation.values}
    said = ", ".join(f"{_PARAMETRISATION_NAMES[name]} {slope:.2f}" for name, slope in slopes.items())
    fig = theme.figure(
        title="Only the maximal update still learns features when the width grows",
        subtitle=f"Digits, {ds.sizes['seed']} seeds; slopes on log axes: {said}",
        alt="On log-log axes the relative change of the last hidden features in training against width. Fitted slopes: "
        f"{said}.",
        x=axis_title(ds.width),
        y="Change of features (relative)",
        x_type="log",
        y_type="log",
    )
    for index, name in enumerate(ds.parametrisation.values):
        mean, low, high = _over_seeds(ds.change.sel(parametrisation=name))
        label = _PARAMETRISATION_NAMES[str(name)]
        theme.add_measurement(fig, ds.width, mean, label, low=low, high=high, index=index, markers=True)
    fig.update_layout(margin={"r": 170})
    return fig


def plot_scale_mixture(ds: xr.Dataset) -> Figure:
    """Plot the density of outputs of networks with a random last-layer variance, beside the two laws."""
    distance = {str(name): float(ds.distance.sel(law=name)) for name in ds.law.values}
    fig = theme.figure(
        title="With an uncertain scale, the Gaussian limit becomes a Student-t",
        subtitle=f"{ds.attrs['num_networks']:,} networks of width {ds.attrs['width']}; greatest difference of distribution "
        "functions: " + ", ".join(f"{_LAW_NAMES.get(name, name)} {value:.3f}" for name, value in distance.items()),
        alt="Density of the outputs of wide random networks whose last-layer variance is itself random, on a logarithmic "
        "axis. The measured dots follow the dashed Student-t density into the tails, where the Gaussian of the same "
        "variance falls away.",
        x=axis_title(ds.output),
        y="Density",
        y_type="log",
    )
    gaussian = ds.law_density.sel(law="gaussian")
    seen = gaussian.values > 1e-5
    theme.add_baseline(fig, ds.output[seen], gaussian[seen], "Gaussian, same variance")
    theme.add_theory(fig, ds.output, ds.law_density.sel(law="student_t"), "Student-t")
    seen = ds.density.values > 0
    return theme.add_data(fig, ds.output[seen], ds.density[seen], "networks", tone=theme.color(0), size=6)


_LAW_NAMES = {"student_t": "Student-t", "gaussian": "Gaussian"}


def plot_output_kurtosis(ds: xr.Dataset) -> Figure:
    """Plot the excess kurtosis of random networks' outputs against depth over width, beside the prediction."""
    fig = theme.figure(
        title="How far from Gaussian is set, to leading order, by depth over width",
        subtitle="Widths "
        + ", ".join(f"{int(w)} ({m})" for w, m in zip(ds.width, ("circle", "diamond", "square"), strict=False))
        + f", moved apart sideways; dashed: exact at width {int(ds.width[-1])}",
        alt="Excess kurtosis of the outputs of random ReLU networks against depth over width. Networks of "
        f"{', '.join(str(int(w)) for w in ds.width)} units with the same ratio have nearly the same kurtosis, which rises along "
        "the dashed prediction.",
        x=axis_title(ds.ratio),
        y=axis_title(ds.kurtosis),
    )
    theme.add_theory(fig, ds.ratio, ds.predicted.sel(width=ds.width[-1]), "    exact")
    for index, width in enumerate(ds.width.values):
        # Side by side, or they would hide each other.
        shift = 0.0007 * (index - (ds.sizes["width"] - 1) / 2)
        one = ds.kurtosis.sel(width=width)
        theme.add_data(fig, ds.ratio + shift, one, f"width {width}", tone=theme.color(index), size=10)
        bars = {"array": 1.96 * ds.kurtosis_error.sel(width=width).values, "color": theme.color(index), "width": 3}
        fig.data[-1].update(marker_symbol=theme.MARKERS[index], error_y=bars)
    return fig


def plot_signal_propagation(ds: xr.Dataset) -> Figure:
    """Plot the mean squared signal through the layers of a deep network, for each weight variance."""
    fig = theme.figure(
        title="Only one weight variance carries a signal through thirty layers",
        subtitle=f"{ds.attrs['num_networks']:,} networks of width {ds.attrs['width']}; thin grey: the median network at C_W = 2",
        alt="On a logarithmic axis the mean squared signal against layer: it stays at one for weight variance 2, falls "
        "exponentially below and grows exponentially above. The median network at variance 2 falls slowly too.",
        x=axis_title(ds.layer),
        y="Squared signal / input",
        y_type="log",
    )
    for index, variance in enumerate(ds.weight_variance.values):
        one = ds.sel(weight_variance=variance)
        theme.add_theory(fig, ds.layer, one.predicted, "")
        theme.add_measurement(fig, ds.layer, one.mean_square, f"C_W = {variance:g}", index=index)
    middle = ds.median_square.sel(weight_variance=2.0, method="nearest")
    return theme.add_baseline(fig, ds.layer, middle, "median")


def plot_kernel_samples(ds: xr.Dataset) -> Figure:
    """Plot one row of the kernel of several random networks, for the narrowest and the widest, beside the limit."""
    angle = 360 * np.arange(ds.sizes["point"]) / ds.sizes["point"]
    fig = theme.figure(
        title="Narrow networks each have a kernel of their own; wide ones share one",
        subtitle=f"{ds.sizes['seed']} random networks a panel, ink: their mean. Kernel between the point at 0° and all others",
        alt=f"Two panels with the kernels of {ds.sizes['seed']} random networks as functions of the angle. At width "
        f"{int(ds.width[0])} the curves scatter widely; at width {int(ds.width[-1])} they lie on one curve.",
        height=400,
    )
    ends = [int(ds.width[0]), int(ds.width[-1])]
    theme.columns(fig, *((f"{width:,} hidden units", "Angle (degrees)", "Kernel") for width in ends))
    for column, width in enumerate(ends, start=1):
        rows = ds.kernel.sel(width=width).isel(point=0)
        theme.add_bundle(fig, angle, rows, f"networks of width {width}", shade="#7fa9d1", column=column)
        theme.add_measurement(fig, angle, rows.mean("seed"), shade=theme.INK, column=column)
        fig.data[-1].name = f"mean at width {width}"
        end = "" if column == 1 else "2"
        low, high = float(ds.kernel.isel(point=0).min()), float(ds.kernel.isel(point=0).max())
        fig.layout[f"yaxis{end}"].range = [low - 0.05 * (high - low), high + 0.05 * (high - low)]
    return fig


_METHOD_NAMES = {
    "network": "trained network",
    "kernel prediction": "its prediction",
    "NTK regression": "NTK regression",
    "linear": "linear",
}


def plot_digits(ds: xr.Dataset) -> Figure:
    """Plot test accuracy on digits against the number of training digits: network, prediction, kernel and baseline."""
    most = int(ds.num_train[-1])
    agreement = float(ds.agreement.isel(num_train=-1).mean())
    fig = theme.figure(
        title="On digits the kernel knows what the network will say",
        subtitle=f"{ds.sizes['seed']} splits; with {most} digits, network and prediction agree on {100 * agreement:.0f}% "
        "of the test digits",
        alt="Test accuracy on handwritten digits against the number of training digits. "
        + " ".join(
            f"{label}: {float(ds.accuracy.sel(predictor=name).mean('seed')[0]):.2f} to "
            f"{float(ds.accuracy.sel(predictor=name).mean('seed')[-1]):.2f}."
            for name, label in _METHOD_NAMES.items()
        ),
        x=axis_title(ds.num_train),
        y=axis_title(ds.accuracy),
        x_type="log",
    )
    for index, name in enumerate(("network", "NTK regression")):
        mean, low, high = _over_seeds(ds.accuracy.sel(predictor=name))
        label = _METHOD_NAMES[name]
        theme.add_measurement(fig, ds.num_train, mean, label, low=low, high=high, index=index, markers=True)
    theme.add_theory(fig, ds.num_train, ds.accuracy.sel(predictor="kernel prediction").mean("seed"), "predicted")
    fig.data[-1].name = "prediction of the network"
    theme.add_baseline(fig, ds.num_train, ds.accuracy.sel(predictor="linear").mean("seed"), "linear")
    fig.update_layout(margin={"r": 140})
    return fig


def plot_digit_outputs(ds: xr.Dataset, count: int = 4) -> Figure:
    """Plot a few test digits and, under each, the network's ten outputs beside the predicted ones."""
    # Those that network and prediction are least sure of say more than a row of easy ones.
    ordered = np.sort(ds.predicted_output.values, axis=1)
    picks = np.argsort(ordered[:, -1] - ordered[:, -2])[:count]
    fig = theme.figure(
        title="Even where it hesitates, the network does as predicted",
        subtitle="The least clear test digits. Bars: the trained network's ten outputs; ink: the kernel's prediction",
        alt=f"The {count} test digits that the prediction is least sure of: labels "
        f"{', '.join(str(int(ds.label[i])) for i in picks)}. Under each image the ten outputs of the trained network as "
        "bars, with the predicted outputs as ink markers that lie close to the bars' ends.",
        height=420,
    )
    theme.columns(fig, *((f"written: {int(ds.label[i])}", "Output for digit", "") for i in picks), gap=0.05)
    images = []
    for column, i in enumerate(picks, start=1):
        end = "" if column == 1 else str(column)
        one = ds.isel(sample=i)
        fig.add_bar(
            x=ds.digit.values,
            y=one.network_output.values,
            marker_color=theme.color(0),
            name=f"network, written {int(one.label)}",
            xaxis=f"x{end}",
            yaxis=f"y{end}",
        )
        theme.add_data(
            fig, ds.digit, one.predicted_output, f"prediction, written {int(one.label)}", size=8, column=column
        )
        fig.layout[f"yaxis{end}"].update(domain=[0, 0.52], range=[-0.45, 1.1], showticklabels=column == 1)
        fig.layout[f"xaxis{end}"].update(dtick=1, range=[-0.7, 9.7])
        middle = sum(fig.layout[f"xaxis{end}"].domain) / 2
        images.append(_pixels(one.image.values, middle))
    fig.update_layout(images=images, barmode="overlay", margin={"r": 24})
    return fig


def _pixels(image: Any, middle: float) -> dict[str, Any]:
    """Return an 8×8 image as a layout image of sharp squares, ink on the card."""
    low, high = float(image.min()), float(image.max())
    squares = "".join(
        f"<rect x='{c}' y='{r}' width='1.02' height='1.02' fill='{theme.INK}' opacity='{(image[r, c] - low) / (high - low):.2f}'/>"
        for r in range(image.shape[0])
        for c in range(image.shape[1])
    )
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><rect width='8' height='8' fill='#efece4'/>{squares}</svg>"
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    place = {"xref": "paper", "yref": "paper", "x": middle, "y": 0.98, "xanchor": "center", "yanchor": "top"}
    return {"source": source, "sizex": 0.2, "sizey": 0.36, **place}


def plot_posterior_gap(ds: xr.Dataset) -> Figure:
    """Plot the gap in negative log-likelihood between the Gaussian and the Student-t process, each training set a dot."""
    fig = theme.figure(
        title="A wrong fixed scale costs the Gaussian process about a nat; a tuned one costs nothing",
        subtitle=f"Shifted inputs; each dot one of {ds.sizes['seed']} training sets; to the right of zero the Student-t is better",
        alt="How much lower the Student-t process's negative log-likelihood is than the Gaussian's, per point. At the same "
        f"unit prior scale: {float(ds.gap.sel(setting='unit', inputs='shifted').mean()):.2f} nats on average. With both "
        f"tuned: {float(ds.gap.sel(setting='tuned', inputs='shifted').mean()):.2f}.",
        x="Gaussian − Student-t, negative log-likelihood (nats per point)",
        height=260,
    )
    for row, (setting, label) in enumerate((("tuned", "both tuned"), ("unit", "unit prior scale"))):
        values = ds.gap.sel(setting=setting, inputs="shifted").values
        spread = row + 0.18 * np.linspace(-1, 1, len(values))
        theme.add_data(fig, values, spread, label, tone=theme.color(row), size=9)
    fig.add_vline(x=0.0, line={"color": theme.BASELINE, "width": 2})
    fig.update_yaxes(tickvals=[0, 1], ticktext=["both tuned", "unit prior scale"], range=[-0.6, 1.6])
    fig.update_layout(margin={"r": 40})
    return fig
