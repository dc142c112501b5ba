"""What changed between two reports: parameters, versions, claims, and the largest differences of data variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sciviz.lab.claims import Claim

_MOST = 20


def diff(one: Path | str, other: Path | str) -> list[str]:
    """Compare two report folders.

    Returns
    -------
    One line for each thing that differs, under headings; empty if nothing does. Times and memory are not compared.

    Raises
    ------
    ValueError
        If a folder holds no report.
    """
    a, b = _read(one), _read(other)
    lines: list[str] = []
    for heading, found in (
        ("Notebook", _named({"tutorial": a["run"]["tutorial"]}, {"tutorial": b["run"]["tutorial"]})),
        ("Parameters", _named(a["run"]["parameters"], b["run"]["parameters"])),
        ("Versions", _named(a["run"].get("versions", {}), b["run"].get("versions", {}))),
        ("Machine", _machine(a["run"], b["run"])),
        ("Stopped", _named({"at": _stop(a["run"])}, {"at": _stop(b["run"])})),
        ("Claims", _claims(a["claims"], b["claims"])),
        ("Data", _data(a["results"], b["results"])),
    ):
        if found:
            lines += [f"{heading}:", *(f"  {line}" for line in found)]
    return lines


def _read(folder: Path | str) -> dict[str, Any]:
    import xarray as xr

    folder = Path(folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
        run["tutorial"], run["parameters"]
        results: dict[str, Any] = {}
        with xr.open_datatree(folder / "results.nc", engine="h5netcdf", decode_timedelta=False) as tree:
            for name, child in tree.children.items():
                dataset = child.to_dataset().load()
                results |= {f"{name}.{variable}": values for variable, values in dataset.variables.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(folder)!r} holds no report that can be read ({error}).") from None
    return {"run": run, "claims": [Claim.from_json(claim) for claim in claims], "results": results}


def _stop(run: dict[str, Any]) -> Any:
    return run["failed"]["error"] if run.get("failed") else "nowhere"


def _named(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = [*one, *(name for name in other if name not in one)]
    return [
        f"{name}: {_text(one, name)} → {_text(other, name)}" for name in names if _text(one, name) != _text(other, name)
    ]


def _machine(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    # A run that stopped before its stamp does not tell all of it.
    both = [name for name in ("device", "system", "threads", "commit") if one.get(name) and other.get(name)]
    return _named({name: one[name] for name in both}, {name: other[name] for name in both})


def _text(values: dict[str, Any], name: str) -> str:
    return str(values[name]) if values.get(name) is not None else "none"


def _claims(one: list[Claim], other: list[Claim]) -> list[str]:
    before, after = ({claim.id: claim for claim in claims} for claims in (one, other))
    lines = []
    for id in [*before, *(id for id in after if id not in before)]:
        if id not in after or id not in before:
            lines.append(f"{id}: only in the {'first' if id in before else 'second'}")
            continue
        old, new = before[id], after[id]
        if (old.outcome, old.measured) != (new.outcome, new.measured):
            verdict = f"{old.outcome} → {new.outcome}" if old.outcome != new.outcome else f"still {new.outcome}"
            lines.append(f"{id}: {verdict}; measured {old.value_text()} → {new.value_text()}")
    return lines


def _data(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the variables that differ, the largest relative difference first."""
    plain = [f"{name}: only in the {'first' if name in one else 'second'}" for name in sorted(set(one) ^ set(other))]
    ranked: list[tuple[float, str]] = []
    for name in sorted(set(one) & set(other)):
        a, b = one[name], other[name]
        if a.dims != b.dims or a.shape != b.shape:
            plain.append(f"{name}: {_shape(a)} → {_shape(b)}")
        elif a.dtype.kind not in "fiubc" or b.dtype.kind not in "fiubc":
            different = int((a.values.astype(str) != b.values.astype(str)).sum())
            if different:
                plain.append(f"{name}: {different} of {a.size} entries differ")
        elif found := _numbers(name, a, b):
            ranked.append(found)
    ranked.sort(key=lambda pair: -pair[0])
    lines = [line for _, line in ranked] + plain
    return [*lines[:_MOST], f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else lines


def _shape(variable: Any) -> str:
    return ", ".join(f"{dim} {size}" for dim, size in zip(variable.dims, variable.shape, strict=True)) or "one number"


def _numbers(name: str, a: Any, b: Any) -> tuple[float, str] | None:
    kind = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    old, new = a.values.astype(kind), b.values.astype(kind)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    if same.all():
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(same, 0.0, np.abs(old - new))
    gap = np.where(np.isnan(gap), np.inf, gap)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    scale = float(np.nanmax(np.abs(np.where(np.isfinite(old), old, 0.0)), initial=0.0))
    relative = float(gap[worst]) / scale if scale else float("inf")
    place = ", ".join(f"{dim} {int(i)}" for dim, i in zip(a.dims, worst, strict=True))
    share = f", {relative:.2g} of the largest entry" if np.isfinite(relative) else ""
    at = f" at {place}" if place else ""
    return (
        relative,
        f"{name}: {old[worst]:.6g} → {new[worst]:.6g}{at}{share}; {int((~same).sum())} of {same.size} differ",
    )
