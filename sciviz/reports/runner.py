"""Run a notebook as a report: papermill executes it, the labelled data sets and claims are taken from its outputs."""

from __future__ import annotations

import contextlib
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
from typing import Any

import nbformat

from sciviz.lab.claims import Claim, harvest_claims
from sciviz.lab.places import Tutorial, find_tutorial
from sciviz.lab.runtime import harvest_datasets
from sciviz.reports.parameters import check_parameters, read_parameters

LEFT_OUT = frozenset({"exercise", "explorer"})


@dataclass(frozen=True)
class Failure:
    """The cell that stopped a run: its heading, source and traceback."""

    section: str
    source: str
    error: str
    traceback: str


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
    """

    notebook: Any
    failure: Failure | None
    seconds: float
    stamp: dict[str, Any]

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
    """
    import papermill

    with tempfile.TemporaryDirectory(prefix="sciviz-") as scratch:
        notebook = nbformat.read(tutorial.path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if not leave_out & set(cell.metadata.get("tags", []))]
        source, target = Path(scratch, "in.ipynb"), Path(scratch, "out.ipynb")
        nbformat.write(notebook, source)
        began = time.monotonic()
        failed = None
        with (
            _environment(SCIVIZ_STRICT="1" if strict else "0"),
            _quiet_papermill(),
            _progress(notebook, progress) as name,
        ):
            try:
                papermill.execute_notebook(
                    source,
                    target,
                    parameters=dict(parameters),
                    engine_name=name,
                    kernel_name="python3",
                    cwd=str(folder or scratch),
                    progress_bar=False,
                    execution_timeout=cell_timeout,
                )
            except papermill.PapermillExecutionError as error:
                failed = error
        seconds = time.monotonic() - began
        done = nbformat.read(target, as_version=4)
    # Papermill puts a banner before the cell that failed; the page says it better.
    done.cells = [cell for cell in done.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    failure = None
    if failed is not None:
        broken = [cell for cell in done.cells if _error_of(cell)]
        section = _sections(done)[done.cells.index(broken[-1])] if broken else ""
        trace = "\n".join(failed.traceback)
        failure = Failure(
            section, failed.source, f"{failed.ename}: {failed.evalue}", re.sub(r"\x1b\[[\d;]*m", "", trace)
        )
    return Executed(done, failure, seconds, _last_stamp(done))


def _error_of(cell: Any) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _last_stamp(notebook: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found = output.get("data", {}).get("application/vnd.sciviz.stamp+json", found)
    return dict(found)


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
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


@contextlib.contextmanager
def _progress(notebook: Any, show: bool) -> Iterator[str]:
    """Register a papermill engine that moves a bar by cell and names the section; yield the engine's name."""
    from papermill.engines import NBClientEngine, papermill_engines
    from tqdm.auto import tqdm

    total = sum(cell.cell_type == "code" for cell in notebook.cells) + 1
    bar = tqdm(total=total, desc="starting the kernel", disable=not show, unit="cell", file=sys.stderr, leave=True)

    class Engine(NBClientEngine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            sections = _sections(nb_man.nb)
            start, complete = nb_man.cell_start, nb_man.cell_complete

            def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                if cell_index is not None and cell.cell_type == "code":
                    bar.set_description(sections[cell_index][:48] or "running")
                start(cell, cell_index, **more)

            def cell_complete(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                if cell.cell_type == "code":
                    bar.update()
                complete(cell, cell_index, **more)

            nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("sciviz", Engine)
    try:
        yield "sciviz"
    finally:
        bar.close()


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
        done = execute(chosen, values, folder=scratch, progress=progress)
        # What a notebook wrote beside itself while running stays; the report's own files come last.
        nbformat.write(without_widgets(done.notebook), scratch / "report.ipynb")
        write_results(harvest_datasets(done.notebook), scratch / "results.nc")
        _write_json(scratch / "claims.json", [claim.to_json() for claim in done.claims])
        everything = {parameter.name: parameter.default for parameter in known} | values
        run = {
            "tutorial": chosen.stem,
            "parameters": everything,
            "seconds": round(done.seconds, 2),
            "failed": None if done.failure is None else {"section": done.failure.section, "error": done.failure.error},
            **{name: value for name, value in done.stamp.items() if name not in ("wall_seconds",)},
        }
        _write_json(scratch / "run.json", run)
        write_page(done, run, scratch / "report.html", title=chosen.stem, folder=chosen.path.parent)
        os.chmod(scratch, 0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Report(target, done.claims, done.failure, done.seconds)


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
