"""What each method costs as its size grows: time and memory, and the exponent fitted beside the theoretical one.

`python tests/benchmarks/growth.py [--only ntk]` writes results/growth-MACHINE.json and the table in README.md. Each size runs in
a process of its own, forked from one that has imported everything; times are processor time, median of at least five runs, and the
exponent is fitted to the upper half of the sizes, where the constant cost of a call is small. Memory is the highest resident
size during the first run less that before it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from host import forget_peak, machine_name, peak_mb, resident_mb  # noqa: E402


@dataclass(frozen=True)
class Growth:
    """One axis: `make(size)` sets up and returns the work; theory is the exponent of time, and of memory where one is stated."""

    id: str
    axis: str
    sizes: tuple[int, ...]
    theory: float
    make: Callable[[int], Callable[[], Any]]
    memory: float | None = None
    note: str = ""


def _draw(*shape: int, dtype: Any = None) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _infinite(points: int) -> Callable[[], Any]:
    from sciviz.ntk import infinite_kernels

    X = _draw(points, 64)
    return lambda: infinite_kernels(X, depth=2, weight_variance=2.0)


def _empirical(width: int) -> Callable[[], Any]:
    from torch import nn

    from sciviz.ntk import empirical_ntk

    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    X = _draw(64, 64)
    return lambda: empirical_ntk(network, X)


def _coupling(batch: int, block: int | None) -> Callable[[], Any]:
    from sciviz.flow import minibatch_ot

    x0, x1 = _draw(batch, 2), _draw(batch, 2).flip(0) * 0.3 + 1
    return lambda: minibatch_ot(x0, x1, block=block, passes=1)


def _kan(num_cells: int, width: int) -> Callable[[], Any]:
    from sciviz.kan import KAN

    model, X = KAN([width, width], seed=0, num_cells=num_cells), _draw(256, width).tanh()

    def run() -> None:
        model.zero_grad()
        model(X).square().mean().backward()

    return run


def _hopfield(stored: int) -> Callable[[], Any]:
    from sciviz.hopfield import retrieve_blocked

    patterns, cues = _draw(stored, 64), _draw(64, 64)
    return lambda: retrieve_blocked(patterns, cues, 0.5)


def _spiking(num_steps: int) -> Callable[[], Any]:
    from sciviz.snn import lif

    current = _draw(num_steps, 16, 512).requires_grad_()

    def run() -> None:
        current.grad = None
        lif(current, decay=0.9).spikes.mean().backward()

    return run


def _trajectories(number: int) -> Callable[[], Any]:
    import torch

    from sciviz.ode import solve

    y0, t = _draw(number, 2, dtype=torch.float64), torch.tensor([0.0, 10.0], dtype=torch.float64)

    def field(t: Any, y: Any) -> Any:
        return torch.stack([y[..., 1], 2 * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]], -1)

    return lambda: solve(field, y0, t, method="tsit5", rtol=1e-5, atol=1e-5)


def _adjoint(time_units: int) -> Callable[[], Any]:
    import torch

    from sciviz.ode import solve

    rate = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64, requires_grad=True)
    y0, t = _draw(4096, 2, dtype=torch.float64), torch.tensor([0.0, float(time_units)], dtype=torch.float64)

    def run() -> None:
        rate.grad = None
        y = solve(
            lambda t, y: y @ rate, y0, t, method="rk4", num_steps=10 * time_units, gradient="adjoint", params=(rate,)
        ).y
        y[-1].square().mean().backward()

    return run


GROWTHS = (
    Growth("ntk/points", "points, infinite ReLU network, 64 inputs", (250, 500, 1000, 2000, 4000), 2, _infinite, 2),
    Growth(
        "ntk/width",
        "width, empirical kernel, two hidden layers, 64 points",
        (256, 512, 1024, 2048, 4096),
        2,
        _empirical,
        2,
    ),
    Growth(
        "flow/coupling",
        "batch, transport in blocks of 128",
        (512, 1024, 2048, 4096, 8192),
        1,
        lambda n: _coupling(n, 128),
        None,
    ),
    Growth(
        "flow/exact-coupling",
        "batch, exact transport",
        (128, 256, 512, 1024, 2048),
        3,
        lambda n: _coupling(n, None),
        2,
        "three is the worst case; clouds as these are easier",
    ),
    Growth(
        "kan/cells",
        "grid cells, cubic layer 64 → 64, forward and backward",
        (5, 20, 80, 320, 1280),
        0,
        lambda n: _kan(n, 64),
        None,
    ),
    Growth(
        "kan/width",
        "width, cubic layer n → n, 5 cells, forward and backward",
        (32, 64, 128, 256, 512),
        2,
        lambda n: _kan(5, n),
        2,
    ),
    Growth(
        "hopfield/stored",
        "stored patterns, blocked retrieval of 64",
        (4000, 16000, 64000, 256000, 1024000),
        1,
        _hopfield,
        0,
    ),
    Growth(
        "snn/steps", "time steps, 16 × 512 neurons, forward and backward", (64, 128, 256, 512, 1024), 1, _spiking, 1
    ),
    Growth(
        "ode/trajectories",
        "trajectories, Van der Pol, tolerance 1e-5",
        (256, 1024, 4096, 16384, 65536),
        1,
        _trajectories,
        1,
    ),
    Growth("ode/adjoint", "length of time, adjoint gradient, fixed steps", (4, 8, 16, 32, 64), 1, _adjoint, 0),
)


def _measure(growth: Growth, size: int, out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    run = growth.make(size)
    watched, before = forget_peak(), resident_mb()
    run()
    peak = peak_mb() - before if watched else math.nan
    run()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < 0.5 and len(times) < 50):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    out.send((statistics.median(times), peak))


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of log value against log size over the upper half of the sizes."""
    keep = len(sizes) // 2
    x = [math.log(size) for size in sizes[keep:]]
    y = [math.log(max(value, 1e-12)) for value in values[keep:]]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def run(only: str = "") -> dict[str, Any]:
    """Measure all axes whose id contains `only`."""
    context = multiprocessing.get_context("fork")
    found: dict[str, Any] = {}
    for growth in GROWTHS:
        if only not in growth.id:
            continue
        rows = []
        for size in growth.sizes:
            here, there = context.Pipe(duplex=False)
            child = context.Process(target=_measure, args=(growth, size, there))
            child.start()
            there.close()
            try:
                rows.append(here.recv())
            except EOFError:
                raise SystemExit(f"{growth.id} ended at size {size}.") from None
            child.join()
        sizes, times, peaks = list(growth.sizes), [row[0] for row in rows], [row[1] for row in rows]
        found[growth.id] = {
            "axis": growth.axis,
            "sizes": sizes,
            "seconds": times,
            "peak_mb": peaks,
            "exponent": exponent(sizes, times),
            "theory": growth.theory,
            # Below a few megabytes the allocator's pages are all that is seen.
            "memory_exponent": exponent(sizes, peaks) if min(peaks[len(sizes) // 2 :]) > 4 else None,
            "memory_theory": growth.memory,
            "note": growth.note,
            "date": datetime.date.today().isoformat(),
        }
        print(f"{growth.id:24s} time {found[growth.id]['exponent']:5.2f} (theory {growth.theory:g})", end="  ")
        print("memory", [round(peak, 1) for peak in peaks], "ms", [round(1e3 * one, 2) for one in times], flush=True)
    return found


def main() -> None:
    """Measure, keep the results, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    import torch  # noqa: F401  (imported once; the sizes are forked from here)

    import sciviz

    for wing in ("flow", "hopfield", "kan", "ntk", "ode", "snn"):
        getattr(sciviz, wing)
    found = run(options.only)
    if not options.no_write:
        from tables import write_growth

        path = HERE / "results" / f"growth-{machine_name()}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        kept.update(found)
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_growth(kept)


if __name__ == "__main__":
    main()
