"""What is known exactly: Gaussians, likelihoods, marginals, reversal, measures."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate as quadrature

from sciviz.flow import (
    COSTS,
    ExactFields,
    GaussianMixture,
    VelocityField,
    curvature,
    energy_distance,
    expected_velocity,
    frechet_distance,
    independent_cost,
    integrate,
    kernel_two_sample,
    log_likelihood,
    make_interpolant,
    nearest_neighbour_check,
    optimal_cost,
    optimal_map,
    rectified_straightness,
    ring_of_gaussians,
    sample_sde,
    sliced_wasserstein,
    straight,
    straightness,
    transport_cost,
    wasserstein,
)

FLOAT = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(mean: list[float], stds: list[float]) -> GaussianMixture:
    return GaussianMixture.single(torch.tensor(mean, dtype=FLOAT), torch.diag(torch.tensor(stds, dtype=FLOAT) ** 2))


ONE, OTHER = gaussian([0.0, 1.0], [1.0, 0.5]), gaussian([2.0, -1.0], [0.7, 1.5])


def test_velocity_between_gaussians_is_the_closed_form() -> None:
    x = torch.randn(20, 2, generator=generator(), dtype=FLOAT)
    s0, s1 = (g.covariances[0].diagonal().sqrt() for g in (ONE, OTHER))
    for t in (0.0, 0.3, 1.0):
        mean = (1 - t) * ONE.means[0] + t * OTHER.means[0]
        variance = (1 - t) ** 2 * s0**2 + t**2 * s1**2
        rate = (-(1 - t) * s0**2 + t * s1**2) / variance
        expected = OTHER.means[0] - ONE.means[0] + rate * (x - mean)
        fields = ExactFields(ONE, OTHER, straight()).fields(torch.tensor(t), x)
        torch.testing.assert_close(fields.velocity, expected)
        torch.testing.assert_close(fields.score, -(x - mean) / variance)


def test_flow_between_gaussians_is_the_closed_form_map_and_as_straight_as_said() -> None:
    fields = ExactFields(ONE, OTHER, straight())
    x = ONE.sample(40_000, generator(1))
    end = integrate(fields.velocity, x[:100], rtol=1e-9, atol=1e-9)[-1]
    matrix, shift = optimal_map(ONE, OTHER)
    # With parallel axes the rectified flow is the optimal map.
    torch.testing.assert_close(end, x[:100] @ matrix.T + shift, atol=1e-6, rtol=0)
    stds = [g.covariances[0].diagonal().sqrt() for g in (ONE, OTHER)]
    exact = float(rectified_straightness(*stds))
    assert abs(float(straightness(fields.velocity, x, num_steps=40)) / exact - 1) < 0.02
    by_hand = 0.0
    for a, b in zip(*(s.tolist() for s in stds), strict=True):
        rate = lambda t, a=a, b=b: (-(1 - t) * a**2 + t * b**2) / math.hypot((1 - t) * a, t * b)  # noqa: E731
        by_hand += quadrature.quad(lambda t, a=a, b=b, rate=rate: (b - a - rate(t)) ** 2, 0, 1)[0]
    assert exact == pytest.approx(by_hand, rel=1e-9)


def test_costs_of_gaussians() -> None:
    x, y = ONE.sample(60_000, generator(2)), OTHER.sample(60_000, generator(3))
    assert float(transport_cost(x, y)) == pytest.approx(float(independent_cost(ONE, OTHER)), rel=0.02)
    matrix, shift = optimal_map(ONE, OTHER)
    assert float(transport_cost(x, x @ matrix.T + shift)) == pytest.approx(float(optimal_cost(ONE, OTHER)), rel=0.02)
    tilted = GaussianMixture.single(torch.zeros(2, dtype=FLOAT), torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=FLOAT))
    pushed = matrix_of(optimal_map(ONE, tilted), ONE)
    torch.testing.assert_close(pushed, tilted.covariances[0])
    assert float(optimal_cost(tilted, tilted)) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="mixture of 8"):
        optimal_cost(ring_of_gaussians(8), ring_of_gaussians(8))


def matrix_of(transport: tuple[torch.Tensor, torch.Tensor], source: GaussianMixture) -> torch.Tensor:
    matrix, _ = transport
    return matrix @ source.covariances[0] @ matrix.T


@pytest.mark.parametrize("name", ["straight", "trigonometric"])
@pytest.mark.parametrize("latent", [0.0, 1.0])
def test_exact_fields_are_conditional_means_and_gradients(name: str, latent: float) -> None:
    interpolant = make_interpolant(name, latent)
    source = GaussianMixture.isotropic(torch.tensor([[-1.0], [1.0]], dtype=FLOAT), 0.5)
    target = GaussianMixture.isotropic(torch.tensor([[-2.0], [0.5]], dtype=FLOAT), 0.4)
    fields, t = ExactFields(source, target, interpolant), torch.tensor(0.4, dtype=FLOAT)
    g = generator(4)
    x0, x1 = source.sample(400_000, g), target.sample(400_000, g)
    z = torch.randn(x0.shape, generator=g, dtype=FLOAT)
    x, rate = interpolant.point(t, x0, x1, z), interpolant.rate(t, x0, x1, z)
    for place in (-1.0, 0.0, 0.6):
        near = (x - place).abs()[:, 0] < 0.02
        mean, error = float(rate[near].mean()), float(rate[near].std() / near.sum().sqrt())
        exact = fields.fields(t, torch.tensor([[place]], dtype=FLOAT))
        assert abs(mean - float(exact.velocity)) < 4 * error + 0.01
        law = fields.marginal(0.4)
        low, high = (law.log_prob(torch.tensor([place + h], dtype=FLOAT)) for h in (-1e-5, 1e-5))
        slope = (high - low) / 2e-5
        assert float(exact.score) == pytest.approx(float(slope), rel=1e-3, abs=1e-4)


def test_many_times_in_one_call_are_the_times_one_by_one() -> None:
    fields = ExactFields(ring_of_gaussians(3), ring_of_gaussians(5), straight(0.5))
    x, t = torch.randn(6, 2, generator=generator()), torch.linspace(0.1, 0.9, 6)
    together = fields.fields(t[:, None], x)
    for row in range(6):
        alone = fields.fields(t[row], x[row : row + 1])
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[row], other[0], atol=1e-4, rtol=1e-4)


def test_marginals_on_the_way_are_those_of_the_interpolant() -> None:
    fields = ExactFields(
        ONE, GaussianMixture.isotropic(torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=FLOAT), 0.5), straight()
    )
    g = generator(5)
    path = integrate(fields.velocity, ONE.sample(2000, g), torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=FLOAT))
    for time, points in zip((0.3, 0.7, 1.0), path[1:], strict=True):
        law = fields.marginal(time)
        floor = np.mean([float(sliced_wasserstein(law.sample(2000, g), law.sample(2000, g), seed=0)) for _ in range(8)])
        assert float(sliced_wasserstein(points, law.sample(2000, g), seed=0)) < 2.5 * floor


def test_reversed_flow_returns_the_start() -> None:
    network = VelocityField(2, width=16, depth=2, seed=0).double()
    x = torch.randn(20, 2, generator=generator(), dtype=FLOAT)
    there = integrate(network, x, rtol=1e-8, atol=1e-8)[-1]
    back = integrate(network, there, torch.tensor([1.0, 0.0], dtype=FLOAT), rtol=1e-8, atol=1e-8)[-1]
    assert float((back - x).abs().max()) < 1e-6
    assert float((there - x).abs().max()) > 0.01


def test_likelihood_of_a_gaussian_flow_is_the_targets() -> None:
    fields = ExactFields(ONE, OTHER, straight())
    x = OTHER.sample(50, generator(6))
    found = log_likelihood(fields.velocity, x, ONE.log_prob, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found, OTHER.log_prob(x), atol=1e-5, rtol=0)


def test_likelihood_of_any_network_integrates_to_one() -> None:
    network = VelocityField(2, width=32, depth=2, seed=1).double()
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(2.0)
    source = gaussian([0.0, 0.0], [1.0, 1.0])
    line = torch.linspace(-8, 8, 101, dtype=FLOAT)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)
    density = log_likelihood(network, grid, source.log_prob, rtol=1e-5, atol=1e-5).exp()
    assert float(density.sum() * (line[1] - line[0]) ** 2) == pytest.approx(1.0, abs=2e-3)
    assert float((density - source.log_prob(grid).exp()).abs().max()) > 0.01


def test_sde_and_flow_end_at_the_same_law() -> None:
    fields = ExactFields(ONE, OTHER, straight(1.0))
    g = generator(7)
    x = ONE.sample(4000, g)
    for epsilon in (0.0, 1.0):
        end = sample_sde(fields.velocity, fields.score, x, epsilon=epsilon, num_steps=60, seed=0)
        torch.testing.assert_close(end.mean(0), OTHER.means[0], atol=0.1, rtol=0)
        torch.testing.assert_close(end.std(0), OTHER.covariances[0].diagonal().sqrt(), atol=0.1, rtol=0)
    again = [sample_sde(fields.velocity, fields.score, x, epsilon=1.0, num_steps=5, seed=s) for s in (0, 0, 1)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


def test_any_grid_of_times_is_the_same_as_its_steps_by_hand() -> None:
    times = torch.tensor([0.0, 0.1, 0.45, 1.0], dtype=FLOAT)
    x = torch.ones(1, 1, dtype=FLOAT)
    path = integrate(lambda t, y: y * t, x, times, method="euler")
    by_hand = 1.0
    for start, end in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        by_hand += (end - start) * by_hand * start
    assert float(path[-1]) == pytest.approx(by_hand)


def test_the_velocity_at_a_crossing_is_the_mean_and_far_from_it_the_lines_own() -> None:
    x0 = torch.tensor([[-1.0, -1.0], [-1.0, 1.0]], dtype=FLOAT)
    x1 = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=FLOAT)
    middle = expected_velocity(x0, x1, 0.5, torch.zeros(1, 2, dtype=FLOAT))
    torch.testing.assert_close(middle, torch.tensor([[2.0, 0.0]], dtype=FLOAT))
    early = expected_velocity(x0, x1, 0.0, x0)
    torch.testing.assert_close(early, x1 - x0, atol=1e-9, rtol=0)


@given(st.integers(0, 1000), st.integers(2, 30), st.integers(2, 30))
def test_wasserstein_is_pots(seed: int, n: int, m: int) -> None:
    x, y = torch.randn(n, 2, generator=generator(seed)), torch.randn(m, 2, generator=generator(seed + 1)) + 1
    expected = ot.emd2([], [], ot.dist(x.double().numpy(), y.double().numpy())) ** 0.5
    assert wasserstein(x, y) == pytest.approx(float(expected), rel=1e-6)


def test_distances_see_a_shift_and_not_a_resampling() -> None:
    x, y = torch.randn(2, 400, 3, generator=generator(8)).unbind(0)
    for measure in (lambda a, b: energy_distance(a, b), lambda a, b: sliced_wasserstein(a, b, seed=0)):
        assert float(measure(x, y + 1)) > 5 * abs(float(measure(x, y)))
    assert kernel_two_sample(x, y, seed=0).p_value > 0.05
    assert kernel_two_sample(x, y + 0.5, seed=0).p_value < 0.02
    peer = ot.sliced_wasserstein_distance(x.double().numpy(), (y + 1).double().numpy(), n_projections=2000, seed=0)
    assert float(sliced_wasserstein(x, y + 1, num_projections=2000, seed=1)) == pytest.approx(float(peer), rel=0.05)
    assert float(sliced_wasserstein(x[None], y[None], seed=0)[0]) == pytest.approx(
        float(sliced_wasserstein(x, y, seed=0))
    )


def test_p_values_are_uniform_where_nothing_differs() -> None:
    values = []
    for seed in range(40):
        x, y = torch.randn(2, 30, 2, generator=generator(100 + seed)).unbind(0)
        values.append(kernel_two_sample(x, y, seed=seed, num_permutations=99).p_value)
    assert 0.3 < float(np.mean(values)) < 0.7


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_convex(name: str) -> None:
    a, b = torch.randn(2, 200, 3, generator=generator(9)).unbind(0)
    middle = COSTS[name]((a + b) / 2)
    assert bool((middle <= (COSTS[name](a) + COSTS[name](b)) / 2 + 1e-6).all())


def test_straight_paths_bend_nowhere() -> None:
    line = torch.linspace(0, 1, 9)[:, None, None] * torch.ones(1, 3, 2)
    assert float(curvature(line).abs().max()) < 1e-3
    assert float(curvature(torch.zeros(5, 2, 2)).max()) == 0.0


def test_frechet_distance_and_memorisation() -> None:
    x = torch.randn(300, 4, generator=generator(10))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-6)
    one, other = (
        torch.randn(50_000, 1, generator=generator(11)),
        1 + 2 * torch.randn(50_000, 1, generator=generator(12)),
    )
    assert frechet_distance(one, other) == pytest.approx(2.0, rel=0.05)
    fresh, train, more = torch.randn(3, 200, 2, generator=generator(13)).unbind(0)
    assert nearest_neighbour_check(train + 1e-4, train, fresh).share > 0.9
    assert nearest_neighbour_check(more, train, fresh).share < 0.2


def test_mixture_samples_have_the_mixtures_moments() -> None:
    mixture = ring_of_gaussians(8, radius=2.0, std=0.1)
    x = mixture.sample(20_000, generator(14))
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), (2 + 0.01) * torch.eye(2), atol=0.06, rtol=0)
    assert bool((mixture.responsibilities(mixture.means).argmax(1) == torch.arange(8)).all())
