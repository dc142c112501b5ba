"""Costs and conjugates, gradients by hand, exact rectification of Gaussians, and learnt potentials on clouds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.flow import figures
from sciviz.flow.experiments import (
    c_rectified_clouds,
    c_rectified_clouds_claim,
    c_rectified_clusters_claim,
    gaussian_rectification,
    gaussian_rectification_claim,
)
from sciviz.flow.gaussian import GaussianMixture, optimal_cost
from sciviz.flow.potentials import PotentialField, PowerCost, potential_loss, rectify_linear, symmetric_velocity
from sciviz.lab.theme import alt_text


@given(power=st.floats(1.2, 3.0), seed=st.integers(0, 1000))
def test_fenchel_young(power, seed):
    generator = torch.Generator().manual_seed(seed)
    cost = PowerCost(power)
    v, y = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64)
    assert bool((potential_loss(v, y, cost) >= -1e-9).all())
    torch.testing.assert_close(potential_loss(v, cost.gradient(v), cost), torch.zeros(6).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(cost.conjugate_gradient(cost.gradient(v)), v, rtol=1e-4, atol=1e-5)


def test_conjugate_gradient_is_the_derivative_of_the_conjugate():
    cost = PowerCost(1.5)
    y = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cost.conjugate(y).sum(), y)
    torch.testing.assert_close(slope, cost.conjugate_gradient(y).detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("members", [None, 3])
def test_gradient_by_hand(members):
    field = PotentialField(2, cost=PowerCost(2.0), width=16, depth=3, members=members, seed=0)
    shape = (7, 2) if members is None else (members, 7, 2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    t = torch.rand(*shape[:-1], 1, generator=torch.Generator().manual_seed(2))
    (slope,) = torch.autograd.grad(field.potential(t, x).sum(), x)
    torch.testing.assert_close(field.gradient(t, x), slope, rtol=1e-5, atol=1e-6)


def test_symmetric_velocity_is_the_best_symmetric_fit():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    rate = X @ torch.randn(3, 3, generator=generator, dtype=torch.float64).T
    covariance, mix = X.T @ X / 500, rate.T @ X / 500
    S = symmetric_velocity(mix, covariance)
    torch.testing.assert_close(S, S.T)
    best = (rate - X @ S).square().sum()
    for _ in range(10):
        bump = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        assert (rate - X @ (S + 0.01 * (bump + bump.T))).square().sum() > best


def test_gaussians_keep_their_law_and_reach_the_least_cost():
    angle = torch.tensor(1.8).double()
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    start = torch.tensor([[1.8, 0.3], [0.3, 0.6]]).double() @ turn
    rounds = rectify_linear(start, rounds=4)
    law = start @ start.T
    for one in rounds.maps:
        torch.testing.assert_close(one @ one.T, law, rtol=1e-4, atol=1e-5)
    costs = rounds.cost()
    assert bool((costs.diff() < 1e-9).all()), "the cost never rises"
    eye = torch.eye(2).double()
    least = optimal_cost(
        GaussianMixture.single(torch.zeros(2).double(), eye), GaussianMixture.single(torch.zeros(2).double(), law)
    )
    assert float(costs[-1]) == pytest.approx(float(least), rel=1e-4)
    free = rectify_linear(start, gradient=False, rounds=2)
    torch.testing.assert_close(free.maps[-1], start, rtol=1e-4, atol=1e-5)


def test_gaussian_claim_and_figure():
    ds = gaussian_rectification(seed=4, num_seeds=3)
    assert gaussian_rectification_claim(ds).holds
    assert gaussian_rectification_claim(ds.isel(round=slice(1))).holds is False
    assert "least" in alt_text(figures.plot_gaussian_rectification(ds))


@pytest.fixture(scope="module")
def clouds():
    return c_rectified_clouds(seed=0, num_seeds=3, train_steps=400, num_pairs=6144, num_test=1024, num_exact=256)


def test_clouds_reach_the_optimum_between_their_own_ends(clouds):
    assert float(clouds.ratio.isel(round=0).min()) > 1.5
    assert float(clouds.ratio.isel(round=-1).max()) < 1.05
    assert bool((clouds.cost.isel(round=-1) < clouds.cost.isel(round=0)).all())


def test_clouds_claim_can_fail(clouds):
    assert c_rectified_clouds_claim(clouds.isel(seed=[0])).holds is None
    rising = clouds.copy(deep=True)
    rising["cost"][:, 2] = clouds.cost[:, 1] * 1.05
    assert c_rectified_clouds_claim(rising).holds is False
    away = clouds.copy(deep=True)
    away["stray"] = clouds.stray * 0 + 0.2
    assert c_rectified_clusters_claim(away).holds is False


def test_clouds_figure_and_own_data(clouds):
    assert "pairing" in alt_text(figures.plot_c_rectified(clouds))
    points = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    sizes = {"num_seeds": 1, "train_steps": 3, "num_pairs": 96, "num_test": 32, "num_exact": 16, "width": 8}
    ds = c_rectified_clouds(seed=0, data=(points, points + 3), rounds=1, **sizes)
    assert float(ds.cost[0, 0]) > 5
    with pytest.raises(ValueError, match="power"):
        PowerCost(1.0)
