"""Attention as a pointer: a decoder whose attention weights over the inputs are its output [pointer-networks].

Ordinary attention blends the encoded inputs into a context vector, and a linear layer then chooses among a fixed list
of words. A pointer network stops earlier: with encoder states eⱼ and decoder state dᵢ,

    uᵢⱼ = vᵀ tanh(W₁ eⱼ + W₂ dᵢ)         p(Cᵢ = j | C₁ … Cᵢ₋₁, inputs) = softmax(uᵢ)ⱼ          [pointer-networks, eq. 3]

so its dictionary is the input itself, however long that is. `HullDecoder` is both networks: they differ in one line.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_int, check_ndim

OUTPUTS = ("pointer", "vocabulary")


class HullBatch(NamedTuple):
    """Planar point sets and their convex hulls.

    Attributes
    ----------
    points
        Coordinates in [0, 1]²; rows past a set's size are zero.
    present
        Which rows are points.
    hull
        Positions of the corners, counter-clockwise from the one with the lowest position, then `points.shape[1]`, the
        stop symbol, to the end.
    """

    points: Float[Tensor, "batch num 2"]
    present: Bool[Tensor, "batch num"]
    hull: Int[Tensor, "batch length"]


def convex_hull(
    points: Float[Tensor, "batch num 2"], present: Bool[Tensor, "batch num"]
) -> Int[Tensor, "batch length"]:
    """Return the corners of each set's convex hull, counter-clockwise from the lowest position, then stop symbols.

    A pair (i, j) is an edge if every other point lies to its left; following edges from corner to corner is the hull.
    Points in general position are assumed (no three on a line), as random ones are.

    Raises
    ------
    ValueError
        If `points` is not (batch, num, 2).

    >>> square = torch.tensor([[[0.5, 0.4], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> convex_hull(square, torch.ones(1, 5, dtype=torch.bool)).tolist()
    [[1, 3, 2, 4, 5, 5]]
    """
    check_ndim(3, points=points)
    batch, num, _ = points.shape
    edge = points[:, None, :, :] - points[:, :, None, :]
    to_other = points[:, None, None, :, :] - points[:, :, None, None, :]
    turn = edge[..., 0, None] * to_other[..., 1] - edge[..., 1, None] * to_other[..., 0]
    index = torch.arange(num, device=points.device)
    same = index[:, None, None] == index
    beside = ~(same | same.transpose(0, 1)) & present[:, None, None, :]
    is_edge = ((turn > 0) | ~beside).all(-1) & (index[:, None] != index) & present[:, :, None] & present[:, None, :]
    is_corner = is_edge.any(-1)
    following = is_edge.int().argmax(-1)
    start = is_corner.int().argmax(-1)
    rows, corners, here, open_ = [], is_corner.sum(-1), start, torch.ones(batch, dtype=torch.bool, device=points.device)
    for step in range(num + 1):
        open_ = open_ & (step < corners)
        rows.append(torch.where(open_, here, num))
        here = following.gather(1, here[:, None]).squeeze(1)
    return torch.stack(rows, 1)


def make_hulls(num_sets: int, fewest: int, most: int, generator: torch.Generator) -> HullBatch:
    """Draw sets of `fewest` to `most` uniform points in the unit square, and their convex hulls.

    Raises
    ------
    TypeError, ValueError
        If `fewest` is below 3 or above `most`.

    >>> batch = make_hulls(4, 5, 10, torch.Generator().manual_seed(0))
    >>> batch.points.shape, batch.hull.shape
    (torch.Size([4, 10, 2]), torch.Size([4, 11]))
    """
    check_int(1, num_sets=num_sets)
    check_int(3, most=most)
    check_int(3, most, fewest=fewest)
    where = generator.device
    sizes = torch.randint(fewest, most + 1, (num_sets,), generator=generator, device=where)
    present = torch.arange(most, device=where) < sizes[:, None]
    points = torch.rand(num_sets, most, 2, generator=generator, device=where) * present[..., None]
    return HullBatch(points, present, convex_hull(points, present))


def polygon_area(points: Float[Tensor, "batch num 2"], corners: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """Return the areas of polygons given by positions of corners (the position `num` and beyond is none).

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> polygon_area(square, torch.tensor([[0, 1, 2, 3, 4]])).tolist()
    [1.0]
    """
    real = corners < points.shape[1]
    # A missing corner is replaced by the first one: edges of no length add nothing to the shoelace sum.
    safe = torch.where(real, corners, corners[:, :1].clamp(max=points.shape[1] - 1))
    path = points.gather(1, safe[..., None].expand(-1, -1, 2))
    ahead = path.roll(-1, 1)
    return (path[..., 0] * ahead[..., 1] - path[..., 1] * ahead[..., 0]).sum(1).abs() / 2


def is_simple(points: Float[Tensor, "batch num 2"], corners: Int[Tensor, "batch length"]) -> Bool[Tensor, " batch"]:
    """Whether each polygon has at least three corners and no two of its edges cross.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> is_simple(square, torch.tensor([[0, 1, 2, 3]])).tolist(), is_simple(square, torch.tensor([[0, 2, 1, 3]])).tolist()
    ([True], [False])
    """
    num, length = points.shape[1], corners.shape[1]
    real = corners < num
    count = real.sum(1)
    path = points.gather(1, torch.where(real, corners, corners[:, :1].clamp(max=num - 1))[..., None].expand(-1, -1, 2))
    ahead = torch.where(
        (torch.arange(length, device=points.device) + 1 < count[:, None])[..., None], path.roll(-1, 1), path[:, :1]
    )

    def side(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    a, b, c, d = path[:, :, None], ahead[:, :, None], path[:, None], ahead[:, None]
    # Edges that share a corner have a product of zero, so that only proper crossings count.
    tiny = 1e-9
    cross = (side(a, b, c) * side(a, b, d) < -tiny * tiny) & (side(c, d, a) * side(c, d, b) < -tiny * tiny)
    both = real[:, :, None] & real[:, None, :]
    return (count >= 3) & ~(cross & both).flatten(1).any(1)


class HullDecoder(nn.Module):
    """An encoder and a decoder that names a hull's corners one by one, by pointing or from a fixed vocabulary.

    Parameters
    ----------
    output
        "pointer": the attention weights are the output. "vocabulary": attention makes a context, and a linear layer
        chooses one of the positions 1 … `vocabulary` or the stop symbol (a sequence-to-sequence model with attention).
    width
        Hidden units of both LSTMs.
    vocabulary
        Number of positions that the vocabulary has words for; the pointer has no use for it.

    Notes
    -----
    Both models see the same mask: positions named before, and positions that hold no point, are out of reach.
    """

    def __init__(self, output: str, *, width: int = 64, vocabulary: int = 10) -> None:
        super().__init__()
        check_choice(OUTPUTS, output=output)
        check_int(1, width=width, vocabulary=vocabulary)
        self.output, self.vocabulary = output, vocabulary
        self.encoder = nn.LSTM(2, width, batch_first=True)
        self.decoder = nn.LSTM(width, width, batch_first=True)
        self.begin = nn.Parameter(torch.randn(width) / width**0.5)
        self.stop = nn.Parameter(torch.randn(width) / width**0.5)
        self.from_encoder = nn.Linear(width, width, bias=False)
        self.from_decoder = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.words = nn.Linear(2 * width, vocabulary + 1)

    def encode(self, batch: HullBatch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the encoder's states (batch, num + 1, width), the stop symbol's last, and its final (h, c)."""
        if bool(batch.present.all()):  # packing costs as much as the network itself: sets of one size do without
            states, last = self.encoder(batch.points)
        else:
            lengths = batch.present.sum(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(batch.points, lengths, batch_first=True, enforce_sorted=False)
            states, last = self.encoder(packed)
            states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=batch.points.shape[1])
        return torch.cat([states, self.stop.expand(len(states), 1, -1)], 1), last

    def logits(self, states: Tensor, decoded: Tensor, reachable: Tensor, seen: Tensor) -> Tensor:
        """Return logits over positions and the stop symbol (batch, length, num + 1) for decoder states.

        `reachable` (batch, length, num + 1) is what may be named at each step, `seen` (batch, num + 1) what there is.
        """
        queries = self.from_decoder(decoded)[:, :, None]
        energy: Tensor = self.score(torch.tanh(self.from_encoder(states)[:, None] + queries)).squeeze(-1)
        if self.output == "pointer":
            return energy.masked_fill(~reachable, float("-inf"))
        # A word that was said may still be attended to: only what may be *named* is masked.
        context = torch.softmax(energy.masked_fill(~seen[:, None], float("-inf")), -1) @ states
        words: Tensor = self.words(torch.cat([decoded, context], -1))
        num = states.shape[1] - 1
        named = words.new_full((*words.shape[:2], num + 1), float("-inf"))
        shared = min(num, self.vocabulary)
        named[..., :shared], named[..., -1] = words[..., :shared], words[..., -1]
        return named.masked_fill(~reachable, float("-inf"))

    def forward(self, batch: HullBatch) -> Float[Tensor, "batch length choices"]:
        """Return logits with the true corners fed in (teacher forcing), up to the longest hull's stop symbol."""
        num = batch.points.shape[1]
        length = int((batch.hull < num).sum(1).max()) + 1
        target = batch.hull[:, :length]
        states, last = self.encode(batch)
        given = states.gather(1, target[:, :-1, None].expand(-1, -1, states.shape[-1]))
        decoded, _ = self.decoder(torch.cat([self.begin.expand(len(states), 1, -1), given], 1), last)
        named = nn.functional.one_hot(target[:, :-1], num + 1).cumsum(1) > 0
        reachable = torch.cat([torch.ones_like(named[:, :1]), ~named], 1)
        seen = torch.cat([batch.present, torch.ones_like(batch.present[:, :1])], 1)
        reachable = reachable & seen[:, None]
        reachable[..., -1] = True
        return self.logits(states, decoded, reachable, seen)

    def loss(self, batch: HullBatch) -> Float[Tensor, ""]:
        """Return the mean negative log-likelihood of the true corners and of one stop symbol each, in nats."""
        logits = self(batch)
        target = batch.hull[:, : logits.shape[1]]
        stop = logits.shape[-1] - 1
        counts = torch.cat([torch.ones_like(target[:, :1], dtype=torch.bool), target[:, :-1] < stop], 1)
        return nn.functional.cross_entropy(logits[counts], target[counts])

    @torch.no_grad()
    def decode(self, batch: HullBatch) -> Int[Tensor, "batch length"]:
        """Name corners greedily, each the most likely one that was not named before, until the stop symbol."""
        states, state = self.encode(batch)
        num = batch.points.shape[1]
        seen = torch.cat([batch.present, torch.ones_like(batch.present[:, :1])], 1)
        reachable = seen
        given, done, said = self.begin.expand(len(states), -1), torch.zeros(len(states), dtype=torch.bool), []
        done = done.to(states.device)
        for _ in range(num + 1):
            decoded, state = self.decoder(given[:, None], state)
            choice = self.logits(states, decoded, reachable[:, None], seen)[:, 0].argmax(-1)
            choice = torch.where(done, num, choice)
            said.append(choice)
            done = done | (choice == num)
            keep = nn.functional.one_hot(choice, num + 1).bool()
            keep[:, -1] = False
            reachable = reachable & ~keep
            given = states.gather(1, choice[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
        return torch.stack(said, 1)
