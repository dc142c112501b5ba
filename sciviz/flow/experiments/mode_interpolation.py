"""Samples between the modes: how many a small diffusion model makes, and which moment gives them away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.hallucination import (
    Denoiser,
    fit_denoiser,
    keep_steady,
    mode_distance,
    noise_levels,
    sample_diffusion,
    trajectory_variance,
)
from sciviz.lab.checks import check_int, check_ndim, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable

__all__ = ["mode_interpolation_claim", "samples_between_modes"]

# Beyond five standard deviations from every mode a sample of the data is expected once in two million.
FAR, NEAR = 5.0, 4.0


def samples_between_modes(
    *,
    seed: int,
    num_seeds: int = 5,
    modes: Sequence[Sequence[float]] | Tensor = ((-1.0,), (0.0,), (1.0,)),
    std: float = 0.05,
    num_levels: int = 1000,
    width: int = 64,
    depth: int = 3,
    train_steps: int = 2000,
    num_samples: int = 3000,
    num_kept: int = 12,
) -> xr.Dataset:
    """Train diffusion models on a few narrow modes, sample, and filter by the variance of predicted clean points.

    Parameters
    ----------
    modes, std
        Centres of the modes, shape (modes, d), and their standard deviation.
    num_levels
        Noise levels T, and reverse steps.
    num_kept
        Predicted paths of so many good and so many bad samples are kept for the figure.

    Returns
    -------
    xr.Dataset
        By seed: `samples` (first coordinate), `variance` over the last twentieth of the reverse steps, `kind` of each
        sample (0 in a mode, 1 between modes, 2 neither), `share` between modes; by seed and window `removed` and `kept`
        shares of the filter and counts; `predicted` paths of some samples of the first seed.

    >>> ds = samples_between_modes(seed=0, num_seeds=1, num_levels=60, train_steps=5, num_samples=50, width=8)
    >>> ds.samples.dims
    ('seed', 'sample')
    """
    check_int(1, num_seeds=num_seeds, num_kept=num_kept)
    check_int(2, num_samples=num_samples)
    check_positive(std=std)
    centres = torch.as_tensor(modes, dtype=torch.float32)
    check_ndim(2, modes=centres)
    number, dim = centres.shape
    sub = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    levels = noise_levels(num_levels)
    network = Denoiser(dim, width=width, depth=depth, members=num_seeds, seed=sub[0])

    def draw(num: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(number, (num_seeds, num), generator=generator)
        return centres[which] + std * torch.randn(num_seeds, num, dim, generator=generator)

    fit_denoiser(network, draw, levels=levels, num_steps=train_steps, lr=3e-3, seed=sub[1])
    samples, predicted = sample_diffusion(network, (num_seeds, num_samples, dim), levels=levels, seed=sub[2])
    distance, _ = mode_distance(samples, centres)
    # Between: far from every mode, yet within the box that the modes span.
    inside = ((samples > centres.amin(0) - NEAR * std) & (samples < centres.amax(0) + NEAR * std)).all(-1)
    between, good = (distance > FAR * std) & inside, distance < NEAR * std
    kind = torch.full(distance.shape, 2)
    kind[good], kind[between] = 0, 1

    windows = {"first half": (0.0, 0.5), "middle": (0.5, 0.75), "late": (0.75, 0.95), "last twentieth": (0.95, 1.0)}
    removed = np.full((num_seeds, len(windows)), np.nan)
    kept = np.full((num_seeds, len(windows)), np.nan)
    for column, (start, stop) in enumerate(windows.values()):
        variance = trajectory_variance(predicted, start, stop)
        for row in range(num_seeds):
            judged = good[row] | between[row]
            if between[row].any() and good[row].sum() > 1:
                result = keep_steady(variance[row][judged], between[row][judged])
                removed[row, column], kept[row, column] = result.removed, result.kept
    first = [torch.nonzero(mask[0]).ravel()[:num_kept] for mask in (good, between)]
    chosen = torch.cat(first)
    every = max(1, num_levels // 200)
    shown = predicted[::every, 0, chosen, 0].T
    return dataset(
        "Samples between the modes",
        {
            "seed": variable("seed", np.arange(num_seeds), "draw of the model"),
            "sample": variable("sample", np.arange(num_samples), "sample"),
            "window": variable("window", list(windows), "part of the reverse steps", ""),
            "path": variable("path", np.arange(len(chosen)), "path shown"),
            "path_kind": variable("path", [0] * len(first[0]) + [1] * len(first[1]), "0 in a mode, 1 between"),
            "progress": variable("progress", np.arange(0, num_levels, every) / num_levels, "share of steps done"),
            "mode": variable("mode", np.arange(number), "mode"),
        },
        {
            "samples": variable("seed sample", samples[..., 0], "sample"),
            "variance": variable(
                "seed sample", trajectory_variance(predicted), "variance of predicted clean point, last 5% of steps"
            ),
            "kind": variable("seed sample", kind, "0 in a mode, 1 between modes, 2 neither"),
            "share": variable("seed", between.double().mean(1), "share of samples between modes"),
            "between": variable("seed", between.sum(1), "samples between modes"),
            "removed": variable("seed window", removed, "share of between-mode samples removed"),
            "kept": variable("seed window", kept, "share of good samples kept"),
            "predicted": variable("path progress", shown, "predicted clean point"),
            "centre": variable("mode", centres[:, 0], "centre of the mode"),
        },
        std=std,
        num_levels=num_levels,
    )


def mode_interpolation_claim(ds: xr.Dataset) -> ClaimResult:
    """`mode-interpolation/filter`: wavering late predictions give samples between modes away."""
    late = ds.sel(window="last twentieth")
    counts = ds.between.values
    there = counts > 0
    decidable = ds.sizes["seed"] >= 3 and counts.sum() >= 30 and there.sum() >= 3
    removed = float((late.removed.values[there] * counts[there]).sum() / max(counts.sum(), 1))
    kept = float(late.kept.values[there].mean()) if there.any() else float("nan")
    text = (
        f"threshold at the 90th percentile of one half of the in-mode samples: it removes at least 0.95 of the samples "
        f"between modes (over all models) and keeps at least 0.85 of the other half, on average over "
        f"{int(there.sum())} models; between = further than {FAR:g} standard deviations from each mode, T = "
        f"{ds.attrs['num_levels']}, last 5% of steps"
    )
    measured = {"removed": removed, "kept": kept, "share between modes": float(ds.share.mean())}
    return ClaimResult(
        measured, bool(removed >= 0.95 and kept >= 0.85) if decidable else None, text, None, ds.sizes["seed"]
    )
