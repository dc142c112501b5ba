"""A liquid state machine whose plasticity an astrocyte keeps in check [nalsm-astrocyte].

A liquid is a random recurrent network of spiking neurons; only a linear readout of its activity is trained. Spike-timing
dependent plasticity can adapt the liquid to its inputs without labels, but left alone it runs away: what fires together
grows, and fires more. A leaky global unit, the astrocyte, watches both sides,

    a ← a + (−a + g (liquid spikes − input spikes)) / τ_a,        A₋ = A₀ + a,

and sets the amplitude of depression. A liquid busier than its input is depressed more than it is potentiated, a quieter one
less. Leading dimensions are members of an ensemble and, for a frozen liquid, a batch of inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_positive


class Liquid(NamedTuple):
    """Synapses of an ensemble of liquids: `weight` [to, from] with the signs of Dale's law, and `entry` from the inputs."""

    weight: Float[Tensor, "members neurons neurons"]
    entry: Float[Tensor, "members neurons inputs"]
    joined: Bool[Tensor, "members neurons neurons"]
    sign: Float[Tensor, "members 1 neurons"]


def make_liquid(
    generators: list[torch.Generator],
    *,
    num_neurons: int,
    num_inputs: int,
    weight: float = 0.1,
    radius: float = 0.35,
    fan_out: int = 6,
    entry: float = 0.5,
    inhibitory: float = 0.2,
) -> Liquid:
    """Draw liquids: neurons at random places of a cube, joined with a probability that falls with distance.

    Parameters
    ----------
    radius
        Length over which the probability of a synapse falls to 1/e (cube of side 1).
    fan_out
        Neurons that each input reaches.
    inhibitory
        Share of inhibitory neurons.

    >>> liquid = make_liquid([torch.Generator().manual_seed(0)], num_neurons=10, num_inputs=4)
    >>> liquid.weight.shape, liquid.entry.shape
    (torch.Size([1, 10, 10]), torch.Size([1, 10, 4]))
    """
    check_int(1, num_neurons=num_neurons, num_inputs=num_inputs, fan_out=fan_out)
    check_positive(weight=weight, radius=radius, entry=entry)
    check_nonnegative(inhibitory=inhibitory)
    weights, entries, masks, signs = [], [], [], []
    for g in generators:
        place = torch.rand(num_neurons, 3, generator=g)
        near = torch.exp(-((torch.cdist(place, place) / radius) ** 2))
        joined = torch.rand(near.shape, generator=g) < near
        joined.fill_diagonal_(False)
        sign = torch.where(torch.arange(num_neurons) < inhibitory * num_neurons, -1.0, 1.0)[None]
        weights.append(sign * joined * weight * (0.5 + torch.rand(near.shape, generator=g)))
        reach = torch.rand(num_neurons, num_inputs, generator=g).argsort(0) < min(fan_out, num_neurons)
        entries.append(entry * reach * (0.5 + torch.rand(reach.shape, generator=g)))
        masks.append(joined)
        signs.append(sign)
    return Liquid(torch.stack(weights), torch.stack(entries), torch.stack(masks), torch.stack(signs))


def run_liquid(
    liquid: Liquid,
    inputs: Float[Tensor, "time members batch inputs"],
    *,
    decay: float = 0.9,
    clamped: Float[Tensor, "time members batch neurons"] | None = None,
    kick: Float[Tensor, "members batch neurons"] | None = None,
    kick_at: int = 0,
) -> Float[Tensor, "time members batch neurons"]:
    """Run frozen liquids and return their spikes; threshold 1, reset to zero, a synaptic delay of one step.

    Parameters
    ----------
    clamped
        Recurrent spikes to use instead of the liquid's own: then nothing that changes is passed on.
    kick, kick_at
        Spikes added to what the synapses carry after the given step.

    >>> liquid = make_liquid([torch.Generator().manual_seed(0)], num_neurons=10, num_inputs=4)
    >>> float(run_liquid(liquid, torch.zeros(5, 1, 2, 4)).sum())
    0.0
    """
    drive = inputs @ liquid.entry.mT
    back = liquid.weight.mT
    membrane = torch.zeros_like(drive[0])
    spikes, kept = torch.zeros_like(membrane), []
    for t, current in enumerate(drive.unbind(0)):
        membrane = decay * membrane + current + spikes @ back
        fired = (membrane >= 1).to(membrane.dtype)
        membrane = membrane * (1 - fired)
        kept.append(fired)
        spikes = fired if clamped is None else clamped[t]
        if kick is not None and t == kick_at:
            spikes = spikes + kick
    return torch.stack(kept)


class Adapted(NamedTuple):
    """Liquids after plasticity, with the depression amplitude and the activity (spikes a neuron and step) on the way."""

    liquid: Liquid
    depression: Float[Tensor, "time members"]
    activity: Float[Tensor, "time members"]


def adapt_liquid(
    liquid: Liquid,
    inputs: Float[Tensor, "time members inputs"],
    *,
    astrocyte: Bool[Tensor, "members"],
    potentiation: float = 0.01,
    depression: float = 0.01,
    gain: float = 0.2,
    tau_astrocyte: float = 50.0,
    trace_decay: float = 0.8,
    decay: float = 0.9,
    largest: float = 0.4,
) -> Adapted:
    """Let liquids adapt by pair-based STDP while inputs stream in [nalsm-astrocyte, eq. 4 to 7].

    Δ|w_ij| = A₊ s_i x_j − A₋ x_i s_j with traces x of past spikes; sizes stay within [0, largest], signs stay.

    Parameters
    ----------
    astrocyte
        Members whose A₋ the astrocyte sets; the others keep `depression`.
    gain, tau_astrocyte
        g, and τ_a in steps.

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> liquid = make_liquid([torch.Generator().manual_seed(0)], num_neurons=10, num_inputs=4)
    >>> adapted = adapt_liquid(liquid, torch.ones(5, 1, 4), astrocyte=torch.tensor([True]))
    >>> bool((adapted.liquid.weight.sign() * liquid.sign >= 0).all())
    True
    """
    check_nonnegative(potentiation=potentiation, depression=depression, gain=gain)
    check_positive(tau_astrocyte=tau_astrocyte, largest=largest)
    size = liquid.weight.abs()
    members, neurons = size.shape[:2]
    drive = torch.einsum("tmi,mni->tmn", inputs, liquid.entry)
    incoming = inputs.mean(-1)
    membrane, trace = torch.zeros(members, neurons), torch.zeros(members, neurons)
    spikes = torch.zeros_like(membrane)
    level = torch.zeros(members)
    lengths, rates = [], []
    allowed = liquid.joined.to(size.dtype)
    for current, source in zip(drive.unbind(0), incoming.unbind(0), strict=True):
        recurrent = torch.bmm(size, (spikes * liquid.sign[:, 0])[..., None])[..., 0]
        membrane = decay * membrane + current + recurrent
        fired = (membrane >= 1).to(membrane.dtype)
        membrane = membrane * (1 - fired)
        rate = fired.mean(-1)
        level = level + (gain * (rate - source) - level) / tau_astrocyte
        amount = torch.where(astrocyte, (depression + level).clamp(min=0), torch.full_like(level, depression))
        # Both terms are outer products; as one product of rank two they cost one pass over the synapses.
        left = torch.stack([potentiation * fired, -amount[:, None] * trace], -1)
        size = torch.baddbmm(size, left, torch.stack([trace, fired], 1)).clamp_(0, largest).mul_(allowed)
        trace = trace_decay * trace + fired
        spikes = fired
        lengths.append(amount)
        rates.append(rate)
    return Adapted(liquid._replace(weight=size * liquid.sign), torch.stack(lengths), torch.stack(rates))


def branching_factor(
    liquid: Liquid,
    inputs: Float[Tensor, "time members batch inputs"],
    *,
    generator: torch.Generator,
    kick_at: int = 10,
    window: int = 10,
    decay: float = 0.9,
) -> Float[Tensor, "members"]:
    """Count the spikes that one extra spike causes: its direct descendants, on top of ongoing activity.

    The liquid runs twice on the same inputs, once with one more spike of a random neuron. In the second run every neuron
    hears the recurrent spikes of the first, so descendants of descendants are not counted. (The ratio of successive
    activities is no measure: it is one for any liquid whose activity neither dies nor explodes.)

    >>> liquid = make_liquid([torch.Generator().manual_seed(0)], num_neurons=10, num_inputs=4)
    >>> silent = liquid._replace(weight=0 * liquid.weight)
    >>> branching_factor(silent, torch.zeros(25, 1, 3, 4), generator=torch.Generator().manual_seed(0)).tolist()
    [0.0]
    """
    check_int(1, window=window)
    check_int(0, len(inputs) - 2, kick_at=kick_at)
    base = run_liquid(liquid, inputs, decay=decay)
    members, batch, neurons = base.shape[1:]
    chosen = torch.randint(0, neurons, (members, batch), generator=generator)
    kick = torch.nn.functional.one_hot(chosen, neurons).to(base.dtype)
    other = run_liquid(liquid, inputs, decay=decay, clamped=base, kick=kick, kick_at=kick_at)
    part = slice(kick_at + 1, kick_at + 1 + window)
    return (other[part] - base[part]).sum((0, 3)).mean(1)
