"""What theory says about associative memories: how much they hold, how well they answer, and where they stop to.

Averages over a Gaussian z, ∫Dz, are sums over a fine even grid, which for such smooth functions is exact to rounding.
All results are float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from scipy.special import lambertw
from scipy.stats import hypergeom
from torch import Tensor

from sciviz.lab.checks import check_int, check_ndim, check_positive, check_same_last_dim, check_same_shape

KINDS = ("single", "metastable", "global")

_Z = torch.linspace(-7, 7, 701, dtype=torch.float64)
_DZ = torch.exp(-(_Z**2) / 2) / math.sqrt(2 * math.pi) * (_Z[1] - _Z[0])


# ------------------------------------------------------------------------------------- how the modern memory answers


def separation(patterns: Float[Tensor, "stored d"]) -> Float[Tensor, " stored"]:
    """Return how far each pattern stands apart, Δᵢ = xᵢ·xᵢ − max_{j≠i} xᵢ·xⱼ [modern-hopfield, definition 2].

    A pattern that is alone has an infinite separation; one that is stored twice has none.

    >>> separation(torch.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    check_ndim(2, patterns=patterns)
    similar = patterns @ patterns.T
    own: Tensor = similar.diagonal().clone()
    similar.fill_diagonal_(-math.inf)
    apart: Tensor = own - similar.amax(1)
    return apart


def one_step_error_bound(
    patterns: Float[Tensor, "stored d"], query: Float[Tensor, "stored d"], beta: float
) -> Float[Tensor, " stored"]:
    """Return a bound on how far one update from `query[i]` can land from pattern i, in Euclidean length.

    2 M (N − 1) exp(−β (Δᵢ − 2 M |ξ − xᵢ|)), never more than 2M, with M the longest pattern's length
    [modern-hopfield, theorem 5; the distance to the fixed point is left out, as the proof needs only the query's].

    Raises
    ------
    ValueError
        If `beta` is not positive, or the shapes differ.

    >>> one_step_error_bound(torch.eye(2), torch.eye(2), 10.0)
    tensor([9.0800e-05, 9.0800e-05])
    """
    check_positive(beta=beta)
    check_same_shape(patterns=patterns, query=query)
    longest = torch.linalg.vector_norm(patterns, dim=-1).max()
    apart = separation(patterns) - 2 * longest * torch.linalg.vector_norm(query - patterns, dim=-1)
    missed = ((len(patterns) - 1) * torch.exp(-beta * apart)).clamp(max=1)
    bound: Tensor = 2 * longest * missed
    return bound


def exponential_capacity(dimension: int, beta: float, *, radius: float = 1.0, failure: float = 1e-3) -> float:
    """Return how many random patterns on a sphere are stored with probability 1 − `failure` at least.

    √p c^((d−1)/4) with c = b / W₀(exp(a + ln b)), a = 2 (1 + ln(2 β K² p (d − 1))) / (d − 1), b = 2 K² β / 5; the
    sphere's radius is K √(d − 1) [modern-hopfield, theorem 3].

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> round(exponential_capacity(20, 1.0, radius=3.0))
    7
    """
    check_int(2, dimension=dimension)
    check_positive(beta=beta, radius=radius, failure=failure)
    base = capacity_base(dimension, beta, radius=radius, failure=failure)
    return float(math.sqrt(failure) * base ** ((dimension - 1) / 4))


def capacity_base(dimension: int, beta: float, *, radius: float = 1.0, failure: float = 1e-3) -> float:
    """Return c, the base of the exponential in `exponential_capacity`.

    >>> round(capacity_base(20, 1.0, radius=3.0), 3), round(capacity_base(75, 1.0, radius=1.0), 3)
    (3.155, 1.372)
    """
    a = 2 / (dimension - 1) * (1 + math.log(2 * beta * radius**2 * failure * (dimension - 1)))
    b = 2 * radius**2 * beta / 5
    return float(b / lambertw(math.exp(a + math.log(b))).real)


class FixedPoints(NamedTuple):
    """What kind of fixed points states are.

    Attributes
    ----------
    kind
        Positions in `KINDS`: 0 one pattern, 1 the mean of some (metastable), 2 the mean of most (global).
    num_patterns
        The least number of patterns that hold 90% of the attention.
    """

    kind: Int[Tensor, " batch"]
    num_patterns: Int[Tensor, " batch"]


def classify_fixed_points(
    patterns: Float[Tensor, "stored d"], state: Float[Tensor, "batch d"], beta: float
) -> FixedPoints:
    """Tell by how many patterns share a state's attention which kind of fixed point it is [modern-hopfield, §3].

    One pattern holds 90%: single. More than half of all are needed for it: global. Anything between: metastable.

    Raises
    ------
    ValueError
        If `beta` is not positive, or the last dimensions differ.

    >>> [KINDS[int(classify_fixed_points(torch.eye(4), torch.eye(4)[:1], beta).kind)] for beta in (20.0, 0.1)]
    ['single', 'global']
    """
    check_positive(beta=beta)
    check_same_last_dim(patterns=patterns, state=state)
    weights = torch.softmax(beta * state @ patterns.mT, -1).sort(-1, descending=True).values
    count = ((weights.cumsum(-1) < 0.9).sum(-1) + 1).clamp(max=patterns.shape[-2])
    kind = torch.where(count == 1, 0, torch.where(2 * count > patterns.shape[-2], 2, 1))
    return FixedPoints(kind, count)


# ------------------------------------------------------------------------- mean field: classical and dense networks


class MeanField(NamedTuple):
    """Order parameters: overlap with the retrieved pattern, Edwards–Anderson overlap, and the free energy per spin."""

    overlap: Float64[Tensor, "..."]
    order: Float64[Tensor, "..."]
    free_energy: Float64[Tensor, "..."]


def mean_field(
    load: Float64[Tensor, "..."],
    temperature: Float64[Tensor, "..."],
    *,
    start: float = 1.0,
    num_steps: int = 2000,
    tolerance: float = 1e-10,
) -> MeanField:
    """Solve the classical network's replica-symmetric equations at loads α = K/N and temperatures T > 0.

        m = ∫Dz tanh β(m + √(αr) z)     q = ∫Dz tanh² β(m + √(αr) z)     r = q / (1 − β(1 − q))²

    by iteration from the overlap `start` (zero finds the spin glass). These are the equations of Amit, Gutfreund and
    Sompolinsky (1985), which every capacity curve of the classical network rests on.

    Raises
    ------
    ValueError
        If a load or temperature is not positive.

    >>> found = mean_field(torch.tensor([0.05, 0.2]), torch.tensor([0.05, 0.05]))
    >>> [round(float(m), 2) for m in found.overlap]
    [1.0, 0.0]
    """
    load, temperature = torch.broadcast_tensors(load.double(), temperature.double())  # type: ignore[no-untyped-call]
    if not (bool((load > 0).all()) and bool((temperature > 0).all())):
        raise ValueError("load and temperature must be greater than 0.")
    load, beta = load[..., None], 1 / temperature[..., None]
    m = torch.full_like(load, start)
    q = torch.full_like(load, 1.0)
    # Deep in the glass, 1 − q overshoots by the factor √(2/(πα)) from step to step: a step this much shorter does not.
    step = 1 / (1 + (2 / (math.pi * load)).sqrt())
    for _ in range(num_steps):
        field = m + (load * _noise(q, beta)).sqrt() * _Z
        bent = torch.tanh(beta * field)
        new_m = (bent * _DZ).sum(-1, keepdim=True)
        new_q = (bent**2 * _DZ).sum(-1, keepdim=True)
        moved = max(float((new_m - m).abs().max()), float((new_q - q).abs().max()))
        m = new_m if start else m
        q = torch.maximum(q + step * (new_q - q), 1 - 0.999 / beta)
        if moved < tolerance:
            break
    r = _noise(q, beta)
    log_cosh = _log_2cosh(beta * (m + (load * r).sqrt() * _Z))
    slack = 1 - beta * (1 - q)
    free = (
        load / 2
        + m**2 / 2
        + load / (2 * beta) * (slack.clamp(min=1e-12).log() - beta * q / slack)
        + load * beta * r * (1 - q) / 2
        - (log_cosh * _DZ).sum(-1, keepdim=True) / beta
    )
    return MeanField(m.squeeze(-1), q.squeeze(-1), free.squeeze(-1))


def _noise(q: Tensor, beta: Tensor) -> Tensor:
    return q / (1 - beta * (1 - q)) ** 2


def _log_2cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs()))


class PhaseDiagram(NamedTuple):
    """Temperatures by load, and what the classical network is below them.

    Attributes
    ----------
    glass
        A spin glass, T = 1 + √α.
    retrieval
        One that has retrieval states at all (zero where it never has).
    dominant
        One whose states of lowest free energy they are.
    """

    glass: Float64[Tensor, " load"]
    retrieval: Float64[Tensor, " load"]
    dominant: Float64[Tensor, " load"]


def phase_diagram(load: Float64[Tensor, " load"], *, halvings: int = 10) -> PhaseDiagram:
    """Return the classical network's phase diagram from its mean-field equations, by bisection in the temperature.

    >>> found = phase_diagram(torch.tensor([0.03, 0.1, 0.16]), halvings=6)
    >>> (found.retrieval > 0).tolist(), (found.dominant > 0).tolist()
    ([True, True, False], [True, False, False])
    """
    check_int(1, 40, halvings=halvings)
    load = load.double()
    coldest = 0.03  # colder, and the steps of tanh fall between the points of the grid

    def retrieves(temperature: Tensor) -> Tensor:
        return mean_field(load, temperature, num_steps=300, tolerance=1e-7).overlap > 0.3

    def dominates(temperature: Tensor) -> Tensor:
        found = mean_field(load, temperature, num_steps=300, tolerance=1e-7)
        glass = mean_field(load, temperature, start=0.0, num_steps=300, tolerance=1e-7)
        return (found.overlap > 0.3) & (found.free_energy < glass.free_energy)

    lines = []
    for test in (retrieves, dominates):
        low, high = torch.full_like(load, coldest), torch.ones_like(load)
        possible = test(low)
        for _ in range(halvings):
            middle = (low + high) / 2
            met = test(middle)
            low, high = torch.where(met, middle, low), torch.where(met, high, middle)
        lines.append(torch.where(possible, low, 0.0))
    return PhaseDiagram(1 + load.sqrt(), *lines)


def zero_temperature_overlap(load: Float64[Tensor, "..."], interaction: int = 2) -> Float64[Tensor, "..."]:
    """Return the overlap of the retrieval state at T = 0, where K = α N^(n−1) patterns are stored; 0 if there is none.

    m = erf(x), where the field's signal is m^(n−1) and its noise has variance α (n−1)! — for n = 2 amplified by the
    network's reaction to it, r = (1 − C)⁻² with C = √(2/(παr)) exp(−x²). The branch of the largest m is taken.

    Raises
    ------
    ValueError
        If `interaction` is below 2.

    >>> [round(float(m), 3) for m in zero_temperature_overlap(torch.tensor([0.05, 0.137, 0.139]))]
    [1.0, 0.975, 0.0]
    """
    check_int(2, 20, interaction=interaction)
    # Both cases give the load as a function of x: read it backwards, from the largest load (the capacity) on.
    x = torch.linspace(0.3, 8, 20001, dtype=torch.float64)
    m = torch.erf(x)
    if interaction == 2:
        # x √(2αr) = m and √r = 1 + x-dependent reaction: √(2α) = m/x − (2/√π) exp(−x²).
        root = m / x - 2 / math.sqrt(math.pi) * torch.exp(-(x**2))
        loads = torch.where(root > 0, root**2 / 2, 0.0)
    else:
        loads = (m ** (interaction - 1) / x) ** 2 / (2 * math.factorial(interaction - 1))
    top = int(loads.argmax())
    falling, overlaps = loads[top:].flip(0), m[top:].flip(0)
    position = torch.searchsorted(falling, load.double().contiguous())
    inside = position < len(falling)
    return torch.where(inside, overlaps[position.clamp(max=len(falling) - 1)], 0.0)


def critical_load(interaction: int = 2) -> float:
    """Return α_c, the largest load α = K / N^(n−1) at which a network of order n retrieves at zero temperature.

    >>> round(critical_load(), 3)
    0.138
    """
    loads = torch.linspace(1e-4, 0.3, 30000, dtype=torch.float64)
    found = zero_temperature_overlap(loads, interaction) > 0
    if not bool(found.any()):  # of high orders the load is tiny: (2n − 3)!! grows fast
        loads = loads / 1e6
        found = zero_temperature_overlap(loads, interaction) > 0
    return float(loads[found].max())


def faultless_capacity(interaction: int, size: int) -> float:
    """Return how many patterns are stored without a single wrong spin, N^(n−1) / (2 (2n − 3)!! ln N).

    >>> round(faultless_capacity(2, 100)), round(faultless_capacity(4, 100))
    (11, 7238)
    """
    check_int(2, 20, interaction=interaction)
    check_int(2, size=size)
    return float(size ** (interaction - 1) / (2 * math.prod(range(1, 2 * interaction - 2, 2)) * math.log(size)))


# ----------------------------------------------------------------------- the glass: replica symmetric, and broken once


class Glass(NamedTuple):
    """The glass phase of spins that couple in groups of P.

    Attributes
    ----------
    overlap
        Between two states of one valley, q.
    breaking
        Parisi's m: the weight of pairs from different valleys (1 where symmetry holds).
    free_energy, entropy
        Per spin; the entropy of discrete spins cannot be negative.
    """

    overlap: float
    breaking: float
    free_energy: float
    entropy: float


def glass(interaction: int, temperature: float, *, broken: bool) -> Glass:
    """Solve the glass phase of P-spin couplings (variance P!/(2 N^(P−1))) in the replica-symmetric or once-broken form.

    A dense network at load α = K/N^(P−1) without a retrieved pattern is this glass, at temperatures in units of
    √(2 α (P−1)!/P) [dense-hopfield-rsb]. With a² = β² P q^(P−1) / 2,

        −βf = β²/4 (1 + (P−1)(1−m) q^P − P q^(P−1)) + ln 2 + m⁻¹ ln ∫Dz cosh^m(az)     broken once
        −βf = β²/4 (1 + (P−1) q^P − P q^(P−1)) + ln 2 + ∫Dz ln cosh(az)                symmetric, the limit m → 0

    made stationary in q (the solution of largest q) and m. The entropy is −∂f/∂T at fixed q and m.

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> symmetric, broken = glass(4, 0.3, broken=False), glass(4, 0.3, broken=True)
    >>> symmetric.entropy < -0.1, abs(broken.entropy) < 0.01
    (True, True)
    """
    check_int(3, 20, interaction=interaction)
    check_positive(temperature=temperature)
    beta = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
    if not broken:
        q, m = _glass_overlap(interaction, 1 / temperature, 0.0), 0.0
    else:
        m = _breaking_point(interaction, 1 / temperature)
        q = _glass_overlap(interaction, 1 / temperature, m)
    phi = _glass_potential(
        interaction, beta, torch.tensor(q, dtype=torch.float64), torch.tensor(m, dtype=torch.float64)
    )
    (slope,) = torch.autograd.grad(phi, beta)
    breaking = m if broken else 1.0
    return Glass(q, breaking, -float(phi.detach()) * temperature, float(phi.detach()) - float(slope) / temperature)


def glass_temperature(interaction: int) -> float:
    """Return the temperature at which the once-broken solution takes over from the paramagnet (m reaches one).

    >>> round(glass_temperature(3), 3)
    0.651
    """
    check_int(3, 20, interaction=interaction)
    low, high = 0.3, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        q = _glass_overlap(interaction, 1 / middle, 1.0)
        frozen = q > 0.1 and _slope_in_breaking(interaction, 1 / middle, q, 1.0) > 0
        low, high = (middle, high) if frozen else (low, middle)
    return low


def _tilted_grid(interaction: int, beta: float) -> tuple[Tensor, Tensor]:
    """Points and log weights of ∫Dz that still cover the Gaussian where cosh^m tilts it, by at most β √(P/2)."""
    half = 7 + beta * math.sqrt(interaction / 2)
    z = torch.linspace(-half, half, 2 * math.ceil(half / 0.02) + 1, dtype=torch.float64)
    return z, -(z**2) / 2 - math.log(2 * math.pi) / 2 + (z[1] - z[0]).log()


def _glass_potential(interaction: int, beta: Tensor, q: Tensor, m: Tensor) -> Tensor:
    """−βf: symmetric where m is zero."""
    z, log_weight = _tilted_grid(interaction, float(beta.detach()))
    log_cosh = _log_2cosh(beta * (interaction * q ** (interaction - 1) / 2).sqrt() * z) - math.log(2)
    average = (
        (log_cosh * log_weight.exp()).sum()
        if float(m.detach()) == 0
        else torch.logsumexp(m * log_cosh + log_weight, 0) / m
    )
    inside = 1 + (interaction - 1) * (1 - m) * q**interaction - interaction * q ** (interaction - 1)
    return beta**2 / 4 * inside + math.log(2) + average


def _glass_overlap(interaction: int, beta: float, m: float) -> float:
    q = 1.0
    z, log_weight = _tilted_grid(interaction, beta)
    for _ in range(2000):
        argument = beta * math.sqrt(interaction * q ** (interaction - 1) / 2) * z
        weight = torch.softmax(m * _log_2cosh(argument) + log_weight, 0)
        new = float((weight * torch.tanh(argument) ** 2).sum())
        if abs(new - q) < 1e-14:
            break
        q = new
    return q


def _slope_in_breaking(interaction: int, beta: float, q: float, m: float) -> float:
    at = torch.tensor(m, dtype=torch.float64, requires_grad=True)
    phi = _glass_potential(
        interaction, torch.tensor(beta, dtype=torch.float64), torch.tensor(q, dtype=torch.float64), at
    )
    (slope,) = torch.autograd.grad(phi, at)
    return float(slope)


def _breaking_point(interaction: int, beta: float) -> float:
    """Find m in (0, 1) where the potential is stationary along the solutions q(m): its slope falls … rises through zero."""
    low, high = 0.02, 1.0
    if _slope_in_breaking(interaction, beta, _glass_overlap(interaction, beta, high), high) <= 0:
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        rising = _slope_in_breaking(interaction, beta, _glass_overlap(interaction, beta, middle), middle) > 0
        low, high = (low, middle) if rising else (middle, high)
    return (low + high) / 2


# -------------------------------------------------------------------------------- sparse codes and active dendrites


def false_match_rate(dimension: int, active: int, synapses: int, threshold: int) -> float:
    """Return how often a random code with `active` of `dimension` bits reaches a segment's threshold by chance.

    Of the segment's synapses a hypergeometric number is hit; a match is at least `threshold` of them [sdr-dendrites].

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> false_match_rate(4, 2, 2, 2) == 1 / 6
    True
    """
    check_int(1, dimension=dimension)
    check_int(1, dimension, active=active, synapses=synapses)
    check_int(0, synapses, threshold=threshold)
    return float(hypergeom.sf(threshold - 1, dimension, synapses, active))


def union_false_match_rate(dimension: int, active: int, synapses: int, threshold: int, num_patterns: int) -> float:
    """Return the chance of a false match for a segment that holds synapses for several patterns.

    The union of random choices has a random size; its mean, d (1 − (1 − s/d)^M), rounded, is what is used.

    >>> union_false_match_rate(2048, 40, 20, 10, 1) == false_match_rate(2048, 40, 20, 10)
    True
    """
    check_int(1, num_patterns=num_patterns)
    size = round(dimension * (1 - (1 - synapses / dimension) ** num_patterns))
    return false_match_rate(dimension, active, max(size, 1), min(threshold, size))
