"""A small diffusion model, and a filter for samples that lie between the modes of its data.

The denoiser is a smooth function of its input. Where the right answer jumps from one mode to the next, the network
cuts the corner, and samples come to lie in between; their predicted clean points waver until the last steps
[mode-interpolation].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciviz.flow.networks import VelocityField
from sciviz.lab.checks import check_int, check_ndim, check_positive

__all__ = [
    "Denoiser",
    "DiffusionSamples",
    "FilterResult",
    "fit_denoiser",
    "keep_steady",
    "log_noise",
    "mode_distance",
    "noise_levels",
    "sample_diffusion",
    "trajectory_variance",
]


def noise_levels(num_levels: int = 1000) -> Float[Tensor, " levels"]:
    """Return ᾱ_1, …, ᾱ_T: what is left of the data's power after so many noising steps, rates from 1e-4 to 0.02.

    The rates are those usual for T = 1000, scaled so that other T end in the same noise.

    >>> levels = noise_levels()
    >>> bool(levels[0] > 0.999), bool(levels[-1] < 1e-4)
    (True, True)
    """
    check_int(10, num_levels=num_levels)
    rates = torch.linspace(1e-4, 0.02, num_levels, dtype=torch.float64) * (1000 / num_levels)
    return torch.cumprod(1 - rates.clamp(max=0.999), 0)


def log_noise(levels: Float[Tensor, " levels"]) -> Float[Tensor, " levels"]:
    """Return log √((1−ᾱ)/ᾱ) over 5: the form in which the network is told the level, of order one at each of them.

    >>> log_noise(torch.tensor([0.5]))
    tensor([0.])
    """
    return ((1 - levels) / levels).log() / 10


class Denoiser(VelocityField):
    """A plain network (log-noise, x) → predicted noise, with inputs stretched threefold.

    The right answer is a saw-tooth at low noise, one tooth a mode; stretched inputs let the network draw it much
    sooner. With plain ones a third of the samples still lies between the modes after a short training.

    >>> Denoiser(1, width=8, depth=1, seed=0)(torch.tensor(0.3), torch.zeros(4, 1)).shape
    torch.Size([4, 1])
    """

    def inputs(self, t: Tensor, x: Tensor) -> Tensor:
        """Return points and their log-noise, stretched."""
        return super().inputs(3 * t, 3 * x)


def fit_denoiser(
    network: Denoiser,
    draw: Callable[[int, torch.Generator], Float[Tensor, "*members batch d"]],
    *,
    levels: Float[Tensor, " levels"],
    num_steps: int,
    batch_size: int = 256,
    lr: float = 2e-3,
    seed: int,
) -> Float[Tensor, " num_steps"]:
    """Train a network (or an ensemble) in place to predict the noise in noisy data; return the loss of each step.

    Parameters
    ----------
    network
        Called as network(log-noise, x); trained with its own backward pass.
    draw
        (batch size, generator) → clean data.

    >>> net = Denoiser(1, width=8, depth=1, seed=0)
    >>> clean = lambda num, generator: torch.randn(num, 1, generator=generator)
    >>> fit_denoiser(net, clean, levels=noise_levels(100), num_steps=5, seed=0).shape
    torch.Size([5])
    """
    check_int(1, num_steps=num_steps, batch_size=batch_size)
    check_positive(lr=lr)
    generator = torch.Generator().manual_seed(seed)
    keep = levels.sqrt().float()
    spread, told = (1 - levels).sqrt().float(), log_noise(levels).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for _ in range(num_steps):
        clean = draw(batch_size, generator)
        level = torch.randint(len(levels), (*clean.shape[:-1], 1), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = keep[level] * clean + spread[level] * noise
        losses.append(network.write_gradient(network.inputs(told[level], noisy), noise).mean())
        optimizer.step()
        schedule.step()
    return torch.stack(losses)


class DiffusionSamples(NamedTuple):
    """What ancestral sampling returns: the samples, and the clean point that was predicted at each reverse step."""

    samples: Float[Tensor, "*members n d"]
    predicted: Float[Tensor, "levels *members n d"]


@torch.no_grad()
def sample_diffusion(
    network: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    *,
    levels: Float[Tensor, " levels"],
    seed: int,
) -> DiffusionSamples:
    """Draw samples by going back through all noise levels, a little noise added at each (ancestral sampling).

    Parameters
    ----------
    network
        (log-noise, x) → predicted noise.
    shape
        Shape of the samples, (n, d) or (members, n, d).

    >>> levels = noise_levels(50)
    >>> knows = lambda told, x: x  # the noise in a point whose clean version is always 0 is nearly all of it
    >>> sample_diffusion(knows, (4, 1), levels=levels, seed=0).predicted.shape
    torch.Size([50, 4, 1])
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    told = log_noise(levels).float()
    before = torch.cat([levels.new_ones(1), levels[:-1]])
    predicted = torch.empty(len(levels), *shape)
    for row, k in enumerate(reversed(range(len(levels)))):
        level, cleaner = float(levels[k]), float(before[k])
        noise = network(told[k], x)
        clean = (x - (1 - level) ** 0.5 * noise) / level**0.5
        predicted[row] = clean
        # Mean and variance of the cleaner point given this one and the predicted clean one.
        rate = 1 - level / cleaner
        x = (cleaner**0.5 * rate * clean + (level / cleaner) ** 0.5 * (1 - cleaner) * x) / (1 - level)
        if k:
            fresh = torch.randn(shape, generator=generator)
            x = x + ((1 - cleaner) / (1 - level) * rate) ** 0.5 * fresh
    return DiffusionSamples(x, predicted)


def trajectory_variance(
    predicted: Float[Tensor, "levels *members n d"], start: float = 0.95, stop: float = 1.0
) -> Float[Tensor, "*members n"]:
    """Return how much the predicted clean point of each sample varies over a window of the reverse steps.

    Parameters
    ----------
    start, stop
        Shares of the reverse steps where the window begins and ends; the last twentieth by default. Earlier windows
        hold the time when any sample has still to choose its mode.

    Raises
    ------
    ValueError
        If the window holds fewer than two steps.

    >>> steady = torch.ones(100, 3, 1)
    >>> trajectory_variance(steady).tolist()
    [0.0, 0.0, 0.0]
    """
    first, last = round(start * len(predicted)), round(stop * len(predicted))
    if not 0 <= first < last - 1 < len(predicted):
        raise ValueError(f"start and stop must bound at least two of {len(predicted)} steps, got {start} and {stop}.")
    return predicted[first:last].double().var(dim=0, correction=0).sum(-1)


def mode_distance(
    x: Float[Tensor, "*batch d"], modes: Float[Tensor, "modes d"]
) -> tuple[Float[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    """Return the distance from the nearest mode, and which one that is.

    >>> distance, which = mode_distance(torch.tensor([[0.1], [1.0]]), torch.tensor([[0.0], [1.0]]))
    >>> which.tolist()
    [0, 1]
    """
    check_ndim(2, modes=modes)
    gaps = (x[..., None, :] - modes).norm(dim=-1)
    nearest = gaps.min(dim=-1)
    return nearest.values, nearest.indices


class FilterResult(NamedTuple):
    """What a threshold on the trajectory variance does: share of bad samples it removes, and of good ones it keeps."""

    removed: float
    kept: float
    threshold: float


def keep_steady(variance: Float[Tensor, " n"], hallucinated: Bool[Tensor, " n"], *, keep: float = 0.9) -> FilterResult:
    """Set a threshold on one half of the good samples, and measure on the other half and on the bad ones.

    Parameters
    ----------
    hallucinated
        Which samples are bad.
    keep
        Share of good samples that the threshold lets through, in the half that it is set on.

    Raises
    ------
    ValueError
        If there are fewer than two good samples or no bad ones.

    >>> result = keep_steady(torch.tensor([1.0, 1.0, 1.0, 1.0, 9.0]), torch.tensor([False] * 4 + [True]))
    >>> result.removed, result.kept
    (1.0, 1.0)
    """
    good, bad = variance[~hallucinated], variance[hallucinated]
    if len(good) < 2 or not len(bad):
        raise ValueError(f"Both kinds are needed to judge a filter, got {len(good)} good and {len(bad)} bad samples.")
    threshold = torch.quantile(good[::2], keep)
    removed = (bad > threshold).double().mean()
    return FilterResult(float(removed), float((good[1::2] <= threshold).double().mean()), float(threshold))
