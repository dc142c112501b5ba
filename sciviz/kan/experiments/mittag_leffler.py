"""One gated Mittag-Leffler form: how exactly it is other activations, and whether its shape is worth learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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
    learnt: Sequence[str] = ("softsign", "ELU"),
    width: int = 32,
    num_steps: int = 300,
    lr: float = 0.01,
    num_train: int = 600,
    batch_size: int = 100,
) -> xr.Dataset:
    """Classify digits with one hidden layer: activations as they are, and a Mittag-Leffler form that learns its shape.

    `learnt` names the activations that a learnt shape starts from. Every seed
    has its own split, batches and weights, the same for all activations.

    Returns
    -------
    xr.Dataset
        `accuracy` on 360 test digits by activation and seed ("learnt from ELU" started as ELU); `alpha` and `beta` learnt
        by start and seed, and the `shape` learnt along `position`.

    >>> ds = digits_accuracy(seed=0, num_seeds=2, fixed=("tanh",), learnt=("ELU",), num_steps=3)
    >>> ds.activation.values.tolist(), ds["shape"].dims
    (['tanh', 'learnt from ELU'], ('start', 'seed', 'position'))
    """
    if not fixed or not learnt:
        raise ValueError("fixed and learnt must each name at least one activation.")
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
    makers.update({f"learnt from {start}": partial(_learnt, start) for start in learnt})
    line = torch.linspace(-4, 4, 81)
    accuracy, shapes, numbers = [], [], []
    for name, activation in makers.items():
        ensemble = Ensemble([MLP(sizes, activation, seed=s) for s in seeds])
        generator = torch.Generator().manual_seed(seeds[0])

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble, g: torch.Generator = generator) -> Tensor:
            rows = torch.randint(X.shape[1], (num_seeds, batch_size), generator=g)
            logits = ensemble(X[which, rows], weights)
            each = nn.functional.cross_entropy(logits.flatten(0, 1), y[which, rows].flatten(), reduction="none")
            return each.reshape(num_seeds, -1).mean(1)

        ensemble.fit(loss, num_steps=num_steps, lr=lr)
        accuracy.append((ensemble(T).argmax(-1) == t).double().mean(1))
        if name in fixed:
            continue
        members = [ensemble.member(i) for i in range(num_seeds)]
        layers = [layer for m in members for layer in m.modules() if isinstance(layer, MittagLefflerActivation)]
        with torch.no_grad():
            shapes.append(torch.stack([layer(line) for layer in layers]))
            numbers.append(torch.tensor([[layer.alpha.item(), layer.beta.item()] for layer in layers]))
    found = torch.stack(numbers)
    begun = torch.stack([SHAPES[start].function(line) for start in learnt])
    return dataset(
        "Digits, with fixed and with learnt activations",
        {
            "activation": variable("activation", list(makers), "activation", ""),
            "seed": seed_coord(num_seeds),
            "start": variable("start", list(learnt), "activation that the shape started from", ""),
            "position": variable("position", line, "input x"),
        },
        {
            "accuracy": variable("activation seed", torch.stack(accuracy), "accuracy on test digits"),
            "alpha": variable("start seed", found[..., 0], "order α learnt"),
            "beta": variable("start seed", found[..., 1], "parameter β learnt"),
            "shape": variable("start seed position", torch.stack(shapes), "activation learnt"),
            "start_shape": variable("start position", begun, "activation at the start"),
        },
        width=width,
        num_steps=num_steps,
        num_train=num_train,
    )


def _learnt(start: str, width: int) -> nn.Module:
    return MittagLefflerActivation(start)


def learnt_shape_claim(ds: xr.Dataset) -> ClaimResult:
    """`mittag-leffler-activation/learnt`: a learnt shape is as good as the best fixed one."""
    mean = ds.accuracy.mean("seed")
    learnt = [str(a) for a in ds.activation.values if str(a).startswith("learnt from ")]
    fixed = [str(a) for a in ds.activation.values if str(a) not in learnt]
    best, best_learnt = (str(mean.sel(activation=names).idxmax().item()) for names in (fixed, learnt))
    difference = (ds.accuracy.sel(activation=best_learnt) - ds.accuracy.sel(activation=best)).values
    text = (
        "accuracy of the best learnt shape minus the best fixed one, paired over splits and seeds: the lower end of the 95% "
        f"interval at least -0.01; {len(learnt)} learnt and {len(fixed)} fixed, one hidden layer of {ds.attrs['width']}, "
        f"{ds.attrs['num_train']} training digits, {ds.sizes['seed']} seeds"
    )
    measured = {
        "difference": float(difference.mean()),
        f"best fixed ({best})": float(mean.sel(activation=best)),
        best_learnt: float(mean.sel(activation=best_learnt)),
    }
    if ds.sizes["seed"] < 3 or float(mean.min()) < 0.7:
        return ClaimResult(measured, None, text, None, ds.sizes["seed"])
    interval = paired_interval(difference)
    holds = True if interval.low >= -0.01 else False if interval.high < -0.01 else None
    return ClaimResult(measured, holds, text, interval.half, ds.sizes["seed"])
