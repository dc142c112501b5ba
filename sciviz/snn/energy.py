"""What a spiking network costs: spikes and synaptic operations counted, and energy under assumptions that are stated.

A spike that arrives at a layer of n neurons costs n additions, one for each weight it finds (a synaptic operation). A network
without spikes costs a multiplication and an addition for each weight, always. Papers turn both into joules with the energy
of one operation, measured for 32-bit numbers in a 45 nm process [Horowitz 2014]: 4.6 pJ for a multiply-add, 0.9 pJ for an
addition. That comparison leaves out what it should not:

    - moving numbers: a word from a small cache costs some 10 pJ and from main memory over 1000 pJ, more than any arithmetic;
    - the membranes: each neuron is updated in each step, whether it fires or not. This is counted here, apart;
    - hardware that cannot skip zeros, as most cannot: there a sparse layer costs as much as a dense one;
    - the analogue input of the first layer, which takes multiplications (counted here as such).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative


@dataclass(frozen=True)
class EnergyModel:
    """Energy of one operation in picojoule; the default is [Horowitz 2014], 45 nm, 32-bit floating point.

    `memory` is what fetching one weight costs, on top, in either kind of network: zero in most papers. From a cache of 8 KB
    (64-bit words, same source) it is about 10.
    """

    multiply_add: float = 4.6
    add: float = 0.9
    memory: float = 0.0

    def __post_init__(self) -> None:
        check_nonnegative(multiply_add=self.multiply_add, add=self.add, memory=self.memory)


class Operations(NamedTuple):
    """Counts for one sample: `spikes`, `synaptic` operations, `input` multiply-adds, `membrane` updates, `dense` multiply-adds.

    `dense` is what the network of the same layers without spikes takes: one pass, a multiply-add for each weight.
    """

    spikes: float
    synaptic: float
    input: float
    membrane: float
    dense: float

    def energy(self, model: EnergyModel | None = None, *, membranes: bool = True) -> float:
        """Return the spiking network's energy for one sample, in nanojoule.

        >>> Operations(10.0, 1000.0, 0.0, 100.0, 1000.0).energy(membranes=False)
        0.9
        """
        model = EnergyModel() if model is None else model
        total = self.synaptic * (model.add + model.memory) + self.input * (model.multiply_add + model.memory)
        return (total + (self.membrane * model.multiply_add if membranes else 0.0)) / 1000

    def dense_energy(self, model: EnergyModel | None = None) -> float:
        """Return the energy of the network without spikes, in nanojoule."""
        model = EnergyModel() if model is None else model
        return self.dense * (model.multiply_add + model.memory) / 1000


def count_operations(
    layers: Sequence[Float[Tensor, "time batch neurons"]],
    *,
    num_outputs: int,
    analogue_input: bool = False,
    constant_input: bool = False,
) -> Operations:
    """Count what a chain of fully connected layers did, as means over the batch.

    Parameters
    ----------
    layers
        Activity (time, batch, neurons) of the input and of each hidden layer, in order.
    num_outputs
        Neurons of the last layer, whose own spikes go nowhere.
    analogue_input
        Whether the first activity is a current and no spikes: then it costs multiply-adds and not additions.
    constant_input
        Whether that current is the same in all steps, so that it is multiplied by the weights only once.

    Raises
    ------
    ValueError
        If there is no layer, or they differ in time or batch.

    >>> import torch
    >>> count_operations([torch.ones(5, 1, 3), torch.zeros(5, 1, 4)], num_outputs=2).synaptic
    60.0
    """
    check_int(1, num_outputs=num_outputs)
    if not layers:
        raise ValueError("layers must hold at least the input's activity, got none.")
    if len({tuple(activity.shape[:2]) for activity in layers}) > 1:
        shapes = ", ".join(str(tuple(activity.shape)) for activity in layers)
        raise ValueError(f"layers must agree in time and batch, got {shapes}.")
    num_steps, batch = layers[0].shape[:2]
    sizes = [int(activity.shape[-1]) for activity in layers] + [num_outputs]
    counts = [float(activity.sum()) / batch for activity in layers]
    first = 1 if analogue_input else 0
    synaptic = sum(counts[n] * sizes[n + 1] for n in range(first, len(layers)))
    passes = (1 if constant_input else int(num_steps)) if analogue_input else 0
    return Operations(
        spikes=sum(counts[first:]),
        synaptic=float(synaptic),
        input=float(sizes[0] * sizes[1] * passes),
        membrane=float(int(num_steps) * sum(sizes[1:])),
        dense=float(sum(math.prod(pair) for pair in itertools.pairwise(sizes))),
    )
