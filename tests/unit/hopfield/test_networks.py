"""Pointer networks, and networks with fast weights."""

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from sciviz.hopfield import (
    DeltaLayer,
    FewShotLearner,
    HullDecoder,
    SelfReferentialLayer,
    convex_hull,
    experiments,
    is_simple,
    make_hulls,
    polygon_area,
)


def test_hulls_equal_scipys():
    batch = make_hulls(200, 3, 12, torch.Generator().manual_seed(0))
    areas = polygon_area(batch.points, batch.hull)
    for points, present, hull, area in zip(*batch, areas, strict=True):
        peer = ConvexHull(points[present].double().numpy())
        ours = hull[hull < 12].tolist()
        start = peer.vertices.tolist().index(ours[0])
        assert ours == np.roll(peer.vertices, -start).tolist() and ours[0] == min(ours)
        assert float(area) == pytest.approx(peer.volume, abs=1e-5)
    assert is_simple(batch.points, batch.hull).all()


def test_polygons_that_cross_or_are_too_short_are_not_simple():
    square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    for corners, simple in (
        ([0, 1, 2, 3, 4], True),
        ([0, 2, 1, 3, 4], False),
        ([0, 1, 4, 4, 4], False),
        ([4] * 5, False),
    ):
        assert is_simple(square, torch.tensor([corners])).item() is simple
    assert polygon_area(square, torch.tensor([[4, 4]])).item() == 0


@pytest.mark.parametrize("output", ["pointer", "vocabulary"])
def test_decoding_never_repeats_nor_names_what_is_not_there(output):
    torch.manual_seed(0)
    net = HullDecoder(output, width=16)
    batch = make_hulls(50, 4, 10, torch.Generator().manual_seed(1))
    for named, present in zip(net.decode(batch), batch.present, strict=True):
        real = named[named < 10].tolist()
        assert len(set(real)) == len(real) and all(bool(present[i]) for i in real)
        assert (named[len(real) :] == 10).all()


@pytest.mark.parametrize("output", ["pointer", "vocabulary"])
def test_teacher_forcing_and_decoding_are_the_same_network(output):
    # Feed a decoded hull back in as if it were the truth: each step must then prefer what was decoded.
    torch.manual_seed(1)
    net = HullDecoder(output, width=16)
    batch = make_hulls(40, 4, 10, torch.Generator().manual_seed(2))
    named = net.decode(batch)
    logits = net(batch._replace(hull=named))
    steps = torch.cat([torch.ones(40, 1, dtype=torch.bool), named[:, : logits.shape[1] - 1] < 10], 1)
    assert torch.equal(logits.argmax(-1)[steps], named[:, : logits.shape[1]][steps])


def test_padding_does_not_matter():
    torch.manual_seed(0)
    net = HullDecoder("pointer", width=16)
    small = make_hulls(10, 6, 6, torch.Generator().manual_seed(3))
    points = torch.cat([small.points, torch.zeros(10, 3, 2)], 1)
    present = torch.cat([small.present, torch.zeros(10, 3, dtype=torch.bool)], 1)
    padded = small._replace(points=points, present=present, hull=convex_hull(points, present))
    assert torch.allclose(net.loss(small), net.loss(padded), atol=1e-6)
    ours, theirs = net.decode(small), net.decode(padded)
    assert torch.equal(ours < 6, (theirs < 9)[:, :7])


def test_pointer_learns_and_points_beyond_its_training_size():
    torch.manual_seed(0)
    net = HullDecoder("pointer", width=16)
    generator = torch.Generator().manual_seed(0)
    rule = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = net.loss(make_hulls(32, 5, 5, generator))
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    assert net.decode(make_hulls(3, 20, 20, generator)).max() > 9


def self_referential_by_rows(layer, x):
    """The paper's equations for one stream and one head, with the two reads written out."""
    w, n, outputs = layer.initial[0].clone(), layer.per_head, []
    for item in torch.softmax(x, -1):
        y, k, q, b = torch.tensor_split(w @ item, [n, 2 * n, 3 * n])
        k, q = torch.softmax(k, -1), torch.softmax(q, -1)
        rate = torch.sigmoid(b).repeat_interleave(torch.tensor([n, n, n, 4]))
        outputs.append(y)
        w = w + torch.outer(rate * (w @ q - w @ k), k)
    return torch.stack(outputs)


def test_self_referential_layer_follows_the_papers_equations():
    torch.manual_seed(0)
    layer = SelfReferentialLayer(6)
    X = torch.randn(2, 5, 6)
    expected = torch.stack([self_referential_by_rows(layer, x) for x in X])
    assert torch.allclose(layer(X), expected, atol=1e-5)


def test_delta_rule_stores_and_overwrites():
    layer = DeltaLayer(4)
    with torch.no_grad():  # sharp keys = queries = the input, values = twice the input, rate about one
        eye = torch.eye(4)
        layer.slow.weight.copy_(torch.cat([50 * eye, 2 * eye, 50 * eye, 50 * torch.ones(1, 4)]))
    X = torch.eye(4)[[0, 1, 0]][None]
    out = layer(X)
    assert torch.allclose(out[0], 2 * X[0], atol=1e-3)  # the second visit of a key replaces, and does not add


@pytest.mark.parametrize("make", [DeltaLayer, SelfReferentialLayer])
def test_fast_weights_are_causal_and_frozen_ones_forget(make):
    torch.manual_seed(0)
    layer = make(8, num_heads=2) if make is DeltaLayer else make(8, num_heads=2, scale=1.0)
    X = torch.randn(3, 6, 8)
    changed = X.clone()
    changed[:, -1] += 1
    assert torch.allclose(layer(X)[:, :-1], layer(changed)[:, :-1])
    past = X.clone()
    past[:, 0] = torch.randn(3, 8)
    assert not torch.allclose(layer(X)[:, -1], layer(past)[:, -1])
    assert torch.allclose(layer(X, frozen=True)[:, -1], layer(past, frozen=True)[:, -1])


def test_named_corners_are_compared_with_the_hull():
    points = [torch.rand(n, 2, generator=torch.Generator().manual_seed(n)) for n in (6, 40)]
    hulls = [convex_hull(p[None], torch.ones(1, len(p), dtype=torch.bool))[0] for p in points]
    ds = experiments.compare_hulls(points, hulls)
    assert ds.covered.values == pytest.approx([1.0, 1.0])
    assert (ds.hull == ds.named).all() and int((ds.hull[0] >= 0).sum()) == int((hulls[0] < 6).sum())
    crossed = hulls[1].clone()
    crossed[[0, 1]] = crossed[[1, 0]]
    less = experiments.compare_hulls(points, [hulls[0][hulls[0] < 6][1:], crossed])
    assert 0 <= less.covered.values[0] < 1 and less.covered.values[1] == 0
    with pytest.raises(ValueError, match="one list of corners"):
        experiments.compare_hulls(points, hulls[:1])


def test_bad_input_is_named():
    for call, message in [
        (lambda: SelfReferentialLayer(8, num_heads=3), "multiple of num_heads"),
        (lambda: DeltaLayer(8, num_heads=3), "multiple of num_heads"),
        (lambda: FewShotLearner(4, 2, rule="hebb"), "rule"),
        (lambda: HullDecoder("points"), "output"),
        (lambda: make_hulls(1, 5, 4, torch.Generator()), "fewest"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
