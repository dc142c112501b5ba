"""Figures of the Kolmogorov-Arnold wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.theme import Figure, axis_title

# -------------------------------------------------------------------------------- counterparts and learnt activations


def _dots_by_seed(fig: Figure, values: xr.DataArray, rows: str, labels: dict[str, str] | None = None) -> Figure:
    """Draw one dot a seed in one row for each entry of `rows`, the first on top; the first four rows differ in colour."""
    names = [str(name) for name in values[rows].values]
    for place, name in enumerate(names):
        row = len(names) - 1 - place
        kind = min(place, 3)
        spread = row + 0.14 * np.linspace(-1, 1, values.sizes["seed"])
        theme.add_data(fig, values.isel({rows: place}), spread, name, tone=theme.color(kind), size=9)
        fig.data[-1].marker.symbol = theme.MARKERS[kind]
    text = [(labels or {}).get(name, name) for name in names[::-1]]
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=text, range=[-0.6, len(names) - 0.4], showgrid=False)
    return fig


def plot_periodic(ds: xr.Dataset, networks: tuple[str, ...] = ("ReLU", "tanh", "Snake, a = 3")) -> Figure:
    """Plot a wave, what networks make of it beyond the interval they were trained on, and its true course."""
    shown = [n for n in networks if n in ds.network.values]
    reach, zero = float(ds.attrs["reach"]), float(ds.attrs["zero_error"])
    medians = {n: float(ds.error.median("seed").sel(network=n)) for n in shown}
    fig = theme.figure(
        title="All fit the interval; beyond it each goes on as its activation does",
        subtitle=f"Trained where |x| ≤ {reach:g}, {ds.sizes['seed']} seeds, the first one drawn; predicting zero costs {zero:.2g}",
        alt=f"A wave between -{2 * reach:g} and {2 * reach:g}, dashed, and the output of {len(shown)} networks trained on the "
        "middle half. Median errors outside: " + ", ".join(f"{n} {v:.2g}" for n, v in medians.items()) + ".",
        x=axis_title(ds.position),
        y="Output",
    )
    theme.add_theory(fig, ds.position, ds.target, "signal")
    for index, name in enumerate(shown):
        theme.add_measurement(fig, ds.position, ds.prediction.sel(network=name), name, index=index)
    size = float(np.abs(ds.target).max())
    fig.update_yaxes(range=[-3 * size, 3 * size])
    fig.add_vrect(x0=-reach, x1=reach, fillcolor=theme.GRID, opacity=0.5, line_width=0, layer="below")
    fig.update_layout(margin={"r": 110})
    return fig


def plot_periodic_errors(ds: xr.Dataset) -> Figure:
    """Plot the errors beyond the interval, one dot a seed, beside what predicting zero costs."""
    median = ds.error.median("seed")
    best = str(median.idxmin("network").item())
    zero = float(ds.attrs["zero_error"])
    fig = theme.figure(
        title="A wave is continued only where the activation's own frequency is near it",
        subtitle=f"One dot a seed; the grey line is the cost of predicting zero, {zero:.2g}",
        alt="Mean squared error beyond the interval on a logarithmic axis, one row a network, one dot a seed. Medians: "
        + ", ".join(f"{n} {float(median.sel(network=n)):.2g}" for n in ds.network.values)
        + f". The lowest is {best}.",
        x=axis_title(ds.error),
        x_type="log",
        height=320,
    )
    _dots_by_seed(fig, ds.error, "network")
    theme.add_baseline(fig, [zero, zero], [-0.6, ds.sizes["network"] - 0.4], "")
    return fig


def plot_sharp(ds: xr.Dataset, target: str | None = None) -> Figure:
    """Plot a sharp function near its jump, and what tanh and Cauchy units make of it."""
    name = str(ds.target.values[0]) if target is None else target
    one = ds.sel(target=name)
    near = np.abs(ds.position.values) <= 0.3
    medians = {str(a): float(one.error.sel(activation=a).median()) for a in ds.activation.values}
    lower = min(medians, key=lambda a: medians[a])
    fig = theme.figure(
        title=f"{lower} units draw the jump with the smaller error",
        subtitle=f"{name}, {ds.attrs['width']} hidden units each, the first of {ds.sizes['seed']} seeds",
        alt=f"The target {name} near zero, dashed, and the outputs of two networks. Median test errors: "
        + ", ".join(f"{a} {v:.2g}" for a, v in medians.items())
        + ".",
        x=axis_title(ds.position),
        y="Output",
    )
    theme.add_theory(fig, ds.position[near], one.signal[near], "target")
    for index, activation in enumerate(ds.activation.values):
        curve = one.prediction.sel(activation=activation)[near]
        theme.add_measurement(fig, ds.position[near], curve, str(activation), index=index)
    fig.update_layout(margin={"r": 80})
    return fig


def plot_heat(ds: xr.Dataset) -> Figure:
    """Plot the relative errors of the heat equation's solutions, one dot a seed."""
    medians = {str(a): float(ds.error.sel(activation=a).median()) for a in ds.activation.values}
    low, high = sorted(medians, key=lambda a: medians[a])
    fig = theme.figure(
        title=f"Heat equation: {high} ends with {medians[high] / medians[low]:.2g} times the error of {low}",
        subtitle=f"Start of modes {ds.attrs['modes']}; {ds.attrs['width']} hidden units; one dot a seed",
        alt="Relative L2 error of the solution, one dot a seed. Medians: "
        + ", ".join(f"{a} {v:.2g}" for a, v in medians.items())
        + ".",
        x=axis_title(ds.error),
        x_type="log",
        height=260,
    )
    return _dots_by_seed(fig, ds.error, "activation")


def plot_disc(ds: xr.Dataset) -> Figure:
    """Plot the disc as the best network of three kinds draws it."""
    shown = ["quadratic", "ReLU", "squaring"]
    best = {n: float(ds.error.sel(network=n).min()) for n in shown}
    size = {n: int(ds.num_parameters.sel(network=n)) for n in shown}
    fig = theme.figure(
        title="A quadratic neuron holds the whole disc; ReLU cuts it out with straight edges",
        subtitle="The best seed of each; the rim of the target is a circle",
        alt="Three maps of the plane. Mean squared errors on new points: "
        + ", ".join(f"{n} {best[n]:.2g} with {size[n]} parameters" for n in shown)
        + ".",
    )
    theme.columns(
        fig,
        *[(f"{n}: {size[n]} parameters, error {best[n]:.1g}", axis_title(ds["first"]), "Second input") for n in shown],
    )
    for column, name in enumerate(shown, 1):
        picture = ds.prediction.sel(network=name).transpose("second", "first")
        theme.add_heatmap(fig, picture, ds["first"], ds["second"], title="output", column=column)
        fig.data[-1].update(zmin=0.0, zmax=float(ds.signal.max()), showscale=column == len(shown))
    return fig


def plot_deep(ds: xr.Dataset) -> Figure:
    """Plot the training of deep quadratic networks, from a random start and as ReLinear does."""
    failed = {str(s): int((ds.relative_error.sel(start=s) >= 0.9).sum()) for s in ds.start.values}
    num = ds.sizes["seed"]
    fig = theme.figure(
        title=f"Failed of {num}: {failed['random']} from a random start, {failed['ReLinear']} with ReLinear",
        subtitle=f"{ds.attrs['depth']} hidden layers of {ds.attrs['width']} quadratic neurons; a dead run stays at 10³⁰",
        alt="Training error by the target's variance against the step, on a logarithmic axis. "
        f"{failed['random']} of {num} runs from a random start are not finite or not better than a constant; with ReLinear "
        f"{failed['ReLinear']}, and the median ends at {float(ds.relative_error.sel(start='ReLinear').median()):.2g}.",
        x=axis_title(ds.step),
        y=axis_title(ds.history),
        y_type="log",
    )
    for index, start in enumerate(ds.start.values):
        history = ds.history.sel(start=start)
        theme.add_measurement(
            fig,
            ds.step,
            history.median("seed"),
            "random start" if start == "random" else str(start),
            low=history.min("seed"),
            high=history.max("seed"),
            index=index,
        )
    fig.update_layout(margin={"r": 120})
    return fig


def plot_arithmetic(ds: xr.Dataset) -> Figure:
    """Plot the weights of an arithmetic unit for each task, beside the inputs that the task is made of."""
    tasks = [str(t) for t in ds.task.values][:2]
    worst = {t: float(ds.distance.sel(task=t).max()) for t in tasks}
    fig = theme.figure(
        title="Weights that end at whole numbers say which inputs are used",
        subtitle=f"One dot a seed ({ds.sizes['seed']}); dashed: the exact weights",
        alt="Weights of the unit against the number of the input, for a sum and for a product. Largest distances from whole "
        "numbers: " + ", ".join(f"{t} {v:.2g}" for t, v in worst.items()) + ".",
    )
    theme.columns(
        fig,
        ("NAU: x₁ + x₂ - x₃ + x₄", axis_title(ds.input), "Weight"),
        ("NMU: x₁ x₂ x₃", axis_title(ds.input), "Weight"),
    )
    exact = {"sum": [1, 1, -1, 1], "product": [1, 1, 1]}
    for column, task in enumerate(tasks, 1):
        truth = np.zeros(ds.sizes["input"])
        truth[: len(exact[task])] = exact[task]
        theme.add_theory(fig, ds.input, truth, "", column=column)
        weight = ds.weight.sel(task=task)
        where = np.broadcast_to(ds.input.values, weight.shape).ravel()
        theme.add_data(fig, where, weight.values.ravel(), task, tone=theme.color(column - 1), column=column)
    return fig


def plot_arithmetic_errors(ds: xr.Dataset) -> Figure:
    """Plot errors on the larger range, of the arithmetic units and of a ReLU MLP, by task."""
    median = ds.error.median("seed")
    labels, rows = [], []
    for task in ds.task.values:
        for network in ds.network.values:
            labels.append(f"{task}: {network}")
            rows.append(ds.error.sel(task=task, network=network).values.clip(1e-16))
    fig = theme.figure(
        title="Single units extrapolate exactly; in series they often do not",
        subtitle=f"Trained on {ds.attrs['train_range']}, asked on {ds.attrs['test_range']}; one dot a seed",
        alt="Mean squared error on the larger range, on a logarithmic axis, one dot a seed. Medians: "
        + ", ".join(
            f"{t}, {n} {float(median.sel(task=t, network=n)):.2g}" for t in ds.task.values for n in ds.network.values
        )
        + ".",
        x=axis_title(ds.error),
        x_type="log",
        height=340,
    )
    for place, (label, values) in enumerate(zip(labels, rows, strict=True)):
        spread = len(rows) - 1 - place + 0.14 * np.linspace(-1, 1, len(values))
        theme.add_data(fig, values, spread, label, tone=theme.color(place % 2), size=9)
        fig.data[-1].marker.symbol = theme.MARKERS[place % 2]
    fig.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=labels[::-1], range=[-0.6, len(rows) - 0.4], showgrid=False
    )
    return fig


def plot_duplicates(ds: xr.Dataset) -> Figure:
    """Plot which activations are fitted by which, exactly in both directions or in one."""
    fits = ds.error.values <= 1e-6
    both = fits & fits.T
    np.fill_diagonal(both, False)
    one = fits & ~fits.T
    taken = both.any(1)
    names = ds.activation.values[taken]
    z = np.where(both, 2.0, np.where(one, 1.0, 0.0))[np.ix_(taken, taken)]
    pairs = int(both.sum() // 2)
    fig = theme.figure(
        title=f"{len(ds.activation)} names, {pairs} pairs that are one function",
        subtitle="Dark: each fits the other within 10⁻⁶; light: the row is fitted by the column, and not the other way round",
        alt=f"A map of {len(names)} activations by themselves, those that coincide with at least one other. {pairs} pairs fit "
        f"each other exactly: {', '.join(str(p) for p in ds.pair.values[:6])}, and so on. Of all {len(ds.activation)} names "
        f"{int(one.sum())} fits work in one direction only.",
        height=640,
    )
    theme.add_heatmap(fig, z, names, names)
    fig.data[-1].update(showscale=False, name="fit")
    fig.update_xaxes(tickangle=-60)
    fig.update_yaxes(autorange="reversed")
    return fig


def plot_slide(ds: xr.Dataset) -> Figure:
    """Plot what ELU becomes as the order of its Mittag-Leffler function falls."""
    near = np.abs(ds.position.values) <= 5
    fig = theme.figure(
        title="One form slides from ELU to a fraction as its order α falls",
        subtitle="x E(min(x, 0)) with β = 1 + α; dashed: ELU itself",
        alt="Curves of the gated form against x for orders from 0, light, to 1, dark. They share the line y = x for positive x; "
        "for negative x the one of order 1 is ELU and levels off at -1, those of smaller order bend less.",
        x=axis_title(ds.position),
        y="Activation",
    )
    elu = ds.function.sel(activation="ELU")[near]
    for alpha in ds.alpha.values:
        label = f"α = {alpha:.1f}" if alpha in (ds.alpha.values[0], ds.alpha.values[-1]) else ""
        curve = ds.slide.sel(alpha=alpha)[near]
        theme.add_measurement(fig, ds.position[near], curve, "", shade=theme.time_color(float(alpha)))
        fig.data[-1].name = f"α = {alpha:.1f}"
        if label:
            fig.add_annotation(x=-5, y=float(curve[0]), text=label, showarrow=False, xanchor="right", xshift=-4)
    theme.add_theory(fig, ds.position[near], elu, "ELU")
    fig.update_layout(margin={"l": 90, "r": 60})
    return fig


def plot_learnt_shapes(ds: xr.Dataset) -> Figure:
    """Plot the activation that each seed learnt, and the accuracies of all activations."""
    mean = ds.accuracy.mean("seed")
    names = [str(a) for a in ds.activation.values]
    learnt = [name for name in names if name.startswith("learnt from ")]
    best = float(mean.drop_sel(activation=learnt).max())
    gain = float(mean.sel(activation=learnt).max()) - best
    fig = theme.figure(
        title=f"The best learnt shape and the best fixed one differ by {100 * abs(gain):.1f} points",
        subtitle=f"Digits, {ds.attrs['num_train']} for training, {ds.sizes['seed']} seeds and splits",
        alt="Left: the activations learnt, one curve a seed, beside what they started from. Right: accuracy on test digits, "
        "one dot a seed. Means: "
        + ", ".join(f"{a} {float(mean.sel(activation=a)):.3f}" for a in ds.activation.values)
        + ".",
    )
    theme.columns(
        fig, ("Shapes learnt", "Input x", "Activation"), ("Accuracy on test digits", "Accuracy", ""), gap=0.18
    )
    for index, start in enumerate(ds.start.values):
        curves = ds["shape"].sel(start=start)
        theme.add_bundle(fig, ds.position, curves, f"learnt from {start}", shade=theme.color(index))
        theme.add_theory(fig, ds.position, ds.start_shape.sel(start=start), str(start))
    for row, name in enumerate(names):
        spread = row + 0.14 * np.linspace(-1, 1, ds.sizes["seed"])
        tone = theme.color(learnt.index(name)) if name in learnt else theme.BASELINE
        theme.add_data(fig, ds.accuracy.sel(activation=name), spread, name, tone=tone, column=2)
    fig.update_layout(yaxis2={"tickvals": list(range(len(names))), "ticktext": names})
    return fig


def plot_selectable(ds: xr.Dataset) -> Figure:
    """Plot each method's median error on each function, relative to the best method's."""
    median = ds.error.median("seed")
    ratio = median / median.min("network")
    worst = {str(m): float(ratio.sel(network=m).max()) for m in ds.network.values}
    fig = theme.figure(
        title="No family of functions is best everywhere",
        subtitle=f"Median error of {ds.sizes['seed']} seeds by the best one's; {int(ds.num_parameters[0])} parameters",
        alt="A map of networks by functions: how many times the best network's error each has. Worst ratios: "
        + ", ".join(f"{m} {v:.1f}" for m, v in worst.items())
        + ".",
        height=420,
    )
    table = np.log10(ratio.transpose("function", "network").values)
    theme.add_heatmap(fig, table, ds.network.values, ds.function.values, title="log₁₀ ratio")
    fig.update_yaxes(autorange="reversed")
    return fig
