"""Collect the points of a sweep into one Zarr store, and open it.

The root of the store has the grid as dimensions and the claims as variables; each data set that the points recorded is
a group. Points are read once to learn what they hold, and once more a block of the grid at a time to write it, so that
the memory this takes does not grow with the number of points.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sciviz.lab.claims import Claim
from sciviz.reports.grid import key_of, points_of
from sciviz.reports.points import Point, read_point

_BLOCK_BYTES = 32e6
_LONGEST_ERROR = 300


def open_sweep(folder: Path | str) -> Any:
    """Open the collected results of a sweep lazily: nothing but the grid is read until it is asked for.

    Returns
    -------
    An `xarray.DataTree`; its root holds claims, `status`, `seconds` and `peak_memory_mb` over the grid, and each
    data set that the points recorded is a group.

    Raises
    ------
    ValueError
        If nothing has been collected there.
    """
    import xarray as xr

    store = Path(folder) / "results.zarr"
    if not store.is_dir():
        raise ValueError(f"{str(folder)!r} holds no collected sweep: there is no {store.name} in it.")
    return xr.open_datatree(store, engine="zarr", chunks=None, consolidated=True, decode_timedelta=False)


@dataclass
class _Variable:
    """One variable over all points that hold it."""

    dims: tuple[str, ...]
    shape: list[int]
    kind: np.dtype[Any]
    attrs: dict[str, Any]
    coordinate: bool
    digests: set[str] = field(default_factory=set)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    count: int = 0

    def take(self, described: Mapping[str, Any], name: str) -> None:
        if tuple(described["dims"]) != self.dims:
            raise ValueError(
                f"{name} has the dimensions {', '.join(self.dims)} at one point and {', '.join(described['dims'])} at "
                "another, so the points cannot be collected."
            )
        self.shape = [max(pair) for pair in zip(self.shape, described["shape"], strict=True)]
        self.kind = _common(self.kind, np.dtype(described["dtype"]))
        self.coordinate = self.coordinate or described["coordinate"]
        self.digests.add(described["digest"])
        self.shapes.add(tuple(described["shape"]))
        self.count += 1


def _common(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    try:
        return np.promote_types(one, other)
    except TypeError:
        return np.dtype("<U64")


class _Survey:
    """The first reading: claims and facts of every point, and what its data sets look like."""

    def __init__(self, count: int) -> None:
        self.status = np.full(count, "missing", dtype="<U7")
        self.error = np.full(count, "", dtype=f"<U{_LONGEST_ERROR}")
        self.numbers = {name: np.full(count, np.nan) for name in ("seconds", "peak_memory_mb")}
        self.outcomes: dict[str, np.ndarray[Any, Any]] = {}
        self.measured: dict[str, np.ndarray[Any, Any]] = {}
        self.attrs: dict[str, dict[str, Any]] = {}
        self.datasets: dict[str, dict[str, _Variable]] = {}
        self.dataset_attrs: dict[str, dict[str, Any]] = {}

    def take(self, index: int, point: Point) -> None:
        record = point.record
        self.status[index] = record["status"]
        self.numbers["seconds"][index] = record["seconds"]
        self.numbers["peak_memory_mb"][index] = record["peak_memory_mb"] or np.nan
        failure = record["failure"]
        if failure:
            cell = f"cell {failure['cell']}, " if failure.get("cell") else ""
            section = f"“{failure['section']}”: " if failure.get("section") else ""
            self.error[index] = f"{cell}{section}{failure['error']}"[:_LONGEST_ERROR]
            # Of a point that failed nothing but its failure counts: what it measured on the way is not the whole of it.
            return
        for claim in map(Claim.from_json, record["claims"]):
            self._take_claim(index, claim)
        for name, dataset in record["datasets"].items():
            known = self.datasets.setdefault(name, {})
            self.dataset_attrs.setdefault(name, dataset["attrs"])
            for variable, described in dataset["variables"].items():
                if variable not in known:
                    known[variable] = _Variable(
                        tuple(described["dims"]),
                        [0] * len(described["dims"]),
                        np.dtype(described["dtype"]),
                        described["attrs"],
                        described["coordinate"],
                    )
                known[variable].take(described, f"{name}.{variable}")

    def _take_claim(self, index: int, claim: Claim) -> None:
        count = len(self.status)
        name = claim.id.replace("/", ".")
        about = {"claim": claim.id, "says": claim.says, "criterion": claim.criterion, "expected": claim.expected}
        if claim.why:
            about["why"] = claim.why
        if name not in self.outcomes:
            self.outcomes[name] = np.full(count, "", dtype="<U9")
            self.attrs[f"{name}.outcome"] = {**about, "role": "outcome", "long_name": f"outcome of {claim.id}"}
        self.outcomes[name][index] = claim.outcome
        for role, value in (("measured", claim.measured), ("spread", claim.spread)):
            for part, number in (value if isinstance(value, dict) else {"": value}).items():
                if not isinstance(number, (bool, int, float)):
                    continue
                # A part may be called as one of our own variables is.
                # A slash would make a group of what stands before it.
                spelt = re.sub(r"\s*/\s*", " over ", part)
                words = [spelt + "_" * (spelt in ("outcome", "spread"))] if spelt else []
                full = ".".join([name, *words, *(["spread"] if role == "spread" else [])])
                if full not in self.measured:
                    self.measured[full] = np.full(count, np.nan)
                    title = ", ".join([claim.id, *filter(None, [part]), *(["spread"] if role == "spread" else [])])
                    self.attrs[full] = {**about, "role": role, "part": part, "long_name": title}
                self.measured[full][index] = float(number)


def collect(folder: Path | str) -> Path:
    """Collect all points of a sweep that are there into `results.zarr`, and return its path.

    The store is written beside, and takes its name when it is whole.

    Raises
    ------
    ValueError
        If there is no sweep, or its points hold a variable with different dimensions.
    """
    import zarr

    folder = Path(folder)
    try:
        manifest = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{str(folder)!r} holds no sweep that can be read.") from None
    grid: dict[str, list[Any]] = manifest["grid"]
    points = points_of(grid)
    keys = [key_of(manifest["notebook"], manifest["package"], manifest["fixed"] | point) for point in points]
    survey = _Survey(len(points))
    for index, key in enumerate(keys):
        point = read_point(folder / "points" / f"{key}.zip")
        if point is not None:
            survey.take(index, point)
    final, scratch = folder / "results.zarr", folder / ".results.zarr.new"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        root = zarr.open_group(str(scratch), mode="w", zarr_format=2)
        root.attrs.update(_root_attrs(manifest, survey))
        _write_root(root, grid, manifest, survey)
        _write_datasets(root, grid, keys, folder / "points", survey)
        zarr.consolidate_metadata(str(scratch), zarr_format=2)
        _replace_folder(scratch, final)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return final


def _replace_folder(scratch: Path, final: Path) -> None:
    before = final.with_name(f".{final.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(final, before)
    os.rename(scratch, final)
    shutil.rmtree(before, ignore_errors=True)


def _root_attrs(manifest: Mapping[str, Any], survey: _Survey) -> dict[str, Any]:
    counts = {name: int((survey.status == name).sum()) for name in ("done", "failed", "missing")}
    names = ("tutorial", "notebook", "package", "fixed", "meanings")
    return {"title": f"Sweep of {manifest['tutorial']}", **{name: manifest[name] for name in names}, "points": counts}


def _add(
    group: Any,
    name: str,
    values: np.ndarray[Any, Any],
    dims: Sequence[str],
    attrs: Mapping[str, Any],
    chunks: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
) -> Any:
    """Add an array in the way that xarray reads: dimensions named, no value that stands for a missing one but NaN."""
    kind = values.dtype
    fill: Any = np.nan if kind.kind == "f" else complex(np.nan, np.nan) if kind.kind == "c" else None
    array = group.create_array(
        name,
        shape=tuple(shape if shape is not None else values.shape),
        dtype=kind,
        chunks=tuple(max(1, size) for size in (chunks if chunks is not None else values.shape)) or "auto",
        fill_value=fill,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **attrs},
    )
    if shape is None:
        array[...] = values
    return array


def _write_root(group: Any, grid: Mapping[str, list[Any]], manifest: Mapping[str, Any], survey: _Survey) -> None:
    dims, sizes = list(grid), [len(values) for values in grid.values()]
    for name, values in grid.items():
        _add(group, name, np.asarray(values), [name], {"long_name": manifest["meanings"].get(name) or name})

    def over_grid(name: str, values: np.ndarray[Any, Any], attrs: Mapping[str, Any]) -> None:
        _add(group, name, values.reshape(sizes), dims, attrs)

    over_grid("status", survey.status, {"long_name": "done, failed or missing"})
    over_grid("error", _shortest(survey.error), {"long_name": "where and why the point failed"})
    over_grid("seconds", survey.numbers["seconds"], {"long_name": "wall time", "units": "s"})
    over_grid("peak_memory_mb", survey.numbers["peak_memory_mb"], {"long_name": "peak memory", "units": "MB"})
    for name, outcomes in survey.outcomes.items():
        over_grid(f"{name}.outcome", outcomes, survey.attrs[f"{name}.outcome"])
    for name, measured in survey.measured.items():
        over_grid(name, measured, survey.attrs[name])


def _shortest(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    longest = int(np.char.str_len(texts).max(initial=1))
    return texts.astype(f"<U{max(1, longest)}")


@dataclass
class _Target:
    """Where a variable of a data set goes: once for all points, or over the grid."""

    array: Any
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    over_grid: bool


def _write_datasets(
    root: Any, grid: Mapping[str, list[Any]], keys: Sequence[str], points: Path, survey: _Survey
) -> None:
    sizes = [len(values) for values in grid.values()]
    done = int((survey.status == "done").sum())
    heaviest = sum(
        math.prod(variable.shape) * _padded(variable).itemsize
        for variables in survey.datasets.values()
        for variable in variables.values()
    )
    block = _block(sizes, max(1, heaviest))
    targets: dict[str, dict[str, _Target]] = {}
    for name, variables in survey.datasets.items():
        group = root.create_group(name, attributes=survey.dataset_attrs[name])
        targets[name] = {
            variable: _target(group, variable, about, list(grid), sizes, block, done)
            for variable, about in variables.items()
        }
        coordinates = [
            _renamed(variable, grid)
            for variable, about in variables.items()
            if about.coordinate and not (about.dims == (variable,) and not targets[name][variable].over_grid)
        ]
        if coordinates:
            # As the conventions of netCDF have it: xarray takes from here which variables are coordinates.
            group.attrs["coordinates"] = " ".join(coordinates)
    once = {(name, variable) for name, found in targets.items() for variable, t in found.items() if not t.over_grid}
    for corner in _corners(sizes, block):
        places = [range(start, min(start + step, size)) for start, step, size in zip(corner, block, sizes, strict=True)]
        held: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
        for place in itertools.product(*places):
            point = read_point(points / f"{keys[int(np.ravel_multi_index(place, sizes))]}.zip")
            if point is None or not point.done:
                continue
            inside: tuple[Any, ...] = tuple(index - start for index, start in zip(place, corner, strict=True))
            for name in point.record["datasets"]:
                for variable, values in point.arrays(name).items():
                    target = targets[name][variable]
                    if (name, variable) in once:
                        target.array[...] = values
                        once.discard((name, variable))
                    elif target.over_grid:
                        if (name, variable) not in held:
                            shape = (*map(len, places), *target.shape)
                            held[name, variable] = np.full(shape, _empty(target.kind), dtype=target.kind)
                        own = tuple(slice(0, size) for size in values.shape)
                        held[name, variable][inside + own] = values
        for (name, variable), values in held.items():
            region = tuple(slice(part.start, part.stop) for part in places)
            targets[name][variable].array[(*region, *(slice(None),) * len(targets[name][variable].shape))] = values


def _target(
    group: Any,
    name: str,
    about: _Variable,
    axes: list[str],
    sizes: list[int],
    block: list[int],
    done: int,
) -> _Target:
    shape, dims = tuple(about.shape), [_renamed(dim, axes) for dim in about.dims]
    # A coordinate that is the same at every point is kept once.
    if about.coordinate and len(about.digests) == 1 and about.count == done:
        empty = np.empty(shape, dtype=about.kind)
        return _Target(
            _add(group, _renamed(name, axes), empty, dims, about.attrs, shape=shape), about.kind, shape, False
        )
    kind = _padded(about)
    attrs = dict(about.attrs)
    if len(about.shapes) > 1:
        attrs["padded"] = "points differ in size; what one has less is NaN or empty"
    # Along a dimension of its own, a coordinate that differs from point to point cannot carry that dimension's name.
    own = f"{_renamed(name, axes)}_values" if name in about.dims else _renamed(name, axes)
    array = _add(
        group,
        own,
        np.empty(0, dtype=kind),
        [*axes, *dims],
        attrs,
        chunks=[*block, *shape],
        shape=[*sizes, *shape],
    )
    return _Target(array, kind, shape, True)


def _renamed(name: str, axes: Any) -> str:
    """Return a name inside a run that does not collide with an axis of the grid.

    >>> _renamed("seed", ["width", "seed"]), _renamed("time", ["width", "seed"])
    ('seed_in_run', 'time')
    """
    return f"{name}_in_run" if name in axes else name


def _padded(about: _Variable) -> np.dtype[Any]:
    """Return the type that can also say "nothing here", as it must at a point that failed or is still to come."""
    return np.dtype(np.float64) if about.kind.kind in "iub" else about.kind


def _empty(kind: np.dtype[Any]) -> Any:
    return {"f": np.nan, "c": np.nan, "U": "", "M": np.datetime64("NaT"), "m": np.timedelta64("NaT")}.get(kind.kind, 0)


def _block(sizes: Sequence[int], bytes_a_point: float) -> list[int]:
    """Return how many points along each axis are written together.

    >>> _block([10, 100], 1e6)
    [1, 32]
    """
    room = max(1, int(_BLOCK_BYTES // bytes_a_point))
    block = []
    for size in reversed(sizes):
        step = min(size, room)
        block.append(step)
        room = max(1, room // step)
    return block[::-1]


def _corners(sizes: Sequence[int], block: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(0, size, step) for size, step in zip(sizes, block, strict=True)))
