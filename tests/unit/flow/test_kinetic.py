"""The separation function against brute force, the best schedule against its definition and against other schedules."""

import math

import numpy as np
import pytest
import torch

from sciviz.flow import figures
from sciviz.flow.experiments import kinetic_gap, kinetic_gap_claim, kinetic_paths
from sciviz.flow.schedules import (
    angle_grid,
    kinetic_energy,
    kinetic_optimal_schedule,
    opening,
    separation_function,
    standardise,
    straight_energy,
)
from sciviz.lab.theme import alt_text


@pytest.fixture(scope="module")
def cloud():
    generator = torch.Generator().manual_seed(0)
    return standardise(torch.randn(60, 3, generator=generator, dtype=torch.float64))


def as_function(angle, separation):
    return lambda s: torch.as_tensor(np.interp(torch.atan(s).numpy(), angle.numpy(), separation.numpy()))


def test_separation_against_the_definition(cloud):
    ratio = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    found = separation_function(cloud, ratio, num_draws=40, seed=1)
    generator = torch.Generator().manual_seed(2)
    for s, value in zip(ratio, found, strict=True):
        which = torch.randint(len(cloud), (20_000,), generator=generator)
        z = s * cloud[which] + torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
        weights = torch.softmax(-torch.cdist(z, s * cloud).square() / 2, dim=1)
        assert float(value) == pytest.approx(float((weights @ cloud).square().sum(1).mean() / 3), abs=0.02)


def test_separation_lies_between_linear_and_one(cloud):
    ratio = torch.linspace(0, 50, 30, dtype=torch.float64)
    found = separation_function(cloud, ratio, seed=0)
    assert bool((found >= ratio**2 / (1 + ratio**2) - 1e-12).all()) and bool((found <= 1 + 1e-12).all())
    assert float(found[0]) < 1e-9 and float(found[-1]) == pytest.approx(1, abs=1e-3)


def test_energies_agree_with_the_definition(cloud):
    angle = angle_grid(400)
    separation = separation_function(cloud, torch.tan(angle), num_draws=4, seed=0)
    known = as_function(angle, separation)
    t = torch.linspace(0, 1, 4001, dtype=torch.float64)
    assert float(straight_energy(angle, separation)) == pytest.approx(kinetic_energy(t, 1 - t, t, known), rel=2e-3)
    best = kinetic_optimal_schedule(angle, separation, 801)
    assert best.energy == pytest.approx(kinetic_energy(best.alpha, best.sigma, best.t, known), rel=5e-3)


def test_best_schedule_beats_its_neighbours_and_the_usual_ones(cloud):
    angle = angle_grid(400)
    separation = separation_function(cloud, torch.tan(angle), num_draws=4, seed=0)
    known = as_function(angle, separation)
    best = kinetic_optimal_schedule(angle, separation, 801)
    t = best.t
    others = [(t, 1 - t), (torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t))]
    bump = 0.05 * torch.sin(math.pi * t)
    others += [(best.alpha + sign * bump, best.sigma) for sign in (1, -1)]
    others += [(best.alpha, best.sigma + sign * bump) for sign in (1, -1)]
    for alpha, sigma in others:
        assert kinetic_energy(alpha, sigma, t, known) > best.energy


def test_velocity_energy_by_simulation(cloud):
    """E|u|² of the straight schedule at one time, from the velocity itself."""
    t = 0.4
    generator = torch.Generator().manual_seed(3)
    which = torch.randint(len(cloud), (40_000,), generator=generator)
    noise = torch.randn(40_000, 3, generator=generator, dtype=torch.float64)
    x = t * cloud[which] + (1 - t) * noise
    weights = torch.softmax(-torch.cdist(x, t * cloud).square() / (2 * (1 - t) ** 2), dim=1)
    guess = weights @ cloud
    u = guess - (x - t * guess) / (1 - t)
    ratio = torch.tensor([t / (1 - t)], dtype=torch.float64)
    separation = separation_function(cloud, ratio, num_draws=400, seed=4)
    expected = 2 - (1 - float(separation)) / (1 - t) ** 2
    assert float(u.square().sum(1).mean() / 3) == pytest.approx(expected, abs=0.01)


def test_limits():
    angle = angle_grid(300)
    assert float(opening(angle, torch.ones_like(angle)).min()) == 1
    with pytest.raises(ValueError, match="Gaussian"):
        kinetic_optimal_schedule(angle, torch.sin(angle) ** 2)
    with pytest.raises(ValueError, match="different"):
        standardise(torch.ones(3, 2))


def test_claim_holds_and_can_fail():
    ds = kinetic_gap(seed=1, num_seeds=3, num_samples=(100, 100), dimensions=(2, 2000), num_angles=60)
    assert kinetic_gap_claim(ds).holds
    flat = ds.copy(deep=True)
    flat["gap"] = ds.gap * 0 + 0.3
    assert kinetic_gap_claim(flat).holds is False
    assert kinetic_gap_claim(kinetic_gap(seed=1, num_samples=(9, 9), dimensions=(2, 4), num_angles=10)).holds is None


def test_noise_is_not_a_copy_of_the_points():
    """Points and noise from one seed once made every point its own noise, and the gap four times too small."""
    gaps = kinetic_gap(seed=0, num_seeds=4, num_samples=(200,), dimensions=(4,), num_angles=60).gap.values
    assert gaps.min() > 1.5 and gaps.max() < 2.5


def test_figures():
    assert "energy" in alt_text(
        figures.plot_separation(
            kinetic_gap(seed=0, num_seeds=2, num_samples=(20,) * 3, dimensions=(2, 20, 200), num_angles=20)
        )
    )
    assert "dashed" in alt_text(figures.plot_kinetic_paths(kinetic_paths(seed=0, dimensions=(2, 50), num_samples=20)))
