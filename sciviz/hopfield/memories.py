"""Associative memories behind one interface: store, energy, update, retrieve until converged, overlap.

A memory is a landscape. Patterns are stored as valleys of an energy, and to remember is to roll downhill from a cue. All
memories here take the sum of a function F over the overlaps of the state σ with the patterns ξ^μ, and differ only in F:

    E(σ) = −Σ_μ F(ξ^μ·σ)        F(x) = x²/2   classical (Hebb)         holds about 0.138 d patterns
                                F(x) = x^n    dense, order n           of the order of d^(n−1)
                                F(x) = exp x  exponential              exponentially many in d
                                log-sum-exp over real states: the modern continuous memory, whose update is attention

Leading dimensions are an ensemble: patterns of shape (seeds, stored, d) and states (seeds, batch, d) are `seeds`
memories that share nothing but the arithmetic.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciviz.hopfield.retrieval import retrieve
from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_nonnegative,
    check_positive,
    check_same_last_dim,
)

ORDERS = ("synchronous", "asynchronous")
RULES = ("hebbian", "pseudo_inverse")


class Retrieval(NamedTuple):
    """Where a cue led.

    Attributes
    ----------
    state
        The last state.
    steps
        Updates that changed something, the largest number over the batch.
    converged
        Which cues reached a fixed point (or moved less than the tolerance) before the steps ran out.
    path
        All states from the cue on, if they were asked for.
    """

    state: Float[Tensor, "*ensemble batch d"]
    steps: int
    converged: Bool[Tensor, "*ensemble batch"]
    path: Float[Tensor, "time *ensemble batch d"] | None = None


class Memory(ABC):
    """What all memories share. A subclass says what its energy is and how one update moves a state.

    Attributes
    ----------
    patterns
        The stored patterns, (*ensemble, stored, d).
    """

    patterns: Tensor

    def store(self, patterns: Float[Tensor, "*ensemble stored d"]) -> Self:
        """Add patterns to those stored already, and return the memory.

        Raises
        ------
        ValueError
            If they are not finite, or of another dimension or ensemble than those stored.
        """
        if patterns.ndim < 2 or 0 in patterns.shape:
            raise ValueError(
                f"patterns must have shape (..., stored, d) with at least one, got {tuple(patterns.shape)}."
            )
        if not patterns.is_floating_point():
            raise TypeError(f"patterns must be floating-point numbers, got {patterns.dtype}.")
        check_finite(patterns=patterns)
        self._check_patterns(patterns)
        stored: Tensor | None = getattr(self, "patterns", None)
        if stored is not None:
            check_same_last_dim(patterns=patterns, stored=stored)
            if patterns.shape[:-2] != stored.shape[:-2]:
                raise ValueError(
                    f"patterns must have the ensemble dimensions {tuple(stored.shape[:-2])} of those stored, "
                    f"got {tuple(patterns.shape[:-2])}."
                )
            patterns = torch.cat([stored, patterns.to(stored)], -2)
        self.patterns = patterns
        self._learn()
        return self

    def _check_patterns(self, patterns: Tensor) -> None:  # noqa: B027 (most memories hold any patterns)
        """Raise if these patterns are none that this memory can hold."""

    def _learn(self) -> None:  # noqa: B027 (and some learn nothing beyond them)
        """Compute what depends on the stored patterns as a whole."""

    def _check_state(self, state: Tensor) -> Tensor:
        if not hasattr(self, "patterns"):
            raise ValueError("the memory must hold patterns before it is used: call store(patterns) first.")
        if state.ndim != self.patterns.ndim:
            raise ValueError(
                f"state must have shape (..., batch, d) with {self.patterns.ndim} dimensions as the patterns have, "
                f"got {tuple(state.shape)}."
            )
        check_same_last_dim(state=state, patterns=self.patterns)
        return state

    @abstractmethod
    def energy(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch"]:
        """Return the energy of each state; what `update` promises never to raise where `descends` says so."""

    @abstractmethod
    def update(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return the states after one update."""

    def overlap(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch stored"]:
        """Return the overlaps m = σ·ξ / d of each state with each pattern; one means equal, for entries of ±1."""
        return self._check_state(state) @ self.patterns.mT / self.patterns.shape[-1]

    def retrieve(
        self,
        state: Float[Tensor, "*ensemble batch d"],
        *,
        max_steps: int = 50,
        tolerance: float = 0.0,
        keep_path: bool = False,
    ) -> Retrieval:
        """Update until nothing moves by more than `tolerance` in any coordinate, at most `max_steps` times.

        Raises
        ------
        ValueError
            If nothing is stored, or an argument is out of range.
        """
        check_int(1, max_steps=max_steps)
        check_nonnegative(tolerance=tolerance)
        state = self._check_state(state)
        path, steps = [state], 0
        converged = torch.zeros(state.shape[:-1], dtype=torch.bool, device=state.device)
        for _ in range(max_steps):
            new = self.update(state)
            converged = (new - state).abs().amax(-1) <= tolerance
            moved, state = bool((new != state).any()), new
            steps += moved
            if moved:
                path.append(state)
            if bool(converged.all()):
                break
        return Retrieval(state, steps, converged, torch.stack(path) if keep_path else None)


class BinaryMemory(Memory):
    """A memory whose states are ±1: every update sets spins to the sign of a field, and a field of zero moves nothing.

    Parameters
    ----------
    order
        "synchronous": all spins at once. "asynchronous": one after the other, in a new random order each sweep, shared by
        the batch; an update is one sweep.
    seed
        Draws the orders of sweeps.
    """

    def __init__(self, *, order: str = "synchronous", seed: int = 0) -> None:
        check_choice(ORDERS, order=order)
        check_int(0, seed=seed)
        self.order = order
        self._generator = torch.Generator().manual_seed(seed)

    @property
    @abstractmethod
    def descends(self) -> bool:
        """Whether no update can raise the energy."""

    @abstractmethod
    def field(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return the field on every spin."""

    def update(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return the states after one synchronous step, or one asynchronous sweep."""
        state = self._check_state(state)
        if self.order == "synchronous":
            return _sign(self.field(state), state)
        state = state.clone()
        self._sweep(state, torch.randperm(state.shape[-1], generator=self._generator).tolist())
        return state

    def _sweep(self, state: Tensor, sites: list[int]) -> None:
        """Set one spin after the other, in place: the plain form, which computes the whole field for each spin."""
        for i in sites:
            state[..., i] = _sign(self.field(state)[..., i], state[..., i])


def _sign(field: Tensor, state: Tensor) -> Tensor:
    return torch.where(field == 0, state, field.sign())


class ClassicalMemory(BinaryMemory):
    """The classical network: couplings between pairs of spins, E = −½ σᵀJσ.

    Parameters
    ----------
    rule
        "hebbian": J = ΞᵀΞ/d. "pseudo_inverse": J = Ξ⁺Ξ, the projector on the patterns' span, which keeps correlated
        patterns apart (up to d independent ones).
    self_coupling
        Keep the diagonal of J. With it, synchronous updates descend (J has no negative eigenvalue) but a state holds on
        to itself; without it, asynchronous ones do, and synchronous ones may alternate between two states.
    order, seed
        As for `BinaryMemory`.

    >>> patterns = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]])
    >>> memory = ClassicalMemory(order="asynchronous").store(patterns)
    >>> memory.retrieve(torch.tensor([[1.0, 1.0, 1.0, 1.0]])).state.tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(
        self, *, rule: str = "hebbian", self_coupling: bool = False, order: str = "synchronous", seed: int = 0
    ) -> None:
        super().__init__(order=order, seed=seed)
        check_choice(RULES, rule=rule)
        self.rule, self.self_coupling = rule, self_coupling

    def _learn(self) -> None:
        if self.rule == "hebbian":
            couplings = self.patterns.mT @ self.patterns / self.patterns.shape[-1]
        else:
            couplings = torch.linalg.pinv(self.patterns) @ self.patterns
        if not self.self_coupling:
            couplings = couplings - torch.diag_embed(couplings.diagonal(dim1=-2, dim2=-1))
        self.couplings = couplings

    @property
    def descends(self) -> bool:
        """True for asynchronous updates; for synchronous ones only with self-coupling."""
        return self.order == "asynchronous" or self.self_coupling

    def field(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return J σ."""
        return self._check_state(state) @ self.couplings

    def energy(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch"]:
        """Return −½ σᵀJσ."""
        return -(self.field(state) * state).sum(-1) / 2

    def _sweep(self, state: Tensor, sites: list[int]) -> None:
        # Most spins of most sweeps stay: the fields are kept, and changed only where a spin has flipped.
        field = self.field(state)
        for i in sites:
            change = _sign(field[..., i], state[..., i]) - state[..., i]
            if bool(change.any()):
                field += change[..., None] * self.couplings[..., i, None, :]
                state[..., i] += change


class MultitaskingMemory(ClassicalMemory):
    """The classical network on diluted patterns, whose blank entries leave spins free for other patterns.

    Entries are −1, 0 (blank) or +1. Spins that the retrieved pattern leaves blank feel only the next ones, so that one
    relaxation retrieves several patterns at once [multitasking-hebbian].

    The Hebbian field is computed from the overlaps, in O(stored · d): couplings are never built.

    >>> patterns = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0]])
    >>> cue = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    >>> MultitaskingMemory(self_coupling=True).store(patterns).overlap(cue).tolist()
    [[0.5, 0.0]]
    """

    def __init__(self, *, self_coupling: bool = False, order: str = "synchronous", seed: int = 0) -> None:
        super().__init__(rule="hebbian", self_coupling=self_coupling, order=order, seed=seed)

    def _check_patterns(self, patterns: Tensor) -> None:
        if not bool(((patterns == 0) | (patterns.abs() == 1)).all()):
            raise ValueError("patterns must hold -1, 0 and 1 only.")

    def _learn(self) -> None:
        self._own = self.patterns.square().mean(-2, keepdim=True) * (self.patterns.shape[-2] / self.patterns.shape[-1])

    def field(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return Σ_μ ξ^μ m_μ, less each spin's own share where there is no self-coupling."""
        field = self.overlap(state) @ self.patterns
        return field if self.self_coupling else field - self._own * state

    def _sweep(self, state: Tensor, sites: list[int]) -> None:
        overlap = self.overlap(state)
        size = self.patterns.shape[-1]
        for i in sites:
            column = self.patterns[..., i, None]
            field = (overlap @ column).squeeze(-1)
            if not self.self_coupling:
                field = field - self._own[..., i] * state[..., i]
            new = _sign(field, state[..., i])
            overlap += ((new - state[..., i]) / size)[..., None] * column.mT
            state[..., i] = new


def elementary_symmetric(power_sums: list[Tensor], degree: int) -> list[Tensor]:
    """Return e₀ … e_degree of numbers x_j from their power sums p_k = Σ_j x_j^k (p₁ first), by Newton's identities.

    e_n is the sum over all products of n *different* numbers, so that it is what an order-n tensor without diagonal
    gives, for the price of n sums.

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> [float(e) for e in elementary_symmetric([x.sum(), (x**2).sum(), (x**3).sum()], 3)]
    [1.0, 6.0, 11.0, 6.0]
    """
    check_int(1, len(power_sums), degree=degree)
    e = [torch.ones_like(power_sums[0])]
    for n in range(1, degree + 1):
        e.append(torch.stack([(-1) ** (k - 1) * e[n - k] * power_sums[k - 1] for k in range(1, n + 1)]).sum(0) / n)
    return e


class DenseMemory(BinaryMemory):
    """A dense associative memory, in which groups of `interaction` spins couple, E = −(d/n) Σ_μ (ξ^μ·σ/d)^n.

    The order-n tensor, with d^n entries, is never built: with self-coupling the energy is a power of the overlaps, and
    without it the elementary symmetric polynomials of the products ξᵢσᵢ, from their power sums.

    Parameters
    ----------
    interaction
        How many spins couple, n ≥ 2. n = 2 is the classical network.
    self_coupling
        Keep the tensor's diagonals (groups in which a spin occurs more than once).
    order, seed
        As for `BinaryMemory`.

    Notes
    -----
    Patterns may be real, such as averages of noisy examples [dense-hebbian-supervised]. Fields are scaled so that the
    signal at overlap m is m^(n−1) for entries of ±1.

    >>> patterns = torch.sign(torch.randn(300, 40, generator=torch.Generator().manual_seed(0)))
    >>> memory = DenseMemory(4).store(patterns)
    >>> bool((memory.update(patterns[:5]) == patterns[:5]).all())
    True
    """

    def __init__(
        self, interaction: int, *, self_coupling: bool = False, order: str = "synchronous", seed: int = 0
    ) -> None:
        super().__init__(order=order, seed=seed)
        check_int(2, 20, interaction=interaction)
        self.interaction, self.self_coupling = interaction, self_coupling

    def _learn(self) -> None:
        # Powers are kept because each power sum needs one; for entries of ±1 there are only two different ones.
        self._binary = bool((self.patterns.abs() == 1).all())
        powers = 2 if self._binary else self.interaction
        self._powers = [self.patterns**k for k in range(1, powers + 1)]

    def _power(self, k: int) -> Tensor:
        """Return the patterns to the power k ≥ 1."""
        return self._powers[(k - 1) % 2 if self._binary else k - 1]

    def _power_sums(self, state: Tensor, highest: int) -> list[Tensor]:
        odd = {}
        sums = []
        for k in range(1, highest + 1):
            # σ² = 1: even powers do not depend on the state, odd ones are an overlap with ξ^k.
            key = 0 if self._binary else k
            if k % 2:
                if key not in odd:
                    odd[key] = state @ self._power(k).mT
                sums.append(odd[key])
            else:
                sums.append(self._power(k).sum(-1)[..., None, :].expand_as(sums[0]))
        return sums

    @property
    def descends(self) -> bool:
        """True for asynchronous updates; for synchronous ones with self-coupling and even order (then F is convex)."""
        return self.order == "asynchronous" or (self.self_coupling and self.interaction % 2 == 0)

    def energy(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch"]:
        """Return −(d/n) Σ_μ m_μ^n; without self-coupling the products of n different spins only."""
        n, size = self.interaction, self.patterns.shape[-1]
        if self.self_coupling:
            return -(self.overlap(state) ** n).sum(-1) * (size / n)
        e = elementary_symmetric(self._power_sums(self._check_state(state), n), n)[n]
        energy: Tensor = -e.sum(-1) * (math.factorial(n - 1) / size ** (n - 1))
        return energy

    def field(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return Σ_μ ξ^μ m_μ^(n−1); without self-coupling over products of n − 1 different *other* spins.

        The products that leave spin i out follow from e_k without i = e_k − xᵢ (e_{k−1} without i), xᵢ = ξᵢσᵢ:
        Σ_j (−1)^j xᵢ^j e_{n−1−j}. Each power of xᵢ is one matrix product, for all spins at once.
        """
        n, size = self.interaction, self.patterns.shape[-1]
        if self.self_coupling:
            return self.overlap(state) ** (n - 1) @ self.patterns
        e = elementary_symmetric(self._power_sums(self._check_state(state), n - 1), n - 1)
        if self._binary:
            # ξ^(j+1) is ξ or 1: the even terms need one product, the odd ones only a sum over patterns.
            even = torch.stack(e[n - 1 :: -2]).sum(0) @ self.patterns
            odd = torch.stack(e[n - 2 :: -2]).sum(0).sum(-1, keepdim=True)
            total = even - state * odd
        else:
            total = torch.zeros_like(state)
            for j in range(n):
                total = total + (-1) ** j * state**j * (e[n - 1 - j] @ self._power(j + 1))
        field: Tensor = total * (math.factorial(n - 1) / size ** (n - 1))
        return field

    def _sweep(self, state: Tensor, sites: list[int]) -> None:
        if self.self_coupling:
            # The sign of the energy's difference, not of its derivative, is what cannot go uphill [modern-hopfield].
            n, overlap = self.interaction, self.overlap(state)
            size = self.patterns.shape[-1]
            for i in sites:
                column = self.patterns[..., i, None].mT / size
                others = overlap - state[..., i, None] * column
                field = ((others + column) ** n - (others - column) ** n).sum(-1)
                new = _sign(field, state[..., i])
                overlap = others + new[..., None] * column
                state[..., i] = new
            return
        n = self.interaction
        sums = [s.clone() for s in self._power_sums(state, n - 1)] if n > 1 else []
        for i in sites:
            columns = [self._power(k)[..., i, None].mT for k in range(1, n)]
            spin = state[..., i, None]
            without = [s - columns[k] * spin ** (k + 1) for k, s in enumerate(sums)]
            field = (elementary_symmetric(without, n - 1)[n - 1] * columns[0]).sum(-1)
            new = _sign(field, state[..., i])
            sums = [s + columns[k] * new[..., None] ** (k + 1) for k, s in enumerate(without)]
            state[..., i] = new


class ExponentialMemory(BinaryMemory):
    """The limit of infinite order, E = −log Σ_μ exp(β ξ^μ·σ), which holds exponentially many patterns.

    The energy is the logarithm of the usual one: it falls and rises with it, and does not overflow.

    Parameters
    ----------
    beta
        Inverse temperature.
    order, seed
        As for `BinaryMemory`. Synchronous updates take the sign of softmax(β Ξσ) Ξ, asynchronous ones the sign of the
        energy's difference; both descend.

    >>> patterns = torch.sign(torch.randn(2000, 40, generator=torch.Generator().manual_seed(0)))
    >>> memory = ExponentialMemory().store(patterns)
    >>> bool((memory.update(patterns[:5]) == patterns[:5]).all())
    True
    """

    def __init__(self, *, beta: float = 1.0, order: str = "synchronous", seed: int = 0) -> None:
        super().__init__(order=order, seed=seed)
        check_positive(beta=beta)
        self.beta = beta

    @property
    def descends(self) -> bool:
        """Whether no update can raise the energy: none can, the energy is concave."""
        return True

    def energy(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch"]:
        """Return −log Σ_μ exp(β ξ^μ·σ)."""
        return -torch.logsumexp(self.beta * self._check_state(state) @ self.patterns.mT, -1)

    def field(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return softmax(β Ξσ) Ξ, the direction in which the energy falls fastest."""
        return torch.softmax(self.beta * self._check_state(state) @ self.patterns.mT, -1) @ self.patterns

    def _sweep(self, state: Tensor, sites: list[int]) -> None:
        scores = self.beta * state @ self.patterns.mT
        for i in sites:
            column = self.beta * self.patterns[..., i, None].mT
            others = scores - state[..., i, None] * column
            field = torch.logsumexp(others + column, -1) - torch.logsumexp(others - column, -1)
            new = _sign(field, state[..., i])
            scores = others + new[..., None] * column
            state[..., i] = new


class ContinuousMemory(Memory):
    """The modern continuous memory, whose update is attention with keys = values = patterns [modern-hopfield, eqs. 2–3].

        E(ξ) = −β⁻¹ log Σ_μ exp(β x^μ·ξ) + ½ ξ·ξ + β⁻¹ log N + ½ M²        ξ ← softmax(β ξ Xᵀ) X

    with M the length of the longest pattern, so that 0 ≤ E ≤ 2M² inside the ball of radius M.

    Parameters
    ----------
    beta
        Inverse temperature: large, and each pattern is a valley; small, and one valley holds their mean.

    >>> memory = ContinuousMemory(beta=8.0).store(torch.eye(3))
    >>> memory.update(torch.tensor([[0.9, 0.0, 0.0]])).round(decimals=2).tolist()
    [[1.0, 0.0, 0.0]]
    """

    descends = True

    def __init__(self, *, beta: float = 1.0) -> None:
        check_positive(beta=beta)
        self.beta = beta

    def _learn(self) -> None:
        self.radius = self.patterns.norm(dim=-1).amax(-1)

    def energy(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch"]:
        """Return the energy, which no update raises."""
        scores = self.beta * self._check_state(state) @ self.patterns.mT
        constant = math.log(self.patterns.shape[-2]) / self.beta + self.radius[..., None] ** 2 / 2
        energy: Tensor = -torch.logsumexp(scores, -1) / self.beta + state.square().sum(-1) / 2 + constant
        return energy

    def weights(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch stored"]:
        """Return the attention on each pattern, softmax(β ξ Xᵀ)."""
        return torch.softmax(self.beta * self._check_state(state) @ self.patterns.mT, -1)

    def update(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch d"]:
        """Return softmax(β ξ Xᵀ) X."""
        state = self._check_state(state)
        if state.ndim == 2:
            return retrieve(self.patterns, state, self.beta)
        return self.weights(state) @ self.patterns

    def overlap(self, state: Float[Tensor, "*ensemble batch d"]) -> Float[Tensor, "*ensemble batch stored"]:
        """Return the cosine between each state and each pattern (zero where either has no length)."""
        unit = torch.nn.functional.normalize(self._check_state(state), dim=-1)
        return unit @ torch.nn.functional.normalize(self.patterns, dim=-1).mT


def flip(
    patterns: Float[Tensor, "*ensemble batch d"], fraction: float, *, seed: int
) -> Float[Tensor, "*ensemble batch d"]:
    """Return the patterns with exactly round(fraction · d) entries of each negated.

    Raises
    ------
    ValueError
        If `fraction` is outside [0, 1].

    >>> (flip(torch.ones(2, 10), 0.3, seed=0) < 0).sum(-1).tolist()
    [3, 3]
    """
    check_nonnegative(fraction=fraction)
    if fraction > 1:
        raise ValueError(f"fraction must be at most 1, got {fraction!r}.")
    noise = torch.rand(patterns.shape, generator=torch.Generator().manual_seed(seed)).to(patterns.device)
    count = round(fraction * patterns.shape[-1])
    return torch.where(noise.argsort(-1).argsort(-1) < count, -patterns, patterns)


def random_patterns(*shape: int, seed: int, blank: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw entries of ±1 with equal odds; each is blank (zero) with probability `blank`.

    >>> random_patterns(2, 5, seed=0).abs().tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    check_nonnegative(blank=blank)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, shape, generator=generator).to(dtype) * 2 - 1
    return signs if blank == 0 else signs * (torch.rand(shape, generator=generator) >= blank)


def average_examples(
    archetypes: Float[Tensor, "*ensemble stored d"], quality: float, num_examples: int, *, seed: int
) -> Float[Tensor, "*ensemble stored d"]:
    """Return the mean of noisy examples of each archetype, as a teacher who knows the labels would [dense-hebbian-supervised].

    Each entry of an example is the archetype's with probability (1 + quality)/2 and its negative otherwise.

    Raises
    ------
    ValueError
        If `quality` is not in (0, 1].

    >>> average_examples(torch.ones(1, 3), 1.0, 10, seed=0).tolist()
    [[1.0, 1.0, 1.0]]
    """
    check_positive(quality=quality)
    check_int(1, num_examples=num_examples)
    if quality > 1:
        raise ValueError(f"quality must be at most 1, got {quality!r}.")
    # The number of right entries among M examples is binomial: drawing it is drawing the examples and adding them.
    generator = torch.Generator().manual_seed(seed)
    odds = torch.full(archetypes.shape, (1 + quality) / 2, dtype=torch.float64)
    right = torch.binomial(torch.full_like(odds, num_examples), odds, generator=generator)
    return archetypes * (2 * right / num_examples - 1).to(archetypes)
