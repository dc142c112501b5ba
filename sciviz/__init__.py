"""sciviz: executable tutorials on deep-learning methods, in which every claim taken from a paper is measured.

The package loads its parts when they are first used, so that `import sciviz` costs little more than Python itself.

>>> import sciviz
>>> run = sciviz.start(seed=0)
>>> run.pick(quick=3, full=20)
3
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciviz import coursework, flow, hopfield, kan, lab, ntk, ode, reports, snn
    from sciviz.lab.claims import check_close
    from sciviz.lab.runtime import Run, start

__version__ = "0.1.0"

__all__ = [
    "Run",
    "__version__",
    "check_close",
    "coursework",
    "flow",
    "hopfield",
    "kan",
    "lab",
    "ntk",
    "ode",
    "reports",
    "snn",
    "start",
]

_NAMES = {"Run": "sciviz.lab.runtime", "start": "sciviz.lab.runtime", "check_close": "sciviz.lab.claims"}
_PACKAGES = {"coursework", "flow", "hopfield", "kan", "lab", "ntk", "ode", "reports", "snn"}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"sciviz.{name}")
    else:
        raise AttributeError(f"module 'sciviz' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
