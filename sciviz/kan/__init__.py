"""Kolmogorov-Arnold networks: learnt functions on the edges, sums at the nodes.

`train` is a module here, and the function that trains is `sciviz.kan.train.train`.
"""

from sciviz.kan.activations import (
    CATALOGUE,
    AffineMatch,
    Cauchy,
    Duplicate,
    Elementwise,
    NamedActivation,
    Snake,
    affine_match,
    find_duplicates,
    identity_text,
    make_activation,
    match_catalogue,
    stated_pairs,
)
from sciviz.kan.arithmetic import NAU, NMU, AddMultiply, integer_distance
from sciviz.kan.bases import BASES, Basis
from sciviz.kan.counterparts import (
    COUNTERPARTS,
    MLP,
    Ensemble,
    count_parameters,
    make_counterpart,
    make_linear,
    match_width,
)
from sciviz.kan.layers import KANLayer
from sciviz.kan.mittag_leffler import (
    SHAPES,
    MittagLefflerActivation,
    gated_mittag_leffler,
    mittag_leffler_function,
)
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.pruning import Scores, prune_edges, prune_nodes, scores
from sciviz.kan.quadratic import QuadraticLinear, QuadraticNetwork, relinear_groups
from sciviz.kan.selectable import FAMILIES, SelectableKAN, SelectableLayer
from sciviz.kan.splines import design_matrix, evaluate_spline, fit_coefficients, local_bases, make_knots
from sciviz.kan.symbolic import (
    LIBRARY,
    FormulaEdge,
    Suggestion,
    edge_curve,
    fit_form,
    fix_edge,
    formula,
    formula_difference,
    make_symbolic,
    refit,
    suggest,
    suggest_curve,
)
from sciviz.kan.train import History, choose, jacobian, levenberg_marquardt, regularization, rmse

__all__ = [
    "BASES",
    "CATALOGUE",
    "COUNTERPARTS",
    "FAMILIES",
    "KAN",
    "LIBRARY",
    "MLP",
    "NAU",
    "NMU",
    "SHAPES",
    "AddMultiply",
    "AffineMatch",
    "Basis",
    "BatchedMLP",
    "Cauchy",
    "Duplicate",
    "Elementwise",
    "Ensemble",
    "FormulaEdge",
    "History",
    "KANLayer",
    "MittagLefflerActivation",
    "NamedActivation",
    "QuadraticLinear",
    "QuadraticNetwork",
    "Scores",
    "SelectableKAN",
    "SelectableLayer",
    "Snake",
    "Suggestion",
    "affine_match",
    "choose",
    "count_parameters",
    "design_matrix",
    "edge_curve",
    "evaluate_spline",
    "find_duplicates",
    "fit_coefficients",
    "fit_form",
    "fix_edge",
    "formula",
    "formula_difference",
    "gated_mittag_leffler",
    "identity_text",
    "integer_distance",
    "jacobian",
    "levenberg_marquardt",
    "local_bases",
    "make_activation",
    "make_counterpart",
    "make_knots",
    "make_linear",
    "make_symbolic",
    "match_catalogue",
    "match_width",
    "mittag_leffler_function",
    "prune_edges",
    "prune_nodes",
    "refit",
    "regularization",
    "relinear_groups",
    "rmse",
    "scores",
    "stated_pairs",
    "suggest",
    "suggest_curve",
]
