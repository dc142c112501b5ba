"""Training in function space: kernel gradient flow and descent in closed form, Taylor models, kernel regression.

While the tangent kernel K stands still, gradient descent on a squared loss moves the outputs by a linear equation,
and the eigenvectors of K are its independent directions: the component of the error along eigenvector i decays at the
rate lr · λᵢ (divided by the number of points if the loss is a mean). Everything here follows from that.

Losses, for n points: "mean" is 1/(2n) Σᵢ |f(xᵢ) − yᵢ|² and "sum" is 1/2 Σᵢ |f(xᵢ) − yᵢ|²; each sums over outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp

from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_ndim,
    check_nonnegative,
    check_positive,
    check_same_length,
    check_same_shape,
)

LOSSES = ("mean", "sum")

Params = dict[str, Tensor]
Function = Callable[[Params, Tensor], Tensor]


class KernelModes(NamedTuple):
    """Eigen-directions of a kernel matrix: eigenvalues from large to small, eigenvectors in the columns."""

    eigenvalues: Float[Tensor, "n"]
    eigenvectors: Float[Tensor, "n n"]


class FunctionPath(NamedTuple):
    """Outputs over training time: shape (time, n) or (time, n, out); `test` is None where no test kernel was given."""

    train: Float[Tensor, "time n ..."]
    test: Float[Tensor, "time m ..."] | None


def kernel_modes(kernel: Float[Tensor, "n n"]) -> KernelModes:
    """Return the eigenvalues (descending) and eigenvectors of a symmetric positive semi-definite kernel matrix.

    Eigenvalues that are negative by rounding alone are returned as zero.

    Raises
    ------
    ValueError
        If the matrix is not square, not finite, not symmetric, or has a negative eigenvalue beyond rounding.

    >>> kernel_modes(torch.diag(torch.tensor([1.0, 3.0]))).eigenvalues.tolist()
    [3.0, 1.0]
    """
    check_ndim(2, kernel=kernel)
    _check_square(kernel=kernel)
    check_finite(kernel=kernel)
    scale = float(kernel.abs().max())
    # Kernels are often computed in lower precision than they are stored in, hence the generous tolerance.
    tolerance = 1e-4 if kernel.dtype == torch.float32 else 1e-6
    asymmetry = float((kernel - kernel.T).abs().max())
    if asymmetry > tolerance * scale:
        raise ValueError(
            f"kernel must be symmetric, got entries that differ from their mirror image by {asymmetry:.3g}."
        )
    eigenvalues, eigenvectors = torch.linalg.eigh((kernel + kernel.T) / 2)
    if float(eigenvalues[0]) < -tolerance * max(scale, float(eigenvalues[-1])):
        raise ValueError(
            f"kernel must be positive semi-definite, got a matrix whose smallest eigenvalue is {eigenvalues[0]:.3g}."
        )
    return KernelModes(eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1))


def decay_rates(
    eigenvalues: Float[Tensor, "n"], *, lr: float = 1.0, loss: str = "mean", num_points: int | None = None
) -> Float[Tensor, "n"]:
    """Return the rate 1/time at which the error along each eigenvector decays under gradient flow, lr · λ (/ n).

    `num_points` is the n of the mean; without it, the number of eigenvalues.

    Raises
    ------
    ValueError
        If `lr` is not positive or `loss` is not known.

    >>> decay_rates(torch.tensor([4.0, 2.0]), loss="mean").tolist()
    [2.0, 1.0]
    """
    check_positive(lr=lr)
    check_choice(LOSSES, loss=loss)
    n = len(eigenvalues) if num_points is None else num_points
    return eigenvalues * (lr / n if loss == "mean" else lr)


def kernel_flow(
    kernel: Float[Tensor, "n n"] | Float[Tensor, "n n out out"],
    y: Float[Tensor, "n ..."],
    times: Float[Tensor, "time"] | Sequence[float],
    *,
    test_kernel: Float[Tensor, "m n"] | Float[Tensor, "m n out out"] | None = None,
    initial: Float[Tensor, "n ..."] | None = None,
    test_initial: Float[Tensor, "m ..."] | None = None,
    lr: float = 1.0,
    loss: str = "mean",
) -> FunctionPath:
    """Return train and test outputs at any times of gradient flow under a fixed kernel, in closed form.

    With the error r₀ = f₀ − y and K* the kernel of test points with training points,

        f(t) = y + exp(−lr K t) r₀          f*(t) = f*₀ − K* K⁻¹ (1 − exp(−lr K t)) r₀      [ntk-jacot, section 5]

    with K/n in place of K for the mean loss. No inverse is taken, so a singular kernel is fine.

    Parameters
    ----------
    kernel
        Tangent kernel of the training points, (n, n) and the same for each output, or in full blocks (n, n, out, out).
    y
        Targets, (n,) or (n, out).
    times
        Training times (at least 0). With full-batch gradient descent of a small step, time = number of steps.
    test_kernel
        Kernel of test points (first axis) with training points, in the same form as `kernel`.
    initial, test_initial
        Outputs at time 0; zero where not given.
    lr, loss
        Learning rate, and which squared loss ("mean" or "sum").

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, a time is negative, or the kernel is not positive semi-definite.

    >>> path = kernel_flow(torch.eye(2), torch.tensor([1.0, -1.0]), [0.0, 100.0], loss="sum")
    >>> path.train.round(decimals=3).tolist()
    [[0.0, 0.0], [1.0, -1.0]]
    """
    _check_floating(y=y)
    times = torch.as_tensor(times, dtype=y.dtype, device=y.device)
    check_ndim(1, times=times)
    check_finite(times=times)
    if bool((times < 0).any()):
        raise ValueError(f"times must be at least 0, got {float(times.min())!r}.")

    def progress(rates: Tensor) -> tuple[Tensor, Tensor]:
        exponent = -torch.outer(times, rates)
        learnt = -torch.expm1(exponent)
        # (1 − e^{−λt})/λ tends to t where λ vanishes: such a direction is never fitted, yet moves the test outputs.
        gain = torch.where(rates > 0, learnt / rates.where(rates > 0, torch.ones_like(rates)), times[:, None])
        return exponent.exp(), gain

    return _path(kernel, y, test_kernel, initial, test_initial, lr, loss, progress)


def kernel_descent(
    kernel: Float[Tensor, "n n"] | Float[Tensor, "n n out out"],
    y: Float[Tensor, "n ..."],
    steps: Tensor | Sequence[int],
    *,
    test_kernel: Float[Tensor, "m n"] | Float[Tensor, "m n out out"] | None = None,
    initial: Float[Tensor, "n ..."] | None = None,
    test_initial: Float[Tensor, "m ..."] | None = None,
    lr: float,
    loss: str = "mean",
) -> FunctionPath:
    """Return train and test outputs after any numbers of steps of gradient descent under a fixed kernel.

    Exact at every step size: the error along eigenvector i is multiplied by 1 − lr λᵢ (/ n) at each step, so that it
    grows without bound where lr λᵢ (/ n) > 2. Arguments and errors are those of `kernel_flow`, with `steps` (whole
    numbers, at least 0) in place of times.

    >>> kernel_descent(torch.eye(2), torch.tensor([1.0, -1.0]), [0, 1, 2], lr=0.5, loss="sum").train.tolist()
    [[0.0, 0.0], [0.5, -0.5], [0.75, -0.75]]
    """
    _check_floating(y=y)
    steps = torch.as_tensor(steps, device=y.device)
    check_ndim(1, steps=steps)
    check_finite(steps=steps)
    if bool((steps < 0).any()) or bool((steps != steps.round()).any()):
        raise ValueError(f"steps must be whole numbers of at least 0, got {steps.tolist()}.")
    count = steps.to(y.dtype)[:, None]

    def progress(rates: Tensor) -> tuple[Tensor, Tensor]:
        factor = 1 - rates
        remaining = factor.abs() ** count * torch.where((count % 2 == 1) & (factor < 0), -1.0, 1.0).to(y.dtype)
        # For small rates 1 − (1 − rate)^k loses its digits; log1p and expm1 keep them.
        small = rates.clamp(max=0.5)
        learnt = torch.where(rates <= 0.5, -torch.expm1(count * torch.log1p(-small)), 1 - remaining)
        gain = torch.where(rates > 0, learnt / rates.where(rates > 0, torch.ones_like(rates)), count)
        return remaining, gain

    return _path(kernel, y, test_kernel, initial, test_initial, lr, loss, progress)


def _path(
    kernel: Tensor,
    y: Tensor,
    test_kernel: Tensor | None,
    initial: Tensor | None,
    test_initial: Tensor | None,
    lr: float,
    loss: str,
    progress: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> FunctionPath:
    """Outputs along the path on which a mode of rate r keeps remaining(r) of its error; gain(r) = (1 − remaining)/r."""
    check_finite(y=y)
    check_same_length(kernel=kernel, y=y)
    start = torch.zeros_like(y) if initial is None else initial
    check_same_shape(initial=start, y=y)
    check_finite(initial=start)
    blocks = kernel.ndim == 4
    if blocks and y.ndim != 2:
        raise ValueError(f"y must have shape (n, out) with a kernel in full blocks, got shape {tuple(y.shape)}.")
    num_points = len(y)
    modes = kernel_modes(flatten_blocks(kernel) if blocks else kernel)
    if len(modes.eigenvalues) != (y.numel() if blocks else num_points):
        raise ValueError(f"kernel and y must fit, got shapes kernel {tuple(kernel.shape)}, y {tuple(y.shape)}.")
    rates = decay_rates(modes.eigenvalues, lr=lr, loss=loss, num_points=num_points).to(y.dtype)
    vectors = modes.eigenvectors.to(y.dtype)
    remaining, gain = progress(rates)

    error = start - y
    columns = error.reshape(len(rates), -1)
    components = vectors.T @ columns
    paths = torch.einsum("ik,tk,kc->tic", vectors, remaining, components)
    train = y + paths.reshape(len(paths), *y.shape)
    if test_kernel is None:
        return FunctionPath(train, None)

    check_ndim(kernel.ndim, test_kernel=test_kernel)
    check_finite(test_kernel=test_kernel)
    if test_kernel.shape[1:] != kernel.shape[1:]:
        raise ValueError(
            "test_kernel must be the kernel of test points (first axis) with training points (second axis), "
            f"got shapes test_kernel {tuple(test_kernel.shape)}, kernel {tuple(kernel.shape)}."
        )
    shape = (len(test_kernel), *y.shape[1:])
    test_start = y.new_zeros(shape) if test_initial is None else test_initial
    check_finite(test_initial=test_start)
    if test_start.shape != shape:
        raise ValueError(f"test_initial must have shape {shape}, got {tuple(test_start.shape)}.")
    step = lr / num_points if loss == "mean" else lr
    cross = step * (flatten_blocks(test_kernel) if blocks else test_kernel).to(y.dtype) @ vectors
    moved = torch.einsum("jk,tk,kc->tjc", cross, gain, components)
    return FunctionPath(train, test_start - moved.reshape(len(moved), *shape))


def flatten_blocks(kernel: Float[Tensor, "n m out out"]) -> Float[Tensor, "n*out m*out"]:
    """Return a kernel in full blocks as one matrix over (point, output) pairs.

    Raises
    ------
    ValueError
        If the kernel does not have four dimensions.

    >>> flatten_blocks(torch.zeros(2, 3, 5, 5)).shape
    torch.Size([10, 15])
    """
    check_ndim(4, kernel=kernel)
    n, m, out, _ = kernel.shape
    return kernel.permute(0, 2, 1, 3).reshape(n * out, m * out)


def linearize(model: nn.Module | Function, params: Params | None = None) -> Function:
    """Return the first-order Taylor model in the parameters, g(θ, X) = f(θ₀, X) + J(θ₀, X) (θ − θ₀).

    `model` is a module (`params`, θ₀, are then its own unless given), or a function of (params, X) such as
    `lambda params, X: apply_ensemble(network, params, X)`. The result is a function of (params, X) that `torch.func`
    and autograd can differentiate; the Jacobian is never built.

    Raises
    ------
    ValueError
        If the model is a function and no parameters are given, or parameter names or shapes do not match θ₀.

    >>> module = nn.Linear(2, 1)
    >>> X, params = torch.ones(3, 2), {name: 2 * value for name, value in module.named_parameters()}
    >>> bool((linearize(module)(params, X) - 2 * module(X)).abs().max() < 1e-6)
    True
    """
    return _taylor(model, params, order=1)


def quadratize(model: nn.Module | Function, params: Params | None = None) -> Function:
    """Return the second-order Taylor model in the parameters, the linear one + ½ (θ − θ₀)ᵀ H(θ₀, X) (θ − θ₀).

    The model of [neural-quadratic-models], whose tangent kernel moves as it trains. Arguments are those of
    `linearize`.

    >>> square = lambda params, X: X * params["a"] ** 2
    >>> model = quadratize(square, {"a": torch.tensor(1.0)})
    >>> model({"a": torch.tensor(3.0)}, torch.ones(1)).tolist()
    [9.0]
    """
    return _taylor(model, params, order=2)


def _taylor(model: nn.Module | Function, params: Params | None, order: int) -> Function:
    if params is None:
        if not isinstance(model, nn.Module):
            raise ValueError("params must be given where the model is a function, got None.")
        params = dict(model.named_parameters())
    centre = {name: value.detach().clone() for name, value in params.items()}

    def expansion(values: Params, X: Tensor) -> Tensor:
        if values.keys() != centre.keys():
            raise ValueError(f"params must hold the tensors {sorted(centre)}, got {sorted(values)}.")
        for name, value in values.items():
            check_same_shape(**{"params": value, "expansion_point": centre[name]})
        change = {name: values[name] - centre[name] for name in centre}

        def slope(point: Params) -> tuple[Tensor, Tensor]:
            output = jvp(lambda p: _call(model, p, X), (point,), (change,))
            return output[0], output[1]

        if order == 1:
            value, first = slope(centre)
            return value + first
        (value, first), (_, second) = jvp(slope, (centre,), (change,))[:2]
        total: Tensor = value + first + second / 2
        return total

    return expansion


def _call(model: nn.Module | Function, values: Params, X: Tensor) -> Tensor:
    output: Tensor = functional_call(model, values, (X,)) if isinstance(model, nn.Module) else model(values, X)
    return output


def kernel_regression(
    kernel: Float[Tensor, "n n"],
    y: Float[Tensor, "n ..."],
    test_kernel: Float[Tensor, "m n"],
    *,
    ridge: float = 0.0,
    jitter: float = 1e-10,
) -> Float[Tensor, "m ..."]:
    """Return the predictions K* (K + ridge · 1)⁻¹ y of kernel ridge regression at the test points, in float64.

    With the tangent kernel and no ridge this is where gradient flow from zero outputs ends. `jitter` times the mean
    diagonal is added beside the ridge so that the Cholesky factor exists.

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, ridge or jitter is negative, or the matrix cannot be factored.

    >>> kernel_regression(torch.eye(2), torch.tensor([1.0, 2.0]), torch.eye(2), ridge=1.0).round(decimals=6).tolist()
    [0.5, 1.0]
    """
    check_nonnegative(ridge=ridge)
    check_same_length(kernel=kernel, y=y)
    check_finite(y=y)
    factor = _cholesky(kernel, ridge, jitter)
    cross = _cross(test_kernel, kernel)
    weights = torch.cholesky_solve(y.to(torch.float64).reshape(len(y), -1), factor)
    return (cross @ weights).reshape(len(cross), *y.shape[1:])


@dataclass(frozen=True)
class GaussianPosterior:
    """Posterior of a Gaussian process at the test points, float64.

    `covariance` is that of the function; the noise of a new observation is not in it.
    """

    mean: Float[Tensor, "m"]
    covariance: Float[Tensor, "m m"]
    log_marginal_likelihood: float
    """Log density of the training targets under the prior (nats)."""

    def log_density(self, y: Float[Tensor, "m"], *, noise_variance: float = 0.0) -> Float[Tensor, "m"]:
        """Return the log density (nats) of each test target under its own marginal.

        >>> posterior = GaussianPosterior(torch.zeros(1), torch.eye(1), 0.0)
        >>> round(posterior.log_density(torch.zeros(1)).item(), 4)
        -0.9189
        """
        check_same_shape(y=y, mean=self.mean)
        variance = self.covariance.diagonal() + noise_variance
        return -0.5 * ((y - self.mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))


@dataclass(frozen=True)
class StudentTPosterior:
    """Posterior of a Student-t process at the test points, float64: degrees of freedom, location, scale matrix."""

    degrees_of_freedom: float
    mean: Float[Tensor, "m"]
    scale_matrix: Float[Tensor, "m m"]
    log_marginal_likelihood: float
    """Log density of the training targets under the prior (nats)."""
    inflation: float = 1.0
    """How much the targets widened the scale, (ν + yᵀ K⁻¹ y)/(ν + n)."""

    @property
    def covariance(self) -> Float[Tensor, "m m"]:
        """The covariance, scale · ν/(ν − 2); infinite where ν is at most 2."""
        nu = self.degrees_of_freedom
        return self.scale_matrix * (nu / (nu - 2) if nu > 2 else math.inf)

    def log_density(self, y: Float[Tensor, "m"], *, noise_variance: float = 0.0) -> Float[Tensor, "m"]:
        """Return the log density (nats) of each test target under its own marginal.

        `noise_variance` is the noise of a new observation in units of the prior's scale: the same random scale
        multiplies the function and its noise. Give the one that the posterior was made with.
        """
        check_same_shape(y=y, mean=self.mean)
        scale = self.scale_matrix.diagonal() + noise_variance * self.inflation
        nu = self.degrees_of_freedom
        squared = (y - self.mean) ** 2 / scale
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        return constant - 0.5 * scale.log() - (nu + 1) / 2 * torch.log1p(squared / nu)


def gp_posterior(
    kernel: Float[Tensor, "n n"],
    y: Float[Tensor, "n"],
    test_kernel: Float[Tensor, "m n"],
    test_test_kernel: Float[Tensor, "m m"],
    *,
    noise_variance: float = 0.0,
    jitter: float = 1e-10,
) -> GaussianPosterior:
    """Return the exact posterior of a zero-mean Gaussian process, in float64 by a Cholesky factor.

    `jitter` times the mean diagonal of the kernel is added beside the noise so that the factor exists.

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, a variance is negative, or the matrix cannot be factored.

    >>> K = torch.tensor([[1.0]])
    >>> posterior = gp_posterior(K, torch.tensor([2.0]), K / 2, K, noise_variance=1.0)
    >>> round(posterior.mean.item(), 4), round(posterior.covariance.item(), 4)
    (0.5, 0.875)
    """
    factor, fit, mean, reduced = _condition(kernel, y, test_kernel, test_test_kernel, noise_variance, jitter)
    n = len(y)
    log_likelihood = -0.5 * (fit + n * math.log(2 * math.pi)) - float(factor.diagonal().log().sum())
    return GaussianPosterior(mean, reduced, log_likelihood)


def student_t_posterior(
    kernel: Float[Tensor, "n n"],
    y: Float[Tensor, "n"],
    test_kernel: Float[Tensor, "m n"],
    test_test_kernel: Float[Tensor, "m m"],
    *,
    degrees_of_freedom: float,
    noise_variance: float = 0.0,
    jitter: float = 1e-10,
) -> StudentTPosterior:
    """Return the exact posterior of a zero-mean Student-t process, in float64 by a Cholesky factor.

    The prior is the scale mixture of Gaussian processes s · N(0, K + noise · 1) with s ~ InverseGamma(ν/2, ν/2): a
    Student-t of ν degrees of freedom with scale matrix K + noise · 1 [scale-mixture-nngp]. An
    InverseGamma(a, b) prior is ν = 2a with the kernels and the noise multiplied by b/a. After n targets there are ν + n
    degrees of freedom and the Gaussian posterior's covariance is scaled by (ν + yᵀ K⁻¹ y)/(ν + n): surprising targets
    widen the band everywhere.

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, a variance is negative, or the matrix cannot be factored.

    >>> K = torch.tensor([[1.0]])
    >>> posterior = student_t_posterior(K, torch.tensor([3.0]), 0 * K, K, degrees_of_freedom=4.0)
    >>> posterior.degrees_of_freedom, round(posterior.scale_matrix.item(), 4)
    (5.0, 2.6)
    """
    check_positive(degrees_of_freedom=degrees_of_freedom)
    factor, fit, mean, reduced = _condition(kernel, y, test_kernel, test_test_kernel, noise_variance, jitter)
    n, nu = len(y), float(degrees_of_freedom)
    log_likelihood = (
        math.lgamma((nu + n) / 2)
        - math.lgamma(nu / 2)
        - n / 2 * math.log(nu * math.pi)
        - float(factor.diagonal().log().sum())
        - (nu + n) / 2 * math.log1p(fit / nu)
    )
    inflation = (nu + fit) / (nu + n)
    return StudentTPosterior(nu + n, mean, inflation * reduced, log_likelihood, inflation)


def _condition(
    kernel: Tensor, y: Tensor, test_kernel: Tensor, test_test_kernel: Tensor, noise_variance: float, jitter: float
) -> tuple[Tensor, float, Tensor, Tensor]:
    """Cholesky factor of K + noise, yᵀ K⁻¹ y, and the conditional mean and covariance."""
    check_ndim(1, y=y)
    check_finite(y=y)
    check_nonnegative(noise_variance=noise_variance)
    check_same_length(kernel=kernel, y=y)
    factor = _cholesky(kernel, noise_variance, jitter)
    cross = _cross(test_kernel, kernel)
    check_ndim(2, test_test_kernel=test_test_kernel)
    _check_square(test_test_kernel=test_test_kernel)
    check_same_length(test_kernel=test_kernel, test_test_kernel=test_test_kernel)
    check_finite(test_test_kernel=test_test_kernel)
    whitened = torch.linalg.solve_triangular(factor, y.to(torch.float64)[:, None], upper=False)
    explained = torch.linalg.solve_triangular(factor, cross.T, upper=False)
    mean = (explained.T @ whitened).squeeze(1)
    reduced = test_test_kernel.to(torch.float64) - explained.T @ explained
    return factor, float(whitened.square().sum()), mean, reduced


def _cholesky(kernel: Tensor, ridge: float, jitter: float) -> Tensor:
    check_ndim(2, kernel=kernel)
    _check_square(kernel=kernel)
    check_finite(kernel=kernel)
    check_nonnegative(jitter=jitter)
    matrix = kernel.to(torch.float64)
    added = ridge + jitter * float(matrix.diagonal().mean())
    matrix = matrix + added * torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise ValueError(
            f"kernel must be positive definite once {added:.3g} is added to its diagonal, "
            f"got one that is not from row {int(info)} on; a larger ridge, noise_variance or jitter makes it so."
        )
    result: Tensor = factor
    return result


def _cross(test_kernel: Tensor, kernel: Tensor) -> Tensor:
    check_ndim(2, test_kernel=test_kernel)
    check_finite(test_kernel=test_kernel)
    if test_kernel.shape[1] != kernel.shape[0]:
        raise ValueError(
            "test_kernel must have one column for each training point, "
            f"got shapes test_kernel {tuple(test_kernel.shape)}, kernel {tuple(kernel.shape)}."
        )
    return test_kernel.to(torch.float64)


def _check_floating(**arrays: Tensor) -> None:
    for name, array in arrays.items():
        if not array.is_floating_point():
            raise ValueError(f"{name} must hold floating-point numbers, got {array.dtype}.")


def _check_square(**kernels: Tensor) -> None:
    for name, kernel in kernels.items():
        if kernel.shape[0] != kernel.shape[1]:
            raise ValueError(f"{name} must be square, got shape {tuple(kernel.shape)}.")
