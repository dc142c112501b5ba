"""One gated Mittag-Leffler form: how exactly it is other activations, and whether its shape is worth learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from sciviz.kan.counterparts import MLP, Ensemble
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.mittag_leffler import SHAPES, MittagLefflerActivation, family, gated_mittag_leffler
from sciviz.lab import data
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable

FIXED = ("tanh", "sigmoid", "SiLU", "ELU", "softsign", "relu")


def unification(*, seed: int, num_seeds: int = 5, num_points: int = 1001, reach: float = 8.0) -> xr.Dataset:
    """Compare the gated form with each activation that it should equal, on even points and on fresh ones per seed.

    Returns
    -------
    xr.Dataset
        `error`, the largest difference, by activation and seed; `form` and `function` along `position`; and `slide`, what
        ELU becomes as the numerator's α goes to 0 with β = 2 - (1 - α), along `position`.

    >>> ds = unification(seed=0, num_seeds=2, num_points=101)
    >>> bool((ds.error < 1e-6).all())
    True
    """
    check_int(1, num_seeds=num_seeds)
    check_int(2, num_points=num_points)
    check_positive(reach=reach)
    even = torch.linspace(-reach, reach, num_points, dtype=torch.float64)
    rows = []
    for s in sub_seeds(seed, num_seeds):
        drawn = torch.rand(num_points, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        x = torch.cat([even, reach * (2 * drawn - 1)])
        rows.append(
            [float((gated_mittag_leffler(x, shape) - shape.function(x)).abs().max()) for shape in SHAPES.values()]
        )
    alphas = torch.linspace(0, 1, 6)
    return dataset(
        "One form, many activations",
        {
            "activation": variable("activation", list(SHAPES), "activation", ""),
            "seed": seed_coord(num_seeds),
            "position": variable("position", even, "input x"),
            "alpha": variable("alpha", alphas, "order α of the numerator"),
        },
        {
            "error": variable("activation seed", np.array(rows).T, "largest difference from the activation"),
            "form": variable(
                "activation position",
                torch.stack([gated_mittag_leffler(even, shape) for shape in SHAPES.values()]),
                "gated form",
            ),
            "function": variable(
                "activation position", torch.stack([shape.function(even) for shape in SHAPES.values()]), "activation"
            ),
            "slide": variable("alpha position", family("ELU", alphas, 1 + alphas, even), "gated form, β = 1 + α"),
        },
    )


def unification_claim(ds: xr.Dataset) -> ClaimResult:
    """`mittag-leffler-activation/unification`: one gated form equals several standard activations."""
    worst = ds.error.max("seed")
    good = int((worst <= 1e-6).sum())
    measured = {"activations matched": float(good), "largest error among them": float(worst.where(worst <= 1e-6).max())}
    text = f"sup error at most 1e-6 on [-8, 8] for at least 5 standard activations, {ds.sizes['seed']} draws of points"
    return ClaimResult(measured, good >= 5, text, None, ds.sizes["seed"])


def digits_accuracy(
    *,
    seed: int,
    num_seeds: int = 8,
    fixed: Sequence[str] = FIXED,
    width: int = 32,
    num_steps: int = 300,
    lr: float = 0.01,
    num_train: int = 600,
    batch_size: int = 100,
) -> xr.Dataset:
    """Classify digits with one hidden layer: activations as they are, and a Mittag-Leffler form that learns its shape.

    The learnt shape starts as ELU. Every seed has its own split, batches and weights, the same for all activations.

    Returns
    -------
    xr.Dataset
        `accuracy` on 360 test digits by activation ("learnt" the last) and seed, `alpha` and `beta` learnt by seed, and
        the `shape` learnt, by seed, along `position`.

    >>> ds = digits_accuracy(seed=0, num_seeds=2, fixed=("tanh",), num_steps=3)
    >>> ds.activation.values.tolist(), ds.shape.dims
    (['tanh', 'learnt'], ('seed', 'position'))
    """
    check_int(1, num_seeds=num_seeds, width=width, num_steps=num_steps, batch_size=batch_size)
    check_positive(lr=lr)
    seeds = sub_seeds(seed, num_seeds)
    sets = [data.load_digits(seed=s, num_train=num_train) for s in seeds]

    def take(split: str) -> tuple[Tensor, Tensor]:
        parts = [d.isel(sample=np.flatnonzero(d.split.values == split)) for d in sets]
        return (
            torch.stack([torch.as_tensor(p.X.values, dtype=torch.float32) for p in parts]),
            torch.stack([torch.as_tensor(p.y.values, dtype=torch.long) for p in parts]),
        )

    (X, y), (T, t) = take("train"), take("test")
    sizes = [X.shape[-1], width, 10]
    which = torch.arange(num_seeds)[:, None]
    makers: dict[str, str | Callable[[int], nn.Module]] = {name: name for name in fixed}
    makers["learnt"] = lambda width: MittagLefflerActivation("ELU")
    accuracy = []
    for activation in makers.values():
        ensemble = Ensemble([MLP(sizes, activation, seed=s) for s in seeds])
        generator = torch.Generator().manual_seed(seeds[0])

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble, g: torch.Generator = generator) -> Tensor:
            rows = torch.randint(X.shape[1], (num_seeds, batch_size), generator=g)
            logits = ensemble(X[which, rows], weights)
            each = nn.functional.cross_entropy(logits.flatten(0, 1), y[which, rows].flatten(), reduction="none")
            return each.reshape(num_seeds, -1).mean(1)

        ensemble.fit(loss, num_steps=num_steps, lr=lr)
        accuracy.append((ensemble(T).argmax(-1) == t).double().mean(1))
    found = [ensemble.member(i) for i in range(num_seeds)]
    layers = [member.activations[0] for member in found if isinstance(member, MLP)]
    learnt = [layer for layer in layers if isinstance(layer, MittagLefflerActivation)]
    line = torch.linspace(-4, 4, 81)
    with torch.no_grad():
        shapes = torch.stack([layer(line) for layer in learnt])
        numbers = torch.tensor([[float(layer.alpha), float(layer.beta)] for layer in learnt])
    return dataset(
        "Digits, with fixed and with learnt activations",
        {
            "activation": variable("activation", list(makers), "activation", ""),
            "seed": seed_coord(num_seeds),
            "position": variable("position", line, "input x"),
        },
        {
            "accuracy": variable("activation seed", torch.stack(accuracy), "accuracy on test digits"),
            "alpha": variable("seed", numbers[:, 0], "order α learnt"),
            "beta": variable("seed", numbers[:, 1], "parameter β learnt"),
            "shape": variable("seed position", shapes, "activation learnt"),
        },
        width=width,
        num_steps=num_steps,
        num_train=num_train,
    )


def learnt_shape_claim(ds: xr.Dataset) -> ClaimResult:
    """`mittag-leffler-activation/learnt`: a learnt shape is as good as the best fixed one."""
    mean = ds.accuracy.mean("seed")
    fixed = [a for a in ds.activation.values if a != "learnt"]
    best = str(mean.sel(activation=fixed).idxmax().item())
    difference = (ds.accuracy.sel(activation="learnt") - ds.accuracy.sel(activation=best)).values
    text = (
        "accuracy learnt minus best fixed, paired over splits and seeds: the lower end of the 95% interval at least -0.01; "
        f"one hidden layer of {ds.attrs['width']}, {ds.attrs['num_train']} training digits, {ds.sizes['seed']} seeds"
    )
    measured = {"difference": float(difference.mean()), f"best fixed ({best})": float(mean.sel(activation=best))}
    if ds.sizes["seed"] < 3 or float(mean.min()) < 0.7:
        return ClaimResult(measured, None, text, None, ds.sizes["seed"])
    interval = paired_interval(difference)
    holds = True if interval.low >= -0.01 else False if interval.high < -0.01 else None
    return ClaimResult(measured, holds, text, interval.half, ds.sizes["seed"])
