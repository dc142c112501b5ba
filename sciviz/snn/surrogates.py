"""Surrogate gradients: what backpropagation uses in place of the slope of a spike, which is zero almost everywhere.

A neuron fires where its membrane u reaches its threshold θ: s = H(x), with x = u − θ and H the step function. H has no
useful slope. A surrogate keeps the step in the forward pass and replaces its slope, in the backward pass, by the slope of
a smooth step that rises from 0 to 1 around x = 0:

    forward  s = H(x)         backward  ds/dx := p′(x)

The smooth step p itself is at hand too (`Surrogate.smooth`). A network that fires by p instead of H is differentiable, and
its exact gradient is what the surrogate rule computes: that is how the rule is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_finite, check_positive, check_same_shape

Curve = Callable[[Tensor, float], Tensor]


def _normal_step(x: Tensor, k: float) -> Tensor:
    step: Tensor = torch.special.ndtr(k * x)
    return step


def _exponential_step(x: Tensor, k: float) -> Tensor:
    tail = 0.5 * torch.exp(-k * x.abs())
    return torch.where(x < 0, tail, 1 - tail)


def _triangle_step(x: Tensor, k: float) -> Tensor:
    z = (k * x).clamp(-1, 1)
    return 0.5 + z - 0.5 * z * z.abs()


# Name -> (smooth step, its slope); k is the steepness. All have area one, so they differ in shape and not in size.
KINDS: Mapping[str, tuple[Curve, Curve]] = {
    "arctan": (
        lambda x, k: torch.atan(0.5 * math.pi * k * x) / math.pi + 0.5,
        lambda x, k: (x * x).mul_((0.5 * math.pi * k) ** 2).add_(1).reciprocal_().mul_(0.5 * k),
    ),
    "fast sigmoid": (
        lambda x, k: 0.5 + 0.5 * k * x / (1 + k * x.abs()),
        lambda x, k: x.abs().mul_(k).add_(1).square_().reciprocal_().mul_(0.5 * k),
    ),
    "sigmoid": (
        lambda x, k: torch.sigmoid(k * x),
        lambda x, k: torch.sigmoid(k * x) * torch.sigmoid(-k * x) * k,
    ),
    "gaussian": (_normal_step, lambda x, k: torch.exp(-0.5 * (k * x) ** 2) * (k / math.sqrt(2 * math.pi))),
    "exponential": (_exponential_step, lambda x, k: x.abs().mul_(-k).exp_().mul_(0.5 * k)),
    "triangle": (_triangle_step, lambda x, k: x.abs().mul_(-k).add_(1).clamp_(min=0).mul_(k)),
    "boxcar": (lambda x, k: (k * x + 0.5).clamp(0, 1), lambda x, k: (x.abs() < 0.5 / k).to(x.dtype) * k),
}


@dataclass(frozen=True)
class Surrogate:
    """The smooth step that stands in for a spike's slope.

    Parameters
    ----------
    kind
        One of `KINDS`: "arctan", "fast sigmoid" [SuperSpike, Zenke and Ganguli 2018], "sigmoid", "gaussian",
        "exponential", "triangle", "boxcar".
    steepness
        k, in inverse units of the membrane: the larger, the narrower the window in which a neuron learns. The slope
        at the threshold is k/2 for "arctan" and "fast sigmoid", k/4 for "sigmoid" and k for "triangle" and "boxcar".
        "arctan" is p′(x) = (k/2) / (1 + (πkx/2)²), so k is the α that snntorch's `atan` and spikingjelly's `ATan` compute
        with; snntorch's documentation prints a factor 1/π in place of α/2, which its code does not have.
    scale
        Factor on step and slope; 1 gives an area of one.

    Raises
    ------
    ValueError
        If the kind is unknown, or a number is not positive.

    >>> boxcar = Surrogate("boxcar", steepness=2.0)
    >>> boxcar.slope(torch.tensor([-0.5, 0.1, 0.5])).tolist()
    [0.0, 2.0, 0.0]
    """

    kind: str = "arctan"
    steepness: float = 2.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choice(KINDS, kind=self.kind)
        check_positive(steepness=self.steepness, scale=self.scale)

    def smooth(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the smooth step p(x), differentiable by autograd."""
        step = KINDS[self.kind][0](x, self.steepness)
        return step if self.scale == 1 else step * self.scale

    def slope(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return p′(x), a new tensor that is not differentiable itself."""
        with torch.no_grad():
            slope = KINDS[self.kind][1](x.detach(), self.steepness)
            return slope if self.scale == 1 else slope * self.scale

    def spike(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return H(x), one where x ≥ 0, whose gradient is p′(x).

        >>> x = torch.tensor([-0.1, 0.0], requires_grad=True)
        >>> Surrogate("triangle", 1.0).spike(x).sum().backward()
        >>> x.grad.tolist()
        [0.8999999761581421, 1.0]
        """
        spikes: Tensor = _Spike.apply(x, self)  # type: ignore[no-untyped-call]
        return spikes


class _Spike(torch.autograd.Function):
    """H(x) forward, p′(x) backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate.slope(x), None


def as_surrogate(surrogate: str | Surrogate) -> Surrogate:
    """Return a surrogate, given one or the name of a kind.

    >>> as_surrogate("gaussian").kind
    'gaussian'
    """
    return surrogate if isinstance(surrogate, Surrogate) else Surrogate(surrogate)


# ------------------------------------------------------------------------------------------- the exact alternative


def postsynaptic_potential(
    delay: Float[Tensor, "..."], *, tau_membrane: float, tau_synapse: float
) -> Float[Tensor, "..."]:
    """Return the membrane's answer to one input spike of weight one, `delay` ms after it; zero before it.

    K(d) = (e^{−d/τₘ} − e^{−d/τₛ}) τₛ/(τₘ − τₛ): the current e^{−d/τₛ} seen through a membrane with τₘ dv/dt = −v + I.

    Raises
    ------
    ValueError
        If a time constant is not positive, or the two are equal (where the formula is 0/0).

    >>> postsynaptic_potential(torch.tensor([-1.0, 0.0]), tau_membrane=10.0, tau_synapse=5.0).tolist()
    [0.0, 0.0]
    """
    _check_constants(tau_membrane, tau_synapse)
    # Past times are set to zero before the exponential, whose gradient would overflow.
    d = delay.clamp(min=0)
    kernel = torch.exp(-d / tau_membrane) - torch.exp(-d / tau_synapse)
    return kernel * (tau_synapse / (tau_membrane - tau_synapse))


def _check_constants(tau_membrane: float, tau_synapse: float) -> None:
    check_positive(tau_membrane=tau_membrane, tau_synapse=tau_synapse)
    if tau_membrane == tau_synapse:
        raise ValueError(
            f"tau_membrane and tau_synapse must differ, got {tau_membrane!r} for both: take them 1% apart."
        )


def first_spike_time(
    weights: Float[Tensor, "*batch inputs"],
    times: Float[Tensor, "*batch inputs"],
    *,
    tau_membrane: float = 10.0,
    tau_synapse: float = 5.0,
    threshold: float = 1.0,
    until: float = 100.0,
) -> Float[Tensor, "*batch"]:
    """Return when a neuron fires first, with the exact gradient of that time; infinite where it never does.

    The membrane is V(t) = Σᵢ wᵢ K(t − tᵢ). At the spike V(t*) = θ, and the implicit function theorem gives, with no
    surrogate, dt*/dwᵢ = −K(t* − tᵢ)/V′(t*) and dt*/dtᵢ = wᵢ K′(t* − tᵢ)/V′(t*). A neuron that never fires has no
    spike time to move: its gradient is zero, which is where exact gradients stop teaching and surrogates do not.

    Parameters
    ----------
    weights, times
        Weight and arrival time (ms) of each input spike.
    tau_membrane, tau_synapse
        Time constants in ms, different from each other.
    threshold
        θ, in units of the weights' potential.
    until
        Time in ms up to which the neuron is watched.

    Raises
    ------
    ValueError
        If shapes differ, numbers are not finite, or time constants are not positive or equal.

    >>> w = torch.tensor([6.0, 6.0], dtype=torch.float64, requires_grad=True)
    >>> t = first_spike_time(w, torch.tensor([0.0, 2.0], dtype=torch.float64))
    >>> t.backward()
    >>> bool((w.grad < 0).all())
    True
    """
    check_same_shape(weights=weights, times=times)
    check_finite(weights=weights, times=times)
    check_positive(threshold=threshold, until=until)
    _check_constants(tau_membrane, tau_synapse)
    fired: Tensor = _FirstSpike.apply(weights, times, tau_membrane, tau_synapse, threshold, until)  # type: ignore[no-untyped-call]
    return fired


class _FirstSpike(torch.autograd.Function):
    """Bracket the first crossing between samples, halve the bracket, differentiate implicitly."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, times: Tensor, tau_m: float, tau_s: float, threshold: float, until: float
    ) -> Tensor:
        def potential(t: Tensor) -> Tensor:
            kernel = postsynaptic_potential(t[..., None] - times, tau_membrane=tau_m, tau_synapse=tau_s)
            return (weights * kernel).sum(-1)

        # Potentials turn on the scale of the faster constant: a hundredth of it hides no crossing that matters.
        num = min(20_000, math.ceil(100 * until / min(tau_m, tau_s)))
        grid = torch.linspace(0.0, until, num + 1, dtype=weights.dtype, device=weights.device)
        batch = weights.shape[:-1]
        high = torch.full(batch, math.inf, dtype=weights.dtype, device=weights.device)
        for index in range(num + 1):
            t = grid[index].expand(batch)
            crossed = (potential(t) >= threshold) & high.isinf()
            high = torch.where(crossed, t, high)
            if bool(high.isfinite().all()):
                break
        fires = high.isfinite()
        upper = torch.where(fires, high, torch.full_like(high, until))
        lower = (upper - until / num).clamp(min=0)
        for _ in range(60):
            middle = (lower + upper) / 2
            above = potential(middle) >= threshold
            lower, upper = torch.where(above, lower, middle), torch.where(above, middle, upper)
        ctx.save_for_backward(weights, times, upper, fires)
        ctx.constants = (tau_m, tau_s)
        return torch.where(fires, upper, torch.full_like(upper, math.inf))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, times, when, fires = ctx.saved_tensors
        tau_m, tau_s = ctx.constants
        delay = when[..., None] - times
        kernel = postsynaptic_potential(delay, tau_membrane=tau_m, tau_synapse=tau_s)
        d = delay.clamp(min=0)
        rise = torch.exp(-d / tau_s) / tau_s - torch.exp(-d / tau_m) / tau_m
        rise = torch.where(delay >= 0, rise * (tau_s / (tau_m - tau_s)), torch.zeros_like(rise))
        speed = (weights * rise).sum(-1)
        factor = torch.where(fires, grad / torch.where(fires, speed, torch.ones_like(speed)), torch.zeros_like(grad))
        return -factor[..., None] * kernel, factor[..., None] * weights * rise, None, None, None, None
