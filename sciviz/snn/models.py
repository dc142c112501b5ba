"""Neurons as objects: their equations, their units, one step and a whole sequence.

    neuron                units                               equation
    ------                -----                               --------
    IntegrateAndFire      potential in thresholds, ms         v̇ = I
    Leaky                 potential in thresholds, ms         τ v̇ = −v (+ τ I)
    Adaptive              potential in thresholds, ms         Leaky, its threshold raised by κ at each spike, with τ_w ẇ = −w
    Synaptic              potential in thresholds, ms         Leaky, driven by a current with τₛ i̇ = −i + spikes
    Membrane              mV, nA, MΩ, ms                      τ v̇ = −(v − v_rest) + R I
    Izhikevich            mV, ms                              v̇ = 0.04 v² + 5 v + 140 − u + I,  u̇ = a (b v − u)
    Chialvo, Rulkov       none: maps, one iteration a step    see there

A neuron is called with a current (time, *neurons) and answers with a `Trace`; `step` goes on by one step from a state.
What the first four add to the membrane in a step is the current itself, so that weights need no scaling by dt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_finite, check_int, check_nonnegative, check_positive
from sciviz.snn.neurons import (
    RESETS,
    Step,
    Trace,
    adaptive_lif,
    adaptive_lif_step,
    decay_of,
    exponential_filter,
    lif,
    lif_step,
)
from sciviz.snn.surrogates import Surrogate, as_surrogate


class Neuron(Protocol):
    """What a network needs of a neuron."""

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence."""
        ...

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step, from `state` (at rest if None)."""
        ...


@dataclass(frozen=True)
class IntegrateAndFire:
    """A neuron that sums and never leaks: it fires at each whole threshold of input.

    >>> IntegrateAndFire()(torch.full((4, 1), 0.5)).spikes.squeeze(1).tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    threshold: float = 1.0
    reset: str = "subtract"
    surrogate: str | Surrogate = "arctan"
    detach_reset: bool = True

    def __post_init__(self) -> None:
        check_positive(threshold=self.threshold)
        check_choice(RESETS, reset=self.reset)

    @property
    def decay(self) -> float:
        """Share of the potential kept over a step."""
        return 1.0

    def _how(self) -> dict[str, Any]:
        return {
            "decay": self.decay,
            "threshold": self.threshold,
            "reset": self.reset,
            "surrogate": self.surrogate,
            "detach_reset": self.detach_reset,
        }

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence."""
        return lif(current, **self._how())

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is the membrane after its reset."""
        return lif_step(current, state, **self._how())


@dataclass(frozen=True)
class Leaky(IntegrateAndFire):
    """A leaky integrate-and-fire neuron with time constant `tau` and step `dt`, both in ms.

    >>> Leaky(tau=10.0)(torch.full((3, 1), 0.5)).spikes.squeeze(1).tolist()
    [0.0, 0.0, 1.0]
    """

    tau: float = 20.0
    dt: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_of(self.tau, self.dt)

    @property
    def decay(self) -> float:
        """e^{−dt/τ}."""
        return decay_of(self.tau, self.dt)


@dataclass(frozen=True)
class Adaptive(Leaky):
    """A leaky neuron that tires: each spike raises its threshold by `adaptation`, which fades with `tau_adaptation` ms.

    >>> int(Adaptive()(torch.full((100, 1), 0.2)).spikes.sum()) < int(Leaky()(torch.full((100, 1), 0.2)).spikes.sum())
    True
    """

    tau_adaptation: float = 100.0
    adaptation: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative(adaptation=self.adaptation)
        decay_of(self.tau_adaptation, self.dt)

    def _how(self) -> dict[str, Any]:
        slow = decay_of(self.tau_adaptation, self.dt)
        return {**super()._how(), "adaptation_decay": slow, "adaptation": self.adaptation}

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence."""
        spikes, membrane, _ = adaptive_lif(current, **self._how())
        return Trace(spikes, membrane)

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is the membrane after its reset, and the adaptation."""
        return adaptive_lif_step(current, state, **self._how())


@dataclass(frozen=True)
class Synaptic(Leaky):
    """A leaky neuron behind a synapse: each input spike leaves a current that fades with `tau_synapse` ms.

    >>> Synaptic(tau=10.0, tau_synapse=5.0)(torch.tensor([[0.4], [0.0], [0.0], [0.0]])).spikes.squeeze(1).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    tau_synapse: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_of(self.tau_synapse, self.dt)

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence."""
        return lif(exponential_filter(current, decay=decay_of(self.tau_synapse, self.dt)), **self._how())

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is the synapse's current, and the membrane after its reset."""
        i, held = (torch.zeros_like(current), None) if state is None else state
        i = torch.add(current, i, alpha=decay_of(self.tau_synapse, self.dt))
        spikes, membrane, after = lif_step(i, held, **self._how())
        return Step(spikes, membrane, (i, after))


@dataclass(frozen=True)
class Membrane:
    """A leaky neuron in physical units: potentials in mV, current in nA, resistance in MΩ, time in ms.

    Within a step the current is constant, so that each step is exact: v ← v∞ + (v − v∞) e^{−dt/τ}, with
    v∞ = v_rest + R I. At the threshold it fires and starts again from `reset`.

    Raises
    ------
    ValueError
        If τ is shorter than the step, or the threshold does not lie above rest and reset.

    >>> cell = Membrane()
    >>> v = cell(torch.full((1000, 1), 1.0)).membrane
    >>> round(float(v[-1]), 2)
    -55.07
    """

    tau: float = 20.0
    resistance: float = 10.0
    rest: float = -65.0
    threshold: float = -50.0
    reset: float = -65.0
    dt: float = 0.1

    def __post_init__(self) -> None:
        decay_of(self.tau, self.dt)
        check_positive(resistance=self.resistance)
        if not self.threshold > max(self.rest, self.reset):
            raise ValueError(
                f"threshold must lie above rest and reset, got threshold {self.threshold:g}, rest {self.rest:g} and "
                f"reset {self.reset:g} mV."
            )

    @property
    def rheobase(self) -> float:
        """The smallest constant current, in nA, that makes it fire: (θ − v_rest)/R."""
        return (self.threshold - self.rest) / self.resistance

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence of currents in nA, from rest; the membrane before each reset is in mV.

        Raises
        ------
        ValueError
            If a current is not finite.
        """
        check_finite(current=current)
        return self.resume(current, torch.full_like(current[0], self.rest - self.reset))

    def resume(self, current: Float[Tensor, "time *neurons"], state: Float[Tensor, "*neurons"]) -> Trace:
        """Run on from a state: the potential after its last reset, in mV above `reset`."""
        decay = decay_of(self.tau, self.dt)
        # Measured from the reset potential, the reset is a reset to zero.
        drive = (current * self.resistance + (self.rest - self.reset)) * (1 - decay)
        spikes, membrane = lif(drive, decay=decay, threshold=self.threshold - self.reset, reset="zero", initial=state)
        return Trace(spikes, membrane + self.reset)

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is the potential after its reset, above `reset`, in mV."""
        decay = decay_of(self.tau, self.dt)
        drive = (current * self.resistance + (self.rest - self.reset)) * (1 - decay)
        held = torch.full_like(current, self.rest - self.reset) if state is None else state
        spikes, membrane, after = lif_step(
            drive, held, decay=decay, threshold=self.threshold - self.reset, reset="zero"
        )
        return Step(spikes, membrane + self.reset, after)

    def potential(
        self, current: float, time: Float[Tensor, " time"], initial: float | None = None
    ) -> Float[Tensor, " time"]:
        """Return the closed form below threshold: v∞ + (v₀ − v∞) e^{−t/τ}, for a constant current in nA; time in ms."""
        end = self.rest + self.resistance * current
        return end + ((self.rest if initial is None else initial) - end) * torch.exp(-time / self.tau)

    def rate(self, current: Float[Tensor, "*currents"]) -> Float[Tensor, "*currents"]:
        """Return the analytic f–I curve in Hz: 1000 / (τ ln((v∞ − v_reset)/(v∞ − θ))), and 0 up to the rheobase.

        >>> [round(r, 1) for r in Membrane().rate(torch.tensor([1.0, 2.0])).tolist()]
        [0.0, 36.1]
        """
        end = self.rest + self.resistance * current
        fires = end > self.threshold
        safe = torch.where(fires, end, torch.full_like(end, self.threshold + 1.0))
        interval = self.tau * torch.log((safe - self.reset) / (safe - self.threshold))
        return torch.where(fires, 1000.0 / interval, torch.zeros_like(end))


def _unroll(neuron: Any, current: Tensor) -> Trace:
    """Run a neuron step by step, into tensors made once where no gradient is asked for."""
    if current.ndim < 1 or len(current) < 1:
        raise ValueError(f"current must be (time, *neurons) with at least one step, got shape {tuple(current.shape)}.")
    state: Any = None
    if torch.is_grad_enabled() and current.requires_grad:
        steps = []
        for now in current:
            spikes, membrane, state = neuron.step(now, state)
            steps.append((spikes, membrane))
        return Trace(torch.stack([s for s, _ in steps]), torch.stack([v for _, v in steps]))
    all_spikes, all_membranes = torch.empty_like(current), torch.empty_like(current)
    with torch.no_grad():
        for now, s, v in zip(current, all_spikes, all_membranes, strict=True):
            spikes, membrane, state = neuron.step(now, state)
            s.copy_(spikes)
            v.copy_(membrane)
    return Trace(all_spikes, all_membranes)


@dataclass(frozen=True)
class Izhikevich:
    """Izhikevich's neuron (2003): two equations in mV and ms that fire in twenty ways.

    v̇ = 0.04 v² + 5 v + 140 − u + I,   u̇ = a (b v − u);   at v ≥ 30 mV:  spike, v ← c, u ← u + d

    Parameters
    ----------
    a, b, c, d
        Recovery rate (1/ms), its coupling, the reset in mV and the jump of u; `Izhikevich.kind("bursting")` knows good ones.
    dt
        Step in ms, at most 1.
    num_substeps
        Euler steps of v in a step; two halves at dt = 1, as in the paper, because v̇ is steep near the peak.

    Raises
    ------
    ValueError
        If the step exceeds 1 ms, or a number is not finite.

    >>> int(Izhikevich.kind("regular spiking")(torch.full((200, 1), 10.0)).spikes.sum()) > 2
    True
    """

    a: float = 0.02
    b: float = 0.2
    c: float = -65.0
    d: float = 8.0
    dt: float = 0.5
    num_substeps: int = 2
    surrogate: str | Surrogate = field(default_factory=lambda: Surrogate("arctan", steepness=0.2))

    KINDS: ClassVar[Mapping[str, tuple[float, float, float, float]]] = {
        "regular spiking": (0.02, 0.2, -65.0, 8.0),
        "intrinsically bursting": (0.02, 0.2, -55.0, 4.0),
        "chattering": (0.02, 0.2, -50.0, 2.0),
        "fast spiking": (0.1, 0.2, -65.0, 2.0),
        "low threshold": (0.02, 0.25, -65.0, 2.0),
    }
    PEAK: ClassVar[float] = 30.0

    def __post_init__(self) -> None:
        check_positive(dt=self.dt)
        check_int(1, num_substeps=self.num_substeps)
        check_finite(**{name: torch.tensor(float(getattr(self, name))) for name in "abcd"})
        if self.dt > 1:
            raise ValueError(f"dt must be at most 1 ms, got {self.dt:g}: a spike's upstroke takes about one.")

    @classmethod
    def kind(cls, name: str, **more: Any) -> Izhikevich:
        """Return a neuron that fires in the named way.

        Raises
        ------
        ValueError
            If no such kind is known.
        """
        check_choice(cls.KINDS, name=name)
        return cls(*cls.KINDS[name], **more)

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence of currents; the membrane is in mV, cut at the peak."""
        return _unroll(self, current)

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is (v, u)."""
        if state is None:
            start = torch.full_like(current, -65.0)
            state = (start, self.b * start)
        v, u = state
        drive = current - u + 140
        for _ in range(self.num_substeps):
            v = torch.addcmul(v, torch.add(v * 0.04, 5), v, value=self.dt / self.num_substeps) + drive * (
                self.dt / self.num_substeps
            )
            # A second half-step from above the peak would overshoot by thousands of mV.
            v = v.clamp(max=self.PEAK)
        u = torch.lerp(u, self.b * v, min(self.a * self.dt, 1.0))
        spikes = as_surrogate(self.surrogate).spike(v - self.PEAK)
        fired = spikes.detach()
        return Step(spikes, v, (v + fired * (self.c - v), u + fired * self.d))


@dataclass(frozen=True)
class Chialvo:
    """Chialvo's map (1995): an excitable neuron in two lines, without units.

    x ← x² e^{y − x} + k + I,   y ← a y − b x + c;   a spike is where x rises through `threshold`

    >>> trace = Chialvo()(torch.zeros(300, 1))
    >>> int(trace.spikes.sum()) > 3
    True
    """

    a: float = 0.89
    b: float = 0.6
    c: float = 0.28
    k: float = 0.03
    threshold: float = 1.0
    surrogate: str | Surrogate = "arctan"

    def __post_init__(self) -> None:
        check_positive(a=self.a, threshold=self.threshold)
        check_nonnegative(b=self.b)

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence of inputs."""
        return _unroll(self, current)

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is (x, y)."""
        x, y = (torch.full_like(current, 0.1), torch.full_like(current, 0.1)) if state is None else state
        new = torch.addcmul(current + self.k, x * x, torch.exp(y - x))
        # Only the rise counts: x stays above the threshold for several steps of a spike.
        spikes = as_surrogate(self.surrogate).spike(new - self.threshold) * (x < self.threshold)
        return Step(spikes, new, (new, self.a * y - self.b * x + self.c))


@dataclass(frozen=True)
class Rulkov:
    """Rulkov's map (2002): silent, tonic or bursting, by two parameters, without units.

    x ← α/(1 − x) + y if x ≤ 0;  α + y if 0 < x < α + y;  −1 otherwise (a spike)
    y ← y − μ (x + 1) + μ σ + μ I,  with the input also added to x's y

    Parameters
    ----------
    alpha, sigma
        Shape of the spike, and how excited it is: at α = 4 silent below σ ≈ 0, tonic above; bursts at α = 6.
    mu
        How slow y is, far below 1.

    >>> int(Rulkov(alpha=6.0, sigma=0.1)(torch.zeros(500, 1)).spikes.sum()) > 5
    True
    """

    alpha: float = 6.0
    sigma: float = 0.1
    mu: float = 0.001
    surrogate: str | Surrogate = "arctan"

    def __post_init__(self) -> None:
        check_positive(alpha=self.alpha, mu=self.mu)
        if self.mu >= 1:
            raise ValueError(f"mu must be below 1, got {self.mu:g}: y must be slower than x.")
        if not math.isfinite(self.sigma):
            raise ValueError(f"sigma must be a finite number, got {self.sigma!r}.")

    def __call__(self, current: Float[Tensor, "time *neurons"]) -> Trace:
        """Run over a whole sequence of inputs."""
        return _unroll(self, current)

    def step(self, current: Float[Tensor, "*neurons"], state: Any = None) -> Step:
        """Run for one step; the state is (x, y)."""
        x, y = (torch.full_like(current, -1.0), torch.full_like(current, -3.0)) if state is None else state
        top = self.alpha + y + current
        # A spike is the step at which x stands at its top and will fall to −1.
        spikes = as_surrogate(self.surrogate).spike(x - top) * (x > 0)
        low = self.alpha / (1 - x.clamp(max=0)) + y + current
        new = torch.where(x <= 0, low, torch.where(x < top, top, torch.full_like(x, -1.0)))
        return Step(spikes, x, (new, y - self.mu * (x + 1 - self.sigma - current)))
