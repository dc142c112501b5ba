"""Runge-Kutta methods as tables of numbers: stages, weights, error weights and dense output.

A method with s stages takes one step of size h from (t, y) as

    k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j),   y₁ = y + h Σ_i b_i k_i,

estimates its own error as h Σ_i e_i k_i, and fills the step in between with
y(t + θh) = y + h Σ_i b_i(θ) k_i, where each b_i(θ) is a polynomial in θ.

Every table here is written so that its last stage is f(t + h, y₁) ("first same as last"): the next step starts
with it for free, and dense output knows the slope at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice


@dataclass(frozen=True)
class Tableau:
    """The numbers of one explicit Runge-Kutta method.

    Attributes
    ----------
    name
        What `solve(method=...)` calls it.
    order
        Order of convergence of the solution that is carried on.
    nodes
        c, one a stage: where in the step the stage is evaluated, as a fraction of the step.
    stages
        a, one row a stage: row i holds the i weights of the stages before it. The last row is the step's own weights b.
    error
        e, one a stage: weights of the error estimate, or None for a method that has none (fixed steps only).
    error_order
        Order of the estimate in the step size: it shrinks like h to this power. Zero where there is none.
    dense
        One row a stage: the coefficients of b_i(θ) at θ, θ², θ³ (and θ⁴).
    dense_order
        The interpolant's error inside one step shrinks like h to this power plus one.

    >>> METHODS["rk4"].order, METHODS["rk4"].evaluations_per_step
    (4, 4)
    """

    name: str
    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...] | None
    error_order: int
    dense: tuple[tuple[float, ...], ...]
    dense_order: int

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights b of the step, one for each stage but the last, which is not needed for the step itself."""
        return self.stages[-1]

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations of f that a step costs once its first stage is known from the step before."""
        return len(self.nodes) - 1

    def dense_weights(self, theta: Float[Tensor, "*points"]) -> Float[Tensor, "*points stages"]:
        """Weights b_i(θ) of the stages in the solution at the fraction `theta` of the step.

        >>> METHODS["euler"].dense_weights(torch.tensor([0.0, 1.0])).tolist()
        [[0.0, 0.0], [1.0, 0.0]]
        """
        coefficients = torch.tensor(self.dense, dtype=theta.dtype, device=theta.device)
        powers = torch.stack([theta**power for power in range(1, coefficients.shape[1] + 1)], dim=-1)
        return powers @ coefficients.T


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(Fraction(word)) for word in text.split())


def _hermite(weights: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Cubic Hermite interpolation through both ends of the step, as dense weights of the stages.

    y(θ) = y₀ + (3θ² - 2θ³)(y₁ - y₀) + (θ - 2θ² + θ³) h f₀ + (θ³ - θ²) h f₁, with y₁ - y₀ = h Σ b_i k_i.
    """
    rows = [[0.0, 3 * b, -2 * b] for b in (*weights, 0.0)]
    for stage, slope in ((0, (1.0, -2.0, 1.0)), (-1, (0.0, -1.0, 1.0))):
        rows[stage] = [x + y for x, y in zip(rows[stage], slope, strict=True)]
    return tuple(tuple(row) for row in rows)


def _method(
    name: str,
    order: int,
    nodes: str,
    stages: list[str],
    *,
    error: str | None = None,
    dense: list[str] | None = None,
) -> Tableau:
    rows = ((), *(_numbers(row) for row in stages))
    table = _hermite(rows[-1]) if dense is None else tuple(_numbers(row) for row in dense)
    return Tableau(
        name=name,
        order=order,
        nodes=_numbers(nodes),
        stages=rows,
        error=None if error is None else _numbers(error),
        error_order=0 if error is None else order,
        dense=table,
        dense_order=min(order, 3) if dense is None else 4,
    )


_EULER = _method("euler", 1, "0 1", ["1"])
_MIDPOINT = _method("midpoint", 2, "0 1/2 1", ["1/2", "0 1"])
_HEUN = _method("heun", 2, "0 1 1", ["1", "1/2 1/2"])
_RK4 = _method("rk4", 4, "0 1/2 1/2 1 1", ["1/2", "0 1/2", "0 0 1", "1/6 1/3 1/3 1/6"])

# Heun's step with Euler's as the comparison.
_HEUN_EULER = _method("heun_euler", 2, "0 1 1", ["1", "1/2 1/2"], error="-1/2 1/2 0")

# Bogacki and Shampine, "A 3(2) pair of Runge-Kutta formulas" (1989).
_BOSH3 = _method(
    "bosh3", 3, "0 1/2 3/4 1", ["1/2", "0 3/4", "2/9 1/3 4/9"], error="-5/72 1/12 1/9 -1/8"
)  # fmt: skip

# Dormand and Prince, "A family of embedded Runge-Kutta formulae" (1980); dense output of Shampine,
# "Some practical Runge-Kutta formulas" (1986).
_DOPRI5 = _method(
    "dopri5",
    5,
    "0 1/5 3/10 4/5 8/9 1 1",
    [
        "1/5",
        "3/40 9/40",
        "44/45 -56/15 32/9",
        "19372/6561 -25360/2187 64448/6561 -212/729",
        "9017/3168 -355/33 46732/5247 49/176 -5103/18656",
        "35/384 0 500/1113 125/192 -2187/6784 11/84",
    ],
    error="71/57600 0 -71/16695 71/1920 -17253/339200 22/525 -1/40",
    dense=[
        "1 -8048581381/2820520608 8663915743/2820520608 -12715105075/11282082432",
        "0 0 0 0",
        "0 131558114200/32700410799 -68118460800/10900136933 87487479700/32700410799",
        "0 -1754552775/470086768 14199869525/1410260304 -10690763975/1880347072",
        "0 127303824393/49829197408 -318862633887/49829197408 701980252875/199316789632",
        "0 -282668133/205662961 2019193451/616988883 -1453857185/822651844",
        "0 40617522/29380423 -110615467/29380423 69997945/29380423",
    ],
)

# Tsitouras, "Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption" (2011),
# with its own interpolant.
_TSIT5 = _method(
    "tsit5",
    5,
    "0 0.161 0.327 0.9 0.9800255409045097 1 1",
    [
        "0.161",
        "-0.008480655492356989 0.335480655492357",
        "2.8971530571054935 -6.359448489975075 4.3622954328695815",
        "5.325864828439257 -11.748883564062828 7.4955393428898365 -0.09249506636175525",
        "5.86145544294642 -12.92096931784711 8.159367898576159 -0.071584973281401 -0.028269050394068383",
        "0.09646076681806523 0.01 0.4798896504144996 1.379008574103742 -3.290069515436081 2.324710524099774",
    ],
    error="-0.00178001105222577714 -0.0008164344596567469 0.007880878010261995 -0.1447110071732629 "
    "0.5823571654525552 -0.45808210592918697 0.015151515151515152",
    dense=[
        "1 -2.763706197274826 2.9132554618219126 -1.0530884977290216",
        "0 0.13169999999999998 -0.2234 0.1017",
        "0 3.9302962368947516 -5.941033872131505 2.490627285651253",
        "0 -12.411077166933676 30.33818863028232 -16.548102889244902",
        "0 37.50931341651104 -88.1789048947664 47.37952196281928",
        "0 -27.896526289197286 65.09189467479366 -34.87065786149661",
        "0 1.5 -4 2.5",
    ],
)

METHODS: dict[str, Tableau] = {
    table.name: table for table in (_EULER, _MIDPOINT, _HEUN, _RK4, _HEUN_EULER, _BOSH3, _DOPRI5, _TSIT5)
}
"""Every method by name; those with an error estimate choose their own steps."""

FIXED_METHODS: tuple[str, ...] = tuple(name for name, table in METHODS.items() if table.error is None)
ADAPTIVE_METHODS: tuple[str, ...] = tuple(name for name, table in METHODS.items() if table.error is not None)


def tableau(method: str) -> Tableau:
    """Look up a method by name.

    Raises
    ------
    ValueError
        If there is no such method; the nearest name is suggested.

    >>> tableau("tsit5").order
    5
    >>> tableau("tist5")
    Traceback (most recent call last):
    ...
    ValueError: method must be one of 'euler', 'midpoint', 'heun', 'rk4', 'heun_euler', 'bosh3', 'dopri5', 'tsit5', \
got 'tist5'. Did you mean 'tsit5'?
    """
    check_choice(METHODS, method=method)
    return METHODS[method]
