"""The lint catches each kind of mistake, and finds none in the good toy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nbformat
import pytest

from sciviz.lab.claims import make_claim
from tests.notebooks import lint, toys


def _source(id: str, old: str, new: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        cell = toys.cell(notebook, id)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def _append(id: str, text: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        toys.cell(notebook, id).source += text

    return change


def _without(id: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        notebook.cells.remove(toys.cell(notebook, id))

    return change


def _tags(id: str, *tags: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        toys.cell(notebook, id).metadata["tags"] = list(tags)

    return change


def _set(id: str, /, **values: Any) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        toys.cell(notebook, id).update(values)

    return change


def _move_last(id: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        cell = toys.cell(notebook, id)
        notebook.cells.remove(cell)
        notebook.cells.append(cell)

    return change


def _metadata(**values: Any) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        notebook.metadata["sciviz"] = nbformat.from_dict(values)

    return change


def _raise_output(id: str) -> Callable[[Any], None]:
    return _set(id, outputs=[nbformat.v4.new_output("stream", name="stdout", text="left behind")])


BROKEN = {
    "not python": (lint.syntax, _append("line", "\nif:"), "cell line is not python"),
    "checked but never run": (lint.checked_outputs, _set("check", outputs=[]), "never run"),
    "checked with another count": (lint.checked_outputs, _set("check", execution_count=7), "must be 1, got 7"),
    "outputs kept": (lint.stripped_outputs, _raise_output("line"), "cell line keeps"),
    "count kept": (lint.stripped_outputs, _set("line", execution_count=3), "cell line keeps"),
    "no parameters": (lint.parameters_cell, _without("parameters"), "found 0"),
    "two parameter cells": (lint.parameters_cell, _tags("line", "parameters"), "found 2"),
    "parameter computed": (
        lint.parameters_cell,
        _append("parameters", "\nhalf: int = 9 // 2  # half [0..9]"),
        "computes",
    ),
    "parameter untyped": (lint.parameters_cell, _append("parameters", "\nhalf = 4  # half [0..9]"), "something else"),
    "parameter imports": (lint.parameters_cell, _append("parameters", "\nimport os"), "something else"),
    "no seed": (lint.parameters_cell, _source("parameters", "seed:", "seeds:"), "has no seed"),
    "profile with other choices": (
        lint.parameters_cell,
        _source("parameters", "{quick, full}", "{quick}"),
        "profile must",
    ),
    "no device": (lint.parameters_cell, _source("parameters", "device:", "machine:"), "has no device"),
    "parameter without range": (lint.parameters_cell, _source("parameters", " [2..100]", ""), "points states no range"),
    "parameter without choices": (
        lint.parameters_cell,
        _append("parameters", '\nname: str = "a"  # a name'),
        "name states no choices",
    ),
    "parameter without meaning": (
        lint.parameters_cell,
        _source("parameters", "points on the line ", ""),
        "points has no comment",
    ),
    "default out of range": (
        lint.parameters_cell,
        _source("parameters", "= 9 ", "= 900 "),
        "default of parameter points",
    ),
    "address in code": (lint.no_network, _append("line", "\nsource = 'https://example.org/a.csv'"), "an address"),
    "pip magic": (lint.no_network, _append("line", "\n%pip install x"), "an installation"),
    "pip in a shell": (lint.no_network, _append("line", "\n!pip install x"), "an installation"),
    "pip as a module": (
        lint.no_network,
        _append("line", "\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])"),
        "an installation",
    ),
    "a download": (lint.no_network, _append("line", "\nMNIST('.', download=True)"), "a download"),
    "no setup": (lint.required_cells, _without("setup"), "no setup cell"),
    "setup that ignores its parameters": (lint.required_cells, _source("setup", "seed=seed", "seed=0"), "seed=seed"),
    "no stamp": (lint.required_cells, _without("stamp"), "no stamp cell"),
    "no claims table": (lint.required_cells, _without("claims-table"), "no claims table cell"),
    "setup at the end": (lint.required_cells, _move_last("setup"), "must come after"),
    "no title": (lint.anatomy, _without("title"), "first level"),
    "two titles": (lint.anatomy, _append("idea", "\n\n# Again"), "found 2"),
    **{
        f"no {id}": (lint.anatomy, _without(id), "no heading for")
        for id in ("need", "predict", "exercises", "breaks", "own", "claims", "recap", "next", "references")
    },
    "heading out of order": (lint.anatomy, _move_last("predict"), "too early"),
    "a level skipped": (lint.anatomy, _append("idea", "\n\n#### Deep"), "skips a level"),
    "no budget": (lint.budget, _metadata(), "must give seconds"),
    "budget of words": (lint.budget, _metadata(budget={"seconds": "9", "memory_mb": 1}), "must give seconds"),
    "budget not told: time": (lint.budget_line, _source("title", "20 s and", ""), "how long"),
    "budget not told: memory": (lint.budget_line, _source("title", "and 700 MB", ""), "how much memory"),
    "image without alt text": (lint.images, _source("breaks", "A curve", ""), "without alt text"),
    "img without alt text": (lint.images, _append("breaks", '<img src="a.png" alt="">'), "without alt text"),
    "image from outside": (lint.images, _source("breaks", "(curve.png)", "(https://example.org/c.png)"), "outside"),
    "img from outside": (lint.images, _append("breaks", '<img alt="a" src="//example.org/a.png">'), "outside"),
    "an id twice": (lint.cell_ids, _set("line", id="check"), "two cells"),
    "an id missing": (lint.cell_ids, lambda notebook: toys.cell(notebook, "line").pop("id"), "has no id"),
    "an old format": (lint.cell_ids, lambda notebook: notebook.update(nbformat_minor=4), "4.4"),
    "gpu cell unguarded": (lint.gpu_cells, _append("large", "\nprint('anyway')"), "under `if run.gpu"),
    "gpu cell guarded by another": (lint.gpu_cells, _source("large", "run.gpu(", "print("), "under `if run.gpu"),
    "gpu guard without tag": (lint.gpu_cells, _tags("large"), "not tagged gpu"),
    "claim id computed": (lint.readable_claims, _source("claims-live", '"toy-line/slope"', "name"), "plain text"),
    "first claim recalled": (
        lint.measured_live,
        _source("claims-live", "slope = float", "run.recall('toy-line/slope')\nslope = float"),
        "named first, toy-line/slope",
    ),
    "too few claims live": (
        lint.measured_live,
        _append("claims-dear", "\nrun.recall('toy-line/end')"),
        "1 are measured",
    ),
    "no claim": (
        lint.measured_live,
        lambda notebook: [_without(id)(notebook) for id in ("claims-live", "claims-dear", "large")],
        "no claim",
    ),
    "exercise untagged": (lint.exercises, _tags("exercise-1-check"), "not tagged exercise"),
    "no solution": (lint.exercises, _without("exercise-1-solution"), "no solution"),
    "solution open": (lint.exercises, _source("exercise-1-solution", "<details>", ""), "folded"),
    "no exercise": (
        lint.exercises,
        lambda notebook: [_without(f"exercise-1{part}")(notebook) for part in ("", "-check", "-solution")],
        "no exercise",
    ),
}


def test_good_notebook_has_no_problem() -> None:
    assert {name: problems for name, problems in lint.committed(toys.good()) if problems} == {}
    assert lint.cited_papers(toys.good(), toys.PAPERS) == []
    assert lint.recorded_claims(toys.good(), toys.RECORD) == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken_notebook_is_caught(name: str) -> None:
    check, change, words = BROKEN[name]
    problems = check(toys.broken(change))
    assert words.lower() in " ".join(problems).lower()


def test_each_check_is_broken_once() -> None:
    tried = {check.__name__ for check, _, _ in BROKEN.values()}
    assert tried == {name for name, _ in lint.committed(toys.good())}


def test_harmless_code_is_not_flagged() -> None:
    calm = toys.broken(_append("line", "\npipeline = 'pip is a seed'  # add it to the pipe\nrequests = 3"))
    assert lint.no_network(calm) == []


def test_claims_are_read_in_order() -> None:
    named = lint.named_claims(toys.good())
    assert [(claim.id, claim.how, claim.on_gpu) for claim in named] == [
        ("toy-line/slope", "claim", False),
        ("toy-line/end", "claim", False),
        ("toy-line/middle", "claim", False),
        ("toy-line/dear", "claim", False),
        ("toy-line/dear", "recall", False),
        ("toy-line/large", "gpu", True),
        ("toy-line/large", "claim", True),
    ]


def test_paper_that_is_not_cited() -> None:
    assert lint.cited_papers(toys.good(), {"other"}) != []


def test_claim_without_record() -> None:
    problems = lint.recorded_claims(toys.good(), {"claims": {"toy-line/slope": {"quick": {}}}})
    assert [problem.split()[1] for problem in problems] == ["toy-line/end", "toy-line/middle", "toy-line/dear"]


def test_record_older_than_the_code() -> None:
    record = {
        "claims": {"toy-line/slope": {"quick": {"wing": "toy", "code": "old"}, "full": {"wing": "toy", "code": "new"}}}
    }
    problems = lint.stale_claims(["toy-line/slope", "toy-line/none"], record, lambda wing: "new")
    assert len(problems) == 1 and "(quick)" in problems[0]


# After a run


def _run(*outputs: Any) -> Any:
    notebook = toys.good()
    toys.cell(notebook, "figure").outputs = list(outputs)
    return notebook


def _figure(layout: dict[str, Any]) -> Any:
    return nbformat.v4.new_output("display_data", data={lint.PLOTLY: {"data": [], "layout": layout}})


def test_failed_cell() -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert lint.failed_cells(_run(error)) == ["Cell figure raised ValueError: no"]
    assert lint.failed_cells(_run()) == []


@pytest.mark.parametrize("layout", [{}, {"meta": {}}, {"meta": {"alt": "  "}}, {"meta": "alt"}])
def test_figure_without_alt_text(layout: dict[str, Any]) -> None:
    assert "figure shows a figure without alt text" in " ".join(lint.described_figures(_run(_figure(layout))))
    assert lint.described_figures(_run(_figure({"meta": {"alt": "A line."}}))) == []


def test_picture_cannot_carry_alt_text() -> None:
    picture = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    assert "carries no alt text" in " ".join(lint.described_figures(_run(picture)))


def test_budget_exceeded() -> None:
    declared = {"seconds": 10, "memory_mb": 100}
    assert lint.kept_budget(declared, 20, 200) == []
    assert "21 s" in lint.kept_budget(declared, 21, 200)[0]
    assert "201 MB" in lint.kept_budget(declared, 20, 201)[0]
    assert lint.kept_budget(declared, 39, None, slowness=2) == []


def test_claims_measured_and_named_must_agree() -> None:
    def claim(id: str) -> Any:
        return make_claim(id, says="s", criterion="c", measured=1.0, holds=True)

    both = [claim("toy-line/slope"), claim("toy-line/middle"), claim("toy-line/end")]
    assert lint.harvested_claims(toys.good(), both) == []
    assert "toy-line/end is named" in lint.harvested_claims(toys.good(), both[:2])[0]
    assert "no cell names it" in lint.harvested_claims(toys.good(), [*both, claim("toy-line/new")])[0]
