"""Experiments on membrane normalisation: what it adds to batch normalisation, and whether folding it changes a spike."""

from __future__ import annotations

from itertools import pairwise

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.experiments._digits import digit_splits, sub_seeds
from sciviz.snn.neurons import lif
from sciviz.snn.normalization import fold_threshold, normalised_lif

ARMS = ("BN only", "BN and MPBN")
_MOMENTUM = 0.1


class _Layer:
    """One spiking layer of all members: linear, BN, then leaky neurons with membrane normalisation or without."""

    def __init__(
        self, fan_in: int, fan_out: int, generators: list[torch.Generator], membrane: bool, decay: float
    ) -> None:
        members = len(generators)
        draws = [torch.randn(fan_in, fan_out, generator=g) * (2 / fan_in) ** 0.5 for g in generators]
        shape = (members, 1, fan_out)
        self.weight = torch.stack(draws)
        self.scale, self.shift = torch.ones(shape), torch.zeros(shape)
        # A logarithm keeps γ positive, which is what lets the layer be folded.
        self.log_scale, self.membrane_shift = torch.zeros(shape), torch.zeros(shape)
        self.parameters = [self.weight, self.scale, self.shift]
        if membrane:
            self.parameters += [self.log_scale, self.membrane_shift]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.input_mean, self.input_var = torch.zeros(shape), torch.ones(shape)
        self.mean, self.var = torch.zeros(shape), torch.ones(shape)
        self.has_membrane, self.decay = membrane, decay

    def current(self, X: Tensor, training: bool) -> Tensor:
        num_times, members, batch, fan_in = X.shape
        flat = X.movedim(0, 1).reshape(members, -1, fan_in) @ self.weight
        mean, var = self.input_mean, self.input_var
        if training:
            mean, var = flat.mean(1, keepdim=True), flat.var(1, keepdim=True, correction=0)
            self.input_mean = torch.lerp(self.input_mean, mean.detach(), _MOMENTUM)
            self.input_var = torch.lerp(self.input_var, var.detach(), _MOMENTUM)
        normal = (flat - mean) * (var + 1e-5).rsqrt() * self.scale + self.shift
        return torch.unflatten(normal, 1, (num_times, batch)).movedim(1, 0)

    def spikes(self, X: Tensor, training: bool, folded: bool = False) -> Tensor:
        current = self.current(X, training)
        if not self.has_membrane:
            return lif(current, decay=self.decay, reset="zero").spikes
        scale = self.log_scale.exp()
        if folded:
            threshold = fold_threshold(scale, self.membrane_shift, self.mean, self.var)
            return lif(current, decay=self.decay, threshold=threshold, reset="zero").spikes
        mean, var = (None, None) if training else (self.mean, self.var)
        trace = normalised_lif(current, scale, self.membrane_shift, decay=self.decay, mean=mean, var=var)
        if training:
            self.mean = torch.lerp(self.mean, trace.mean.detach(), _MOMENTUM)
            self.var = torch.lerp(self.var, trace.var.detach(), _MOMENTUM)
        return trace.spikes


def membrane_normalisation(
    *,
    seed: int,
    num_seeds: int = 20,
    num_hidden: int = 48,
    depth: int = 2,
    num_times: int = 4,
    decay: float = 0.5,
    num_train: int = 1000,
    num_steps: int = 150,
    batch_size: int = 64,
    lr: float = 0.005,
) -> xr.Dataset:
    """Train spiking networks on digits with batch normalisation, and with membrane normalisation added; then fold it.

    Pixels enter as constant currents; class scores are read from spike counts. Both arms start from the same weights
    and see the same batches.

    Returns
    -------
    xr.Dataset
        `accuracy` (arm, seed) on test digits; `mismatch` (seed), the share of spikes that folding changed on the test
        digits, over all layers; `folded_accuracy` (seed); `thresholds` (seed, channel) of the first layer after folding.

    >>> ds = membrane_normalisation(seed=0, num_seeds=2, num_steps=2, num_hidden=8, depth=1, num_train=64)
    >>> bool((ds.mismatch <= 1e-2).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_hidden=num_hidden, depth=depth, num_times=num_times, num_steps=num_steps)
    check_positive(lr=lr)
    digits = digit_splits(seed, num_seeds, num_train=num_train)
    y_test = digits.y_test
    X_test = digits.X_test.expand(num_times, -1, -1, -1)
    seeds = sub_seeds(seed, num_seeds)
    accuracies, mismatch, folded_accuracy, thresholds = (
        [],
        torch.zeros(num_seeds),
        torch.zeros(num_seeds),
        torch.zeros(0),
    )
    for membrane in (False, True):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        sizes = [64, *[num_hidden] * depth]
        layers = [_Layer(a, b, generators, membrane, decay) for a, b in pairwise(sizes)]
        readout = torch.stack([torch.randn(num_hidden, 10, generator=g) / num_hidden**0.5 for g in generators])
        readout.requires_grad_()
        optimizer = torch.optim.Adam([*(p for layer in layers for p in layer.parameters), readout], lr=lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=num_steps)
        order = torch.Generator().manual_seed(seeds[0])

        def forward(
            X: Tensor, training: bool, folded: bool = False, layers: list[_Layer] = layers, readout: Tensor = readout
        ) -> tuple[Tensor, list[Tensor]]:
            seen = []
            for layer in layers:
                X = layer.spikes(X, training, folded)
                seen.append(X)
            return X.mean(0) @ readout * 4, seen

        for _ in range(num_steps):
            chosen = torch.randperm(num_train, generator=order)[:batch_size]
            out, _ = forward(digits.X[:, chosen].expand(num_times, -1, -1, -1), True)
            loss = torch.nn.functional.cross_entropy(out.mT, digits.y[:, chosen], reduction="none").mean(1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            out, spikes = forward(X_test, False)
            accuracies.append((out.argmax(-1) == y_test).float().mean(1))
            if membrane:
                out, folded = forward(X_test, False, True)
                folded_accuracy = (out.argmax(-1) == y_test).float().mean(1)
                differ = [(a != b).float().mean((0, 2, 3)) for a, b in zip(spikes, folded, strict=True)]
                mismatch = torch.stack(differ).mean(0)
                first = layers[0]
                thresholds = fold_threshold(first.log_scale.exp(), first.membrane_shift, first.mean, first.var)[:, 0]
    return dataset(
        "Membrane potential batch normalisation",
        {
            "arm": variable("arm", list(ARMS), "normalisation"),
            "seed": variable("seed", range(num_seeds), "draw of the network and split"),
            "channel": variable("channel", range(num_hidden), "channel of the first layer"),
        },
        {
            "accuracy": variable("arm seed", torch.stack(accuracies), "test accuracy"),
            "folded_accuracy": variable("seed", folded_accuracy, "test accuracy after folding"),
            "mismatch": variable("seed", mismatch, "share of spikes that folding changed"),
            "thresholds": variable("seed channel", thresholds, "threshold after folding"),
        },
        num_times=num_times,
        num_steps=num_steps,
    )


def membrane_accuracy_claim(ds: xr.Dataset) -> ClaimResult:
    """`mpbn-snn/accuracy`: membrane normalisation raises accuracy over batch normalisation alone."""
    gain = (ds.accuracy.sel(arm="BN and MPBN") - ds.accuracy.sel(arm="BN only")).values
    text = "paired accuracy difference, BN and MPBN minus BN only: 95% interval above 0, at least 10 seeds"
    if len(gain) < 10:
        return ClaimResult(float(gain.mean()), None, text, None, len(gain))
    interval = paired_interval(gain)
    return ClaimResult(interval.mean, interval.above(0.0), text, interval.half, len(gain))


def folding_claim(ds: xr.Dataset) -> ClaimResult:
    """`mpbn-snn/folding`: folded into thresholds, the normalisation leaves the spikes as they were."""
    mismatch = ds.mismatch.values
    text = "share of spikes changed by folding at most 1e-4 (mean over seeds), all layers, test digits"
    holds = bool(mismatch.mean() <= 1e-4) if len(mismatch) >= 5 else None
    return ClaimResult(float(mismatch.mean()), holds, text, float(mismatch.max()), len(mismatch))
