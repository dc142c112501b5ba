import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.hopfield import SegmentMemory, Sparsey, code_overlap, random_codes, sparse_features, top_bits, vote


def codes(num, dimension, active, seed=0):
    return random_codes(num, dimension, active, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
def test_energy_of_segments_never_rises_where_they_sample_whole_codes(num, active, threshold, seed):
    threshold = min(threshold, active)
    memory = SegmentMemory(synapses=active, threshold=threshold).store(codes(num, 16, active, seed))
    assert memory.descends
    state = codes(10, 16, active, seed + 1)
    for _ in range(4):
        new = memory.update(state)
        assert (memory.energy(new) <= memory.energy(state)).all()
        assert (new.sum(-1) == active).all()
        state = new


def test_segments_recall_from_a_noisy_code_and_stay_silent_for_a_stranger():
    stored = codes(200, 1024, 40)
    memory = SegmentMemory(synapses=20, threshold=10).store(stored)
    assert not memory.descends
    noisy = top_bits(stored * (1 + torch.rand(stored.shape, generator=torch.Generator().manual_seed(2))), 30)
    found = memory.retrieve(noisy)
    assert (found.state == stored).all(-1).float().mean() > 0.95
    stranger = codes(5, 1024, 40, seed=9)
    assert torch.equal(memory.update(stranger), stranger)
    assert torch.equal(memory.energy(stranger), torch.zeros(5))


def test_storing_more_keeps_old_synapses():
    memory = SegmentMemory(synapses=5, threshold=3).store(codes(4, 64, 10))
    before = memory.segments.clone()
    memory.store(codes(3, 64, 10, seed=1))
    assert torch.equal(memory.segments[:4], before) and len(memory.segments) == 7
    assert (memory.segments.sum(-1) == 5).all() and (memory.segments <= memory.patterns).all()


def test_sparsey_recognises_what_it_saw_once_and_finds_novelty_new():
    items = codes(40, 500, 10)
    field = Sparsey(500, 10)
    learnt = field.learn(items)
    again = field.recall(items)
    assert torch.equal(again.familiarity, torch.ones(40))
    assert (code_overlap(again.code, learnt.code).argmax(1) == torch.arange(40)).all()
    assert field.recall(codes(40, 500, 10, seed=1)).familiarity.mean() < 0.5
    assert field.select(items).familiarity.mean() == 1


def test_sparsey_gives_similar_codes_to_similar_inputs_only():
    item = codes(1, 500, 10)
    field = Sparsey(500, 10, num_modules=400)
    learnt = field.learn(item)
    shares = []
    for gone in (0, 5, 10):
        other = (
            top_bits((1 - item) * torch.rand(500, generator=torch.Generator().manual_seed(gone)), gone) if gone else 0
        )
        kept = top_bits(item * torch.linspace(1, 2, 500), 10 - gone) if gone < 10 else 0
        shares.append(float((field.select(kept + other).code == learnt.code).float().mean()))
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] == pytest.approx(1 / 20, abs=0.04)  # chance


def test_without_scaling_by_a_reference_some_features_would_be_popular():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(300, 64, generator=generator) * torch.linspace(0, 4, 64)
    scaled = sparse_features(images, 400, 10, reference=images, seed=0)
    plain = top_bits(images @ torch.randn(64, 400, generator=generator), 10)
    assert scaled.mean(0).max() < 0.5 * plain.mean(0).max()


def test_votes_weigh_overlaps():
    overlap, labels = torch.tensor([[0.9, 0.5, 0.5, 0.1]]), torch.tensor([0, 1, 1, 1])
    assert vote(overlap, labels, 2, neighbours=1).tolist() == [0]
    assert vote(overlap, labels, 2, neighbours=3).tolist() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SegmentMemory(synapses=5, threshold=6), "threshold"),
        (lambda: SegmentMemory().store(torch.ones(1, 10)), "at least 20 ones"),
        (lambda: SegmentMemory(synapses=1, threshold=1).store(torch.tensor([[1.0, 0.0], [1.0, 1.0]])), "same number"),
        (lambda: codes(1, 4, 5), "active"),
        (lambda: Sparsey(10, 3).recall(torch.ones(1, 9)), "last dimension"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
