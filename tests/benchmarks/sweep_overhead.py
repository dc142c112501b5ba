"""Points per minute of a sweep, against a shell loop of papermill: same notebook, same machine, same run, interleaved.

`python tests/benchmarks/sweep_overhead.py [--points 16] [--rounds 3]` writes results/sweep_overhead.json and prints the table.
The notebook imports sciviz, starts a run, computes for one second and records a claim. All processes have one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

WORK_SECONDS = 1.0
CELLS = (
    "seed: int = 0  # which draw [0..100000]",
    "import time\n\nimport torch\n\nimport sciviz\n\nrun = sciviz.start(seed=seed)",
    # Processor time, so that the work is the same on a busy machine.
    f"began = time.process_time()\nwhile time.process_time() - began < {WORK_SECONDS}:\n"
    "    total = float(torch.randn(100, 100).sum())",
    "run.claim('bench/total', says='a sum', measured=total, holds=True, criterion='none')",
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def write_notebook(path: Path) -> None:
    """Write the notebook of a second's work."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(CELLS)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command to its end; return its wall time and the processor time of all that it started, in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def papermill_loop(folder: Path, points: int) -> tuple[float, float]:
    """Time a shell loop of papermill over the points."""
    run = f"{shlex.quote(sys.executable)} -m papermill --no-progress-bar bench.ipynb out.ipynb -p seed $seed"
    return timed(["sh", "-ec", f"for seed in $(seq 0 {points - 1}); do {run}; done"], folder)


def sweep(folder: Path, points: int, workers: int) -> tuple[float, float]:
    """Time a sweep over the points, its start, collection and page included."""
    out = tempfile.mkdtemp(dir=folder)
    command = ["sweep", "bench.ipynb", "--grid", f"seed=0:{points}", "--workers", str(workers), "-o", out]
    return timed([sys.executable, "-m", "sciviz.cli", *command], folder)


def measure(points: int, rounds: int) -> dict[str, Any]:
    """Time all ways in turn, so that what else the machine does falls on all of them."""
    ways = {
        "papermill": lambda folder: papermill_loop(folder, points),
        "sweep, 1 worker": lambda folder: sweep(folder, points, 1),
        "sweep, 2 workers": lambda folder: sweep(folder, points, 2),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    loads = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_notebook(folder / "bench.ipynb")
        for number in range(rounds):
            # Another order each round: none is always the one after the loop.
            names = list(ways)[number % 3 :] + list(ways)[: number % 3]
            for name in names:
                loads.append(os.getloadavg()[0])
                seconds[name].append(ways[name](folder))
                print(
                    f"round {number + 1}: {name}: {seconds[name][-1][0]:.1f} s, {seconds[name][-1][1]:.1f} s of processors",
                    file=sys.stderr,
                )
    return {"seconds": seconds, "load": [round(load, 2) for load in loads]}


def summary(points: int, measured: dict[str, Any]) -> dict[str, Any]:
    """Return points per minute, overhead a point, and how the sweeps compare with the loop, round by round."""
    seconds = measured["seconds"]
    loop = [wall for wall, _ in seconds["papermill"]]
    rows = {}
    for name, pairs in seconds.items():
        times, processor = [wall for wall, _ in pairs], [used for _, used in pairs]
        overhead = [t / points - WORK_SECONDS for t in times]
        rows[name] = {
            "seconds": [round(t, 2) for t in times],
            "processor_seconds_per_point": [round(t / points, 2) for t in processor],
            "points_per_minute": round(60 * points / statistics.median(times), 1),
            "overhead_seconds_per_point": round(statistics.median(overhead), 2),
            "times_as_fast_as_papermill": [round(a / b, 2) for a, b in zip(loop, times, strict=True)],
            "overhead_relative_to_papermill": [
                round(o / (t / points - WORK_SECONDS), 2) for o, t in zip(overhead, loop, strict=True)
            ],
        }
    return {
        "points": points,
        "work_seconds": WORK_SECONDS,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_before_each": measured["load"],
        "versions": {n: version(n) for n in ("papermill", "distributed", "torch", "ipykernel")},
        "ways": rows,
    }


def shown(found: dict[str, Any]) -> str:
    """Return the record as a table."""
    lines = [f"{'':<18} points/min   overhead/point   processor s/point   as fast as papermill, by round"]
    for name, row in found["ways"].items():
        rounds = ", ".join(f"{ratio:.2f}x" for ratio in row["times_as_fast_as_papermill"])
        used = statistics.median(row["processor_seconds_per_point"])
        per_minute, overhead = row["points_per_minute"], row["overhead_seconds_per_point"]
        lines.append(f"{name:<18} {per_minute:>10} {overhead:>14} s {used:>19.2f}   {rounds}")
    lines.append(f"load average before each run: {found['load_before_each']}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sweep_overhead.json")
    options = parser.parse_args()
    found = summary(options.points, measure(options.points, options.rounds))
    print(shown(found))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
