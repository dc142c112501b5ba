"""Activations: Snake and Cauchy as layers, a catalogue of named functions, and a search for those that are the same.

Two activations are *affinely the same* if each is the other with its input and its output scaled and shifted,

    f(x) = c · g(a x + b) + d.

The layers before and after an activation are affine. They absorb a, b, c and d, so a network with f can compute whatever
one with g can: a new name may bring another starting point for training, and never another function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sciviz.lab.checks import check_choice, check_finite, check_int, check_positive

Function = Callable[[Tensor], Tensor]


# ------------------------------------------------------------------------------------------------- trainable activations


class Snake(nn.Module):
    """Snake, x + sin²(a x)/a: the identity with a wave on it [snake-periodic, eq. 3].

    Its slope is 1 + sin(2 a x), never negative, so it trains like a ramp; its wave has the frequency 2a.

    Parameters
    ----------
    a
        The frequency; a larger a gives faster, lower waves.
    learn
        Train `a` (one for all units).

    Raises
    ------
    ValueError
        If `a` is not positive.

    >>> round(float(Snake(a=1.0)(torch.tensor(math.pi / 2))), 4)
    2.5708
    """

    a: Tensor

    def __init__(self, a: float = 1.0, *, learn: bool = False) -> None:
        super().__init__()
        check_positive(a=a)
        if learn:
            self.a = nn.Parameter(torch.tensor(float(a)))
        else:
            self.register_buffer("a", torch.tensor(float(a)))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply Snake to every entry."""
        return x + torch.sin(self.a * x).square() / self.a


class Cauchy(nn.Module):
    """The Cauchy activation (l₁ x + l₂) / (x² + d²), with l₁, l₂ and d learnt for each unit [cauchy-xnet].

    It is the real part of c / (x - z), one term of a sum that approximates Cauchy's integral formula: a bump and its slope,
    of width d, which die out on both sides like 1/x. A unit with a small d draws a sharp feature.

    Parameters
    ----------
    width
        Units; each has its own three numbers.
    start
        The first values of l₁, l₂ and d.

    >>> [round(value, 3) for value in Cauchy(3)(torch.zeros(2, 3)).tolist()[0]]
    [1.0, 1.0, 1.0]
    """

    def __init__(self, width: int, start: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        check_int(1, width=width)
        check_positive(d=start[2])
        self.slope, self.bump, self.reach = (nn.Parameter(torch.full((width,), float(value))) for value in start)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Apply each unit's function to its column."""
        return (self.slope * x + self.bump) / (x.square() + self.reach.square() + 1e-6)


class Elementwise(nn.Module):
    """A function of the catalogue as a layer.

    >>> Elementwise("relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        check_choice(CATALOGUE, activation=name)
        self.name = name

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply the function to every entry."""
        return CATALOGUE[self.name].function(x)

    def extra_repr(self) -> str:
        """Show the name when printed."""
        return self.name


def make_activation(name: str, width: int, *, a: float = 1.0) -> nn.Module:
    """Make an activation layer for `width` units: "snake", "cauchy", or a function of `CATALOGUE` by name.

    >>> make_activation("tanh", 4)
    Elementwise(tanh)
    """
    if name == "snake":
        return Snake(a)
    if name == "cauchy":
        return Cauchy(width)
    return Elementwise(name)


# ------------------------------------------------------------------------------------------------------ the catalogue


@dataclass(frozen=True)
class NamedActivation:
    """An activation with its name, its formula, and, where it is another one in disguise, which and how.

    `same_as` is (name, a, b, c, d): this function is c · other(a x + b) + d, exactly.
    """

    name: str
    formula: str
    function: Function
    same_as: tuple[str, float, float, float, float] | None = None


def _elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp_max(0)))


_RANDOMISED_SLOPE = 11 / 48  # the mean of 1/u for u even between 1/8 and 1/3 is taken at test time
_SELU = (1.0507009873554805, 1.6732632423543772)

_ENTRIES: tuple[tuple[str, str, Function, tuple[str, float, float, float, float] | None], ...] = (
    # Smooth steps.
    ("sigmoid", "1/(1 + e⁻ˣ)", torch.sigmoid, None),
    ("tanh", "tanh x", torch.tanh, ("sigmoid", 2.0, 0.0, 2.0, -1.0)),
    ("bipolar sigmoid", "(1 - e⁻ˣ)/(1 + e⁻ˣ)", lambda x: -torch.expm1(-x) / (1 + torch.exp(-x)),
     ("sigmoid", 1.0, 0.0, 2.0, -1.0)),
    ("scaled tanh", "1.7159 tanh(2x/3)", lambda x: 1.7159 * torch.tanh(2 * x / 3),
     ("sigmoid", 4 / 3, 0.0, 2 * 1.7159, -1.7159)),
    ("erf", "erf x", torch.erf, None),
    ("probit", "Φ(x), the normal distribution function", lambda x: 0.5 * torch.erfc(-x / math.sqrt(2)),
     ("erf", 1 / math.sqrt(2), 0.0, 0.5, 0.5)),
    ("arctan", "arctan x", torch.atan, None),
    ("scaled arctan", "(2/π) arctan(πx/2)", lambda x: 2 / math.pi * torch.atan(math.pi / 2 * x),
     ("arctan", math.pi / 2, 0.0, 2 / math.pi, 0.0)),
    ("softsign", "x/(1 + |x|)", F.softsign, None),
    ("Elliott", "x/(2(1 + |x|)) + 1/2", lambda x: 0.5 * x / (1 + x.abs()) + 0.5, ("softsign", 1.0, 0.0, 0.5, 0.5)),
    ("ISRU", "x/√(1 + x²)", lambda x: x / torch.sqrt(1 + x.square()), None),
    ("Gudermannian", "2 arctan(tanh(x/2))", lambda x: 2 * torch.atan(torch.tanh(x / 2)), None),
    ("log-log", "e^(-e⁻ˣ)", lambda x: torch.exp(-torch.exp(-x)), None),
    ("complementary log-log", "1 - e^(-eˣ)", lambda x: -torch.expm1(-torch.exp(x)), ("log-log", -1.0, 0.0, -1.0, 1.0)),
    # Steps with corners.
    ("hard tanh", "clip(x, -1, 1)", F.hardtanh, None),
    ("ReLU6", "clip(x, 0, 6)", F.relu6, ("hard tanh", 1 / 3, -1.0, 3.0, 3.0)),
    ("hard sigmoid", "clip(x/6 + 1/2, 0, 1)", F.hardsigmoid, ("hard tanh", 1 / 3, 0.0, 0.5, 0.5)),
    ("saturating linear", "clip(x, 0, 1)", lambda x: x.clamp(0, 1), ("hard tanh", 2.0, -1.0, 0.5, 0.5)),
    ("binary step", "1 if x > 0, else 0", lambda x: (x > 0).to(x.dtype), None),
    ("bipolar step", "sign x", torch.sign, ("binary step", 1.0, 0.0, 2.0, -1.0)),
    # Ramps with corners.
    ("relu", "max(0, x)", torch.relu, None),
    ("shifted ReLU", "max(-1, x)", lambda x: x.clamp_min(-1), ("relu", 1.0, 1.0, 1.0, -1.0)),
    ("flexible ReLU", "max(0, x) + b, b = -0.4", lambda x: torch.relu(x) - 0.4, ("relu", 1.0, 0.0, 1.0, -0.4)),
    ("leaky ReLU", "max(0.01x, x)", lambda x: F.leaky_relu(x, 0.01), None),
    ("PReLU", "max(x/4, x)", lambda x: F.leaky_relu(x, 0.25), None),
    ("randomised ReLU", "max(11x/48, x), as used in tests", lambda x: F.leaky_relu(x, _RANDOMISED_SLOPE), None),
    ("absolute value", "|x|", torch.abs, None),
    ("V-shaped ReLU", "max(0, x) + max(0, -x)", lambda x: torch.relu(x) + torch.relu(-x),
     ("absolute value", 1.0, 0.0, 1.0, 0.0)),
    ("soft shrinkage", "sign(x) max(0, |x| - 1/2)", F.softshrink, None),
    ("squared ReLU", "max(0, x)²", lambda x: torch.relu(x).square(), None),
    # Smooth ramps.
    ("softplus", "log(1 + eˣ)", lambda x: torch.logaddexp(x, torch.zeros_like(x)), None),
    ("log sigmoid", "log(1/(1 + e⁻ˣ))", F.logsigmoid, ("softplus", -1.0, 0.0, -1.0, 0.0)),
    ("shifted softplus", "log(1/2 + eˣ/2)", lambda x: torch.logaddexp(x, torch.zeros_like(x)) - math.log(2),
     ("softplus", 1.0, 0.0, 1.0, -math.log(2))),
    ("squareplus", "(x + √(x² + 4))/2", lambda x: (x + torch.sqrt(x.square() + 4)) / 2, None),
    ("bent identity", "(√(x² + 1) - 1)/2 + x", lambda x: (torch.sqrt(x.square() + 1) - 1) / 2 + x, None),
    ("ELU", "x if x > 0, else eˣ - 1", _elu, None),
    ("CELU", "ELU with α = 2, smooth", lambda x: 2 * _elu(x / 2), ("ELU", 0.5, 0.0, 2.0, 0.0)),
    ("SELU", "1.0507 x if x > 0, else 1.7581 (eˣ - 1)", lambda x: _SELU[0] * _elu(x, _SELU[1]), None),
    ("ISRLU", "x if x > 0, else x/√(1 + x²)", lambda x: torch.where(x > 0, x, x / torch.sqrt(1 + x.square())), None),
    ("SiLU", "x/(1 + e⁻ˣ)", F.silu, None),
    ("quick GELU", "x/(1 + e^(-1.702x))", lambda x: x * torch.sigmoid(1.702 * x),
     ("SiLU", 1.702, 0.0, 1 / 1.702, 0.0)),
    ("GELU", "x Φ(x)", F.gelu, None),
    ("GELU, tanh form", "x (1 + tanh(√(2/π)(x + 0.044715x³)))/2", lambda x: F.gelu(x, approximate="tanh"), None),
    ("Mish", "x tanh(log(1 + eˣ))", lambda x: x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x))), None),
    ("TanhExp", "x tanh(eˣ)", lambda x: x * torch.tanh(torch.exp(x)), None),
    ("hard swish", "x clip(x/6 + 1/2, 0, 1)", F.hardswish, None),
    ("LiSHT", "x tanh x", lambda x: x * torch.tanh(x), None),
    ("tanh shrinkage", "x - tanh x", lambda x: x - torch.tanh(x), None),
    # Bumps.
    ("Gaussian", "e^(-x²)", lambda x: torch.exp(-x.square()), None),
    ("radial basis", "e^(-x²/2)", lambda x: torch.exp(-x.square() / 2), ("Gaussian", math.sqrt(0.5), 0.0, 1.0, 0.0)),
    ("squared sech", "1/cosh² x", lambda x: 1 / torch.cosh(x.clamp(-300, 300)).square(), None),
    ("logistic derivative", "σ(x)(1 - σ(x))", lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
     ("squared sech", 0.5, 0.0, 0.25, 0.0)),
    ("inverse quadratic", "1/(1 + x²)", lambda x: 1 / (1 + x.square()), None),
    ("Mexican hat", "(1 - x²) e^(-x²/2)", lambda x: (1 - x.square()) * torch.exp(-x.square() / 2), None),
    # Waves.
    ("sine", "sin x", torch.sin, None),
    ("cosine", "cos x", torch.cos, ("sine", 1.0, math.pi / 2, 1.0, 0.0)),
    ("squared sine", "sin² x", lambda x: torch.sin(x).square(), ("sine", 2.0, -math.pi / 2, 0.5, 0.5)),
    ("sinc", "sin(x)/x", lambda x: torch.sinc(x / math.pi), None),
    ("x + sin x", "x + sin x", lambda x: x + torch.sin(x), None),
    ("Snake, a = 1", "x + sin² x", lambda x: x + torch.sin(x).square(),
     ("x + sin x", 2.0, -math.pi / 2, 0.5, math.pi / 4 + 0.5)),
    ("Cosid", "cos x - x", lambda x: torch.cos(x) - x, ("x + sin x", 1.0, -math.pi / 2, -1.0, -math.pi / 2)),
    # Powers.
    ("identity", "x", lambda x: x, None),
    ("square", "x²", torch.square, None),
    ("cube", "x³", lambda x: x**3, None),
)  # fmt: skip

CATALOGUE: dict[str, NamedActivation] = {entry[0]: NamedActivation(*entry) for entry in _ENTRIES}
"""Activations published under names of their own, by name; see [activation-survey-400] for four hundred of them."""


# ------------------------------------------------------------------------------------------------- matching, both ways


@dataclass(frozen=True)
class AffineMatch:
    """The best c · g(a x + b) + d for a function f, and the largest error relative to f's range on the interval."""

    a: float
    b: float
    c: float
    d: float
    error: float

    def __str__(self) -> str:
        return f"{self.c:.4g} · g({self.a:.4g} x + {self.b:.4g}) + {self.d:.4g}"


_SCALES = torch.cat([sign * 2.0 ** torch.arange(-3, 3.01, 0.25, dtype=torch.float64) for sign in (1, -1)])
_SHIFTS = torch.linspace(-8, 8, 33, dtype=torch.float64)


def _interval(low: float, high: float, num: int) -> Tensor:
    check_finite(low=np.asarray(low), high=np.asarray(high))
    if not low < high:
        raise ValueError(f"low must be less than high, got {low} and {high}.")
    return torch.linspace(low, high, num, dtype=torch.float64)


def _unit(values: Tensor) -> Tensor:
    """Each row with mean 0 and length 1; rows that hold no finite variation become 0."""
    values = torch.where(values.isfinite().all(-1, keepdim=True), values, 0.0)
    values = values - values.mean(-1, keepdim=True)
    length = values.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-9, values / length.clamp_min(1e-300), 0.0)


def _coarse(g: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """All scalings and shifts of g's input on the grid, as unit vectors, and which (a, b) each row is."""
    pairs = torch.cartesian_prod(_SCALES, _SHIFTS)
    return _unit(g(pairs[:, :1] * x + pairs[:, 1:])), pairs


def _fit_outer(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c, d and the residual of the best c · values + d, row by row: for given a and b the problem is linear."""
    centred = values - values.mean(-1, keepdim=True)
    power = centred.square().sum(-1, keepdim=True)
    c = torch.where(power > 1e-30, (centred * target).sum(-1, keepdim=True) / power.clamp_min(1e-300), 0.0)
    d = target.mean(-1, keepdim=True) - c * values.mean(-1, keepdim=True)
    return c, d, c * values + d - target


def _refine(target: Tensor, g: Function, x: Tensor, starts: Tensor, num_steps: int) -> list[AffineMatch]:
    """Improve a and b for each row of targets, all rows and starts as one batch (Levenberg and Marquardt's steps).

    `target` has shape (rows, points), `starts` (rows, candidates, 2).
    """
    rows, candidates = starts.shape[:2]
    place = starts.reshape(-1, 2).clone()
    target = target.repeat_interleave(candidates, 0)
    size = target.amax(-1) - target.amin(-1)
    target = target / torch.where(size > 0, size, 1.0)[:, None]
    damping = torch.full((len(place), 1, 1), 1e-3, dtype=torch.float64)
    unit = torch.eye(2, dtype=torch.float64)

    def at(where: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        u = (where[:, :1] * x + where[:, 1:]).requires_grad_()
        with torch.enable_grad():
            values = g(u)
            slope = torch.autograd.grad(values.sum(), u)[0] if values.requires_grad else torch.zeros_like(u)
        values = torch.nan_to_num(values.detach(), nan=0.0, posinf=1e12, neginf=-1e12)
        c, d, residual = _fit_outer(values, target)
        # What c and d can mend is no reason to move a and b: the derivative is taken off their span.
        jacobian = c[:, :, None] * torch.nan_to_num(slope)[:, :, None] * torch.stack([x, torch.ones_like(x)], -1)
        jacobian = jacobian - jacobian.mean(1, keepdim=True)
        direction = _unit(values)[:, :, None]
        return (
            c,
            d,
            residual,
            jacobian - direction * (direction * jacobian).sum(1, keepdim=True),
            residual.square().sum(-1),
        )

    c, d, residual, jacobian, cost = at(place)
    for _ in range(num_steps):
        normal = jacobian.mT @ jacobian
        scale = normal.diagonal(dim1=1, dim2=2).clamp_min(1e-12)[:, :, None] * unit
        step = -torch.linalg.solve(normal + damping * scale, jacobian.mT @ residual[:, :, None])[:, :, 0]
        trial = place + torch.nan_to_num(step).clamp(-4, 4)
        new = at(trial)
        better = new[4] < cost
        place = torch.where(better[:, None], trial, place)
        pick = [torch.where(better.reshape(-1, *[1] * (old.ndim - 1)), n, old)
                for n, old in zip(new, (c, d, residual, jacobian, cost), strict=True)]  # fmt: skip
        c, d, residual, jacobian, cost = pick
        damping = torch.where(better[:, None, None], damping / 5, damping * 4).clamp(1e-12, 1e6)
    size = torch.where(size > 0, size, 1.0)
    table = torch.stack([place[:, 0], place[:, 1], c[:, 0] * size, d[:, 0] * size, residual.abs().amax(-1)], -1)
    table = torch.nan_to_num(table, nan=math.inf).reshape(rows, candidates, 5)
    best = table[:, :, 4].argmin(1)
    return [AffineMatch(*table[row, int(k)].tolist()) for row, k in enumerate(best)]


def affine_match(f: Function, g: Function, *, low: float = -8.0, high: float = 8.0) -> AffineMatch:
    """Fit f(x) by c · g(a x + b) + d on an interval: a coarse search over a and b, then least squares from its best.

    One direction says little: on a finite interval a ramp equals a clipped ramp whose corner was moved out of sight, and
    anything smooth, magnified, equals a line. Ask both ways (`find_duplicates`).

    Raises
    ------
    ValueError
        If the interval is empty.

    >>> match = affine_match(torch.tanh, torch.sigmoid)
    >>> [round(value, 6) for value in (match.a, match.c, match.d)], match.error < 1e-9
    ([2.0, 2.0, -1.0], True)
    """
    x = _interval(low, high, 200)
    rows, pairs = _coarse(g, x)
    starts = (rows @ _unit(f(x))).abs().topk(4).indices
    return _refine(f(x)[None], g, x, pairs[starts][None], 60)[0]


@dataclass(frozen=True)
class Duplicate:
    """Two names for one function up to affine maps: `forward` gives the first from the second, `backward` the reverse."""

    names: tuple[str, str]
    forward: AffineMatch
    backward: AffineMatch

    @property
    def error(self) -> float:
        """The larger of both errors."""
        return max(self.forward.error, self.backward.error)


def match_catalogue(
    catalogue: Mapping[str, NamedActivation] = CATALOGUE,
    *,
    low: float = -8.0,
    high: float = 8.0,
    screen: float = 0.05,
    both: bool = False,
) -> dict[tuple[str, str], AffineMatch]:
    """Fit each function of a catalogue by each other; (f, g) holds the best c · g(a x + b) + d for f.

    Parameters
    ----------
    low, high
        The interval on which functions are compared.
    screen
        Fits whose coarse search leaves more than this share of f's variance are left out.
    both
        Leave out a fit also where its reverse is left out.

    Returns
    -------
    The fits by names, for those that are left in.

    >>> ramps = {name: CATALOGUE[name] for name in ("relu", "ReLU6")}
    >>> [names for names, match in match_catalogue(ramps).items() if match.error < 1e-6]
    [('relu', 'ReLU6')]
    """
    check_positive(screen=screen)
    x = _interval(low, high, 200)
    names = list(catalogue)
    values = torch.stack([catalogue[name].function(x) for name in names])
    targets = _unit(values)
    explained, starts = [], []
    for name in names:
        rows, pairs = _coarse(catalogue[name].function, x)
        fit = (rows @ targets.T).square().topk(3, dim=0)
        explained.append(fit.values[0])
        starts.append(pairs[fit.indices])  # (candidate, target, a and b)
    close = torch.stack(explained) > 1 - screen  # (by, target)
    close = close & close.T if both else close
    close.fill_diagonal_(False)
    matches: dict[tuple[str, str], AffineMatch] = {}
    for i, name in enumerate(names):
        which = close[i].nonzero()[:, 0]
        if len(which):
            # Few steps are enough: towards an exact match the error's digits double with each.
            found = _refine(values[which], catalogue[name].function, x, starts[i][:, which].transpose(0, 1), 10)
            matches.update({(names[int(j)], name): match for j, match in zip(which, found, strict=True)})
    return matches


def find_duplicates(
    catalogue: Mapping[str, NamedActivation] = CATALOGUE,
    *,
    low: float = -8.0,
    high: float = 8.0,
    tolerance: float = 1e-6,
) -> list[Duplicate]:
    """Find all pairs of a catalogue that are affinely the same in both directions.

    Parameters
    ----------
    low, high
        The interval on which functions are compared.
    tolerance
        Largest error of a match, relative to the function's range.

    Returns
    -------
    Duplicates in the catalogue's order.

    >>> small = {name: CATALOGUE[name] for name in ("sigmoid", "tanh", "relu", "ReLU6")}
    >>> [duplicate.names for duplicate in find_duplicates(small)]
    [('sigmoid', 'tanh')]
    """
    check_positive(tolerance=tolerance)
    matches = match_catalogue(catalogue, low=low, high=high, both=True)
    found = [
        Duplicate((f, g), matches[f, g], matches[g, f])
        for f, g in combinations(catalogue, 2)
        if (f, g) in matches and (g, f) in matches
    ]
    return [duplicate for duplicate in found if duplicate.error <= tolerance]


def stated_pairs(catalogue: Mapping[str, NamedActivation] = CATALOGUE) -> list[tuple[str, str]]:
    """Return all pairs that the stated identities (`same_as`) make equal, in the catalogue's order.

    >>> len(stated_pairs()) >= 15
    True
    """

    def root(name: str) -> str:
        entry = catalogue[name]
        return name if entry.same_as is None or entry.same_as[0] not in catalogue else root(entry.same_as[0])

    return [(f, g) for f, g in combinations(catalogue, 2) if root(f) == root(g)]


def identity_text(name: str) -> str:
    """Return the stated identity of an activation as text, or "" if it has none.

    >>> identity_text("tanh")
    'tanh(x) = 2 · sigmoid(2 x) - 1'
    """
    check_choice(CATALOGUE, activation=name)
    same_as = CATALOGUE[name].same_as
    if same_as is None:
        return ""
    other, a, b, c, d = same_as

    def signed(value: float) -> str:
        return "" if value == 0 else f" {'-' if value < 0 else '+'} {abs(value):.4g}"

    factor = {1.0: "", -1.0: "-"}.get(c, f"{c:.4g} · ")
    inner = {1.0: "x", -1.0: "-x"}.get(a, f"{a:.4g} x")
    return f"{name}(x) = {factor}{other}({inner}{signed(b)}){signed(d)}"
