"""Sweeps: a notebook over a grid of parameter values, carried by Dask, kept point by point, collected in one store."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import queue
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from sciviz import __version__
from sciviz.lab.checks import check_positive
from sciviz.lab.places import Tutorial, find_tutorial
from sciviz.reports.grid import (
    Durations,
    check_grid,
    imports_of,
    key_of,
    notebook_digest,
    package_digest,
    points_of,
    wings_of,
)
from sciviz.reports.parameters import Parameter, check_parameters, read_parameters
from sciviz.reports.points import (
    FORMAT,
    NoLongerWanted,
    Point,
    WorkerDiffers,
    difference,
    identity,
    pack,
    read_point,
    run_point,
)
from sciviz.reports.runner import LEFT_OUT

MANIFEST, LOCK, STORE, PAGE = "sweep.json", ".lock", "results.zarr", "sweep.html"
TIME_LIMIT = 3600.0


class SweepStopped(Exception):
    """A sweep could not go on; what is done is kept, and the message says what to do."""


@dataclass(frozen=True)
class Plan:
    """What a sweep is, decided before anything runs.

    Attributes
    ----------
    points
        One mapping from axis to value a point; `keys` are their names in the same order.
    fixed
        Parameters that are the same in all points, the notebook's defaults among them.
    """

    tutorial: str
    notebook: str
    digest: str
    package: str
    wings: tuple[str, ...]
    fixed: dict[str, Any]
    grid: dict[str, list[Any]]
    meanings: dict[str, str]
    points: list[dict[str, Any]] = field(repr=False)
    keys: list[str] = field(repr=False)

    def manifest(self) -> dict[str, Any]:
        """Return what the directory of the sweep says of itself."""
        return {
            "tutorial": self.tutorial,
            "notebook": self.digest,
            "package": self.package,
            "fixed": self.fixed,
            "grid": self.grid,
            "meanings": self.meanings,
        }


def plan(
    tutorial: Tutorial,
    known: list[Parameter],
    grid: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any],
) -> Plan:
    """Check parameters and axes, and name every point by what it follows from.

    Raises
    ------
    ValueError
        One sentence on the first that does not fit.
    """
    values = check_parameters(known, parameters)
    axes = check_grid(known, grid, values)
    notebook = nbformat.read(tutorial.path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not LEFT_OUT & set(cell.metadata.get("tags", []))]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    wings = wings_of(notebook)
    package = f"{__version__}+{package_digest(wings)}"
    digest = notebook_digest(notebook)
    fixed = {p.name: p.default for p in known if p.name not in axes} | values
    points = points_of(axes)
    return Plan(
        tutorial.stem,
        nbformat.writes(notebook),
        digest,
        package,
        wings,
        fixed,
        axes,
        {p.name: p.meaning for p in known if p.name in axes},
        points,
        [key_of(digest, package, fixed | point) for point in points],
    )


class Directory:
    """The directory of a sweep: what it is, one file a point, and a lock.

    Parameters
    ----------
    path
        A new folder, an empty one, or one of the same sweep.

    Raises
    ------
    ValueError
        If it holds anything else; nothing is written then.
    """

    def __init__(self, path: Path | str, intended: Plan) -> None:
        self.path = Path(path).resolve()
        self.plan = intended
        self._lock: Any = None
        self._check()

    @property
    def points(self) -> Path:
        """Where the results of points lie."""
        return self.path / "points"

    def _check(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ValueError(f"-o must be a folder, {str(self.path)!r} is a file.")
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            if {entry.name for entry in self.path.iterdir()} - {LOCK, f".{MANIFEST}.new"}:
                raise ValueError(
                    f"-o must be a new folder, an empty one or one of this sweep, {str(self.path)!r} holds other things."
                )
            return
        before, now = _read_json(manifest), self.plan.manifest()
        if not isinstance(before, dict) or "grid" not in before:
            raise ValueError(
                f"{str(manifest)!r} cannot be read, so this folder may be another sweep's; choose another -o."
            )
        said = _unlike(before, now)
        if said:
            raise ValueError(f"{str(self.path)!r} holds another sweep: {said}. Choose another -o.")

    def __enter__(self) -> Directory:
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        # Held by this process alone, and let go by the system when it ends, however it ends.
        self._lock = open(self.path / LOCK, "a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            raise ValueError(
                f"{str(self.path)!r} is in use by {holder}; wait until it is done, or choose another -o."
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {platform.node()} since {datetime.now(UTC):%Y-%m-%d %H:%M UTC}")
        self._lock.flush()
        try:
            # Once more, now that nobody else can write.
            self._check()
            self.points.mkdir(exist_ok=True)
            for left in [*self.points.glob(".*.new"), *self.path.glob(".*.new"), *self.path.glob(f".{STORE}*")]:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            write_whole(self.path / "notebook.ipynb", self.plan.notebook.encode())
            text = json.dumps(self.plan.manifest(), indent=1, ensure_ascii=False) + "\n"
            write_whole(self.path / MANIFEST, text.encode())
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def result(self, key: str, *, verify: bool = False) -> Point | None:
        """Return the kept result of a point, if there is one that is whole."""
        return read_point(self.points / f"{key}.zip", verify=verify)

    def keep(self, key: str, packed: bytes) -> Point:
        """Keep a result: written beside, then renamed, so that a point is there whole or not at all."""
        path = self.points / f"{key}.zip"
        write_whole(path, packed)
        point = read_point(path)
        if point is None:
            raise OSError(errno.EIO, "a result could not be read back", str(path))
        beside = self.path / "failed" / f"{key}.ipynb"
        notebook = None if point.done else point.notebook()
        if notebook is not None:
            beside.parent.mkdir(exist_ok=True)
            write_whole(beside, notebook.encode())
        else:
            beside.unlink(missing_ok=True)
        return point


def _unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how two manifests differ; a grid may grow, since all that is done stays part of it."""
    if before.get("tutorial") != now["tutorial"]:
        return f"of {before.get('tutorial')}, not of {now['tutorial']}"
    if before.get("notebook") != now["notebook"]:
        return f"{now['tutorial']} has changed since"
    if before.get("package") != now["package"]:
        return f"it was made with sciviz {before.get('package')}, this is {now['package']}"
    old, new = before["grid"], now["grid"]
    if list(old) != list(new):
        return f"over {', '.join(old)}, not over {', '.join(new)}"
    for name, value in now["fixed"].items():
        if before["fixed"].get(name) != value:
            return f"with {name} = {before['fixed'].get(name)!r}, not {value!r}"
    for name, values in old.items():
        if missing := [value for value in values if value not in new[name]]:
            return f"{name} had the value {missing[0]!r} too, and a grid may only grow"
    return ""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, and rename it once all of it is on the disk."""
    scratch = path.with_name(f".{path.name}.new")
    try:
        with open(scratch, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


@dataclass(frozen=True)
class Sweep:
    """How a sweep went.

    Attributes
    ----------
    folder
        Holds `results.zarr`, `sweep.html` and one file a point.
    failed
        One line for each point that failed: its place in the grid, the cell and the error.
    ran
        How many points this call ran; the others were done already.
    seconds
        Wall time of this call.
    """

    folder: Path
    total: int
    ran: int
    failed: list[str]
    missing: int
    seconds: float

    def open(self) -> Any:
        """Open the collected results lazily, as an `xarray.DataTree`."""
        from sciviz.reports.collect import open_sweep

        return open_sweep(self.folder)


def sweep(
    tutorial: str,
    grid: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any] | None = None,
    *,
    out: Path | str,
    workers: int | None = None,
    scheduler: str | None = None,
    retry: bool = False,
    time_limit: float | None = TIME_LIMIT,
    memory_limit: float | None = None,
    measures: Sequence[str] = (),
    progress: bool = True,
    warm: bool = True,
) -> Sweep:
    """Run a notebook at every point of a grid, and collect what the points measured.

    Points that are done already, here or in an earlier call that was killed, are not run again.

    Parameters
    ----------
    tutorial
        Number, wing, stem or path.
    grid
        Values by parameter name.
    parameters
        What is the same in all points.
    out
        A folder of its own.
    workers
        Processes of the embedded cluster, one thread each; as many as there are cores if None.
    scheduler
        Address of a Dask scheduler whose workers do the work instead.
    retry
        Run just the points that failed.
    time_limit
        Seconds that a point may take; None for no limit.
    memory_limit
        MB that a point's kernel may use; None for its worker's share of the machine.
    measures
        What the page shows besides the claims, as "data set.variable"; every scalar that was recorded if empty.
    warm
        Fork kernels from a process that has imported torch already, rather than start each anew.

    Raises
    ------
    ValueError
        If anything that was given is not accepted; nothing has been run or written then.
    SweepStopped
        If it cannot go on: the disk is full, the scheduler is gone, a worker has another version.

    See `course/sweeps.md` for what is kept where, and for a run on two machines.
    """
    from sciviz.reports.collect import collect
    from sciviz.reports.sweep_page import write_sweep_page

    began = time.monotonic()
    chosen = find_tutorial(str(tutorial))
    limits = {"workers": workers, "time_limit": time_limit, "memory_limit": memory_limit}
    check_positive(**{name: value for name, value in limits.items() if value is not None})
    if workers is not None and scheduler is not None:
        raise ValueError("give workers (of a cluster of our own) or a scheduler (of an existing one), not both.")
    intended = plan(chosen, read_parameters(chosen.path), grid, parameters or {})
    directory = Directory(out, intended)
    me = identity(intended.wings)
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as cluster:
            # Before anything is written: a scheduler that does not answer, or has other versions, leaves nothing behind.
            client = cluster.enter_context(_connect(scheduler, me)) if scheduler is not None else None
            held.enter_context(directory)
            found = {key: _outcome(directory.result(key, verify=True)) for key in intended.keys}
            todo = [key for key in intended.keys if _is_todo(found[key], retry)]
            if todo:
                if client is None:
                    client = cluster.enter_context(_local_cluster(min(workers or os.cpu_count() or 1, len(todo))))
                common = {
                    "notebook": intended.notebook,
                    "name": intended.tutorial,
                    "identity": me,
                    "wings": intended.wings,
                    "seconds": time_limit,
                    "memory_mb": memory_limit,
                    "warm": imports_of(intended.notebook, intended.wings) if warm else None,
                }
                _Run(client, directory, common, found, todo, progress).go()
        try:
            collect(directory.path)
            write_sweep_page(directory.path, measures=measures)
        except OSError as error:
            raise SweepStopped(_disk_message(error, directory.path, "All points that ran are kept")) from error
    failed = [
        failure_line(outcome.failure, point)
        for key, point in zip(intended.keys, intended.points, strict=True)
        if (outcome := found[key]) is not None and outcome.failure is not None
    ]
    missing = sum(outcome is None for outcome in found.values())
    return Sweep(directory.path, len(found), len(todo), failed, missing, time.monotonic() - began)


@dataclass(frozen=True)
class _Outcome:
    """What the client remembers of a point; the rest is on the disk."""

    seconds: float
    failure: dict[str, Any] | None


def _outcome(point: Point | None) -> _Outcome | None:
    return None if point is None else _Outcome(point.record["seconds"], point.record["failure"])


def _is_todo(outcome: _Outcome | None, retry: bool) -> bool:
    if retry:
        return outcome is not None and outcome.failure is not None
    return outcome is None


def _disk_message(error: OSError, path: Path, kept: str) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    said = f"the disk of {str(path)!r} is full" if full else f"{str(path)!r} cannot be written: {error}"
    return f"{said}. {kept}; {'free some space' if full else 'mend that'} and run the same command again to go on."


@contextlib.contextmanager
def _quiet_dask() -> Iterator[None]:
    import logging

    # Dask logs every lost connection at length; what matters of it is said by us.
    names = ("distributed", "distributed.client", "distributed.nanny", "distributed.scheduler", "distributed.core")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _connect(address: str, me: Mapping[str, str]) -> Iterator[Any]:
    import distributed
    from distributed.comm.addressing import get_address_host_port
    from distributed.core import coerce_to_address

    with _quiet_dask():
        try:
            get_address_host_port(coerce_to_address(address), strict=True)
            client = distributed.Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"no Dask scheduler answers at {address}: {str(error).splitlines()[0]}") from None
        try:
            _check_workers(client, address, me)
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.run(_end_zygotes, on_error="ignore")
            client.close()


def _check_workers(client: Any, address: str, me: Mapping[str, str]) -> None:
    """Refuse a worker whose Python or sciviz differs. What it has is asked with Dask's own words: ours may not be there."""
    asked = client.get_versions(packages=["sciviz"])["workers"]
    if not asked:
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(1, timeout=20)
        asked = client.get_versions(packages=["sciviz"])["workers"]
    if not asked:
        raise ValueError(f"the scheduler at {address} has no workers; start one with: dask worker {address}")
    for where, has in asked.items():
        if not has:
            continue
        theirs = {
            "Python": ".".join(str(has["host"]["python"]).split(".")[:3]),
            "sciviz": str(has["packages"].get("sciviz") or "none"),
        }
        if said := difference({name: me[name] for name in theirs}, theirs, where):
            raise ValueError(said)


def _end_zygotes() -> None:
    from sciviz.reports.forking import close_zygotes

    close_zygotes()


@contextlib.contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    from multiprocessing import resource_tracker

    import dask
    import distributed
    from distributed.system import MEMORY_LIMIT

    settings = {
        # The kernels use the memory, and have a limit of their own.
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with _quiet_dask(), dask.config.set(settings):
        # Ctrl-C reaches every process of the terminal. Held back in the thread that starts the workers, it is held back
        # in them too, and they end as we tell them. (Python's own helper lets it through again when it starts: so, before.)
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=int(0.9 * MEMORY_LIMIT / workers),
                silence_logs=50,
                host="127.0.0.1",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            client = distributed.Client(cluster, set_as_default=False)
            try:
                yield client
            finally:
                client.close()
        finally:
            cluster.close()


class _Run:
    """Hands points to workers, the longest first, and keeps what comes back.

    Parameters
    ----------
    found
        Results by key; brought up to date as they come.
    todo
        Keys to run.
    """

    def __init__(
        self,
        client: Any,
        directory: Directory,
        common: dict[str, Any],
        found: dict[str, _Outcome | None],
        todo: list[str],
        progress: bool,
    ) -> None:
        self._client, self._directory, self._common, self._found = client, directory, common, found
        intended = directory.plan
        self._points = dict(zip(intended.keys, intended.points, strict=True))
        self._guess = Durations(intended.grid)
        for key, outcome in found.items():
            if outcome is not None and outcome.failure is None:
                self._guess.add(self._points[key], outcome.seconds)
        self._left = list(todo)
        self._order()
        self._futures: dict[Any, str] = {}
        # A simple queue: its put may be called from Dask's thread while ours waits in get.
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._name = uuid.uuid4().hex[:8]
        self._total, self._show = len(todo), progress
        self._slots_at, self._slots_known = 0.0, 0

    def go(self) -> None:
        """Run until nothing is left.

        Raises
        ------
        SweepStopped, KeyboardInterrupt
            What is done is kept.
        """
        from tqdm.auto import tqdm

        with (
            _terminate_as_interrupt(),
            tqdm(total=self._total, disable=not self._show, unit="point", file=sys.stderr) as bar,
        ):
            try:
                while self._left or self._futures:
                    self._submit()
                    try:
                        future = self._done.get(timeout=1.0)
                    except queue.Empty:
                        self._look_after(bar)
                        continue
                    if future in self._futures:
                        self._take(future, bar)
                        bar.update()
            except BaseException:
                bar.set_description("stopping")
                with _no_interrupt():
                    self._cancel()
                raise

    def _order(self) -> None:
        order = self._guess.longest_first([self._points[key] for key in self._left]) if self._left else []
        # The next one is taken from the end.
        self._left = [self._left[i] for i in reversed(order)]

    def _slots(self) -> int:
        if time.monotonic() - self._slots_at > 1.0:
            try:
                workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            except Exception as error:
                raise SweepStopped(self._gone()) from error
            self._slots_known, self._slots_at = sum(worker["nthreads"] for worker in workers), time.monotonic()
        return self._slots_known

    def _submit(self) -> None:
        # One more than can run, so that no worker waits for us; no more, so that the longest goes to who is free next.
        slots = self._slots()
        while self._left and len(self._futures) < slots + max(1, slots // 4):
            key = self._left.pop()
            job = {**self._common, "key": key, "parameters": self._directory.plan.fixed | self._points[key]}
            # Dask must not take this for work that it has done before: under another key, it runs.
            future = self._client.submit(run_point, job, key=f"sciviz-{self._name}-{key}", pure=False)
            self._futures[future] = key
            future.add_done_callback(self._done.put)

    def _take(self, future: Any, bar: Any) -> None:
        key = self._futures.pop(future)
        try:
            packed = future.result(timeout=120)
        except WorkerDiffers as error:
            raise SweepStopped(f"{error} {self._kept()}") from None
        except NoLongerWanted:
            # Dask took the task from one worker to give it to another, and the first one noticed late.
            self._left.append(key)
            return
        except Exception as error:
            self._lost(key, error, bar)
            return
        self._keep(key, packed, bar)

    def _keep(self, key: str, packed: bytes, bar: Any) -> None:
        try:
            point = self._directory.keep(key, packed)
        except OSError as error:
            raise SweepStopped(_disk_message(error, self._directory.path, self._kept())) from error
        outcome = self._found[key] = _outcome(point)
        assert outcome is not None
        if outcome.failure is None:
            self._guess.add(self._points[key], outcome.seconds)
            self._order()
            bar.set_description(" ".join(f"{name}={value}" for name, value in self._points[key].items())[:48])
        elif self._show:
            bar.write(f"failed: {failure_line(outcome.failure, self._points[key])}", file=sys.stderr)

    def _lost(self, key: str, error: Exception, bar: Any) -> None:
        """Decide what an error of Dask's, not of the notebook's, means for a point and for the sweep."""
        import distributed

        if self._client.status not in ("running", "connecting") or isinstance(error, distributed.CancelledError):
            raise SweepStopped(self._gone()) from None
        said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if isinstance(error, distributed.KilledWorker):
            said = "WorkerKilled: the workers that ran this point died, one after the other"
        record = {
            "format": FORMAT,
            "key": key,
            "parameters": self._directory.plan.fixed | self._points[key],
            "status": "failed",
            "failure": {"section": "", "source": "", "error": said, "cell": None},
            "claims": [],
            "seconds": 0.0,
            "peak_memory_mb": 0.0,
            "device": "",
            "warm": False,
            "worker": "",
            "identity": {},
        }
        self._keep(key, pack(record, {}), bar)

    def _look_after(self, bar: Any) -> None:
        if self._client.status not in ("running", "connecting"):
            raise SweepStopped(self._gone())
        if self._slots() == 0:
            bar.set_description("no worker left, waiting for one")

    def _gone(self) -> str:
        return f"the Dask scheduler is gone. {self._kept()}; run the same command again to go on."

    def _kept(self) -> str:
        done = sum(outcome is not None for outcome in self._found.values())
        return f"{done} of {len(self._found)} points are kept"

    def _cancel(self) -> None:
        """Let the workers drop what they run: each watches whether its point is still wanted, and kills its kernel."""
        with contextlib.suppress(Exception):
            if self._futures and self._client.status == "running":
                self._client.cancel(list(self._futures), force=True)
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline and any(self._client.processing().values()):
                    time.sleep(0.05)


def failure_line(failure: Mapping[str, Any], axes: Mapping[str, Any]) -> str:
    """Return a failed point in one line: where in the grid, in which cell, and what."""
    where = ", ".join(f"{name} = {value!r}" for name, value in axes.items())
    cell = f"cell {failure['cell']}" if failure.get("cell") else "before its first cell"
    section = f" (“{failure['section']}”)" if failure.get("section") else ""
    return f"{where}: {cell}{section}: {failure.get('error', '')}"


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat a polite request to end, as batch systems send it, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let an impatient second Ctrl-C wait until kernels and workers are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
