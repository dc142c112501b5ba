"""Retrieval and layers of the Hopfield wing beside torch's own attention: same numbers in, same machine, same run.

`python tests/benchmarks/hopfield_layers.py` writes results/hopfield_layers.json and prints the table. Rounds are interleaved
(ours, peer, ours, peer …) on one thread; medians of process time, and ratios round by round. Answers are compared before
anything is timed. `--stored` says among how many patterns blocked retrieval is measured, `--dtype` how they are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sciviz.hopfield import Hopfield, retrieve, retrieve_blocked

BETA = 0.5
Work = Callable[[], object]


def in_turns(ways: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Time all ways in every round, after one untimed round, each time starting with another one."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.process_time()
            ways[name]()
            if number:
                seconds[name].append(time.process_time() - began)
    return seconds


def rows(title: str, seconds: dict[str, list[float]], targets: dict[tuple[str, str], float]) -> dict[str, Any]:
    """Return medians, and ratios round by round beside what they should be at most."""
    return {
        "title": title,
        "milliseconds": {name: round(1e3 * statistics.median(times), 3) for name, times in seconds.items()},
        "ratios": [
            {
                "of": of,
                "over": over,
                "median": round(statistics.median(a / b for a, b in zip(seconds[of], seconds[over], strict=True)), 3),
                "range": [
                    round(pick(a / b for a, b in zip(seconds[of], seconds[over], strict=True)), 3)
                    for pick in (min, max)
                ],
                "at most": most,
            }
            for (of, over), most in targets.items()
        ],
    }


def one_step(rounds: int) -> dict[str, Any]:
    """Retrieve 256 half-hidden cues among ten thousand patterns of 64 entries."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 2, (10_000, 64), generator=generator).float() * 2 - 1
    cues = patterns[:256].clone()
    cues[:, 32:] = 0
    ways: dict[str, Callable[[], Tensor]] = {
        "retrieve": lambda: retrieve(patterns, cues, BETA),
        "retrieve_blocked": lambda: retrieve_blocked(patterns, cues, BETA),
        "scaled_dot_product_attention": lambda: scaled_dot_product_attention(cues, patterns, patterns, scale=BETA),
        "plain softmax": lambda: torch.softmax(BETA * (cues @ patterns.T), -1) @ patterns,
    }
    with torch.no_grad():
        answers = {name: work() for name, work in ways.items()}
        apart = {name: float((each - answers["plain softmax"]).abs().max()) for name, each in answers.items()}
        seconds = in_turns(dict(ways), rounds)
    found = rows(
        "One step, 256 half-hidden cues among 10,000 patterns of 64 entries",
        seconds,
        {
            ("retrieve_blocked", "scaled_dot_product_attention"): 0.75,
            ("retrieve", "scaled_dot_product_attention"): 1.0,
            ("retrieve_blocked", "plain softmax"): 1.0,
        },
    )
    return {**found, "largest difference from the plain softmax": apart}


def layers(rounds: int) -> dict[str, Any]:
    """Run forward and backward of layers with 256 features and 8 heads, on 16 sequences of length 128."""
    X = torch.randn(16, 128, 256, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    peer = nn.MultiheadAttention(256, 8, batch_first=True)
    ours = {steps: Hopfield(256, num_heads=8, num_steps=steps) for steps in (1, 3)}
    with torch.no_grad():
        for layer in ours.values():
            linears = (layer.to_state, layer.to_stored, layer.to_projected)
            for linear, weight, bias in zip(
                linears, peer.in_proj_weight.chunk(3), peer.in_proj_bias.chunk(3), strict=True
            ):
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            layer.to_out.load_state_dict(peer.out_proj.state_dict())
        apart = float((ours[1](X) - peer(X, X, X, need_weights=False)[0]).abs().max())

    def trained(module: nn.Module, forward: Callable[[], Tensor]) -> Work:
        def work() -> None:
            module.zero_grad()
            forward().square().mean().backward()

        return work

    ways = {
        "Hopfield, 1 step": trained(ours[1], lambda: ours[1](X)),
        "Hopfield, 3 steps": trained(ours[3], lambda: ours[3](X)),
        "MultiheadAttention": trained(peer, lambda: peer(X, X, X, need_weights=False)[0]),
    }
    found = rows(
        "A layer, forward and backward: 256 features, 8 heads, batch 16, length 128",
        in_turns(ways, rounds),
        {
            ("Hopfield, 1 step", "MultiheadAttention"): 1.0,
            ("Hopfield, 3 steps", "Hopfield, 1 step"): 2.5,
        },
    )
    return {**found, "largest difference of one step": apart}


class PeakMemory:
    """Watches this process's private memory from a thread; a memory-mapped file's pages are not its own."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self.before = self.peak = self._own()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _own(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - memory.shared)

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._own())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self._own())


def among_many(num_stored: int, dtype: str) -> dict[str, Any]:
    """Retrieve 64 half-hidden cues among very many patterns in a memory-mapped file; measure memory beyond them."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "patterns.npy")
        kept = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (num_stored, 64))
        for start in range(0, num_stored, 2**18):
            part = kept[start : start + 2**18]
            part[:] = 2 * generator.integers(0, 2, part.shape, dtype=np.int8) - 1
        kept.flush()
        del kept
        patterns = torch.from_numpy(np.load(path, mmap_mode="r+"))
        target = patterns[:64].float()
        cues = target.clone()
        cues[:, 32:] = 0
        with torch.no_grad():
            began = time.process_time()
            with PeakMemory() as memory:
                answer = retrieve_blocked(patterns, cues, 1.0)
            seconds = time.process_time() - began
            few = patterns[:50_000]
            apart = float((retrieve_blocked(few, cues, 1.0) - retrieve(few.float(), cues, 1.0)).abs().max())
    return {
        "title": f"64 half-hidden cues among {num_stored:,} patterns of 64 entries, {dtype}, memory-mapped",
        "seconds": round(seconds, 2),
        "pattern megabytes": round(num_stored * 64 * np.dtype(dtype).itemsize / 1e6),
        "megabytes beyond the patterns": round((memory.peak - memory.before) / 1e6, 1),
        "at most": 300,
        "share of cues completed": float((answer.sign() == target).all(-1).float().mean()),
        "largest difference from the plain form on 50,000": apart,
    }


def main() -> None:
    """Measure, print, and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stored", type=int, default=10_000_000)
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hopfield_layers.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    record = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "threads": 1,
        "rounds": options.rounds,
        "load_before": round(load, 2),
        "versions": {"torch": version("torch")},
        "one step": one_step(options.rounds),
        "layer": layers(options.rounds),
        "among many": among_many(options.stored, options.dtype),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name in ("one step", "layer"):
        print(record[name]["title"])
        for way, milliseconds in record[name]["milliseconds"].items():
            print(f"  {way:<30} {milliseconds:9.2f} ms")
        for ratio in record[name]["ratios"]:
            low, high = ratio["range"]
            print(
                f"  {ratio['of']} over {ratio['over']}: {ratio['median']} ({low} to {high}), at most {ratio['at most']}"
            )
    print(json.dumps(record["among many"], indent=1))


if __name__ == "__main__":
    main()
