"""Experiments on equilibrium propagation: exact derivatives from finite nudges, and what a symmetric Jacobian is worth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.equilibrium import (
    adjoint_errors,
    asymmetry,
    contour_errors,
    error_cosine,
    exact_errors,
    homeostasis_gradient,
    layered_mask,
    relax,
)
from sciviz.snn.experiments._digits import digit_splits, one_hot, sub_seeds

RULES = ("equilibrium", "with homeostasis", "backpropagation")


def _network(seeds: Sequence[int], sizes: Sequence[int], num_inputs: int, gain: float) -> tuple[Tensor, Tensor]:
    """Draw independent forward and backward synapses, and those from the inputs into the first layer."""
    mask = layered_mask(sizes)
    units = int(mask.shape[0])
    fan = mask.float() / mask.float().sum(1, keepdim=True).clamp_min(1)
    weights, inputs = [], []
    for s in seeds:
        generator = torch.Generator().manual_seed(s)
        weights.append(gain * torch.randn(units, units, generator=generator) * fan.sqrt())
        entry = torch.zeros(units, num_inputs)
        entry[: sizes[0]] = torch.randn(sizes[0], num_inputs, generator=generator) * (2.0 / num_inputs) ** 0.5
        inputs.append(entry)
    return torch.stack(weights), torch.stack(inputs)


def contour_derivatives(
    *,
    seed: int,
    num_seeds: int = 5,
    sizes: Sequence[int] = (24, 24, 10),
    gain: float = 0.5,
    num_nudges: Sequence[int] = (2, 4, 6, 8),
    radii: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
    num_samples: int = 16,
    activation: str = "tanh",
) -> xr.Dataset:
    """Compare derivatives from finite nudges on a circle with the exact ones, on digits, before training.

    Returns
    -------
    xr.Dataset
        `relative_error` (nudges, radius, seed) of du*/dβ in float64, and `cosine` (seed) between that derivative and
        backpropagation's error over the hidden units.

    >>> ds = contour_derivatives(seed=0, num_seeds=2, num_nudges=(2, 8), radii=(0.2,), num_samples=4)
    >>> bool((ds.relative_error.sel(nudges=8) < ds.relative_error.sel(nudges=2)).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_samples=num_samples)
    seeds = sub_seeds(seed, num_seeds)
    weight, entry = (t.double() for t in _network(seeds, sizes, 64, gain))
    digits = digit_splits(seed, num_seeds, num_train=num_samples, num_test=1)
    drive = digits.X.double() @ entry.mT
    target = one_hot(digits.y, sizes[-1]).double()
    state = relax(weight, drive, torch.zeros_like(drive), num_steps=200, activation=activation)
    exact, backprop = exact_errors(weight, state, target, activation)
    hidden = slice(0, -sizes[-1])
    errors = torch.zeros(len(num_nudges), len(radii), num_seeds, dtype=torch.float64)
    for i, count in enumerate(num_nudges):
        for j, radius in enumerate(radii):
            found = contour_errors(
                weight, drive, state, target, num_nudges=count, radius=radius, num_steps=80, activation=activation
            )
            errors[i, j] = (found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    return dataset(
        "Derivatives from finite nudges",
        {
            "nudges": variable("nudges", list(num_nudges), "nudges on the circle"),
            "radius": variable("radius", list(radii), "size of the nudges"),
            "seed": variable("seed", range(num_seeds), "draw of the network"),
        },
        {
            "relative_error": variable("nudges radius seed", errors, "relative error of the derivative"),
            "cosine": variable(
                "seed", error_cosine(exact[..., hidden], backprop[..., hidden]), "cosine with backpropagation's error"
            ),
        },
        activation=activation,
    )


def contour_claim(ds: xr.Dataset) -> ClaimResult:
    """`ep-jacobian-homeostasis/contour`: eight complex nudges of finite size give the exact derivative."""
    text = "relative error of du*/dβ at most 1e-3 for every seed; 8 nudges of size 0.2, tanh units, asymmetric synapses"
    if 8 not in ds.nudges.values or 0.2 not in ds.radius.values or ds.sizes["seed"] < 3:
        return ClaimResult(float("nan"), None, text, None, ds.sizes["seed"])
    error = ds.relative_error.sel(nudges=8, radius=0.2).values
    holds = bool((error <= 1e-3).all()) if ds.activation == "tanh" else None
    return ClaimResult(float(error.max()), holds, text, float(error.std()), ds.sizes["seed"])


def jacobian_homeostasis(
    *,
    seed: int,
    num_seeds: int = 5,
    sizes: Sequence[int] = (40, 40, 10),
    gain: float = 0.5,
    homeostasis: float = 0.2,
    num_train: int = 1000,
    num_steps: int = 200,
    batch_size: int = 48,
    lr: float = 0.002,
    radius: float = 0.2,
    num_nudges: int = 2,
    relax_steps: int = 15,
    record_every: int = 40,
    activation: str = "tanh",
) -> xr.Dataset:
    """Train one equilibrium network by three errors: nudged, nudged with Jacobian homeostasis, and backpropagated.

    Forward and backward synapses are drawn, and learn, independently. All three rules start from the same draw and see
    the same batches, and all run as one ensemble.

    Returns
    -------
    xr.Dataset
        `cosine` (rule, seed, step) of the nudged error with the backpropagated one over the hidden units, `asymmetry` of
        the Jacobian, and `accuracy` (rule, seed) on test digits.

    >>> ds = jacobian_homeostasis(seed=0, num_seeds=1, sizes=(8, 10), num_train=64, num_steps=2, record_every=1)
    >>> dict(ds.cosine.sizes)
    {'rule': 3, 'seed': 1, 'step': 3}
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, batch_size=batch_size, record_every=record_every)
    check_nonnegative(homeostasis=homeostasis)
    check_positive(lr=lr, radius=radius)
    rules = len(RULES)
    seeds = sub_seeds(seed, num_seeds)
    weight, entry = (t.repeat(rules, 1, 1) for t in _network(seeds, sizes, 64, gain))
    mask = layered_mask(sizes).float()
    bias = torch.zeros(len(weight), 1, weight.shape[-1])
    into = torch.zeros_like(entry)
    into[:, : sizes[0]] = 1
    digits = digit_splits(seed, num_seeds, num_train=num_train)
    X, y = digits.X.repeat(rules, 1, 1), one_hot(digits.y, sizes[-1]).repeat(rules, 1, 1)
    optimizer = torch.optim.Adam([weight, entry, bias], lr=lr)
    generator = torch.Generator().manual_seed(seeds[0])
    hidden = slice(0, -sizes[-1])
    # One coefficient a member: the second rule alone has homeostasis.
    strength = torch.zeros(rules, num_seeds, 1, 1)
    strength[1] = homeostasis
    strength = strength.flatten(0, 1)
    cosines, asymmetries, steps = [], [], []
    for step in range(num_steps + 1):
        chosen = torch.randperm(num_train, generator=generator)[:batch_size]
        batch, target = X[:, chosen], y[:, chosen]
        drive = batch @ entry.mT + bias
        state = relax(weight, drive, torch.zeros_like(drive), num_steps=relax_steps, activation=activation)
        last = rules - 1
        split = last * num_seeds
        nudged = contour_errors(
            weight,
            drive,
            state,
            target,
            num_nudges=num_nudges,
            radius=radius,
            num_steps=relax_steps,
            activation=activation,
        )
        recorded = step % record_every == 0 or step == num_steps
        exact = adjoint_errors(
            *((weight, state, target) if recorded else (weight[split:], state[split:], target[split:])),
            num_steps=2 * relax_steps if recorded else relax_steps,
            activation=activation,
        )
        if recorded:
            cosines.append(error_cosine(nudged[..., hidden], exact[..., hidden]))
            asymmetries.append(asymmetry(weight, state[:, :8], activation))
            steps.append(step)
        if step == num_steps:
            break
        error = torch.cat([nudged[:split], exact[-num_seeds:]])
        value = torch.tanh(state) if activation == "tanh" else torch.sigmoid(state)
        weight.grad = (
            error.mT @ value / batch_size + strength * homeostasis_gradient(weight, state, activation)
        ) * mask
        entry.grad = error.mT @ batch / batch_size * into
        bias.grad = error.mean(1, keepdim=True)
        optimizer.step()
    X_test, y_test = digits.X_test.repeat(rules, 1, 1), digits.y_test.repeat(rules, 1)
    drive = X_test @ entry.mT + bias
    final = relax(weight, drive, torch.zeros_like(drive), num_steps=3 * relax_steps, activation=activation)
    accuracy = (final[..., -sizes[-1] :].argmax(-1) == y_test).float().mean(-1)
    shape = (rules, num_seeds)
    return dataset(
        "Equilibrium propagation with and without Jacobian homeostasis",
        {
            "rule": variable("rule", list(RULES), "error that trains"),
            "seed": variable("seed", range(num_seeds), "draw of the network and split"),
            "step": variable("step", steps, "training step", "updates"),
        },
        {
            "cosine": variable(
                "rule seed step", torch.stack(cosines, -1).reshape(*shape, -1), "cosine with backpropagation's error"
            ),
            "asymmetry": variable(
                "rule seed step", torch.stack(asymmetries, -1).reshape(*shape, -1), "asymmetry of the Jacobian"
            ),
            "accuracy": variable("rule seed", accuracy.reshape(shape), "test accuracy"),
        },
        homeostasis=homeostasis,
        sizes=list(sizes),
        num_steps=num_steps,
        num_nudges=num_nudges,
        radius=radius,
    )


def alignment_claim(ds: xr.Dataset) -> ClaimResult:
    """`ep-jacobian-homeostasis/alignment`: penalising asymmetry turns nudged errors towards backpropagation's."""
    cosine = ds.cosine.isel(step=-1)
    gain = (cosine.sel(rule="with homeostasis") - cosine.sel(rule="equilibrium")).values
    text = "cosine of the errors with backpropagation's, after training: with homeostasis at least 0.3 above without (mean)"
    spread = paired_interval(gain).half if len(gain) > 1 else None
    holds = bool(gain.mean() >= 0.3) if len(gain) >= 3 else None
    return ClaimResult(float(gain.mean()), holds, text, spread, len(gain))


def homeostasis_accuracy_claim(ds: xr.Dataset) -> ClaimResult:
    """`ep-jacobian-homeostasis/accuracy`: and accuracy on digits follows."""
    gain = (ds.accuracy.sel(rule="with homeostasis") - ds.accuracy.sel(rule="equilibrium")).values
    text = "test accuracy with homeostasis at least 0.02 above without, mean of paired differences over seeds"
    spread = paired_interval(gain).half if len(gain) > 1 else None
    holds = bool(gain.mean() >= 0.02) if len(gain) >= 3 else None
    return ClaimResult(float(gain.mean()), holds, text, spread, len(gain))
