"""What a workload is: contestants that do the same work, one judge, and what is to be reached.

A contestant is a function that sets everything up and returns `run`; each call of `run` does the whole work once and
returns what it computed, as arrays by name; `run.more()`, where there is one, returns what else the judge needs. It imports its
library inside, because the file is read in every environment. Work with a floor is also held to what the device could do.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

Rows = dict[str, dict[str, Any]]
Outcome = dict[str, Any]
Size = dict[str, int]
Work = Callable[[], Outcome]

# The share of its floor that work should reach, by what sets the floor.
AIMS = {"memory": 0.6, "arithmetic": 0.4}


@dataclass(frozen=True)
class Contestant:
    """`alike` says whether its time may stand beside ours."""

    workload: str
    library: str
    environment: str
    package: str
    make: Callable[..., Work]
    alike: bool = True


@dataclass(frozen=True)
class Floor:
    """What the work cannot do without: bytes that pass through memory, and operations (a product and a sum are two)."""

    bytes: float
    operations: float
    dtype: str = "float32"

    def seconds(self, ceilings: dict[str, float]) -> tuple[float, str]:
        """Return the least time that a device's measured rates allow, and what sets it: "memory" or "arithmetic"."""
        by_memory = self.bytes / ceilings["bytes_per_s"]
        by_arithmetic = self.operations / ceilings[f"{self.dtype}_per_s"]
        return max((by_memory, "memory"), (by_arithmetic, "arithmetic"))


@dataclass(frozen=True)
class Target:
    """`figure` of sciviz over the same figure of `peer` is at most `at_most`, or sciviz's own figure if `peer` is empty.

    `figure` is "time", "memory" (the peak beyond what the process held before), "aim_over_share" (what share of its floor the
    work should reach, over that which it does), or what the workload's judge returns.
    `why` says what stands in the way, and is shown where the target is not reached.
    """

    peer: str
    at_most: float
    figure: str = "time"
    says: str = ""
    ours: str = "sciviz"
    why: str = ""

    def verdict(self, rows: Rows) -> dict[str, Any]:
        """Return what was reached: `met` is None where the peer could not be run."""
        ours, theirs = rows.get(self.ours, {}), rows.get(self.peer, {})
        reached: float | None = None
        if self.figure == "time" and ours.get("seconds"):
            if not self.peer:
                reached = ours["median_s"]
            elif theirs.get("seconds"):
                # Round by round, so that a machine that slows down for a while slows both.
                pairs = zip(ours["seconds"], theirs["seconds"], strict=True)
                reached = statistics.median(mine / other for mine, other in pairs)
        elif self.figure == "memory" and "peak_mb" in ours and "peak_mb" in theirs:
            reached = ours["peak_mb"] / theirs["peak_mb"] if theirs["peak_mb"] else math.inf
        elif self.figure == "aim_over_share" and "share" in ours:
            reached = AIMS[ours["bound"]] / ours["share"]
        elif self.figure in ours.get("accuracy", {}):
            reached = ours["accuracy"][self.figure]
            if self.peer:
                other = theirs.get("accuracy", {}).get(self.figure)
                reached = None if other is None else reached / other if other else math.inf
        met = None if reached is None or math.isnan(reached) else bool(reached <= self.at_most)
        return {**asdict(self), "reached": reached, "met": met}


@dataclass
class Workload:
    """Work with `sizes` runs on each device named there: its contestants and its judge get the sizes, and its title says them."""

    id: str
    title: str
    judge: Callable[..., dict[str, dict[str, float]]]
    targets: tuple[Target, ...] = ()
    rounds: int | None = None
    not_alike: str = ""
    sizes: dict[str, Size] = field(default_factory=dict)
    floor: Callable[[Size, Outcome], Floor] | None = None
    contestants: list[Contestant] = field(default_factory=list)

    def heading(self, device: str) -> str:
        """Return the title with the sizes for that device in it."""
        return self.title.format(**self.sizes[device]) if self.sizes else self.title

    def floor_of(self, device: str, outcome: Outcome) -> Floor | None:
        """Return what the work of that device's size cannot do without; `outcome` is ours, where the floor counts what was done."""
        return self.floor(self.sizes[device], outcome) if self.floor is not None else None

    def contestant(
        self,
        library: str,
        environment: str = "ours",
        package: str = "",
        *,
        alike: bool = True,
    ) -> Callable[[Callable[..., Work]], Callable[..., Work]]:
        """Register the function below as one that does this work."""

        def keep(make: Callable[..., Work]) -> Callable[..., Work]:
            self.contestants.append(Contestant(self.id, library, environment, package or library, make, alike))
            return make

        return keep


def load_workloads() -> list[Workload]:
    """Return all workloads of the folder `workloads`, in the order of the modules and of each module."""
    package = importlib.import_module("workloads")
    found: list[Workload] = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        found += importlib.import_module(f"workloads.{module.name}").WORKLOADS
    return found


def find_contestant(workload: str, library: str) -> tuple[Workload, Contestant]:
    """Return a workload and one of its contestants; its module alone is imported."""
    method = workload.split("/")[0]
    for candidate in importlib.import_module(f"workloads.{method}").WORKLOADS:
        if candidate.id == workload:
            return candidate, next(entry for entry in candidate.contestants if entry.library == library)
    raise KeyError(workload)
