"""Labelled experiments with the wing `snn`, one module a paper; each claim's criterion is a function here."""

from sciviz.snn.experiments.continual import forgetting, forgetting_claim, subspace_claim, tasks_in_sequence
from sciviz.snn.experiments.contrastive import flexible_accuracy_claim, flexible_phases, flexible_update_claim
from sciviz.snn.experiments.delays import learnt_delays, learnt_delays_claim, random_delays_claim
from sciviz.snn.experiments.digits import encoding_comparison, sparsity_scan, trained_network
from sciviz.snn.experiments.equilibrium import (
    alignment_claim,
    contour_claim,
    contour_derivatives,
    homeostasis_accuracy_claim,
    jacobian_homeostasis,
)
from sciviz.snn.experiments.expressive import dendritic_neuron, long_delay, parity_claim, timescale_claim
from sciviz.snn.experiments.feedback import dfa_claim, gain_ratio, three_rules
from sciviz.snn.experiments.liquid import astrocyte_claim, astrocyte_liquid, branching_claim, static_claim
from sciviz.snn.experiments.membrane import firing_rate, membrane_trace, neuron_kinds
from sciviz.snn.experiments.normalization import folding_claim, membrane_accuracy_claim, membrane_normalisation
from sciviz.snn.experiments.speed import long_sequences
from sciviz.snn.experiments.surrogate import loss_staircase, steepness_scan, surrogate_shapes
from sciviz.snn.experiments.timing import stdp_pairs, timing_examples

__all__ = [
    "alignment_claim",
    "astrocyte_claim",
    "astrocyte_liquid",
    "branching_claim",
    "contour_claim",
    "contour_derivatives",
    "dendritic_neuron",
    "dfa_claim",
    "encoding_comparison",
    "firing_rate",
    "flexible_accuracy_claim",
    "flexible_phases",
    "flexible_update_claim",
    "folding_claim",
    "forgetting",
    "forgetting_claim",
    "gain_ratio",
    "homeostasis_accuracy_claim",
    "jacobian_homeostasis",
    "learnt_delays",
    "learnt_delays_claim",
    "long_delay",
    "long_sequences",
    "loss_staircase",
    "membrane_accuracy_claim",
    "membrane_normalisation",
    "membrane_trace",
    "neuron_kinds",
    "parity_claim",
    "random_delays_claim",
    "sparsity_scan",
    "static_claim",
    "stdp_pairs",
    "steepness_scan",
    "subspace_claim",
    "surrogate_shapes",
    "tasks_in_sequence",
    "three_rules",
    "timescale_claim",
    "timing_examples",
    "trained_network",
]
