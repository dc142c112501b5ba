"""The neural tangent kernel: wide networks in function space, their kernels and how they train."""

from sciviz.ntk.infinite import (
    CLOSED_FORM_ACTIVATIONS,
    InfiniteKernels,
    dual_activation,
    infinite_kernels,
    kernel_recursion,
)
from sciviz.ntk.networks import (
    ACTIVATIONS,
    MLP,
    PARAMETRISATIONS,
    Activation,
    LayerScales,
    ScaledLinear,
    apply_ensemble,
    ensemble_layers,
    ensemble_member,
    init_ensemble,
    layer_scales,
    lr_scales,
    make_mlp,
    parameter_groups,
)

__all__ = [
    "ACTIVATIONS",
    "CLOSED_FORM_ACTIVATIONS",
    "MLP",
    "PARAMETRISATIONS",
    "Activation",
    "InfiniteKernels",
    "LayerScales",
    "ScaledLinear",
    "apply_ensemble",
    "dual_activation",
    "ensemble_layers",
    "ensemble_member",
    "infinite_kernels",
    "init_ensemble",
    "kernel_recursion",
    "layer_scales",
    "lr_scales",
    "make_mlp",
    "parameter_groups",
]
