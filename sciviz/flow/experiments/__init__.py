"""Labelled experiments with the wing `flow`, one module a paper; each claim's criterion is a function here."""

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
    "classifier_features",
    "cloud",
    "cost_claim",
    "crossing_lines",
    "few_steps",
    "few_steps_claim",
    "flow_between",
    "load_images",
    "marginal_claim",
    "nearest_images",
    "ode_and_sdes",
    "one_call",
    "one_step_claim",
    "rectification",
    "same_law_claim",
    "straightness_claim",
    "train_digits",
    "transfer",
]
