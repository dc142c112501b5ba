"""Spike-timing-dependent plasticity: a synapse learns from who fired first, and from nothing else.

For each pair of spikes, with Δt = t_post − t_pre:

    Δw = A₊ e^{−Δt/τ₊}  if Δt > 0  (the input came first: it may have helped)
    Δw = −A₋ e^{Δt/τ₋}  if Δt < 0  (it came too late)           nothing at Δt = 0

Two traces make the sum over all pairs cheap: each neuron keeps a number that jumps by one at its spike and fades. At a spike
of the target the synapse grows by the source's trace; at a spike of the source it shrinks by the target's.
With a reward, pairs are not learnt at once but remembered in an eligibility trace, which the reward turns into weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_ndim, check_nonnegative, check_same_length, check_same_shape
from sciviz.snn.neurons import decay_of, exponential_filter


@dataclass(frozen=True)
class Stdp:
    """A pair-based rule; times in ms.

    Parameters
    ----------
    potentiation, depression
        A₊ and A₋: the change by a pair that is almost coincident.
    tau_potentiation, tau_depression
        τ₊ and τ₋.
    dt
        Step.

    Raises
    ------
    ValueError
        If a strength is negative, or a time constant shorter than the step.

    >>> rule = Stdp()
    >>> (rule.window(torch.tensor([10.0, -10.0])) > 0).tolist()
    [True, False]
    """

    potentiation: float = 0.01
    depression: float = 0.012
    tau_potentiation: float = 20.0
    tau_depression: float = 20.0
    dt: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(potentiation=self.potentiation, depression=self.depression)
        decay_of(self.tau_potentiation, self.dt)
        decay_of(self.tau_depression, self.dt)

    def window(self, difference: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return Δw of one pair, by Δt = t_post − t_pre in ms."""
        up = self.potentiation * torch.exp(-difference.clamp(min=0) / self.tau_potentiation)
        down = -self.depression * torch.exp(difference.clamp(max=0) / self.tau_depression)
        return torch.where(difference > 0, up, torch.where(difference < 0, down, torch.zeros_like(difference)))

    def traces(self, spikes: Float[Tensor, "time *neurons"], tau: float) -> Float[Tensor, "time *neurons"]:
        """Return what a trace holds when a step begins: spikes of the step itself do not count yet."""
        return exponential_filter(spikes, decay=decay_of(tau, self.dt)) - spikes

    def changes(
        self, pre: Float[Tensor, "time inputs"], post: Float[Tensor, "time outputs"]
    ) -> Float[Tensor, "time outputs inputs"]:
        """Return the change of each weight in each step; their sum is that over all pairs.

        Raises
        ------
        ValueError
            If the two differ in length, or are not (time, neurons).

        >>> pre, post = torch.zeros(5, 1), torch.zeros(5, 1)
        >>> pre[1] = post[3] = 1
        >>> rule = Stdp()
        >>> torch.allclose(rule.changes(pre, post).sum(), rule.window(torch.tensor(2.0)))
        True
        """
        check_ndim(2, pre=pre, post=post)
        check_same_length(pre=pre, post=post)
        up = torch.einsum("to,ti->toi", post, self.traces(pre, self.tau_potentiation))
        down = torch.einsum("to,ti->toi", self.traces(post, self.tau_depression), pre)
        return self.potentiation * up - self.depression * down

    def update(
        self, pre: Float[Tensor, "time *batch inputs"], post: Float[Tensor, "time *batch outputs"]
    ) -> Float[Tensor, "*batch outputs inputs"]:
        """Return the summed change of each weight over a sequence, without keeping the steps.

        Raises
        ------
        ValueError
            If the two differ in length.

        >>> Stdp().update(torch.zeros(5, 3), torch.zeros(5, 2)).shape
        torch.Size([2, 3])
        """
        check_same_length(pre=pre, post=post)
        up = torch.einsum("t...o,t...i->...oi", post, self.traces(pre, self.tau_potentiation))
        down = torch.einsum("t...o,t...i->...oi", self.traces(post, self.tau_depression), pre)
        return self.potentiation * up - self.depression * down


class Rewarded(NamedTuple):
    """`change` of each weight (outputs, inputs), and the `eligibility` trace (time, outputs, inputs) behind it."""

    change: Tensor
    eligibility: Tensor


def reward_modulated(
    rule: Stdp,
    pre: Float[Tensor, "time inputs"],
    post: Float[Tensor, "time outputs"],
    reward: Float[Tensor, " time"],
    *,
    tau_eligibility: float = 200.0,
) -> Rewarded:
    """Let a reward decide what becomes of recent pairs: e ← λ e + STDP, Δw = Σ r(t) e(t).

    Parameters
    ----------
    reward
        r at each step; a negative one unlearns.
    tau_eligibility
        How long, in ms, a pair waits for its reward.

    Raises
    ------
    ValueError
        If lengths differ, or the time constant is shorter than the step.

    >>> pre, post, reward = torch.zeros(9, 1), torch.zeros(9, 1), torch.zeros(9)
    >>> pre[1] = post[3] = reward[8] = 1
    >>> bool(reward_modulated(Stdp(), pre, post, reward).change > 0)
    True
    """
    check_same_length(pre=pre, post=post, reward=reward)
    check_ndim(1, reward=reward)
    eligibility = exponential_filter(rule.changes(pre, post), decay=decay_of(tau_eligibility, rule.dt))
    return Rewarded(torch.einsum("t,toi->oi", reward, eligibility), eligibility)


def bounded(
    weight: Float[Tensor, "*shape"],
    change: Float[Tensor, "*shape"],
    *,
    low: float = 0.0,
    high: float = 1.0,
    soft: bool = True,
) -> Float[Tensor, "*shape"]:
    """Return weights after a change, kept in [low, high].

    Soft bounds scale growth by the distance to `high` and shrinking by that to `low`, and give weights of all sizes;
    hard ones only cut, and most weights end at a bound.

    Raises
    ------
    ValueError
        If shapes differ, or `low` is not below `high`.

    >>> bounded(torch.tensor([0.5]), torch.tensor([0.2])).item()
    0.6000000238418579
    """
    check_same_shape(weight=weight, change=change)
    if not low < high:
        raise ValueError(f"low must be below high, got {low:g} and {high:g}.")
    if soft:
        change = torch.where(change > 0, change * (high - weight), change * (weight - low))
    return (weight + change).clamp(low, high)
