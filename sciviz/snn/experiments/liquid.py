"""Experiments on liquids: digits read from a frozen, a plastic and an astrocyte-regulated liquid."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.experiments._digits import digit_splits, one_hot, sub_seeds
from sciviz.snn.liquid import Liquid, adapt_liquid, branching_factor, make_liquid, run_liquid

ARMS = ("static", "STDP", "STDP with astrocyte")


def astrocyte_liquid(
    *,
    seed: int,
    num_seeds: int = 10,
    num_neurons: int = 100,
    num_times: int = 25,
    num_adapt: int = 80,
    num_train: int = 400,
    num_test: int = 300,
    rate: float = 0.25,
    ridge: float = 1.0,
    num_kicks: int = 60,
) -> xr.Dataset:
    """Read digits from three liquids: as drawn, after STDP, and after STDP under an astrocyte.

    Digits are spikes, drawn anew at each step with a probability of `rate` times the pixel. Plasticity sees `num_adapt`
    digits and no label; then the liquid is frozen and a ridge regression reads spike counts. All three start alike.

    Returns
    -------
    xr.Dataset
        `accuracy`, `branching` and `spikes` (spikes a neuron and step) by (arm, seed); `activity` and `depression`
        (arm, time), means over seeds while the two plastic liquids adapt.

    >>> ds = astrocyte_liquid(seed=0, num_seeds=2, num_neurons=20, num_adapt=2, num_train=30, num_test=10, num_kicks=5)
    >>> ds.accuracy.dims
    ('arm', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_neurons=num_neurons, num_times=num_times, num_adapt=num_adapt)
    check_positive(rate=rate, ridge=ridge)
    seeds = sub_seeds(seed, num_seeds)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    drawn = make_liquid(generators, num_neurons=num_neurons, num_inputs=64)
    digits = digit_splits(seed, num_seeds, num_train=num_train, num_test=num_test)
    shared = torch.Generator().manual_seed(seeds[0])

    def spikes_of(X: Tensor) -> Tensor:
        return (torch.rand((num_times, *X.shape), generator=shared) < rate * X).float()

    stream = spikes_of(digits.X[:, :num_adapt]).permute(2, 0, 1, 3).flatten(0, 1)
    twice = Liquid(*(t.repeat(2, 1, 1) for t in drawn))
    gated = torch.arange(2 * num_seeds) >= num_seeds
    adapted = adapt_liquid(twice, stream.repeat(1, 2, 1), astrocyte=gated)
    everyone = Liquid(*(torch.cat(pair) for pair in zip(drawn, adapted.liquid, strict=True)))
    arms = len(ARMS)
    train, test = spikes_of(digits.X), spikes_of(digits.X_test)
    counts = []
    for part in (train, test):
        fired = run_liquid(everyone, part.repeat(1, arms, 1, 1))
        total = fired.sum(0)
        counts.append(torch.cat([total, torch.ones_like(total[..., :1])], -1))
    seen, unseen = counts
    eye = ridge * torch.eye(seen.shape[-1])
    solution = torch.linalg.solve(seen.mT @ seen + eye, seen.mT @ one_hot(digits.y).repeat(arms, 1, 1))
    right = (unseen @ solution).argmax(-1) == digits.y_test.repeat(arms, 1)
    branching = branching_factor(everyone, test[:, :, :num_kicks].repeat(1, arms, 1, 1), generator=shared)
    mean_rate = unseen[..., :-1].mean((1, 2)) / num_times
    shape = (arms, num_seeds)
    smooth = (2, num_seeds, num_adapt, num_times)
    activity = adapted.activity.T.reshape(smooth).mean((1, 3))
    depression = adapted.depression.T.reshape(smooth).mean((1, 3))
    return dataset(
        "A liquid and its astrocyte",
        {
            "arm": variable("arm", list(ARMS), "liquid"),
            "seed": variable("seed", range(num_seeds), "draw of the liquid and split"),
            "plastic": variable("plastic", list(ARMS[1:]), "liquid"),
            "digit": variable("digit", range(1, num_adapt + 1), "digits seen"),
        },
        {
            "accuracy": variable("arm seed", right.float().mean(1).reshape(shape), "test accuracy"),
            "branching": variable("arm seed", branching.reshape(shape), "branching factor"),
            "spikes": variable("arm seed", mean_rate.reshape(shape), "spikes a neuron", "1/step"),
            "activity": variable("plastic digit", activity, "spikes a neuron", "1/step"),
            "depression": variable("plastic digit", depression, "amplitude of depression"),
        },
        num_neurons=num_neurons,
        num_adapt=num_adapt,
    )


def astrocyte_claim(ds: xr.Dataset) -> ClaimResult:
    """`nalsm-astrocyte/accuracy`: the astrocyte's liquid is read better than that of STDP alone."""
    gain = (ds.accuracy.sel(arm="STDP with astrocyte") - ds.accuracy.sel(arm="STDP")).values
    text = "accuracy with astrocyte minus STDP alone, paired over at least 10 seeds: 95% interval above 0"
    if len(gain) < 10:
        return ClaimResult(float(gain.mean()), None, text, None, len(gain))
    interval = paired_interval(gain)
    return ClaimResult(interval.mean, interval.above(0.0), text, interval.half, len(gain))


def static_claim(ds: xr.Dataset) -> ClaimResult:
    """`nalsm-astrocyte/static`: and better than the liquid as it was drawn."""
    gain = (ds.accuracy.sel(arm="STDP with astrocyte") - ds.accuracy.sel(arm="static")).values
    text = "accuracy with astrocyte minus static liquid, paired over at least 10 seeds: 95% interval above 0"
    if len(gain) < 10:
        return ClaimResult(float(gain.mean()), None, text, None, len(gain))
    interval = paired_interval(gain)
    return ClaimResult(interval.mean, interval.above(0.0), text, interval.half, len(gain))


def branching_claim(ds: xr.Dataset) -> ClaimResult:
    """`nalsm-astrocyte/branching`: under the astrocyte one spike causes about one spike."""
    value = ds.branching.sel(arm="STDP with astrocyte").values
    text = "mean branching factor between 0.8 and 1.2, measured by injecting one spike on top of ongoing activity"
    holds = bool(0.8 <= value.mean() <= 1.2) if len(value) >= 5 else None
    return ClaimResult(float(value.mean()), holds, text, float(value.std()), len(value))
