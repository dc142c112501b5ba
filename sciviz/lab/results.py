"""Labelled results and what claims make of them: data sets with names and units, paired intervals, slopes.

The wings' experiments return data sets built here, so that each variable carries the words that a figure's axis shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from sciviz.lab.checks import check_int

Variable = tuple[tuple[str, ...], Any, dict[str, str]]


class ClaimResult(NamedTuple):
    """What a claim's criterion makes of a data set; `run.claim(id, says=..., **result._asdict())` shows it.

    `holds` is None where the data set cannot decide, for example because it holds too few sizes or seeds.
    """

    measured: float | dict[str, float]
    holds: bool | None
    criterion: str
    spread: float | str | None
    seeds: int


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def above(self, limit: float) -> bool | None:
        """Return whether the whole interval lies above a limit; None where it straddles the limit."""
        return True if self.low > limit else False if self.high <= limit else None


def variable(dims: str | Sequence[str], values: ArrayLike | Tensor, long_name: str, units: str = "1") -> Variable:
    """Return values with their dimensions, name and units, as `xarray.Dataset` takes them.

    >>> variable("seed width", [[1.0, 2.0]], "Test loss")[0]
    ('seed', 'width')
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    names = tuple(dims.split()) if isinstance(dims, str) else tuple(dims)
    return names, array, {"long_name": long_name, "units": units}


def dataset(title: str, coords: Mapping[str, Variable], variables: Mapping[str, Variable], **attrs: Any) -> xr.Dataset:
    """Return a labelled data set with a title; attributes that a file cannot hold are kept as text.

    >>> dataset("Losses", {"seed": variable("seed", [0, 1], "Seed")}, {"loss": variable("seed", [0.5, 0.4], "Loss")}).sizes["seed"]
    2
    """
    plain = {name: value if isinstance(value, (str, int, float, list)) else str(value) for name, value in attrs.items()}
    return xr.Dataset(dict(variables), coords=dict(coords), attrs={"title": title, **plain})


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of paired differences with Student's interval.

    Raises
    ------
    ValueError
        With fewer than two differences, of which no interval can be made.

    >>> paired_interval([0.1, 0.2, 0.3]).above(0.0) is None
    True
    """
    values: NDArray[np.float64] = np.asarray(differences, dtype=float).ravel()
    check_int(2, number_of_differences=values.size)
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return Interval(mean, mean - half, mean + half)


def log_log_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the slope of log y against log x by least squares.

    >>> round(log_log_slope([1, 10, 100], [2, 20, 200]), 6)
    1.0
    """
    return float(np.polyfit(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)), 1)[0])
