"""One small training loop for every wing: progress, a labelled history, early stop, and true resume.

`fit` takes any torch module, any loss `loss(module, batch)` and any torch optimiser. With a checkpoint file an
interrupted run goes on where it was: the resumed run equals an uninterrupted one bit for bit on the same CPU and thread
count. A checkpoint holds tensors, numbers and words only, so that loading one cannot run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sciviz.lab.checks import check_choice, check_finite, check_int, check_positive, check_same_length

M = TypeVar("M", bound=torch.nn.Module)
Batch = tuple[Tensor, ...]

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "lbfgs": partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"),
}
_OWN_COLUMNS = {"loss": "loss", "lr": "learning rate", "grad_norm": "norm of the gradient"}


class DivergedError(FloatingPointError):
    """The loss or its gradient was not a finite number; `step` says when, `history` holds what was recorded before."""

    def __init__(self, message: str, step: int, history: xr.Dataset) -> None:
        super().__init__(message)
        self.step, self.history = step, history


class _Diverged(Exception):
    """What is not finite; `fit` makes the full message of it."""


def fit(
    module: M,
    loss: Callable[[M, Batch], Tensor],
    data: Tensor | Sequence[Tensor] | Callable[[int, torch.Generator], Batch],
    *,
    num_steps: int,
    seed: int,
    lr: float | None = None,
    optimizer: str | Optimizer | Callable[..., Optimizer] = "adam",
    scheduler: LRScheduler | Callable[[Any], LRScheduler] | None = None,
    batch_size: int | None = None,
    clip_norm: float | None = None,
    metrics: Mapping[str, Callable[[M], Any]] | None = None,
    callback: Callable[[int, M], object] | None = None,
    record_every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    progress: bool | str = True,
    device: torch.device | str | None = None,
) -> xr.Dataset:
    """Train `module` in place by `num_steps` updates that lower `loss(module, batch)`.

    Parameters
    ----------
    module
        Any torch module; it is trained in training mode (dropout on) and handed back in the mode it came in.
    loss
        (module, batch) → one number, a tensor without dimensions.
    data
        Tensors that share their first dimension (sample), such as `(X, y)`; or a callable (step, generator) → batch that
        draws what it needs from `generator`. It is called for the steps 0 to `num_steps` inclusive: the last batch only
        measures. What else a callable or a loss draws from, NumPy's generator say, is not restored on resume.
    num_steps
        Updates in all, those before a resume included.
    seed
        Fixes the order of batches and what dropout draws. Torch's global generator is left as it was found.
    lr, optimizer
        "adam", "adamw", "sgd", "lbfgs" (with a line search), a torch optimiser, or a callable (parameters, lr=lr) → one,
        such as `partial(torch.optim.SGD, momentum=0.9)`. None takes the optimiser's own default.
    scheduler
        A torch learning-rate scheduler, or a callable (optimizer) → one, stepped after every update.
    batch_size
        Samples in a batch, in a new random order each epoch (the last batch may be smaller); None takes all.
    clip_norm
        Gradients longer than this are shortened to it. The history shows the length before that.
    metrics
        Name → callable (module) → number or array, measured at recorded steps in evaluation mode without gradients. What
        they and `callback` draw from torch's global generator does not change the training.
    callback
        (step, module), called after each recorded step, for drawing while training.
    record_every
        Steps between rows of the history. Only there does the loop wait for the loss, so a loss that is not finite is
        found at most this many steps late.
    checkpoint, checkpoint_every, resume
        File that keeps the state of the run, written every so many steps (a tenth of the run if None), at the end, and on
        KeyboardInterrupt. If it is there and `resume`, the run goes on from it; more `num_steps` than before train on.
        One process a file.
    progress
        Show a bar with loss and time left; a string is its label.
    device
        Where to train; None stays where the module is.

    Returns
    -------
    xr.Dataset
        Variables `loss`, `lr`, `grad_norm` and the metrics over the dimension `step`. The row of step k belongs to the
        weights after k updates, so the last one, `num_steps`, to the trained module. Metrics that are arrays get the
        dimensions `<name>_axis0`, ….

    Raises
    ------
    DivergedError
        (a FloatingPointError) If the loss or gradient is not finite. The module gets back its last recorded finite weights.
    TypeError, ValueError
        If an argument is not accepted, or the checkpoint is damaged or of other settings.

    >>> X = torch.linspace(-1, 1, 20)[:, None]
    >>> line = torch.nn.Linear(1, 1)
    >>> mse = lambda module, batch: (module(batch[0]) - batch[1]).square().mean()
    >>> history = fit(line, mse, (X, 3 * X + 1), num_steps=200, seed=0, lr=0.1, record_every=50, progress=False)
    >>> history.step.values.tolist(), bool(history.loss[-1] < 1e-4)
    ([0, 50, 100, 150, 200], True)
    """
    check_int(1, num_steps=num_steps, record_every=record_every)
    check_int(0, 2**32 - 1, seed=seed)
    if clip_norm is not None:
        check_positive(clip_norm=clip_norm)
    checkpoint_every = max(1, num_steps // 10) if checkpoint_every is None else checkpoint_every
    check_int(1, checkpoint_every=checkpoint_every)
    for name in metrics or {}:
        if name in _OWN_COLUMNS or name == "step":
            raise ValueError(f"metrics must not be named like what fit records itself, got {name!r}.")
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("module must have at least one parameter that requires a gradient, got none.")
    where = torch.device(device) if device is not None else parameters[0].device
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be one that this machine has, got 'cuda' without a CUDA device torch can use.")
    module.to(where)
    modes = [(part, part.training) for part in module.modules()]
    tensors = list(module.parameters()) + list(module.buffers())
    rule = _make_optimizer(optimizer, parameters, lr)
    schedule = _make_scheduler(scheduler, rule)
    generator = torch.Generator(device=where)
    batches = _Batches(data, batch_size, generator, where)
    rows: dict[str, list[Any]] = {name: [] for name in ("step", *_OWN_COLUMNS, *(metrics or {}))}
    attrs = {"seed": seed, "num_steps": num_steps, "optimizer": type(rule).__name__}
    # An optimiser whose step insists on a closure (L-BFGS) evaluates the loss itself, as often as it likes.
    searches = isinstance(rule, torch.optim.LBFGS)
    step, updating, record_due = 0, False, False

    def evaluate() -> Tensor:
        nonlocal record_due
        rule.zero_grad()
        value = loss(module, batch)
        if value.ndim != 0 or not value.requires_grad:
            raise ValueError(
                "loss must return a tensor without dimensions that depends on the module's parameters, "
                f"got shape {tuple(value.shape)}{'' if value.requires_grad else ' without a gradient'}."
            )
        value.backward()  # type: ignore[no-untyped-call]
        norm = None if clip_norm is None else clip_grad_norm_(parameters, clip_norm)
        if record_due:
            record_due = False
            record(value, norm)
        return value

    def record(value: Tensor, norm: Tensor | None) -> None:
        if norm is None:
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        numbers = {"loss": value.item(), "lr": float(rule.param_groups[0]["lr"]), "grad_norm": norm.item()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(numbers[name]):
                raise _Diverged(f"the {_OWN_COLUMNS[name]} became {numbers[name]}")
        with torch.no_grad(), _own_randomness(where):
            for kept, tensor in zip(finite, tensors, strict=True):
                kept.copy_(tensor)
            if metrics:
                module.eval()
                found = {name: _as_numbers(metric(module)) for name, metric in metrics.items()}
                module.train()
                numbers |= found
        for name, number in {"step": step, **numbers}.items():
            rows[name].append(number)
        bar.set_postfix(loss=f"{numbers['loss']:.4g}", refresh=False)
        if callback is not None:
            with _own_randomness(where):
                callback(step, module)

    def state() -> dict[str, Any]:
        done = sum(row < step for row in rows["step"])  # a row of this very step is measured again after a resume
        return {
            "settings": settings,
            "step": step,
            "module": module.state_dict(),
            "optimizer": rule.state_dict(),
            "scheduler": schedule.state_dict() if schedule is not None else None,
            "batches": batches.state(),
            "randomness": _get_randomness(where),
            "history": {name: torch.tensor(np.array(column[:done])) for name, column in rows.items()},
        }

    def save() -> None:
        if not all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point()):
            raise _Diverged("a weight became nan or infinite")
        if path is not None:
            _write(path, state())

    path = Path(checkpoint) if checkpoint is not None else None
    settings: dict[str, str] = {}
    with _own_randomness(where, (seed + 0x9E3779B9) % 2**32), _hold_interrupts(path is not None) as held:
        generator.manual_seed(seed)
        if path is not None:
            settings = _settings(module, loss, data, rule, schedule)
            own = {"seed": seed, "batch_size": batch_size, "clip_norm": clip_norm, "record_every": record_every}
            settings |= {name: repr(value) for name, value in own.items()}
            settings |= {"metrics": repr(list(metrics or {})), "device": repr(where.type)}
            if resume and path.exists():
                kept_state = _read(path, settings, num_steps)
                step = kept_state["step"]
                module.load_state_dict(kept_state["module"])
                rule.load_state_dict(kept_state["optimizer"])
                if schedule is not None:
                    schedule.load_state_dict(kept_state["scheduler"])
                batches.load(kept_state["batches"])
                _set_randomness(where, kept_state["randomness"])
                for name, column in kept_state["history"].items():
                    rows[name] = list(column.numpy())
        finite = [t.detach().clone() for t in tensors]
        bar = _progress_bar(progress, step, num_steps)
        try:
            module.train()
            before = None
            while step < num_steps:
                if path is not None:
                    before = (_get_randomness(where), batches.state(), [b.clone() for b in module.buffers()])
                batch = batches(step)
                record_due = step % record_every == 0
                if searches:
                    updating = True
                    rule.step(evaluate)  # type: ignore[arg-type]
                else:
                    evaluate()
                    updating = True
                    rule.step()
                if schedule is not None:
                    schedule.step()
                step, updating = step + 1, False
                bar.update()
                if held or (path is not None and (step % checkpoint_every == 0 or step == num_steps)):
                    save()
                if held:
                    raise KeyboardInterrupt
            # The last row measures the trained module and must leave no trace in it: running means, gradients.
            buffers = [b.clone() for b in module.buffers()]
            batch, record_due = batches(step), True
            evaluate()
            rule.zero_grad()
            _restore(module.buffers(), buffers)
        except _Diverged as problem:
            _restore(tensors, finite)
            last = f"restored are the weights of step {rows['step'][-1]}" if rows["step"] else "nothing was learnt yet"
            advice = (
                f"Try an lr below {rule.param_groups[0]['lr']:g}, clip gradients with clip_norm=1.0, or check inputs"
            )
            if any(not bool(torch.isfinite(t).all()) for t in batch if t.is_floating_point()):
                advice = "The batch of that step holds numbers that are not finite: check where it comes from"
            message = f"{problem} at step {step} ({last}). {advice}."
            raise DivergedError(message, step, _history(rows, attrs)) from None
        except KeyboardInterrupt:
            # Ctrl-C waits for the end of a step (see _hold_interrupts). One that came otherwise, out of the loss say,
            # is undone to the start of its step; one amid an update cannot be, and the last checkpoint stands.
            if path is not None and not held and not updating and step < num_steps and before is not None:
                _set_randomness(where, before[0])
                batches.load(before[1])
                _restore(module.buffers(), before[2])
                save()
            raise
        finally:
            bar.close()
            for part, mode in modes:
                part.training = mode
    return _history(rows, attrs)
