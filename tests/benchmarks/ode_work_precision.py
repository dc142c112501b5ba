"""Work against precision: our 5(4) pairs beside torchdiffeq's, same problem, same tolerance, same run.

`python tests/benchmarks/ode_work_precision.py` writes results/ode_work_precision.json and prints the table. Rounds are
interleaved (ours, peer, ours, peer …) on one thread; medians of process time. The error is the largest difference at
the output times from the same problem solved by SciPy's DOP853 at a tolerance of 1e-12.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from sciviz.ode import solve

Field = Callable[[Any, torch.Tensor], torch.Tensor]
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


def van_der_pol(t: Any, y: torch.Tensor) -> torch.Tensor:
    position, speed = y[..., :1], y[..., 1:]
    return torch.cat([speed, 2 * (1 - position**2) * speed - position], -1)


def lotka_volterra(t: Any, y: torch.Tensor) -> torch.Tensor:
    prey, hunters = y[..., :1], y[..., 1:]
    return torch.cat([prey * (1.5 - hunters), hunters * (prey - 3)], -1)


def problems() -> dict[str, tuple[Field, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    return {
        "Van der Pol, mu = 2, 64 trajectories, t <= 10": (van_der_pol, 2 * start, torch.linspace(0, 10, 50).double()),
        "Lotka-Volterra, 64 trajectories, t <= 10": (
            lotka_volterra,
            start.abs() + 0.5,
            torch.linspace(0, 10, 50).double(),
        ),
    }


def reference(field: Field, y0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    paths = []
    for row in y0:
        one = solve_ivp(
            lambda s, y: field(s, torch.as_tensor(y)[None])[0].numpy(),
            (float(t[0]), float(t[-1])),
            row.numpy(),
            method="DOP853",
            t_eval=t.numpy(),
            rtol=1e-12,
            atol=1e-12,
        )
        paths.append(one.y.T)
    return torch.as_tensor(np.stack(paths, 1))


def run_ours(*arguments: Any, **options: Any) -> torch.Tensor:
    return solve(*arguments, **options).y


def measure(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, (field, y0, t) in problems().items():
        truth = reference(field, y0, t)
        for tolerance in TOLERANCES:
            calls = [0]

            def counted(time: Any, y: torch.Tensor, calls: list[int] = calls, field: Field = field) -> torch.Tensor:
                calls[0] += 1
                return field(time, y)

            common: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
            ways = {
                "sciviz dopri5": partial(run_ours, counted, y0, t, method="dopri5", **common),
                "sciviz tsit5": partial(run_ours, counted, y0, t, method="tsit5", **common),
                "torchdiffeq dopri5": partial(odeint, counted, y0, t, **common),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            seen: dict[str, dict[str, Any]] = {}
            with torch.no_grad():
                for number in range(rounds + 1):
                    for way, run in ways.items():
                        calls[0] = 0
                        began = time.process_time()
                        result = run()
                        if number:  # the first round warms up
                            times[way].append(time.process_time() - began)
                        seen[way] = {"error": float((result - truth).abs().max()), "calls": calls[0]}
            for way in ways:
                rows.append(
                    {
                        "problem": name,
                        "tolerance": tolerance,
                        "way": way,
                        **seen[way],
                        "milliseconds": 1e3 * statistics.median(times[way]),
                        "spread": 1e3 * (max(times[way]) - min(times[way])),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ode_work_precision.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.rounds)
    record = {
        "rows": rows,
        "rounds": arguments.rounds,
        "threads": 1,
        "processor": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "torchdiffeq", "scipy")},
        "not like for like": "torchdiffeq takes one step size for the whole batch, ours one for each trajectory",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['problem']:<48} {row['tolerance']:.0e}  {row['way']:<20} error {row['error']:.1e}  "
            f"{row['calls']:>5} calls  {row['milliseconds']:7.1f} ms ± {row['spread'] / 2:.1f}"
        )


if __name__ == "__main__":
    main()
