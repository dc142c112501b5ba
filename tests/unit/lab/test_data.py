"""Data sets: labels, determinism, and the facts stated of each, tested on samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import special

from sciviz.lab import data
from sciviz.lab.data import DENSITIES, REGRESSIONS, SERIES_MODELS

CLOSED_FORMS = [name for name, density in DENSITIES.items() if density.log_density is not None]
EVERY_SET: dict[str, Any] = {
    **{name: lambda seed, name=name: data.make_density(name, num_samples=40, seed=seed) for name in DENSITIES},
    **{name: lambda seed, name=name: data.make_regression(name, num_samples=9, seed=seed) for name in REGRESSIONS},
    **{
        name: lambda seed, name=name: data.make_irregular_series(name, num_samples=3, num_times=7, seed=seed)
        for name in SERIES_MODELS
    },
    "circle": lambda seed: data.make_circle_regression(seed=seed, spacing="random"),
    "nested spheres": lambda seed: data.make_nested_spheres(num_samples=30, seed=seed),
    "digits": lambda seed: data.load_digits(seed=seed, num_train=60, num_test=40),
    "diabetes": lambda seed: data.load_diabetes(seed=seed),
}


def assert_mean(samples: np.ndarray, expected: Any, sigmas: float = 5.0) -> None:
    """Samples (n, ...) have this mean, to five standard errors of their own."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(samples.mean(axis=0) - expected), sigmas * error + 1e-12)


# ------------------------------------------------------------------------------------------------------- every set


@pytest.mark.parametrize("name", EVERY_SET)
def test_a_seed_decides_and_another_seed_differs(name: str) -> None:
    make = EVERY_SET[name]
    assert make(1).identical(make(1))
    assert not make(1)["X"].equals(make(2)["X"])


@pytest.mark.parametrize("name", EVERY_SET)
def test_everything_is_labelled_and_survives_a_file(name: str, tmp_path: Path) -> None:
    dataset = EVERY_SET[name](0)
    assert {"sample", "feature"} <= set(dataset.sizes) and dataset["X"].dims[0] == "sample"
    for key, variable in dataset.variables.items():
        assert variable.attrs.get("long_name") and variable.attrs.get("units"), key
    assert dataset.attrs["title"] and dataset.attrs["source"] and dataset.attrs["seed"] == 0
    dataset.to_netcdf(tmp_path / "data.nc")
    with xr.open_dataset(tmp_path / "data.nc") as again:
        xr.testing.assert_equal(again.load(), dataset)
        assert again["X"].attrs == dataset["X"].attrs


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_set_becomes_tensors(name: str) -> None:
    dataset = EVERY_SET[name](0)
    for tensor in data.to_tensors(dataset, dtype=torch.float64):
        assert len(tensor) == dataset.sizes["sample"] and bool(torch.isfinite(tensor).all())


def test_sets_of_one_seed_are_independent_of_each_other() -> None:
    draws = np.stack([data.make_density(n, num_samples=4000, seed=0)["X"].values[:, 0] for n in DENSITIES])
    off_diagonal = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(4000)


def test_the_global_generators_are_left_alone() -> None:
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    for make in EVERY_SET.values():
        make(0)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_importing_does_not_load_scikit_learn() -> None:
    code = "import sys, sciviz.lab.data; sys.exit('sklearn' in sys.modules or 'scipy.integrate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


# ------------------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("noise", [None, 0.3])
def test_mean_and_covariance_are_as_stated(name: str, noise: float | None) -> None:
    dataset = data.make_density(name, num_samples=40_000, seed=7, noise=noise)
    points = dataset["X"].values
    assert_mean(points, 0.0)
    assert_mean(points[:, :, None] * points[:, None, :], dataset["covariance"].values)


@pytest.mark.parametrize("name", DENSITIES)
def test_spreads_are_of_order_one_and_all_parts_are_drawn(name: str) -> None:
    dataset = data.make_density(name, num_samples=2000, seed=0)
    variances = np.diag(dataset["covariance"].values)
    assert ((variances > 0.5) & (variances < 4)).all()
    assert np.unique(dataset["y"]).tolist() == list(range(DENSITIES[name].num_classes))
    assert dataset["y"].dtype == np.int64


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("noise", [0.15, 0.4])
def test_log_densities_integrate_to_one_and_agree_with_the_samples(name: str, noise: float) -> None:
    axis = (np.arange(480) + 0.5) / 40 - 6  # midpoints, since the rings have an integrable pole at the origin
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    logs = data.log_density(name, grid, noise=noise)
    weights = np.exp(logs) / 40**2
    assert weights.sum() == pytest.approx(1, abs=2e-3)

    def bump(points: np.ndarray) -> np.ndarray:
        return np.exp(-((points - [0.7, -0.3]) ** 2).sum(axis=1, keepdims=True))

    samples = data.make_density(name, num_samples=20_000, seed=3, noise=noise)["X"].values
    assert_mean(data.log_density(name, samples, noise=noise)[:, None], (weights * np.maximum(logs, -800)).sum(), 6)
    assert_mean(bump(samples), (weights[:, None] * bump(grid)).sum(), 6)


def test_the_sharp_checkerboard() -> None:
    points = data.make_density("checkerboard", num_samples=5000, seed=0)["X"].values
    assert np.abs(points).max() <= 2
    assert (np.floor(points).sum(axis=1) % 2 == 0).all()
    assert data.log_density("checkerboard", points) == pytest.approx(-np.log(8))
    assert data.log_density("checkerboard", [[-0.5, 0.5], [3.0, 0.0]]).tolist() == [-np.inf, -np.inf]


def test_parts_are_where_they_should_be() -> None:
    rings = data.make_density("rings", num_samples=600, seed=0, noise=0.0)
    np.testing.assert_allclose(np.linalg.norm(rings["X"], axis=1), np.array([0.8, 1.6, 2.4])[rings["y"]])
    eight = data.make_density("eight_gaussians", num_samples=600, seed=0, noise=1e-9)
    angle = np.degrees(np.arctan2(eight["X"].values[:, 1], eight["X"].values[:, 0])) % 360
    np.testing.assert_allclose(np.rint(angle / 45) % 8, eight["y"])
    clusters = data.make_density("clusters", num_samples=20_000, seed=0)["y"].values
    for part, weight in enumerate([0.5, 0.3, 0.2]):
        assert_mean((clusters == part).astype(float)[:, None], weight)


@pytest.mark.parametrize("num_features", [1, 2, 5])
def test_nested_spheres_fill_their_volume_evenly(num_features: int) -> None:
    nested = data.make_nested_spheres(num_samples=20_000, seed=0, num_features=num_features)
    radius, y = np.linalg.norm(nested["X"], axis=1), nested["y"].values
    assert radius[y == 0].max() <= 0.5 and radius[y == 1].min() >= 1 and radius[y == 1].max() <= 1.5
    volume = radius**num_features  # uniform between its ends if points are even in volume
    assert_mean(volume[y == 0][:, None], 0.5**num_features / 2)
    assert_mean(volume[y == 1][:, None], (1 + 1.5**num_features) / 2)
    assert_mean(y[:, None].astype(float), 0.5)


# ----------------------------------------------------------------------------------------------------- regressions


@pytest.mark.parametrize(
    ("name", "mean", "mean_square"),
    [
        ("sine", 0.0, 0.5),
        ("step", 0.0, 1.0),
        (
            "exp_sin",
            special.i0(1) * special.erfi(1) * np.sqrt(np.pi) / 2,
            special.i0(2) * special.erfi(np.sqrt(2)) * np.sqrt(np.pi / 8),
        ),
        ("quadratic_disc", np.pi / 8, np.pi / 6),
    ],
)
def test_regressions_have_the_moments_of_their_formula(name: str, mean: float, mean_square: float) -> None:
    dataset = data.make_regression(name, num_samples=50_000, seed=0, noise=0.5)
    signal, y = dataset["signal"].values, dataset["y"].values
    assert_mean(signal, mean)
    assert_mean(signal**2, mean_square)
    assert_mean(y - signal, 0.0)
    assert_mean((y - signal) ** 2, 0.25)
    assert np.abs(dataset["X"]).max() <= 1 and dataset["y"].dims == ("sample", "output")


def test_even_spacing() -> None:
    dataset = data.make_regression("sine", num_samples=5, seed=0, spacing="even")
    np.testing.assert_allclose(dataset["X"].values.ravel(), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(dataset["y"].values.ravel(), [0, -1, 0, 1, 0], atol=1e-12)


def test_the_circle_has_the_fourier_coefficients_asked_for() -> None:
    circle = data.make_circle_regression(
        num_samples=64, seed=0, frequencies=[0, 2, 5], amplitudes=[0.5, 2.0, -1.0], phases=[0.0, 0.0, np.pi / 2]
    )
    spectrum = np.fft.rfft(circle["y"].values.ravel()) / 64
    expected = np.zeros(33, dtype=complex)
    expected[[0, 2, 5]] = 0.5, 1.0, 0.5j
    np.testing.assert_allclose(spectrum, expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(circle["X"], axis=1), 1)
    np.testing.assert_allclose(circle["X"].values[:, 1], np.sin(circle["angle"]), atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- series


def test_the_frictionless_pendulum_keeps_its_energy_and_friction_lowers_it() -> None:
    def energy(damping: float) -> np.ndarray:
        series = data.make_irregular_series(
            "pendulum", num_samples=5, seed=0, parameters={"damping": damping, "drive": 0.0}
        )
        angle, velocity = np.moveaxis(series["signal"].values, -1, 0)
        return velocity**2 / 2 - 9.81 * np.cos(angle)

    np.testing.assert_allclose(np.ptp(energy(0.0), axis=1), 0, atol=1e-6)
    assert (np.diff(energy(0.5), axis=1) < 0).all()


def test_a_slightly_moved_pendulum_is_a_driven_harmonic_oscillator() -> None:
    stiffness, drive, omega = 9.81, 1e-4, 2.0
    parameters = {"damping": 5.0, "drive": drive, "drive_frequency": omega}
    series = data.make_irregular_series("pendulum", num_samples=2, duration=40.0, seed=0, parameters=parameters)
    time, angle = series["time"].values, series["signal"].values[..., 0]
    response = drive / (stiffness - omega**2 + 5.0j * omega)
    late = time > 15  # when the start is forgotten
    assert late.sum() > 20
    np.testing.assert_allclose(angle[late], (response * np.exp(1j * omega * time)).real[late], atol=1e-8)


def test_predators_and_prey_keep_their_invariant() -> None:
    series = data.make_irregular_series("lotka_volterra", num_samples=5, seed=0)
    prey, predators = np.moveaxis(series["signal"].values, -1, 0)
    invariant = 0.25 * prey - np.log(prey) + 0.5 * predators - np.log(predators)
    np.testing.assert_allclose(np.ptp(invariant, axis=1), 0, atol=1e-6)


@pytest.mark.parametrize("model", SERIES_MODELS)
def test_observations_are_irregular_noisy_and_missing_as_stated(model: str) -> None:
    series = data.make_irregular_series(model, num_samples=60, num_times=50, seed=0, noise=0.1, missing=0.3)
    observed = series["observed"].values
    assert np.array_equal(np.isnan(series["X"].values), ~observed)
    assert_mean(observed.reshape(-1, 1).astype(float), 0.7)
    residual = (series["X"] - series["signal"]).values[observed][:, None]
    assert_mean(residual, 0.0)
    assert_mean(residual**2, 0.01)
    times = series["time"].values
    assert (np.diff(times, axis=1) > 0).all() and times.min() >= 0 and times.max() <= 10
    assert_mean(times.reshape(-1, 1), 5.0)
    for i in (0, 59):  # each series is its own trajectory, not a neighbour's
        drawn = [np.interp(times[i], series["grid_time"], series["trajectory"][i, :, k]) for k in range(2)]
        np.testing.assert_allclose(np.stack(drawn, -1), series["signal"][i], atol=0.02)


def test_missing_entries_become_zero_only_under_the_mask() -> None:
    series = data.make_irregular_series(num_samples=4, num_times=6, seed=0)
    X, observed, time = data.to_tensors(series, "X", "observed", "time")
    assert observed.dtype == torch.bool and bool((X[~observed] == 0).all()) and bool((X[observed] != 0).all())
    assert time.shape == (4, 6)
    with pytest.raises(ValueError, match="X must hold finite numbers only"):
        data.to_tensors(series.drop_vars("observed"), "X")


# ------------------------------------------------------------------------------------------------------- real data


def test_digits_are_the_whole_set_split_in_proportion() -> None:
    from sklearn import datasets

    digits = data.load_digits(seed=0, scaling="none")
    pixels, labels = datasets.load_digits(return_X_y=True)
    assert sorted(digits["sample"].values) == list(range(1797))
    np.testing.assert_array_equal(digits["X"], pixels[digits["sample"]])
    np.testing.assert_array_equal(digits["y"], labels[digits["sample"]])
    test = digits["split"].values == "test"
    assert test.sum() == 360
    counts = np.bincount(digits["y"].values[test])
    assert np.abs(counts - np.bincount(labels) * 360 / 1797).max() < 1
    np.testing.assert_array_equal(digits["image"].values.reshape(-1, 64), digits["X"])
    np.testing.assert_array_equal(digits["y_one_hot"].values.argmax(axis=1), digits["y"])
    assert (digits["y_one_hot"].sum("class") == 1).all()
    row, column = int(digits["pixel_row"][11]), int(digits["pixel_column"][11])
    np.testing.assert_array_equal(digits["image"][:, row, column], digits["X"][:, 11])
    assert digits.attrs["licence"] == "CC BY 4.0"


def test_the_test_set_does_not_depend_on_the_training_set() -> None:
    small, large = (data.load_digits(seed=2, num_train=n, num_test=100) for n in (50, 1500))
    for digits in (small, large):
        assert len(np.unique(digits["sample"])) == digits.sizes["sample"]
    tests = [set(d["sample"].values[d["split"].values == "test"]) for d in (small, large)]
    assert tests[0] == tests[1]
    assert np.bincount(small["y"].values[small["split"].values == "train"]).tolist() == [5] * 10


def test_scalings() -> None:
    def load(scaling: str) -> xr.Dataset:
        return data.load_digits(seed=0, num_train=500, num_test=100, scaling=scaling)

    assert float(load("range")["X"].min()) == 0 and float(load("range")["X"].max()) == 1
    np.testing.assert_allclose(np.linalg.norm(load("norm")["X"], axis=1), 1)
    train = load("standard")
    train, test = (train["X"].values[train["split"].values == name] for name in ("train", "test"))
    varies = train.std(axis=0) > 0
    assert 50 < varies.sum() < 64
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(train.std(axis=0)[varies], 1)
    assert (test[:, ~varies] == 0).all() and np.abs(test.mean(axis=0)[varies]).max() > 1e-3


def test_some_digits_only() -> None:
    digits = data.load_digits(seed=0, num_train=80, num_test=20, classes=[7, 1])
    assert set(digits["digit"].values) == {1, 7} and digits["class"].values.tolist() == [7, 1]
    np.testing.assert_array_equal(digits["y"].values, (digits["digit"].values == 1).astype(int))
    assert digits["y_one_hot"].shape == (100, 2)


def test_diabetes_standardised_by_its_training_part() -> None:
    raw, scaled = data.load_diabetes(seed=3, standardise=False), data.load_diabetes(seed=3)
    assert raw["X"].shape == (442, 10) and raw["y"].attrs["units"] == "score"
    assert float(raw["X"].sel(feature="age").max()) == 79
    train = scaled["split"].values == "train"
    np.testing.assert_allclose(scaled["X"].values[train].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled["X"].values[train].std(axis=0), 1)
    back = scaled["y"].values * scaled.attrs["target_scale"] + scaled.attrs["target_offset"]
    np.testing.assert_allclose(back, raw["y"].values)


# ----------------------------------------------------------------------------------------------- user data, tensors


def test_user_data_of_several_kinds() -> None:
    import pandas as pd

    frame = pd.DataFrame({"height": [1.0, 2.0], "mass": [3, 4]})
    dataset = data.as_dataset(frame, [True, False], feature_units=["m", "kg"], licence="mine")
    assert dataset["feature"].values.tolist() == ["height", "mass"] and dataset.attrs["licence"] == "mine"
    assert (
        dataset["feature_units"].values.tolist() == ["m", "kg"] and dataset["X"].attrs["units"] == "see feature_units"
    )
    X, y = data.to_tensors(dataset)
    assert X.tolist() == [[1, 3], [2, 4]] and y.tolist() == [1, 0] and y.dtype == torch.int64
    tensor = torch.randn(3, 2, requires_grad=True)
    (again,) = data.to_tensors(data.as_dataset(tensor), dtype=torch.float64)
    assert torch.equal(again, tensor.detach().double())


def test_tensors_do_not_share_memory_with_the_data_set() -> None:
    dataset = data.as_dataset(np.zeros((3, 2)))
    (X,) = data.to_tensors(dataset, dtype=torch.float64)
    X += 1
    assert float(dataset["X"].sum()) == 0


def test_tensors_by_name_and_split() -> None:
    digits = data.load_digits(seed=0, num_train=30, num_test=20)
    taken = data.to_tensors(digits, "image", "y_one_hot", "X", split="test")
    assert [tuple(t.shape) for t in taken] == [(20, 8, 8), (20, 10), (20, 64)]
    assert taken.X is taken[2]  # type: ignore[attr-defined]
    X, y = data.to_tensors(digits, split="train")
    assert len(X) == len(y) == 30 and X.dtype == torch.float32 and y.dtype == torch.int64


def test_split_dataset() -> None:
    dataset = data.make_density("clusters", num_samples=50, seed=0)
    split = data.split_dataset(dataset, num_test=20, seed=1)
    assert (split["split"] == "test").sum() == 20 and "split" not in dataset.coords
    stratified = data.split_dataset(dataset, num_test=20, seed=1, stratify=True)
    test = stratified["y"].values[stratified["split"].values == "test"]
    share = np.bincount(dataset["y"]) * 20 / 50
    assert np.abs(np.bincount(test) - share).max() < 1
    assert not split["split"].equals(data.split_dataset(dataset, num_test=20, seed=2)["split"])


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: data.as_dataset(np.zeros(3)), ValueError, r"X must have 2 dimensions, got 1 \(shape \(3,\)\)"),
        (lambda: data.as_dataset(np.zeros((0, 2))), ValueError, "at least one sample"),
        (lambda: data.as_dataset([[1.0], [2.0, 3.0]]), ValueError, "X must be a rectangular array"),
        (lambda: data.as_dataset([["a"]]), TypeError, "X must hold real numbers"),
        (lambda: data.as_dataset([[1j]]), TypeError, "X must hold real numbers"),
        (lambda: data.as_dataset([[np.nan, 1.0]]), ValueError, r"X must hold finite numbers only, got 1 of 2"),
        (lambda: data.as_dataset([[1.0]], [np.inf]), ValueError, "y must hold finite numbers only"),
        (lambda: data.as_dataset([[1.0]], [0, 1]), ValueError, r"X \(1, 1\), y \(2,\)"),
        (lambda: data.as_dataset([[1.0]], [[[0]]]), ValueError, "y must have 1 or 2 dimensions, got 3"),
        (lambda: data.as_dataset([[1.0]], feature_names=["a", "b"]), ValueError, "feature_names must name each"),
        (lambda: data.make_density("two_moon", seed=0), ValueError, "Did you mean 'two_moons'"),
        (lambda: data.make_density("rings", seed=0, num_samples=0), ValueError, "num_samples"),
        (lambda: data.make_density("rings", seed=0, noise=-1.0), ValueError, "noise"),
        (lambda: data.make_density("rings", seed=1.5), TypeError, "seed"),  # type: ignore[arg-type]
        (lambda: data.make_density("rings", seed=-1), ValueError, "seed"),
        (lambda: data.log_density("pinwheel", [[0.0, 0.0]]), ValueError, "'pinwheel' has no closed form"),
        (lambda: data.log_density("gaussian", [[0.0]]), ValueError, "points must have 2 columns"),
        (
            lambda: data.log_density("gaussian", [[0.0, 0.0]], noise=0.0),
            ValueError,
            "noise must be a finite number gre",
        ),
        (lambda: data.make_regression("sine", seed=0, spacing="grid"), ValueError, "spacing must be one of"),
        (lambda: data.make_regression("exp_sin", seed=0, spacing="even"), ValueError, "needs a regression with one"),
        (lambda: data.make_circle_regression(seed=0, frequencies=[1], phases=[0, 1]), ValueError, "of one length"),
        (lambda: data.make_circle_regression(seed=0, frequencies=[]), ValueError, "of one length"),
        (lambda: data.make_circle_regression(seed=0, frequencies=[-1]), ValueError, "frequency"),
        (lambda: data.make_nested_spheres(seed=0, num_features=0), ValueError, "num_features"),
        (lambda: data.make_irregular_series("pendulums", seed=0), ValueError, "Did you mean 'pendulum'"),
        (lambda: data.make_irregular_series(seed=0, missing=1.0), ValueError, "missing must be a probability"),
        (lambda: data.make_irregular_series(seed=0, duration=0.0), ValueError, "duration"),
        (lambda: data.make_irregular_series(seed=0, parameters={"mass": 1.0}), ValueError, "parameter must be one of"),
        (
            lambda: data.make_irregular_series(seed=0, parameters={"drive": np.nan}),
            ValueError,
            "drive must hold finite",
        ),
        (lambda: data.load_digits(seed=0, num_train=2000), ValueError, "num_train must be an integer from 10 to 1437"),
        (lambda: data.load_digits(seed=0, num_test=3), ValueError, "num_test must be an integer from 10"),
        (lambda: data.load_digits(seed=0, classes=[3]), ValueError, "at least two different digits"),
        (lambda: data.load_digits(seed=0, classes=[3, 11]), ValueError, "digit must be an integer from 0 to 9"),
        (lambda: data.load_digits(seed=0, scaling="unit"), ValueError, "scaling must be one of"),
        (lambda: data.load_diabetes(seed=0, num_test=442), ValueError, "num_test must be an integer from 1 to 441"),
        (lambda: data.to_tensors(data.make_density("rings", seed=0), "Z"), ValueError, "name must be one of"),
        (lambda: data.to_tensors(data.make_density("rings", seed=0), split="test"), ValueError, "make it with split_"),
        (lambda: data.to_tensors(data.load_diabetes(seed=0), split="tests"), ValueError, "Did you mean 'test'"),
        (lambda: data.to_tensors(data.load_diabetes(seed=0), "split"), ValueError, "must hold numbers"),
        (
            lambda: data.split_dataset(data.load_diabetes(seed=0), num_test=9, seed=0, stratify=True),
            ValueError,
            "integer class labels",
        ),
        (
            lambda: data.split_dataset(data.make_density("gaussian_grid", seed=0), num_test=9, seed=0, stratify=True),
            ValueError,
            "each of the 25 classes",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named) as caught:
        call()
    assert "\n" not in str(caught.value)
