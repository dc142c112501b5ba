"""Ours beside its peers: the same work, in the same run, in turns.

`make bench` runs it whole. `python tests/benchmarks/bench.py --only ode --rounds 3` runs a part. Every contestant is a
process of its own, in the environment that its library needs; rounds go round-robin (ours, peer, ours, peer …), first
with one thread and then with two. What each contestant computed comes back and is judged here against one reference.
With `--device cuda` the work that has sizes for a GPU runs there, timed by events in its queue; `--here` takes one
environment for all, where no other can be made. Results are written to results/MACHINE.json, the tables to README.md.
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
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from host import machine, machine_name  # noqa: E402
from registry import Contestant, Workload, load_workloads  # noqa: E402


def python_of(environment: str, here: bool = False) -> Path:
    """Return the interpreter of an environment, made if it is not there yet; `here`, always this one."""
    if environment == "ours" or here:
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

    def __init__(self, contestant: Contestant, threads: int, folder: Path, device: str, here: bool) -> None:
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
                str(python_of(contestant.environment, here)),
                str(HERE / "worker.py"),
                contestant.workload,
                contestant.library,
                str(folder),
                str(threads),
                device,
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


def find_ceilings(device: str, threads: int) -> dict[str, float]:
    """Measure what the device can do at most, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "ceilings.py"), device, str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(
    workload: Workload,
    threads: int,
    rounds: int,
    *,
    device: str = "cpu",
    here: bool = False,
    ceilings: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Run all contestants of a workload in turns and judge what they computed."""
    rows: dict[str, Any] = {}
    size = workload.sizes.get(device, {})
    with tempfile.TemporaryDirectory() as folder:
        workers: dict[str, Worker] = {}
        try:
            for contestant in workload.contestants:
                place = Path(folder) / contestant.library.replace(" ", "_").replace("/", "_")
                place.mkdir()
                worker = Worker(contestant, threads, place, device, here)
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
            judged = workload.judge(outcomes, size) if workload.sizes else workload.judge(outcomes)
            for name, figures in judged.items():
                rows[name]["accuracy"] = figures
        finally:
            for worker in workers.values():
                worker.close()
    ours = rows.get("sciviz", {}).get("seconds")
    alike = {contestant.library for contestant in workload.contestants if contestant.alike}
    floor = workload.floor_of(device, outcomes["sciviz"]) if "sciviz" in outcomes else None
    for name, row in rows.items():
        if "error" in row:
            continue
        row["median_s"] = statistics.median(row["seconds"])
        row["spread_s"] = float(np.subtract(*np.percentile(row["seconds"], [75, 25])))
        row["peak_mb"] = max(row["peak_mb"])
        if ours and name in alike:
            # Round by round, so that a machine that slows down for a while slows both.
            row["ours_over_it"] = statistics.median(a / b for a, b in zip(ours, row["seconds"], strict=True))
        if floor is not None and ceilings is not None and name in alike:
            least, row["bound"] = floor.seconds(ceilings)
            row["floor"] = asdict(floor)
            row["share"] = least / row["median_s"]
    return rows


def main() -> None:
    """Run the workloads asked for and write results and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="workloads whose id contains this")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--here", action="store_true", help="run every contestant in this environment")
    parser.add_argument("--no-write", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    path = HERE / "results" / f"{machine_name(options.device)}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"workloads": {}}
    workloads = [
        workload
        for workload in load_workloads()
        if options.only in workload.id and (not on_gpu or options.device in workload.sizes)
    ]
    settings = [("cuda", 1)] if on_gpu else [(f"threads={n}", int(n)) for n in options.threads.split(",")]
    if any(workload.sizes for workload in workloads):
        for key, threads in settings:
            kept.setdefault("ceilings", {})[key] = find_ceilings(options.device, threads)
    for workload in workloads:
        entry = kept["workloads"].setdefault(workload.id, {})
        for key, threads in settings:
            rows = measure(
                workload,
                threads,
                options.rounds,
                device=options.device,
                here=options.here,
                ceilings=kept.get("ceilings", {}).get(key),
            )
            entry[key] = rows
            entry["date"] = datetime.date.today().isoformat()
            entry["load"] = round(os.getloadavg()[0], 1)
            if key == settings[0][0] and threads == 1:
                entry["targets"] = [target.verdict(rows) for target in workload.targets]
            print(f"\n{workload.id}, {key}")
            for name, row in rows.items():
                if "error" in row:
                    print(f"  {name:36s} {row['error'].splitlines()[-1][:90]}")
                    continue
                time = f"{row['median_s'] * 1e3:10.2f} ms ± {row['spread_s'] * 1e3:8.2f}"
                ratio = f"ours/it {row.get('ours_over_it', float('nan')):6.2f}"
                share = f"{row['share']:.0%} of {row['bound']}" if "share" in row else ""
                print(
                    f"  {name:36s} {time}  {ratio}  {share}  {row.get('accuracy', {})}  {row['peak_mb']:.0f} MB",
                    flush=True,
                )
            for line in entry.get("targets") or []:
                print("   ", line)
        if not options.no_write:
            kept.update(machine=machine(options.device), torch=version("torch"))
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")
    if not options.no_write:
        from tables import write_large, write_tables

        if not on_gpu:
            write_tables(kept, load_workloads())
        write_large([workload for workload in load_workloads() if workload.sizes])


if __name__ == "__main__":
    main()
