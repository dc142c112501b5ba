"""Solve y' = f(t, y) for a batch of initial states, forward or backward in time.

`solve` is the one entry point. `runge_kutta_step` and `solve_plain` are the same method for one trajectory, short
enough to read; they are what the fast loops in `stepping` are tested against.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_finite, check_int, check_nonnegative, check_positive
from sciviz.ode import stepping
from sciviz.ode.compiled import CompiledField, PoisonedError
from sciviz.ode.stepping import (
    GraphAppeared,
    NonFiniteDerivativeError,
    Outcome,
    Plan,
    RightHandSide,
    SolverError,
    StepLimitError,
    StepUnderflowError,
)
from sciviz.ode.tableaus import ADAPTIVE_METHODS, METHODS, Tableau, tableau

__all__ = [
    "NonFiniteDerivativeError",
    "Solution",
    "SolverError",
    "State",
    "Stats",
    "StepLimitError",
    "StepUnderflowError",
    "Steps",
    "runge_kutta_step",
    "solve",
    "solve_plain",
]

State = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""One tensor, or a tuple or dict of tensors that share their first dimension."""

GRADIENTS = ("solver", "adjoint", "checkpoint", "reversible")


@dataclass(frozen=True)
class Stats:
    """What an integration cost, sample by sample.

    Attributes
    ----------
    evaluations
        Evaluations of f that the sample needed, those that choose the first step included.
    accepted, rejected
        Steps taken, and steps tried and thrown away.
    calls
        How often `func` was called, for the whole batch together.
    """

    evaluations: Int[Tensor, " batch"]
    accepted: Int[Tensor, " batch"]
    rejected: Int[Tensor, " batch"]
    calls: int


@dataclass(frozen=True)
class Steps:
    """Every attempt to take a step, in order; rows in which a sample no longer moved have h = 0.

    Attributes
    ----------
    t
        Time at the start of the attempt.
    h
        Signed size of the step that was tried.
    accepted
        Whether it was taken.
    y
        State at the start of the attempt (in the structure of `y0`).
    error
        Error estimate as a multiple of the tolerance; at most 1 where the step was taken. Under `gradient="solver"`
        it carries a graph, so that it can be made part of a loss [solver-heuristic-regularization].
    stiffness
        Estimate, from below, of the fastest rate at the step's end, ‖Δf‖/‖Δy‖ between two stages there
        [solver-heuristic-regularization]; NaN for methods that have no two stages at the end of the step.
    """

    t: Float[Tensor, "attempts batch"]
    h: Float[Tensor, "attempts batch"]
    accepted: Bool[Tensor, "attempts batch"]
    y: State
    error: Float[Tensor, "attempts batch"]
    stiffness: Float[Tensor, "attempts batch"]


@dataclass(frozen=True)
class Solution:
    """The answer of `solve`.

    Attributes
    ----------
    t
        The output times that were asked for.
    y
        State at those times, shape (times, batch, ...), in the structure of `y0`. NaN beyond a sample's event.
    stats
        What it cost.
    event_time, event_state
        Where each sample's event happened, NaN for samples without one; None if no event was asked for.
    steps
        Every attempt, if `record_steps` was set.
    """

    t: Float[Tensor, " times"]
    y: State
    stats: Stats
    event_time: Float[Tensor, " batch"] | None = None
    event_state: State | None = None
    steps: Steps | None = None

    @property
    def y_end(self) -> State:
        """State at the last time, shape (batch, ...)."""
        if isinstance(self.y, Tensor):
            return self.y[-1]
        if isinstance(self.y, dict):
            return {name: part[-1] for name, part in self.y.items()}
        return tuple(part[-1] for part in self.y)


class Layout:
    """How the user's state lies in the one tensor (rows, ...) that the loops move.

    A row is a sample; where all samples share their steps, the whole batch is one row.
    """

    def __init__(self, y0: State, shared: bool) -> None:
        self.names: list[str] | None = list(y0) if isinstance(y0, dict) else None
        self.single = isinstance(y0, Tensor)
        parts = [y0] if isinstance(y0, Tensor) else list(y0.values()) if isinstance(y0, dict) else list(y0)
        _check_parts(parts, self.names)
        first = parts[0]
        self.scalar = first.ndim == 0
        self.batch = 1 if self.scalar else first.shape[0]
        self.shapes = [part.shape[1:] for part in parts]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.ndim = first.ndim
        self.shared = shared
        self.plain = self.single and not self.scalar and not shared
        self.rows = self.pack(y0)

    def pack(self, state: State) -> Tensor:
        """State -> (rows, ...)."""
        if isinstance(state, Tensor):
            rows = state.reshape(1) if self.scalar else state
        else:
            parts = [state[name] for name in self.names or ()] if isinstance(state, dict) else list(state)
            # The batch is read off the parts: rows may have been dropped since the start.
            rows = torch.cat([part.reshape(part.shape[0], -1) for part in parts], dim=1)
        return rows.reshape(1, -1) if self.shared else rows

    def unpack(self, rows: Tensor, lead: tuple[int, ...] = ()) -> State:
        """(*lead, rows, ...) -> state whose parts are of shape (*lead, batch, ...)."""
        if self.single:
            return rows.reshape((*lead, *(() if self.scalar else (-1, *self.shapes[0]))))
        flat = rows.reshape(*lead, -1, sum(self.sizes))
        parts = [
            part.reshape(*part.shape[:-1], *shape)
            for part, shape in zip(torch.split(flat, self.sizes, dim=-1), self.shapes, strict=True)
        ]
        return tuple(parts) if self.names is None else dict(zip(self.names, parts, strict=True))

    def times(self, t: Tensor) -> Tensor:
        """One time a row -> times that broadcast against the (first part of the) state."""
        if self.scalar:
            return t.reshape(())
        if self.shared:
            return t.reshape((1,) * self.ndim).expand(self.batch, *(1,) * (self.ndim - 1))
        return t.reshape(-1, *(1,) * (self.ndim - 1))

    def function(self, func: Callable[..., Any]) -> Callable[[Tensor, Tensor], Tensor]:
        """The user's function as a function of rows."""
        if self.plain:
            return func

        def on_rows(t: Tensor, rows: Tensor) -> Tensor:
            f = func(self.times(t), self.unpack(rows))
            self.check_like(f)
            return self.pack(f)

        return on_rows

    def check_like(self, f: Any) -> None:
        """Raise unless `f` has the structure of the state."""
        if self.single:
            if not isinstance(f, Tensor):
                raise TypeError(f"func must return the derivative as a tensor, got {type(f).__name__}.")
            expected = () if self.scalar else (self.batch, *self.shapes[0])
            if f.shape != expected:
                got = tuple(f.shape)
                raise ValueError(f"func must return a derivative of the state's shape {expected}, got {got}.")
            return
        kind = "tuple" if self.names is None else "dict"
        if self.names is not None:
            good = isinstance(f, dict) and set(f) == set(self.names)
        else:
            good = isinstance(f, (tuple, list)) and len(f) == len(self.shapes)
        if not good:
            named = f" with the keys {self.names}" if self.names is not None else f" of {len(self.shapes)} tensors"
            raise TypeError(f"func must return the derivative as a {kind}{named}, like y0, got {type(f).__name__}.")

    def row_function(self, function: Callable[..., Any]) -> Callable[[Tensor, Tensor], Tensor]:
        """An event function of the user as a function of rows."""

        def on_rows(t: Tensor, rows: Tensor) -> Tensor:
            value = function(self.times(t.to(rows.dtype)), self.unpack(rows))
            if not isinstance(value, Tensor) or value.numel() != rows.shape[0]:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"event must return one number a sample, shape ({rows.shape[0]},), got {got}.")
            return value.reshape(-1)

        return on_rows


def _check_parts(parts: list[Any], names: list[str] | None) -> None:
    labels = ["y0"] if len(parts) == 1 and names is None else [f"y0[{n!r}]" for n in names or range(len(parts))]
    if not parts:
        raise ValueError("y0 must hold at least one tensor, got none.")
    for label, part in zip(labels, parts, strict=True):
        if not isinstance(part, Tensor):
            raise TypeError(
                f"{label} must be a tensor of shape (batch, ...) (y0 may be a tuple or a dict of those, not nested), "
                f"got {type(part).__name__}."
            )
        if not part.is_floating_point():
            raise TypeError(f"{label} must hold real floating-point numbers, got {part.dtype}.")
        if len(parts) > 1 or names is not None:
            if part.ndim == 0:
                raise ValueError(f"{label} must have a batch dimension, as every tensor in a structure, got a scalar.")
            if (part.dtype, part.device, part.shape[0]) != (parts[0].dtype, parts[0].device, parts[0].shape[0]):
                raise ValueError(
                    f"{label} must have the dtype, device and batch size of the first tensor of y0, got {part.dtype} "
                    f"on {part.device} with batch {part.shape[0]}."
                )


def solve(
    func: Callable[..., Any],
    y0: State,
    t: Float[Tensor, " times"],
    *,
    method: str = "tsit5",
    rtol: float | Float[Tensor, " batch"] = 1e-5,
    atol: float | Float[Tensor, " batch"] = 1e-6,
    step_size: float | None = None,
    num_steps: int | None = None,
    first_step: float | None = None,
    max_step: float | None = None,
    max_num_steps: int = 10_000,
    per_sample: bool = True,
    event: Callable[..., Tensor] | None = None,
    event_direction: int = 0,
    gradient: str = "solver",
    params: Iterable[Tensor] | None = None,
    record_steps: bool = False,
    compact: bool = True,
) -> Solution:
    """Solve y' = func(t, y) from y(t[0]) = y0 and return y at every time in `t`.

    The times may increase or decrease. With an adaptive method every sample of the batch chooses its own steps, so
    that at one call of `func` the samples stand at different times. Therefore `func` is given a `t` with **one time
    for each sample, shaped to broadcast against y**: (batch, 1, ..., 1) with as many dimensions as y. Write
    `torch.sin(t) * y` or `torch.cat([y, t], dim=1)`. It must treat each sample by itself.

    Parameters
    ----------
    func
        (t, y) -> dy/dt, of y's shape and dtype. Where `y0` is a tuple or dict, y is one too and so must be the result;
        t then has the dimensions of its first tensor.
    y0
        Initial state, (batch, ...), or a scalar tensor, or a tuple or dict of tensors (batch, ...).
    t
        Output times, strictly increasing or decreasing; the first is the time of `y0`.
    method
        "euler", "midpoint", "heun", "rk4" (fixed steps), "heun_euler", "bosh3", "dopri5", "tsit5" (choose their steps,
        unless `step_size` or `num_steps` is given).
    rtol, atol
        A step is taken if error / (atol + rtol max(|y|, |y_next|)), root mean square over the sample, is at most 1.
        Numbers, or one number a sample: a whole sweep over tolerances is then one call.
    step_size, num_steps
        Fixed steps of this size (the last one shorter), or this many equal ones from t[0] to t[-1]. A fixed-step
        method with neither takes one step between two output times.
    first_step, max_step
        Size of the first step instead of the one estimated; largest step.
    max_num_steps
        Attempts after which an adaptive method gives up.
    per_sample
        False: all samples share their steps, and the error is averaged over the batch.
    event, event_direction
        (t, y) -> one number a sample; the sample stops where it crosses zero (direction +1: upward only, -1: downward
        only). Found on the dense output; two crossings within one step cancel and are missed.
    gradient
        How gradients are computed, if something requires them. "solver": autograd through every step. "adjoint": a
        second equation backward in time, memory independent of the number of steps, not exact [neural-ode-chen].
        "checkpoint": exact, keeps the state at each step and repeats the step when going back. "reversible": exact,
        memory independent of the number of steps, fixed steps only; the method changes into its reversible form.
        Step sizes are held constant in all of them.
    params
        Tensors that `func` depends on and that need gradients, for the last three. Found by themselves if `func` is a
        module, or if its derivative at the start depends on them.
    record_steps
        Keep every attempt in `Solution.steps`.
    compact
        Leave samples that have arrived out of further calls of `func`, where that saves work. Done only after a call
        has shown that `func` gives the others the same slopes without them.

    Returns
    -------
    Solution
        y at the times asked for, counters, events and steps.

    Raises
    ------
    TypeError, ValueError
        If an argument is not acceptable, or `func` returns the wrong thing.
    StepUnderflowError, NonFiniteDerivativeError, StepLimitError
        If the integration cannot go on; the message names the time and the sample.

    Notes
    -----
    Embedded Runge-Kutta pairs with a proportional-integral controller, after Hairer, Nørsett and Wanner, *Solving
    Ordinary Differential Equations I*, sections II.4 and IV.2 of volume II.

    Examples
    --------
    >>> t = torch.linspace(0, 1, 3, dtype=torch.float64)
    >>> y0 = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> solution = solve(lambda t, y: -y, y0, t, rtol=1e-8, atol=1e-8)
    >>> solution.y[-1, :, 0]
    tensor([0.3679, 0.7358], dtype=torch.float64)
    >>> solution.stats.rejected.tolist()
    [0, 0]
    """
    plan = _plan(
        y0, t, method, rtol, atol, step_size, num_steps, first_step, max_step, max_num_steps, event_direction,
        record_steps, compact,
    )  # fmt: skip
    check_choice(GRADIENTS, gradient=gradient)
    adaptive = plan.grid is None
    layout = Layout(y0, shared=not per_sample and adaptive)
    plan.rtol, plan.atol = _tolerance("rtol", rtol, layout), _tolerance("atol", atol, layout)
    if isinstance(rtol, Tensor) or isinstance(atol, Tensor):
        # Dropping samples would have to drop their tolerances too.
        plan.compact = False
    if event is not None:
        if layout.shared:
            raise ValueError("event stops each sample by itself and so needs per_sample=True, got per_sample=False.")
        plan.event = layout.row_function(event)
    if isinstance(func, CompiledField):
        if not layout.plain or gradient != "solver" or not adaptive:
            raise ValueError(
                "A CompiledField takes one tensor y0 of shape (batch, ...), an adaptive method, per_sample=True and "
                f'gradient="solver", got {method=}, {per_sample=}, {gradient=}; give solve the function itself.'
            )
        plan.compiled, func = func, func.func
    rhs = RightHandSide(layout.function(func), layout.rows.ndim)
    leaves = None if params is None else [p for p in params if p.requires_grad]
    if leaves is None and isinstance(func, nn.Module):
        leaves = [p for p in func.parameters() if p.requires_grad]

    if layout.rows.numel() == 0 or len(t) == 1:
        return _trivial(layout, t, plan)

    start = plan.times[0].expand(layout.rows.shape[0])
    enabled = torch.is_grad_enabled()
    if t.requires_grad and enabled and gradient != "adjoint":
        raise ValueError(f'Gradients with respect to t need gradient="adjoint", got gradient={gradient!r}.')
    if enabled and leaves is None and gradient != "solver":
        from sciviz.ode import adjoint

        leaves = adjoint.find_parameters(rhs, start, layout.rows)
    with torch.set_grad_enabled(enabled and gradient == "solver"):
        f0 = rhs.at(start, layout.rows)
    needs_grad = enabled and (f0.requires_grad or layout.rows.requires_grad or bool(leaves) or t.requires_grad)

    if needs_grad and gradient != "solver":
        if event is not None or record_steps:
            what = "event" if event is not None else "record_steps"
            raise ValueError(f'{what} needs gradient="solver" where gradients are asked for, got {gradient!r}.')
        from sciviz.ode import adjoint

        outcome = adjoint.integrate(gradient, rhs, layout, f0, t, plan, leaves or [])
    elif gradient == "reversible":
        # The reversible form is another method, whose answer must not depend on whether a gradient is wanted.
        from sciviz.ode import adjoint

        outcome = adjoint.integrate(gradient, rhs, layout, f0, t, plan, [])
    else:
        plan.graph = needs_grad
        outcome = _integrate(rhs, layout.rows, f0, plan)
    return _solution(outcome, layout, t, rhs, record_steps)


def _integrate(rhs: RightHandSide, rows: Tensor, f0: Tensor, plan: Plan) -> Outcome:
    if plan.grid is not None:
        return stepping.integrate_fixed(rhs, rows, f0, plan)
    try:
        return stepping.integrate_adaptive(rhs, rows, f0, replace(plan))
    except GraphAppeared:
        return stepping.integrate_adaptive(rhs, rows, f0, replace(plan, graph=True))
    except PoisonedError:
        return stepping.integrate_adaptive(rhs, rows, f0, replace(plan, compiled=None))


def _plan(
    y0: State, t: Tensor, method: str, rtol: float | Tensor, atol: float | Tensor, step_size: float | None,
    num_steps: int | None, first_step: float | None, max_step: float | None, max_num_steps: int, event_direction: int,
    record: bool, compact: bool,
) -> Plan:  # fmt: skip
    table = tableau(method)
    if not isinstance(rtol, Tensor):
        check_nonnegative(rtol=rtol)
    if not isinstance(atol, Tensor):
        check_positive(atol=atol)
    check_int(1, max_num_steps=max_num_steps)
    check_int(-1, 1, event_direction=event_direction)
    if not isinstance(t, Tensor) or t.ndim != 1 or len(t) == 0 or not t.is_floating_point():
        got = f"{t.dtype} of shape {tuple(t.shape)}" if isinstance(t, Tensor) else type(t).__name__
        raise ValueError(f"t must be a 1-D floating-point tensor of at least one time, got {got}.")
    check_finite(t=t.detach())
    part = next(iter(y0.values() if isinstance(y0, dict) else y0)) if isinstance(y0, (dict, tuple, list)) else y0
    if not isinstance(part, Tensor):
        raise TypeError(
            f"y0 must be a tensor, or a tuple or dict of tensors (not nested), got {type(y0).__name__}"
            f"{'' if part is y0 else ' of ' + type(part).__name__}."
        )
    # Times are kept in double precision: sums of many small steps would drift in single.
    times = t.detach().to(part.device, torch.float64)
    gaps = times.diff()
    direction = -1.0 if len(t) > 1 and bool(gaps[0] < 0) else 1.0
    if not bool((direction * gaps > 0).all()):
        raise ValueError("t must be strictly increasing or strictly decreasing, got times that are neither.")
    for name, value in (("step_size", step_size), ("first_step", first_step), ("max_step", max_step)):
        if value is not None:
            check_positive(**{name: value})
    if step_size is not None and num_steps is not None:
        raise ValueError("step_size and num_steps say the same thing twice, got both; give one of them.")
    grid: list[float] | None = None
    start, end = float(times[0]), float(times[-1])
    if num_steps is not None:
        check_int(1, num_steps=num_steps)
        grid = torch.linspace(start, end, num_steps + 1, dtype=torch.float64).tolist()
    elif step_size is not None:
        count = max(1, math.ceil(abs(end - start) / step_size - 1e-9))
        grid = [start + direction * step_size * n for n in range(count)] + [end]
    elif method not in ADAPTIVE_METHODS:
        grid = times.tolist()
    return Plan(
        table=table, times=times, direction=direction, rtol=rtol, atol=atol, grid=grid,
        first_step=first_step, max_step=max_step, max_num_steps=max_num_steps, event_direction=event_direction,
        record=record, compact=compact,
    )  # fmt: skip


def _tolerance(name: str, value: float | Tensor, layout: Layout) -> float | Tensor:
    """Give a tolerance the shape that broadcasts against the rows."""
    if not isinstance(value, Tensor):
        return float(value)
    if layout.shared or value.shape != (layout.batch,):
        wanted = f"of shape ({layout.batch},)" if not layout.shared else "a number where samples share their steps"
        raise ValueError(f"{name} must be {wanted}, got a tensor of shape {tuple(value.shape)}.")
    check_finite(**{name: value})
    if bool((value < 0).any()) or (name == "atol" and not bool((value > 0).all())):
        raise ValueError(f"{name} must be {'greater than' if name == 'atol' else 'at least'} 0 for every sample.")
    return stepping.column(value.to(layout.rows.device, layout.rows.dtype), layout.rows.ndim)


def _trivial(layout: Layout, t: Tensor, plan: Plan) -> Solution:
    """No samples, or no time to integrate over: y0 at every time."""
    y = layout.rows.expand(len(t), *layout.rows.shape)
    zero = torch.zeros(layout.batch, dtype=torch.int64, device=layout.rows.device)
    nowhere = torch.full((layout.batch,), math.nan, dtype=torch.float64, device=layout.rows.device)
    empty = plan.times.new_zeros((0, layout.batch))
    has_event = plan.event is not None
    return Solution(
        t=t,
        y=layout.unpack(y, (len(t),)) if layout.rows.numel() else _empty(layout, y, len(t)),
        stats=Stats(zero, zero.clone(), zero.clone(), 0),
        event_time=nowhere if has_event else None,
        event_state=_scaled(layout.unpack(layout.rows), math.nan) if has_event and layout.rows.numel() else None,
        steps=Steps(empty, empty, empty.bool(), layout.rows.new_zeros((0, *layout.rows.shape)), empty, empty)
        if plan.record
        else None,
    )


def _empty(layout: Layout, rows: Tensor, count: int) -> State:
    parts = [rows.new_zeros((count, layout.batch, *shape)) + 0 * rows.sum() for shape in layout.shapes]
    if layout.single:
        return parts[0]
    return tuple(parts) if layout.names is None else dict(zip(layout.names, parts, strict=True))


def _scaled(state: State, factor: float) -> State:
    if isinstance(state, Tensor):
        return state * factor
    if isinstance(state, dict):
        return {name: part * factor for name, part in state.items()}
    return tuple(part * factor for part in state)


def _solution(outcome: Outcome, layout: Layout, t: Tensor, rhs: RightHandSide, record: bool) -> Solution:
    steps = None
    if record:
        records = outcome.records
        taken = torch.stack(records.taken) if records.taken else torch.stack(records.h)
        h = torch.stack(records.h)
        errors = torch.stack(records.error) if records.error else torch.zeros_like(h)
        stiffness = torch.stack(records.stiffness) if records.stiffness else torch.full_like(h, math.nan)
        sign = 1.0 if len(t) < 2 or bool(t[1] > t[0]) else -1.0
        batch = (len(h), layout.batch)
        steps = Steps(
            t=torch.stack(records.t).expand(batch),
            h=sign * h.expand(batch),
            accepted=(taken > 0).expand(batch),
            y=layout.unpack(torch.stack(records.y), (len(h),)),
            error=errors.expand(batch),
            stiffness=stiffness.expand(batch),
        )
    evaluations, accepted, rejected = (
        count.expand(layout.batch) for count in (outcome.evaluations, outcome.accepted, outcome.rejected)
    )
    return Solution(
        t=t,
        y=layout.unpack(outcome.y, (len(t),)),
        stats=Stats(evaluations, accepted, rejected, rhs.calls),
        event_time=outcome.event_time,
        event_state=None if outcome.event_state is None else layout.unpack(outcome.event_state),
        steps=steps,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The same, to be read
# ---------------------------------------------------------------------------------------------------------------------


def runge_kutta_step(
    func: Callable[[Tensor, Tensor], Tensor], t: Tensor, y: Tensor, h: float | Tensor, method: Tableau
) -> tuple[Tensor, list[Tensor]]:
    """One explicit Runge-Kutta step, as in the books: y₁ = y + h Σ b_i k_i with k_i = f(t + c_i h, y + h Σ a_ij k_j).

    Returns the state at t + h and the slopes of all stages, the last of which is f(t + h, y₁).

    >>> y1, k = runge_kutta_step(lambda t, y: -y, torch.tensor(0.0), torch.tensor(1.0), 0.5, METHODS["heun"])
    >>> y1.item(), k[-1].item()
    (0.625, -0.625)
    """
    k: list[Tensor] = []
    stage = y
    for c, a in zip(method.nodes, method.stages, strict=True):
        stage = y
        for weight, slope in zip(a, k, strict=False):
            stage = stage + h * weight * slope
        k.append(func(t + c * h, stage))
    return stage, k


def solve_plain(
    func: Callable[[Tensor, Tensor], Tensor],
    y0: Float[Tensor, " d"],
    t: Float[Tensor, " times"],
    method: str = "tsit5",
    rtol: float = 1e-5,
    atol: float = 1e-6,
    first_step: float = 1e-2,
) -> tuple[Float[Tensor, "times d"], int, int]:
    """An adaptive solver for one trajectory forward in time, in the fewest lines: states, steps taken, steps rejected.

    `solve` takes exactly these steps for every sample of a batch. Here `func` gets one time and one state.

    >>> t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> y, taken, rejected = solve_plain(lambda t, y: -y, torch.ones(1, dtype=torch.float64), t)
    >>> abs(y[-1].item() - math.exp(-1)) < 1e-5, rejected
    (True, 0)
    """
    pair = METHODS[method]
    assert pair.error is not None
    now, y, h, output = t[0], y0, torch.as_tensor(first_step, dtype=t.dtype), [y0]
    memory, taken, rejected = 1.0, 0, 0
    while now < t[-1]:
        h = torch.minimum(h, t[-1] - now)
        y_next, k = runge_kutta_step(func, now, y, h, pair)
        difference = h * sum(e * slope for e, slope in zip(pair.error, k, strict=True))
        scale = atol + rtol * torch.maximum(y.abs(), y_next.abs())
        error = float((difference / scale).square().mean().sqrt())
        # A step of the right size has error 1; the error of a step grows like h^order.
        factor = 0.9 * max(error, 1e-300) ** (-0.85 / pair.error_order) * memory
        memory = min(1.0, max(1e-4, error)) ** (0.2 / pair.error_order)
        if error <= 1:
            for time in t[len(output) :][t[len(output) :] <= now + h]:
                weights = pair.dense_weights((time - now) / h)
                output.append(y + h * sum(w * slope for w, slope in zip(weights, k, strict=True)))
            now, y, taken = now + h, y_next, taken + 1
        else:
            rejected += 1
        h = h * min(10.0, max(0.2, factor))
    return torch.stack(list(itertools.islice([*output, y], len(t)))), taken, rejected
