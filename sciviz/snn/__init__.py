"""Spiking networks: membranes that fire, learnt through surrogate gradients, delays and local rules."""

from sciviz.snn.neurons import AdaptiveTrace, Step, Trace, decay_of, exponential_filter, lif, lif_step
from sciviz.snn.surrogates import KINDS, Surrogate, as_surrogate, first_spike_time, postsynaptic_potential

__all__ = [
    "KINDS",
    "AdaptiveTrace",
    "Step",
    "Surrogate",
    "Trace",
    "as_surrogate",
    "decay_of",
    "exponential_filter",
    "first_spike_time",
    "lif",
    "lif_step",
    "postsynaptic_potential",
]
