"""Experiments of the networks themselves: labelled, repeatable, right where the answer is known, and drawn as measured."""

import numpy as np
import pytest
import torch
import xarray as xr

from sciviz.kan import experiments, figures
from sciviz.kan.networks import KAN
from sciviz.lab import data, theme


def drawn_network() -> xr.Dataset:
    X = experiments.draw_points(30, 2, seed=0)
    return experiments.network_graph(KAN([2, 3, 1], seed=0, dtype=torch.float64), X, inputs=["x", "y"])


TINY = {
    "spline": lambda: experiments.spline_fit(num_cells=4, order=2),
    "convergence": lambda: experiments.order_of_convergence(orders=(0, 1, 3), cells=(4, 8, 16)),
    "network": drawn_network,
    "extension": lambda: experiments.grid_extension(seed=0, num_seeds=2, cells=(3, 6), num_points=50, steps_each=2),
    "formula": lambda: experiments.recover_formula(seed=0, num_seeds=1, num_points=60),
    "law": lambda: experiments.rediscover(seed=0, num_seeds=1, noise=(0.0, 0.05), num_points=60),
    "poisson": lambda: experiments.poisson_equation(seed=0, num_seeds=2, num_inside=48, num_steps=3, mlp_steps=3),
    "scaling": lambda: experiments.error_scaling(
        seed=0, num_seeds=2, cells=(3, 8), num_points=60, num_starts=1, mlp_steps=3
    ),
    "noise": lambda: experiments.noise_and_size(seed=0, num_seeds=2, noise=(0.0, 0.3), cells=(3, 6), num_points=40),
    "dimensions": lambda: experiments.dimensions(seed=0, num_seeds=2, sizes=(2, 3), num_points=60, parameters=40),
    "real": lambda: experiments.real_regression(seed=0, num_seeds=2),
}
CLAIMS = {
    "formula": [experiments.formula_claim],
    "poisson": [experiments.poisson_claim],
    "scaling": [experiments.lower_error_claim, experiments.slope_claim],
}
FIGURES = {
    "spline": [figures.plot_spline],
    "convergence": [figures.plot_convergence],
    "network": [figures.plot_network],
    "extension": [figures.plot_extension],
    "law": [figures.plot_rediscovery],
    "poisson": [figures.plot_poisson],
    "scaling": [figures.plot_scaling],
    "noise": [figures.plot_noise_and_size],
    "dimensions": [figures.plot_dimensions],
    "real": [figures.plot_real, figures.plot_real_curves],
}


@pytest.fixture(scope="module")
def tiny():
    before = torch.get_rng_state()
    sets = {name: make() for name, make in TINY.items()}
    assert torch.equal(torch.get_rng_state(), before), "no experiment draws from the global generator"
    return sets


@pytest.mark.parametrize("name", TINY)
def test_everything_is_labelled(tiny, name):
    ds = tiny[name]
    assert ds.attrs["title"]
    for key, values in ds.variables.items():
        assert {"long_name", "units"} <= set(values.attrs), key
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), key


@pytest.mark.parametrize("name", TINY)
def test_data_sets_can_be_stored(tiny, name):
    stored = xr.load_dataset(bytes(tiny[name].to_netcdf(engine="h5netcdf")), engine="h5netcdf")
    assert set(stored.data_vars) == set(tiny[name].data_vars)


@pytest.mark.parametrize("name", ["extension", "law", "poisson", "scaling", "noise", "dimensions", "real"])
def test_same_seed_same_numbers(tiny, name):
    xr.testing.assert_identical(TINY[name](), tiny[name])


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_too_small_to_judge_is_undecided(tiny, name):
    for claim in CLAIMS[name]:
        result = claim(tiny[name])
        assert result.criterion and result.holds is None


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_their_data(tiny, name):
    for plot in FIGURES[name]:
        fig = plot(tiny[name])
        assert len(theme.alt_text(fig)) > 80 and fig.layout.title.text
        assert len(fig.data) >= 2


# ------------------------------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_spline_holds_polynomials_of_its_order_exactly(order):
    ds = experiments.spline_fit(num_cells=5, order=order, function=lambda x: (x + 0.3) ** order)
    assert float(ds.rmse) < 1e-7


def test_errors_of_splines_fall_as_theory_says():
    ds = experiments.order_of_convergence(orders=(0, 1, 3), cells=(8, 16, 32, 64))
    np.testing.assert_allclose(ds.slope, [-1, -2, -4], atol=0.25)


def test_extension_changes_no_function_more_than_said_and_helps():
    ds = experiments.grid_extension(seed=0, num_seeds=2, cells=(3, 6, 12), num_points=200, steps_each=8)
    median = ds.train.median("seed")
    ends = [float(median[ds["cells"].values == n][-1]) for n in (3, 6, 12)]
    assert ends[0] > 3 * ends[1] > 9 * ends[2]
    # A number of cells that is a multiple of the old one keeps the functions; on grids that follow the data too.
    assert float(ds.jump.max()) < 1e-6


def test_kepler_is_found_without_noise():
    ds = experiments.rediscover(seed=0, num_seeds=1, noise=(0.0,))
    np.testing.assert_allclose(ds.exponent[:, 0, 0], [1.5, -0.5], atol=1e-3)
    assert str(ds.forms[0, 0].item()).startswith("log, log")


def test_the_figure_of_exponents_names_the_level_at_which_they_move_most(tiny):
    moved = tiny["law"].copy(deep=True)
    moved.exponent[:] = np.array([1.5, -0.5])[:, None, None]
    moved.exponent[0, 0, 0] = 1.7
    assert "by up to 0.2 at 0%" in figures.plot_rediscovery(moved).layout.title.text


def test_a_formula_is_asked_outside_its_data():
    ds = experiments.recover_formula(seed=0, num_seeds=1)
    assert float(ds.exact[0]) == 1 and float(ds.outside[0]) == pytest.approx(np.exp(4))


def test_an_edge_that_does_little_is_drawn_flat():
    ds = drawn_network()
    ds.value[0] = 1e-3 * ds.value[1].values
    first = next(
        trace for trace in figures.plot_network(ds).data if str(trace.name).startswith("edge from node 0 to node 0")
    )
    assert np.ptp(first.y) < 0.01


def test_the_exact_solution_solves_the_equation():
    from sciviz.kan.experiments.poisson import residual, solution

    X = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rest = residual(solution, X, torch.zeros(1, 20, 1, dtype=torch.float64))
    assert float(rest.abs().max()) < 1e-9


def test_noise_is_fitted_by_fine_grids():
    ds = experiments.noise_and_size(seed=0, num_seeds=2, noise=(0.0, 0.5), cells=(3, 30), num_points=150)
    kan = ds.rmse.sel(network="KAN").median("seed")
    assert float(kan[0, 1]) < float(kan[0, 0]) and float(kan[1, 1]) > 2 * float(kan[1, 0])
    assert (ds.parameters.sel(network="MLP") >= ds.parameters.sel(network="KAN")).all()


def test_real_data_of_your_own():
    def load(seed):
        X = np.random.default_rng(seed).normal(size=(120, 3))
        made = data.as_dataset(X, np.sin(2 * X[:, :1]) + X[:, 1:2] ** 2, feature_names=["a", "b", "c"])
        return data.split_dataset(made, num_test=40, seed=seed)

    ds = experiments.real_regression(seed=0, num_seeds=2, load=load)
    mean = ds.rmse.mean("split")
    # The target is a sum of one curve a feature: what a KAN [d, 1] is, and a straight line is not.
    assert float(mean.sel(model="KAN [d, 1]")) < 0.5 * float(mean.sel(model="ridge regression"))
    assert ds.feature.values.tolist() == ["a", "b", "c"]
    assert experiments.real_summary(ds)["KAN [d, 1]"].startswith("-")


# -------------------------------------------------------------------------------------------------------------- claims


def changed(ds, **values):
    return ds.assign({k: ds[k].copy(data=np.broadcast_to(v, ds[k].shape)) for k, v in values.items()})


@pytest.fixture(scope="module")
def judged():
    ds = experiments.error_scaling(seed=0, num_seeds=3, cells=(4, 20, 50), num_points=40, num_starts=1, mlp_steps=1)
    return ds


def test_lower_error_is_held_to_both_sizes_and_the_best_perceptron(judged):
    good = np.ones(judged.rmse.shape)
    good[0] = 0.05
    assert experiments.lower_error_claim(changed(judged, rmse=good)).holds is True
    one_better = good.copy()
    one_better[3, -1] = 0.3
    assert experiments.lower_error_claim(changed(judged, rmse=one_better)).holds is False
    only_large = good.copy()
    only_large[0, 1] = 0.2
    assert experiments.lower_error_claim(changed(judged, rmse=only_large)).holds is False


def test_slope_is_undecided_where_seeds_disagree(judged):
    flat = np.ones(judged.rmse.shape)
    steep = flat.copy()
    steep[0] = np.array([1.0, 1e-2, 1e-4])[:, None]
    assert experiments.slope_claim(changed(judged, rmse=steep)).holds is True
    away = flat.copy()
    away[0] = np.array([1.0, 10.0, 100.0])[:, None]
    assert experiments.slope_claim(changed(judged, rmse=away)).holds is False
    mixed = flat.copy()
    mixed[0] = np.array([1.0, 1.0, 1.0])[:, None] * np.array([1.0, 1.0, 1.0])
    mixed[0, -1] = [10.0, 1.0, 0.1]
    assert experiments.slope_claim(changed(judged, rmse=mixed)).holds is None


def test_formula_and_poisson_are_held_to_their_limits(tiny):
    three = xr.concat([tiny["formula"]] * 3, "seed")
    assert experiments.formula_claim(changed(three, r2=1.0)).holds is True
    assert experiments.formula_claim(changed(three, r2=0.9998)).holds is False
    five = tiny["poisson"].isel(seed=[0, 0, 0, 1, 1])
    errors = np.array([0.1, 1.0])[:, None, None]
    assert experiments.poisson_claim(changed(five, error=errors)).holds is True
    assert experiments.poisson_claim(changed(five, error=errors[::-1])).holds is False


def test_equal_time_is_equal():
    ds = experiments.against_the_clock(seed=0, seconds=0.2, num_points=50)
    assert (ds.elapsed.diff("moment") >= 0).all() and (ds.step_time > 0).all()
    assert int(ds.parameters[1]) >= int(ds.parameters[0])
    assert len(theme.alt_text(figures.plot_clock(ds))) > 80
