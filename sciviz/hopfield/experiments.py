"""Experiments on associative memories: each returns one labelled data set, and each claim about it is a function of that set.

The claims follow the papers' statements. A claim's criterion stands in its function, in words and in code next to each
other; it was fixed before its measurement was looked at. Seeds run together as one ensemble where that is cheaper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from sciviz.hopfield import theory
from sciviz.hopfield.layers import HopfieldPooling
from sciviz.hopfield.memories import (
    ClassicalMemory,
    ContinuousMemory,
    DenseMemory,
    ExponentialMemory,
    Memory,
    MultitaskingMemory,
    average_examples,
    flip,
    random_patterns,
)
from sciviz.hopfield.pointers import HullDecoder, convex_hull, is_simple, make_hulls, polygon_area
from sciviz.hopfield.retrieval import iterate, retrieve, retrieve_blocked
from sciviz.hopfield.self_referential import RULES, FewShotLearner
from sciviz.hopfield.sparse import Sparsey, code_overlap, random_codes, sparse_features, top_bits, vote
from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_ndim,
    check_nonnegative,
    check_positive,
    check_same_length,
)
from sciviz.lab.data import load_digits

Array = NDArray[np.float64]
Net = TypeVar("Net", bound=nn.Module)
Variable = tuple[tuple[str, ...], NDArray[Any], dict[str, str]]


class ClaimResult(NamedTuple):
    """What a claim's criterion makes of a data set; `run.claim(id, says=..., **result._asdict())` shows it.

    `holds` is None where the data set cannot decide, for example because it holds too few sizes or seeds.
    """

    measured: float | dict[str, float]
    holds: bool | None
    criterion: str
    spread: float | str | None
    seeds: int


# ---------------------------------------------------------------------------------------------------- small helpers


def _variable(dims: str | Sequence[str], values: ArrayLike | Tensor, long_name: str, units: str = "1") -> Variable:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    names = tuple(dims.split()) if isinstance(dims, str) else tuple(dims)
    return names, array, {"long_name": long_name, "units": units}


def _dataset(title: str, coords: Mapping[str, Variable], variables: Mapping[str, Variable], **attrs: Any) -> xr.Dataset:
    return xr.Dataset(dict(variables), coords=dict(coords), attrs={"title": title, **attrs})


def _seed_coord(num_seeds: int) -> Variable:
    return _variable("seed", np.arange(num_seeds), "draw of the experiment")


def _sub_seeds(seed: int, num: int) -> list[int]:
    """Seeds that no two base seeds share (as `seed + i` would)."""
    check_int(0, seed=seed)
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num, np.uint32)]


def _half_interval(values: ArrayLike) -> float:
    """Half of the mean's 95% interval, by Student's t."""
    sample = np.asarray(values, dtype=float).ravel()
    if sample.size < 2:
        return math.nan
    return float(stats.t.ppf(0.975, sample.size - 1) * sample.std(ddof=1) / math.sqrt(sample.size))


def _above(values: ArrayLike, bound: float = 0.0) -> bool | None:
    """Whether the mean is above the bound: None where the 95% interval holds the bound."""
    mean, half = float(np.mean(np.asarray(values))), _half_interval(values)
    if math.isnan(half) or abs(mean - bound) <= half:
        return None
    return mean > bound


def _enough(ds: xr.Dataset, num: int = 3) -> bool:
    return ds.sizes["seed"] >= num


def _user_patterns(patterns: ArrayLike | Tensor) -> Tensor:
    given = torch.as_tensor(patterns).to(torch.float32)
    check_ndim(2, patterns=given)
    check_finite(patterns=given)
    return given


# ------------------------------------------------------------------------------------- one step, attention, the bound


def one_step_retrieval(
    *,
    seed: int,
    num_seeds: int = 5,
    num_stored: int = 10_000,
    dimension: int = 64,
    beta: float = 1.0,
    flipped: float = 0.1,
    num_queries: int = 256,
) -> xr.Dataset:
    """Retrieve random ±1 patterns from flipped copies: one modern step, and the classical network until it settles.

    Returns
    -------
    xr.Dataset
        By seed: `exact` share of queries whose signs are all right after one modern step, `modern_overlap`, and
        `classical_overlap` of the asynchronous network without self-coupling at the same load.

    >>> ds = one_step_retrieval(seed=0, num_seeds=2, num_stored=500, num_queries=20)
    >>> bool((ds.exact > ds.classical_overlap).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_stored=num_stored, dimension=dimension)
    check_int(1, num_stored, num_queries=num_queries)
    rows = []
    for s in _sub_seeds(seed, num_seeds):
        patterns = random_patterns(num_stored, dimension, seed=s)
        target = patterns[:num_queries]
        cue = flip(target, flipped, seed=s + 1)
        modern = retrieve(patterns, cue, beta).sign()
        classical = ClassicalMemory(order="asynchronous", seed=s % 2**31).store(patterns)
        settled = classical.retrieve(cue, max_steps=30).state
        rows.append(
            [
                float((modern == target).all(-1).float().mean()),
                float((modern * target).mean()),
                float((settled * target).mean()),
            ]
        )
    exact, overlap, classical_overlap = np.array(rows).T
    return _dataset(
        "One-step retrieval of random patterns",
        {"seed": _seed_coord(num_seeds)},
        {
            "exact": _variable("seed", exact, "queries retrieved exactly in one step"),
            "modern_overlap": _variable("seed", overlap, "overlap after one modern step"),
            "classical_overlap": _variable("seed", classical_overlap, "overlap of the classical network, settled"),
        },
        num_stored=num_stored,
        dimension=dimension,
        beta=beta,
        flipped=flipped,
    )


def one_step_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/one-step`: thousands of random patterns in 64 dimensions are retrieved in one step."""
    exact = ds.exact.values
    holds = bool(exact.mean() >= 0.95) if _enough(ds) and ds.num_stored >= 1000 else None
    text = (
        f"at least 95% of queries exact after one step, mean over seeds; {ds.num_stored} random ±1 patterns, "
        f"d = {ds.dimension}, beta = {ds.beta:g}, {ds.flipped:.0%} of entries flipped"
    )
    return ClaimResult(float(exact.mean()), holds, text, _half_interval(exact), ds.sizes["seed"])


def classical_fails_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/classical-fails`: the classical network loses the same patterns."""
    overlap = ds.classical_overlap.values
    holds = bool(overlap.mean() <= 0.5) if _enough(ds) and ds.num_stored > 0.2 * ds.dimension else None
    text = "mean overlap at most 0.5 at the same load (asynchronous, no self-coupling, started from the same cues)"
    return ClaimResult(float(overlap.mean()), holds, text, _half_interval(overlap), ds.sizes["seed"])


def attention_agreement(
    *, seed: int, num_seeds: int = 5, num_stored: int = 1000, dimension: int = 64, num_queries: int = 64
) -> xr.Dataset:
    """Compare the Hopfield update with torch's scaled dot-product attention, in float32 and float64.

    >>> float(attention_agreement(seed=0, num_seeds=2).difference.sel(precision="float64").max()) < 1e-12
    True
    """
    check_int(1, num_seeds=num_seeds, num_stored=num_stored, dimension=dimension, num_queries=num_queries)
    beta = 1 / math.sqrt(dimension)
    precisions = (torch.float32, torch.float64)
    rows = []
    for s in _sub_seeds(seed, num_seeds):
        generator = torch.Generator().manual_seed(s)
        X = torch.randn(num_stored, dimension, generator=generator, dtype=torch.float64)
        query = torch.randn(num_queries, dimension, generator=generator, dtype=torch.float64)
        row = []
        for precision in precisions:
            x, q = X.to(precision), query.to(precision)
            ours = ContinuousMemory(beta=beta).store(x).update(q)
            theirs = nn.functional.scaled_dot_product_attention(q[None], x[None], x[None], scale=beta)[0]
            row.append(float((ours - theirs).abs().max()))
        rows.append(row)
    return _dataset(
        "The update is attention",
        {
            "seed": _seed_coord(num_seeds),
            "precision": _variable("precision", ["float32", "float64"], "number format", ""),
        },
        {"difference": _variable("seed precision", np.array(rows), "largest difference between update and attention")},
    )


def attention_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/attention`: the update equals attention."""
    worst = {str(p): float(ds.difference.sel(precision=p).max()) for p in ("float32", "float64")}
    text = "largest difference at most 1e-6 in float32 and 1e-12 in float64, over all seeds"
    return ClaimResult(worst, worst["float32"] <= 1e-6 and worst["float64"] <= 1e-12, text, None, ds.sizes["seed"])


def retrieval_error(
    *,
    seed: int,
    num_seeds: int = 5,
    num_stored: int = 200,
    dimension: int = 64,
    betas: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    noise: float = 0.05,
) -> xr.Dataset:
    """Measure how far one update lands from the pattern, beside the theorem's bound; patterns on the unit sphere.

    >>> ds = retrieval_error(seed=0, num_seeds=2, num_stored=20)
    >>> bool((ds.error <= ds.bound + 1e-12).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_stored=num_stored, dimension=dimension)
    check_nonnegative(noise=noise)
    errors, bounds = [], []
    for s in _sub_seeds(seed, num_seeds):
        generator = torch.Generator().manual_seed(s)
        X = torch.randn(num_stored, dimension, generator=generator, dtype=torch.float64)
        X = X / X.norm(dim=-1, keepdim=True)
        away = torch.randn(X.shape, generator=generator, dtype=torch.float64)
        cue = X + noise * away / away.norm(dim=-1, keepdim=True)
        errors.append([(retrieve(X, cue, b) - X).norm(dim=-1).numpy() for b in betas])
        bounds.append([theory.one_step_error_bound(X, cue, b).numpy() for b in betas])
    return _dataset(
        "Error of one update",
        {
            "seed": _seed_coord(num_seeds),
            "beta": _variable("beta", np.array(betas, dtype=float), "inverse temperature"),
            "pattern": _variable("pattern", np.arange(num_stored), "pattern"),
        },
        {
            "error": _variable("seed beta pattern", np.array(errors), "distance from the pattern after one step"),
            "bound": _variable("seed beta pattern", np.array(bounds), "bound on that distance"),
        },
        noise=noise,
    )


def error_bound_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/error-bound`: one update errs by no more than the bound, which falls exponentially."""
    margin = float((ds.error - ds.bound).max())
    mean = ds.error.mean(["seed", "pattern"]).values
    falls = float(mean[-1] / mean[0])
    text = "no error above its bound (to 1e-12) at any pattern, beta and seed, and the mean error at the largest beta "
    text += "at most 1e-3 of that at the smallest"
    measured = {"largest excess": margin, "error ratio": falls}
    return ClaimResult(measured, bool(margin <= 1e-12 and falls <= 1e-3), text, None, ds.sizes["seed"])


# ------------------------------------------------------------------------------------------------ kinds of fixed points


def clustered_patterns(
    num_clusters: int, per_cluster: int, dimension: int, *, seed: int, width: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Draw patterns around random centres of length one, `width` from them on average; return them and their clusters.

    >>> clustered_patterns(3, 4, 16, seed=0)[0].shape
    torch.Size([12, 16])
    """
    check_int(1, num_clusters=num_clusters, per_cluster=per_cluster, dimension=dimension)
    check_nonnegative(width=width)
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_clusters, dimension, generator=generator, dtype=torch.float64)
    centres = centres / centres.norm(dim=-1, keepdim=True)
    cluster = torch.arange(num_clusters).repeat_interleave(per_cluster)
    around = torch.randn(len(cluster), dimension, generator=generator, dtype=torch.float64) / math.sqrt(dimension)
    return centres[cluster] + width * around, cluster


def fixed_points(
    *,
    seed: int,
    num_seeds: int = 5,
    num_clusters: int = 4,
    per_cluster: int = 8,
    dimension: int = 64,
    width: float = 0.5,
    betas: ArrayLike | None = None,
    patterns: ArrayLike | Tensor | None = None,
    clusters: ArrayLike | Tensor | None = None,
) -> xr.Dataset:
    """Start from every pattern, iterate to a fixed point, and tell what kind it is, for each inverse temperature.

    Your own `patterns` (num, d), with the positions of their `clusters`, take the place of the drawn ones.

    >>> ds = fixed_points(seed=0, num_seeds=1, betas=[0.1, 100.0])
    >>> ds.share.sel(kind="global").values[0].tolist(), ds.share.sel(kind="single").values[0].tolist()
    ([1.0, 0.0], [0.0, 1.0])
    """
    check_int(1, num_seeds=num_seeds)
    temperatures = np.geomspace(0.1, 200, 23) if betas is None else np.asarray(betas, dtype=float)
    if patterns is not None:
        own = _user_patterns(patterns).double()
        group = torch.zeros(len(own), dtype=torch.int64) if clusters is None else torch.as_tensor(clusters).long()
        check_same_length(patterns=own, clusters=group)
        num_seeds, draws = 1, [(own, group)]
    else:
        draws = [
            clustered_patterns(num_clusters, per_cluster, dimension, seed=s, width=width)
            for s in _sub_seeds(seed, num_seeds)
        ]
    shares: list[Any] = []
    from_pattern: list[Any] = []
    from_cluster: list[Any] = []
    from_mean: list[Any] = []
    for X, cluster in draws:
        size = float((X - X.mean(0)).norm(dim=-1).mean())
        groups, member = np.unique(cluster.numpy(), return_inverse=True)
        means = torch.stack([X[cluster == int(c)].mean(0) for c in groups])[torch.as_tensor(member)]
        row: list[list[Any]] = [[], [], [], []]
        for beta in temperatures:
            state = iterate(X, X, float(beta), max_steps=500, tolerance=1e-8).state
            kinds = theory.classify_fixed_points(X, state, float(beta)).kind
            row[0].append([float((kinds == k).double().mean()) for k in range(3)])
            for i, target in enumerate((X, means, X.mean(0)), start=1):
                row[i].append(float((state - target).norm(dim=-1).mean()) / size)
        for kept, new in zip((shares, from_pattern, from_cluster, from_mean), row, strict=True):
            kept.append(new)
    scale = "in units of the patterns' mean distance from their mean"
    return _dataset(
        "Three kinds of fixed points",
        {
            "seed": _seed_coord(num_seeds),
            "beta": _variable("beta", temperatures, "inverse temperature"),
            "kind": _variable("kind", list(theory.KINDS), "kind of fixed point", ""),
        },
        {
            "share": _variable("seed beta kind", np.array(shares), "share of patterns that end in this kind"),
            "from_pattern": _variable("seed beta", np.array(from_pattern), f"distance from the pattern, {scale}"),
            "from_cluster": _variable(
                "seed beta", np.array(from_cluster), f"distance from the cluster's mean, {scale}"
            ),
            "from_mean": _variable("seed beta", np.array(from_mean), f"distance from the mean of all, {scale}"),
        },
    )


def fixed_points_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/fixed-points`: lowering beta gives metastable averages, then the global mean."""
    share = ds.share.mean("seed")
    single = float(share.sel(kind="single").isel(beta=-1))
    everywhere = float(share.sel(kind="global").isel(beta=0))
    meta = share.sel(kind="metastable")
    middle = int(np.argmax(meta.values))
    distance = float(ds.from_cluster.mean("seed").isel(beta=middle))
    measured = {
        "single at the largest beta": single,
        "metastable between": float(meta.max()),
        "its distance from the cluster's mean": distance,
        "global at the smallest beta": everywhere,
    }
    holds = min(single, float(meta.max()), everywhere) >= 0.95 and distance <= 0.1
    text = "at least 95% of patterns end in a single one at the largest beta, in a metastable one at some beta between "
    text += "(at most 0.1 from their cluster's mean), and in the global one at the smallest"
    return ClaimResult(measured, holds if _enough(ds) else None, text, None, ds.sizes["seed"])


# --------------------------------------------------------------------------------------------------- capacity curves


def classical_collapse(
    *,
    seed: int,
    num_seeds: int = 5,
    size: int = 500,
    loads: Sequence[float] = (0.04, 0.08, 0.1, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2, 0.25, 0.3),
    num_queries: int = 20,
) -> xr.Dataset:
    """Start the classical network at its patterns, let it settle, and measure what is left, by load K/N.

    Returns
    -------
    xr.Dataset
        `overlap` by seed and load; `theory` is the overlap of the mean-field equations at zero temperature.

    >>> ds = classical_collapse(seed=0, num_seeds=2, size=100, loads=(0.05, 0.4))
    >>> bool(ds.overlap.mean("seed")[0] > ds.overlap.mean("seed")[1])
    True
    """
    check_int(1, num_seeds=num_seeds, size=size, num_queries=num_queries)
    most = max(1, round(max(loads) * size))
    patterns = torch.stack([random_patterns(most, size, seed=s) for s in _sub_seeds(seed, num_seeds)])
    rows = []
    for load in loads:
        stored = patterns[:, : max(1, round(load * size))]
        cue = stored[:, :num_queries]
        settled = ClassicalMemory(order="asynchronous", seed=seed).store(stored).retrieve(cue, max_steps=40).state
        rows.append((settled * cue).mean((-1, -2)).numpy())
    alpha = np.asarray(loads, dtype=float)
    return _dataset(
        "The collapse of the classical network",
        {"seed": _seed_coord(num_seeds), "load": _variable("load", alpha, "patterns per spin, K/N")},
        {
            "overlap": _variable("seed load", np.array(rows).T, "overlap with the pattern it started from"),
            "theory": _variable("load", theory.zero_temperature_overlap(torch.tensor(alpha)), "mean-field overlap"),
        },
        size=size,
        critical_load=theory.critical_load(),
    )


def classical_capacity_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/classical-capacity`: the classical network holds about 0.138 d patterns, then collapses."""
    mean = ds.overlap.mean("seed")
    below, above = float(mean.sel(load=0.1, method="nearest")), float(mean.sel(load=0.2, method="nearest"))
    covers = bool(ds["load"].min() <= 0.1) and bool(ds["load"].max() >= 0.2) and ds.attrs["size"] >= 300 and _enough(ds)
    text = "overlap at least 0.95 at load 0.10 and at most 0.70 at load 0.20, N of at least 300, mean over seeds"
    measured = {"load 0.1": below, "load 0.2": above}
    spread = _half_interval(ds.overlap.sel(load=0.2, method="nearest"))
    return ClaimResult(measured, below >= 0.95 and above <= 0.7 if covers else None, text, spread, ds.sizes["seed"])


def _dense_limit(patterns: Tensor, interaction: int, *, threshold: float, num_queries: int, start: float) -> int:
    """Find the largest number of patterns kept at an overlap of at least `threshold`, by bisection in its logarithm."""
    cue = patterns[:num_queries]

    def kept(count: int) -> bool:
        memory = DenseMemory(interaction).store(patterns[:count])
        return float((memory.retrieve(cue, max_steps=8).state * cue).mean()) >= threshold

    low, high = float(num_queries), float(len(patterns))
    count = min(max(start, low), high)
    for _ in range(8):
        low, high = (count, high) if kept(round(count)) else (low, count)
        count = math.sqrt(low * high)
    return round(count)


def dense_capacity(
    *,
    seed: int,
    num_seeds: int = 8,
    interaction: int = 4,
    sizes: Sequence[int] = (16, 24, 32, 48),
    threshold: float = 0.9,
    num_queries: int = 10,
) -> xr.Dataset:
    """Count how many patterns a dense network keeps, by its size, with groups of `interaction` spins.

    Returns
    -------
    xr.Dataset
        `capacity` by seed and size: the largest number at which patterns keep a mean overlap of `threshold` when the
        network settles from them; `theory`, α_c N^(n−1) of the mean-field equations.

    >>> ds = dense_capacity(seed=0, num_seeds=2, sizes=(12, 16))
    >>> bool((ds.capacity.isel(size=1) > ds.capacity.isel(size=0)).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_queries=num_queries)
    check_int(3, 8, interaction=interaction)
    expected = [theory.critical_load(interaction) * n ** (interaction - 1) for n in sizes]
    rows = []
    for s in _sub_seeds(seed, num_seeds):
        row = []
        for n, guess in zip(sizes, expected, strict=True):
            patterns = random_patterns(max(num_queries + 1, round(3 * guess)), n, seed=s)
            row.append(
                _dense_limit(patterns, interaction, threshold=threshold, num_queries=num_queries, start=0.8 * guess)
            )
        rows.append(row)
    return _dataset(
        f"Capacity of the dense network of order {interaction}",
        {"seed": _seed_coord(num_seeds), "size": _variable("size", np.array(sizes), "network size", "spins")},
        {
            "capacity": _variable("seed size", np.array(rows), "patterns retrieved", "patterns"),
            "theory": _variable("size", np.array(expected), "mean-field capacity", "patterns"),
        },
        interaction=interaction,
    )


def dense_capacity_claim(ds: xr.Dataset) -> ClaimResult:
    """`dense-hopfield-rsb/capacity`: at fourth order the patterns retrieved grow like N to the third power."""
    log_size = np.log(ds["size"].values)
    logs = np.log(ds.capacity.values)
    slope = float(np.polyfit(log_size, logs.mean(0), 1)[0])
    singles = [float(np.polyfit(log_size, row, 1)[0]) for row in logs]
    enough = ds.sizes["seed"] >= 8 and ds.sizes["size"] >= 3 and ds.attrs["interaction"] == 4
    text = "slope of the mean log capacity against log N in [2.5, 3.5] at fourth order, at least 8 seeds and 3 sizes"
    return ClaimResult(slope, 2.5 <= slope <= 3.5 if enough else None, text, _half_interval(singles), ds.sizes["seed"])


def modern_capacity(
    *,
    seed: int,
    num_seeds: int = 8,
    dimensions: Sequence[int] = (8, 10, 12, 14, 16, 18, 20),
    beta: float = 1.0,
    threshold: float = 0.95,
    num_queries: int = 200,
    most: int = 2**17,
) -> xr.Dataset:
    """Count how many random unit-sphere patterns one step retrieves, by dimension; the sphere's radius is √d.

    A query counts as retrieved if one step takes its slightly moved cue (by a tenth of the radius) to within a tenth of
    the radius of the pattern. `bound` is the number that theory guarantees with probability 0.999.

    >>> ds = modern_capacity(seed=0, num_seeds=1, dimensions=(4, 8))
    >>> bool(ds.capacity[0, 1] > ds.capacity[0, 0])
    True
    """
    check_int(1, num_seeds=num_seeds, num_queries=num_queries)
    check_positive(beta=beta)
    rows = []
    for s in _sub_seeds(seed, num_seeds):
        row = []
        for d in dimensions:
            generator = torch.Generator().manual_seed(s)
            X = torch.randn(most, d, generator=generator)
            X = X / X.norm(dim=-1, keepdim=True) * math.sqrt(d)
            target = X[:num_queries]
            away = torch.randn(target.shape, generator=generator)
            cue = target + 0.1 * math.sqrt(d) * away / away.norm(dim=-1, keepdim=True)
            low, high = 1.0, float(most)
            for _ in range(9):
                count = math.sqrt(low * high)
                stored = X[: max(round(count), num_queries)]
                if round(count) < num_queries:  # fewer patterns than queries: ask for those only
                    stored = X[: round(count)]
                asked = slice(0, len(stored[:num_queries]))
                answer = retrieve_blocked(stored, cue[asked], beta)
                right = (answer - target[asked]).norm(dim=-1) <= 0.1 * math.sqrt(d)
                low, high = (count, high) if float(right.float().mean()) >= threshold else (low, count)
            row.append(math.sqrt(low * high))
        rows.append(row)
    bound = [theory.exponential_capacity(d, beta, radius=math.sqrt(d / (d - 1))) for d in dimensions]
    return _dataset(
        "Capacity of the modern network",
        {
            "seed": _seed_coord(num_seeds),
            "dimension": _variable("dimension", np.array(dimensions), "dimension of patterns"),
        },
        {
            "capacity": _variable("seed dimension", np.array(rows), "patterns retrieved in one step", "patterns"),
            "bound": _variable("dimension", np.array(bound), "patterns guaranteed by theory", "patterns"),
        },
        most=most,
        beta=beta,
    )


def exponential_capacity_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/exponential-capacity`: the number of patterns grows exponentially with the dimension."""
    d, logs = ds.dimension.values.astype(float), np.log(ds.capacity.values)
    text = "log capacity rises linearly with d (R² at least 0.97), by at least 0.1 a dimension; faster than any power: the "
    text += (
        "exponent of a power law is larger over the upper half of dimensions than over the lower (95% interval of the "
    )
    text += "paired difference above zero); and it is never below the number that theory guarantees"
    if ds.sizes["dimension"] < 5:
        return ClaimResult(math.nan, None, text, None, ds.sizes["seed"])
    fit = stats.linregress(d, logs.mean(0))
    middle = len(d) // 2
    lower, upper = (
        np.polyfit(np.log(d[part]), logs[:, part].T, 1)[0] for part in (slice(0, middle + 1), slice(middle, None))
    )
    rises = _above(upper - lower)
    r_squared = float(fit.rvalue**2)
    plain = r_squared >= 0.97 and fit.slope >= 0.1 and bool((ds.capacity.mean("seed") >= ds.bound).all())
    decided = ds.sizes["seed"] >= 5 and float(ds.capacity.max()) < 0.9 * ds.attrs["most"]
    measured = {
        "growth per dimension": float(fit.slope),
        "R²": r_squared,
        "exponent, lower half": float(lower.mean()),
        "exponent, upper half": float(upper.mean()),
    }
    holds = None if not decided or (plain and rises is None) else bool(plain and rises)
    singles = np.polyfit(d, logs.T, 1)[0]
    return ClaimResult(measured, holds, text, _half_interval(singles), ds.sizes["seed"])


def classical_phases(*, loads: ArrayLike | None = None) -> xr.Dataset:
    """Compute the classical network's phase diagram, temperature against load, from its mean-field equations.

    >>> classical_phases(loads=[0.02, 0.1]).retrieval.shape
    (2,)
    """
    alpha = np.concatenate([[0.002], np.linspace(0.01, 0.15, 29)]) if loads is None else np.asarray(loads, dtype=float)
    found = theory.phase_diagram(torch.tensor(alpha))
    return _dataset(
        "Phases of the classical network",
        {"load": _variable("load", alpha, "patterns per spin, K/N")},
        {
            "glass": _variable("load", found.glass, "temperature below which it is a spin glass"),
            "retrieval": _variable("load", found.retrieval, "temperature below which it retrieves"),
            "dominant": _variable("load", found.dominant, "temperature below which retrieval is the ground state"),
        },
    )


def glass_entropies(*, interaction: int = 4, temperatures: ArrayLike | None = None) -> xr.Dataset:
    """Solve the dense network's glass phase by replica symmetry and with one step of breaking, by temperature.

    Temperatures are in units of the glass temperature.

    >>> ds = glass_entropies(temperatures=[0.5])
    >>> bool((ds.entropy.sel(solution="symmetric") < ds.entropy.sel(solution="broken once")).all())
    True
    """
    ratio = np.linspace(0.3, 1.0, 15) if temperatures is None else np.asarray(temperatures, dtype=float)
    critical = theory.glass_temperature(interaction)
    rows = np.array([[theory.glass(interaction, float(t) * critical, broken=b) for b in (False, True)] for t in ratio])
    names = {
        "overlap": "overlap within a valley",
        "breaking": "weight of pairs from different valleys",
        "free_energy": "free energy per spin",
        "entropy": "entropy per spin",
    }
    units = {"entropy": "nats"}
    return _dataset(
        f"The glass of order {interaction}",
        {
            "temperature": _variable("temperature", ratio, "temperature over glass temperature"),
            "solution": _variable("solution", ["symmetric", "broken once"], "replica solution", ""),
        },
        {
            name: _variable("temperature solution", rows[..., i], text, units.get(name, "1"))
            for i, (name, text) in enumerate(names.items())
        },
        interaction=interaction,
        glass_temperature=critical,
    )


def glass_entropy_claim(ds: xr.Dataset) -> ClaimResult:
    """`dense-hopfield-rsb/entropy`: the symmetric solution's entropy is negative; breaking once repairs it."""
    at = ds.entropy.sel(temperature=0.5, method="nearest")
    measured = {str(s): float(at.sel(solution=s)) for s in ("symmetric", "broken once")}
    near = abs(float(at.temperature) - 0.5) < 0.03 and ds.attrs["interaction"] == 4
    holds = measured["symmetric"] < -0.1 and measured["broken once"] >= -0.01
    text = "at half the glass temperature and fourth order, entropy per spin below -0.1 (symmetric) and at least -0.01 "
    text += "(broken once); a calculation, without seeds"
    return ClaimResult(measured, holds if near else None, text, None, 1)


# --------------------------------------------------------------------------- learning from examples; several at once


def learning_from_examples(
    *,
    seed: int,
    num_seeds: int = 5,
    size: int = 100,
    num_archetypes: int = 100,
    quality: float = 0.2,
    num_examples: Sequence[int] = (5, 10, 25, 50, 100, 200, 400),
    interactions: Sequence[int] = (2, 4),
    flipped: float = 0.1,
    num_queries: int = 50,
) -> xr.Dataset:
    """Store teacher-averaged noisy examples, and recover the archetypes behind them, which the network never saw.

    Cues are archetypes with a share `flipped` of their spins negated; no self-coupling.

    >>> ds = learning_from_examples(seed=0, num_seeds=2, num_examples=(5, 400), num_queries=10)
    >>> bool(ds.overlap.sel(interaction=4, examples=400).mean() > ds.overlap.sel(interaction=4, examples=5).mean())
    True
    """
    check_int(1, num_seeds=num_seeds, size=size, num_archetypes=num_archetypes)
    check_int(1, num_archetypes, num_queries=num_queries)
    archetypes = torch.stack([random_patterns(num_archetypes, size, seed=s) for s in _sub_seeds(seed, num_seeds)])
    target = archetypes[:, :num_queries]
    cue = flip(target, flipped, seed=seed)
    overlap = np.zeros((num_seeds, len(interactions), len(num_examples)))
    for j, count in enumerate(num_examples):
        # The mean of examples is divided by its expected length, so that the order-n energy stays of order one.
        mean = average_examples(archetypes, quality, count, seed=seed + j) / quality
        for i, interaction in enumerate(interactions):
            memory = DenseMemory(interaction).store(mean)
            settled = memory.retrieve(cue, max_steps=20).state
            overlap[:, i, j] = (settled * target).mean((-1, -2)).numpy()
    return _dataset(
        "Archetypes from noisy examples",
        {
            "seed": _seed_coord(num_seeds),
            "interaction": _variable("interaction", np.array(interactions), "spins that couple"),
            "examples": _variable("examples", np.array(num_examples), "examples of each archetype"),
        },
        {"overlap": _variable("seed interaction examples", overlap, "overlap with the archetype")},
        size=size,
        num_archetypes=num_archetypes,
        quality=quality,
    )


def fourth_order_claim(ds: xr.Dataset) -> ClaimResult:
    """`dense-hebbian-supervised/fourth-order`: at K = N noisy archetypes, order 4 recovers what order 2 loses."""
    most = ds.overlap.sel(examples=ds.examples.max())
    measured = {f"order {n}": float(most.sel(interaction=n).mean()) for n in (2, 4)}
    loaded = ds.attrs["num_archetypes"] >= ds.attrs["size"] and _enough(ds)
    text = f"overlap at least 0.95 at order 4 and at most 0.6 at order 2; K = N = {ds.attrs['size']}, "
    text += f"quality r = {ds.attrs['quality']:g}, {int(ds.examples.max())} examples, no self-coupling"
    holds = measured["order 4"] >= 0.95 and measured["order 2"] <= 0.6
    spread = _half_interval(most.sel(interaction=2))
    return ClaimResult(measured, holds if loaded else None, text, spread, ds.sizes["seed"])


def enough_examples_claim(ds: xr.Dataset) -> ClaimResult:
    """`dense-hebbian-supervised/examples`: enough examples are required."""
    fourth = ds.overlap.sel(interaction=4)
    rise = (fourth.sel(examples=ds.examples.max()) - fourth.sel(examples=ds.examples.min())).values
    text = (
        f"overlap at order 4 rises by at least 0.3 from {int(ds.examples.min())} to {int(ds.examples.max())} examples"
    )
    holds = bool(rise.mean() >= 0.3) if _enough(ds) else None
    return ClaimResult(float(rise.mean()), holds, text, _half_interval(rise), ds.sizes["seed"])


def multitasking(
    *,
    seed: int,
    num_seeds: int = 5,
    size: int = 20_000,
    num_patterns: int = 3,
    dilutions: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    max_steps: int = 30,
) -> xr.Dataset:
    """Start at the first of some diluted patterns (blank entries at random), settle, and measure all overlaps.

    Returns
    -------
    xr.Dataset
        `overlap`, absolute and sorted from the largest, by seed, dilution and rank; `theory`, (1 − d) d^rank.

    >>> ds = multitasking(seed=0, num_seeds=1, size=5000, dilutions=(0.0, 0.3))
    >>> ds.overlap.sel(dilution=0.3).round(1).values.tolist()
    [[0.7, 0.2, 0.1]]
    """
    check_int(1, num_seeds=num_seeds, size=size, num_patterns=num_patterns)
    seeds = _sub_seeds(seed, num_seeds)
    overlap = np.zeros((num_seeds, len(dilutions), num_patterns))
    for j, dilution in enumerate(dilutions):
        patterns = torch.stack([random_patterns(num_patterns, size, seed=s + j, blank=dilution) for s in seeds])
        noise = torch.stack([random_patterns(1, size, seed=s + j + 1000) for s in seeds])
        cue = torch.where(patterns[:, :1] == 0, noise, patterns[:, :1])
        memory = MultitaskingMemory().store(patterns)
        settled = memory.retrieve(cue, max_steps=max_steps).state
        overlap[:, j] = memory.overlap(settled)[:, 0].abs().sort(-1, descending=True).values.numpy()
    d, rank = np.array(dilutions), np.arange(num_patterns)
    return _dataset(
        "Several patterns in one relaxation",
        {
            "seed": _seed_coord(num_seeds),
            "dilution": _variable("dilution", d, "share of blank entries"),
            "rank": _variable("rank", rank, "rank of the overlap"),
        },
        {
            "overlap": _variable("seed dilution rank", overlap, "absolute overlap"),
            "theory": _variable("dilution rank", (1 - d[:, None]) * d[:, None] ** rank, "hierarchical overlap"),
        },
        size=size,
    )


def hierarchical_claim(ds: xr.Dataset) -> ClaimResult:
    """`multitasking-hebbian/hierarchical`: mild dilution gives overlaps (1 − d) dᵏ."""
    at = ds.sel(dilution=0.3, method="nearest")
    off = np.abs(at.overlap - at.theory).max("rank").values
    asked = (
        abs(float(at.dilution) - 0.3) < 0.01 and ds.sizes["rank"] == 3 and ds.attrs["size"] >= 20_000 and _enough(ds)
    )
    text = "every sorted overlap within 0.03 of (1 - d) d^k at d = 0.3, three patterns, N = 20000, in every seed"
    return ClaimResult(float(off.max()), bool(off.max() <= 0.03) if asked else None, text, None, ds.sizes["seed"])


def parallel_claim(ds: xr.Dataset) -> ClaimResult:
    """`multitasking-hebbian/parallel`: strong dilution raises all overlaps equally, mild dilution does not."""
    ratio = ds.overlap.isel(rank=0) / ds.overlap.isel(rank=-1)
    strong, mild = (float(ratio.sel(dilution=d, method="nearest").mean()) for d in (0.95, 0.3))
    asked = float(ds.dilution.max()) >= 0.95 and bool(np.isclose(ds.dilution, 0.3).any()) and _enough(ds)
    text = "largest over smallest overlap at most 1.25 at d = 0.95 and at least 3 at d = 0.3, mean over seeds"
    measured = {"d = 0.95": strong, "d = 0.3": mild}
    spread = _half_interval(ratio.sel(dilution=0.95, method="nearest"))
    return ClaimResult(measured, strong <= 1.25 and mild >= 3 if asked else None, text, spread, ds.sizes["seed"])


def undiluted_claim(ds: xr.Dataset) -> ClaimResult:
    """`multitasking-hebbian/undiluted`: without blanks one pattern alone is retrieved."""
    at = ds.overlap.sel(dilution=0.0, method="nearest")
    first, second = float(at.isel(rank=0).min()), float(at.isel(rank=1).max())
    asked = float(ds.dilution.min()) == 0 and ds.attrs["size"] >= 20_000 and _enough(ds)
    text = "without blanks the first overlap is at least 0.97 and the second at most 0.03, in every seed"
    measured = {"first": first, "second": second}
    return ClaimResult(measured, first >= 0.97 and second <= 0.03 if asked else None, text, None, ds.sizes["seed"])


# ------------------------------------------------------------------------------------------------------ sparse codes


def false_matches(
    *,
    seed: int,
    num_seeds: int = 3,
    dimensions: Sequence[int] = (256, 384, 512, 1024, 2048),
    active: int = 64,
    synapses: int = 20,
    thresholds: Sequence[int] = (6, 8, 10, 12),
    num_codes: int = 2000,
    union_size: int = 10,
    union_active: int = 40,
) -> xr.Dataset:
    """Show random sparse codes to random segments, and count matches by chance; each code meets each segment.

    Returns
    -------
    xr.Dataset
        `rate` simulated (seed, dimension, threshold), from num_codes² trials each, beside `predicted`; and for segments
        that hold synapses for `union_size` codes `union_rate` (seed, dimension) with `union_predicted`, at threshold 10
        and `union_active` bits (a tenth of the segments).

    >>> ds = false_matches(seed=0, num_seeds=1, dimensions=(256,), thresholds=(8,), num_codes=500)
    >>> bool(abs(ds.rate / ds.predicted - 1).max() < 0.2)
    True
    """
    check_int(1, num_seeds=num_seeds, num_codes=num_codes, union_size=union_size)
    shape = (num_seeds, len(dimensions))
    rate, union_rate = np.zeros((*shape, len(thresholds))), np.zeros(shape)
    for i, s in enumerate(_sub_seeds(seed, num_seeds)):
        generator = torch.Generator().manual_seed(s)
        for j, n in enumerate(dimensions):
            codes = random_codes(num_codes, n, active, generator=generator)
            stored = random_codes(num_codes, n, active, generator=generator)
            keys = torch.rand(stored.shape, generator=generator) * stored
            segments = top_bits(keys, synapses)
            hits = codes @ segments.T
            rate[i, j] = [float((hits >= t).double().mean()) for t in thresholds]
            codes = random_codes(num_codes, n, union_active, generator=generator)
            # A tenth as many segments will do: the rate is measured with ten times more matches to count.
            union = random_codes(num_codes // 10 * union_size, n, synapses, generator=generator)
            union = union.view(-1, union_size, n).amax(1)
            union_rate[i, j] = float((codes @ union.T >= 10).double().mean())
    predicted = np.array([[theory.false_match_rate(n, active, synapses, t) for t in thresholds] for n in dimensions])
    expected = [theory.union_false_match_rate(n, union_active, synapses, 10, union_size) for n in dimensions]
    return _dataset(
        "False matches of dendritic segments",
        {
            "seed": _seed_coord(num_seeds),
            "dimension": _variable("dimension", np.array(dimensions), "code length", "bits"),
            "threshold": _variable("threshold", np.array(thresholds), "threshold", "active synapses"),
        },
        {
            "rate": _variable("seed dimension threshold", rate, "false-match rate, simulated"),
            "predicted": _variable("dimension threshold", predicted, "false-match rate, predicted"),
            "union_rate": _variable("seed dimension", union_rate, "false-match rate of a union, simulated"),
            "union_predicted": _variable("dimension", np.array(expected), "false-match rate of a union, predicted"),
        },
        active=active,
        synapses=synapses,
        union_size=union_size,
        union_active=union_active,
    )


def match_rate_claim(ds: xr.Dataset) -> ClaimResult:
    """`sdr-dendrites/rate`: simulated false-match rates equal the combinatorial prediction."""
    at = ds.sel(threshold=10)
    ratio = (at.rate.mean("seed") / at.predicted).values[at.predicted.values >= 1e-4]
    measured = {"lowest ratio": float(ratio.min()), "highest ratio": float(ratio.max())} if len(ratio) else math.nan
    holds = bool((np.abs(ratio - 1) <= 0.1).all()) if len(ratio) >= 2 and _enough(ds) else None
    text = f"simulated over predicted in [0.9, 1.1] wherever the rate is at least 1e-4 ({len(ratio)} dimensions), "
    text += f"threshold 10 of {ds.attrs['synapses']} synapses"
    singles = at.rate.values[:, at.predicted.values >= 1e-4] / at.predicted.values[at.predicted.values >= 1e-4]
    return ClaimResult(measured, holds, text, float(singles.std(0).max()) if len(ratio) else None, ds.sizes["seed"])


def match_dimension_claim(ds: xr.Dataset) -> ClaimResult:
    """`sdr-dendrites/dimension`: false matches shrink sharply with the dimension."""
    at = ds.predicted.sel(threshold=10)
    both = {256, 2048} <= set(ds.dimension.values.tolist())
    ratio = float(at.sel(dimension=2048) / at.sel(dimension=256)) if both else math.nan
    text = (
        f"rate(n = 2048) at most 1e-3 of rate(n = 256) by the formula, {ds.attrs['active']} active bits, threshold 10 "
    )
    text += "of 20; a calculation, without seeds"
    return ClaimResult(ratio, ratio <= 1e-3 if both else None, text, None, 1)


def match_union_claim(ds: xr.Dataset) -> ClaimResult:
    """`sdr-dendrites/union`: a segment that holds a union of many patterns still hardly ever errs."""
    has = 2048 in ds.dimension.values.tolist() and ds.attrs["union_size"] >= 10 and _enough(ds)
    rates = ds.union_rate.sel(dimension=2048).values if has else np.array([math.nan])
    text = (
        f"simulated false-match rate at most 0.01 for a union of 10, n = 2048, {ds.attrs['union_active']} active bits"
    )
    return ClaimResult(
        float(rates.mean()), bool(rates.mean() <= 0.01) if has else None, text, _half_interval(rates), ds.sizes["seed"]
    )


def sparsey_codes(
    *,
    seed: int,
    num_seeds: int = 5,
    num_stored: int = 100,
    num_test: int = 300,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
) -> xr.Dataset:
    """Show digits once each to Sparsey, from sparse features and from dense pixels, and ask what it knows.

    Your own images `X` (num, pixels) with classes `y` (num) take the place of the digits.

    Returns
    -------
    xr.Dataset
        By seed and input ("sparse features", "dense pixels"): `recognition` of stored items, `accuracy` of the class
        read from overlaps, `rank_correlation` between the overlap of corrupted inputs with a stored item and that of
        the codes drawn for them, `familiarity` of items when first shown; `code_overlap` by `input_overlap` (binned).

    >>> ds = sparsey_codes(seed=0, num_seeds=1, num_stored=30, num_test=50)
    >>> bool((ds.recognition.sel(input="sparse features") > ds.recognition.sel(input="dense pixels")).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_test=num_test)
    check_int(20, num_stored=num_stored)
    kinds, steps = ("sparse features", "dense pixels"), 10
    results = np.zeros((num_seeds, 2, 4))
    curve = np.zeros((num_seeds, 2, steps + 1))
    for i, s in enumerate(_sub_seeds(seed, num_seeds)):
        images, labels = _images(X, y, s)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(s))
        stored, test = order[:num_stored], order[num_stored : num_stored + num_test]
        num_classes = int(labels.max()) + 1
        for j, kind in enumerate(kinds):
            if kind == "sparse features":
                active = 10
                codes = sparse_features(images, 1000, active, reference=images[stored], seed=s)
            else:  # the brightest pixels; ties fall at random
                active = 20
                ties = torch.rand(images.shape, generator=torch.Generator().manual_seed(s))
                codes = top_bits(images + 1e-4 * ties, active)
            field = Sparsey(codes.shape[1], active, seed=s % 2**31)
            learnt = field.learn(codes[stored])
            again = code_overlap(field.recall(codes[stored]).code, learnt.code)
            known = code_overlap(field.recall(codes[test]).code, learnt.code)
            named = vote(known, labels[stored], num_classes)
            shown, drawn = _corrupt(codes[stored[:20]], steps, active, s)
            sampled = (field.select(drawn).code.view(steps + 1, 20, -1) == learnt.code[:20]).float().mean(-1)
            rank = stats.spearmanr(shown.flatten(), sampled.flatten()).statistic
            results[i, j] = [
                float((again.argmax(1) == torch.arange(num_stored)).float().mean()),
                float((named == labels[test]).float().mean()),
                float(rank),
                float(learnt.familiarity.mean()),
            ]
            curve[i, j] = sampled.mean(1).numpy()
    names = {
        "recognition": "stored items recognised after one presentation",
        "accuracy": "accuracy of the class read from overlaps",
        "rank_correlation": "rank correlation of input overlap and code overlap",
        "familiarity": "familiarity of an item when it was first shown",
    }
    return _dataset(
        "Sparse codes in one pass",
        {
            "seed": _seed_coord(num_seeds),
            "input": _variable("input", list(kinds), "input code", ""),
            "input_overlap": _variable("input_overlap", np.linspace(1, 0, steps + 1), "overlap with the stored item"),
        },
        {
            **{name: _variable("seed input", results[..., i], text) for i, (name, text) in enumerate(names.items())},
            "code_overlap": _variable("seed input input_overlap", curve, "overlap of the code drawn for it"),
        },
    )


def _images(X: ArrayLike | Tensor | None, y: ArrayLike | Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    if (X is None) != (y is None):
        raise ValueError(f"X and y must come together, got only {'y' if X is None else 'X'}.")
    if X is None or y is None:
        digits = load_digits(seed=seed % 2**31)
        return torch.tensor(digits.X.values, dtype=torch.float32), torch.tensor(digits.y.values)
    images, labels = _user_patterns(X), torch.as_tensor(y).long()
    check_same_length(X=images, y=labels)
    return images, labels


def _corrupt(items: Tensor, steps: int, active: int, seed: int) -> tuple[Tensor, Tensor]:
    """Replace 0, 1/steps, … of each item's active features by others; return the overlaps left, and the codes."""
    generator = torch.Generator().manual_seed(seed + 7)
    codes = []
    for step in range(steps + 1):
        gone = round(step / steps * active)
        keep = torch.zeros_like(items)
        if gone < active:
            keep = top_bits(items * (1 + torch.rand(items.shape, generator=generator)), active - gone)
        new = torch.zeros_like(items)
        if gone:
            new = top_bits((1 - items) * (1 + torch.rand(items.shape, generator=generator)), gone)
        codes.append(keep + new)
    drawn = torch.stack(codes)
    return (drawn * items).sum(-1) / active, drawn.flatten(0, 1)


def sparsey_similarity_claim(ds: xr.Dataset) -> ClaimResult:
    """`sparsey-sdr/similarity`: code intersections rise with input similarity."""
    values = ds.rank_correlation.sel(input="sparse features").values
    text = (
        "Spearman's correlation at least 0.8 between the overlap of graded-corrupted inputs with a stored item and the "
    )
    text += "overlap of the codes drawn for them; sparse features, mean over seeds"
    holds = bool(values.mean() >= 0.8) if _enough(ds) else None
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


def sparsey_recognition_claim(ds: xr.Dataset) -> ClaimResult:
    """`sparsey-sdr/recognition`: superposed codes are re-identified after one presentation each."""
    values = ds.recognition.sel(input="sparse features").values
    text = "at least 95% of stored items recognised after a single pass; sparse features, mean over seeds"
    holds = bool(values.mean() >= 0.95) if _enough(ds) else None
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


def sparsey_class_claim(ds: xr.Dataset) -> ClaimResult:
    """`sparsey-sdr/class`: classes can be read from overlaps well above chance."""
    values = ds.accuracy.sel(input="sparse features").values
    text = "class accuracy at least 0.7 on unseen digits (chance is 0.1); sparse features, mean over seeds"
    holds = bool(values.mean() >= 0.7) if _enough(ds) else None
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


# ------------------------------------------------------------------------------------- training several nets together


def _train_together(
    nets: Sequence[nn.Module],
    loss: Callable[[Callable[..., Tensor], tuple[Tensor, ...]], Tensor],
    draw: Callable[[int], tuple[Tensor, ...]],
    *,
    num_steps: int,
    lr: float,
    callback: Callable[[int, dict[str, Tensor]], None] | None = None,
) -> dict[str, Tensor]:
    """Train networks of one shape as an ensemble with Adam; return their stacked parameters.

    `draw(step)` returns tensors with a leading dimension for the members; `loss(net, batch)` is one member's.
    """
    stacked, _ = stack_module_state(list(nets))
    params: dict[str, Tensor] = {name: value.detach().requires_grad_() for name, value in stacked.items()}
    base = nets[0]

    def member_loss(p: dict[str, Tensor], *batch: Tensor) -> Tensor:
        return loss(lambda *args, **kwargs: functional_call(base, p, args, kwargs), batch)

    losses = vmap(member_loss, randomness="different")
    rule = torch.optim.Adam(list(params.values()), lr=lr)
    for step in range(num_steps):
        if callback is not None:
            callback(step, params)
        rule.zero_grad()
        # Fused attention has no rule for ensembles and would run member by member; the plain one has.
        with sdpa_kernel(SDPBackend.MATH):
            losses(params, *draw(step)).sum().backward()  # type: ignore[no-untyped-call]
        # Each member's gradient is shortened on its own: members must not feel each other.
        square = sum(p.grad.flatten(1).square().sum(1) for p in params.values() if p.grad is not None)
        factor = (1 / torch.as_tensor(square).sqrt().clamp(min=1e-12)).clamp(max=1.0)
        for p in params.values():
            if p.grad is not None:
                p.grad *= factor.view(-1, *[1] * (p.ndim - 1))
        rule.step()
    if callback is not None:
        callback(num_steps, params)
    return {name: p.detach() for name, p in params.items()}


# ----------------------------------------------------------------------------------------------------- bags, pooling

POOLINGS = ("hopfield", "max", "mean")


class BagClassifier(nn.Module):
    """An embedding of instances, one of three ways to pool them, and a linear readout.

    >>> BagClassifier(8, pooling="max")(torch.zeros(3, 20, 8)).shape
    torch.Size([3])
    """

    def __init__(self, dim: int, *, pooling: str, width: int = 16) -> None:
        super().__init__()
        check_choice(POOLINGS, pooling=pooling)
        self.pooling = pooling
        self.embed = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width))
        self.attend = HopfieldPooling(width) if pooling == "hopfield" else None
        self.readout = nn.Linear(width, 1)

    def forward(self, bags: Tensor) -> Tensor:
        """Return one logit for each bag (batch, size, dim)."""
        instances = self.embed(bags)
        if self.attend is not None:
            pooled = self.attend(instances).squeeze(-2)
        elif self.pooling == "max":
            pooled = instances.amax(-2)
        else:
            pooled = instances.mean(-2)
        out: Tensor = self.readout(pooled).squeeze(-1)
        return out


def make_bags(
    num_bags: int, *, relevant: int, seed: int, task: int = 0, size: int = 40, dim: int = 16, evidence: float = 0.6
) -> tuple[Tensor, Tensor]:
    """Draw bags of noise in which a few marked instances carry the evidence for the label.

    Marked instances have a large component along one direction. Along a second, in which all instances vary with
    standard deviation one, they are shifted by `evidence` to the side that the label says; with one marked instance by
    4, so that it decides alone. `task` draws the directions.

    >>> X, y = make_bags(6, relevant=3, seed=0)
    >>> X.shape, sorted(set(y.tolist()))
    (torch.Size([6, 40, 16]), [0.0, 1.0])
    """
    check_int(1, num_bags=num_bags, size=size, dim=dim)
    check_int(1, size, relevant=relevant)
    axes = torch.linalg.qr(torch.randn(dim, 2, generator=torch.Generator().manual_seed(task))).Q
    generator = torch.Generator().manual_seed(seed)
    y = (torch.arange(num_bags) % 2).float()
    X = torch.randn(num_bags, size, dim, generator=generator)
    strength = 4.0 if relevant == 1 else evidence
    X[:, :relevant] += 4.0 * axes[:, 0] + strength * (2 * y - 1)[:, None, None] * axes[:, 1]
    shuffle = torch.rand(num_bags, size, generator=generator).argsort(1)
    return X.gather(1, shuffle[..., None].expand_as(X)), y


def bag_pooling(
    *,
    seed: int,
    num_seeds: int = 8,
    relevant: Sequence[int] = (1, 6),
    num_train: int = 1024,
    num_test: int = 1000,
    num_steps: int = 250,
    lr: float = 0.01,
    batch_size: int = 64,
) -> xr.Dataset:
    """Train a classifier of bags with each way of pooling, on tasks with one decisive instance and with several.

    Returns
    -------
    xr.Dataset
        `auc` on unseen bags, by seed, pooling and number of relevant instances.

    >>> ds = bag_pooling(seed=0, num_seeds=2, relevant=(3,), num_train=32, num_test=32, num_steps=2)
    >>> dict(ds.sizes)
    {'seed': 2, 'pooling': 3, 'relevant': 1}
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, batch_size=batch_size)
    check_int(4, num_train=num_train, num_test=num_test)
    check_positive(lr=lr)
    auc = np.zeros((num_seeds, len(POOLINGS), len(relevant)))
    seeds = _sub_seeds(seed, num_seeds)
    for k, count in enumerate(relevant):
        train = [make_bags(num_train, relevant=count, seed=s, task=s) for s in seeds]
        test = [make_bags(num_test, relevant=count, seed=s + 1, task=s) for s in seeds]
        X, y = (torch.stack(parts) for parts in zip(*train, strict=True))
        X_test = torch.stack([bags for bags, _ in test])

        for j, pooling in enumerate(POOLINGS):
            nets = [_seeded(partial(BagClassifier, X.shape[-1], pooling=pooling), s) for s in seeds]
            picks = torch.Generator().manual_seed(seed)

            def draw(step: int, X: Tensor = X, y: Tensor = y, picks: torch.Generator = picks) -> tuple[Tensor, ...]:
                rows = torch.randint(X.shape[1], (batch_size,), generator=picks)
                return X[:, rows], y[:, rows]

            params = _train_together(nets, _bag_loss, draw, num_steps=num_steps, lr=lr)
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                scores = vmap(lambda p, b, net=nets[0]: functional_call(net, p, (b,)))(params, X_test)
            auc[:, j, k] = [_auc(s, labels) for s, (_, labels) in zip(scores, test, strict=True)]
    return _dataset(
        "Pooling over bags",
        {
            "seed": _seed_coord(num_seeds),
            "pooling": _variable("pooling", list(POOLINGS), "pooling", ""),
            "relevant": _variable("relevant", np.array(relevant), "relevant instances in a bag", "instances"),
        },
        {"auc": _variable("seed pooling relevant", auc, "area under the ROC curve, unseen bags")},
    )


def _seeded(make: Callable[[], Net], seed: int) -> Net:
    """Build a network from its own seed; torch's global state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _bag_loss(net: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    X, y = batch
    return nn.functional.binary_cross_entropy_with_logits(net(X), y)


def _auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve: how often a positive scores above a negative."""
    ranks = stats.rankdata(scores.numpy())
    positive = labels.numpy() > 0.5
    p, n = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def bag_pooling_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/bags`: pooling by retrieval beats mean and max where evidence is spread over several instances."""
    several = ds.auc.sel(relevant=ds.relevant.max())
    gains = {p: (several.sel(pooling="hopfield") - several.sel(pooling=p)).values for p in ("mean", "max")}
    verdicts = [_above(g) for g in gains.values()]
    holds = False if False in verdicts else (None if None in verdicts else True)
    if ds.sizes["seed"] < 5 or int(ds.relevant.max()) < 2:
        holds = None
    text = "AUC above that of mean and of max pooling, 95% interval of the paired difference above zero for both, "
    text += f"{int(ds.relevant.max())} relevant instances in a bag of 40, at least 5 seeds"
    measured = {f"AUC above {name}": float(g.mean()) for name, g in gains.items()}
    return ClaimResult(measured, holds, text, max(_half_interval(g) for g in gains.values()), ds.sizes["seed"])


def single_instance_claim(ds: xr.Dataset) -> ClaimResult:
    """`modern-hopfield/single-instance`: where one instance decides, max pooling is as good (within 0.02)."""
    single = ds.auc.sel(relevant=1) if 1 in ds.relevant.values else None
    text = "AUC of Hopfield pooling at most 0.02 above that of max pooling (whole 95% interval), one decisive instance"
    if single is None or ds.sizes["seed"] < 5:
        return ClaimResult(math.nan, None, text, None, ds.sizes["seed"])
    gain = (single.sel(pooling="hopfield") - single.sel(pooling="max")).values
    above = _above(gain, 0.02)
    return ClaimResult(
        float(gain.mean()), None if above is None else not above, text, _half_interval(gain), ds.sizes["seed"]
    )


# ------------------------------------------------------------------------------------------------- few-shot streams


def few_shot_episodes(
    X: Tensor, y: Tensor, num: int, *, ways: int, shots: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw streams of labelled images from `ways` classes under shuffled names, then one unlabelled image of each.

    Returns inputs (num, time, pixels), labels as shown (num, time, ways; zeros at the end), and true names of the last
    `ways` images (num, ways). Shown labels are three times one-hot, to be as loud as the image beside them.

    >>> X, y = torch.rand(40, 5), torch.arange(40) % 4
    >>> [tuple(t.shape) for t in few_shot_episodes(X, y, 6, ways=3, shots=2, generator=torch.Generator())]
    [(6, 9, 5), (6, 9, 3), (6, 3)]
    """
    check_int(1, num=num, shots=shots)
    classes = torch.as_tensor(np.unique(y.numpy()))
    check_int(2, len(classes), ways=ways)
    members = [torch.nonzero(y == c)[:, 0] for c in classes]
    counts = torch.tensor([len(m) for m in members])
    table = nn.utils.rnn.pad_sequence(members, batch_first=True)
    chosen = torch.rand(num, len(classes), generator=generator).argsort(1)[:, :ways]
    order = torch.rand(num, ways * shots, generator=generator).argsort(1)
    names = torch.arange(ways).repeat(shots).expand(num, -1).gather(1, order)
    asked = torch.rand(num, ways, generator=generator).argsort(1)
    names = torch.cat([names, asked], 1)
    group = chosen.gather(1, names)
    member = (torch.rand(group.shape, generator=generator) * counts[group]).long()
    shown = 3.0 * nn.functional.one_hot(names, ways).float()
    shown[:, -ways:] = 0
    return X[table[group, member]], shown, asked


def few_shot(
    *,
    seed: int,
    num_seeds: int = 3,
    ways: int = 3,
    shots: int = 3,
    num_steps: int = 250,
    lr: float = 0.005,
    batch_size: int = 32,
    num_test: int = 300,
    record_every: int = 50,
    rules: Sequence[str] = RULES,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
) -> xr.Dataset:
    """Train networks with fast weights on few-shot streams of digits with shuffled names, then freeze them at test.

    Training and test episodes draw from different images. Your own images `X` with classes `y` may take their place.

    Returns
    -------
    xr.Dataset
        `accuracy` on unseen images by seed, rule, step and whether self-updates are frozen at test.

    >>> ds = few_shot(seed=0, num_seeds=1, num_steps=2, num_test=10, record_every=2, rules=("delta",))
    >>> dict(ds.sizes)
    {'seed': 1, 'rule': 1, 'step': 2, 'updates': 2}
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, record_every=record_every, num_test=num_test)
    check_positive(lr=lr)
    for rule in rules:
        check_choice(RULES, rule=rule)
    images, labels = _images(X, y, seed)
    cut = torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < 0.8
    images = images - images[cut].mean(0)
    seeds = _sub_seeds(seed, num_seeds)
    steps = [*range(0, num_steps, record_every), num_steps]
    accuracy = np.zeros((num_seeds, len(rules), len(steps), 2))
    tests = [
        few_shot_episodes(
            images[~cut], labels[~cut], num_test, ways=ways, shots=shots, generator=torch.Generator().manual_seed(s + 1)
        )
        for s in seeds
    ]
    X_test, shown_test, asked_test = (torch.stack(parts) for parts in zip(*tests, strict=True))
    for j, rule in enumerate(rules):
        nets = [
            _seeded(partial(FewShotLearner, images.shape[1], ways, rule=rule, width=32, num_heads=2), s) for s in seeds
        ]
        streams = [torch.Generator().manual_seed(s) for s in seeds]

        def draw(step: int, streams: list[torch.Generator] = streams) -> tuple[Tensor, ...]:
            made = [
                few_shot_episodes(images[cut], labels[cut], batch_size, ways=ways, shots=shots, generator=g)
                for g in streams
            ]
            return tuple(torch.stack(parts) for parts in zip(*made, strict=True))

        def loss(net: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
            inputs, shown, asked = batch
            return nn.functional.cross_entropy(net(inputs, shown)[:, -ways:].flatten(0, 1), asked.flatten())

        def test(step: int, params: dict[str, Tensor], j: int = j, net: nn.Module = nets[0]) -> None:
            if step in steps:
                for i, frozen in enumerate((False, True)):
                    with torch.no_grad():
                        logits = vmap(
                            lambda p, a, b, frozen=frozen: functional_call(net, p, (a, b), {"frozen": frozen})
                        )(params, X_test, shown_test)
                    right = logits[:, :, -ways:].argmax(-1) == asked_test
                    accuracy[:, j, steps.index(step), i] = right.float().mean((-1, -2)).numpy()

        _train_together(nets, loss, draw, num_steps=num_steps, lr=lr, callback=test)
    return _dataset(
        "Learning in context",
        {
            "seed": _seed_coord(num_seeds),
            "rule": _variable("rule", list(rules), "rule of the fast weights", ""),
            "step": _variable("step", np.array(steps), "training step"),
            "updates": _variable("updates", ["on", "frozen"], "self-updates at test", ""),
        },
        {"accuracy": _variable("seed rule step updates", accuracy, "accuracy on unseen images")},
        chance=1 / ways,
        ways=ways,
        shots=shots,
    )


def learns_in_context_claim(ds: xr.Dataset) -> ClaimResult:
    """`srwm/learns`: the self-modifying matrix learns in context."""
    values = ds.accuracy.sel(rule="self_referential", updates="on").isel(step=-1).values
    holds = bool(values.mean() >= ds.attrs["chance"] + 0.25) if _enough(ds) else None
    text = f"few-shot accuracy at least chance + 0.25 ({ds.attrs['ways']} ways, {ds.attrs['shots']} shots, shuffled "
    text += f"labels, {int(ds.step[-1])} training steps), mean over seeds"
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


def frozen_claim(ds: xr.Dataset) -> ClaimResult:
    """`srwm/frozen`: freezing self-updates at test removes the ability."""
    values = ds.accuracy.sel(rule="self_referential", updates="frozen").isel(step=-1).values
    holds = bool(values.mean() <= ds.attrs["chance"] + 0.1) if _enough(ds) else None
    text = "accuracy with frozen self-updates at most chance + 0.1, mean over seeds"
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


# --------------------------------------------------------------------------------------------------------- pointers


def convex_hulls(
    *,
    seed: int,
    num_seeds: int = 5,
    num_steps: int = 16_000,
    width: int = 64,
    lr: float = 4e-3,
    batch_size: int = 64,
    num_records: int = 8,
    num_test: int = 2000,
    progress: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """Train a pointer network and a sequence-to-sequence model with attention on convex hulls of 5 to 10 points.

    Both train alike, as in the paper: the same sets in the same order, the same masks, as many steps. The default takes
    twenty minutes; a hundredth of the steps shows that it runs.

    Returns
    -------
    xr.Dataset
        By seed, output ("pointer", "vocabulary") and `progress` (share of the training): `accuracy` of exact hulls at 5
        to 10 points, `coverage` of hull area at 20 points, `simple` share of outputs there that are simple polygons.
        Of the first seed, what both name at the end in the first three sets of 20 points: as in `compare_hulls`.

    >>> ds = convex_hulls(seed=0, num_seeds=1, num_steps=2, num_records=1, num_test=20)
    >>> ds.accuracy.sizes
    Frozen({'seed': 1, 'output': 2, 'progress': 1})
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps)
    check_int(1, num_records=num_records, num_test=num_test, batch_size=batch_size)
    check_positive(lr=lr)
    outputs = ("pointer", "vocabulary")
    results = np.zeros((num_seeds, 2, num_records, 3))
    shown, sets = list[Tensor](), torch.empty(0)
    for i, s in enumerate(_sub_seeds(seed, num_seeds)):
        small = make_hulls(num_test, 5, 10, torch.Generator().manual_seed(s + 1))
        large = make_hulls(num_test, 20, 20, torch.Generator().manual_seed(s + 2))
        full = polygon_area(large.points, large.hull)
        for j, output in enumerate(outputs):
            net = _seeded(partial(HullDecoder, output, width=width), s)
            rule = torch.optim.Adam(net.parameters(), lr=lr)
            schedule = torch.optim.lr_scheduler.OneCycleLR(rule, lr, total_steps=num_steps)
            generator = torch.Generator().manual_seed(s)
            marks = [math.ceil((k + 1) * num_steps / num_records) for k in range(num_records)]
            for step in range(1, num_steps + 1):
                # One size a batch spares the padding, and the sizes still come equally often.
                size = int(torch.randint(5, 11, (1,), generator=generator))
                loss = net.loss(make_hulls(batch_size, size, size, generator))
                rule.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(net.parameters(), 2.0)
                rule.step()
                schedule.step()
                for k in [k for k, mark in enumerate(marks) if mark == step]:
                    named = net.decode(large)
                    sound = is_simple(large.points, named)
                    area = torch.where(sound, polygon_area(large.points, named), 0.0)
                    results[i, j, k] = [
                        float((net.decode(small) == small.hull).all(1).float().mean()),
                        float((area / full).mean()),
                        float(sound.float().mean()),
                    ]
                    if progress is not None:
                        progress(f"seed {i}, {output}, step {step}: accuracy {results[i, j, k, 0]:.3f}")
            if i == 0:
                shown.append(named[:3])
                sets = large.points[:3]
    names = {
        "accuracy": "hulls named exactly, 5 to 10 points",
        "coverage": "hull area covered, 20 points",
        "simple": "outputs that are simple polygons, 20 points",
    }
    return _dataset(
        "Pointing at convex hulls",
        {
            "seed": _seed_coord(num_seeds),
            "output": _variable("output", outputs, "what the decoder's output is", ""),
            "progress": _variable("progress", (np.arange(num_records) + 1) / num_records, "share of the training"),
        },
        {n: _variable("seed output progress", results[..., k], text) for k, (n, text) in enumerate(names.items())}
        | _hull_variables(list(sets), [list(each) for each in shown]),
        num_steps=num_steps,
        batch_size=batch_size,
    )


def compare_hulls(points: Sequence[Tensor], named: Sequence[Sequence[int] | Tensor]) -> xr.Dataset:
    """Put corners that were named, by whatever rule, beside the convex hulls of the points.

    Parameters
    ----------
    points
        Sets of points in the plane, (num, 2) each, in general position.
    named
        For each set the positions of the corners in order; positions past the last point are none.

    Returns
    -------
    xr.Dataset
        By example: `points` (NaN past a set's size), `hull` and `named` (positions by corner; -1 past the last one), and
        `covered`, the share of the hull's area within the named corners (zero where their outline crosses itself).

    Raises
    ------
    ValueError
        If there is not one list of corners for each set, or a set is not (num, 2).

    >>> square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.4]])
    >>> compare_hulls([square, square], [[0, 1, 2, 3], [0, 1, 2]]).covered.values.tolist()
    [1.0, 0.5]
    """
    if not points or len(points) != len(named):
        raise ValueError(
            f"named must hold one list of corners for each of the sets, got {len(named)} for {len(points)}."
        )
    return _dataset("Corners that were named", {}, _hull_variables(points, [named]), outputs=1)


def _hull_variables(points: Sequence[Tensor], named: Sequence[Sequence[Sequence[int] | Tensor]]) -> dict[str, Variable]:
    """Examples of hulls as variables; `named` is by output, and loses that dimension if there is one alone."""
    most = max(len(each) for each in points)
    places = np.full((len(points), most, 2), np.nan)
    hulls = np.full((len(points), most + 1), -1)
    said = np.full((len(named), *hulls.shape), -1)
    covered = np.zeros((len(named), len(points)))
    for i, each in enumerate(points):
        check_ndim(2, points=each)
        num, one = len(each), each.detach().float()[None]
        places[i, :num] = each.detach().cpu().numpy()
        true = convex_hull(one, torch.ones(1, num, dtype=torch.bool))
        hulls[i, : num + 1] = true[0]
        for j, rows in enumerate(named):
            corners = torch.as_tensor(rows[i])[None, : num + 1]
            said[j, i, : corners.shape[1]] = corners[0]
            if bool(is_simple(one, corners)):
                covered[j, i] = float(polygon_area(one, corners) / polygon_area(one, true))
        hulls[i][hulls[i] >= num] = -1
        said[:, i][said[:, i] >= num] = -1
    by = "" if len(named) == 1 else "output "
    if len(named) == 1:
        said, covered = said[0], covered[0]
    return {
        "example": _variable("example", np.arange(len(points)), "set of points shown"),
        "point": _variable("point", np.arange(most), "position of the point in its set"),
        "coordinate": _variable("coordinate", ["x", "y"], "coordinate of the plane", ""),
        "corner": _variable("corner", np.arange(most + 1), "place in the order of the corners"),
        "points": _variable("example point coordinate", places, "points"),
        "hull": _variable("example corner", hulls, "positions of the hull's corners"),
        "named": _variable(f"{by}example corner", said, "positions of the corners named"),
        "covered": _variable(f"{by}example", covered, "share of the hull's area covered"),
    }


def pointer_accuracy_claim(ds: xr.Dataset) -> ClaimResult:
    """`pointer-networks/accuracy`: pointing beats attention with a fixed vocabulary."""
    last = ds.accuracy.isel(progress=-1)
    gain = (last.sel(output="pointer") - last.sel(output="vocabulary")).values
    measured = {str(o): float(last.sel(output=o).mean()) for o in ds.output.values}
    measured["gain"] = float(gain.mean())
    text = "accuracy of exact hulls (5 to 10 points) above that of the sequence-to-sequence model with attention by at least "
    text += f"0.2, paired over at least 3 seeds, 95% interval; same masks, sets and {ds.attrs['num_steps']} steps"
    holds = _above(gain, 0.2) if _trained(ds) else None
    return ClaimResult(measured, holds, text, _half_interval(gain), ds.sizes["seed"])


def pointer_coverage_claim(ds: xr.Dataset) -> ClaimResult:
    """`pointer-networks/coverage`: trained on at most 10 points, it covers nearly all hull area at 20."""
    values = ds.coverage.sel(output="pointer").isel(progress=-1).values
    text = "mean area covered at 20 points at least 0.95 of the hull's (outputs that cross themselves count as zero)"
    holds = bool(values.mean() >= 0.95) if _trained(ds) else None
    return ClaimResult(float(values.mean()), holds, text, _half_interval(values), ds.sizes["seed"])


def _trained(ds: xr.Dataset) -> bool:
    return bool(ds.attrs["num_steps"] * ds.attrs["batch_size"] >= 1_000_000) and _enough(ds)


# --------------------------------------------------------------------------------- pictures; surfaces; many patterns

MEMORIES = ("classical", "pseudo-inverse", "dense, order 4", "exponential", "modern")


def make_memory(name: str, *, beta: float = 20.0, seed: int = 0) -> Memory:
    """Return an empty memory by name; `beta` is the modern one's, and a twentieth of it the exponential one's.

    >>> type(make_memory("modern")).__name__
    'ContinuousMemory'
    """
    check_choice(MEMORIES, name=name)
    if name == "classical":
        return ClassicalMemory(order="asynchronous", seed=seed)
    if name == "pseudo-inverse":
        return ClassicalMemory(rule="pseudo_inverse", order="asynchronous", seed=seed)
    if name == "dense, order 4":
        return DenseMemory(4, order="asynchronous", seed=seed)
    if name == "exponential":
        return ExponentialMemory(beta=beta / 20)
    return ContinuousMemory(beta=beta)


def encode_images(X: Tensor, name: str) -> Tensor:
    """Return images in [0, 1] as a memory takes them: ±1 for binary ones, centred and of length one for the modern one.

    >>> encode_images(torch.tensor([[0.0, 1.0]]), "classical").tolist()
    [[-1.0, 1.0]]
    """
    check_choice(MEMORIES, name=name)
    if name == "modern":
        return nn.functional.normalize(X - 0.5, dim=-1)
    return torch.where(X > 0.5, 1.0, -1.0)


def hidden_digits(
    *,
    seed: int,
    num_seeds: int = 5,
    num_stored: Sequence[int] = (3, 6, 12, 25, 50, 100, 200),
    beta: float = 40.0,
    hidden: float = 0.5,
    num_queries: int = 20,
    memories: Sequence[str] = MEMORIES,
    X: ArrayLike | Tensor | None = None,
    y: ArrayLike | Tensor | None = None,
) -> xr.Dataset:
    """Store digits, hide the lower part of some, and measure how often each memory finds the right one.

    Hidden pixels are drawn at random for binary memories and zero for the modern one. Your own images in [0, 1], (num,
    pixels), may take the digits' place. A digit counts as found if no other stored one is nearer to the answer.

    >>> ds = hidden_digits(seed=0, num_seeds=1, num_stored=(3,), memories=("modern",), num_queries=3)
    >>> float(ds.found.mean())
    1.0
    """
    check_int(1, num_seeds=num_seeds, num_queries=num_queries)
    check_nonnegative(hidden=hidden)
    found = np.zeros((num_seeds, len(memories), len(num_stored)))
    fidelity = np.zeros_like(found)
    for i, s in enumerate(_sub_seeds(seed, num_seeds)):
        images, _ = _images(X, y, s)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(s))
        pixels = images.shape[1]
        kept = torch.arange(pixels) < round((1 - hidden) * pixels)
        for j, name in enumerate(memories):
            for k, count in enumerate(num_stored):
                stored = encode_images(images[order[:count]], name)
                cue = stored[:num_queries]
                blank = torch.zeros_like(cue) if name == "modern" else random_patterns(*cue.shape, seed=s)
                memory = make_memory(name, beta=beta, seed=s % 2**31).store(stored)
                answer = memory.retrieve(torch.where(kept, cue, blank), max_steps=20, tolerance=1e-5).state
                near = torch.cdist(answer, stored).argmin(1)
                found[i, j, k] = float((near == torch.arange(len(cue))).float().mean())
                fidelity[i, j, k] = float(nn.functional.cosine_similarity(answer, cue, dim=-1).mean())
    return _dataset(
        "Half-hidden digits",
        {
            "seed": _seed_coord(num_seeds),
            "memory": _variable("memory", list(memories), "memory", ""),
            "stored": _variable("stored", np.array(num_stored), "digits stored", "digits"),
        },
        {
            "found": _variable("seed memory stored", found, "share of digits found"),
            "fidelity": _variable("seed memory stored", fidelity, "cosine between answer and digit"),
        },
        hidden=hidden,
        beta=beta,
    )


def energy_surface(
    patterns: ArrayLike | Tensor, beta: float, *, num_grid: int = 61, extent: float | None = None
) -> xr.Dataset:
    """Compute the modern memory's energy over the plane of two-dimensional patterns, with its fixed points.

    >>> ds = energy_surface([[1.0, 0.0], [-1.0, 0.0]], 8.0, num_grid=11)
    >>> ds.energy.shape, sorted(set(ds.point_kind.values.tolist()))
    ((11, 11), ['single'])
    """
    X = torch.as_tensor(patterns).to(torch.float64)
    check_ndim(2, patterns=X)
    if X.shape[1] != 2:
        raise ValueError(f"patterns must have two coordinates, got {X.shape[1]}.")
    check_int(2, num_grid=num_grid)
    memory = ContinuousMemory(beta=beta).store(X)
    reach = 1.3 * float(X.abs().max().clamp(min=1e-6)) if extent is None else extent
    axis = torch.linspace(-reach, reach, num_grid, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    starts = torch.cat([X, X.mean(0, keepdim=True)])
    ends = iterate(X, starts, beta, max_steps=300, tolerance=1e-9).state
    # Starts that reach the same point count once; a start on the ridge between valleys is no fixed point to rest in.
    points: list[Tensor] = []
    for end in ends[: len(X)]:
        if not any(float((end - p).norm()) < 1e-4 * reach for p in points):
            points.append(end)
    fixed = torch.stack(points)
    kinds = theory.classify_fixed_points(X, fixed, beta).kind
    return _dataset(
        "Energy surface",
        {
            "x": _variable("x", axis, "first coordinate"),
            "y": _variable("y", axis, "second coordinate"),
            "pattern": _variable("pattern", np.arange(len(X)), "pattern"),
            "point": _variable("point", np.arange(len(fixed)), "fixed point"),
            "coordinate": _variable("coordinate", ["x", "y"], "coordinate", ""),
        },
        {
            "energy": _variable("y x", memory.energy(grid).view(num_grid, num_grid).T, "energy"),
            "patterns": _variable("pattern coordinate", X, "stored pattern"),
            "points": _variable("point coordinate", fixed, "fixed point"),
            "point_kind": _variable("point", [theory.KINDS[int(k)] for k in kinds], "kind of fixed point", ""),
        },
        beta=beta,
    )


def retrieval_among_millions(
    *,
    seed: int,
    num_stored: int = 1_000_000,
    dimension: int = 64,
    num_queries: int = 64,
    beta: float = 1.0,
    device: str | torch.device = "cpu",
    num_repeats: int = 3,
) -> xr.Dataset:
    """Retrieve half-hidden random patterns among very many in blocks; measure time, extra memory and the device's copy rate.

    Returns
    -------
    xr.Dataset
        `seconds` and `copy_seconds` (reading and writing the patterns once) by repeat; scalars `exact` (share of queries
        whose signs are right), `extra_memory` (CUDA's peak beyond the patterns; on a CPU the bytes of scores held by
        count) and `pattern_memory`.

    >>> ds = retrieval_among_millions(seed=0, num_stored=2000, num_queries=8)
    >>> float(ds.exact)
    1.0
    """
    check_int(1, num_stored=num_stored, dimension=dimension, num_repeats=num_repeats)
    check_int(1, num_stored, num_queries=num_queries)
    where = torch.device(device)
    generator = torch.Generator(where).manual_seed(seed)
    patterns = torch.randint(0, 2, (num_stored, dimension), generator=generator, device=where, dtype=torch.int8)
    patterns = patterns.float().mul_(2).sub_(1)
    target = patterns[:num_queries].clone()
    cue = target.clone()
    cue[:, dimension // 2 :] = 0
    copy = torch.empty_like(patterns) if where.type == "cuda" else torch.empty_like(patterns[: 2**20])
    rows, seconds, copies = min(len(copy), len(patterns)), [], []
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where) if where.type == "cuda" else 0
    answer = torch.empty_like(cue)
    for _ in range(num_repeats):
        seconds.append(_time(lambda: answer.copy_(retrieve_blocked(patterns, cue, beta)), where))
        copies.append(_time(lambda: copy[:rows].copy_(patterns[:rows]), where) * num_stored / rows)
    if where.type == "cuda":
        extra = torch.cuda.max_memory_allocated(where) - before
    else:
        from sciviz.hopfield.retrieval import SCORES_AT_ONCE

        extra = 3 * 4 * min(SCORES_AT_ONCE["cpu"], num_queries * num_stored)
    return _dataset(
        "Retrieval among very many patterns",
        {"repeat": _variable("repeat", np.arange(num_repeats), "repeat")},
        {
            "seconds": _variable("repeat", np.array(seconds), "time of one retrieval", "s"),
            "copy_seconds": _variable("repeat", np.array(copies), "time to copy the patterns once", "s"),
            "exact": _variable(
                "", float((answer.sign() == target).all(-1).float().mean()), "queries retrieved exactly"
            ),
            "extra_memory": _variable("", float(extra), "memory beyond the patterns", "bytes"),
            "pattern_memory": _variable("", float(patterns.numel() * 4), "memory of the patterns", "bytes"),
        },
        num_stored=num_stored,
        dimension=dimension,
    )


def _time(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
