"""One point of a sweep: run where a worker is, packed into bytes that travel and are kept as they are.

The bytes are a zip file: `point.json`, each variable of each data set as `data/DATA SET/VARIABLE.npy`, and, of a point
that failed, the notebook up to where it stopped. A zip carries a checksum of each member, so damage is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from sciviz import __version__
from sciviz.lab.places import Tutorial
from sciviz.reports.grid import package_digest

FORMAT = 1
_OLDEST = (1980, 1, 1, 0, 0, 0)


class WorkerDiffers(Exception):
    """A worker has another version than the client."""


class NoLongerWanted(Exception):
    """The sweep was stopped while a worker ran this point."""


def identity(wings: tuple[str, ...]) -> dict[str, str]:
    """Return what must agree between a client and its workers."""
    found = {"Python": platform.python_version(), "sciviz": __version__, "sciviz's code": package_digest(wings)}
    for name in ("torch", "numpy", "xarray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def difference(mine: Mapping[str, str], theirs: Mapping[str, str], where: str) -> str:
    """Say in one sentence what differs between client and worker, naming both; empty if nothing does."""
    parts = [
        f"{name} {theirs.get(name, 'none')} there, {value} here"
        for name, value in mine.items()
        if theirs.get(name) != value
    ]
    return f"the worker {where} differs from this machine: {'; '.join(parts)}." if parts else ""


def run_point(job: Mapping[str, Any]) -> bytes:
    """Run one point and return its packed result; a cell that fails is a result too.

    Parameters
    ----------
    job
        `notebook` (its JSON), `name`, `parameters`, `key`, `identity` (the client's), `wings`, `seconds` and
        `memory_mb` (limits, or None), `warm` (what a kernel has imported when it starts; None for a fresh one).

    Raises
    ------
    WorkerDiffers
        If this machine has another version of what must agree.
    NoLongerWanted
        If the sweep was stopped meanwhile.
    """
    wings = tuple(job["wings"])
    if said := difference(job["identity"], identity(wings), platform.node()):
        raise WorkerDiffers(said)
    from sciviz.reports.forking import ONE_ORDER, ONE_THREAD, begin_zygote, zygote

    warm = tuple(job["warm"]) if job["warm"] is not None else None
    if warm is not None:
        # Beside our own imports, which follow.
        begin_zygote(warm)
    from sciviz.reports.harvest import datasets_of
    from sciviz.reports.kernels import Watch
    from sciviz.reports.runner import execute, without_widgets

    if warm is not None:
        # The first point of a worker waits for these imports, which are no part of what a point costs.
        zygote(warm)
    began = time.monotonic()
    wanted, share_mb = _dask_worker()
    limit_mb = job["memory_mb"] or share_mb
    watch = Watch(seconds=job["seconds"], memory_mb=limit_mb, wanted=wanted)
    with tempfile.TemporaryDirectory(prefix="sciviz-point-", ignore_cleanup_errors=True) as scratch:
        # Its own folders: nothing that one point writes beside itself, or keeps about its user, is there for the next.
        inner = Path(scratch, "around", "point")
        inner.mkdir(parents=True)
        source = Path(scratch, f"{Path(job['name']).name or 'notebook'}.ipynb")
        source.write_text(job["notebook"], encoding="utf-8")
        environment = {**ONE_THREAD, **ONE_ORDER, "IPYTHONDIR": str(Path(scratch, "ipython"))}
        done = execute(
            Tutorial(source, None, ""),
            job["parameters"],
            folder=inner,
            progress=False,
            watch=watch,
            environment=environment,
            warm=warm,
        )
    if watch.unwanted:
        raise NoLongerWanted
    failure = done.failure
    record = {
        "format": FORMAT,
        "key": job["key"],
        "parameters": job["parameters"],
        "status": "done" if failure is None else "failed",
        "failure": failure
        and {"section": failure.section, "source": failure.source, "error": failure.error, "cell": failure.cell},
        "claims": [claim.to_json() for claim in done.claims],
        "seconds": round(time.monotonic() - began, 3),
        "peak_memory_mb": round(watch.peak_mb, 1),
        "device": str(done.stamp.get("device", "")),
        "warm": done.warm,
        "worker": f"{platform.node()}:{os.getpid()}",
        "identity": dict(job["identity"]),
    }
    return pack(record, datasets_of(done.notebook), None if failure is None else without_widgets(done.notebook))


def _dask_worker() -> tuple[Callable[[], bool], float | None]:
    """Return a function that says whether this task is still wanted, and this thread's share of the memory in MB."""
    from distributed.system import MEMORY_LIMIT

    try:
        from distributed import get_worker

        worker = get_worker()
        key = worker.get_current_task()
    except (ValueError, AttributeError):
        return (lambda: True), 0.8 * MEMORY_LIMIT / 1e6
    own = worker.memory_manager.memory_limit or 0.8 * MEMORY_LIMIT
    share = own / max(1, worker.state.nthreads) / 1e6

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    return wanted, share


def pack(record: Mapping[str, Any], datasets: Mapping[str, Any], notebook: Any = None) -> bytes:
    """Return a result as the bytes that are kept."""
    described: dict[str, Any] = {}
    arrays: dict[str, bytes] = {}
    for name, dataset in datasets.items():
        variables = {}
        for variable_name, variable in dataset.variables.items():
            values = _storable(variable.values)
            stream = io.BytesIO()
            np.save(stream, values, allow_pickle=False)
            arrays[f"data/{name}/{variable_name}.npy"] = stream.getvalue()
            variables[str(variable_name)] = {
                "dims": [str(dim) for dim in variable.dims],
                "shape": list(values.shape),
                "dtype": values.dtype.str,
                "attrs": _plain_attrs(variable.attrs),
                "coordinate": variable_name in dataset.coords,
                "digest": hashlib.sha256(stream.getvalue()).hexdigest()[:16],
            }
        described[name] = {"attrs": _plain_attrs(dataset.attrs), "variables": variables}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:

        def write(path: str, content: str | bytes) -> None:
            archive.writestr(zipfile.ZipInfo(path, _OLDEST), content, zipfile.ZIP_DEFLATED)

        write("point.json", json.dumps({**record, "datasets": described}, ensure_ascii=False))
        for path, content in arrays.items():
            write(path, content)
        if notebook is not None:
            write("notebook.ipynb", nbformat.writes(notebook))
    return stream.getvalue()


def _storable(values: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(values)
    if array.dtype.kind in "OT":
        array = np.asarray([str(value) for value in array.ravel()], dtype=np.str_).reshape(array.shape)
    return array


def _plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in attrs.items():
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.tolist()
        plain[str(name)] = value if isinstance(value, (str, int, float, bool, list, type(None))) else str(value)
    return plain


@dataclass(frozen=True)
class Point:
    """The result of a point as it is kept.

    Attributes
    ----------
    record
        What `run_point` says of it; `record["datasets"]` describes the arrays.
    """

    path: Path
    record: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether every cell ran."""
        return bool(self.record["status"] == "done")

    def arrays(self, dataset: str) -> dict[str, np.ndarray[Any, Any]]:
        """Read the variables of one of its data sets."""
        with zipfile.ZipFile(self.path) as archive:
            return {
                name: np.load(io.BytesIO(archive.read(f"data/{dataset}/{name}.npy")), allow_pickle=False)
                for name in self.record["datasets"][dataset]["variables"]
            }

    def notebook(self) -> str | None:
        """Return the notebook of a point that failed, as JSON."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read("notebook.ipynb").decode() if "notebook.ipynb" in archive.namelist() else None


def read_point(path: Path, *, verify: bool = False) -> Point | None:
    """Read a kept result; None if it is not there, or damaged.

    Parameters
    ----------
    verify
        Check all of it, not only its record.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if verify and archive.testzip() is not None:
                return None
            record = json.loads(archive.read("point.json"))
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    if record.get("format") != FORMAT or record.get("key") != path.stem:
        return None
    return Point(path, record)
