import pytest
import torch

from sciviz.snn.neurons import lif
from sciviz.snn.normalization import fold_threshold, normalised_lif


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_folding_leaves_the_spikes():
    current = draw(8, 3, 200, 16)
    scale, shift = draw(3, 1, 16, seed=1).exp(), draw(3, 1, 16, seed=2)
    mean, var = draw(3, 1, 16, seed=3), draw(3, 1, 16, seed=4).exp()
    trace = normalised_lif(current, scale, shift, decay=0.7, mean=mean, var=var)
    folded = lif(current, decay=0.7, threshold=fold_threshold(scale, shift, mean, var), reset="zero")
    assert 0.05 < float(trace.spikes.mean()) < 0.95
    assert float((trace.spikes != folded.spikes).float().mean()) <= 1e-4


def test_statistics_are_those_of_the_membrane_over_batch_and_time():
    one = torch.ones(1, 2)
    trace = normalised_lif(draw(5, 40, 2), one, 0 * one, decay=0.5)
    flat = trace.membrane.flatten(0, 1)
    assert torch.allclose(trace.mean[0], flat.mean(0), atol=1e-6)
    assert torch.allclose(trace.var[0], flat.var(0, correction=0), atol=1e-5)


def test_training_mode_fires_equally_often_whatever_the_scale_of_the_input():
    one = torch.ones(1, 4)
    few, many = (normalised_lif(k * draw(6, 100, 4), one, 0 * one, decay=0.5, eps=1e-12).spikes for k in (0.125, 8.0))
    assert torch.equal(few, many) and 0.05 < float(few.mean()) < 0.5


def test_mistakes_are_named():
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="together"):
        normalised_lif(torch.ones(2, 3, 1), one, one, decay=0.5, mean=one)
    with pytest.raises(ValueError, match="scale must be positive"):
        fold_threshold(-one, one, one, one)
