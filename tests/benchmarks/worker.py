"""One contestant in a process of its own: sets up when asked, runs when asked, and keeps what it computed.

Started by bench.py with the interpreter of the contestant's environment; it imports nothing but that library.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from host import forget_peak, peak_mb, resident_mb
from registry import find_contestant


def reply(**values: Any) -> None:
    print("@@" + json.dumps(values), flush=True)


def main() -> None:
    workload, library, folder, threads = sys.argv[1:5]
    contestant = find_contestant(workload, library)
    run: Any = None
    outcome: Any = None
    base = 0.0
    for line in sys.stdin:
        word = line.strip()
        if word == "setup":
            try:
                import torch

                torch.set_num_threads(int(threads))
            except ImportError:
                pass
            run = contestant.make()
            base = resident_mb()
            start = time.perf_counter()
            outcome = run()
            cold = time.perf_counter() - start
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
            watched = forget_peak()
            start = time.perf_counter()
            outcome = run()
            seconds = time.perf_counter() - start
            peak = peak_mb() - base if watched else math.nan
            reply(seconds=seconds, peak_mb=round(peak, 1))
        elif word == "outcome":
            # What the judge needs beside the work itself, and what is not part of its time.
            outcome = {**outcome, **getattr(run, "more", dict)()}
            np.savez(Path(folder) / "outcome.npz", **{name: np.asarray(value) for name, value in outcome.items()})
            reply(done=True)


if __name__ == "__main__":
    main()
