"""What a person waits for: the import, the first figure, an explorer's answer, a whole tutorial.

`python tests/benchmarks/person.py [--only import,kernel,explorers,tutorials,browser]` writes results/person-MACHINE.json and the
table in README.md. What the browser shows is measured by its tests (`pytest tests/browser`), which leave their times in
`test-artefacts/times/`; this script reads them. Times are wall time, but for an explorer's work in the kernel: that is processor
time, so that a busy machine changes it little.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

ROUNDS = 7
MOVES = 60
FIRST_FIGURE = """
import numpy as np
from sciviz.lab import theme

x = np.linspace(0, 6, 200)
theme.add_theory(theme.figure(title="A wave", alt="A wave.", x="x", y="y"), x, np.sin(x), "wave")
"""
FIRST_EXPLORER = "from sciviz.ntk import explorer\n\nexplorer.explore_kernel(seed=0)"


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def imports() -> dict[str, Any]:
    """Time `import sciviz` after torch, and alone, each in a process of its own."""
    script = "import time{0}; t = time.perf_counter(); import sciviz; print(time.perf_counter() - t)"
    found = {}
    for name, before in (("after torch", ", torch"), ("alone", "")):
        times = []
        for _ in range(ROUNDS):
            done = subprocess.run(
                [sys.executable, "-c", script.format(before)], capture_output=True, text=True, check=True
            )
            times.append(float(done.stdout))
        found[name] = statistics.median(times)
    return found


def kernel() -> dict[str, Any]:
    """Time the first figure and the first explorer in a kernel that has just started, from request to shown."""
    from jupyter_client.manager import start_new_kernel

    found = {}
    for name, source in (("first figure", FIRST_FIGURE), ("first explorer", FIRST_EXPLORER)):
        times = []
        for _ in range(3):
            manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "OMP_NUM_THREADS": "2"})
            try:
                began = time.perf_counter()
                answer = client.execute_interactive(source, timeout=120, output_hook=lambda message: None)
                times.append(time.perf_counter() - began)
                if answer["content"]["status"] != "ok":
                    raise RuntimeError("\n".join(answer["content"]["traceback"]))
            finally:
                client.stop_channels()
                manager.shutdown_kernel(now=True)
        found[name] = statistics.median(times)
    return found


def explorers() -> dict[str, Any]:
    """Time what the kernel does between a control's new value and the message to the page."""
    import torch

    from tests.notebooks import explorers as driver

    torch.set_num_threads(1)
    found = {}
    for name, make in driver.explorers().items():
        began = time.process_time()
        widget = make()
        ready = time.process_time() - began
        times = []
        for panel in driver.panels(widget):
            chance = random.Random(0)
            for _ in range(MOVES):
                control = chance.choice(list(panel.controls))
                value = driver.pick(panel.controls[control], chance)
                began = time.process_time()
                panel.set(**{control: value})
                times.append(time.process_time() - began)
        if times:
            found[name] = {"ready_s": ready, "median_s": statistics.median(times), "p95_s": _p95(times)}
            print(f"{name:28s} ready {ready:6.2f} s, update p95 {1e3 * found[name]['p95_s']:7.1f} ms", flush=True)
    return found


def tutorials() -> dict[str, Any]:
    """Run each tutorial whole, explorers too; keep time, memory and the slowest five cells."""
    from sciviz.lab.places import tutorials as all_tutorials
    from sciviz.reports.runner import execute

    found = {}
    for tutorial in all_tutorials():
        done = execute(
            tutorial, {}, leave_out=frozenset(), progress=False, environment={"OMP_NUM_THREADS": str(os.cpu_count())}
        )
        if done.failure is not None:
            raise RuntimeError(f"{tutorial.stem}: {done.failure}")
        cells = [
            (cell.metadata.get("papermill", {}).get("duration") or 0.0, cell.id)
            for cell in done.notebook.cells
            if cell.cell_type == "code"
        ]
        slowest = [{"cell": name, "seconds": round(seconds, 1)} for seconds, name in sorted(cells, reverse=True)[:5]]
        memory = done.stamp.get("peak_memory_mb")
        found[tutorial.stem] = {
            "seconds": round(done.seconds, 1),
            "memory_mb": memory and round(memory),
            "slowest": slowest,
        }
        print(tutorial.stem, found[tutorial.stem], flush=True)
    return found


def browser() -> dict[str, Any]:
    """Read what the browser tests left: seconds from a key to the frame in which a curve differs."""
    found: dict[str, list[float]] = {}
    for path in sorted((ROOT / "test-artefacts" / "times").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            # The explorers of the wings by their names; one more is a tutorial's own.
            name = row["explorer"] if "." in row["explorer"] else f"{path.stem}: {row['explorer']}"
            if row["seconds"] is not None and ("." in row["explorer"] or path.stem == "00_start_here"):
                found.setdefault(name, []).append(row["seconds"])
    return {
        name: {"median_s": statistics.median(times), "p95_s": _p95(times), "moves": len(times)}
        for name, times in found.items()
    }


PARTS = {"import": imports, "kernel": kernel, "explorers": explorers, "tutorials": tutorials, "browser": browser}


def main() -> None:
    """Measure, keep the results, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    from host import machine_name
    from tables import write_person

    path = HERE / "results" / f"person-{machine_name()}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part in options.only.split(","):
        found = PARTS[part]()
        if found:
            kept[part] = {
                "rows": found,
                "date": datetime.date.today().isoformat(),
                "load": round(os.getloadavg()[0], 1),
            }
            path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_person(kept)


if __name__ == "__main__":
    main()
