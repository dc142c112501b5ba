"""Memories of sparse codes: segments of active dendrites, and modules of competing winners.

A sparse code has a few active bits among many. Two random codes hardly share any, so a neuron can recognise a code from a
handful of its bits, and can hold several codes on one stretch of dendrite [sdr-dendrites]. `Sparsey` makes such codes
itself, in one pass, so that similar inputs get similar codes [sparsey-sdr].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciviz.hopfield.memories import Memory
from sciviz.lab.checks import check_int, check_ndim, check_positive, check_same_last_dim, check_same_length


def random_codes(
    num: int, dimension: int, active: int, *, generator: torch.Generator
) -> Float[Tensor, "num dimension"]:
    """Draw codes of `active` ones among `dimension` bits.

    Raises
    ------
    ValueError
        If `active` is not from 1 to `dimension`.

    >>> random_codes(2, 10, 3, generator=torch.Generator().manual_seed(0)).sum(1).tolist()
    [3.0, 3.0]
    """
    check_int(1, num=num, dimension=dimension)
    check_int(1, dimension, active=active)
    keys = torch.rand(num, dimension, generator=generator, device=generator.device)
    return top_bits(keys, active)


def top_bits(values: Float[Tensor, "batch dimension"], active: int) -> Float[Tensor, "batch dimension"]:
    """Return codes with ones where the `active` largest values are.

    >>> top_bits(torch.tensor([[0.1, 0.9, 0.5]]), 2).tolist()
    [[0.0, 1.0, 1.0]]
    """
    check_int(1, values.shape[-1], active=active)
    chosen = values.topk(active, -1).indices
    return torch.zeros_like(values).scatter_(-1, chosen, 1.0)


class SegmentMemory(Memory):
    """Sparse distributed memory: one dendritic segment for each stored code, sampling a few of its bits.

    A segment fires if at least `threshold` of its `synapses` meet an active bit. Firing segments vote for all bits of
    their code, by how far they are above threshold, and the most voted bits are the next state,

        E(σ) = −½ Σ_μ max(0, c^μ·σ − θ + 1)²

    which no update raises where segments sample whole codes (`descends`): the sum is convex in σ, and the update maximises
    its slope. Where no segment fires, the state stays as it is.

    Parameters
    ----------
    synapses
        Synapses of a segment, chosen at random among the code's active bits.
    threshold
        Active synapses that make it fire.
    seed
        Draws the synapses.

    >>> codes = random_codes(50, 256, 20, generator=torch.Generator().manual_seed(0))
    >>> memory = SegmentMemory(synapses=12, threshold=6).store(codes)
    >>> bool((memory.update(codes) == codes).all())
    True
    """

    def __init__(self, *, synapses: int = 20, threshold: int = 10, seed: int = 0) -> None:
        check_int(1, synapses=synapses)
        check_int(1, synapses, threshold=threshold)
        check_int(0, seed=seed)
        self.synapses, self.threshold = synapses, threshold
        self._generator = torch.Generator().manual_seed(seed)

    def _check_patterns(self, patterns: Tensor) -> None:
        check_ndim(2, patterns=patterns)
        sizes = patterns.sum(-1)
        if not bool(((patterns == 0) | (patterns == 1)).all()) or bool((sizes != sizes[0]).any()):
            raise ValueError("patterns must hold zeros and ones, the same number of ones in each.")
        if int(sizes[0]) < self.synapses:
            raise ValueError(f"patterns must have at least {self.synapses} ones (the synapses), got {int(sizes[0])}.")

    def _learn(self) -> None:
        # Only new codes get new synapses: what was stored before stays as it is.
        old: Tensor | None = getattr(self, "segments", None)
        fresh = self.patterns if old is None else self.patterns[len(old) :]
        keys = torch.rand(fresh.shape, generator=self._generator).to(fresh) * fresh
        grown = top_bits(keys, self.synapses)
        self.segments = grown if old is None else torch.cat([old, grown])
        self.active = int(self.patterns[0].sum())

    @property
    def descends(self) -> bool:
        """Whether no update of a state with as many active bits as the codes can raise the energy."""
        return self.synapses == self.active

    def response(self, state: Float[Tensor, "batch d"]) -> Float[Tensor, "batch stored"]:
        """Return by how much each segment is above threshold: 1 and more where it fires, 0 where it does not."""
        return (self._check_state(state) @ self.segments.T - self.threshold + 1).clamp(min=0)

    def energy(self, state: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """Return −½ Σ_μ max(0, c^μ·σ − θ + 1)²."""
        return -self.response(state).square().sum(-1) / 2

    def update(self, state: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """Return the bits that the firing segments vote for most."""
        response = self.response(state)
        fires = response.amax(-1, keepdim=True) > 0
        # Of equal votes, bits that are active already win: a tie moves nothing.
        votes = response @ self.patterns + state / 2
        return torch.where(fires, top_bits(votes, self.active), state)

    def overlap(self, state: Float[Tensor, "batch d"]) -> Float[Tensor, "batch stored"]:
        """Return the share of each code's active bits that are active in the state."""
        return self._check_state(state) @ self.patterns.T / self.active


class Recall(NamedTuple):
    """What Sparsey answers.

    Attributes
    ----------
    code
        The winning unit of each module.
    familiarity
        G, the mean over modules of the best match: 1 for what was seen before, 0 for what shares nothing with it.
    """

    code: Int[Tensor, "batch modules"]
    familiarity: Float[Tensor, " batch"]


class Sparsey:
    """Sparsey's code selection: the newer an input, the more chance decides which units win [sparsey-sdr].

    Each of `num_modules` modules has `num_units` competing units with binary weights. A unit's match V is the share of an
    input's active features that it is connected to. With G the mean over modules of the best match, a unit wins its
    module with odds 1 + η(G) / (1 + exp(−γ (V − ½))): all alike for a new input (η(0) = 0), nearly always the best for
    a familiar one. Winners then learn the active features: a connection once made stays.

    Parameters
    ----------
    num_features, num_active
        Of an input code, and how many of them are active in each.
    num_modules, num_units
        Of the field; a code is one winner a module.
    expansion
        η(1), the odds of a perfect match.
    floor
        Familiarity up to which chance alone decides.
    steepness
        γ, how sharply odds rise with the match.
    seed
        Draws the winners.

    >>> field = Sparsey(20, 4, num_modules=8, num_units=5)
    >>> item = random_codes(1, 20, 4, generator=torch.Generator().manual_seed(0))
    >>> learnt = field.learn(item)
    >>> bool((field.recall(item).code == learnt.code).all())
    True
    """

    def __init__(
        self,
        num_features: int,
        num_active: int,
        *,
        num_modules: int = 50,
        num_units: int = 20,
        expansion: float = 300.0,
        floor: float = 0.1,
        steepness: float = 14.0,
        seed: int = 0,
    ) -> None:
        check_int(1, num_features=num_features, num_modules=num_modules)
        check_int(1, num_features, num_active=num_active)
        check_int(2, num_units=num_units)
        check_positive(expansion=expansion, steepness=steepness)
        self.num_active, self.expansion, self.floor, self.steepness = num_active, expansion, floor, steepness
        self.weights = torch.zeros(num_modules, num_units, num_features, dtype=torch.bool)
        self._generator = torch.Generator().manual_seed(seed)

    def match(self, X: Float[Tensor, "batch features"]) -> Float[Tensor, "batch modules units"]:
        """Return V, the share of each input's active features that each unit is connected to."""
        check_same_last_dim(X=X, weights=self.weights)
        flat = self.weights.flatten(0, 1).to(X)
        match: Tensor = (X @ flat.T).view(len(X), *self.weights.shape[:2]) / self.num_active
        return match

    def select(self, X: Float[Tensor, "batch features"]) -> Recall:
        """Choose a code for each input, by chance where it is new."""
        match = self.match(X)
        familiarity = match.amax(-1).mean(-1)
        range_ = self.expansion * ((familiarity - self.floor) / (1 - self.floor)).clamp(0, 1) ** 2
        odds = 1 + range_[:, None, None] * torch.sigmoid(self.steepness * (match - 0.5))
        code = torch.multinomial(odds.flatten(0, 1), 1, generator=self._generator).view(match.shape[:2])
        return Recall(code, familiarity)

    def recall(self, X: Float[Tensor, "batch features"]) -> Recall:
        """Return the best matching unit of every module: no chance, and nothing learnt."""
        match = self.match(X)
        return Recall(match.argmax(-1), match.amax(-1).mean(-1))

    def learn(self, X: Float[Tensor, "batch features"]) -> Recall:
        """Present inputs once each, one after the other: choose a code, and connect its units to the active features."""
        picked = []
        modules = torch.arange(self.weights.shape[0])
        for x in X:
            chosen = self.select(x[None])
            self.weights[modules, chosen.code[0]] |= x > 0
            picked.append(chosen)
        return Recall(torch.cat([p.code for p in picked]), torch.cat([p.familiarity for p in picked]))


def code_overlap(a: Int[Tensor, "batch modules"], b: Int[Tensor, "stored modules"]) -> Float[Tensor, "batch stored"]:
    """Return the share of modules in which two codes have the same winner, for all pairs.

    >>> code_overlap(torch.tensor([[0, 1]]), torch.tensor([[0, 1], [0, 2]])).tolist()
    [[1.0, 0.5]]
    """
    check_same_last_dim(a=a, b=b)
    return torch.stack([(row == b).float().mean(-1) for row in a])


def vote(
    overlap: Float[Tensor, "batch stored"], labels: Int[Tensor, " stored"], num_classes: int, *, neighbours: int = 5
) -> Int[Tensor, " batch"]:
    """Return the class with the largest sum of overlaps among the `neighbours` stored codes that overlap most.

    >>> vote(torch.tensor([[0.9, 0.1, 0.8]]), torch.tensor([1, 0, 1]), 2, neighbours=2).tolist()
    [1]
    """
    check_int(1, overlap.shape[-1], neighbours=neighbours)
    check_same_length(labels=labels, stored=overlap.T)
    best = overlap.topk(neighbours, -1)
    tally = overlap.new_zeros(len(overlap), num_classes)
    return tally.scatter_add_(1, labels[best.indices], best.values).argmax(-1)


def sparse_features(
    X: Float[Tensor, "batch pixels"],
    num_features: int,
    active: int,
    *,
    reference: Float[Tensor, "num pixels"],
    seed: int,
) -> Float[Tensor, "batch features"]:
    """Return random features of images, of which only the `active` largest are on (k winners of random projections).

    Features are centred and scaled by their statistics over the `reference` images, so that all are on about equally
    often. Without that a few "popular" ones are on for every image, and so are the units that they lead to.

    >>> images = torch.rand(30, 64, generator=torch.Generator().manual_seed(0))
    >>> sparse_features(images[:3], 500, 20, reference=images, seed=0).sum(1).tolist()
    [20.0, 20.0, 20.0]
    """
    check_ndim(2, X=X, reference=reference)
    check_same_last_dim(X=X, reference=reference)
    check_int(1, num_features=num_features)
    projection = torch.randn(X.shape[1], num_features, generator=torch.Generator().manual_seed(seed)).to(X)
    mean = reference.mean(0)
    spread = ((reference - mean) @ projection).std(0).clamp(min=1e-6)
    return top_bits((X - mean) @ projection / spread, active)
