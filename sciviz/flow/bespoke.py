"""A solver fitted to one flow: the steps of a midpoint rule, placed and scaled by a few dozen learnt numbers.

Instead of x(t) follow x̄(r) = s(r) x(t(r)). Its equation is x̄′ = (s′/s) x̄ + t′ s u(t, x̄/s), whose solution ends where
the old one ends, whatever time t(r) and scale s(r) are. Choose them so that a generic solver errs little
[bespoke-solvers].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sciviz.lab.checks import check_int, check_positive, check_same_shape

__all__ = ["BespokeMidpoint", "endpoint_error", "fit_bespoke"]


class BespokeMidpoint(nn.Module):
    """The midpoint rule (RK2) for a path whose time and scale are learnt; it starts as the plain midpoint rule.

    It holds 8 numbers a step: times and scales at the ends and middles of steps, and their rates there (the sum of the
    time steps is fixed, which leaves 8 n − 1 free ones).

    Parameters
    ----------
    num_steps
        Steps from 0 to 1, of two evaluations each.
    members
        Fit so many solvers together, one for each member of an ensemble of flows.

    >>> solver = BespokeMidpoint(5)
    >>> solver.num_parameters, solver.num_evaluations
    (40, 10)
    >>> end = solver(lambda t, x: -x, torch.ones(1, 1))  # the plain rule multiplies by 1 − h + h²/2
    >>> round(end.item() / (1 - 0.2 + 0.02) ** 5, 5)
    1.0
    """

    def __init__(self, num_steps: int, members: int | None = None) -> None:
        super().__init__()
        check_int(1, num_steps=num_steps)
        if members is not None:
            check_int(1, members=members)
        self.num_steps = num_steps
        shape = (2 * num_steps,) if members is None else (members, 2 * num_steps)
        self.time_logits = nn.Parameter(torch.zeros(shape))  # softmax: positive time steps that add up to 1
        self.time_rate_logs = nn.Parameter(torch.zeros(shape))
        self.scale_logs = nn.Parameter(torch.zeros(shape))  # the scale is positive, and 1 at the start
        self.scale_rates = nn.Parameter(torch.zeros(shape))

    @property
    def num_parameters(self) -> int:
        """Return how many numbers one solver has."""
        return 4 * 2 * self.num_steps

    @property
    def num_evaluations(self) -> int:
        """Return how often a solver evaluates the velocity."""
        return 2 * self.num_steps

    def grid(self) -> tuple[Tensor, Tensor]:
        """Return times and scales at the ends and middles of the steps, shape (..., 2 num_steps + 1)."""
        steps = torch.softmax(self.time_logits, dim=-1)
        times = functional.pad(steps.cumsum(-1), (1, 0))
        return times, functional.pad(self.scale_logs, (1, 0)).exp()

    def path(
        self, velocity: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, "*members batch d"]
    ) -> list[Float[Tensor, "*members batch d"]]:
        """Return the points after each step, the start included."""
        times, scales = self.grid()
        time_rates = self.time_rate_logs.exp()
        # Time and scale of a member must broadcast against its points.
        t, s, t_rate, s_rate = (
            [part[..., None, None] for part in values.unbind(-1)]
            for values in (times, scales, time_rates, self.scale_rates)
        )
        h = 1 / self.num_steps

        def slope(k: int, scaled: Tensor) -> Tensor:
            u = velocity(t[k], scaled / s[k])
            return s_rate[k] / s[k] * scaled + t_rate[k] * s[k] * u

        scaled, points = x, [x]
        for k in range(0, 2 * self.num_steps, 2):
            middle = scaled + h / 2 * slope(k, scaled)
            scaled = scaled + h * slope(k + 1, middle)
            points.append(scaled / s[k + 2])
        return points

    def forward(
        self, velocity: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, "*members batch d"]
    ) -> Float[Tensor, "*members batch d"]:
        """Return where the solver takes points of the source."""
        return self.path(velocity, x)[-1]


def endpoint_error(
    ends: Float[Tensor, "*members batch d"], exact: Float[Tensor, "*members batch d"]
) -> Float[Tensor, "*members"]:
    """Return the root mean square distance of end points from the exact ones (per coordinate).

    >>> endpoint_error(torch.zeros(2, 2), torch.full((2, 2), 3.0)).item()
    3.0
    """
    check_same_shape(ends=ends, exact=exact)
    return (ends - exact).square().mean(dim=(-1, -2)).sqrt()


def fit_bespoke(
    solver: BespokeMidpoint,
    velocity: Callable[[Tensor, Tensor], Tensor],
    starts: Float[Tensor, "*members n d"],
    exact: Float[Tensor, "*members n d"],
    *,
    num_steps: int = 300,
    batch_size: int = 128,
    lr: float = 1e-2,
    seed: int,
) -> Float[Tensor, " num_steps"]:
    """Fit a solver in place to the end points of one flow; return the error of each training step's batch.

    The paper minimises a bound, a sum of local errors, that spares the memory of differentiating through all steps. In
    low dimension there is no need: this minimises the error at the end itself.

    Parameters
    ----------
    velocity
        (t, x) → velocity of the flow. It is not trained.
    starts, exact
        Points of the source, and where an accurate solver takes them.

    >>> velocity = lambda t, x: -4 * x
    >>> starts = torch.linspace(-2, 2, 16)[:, None]
    >>> solver = BespokeMidpoint(2)
    >>> errors = fit_bespoke(solver, velocity, starts, starts * torch.e**-4, num_steps=100, seed=0)
    >>> bool(errors[-1] < 0.1 * errors[0])
    True
    """
    check_int(1, num_steps=num_steps, batch_size=batch_size)
    check_positive(lr=lr)
    check_same_shape(starts=starts, exact=exact)
    generator = torch.Generator(device=starts.device).manual_seed(seed)
    optimizer = torch.optim.Adam(solver.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    errors = []
    for _ in range(num_steps):
        chosen = torch.randint(starts.shape[-2], (batch_size,), generator=generator, device=starts.device)
        error = endpoint_error(solver(velocity, starts[..., chosen, :]), exact[..., chosen, :])
        # The square, whose gradient fades as the error does. Members of unlike errors do not disturb each other: Adam
        # scales each parameter's step by itself.
        # A velocity that does not depend on time makes no use of the times.
        gradients = torch.autograd.grad(error.square().sum(), list(solver.parameters()), allow_unused=True)
        for parameter, gradient in zip(solver.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        errors.append(error.detach().mean())
    return torch.stack(errors)
