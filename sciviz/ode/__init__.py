"""Neural ordinary differential equations: solvers and their gradients."""

from sciviz.ode.solvers import (
    NonFiniteDerivativeError,
    Solution,
    SolverError,
    State,
    Stats,
    StepLimitError,
    Steps,
    StepUnderflowError,
    runge_kutta_step,
    solve,
    solve_plain,
)
from sciviz.ode.tableaus import ADAPTIVE_METHODS, FIXED_METHODS, METHODS, Tableau, tableau

__all__ = [
    "ADAPTIVE_METHODS",
    "FIXED_METHODS",
    "METHODS",
    "NonFiniteDerivativeError",
    "Solution",
    "SolverError",
    "State",
    "Stats",
    "StepLimitError",
    "StepUnderflowError",
    "Steps",
    "Tableau",
    "runge_kutta_step",
    "solve",
    "solve_plain",
    "tableau",
]
