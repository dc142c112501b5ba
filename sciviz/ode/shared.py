"""Adaptive steps that all samples share, or that a single sample takes alone: the loop with plain numbers.

Where the state is one row, step sizes, error and controller are single numbers. Kept as Python's own they cost next to
nothing, while `stepping.AdaptiveRun`, which moves many rows at once, pays for a tensor operation each time. Both do the
same arithmetic; tests hold them together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciviz.ode.stepping import (
    GROW,
    HOPELESS,
    SAFETY,
    SHRINK,
    BufferedStepper,
    GraphStepper,
    Outcome,
    Plan,
    Records,
    RightHandSide,
    check_start,
    column,
    initial_step,
    limit_error,
    row_norm,
    underflow_error,
)


def integrate_shared(rhs: RightHandSide, y0: Tensor, f0: Tensor, plan: Plan) -> Outcome:
    """Integrate one row with steps that keep its error estimate below the tolerance."""
    table, sign, order = plan.table, plan.direction, plan.table.error_order
    norm = plan.norm or row_norm
    times: list[float] = plan.times.tolist()
    end, wanted = times[-1], times[1:-1]
    check_start(y0, f0, times[0])
    nodes = sign * torch.tensor(table.nodes, dtype=y0.dtype, device=y0.device)
    time_shape = (-1, 1, *(1,) * (y0.ndim - 1))
    left = abs(end - times[0])
    evaluations = 1
    if plan.first_step is None:
        h = float(initial_step(rhs, plan.times[:1], y0, f0, plan.times.new_tensor([left]), plan))
        evaluations += 1
    else:
        h = min(left, plan.first_step)
    limit = math.inf if plan.max_step is None else plan.max_step
    h = min(h, limit)

    make = GraphStepper if plan.graph else BufferedStepper
    stepper: GraphStepper | BufferedStepper = make(table, y0, bool(wanted), 1, False)
    f, memory, accepted, attempts, passed = f0, SAFETY, 0, 0, 0
    out: list[Tensor] = [y0]
    floor = 16 * torch.finfo(plan.times.dtype).eps
    while left > 0:
        if attempts >= plan.max_num_steps:
            raise limit_error(0, end - sign * left, end, plan.max_num_steps)
        time = end - sign * left
        stage_times = torch.add(nodes * h, time).view(time_shape).unbind(0)
        trial = stepper.attempt(rhs, f, sign * h, stage_times)
        attempts += 1
        with torch.no_grad():
            scale = torch.maximum(stepper.y.abs(), trial.y.abs()).mul_(plan.rtol).add_(plan.atol)
            error = float(norm(trial.error.detach() / scale))
        error = error if math.isfinite(error) else HOPELESS
        factor = GROW if error == 0 else min(GROW, max(SHRINK, memory * error ** (-0.85 / order)))
        memory = SAFETY * min(1.0, max(1e-4, error)) ** (0.2 / order)
        if error <= 1.0:
            accepted += 1
            left_next = left - h
            first = passed
            while passed < len(wanted) and sign * (wanted[passed] - end) <= -left_next:
                passed += 1
            if passed > first:
                stepper.settle(None, trial.y, 0)
                theta = y0.new_tensor([sign * (value - time) / h for value in wanted[first:passed]])
                powers = stepper.coefficients(0 if isinstance(stepper, BufferedStepper) else -1)
                value, fraction = powers[-1], column(theta, y0.ndim)
                for power in reversed(powers[:-1].unbind(0)):
                    value = torch.addcmul(power, value, fraction)
                out.append(value)
                stepper.clear()
            if isinstance(stepper, BufferedStepper):
                stepper.y.copy_(trial.y)
            else:
                stepper.y = trial.y
            f, left = trial.f, left_next
        # A rejected step leaves nothing behind, not even in autograd's graph.
        h = min(h * factor, limit, left)
        if h < floor * abs(end - sign * left) and h < left:
            raise underflow_error(0, end - sign * left, error >= HOPELESS)

    y = torch.cat([*out, stepper.y.clone() if isinstance(stepper, BufferedStepper) else stepper.y])
    counts = (evaluations + table.evaluations_per_step * attempts, accepted, attempts - accepted)
    total = [torch.tensor([count], device=y0.device) for count in counts]
    return Outcome(y[:, None], total[0], total[1], total[2], Records())
