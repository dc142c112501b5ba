"""Long sequences of wide layers: time for a step against what the device's memory allows."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import xarray as xr

from sciviz.lab.checks import check_int
from sciviz.lab.results import dataset, variable
from sciviz.snn.neurons import lif

__all__ = ["long_sequences"]


def _seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the least time of several rounds, after one that warms up."""
    best = float("inf")
    for _ in range(rounds + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def long_sequences(
    *,
    seed: int,
    num_steps: int = 1000,
    num_neurons: int = 65_536,
    decay: float = 0.95,
    rounds: int = 3,
    device: torch.device | str = "cpu",
) -> xr.Dataset:
    """Run leaky neurons over a long sequence, forward and backward, and compare with copying an array of that size.

    Forward reads a current and writes a membrane and a spike for each neuron and step; backward reads a membrane and a
    gradient and writes a gradient. Three arrays each are the floor that bandwidth sets.

    Returns
    -------
    xr.Dataset
        `forward_seconds`, `backward_seconds`, the bandwidths they amount to, `copy_bandwidth`; `mismatch`, the share of spikes
        that differ from the CPU's on some of the neurons; `arrays`, the peak of memory in arrays of (steps, neurons), nan on
        a CPU, where torch does not count it.

    Raises
    ------
    ValueError
        If a size is out of range.

    >>> float(long_sequences(seed=0, num_steps=20, num_neurons=8).mismatch)
    0.0
    """
    check_int(1, num_steps=num_steps, num_neurons=num_neurons, rounds=rounds)
    place = torch.device(device)
    generator = torch.Generator().manual_seed(seed)
    # Drawn on the CPU, so that both devices see the same numbers; few columns, repeated, since drawing is slow there.
    few = min(512, num_neurons)
    drawn = torch.rand(num_steps, few, generator=generator) * 0.2
    current = drawn.to(place).repeat(1, -(-num_neurons // few))[:, :num_neurons].contiguous()
    size = current.numel() * current.element_size()
    target = torch.empty_like(current)
    copying = _seconds(lambda: target.copy_(current), place, rounds)
    del target
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    forward = _seconds(lambda: lif(current, decay=decay), place, rounds)
    current.requires_grad_()
    spikes = lif(current, decay=decay).spikes
    ones = torch.ones_like(spikes)
    backward = _seconds(lambda: torch.autograd.grad(spikes, current, ones, retain_graph=True), place, rounds)
    arrays = torch.cuda.max_memory_allocated(place) / size if place.type == "cuda" else float("nan")
    here = lif(drawn, decay=decay).spikes
    mismatch = float((here != spikes[:, :few].detach().cpu()).double().mean())
    return dataset(
        "Long sequences of wide layers",
        {},
        {
            "forward_seconds": variable("", forward, "forward time", "s"),
            "backward_seconds": variable("", backward, "backward time", "s"),
            "forward_bandwidth": variable("", 3 * size / forward / 1e9, "forward bandwidth", "GB/s"),
            "backward_bandwidth": variable("", 3 * size / backward / 1e9, "backward bandwidth", "GB/s"),
            "copy_bandwidth": variable("", 2 * size / copying / 1e9, "bandwidth of copying", "GB/s"),
            "mismatch": variable("", mismatch, "spikes that differ from the CPU's"),
            "arrays": variable("", arrays, "peak memory, arrays of (steps, neurons)"),
        },
        num_steps=num_steps,
        num_neurons=num_neurons,
        device=str(place),
    )
