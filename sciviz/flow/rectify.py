"""Training: velocities and denoisers by regression, rectification, reflow and distillation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from sciviz.flow.couplings import Coupling, Draw, Sampler, given_pairs, independent, pairs_of
from sciviz.flow.interpolants import Interpolant, straight
from sciviz.flow.networks import ExponentialAverage, VelocityField
from sciviz.flow.sampling import integrate
from sciviz.lab.checks import check_choice, check_int, check_positive

TIMES = ("uniform", "ends", "zero", "logit-normal")


def velocity_loss(
    network: Callable[..., Tensor],
    t: Float[Tensor, "batch 1"],
    x0: Float[Tensor, "batch d"],
    x1: Float[Tensor, "batch d"],
    *,
    interpolant: Interpolant | None = None,
    z: Float[Tensor, "batch d"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared gap between the network's velocity and the rate of the curve [rectified-flow, eq. 1].

    Without the latent noise's own rate: with it the target would be infinite at both ends. Its part of the velocity is
    that of the score, -γ γ̇ s (see `full_velocity`).

    >>> x0, x1 = torch.zeros(1, 2), torch.ones(1, 2)
    >>> velocity_loss(lambda t, x: torch.ones_like(x), torch.tensor([[0.5]]), x0, x1).item()
    0.0
    """
    interpolant = interpolant or straight()
    c = interpolant.coefficients(t)
    gap = network(t, interpolant.point(t, x0, x1, z)) - (c.alpha_rate * x0 + c.beta_rate * x1)
    return gap.square().mean()


def latent_loss(
    network: Callable[..., Tensor],
    t: Float[Tensor, "batch 1"],
    x0: Float[Tensor, "batch d"],
    x1: Float[Tensor, "batch d"],
    z: Float[Tensor, "batch d"],
    *,
    interpolant: Interpolant,
) -> Float[Tensor, ""]:
    """Return the mean squared gap between the network and the latent noise z.

    Its minimiser is E[z | x_t] = -γ s: a score, kept finite where γ is small [stochastic-interpolants, eq. 2.16].

    Raises
    ------
    ValueError
        If the interpolant has no latent noise.
    """
    if not interpolant.latent:
        raise ValueError("interpolant must have latent noise to learn its mean, got latent = 0.")
    return (network(t, interpolant.point(t, x0, x1, z)) - z).square().mean()


def full_velocity(
    velocity: Callable[..., Tensor], latent_mean: Callable[..., Tensor], interpolant: Interpolant
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the flow's velocity from the two networks: v + γ̇ E[z | x]."""

    def both(t: Tensor, x: Tensor) -> Tensor:
        inner = t.clamp(1e-3, 1 - 1e-3)
        c = interpolant.coefficients(inner)
        return velocity(t, x) + c.gamma_gamma_rate / c.gamma * latent_mean(t, x)

    return both


def latent_score(latent_mean: Callable[..., Tensor], interpolant: Interpolant) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the score from the network for the latent noise: s = -E[z | x] / γ."""

    def score(t: Tensor, x: Tensor) -> Tensor:
        gamma = interpolant.coefficients(t.clamp(1e-3, 1 - 1e-3)).gamma
        return -latent_mean(t, x) / gamma

    return score


def draw_times(kind: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw times in [0, 1].

    Parameters
    ----------
    kind
        "uniform"; "ends", more often near 0 and 1 (where a rectified flow's velocity is hardest to learn); "zero",
        always 0, for distilling into one step; "logit-normal", more often in the middle.

    Raises
    ------
    ValueError
        If there is no such kind.

    >>> draw_times("zero", (2, 1), torch.Generator()).tolist()
    [[0.0], [0.0]]
    """
    check_choice(TIMES, kind=kind)
    where = generator.device
    if kind == "zero":
        return torch.zeros(shape, device=where)
    if kind == "logit-normal":
        return torch.sigmoid(torch.randn(shape, generator=generator, device=where))
    u = torch.rand(shape, generator=generator, device=where)
    return u if kind == "uniform" else (1 - (torch.pi * u).cos()) / 2


def fit_velocity(
    network: nn.Module,
    draw: Draw,
    *,
    num_steps: int,
    seed: int,
    lr: float = 2e-3,
    interpolant: Interpolant | None = None,
    times: str = "uniform",
    decay: float | None = None,
    objective: str = "velocity",
    label_dropout: float = 0.1,
    progress: bool = False,
) -> Float[Tensor, " records"]:
    """Train a network in place by regression on the rates of random curves; return the loss, some two hundred times.

    Parameters
    ----------
    network
        A `VelocityField` (single or ensemble), or any module called as `network(t, x)`, or `network(t, x, label)`
        where `draw` gives labels.
    draw
        Generator → a batch of pairs; see `sciviz.flow.couplings`.
    lr
        Learning rate of Adam at the start; it falls along a quarter cosine to nearly nothing, which averages the noise
        of the batches out.
    times
        How times are drawn; see `draw_times`.
    decay
        Keep an exponential mean of the weights with this decay, and end with it.
    objective
        "velocity": the rate without the latent noise's; "latent": the latent noise, for the score.
    label_dropout
        How often a label is replaced by “none in particular”, so that a guided flow knows both.
    progress
        Show a bar.

    Raises
    ------
    ValueError
        If an argument is out of range.

    >>> from sciviz.flow.couplings import given_pairs
    >>> network = VelocityField(1, width=8, depth=1, seed=0)
    >>> draw = given_pairs(torch.zeros(4, 1), torch.ones(4, 1), batch_size=4)
    >>> loss = fit_velocity(network, draw, num_steps=200, seed=0, lr=0.05)
    >>> bool(loss[-1] < 0.1 * loss[0])
    True
    """
    check_int(1, num_steps=num_steps)
    check_positive(lr=lr)
    check_choice(("velocity", "latent"), objective=objective)
    interpolant = interpolant or straight()
    where = next(network.parameters()).device
    generator = torch.Generator(where).manual_seed(seed)
    fused = torch.optim.Adam(network.parameters(), lr=lr, fused=where.type in ("cpu", "cuda"))
    average = None if decay is None else ExponentialAverage(network.parameters(), decay)
    by_hand = isinstance(network, VelocityField) and network.weights[0].dtype == torch.float32
    every = max(1, num_steps // 200)
    losses = []
    line = interpolant.name == "straight" and not interpolant.latent
    for step in tqdm(range(num_steps), disable=not progress, desc="Training", leave=False):
        for group in fused.param_groups:
            group["lr"] = lr * max(0.5 * (1 + math.cos(math.pi * step / num_steps)), 0.002)
        x0, x1, *labels = draw(generator)
        t = draw_times(times, (*x0.shape[:-1], 1), generator)
        if line:
            x, wanted = torch.lerp(x0, x1, t), x1 - x0
        else:
            z = torch.randn(x0.shape, generator=generator, device=where) if interpolant.latent else None
            x, c = interpolant.point(t, x0, x1, z), interpolant.coefficients(t)
            wanted = z if objective == "latent" and z is not None else c.alpha_rate * x0 + c.beta_rate * x1
        if by_hand:
            assert isinstance(network, VelocityField)
            loss = network.write_gradient(network.inputs(t, x), wanted).detach()
        else:
            if labels:
                dropped = torch.rand(len(x0), generator=generator, device=where) < label_dropout
                labels = [torch.where(dropped, int(getattr(network, "num_classes", 0)), labels[0])]
            error = nn.functional.mse_loss(network(t, x, *labels), wanted)
            fused.zero_grad(set_to_none=True)
            error.backward()  # type: ignore[no-untyped-call]
            loss = error.detach()
        fused.step()
        if average is not None:
            average.update()
        if step % every == 0:
            losses.append(loss.mean())
    if average is not None:
        average.copy_to_parameters()
    return torch.stack(losses)


@dataclass
class RectifiedFlow:
    """A chain of flows, each trained on the pairs that the one before it makes.

    Attributes
    ----------
    rounds
        The velocities: `rounds[0]` from the first coupling, `rounds[1]` after one reflow, and so on.
    losses
        Of each training.
    """

    rounds: list[VelocityField] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    @property
    def last(self) -> VelocityField:
        """The velocity of the last round."""
        return self.rounds[-1]


def make_pairs(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x0: Float[Tensor, "*members n d"],
    *,
    num_steps: int = 20,
    method: str = "rk4",
) -> tuple[Float[Tensor, "*members n d"], Float[Tensor, "*members n d"]]:
    """Return points of the source and where the flow takes them: the coupling for the next round.

    >>> round(make_pairs(lambda t, x: torch.ones_like(x), torch.zeros(1, 1))[1].item(), 3)
    1.0
    """
    return x0, integrate(velocity, x0, num_steps=num_steps, method=method)[-1]


def reflow(
    velocity: VelocityField,
    source: Sampler,
    *,
    seed: int,
    num_pairs: int = 20_000,
    num_steps: int = 1500,
    batch_size: int = 1024,
    lr: float = 4e-3,
    times: str = "uniform",
    progress: bool = False,
) -> tuple[VelocityField, Float[Tensor, " records"]]:
    """Return a new velocity, trained on pairs made by a given one and started from its weights [rectified-flow, algorithm 1].

    Parameters
    ----------
    num_pairs
        Pairs that are made, a member.
    times
        "zero" distils: only the first step's velocity is trained, and one Euler step is all it is good for.

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    check_int(1, num_pairs=num_pairs)
    generator = torch.Generator(velocity.weights[0].device).manual_seed(seed)
    members = velocity.members
    x0 = source(num_pairs * (members or 1), generator)
    x0, x1 = make_pairs(velocity, x0 if members is None else x0.view(members, num_pairs, -1))
    new = VelocityField(velocity.dim, width=velocity.width, depth=velocity.depth, members=members, seed=0)
    new.to(velocity.weights[0])
    new.load_state_dict(velocity.state_dict())
    draw = given_pairs(x0, x1, batch_size=batch_size)
    loss = fit_velocity(new, draw, num_steps=num_steps, seed=seed + 1, lr=lr, times=times, progress=progress)
    return new, loss


def distill(velocity: VelocityField, source: Sampler, *, seed: int, **options: int | float) -> VelocityField:
    """Return a velocity whose one Euler step imitates all steps of the given one [rectified-flow, section 2.3].

    Options as in `reflow`.
    """
    return reflow(velocity, source, seed=seed, times="zero", **options)[0]  # type: ignore[arg-type]


def rectify(
    source: Sampler,
    target: Sampler,
    *,
    dim: int,
    seed: int,
    rounds: int = 1,
    num_steps: int = 1500,
    batch_size: int = 1024,
    width: int = 128,
    depth: int = 3,
    members: int | None = None,
    lr: float = 4e-3,
    coupling: Coupling = independent,
    num_pairs: int = 20_000,
    progress: bool = False,
) -> RectifiedFlow:
    """Train a flow from a source to a target, and reflow it until there are `rounds` of them.

    Parameters
    ----------
    source, target
        Number and generator → points; `normal(dim)` and `resample(X)` make them.
    rounds
        1 for the first rectified flow; 2 adds one reflow, after which one Euler step is nearly enough.
    members
        Train so many independent flows as one ensemble.

    Raises
    ------
    ValueError
        If a number is below 1.

    >>> from sciviz.flow.couplings import normal
    >>> flow = rectify(normal(1), normal(1), dim=1, seed=0, num_steps=5, width=8, depth=1)
    >>> len(flow.rounds)
    1
    """
    check_int(1, rounds=rounds)
    first = VelocityField(dim, width=width, depth=depth, members=members, seed=seed)
    draw = pairs_of(source, target, batch_size=batch_size, members=members, coupling=coupling)
    losses = fit_velocity(first, draw, num_steps=num_steps, seed=seed, lr=lr, progress=progress)
    flow = RectifiedFlow([first], [losses])
    for number in range(1, rounds):
        new, losses = reflow(
            flow.last,
            source,
            seed=seed + 1000 * number,
            num_pairs=num_pairs,
            num_steps=num_steps,
            batch_size=batch_size,
            lr=lr,
            progress=progress,
        )
        flow.rounds.append(new)
        flow.losses.append(losses)
    return flow
