"""Direct feedback alignment: the output's error goes to every layer at once, through fixed random matrices [dfa-scales].

Backpropagation carries the error e of the output down through the transposes of the forward weights, layer after layer.
Direct feedback alignment sends δ_k = e B_k straight to the output of block k, where B_k is random and never learns:

    backpropagation   ΔW_k ∝ (δ_{k+1} W_{k+1} ⊙ f') a_{k−1}          DFA   ΔW_k ∝ (e B_k ⊙ f') a_{k−1}

In autograd that is one line: cut the graph before each block, and give the block the loss ⟨a_k, e B_k⟩, whose gradient with
respect to a_k is e B_k. Any network that is a list of blocks can be trained so. Within a block the chain rule holds as
usual, so a block may be a whole transformer layer (the "macro" form) or a single matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_int, check_positive

RULES = ("backpropagation", "direct feedback", "last layer only")
Parameters = Mapping[str, Tensor]
Block = Callable[[Parameters, Tensor], Tensor]


def feedback_matrices(
    widths: Sequence[int], num_outputs: int, *, scale: float = 1.0, generator: torch.Generator
) -> list[Float[Tensor, "outputs width"]]:
    """Draw B_k for blocks of the given widths, with entries of standard deviation scale / √outputs.

    >>> [tuple(B.shape) for B in feedback_matrices([8, 4], 2, generator=torch.Generator().manual_seed(0))]
    [(2, 8), (2, 4)]
    """
    check_int(1, num_outputs=num_outputs)
    check_positive(scale=scale)
    return [torch.randn(num_outputs, width, generator=generator) * scale / num_outputs**0.5 for width in widths]


def rule_loss(
    rule: str,
    blocks: Sequence[Block],
    parameters: Parameters,
    X: Tensor,
    loss: Callable[[Tensor], Tensor],
    feedback: Sequence[Tensor] = (),
) -> Tensor:
    """Return a scalar whose gradient is the change that a rule gives: the loss itself, or a stand-in for it.

    Parameters
    ----------
    rule
        One of `RULES`.
    blocks
        Functions (parameters, activations) → activations; the last one gives the output.
    loss
        Output → scalar.
    feedback
        B_k for all blocks but the last, needed by direct feedback only; (*members, outputs, width_k).

    Raises
    ------
    ValueError
        If the rule is unknown, or the feedback matrices do not fit the blocks.

    >>> layers = [lambda p, a: (a @ p["w"]).tanh(), lambda p, a: a @ p["v"]]
    >>> p = {"w": torch.ones(2, 3, requires_grad=True), "v": torch.ones(3, 1, requires_grad=True)}
    >>> value = rule_loss("last layer only", layers, p, torch.ones(4, 2), lambda out: out.square().mean())
    >>> torch.autograd.grad(value, [p["w"]], allow_unused=True)[0] is None
    True
    """
    check_choice(RULES, rule=rule)
    activation = X
    if rule == "backpropagation":
        for block in blocks:
            activation = block(parameters, activation)
        return loss(activation)
    if rule == "last layer only":
        with torch.no_grad():
            for block in blocks[:-1]:
                activation = block(parameters, activation)
        return loss(blocks[-1](parameters, activation))
    if len(feedback) != len(blocks) - 1:
        raise ValueError(f"feedback must hold one matrix a hidden block ({len(blocks) - 1}), got {len(feedback)}.")
    outputs = []
    for block in blocks[:-1]:
        activation = block(parameters, activation.detach())
        outputs.append(activation)
    last = blocks[-1](parameters, activation.detach())
    value = loss(last)
    (error,) = torch.autograd.grad(value, last, retain_graph=True)
    for hidden, matrix in zip(outputs, feedback, strict=True):
        delta = torch.einsum("...o,...ow->...w", error, _fit(matrix, error))
        while delta.ndim < hidden.ndim:  # an output that has no positions tells all positions of the block the same
            delta = delta.unsqueeze(-2)
        value = value + (hidden * delta).sum()
    return value


def _fit(matrix: Tensor, error: Tensor) -> Tensor:
    """Put dimensions between the members' and the matrix's, so that it broadcasts over samples and positions."""
    missing = error.ndim - (matrix.ndim - 1)
    return matrix.reshape(*matrix.shape[:-2], *(1,) * missing, *matrix.shape[-2:])


def alignment(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the cosine between two rules' gradients, parameter by parameter.

    >>> alignment({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 0.0])})["w"].__round__(3)
    0.707
    """
    return {
        name: float(torch.nn.functional.cosine_similarity(value.flatten(), second[name].flatten(), dim=0))
        for name, value in first.items()
    }
