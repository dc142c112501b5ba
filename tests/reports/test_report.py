"""Reports: sliders on the page, a file of parameters, kernels that die, and what changed between two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import nbformat
import numpy as np
import pytest
import xarray as xr

from sciviz import cli
from sciviz.lab import theme
from sciviz.lab.frames import with_slider
from sciviz.lab.panel import Panel, Range
from sciviz.reports import Report, diff, page, report
from sciviz.reports.page import figure_html
from sciviz.reports.parameters import parameters_file
from tests.notebooks import toys
from tests.reports import light

# Sliders over frames


def draw(turns: int) -> theme.Figure:
    x = np.linspace(0, 1, 50)
    fig = theme.figure(title=f"{turns} turns", alt=f"A wave of {turns} turns.", x="Place (m)", y="Height (m)")
    theme.add_theory(fig, x, x, "line")
    return theme.add_measurement(fig, x, np.sin(turns * x), "wave", active=True)


def test_frames_hold_what_moves_and_nothing_else() -> None:
    fig = with_slider(draw, [(str(i), i) for i in range(1, 5)], label="Turns", start=3)
    assert len(fig.frames) == 4 and fig.layout.sliders[0].active == 2 and theme.alt_text(fig) == "A wave of 3 turns."
    frame = fig.frames[0]
    # The dashed line is the same in all of them.
    assert frame.traces == (1,) and len(frame.data) == 1
    np.testing.assert_allclose(frame.data[0].y, np.sin(np.linspace(0, 1, 50)), atol=1e-6)
    assert frame.layout.meta["alt"] == "A wave of 1 turns." and frame.layout.title.text == "1 turns"
    assert frame.layout.template.to_plotly_json() == {} and frame.layout.height is None


def test_many_positions_are_thinned_with_both_ends_and_the_start() -> None:
    fig = with_slider(draw, [(str(i), i) for i in range(1, 101)], label="Turns", start=42, most=9)
    labels = [step.label for step in fig.layout.sliders[0].steps]
    assert len(labels) <= 10 and {"1", "42", "100"} <= set(labels)
    assert labels[fig.layout.sliders[0].active] == "42"


def test_frames_that_cannot_be_are_told() -> None:
    with pytest.raises(ValueError, match="at least two"):
        with_slider(draw, [("1", 1)], label="Turns")
    with pytest.raises(ValueError, match="same traces"):
        with_slider(lambda n: draw(n) if n < 3 else theme.add_data(draw(n), [0], [0]), [("1", 1), ("3", 3)], label="x")


def make_panel() -> Panel:
    def compute(
        phase: Annotated[float, Range(0, 1, label="Phase")] = 0.5,
        turns: Annotated[int, Range(1, 8, label="Turns", play=True)] = 2,
        dotted: bool = False,
    ) -> int:
        return turns + 10 * round(phase)

    return Panel(compute, draw, title="Waves")


def test_a_panel_offers_the_control_that_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = make_panel()
    fig = panel.frames()
    assert fig.layout.sliders[0].currentvalue.prefix == "Turns: " and len(fig.frames) == 8
    assert panel.frames("phase").layout.sliders[0].currentvalue.prefix == "Phase: "
    for name in ("dotted", "none"):
        with pytest.raises(ValueError, match=r"a slider of this panel \(phase, turns\)"):
            panel.frames(name)


def test_a_panel_shows_frames_in_a_report_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, **_: shown.append(data))
    monkeypatch.setattr("IPython.display.display", lambda value: value._ipython_display_())
    panel = make_panel()
    panel._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown.pop()
    monkeypatch.setenv("SCIVIZ_FRAMES", "1")
    panel._ipython_display_()
    assert len(shown[0]["application/vnd.plotly.v1+json"]["frames"]) == 8 and "A wave of 2" in shown[1]["text/html"]


def test_page_with_too_many_frames_leaves_some_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fig = with_slider(draw, [(str(i), i) for i in range(1, 22)], label="Turns", start=4)
    made = figure_html(json.loads(fig.to_json()), 1)
    monkeypatch.setattr(page, "_LARGEST", len(made) // 2)
    small = page._small_enough(made)
    assert len(small) < len(made) * 0.6
    figure = json.loads(small.split('data-for="figure-1">')[1].split("</script>")[0].replace("<\\/", "</"))
    labels = [frame["label"] for frame in figure["frames"]]
    assert labels[0] == "1" and labels[-1] == "21" and "4" in labels
    assert [frame["label"] for frame in figure["frames"] if frame["start"]] == ["4"]
    assert page._small_enough(made.replace('"frames": [{', '"frames": [{')) == small


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("explored")
    notebook = toys.good()
    toys.cell(notebook, "explorer").metadata["tags"] = ["explorer", "frames"]
    return report(str(toys.write(notebook, folder / "toy.ipynb")), {"points": 5}, out=folder / "out", progress=False)


def test_report_has_the_explorers_slider_and_no_widget(explored: Report) -> None:
    assert explored.failure is None
    text = (explored.folder / "report.html").read_text()
    assert text.count("class='frames'") == 1 and "widget-view" not in text and len(text.encode()) < 8e6
    assert "widget-view" not in (explored.folder / "report.ipynb").read_text()


@pytest.mark.browser
def test_slider_moves_with_the_keyboard(explored: Report, browser: Any) -> None:
    context = browser.new_context(offline=True)
    try:
        shown, errors = context.new_page(), []
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.goto((explored.folder / "report.html").as_uri())
        shown.wait_for_selector(".figure .main-svg")
        slider = shown.locator(".frames input")
        figure = shown.locator(f"#{shown.locator('.frames').get_attribute('data-for')}")
        alt, value = figure.get_attribute("aria-label"), slider.input_value()
        drawn = figure.locator(".main-svg").first.inner_html()
        slider.focus()
        shown.keyboard.press("End")
        shown.wait_for_timeout(600)
        assert slider.input_value() == slider.get_attribute("max") != value
        assert slider.get_attribute("aria-valuetext") == shown.locator(".frames output").inner_text()
        assert figure.locator(".main-svg").first.inner_html() != drawn
        # What a screen reader says moves along.
        assert alt == "A line of slope 1.0." and figure.get_attribute("aria-label") == "A line of slope 4.0."
        shown.keyboard.press("Home")
        shown.locator(".frames button").click()
        shown.wait_for_timeout(700)
        assert int(slider.input_value()) > 0 and errors == []
    finally:
        context.close()


@pytest.mark.browser
def test_on_paper_the_numbers_are_there(explored: Report, browser: Any, tmp_path: Path) -> None:
    shown = browser.new_context(offline=True).new_page()
    try:
        shown.goto((explored.folder / "report.html").as_uri())
        shown.wait_for_selector(".figure .main-svg")
        shown.emulate_media(media="print")
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert shown.locator("details.sciviz-description table").first.is_visible()
        assert not shown.locator("details.code").first.is_visible() and not shown.locator(".frames").first.is_visible()
        shown.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not shown.locator("details.sciviz-description table").first.is_visible()
        assert len(shown.pdf()) > 20_000
    finally:
        shown.context.close()


# Parameters from a file


def test_parameters_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("points: 5\nsteep: 1e-1\nshift: true\nprofile: quick  # a word\n")
    assert parameters_file(tmp_path / "some.yaml") == {"points": 5, "steep": "1e-1", "shift": True, "profile": "quick"}
    (tmp_path / "none.yaml").write_text("")
    assert parameters_file(tmp_path / "none.yaml") == {}
    for name, text in [
        ("list", "- 1"),
        ("numbers", "1: 2"),
        ("broken", "a: [1"),
        ("code", "a: !!python/name:os.system"),
    ]:
        (tmp_path / f"{name}.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"\.yaml' ") as caught:
            parameters_file(tmp_path / f"{name}.yaml")
        assert "\n" not in str(caught.value)


def test_the_command_line_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def stop(tutorial: str, parameters: dict[str, Any], *, out: str) -> Any:
        seen.update(parameters)
        raise ValueError("far enough")

    monkeypatch.setattr("sciviz.reports.runner.report", stop)
    toy = toys.write(toys.good(), tmp_path / "toy.ipynb")
    (tmp_path / "some.yaml").write_text("points: 5\nseed: 4\nprofile: full\n")
    words = ["report", str(toy), "--params", str(tmp_path / "some.yaml"), "-p", "seed", "7", "--profile", "quick"]
    assert cli.main(words) == 2
    assert seen == {"points": 5, "seed": "7", "profile": "quick"}


# Kernels that die, and folders


def test_a_kernel_that_dies_is_told_and_leaves_what_was_done(tmp_path: Path) -> None:
    path = light.notebook(tmp_path / "light.ipynb", "claim(a=1.0)", "os.kill(os.getpid(), 9)", "print('never')")
    done = report(str(path), out=tmp_path / "out", progress=False)
    assert done.failure is not None and done.failure.section == "Part 2" and done.failure.cell == 4
    assert "was killed (SIGKILL)" in done.failure.error and [claim.id for claim in done.claims] == ["light/number"]
    run = json.loads((done.folder / "run.json").read_text())
    assert run["failed"]["cell"] == 4 and run["versions"]["sciviz"] and run["peak_memory_mb"] > 1
    assert [cell["section"] for cell in run["cells"]][-1] == "Part 2"
    assert "This run stopped in “Part 2”" in (done.folder / "report.html").read_text()
    assert cli.main(["report", "diff", str(done.folder), str(done.folder)]) == 0


def test_what_the_user_put_into_a_report_stays(tmp_path: Path) -> None:
    path = light.notebook(tmp_path / "light.ipynb", "pathlib.Path('made.txt').write_text(str(seed))\nimport helper")
    (tmp_path / "helper.py").write_text("beside = 1")
    out = tmp_path / "out"
    assert report(str(path), out=out, progress=False).failure is None
    (out / "notes.txt").write_text("mine")
    report(str(path), {"seed": 2}, out=out, progress=False)
    assert (out / "notes.txt").read_text() == "mine" and (out / "made.txt").read_text() == "2"
    assert {entry.name for entry in tmp_path.iterdir()} == {"light.ipynb", "helper.py", "out"} | (
        {"__pycache__"} if (tmp_path / "__pycache__").exists() else set()
    )


def test_results_open_with_plain_xarray(tmp_path: Path) -> None:
    path = light.notebook(
        tmp_path / "light.ipynb", "dataset('one', a=np.arange(3.0))\ndataset('two', b=np.ones((2, 2)))"
    )
    done = report(str(path), out=tmp_path / "out", progress=False)
    with xr.open_datatree(done.folder / "results.nc") as tree:
        assert tree["one/a"].values.tolist() == [0.0, 1.0, 2.0] and tree["two/b"].shape == (2, 2)
    with xr.open_dataset(done.folder / "results.nc", group="one") as one:
        assert one.a.size == 3


# What changed


def folder(path: Path, measured: float, values: Any, **run: Any) -> Path:
    from sciviz.reports.runner import write_results

    path.mkdir()
    facts = {"tutorial": "light", "parameters": {"seed": 0}, "versions": {"torch": "2.13"}, "failed": None, **run}
    (path / "run.json").write_text(json.dumps(facts))
    (path / "claims.json").write_text(json.dumps([light.claim(slope=measured)]))
    write_results({"run": xr.Dataset({"loss": ("step", values), "word": ("unit", ["a", "b"])})}, path / "results.nc")
    return path


def test_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = folder(tmp_path / "one", 1.0, [1.0, 2.0, np.nan])
    same = folder(tmp_path / "same", 1.0, [1.0, 2.0, np.nan])
    other = folder(
        tmp_path / "other", 2.0, [1.0, 2.5, 7.0], parameters={"seed": 1, "width": 2}, versions={"torch": "2.14"}
    )
    longer = folder(tmp_path / "longer", 1.0, [1.0, 2.0])
    assert diff(one, same) == [] and cli.main(["report", "diff", str(one), str(same)]) == 0
    assert cli.main(["report", "diff", str(one), str(other)]) == 1
    said = capsys.readouterr().out
    assert "seed: 0 → 1" in said and "width: none → 2" in said and "torch: 2.13 → 2.14" in said
    assert "light/number: still holds; measured slope 1 → slope 2" in said
    assert "run.loss: nan → 7 at step 2; 2 of 3 differ" in said and "word" not in said
    assert diff(one, longer) == ["Data:", "  run.loss: step 3 → step 2"]
    assert "only in the first" in "\n".join(diff(other, folder_without_claims(tmp_path)))
    assert cli.main(["report", "diff", str(one), str(tmp_path)]) == 2
    assert "holds no report that can be read" in capsys.readouterr().err


def folder_without_claims(tmp_path: Path) -> Path:
    made = folder(tmp_path / "bare", 1.0, [1.0])
    (made / "claims.json").write_text("[]")
    return made


def test_every_notebook_of_a_report_is_valid(explored: Report) -> None:
    nbformat.validate(nbformat.read(explored.folder / "report.ipynb", as_version=4))
