"""The empirical neural tangent kernel of any torch module, computed in three ways that agree.

Θ(x, x')ₒₚ = Σ_θ ∂f_o(x)/∂θ · ∂f_p(x')/∂θ over all trainable parameters [ntk-jacot, section 4].

=============  ======================================================================  ==========================
way            what it does                                                            what it costs
=============  ======================================================================  ==========================
"jacobian"     builds both Jacobians and contracts them over the parameters            memory: n · out · parameters
"ntvp"         pushes each (x', p) back to the parameters and forward to all x         n · out passes, little memory
"structured"   per dense layer, (inputs' Gram matrix + 1 for the bias) times the       two Gram matrices a layer; no
               Gram matrix of the sensitivities ∂f/∂h                                  Jacobian is ever built
=============  ======================================================================  ==========================

The structured way rests on ∂f/∂W = (∂f/∂h) xᵀ for h = W x: an inner product of two such outer products is the
product of two inner products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from sciviz.lab.checks import check_choice, check_finite, check_int
from sciviz.lab.products import times_transpose
from sciviz.ntk.networks import ACTIVATIONS, MLP, ScaledLinear, ensemble_layers

METHODS = ("auto", "jacobian", "ntvp", "structured")
OUTPUTS = ("full", "trace")
DEFAULT_MEMORY_LIMIT = 2**30

_Block = Callable[[slice, slice], Tensor]
_Call = tuple[nn.Linear, Tensor, Tensor]  # a dense layer, its inputs, its outputs


def empirical_ntk(
    module: nn.Module,
    X1: Float[Tensor, "n1 ..."],
    X2: Float[Tensor, "n2 ..."] | None = None,
    *,
    method: str = "auto",
    output: str = "full",
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT,
) -> Float[Tensor, "n1 n2 out out"] | Float[Tensor, "n1 n2"]:
    """Return the neural tangent kernel of a module between two sets of samples [ntk-jacot, section 4].

    Parameters are those with `requires_grad`; a tied one counts once, with the sum of its uses; buffers stay as they
    are. The module is left unchanged, and each sample's output must depend on that sample alone.

    Parameters
    ----------
    module
        Any module that maps a batch, shape (n, ...), to one tensor of shape (n, ...), on any device.
    X1, X2
        Samples; without `X2` the kernel of `X1` with itself.
    method
        "jacobian", "ntvp" or "structured" (see above); "auto" takes the structured way where the module is proven to
        be made of dense layers called once and elementwise functions between them, else the Jacobians, else, where
        not even one sample's Jacobian fits into the memory limit, NTK-vector products (which need torch's forward-mode
        derivative of every operation in the module).
    output
        "full": all pairs of outputs, shape (n1, n2, out, out). "trace": the *mean* over outputs of the diagonal,
        shape (n1, n2). A wide network's kernel tends to θ(x, x') times the identity over outputs; the mean is an
        estimate of that θ itself, whatever the number of outputs, while the sum would grow with it.
    memory_limit_bytes
        Working memory beyond the result and the module, kept by going through the samples in chunks.

    Raises
    ------
    ValueError
        If shapes, devices or types do not fit, data are not finite, the module is in training mode with layers that
        mix samples or draw at random, "structured" is asked for and cannot be proven right, or the limit is too small
        for a single sample.
    TypeError
        If the module does not return a tensor.

    >>> module = nn.Linear(2, 1)
    >>> empirical_ntk(module, torch.eye(2), output="trace").tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    check_choice(METHODS, method=method)
    check_choice(OUTPUTS, output=output)
    check_int(1, memory_limit_bytes=memory_limit_bytes)
    params: dict[str, Tensor] = {name: value for name, value in module.named_parameters() if value.requires_grad}
    _check_module(module, params)
    _check_samples(module, X1, X2)
    symmetric = X2 is None or X2 is X1
    X2 = X1 if X2 is None or X2 is X1 else X2

    job = _Job(module, params, X1.detach(), X2.detach(), output == "trace", symmetric, memory_limit_bytes)
    if method in ("auto", "structured"):
        try:
            return _structured(job)
        except _NotProvenError as reason:
            if method == "structured":
                raise ValueError(
                    "method 'structured' needs a module of dense layers (nn.Linear), each called once on a 2-D batch, "
                    f"with elementwise functions between them, got {reason}; 'auto' finds a way for any module."
                ) from None
    if method == "jacobian" or (method == "auto" and _jacobian_bytes(job) * 2 <= memory_limit_bytes):
        return _jacobian(job)
    return _ntvp(job)


class _Job(NamedTuple):
    module: nn.Module
    params: dict[str, Tensor]
    X1: Tensor
    X2: Tensor
    trace: bool
    symmetric: bool
    memory_limit: int


class _NotProvenError(Exception):
    """Says why the structured way cannot be proven right for a module."""


def _check_module(module: nn.Module, params: dict[str, Tensor]) -> None:
    if not params:
        raise ValueError("module must have parameters that require gradients, got none.")
    for name, child in module.named_modules():
        mixes = isinstance(child, nn.modules.batchnorm._BatchNorm)
        draws = isinstance(child, nn.modules.dropout._DropoutNd) and child.p > 0
        if child.training and (mixes or draws):
            raise ValueError(
                f"module must be in evaluation mode (module.eval()), got {type(child).__name__} {name!r} in training "
                f"mode, where it {'mixes the samples of a batch' if mixes else 'draws at random'}."
            )


def _check_samples(module: nn.Module, X1: Tensor, X2: Tensor | None) -> None:
    parameter = next(module.parameters())
    for name, X in (("X1", X1), ("X2", X2)):
        if X is None:
            continue
        if X.ndim == 0 or len(X) == 0:
            raise ValueError(f"{name} must hold at least one sample along its first axis, got shape {tuple(X.shape)}.")
        if X.shape[1:] != X1.shape[1:]:
            raise ValueError(
                f"X1 and X2 must hold samples of the same shape, got shapes X1 {tuple(X1.shape)}, X2 {tuple(X.shape)}."
            )
        if X.is_floating_point() and X.dtype != parameter.dtype:
            raise ValueError(f"{name} must have the module's type {parameter.dtype}, got {X.dtype}.")
        if X.device != parameter.device:
            raise ValueError(f"{name} must be on the module's device {parameter.device}, got {X.device}.")
        check_finite(**{name: X})


def _flat_output(module: nn.Module, output: Any, X: Tensor) -> Tensor:
    """Output as (n, out), whatever shape the module gives one sample."""
    if not isinstance(output, Tensor):
        raise TypeError(f"module must return one tensor, got {type(output).__name__}.")
    if output.ndim == 0 or len(output) != len(X):
        raise ValueError(
            f"module must return one row for each of the {len(X)} samples, got shape {tuple(output.shape)}."
        )
    return output.reshape(len(X), -1)


def _apply(job: _Job, params: dict[str, Tensor], X: Tensor) -> Tensor:
    return _flat_output(job.module, functional_call(job.module, params, (X,)), X)


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _chunk_size(job: _Job, bytes_per_sample: int, bytes_per_pair: int) -> int:
    """Largest c with c · bytes_per_sample + c² · bytes_per_pair within the limit."""
    limit = job.memory_limit
    if bytes_per_sample + bytes_per_pair > limit:
        raise ValueError(
            f"memory_limit_bytes must be at least {bytes_per_sample + bytes_per_pair} for one sample of this module "
            f"by this method, got {limit}."
        )
    discriminant = bytes_per_sample**2 + 4 * bytes_per_pair * limit
    return max(1, min(int(2 * limit / (bytes_per_sample + math.sqrt(discriminant))), max(len(job.X1), len(job.X2))))


def _empty_result(job: _Job, num_outputs: int) -> Tensor:
    shape = (len(job.X1), len(job.X2)) if job.trace else (len(job.X1), len(job.X2), num_outputs, num_outputs)
    return torch.empty(shape, dtype=next(iter(job.params.values())).dtype, device=job.X1.device)


def _put(job: _Job, result: Tensor, rows: slice, columns: slice, block: Tensor) -> None:
    """Store a block given as (rows, columns) or (rows, out, columns, out), and its mirror image if symmetric."""
    block = block if job.trace else block.permute(0, 2, 1, 3)
    result[rows, columns] = block
    if job.symmetric and rows != columns:
        result[columns, rows] = block.transpose(0, 1) if job.trace else block.permute(1, 0, 3, 2)


# --- Jacobian contraction ---------------------------------------------------------------------------------------------


def _probe(job: _Job) -> tuple[int, int]:
    """Number of outputs, and bytes of the intermediate results that one sample keeps for its gradient."""
    saved = 0
    own = {value.untyped_storage().data_ptr() for value in (*job.module.parameters(), *job.module.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        if tensor.untyped_storage().data_ptr() not in own:
            saved += tensor.numel() * tensor.element_size()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = _flat_output(job.module, job.module(job.X1[:1]), job.X1[:1])
    return output.shape[1], saved


def _parameter_bytes(job: _Job) -> int:
    return sum(value.numel() * value.element_size() for value in job.params.values())


def _jacobian_bytes(job: _Job) -> int:
    num_outputs, saved = _probe(job)
    # Twice: the Jacobian itself, and the gradients of the layer being worked on before they are put in place.
    return 2 * num_outputs * (_parameter_bytes(job) + saved)


def _jacobian(job: _Job) -> Tensor:
    num_outputs, _ = _probe(job)
    item = next(iter(job.params.values())).element_size()
    pair = item * (1 if job.trace else num_outputs**2)
    size = _chunk_size(job, 2 * _jacobian_bytes(job), 2 * pair)
    detached = {name: value.detach() for name, value in job.params.items()}
    jacobian = vmap(jacrev(lambda params, x: _apply(job, params, x.unsqueeze(0)).squeeze(0)), (None, 0))
    result = _empty_result(job, num_outputs)
    with torch.no_grad():
        for rows in _chunks(len(job.X1), size):
            first = jacobian(detached, job.X1[rows])
            for columns in _chunks(len(job.X2), size):
                if job.symmetric and columns.start > rows.start:
                    break
                same = job.symmetric and rows == columns
                second = first if same else jacobian(detached, job.X2[columns])
                _put(job, result, rows, columns, _contract(first, second, job.trace))
    return result


def _contract(first: dict[str, Tensor], second: dict[str, Tensor], trace: bool) -> Tensor:
    total: Tensor | None = None
    for name, one in first.items():
        two = second[name]
        n1, n2, out = len(one), len(two), one.shape[1]
        if trace:
            term = one.reshape(n1, -1) @ two.reshape(n2, -1).T / out
        else:
            term = (one.reshape(n1 * out, -1) @ two.reshape(n2 * out, -1).T).view(n1, out, n2, out)
        total = term if total is None else total.add_(term)
    assert total is not None
    return total


# --- NTK-vector products ----------------------------------------------------------------------------------------------


def _ntvp(job: _Job) -> Tensor:
    num_outputs, saved = _probe(job)
    item = next(iter(job.params.values())).element_size()
    detached = {name: value.detach() for name, value in job.params.items()}
    # One column (x', p) holds a gradient and its tangent, and forward results with tangents for the rows at hand.
    column_bytes = 2 * _parameter_bytes(job) + saved
    row_bytes = 3 * saved + 2 * item * num_outputs
    if column_bytes + row_bytes > job.memory_limit:
        raise ValueError(
            f"memory_limit_bytes must be at least {column_bytes + row_bytes} for one sample of this module by this "
            f"method, got {job.memory_limit}."
        )
    rows_that_fit = min(job.memory_limit // 2, job.memory_limit - column_bytes) // row_bytes
    num_rows = max(1, min(len(job.X1), rows_that_fit))
    num_columns = max(1, job.memory_limit // (column_bytes + num_rows * row_bytes))
    basis = torch.eye(num_outputs, dtype=next(iter(job.params.values())).dtype, device=job.X1.device)
    # Columns are (sample, output) pairs, so that a limit below one sample's gradients of all outputs can be kept.
    samples = torch.arange(len(job.X2), device=job.X1.device).repeat_interleave(num_outputs)
    outputs = torch.arange(num_outputs, device=job.X1.device).repeat(len(job.X2))
    result = _empty_result(job, num_outputs)
    flat = torch.empty(
        (len(job.X1), num_outputs, len(samples)) if not job.trace else (len(job.X1), len(samples)),
        dtype=result.dtype,
        device=result.device,
    )
    with torch.no_grad():
        for rows in _chunks(len(job.X1), num_rows):
            X = job.X1[rows]

            def column(x: Tensor, direction: Tensor, X: Tensor = X) -> Tensor:
                _, pull = vjp(lambda params: _apply(job, params, x.unsqueeze(0)).squeeze(0), detached)[:2]
                (gradient,) = pull(direction)
                pushed: Tensor = jvp(lambda params: _apply(job, params, X), (detached,), (gradient,))[1]
                return pushed

            for pairs in _chunks(len(samples), num_columns):
                block = vmap(column)(job.X2[samples[pairs]], basis[outputs[pairs]])
                if job.trace:
                    own_output = outputs[pairs][:, None, None].expand(-1, len(X), 1)
                    flat[rows, pairs] = block.gather(2, own_output).squeeze(2).T
                else:
                    flat[rows, :, pairs] = block.permute(1, 2, 0)
    if job.trace:
        return flat.view(len(job.X1), len(job.X2), num_outputs).mean(2)
    return flat.view(len(job.X1), num_outputs, len(job.X2), num_outputs).permute(0, 2, 1, 3).contiguous()


# --- The structured way -----------------------------------------------------------------------------------------------

# Functions that act on each entry, or only rename axes, and so cannot carry a gradient from one sample to another.
_ELEMENTWISE_NAMES = """
    Abs Add Atan Celu Clamp ClampMax ClampMin Clone Cos Cosh Div Elu Erf Exp Expm1 Gelu Hardsigmoid Hardswish Hardtanh
    LeakyRelu Log Log1P LogSigmoid Mish Mul Neg Pow Reciprocal Relu Rsqrt Rsub Selu Sigmoid Silu Sin Sinh Softplus Sqrt
    Squeeze Sub T Tanh Threshold UnsafeView Unsqueeze View
"""
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


class _Dense(NamedTuple):
    """One dense layer on one batch: its inputs, and how its outputs move the network's (None: not at all)."""

    inputs: Float[Tensor, "n fan_in"]
    sensitivities: Float[Tensor, "n out fan_out"]
    weight_factor: float
    bias_factor: float


def _dense_layers(job: _Job) -> list[nn.Linear]:
    """All plain dense layers, if they own every trainable parameter; a _NotProvenError otherwise."""
    owners: dict[int, nn.Linear] = {}
    for module_name, module in job.module.named_modules():
        for name, value in module.named_parameters(recurse=False):
            if not value.requires_grad:
                continue
            full_name = f"{module_name}.{name}".lstrip(".")
            if type(module) not in (nn.Linear, ScaledLinear) or name not in ("weight", "bias"):
                raise _NotProvenError(f"the parameter {full_name!r} of {type(module).__name__}")
            if id(value) in owners:
                raise _NotProvenError(f"the tied parameter {full_name!r}")
            if module._forward_hooks or module._forward_pre_hooks:
                raise _NotProvenError(f"hooks on the layer {module_name!r}")
            assert isinstance(module, nn.Linear)
            owners[id(value)] = module
    plain = (layer for layer in job.module.modules() if type(layer) in (nn.Linear, ScaledLinear))
    return [layer for layer in plain if isinstance(layer, nn.Linear)]


def _run_dense(job: _Job, layers: list[nn.Linear], X: Tensor) -> tuple[Tensor, list[_Call]]:
    """Output of a batch, and (layer, inputs, outputs) of each dense call, with the graph between them proven."""
    if not X.is_floating_point():
        raise _NotProvenError(f"samples of type {X.dtype}")
    # Everything computed from the samples must show up in the graph, so that the walk below sees it.
    X = X.detach().requires_grad_()
    calls: dict[int, tuple[nn.Linear, Tensor, Tensor, int]] = {}
    fixed: list[Tensor] = []

    def hook(layer: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        if not any(value.requires_grad for value in layer.parameters()):
            fixed.append(result)
            return result
        if id(layer) in calls:
            raise _NotProvenError("a dense layer that is called more than once")
        if len(args) != 1 or args[0].ndim != 2 or len(args[0]) != len(X):
            raise _NotProvenError("a dense layer whose input is not one row a sample")
        calls[id(layer)] = (layer, args[0], result, args[0]._version)
        # A copy goes on, because an activation that works in place would overwrite what the gradient is taken at.
        return result.clone()

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        with torch.enable_grad():
            output = _flat_output(job.module, job.module(X), X)
    finally:
        for handle in handles:
            handle.remove()
    found = [(layer, inputs, result) for layer, inputs, result, _ in calls.values()]
    if any(inputs._version != version for _, inputs, _, version in calls.values()):
        raise _NotProvenError("a layer's input that is changed in place afterwards")
    _prove(job, output, [*fixed, *(result for _, _, result in found)])
    return output, found


def _prove(job: _Job, output: Tensor, dense_outputs: list[Tensor]) -> None:
    """Walk the graph: dense products only in the layers, otherwise elementwise; each parameter enters once."""
    products: set[Any] = set()
    for result in dense_outputs:
        # A scaled layer without a bias multiplies after its product.
        products.update(
            [result.grad_fn, *(node for node, _ in result.grad_fn.next_functions)] if result.grad_fn else []
        )
    trainable = {id(value) for value in job.params.values()}
    entered: dict[int, int] = {}
    seen: set[Any] = set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().split("Backward")[0]
        if name.endswith("AccumulateGrad"):
            continue
        if name not in _ELEMENTWISE and not (name in ("Addmm", "Mm") and node in products):
            raise _NotProvenError(f"the operation {name} outside the dense layers")
        for parent, _ in node.next_functions:
            waiting.append(parent)
            variable = getattr(parent, "variable", None)
            if variable is not None and id(variable) in trainable:
                entered[id(variable)] = entered.get(id(variable), 0) + 1
    if any(count > 1 for count in entered.values()):
        raise _NotProvenError("a parameter that is used more than once")


def _is_chain(output: Tensor, calls: list[_Call]) -> bool:
    """Whether each layer's inputs depend on the layer before it alone, and the output on the last."""
    number = {result.grad_fn: k for k, (_, _, result) in enumerate(calls)}
    for k, end in enumerate([inputs for _, inputs, _ in calls] + [output]):
        reached, seen, waiting = set(), set(), [end.grad_fn]
        while waiting:
            node = waiting.pop()
            if node in number:
                reached.add(number[node])
            elif node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        if reached != ({k - 1} if k else set()):
            return False
    return True


def _chain_gradients(output: Tensor, calls: list[_Call], basis: Float[Tensor, "out n out"]) -> list[Tensor]:
    """Gradients of all outputs by each layer's outputs, (out, n, fan_out).

    Autograd goes through the functions; through a layer goes one product, for which all outputs are one batch.
    """
    last = calls[-1][2]
    found = list(torch.autograd.grad(output, last, basis, is_grads_batched=True, retain_graph=True))
    for (layer, inputs, _), (_, _, before) in pairwise(reversed(calls)):
        with torch.no_grad():
            weight: Tensor = layer.weight * layer.weight_multiplier if isinstance(layer, ScaledLinear) else layer.weight
            rows = found[-1].flatten(0, 1)
            gradient = times_transpose(rows, weight.mT).view(*found[-1].shape[:2], -1)
        found += torch.autograd.grad(inputs, before, gradient, is_grads_batched=True, retain_graph=True)
    return found[::-1]


def _dense_parts(job: _Job, layers: list[nn.Linear], X: Tensor) -> list[_Dense]:
    output, calls = _run_dense(job, layers, X)
    n, num_outputs = output.shape
    basis = torch.eye(num_outputs, dtype=output.dtype, device=output.device)[:, None, :].expand(-1, n, -1)
    if not calls or output.grad_fn is None:
        return []
    # Rows do not depend on each other, so the gradient of a column's sum holds every sample's own gradient.
    gradients: list[Tensor | None]
    if _is_chain(output, calls):
        gradients = [*_chain_gradients(output, calls, basis)]
    else:
        results = [result for _, _, result in calls]
        gradients = list(torch.autograd.grad(output, results, basis, is_grads_batched=True, allow_unused=True))
    parts = []
    for (layer, inputs, _), gradient in zip(calls, gradients, strict=True):
        if gradient is None:
            continue
        weight = layer.weight_multiplier if isinstance(layer, ScaledLinear) else 1.0
        bias = layer.bias_multiplier if isinstance(layer, ScaledLinear) else 1.0
        owned = dict(layer.named_parameters(recurse=False))
        parts.append(
            _Dense(
                inputs.detach(),
                gradient.transpose(0, 1).contiguous(),
                weight**2 if owned["weight"].requires_grad else 0.0,
                bias**2 if "bias" in owned and owned["bias"].requires_grad else 0.0,
            )
        )
    return parts


def _structured(job: _Job) -> Tensor:
    layers = _dense_layers(job)
    alone, calls = _run_dense(job, layers, job.X1[:1])
    _check_rows_stand_alone(job, alone)
    num_outputs = alone.shape[1]
    # Sensitivities twice (as computed, and in the order the products want them), activations thrice; two batches.
    sizes = [2 * num_outputs * result.shape[1] + 3 * (inputs.shape[1] + result.shape[1]) for _, inputs, result in calls]
    item = alone.element_size()
    size = _chunk_size(job, 2 * item * max(1, sum(sizes)), 2 * item * (1 if job.trace else num_outputs**2))
    result = _empty_result(job, num_outputs)
    for rows in _chunks(len(job.X1), size):
        first = _dense_parts(job, layers, job.X1[rows])
        for columns in _chunks(len(job.X2), size):
            if job.symmetric and columns.start > rows.start:
                break
            same = job.symmetric and rows == columns
            second = first if same else _dense_parts(job, layers, job.X2[columns])
            # Tiles keep the temporary products in the cache; on the diagonal only those below it are computed.
            for tile in _chunks(rows.stop - rows.start, max(16, -(-(rows.stop - rows.start) // 8))):
                width = tile.stop if same else columns.stop - columns.start
                block = _dense_block(job, first, second, tile, slice(0, width), num_outputs)
                _put(
                    job,
                    result,
                    slice(rows.start + tile.start, rows.start + tile.stop),
                    slice(columns.start, columns.start + width),
                    block,
                )
    return result


def _check_rows_stand_alone(job: _Job, alone: Tensor) -> None:
    with torch.no_grad():
        X = torch.cat([job.X1[:2], job.X2[-1:]])
        together = _flat_output(job.module, job.module(X), X)[:1]
        alone = alone.detach()
    if float((together - alone).abs().max()) > math.sqrt(torch.finfo(alone.dtype).eps) * float(alone.abs().max()):
        raise _NotProvenError("a module whose output for one sample depends on the others")


def _dense_block(
    job: _Job, first: list[_Dense], second: list[_Dense], rows: slice, columns: slice, num_outputs: int
) -> Tensor:
    """Kernel block of some rows and columns, (n1, n2) for the trace and (n1, out, n2, out) in full."""
    n1, n2 = rows.stop - rows.start, columns.stop - columns.start
    X = first[0].inputs if first else job.X1
    shape = (n1, n2) if job.trace else (n1, num_outputs, n2, num_outputs)
    total = torch.zeros(shape, dtype=next(iter(job.params.values())).dtype, device=X.device)
    for one, two in zip(first, second, strict=True):
        inputs = times_transpose(one.inputs[rows], two.inputs[columns])
        inputs.mul_(one.weight_factor).add_(one.bias_factor)
        if job.trace:
            left = one.sensitivities[rows].flatten(1)
            right = two.sensitivities[columns].flatten(1)
            total.addcmul_(inputs, times_transpose(left, right), value=1 / num_outputs)
        else:
            left = one.sensitivities[rows].flatten(0, 1)
            right = two.sensitivities[columns].flatten(0, 1)
            total.addcmul_(inputs[:, None, :, None], times_transpose(left, right).view(shape))
    return total


# --- Ensembles --------------------------------------------------------------------------------------------------------


def ensemble_ntk(
    network: MLP,
    params: dict[str, Tensor],
    X1: Float[Tensor, "*members n1 d"],
    X2: Float[Tensor, "*members n2 d"] | None = None,
    *,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT,
) -> Float[Tensor, "members n1 n2"]:
    """Return the tangent kernel (trace form, see `empirical_ntk`) of every member of an ensemble, the structured way.

    `network` and `params` are those of `init_ensemble`. All members are computed with one batched product a layer, as
    many at once as the working memory allows.

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, or the limit is too small for one member.

    >>> from sciviz.ntk.networks import init_ensemble
    >>> network, params = init_ensemble(3, input_dim=2, width=8, depth=2, seed=0)
    >>> ensemble_ntk(network, params, torch.eye(2)).shape
    torch.Size([3, 2, 2])
    """
    check_int(1, memory_limit_bytes=memory_limit_bytes)
    check_finite(X1=X1)
    second = X1 if X2 is None else X2
    if X2 is not None:
        check_finite(X2=X2)
    values = {name: value.detach() for name, value in params.items()}
    members = len(next(iter(values.values())))
    samples = X1.shape[-2] + second.shape[-2]
    units = network.depth * network.width * (2 * network.output_dim + 4) + network.input_dim
    per_member = X1.element_size() * (samples * units + 3 * X1.shape[-2] * second.shape[-2])
    if per_member > memory_limit_bytes:
        raise ValueError(f"memory_limit_bytes must be at least {per_member} for one member, got {memory_limit_bytes}.")
    blocks = []
    for chunk in _chunks(members, memory_limit_bytes // per_member):
        some = {name: value[chunk] for name, value in values.items()}
        first = _ensemble_parts(network, some, X1[chunk] if X1.ndim == 3 else X1)
        other = first if X2 is None else _ensemble_parts(network, some, X2[chunk] if X2.ndim == 3 else X2)
        total: Tensor | None = None
        for one, two in zip(first, other, strict=True):
            inputs = (one.inputs @ two.inputs.mT).mul_(one.weight_factor).add_(one.bias_factor)
            term = (one.sensitivities.flatten(2) @ two.sensitivities.flatten(2).mT).mul_(inputs)
            total = term if total is None else total.add_(term)
        assert total is not None
        blocks.append(total.div_(network.output_dim))
    return torch.cat(blocks)


def _ensemble_parts(network: MLP, params: dict[str, Tensor], X: Tensor) -> list[_Dense]:
    with torch.no_grad():
        hidden = ensemble_layers(network, params, X)
    layers = list(network.dense_layers())
    activation = ACTIVATIONS[network.activation]
    members, n, out = hidden[-1].shape
    sensitivities = torch.eye(out, dtype=X.dtype, device=X.device).expand(members, n, out, out)
    parts: list[_Dense] = []
    for i in reversed(range(len(layers))):
        name, layer = layers[i]
        inputs, slope = X, None
        if i > 0:
            with torch.enable_grad():
                h = hidden[i - 1].requires_grad_()
                inputs = activation(h)
                (slope,) = torch.autograd.grad(inputs.sum(), h)
            inputs = inputs.detach()
        bias = layer.bias_multiplier**2 if f"{name}.bias" in params else 0.0
        parts.append(_Dense(inputs, sensitivities, layer.weight_multiplier**2, bias))
        if slope is not None:
            weight = params[f"{name}.weight"]
            flat = torch.bmm(sensitivities.reshape(members, n * out, -1), weight) * layer.weight_multiplier
            sensitivities = flat.view(members, n, out, -1).mul_(slope[:, :, None, :])
    return parts
