"""Experiments on contrastive learning whose phases have no fixed order: what it costs, and what its updates look like."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.contrastive import SCHEDULES, HebbianWeights, contrastive_update, make_phases, make_weights, predict
from sciviz.snn.experiments._digits import digit_splits, one_hot, sub_seeds


def _stack(networks: list[HebbianWeights]) -> HebbianWeights:
    return HebbianWeights(*(torch.stack(parts) for parts in zip(*networks, strict=True)))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def flexible_phases(
    *,
    seed: int,
    num_seeds: int = 5,
    num_hidden: int = 64,
    num_train: int = 1000,
    num_epochs: int = 40,
    batch_size: int = 100,
    num_times: int = 60,
    mean_length: int = 4,
    lr: float = 0.2,
    feedback: float = 0.5,
    num_draws: int = 200,
    num_images: int = 20,
) -> xr.Dataset:
    """Train one contrastive Hebbian network on digits with strict phases and with random ones.

    Both arms start from the same draw and see the same batches; strict phases last until the network has settled, random
    ones come as they come for `num_times` moments. Seeds run as one ensemble. The accumulated sums are steps, with
    momentum and at a rate that falls to zero, in both arms alike.

    Returns
    -------
    xr.Dataset
        `accuracy` (schedule, seed, epoch) on test digits; `cosine` (seed) between the mean change of the output
        synapses over `num_draws` random schedules and the rigid change, at the weights after the flexible arm's first
        epoch, on `num_images` fixed images; `single_cosine` (seed) the same for single draws; and `phases` (time, sample),
        an example.

    >>> ds = flexible_phases(seed=0, num_seeds=2, num_epochs=1, num_train=100, num_draws=4)
    >>> dict(ds.accuracy.sizes)
    {'schedule': 2, 'seed': 2, 'epoch': 2}
    """
    check_int(1, num_seeds=num_seeds, num_epochs=num_epochs, batch_size=batch_size, num_draws=num_draws)
    check_int(2, num_times=num_times)
    check_positive(lr=lr)
    check_nonnegative(feedback=feedback)
    seeds = sub_seeds(seed, num_seeds)
    networks = [make_weights(64, num_hidden, 10, generator=torch.Generator().manual_seed(s)) for s in seeds]
    weights = HebbianWeights(*(t.repeat(2, 1, 1) for t in _stack(networks)))
    digits = digit_splits(seed, num_seeds, num_train=num_train)
    X, y = digits.X.repeat(2, 1, 1), one_hot(digits.y).repeat(2, 1, 1)
    X_test, y_test = digits.X_test.repeat(2, 1, 1), digits.y_test.repeat(2, 1)
    ours, theirs, shape = slice(0, num_seeds), slice(num_seeds, None), (num_seeds, batch_size)
    everyone = torch.ones(num_seeds, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seeds[0])
    optimizer = torch.optim.SGD(list(weights), lr=lr, momentum=0.9)
    # Twelve steps settle the network in each strict phase; more would change nothing.
    strict = make_phases("rigid", 24, num_seeds * batch_size, mean_length=mean_length, generator=generator)
    strict = torch.unflatten(strict, 1, shape)

    def accuracy() -> Tensor:
        right = predict(weights, X_test, feedback=feedback).argmax(-1) == y_test
        return right.float().mean(-1).reshape(2, num_seeds)

    num_updates = num_epochs * (num_train // batch_size)
    # Random phases make unbiased but noisy changes; a rate that falls to zero averages the noise away, in both arms.
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=num_updates)
    accuracies, cosine, single = [accuracy()], torch.zeros(num_seeds), torch.zeros(num_seeds)
    for epoch in range(num_epochs):
        order = torch.randperm(num_train, generator=generator)
        for chosen in torch.split(order[: num_train // batch_size * batch_size], batch_size):
            free = make_phases(
                "flexible", num_times, num_seeds * batch_size, mean_length=mean_length, generator=generator
            )
            parts = []
            for part, phases, read in ((ours, strict, everyone), (theirs, torch.unflatten(free, 1, shape), None)):
                now = HebbianWeights(*(t[part] for t in weights))
                parts.append(
                    contrastive_update(now, X[part, chosen], y[part, chosen], phases, rigid=read, feedback=feedback)
                )
            for parameter, *steps in zip(weights, *parts, strict=True):
                parameter.grad = -torch.cat(steps)
            optimizer.step()
            schedule.step()
        accuracies.append(accuracy())
        if epoch == 0:
            now = HebbianWeights(*(t[num_seeds:] for t in weights))
            cosine, single = _update_cosines(
                now, X[num_seeds:, :num_images], y[num_seeds:, :num_images], num_draws, num_times, mean_length, feedback,
                generator,
            )  # fmt: skip
    example = make_phases("flexible", min(num_times, 60), 12, mean_length=mean_length, generator=generator)
    return dataset(
        "Contrastive learning with strict and with random phases",
        {
            "schedule": variable("schedule", list(SCHEDULES), "schedule of the phases"),
            "seed": variable("seed", range(num_seeds), "draw of the network and split"),
            "epoch": variable("epoch", range(num_epochs + 1), "epoch"),
            "time": variable("time", range(min(num_times, 60)), "time", "steps"),
            "sample": variable("sample", range(12), "sample"),
        },
        {
            "accuracy": variable("schedule seed epoch", torch.stack(accuracies, -1), "test accuracy"),
            "cosine": variable("seed", cosine, "cosine of the mean change with the rigid one, output synapses"),
            "single_cosine": variable("seed", single, "cosine of a single random schedule's change with the rigid one"),
            "phases": variable("time sample", example, "phase (+1 held at the answer, −1 left alone)"),
        },
        num_draws=num_draws,
        mean_length=mean_length,
    )


def _update_cosines(
    weights: HebbianWeights,
    X: Tensor,
    y: Tensor,
    num_draws: int,
    num_times: int,
    mean_length: int,
    feedback: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    members, batch = X.shape[:2]
    half = make_phases("rigid", num_times, members * batch, mean_length=mean_length, generator=generator)
    everyone = torch.ones(members, dtype=torch.bool)
    reference = contrastive_update(
        weights, X, y, torch.unflatten(half, 1, (members, batch)), rigid=everyone, feedback=feedback
    ).outgoing
    total, singles = torch.zeros_like(reference), torch.zeros(members)
    # Draws are independent given the weights, so several run side by side as more samples of the batch.
    together = min(20, num_draws)
    rounds = -(-num_draws // together)
    for _ in range(rounds):
        phases = make_phases(
            "flexible", num_times, members * batch * together, mean_length=mean_length, generator=generator
        )
        phases = torch.unflatten(phases, 1, (members, batch * together))
        change = contrastive_update(
            weights, X.repeat(1, together, 1), y.repeat(1, together, 1), phases, feedback=feedback
        )
        total += change.outgoing / rounds
        one = phases[:, :, :batch]
        singles += _cosine(contrastive_update(weights, X, y, one, feedback=feedback).outgoing, reference) / rounds
    return _cosine(total, reference), singles


def flexible_accuracy_claim(ds: xr.Dataset) -> ClaimResult:
    """`flexible-phase-contrastive/accuracy`: random phases cost almost no accuracy."""
    final = ds.accuracy.isel(epoch=-1)
    difference = (final.sel(schedule="flexible") - final.sel(schedule="rigid")).values
    text = "mean test accuracy with random phases at least that with two strict phases − 0.03, at least 5 seeds"
    holds = bool(difference.mean() >= -0.03) if len(difference) >= 5 else None
    spread = paired_interval(difference).half if len(difference) > 1 else None
    return ClaimResult(float(difference.mean()), holds, text, spread, len(difference))


def flexible_update_claim(ds: xr.Dataset) -> ClaimResult:
    """`flexible-phase-contrastive/updates`: the mean change points where the strict one points."""
    cosine = ds.cosine.values
    text = (
        "cosine of the output synapses' mean change over at least 200 random schedules with the strict change: "
        "at least 0.9 (mean over seeds), after one epoch"
    )
    holds = bool(cosine.mean() >= 0.9) if len(cosine) >= 5 and ds.num_draws >= 200 else None
    return ClaimResult(float(cosine.mean()), holds, text, float(cosine.std()), len(cosine))
