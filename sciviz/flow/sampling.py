"""From a velocity to samples: by any solver of `sciviz.ode`, by stochastic paths, and back again for a likelihood."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_ndim, check_nonnegative, check_positive
from sciviz.ode import divergence, solve

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(t, x) → velocity, with times that broadcast against the points."""


@torch.no_grad()
def integrate(
    velocity: Velocity,
    x: Float[Tensor, "*batch d"],
    t: Float[Tensor, " times"] | None = None,
    *,
    num_steps: int | None = None,
    method: str | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> Float[Tensor, "times *batch d"]:
    """Follow the flow and return the points at every time asked for.

    Parameters
    ----------
    t
        Times to return, from the first to the last; 0 and 1 if left out. Decreasing times follow the flow backwards.
    num_steps
        Equal steps from the first time to the last. Without it, a fixed-step method steps from one given time to the
        next – so that any time grid can be used – and the default method chooses its own steps.
    method
        Any of `sciviz.ode.METHODS`; "euler" if `num_steps` is given, "dopri5" otherwise.
    rtol, atol
        Tolerances of a method that chooses its own steps.

    >>> integrate(lambda t, x: torch.ones_like(x), torch.zeros(1, 2), num_steps=1)[-1].tolist()
    [[1.0, 1.0]]
    """
    times = torch.tensor([0.0, 1.0], dtype=torch.float64) if t is None else t
    method = method or ("dopri5" if num_steps is None else "euler")
    solution = solve(velocity, x, times, method=method, num_steps=num_steps, rtol=rtol, atol=atol)
    assert isinstance(solution.y, Tensor)
    return solution.y


def transport(
    velocity: Velocity, x: Float[Tensor, "*batch d"], *, num_steps: int | None = None, method: str | None = None
) -> Float[Tensor, "*batch d"]:
    """Return where the flow takes points of the source, from t = 0 to 1; options as in `integrate`."""
    return integrate(velocity, x, num_steps=num_steps, method=method)[-1]


@torch.no_grad()
def sample_sde(
    velocity: Velocity,
    score: Velocity,
    x: Float[Tensor, "*batch d"],
    *,
    epsilon: float | Callable[[Tensor], Tensor],
    num_steps: int,
    seed: int,
    span: tuple[float, float] = (0.0, 1.0),
    keep_path: bool = False,
) -> Tensor:
    """Follow dX = (v + ε s) dt + √(2ε) dW, which has the same law at every time as the flow of v.

    Noise and score balance each other for any strength ε ≥ 0 [stochastic-interpolants, section 2.4]. Heun's rule for the drift,
    with the noise of the step added before: weak order one, and of order two where ε = 0.

    Parameters
    ----------
    epsilon
        Strength of the noise, a number or a function of time.
    span
        From which time to which.

    Returns
    -------
    Points at the end, or at all num_steps + 1 times if `keep_path`.

    Raises
    ------
    ValueError
        If the strength is negative or there is no step.

    >>> x = torch.zeros(4, 1)
    >>> sample_sde(lambda t, x: x + 1, lambda t, x: -x, x, epsilon=0.0, num_steps=1, seed=0)[0].item()
    1.5
    """
    check_int(1, num_steps=num_steps)
    if not callable(epsilon):
        check_nonnegative(epsilon=epsilon)
    generator = torch.Generator(x.device).manual_seed(seed)
    times = torch.linspace(*span, num_steps + 1, dtype=torch.float64)
    path = [x]

    def drift(t: Tensor, x: Tensor, strength: Tensor) -> Tensor:
        result = velocity(t, x)
        return result + strength * score(t, x) if bool(strength > 0) else result

    def strength_at(t: Tensor) -> Tensor:
        return epsilon(t) if callable(epsilon) else torch.as_tensor(float(epsilon), dtype=x.dtype, device=x.device)

    for t, t_next in zip(times[:-1].to(x), times[1:].to(x), strict=True):
        step, strength = t_next - t, strength_at(t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = x + (2 * strength * step).sqrt() * noise
        first = drift(t, x, strength)
        second = drift(t_next, x + step * first, strength_at(t_next))
        x = x + step / 2 * (first + second)
        path.append(x)
    return torch.stack(path) if keep_path else x


def log_likelihood(
    velocity: Velocity,
    x1: Float[Tensor, "batch d"],
    source_log_prob: Callable[[Tensor], Tensor],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, " batch"]:
    """Return the exact log density, in nats, of points under the flow from a source of known density.

    The points are followed backwards, and the divergence of the velocity is summed on the way: along a path the log
    density falls at the rate of the divergence [neural-ode-chen, theorem 1].

    >>> from sciviz.flow.gaussian import GaussianMixture
    >>> unit = GaussianMixture.single(torch.zeros(1), torch.eye(1))
    >>> still = log_likelihood(lambda t, x: 0 * x, torch.zeros(1, 1), unit.log_prob)
    >>> round(still.item(), 4)
    -0.9189
    """
    check_ndim(2, x1=x1)
    check_positive(rtol=rtol, atol=atol)

    def both(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return divergence(velocity, t, state[0])

    back = torch.tensor([1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        solution = solve(both, (x1, torch.zeros_like(x1[:, 0])), back, method="dopri5", rtol=rtol, atol=atol)
    assert isinstance(solution.y, tuple)
    x0, summed = solution.y[0][-1], solution.y[1][-1]
    return source_log_prob(x0) + summed
