"""One membrane: what it does with a current, how often it fires, and how kinds of neurons differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_positive
from sciviz.lab.results import dataset, variable
from sciviz.snn.models import Adaptive, Chialvo, Izhikevich, Leaky, Membrane, Rulkov, Synaptic

__all__ = ["firing_rate", "membrane_trace", "neuron_kinds"]


def membrane_trace(
    current: Float[Tensor, " time"] | float = 2.0, *, neuron: Membrane | None = None, duration: float = 200.0
) -> xr.Dataset:
    """Follow one membrane in physical units.

    Parameters
    ----------
    current
        In nA: one number for the whole time, or one for each step.
    neuron
        Its constants; `Membrane()` if None.
    duration
        In ms, where the current is a number.

    Returns
    -------
    xr.Dataset
        By time: `current`, `membrane` before each reset, `spikes`, and the closed form up to the first spike.

    Raises
    ------
    ValueError
        If the duration is not positive.

    >>> ds = membrane_trace(1.0)
    >>> float(abs(ds.membrane - ds.closed_form).max()) < 1e-9
    True
    """
    neuron = Membrane() if neuron is None else neuron
    if isinstance(current, Tensor):
        drive = current.to(torch.float64)
    else:
        check_positive(duration=duration)
        drive = torch.full((max(1, round(duration / neuron.dt)),), float(current), dtype=torch.float64)
    trace = neuron(drive[:, None])
    time = (torch.arange(len(drive), dtype=torch.float64) + 1) * neuron.dt
    fired = trace.spikes.squeeze(1).nonzero()
    closed = neuron.potential(float(drive[0]), time)
    # The closed form knows a constant current and no reset.
    stop = int(fired[0]) + 1 if len(fired) else len(drive)
    changes = (drive != drive[0]).nonzero()
    stop = min(stop, int(changes[0])) if len(changes) else stop
    closed[stop:] = torch.nan
    return dataset(
        "One membrane",
        {"time": variable("time", time, "time", "ms")},
        {
            "current": variable("time", drive, "input current", "nA"),
            "membrane": variable("time", trace.membrane.squeeze(1), "membrane potential", "mV"),
            "spikes": variable("time", trace.spikes.squeeze(1), "spikes"),
            "closed_form": variable("time", closed, "membrane potential in closed form", "mV"),
        },
        threshold=neuron.threshold,
        rest=neuron.rest,
        reset=neuron.reset,
        tau=neuron.tau,
        rate=float(neuron.rate(drive.mean())),
    )


def firing_rate(
    *,
    seed: int,
    currents: Sequence[float] = (1.0, 1.4, 1.55, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0),
    noises: Sequence[float] = (0.0, 1.0),
    num_seeds: int = 5,
    neuron: Membrane | None = None,
    duration: float = 1000.0,
) -> xr.Dataset:
    """Measure the f–I curve with and without noise, beside the analytic one, all cells at once.

    Parameters
    ----------
    noises
        Standard deviations, in nA, of white noise averaged over 1 ms.
    duration
        In ms. Without noise the rate is taken from the intervals between spikes, which a short run measures too.

    Returns
    -------
    xr.Dataset
        `rate` (seed, noise, current) and the analytic `theory` (current), in Hz.

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> ds = firing_rate(seed=0, num_seeds=1, noises=(0.0,), currents=(1.0, 2.0), duration=500.0)
    >>> [round(float(r)) for r in ds.rate.squeeze()]
    [0, 36]
    """
    check_int(1, num_seeds=num_seeds)
    check_positive(duration=duration)
    for noise in noises:
        check_nonnegative(noise=noise)
    neuron = Membrane(dt=0.05) if neuron is None else neuron
    num_steps = round(duration / neuron.dt)
    generator = torch.Generator().manual_seed(seed)
    level = torch.tensor(currents, dtype=torch.float64)
    spread = torch.tensor(noises, dtype=torch.float64)
    shape = (num_seeds, len(noises), len(currents))
    # White noise keeps its strength when the step changes only if its deviation grows as dt^(-1/2).
    strength = spread[:, None] / np.sqrt(neuron.dt)
    spikes = torch.empty((num_steps, *shape), dtype=torch.float32)
    state = None
    block = 2000
    for start in range(0, num_steps, block):
        size = min(block, num_steps - start)
        drawn = torch.randn((size, *shape), generator=generator, dtype=torch.float64)
        drive = level + strength * drawn
        out, state = _run_on(neuron, drive, state)
        spikes[start : start + size] = out.float()
    rate = _rate(spikes, neuron.dt)
    return dataset(
        "Firing rate against current",
        {
            "seed": variable("seed", np.arange(num_seeds), "draw of the noise"),
            "noise": variable("noise", list(noises), "noise", "nA"),
            "current": variable("current", list(currents), "input current", "nA"),
        },
        {
            "rate": variable("seed noise current", rate, "firing rate", "Hz"),
            "theory": variable("current", neuron.rate(level), "firing rate by the formula", "Hz"),
        },
        rheobase=neuron.rheobase,
        duration=duration,
    )


def _run_on(neuron: Membrane, drive: Tensor, held: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a block of time from where the last one stopped; returns spikes and the state after the last reset."""
    trace = neuron(drive) if held is None else neuron.resume(drive, held)
    last = trace.membrane[-1] - neuron.reset
    return trace.spikes, last * (1 - trace.spikes[-1])


def _rate(spikes: Tensor, dt: float) -> Tensor:
    """Return spikes per second from the first to the last spike, and 0 where there are fewer than two."""
    num_steps = len(spikes)
    steps = torch.arange(num_steps, dtype=torch.float32).view(-1, *[1] * (spikes.ndim - 1))
    count = spikes.sum(0)
    last = (spikes * steps).amax(0)
    first = num_steps - (spikes * (num_steps - steps)).amax(0)
    return torch.where(count > 1, 1000 * (count - 1) / ((last - first).clamp(min=1) * dt), torch.zeros_like(count))


def neuron_kinds(*, duration: float = 300.0, onset: float = 30.0) -> xr.Dataset:
    """Let kinds of neurons answer the same kind of input: a current that is switched on and stays.

    Returns
    -------
    xr.Dataset
        `membrane` (kind, time), scaled to [0, 1] over time for each kind, with `spikes`; maps take one iteration a ms.

    >>> neuron_kinds(duration=100.0).sizes["kind"]
    7
    """
    check_positive(duration=duration)
    num_steps = round(duration)
    on = (torch.arange(num_steps) >= onset).to(torch.float64)[:, None]
    kinds = {
        "leaky": Leaky()(0.08 * on),
        "adaptive": Adaptive(adaptation=0.5)(0.08 * on),
        "synaptic": Synaptic()(0.02 * on),
        "Izhikevich, regular": Izhikevich.kind("regular spiking", dt=1.0)(10.0 * on),
        "Izhikevich, chattering": Izhikevich.kind("chattering", dt=1.0)(10.0 * on),
        "Chialvo": Chialvo(b=0.18, c=0.28, k=0.0)(0.05 * on),
        "Rulkov": Rulkov(alpha=6.0, sigma=-0.3, mu=0.005)(0.6 * on),
    }
    membrane = torch.stack([trace.membrane.squeeze(1) for trace in kinds.values()])
    low, high = membrane.amin(1, keepdim=True), membrane.amax(1, keepdim=True)
    spikes = torch.stack([trace.spikes.squeeze(1) for trace in kinds.values()])
    return dataset(
        "Kinds of neurons",
        {
            "kind": variable("kind", list(kinds), "kind of neuron"),
            "time": variable("time", np.arange(num_steps), "time", "ms"),
        },
        {
            "membrane": variable("kind time", (membrane - low) / (high - low), "membrane potential, scaled"),
            "spikes": variable("kind time", spikes, "spikes"),
        },
        onset=onset,
    )
