"""Synapses with learnt delays: dilated convolutions whose taps move [snn-dcls-delays].

A spike that leaves neuron i arrives at neuron j d_ji steps later. Over a window of past steps that is a convolution with a
kernel of one tap. A tap at an integer place has no gradient, so it is blurred to a Gaussian of width σ around a real number:

    I_j[t] = Σ_i w_ji Σ_τ k(τ − d_ji) s_i[t − τ],      k(x) ∝ exp(−x²/2σ²),  Σ_τ k = 1

The delay then learns by gradient like any weight. σ starts wide, so that a tap feels spikes far away, and shrinks. The sum
over i and τ for all t is a product of Fourier transforms, which costs no more for long delays than for short ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive


def delay_kernel(delay: Float[Tensor, "*synapses"], *, width: float, num_taps: int) -> Float[Tensor, "*synapses taps"]:
    """Return each synapse's kernel: a Gaussian tap at `delay`, which sums to one [snn-dcls-delays, eq. 6].

    Parameters
    ----------
    delay
        In steps, from 0 to num_taps − 1.
    width
        σ in steps.
    num_taps
        Length of the window of past steps.

    Raises
    ------
    ValueError
        If `width` is not positive or there is no tap.

    >>> delay_kernel(torch.tensor([2.0]), width=0.1, num_taps=4).round().tolist()
    [[0.0, 0.0, 1.0, 0.0]]
    """
    check_positive(width=width)
    check_int(1, num_taps=num_taps)
    taps = torch.arange(num_taps, dtype=delay.dtype, device=delay.device)
    # Softmax is the normalised Gaussian, and stays finite where the tap is narrow and between two steps.
    return torch.softmax(-0.5 * ((taps - delay[..., None]) / width).square(), -1)


def delayed_current(
    spikes: Float[Tensor, "time *members batch inputs"],
    weight: Float[Tensor, "*members outputs inputs"],
    delay: Float[Tensor, "*members outputs inputs"],
    *,
    width: float,
    num_taps: int,
) -> Float[Tensor, "time *members batch outputs"]:
    """Return the currents that delayed spikes bring, for a whole sequence.

    Raises
    ------
    ValueError
        If weights and delays differ in shape, or inputs do not fit.

    >>> spikes = torch.zeros(5, 1, 1)
    >>> spikes[0] = 1
    >>> delayed_current(spikes, torch.ones(1, 1), torch.full((1, 1), 3.0), width=0.1, num_taps=4).flatten().round().abs().tolist()
    [0.0, 0.0, 0.0, 1.0, 0.0]
    """
    if weight.shape != delay.shape or weight.shape[-1] != spikes.shape[-1]:
        raise ValueError(
            f"weight and delay must both be (outputs, {spikes.shape[-1]}) for these spikes, got {tuple(weight.shape)} and "
            f"{tuple(delay.shape)}."
        )
    kernel = weight[..., None] * delay_kernel(delay, width=width, num_taps=num_taps)
    length = len(spikes)
    # Room for the last taps, so that the end of the sequence does not come round to its beginning.
    padded = length + num_taps - 1
    there = torch.fft.rfft(spikes, padded, dim=0)
    response = torch.fft.rfft(kernel, padded, dim=-1).movedim(-1, 0)
    current: Tensor = torch.fft.irfft(there @ response.mT, padded, dim=0)[:length]
    return current
