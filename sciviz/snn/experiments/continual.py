"""Experiments on learning tasks in sequence: plain training forgets, Hebbian orthogonal projection does not."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable
from sciviz.snn.experiments._digits import digit_splits, sub_seeds
from sciviz.snn.neurons import exponential_filter, lif
from sciviz.snn.projection import captured_energy, learn_lateral, principal_energy, project_out

ARMS = ("plain", "HLOP")


def tasks_in_sequence(
    *,
    seed: int,
    num_seeds: int = 5,
    num_tasks: int = 3,
    num_hidden: int = 200,
    num_times: int = 6,
    decay: float = 0.5,
    ranks: tuple[int, int] = (50, 50),
    num_train: int = 1000,
    num_steps: int = 120,
    batch_size: int = 50,
    lr: float = 0.1,
) -> xr.Dataset:
    """Learn digits under one permutation of the pixels after another, with one output layer for all tasks.

    Digits are drawn at 16 by 16 pixels, and enter as constant currents. One spiking layer, no biases; SGD with momentum,
    in both arms alike. After each task lateral neurons of both layers learn the task's traces.

    Parameters
    ----------
    ranks
        Lateral neurons that each task adds to the input and to the hidden layer.

    Returns
    -------
    xr.Dataset
        `accuracy` (arm, seed, after, task): on each task after each training, NaN before a task was learnt; `captured`
        and `best` (layer, seed): share of the first task's energy that the lateral synapses and PCA of equal rank
        capture.

    >>> ds = tasks_in_sequence(seed=0, num_seeds=1, num_tasks=2, num_steps=1, num_hidden=20, ranks=(5, 5), num_train=50)
    >>> dict(ds.accuracy.sizes)
    {'arm': 2, 'seed': 1, 'after': 2, 'task': 2}
    """
    check_int(1, num_seeds=num_seeds, num_tasks=num_tasks, num_times=num_times, num_steps=num_steps)
    check_positive(lr=lr)
    digits = digit_splits(seed, num_seeds, num_train=num_train)
    generators = [torch.Generator().manual_seed(s) for s in sub_seeds(seed, num_seeds)]

    def enlarge(X: Tensor) -> Tensor:
        image = X.reshape(-1, 1, 8, 8)
        large = torch.nn.functional.interpolate(image, size=(16, 16), mode="bilinear", align_corners=False)
        return large.reshape(*X.shape[:2], 256)

    orders = [torch.stack([torch.randperm(256, generator=g) for g in generators]) for _ in range(num_tasks)]

    def permuted(X: Tensor, task: int) -> Tensor:
        moved = X.gather(2, orders[task][:, None].expand_as(X))
        return moved.repeat(2, 1, 1)

    X, X_test = enlarge(digits.X), enlarge(digits.X_test)
    y, y_test = digits.y.repeat(2, 1), digits.y_test.repeat(2, 1)
    into = torch.stack([torch.randn(num_hidden, 256, generator=g) * (1.0 / 64) ** 0.5 for g in generators])
    out = torch.stack([torch.randn(10, num_hidden, generator=g) / num_hidden**0.5 for g in generators])
    into, out = into.repeat(2, 1, 1).requires_grad_(), out.repeat(2, 1, 1).requires_grad_()

    def forward(X: Tensor) -> tuple[Tensor, Tensor]:
        current = (X @ into.mT).expand(num_times, -1, -1, -1)
        spikes = lif(current, decay=decay).spikes
        # What reaches the output over all time: the mean of the traces.
        trace = exponential_filter(spikes, decay=decay).mean(0)
        return trace @ out.mT, trace

    shared = torch.Generator().manual_seed(sub_seeds(seed, num_seeds)[0])
    accuracy = torch.full((2 * num_seeds, num_tasks, num_tasks), float("nan"))
    laterals: list[Tensor | None] = [None, None]
    captured, best = torch.zeros(2, num_seeds), torch.zeros(2, num_seeds)
    for task in range(num_tasks):
        now = permuted(X, task)
        optimizer = torch.optim.SGD([into, out], lr=lr, momentum=0.9)
        for _ in range(num_steps):
            chosen = torch.randperm(num_train, generator=shared)[:batch_size]
            logits, _ = forward(now[:, chosen])
            loss = torch.nn.functional.cross_entropy(logits.mT, y[:, chosen], reduction="none").mean(1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter, lateral in zip((into, out), laterals, strict=True):
                if lateral is not None and parameter.grad is not None:
                    parameter.grad[num_seeds:] = project_out(parameter.grad[num_seeds:], lateral)
            optimizer.step()
        with torch.no_grad():
            for k in range(task + 1):
                right = forward(permuted(X_test, k))[0].argmax(-1) == y_test
                accuracy[:, task, k] = right.float().mean(1)
            if task < num_tasks - 1:
                traces = (now[num_seeds:], forward(now)[1][num_seeds:])
                for i, (seen, rank) in enumerate(zip(traces, ranks, strict=True)):
                    laterals[i] = lateral = learn_lateral(seen, rank, old=laterals[i], generator=shared)
                    if task == 0:
                        captured[i], best[i] = captured_energy(seen, lateral), principal_energy(seen, rank)
    return dataset(
        "Tasks in sequence",
        {
            "arm": variable("arm", list(ARMS), "training"),
            "seed": variable("seed", range(num_seeds), "draw of the tasks and network"),
            "after": variable("after", range(1, num_tasks + 1), "tasks learnt"),
            "task": variable("task", range(1, num_tasks + 1), "task"),
            "layer": variable("layer", ["input", "hidden"], "source of the traces"),
        },
        {
            "accuracy": variable(
                "arm seed after task", accuracy.reshape(2, num_seeds, num_tasks, num_tasks), "test accuracy"
            ),
            "captured": variable("layer seed", captured, "energy in the lateral subspace"),
            "best": variable("layer seed", best, "energy in PCA's subspace of equal rank"),
        },
        num_tasks=num_tasks,
        num_steps=num_steps,
    )


def forgetting(ds: xr.Dataset) -> xr.DataArray:
    """Return, by arm and seed, how much accuracy tasks but the last lost from when they were learnt to the end.

    >>> ds = tasks_in_sequence(seed=0, num_seeds=1, num_tasks=2, num_steps=1, num_hidden=20, ranks=(5, 5), num_train=50)
    >>> forgetting(ds).dims
    ('arm', 'seed')
    """
    losses = [
        ds.accuracy.isel(after=k, task=k) - ds.accuracy.isel(after=-1, task=k) for k in range(ds.sizes["task"] - 1)
    ]
    mean = sum(loss.values for loss in losses) / len(losses)
    return xr.DataArray(
        mean, dims=("arm", "seed"), coords={"arm": ds.arm}, attrs={"long_name": "forgetting", "units": "1"}
    )


def forgetting_claim(ds: xr.Dataset) -> ClaimResult:
    """`hlop/forgetting`: with lateral projection early tasks are kept, without it they are lost."""
    lost = forgetting(ds)
    plain, kept = float(lost.sel(arm="plain").mean()), float(lost.sel(arm="HLOP").mean())
    text = "mean forgetting with HLOP at most 0.05 and at most a tenth of plain training's; permuted digits, one output layer"
    holds = bool(kept <= 0.05 and kept <= 0.1 * plain) if ds.sizes["seed"] >= 3 else None
    return ClaimResult({"HLOP": kept, "plain": plain}, holds, text, float(lost.sel(arm="HLOP").std()), ds.sizes["seed"])


def subspace_claim(ds: xr.Dataset) -> ClaimResult:
    """`hlop/subspace`: Hebbian learning finds a subspace as good as PCA's."""
    ratio = (ds.captured / ds.best).values
    text = "energy in the lateral subspace at least 0.95 of what PCA of equal rank captures; both layers, every seed"
    holds = bool((ratio >= 0.95).all()) if ds.sizes["seed"] >= 3 else None
    return ClaimResult(float(ratio.min()), holds, text, float(ratio.std()), ds.sizes["seed"])
