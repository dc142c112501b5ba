"""Contrastive Hebbian learning whose phases may come in any order and length [flexible-phase-contrastive].

A contrastive rule compares two statistics: of a network left alone (negative phase) and of one whose outputs are held at
the answer (positive phase). The textbook alternates the two, waits until the network has settled in each, stores the first
and subtracts. But the rule is a *difference of two sums*, and a sum does not care about the order of its terms:

    ΔW ∝ ⟨s sᵀ⟩₊ − ⟨s sᵀ⟩₋ = E_t[ p(t) s(t) s(t)ᵀ ],      p(t) = +1 in a positive phase, −1 in a negative one.

So a synapse can add up p(t)·s·s at every moment, with the phases of random order and random lengths, and store no phase.
Tensors may carry leading dimensions (members of an ensemble).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_positive

SCHEDULES = ("rigid", "flexible")


class HebbianWeights(NamedTuple):
    """Synapses of a net with one hidden layer; `outgoing` works in both directions, backwards times the feedback gain."""

    incoming: Float[Tensor, "*members hidden inputs"]
    outgoing: Float[Tensor, "*members outputs hidden"]
    hidden_bias: Float[Tensor, "*members 1 hidden"]
    output_bias: Float[Tensor, "*members 1 outputs"]


def make_weights(num_inputs: int, num_hidden: int, num_outputs: int, *, generator: torch.Generator) -> HebbianWeights:
    """Draw the synapses of one network.

    >>> make_weights(4, 3, 2, generator=torch.Generator().manual_seed(0)).outgoing.shape
    torch.Size([2, 3])
    """
    check_int(1, num_inputs=num_inputs, num_hidden=num_hidden, num_outputs=num_outputs)
    incoming = torch.randn(num_hidden, num_inputs, generator=generator) * (2.0 / num_inputs) ** 0.5
    outgoing = torch.randn(num_outputs, num_hidden, generator=generator) / num_hidden**0.5
    return HebbianWeights(incoming, outgoing, torch.zeros(1, num_hidden), torch.zeros(1, num_outputs))


def make_phases(
    schedule: str, num_times: int, batch: int, *, mean_length: int, generator: torch.Generator
) -> Float[Tensor, "time batch"]:
    """Draw p(t) = ±1 for each sample: which phase it is in at each moment.

    Parameters
    ----------
    schedule
        "rigid": the first half is negative, the second positive. "flexible": each sample has its own phases; their
        signs are coin flips, and their lengths are drawn evenly from 1 to 2 · mean_length − 1.

    Raises
    ------
    ValueError
        If the schedule is unknown or a number is below 1.

    >>> make_phases("rigid", 4, 1, mean_length=2, generator=torch.Generator()).squeeze(1).tolist()
    [-1.0, -1.0, 1.0, 1.0]
    """
    check_int(1, num_times=num_times, batch=batch, mean_length=mean_length)
    if schedule == "rigid":
        half = num_times // 2
        return torch.cat([-torch.ones(half, batch), torch.ones(num_times - half, batch)])
    if schedule != "flexible":
        raise ValueError(f"schedule must be one of {', '.join(map(repr, SCHEDULES))}, got {schedule!r}.")
    lengths = torch.randint(1, 2 * mean_length, (num_times, batch), generator=generator)
    signs = torch.randint(0, 2, (num_times, batch), generator=generator).float() * 2 - 1
    # Phase k of a sample begins where the lengths before it end; at time t the number of phases begun says which is on.
    begins = lengths.cumsum(0)
    index = (begins[None] <= torch.arange(num_times)[:, None, None]).sum(1)
    return signs.gather(0, index)


def settle(
    weights: HebbianWeights,
    drive: Float[Tensor, "*members batch hidden"],
    hidden: Float[Tensor, "*members batch hidden"],
    output: Float[Tensor, "*members batch outputs"],
    *,
    held: Float[Tensor, "*members batch 1"] | None = None,
    target: Float[Tensor, "*members batch outputs"] | None = None,
    feedback: float = 0.5,
    dt: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Let the network take one step towards rest; outputs of samples whose `held` is 1 are put at the target.

    h ← h + dt (σ(Wx + γ Vᵀo) − h),   o ← o + dt (σ(V h) − o)   [flexible-phase-contrastive, §3.3]

    >>> w = make_weights(2, 3, 1, generator=torch.Generator().manual_seed(0))
    >>> h, o = settle(w, torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 1), dt=1.0)
    >>> o.tolist()
    [[0.5]]
    """
    check_nonnegative(feedback=feedback)
    check_positive(dt=dt)
    free = torch.sigmoid(hidden @ weights.outgoing.mT + weights.output_bias)
    new_hidden = torch.lerp(hidden, torch.sigmoid(drive + feedback * (output @ weights.outgoing)), dt)
    new_output = torch.lerp(output, free, dt)
    if held is not None and target is not None:
        new_output = torch.lerp(new_output, target, held)
    return new_hidden, new_output


def contrastive_update(
    weights: HebbianWeights,
    X: Float[Tensor, "*members batch inputs"],
    target: Float[Tensor, "*members batch outputs"],
    phases: Float[Tensor, "time *members batch"],
    *,
    rigid: Tensor | None = None,
    feedback: float = 0.5,
    dt: float = 1.0,
) -> HebbianWeights:
    """Accumulate p(t) s(t) s(t)ᵀ while the network runs through its phases, and return the sums.

    Parameters
    ----------
    phases
        ±1 for each moment, member and sample.
    rigid
        Which members (shape (*members)) are read in the textbook's way: at the last moment of each of two phases only,
        not at every moment; none if None.

    Returns
    -------
    HebbianWeights
        The change of each synapse, a mean over samples, and over time except for rigid members, whose sum is over the
        two settled states. The scale is such that both have the same mean where the network settles at once.

    >>> w = make_weights(2, 3, 1, generator=torch.Generator().manual_seed(0))
    >>> change = contrastive_update(w, torch.ones(1, 2), torch.ones(1, 1), torch.tensor([[-1.0]] * 9 + [[1.0]] * 9))
    >>> bool((change.outgoing > 0).all())
    True
    """
    num_times = len(phases)
    check_int(2, num_times=num_times)
    drive = X @ weights.incoming.mT + weights.hidden_bias
    hidden = torch.sigmoid(drive)
    output = torch.sigmoid(hidden @ weights.outgoing.mT + weights.output_bias)
    # Local memory: each unit and each pair keeps one running sum, whatever the order of phases.
    sum_hidden, sum_output = torch.zeros_like(hidden), torch.zeros_like(output)
    sum_pairs = torch.zeros_like(weights.outgoing)
    batch = X.shape[-2]
    scale = 2.0 / num_times
    per_time = torch.full((num_times, *phases.shape[1:], 1), scale, dtype=X.dtype) * phases[..., None]
    if rigid is not None:
        at_ends = torch.zeros_like(per_time)
        at_ends[num_times // 2 - 1], at_ends[-1] = -1.0, 1.0
        per_time = torch.where(rigid[..., None, None], at_ends, per_time)
    held = (phases[..., None] > 0).to(X.dtype)
    for weighting, hold in zip(per_time, held, strict=True):
        hidden, output = settle(weights, drive, hidden, output, held=hold, target=target, feedback=feedback, dt=dt)
        signed = weighting * output
        sum_hidden.addcmul_(weighting, hidden)
        sum_output.add_(signed)
        sum_pairs.add_(signed.mT @ hidden)
    # The input never changes within a sample, so its pairs can be added up at the end.
    return HebbianWeights(
        sum_hidden.mT @ X / batch,
        sum_pairs / batch,
        sum_hidden.mean(-2, keepdim=True),
        sum_output.mean(-2, keepdim=True),
    )


def predict(
    weights: HebbianWeights, X: Float[Tensor, "*members batch inputs"], *, feedback: float = 0.5, num_times: int = 20
) -> Float[Tensor, "*members batch outputs"]:
    """Return the outputs of the network left alone.

    >>> w = make_weights(2, 3, 1, generator=torch.Generator().manual_seed(0))
    >>> predict(w, torch.ones(5, 2)).shape
    torch.Size([5, 1])
    """
    check_int(0, num_times=num_times)
    drive = X @ weights.incoming.mT + weights.hidden_bias
    hidden = torch.sigmoid(drive)
    output = torch.sigmoid(hidden @ weights.outgoing.mT + weights.output_bias)
    for _ in range(num_times):
        hidden, output = settle(weights, drive, hidden, output, feedback=feedback)
    return output
