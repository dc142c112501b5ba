"""A solver fitted to one trained flow, beside generic solvers of the same and of higher order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.bespoke import BespokeMidpoint, endpoint_error, fit_bespoke
from sciviz.flow.couplings import normal, pairs_of
from sciviz.flow.networks import VelocityField
from sciviz.flow.rectify import fit_velocity
from sciviz.flow.sampling import transport
from sciviz.lab.checks import check_int
from sciviz.lab.data import make_density, to_tensors
from sciviz.lab.results import ClaimResult, dataset, variable

__all__ = ["bespoke_solvers", "bespoke_solvers_claim"]


def bespoke_solvers(
    *,
    seed: int,
    num_seeds: int = 5,
    density: str = "two_moons",
    width: int = 64,
    depth: int = 3,
    train_steps: int = 1500,
    bespoke_steps: Sequence[int] = (5,),
    fit_steps: int = 300,
    num_fit: int = 1024,
    num_test: int = 512,
    velocity: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> xr.Dataset:
    """Train flows from a Gaussian to a plane density, fit a solver to each, and compare end points on fresh starts.

    Parameters
    ----------
    bespoke_steps
        Steps of the fitted solvers, of two evaluations each.
    velocity
        A flow of one's own from the standard Gaussian in the plane, (t, x) → velocity for points (seed, batch, 2);
        nothing is trained then but the solvers.

    Returns
    -------
    xr.Dataset
        Root mean square `error` of the end points by solver, seed and number of evaluations (NaN where a solver cannot
        use that number), and the learnt `time` and `scale` of the first fitted solver by seed and knot.

    >>> ds = bespoke_solvers(seed=0, num_seeds=1, velocity=lambda t, x: -3 * x, fit_steps=400)
    >>> at_ten = ds.error.sel(evaluations=10)
    >>> bool(at_ten.sel(solver="bespoke") < at_ten.sel(solver="midpoint"))
    True
    """
    check_int(1, num_seeds=num_seeds, num_test=num_test)
    sub = [int(s) for s in np.random.SeedSequence(seed).generate_state(4)]
    generator = torch.Generator().manual_seed(sub[2])
    if velocity is None:
        (points,) = to_tensors(make_density(density, num_samples=20_000, seed=sub[0]), dtype=torch.float32)[:1]
        points = (points - points.mean(0)) / points.std()
        field = VelocityField(2, width=width, depth=depth, members=num_seeds, seed=sub[0])

        def target(num: int, g: torch.Generator) -> Tensor:
            return points[torch.randint(len(points), (num,), generator=g)]

        draw = pairs_of(normal(2), target, batch_size=256, members=num_seeds)
        fit_velocity(field, draw, num_steps=train_steps, seed=sub[1])
        field.requires_grad_(False)
        velocity = field
    starts = torch.randn(num_seeds, num_fit + num_test, 2, generator=generator)
    exact = transport(velocity, starts, num_steps=64, method="rk4")
    test, test_exact = starts[:, num_fit:], exact[:, num_fit:]

    evaluations = sorted({2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, *(2 * n for n in bespoke_steps)})
    solvers = ("midpoint", "rk4", "bespoke")
    errors = np.full((len(solvers), num_seeds, len(evaluations)), np.nan)
    for row, (method, stages) in enumerate((("midpoint", 2), ("rk4", 4))):
        for column, number in enumerate(evaluations):
            if number % stages == 0:
                ends = transport(velocity, test, num_steps=number // stages, method=method)
                errors[row, :, column] = endpoint_error(ends, test_exact)
    fitted = []
    for number in bespoke_steps:
        solver = BespokeMidpoint(number, members=num_seeds)
        fit_bespoke(solver, velocity, starts[:, :num_fit], exact[:, :num_fit], num_steps=fit_steps, seed=sub[3])
        solver.requires_grad_(False)
        errors[2, :, evaluations.index(2 * number)] = endpoint_error(solver(velocity, test), test_exact)
        fitted.append(solver)
    times, scales = fitted[0].grid()
    return dataset(
        "A solver fitted to one flow",
        {
            "solver": variable("solver", list(solvers), "solver", ""),
            "seed": variable("seed", np.arange(num_seeds), "draw of the flow"),
            "evaluations": variable("evaluations", evaluations, "evaluations of the velocity"),
            "knot": variable("knot", np.linspace(0, 1, times.shape[-1]), "place r on the solver's own clock"),
        },
        {
            "error": variable("solver seed evaluations", errors, "root mean square error of the end points"),
            "time": variable("seed knot", times, "time t(r)"),
            "scale": variable("seed knot", scales, "scale s(r)"),
        },
        num_parameters=fitted[0].num_parameters,
        bespoke_evaluations=2 * bespoke_steps[0],
        density=density,
    )


def bespoke_solvers_claim(ds: xr.Dataset) -> ClaimResult:
    """`bespoke-solvers/midpoint`: a solver of at most 80 numbers halves the error at 10 evaluations."""
    number = 10
    if number not in ds.evaluations.values:
        return ClaimResult({}, None, "needs 10 evaluations", None, ds.sizes["seed"])
    at = ds.error.sel(evaluations=number)
    ratios = (at.sel(solver="bespoke") / at.sel(solver="midpoint")).values
    rk4 = ds.error.sel(solver="rk4", evaluations=20).values
    few = int(ds.attrs["num_parameters"]) <= 80
    decidable = ds.sizes["seed"] >= 3 and bool(np.isfinite(ratios).all())
    text = (
        f"RMSE(bespoke, {number} evaluations) at most 0.5 × RMSE(midpoint, {number} evaluations) for each of "
        f"{ds.sizes['seed']} trained flows, on starts that the solver was not fitted to, with at most 80 learnt numbers "
        f"({ds.attrs['num_parameters']} here)"
    )
    measured = {
        "bespoke / midpoint": float(ratios.mean()),
        "bespoke, 10": float(at.sel(solver="bespoke").mean()),
        "midpoint, 10": float(at.sel(solver="midpoint").mean()),
        "RK4, 20": float(rk4.mean()),
    }
    holds = bool(ratios.max() <= 0.5) and few if decidable else None
    return ClaimResult(measured, holds, text, f"{ratios.min():.2f} to {ratios.max():.2f}", ds.sizes["seed"])
