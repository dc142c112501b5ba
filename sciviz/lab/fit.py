"""One small training loop for every wing: progress, a labelled history, early stop, and true resume.

`fit` takes any torch module, any loss `loss(module, batch)` and any torch optimiser. With a checkpoint file an
interrupted run goes on where it was: the resumed run equals an uninterrupted one bit for bit on the same CPU and thread
count. A checkpoint holds tensors, numbers and words only, so that loading one cannot run code.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm.auto import tqdm

from sciviz.lab import _checkpoint
from sciviz.lab.checks import check_choice, check_finite, check_int, check_positive, check_same_length

M = TypeVar("M", bound=torch.nn.Module)
Batch = tuple[Tensor, ...]

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "lbfgs": partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"),
}
_COLUMNS = {"step": "step", "loss": "loss", "lr": "learning rate", "grad_norm": "norm of the gradient"}
_Moment = dict[str, Any]


class DivergedError(FloatingPointError):
    """The loss or its gradient was not a finite number; `step` says when, `history` holds what was recorded before."""

    def __init__(self, message: str, step: int, history: xr.Dataset) -> None:
        super().__init__(message)
        self.step, self.history = step, history


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
        Tensors that share their first dimension (sample), such as `(X, y)`; or a callable (step, generator) → batch
        that draws what it needs from `generator` (on the run's device). It is called for the steps 0 to `num_steps`
        inclusive: the last batch only measures. Other sources of chance, such as NumPy's, are not restored on resume.
    num_steps
        Updates in all, those before a resume included.
    seed
        Fixes the order of batches and what dropout draws. Torch's global generator is left as it was found.
    lr, optimizer
        "adam", "adamw", "sgd", "lbfgs" (with a line search), a torch optimiser, or a callable (parameters, lr=lr) →
        one, such as `partial(torch.optim.SGD, momentum=0.9)`. Without `lr` the optimiser's own default holds.
    scheduler
        A torch learning-rate scheduler, or a callable (optimizer) → one, stepped after every update.
    batch_size
        Samples in a batch, in a new random order each epoch (the last batch may be smaller); None takes all.
    clip_norm
        Gradients longer than this are shortened to it. The history shows the length before that.
    metrics
        Name → callable (module) → number or array, measured at recorded steps in evaluation mode without gradients.
        What they and `callback` draw from torch's global generator does not change the training.
    callback
        (step, module), called after each recorded step, for drawing while training.
    record_every
        Steps between rows of the history. Only there does the loop wait for the loss, so a loss that is not finite is
        found at most this many steps late.
    checkpoint, checkpoint_every, resume
        File that keeps the state of the run, written every so many steps (a tenth of the run if None), at the end, and
        on KeyboardInterrupt. If it is there and `resume`, the run goes on from it; more `num_steps` than before train
        on. What is compared before going on are the settings, the data, the module's structure and the code of the
        loss, not the values a loss closes over. One process a file.
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
        (a FloatingPointError) If the loss or its gradient is not finite. The module gets back the weights of the last
        recorded step at which both were.
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
    checkpoint_every = max(1, num_steps // 10) if checkpoint_every is None else checkpoint_every
    check_int(1, checkpoint_every=checkpoint_every)
    where = _place(module, device)
    rule = _make_optimizer(optimizer, module, lr)
    schedule = _make_schedule(scheduler, rule)
    batches = _Batches(data, batch_size, torch.Generator(device=where).manual_seed(seed))
    run = _Training(module, loss, rule, schedule, batches, clip_norm, dict(metrics or {}), callback)
    run.attrs = {"seed": seed, "num_steps": num_steps, "optimizer": type(rule).__name__}
    path = None if checkpoint is None else Path(checkpoint)
    own = {"seed": seed, "batch_size": batch_size, "record_every": record_every}
    settings = {} if path is None else run.settings() | {name: repr(value) for name, value in own.items()}
    modes = [(part, part.training) for part in module.modules()]
    label = progress if isinstance(progress, str) else "training"

    # Dropout draws from torch's global generator: it gets a seed other than that of the batches, and is put back after.
    with _checkpoint.keep_randomness(where), _checkpoint.hold_interrupts(path is not None) as held:
        _checkpoint.seed_randomness(where, (seed + 0x9E3779B9) % 2**32)
        if path is not None and resume and path.exists():
            run.load(_checkpoint.read(path, settings, num_steps))
        bar = tqdm(total=num_steps, initial=run.step, desc=label, disable=progress is False)
        before: _Moment | None = None
        try:
            module.train()
            run.keep_weights()
            while run.step < num_steps:
                before = None if path is None else run.moment()
                recorded = run.step % record_every == 0
                run.advance(recorded)
                if recorded:
                    bar.set_postfix(loss=f"{run.rows['loss'][-1]:.4g}", refresh=False)
                bar.update()
                if path is not None and (held or run.step % checkpoint_every == 0 or run.step == num_steps):
                    _checkpoint.write(path, run.state(settings))
                if held:
                    raise KeyboardInterrupt
            run.measure()
            if held:
                raise KeyboardInterrupt
        except _Diverged as problem:
            raise run.diverged(problem) from None
        except KeyboardInterrupt:
            # Ctrl-C waits for the end of a step (hold_interrupts). One that came otherwise, out of the loss say, is
            # undone to the start of its step; amid an update that cannot be, and the last checkpoint stands.
            undoable = before is not None and before["step"] == run.step and not run.updating
            if path is not None and before is not None and undoable and not held:
                run.rewind(before)
                with contextlib.suppress(_Diverged):
                    _checkpoint.write(path, run.state(settings))
            raise
        finally:
            bar.close()
            for part, mode in modes:
                part.training = mode
    return run.history()


class _Diverged(Exception):
    """Says what is not finite; `_Training.diverged` makes the full message of it."""


class _Training(Generic[M]):
    """The state of a run: the module and all that decides what the next step does to it."""

    def __init__(
        self,
        module: M,
        loss: Callable[[M, Batch], Tensor],
        rule: Optimizer,
        schedule: LRScheduler | None,
        batches: _Batches,
        clip_norm: float | None,
        metrics: dict[str, Callable[[M], Any]],
        callback: Callable[[int, M], object] | None,
    ) -> None:
        if clip_norm is not None:
            check_positive(clip_norm=clip_norm)
        for name in metrics:
            if name in _COLUMNS:
                raise ValueError(f"metrics must not be named like what fit records itself, got {name!r}.")
        self.module, self.loss, self.rule, self.schedule, self.batches = module, loss, rule, schedule, batches
        self.clip_norm, self.metrics, self.callback = clip_norm, metrics, callback
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.buffers = list(module.buffers())
        self.weights = [*module.parameters(), *self.buffers]
        self.device = batches.generator.device
        self.rows: dict[str, list[Any]] = {name: [] for name in (*_COLUMNS, *metrics)}
        self.attrs: dict[str, Any] = {}
        self.batch: Batch = ()
        self.step, self.record_due, self.updating = 0, False, False
        # An optimiser that searches along a line (L-BFGS) insists on a closure and calls it as often as it likes.
        self.searches = inspect.signature(rule.step).parameters["closure"].default is inspect.Parameter.empty

    def advance(self, recorded: bool) -> None:
        self.batch, self.record_due = self.batches(self.step), recorded
        if self.searches:
            self.updating = True
            self.rule.step(self.evaluate)  # type: ignore[arg-type]
        else:
            self.evaluate()
            self.updating = True
            self.rule.step()
        if self.schedule is not None:
            self.schedule.step()
        self.step, self.updating = self.step + 1, False

    def evaluate(self) -> Tensor:
        self.rule.zero_grad()
        value = self.loss(self.module, self.batch)
        if value.ndim != 0 or not value.requires_grad:
            raise ValueError(
                "loss must return a tensor without dimensions that depends on the module's parameters, "
                f"got shape {tuple(value.shape)}{'' if value.requires_grad else ' that depends on none'}."
            )
        value.backward()  # type: ignore[no-untyped-call]
        norm = None if self.clip_norm is None else clip_grad_norm_(self.parameters, self.clip_norm)
        if self.record_due:  # only the first evaluation of a step is at the weights that the row is about
            self.record_due = False
            self.record(value, norm)
        return value

    def record(self, value: Tensor, norm: Tensor | None) -> None:
        if norm is None:
            norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        row: dict[str, Any] = {"step": self.step, "loss": value.item(), "lr": self.lr(), "grad_norm": norm.item()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row[name]):
                raise _Diverged(f"the {_COLUMNS[name]} became {row[name]}")
        self.keep_weights()
        if self.metrics:
            with torch.no_grad(), _checkpoint.keep_randomness(self.device):
                self.module.eval()
                row |= {name: _numbers(metric(self.module)) for name, metric in self.metrics.items()}
                self.module.train()
        for name, number in row.items():
            self.rows[name].append(number)
        if self.callback is not None:
            with _checkpoint.keep_randomness(self.device):
                self.callback(self.step, self.module)

    def lr(self) -> float:
        return float(self.rule.param_groups[0].get("lr", math.nan))

    def measure(self) -> None:
        """Add the row of the trained module, leaving no trace in it (running means, gradients)."""
        buffers = [buffer.clone() for buffer in self.buffers]
        self.batch, self.record_due = self.batches(self.step), True
        self.evaluate()
        self.rule.zero_grad()
        _copy(self.buffers, buffers)

    def keep_weights(self) -> None:
        if not hasattr(self, "kept"):
            self.kept = [weight.detach().clone() for weight in self.weights]
        _copy(self.kept, self.weights)

    def diverged(self, problem: _Diverged) -> DivergedError:
        _copy(self.weights, self.kept)
        last = f"the weights of step {self.rows['step'][-1]} are back" if self.rows["step"] else "nothing was learnt"
        advice = "the batch of that step holds numbers that are not finite: check where they come from"
        if _all_finite(self.batch):
            advice = f"try an lr below {self.lr():g}, clip gradients (clip_norm=1.0), or check the inputs"
        return DivergedError(f"{problem} at step {self.step} ({last}); {advice}.", self.step, self.history())

    def moment(self) -> _Moment:
        """Note what a step changes before its update, cheaply."""
        return {
            "step": self.step,
            "randomness": _checkpoint.get_randomness(self.device),
            "batches": self.batches.state(),
            "buffers": [buffer.clone() for buffer in self.buffers],
        }

    def rewind(self, moment: _Moment) -> None:
        _checkpoint.set_randomness(self.device, moment["randomness"])
        self.batches.load(moment["batches"])
        _copy(self.buffers, moment["buffers"])
        done = sum(step < self.step for step in self.rows["step"])
        self.rows = {name: column[:done] for name, column in self.rows.items()}

    def state(self, settings: dict[str, str]) -> dict[str, Any]:
        if not _all_finite(self.weights):
            raise _Diverged("a weight became nan or infinite")
        return {
            "settings": settings,
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizer": self.rule.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "batches": self.batches.state(),
            "randomness": _checkpoint.get_randomness(self.device),
            "history": {name: torch.from_numpy(np.array(column)) for name, column in self.rows.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.module.load_state_dict(state["module"])
        self.rule.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.batches.load(state["batches"])
        _checkpoint.set_randomness(self.device, state["randomness"])
        self.rows = {name: list(column.numpy()) for name, column in state["history"].items()}

    def settings(self) -> dict[str, str]:
        """Describe, in words that can be compared, all that decides the course of the run but its length."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.rule.param_groups]
        for group in groups:
            group["lr"] = group.pop("initial_lr", group.get("lr"))  # not the one a scheduler has come to
        passing = {"last_epoch", "_step_count", "_last_lr", "_is_initial", "_get_lr_called_within_step"}
        plan = {} if self.schedule is None else self.schedule.state_dict()
        shapes = [(name, tuple(weight.shape), weight.dtype) for name, weight in self.module.named_parameters()]
        return {
            "module": f"{type(self.module).__name__} {_checkpoint.digest(repr(self.module), repr(shapes))}",
            "loss": _checkpoint.describe_code(self.loss),
            "data": self.batches.describe(),
            "optimizer": f"{type(self.rule).__name__} {groups}",
            "scheduler": f"{type(self.schedule).__name__} { {k: v for k, v in plan.items() if k not in passing} }",
            "clip_norm": repr(self.clip_norm),
            "metrics": repr(list(self.metrics)),
            "device": self.device.type,
        }

    def history(self) -> xr.Dataset:
        steps = ("step", np.array(self.rows["step"], dtype=np.int64), {"long_name": "step", "units": "updates"})
        history = xr.Dataset(coords={"step": steps}, attrs={"title": "training", **self.attrs})
        for name, column in self.rows.items():
            if name != "step":
                values = np.array(column, dtype=np.float64)
                dims = ("step", *(f"{name}_axis{i}" for i in range(values.ndim - 1)))
                history[name] = (dims, values, {"long_name": _COLUMNS.get(name, name.replace("_", " ")), "units": "1"})
        return history


class _Batches:
    """Batches by step, from tensors in an order that is new each epoch, or from the user's callable."""

    def __init__(self, data: Any, batch_size: int | None, generator: torch.Generator) -> None:
        self.generator, self.batch_size, self.order = generator, batch_size, torch.empty(0, dtype=torch.int64)
        self.make: Callable[[int, torch.Generator], Any] | None = data if callable(data) else None
        self.tensors: Batch = () if callable(data) else _as_tensors(data, generator.device)
        if batch_size is not None:
            if self.make is not None:
                raise ValueError("batch_size must be left out where data is a callable: it decides the size itself.")
            check_int(1, len(self.tensors[0]), batch_size=batch_size)

    def __call__(self, step: int) -> Batch:
        if self.make is not None:
            batch = self.make(step, self.generator)
            return (batch,) if isinstance(batch, Tensor) else tuple(batch)
        if self.batch_size is None:
            return self.tensors
        samples = len(self.tensors[0])
        start = step % -(-samples // self.batch_size) * self.batch_size
        if start == 0:
            self.order = torch.randperm(samples, generator=self.generator, device=self.generator.device)
        chosen = self.order[start : start + self.batch_size]
        return tuple(tensor[chosen] for tensor in self.tensors)

    def state(self) -> _Moment:
        return {"generator": self.generator.get_state(), "order": self.order}

    def load(self, state: _Moment) -> None:
        self.generator.set_state(state["generator"])
        self.order = state["order"].to(self.generator.device)

    def describe(self) -> str:
        if self.make is not None:
            return _checkpoint.describe_code(self.make)
        contents = [tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy() for tensor in self.tensors]
        shapes = [tuple(tensor.shape) for tensor in self.tensors]
        return f"tensors of shapes {shapes} {_checkpoint.digest(*contents)}"


def _as_tensors(data: Any, device: torch.device) -> Batch:
    tensors = (data,) if isinstance(data, Tensor) else tuple(data)
    if not tensors or not all(isinstance(tensor, Tensor) and tensor.ndim > 0 for tensor in tensors):
        raise TypeError("data must be tensors whose first dimension counts samples, or a callable (step, generator).")
    named = {f"data[{i}]": tensor for i, tensor in enumerate(tensors)}
    check_same_length(**named)
    check_finite(**{name: tensor for name, tensor in named.items() if tensor.is_floating_point()})
    if len(tensors[0]) == 0:
        raise ValueError("data must hold at least one sample, got none.")
    return tuple(tensor.to(device) for tensor in tensors)


def _place(module: torch.nn.Module, device: torch.device | str | None) -> torch.device:
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("module must have at least one parameter that requires a gradient, got none.")
    where = torch.device(device) if device is not None else trained[0].device
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be one that this machine has, got {str(where)!r} without a CUDA device.")
    module.to(where)
    return next(p.device for p in module.parameters())


def _make_optimizer(
    optimizer: str | Optimizer | Callable[..., Optimizer], module: torch.nn.Module, lr: float | None
) -> Optimizer:
    if lr is not None:
        check_positive(lr=lr)
    if isinstance(optimizer, Optimizer):
        if lr is not None:
            raise ValueError(f"lr must be left out where optimizer is an instance, which has its own, got {lr!r}.")
        return optimizer
    if isinstance(optimizer, str):
        check_choice(OPTIMIZERS, optimizer=optimizer)
        optimizer = OPTIMIZERS[optimizer]
    trained = [p for p in module.parameters() if p.requires_grad]
    return optimizer(trained) if lr is None else optimizer(trained, lr=lr)


def _make_schedule(scheduler: LRScheduler | Callable[[Any], LRScheduler] | None, rule: Optimizer) -> LRScheduler | None:
    schedule = scheduler if scheduler is None or isinstance(scheduler, LRScheduler) else scheduler(rule)
    if isinstance(schedule, ReduceLROnPlateau):
        raise TypeError("scheduler must not need a metric to step, got ReduceLROnPlateau; use one that counts steps.")
    if schedule is not None and schedule.optimizer is not rule:
        raise ValueError("scheduler must belong to the optimizer that is passed, got one of another optimizer.")
    return schedule


def _numbers(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return np.array(value, dtype=np.float64)


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _copy(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
