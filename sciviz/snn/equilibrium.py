"""Equilibrium propagation without weight symmetry: errors read off a nudged fixed point [ep-jacobian-homeostasis].

Units settle where the flow F vanishes,

    F(u, β) = W σ(u) + drive − u − β (u − y) on the output units,      J = ∂F/∂u = W σ'(u) − I   (at β = 0).

Pushing the outputs a little towards the target moves every unit by du*/dβ = J⁻¹ (u − y). That is the error vector of
backpropagation, −J⁻ᵀ (u − y) with the other sign, if and only if J is symmetric on it. Two ideas make this work with finite
nudges and one-way synapses: complex nudges on a circle, whose mean is the exact derivative (Cauchy), and a homeostasis that
makes the Jacobian symmetric. All tensors may carry leading dimensions (members of an ensemble).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_int, check_nonnegative, check_positive, check_same_last_dim

_ACTIVATIONS = ("tanh", "sigmoid")


def _activate(state: Tensor, activation: str) -> Tensor:
    # torch has no complex sigmoid; this form is holomorphic away from its poles, and stable near the real line.
    return torch.tanh(state) if activation == "tanh" else 0.5 * (1 + torch.tanh(0.5 * state))


def activation_slope(state: Float[Tensor, "*members batch units"], activation: str = "tanh") -> Tensor:
    """Return σ'(u), of the shape of `state`.

    >>> activation_slope(torch.zeros(1, 2)).tolist()
    [[1.0, 1.0]]
    """
    check_choice(_ACTIVATIONS, activation=activation)
    value = _activate(state, activation)
    return 1 - value.square() if activation == "tanh" else value * (1 - value)


def layered_mask(sizes: Sequence[int]) -> Bool[Tensor, "units units"]:
    """Return which units may be joined where layers of the given sizes talk to their neighbours, in both directions.

    Raises
    ------
    ValueError
        If there is no layer, or one is empty.

    >>> layered_mask([1, 1, 1]).int().tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    if not sizes:
        raise ValueError("sizes must name at least one layer, got none.")
    for size in sizes:
        check_int(1, size=size)
    layer = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(list(sizes)))
    return (layer[:, None] - layer[None, :]).abs() == 1


def relax(
    weight: Float[Tensor, "*members units units"],
    drive: Float[Tensor, "*members batch units"],
    state: Tensor,
    *,
    target: Float[Tensor, "*members batch outputs"] | None = None,
    nudge: complex = 0.0,
    num_steps: int = 40,
    dt: float = 0.5,
    activation: str = "tanh",
) -> Tensor:
    """Let units settle: u ← u + dt F(u, β), `num_steps` times [ep-jacobian-homeostasis, eq. 1 and 4].

    Parameters
    ----------
    weight
        Synapses, [to, from].
    drive
        Constant input of each unit.
    state
        Where to start; complex where `nudge` is.
    target, nudge
        Targets of the last units, and β, the strength (real or complex) of the push towards them.
    dt
        Step in units of the units' time constant.

    Raises
    ------
    ValueError
        If shapes do not fit, `dt` is not positive, or the activation is neither "tanh" nor "sigmoid".

    >>> relax(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1), num_steps=50).round(decimals=4).tolist()
    [[1.0]]
    """
    check_int(0, num_steps=num_steps)
    check_positive(dt=dt)
    check_choice(_ACTIVATIONS, activation=activation)
    check_same_last_dim(weight=weight, drive=drive, state=state)
    transposed = weight.mT
    outputs = 0 if target is None else target.shape[-1]
    # A real nudge keeps everything real; a complex one needs real matrices times complex states.
    for _ in range(num_steps):
        value = _activate(state, activation)
        if value.is_complex():
            # The product acts on real and imaginary parts alike: one real product on both is half the work.
            pair = torch.cat([value.real, value.imag], -2) @ transposed
            half = pair.shape[-2] // 2
            pull = torch.complex(pair[..., :half, :], pair[..., half:, :])
        else:
            pull = value @ transposed
        flow = pull + drive - state
        if target is not None and nudge != 0:
            flow[..., -outputs:] = flow[..., -outputs:] - nudge * (state[..., -outputs:] - target)
        state = state + dt * flow
    return state


def jacobian(
    weight: Float[Tensor, "*members units units"],
    state: Float[Tensor, "*members batch units"],
    activation: str = "tanh",
) -> Float[Tensor, "*members batch units units"]:
    """Return J = W σ'(u) − I for each sample.

    >>> jacobian(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.zeros(1, 2))[0].tolist()
    [[-1.0, 2.0], [1.0, -1.0]]
    """
    slope = activation_slope(state, activation)
    eye = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device)
    return weight[..., None, :, :] * slope[..., None, :] - eye


def _output_error(state: Tensor, target: Tensor) -> Tensor:
    error = torch.zeros_like(state)
    error[..., -target.shape[-1] :] = state[..., -target.shape[-1] :] - target
    return error


def exact_errors(
    weight: Float[Tensor, "*members units units"],
    state: Float[Tensor, "*members batch units"],
    target: Float[Tensor, "*members batch outputs"],
    activation: str = "tanh",
) -> tuple[Float[Tensor, "*members batch units"], Float[Tensor, "*members batch units"]]:
    """Solve for the errors that an infinitesimal nudge and that backpropagation give, at a settled state.

    Returns
    -------
    propagated, backpropagated
        −J⁻¹ g and −J⁻ᵀ g with g = ∂L/∂u of L = ½|u − y|² on the outputs [ep-jacobian-homeostasis, eq. 3 and 6]. The
        gradient with respect to a synapse from j to i is the backpropagated error of i times σ(u_j).

    >>> weight = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    >>> a, b = exact_errors(weight, torch.zeros(1, 2), torch.ones(1, 1))
    >>> torch.allclose(a, b)
    True
    """
    matrix = -jacobian(weight, state, activation)
    error = _output_error(state, target)
    return torch.linalg.solve(matrix, error), torch.linalg.solve(matrix.mT, error)


def adjoint_errors(
    weight: Float[Tensor, "*members units units"],
    state: Float[Tensor, "*members batch units"],
    target: Float[Tensor, "*members batch outputs"],
    *,
    num_steps: int = 40,
    dt: float = 0.5,
    activation: str = "tanh",
) -> Float[Tensor, "*members batch units"]:
    """Backpropagate through the fixed point by letting the errors settle: λ ← λ + dt (g + σ' Wᵀ λ − λ).

    >>> weight, state, target = torch.tensor([[0.0, 0.5], [0.2, 0.0]]), torch.zeros(1, 2), torch.ones(1, 1)
    >>> ours, exact = adjoint_errors(weight, state, target), exact_errors(weight, state, target)[1]
    >>> torch.allclose(ours, exact, atol=1e-5)
    True
    """
    slope, error = activation_slope(state, activation), _output_error(state, target)
    adjoint = torch.zeros_like(state)
    for _ in range(num_steps):
        adjoint = adjoint + dt * (error + slope * (adjoint @ weight) - adjoint)
    return adjoint


def contour_errors(
    weight: Float[Tensor, "*members units units"],
    drive: Float[Tensor, "*members batch units"],
    state: Float[Tensor, "*members batch units"],
    target: Float[Tensor, "*members batch outputs"],
    *,
    num_nudges: int = 8,
    radius: float = 0.2,
    num_steps: int = 40,
    dt: float = 0.5,
    activation: str = "tanh",
) -> Float[Tensor, "*members batch units"]:
    """Estimate −du*/dβ at β = 0 from fixed points at finite nudges on a circle [ep-jacobian-homeostasis, eq. 5].

        −du*/dβ ≈ −1/(N r) Σ_n u*(r e^{2πi n/N}) e^{−2πi n/N}

    The error falls like r^N. Nudges below the real axis give the conjugates of those above it, so only half is settled;
    two nudges are real, and are the classical symmetric difference.

    Parameters
    ----------
    state
        Settled state without a nudge.
    num_nudges
        N, even.
    radius
        r = |β|, below the distance to the first singularity of u*(β).

    Raises
    ------
    ValueError
        If `num_nudges` is odd or below 2, or another argument is out of range.

    >>> weight, drive = torch.zeros(1, 1), torch.zeros(1, 1)
    >>> contour_errors(weight, drive, drive, torch.ones(1, 1), num_nudges=8, num_steps=60).round(decimals=4).tolist()
    [[-1.0]]
    """
    check_int(2, num_nudges=num_nudges)
    if num_nudges % 2:
        raise ValueError(f"num_nudges must be even, so that nudges come in conjugate pairs, got {num_nudges}.")
    check_positive(radius=radius)
    total = torch.zeros_like(state)
    for n in range(num_nudges // 2 + 1):
        angle = 2 * math.pi * n / num_nudges
        on_axis = n in (0, num_nudges // 2)
        start = state if on_axis else torch.complex(state, torch.zeros_like(state))
        nudge: complex = (
            radius * (1 if n == 0 else -1) if on_axis else radius * complex(math.cos(angle), math.sin(angle))
        )
        settled = relax(
            weight, drive, start, target=target, nudge=nudge, num_steps=num_steps, dt=dt, activation=activation
        )
        if on_axis:
            total = total + settled * (1 if n == 0 else -1)
        else:
            total = total + 2 * (settled.real * math.cos(angle) + settled.imag * math.sin(angle))
    return -total / (num_nudges * radius)


def asymmetry(
    weight: Float[Tensor, "*members units units"],
    state: Float[Tensor, "*members batch units"],
    activation: str = "tanh",
) -> Float[Tensor, "*members"]:
    """Return |J − Jᵀ|² / |J + Jᵀ|² (Frobenius), averaged over samples: 0 is symmetric.

    >>> float(asymmetry(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.zeros(1, 2)))
    0.0
    """
    matrix = jacobian(weight, state, activation)
    odd, even = ((matrix - sign * matrix.mT).square().sum((-2, -1)) for sign in (1, -1))
    return (odd / even).mean(-1)


def homeostasis_gradient(
    weight: Float[Tensor, "*members units units"],
    state: Float[Tensor, "*members batch units"],
    activation: str = "tanh",
) -> Float[Tensor, "*members units units"]:
    """Return the gradient of ½|J − Jᵀ|² (mean over samples) with respect to W, the state held [ep-jacobian-homeostasis, eq. 9].

    Entry (i, j) is 2 (W_ij ⟨σ'_j²⟩ − W_ji ⟨σ'_i σ'_j⟩): it needs what the two units know and the synapse in the other
    direction. The paper estimates the same from random pokes of the state, which need no access to that synapse.

    >>> homeostasis_gradient(torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.zeros(1, 2)).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    slope = activation_slope(state, activation)
    batch = state.shape[-2]
    second = slope.mT @ slope / batch
    squares = slope.square().mean(-2)
    return 2 * (weight * squares[..., None, :] - weight.mT * second)


def error_cosine(
    first: Float[Tensor, "*members batch units"], second: Float[Tensor, "*members batch units"]
) -> Float[Tensor, "*members"]:
    """Return the cosine between two error vectors, averaged over samples.

    >>> round(float(error_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))), 3)
    0.707
    """
    return torch.nn.functional.cosine_similarity(first, second, dim=-1, eps=1e-12).mean(-1)


def circle_nudges(num_nudges: int, radius: float) -> Complex[Tensor, "nudges"]:
    """Return the nudges of the contour, r e^{2πi n/N}.

    >>> circle_nudges(2, 0.5).real.tolist()
    [0.5, -0.5]
    """
    check_int(2, num_nudges=num_nudges)
    check_nonnegative(radius=radius)
    angles = 2 * math.pi * torch.arange(num_nudges, dtype=torch.float64) / num_nudges
    return torch.polar(torch.full_like(angles, radius), angles)
