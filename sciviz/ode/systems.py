"""Named systems of differential equations: equation, parameters, units, where to look, closed forms.

A `System` is data and one function. `system.rate(t, y)` takes states in the last dimension and is what `solve` wants;
`system.with_parameters(mu=5.0)` changes parameters, each within a stated range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice

__all__ = ["SYSTEMS", "Parameter", "System", "make_system"]

Values = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a system: its usual value, the range that makes sense, its unit and meaning."""

    value: float
    low: float
    high: float
    units: str
    long_name: str


@dataclass(frozen=True)
class System:
    """A named system y' = f(t, y).

    Attributes
    ----------
    name, title, equation
        Key, words for a heading, and the equation as LaTeX.
    variables, units
        Names and units of the state.
    time_units
        Unit of time.
    parameters
        Name → `Parameter`.
    function
        (t, y, values) → dy/dt, states in the last dimension.
    start, duration
        A typical initial state and how long to watch it.
    window
        (low, high) of the first two variables, for phase portraits.
    solution
        (t, y0, values) → state, where a closed form exists, for y0 given at t = 0.
    invariant
        (y, values) → a quantity that the exact solution conserves, where there is one.

    >>> SYSTEMS["harmonic"].rate(0.0, torch.tensor([1.0, 0.0])).tolist()
    [0.0, -1.0]
    """

    name: str
    title: str
    equation: str
    variables: tuple[str, ...]
    units: tuple[str, ...]
    time_units: str
    parameters: Mapping[str, Parameter]
    function: Callable[[Tensor | float, Tensor, Values], Tensor]
    start: tuple[float, ...]
    duration: float
    window: tuple[tuple[float, float], tuple[float, float]]
    solution: Callable[[Tensor, Tensor, Values], Tensor] | None = None
    invariant: Callable[[Tensor, Values], Tensor] | None = None

    @property
    def values(self) -> dict[str, float]:
        """Name → value of every parameter."""
        return {name: parameter.value for name, parameter in self.parameters.items()}

    def rate(self, t: Tensor | float, y: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Return dy/dt, in the units of the state per unit of time."""
        return self.function(t, y, self.values)

    def with_parameters(self, **values: float) -> System:
        """Return the system with other values of its parameters.

        Raises
        ------
        ValueError
            If a name is unknown or a value outside the parameter's range.

        >>> SYSTEMS["van_der_pol"].with_parameters(mu=10.0).values
        {'mu': 10.0}
        >>> SYSTEMS["van_der_pol"].with_parameters(nu=10.0)
        Traceback (most recent call last):
        ...
        ValueError: parameter must be one of 'mu', got 'nu'.
        """
        changed = dict(self.parameters)
        for name, value in values.items():
            check_choice(self.parameters, parameter=name)
            old = changed[name]
            if not old.low <= value <= old.high:
                raise ValueError(f"{name} must be from {old.low:g} to {old.high:g} ({old.units}), got {value!r}.")
            changed[name] = replace(old, value=float(value))
        return replace(self, parameters=changed)


def _pendulum(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    angle, velocity = y.unbind(-1)
    push = -p["damping"] * velocity - p["stiffness"] * angle.sin()
    if p["drive"]:
        time = torch.as_tensor(t, dtype=y.dtype, device=y.device)
        # A time a row comes as (rows, 1): it must line up with the angles, which have lost the last dimension.
        time = time[..., 0] if time.ndim == y.ndim and time.ndim > 0 else time
        push = push + p["drive"] * (p["drive_frequency"] * time).cos()
    return torch.stack([velocity, push.expand_as(velocity)], dim=-1)


def _pendulum_energy(y: Tensor, p: Values) -> Tensor:
    return 0.5 * y[..., 1].square() + p["stiffness"] * (1 - y[..., 0].cos())


def _van_der_pol(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    x, velocity = y.unbind(-1)
    return torch.stack([velocity, p["mu"] * (1 - x.square()) * velocity - x], dim=-1)


def _lotka_volterra(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    prey, predators = y.unbind(-1)
    gain = p["growth"] * prey - p["death"]
    return torch.stack([prey * (p["birth"] - p["catch"] * predators), predators * gain], dim=-1)


def _lotka_volterra_invariant(y: Tensor, p: Values) -> Tensor:
    prey, predators = y.unbind(-1)
    return p["growth"] * prey - p["death"] * prey.log() + p["catch"] * predators - p["birth"] * predators.log()


def _lorenz(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    x, v, z = y.unbind(-1)
    return torch.stack([p["sigma"] * (v - x), x * (p["rho"] - z) - v, x * v - p["beta"] * z], dim=-1)


def _harmonic(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    x, velocity = y.unbind(-1)
    return torch.stack([velocity, -(p["frequency"] ** 2) * x - 2 * p["damping"] * velocity], dim=-1)


def _harmonic_solution(t: Tensor, y0: Tensor, p: Values) -> Tensor:
    x, velocity = y0.unbind(-1)
    damping, square = p["damping"], p["frequency"] ** 2 - p["damping"] ** 2
    root = math.sqrt(abs(square))
    time = t.view(-1, *(1,) * x.ndim)
    if root < 1e-9:
        cosine, sine_over_root, slope = torch.ones_like(time), time, torch.zeros_like(time)
    elif square > 0:
        cosine, sine_over_root, slope = (root * time).cos(), (root * time).sin() / root, -root * (root * time).sin()
    else:
        cosine, sine_over_root, slope = (root * time).cosh(), (root * time).sinh() / root, root * (root * time).sinh()
    other = velocity + damping * x
    position = x * cosine + other * sine_over_root
    speed = x * slope + other * cosine - damping * position
    return torch.stack([position, speed], dim=-1) * (-damping * time).exp().unsqueeze(-1)


def _energy(y: Tensor, p: Values) -> Tensor:
    return 0.5 * (y[..., 1].square() + p["frequency"] ** 2 * y[..., 0].square())


def _stiff(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    time = torch.as_tensor(t, dtype=y.dtype, device=y.device)
    return -p["rate"] * (y - time.cos()) - time.sin()


def _stiff_solution(t: Tensor, y0: Tensor, p: Values) -> Tensor:
    time = t.view(-1, *(1,) * y0.ndim)
    return time.cos() + (-p["rate"] * time).exp() * (y0 - 1)


def _logistic(t: Tensor | float, y: Tensor, p: Values) -> Tensor:
    return p["rate"] * y * (1 - y)


def _logistic_solution(t: Tensor, y0: Tensor, p: Values) -> Tensor:
    time = t.view(-1, *(1,) * y0.ndim)
    return y0 / (y0 + (1 - y0) * (-p["rate"] * time).exp())


SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System(
            "pendulum",
            "Damped, driven pendulum",
            r"\ddot\theta = d\cos(\omega_d t) - c\dot\theta - k\sin\theta",
            ("angle", "angular velocity"),
            ("rad", "rad/s"),
            "s",
            {
                "stiffness": Parameter(9.81, 0.1, 40.0, "1/s^2", "gravity over length"),
                "damping": Parameter(0.25, 0.0, 5.0, "1/s", "damping"),
                "drive": Parameter(0.0, 0.0, 20.0, "1/s^2", "drive"),
                "drive_frequency": Parameter(2.0, 0.0, 10.0, "rad/s", "frequency of the drive"),
            },
            _pendulum,
            (2.0, 0.0),
            8.0,
            ((-6.5, 6.5), (-8.0, 8.0)),
            invariant=_pendulum_energy,
        ),
        System(
            "van_der_pol",
            "Van der Pol oscillator",
            r"\ddot x = \mu (1 - x^2)\dot x - x",
            ("position", "velocity"),
            ("1", "1"),
            "1",
            {"mu": Parameter(1.0, 0.0, 1000.0, "1", "nonlinear damping")},
            _van_der_pol,
            (2.0, 0.0),
            15.0,
            ((-3.0, 3.0), (-4.0, 4.0)),
        ),
        System(
            "lotka_volterra",
            "Lotka-Volterra predation",
            r"\dot u = u(b - c v),\quad \dot v = v(g u - d)",
            ("prey", "predators"),
            ("thousands", "thousands"),
            "years",
            {
                "birth": Parameter(1.0, 0.1, 3.0, "1/year", "birth rate of prey"),
                "catch": Parameter(0.5, 0.05, 2.0, "1/(year thousand)", "prey caught by a thousand predators"),
                "growth": Parameter(0.25, 0.05, 2.0, "1/(year thousand)", "growth of predators on a thousand prey"),
                "death": Parameter(1.0, 0.1, 3.0, "1/year", "death rate of predators"),
            },
            _lotka_volterra,
            (6.0, 2.0),
            15.0,
            ((0.05, 12.0), (0.05, 6.0)),
            invariant=_lotka_volterra_invariant,
        ),
        System(
            "lorenz",
            "Lorenz convection",
            r"\dot x = \sigma(y-x),\quad \dot y = x(\rho - z) - y,\quad \dot z = xy - \beta z",
            ("x", "y", "z"),
            ("1", "1", "1"),
            "1",
            {
                "sigma": Parameter(10.0, 1.0, 20.0, "1", "Prandtl number"),
                "rho": Parameter(28.0, 0.0, 60.0, "1", "Rayleigh number over its critical value"),
                "beta": Parameter(8 / 3, 0.5, 6.0, "1", "aspect ratio"),
            },
            _lorenz,
            (1.0, 1.0, 20.0),
            5.0,
            ((-25.0, 25.0), (-30.0, 30.0)),
        ),
        System(
            "harmonic",
            "Damped harmonic oscillator",
            r"\ddot x = -\omega^2 x - 2\gamma\dot x",
            ("position", "velocity"),
            ("m", "m/s"),
            "s",
            {
                "frequency": Parameter(1.0, 0.1, 10.0, "rad/s", "angular frequency"),
                "damping": Parameter(0.0, 0.0, 5.0, "1/s", "damping"),
            },
            _harmonic,
            (1.0, 0.0),
            2 * math.pi,
            ((-2.0, 2.0), (-2.0, 2.0)),
            solution=_harmonic_solution,
            invariant=_energy,
        ),
        System(
            "stiff",
            "Stiff test equation (Prothero and Robinson)",
            r"\dot y = -\lambda (y - \cos t) - \sin t",
            ("y",),
            ("1",),
            "1",
            {"rate": Parameter(100.0, 0.1, 1e5, "1", "rate of the fast decay")},
            _stiff,
            (0.0,),
            3.0,
            ((0.0, 3.0), (-1.5, 1.5)),
            solution=_stiff_solution,
        ),
        System(
            "logistic",
            "Logistic growth",
            r"\dot y = r y (1 - y)",
            ("population",),
            ("fraction of capacity",),
            "1",
            {"rate": Parameter(1.0, 0.1, 10.0, "1", "growth rate")},
            _logistic,
            (0.1,),
            5.0,
            ((0.0, 5.0), (0.0, 1.5)),
            solution=_logistic_solution,
        ),
    )
}
"""Every named system by its key."""


def make_system(name: str, **parameters: float) -> System:
    """Look up a system by name, with other parameters where given.

    Raises
    ------
    ValueError
        If the system or a parameter is unknown, or a value outside its range; the nearest name is suggested.

    >>> make_system("lorenz", rho=14.0).values["rho"]
    14.0
    """
    check_choice(SYSTEMS, system=name)
    return SYSTEMS[name].with_parameters(**parameters)
