"""The machine that results were taken on, in words that name nobody."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Describe this machine."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def machine_name() -> str:
    """Return what the files of results are called."""
    about = machine()
    words = re.findall(r"[a-z0-9.]+", about["processor"].lower().replace("(r)", ""))
    return f"{'-'.join(words)}-{about['cores']}-cores"
