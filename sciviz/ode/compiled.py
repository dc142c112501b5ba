"""A few adaptive steps of many rows as one compiled function: `solve(CompiledField(func), ...)`.

`stepping.AdaptiveRun.step` is the plain form: the same arithmetic, a few dozen tensor operations of a few microseconds
each, which is what small states cost. `torch.compile` turns whole steps, the user's function in them, into a handful of
loops. It takes tens of seconds the first time and needs a C++ compiler, so it is asked for, never assumed; tests hold
both forms together. Calling what is compiled costs several times as much as its arithmetic, so a call takes four steps;
rows that arrive in the first of them stand still in the others. Where no gradient is asked for, `fused` lets the small
layers of a network join the loops.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciviz.ode.fused import batch_last, fuse, gains
from sciviz.ode.stepping import (
    GROW,
    HOPELESS,
    SAFETY,
    SHRINK,
    AdaptiveRun,
    BufferedStepper,
    Plan,
    RightHandSide,
    column,
    dense_matrix,
)
from sciviz.ode.tableaus import Tableau

Step = Callable[..., tuple[Tensor, ...]]
STRIDE = 4
# Fewer samples side by side would not fill the processor's vectors.
ENOUGH = 16


class CompiledField:
    """A right-hand side whose steps `solve` compiles; it is called like the function that it holds.

    Keep it: the compiled steps live in it, and a second `solve` with it starts at once. The function must be one that
    `torch.compile` can take whole (tensor operations of fixed shapes, no Python branches on values). Steps are
    compiled for one state tensor (batch, ...) with steps of its own for each sample and `gradient="solver"`; events,
    recorded steps and other settings take the plain loop.

    Parameters
    ----------
    func
        (t, y) -> dy/dt, as for `solve`; a function or a module.
    backend
        What `torch.compile` hands the step to. "eager" compiles nothing: the same function, for tests.

    >>> field = CompiledField(lambda t, y: -y)
    >>> field(torch.zeros(1), torch.ones(1, 1)).item()
    -1.0
    """

    def __init__(self, func: Callable[[Tensor, Tensor], Tensor], backend: str = "inductor") -> None:
        self.func, self.backend = func, backend
        self._steps: dict[tuple[Any, ...], Step] = {}
        self._gains: dict[tuple[Any, ...], bool] = {}

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate the function itself."""
        return self.func(t, y)

    def fuses(self, t: Tensor, y: Tensor, f: Tensor) -> bool:
        """Tell whether the function's small layers should be loops of the compiled step, as `fused` explains."""
        if y.device.type != "cpu" or len(y) < ENOUGH or y.ndim < 2:
            return False
        key = (y.shape[1:], y.dtype)
        if key not in self._gains:
            self._gains[key] = gains(self.func, t, y, f)
        return self._gains[key]

    def step(self, table: Tableau, sign: float, dense: bool, fused: bool = False) -> Step:
        """Return the compiled steps, `STRIDE` of them in one call, for a method and a direction of time."""
        key = (table.name, sign, dense, fused)
        if key not in self._steps:
            func = fuse(self.func) if fused else self.func
            step: Any = several(step_function(func, table, sign, dense), STRIDE)
            # torch limits how often one code object is compiled, and all closures of a function share theirs.
            own = types.FunctionType(
                step.__code__.replace(), step.__globals__, step.__name__, step.__defaults__, step.__closure__
            )
            self._steps[key] = torch.compile(own, fullgraph=True, backend=self.backend)
        return self._steps[key]


def step_function(func: Callable[[Tensor, Tensor], Tensor], table: Tableau, sign: float, dense: bool) -> Step:
    """Return one attempt as a pure function of tensors; `stepping.AdaptiveRun.step` says what each line is for."""
    order = table.error_order
    assert table.error is not None
    error_weights = table.error
    rows_of_matrix = dense_matrix(table, torch.empty(0, dtype=torch.float64)).tolist()

    def combine(weights: Any, slopes: list[Tensor]) -> Tensor:
        return sum((w * s for w, s in zip(weights, slopes, strict=False) if w), torch.zeros_like(slopes[0]))

    def step(
        y: Tensor, f: Tensor, h: Tensor, left: Tensor, memory: Tensor, end: Tensor, limit: Tensor, rtol: Tensor,
        atol: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        shape = (-1, *(1,) * (y.ndim - 1))
        start = end - sign * left
        h_state = (sign * h).to(y.dtype).view(shape)
        slopes = [f * h_state]
        y_end, k = y, f
        for weights, node in zip(table.stages[1:], table.nodes[1:], strict=True):
            y_end = y + combine(weights, slopes)
            k = func((start + (sign * node) * h).to(y.dtype).view(shape), y_end)
            slopes.append(k * h_state)
        trial = combine(error_weights, slopes).detach()
        scale = torch.maximum(y.detach().abs(), y_end.detach().abs()) * rtol + atol
        error = (trial / scale).flatten(1).square().mean(1).sqrt().to(h.dtype)
        error = torch.nan_to_num(error, nan=HOPELESS, posinf=HOPELESS)
        accept = error <= 1.0
        factor = (error.pow(-0.85 / order) * memory).clamp(SHRINK, GROW)
        memory_next = error.clamp(1e-4, 1.0).pow(0.2 / order) * SAFETY
        moved = h * accept
        left_next = left - moved
        tried = torch.minimum(torch.minimum(h * factor, limit), left_next)
        accept_state = accept.view(shape)
        y_next, f_next = torch.where(accept_state, y_end, y), torch.where(accept_state, k, f)
        # A polynomial for each power of θ; a row of nothing where no output lies inside a step.
        kept = torch.stack([combine(row, [y, *slopes]) for row in rows_of_matrix]) if dense else y.new_empty(0)
        return y_next, f_next, tried, moved, left_next, memory_next, error, kept

    return step


def several(step: Step, count: int) -> Step:
    """Return `count` attempts in a row: the last state, slope and memory, and a stack of each of the other results."""

    def steps(
        y: Tensor, f: Tensor, h: Tensor, left: Tensor, memory: Tensor, end: Tensor, limit: Tensor, rtol: Tensor,
        atol: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        history, polynomials = [], []
        for _ in range(count):
            y, f, h, moved, left, memory, error, kept = step(y, f, h, left, memory, end, limit, rtol, atol)
            history.append((h, moved, left, error))
            polynomials.append(kept)
        return y, f, memory, *(torch.stack(part) for part in zip(*history, strict=True)), torch.stack(polynomials, 1)

    return steps


class PoisonedError(Exception):
    """A trial step was not finite, which would poison the graph's gradients: the plain loop knows what to do."""


class CompiledRun(AdaptiveRun):
    """`AdaptiveRun` with its steps compiled, `STRIDE` at a time."""

    stride = STRIDE

    def __init__(self, rhs: RightHandSide, y0: Tensor, f0: Tensor, plan: Plan) -> None:
        super().__init__(rhs, y0, f0, plan)
        assert plan.compiled is not None
        time = column(plan.times[:1].expand(len(y0)).to(y0.dtype), y0.ndim)
        fused = not plan.graph and plan.compiled.fuses(time, y0, f0)
        self.compiled = plan.compiled.step(plan.table, plan.direction, self.want_dense, fused)
        if fused:
            self.stepper.y, self.f = batch_last(self.stepper.y), batch_last(self.f)
        self.rtol, self.atol = (
            torch.as_tensor(value, dtype=y0.dtype, device=y0.device) for value in (plan.rtol, plan.atol)
        )
        largest = float("inf") if plan.max_step is None else plan.max_step
        # One number each, but no scalars: torch takes those for Python's at first, and begins its analysis again.
        self.last = self.end.view(1)
        self.limit = torch.tensor([largest], dtype=self.clock, device=y0.device)

    def advance(self, n: int, room: int) -> int:
        """Attempt `STRIDE` steps for every row from row `n` of the history on, or a single one where fewer are allowed."""
        stepper = self.stepper
        if room < STRIDE:
            if isinstance(stepper, BufferedStepper):
                # Plain steps work in the buffer, which compiled ones leave alone.
                stepper.buffer[0].copy_(stepper.y)
                stepper.y = stepper.buffer[0]
            return super().advance(n, room)
        y, self.f, self.memory, tried, moved, left, error, kept = self.compiled(
            stepper.y,
            self.f,
            self.tried_rows[n],
            self.left_rows[n],
            self.memory,
            self.last,
            self.limit,
            self.rtol,
            self.atol,
        )
        self.rhs.calls += STRIDE * self.table.evaluations_per_step
        self.tried[n + 1 : n + 1 + STRIDE] = tried
        self.moved[n : n + STRIDE] = moved
        self.left[n + 1 : n + 1 + STRIDE] = left
        self.errors[n : n + STRIDE] = error
        if isinstance(stepper, BufferedStepper):
            if self.want_dense:
                stepper.polynomials[:, n : n + STRIDE] = kept
        else:
            if bool((error >= HOPELESS).any()):
                raise PoisonedError
            stepper.stages += kept.unbind(1)
        stepper.y = y
        return STRIDE
