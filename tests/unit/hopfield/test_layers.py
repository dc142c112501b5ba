import math

import pytest
import torch
from torch import nn

from sciviz.hopfield import Hopfield, HopfieldLayer, HopfieldPooling, associate


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(layer, state, stored, mask=None):
    """The layer's definition, head by head and row by row."""
    r, k, v = layer.to_state(state), layer.to_stored(stored), layer.to_projected(stored)
    heads = []
    for h in range(layer.num_heads):
        cut = slice(h * layer.head_dim, (h + 1) * layer.head_dim)
        beta = layer.beta if isinstance(layer.beta, float) else layer.beta[h]
        rh, kh, vh = r[..., cut], k[..., cut], v[..., cut]

        def weights(rh, kh=kh, beta=beta):
            scores = beta * rh @ kh.mT
            return torch.softmax(scores if mask is None else scores.masked_fill(~mask, -math.inf), -1)

        for _ in range(layer.num_steps - 1):
            rh = weights(rh) @ kh
        heads.append(weights(rh) @ vh)
    return layer.to_out(torch.cat(heads, -1))


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("learn_beta", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_layer_equals_its_definition_and_so_do_gradients(num_steps, learn_beta, masked):
    layer = Hopfield(
        8, num_heads=2, head_dim=3, stored_dim=5, out_dim=4, beta=0.9, learn_beta=learn_beta, num_steps=num_steps
    )
    layer.double()
    state, stored = draw(3, 6, 8).requires_grad_(), draw(3, 7, 5, seed=1).requires_grad_()
    mask = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(2)) < 0.6 if masked else None
    if masked:
        mask[..., 0] = True
    ours, expected = layer(state, stored, mask=mask), reference(layer, state, stored, mask)
    assert torch.allclose(ours, expected, atol=1e-12)
    inputs = [state, stored, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


def test_one_step_is_multi_head_attention():
    layer, peer = Hopfield(12, num_heads=3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        parts = (layer.to_state, layer.to_stored, layer.to_projected)
        peer.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        peer.in_proj_bias.copy_(torch.cat([p.bias for p in parts]).normal_())
        for part, bias in zip(parts, peer.in_proj_bias.chunk(3), strict=True):
            part.bias.copy_(bias)
        peer.out_proj.weight.copy_(layer.to_out.weight)
    X, other = draw(2, 5, 12), draw(2, 9, 12, seed=1)
    assert torch.allclose(layer(X), peer(X, X, X)[0], atol=1e-12)
    assert torch.allclose(layer(X, other), peer(X, other, other)[0], atol=1e-12)
    hidden = torch.rand(2, 9) < 0.4
    hidden[:, 0] = False
    assert torch.allclose(layer(X, other, mask=~hidden), peer(X, other, other, key_padding_mask=hidden)[0], atol=1e-12)


def test_masked_patterns_do_not_matter_at_any_step():
    layer = Hopfield(8, num_heads=2, num_steps=4, beta=2.0).double()
    state, stored = draw(2, 3, 8), draw(2, 6, 8, seed=1)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    changed = stored.clone()
    changed[:, 4:] = 1e3
    assert torch.allclose(layer(state, stored, mask=mask), layer(state, changed, mask=mask))
    assert torch.allclose(layer(state, stored, mask=mask), layer(state, stored[:, :4]))


def test_tolerance_stops_a_state_and_no_other():
    stored = torch.eye(4, dtype=torch.float64)
    near, far = stored[:1] * 0.99, stored[1:2] * 0.3 + stored[2:3] * 0.25
    run = lambda state, tolerance, steps=60: associate(  # noqa: E731
        state, stored, stored, 12.0, num_steps=steps, tolerance=tolerance
    )
    both = torch.cat([near, far])
    assert torch.allclose(run(both, 1e-3)[1:], run(far, 1e-3), atol=1e-12)
    assert torch.allclose(run(both, 0.0), run(both, 1e-12), atol=1e-9)
    # With a tolerance that everything meets, the first step is the last that moves the state.
    assert torch.allclose(run(both, 1e3), run(both, 0.0, steps=2), atol=1e-12)


def test_unbatched_is_a_batch_of_one():
    for layer in (Hopfield(8, num_heads=2), HopfieldPooling(8, num_queries=3), HopfieldLayer(8, num_stored=5)):
        layer.double()
        X = draw(6, 8)
        assert torch.allclose(layer(X), layer(X[None])[0], atol=1e-12)
    mask = torch.tensor([True, False, True, True, False, True])
    pool = HopfieldPooling(8).double()
    assert torch.allclose(pool(X, mask=mask), pool(X[mask]), atol=1e-12)


def test_pooling_does_not_depend_on_order_and_takes_bags_of_any_size():
    pool = HopfieldPooling(8, num_queries=2, num_heads=2, num_steps=2).double()
    bag = draw(3, 10, 8)
    assert torch.allclose(pool(bag), pool(bag.flip(1)), atol=1e-12)
    assert pool(bag[:, :1]).shape == (3, 2, 8)


def test_layer_looks_up_a_learnt_table():
    layer = HopfieldLayer(4, num_stored=16, beta=5.0)
    X = torch.eye(4)
    rule = torch.optim.Adam(layer.parameters(), lr=0.03)
    first = None
    for _ in range(150):
        loss = (layer(X) - X.roll(1, 0)).square().mean()
        first = loss.item() if first is None else first
        rule.zero_grad()
        loss.backward()
        rule.step()
    assert loss.item() < 0.01 * first


def test_learnt_beta_stays_positive_and_is_one_a_head():
    layer = Hopfield(8, num_heads=2, learn_beta=True, beta=0.5)
    assert torch.allclose(layer.beta, torch.full((2, 1, 1), 0.5))
    layer(torch.randn(2, 3, 8)).sum().backward()
    assert layer.log_beta.grad.shape == (2,)
    with torch.no_grad():
        layer.log_beta -= 100
    assert (layer.beta > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Hopfield(8, num_heads=3), "multiple of num_heads"),
        (lambda: Hopfield(8, beta=-1.0), "beta"),
        (lambda: Hopfield(8, num_steps=0), "num_steps"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 7)), "state must have shape"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), torch.ones(2, 3, 7)), "stored must have shape"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), torch.ones(3, 3, 8)), "same batch size"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), torch.ones(2, 0, 8)), "at least one"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), mask=torch.zeros(2, 3, dtype=torch.bool)), "hides all"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), mask=torch.ones(2, 3)), "mask must be boolean"),
        (lambda: Hopfield(8)(torch.ones(2, 3, 8), mask=torch.ones(3, 3, dtype=torch.bool)), "mask must be boolean"),
        (lambda: HopfieldPooling(8)(torch.ones(2, 3, 8), mask=torch.tensor([[True] * 3, [False] * 3])), "hides all"),
        (lambda: HopfieldLayer(8, num_stored=0), "num_stored"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
