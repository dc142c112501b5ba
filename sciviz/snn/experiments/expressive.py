"""Experiments on the ELM neuron: a task with a long delay, against a temporal convolution, and a simulated dendrite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.experiments._digits import sub_seeds
from sciviz.snn.expressive import make_elm, memory_decays, run_elm
from sciviz.snn.neurons import exponential_filter


class _Adding:
    """Two spike patterns with a long gap between them; the answer is the sum of their numbers."""

    def __init__(self, generators: list[torch.Generator], num_channels: int, num_patterns: int, gap: int) -> None:
        self.generators, self.num_patterns, self.gap, self.length = generators, num_patterns, gap, 8
        shape = (num_patterns, self.length, num_channels)
        self.templates = [(torch.rand(shape, generator=g) < 0.25).float() for g in generators]

    def draw(self, num: int) -> tuple[Tensor, Tensor]:
        """Return spikes (time, members, samples, channels) and sums."""
        X, y = [], []
        for template, g in zip(self.templates, self.generators, strict=True):
            numbers = torch.randint(0, self.num_patterns, (2, num), generator=g)
            patterns = template[numbers]
            # Each spike is lost, and each silence broken, now and then; the gap is not silent either.
            flips = torch.rand(patterns.shape, generator=g)
            patterns = torch.where(patterns > 0, (flips > 0.1).float(), (flips < 0.02).float())
            quiet = (torch.rand(num, self.gap, template.shape[-1], generator=g) < 0.02).float()
            X.append(torch.cat([patterns[0], quiet, patterns[1]], 1).transpose(0, 1))
            y.append(numbers.sum(0))
        return torch.stack(X, 1), torch.stack(y)


class _Tcn:
    """A temporal convolution network of all members: dilated causal convolutions with residual steps."""

    def __init__(self, generators: list[torch.Generator], inputs: int, width: int, levels: int, outputs: int) -> None:
        self.members, self.width, self.levels = len(generators), width, levels
        sizes = [inputs] + [width] * (2 * levels)

        def draw(out: int, into: int, taps: int) -> Tensor:
            scale = math.sqrt(2 / (into * taps))
            return torch.cat([torch.randn(out, into, taps, generator=g) * scale for g in generators]).requires_grad_()

        self.weights = [draw(width, into, 3) for into in sizes[:-1]]
        self.biases = [torch.zeros(self.members * width, requires_grad=True) for _ in self.weights]
        self.readout = torch.stack([torch.randn(width, outputs, generator=g) / width**0.5 for g in generators])
        self.readout.requires_grad_()
        self.output_bias = torch.zeros(self.members, 1, outputs, requires_grad=True)

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases, self.readout, self.output_bias]

    def __call__(self, X: Tensor) -> Tensor:
        num_times, members, batch, inputs = X.shape
        a = X.permute(2, 1, 3, 0).reshape(batch, members * inputs, num_times)
        for level in range(self.levels):
            before = a
            for index in (2 * level, 2 * level + 1):
                dilation = 2**level
                padded = torch.nn.functional.pad(a, (2 * dilation, 0))
                a = torch.nn.functional.conv1d(
                    padded, self.weights[index], self.biases[index], dilation=dilation, groups=members
                )
                a = torch.relu(a)
            if level:
                a = a + before
        last = a[..., -1].reshape(batch, members, self.width).transpose(0, 1)
        return torch.baddbmm(self.output_bias, last, self.readout)


def long_delay(
    *,
    seed: int,
    num_seeds: int = 5,
    gap: int = 44,
    num_channels: int = 16,
    num_patterns: int = 4,
    num_branches: int = 8,
    num_memories: int = 16,
    num_hidden: int = 24,
    longest: Sequence[float] = (150.0, 4.0),
    num_steps: int = 600,
    batch_size: int = 48,
    lr: float = 0.01,
    num_test: int = 400,
    with_tcn: bool = False,
    tcn_width: int = 32,
    tcn_levels: int = 5,
) -> xr.Dataset:
    """Add two numbers, each said by a spike pattern, one long before the other.

    ELM neurons with slow memories and with fast ones start from the same draw and see the same patterns; all seeds run
    as one ensemble. `with_tcn` trains a temporal convolution network with ten times the parameters as well.

    Parameters
    ----------
    gap
        Steps between the end of the first pattern and the start of the second.
    longest
        Longest time constant of the memories, in steps, of each arm.

    Returns
    -------
    xr.Dataset
        `accuracy` (arm, seed) and `parameters` (arm); arms are named by the longest time constant, and "TCN".

    >>> ds = long_delay(seed=0, num_seeds=1, num_steps=1, num_test=8, gap=4)
    >>> ds.arm.values.tolist()
    ['ELM, τ ≤ 150', 'ELM, τ ≤ 4']
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, batch_size=batch_size, num_test=num_test, gap=gap)
    check_positive(lr=lr)
    generators = [torch.Generator().manual_seed(s) for s in sub_seeds(seed, num_seeds)]
    task = _Adding(generators, num_channels, num_patterns, gap)
    sums, arms = 2 * num_patterns - 1, len(longest)
    one = make_elm(
        generators,
        num_inputs=num_channels,
        num_branches=num_branches,
        num_memories=num_memories,
        num_hidden=num_hidden,
        num_outputs=sums,
    )
    elm = type(one)(*(p.repeat(arms, *[1] * (p.ndim - 1)).requires_grad_() for p in one))
    decays = torch.cat([memory_decays(num_memories, 1.0, t).expand(num_seeds, 1, -1) for t in longest])
    tcn = _Tcn(generators, num_channels, tcn_width, tcn_levels, sums) if with_tcn else None
    rates = [(list(elm), lr)] + ([(tcn.parameters, 0.3 * lr)] if tcn is not None else [])
    optimizers = [torch.optim.Adam(parameters, lr=rate) for parameters, rate in rates]
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.02, total_iters=num_steps) for o in optimizers]

    def logits(X: Tensor) -> Tensor:
        parts = [run_elm(elm, X.repeat(1, arms, 1, 1), decays)]
        if tcn is not None:
            parts.append(tcn(X))
        return torch.cat(parts)

    copies = arms + with_tcn
    for _ in range(num_steps):
        X, y = task.draw(batch_size)
        loss = torch.nn.functional.cross_entropy(logits(X).mT, y.repeat(copies, 1), reduction="none").mean(1).sum()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        # Each member on its own: one that explodes must not slow the others down.
        for parameter in elm:
            if parameter.grad is not None:
                norm = parameter.grad.flatten(1).norm(dim=1).clamp_min(1.0)
                parameter.grad /= norm.reshape(-1, *[1] * (parameter.ndim - 1))
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    X, y = task.draw(num_test)
    with torch.no_grad():
        accuracy = (logits(X).argmax(-1) == y.repeat(copies, 1)).float().mean(1)
    names = [f"ELM, τ ≤ {t:g}" for t in longest] + (["TCN"] if with_tcn else [])
    sizes = [sum(p[0].numel() for p in elm)] * arms
    if tcn is not None:
        sizes.append(sum(p.numel() for p in tcn.parameters) // num_seeds)
    return dataset(
        "Adding across a long delay",
        {
            "arm": variable("arm", names, "model"),
            "seed": variable("seed", range(num_seeds), "draw of the task and network"),
        },
        {
            "accuracy": variable("arm seed", accuracy.reshape(copies, num_seeds), "test accuracy"),
            "parameters": variable("arm", sizes, "parameters"),
        },
        gap=gap,
        num_steps=num_steps,
        num_classes=sums,
    )


def timescale_claim(ds: xr.Dataset) -> ClaimResult:
    """`elm-neuron/timescales`: without slow memories the neuron cannot bridge the delay."""
    loss = (ds.accuracy.isel(arm=0) - ds.accuracy.isel(arm=1)).values
    text = f"accuracy lost when memories last 4 steps at most: at least 0.2 (mean over seeds), delay of {ds.gap} steps"
    holds = bool(loss.mean() >= 0.2) if len(loss) >= 3 else None
    spread = paired_interval(loss).half if len(loss) > 1 else None
    return ClaimResult(float(loss.mean()), holds, text, spread, len(loss))


def parity_claim(ds: xr.Dataset) -> ClaimResult:
    """`elm-neuron/parity`: it keeps up with a temporal convolution network of ten times its size."""
    text = "accuracy(ELM) − accuracy(TCN), with at most a tenth of the parameters: 95% interval over at least 10 seeds above −0.01"
    if "TCN" not in ds.arm.values:
        return ClaimResult(float("nan"), None, text, None, ds.sizes["seed"])
    gain = paired_interval(ds.accuracy.isel(arm=0) - ds.accuracy.sel(arm="TCN"))
    small = bool(ds.parameters.isel(arm=0) <= 0.1 * ds.parameters.sel(arm="TCN"))
    holds = gain.above(-0.01) if small else False
    return ClaimResult(gain.mean, holds if ds.sizes["seed"] >= 10 else None, text, gain.half, ds.sizes["seed"])


def dendrite(spikes: Tensor, *, num_branches: int = 8) -> Tensor:
    """Simulate a neuron with nonlinear branches, and return the somatic potential at every step.

    Each branch integrates its synapses with a time constant of 8 steps; above half of its range a regenerative current
    sets in, as of NMDA receptors. The soma integrates the branches with a time constant of 20 steps.

    Parameters
    ----------
    spikes
        (time, ..., inputs), 0 or 1.

    >>> dendrite(torch.zeros(5, 2, 16)).shape
    torch.Size([5, 2])
    """
    check_int(1, num_branches=num_branches)
    grouped = torch.unflatten(spikes, -1, (num_branches, -1))
    branch = exponential_filter(grouped.sum(-1), decay=math.exp(-1 / 8)) / 4
    active = branch + 2 * torch.sigmoid(8 * (branch - 1))
    return exponential_filter(active.mean(-1), decay=math.exp(-1 / 20)) / 20


def dendritic_neuron(
    *,
    seed: int,
    num_seeds: int = 5,
    num_inputs: int = 32,
    num_times: int = 100,
    num_steps: int = 300,
    batch_size: int = 16,
    num_memories: int = 16,
    num_hidden: int = 24,
    lr: float = 0.01,
) -> xr.Dataset:
    """Learn the somatic potential of a simulated neuron with nonlinear branches from its input spikes.

    Returns
    -------
    xr.Dataset
        `unexplained` (arm, seed), the share of the potential's variance that is not explained on new inputs, by the ELM
        neuron and by the best linear readout of leaky traces; `potential`, `prediction` (time), an example.

    >>> ds = dendritic_neuron(seed=0, num_seeds=1, num_steps=1, num_times=20, batch_size=4)
    >>> ds.unexplained.dims
    ('arm', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_times=num_times, num_steps=num_steps, batch_size=batch_size)
    generators = [torch.Generator().manual_seed(s) for s in sub_seeds(seed, num_seeds)]

    def draw(num: int) -> tuple[Tensor, Tensor]:
        X = []
        for g in generators:
            # Rates change over time and differ between branches, so that branches are active one at a time.
            rate = (
                0.1 * torch.rand(num_times // 20 + 1, num, 8, generator=g).square().repeat_interleave(20, 0)[:num_times]
            )
            rate = rate.repeat_interleave(num_inputs // 8, -1)
            X.append((torch.rand(rate.shape, generator=g) < rate).float())
        spikes = torch.stack(X, 1)
        return spikes, dendrite(spikes)

    elm = make_elm(
        generators,
        num_inputs=num_inputs,
        num_branches=8,
        num_memories=num_memories,
        num_hidden=num_hidden,
        num_outputs=1,
    )
    for parameter in elm:
        parameter.requires_grad_()
    decays = memory_decays(num_memories, 1.0, 50.0).expand(num_seeds, 1, -1)
    optimizer = torch.optim.Adam(list(elm), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=num_steps)
    _, sample = draw(64)
    mean, std = sample.mean(), sample.std()
    for _ in range(num_steps):
        X, y = draw(batch_size)
        out = run_elm(elm, X, decays, synapse_decay=math.exp(-1 / 8), every_step=True)[..., 0]
        loss = (out - (y - mean) / std).square().mean((0, 2)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    X, y = draw(100)
    target = (y - mean) / std
    with torch.no_grad():
        out = run_elm(elm, X, decays, synapse_decay=math.exp(-1 / 8), every_step=True)[..., 0]
        elm_error = (out - target).square().mean((0, 2)) / target.var((0, 2))
        # The linear model sees all that a passive neuron could use: two leaky traces of each branch.
        sums = torch.unflatten(X, -1, (8, -1)).sum(-1)
        fast = exponential_filter(sums, decay=math.exp(-1 / 8))
        slow = exponential_filter(fast, decay=math.exp(-1 / 20))
        features = torch.cat([fast, slow, torch.ones_like(fast[..., :1])], -1).movedim(0, 1).flatten(1, 2)
        flat = target.movedim(0, 1).flatten(1, 2)[..., None]
        fitted = features @ torch.linalg.lstsq(features, flat).solution
        linear_error = (fitted - flat).square().mean((1, 2)) / flat.var((1, 2))
    return dataset(
        "A neuron with nonlinear branches",
        {
            "arm": variable("arm", ["ELM", "linear"], "model"),
            "seed": variable("seed", range(num_seeds), "draw of the network"),
            "time": variable("time", range(num_times), "time", "steps"),
        },
        {
            "unexplained": variable(
                "arm seed", torch.stack([elm_error, linear_error]), "unexplained share of variance"
            ),
            "potential": variable("time", target[:, 0, 0], "somatic potential, standardised"),
            "prediction": variable("time", out[:, 0, 0], "prediction"),
        },
        num_steps=num_steps,
    )
