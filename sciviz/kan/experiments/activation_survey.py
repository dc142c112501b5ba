"""Which named activations are the same up to affine maps [activation-survey-400]."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from sciviz.kan.activations import CATALOGUE, NamedActivation, match_catalogue, stated_pairs
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable

STEPS = ("binary step", "bipolar step")
"""What is not continuous: between two sample points any steep ramp looks like one."""


def catalogue_duplicates(
    *,
    seed: int,
    num_seeds: int = 5,
    catalogue: Mapping[str, NamedActivation] = CATALOGUE,
    reach: float = 8.0,
    num_fresh: int = 1000,
) -> xr.Dataset:
    """Fit every activation of a catalogue by every other, c · g(a x + b) + d, on [-reach, reach].

    The fits are made on even points. Those that look exact in both directions are checked on fresh random points, drawn
    anew for every seed.

    Returns
    -------
    xr.Dataset
        `error` of the fit of `activation` by `other`, relative to the function's range (1 where a coarse search found
        nothing near), `one_way` where `other` fits `activation` and not the other way round (steps left out, which any
        ramp fits that is steep enough to fall between two points), `stated` where an identity is known, and `fresh_error`,
        by pair found and seed, the larger of both directions' errors on fresh points.

    >>> few = {name: CATALOGUE[name] for name in ("sigmoid", "tanh", "relu", "ReLU6")}
    >>> ds = catalogue_duplicates(seed=0, num_seeds=2, catalogue=few)
    >>> ds.pair.values.tolist()
    ['sigmoid = tanh']
    """
    check_int(1, num_seeds=num_seeds, num_fresh=num_fresh)
    check_positive(reach=reach)
    names = list(catalogue)
    matches = match_catalogue(catalogue, low=-reach, high=reach)
    error = np.ones((len(names), len(names)))
    np.fill_diagonal(error, 0.0)
    for (f, g), match in matches.items():
        error[names.index(f), names.index(g)] = min(match.error, 1.0)
    stated = np.zeros((len(names), len(names)), dtype=bool)
    for f, g in stated_pairs(catalogue):
        stated[names.index(f), names.index(g)] = stated[names.index(g), names.index(f)] = True
    fits = error <= 1e-6
    jumps = np.isin(names, STEPS)
    both, one_way = fits & fits.T, fits & ~fits.T & ~jumps[:, None]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names)) if both[i, j]]
    fresh = np.zeros((len(pairs), num_seeds))
    for k, s in enumerate(sub_seeds(seed, num_seeds)):
        generator = torch.Generator().manual_seed(s)
        x = reach * (2 * torch.rand(num_fresh, generator=generator, dtype=torch.float64) - 1)
        for row, (i, j) in enumerate(pairs):
            for f, g in ((names[i], names[j]), (names[j], names[i])):
                match, target = matches[f, g], catalogue[f].function(x)
                fitted = match.c * catalogue[g].function(match.a * x + match.b) + match.d
                worst = float((fitted - target).abs().max() / (target.max() - target.min()))
                fresh[row, k] = max(fresh[row, k], worst)
    return dataset(
        "Activations that are the same up to affine maps",
        {
            "activation": variable("activation", names, "activation", ""),
            "other": variable("other", names, "other activation", ""),
            "pair": variable("pair", [f"{names[i]} = {names[j]}" for i, j in pairs], "pair found", ""),
            "seed": seed_coord(num_seeds),
        },
        {
            "error": variable("activation other", error, "largest error of the fit by the function's range"),
            "one_way": variable("activation other", one_way, "whether the fit works in this direction only"),
            "stated": variable("activation other", stated, "whether an identity is stated"),
            "fresh_error": variable("pair seed", fresh, "largest error on fresh points by the function's range"),
        },
        reach=reach,
    )


def duplicates_claim(ds: xr.Dataset) -> ClaimResult:
    """`activation-survey-400/duplicates`: many named activations coincide up to affine maps."""
    error = ds.error.values
    found = np.triu(np.maximum(error, error.T) <= 1e-6, 1)
    stated = np.triu(ds.stated.values, 1)
    confirmed = int((ds.fresh_error.max("seed") <= 1e-6).sum()) if ds.sizes["pair"] else 0
    counts = {
        "pairs that coincide": float(found.sum()),
        "pairs found, not stated": float((found & ~stated).sum()),
        "pairs stated, not found": float((stated & ~found).sum()),
        "names": float(len(error)),
    }
    reach = float(ds.attrs["reach"])
    text = (
        f"in a catalogue of at least 40 names the matcher finds at least 15 pairs within 1e-6 in both directions on "
        f"[-{reach:g}, {reach:g}], all with a stated identity, all confirmed on fresh points of {ds.sizes['seed']} seeds"
    )
    holds = bool(found.sum() >= 15 and not (found & ~stated).any() and confirmed == found.sum())
    return ClaimResult(counts, holds if len(error) >= 40 else None, text, None, ds.sizes["seed"])


def one_way_claim(ds: xr.Dataset) -> ClaimResult:
    """`activation-survey-400/one-way`: a fit in one direction is no proof that two activations are the same."""
    only = int(ds.one_way.sum())
    text = "at least one activation, steps aside, is fitted within 1e-6 by another that it cannot fit itself"
    holds = only >= 1 if ds.sizes["activation"] >= 40 else None
    return ClaimResult({"fits in one direction only": float(only)}, holds, text, None, ds.sizes["seed"])
