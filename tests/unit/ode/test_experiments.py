"""Experiments: labelled, reproducible, right in what can be known, and clear about mistakes."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from sciviz.lab.data import make_irregular_series
from sciviz.ode import experiments as ex
from sciviz.ode.models import VectorField
from sciviz.ode.systems import SYSTEMS
from sciviz.ode.tableaus import METHODS

torch.set_num_threads(1)

# The smallest version of each experiment that still means something.
SMALL = {
    "residual_limit": lambda seed: ex.residual_limit(seed=seed, num_seeds=3, depths=(16, 32, 64)),
    "tolerance_cost": lambda seed: ex.tolerance_cost(seed=seed, num_seeds=3, tolerances=(1e-3, 1e-8)),
    "gradient_agreement": lambda seed: ex.gradient_agreement(seed=seed, num_seeds=2, tolerances=(1e-3, 1e-6)),
    "contracting_adjoint": lambda seed: ex.contracting_adjoint(seed=seed, num_seeds=2, durations=(1.0, 10.0)),
    "activation_memory": lambda seed: ex.activation_memory(seed=seed, num_seeds=1, num_steps=(10, 100)),
    "crossing_trajectories": lambda seed: ex.crossing_trajectories(seed=seed, num_seeds=1, num_steps=80),
    "classifier_flow": lambda seed: ex.classifier_flow(seed=seed, num_seeds=1, num_steps=3),
    "digits_ode_block": lambda seed: ex.digits_ode_block(seed=seed, num_seeds=2, num_steps=3),
    "regularised_dynamics": lambda seed: ex.regularised_dynamics(seed=seed, num_seeds=2, num_steps=25),
    "liquid_bounds": lambda seed: ex.liquid_bounds(seed=seed, num_seeds=2),
    "fixed_point_uniqueness": lambda seed: ex.fixed_point_uniqueness(seed=seed, num_seeds=2, num_starts=30),
    "equilibrium_training": lambda seed: ex.equilibrium_training(seed=seed, num_seeds=2, num_steps=3),
    "signature_regression": lambda seed: ex.signature_regression(
        seed=seed, num_seeds=2, num_paths=20, num_test=10, num_times=21, budgets=(10.0,)
    ),
    "irregular_series": lambda seed: ex.irregular_series(
        seed=seed, num_seeds=2, num_steps=2, num_train=4, num_test=4, num_times=8
    ),
    "flow_density": lambda seed: ex.flow_density(seed=seed, num_seeds=2, num_steps=3, num_grid=21),
    "trajectory_batch": lambda seed: ex.trajectory_batch(seed=seed, num_trajectories=40, duration=2.0),
}
UNSEEDED = {
    "solver_orders": lambda: ex.solver_orders(),
    "work_precision": lambda: ex.work_precision(tolerances=(1e-3, 1e-6), num_steps=(40, 80)),
    "stiffness_cost": lambda: ex.stiffness_cost(mus=(2.0, 20.0)),
    "phase_portrait": lambda: ex.phase_portrait(),
    "trajectory_steps": lambda: ex.trajectory_steps(),
}


@pytest.fixture(scope="module")
def small() -> dict[str, xr.Dataset]:
    """Every small experiment, run once."""
    return {name: run(3) for name, run in SMALL.items()} | {name: run() for name, run in UNSEEDED.items()}


@pytest.mark.parametrize("name", [*SMALL, *UNSEEDED])
def test_everything_is_labelled(small: dict[str, xr.Dataset], name: str) -> None:
    dataset = small[name]
    assert dataset.attrs["title"]
    for variable in dataset.variables.values():
        assert variable.attrs["long_name"] and variable.attrs["units"]
    assert all(dim in dataset.coords for dim in dataset.dims)
    for variable in dataset.data_vars.values():
        if variable.dtype.kind == "f" and not variable.name.startswith("step_"):
            assert not np.isnan(variable.values).any()


@pytest.mark.parametrize(
    "name", ["residual_limit", "liquid_bounds", "fixed_point_uniqueness", "classifier_flow", "irregular_series"]
)
def test_the_same_seed_gives_the_same_data_and_another_seed_others(small: dict[str, xr.Dataset], name: str) -> None:
    xr.testing.assert_equal(SMALL[name](3), small[name])
    assert set(small[name].seed.values).isdisjoint(SMALL[name](4).seed.values)


def test_no_experiment_touches_the_global_generator() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    SMALL["digits_ode_block"](3)
    SMALL["flow_density"](3)
    assert torch.equal(torch.get_rng_state(), before)


# ----------------------------------------------------------------------------------------------- what must come out


def test_residual_stack_converges_at_first_order(small: dict[str, xr.Dataset]) -> None:
    verdict = ex.residual_limit_verdict(small["residual_limit"])
    assert verdict.holds is True and verdict.seeds == 3


def test_methods_have_their_orders(small: dict[str, xr.Dataset]) -> None:
    verdict = ex.solver_orders_verdict(small["solver_orders"])
    assert verdict.holds is True and set(verdict.measured) == set(METHODS)


def test_tighter_costs_more_and_errs_less(small: dict[str, xr.Dataset]) -> None:
    assert ex.tolerance_cost_verdict(small["tolerance_cost"]).holds is True
    diagram = small["work_precision"]
    assert bool((diagram.error[:, 1] < diagram.error[:, 0]).all())
    assert bool((diagram.evaluations[:, 1] > diagram.evaluations[:, 0]).all())


def test_adjoint_agrees_when_tight_and_not_when_loose(small: dict[str, xr.Dataset]) -> None:
    data = small["gradient_agreement"]
    assert ex.gradient_agreement_verdict(data).holds is True
    assert bool((data.difference.sel(gradient="adjoint", rtol=1e-3) > 1e-3).all())
    assert bool((data.difference.sel(gradient="checkpoint") < 1e-9).all())


def test_the_adjoint_of_a_contracting_layer_goes_wrong(small: dict[str, xr.Dataset]) -> None:
    difference = small["contracting_adjoint"].difference
    assert bool((difference.sel(gradient="adjoint", duration=1.0) < 0.01).all())
    assert bool((difference.sel(gradient="adjoint", duration=10.0) > 0.03).all())
    assert bool((difference.sel(gradient="checkpoint") < 1e-6).all())


def test_memory_is_flat_for_the_adjoint_only_where_it_should_be(small: dict[str, xr.Dataset]) -> None:
    data = small["activation_memory"]
    growth = (data.stored.sel(num_steps=100) / data.stored.sel(num_steps=10))[:, 0]
    assert ex.activation_memory_verdict(data).holds is True
    assert float(growth.sel(gradient="reversible")) == 1 and float(growth.sel(gradient="solver")) == pytest.approx(10)
    assert 5 < float(growth.sel(gradient="checkpoint")) <= 10


def test_a_line_is_too_narrow_to_swap_its_ends(small: dict[str, xr.Dataset]) -> None:
    data = small["crossing_trajectories"]
    assert ex.crossing_verdict(data).holds is True
    order = data.state.sel(model="plain").diff("sample")
    assert bool((order > 0).all())


def test_stiffness_grows_like_mu_squared_for_explicit_steps(small: dict[str, xr.Dataset]) -> None:
    data = small["stiffness_cost"]
    explicit = float(data.accepted[1] / data.accepted[0])
    implicit = float(data.implicit_steps[1] / data.implicit_steps[0])
    assert explicit > 2 * implicit


def test_regularised_dynamics_cost_less(small: dict[str, xr.Dataset]) -> None:
    data = small["regularised_dynamics"]
    for arm in ("global", "local"):
        assert float(data.evaluations.sel(arm=arm).mean()) < 0.9 * float(data.evaluations.sel(arm="plain").mean())
    assert bool((data.evaluations_during[:, :, 0] == data.evaluations_during[0, :, 0]).all())


def test_liquid_states_are_bounded(small: dict[str, xr.Dataset]) -> None:
    assert ex.liquid_bounds_verdict(small["liquid_bounds"]).holds is True


def test_subhomogeneous_layers_have_one_fixed_point(small: dict[str, xr.Dataset]) -> None:
    assert ex.fixed_point_uniqueness_verdict(small["fixed_point_uniqueness"]).holds is True


def test_implicit_gradients_are_cheap_and_right(small: dict[str, xr.Dataset]) -> None:
    assert ex.implicit_gradient_verdict(small["equilibrium_training"]).holds is True


def test_moons_density_is_the_one_that_points_are_drawn_from() -> None:
    axis = torch.linspace(-4, 4, 81)
    grid = torch.cartesian_prod(axis, axis)
    log_p = ex._moons_log_density(grid)
    weight = log_p.exp() * (axis[1] - axis[0]) ** 2
    assert float(weight.sum()) == pytest.approx(1, abs=1e-3)
    from sciviz.lab.data import make_density

    drawn = make_density("two_moons", num_samples=4000, seed=0).X.values
    mine = (weight[:, None] * grid).T @ grid
    np.testing.assert_allclose(np.cov(drawn.T), mine.numpy(), atol=0.08)
    entropy = -float((weight * log_p).sum())
    sampled = -float(ex._moons_log_density(torch.tensor(drawn)).mean())
    assert sampled == pytest.approx(entropy, abs=0.05)


def test_a_flow_learns_more_than_a_gaussian() -> None:
    data = ex.flow_density(seed=0, num_seeds=1, num_steps=60, num_grid=61)
    flow, exact, gauss = data.nll[:, 0].values
    assert exact - 0.05 <= flow < gauss
    assert abs(float(data.mass[0]) - 1) < 0.03


# ------------------------------------------------------------------------------------------------- verdicts decide


def test_a_verdict_can_fail_and_can_stay_undecided(small: dict[str, xr.Dataset]) -> None:
    data = small["residual_limit"].copy(deep=True)
    data["error"] = data.error * data.depth
    assert ex.residual_limit_verdict(data).holds is False
    accuracy = xr.Dataset(
        {"accuracy": (("arm", "seed"), [[0.9, 0.9, 0.9], [0.9, 0.8, 0.9]])}, {"arm": ["plain", "global"]}
    )
    assert ex.regularised_accuracy_verdict(accuracy).holds is None
    accuracy["accuracy"] = (("arm", "seed"), [[0.9, 0.91, 0.9], [0.9, 0.9, 0.9]])
    assert ex.regularised_accuracy_verdict(accuracy).holds is True
    accuracy["accuracy"] = (("arm", "seed"), [[0.9, 0.91, 0.9], [0.8, 0.8, 0.8]])
    assert ex.regularised_accuracy_verdict(accuracy).holds is False


# ----------------------------------------------------------------------------------------------------- one's own


def test_experiments_take_the_users_own() -> None:
    func = lambda t, y: -y  # noqa: E731
    y0 = torch.ones(3, 2)
    limit = ex.residual_limit(seed=0, depths=(16, 32, 64), func=func, y0=y0)
    assert ex.residual_limit_verdict(limit).holds is True
    assert ex.tolerance_cost(seed=0, tolerances=(1e-3, 1e-6), func=func, y0=y0).sizes["seed"] == 1
    own = ex.gradient_agreement(seed=0, tolerances=(1e-6,), func=VectorField(2, width=4, seed=1), y0=y0)
    assert float(own.difference.max()) < 1e-3
    points = np.random.default_rng(0).normal(size=(30, 2))
    flow = ex.classifier_flow(seed=0, num_seeds=1, num_steps=2, X=points, y=(points[:, 0] > 0).astype(int))
    assert flow.sizes["sample"] == 30
    density = ex.flow_density(seed=0, num_seeds=1, num_steps=2, num_grid=11, X=points)
    assert math.isnan(float(density.nll.sel(model="exact")[0]))
    series = [make_irregular_series("lotka_volterra", num_samples=6, num_times=8, seed=1)]
    tried = ex.irregular_series(seed=0, num_seeds=1, num_steps=1, num_train=3, num_test=3, series=series)
    assert tried.feature.values.tolist() == ["prey", "predators"]


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_explorers_get_data_of_every_system(name: str) -> None:
    portrait = ex.phase_portrait(name)
    assert portrait.rate.sizes["component"] == 2 and bool(np.isfinite(portrait.rate).all())
    starts = [SYSTEMS[name].start] * 2
    steps = ex.trajectory_steps(name, starts=starts, method="rk4", num_steps=400)
    assert steps.sizes["trajectory"] == 2 and int(steps.rejected.sum()) == 0
    assert int(steps.accepted.sum()) == 800


def test_steps_tell_what_was_taken_and_what_was_rejected() -> None:
    data = ex.trajectory_steps("van_der_pol", mu=8.0, tolerance=1e-4)
    tried = np.isfinite(data.step_size.values)
    assert bool((data.accepted.values.sum(0) == data.taken.values).all())
    assert bool((tried.sum(0) == (data.taken + data.rejected).values).all())
    taken = np.where(data.accepted, data.step_size, 0).sum(0)
    np.testing.assert_allclose(taken, float(data.time[-1]))


# ------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ex.residual_limit(seed=0, func=lambda t, y: y), "y0 is needed with a func of one's own"),
        (lambda: ex.residual_limit(seed=-1), "seed must be an integer of at least 0, got -1"),
        (lambda: ex.solver_orders(system="lorenz"), "system must have a closed form, as 'harmonic'"),
        (lambda: ex.work_precision(tolerances=(1e-3,)), "tolerances and num_steps must be equally many"),
        (lambda: ex.phase_portrait("pendulum", starts=[[1.0, 2.0, 3.0]]), r"starts must be \(trajectories, 2\)"),
        (lambda: ex.trajectory_steps(method="rk45"), "method must be one of"),
        (lambda: ex.trajectory_steps(tolerance=0), "tolerance must be a finite number greater than 0"),
        (lambda: ex.classifier_flow(seed=0, X=[[0.0, 1.0]]), "X and y are needed together, got only X"),
        (lambda: ex.classifier_flow("nestd", seed=0), "Did you mean 'nested'"),
        (lambda: ex.flow_density(seed=0, X=[[0.0], [1.0]]), "X must be at least 10 points of the plane"),
        (lambda: ex.irregular_series(seed=0, series=[]), "series must hold one data set for each of the 3 seeds"),
        (lambda: ex.signature_regression(seed=0, path=torch.zeros(9, 3, 2)), "y is needed with a path of one's own"),
        (lambda: ex.liquid_bounds(seed=0, dt=0.0), "dt must be a finite number greater than 0"),
    ],
)
def test_mistakes_are_one_clear_sentence(call, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
