"""Labelled experiments with the wing `kan`, one module a paper; each claim's criterion is a function here."""

from sciviz.kan.experiments.activation_survey import catalogue_duplicates, duplicates_claim, one_way_claim
from sciviz.kan.experiments.arithmetic import arithmetic_extrapolation, composite_claim, single_units_claim
from sciviz.kan.experiments.cauchy import heat_claim, heat_equation, sharp_claim, sharp_functions
from sciviz.kan.experiments.mittag_leffler import digits_accuracy, learnt_shape_claim, unification, unification_claim
from sciviz.kan.experiments.quadratic import deep_claim, deep_training, disc, disc_claim, disc_fit
from sciviz.kan.experiments.s_kan import selectable_bases, selectable_claim, selectable_mlp_claim, worst_case_claim
from sciviz.kan.experiments.snake import frequency_claim, outside_claim, periodic_extrapolation, snake_claim

__all__ = [
    "arithmetic_extrapolation",
    "catalogue_duplicates",
    "composite_claim",
    "deep_claim",
    "deep_training",
    "digits_accuracy",
    "disc",
    "disc_claim",
    "disc_fit",
    "duplicates_claim",
    "frequency_claim",
    "heat_claim",
    "heat_equation",
    "learnt_shape_claim",
    "one_way_claim",
    "outside_claim",
    "periodic_extrapolation",
    "selectable_bases",
    "selectable_claim",
    "selectable_mlp_claim",
    "sharp_claim",
    "sharp_functions",
    "single_units_claim",
    "snake_claim",
    "unification",
    "unification_claim",
    "worst_case_claim",
]
