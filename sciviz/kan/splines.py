"""B-splines evaluated where they are: of all bases of a grid only `order` + 1 are not zero at a point.

A grid of G cells, continued by `order` knots on each side, carries G + order bases B_0 … B_{G+order-1} [kan-liu, §2.2].
In a cell they are polynomials, given by the recursion of Cox and de Boor,

    B_{r,d}(x) = (x - t_r) V_r + (t_{r+d+1} - x) V_{r+1},     V_r = B_{r,d-1}(x) / (t_{r+d} - t_r),

and their derivatives by B'_{r,d} = d (V_r - V_{r+1}). Both use the same V, and at a point in the cell [t_i, t_{i+1}) only
V_{i-d+1} … V_i are not zero: the cost of a point does not depend on how many cells there are.

Shapes: `x` is (..., batch, in), `knots` (..., in, cells + 2 order + 1), each input with a grid of its own; coefficients
are (..., in, cells + order, out). Leading dimensions are members of an ensemble.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from sciviz.lab.checks import check_int, check_ndim
from sciviz.lab.products import product

# Up to this many bases an edge, multiplying by zeros in one matrix product beats looking up what is not zero.
DENSE_UP_TO = 64


def make_knots(
    low: float | Float[Tensor, "..."],
    high: float | Float[Tensor, "..."],
    num_cells: int,
    order: int,
    *,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "... knots"]:
    """Return evenly spaced knots: `num_cells` cells from `low` to `high`, continued by `order` cells on each side.

    Raises
    ------
    ValueError
        If a size is out of range, or `high` is not above `low`.

    >>> make_knots(0.0, 1.0, 2, 1).tolist()
    [-0.5, 0.0, 0.5, 1.0, 1.5]
    """
    check_int(1, num_cells=num_cells)
    check_int(0, 5, order=order)
    low, high = torch.as_tensor(low, dtype=dtype), torch.as_tensor(high, dtype=dtype)
    if not bool((high > low).all()):
        raise ValueError("high must be above low for every input, got a grid of no width.")
    place = torch.arange(-order, num_cells + order + 1, dtype=low.dtype, device=low.device) / num_cells
    # The two ends are hit exactly: what lies between is a weighted mean, not a sum of steps.
    return low[..., None] * (1 - place) + high[..., None] * place


def extend_knots(inner: Float[Tensor, "... inner"], order: int) -> Float[Tensor, "... knots"]:
    """Continue the knots of a domain by `order` cells on each side, as wide as the mean cell.

    >>> extend_knots(torch.tensor([0.0, 1.0, 4.0]), 1).tolist()
    [-2.0, 0.0, 1.0, 4.0, 6.0]
    """
    step = (inner[..., -1:] - inner[..., :1]) / (inner.shape[-1] - 1)
    away = torch.arange(1, order + 1, dtype=inner.dtype, device=inner.device) * step
    return torch.cat([inner[..., :1] - away.flip(-1), inner, inner[..., -1:] + away], -1)


def find_cell(x: Float[Tensor, "... batch in"], knots: Float[Tensor, "... in knots"], order: int) -> Int[Tensor, "..."]:
    """Return the index i of the knot to the left of each point, t_i <= x < t_{i+1}; points outside get the cell at the end.

    >>> find_cell(torch.tensor([[0.0], [0.5], [1.0], [9.0]]), make_knots(0.0, 1.0, 2, 1)[None], 1).flatten().tolist()
    [1, 2, 2, 2]
    """
    last = knots.shape[-1] - order - 2
    full = knots.expand(*x.shape[:-2], *knots.shape[-2:])
    cell = torch.searchsorted(full.contiguous(), x.detach().mT.contiguous(), right=True).mT - 1
    return cell.clamp(order, last)


def local_bases(
    x: Float[Tensor, "... batch in"],
    knots: Float[Tensor, "... in knots"],
    order: int,
    *,
    derivative: int = 0,
    even: bool = False,
) -> tuple[Int[Tensor, "... batch in"], Float[Tensor, "... batch in bases"]]:
    """Evaluate the bases that are not zero at each point, or a derivative of them.

    Parameters
    ----------
    derivative
        Which derivative; gradients flow to `x`, through any number of derivatives, and not to `knots`.
    even
        Whether the knots are evenly spaced, which saves arithmetic.

    Returns
    -------
    The number of the first basis that is not zero, (..., batch, in), and its value with those of the `order` bases after
    it, (..., batch, in, order + 1). Outside the grid the polynomials of the cell at the end are continued.

    >>> first, value = local_bases(torch.tensor([[0.25]]), make_knots(0.0, 1.0, 2, 1)[None], 1)
    >>> int(first), value.flatten().tolist()
    (0, [0.5, 0.5])
    """
    check_int(0, 5, order=order)
    check_int(0, derivative=derivative)
    lead = torch.broadcast_shapes(x.shape[:-2], knots.shape[:-2])  # type: ignore[no-untyped-call]
    x = x.expand(*lead, *x.shape[-2:])
    if even and derivative < order:
        with torch.no_grad():
            low, step = _even(knots, order)
            cell = ((x - low) / step).floor_().long().clamp_(0, knots.shape[-1] - 2 * order - 2)
        value: Tensor = _Bases.apply(x, knots, cell + order, order, derivative, True)  # type: ignore[no-untyped-call]
        return cell, value
    cell = find_cell(x, knots, order)
    value = _Bases.apply(x, knots, cell, order, derivative, False)  # type: ignore[no-untyped-call]
    return cell - order, value


class _Bases(torch.autograd.Function):
    """Values of bases, whose gradient is the next derivative's values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: Tensor, cell: Tensor, order: int, derivative: int, even: bool) -> Tensor:
        ctx.save_for_backward(x, knots, cell)
        ctx.rest = (order, derivative, even)
        if derivative > order:
            return x.new_zeros(*x.shape, order + 1)
        if even and derivative < order:
            return _even_bases(x, knots, cell, order, derivative)
        return _recursion(x, knots, cell, order, derivative)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, knots, cell = ctx.saved_tensors
        order, derivative, even = ctx.rest
        slope = _Bases.apply(x, knots, cell, order, derivative + 1, even)  # type: ignore[no-untyped-call]
        return (grads[0] * slope).sum(-1), None, None, None, None, None


def _recursion(x: Tensor, knots: Tensor, cell: Tensor, order: int, derivative: int) -> Tensor:
    """Cox and de Boor's recursion on the 2 · order knots around each point, as in this module's first lines."""
    around = cell[..., None] + torch.arange(1 - order, order + 1, device=x.device)
    near = knots[..., None, :, :].expand(*x.shape, knots.shape[-1]).gather(-1, around)
    point = x[..., None]
    bases = torch.ones_like(point)
    for d in range(1, order + 1):
        left, right = near[..., order - d : order], near[..., order : order + d]
        share = bases / (right - left)
        if d <= order - derivative:
            bases = pad((right - point) * share, (0, 1)) + pad((point - left) * share, (1, 0))
        else:
            bases = d * (pad(share, (1, 0)) - pad(share, (0, 1)))
    return bases


def _even(knots: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return the low end and the width of a cell of evenly spaced knots, each (..., 1, in)."""
    num_cells = knots.shape[-1] - 2 * order - 1
    low, high = knots[..., None, :, order], knots[..., None, :, order + num_cells]
    return low, (high - low) / num_cells


def _even_bases(x: Tensor, knots: Tensor, cell: Tensor, order: int, derivative: int) -> Tensor:
    """With even knots all cells hold the same polynomials of u, the place in the cell from 0 to 1."""
    low, step = _even(knots, order)
    u = (x - low) / step - (cell - order)
    matrix = _cell_polynomials(order, derivative).to(x)
    powers = [torch.ones_like(u)]
    for _ in range(order - derivative):
        powers.append(powers[-1] * u)
    # Power by power in memory: a product with so small a matrix is fast along rows of many points.
    values = (matrix.mT @ torch.stack(powers).flatten(1)).view(matrix.shape[1], *u.shape).movedim(0, -1)
    return values / step[..., None] ** derivative if derivative else values


@cache
def _cell_polynomials(order: int, derivative: int) -> Tensor:
    """Coefficients (power of u, basis) of the bases in one cell of width one, or of their derivative."""
    columns = [torch.tensor([1.0], dtype=torch.float64)]
    for d in range(1, order + 1):
        new = [torch.zeros(d + 1, dtype=torch.float64) for _ in range(d + 1)]
        for s, column in enumerate(columns):
            # The recursion with t_r = s - d + 1 and t_{r+d} = s + 1, where u = x - t_i.
            left, right = float(s - d + 1), float(s + 1)
            new[s][:-1] += right * column / d
            new[s][1:] -= column / d
            new[s + 1][:-1] -= left * column / d
            new[s + 1][1:] += column / d
        columns = new
    matrix = torch.stack(columns, -1)
    for _ in range(derivative):
        matrix = matrix[1:] * torch.arange(1, len(matrix), dtype=torch.float64)[:, None]
    return matrix


def spread(
    first: Int[Tensor, "... batch in"], value: Float[Tensor, "... batch in local"], num_bases: int
) -> Float[Tensor, "... batch in bases"]:
    """Write the bases that are not zero among all of a grid's.

    >>> spread(torch.tensor([[1]]), torch.tensor([[[0.5, 0.5]]]), 4).flatten().tolist()
    [0.0, 0.5, 0.5, 0.0]
    """
    where = first[..., None] + torch.arange(value.shape[-1], device=value.device)
    return value.new_zeros(*value.shape[:-1], num_bases).scatter_(-1, where, value)


def sum_plain(
    first: Int[Tensor, "... batch in"],
    value: Float[Tensor, "... batch in local"],
    coef: Float[Tensor, "... in bases out"],
) -> Float[Tensor, "... batch out"]:
    """Sum splines over inputs, by one matrix product with all bases: the plain form of `sum_local`."""
    dense = spread(first, value, coef.shape[-2])
    return product(dense.flatten(-2), coef.flatten(-3, -2))


def sum_local(
    first: Int[Tensor, "... batch in"],
    value: Float[Tensor, "... batch in local"],
    coef: Float[Tensor, "... in bases out"],
) -> Float[Tensor, "... batch out"]:
    """Sum splines over inputs, y[b, o] = Σ_i Σ_j value[b, i, j] · coef[i, first[b, i] + j, o], by looking up what is not zero.

    The arithmetic of a point does not depend on the number of bases.

    >>> first, value = torch.tensor([[1]]), torch.tensor([[[0.25, 0.75]]])
    >>> sum_local(first, value, torch.tensor([[[0.0], [4.0], [8.0]]])).item()
    7.0
    """
    num_in, num_bases, num_out = coef.shape[-3:]
    members = value.shape[:-3]
    table = coef.expand(*members, num_in, num_bases, num_out).reshape(-1, num_out)
    starts = torch.arange(table.shape[0] // num_bases, device=value.device).view(*members, 1, num_in, 1) * num_bases
    row = starts + first[..., None] + torch.arange(value.shape[-1], device=value.device)
    width = num_in * value.shape[-1]
    total: Tensor = _BagSum.apply(row.reshape(-1, width), value.reshape(-1, width), table)  # type: ignore[no-untyped-call]
    return total.view(*value.shape[:-2], num_out)


class _BagSum(torch.autograd.Function):
    """`embedding_bag`, which torch differentiates once; where a graph of the gradient is asked for, by plain look-up."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, weight: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(row, weight, table)
        return embedding_bag(row, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        row, weight, table = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled():
            to_weight = (table[row] * grad[:, None, :]).sum(-1)
            pieces = (weight[..., None] * grad[:, None, :]).reshape(-1, grad.shape[-1])
            return None, to_weight, torch.zeros_like(table).index_add(0, row.reshape(-1), pieces)
        wanted = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            parts = [part.detach().requires_grad_(want) for part, want in zip((weight, table), wanted, strict=True)]
            again = embedding_bag(row, parts[1], per_sample_weights=parts[0], mode="sum")
        found = iter(torch.autograd.grad(again, [part for part, want in zip(parts, wanted, strict=True) if want], grad))
        return None, *(next(found) if want else None for want in wanted)


def sum_splines(
    first: Int[Tensor, "... batch in"],
    value: Float[Tensor, "... batch in local"],
    coef: Float[Tensor, "... in bases out"],
) -> Float[Tensor, "... batch out"]:
    """Sum splines over inputs by whichever of `sum_plain` and `sum_local` is faster at this number of bases."""
    return (sum_plain if coef.shape[-2] <= DENSE_UP_TO else sum_local)(first, value, coef)


def design_matrix(
    x: Float[Tensor, "... batch in"], knots: Float[Tensor, "... in knots"], order: int, *, derivative: int = 0
) -> Float[Tensor, "... batch in bases"]:
    """Return the values of all bases at each point, most of them zero.

    >>> design_matrix(torch.tensor([[0.25]]), make_knots(0.0, 1.0, 2, 1)[None], 1).flatten().tolist()
    [0.5, 0.5, 0.0]
    """
    first, value = local_bases(x, knots, order, derivative=derivative)
    return spread(first, value, knots.shape[-1] - order - 1)


def fit_coefficients(
    matrix: Float[Tensor, "... batch bases"], y: Float[Tensor, "... batch out"], *, ridge: float = 1e-10
) -> Float[Tensor, "... bases out"]:
    """Fit coefficients by least squares; a trace of ridge (relative to the mean eigenvalue) settles what the points leave open.

    Raises
    ------
    ValueError
        If points and values differ in number.

    >>> fit_coefficients(torch.eye(2, dtype=torch.float64), torch.tensor([[2.0], [3.0]]).double()).round().tolist()
    [[2.0], [3.0]]
    """
    if matrix.shape[-2] != y.shape[-2]:
        raise ValueError(f"matrix and y must have as many rows, got {matrix.shape[-2]} and {y.shape[-2]}.")
    # Rows that ask for small coefficients: solved as one least-squares problem, normal equations would square the condition.
    size = matrix.square().sum((-2, -1), keepdim=True) / matrix.shape[-1]
    rows = (ridge * size).clamp_min(1e-300 if matrix.dtype == torch.float64 else 1e-30).sqrt()
    rows = rows * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    stacked = torch.cat([matrix, rows], -2)
    wanted = torch.cat([y, y.new_zeros(*y.shape[:-2], matrix.shape[-1], y.shape[-1])], -2)
    # QR is there on every device, and for batches.
    q, r = torch.linalg.qr(stacked)
    solution: Tensor = torch.linalg.solve_triangular(r, q.mT @ wanted, upper=True)
    return solution


def evaluate_spline(
    x: Float[Tensor, " batch"],
    knots: Float[Tensor, " knots"],
    coef: Float[Tensor, " bases"],
    order: int,
    *,
    derivative: int = 0,
) -> Float[Tensor, " batch"]:
    """Evaluate one spline, or a derivative of it, at points.

    Raises
    ------
    ValueError
        If a tensor is not one-dimensional.

    >>> knots = make_knots(0.0, 1.0, 2, 1)
    >>> evaluate_spline(torch.tensor([0.25, 0.5]), knots, torch.tensor([0.0, 1.0, 0.0]), 1).tolist()
    [0.5, 1.0]
    """
    check_ndim(1, x=x, knots=knots, coef=coef)
    first, value = local_bases(x[:, None], knots[None], order, derivative=derivative)
    return sum_splines(first, value, coef[None, :, None])[:, 0]
