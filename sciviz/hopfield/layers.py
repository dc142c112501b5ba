"""Hopfield layers: modern Hopfield networks as modules of a deep network [modern-hopfield, §4].

All three do the same and differ in who supplies what. States ask, stored patterns are asked, and projections of them are
the answer:

    R ← softmax(β R Kᵀ) K   (zero or more times)        answer = softmax(β R Kᵀ) V

    Hopfield          states and stored patterns are inputs      association; one step is multi-head attention
    HopfieldPooling   states are learnt                          pools a bag into a few vectors
    HopfieldLayer     stored patterns are learnt                 looks inputs up in a table

Masks follow `scaled_dot_product_attention`: True is what may be seen.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sciviz.lab.checks import check_int, check_nonnegative, check_positive


def associate(
    state: Float[Tensor, "... queries d"],
    stored: Float[Tensor, "... stored d"],
    projected: Float[Tensor, "... stored out"],
    beta: float | Float[Tensor, "..."],
    *,
    num_steps: int = 1,
    tolerance: float = 0.0,
    mask: Bool[Tensor, "... queries stored"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "... queries out"]:
    """Let states move among stored patterns for `num_steps` − 1 updates, then answer with their projections.

    A state that moves by at most `tolerance` stays where it is. Every row's answer depends on that row only.

    >>> associate(torch.eye(2)[:1] * 0.8, torch.eye(2), torch.tensor([[5.0], [7.0]]), 50.0).round().tolist()
    [[5.0]]
    """
    # A β for each head goes into the queries, so that torch's fused attention can be used for any.
    scale = beta if isinstance(beta, float) else 1.0
    moving: Tensor | None = None
    for _ in range(num_steps - 1):
        asked = state if isinstance(beta, float) else state * beta
        new = scaled_dot_product_attention(asked, stored, stored, attn_mask=mask, scale=scale)
        if tolerance > 0:
            moved = (new - state).norm(dim=-1, keepdim=True) > tolerance
            state = new if moving is None else torch.where(moving, new, state)
            moving = moved if moving is None else moving & moved
            if not bool(moving.any()):
                break
        else:
            state = new
    asked = state if isinstance(beta, float) else state * beta
    return scaled_dot_product_attention(asked, stored, projected, attn_mask=mask, dropout_p=dropout, scale=scale)


class Hopfield(nn.Module):
    """Associate states with stored patterns; with one step and fixed β it is multi-head attention.

    Parameters
    ----------
    dim
        Features of a state.
    num_heads, head_dim
        Independent memories, and the dimension in which each associates; `head_dim` is `dim / num_heads` by default.
    stored_dim, out_dim
        Features of stored patterns and of answers, if not `dim`.
    beta
        Inverse temperature; None is 1/√head_dim, as in attention.
    learn_beta
        Learn one β for each head, starting from `beta`.
    num_steps
        Updates; all but the last move the state among the stored patterns.
    tolerance
        States that move by no more than this in an update (Euclidean length, in a head) stop moving.
    dropout
        On the attention of the last step.
    bias
        In the projections.

    Raises
    ------
    ValueError
        If a size is out of range, or `dim` no multiple of `num_heads` where `head_dim` is not given.

    >>> Hopfield(8, num_heads=2, num_steps=3)(torch.zeros(4, 5, 8)).shape
    torch.Size([4, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int = 1,
        head_dim: int | None = None,
        stored_dim: int | None = None,
        out_dim: int | None = None,
        beta: float | None = None,
        learn_beta: bool = False,
        num_steps: int = 1,
        tolerance: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_int(1, dim=dim, num_heads=num_heads, num_steps=num_steps)
        check_nonnegative(tolerance=tolerance, dropout=dropout)
        if head_dim is None:
            if dim % num_heads:
                raise ValueError(f"dim must be a multiple of num_heads, got dim {dim} and num_heads {num_heads}.")
            head_dim = dim // num_heads
        check_int(1, head_dim=head_dim)
        if beta is None:
            beta = 1 / math.sqrt(head_dim)
        check_positive(beta=beta)
        self.dim, self.num_heads, self.head_dim = dim, num_heads, head_dim
        self.stored_dim = dim if stored_dim is None else stored_dim
        self.out_dim = dim if out_dim is None else out_dim
        check_int(1, stored_dim=self.stored_dim, out_dim=self.out_dim)
        self.num_steps, self.tolerance, self.dropout = num_steps, float(tolerance), float(dropout)
        inner = num_heads * head_dim
        self.to_state = nn.Linear(dim, inner, bias=bias)
        self.to_stored = nn.Linear(self.stored_dim, inner, bias=bias)
        self.to_projected = nn.Linear(self.stored_dim, inner, bias=bias)
        self.to_out = nn.Linear(inner, self.out_dim, bias=bias)
        for linear in (self.to_state, self.to_stored, self.to_projected, self.to_out):
            nn.init.xavier_uniform_(linear.weight)
            if bias:
                nn.init.zeros_(linear.bias)
        self.fixed_beta = None if learn_beta else float(beta)
        if learn_beta:  # learnt as a logarithm, so that no step makes it negative
            self.log_beta = nn.Parameter(torch.full((num_heads,), math.log(beta)))

    @property
    def beta(self) -> float | Float[Tensor, "heads 1 1"]:
        """The inverse temperature: a number, or one for each head where it is learnt."""
        return self.log_beta.exp()[:, None, None] if self.fixed_beta is None else self.fixed_beta

    def forward(
        self,
        state: Float[Tensor, "*batch queries dim"],
        stored: Float[Tensor, "*batch stored stored_dim"] | None = None,
        *,
        mask: Bool[Tensor, "*batch stored"] | Bool[Tensor, "*batch queries stored"] | None = None,
    ) -> Float[Tensor, "*batch queries out"]:
        """Associate each state with the stored patterns (with the states themselves if there are none).

        `mask` is True where a pattern may be seen: (batch, stored) for all states alike, or (batch, queries, stored).

        Raises
        ------
        ValueError
            If shapes do not fit, or the mask hides every pattern from a state.
        """
        own = stored is None
        stored = state if stored is None else stored
        unbatched = state.ndim == 2
        if unbatched:
            state, stored = state[None], stored[None]
            mask = None if mask is None else mask[None]
        self._check(state, stored)
        seen = self._see(mask, state, stored)
        if own and self.stored_dim == self.dim:
            # One product with all three weights is faster than three, and packing them costs next to nothing.
            packed = _packed_linear(state, [self.to_state, self.to_stored, self.to_projected])
            r, k, v = packed.view(*packed.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        else:
            r, k, v = (
                part.view(*part.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
                for part in (self.to_state(state), self.to_stored(stored), self.to_projected(stored))
            )
        answer = associate(
            r,
            k,
            v,
            self.beta,
            num_steps=self.num_steps,
            tolerance=self.tolerance,
            mask=seen,
            dropout=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.to_out(answer.transpose(1, 2).flatten(2))
        return out[0] if unbatched else out

    def _check(self, state: Tensor, stored: Tensor) -> None:
        for name, given, features in (("state", state, self.dim), ("stored", stored, self.stored_dim)):
            if given.ndim != 3 or given.shape[-1] != features:
                raise ValueError(
                    f"{name} must have shape (batch, length, {features}) or (length, {features}), "
                    f"got {tuple(given.shape)}."
                )
        if len(state) != len(stored):
            raise ValueError(f"state and stored must have the same batch size, got {len(state)} and {len(stored)}.")
        if stored.shape[1] == 0:
            raise ValueError("stored must hold at least one pattern, got none.")

    def _see(self, mask: Tensor | None, state: Tensor, stored: Tensor) -> Tensor | None:
        if mask is None:
            return None
        shapes = [(len(stored), stored.shape[1]), (len(stored), state.shape[1], stored.shape[1])]
        if mask.dtype != torch.bool or tuple(mask.shape) not in shapes:
            raise ValueError(
                f"mask must be boolean of shape {shapes[0]} or {shapes[1]}, got {mask.dtype} of {tuple(mask.shape)}."
            )
        if not bool(mask.any(-1).all()):
            raise ValueError("mask must leave each state at least one pattern to see, got one that hides all.")
        return mask[:, None, None] if mask.ndim == 2 else mask[:, None]

    def extra_repr(self) -> str:
        """Say what the weights do not show."""
        return f"num_heads={self.num_heads}, beta={self.fixed_beta or 'learnt'}, num_steps={self.num_steps}"


def _packed_linear(X: Tensor, layers: list[nn.Linear]) -> Tensor:
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return nn.functional.linear(X, weight, bias)


class HopfieldPooling(nn.Module):
    """Pool a bag of any size into `num_queries` vectors: learnt states retrieve from the bag.

    Parameters
    ----------
    dim
        Features of an instance.
    num_queries
        Learnt states, and so pooled vectors.
    kwargs
        As for `Hopfield`.

    >>> HopfieldPooling(8, num_queries=2)(torch.zeros(4, 50, 8)).shape
    torch.Size([4, 2, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_queries: int = 1,
        num_heads: int = 1,
        head_dim: int | None = None,
        out_dim: int | None = None,
        beta: float | None = None,
        learn_beta: bool = False,
        num_steps: int = 1,
        tolerance: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_int(1, num_queries=num_queries)
        self.association = Hopfield(
            dim,
            num_heads=num_heads,
            head_dim=head_dim,
            out_dim=out_dim,
            beta=beta,
            learn_beta=learn_beta,
            num_steps=num_steps,
            tolerance=tolerance,
            dropout=dropout,
            bias=bias,
        )
        self.queries = nn.Parameter(torch.randn(num_queries, dim) / math.sqrt(dim))

    def forward(
        self, bag: Float[Tensor, "*batch size dim"], *, mask: Bool[Tensor, "*batch size"] | None = None
    ) -> Float[Tensor, "*batch queries out"]:
        """Pool each bag; `mask` is True where a bag has an instance.

        Raises
        ------
        ValueError
            If shapes do not fit, or a bag has no instance.
        """
        states = self.queries if bag.ndim == 2 else self.queries.expand(len(bag), -1, -1)
        pooled: Tensor = self.association(states, bag, mask=mask)
        return pooled


class HopfieldLayer(nn.Module):
    """Look each input up among `num_stored` learnt patterns, and answer with what was learnt to go with them.

    Parameters
    ----------
    dim
        Features of an input.
    num_stored
        Learnt patterns.
    kwargs
        As for `Hopfield`.

    >>> HopfieldLayer(8, num_stored=16)(torch.zeros(4, 5, 8)).shape
    torch.Size([4, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_stored: int,
        num_heads: int = 1,
        head_dim: int | None = None,
        out_dim: int | None = None,
        beta: float | None = None,
        learn_beta: bool = False,
        num_steps: int = 1,
        tolerance: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_int(1, num_stored=num_stored)
        self.association = Hopfield(
            dim,
            num_heads=num_heads,
            head_dim=head_dim,
            out_dim=out_dim,
            beta=beta,
            learn_beta=learn_beta,
            num_steps=num_steps,
            tolerance=tolerance,
            dropout=dropout,
            bias=bias,
        )
        self.patterns = nn.Parameter(torch.randn(num_stored, dim) / math.sqrt(dim))

    def forward(self, X: Float[Tensor, "*batch length dim"]) -> Float[Tensor, "*batch length out"]:
        """Look up each input.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        stored = self.patterns if X.ndim == 2 else self.patterns.expand(len(X), -1, -1)
        answer: Tensor = self.association(X, stored)
        return answer
