"""Sharp functions and a heat equation, with the Cauchy activation and with tanh at equal width [cauchy-xnet]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from sciviz.kan.counterparts import MLP, Ensemble
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable

SHARP: dict[str, Callable[[Tensor], Tensor]] = {
    "step": lambda x: (x > 0).to(x.dtype),
    "tanh(50x)": lambda x: torch.tanh(50 * x),
}
_KINDS = ("tanh", "cauchy")


def _best_rate(losses: Float[Tensor, "rates cases"]) -> Float[Tensor, "cases"]:
    """Which rate has the lowest training loss, diverged ones last."""
    return torch.nan_to_num(losses, nan=math.inf).argmin(0)


def sharp_functions(
    *,
    seed: int,
    num_seeds: int = 5,
    width: int = 20,
    num_steps: int = 1500,
    lrs: Sequence[float] = (0.1, 0.3),
    targets: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    num_points: int = 400,
) -> xr.Dataset:
    """Fit sharp functions on [-1, 1] with one hidden layer of tanh or of Cauchy units, equally many.

    Each network is trained with every learning rate of `lrs`, and the one with the lowest training loss is kept.

    Parameters
    ----------
    targets
        Name → tensor function; a step and tanh(50x) if None.

    Returns
    -------
    xr.Dataset
        `error` on points between those trained on, `train_error` and the `rate` kept, by target, activation and seed;
        `prediction` of the first seed along `position` beside `signal`.

    >>> ds = sharp_functions(seed=0, num_seeds=2, num_steps=5)
    >>> ds.error.dims, ds.activation.values.tolist()
    (('target', 'activation', 'seed'), ['tanh', 'Cauchy'])
    """
    check_int(1, num_seeds=num_seeds, width=width, num_steps=num_steps)
    check_int(2, num_points=num_points)
    chosen = dict(SHARP if targets is None else targets)
    if not chosen or not lrs:
        raise ValueError("targets and lrs must not be empty.")
    X = torch.linspace(-1, 1, num_points)[:, None]
    # Where between two training points a jump lies, no data say: the gap around 0 is not tested.
    T = torch.linspace(-1, 1, 2 * num_points - 1)
    T = T[T.abs() > 1 / num_points][:, None]
    y, t = (torch.stack([f(points) for f in chosen.values()]) for points in (X, T))
    seeds = sub_seeds(seed, num_seeds)
    shape = (len(lrs), len(chosen), num_seeds)
    rates = torch.tensor(lrs).repeat_interleave(len(chosen) * num_seeds)
    wanted = y.repeat_interleave(num_seeds, 0).repeat(len(lrs), 1, 1)
    train, errors, kept, curves = [], [], [], []
    for kind in _KINDS:
        ensemble = Ensemble([MLP([1, width, 1], kind, seed=s) for _ in lrs for _ in chosen for s in seeds])

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble) -> Tensor:
            return (ensemble(X, weights) - wanted).square().mean((1, 2))

        losses = ensemble.fit(loss, num_steps=num_steps, lr=rates)[-1].reshape(shape[0], -1)
        best = _best_rate(losses)
        values = ensemble(T).reshape(shape[0], -1, len(T))[best, torch.arange(len(best))]
        values = values.reshape(*shape[1:], -1)
        errors.append((values - t[..., 0][:, None]).square().mean(-1))
        train.append(losses.gather(0, best[None])[0].reshape(shape[1:]))
        kept.append(torch.tensor(lrs)[best].reshape(shape[1:]))
        curves.append(values[:, 0])
    return dataset(
        "Sharp functions in one dimension",
        {
            "target": variable("target", list(chosen), "target function", ""),
            "activation": variable("activation", ["tanh", "Cauchy"], "activation", ""),
            "seed": seed_coord(num_seeds),
            "position": variable("position", T[:, 0], "input x"),
        },
        {
            "error": variable("target activation seed", torch.stack(errors, 1), "mean squared error on new points"),
            "train_error": variable("target activation seed", torch.stack(train, 1), "mean squared error in training"),
            "rate": variable("target activation seed", torch.stack(kept, 1), "learning rate kept"),
            "prediction": variable("target activation position", torch.stack(curves, 1), "output of the first network"),
            "signal": variable("target position", t[..., 0], "target function"),
        },
        width=width,
        num_steps=num_steps,
    )


def sharp_claim(ds: xr.Dataset) -> ClaimResult:
    """`cauchy-xnet/sharp`: Cauchy units fit sharp functions with far lower error than equally many tanh units."""
    median = ds.error.median("seed")
    ratios = {
        f"{t}: error / tanh's": float(
            median.sel(target=t, activation="Cauchy") / median.sel(target=t, activation="tanh")
        )
        for t in ds.target.values
    }
    text = (
        "test error of Cauchy at most 0.1 times tanh's, medians over seeds, for a step and for tanh(50x); one hidden layer "
        f"of {ds.attrs['width']} units, the better of two learning rates for each, {ds.sizes['seed']} seeds"
    )
    trained = bool((median < 0.05).all()) and ds.sizes["seed"] >= 3
    return ClaimResult(ratios, bool(max(ratios.values()) <= 0.1) if trained else None, text, None, ds.sizes["seed"])


# ------------------------------------------------------------------------------------------------- the heat equation


def _with_derivatives(kind: str, a: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The activation and its first two derivatives at `a`, shape (members, points, width)."""
    if kind == "tanh":
        value = torch.tanh(a)
        first = 1 - value.square()
        return value, first, -2 * value * first
    slope, bump, reach = (parameters[f"activations.0.{name}"][:, None] for name in ("slope", "bump", "reach"))
    inverse = 1 / (a.square() + reach.square() + 1e-6)
    value = (slope * a + bump) * inverse
    first = (slope - 2 * a * value) * inverse
    return value, first, -(2 * value + 4 * a * first) * inverse


def heat_residual(
    kind: str, parameters: Mapping[str, Tensor], points: Float[Tensor, "points 2"], conductivity: float
) -> tuple[Float[Tensor, "members points"], Float[Tensor, "members points"]]:
    """Return u and u_t - κ u_xx of networks with one hidden layer, their derivatives written out.

    Parameters
    ----------
    kind
        "tanh" or "cauchy".
    parameters
        Those of an ensemble of `MLP([2, width, 1], kind)`.
    points
        Columns x and t.
    """
    W, b = parameters["layers.0.weight"], parameters["layers.0.bias"]
    out, shift = parameters["layers.1.weight"], parameters["layers.1.bias"]
    a = points @ W.mT + b[:, None]
    value, first, second = _with_derivatives(kind, a, parameters)
    wx, wt = W[..., 0], W[..., 1]

    def read(hidden: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("mph,mh->mp", hidden, weight)

    c = out[:, 0]
    return read(value, c) + shift, read(first, c * wt) - conductivity * read(second, c * wx.square())


def heat_equation(
    *,
    seed: int,
    num_seeds: int = 5,
    modes: Sequence[int] = (1,),
    width: int = 24,
    num_steps: int = 1500,
    lrs: Sequence[float] = (0.003, 0.01),
    conductivity: float = 0.1,
    num_grid: int = 16,
) -> xr.Dataset:
    """Solve u_t = κ u_xx on [0, 1]² by training networks on the equation's residual; u = 0 at both ends.

    The start is u(x, 0) = Σ sin(m π x) over `modes`, so the exact solution is known. Boundary and start enter the loss
    with weight 10. Each network is trained with every learning rate, and the one with the lowest loss is kept.

    Returns
    -------
    xr.Dataset
        `error`, the relative L2 error of u on a finer grid, and `loss` by activation and seed; `prediction` of the first
        seed at the last moment, beside `exact`.

    >>> ds = heat_equation(seed=0, num_seeds=2, num_steps=5)
    >>> ds.error.dims
    ('activation', 'seed')
    """
    check_int(1, num_seeds=num_seeds, width=width, num_steps=num_steps)
    check_int(3, num_grid=num_grid)
    check_positive(conductivity=conductivity)
    if not modes or not lrs:
        raise ValueError("modes and lrs must not be empty.")
    check_int(1, **{f"modes[{i}]": m for i, m in enumerate(modes)})

    def start(x: Tensor, t: Tensor) -> Tensor:
        parts = [torch.sin(m * math.pi * x) * torch.exp(-conductivity * (m * math.pi) ** 2 * t) for m in modes]
        return torch.stack(parts).sum(0)

    # Points crowd towards t = 0, where a fast mode dies within the first step of an even grid.
    line = torch.linspace(0, 1, num_grid)
    inner = torch.cartesian_prod(line, line.square())
    edge = torch.linspace(0, 1, 4 * num_grid)
    zero, one = torch.zeros_like(edge), torch.ones_like(edge)
    border = torch.cat([torch.stack(p, 1) for p in ((edge, zero), (zero, edge), (one, edge))])
    wanted = start(border[:, 0], border[:, 1])
    wanted[len(edge) :] = 0
    fine = torch.linspace(0, 1, 41)
    grid = torch.cartesian_prod(fine, fine)
    exact = start(grid[:, 0], grid[:, 1])
    seeds = sub_seeds(seed, num_seeds)
    rates = torch.tensor(lrs).repeat_interleave(num_seeds)
    errors, finals, curves = [], [], []
    for kind in _KINDS:
        ensemble = Ensemble([MLP([2, width, 1], kind, seed=s) for _ in lrs for s in seeds])

        def loss(step: int, weights: Tensor, kind: str = kind, ensemble: Ensemble = ensemble) -> Tensor:
            parameters = ensemble.parameters(weights)
            _, residual = heat_residual(kind, parameters, inner, conductivity)
            at_border = ensemble(border, weights)[..., 0]
            return residual.square().mean(1) + 10 * (at_border - wanted).square().mean(1)

        losses = ensemble.fit(loss, num_steps=num_steps, lr=rates)[-1].reshape(len(lrs), num_seeds)
        best = _best_rate(losses)
        u = ensemble(grid)[..., 0].reshape(len(lrs), num_seeds, -1)[best, torch.arange(num_seeds)]
        errors.append((u - exact).norm(dim=1) / exact.norm())
        finals.append(losses.gather(0, best[None])[0])
        curves.append(u[0].reshape(41, 41))
    return dataset(
        "The heat equation, learnt from its residual",
        {
            "activation": variable("activation", ["tanh", "Cauchy"], "activation", ""),
            "seed": seed_coord(num_seeds),
            "position": variable("position", fine, "position x"),
            "time": variable("time", fine, "time t"),
        },
        {
            "error": variable("activation seed", torch.stack(errors), "relative L2 error of the solution"),
            "loss": variable("activation seed", torch.stack(finals), "loss after training"),
            "prediction": variable("activation position time", torch.stack(curves), "temperature of the first network"),
            "exact": variable("position time", exact.reshape(41, 41), "exact temperature"),
        },
        width=width,
        num_steps=num_steps,
        modes=" + ".join(map(str, modes)),
    )


def heat_claim(ds: xr.Dataset) -> ClaimResult:
    """`cauchy-xnet/heat`: Cauchy units solve the heat equation with lower error than tanh units."""
    median = ds.error.median("seed")
    measured = {str(a): float(median.sel(activation=a)) for a in ds.activation.values}
    text = (
        f"relative L2 error of Cauchy at most 0.5 times tanh's, medians over seeds; start of modes {ds.attrs['modes']}, one "
        f"hidden layer of {ds.attrs['width']} units, the better of two learning rates for each, {ds.sizes['seed']} seeds"
    )
    trained = min(measured.values()) < 0.3 and ds.sizes["seed"] >= 3
    spread = f"seeds: {', '.join(f'{v:.2g}' for v in (ds.error.sel(activation='Cauchy') / ds.error.sel(activation='tanh')).values)}"
    holds = measured["Cauchy"] <= 0.5 * measured["tanh"] if trained else None
    return ClaimResult(measured, holds, text, f"ratio by seed {spread}", ds.sizes["seed"])
