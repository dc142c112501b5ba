"""Kolmogorov-Arnold networks: learnt functions on the edges, sums at the nodes."""

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
from sciviz.kan.counterparts import (
    COUNTERPARTS,
    MLP,
    Ensemble,
    count_parameters,
    make_counterpart,
    make_linear,
    match_width,
)
from sciviz.kan.mittag_leffler import (
    SHAPES,
    MittagLefflerActivation,
    gated_mittag_leffler,
    mittag_leffler_function,
)
from sciviz.kan.quadratic import QuadraticLinear, QuadraticNetwork, relinear_groups
from sciviz.kan.selectable import FAMILIES, SelectableKAN, SelectableLayer

__all__ = [
    "CATALOGUE",
    "COUNTERPARTS",
    "FAMILIES",
    "MLP",
    "NAU",
    "NMU",
    "SHAPES",
    "AddMultiply",
    "AffineMatch",
    "Cauchy",
    "Duplicate",
    "Elementwise",
    "Ensemble",
    "MittagLefflerActivation",
    "NamedActivation",
    "QuadraticLinear",
    "QuadraticNetwork",
    "SelectableKAN",
    "SelectableLayer",
    "Snake",
    "affine_match",
    "count_parameters",
    "find_duplicates",
    "gated_mittag_leffler",
    "identity_text",
    "integer_distance",
    "make_activation",
    "make_counterpart",
    "make_linear",
    "match_catalogue",
    "match_width",
    "mittag_leffler_function",
    "relinear_groups",
    "stated_pairs",
]
