"""A run: seeds set, device picked, sizes chosen, claims and data sets collected, and a stamp of it all at the end."""

from __future__ import annotations

import base64
import contextlib
import html
import importlib.metadata
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from sciviz.lab import claims as _claims
from sciviz.lab.checks import check_choice, check_int
from sciviz.lab.places import checkout_dir

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")

DATASET_MIME = "application/vnd.sciviz.dataset+json"
PROFILES = ("quick", "full")
DEVICES = ("auto", "cpu", "cuda")


def start(seed: int = 0, profile: str = "quick", device: str = "auto", *, deterministic: bool = False) -> Run:
    """Start a run: seed Python, NumPy and torch, pick the device, and choose sizes by profile.

    Parameters
    ----------
    seed
        Any integer from 0 to 2³² − 1.
    profile
        "quick" (two CPU cores, at most 90 seconds a tutorial) or "full" (a machine with time or a GPU).
    device
        "auto" takes CUDA where it is; "cpu" and "cuda" insist.
    deterministic
        Ask torch for deterministic algorithms (it raises where an operation has none).

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the accepted ones.
    RuntimeError
        If `device` is "cuda" and this machine has no CUDA device that torch can use.

    >>> run = start(seed=3, profile="quick", device="cpu")
    >>> run.device
    device(type='cpu')
    """
    check_int(0, 2**32 - 1, seed=seed)
    check_choice(PROFILES, profile=profile)
    check_choice(DEVICES, device=device)
    # Python's generator takes no NumPy integer.
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this once, when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Run(seed=seed, profile=profile, device=_pick_device(device))


def _pick_device(device: str) -> torch.device:
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise RuntimeError(
            "device 'cuda' was asked for, but torch finds no CUDA device on this machine; use 'auto' or 'cpu'."
        )
    return torch.device("cuda" if found and device != "cpu" else "cpu")


@dataclass(frozen=True)
class Stamp:
    """What a run ran on, and what it cost. Shown as a table; `as_dict` gives it to a report."""

    seed: int
    profile: str
    device: str
    versions: dict[str, str]
    system: str
    threads: int
    commit: str | None
    finished: str
    wall_seconds: float
    peak_memory_mb: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the stamp as plain values."""
        return asdict(self)

    def _rows(self) -> list[tuple[str, str]]:
        memory = "not measured on this system" if self.peak_memory_mb is None else f"{self.peak_memory_mb:,.0f} MB"
        return [
            ("Seed, profile, device", f"{self.seed}, {self.profile}, {self.device}"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            ("System", f"{self.system}, {self.threads} torch threads"),
            ("Commit", self.commit or "not a checkout"),
            ("Finished", self.finished),
            ("Wall time, peak memory", f"{self.wall_seconds:.1f} s, {memory}"),
        ]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        cell = f"text-align:left;background:{_claims._PAPER};color:{_claims._INK}"
        rows = "".join(
            f"<tr><th scope='row' style='{cell};padding:3px 12px 3px 0'>{name}</th>"
            f"<td style='{cell};padding:3px 0;white-space:normal'>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return {
            "application/vnd.sciviz.stamp+json": self.as_dict(),
            "text/html": f"<div style='{_claims._CARD}'><table style='color:{_claims._INK};background:{_claims._PAPER};"
            f"font-size:13px'><tbody style='background:{_claims._PAPER}'>{rows}</tbody></table></div>",
            "text/plain": "\n".join(f"{name}: {value}" for name, value in self._rows()),
        }


@dataclass
class Exercise:
    """One attempt at an exercise: "untried", "wrong" or "right", and what to say about it."""

    title: str
    status: str
    message: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        mark, tone = {"untried": ("○", "#5b5f6b"), "wrong": ("✗", "#8a4b00"), "right": ("✓", "#1b6e3c")}[self.status]
        return {
            "text/html": f"<div role='status' style='{_claims._CARD};border-left:5px solid {tone}'><strong "
            f"style='color:{tone}'>{mark} {html.escape(self.title)}</strong>"
            f"<div>{html.escape(self.message)}</div></div>",
            "text/plain": f"{mark} {self.title}: {self.message}",
        }


@dataclass
class Run:
    """What a notebook holds on to: its seed, device and profile, and all that it measured.

    Made by `sciviz.start`; not meant to be built by hand.
    """

    seed: int
    profile: str
    device: torch.device
    claims: list[_claims.Claim] = field(default_factory=list, repr=False)
    datasets: dict[str, Any] = field(default_factory=dict, repr=False)
    _began: float = field(default_factory=time.perf_counter, repr=False)

    def pick(self, *, quick: T, full: T) -> T:
        """Return the size that fits this run's profile.

        >>> start(profile="full").pick(quick=64, full=1024)
        1024
        """
        return quick if self.profile == "quick" else full

    def gpu(self, why: str, record: str | None = None) -> bool:
        """Return whether this run has a CUDA device; where it has none, say why the cell needs one.

        Parameters
        ----------
        why
            What the cell shows that only a GPU makes comfortable; printed where there is none.
        record
            The id of the claim that the cell measures; its committed record is shown in place of a measurement.
        """
        if self.device.type == "cuda":
            return True
        print(f"Skipped: this run has no CUDA device, and this cell needs one: {why}.")
        entry = _claims.recorded_claim(record, "gpu") if record else None
        if entry:
            value = _claims.format_value(entry["measured"], entry.get("spread"))
            print(f"Committed record ({entry['hardware']}, {entry['date']}): {value}; criterion: {entry['criterion']}.")
        elif record:
            print("Committed record: pending. It has not been measured on a GPU yet.")
        return False

    def claim(
        self,
        id: str,
        *,
        says: str,
        measured: Any,
        holds: bool | None,
        criterion: str,
        expected: str = "holds",
        why: str = "",
        spread: Any = None,
        seeds: int | None = None,
    ) -> _claims.Claim:
        """Hold a paper's statement against its criterion, show the result, and remember it.

        Parameters
        ----------
        id
            The paper's key in `course/papers.bib`, a slash, and the part.
        says
            What the paper says, in one sentence.
        measured
            A number, or several by name.
        holds
            Whether the criterion is met; None if the measurement cannot decide.
        criterion
            Written before the measurement is looked at; states sizes and number of seeds.
        expected, why
            "holds", "fails" or "undecided"; the last two need a reason.
        spread
            Standard error or half an interval of the measurement, or words.
        seeds
            How many seeds it rests on.

        Raises
        ------
        ValueError
            If the claim is incomplete.
        ClaimError
            In strict mode (`SCIVIZ_STRICT=1`), if the outcome is not the expected one.
        """
        claim = _claims.make_claim(
            id,
            says=says,
            criterion=criterion,
            measured=measured,
            holds=holds,
            expected=expected,
            why=why,
            spread=spread,
            seeds=seeds,
            profile=self.profile,
            device=self.device.type,
        )
        self.claims.append(claim)
        # Shown before it is decided: a claim that raises must still be seen, and harvested.
        _show(claim)
        return _claims.decide(claim)

    def recall(self, id: str) -> _claims.Claim | None:
        """Show a claim that this profile does not measure from the committed record, marked as such.

        Returns
        -------
        The claim, or None (with a printed line) if the record does not hold it.
        """
        entry = _claims.recorded_claim(id)
        if entry is None:
            print(f"Claim {id} is measured in the full profile only, and has no committed record yet.")
            return None
        names = ("says", "criterion", "measured", "outcome", "expected", "why", "spread", "seeds", "profile", "device")
        claim = _claims.Claim.from_json({"id": id, "source": "record", **{name: entry[name] for name in names}})
        self.claims.append(claim)
        _show(claim)
        return claim

    def claims_table(self) -> _claims.ClaimsTable:
        """Return all claims of this run beside the committed record, as a table."""
        return _claims.ClaimsTable(self.claims)

    def record(self, name: str, dataset: xr.Dataset) -> xr.Dataset:
        """Let a data set travel in this cell's output, so that reports and sweeps can collect it.

        Raises
        ------
        ValueError
            If the name is not an identifier, or was given to another data set of this run.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"name must be lower-case letters, digits and underscores, got {name!r}.")
        self.datasets[name] = dataset
        _show(RecordedDataset(name, dataset))
        return dataset

    def exercise(self, title: str, answer: Any, checks: Sequence[tuple[Callable[[Any], Any], str]]) -> Exercise:
        """Try an answer against checks; say what is wrong in words that teach, and never raise.

        Parameters
        ----------
        title
            The exercise's number and name.
        answer
            What the reader wrote: a function, or a value. While it is (or returns) `...` or None, it counts as untried.
        checks
            Pairs of a check (`answer -> truth`) and what to say if it is not met; the first one not met is said.
        """
        untried = Exercise(title, "untried", "Not tried yet: replace the … in the cell above, then run both cells.")
        if answer is None or answer is ...:
            return untried
        attempt = _Attempt(answer) if callable(answer) else answer
        for check, hint in checks:
            try:
                good = bool(check(attempt))
            except _NotTried:
                return untried
            except Exception as error:
                return Exercise(title, "wrong", f"Your code raised {type(error).__name__}: {error}.")
            if not good:
                return Exercise(title, "wrong", hint)
        return Exercise(title, "right", "Right.")

    def stamp(self) -> Stamp:
        """Return what this run ran on and what it cost so far: versions, device, seed, time and memory."""
        return Stamp(
            seed=self.seed,
            profile=self.profile,
            device=device_name(self.device),
            versions=versions(),
            system=f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
            threads=torch.get_num_threads(),
            commit=commit(),
            finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            wall_seconds=time.perf_counter() - self._began,
            peak_memory_mb=peak_memory_mb(),
        )


class _NotTried(Exception):
    """An exercise still holds its placeholder."""


class _Attempt:
    """Calls the reader's function, and notices where it still returns its placeholder."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._answer(*args, **kwargs)
        if result is None or result is ...:
            raise _NotTried
        return result


@dataclass(frozen=True)
class RecordedDataset:
    """A data set as it travels in a notebook: one line to read, and netCDF bytes for tools."""

    name: str
    dataset: Any

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        sizes = ", ".join(f"{dim} {size}" for dim, size in self.dataset.sizes.items())
        line = f"Data set {self.name}: {', '.join(map(str, self.dataset.data_vars))} over {sizes or 'no dimension'}"
        payload = base64.b64encode(bytes(self.dataset.to_netcdf(engine="h5netcdf"))).decode("ascii")
        return {
            DATASET_MIME: {"name": self.name, "netcdf": payload},
            "text/html": f"<div style='color:#4b5160;background:{_claims._PAPER};padding:2px 8px;font-size:12px;"
            f"display:inline-block;border-radius:4px'>{html.escape(line)}</div>",
            "text/plain": line,
        }


def harvest_datasets(notebook: Any) -> dict[str, xr.Dataset]:
    """Collect the data sets in the outputs of an executed notebook, by name; the last of a name counts."""
    import io

    import xarray as xr

    found: dict[str, xr.Dataset] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(DATASET_MIME)
            if bundle is not None:
                stream = io.BytesIO(base64.b64decode(bundle["netcdf"]))
                with xr.open_dataset(stream, engine="h5netcdf") as dataset:
                    found[bundle["name"]] = dataset.load()
    return found


def _show(value: Any) -> None:
    # Without a kernel (a script, a doctest) nothing is shown: the value is returned anyway.
    with contextlib.suppress(ImportError):
        from IPython import get_ipython
        from IPython.display import display

        if get_ipython() is not None:
            display(value)


def device_name(device: torch.device) -> str:
    """Return the device as a person names it.

    >>> device_name(torch.device("cpu"))
    'cpu'
    """
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result may depend on."""
    found = {}
    for name in ("sciviz", "torch", "numpy", "xarray", "plotly"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """Return the commit of the checkout this package runs from, with a mark if files differ from it."""
    root = checkout_dir()
    if root is None:
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far, in MB; None where the system does not tell."""
    # On Linux what `getrusage` tells includes the parent's memory from before this program was started in its place.
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
