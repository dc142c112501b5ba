"""Results of points: what is packed comes back, damage is noticed, and the directory keeps them whole."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sciviz.lab.places import find_tutorial
from sciviz.lab.runtime import DATASET_MIME, RecordedDataset, harvest_datasets
from sciviz.reports import harvest, sweeps
from sciviz.reports.parameters import read_parameters
from sciviz.reports.points import FORMAT, WorkerDiffers, difference, identity, pack, read_point, run_point
from sciviz.reports.sweeps import Directory, Plan, plan, write_whole
from tests.reports.light import claim, notebook


def record(key: str, **more: Any) -> dict[str, Any]:
    base = {"format": FORMAT, "key": key, "parameters": {}, "status": "done", "failure": None, "claims": [claim(a=1.0)]}
    return {**base, "seconds": 1.0, "peak_memory_mb": 9.0, "device": "cpu", "warm": True, "worker": "here", **more}


DATA = xr.Dataset(
    {
        "loss": (("step", "unit"), np.linspace(0, 1, 6).reshape(3, 2), {"units": "m", "scale": np.float64(2)}),
        "name": ("unit", np.array(["naïve", "∑"], dtype=object)),
        "count": ("step", np.array([1, 2, 3], dtype=np.int16)),
        "end": ((), 3.5),
    },
    {"step": [0.0, 0.5, 1.0]},
    {"title": "a run"},
)


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "abc.zip"
    path.write_bytes(pack(record("abc"), {"run": DATA}))
    point = read_point(path, verify=True)
    assert point is not None and point.done and point.notebook() is None
    arrays = point.arrays("run")
    assert set(arrays) == {"loss", "name", "count", "end", "step"}
    for name in ("loss", "count", "end", "step"):
        assert arrays[name].dtype == DATA[name].dtype
        np.testing.assert_array_equal(arrays[name], DATA[name].values)
    assert arrays["name"].tolist() == ["naïve", "∑"]
    described = point.record["datasets"]["run"]
    assert described["attrs"] == {"title": "a run"}
    assert described["variables"]["loss"]["attrs"] == {"units": "m", "scale": 2.0}
    assert described["variables"]["step"]["coordinate"] and not described["variables"]["loss"]["coordinate"]


def test_same_content_is_the_same_bytes() -> None:
    assert pack(record("abc"), {"run": DATA}) == pack(record("abc"), {"run": DATA.copy(deep=True)})


PACKED = pack(record("abc"), {"run": DATA})


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(place: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[place] ^= change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "abc.zip")
        path.write_bytes(damaged)
        point = read_point(path, verify=True)
        if point is not None:
            # A date or a comment: what it holds is what was packed.
            assert point.record["claims"] == [claim(a=1.0)]
            np.testing.assert_array_equal(point.arrays("run")["loss"], DATA.loss.values)


@given(st.integers(0, len(PACKED) - 1))
def test_half_a_result_is_none(length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "abc.zip")
        path.write_bytes(PACKED[:length])
        assert read_point(path, verify=True) is None


def test_a_result_under_another_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "other.zip").write_bytes(PACKED)
    assert read_point(tmp_path / "other.zip") is None
    with zipfile.ZipFile(tmp_path / "abc.zip", "w") as archive:
        archive.writestr("something.txt", "else")
    assert read_point(tmp_path / "abc.zip") is None and read_point(tmp_path / "none.zip") is None


# Versions


def test_difference_names_both() -> None:
    mine = {"Python": "3.11.7", "sciviz": "0.1.0"}
    assert difference(mine, mine, "tcp://there:1") == ""
    said = difference(mine, {"Python": "3.12.1", "sciviz": "0.0.9"}, "tcp://there:1")
    assert said == (
        "the worker tcp://there:1 differs from this machine: Python 3.12.1 there, 3.11.7 here; "
        "sciviz 0.0.9 there, 0.1.0 here."
    )


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"host": {"python": "3.12.1.final.0"}, "packages": {"sciviz": "0.1.0"}}, "Python 3.12.1 there"),
        ({"host": {"python": "PYTHON.final.0"}, "packages": {"sciviz": None}}, "sciviz none there, 0.1.0 here"),
    ],
)
def test_worker_of_another_version_is_refused(versions: dict[str, Any], said: str) -> None:
    me = {**identity(()), "sciviz": "0.1.0"}
    versions["host"]["python"] = versions["host"]["python"].replace("PYTHON", me["Python"])

    class Client:
        def get_versions(self, packages: list[str]) -> dict[str, Any]:
            return {"workers": {"tcp://there:1": versions}}

    with pytest.raises(ValueError, match=said):
        sweeps._check_workers(Client(), "tcp://scheduler:8786", me)


def test_a_worker_looks_for_itself() -> None:
    job = {"identity": {**identity(()), "sciviz's code": "0123456789ab"}, "wings": ()}
    with pytest.raises(WorkerDiffers, match=r"sciviz's code .* there, 0123456789ab here"):
        run_point(job)


def test_light_harvest_is_the_same_as_the_benchs() -> None:
    assert harvest.DATASET_MIME == DATASET_MIME
    bundle = RecordedDataset("run", DATA)._repr_mimebundle_()
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=bundle)])]
    )
    assert list(harvest.datasets_of(made)) == ["run"]
    xr.testing.assert_identical(harvest.datasets_of(made)["run"], harvest_datasets(made)["run"])


# The directory


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    path = notebook(tmp_path / "light.ipynb", "claim(a=1.0)")
    return planning(path, {"width": [1, 2]})


def planning(path: Path, grid: dict[str, list[Any]], **fixed: Any) -> Plan:
    return plan(find_tutorial(str(path)), read_parameters(path), grid, fixed)


def test_a_result_is_kept_whole(tmp_path: Path, planned: Plan) -> None:
    key = planned.keys[0]
    with Directory(tmp_path / "out", planned) as directory:
        assert directory.keep(key, pack(record(key), {})).done
        assert directory.result(key, verify=True) is not None and directory.result(planned.keys[1]) is None
    # A file that was being written when the power went is no result, and is cleared away.
    left = tmp_path / "out" / "points" / f".{planned.keys[1]}.zip.new"
    left.write_bytes(b"half")
    with Directory(tmp_path / "out", planned) as directory:
        assert not left.exists() and directory.result(key) is not None


def test_notebook_of_a_failed_point_lies_at_hand(tmp_path: Path, planned: Plan) -> None:
    key = planned.keys[0]
    failed = record(key, status="failed", failure={"section": "s", "source": "", "error": "E", "cell": 3})
    with Directory(tmp_path / "out", planned) as directory:
        directory.keep(key, pack(failed, {}, nbformat.v4.new_notebook()))
        assert nbformat.read(tmp_path / "out" / "failed" / f"{key}.ipynb", as_version=4).cells == []
        directory.keep(key, pack(record(key), {}))
        assert not (tmp_path / "out" / "failed" / f"{key}.ipynb").exists()


def test_two_at_once_are_refused(tmp_path: Path, planned: Plan) -> None:
    with Directory(tmp_path / "out", planned), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on "):
        Directory(tmp_path / "out", planned).__enter__()
    with Directory(tmp_path / "out", planned):
        pass


def test_what_is_not_ours_is_left_alone(tmp_path: Path, planned: Plan) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "run.json").write_text("{}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{not json")
    for name, said in [("mine", "holds other things"), ("report", "holds other things"), ("broken", "cannot be read")]:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=said):
            Directory(tmp_path / name, planned)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="is a file"):
        Directory(tmp_path / "mine" / "precious.txt", planned)


def test_another_sweep_is_refused_and_a_grid_may_grow(tmp_path: Path, planned: Plan) -> None:
    with Directory(tmp_path / "out", planned):
        pass
    path = tmp_path / "light.ipynb"
    for other, said in [
        (planning(path, {"width": [1]}), "width had the value 2 too, and a grid may only grow"),
        (planning(path, {"seed": [1]}), "over width, not over seed"),
        (planning(path, {"width": [1, 2]}, seed=3), "with seed = 0, not 3"),
    ]:
        with pytest.raises(ValueError, match=said):
            Directory(tmp_path / "out", other)
    grown = planning(path, {"width": [1, 2, 3]})
    assert grown.keys[:2] == planned.keys
    with Directory(tmp_path / "out", grown):
        pass
    with pytest.raises(ValueError, match="may only grow"):
        Directory(tmp_path / "out", planned)
    notebook(path, "claim(a=2.0)")
    with pytest.raises(ValueError, match="light has changed since"):
        Directory(tmp_path / "out", planning(path, {"width": [1, 2, 3]}))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
