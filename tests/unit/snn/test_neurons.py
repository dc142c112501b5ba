"""Recurrences: single step against whole sequence, hand-written gradients, closed forms, silence and saturation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciviz.snn import neurons
from sciviz.snn.neurons import (
    RESETS,
    adaptive_lif,
    adaptive_lif_step,
    decay_of,
    exponential_filter,
    lif,
    lif_step,
)
from sciviz.snn.surrogates import KINDS, Surrogate

CASES = list(itertools.product(RESETS, (True, False), (True, False)))


def _random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _by_steps(current, held, **how):
    spikes, membranes = [], []
    for now in current:
        s, u, held = lif_step(now, held, **how)
        spikes.append(s)
        membranes.append(u)
    return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(40, 1), (7, 3, 65), (100, 2, 3, 17)])
def test_both_forms_agree_bit_for_bit(reset, dtype, shape):
    current = _random(*shape, dtype=dtype) * 0.8
    how = {"decay": 0.93, "threshold": 1.2, "reset": reset}
    spikes, membrane = lif(current, **how)
    one_by_one = _by_steps(current, None, **how)
    assert torch.equal(spikes, one_by_one[0])
    assert torch.equal(membrane, one_by_one[1])
    assert 0 < spikes.sum() < spikes.numel()


def test_both_forms_agree_bit_for_bit_where_memory_is_strided():
    current = (_random(5, 33, 60, dtype=torch.float32) * 0.8).permute(2, 0, 1)
    assert not current[0].is_contiguous()
    assert torch.equal(lif(current, decay=0.9).membrane, _by_steps(current, None, decay=0.9)[1])
    constant = (_random(1, 4, 9, dtype=torch.float32) * 0.3).expand(30, 4, 9)
    assert torch.equal(lif(constant, decay=0.9).membrane, _by_steps(constant, None, decay=0.9)[1])


@pytest.mark.parametrize(("reset", "detach_reset", "smooth"), CASES)
def test_the_hand_written_gradient_is_autograds(reset, detach_reset, smooth, monkeypatch):
    # Small pieces, so that a sequence is cut several times.
    monkeypatch.setattr(neurons, "_PIECE", 60)
    current = (_random(20, 3, 4) * 0.8).requires_grad_()
    decay = (_random(4, seed=1) * 0.2 + 0.7).requires_grad_()
    threshold = (_random(3, 1, seed=2) + 0.5).requires_grad_()
    start = _random(3, 4, seed=3).requires_grad_()
    how = {
        "decay": decay,
        "threshold": threshold,
        "reset": reset,
        "detach_reset": detach_reset,
        "smooth": smooth,
        "surrogate": Surrogate("sigmoid", 4.0),
    }
    weights = _random(2, 20, 3, 4, seed=4) - 0.5
    inputs = [current, decay, threshold, start]
    fast = lif(current, initial=start, **how)
    slow = _by_steps(current, start, **how)
    ours = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, fast, strict=True)), inputs)
    theirs = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, slow, strict=True)), inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert float(b.abs().max()) > 0
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("triangle", "boxcar")])
def test_the_smoothed_membrane_passes_gradcheck(reset, kind):
    current = (_random(6, 2) * 0.8).requires_grad_()
    decay = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def run(i, a, th):
        return lif(
            i, decay=a, threshold=th, reset=reset, surrogate=Surrogate(kind, 3.0), detach_reset=False, smooth=True
        )

    assert torch.autograd.gradcheck(run, (current, decay, threshold))


@pytest.mark.parametrize(("reset", "detach_reset", "smooth"), CASES)
def test_adaptive_neurons_agree_with_their_single_step(reset, detach_reset, smooth):
    current = (_random(25, 3, 4) * 1.5).requires_grad_()
    how = {
        "decay": 0.9,
        "adaptation_decay": 0.95,
        "adaptation": 0.4,
        "reset": reset,
        "detach_reset": detach_reset,
        "smooth": smooth,
        "surrogate": Surrogate("sigmoid", 4.0),
    }
    fast = adaptive_lif(current, **how)
    state, rows = None, []
    for now in current:
        raised = torch.zeros_like(now) if state is None else state[1]
        s, u, state = adaptive_lif_step(now, state, **how)
        rows.append((s, u, raised))
    slow = [torch.stack(part) for part in zip(*rows, strict=True)]
    for a, b in zip(fast, slow, strict=True):
        assert torch.equal(a, b)
    weights = _random(3, 25, 3, 4, seed=4) - 0.5
    (ours,) = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, fast, strict=True)), current)
    (theirs,) = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, slow, strict=True)), current)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_the_filter_is_its_sum_and_passes_gradcheck():
    x = _random(12, 3).requires_grad_()
    decay = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64, requires_grad=True)
    start = _random(3, seed=5).requires_grad_()
    y = exponential_filter(x, decay=decay, initial=start)
    expected = decay**12 * start + sum(decay ** (11 - t) * x[t] for t in range(12))
    torch.testing.assert_close(y[-1], expected)
    assert torch.autograd.gradcheck(lambda a, b, c: exponential_filter(a, decay=b, initial=c), (x, decay, start))


@settings(max_examples=25, deadline=None)
@given(tau=st.floats(1.0, 100.0), level=st.floats(0.0, 0.02))
def test_below_threshold_the_membrane_is_the_geometric_sum(tau, level):
    decay = decay_of(tau)
    trace = lif(torch.full((50, 1), level, dtype=torch.float64), decay=decay, threshold=5.0)
    t = torch.arange(1, 51, dtype=torch.float64)
    torch.testing.assert_close(trace.membrane.squeeze(1), level * (1 - decay**t) / (1 - decay))
    assert trace.spikes.sum() == 0


def test_zero_input_one_step_silent_and_saturated_layers():
    silent = lif(torch.zeros(10, 4, requires_grad=True), decay=0.9)
    assert silent.spikes.sum() == 0
    assert silent.membrane.abs().sum() == 0
    current = torch.full((10, 4), 50.0, requires_grad=True)
    full = lif(current, decay=0.9, reset="zero")
    assert full.spikes.all()
    (grad,) = torch.autograd.grad(full.spikes.sum(), current)
    assert grad.isfinite().all()
    assert grad.abs().max() < 1e-3
    assert lif(torch.tensor([[2.0]]), decay=0.0).spikes.item() == 1


def test_a_detached_subtraction_leaves_the_membranes_past_alone():
    current = torch.full((5, 1), 0.6, requires_grad=True)
    (grad,) = torch.autograd.grad(lif(current, decay=0.5).membrane[-1].sum(), current)
    torch.testing.assert_close(grad.squeeze(1), 0.5 ** torch.arange(4.0, -1, -1))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"decay": 1.2}, "decay must lie between 0"),
        ({"decay": torch.tensor([0.5, 1.5])}, "decay must lie between 0"),
        ({"decay": 0.9, "reset": "off"}, "reset must be one of"),
        ({"decay": 0.9, "surrogate": "arctn"}, "Did you mean 'arctan'"),
        ({"decay": 0.9, "threshold": math.nan}, "threshold must be a finite number"),
        ({"decay": torch.full((3,), 0.9)}, "broadcast to one step"),
        ({"decay": 0.9, "initial": torch.zeros(7)}, "broadcast to one step"),
    ],
)
def test_bad_input_is_named(how, words):
    with pytest.raises(ValueError, match=words):
        lif(torch.zeros(4, 2), **how)


def test_currents_without_steps_or_of_integers_are_refused():
    with pytest.raises(ValueError, match="at least one step"):
        lif(torch.zeros(0, 2), decay=0.9)
    with pytest.raises(TypeError, match="floating-point"):
        lif(torch.zeros(3, 2, dtype=torch.long), decay=0.9)


def test_a_time_constant_shorter_than_the_step_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"forgets within one step cannot integrate; take dt at most 0\.4 ms"):
        decay_of(0.4, dt=1.0)
    assert decay_of(1.0, dt=1.0) == pytest.approx(math.exp(-1))


def test_only_one_number_a_neuron_and_step_is_kept():
    saved = []
    current = torch.rand(50, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        lif(current, decay=0.9)
    assert sum(saved) == current.numel()
