"""Pruning: which edges and nodes an output depends on, and networks without the others.

An edge matters by how much of the variation at its node it makes, and how much that node matters: from the outputs back,

    score(i → o) = score(o) · std φ_{i,o}(x_i) / std(node o),     score(i) = Σ_o score(i → o)

over the data. (The sum of an edge's absolute values, which a constant would make large, says less [kan-liu, §2.5.1].)
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.kan.networks import KAN
from sciviz.lab.checks import check_nonnegative


class Scores(NamedTuple):
    """Scores of all edges, (in, out) for each layer, and of all nodes, inputs first."""

    edges: list[Tensor]
    nodes: list[Tensor]


@torch.no_grad()
def scores(model: KAN, X: Float[Tensor, "batch in"]) -> Scores:
    """Return how much each edge and node matters to the outputs, on data.

    Raises
    ------
    ValueError
        If the network is an ensemble: take a `member`.

    >>> found = scores(KAN([2, 3, 1], seed=0), torch.rand(20, 2, generator=torch.Generator().manual_seed(0)))
    >>> [tuple(s.shape) for s in found.edges], len(found.nodes)
    ([(2, 3), (3, 1)], 3)
    """
    _check_single(model)
    values = model.activations(X)
    node = torch.ones(model.widths[-1], dtype=X.dtype, device=X.device)
    edges: list[Tensor] = []
    nodes = [node]
    for index in reversed(range(len(model.layers))):
        spread = model[index].edges(values[index]).std(0, correction=0)
        whole = values[index + 1].std(0, correction=0).clamp_min(1e-12)
        found = node * spread / whole
        node = found.sum(1)
        edges.insert(0, found)
        nodes.insert(0, node)
    return Scores(edges, nodes)


def _check_single(model: KAN) -> None:
    if model.members is not None:
        raise ValueError(f"model must be one network, got an ensemble of {model.members}: take model.member(0).")


def prune_edges(model: KAN, X: Float[Tensor, "batch in"], *, threshold: float = 0.01) -> KAN:
    """Return a copy without the edges that score below a threshold; the others' functions stay what they are.

    >>> X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    >>> int(prune_edges(KAN([2, 3, 1], seed=0), X, threshold=1e9)[0].active().sum())
    0
    """
    check_nonnegative(threshold=threshold)
    found = scores(model, X)
    pruned = copy.deepcopy(model)
    for index, edges in enumerate(found.edges):
        for i, o in (edges < threshold).nonzero().tolist():
            pruned[index].switch_off(i, o)
    return pruned


@torch.no_grad()
def prune_nodes(model: KAN, X: Float[Tensor, "batch in"], *, threshold: float = 0.01) -> KAN:
    """Return a smaller network without the hidden nodes that score below a threshold; what is kept keeps its functions.

    The best node of a layer always stays.

    >>> X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    >>> prune_nodes(KAN([2, 3, 1], seed=0), X, threshold=1e9).widths
    [2, 1, 1]
    """
    check_nonnegative(threshold=threshold)
    found = scores(model, X)
    keep = [torch.arange(width, device=X.device) for width in model.widths]
    for place in range(1, len(model.widths) - 1):
        node = found.nodes[place]
        kept = (node >= threshold) | (torch.arange(len(node), device=X.device) == node.argmax())
        keep[place] = kept.nonzero()[:, 0]
    small = copy.deepcopy(model)
    small.widths = [len(kept) for kept in keep]
    for index in range(len(small.layers)):
        layer, rows, columns = small[index], keep[index], keep[index + 1]
        basis = layer.basis
        for name, buffer in list(basis.named_buffers(recurse=False)):
            setattr(basis, name, buffer[rows].clone())
        if any(True for _ in basis.parameters()):
            raise TypeError("Nodes of a layer whose inputs share functions (rational) cannot be pruned; prune edges.")
        layer.coef = nn.Parameter(layer.coef[rows][:, :, columns].clone())
        if layer.base_weight is not None:
            layer.base_weight = nn.Parameter(layer.base_weight[rows][:, columns].clone())
        if layer.scale is not None:
            layer.scale = nn.Parameter(layer.scale[rows][:, columns].clone())
        if layer.mask is not None:
            layer.mask = layer.mask[rows][:, columns].clone()
        edges = layer.fixed_edges()
        new_row, new_column = ({int(old): new for new, old in enumerate(kept)} for kept in (rows, columns))
        layer.fixed = nn.ModuleDict(
            {f"{new_row[i]}_{new_column[o]}": e for (i, o), e in edges.items() if i in new_row and o in new_column}
        )
        layer.num_inputs, layer.num_outputs = len(rows), len(columns)
    return small
