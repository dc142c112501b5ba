"""Learning without overwriting: lateral Hebbian synapses find what old tasks use, and new learning keeps off it [hlop].

The change of a synapse is (error of the target) × (trace of the source). If the traces of a new task are freed of all that
lies in the subspace of the old tasks' traces, the layer's answers to the old tasks stay as they are:

    y = H x            lateral neurons, one a direction of the old tasks
    x̃ = x − Hᵀ y       the trace, less what the lateral neurons account for
    ΔW = δ x̃ᵀ          so ΔW x = 0 for every old x = Hᵀ(…)

H itself is learnt by a Hebbian and an anti-Hebbian term, ΔH ∝ y xᵀ − y yᵀ H (Oja's rule), whose rest points span the
principal subspace. All tensors may carry leading dimensions (members of an ensemble).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive, check_same_last_dim


def project_out(
    change: Float[Tensor, "*members outputs inputs"], lateral: Float[Tensor, "*members neurons inputs"]
) -> Float[Tensor, "*members outputs inputs"]:
    """Free a change of weights of all that old tasks would feel: ΔW − ΔW Hᵀ H [hlop, eq. 7].

    >>> project_out(torch.ones(1, 2), torch.tensor([[1.0, 0.0]])).tolist()
    [[0.0, 1.0]]
    """
    check_same_last_dim(change=change, lateral=lateral)
    freed: Tensor = change - change @ lateral.mT @ lateral
    return freed


def hebbian_step(
    lateral: Float[Tensor, "*members neurons inputs"], traces: Float[Tensor, "*members batch inputs"], *, lr: float
) -> Float[Tensor, "*members neurons inputs"]:
    """Return H after one step of y xᵀ − y yᵀ H, averaged over a batch of traces [hlop, eq. 6].

    >>> H = torch.tensor([[0.6, 0.8]])
    >>> x = torch.tensor([[2.0, 0.0]])
    >>> for _ in range(100):
    ...     H = hebbian_step(H, x, lr=0.1)
    >>> H.abs().round(decimals=3).tolist()
    [[1.0, 0.0]]
    """
    check_positive(lr=lr)
    check_same_last_dim(lateral=lateral, traces=traces)
    y = traces @ lateral.mT
    batch = traces.shape[-2]
    return lateral + (lr / batch) * (y.mT @ traces - (y.mT @ y) @ lateral)


def learn_lateral(
    traces: Float[Tensor, "*members samples inputs"],
    num_neurons: int,
    *,
    old: Float[Tensor, "*members neurons inputs"] | None = None,
    num_steps: int = 200,
    batch_size: int = 100,
    generator: torch.Generator,
) -> Float[Tensor, "*members neurons inputs"]:
    """Add `num_neurons` lateral neurons that learn the principal subspace of what the `old` ones do not account for.

    Parameters
    ----------
    traces
        Presynaptic traces of the task just learnt.
    old
        Lateral neurons of earlier tasks; they stay as they are.

    Returns
    -------
    Tensor
        All lateral neurons, old ones first.

    Raises
    ------
    ValueError
        If there would be more lateral neurons than inputs.

    >>> H = learn_lateral(torch.randn(50, 4), 2, generator=torch.Generator().manual_seed(0))
    >>> H.shape
    torch.Size([2, 4])
    """
    inputs = traces.shape[-1]
    taken = 0 if old is None else old.shape[-2]
    check_int(1, inputs - taken, num_neurons=num_neurons)
    check_int(1, num_steps=num_steps, batch_size=batch_size)
    residual = traces if old is None else traces - traces @ old.mT @ old
    shape = (*traces.shape[:-2], num_neurons, inputs)
    start = torch.randn(shape, generator=generator).to(residual)
    # Start among the traces themselves: a random start spends most of its energy where there is nothing.
    new = start @ (residual.mT @ residual / residual.shape[-2])
    new = torch.linalg.qr(new.mT).Q.mT.contiguous()
    # Oja's rule is stable for steps below the inverse of the largest variance.
    largest = (residual @ new.mT).square().sum(-1).mean(-1)
    for step in range(num_steps):
        chosen = torch.randint(0, residual.shape[-2], (min(batch_size, residual.shape[-2]),), generator=generator)
        x = residual[..., chosen, :] / largest.sqrt()[..., None, None]
        new = hebbian_step(new, x, lr=1.0 * (1 - step / num_steps) + 0.05)
    return new if old is None else torch.cat([old, new], -2)


def captured_energy(
    traces: Float[Tensor, "*members samples inputs"], lateral: Float[Tensor, "*members neurons inputs"]
) -> Float[Tensor, "*members"]:
    """Return the share of the traces' energy that lies in the span of the lateral synapses.

    >>> round(float(captured_energy(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))), 2)
    0.64
    """
    basis = torch.linalg.qr(lateral.mT).Q
    share: Tensor = (traces @ basis).square().sum((-2, -1)) / traces.square().sum((-2, -1))
    return share


def principal_energy(traces: Float[Tensor, "*members samples inputs"], rank: int) -> Float[Tensor, "*members"]:
    """Return the share of energy that the best subspace of the given rank (that of uncentred PCA) captures.

    >>> round(float(principal_energy(torch.tensor([[3.0, 4.0]]), 1)), 2)
    1.0
    """
    check_int(1, traces.shape[-1], rank=rank)
    values = torch.linalg.eigvalsh(traces.mT @ traces)
    share: Tensor = values[..., -rank:].sum(-1) / values.sum(-1)
    return share
