"""Labelled experiments with the wing `kan`, one module a paper; each claim's criterion is a function here."""

from sciviz.kan.experiments.activation_survey import catalogue_duplicates, duplicates_claim, one_way_claim
from sciviz.kan.experiments.arithmetic import arithmetic_extrapolation, composite_claim, single_units_claim
from sciviz.kan.experiments.cauchy import heat_claim, heat_equation, sharp_claim, sharp_functions
from sciviz.kan.experiments.edges import CURVES, network_graph, order_of_convergence, spline_fit
from sciviz.kan.experiments.extension import grid_extension
from sciviz.kan.experiments.fair import against_the_clock, dimensions, noise_and_size, teacher
from sciviz.kan.experiments.formula import (
    Story,
    formula_claim,
    kepler,
    recover_formula,
    rediscover,
    tell_story,
    train_sparse,
)
from sciviz.kan.experiments.mittag_leffler import digits_accuracy, learnt_shape_claim, unification, unification_claim
from sciviz.kan.experiments.poisson import poisson_claim, poisson_equation
from sciviz.kan.experiments.quadratic import deep_claim, deep_training, disc, disc_claim, disc_fit
from sciviz.kan.experiments.real_data import real_regression, real_summary
from sciviz.kan.experiments.s_kan import selectable_bases, selectable_claim, selectable_mlp_claim, worst_case_claim
from sciviz.kan.experiments.scaling import (
    design_points,
    draw_points,
    error_scaling,
    exp_sin,
    lower_error_claim,
    slope_claim,
)
from sciviz.kan.experiments.snake import frequency_claim, outside_claim, periodic_extrapolation, snake_claim
from sciviz.kan.experiments.throughput import layer_throughput, locality_claim

__all__ = [
    "CURVES",
    "Story",
    "against_the_clock",
    "arithmetic_extrapolation",
    "catalogue_duplicates",
    "composite_claim",
    "deep_claim",
    "deep_training",
    "design_points",
    "digits_accuracy",
    "dimensions",
    "disc",
    "disc_claim",
    "disc_fit",
    "draw_points",
    "duplicates_claim",
    "error_scaling",
    "exp_sin",
    "formula_claim",
    "frequency_claim",
    "grid_extension",
    "heat_claim",
    "heat_equation",
    "kepler",
    "layer_throughput",
    "learnt_shape_claim",
    "locality_claim",
    "lower_error_claim",
    "network_graph",
    "noise_and_size",
    "one_way_claim",
    "order_of_convergence",
    "outside_claim",
    "periodic_extrapolation",
    "poisson_claim",
    "poisson_equation",
    "real_regression",
    "real_summary",
    "recover_formula",
    "rediscover",
    "selectable_bases",
    "selectable_claim",
    "selectable_mlp_claim",
    "sharp_claim",
    "sharp_functions",
    "single_units_claim",
    "slope_claim",
    "snake_claim",
    "spline_fit",
    "teacher",
    "tell_story",
    "train_sparse",
    "unification",
    "unification_claim",
    "worst_case_claim",
]
