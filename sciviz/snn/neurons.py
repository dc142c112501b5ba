"""Neurons that fire: each as a single step, and as a whole sequence that is fast.

Time is the first dimension everywhere, in steps of `dt` ms; any dimensions may follow (seed, batch, neuron). All neurons of a
step are worked on at once: the loop in Python runs over time only, over three operations of torch a step.

    integrate-and-fire, leaky   `lif`, with decay a = 1 and a = e^{−dt/τ}
    adaptive                    `adaptive_lif`: the threshold rises with each spike and sinks back
    synaptic                    `exponential_filter` (the synapse's current), then `lif`
    Izhikevich                  two equations in mV and ms, twenty kinds of firing
    Chialvo, Rulkov             maps: no time constants, one iteration a step

`lif`, `adaptive_lif` and `exponential_filter` carry hand-written backward passes, which keep one number a neuron and
step, the membrane, where autograd keeps five. Their single steps are plain torch, and given equal input currents both
forms agree bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sciviz.lab.checks import check_choice, check_nonnegative, check_positive
from sciviz.snn.surrogates import Surrogate, as_surrogate

RESETS = ("zero", "subtract", "none")
# Elements worked on at a time in a backward pass: such pieces stay in a core's cache.
_PIECE = 2**17


class Trace(NamedTuple):
    """What a neuron did: `spikes` (0 or 1), and the `membrane` potential before each reset; both (time, *neurons)."""

    spikes: Tensor
    membrane: Tensor


class AdaptiveTrace(NamedTuple):
    """A trace with the `adaptation` w that raised the threshold at each step."""

    spikes: Tensor
    membrane: Tensor
    adaptation: Tensor


class Step(NamedTuple):
    """One step: `spikes`, the `membrane` before the reset, and the `state` to hand to the next step."""

    spikes: Tensor
    membrane: Tensor
    state: Any


def decay_of(tau: float, dt: float = 1.0) -> float:
    """Return e^{−dt/τ}: the share of its potential that a membrane with time constant `tau` ms keeps over a step of `dt` ms.

    Raises
    ------
    ValueError
        If either is not positive, or `tau` is shorter than the step: the membrane would forget within a step what
        happens in it, and the discrete neuron would have no more than its name in common with the equation.

    >>> round(decay_of(20.0, dt=1.0), 4)
    0.9512
    >>> decay_of(0.5, dt=1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: tau must be at least the step dt, got tau 0.5 ms and dt 1 ms: a membrane that forgets within one step ...
    """
    check_positive(tau=tau, dt=dt)
    if tau < dt:
        raise ValueError(
            f"tau must be at least the step dt, got tau {tau:g} ms and dt {dt:g} ms: a membrane that forgets within one "
            f"step cannot integrate; take dt at most {tau:g} ms."
        )
    return math.exp(-dt / tau)


# -------------------------------------------------------------------------------------------------- building blocks


def _integrate(current: Tensor, held: Tensor, decay: float | Tensor, out: Tensor | None = None) -> Tensor:
    if isinstance(decay, Tensor):
        return torch.addcmul(current, held, decay, out=out) if out is not None else torch.addcmul(current, held, decay)
    return torch.add(current, held, alpha=decay, out=out)


def _after_reset(
    membrane: Tensor, spikes: Tensor, threshold: float | Tensor, reset: str, out: Tensor | None = None
) -> Tensor:
    if reset == "none":
        return membrane
    if reset == "zero":
        # u − u·s is exactly 0 at a spike and exactly u elsewhere.
        return torch.addcmul(membrane, membrane, spikes, value=-1, out=out)
    if isinstance(threshold, Tensor):
        return torch.addcmul(membrane, spikes, threshold, value=-1, out=out)
    return torch.sub(membrane, spikes, alpha=threshold, out=out)


def _fit_to_step(name: str, value: float | Tensor, current: Tensor) -> float | Tensor:
    """Check that a number, or one a neuron, fits a step; tensors take the current's format."""
    if not isinstance(value, Tensor):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}.")
        return float(value)
    try:
        fits = tuple(np.broadcast_shapes(value.shape, current.shape[1:])) == tuple(current.shape[1:])
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be a number or broadcast to one step of current {tuple(current.shape[1:])}, "
            f"got shape {tuple(value.shape)}."
        )
    return value.to(current)


def _check_sequence(current: Tensor) -> None:
    if current.ndim < 1 or len(current) < 1:
        raise ValueError(f"current must be (time, *neurons) with at least one step, got shape {tuple(current.shape)}.")
    if not current.is_floating_point():
        raise TypeError(f"current must hold floating-point numbers, got {current.dtype}.")


def _check_decay(decay: float | Tensor) -> None:
    low, high = (float(x) for x in decay.detach().aminmax()) if isinstance(decay, Tensor) else (decay, decay)
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"decay must lie between 0 (forgets at once) and 1 (never leaks), got {low:g}"
            f"{'' if low == high else f' to {high:g}'}."
        )


class _Rule(NamedTuple):
    """What the recurrence needs besides tensors."""

    reset: str
    surrogate: Surrogate
    detach_reset: bool
    smooth: bool


def _fire(membrane: Tensor, threshold: float | Tensor, rule: _Rule, out: Tensor) -> None:
    if rule.smooth:
        out.copy_(rule.surrogate.smooth(membrane - threshold))
    else:
        torch.ge(membrane, threshold, out=out)


def _pieces(num_steps: int, per_step: int) -> list[tuple[int, int]]:
    """Cut time into pieces of a size that a cache holds, last first."""
    size = max(1, _PIECE // max(per_step, 1))
    return [(max(0, stop - size), stop) for stop in range(num_steps, 0, -size)]


# ------------------------------------------------------------------------------------------------ leaky integration


def lif(
    current: Float[Tensor, "time *neurons"],
    *,
    decay: float | Float[Tensor, "*neurons"],
    threshold: float | Float[Tensor, "*neurons"] = 1.0,
    reset: str = "subtract",
    surrogate: str | Surrogate = "arctan",
    detach_reset: bool = True,
    smooth: bool = False,
    initial: Float[Tensor, "*neurons"] | None = None,
) -> Trace:
    """Run leaky integrate-and-fire neurons over a whole sequence of input currents.

    u[t] = a·v[t−1] + I[t]      s[t] = H(u[t] − θ)      v[t] = u[t] − θ·s[t] ("subtract"), u[t]·(1 − s[t]) ("zero") or u[t] ("none")

    Parameters
    ----------
    current
        I, (time, *neurons), in units of the membrane: what one step adds to it.
    decay
        a in [0, 1]: a number, or a tensor that broadcasts to one step and may be learnt. `decay_of(tau, dt)` gives it.
    threshold
        θ: a number, or a tensor that broadcasts to one step and may be learnt.
    reset
        "subtract" keeps what exceeded the threshold, "zero" forgets it, "none" lets the membrane go on.
    surrogate
        A `Surrogate` or the name of its kind.
    detach_reset
        Treat the reset as a constant in the backward pass, as most libraries do; gradients through it add noise.
    smooth
        Fire by the surrogate's smooth step instead of the step function. Then the gradient is exact.
    initial
        v before the first step; zero if None.

    Returns
    -------
    Trace
        Spikes and the membrane u before its reset, both differentiable, of the current's shape.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, a decay lies outside [0, 1], or the reset or surrogate is unknown.

    >>> trace = lif(torch.full((5, 1), 0.4), decay=1.0)
    >>> trace.spikes.squeeze(1).tolist()
    [0.0, 0.0, 1.0, 0.0, 1.0]
    """
    _check_sequence(current)
    check_choice(RESETS, reset=reset)
    _check_decay(decay)
    decay, threshold = _fit_to_step("decay", decay, current), _fit_to_step("threshold", threshold, current)
    if initial is not None:
        fitted = _fit_to_step("initial", initial, current)
        assert isinstance(fitted, Tensor)
        initial = fitted.expand(current.shape[1:])
    rule = _Rule(reset, as_surrogate(surrogate), detach_reset, smooth)
    spikes, membrane = _Leaky.apply(current, decay, threshold, initial, rule)  # type: ignore[no-untyped-call]
    return Trace(spikes, membrane)


def lif_step(
    current: Float[Tensor, "*neurons"],
    state: Float[Tensor, "*neurons"] | None = None,
    *,
    decay: float | Float[Tensor, "*neurons"],
    threshold: float | Float[Tensor, "*neurons"] = 1.0,
    reset: str = "subtract",
    surrogate: str | Surrogate = "arctan",
    detach_reset: bool = True,
    smooth: bool = False,
) -> Step:
    """Run leaky integrate-and-fire neurons for one step; as `lif`, in plain torch, for loops of your own.

    `state` is v, the membrane after its reset (zero if None); the result's `state` is the next one.

    >>> step = lif_step(torch.tensor([0.4, 1.2]), decay=0.9)
    >>> step.spikes.tolist(), [round(v, 3) for v in step.state.tolist()]
    ([0.0, 1.0], [0.4, 0.2])
    """
    check_choice(RESETS, reset=reset)
    surrogate = as_surrogate(surrogate)
    held = torch.zeros_like(current) if state is None else state
    membrane = _integrate(current, held, decay)
    x = membrane - threshold
    spikes = surrogate.smooth(x) if smooth else surrogate.spike(x)
    after = _after_reset(membrane, spikes.detach() if detach_reset else spikes, threshold, reset)
    return Step(spikes, membrane, after)


class _Leaky(torch.autograd.Function):
    """The recurrence of `lif`; its backward pass is one multiply-add a step."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: float | Tensor,
        threshold: float | Tensor,
        initial: Tensor | None,
        rule: _Rule,
    ) -> tuple[Tensor, Tensor]:
        # A current that is constant over time is one step seen many times, and need not be written out.
        steps = current if current[0].is_contiguous() else current.contiguous()
        membrane, spikes = (torch.empty_like(current, memory_format=torch.contiguous_format) for _ in range(2))
        held = torch.zeros_like(current[0]) if initial is None else initial.clone()
        for i, u, s in zip(steps.unbind(0), membrane.unbind(0), spikes.unbind(0), strict=True):
            _integrate(i, held, decay, out=u)
            _fire(u, threshold, rule, out=s)
            held = _after_reset(u, s, threshold, rule.reset, out=held)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(membrane, *(x for x in (decay, threshold, initial) if isinstance(x, Tensor)))
        ctx.numbers = [x if not isinstance(x, Tensor) else None for x in (decay, threshold)]
        ctx.rule, ctx.has_initial = rule, initial is not None
        return spikes, membrane

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor | None, grad_membrane: Tensor | None) -> tuple[Tensor | None, ...]:
        membrane, *rest = ctx.saved_tensors
        tensors = iter(rest)
        decay, threshold = (next(tensors) if number is None else number for number in ctx.numbers)
        initial = next(tensors) if ctx.has_initial else None
        rule: _Rule = ctx.rule
        if grad_spikes is None and grad_membrane is None:
            return None, None, None, None, None
        wants_decay = isinstance(decay, Tensor) and ctx.needs_input_grad[1]
        wants_threshold = isinstance(threshold, Tensor) and ctx.needs_input_grad[2]
        grad = torch.empty_like(membrane)
        grad_decay = torch.zeros_like(membrane[0]) if wants_decay else None
        grad_threshold = torch.zeros_like(membrane[0]) if wants_threshold else None
        later: Tensor | None = None
        for start, stop in _pieces(len(membrane), membrane[0].numel()):
            u = membrane[start:stop]
            x = u - threshold
            slope = rule.surrogate.slope(x)
            # A detached subtraction asks neither where it fired nor how hard.
            plain = rule.reset != "zero" and grad_decay is None and grad_threshold is None
            spikes = x if plain else rule.surrogate.smooth(x) if rule.smooth else (x >= 0).to(x.dtype)
            kept = _kept(u, spikes, slope, decay, threshold, rule)
            piece = grad[start:stop]
            if grad_spikes is None:
                piece.zero_()
            else:
                torch.mul(grad_spikes[start:stop], slope, out=piece)
            if grad_membrane is not None:
                piece.add_(grad_membrane[start:stop])
            if grad_threshold is not None and grad_spikes is not None:
                grad_threshold -= (grad_spikes[start:stop] * slope).sum(0)
            factors: Iterable[Any] = kept.unbind(0) if isinstance(kept, Tensor) else [kept] * (stop - start)
            after = later
            for g, factor in zip(reversed(piece.unbind(0)), reversed(list(factors)), strict=True):
                if after is not None:
                    g.addcmul_(factor, after) if isinstance(factor, Tensor) else g.add_(after, alpha=factor)
                after = g
            if grad_decay is not None or grad_threshold is not None:
                # What the next step passed back to each v of this piece.
                following = torch.cat([piece[1:], (torch.zeros_like(piece[0]) if later is None else later)[None]])
                if grad_decay is not None:
                    grad_decay += (following * _after_reset(u, spikes, threshold, rule.reset)).sum(0)
                if grad_threshold is not None and rule.reset != "none":
                    by_threshold = _reset_by_threshold(u, spikes, slope, threshold, rule)
                    grad_threshold += (following * decay * by_threshold).sum(0)
            later = after
        if grad_decay is not None and initial is not None:
            grad_decay += grad[0] * initial
        return (
            grad,
            None if grad_decay is None else grad_decay.sum_to_size(decay.shape),
            None if grad_threshold is None else grad_threshold.sum_to_size(threshold.shape),
            grad[0] * decay if initial is not None and ctx.needs_input_grad[3] else None,
            None,
        )


def _kept(
    u: Tensor, spikes: Tensor, slope: Tensor, decay: float | Tensor, threshold: float | Tensor, rule: _Rule
) -> Tensor | float:
    """Return how much of a change of u[t] arrives in u[t+1]: a · dv/du."""
    if rule.reset == "none" or (rule.reset == "subtract" and rule.detach_reset):
        return decay if not isinstance(decay, Tensor) else decay.expand(u.shape)
    if rule.reset == "subtract":
        return (1 - threshold * slope) * decay
    kept = 1 - spikes
    return (kept if rule.detach_reset else kept - u * slope) * decay


def _reset_by_threshold(u: Tensor, spikes: Tensor, slope: Tensor, threshold: float | Tensor, rule: _Rule) -> Tensor:
    """Return dv/dθ."""
    if rule.reset == "zero":
        return torch.zeros_like(u) if rule.detach_reset else u * slope
    return -spikes if rule.detach_reset else threshold * slope - spikes


# ---------------------------------------------------------------------------------------------- exponential filter


def exponential_filter(
    x: Float[Tensor, "time *neurons"],
    *,
    decay: float | Float[Tensor, "*neurons"],
    initial: Float[Tensor, "*neurons"] | None = None,
) -> Float[Tensor, "time *neurons"]:
    """Return y[t] = a·y[t−1] + x[t]: a synapse's current, a membrane that never fires, or a trace of past spikes.

    Parameters
    ----------
    x
        (time, *neurons).
    decay
        a in [0, 1]: a number, or a tensor that broadcasts to one step and may be learnt.
    initial
        y before the first step; zero if None.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, or a decay lies outside [0, 1].

    >>> exponential_filter(torch.tensor([1.0, 0.0, 0.0]), decay=0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    _check_sequence(x)
    _check_decay(decay)
    decay = _fit_to_step("decay", decay, x)
    if initial is not None:
        fitted = _fit_to_step("initial", initial, x)
        assert isinstance(fitted, Tensor)
        initial = fitted.expand(x.shape[1:])
    y: Tensor = _Filter.apply(x, decay, initial)  # type: ignore[no-untyped-call]
    return y


class _Filter(torch.autograd.Function):
    """The recurrence of `exponential_filter`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float | Tensor, initial: Tensor | None) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        held = torch.zeros_like(x[0]) if initial is None else initial
        for now, out in zip(x.unbind(0), y.unbind(0), strict=True):
            held = _integrate(now, held, decay, out=out)
        ctx.number = None if isinstance(decay, Tensor) else decay
        ctx.has_initial = initial is not None
        if isinstance(decay, Tensor):
            # Only a learnt decay needs what was computed.
            ctx.save_for_backward(decay, *([y, y[0] if initial is None else initial] if decay.requires_grad else []))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        decay: float | Tensor = saved[0] if ctx.number is None else ctx.number
        grad = grad_y.clone(memory_format=torch.contiguous_format)
        after: Tensor | None = None
        for g in reversed(grad.unbind(0)):
            if after is not None:
                g.addcmul_(decay, after) if isinstance(decay, Tensor) else g.add_(after, alpha=decay)
            after = g
        grad_decay = None
        if isinstance(decay, Tensor) and ctx.needs_input_grad[1]:
            total = (grad[1:] * saved[1][:-1]).sum(0)
            grad_decay = (total + grad[0] * saved[2] if ctx.has_initial else total).sum_to_size(decay.shape)
        return grad, grad_decay, grad[0] * decay if ctx.has_initial and ctx.needs_input_grad[2] else None


# ------------------------------------------------------------------------------------------------------- adaptation


def adaptive_lif(
    current: Float[Tensor, "time *neurons"],
    *,
    decay: float,
    adaptation_decay: float,
    adaptation: float,
    threshold: float = 1.0,
    reset: str = "subtract",
    surrogate: str | Surrogate = "arctan",
    detach_reset: bool = True,
    smooth: bool = False,
) -> AdaptiveTrace:
    """Run adaptive neurons, whose threshold rises by κ with each spike and sinks back.

    u[t] = a·v[t−1] + I[t]    s[t] = H(u[t] − θ − κ·w[t])    v[t] = reset of u[t], as in `lif`    w[t+1] = ρ·w[t] + s[t]

    Parameters
    ----------
    current
        (time, *neurons).
    decay, adaptation_decay
        a and ρ in [0, 1].
    adaptation
        κ ≥ 0, in units of the membrane; 0 gives `lif`.
    threshold, reset, surrogate, detach_reset, smooth
        As for `lif`.

    Raises
    ------
    ValueError, TypeError
        If a number lies outside its range, or the current has no step.

    >>> spikes = adaptive_lif(torch.ones(12, 1), decay=0.9, adaptation_decay=0.95, adaptation=1.0).spikes
    >>> int(spikes.sum()) < int(lif(torch.ones(12, 1), decay=0.9).spikes.sum())
    True
    """
    _check_sequence(current)
    check_choice(RESETS, reset=reset)
    _check_decay(decay)
    _check_decay(adaptation_decay)
    check_nonnegative(adaptation=adaptation)
    numbers = (float(decay), float(adaptation_decay), float(adaptation), float(threshold))
    rule = _Rule(reset, as_surrogate(surrogate), detach_reset, smooth)
    spikes, membrane, raised = _Adaptive.apply(current, numbers, rule)  # type: ignore[no-untyped-call]
    return AdaptiveTrace(spikes, membrane, raised)


def adaptive_lif_step(
    current: Float[Tensor, "*neurons"],
    state: tuple[Tensor, Tensor] | None = None,
    *,
    decay: float,
    adaptation_decay: float,
    adaptation: float,
    threshold: float = 1.0,
    reset: str = "subtract",
    surrogate: str | Surrogate = "arctan",
    detach_reset: bool = True,
    smooth: bool = False,
) -> Step:
    """Run adaptive neurons for one step, in plain torch; `state` is (v, w), zeros if None.

    >>> step = adaptive_lif_step(torch.tensor([1.5]), decay=0.9, adaptation_decay=0.95, adaptation=1.0)
    >>> [part.tolist() for part in step.state]
    [[0.5], [1.0]]
    """
    surrogate = as_surrogate(surrogate)
    held, raised = (torch.zeros_like(current), torch.zeros_like(current)) if state is None else state
    membrane = _integrate(current, held, decay)
    x = torch.sub(membrane, raised, alpha=adaptation) - threshold
    spikes = surrogate.smooth(x) if smooth else surrogate.spike(x)
    after = _after_reset(membrane, spikes.detach() if detach_reset else spikes, threshold, reset)
    return Step(spikes, membrane, (after, torch.add(spikes, raised, alpha=adaptation_decay)))


class _Adaptive(torch.autograd.Function):
    """The recurrence of `adaptive_lif`; keeps membrane and adaptation."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, numbers: tuple[float, float, float, float], rule: _Rule
    ) -> tuple[Tensor, Tensor, Tensor]:
        decay, slow, strength, threshold = numbers
        membrane, spikes, raised = (torch.empty_like(current, memory_format=torch.contiguous_format) for _ in range(3))
        raised[0].zero_()
        held, x = torch.zeros_like(current[0]), torch.empty_like(current[0])
        for t in range(len(current)):
            u, s, w = membrane[t], spikes[t], raised[t]
            _integrate(current[t], held, decay, out=u)
            torch.sub(u, w, alpha=strength, out=x)
            # Compared as in the single step, u − κw − θ ≥ 0: other orders round differently.
            _fire(x.sub_(threshold), 0.0, rule, out=s)
            held = _after_reset(u, s, threshold, rule.reset, out=held)
            if t + 1 < len(current):
                torch.add(s, w, alpha=slow, out=raised[t + 1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(membrane, raised)
        ctx.numbers, ctx.rule = numbers, rule
        return spikes, membrane, raised

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spikes: Tensor | None, grad_membrane: Tensor | None, grad_raised: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        membrane, raised = ctx.saved_tensors
        decay, slow, strength, threshold = ctx.numbers
        rule: _Rule = ctx.rule
        grad = torch.empty_like(membrane)
        by_membrane, by_raised = torch.zeros_like(membrane[0]), torch.zeros_like(membrane[0])
        for t in reversed(range(len(membrane))):
            u = membrane[t]
            x = torch.sub(u, raised[t], alpha=strength) - threshold
            slope = rule.surrogate.slope(x)
            by_spike = by_raised if grad_spikes is None else by_raised + grad_spikes[t]
            # What the next step passes back to v, and through the reset to s.
            by_after = by_membrane * decay
            kept = by_after
            if rule.reset == "zero":
                kept = by_after * (1 - (rule.surrogate.smooth(x) if rule.smooth else (x >= 0).to(x.dtype)))
            if not rule.detach_reset and rule.reset != "none":
                by_spike = by_spike - by_after * (u if rule.reset == "zero" else threshold)
            through = slope.mul_(by_spike)
            g = torch.add(kept, through, out=grad[t])
            if grad_membrane is not None:
                g.add_(grad_membrane[t])
            by_membrane = g
            by_raised = by_raised * slow - through * strength
            if grad_raised is not None:
                by_raised.add_(grad_raised[t])
        return grad, None, None
