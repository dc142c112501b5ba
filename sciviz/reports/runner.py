"""Run a notebook as a report: papermill executes it, the labelled data sets and claims are taken from its outputs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from sciviz.lab.claims import Claim, harvest_claims
from sciviz.lab.places import Tutorial, find_tutorial
from sciviz.reports.harvest import datasets_of, stamp_of
from sciviz.reports.parameters import check_parameters, read_parameters

if TYPE_CHECKING:
    from sciviz.reports.kernels import Watch

LEFT_OUT = frozenset({"exercise", "explorer"})
_START_SECONDS = 180


@dataclass(frozen=True)
class Failure:
    """The cell that stopped a run: its heading, source, traceback and number among the cells that run."""

    section: str
    source: str
    error: str
    traceback: str
    cell: int | None = None


@dataclass(frozen=True)
class Executed:
    """A notebook after its run.

    Attributes
    ----------
    failure
        None if every cell ran.
    seconds
        Wall time from the kernel's start to the last cell.
    stamp
        What `run.stamp()` showed last; empty if the notebook shows none.
    warm
        Whether the kernel was forked from a process that had imported torch already.
    peak_memory_mb
        Largest resident memory of the kernel that was seen; None if nobody looked.
    """

    notebook: Any
    failure: Failure | None
    seconds: float
    stamp: dict[str, Any]
    warm: bool = False
    peak_memory_mb: float | None = None

    @property
    def claims(self) -> list[Claim]:
        """The claims measured in this run."""
        return harvest_claims(self.notebook)


@dataclass(frozen=True)
class Report:
    """Where a report lies and how it went.

    Attributes
    ----------
    folder
        Holds `report.html`, `report.ipynb`, `results.nc`, `claims.json` and `run.json`.
    """

    folder: Path
    claims: list[Claim]
    failure: Failure | None
    seconds: float


def execute(
    tutorial: Tutorial,
    parameters: Mapping[str, Any],
    *,
    folder: Path | None = None,
    leave_out: frozenset[str] = LEFT_OUT,
    strict: bool = False,
    progress: bool = True,
    cell_timeout: float | None = None,
    frames: bool = False,
    watch: Watch | None = None,
    environment: Mapping[str, str] | None = None,
    warm: tuple[str, ...] | None = None,
) -> Executed:
    """Execute a notebook with papermill and return it, also if a cell fails.

    Parameters
    ----------
    parameters
        Checked values, as `check_parameters` returns them.
    folder
        Where the notebook runs; a temporary folder if None.
    leave_out
        Tags of cells that are left out.
    strict
        Let a claim with an unexpected outcome raise.
    cell_timeout
        Seconds that one cell may take.
    frames
        Run cells tagged `frames` although they are explorers; they then show a figure with a slider.
    watch
        Looks after the kernel: measures its memory, and kills it at a limit.
    environment
        Variables for the kernel, on top of this process's own.
    warm
        Fork the kernel from a process that has imported torch and these modules; None starts a fresh one.
    """
    import papermill

    with tempfile.TemporaryDirectory(prefix="sciviz-", ignore_cleanup_errors=True) as scratch:
        notebook = nbformat.read(tutorial.path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if _runs(cell, leave_out, frames)]
        source, target = Path(scratch, "in.ipynb"), Path(scratch, "out.ipynb")
        nbformat.write(notebook, source)
        work = Path(folder or Path(scratch, "work"))
        work.mkdir(exist_ok=True)
        manager = _manager(Path(scratch), watch, warm)
        variables = {**os.environ, **(environment or {})}
        variables |= {"SCIVIZ_STRICT": "1" if strict else "0", "SCIVIZ_FRAMES": "1" if frames else "0"}
        began = time.monotonic()
        failed: Exception | None = None
        with _quiet_papermill(), _progress(notebook, progress) as bar:
            running = _Running(manager, str(work), variables, bar)
            try:
                papermill.execute_notebook(
                    source,
                    target,
                    parameters=dict(parameters),
                    engine_name=_engine(),
                    kernel_name="python3",
                    progress_bar=False,
                    execution_timeout=cell_timeout,
                    start_timeout=_START_SECONDS,
                    running=running,
                )
            except (papermill.PapermillExecutionError, RuntimeError, TimeoutError) as error:
                # nbclient tells of a dead kernel and of one that takes too long with the last two.
                failed = error
            finally:
                if watch is not None:
                    watch.stop()
        seconds = time.monotonic() - began
        done = nbformat.read(target if target.is_file() else source, as_version=4)
        last_words = _tail(manager.log_file)
    # Papermill puts a banner before the cell that failed; the page says it better.
    done.cells = [cell for cell in done.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    failure = None
    if isinstance(failed, papermill.PapermillExecutionError):
        broken = [cell for cell in done.cells if _error_of(cell)]
        section = _sections(done)[done.cells.index(broken[-1])] if broken else ""
        trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(failed.traceback))
        number = _number_of(done, broken[-1]) if broken else None
        failure = Failure(section, failed.source, f"{failed.ename}: {failed.evalue}", trace, number)
    elif failed is not None:
        failure = _failure_of_kernel(done, running, manager, watch, failed, last_words)
    peak = watch.peak_mb if watch is not None and watch.peak_mb else None
    return Executed(done, failure, seconds, stamp_of(done), manager.started_warm, peak)


def _runs(cell: Any, leave_out: frozenset[str], frames: bool) -> bool:
    tags = set(cell.metadata.get("tags", []))
    return not leave_out & tags or (frames and "frames" in tags and not tags & (leave_out - {"explorer"}))


def _manager(scratch: Path, watch: Watch | None, warm: tuple[str, ...] | None) -> Any:
    from sciviz.reports.kernels import WarmKernelManager

    manager = WarmKernelManager(kernel_name="python3")
    manager.connection_file = str(scratch / "kernel.json")
    # Ports are found free and then opened, and between the two another kernel may take them; files are our own.
    if os.name == "posix" and len(str(scratch)) < 80:
        manager.transport, manager.ip = "ipc", str(scratch / "kernel")
    manager.warm, manager.modules = warm is not None, warm or ()
    manager.log_file = scratch / "kernel.log"
    manager.on_start = watch.start if watch is not None else None
    return manager


def _tail(path: Path | None) -> str:
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        return file.read().decode("utf-8", "replace").strip()


def _failure_of_kernel(
    done: Any, running: _Running, manager: Any, watch: Watch | None, error: Exception, last_words: str
) -> Failure:
    """Say why a kernel gave no answer: a limit, a signal, or a cell that took too long."""
    if watch is not None and watch.reason:
        said = f"it was stopped, because it {watch.reason}"
    elif "CellTimeout" in type(error).__name__:
        said = str(error).splitlines()[0]
    else:
        said = manager.how_it_ended()
    index = running.cell if running.cell is not None and running.cell < len(done.cells) else None
    source, section, number = "", "", None
    if index is not None:
        cell = done.cells[index]
        source, section, number = cell.source, _sections(done)[index], _number_of(done, cell)
        if cell.cell_type == "code":
            cell.outputs.append(
                nbformat.v4.new_output("error", ename="KernelStopped", evalue=said, traceback=[last_words or said])
            )
    return Failure(section, source, f"KernelStopped: {said}", last_words, number)


def _number_of(notebook: Any, wanted: Any) -> int:
    """Return a code cell's number among the notebook's own code cells, from 1."""
    before = notebook.cells[: notebook.cells.index(wanted)]
    own = [c for c in before if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])]
    return len(own) + 1


def _error_of(cell: Any) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _sections(notebook: Any) -> list[str]:
    """Return the heading that each cell stands under."""
    heading, found = "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if match := re.match(r"#{1,3}\s+(.*)", line):
                    heading = match[1].strip()
        found.append(heading)
    return found


@contextlib.contextmanager
def _quiet_papermill() -> Iterator[None]:
    import logging

    logger = logging.getLogger("papermill")
    level = logger.level
    # Parameters were checked already, and a failing cell is told by the report itself.
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass
class _Running:
    """What the engine needs of a run, and tells of it."""

    manager: Any
    folder: str
    environment: dict[str, str]
    bar: Any
    cell: int | None = None


@contextlib.contextmanager
def _progress(notebook: Any, show: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    total = sum(cell.cell_type == "code" for cell in notebook.cells) + 1
    bar = tqdm(total=total, desc="starting the kernel", disable=not show, unit="cell", file=sys.stderr, leave=True)
    try:
        yield bar
    finally:
        bar.close()


@functools.cache
def _engine() -> str:
    """Register a papermill engine that starts our kernels, moves a bar by cell and names the section."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines
    from papermill.log import logger

    class SciVizEngine(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            kernel_name: str,
            *,
            running: _Running,
            start_timeout: float,
            execution_timeout: float | None = None,
            **_: Any,
        ) -> Any:
            sections = _sections(nb_man.nb)
            start, complete = nb_man.cell_start, nb_man.cell_complete

            def cell_start(cell: Any, cell_index: int, **more: Any) -> None:
                running.cell = cell_index
                if cell.cell_type == "code":
                    running.bar.set_description(sections[cell_index][:48] or "running")
                start(cell, cell_index, **more)

            def cell_complete(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                if cell.cell_type == "code":
                    running.bar.update()
                complete(cell, cell_index=cell_index, **more)

            nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
            client = PapermillNotebookClient(
                nb_man,
                km=running.manager,
                timeout=execution_timeout,
                startup_timeout=start_timeout,
                kernel_name=kernel_name,
                log=logger,
                # A busy machine may hold messages back for longer than the usual four seconds.
                iopub_timeout=60,
                shutdown_kernel="immediate" if running.manager.warm else "graceful",
            )
            return client.execute(cwd=running.folder, env=running.environment, cleanup_kc=True)

    papermill_engines.register("sciviz", SciVizEngine)
    return "sciviz"


def report(
    tutorial: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    out: Path | str,
    progress: bool = True,
) -> Report:
    """Run a tutorial, or a notebook of your own, as a report.

    Parameters
    ----------
    tutorial
        Number, wing, stem or path.
    parameters
        Values by name; text is read as the command line gives it.
    out
        A folder. It is written whole or not at all; one that holds anything but an earlier report is refused.

    Returns
    -------
    Where the report lies. A failing cell does not raise: `failure` says where and why, and the page holds all up to it.

    Raises
    ------
    ValueError
        If the tutorial, a parameter or the folder is not accepted; nothing is run or written then.
    """
    from sciviz.reports.kernels import Watch
    from sciviz.reports.page import write_page

    chosen = find_tutorial(str(tutorial))
    known = read_parameters(chosen.path)
    values = check_parameters(known, parameters or {})
    target = Path(out).resolve()
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / "run.json").is_file())):
        raise ValueError(f"out must be a new folder, an empty one or an earlier report, got {str(out)!r}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # A notebook of the user's own may import what lies beside it.
        beside = [str(chosen.path.parent)] if chosen.number is None else []
        search = os.pathsep.join([*beside, *filter(None, [os.environ.get("PYTHONPATH")])])
        done = execute(
            chosen,
            values,
            folder=scratch,
            progress=progress,
            frames=True,
            watch=Watch(),
            environment={"PYTHONPATH": search} if search else {},
        )
        # What a notebook wrote beside itself while running stays; the report's own files come last.
        extra = sorted(path.relative_to(scratch).parts[0] for path in scratch.iterdir())
        nbformat.write(without_widgets(done.notebook), scratch / "report.ipynb")
        write_results(datasets_of(done.notebook), scratch / "results.nc")
        _write_json(scratch / "claims.json", [claim.to_json() for claim in done.claims])
        run = _facts(chosen, {parameter.name: parameter.default for parameter in known} | values, done, extra)
        _write_json(scratch / "run.json", run)
        write_page(done, run, scratch / "report.html", title=chosen.stem, folder=chosen.path.parent)
        os.chmod(scratch, 0o755)
        _put_in_place(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Report(target, done.claims, done.failure, done.seconds)


_OWN_FILES = frozenset({"report.html", "report.ipynb", "results.nc", "claims.json", "run.json"})


def _facts(tutorial: Tutorial, parameters: dict[str, Any], done: Executed, extra: list[str]) -> dict[str, Any]:
    """Return what `run.json` holds. What the notebook's stamp does not tell, because it stopped earlier, is told by us."""
    from datetime import UTC, datetime

    stamp = {name: value for name, value in done.stamp.items() if name != "wall_seconds"}
    if not stamp:
        from sciviz.lab.runtime import commit, versions

        stamp = {
            "seed": parameters.get("seed"),
            "profile": parameters.get("profile"),
            "device": next((claim.device for claim in done.claims), parameters.get("device")),
            "versions": versions(),
            "commit": commit(),
            "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "peak_memory_mb": done.peak_memory_mb,
        }
    failure = done.failure
    return {
        "tutorial": tutorial.stem,
        "parameters": parameters,
        "seconds": round(done.seconds, 2),
        "failed": failure and {"section": failure.section, "cell": failure.cell, "error": failure.error},
        **stamp,
        "cells": _cell_times(done.notebook),
        "files": extra,
    }


def _cell_times(notebook: Any) -> list[dict[str, Any]]:
    """Return the section and the seconds of each code cell that ran."""
    found = []
    for cell, section in zip(notebook.cells, _sections(notebook), strict=True):
        seconds = cell.metadata.get("papermill", {}).get("duration")
        if cell.cell_type == "code" and seconds is not None:
            found.append({"section": section, "seconds": round(seconds, 3)})
    return found


def _put_in_place(scratch: Path, target: Path) -> None:
    """Put a finished report where it belongs; files in an earlier one that no report wrote are kept."""
    if not target.exists() or not any(target.iterdir()):
        if target.exists():
            target.rmdir()
        os.replace(scratch, target)
        return
    try:
        written = set(json.loads((target / "run.json").read_text(encoding="utf-8")).get("files", []))
    except (OSError, ValueError, AttributeError):
        written = set()
    before = Path(tempfile.mkdtemp(prefix=f".{target.name}-before-", dir=target.parent))
    before.rmdir()
    os.rename(target, before)
    os.replace(scratch, target)
    for path in before.iterdir():
        if path.name not in _OWN_FILES | written and not (target / path.name).exists():
            shutil.move(path, target / path.name)
    shutil.rmtree(before, ignore_errors=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_widgets(notebook: Any) -> Any:
    """Return the notebook without widget state and widget views (each view carries 5 MB of script)."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    copy.metadata.pop("widgets", None)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            ]
    return copy


def write_results(datasets: Mapping[str, Any], path: Path) -> None:
    """Write all data sets of a run as the groups of one netCDF file that plain xarray opens."""
    import xarray as xr

    xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()}).to_netcdf(
        path, engine="h5netcdf"
    )
