"""The machine that results were taken on, in words that name nobody."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path
from typing import Any


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe this machine; with "cuda" its GPU takes the processor's place."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    cores = os.cpu_count()
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        name, cores = properties.name, properties.multi_processor_count
    return {
        "processor": name,
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def machine_name(device: str = "cpu") -> str:
    """Return what the files of results are called."""
    about = machine(device)
    words = re.findall(r"[a-z0-9.]+", about["processor"].lower().replace("(r)", ""))
    return f"{'-'.join(words)}-{about['cores']}-cores"


def resident_mb() -> float:
    """Return what this process holds in memory now, in megabytes; NaN where the system does not say."""
    return _status("VmRSS")


def forget_peak() -> bool:
    """Begin to watch for the highest memory anew; return whether the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mb() -> float:
    """Return the most that this process held since `forget_peak`, in megabytes; NaN where the system does not say."""
    return _status("VmHWM")


def _status(key: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(key)), math.nan)
