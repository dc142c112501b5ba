"""Explorers of the spiking wing: controls → an experiment → a figure."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab import theme
from sciviz.lab.drag import DragPoints
from sciviz.lab.panel import Choices, Panel, Range
from sciviz.snn import experiments
from sciviz.snn.encodings import encode
from sciviz.snn.energy import Operations, count_operations
from sciviz.snn.figures import add_raster
from sciviz.snn.models import Leaky, Membrane
from sciviz.snn.networks import SpikingNetwork
from sciviz.snn.neurons import lif
from sciviz.snn.plasticity import Stdp
from sciviz.snn.tasks import make_timing

Array = np.ndarray[Any, Any]

# ---------------------------------------------------------------------------------------------------- one neuron

_DURATION, _DT = 300.0, 0.25


class _Cell(NamedTuple):
    """What the neuron explorer draws."""

    time: Array
    current: Array
    membrane: Array
    fired: Array
    theory: tuple[Array, Array]
    measured: tuple[Array, Array]
    points: tuple[Any, ...]
    rate: float
    mean: float
    cell: Membrane


def explore_neuron(*, seed: int = 0) -> Panel:
    """Explore one membrane: its current, constants and reset, with trace, spikes and f–I curve.

    Parameters
    ----------
    seed
        Draws the noise.

    Returns
    -------
    A panel. The drawn current runs through points that can be dragged, or moved by a selector and two sliders.
    """
    first = [(0.0, 0.0), (50.0, 2.0), (130.0, 3.5), (180.0, 1.0), (240.0, 2.5), (300.0, 0.0)]
    points = DragPoints(
        first, x_range=(0.0, _DURATION), y_range=(-1.0, 5.0), x_label="Point at (ms)", y_label="Point's current (nA)"
    )
    num_steps = round(_DURATION / _DT)
    time = (np.arange(num_steps) + 1) * _DT
    noise = torch.randn(num_steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / math.sqrt(_DT)
    levels = torch.linspace(0.0, 5.0, 16, dtype=torch.float64)
    fine = torch.linspace(0.0, 5.0, 201, dtype=torch.float64)

    def compute(
        points: tuple[Any, ...] = (),
        kind: Annotated[Literal["constant", "noise", "drawn"], Choices("Current")] = "constant",
        current: Annotated[float, Range(0.0, 5.0, step=0.1, label="Size", unit="nA")] = 2.0,
        tau: Annotated[float, Range(2.0, 50.0, step=1.0, label="Time constant", unit="ms")] = 20.0,
        threshold: Annotated[float, Range(-60.0, -40.0, step=1.0, label="Threshold", unit="mV")] = -50.0,
        reset: Annotated[float, Range(-80.0, -61.0, step=1.0, label="Reset", unit="mV")] = -65.0,
    ) -> _Cell:
        cell = Membrane(tau=tau, threshold=threshold, reset=reset, dt=_DT)
        if kind == "drawn":
            spots = sorted(points)
            drive = torch.tensor(np.interp(time, [x for x, _ in spots], [y for _, y in spots]))
        else:
            drive = current + (1.5 * noise if kind == "noise" else torch.zeros(num_steps, dtype=torch.float64))
        # The f–I curve's cells run beside the one that is shown, in the same loop over time.
        trace = cell(torch.cat([drive[:, None], levels.expand(num_steps, -1)], dim=1))
        spikes = trace.spikes.numpy() > 0
        rates = []
        for n in range(spikes.shape[1]):
            at = np.flatnonzero(spikes[:, n])
            rates.append(1000 * (len(at) - 1) / ((at[-1] - at[0]) * _DT) if len(at) > 1 else 0.0)
        return _Cell(
            time,
            drive.numpy(),
            trace.membrane[:, 0].numpy(),
            spikes[:, 0],
            (fine.numpy(), cell.rate(fine).numpy()),
            (levels.numpy(), np.array(rates[1:])),
            tuple(points) if kind == "drawn" else (),
            float(spikes[:, 0].sum()) / _DURATION * 1000,
            float(drive.mean()),
            cell,
        )

    return Panel(
        compute,
        _draw_cell,
        title="One neuron",
        describe=lambda now: (
            f"{int(now.fired.sum())} spikes in {_DURATION:g} ms. It needs {now.cell.rheobase:.2f} nA to fire at all; on average it "
            f"gets {now.mean:.2f}."
        ),
        hint="Lower the current until it falls silent, then switch to noise. For a current of your own choose “drawn” and drag the "
        "dots on the left.",
        controls={"points": points},
    )


def _draw_cell(now: _Cell) -> theme.Figure:
    count = int(now.fired.sum())
    fig = theme.figure(
        title=f"{count} spikes: {now.rate:.0f} Hz" if count else "Silent: the current stays below what it needs",
        alt=f"Left: the input current over {_DURATION:g} ms, {now.mean:.2f} nA on average. Middle: the membrane potential, with "
        f"{count} spikes. Right: the firing rate against constant current, the dashed formula with dots simulated; it starts at "
        f"{now.cell.rheobase:.2f} nA.",
        height=380,
    )
    theme.columns(
        fig,
        ("Input", "Time (ms)", "Current (nA)"),
        ("Membrane", "Time (ms)", "Potential (mV)"),
        ("Rate by current", "Current (nA)", "Rate (Hz)"),
        widths=(3, 4, 3),
        gap=0.09,
    )
    theme.add_measurement(fig, now.time[::2], now.current[::2], "", active=not now.points)
    fig.data[-1].update(name="current", line={"width": 1.5})
    where = np.array(now.points).reshape(-1, 2)
    theme.add_data(fig, where[:, 0], where[:, 1], "your points", tone=theme.ACTIVE, size=12)
    theme.add_baseline(fig, [0, _DURATION], [now.cell.threshold] * 2, "", column=2)
    fig.data[-1].name = "threshold"
    theme.add_measurement(fig, now.time, np.where(now.fired, now.cell.reset, now.membrane), "", column=2)
    fig.data[-1].update(name="membrane", line={"width": 1.6})
    add_raster(fig, now.time[now.fired], np.full(count, now.cell.threshold + 6), size=12, column=2)
    theme.add_theory(fig, *now.theory, "", column=3)
    fig.data[-1].name = "formula"
    theme.add_data(fig, *now.measured, "simulated", tone=theme.color(0), size=7, column=3)
    theme.add_data(
        fig, [min(max(now.mean, 0.0), 5.0)], [now.rate], "your current", tone=theme.ACTIVE, size=13, column=3
    )
    fig.update_layout(
        xaxis={"range": [-6, _DURATION + 6]},
        yaxis={"range": [-1.3, 5.3] if len(where) else [min(-0.5, now.current.min()), max(5.3, now.current.max())]},
        yaxis2={"range": [-84, -30]},
        yaxis3={"rangemode": "tozero"},
        margin={"r": 30},
    )
    return fig


# -------------------------------------------------------------------------------------------------- a network's raster


class _Shown(NamedTuple):
    """What the raster explorer draws."""

    image: Array
    spikes: tuple[Array, Array]
    digit: int
    answer: int
    threshold: float
    curve: tuple[Array, Array, Array]
    accuracy: float
    operations: Operations
    sizes: tuple[int, int]
    num_steps: int


class _Trained(NamedTuple):
    """A network with the pictures to show, their spikes, and accuracy and operations by threshold."""

    network: SpikingNetwork
    X: Tensor
    y: Tensor
    spikes: Tensor
    curve: tuple[Array, Array, Array]


def _at(network: SpikingNetwork, threshold: float) -> None:
    network.neuron = Leaky(tau=20.0, threshold=threshold)


def _scored(network: SpikingNetwork, spikes: Tensor, y: Tensor, encoding: str) -> tuple[float, Operations]:
    with torch.no_grad():
        logits, layers = network(spikes)
    ops = count_operations(
        [spikes, *(trace.spikes for trace in layers)],
        num_outputs=network.sizes[-1],
        analogue_input=encoding == "current",
        constant_input=True,
    )
    return float((logits.argmax(-1) == y).double().mean()), ops


def explore_raster(
    *, seed: int = 0, X: Float[Tensor, "sample 64"] | None = None, y: Float[Tensor, " sample"] | None = None
) -> Panel:
    """Explore the spikes of trained networks while a digit is shown; accuracy and operations move with the threshold.

    Parameters
    ----------
    seed
        Draws the split, the weights and the spikes of the rate code.
    X, y
        Pictures of your own, (num, 64) in [0, 1], with classes from 0 to 9, in place of the test digits.

    Returns
    -------
    A panel with controls for digit, sample, encoding and threshold.
    """
    num_steps, names = 20, ("latency", "rate", "current")
    thresholds = np.array([0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0])

    @lru_cache(maxsize=len(names))
    def trained(encoding: str) -> _Trained:
        net, pictures, classes = experiments.trained_network(seed=seed, encoding=encoding, num_steps=num_steps)
        if X is not None and y is not None:
            pictures, classes = X, y.long()
        spikes = encode(pictures, num_steps, encoding=encoding, seed=seed + 1)
        rows = []
        for threshold in thresholds:
            _at(net, float(threshold))
            reached, ops = _scored(net, spikes, classes, encoding)
            rows.append((reached, ops.synaptic + ops.input))
        both = np.array(rows)
        return _Trained(net, pictures, classes, spikes, (thresholds, both[:, 0], both[:, 1]))

    for name in names:
        # Trained when the explorer is made, so that no move of a control waits for it.
        trained(name)

    def compute(
        digit: Annotated[int, Range(0, 9, label="Digit")] = 3,
        sample: Annotated[int, Range(1, 20, label="Sample")] = 1,
        encoding: Annotated[Literal["latency", "rate", "current"], Choices("Encoding")] = "latency",
        threshold: Annotated[float, Range(0.4, 3.0, step=0.1, label="Threshold")] = 1.0,
    ) -> _Shown:
        net, pictures, classes, spikes, curve = trained(encoding)
        own = (classes == digit).nonzero().flatten()
        chosen = int(own[(sample - 1) % len(own)]) if len(own) else 0
        _at(net, threshold)
        reached, ops = _scored(net, spikes, classes, encoding)
        with torch.no_grad():
            logits, layers = net(spikes[:, chosen : chosen + 1])
        seen = spikes[:, chosen] if encoding != "current" else torch.zeros_like(spikes[:, chosen])
        both = torch.cat([seen, layers[0].spikes[:, 0]], dim=1).numpy()
        when, which = np.nonzero(both)
        return _Shown(
            pictures[chosen].reshape(8, 8).numpy(),
            (when, which),
            int(classes[chosen]),
            int(logits[0].argmax()),
            threshold,
            curve,
            reached,
            ops,
            (net.sizes[0], net.sizes[1]),
            num_steps,
        )

    return Panel(
        compute,
        _draw_shown,
        title="A digit as spikes",
        describe=lambda now: (
            f"It answers {now.answer} to a {now.digit}. Over all test digits: accuracy {now.accuracy:.3f}, "
            f"{now.operations.synaptic + now.operations.input:,.0f} operations a digit; without spikes the network takes "
            f"{now.operations.dense:,.0f}."
        ),
        hint="Raise the threshold: spikes vanish long before accuracy does. Then compare the encodings.",
    )


def _draw_shown(now: _Shown) -> theme.Figure:
    when, which = now.spikes
    inputs = which < now.sizes[0]
    verdict = "right" if now.answer == now.digit else "wrong"
    fig = theme.figure(
        title=f"A {now.digit}, answered with {now.answer}: {verdict}",
        subtitle=f"{int((~inputs).sum())} hidden spikes for this digit; the network was trained at threshold 1",
        alt=f"Left: the picture of a {now.digit}. Middle: spikes over {now.num_steps} steps, {int(inputs.sum())} of the inputs in "
        f"grey and {int((~inputs).sum())} of the hidden neurons above them in blue. Right: test accuracy against operations a "
        f"digit as the threshold moves; now {now.accuracy:.3f} at {now.operations.synaptic + now.operations.input:,.0f}.",
        height=420,
    )
    theme.columns(
        fig,
        ("Picture", "", ""),
        ("Spikes", "Step", "Input 0–63, hidden above"),
        ("Accuracy by cost", "Operations a digit", "Test accuracy"),
        widths=(2, 4, 3),
        gap=0.09,
    )
    theme.add_heatmap(fig, now.image[::-1])
    fig.data[-1].update(showscale=False, name="picture")
    for part, tone, name in ((inputs, theme.BASELINE, "input"), (~inputs, theme.color(0), "hidden")):
        theme.add_data(fig, when[part], which[part], name, tone=tone, size=6, column=2)
        fig.data[-1].marker.update(symbol="square", line={"width": 0})
    _, accuracies, operations = now.curve
    theme.add_measurement(fig, operations, accuracies, "", markers=True, column=3)
    fig.data[-1].name = "thresholds 0.4 to 3"
    here = now.operations.synaptic + now.operations.input
    theme.add_data(fig, [here], [now.accuracy], "now", tone=theme.ACTIVE, size=14, column=3)
    theme.add_baseline(fig, [now.operations.dense] * 2, [0.0, 1.0], "", column=3)
    fig.data[-1].name = "without spikes"
    blank = {"showticklabels": False, "ticks": "", "showline": False, "showgrid": False}
    fig.update_layout(
        xaxis={**blank, "constrain": "domain"},
        yaxis={**blank, "scaleanchor": "x", "constrain": "domain"},
        xaxis2={"range": [-1, now.num_steps]},
        yaxis2={"range": [-2, sum(now.sizes) + 1]},
        xaxis3={"rangemode": "tozero", "tickformat": "~s"},
        yaxis3={"range": [0, 1.02]},
        margin={"r": 30},
    )
    return fig


# ---------------------------------------------------------------------------------------------------- spike timing


class _Pairing(NamedTuple):
    """What the plasticity explorer draws."""

    pre: float
    post: float
    change: float
    window: tuple[Array, Array]
    weights: Array
    rule: Stdp


def explore_stdp() -> Panel:
    """Explore spike-timing-dependent plasticity: drag an input and an output spike, and watch the weight.

    Returns
    -------
    A panel. The two spikes can be dragged, or moved by a selector and a slider.
    """
    points = DragPoints([(40.0, 0.0), (50.0, 0.0)], x_range=(0.0, 100.0), y_range=(-0.001, 0.001), x_label="Time (ms)")
    points.selector.options = [("Input spike", 0), ("Output spike", 1)]
    points.up.layout.display = "none"
    difference = np.linspace(-80, 80, 321)

    def compute(
        points: tuple[Any, ...] = (),
        potentiation: Annotated[float, Range(0.0, 0.03, step=0.001, label="Growth A₊")] = 0.01,
        depression: Annotated[float, Range(0.0, 0.03, step=0.001, label="Shrinking A₋")] = 0.012,
        tau: Annotated[float, Range(5.0, 60.0, step=1.0, label="Time constant", unit="ms")] = 20.0,
        pairs: Annotated[int, Range(1, 100, label="Pairs shown", unit="times")] = 60,
    ) -> _Pairing:
        rule = Stdp(potentiation, depression, tau, tau)
        (pre, _), (post, _) = points
        change = float(rule.window(torch.tensor(post - pre, dtype=torch.float64)))
        # The pair comes again and again, far enough apart not to be mixed up, within hard bounds.
        weights = np.clip(0.5 + change * np.arange(pairs + 1), 0.0, 1.0)
        window = rule.window(torch.tensor(difference)).numpy()
        return _Pairing(pre, post, change, (difference, window), weights, rule)

    return Panel(
        compute,
        _draw_pairing,
        title="Who fired first?",
        describe=lambda now: (
            f"Output minus input: {now.post - now.pre:+.1f} ms. Each pair changes the weight by {now.change:+.4f}; after "
            f"{len(now.weights) - 1} pairs it is {now.weights[-1]:.2f}."
        ),
        hint="Drag the output spike across the input spike: the change jumps from growth to shrinking.",
        controls={"points": points},
    )


def _draw_pairing(now: _Pairing) -> theme.Figure:
    gap = now.post - now.pre
    verdict = "the synapse grows" if now.change > 0 else "the synapse shrinks" if now.change < 0 else "nothing changes"
    order = "Input first" if gap > 0 else "Output first" if gap < 0 else "Both at once"
    fig = theme.figure(
        title=f"{order}: {verdict}",
        alt=f"Left: an input spike at {now.pre:.0f} ms and an output spike at {now.post:.0f} ms. Middle: the window of plasticity "
        f"with this pair at {gap:+.0f} ms and a change of {now.change:+.4f}. Right: the weight over {len(now.weights) - 1} pairs, "
        f"from 0.5 to {now.weights[-1]:.2f}.",
        height=360,
    )
    theme.columns(
        fig,
        ("The pair", "Time (ms)", ""),
        ("Window", "Output minus input (ms)", "Change of the weight"),
        ("Weight", "Pairs", "Weight"),
        widths=(3, 4, 3),
        gap=0.1,
    )
    theme.add_data(fig, [now.pre, now.post], [0.0, 0.0], "spikes", tone=theme.ACTIVE, size=14)
    fig.data[-1].marker.symbol = ["circle", "diamond"]
    for time, name, lift in ((now.pre, "input", 34), (now.post, "output", -34)):
        fig.add_annotation(
            x=time,
            y=0,
            text=name,
            showarrow=False,
            yshift=lift,
            font={"color": theme.text_color(theme.ACTIVE), "size": 13},
        )
    x, y = now.window
    for part, tone in ((x < 0, theme.NEGATIVE), (x > 0, theme.POSITIVE)):
        theme.add_measurement(fig, x[part], y[part], "", shade=tone, column=2)
        fig.data[-1].name = "window"
    theme.add_data(fig, [gap], [now.change], "this pair", tone=theme.ACTIVE, size=13, column=2)
    theme.add_measurement(fig, np.arange(len(now.weights)), now.weights, "", active=True, column=3)
    fig.data[-1].name = "weight"
    blank = {"showticklabels": False, "ticks": "", "showgrid": False}
    fig.update_layout(
        xaxis={"range": [-5, 105]},
        yaxis={**blank, "range": [-1, 1]},
        xaxis2={"range": [-104, 104]},
        yaxis2={"range": [-0.033, 0.033]},
        yaxis3={"range": [-0.03, 1.03]},
        margin={"r": 30},
    )
    return fig


# ------------------------------------------------------------------------------------------------------------ delays


class _Arrivals(NamedTuple):
    """What the delay explorer draws."""

    sent: Array
    arrived: Array
    current: Array
    membrane: Array
    peaks: Array
    shown: int
    threshold: float


def explore_delays(*, seed: int = 0) -> Panel:
    """Explore how delays make a neuron tell orders apart: spikes that arrive together fire it.

    Parameters
    ----------
    seed
        Draws the classes' orders.

    Returns
    -------
    A panel with a delay for each of four channels, the class that is shown, and the membrane's time constant.
    """
    num_channels, slot, longest = 4, 8, 28
    task = make_timing(
        8, seed=seed, num_classes=3, num_channels=num_channels, slot=slot, jitter=0, shift=0, class_seed=seed
    )
    sent = task.slots.numpy() * slot
    num_steps = (num_channels - 1) * slot + longest + 12

    def compute(
        shown: Annotated[Literal[1, 2, 3], Choices("Class shown", {1: "class 1", 2: "class 2", 3: "class 3"})] = 1,
        delay1: Annotated[int, Range(0, 28, label="Delay of channel 1", unit="steps")] = 0,
        delay2: Annotated[int, Range(0, 28, label="Delay of channel 2", unit="steps")] = 0,
        delay3: Annotated[int, Range(0, 28, label="Delay of channel 3", unit="steps")] = 0,
        delay4: Annotated[int, Range(0, 28, label="Delay of channel 4", unit="steps")] = 0,
        tau: Annotated[float, Range(1.0, 30.0, step=1.0, label="Time constant", unit="steps")] = 3.0,
    ) -> _Arrivals:
        arrived = sent + np.array([delay1, delay2, delay3, delay4])
        current = torch.zeros(num_steps, len(sent))
        for order in range(len(sent)):
            for at in arrived[order]:
                current[at, order] += 0.3
        # One threshold above what three channels together reach: only all four fire it.
        membrane = lif(current, decay=math.exp(-1 / tau), threshold=1.0, reset="none").membrane.numpy()
        return _Arrivals(sent, arrived, current.numpy(), membrane, membrane.max(0), shown - 1, 1.0)

    return Panel(
        compute,
        _draw_arrivals,
        title="Delays make coincidences",
        describe=_describe_arrivals,
        hint="Make all four arrows end at the same step: the channel that fires first needs the longest delay. Then show another "
        "class: the same delays scatter it. What does a long time constant do to the difference?",
    )


def _describe_arrivals(now: _Arrivals) -> str:
    fires = [str(n + 1) for n in range(len(now.peaks)) if now.peaks[n] >= now.threshold]
    spread = int(now.arrived[now.shown].max() - now.arrived[now.shown].min())
    said = f"The neuron fires for class {', '.join(fires)}." if fires else "The neuron fires for no class."
    return f"Class {now.shown + 1} arrives spread over {spread} steps. {said}"


def _draw_arrivals(now: _Arrivals) -> theme.Figure:
    peak = float(now.peaks[now.shown])
    fires = peak >= now.threshold
    fig = theme.figure(
        title=f"Class {now.shown + 1}: the spikes {'meet, and the neuron fires' if fires else 'miss one another'}",
        subtitle=f"Each spike adds 0.3; the threshold is 1. The membrane reaches {peak:.2f}",
        alt=f"Left: four channels, each with the moment its spike was sent and, at the end of a line, the moment it arrives: "
        f"{', '.join(str(int(t)) for t in now.arrived[now.shown])}. Right: the membrane for class {now.shown + 1} reaches "
        f"{peak:.2f}; for the other classes in grey: "
        + ", ".join(f"{float(p):.2f}" for n, p in enumerate(now.peaks) if n != now.shown)
        + ". The dashed threshold is 1.",
        height=400,
    )
    theme.columns(fig, ("Sent and arrived", "Step", "Channel"), ("Membrane", "Step", "Potential (thresholds)"), gap=0.1)
    channel = np.arange(now.sent.shape[1]) + 1
    gap = np.full(len(channel), np.nan)
    sent, arrived = now.sent[now.shown], now.arrived[now.shown]
    theme.add_baseline(
        fig, np.stack([sent, arrived, gap], 1).ravel()[:-1], np.stack([channel, channel, gap], 1).ravel()[:-1], ""
    )
    fig.data[-1].name = "delay"
    add_raster(fig, sent, channel, size=16, label="sent")
    theme.add_data(fig, arrived, channel, "arrived", tone=theme.ACTIVE, size=12)
    for n in range(len(now.peaks)):
        if n != now.shown:
            theme.add_baseline(fig, np.arange(len(now.membrane)), now.membrane[:, n], "", column=2)
            fig.data[-1].update(name=f"class {n + 1}", line={"width": 1.4})
    theme.add_measurement(fig, np.arange(len(now.membrane)), now.membrane[:, now.shown], "", active=True, column=2)
    fig.data[-1].name = f"class {now.shown + 1}"
    theme.add_theory(fig, [0, len(now.membrane) - 1], [now.threshold] * 2, "", column=2)
    fig.data[-1].name = "threshold"
    fig.update_layout(
        xaxis={"range": [-2, len(now.membrane)]},
        yaxis={"range": [0.4, len(channel) + 0.6], "dtick": 1},
        yaxis2={"range": [0, max(1.35, 1.05 * float(now.peaks.max()))]},
        margin={"r": 30},
    )
    return fig
