"""The fitted solver: the plain rule at its start, exact under any change of clock, better after the fit."""

import math

import pytest
import torch

from sciviz.flow import figures
from sciviz.flow.bespoke import BespokeMidpoint, endpoint_error, fit_bespoke
from sciviz.flow.experiments import bespoke_solvers, bespoke_solvers_claim
from sciviz.flow.sampling import transport
from sciviz.lab.theme import alt_text


def swirl(t, x):
    turned = torch.stack([-x[..., 1], x[..., 0]], dim=-1)
    return (3 * t + 1) * turned - x * torch.tanh(2 * t)


def test_starts_as_the_midpoint_rule():
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = BespokeMidpoint(6).double()(swirl, x)
    torch.testing.assert_close(ours, transport(swirl, x, num_steps=6, method="midpoint"))


def smooth_change(num_steps):
    """Give a solver the clock t = (r + r²)/2 and the scale exp(sin r), whose rates are known."""
    solver = BespokeMidpoint(num_steps).double()
    r = torch.linspace(0, 1, 2 * num_steps + 1, dtype=torch.float64)
    with torch.no_grad():
        solver.time_logits.copy_(((r + r**2) / 2).diff().log())
        solver.time_rate_logs.copy_((0.5 + r[:-1]).log())
        solver.scale_logs.copy_(torch.sin(r[1:]))
        solver.scale_rates.copy_(torch.cos(r[:-1]) * torch.exp(torch.sin(r[:-1])))
    return solver


def test_a_change_of_time_and_scale_keeps_the_solution_and_the_order():
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = transport(swirl, x, num_steps=400, method="rk4")
    errors = [float(endpoint_error(smooth_change(n)(swirl, x), exact).detach()) for n in (40, 80)]
    assert errors[1] < 1e-2
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


def test_members_are_solved_like_one():
    together = BespokeMidpoint(3, members=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in together.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(2, 4, 2, generator=generator)
    ends = together(swirl, x)
    for member in range(2):
        alone = BespokeMidpoint(3)
        with torch.no_grad():
            for mine, theirs in zip(alone.parameters(), together.parameters(), strict=True):
                mine.copy_(theirs[member])
        torch.testing.assert_close(ends[member], alone(swirl, x[member]), rtol=1e-5, atol=1e-6)


def test_fit_halves_the_error_on_fresh_starts():
    generator = torch.Generator().manual_seed(0)
    starts, fresh = (torch.randn(256, 2, generator=generator) for _ in range(2))
    solver = BespokeMidpoint(4)
    exact = transport(swirl, starts, num_steps=60, method="rk4")
    fit_bespoke(solver, swirl, starts, exact, num_steps=200, seed=0)
    solver.requires_grad_(False)
    truth = transport(swirl, fresh, num_steps=60, method="rk4")
    plain = endpoint_error(transport(swirl, fresh, num_steps=4, method="midpoint"), truth)
    assert float(endpoint_error(solver(swirl, fresh), truth)) < 0.5 * float(plain)


def test_clock_stays_monotone_and_ends_at_one():
    solver = BespokeMidpoint(4)
    with torch.no_grad():
        solver.time_logits.copy_(torch.tensor([3.0, -4.0, 1.0, 0.0, 2.0, -1.0, 0.5, 0.0]))
    times, scales = solver.grid()
    assert bool((times.diff() > 0).all()) and float(times[-1]) == pytest.approx(1, abs=1e-6)
    assert float(scales[0]) == 1


def test_claim_and_figure():
    ds = bespoke_solvers(seed=0, num_seeds=3, velocity=swirl, fit_steps=150, num_fit=128, num_test=64)
    assert bespoke_solvers_claim(ds).holds
    worse = ds.copy(deep=True)
    worse["error"].loc[{"solver": "bespoke"}] = ds.error.sel(solver="midpoint") * 0.9
    assert bespoke_solvers_claim(worse).holds is False
    ds.attrs["num_parameters"] = 81
    assert bespoke_solvers_claim(ds).holds is False
    assert "RK4" in alt_text(figures.plot_bespoke(ds))


def test_bad_input():
    with pytest.raises(ValueError, match="num_steps"):
        BespokeMidpoint(0)
    with pytest.raises(ValueError, match="same shape"):
        endpoint_error(torch.zeros(2, 2), torch.zeros(3, 2))
