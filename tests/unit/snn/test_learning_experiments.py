"""The experiments on learning: small runs have the dims they promise, claims read them, and figures draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.results import ClaimResult
from sciviz.snn import experiments as e
from sciviz.snn import figures

RUNS: dict[str, tuple[Callable[..., xr.Dataset], dict[str, Any], list[Callable[[xr.Dataset], ClaimResult]], str]] = {
    "contour": (
        e.contour_derivatives,
        {"num_seeds": 3, "sizes": (6, 10), "num_samples": 4, "radii": (0.1, 0.2)},
        [e.contour_claim],
        "plot_contour",
    ),
    "homeostasis": (
        e.jacobian_homeostasis,
        {"num_seeds": 3, "sizes": (8, 10), "num_train": 100, "num_steps": 3, "record_every": 1},
        [e.alignment_claim, e.homeostasis_accuracy_claim],
        "plot_homeostasis",
    ),
    "phases": (
        e.flexible_phases,
        {"num_seeds": 2, "num_hidden": 8, "num_train": 100, "num_epochs": 1, "num_draws": 20},
        [e.flexible_accuracy_claim, e.flexible_update_claim],
        "plot_flexible",
    ),
    "rules": (
        e.three_rules,
        {"task": "coordinate field", "num_seeds": 3, "num_steps": 3, "width": 8},
        [e.dfa_claim],
        "plot_rules",
    ),
    "transformer": (
        e.three_rules,
        {"task": "transformer", "num_seeds": 2, "num_steps": 2, "width": 8, "depth": 1},
        [e.dfa_claim],
        "plot_rules",
    ),
    "delays": (
        e.learnt_delays,
        {"num_seeds": 2, "num_steps": 3, "batch_size": 10, "num_test": 20},
        [e.random_delays_claim, e.learnt_delays_claim],
        "plot_delays",
    ),
    "normalisation": (
        e.membrane_normalisation,
        {"num_seeds": 2, "num_hidden": 8, "num_train": 100, "num_steps": 3},
        [e.membrane_accuracy_claim, e.folding_claim],
        "plot_normalisation",
    ),
    "forgetting": (
        e.tasks_in_sequence,
        {"num_seeds": 3, "num_tasks": 2, "num_hidden": 20, "ranks": (5, 5), "num_train": 60, "num_steps": 3},
        [e.forgetting_claim, e.subspace_claim],
        "plot_forgetting",
    ),
    "liquid": (
        e.astrocyte_liquid,
        {"num_seeds": 2, "num_neurons": 20, "num_adapt": 3, "num_train": 30, "num_test": 10, "num_kicks": 5},
        [e.astrocyte_claim, e.static_claim, e.branching_claim],
        "plot_liquid",
    ),
    "adding": (
        e.long_delay,
        {"num_seeds": 3, "num_steps": 2, "gap": 4, "num_test": 10, "with_tcn": True, "tcn_width": 4, "tcn_levels": 2},
        [e.timescale_claim, e.parity_claim],
        "plot_long_delay",
    ),
    "dendrite": (
        e.dendritic_neuron,
        {"num_seeds": 2, "num_steps": 2, "num_times": 30, "batch_size": 4},
        [],
        "plot_dendrite",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_repeats_is_labelled_judged_and_drawn(name: str) -> None:
    experiment, options, claims, plot = RUNS[name]
    ds = experiment(seed=3, **options)
    xr.testing.assert_equal(ds, experiment(seed=3, **options))
    assert not ds.equals(experiment(seed=4, **options))
    for variable in ds.variables.values():
        assert variable.attrs["long_name"] and variable.attrs["units"]
    for claim in claims:
        result = claim(ds)
        assert result.holds in (True, False, None) and result.seeds == options["num_seeds"]
        assert len(result.criterion) > 40
    fig = getattr(figures, plot)(ds)
    assert len(theme.alt_text(fig)) > 80
    numbers = [
        np.asarray(v, dtype=float).ravel() for t in fig.data for v in (t.x, t.y) if np.asarray(v).dtype.kind in "fiu"
    ]
    assert np.isfinite(np.concatenate(numbers)).all()


def judged(claim: Callable[[xr.Dataset], ClaimResult], **variables: Any) -> bool | None:
    return claim(xr.Dataset(variables)).holds


def test_claims_that_need_an_interval_are_undecided_where_it_straddles() -> None:
    arms = ["none", "fixed random", "learnt"]

    def holds(gains: list[float]) -> bool | None:
        accuracy = np.stack([np.zeros(5), np.full(5, 0.5), 0.5 + np.array(gains)])
        ds = xr.Dataset({"accuracy": (("arm", "seed"), accuracy)}, coords={"arm": arms}, attrs={"slot": 8})
        return e.learnt_delays_claim(ds).holds

    assert holds([0.1, 0.11, 0.09, 0.1, 0.12]) is True
    assert holds([0.1, -0.11, 0.09, -0.1, 0.12]) is None
    assert holds([-0.1, -0.11, -0.09, -0.1, -0.12]) is False


def test_parity_is_decided_by_an_interval_over_enough_seeds_and_a_tenth_of_the_parameters() -> None:
    def holds(gain: float, *, spread: float = 0.002, seeds: int = 12, size: int = 100) -> bool | None:
        gains = gain + spread * np.resize([-1.0, 1.0], seeds)
        return judged(
            e.parity_claim,
            accuracy=xr.DataArray(
                [0.9 + gains, np.full(seeds, 0.9)], dims=("arm", "seed"), coords={"arm": ["ELM", "TCN"]}
            ),
            parameters=("arm", [size, 1000]),
        )

    assert holds(-0.005) is True
    assert holds(-0.02) is False
    assert holds(-0.005, spread=0.05) is None
    assert holds(-0.005, seeds=4) is None
    assert holds(-0.005, size=101) is False


def test_forgetting_counts_from_when_a_task_was_learnt() -> None:
    accuracy = np.full((2, 1, 3, 3), np.nan)
    accuracy[:, 0, 0, 0] = 0.9
    accuracy[:, 0, 1, 1] = 0.8
    accuracy[0, 0, 2] = [0.3, 0.4, 0.9]
    accuracy[1, 0, 2] = [0.9, 0.8, 0.9]
    ds = xr.Dataset({"accuracy": (("arm", "seed", "after", "task"), accuracy)}, coords={"arm": ["plain", "HLOP"]})
    assert e.forgetting(ds).values.ravel().tolist() == pytest.approx([0.5, 0.0])


def test_ratio_of_gains_is_that_of_means() -> None:
    score = np.array([[1.0, 0.9, 1.1], [0.8, 0.7, 0.9], [0.5, 0.5, 0.5]])
    ds = xr.Dataset(
        {"score": (("rule", "seed"), score)}, coords={"rule": ["backpropagation", "direct feedback", "last layer only"]}
    )
    ratio, _ = e.gain_ratio(ds)
    assert ratio == pytest.approx(0.3 / 0.5)
    assert e.dfa_claim(ds).holds is False
