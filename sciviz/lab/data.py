"""Data sets, labelled and reproducible: plane densities, regressions, irregular series, and two real sets.

Every `make_*` and `load_*` returns an `xarray.Dataset` with dimensions `sample` and `feature`, coordinates, units and
`long_name`s, and attributes that say where it comes from; `to_tensors` turns it into torch tensors and `as_dataset`
turns the user's own arrays into the same form. Nothing is downloaded: the real data ship with scikit-learn.

Two data sets of different names drawn with the same seed are independent of each other, so that a flow from one
density to another does not inherit a hidden pairing from the random number generator.
"""

from __future__ import annotations

import math
import zlib
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_ndim,
    check_nonnegative,
    check_positive,
    check_same_length,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], tuple[Array, NDArray[np.int64]]]


def _generator(name: str, seed: int) -> np.random.Generator:
    check_int(0, seed=seed)
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


# ---------------------------------------------------------------------------------------------- user data in and out


def as_dataset(
    X: Any,
    y: Any = None,
    *,
    name: str = "user data",
    feature_names: Sequence[str] | None = None,
    feature_units: Sequence[str] | None = None,
    target: str = "target",
    target_units: str = "1",
    **attrs: str | int | float,
) -> xr.Dataset:
    """Label arrays of one's own, so that every experiment, figure and explorer takes them.

    Parameters
    ----------
    X
        Features, shape (sample, feature): a NumPy array, a torch tensor, nested lists or a pandas frame (whose column
        names are kept).
    y
        Targets or integer class labels, shape (sample,) or (sample, output); None if there are none.
    name
        Title of the data set.
    feature_names, feature_units
        One word a feature; `x1, x2, …` and `1` (no unit) if left out.
    target, target_units
        Name and unit of `y`.
    **attrs
        Anything worth keeping beside the data, such as `source` and `licence`.

    Returns
    -------
    xr.Dataset
        Variables `X` (sample, feature) and, if given, `y` (sample) or (sample, output).

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If there are no samples, shapes do not fit each other, or an entry is NaN or infinite.

    >>> dataset = as_dataset([[0.0, 1.0], [2.0, 3.0]], [0, 1], name="two points")
    >>> dict(dataset.sizes)
    {'sample': 2, 'feature': 2}
    >>> as_dataset([[0.0], [1.0]], [0, 1, 2])
    Traceback (most recent call last):
    ...
    ValueError: X and y must have the same first dimension, got shapes X (2, 1), y (3,).
    """
    if feature_names is None and hasattr(X, "columns"):
        feature_names = [str(column) for column in X.columns]
    values = _real_array("X", X)
    check_ndim(2, X=values)
    if 0 in values.shape:
        raise ValueError(f"X must have at least one sample and one feature, got shape {values.shape}.")
    names = list(feature_names) if feature_names is not None else [f"x{i + 1}" for i in range(values.shape[1])]
    units = list(feature_units) if feature_units is not None else ["1"] * values.shape[1]
    for what, words in (("feature_names", names), ("feature_units", units)):
        if len(words) != values.shape[1]:
            raise ValueError(f"{what} must name each of the {values.shape[1]} features of X, got {len(words)} words.")
    dataset = xr.Dataset(
        {"X": (("sample", "feature"), values, {"long_name": "features", "units": _one_unit(units)})},
        coords={
            "sample": ("sample", np.arange(len(values)), {"long_name": "sample", "units": "1"}),
            "feature": ("feature", names, {"long_name": "feature", "units": "1"}),
            "feature_units": ("feature", units, {"long_name": "unit of the feature", "units": "1"}),
        },
        attrs={"title": name, **attrs},
    )
    if y is not None:
        targets = _real_array("y", y)
        if targets.ndim not in (1, 2):
            raise ValueError(f"y must have 1 or 2 dimensions, got {targets.ndim} (shape {targets.shape}).")
        check_same_length(X=values, y=targets)
        dims = ("sample", "output")[: targets.ndim]
        dataset["y"] = (dims, targets, {"long_name": target, "units": target_units})
    return dataset


def _real_array(name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array, got rows of different lengths.") from None
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got entries of type {array.dtype}.")
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        check_finite(**{name: array})
    return array


def _one_unit(units: Sequence[str]) -> str:
    return units[0] if len(set(units)) == 1 else "see feature_units"


def to_tensors(
    dataset: xr.Dataset,
    *names: str,
    split: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, ...]:
    """Take variables of a data set as tensors, in the order asked for.

    Real numbers become `dtype`; integers become int64 and truth values bool, whatever `dtype` is. Where the data set
    has a mask `observed` (irregular series), entries that were not observed become 0: use them with the mask.

    Parameters
    ----------
    names
        Variables to take; `X` and `y` if none is named.
    split
        "train" or "test", for a data set with that coordinate (see `split_dataset`); None takes every sample.

    Returns
    -------
    tuple of Tensor
        A named tuple whose fields are `names`.

    Raises
    ------
    ValueError
        If a variable or split is not there, or a value is not finite.

    >>> data = make_regression("sine", num_samples=5, seed=0)
    >>> X, y = to_tensors(data)
    >>> X.shape, y.shape
    (torch.Size([5, 1]), torch.Size([5, 1]))
    """
    names = names or (("X", "y") if "y" in dataset else ("X",))
    for name in names:
        check_choice([str(key) for key in dataset.variables], name=name)
    if split is not None:
        dataset = _take_split(dataset, split)
    tensors = []
    for name in names:
        values = dataset[name]
        if values.dtype.kind == "f" and "observed" in dataset and set(dataset["observed"].dims) <= set(values.dims):
            values = values.where(dataset["observed"], 0.0)
        array = np.array(values.values)  # a copy: a tensor that shares memory would let training change the data set
        if array.dtype.kind == "f":
            check_finite(**{name: array})
            tensors.append(torch.from_numpy(array).to(device=device, dtype=dtype))
        elif array.dtype.kind in "iub":
            kind = torch.bool if array.dtype.kind == "b" else torch.int64
            tensors.append(torch.from_numpy(array).to(device=device, dtype=kind))
        else:
            raise ValueError(f"{name} must hold numbers to become a tensor, got entries of type {array.dtype}.")
    return cast("tuple[Tensor, ...]", namedtuple("Tensors", names)(*tensors))


def _take_split(dataset: xr.Dataset, split: str) -> xr.Dataset:
    if "split" not in dataset.coords:
        raise ValueError(
            "split needs a data set with the coordinate 'split', got one without; make it with split_dataset."
        )
    check_choice(["train", "test"], split=split)
    return dataset.isel(sample=np.flatnonzero(dataset["split"].values == split))


def split_dataset(dataset: xr.Dataset, *, num_test: int, seed: int, stratify: bool = False) -> xr.Dataset:
    """Mark `num_test` samples, drawn by `seed`, as the test set in a coordinate `split` ("train" or "test").

    Parameters
    ----------
    stratify
        Draw in proportion to the classes in `y` (integer labels), so that both sets have the same mix.

    Raises
    ------
    ValueError
        If a set would be empty, or too small to hold each class when stratified.

    >>> halves = split_dataset(make_density("two_moons", num_samples=10, seed=0), num_test=4, seed=0, stratify=True)
    >>> int((halves.split == "test").sum())
    4
    """
    total = dataset.sizes["sample"]
    check_int(1, total - 1, num_test=num_test)
    if not stratify:
        test = _generator("split", seed).permutation(total)[:num_test]
    else:
        test = _stratified_draw(dataset["y"].values, num_test, _generator("split", seed))
    split = np.full(total, "train", dtype="<U5")
    split[test] = "test"
    marked = dataset.assign_coords(split=("sample", split, {"long_name": "train or test", "units": "1"}))
    marked.attrs["split_seed"] = seed
    return marked


def _stratified_draw(labels: NDArray[Any], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `num` indices with class shares as near to those of `labels` as whole numbers allow."""
    classes, counts = np.unique(labels, return_counts=True)
    if labels.ndim != 1 or labels.dtype.kind != "i":
        raise ValueError("stratify needs integer class labels of one dimension in y.")
    if min(num, len(labels) - num) < len(classes):
        raise ValueError(
            f"a stratified split needs at least one sample of each of the {len(classes)} classes on both sides, "
            f"got {len(labels) - num} for training and {num} for testing."
        )
    quota = counts * num / len(labels)
    take = np.floor(quota).astype(int)
    take[np.argsort(take - quota, kind="stable")[: num - take.sum()]] += 1
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:k] for c, k in zip(classes, take, strict=True)]
    return np.concatenate(drawn)


# -------------------------------------------------------------------------------------------- densities in the plane


@dataclass(frozen=True)
class Density:
    """A density in the plane with what is known of it in closed form. Every one has mean zero.

    Attributes
    ----------
    description
        What it looks like, and what `noise` means for it.
    noise
        Default of `noise`.
    num_classes
        Number of parts (moons, arms, rings, …), which `y` counts.
    draw
        (generator, number, noise) → points (number, 2) and the part each belongs to (number,).
    covariance
        noise → the exact covariance matrix (2, 2).
    log_density
        (points (n, 2), noise) → log density (n,), where it has a closed form, else None.
    """

    description: str
    noise: float
    num_classes: int
    draw: Draw
    covariance: Callable[[float], Array]
    log_density: Callable[[Array, float], Array] | None = None


def _mixture(description: str, centres: ArrayLike, noise: float, weights: ArrayLike | None = None) -> Density:
    """Round Gaussians of standard deviation `noise` about centres whose weighted mean is moved to zero."""
    where = np.asarray(centres, dtype=np.float64)
    share = np.full(len(where), 1 / len(where)) if weights is None else np.asarray(weights, dtype=np.float64)
    where = where - share @ where

    def draw(rng: np.random.Generator, num: int, noise: float) -> tuple[Array, NDArray[np.int64]]:
        part = rng.choice(len(where), size=num, p=share)
        return where[part] + noise * rng.standard_normal((num, 2)), part

    def covariance(noise: float) -> Array:
        return (where.T * share) @ where + noise**2 * np.eye(2)

    def log_density(points: Array, noise: float) -> Array:
        check_positive(noise=noise)
        squared = ((points[:, None] - where) ** 2).sum(-1)
        return _log_mean_exp(-squared / (2 * noise**2), share) - math.log(2 * math.pi * noise**2)

    return Density(description, noise, len(where), draw, covariance, log_density)


def _log_mean_exp(exponents: Array, weights: Array) -> Array:
    top = exponents.max(-1, keepdims=True)
    return cast("Array", np.log(np.exp(exponents - top) @ weights) + top[:, 0])


def _curve(
    description: str,
    noise: float,
    num_classes: int,
    place: Callable[[Array, NDArray[np.int64]], Array],
    spread: ArrayLike,
) -> Density:
    """Curves given by `place(u uniform on [0, 1), part)`, of covariance `spread`, blurred by round Gaussian noise."""
    base = np.asarray(spread, dtype=np.float64)

    def draw(rng: np.random.Generator, num: int, noise: float) -> tuple[Array, NDArray[np.int64]]:
        part = rng.integers(num_classes, size=num)
        return place(rng.random(num), part) + noise * rng.standard_normal((num, 2)), part

    return Density(description, noise, num_classes, draw, lambda noise: base + noise**2 * np.eye(2))


def _two_moons() -> Density:
    scale, pi = 1.5, math.pi

    def place(u: Array, part: NDArray[np.int64]) -> Array:
        moon = np.stack([np.cos(pi * u) - 0.5, np.sin(pi * u) - 0.25], axis=1)
        return scale * np.where(part[:, None] == 0, moon, -moon)

    # The lower moon is the upper one turned by half a circle, so both have the same second moments.
    cross = 0.125 - 1 / pi
    spread = scale**2 * np.array([[0.75, cross], [cross, 0.5625 - 1 / pi]])
    return _curve("two interleaved half circles; noise blurs them", 0.1, 2, place, spread)


def _two_spirals() -> Density:
    end = 3 * math.pi  # one and a half turns
    scale = 2.5 / end

    def place(u: Array, part: NDArray[np.int64]) -> Array:
        t = end * np.sqrt(u)  # the square root spreads points nearly evenly along the arm
        arm = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
        return scale * np.where(part[:, None] == 0, arm, -arm)

    cross = -end / 2 + 3 / (4 * end)
    spread = scale**2 * np.array([[end**2 / 4 + 0.75, cross], [cross, end**2 / 4 - 0.75]])
    return _curve("two arms of one and a half turns; noise blurs them", 0.08, 2, place, spread)


def _swiss_roll() -> Density:
    low, high = 1.5 * math.pi, 4.5 * math.pi
    scale, mean = 2.5 / high, np.array([2.0, 2 / (3 * math.pi)])

    def place(u: Array, part: NDArray[np.int64]) -> Array:
        t = low + (high - low) * u
        return cast("Array", scale * (np.stack([t * np.cos(t), t * np.sin(t)], axis=1) - mean))

    square = (high**3 - low**3) / (3 * (high - low))
    moments = np.array([[square / 2 - 0.25, 1.5 * math.pi], [1.5 * math.pi, square / 2 + 0.25]])
    spread = scale**2 * (moments - np.outer(mean, mean))
    return _curve("one spiral of one and a half turns; noise blurs it", 0.1, 1, place, spread)


def _rings() -> Density:
    radii = np.array([0.8, 1.6, 2.4])

    def draw(rng: np.random.Generator, num: int, noise: float) -> tuple[Array, NDArray[np.int64]]:
        part = rng.integers(len(radii), size=num)
        radius = radii[part] + noise * rng.standard_normal(num)
        angle = 2 * math.pi * rng.random(num)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), part

    def log_density(points: Array, noise: float) -> Array:
        check_positive(noise=noise)
        radius = np.sqrt((points**2).sum(-1))
        # A radius drawn below zero lands on the opposite side, hence the second term.
        distances = np.stack([radius[:, None] - radii, radius[:, None] + radii])
        each = np.logaddexp(*(-(distances**2) / (2 * noise**2)))
        with np.errstate(divide="ignore"):
            around = np.log(2 * math.pi * radius * noise * math.sqrt(2 * math.pi))
        return cast("Array", _log_mean_exp(each, np.full(len(radii), 1 / len(radii))) - around)

    return Density(
        "three concentric rings; noise is the standard deviation of the radius",
        0.08,
        len(radii),
        draw,
        lambda noise: np.eye(2) * (float((radii**2).mean()) + noise**2) / 2,
        log_density,
    )


def _pinwheel() -> Density:
    arms, radius, length, twist = 5, 2.0, 0.6, 0.25

    def draw(rng: np.random.Generator, num: int, noise: float) -> tuple[Array, NDArray[np.int64]]:
        part = rng.integers(arms, size=num)
        along = radius + length * rng.standard_normal(num)
        across = noise * rng.standard_normal(num)
        angle = 2 * math.pi * part / arms + twist * np.exp(2 * along / radius)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.stack([cos * along - sin * across, sin * along + cos * across], axis=1), part

    # The twist keeps lengths, and five-fold symmetry makes the covariance round.
    return Density(
        "five twisted arms; noise is the standard deviation across an arm",
        0.2,
        arms,
        draw,
        lambda noise: np.eye(2) * (radius**2 + length**2 + noise**2) / 2,
    )


def _checkerboard() -> Density:
    cells = np.array([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0], dtype=np.float64) - 2

    def draw(rng: np.random.Generator, num: int, noise: float) -> tuple[Array, NDArray[np.int64]]:
        part = rng.integers(len(cells), size=num)
        return cells[part] + rng.random((num, 2)) + noise * rng.standard_normal((num, 2)), part

    def log_density(points: Array, noise: float) -> Array:
        from scipy.special import ndtr

        offset = points[:, None] - cells
        if noise == 0:
            inside = ((offset >= 0) & (offset < 1)).astype(np.float64)
        else:
            inside = ndtr(offset / noise) - ndtr((offset - 1) / noise)
        with np.errstate(divide="ignore"):
            return cast("Array", np.log(inside.prod(-1).mean(-1)))

    spread = np.array([[4 / 3, 1 / 4], [1 / 4, 4 / 3]])
    return Density(
        "the eight dark cells of a 4 by 4 board of side 4, filled evenly; noise blurs them",
        0.0,
        len(cells),
        draw,
        lambda noise: spread + noise**2 * np.eye(2),
        log_density,
    )


def _on_circle(num: int, radius: float) -> Array:
    angle = 2 * math.pi * np.arange(num) / num
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


DENSITIES: Mapping[str, Density] = {
    "gaussian": _mixture("one round Gaussian; noise is its standard deviation", [[0.0, 0.0]], 1.0),
    "two_moons": _two_moons(),
    "pinwheel": _pinwheel(),
    "checkerboard": _checkerboard(),
    "eight_gaussians": _mixture(
        "eight Gaussians on a circle of radius 2; noise is their standard deviation", _on_circle(8, 2.0), 0.2
    ),
    "two_spirals": _two_spirals(),
    "rings": _rings(),
    "swiss_roll": _swiss_roll(),
    "gaussian_grid": _mixture(
        "25 Gaussians on a 5 by 5 grid of spacing 1; noise is their standard deviation",
        [[i, j] for i in range(5) for j in range(5)],
        0.05,
    ),
    "clusters": _mixture(
        "three far clusters with weights 1/2, 3/10 and 1/5; noise is their standard deviation",
        _on_circle(3, 2.0),
        0.25,
        [0.5, 0.3, 0.2],
    ),
}
"""The densities in the plane that `make_density` draws from, by name."""


def make_density(name: str, *, num_samples: int = 1000, seed: int, noise: float | None = None) -> xr.Dataset:
    """Draw points from one of the densities in the plane (`DENSITIES`).

    All have mean zero and a spread of order one, so that any can be the source or the target of a flow. The parts
    (moons, arms, rings, clusters) are the classes `y`, so that the same sets serve for classification.

    Parameters
    ----------
    name
        A key of `DENSITIES`: gaussian, two_moons, pinwheel, checkerboard, eight_gaussians, two_spirals, rings,
        swiss_roll, gaussian_grid, clusters.
    num_samples
        Number of points.
    seed
        Same name, seed, number and noise: same points.
    noise
        What it blurs is said in `DENSITIES[name].description`; None takes the default of the density.

    Returns
    -------
    xr.Dataset
        `X` (sample, feature), `y` (sample), and the exact `covariance` (feature, feature_other); the mean is zero.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, the number below 1, or the noise negative.

    >>> moons = make_density("two_moons", num_samples=500, seed=0)
    >>> moons.X.shape, moons.attrs["description"]
    ((500, 2), 'two interleaved half circles; noise blurs them')
    """
    density, noise = _density(name, noise)
    check_int(1, num_samples=num_samples)
    points, part = density.draw(_generator(name, seed), num_samples, noise)
    dataset = as_dataset(
        points,
        part,
        name=name.replace("_", " "),
        target="part of the density",
        description=density.description,
        source="generated by sciviz.lab.data.make_density",
        seed=seed,
        noise=noise,
        num_classes=density.num_classes,
    )
    dataset["covariance"] = (
        ("feature", "feature_other"),
        density.covariance(noise),
        {"long_name": "exact covariance of the density", "units": "1"},
    )
    return dataset


def _density(name: str, noise: float | None) -> tuple[Density, float]:
    check_choice(DENSITIES, name=name)
    noise = DENSITIES[name].noise if noise is None else noise
    check_nonnegative(noise=noise)
    return DENSITIES[name], float(noise)


def log_density(name: str, points: ArrayLike, *, noise: float | None = None) -> Array:
    """Return the exact log density of `DENSITIES[name]`, in nats, for those with a closed form.

    Parameters
    ----------
    points
        Shape (n, 2).

    Returns
    -------
    ndarray
        Shape (n,); minus infinity where the density is zero.

    Raises
    ------
    ValueError
        If the density has no closed form, or `points` does not have two columns of finite numbers.

    >>> float(log_density("checkerboard", [[-1.5, -1.5]])[0])  # eight cells of area one
    -2.0794415416798357
    """
    density, noise = _density(name, noise)
    if density.log_density is None:
        known = ", ".join(key for key, value in DENSITIES.items() if value.log_density is not None)
        raise ValueError(f"the density {name!r} has no closed form; those that have are {known}.")
    array = _real_array("points", points).astype(np.float64)
    check_ndim(2, points=array)
    if array.shape[1] != 2:
        raise ValueError(f"points must have 2 columns, got shape {array.shape}.")
    return density.log_density(array, noise)


def make_nested_spheres(*, num_samples: int = 1000, seed: int, num_features: int = 2, noise: float = 0.0) -> xr.Dataset:
    """Draw a ball (class 0) and a shell around it (class 1), which no neural ODE without extra dimensions separates.

    The ball has radius 0.5, the shell reaches from 1 to 1.5; both are filled evenly and drawn with equal chance. With
    one feature they are an interval and the two intervals beside it. A flow is a homeomorphism, so it cannot take the
    ball out of the shell.

    Parameters
    ----------
    num_features
        Dimension of the space, from 1.
    noise
        Standard deviation of Gaussian noise added to the points.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.

    >>> nested = make_nested_spheres(num_samples=100, seed=0)
    >>> bool((abs(nested.X[nested.y == 0]) <= 0.5).all())
    True
    """
    check_int(1, num_samples=num_samples, num_features=num_features)
    check_nonnegative(noise=noise)
    rng = _generator("nested_spheres", seed)
    part = rng.integers(2, size=num_samples)
    low, high = np.where(part == 0, 0.0, 1.0), np.where(part == 0, 0.5, 1.5)
    # Volume grows as radius to the power of the dimension: draw evenly in volume.
    radius = (low**num_features + rng.random(num_samples) * (high**num_features - low**num_features)) ** (
        1 / num_features
    )
    direction = rng.standard_normal((num_samples, num_features))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = radius[:, None] * direction + noise * rng.standard_normal((num_samples, num_features))
    return as_dataset(
        points,
        part,
        name="nested spheres",
        target="class (0 the ball, 1 the shell)",
        description="a ball of radius 0.5 and a shell from radius 1 to 1.5",
        source="generated by sciviz.lab.data.make_nested_spheres",
        seed=seed,
        noise=float(noise),
        num_classes=2,
    )


# ---------------------------------------------------------------------------------------------------- regressions


@dataclass(frozen=True)
class Regression:
    """A target function on the cube [-1, 1]^num_features: its formula in words and in NumPy."""

    formula: str
    num_features: int
    function: Callable[[Array], Array]


REGRESSIONS: Mapping[str, Regression] = {
    "sine": Regression("sin(pi x)", 1, lambda X: np.sin(math.pi * X[:, 0])),
    "step": Regression("1 if x >= 0 else -1", 1, lambda X: np.where(X[:, 0] >= 0, 1.0, -1.0)),
    "exp_sin": Regression("exp(sin(pi x1) + x2^2)", 2, lambda X: np.exp(np.sin(math.pi * X[:, 0]) + X[:, 1] ** 2)),
    "quadratic_disc": Regression("4 max(0, 1/2 - |x|^2)", 2, lambda X: 4 * np.maximum(0, 0.5 - (X**2).sum(1))),
}
"""The regressions that `make_regression` draws from: sine, step, exp_sin [kan-liu], quadratic_disc
[quadratic-relinear]."""


def make_regression(
    name: str, *, num_samples: int = 100, seed: int, noise: float = 0.0, spacing: str = "random"
) -> xr.Dataset:
    """Draw inputs evenly from [-1, 1]^d and evaluate one of `REGRESSIONS` there, with Gaussian noise on the targets.

    Parameters
    ----------
    name
        A key of `REGRESSIONS`: sine, step, exp_sin, quadratic_disc.
    noise
        Standard deviation of the noise on `y`.
    spacing
        "random" draws the inputs; "even" spaces them from -1 to 1 inclusive (only with one feature).

    Returns
    -------
    xr.Dataset
        `X` (sample, feature), `y` (sample, output) with one output, and `signal`, which is `y` without noise.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown or a number is out of range.

    >>> data = make_regression("exp_sin", num_samples=3, seed=0)
    >>> data.attrs["formula"], data.y.shape
    ('exp(sin(pi x1) + x2^2)', (3, 1))
    """
    check_choice(REGRESSIONS, name=name)
    check_choice(["random", "even"], spacing=spacing)
    check_int(1, num_samples=num_samples)
    regression, rng = REGRESSIONS[name], _generator(name, seed)
    if spacing == "random":
        inputs = rng.uniform(-1, 1, size=(num_samples, regression.num_features))
    elif regression.num_features == 1:
        inputs = np.linspace(-1, 1, num_samples)[:, None]
    else:
        raise ValueError(f"spacing 'even' needs a regression with one feature, {name!r} has {regression.num_features}.")
    return _with_noise(
        inputs, regression.function(inputs), name, regression.formula, "make_regression", rng, noise, seed
    )


def _with_noise(
    inputs: Array,
    signal: Array,
    name: str,
    formula: str,
    maker: str,
    rng: np.random.Generator,
    noise: float,
    seed: int,
) -> xr.Dataset:
    check_nonnegative(noise=noise)
    signal = signal[:, None]
    dataset = as_dataset(
        inputs,
        signal + noise * rng.standard_normal(signal.shape),
        name=name.replace("_", " "),
        formula=formula,
        source=f"generated by sciviz.lab.data.{maker}",
        seed=seed,
        noise=float(noise),
    )
    dataset["signal"] = (("sample", "output"), signal, {"long_name": "target without noise", "units": "1"})
    return dataset


def make_circle_regression(
    *,
    num_samples: int = 16,
    seed: int,
    noise: float = 0.0,
    frequencies: Sequence[int] = (1, 2, 3),
    amplitudes: Sequence[float] | None = None,
    phases: Sequence[float] | None = None,
    spacing: str = "even",
) -> xr.Dataset:
    """Place points on the unit circle with the target Σ amplitude · cos(frequency · angle - phase).

    On evenly spaced points the cosines and sines are the eigenvectors of any kernel of the angle between inputs, such
    as the neural tangent kernel at infinite width: each frequency is learnt at its own rate [ntk-jacot].

    Parameters
    ----------
    frequencies
        Whole numbers of waves around the circle, from 0.
    amplitudes, phases
        One a frequency; 1 and 0 if left out. Phases in radians.
    spacing
        "even" starts at angle 0; "random" draws the angles.

    Returns
    -------
    xr.Dataset
        `X` (sample, feature) = (cos, sin), `y` and `signal` (sample, output), and the coordinate `angle` (sample).

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or the three sequences differ in length.

    >>> circle = make_circle_regression(num_samples=4, seed=0, frequencies=[1])
    >>> circle.y.values.ravel().round(6).tolist()
    [1.0, 0.0, -1.0, -0.0]
    """
    check_int(1, num_samples=num_samples)
    check_choice(["random", "even"], spacing=spacing)
    for frequency in frequencies:
        check_int(0, frequency=frequency)
    amplitudes = [1.0] * len(frequencies) if amplitudes is None else list(amplitudes)
    phases = [0.0] * len(frequencies) if phases is None else list(phases)
    if not len(frequencies) == len(amplitudes) == len(phases) > 0:
        raise ValueError(
            "frequencies, amplitudes and phases must be of one length, at least 1, "
            f"got {len(frequencies)}, {len(amplitudes)} and {len(phases)}."
        )
    check_finite(amplitudes=np.asarray(amplitudes), phases=np.asarray(phases))
    rng = _generator("circle", seed)
    turn = rng.random(num_samples) if spacing == "random" else np.arange(num_samples) / num_samples
    angle = 2 * math.pi * turn
    waves = list(zip(frequencies, amplitudes, phases, strict=True))
    signal = np.sum([a * np.cos(k * angle - p) for k, a, p in waves], axis=0)
    inputs = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    formula = " + ".join(f"{a:g} cos({k} angle - {p:g})" for k, a, p in waves)
    dataset = _with_noise(inputs, signal, "circle", formula, "make_circle_regression", rng, noise, seed)
    return dataset.assign_coords(angle=("sample", angle, {"long_name": "angle", "units": "rad"}))


# ------------------------------------------------------------------------------------------------ irregular series


@dataclass(frozen=True)
class SeriesModel:
    """A physical model that `make_irregular_series` integrates: its equation, variables, parameters and starts."""

    equation: str
    variables: tuple[str, str]
    units: tuple[str, str]
    time_units: str
    parameters: Mapping[str, float]
    start: Callable[[np.random.Generator, int], Array]
    rate: Callable[[float, Array, Mapping[str, float]], Array]


def _pendulum_rate(t: float, state: Array, p: Mapping[str, float]) -> Array:
    angle, velocity = state
    drive = p["drive"] * math.cos(p["drive_frequency"] * t)
    return np.stack([velocity, drive - p["damping"] * velocity - p["stiffness"] * np.sin(angle)])


def _predation_rate(t: float, state: Array, p: Mapping[str, float]) -> Array:
    prey, predators = state
    return np.stack([prey * (p["birth"] - p["catch"] * predators), predators * (p["growth"] * prey - p["death"])])


SERIES_MODELS: Mapping[str, SeriesModel] = {
    "pendulum": SeriesModel(
        "angle'' = drive cos(drive_frequency t) - damping angle' - stiffness sin(angle)",
        ("angle", "angular_velocity"),
        ("rad", "rad/s"),
        "s",
        {"stiffness": 9.81, "damping": 0.25, "drive": 1.0, "drive_frequency": 2.0},
        lambda rng, num: np.stack([rng.uniform(-2, 2, num), rng.uniform(-1, 1, num)]),
        _pendulum_rate,
    ),
    "lotka_volterra": SeriesModel(
        "prey' = prey (birth - catch predators), predators' = predators (growth prey - death)",
        ("prey", "predators"),
        ("thousands", "thousands"),
        "years",
        {"birth": 1.0, "catch": 0.5, "growth": 0.25, "death": 1.0},
        lambda rng, num: np.array([[4.0], [2.0]]) * np.exp(0.3 * rng.standard_normal((2, num))),
        _predation_rate,
    ),
}
"""The models that `make_irregular_series` integrates: pendulum (damped and driven) and lotka_volterra."""


def make_irregular_series(
    model: str = "pendulum",
    *,
    num_samples: int = 64,
    num_times: int = 40,
    duration: float = 10.0,
    seed: int,
    noise: float = 0.05,
    missing: float = 0.2,
    parameters: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Observe a physical system at irregular times, noisily, with entries missing.

    Each sample is one series from its own random start, integrated by SciPy's DOP853 to a relative tolerance of 1e-9,
    observed at `num_times` times drawn evenly from [0, duration] and sorted. Each entry is missing with probability
    `missing`, independently, so one variable may be seen without the other.

    Parameters
    ----------
    model
        A key of `SERIES_MODELS`: "pendulum" (s, rad, rad/s) or "lotka_volterra" (years, thousands).
    noise
        Standard deviation of the measurement noise, in the units of the variables.
    missing
        Probability from 0 to below 1.
    parameters
        Values that replace those of `SERIES_MODELS[model].parameters`.

    Returns
    -------
    xr.Dataset
        `X` (sample, observation, feature), NaN where not observed; the mask `observed` of the same shape; `time`
        (sample, observation); `signal`, the state at those times without noise; and `trajectory` (sample, grid_time,
        feature), the state at 201 even times, for drawing.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown or a number out of range.

    >>> series = make_irregular_series("pendulum", num_samples=2, num_times=5, seed=0)
    >>> dict(series.X.sizes)
    {'sample': 2, 'observation': 5, 'feature': 2}
    """
    check_choice(SERIES_MODELS, model=model)
    check_int(1, num_samples=num_samples, num_times=num_times)
    check_positive(duration=duration)
    check_nonnegative(noise=noise, missing=missing)
    if missing >= 1:
        raise ValueError(f"missing must be a probability from 0 to below 1, got {missing!r}.")
    physics = SERIES_MODELS[model]
    values = dict(physics.parameters)
    for key, value in (parameters or {}).items():
        check_choice(values, parameter=key)
        check_finite(**{key: np.asarray(value, dtype=np.float64)})
        values[key] = float(value)

    from scipy.integrate import solve_ivp

    rng = _generator(model, seed)
    start = physics.start(rng, num_samples)
    times = np.sort(rng.uniform(0, duration, size=(num_samples, num_times)), axis=1)
    solution = solve_ivp(
        lambda t, state: physics.rate(t, state.reshape(2, -1), values).ravel(),
        (0.0, duration),
        start.ravel(),
        method="DOP853",
        rtol=1e-9,
        atol=1e-10,
        dense_output=True,
    )
    if not solution.success:
        raise ValueError(f"the {model} could not be integrated with the parameters {values}: {solution.message}")
    grid = np.linspace(0, duration, 201)
    trajectory = solution.sol(grid).reshape(2, num_samples, -1).transpose(1, 2, 0)
    signal = np.stack([solution.sol(row)[i::num_samples].T for i, row in enumerate(times)])
    observed = rng.random(signal.shape) >= missing
    seen = np.where(observed, signal + noise * rng.standard_normal(signal.shape), np.nan)

    dims, unit = ("sample", "observation", "feature"), _one_unit(physics.units)
    return xr.Dataset(
        {
            "X": (dims, seen, {"long_name": "observed state", "units": unit}),
            "observed": (dims, observed, {"long_name": "was observed", "units": "1"}),
            "time": (dims[:2], times, {"long_name": "time of observation", "units": physics.time_units}),
            "signal": (dims, signal, {"long_name": "state without noise", "units": unit}),
            "trajectory": (("sample", "grid_time", "feature"), trajectory, {"long_name": "state", "units": unit}),
        },
        coords={
            "sample": ("sample", np.arange(num_samples), {"long_name": "series", "units": "1"}),
            "observation": ("observation", np.arange(num_times), {"long_name": "observation", "units": "1"}),
            "grid_time": ("grid_time", grid, {"long_name": "time", "units": physics.time_units}),
            "feature": ("feature", list(physics.variables), {"long_name": "state variable", "units": "1"}),
            "feature_units": ("feature", list(physics.units), {"long_name": "unit of the variable", "units": "1"}),
        },
        attrs={
            "title": model.replace("_", " "),
            "equation": physics.equation,
            **values,
            "source": "generated by sciviz.lab.data.make_irregular_series",
            "seed": seed,
            "noise": float(noise),
            "missing": float(missing),
        },
    )


# -------------------------------------------------------------------------------------------------------- real data


def load_digits(
    *,
    seed: int,
    num_train: int | None = None,
    num_test: int = 360,
    classes: Sequence[int] = tuple(range(10)),
    scaling: str = "range",
) -> xr.Dataset:
    """Load scikit-learn's 1797 handwritten digits of 8 by 8 pixels, split in proportion to the classes.

    Parameters
    ----------
    seed
        Decides which samples are drawn and which are test samples.
    num_train
        Number of training samples; None takes all that are not test samples.
    num_test
        Number of test samples. The same `seed` and `num_test` give the same test set whatever `num_train` is.
    classes
        Digits to keep; at least two.
    scaling
        "range" divides by 16, into [0, 1]; "standard" gives each pixel mean 0 and variance 1 over the training samples
        (pixels that never vary there become 0); "norm" scales each image to length 1; "none" keeps the counts 0 to 16.

    Returns
    -------
    xr.Dataset
        `X` (sample, feature) with 64 features row by row, `image` (sample, row, column) with the same numbers, `y`
        (sample) the position in `classes`, `y_one_hot` (sample, class); coordinates `split`, `digit`, `pixel_row`,
        `pixel_column`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (its test part), UCI Machine Learning
    Repository, 1998; CC BY 4.0.

    >>> digits = load_digits(seed=0, num_train=100, num_test=50)
    >>> digits.X.shape, digits.image.shape, int((digits.split == "test").sum())
    ((150, 64), (150, 8, 8), 50)
    """
    check_choice(["range", "standard", "norm", "none"], scaling=scaling)
    for digit in classes:
        check_int(0, 9, digit=digit)
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise ValueError(f"classes must be at least two different digits, got {list(classes)}.")
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    keep = np.isin(labels, classes)
    pixels, labels = pixels[keep], labels[keep]
    position = np.array([list(classes).index(label) for label in labels], dtype=np.int64)
    check_int(len(classes), len(labels) - len(classes), num_test=num_test)
    available = len(labels) - num_test
    num_train = available if num_train is None else num_train
    check_int(len(classes), available, num_train=num_train)

    rng = _generator("digits", seed)
    test = _stratified_draw(position, num_test, rng)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    if num_train < available:
        rest = rest[_stratified_draw_any(position[rest], num_train, rng)]
    chosen = np.concatenate([rng.permutation(rest), rng.permutation(test)])
    pixels, position = pixels[chosen], position[chosen]
    split = np.array(["train"] * num_train + ["test"] * num_test)

    dataset = as_dataset(
        _scaled(pixels, scaling, split == "train"),
        position,
        name="handwritten digits",
        feature_names=[f"pixel {i // 8},{i % 8}" for i in range(64)],
        target="class",
        source="scikit-learn load_digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
        "UCI Machine Learning Repository, 1998",
        licence="CC BY 4.0",
        seed=seed,
        scaling=scaling,
        num_classes=len(classes),
    )
    dataset["X"].attrs["long_name"] = "pixel intensity"
    dataset["image"] = (("sample", "row", "column"), dataset["X"].values.reshape(-1, 8, 8), dict(dataset["X"].attrs))
    one_hot = np.eye(len(classes))[position]
    dataset["y_one_hot"] = (("sample", "class"), one_hot, {"long_name": "class, one-hot", "units": "1"})
    return dataset.assign_coords(
        {
            "sample": ("sample", np.flatnonzero(keep)[chosen], {"long_name": "sample in scikit-learn", "units": "1"}),
            "split": ("sample", split, {"long_name": "train or test", "units": "1"}),
            "digit": ("sample", np.asarray(classes)[position], {"long_name": "digit", "units": "1"}),
            "class": ("class", list(classes), {"long_name": "digit", "units": "1"}),
            "pixel_row": ("feature", np.arange(64) // 8, {"long_name": "row", "units": "pixels"}),
            "pixel_column": ("feature", np.arange(64) % 8, {"long_name": "column", "units": "pixels"}),
            "row": ("row", np.arange(8), {"long_name": "row", "units": "pixels"}),
            "column": ("column", np.arange(8), {"long_name": "column", "units": "pixels"}),
        }
    )


def _stratified_draw_any(labels: NDArray[Any], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw like `_stratified_draw` where what is left over is thrown away and may lack a class."""
    left_over = len(labels) - num
    if left_over >= len(np.unique(labels)):
        return _stratified_draw(labels, num, rng)
    return rng.permutation(len(labels))[:num]


def _scaled(values: Array, scaling: str, train: NDArray[np.bool_]) -> Array:
    if scaling == "range":
        return values / 16
    if scaling == "norm":
        return cast("Array", values / np.linalg.norm(values, axis=1, keepdims=True))
    if scaling == "standard":
        # Statistics of the training samples only: those of the test set would leak into training.
        mean, spread = values[train].mean(axis=0), values[train].std(axis=0)
        return np.where(spread > 0, (values - mean) / np.where(spread > 0, spread, 1.0), 0.0)
    return values


def load_diabetes(*, seed: int, num_test: int = 100, standardise: bool = True) -> xr.Dataset:
    """Load scikit-learn's diabetes regression: ten measurements of 442 patients and the disease's progress in a year.

    Parameters
    ----------
    seed
        Decides which samples are test samples.
    standardise
        Give each feature and the target mean 0 and variance 1 over the training samples; the factor that turns errors
        of `y` back into scores is the attribute `target_scale`, the shift `target_offset`. If False, raw units.

    Returns
    -------
    xr.Dataset
        `X` (sample, feature), `y` (sample, output) with one output, coordinate `split`.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.

    Notes
    -----
    B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 2004.

    >>> diabetes = load_diabetes(seed=0)
    >>> diabetes.X.shape, int((diabetes.split == "train").sum())
    ((442, 10), 342)
    """
    from sklearn import datasets

    bunch = datasets.load_diabetes(scaled=False)
    values, progress = bunch.data, bunch.target[:, None]
    units = ["years", "1", "kg/m^2", "mmHg", "mg/dl", "mg/dl", "mg/dl", "1", "1", "mg/dl"]
    dataset = as_dataset(
        values,
        progress,
        name="diabetes",
        feature_names=list(bunch.feature_names),
        feature_units=["1"] * 10 if standardise else units,
        target="disease progression after one year",
        target_units="1" if standardise else "score",
        source="scikit-learn load_diabetes: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "
        "Least Angle Regression, Annals of Statistics 32 (2004)",
        licence="none stated by its authors; distributed with scikit-learn (BSD-3-Clause)",
        seed=seed,
        target_offset=0.0,
        target_scale=1.0,
    )
    dataset = split_dataset(dataset, num_test=num_test, seed=seed)
    if standardise:
        train = dataset["split"].values == "train"
        dataset["X"].values = _scaled(values, "standard", train)
        dataset["y"].values = _scaled(progress, "standard", train)
        dataset.attrs.update(target_offset=float(progress[train].mean()), target_scale=float(progress[train].std()))
    return dataset
