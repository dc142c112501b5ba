"""The expressive leaky memory (ELM) neuron: one neuron with many memories and a small network inside [elm-neuron].

    s[t] = κ_s s[t−1] + w ⊙ x[t]                     a trace for each synapse, which forgets fast
    b[t] = sums of s[t] over branches                neighbours on a dendrite act together
    Δ[t] = tanh(MLP(b[t], κ_m ⊙ m[t−1]))             what the neuron makes of its branches and its memories
    m[t] = κ_m ⊙ m[t−1] + λ (1 − κ_m) ⊙ Δ[t]         memories, each with its own time constant
    y[t] = W m[t] + c

Most of its few parameters sit in the MLP; what lets it bridge long gaps are slow memories, κ_m = e^{−dt/τ_m} near one.
All tensors carry a leading dimension of members, so that an ensemble runs as one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.snn.neurons import exponential_filter


class ElmParameters(NamedTuple):
    """What an ELM neuron learns; every tensor starts with the dimension of members."""

    synapses: Float[Tensor, "members inputs"]
    from_branches: Float[Tensor, "members branches hidden"]
    from_memory: Float[Tensor, "members memories hidden"]
    hidden_bias: Float[Tensor, "members 1 hidden"]
    to_memory: Float[Tensor, "members hidden memories"]
    memory_bias: Float[Tensor, "members 1 memories"]
    readout: Float[Tensor, "members memories outputs"]
    output_bias: Float[Tensor, "members 1 outputs"]


def make_elm(
    generators: list[torch.Generator],
    *,
    num_inputs: int,
    num_branches: int,
    num_memories: int,
    num_hidden: int,
    num_outputs: int,
) -> ElmParameters:
    """Draw one ELM neuron for each generator.

    Raises
    ------
    ValueError
        If the branches do not divide the inputs.

    >>> elm = make_elm([torch.Generator()], num_inputs=4, num_branches=2, num_memories=3, num_hidden=5, num_outputs=1)
    >>> sum(p.numel() for p in elm)
    56
    """
    check_int(1, num_inputs=num_inputs, num_branches=num_branches, num_memories=num_memories, num_hidden=num_hidden)
    if num_inputs % num_branches:
        raise ValueError(f"num_branches must divide num_inputs, got {num_branches} branches and {num_inputs} inputs.")
    fan = num_branches + num_memories
    members = len(generators)

    def draw(rows: int, columns: int, fan_in: int) -> Tensor:
        return torch.stack([torch.randn(rows, columns, generator=g) / math.sqrt(fan_in) for g in generators])

    return ElmParameters(
        torch.ones(members, num_inputs) * 0.5,
        draw(num_branches, num_hidden, fan) * math.sqrt(2),
        draw(num_memories, num_hidden, fan) * math.sqrt(2),
        torch.zeros(members, 1, num_hidden),
        draw(num_hidden, num_memories, num_hidden),
        torch.zeros(members, 1, num_memories),
        draw(num_memories, num_outputs, num_memories),
        torch.zeros(members, 1, num_outputs),
    )


def memory_decays(num_memories: int, shortest: float, longest: float, *, dt: float = 1.0) -> Float[Tensor, "memories"]:
    """Return κ_m = e^{−dt/τ} for time constants spaced evenly in their logarithm.

    >>> [round(float(decay), 2) for decay in memory_decays(2, 1.0, 100.0)]
    [0.37, 0.99]
    """
    check_int(1, num_memories=num_memories)
    check_positive(shortest=shortest, longest=longest, dt=dt)
    tau = torch.logspace(math.log10(shortest), math.log10(longest), num_memories)
    return torch.exp(-dt / tau)


def run_elm(
    elm: ElmParameters,
    X: Float[Tensor, "time members batch inputs"],
    memory_decay: Float[Tensor, "members 1 memories"],
    *,
    synapse_decay: float = 0.6,
    gain: float = 5.0,
    every_step: bool = False,
) -> Tensor:
    """Run ELM neurons over a sequence [elm-neuron, eq. 1 to 4].

    Parameters
    ----------
    memory_decay
        κ_m of each memory.
    gain
        λ.
    every_step
        Return outputs of all steps, (time, members, batch, outputs), not of the last only.

    >>> elm = make_elm([torch.Generator()], num_inputs=4, num_branches=2, num_memories=3, num_hidden=5, num_outputs=1)
    >>> run_elm(elm, torch.zeros(6, 1, 2, 4), torch.full((1, 1, 3), 0.9)).shape
    torch.Size([1, 2, 1])
    """
    branches = elm.from_branches.shape[1]
    traces = exponential_filter(X * elm.synapses[None, :, None, :], decay=synapse_decay)
    sums = torch.unflatten(traces, -1, (branches, -1)).sum(-1)
    # All that does not need the memories is computed for all steps at once.
    drive = sums @ elm.from_branches + elm.hidden_bias
    memory = torch.zeros(*X.shape[1:3], memory_decay.shape[-1], dtype=X.dtype, device=X.device)
    write = gain * (1 - memory_decay)
    kept = []
    for step in drive.unbind(0):
        old = memory * memory_decay
        hidden = torch.relu(torch.baddbmm(step, old, elm.from_memory))
        memory = torch.addcmul(old, write, torch.tanh(torch.baddbmm(elm.memory_bias, hidden, elm.to_memory)))
        if every_step:
            kept.append(memory)
    if every_step:
        return torch.stack(kept) @ elm.readout + elm.output_bias
    return torch.baddbmm(elm.output_bias, memory, elm.readout)
