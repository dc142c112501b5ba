"""Labelled experiments with the wing `snn`, one module a paper; each claim's criterion is a function here."""

from sciviz.snn.experiments.digits import encoding_comparison, sparsity_scan, trained_network
from sciviz.snn.experiments.membrane import firing_rate, membrane_trace, neuron_kinds
from sciviz.snn.experiments.surrogate import loss_staircase, steepness_scan, surrogate_shapes

__all__ = [
    "encoding_comparison",
    "firing_rate",
    "loss_staircase",
    "membrane_trace",
    "neuron_kinds",
    "sparsity_scan",
    "steepness_scan",
    "surrogate_shapes",
    "trained_network",
]
