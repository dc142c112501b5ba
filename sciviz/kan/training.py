"""Training: Adam and L-BFGS on any loss, and Levenberg and Marquardt's method for least squares, all members at once.

A network of few parameters that is fitted to high precision wants second-order steps. The residuals r of N points have a
Jacobian J of N rows, and with damping λ the step solves

    (JᵀJ + λ diag(JᵀJ)) δ = -Jᵀ r:     Newton's step on a quadratic model where λ is small, a short descent where it is large.

Each member of an ensemble has its own λ, which shrinks after a step that helped and grows after one that did not (which
is taken back). Nothing couples the members, so that an ensemble of five is five runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from sciviz.kan.layers import KANLayer
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.lab.checks import check_choice, check_int, check_nonnegative, check_positive, check_same_length

Function = Callable[[Tensor], Tensor]
Residual = Callable[[Function, Tensor, Tensor], Tensor]

METHODS = ("levenberg-marquardt", "lbfgs", "adam")


@dataclass
class History:
    """What training recorded: mean squared errors before the first step and after each, (steps + 1, members or 1)."""

    loss: Float[Tensor, "steps members"]
    test_loss: Float[Tensor, "steps members"] | None = None


def difference(function: Function, X: Tensor, y: Tensor) -> Tensor:
    """Return the residuals of a regression, outputs minus targets."""
    return function(X) - y


def jacobian(
    model: nn.Module,
    X: Float[Tensor, "... batch in"],
    y: Float[Tensor, "... batch out"],
    residual: Residual = difference,
) -> tuple[Float[Tensor, "... rows"], Float[Tensor, "... rows parameters"]]:
    """Return residuals and their derivatives by all parameters, for each member of an ensemble.

    Every sample is given its own copy of the parameters, as if it were one more dimension of members: one backward pass
    then yields all rows.

    >>> model = KAN([1, 1], seed=0, num_cells=2, order=1, base=None)
    >>> jacobian(model, torch.tensor([[0.5]]), torch.zeros(1, 1))[1].tolist()
    [[0.0, 0.5, 0.5]]
    """
    members = getattr(model, "members", None)
    lead = () if members is None else (members,)
    rows = X.shape[-2]

    def for_each_sample(tensor: Tensor) -> Tensor:
        own = tensor.detach()
        place = len(lead)
        return own.unsqueeze(place).expand(*lead, rows, *own.shape[place:])

    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    state = {name: for_each_sample(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    for name in names:
        state[name] = state[name].clone().requires_grad_()
    samples = X.expand(*lead, *X.shape[-2:])[..., None, :]
    targets = y.expand(*lead, *y.shape[-2:])[..., None, :]
    found = residual(lambda x: functional_call(model, state, (x,)), samples, targets).squeeze(-2)
    columns = []
    for output in range(found.shape[-1]):
        grads = torch.autograd.grad(
            found[..., output].sum(), [state[name] for name in names], retain_graph=True, materialize_grads=True
        )
        columns.append(torch.cat([grad.reshape(*lead, rows, -1) for grad in grads], -1))
    return found.detach().flatten(-2), torch.stack(columns, -2).flatten(-3, -2)


def levenberg_marquardt(
    model: nn.Module,
    X: Float[Tensor, "... batch in"],
    y: Float[Tensor, "... batch out"],
    *,
    num_steps: int = 50,
    damping: float = 1e-2,
    ridge: float = 0.0,
    residual: Residual = difference,
    follow: Sequence[int] = (),
    blend: float = 0.02,
    follow_inputs: bool = True,
    test: tuple[Tensor, Tensor] | None = None,
    report: Callable[[int], None] | None = None,
) -> History:
    """Fit all members of an ensemble (or one network) by least squares.

    Parameters
    ----------
    X, y
        Data that all members share, or with a leading dimension of members.
    damping
        Where each member's λ starts.
    ridge
        Adds `ridge` · |parameters|² to the sum of squares.
    residual
        `residual(function, X, y)` of what must become zero; outputs minus targets by default. It may differentiate the
        function, row by row, and so solve a differential equation.
    follow
        Steps before which the grids of a KAN follow its data, with `blend` as in `KANLayer.follow`; with `follow_inputs`
        those of the first layer too.
    test
        Inputs and targets to record a test loss on.
    report
        Called with the number of the step, for a progress bar.

    Raises
    ------
    ValueError
        If a number is out of range or data do not fit together.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> model = KAN([1, 1], seed=0, dtype=torch.float64, num_cells=8)
    >>> bool(levenberg_marquardt(model, X, X.exp(), num_steps=15).loss[-1] < 1e-9)
    True
    """
    check_int(0, num_steps=num_steps)
    check_positive(damping=damping)
    check_nonnegative(ridge=ridge)
    if X.shape[-2] != y.shape[-2]:
        raise ValueError(f"X and y must have as many rows, got {X.shape[-2]} and {y.shape[-2]}.")
    members = getattr(model, "members", None)
    if members is not None:
        # Each member has points of its own, so that a residual that differentiates by them does not sum over members.
        X, y = X.expand(members, *X.shape[-2:]), y.expand(members, *y.shape[-2:])
    strength = torch.full((members or 1,), damping, dtype=X.dtype, device=X.device)
    losses, test_losses = [_mean_square(model, X, y, residual)], []
    if test is not None:
        test_losses.append(_mean_square(model, *test, difference))
    for step in range(num_steps):
        if step in follow and isinstance(model, KAN):
            model.follow(X, blend=blend, inputs=follow_inputs)
            losses[-1] = _mean_square(model, X, y, residual)
        old = _flatten(model)
        errors, rows = jacobian(model, X, y, residual)
        errors, rows = errors.view(len(strength), -1), rows.view(len(strength), -1, old.shape[-1])
        count = errors.shape[-1]
        normal = rows.mT @ rows / count
        pull = (rows.mT @ errors[..., None])[..., 0] / count + ridge * old
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        size = diagonal + 1e-8 * diagonal.amax(-1, keepdim=True) + torch.finfo(X.dtype).tiny
        penalty = ridge * old.square().sum(-1)
        # A member whose step did not help tries a shorter one at once: the Jacobian was the dear part.
        open_ = torch.ones_like(strength, dtype=torch.bool)
        new = old
        for _ in range(4):
            shifted = normal + torch.diag_embed(strength[:, None] * size + ridge)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            move = torch.cholesky_solve(-pull[..., None], factor)[..., 0]
            tried = torch.where((open_ & (failed == 0))[:, None], old + move, new)
            _unflatten(model, tried)
            loss = _mean_square(model, X, y, residual)
            better = loss + ridge * tried.square().sum(-1) < losses[-1] + penalty
            won = open_ & better & (failed == 0)
            new = torch.where(won[:, None], tried, new)
            strength = torch.where(won, (strength / 5).clamp_min(1e-14), torch.where(open_, strength * 4, strength))
            open_ = open_ & ~won
            if not bool(open_.any()):
                break
        strength = strength.clamp_max(1e8)
        _unflatten(model, new)
        losses.append(_mean_square(model, X, y, residual))
        if test is not None:
            test_losses.append(_mean_square(model, *test, difference))
        if report is not None:
            report(step)
    return History(torch.stack(losses), torch.stack(test_losses) if test is not None else None)


@torch.no_grad()
def _flatten(model: nn.Module) -> Tensor:
    members = getattr(model, "members", None) or 1
    return torch.cat([p.detach().reshape(members, -1) for p in model.parameters() if p.requires_grad], -1)


@torch.no_grad()
def _unflatten(model: nn.Module, flat: Tensor) -> None:
    members, place = flat.shape[0], 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            size = parameter.numel() // members
            parameter.copy_(flat[:, place : place + size].reshape(parameter.shape))
            place += size


def _mean_square(model: nn.Module, X: Tensor, y: Tensor, residual: Residual) -> Tensor:
    with torch.set_grad_enabled(residual is not difference):
        errors = residual(model, X, y).detach()
    return errors.square().mean((-2, -1)).reshape(-1).nan_to_num(nan=torch.inf)


def regularization(model: KAN, x: Float[Tensor, "... batch in"], *, entropy: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the outputs, and the sum over layers of the L1 norm and `entropy` times the entropy of edges.

    An edge's norm is the mean absolute value of its function on the data [kan-liu, eq. 2.17 to 2.20]. L1 makes edges
    small; entropy makes few of them carry the sum.

    >>> y, penalty = regularization(KAN([2, 1], seed=0), torch.zeros(3, 2))
    >>> bool(penalty >= 0)
    True
    """
    total = x.new_zeros(())
    for index in range(len(model.layers)):
        edges = model[index].edges(x)
        norm = edges.abs().mean(-3)
        sums = norm.sum((-2, -1), keepdim=True)
        share = norm / (sums + 1e-12)
        total = total + sums.sum() - entropy * (share * (share + 1e-12).log()).sum()
        x = edges.sum(-2)
    return x, total


def train(
    model: nn.Module,
    X: Float[Tensor, "... batch in"],
    y: Float[Tensor, "... batch out"],
    *,
    method: str = "levenberg-marquardt",
    num_steps: int = 50,
    lr: float | None = None,
    lamb: float = 0.0,
    entropy: float = 1.0,
    follow: Sequence[int] = (),
    blend: float = 0.02,
    follow_inputs: bool = True,
    test: tuple[Tensor, Tensor] | None = None,
    report: Callable[[int], None] | None = None,
    **options: Any,
) -> History:
    """Fit a network, or an ensemble with `members`, to data by its mean squared error.

    Parameters
    ----------
    method
        "levenberg-marquardt"; "lbfgs" (a step is up to 20 evaluations with line search; one network, members would share
        their line search); or "adam" (a step is one evaluation of all data).
    lr
        Learning rate; 1 for L-BFGS and 0.01 for Adam if None.
    lamb, entropy
        Weight of `regularization`, and of the entropy in it; not with Levenberg-Marquardt.
    follow, blend, follow_inputs
        Steps before which grids follow the data, as in `levenberg_marquardt`.
    options
        Of `levenberg_marquardt`.

    Raises
    ------
    ValueError
        If the method is unknown, regularisation is asked of a method that has none, or the data do not fit together.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> history = train(KAN([1, 1], seed=0, dtype=torch.float64), X, X.sin(), method="lbfgs", num_steps=3)
    >>> bool(history.loss[-1] < 1e-4)
    True
    """
    check_choice(METHODS, method=method)
    check_nonnegative(lamb=lamb, entropy=entropy)
    check_int(0, num_steps=num_steps)
    if X.ndim == y.ndim == 2:
        check_same_length(X=X, y=y)
    if method == "levenberg-marquardt":
        if lamb:
            raise ValueError("lamb must be 0 with levenberg-marquardt, which solves least squares; use lbfgs or adam.")
        return levenberg_marquardt(
            model,
            X,
            y,
            num_steps=num_steps,
            follow=follow,
            blend=blend,
            follow_inputs=follow_inputs,
            test=test,
            report=report,
            **options,
        )
    members = getattr(model, "members", None)
    if method == "lbfgs" and members not in (None, 1):
        raise ValueError(
            f"method 'lbfgs' trains one network, got an ensemble of {members}: it would share one line search."
        )
    losses, test_losses = [_mean_square(model, X, y, difference)], []
    if test is not None:
        test_losses.append(_mean_square(model, *test, difference))

    def make() -> torch.optim.Optimizer:
        if method == "lbfgs":
            return torch.optim.LBFGS(
                model.parameters(),
                lr=lr or 1.0,
                line_search_fn="strong_wolfe",
                tolerance_grad=1e-32,
                tolerance_change=1e-32,
            )
        return torch.optim.Adam(model.parameters(), lr=lr or 1e-2)

    optimizer = make()

    def closure() -> Tensor:
        optimizer.zero_grad()
        # A sum over members: each has the gradient that it would have alone.
        if lamb and isinstance(model, KAN):
            output, penalty = regularization(model, X, entropy=entropy)
            loss = (output - y).square().mean((-2, -1)).sum() + lamb * penalty
        else:
            loss = (model(X) - y).square().mean((-2, -1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    for step in range(num_steps):
        if step in follow and isinstance(model, KAN):
            model.follow(X, blend=blend, inputs=follow_inputs)
            optimizer = make()  # curvature and means were those of other coefficients
        optimizer.step(closure)  # type: ignore[arg-type]
        losses.append(_mean_square(model, X, y, difference))
        if test is not None:
            test_losses.append(_mean_square(model, *test, difference))
        if report is not None:
            report(step)
    return History(torch.stack(losses), torch.stack(test_losses) if test is not None else None)


@torch.no_grad()
def choose(model: KAN | BatchedMLP, indices: Sequence[int] | Tensor) -> KAN | BatchedMLP:
    """Return an ensemble of some members of an ensemble.

    >>> choose(KAN([1, 1], seed=0, members=4), [2, 0]).members
    2
    """
    if model.members is None:
        raise ValueError("model must be an ensemble, got one network.")
    places = torch.as_tensor(indices)
    some = copy.deepcopy(model)
    some.members = len(places)
    for module in some.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter[places].clone()))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer[places].clone())
        if isinstance(module, KANLayer):
            module.lead = (len(places),)
    return some


@torch.no_grad()
def rmse(
    model: nn.Module, X: Float[Tensor, "... batch in"], y: Float[Tensor, "... batch out"]
) -> Float[Tensor, " members"]:
    """Return the root of the mean squared error, of each member.

    >>> rmse(KAN([1, 1], seed=0, members=2), torch.zeros(3, 1), torch.zeros(3, 1)).shape
    torch.Size([2])
    """
    return _mean_square(model, X, y, difference).sqrt()
