"""Spiking networks: membranes that fire, learnt through surrogate gradients, delays and local rules."""

from sciviz.snn.encodings import (
    ENCODINGS,
    decode_delta,
    encode,
    encode_delta,
    encode_latency,
    encode_population,
    encode_rate,
)
from sciviz.snn.energy import EnergyModel, Operations, count_operations
from sciviz.snn.models import Adaptive, Chialvo, IntegrateAndFire, Izhikevich, Leaky, Membrane, Neuron, Rulkov, Synaptic
from sciviz.snn.networks import Output, SpikingNetwork, accuracy, spread_linear, train
from sciviz.snn.neurons import (
    AdaptiveTrace,
    Step,
    Trace,
    adaptive_lif,
    adaptive_lif_step,
    decay_of,
    exponential_filter,
    lif,
    lif_step,
)
from sciviz.snn.plasticity import Rewarded, Stdp, bounded, reward_modulated
from sciviz.snn.surrogates import KINDS, Surrogate, as_surrogate, first_spike_time, postsynaptic_potential
from sciviz.snn.tasks import TimingTask, make_timing

__all__ = [
    "ENCODINGS",
    "KINDS",
    "Adaptive",
    "AdaptiveTrace",
    "Chialvo",
    "EnergyModel",
    "IntegrateAndFire",
    "Izhikevich",
    "Leaky",
    "Membrane",
    "Neuron",
    "Operations",
    "Output",
    "Rewarded",
    "Rulkov",
    "SpikingNetwork",
    "Stdp",
    "Step",
    "Surrogate",
    "Synaptic",
    "TimingTask",
    "Trace",
    "accuracy",
    "adaptive_lif",
    "adaptive_lif_step",
    "as_surrogate",
    "bounded",
    "count_operations",
    "decay_of",
    "decode_delta",
    "encode",
    "encode_delta",
    "encode_latency",
    "encode_population",
    "encode_rate",
    "exponential_filter",
    "first_spike_time",
    "lif",
    "lif_step",
    "make_timing",
    "postsynaptic_potential",
    "reward_modulated",
    "spread_linear",
    "train",
]
