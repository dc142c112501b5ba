"""Noise levels, ancestral sampling with an exact denoiser, and the filter on made-up and on learnt samples."""

import pytest
import torch

from sciviz.flow import figures
from sciviz.flow.experiments import mode_interpolation_claim, samples_between_modes
from sciviz.flow.hallucination import (
    Denoiser,
    keep_steady,
    log_noise,
    mode_distance,
    noise_levels,
    sample_diffusion,
    trajectory_variance,
)
from sciviz.lab.theme import alt_text

MODES = torch.tensor([[-1.0], [0.0], [1.0]])


def exact_noise(std):
    """The noise that an ideal denoiser predicts for three narrow modes."""

    def predict(told, x):
        odds = torch.exp(10 * told.double())
        level = 1 / (1 + odds)
        spread2 = level * std**2 + 1 - level
        gap = x.double() - level.sqrt() * MODES.double().T
        weights = torch.softmax(-(gap**2) / (2 * spread2), dim=-1)
        score = -(weights * gap).sum(-1, keepdim=True) / spread2
        return (-(1 - level).sqrt() * score).float()

    return predict


def test_levels():
    levels = noise_levels()
    assert bool((levels.diff() < 0).all())
    # log √((1−ᾱ)/ᾱ)/5 can be turned back.
    odds = torch.exp(10 * log_noise(levels))
    torch.testing.assert_close(1 / (1 + odds), levels)
    assert float(noise_levels(100)[-1]) < 1e-3


def test_an_exact_denoiser_leaves_nothing_between_the_modes():
    result = sample_diffusion(exact_noise(0.05), (2000, 1), levels=noise_levels(), seed=0)
    distance, which = mode_distance(result.samples, MODES)
    assert float((distance > 0.25).float().mean()) == 0
    assert float(distance.square().mean().sqrt()) == pytest.approx(0.05, rel=0.1)
    assert bool((torch.bincount(which) > 550).all())
    torch.testing.assert_close(result.predicted[-1], result.samples, atol=1e-4, rtol=0)


def test_trajectory_variance_looks_at_its_window_only():
    predicted = torch.zeros(100, 2, 1)
    predicted[:50:2, 0] = 5.0
    predicted[95::2, 1] = 1.0
    assert trajectory_variance(predicted).tolist() == pytest.approx([0.0, 0.24])
    assert trajectory_variance(predicted, 0.0, 0.5)[0] > 6
    with pytest.raises(ValueError, match="two"):
        trajectory_variance(predicted, 0.99, 1.0)


def test_filter():
    variance = torch.cat([torch.linspace(0, 1, 200), torch.tensor([0.05, 2.0, 3.0, 4.0])])
    bad = torch.arange(204) >= 200
    result = keep_steady(variance, bad)
    assert result.removed == 0.75 and result.kept == pytest.approx(0.9, abs=0.02)
    with pytest.raises(ValueError, match="bad"):
        keep_steady(variance, torch.zeros(204, dtype=torch.bool))


def test_denoiser_gradient_by_hand():
    network = Denoiser(1, width=8, depth=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    told, x, noise = (torch.randn(16, 1, generator=generator) for _ in range(3))
    loss = (network(told, x) - noise).square().mean()
    by_autograd = torch.autograd.grad(loss, list(network.parameters()))
    network.write_gradient(network.inputs(told, x), noise)
    for parameter, gradient in zip(network.parameters(), by_autograd, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def learnt():
    return samples_between_modes(seed=0, num_seeds=3, train_steps=1500, num_samples=1500)


def test_a_learnt_denoiser_puts_samples_between_and_the_late_window_finds_them(learnt):
    assert int(learnt.between.sum()) >= 30
    assert mode_interpolation_claim(learnt).holds
    middle = learnt.sel(window="middle")
    assert float(middle.removed.mean()) < 0.5, "earlier windows tell little"


def test_claim_can_fail_and_be_undecided(learnt):
    swapped = learnt.assign_coords(window=["last twentieth", "middle", "late", "first half"])
    assert mode_interpolation_claim(swapped).holds is False
    assert mode_interpolation_claim(learnt.isel(seed=[0])).holds is None


def test_figure(learnt):
    assert "median" in alt_text(figures.plot_between_modes(learnt))
