"""One contestant in a process of its own: sets up when asked, runs when asked, and keeps what it computed.

Started by bench.py with the interpreter of the contestant's environment; it imports nothing but that library.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from host import forget_peak, peak_mb, resident_mb
from registry import find_contestant


def reply(**values: Any) -> None:
    print("@@" + json.dumps(values), flush=True)


class Processor:
    """How time and memory are taken on a CPU: the clock, and what the process holds."""

    def ready(self) -> None:
        """Remember what is held before the work."""
        self.base = resident_mb()

    def measure(self, run: Callable[[], Any]) -> tuple[Any, float, float]:
        """Return what the work returns, its seconds, and the megabytes that it held at most beyond those before."""
        watched = forget_peak()
        start = time.perf_counter()
        outcome = run()
        seconds = time.perf_counter() - start
        return outcome, seconds, peak_mb() - self.base if watched else math.nan


class Gpu:
    """How they are taken on a GPU: events in its own queue, and what torch has given out there."""

    def ready(self) -> None:
        """Remember what is held before the work."""
        import torch

        torch.cuda.synchronize()
        self.base = torch.cuda.memory_allocated()

    def measure(self, run: Callable[[], Any]) -> tuple[Any, float, float]:
        """Return what the work returns, its seconds, and the megabytes that it held at most beyond those before."""
        import torch

        torch.cuda.reset_peak_memory_stats()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        outcome = run()
        end.record()
        end.synchronize()
        peak = (torch.cuda.max_memory_allocated() - self.base) / 2**20
        return outcome, begin.elapsed_time(end) / 1000, peak


def main() -> None:
    task, library, folder, threads, device = sys.argv[1:6]
    workload, contestant = find_contestant(task, library)
    watch = Gpu() if device == "cuda" else Processor()
    run: Any = None
    outcome: Any = None
    for line in sys.stdin:
        word = line.strip()
        if word == "setup":
            try:
                import torch

                torch.set_num_threads(int(threads))
            except ImportError:
                pass
            run = contestant.make(device, workload.sizes[device]) if workload.sizes else contestant.make()
            watch.ready()
            outcome, cold, _ = watch.measure(run)
            if cold < 5:
                for _ in range(2):
                    outcome = run()
            versions = {}
            for name in ("torch", "jax", contestant.package):
                try:
                    versions[name] = version(name)
                except PackageNotFoundError:
                    continue
            reply(seconds=cold, versions=versions)
        elif word == "run":
            gc.collect()
            outcome, seconds, peak = watch.measure(run)
            reply(seconds=seconds, peak_mb=round(peak, 1))
        elif word == "outcome":
            # What the judge needs beside the work itself, and what is not part of its time.
            outcome = {**outcome, **getattr(run, "more", dict)()}
            np.savez(Path(folder) / "outcome.npz", **{name: np.asarray(value) for name, value in outcome.items()})
            reply(done=True)


if __name__ == "__main__":
    main()
