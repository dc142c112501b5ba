"""Labelled experiments with the wing `flow`, one module a paper; each claim's criterion is a function here."""

from sciviz.flow.experiments.bespoke import bespoke_solvers, bespoke_solvers_claim
from sciviz.flow.experiments.c_rectified import (
    c_rectified_clouds,
    c_rectified_clouds_claim,
    c_rectified_clusters_claim,
    gaussian_rectification,
    gaussian_rectification_claim,
)
from sciviz.flow.experiments.digits import (
    DigitFlows,
    Images,
    classifier_features,
    few_steps,
    few_steps_claim,
    load_images,
    nearest_images,
    train_digits,
)
from sciviz.flow.experiments.kinetic import kinetic_gap, kinetic_gap_claim, kinetic_paths
from sciviz.flow.experiments.mode_interpolation import mode_interpolation_claim, samples_between_modes
from sciviz.flow.experiments.probability_flow import (
    sampling_steps,
    sampling_steps_claim,
    score_error_claim,
    step_slopes,
)
from sciviz.flow.experiments.rectified import (
    cloud,
    cost_claim,
    crossing_lines,
    flow_between,
    marginal_claim,
    one_call,
    one_step_claim,
    rectification,
    straightness_claim,
    transfer,
)
from sciviz.flow.experiments.stochastic import ode_and_sdes, same_law_claim

__all__ = [
    "DigitFlows",
    "Images",
    "bespoke_solvers",
    "bespoke_solvers_claim",
    "c_rectified_clouds",
    "c_rectified_clouds_claim",
    "c_rectified_clusters_claim",
    "classifier_features",
    "cloud",
    "cost_claim",
    "crossing_lines",
    "few_steps",
    "few_steps_claim",
    "flow_between",
    "gaussian_rectification",
    "gaussian_rectification_claim",
    "kinetic_gap",
    "kinetic_gap_claim",
    "kinetic_paths",
    "load_images",
    "marginal_claim",
    "mode_interpolation_claim",
    "nearest_images",
    "ode_and_sdes",
    "one_call",
    "one_step_claim",
    "rectification",
    "same_law_claim",
    "samples_between_modes",
    "sampling_steps",
    "sampling_steps_claim",
    "score_error_claim",
    "step_slopes",
    "straightness_claim",
    "train_digits",
    "transfer",
]
