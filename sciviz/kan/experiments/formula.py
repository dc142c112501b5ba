"""Formulas read off trained networks: the paper's example, and a law of physics from noisy data [kan-liu, §2.5, §3.3]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.experiments.scaling import DAMPING, Target, best_starts, design_points, draw_points, exp_sin
from sciviz.kan.networks import KAN
from sciviz.kan.pruning import prune_edges, prune_nodes, scores
from sciviz.kan.symbolic import Suggestion, formula, formula_difference, make_symbolic
from sciviz.kan.training import train
from sciviz.lab.checks import check_int, check_nonnegative
from sciviz.lab.results import ClaimResult, dataset, variable


@dataclass
class Story:
    """The stages of one network on its way to a formula, for figures and explorers: each a network of its own."""

    X: Tensor
    y: Tensor
    sparse: KAN
    pruned: KAN
    symbolic: KAN
    chosen: list[tuple[int, int, int, Suggestion]]


def train_sparse(X: Tensor, y: Tensor, *, seed: int, widths: Sequence[int] = (2, 5, 1), num_steps: int = 12) -> KAN:
    """Train a network whose edges pay for being there: L-BFGS, L1 and entropy on a coarse grid.

    >>> X = draw_points(20, 2, seed=0)
    >>> train_sparse(X, exp_sin(X), seed=0, num_steps=1).widths
    [2, 5, 1]
    """
    model = KAN(list(widths), seed=seed, num_cells=3, noise=0.3, dtype=torch.float64)
    train(model, X, y, method="lbfgs", num_steps=num_steps, lamb=0.03, entropy=2.0)
    return model


def tell_story(
    *,
    seed: int,
    num_points: int = 300,
    target: Target = exp_sin,
    widths: Sequence[int] = (2, 5, 1),
    num_starts: int = 3,
    threshold: float = 0.05,
) -> Story:
    """Train [2, 5, 1] sparsely, prune it, refine its grid, and read the formula off.

    A start that keeps more than one hidden node is tried again, at most `num_starts` times in all; the first of those
    with the fewest nodes is used.

    >>> tell_story(seed=0, num_points=60).pruned.widths[0]
    2
    """
    check_int(1, num_points=num_points, num_starts=num_starts)
    check_nonnegative(threshold=threshold)
    data_seed, *starts = sub_seeds(seed, num_starts + 1)
    X = design_points(num_points, widths[0], seed=data_seed)
    y = target(X)
    best: tuple[int, KAN, KAN] | None = None
    for start in starts:
        sparse = train_sparse(X, y, seed=start, widths=widths)
        pruned = prune_nodes(sparse, X, threshold=threshold)
        size = sum(pruned.widths[1:-1])
        if best is None or size < best[0]:
            best = (size, sparse, pruned)
        if size == 1:
            break
    assert best is not None
    _, sparse, pruned = best
    pruned = prune_edges(pruned, X, threshold=threshold / 10)
    train(pruned, X, y, num_steps=15, follow=(2, 6), blend=1.0, follow_inputs=False)
    pruned.extend(9, X)
    train(pruned, X, y, num_steps=15)
    symbolic, chosen = make_symbolic(pruned, X, y)
    return Story(X, y, sparse, pruned, symbolic, chosen)


def recover_formula(
    *,
    seed: int,
    num_seeds: int = 3,
    num_points: int = 300,
    target: Target = exp_sin,
    exact: str = "exp(sin(pi*x) + y**2)",
) -> xr.Dataset:
    """Recover a formula from data, once for each seed, and hold it against the exact one on fresh points.

    Returns
    -------
    xr.Dataset
        By seed: `r2` of the formula on fresh points, `nodes` kept of five, `exact` (1 where it *is* the formula, to four
        digits), `difference` between formula and network, `outside`, the value at (0, 2), where no data were, and the
        `formula` itself.

    >>> sorted(recover_formula(seed=0, num_seeds=1, num_points=100).data_vars)
    ['difference', 'exact', 'formula', 'nodes', 'outside', 'r2']
    """
    check_int(1, num_seeds=num_seeds)
    rows: list[tuple[float, int, float, float, float, str]] = []
    away = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    for one in sub_seeds(seed, num_seeds):
        story = tell_story(seed=one, num_points=num_points, target=target)
        fresh = draw_points(1000, story.X.shape[1], seed=(one + 1) % 2**32)
        t = target(fresh)
        with torch.no_grad():
            missed = story.symbolic(fresh) - t
            outside = float(story.symbolic(away))
        r2 = 1 - float(missed.square().sum() / (t - t.mean()).square().sum())
        written = formula(story.symbolic, ["x", "y"], digits=4)[0]
        rows.append(
            (
                r2,
                sum(story.pruned.widths[1:-1]),
                float(_same(written, exact)),
                formula_difference(story.symbolic, fresh),
                outside,
                str(written),
            )
        )
    r2s, nodes, right, difference, outsides, written_ = zip(*rows, strict=True)
    return dataset(
        "Formulas recovered",
        {"seed": seed_coord(num_seeds)},
        {
            "r2": variable("seed", list(r2s), "R² of the formula on fresh points"),
            "nodes": variable("seed", list(nodes), "Hidden nodes kept"),
            "exact": variable("seed", list(right), "Whether it is the exact formula"),
            "difference": variable("seed", list(difference), "Largest difference of formula and network"),
            "outside": variable("seed", list(outsides), "Value at (0, 2), outside the data"),
            "formula": variable("seed", np.array(written_, dtype=object), "Formula"),
        },
        exact_formula=exact,
    )


def _same(found: Any, exact: str) -> bool:
    """Whether two expressions are equal, by their values at a few points: simplifying may take for ever."""
    x, y = sympy.symbols("x y")
    gap = sympy.lambdify([x, y], found - sympy.sympify(exact), "numpy")
    places = np.array([[-0.9, 0.3], [0.2, -0.7], [0.55, 0.8], [-0.35, -0.15]]).T
    return bool(np.all(np.abs(gap(*places) + np.zeros(4)) < 1e-3))


def formula_claim(ds: xr.Dataset) -> ClaimResult:
    """`kan-liu/formula`: a sparse KAN is pruned, and a formula that fits new points is read off."""
    good = (ds.r2.values >= 0.9999).sum()
    num = ds.sizes["seed"]
    return ClaimResult(
        measured={"fits new points (R² >= 0.9999)": int(good), "is the exact formula": int(ds.exact.sum()), "of": num},
        holds=bool(good >= 0.8 * num) if num >= 3 else None,
        criterion="R² of the formula on fresh points >= 0.9999 in at least 80% of runs (each the sparsest of up to three "
        "starts), at least 3 seeds",
        spread=None,
        seeds=num,
    )


PERIOD = "T = a^(3/2) / M^(1/2)"


def kepler(X: Tensor) -> Tensor:
    """Return periods in years of orbits with semi-axes X[:, 0] (astronomical units) around masses X[:, 1] (suns).

    >>> kepler(torch.tensor([[4.0, 1.0]])).tolist()
    [[8.0]]
    """
    return X[..., :1] ** 1.5 / X[..., 1:2].sqrt()


def rediscover(
    *, seed: int, num_seeds: int = 5, noise: Sequence[float] = (0.0, 0.01, 0.03, 0.1), num_points: int = 200
) -> xr.Dataset:
    """Rediscover Kepler's third law from orbits whose periods carry relative noise.

    A network [2, 1, 1] is fitted, its edges are suggested from {x, log, exp, x², sqrt}, and the exponents are those that
    the formula gives to semi-axis and mass: derivatives of log T at the middle of the data.

    Returns
    -------
    xr.Dataset
        `exponent` (quantity, noise, seed), `rmse` against the law without noise for the splines and for the formula
        (model, noise, seed), both relative, and `forms` (noise, seed).

    >>> ds = rediscover(seed=0, num_seeds=1, noise=(0.0,), num_points=60)
    >>> ds.exponent.dims
    ('quantity', 'noise', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points)
    check_nonnegative(**{f"noise_{n}": value for n, value in enumerate(noise)})
    seeds = sub_seeds(seed, num_seeds)
    exponents = np.zeros((2, len(noise), num_seeds))
    errors = np.zeros((2, len(noise), num_seeds))
    forms = np.empty((len(noise), num_seeds), dtype=object)
    low, high = torch.tensor([0.4, 0.5], dtype=torch.float64), torch.tensor([6.0, 3.0], dtype=torch.float64)
    middle = (low * high).sqrt()
    for column, one in enumerate(seeds):
        data_seed, test_seed, model_seed = sub_seeds(one, 3)
        X = low + (high - low) * (design_points(num_points, 2, seed=data_seed) + 1) / 2
        T = low + (high - low) * (draw_points(500, 2, seed=test_seed) + 1) / 2
        generator = torch.Generator().manual_seed(data_seed)
        draw = torch.randn(num_points, 1, generator=generator, dtype=torch.float64)
        for row, level in enumerate(noise):
            y = kepler(X) * (1 + level * draw)
            many = KAN([2, 1, 1], seed=model_seed, num_cells=3, members=3, dtype=torch.float64)
            many.follow(X, blend=1.0)
            kept = best_starts(many, X, y, 1, 15)
            assert isinstance(kept, KAN)
            model = kept.member(0)
            train(model, X, y, num_steps=20, damping=DAMPING)
            fixed, chosen = make_symbolic(model, X, y, names=["x", "log", "exp", "x^2", "sqrt"], num_steps=45)
            forms[row, column] = ", ".join(edge[3].name for edge in sorted(chosen, key=lambda edge: edge[:3]))
            with torch.no_grad():
                size = kepler(T).square().mean().sqrt()
                for kind, network in enumerate((model, fixed)):
                    errors[kind, row, column] = float((network(T) - kepler(T)).square().mean().sqrt() / size)
            place = middle[None].clone().requires_grad_()
            value = fixed(place)
            slope = torch.autograd.grad(value.sum(), place)[0]
            exponents[:, row, column] = (slope * middle / value.detach())[0].numpy()
    return dataset(
        "Kepler's third law from noisy orbits",
        {
            "quantity": variable("quantity", ["semi-axis", "mass"], "Quantity"),
            "noise": variable("noise", list(noise), "Relative noise on the periods"),
            "seed": seed_coord(num_seeds),
            "model": variable("model", ["splines", "formula"], "Model"),
        },
        {
            "exponent": variable("quantity noise seed", exponents, "Exponent"),
            "rmse": variable("model noise seed", errors, "Relative error against the law (RMSE)"),
            "forms": variable("noise seed", forms, "Functions chosen: of the semi-axis, of the mass, outer"),
        },
        exact=[1.5, -0.5],
        middle=[math.sqrt(0.4 * 6.0), math.sqrt(0.5 * 3.0)],
    )


def edge_scores(model: KAN, X: Tensor) -> list[Tensor]:
    """Return the scores of all edges, as the pruning uses them.

    >>> [tuple(s.shape) for s in edge_scores(KAN([2, 1], seed=0), draw_points(9, 2, seed=0).float())]
    [(2, 1)]
    """
    return scores(model, X).edges
