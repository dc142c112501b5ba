"""The store of a sweep, and the page made from it: points that are made up, as no kernel is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from sciviz.lab.claims import make_claim
from sciviz.reports import open_sweep
from sciviz.reports.collect import collect
from sciviz.reports.grid import key_of, points_of
from sciviz.reports.points import FORMAT, pack
from sciviz.reports.sweep_page import write_sweep_page


def made_up(folder: Path, grid: dict[str, list[Any]], result: Any) -> Path:
    """Write a sweep's directory; `result(point)` returns (claims, data sets), a failure's text, or None for missing."""
    (folder / "points").mkdir(parents=True)
    manifest = {"tutorial": "made_up", "notebook": "n", "package": "0.1+a", "fixed": {"profile": "quick"}, "grid": grid}
    manifest["meanings"] = {"width": "hidden units of the network; more below", "kind": "what <kind> it is"}
    (folder / "sweep.json").write_text(json.dumps(manifest))
    for point in points_of(grid):
        key, found = key_of("n", "0.1+a", {"profile": "quick", **point}), result(point)
        if found is None:
            continue
        failure = {"section": "Part 2", "source": "", "error": found, "cell": 4} if isinstance(found, str) else None
        claims, datasets = ([], {}) if failure else found
        record = {
            "format": FORMAT,
            "key": key,
            "parameters": point,
            "status": "failed" if failure else "done",
            "failure": failure,
            "claims": [claim.to_json() for claim in claims],
            "seconds": 2.0,
            "peak_memory_mb": 300.0,
        }
        (folder / "points" / f"{key}.zip").write_bytes(pack(record, datasets))
    return folder


GRID: dict[str, list[Any]] = {"width": [16, 64, 256], "kind": ["relu", 'it\'s "∑"\n../up'], "seed": [0, 1, 2, 3]}


def value(point: dict[str, Any]) -> float:
    return (1 + point["seed"]) / point["width"] + (10 if point["kind"] == "relu" else 0)


def result(point: dict[str, Any]) -> Any:
    if (point["width"], point["kind"], point["seed"]) == (64, "relu", 1):
        return "ValueError: <b>lost</b> its way"
    if (point["width"], point["kind"], point["seed"]) == (256, "relu", 3):
        return None
    here = value(point)
    says, low = "the value falls with <width>", here < 10.05
    claims = [
        make_claim("paper-key/falls", says=says, criterion="below 10.05", measured=here, holds=low, spread=0.1),
        make_claim(
            "paper-key/spread",
            says="two numbers",
            criterion="none",
            measured={"outcome": here, "end": 2 * here, "end / outcome": 2.0, "word": "no number"},
            holds=None,
            expected="undecided",
            why="it is made up",
        ),
    ]
    width = point["width"]
    data = xr.Dataset(
        {
            "loss": (("seed", "step"), np.full((2, 4), here), {"long_name": "loss", "units": "m"}),
            "steps": ((), np.int64(7)),
            "name": ("step", np.array(list("abcd"))),
            "sized": ("component", np.arange(width // 16, dtype=np.float64) + here),
        },
        {"step": ("step", [0.0, 1.0, 2.0, 3.0], {"units": "s"}), "seed": [5, 6], "component": np.arange(width // 16)},
    )
    return claims, {"run": data}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = made_up(tmp_path_factory.mktemp("sweep") / "out", GRID, result)
    collect(made)
    return made


def test_claims_are_variables_over_the_grid(folder: Path) -> None:
    with open_sweep(folder) as tree:
        root = tree.to_dataset()
        assert dict(root.sizes) == {"width": 3, "kind": 2, "seed": 4}
        assert root.kind.values.tolist() == GRID["kind"] and root.width.values.tolist() == GRID["width"]
        here = root["paper-key.falls"].sel(width=256, kind=GRID["kind"][1], seed=2)
        assert float(here) == value({"width": 256, "kind": "", "seed": 2})
        assert here.attrs["claim"] == "paper-key/falls" and here.attrs["criterion"] == "below 10.05"
        assert str(root["paper-key.falls.outcome"].sel(width=16, kind="relu", seed=3).item()) == "fails"
        assert float(root["paper-key.falls.spread"].isel(width=0, kind=0, seed=0)) == 0.1
        # A part may be called as our own variables are.
        assert {"paper-key.spread.outcome", "paper-key.spread.outcome_", "paper-key.spread.end"} <= set(root.data_vars)
        assert root["paper-key.spread.outcome"].values.ravel()[0] == "undecided"
        assert "paper-key.spread.word" not in root
        # A ratio is a variable as all others are, not a group of the store.
        assert (root["paper-key.spread.end over outcome"].isel(seed=0) == 2.0).all() and set(tree.children) == {"run"}


def test_failed_and_missing_points_are_marked(folder: Path) -> None:
    with open_sweep(folder) as tree:
        root = tree.to_dataset()
        status = root.status.to_series()
        assert status.value_counts().to_dict() == {"done": 22, "failed": 1, "missing": 1}
        assert status[64, "relu", 1] == "failed" and status[256, "relu", 3] == "missing"
        lost = {"width": 64, "kind": "relu", "seed": 1}
        assert root.error.sel(lost).item() == "cell 4, “Part 2”: ValueError: <b>lost</b> its way"
        assert np.isnan(root["paper-key.falls"].sel(lost)) and root["paper-key.falls.outcome"].sel(lost).item() == ""
        assert np.isnan(tree["run/loss"].sel(lost)).all() and np.isnan(tree["run/steps"].sel(lost))
        assert int(np.isfinite(root["paper-key.falls"]).sum()) == 22
        assert root.attrs["points"] == {"done": 22, "failed": 1, "missing": 1}


def test_data_sets_are_groups(folder: Path) -> None:
    with open_sweep(folder) as tree:
        run = tree["run"].to_dataset()
        # What a run calls seed is not the axis of that name.
        assert run.loss.dims == ("width", "kind", "seed", "seed_in_run", "step")
        assert run.seed_in_run.values.tolist() == [5, 6] and run.seed.values.tolist() == [0, 1, 2, 3]
        for point in points_of(GRID):
            if isinstance(result(point), tuple):
                assert (run.loss.sel(point) == value(point)).all()
        assert run.loss.attrs["units"] == "m" and run.step.attrs["units"] == "s"
        assert run.steps.sel(width=16, kind="relu", seed=0) == 7
        assert run.name.sel(width=16, kind="relu", seed=0).values.tolist() == list("abcd")


def test_points_of_different_sizes_are_padded(folder: Path) -> None:
    with open_sweep(folder) as tree:
        sized = tree["run/sized"]
        assert sized.sizes["component"] == 16 and "differ in size" in sized.attrs["padded"]
        small = sized.sel(width=16, kind="relu", seed=0).values
        assert small[0] == value({"width": 16, "kind": "relu", "seed": 0}) and np.isnan(small[1:]).all()
        assert np.isfinite(sized.sel(width=256, kind="relu", seed=0).values).all()
        # Along such a dimension the coordinate differs from point to point, and so is a variable of its own.
        assert tree["run/component_values"].dims == ("width", "kind", "seed", "component")


def test_plain_xarray_opens_it_and_lazily(folder: Path) -> None:
    with xr.open_zarr(folder / "results.zarr", chunks=None) as plain:
        assert "paper-key.falls" in plain and plain.status.dtype.kind == "U"
    with open_sweep(folder) as tree:
        assert not tree["run/loss"].variable._in_memory and not tree["status"].variable._in_memory


def test_a_damaged_point_is_missing(folder: Path, tmp_path: Path) -> None:
    made = made_up(tmp_path / "out", {"width": [16, 64]}, lambda point: result({**point, "kind": "", "seed": 0}))
    (made / "points" / f"{key_of('n', '0.1+a', {'profile': 'quick', 'width': 64})}.zip").write_bytes(b"PK\x03\x04")
    collect(made)
    with open_sweep(made) as tree:
        assert tree["status"].values.tolist() == ["done", "missing"]
        assert tree["run/loss"].shape == (2, 2, 4)


def test_collecting_again_replaces_and_breaks_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_up(tmp_path / "out", {"width": [16]}, lambda point: result({**point, "kind": "", "seed": 0}))
    collect(made)
    before = {path: path.read_bytes() for path in (made / "results.zarr").rglob("*") if path.is_file()}
    collect(made)
    assert before == {path: path.read_bytes() for path in (made / "results.zarr").rglob("*") if path.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sciviz.reports.collect._write_datasets", full)
    with pytest.raises(OSError, match="No space"):
        collect(made)
    assert before == {path: path.read_bytes() for path in (made / "results.zarr").rglob("*") if path.is_file()}
    assert {path.name for path in made.iterdir()} == {"points", "sweep.json", "results.zarr"}


def test_variables_that_cannot_be_one_are_told(tmp_path: Path) -> None:
    def differs(point: dict[str, Any]) -> Any:
        dims = "a" if point["width"] == 16 else "b"
        return [], {"run": xr.Dataset({"x": (dims, [1.0])})}

    made = made_up(tmp_path / "out", {"width": [16, 64]}, differs)
    with pytest.raises(ValueError, match=r"run\.x has the dimensions a at one point and b at another"):
        collect(made)


def test_no_sweep_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sweep that can be read"):
        collect(tmp_path)
    with pytest.raises(ValueError, match="holds no collected sweep"):
        open_sweep(tmp_path)


def test_all_points_failed(tmp_path: Path) -> None:
    made = made_up(tmp_path / "out", {"width": [16, 64]}, lambda point: "ValueError: no")
    collect(made)
    page = write_sweep_page(made).read_text()
    assert "2 points: 0 done, 2 failed" in page and "width = 64" in page and "Part 2" in page


# Memory


_MEASURE = """
import sys
from sciviz.lab.runtime import peak_memory_mb
from sciviz.reports.collect import collect
collect(sys.argv[1])
print(peak_memory_mb())
"""


def collected_in(folder: Path) -> float:
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(folder)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def many(folder: Path, count: int) -> Path:
    """Points with 20 claims and 40 kB of data each; most of it is shared by links, as only the names must differ."""
    claims = [
        make_claim(f"key/{i}", says="a sentence " * 10, criterion="a criterion " * 10, measured=i, holds=True)
        for i in range(20)
    ]
    data = xr.Dataset({"loss": (("run", "step"), np.random.default_rng(0).normal(size=(5, 1000)))})
    return made_up(
        folder, {"width": list(range(1, count // 100 + 1)), "seed": list(range(100))}, lambda _: (claims, {"a": data})
    )


def test_memory_does_not_grow_with_the_number_of_points(tmp_path: Path) -> None:
    small, large = (collected_in(many(tmp_path / str(count), count)) for count in (100, 1000))
    assert large < 500
    # A thousand points hold 40 MB of data; what stays of each is its claims.
    assert large - small < 120


@pytest.mark.slow
def test_memory_of_ten_thousand_points(tmp_path: Path) -> None:
    assert collected_in(many(tmp_path / "many", 10_000)) < 500


# The page


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return write_sweep_page(folder, measures=["run.loss", "run.steps", "seconds"]).read_text()


def test_page_shows_claims_axes_and_failures(page: str) -> None:
    assert "24 points: 22 done, 1 failed, 1 missing" in page
    assert "the value falls with &lt;width&gt;" in page and "holds" in page
    assert "&lt;b&gt;lost&lt;/b&gt; its way" in page and "--retry" in page
    assert "what &lt;kind&gt; it is" in page and "expected: undecided, since it is made up" in page
    assert '"text": "paper-key/falls: ' in page


def test_page_shows_the_chosen_measures(folder: Path, page: str) -> None:
    assert "loss, mean over seed_in_run, step" in page.lower()
    with pytest.raises(ValueError, match=r"measure 'run.los' is not in the store; it has run\.component_values"):
        write_sweep_page(folder, measures=["run.los"])
    # What was there before stays.
    assert (folder / "sweep.html").read_text() == page


def test_page_comes_from_the_store_alone(folder: Path, page: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "results.zarr", tmp_path / "results.zarr")
    assert write_sweep_page(tmp_path, measures=["run.loss", "run.steps", "seconds"]).read_text() == page


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.browser
def test_page_in_a_browser(folder: Path, page: str, browser: Any, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    try:
        shown, errors = context.new_page(), []
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else errors.append(request.url),
        )
        shown.goto((folder / "sweep.html").as_uri())
        shown.wait_for_selector(".figure .main-svg")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        figures = shown.locator(".figure")
        assert figures.count() == page.count('class="figure-data"') >= 10
        for place in range(figures.count()):
            assert len(figures.nth(place).get_attribute("aria-label")) > 60
        # A title that is wider than its figure is cut off; and the window may be turned while the page is open.
        cut = """() => [...document.querySelectorAll('.gtitle, .gtitle-subtitle, .xtitle')].filter(title => {
          const own = title.getBoundingClientRect(), around = title.closest('.figure').getBoundingClientRect();
          return own.right > around.right + 1 || own.left < around.left - 1;
        }).map(title => title.textContent)"""
        assert shown.evaluate(cut) == []
        lines = "document.querySelectorAll('.gtitle .line').length"
        before = shown.evaluate(lines)
        shown.set_viewport_size({"width": 1490 - width, "height": 900})
        shown.wait_for_timeout(2000)
        assert shown.evaluate(cut) == []
        assert (shown.evaluate(lines) > before) == (width == 1100) and errors == []
    finally:
        context.close()
