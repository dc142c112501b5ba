import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.hopfield import iterate, retrieve, retrieve_blocked
from sciviz.hopfield import retrieval as module_under_test
from sciviz.lab import products


def draw(stored, batch, d, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, d, generator=generator, dtype=dtype) for n in (stored, batch))


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("beta", [0.01, 0.125, 3.0])
def test_one_step_is_attention_and_so_are_its_gradients(dtype, atol, beta):
    patterns, query = (t.requires_grad_() for t in draw(50, 7, 16, dtype=dtype))
    ours = retrieve(patterns, query, beta)
    theirs = torch.nn.functional.scaled_dot_product_attention(query[None], patterns[None], patterns[None], scale=beta)[
        0
    ]
    atol *= max(1.0, 4 * beta)  # a score's rounding error is as large as the score, and exponentials keep it
    assert (ours - theirs).abs().max() <= atol
    weight = torch.linspace(-1, 1, ours.numel(), dtype=dtype).view_as(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (patterns, query)),
        torch.autograd.grad((theirs * weight).sum(), (patterns, query)),
        strict=True,
    ):
        assert (a - b).abs().max() <= 100 * atol


@pytest.mark.parametrize("d", [1, 3, 47, 48, 64])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_blocked_equals_plain_at_every_block_size(d, dtype, atol):
    patterns, query = draw(23, 5, d, dtype=dtype)
    plain = retrieve(patterns, query, 0.7)
    for block_size in range(1, 26):
        assert (retrieve_blocked(patterns, query, 0.7, block_size=block_size) - plain).abs().max() <= atol
    assert (retrieve_blocked(patterns, query, 0.7) - plain).abs().max() <= atol


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(1, 400),
    st.sampled_from([1e-4, 0.3, 5.0, 1e4]),
)
def test_blocked_equals_plain_at_any_shape_and_temperature(stored, batch, d, block_size, beta):
    patterns, query = draw(stored, batch, d, seed=stored)
    plain = retrieve(patterns, query, beta)
    assert torch.allclose(retrieve_blocked(patterns, query, beta, block_size=block_size), plain, atol=1e-9)


def test_long_batches_are_cut_so_that_scores_stay_bounded(monkeypatch):
    seen = []
    inner = module_under_test._ask_block
    monkeypatch.setitem(module_under_test.SCORES_AT_ONCE, "cpu", 1000)
    monkeypatch.setattr(module_under_test, "_ask_block", lambda b, q: seen.append(len(b) * len(q)) or inner(b, q))
    patterns, query = draw(90, 60, 64)
    assert torch.allclose(retrieve_blocked(patterns, query, 1.0, block_size=50), retrieve(patterns, query, 1.0))
    assert max(seen) <= 1000 and sum(seen) == 90 * 60


def test_fast_products_equal_plain_ones(monkeypatch):
    patterns, query = draw(300, 20, 64, dtype=torch.float32)
    fast = retrieve_blocked(patterns, query, 0.2)
    monkeypatch.setattr(products, "_HAS_ONEDNN", False)
    assert (retrieve_blocked(patterns, query, 0.2) - fast).abs().max() < 1e-6


def test_blocked_has_gradients():
    patterns, query = (t.requires_grad_() for t in draw(30, 4, 8, dtype=torch.float32))
    blocked = torch.autograd.grad(
        retrieve_blocked(patterns, query, 0.5, block_size=7).square().sum(), (patterns, query)
    )
    plain = torch.autograd.grad(retrieve(patterns, query, 0.5).square().sum(), (patterns, query))
    for a, b in zip(blocked, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_memory_mapped_and_half_precision_patterns(tmp_path):
    patterns, query = draw(100, 3, 64, dtype=torch.float32)
    np.save(tmp_path / "patterns.npy", patterns.numpy().astype(np.float16))
    mapped = torch.from_numpy(np.load(tmp_path / "patterns.npy", mmap_mode="c"))
    answer = retrieve_blocked(mapped, query, 0.3, block_size=9)
    assert answer.dtype == torch.float32
    assert torch.allclose(answer, retrieve(patterns.half().float(), query, 0.3), atol=1e-5)


def test_scores_far_beyond_the_range_of_exponentials():
    patterns = torch.tensor([[1000.0] * 64, [-1000.0] * 64])
    assert torch.equal(retrieve_blocked(patterns, patterns, 10.0, block_size=1), patterns)


def test_iteration_stops_each_query_on_its_own():
    patterns = torch.eye(4, dtype=torch.float64)
    query = torch.stack([patterns[0], 0.3 * patterns[1] + 0.25 * patterns[2]])
    together = iterate(patterns, query, 12.0)
    alone = iterate(patterns, query[1:], 12.0)
    assert together.converged.all()
    assert together.steps[0] < together.steps[1] == alone.steps[0]
    assert torch.allclose(together.state[1], alone.state[0], atol=1e-12)
    assert not iterate(patterns, query, 12.0, max_steps=1, tolerance=0.0).converged[1]


@pytest.mark.parametrize("function", [retrieve, retrieve_blocked, iterate])
def test_bad_input_is_named(function):
    patterns, query = torch.ones(3, 4), torch.ones(2, 4)
    for args, message in [
        ((patterns, query, 0.0), "beta"),
        ((patterns, torch.ones(2, 5), 1.0), "last dimension"),
        ((torch.ones(0, 4), query, 1.0), "at least one"),
        ((patterns, torch.ones(4), 1.0), "dimensions"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*args)
    with pytest.raises(ValueError, match="block_size"):
        retrieve_blocked(patterns, query, 1.0, block_size=0)
