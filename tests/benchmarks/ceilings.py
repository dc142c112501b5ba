"""What a device can do at most, measured: how fast it copies memory, and how fast it multiplies matrices.

`python tests/benchmarks/ceilings.py cpu 1` prints both as JSON. A figure beside them says what share of the device a program uses.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from worker import Gpu, Processor

ROUNDS = 7
COPIED = {"cpu": 2**28, "cuda": 2**32}  # bytes: far more than any cache holds
SIDE = {"cpu": 2048, "cuda": 8192}


def measure(device: str) -> dict[str, float]:
    """Return bytes a second, read and written, of copying; and operations a second of the product of two square matrices."""
    import torch

    from sciviz.lab.products import times_transpose

    watch = Gpu() if device == "cuda" else Processor()
    watch.ready()

    def seconds(work: Any) -> float:
        work()
        return statistics.median(watch.measure(work)[1] for _ in range(ROUNDS))

    source = torch.ones(COPIED[device] // 4, device=device)
    target = torch.empty_like(source)
    found = {"bytes_per_s": 2 * COPIED[device] / seconds(lambda: target.copy_(source))}
    del source, target
    for dtype in (torch.float32, torch.float64):
        a, b = (torch.randn(SIDE[device], SIDE[device], device=device, dtype=dtype) for _ in range(2))
        # The better of torch's own choice and of ours, so that no share exceeds one.
        best = min(seconds(lambda a=a, b=b: a @ b.T), seconds(lambda a=a, b=b: times_transpose(a, b)))
        found[f"{str(dtype).removeprefix('torch.')}_per_s"] = 2 * SIDE[device] ** 3 / best
    return found


if __name__ == "__main__":
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(measure(sys.argv[1])))
