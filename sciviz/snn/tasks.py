"""A temporal task whose class lies in relative timing, and in nothing else.

Each of C channels spikes once, in a slot of its own; the class says in which order. Every class has the same spikes on the
same channels and as many in each slot, and the whole pattern starts at a random moment, so that neither counts nor
absolute times tell the class. The slots lie further apart than a membrane with a short time constant remembers: a neuron
without delays never sees two channels together. With delays that undo one class's order, all its spikes arrive at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative


class TimingTask(NamedTuple):
    """Spikes (time, sample, channel) of 0 and 1, classes `y` (sample), and each class's `slots` (class, channel)."""

    X: Float[Tensor, "time sample channel"]
    y: Int[Tensor, " sample"]
    slots: Int[Tensor, "class channel"]


def make_timing(
    num_samples: int,
    *,
    seed: int,
    num_classes: int = 4,
    num_channels: int = 4,
    slot: int = 8,
    jitter: int = 1,
    shift: int = 8,
    noise: float = 0.0,
    class_seed: int = 0,
) -> TimingTask:
    """Make spike patterns whose class is the order in which channels fire.

    Parameters
    ----------
    num_samples
        Patterns; classes are drawn evenly.
    seed
        Draws the samples; two sets with the same `class_seed` share their classes.
    num_classes, num_channels
        How many orders are told apart, of how many channels; the orders are drawn without repeats.
    slot
        Steps between two slots.
    jitter
        Each spike moves by up to so many steps, at random.
    shift
        The pattern starts up to so many steps late, at random.
    noise
        Probability of one more spike a channel and step.
    class_seed
        Draws the orders of the classes.

    Returns
    -------
    TimingTask
        Patterns of (num_channels − 1) · slot + shift + 2 · jitter + 1 steps.

    Raises
    ------
    ValueError
        If a number is out of range, there are fewer orders than classes, or jitter could swap two slots.

    >>> task = make_timing(6, seed=0)
    >>> task.X.shape, task.X.sum(0).unique().tolist()
    (torch.Size([35, 6, 4]), [1.0])
    """
    check_int(1, num_samples=num_samples, slot=slot)
    check_int(2, num_channels=num_channels, num_classes=num_classes)
    check_int(0, jitter=jitter, shift=shift)
    check_nonnegative(noise=noise)
    if noise > 1:
        raise ValueError(f"noise must be a probability, got {noise!r}.")
    if 2 * jitter >= slot:
        raise ValueError(
            f"jitter must be less than half a slot, or the order would be lost, got jitter {jitter}, slot {slot}."
        )
    slots = _orders(num_classes, num_channels, class_seed)
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(num_samples) % num_classes
    y = y[torch.randperm(num_samples, generator=generator)]
    when = slots[y] * slot + jitter
    when = when + torch.randint(-jitter, jitter + 1, when.shape, generator=generator)
    when = when + torch.randint(0, shift + 1, (num_samples, 1), generator=generator)
    num_steps = (num_channels - 1) * slot + shift + 2 * jitter + 1
    X = torch.zeros(num_steps, num_samples, num_channels)
    X.scatter_(0, when[None], 1.0)
    if noise > 0:
        X = torch.maximum(X, (torch.rand(X.shape, generator=generator) < noise).to(X.dtype))
    return TimingTask(X, y, slots)


def _orders(num_classes: int, num_channels: int, seed: int) -> Tensor:
    possible = 1
    for n in range(2, num_channels + 1):
        possible *= n
    if num_classes > possible:
        raise ValueError(
            f"num_classes must be at most {possible}, the orders of {num_channels} channels, got {num_classes}."
        )
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < num_classes:
        found[tuple(torch.randperm(num_channels, generator=generator).tolist())] = None
    return torch.tensor(list(found))
