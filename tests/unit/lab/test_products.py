"""Products through the faster library are those through the plain one, with gradients where they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sciviz.lab import products
from sciviz.lab.products import linear, product, times_transpose


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LEAST", 1)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (101, 103, 107), (640, 80, 512), (0, 4, 3), (4, 0, 3), (4, 3, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_both_ways_agree(sizes: tuple[int, int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    n, m, k = sizes
    a, b = draw(n, k, dtype=dtype), draw(m, k, dtype=dtype)
    fast = times_transpose(a, b)
    monkeypatch.setattr(products, "_HAS_ONEDNN", False)
    plain = times_transpose(a, b)
    assert fast.shape == plain.shape == (n, m) and fast.dtype == dtype
    assert torch.allclose(fast, plain, rtol=1e-5, atol=1e-4)


def test_large_products_go_the_fast_way_and_small_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if not products._HAS_ONEDNN:
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "LEAST", 10**6)
    for rows, wanted in ((100, True), (99, False)):
        with torch.autograd.profiler.profile() as seen:
            times_transpose(draw(rows, 100), draw(100, 100))
        assert any("linear_pointwise" in event.name for event in seen.function_events) is wanted
    for least, wanted in ((0, True), (2e6, False)):
        with torch.autograd.profiler.profile() as seen:
            linear(draw(100, 100), draw(100, 100), least=least)
        assert any("linear_pointwise" in event.name for event in seen.function_events) is wanted


def test_views_that_are_not_contiguous() -> None:
    a, b = draw(400, 301)[::2, 1::3], draw(100, 90).T[:70]
    assert torch.allclose(times_transpose(a, b), a @ b.T, atol=1e-4)


def test_gradients_are_kept_where_they_are_wanted() -> None:
    a, b = draw(3, 4).requires_grad_(), draw(2, 4).requires_grad_()
    times_transpose(a, b).sum().backward()
    assert torch.allclose(a.grad, b.detach().sum(0).expand(3, 4))
    assert torch.allclose(b.grad, a.detach().sum(0).expand(2, 4))


@pytest.mark.parametrize("batch", [(), (5,), (4, 1, 3), (0,)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_linear_layer_is_torchs_own(batch: tuple[int, ...], with_bias: bool, dtype: torch.dtype) -> None:
    leaves = [draw(*batch, 6, dtype=dtype), draw(7, 6, dtype=dtype), *([draw(7, dtype=dtype)] if with_bias else [])]
    ours, theirs = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
    slack = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}

    def gradients(function: Any, values: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        y = function(*values)
        first = torch.autograd.grad(y.sin().sum(), values, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), values)
        return (y, *first, *second)

    for mine, their in zip(gradients(linear, ours), gradients(torch.nn.functional.linear, theirs), strict=True):
        assert mine.shape == their.shape and mine.dtype == dtype
        assert torch.allclose(mine, their, **slack)


def test_a_linear_layer_goes_through_forward_mode_and_transforms() -> None:
    x, weight, bias = draw(5, 6), draw(7, 6), draw(7)
    tangents = (draw(5, 6).cos(), draw(7, 6).cos(), draw(7).cos())
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(v, t) for v, t in zip((x, weight, bias), tangents, strict=True)]
        tangent = torch.autograd.forward_ad.unpack_dual(linear(*duals)).tangent
    wanted = torch.func.jvp(torch.nn.functional.linear, (x, weight, bias), tangents)[1]
    assert torch.allclose(tangent, wanted, atol=1e-5)
    each = torch.func.vmap(torch.func.grad(lambda row: linear(row, weight, bias).sin().sum()))(x)
    rows = x.clone().requires_grad_()
    torch.nn.functional.linear(rows, weight, bias).sin().sum().backward()
    assert torch.allclose(each, rows.grad, atol=1e-5)


def test_only_what_is_wanted_gets_a_gradient() -> None:
    x, weight = draw(5, 6), draw(7, 6).requires_grad_()
    linear(x, weight).sum().backward()
    assert weight.grad is not None and not linear(x, weight.detach()).requires_grad


@pytest.mark.parametrize("lead", [(), (3,), (3, 1)], ids=str)
@pytest.mark.parametrize("members", [(), (3,)], ids=str)
def test_a_product_is_torchs_own(lead: tuple[int, ...], members: tuple[int, ...]) -> None:
    ours, theirs = ([draw(*lead, 4, 5).requires_grad_(), draw(*members, 5, 6).requires_grad_()] for _ in range(2))
    mine, their = product(*ours), theirs[0] @ theirs[1]
    assert mine.shape == their.shape and torch.allclose(mine, their, atol=1e-5)
    mine.sin().sum().backward()
    their.sin().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4)
