"""Retrieval from a modern Hopfield memory: one step, many steps, and one step among millions of patterns.

One step is attention, softmax(β q Xᵀ) X. `retrieve` is that line. `retrieve_blocked` gives the same numbers while it
holds only a few blocks of scores: each block of patterns answers with its own softmax average o_b and the logarithm ℓ_b of
its sum of exponentials, and the answers are averaged with weights softmax(ℓ) — kept up to date from block to block, so that
nothing grows with the number of patterns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_ndim, check_nonnegative, check_positive, check_same_last_dim
from sciviz.lab.products import times_transpose

SCORES_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}
"""Scores that `retrieve_blocked` holds at a time by default: a megabyte in float32 on a CPU, which stays in a core's
cache and below the size at which memory is handed back to the system, and zeroed anew, block after block."""


def retrieve(
    patterns: Float[Tensor, "stored d"], query: Float[Tensor, "batch d"], beta: float
) -> Float[Tensor, "batch d"]:
    """Retrieve with one step of the modern Hopfield update, softmax(β · query patternsᵀ) patterns.

    Identical to attention with keys = values = patterns [modern-hopfield, eq. 3].

    Raises
    ------
    ValueError
        If `beta` is not positive, or `query` and `patterns` differ in their last dimension.

    >>> patterns = torch.eye(3)
    >>> retrieve(patterns, patterns[:1] * 0.9, beta=50.0).round().tolist()
    [[1.0, 0.0, 0.0]]
    """
    _check(patterns, query, beta)
    return torch.softmax(beta * query @ patterns.T, dim=-1) @ patterns


def _check(patterns: Tensor, query: Tensor, beta: float) -> None:
    check_positive(beta=beta)
    check_ndim(2, patterns=patterns, query=query)
    check_same_last_dim(query=query, patterns=patterns)
    if len(patterns) == 0:
        raise ValueError("patterns must hold at least one pattern, got none.")


class Iteration(NamedTuple):
    """States after several steps, how many each took, and whether it then moved less than the tolerance."""

    state: Float[Tensor, "batch d"]
    steps: Float[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]


def iterate(
    patterns: Float[Tensor, "stored d"],
    query: Float[Tensor, "batch d"],
    beta: float,
    *,
    max_steps: int = 100,
    tolerance: float = 1e-6,
) -> Iteration:
    """Repeat the modern Hopfield update on each query until it moves by at most `tolerance` (Euclidean length).

    A query that has settled is left alone, so that its answer does not depend on which others came with it.

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> iterate(torch.eye(3), torch.eye(3) * 0.9, beta=50.0).steps.tolist()
    [2, 2, 2]
    """
    _check(patterns, query, beta)
    check_int(1, max_steps=max_steps)
    check_nonnegative(tolerance=tolerance)
    state = query.clone()
    steps = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    moving = torch.ones(len(query), dtype=torch.bool, device=query.device)
    for _ in range(max_steps):
        new = retrieve(patterns, state[moving], beta)
        change = (new - state[moving]).norm(dim=-1)
        state[moving] = new
        steps[moving] += 1
        moving[moving.clone()] = change > tolerance
        if not bool(moving.any()):
            break
    return Iteration(state, steps, ~moving)


class BlockAnswer(NamedTuple):
    """What one block of patterns answers: its softmax average, and the logarithm of its sum of exponentials."""

    mean: Float[Tensor, "batch d"]
    log_sum: Float[Tensor, "batch 1"]


def _ask_block(block: Tensor, scaled: Tensor) -> BlockAnswer:
    if _prefers_flash(block, scaled):
        q, k = scaled[None, None], block[None, None]
        mean, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, scale=1.0)
        return BlockAnswer(mean[0, 0], log_sum[0, 0, :, None].to(mean))
    scores = times_transpose(scaled, block)
    highest = scores.amax(-1, keepdim=True)
    in_place = not (torch.is_grad_enabled() and scores.requires_grad)
    weights = torch.softmax(scores, -1, out=scores) if in_place else torch.softmax(scores, -1)
    # Of the highest score s the softmax is exp(s − ℓ): its logarithm gives ℓ without another pass of exponentials.
    log_sum = highest - weights.amax(-1, keepdim=True).log()
    return BlockAnswer(times_transpose(weights, block.mT), log_sum)


def _prefers_flash(block: Tensor, query: Tensor) -> bool:
    """Whether torch's fused attention is the faster one: in few dimensions exponentials cost more than products."""
    asks_gradient = torch.is_grad_enabled() and (block.requires_grad or query.requires_grad)
    plain = block.device.type == "cpu" and block.dtype == query.dtype == torch.float32
    return plain and block.shape[1] < 48 and not asks_gradient


def _parts(tensor: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(tensor), size):
        yield tensor[start : start + size]


def retrieve_blocked(
    patterns: Float[Tensor, "stored d"],
    query: Float[Tensor, "batch d"],
    beta: float,
    *,
    block_size: int | None = None,
) -> Float[Tensor, "batch d"]:
    """Return what `retrieve` returns, in memory that does not grow with the number of patterns.

    Parameters
    ----------
    patterns
        Stored patterns; may be a memory-mapped array (`torch.from_numpy(np.load(path, mmap_mode="r"))`), and of lower
        precision than the query (float16, bfloat16), to which each block is then converted on its way.
    query
        Cues; their dtype is that of the computation and of the answer.
    beta
        Inverse temperature.
    block_size
        Patterns at a time; None takes as many as `SCORES_AT_ONCE` allows, and at least 256. Long batches of queries
        are cut, so that this bounds the scores in memory.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Beyond its arguments and its answer it holds at most three blocks of scores and one block of converted patterns. The
    weights of blocks are relative to the largest score so far, so no size of β overflows [modern-hopfield, eq. 3].

    >>> patterns, query = torch.randn(1000, 8), torch.randn(5, 8)
    >>> torch.allclose(retrieve_blocked(patterns, query, 2.0, block_size=7), retrieve(patterns, query, 2.0), atol=1e-5)
    True
    """
    _check(patterns, query, beta)
    at_once = SCORES_AT_ONCE["cpu" if query.device.type == "cpu" else "cuda"]
    flash = _prefers_flash(patterns, query)
    if block_size is None:
        # Fused attention cuts blocks of its own.
        block_size = 2**16 if flash else max(256, at_once // max(1, min(len(query), 512)))
    check_int(1, block_size=block_size)
    rows = max(1, at_once // min(block_size, len(patterns)))
    if len(query) > rows and not flash:
        return torch.cat(
            [retrieve_blocked(patterns, part, beta, block_size=block_size) for part in _parts(query, rows)]
        )
    scaled = query * beta
    answer, log_sum = torch.zeros_like(query), query.new_full((len(query), 1), -math.inf)
    for block in _parts(patterns, block_size):
        part = _ask_block(block.to(query), scaled)
        if len(patterns) <= block_size:
            return part.mean
        log_sum = torch.logaddexp(log_sum, part.log_sum)
        answer = answer + torch.exp(part.log_sum - log_sum) * (part.mean - answer)
    return answer
