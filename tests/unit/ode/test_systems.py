"""The named systems: closed forms, invariants, ranges."""

import math

import pytest
import torch

from sciviz.ode.solvers import solve
from sciviz.ode.systems import SYSTEMS, make_system

WITH_SOLUTION = [name for name, system in SYSTEMS.items() if system.solution is not None]


@pytest.mark.parametrize("name", WITH_SOLUTION)
def test_the_closed_form_solves_the_equation(name: str) -> None:
    system = SYSTEMS[name]
    t = torch.linspace(0.1, 2, 7, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([system.start], dtype=torch.float64)
    y = system.solution(t, y0, system.values)[:, 0]
    for i in range(y.shape[1]):
        (slope,) = torch.autograd.grad(y[:, i].sum(), t, retain_graph=True)
        expected = torch.stack([system.rate(s, row) for s, row in zip(t, y, strict=True)])[:, i]
        torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8)
    start = system.solution(torch.zeros(1, dtype=torch.float64), y0, system.values)
    torch.testing.assert_close(start[0], y0)


@pytest.mark.parametrize("damping", [0.0, 0.5, 1.0, 3.0])
def test_the_oscillator_is_solved_below_at_and_above_critical_damping(damping: float) -> None:
    system = make_system("harmonic", damping=damping)
    y0 = torch.tensor([[1.0, -0.3]], dtype=torch.float64)
    t = torch.tensor([0.0, 2.5], dtype=torch.float64)
    found = solve(system.rate, y0, t, rtol=1e-10, atol=1e-12).y_end
    torch.testing.assert_close(found, system.solution(t[1:], y0, system.values)[0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "changes"), [("pendulum", {"damping": 0.0}), ("lotka_volterra", {}), ("harmonic", {})]
)
def test_the_invariant_is_conserved(name: str, changes: dict[str, float]) -> None:
    system = make_system(name, **changes)
    y0 = torch.tensor([system.start], dtype=torch.float64)
    t = torch.linspace(0, system.duration, 9, dtype=torch.float64)
    path = solve(system.rate, y0, t, rtol=1e-9, atol=1e-10).y[:, 0]
    value = system.invariant(path, system.values)
    torch.testing.assert_close(value, value[:1].expand_as(value), rtol=1e-5, atol=1e-6)


def test_a_damped_pendulum_loses_energy() -> None:
    system = make_system("pendulum", damping=0.5)
    t = torch.linspace(0, 4, 9, dtype=torch.float64)
    path = solve(system.rate, torch.tensor([[2.0, 0.0]], dtype=torch.float64), t, rtol=1e-8, atol=1e-9).y[:, 0]
    assert bool((system.invariant(path, system.values).diff() < 0).all())


def test_the_drive_sees_each_samples_own_time() -> None:
    system = make_system("pendulum", drive=3.0)
    y = torch.zeros(4, 2, dtype=torch.float64)
    t = torch.linspace(0, 1, 4, dtype=torch.float64)
    together = system.rate(t[:, None], y)
    alone = torch.stack([system.rate(float(s), row) for s, row in zip(t, y, strict=True)])
    torch.testing.assert_close(together, alone)
    assert float(together[0, 1]) == 3.0


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_every_system_says_what_a_figure_needs(name: str) -> None:
    system = SYSTEMS[name]
    assert len(system.variables) == len(system.units) == len(system.start)
    assert system.duration > 0 and all(low < high for low, high in system.window)
    for parameter in system.parameters.values():
        assert parameter.low <= parameter.value <= parameter.high and parameter.long_name and parameter.units
    rate = system.rate(0.3, torch.tensor([system.start] * 3))
    assert rate.shape == (3, len(system.start)) and bool(rate.isfinite().all())


def test_mistakes_are_one_clear_sentence() -> None:
    with pytest.raises(ValueError, match=r"system must be one of .* Did you mean 'lorenz'\?"):
        make_system("lorentz")
    with pytest.raises(ValueError, match=r"mu must be from 0 to 1000 \(1\), got -1"):
        make_system("van_der_pol", mu=-1)
    with pytest.raises(ValueError, match="parameter must be one of 'sigma', 'rho', 'beta', got 'roh'"):
        make_system("lorenz", roh=3.0)


def test_parameters_change_a_copy() -> None:
    changed = make_system("lorenz", rho=1.0)
    assert changed.values["rho"] == 1.0 and SYSTEMS["lorenz"].values["rho"] == 28.0
    assert math.isclose(SYSTEMS["lorenz"].values["beta"], 8 / 3)
