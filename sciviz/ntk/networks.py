"""Fully connected networks in the NTK, standard and maximal-update parametrisations, one at a time or many at once.

A *parametrisation* says how three things scale with the width n: the multiplier in front of a weight, the
standard deviation it is drawn with, and the learning rate it is trained with. At initialisation the hidden layers
are the same random function in all three; what differs is how far training moves each of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_int, check_ndim, check_nonnegative, check_positive

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "sine": torch.sin,
    "gelu": nn.functional.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": nn.functional.softplus,
    "quadratic": torch.square,
    "identity": lambda x: x,
}
"""The activations that `make_mlp` knows; the first two and "sine" also have closed infinite-width kernels."""

PARAMETRISATIONS = ("ntk", "standard", "mup")
BIAS_PLACES = ("all", "first")


class Activation(nn.Module):
    """An elementwise activation by name, one of `ACTIVATIONS`.

    Raises
    ------
    ValueError
        If the name is not known.

    >>> Activation("erf")(torch.zeros(2)).tolist()
    [0.0, 0.0]
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        check_choice(ACTIVATIONS, activation=name)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to every entry."""
        return ACTIVATIONS[self.name](x)

    def extra_repr(self) -> str:
        """Show the activation's name when printed."""
        return self.name


class ScaledLinear(nn.Linear):
    """A dense layer with fixed multipliers, weight_multiplier · W x + bias_multiplier · b.

    The multipliers are no parameters. `lr_scale` is the factor that the layer's learning rate takes in its
    parametrisation. The layer starts at zero: `make_mlp` and `init_ensemble` draw it.

    >>> layer = ScaledLinear(4, 3, weight_multiplier=0.5)
    >>> layer(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        weight_multiplier: float = 1.0,
        bias_multiplier: float = 1.0,
        lr_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self.weight_multiplier = weight_multiplier
        self.bias_multiplier = bias_multiplier
        self.lr_scale = lr_scale

    def reset_parameters(self) -> None:
        """Set all parameters to zero."""
        # nn.Linear would draw from torch's global generator here, which belongs to the caller.
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return weight_multiplier · W x + bias_multiplier · b for each row of `x`."""
        if x.ndim == 2 and self.bias is not None:
            # One fused product, and the scaled weight matrix is never materialised.
            return torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_multiplier, alpha=self.weight_multiplier)
        scaled = nn.functional.linear(x, self.weight) * self.weight_multiplier
        return scaled if self.bias is None else scaled + self.bias_multiplier * self.bias

    def extra_repr(self) -> str:
        """Show sizes and multiplier when printed."""
        return f"{super().extra_repr()}, weight_multiplier={self.weight_multiplier:.4g}"


@dataclass(frozen=True)
class LayerScales:
    """What a parametrisation fixes for one layer: multipliers, initial standard deviations, learning-rate factor."""

    weight_multiplier: float
    weight_std: float
    bias_multiplier: float
    bias_std: float
    lr_scale: float


def layer_scales(
    parametrisation: str,
    *,
    layer: int,
    depth: int,
    width: int,
    fan_in: int,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> LayerScales:
    """Return the scales of layer `layer` of 0 … `depth` (the last is the readout) of a network of `width` units.

    With C_W = `weight_variance`, C_b = `bias_variance`, n = `width`, and SGD:

    ========  =======================  ===================================  =============
    name      multiplier of W          standard deviation of W              learning rate
    ========  =======================  ===================================  =============
    ntk       √(C_W / fan_in)          1                                    lr
    standard  1                        √(C_W / fan_in)                      lr / n
    mup       √(C_W n / fan_in) first  1/√n                                 lr
              √C_W hidden
              √(C_W / n) readout
    ========  =======================  ===================================  =============

    Biases follow the first layer's rule with fan_in = 1, except that muP's readout bias starts at zero, so that the
    whole initial output vanishes as n grows. "ntk" is [ntk-jacot, section 2]; "standard" and "mup" are the
    abc-parametrisations of [mup-feature-learning, table 1], where the standard one needs the learning rate 1/n.

    Raises
    ------
    ValueError
        If the parametrisation is not known or a size or variance is out of range.

    >>> layer_scales("ntk", layer=1, depth=2, width=64, fan_in=64).weight_multiplier
    0.125
    >>> layer_scales("mup", layer=1, depth=2, width=64, fan_in=64).weight_std
    0.125
    """
    check_choice(PARAMETRISATIONS, parametrisation=parametrisation)
    check_int(1, depth=depth, width=width, fan_in=fan_in)
    check_int(0, depth, layer=layer)
    check_positive(weight_variance=weight_variance)
    check_nonnegative(bias_variance=bias_variance)
    if parametrisation == "ntk":
        return LayerScales(math.sqrt(weight_variance / fan_in), 1.0, math.sqrt(bias_variance), 1.0, 1.0)
    if parametrisation == "standard":
        return LayerScales(1.0, math.sqrt(weight_variance / fan_in), 1.0, math.sqrt(bias_variance), 1.0 / width)
    if layer == depth:
        return LayerScales(math.sqrt(weight_variance / width), 1 / math.sqrt(width), math.sqrt(bias_variance), 0.0, 1.0)
    # A hidden layer's fan_in is the width itself, so that one formula serves the first layer and the hidden ones.
    multiplier = math.sqrt(weight_variance * width / fan_in)
    return LayerScales(multiplier, 1 / math.sqrt(width), math.sqrt(bias_variance * width), 1 / math.sqrt(width), 1.0)


class MLP(nn.Sequential):
    """A fully connected network: `depth` hidden layers of `width` units and a linear readout.

    It is an `nn.Sequential` of `ScaledLinear` and `Activation`; build it with `make_mlp`, or with `init_ensemble`
    to train many at once.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        width: int,
        depth: int,
        output_dim: int = 1,
        activation: str = "relu",
        parametrisation: str = "ntk",
        weight_variance: float = 1.0,
        bias_variance: float = 0.0,
        bias: str = "all",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_int(1, input_dim=input_dim, width=width, depth=depth, output_dim=output_dim)
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(PARAMETRISATIONS, parametrisation=parametrisation)
        check_choice(BIAS_PLACES, bias=bias)
        check_positive(weight_variance=weight_variance)
        check_nonnegative(bias_variance=bias_variance)
        sizes = [input_dim, *[width] * depth, output_dim]
        layers: list[nn.Module] = []
        self.scales: list[LayerScales] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            scales = layer_scales(
                parametrisation,
                layer=i,
                depth=depth,
                width=width,
                fan_in=fan_in,
                weight_variance=weight_variance,
                bias_variance=bias_variance,
            )
            dense = ScaledLinear(
                fan_in,
                fan_out,
                bias=bias_variance > 0 and (bias == "all" or i == 0),
                weight_multiplier=scales.weight_multiplier,
                bias_multiplier=scales.bias_multiplier,
                lr_scale=scales.lr_scale,
                dtype=dtype,
                device=device,
            )
            layers += [dense] if i == 0 else [Activation(activation), dense]
            self.scales.append(scales)
        super().__init__(*layers)
        self.input_dim, self.width, self.depth, self.output_dim = input_dim, width, depth, output_dim
        self.activation, self.parametrisation = activation, parametrisation

    def dense_layers(self) -> Iterator[tuple[str, ScaledLinear]]:
        """Yield (name, layer) for every dense layer, from the input to the readout."""
        for name, layer in self.named_children():
            if isinstance(layer, ScaledLinear):
                yield name, layer


def make_mlp(
    *,
    input_dim: int,
    width: int,
    depth: int,
    output_dim: int = 1,
    activation: str = "relu",
    parametrisation: str = "ntk",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    bias: str = "all",
    seed: int | torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> MLP:
    """Return a randomly initialised fully connected network.

    In the NTK parametrisation each layer computes √(C_W / fan_in) W x + √C_b b with W, b ~ N(0, 1)
    [ntk-jacot, section 2].

    Parameters
    ----------
    input_dim, width, depth, output_dim
        Input features; units of each hidden layer; number of hidden layers (at least 1); outputs.
    activation
        One of `ACTIVATIONS`.
    parametrisation
        "ntk", "standard" or "mup"; see `layer_scales`.
    weight_variance, bias_variance
        C_W and C_b. With C_b = 0 the network has no bias parameters.
    bias
        Where biases stand when C_b > 0: "all" layers, or the "first" only (a constant input feature).
    seed
        Seed of the draw, or a generator to draw from. The same seed gives the same network on every device.

    Raises
    ------
    ValueError
        If a size, variance or name is out of range.

    >>> network = make_mlp(input_dim=3, width=16, depth=2, seed=0)
    >>> network(torch.ones(5, 3)).shape
    torch.Size([5, 1])
    """
    network, params = init_ensemble(
        1,
        input_dim=input_dim,
        width=width,
        depth=depth,
        output_dim=output_dim,
        activation=activation,
        parametrisation=parametrisation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        bias=bias,
        seed=seed,
        dtype=dtype,
        device=device,
    )
    return ensemble_member(network, params, 0)


def init_ensemble(
    num_members: int,
    *,
    input_dim: int,
    width: int,
    depth: int,
    output_dim: int = 1,
    activation: str = "relu",
    parametrisation: str = "ntk",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    bias: str = "all",
    seed: int | torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[MLP, dict[str, Tensor]]:
    """Return the architecture and the stacked parameters of `num_members` independently drawn networks.

    The parameters are a plain dictionary name → tensor with a leading dimension "members", under the names that the
    module itself uses, so both `apply_ensemble` and `torch.func.functional_call` accept them. The module holds no
    values of its own (it is on the meta device); take one member out with `ensemble_member`.

    Parameters are those of `make_mlp`. Train the ensemble as one: `loss(apply_ensemble(...)).sum()` over members
    gives every member its own gradient, because no member's loss depends on another's parameters.

    Raises
    ------
    ValueError
        If a size, variance or name is out of range.

    >>> network, params = init_ensemble(4, input_dim=3, width=16, depth=1, bias_variance=0.1, seed=0)
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'0.weight': (4, 16, 3), '0.bias': (4, 16), '2.weight': (4, 1, 16), '2.bias': (4, 1)}
    >>> apply_ensemble(network, params, torch.ones(5, 3)).shape
    torch.Size([4, 5, 1])
    """
    check_int(1, num_members=num_members)
    network = MLP(
        input_dim=input_dim,
        width=width,
        depth=depth,
        output_dim=output_dim,
        activation=activation,
        parametrisation=parametrisation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        bias=bias,
        dtype=dtype,
        device="meta",
    )
    generator = as_generator(seed)
    params: dict[str, Tensor] = {}
    for (name, layer), scales in zip(network.dense_layers(), network.scales, strict=True):
        stds = {"weight": scales.weight_std, "bias": scales.bias_std}
        for kind, value in layer.named_parameters(recurse=False):
            drawn = torch.randn((num_members, *value.shape), generator=generator, dtype=dtype, device=generator.device)
            params[f"{name}.{kind}"] = drawn.mul_(stds[kind]).to(device)
    return network, params


def as_generator(seed: int | torch.Generator) -> torch.Generator:
    """Return a generator on the CPU seeded with `seed`, or the generator itself if one is given.

    >>> as_generator(3).initial_seed()
    3
    """
    if isinstance(seed, torch.Generator):
        return seed
    check_int(0, seed=seed)
    return torch.Generator().manual_seed(int(seed))


def ensemble_member(network: MLP, params: dict[str, Tensor], index: int) -> MLP:
    """Return member `index` of an ensemble as a module of its own (its parameters are copies).

    Raises
    ------
    ValueError
        If there is no such member.

    >>> network, params = init_ensemble(2, input_dim=3, width=8, depth=1, seed=0)
    >>> X = torch.ones(5, 3)
    >>> bool((ensemble_member(network, params, 1)(X) == apply_ensemble(network, params, X)[1]).all())
    True
    """
    check_int(0, next(iter(params.values())).shape[0] - 1, index=index)
    member = copy.deepcopy(network)
    # Assigning, not copying: the architecture lives on the meta device and has no storage to copy into.
    member.load_state_dict({name: value[index].detach().clone() for name, value in params.items()}, assign=True)
    return member


def apply_ensemble(
    network: MLP, params: dict[str, Tensor], X: Float[Tensor, "*members n d"]
) -> Float[Tensor, "members n out"]:
    """Return the outputs of every member: all of them are computed with one batched product a layer.

    `X` is shared by the members, shape (n, d), or their own, shape (members, n, d). Works inside `torch.func.grad`,
    `vmap` and `jvp`, and under autograd.

    Raises
    ------
    ValueError
        If the shapes of `X` and the ensemble do not fit together.

    >>> network, params = init_ensemble(4, input_dim=3, width=16, depth=2, seed=0)
    >>> apply_ensemble(network, params, torch.zeros(5, 3)).abs().max().item()
    0.0
    """
    return ensemble_layers(network, params, X)[-1]


def ensemble_layers(
    network: MLP, params: dict[str, Tensor], X: Float[Tensor, "*members n d"]
) -> list[Float[Tensor, "members n fan_out"]]:
    """Return what each dense layer of every member puts out: the pre-activations h¹ … hᴸ, then the network's output.

    The last hidden features are φ of the second to last entry. Shapes and errors are those of `apply_ensemble`.

    >>> network, params = init_ensemble(4, input_dim=3, width=16, depth=2, seed=0)
    >>> [tuple(h.shape) for h in ensemble_layers(network, params, torch.zeros(5, 3))]
    [(4, 5, 16), (4, 5, 16), (4, 5, 1)]
    """
    _check_ensemble_input(network, params, X)
    activation = ACTIVATIONS[network.activation]
    outputs: list[Tensor] = []
    for name, layer in network.dense_layers():
        x = activation(outputs[-1]) if outputs else X
        weight = params[f"{name}.weight"]
        x = x.expand(weight.shape[0], -1, -1)
        if f"{name}.bias" in params:
            bias = params[f"{name}.bias"].unsqueeze(1)
            outputs.append(torch.baddbmm(bias, x, weight.mT, beta=layer.bias_multiplier, alpha=layer.weight_multiplier))
        else:
            outputs.append(torch.bmm(x, weight.mT) * layer.weight_multiplier)
    return outputs


def _check_ensemble_input(network: MLP, params: dict[str, Tensor], X: Tensor) -> None:
    expected = [name for name, _ in network.named_parameters()]
    if sorted(params) != sorted(expected):
        raise ValueError(f"params must hold the ensemble's tensors {sorted(expected)}, got {sorted(params)}.")
    if X.ndim != 3:
        check_ndim(2, X=X)
    if X.shape[-1] != network.input_dim:
        raise ValueError(
            f"X must have as many features as the network has inputs ({network.input_dim}), got shape {tuple(X.shape)}."
        )
    members = params[expected[0]].shape[0]
    if X.ndim == 3 and X.shape[0] != members:
        raise ValueError(f"X must have one block for each of the {members} members, got shape {tuple(X.shape)}.")


def lr_scales(network: MLP) -> dict[str, float]:
    """Return the factor that each parameter's learning rate takes in the network's parametrisation, by name.

    Multiply the learning rate by it when training an ensemble by hand; `parameter_groups` does it for an optimiser.

    >>> lr_scales(make_mlp(input_dim=3, width=8, depth=1, parametrisation="standard", seed=0))
    {'0.weight': 0.125, '2.weight': 0.125}
    """
    scale = {name: layer.lr_scale for name, layer in network.dense_layers()}
    return {name: scale[name.split(".")[0]] for name, _ in network.named_parameters()}


def parameter_groups(network: MLP, lr: float) -> list[dict[str, object]]:
    """Return the network's parameters as an optimiser's groups, each with its layer's own learning rate.

    Raises
    ------
    ValueError
        If `lr` is not positive.

    >>> network = make_mlp(input_dim=3, width=8, depth=1, parametrisation="standard", seed=0)
    >>> torch.optim.SGD(parameter_groups(network, lr=0.8)).param_groups[0]["lr"]
    0.1
    """
    check_positive(lr=lr)
    return [
        {"params": list(layer.parameters(recurse=False)), "lr": lr * layer.lr_scale}
        for _, layer in network.dense_layers()
    ]
