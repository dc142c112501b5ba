"""The timing task as a data set, for looking at it."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from sciviz.lab.checks import check_int
from sciviz.lab.results import dataset, variable
from sciviz.snn.plasticity import Stdp
from sciviz.snn.tasks import make_timing

__all__ = ["stdp_pairs", "timing_examples"]


def timing_examples(*, seed: int, num_classes: int = 3, num_channels: int = 4, slot: int = 8) -> xr.Dataset:
    """Draw one pattern of each class of the timing task.

    Returns
    -------
    xr.Dataset
        Spikes `X` (sample, time, channel), classes `y`, and the orders `slots` (class, channel).

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> timing_examples(seed=0).y.values.tolist()
    [0, 1, 2]
    """
    check_int(1, num_classes=num_classes)
    task = make_timing(
        4 * num_classes, seed=seed, num_classes=num_classes, num_channels=num_channels, slot=slot, class_seed=seed
    )
    first = [int((task.y == k).nonzero()[0]) for k in range(num_classes)]
    return dataset(
        "Examples of the timing task",
        {
            "sample": variable("sample", np.arange(num_classes), "sample"),
            "time": variable("time", np.arange(len(task.X)), "time", "steps"),
            "channel": variable("channel", np.arange(1, num_channels + 1), "channel"),
            "class": variable("class", np.arange(num_classes), "class"),
        },
        {
            "X": variable("sample time channel", task.X[:, first].permute(1, 0, 2), "spikes"),
            "y": variable("sample", task.y[first], "class"),
            "slots": variable("class channel", task.slots, "slot"),
        },
        slot=slot,
    )


def stdp_pairs(rule: Stdp | None = None, *, furthest: int = 60, num_pairs: int = 25) -> xr.Dataset:
    """Simulate pairs of spikes with a rule's traces, beside its window.

    Returns
    -------
    xr.Dataset
        `window` and `simulated` by the `difference` t_post − t_pre in ms.

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> ds = stdp_pairs()
    >>> float(abs(ds.window - ds.simulated).max()) < 1e-6
    True
    """
    check_int(1, furthest=furthest)
    check_int(2, num_pairs=num_pairs)
    rule = Stdp() if rule is None else rule
    steps = np.unique(np.linspace(-furthest, furthest, num_pairs).round().astype(int))
    steps = steps[steps != 0]
    length = 2 * furthest + 2
    # All pairs at once: one sample each.
    pre, post = torch.zeros(length, len(steps), 1), torch.zeros(length, len(steps), 1)
    for n, step in enumerate(steps):
        pre[furthest, n] = 1
        post[furthest + int(step), n] = 1
    difference = torch.tensor(steps, dtype=torch.float32) * rule.dt
    return dataset(
        "Plasticity by timing",
        {"difference": variable("difference", difference, "output spike minus input spike", "ms")},
        {
            "window": variable("difference", rule.window(difference), "change of the weight"),
            "simulated": variable("difference", rule.update(pre, post).flatten(), "change of the weight, simulated"),
        },
    )
