import pytest
import torch

from sciviz.snn.feedback import RULES, alignment, feedback_matrices, rule_loss

BLOCKS = [lambda p, a: torch.tanh(a @ p["u"]), lambda p, a: torch.tanh(a @ p["w"]), lambda p, a: a @ p["v"]]


def parameters(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"u": (3, 6), "w": (6, 5), "v": (5, 2)}
    return {n: torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for n, s in shapes.items()}


def gradients(rule, feedback=()):
    p, X = parameters(), torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = rule_loss(rule, BLOCKS, p, X, lambda out: 0.5 * out.square().sum(), feedback)
    found = torch.autograd.grad(value, list(p.values()), allow_unused=True)
    return p, X, dict(zip(p, found, strict=True))


def test_direct_feedback_is_its_formula():
    B = [b.double() for b in feedback_matrices([6, 5], 2, generator=torch.Generator().manual_seed(2))]
    p, X, found = gradients("direct feedback", B)
    a = torch.tanh(X @ p["u"])
    b = torch.tanh(a @ p["w"])
    error = b @ p["v"]
    assert torch.allclose(found["v"], b.T @ error)
    assert torch.allclose(found["w"], a.T @ ((error @ B[1]) * (1 - b**2)))
    assert torch.allclose(found["u"], X.T @ ((error @ B[0]) * (1 - a**2)))


def test_feedback_through_the_forward_weights_transpose_is_backpropagation():
    # One hidden layer: with B the transpose, direct feedback and the chain rule are the same thing.
    p = {n: v for n, v in parameters().items() if n != "w"}
    p["v"] = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    blocks, X = [BLOCKS[0], BLOCKS[2]], torch.randn(4, 3, dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad(
            rule_loss(rule, blocks, p, X, lambda out: 0.5 * out.square().sum(), [p["v"].detach().T]), list(p.values())
        )
        for rule in ("direct feedback", "backpropagation")
    )
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    assert alignment({"u": ours[0]}, {"u": theirs[0]})["u"] == pytest.approx(1.0)


def test_the_rules_agree_on_the_last_layer_and_the_last_leaves_the_others_alone():
    B = [b.double() for b in feedback_matrices([6, 5], 2, generator=torch.Generator().manual_seed(2))]
    last = [gradients(rule, B)[2] for rule in RULES]
    assert all(torch.allclose(g["v"], last[0]["v"]) for g in last)
    assert last[2]["u"] is None and last[2]["w"] is None


def test_an_output_without_positions_tells_all_positions_the_same():
    p = {
        "u": torch.randn(3, 4, dtype=torch.float64).requires_grad_(),
        "v": torch.randn(4, 2, dtype=torch.float64).requires_grad_(),
    }
    blocks = [lambda p, a: a @ p["u"], lambda p, a: a[:, -1] @ p["v"]]
    X, B = torch.randn(5, 6, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    value = rule_loss("direct feedback", blocks, p, X, lambda out: 0.5 * out.square().sum(), [B])
    (found,) = torch.autograd.grad(value, p["u"])
    error = ((X @ p["u"])[:, -1] @ p["v"]).detach()
    assert torch.allclose(found, torch.einsum("bti,bo,ow->iw", X, error, B))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="one matrix a hidden block"):
        gradients("direct feedback")
    with pytest.raises(ValueError, match="rule must be one of"):
        gradients("dfa")
