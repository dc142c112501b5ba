import copy
import json
import pathlib

import pytest
import torch
from torch import nn

from sciviz.lab import products
from sciviz.ntk import empirical_ntk, ensemble_member, ensemble_ntk, init_ensemble, kernels, make_mlp
from sciviz.ntk.kernels import METHODS

REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference" / "neural_tangents.json").read_text())
GENERIC = ("jacobian", "ntvp")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def samples(*shape, seed=0, dtype=torch.float64, device="cpu"):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def filled(module, seed=0):
    """The module with parameters drawn from a generator of their own, in double precision, ready for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5)
    return module.double().eval()


def by_definition(module, X1, X2):
    """Sum over parameters of products of gradients, one output of one sample at a time."""

    params = [p for p in module.parameters() if p.requires_grad]

    def gradient(output):
        found = torch.autograd.grad(output, params, retain_graph=True, allow_unused=True)
        filled_in = [torch.zeros_like(p) if g is None else g for g, p in zip(found, params, strict=True)]
        return torch.cat([g.reshape(-1) for g in filled_in])

    def rows(X):
        return torch.stack([torch.stack([gradient(o) for o in module(x[None]).reshape(-1)]) for x in X])

    return torch.einsum("iop,jqp->ijoq", rows(X1), rows(X2))


def agree(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert float((actual - expected).abs().max()) <= tolerance * float(expected.abs().max())


class Functional(nn.Module):
    """Layers called from a forward method, with a skip connection and activations from torch itself."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(3, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x):
        h = torch.tanh(self.enter(x))
        return self.leave(h + torch.erf(0.5 * self.middle(h)) ** 2)


class Parallel(nn.Module):
    """Two layers side by side, and the samples themselves beside a later one."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.leave = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.leave(torch.tanh(self.left(x)) + torch.sin(self.right(x)) + x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.leave = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.leave(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.leave = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.leave(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class UsedBesides(nn.Module):
    """A weight used by its layer and again as a plain tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x)) + x * self.layer.bias


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 2), nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.scale * torch.tanh(self.layer(x))


class Centred(nn.Module):
    """Subtracts the batch's mean, so that samples depend on each other."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x - x.mean(0))


def frozen():
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    module[0].requires_grad_(False)
    module[2].weight.requires_grad_(False)
    return module


def frozen_and_repeated():
    fixed = nn.Linear(3, 3).requires_grad_(False)
    return nn.Sequential(fixed, nn.Tanh(), fixed, nn.Tanh(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def with_unused():
    module = Functional()
    module.spare = nn.Linear(2, 2)
    return module


DENSE = {
    "linear": lambda: nn.Linear(3, 1),
    "one output": lambda: nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 1)),
    "several": lambda: nn.Sequential(
        nn.Linear(3, 7), nn.GELU(), nn.Linear(7, 4, bias=False), nn.SiLU(), nn.Linear(4, 3)
    ),
    "in place": lambda: nn.Sequential(nn.Linear(3, 7), nn.ReLU(inplace=True), nn.Linear(7, 2)),
    "flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 7), nn.LeakyReLU(), nn.Linear(7, 2)),
    "functional": Functional,
    "parallel": Parallel,
    "frozen": frozen,
    "frozen and repeated": frozen_and_repeated,
    "unused": with_unused,
    "ends in an activation": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh()),
    "mlp": lambda: make_mlp(input_dim=3, width=9, depth=2, output_dim=2, bias_variance=0.3, activation="erf", seed=0),
    "mlp without bias": lambda: make_mlp(input_dim=3, width=9, depth=3, output_dim=2, weight_variance=2.0, seed=0),
    "mlp, mup": lambda: make_mlp(input_dim=3, width=9, depth=2, parametrisation="mup", bias_variance=0.3, seed=0),
}
OTHER = {
    "tied": Tied,
    "repeated": Repeated,
    "used besides": UsedBesides,
    "own parameter": OwnParameter,
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)),
    "layer norm": lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)),
    "sequence": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.Linear(1, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    ),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    ),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 2)
    ),
}


# Torch has no forward-mode derivative of weight norm, which NTK-vector products need.
WAYS = [
    (name, method)
    for name in (*DENSE, *OTHER)
    for method in METHODS
    if not (method == "structured" and name in OTHER) and (name, method) != ("weight norm", "ntvp")
]


@pytest.mark.parametrize(("name", "method"), WAYS)
@pytest.mark.parametrize("shape", [(1, 1), (4, 3)])
def test_every_way_is_the_definition(name, method, shape):
    module = filled((DENSE | OTHER)[name]())
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith(("running_mean", "running_var")):
            buffer.add_(0.5)
    X1, X2 = samples(shape[0], 3), samples(shape[1], 3, seed=1)
    expected = by_definition(module, X1, X2)
    agree(empirical_ntk(module, X1, X2, method=method), expected, 1e-10)
    trace = expected.diagonal(dim1=2, dim2=3).mean(2)
    agree(empirical_ntk(module, X1, X2, method=method, output="trace"), trace, 1e-10)
    agree(empirical_ntk(module, X1, method=method), by_definition(module, X1, X1), 1e-10)


@pytest.mark.parametrize("name", [*OTHER, "centred"])
def test_structured_refuses_what_it_cannot_prove(name):
    module = filled((OTHER | {"centred": Centred})[name]())
    with pytest.raises(ValueError, match="method 'structured' needs a module of dense layers"):
        empirical_ntk(module, samples(4, 3), method="structured")


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (7, 3), (40, 40)])
def test_the_three_ways_agree(name, dtype, shape):
    module = filled(DENSE[name]()).to(dtype)
    X1, X2 = samples(shape[0], 3, dtype=dtype), samples(shape[1], 3, seed=1, dtype=dtype)
    for output in ("full", "trace"):
        kernels = [empirical_ntk(module, X1, X2, method=m, output=output) for m in ("structured", *GENERIC)]
        for other in kernels[1:]:
            agree(other, kernels[0], TOLERANCE[dtype])
        alone = [empirical_ntk(module, X1, method=m, output=output) for m in ("structured", *GENERIC)]
        for other in alone[1:]:
            agree(other, alone[0], TOLERANCE[dtype])


@pytest.mark.parametrize("name", DENSE)
def test_layers_in_a_chain_are_walked_by_products_and_others_by_autograd(name, monkeypatch):
    module, X = filled(DENSE[name]()).float(), samples(30, 3, dtype=torch.float32)
    walked = []
    chain = kernels._chain_gradients
    monkeypatch.setattr(kernels, "_chain_gradients", lambda *args: walked.append(name) or chain(*args))
    monkeypatch.setattr(products, "LEAST", 1)
    found = empirical_ntk(module, X, method="structured")
    assert bool(walked) is (name not in ("functional", "parallel", "unused"))
    monkeypatch.setattr(kernels, "_is_chain", lambda *args: False)
    agree(found, empirical_ntk(module, X, method="structured"), 1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_generic_ways_agree_on_images_and_flatten_outputs(dtype):
    module = filled(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3))).to(dtype)
    X1, X2 = samples(3, 2, 6, 5, dtype=dtype), samples(2, 2, 6, 5, seed=1, dtype=dtype)
    one, two = (empirical_ntk(module, X1, X2, method=method) for method in GENERIC)
    assert one.shape == (3, 2, 4, 4)
    agree(one, two, TOLERANCE[dtype])


def test_outputs_without_an_axis_of_their_own_count_as_one():
    class Squeezed(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze(1)

    module = filled(Squeezed(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)))
    X = samples(4, 3)
    for method in METHODS:
        agree(empirical_ntk(module, X, method=method), by_definition(module, X, X), 1e-10)


def test_integer_samples_reach_an_embedding():
    module = filled(nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Tanh(), nn.Linear(8, 2)))
    X = torch.tensor([[0, 1], [1, 1], [6, 0]])
    for method in ("auto", *GENERIC):
        agree(empirical_ntk(module, X, method=method), by_definition(module, X, X), 1e-10)


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("output", ["full", "trace"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_chunks_under_any_memory_limit_give_the_same_kernel(method, output, symmetric):
    module = filled(nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 3)))
    X1, X2 = samples(11, 3), None if symmetric else samples(6, 3, seed=1)
    expected = empirical_ntk(module, X1, X2, method="jacobian", output=output)
    with pytest.raises(ValueError, match="memory_limit_bytes must be at least") as refusal:
        empirical_ntk(module, X1, X2, method=method, output=output, memory_limit_bytes=100)
    smallest = int(str(refusal.value).split("at least ")[1].split()[0])
    for limit in (smallest, 2 * smallest, 5 * smallest, 40 * smallest):
        kernel = empirical_ntk(module, X1, X2, method=method, output=output, memory_limit_bytes=limit)
        agree(kernel, expected, 1e-10)
    with pytest.raises(ValueError, match="memory_limit_bytes must be at least"):
        empirical_ntk(module, X1, X2, method=method, output=output, memory_limit_bytes=smallest - 1)


@pytest.mark.parametrize(("method", "limit"), [("jacobian", 400_000), ("ntvp", 400_000), ("structured", 50_000)])
def test_the_memory_limit_bounds_every_tensor_that_is_made(method, limit):
    module = filled(nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 4)))
    X = samples(60, 20)

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self.size = max(self.size, tensor.untyped_storage().nbytes())
            return result

    sizes = {}
    for bytes_allowed in (limit, 2**30):
        with Largest() as largest:
            kernel = empirical_ntk(module, X, method=method, output="trace", memory_limit_bytes=bytes_allowed)
        sizes[bytes_allowed] = largest.size
    assert kernel.shape == (60, 60)
    assert sizes[limit] <= limit < sizes[2**30]


def test_auto_turns_to_products_where_no_jacobian_fits():
    module = filled(OTHER["batch norm"]())
    X = samples(3, 3)
    with pytest.raises(ValueError, match="memory_limit_bytes") as refusal:
        empirical_ntk(module, X, method="jacobian", memory_limit_bytes=100)
    too_small = int(str(refusal.value).split("at least ")[1].split()[0]) // 2
    agree(empirical_ntk(module, X, memory_limit_bytes=too_small), by_definition(module, X, X), 1e-10)


def test_the_module_is_left_as_it_was():
    module = filled(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)))
    before = copy.deepcopy(module.state_dict())
    dense = filled(Functional())
    for method in METHODS:
        empirical_ntk(module if method != "structured" else dense, samples(4, 3), method=method)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(value.grad is None for value in (*module.parameters(), *dense.parameters()))
    assert not any(m._forward_hooks for m in dense.modules())


def test_it_works_where_gradients_are_switched_off():
    module, X = filled(Functional()), samples(4, 3)
    with torch.no_grad():
        for method in METHODS:
            kernel = empirical_ntk(module, X.requires_grad_(), method=method)
            assert not kernel.requires_grad
            agree(kernel, empirical_ntk(module, X.detach(), method="jacobian"), 1e-12)


@pytest.mark.parametrize("case", REFERENCE["empirical"], ids=lambda case: case["activation"])
@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_neural_tangents(case, method):
    network = make_mlp(
        input_dim=3,
        width=4,
        depth=2,
        output_dim=2,
        activation=case["activation"],
        weight_variance=case["weight_variance"],
        bias_variance=case["bias_variance"],
        seed=0,
        dtype=torch.float64,
    )
    with torch.no_grad():
        for (_, layer), weight, bias in zip(network.dense_layers(), case["weights"], case["biases"], strict=True):
            layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
            layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    X1, X2 = (torch.tensor(REFERENCE[name], dtype=torch.float64) for name in ("X1", "X2"))
    agree(network(X1).detach(), torch.tensor(case["outputs"], dtype=torch.float64), 1e-12)
    agree(empirical_ntk(network, X1, X2, method=method), torch.tensor(case["ntk"], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("parametrisation", ["ntk", "mup", "standard"])
@pytest.mark.parametrize("output_dim", [1, 3])
@pytest.mark.parametrize(("bias_variance", "bias"), [(0.0, "all"), (0.4, "all"), (0.4, "first")])
def test_ensemble_kernels_are_the_members_kernels(parametrisation, output_dim, bias_variance, bias):
    network, params = init_ensemble(
        5,
        input_dim=3,
        width=7,
        depth=2,
        output_dim=output_dim,
        activation="tanh",
        parametrisation=parametrisation,
        bias_variance=bias_variance,
        bias=bias,
        seed=0,
        dtype=torch.float64,
    )
    X1, X2 = samples(4, 3), samples(3, 3, seed=1)
    cross, alone = ensemble_ntk(network, params, X1, X2), ensemble_ntk(network, params, X1)
    own = ensemble_ntk(network, params, torch.stack([X1 * i for i in range(1, 6)]), X2)
    for i in range(5):
        member = ensemble_member(network, params, i)
        agree(cross[i], empirical_ntk(member, X1, X2, method="jacobian", output="trace"), 1e-10)
        agree(alone[i], empirical_ntk(member, X1, method="jacobian", output="trace"), 1e-10)
        agree(own[i], empirical_ntk(member, X1 * (i + 1), X2, method="jacobian", output="trace"), 1e-10)


def test_ensembles_keep_their_memory_limit_by_chunks():
    network, params = init_ensemble(5, input_dim=3, width=7, depth=2, seed=0, dtype=torch.float64)
    X = samples(4, 3)
    with pytest.raises(ValueError, match="memory_limit_bytes must be at least") as refusal:
        ensemble_ntk(network, params, X, memory_limit_bytes=10)
    smallest = int(str(refusal.value).split("at least ")[1].split()[0])
    for limit in (smallest, 3 * smallest):
        assert torch.equal(
            ensemble_ntk(network, params, X, memory_limit_bytes=limit).round(decimals=10),
            ensemble_ntk(network, params, X).round(decimals=10),
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_kernels_on_the_gpu_are_those_on_the_cpu(method):
    module, X = filled(Functional()), samples(5, 3)
    expected = empirical_ntk(module, X, method=method)
    on_gpu = empirical_ntk(copy.deepcopy(module).cuda(), X.cuda(), method=method)
    assert on_gpu.is_cuda
    agree(on_gpu.cpu(), expected, 1e-10)


def test_bad_input_gets_one_sentence():
    module, X = filled(Functional()), samples(4, 3)
    cases = [
        ({"method": "jacobean"}, "method must be one of .* Did you mean 'jacobian'"),
        ({"output": "diagonal"}, "output must be one of 'full', 'trace'"),
        ({"memory_limit_bytes": 0}, "memory_limit_bytes must be an integer of at least 1"),
        ({"X1": torch.full((2, 3), float("nan"), dtype=torch.float64)}, "X1 must hold finite numbers only"),
        ({"X2": torch.full((2, 3), float("inf"), dtype=torch.float64)}, "X2 must hold finite numbers only"),
        ({"X2": samples(2, 4)}, "X1 and X2 must hold samples of the same shape"),
        ({"X1": samples(0, 3)}, "X1 must hold at least one sample"),
        ({"X1": samples(4, 3, dtype=torch.float32)}, "X1 must have the module's type torch.float64"),
        ({"X1": X.to("meta")}, "X1 must be on the module's device cpu"),
        ({"module": nn.ReLU()}, "module must have parameters that require gradients"),
        (
            {"module": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double()},
            "module must be in evaluation mode .* BatchNorm1d '1' in training mode, where it mixes",
        ),
        ({"module": nn.Sequential(nn.Linear(3, 3), nn.Dropout()).double()}, "where it draws at random"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            empirical_ntk(**({"module": module, "X1": X} | change))


def test_a_module_must_return_one_row_a_sample():
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    class Total(nn.Linear):
        def forward(self, x):
            return super().forward(x).sum(0, keepdim=True).expand(2, -1)

    with pytest.raises(TypeError, match="module must return one tensor, got tuple"):
        empirical_ntk(Pair(3, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="module must return one row for each of the"):
        empirical_ntk(Total(3, 2), torch.ones(4, 3))
