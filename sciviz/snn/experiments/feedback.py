"""Experiments on direct feedback alignment: a coordinate field, a graph, and a small transformer, each with three rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_choice, check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.experiments._digits import digit_splits, sub_seeds
from sciviz.snn.feedback import RULES, Block, Parameters, rule_loss

TASKS = ("coordinate field", "graph", "transformer")
_SCORES = {"coordinate field": "PSNR on unseen points (dB)", "graph": "test accuracy", "transformer": "test accuracy"}


class _Task(NamedTuple):
    """All a rule needs: members' parameters, blocks, inputs, the loss of a batch and the score at the end."""

    parameters: dict[str, Tensor]
    blocks: Sequence[Block]
    widths: Sequence[int]
    num_outputs: int
    batch: Callable[[int], tuple[Tensor, Callable[[Tensor], Tensor]]]
    score: Callable[[Callable[[Tensor], Tensor]], Tensor]
    lr: float


def _draw(seeds: Sequence[int], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw weights with variance 2 / inputs; names ending in "bias" are zero."""
    members = []
    for s in seeds:
        generator = torch.Generator().manual_seed(s)
        members.append(
            {
                name: torch.zeros(shape)
                if name.endswith("bias")
                else torch.randn(shape, generator=generator) * math.sqrt(2 / shape[-2])
                for name, shape in shapes.items()
            }
        )
    return {name: torch.stack([m[name] for m in members]) for name in shapes}


def _layer(index: int, nonlinear: bool = True) -> Block:
    def block(p: Parameters, a: Tensor) -> Tensor:
        out = torch.baddbmm(p[f"{index}bias"], a, p[f"{index}weight"])
        return torch.tanh(out) if nonlinear else out

    return block


def _field(seeds: Sequence[int], width: int, depth: int) -> _Task:
    """A picture as a function of place: Fourier features, tanh layers, brightness; tested between the training points."""
    side = 32
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    pictures, orders, num_train = [], [], side * side // 2
    for s in seeds:
        generator = torch.Generator().manual_seed(s)
        # Blobs with sharp rims, of random place, size and brightness: broad shapes and edges, and another for each seed.
        centre = torch.rand(12, 2, generator=generator) * 2 - 1
        size = 0.15 + 0.35 * torch.rand(12, generator=generator)
        bright = torch.randn(12, 3, generator=generator)
        distance = (places[:, None] - centre).norm(dim=-1)
        picture = torch.sigmoid((size - distance) * 25) @ bright
        low, high = picture.amin(0), picture.amax(0)
        pictures.append((picture - low) / (high - low))
        orders.append(torch.randperm(side * side, generator=generator))
    picture, order = torch.stack(pictures), torch.stack(orders)
    frequencies = math.pi * 2.0 ** torch.arange(3)
    angles = (places[..., None] * frequencies).flatten(1)
    features = torch.cat([places, angles.sin(), angles.cos()], -1)
    X, y = features[order], torch.stack([p[o] for p, o in zip(picture, order, strict=True)])
    shapes: dict[str, tuple[int, ...]] = {}
    sizes = [features.shape[-1], *[width] * depth, 3]
    for k in range(depth + 1):
        shapes |= {f"{k}weight": (sizes[k], sizes[k + 1]), f"{k}bias": (1, sizes[k + 1])}
    blocks = [_layer(k, nonlinear=k < depth) for k in range(depth + 1)]

    def batch(step: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        start = step * 128 % num_train
        part = slice(start, start + 128)
        return X[:, part], lambda out: (out - y[:, part]).square().mean((1, 2)).sum()

    def score(predict: Callable[[Tensor], Tensor]) -> Tensor:
        error = (predict(X[:, num_train:]).clamp(0, 1) - y[:, num_train:]).square().mean((1, 2))
        return -10 * error.log10()

    return _Task(_draw(seeds, shapes), blocks, [width] * depth, 3, batch, score, 0.01)


def _graph(seeds: Sequence[int], width: int, depth: int) -> _Task:
    """Noisy digits joined to their nearest neighbours; eight labels a class are known. Graph convolutions [dfa-scales, §3.3]."""
    num_nodes, noise, per_class, neighbours = 400, 0.5, 8, 6
    digits = digit_splits(seeds[0], len(seeds), num_train=num_nodes, num_test=1)
    clean, y = digits.X, digits.y
    noisy = torch.stack(
        [
            x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(s))
            for x, s in zip(clean, seeds, strict=True)
        ]
    )
    # Edges come from the clean pictures, as citations know more than the words of a paper do.
    nearest = torch.cdist(clean, clean).topk(neighbours + 1, largest=False).indices
    adjacency = torch.zeros(len(seeds), num_nodes, num_nodes).scatter_(2, nearest, 1.0)
    adjacency = torch.maximum(adjacency, adjacency.mT)
    root = adjacency.sum(-1).rsqrt()
    propagate = root[..., None] * adjacency * root[:, None, :]
    known = torch.zeros_like(y, dtype=torch.bool)
    for member, labels in enumerate(y):
        for c in range(10):
            known[member, (labels == c).nonzero()[:per_class, 0]] = True
    weighting = known.float() / known.float().sum(1, keepdim=True)
    sizes = [64, *[width] * depth, 10]
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(depth + 1):
        shapes |= {f"{k}weight": (sizes[k], sizes[k + 1]), f"{k}bias": (1, sizes[k + 1])}

    # What the first convolution gathers never changes: gathered once.
    gathered = propagate @ noisy

    def convolution(index: int) -> Block:
        layer = _layer(index, nonlinear=False)

        def block(p: Parameters, a: Tensor) -> Tensor:
            out = layer(p, a if index == 0 else propagate @ a)
            return torch.tanh(out) if index < depth else out

        return block

    def batch(step: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def loss(out: Tensor) -> Tensor:
            each = torch.nn.functional.cross_entropy(out.mT, y, reduction="none")
            return (each * weighting).sum()

        return gathered, loss

    def score(predict: Callable[[Tensor], Tensor]) -> Tensor:
        right = (predict(gathered).argmax(-1) == y).float()
        return (right * ~known).sum(1) / (~known).sum(1)

    return _Task(
        _draw(seeds, shapes), [convolution(k) for k in range(depth + 1)], [width] * depth, 10, batch, score, 0.005
    )


def _transformer(seeds: Sequence[int], width: int, depth: int) -> _Task:
    """Find what followed: after a list of pairs (key, value) a key is asked for, and its value is the answer."""
    num_keys, num_pairs, batch_size = 8, 4, 64
    length, vocabulary = 2 * num_pairs + 1, 2 * num_keys

    def draw(num: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        members = len(seeds)
        keys = torch.rand(members, num, num_keys, generator=generator).argsort(-1)[..., :num_pairs]
        values = torch.randint(0, num_keys, (members, num, num_pairs), generator=generator)
        asked = torch.randint(0, num_pairs, (members, num, 1), generator=generator)
        tokens = torch.stack([keys, values + num_keys], -1).flatten(2)
        tokens = torch.cat([tokens, keys.gather(2, asked)], -1)
        return torch.nn.functional.one_hot(tokens, vocabulary).float(), values.gather(2, asked)[..., 0]

    shapes: dict[str, tuple[int, ...]] = {"embed": (vocabulary, width), "place": (length, width)}
    for k in range(depth):
        for name in ("query", "key", "value", "mix"):
            shapes[f"{k}{name}"] = (width, width)
        shapes |= {f"{k}up": (width, 2 * width), f"{k}down": (2 * width, width)}
    shapes |= {"outweight": (width, num_keys), "outbias": (1, num_keys)}

    def times(a: Tensor, weight: Tensor) -> Tensor:
        return torch.unflatten(torch.bmm(a.flatten(1, 2), weight), 1, tuple(a.shape[1:3]))

    def norm(a: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(a, (width,))

    def embed(p: Parameters, a: Tensor) -> Tensor:
        # Neighbours are seen together: each place carries its own symbol and the one before it.
        now = times(a, p["embed"])
        before = torch.nn.functional.pad(now, (0, 0, 1, 0))[:, :, :-1].roll(width // 2, -1)
        return now + before + p["place"][:, None]

    def layer(k: int) -> Block:
        def block(p: Parameters, a: Tensor) -> Tensor:
            x = norm(a)
            q, key, v = (
                torch.unflatten(times(x, p[f"{k}{name}"]), -1, (2, -1)).transpose(2, 3)
                for name in ("query", "key", "value")
            )
            seen = torch.nn.functional.scaled_dot_product_attention(q, key, v).transpose(2, 3).flatten(3)
            a = a + times(seen, p[f"{k}mix"])
            return a + times(torch.relu(times(norm(a), p[f"{k}up"])), p[f"{k}down"])

        return block

    def read(p: Parameters, a: Tensor) -> Tensor:
        return torch.baddbmm(p["outbias"], norm(a)[:, :, -1], p["outweight"])

    X_test, y_test = draw(256, seeds[0] + 1)
    last = [layer(k) for k in range(depth)]

    def batch(step: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        X, y = draw(batch_size, (seeds[0] + 7919 * (step + 2)) % 2**32)
        return X, lambda out: torch.nn.functional.cross_entropy(out.mT, y, reduction="none").mean(1).sum()

    def score(predict: Callable[[Tensor], Tensor]) -> Tensor:
        return (predict(X_test).argmax(-1) == y_test).float().mean(1)

    parameters = _draw(seeds, shapes)
    for name in parameters:
        if name not in ("embed", "place", "outbias"):
            parameters[name] *= 0.5
    return _Task(parameters, [embed, *last, read], [width] * (depth + 1), num_keys, batch, score, 0.003)


# Updates, width and depth at which each task is measured. The field converges slowly. The graph's layers are narrow: of 64
# random features a last layer alone makes nearly all that there is to be made, and a share of that gain is a share of noise.
_SIZES = {"coordinate field": (1000, 64, 3), "graph": (300, 16, 2), "transformer": (300, 64, 3)}
_MAKERS = {"coordinate field": _field, "graph": _graph, "transformer": _transformer}


def three_rules(
    task: str,
    *,
    seed: int,
    num_seeds: int = 5,
    num_steps: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    scale: float = 1.0,
) -> xr.Dataset:
    """Train the same network on one task by backpropagation, by direct feedback, and in its last layer only.

    All rules start from the same draw and see the same batches; the seeds of each run as one ensemble under Adam.

    Parameters
    ----------
    task
        "coordinate field": brightness of a random picture, a function of place. "graph": noisy digits joined to their
        neighbours, eight labels a class. "transformer": recall the value that stood after a key.
    num_steps, width, depth
        None takes those at which the task is measured in the course.
    scale
        Size of the feedback matrices.

    Returns
    -------
    xr.Dataset
        `score` (rule, seed): PSNR in dB on unseen points, or test accuracy; and `ratio` (seed), the share of
        backpropagation's gain over the last layer that direct feedback reaches.

    >>> ds = three_rules("graph", seed=0, num_seeds=1, num_steps=2, width=8, depth=1)
    >>> ds.score.dims
    ('rule', 'seed')
    """
    check_choice(TASKS, task=task)
    default = _SIZES[task]
    num_steps, width, depth = (
        d if given is None else given for given, d in zip((num_steps, width, depth), default, strict=True)
    )
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, width=width, depth=depth)
    check_positive(scale=scale)
    seeds = sub_seeds(seed, num_seeds)
    made = _MAKERS[task](seeds, width, depth)
    generators = [torch.Generator().manual_seed((s + 1) % 2**32) for s in seeds]
    feedback = [
        torch.stack([torch.randn(made.num_outputs, w, generator=g) for g in generators]) * scale / made.num_outputs**0.5
        for w in made.widths
    ]
    scores = []
    for rule in RULES:
        parameters = {name: value.clone().requires_grad_() for name, value in made.parameters.items()}
        optimizer = torch.optim.Adam(list(parameters.values()), lr=made.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=num_steps)
        for step in range(num_steps):
            X, loss = made.batch(step)
            optimizer.zero_grad()
            rule_loss(rule, made.blocks, parameters, X, loss, feedback).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

        def predict(X: Tensor, parameters: dict[str, Tensor] = parameters) -> Tensor:
            for block in made.blocks:
                X = block(parameters, X)
            return X

        with torch.no_grad():
            scores.append(made.score(predict))
    score = torch.stack(scores)
    units = "dB" if task == "coordinate field" else "1"
    return dataset(
        f"Three rules on one task: {task}",
        {
            "rule": variable("rule", list(RULES), "rule"),
            "seed": variable("seed", range(num_seeds), "draw of the task and network"),
        },
        {"score": variable("rule seed", score, _SCORES[task].removesuffix(" (dB)"), units)},
        task=task,
        width=width,
        depth=depth,
        num_steps=num_steps,
    )


def gain_ratio(ds: xr.Dataset) -> tuple[float, float]:
    """Return (DFA − last) / (backpropagation − last) of the means over seeds, with the jackknife's 95% half interval.

    >>> ds = three_rules("graph", seed=0, num_seeds=2, num_steps=2, width=8, depth=1)
    >>> len(gain_ratio(ds))
    2
    """
    score = {rule: ds.score.sel(rule=rule).values.astype(float) for rule in RULES}
    top = score["direct feedback"] - score["last layer only"]
    bottom = score["backpropagation"] - score["last layer only"]
    num = len(top)
    # A ratio of means: single seeds' ratios have no mean where a denominator may be near zero.
    ratio = float(top.mean() / bottom.mean())
    if num < 2:
        return ratio, math.nan
    left_out = np.array([np.delete(top, i).mean() / np.delete(bottom, i).mean() for i in range(num)])
    pseudo = num * ratio - (num - 1) * left_out
    return ratio, paired_interval(pseudo).half


def dfa_claim(ds: xr.Dataset) -> ClaimResult:
    """`dfa-scales/field` and `dfa-scales/graph`: most of what backpropagation gains over the last layer, DFA gains too."""
    ratio, half = gain_ratio(ds)
    text = "(DFA − last layer only) / (backpropagation − last layer only) of the mean scores at least 0.7"
    holds = bool(ratio >= 0.7) if ds.sizes["seed"] >= 3 else None
    return ClaimResult(ratio, holds, text, half, ds.sizes["seed"])
