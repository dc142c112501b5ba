"""Figures of the spiking wing: each takes a data set of `experiments` and computes nothing of its own."""

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


def _measured(fig: Figure, x: Any, values: xr.DataArray, label: str, index: int = 0, **more: Any) -> Figure:
    mean, low, high = _over_seeds(values)
    return theme.add_measurement(fig, x, mean, label, low=low, high=high, index=index, **more)


def add_raster(
    fig: Figure,
    time: Any,
    neuron: Any,
    *,
    tone: str | None = None,
    size: float = 5,
    label: str = "spikes",
    column: int = 1,
) -> Figure:
    """Add spikes as upright strokes, one for each (time, neuron)."""
    theme.add_data(fig, time, neuron, label, tone=tone or theme.INK, column=column)
    fig.data[-1].marker.update(symbol="line-ns", size=size, line={"width": 1.6, "color": tone or theme.INK})
    return fig


def plot_membrane(ds: xr.Dataset) -> Figure:
    """Plot one membrane and its closed form up to the first spike."""
    time, membrane = ds.time.values, ds.membrane.values
    fired = ds.spikes.values > 0
    count = int(fired.sum())
    title = (
        f"The membrane charges, fires at {ds.attrs['threshold']:g} mV, and starts again: {count} spikes"
        if count
        else f"The membrane charges towards {membrane[-1]:.1f} mV and never fires"
    )
    fig = theme.figure(
        title=title,
        subtitle=f"τ = {ds.attrs['tau']:g} ms; dashed: closed form up to the first spike",
        alt=f"Membrane potential against time in ms: from {membrane[0]:.1f} mV it rises along the dashed exponential and fires "
        f"{count} times within {time[-1]:.0f} ms, each time falling back to {ds.attrs['reset']:g} mV. A grey line marks the "
        f"threshold at {ds.attrs['threshold']:g} mV.",
        x=axis_title(ds.time),
        y=axis_title(ds.membrane),
    )
    theme.add_baseline(fig, time[[0, -1]], [ds.attrs["threshold"]] * 2, "threshold")
    # What is drawn falls back at once: the membrane before each reset is what fired.
    theme.add_measurement(fig, time, np.where(fired, ds.attrs["reset"], membrane), "")
    fig.data[-1].name = "measured"
    known = np.isfinite(ds.closed_form.values)
    theme.add_theory(fig, time[known], ds.closed_form.values[known], "")
    fig.data[-1].name = "closed form"
    add_raster(fig, time[fired], np.full(count, ds.attrs["threshold"] + 6.0), size=16)
    return fig


def plot_firing_rate(ds: xr.Dataset) -> Figure:
    """Plot firing rates with and without noise beside the formula."""
    noisy = ds.rate.isel(noise=-1).mean("seed").values
    below = int((ds.current.values < ds.attrs["rheobase"]).sum()) - 1
    fig = theme.figure(
        title="The formula gives the rate; noise softens the corner",
        subtitle=f"Rheobase {ds.attrs['rheobase']:g} nA; {ds.sizes['seed']} draws of the noise, {ds.attrs['duration']:g} ms each",
        alt=f"Firing rate in Hz against current in nA. The dashed formula is zero up to {ds.attrs['rheobase']:g} nA and then rises "
        f"steeply; cells without noise lie on it. With noise a cell fires at {noisy[below]:.1f} Hz already at "
        f"{float(ds.current[below]):g} nA, and far above they agree.",
        x=axis_title(ds.current),
        y=axis_title(ds.rate),
    )
    theme.add_theory(fig, ds.current, ds.theory, "")
    fig.data[-1].name = "formula"
    for index, noise in enumerate(ds.noise.values[:4]):
        _measured(fig, ds.current, ds.rate.isel(noise=index), "", index, markers=True)
        fig.data[-1].name = f"noise {noise:g} nA"
        at = below if noise else below + 3
        fig.add_annotation(
            x=float(ds.current[at]),
            y=float(ds.rate.isel(noise=index).mean("seed")[at]),
            text="without noise" if noise == 0 else f"noise {noise:g} nA",
            ax=52 if noise == 0 else -34,
            ay=30 if noise == 0 else -46,
            arrowcolor=theme.BASELINE,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )
    fig.update_layout(margin={"r": 40})
    return fig


def plot_neuron_kinds(ds: xr.Dataset) -> Figure:
    """Plot how kinds of neurons answer a current that is switched on."""
    kinds = [str(kind) for kind in ds.kind.values]
    counts = ds.spikes.sum("time").values.astype(int)
    fig = theme.figure(
        title="The same switch, seven answers: regular, tiring, in bursts",
        subtitle=f"A current is switched on at {ds.attrs['onset']:g} ms; potentials scaled to the same height",
        alt="Membrane potentials of seven kinds of neurons, one above the other, with their spikes as strokes. Spikes fired: "
        + ", ".join(f"{kind} {count}" for kind, count in zip(kinds, counts, strict=True))
        + ".",
        x=axis_title(ds.time),
        height=520,
    )
    for row, kind in enumerate(reversed(kinds)):
        part = ds.sel(kind=kind)
        theme.add_measurement(fig, ds.time, row + 0.62 * part.membrane.values, "")
        fig.data[-1].update(name=kind, line={"width": 1.5})
        fired = part.spikes.values > 0
        add_raster(fig, ds.time.values[fired], np.full(int(fired.sum()), row + 0.76), size=8)
    fig.update_yaxes(
        tickvals=np.arange(len(kinds)) + 0.3, ticktext=kinds[::-1], range=[-0.15, len(kinds) + 0.25], showgrid=False
    )
    fig.update_layout(margin={"r": 40})
    return fig


def plot_surrogates(ds: xr.Dataset) -> Figure:
    """Plot smooth steps and their slopes, of at most four kinds."""
    kinds = [str(kind) for kind in ds.kind.values][:4]
    fig = theme.figure(
        title="The step stays forwards; backwards its slope is borrowed from a smooth one",
        subtitle=f"Steepness {ds.attrs['steepness']:g}; all slopes have area one",
        alt="Left: the spike, a dashed step from 0 to 1 at the threshold, and smooth steps around it. Right: their slopes, bumps "
        "around the threshold: "
        + ", ".join(f"{k} reaches {float(ds.slope.sel(kind=k).max()):.2f}" for k in kinds)
        + ".",
        height=400,
    )
    theme.columns(fig, ("Forward", axis_title(ds.distance), "Spike"), ("Backward", axis_title(ds.distance), "Slope"))
    theme.add_theory(fig, ds.distance, ds.heaviside, "", column=1)
    fig.data[-1].update(name="spike", line={"shape": "hv"})
    for index, kind in enumerate(kinds):
        theme.add_measurement(fig, ds.distance, ds["step"].sel(kind=kind), "", index=index, column=1)
        fig.data[-1].name = kind
        theme.add_measurement(fig, ds.distance, ds.slope.sel(kind=kind), "", index=index, column=2)
        fig.data[-1].name = kind
        fig.add_annotation(
            x=1.0,
            y=0.99 - 0.09 * index,
            xref="paper",
            yref="paper",
            xanchor="right",
            text=f"{kind} {('━', '┅', '╍', '╌')[index]}",
            showarrow=False,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )
    return fig


def plot_staircase(ds: xr.Dataset) -> Figure:
    """Plot the loss over one number, and what the surrogate says about its slope."""
    size, loss = ds["size"].values, ds.loss.values
    steps = int((np.abs(np.diff(loss)) > 1e-9).sum())
    agree = float((np.sign(ds.surrogate.values) == np.sign(size - 1)).mean())
    fig = theme.figure(
        title="The loss is a staircase; the surrogate sees the hill under it",
        subtitle=f"One neuron; all its weights are scaled by one number. The gradient's sign points downhill in {100 * agree:.0f}% "
        "of places",
        alt=f"Left: the loss against the size of the weights, a staircase of {steps} steps that is lowest around size one, and the "
        "dashed smooth loss of a neuron that fires softly. Right: the surrogate gradient, negative below size one and "
        "positive above, where the staircase's own slope is zero.",
        height=400,
    )
    theme.columns(
        fig,
        ("Loss", axis_title(ds["size"]), "Loss"),
        ("What the gradient says", axis_title(ds["size"]), "Gradient"),
    )
    theme.add_measurement(fig, size, loss, "")
    fig.data[-1].update(name="loss", line={"shape": "hvh"})
    theme.add_theory(fig, size, ds.smooth_loss, "")
    fig.data[-1].name = "smoothed neuron"
    theme.add_baseline(fig, size[[0, -1]], [0, 0], "", column=2)
    fig.data[-1].name = "the staircase's own slope"
    theme.add_measurement(fig, size, ds.surrogate, "", index=1, column=2)
    fig.data[-1].name = "surrogate gradient"
    tags = (
        (size[int(0.62 * len(size))], float(loss[int(0.9 * len(size))]), "loss", theme.color(0), "", 0),
        (size[int(0.82 * len(size))], float(ds.smooth_loss[int(0.8 * len(size))]) * 0.3, "smoothed", theme.INK, "", 0),
        (size[int(0.3 * len(size))], float(ds.surrogate.max()) * 0.8, "surrogate", theme.color(1), "2", 0),
        (size[int(0.75 * len(size))], 0.0, "its own slope: zero", theme.MUTED, "2", -14),
    )
    for x, y, text, tone, end, lift in tags:
        fig.add_annotation(
            x=float(x),
            y=y,
            xref=f"x{end}",
            yref=f"y{end}",
            text=text,
            showarrow=False,
            yshift=lift,
            font={"color": theme.text_color(tone), "size": 13},
        )
    return fig


def plot_steepness(ds: xr.Dataset) -> Figure:
    """Plot accuracy, and the first layer's gradient, against the surrogate's steepness."""
    mean = ds.accuracy.mean("seed")
    fig = theme.figure(
        title="A wide choice of steepness works; a window too narrow teaches nothing",
        subtitle=f"Digits, two hidden layers, {ds.attrs['num_train']} samples, {ds.sizes['seed']} seeds",
        alt="Left: test accuracy against steepness on a logarithmic axis: "
        + "; ".join(
            f"{kind} from {float(mean.sel(kind=kind)[0]):.2f} over {float(mean.sel(kind=kind).max()):.2f} to "
            f"{float(mean.sel(kind=kind)[-1]):.2f}"
            for kind in ds.kind.values
        )
        + ". Right: the norm of the first layer's gradient before training grows with the steepness.",
        height=400,
    )
    theme.columns(
        fig,
        ("After training", "Steepness", axis_title(ds.accuracy)),
        ("Before training", "Steepness", "First layer's gradient"),
        gap=0.13,
    )
    for index, kind in enumerate(ds.kind.values[:4]):
        for column, name in ((1, "accuracy"), (2, "gradient")):
            values = ds[name].sel(kind=kind)
            label = f"{kind}" if column == 2 else ""
            _measured(fig, ds.steepness, values, label, index, markers=True, column=column)
    fig.update_layout(
        xaxis={"type": "log", "dtick": 1}, xaxis2={"type": "log", "dtick": 1}, yaxis2={"type": "log", "dtick": 1}
    )
    fig.update_layout(margin={"r": 90})
    return fig


def plot_encodings(ds: xr.Dataset) -> Figure:
    """Plot accuracy against the steps seen, and what a sample costs, for each encoding."""
    last = ds.accuracy.isel(step=-1).mean("seed")
    names = [str(name) for name in ds["encoding"].values]
    ops = ds.synaptic.mean("seed").values
    dense = float(ds.dense.mean())
    fig = theme.figure(
        title="Latency needs the fewest operations; a constant current is read soonest",
        subtitle=f"Digits, {ds.attrs['num_hidden']} hidden neurons, {ds.attrs['num_train']} training samples, "
        f"{ds.sizes['seed']} seeds",
        alt="Left: test accuracy against steps seen; at the end "
        + ", ".join(f"{n} {float(last.sel(encoding=n)):.3f}" for n in names)
        + ". Right: operations a sample: "
        + ", ".join(f"{n} {ops[i]:,.0f}" for i, n in enumerate(names))
        + f"; the network without spikes takes {dense:,.0f} multiply-adds.",
        height=400,
    )
    theme.columns(
        fig,
        ("Accuracy", axis_title(ds["step"]), axis_title(ds.accuracy)),
        ("Cost", "Operations a sample", ""),
        widths=(3, 2),
        gap=0.2,
    )
    for index, name in enumerate(names[:4]):
        _measured(fig, ds["step"], ds.accuracy.sel(encoding=name), "", index)
        fig.data[-1].name = name
        low, high = ds.synaptic.sel(encoding=name).quantile([0.1, 0.9], "seed").values
        theme.add_data(fig, [ops[index]], [index], name, tone=theme.color(index), size=12, column=2)
        fig.data[-1].marker.symbol = theme.MARKERS[index]
        fig.data[-1].error_x = {
            "type": "data",
            "symmetric": False,
            "array": [float(high - ops[index])],
            "arrayminus": [float(ops[index] - low)],
            "color": theme.color(index),
        }
    theme.add_baseline(fig, [dense, dense], [-0.5, len(names) - 0.5], "", column=2)
    fig.data[-1].name = "multiply-adds without spikes"
    fig.add_annotation(
        x=dense,
        y=0.5,
        xref="x2",
        yref="y2",
        text="without spikes",
        showarrow=False,
        xanchor="left",
        xshift=5,
        font={"color": theme.MUTED, "size": 12},
    )
    ticks = [f"<span style='color:{theme.text_color(theme.color(i))}'>{n}</span>" for i, n in enumerate(names)]
    fig.update_layout(
        yaxis2={"tickvals": list(range(len(names))), "ticktext": ticks, "range": [-0.5, len(names) - 0.5]},
        xaxis2={"rangemode": "tozero", "tickformat": "~s"},
        yaxis={"range": [0.2, 1.07]},
    )
    # The dash tells the curves apart; the right panel's coloured names say which is which.
    for index, name in enumerate(names[:4]):
        at, right, below = ((8, 0, -20), (5, 34, 52), (9, 34, 60), (12, 34, 68))[index]
        at = min(at, ds.sizes["step"] - 1)
        fig.add_annotation(
            x=float(ds["step"][at]),
            y=float(ds.accuracy.sel(encoding=name).mean("seed")[at]),
            text=name,
            ax=right,
            ay=below,
            arrowcolor=theme.BASELINE,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )
    fig.update_layout(margin={"r": 30})
    return fig


def plot_sparsity(ds: xr.Dataset) -> Figure:
    """Plot accuracy, and three bills, against the spikes of the hidden layer."""
    mean = ds.mean("seed").sortby("spikes")
    few, many = mean.isel(penalty=0), mean.isel(penalty=-1)
    fig = theme.figure(
        title="Sparser costs no accuracy at first, and saves far less than the spikes suggest",
        subtitle=f"{ds.attrs['num_hidden']} hidden neurons, {ds.attrs['num_steps']} steps; {ds.sizes['seed']} seeds",
        alt=f"Left: test accuracy against hidden spikes a sample: {float(many.accuracy):.3f} at {float(many.spikes):.0f} spikes, "
        f"{float(few.accuracy):.3f} at {float(few.spikes):.0f}. Right: energy as a ratio to the network without spikes. Counting "
        f"synapses only it falls from {float(many.arithmetic):.2f} to {float(few.arithmetic):.2f}; with membranes from "
        f"{float(many.membranes):.2f} to {float(few.membranes):.2f}; with memory from {float(many.memory):.2f} to "
        f"{float(few.memory):.2f}.",
        height=400,
    )
    theme.columns(
        fig,
        ("Accuracy", axis_title(ds.spikes), axis_title(ds.accuracy)),
        ("Energy, ratio to no spikes", axis_title(ds.spikes), "Ratio"),
        gap=0.12,
    )
    order = ds.spikes.mean("seed").argsort().values
    x = ds.spikes.mean("seed").values[order]
    _measured(fig, x, ds.accuracy.isel(penalty=order), "", markers=True)
    fig.data[-1].name = "accuracy"
    for index, (name, label) in enumerate(
        (("arithmetic", "synapses"), ("membranes", "+ membranes"), ("memory", "+ memory"))
    ):
        _measured(fig, x, ds[name].isel(penalty=order), label, index, markers=True, column=2)
    fig.update_layout(yaxis2={"rangemode": "tozero"}, margin={"r": 120})
    return fig


def plot_task(ds: xr.Dataset) -> Figure:
    """Plot patterns of the timing task, one panel a class."""
    num = min(ds.sizes["sample"], 3)
    fig = theme.figure(
        title="The same spikes on the same channels: only the order tells the class",
        alt=f"{num} patterns of different classes. In each, {ds.sizes['channel']} channels fire once, some steps apart; which "
        "channel comes first differs, and so does the moment at which the pattern starts.",
        height=280,
    )
    theme.columns(
        fig,
        *[(f"Class {int(ds.y[n]) + 1}", axis_title(ds.time), "Channel" if n == 0 else "") for n in range(num)],
        gap=0.06,
    )
    for n in range(num):
        when, channel = np.nonzero(ds.X.isel(sample=n).transpose("time", "channel").values)
        add_raster(fig, when, channel + 1, size=18, column=n + 1)
        end = "" if n == 0 else str(n + 1)
        fig.update_layout(
            {
                f"yaxis{end}": {"range": [0.3, ds.sizes["channel"] + 0.7], "dtick": 1, "showticklabels": n == 0},
                f"xaxis{end}": {"range": [-1, ds.sizes["time"]]},
            }
        )
    fig.update_layout(margin={"r": 30})
    return fig


def plot_stdp(ds: xr.Dataset) -> Figure:
    """Plot the window of spike-timing-dependent plasticity, and the pairs simulated."""
    fig = theme.figure(
        title="Input first: the synapse grows. Input too late: it shrinks",
        subtitle="Dots: one pair simulated with two traces; dashed: the window",
        alt="Change of weight against the time from input to output spike. For positive times it is positive and falls "
        f"exponentially from {float(ds.window.max()):.3g}; for negative times negative, from {float(ds.window.min()):.3g}. "
        "Simulated pairs lie on the dashed window.",
        x=axis_title(ds.difference),
        y=axis_title(ds.window),
    )
    below, above = ds.difference.values < 0, ds.difference.values > 0
    for part, tone in ((below, theme.NEGATIVE), (above, theme.POSITIVE)):
        theme.add_theory(fig, ds.difference.values[part], ds.window.values[part], "")
        fig.data[-1].name = "window"
        theme.add_data(fig, ds.difference.values[part], ds.simulated.values[part], "pairs", tone=tone)
    fig.update_layout(margin={"r": 40})
    return fig


def _dots(fig: Figure, values: xr.DataArray, dim: str, *, column: int = 1) -> Figure:
    """Draw one dot a seed for each entry of `dim`, in rows that are named at the axis, from top to bottom."""
    names = [str(name) for name in values[dim].values]
    for row, name in enumerate(names):
        seeds = values.isel({dim: row}).values
        height = len(names) - 1 - row + 0.16 * np.linspace(-1, 1, len(seeds))
        theme.add_data(fig, seeds, height, name, tone=theme.color(row), size=9, column=column)
        fig.data[-1].marker.symbol = theme.MARKERS[row]
    end = "" if column == 1 else str(column)
    fig.update_layout(
        {
            f"yaxis{end}": {
                "tickvals": list(range(len(names))),
                "ticktext": names[::-1],
                "range": [-0.6, len(names) - 0.4],
            }
        }
    )
    return fig


def plot_contour(ds: xr.Dataset) -> Figure:
    """Plot the error of derivatives from finite nudges, against the size of the nudges."""
    counts = [int(n) for n in ds.nudges.values][:4]
    worst, best = (float(ds.relative_error.sel(nudges=n).mean("seed").min()) for n in (counts[0], counts[-1]))
    fig = theme.figure(
        title=f"{counts[-1]} complex nudges: the derivative is exact although the nudge is not small",
        subtitle=f"{ds.sizes['seed']} networks with one-way synapses, {ds.attrs['activation']} units",
        alt=f"On log-log axes the relative error of the derivative rises with the size of the nudges, the steeper the more "
        f"nudges there are. Its smallest value is {worst:.1g} with {counts[0]} nudges and {best:.1g} with {counts[-1]}.",
        x=axis_title(ds.radius),
        y=axis_title(ds.relative_error),
        x_type="log",
        y_type="log",
    )
    for index, count in enumerate(counts):
        values = ds.relative_error.sel(nudges=count)
        second = min(1, ds.sizes["radius"] - 1)
        _measured(fig, ds.radius, values, "", index, markers=True)
        fig.data[-1].name = f"{count} nudges"
        # Not at the ends, where all curves meet; below, since each one rises.
        fig.add_annotation(
            x=float(np.log10(ds.radius[second])),
            y=float(np.log10(values.mean("seed")[second])),
            text=f"{count} nudges",
            showarrow=False,
            xanchor="left",
            xshift=8,
            yshift=-11,
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )
    fig.update_layout(margin={"r": 40})
    return fig


def plot_homeostasis(ds: xr.Dataset) -> Figure:
    """Plot how well nudged errors agree with backpropagation's during training, and the accuracy in the end."""
    last = ds.cosine.isel(step=-1).mean("seed")
    names = ("equilibrium", "with homeostasis")
    accuracy = ds.accuracy.mean("seed")
    fig = theme.figure(
        title="A Jacobian made symmetric turns nudged errors into backpropagated ones",
        subtitle=f"{ds.sizes['seed']} networks whose backward synapses are drawn on their own",
        alt=f"Left: cosine with backpropagation's error against training steps. It ends at {float(last.sel(rule=names[0])):.2f} "
        f"without and at {float(last.sel(rule=names[1])):.2f} with homeostasis. Right: test accuracy, one dot a seed; means "
        + ", ".join(f"{float(accuracy.sel(rule=r)):.3f} ({r})" for r in ds["rule"].values)
        + ".",
    )
    theme.columns(
        fig,
        ("Direction of the error", axis_title(ds["step"]), axis_title(ds.cosine)),
        ("What it is worth", axis_title(ds.accuracy), ""),
        gap=0.3,
    )
    for index, name in enumerate(names):
        _measured(fig, ds["step"], ds.cosine.sel(rule=name), name, index, markers=True, column=1)
    return _dots(fig, ds.accuracy, "rule", column=2)


def plot_flexible(ds: xr.Dataset) -> Figure:
    """Plot an example of random phases, and the accuracy that strict and random phases reach."""
    final = ds.accuracy.isel(epoch=-1).mean("seed")
    fig = theme.figure(
        title="Phases of any order and length teach almost as well as strict ones",
        subtitle=f"{ds.sizes['seed']} networks; orange: held at the answer, blue: left alone",
        alt=f"Left: the phases of {ds.sizes['sample']} samples over time, blocks of random length and sign. Right: test accuracy "
        f"against epochs; strict phases end at {float(final.sel(schedule='rigid')):.3f}, random ones at "
        f"{float(final.sel(schedule='flexible')):.3f}.",
    )
    theme.columns(
        fig,
        ("Random phases", axis_title(ds.time), axis_title(ds["sample"])),
        ("Learning", axis_title(ds.epoch), axis_title(ds.accuracy)),
        gap=0.14,
    )
    theme.add_heatmap(fig, ds.phases.transpose("sample", "time"), ds.time, ds["sample"], title="phase", signed=True)
    fig.data[-1].showscale = False
    for index, name in enumerate(ds.schedule.values):
        _measured(fig, ds.epoch, ds.accuracy.sel(schedule=name), str(name), index, column=2)
    fig.update_layout(margin={"r": 100})
    return fig


def plot_rules(ds: xr.Dataset) -> Figure:
    """Plot what a network reaches by backpropagation, by direct feedback and in its last layer only."""
    mean = ds.score.mean("seed")
    full, direct, last = (float(mean.sel(rule=r)) for r in ("backpropagation", "direct feedback", "last layer only"))
    share = (direct - last) / (full - last) if full != last else float("nan")
    fig = theme.figure(
        title=f"{ds.attrs['task'].capitalize()}: random feedback reaches {share:.0%} of backpropagation's gain",
        subtitle=f"Gain over training the last layer only; {ds.sizes['seed']} draws, one dot each",
        alt=f"{axis_title(ds.score)} of three rules: backpropagation {full:.3g}, direct feedback {direct:.3g}, last layer only "
        f"{last:.3g} on average.",
        x=axis_title(ds.score),
        height=280,
    )
    fig.update_layout(margin={"r": 40})
    return _dots(fig, ds.score, "rule")


def plot_delays(ds: xr.Dataset) -> Figure:
    """Plot the accuracy with no, random and learnt delays, and where learning took the delays."""
    mean = ds.accuracy.mean("seed")
    fig = theme.figure(
        title="Without delays a fast membrane cannot tell orders apart; learnt ones do it best",
        subtitle=f"{ds.sizes['seed']} tasks of {ds.attrs['num_classes']} orders; slots {ds.attrs['slot']} steps apart",
        alt="Left: test accuracy, one dot a seed: "
        + ", ".join(f"{float(mean.sel(arm=a)):.2f} ({a})" for a in ds.arm.values)
        + " on average. Right: delays after training against delays before; points off the dashed diagonal have moved.",
    )
    theme.columns(
        fig,
        ("Accuracy", axis_title(ds.accuracy), ""),
        ("Learnt delays, first seed", "Before (steps)", "After (steps)"),
        gap=0.14,
    )
    _dots(fig, ds.accuracy, "arm")
    start, end = ds.delay_start.isel(seed=0).values.ravel(), ds.delay_end.isel(seed=0).values.ravel()
    high = float(max(start.max(), end.max(), 1.0))
    theme.add_theory(fig, [0.0, high], [0.0, high], "unmoved", column=2)
    theme.add_data(fig, start, end, "delays", tone=theme.color(2), column=2)
    return fig


def plot_normalisation(ds: xr.Dataset) -> Figure:
    """Plot the accuracy with and without membrane normalisation, and the thresholds that it folds into."""
    gain = float((ds.accuracy.isel(arm=1) - ds.accuracy.isel(arm=0)).mean())
    fig = theme.figure(
        title="Membrane normalisation folds into thresholds, and no spike changes",
        subtitle=f"{ds.sizes['seed']} networks; share of spikes that folding changed: {float(ds.mismatch.mean()):.1g}",
        alt=f"Left: test accuracy with batch normalisation alone and with membrane normalisation added, one dot a seed; the "
        f"mean difference is {gain:+.3f}. Right: thresholds of the first layer's channels after folding, sorted, from "
        f"{float(ds.thresholds.isel(seed=0).min()):.2f} to {float(ds.thresholds.isel(seed=0).max()):.2f}.",
    )
    theme.columns(
        fig,
        ("Accuracy", axis_title(ds.accuracy), ""),
        ("First seed, first layer", "Channel, sorted", axis_title(ds.thresholds)),
        gap=0.16,
    )
    _dots(fig, ds.accuracy, "arm")
    theme.add_data(fig, ds.channel, np.sort(ds.thresholds.isel(seed=0).values), "thresholds", column=2)
    theme.add_baseline(fig, ds.channel.values[[0, -1]], [1.0, 1.0], "before", column=2)
    return fig


def plot_forgetting(ds: xr.Dataset) -> Figure:
    """Plot accuracy on the first task while more tasks are learnt."""
    first = ds.accuracy.isel(task=0)
    last = first.isel(after=-1).mean("seed")
    fig = theme.figure(
        title="Projected learning keeps off what old tasks use",
        subtitle=f"Digits under {ds.sizes['task']} permutations of the pixels, {ds.sizes['seed']} networks",
        alt=f"Accuracy on the first task against the number of tasks learnt. Plain training ends at "
        f"{float(last.sel(arm='plain')):.2f}, training with Hebbian projection at {float(last.sel(arm='HLOP')):.2f}.",
        x=axis_title(ds.after),
        y="Test accuracy on the first task",
    )
    for index, name in enumerate(ds.arm.values):
        _measured(fig, ds.after, first.sel(arm=name), str(name), index, markers=True)
    fig.update_xaxes(dtick=1)
    return fig


def plot_liquid(ds: xr.Dataset) -> Figure:
    """Plot the activity of plastic liquids while they adapt, and how well digits are read from each."""
    mean = ds.accuracy.mean("seed")
    fig = theme.figure(
        title="Left alone, plasticity runs away; the astrocyte holds it",
        subtitle=f"{ds.sizes['seed']} liquids of {ds.attrs['num_neurons']} neurons",
        alt=f"Left: spikes a neuron and step against digits seen: STDP alone ends at {float(ds.activity[0, -1]):.2f}, with the "
        f"astrocyte at {float(ds.activity[1, -1]):.2f}. Right: accuracy of a linear readout, one dot a seed; means "
        + ", ".join(f"{float(mean.sel(arm=a)):.2f} ({a})" for a in ds.arm.values)
        + ".",
    )
    theme.columns(
        fig,
        ("While it adapts", axis_title(ds.digit), axis_title(ds.activity)),
        ("What is read from it", axis_title(ds.accuracy), ""),
        gap=0.4,
    )
    for index, name in enumerate(ds.plastic.values):
        theme.add_measurement(fig, ds.digit, ds.activity.sel(plastic=name), str(name), index=index + 1)
    return _dots(fig, ds.accuracy, "arm", column=2)


def plot_long_delay(ds: xr.Dataset) -> Figure:
    """Plot the accuracy of each model on the task with a long delay."""
    mean = ds.accuracy.mean("seed")
    fig = theme.figure(
        title="One neuron with slow memories adds across the delay; with fast ones it cannot",
        subtitle=f"Delay of {ds.attrs['gap']} steps, {ds.sizes['seed']} draws; parameters: "
        + ", ".join(f"{int(ds.parameters.sel(arm=a)):,} ({a})" for a in ds.arm.values),
        alt="Test accuracy, one dot a draw; means: "
        + ", ".join(f"{float(mean.sel(arm=a)):.2f} ({a})" for a in ds.arm.values)
        + ".",
        x=axis_title(ds.accuracy),
        height=280,
    )
    theme.add_baseline(fig, [1 / ds.attrs["num_classes"]] * 2, [-0.5, ds.sizes["arm"] - 0.5], "")
    fig.data[-1].name = "one class in all"
    fig.update_layout(margin={"r": 40})
    return _dots(fig, ds.accuracy, "arm")


def plot_dendrite(ds: xr.Dataset) -> Figure:
    """Plot the potential of the simulated neuron and what the ELM neuron predicts."""
    error = ds.unexplained.mean("seed")
    fig = theme.figure(
        title="The ELM neuron follows a simulated neuron with nonlinear branches",
        subtitle=f"Unexplained variance: {float(error.sel(arm='ELM')):.1%}; best linear model of leaky traces: "
        f"{float(error.sel(arm='linear')):.1%}",
        alt="Somatic potential, standardised, against time: the grey line is the simulation, the coloured one the prediction from "
        f"the same input spikes. On average {float(error.sel(arm='ELM')):.1%} of the variance is not explained.",
        x=axis_title(ds.time),
        y=axis_title(ds.potential),
    )
    theme.add_baseline(fig, ds.time, ds.potential, "simulated")
    return theme.add_measurement(fig, ds.time, ds.prediction, "predicted")
