"""Membrane potential batch normalisation, and how it disappears into thresholds [mpbn-snn].

Normalising the inputs of a layer says nothing about its membranes, which sum inputs over time. So the membrane itself is
normalised, just before it is compared with the threshold:

    u[t] = a v[t−1] + I[t]      s[t] = H(γ (u[t] − μ)/√(ν + ε) + β − θ)      v[t] = u[t] (1 − s[t])

After training μ, ν, γ and β are numbers for each channel, and with γ > 0 the comparison is u[t] ≥ θ' for

    θ' = μ + (θ − β) √(ν + ε) / γ.

The layer with normalisation is a plain layer with other thresholds: inference costs nothing more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_positive
from sciviz.snn.surrogates import Surrogate, as_surrogate


class NormalisedTrace(NamedTuple):
    """Spikes and membranes of a normalised layer, with the mean and variance over batch and time that it saw."""

    spikes: Tensor
    membrane: Tensor
    mean: Tensor
    var: Tensor


def normalised_lif(
    current: Float[Tensor, "time *members batch channels"],
    scale: Float[Tensor, "*members 1 channels"],
    shift: Float[Tensor, "*members 1 channels"],
    *,
    decay: float,
    threshold: float = 1.0,
    mean: Float[Tensor, "*members 1 channels"] | None = None,
    var: Float[Tensor, "*members 1 channels"] | None = None,
    eps: float = 1e-5,
    surrogate: str | Surrogate = "arctan",
) -> NormalisedTrace:
    """Run leaky neurons (reset to zero) whose membrane is normalised before the comparison [mpbn-snn, eq. 9 to 11].

    Parameters
    ----------
    scale, shift
        γ and β of each channel.
    mean, var
        μ and ν for inference; without them each step is normalised over its batch, as in training.

    Raises
    ------
    ValueError
        If only one of `mean` and `var` is given, or `eps` is not positive.

    >>> one = torch.ones(1, 1)
    >>> trace = normalised_lif(torch.ones(2, 3, 1), one, 0 * one, decay=0.5, mean=0 * one, var=one)
    >>> trace.membrane[:, 0, 0].tolist(), trace.spikes[:, 0, 0].tolist()
    ([1.0, 1.5], [0.0, 1.0])
    """
    check_positive(eps=eps)
    if (mean is None) != (var is None):
        raise ValueError("mean and var must be given together, got only one of them.")
    fire = as_surrogate(surrogate)
    held = torch.zeros_like(current[0])
    spikes, membranes, means, variances = [], [], [], []
    for step in current.unbind(0):
        u = torch.add(step, held, alpha=decay)
        if mean is None or var is None:
            centre, spread = u.mean(-2, keepdim=True), u.var(-2, keepdim=True, correction=0)
            means.append(centre.detach())
            variances.append(spread.detach())
        else:
            centre, spread = mean, var
        s = fire.spike(scale * (u - centre) * (spread + eps).rsqrt() + shift - threshold)
        held = u - u * s.detach()
        spikes.append(s)
        membranes.append(u)
    if mean is None or var is None:
        each = torch.stack(means)
        # The variance over batch and time: what varies within steps, and between them.
        mean, var = each.mean(0), torch.stack(variances).mean(0) + each.var(0, correction=0)
    return NormalisedTrace(torch.stack(spikes), torch.stack(membranes), mean, var)


def fold_threshold(
    scale: Float[Tensor, "..."],
    shift: Float[Tensor, "..."],
    mean: Float[Tensor, "..."],
    var: Float[Tensor, "..."],
    *,
    threshold: float = 1.0,
    eps: float = 1e-5,
) -> Float[Tensor, "..."]:
    """Return θ' = μ + (θ − β) √(ν + ε) / γ, with which a plain layer fires as the normalised one [mpbn-snn, eq. 14].

    Raises
    ------
    ValueError
        If a scale is not positive: the neuron would fire *below* its threshold, and no threshold does that.

    >>> one = torch.ones(1)
    >>> fold_threshold(2 * one, 0 * one, one, 4 * one, eps=1e-12).tolist()
    [2.0]
    """
    check_positive(eps=eps)
    if not bool((scale > 0).all()):
        raise ValueError(f"scale must be positive in every channel to be folded, got {float(scale.min()):g}.")
    return mean + (threshold - shift) * (var + eps).sqrt() / scale
