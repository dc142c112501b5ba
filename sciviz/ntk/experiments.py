"""Experiments on wide networks: each returns one labelled data set, and each claim about it is a function of that set.

The claims follow the papers' statements. A claim's criterion stands in its function, in words and in code next to each
other; it was fixed before its measurement was looked at.

All seeds (and, where it fits, all settings) of an experiment train together as one ensemble, so that five seeds cost
little more than one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_ndim,
    check_nonnegative,
    check_positive,
    check_same_length,
)
from sciviz.lab.data import load_diabetes, load_digits, make_circle_regression, to_tensors
from sciviz.ntk.dynamics import (
    FunctionPath,
    decay_rates,
    gp_posterior,
    kernel_descent,
    kernel_flow,
    kernel_modes,
    kernel_regression,
    linearize,
    quadratize,
    student_t_posterior,
)
from sciviz.ntk.infinite import CLOSED_FORM_ACTIVATIONS, infinite_kernels
from sciviz.ntk.kernels import empirical_ntk, ensemble_ntk
from sciviz.ntk.networks import (
    ACTIVATIONS,
    MLP,
    PARAMETRISATIONS,
    apply_ensemble,
    as_generator,
    ensemble_layers,
    init_ensemble,
    lr_scales,
)

Array = NDArray[np.float64]
Params = dict[str, Tensor]
Variable = tuple[tuple[str, ...], NDArray[Any], dict[str, str]]


class ClaimResult(NamedTuple):
    """What a claim's criterion makes of a data set; `run.claim(id, says=..., **result._asdict())` shows it.

    `holds` is None where the data set cannot decide, for example because it holds too few widths or seeds.
    """

    measured: float | dict[str, float]
    holds: bool | None
    criterion: str
    spread: float | str | None
    seeds: int


# ---------------------------------------------------------------------------------------------------- small helpers


def _variable(dims: str | Sequence[str], values: ArrayLike | Tensor, long_name: str, units: str = "1") -> Variable:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    names = tuple(dims.split()) if isinstance(dims, str) else tuple(dims)
    return names, array, {"long_name": long_name, "units": units}


def _dataset(title: str, coords: Mapping[str, Variable], variables: Mapping[str, Variable], **attrs: Any) -> xr.Dataset:
    plain = {name: value if isinstance(value, (str, int, float, list)) else str(value) for name, value in attrs.items()}
    return xr.Dataset(dict(variables), coords=dict(coords), attrs={"title": title, **plain})


def _seed_coord(num_seeds: int) -> Variable:
    return _variable("seed", np.arange(num_seeds), "network drawn")


def _as_data(X: ArrayLike | Tensor, y: ArrayLike | Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The user's own data as tensors: X (n, d) and y (n, out)."""
    points = torch.as_tensor(X).to(dtype)
    check_ndim(2, X=points)
    check_finite(X=points)
    if y is None:
        return points, None
    targets = torch.as_tensor(y).to(dtype)
    check_same_length(X=points, y=targets)
    check_finite(y=targets)
    return points, targets[:, None] if targets.ndim == 1 else targets


def _need_both(X: object, y: object) -> None:
    if (X is None) != (y is None):
        missing = "X" if X is None else "y"
        raise ValueError(f"X and y must be given together, got {missing}=None beside the other.")


def _check_widths(widths: Sequence[int]) -> list[int]:
    if len(widths) == 0:
        raise ValueError("widths must hold at least one width, got none.")
    for width in widths:
        check_int(1, width=width)
    if sorted(set(widths)) != list(widths):
        raise ValueError(f"widths must increase, got {list(widths)}.")
    return [int(width) for width in widths]


def _recorded_steps(num_steps: int, count: int) -> list[int]:
    """About `count` steps from 0 to `num_steps`, evenly spaced on a logarithmic scale."""
    spaced = np.geomspace(1, num_steps, max(count - 1, 1)).round().astype(int)
    return sorted({0, *spaced.tolist(), num_steps})


def _descend(
    function: Callable[[Params], Tensor],
    params: Params,
    y: Tensor,
    *,
    lr: Mapping[str, Tensor | float] | Tensor | float,
    steps: Sequence[int],
    loss: str = "mean",
) -> Iterator[tuple[int, Params, Tensor]]:
    """Full-batch gradient descent on the squared loss of every member at once; yields at the given steps.

    Yields (step, parameters, outputs). `lr` is one number, one a member, or one of these a parameter.
    """
    scale = 1 / y.shape[-2] if loss == "mean" else 1.0
    values = {name: value.detach().clone() for name, value in params.items()}
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(values, lr)
    wanted = set(steps)
    for step in range(max(wanted) + 1):
        leaves = {name: value.requires_grad_() for name, value in values.items()}
        outputs = function(leaves)
        if step in wanted:
            yield step, {name: value.detach() for name, value in leaves.items()}, outputs.detach()
        if step == max(wanted):
            return
        error = 0.5 * scale * (outputs - y).square().sum()
        gradients = torch.autograd.grad(error, list(leaves.values()))
        with torch.no_grad():
            values = {
                name: value - _per_member(rates[name], value) * gradient
                for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            }


def _per_member(rate: Tensor | float, value: Tensor) -> Tensor | float:
    return rate.reshape(-1, *[1] * (value.ndim - 1)) if isinstance(rate, Tensor) and rate.ndim else rate


class _Slope(NamedTuple):
    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def _loglog_slope(x: Sequence[float], statistic: Callable[[Array], Array], num_seeds: int, seed: int) -> _Slope:
    """Slope of log(statistic) against log(x), with its 95% interval from resampling seeds with replacement.

    `statistic` takes how often each seed counts, (draws, seeds), and returns the statistic at each x, (draws, x).
    """
    log_x = np.log(np.asarray(x, float))
    centred = (log_x - log_x.mean()) / ((log_x - log_x.mean()) ** 2).sum() if len(log_x) > 1 else log_x * np.nan

    def slopes(counts: Array) -> Array:
        # A draw that repeats a single seed has no spread; it says nothing, and must not count as a slope.
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Array = np.log(statistic(counts)) @ centred
        return np.where(np.isfinite(result), result, np.nan)

    value = float(slopes(np.ones((1, num_seeds)))[0])
    draws = np.random.default_rng(seed).multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=1000)
    low, high = np.nanpercentile(slopes(draws.astype(float)), [2.5, 97.5]) if num_seeds > 2 else (np.nan, np.nan)
    return _Slope(value, float(low), float(high))


def _geometric_mean(values: Array) -> Callable[[Array], Array]:
    """The statistic "geometric mean over seeds" of values (x, seed), for `_loglog_slope`."""

    def statistic(counts: Array) -> Array:
        result: Array = np.exp(counts @ np.log(values).T / counts.sum(1)[:, None])
        return result

    return statistic


def _outputs(network: MLP, X: Tensor, less: Tensor | float = 0.0) -> Callable[[Params], Tensor]:
    """The ensemble's outputs at X as a function of its parameters, less a constant."""
    return lambda params: apply_ensemble(network, params, X) - less


def _of_ensemble(network: MLP) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, inputs: apply_ensemble(network, params, inputs)


def _at(function: Callable[[Params, Tensor], Tensor], X: Tensor) -> Callable[[Params], Tensor]:
    return lambda params: function(params, X)


def _as_ensemble(model: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, Params, Callable[[Params, Tensor], Tensor]]:
    """A copy of one's own module in `dtype`, its parameters as an ensemble of one, and the function of any ensemble."""
    own = copy.deepcopy(model).to(dtype).requires_grad_()
    params = {name: value.detach()[None] for name, value in own.named_parameters()}
    buffers = dict(own.named_buffers())

    def function(values: Params, inputs: Tensor) -> Tensor:
        outputs: Tensor = vmap(lambda p: functional_call(own, (p, buffers), (inputs,)))(values)
        return outputs

    return own, params, function


def _check_one_output(X: Tensor, y: Tensor, outputs: Tensor) -> None:
    if outputs.shape[1:] != (len(X), 1) or y.shape[1] != 1:
        raise ValueError(
            "model and y must have one output for each sample, "
            f"got shapes outputs {tuple(outputs.shape[1:])}, y {tuple(y.shape)}."
        )


def _slope_variables(name: str, slope: _Slope, long_name: str) -> dict[str, Variable]:
    return {
        name: _variable((), slope.value, long_name),
        f"{name}_low": _variable((), slope.low, f"{long_name}, lower end of the 95% interval over seeds"),
        f"{name}_high": _variable((), slope.high, f"{long_name}, upper end of the 95% interval over seeds"),
    }


def _half_interval(ds: xr.Dataset, name: str) -> float:
    return float(ds[f"{name}_high"] - ds[f"{name}_low"]) / 2


def _circle(num_points: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Points on the circle of radius √2 (so that x·x/d = 1) and a target with waves of every frequency they resolve."""
    frequencies = list(range(num_points // 2 + 1))
    # Golden-angle phases excite both the cosine and the sine of every frequency, none of them by accident more.
    phases = [2.4 * k for k in frequencies]
    circle = make_circle_regression(num_samples=num_points, seed=seed, frequencies=frequencies, phases=phases)
    X, y = to_tensors(circle, dtype=dtype)
    return X * math.sqrt(2), y / y.abs().max()


# ----------------------------------------------------------------------------------- the kernel at initialisation


def kernel_concentration(
    *,
    widths: Sequence[int] = (256, 512, 1024, 2048),
    num_seeds: int = 40,
    num_points: int = 12,
    depth: int = 1,
    activation: str = "tanh",
    weight_variance: float = 1.0,
    bias_variance: float = 0.5,
    bias: str = "first",
    X: ArrayLike | Tensor | None = None,
    make_model: Callable[[int, int], nn.Module] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Measure how the tangent kernel at initialisation spreads over seeds, and how that falls with width.

    Parameters
    ----------
    widths, num_seeds, depth, activation, weight_variance, bias_variance, bias
        The networks, in the NTK parametrisation; see `make_mlp`. The paper's claim uses one hidden tanh layer.
    X, num_points
        Points to evaluate the kernel at, (n, d); without them, `num_points` on a circle.
    make_model
        Modules of one's own: (width, seed) → a freshly drawn module, in place of the fully connected networks.
    seed
        Base seed: decides all draws.

    Returns
    -------
    xr.Dataset
        `kernel` (width, seed, point, other_point); `spread` (width), the standard deviation over seeds as a root mean
        square over entries, relative to the mean kernel; `distance` (width, seed) to the infinite-width kernel where
        that has a closed form, else to the mean over all seeds at the largest width (`attrs["reference"]`); slopes of
        both on log-log scales with 95% intervals.

    Raises
    ------
    ValueError
        If widths do not increase or an argument is out of range.

    >>> ds = kernel_concentration(widths=(16, 64), num_seeds=4, num_points=3, seed=0)
    >>> dict(ds.sizes)
    {'width': 2, 'seed': 4, 'point': 3, 'other_point': 3}
    """
    widths = _check_widths(widths)
    check_int(2, num_seeds=num_seeds)
    check_int(1, num_points=num_points)
    generator = as_generator(seed)
    points = _circle(num_points, seed, torch.float32)[0] if X is None else _as_data(X, None, torch.float32)[0]
    kernels = []
    for width in widths:
        if make_model is not None:
            modules = [make_model(width, seed * num_seeds + s) for s in range(num_seeds)]
            kernels.append(
                torch.stack([empirical_ntk(module, points, output="trace") for module in modules]).double().numpy()
            )
            continue
        network, params = init_ensemble(
            num_seeds,
            input_dim=points.shape[1],
            width=width,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            bias=bias,
            seed=generator,
        )
        kernels.append(ensemble_ntk(network, params, points).double().numpy())
    kernel = np.stack(kernels)
    flat = kernel.reshape(len(widths), num_seeds, -1)

    def spread(counts: Array) -> Array:
        total = counts.sum(1)[:, None, None]
        mean = np.einsum("bs,wsk->bwk", counts, flat) / total
        square = np.einsum("bs,wsk->bwk", counts, flat**2) / total
        variance = (square - mean**2).mean(2) * num_seeds / (num_seeds - 1)
        result: Array = np.sqrt(variance / (mean**2).mean(2))
        return result

    if make_model is None and activation in CLOSED_FORM_ACTIVATIONS:
        reference = "infinite-width kernel in closed form"
        limit = infinite_kernels(
            points,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            bias=bias,
        ).ntk.numpy()
    else:
        reference = f"mean over seeds at width {widths[-1]} (no closed form)"
        limit = kernel[-1].mean(0)
    distance = np.linalg.norm(kernel - limit, axis=(2, 3)) / np.linalg.norm(limit)
    slope = _loglog_slope(widths, spread, num_seeds, seed)
    distance_slope = _loglog_slope(widths, _geometric_mean(distance), num_seeds, seed)
    index = np.arange(len(points))
    return _dataset(
        "Tangent kernel at initialisation",
        {
            "width": _variable("width", widths, "width", "hidden units"),
            "seed": _seed_coord(num_seeds),
            "point": _variable("point", index, "point"),
            "other_point": _variable("other_point", index, "other point"),
        },
        {
            "kernel": _variable("width seed point other_point", kernel, "tangent kernel at initialisation"),
            "limit": _variable("point other_point", limit, "reference kernel"),
            "spread": _variable(
                "width", spread(np.ones((1, num_seeds)))[0], "relative spread of the kernel over seeds"
            ),
            "distance": _variable("width seed", distance, "relative distance to the reference kernel"),
            **_slope_variables("spread_slope", slope, "slope of log spread against log width"),
            **_slope_variables("distance_slope", distance_slope, "slope of log distance against log width"),
        },
        seed=seed,
        depth=depth if make_model is None else 0,
        activation=activation if make_model is None else "model of one's own",
        reference=reference,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )


def concentration_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `kernel_concentration` against [ntk-jacot, theorem 1]: the kernel becomes deterministic, like width^-1/2."""
    slope = float(ds.spread_slope)
    enough = ds.sizes["width"] >= 4 and int(ds.width[0]) >= 256 and ds.sizes["seed"] >= 20
    return ClaimResult(
        slope,
        (-0.65 <= slope <= -0.35) if enough else None,
        "slope of log spread over seeds against log width in [-0.65, -0.35]; at least 4 widths from 256 and 20 seeds",
        _half_interval(ds, "spread_slope"),
        ds.sizes["seed"],
    )


# --------------------------------------------------------------------------------------------- the kernel in training


def kernel_change(
    *,
    widths: Sequence[int] = (256, 512, 1024, 2048),
    num_seeds: int = 20,
    num_points: int = 12,
    depth: int = 1,
    activation: str = "tanh",
    weight_variance: float = 1.0,
    bias_variance: float = 0.5,
    bias: str = "first",
    step_size: float = 0.5,
    num_steps: int = 100,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train networks of several widths alike and measure how far their tangent kernels move.

    Full-batch gradient descent on the mean squared error. The learning rate is the same at every width:
    `step_size` over the fastest decay rate, λ₁/n, of the mean kernel at the smallest width.

    Parameters
    ----------
    step_size
        Learning rate in units of the time in which the fastest component decays [0 .. 2].
    X, y
        Training points, (n, d), and targets, (n,) or (n, 1); without them, `num_points` on a circle.

    Returns
    -------
    xr.Dataset
        `change` (width, seed), |Θ(T) − Θ(0)| / |Θ(0)| in the Frobenius norm; how far one weight, all weights together and
        the outputs have moved (`weight_move`, `step_length`, `output_change`); `loss` (width, seed) at the start and the
        end, and the slope of the geometric mean over seeds, with its 95% interval.

    Raises
    ------
    ValueError
        If widths do not increase or an argument is out of range.

    >>> ds = kernel_change(widths=(32, 128), num_seeds=3, num_points=4, num_steps=10, seed=0)
    >>> bool((ds.change.mean("seed").diff("width") < 0).all())
    True
    """
    widths = _check_widths(widths)
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_steps=num_steps)
    check_positive(step_size=step_size)
    _need_both(X, y)
    generator = as_generator(seed)
    points, targets = _circle(num_points, seed, torch.float32) if X is None else _as_data(X, y, torch.float32)
    assert targets is not None
    changes, losses, moves, lr = [], [], [], 0.0
    for width in widths:
        network, params = init_ensemble(
            num_seeds,
            input_dim=points.shape[1],
            width=width,
            depth=depth,
            output_dim=targets.shape[1],
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            bias=bias,
            seed=generator,
        )
        before = ensemble_ntk(network, params, points)
        if not lr:
            lr = step_size * len(points) / float(kernel_modes(before.mean(0).double()).eigenvalues[0])
        run = _descend(_outputs(network, points), params, targets, lr=lr, steps=[0, num_steps])
        (_, _, start), (_, trained, end) = run
        after = ensemble_ntk(network, trained, points)
        changes.append(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).numpy())
        losses.append(torch.stack([(f - targets).square().sum(2).mean(1) / 2 for f in (start, end)], 1).numpy())
        steps = torch.cat([(trained[name] - params[name]).flatten(1) for name in params], 1)
        output_change = (end - start).square().mean((1, 2)).sqrt()
        moves.append(torch.stack([steps.square().mean(1).sqrt(), steps.norm(dim=1), output_change], 1).numpy())
    weight_move, step_length, output_change = np.moveaxis(np.stack(moves), 2, 0)
    change = np.stack(changes).astype(float)
    slope = _loglog_slope(widths, _geometric_mean(change), num_seeds, seed)
    return _dataset(
        "Tangent kernel in training",
        {
            "width": _variable("width", widths, "width", "hidden units"),
            "seed": _seed_coord(num_seeds),
            "moment": _variable("moment", ["start", "end"], "moment of training"),
        },
        {
            "change": _variable("width seed", change, "relative change of the kernel in training"),
            "loss": _variable("width seed moment", np.stack(losses), "training loss"),
            "weight_move": _variable("width seed", weight_move, "move of a weight, root mean square"),
            "step_length": _variable("width seed", step_length, "length of the move of all weights together"),
            "output_change": _variable("width seed", output_change, "change of an output, root mean square"),
            **_slope_variables("change_slope", slope, "slope of log kernel change against log width"),
        },
        seed=seed,
        lr=lr,
        num_steps=num_steps,
        depth=depth,
        activation=activation,
    )


def frozen_kernel_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `kernel_change` against [ntk-jacot, theorem 2]: the kernel's change in training vanishes with width."""
    slope = float(ds.change_slope)
    enough = ds.sizes["width"] >= 4 and int(ds.width[0]) >= 256 and ds.sizes["seed"] >= 20
    return ClaimResult(
        slope,
        slope <= -0.45 if enough else None,
        "slope of log relative kernel change against log width <= -0.45; at least 4 widths from 256 and 20 seeds",
        _half_interval(ds, "change_slope"),
        ds.sizes["seed"],
    )


def follow_kernel_flow(
    *,
    width: int = 2048,
    num_seeds: int = 5,
    num_points: int = 12,
    num_test: int = 48,
    depth: int = 1,
    activation: str = "tanh",
    weight_variance: float = 1.0,
    bias_variance: float = 0.5,
    bias: str = "first",
    step_size: float = 0.05,
    num_steps: int = 1500,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    X_test: ArrayLike | Tensor | None = None,
    model: nn.Module | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train a wide network and follow its outputs beside the linear equation of its kernel at initialisation.

    Each seed's prediction is the closed form with that seed's own kernel and outputs at initialisation: nothing is
    fitted. The error is also resolved along the eigenvectors of the kernel; each component's decay rate is the slope of
    the log of its size while the theory says that it is above a fifth of its start.

    Parameters
    ----------
    step_size
        Learning rate in units of the time in which the fastest component decays; the equation is in continuous time,
        so the finite step counts as deviation.
    X, y, X_test
        Training points (n, d), targets (n,) or (n, 1), and points to watch; without them, circles.
    model
        A module of one's own with one output, (n, d) → (n, 1), as the one seed; a copy of it is trained.

    Returns
    -------
    xr.Dataset
        `network`, `predicted` (seed, time, point) on the training points, then the test points (coordinate `split`);
        `deviation` (seed, time), the largest difference over points relative to the largest target, and
        `step_deviation`, the same from the closed form for finite steps, which leaves the width alone; per `component`:
        `eigenvalue`, `predicted_rate`, `rate` (NaN where the theory lets it decay by less than a tenth), `half_time`,
        and `error` (seed, time, component); `rate_correlation` (seed), of log rates with log eigenvalues.

    Raises
    ------
    ValueError
        If data or arguments do not fit.

    >>> ds = follow_kernel_flow(width=256, num_seeds=2, num_points=4, num_steps=20, seed=0)
    >>> dict(ds.network.sizes)["point"]
    52
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_test=num_test, num_steps=num_steps)
    check_positive(step_size=step_size)
    _need_both(X, y)
    dtype = torch.float64
    points, targets = _circle(num_points, seed, dtype) if X is None else _as_data(X, y, dtype)
    assert targets is not None
    test = points
    if X_test is not None:
        test = _as_data(X_test, None, dtype)[0]
    elif X is None:
        test = _circle(num_test, seed, dtype)[0]
    everything, n = torch.cat([points, test]), len(points)
    # Points of one's own need not lie on a circle.
    degrees = None if X is not None else torch.rad2deg(torch.atan2(everything[:, 1], everything[:, 0])) % 360
    angles = {} if degrees is None else {"angle": _variable("point", degrees, "angle", "degrees")}
    if model is not None:
        own, params, function = _as_ensemble(model, dtype)
        kernel = empirical_ntk(own, everything, points, output="trace")[None]
        num_seeds = 1
    else:
        network, params = init_ensemble(
            num_seeds,
            input_dim=points.shape[1],
            width=width,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            bias=bias,
            seed=seed,
            dtype=dtype,
        )
        kernel = ensemble_ntk(network, params, everything, points)
        function = _of_ensemble(network)

    _check_one_output(everything, targets, function(params, everything))
    modes = [kernel_modes(block[:n]) for block in kernel]
    eigenvalues = torch.stack([m.eigenvalues for m in modes])
    vectors = torch.stack([m.eigenvectors for m in modes])
    lr = step_size * n / float(eigenvalues[:, 0].mean())
    steps = _recorded_steps(num_steps, 80)
    initial = function(params, everything)[..., 0]
    outputs = []
    for _, trained, _ in _descend(_at(function, points), params, targets, lr=lr, steps=steps):
        outputs.append(function(trained, everything)[..., 0].detach())
    measured = torch.stack(outputs, 1)
    times = torch.tensor(steps, dtype=dtype)
    members = range(num_seeds)
    predicted = torch.stack([_closed_form(kernel_flow, kernel[s], n, targets, initial[s], steps, lr) for s in members])
    stepped = torch.stack([_closed_form(kernel_descent, kernel[s], n, targets, initial[s], steps, lr) for s in members])
    deviation, step_deviation = ((measured - path).abs().amax(2) / targets.abs().max() for path in (predicted, stepped))

    errors = torch.einsum("stn,snk->stk", measured[:, :, :n] - targets[:, 0], vectors)
    expected = decay_rates(eigenvalues.flatten(), lr=lr, num_points=n).reshape(eigenvalues.shape)
    rates, half_times = _component_rates(errors.numpy(), times.numpy(), expected.numpy())
    correlation = [
        float(np.corrcoef(np.log(r[np.isfinite(r)]), np.log(e[np.isfinite(r)]))[0, 1])
        for r, e in zip(rates, eigenvalues.numpy(), strict=True)
    ]
    return _dataset(
        "Outputs of a wide network and the kernel flow",
        {
            "seed": _seed_coord(num_seeds),
            "time": _variable("time", steps, "training time", "steps"),
            "point": _variable("point", np.arange(len(everything)), "point"),
            "split": _variable("point", ["train"] * n + ["test"] * len(test), "part of the data"),
            **angles,
            "component": _variable("component", np.arange(1, n + 1), "component, from the largest eigenvalue"),
        },
        {
            "target": _variable("point", np.r_[targets[:, 0].numpy(), np.full(len(test), np.nan)], "target"),
            "network": _variable("seed time point", measured, "output of the trained network"),
            "predicted": _variable("seed time point", predicted, "output by the kernel flow"),
            "deviation": _variable("seed time", deviation, "largest deviation relative to the largest target"),
            "eigenvalue": _variable("seed component", eigenvalues, "eigenvalue of the kernel at initialisation"),
            "step_deviation": _variable(
                "seed time", step_deviation, "largest deviation from the same kernel's finite steps, relative"
            ),
            "error": _variable("seed time component", errors, "error along the eigenvector"),
            "predicted_rate": _variable("seed component", expected, "predicted decay rate", "1/step"),
            "rate": _variable("seed component", rates, "measured decay rate", "1/step"),
            "half_time": _variable("seed component", half_times, "time to halve the error", "steps"),
            "rate_correlation": _variable("seed", correlation, "correlation of log rates with log eigenvalues"),
        },
        seed=seed,
        width=width,
        depth=depth,
        activation=activation,
        lr=lr,
        step_size=step_size,
    )


def _closed_form(
    law: Callable[..., FunctionPath], kernel: Tensor, n: int, y: Tensor, initial: Tensor, steps: list[int], lr: float
) -> Tensor:
    """Outputs (time, point) by `kernel_flow` or `kernel_descent` on the n training points, then on the others."""
    path = law(kernel[:n], y[:, 0], steps, test_kernel=kernel[n:], initial=initial[:n], test_initial=initial[n:], lr=lr)
    assert path.test is not None
    return torch.cat([path.train, path.test], 1)


def _component_rates(errors: Array, times: Array, expected: Array) -> tuple[Array, Array]:
    """Decay rate of each (seed, component), NaN where theory lets it decay by less than a tenth; and half-times."""
    sizes = np.abs(errors) / np.abs(errors[:, :1])
    logs = np.log(np.maximum(sizes, 1e-300))
    # The window comes from the prediction, not from the measurement, which could select what agrees.
    window = times[None, :, None] * expected[:, None, :] <= math.log(5)
    steps = times[None, :, None] * window
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = -(logs * steps).sum(1) / (steps**2).sum(1)
    decays = expected * times[-1] >= -math.log(0.9)
    rates = np.where(decays & (rates > 0), rates, np.nan)
    reached = sizes <= 0.5
    half = np.where(reached.any(1), times[reached.argmax(1)], np.inf)
    return rates, half


def kernel_flow_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `follow_kernel_flow` against [ntk-jacot, section 5]: a wide network's outputs follow the kernel flow."""
    worst = ds.deviation.max("time")
    wide = ds.attrs["width"] >= 2048 and ds.sizes["seed"] >= 3
    return ClaimResult(
        float(worst.max()),
        float(worst.max()) <= 0.05 if wide else None,
        "largest deviation of an output from the kernel flow <= 0.05 of the largest target, over all points, times and "
        "at least 3 seeds at width 2048",
        f"{float(worst.min()):.2g} to {float(worst.max()):.2g} over seeds",
        ds.sizes["seed"],
    )


def decay_rate_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `follow_kernel_flow` against [ntk-jacot, section 5]: components decay at rates set by their eigenvalues."""
    r = ds.rate_correlation
    enough = ds.sizes["seed"] >= 3 and int(np.isfinite(ds.rate).sum("component").min()) >= 4
    return ClaimResult(
        float(r.min()),
        float(r.min()) >= 0.95 if enough else None,
        "correlation of log decay rates with log eigenvalues >= 0.95 in each of at least 3 seeds, at least 4 components",
        f"{float(r.min()):.4f} to {float(r.max()):.4f} over seeds",
        ds.sizes["seed"],
    )


def learning_order_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `follow_kernel_flow` against [ntk-jacot, section 5]: components of larger eigenvalue are learnt first.

    Pairs of components count whose eigenvalues differ by a factor of 1.25 and of which at least one was halved.
    """
    value, half = ds.eigenvalue.values, ds.half_time.values
    larger = value[:, :, None] >= 1.25 * value[:, None, :]
    decided = larger & (np.isfinite(half)[:, :, None] | np.isfinite(half)[:, None, :])
    right = (half[:, :, None] < half[:, None, :]) & decided
    shares = right.sum((1, 2)) / np.maximum(decided.sum((1, 2)), 1)
    enough = ds.sizes["seed"] >= 3 and int(decided.sum((1, 2)).min()) >= 5
    return ClaimResult(
        float(shares.mean()),
        float(shares.mean()) >= 0.95 if enough else None,
        "of the pairs of components whose eigenvalues differ by 1.25 or more, the larger one's error is halved first in "
        ">= 95%, mean over at least 3 seeds",
        f"{shares.min():.2f} to {shares.max():.2f} over seeds",
        ds.sizes["seed"],
    )


# --------------------------------------------------------------------------------------------------- lazy and rich


def lazy_rich_sweep(
    *,
    alphas: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    width: int = 256,
    num_seeds: int = 3,
    num_points: int = 128,
    num_test: int = 256,
    num_features: int = 8,
    activation: str = "erf",
    step_size: float = 0.2,
    num_steps: int = 600,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train one network at several output scales α and measure how much its kernel and its features move.

    The model is α (h(x) − h₀(x)) with h a network in the NTK parametrisation and h₀ its output at initialisation,
    trained with the learning rate lr/α². In function space the first step is the same for every α; the larger α, the
    less the weights must move for it (lazy training).

    Parameters
    ----------
    step_size
        Learning rate in units of the time in which the fastest component decays at initialisation.
    X, y
        Data of one's own; the last fifth is kept for testing. Without them, y = sin(2 β·x) of Gaussian inputs.

    Returns
    -------
    xr.Dataset
        Per (alpha, seed): `kernel_change`, `feature_change` (hidden features on the training points, relative),
        `train_error` and `test_error` (mean squared, relative to the variance of the targets).

    Raises
    ------
    ValueError
        If data or arguments do not fit.

    >>> ds = lazy_rich_sweep(alphas=(0.5, 8.0), width=64, num_points=16, num_steps=30, seed=0)
    >>> bool((ds.kernel_change.sel(alpha=0.5) > ds.kernel_change.sel(alpha=8.0)).all())
    True
    """
    if len(alphas) == 0:
        raise ValueError("alphas must hold at least one output scale, got none.")
    for alpha in alphas:
        check_positive(alpha=alpha)
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_test=num_test, num_features=num_features)
    check_int(1, num_steps=num_steps)
    check_positive(step_size=step_size)
    _need_both(X, y)
    generator = as_generator(seed)
    if X is None:
        points = torch.randn(num_points + num_test, num_features, generator=generator)
        direction = torch.randn(num_features, 1, generator=generator)
        targets = torch.sin(2 * points @ (direction / direction.norm()))
        n = num_points
    else:
        points, given = _as_data(X, y, torch.float32)
        assert given is not None
        targets, n = given, len(points) - max(len(points) // 5, 1)
        check_int(2, num_samples=len(points))
    train, test, train_y, test_y = points[:n], points[n:], targets[:n], targets[n:]
    network, drawn = init_ensemble(
        num_seeds,
        input_dim=points.shape[1],
        width=width,
        depth=1,
        output_dim=targets.shape[1],
        activation=activation,
        weight_variance=2.0 if activation == "relu" else 1.0,
        seed=generator,
    )
    # Every α starts from the same networks: members run over alphas, then seeds.
    params = {name: value.repeat(len(alphas), *[1] * (value.ndim - 1)) for name, value in drawn.items()}
    scale = torch.tensor(alphas, dtype=torch.float32).repeat_interleave(num_seeds)
    centre = apply_ensemble(network, params, points)
    kernel = ensemble_ntk(network, drawn, train)
    top = torch.linalg.eigvalsh(kernel.double())[:, -1].float().repeat(len(alphas))
    lr = step_size * n / top / scale**2

    def model(p: Params, inputs: Tensor, start: Tensor) -> Tensor:
        return scale[:, None, None] * (apply_ensemble(network, p, inputs) - start)

    def features(p: Params) -> Tensor:
        return ACTIVATIONS[activation](ensemble_layers(network, p, train)[-2])

    run = _descend(lambda p: model(p, train, centre[:, :n]), params, train_y, lr=lr, steps=[num_steps])
    ((_, trained, outputs),) = run
    moved = ensemble_ntk(network, trained, train)
    still = kernel.repeat(len(alphas), 1, 1)
    before, after = features(params), features(trained)
    shape = (len(alphas), num_seeds)

    def relative(change: Tensor, base: Tensor) -> Array:
        result: Array = (change.flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)).reshape(shape).double().numpy()
        return result

    def error(outputs: Tensor, targets: Tensor) -> Array:
        result: Array = (
            ((outputs - targets).square().mean((1, 2)) / targets.var(0, correction=0).mean()).reshape(shape).numpy()
        )
        return result

    return _dataset(
        "Lazy and rich training",
        {"alpha": _variable("alpha", list(alphas), "output scale α"), "seed": _seed_coord(num_seeds)},
        {
            "kernel_change": _variable("alpha seed", relative(moved - still, still), "relative change of the kernel"),
            "feature_change": _variable("alpha seed", relative(after - before, before), "relative change of features"),
            "train_error": _variable("alpha seed", error(outputs, train_y), "training error relative to the variance"),
            "test_error": _variable(
                "alpha seed", error(model(trained, test, centre[:, n:]), test_y), "test error relative to the variance"
            ),
        },
        seed=seed,
        width=width,
        num_steps=num_steps,
        step_size=step_size,
        activation=activation,
    )


# ------------------------------------------------------------------------------------------- the law at finite width


def finite_width_density(
    *,
    widths: Sequence[int] = (16, 32, 64),
    num_samples: int = 2_000_000,
    num_bins: int = 60,
    activation: str = "relu",
    seed: int = 0,
) -> xr.Dataset:
    """Sample outputs of random one-hidden-layer networks and compare their density with the Gaussian and its correction.

    The outputs are in units of their standard deviation. At width N the fourth cumulant is exactly
    3 (E[φ⁴]/E[φ²]² − 1)/N, and the density to first order in 1/N is Gaussian × (1 + κ₄/24 He₄(z))
    [nngp-finite-size]. The readout is never drawn unit by unit: given the features, its sum is one Gaussian
    of their mean square.

    Returns
    -------
    xr.Dataset
        `density` (width, output), `gaussian` (output), `corrected` (width, output); `kurtosis` and `predicted_kurtosis`
        (width); `error` (width, law), the area between the density and each law; `floor` (width), the area that
        counting noise alone would leave; slope of log kurtosis against log width.

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = finite_width_density(widths=(8, 16), num_samples=20_000, seed=0)
    >>> ds.predicted_kurtosis.values.tolist()
    [1.875, 0.9375]
    """
    widths = _check_widths(widths)
    check_int(1000, num_samples=num_samples)
    check_int(4, num_bins=num_bins)
    check_choice(ACTIVATIONS, activation=activation)
    generator = as_generator(seed)
    phi = ACTIVATIONS[activation]
    second, fourth = _gaussian_moments(phi)
    edges = np.linspace(-5, 5, num_bins + 1)
    centres, step = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    gaussian = np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi)
    hermite = centres**4 - 6 * centres**2 + 3
    # Kurtosis is estimated in blocks, whose scatter is its standard error.
    block = max(1000, num_samples // 40)
    density, kurtosis, kurtosis_error, prediction, corrected = [], [], [], [], []
    for width in widths:
        counts, moments = np.zeros(num_bins), []
        for first in range(0, num_samples, block):
            size = min(block, num_samples - first)
            hidden = phi(torch.randn(size, width, generator=generator))
            squares = hidden.square_().sum(1) / (width * second)
            outputs = (squares.sqrt() * torch.randn(size, generator=generator)).double()
            counts += torch.histc(outputs, bins=num_bins, min=-5, max=5).numpy()
            if size == block:
                moments.append((float(outputs.square().mean()), float((outputs**4).mean())))
        two, four = np.array(moments).T
        estimate = four.mean() / two.mean() ** 2 - 3
        kurtosis.append(estimate)
        kurtosis_error.append((four / two.mean() ** 2).std(ddof=1) / math.sqrt(len(four)) if len(four) > 1 else np.nan)
        density.append(counts / num_samples / step)
        prediction.append(3 * (fourth / second**2 - 1) / width)
        corrected.append(gaussian * (1 + prediction[-1] / 24 * hermite))
    measured, laws = np.stack(density), np.stack([np.broadcast_to(gaussian, (len(widths), num_bins)), corrected], 1)
    error = np.abs(measured[:, None] - laws).sum(2) * step
    floor = np.sqrt(2 / math.pi * measured * step / num_samples).sum(1)
    log_x = np.log(widths)
    slope = float(np.polyfit(log_x, np.log(kurtosis), 1)[0]) if len(widths) > 1 and min(kurtosis) > 0 else np.nan
    weights = (log_x - log_x.mean()) / max(((log_x - log_x.mean()) ** 2).sum(), 1e-12)
    slope_error = float(np.sqrt((weights**2 * (np.array(kurtosis_error) / np.array(kurtosis)) ** 2).sum()))
    return _dataset(
        "Output law at finite width",
        {
            "width": _variable("width", widths, "width", "hidden units"),
            "output": _variable("output", centres, "output", "standard deviations"),
            "law": _variable("law", ["gaussian", "corrected"], "law"),
        },
        {
            "density": _variable("width output", measured, "density of outputs over random networks"),
            "gaussian": _variable("output", gaussian, "Gaussian density"),
            "corrected": _variable("width output", np.stack(corrected), "density with the fourth-Hermite term"),
            "kurtosis": _variable("width", kurtosis, "excess kurtosis"),
            "kurtosis_error": _variable("width", kurtosis_error, "standard error of the excess kurtosis"),
            "predicted_kurtosis": _variable("width", prediction, "predicted excess kurtosis"),
            "error": _variable("width law", error, "area between density and law"),
            "floor": _variable("width", floor, "area left by counting noise"),
            "slope": _variable((), slope, "slope of log kurtosis against log width"),
            "slope_error": _variable((), slope_error, "standard error of the slope"),
        },
        seed=seed,
        num_samples=num_samples,
        activation=activation,
    )


def _gaussian_moments(phi: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """E[φ(u)²] and E[φ(u)⁴] for a standard Gaussian u, each half line by its own quadrature (φ may have a kink at 0)."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u = torch.as_tensor(6 * (nodes + 1))
    density = torch.as_tensor(6 * weights) * torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    second, fourth = (float((density * (phi(u) ** k + phi(-u) ** k)).sum()) for k in (2, 4))
    return round(second, 12), round(fourth, 12)


def fourth_cumulant_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `finite_width_density` against [nngp-finite-size]: the fourth cumulant falls as one over width."""
    slope = float(ds.slope)
    enough = ds.sizes["width"] >= 3 and ds.attrs["num_samples"] >= 1_000_000
    return ClaimResult(
        slope,
        -1.1 <= slope <= -0.9 if enough else None,
        "slope of log excess kurtosis against log width in [-1.1, -0.9]; at least 3 widths, 2 million networks a width",
        float(1.96 * ds.slope_error),
        ds.attrs["num_samples"],
    )


def edgeworth_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `finite_width_density` against [nngp-finite-size]: the fourth-Hermite term makes the density fit."""
    ratio = (ds.error.sel(law="corrected") / ds.error.sel(law="gaussian")).values
    enough = ds.attrs["num_samples"] >= 1_000_000
    return ClaimResult(
        {f"width {int(w)}": float(r) for w, r in zip(ds.width, ratio, strict=True)},
        bool((ratio <= 0.35).all()) if enough else None,
        "area between the density and the corrected law <= 0.35 of that to the Gaussian, at every width; 2 million "
        "networks a width",
        f"counting noise leaves {float((ds.floor / ds.error.sel(law='gaussian')).max()):.2g} at most",
        ds.attrs["num_samples"],
    )


# -------------------------------------------------------------------------------------------------------- catapult


def catapult(
    *,
    lr_multiples: Sequence[float] = (1.5, 2.5, 3.0, 3.5),
    num_seeds: int = 5,
    width: int = 256,
    num_points: int = 12,
    num_features: int = 4,
    num_steps: int = 200,
    activation: str = "relu",
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    model: nn.Module | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train a network, its linear and its quadratic model at learning rates given in units of 1/λ₁ of the kernel.

    Gradient descent on the squared error summed over points: the linear model is unstable above 2. A member whose loss
    exceeds 10¹² times its start is stopped there and its loss counts as infinite from then on.

    Parameters
    ----------
    lr_multiples
        Learning rate times the top eigenvalue of the tangent kernel at initialisation.
    X, y
        Training data, (n, d) and (n,) or (n, 1); without them, y = sin(2 β·x) on a sphere.
    model
        A module of one's own with one output, (n, d) → (n, 1), as the one seed; else `num_seeds` random networks.

    Returns
    -------
    xr.Dataset
        `loss` (model, lr_multiple, seed, step) relative to its start; `sharpness` (model, lr_multiple, seed,
        recorded_step), the top eigenvalue of the model's own kernel times the learning rate.

    Raises
    ------
    ValueError
        If data or arguments do not fit.

    >>> ds = catapult(lr_multiples=(1.0, 3.0), num_seeds=2, width=64, num_points=4, num_steps=25, seed=0)
    >>> bool((ds.loss.sel(model="linear", lr_multiple=3.0).isel(step=20) > 1e3).all())
    True
    """
    if len(lr_multiples) == 0:
        raise ValueError("lr_multiples must hold at least one number, got none.")
    for multiple in lr_multiples:
        check_positive(lr_multiple=multiple)
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_features=num_features, num_steps=num_steps)
    _need_both(X, y)
    dtype = torch.float64
    generator = as_generator(seed)
    if X is None:
        points = torch.randn(num_points, num_features, generator=generator, dtype=dtype)
        points = points / points.norm(dim=1, keepdim=True) * math.sqrt(num_features)
        direction = torch.randn(num_features, 1, generator=generator, dtype=dtype)
        targets = torch.sin(2 * points @ direction / math.sqrt(num_features))
    else:
        points, given = _as_data(X, y, dtype)
        assert given is not None
        targets = given
    if model is None:
        network, start = init_ensemble(
            num_seeds,
            input_dim=points.shape[1],
            width=width,
            depth=1,
            activation=activation,
            weight_variance=2.0 if activation == "relu" else 1.0,
            seed=generator,
            dtype=dtype,
        )
        function = _of_ensemble(network)
    else:
        _, start, function = _as_ensemble(model, dtype)

    members, steps = len(next(iter(start.values()))), list(range(num_steps + 1))
    _check_one_output(points, targets, function(start, points))
    params = {name: value.repeat(len(lr_multiples), *[1] * (value.ndim - 1)) for name, value in start.items()}
    top = _top_eigenvalue(function, start, points).repeat(len(lr_multiples))
    lr = torch.tensor(lr_multiples, dtype=dtype).repeat_interleave(members) / top
    recorded = sorted({*range(0, min(num_steps, 20) + 1, 4), *range(20, num_steps + 1, max(num_steps // 6, 1))})
    recorded = sorted({step for step in recorded if step <= num_steps} | {num_steps})
    shape = (len(lr_multiples), members)
    losses, sharpness = [], []
    forms: dict[str, Callable[[Params, Tensor], Tensor]] = {
        "network": function,
        "linear": linearize(function, params),
        "quadratic": quadratize(function, params),
    }
    for name, form in forms.items():
        loss, sharp, limit = [], [], torch.full_like(lr, math.inf)
        rate, first = lr.clone(), None
        for step, values, outputs in _descend(_at(form, points), params, targets, lr=rate, steps=steps, loss="sum"):
            now = (outputs - targets).square().sum((1, 2))
            first = now if first is None else first
            blown = ~(now < 1e12 * first)
            # Changed in place: the descent reads the rate again at every step.
            rate[blown | (rate == 0)] = 0.0
            loss.append(torch.where(rate == 0, limit, now / first))
            if step in recorded:
                # The linear model's kernel never moves.
                value = top if name == "linear" else _top_eigenvalue(form, values, points)
                sharp.append(torch.where(rate == 0, torch.nan, value * lr))
        losses.append(torch.stack(loss, 1).reshape(*shape, -1))
        sharpness.append(torch.stack(sharp, 1).reshape(*shape, -1))
    return _dataset(
        "Catapult: training above the stable learning rate",
        {
            "model": _variable("model", list(forms), "model"),
            "lr_multiple": _variable("lr_multiple", list(lr_multiples), "learning rate × top kernel eigenvalue"),
            "seed": _seed_coord(members),
            "step": _variable("step", steps, "training time", "steps"),
            "recorded_step": _variable("recorded_step", recorded, "training time", "steps"),
        },
        {
            "loss": _variable("model lr_multiple seed step", torch.stack(losses), "loss relative to its start"),
            "sharpness": _variable(
                "model lr_multiple seed recorded_step", torch.stack(sharpness), "top kernel eigenvalue × learning rate"
            ),
        },
        seed=seed,
        width=width,
        activation=activation,
        num_points=len(points),
    )


def _top_eigenvalue(function: Callable[[Params, Tensor], Tensor], params: Params, X: Tensor) -> Tensor:
    """Top eigenvalue of each member's tangent kernel on X, for any function of stacked parameters with one output."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    outputs = function(leaves, X)[..., 0]
    # Row i asks for the gradient of point i of every member at once: members do not share parameters.
    seeds = torch.eye(len(X), dtype=X.dtype)[:, None, :].expand(-1, len(outputs), -1)
    rows = torch.autograd.grad(outputs, list(leaves.values()), seeds, is_grads_batched=True, materialize_grads=True)
    jacobian = torch.cat([row.flatten(2) for row in rows], 2).transpose(0, 1)
    kernel = jacobian @ jacobian.mT
    # A member that has blown up has no eigenvalue; it must not stop the others from having one.
    fine = torch.isfinite(kernel).flatten(1).all(1)
    values = torch.linalg.eigvalsh(torch.where(fine[:, None, None], kernel, 0.0))[:, -1]
    return torch.where(fine, values, torch.nan)


def catapult_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `catapult` against [neural-quadratic-models]: network and quadratic model escape, linear does not.

    Medians over seeds, at every learning rate between two and four over the top eigenvalue.
    """
    criterion = (
        "at every learning rate in (2, 4) over the top kernel eigenvalue, medians of at least 5 seeds: final loss of "
        "network and quadratic model <= 1e-2 of the start and their top eigenvalue × rate <= 2; linear model's loss "
        ">= 1e3 of the start after 20 steps (rates from 2.5)"
    )
    inside = ds.sel(lr_multiple=(ds.lr_multiple > 2) & (ds.lr_multiple < 4))
    if inside.sizes["lr_multiple"] == 0:
        return ClaimResult({}, None, criterion, "no learning rate in (2, 4)", ds.sizes["seed"])
    moving = ["network", "quadratic"]
    final = inside.loss.sel(model=moving).isel(step=-1).median("seed").max("lr_multiple")
    sharp = inside.sharpness.sel(model=moving).isel(recorded_step=-1)
    sharp = sharp.fillna(np.inf).median("seed").max("lr_multiple")
    # Just above two, even a lone mode grows too slowly for 20 steps to show it: by (2.2 - 1)^40, some 1500 times.
    fast = inside.lr_multiple >= 2.5
    enough = ds.sizes["seed"] >= 5 and bool(fast.any()) and int(ds.step[-1]) >= 20
    linear = inside.loss.sel(model="linear", step=20).median("seed")[fast].min() if enough else np.nan
    measured = {
        "final loss, network": float(final.sel(model="network")),
        "final loss, quadratic": float(final.sel(model="quadratic")),
        "sharpness, network": float(sharp.sel(model="network")),
        "sharpness, quadratic": float(sharp.sel(model="quadratic")),
        "linear loss at step 20": float(linear),
    }
    holds = bool((final <= 1e-2).all() and (sharp <= 2).all() and linear >= 1e3)
    return ClaimResult(
        measured,
        holds if enough else None,
        criterion,
        "worst learning rate",
        ds.sizes["seed"],
    )


# --------------------------------------------------------------------------------------------------------- grokking


def grokking(
    *,
    alphas: Sequence[float] = (0.25, 1.0, 4.0),
    num_seeds: int = 5,
    num_points: int = 300,
    num_test: int = 1000,
    num_features: int = 40,
    width: int = 500,
    epsilon: float = 0.2,
    step_size: float = 0.2,
    num_steps: int = 5000,
    num_records: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Train a two-layer network on a quadratic target at several output scales and watch it generalise late.

    The network is f(x) = α (g(x) − g₀(x)), g(x) = 1/N Σᵢ φ(wᵢ·x), φ(h) = h + ε/2 h², with x ~ N(0, 1/D), w ~ N(0, 1),
    and the target ½ (β·x)², |β|² = D [grokking-lazy-rich]; full-batch gradient descent on wᵢ, no weight
    decay. Taking off g₀ makes α a scale of laziness and nothing else.

    The weights enter only through their mean m and second moment M, f = α (m·x + ε/2 xᵀMx) + const, and so do their
    gradients: one step is w → A w − g with A = 1 − s ε Σ r x xᵀ, g = s Σ r x, hence m → A m − g and
    M → A M Aᵀ − A m gᵀ − g mᵀ Aᵀ + g gᵀ. Iterating these two is training the network of N units, exactly, at a
    hundredth of the cost.

    Parameters
    ----------
    num_features, num_points, width, epsilon
        D, number of training points P, N and ε.
    step_size
        Learning rate s α P / D; for α < 1 it is multiplied by α, since the rich network's kernel grows as it learns.
        Times of different α are therefore only compared as ratios.
    num_steps
        Longest training; a scale whose test errors are all below 0.02 stops earlier, and its records end there (NaN).

    Returns
    -------
    xr.Dataset
        `train_error`, `test_error` (alpha, seed, record) relative to the variance of the targets, `time` (alpha,
        record) in steps, `alignment` (alpha, seed, record) of the centred tangent kernel with the target on the test
        points, `train_time`, `test_time` (alpha, seed) to fall below 0.1 (infinite if never).

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = grokking(alphas=(1.0,), num_seeds=2, num_points=60, num_features=10, num_steps=300, seed=0)
    >>> bool((ds.test_time >= ds.train_time).all())
    True
    """
    if len(alphas) == 0:
        raise ValueError("alphas must hold at least one output scale, got none.")
    for alpha in alphas:
        check_positive(alpha=alpha)
    check_positive(epsilon=epsilon, step_size=step_size)
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_test=num_test, num_features=num_features, width=width)
    check_int(1, num_steps=num_steps, num_records=num_records)
    generator = as_generator(seed)
    d = num_features
    beta = torch.randn(num_seeds, d, 1, generator=generator)
    beta = beta / beta.norm(dim=1, keepdim=True) * math.sqrt(d)
    inputs = torch.randn(num_seeds, num_points + num_test, d, generator=generator) / math.sqrt(d)
    targets = 0.5 * (inputs @ beta)[..., 0] ** 2
    weights = torch.randn(num_seeds, width, d, generator=generator)
    start = (weights.mean(1), weights.mT @ weights / width)
    parts = {
        "train": (inputs[:, :num_points].contiguous(), targets[:, :num_points]),
        "test": (inputs[:, num_points:].contiguous(), targets[:, num_points:]),
    }
    per_alpha = [_grok(alpha, start, parts, epsilon, step_size, num_steps, num_records) for alpha in alphas]
    errors = {part: np.stack([run[part] for run in per_alpha]) for part in parts}
    times = np.array(_recorded_steps(num_steps, num_records))

    def reached(error: Array) -> Array:
        below = error < 0.1
        return np.where(below.any(2), times[below.argmax(2)].astype(float), np.inf)

    return _dataset(
        "Grokking as the transition from lazy to rich",
        {
            "alpha": _variable("alpha", list(alphas), "output scale α"),
            "seed": _seed_coord(num_seeds),
            "time": _variable("time", times, "training time", "steps"),
            "alignment_time": _variable("alignment_time", times[_alignment_records(len(times))], "time", "steps"),
        },
        {
            "train_error": _variable("alpha seed time", errors["train"], "training error relative to the variance"),
            "test_error": _variable("alpha seed time", errors["test"], "test error relative to the variance"),
            "alignment": _variable(
                "alpha seed alignment_time",
                np.stack([run["alignment"] for run in per_alpha]),
                "alignment of the centred kernel with the target, test points",
            ),
            "train_time": _variable("alpha seed", reached(errors["train"]), "time to fit the training data", "steps"),
            "test_time": _variable("alpha seed", reached(errors["test"]), "time to generalise", "steps"),
        },
        seed=seed,
        epsilon=epsilon,
        width=width,
        num_points=num_points,
        num_features=num_features,
        step_size=step_size,
    )


def _alignment_records(count: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, 10)).round().astype(int))


def _grok(
    alpha: float,
    start: tuple[Tensor, Tensor],
    parts: Mapping[str, tuple[Tensor, Tensor]],
    epsilon: float,
    step_size: float,
    num_steps: int,
    num_records: int,
) -> dict[str, Array]:
    mean0, second0 = start
    mean, second = mean0.clone(), second0.clone()
    (X, y), (test, test_y) = parts["train"], parts["test"]
    n, d = X.shape[1:]
    identity = torch.eye(d)
    step_scale = step_size * min(1.0, alpha) / alpha * d / n

    def outputs(inputs: Tensor) -> Tensor:
        linear = (inputs @ (mean - mean0)[..., None])[..., 0]
        return alpha * (linear + epsilon / 2 * (inputs @ (second - second0) * inputs).sum(2))

    wanted = _recorded_steps(num_steps, num_records)
    aligned = {wanted[i] for i in _alignment_records(len(wanted))}
    record: dict[str, list[Tensor]] = {"train": [], "test": [], "alignment": []}
    finished = False
    unmeasured = torch.full((len(X),), torch.nan)
    for step in range(num_steps + 1):
        if finished:
            record["train"] += [unmeasured] * (step in wanted)
            record["test"] += [unmeasured] * (step in wanted)
            record["alignment"] += [unmeasured] * (step in aligned)
            continue
        residual = outputs(X) - y
        if step in wanted:
            record["train"].append(residual.square().mean(1) / y.var(1, correction=0))
            record["test"].append((outputs(test) - test_y).square().mean(1) / test_y.var(1, correction=0))
            finished = bool((record["test"][-1] < 0.02).all())
        if step in aligned:
            record["alignment"].append(_committee_alignment(test, test_y, mean, second, epsilon))
        push = step_scale * (X.mT @ residual[..., None])[..., 0]
        turn = identity - step_scale * epsilon * (X.mT @ (X * residual[..., None]))
        turned = (turn @ mean[..., None])[..., 0]
        cross = turned[:, :, None] * push[:, None]
        second = turn @ second @ turn - cross - cross.mT + push[:, :, None] * push[:, None]
        mean = turned - push
    return {name: torch.stack(values, 1).double().numpy() for name, values in record.items()}


def _committee_alignment(X: Tensor, y: Tensor, mean: Tensor, second: Tensor, epsilon: float) -> Tensor:
    """Alignment yᵀKy / (|y|² |K|) of the committee's centred kernel K = x·x' E[φ'(h) φ'(h')] with centred targets."""
    alignments = []
    # One seed at a time: the kernels of all seeds at once would be the experiment's largest use of memory.
    for x, t, m, moment in zip(X, y - y.mean(1, keepdim=True), mean, second, strict=True):
        slope = epsilon * x @ m
        kernel = (epsilon**2 * x @ moment) @ x.T
        kernel.add_(slope[:, None]).add_(slope).add_(1).mul_(x @ x.T)
        kernel.sub_(kernel.mean(0)).sub_(kernel.mean(1, keepdim=True))
        alignments.append(t @ kernel @ t / t.square().sum() / kernel.norm())
    return torch.stack(alignments)


def _delay(ds: xr.Dataset, alpha: float) -> xr.DataArray:
    ratio = ds.test_time.sel(alpha=alpha) / ds.train_time.sel(alpha=alpha)
    # Neither reached: the run says nothing of a delay, and must not count as a small one.
    result: xr.DataArray = ratio.fillna(np.inf)
    return result


def grokking_delay_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `grokking` against [grokking-lazy-rich]: the lazier, the longer from fitting to generalising."""
    lazy, rich = _delay(ds, float(ds.alpha.max())), _delay(ds, float(ds.alpha.min()))
    paired = float((lazy / rich).median())
    error = ds.test_error.sel(alpha=float(ds.alpha.max())).transpose("seed", "time").values
    fitted = ds.train_time.sel(alpha=float(ds.alpha.max())).values[:, None] <= ds.time.values
    measured_at = np.isfinite(error)
    each = np.arange(len(error))
    # A run that never fits is taken at its start, a run that stopped early at its last record.
    when_fit = error[each, fitted.argmax(1)]
    at_end = error[each, error.shape[1] - 1 - measured_at[:, ::-1].argmax(1)]
    enough = float(ds.alpha.max()) >= 4 and float(ds.alpha.min()) <= 0.25 and ds.sizes["seed"] >= 5
    measured = {
        "lazy": float(lazy.median()),
        "rich": float(rich.median()),
        "lazy / rich": paired,
        "lazy test error when fit": float(np.median(when_fit)),
        "lazy test error at the end": float(np.median(at_end)),
    }
    return ClaimResult(
        measured,
        bool(lazy.median() >= 5 and paired >= 2 and np.median(at_end / when_fit) <= 0.5) if enough else None,
        "time to generalise over time to fit (error below 0.1 of the variance, never = infinite), medians of at least 5 "
        "seeds: lazy (α = 4) >= 5, and >= 2 times that of the rich network (α = 0.25) with the same data; the lazy "
        "network's test error at least halves after it has fitted",
        f"lazy {float(lazy.min()):.3g} to {float(lazy.max()):.3g}, rich {float(rich.min()):.3g} to "
        f"{float(rich.max()):.3g} over seeds",
        ds.sizes["seed"],
    )


def grokking_alignment_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `grokking` against [grokking-lazy-rich]: the kernel turns towards the target while the test error falls."""
    lazy = ds.sel(alpha=float(ds.alpha.max()))
    gain = lazy.alignment.isel(alignment_time=-1) / lazy.alignment.isel(alignment_time=0)
    enough = float(ds.alpha.max()) >= 4 and ds.sizes["seed"] >= 5
    return ClaimResult(
        float(gain.median()),
        float(gain.median()) >= 2 if enough else None,
        "alignment of the centred kernel with the target on the test points, end over start, median of at least 5 seeds "
        "in the lazy run (α = 4) >= 2",
        f"{float(gain.min()):.2f} to {float(gain.max()):.2f} over seeds",
        ds.sizes["seed"],
    )


# -------------------------------------------------------------------------------------------------- feature learning


def feature_change(
    *,
    widths: Sequence[int] = (128, 256, 512, 1024),
    parametrisations: Sequence[str] = ("mup", "ntk", "standard"),
    num_seeds: int = 3,
    num_samples: int = 64,
    depth: int = 2,
    activation: str = "relu",
    step_size: float = 0.2,
    num_steps: int = 40,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train networks of several widths in several parametrisations and measure how far their hidden features move.

    Digits, centred one-hot targets, full-batch gradient descent. In each parametrisation the learning rate is the same
    at every width, up to the factors that the parametrisation itself prescribes: `step_size` over the fastest decay
    rate of its kernel at the smallest width.

    Parameters
    ----------
    X, y
        Data of one's own, (n, d) and (n, out), in place of the digits.

    Returns
    -------
    xr.Dataset
        `change` (parametrisation, width, seed), |φ(T) − φ(0)| / |φ(0)| of the last hidden features on the training
        data; `train_loss` and `train_accuracy` at the end; `slope` (parametrisation) of the geometric mean over seeds
        against width, with 95% intervals.

    Raises
    ------
    ValueError
        If data or arguments do not fit.

    >>> ds = feature_change(widths=(32, 64), num_seeds=2, num_samples=40, num_steps=3, seed=0)
    >>> ds.parametrisation.values.tolist()
    ['mup', 'ntk', 'standard']
    """
    widths = _check_widths(widths)
    check_choice(PARAMETRISATIONS, **{f"parametrisations[{i}]": name for i, name in enumerate(parametrisations)})
    check_int(1, num_seeds=num_seeds, num_steps=num_steps)
    check_positive(step_size=step_size)
    _need_both(X, y)
    if X is None:
        digits = load_digits(seed=seed, num_train=num_samples, num_test=10, scaling="standard")
        points, labels = to_tensors(digits, "X", "y_one_hot", split="train")
        targets = labels.float() - labels.float().mean(0)
    else:
        points, given = _as_data(X, y, torch.float32)
        assert given is not None
        targets = given
    generator = as_generator(seed)
    check_choice(ACTIVATIONS, activation=activation)
    phi = ACTIVATIONS[activation]
    changes, losses, accuracies, rates = [], [], [], []
    for parametrisation in parametrisations:
        base = 0.0
        for width in widths:
            network, params = init_ensemble(
                num_seeds,
                input_dim=points.shape[1],
                width=width,
                depth=depth,
                output_dim=targets.shape[1],
                activation=activation,
                parametrisation=parametrisation,
                weight_variance=2.0 if activation == "relu" else 1.0,
                seed=generator,
            )
            scales = lr_scales(network)
            if not base:
                # The kernel of plain gradient descent does not know the learning-rate factors; they are one or 1/n.
                kernel = ensemble_ntk(network, params, points).mean(0).double() * min(scales.values())
                base = step_size * len(points) / float(kernel_modes(kernel).eigenvalues[0])
                rates.append(base)
            lr = {name: base * scale for name, scale in scales.items()}
            run = _descend(_outputs(network, points), params, targets, lr=lr, steps=[num_steps])
            ((_, trained, outputs),) = run
            before = phi(ensemble_layers(network, params, points)[-2])
            after = phi(ensemble_layers(network, trained, points)[-2])
            changes.append(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).double().numpy())
            losses.append(((outputs - targets).square().sum(2).mean(1) / 2).numpy())
            accuracies.append((outputs.argmax(2) == targets.argmax(1)).double().mean(1).numpy())
    shape = (len(parametrisations), len(widths), num_seeds)
    change = np.stack(changes).reshape(shape)
    slopes = [_loglog_slope(widths, _geometric_mean(v), num_seeds, seed) for v in change]
    dims = "parametrisation width seed"
    return _dataset(
        "Feature change against width",
        {
            "parametrisation": _variable("parametrisation", list(parametrisations), "parametrisation"),
            "width": _variable("width", widths, "width", "hidden units"),
            "seed": _seed_coord(num_seeds),
        },
        {
            "change": _variable(dims, change, "relative change of the last hidden features"),
            "train_loss": _variable(dims, np.stack(losses).reshape(shape), "training loss at the end"),
            "train_accuracy": _variable(dims, np.stack(accuracies).reshape(shape), "training accuracy at the end"),
            "lr": _variable("parametrisation", rates, "learning rate"),
            "slope": _variable("parametrisation", [s.value for s in slopes], "slope of log change against log width"),
            "slope_low": _variable("parametrisation", [s.low for s in slopes], "slope, lower end of the 95% interval"),
            "slope_high": _variable(
                "parametrisation", [s.high for s in slopes], "slope, upper end of the 95% interval"
            ),
        },
        seed=seed,
        depth=depth,
        activation=activation,
        num_steps=num_steps,
        num_samples=len(points),
    )


def feature_learning_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `feature_change` against [mup-feature-learning]: features move alike at every width under muP only."""
    slopes = {str(name): float(ds.slope.sel(parametrisation=name)) for name in ds.parametrisation.values}
    enough = {"mup", "ntk"} <= slopes.keys() and ds.sizes["width"] >= 4 and ds.sizes["seed"] >= 3
    return ClaimResult(
        slopes,
        bool(abs(slopes["mup"]) <= 0.1 and slopes["ntk"] <= -0.35) if enough else None,
        "slope of log feature change against log width: |muP| <= 0.1 and NTK <= -0.35; at least 4 widths, 3 seeds",
        float(((ds.slope_high - ds.slope_low) / 2).max()),
        ds.sizes["seed"],
    )


# ----------------------------------------------------------------------------------------------------- scale mixture


def scale_mixture_marginal(
    *,
    width: int = 1024,
    num_networks: int = 40_000,
    degrees_of_freedom: float = 4.0,
    num_bins: int = 80,
    activation: str = "relu",
    seed: int = 0,
) -> xr.Dataset:
    """Draw wide random networks whose readout variance is itself random, and compare their outputs' law with two others.

    The readout's variance is InverseGamma(ν/2, ν/2), one draw a network [scale-mixture-nngp]. The outputs
    are held against the Student-t of ν degrees of freedom and against the Gaussian of the same variance, ν/(ν − 2), by
    the Kolmogorov–Smirnov distance, the largest difference of distribution functions.

    Returns
    -------
    xr.Dataset
        `density` (output), `law_density` (law, output), `distance` (law), and `fixed_distance`, the distance to the
        unit Gaussian of the same networks with the variance held at one.

    Raises
    ------
    ValueError
        If an argument is out of range; ν must exceed 2 for the variance to exist.

    >>> ds = scale_mixture_marginal(width=64, num_networks=2000, seed=0)
    >>> bool(ds.distance.sel(law="student_t") < ds.distance.sel(law="gaussian"))
    True
    """
    from scipy import stats

    check_int(1, width=width)
    check_int(100, num_networks=num_networks)
    check_int(4, num_bins=num_bins)
    check_choice(ACTIVATIONS, activation=activation)
    check_positive(degrees_of_freedom=degrees_of_freedom)
    nu = float(degrees_of_freedom)
    if nu <= 2:
        raise ValueError(f"degrees_of_freedom must exceed 2 for a finite variance, got {degrees_of_freedom!r}.")
    generator, rng = as_generator(seed), np.random.default_rng(seed)
    phi = ACTIVATIONS[activation]
    second, _ = _gaussian_moments(phi)
    gaussian_outputs = []
    block = max(1, 4_000_000 // width)
    for first in range(0, num_networks, block):
        size = min(block, num_networks - first)
        hidden = phi(torch.randn(size, width, generator=generator))
        readout = torch.randn(size, width, generator=generator)
        gaussian_outputs.append((hidden * readout).sum(1) / math.sqrt(width * second))
    fixed = torch.cat(gaussian_outputs).double().numpy()
    variance = 1 / rng.gamma(nu / 2, 2 / nu, size=num_networks)
    outputs = fixed * np.sqrt(variance)
    laws = {"student_t": stats.t(df=nu), "gaussian": stats.norm(scale=math.sqrt(nu / (nu - 2)))}
    edges = np.linspace(-8, 8, num_bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    density = np.histogram(outputs, edges)[0] / num_networks / (edges[1] - edges[0])
    return _dataset(
        "Outputs of networks with a random readout variance",
        {
            "output": _variable("output", centres, "output"),
            "law": _variable("law", list(laws), "law"),
        },
        {
            "density": _variable("output", density, "density of outputs over random networks"),
            "law_density": _variable("law output", np.stack([law.pdf(centres) for law in laws.values()]), "density"),
            "distance": _variable(
                "law",
                [stats.kstest(outputs, law.cdf).statistic for law in laws.values()],
                "Kolmogorov–Smirnov distance",
            ),
            "fixed_distance": _variable(
                (),
                stats.kstest(fixed, stats.norm.cdf).statistic,
                "distance to the Gaussian with the variance held fixed",
            ),
        },
        seed=seed,
        width=width,
        num_networks=num_networks,
        degrees_of_freedom=nu,
        activation=activation,
    )


def student_marginal_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `scale_mixture_marginal` against [scale-mixture-nngp]: the outputs are Student-t."""
    student, gaussian = (float(ds.distance.sel(law=name)) for name in ("student_t", "gaussian"))
    enough = ds.attrs["degrees_of_freedom"] == 4 and ds.attrs["num_networks"] >= 10_000 and ds.attrs["width"] >= 256
    return ClaimResult(
        {"Student-t": student, "Gaussian": gaussian},
        student <= 0.02 and gaussian >= 0.04 if enough else None,
        "Kolmogorov–Smirnov distance of the outputs to the Student-t of 4 degrees of freedom <= 0.02 and to the Gaussian "
        "of the same variance >= 0.04; at least 10 thousand networks",
        1.36 / math.sqrt(ds.attrs["num_networks"]),
        ds.attrs["num_networks"],
    )


def scale_mixture_regression(
    *,
    num_seeds: int = 10,
    num_train: int = 150,
    depth: int = 1,
    degrees_of_freedom: float = 4.0,
    noise_variance: float = 0.1,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    shift_feature: int = 2,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the Gaussian and the Student-t process on test inputs like the training inputs, and on shifted ones.

    Both use the NNGP kernel of a ReLU network, scaled to mean one on the training inputs. Data: diabetes, standardised
    on the training part; the fifth of the patients with the largest body-mass index (`shift_feature`) is never trained
    on. Each seed draws its own training set from the rest.

    Two settings: "unit", where both have the unit prior scale and `noise_variance`; "tuned", where each process takes
    the scale and the noise that maximise its own marginal likelihood on the training data, on the same grid.

    Returns
    -------
    xr.Dataset
        `nll` (setting, process, inputs, seed), mean negative log-likelihood of the test targets in nats; `gap` (setting,
        inputs, seed), Gaussian less Student-t.

    Raises
    ------
    ValueError
        If data or arguments do not fit.

    >>> ds = scale_mixture_regression(num_seeds=2, num_train=40, seed=0)
    >>> dict(ds.gap.sizes)
    {'setting': 2, 'inputs': 2, 'seed': 2}
    """
    check_int(1, num_seeds=num_seeds, depth=depth)
    check_int(2, num_train=num_train)
    check_positive(degrees_of_freedom=degrees_of_freedom, noise_variance=noise_variance)
    _need_both(X, y)
    if X is None:
        points, targets = to_tensors(load_diabetes(seed=seed, standardise=False), dtype=torch.float64)
    else:
        points, given = _as_data(X, y, torch.float64)
        assert given is not None
        targets = given
    if targets.shape[1] != 1:
        raise ValueError(f"y must have one output, got shape {tuple(targets.shape)}.")
    check_int(0, points.shape[1] - 1, shift_feature=shift_feature)
    order = points[:, shift_feature].argsort()
    cut = len(points) - len(points) // 5
    inside, shifted = order[:cut], order[cut:]
    if not num_train < len(inside) or len(shifted) == 0:
        raise ValueError(f"num_train must be less than {len(inside)}, the samples outside the shifted fifth.")
    rng = np.random.default_rng(seed)
    nlls = []
    for _ in range(num_seeds):
        drawn = inside[torch.as_tensor(rng.permutation(len(inside)))]
        rows = torch.cat([drawn[:num_train], drawn[num_train:], shifted])
        x, t = points[rows], targets[rows, 0]
        mean, std = x[:num_train].mean(0), x[:num_train].std(0).clamp(min=1e-12)
        x, t = (x - mean) / std, (t - t[:num_train].mean()) / t[:num_train].std()
        nngp = infinite_kernels(x, depth=depth, weight_variance=2.0, bias_variance=0.1).nngp
        nngp = nngp / nngp.diagonal()[:num_train].mean()
        parts = {"like training": slice(num_train, len(inside)), "shifted": slice(len(inside), None)}
        unit = [(1.0, noise_variance)]
        # Noise is given relative to the scale, as the Student-t process needs it.
        grid = [(s, r) for s in np.geomspace(0.1, 10, 9) for r in np.geomspace(0.01, 10, 13)]
        nlls.append([_process_nlls(nngp, t, num_train, parts, g, degrees_of_freedom) for g in (unit, grid)])
    nll = np.moveaxis(np.array(nlls), 0, -1)
    return _dataset(
        "Gaussian and Student-t process under shift",
        {
            "setting": _variable("setting", ["unit", "tuned"], "prior"),
            "process": _variable("process", ["gaussian", "student_t"], "process"),
            "inputs": _variable("inputs", ["like training", "shifted"], "test inputs"),
            "seed": _variable("seed", np.arange(num_seeds), "training set drawn"),
        },
        {
            "nll": _variable("setting process inputs seed", nll, "negative log-likelihood", "nats per point"),
            "gap": _variable(
                "setting inputs seed", nll[:, 0] - nll[:, 1], "advantage of the Student-t process", "nats per point"
            ),
        },
        seed=seed,
        num_train=num_train,
        depth=depth,
        degrees_of_freedom=float(degrees_of_freedom),
        noise_variance=noise_variance,
    )


def _process_nlls(
    kernel: Tensor,
    y: Tensor,
    n: int,
    parts: Mapping[str, slice],
    grid: Sequence[tuple[float, float]],
    nu: float,
) -> list[list[float]]:
    """Mean NLL (process, part), each process with the (scale, relative noise) of the grid of largest likelihood."""
    result = []
    for student in (False, True):
        best: Any = None
        for scale, noise in grid:
            block = scale * kernel[:n, :n]
            # Only the evidence is needed to choose, so nothing is predicted until the choice is made.
            empty = kernel[:0, :n], kernel[:0, :0]
            if student:
                evidence = student_t_posterior(
                    block, y[:n], *empty, degrees_of_freedom=nu, noise_variance=scale * noise
                ).log_marginal_likelihood
            else:
                evidence = gp_posterior(block, y[:n], *empty, noise_variance=scale * noise).log_marginal_likelihood
            if best is None or evidence > best[0]:
                best = evidence, scale, noise
        _, scale, noise = best
        args = scale * kernel[:n, :n], y[:n], scale * kernel[n:, :n], scale * kernel[n:, n:]
        if student:
            density = student_t_posterior(*args, degrees_of_freedom=nu, noise_variance=scale * noise).log_density(
                y[n:], noise_variance=scale * noise
            )
        else:
            density = gp_posterior(*args, noise_variance=scale * noise).log_density(y[n:], noise_variance=scale * noise)
        every = torch.cat([torch.full((n,), torch.nan, dtype=density.dtype), density])
        result.append([float(-every[part].mean()) for part in parts.values()])
    return result


def student_posterior_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `scale_mixture_regression` against [scale-mixture-nngp]: better likelihood on shifted inputs."""
    gaps = ds.gap.sel(inputs="shifted")
    unit, tuned = gaps.sel(setting="unit"), gaps.sel(setting="tuned")
    half = float(1.96 * unit.std("seed", ddof=1) / math.sqrt(ds.sizes["seed"])) if ds.sizes["seed"] > 1 else math.nan
    enough = ds.sizes["seed"] >= 3 and ds.attrs["degrees_of_freedom"] == 4
    mean = float(unit.mean())
    holds = None if not enough or abs(mean - 0.5) < half else mean >= 0.5
    return ClaimResult(
        {"unit prior scale": mean, "both tuned": float(tuned.mean())},
        holds,
        "at the same unit prior scale the Student-t process (4 degrees of freedom) has a negative log-likelihood on "
        "shifted inputs lower by >= 0.5 nats a point, mean of at least 3 training sets; the gap with both tuned is "
        "reported without a threshold",
        half,
        ds.sizes["seed"],
    )


# ---------------------------------------------------------------------------------------------------- deep networks


def _squared_lengths(width: int, depth: int, draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Squared length of the signal after layer 1, 2, … of random ReLU networks without biases at C_W = 2, from 1.

    Exact in law without any matrix: given a layer's input, its pre-activations are independent Gaussians of one
    variance. About half of them are positive (a binomial count), and the sum of squares of those is a chi-square.
    """
    squared = np.ones(draws)
    for _ in range(depth):
        positive = rng.binomial(width, 0.5, size=draws)
        squared = squared * 2 / width * 2 * rng.standard_gamma(positive / 2)
        yield squared


def output_kurtosis(
    *,
    widths: Sequence[int] = (32, 64, 128),
    ratios: Sequence[float] = (1 / 32, 2 / 32, 3 / 32),
    num_networks: int = 400_000,
    seed: int = 0,
) -> xr.Dataset:
    """Measure the excess kurtosis of the output over random ReLU networks whose depth is a fixed share of their width.

    No biases, C_W = 2. The networks are drawn exactly in law but without their matrices, see the source; the tests
    hold this against networks with matrices.

    Parameters
    ----------
    ratios
        Hidden layers over width; ratio × width is rounded to whole layers, at least 1.

    Returns
    -------
    xr.Dataset
        `kurtosis`, `kurtosis_error` (standard error), `hidden_layers` and `predicted`, 3((1 + 5/n)^L − 1), each
        (ratio, width) [principles-dl-theory, chapter 4].

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = output_kurtosis(widths=(32,), ratios=(1 / 32,), num_networks=4000, seed=0)
    >>> ds.hidden_layers.values.tolist(), round(float(ds.predicted[0, 0]), 5)
    ([[1]], 0.46875)
    """
    widths = _check_widths(widths)
    check_int(1000, num_networks=num_networks)
    for ratio in ratios:
        check_positive(ratio=ratio)
    rng = np.random.default_rng(seed)
    layers = np.array([[max(1, round(ratio * width)) for width in widths] for ratio in ratios])
    kurtosis, error = np.zeros(layers.shape), np.zeros(layers.shape)
    for j, width in enumerate(widths):
        for depth, squared in enumerate(_squared_lengths(width, int(layers[:, j].max()), num_networks, rng), start=1):
            for i in np.flatnonzero(layers[:, j] == depth):
                outputs = np.sqrt(squared) * rng.standard_normal(num_networks)
                square = outputs**2
                ratio4 = square**2 / square.mean() ** 2
                kurtosis[i, j] = ratio4.mean() - 3
                # First-order error of a ratio of means: the denominator fluctuates with the numerator.
                influence = ratio4 - 2 * ratio4.mean() * square / square.mean()
                error[i, j] = influence.std() / math.sqrt(num_networks)
    predicted = 3 * ((1 + 5 / np.array(widths)) ** layers - 1)
    dims = "ratio width"
    return _dataset(
        "Output kurtosis of deep random networks",
        {
            "ratio": _variable("ratio", list(ratios), "depth over width"),
            "width": _variable("width", widths, "width", "hidden units"),
        },
        {
            "hidden_layers": _variable(dims, layers, "hidden layers", "layers"),
            "kurtosis": _variable(dims, kurtosis, "excess kurtosis of the output"),
            "kurtosis_error": _variable(dims, error, "standard error of the excess kurtosis"),
            "predicted": _variable(dims, predicted, "predicted excess kurtosis"),
        },
        seed=seed,
        num_networks=num_networks,
    )


def kurtosis_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `output_kurtosis` against [principles-dl-theory]: non-Gaussianity grows with depth over width."""
    inside = (ds.hidden_layers / ds.width) <= 0.1
    off = (np.abs(ds.kurtosis / ds.predicted - 1)).where(inside)
    spread = (ds.kurtosis.max("width") / ds.kurtosis.min("width") - 1).where(inside.all("width"))
    enough = ds.attrs["num_networks"] >= 100_000 and int(inside.sum()) >= 4
    return ClaimResult(
        {"largest relative error": float(off.max()), "largest spread at one ratio": float(spread.max())},
        bool(off.max() <= 0.15) if enough else None,
        "excess kurtosis within 15% of 3((1 + 5/N)^L - 1) wherever L/N <= 0.1 (width N, L hidden layers); at least 100 "
        "thousand networks",
        float((ds.kurtosis_error / ds.predicted).where(inside).max()),
        ds.attrs["num_networks"],
    )


def signal_propagation(
    *,
    weight_variances: Sequence[float] = (1.8, 2.0, 2.2),
    width: int = 256,
    depth: int = 30,
    num_networks: int = 4000,
    seed: int = 0,
) -> xr.Dataset:
    """Follow the size of the signal through the layers of random ReLU networks at several weight variances.

    Returns
    -------
    xr.Dataset
        `mean_square` and `median_square`, mean and median over networks of the mean squared signal (weight_variance,
        layer) relative to the input, `low` and `high` (10% and 90% of networks), `mean_square_error` (standard error of
        the mean), and `predicted`, (C_W/2)^layer [principles-dl-theory, chapter 5].

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = signal_propagation(depth=3, num_networks=100, seed=0)
    >>> ds.mean_square.isel(layer=0).values.tolist()
    [1.0, 1.0, 1.0]
    """
    if len(weight_variances) == 0:
        raise ValueError("weight_variances must hold at least one number, got none.")
    for value in weight_variances:
        check_positive(weight_variance=value)
    check_int(1, width=width, depth=depth)
    check_int(2, num_networks=num_networks)
    rng = np.random.default_rng(seed)
    layers = np.arange(depth + 1)
    signal = np.stack(
        [
            np.stack([np.ones(num_networks), *_squared_lengths(width, depth, num_networks, rng)])
            * (value / 2) ** layers[:, None]
            for value in weight_variances
        ]
    )
    dims = "weight_variance layer"
    return _dataset(
        "Signal propagation",
        {
            "weight_variance": _variable("weight_variance", list(weight_variances), "weight variance"),
            "layer": _variable("layer", layers, "layer"),
        },
        {
            "mean_square": _variable(dims, signal.mean(2), "mean squared signal relative to the input"),
            "mean_square_error": _variable(dims, signal.std(2) / math.sqrt(num_networks), "standard error of the mean"),
            "median_square": _variable(dims, np.median(signal, 2), "median squared signal relative to the input"),
            "low": _variable(dims, np.quantile(signal, 0.1, axis=2), "squared signal, a tenth of networks below"),
            "high": _variable(dims, np.quantile(signal, 0.9, axis=2), "squared signal, a tenth of networks above"),
            "predicted": _variable(
                dims, (np.array(weight_variances)[:, None] / 2) ** layers, "predicted mean squared signal"
            ),
        },
        seed=seed,
        width=width,
        num_networks=num_networks,
    )


def criticality_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold `signal_propagation` against [principles-dl-theory]: only the critical variance keeps the signal's size."""
    wanted = (1.8, 2.0, 2.2)
    there = set(wanted) <= set(ds.weight_variance.values.tolist())
    enough = there and int(ds.layer[-1]) >= 30 and ds.attrs["width"] >= 256 and ds.attrs["num_networks"] >= 4000
    final = {f"C_W = {c}": float(ds.mean_square.sel(weight_variance=c, layer=30)) for c in wanted} if enough else {}
    low, critical, high = final.values() if enough else (math.nan,) * 3
    at = ds.mean_square_error.sel(weight_variance=2.0).isel(layer=-1) if there else math.nan
    return ClaimResult(
        final,
        abs(critical - 1) <= 0.1 and low <= 0.1 and high >= 10 if enough else None,
        "mean squared signal after 30 layers relative to the input: within 10% of 1 at C_W = 2, <= 0.1 at 1.8, >= 10 at "
        "2.2; width 256, at least 4000 networks",
        float(1.96 * at),
        ds.attrs["num_networks"],
    )


# ------------------------------------------------------------------------------------- real data: digits, by a kernel


def digits_kernel_and_network(
    *,
    num_train: Sequence[int] = (50, 100, 200, 400),
    num_test: int = 300,
    width: int = 1024,
    num_seeds: int = 3,
    bias_variance: float = 0.1,
    step_size: float = 1.0,
    num_steps: int = 100,
    centred: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Classify digits with the infinite-width kernel, with the wide network that it predicts, and with a linear model.

    The network: one hidden ReLU layer, NTK parametrisation, squared loss on centred one-hot targets, full-batch
    gradient descent. Its prediction: the infinite-width kernel, the same number of steps in closed form; nothing is
    fitted. Each seed has its own split of the data.

    Parameters
    ----------
    num_train
        Numbers of training digits; the test digits stay the same as it grows.
    step_size
        Learning rate in units of the time in which the kernel's fastest component decays.
    centred
        Take the network's outputs less those at initialisation. If False the random initial function stays in, and in
        the prediction too, which then starts from the network's own initial outputs.

    Returns
    -------
    xr.Dataset
        `accuracy` (predictor, num_train, seed) on the test digits of: the trained "network", its "kernel prediction", "NTK
        regression" and "NNGP regression" (both with a small ridge), and "linear" (ridge regression, its strength
        chosen by leave-one-out); `output_difference` (num_train, seed), root mean square between network and
        prediction over that of the prediction, on the test digits; `agreement`, the share of test digits given the
        same class; and for the first seed and most digits: `image`, `label`, and both outputs (sample, digit).

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = digits_kernel_and_network(num_train=(20,), num_test=30, width=64, num_seeds=1, num_steps=5, seed=0)
    >>> ds.predictor.values.tolist()
    ['network', 'kernel prediction', 'NTK regression', 'NNGP regression', 'linear']
    """
    from sklearn.linear_model import RidgeCV

    sizes = _check_widths(num_train)
    check_int(1, num_test=num_test, width=width, num_seeds=num_seeds, num_steps=num_steps)
    check_positive(step_size=step_size)
    check_nonnegative(bias_variance=bias_variance)
    methods = ["network", "kernel prediction", "NTK regression", "NNGP regression", "linear"]
    accuracy = np.zeros((len(methods), len(sizes), num_seeds))
    difference, agreement = np.zeros((len(sizes), num_seeds)), np.zeros((len(sizes), num_seeds))
    shown: dict[str, Variable] = {}
    generator = as_generator(seed)
    for s in range(num_seeds):
        for i, size in enumerate(sizes):
            digits = load_digits(seed=seed * 1000 + s, num_train=size, num_test=num_test, scaling="standard")
            X, one_hot = to_tensors(digits, "X", "y_one_hot", split="train")
            test, test_labels = to_tensors(digits, "X", "y", split="test")
            centre = one_hot.float().mean(0)
            y = one_hot.float() - centre
            kernels = infinite_kernels(
                torch.cat([X, test]), X, depth=1, weight_variance=2.0, bias_variance=bias_variance
            )
            ntk, cross = kernels.ntk[:size], kernels.ntk[size:]
            lr = step_size * size / float(kernel_modes(ntk).eigenvalues[0])
            network, params = init_ensemble(
                1,
                input_dim=X.shape[1],
                width=width,
                depth=1,
                output_dim=y.shape[1],
                weight_variance=2.0,
                bias_variance=bias_variance,
                seed=generator,
            )
            zero = apply_ensemble(network, params, torch.cat([X, test]))[0] * float(centred)
            start = apply_ensemble(network, params, torch.cat([X, test]))[0].double() - zero
            path = kernel_descent(
                ntk,
                y.double(),
                [num_steps],
                test_kernel=cross,
                initial=start[:size],
                test_initial=start[size:],
                lr=lr,
            )
            assert path.test is not None
            run = _descend(
                _outputs(network, X, zero[:size]),
                params,
                y,
                lr=lr,
                steps=[num_steps],
            )
            ((_, trained, _),) = run
            ridge = RidgeCV(alphas=np.geomspace(1e-3, 1e3, 13)).fit(X.numpy(), y.numpy())
            outputs = {
                "network": (apply_ensemble(network, trained, test)[0] - zero[size:]).double(),
                "kernel prediction": path.test[0],
                "NTK regression": kernel_regression(ntk, y, cross, ridge=1e-3),
                "NNGP regression": kernel_regression(kernels.nngp[:size], y, kernels.nngp[size:], ridge=1e-3),
                "linear": torch.as_tensor(ridge.predict(test.numpy())).double(),
            }
            for m, method in enumerate(methods):
                accuracy[m, i, s] = float(((outputs[method] + centre).argmax(1) == test_labels).double().mean())
            one, two = outputs["network"], outputs["kernel prediction"]
            difference[i, s] = float((one - two).square().mean().sqrt() / two.square().mean().sqrt())
            agreement[i, s] = float(((one + centre).argmax(1) == (two + centre).argmax(1)).double().mean())
            if s == 0 and i == len(sizes) - 1:
                # The same digits as they were written; standardised pixels are hard to read.
                pixels = load_digits(seed=seed * 1000 + s, num_train=size, num_test=num_test, scaling="range")
                shown = {
                    "image": _variable("sample row column", pixels.image.values[size:], "ink"),
                    "label": _variable("sample", test_labels, "digit written"),
                    "network_output": _variable("sample digit", one + centre, "output of the trained network"),
                    "predicted_output": _variable("sample digit", two + centre, "output predicted by the kernel"),
                }
    return _dataset(
        "Digits by a kernel and by a wide network",
        {
            "predictor": _variable("predictor", methods, "predictor"),
            "num_train": _variable("num_train", sizes, "training digits", "digits"),
            "seed": _variable("seed", np.arange(num_seeds), "network and split drawn"),
            "digit": _variable("digit", np.arange(10), "digit"),
            "sample": _variable("sample", np.arange(num_test), "test digit"),
            "row": _variable("row", np.arange(8), "row of pixels"),
            "column": _variable("column", np.arange(8), "column of pixels"),
        },
        {
            "accuracy": _variable("predictor num_train seed", accuracy, "test accuracy"),
            "output_difference": _variable(
                "num_train seed", difference, "relative difference of network and prediction"
            ),
            "agreement": _variable("num_train seed", agreement, "share of test digits given the same class"),
            **shown,
        },
        seed=seed,
        width=width,
        num_steps=num_steps,
        num_test=num_test,
        centred=int(centred),
    )


# --------------------------------------------------------------------------------------------------- for the explorers


def _random_functions(
    X: Tensor,
    *,
    width: int,
    depth: int,
    activation: str,
    weight_variance: float,
    bias_variance: float,
    num_networks: int,
    seed: int,
    tangent: bool,
) -> tuple[Tensor, Tensor | None]:
    """Outputs (networks, n) of random networks at the points X, and their tangent kernels (networks, n, n).

    Exact in law (up to rounding) at a cost linear in the width: no width × width matrix is drawn. What a matrix W does
    to a layer's n features H = (r left vectors) S Qᵀ is W Q, which is a Gaussian matrix of r columns; what its
    transpose does to the n sensitivities is that same W Q again, and an independent Gaussian part orthogonal to Q.
    """
    generator = as_generator(seed)
    n, d = X.shape
    phi = ACTIVATIONS[activation]
    scale, shift = math.sqrt(weight_variance), math.sqrt(bias_variance)

    def draw(*shape: int) -> Tensor:
        # The width comes first: a slider that widens the network then adds units and keeps those that are there.
        return torch.randn(*shape[::-1], generator=generator).permute(*range(len(shape) - 1, -1, -1))

    bias = shift * draw(num_networks, 1, width) if bias_variance else 0.0
    hidden = scale / math.sqrt(d) * X @ draw(num_networks, d, width) + bias
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    slopes, products = [], [X @ X.T * weight_variance / d + bias_variance]
    for layer in range(depth):
        if tangent:
            leaf = hidden.requires_grad_()
            features = phi(leaf)
            slopes.append(torch.autograd.grad(features.sum(), leaf)[0])
            features = features.detach()
        else:
            features = phi(hidden)
        gram = features @ features.mT
        products.append(gram * weight_variance / width + bias_variance)
        if layer == depth - 1:
            break
        values, left = torch.linalg.eigh(gram.double())
        # Directions below rounding carry no signal, and dividing by them would only amplify noise.
        kept = values > 1e-6 * values[:, -1:]
        roots = torch.where(kept, values.clamp(min=0).sqrt(), 0.0).float()
        inverse = torch.where(kept, values.clamp(min=1e-30).rsqrt(), 0.0).float()
        left = left.float()
        mixing = draw(num_networks, n, width)
        layers.append((features, left * inverse[:, None], mixing, left * roots[:, None]))
        bias = shift * draw(num_networks, 1, width) if bias_variance else 0.0
        hidden = scale / math.sqrt(width) * layers[-1][3] @ mixing + bias
    readout = draw(num_networks, width, 1)
    outputs = scale / math.sqrt(width) * (features @ readout)[..., 0]
    if bias_variance:
        outputs = outputs + shift * draw(num_networks, 1)
    if not tangent:
        return outputs, None
    kernel = products[-1].clone()
    sensitivity = (scale / math.sqrt(width)) * readout.mT * slopes[-1]
    for layer in range(depth - 1, -1, -1):
        kernel = kernel + (sensitivity @ sensitivity.mT) * products[layer]
        if layer:
            features, whiten, mixing, _ = layers[layer - 1]
            basis = whiten.mT @ features
            values, left = torch.linalg.eigh((sensitivity @ sensitivity.mT).double())
            root = (left * values.clamp(min=0).sqrt()[:, None]).float()
            fresh = root @ draw(num_networks, n, width)
            back = sensitivity @ mixing.mT @ basis + fresh - (fresh @ basis.mT) @ basis
            sensitivity = scale / math.sqrt(width) * back * slopes[layer - 1]
    return outputs, kernel


def kernel_slice(
    *,
    width: int = 256,
    depth: int = 1,
    activation: str = "relu",
    weight_variance: float = 2.0,
    bias_variance: float = 0.1,
    num_seeds: int = 4,
    num_points: int = 25,
    seed: int = 0,
) -> xr.Dataset:
    """Return the tangent kernel of random networks between points of a circle, beside the infinite-width limit.

    Fast at any width, for an explorer: see the source for how. Points stand at angles from −π to π; the slice is the
    row of angle 0.

    Returns
    -------
    xr.Dataset
        `kernel` (seed, angle, other_angle), `limit` (angle, other_angle), `slice` (seed, angle), `limit_slice`
        (angle). Where the activation has no closed form (`attrs["has_limit"]` is 0), the limit is NaN.

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> ds = kernel_slice(width=32, num_points=5, seed=0)
    >>> dict(ds.slice.sizes)
    {'seed': 4, 'angle': 5}
    """
    check_int(1, width=width, depth=depth, num_seeds=num_seeds)
    check_int(3, num_points=num_points)
    check_choice(ACTIVATIONS, activation=activation)
    check_positive(weight_variance=weight_variance)
    check_nonnegative(bias_variance=bias_variance)
    if num_points % 2 == 0:
        raise ValueError(f"num_points must be odd, so that the angle 0 is one of the points, got {num_points}.")
    angle = torch.linspace(-math.pi, math.pi, num_points)
    X = torch.stack([angle.cos(), angle.sin()], 1) * math.sqrt(2)
    _, kernel = _random_functions(
        X,
        width=width,
        depth=depth,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        num_networks=num_seeds,
        seed=seed,
        tangent=True,
    )
    assert kernel is not None
    closed = activation in CLOSED_FORM_ACTIVATIONS
    limit = (
        infinite_kernels(
            X, depth=depth, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance
        ).ntk
        if closed
        else torch.full((num_points, num_points), torch.nan, dtype=torch.float64)
    )
    middle = num_points // 2
    return _dataset(
        "Tangent kernel on the circle",
        {
            "seed": _seed_coord(num_seeds),
            "angle": _variable("angle", angle, "angle", "rad"),
            "other_angle": _variable("other_angle", angle, "other angle", "rad"),
        },
        {
            "kernel": _variable("seed angle other_angle", kernel, "tangent kernel"),
            "limit": _variable("angle other_angle", limit, "infinite-width tangent kernel"),
            "slice": _variable("seed angle", kernel[:, middle], "tangent kernel with the point at angle 0"),
            "limit_slice": _variable("angle", limit[middle], "infinite-width tangent kernel with the point at angle 0"),
        },
        seed=seed,
        width=width,
        depth=depth,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        has_limit=int(closed),
    )


def process_band(
    *,
    width: int = 256,
    depth: int = 1,
    activation: str = "relu",
    weight_variance: float = 2.0,
    bias_variance: float = 0.1,
    posterior: bool = False,
    noise_variance: float = 0.01,
    num_samples: int = 5,
    num_points: int = 40,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Return the Gaussian process of infinite width as a band, and random networks of finite width as samples.

    One input x in [−2, 2], seen by the networks as √2 · (x, 1)/√2. With `posterior`, the process is conditioned on
    data, and each network's function f is moved to f + K* (K + noise)⁻¹ (y − f(X) − ε), which turns prior samples into
    posterior samples exactly where f is Gaussian, that is at infinite width.

    Parameters
    ----------
    X, y
        Data of one's own, (n,) or (n, 1) and (n,) or (n, 1); else four points.

    Returns
    -------
    xr.Dataset
        `mean_output`, `low`, `high` (x), the band of ± 2 standard deviations; `sample` (seed, x); `data_x`, `data_y` (datum).

    Raises
    ------
    ValueError
        If the activation has no closed form or an argument is out of range.

    >>> ds = process_band(posterior=True, num_points=9, seed=0)
    >>> bool((ds.high >= ds.low).all())
    True
    """
    check_int(1, width=width, depth=depth, num_samples=num_samples)
    check_int(2, num_points=num_points)
    check_choice(CLOSED_FORM_ACTIVATIONS, activation=activation)
    check_positive(weight_variance=weight_variance, noise_variance=noise_variance)
    check_nonnegative(bias_variance=bias_variance)
    _need_both(X, y)
    if X is None:
        data_x, data_y = torch.tensor([-1.4, -0.5, 0.4, 1.2]), torch.tensor([0.8, -0.9, 0.3, 1.1])
    else:
        data_x, data_y = (torch.as_tensor(v).float().reshape(-1) for v in (X, y))
        check_same_length(X=data_x, y=data_y)
        check_finite(X=data_x, y=data_y)
    grid = torch.linspace(-2, 2, num_points)
    x = torch.cat([grid, data_x])
    inputs = torch.stack([x, torch.ones_like(x)], 1)
    settings: dict[str, Any] = {
        "depth": depth,
        "activation": activation,
        "weight_variance": weight_variance,
        "bias_variance": bias_variance,
    }
    samples, _ = _random_functions(inputs, width=width, num_networks=num_samples, seed=seed, tangent=False, **settings)
    samples = samples.double()
    nngp = infinite_kernels(inputs, **settings).nngp
    g = num_points
    if posterior:
        result = gp_posterior(nngp[g:, g:], data_y, nngp[:g, g:], nngp[:g, :g], noise_variance=noise_variance)
        mean, variance = result.mean, result.covariance.diagonal()
        noise = math.sqrt(noise_variance) * torch.randn(
            num_samples, len(data_y), generator=as_generator(seed + 1), dtype=torch.float64
        )
        residual = (data_y - samples[:, g:] - noise).T
        moved = kernel_regression(nngp[g:, g:], residual, nngp[:g, g:], ridge=noise_variance)
        samples = samples[:, :g] + moved.T
    else:
        mean, variance = torch.zeros(g, dtype=torch.float64), nngp[:g, :g].diagonal()
        samples = samples[:, :g]
    two = 2 * variance.clamp(min=0).sqrt()
    return _dataset(
        "Gaussian process and random networks",
        {
            "x": _variable("x", grid, "input"),
            "seed": _seed_coord(num_samples),
            "datum": _variable("datum", np.arange(len(data_x)), "datum"),
        },
        {
            "mean_output": _variable("x", mean, "mean of the process"),
            "low": _variable("x", mean - two, "mean less two standard deviations"),
            "high": _variable("x", mean + two, "mean plus two standard deviations"),
            "sample": _variable("seed x", samples, "output of a random network"),
            "data_x": _variable("datum", data_x, "input of the datum"),
            "data_y": _variable("datum", data_y, "target of the datum"),
        },
        seed=seed,
        width=width,
        posterior=int(posterior),
        noise_variance=noise_variance,
        **settings,
    )


def training_path(
    *,
    width: int = 1024,
    num_seeds: int = 8,
    num_grid: int = 61,
    num_times: int = 40,
    num_steps: int = 2000,
    activation: str = "relu",
    weight_variance: float = 2.0,
    bias_variance: float = 0.1,
    step_size: float = 0.5,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Train an ensemble of networks once, and return its outputs in time beside the path that the kernel predicts.

    The prediction is that of infinite width for the average over initialisations, and is a sum over eigenvectors of
    the kernel: `contribution` says what each has added at each time; their sum is `predicted`. The band is two standard
    deviations of the infinite-width networks, which start as a Gaussian process and are moved by the same linear map.

    Parameters
    ----------
    X, y
        One-dimensional inputs in [−1, 1] and targets; else eight points of a wave with a sharp feature.

    Returns
    -------
    xr.Dataset
        `network` (seed, time, x), `predicted`, `low`, `high` (time, x), `contribution` (component, time, x),
        `eigenvalue`, `remaining` (time, component), the share of that component's error still there.

    Raises
    ------
    ValueError
        If the activation has no closed form or an argument is out of range.

    >>> ds = training_path(width=64, num_seeds=2, num_grid=7, num_times=4, num_steps=20, seed=0)
    >>> bool(abs(ds.contribution.sum("component") - ds.predicted).max() < 1e-9)
    True
    """
    check_int(1, width=width, num_seeds=num_seeds, num_steps=num_steps)
    check_int(2, num_grid=num_grid, num_times=num_times)
    check_choice(CLOSED_FORM_ACTIVATIONS, activation=activation)
    check_positive(step_size=step_size)
    _need_both(X, y)
    if X is None:
        x = torch.tensor([-0.9, -0.65, -0.4, -0.15, 0.1, 0.35, 0.6, 0.85])
        t = torch.sin(3 * x) + torch.where(x > 0.2, 0.6, -0.2)
    else:
        x, t = (torch.as_tensor(v).float().reshape(-1) for v in (X, y))
        check_same_length(X=x, y=t)
        check_finite(X=x, y=t)
    grid = torch.linspace(-1.2, 1.2, num_grid)
    # The second input is constant: without it a function of one input through the origin could only bend at 0.
    inputs = torch.stack([torch.cat([grid, x]), torch.full((num_grid + len(x),), 0.5)], 1) * 2
    network, params = init_ensemble(
        num_seeds,
        input_dim=2,
        width=width,
        depth=1,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        seed=seed,
    )
    kernels = infinite_kernels(
        inputs, depth=1, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance
    )
    g, n = num_grid, len(x)
    ntk, nngp, targets = kernels.ntk, kernels.nngp, t.double()
    modes = kernel_modes(ntk[g:, g:])
    lr = step_size * n / float(modes.eigenvalues[0])
    steps = _recorded_steps(num_steps, num_times)
    # As targets, each component of y by itself, then the unit vectors: the second part is the linear map itself.
    parts = modes.eigenvectors * (modes.eigenvectors.T @ targets)
    wanted = torch.cat([parts, torch.eye(n, dtype=torch.float64)], 1)
    path = kernel_descent(ntk[g:, g:], wanted, steps, test_kernel=ntk[:g, g:], lr=lr)
    assert path.test is not None
    contribution, linear_map = path.test[..., :n], path.test[..., n:]
    predicted = contribution.sum(2)
    variance = (
        nngp[:g, :g].diagonal()
        + torch.einsum("tgi,ij,tgj->tg", linear_map, nngp[g:, g:], linear_map)
        - 2 * (linear_map * nngp[:g, g:]).sum(2)
    )
    two = 2 * variance.clamp(min=0).sqrt()
    run = _descend(_outputs(network, inputs[g:]), params, t[:, None], lr=lr, steps=steps)
    outputs = torch.stack([apply_ensemble(network, trained, inputs[:g])[..., 0] for _, trained, _ in run], 1)
    rates = decay_rates(modes.eigenvalues, lr=lr)
    remaining = (1 - rates) ** torch.tensor(steps, dtype=torch.float64)[:, None]
    return _dataset(
        "Outputs in training, predicted and trained",
        {
            "x": _variable("x", grid, "input"),
            "seed": _seed_coord(num_seeds),
            "time": _variable("time", steps, "training time", "steps"),
            "component": _variable("component", np.arange(1, n + 1), "component, from the largest eigenvalue"),
            "datum": _variable("datum", np.arange(n), "datum"),
        },
        {
            "network": _variable("seed time x", outputs, "output of the trained network"),
            "predicted": _variable("time x", predicted, "predicted mean output"),
            "low": _variable("time x", predicted - two, "predicted mean less two standard deviations"),
            "high": _variable("time x", predicted + two, "predicted mean plus two standard deviations"),
            "contribution": _variable(
                "component time x", contribution.permute(2, 0, 1), "what the component adds to the output"
            ),
            "eigenvalue": _variable("component", modes.eigenvalues, "eigenvalue of the kernel"),
            "remaining": _variable("time component", remaining, "share of the component's error still there"),
            "data_x": _variable("datum", x, "input of the datum"),
            "data_y": _variable("datum", t, "target of the datum"),
        },
        seed=seed,
        width=width,
        activation=activation,
        lr=lr,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
