"""Memories that are written while they are read: the delta rule, and a weight matrix that rewrites itself [srwm].

A Hebbian memory adds value ⊗ key and never takes anything away. The delta rule first reads what the key holds already
and writes only the difference. In a `DeltaLayer`, slow weights decide on keys, values and rates; in a
`SelfReferentialLayer` one matrix W decides on all of them and is itself what they rewrite. With φ = softmax,

    (y, k, q, β) = W φ(x)        W ← W + σ(β) (W φ(q) − W φ(k)) ⊗ φ(k)                             [srwm, eqs. 5–8]

Each of the four blocks of rows (those that make y, k, q and β) has a rate of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_int, check_ndim, check_positive

RULES = ("self_referential", "delta")


class DeltaLayer(nn.Module):
    """A fast weight matrix written by the delta rule, with slow weights for keys, values, queries and rates.

    W ← W + σ(β) (v − W φ(k)) ⊗ φ(k), output W φ(q), with W = 0 at first.

    Parameters
    ----------
    width
        Features of inputs and outputs.
    num_heads
        Independent matrices, each on `width / num_heads` features.

    >>> DeltaLayer(8, num_heads=2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, *, num_heads: int = 1) -> None:
        super().__init__()
        check_int(1, width=width, num_heads=num_heads)
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got width {width} and num_heads {num_heads}.")
        self.num_heads, self.per_head = num_heads, width // num_heads
        self.slow = nn.Linear(width, 3 * width + num_heads, bias=False)

    def forward(
        self, X: Float[Tensor, "batch time width"], *, frozen: bool = False
    ) -> Float[Tensor, "batch time width"]:
        """Read the stream from first to last, writing after each item (unless frozen); outputs are read after writing."""
        check_ndim(3, X=X)
        per_head = self.per_head
        parts = self.slow(X).unflatten(-1, (self.num_heads, 3 * per_head + 1))
        key, value, query, rate = parts.split([per_head, per_head, per_head, 1], -1)
        key, query, rate = torch.softmax(key, -1), torch.softmax(query, -1), torch.sigmoid(rate)
        fast = X.new_zeros(len(X), self.num_heads, per_head, per_head)
        outputs = []
        for t in range(X.shape[1]):
            if not frozen:
                held = (fast @ key[:, t, :, :, None]).squeeze(-1)
                fast = fast + (rate[:, t] * (value[:, t] - held))[..., None] * key[:, t, :, None, :]
            outputs.append((fast @ query[:, t, :, :, None]).squeeze(-1).flatten(1))
        return torch.stack(outputs, 1)


class SelfReferentialLayer(nn.Module):
    """One weight matrix that emits its own keys, queries and rates, and rewrites itself with them [srwm, eqs. 5–8].

    Parameters
    ----------
    width
        Features of inputs and outputs.
    num_heads
        Independent matrices, each on `width / num_heads` features.
    scale
        Standard deviation of the initial matrix. Keys and queries pass through a softmax: a small matrix makes them all
        alike, and learning waits long until they differ. Rows that make rates start ten times smaller.

    >>> SelfReferentialLayer(8, num_heads=2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, *, num_heads: int = 1, scale: float = 4.0) -> None:
        super().__init__()
        check_int(1, width=width, num_heads=num_heads)
        check_positive(scale=scale)
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got width {width} and num_heads {num_heads}.")
        self.num_heads, self.per_head = num_heads, width // num_heads
        rows = torch.tensor([scale] * (3 * self.per_head) + [scale / 10] * 4)
        self.initial = nn.Parameter(torch.randn(num_heads, len(rows), self.per_head) * rows[:, None])

    def forward(
        self, X: Float[Tensor, "batch time width"], *, frozen: bool = False
    ) -> Float[Tensor, "batch time width"]:
        """Read the stream from first to last; each output comes from the matrix as its predecessors left it.

        `frozen` keeps the initial matrix throughout: no item leaves a trace.
        """
        check_ndim(3, X=X)
        per_head = self.per_head
        inputs = torch.softmax(X.reshape(*X.shape[:2], self.num_heads, per_head), -1)
        matrix = self.initial.expand(len(X), -1, -1, -1)
        outputs = []
        for t in range(X.shape[1]):
            emitted = (matrix @ inputs[:, t, :, :, None]).squeeze(-1)
            output, key, query, rates = torch.tensor_split(emitted, [per_head, 2 * per_head, 3 * per_head], -1)
            outputs.append(output.flatten(1))
            if frozen:
                continue
            key, query, rates = torch.softmax(key, -1), torch.softmax(query, -1), torch.sigmoid(rates)
            # v − v̄ = W (φ(q) − φ(k)): one product instead of two.
            change = (matrix @ (query - key)[..., None]).squeeze(-1)
            each = [rates[..., i : i + 1].expand(-1, -1, rows) for i, rows in enumerate((per_head,) * 3 + (4,))]
            matrix = matrix + (torch.cat(each, -1) * change)[..., None] * key[..., None, :]
        return torch.stack(outputs, 1)


class FewShotLearner(nn.Module):
    """A stream of (input, label) pairs, then an input without a label: layers with fast weights name its class.

    Parameters
    ----------
    num_features, num_classes
        Of an input, and of the labels shown beside it.
    rule
        "self_referential" or "delta".
    width, num_heads, depth
        Of the layers; each is followed by a two-layer network, both on residual branches.

    >>> net = FewShotLearner(64, 3, rule="delta", width=16)
    >>> net(torch.zeros(2, 6, 64), torch.zeros(2, 6, 3)).shape
    torch.Size([2, 6, 3])
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        rule: str = "self_referential",
        width: int = 64,
        num_heads: int = 4,
        depth: int = 2,
    ) -> None:
        super().__init__()
        check_int(1, num_features=num_features, depth=depth)
        check_int(2, num_classes=num_classes)
        check_choice(RULES, rule=rule)
        make = SelfReferentialLayer if rule == "self_referential" else DeltaLayer
        self.embed = nn.Linear(num_features + num_classes, width)
        self.before = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.memory = nn.ModuleList(make(width, num_heads=num_heads) for _ in range(depth))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.readout = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def forward(
        self,
        X: Float[Tensor, "batch time features"],
        labels: Float[Tensor, "batch time classes"],
        *,
        frozen: bool = False,
    ) -> Float[Tensor, "batch time classes"]:
        """Return logits at every place of the stream; a label of zeros is one that is not shown."""
        hidden = self.embed(torch.cat([X, labels], -1))
        for before, memory, mix in zip(self.before, self.memory, self.mix, strict=True):
            hidden = hidden + memory(before(hidden), frozen=frozen)
            hidden = hidden + mix(hidden)
        logits: Tensor = self.readout(hidden)
        return logits
