"""Encodings, plasticity, energy and the timing task against what they promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciviz.snn.encodings import (
    decode_delta,
    encode,
    encode_delta,
    encode_latency,
    encode_population,
    encode_rate,
)
from sciviz.snn.energy import EnergyModel, count_operations
from sciviz.snn.neurons import lif
from sciviz.snn.plasticity import Stdp, bounded, reward_modulated
from sciviz.snn.tasks import make_timing


def test_rates_are_probabilities_and_seeds_repeat():
    X = torch.tensor([0.0, 0.25, 0.8, 1.0])
    spikes = encode_rate(X, 20_000, seed=3)
    torch.testing.assert_close(spikes.mean(0), X, atol=0.015, rtol=0)
    assert torch.equal(spikes, encode_rate(X, 20_000, seed=3))
    assert not torch.equal(spikes, encode_rate(X, 20_000, seed=4))


@settings(max_examples=30, deadline=None)
@given(x=st.floats(0.06, 1.0), y=st.floats(0.06, 1.0))
def test_larger_numbers_never_spike_later(x, y):
    for tau in (None, 8.0):
        spikes = encode_latency(torch.tensor([x, y]), 40, tau=tau)
        assert spikes.sum(0).tolist() == [1.0, 1.0]
        first = spikes.argmax(0)
        assert first[0] <= first[1] if x >= y else first[0] >= first[1]


def test_latency_with_a_time_constant_is_when_a_membrane_would_fire():
    X, theta, tau = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64), 0.2, 30.0
    when = encode_latency(X, 100, threshold=theta, tau=tau).argmax(0)
    decay = math.exp(-1 / tau)
    fired = lif((X * (1 - decay)).expand(100, 3), decay=decay, threshold=theta).spikes.argmax(0)
    assert ((fired + 1 - when).abs() <= 1).all()


def test_populations_share_a_number():
    shared = encode_population(torch.linspace(0, 1, 5), 9)
    assert shared.argmax(-1).tolist() == [0, 2, 4, 6, 8]
    assert float(shared.max()) == pytest.approx(1.0)


def test_delta_codes_stay_within_a_threshold_and_are_silent_at_rest():
    t = torch.linspace(0, 6, 400, dtype=torch.float64)
    signal = torch.sin(t)[:, None]
    spikes = encode_delta(signal, threshold=0.05)
    decoded = decode_delta(spikes, threshold=0.05, start=signal[0])
    assert float((decoded - signal).abs().max()) < 0.05
    assert encode_delta(torch.ones(50, 2), threshold=0.1).sum() == 0


def test_numbers_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\]"):
        encode_rate(torch.tensor([1.5]), 3, seed=0)
    with pytest.raises(ValueError, match="encoding must be one of"):
        encode(torch.zeros(1, 2), 3, encoding="rates")
    with pytest.raises(ValueError, match="threshold must lie between"):
        encode_latency(torch.zeros(2), 3, threshold=0.0)


def _all_pairs(rule: Stdp, pre: torch.Tensor, post: torch.Tensor) -> torch.Tensor:
    """Sum the window over all pairs, one at a time."""
    total = torch.zeros(post.shape[1], pre.shape[1], dtype=pre.dtype)
    for o in range(post.shape[1]):
        for i in range(pre.shape[1]):
            for t_post in post[:, o].nonzero():
                for t_pre in pre[:, i].nonzero():
                    total[o, i] += rule.window((t_post - t_pre).to(pre.dtype) * rule.dt).squeeze()
    return total


def test_traces_sum_over_all_pairs():
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand(80, 3, generator=generator, dtype=torch.float64) < 0.1).double()
    post = (torch.rand(80, 2, generator=generator, dtype=torch.float64) < 0.1).double()
    rule = Stdp(tau_potentiation=15.0, tau_depression=30.0, dt=0.5)
    expected = _all_pairs(rule, pre, post)
    torch.testing.assert_close(rule.update(pre, post), expected)
    torch.testing.assert_close(rule.changes(pre, post).sum(0), expected)


def test_a_batch_is_learnt_sample_by_sample():
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand(40, 4, 3, generator=generator) < 0.2).float()
    post = (torch.rand(40, 4, 2, generator=generator) < 0.2).float()
    each = torch.stack([Stdp().update(pre[:, n], post[:, n]) for n in range(4)])
    torch.testing.assert_close(Stdp().update(pre, post), each)


def test_reward_decides_the_sign_and_fades():
    pre, post = torch.zeros(300, 1), torch.zeros(300, 1)
    pre[5] = post[8] = 1
    changes = []
    for when, size in ((20, 1.0), (20, -1.0), (120, 1.0)):
        reward = torch.zeros(300)
        reward[when] = size
        changes.append(float(reward_modulated(Stdp(), pre, post, reward, tau_eligibility=50.0).change))
    assert changes[0] > 0
    assert changes[1] == pytest.approx(-changes[0])
    assert changes[2] / changes[0] == pytest.approx(math.exp(-100 / 50), rel=1e-4)
    assert float(reward_modulated(Stdp(), pre, post, torch.zeros(300)).change) == 0


def test_bounds_hold():
    weight = torch.rand(100, generator=torch.Generator().manual_seed(0))
    change = torch.randn(100, generator=torch.Generator().manual_seed(1))
    for soft in (True, False):
        after = bounded(weight, change, soft=soft)
        assert (after >= 0).all()
        assert (after <= 1).all()
        assert ((after - weight) * change >= 0).all()


def test_operations_are_counted_by_hand():
    first, hidden = torch.zeros(4, 2, 3), torch.zeros(4, 2, 5)
    first[0, :, 0] = 1  # one spike a sample
    hidden[1, 0, :2] = 1  # two spikes in one of two samples
    ops = count_operations([first, hidden], num_outputs=7)
    assert ops.spikes == 1 + 1
    assert ops.synaptic == 1 * 5 + 1 * 7
    assert ops.membrane == 4 * (5 + 7)
    assert ops.dense == 3 * 5 + 5 * 7
    assert ops.input == 0
    analogue = count_operations([first, hidden], num_outputs=7, analogue_input=True)
    assert analogue.input == 4 * 3 * 5
    assert analogue.synaptic == 7
    model = EnergyModel(multiply_add=2.0, add=1.0)
    assert ops.energy(model, membranes=False) == pytest.approx(12 / 1000)
    assert ops.energy(model) == pytest.approx((12 + 48 * 2) / 1000)
    assert ops.dense_energy(model) == pytest.approx(50 * 2 / 1000)


def test_the_timing_tasks_class_is_in_no_count_and_no_absolute_time():
    task = make_timing(4000, seed=0, num_classes=4, shift=8)
    assert (task.X.sum(0) == 1).all()
    # Over all samples of a class each channel's spikes are spread over shifts.
    by_class = torch.stack([task.X[:, task.y == k].sum((1, 2)) for k in range(4)])
    torch.testing.assert_close(
        by_class / by_class.sum(1, keepdim=True), by_class[:1].expand(4, -1) / 4000, atol=0.02, rtol=0
    )
    # No two channels of a sample come closer than a slot less its jitter.
    when = task.X.argmax(0).sort(-1).values
    assert (when.diff(dim=-1) >= 8 - 2).all()


def test_the_timing_tasks_class_is_the_order():
    task = make_timing(50, seed=0, num_classes=6, num_channels=3)
    order = task.X.argmax(0).argsort(-1).argsort(-1)
    assert torch.equal(order, task.slots[task.y])
    assert len({tuple(row.tolist()) for row in task.slots}) == 6
    assert torch.equal(task.slots, make_timing(10, seed=9, num_classes=6, num_channels=3).slots)


def test_impossible_timing_tasks_are_refused():
    with pytest.raises(ValueError, match="num_classes must be at most 2"):
        make_timing(5, seed=0, num_channels=2, num_classes=3)
    with pytest.raises(ValueError, match="jitter must be less than half a slot"):
        make_timing(5, seed=0, slot=4, jitter=2)
