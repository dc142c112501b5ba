"""Hopfield layers: one retrieval, and a layer beside torch's attention. `hopfield_layers.py` measures ten million patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import Outcome, Target, Workload

BETA = 0.5


def _patterns() -> tuple[Any, Any]:
    import torch

    patterns = torch.randint(0, 2, (10_000, 64), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    cues = patterns[:256].clone()
    cues[:, 32:] = 0
    return patterns, cues


def _judge_retrieval(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    import torch

    patterns, cues = (part.double() for part in _patterns())
    truth = (torch.softmax(BETA * cues @ patterns.T, -1) @ patterns).numpy()
    return {name: {"largest_error": float(np.abs(kept["answer"] - truth).max())} for name, kept in outcomes.items()}


retrieval = Workload(
    "hopfield/retrieval",
    "one step among 10⁴ stored patterns, d = 64, 256 half-masked queries, float32",
    _judge_retrieval,
    targets=(Target("scaled_dot_product_attention", 0.75, says="at most 0.75 of scaled_dot_product_attention's time"),),
)


@retrieval.contestant("sciviz")
def _():
    from sciviz.hopfield import retrieve_blocked

    patterns, cues = _patterns()
    return lambda: {"answer": retrieve_blocked(patterns, cues, BETA)}


@retrieval.contestant("scaled_dot_product_attention", package="torch")
def _():
    from torch.nn.functional import scaled_dot_product_attention

    patterns, cues = _patterns()
    return lambda: {"answer": scaled_dot_product_attention(cues, patterns, patterns, scale=BETA)}


@retrieval.contestant("plain softmax", package="torch")
def _():
    import torch

    patterns, cues = _patterns()
    return lambda: {"answer": torch.softmax(BETA * cues @ patterns.T, -1) @ patterns}


def _judge_layer(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    truth = outcomes["MultiheadAttention"]["y"]
    figures = {name: {"difference": float(np.abs(kept["y"] - truth).max())} for name, kept in outcomes.items()}
    # Three steps are another function.
    figures["sciviz, three steps"] = {}
    return figures


layer = Workload(
    "hopfield/layer",
    "layer, 256 features, 8 heads, batch 16, length 128, forward and backward",
    _judge_layer,
    targets=(
        Target("MultiheadAttention", 1.0, says="one step no slower than MultiheadAttention"),
        Target("sciviz", 2.5, ours="sciviz, three steps", says="three steps at most 2.5 times one of ours"),
    ),
)


def _peer() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.MultiheadAttention(256, 8, batch_first=True)


def _trained(module: Any, forward: Any) -> Any:
    import torch

    X = torch.randn(16, 128, 256, generator=torch.Generator().manual_seed(0))

    def run() -> Outcome:
        module.zero_grad()
        y = forward(X)
        y.square().mean().backward()
        return {"y": y.detach()}

    return run


def _ours(num_steps: int) -> Any:
    import torch

    from sciviz.hopfield import Hopfield

    peer, ours = _peer(), Hopfield(256, num_heads=8, num_steps=num_steps)
    with torch.no_grad():
        weights, biases = peer.in_proj_weight.chunk(3), peer.in_proj_bias.chunk(3)
        for linear, weight, bias in zip(
            (ours.to_state, ours.to_stored, ours.to_projected), weights, biases, strict=True
        ):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        ours.to_out.load_state_dict(peer.out_proj.state_dict())
    return _trained(ours, ours)


@layer.contestant("sciviz")
def _():
    return _ours(1)


@layer.contestant("sciviz, three steps", package="sciviz")
def _():
    return _ours(3)


@layer.contestant("MultiheadAttention", package="torch")
def _():
    peer = _peer()
    return _trained(peer, lambda X: peer(X, X, X, need_weights=False)[0])


WORKLOADS = [retrieval, layer]
