import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.hopfield import (
    ClassicalMemory,
    ContinuousMemory,
    DenseMemory,
    ExponentialMemory,
    MultitaskingMemory,
    average_examples,
    elementary_symmetric,
    flip,
    random_patterns,
)
from sciviz.hopfield.memories import ORDERS, BinaryMemory

DOUBLE = torch.float64


def binary(*shape, seed=0, blank=0.0):
    return random_patterns(*shape, seed=seed, blank=blank, dtype=DOUBLE)


def descends(memory, state, steps=5):
    assert memory.descends
    for _ in range(steps):
        new = memory.update(state)
        before, after = memory.energy(state), memory.energy(new)
        assert (after <= before + 1e-9 * (1 + before.abs())).all()
        state = new


sizes = st.tuples(st.integers(1, 12), st.integers(1, 10), st.integers(0, 10**6))


@given(sizes, st.sampled_from(["hebbian", "pseudo_inverse"]), st.booleans())
def test_energy_of_classical_never_rises_where_promised(size, rule, self_coupling):
    stored, d, seed = size
    for order in ORDERS:
        memory = ClassicalMemory(rule=rule, self_coupling=self_coupling, order=order).store(
            binary(stored, d, seed=seed)
        )
        if order == "asynchronous" or self_coupling:
            descends(memory, binary(6, d, seed=seed + 1))
        else:
            assert not memory.descends


def test_without_self_coupling_synchronous_updates_may_alternate():
    memory = ClassicalMemory().store(torch.tensor([[1.0, -1.0]]))
    found = memory.retrieve(torch.tensor([[1.0, 1.0]]), max_steps=10)
    assert not found.converged.any() and not memory.descends


@given(sizes, st.integers(2, 6), st.booleans(), st.booleans())
def test_energy_of_dense_never_rises_where_promised(size, order_n, self_coupling, real):
    stored, d, seed = size
    patterns = binary(stored, d, seed=seed)
    if real:
        patterns = patterns * torch.rand(stored, d, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    for order in ORDERS:
        memory = DenseMemory(order_n, self_coupling=self_coupling, order=order).store(patterns)
        if order == "asynchronous" or (self_coupling and order_n % 2 == 0):
            descends(memory, binary(6, d, seed=seed + 1), steps=3)
        else:
            assert not memory.descends


@given(sizes, st.floats(1e-4, 1e4))
def test_energy_of_exponential_and_continuous_never_rises(size, beta):
    stored, d, seed = size
    for order in ORDERS:
        descends(
            ExponentialMemory(beta=beta, order=order).store(binary(stored, d, seed=seed)), binary(4, d, seed=seed + 1)
        )
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(stored, d, generator=generator, dtype=DOUBLE)
    state = torch.randn(4, d, generator=generator, dtype=DOUBLE)
    memory = ContinuousMemory(beta=beta).store(patterns)
    descends(memory, state)
    inside = memory.energy(patterns)
    assert (inside >= -1e-9).all() and (inside <= 2 * memory.radius**2 + 1e-9).all()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("self_coupling", [False, True])
@pytest.mark.parametrize("real", [False, True])
def test_dense_energy_equals_the_sum_over_all_groups(n, self_coupling, real):
    d, patterns = 6, binary(5, 6, seed=n)
    if real:
        patterns = patterns * torch.rand(5, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    state = binary(8, d, seed=2)
    energy = torch.zeros(8, dtype=DOUBLE)
    for group in itertools.product(range(d), repeat=n):
        if self_coupling or len(set(group)) == n:
            energy -= state[:, list(group)].prod(1) * patterns[:, list(group)].prod(1).sum()
    energy /= n * d ** (n - 1)
    memory = DenseMemory(n, self_coupling=self_coupling).store(patterns)
    assert torch.allclose(memory.energy(state), energy, atol=1e-12)
    if not self_coupling:  # then the energy is linear in each spin, and the field its slope
        for i in range(d):
            flipped = state.clone()
            flipped[:, i] *= -1
            slope = (memory.energy(flipped) - memory.energy(state)) / 2 * state[:, i]
            assert torch.allclose(memory.field(state)[:, i], slope, atol=1e-12)


def test_dense_of_order_two_is_the_classical_network():
    patterns, state = binary(4, 16), binary(5, 16, seed=1)
    for self_coupling in (False, True):
        dense = DenseMemory(2, self_coupling=self_coupling).store(patterns)
        classical = ClassicalMemory(self_coupling=self_coupling).store(patterns)
        assert torch.allclose(dense.field(state), classical.field(state))
        assert torch.allclose(dense.energy(state), classical.energy(state))


@pytest.mark.parametrize(
    "make",
    [
        ClassicalMemory,
        lambda **kw: ClassicalMemory(self_coupling=True, **kw),
        MultitaskingMemory,
        lambda **kw: DenseMemory(3, **kw),
        lambda **kw: DenseMemory(4, **kw),
    ],
)
def test_kept_fields_give_the_same_sweep_as_fresh_ones(make):
    # 16 spins, real numbers: no field is zero up to rounding, so both forms must agree spin by spin.
    memory = make(order="asynchronous").store(binary(5, 16, blank=0.2 if make is MultitaskingMemory else 0.0))
    fast, plain = binary(20, 16, seed=1), binary(20, 16, seed=1)
    for sites in ([*range(16)], [*range(15, -1, -1)]):
        memory._sweep(fast, sites)
        BinaryMemory._sweep(memory, plain, sites)
        assert torch.equal(fast, plain)


def test_multitasking_field_equals_explicit_couplings():
    patterns, state = binary(3, 10, blank=0.4), binary(4, 10, seed=1)
    for self_coupling in (False, True):
        memory = MultitaskingMemory(self_coupling=self_coupling).store(patterns)
        couplings = patterns.T @ patterns / 10
        if not self_coupling:
            couplings.fill_diagonal_(0)
        assert torch.allclose(memory.field(state), state @ couplings)
        assert torch.allclose(memory.energy(state), -(state @ couplings * state).sum(-1) / 2)


def test_a_field_of_zero_moves_nothing():
    memory = MultitaskingMemory().store(torch.tensor([[1.0, 1.0, 0.0]]))
    assert memory.update(torch.tensor([[1.0, 1.0, -1.0]]))[0, 2] == -1


def test_pseudo_inverse_keeps_correlated_patterns_that_hebb_confuses():
    generator = torch.Generator().manual_seed(0)
    common = binary(1, 64)
    patterns = torch.where(torch.rand(8, 64, generator=generator) < 0.15, -common, common)
    fixed = ClassicalMemory(rule="pseudo_inverse", self_coupling=True).store(patterns)
    assert torch.equal(fixed.update(patterns), patterns)
    hebb = ClassicalMemory().store(patterns)
    assert not torch.equal(hebb.retrieve(patterns).state, patterns)


@pytest.mark.parametrize("beta", [1e-6, 1e4])
def test_extreme_temperatures_neither_overflow_nor_lose_the_limit(beta):
    patterns = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    memory = ContinuousMemory(beta=beta).store(patterns)
    state = memory.update(patterns)
    assert torch.isfinite(state).all() and torch.isfinite(memory.energy(patterns)).all()
    if beta < 1:
        assert torch.allclose(state, patterns.mean(0).expand_as(state), atol=1e-4)
    else:
        nearest = (patterns @ patterns.T).argmax(-1)
        assert torch.allclose(state, patterns[nearest], atol=1e-4)
    exponential = ExponentialMemory(beta=beta).store(binary(10, 8))
    assert torch.isfinite(exponential.energy(binary(3, 8))).all()


@pytest.mark.parametrize(
    "memory",
    [
        ClassicalMemory(),
        ClassicalMemory(order="asynchronous"),
        DenseMemory(2),
        DenseMemory(4),
        DenseMemory(3, order="asynchronous"),
        ExponentialMemory(),
        ContinuousMemory(),
        MultitaskingMemory(),
    ],
    # A memory's own repr holds its address, which differs between the workers that share the tests.
    ids=[
        "classical",
        "asynchronous",
        "dense-2",
        "dense-4",
        "dense-3-async",
        "exponential",
        "continuous",
        "multitasking",
    ],
)
def test_one_dimension_one_pattern_and_duplicates(memory):
    one = torch.ones(1, 1)
    memory.store(one).store(one)
    assert memory.patterns.shape == (2, 1)
    found = memory.retrieve(one)
    assert torch.equal(found.state, one) and found.converged.all()
    assert torch.isfinite(memory.energy(one)).all()
    assert torch.allclose(memory.overlap(one), torch.ones(1, 2))


def test_storing_twice_is_storing_together():
    a, b, state = binary(3, 12), binary(2, 12, seed=5), binary(4, 12, seed=6)
    for make in (ClassicalMemory, lambda: DenseMemory(3), ContinuousMemory, MultitaskingMemory):
        assert torch.allclose(make().store(a).store(b).energy(state), make().store(torch.cat([a, b])).energy(state))


def test_an_ensemble_is_memories_side_by_side():
    patterns, state = binary(3, 4, 10), binary(3, 5, 10, seed=1)
    for make in (ClassicalMemory, lambda: DenseMemory(4), ExponentialMemory, ContinuousMemory):
        together = make().store(patterns)
        for i in range(3):
            alone = make().store(patterns[i])
            assert torch.allclose(together.update(state)[i], alone.update(state[i]))
            assert torch.allclose(together.energy(state)[i], alone.energy(state[i]))


def test_retrieval_counts_steps_and_keeps_the_path():
    patterns = binary(2, 64)
    memory = ClassicalMemory().store(patterns)
    found = memory.retrieve(flip(patterns, 0.1, seed=0), keep_path=True)
    assert torch.equal(found.state, patterns)
    assert found.path.shape == (found.steps + 1, 2, 64)
    assert memory.retrieve(patterns).steps == 0


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.integers(1, 5))
def test_newtons_identities(numbers, degree):
    x = torch.tensor(numbers, dtype=DOUBLE)
    sums = [(x**k).sum() for k in range(1, degree + 1)]
    brute = [sum(math.prod(c) for c in itertools.combinations(numbers, k)) for k in range(degree + 1)]
    found = [float(e) for e in elementary_symmetric(sums, degree)]
    assert found == pytest.approx(brute, abs=1e-8)


def test_averages_of_examples_have_the_right_mean_and_spread():
    mean = average_examples(torch.ones(1, 100_000), 0.2, 25, seed=0)
    assert float(mean.mean()) == pytest.approx(0.2, abs=0.003)
    assert float(mean.std()) == pytest.approx(math.sqrt((1 - 0.04) / 25), rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassicalMemory().update(torch.ones(1, 3)), "must hold patterns before"),
        (lambda: ClassicalMemory().store(torch.ones(2, 3)).update(torch.ones(1, 4)), "same last dimension"),
        (lambda: ClassicalMemory().store(torch.ones(2, 3)).store(torch.ones(2, 4)), "same last dimension"),
        (lambda: ClassicalMemory().store(torch.ones(3)), "shape"),
        (lambda: ClassicalMemory().store(torch.full((1, 2), math.nan)), "finite"),
        (lambda: ClassicalMemory(rule="hebb"), "rule must be"),
        (lambda: MultitaskingMemory().store(torch.full((1, 2), 0.5)), "-1, 0 and 1"),
        (lambda: DenseMemory(1), "interaction must be"),
        (lambda: ContinuousMemory(beta=0), "beta must be"),
        (lambda: flip(torch.ones(1, 2), 1.5, seed=0), "at most 1"),
        (lambda: ContinuousMemory().store(torch.ones(2, 3)).retrieve(torch.ones(3)), "dimensions"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
