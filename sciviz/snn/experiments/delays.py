"""Experiments on delays: a task that has no solution without them, with none, with random ones and with learnt ones."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable
from sciviz.snn.delays import delayed_current
from sciviz.snn.experiments._digits import sub_seeds
from sciviz.snn.neurons import lif
from sciviz.snn.tasks import make_timing

ARMS = ("none", "fixed random", "learnt")


def learnt_delays(
    *,
    seed: int,
    num_seeds: int = 5,
    num_channels: int = 6,
    num_classes: int = 10,
    num_hidden: int = 8,
    slot: int = 8,
    decay: float = 0.4,
    num_steps: int = 200,
    batch_size: int = 40,
    num_test: int = 300,
    lr: float = 0.02,
    delay_lr: float = 0.3,
    widths: tuple[float, float] = (5.0, 1.0),
    record_every: int = 25,
) -> xr.Dataset:
    """Classify spike patterns by relative timing with a spiking layer whose synapses have no, random or learnt delays.

    Same hidden units, same weights, same kernel width at every step in all arms, and no rounding of delays in any. The
    fixed arm keeps the delays that the learnt arm starts from. All arms and seeds run as one ensemble.

    Parameters
    ----------
    decay
        Of the membrane, a step: 0.4 leaves less than a thousandth of a spike after a slot of 8 steps.
    widths
        σ at the start, and from three quarters of the training on.

    Returns
    -------
    xr.Dataset
        `accuracy` (arm, seed) on test patterns, `loss` (arm, seed, step), `delay_start` and `delay_end`
        (seed, hidden, channel) of the learnt arm, and `pattern` (time, channel), an example of the first seed.

    >>> ds = learnt_delays(seed=0, num_seeds=1, num_steps=2, batch_size=10, num_test=10)
    >>> ds.accuracy.dims
    ('arm', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, batch_size=batch_size, num_test=num_test)
    check_positive(lr=lr, delay_lr=delay_lr)
    longest = (num_channels - 1) * slot
    num_taps = longest + 1
    generators = [torch.Generator().manual_seed(s) for s in sub_seeds(seed, num_seeds)]
    class_seeds = sub_seeds(seed, num_seeds)

    def draw(num: int) -> tuple[Tensor, Tensor]:
        tasks = [
            make_timing(
                num,
                seed=int(torch.randint(2**31, (1,), generator=g)),
                num_classes=num_classes,
                num_channels=num_channels,
                slot=slot,
                class_seed=class_seed,
            )
            for g, class_seed in zip(generators, class_seeds, strict=True)
        ]
        # Silence at the end, in which delayed spikes can still arrive.
        X = torch.nn.functional.pad(torch.stack([t.X for t in tasks], 1), (0, 0, 0, 0, 0, 0, 0, longest))
        return X.repeat(1, len(ARMS), 1, 1), torch.stack([t.y for t in tasks]).repeat(len(ARMS), 1)

    shape = (num_hidden, num_channels)
    weight = torch.stack([0.8 + 0.4 * torch.randn(shape, generator=g) for g in generators]).repeat(len(ARMS), 1, 1)
    start = torch.stack([longest * torch.rand(shape, generator=g) for g in generators])
    readout = torch.stack([torch.randn(num_classes, num_hidden, generator=g) * 0.3 for g in generators])
    readout, bias = readout.repeat(len(ARMS), 1, 1), torch.zeros(len(ARMS) * num_seeds, 1, num_classes)
    delay = torch.cat([torch.zeros_like(start), start, start])
    learns = torch.zeros(len(delay), 1, 1)
    learns[2 * num_seeds :] = 1
    for parameter in (weight, readout, bias, delay):
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(
        [{"params": [weight, readout, bias], "lr": lr}, {"params": [delay], "lr": delay_lr}], betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=num_steps)

    def logits(X: Tensor, width: float) -> Tensor:
        current = delayed_current(X, weight, delay, width=width, num_taps=num_taps)
        counts = lif(current, decay=decay).spikes.sum(0)
        return torch.baddbmm(bias, counts, readout.mT)

    losses, steps = [], []
    for step in range(num_steps):
        progress = min(1.0, step / (0.75 * num_steps))
        width = widths[0] * (widths[1] / widths[0]) ** progress
        X, y = draw(batch_size)
        loss = torch.nn.functional.cross_entropy(logits(X, width).mT, y, reduction="none").mean(1)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert delay.grad is not None
        delay.grad *= learns
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            delay.clamp_(0, longest)
        if step % record_every == 0 or step == num_steps - 1:
            losses.append(loss.detach())
            steps.append(step)
    X, y = draw(num_test)
    with torch.no_grad():
        accuracy = (logits(X, widths[1]).argmax(-1) == y).float().mean(1)
    end = delay.detach()[2 * num_seeds :]
    return dataset(
        "Delays: none, fixed at random, learnt",
        {
            "arm": variable("arm", list(ARMS), "delays"),
            "seed": variable("seed", range(num_seeds), "draw of the task and network"),
            "step": variable("step", steps, "training step", "updates"),
            "hidden": variable("hidden", range(num_hidden), "hidden neuron"),
            "channel": variable("channel", range(num_channels), "input channel"),
            "time": variable("time", range(len(X)), "time", "steps"),
        },
        {
            "accuracy": variable("arm seed", accuracy.reshape(len(ARMS), -1), "test accuracy"),
            "loss": variable(
                "arm seed step", torch.stack(losses, -1).reshape(len(ARMS), num_seeds, -1), "cross-entropy", "nats"
            ),
            "delay_start": variable("seed hidden channel", start, "delay before training", "steps"),
            "delay_end": variable("seed hidden channel", end, "delay after training", "steps"),
            "pattern": variable("time channel", X[:, 0, 0], "spike"),
        },
        slot=slot,
        decay=decay,
        num_classes=num_classes,
    )


def random_delays_claim(ds: xr.Dataset) -> ClaimResult:
    """`snn-dcls-delays/random`: random delays, not learnt, already solve part of what no delays cannot."""
    gain = (ds.accuracy.sel(arm="fixed random") - ds.accuracy.sel(arm="none")).values
    text = "mean accuracy with fixed random delays at least 0.05 above that with none; same kernel width, slots 8 steps apart"
    holds = bool(gain.mean() >= 0.05) if len(gain) >= 5 and ds.slot == 8 else None
    spread = paired_interval(gain).half if len(gain) > 1 else None
    return ClaimResult(float(gain.mean()), holds, text, spread, len(gain))


def learnt_delays_claim(ds: xr.Dataset) -> ClaimResult:
    """`snn-dcls-delays/learnt`: learnt delays beat the random ones that they start from."""
    gain = (ds.accuracy.sel(arm="learnt") - ds.accuracy.sel(arm="fixed random")).values
    text = "accuracy with learnt delays minus fixed random ones, paired: 95% interval above 0; same kernel width, no rounding"
    if len(gain) < 5:
        return ClaimResult(float(gain.mean()), None, text, None, len(gain))
    interval = paired_interval(gain)
    return ClaimResult(interval.mean, interval.above(0.0), text, interval.half, len(gain))
