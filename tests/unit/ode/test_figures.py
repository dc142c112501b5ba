"""Figures and explorers of neural ODEs: finite numbers, alt text that tells what was measured, points that move."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import traitlets
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.drag import DragPoints
from sciviz.ode import experiments, explorer, figures

METHODS = ("euler", "rk4", "bosh3", "tsit5")
CASES: dict[str, tuple[Callable[..., theme.Figure], Callable[[], xr.Dataset]]] = {
    "residual": (
        figures.plot_residual_limit,
        lambda: experiments.residual_limit(seed=0, num_seeds=2, depths=(4, 8)),
    ),
    "orders": (
        figures.plot_solver_orders,
        lambda: experiments.solver_orders(methods=METHODS, num_steps=(10, 20)),
    ),
    "work": (
        figures.plot_work_precision,
        lambda: experiments.work_precision(methods=METHODS, tolerances=(1e-2, 1e-4), num_steps=(10, 20)),
    ),
    "tolerance": (
        figures.plot_tolerance_cost,
        lambda: experiments.tolerance_cost(seed=0, num_seeds=2, tolerances=(1e-2, 1e-4)),
    ),
    "steps": (figures.plot_steps, lambda: experiments.trajectory_steps("van_der_pol", mu=5.0)),
    "smooth steps": (figures.plot_steps, lambda: experiments.trajectory_steps("harmonic", method="rk4")),
    "stiffness": (figures.plot_stiffness, lambda: experiments.stiffness_cost(mus=(1.0, 4.0))),
    "batch": (figures.plot_batch_steps, lambda: experiments.trajectory_batch(seed=0, num_trajectories=30)),
    "gradient": (
        figures.plot_gradient_agreement,
        lambda: experiments.gradient_agreement(seed=0, num_seeds=1, tolerances=(1e-2, 1e-3)),
    ),
    "contracting": (
        figures.plot_contracting_adjoint,
        lambda: experiments.contracting_adjoint(seed=0, num_seeds=1, durations=(1.0, 4.0)),
    ),
    "memory": (
        figures.plot_activation_memory,
        lambda: experiments.activation_memory(seed=0, num_seeds=1, num_steps=(10, 20)),
    ),
    "crossing": (
        figures.plot_crossing,
        lambda: experiments.crossing_trajectories(seed=0, num_seeds=1, num_steps=2),
    ),
    "classifier": (figures.plot_classifier, lambda: experiments.classifier_flow(seed=0, num_seeds=1, num_steps=2)),
    "digits": (figures.plot_digits_block, lambda: experiments.digits_ode_block(seed=0, num_seeds=2, num_steps=2)),
    "series": (
        figures.plot_irregular_series,
        lambda: experiments.irregular_series(seed=0, num_seeds=2, num_steps=1, num_train=4, num_test=4),
    ),
    "density": (
        figures.plot_flow_density,
        lambda: experiments.flow_density(seed=0, num_seeds=1, num_steps=1, num_grid=11),
    ),
    "cheap": (
        figures.plot_regularised,
        lambda: experiments.regularised_dynamics(seed=0, num_seeds=2, num_steps=2, num_train=100),
    ),
    "fixed points": (
        figures.plot_fixed_points,
        lambda: experiments.fixed_point_uniqueness(seed=0, num_seeds=2, num_starts=20),
    ),
    "liquid": (figures.plot_liquid, lambda: experiments.liquid_bounds(seed=0, num_seeds=2)),
    "equilibrium": (
        figures.plot_equilibrium,
        lambda: experiments.equilibrium_training(seed=0, num_seeds=2, num_steps=2),
    ),
    "signatures": (
        figures.plot_signature_regression,
        lambda: experiments.signature_regression(
            seed=0, num_seeds=2, num_paths=10, num_test=5, num_times=11, budgets=(1.0, 2.0)
        ),
    ),
    "portrait": (figures.plot_phase_portrait, lambda: experiments.phase_portrait("lotka_volterra")),
}


@pytest.mark.parametrize("name", CASES)
def test_figure(name: str) -> None:
    plot, make = CASES[name]
    figure = plot(make())
    assert len(theme.alt_text(figure)) > 80
    assert "nan" not in theme.alt_text(figure) + figure.layout.title.text + str(figure.layout.title.subtitle.text)
    assert figure.layout.title.text.strip()
    drawn = 0
    for trace in figure.data:
        if trace.type != "scatter":
            drawn += np.isfinite(np.asarray(trace.z, dtype=float)).sum()
            continue
        x, y = (np.asarray(values, dtype=float) for values in (trace.x, trace.y))
        assert not np.isinf(x).any() and not np.isinf(y).any()
        drawn += np.isfinite(x + y).sum()
    assert drawn > 4


def test_tolerance_figure_draws_the_numbers_it_is_given() -> None:
    data = experiments.gradient_agreement(seed=0, num_seeds=2, tolerances=(1e-2, 1e-3))
    figure = figures.plot_gradient_agreement(data)
    (line,) = (trace for trace in figure.data if trace.name == "adjoint")
    np.testing.assert_allclose(line.y, data.difference.sel(gradient="adjoint").median("seed"))


def test_explorer_takes_a_field_of_ones_own() -> None:
    panel = explorer.explore_solver(func=lambda t, y: -y * (1 + 0 * t), window=((-1.0, 1.0), (-1.0, 1.0)), duration=2.0)
    panel.set(points=((1.0, 0.5), (-0.5, 0.5)), tolerance=1e-4)
    (path,) = (trace for trace in panel.figure.data if trace.name == "trajectories")
    last = 1.0 * np.exp(-2.0)
    assert path.x[99] == pytest.approx(last, abs=1e-3)


def test_explorer_of_phase_portraits_shows_the_sliders_of_its_system_only() -> None:
    panel = explorer.explore_phase_portrait(system="lorenz")
    assert panel.controls["rho"].layout.display == ""
    assert panel.controls["mu"].layout.display == "none"
    panel.set(name="van_der_pol")
    assert panel.controls["rho"].layout.display == "none"
    assert panel.controls["mu"].layout.display == ""
    with pytest.raises(ValueError, match="system must be one of"):
        explorer.explore_phase_portrait(system="weather")


def test_explorer_refuses_a_system_that_is_no_plane() -> None:
    with pytest.raises(ValueError, match="two variables"):
        explorer.explore_solver(system="lorenz")


def test_explorer_of_depth_shows_the_flow_it_is_given() -> None:
    flow = experiments.classifier_flow(seed=0, num_seeds=1, num_steps=2)
    panel = explorer.explore_depth(flow=flow)
    panel.set(moment=5, augmented=True)
    seen = np.concatenate([trace.y for trace in panel.figure.data if trace.yaxis == "y2" and "class" in trace.name])
    wanted = flow.position.isel(seed=0, time=5).sel(model="augmented", dimension="x3").values
    np.testing.assert_allclose(np.sort(seen), np.sort(wanted), atol=1e-6)


def test_points_move_by_sliders_and_by_dragging() -> None:
    points = DragPoints([(0.0, 0.0), (1.0, 1.0)], x_range=(-2.0, 2.0), y_range=(-2.0, 2.0))
    seen = []
    points.observe(lambda change: seen.append(change["new"]), names="value")
    points.selector.value = 1
    assert (points.across.value, points.up.value) == (1.0, 1.0)
    points.up.value = -1.0
    points.handles.value = [[0.5, 0.0], [1.0, -1.0]]
    assert seen == [((0.0, 0.0), (1.0, -1.0)), ((0.5, 0.0), (1.0, -1.0))]
    points.handles.selected = 0
    assert points.selector.value == 0 and points.across.value == 0.5


@pytest.mark.parametrize("wrong", [[], [(0.0, 3.0)], [(0.0, float("nan"))], [(0.0, 1.0, 2.0)]])
def test_points_refuse_what_they_cannot_show(wrong: list) -> None:
    with pytest.raises(traitlets.TraitError):
        DragPoints(wrong, x_range=(-2.0, 2.0), y_range=(-2.0, 2.0))


def test_points_refuse_an_empty_range() -> None:
    with pytest.raises(ValueError, match="x_range must be"):
        DragPoints([(0.0, 0.0)], x_range=(1.0, 1.0), y_range=(-2.0, 2.0))
