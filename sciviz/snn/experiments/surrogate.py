"""Surrogate gradients, seen: their shapes, the staircase they smooth, and how wide their window should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_choice, check_int, check_positive
from sciviz.lab.results import dataset, variable
from sciviz.snn.encodings import encode
from sciviz.snn.experiments._digits import digit_splits
from sciviz.snn.models import Leaky
from sciviz.snn.networks import SpikingNetwork, accuracy, train
from sciviz.snn.neurons import exponential_filter, lif
from sciviz.snn.surrogates import KINDS, Surrogate

__all__ = ["loss_staircase", "steepness_scan", "surrogate_shapes"]


def surrogate_shapes(*, steepness: float = 2.0, kinds: Sequence[str] = tuple(KINDS)) -> xr.Dataset:
    """Tabulate the smooth steps and their slopes.

    Returns
    -------
    xr.Dataset
        `step` and `slope` (kind, distance), and the spike's own `heaviside` (distance).

    Raises
    ------
    ValueError
        If a kind is unknown, or the steepness not positive.

    >>> float(surrogate_shapes().step.sel(kind="sigmoid").max()) > 0.98
    True
    """
    check_positive(steepness=steepness)
    for kind in kinds:
        check_choice(KINDS, kinds=kind)
    x = torch.linspace(-2, 2, 401, dtype=torch.float64)
    made = [Surrogate(kind, steepness) for kind in kinds]
    return dataset(
        "Surrogates",
        {
            "kind": variable("kind", list(kinds), "surrogate"),
            "distance": variable("distance", x, "membrane minus threshold"),
        },
        {
            "step": variable("kind distance", torch.stack([s.smooth(x) for s in made]), "smooth step"),
            "slope": variable("kind distance", torch.stack([s.slope(x) for s in made]), "slope used for learning"),
            "heaviside": variable("distance", (x >= 0).to(x.dtype), "spike"),
        },
        steepness=steepness,
    )


def loss_staircase(
    *, seed: int, steepness: float = 4.0, num_weights: int = 301, num_inputs: int = 20, num_steps: int = 100
) -> xr.Dataset:
    """Turn one number, the size of all weights of one neuron, and see the loss and what gradients say about it.

    The neuron should fire as often as it does at size 1; the loss is the squared error of its filtered spikes.

    Returns
    -------
    xr.Dataset
        By size: `loss`, a staircase; `slope`, its own derivative, which is zero on every step; `surrogate`, the derivative that
        backpropagation finds with a surrogate; `smooth_loss`, the loss of the network that fires by the smooth step.

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> ds = loss_staircase(seed=0, num_weights=21)
    >>> float(abs(ds.surrogate).max()) > 0
    True
    """
    check_int(2, num_weights=num_weights)
    check_int(1, num_inputs=num_inputs, num_steps=num_steps)
    generator = torch.Generator().manual_seed(seed)
    arrivals = (torch.rand(num_steps, num_inputs, generator=generator, dtype=torch.float64) < 0.05).double()
    weights = torch.rand(num_inputs, generator=generator, dtype=torch.float64) * 0.5
    drive = arrivals @ weights
    size = torch.linspace(0.3, 1.7, num_weights, dtype=torch.float64, requires_grad=True)
    surrogate = Surrogate("fast sigmoid", steepness)

    def filtered(scale: Tensor, smooth: bool = False) -> Tensor:
        spikes = lif(drive[:, None] * scale, decay=0.9, surrogate=surrogate, smooth=smooth).spikes
        return exponential_filter(spikes, decay=0.9)

    wanted = filtered(torch.ones(1, dtype=torch.float64))
    loss = ((filtered(size) - wanted) ** 2).mean(0)
    (slope,) = torch.autograd.grad(loss.sum(), size)
    smooth_wanted = filtered(torch.ones(1, dtype=torch.float64), smooth=True)
    smooth_loss = ((filtered(size, smooth=True) - smooth_wanted) ** 2).mean(0)
    return dataset(
        "The staircase and its smooth twin",
        {"size": variable("size", size, "size of the weights")},
        {
            "loss": variable("size", loss, "loss"),
            "surrogate": variable("size", slope, "gradient by the surrogate"),
            "smooth_loss": variable("size", smooth_loss, "loss of the smoothed neuron"),
        },
        steepness=steepness,
        seed=seed,
    )


def steepness_scan(
    *,
    seed: int,
    num_seeds: int = 5,
    kinds: Sequence[str] = ("arctan", "triangle"),
    steepnesses: Sequence[float] = (0.03, 0.3, 3.0, 30.0, 300.0),
    num_train: int = 400,
    num_epochs: int = 6,
    num_steps: int = 10,
    hidden: Sequence[int] = (32, 32),
) -> xr.Dataset:
    """Train a network with two hidden layers on digits for each surrogate and steepness; seeds are one ensemble.

    Returns
    -------
    xr.Dataset
        Test `accuracy` (kind, steepness, seed), and the `gradient`'s norm in the first layer before training.

    Raises
    ------
    ValueError
        If a number is out of range or a kind is unknown.

    >>> steepness_scan(seed=0, num_seeds=2, kinds=("arctan",), steepnesses=(1.0,), num_epochs=1).accuracy.shape
    (1, 1, 2)
    """
    check_int(1, num_seeds=num_seeds, num_train=num_train, num_epochs=num_epochs, num_steps=num_steps)
    digits = digit_splits(seed, num_seeds, num_train=num_train, num_test=360)
    X = encode(digits.X.flatten(0, 1), num_steps).view(num_steps, num_seeds, -1, 64)
    X_test = encode(digits.X_test.flatten(0, 1), num_steps).view(num_steps, num_seeds, -1, 64)
    found = np.empty((len(kinds), len(steepnesses), num_seeds))
    norms = np.empty_like(found)
    for i, kind in enumerate(kinds):
        for j, steepness in enumerate(steepnesses):
            neuron = Leaky(tau=10.0, surrogate=Surrogate(kind, steepness))
            net = SpikingNetwork([64, *hidden, 10], seed=seed, neuron=neuron, num_networks=num_seeds)
            logits = net(X[:, :, :64]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), digits.y[:, :64].flatten(), reduction="sum")
            (first,) = torch.autograd.grad(loss / 64, net.weights[0])
            norms[i, j] = first.flatten(1).norm(dim=1).numpy()
            train(net, X, digits.y, seed=seed, num_epochs=num_epochs, lr=1e-2, batch_size=50)
            found[i, j] = accuracy(net, X_test, digits.y_test).numpy()
    return dataset(
        "Accuracy by steepness of the surrogate",
        {
            "kind": variable("kind", list(kinds), "surrogate"),
            "steepness": variable("steepness", list(steepnesses), "steepness of the surrogate"),
            "seed": variable("seed", np.arange(num_seeds), "draw of split and weights"),
        },
        {
            "accuracy": variable("kind steepness seed", found, "test accuracy"),
            "gradient": variable("kind steepness seed", norms, "norm of the first layer's gradient"),
        },
        num_train=num_train,
        num_epochs=num_epochs,
        num_steps=num_steps,
    )
