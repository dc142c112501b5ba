"""Networks that Kolmogorov-Arnold networks are compared with, at equal numbers of parameters, trained many at once.

A KAN learns the functions on its edges. Its counterparts put the freedom elsewhere: into weights alone (`MLP`), into a
periodic or a localised activation (Snake, Cauchy), or into neurons that multiply (`sciviz.kan.quadratic`). A comparison
is fair only at equal size, so `match_width` finds the width that comes nearest a number of parameters.

Everything here starts from a seed and never from torch's global generator. `Ensemble` trains networks of one structure
side by side as one batch: the five seeds of a claim cost little more than one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from sciviz.kan.activations import make_activation
from sciviz.kan.quadratic import QuadraticNetwork
from sciviz.lab.checks import check_choice, check_int, check_nonnegative, check_positive

COUNTERPARTS = ("relu", "tanh", "snake", "cauchy", "quadratic")
"""The kinds that `make_counterpart` knows."""


def make_linear(in_features: int, out_features: int, *, generator: torch.Generator) -> nn.Linear:
    """Make a dense layer with torch's default scale, uniform in ±1/√in_features, drawn from `generator`.

    >>> make_linear(3, 2, generator=torch.Generator().manual_seed(0)).weight.shape
    torch.Size([2, 3])
    """
    check_int(1, in_features=in_features, out_features=out_features)
    # On the meta device nothing is drawn from the global generator, which belongs to the caller.
    layer = nn.Linear(in_features, out_features, device="meta").to_empty(device="cpu")
    bound = 1 / math.sqrt(in_features)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


class MLP(nn.Module):
    """A fully connected network: dense layers with an activation after each but the last.

    Parameters
    ----------
    sizes
        Features of the input, of each hidden layer, and of the output.
    activation
        A name that `make_activation` knows ("relu", "tanh", "snake", "cauchy", any entry of `CATALOGUE`), or a callable
        width → module, made once for each hidden layer.
    seed
        Fixes the weights.
    a
        Snake's frequency, if the activation is "snake".

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or the activation is not known.

    >>> MLP([2, 8, 1], "tanh", seed=0)(torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Callable[[int], nn.Module] = "tanh",
        *,
        seed: int,
        a: float = 1.0,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least the input's and the output's, got {list(sizes)}.")
        check_int(0, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(make_linear(n, m, generator=generator) for n, m in pairwise(sizes))
        make = (lambda width: make_activation(activation, width, a=a)) if isinstance(activation, str) else activation
        self.activations = nn.ModuleList(make(width) for width in sizes[1:-1])

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the network's output for each row."""
        for layer, activation in zip(self.layers[:-1], self.activations, strict=True):
            X = activation(layer(X))
        output: Tensor = self.layers[-1](X)
        return output


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers training may change.

    >>> count_parameters(MLP([2, 8, 1], seed=0))
    33
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def match_width(build: Callable[[int], nn.Module], num_parameters: int, *, most: int = 65536) -> int:
    """Return the width at which `build(width)` has as near to `num_parameters` parameters as it can.

    The number of parameters must grow with the width. Of two widths equally near, the smaller is taken.

    Raises
    ------
    ValueError
        If even width 1 has more than twice as many, or width `most` too few.

    >>> match_width(lambda width: MLP([2, width, 1], seed=0), 73)
    18
    """
    check_int(1, num_parameters=num_parameters, most=most)
    low, high = 1, 1
    smallest = count_parameters(build(1))
    if smallest > 2 * num_parameters:
        raise ValueError(
            f"num_parameters must be at least {(smallest + 1) // 2} for this network, got {num_parameters}."
        )
    while count_parameters(build(high)) < num_parameters:
        low, high = high, 2 * high
        if low >= most:
            raise ValueError(f"num_parameters {num_parameters} is not reached at width {most}.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_parameters(build(middle)) < num_parameters else (low, middle)
    return min((low, high), key=lambda width: (abs(count_parameters(build(width)) - num_parameters), width))


def make_counterpart(
    kind: str, input_dim: int, output_dim: int, *, num_parameters: int, depth: int = 1, seed: int, a: float = 1.0
) -> nn.Module:
    """Make a counterpart with `depth` hidden layers of equal width and as near `num_parameters` as that allows.

    Parameters
    ----------
    kind
        One of `COUNTERPARTS`: an MLP with that activation, or "quadratic" for quadratic neurons with ReLU, started as
        ReLinear starts them.
    a
        Snake's frequency.

    Raises
    ------
    ValueError
        If the kind is not known, or no width comes near the number.

    >>> network = make_counterpart("snake", 2, 1, num_parameters=100, seed=0)
    >>> abs(count_parameters(network) - 100) <= 2
    True
    """
    check_choice(COUNTERPARTS, kind=kind)
    check_int(1, input_dim=input_dim, output_dim=output_dim, depth=depth)

    def build(width: int) -> nn.Module:
        sizes = [input_dim, *[width] * depth, output_dim]
        if kind == "quadratic":
            return QuadraticNetwork(sizes, start="relinear", seed=seed)
        return MLP(sizes, kind, seed=seed, a=a)

    return build(match_width(build, num_parameters))


class Ensemble:
    """Networks of one structure, evaluated and trained side by side; row i of `weights` is network i.

    Adam works entry by entry, so training the rows together gives each network what it would get alone: a member that
    diverges leaves the others untouched.

    Parameters
    ----------
    networks
        Modules with the same structure; buffers may differ (such as Snake's frequency).

    Raises
    ------
    ValueError
        If there is none.

    >>> ensemble = Ensemble([MLP([1, 4, 1], seed=s) for s in range(3)])
    >>> ensemble(torch.zeros(5, 1)).shape
    torch.Size([3, 5, 1])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        if not networks:
            raise ValueError("networks must hold at least one network, got none.")
        self.template = copy.deepcopy(networks[0]).to("meta")
        parameters, self.buffers = stack_module_state(list(networks))
        self.shapes = {name: value.shape[1:] for name, value in parameters.items()}
        self.weights: Float[Tensor, "members parameters"] = torch.cat(
            [value.detach().flatten(1) for value in parameters.values()], dim=1
        )
        self._member = copy.deepcopy(networks[0])

    def __len__(self) -> int:
        return len(self.weights)

    def parameters(self, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parameters by name, each with a leading dimension for the member."""
        weights = self.weights if weights is None else weights
        parts = torch.split(weights, [math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: part.reshape(len(weights), *shape)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }

    def spread(self, scales: Mapping[str, float]) -> Float[Tensor, "1 parameters"]:
        """Return one factor a parameter: that of the first key that its name contains, else 1."""
        parts = []
        for name, shape in self.shapes.items():
            factor = next((scale for key, scale in scales.items() if key in name), 1.0)
            parts.append(torch.full((math.prod(shape),), factor))
        return torch.cat(parts)[None]

    def __call__(
        self, X: Float[Tensor, "points in"] | Float[Tensor, "members points in"], weights: Tensor | None = None
    ) -> Float[Tensor, "members points out"]:
        """Evaluate every member, on points of its own if `X` has a dimension for them."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            output: Tensor = functional_call(self.template, (parameters, buffers), (x,))
            return output

        result: Tensor = vmap(one, in_dims=(0, 0, 0 if X.ndim == 3 else None))(
            self.parameters(weights), self.buffers, X
        )
        return result

    def member(self, index: int) -> nn.Module:
        """Return member `index` as a module of its own."""
        module = copy.deepcopy(self._member)
        state = {name: value[index] for name, value in {**self.parameters(), **self.buffers}.items()}
        module.load_state_dict({**module.state_dict(), **{n: v.detach().clone() for n, v in state.items()}})
        return module

    def fit(
        self,
        loss: Callable[[int, Tensor], Float[Tensor, "members"]],
        *,
        num_steps: int,
        lr: float | Sequence[float] | Tensor,
        scales: Mapping[str, float] | None = None,
        decay: bool = True,
        clip_norm: float | None = None,
        after: Callable[[Tensor], None] | None = None,
        record_every: int = 0,
    ) -> Float[Tensor, "records members"]:
        """Train every member with Adam.

        Parameters
        ----------
        loss
            (step, weights) → one loss a member; call the ensemble with these weights.
        lr
            One learning rate for all, or one a member: a search for the best one is itself one batch.
        scales
            Part of a parameter's name → factor on its learning rate, as ReLinear damps quadratic terms.
        decay
            Let the learning rate fall to zero along half a cosine.
        clip_norm
            Gradients longer than this are shortened to it, each member's by itself.
        after
            Called with the weights after each step, to project them (NAU and NMU clip theirs).
        record_every
            Steps between records of the losses; 0 records the last step only.

        Returns
        -------
        The recorded losses, before the step they belong to.

        >>> ensemble = Ensemble([MLP([1, 8, 1], seed=s) for s in range(3)])
        >>> X = torch.linspace(-1, 1, 20)[:, None]
        >>> losses = ensemble.fit(lambda step, w: (ensemble(X, w) - X**2).square().mean((1, 2)), num_steps=300, lr=0.03)
        >>> bool((losses[-1] < 1e-2).all())
        True
        """
        check_int(1, num_steps=num_steps)
        check_int(0, record_every=record_every)
        if clip_norm is not None:
            check_positive(clip_norm=clip_norm)
        rates = torch.as_tensor(lr, dtype=self.weights.dtype, device=self.weights.device)
        check_nonnegative(lr=float(rates.min()))
        rate = rates.expand(len(self))[:, None]
        if scales:
            rate = rate * self.spread(scales).to(self.weights)
        weights = self.weights.detach().clone().requires_grad_()
        mean, square = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        records = []
        for step in range(num_steps):
            losses = loss(step, weights)
            (gradient,) = torch.autograd.grad(losses.sum(), weights)
            if (record_every and step % record_every == 0) or step == num_steps - 1:
                records.append(losses.detach())
            with torch.no_grad():
                if clip_norm is not None:
                    gradient = gradient * (clip_norm / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
                mean.lerp_(gradient, 0.1)
                square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                share = (1 + math.cos(math.pi * step / num_steps)) / 2 if decay else 1.0
                size = (square / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
                weights.sub_(mean / size * (rate * (share / (1 - 0.9 ** (step + 1)))))
                if after is not None:
                    after(weights)
        self.weights = weights.detach()
        return torch.stack(records)
