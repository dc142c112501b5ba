"""The experiments: labels, reproducibility, the physics at small size, and claims that can fail."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from sciviz.ntk import apply_ensemble, ensemble_ntk, init_ensemble
from sciviz.ntk import experiments as ex

SMALL = {
    "kernel_concentration": {"widths": (16, 64), "num_seeds": 4, "num_points": 3},
    "kernel_change": {"widths": (16, 64), "num_seeds": 3, "num_points": 4, "num_steps": 5},
    "follow_kernel_flow": {"width": 64, "num_seeds": 2, "num_points": 4, "num_test": 6, "num_steps": 10},
    "lazy_rich_sweep": {"alphas": (0.5, 4.0), "width": 32, "num_points": 16, "num_test": 8, "num_steps": 5},
    "finite_width_density": {"widths": (8, 16), "num_samples": 4000},
    "catapult": {"lr_multiples": (1.0, 3.0), "num_seeds": 2, "width": 32, "num_points": 4, "num_steps": 8},
    "grokking": {
        "alphas": (0.5, 2.0),
        "num_seeds": 2,
        "num_points": 30,
        "num_test": 20,
        "num_features": 5,
        "num_steps": 20,
    },
    "feature_change": {"widths": (16, 32), "num_seeds": 2, "num_samples": 20, "num_steps": 3},
    "scale_mixture_marginal": {"width": 32, "num_networks": 1000},
    "scale_mixture_regression": {"num_seeds": 2, "num_train": 30},
    "output_kurtosis": {"widths": (32,), "num_networks": 2000},
    "signal_propagation": {"depth": 4, "num_networks": 100},
    "digits_kernel_and_network": {"num_train": (20, 30), "num_test": 20, "width": 32, "num_seeds": 2, "num_steps": 3},
    "kernel_slice": {"width": 32, "depth": 2, "num_points": 7},
    "process_band": {"width": 32, "depth": 2, "num_points": 7, "posterior": True},
    "training_path": {"width": 32, "num_seeds": 2, "num_grid": 5, "num_times": 4, "num_steps": 10},
}


def run(name: str, **changes: object) -> xr.Dataset:
    dataset: xr.Dataset = getattr(ex, name)(**{"seed": 0, **SMALL[name], **changes})
    return dataset


@functools.cache
def small(name: str) -> xr.Dataset:
    """The small run, for tests that only look at it."""
    return run(name)


@pytest.mark.parametrize("name", SMALL)
def test_every_variable_and_coordinate_is_labelled(name):
    dataset = small(name)
    assert dataset.attrs["title"] and dataset.attrs["seed"] == 0
    assert set(dataset.dims) <= set(dataset.coords)
    for variable in dataset.variables.values():
        assert variable.attrs["long_name"] and variable.attrs["units"]


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(name):
    first, second, other = small(name), run(name), run(name, seed=1)
    xr.testing.assert_identical(first, second)
    assert not first.drop_attrs().equals(other.drop_attrs())


@pytest.mark.parametrize("name", SMALL)
def test_an_experiment_leaves_the_global_random_state_alone(name):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(name)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("name", SMALL)
def test_the_data_set_survives_a_file(name, tmp_path):
    dataset = small(name)
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as back:
        xr.testing.assert_equal(dataset, back)


# ------------------------------------------------------------------------------------------------------- the physics


def test_the_kernel_concentrates_with_width_towards_its_closed_form():
    ds = run("kernel_concentration", widths=(32, 128, 512), num_seeds=30, activation="erf")
    assert -0.75 < float(ds.spread_slope) < -0.25
    assert float(ds.spread_slope_low) < float(ds.spread_slope) < float(ds.spread_slope_high)
    assert (ds.distance.mean("seed").diff("width") < 0).all()
    assert "closed form" in ds.attrs["reference"]


def test_concentration_takes_modules_of_ones_own():
    def make(width, seed):
        torch.random.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    with torch.random.fork_rng():
        ds = run("kernel_concentration", make_model=make, widths=(16, 256), num_seeds=8)
    assert float(ds.spread[1]) < float(ds.spread[0])


def test_the_kernel_changes_less_in_wider_networks():
    ds = run("kernel_change", widths=(32, 128, 512), num_seeds=6, num_steps=40)
    assert float(ds.change_slope) < -0.6
    assert (ds.loss.sel(moment="end") < ds.loss.sel(moment="start")).all()


def test_a_wide_network_follows_its_kernel_and_a_narrow_one_less():
    wide, narrow = (run("follow_kernel_flow", width=w, num_steps=200) for w in (2048, 16))
    assert float(wide.deviation.max()) < 0.05 < float(narrow.deviation.max())
    np.testing.assert_allclose(wide.rate.values[:, 0], wide.predicted_rate.values[:, 0], rtol=0.1)
    np.testing.assert_allclose(wide.network[:, 0], wide.predicted[:, 0], atol=1e-9)
    # At this width the finite step is most of what is left: without it the two agree better.
    assert float(wide.step_deviation.max()) < float(wide.deviation.max())


def test_a_component_that_hardly_decays_has_no_rate():
    errors = np.exp(-np.outer(np.arange(11.0), [0.5, 0.001]))[None]
    rates, half = ex._component_rates(errors, np.arange(11.0), np.array([[0.5, 0.001]]))
    assert rates[0, 0] == pytest.approx(0.5) and np.isnan(rates[0, 1])
    assert half[0].tolist() == [2.0, math.inf]


def test_following_takes_a_module_and_data_of_ones_own_and_leaves_the_module_alone():
    torch.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 1))
    before = [p.detach().clone() for p in model.parameters()]
    X = np.linspace(-1, 1, 5)[:, None]
    ds = ex.follow_kernel_flow(model=model, X=X, y=np.sin(X[:, 0]), num_steps=10)
    assert ds.sizes["seed"] == 1
    np.testing.assert_allclose(ds.network[0, 0, :5], model(torch.tensor(X).float()).detach()[:, 0], atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_larger_output_scales_are_lazier():
    ds = run("lazy_rich_sweep", alphas=(0.5, 2.0, 8.0), width=64, num_steps=60)
    for name in ("kernel_change", "feature_change"):
        assert (ds[name].diff("alpha") < 0).all()


def test_the_fourth_cumulant_is_the_predicted_one():
    ds = run("finite_width_density", widths=(8, 32), num_samples=200_000)
    assert (np.abs(ds.kurtosis - ds.predicted_kurtosis) < 5 * ds.kurtosis_error).all()
    assert (ds.error.sel(law="corrected") < ds.error.sel(law="gaussian")).all()
    np.testing.assert_allclose(ds.density.sum("output") * float(ds.output[1] - ds.output[0]), 1, atol=0.02)


@pytest.mark.parametrize(("activation", "second", "fourth"), [("relu", 0.5, 1.5), ("identity", 1.0, 3.0)])
def test_gaussian_moments(activation, second, fourth):
    assert ex._gaussian_moments(ex.ACTIVATIONS[activation]) == pytest.approx((second, fourth), rel=1e-9)


def test_a_linear_activation_still_has_the_kurtosis_of_its_random_variance():
    # The readout and the features are both Gaussian: their product sum is not, and has kurtosis 3 (3 - 1)/N = 6/N.
    ds = run("finite_width_density", widths=(4,), num_samples=200_000, activation="identity")
    assert float(ds.predicted_kurtosis[0]) == pytest.approx(1.5)
    assert float(ds.kurtosis[0]) == pytest.approx(1.5, rel=0.15)


def test_network_and_quadratic_model_catapult_and_the_linear_model_diverges():
    ds = run("catapult", num_seeds=3, width=128, num_steps=60)
    fast = ds.sel(lr_multiple=3.0)
    assert (fast.loss.sel(model="linear").isel(step=20) > 1e3).all()
    for model in ("network", "quadratic"):
        assert (fast.loss.sel(model=model).max("step") > 2).all()
        assert (fast.loss.sel(model=model).isel(step=-1) < 0.1).all()
        assert (fast.sharpness.sel(model=model).isel(recorded_step=-1) < 2).all()
    start = ds.sharpness.isel(recorded_step=0)
    np.testing.assert_allclose(start, np.broadcast_to(np.array([1.0, 3.0])[None, :, None], start.shape))
    slow = ds.loss.sel(lr_multiple=1.0)
    assert (slow.isel(step=-1) < 1).all() and (slow.max("step") <= 1 + 1e-9).all()


def test_catapult_takes_a_module_of_ones_own():
    torch.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    X, y = torch.randn(5, 3), torch.randn(5)
    ds = ex.catapult(model=model, X=X, y=y, lr_multiples=(1.0, 3.0), num_steps=10)
    assert ds.sizes["seed"] == 1 and bool((ds.loss.sel(lr_multiple=1.0, step=10) < 1).all())


def test_the_two_moments_train_like_the_network_of_units():
    generator = torch.Generator().manual_seed(0)
    n, d, width, alpha, epsilon, step_size, steps = 12, 3, 20, 2.0, 0.3, 0.1, 30
    X = torch.randn(1, n, d, generator=generator) / math.sqrt(d)
    y = torch.randn(1, n, generator=generator)
    W = torch.randn(1, width, d, generator=generator)
    start = (W.mean(1), W.mT @ W / width)
    fast = ex._grok(alpha, start, {"train": (X, y), "test": (X, y)}, epsilon, step_size, steps, 5)

    weights = W[0].clone()

    def network(w):
        h = X[0] @ w.T
        return (h + epsilon / 2 * h**2).mean(1) * alpha

    initial = network(weights)
    for _ in range(steps):
        weights.requires_grad_()
        loss = 0.5 * (network(weights) - initial - y[0]).square().sum()
        (gradient,) = torch.autograd.grad(loss, weights)
        # d loss / d w carries alpha / N; the experiment's step is per unit of 1 / alpha.
        weights = (weights - step_size / alpha * d / n * gradient * width / alpha).detach()
    error = (network(weights) - initial - y[0]).square().mean() / y[0].var(correction=0)
    assert float(error) < 0.9
    assert fast["train"][0, -1] == pytest.approx(float(error), rel=1e-4)


def test_the_committee_kernel_is_the_tangent_kernel():
    generator = torch.Generator().manual_seed(0)
    X, y, W = (torch.randn(*s, generator=generator) for s in ((1, 6, 3), (1, 6), (1, 50, 3)))
    slope = 1 + 0.3 * X[0] @ W[0].T
    kernel = (X[0] @ X[0].T) * (slope @ slope.T) / 50
    centre = torch.eye(6) - 1 / 6
    kernel, t = centre @ kernel @ centre, centre @ y[0]
    expected = t @ kernel @ t / t.square().sum() / kernel.norm()
    got = ex._committee_alignment(X, y, W.mean(1), W.mT @ W / 50, 0.3)
    assert float(got) == pytest.approx(float(expected), rel=1e-4)


def test_lazier_networks_generalise_later():
    ds = run("grokking", alphas=(0.25, 4.0), num_seeds=3, num_points=75, num_test=200, num_features=10, num_steps=3000)
    delay = ds.test_time / ds.train_time
    assert (delay.sel(alpha=4.0) > delay.sel(alpha=0.25)).all()
    lazy = ds.alignment.sel(alpha=4.0)
    assert (lazy.isel(alignment_time=-1) > lazy.isel(alignment_time=0)).all()


def test_features_move_less_with_width_under_ntk_than_under_mup():
    ds = run("feature_change", widths=(32, 64, 128, 256), num_samples=40, num_steps=10)
    slope = ds.slope.to_series()
    assert slope["mup"] > slope["ntk"] + 0.25 and slope["ntk"] < -0.3


def test_a_random_readout_variance_makes_the_outputs_student_t():
    ds = run("scale_mixture_marginal", width=256, num_networks=20_000)
    assert float(ds.distance.sel(law="student_t")) < 0.02 < float(ds.distance.sel(law="gaussian"))
    assert float(ds.fixed_distance) < 0.02


def test_the_two_processes_agree_when_the_degrees_of_freedom_are_many():
    ds = run("scale_mixture_regression", degrees_of_freedom=1e7)
    assert float(abs(ds.gap.sel(setting="unit")).max()) < 1e-3
    assert float(run("scale_mixture_regression").gap.sel(setting="unit", inputs="shifted").mean()) > 0.1


def test_deep_networks_without_matrices_have_the_law_of_those_with_matrices():
    from scipy import stats

    rng = np.random.default_rng(0)
    width, depth, count = 12, 3, 4000
    squared = list(ex._squared_lengths(width, depth, count, rng))[-1]
    network, params = init_ensemble(count, input_dim=2, width=width, depth=depth, weight_variance=2.0, seed=0)
    X = torch.full((1, 2), 1.0)
    drawn = apply_ensemble(network, params, X)[:, 0, 0].double().numpy()
    # Input of mean square 1: the output is Gaussian given the features, with variance 2 × their mean square.
    exact = np.sqrt(2 * squared) * rng.standard_normal(count)
    assert stats.ks_2samp(drawn, exact).pvalue > 0.001


def test_kurtosis_is_predicted_and_vanishes_for_gaussian_outputs():
    ds = run("output_kurtosis", widths=(64,), ratios=(1 / 64, 4 / 64), num_networks=100_000)
    assert (abs(ds.kurtosis - ds.predicted) < 5 * ds.kurtosis_error).all()
    wide = run("output_kurtosis", widths=(100_000,), ratios=(1e-5,), num_networks=50_000)
    assert float(abs(wide.kurtosis).max()) < 0.1


def test_only_the_critical_variance_keeps_the_mean_and_the_typical_network_loses_signal():
    ds = run("signal_propagation", depth=30, width=64, num_networks=4000)
    last = ds.mean_square.isel(layer=-1)
    assert float(last[0]) < 0.1 and abs(float(last[1]) - 1) < 0.3 and float(last[2]) > 8
    assert float(ds.median_square.sel(weight_variance=2.0).isel(layer=-1)) < 0.6


def test_the_kernel_predicts_the_network_on_digits():
    near = run("digits_kernel_and_network", num_train=(60,), width=1024, num_steps=20, num_test=50)
    far = run("digits_kernel_and_network", num_train=(60,), width=16, num_steps=20, num_test=50)
    assert float(near.output_difference.mean()) < 0.2 < float(far.output_difference.mean())
    assert float(near.agreement.mean()) > 0.85
    assert (near.accuracy.sel(predictor="kernel prediction") > 0.5).all()


def test_with_its_random_start_the_network_is_still_predicted():
    ds = run("digits_kernel_and_network", num_train=(60,), width=1024, num_steps=20, num_test=50, centred=False)
    assert float(ds.output_difference.mean()) < 0.2


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
def test_functions_drawn_without_matrices_have_the_law_of_networks(depth, bias_variance):
    angle = torch.linspace(0, 5, 4)
    X = torch.stack([angle.cos(), angle.sin()], 1)
    settings = {
        "width": 16,
        "depth": depth,
        "activation": "erf",
        "weight_variance": 1.5,
        "bias_variance": bias_variance,
    }
    outputs, kernel = ex._random_functions(X, num_networks=6000, seed=0, tangent=True, **settings)
    network, params = init_ensemble(6000, input_dim=2, seed=1, **settings)
    expected, outputs_expected = ensemble_ntk(network, params, X), apply_ensemble(network, params, X)[..., 0]
    spread = expected.std(0)
    assert float(((kernel.mean(0) - expected.mean(0)) / spread).abs().max()) < 5 * math.sqrt(2 / 6000)
    np.testing.assert_allclose(kernel.std(0), spread, rtol=0.15)
    np.testing.assert_allclose(outputs.T.cov(), outputs_expected.T.cov(), atol=0.1 * float(outputs_expected.var()))


def test_the_slice_nears_its_limit_with_width():
    far = [
        float(abs(d.slice - d.limit_slice).mean())
        for d in (run("kernel_slice", width=w, depth=2) for w in (16, 256, 4096))
    ]
    assert far[0] > far[1] > far[2]
    assert run("kernel_slice", activation="gelu").attrs["has_limit"] == 0


def test_prior_samples_of_wide_networks_fill_the_band_and_posterior_samples_pass_the_data():
    prior = ex.process_band(width=512, num_samples=400, num_points=5, activation="erf", seed=0)
    np.testing.assert_allclose(prior["sample"].std("seed") * 2, prior.high, rtol=0.15)
    post = ex.process_band(posterior=True, noise_variance=1e-6, num_points=5, X=[-2.0, 2.0], y=[0.3, -0.4], seed=0)
    np.testing.assert_allclose(post["sample"].isel(x=[0, -1]), [[0.3, -0.4]] * 5, atol=0.01)
    assert float((post.high - post.low).isel(x=0)) < 0.01 < float((post.high - post.low).isel(x=2))


def test_the_predicted_path_is_that_of_wide_networks():
    ds = ex.training_path(width=2048, num_seeds=20, num_grid=5, num_times=6, num_steps=100, activation="erf", seed=0)
    error = abs(ds.network.mean("seed") - ds.predicted)
    assert (error < 4.5 * (ds.high - ds.low) / 4 / math.sqrt(20) + 0.02).all()
    np.testing.assert_allclose(ds.network.std("seed"), (ds.high - ds.low) / 4, rtol=0.6, atol=0.02)
    np.testing.assert_allclose(ds.remaining.isel(time=0), 1)


# ------------------------------------------------------------------------------------------------------------- claims

CLAIMS = {
    "concentration_claim": "kernel_concentration",
    "frozen_kernel_claim": "kernel_change",
    "kernel_flow_claim": "follow_kernel_flow",
    "decay_rate_claim": "follow_kernel_flow",
    "learning_order_claim": "follow_kernel_flow",
    "fourth_cumulant_claim": "finite_width_density",
    "edgeworth_claim": "finite_width_density",
    "catapult_claim": "catapult",
    "grokking_delay_claim": "grokking",
    "grokking_alignment_claim": "grokking",
    "feature_learning_claim": "feature_change",
    "student_marginal_claim": "scale_mixture_marginal",
    "student_posterior_claim": "scale_mixture_regression",
    "kurtosis_claim": "output_kurtosis",
    "criticality_claim": "signal_propagation",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_measured_at_too_small_a_size_is_undecided(claim):
    result = getattr(ex, claim)(small(CLAIMS[claim]))
    assert result.holds is None and result.criterion and result.seeds > 0


def test_claims_fail_where_the_physics_is_another():
    ds = run("kernel_concentration", widths=(256, 257, 258, 259), num_seeds=20)
    ds["spread_slope"] = ds.spread_slope * 0 - 0.2
    assert ex.concentration_claim(ds).holds is False
    ds = run("follow_kernel_flow", num_seeds=3)
    ds.attrs["width"] = 2048
    ds["deviation"] = ds.deviation + 1
    assert ex.kernel_flow_claim(ds).holds is False
    ds = run("signal_propagation", depth=30, width=256, num_networks=4000)
    assert ex.criticality_claim(ds).holds is True
    ds["mean_square"] = ds.mean_square * 1.2
    assert ex.criticality_claim(ds).holds is False


def test_the_catapult_claim_needs_a_learning_rate_above_the_stable_one():
    assert ex.catapult_claim(run("catapult", lr_multiples=(1.0,))).holds is None


def test_components_learnt_in_the_wrong_order_fail_the_claim():
    ds = run("follow_kernel_flow", num_seeds=3)
    ds["eigenvalue"] = ds.eigenvalue.copy(data=np.broadcast_to([8.0, 4.0, 2.0, 1.0], ds.eigenvalue.shape))
    for half, holds in (([1.0, 2.0, 3.0, math.inf], True), ([4.0, 3.0, 2.0, 1.0], False)):
        ds["half_time"] = ds.half_time.copy(data=np.broadcast_to(half, ds.half_time.shape))
        assert ex.learning_order_claim(ds).holds is holds


def test_the_posterior_claim_is_undecided_where_its_interval_straddles():
    ds = run("scale_mixture_regression", num_seeds=3)
    gap = ds.gap.copy()
    for values, holds in (([1.0, 1.01, 1.02], True), ([0.1, 0.11, 0.12], False), ([0.0, 0.5, 1.2], None)):
        gap.loc[{"setting": "unit", "inputs": "shifted"}] = values
        assert ex.student_posterior_claim(ds.assign(gap=gap)).holds is holds


def test_a_network_that_never_generalises_has_not_grokked():
    ds = run("grokking", alphas=(0.25, 4.0), num_seeds=5, num_steps=40)
    ds["train_time"] = ds.train_time.copy(data=np.full((2, 5), 4.0))
    late = np.stack([np.full(5, 8.0), np.full(5, math.inf)])
    ds["test_time"] = ds.test_time.copy(data=late)
    falls = np.broadcast_to(np.where(ds.time.values < 20, 1.0, 0.2), ds.test_error.shape)
    assert ex.grokking_delay_claim(ds.assign(test_error=ds.test_error.copy(data=falls))).holds is True
    stays = np.ones(ds.test_error.shape)
    assert ex.grokking_delay_claim(ds.assign(test_error=ds.test_error.copy(data=stays))).holds is False


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("kernel_concentration", {"widths": ()}, "widths must hold at least one width"),
        ("kernel_concentration", {"widths": (64, 32)}, "widths must increase"),
        ("kernel_concentration", {"widths": (-4,)}, "width must be an integer of at least 1, got -4"),
        ("kernel_concentration", {"activation": "rleu"}, "Did you mean 'relu'"),
        ("kernel_concentration", {"X": [[math.nan, 1.0]]}, "X must hold finite numbers only"),
        ("kernel_change", {"X": [[1.0, 1.0]]}, "X and y must be given together, got y=None"),
        ("kernel_change", {"X": [[1.0, 1.0]], "y": [1.0, 2.0]}, "X and y must have the same first dimension"),
        ("kernel_change", {"step_size": 0.0}, "step_size must be a finite number greater than 0"),
        ("follow_kernel_flow", {"X": [[1.0], [2.0]], "y": [[1.0, 2.0]] * 2}, "must have one output"),
        ("lazy_rich_sweep", {"alphas": ()}, "alphas must hold at least one"),
        ("lazy_rich_sweep", {"alphas": (-1.0,)}, "alpha must be a finite number greater than 0"),
        ("finite_width_density", {"num_samples": 3}, "num_samples must be an integer of at least 1000"),
        ("catapult", {"lr_multiples": (0.0,)}, "lr_multiple must be a finite number greater than 0"),
        ("catapult", {"model": nn.Linear(4, 2)}, "must have one output"),
        ("grokking", {"epsilon": -1.0}, "epsilon must be a finite number greater than 0"),
        ("feature_change", {"parametrisations": ("mupp",)}, "Did you mean 'mup'"),
        ("scale_mixture_marginal", {"degrees_of_freedom": 2.0}, "degrees_of_freedom must exceed 2"),
        ("scale_mixture_regression", {"num_train": 10_000}, "num_train must be less than"),
        ("scale_mixture_regression", {"shift_feature": 10}, "shift_feature must be an integer from 0 to 9"),
        ("output_kurtosis", {"ratios": (0.0,)}, "ratio must be a finite number greater than 0"),
        ("signal_propagation", {"weight_variances": ()}, "weight_variances must hold at least one"),
        ("digits_kernel_and_network", {"num_train": (100_000,)}, "num_train must be"),
        ("kernel_slice", {"num_points": 4}, "num_points must be odd"),
        ("process_band", {"activation": "tanh"}, "activation must be one of"),
        ("process_band", {"noise_variance": 0.0}, "noise_variance must be a finite number greater than 0"),
        ("training_path", {"y": [1.0]}, "X and y must be given together, got X=None"),
    ],
)
def test_bad_input_is_one_clear_sentence(name, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        run(name, **changes)
    assert "\n" not in str(caught.value) and str(caught.value).endswith((".", "?"))
