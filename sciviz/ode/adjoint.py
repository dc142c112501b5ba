"""Gradients of a solution without keeping the solver's whole computation.

Three ways, all behind `solve(gradient=...)`:

- `adjoint`: a second differential equation, integrated backward in time [neural-ode-chen, eq. 4 and 5]. Memory does not
  grow with the number of steps. It is the gradient of the exact solution, solved approximately, and not that of the
  solution that was computed; and it rebuilds the state backward, which fails where that direction is unstable.
- `checkpoint`: the state at each step is kept, and the step repeated when going back. Exact to rounding.
- `reversible`: the method is changed into one whose steps can be undone exactly, so that nothing need be kept
  (McCallum and Foster, "Efficient, accurate and stable gradients for neural ODEs", 2024).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sciviz.ode import stepping
from sciviz.ode.stepping import Outcome, Plan, RightHandSide, SolverError, column, combine, row_norm

if TYPE_CHECKING:
    from sciviz.ode.solvers import Layout

# How strongly the reversible form's two copies of the state are coupled: below 1 they stay together, and going back
# divides by it, which amplifies rounding.
COUPLING = 0.999


@dataclass
class Job:
    """What the forward pass hands to the backward pass beside tensors."""

    rhs: RightHandSide
    plan: Plan
    f0: Tensor
    outcome: Outcome | None = None


def find_parameters(rhs: RightHandSide, t: Tensor, rows: Tensor) -> list[Tensor]:
    """Leaf tensors that require gradients and that the derivative at the start depends on."""
    with torch.enable_grad():
        f = rhs.at(t, rows.detach())
    leaves: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting = [f.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves[id(node.variable)] = node.variable
        waiting.extend(parent for parent, _ in node.next_functions)
    return list(leaves.values())


def integrate(
    gradient: str, rhs: RightHandSide, layout: Layout, f0: Tensor, t: Tensor, plan: Plan, params: list[Tensor]
) -> Outcome:
    """Integrate as `solve` does, with a gradient computed the way that is named."""
    job = Job(rhs, replace(plan, graph=False), f0)
    kind: type[torch.autograd.Function] = {"adjoint": _Adjoint, "checkpoint": _Checkpoint, "reversible": _Reversible}[
        gradient
    ]
    if gradient == "reversible":
        _check_reversible(plan)
    y = kind.apply(job, layout.rows, t, *params)  # type: ignore[no-untyped-call]
    outcome = job.outcome
    assert outcome is not None
    outcome.y = y
    return outcome


def _run(job: Job, rows: Tensor, plan: Plan) -> Outcome:
    if plan.grid is not None:
        return stepping.integrate_fixed(job.rhs, rows, job.f0, plan)
    return stepping.integrate_adaptive(job.rhs, rows, job.f0, plan)


def _vjp(outputs: list[Tensor], inputs: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Gradients of Σ <outputs, weights>; zeros where an input is not used. The outer graph of `inputs` stays usable."""
    pairs = [(out, weight) for out, weight in zip(outputs, weights, strict=True) if out.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in inputs]
    return list(
        torch.autograd.grad(
            [out for out, _ in pairs],
            inputs,
            [weight for _, weight in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    )


# ---------------------------------------------------------------------------------------------------------------------
# The continuous adjoint
# ---------------------------------------------------------------------------------------------------------------------


class _Adjoint(torch.autograd.Function):
    """dL/dy0, dL/dθ and dL/dt from da/dt = -aᵀ ∂f/∂y, with a = dL/dy(t)."""

    @staticmethod
    def forward(ctx: Any, job: Job, rows: Tensor, t: Tensor, *params: Tensor) -> Tensor:
        job.outcome = _run(job, rows.detach(), job.plan)
        ctx.job = job
        ctx.save_for_backward(t, job.outcome.y, *params)
        return job.outcome.y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        t, y, *params = ctx.saved_tensors
        job: Job = ctx.job
        rhs, plan = job.rhs, job.plan
        shapes = [y[0].shape, y[0].shape, *(p.shape for p in params)]
        sizes = [shape.numel() for shape in shapes]

        def slope(time: Tensor, state: Tensor) -> Tensor:
            """Derivative of (y, a, dL/dθ), all in one row, since dL/dθ belongs to the whole batch."""
            parts = torch.split(state[0], sizes)
            now, adjoint = parts[0].view(shapes[0]), parts[1].view(shapes[1])
            with torch.enable_grad():
                now = now.detach().requires_grad_()
                clock = time.reshape((1,) * now.ndim).expand(now.shape[0], *(1,) * (now.ndim - 1))
                f = rhs(clock, now)
                pulled = _vjp([f], [now, *params], [-adjoint])
            return torch.cat([f.detach().flatten(), *(part.flatten() for part in pulled)])[None]

        def norm(values: Tensor) -> Tensor:
            """The largest of the errors of y, a and dL/dθ: one of them must not hide among the others."""
            parts = [part for part in torch.split(values, [sizes[0], sizes[1], sum(sizes[2:])], dim=1) if part.shape[1]]
            return torch.stack([row_norm(part) for part in parts]).amax(0)

        adjoint = grad_y[-1]
        totals = torch.zeros(sum(sizes[2:]), dtype=y.dtype, device=y.device)
        grad_t = torch.zeros_like(t) if t.requires_grad else None
        for k in range(len(t) - 1, 0, -1):
            if grad_t is not None:
                grad_t[k] = (grad_y[k] * rhs.at(plan.times[k].expand(y.shape[1]), y[k])).sum()
            state = torch.cat([y[k].flatten(), adjoint.flatten(), totals])[None]
            state = _backward_leg(RightHandSide(slope, 2), state, plan, k, norm)
            _, pulled, totals = torch.split(state[0], [sizes[0], sizes[1], sum(sizes[2:])])
            adjoint = pulled.view_as(adjoint)
            if k == 1 and grad_t is not None:
                grad_t[0] = -(adjoint * rhs.at(plan.times[0].expand(y.shape[1]), y[0])).sum()
            adjoint = adjoint + grad_y[k - 1]
        grads = [part.view_as(p) for part, p in zip(torch.split(totals, sizes[2:]), params, strict=True)]
        return None, adjoint, grad_t, *grads


def _backward_leg(rhs: RightHandSide, state: Tensor, plan: Plan, k: int, norm: Any) -> Tensor:
    """Integrate the augmented state from output time k to the one before."""
    times = plan.times[[k, k - 1]]
    grid = None
    if plan.grid is not None:
        span, size = float((times[1] - times[0]).abs()), abs(plan.grid[1] - plan.grid[0])
        count = max(1, round(span / size))
        grid = torch.linspace(float(times[0]), float(times[1]), count + 1, dtype=torch.float64).tolist()
    leg = replace(plan, times=times, direction=-plan.direction, grid=grid, norm=norm, record=False, trace=False)
    f0 = rhs.at(times[:1], state)
    try:
        if grid is not None:
            return stepping.integrate_fixed(rhs, state, f0, leg).y[-1]
        return stepping.integrate_adaptive(rhs, state, f0, leg).y[-1]
    except SolverError as error:
        raise type(error)(
            f"The adjoint could not be integrated back in time ({error}) The state may be unstable in that direction; "
            'gradient="checkpoint" does not need to go there.', error.time, error.sample
        ) from error  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Repeat each step
# ---------------------------------------------------------------------------------------------------------------------


class _Checkpoint(torch.autograd.Function):
    """Gradient of the numbers that were computed, from the state at the start of each step."""

    @staticmethod
    def forward(ctx: Any, job: Job, rows: Tensor, t: Tensor, *params: Tensor) -> Tensor:
        # A step in which no time passes for a finished row is repeated without harm, but it must still be there.
        job.outcome = _run(job, rows.detach(), replace(job.plan, trace=True))
        ctx.job, ctx.records = job, job.outcome.records
        ctx.save_for_backward(*params)
        job.outcome.records = stepping.Records()
        return job.outcome.y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        params = list(ctx.saved_tensors)
        job: Job = ctx.job
        rhs, plan, records = job.rhs, job.plan, ctx.records
        rows = grad_y.shape[1]
        nodes = torch.tensor(plan.table.nodes, dtype=plan.times.dtype, device=grad_y.device)
        outputs = _outputs_of_steps(plan, records, rows)
        flat = grad_y.reshape(-1, *grad_y.shape[2:])
        pulled = grad_y[-1] if plan.grid is None else torch.zeros_like(grad_y[-1])
        totals = [torch.zeros_like(p) for p in params]
        moved = records.taken or records.h
        for n in range(len(moved) - 1, -1, -1):
            if not bool(moved[n].any()):
                continue
            places, row, theta, at_end = outputs[n]
            for k in at_end:
                pulled = pulled + grad_y[k]
            with torch.enable_grad():
                y = records.y[n].detach().requires_grad_()
                h = plan.direction * moved[n]
                times = torch.addr(records.t[n], nodes, h).to(y.dtype).view(-1, rows, *(1,) * (y.ndim - 1)).unbind(0)
                end, stages = _replay(rhs, plan, y, column(h.to(y.dtype), y.ndim), list(times), len(places) > 0)
                targets, weights = [end], [pulled]
                if stages is not None:
                    matrix = stepping.dense_matrix(plan.table, y)
                    coefficients = torch.tensordot(matrix, stages, dims=1)
                    targets.append(stepping.polynomial(coefficients[:, row], theta.to(y.dtype)))
                    weights.append(flat[places])
                pulled, *parts = _vjp(targets, [y, *params], weights)
            for total, part in zip(totals, parts, strict=True):
                total += part
        return None, pulled + grad_y[0], None, *totals


def _replay(
    rhs: RightHandSide, plan: Plan, y: Tensor, h: Tensor, times: list[Tensor], dense: bool
) -> tuple[Tensor, Tensor | None]:
    """Take a step again, now with a graph: the state at its end and, if asked for, all stages."""
    slopes = [h * rhs(times[0], y)]
    for weights, t in zip(plan.table.stages[1:-1], times[1:-1], strict=True):
        slopes.append(h * rhs(t, combine(y, weights, slopes)))
    end = combine(y, plan.table.weights, slopes)
    if not dense:
        return end, None
    return end, torch.stack([y, *slopes, h * rhs(times[-1], end)])


def _outputs_of_steps(
    plan: Plan, records: stepping.Records, rows: int
) -> list[tuple[Tensor, Tensor, Tensor, list[int]]]:
    """List for each step the places (output · rows + row), rows and fractions of its outputs, and those at its end."""
    if plan.grid is None:
        starts = plan.direction * torch.stack(records.t)
        bounds = torch.cat([starts, (plan.direction * plan.times[-1]).expand(1, rows)])
        place, index, theta = stepping.outputs_in_steps(
            plan.direction * plan.times[1:-1], bounds, torch.stack(records.taken)
        )
        step, row = torch.div(place, rows, rounding_mode="floor"), place % rows
        sizes = torch.bincount(step, minlength=len(records.t)).tolist()
        parts = (torch.split(x, sizes) for x in ((index + 1) * rows + row, row, theta))
        return [(p, r, th, []) for p, r, th in zip(*parts, strict=True)]
    found: list[tuple[Tensor, Tensor, Tensor, list[int]]] = []
    every = torch.arange(rows, device=plan.times.device)
    output = 1
    for inside in stepping.place_on_grid(plan.times.tolist(), plan.grid, plan.direction):
        at_end = [output + i for i, theta in enumerate(inside) if theta == 1.0]
        between = [output + i for i, theta in enumerate(inside) if theta != 1.0]
        fractions = plan.times.new_tensor([theta for theta in inside if theta != 1.0]).repeat_interleave(rows)
        places = torch.tensor(between, dtype=torch.int64, device=plan.times.device)[:, None] * rows + every
        found.append((places.flatten(), every.repeat(len(between)), fractions, at_end))
        output += len(inside)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Undo each step
# ---------------------------------------------------------------------------------------------------------------------


def _check_reversible(plan: Plan) -> None:
    if plan.grid is None:
        raise ValueError('gradient="reversible" takes fixed steps: give step_size, num_steps or a fixed-step method.')
    if plan.event is not None or plan.record:
        what = "event" if plan.event is not None else "record_steps"
        raise ValueError(f'{what} is not available with gradient="reversible"; use gradient="solver".')
    inside = stepping.place_on_grid(plan.times.tolist(), plan.grid, plan.direction)
    if any(theta != 1.0 for step in inside for theta in step):
        raise ValueError(
            'gradient="reversible" has no solution between its steps: choose num_steps or step_size so that every time '
            "in t falls on a step's end."
        )


def _increment(rhs: RightHandSide, plan: Plan, start: float, end: float, y: Tensor) -> Tensor:
    """Ψ: what one step of the method from `start` to `end` adds to y."""
    times = stepping._stage_times([start, end], plan.table, rhs.ndim, y)
    return stepping.fixed_step(rhs, plan.table, y, rhs(times[0], y), end - start, times)[0] - y


class _Reversible(torch.autograd.Function):
    """Two coupled copies of the state, y and z; each moves by a step taken from the other.

    y₁ = λ y + (1 - λ) z + Ψ_h(t, z),  z₁ = z - Ψ_{-h}(t + h, y₁): both lines can be solved for the older state. The
    order of convergence is that of Ψ.
    """

    @staticmethod
    def forward(ctx: Any, job: Job, rows: Tensor, t: Tensor, *params: Tensor) -> Tensor:
        rhs, plan, grid = job.rhs, job.plan, job.plan.grid
        assert grid is not None
        y = z = rows.detach()
        inside = stepping.place_on_grid(plan.times.tolist(), grid, plan.direction)
        found = [y]
        for n, (start, end) in enumerate(itertools.pairwise(grid)):
            y = COUPLING * y + (1 - COUPLING) * z + _increment(rhs, plan, start, end, z)
            z = z - _increment(rhs, plan, end, start, y)
            found += [y] * len(inside[n])
            if (n + 1 == len(grid) - 1 or n % 16 == 15) and not bool(torch.isfinite(y).all()):
                bad = int((~torch.isfinite(y)).flatten(1).any(1).nonzero()[0]) if y.ndim > 1 else 0
                raise stepping.NonFiniteDerivativeError(
                    f"The derivative or state of sample {bad} is not finite at or before t = {end:.10g}: the step may "
                    "be too large.", end, bad
                )  # fmt: skip
        ctx.job, ctx.inside = job, inside
        ctx.save_for_backward(y, z, *params)
        count = torch.full((rows.shape[0],), len(grid) - 1, dtype=torch.int64, device=rows.device)
        job.outcome = Outcome(
            y=torch.stack(found),
            evaluations=torch.full_like(count, rhs.calls),
            accepted=count,
            rejected=torch.zeros_like(count),
            records=stepping.Records(),
        )
        return job.outcome.y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        y, z, *params = ctx.saved_tensors
        rhs, plan = ctx.job.rhs, ctx.job.plan
        totals = [torch.zeros_like(p) for p in params]
        by_y, by_z = torch.zeros_like(y), torch.zeros_like(z)
        output = len(grad_y) - 1

        def pull(start: float, end: float, at: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            """Ψ at a state, and what `weight` on it means for that state; the parameters' share is added up."""
            with torch.enable_grad():
                at = at.detach().requires_grad_()
                step = _increment(rhs, plan, start, end, at)
                by_state, *parts = _vjp([step], [at, *params], [weight])
            for total, part in zip(totals, parts, strict=True):
                total += part
            return step.detach(), by_state

        for n in range(len(plan.grid) - 2, -1, -1):
            start, end = plan.grid[n], plan.grid[n + 1]
            for _ in ctx.inside[n]:
                by_y = by_y + grad_y[output]
                output -= 1
            step, by_state = pull(end, start, y, -by_z)
            z, by_y = z + step, by_y + by_state
            step, by_state = pull(start, end, z, by_y)
            y = (y - (1 - COUPLING) * z - step) / COUPLING
            by_y, by_z = COUPLING * by_y, by_z + (1 - COUPLING) * by_y + by_state
        return None, by_y + by_z + grad_y[0], None, *totals
