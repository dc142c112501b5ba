"""Explorers of the Kolmogorov-Arnold wing: what each action does to the network, and what the panels show of it."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from sciviz.kan import explorer
from sciviz.kan.explorer import (
    EdgeEditor,
    explore_graph,
    explore_scaling,
    explore_splines,
    formula_text,
    scaling_points,
    sparse_network,
)
from sciviz.kan.networks import KAN
from sciviz.kan.symbolic import LIBRARY, FormulaEdge, Suggestion
from sciviz.kan.training import rmse, train
from tests.notebooks.explorers import drawing_problems, drive


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIVIZ_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def small(seed: int = 0) -> tuple[KAN, torch.Tensor, torch.Tensor]:
    X = 2 * torch.rand(60, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    y = X[:, :1] ** 2 + X[:, 1:]
    model = KAN([2, 2, 1], seed=seed, num_cells=3, dtype=torch.float64)
    train(model, X, y, num_steps=5)
    return model, X, y


@pytest.fixture
def editor() -> EdgeEditor:
    return EdgeEditor(*small())


class TestEdgeEditor:
    def test_the_network_given_is_not_changed(self) -> None:
        model, X, y = small()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        editor = EdgeEditor(model, X, y)
        editor.prune(0)
        editor.fix(1, "sin")
        editor.refit()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert model[0].mask is None and not model[0].fixed

    def test_error_is_that_of_the_present_network(self, editor: EdgeEditor) -> None:
        for act in (lambda: editor.prune(2), lambda: editor.fix(0, "x^2"), editor.refit, editor.undo, editor.restart):
            act()
            assert editor.error == pytest.approx(float(rmse(editor.model, editor.X, editor.y)), rel=1e-12)

    def test_pruning_takes_one_edge_from_the_sum(self, editor: EdgeEditor) -> None:
        layer, i, o = editor.edges[4]
        assert layer == 1
        _, values = editor.curves[4]
        with torch.no_grad():
            before = editor.model(editor.X)
        order = editor.model.activations(editor.X)[1][:, i].argsort()
        editor.prune(4)
        with torch.no_grad():
            gone = (before - editor.model(editor.X))[order, o]
        assert torch.allclose(gone, values, atol=1e-12)
        assert editor.state(4) == "pruned" and float(editor.curves[4][1].abs().max()) == 0
        editor.prune(4)
        assert "already" in editor.message

    def test_undo_goes_back_step_by_step(self, editor: EdgeEditor) -> None:
        seen = [(editor.error, editor.text)]
        for act in (lambda: editor.prune(1), lambda: editor.fix(0, "exp"), editor.refit, editor.prune_weak):
            before = editor.error
            act()
            if editor.message.startswith("No edge"):
                continue
            seen.append((editor.error, editor.text))
            assert f"{before:#.3g}" in editor.message and f"{editor.error:#.3g}" in editor.message
        for expected in seen[-2::-1]:
            editor.undo()
            assert (editor.error, editor.text) == expected
        editor.undo()
        assert editor.message == "Nothing to undo."

    def test_restart_forgets(self, editor: EdgeEditor) -> None:
        error = editor.error
        editor.prune(0)
        editor.restart()
        assert editor.error == error and editor.state(0) == "learnt"
        editor.undo()
        assert editor.message == "Nothing to undo."

    def test_weak_edges_are_those_below_the_threshold(self, editor: EdgeEditor) -> None:
        threshold = sorted(editor.score)[2] + 1e-9
        weak = {n for n, score in enumerate(editor.score) if score < threshold}
        editor.prune_weak(threshold)
        assert {n for n in range(len(editor.edges)) if editor.state(n) == "pruned"} == weak and len(weak) == 3

    def test_refit_never_makes_it_worse(self) -> None:
        for seed in range(3):
            editor = EdgeEditor(*small(seed))
            editor.prune(seed)
            for _ in range(3):
                before = editor.error
                editor.refit(3)
                assert editor.error <= before

    def test_suggestions_are_ranked_and_fit(self, editor: EdgeEditor) -> None:
        found = editor.suggestions(0)
        assert {one.name for one in found} == set(LIBRARY)
        assert [one.rank for one in found] == sorted(one.rank for one in found)
        x, y = editor.curves[0]
        best = found[0]
        drawn = best.c * LIBRARY[best.name].function(best.a * x + best.b) + best.d
        r2 = 1 - float((drawn - y).square().sum() / (y - y.mean()).square().sum())
        assert r2 == pytest.approx(best.r2, abs=0.02)

    def test_a_pruned_edge_is_not_fixed(self, editor: EdgeEditor) -> None:
        editor.prune(0)
        editor.fix(0, "sin")
        assert editor.state(0) == "pruned" and "pruned" in editor.message

    def test_everything_pruned_is_a_network_too(self, editor: EdgeEditor) -> None:
        for n in range(len(editor.edges)):
            editor.prune(n)
        editor.refit()
        assert editor.text.endswith("= 0") and np.isfinite(editor.error)
        assert all(edge["state"] == "pruned" for edge in editor.drawing()["edges"])

    def test_drawing_is_plain_and_within_its_box(self, editor: EdgeEditor) -> None:
        editor.fix(3, "abs")
        drawing = editor.drawing()
        points = np.array([edge["curve"] for edge in drawing["edges"]])
        assert points.shape == (6, 32, 2) and points.min() >= 0 and points.max() <= 1
        # The tallest curve of each layer fills its box.
        heights = np.ptp(points[:, :, 1], axis=1)
        for layer in (0, 1):
            rows = [n for n, edge in enumerate(drawing["edges"]) if edge["layer"] == layer]
            assert heights[rows].max() > 0.85
        assert drawing["edges"][3]["label"].startswith("Edge 4, from x2 to h2: fixed to abs, score ")

    def test_single_precision_and_names(self) -> None:
        model, X, y = small()
        editor = EdgeEditor(model.float(), X.numpy(), y.numpy(), inputs=["u", "v"])
        editor.fix(0, editor.suggestions(0)[0].name)
        editor.refit()
        assert editor.ends(0) == ("u", "h1") and editor.text.startswith("f(u, v) = ")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": KAN([2, 2, 1], seed=0, members=2)}, "ensemble of 2"),
            ({"model": KAN([8, 8, 1], seed=0)}, "at most 60 edges"),
            ({"X": torch.zeros(60, 3)}, "X must have shape"),
            ({"y": torch.zeros(59, 1)}, "y must have shape"),
            ({"X": torch.zeros(5, 2), "y": torch.zeros(5, 1)}, "at least 10"),
            ({"y": torch.full((60, 1), torch.nan)}, "finite"),
            ({"inputs": ["x"]}, "must name 2"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change: dict[str, Any], message: str) -> None:
        model, X, y = small()
        given: dict[str, Any] = {"model": model, "X": X, "y": y, **change}
        with pytest.raises(ValueError, match=message):
            EdgeEditor(given.pop("model"), given.pop("X"), given.pop("y"), **given)


class TestFormulaText:
    def test_learnt_edges_keep_their_numbers(self) -> None:
        text = formula_text(KAN([2, 2, 1], seed=0), [["x", "y"], ["h1", "h2"], ["f"]])
        assert text == "f(x, y) = φ5(φ1(x) + φ3(y)) + φ6(φ2(x) + φ4(y))"

    def test_fixed_network_is_its_formula(self) -> None:
        model, X, y = small()
        editor = EdgeEditor(model, X, y, inputs=["x", "y"])
        for n in range(6):
            editor.fix(n, "x^2" if n % 2 else "sin")
        value = sympy.lambdify(["x", "y"], sympy.sympify(editor.text.split(" = ")[1]), "numpy")(*X.numpy().T)
        with torch.no_grad():
            expected = editor.model(X)[:, 0].numpy()
        assert np.abs(value - expected).max() <= 0.006 * np.ptp(expected)

    def test_several_outputs_and_long_lines(self) -> None:
        text = formula_text(KAN([3, 4, 2], seed=0), [["a", "b", "c"], list("hijk"), ["f1", "f2"]], longest=30)
        lines = text.split("\n")
        assert len(lines) == 2 and lines[0].startswith("f1(a, b, c) = φ13(") and lines[1].endswith("…")

    def test_no_factors_that_cancel(self) -> None:
        model = KAN([1, 1, 1], seed=0, dtype=torch.float64)
        inner, outer = Suggestion("gaussian", 0.2, 0, -33.0, 33.0, 1, 3), Suggestion("exp", 1.3, 0, 0.5, 0, 1, 2)
        for layer, one in enumerate([inner, outer]):
            model[layer].switch_off(0, 0)
            model[layer].fixed["0_0"] = FormulaEdge(one, torch.float64)
        text = formula_text(model, [["x"], ["h"], ["f"]])
        assert not re.search(r"\d{7}", text), text
        value = float(sympy.sympify(text.split(" = ")[1]).subs("x", 0.7))
        assert value == pytest.approx(model(torch.tensor([[0.7]], dtype=torch.float64)).item(), rel=0.05)


class TestGraphPanel:
    def test_default_network_leads_to_the_formula(self) -> None:
        """The way that the hint describes, by the buttons alone."""
        panel = explore_graph()
        assert drive(panel) == []
        buttons, editor = panel.buttons, panel.editor
        assert editor.model.widths == [2, 5, 1] and editor.error < 0.5
        first = editor.text
        buttons["weak"].click()
        buttons["refit"].click()
        assert editor.text != first and editor.error < 0.05
        left = [n for n in range(15) if editor.state(n) == "learnt"]
        assert len(left) == 3
        for n in left:
            panel.set(edge=n)
            assert panel.form.label.endswith("(suggested)")
            buttons["fix"].click()
            buttons["refit"].click()
            assert f"Error on these data (RMSE): {editor.error:#.3g}" in panel._readout.value
        assert editor.text == "f(x, y) = exp(y**2)*exp(sin(pi*x))"
        assert editor.text in panel._readout.value and editor.error < 1e-8
        buttons["restart"].click()
        assert editor.text == first and drawing_problems(panel) == []

    def test_network_is_kept_between_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = sparse_network(seed=0)[0]

        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(explorer.formulas, "train_sparse", never)
        again, X, _ = sparse_network(seed=0)
        assert torch.equal(model(X), again(X))

    def test_selection_in_graph_and_in_list_are_one(self) -> None:
        model, X, y = small()
        panel = explore_graph(model, X=X, y=y)
        panel.view.selected = 3
        panel.flush()
        assert panel.edge.value == 3 and "Edge 4, " in panel.figure.layout.title.text
        panel.set(edge=5)
        assert panel.view.selected == 5 and "Edge 6, " in panel.figure.layout.title.text
        assert panel.form.value == panel.editor.suggestions(5)[0].name

    def test_choosing_a_form_draws_it(self) -> None:
        model, X, y = small()
        panel = explore_graph(model, X=X, y=y)
        panel.set(edge=0, form="tanh")
        assert panel.figure.data[1].name == "tanh" and "tanh fits with R² 0." in panel.figure.layout.title.text
        panel.buttons["fix"].click()
        panel.flush()
        assert panel.editor.form(0) == "tanh"
        assert panel.view.graph["edges"][0]["form"] == "tanh"
        assert "fixed to tanh" in panel._status.value
        panel.buttons["undo"].click()
        assert panel.view.graph["edges"][0]["state"] == "learnt"

    @pytest.mark.parametrize("seed", range(3))
    def test_survives_whatever_is_pressed(self, seed: int) -> None:
        model, X, y = small(seed)
        panel = explore_graph(model, X=X, y=y)
        chance = random.Random(seed)
        for _ in range(25):
            panel.set(edge=chance.randrange(6))
            panel.set(form=chance.choice(list(LIBRARY)))
            panel.buttons[chance.choice(["fix", "fix", "prune", "weak", "refit", "undo", "restart"])].click()
            assert drawing_problems(panel) == []
            values = np.array([edge["curve"] for edge in panel.view.graph["edges"]])
            assert np.isfinite(values).all()

    def test_an_action_that_fails_is_shown_and_over_with(self, lenient: None, monkeypatch: pytest.MonkeyPatch) -> None:
        model, X, y = small()
        panel = explore_graph(model, X=X, y=y)

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("no way <forward>")

        with monkeypatch.context() as patch:
            patch.setattr(explorer, "train", fail)
            panel.buttons["refit"].click()
        assert "no way &lt;forward&gt;" in panel._status.value and "role='alert'" in panel._status.value
        panel.buttons["refit"].click()
        assert panel.last_error is None and "Refitted" in panel._status.value

    def test_data_and_network_come_together(self) -> None:
        model, X, y = small()
        with pytest.raises(ValueError, match="must be given with a network"):
            explore_graph(model)
        with pytest.raises(ValueError, match="network of your own"):
            explore_graph(X=X, y=y)

    def test_script_asks_nothing_of_the_network_outside(self) -> None:
        script = Path(explorer.__file__).with_name("graph.js").read_text()
        assert set(re.findall(r"https?://[^\"'\s]+", script)) == {"http://www.w3.org/2000/svg"}
        assert "import " not in script.replace("export", "")


class TestSplines:
    def test_survives_all_its_controls(self) -> None:
        assert drive(explore_splines(seed=1)) == []

    def test_bases_sum_to_the_spline(self) -> None:
        panel = explore_splines()
        panel.set(num_cells=6, order=2, noise=0.2)
        traces = {trace.name: trace for trace in panel.figure.data}
        x, y = np.array(traces["bases"].x), np.array(traces["bases"].y)
        fit = dict(zip(traces["spline"].x, traces["spline"].y, strict=True))
        total = dict.fromkeys(fit, 0.0)
        for place, value in zip(x[np.isfinite(x)], y[np.isfinite(x)], strict=True):
            total[place] += value
        assert all(total[place] == pytest.approx(fit[place], abs=1e-9) for place in fit)

    def test_error_falls_with_cells_and_rises_with_too_many_in_noise(self) -> None:
        panel = explore_splines()

        def error(**values: Any) -> float:
            panel.set(**values)
            return float(re.search(r"error ([\d.e+-]+)", panel.figure.layout.title.text).group(1))  # type: ignore[union-attr]

        assert error(num_cells=20, order=3, noise=0.0) < 0.05 * error(num_cells=5)
        assert error(num_cells=40, noise=0.4) > 1.3 * error(num_cells=12)

    def test_marked_basis_lies_in_its_support(self) -> None:
        panel = explore_splines()
        for basis in (1, 4, 45):
            panel.set(num_cells=10, order=3, basis=basis)
            marked = next(trace for trace in panel.figure.data if trace.name == "marked basis")
            low, high = panel.figure.layout.shapes[0].x0, panel.figure.layout.shapes[0].x1
            assert low - 1e-9 <= min(marked.x) and max(marked.x) <= high + 1e-9
            assert high - low <= 4 * 0.2 + 1e-9

    def test_a_curve_of_your_own(self) -> None:
        panel = explore_splines(function=torch.cos)
        assert panel.values["curve"] == "your own" and drawing_problems(panel) == []
        with pytest.raises(ValueError, match="finite numbers of shape"):
            explore_splines(function=lambda x: 1 / (x - x))


class TestScaling:
    def test_survives_all_its_controls(self) -> None:
        panel = explore_scaling()
        assert drive(panel) == []
        assert panel.trainer.value == 0

    def test_points_slope_and_bar(self) -> None:
        panel = explore_scaling()
        panel.trainer.train.click()
        points = [trace for trace in panel.figure.data if trace.name in ("KAN", "MLP")]
        assert [len(trace.x) for trace in points] == [5, 5]
        assert panel.trainer.bar.value == panel.trainer.bar.max
        kan, mlp = (np.array(trace.y) for trace in points)
        assert (np.diff(kan) < 0).all() and kan[-1] < 0.01 * mlp[-1]
        # Perceptrons have at least as many parameters.
        assert all(m >= k for k, m in zip(points[0].x, points[1].x, strict=True))
        theory = next(trace for trace in panel.figure.data if trace.line.dash == "dash")
        slope = np.diff(np.log(np.array(theory.y))) / np.diff(np.log(np.array(theory.x)))
        assert slope == pytest.approx(-4) and "theory −4" in panel.figure.layout.title.text
        # What is trained is kept for its own setting.
        panel.set(order=2)
        assert not [trace for trace in panel.figure.data if trace.name in ("KAN", "MLP")]
        panel.set(order=3)
        assert [len(trace.x) for trace in panel.figure.data if trace.name in ("KAN", "MLP")] == [5, 5]
        assert drawing_problems(panel) == []

    def test_stopped_in_the_background(self) -> None:
        async def go() -> tuple[int, str, bool]:
            panel = explore_scaling(seed=1)
            trainer = panel.trainer
            trainer.train.click()
            task, turns = trainer.task, 0
            trainer.train.click()
            assert trainer.task is task, "a second press begins nothing"
            while trainer.busy:
                await asyncio.sleep(0.01)
                turns += 1
                if trainer.value == 2:
                    trainer.stop.click()
            await asyncio.sleep(0.05)
            shown = sum(len(trace.x) for trace in panel.figure.data if trace.name in ("KAN", "MLP"))
            return shown, trainer.said.value, turns > 3

        shown, said, answered = asyncio.run(go())
        assert shown == 2 and said.startswith("Stopped") and answered

    def test_another_setting_stops_the_run(self) -> None:
        async def go() -> tuple[int, int]:
            panel = explore_scaling(seed=1)
            panel.trainer.train.click()
            while panel.trainer.value < 1:
                await asyncio.sleep(0.01)
            first = panel.trainer.task
            panel.set(order=1)
            assert not panel.trainer.busy and panel.trainer.bar.value == 0
            known = panel.trainer.value
            panel.trainer.train.click()
            await asyncio.wait_for(first, 20)
            while panel.trainer.value == known:
                await asyncio.sleep(0.01)
            panel.trainer.stop.click()
            await asyncio.wait_for(panel.trainer.task, 20)
            panel.flush()
            return known, sum(len(trace.x) for trace in panel.figure.data if trace.name in ("KAN", "MLP"))

        known, shown = asyncio.run(go())
        assert known < 10 and 1 <= shown < 10

    def test_a_training_that_fails_is_shown(self, lenient: None) -> None:
        def broken(X: torch.Tensor) -> torch.Tensor:
            if len(X) > 50:
                raise RuntimeError("no such function")
            return X[:, :1]

        panel = explore_scaling(target=broken)
        panel.trainer.train.click()
        assert "no such function" in panel._status.value and panel.trainer.said.value == "The training failed."
        panel.set(target="exp(sin πx + y²)")
        assert panel.last_error is None

    def test_target_of_your_own_is_checked(self) -> None:
        with pytest.raises(ValueError, match=r"shape \(num, 1\)"):
            explore_scaling(target=lambda X: X)

    def test_points_are_those_of_the_seed(self) -> None:
        first, again, other = (next(scaling_points(explorer.scaling.exp_sin, order=2, seed=seed)) for seed in (0, 0, 1))
        assert np.array_equal(first.errors, again.errors) and not np.array_equal(first.errors, other.errors)
