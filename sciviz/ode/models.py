"""Models whose layers are differential equations, each small enough to read.

Everything here is built from two parts: a vector field (`VectorField`) and `solve`. A list of seeds in place of one
makes an *ensemble*: every parameter and every state then has the seeds as its first dimension, all members are computed
by one batched product, and each member is exactly the model that its own seed alone would give. The solver takes a
member for one sample, so each member has its own steps and its own count of evaluations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_nonnegative,
    check_positive,
    check_same_last_dim,
    check_same_shape,
)
from sciviz.ode.solvers import Solution, runge_kutta_step, solve
from sciviz.ode.tableaus import METHODS

__all__ = [
    "Affine",
    "AugmentedNeuralODE",
    "ContinuousFlow",
    "ControlPath",
    "DeepEquilibrium",
    "EquilibriumField",
    "GatedRecurrent",
    "LatentODE",
    "LiquidCell",
    "NeuralCDE",
    "NeuralODE",
    "ResidualStack",
    "SubhomogeneousField",
    "VectorField",
    "anderson",
    "control_path",
    "divergence",
    "integrate_to_steady_state",
    "solve_through",
    "thompson_distance",
]

Seeds = int | Sequence[int]
Func = Callable[[Tensor, Tensor], Tensor]
Map = Callable[[Tensor], Tensor]


# ---------------------------------------------------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------------------------------------------------


def _members(seed: Seeds) -> list[int]:
    seeds = [seed] if isinstance(seed, int) else list(seed)
    if not seeds:
        raise ValueError("seed must be an integer or a non-empty list of integers, got an empty list.")
    for one in seeds:
        check_int(0, seed=one)
    return seeds


def _draw(seed: Seeds, layer: int, *shape: int) -> Tensor:
    """Standard normal numbers, (*shape) or, for a list of seeds, (seeds, *shape); each layer has its own stream."""
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(1009 * one + layer)) for one in _members(seed)]
    return draws[0] if isinstance(seed, int) else torch.stack(draws)


class Affine(nn.Module):
    """y W + b, or one such map for each member of an ensemble.

    Weights are drawn with variance scale² / inputs; the bias starts at zero.

    Parameters
    ----------
    seed
        One seed, or one for each member; inputs are (..., batch, inputs), for an ensemble (members, batch, inputs).
    layer
        Number of the layer in its network: layers of one seed draw different weights.

    >>> Affine(3, 2, seed=[0, 1])(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """

    def __init__(self, num_inputs: int, num_outputs: int, *, seed: Seeds, layer: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        check_int(1, num_inputs=num_inputs, num_outputs=num_outputs)
        check_nonnegative(scale=scale)
        weight = _draw(seed, layer, num_inputs, num_outputs) * (scale / math.sqrt(num_inputs))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(*weight.shape[:-2], 1, num_outputs))

    def forward(self, y: Float[Tensor, "*members batch inputs"]) -> Float[Tensor, "*members batch outputs"]:
        """Return y W + b."""
        if self.weight.ndim == 3 and y.ndim == 3:
            return torch.baddbmm(self.bias, y, self.weight)
        return y @ self.weight + (self.bias if y.ndim > 1 else self.bias[0])


class VectorField(nn.Module):
    """f(t, y): a tanh network, the right-hand side of a neural ODE.

    Parameters
    ----------
    num_features
        Dimension of the state.
    width, depth
        Hidden units and hidden layers.
    seed
        One seed, or one for each member of an ensemble.
    scale
        Factor on all weights: how vigorous the dynamics are.
    time
        Whether f sees t. Without, the field is autonomous.
    num_outputs
        Size of the result, if not `num_features`.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    >>> field = VectorField(2, width=8, seed=0)
    >>> field(0.5, torch.zeros(4, 2)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        num_features: int,
        *,
        width: int = 32,
        depth: int = 1,
        seed: Seeds,
        scale: float = 1.0,
        time: bool = True,
        num_outputs: int | None = None,
    ) -> None:
        super().__init__()
        check_int(1, num_features=num_features, width=width, depth=depth)
        sizes = [num_features + time, *[width] * depth, num_outputs or num_features]
        self.num_features, self.time = num_features, time
        self.layers = nn.ModuleList(
            Affine(a, b, seed=seed, layer=n, scale=scale) for n, (a, b) in enumerate(itertools.pairwise(sizes))
        )

    def _inputs(self, t: Tensor | float, y: Tensor) -> Tensor:
        if y.shape[-1] != self.num_features:
            raise ValueError(f"y must have {self.num_features} features in its last dimension, got {tuple(y.shape)}.")
        if not self.time:
            return y
        t = torch.as_tensor(t, dtype=y.dtype, device=y.device)
        return torch.cat([y, t.expand(*y.shape[:-1], 1)], dim=-1)

    def forward(self, t: Tensor | float, y: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return f(t, y); t is a number, or times that broadcast against y."""
        y = self._inputs(t, y)
        for layer in self.layers[:-1]:
            y = torch.tanh(layer(y))
        out: Tensor = self.layers[-1](y)
        return out

    def with_divergence(self, t: Tensor | float, y: Float[Tensor, "*batch d"]) -> tuple[Tensor, Tensor]:
        """Return f and its trace Σ_i ∂f_i/∂y_i exactly, by carrying all d tangents through the layers.

        About d times the work of f: the way for low dimension. `divergence` does the same for any function.
        """
        d = self.num_features
        y = self._inputs(t, y)
        tangent: Tensor | None = None
        for layer in self.layers:
            assert isinstance(layer, Affine)
            weight = layer.weight
            y = layer(y)
            # Tangents lie beside the batch, (*members, batch * d, width), so that each layer is one product for all.
            if tangent is None:
                tangent = weight[..., :d, :].unsqueeze(-3).expand(*y.shape[:-1], d, weight.shape[-1])
            else:
                tangent = (tangent.flatten(-3, -2) @ weight).view(*y.shape[:-1], d, weight.shape[-1])
            if layer is not self.layers[-1]:
                y = torch.tanh(y)
                tangent = tangent * (1 - y.square()).unsqueeze(-2)
        assert tangent is not None
        return y, tangent.diagonal(dim1=-2, dim2=-1).sum(-1)


def divergence(
    func: Func, t: Tensor | float, y: Float[Tensor, "*batch d"], noise: Float[Tensor, "*batch d"] | None = None
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
    """Return f(t, y) and the trace of ∂f/∂y: exact by d backward passes, or Hutchinson's estimate by one.

    With `noise` of mean zero and unit covariance, E[noise · (∂f/∂y) noise] is the trace [neural-ode-chen, section 4].

    >>> f, trace = divergence(lambda t, y: 3 * y, 0.0, torch.ones(1, 2))
    >>> trace.tolist()
    [6.0]
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = y if y.requires_grad else y.detach().requires_grad_()
        f = func(torch.as_tensor(t, dtype=y.dtype, device=y.device), point)

        def backward(direction: Tensor) -> Tensor:
            (row,) = torch.autograd.grad(f, point, direction, create_graph=keep, retain_graph=True)
            return row

        if noise is not None:
            trace = (backward(noise) * noise).sum(-1)
        else:
            units = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
            trace = sum((backward(unit.expand_as(f))[..., i] for i, unit in enumerate(units)), y.new_zeros(()))
    return (f, trace) if keep else (f.detach(), trace.detach())


# ---------------------------------------------------------------------------------------------------------------------
# From residual stack to neural ODE
# ---------------------------------------------------------------------------------------------------------------------


class ResidualStack(nn.Module):
    """A residual network whose N blocks add a step of size duration/N: y ← y + f(n/N, y)/N.

    Euler's method for y' = f(t, y); as N grows its output tends to the flow, with an error of order 1/N
    [neural-differential-equations, section 1.1].

    >>> stack = ResidualStack(lambda t, y: -y, num_steps=2)
    >>> stack(torch.ones(1, 1)).item()
    0.25
    """

    def __init__(self, func: Func, *, num_steps: int, duration: float = 1.0) -> None:
        super().__init__()
        check_int(1, num_steps=num_steps)
        check_positive(duration=duration)
        self.func, self.num_steps, self.duration = func, num_steps, duration

    def forward(self, y: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return the output of the last block."""
        h = self.duration / self.num_steps
        for n in range(self.num_steps):
            y = y + h * self.func(torch.as_tensor(n * h, dtype=y.dtype, device=y.device), y)
        return y


class NeuralODE(nn.Module):
    """A layer that maps y to the solution of y' = f(t, y) after `duration` [neural-ode-chen].

    Parameters
    ----------
    func
        (t, y) → dy/dt, usually a `VectorField`; any function of the user's own.
    duration
        Integration time.
    settings
        Passed to `solve`: method, rtol, atol, num_steps, gradient, ….

    >>> layer = NeuralODE(lambda t, y: -y, rtol=1e-6, atol=1e-8)
    >>> round(layer(torch.ones(1, 1, dtype=torch.float64)).item(), 5)
    0.36788
    """

    def __init__(self, func: Func, *, duration: float = 1.0, **settings: Any) -> None:
        super().__init__()
        check_positive(duration=duration)
        self.func, self.duration, self.settings = func, duration, settings

    def integrate(self, y: Tensor, t: Float[Tensor, " times"] | None = None, **more: Any) -> Solution:
        """Return the whole `Solution`, at the times `t` (start and end if None): its counters say what it cost."""
        if t is None:
            t = torch.tensor([0.0, self.duration], dtype=torch.float64, device=y.device)
        return solve(self.func, y, t, **(self.settings | more))

    def forward(self, y: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Return the state at the end."""
        end = self.integrate(y).y_end
        assert isinstance(end, Tensor)
        return end


class AugmentedNeuralODE(NeuralODE):
    """A neural ODE in a larger space: `num_extra` zeros are appended to the state, so that trajectories can pass.

    The flow of a neural ODE is a homeomorphism: in d dimensions it cannot turn a ball and the shell around it into
    sets that a plane separates, nor swap two points of a line. In d + 1 dimensions it can.

    >>> AugmentedNeuralODE(VectorField(3, seed=0), num_extra=1)(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(self, func: Func, *, num_extra: int, duration: float = 1.0, **settings: Any) -> None:
        check_int(1, num_extra=num_extra)
        super().__init__(func, duration=duration, **settings)
        self.num_extra = num_extra

    def integrate(self, y: Tensor, t: Float[Tensor, " times"] | None = None, **more: Any) -> Solution:
        """Return the whole `Solution` in the larger space."""
        return super().integrate(torch.cat([y, y.new_zeros(*y.shape[:-1], self.num_extra)], dim=-1), t, **more)


# ---------------------------------------------------------------------------------------------------------------------
# Continuous normalising flow
# ---------------------------------------------------------------------------------------------------------------------


class ContinuousFlow(nn.Module):
    """A density p(x): standard normal at time 0, carried to x at time `duration` by y' = f(t, y).

    Along a trajectory d log p / dt = -tr ∂f/∂y [neural-ode-chen, theorem 1]; `log_prob` integrates both backward.

    Parameters
    ----------
    func
        (t, y) → dy/dt. One with a method `with_divergence`, as `VectorField` has, is asked for its trace.
    num_features
        Dimension of x.
    trace
        "exact", for low dimension, or "hutchinson": one random projection a sample, the same along the trajectory.
    settings
        Passed to `solve`.

    >>> flow = ContinuousFlow(lambda t, y: 0 * y, num_features=2)
    >>> round(flow.log_prob(torch.zeros(1, 2)).item(), 4)
    -1.8379
    """

    def __init__(
        self, func: Func, *, num_features: int, duration: float = 1.0, trace: str = "exact", **settings: Any
    ) -> None:
        super().__init__()
        check_choice(["exact", "hutchinson"], trace=trace)
        check_int(1, num_features=num_features)
        check_positive(duration=duration)
        self.func, self.num_features, self.duration = func, num_features, duration
        self.trace, self.settings = trace, settings

    def log_prob(
        self, x: Float[Tensor, "*members batch d"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*members batch"]:
        """Return log p(x). The Hutchinson trace draws its signs from `generator` and is unbiased.

        Raises
        ------
        ValueError
            If x has another number of features, or the random trace is to be used without a generator.
        """
        if x.shape[-1] != self.num_features:
            raise ValueError(f"x must have {self.num_features} features in its last dimension, got {tuple(x.shape)}.")
        noise: Tensor | None = None
        if self.trace == "hutchinson":
            if generator is None:
                raise ValueError('generator is needed for trace="hutchinson", got None.')
            noise = torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1

        exact: Any = getattr(self.func, "with_divergence", None) if noise is None else None

        def rate(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            f, trace = divergence(self.func, t, state[0], noise) if exact is None else exact(t, state[0])
            return f, -trace

        # compact=False: the random signs belong to the whole batch.
        t = torch.tensor([self.duration, 0.0], dtype=torch.float64, device=x.device)
        start = (x, x.new_zeros(x.shape[:-1]))
        settings = self.settings | ({"params": list(self.parameters())} if self.settings.get("gradient") else {})
        end: Any = solve(rate, start, t, compact=False, **settings).y_end
        z, gained = end
        log_density: Tensor = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - gained
        return log_density

    def sample(self, num_samples: int, *, generator: torch.Generator, t: Tensor | None = None) -> Tensor:
        """Draw x, (samples, d); with times `t` (from 0 to `duration`), the whole way there, (times, samples, d)."""
        check_int(1, num_samples=num_samples)
        z = torch.randn(num_samples, self.num_features, generator=generator)
        path = t if t is not None else torch.tensor([0.0, self.duration], dtype=torch.float64)
        with torch.no_grad():
            y = solve(self.func, z, path, **self.settings).y
        assert isinstance(y, Tensor)
        return y if t is not None else y[-1]


# ---------------------------------------------------------------------------------------------------------------------
# Irregular series
# ---------------------------------------------------------------------------------------------------------------------


def solve_through(
    func: Func, z0: Float[Tensor, "*batch hidden"], times: Float[Tensor, "*batch times"], **settings: Any
) -> Float[Tensor, "*batch times hidden"]:
    """Solve z' = f(t, z) from each sample's first time through its own other times.

    Between two of its times each sample has its own clock s from 0 to 1, with dz/ds = (t₁ - t₀) f(t₀ + s (t₁ - t₀), z),
    so that one call of the solver serves a batch whose times all differ. `settings` go to `solve` (one RK4 step for
    each gap if there are none).

    >>> times = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    >>> solve_through(lambda t, z: torch.ones_like(z), torch.zeros(2, 1), times)[:, -1, 0].tolist()
    [1.0, 2.0]
    """
    settings = {"method": "rk4"} | settings
    clock = torch.tensor([0.0, 1.0], dtype=z0.dtype, device=z0.device)
    states, z = [z0], z0
    for k in range(times.shape[-1] - 1):
        start, gap = times[..., k, None], (times[..., k + 1] - times[..., k])[..., None]

        def on_clock(s: Tensor, z: Tensor, start: Tensor = start, gap: Tensor = gap) -> Tensor:
            return gap * func(start + s * gap, z)

        end = solve(on_clock, z, clock, compact=False, **settings).y_end
        assert isinstance(end, Tensor)
        z = end
        states.append(z)
    return torch.stack(states, dim=-2)


class _GRUCell(nn.Module):
    def __init__(self, num_inputs: int, width: int, *, seed: Seeds, layer: int) -> None:
        super().__init__()
        self.inputs = Affine(num_inputs, 3 * width, seed=seed, layer=layer)
        self.states = Affine(width, 3 * width, seed=seed, layer=layer + 1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        from_x, from_h = self.inputs(x).chunk(3, dim=-1), self.states(h).chunk(3, dim=-1)
        reset, keep = torch.sigmoid(from_x[0] + from_h[0]), torch.sigmoid(from_x[1] + from_h[1])
        return torch.lerp(torch.tanh(from_x[2] + reset * from_h[2]), h, keep)


def _tokens(times: Tensor, X: Tensor, visible: Tensor) -> Tensor:
    """What a recurrent net reads at each time: visible values, their mask, and the gap since the last time."""
    gaps = torch.cat([times[..., :1], times.diff(dim=-1)], dim=-1)
    seen = visible.to(X.dtype)
    return torch.cat([torch.where(visible, X, torch.zeros_like(X)), seen, gaps.unsqueeze(-1)], dim=-1)


class GatedRecurrent(nn.Module):
    """The honest baseline: a gated recurrent unit that reads values, masks and time gaps, and predicts at every time.

    It reads in order; where nothing is visible it runs on the gaps alone.

    >>> model = GatedRecurrent(2, width=8, seed=0)
    >>> times = torch.linspace(0, 1, 5).expand(3, 5)
    >>> model(times, torch.zeros(3, 5, 2), torch.ones(3, 5, 2, dtype=torch.bool)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, num_features: int, *, width: int = 32, seed: Seeds) -> None:
        super().__init__()
        check_int(1, num_features=num_features, width=width)
        self.width = width
        self.cell = _GRUCell(2 * num_features + 1, width, seed=seed, layer=10)
        self.readout = Affine(width, num_features, seed=seed, layer=12)

    def forward(
        self,
        times: Float[Tensor, "*batch times"],
        X: Float[Tensor, "*batch times d"],
        visible: Bool[Tensor, "*batch times d"],
    ) -> Float[Tensor, "*batch times d"]:
        """Return predictions at every time, each from what was visible up to then."""
        check_same_shape(X=X, visible=visible)
        h = X.new_zeros(*X.shape[:-2], self.width)
        out = []
        for token in _tokens(times, X, visible).unbind(-2):
            h = self.cell(token, h)
            out.append(self.readout(h))
        return torch.stack(out, dim=-2)


class LatentODE(nn.Module):
    """A latent trajectory behind an irregular series: encode what is visible, solve z' = f(t, z), decode anywhere.

    A gated recurrent unit reads the visible observations backward in time and gives mean and variance of z at the first
    time; a neural ODE carries z through all times, and a small network decodes it [neural-ode-chen, section 5].

    Parameters
    ----------
    num_features
        Observed variables.
    num_latent, width
        Dimension of z; width of encoder, field and decoder.
    settings
        Passed to `solve` for each gap between two times.

    >>> model = LatentODE(2, num_latent=4, width=8, seed=0)
    >>> times = torch.linspace(0, 1, 5).expand(3, 5)
    >>> model(times, torch.zeros(3, 5, 2), torch.ones(3, 5, 2, dtype=torch.bool)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(
        self, num_features: int, *, num_latent: int = 6, width: int = 32, time: bool = True, seed: Seeds,
        **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        check_int(1, num_features=num_features, num_latent=num_latent, width=width)
        self.width, self.num_latent, self.settings = width, num_latent, settings
        self.cell = _GRUCell(2 * num_features + 1, width, seed=seed, layer=20)
        self.to_latent = Affine(width, 2 * num_latent, seed=seed, layer=22)
        self.field = VectorField(num_latent, width=width, seed=seed, time=time)
        self.decoder = VectorField(num_latent, width=width, seed=seed, time=False, num_outputs=num_features)

    def encode(self, times: Tensor, X: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latent state at the first time, (*batch, latent) each."""
        check_same_shape(X=X, visible=visible)
        h = X.new_zeros(*X.shape[:-2], self.width)
        for token in reversed(_tokens(times, X, visible).unbind(-2)):
            # A time at which nothing is visible must not tell the encoder that it exists.
            known = (token[..., X.shape[-1] : -1].sum(-1, keepdim=True) > 0).to(X.dtype)
            h = torch.lerp(h, self.cell(token, h), known)
        mean, log_variance = self.to_latent(h).chunk(2, dim=-1)
        return mean, log_variance - 4

    def decode(self, times: Float[Tensor, "*batch times"], z0: Float[Tensor, "*batch latent"]) -> Tensor:
        """Carry the latent state through the times and decode it there."""
        z = solve_through(self.field, z0, times, **self.settings)
        flat = z.flatten(-3, -2)
        decoded: Tensor = self.decoder(0.0, flat)
        return decoded.reshape(*z.shape[:-1], decoded.shape[-1])

    def forward(
        self,
        times: Float[Tensor, "*batch times"],
        X: Float[Tensor, "*batch times d"],
        visible: Bool[Tensor, "*batch times d"],
    ) -> Float[Tensor, "*batch times d"]:
        """Return the decoded trajectory of the mean latent state at every time."""
        return self.decode(times, self.encode(times, X, visible)[0])

    def loss(
        self, times: Tensor, X: Tensor, visible: Tensor, scored: Tensor, *, noise: float, generator: torch.Generator
    ) -> Float[Tensor, "*members"]:
        """Return the negative evidence bound, for each entry of `scored`: misfit in units of `noise`, and KL."""
        check_positive(noise=noise)
        mean, log_variance = self.encode(times, X, visible)
        draw = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        predicted = self.decode(times, mean + (0.5 * log_variance).exp() * draw)
        misfit = torch.where(scored, (predicted - X) / noise, torch.zeros_like(X)).square().sum((-3, -2, -1)) / 2
        surprise = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((-2, -1))
        return (misfit + surprise) / scored.sum((-3, -2, -1))


@dataclass(frozen=True)
class ControlPath:
    """A continuous path through irregular observations, by pieces: what drives a controlled equation.

    Attributes
    ----------
    knots
        Values at the ends of the pieces, (*batch, knots, channels); the first channel is time.
    slopes
        For a cubic path, the derivative at the start of each piece in units of the piece, (*batch, pieces, channels);
        None for a linear one.
    observation
        For each observation, the number of its knot.
    """

    knots: Float[Tensor, "*batch knots channels"]
    slopes: Float[Tensor, "*batch pieces channels"] | None
    observation: tuple[int, ...]

    def derivative(self, piece: int, s: Tensor | float) -> Float[Tensor, "*batch channels"]:
        """Return dx/ds in the piece, s from 0 to 1."""
        rise = self.knots[..., piece + 1, :] - self.knots[..., piece, :]
        if self.slopes is None:
            return rise
        # The slope at the end of a piece is its own mean slope, hence continuous, and only one observation is awaited.
        start = self.slopes[..., piece, :]
        return (6 * s - 6 * s**2 + 3 * s**2 - 2 * s) * rise + (3 * s**2 - 4 * s + 1) * start

    def __call__(self, piece: int, s: Tensor | float) -> Float[Tensor, "*batch channels"]:
        """Return x in the piece, s from 0 to 1."""
        left, right = self.knots[..., piece, :], self.knots[..., piece + 1, :]
        if self.slopes is None:
            return left + s * (right - left)
        bend = s * (1 - s) ** 2 * self.slopes[..., piece, :] - s**2 * (1 - s) * (right - left)
        return left + (3 * s**2 - 2 * s**3) * (right - left) + bend


def control_path(
    times: Float[Tensor, "*batch times"],
    X: Float[Tensor, "*batch times d"],
    visible: Bool[Tensor, "*batch times d"] | None = None,
    *,
    kind: str = "hermite",
) -> ControlPath:
    """Join irregular observations, some of them missing, to a path with time as its first channel.

    Parameters
    ----------
    times, X, visible
        Increasing times, values, and which of them count (all if None); beyond the last visible value a channel stays
        constant, and a channel of which nothing is visible is zero.
    kind
        "linear" and "hermite" (cubic, with backward differences) fill gaps by straight lines and so look ahead to the
        next value; "rectilinear" first lets time pass and then jumps to the new value: it never looks ahead.

    Raises
    ------
    ValueError
        If `kind` is unknown, shapes do not fit, or a visible value is not finite.

    >>> path = control_path(torch.tensor([[0.0, 2.0]]), torch.tensor([[[1.0], [5.0]]]), kind="linear")
    >>> path.derivative(0, 0.5).tolist()
    [[2.0, 4.0]]
    """
    check_choice(["linear", "rectilinear", "hermite"], kind=kind)
    if times.shape != X.shape[:-1]:
        shapes = f"{tuple(times.shape)} for {tuple(X.shape)}"
        raise ValueError(f"times must have one entry for each observation of X, got shapes {shapes}.")
    visible = torch.ones_like(X, dtype=torch.bool) if visible is None else visible
    check_same_shape(X=X, visible=visible)
    X = torch.where(visible, X, torch.zeros_like(X))
    check_finite(X=X, times=times)
    count = X.shape[-2]
    place = torch.arange(count, device=X.device).unsqueeze(-1).expand(X.shape)
    before = torch.where(visible, place, -1).cummax(dim=-2).values
    after = torch.where(visible, place, count).flip(-2).cummin(dim=-2).values.flip(-2)
    clock = times.unsqueeze(-1)
    if kind == "rectilinear":
        filled = torch.where(before >= 0, X.gather(-2, before.clamp(min=0)), torch.zeros_like(X))
        both = torch.cat([clock, filled], dim=-1)
        waiting = torch.cat([clock[..., 1:, :], filled[..., :-1, :]], dim=-1)
        knots = torch.stack([both[..., :-1, :], waiting], dim=-2).flatten(-3, -2)
        return ControlPath(torch.cat([knots, both[..., -1:, :]], dim=-2), None, tuple(range(0, 2 * count - 1, 2)))
    before, after = torch.where(before < 0, after, before), torch.where(after >= count, before, after)
    before, after = before.clamp(max=count - 1), after.clamp(min=0)
    wide = clock.expand(X.shape)
    start, end = wide.gather(-2, before), wide.gather(-2, after)
    share = torch.where(end > start, (wide - start) / (end - start).clamp(min=1e-12), torch.zeros_like(wide))
    knots = torch.cat([clock, torch.lerp(X.gather(-2, before), X.gather(-2, after), share)], dim=-1)
    if kind == "linear":
        return ControlPath(knots, None, tuple(range(count)))
    rise, gap = knots.diff(dim=-2), times.diff(dim=-1).unsqueeze(-1).clamp(min=1e-12)
    slope = rise / gap
    start_slope = torch.cat([slope[..., :1, :], slope[..., :-1, :]], dim=-2)
    return ControlPath(knots, start_slope * gap, tuple(range(count)))


class NeuralCDE(nn.Module):
    """A neural controlled differential equation dz = F(z) dx, driven by the path through the data, read out anywhere.

    F maps the state to a matrix (hidden by channels) that acts on dx/ds; the result depends on the path alone, not on
    how fast its parameter s runs, hence one unit of s for each piece [neural-differential-equations, chapter 3].

    Parameters
    ----------
    num_features, num_hidden, width
        Observed variables; dimension of z; width of the networks.
    kind
        Of `control_path`.
    settings
        Passed to `solve` for each piece (one RK4 step if there are none).

    >>> model = NeuralCDE(2, num_hidden=4, width=8, seed=0)
    >>> times = torch.linspace(0, 1, 5).expand(3, 5)
    >>> model(times, torch.zeros(3, 5, 2), torch.ones(3, 5, 2, dtype=torch.bool)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(
        self,
        num_features: int,
        *,
        num_hidden: int = 8,
        width: int = 32,
        num_outputs: int | None = None,
        kind: str = "hermite",
        seed: Seeds,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_int(1, num_features=num_features, num_hidden=num_hidden, width=width)
        check_choice(["linear", "rectilinear", "hermite"], kind=kind)
        self.num_hidden, self.num_channels = num_hidden, num_features + 1
        self.kind, self.settings = kind, {"method": "rk4"} | settings
        self.first = Affine(num_features + 1, num_hidden, seed=seed, layer=30)
        self.field = VectorField(
            num_hidden, width=width, seed=seed, time=False, num_outputs=num_hidden * self.num_channels
        )  # fmt: skip
        self.readout = Affine(num_hidden, num_outputs or num_features, seed=seed, layer=31)

    def forward(
        self,
        times: Float[Tensor, "*batch times"],
        X: Float[Tensor, "*batch times d"],
        visible: Bool[Tensor, "*batch times d"] | None = None,
    ) -> Float[Tensor, "*batch times outputs"]:
        """Return the readout at every time."""
        return self.follow(control_path(times, X, visible, kind=self.kind))

    def follow(self, path: ControlPath) -> Float[Tensor, "*batch times outputs"]:
        """Return the readout at the observations of a path that has been made already."""
        z = self.first(path.knots[..., 0, :])
        clock = torch.tensor([0.0, 1.0], dtype=z.dtype, device=z.device)
        states = [z]
        for piece in range(path.knots.shape[-2] - 1):

            def rate(s: Tensor, z: Tensor, piece: int = piece) -> Tensor:
                matrix: Tensor = torch.tanh(self.field(0.0, z)).view(*z.shape, self.num_channels)
                return (matrix * path.derivative(piece, s).unsqueeze(-2)).sum(-1)

            end = solve(rate, z, clock, compact=False, **self.settings).y_end
            assert isinstance(end, Tensor)
            z = end
            states.append(z)
        return torch.stack([self.readout(states[k]) for k in path.observation], dim=-2)


# ---------------------------------------------------------------------------------------------------------------------
# Liquid time-constant cells
# ---------------------------------------------------------------------------------------------------------------------


class LiquidCell(nn.Module):
    """Liquid time-constant cells: x' = -x/τ + f(x, I) (A - x) with a gate f ≥ 0 [liquid-time-constant, eq. 1].

    The gate is both the drive towards A and a leak, so that the time constant τ/(1 + τ f) follows the input, and the
    state never leaves [min(0, A), max(0, A)]. One step of the fused solver [liquid-time-constant, algorithm 1],

        x ← (x + h f A) / (1 + h (1/τ + f)),

    keeps that bound for every step size; explicit Euler does not.

    Parameters
    ----------
    num_inputs, width
        Sizes of input and state.
    gate
        "sigmoid" (between 0 and 1) or "relu" (unbounded).
    amplitude
        A is drawn normal with this standard deviation.
    tau
        Time constant without input, in units of time.
    seed
        One seed, or one for each member of an ensemble.

    >>> cell = LiquidCell(1, width=4, seed=0)
    >>> x = cell(torch.full((10, 2, 1), 1e6), dt=0.1)
    >>> x.shape, bool((x.abs() <= cell.amplitude.abs() + 1e-6).all())
    (torch.Size([10, 2, 4]), True)
    """

    def __init__(
        self,
        num_inputs: int,
        *,
        width: int = 32,
        gate: str = "sigmoid",
        amplitude: float = 1.0,
        tau: float = 1.0,
        scale: float = 1.0,
        seed: Seeds,
    ) -> None:
        super().__init__()
        check_choice(["sigmoid", "relu"], gate=gate)
        check_positive(tau=tau, amplitude=amplitude)
        self.width, self.tau, self.gate_kind = width, tau, gate
        self.inputs = Affine(num_inputs, width, seed=seed, layer=40, scale=scale)
        self.states = Affine(width, width, seed=seed, layer=41, scale=scale)
        self.amplitude = nn.Parameter(amplitude * _draw(seed, 42, 1, width))

    def gate(self, x: Float[Tensor, "*batch width"], inputs: Float[Tensor, "*batch inputs"]) -> Tensor:
        """Return f(x, I) ≥ 0."""
        total: Tensor = self.inputs(inputs) + self.states(x)
        return torch.sigmoid(total) if self.gate_kind == "sigmoid" else torch.relu(total)

    def rate(self, x: Tensor, inputs: Tensor) -> Tensor:
        """Return dx/dt, for any solver."""
        gate = self.gate(x, inputs)
        return -x / self.tau + gate * (self.amplitude - x)

    def fused_step(self, x: Tensor, inputs: Tensor, dt: float) -> Tensor:
        """Return x after one step of size `dt` of the fused (semi-implicit) solver."""
        gate = self.gate(x, inputs)
        return (x + dt * gate * self.amplitude) / (1 + dt * (1 / self.tau + gate))

    def time_constant(self, x: Tensor, inputs: Tensor) -> Tensor:
        """Return the effective time constant τ/(1 + τ f)."""
        return self.tau / (1 + self.tau * self.gate(x, inputs))

    def forward(
        self,
        inputs: Float[Tensor, "times *batch inputs"],
        *,
        dt: float,
        solver: str = "fused",
        x0: Float[Tensor, "*batch width"] | None = None,
    ) -> Float[Tensor, "times *batch width"]:
        """Return the states after each input; `solver` "fused" or "euler"."""
        check_positive(dt=dt)
        check_choice(["fused", "euler"], solver=solver)
        x = inputs.new_zeros(*inputs.shape[1:-1], self.width) if x0 is None else x0
        out = []
        for now in inputs:
            x = self.fused_step(x, now, dt) if solver == "fused" else x + dt * self.rate(x, now)
            out.append(x)
        return torch.stack(out)


# ---------------------------------------------------------------------------------------------------------------------
# Equilibria
# ---------------------------------------------------------------------------------------------------------------------


class Bindable(Protocol):
    """What an equilibrium layer needs: given the input x, the map z → g(z, x) whose fixed point is wanted."""

    def bind(self, x: Tensor) -> Map:
        """Return z → g(z, x)."""
        ...


class EquilibriumField(nn.Module):
    """g(z, x) = tanh(z W + x U + b) with the largest singular value of W held at `norm`.

    Below 1 the map contracts, so that it has one fixed point and z' = g(z, x) - z one steady state, which attracts all.

    >>> field = EquilibriumField(3, width=4, norm=0.8, seed=0)
    >>> round(torch.linalg.matrix_norm(field.weight(), 2).item(), 4)
    0.8
    """

    def __init__(self, num_inputs: int, *, width: int = 32, norm: float = 0.8, seed: Seeds) -> None:
        super().__init__()
        check_positive(norm=norm)
        self.width, self.norm = width, norm
        self.inputs = Affine(num_inputs, width, seed=seed, layer=50)
        self.raw = nn.Parameter(_draw(seed, 51, width, width) / math.sqrt(width))

    def weight(self) -> Float[Tensor, "*members width width"]:
        """Return W."""
        largest: Tensor = torch.linalg.matrix_norm(self.raw, 2)
        return self.norm * self.raw / largest.unsqueeze(-1).unsqueeze(-1)

    def bind(self, x: Float[Tensor, "*batch inputs"]) -> Map:
        """Return z → g(z, x); what does not depend on z is computed once."""
        drive, weight = self.inputs(x), self.weight()
        if drive.ndim == 3 and weight.ndim == 3:
            return lambda z: torch.tanh(torch.baddbmm(drive, z, weight))
        return lambda z: torch.tanh(drive + z @ weight)


class SubhomogeneousField(nn.Module):
    """g(z, x) = (z W + x U + b)^μ with no negative entry anywhere: contracts in Thompson's metric, whatever W's norm.

    The power μ < 1 grows more slowly than scaling, so that d(g(z), g(z')) ≤ μ d(z, z'): one positive fixed point,
    reached from every positive start [subdeq, theorem 4.1].

    Parameters
    ----------
    num_inputs, width
        Sizes; the inputs must be non-negative.
    mu
        Degree of subhomogeneity, below 1.
    norm
        Largest singular value of W.
    activation
        "power", or "tanh" for an ordinary layer with the same |W|; with `signed=True` weights keep their signs and the
        guarantee is lost.

    >>> field = SubhomogeneousField(2, width=4, mu=0.5, norm=1000.0, seed=0)
    >>> g = field.bind(torch.ones(1, 2))
    >>> low, high = torch.full((1, 4), 1e-3), torch.full((1, 4), 1e3)
    >>> bool(thompson_distance(g(low), g(high)) <= 0.5 * thompson_distance(low, high))
    True
    """

    def __init__(
        self,
        num_inputs: int,
        *,
        width: int = 32,
        mu: float = 0.5,
        norm: float = 1.0,
        activation: str = "power",
        signed: bool = False,
        seed: Seeds,
    ) -> None:
        super().__init__()
        check_positive(mu=mu, norm=norm)
        check_choice(["power", "tanh"], activation=activation)
        if mu > 1:
            raise ValueError(f"mu must be at most 1, got {mu!r}.")
        self.mu, self.norm, self.activation, self.signed = mu, norm, activation, signed
        self.inputs = nn.Parameter(_draw(seed, 60, num_inputs, width) / math.sqrt(num_inputs))
        self.raw = nn.Parameter(_draw(seed, 61, width, width) / math.sqrt(width))

    def bind(self, x: Float[Tensor, "*batch inputs"]) -> Map:
        """Return z → g(z, x).

        Raises
        ------
        ValueError
            If an input is negative, which the guarantee does not allow.
        """
        if not self.signed and bool((x < 0).any()):
            raise ValueError(f"x must not be negative, got {float(x.min()):g}.")
        raw, inputs = (self.raw, self.inputs) if self.signed else (self.raw.abs(), self.inputs.abs())
        weight = self.norm * raw / torch.linalg.matrix_norm(raw, 2).unsqueeze(-1).unsqueeze(-1)
        drive = x @ inputs
        if self.activation == "tanh":
            return lambda z: torch.tanh(z @ weight + drive)
        return lambda z: (z @ weight + drive) ** self.mu


def thompson_distance(a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Return Thompson's metric max_i |log a_i - log b_i| between positive vectors: how many e-foldings they differ by.

    Raises
    ------
    ValueError
        If an entry is not positive, or the last dimensions differ.

    >>> round(thompson_distance(torch.tensor([1.0, 1.0]), torch.tensor([1.0, math.e])).item(), 6)
    1.0
    """
    check_same_last_dim(a=a, b=b)
    for name, value in (("a", a), ("b", b)):
        if not bool((value > 0).all()):
            raise ValueError(f"{name} must be positive in every entry, got {float(value.min()):g}.")
    return (a.log() - b.log()).abs().amax(-1)


def anderson(
    g: Map, z0: Float[Tensor, "*batch d"], *, tol: float = 1e-6, memory: int = 5, max_iterations: int = 200
) -> tuple[Float[Tensor, "*batch d"], int]:
    """Find z = g(z) by Anderson acceleration: the best combination of the last few values of g.

    With `memory` = 1 it is the plain iteration z ← g(z). Stops when the largest ‖g(z) - z‖ / ‖g(z)‖ of the batch is at
    most `tol`; returns the fixed point and the number of evaluations of g.

    Raises
    ------
    RuntimeError
        If that does not happen within `max_iterations`, or the iteration leaves the finite numbers.

    >>> z, evaluations = anderson(torch.cos, torch.zeros(1, 1, dtype=torch.float64), tol=1e-9)
    >>> round(z.item(), 6), evaluations < 20
    (0.739085, True)
    """
    check_positive(tol=tol)
    check_int(1, memory=memory, max_iterations=max_iterations)
    points: list[Tensor] = []
    images: list[Tensor] = []
    z, gap = z0, math.inf
    for n in range(1, max_iterations + 1):
        image = g(z)
        gap = float(((image - z).norm(dim=-1) / image.norm(dim=-1).clamp(min=1e-12)).amax()) if z.numel() else 0.0
        if gap <= tol:
            return image, n
        if not math.isfinite(gap):
            raise RuntimeError(f"The fixed-point iteration left the finite numbers after {n} evaluations.")
        points, images = [*points, z][-memory:], [*images, image][-memory:]
        z = image
        if len(points) > 1:
            # Weights that sum to one and make Σ weights (g(z) - z) shortest, sample by sample.
            residuals = torch.stack([f - p for p, f in zip(points, images, strict=True)], dim=-2)
            gram = residuals @ residuals.mT
            size = gram.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-30)
            eye = torch.eye(len(points), dtype=z.dtype, device=z.device)
            # A ridge at the level of rounding: near the end all residuals point the same way.
            ridge = 4e3 * torch.finfo(z.dtype).eps if z.dtype == torch.float64 else 1e-5
            gram = gram / size[..., None, None] + ridge * eye
            weights = torch.linalg.solve(gram, torch.ones_like(gram[..., :1]))
            weights = weights / weights.sum(-2, keepdim=True)
            z = (weights * torch.stack(images, dim=-2)).sum(-2)
    raise RuntimeError(
        f"The fixed-point iteration did not reach tol={tol:g} within {max_iterations} evaluations (gap {gap:.1e}): "
        "the map may not contract."
    )


def integrate_to_steady_state(
    f: Map, z0: Float[Tensor, "*batch d"], *, tol: float = 1e-5, method: str = "bosh3", max_num_steps: int = 1000
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Integrate z' = f(z) until nothing moves: ‖f‖ / ‖z‖ of every sample is at most `tol`.

    Each sample takes its own steps. Accuracy on the way does not matter, only the end does: the error of a step may be
    a tenth of how far it moves, whatever `tol` is. Returns the states, and each sample's evaluations of f and time.

    Raises
    ------
    RuntimeError
        If there is no steady state within `max_num_steps` steps.

    >>> z, evaluations, time = integrate_to_steady_state(lambda z: 1 - z, torch.zeros(1, 1))
    >>> abs(z.item() - 1) < 1e-4
    True
    """
    check_positive(tol=tol)
    check_int(1, max_num_steps=max_num_steps)
    pair = METHODS[method]
    if pair.error is None:
        raise ValueError(f"method must have an error estimate, got {method!r}.")

    def length(values: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        return norms

    z, slope = z0, f(z0)
    t = torch.zeros_like(z[..., :1])
    h, evaluations = torch.full_like(t, 0.1), torch.ones_like(t)
    for _ in range(max_num_steps):
        moving = length(slope) > tol * length(z).clamp(min=1e-6)
        if not bool(moving.any()):
            return z, evaluations.squeeze(-1), t.squeeze(-1)
        known = [slope]

        def rate(_: Tensor, y: Tensor, known: list[Tensor] = known) -> Tensor:
            return known.pop() if known else f(y)

        z_next, k = runge_kutta_step(rate, torch.zeros(()), z, h, pair)
        evaluations = evaluations + pair.evaluations_per_step * moving
        difference = h * sum((e * stage for e, stage in zip(pair.error, k, strict=True)), torch.zeros_like(z))
        error = (length(difference) / (0.1 * length(z_next - z)).clamp(min=1e-30)).nan_to_num(nan=1e9, posinf=1e9)
        accept = moving & (error <= 1)
        z, slope = torch.where(accept, z_next, z), torch.where(accept, k[-1], slope)
        t = t + h * accept
        h = h * (0.9 * error.clamp(min=1e-10) ** (-1 / pair.error_order)).clamp(0.2, 4.0)
    raise RuntimeError(
        f"No steady state within {max_num_steps} steps (t = {float(t.max()):.3g}): the system may cycle or diverge."
    )


class DeepEquilibrium(nn.Module):
    """A layer that returns the fixed point z* = g(z*, x): a residual stack, or neural ODE, of infinite depth.

    Backward it never looks at how z* was found: the implicit function theorem gives the gradient as the solution of
    u = v + (∂g/∂z)ᵀ u, found by the same iteration [continuous-deq, section 3.1].

    Parameters
    ----------
    field
        Has `bind(x)` → (z → g(z, x)), as `EquilibriumField`.
    width
        Dimension of z.
    solver
        "anderson", "plain" (z ← g(z)), or "ode": z' = g(z, x) - z is integrated to its steady state.
    tol, max_iterations
        Relative residual at which both the forward and the backward iteration stop; when to give up.

    Attributes
    ----------
    evaluations, vjps
        Evaluations of g that the last forward pass needed, sample by sample; vector-Jacobian products of the last
        backward pass.

    Raises
    ------
    RuntimeError
        If an iteration does not converge.

    >>> layer = DeepEquilibrium(EquilibriumField(3, width=4, seed=0), width=4)
    >>> layer(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self, field: Bindable, *, width: int, solver: str = "anderson", tol: float = 1e-5, max_iterations: int = 300
    ) -> None:
        super().__init__()
        check_choice(["anderson", "plain", "ode"], solver=solver)
        check_positive(tol=tol)
        check_int(1, width=width, max_iterations=max_iterations)
        self.field, self.width, self.solver = field, width, solver
        self.tol, self.max_iterations = tol, max_iterations
        self.evaluations, self.vjps = torch.zeros(()), 0

    def forward(
        self, x: Float[Tensor, "*batch inputs"], z0: Float[Tensor, "*batch width"] | None = None
    ) -> Float[Tensor, "*batch width"]:
        """Return the equilibrium; `z0` is the first guess (zero if None) and gets no gradient."""
        g = self.field.bind(x)
        with torch.no_grad():
            start = x.new_zeros(*x.shape[:-1], self.width) if z0 is None else z0.detach()
            z = self._solve(g, start)
        if not torch.is_grad_enabled():
            return z
        # One evaluation with a graph; its backward is replaced by the solution of the linear system.
        z = g(z)
        if not z.requires_grad:
            return z
        point = z.detach().requires_grad_()
        image = g(point)
        memory = 1 if self.solver == "plain" else 5

        def implicit(v: Tensor) -> Tensor:
            def step(u: Tensor) -> Tensor:
                return v + torch.autograd.grad(image, point, u, retain_graph=True)[0]

            if not bool(v.any()):
                return v
            u, self.vjps = anderson(step, v, tol=self.tol, memory=memory, max_iterations=self.max_iterations)
            return u

        z.register_hook(implicit)  # type: ignore[no-untyped-call]
        return z

    def _solve(self, g: Map, start: Tensor) -> Tensor:
        if self.solver == "ode":
            z, self.evaluations, _ = integrate_to_steady_state(lambda z: g(z) - z, start, tol=self.tol)
            return z
        memory = 1 if self.solver == "plain" else 5
        z, count = anderson(g, start, tol=self.tol, memory=memory, max_iterations=self.max_iterations)
        self.evaluations = torch.full(start.shape[:-1], float(count))
        return z
