"""`fit`: what it trains, what it records, how it stops, and that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from sciviz.lab.fit import DivergedError, fit

X = torch.linspace(-1, 1, 23)[:, None]
Y = torch.sin(3 * X)


def make_net(dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        middle = nn.BatchNorm1d(12) if norm else nn.Identity()
        return nn.Sequential(nn.Linear(1, 12), middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 1))


class SquaredError:
    """Squared error that can be told to raise, or to do something else, at its n-th call."""

    def __init__(self, at: int = -1, do: Callable[[], Any] | None = None) -> None:
        self.calls, self.at, self.do = 0, at, do

    def __call__(self, module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        self.calls += 1
        if self.calls - 1 == self.at and self.do is not None:
            self.do()
        return (module(batch[0]) - batch[1]).square().mean()


def throw(error: type[BaseException]) -> Callable[[], None]:
    def do() -> None:
        raise error("stopped by the test")

    return do


def cosine(rule: Any) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(rule, T_max=60)


def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    x = torch.rand(8, 1, generator=generator) * 2 - 1
    return x, torch.sin(3 * x)


SETTINGS: dict[str, dict[str, Any]] = {
    "adam, batches, dropout": {"batch_size": 5, "net": {"dropout": 0.3}},
    "sgd with momentum, schedule, clipping": {
        "optimizer": partial(torch.optim.SGD, momentum=0.9),
        "lr": 0.05,
        "scheduler": cosine,
        "clip_norm": 0.5,
        "batch_size": 4,
    },
    "batch norm, dropout": {"batch_size": 6, "net": {"dropout": 0.2, "norm": True}},
    "drawn batches": {"data": draw, "net": {"dropout": 0.3}},
    "l-bfgs": {"optimizer": "lbfgs", "lr": 0.5},
    "milestones": {"scheduler": partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[20, 30]), "batch_size": 7},
}


def train(name: str, loss: SquaredError | None = None, **changes: Any) -> tuple[nn.Module, xr.Dataset]:
    options = {"data": (X, Y), "num_steps": 41, "seed": 3, "record_every": 4, "progress": False}
    options |= SETTINGS[name] | changes
    module = make_net(**options.pop("net", {}))
    metrics = {"mean_weight": lambda module: module[0].weight.mean(), "noise": lambda module: torch.rand(2)}
    history = fit(module, loss or SquaredError(), options.pop("data"), metrics=metrics, **options)
    return module, history


def assert_same(one: tuple[nn.Module, xr.Dataset], other: tuple[nn.Module, xr.Dataset]) -> None:
    for (name, a), (_, b) in zip(one[0].state_dict().items(), other[0].state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert one[1].identical(other[1])


# ------------------------------------------------------------------------------------------------ training itself


def test_a_line_is_learnt_and_the_last_row_belongs_to_the_trained_module() -> None:
    module = nn.Linear(1, 1)
    with torch.no_grad():
        start = float((module(X) - (2 * X - 1)).square().mean())
    history = fit(module, SquaredError(), (X, 2 * X - 1), num_steps=300, seed=0, lr=0.1, progress=False, record_every=7)
    assert history.step.values.tolist() == [*range(0, 300, 7), 300]
    final = (module(X) - (2 * X - 1)).square().mean().detach()
    assert float(history.loss[-1]) == float(final) < 1e-6
    assert float(history.loss[0]) == pytest.approx(start)
    assert module.weight.grad is None  # measuring the last row leaves no gradient behind


def test_the_same_as_a_plain_loop() -> None:
    ours, plain = make_net(), make_net()
    fit(ours, SquaredError(), (X, Y), num_steps=30, seed=0, lr=0.01, progress=False, record_every=9)
    rule = torch.optim.Adam(plain.parameters(), lr=0.01)
    for _ in range(30):
        rule.zero_grad()
        (plain(X) - Y).square().mean().backward()
        rule.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_the_recorded_gradient_is_the_gradient() -> None:
    module = make_net()
    (module(X) - Y).square().mean().backward()
    expected = torch.cat([p.grad.ravel() for p in module.parameters() if p.grad is not None]).norm()
    for clip in (None, 0.01):
        history = fit(make_net(), SquaredError(), (X, Y), num_steps=1, seed=0, progress=False, clip_norm=clip)
        assert float(history.grad_norm[0]) == pytest.approx(float(expected), rel=1e-5)


def test_clipping_shortens_the_step() -> None:
    module = make_net()
    before = [p.detach().clone() for p in module.parameters()]
    fit(module, SquaredError(), (X, Y), num_steps=1, seed=0, optimizer="sgd", lr=1.0, clip_norm=0.01, progress=False)
    moved = torch.cat([(p - b).ravel() for p, b in zip(module.parameters(), before, strict=True)]).norm()
    assert float(moved.detach()) == pytest.approx(0.01, rel=1e-3)


def test_each_epoch_sees_each_sample_once_in_a_new_order() -> None:
    seen: list[list[float]] = []

    def loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        seen.append(batch[0].ravel().tolist())
        return module(batch[0]).square().mean()

    fit(nn.Linear(1, 1), loss, (X,), num_steps=10, seed=0, batch_size=5, progress=False, record_every=100)
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3] * 2 + [5]
    first, second = ([value for batch in epoch for value in batch] for epoch in (seen[:5], seen[5:10]))
    assert sorted(first) == sorted(second) == X.ravel().tolist()
    assert first != second


def test_lbfgs_solves_a_quadratic_in_three_steps_of_line_searches() -> None:
    torch.manual_seed(0)
    features, module = torch.randn(50, 4, dtype=torch.float64), nn.Linear(4, 1).double()
    targets = features @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]], dtype=torch.float64)
    history = fit(module, SquaredError(), (features, targets), num_steps=3, seed=0, optimizer="lbfgs", progress=False)
    assert history.step.values.tolist() == [0, 1, 2, 3]
    assert history.loss[-1] < 1e-9 < 1 < history.loss[0]
    assert bool((history.loss.diff("step") <= 0).all())


def test_an_optimizer_of_ones_own_and_parameters_that_stay_fixed() -> None:
    module = make_net()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    rule = torch.optim.SGD(module[4].parameters(), lr=0.2)
    history = fit(module, SquaredError(), (X, Y), num_steps=50, seed=0, optimizer=rule, progress=False)
    assert torch.equal(module[0].weight, before)
    assert history.loss[-1] < history.loss[0]
    assert history.attrs["optimizer"] == "SGD" and float(history.lr[0]) == 0.2


def test_the_schedule_shows_in_the_history() -> None:
    _, history = train("sgd with momentum, schedule, clipping", record_every=1)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(42) / 60)) / 2
    np.testing.assert_allclose(history.lr, expected, rtol=1e-6)


def test_the_history_is_labelled_and_can_be_written(tmp_path: Path) -> None:
    _, history = train("adam, batches, dropout")
    for name in [*history.data_vars, *history.coords]:
        assert history[name].attrs["long_name"] and history[name].attrs["units"]
    assert history["noise"].dims == ("step", "noise_axis0")
    assert history["mean_weight"].attrs["long_name"] == "mean weight"
    history.to_netcdf(tmp_path / "history.nc")
    with xr.open_dataset(tmp_path / "history.nc") as again:
        xr.testing.assert_identical(again.load(), history)


def test_a_seed_decides_everything_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = train("adam, batches, dropout")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert_same(one, train("adam, batches, dropout"))
    other, _ = train("adam, batches, dropout", seed=4)
    assert not torch.equal(other[0].weight, one[0][0].weight)


@pytest.mark.parametrize("name", ["adam, batches, dropout", "batch norm, dropout"])
def test_watching_does_not_change_what_is_watched(name: str) -> None:
    often, _ = train(name, record_every=1, callback=lambda step, module: torch.rand(3))
    rarely, _ = train(name, record_every=40)
    assert all(torch.equal(a, b) for a, b in zip(often.parameters(), rarely.parameters(), strict=True))


def test_metrics_see_evaluation_mode_and_modes_come_back() -> None:
    module = make_net(dropout=0.5)
    module.eval()
    module[0].train()
    modes: list[bool] = []
    calls: list[tuple[int, bool]] = []
    fit(
        module,
        SquaredError(),
        (X, Y),
        num_steps=4,
        seed=0,
        record_every=2,
        metrics={"mode": lambda module: modes.append(module[3].training) or 0.0},
        callback=lambda step, module: calls.append((step, module[3].training)),
        progress=False,
    )
    assert modes == [False] * 3
    assert calls == [(0, True), (2, True), (4, True)]
    assert module[0].training and not module.training and not module[3].training


def test_the_last_row_leaves_running_means_alone() -> None:
    one = make_net(norm=True)
    fit(one, SquaredError(), (X, Y), num_steps=3, seed=0, progress=False)
    assert int(one[1].num_batches_tracked) == 3


def test_the_bar_shows_loss_and_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    fit(make_net(), SquaredError(), (X, Y), num_steps=30, seed=0, progress="learning the sine")
    shown = capfd.readouterr().err
    assert "learning the sine" in shown and "30/30" in shown and "loss=" in shown and "<00:00" in shown
    fit(make_net(), SquaredError(), (X, Y), num_steps=3, seed=0, progress=False)
    assert capfd.readouterr().err == ""


def test_it_trains_in_a_thread() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(train("batch norm, dropout")))
    thread.start()
    thread.join()
    assert_same(results[0], train("batch norm, dropout"))


# ---------------------------------------------------------------------------------------------------- early stop


@pytest.mark.parametrize("record_every", [1, 10])
def test_divergence_is_named_and_the_last_finite_weights_are_back(record_every: int) -> None:
    module = make_net()
    kept: dict[int, Tensor] = {}
    with pytest.raises(DivergedError, match=r"at step (\d+) .*try an lr below 1e\+08, clip gradients") as caught:
        fit(
            module,
            lambda module, batch: (module(batch[0]) - batch[1]).pow(4).mean(),
            (X, Y),
            num_steps=1000,
            seed=0,
            optimizer="sgd",
            lr=1e8,
            record_every=record_every,
            callback=lambda step, module: kept.__setitem__(step, module[4].weight.detach().clone()),
            progress=False,
        )
    error = caught.value
    last = int(error.history.step[-1])
    assert isinstance(error, FloatingPointError)
    assert error.step == last + record_every and f"the weights of step {last} are back" in str(error)
    assert bool(np.isfinite(error.history.loss).all())
    assert torch.equal(module[4].weight, kept[last])


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    with pytest.raises(DivergedError, match="norm of the gradient became nan at step 0"):
        fit(module, lambda m, b: m(b[0]).square().sum().sqrt(), (X,), num_steps=5, seed=0, progress=False)
    assert float(module.weight.detach()) == 0


def test_a_batch_that_is_not_finite_is_blamed() -> None:
    def batches(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return X, Y * (float("nan") if step == 7 else 1.0)

    with pytest.raises(DivergedError, match=r"nan at step 7 .*step 6 are back.*batch of that step holds"):
        fit(make_net(), SquaredError(), batches, num_steps=9, seed=0, progress=False)


def test_no_checkpoint_is_written_of_weights_that_are_not_finite(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    with pytest.raises(DivergedError, match="a weight became nan or infinite at step 1"):
        fit(
            nn.Linear(1, 1),
            lambda m, b: 1e10 * m(b[0]).sum(),
            (X + 2,),
            num_steps=50,
            seed=0,
            optimizer="sgd",
            lr=1e30,
            record_every=50,
            checkpoint=file,
            checkpoint_every=1,
            progress=False,
        )
    assert not file.exists()


# --------------------------------------------------------------------------------------- interrupted and resumed


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("calls", [3, 27])
def test_resumed_after_an_exception_in_the_loss(name: str, calls: int, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(name, SquaredError(calls, throw(RuntimeError)), checkpoint=file, checkpoint_every=2)
    assert_same(train(name, checkpoint=file, checkpoint_every=2), train(name))


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "l-bfgs"])
@pytest.mark.parametrize("calls", [0, 8, 29])
def test_resumed_after_keyboard_interrupt_out_of_the_loss(name: str, calls: int, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(name, SquaredError(calls, throw(KeyboardInterrupt)), checkpoint=file, checkpoint_every=1000)
    assert torch.load(file, weights_only=True)["step"] == calls  # no step is lost
    assert_same(train(name, checkpoint=file), train(name))


@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_after_ctrl_c(name: str, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    loss = SquaredError(26, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(name, loss, checkpoint=file, checkpoint_every=1000)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if name != "l-bfgs":  # whose step calls the loss several times
        assert loss.calls == 27 and torch.load(file, weights_only=True)["step"] == 27
    assert_same(train(name, checkpoint=file), train(name))


def test_ctrl_c_while_the_last_row_is_measured_is_not_lost(tmp_path: Path) -> None:
    loss = SquaredError(41, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train("batch norm, dropout", loss, checkpoint=tmp_path / "run.pt")
    assert_same(train("batch norm, dropout", checkpoint=tmp_path / "run.pt"), train("batch norm, dropout"))


def test_a_second_ctrl_c_does_not_wait() -> None:
    reached = []

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("the rest of the step")

    with pytest.raises(KeyboardInterrupt):
        train("batch norm, dropout", SquaredError(5, twice), checkpoint=os.devnull + ".never", resume=False)
    assert not reached


@pytest.mark.parametrize("name", SETTINGS)
def test_more_steps_train_on_and_a_finished_run_is_not_trained_again(name: str, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    short = train(name, checkpoint=file, num_steps=18)
    again = SquaredError()
    assert_same(train(name, again, checkpoint=file, num_steps=18), short)
    assert again.calls == 1  # the last row only
    longer = train(name, checkpoint=file, num_steps=41)
    assert_same(longer, train(name))


def test_resume_false_starts_again(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train("drawn batches", checkpoint=file, seed=1)
    assert_same(train("drawn batches", checkpoint=file, resume=False), train("drawn batches"))


def test_training_goes_on_within_the_same_objects_after_ctrl_c(tmp_path: Path) -> None:
    module = make_net()
    rule = torch.optim.Adam(module.parameters(), lr=0.01)
    common: dict[str, Any] = {"num_steps": 30, "seed": 0, "optimizer": rule, "scheduler": cosine, "progress": False}
    common |= {"checkpoint": tmp_path / "run.pt", "batch_size": 5}
    with pytest.raises(KeyboardInterrupt):
        fit(module, SquaredError(11, throw(KeyboardInterrupt)), (X, Y), **common)
    history = fit(module, SquaredError(), (X, Y), **common)
    fresh = make_net()
    rule = torch.optim.Adam(fresh.parameters(), lr=0.01)
    expected = fit(fresh, SquaredError(), (X, Y), **(common | {"optimizer": rule, "checkpoint": None}))
    assert_same((module, history), (fresh, expected))


KILLED = """
import os, random, signal, sys, time
import torch
import torch._dynamo  # the first optimiser imports it: once here, rather than in every child
sys.path.insert(0, sys.argv[1])
from sciviz.lab.fit import fit

folder, chance = sys.argv[2], random.Random(0)
torch.set_num_threads(1)

def schedule(rule):
    return torch.optim.lr_scheduler.CosineAnnealingLR(rule, 90)

def train(file, **options):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Dropout(0.2), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    X = torch.linspace(-1, 1, 40)[:, None]
    deadly = options.pop("deadly", -1)

    def loss(module, batch):
        if deadly >= 0 and calls[0] == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        calls[0] += 1
        return (module(batch[0]) - batch[1]).square().mean()

    calls = [0]
    history = fit(module, loss, (X, X.sin()), num_steps=90, seed=2, batch_size=6, record_every=10, progress=False,
                  checkpoint=file, scheduler=schedule, **options)
    torch.save([history.loss.values.tolist(), history.grad_norm.values.tolist(), module.state_dict()], file + ".result")

def child(kill_after=None, **options):
    "Train in a process of its own; kill it after some seconds; return the signal that ended it."
    process = os.fork()
    if process == 0:
        try:
            train(**options)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        # Not before there is something to resume, however slowly this machine starts a process.
        while not os.path.exists(options["file"]):
            time.sleep(0.001)
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    if status and not os.WIFSIGNALED(status):
        sys.exit("a child failed")
    return os.WTERMSIG(status) if status else 0

whole = os.path.join(folder, "whole")
start = time.perf_counter()
assert child(file=whole, checkpoint_every=50) == 0
duration = time.perf_counter() - start
for every, kills in ((1, 1), (7, 2), (30, 1)):
    # Killed amid steps drawn at random, with the last checkpoint some steps behind.
    file = os.path.join(folder, f"every{every}")
    for deadly in chance.sample(range(3, 44), kills):
        assert child(file=file, checkpoint_every=every, deadly=deadly) == signal.SIGKILL
    assert child(file=file, checkpoint_every=every) == 0
# Killed from outside at any moment; a checkpoint a step, so that most moments are amid the writing of one.
file = os.path.join(folder, "outside")
ends = [child(file=file, checkpoint_every=1, kill_after=duration * chance.uniform(0, 0.2)) for _ in range(4)]
assert signal.SIGKILL in ends, ends
assert child(file=file, checkpoint_every=1) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills its own forks, which this system does not have")
def test_resumed_after_sigkill(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", KILLED, root, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    expected = torch.load(tmp_path / "whole.result", weights_only=True)
    for name in ("every1", "every7", "every30", "outside"):
        loss, grad_norm, weights = torch.load(tmp_path / f"{name}.result", weights_only=True)
        assert [loss, grad_norm] == expected[:2], name
        assert all(torch.equal(weights[key], expected[2][key]) for key in weights), name


# ----------------------------------------------------------------------------------------------------- checkpoints


def cubed(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (module(batch[0]) - batch[1]).abs().pow(3).mean()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed was 3, is 4"),
        ({"batch_size": 6}, "batch_size was 5, is 6"),
        ({"lr": 0.5}, "optimizer was Adam .* is Adam"),
        ({"optimizer": "sgd"}, "optimizer was Adam .* is SGD"),
        ({"scheduler": cosine}, "scheduler was NoneType .* is CosineAnnealingLR"),
        ({"clip_norm": 1.0}, "clip_norm was None, is 1.0"),
        ({"record_every": 3}, "record_every was 4, is 3"),
        ({"data": (X, Y + 1e-6)}, "data was tensors"),
        ({"data": (X[:20], Y[:20])}, "data was tensors"),
        ({"loss": cubed}, "loss was SquaredError .* is cubed"),
        ({"net": {"dropout": 0.4}}, "module was Sequential"),
        ({"num_steps": 40}, "has 41 steps, num_steps is 40"),
    ],
)
def test_other_settings_are_refused_by_name(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train("adam, batches, dropout", checkpoint=file)
    with pytest.raises(ValueError, match=named) as caught:
        train("adam, batches, dropout", checkpoint=file, **changes)
    assert str(file) in str(caught.value) and "resume=False" in str(caught.value) and "\n" not in str(caught.value)


def test_an_edited_loss_is_noticed_and_a_moved_one_is_not(tmp_path: Path) -> None:
    def compiled(source: str) -> Any:
        names: dict[str, Any] = {}
        exec(compile(source, "cell", "exec"), names)
        return names["loss"]

    source = "def loss(module, batch):\n    return (module(batch[0]) - batch[1]).square().mean() * 2.0"
    common: dict[str, Any] = {"num_steps": 5, "seed": 0, "progress": False, "checkpoint": tmp_path / "run.pt"}
    fit(make_net(), compiled(source), (X, Y), **common)
    fit(make_net(), compiled("# a comment\n\n" + source), (X, Y), **common)
    with pytest.raises(ValueError, match="loss was"):
        fit(make_net(), compiled(source.replace("2.0", "3.0")), (X, Y), **common)


def test_damage_anywhere_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train("batch norm, dropout", checkpoint=file)
    sound, chance = file.read_bytes(), random.Random(0)
    damaged = [b"", b"not a checkpoint", sound[:100], sound[:-1], sound[: len(sound) // 2]]
    for _ in range(20):
        place = chance.randrange(len(sound))
        damaged.append(sound[:place] + bytes([sound[place] ^ (1 << chance.randrange(8))]) + sound[place + 1 :])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(repr(str(file))) + " is damaged .* resume=False"):
            train("batch norm, dropout", checkpoint=file)
        assert file.read_bytes() == content  # it is the user's to delete


class Trap:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["TRAP"],)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    file = tmp_path / "run.pt"
    torch.save({"settings": Trap()}, file)
    content = file.read_bytes()
    file.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(ValueError, match="damaged or was not written by fit"):
        train("batch norm, dropout", checkpoint=file)
    assert not (tmp_path / "sprung").exists()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.pt"
    train("batch norm, dropout", checkpoint=file, num_steps=12)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train("batch norm, dropout", checkpoint=file)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


def test_leftovers_of_killed_writers_are_cleared(tmp_path: Path) -> None:
    old, new = tmp_path / ".run.pt.1.part", tmp_path / ".run.pt.2.part"
    for left_over in (old, new):
        left_over.write_bytes(b"half")
    os.utime(old, (0, 0))
    train("batch norm, dropout", checkpoint=tmp_path / "run.pt")
    assert not old.exists() and new.exists()


def test_a_checkpoint_can_be_put_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    train("batch norm, dropout", checkpoint=str(tmp_path / "a" / "b" / "run.pt"))
    assert (tmp_path / "a" / "b" / "run.pt").exists()


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be an integer of at least 1, got 0"),
        ({"record_every": 0}, ValueError, "record_every"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"lr": -0.1}, ValueError, "lr must be a finite number greater than 0"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm"),
        ({"optimizer": "adm"}, ValueError, "Did you mean 'adam'"),
        ({"batch_size": 24}, ValueError, "batch_size must be an integer from 1 to 23, got 24"),
        ({"data": draw, "batch_size": 4}, ValueError, "batch_size must be left out"),
        ({"data": (X, Y[:-1])}, ValueError, "must have the same first dimension"),
        ({"data": (X, Y / 0)}, ValueError, r"data\[1\] must hold finite numbers only"),
        ({"data": (X[:0], Y[:0])}, ValueError, "at least one sample"),
        ({"data": (X.numpy(), Y)}, TypeError, "data must be tensors"),
        ({"metrics": {"loss": lambda module: 0.0}}, ValueError, "metrics must not be named"),
        ({"loss": lambda m, b: m(b[0])}, ValueError, r"loss must return a tensor without dimensions .* \(23, 1\)"),
        ({"loss": lambda m, b: b[0].sum()}, ValueError, "that depends on none"),
        ({"module": nn.Tanh()}, ValueError, "module must have at least one parameter"),
        ({"scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}, TypeError, "must not need a metric"),
        (
            {"scheduler": cosine(torch.optim.Adam(nn.Linear(1, 1).parameters()))},
            ValueError,
            "scheduler must belong to the optimizer",
        ),
        ({"optimizer": torch.optim.Adam(nn.Linear(1, 1).parameters()), "lr": 0.1}, ValueError, "lr must be left out"),
    ],
)
def test_bad_arguments_get_one_sentence(changes: dict[str, Any], error: type[Exception], named: str) -> None:
    options: dict[str, Any] = {"module": make_net(), "loss": SquaredError(), "data": (X, Y), "num_steps": 2, "seed": 0}
    options |= {"progress": False} | changes
    with pytest.raises(error, match=named) as caught:
        fit(options.pop("module"), options.pop("loss"), options.pop("data"), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="device must be one that this machine has, got 'cuda'"):
        train("batch norm, dropout", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_resumed_on_cuda(tmp_path: Path) -> None:
    for name in ("adam, batches, dropout", "batch norm, dropout"):
        file = tmp_path / f"{name}.pt"
        with pytest.raises(KeyboardInterrupt):
            train(name, SquaredError(17, throw(KeyboardInterrupt)), checkpoint=file, device="cuda")
        assert_same(train(name, checkpoint=file, device="cuda"), train(name, device="cuda"))
