"""How steps are taken: the loops behind `sciviz.ode.solve`.

Two loops share everything else: `integrate_fixed` walks a grid of times, `integrate_adaptive` lets every row of the
state choose its own steps. Both have two ways to take a step. The *buffered* one writes the stages into one stacked
tensor, so that a stage is one matrix-vector product; it is the fast way where no gradient is asked for. The *graph* one
builds new tensors, so that autograd can go back through it. `solvers.solve_plain` is the same algorithm for one
trajectory, written to be read; tests hold the three together.

Here the state is always one tensor of shape (rows, ...): a row is a sample, or the whole batch where steps are shared.
Step sizes and the time that remains are positive numbers also where time runs backward; `direction` carries the sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciviz.ode.tableaus import Tableau

if TYPE_CHECKING:
    from sciviz.ode.compiled import CompiledField

SAFETY = 0.9
SHRINK, GROW = 0.2, 10.0
# A non-finite error is treated as this one: the step is rejected and shrunk as much as a step may be.
HOPELESS = 1e300
# Attempts between two rounds of book-keeping (outputs written, counters, dropping of finished rows).
CHUNK = 32
CHUNK_BYTES = 64 * 2**20
# Rows of at most this many numbers are handled component by component where many points are looked up: gathering and
# scattering single numbers is several times faster than short rows.
NARROW = 8


class SolverError(RuntimeError):
    """The integration could not go on; `time` and `sample` say where."""

    def __init__(self, message: str, time: float, sample: int) -> None:
        super().__init__(message)
        self.time = time
        self.sample = sample


class StepUnderflowError(SolverError):
    """The step that the tolerance asks for is too small to move time: a singularity, or a stiff or rough problem."""


class NonFiniteDerivativeError(SolverError):
    """The derivative or the state became NaN or infinite."""


class StepLimitError(SolverError):
    """`max_num_steps` steps were attempted before the last time was reached."""


class GraphAppeared(Exception):
    """The derivative began to require gradients after a start that did not: start again, with a graph.

    A signal between two functions of this package; no user sees it.
    """


@dataclass
class RightHandSide:
    """The user's function on rows, with a check of what it returns and a count of its calls."""

    func: Callable[[Tensor, Tensor], Tensor]
    ndim: int
    calls: int = 0

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate at times that broadcast against the state."""
        self.calls += 1
        f = self.func(t, y)
        if f.__class__ is not Tensor or f.shape != y.shape or f.dtype is not y.dtype:
            self.check(f, y)
        return f

    def check(self, f: object, y: Tensor) -> None:
        """Raise unless `f` can be the derivative of `y`."""
        if not isinstance(f, Tensor):
            raise TypeError(f"func must return the derivative as a tensor, got {type(f).__name__}.")
        if f.shape != y.shape:
            raise ValueError(
                f"func must return a derivative of the state's shape {tuple(y.shape)}, got {tuple(f.shape)}."
            )
        if f.dtype != y.dtype:
            raise TypeError(f"func must return a derivative of the state's dtype {y.dtype}, got {f.dtype}.")

    def at(self, t: Float[Tensor, " rows"], y: Tensor) -> Tensor:
        """Evaluate with one time a row."""
        return self(column(t.to(y.dtype), self.ndim), y)


def column(values: Float[Tensor, " rows"], ndim: int) -> Tensor:
    """Give one value a row the shape (rows, 1, ..., 1), which broadcasts against a state of `ndim` dimensions."""
    return values.view(-1, *(1,) * (ndim - 1))


RootFunction = Callable[[Tensor, Tensor], Tensor]
"""(times a row, state) -> one value a row, whose zero stops the row."""


@dataclass
class Plan:
    """What is asked of a loop, apart from the right-hand side and the initial state."""

    table: Tableau
    times: Float[Tensor, " times"]
    direction: float
    rtol: float | Tensor = 0.0
    atol: float | Tensor = 0.0
    grid: list[float] | None = None
    first_step: float | None = None
    max_step: float | None = None
    max_num_steps: int = 10_000
    event: RootFunction | None = None
    event_direction: int = 0
    record: bool = False
    compact: bool = True
    graph: bool = False
    trace: bool = False
    norm: Callable[[Tensor], Tensor] | None = None
    compiled: CompiledField | None = None


@dataclass
class Records:
    """Every attempt to take a step, in order. Each is of shape (attempts, rows) but `y`, (attempts, rows, ...)."""

    t: list[Tensor] = field(default_factory=list)
    h: list[Tensor] = field(default_factory=list)
    taken: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)
    error: list[Tensor] = field(default_factory=list)
    stiffness: list[Tensor] = field(default_factory=list)


@dataclass
class Outcome:
    """What a loop hands back, on rows."""

    y: Float[Tensor, "times rows ..."]
    evaluations: Int[Tensor, " rows"]
    accepted: Int[Tensor, " rows"]
    rejected: Int[Tensor, " rows"]
    records: Records
    event_time: Float[Tensor, " rows"] | None = None
    event_state: Float[Tensor, "rows ..."] | None = None


# ---------------------------------------------------------------------------------------------------------------------
# One step
# ---------------------------------------------------------------------------------------------------------------------


def combine(y: Tensor, weights: tuple[float, ...], slopes: list[Tensor], scale: float = 1.0) -> Tensor:
    """Compute y + scale Σ weights_j slopes_j, leaving out the zeros; autograd can go through it.

    >>> combine(torch.ones(1), (0.0, 0.5), [torch.ones(1), 4 * torch.ones(1)]).item()
    3.0
    """
    total = y
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            # The first sum makes a new tensor; the others may then be added in place, also under autograd.
            total = torch.add(y, slope, alpha=scale * weight) if total is y else total.add_(slope, alpha=scale * weight)
    return total


@dataclass
class Attempt:
    """A step that has been tried: the state and slope at its end, its error estimate, and its last inner stage."""

    y: Tensor
    f: Tensor
    error: Tensor
    inner_y: Tensor
    inner_f: Tensor


class GraphStepper:
    """Takes steps that autograd can go back through."""

    def __init__(self, table: Tableau, y: Tensor, dense: bool, chunk: int, errors: bool) -> None:
        self.table = table
        self.keep, self.errors = dense, errors
        # A step's stages, or its polynomial where a compiled step has already put that together.
        self.stages: list[list[Tensor] | Tensor] = []
        self.y = y
        self.slopes: list[Tensor] = []

    def attempt(self, rhs: RightHandSide, f: Tensor, h: Tensor | float, times: tuple[Tensor, ...]) -> Attempt:
        """Try one step of sizes `h` from the state, whose slope is `f`."""
        slopes = [f * h]
        inner_y, inner_f, y, k = self.y, f, self.y, f
        for weights, t in zip(self.table.stages[1:], times[1:], strict=True):
            inner_y, inner_f = y, k
            y = combine(self.y, weights, slopes)
            k = rhs(t, y)
            slopes.append(k * h)
        self.slopes = slopes
        assert self.table.error is not None
        with torch.set_grad_enabled(self.errors):
            error = combine(torch.zeros_like(y), self.table.error, slopes)
        return Attempt(y, k, error, inner_y, inner_f)

    def settle(self, accept: Tensor | None, y: Tensor, n: int) -> None:
        """Keep the step's stages for dense output and move the accepted rows (None: no row moves)."""
        if self.keep:
            self.stages.append([self.y, *self.slopes])
        if accept is not None:
            self.y = torch.where(accept, y, self.y)

    def clear(self) -> None:
        """Forget the steps whose outputs are written."""
        self.stages = []

    def coefficients(self, n: int) -> Tensor:
        """Of step `n` since the last `clear`: the polynomial in θ, lowest power first, shape (powers, rows, ...)."""
        kept = self.stages[n]
        if isinstance(kept, Tensor):
            return kept
        stages = torch.stack(kept)
        coefficients: Tensor = torch.tensordot(dense_matrix(self.table, stages), stages, dims=1)
        return coefficients

    def dense(self, place: Tensor, theta: Tensor) -> Tensor:
        """State at the fraction `theta` of step `place` // rows of the row `place` % rows, one point each."""
        rows = self.y.shape[0]
        step, row = torch.div(place, rows, rounding_mode="floor"), place % rows
        used, inverse = torch.unique(step, return_inverse=True)
        coefficients = torch.stack([self.coefficients(n) for n in used.tolist()])
        return polynomial(coefficients[inverse, :, row].movedim(1, 0), theta)


class BufferedStepper:
    """Takes the same steps without autograd: y and all h k_i are stacked, so that a stage is one product."""

    def __init__(self, table: Tableau, y: Tensor, dense: bool, chunk: int, errors: bool) -> None:
        count = len(table.nodes)
        self.shape = y.shape
        self.buffer = y.new_empty((count + 1, *y.shape))
        self.y, *self.slopes = self.buffer.unbind(0)
        self.y.copy_(y)
        self.flat = self.buffer.view(count + 1, -1)
        self.table, self.keep = table, dense
        if dense:
            self.matrix = dense_matrix(table, y)
            self.polynomials = y.new_empty((self.matrix.shape[0], chunk, *y.shape))
            self.rows = self.polynomials.view(self.matrix.shape[0], chunk, -1).unbind(1)

    @cached_property
    def products(self) -> list[tuple[Tensor, Tensor]]:
        """For each stage but the first what is stacked before it, and its weights; compiled steps never ask."""
        like = self.flat
        return [
            (like[: i + 1].t(), torch.tensor([1.0, *weights], dtype=like.dtype, device=like.device))
            for i, weights in enumerate(self.table.stages)
            if i
        ]

    @cached_property
    def error_product(self) -> tuple[Tensor, Tensor]:
        """The stacked slopes, and their weights in the error estimate."""
        assert self.table.error is not None
        return self.flat[1:].t(), torch.tensor(self.table.error, dtype=self.flat.dtype, device=self.flat.device)

    def attempt(self, rhs: RightHandSide, f: Tensor, h: Tensor | float, times: tuple[Tensor, ...]) -> Attempt:
        """Try one step of sizes `h` from the state, whose slope is `f`."""
        shape, slopes = self.shape, self.slopes
        torch.mul(f, h, out=slopes[0])
        inner_y, inner_f, y, k = self.y, f, self.y, f
        for i, (stack, weights) in enumerate(self.products, start=1):
            inner_y, inner_f = y, k
            y = torch.mv(stack, weights).view(shape)
            k = rhs(times[i], y)
            if k.requires_grad and torch.is_grad_enabled():
                raise GraphAppeared
            torch.mul(k, h, out=slopes[i])
        return Attempt(y, k, torch.mv(*self.error_product).view(shape), inner_y, inner_f)

    def settle(self, accept: Tensor | None, y: Tensor, n: int) -> None:
        """Keep the step's polynomial for dense output and move the accepted rows (None: no row moves)."""
        if self.keep:
            torch.mm(self.matrix, self.flat, out=self.rows[n])
        if accept is not None:
            torch.where(accept, y, self.y, out=self.y)

    def clear(self) -> None:
        """Forget the steps whose outputs are written: here they are simply written over."""

    def coefficients(self, n: int) -> Tensor:
        """Of step `n` since the last `clear`: the polynomial in θ, lowest power first, shape (powers, rows, ...)."""
        return self.polynomials[:, n]

    def dense(self, place: Tensor, theta: Tensor) -> Tensor:
        """State at the fraction `theta` of step `place` // rows of the row `place` % rows, one point each."""
        table = self.polynomials.view(self.polynomials.shape[0], -1, *self.shape[1:])
        theta = column(theta, table.ndim - 1)
        value = table[-1].index_select(0, place)
        for power in reversed(table[:-1].unbind(0)):
            value = torch.addcmul(power.index_select(0, place), value, theta)
        return value

    def dense_components(self, place: Tensor, theta: Tensor, used: int) -> list[Tensor]:
        """The same as `dense` for narrow rows, one tensor a component; `used` attempts of the chunk are filled."""
        filled = self.polynomials[:, :used]
        components = filled.reshape(filled.shape[0], used * self.shape[0], -1).permute(2, 0, 1).contiguous()
        values = []
        for powers in components.unbind(0):
            value = powers[-1].index_select(0, place)
            for power in reversed(powers[:-1].unbind(0)):
                value = torch.addcmul(power.index_select(0, place), value, theta)
            values.append(value)
        return values


def dense_matrix(table: Tableau, like: Tensor) -> Tensor:
    """Matrix from (y, h k_1, ..., h k_s) to the coefficients of 1, θ, θ², ... of the state within the step."""
    powers = [[1.0, *(0.0 for _ in table.dense)]]
    powers += [[0.0, *column_] for column_ in zip(*table.dense, strict=True)]
    return torch.tensor(powers, dtype=like.dtype, device=like.device)


def polynomial(coefficients: Float[Tensor, "powers points ..."], theta: Float[Tensor, " points"]) -> Tensor:
    """Σ_p coefficients_p θ^p, one θ a point (Horner's rule).

    >>> polynomial(torch.tensor([[1.0], [0.0], [3.0]]), torch.tensor([2.0])).tolist()
    [13.0]
    """
    theta = column(theta, coefficients.ndim - 1)
    value = coefficients[-1]
    for power in reversed(coefficients[:-1].unbind(0)):
        value = torch.addcmul(power, value, theta)
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Events
# ---------------------------------------------------------------------------------------------------------------------


class EventWatch:
    """Watches one function of time and state for each row, and keeps the step in which it changed sign."""

    def __init__(self, plan: Plan, t: Tensor, y: Tensor) -> None:
        assert plan.event is not None
        self.event, self.wanted = plan.event, plan.event_direction
        self.sign = self.value(t, y).sign()
        self.found = torch.zeros(y.shape[0], dtype=torch.bool, device=y.device)
        self.before = self.sign.clone()
        self.start = t.clone()
        self.step = torch.zeros_like(t)
        self.coefficients: Tensor | None = None

    def value(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate the event function, without a graph."""
        with torch.no_grad():
            return self.event(t, y.detach()).to(t.dtype)

    def look(self, t0: Tensor, h: Tensor, t1: Tensor, y1: Tensor, coefficients: Callable[[], Tensor]) -> Tensor | None:
        """Tell which rows cross zero in the step from `t0` of signed size `h`; None if no row does."""
        sign = self.value(t1, y1).sign()
        # A row that starts exactly on zero (a ball that has just bounced) has not crossed it.
        crossing = (self.sign != 0) & (sign != self.sign) & ~self.found
        if self.wanted:
            crossing &= self.sign == -self.wanted
        before, self.sign = self.sign, sign
        if not bool(crossing.any()):
            return None
        self.found |= crossing
        self.before = torch.where(crossing, before, self.before)
        self.start, self.step = torch.where(crossing, t0, self.start), torch.where(crossing, h, self.step)
        fresh = coefficients()
        kept = torch.zeros_like(fresh) if self.coefficients is None else self.coefficients
        self.coefficients = torch.where(column(crossing, fresh.ndim - 1), fresh, kept)
        return crossing

    def locate(self, rhs: RightHandSide, graph: bool) -> tuple[Tensor, Tensor | None]:
        """Time and state of each row's event, by bisection of the step's interpolant; NaN for a row that had none."""
        nowhere = torch.full_like(self.start, math.nan)
        if self.coefficients is None:
            return nowhere, None
        polynomials = self.coefficients
        low, high = torch.zeros_like(self.start), torch.ones_like(self.start)
        with torch.no_grad():
            for _ in range(54):
                middle = 0.5 * (low + high)
                y = polynomial(polynomials.detach(), middle.to(polynomials.dtype))
                same = self.value(self.start + middle * self.step, y).sign() == self.before
                low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        time = self.start + high * self.step
        state = polynomial(polynomials, high.to(polynomials.dtype))
        if graph and state.requires_grad:
            time, state = self._implicit(rhs, time, state)
        shape = column(self.found, state.ndim)
        return torch.where(self.found, time, nowhere), torch.where(shape, state, torch.full_like(state, math.nan))

    def _implicit(self, rhs: RightHandSide, time: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Let the event's time and state depend on whatever the trajectory depends on.

        At the event g(t, y(t)) = 0, so that by the implicit function theorem a perturbation δy of the trajectory moves
        the time by -(∂g/∂y · δy) / (dg/dt): what one Newton step on t computes, with the slope held constant.
        """
        with torch.no_grad():
            f = rhs.at(time, state.detach())
        t_leaf, y_leaf = time.detach().requires_grad_(), state.detach().requires_grad_()
        with torch.enable_grad():
            total = self.event(t_leaf, y_leaf).sum()
            by_t, by_y = torch.autograd.grad(total, (t_leaf, y_leaf), allow_unused=True, materialize_grads=True)
        slope = by_t + (by_y * f).flatten(1).sum(1) if f.ndim > 1 else by_t + by_y * f
        slope = torch.where(self.found, slope, torch.ones_like(slope)).to(time.dtype)
        value = self.event(time, state).to(time.dtype)
        shift = -(value - value.detach()) / slope
        return time + shift, state + f * column(shift.to(state.dtype), state.ndim)


# ---------------------------------------------------------------------------------------------------------------------
# Every row its own steps
# ---------------------------------------------------------------------------------------------------------------------


def row_norm(values: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
    """Root mean square of each row.

    >>> row_norm(torch.tensor([[3.0, 3.0], [0.0, 2.0]]))
    tensor([3.0000, 1.4142])
    """
    if values.ndim == 1:
        return values.abs()
    flat = values.flatten(1) if values.ndim > 2 else values
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1) * flat.shape[1] ** -0.5
    return norms


def initial_step(
    rhs: RightHandSide, t: Tensor, y: Tensor, f: Tensor, span: Tensor, plan: Plan
) -> Float[Tensor, " rows"]:
    """First step size of each row, from the sizes of y, y' and y'' (Hairer, Nørsett and Wanner, section II.4)."""
    norm = plan.norm or row_norm
    with torch.no_grad():
        y, f = y.detach(), f.detach()
        scale = y.abs().mul_(plan.rtol).add_(plan.atol)
        size, speed = norm(y / scale).to(t.dtype), norm(f / scale).to(t.dtype)
        trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed)
        trial = torch.minimum(trial, span)
        signed = column((trial * plan.direction).to(y.dtype), y.ndim)
        f_next = rhs.at(t + trial * plan.direction, y + signed * f).detach()
        bend = norm((f_next - f) / scale).to(t.dtype) / trial
        steepest = torch.maximum(speed, bend)
        step = (0.01 / steepest) ** (1.0 / plan.table.error_order)
        step = torch.where(steepest <= 1e-15, torch.clamp(1e-3 * trial, min=1e-6), step).nan_to_num(nan=0.0)
        step = torch.where(step > 0, torch.minimum(100 * trial, step), trial)
        return torch.minimum(step, span)


class AdaptiveRun:
    """The state of one adaptive integration; `integrate_adaptive` drives it."""

    stride = 1  # attempts that `advance` makes where it may

    def __init__(self, rhs: RightHandSide, y0: Tensor, f0: Tensor, plan: Plan) -> None:
        self.rhs, self.plan, self.table = rhs, plan, plan.table
        rows, device = y0.shape[0], y0.device
        times = plan.times
        self.clock = times.dtype
        self.end = times[-1]
        self.inner = plan.direction * times[1:-1]
        self.total_rows = rows
        self.rows = torch.arange(rows, device=device)
        self.want_dense = len(times) > 2 or plan.event is not None
        per_step = (len(self.table.dense[0]) + 1) * max(1, y0.numel()) * y0.element_size()
        chunk = max(1, min(CHUNK, CHUNK_BYTES // per_step)) if self.want_dense else CHUNK
        self.chunk = max(1, chunk // self.stride) * self.stride
        self.nodes = torch.tensor(self.table.nodes, dtype=self.clock, device=device)
        self.attempts = torch.zeros(rows, dtype=torch.int64, device=device)
        self.accepted = torch.zeros_like(self.attempts)
        self.records = Records()
        # Without a graph the answers go straight to their place; with one they are put together at the end.
        width = y0[0].numel()
        self.narrow = width <= NARROW and not plan.graph
        places = len(times) * rows
        self.out: Tensor | None = None
        if not plan.graph:
            self.out = y0.new_empty((width, places) if self.narrow else (places, *y0.shape[1:]))
        self.pieces: list[tuple[Tensor, Tensor]] = []
        self.start_attempts = 1

        span = (times[-1] - times[0]).abs().expand(rows)
        start = times[0].expand(rows)
        check_start(y0, f0, float(times[0]))
        if plan.first_step is None:
            h = initial_step(rhs, start, y0, f0, span, plan)
            self.start_attempts += 1
        else:
            h = span.clamp(max=plan.first_step)
        if plan.max_step is not None:
            h = h.clamp(max=plan.max_step)
        self.watch = EventWatch(plan, start, y0) if plan.event is not None else None
        self._open(y0, f0.clone() if not plan.graph else f0, h, span, torch.full_like(span, SAFETY))

    def _open(self, y: Tensor, f: Tensor, h: Tensor, left: Tensor, memory: Tensor) -> None:
        """Make room for the rows that are left: their stages and the history of the next `chunk` attempts."""
        make = GraphStepper if self.plan.graph else BufferedStepper
        self.stepper: GraphStepper | BufferedStepper = make(
            self.table, y, self.want_dense, self.chunk, self.plan.record
        )
        self.f, self.memory = f, memory
        rows = y.shape[0]
        history = torch.zeros((4, self.chunk + 1, rows), dtype=self.clock, device=y.device)
        self.tried, self.moved, self.left, self.errors = history.unbind(0)
        # Rows at hand are worth their making where each is used; a run that makes strides needs few.
        self.tried_rows, self.moved_rows, self.left_rows, self.error_rows = (
            part.unbind(0) if self.stride == 1 else part for part in history.unbind(0)
        )
        self.tried_rows[0].copy_(h)
        self.left_rows[0].copy_(left)
        self.time_shape = (-1, rows, *(1,) * (y.ndim - 1))
        self.step_shape = (rows, *(1,) * (y.ndim - 1))
        # Broadcasting over short rows is slow; where there are many it pays to write one value a number.
        self.spread = y.shape if rows > 1024 and y[0].numel() <= 4 * NARROW else None

    def step(self, n: int) -> None:
        """Attempt one step for every row; row `n` of the history is read, row `n` + 1 written."""
        plan, stepper, sign = self.plan, self.stepper, self.plan.direction
        h, left = self.tried_rows[n], self.left_rows[n]
        start = torch.add(self.end, left, alpha=-sign)
        times = torch.addr(start, self.nodes, h, alpha=sign)
        y = stepper.y
        if y.dtype != self.clock:
            times = times.to(y.dtype)
        h_state = h.to(y.dtype).view(self.step_shape)
        if sign < 0 or plan.graph:
            # Autograd keeps it, and the history row it would share its memory with is written again.
            h_state = sign * h_state
        if self.spread is not None:
            h_state = h_state.expand(self.spread).contiguous()
        trial = stepper.attempt(self.rhs, self.f, h_state, times.view(self.time_shape).unbind(0))

        if plan.record and plan.graph:
            scale = torch.maximum(y.abs(), trial.y.abs()) * plan.rtol + plan.atol
            graph_error = (plan.norm or row_norm)(trial.error / scale)
            error = graph_error.detach()
        else:
            end = trial.y.detach() if plan.graph else trial.y
            scale = torch.maximum(y.detach().abs(), end.abs()).mul_(plan.rtol).add_(plan.atol)
            error = (plan.norm or row_norm)(trial.error.detach().div_(scale))
            graph_error = error
        error = torch.nan_to_num(error.to(self.clock), nan=HOPELESS, posinf=HOPELESS, out=self.error_rows[n])
        accept = error <= 1.0

        # Proportional-integral control: a step after one with a small error grows less, which damps oscillations.
        order = self.table.error_order
        factor = error.pow(-0.85 / order).mul_(self.memory).clamp_(SHRINK, GROW)
        poisoned = plan.graph and bool((error >= HOPELESS).any())
        if poisoned:
            # A NaN in a rejected row would poison the gradients of the whole graph, so nobody moves in this attempt:
            # the rows that were fine will repeat exactly the same step.
            hopeless = error >= HOPELESS
            graph_error = error.clone()
            accept = torch.zeros_like(accept)
            factor = torch.where(hopeless, factor, torch.ones_like(factor))
            self.memory = torch.where(hopeless, torch.full_like(error, SAFETY), self.memory)
            h_counted = h * hopeless
        else:
            self.memory = error.clamp(1e-4, 1.0).pow_(0.2 / order).mul_(SAFETY)
            h_counted = h

        if plan.record or plan.trace:
            # A history row is used again in the next chunk, and so is the buffered state.
            self.records.t.append(start)
            self.records.h.append(h_counted.clone())
            self.records.taken.append(h * accept)
            self.records.y.append(y if plan.graph else y.clone())
            if plan.record:
                self.records.error.append(graph_error if plan.graph else error.clone())
                self.records.stiffness.append(_stiffness(trial, self.table))

        moved = torch.mul(h, accept, out=self.moved_rows[n])
        left_next = torch.sub(left, moved, out=self.left_rows[n + 1])
        accept_state = accept.view(self.step_shape)
        if self.spread is not None:
            accept_state = accept_state.expand(self.spread).contiguous()
        stepper.settle(None if poisoned else accept_state, trial.y, n)
        if not poisoned:
            self.f = torch.where(accept_state, trial.f, self.f)
        wish = h * factor
        if plan.max_step is not None:
            wish.clamp_(max=plan.max_step)
        torch.minimum(wish, left_next, out=self.tried_rows[n + 1])
        if h_counted is not h:
            # Counters read the history: the rows that only repeat do not count this attempt.
            h.copy_(h_counted)

        if self.watch is not None:
            now = torch.add(self.end, left_next, alpha=-sign)
            latest = -1 if plan.graph else n
            crossing = self.watch.look(start, sign * moved, now, stepper.y, lambda: stepper.coefficients(latest))
            if crossing is not None:
                left_next.masked_fill_(crossing, 0.0)
                self.tried_rows[n + 1].masked_fill_(crossing, 0.0)

    def advance(self, n: int, room: int) -> int:
        """Make one attempt or more, at most `room`; return how many."""
        self.step(n)
        return 1

    def finished(self, n: int) -> bool:
        """Tell whether every row has arrived."""
        return not bool(self.left_rows[n].any())

    def flush(self, n: int) -> None:
        """After `n` attempts: count them, write the outputs they passed, look for rows in trouble."""
        rows = self.rows
        self.attempts.index_add_(0, rows, (self.tried[:n] > 0).sum(0))
        self.accepted.index_add_(0, rows, (self.moved[:n] > 0).sum(0))
        if len(self.inner):
            bounds = self.plan.direction * self.end - self.left[: n + 1]
            place, index, theta = outputs_in_steps(self.inner, bounds, self.moved[:n])
            if len(place):
                theta = theta.to(self.stepper.y.dtype)
                # Looking rows up is much cheaper than dividing by their number.
                target = rows.repeat(n).index_select(0, place).add_(index, alpha=self.total_rows).add_(self.total_rows)
                if self.narrow and isinstance(self.stepper, BufferedStepper):
                    self._write_components(target, self.stepper.dense_components(place, theta, n))
                else:
                    self._write(target, self.stepper.dense(place, theta))
        self.stepper.clear()
        h, left = self.tried_rows[n], self.left_rows[n]
        time = torch.add(self.end, left, alpha=-self.plan.direction)
        stuck = (h < 16 * torch.finfo(self.clock).eps * time.abs()) & (h < left)
        if bool(stuck.any()):
            row = int(stuck.nonzero()[0])
            not_finite = bool((self.errors[:n, row] >= HOPELESS).any())
            raise underflow_error(int(self.rows[row]), float(time[row]), not_finite)
        self.tried_rows[0].copy_(h)
        self.left_rows[0].copy_(left)

    def compact(self) -> None:
        """Drop finished rows where that saves work, if the right-hand side does not mind."""
        plan, y = self.plan, self.stepper.y
        if not plan.compact or plan.trace or plan.record or self.watch is not None or y.shape[0] < 32:
            return
        alive = self.left_rows[0] > 0
        if int(alive.sum()) > 0.75 * y.shape[0]:
            return
        keep = alive.nonzero()[:, 0]
        y_kept, f_kept = y[keep], self.f[keep]
        left = self.left_rows[0][keep]
        if not self._independent(torch.add(self.end, left, alpha=-plan.direction), y_kept, f_kept):
            plan.compact = False
            return
        self._retire(~alive)
        self.rows = self.rows[keep]
        self._open(y_kept, f_kept, self.tried_rows[0][keep], left, self.memory[keep])

    def _independent(self, t: Tensor, y: Tensor, f: Tensor) -> bool:
        """Tell whether the function gives the rows that are left the slopes that they had among all the others.

        It does not where it holds tensors of the whole batch's size, or mixes samples; then all rows stay.
        """
        try:
            with torch.no_grad():
                alone = self.rhs.at(t, y.detach())
        except (RuntimeError, ValueError, IndexError):
            return False
        tolerance = 1e3 * torch.finfo(y.dtype).eps
        return torch.allclose(alone, f.detach(), rtol=tolerance, atol=tolerance * float(f.detach().abs().max()))

    def _retire(self, gone: Tensor) -> None:
        self._write((len(self.plan.times) - 1) * self.total_rows + self.rows[gone], self.stepper.y[gone])

    def _write(self, places: Tensor, values: Tensor) -> None:
        if self.out is None:
            self.pieces.append((places, values))
        elif self.narrow:
            self._write_components(places, list(values.reshape(len(values), -1).unbind(1)))
        else:
            self.out.index_copy_(0, places, values)

    def _write_components(self, places: Tensor, components: list[Tensor]) -> None:
        assert self.out is not None
        for out, values in zip(self.out.unbind(0), components, strict=True):
            out.index_copy_(0, places, values)

    def close(self, y0: Tensor) -> Outcome:
        """Put the answer together."""
        self._retire(torch.ones_like(self.rows, dtype=torch.bool))
        count = len(self.plan.times)
        shape = (count, self.total_rows, *y0.shape[1:])
        if self.out is None:
            self.pieces.append((torch.arange(self.total_rows, device=y0.device), y0))
            order = torch.cat([places for places, _ in self.pieces]).argsort()
            y = torch.cat([values for _, values in self.pieces]).index_select(0, order).view(shape)
        else:
            y = (self.out.t().contiguous() if self.narrow else self.out).view(shape)
            y[0] = y0
        stages = self.table.evaluations_per_step
        outcome = Outcome(
            y=y,
            evaluations=self.start_attempts + stages * self.attempts,
            accepted=self.accepted,
            rejected=self.attempts - self.accepted,
            records=self.records,
        )
        return finish_events(outcome, self.watch, self.rhs, self.plan)

    def refuse_limit(self, n: int) -> None:
        """Raise for the row that has furthest to go."""
        left = self.left_rows[n]
        row = int(left.argmax())
        time = float(self.end - self.plan.direction * left[row])
        raise limit_error(int(self.rows[row]), time, float(self.end), self.plan.max_num_steps)


def check_start(y0: Tensor, f0: Tensor, time: float) -> None:
    """Raise unless the state and its derivative are finite at the start."""
    if bool(torch.isfinite(f0).all()) and bool(torch.isfinite(y0).all()):
        return
    bad_state = ~torch.isfinite(y0.detach()).flatten(1).all(1) if y0.ndim > 1 else ~torch.isfinite(y0.detach())
    bad = bad_state | (~torch.isfinite(f0.detach()).flatten(1).all(1) if f0.ndim > 1 else ~torch.isfinite(f0))
    sample = int(bad.nonzero()[0])
    what = "state" if bool(bad_state[sample]) else "derivative"
    raise NonFiniteDerivativeError(
        f"The {what} of sample {sample} is not finite at the start, t = {time:g}.", time, sample
    )


def underflow_error(sample: int, time: float, not_finite: bool) -> SolverError:
    """The error for a step that became too small to move time."""
    if not_finite:
        return NonFiniteDerivativeError(
            f"The derivative of sample {sample} is not finite just beyond t = {time:.10g}; no step was small enough "
            "to avoid it.", time, sample
        )  # fmt: skip
    return StepUnderflowError(
        f"The step of sample {sample} became too small to move time at t = {time:.10g}: the solution may be singular "
        "there, or the tolerance out of reach of its precision.", time, sample
    )  # fmt: skip


def limit_error(sample: int, time: float, end: float, max_num_steps: int) -> SolverError:
    """The error for a row that is not there after `max_num_steps` attempts."""
    return StepLimitError(
        f"Sample {sample} reached the limit of max_num_steps={max_num_steps} steps at t = {time:.10g}, "
        f"before t = {end:g}: the problem may be stiff, or the tolerance too tight.", time, sample
    )  # fmt: skip


def _stiffness(trial: Attempt, table: Tableau) -> Tensor:
    """Estimate the fastest rate from below: ‖f(t₁, y₁) - f(t₁, Y)‖ / ‖y₁ - Y‖ for the last inner stage Y.

    Y must lie at t₁ too (Hairer and Wanner, section IV.2); NaN for methods with no such stage.
    """
    if table.nodes[-2] != 1.0:
        return torch.full_like(trial.y.detach().flatten(1)[:, 0] if trial.y.ndim > 1 else trial.y.detach(), math.nan)
    tiny = torch.finfo(trial.y.dtype).tiny
    return row_norm(trial.f - trial.inner_f) / (row_norm(trial.y - trial.inner_y) + tiny)


def outputs_in_steps(
    wanted: Float[Tensor, " outputs"],
    bounds: Float[Tensor, "steps+1 rows"],
    moved: Float[Tensor, "steps rows"],
) -> tuple[Int[Tensor, " points"], Int[Tensor, " points"], Float[Tensor, " points"]]:
    """Which of the increasing times `wanted` fall into which step of which row: (step · rows + row), output, fraction.

    >>> bounds = torch.tensor([[0.0], [1.0], [3.0]])
    >>> [x.tolist() for x in outputs_in_steps(torch.tensor([0.5, 2.0, 3.0, 4.0]), bounds, bounds.diff(dim=0))]
    [[0, 1, 1], [0, 1, 2], [0.5, 0.5, 1.0]]
    """
    passed = torch.searchsorted(wanted, bounds.contiguous(), right=True)
    counts = passed.diff(dim=0).flatten()
    place = torch.repeat_interleave(counts)
    # Within its step, output number i of the step is wanted[passed + i].
    first = (passed[:-1].flatten() - (counts.cumsum(0) - counts)).index_select(0, place)
    index = first + torch.arange(len(place), device=place.device)
    begin, size = bounds[:-1].flatten().index_select(0, place), moved.flatten().index_select(0, place)
    theta = (wanted.index_select(0, index) - begin) / size
    return place, index, theta


def integrate_adaptive(rhs: RightHandSide, y0: Tensor, f0: Tensor, plan: Plan) -> Outcome:
    """Integrate with steps that keep each row's error estimate below its tolerance."""
    # Imported here because they build on this module.
    plain = not plan.record and not plan.trace and plan.event is None
    run: AdaptiveRun
    if plan.compiled is not None and plain:
        from sciviz.ode.compiled import CompiledRun

        run = CompiledRun(rhs, y0, f0, replace(plan, compact=False))
    elif y0.shape[0] == 1 and plain:
        from sciviz.ode.shared import integrate_shared

        return integrate_shared(rhs, y0, f0, plan)
    else:
        run = AdaptiveRun(rhs, y0, f0, plan)
    # On an accelerator asking whether all rows are finished stops the queue; a few attempts too many cost less.
    ask_every = 1 if y0.device.type == "cpu" else 4
    total = n = 0
    while True:
        made = run.advance(n, plan.max_num_steps - total)
        n += made
        total += made
        done = (total % ask_every == 0 or n == run.chunk) and run.finished(n)
        if done or n == run.chunk:
            run.flush(n)
            if done:
                return run.close(y0)
            n = 0
            run.compact()
        if total >= plan.max_num_steps:
            if run.finished(n):
                run.flush(n)
                return run.close(y0)
            run.refuse_limit(n)


# ---------------------------------------------------------------------------------------------------------------------
# Fixed steps
# ---------------------------------------------------------------------------------------------------------------------


def fixed_step(
    rhs: RightHandSide, table: Tableau, y: Tensor, f: Tensor, h: float, times: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """One step of signed size `h`: the new state, and the slopes of all stages but the one at its end."""
    slopes = [f]
    for weights, t in zip(table.stages[1:-1], times[1:-1], strict=True):
        slopes.append(rhs(t, combine(y, weights, slopes, h)))
    return combine(y, table.weights, slopes, h), slopes


def integrate_fixed(rhs: RightHandSide, y0: Tensor, f0: Tensor, plan: Plan) -> Outcome:
    """Walk the grid of `plan`; outputs between its points come from the method's dense output."""
    assert plan.grid is not None
    grid, table = plan.grid, plan.table
    rows = y0.shape[0]
    outputs = place_on_grid(plan.times.tolist(), grid, plan.direction)
    matrix = dense_matrix(table, y0)
    watch = EventWatch(plan, plan.times[0].expand(rows), y0) if plan.event is not None else None
    found: list[Tensor] = [y0]
    records = Records()
    y, f = y0, f0
    checked, checked_y = 0, y0
    steps = len(grid) - 1
    stage_times: list[Tensor] = []
    known = True
    n = 0
    while n < steps:
        if n % 256 == 0:
            stage_times = _stage_times(grid[n : n + 257], table, rhs.ndim, y0)
        h = grid[n + 1] - grid[n]
        local = (n % 256) * len(table.nodes)
        times = stage_times[local : local + len(table.nodes)]
        if not known:
            f = rhs(times[0], y)
        y_next, slopes = fixed_step(rhs, table, y, f, h, times)
        inside = outputs[n]
        known = watch is not None or any(theta < 1.0 for theta in inside)
        if known:
            f = rhs(times[-1], y_next)
            stages = torch.stack([y, *(h * slope for slope in (*slopes, f))])
            if inside:
                theta = torch.tensor(inside, dtype=y.dtype, device=y.device)
                powers = torch.stack([theta**p for p in range(len(matrix))], dim=-1)
                dense = torch.tensordot(powers @ matrix, stages, dims=1)
                found += [y_next if at == 1.0 else dense[i] for i, at in enumerate(inside)]
        else:
            found += [y_next] * len(inside)
        if plan.record or plan.trace:
            records.t.append(plan.times.new_full((rows,), grid[n]))
            records.h.append(plan.times.new_full((rows,), abs(h)))
            records.y.append(y)
        if watch is not None:
            start, now = plan.times.new_full((rows,), grid[n]), plan.times.new_full((rows,), grid[n + 1])
            done = watch.found.clone()
            # A row that has had its event stands still, so that what lies beyond it can do no harm.
            y_next = torch.where(column(done, y.ndim), y, y_next)
            watch.look(start, now - start, now, y_next, lambda: torch.tensordot(matrix, stages, dims=1))  # noqa: B023
            known = not bool(done.any())
            if bool(watch.found.all()):
                found += [y_next] * (len(plan.times) - len(found))
                n = steps - 1
        y = y_next
        n += 1
        if n == steps or n - checked >= 16:
            if not bool(torch.isfinite(y.detach()).all()):
                _refuse_fixed(rhs, table, checked_y, checked, plan)
            checked, checked_y = n, y.detach()
    count = torch.full((rows,), steps, dtype=torch.int64, device=y0.device)
    outcome = Outcome(
        y=torch.stack(found),
        evaluations=torch.full_like(count, rhs.calls),
        accepted=count,
        rejected=torch.zeros_like(count),
        records=records,
    )
    return finish_events(outcome, watch, rhs, plan)


def _stage_times(grid: list[float], table: Tableau, ndim: int, y: Tensor) -> list[Tensor]:
    starts = torch.tensor(grid[:-1], dtype=torch.float64)
    sizes = torch.tensor(grid, dtype=torch.float64).diff()
    times = torch.addr(torch.zeros(1, dtype=torch.float64), sizes, torch.tensor(table.nodes, dtype=torch.float64))
    times = (times + starts[:, None]).flatten().to(y.device, y.dtype)
    shape = (times.shape[0], y.shape[0], *(1,) * (ndim - 1))
    return list(times.view(-1, *(1,) * ndim).expand(shape).unbind(0))


def place_on_grid(times: list[float], grid: list[float], direction: float) -> list[list[float]]:
    """For each step of `grid`, the outputs that fall into it, as fractions of the step (the first time excepted).

    >>> place_on_grid([0.0, 0.5, 1.0, 2.0], [0.0, 1.0, 2.0], 1.0)
    [[0.5, 1.0], [1.0]]
    """
    inside: list[list[float]] = [[] for _ in grid[1:]]
    step = 0
    for time in times[1:]:
        while step < len(inside) - 1 and direction * (time - grid[step + 1]) > 1e-9 * abs(grid[step + 1] - grid[step]):
            step += 1
        theta = (time - grid[step]) / (grid[step + 1] - grid[step])
        inside[step].append(1.0 if abs(theta - 1.0) < 1e-9 else theta)
    return inside


def _refuse_fixed(rhs: RightHandSide, table: Tableau, y: Tensor, start: int, plan: Plan) -> None:
    """Go again through the last few steps, one by one, to name the time and the sample."""
    assert plan.grid is not None
    with torch.no_grad():
        for n in range(start, len(plan.grid) - 1):
            times = _stage_times(plan.grid[n : n + 2], table, rhs.ndim, y)
            f = rhs(times[0], y)
            y_next, _ = fixed_step(rhs, table, y, f, plan.grid[n + 1] - plan.grid[n], times)
            bad = ~torch.isfinite(y_next) | ~torch.isfinite(f)
            if bool(bad.any()):
                sample, time = int(bad.flatten(1).any(1).nonzero()[0] if y.ndim > 1 else bad.nonzero()[0]), plan.grid[n]
                raise NonFiniteDerivativeError(
                    f"The derivative or state of sample {sample} is not finite in the step from t = {time:.10g} to "
                    f"t = {plan.grid[n + 1]:.10g}: the step may be too large.", time, sample
                )  # fmt: skip
            y = y_next


def finish_events(outcome: Outcome, watch: EventWatch | None, rhs: RightHandSide, plan: Plan) -> Outcome:
    """Find the events in the steps that held them, and blank what lies beyond."""
    if watch is None:
        return outcome
    time, state = watch.locate(rhs, plan.graph)
    outcome.event_time = time
    outcome.event_state = torch.full_like(outcome.y[0], math.nan) if state is None else state
    beyond = plan.direction * (plan.times[:, None] - time.detach()) > 0
    mask: Bool[Tensor, "times rows ..."] = beyond.view(*beyond.shape, *(1,) * (outcome.y.ndim - 2))
    outcome.y = outcome.y.masked_fill(mask, math.nan)
    return outcome
