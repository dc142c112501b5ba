"""Encodings: numbers become spikes, by how many, by when, by whom, or by what changed.

rate         each step a spike with a probability: robust, and expensive in spikes
latency      one spike, the earlier the stronger: cheap, and lost if it comes too late
population   each number is shared among neurons, each of which prefers a value
delta        a spike where a signal has moved by a threshold, up or down: nothing where nothing happens
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_finite, check_int, check_ndim, check_positive


def _check_unit(X: Tensor) -> None:
    check_finite(X=X)
    if X.numel() and (float(X.min()) < 0 or float(X.max()) > 1):
        raise ValueError(f"X must lie in [0, 1], got {float(X.min()):g} to {float(X.max()):g}: scale it first.")


def encode_rate(
    X: Float[Tensor, "*features"], num_steps: int, *, seed: int, most: float = 1.0
) -> Float[Tensor, "time *features"]:
    """Let each number be the probability of a spike in each step.

    Parameters
    ----------
    X
        Numbers in [0, 1].
    most
        Probability of a spike in a step where X is one.

    Raises
    ------
    ValueError
        If X leaves [0, 1], or `most` does.

    >>> encode_rate(torch.tensor([0.0, 1.0]), 3, seed=0).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """
    check_int(1, num_steps=num_steps)
    _check_unit(X)
    check_positive(most=most)
    if most > 1:
        raise ValueError(f"most must be a probability, got {most!r}.")
    generator = torch.Generator(device=X.device).manual_seed(seed)
    drawn = torch.rand((num_steps, *X.shape), generator=generator, dtype=X.dtype, device=X.device)
    return (drawn < X * most).to(X.dtype)


def encode_latency(
    X: Float[Tensor, "*features"], num_steps: int, *, threshold: float = 0.05, tau: float | None = None
) -> Float[Tensor, "time *features"]:
    """Let each number be one spike, the earlier the larger; what lies below `threshold` stays silent.

    Parameters
    ----------
    X
        Numbers in [0, 1].
    num_steps
        Steps; X = 1 spikes in the first and X = `threshold` in the last.
    threshold
        The smallest number that spikes, above 0 and below 1.
    tau
        If None, time falls linearly with X. Otherwise it is the time at which a membrane with time constant `tau` steps, charged by
        X, reaches the threshold: τ ln(X/(X − threshold)), cut at the last step.

    Raises
    ------
    ValueError
        If X leaves [0, 1], or the threshold leaves (0, 1).

    >>> encode_latency(torch.tensor([1.0, 0.5, 0.0]), 3, threshold=0.1).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    check_int(1, num_steps=num_steps)
    _check_unit(X)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold!r}.")
    if tau is None:
        when = (1 - X) / (1 - threshold) * (num_steps - 1)
    else:
        check_positive(tau=tau)
        above = (X - threshold).clamp(min=torch.finfo(X.dtype).tiny)
        when = tau * torch.log(X / above)
    step = when.round().clamp(0, num_steps - 1).long()
    spikes = torch.zeros((num_steps, *X.shape), dtype=X.dtype, device=X.device)
    fires = (threshold < X) if tau is not None else (threshold <= X)
    return spikes.scatter_(0, step[None], fires.to(X.dtype)[None])


def encode_population(
    X: Float[Tensor, "*features"], num_neurons: int, *, width: float | None = None
) -> Float[Tensor, "*features neurons"]:
    """Share each number among neurons that prefer values spread evenly over [0, 1]: Gaussian tuning curves.

    The result is an intensity in [0, 1] for each neuron; `encode_rate` or `encode_latency` makes spikes of it.

    Parameters
    ----------
    num_neurons
        Neurons for each number.
    width
        Standard deviation of a tuning curve; the distance between two preferred values if None.

    Raises
    ------
    ValueError
        If X leaves [0, 1], or there are fewer than two neurons.

    >>> encode_population(torch.tensor([0.5]), 3).argmax().item()
    1
    """
    check_int(2, num_neurons=num_neurons)
    _check_unit(X)
    preferred = torch.linspace(0, 1, num_neurons, dtype=X.dtype, device=X.device)
    width = 1 / (num_neurons - 1) if width is None else width
    check_positive(width=width)
    return torch.exp(-0.5 * ((X[..., None] - preferred) / width) ** 2)


def encode_delta(
    signal: Float[Tensor, "time *features"], *, threshold: float
) -> Float[Tensor, "time *features polarity"]:
    """Spike where a signal has moved by `threshold` since its last spike: up in the first polarity, down in the second.

    The reference follows by one threshold a spike and at most one spike a step, as in an event camera's pixel. Where the
    signal moves by less than a threshold a step, `decode_delta` stays within one threshold of it.

    Raises
    ------
    ValueError
        If the threshold is not positive, or the signal not finite.

    >>> encode_delta(torch.tensor([0.0, 1.0, 1.1, 0.0]), threshold=0.5)[:, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    check_positive(threshold=threshold)
    check_finite(signal=signal)
    reference = signal[0].clone()
    up, down = torch.zeros_like(signal), torch.zeros_like(signal)
    for t in range(1, len(signal)):
        moved = signal[t] - reference
        up[t], down[t] = (moved >= threshold).to(signal.dtype), (moved <= -threshold).to(signal.dtype)
        reference += threshold * (up[t] - down[t])
    return torch.stack([up, down], dim=-1)


def decode_delta(
    spikes: Float[Tensor, "time *features polarity"], *, threshold: float, start: float | Tensor = 0.0
) -> Float[Tensor, "time *features"]:
    """Return the signal that up and down spikes tell of, from its `start`.

    Raises
    ------
    ValueError
        If the last dimension does not hold two polarities.

    >>> decode_delta(encode_delta(torch.tensor([0.0, 0.6, 1.2]), threshold=0.5), threshold=0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    if spikes.shape[-1] != 2:
        raise ValueError(f"spikes must end in two polarities, got shape {tuple(spikes.shape)}.")
    return start + threshold * (spikes[..., 0] - spikes[..., 1]).cumsum(0)


ENCODINGS = ("current", "rate", "latency")


def encode(
    X: Float[Tensor, "batch features"], num_steps: int, *, encoding: str = "current", seed: int = 0
) -> Float[Tensor, "time batch features"]:
    """Encode a batch of pictures: as a constant "current" (no spikes yet), by "rate", or by "latency".

    Raises
    ------
    ValueError
        If the encoding is unknown, or X is not (batch, features) in [0, 1].

    >>> encode(torch.ones(2, 3), 5, encoding="latency").sum().item()
    6.0
    """
    check_choice(ENCODINGS, encoding=encoding)
    check_int(1, num_steps=num_steps)
    check_ndim(2, X=X)
    if encoding == "rate":
        return encode_rate(X, num_steps, seed=seed, most=0.5)
    if encoding == "latency":
        return encode_latency(X, num_steps)
    return X.expand(num_steps, *X.shape)
