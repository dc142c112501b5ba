"""Labelled results: intervals against SciPy's, slopes against their own law, and what cannot decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sciviz.lab.results import Interval, dataset, log_log_slope, paired_interval, variable


def test_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 9)
    found = paired_interval(values)
    low, high = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    assert np.allclose([found.low, found.high], [low, high], atol=1e-12)
    assert found.half == pytest.approx((high - low) / 2)


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0.1, 0.2, True), (-0.2, -0.1, False), (-0.1, 0.1, None), (0.0, 0.1, None)]
)
def test_an_interval_that_straddles_decides_nothing(low: float, high: float, outcome: bool | None) -> None:
    assert Interval((low + high) / 2, low, high).above(0.0) is outcome


def test_one_difference_makes_no_interval() -> None:
    with pytest.raises(ValueError, match="number_of_differences"):
        paired_interval([0.1])


def test_a_power_law_has_its_slope() -> None:
    width = np.array([64.0, 256.0, 1024.0])
    assert log_log_slope(width, 3 * width**-0.5) == pytest.approx(-0.5)


def test_a_data_set_carries_names_units_and_plain_attributes() -> None:
    made = dataset(
        "Spread",
        {"width": variable("width", [64, 256], "Width", "hidden units")},
        {"spread": variable(("width",), torch.tensor([0.2, 0.1], requires_grad=True), "Spread")},
        sizes=(1, 2),
    )
    assert made["spread"].attrs == {"long_name": "Spread", "units": "1"}
    assert made["width"].attrs["units"] == "hidden units"
    assert made.attrs == {"title": "Spread", "sizes": "(1, 2)"}
