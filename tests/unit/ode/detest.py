"""The non-stiff DETEST problems of Hull, Enright, Fellen and Sedgwick (SIAM J. Numer. Anal. 9, 1972), t from 0 to 20.

Classes: A single equations, B small systems, C moderate systems (C5: five outer planets), D orbits of eccentricity 0.1 to
0.9, E second-order equations written as systems.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

T_END = 20.0


@dataclass(frozen=True)
class Problem:
    name: str
    rate: Callable[[Tensor, Tensor], Tensor]
    y0: Tensor


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _columns(*values: Tensor) -> Tensor:
    return torch.stack(values, dim=-1)


def _linear(matrix: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: y @ matrix.T


def _b1(t: Tensor, y: Tensor) -> Tensor:
    a, b = y.unbind(-1)
    return _columns(2 * (a - a * b), -(b - a * b))


def _b3(t: Tensor, y: Tensor) -> Tensor:
    a, b, _ = y.unbind(-1)
    return _columns(-a, a - b**2, b**2)


def _b4(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    r = torch.hypot(a, b)
    return _columns(-b - a * c / r, a - b * c / r, a / r)


def _b5(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    return _columns(b * c, -a * c, -0.51 * a * b)


def _chain(rates: list[float], feed: list[float]) -> Tensor:
    return torch.diag(_vector(*rates)) + torch.diag(_vector(*feed), -1)


def _diffusion(size: int) -> Tensor:
    ones = torch.ones(size - 1, dtype=torch.float64)
    return -2 * torch.eye(size, dtype=torch.float64) + torch.diag(ones, 1) + torch.diag(ones, -1)


def _first(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)[0]


_GRAVITY = 2.95912208286
_SUN = 1.00000597682
_PLANETS = _vector(0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778)
_POSITIONS = _vector(
    3.42947415189, 3.35386959711, 1.35494901715,
    6.64145542550, 5.97156957878, 2.18231499728,
    11.2630437207, 14.6952576794, 6.27960525067,
    -30.1552268759, 1.65699966404, 1.43785752721,
    -21.1238353380, 28.4465098142, 15.3882659679,
)  # fmt: skip
_VELOCITIES = _vector(
    -0.557160570446, 0.505696783289, 0.230578543901,
    -0.415570776342, 0.365682722812, 0.169143213293,
    -0.325325669158, 0.189706021964, 0.0877265322780,
    -0.0240476254170, -0.287659532608, -0.117219543175,
    -0.176860753121, -0.216393453025, -0.0148647893090,
)  # fmt: skip


def _planets(t: Tensor, y: Tensor) -> Tensor:
    place, speed = y[..., :15].unflatten(-1, (5, 3)), y[..., 15:]
    to_sun = place / place.norm(dim=-1, keepdim=True) ** 3
    apart = place[..., None, :, :] - place[..., :, None, :]  # [j, k] = from planet j to planet k
    distance = apart.norm(dim=-1, keepdim=True) + torch.eye(5, dtype=y.dtype)[..., None]
    pull = (_PLANETS[:, None] * (apart / distance**3 - to_sun[..., None, :, :])) * (1 - torch.eye(5)[..., None])
    acceleration = _GRAVITY * (-(_SUN + _PLANETS[:, None]) * to_sun + pull.sum(-2))
    return torch.cat([speed, acceleration.flatten(-2)], dim=-1)


def _orbit(t: Tensor, y: Tensor) -> Tensor:
    place, speed = y[..., :2], y[..., 2:]
    return torch.cat([speed, -place / place.norm(dim=-1, keepdim=True) ** 3], dim=-1)


def _second_order(acceleration: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, y: torch.cat([y[..., 1:], acceleration(t, y[..., :1], y[..., 1:])], dim=-1)


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in [
        Problem("A1", lambda t, y: -y, _vector(1.0)),
        Problem("A2", lambda t, y: -(y**3) / 2, _vector(1.0)),
        Problem("A3", lambda t, y: y * torch.cos(t), _vector(1.0)),
        Problem("A4", lambda t, y: y / 4 * (1 - y / 20), _vector(1.0)),
        Problem("A5", lambda t, y: (y - t) / (y + t), _vector(4.0)),
        Problem("B1", _b1, _vector(1.0, 3.0)),
        Problem("B2", _linear(_vector(-1, 1, 0, 1, -2, 1, 0, 1, -1).view(3, 3)), _vector(2.0, 0.0, 1.0)),
        Problem("B3", _b3, _vector(1.0, 0.0, 0.0)),
        Problem("B4", _b4, _vector(3.0, 0.0, 0.0)),
        Problem("B5", _b5, _vector(0.0, 1.0, 1.0)),
        Problem("C1", _linear(_chain([-1.0] * 9 + [0.0], [1.0] * 9)), _first(10)),
        Problem("C2", _linear(_chain([-float(i) for i in range(1, 10)] + [0.0], list(range(1, 10)))), _first(10)),
        Problem("C3", _linear(_diffusion(10)), _first(10)),
        Problem("C4", _linear(_diffusion(51)), _first(51)),
        Problem("C5", _planets, torch.cat([_POSITIONS, _VELOCITIES])),
        *(
            Problem(f"D{i}", _orbit, _vector(1 - e, 0.0, 0.0, math.sqrt((1 + e) / (1 - e))))
            for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1)
        ),
        Problem(
            "E1",
            _second_order(lambda t, y, v: -(v / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y)),
            _vector(0.6713967071418030, 0.09540051444747446),
        ),
        Problem("E2", _second_order(lambda t, y, v: (1 - y**2) * v - y), _vector(2.0, 0.0)),
        Problem("E3", _second_order(lambda t, y, v: y**3 / 6 - y + 2 * torch.sin(2.78535 * t)), _vector(0.0, 0.0)),
        Problem("E4", _second_order(lambda t, y, v: 0.032 - 0.4 * v**2), _vector(30.0, 0.0)),
        Problem("E5", _second_order(lambda t, y, v: torch.sqrt(1 + v**2) / (25 - t)), _vector(0.0, 0.0)),
    ]
}
