"""Run the tutorials and keep what their claims measured in the committed record, `course/claims.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sciviz.lab.claims import Claim, code_hash, is_strict
from sciviz.lab.places import Tutorial, course_dir, find_tutorial, tutorials
from sciviz.reports.runner import Executed, execute


def verify(
    names: Sequence[str] = (),
    *,
    profile: str = "quick",
    device: str = "auto",
    seed: int | None = None,
    write: bool = True,
    progress: bool = True,
) -> list[tuple[Tutorial, Executed]]:
    """Run tutorials (all, if none is named) and write what their claims measured into the record.

    Parameters
    ----------
    seed
        Another seed than the notebook's own; nothing is written then, since the record is of the notebook as it stands.
    write
        Whether to update `course/claims.json`; a run that failed, or a claim that surprised, is not written.

    Raises
    ------
    ValueError
        If there is no such tutorial.
    """
    chosen = [find_tutorial(name) for name in names] or tutorials()
    results = []
    for tutorial in chosen:
        values: dict[str, Any] = {"profile": profile, "device": device}
        if seed is not None:
            values["seed"] = seed
        done = execute(tutorial, values, strict=is_strict(), progress=progress)
        results.append((tutorial, done))
        if write and seed is None and done.failure is None:
            update_record(course_dir() / "claims.json", tutorial, done)
    return results


def update_record(path: Path, tutorial: Tutorial, done: Executed) -> None:
    """Write an executed tutorial's claims, time and memory into the record, and leave all else as it is."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"claims": {}, "tutorials": {}}
    stamp = done.stamp
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    for claim in done.claims:
        if not claim.surprising:
            record["claims"].setdefault(claim.id, {})[_slot(claim)] = record_entry(claim, tutorial, stamp, date)
    if stamp:
        record["tutorials"].setdefault(tutorial.stem, {})[stamp["profile"]] = {
            "seconds": round(done.seconds, 1),
            "memory_mb": round(stamp["peak_memory_mb"]) if stamp["peak_memory_mb"] else None,
            "device": stamp["device"],
            "date": date,
        }
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def _slot(claim: Claim) -> str:
    # A claim measured on a GPU is kept beside the one of the same profile on a CPU.
    return "gpu" if claim.device == "cuda" else claim.profile


def record_entry(claim: Claim, tutorial: Tutorial, stamp: dict[str, Any], date: str) -> dict[str, Any]:
    """Return what the record keeps of one claim."""
    entry = claim.to_json()
    del entry["id"], entry["source"]
    entry["tutorial"], entry["wing"] = tutorial.stem, tutorial.wing
    entry["code"] = code_hash(tutorial.wing) if tutorial.wing else ""
    entry["versions"], entry["hardware"] = stamp.get("versions", {}), stamp.get("device", claim.device)
    entry["seed"], entry["date"] = stamp.get("seed"), date
    return entry
