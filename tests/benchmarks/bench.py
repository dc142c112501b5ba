"""Ours beside its peers: the same work, in the same run, in turns.

`make bench` runs it whole. `python tests/benchmarks/bench.py --only ode --rounds 3` runs a part. Every contestant is a
process of its own, in the environment that its library needs; rounds go round-robin (ours, peer, ours, peer …), first
with one thread and then with two. What each contestant computed comes back and is judged here against one reference.
Results are written to results/MACHINE.json, the tables to README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from host import machine, machine_name  # noqa: E402
from registry import Contestant, Workload, load_workloads  # noqa: E402


def python_of(environment: str) -> Path:
    """Return the interpreter of an environment, made if it is not there yet."""
    if environment == "ours":
        return Path(sys.executable)
    home = ROOT / ".bench" / environment
    python = home / "bin" / "python"
    wanted = tomllib.loads((HERE / "environments.toml").read_text(encoding="utf-8"))[environment]
    stamp = home / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return python
    print(f"Making the environment {environment} …", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(home)], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
    links = {**os.environ, "UV_FIND_LINKS": os.environ.get("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))}
    pins = ["--constraint", str(ROOT / "constraints.txt")] if wanted["pins"] else []
    subprocess.run([*install, *pins, *wanted["install"]], check=True, env=links)
    if wanted["bare"]:
        subprocess.run([*install, "--no-deps", *wanted["bare"]], check=True, env=links)
    stamp.write_text(json.dumps(wanted))
    return python


class Worker:
    """A process that has set up one contestant and runs it when asked."""

    def __init__(self, contestant: Contestant, threads: int, folder: Path) -> None:
        self.contestant = contestant
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [
                str(python_of(contestant.environment)),
                str(HERE / "worker.py"),
                contestant.workload,
                contestant.library,
                str(folder),
                str(threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        self.folder = folder

    def ask(self, question: str) -> dict[str, Any]:
        """Send one word, wait for the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@@"):
                return dict(json.loads(line[2:]))
        lines = (self.folder / "log").read_text().strip().splitlines()
        # The traceback is for who runs this; the record keeps its last line, which names no folder of this machine.
        print("\n".join(lines[-12:]), file=sys.stderr)
        raise RuntimeError(
            f"{self.contestant.library} ended during {question!r}: {lines[-1] if lines else 'no message'}"
        )

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.log.close()


def measure(workload: Workload, threads: int, rounds: int) -> dict[str, Any]:
    """Run all contestants of a workload in turns and judge what they computed."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        workers: dict[str, Worker] = {}
        try:
            for contestant in workload.contestants:
                place = Path(folder) / contestant.library.replace(" ", "_").replace("/", "_")
                place.mkdir()
                worker = Worker(contestant, threads, place)
                try:
                    start = worker.ask("setup")
                except RuntimeError as error:
                    rows[contestant.library] = {"error": str(error)}
                    worker.close()
                    continue
                workers[contestant.library] = worker
                rows[contestant.library] = {
                    "cold_s": start["seconds"],
                    "versions": start["versions"],
                    "seconds": [],
                    "peak_mb": [],
                }
            for _ in range(min(rounds, workload.rounds or rounds)):
                for name, worker in workers.items():
                    answer = worker.ask("run")
                    rows[name]["seconds"].append(answer["seconds"])
                    rows[name]["peak_mb"].append(answer["peak_mb"])
            outcomes = {}
            for name, worker in workers.items():
                worker.ask("outcome")
                with np.load(Path(worker.folder) / "outcome.npz") as kept:
                    outcomes[name] = dict(kept)
            for name, figures in workload.judge(outcomes).items():
                rows[name]["accuracy"] = figures
        finally:
            for worker in workers.values():
                worker.close()
    ours = rows.get("sciviz", {}).get("seconds")
    for row in rows.values():
        if "error" in row:
            continue
        row["median_s"] = statistics.median(row["seconds"])
        row["spread_s"] = float(np.subtract(*np.percentile(row["seconds"], [75, 25])))
        row["peak_mb"] = max(row["peak_mb"])
        if ours:
            # Round by round, so that a machine that slows down for a while slows both.
            row["ours_over_it"] = statistics.median(a / b for a, b in zip(ours, row["seconds"], strict=True))
    return rows


def main() -> None:
    """Run the workloads asked for and write results and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="workloads whose id contains this")
    parser.add_argument("--no-write", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    path = HERE / "results" / f"{machine_name()}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"workloads": {}}
    for workload in load_workloads():
        if options.only not in workload.id:
            continue
        entry = kept["workloads"].setdefault(workload.id, {})
        for threads in [int(word) for word in options.threads.split(",")]:
            rows = measure(workload, threads, options.rounds)
            entry[f"threads={threads}"] = rows
            entry["date"] = datetime.date.today().isoformat()
            entry["load"] = round(os.getloadavg()[0], 1)
            entry["targets"] = (
                [target.verdict(rows) for target in workload.targets] if threads == 1 else entry.get("targets")
            )
            print(f"\n{workload.id}, {threads} thread{'s' if threads > 1 else ''}")
            for name, row in rows.items():
                if "error" in row:
                    print(f"  {name:36s} {row['error'].splitlines()[-1][:90]}")
                else:
                    time = f"{row['median_s'] * 1e3:10.2f} ms ± {row['spread_s'] * 1e3:8.2f}"
                    ratio = f"ours/it {row.get('ours_over_it', float('nan')):6.2f}"
                    print(
                        f"  {name:36s} {time}  {ratio}  {row.get('accuracy', {})}  {row['peak_mb']:.0f} MB", flush=True
                    )
            for line in entry["targets"] or []:
                print("   ", line)
        if not options.no_write:
            kept.update(machine=machine(), torch=version("torch"))
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")
    if not options.no_write:
        from tables import write_tables

        write_tables(kept, load_workloads())


if __name__ == "__main__":
    main()
