"""What every tutorial must be, as functions that return each problem as one sentence (no problem: an empty list).

The first part reads a notebook as it is committed, the second one as it is after a run.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat

from sciviz.lab.claims import Claim
from sciviz.reports.parameters import parse_parameters

ROOT = Path(__file__).resolve().parents[2]
CHECKED = "nbval-check-output"
PLOTLY = "application/vnd.plotly.v1+json"

# design: "A tutorial, cell by cell". Headings of the second level, in this order; others may stand between them.
ANATOMY = (
    ("Do, learn, need", r"\bdo\b.*\blearn\b.*\bneed\b"),
    ("a question to predict", r"predict|guess|before (you|anything)"),
    ("exercises", r"exercise"),
    ("where it breaks", r"where .*(break|stop|fail|end)|limit"),
    ("claims", r"claim|measured"),
    ("recap", r"recap|quiz"),
    ("what to try next", r"next"),
    ("references", r"reference"),
)
ANYWHERE = (("bring your own", r"\byour own\b"),)

_URL = re.compile(r"\b(?:https?|ftp|s3|gs)://", re.IGNORECASE)
_INSTALL = re.compile(
    r"(^|[\s!%(\"'])(pip3?|conda|mamba|uv)\b[\s\"',]+(?:-[\w-]+[\s\"',]+)*(install|add)\b|%(pip|conda)\b|!(pip|conda|uv)\b"
)
_LOADS = re.compile(
    r"\b(urllib\.request|urlopen|urlretrieve|requests\.(get|post)|hf_hub_download|torch\.hub|wget|curl)\b|\bdownload\s*=\s*True"
)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_cells(notebook: Any, tag: str | None = None) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and (tag is None or tag in tags(cell))]


def parse(cell: Any) -> ast.Module:
    """Parse a code cell, without the lines that only IPython understands."""
    lines = ["pass" if re.match(r"\s*[%!?]", line) else line for line in cell.source.splitlines()]
    return ast.parse("\n".join(lines).rstrip().removesuffix("?") + "\n")


def _strip_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_strip_notebooks", ROOT / "tools" / "strip_notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# As it is committed


def syntax(notebook: Any) -> list[str]:
    problems = []
    for cell in code_cells(notebook):
        try:
            parse(cell)
        except SyntaxError as error:
            problems.append(f"Cell {cell.id} is not Python: {error.msg} in its line {error.lineno}.")
    return problems


def checked_outputs(notebook: Any) -> list[str]:
    """Nbval compares an output that was never stored with nothing, and passes."""
    problems = []
    for cell in code_cells(notebook, CHECKED):
        if not cell.outputs:
            problems.append(f"Cell {cell.id} is tagged {CHECKED}, but stores no output: it was never run.")
        if cell.execution_count != 1:
            problems.append(
                f"Cell {cell.id} is tagged {CHECKED}, so its execution count must be 1, got {cell.execution_count}."
            )
    return problems


def stripped_outputs(notebook: Any) -> list[str]:
    wanted = _strip_tool().strip(nbformat.from_dict(notebook))
    problems = []
    for cell, bare in zip(notebook.cells, wanted.cells, strict=True):
        if cell.cell_type == "code" and (cell.outputs, cell.execution_count) != (bare.outputs, bare.execution_count):
            problems.append(f"Cell {cell.id} keeps what a run left behind: `make format` strips it.")
    return problems


def parameters_cell(notebook: Any) -> list[str]:
    cells = code_cells(notebook, "parameters")
    if len(cells) != 1:
        return [f"There must be one cell tagged parameters, found {len(cells)}."]
    try:
        parameters = parse_parameters(cells[0].source)
    except (ValueError, SyntaxError) as error:
        return [f"The parameters cell is not typed literals: {error}"]
    problems = []
    by_name = {parameter.name: parameter for parameter in parameters}
    wanted = {"seed": ("int", ()), "profile": ("str", ("quick", "full")), "device": ("str", ("auto", "cpu", "cuda"))}
    for name, (kind, choices) in wanted.items():
        if name not in by_name:
            problems.append(f"The parameters cell has no {name}.")
        elif by_name[name].type != kind or (choices and set(by_name[name].choices) != set(choices)):
            accepted = f" {{{', '.join(choices)}}}" if choices else " with a range"
            problems.append(f"Parameter {name} must be {kind}{accepted}.")
    for parameter in parameters:
        if not parameter.meaning:
            problems.append(f"Parameter {parameter.name} has no comment that says what it means.")
        if parameter.type in ("int", "float") and parameter.low is None:
            problems.append(f"Parameter {parameter.name} states no range, as in [16..8192].")
        if parameter.type == "str" and not parameter.choices:
            problems.append(f"Parameter {parameter.name} states no choices, as in {{quick, full}}.")
        try:
            parameter.read(parameter.default)
        except (ValueError, TypeError):
            problems.append(f"The default of parameter {parameter.name} is not among what it accepts.")
    return problems


def no_network(notebook: Any) -> list[str]:
    problems = []
    for cell in code_cells(notebook):
        for pattern, what in ((_URL, "an address"), (_INSTALL, "an installation"), (_LOADS, "a download")):
            if match := pattern.search(cell.source):
                line = cell.source[: match.start()].count("\n") + 1
                problems.append(f"Cell {cell.id} holds {what} in its line {line} ({match[0].strip()}).")
    return problems


def required_cells(notebook: Any) -> list[str]:
    """The cells that every tutorial has, in their order."""
    wanted = (
        ("parameters", lambda cell: "parameters" in tags(cell)),
        ("setup", lambda cell: "setup" in tags(cell) and _calls(cell, "sciviz", "start")),
        ("claims table", lambda cell: _calls(cell, "run", "claims_table")),
        ("stamp", lambda cell: _calls(cell, "run", "stamp")),
    )
    problems, before, last = [], "", -1
    for name, is_it in wanted:
        places = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code" and is_it(cell)]
        if not places:
            problems.append(f"There is no {name} cell.")
            continue
        if places[-1] < last:
            problems.append(f"The {name} cell must come after the {before} cell.")
        before, last = name, places[-1]
    for cell in code_cells(notebook, "setup"):
        values = {
            word.arg: ast.unparse(word.value)
            for call in _method_calls(cell, "sciviz", "start")
            for word in call.keywords
            if word.arg
        }
        if values and values != {name: name for name in ("seed", "profile", "device")} | {
            name: value for name, value in values.items() if name not in ("seed", "profile", "device")
        }:
            problems.append("The setup cell must start with seed=seed, profile=profile, device=device.")
    return problems


def headings(notebook: Any) -> list[tuple[int, str]]:
    """Return level and text of every heading, in order."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        fenced = False
        for line in cell.source.splitlines():
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced and (match := re.match(r"(#{1,6})\s+(.*?)\s*#*$", line)):
                found.append((len(match[1]), match[2]))
    return found


def anatomy(notebook: Any) -> list[str]:
    found = headings(notebook)
    problems = []
    titles = [text for level, text in found if level == 1]
    if len(titles) != 1 or not found or found[0][0] != 1:
        problems.append(f"A tutorial begins with its one heading of the first level, found {len(titles)}.")
    texts = [text for level, text in found if level > 1]
    start = 0
    for name, pattern in ANATOMY:
        here = [place for place, text in enumerate(texts) if re.search(pattern, text, re.IGNORECASE)]
        later = [place for place in here if place >= start]
        if not here:
            problems.append(f"There is no heading for “{name}”.")
        elif not later:
            problems.append(f"The heading for “{name}” stands too early (“{texts[here[-1]]}”).")
        else:
            start = later[0]
    for name, pattern in ANYWHERE:
        if not any(re.search(pattern, text, re.IGNORECASE) for text in texts):
            problems.append(f"There is no heading for “{name}”.")
    for (before, _), (after, text) in pairwise(found):
        if after > before + 1:
            problems.append(f"The heading “{text}” skips a level.")
    return problems


def budget(notebook: Any) -> list[str]:
    """Its budget is stated twice: for tools in the metadata, for readers at the top."""
    declared = notebook.metadata.get("sciviz", {}).get("budget", {})
    problems = []
    for name in ("seconds", "memory_mb"):
        value = declared.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            problems.append(f"metadata.sciviz.budget must give {name} as a number greater than 0, got {value!r}.")
    return problems


def budget_line(notebook: Any) -> list[str]:
    top = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            break
        top.append(cell.source)
    text = "\n".join(top)
    problems = []
    if not re.search(r"\b(seconds?|minutes?)\b|\d\s*(s|min)\b", text):
        problems.append("No line before the first code cell says how long the tutorial runs.")
    if not re.search(r"\d\s*(MB|GB)\b", text):
        problems.append("No line before the first code cell says how much memory the tutorial takes.")
    return problems


def images(notebook: Any) -> list[str]:
    problems = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for match in re.finditer(r"!\[([^\]]*)\]\(([^)]*)\)", cell.source):
            if not match[1].strip():
                problems.append(f"Cell {cell.id} shows the image {match[2]} without alt text.")
            if _URL.match(match[2].strip()):
                problems.append(f"Cell {cell.id} loads the image {match[2]} from outside.")
        for match in re.finditer(r"<img\b[^>]*>", cell.source, re.IGNORECASE):
            if not re.search(r"\balt\s*=\s*([\"'])\s*[^\"'\s]", match[0], re.IGNORECASE):
                problems.append(f"Cell {cell.id} shows an <img> without alt text.")
            if re.search(r"\bsrc\s*=\s*[\"']?\s*(https?:)?//", match[0], re.IGNORECASE):
                problems.append(f"Cell {cell.id} loads an <img> from outside.")
    return problems


def cell_ids(notebook: Any) -> list[str]:
    problems = []
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        problems.append(f"Cells have ids from nbformat 4.5 on, this is {notebook.nbformat}.{notebook.nbformat_minor}.")
    seen: set[str] = set()
    for place, cell in enumerate(notebook.cells):
        name = cell.get("id")
        if not name:
            problems.append(f"Cell number {place} has no id.")
        elif name in seen:
            problems.append(f"Two cells have the id {name}.")
        seen.add(name)
    return problems


def gpu_cells(notebook: Any) -> list[str]:
    """Papermill, Binder and a reader's Run All know no tags: the cell itself must ask for a GPU."""
    problems = []
    for cell in code_cells(notebook):
        body = parse(cell).body
        asks = bool(_method_calls(cell, "run", "gpu"))
        if "gpu" in tags(cell):
            if not (len(body) == 1 and isinstance(body[0], ast.If) and _asks_first(body[0].test)):
                problems.append(f"Cell {cell.id} is tagged gpu, so all of it must stand under `if run.gpu(…):`.")
        elif asks:
            problems.append(f"Cell {cell.id} asks run.gpu, but is not tagged gpu.")
    return problems


def _asks_first(test: ast.expr) -> bool:
    first = test.values[0] if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else test
    return isinstance(first, ast.Call) and ast.unparse(first.func) == "run.gpu"


def _method_calls(cell: Any, owner: str, method: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(parse(cell))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{owner}.{method}"
    ]


def _calls(cell: Any, owner: str, method: str) -> bool:
    return bool(_method_calls(cell, owner, method))


@dataclass(frozen=True)
class Named:
    """One place where a notebook names a claim: `how` is claim, recall or gpu (the record of a gpu cell)."""

    id: str | None
    how: str
    cell: str
    on_gpu: bool


def named_claims(notebook: Any) -> list[Named]:
    """Return every place that names a claim, in the order in which a reader meets them."""
    found = []
    for cell in code_cells(notebook):
        on_gpu = "gpu" in tags(cell)
        calls = []
        for how in ("claim", "recall", "gpu"):
            for call in _method_calls(cell, "run", how):
                word = {"gpu": "record"}.get(how, "id")
                place = 1 if how == "gpu" else 0
                given = [part.value for part in call.keywords if part.arg == word] or call.args[place : place + 1]
                if how == "gpu" and not given:
                    continue
                value = given[0].value if given and isinstance(given[0], ast.Constant) else None
                calls.append((call.lineno, call.col_offset, Named(value, how, cell.id, on_gpu)))
        found += [named for _, _, named in sorted(calls, key=lambda call: call[:2])]
    return found


def readable_claims(notebook: Any) -> list[str]:
    return [
        f"Cell {named.cell} names a claim that is not a plain text, so nobody can look it up."
        for named in named_claims(notebook)
        if named.id is None
    ]


def claim_ids(notebook: Any) -> list[str]:
    return list(dict.fromkeys(named.id for named in named_claims(notebook) if named.id))


def cited_papers(notebook: Any, papers: Collection[str]) -> list[str]:
    problems = []
    for id in claim_ids(notebook):
        if id.split("/")[0] not in papers:
            problems.append(f"Claim {id}: there is no paper {id.split('/')[0]} in course/papers.bib.")
    return problems


def recorded_claims(notebook: Any, record: Mapping[str, Any]) -> list[str]:
    """Only what needs a GPU may wait for its record."""
    pending_allowed = {named.id for named in named_claims(notebook) if named.on_gpu}
    return [
        f"Claim {id} has no record in course/claims.json: `sciviz verify` writes it."
        for id in claim_ids(notebook)
        if not record.get("claims", {}).get(id) and id not in pending_allowed
    ]


def measured_live(notebook: Any) -> list[str]:
    """In the quick profile: the claim named first, and at least half of the others."""
    places = named_claims(notebook)
    order = claim_ids(notebook)
    if not order:
        return ["No claim is measured."]
    not_live = {named.id for named in places if named.how in ("recall", "gpu") or named.on_gpu}
    live = [id for id in order if id not in not_live]
    problems = []
    if order[0] not in live:
        problems.append(f"The claim named first, {order[0]}, is not measured in the quick profile.")
    others = [id for id in order[1:] if id in live]
    if len(others) < math.ceil(len(order[1:]) / 2):
        problems.append(
            f"Of the {len(order) - 1} claims after the first, {len(others)} are measured in the quick profile: "
            "at least half must be."
        )
    return problems


def exercises(notebook: Any) -> list[str]:
    """Each exercise is cells to fill in, one that checks, and a solution folded away."""
    problems = []
    checks = 0
    waiting = ""
    for cell in notebook.cells:
        if cell.cell_type == "code" and _safe_calls(cell, "run", "exercise"):
            if "exercise" not in tags(cell):
                problems.append(f"Cell {cell.id} checks an exercise, but is not tagged exercise.")
            if waiting:
                problems.append(f"The exercise of cell {waiting} has no solution cell after it.")
            checks, waiting = checks + 1, cell.id
        elif "solution" in tags(cell):
            if cell.cell_type != "markdown" or "<details>" not in cell.source or "```python" not in cell.source:
                problems.append(f"Cell {cell.id}: a solution is Markdown, folded in <details>, with a python block.")
            waiting = ""
    if waiting:
        problems.append(f"The exercise of cell {waiting} has no solution cell after it.")
    if not checks:
        problems.append("There is no exercise.")
    return problems


def _safe_calls(cell: Any, owner: str, method: str) -> bool:
    try:
        return _calls(cell, owner, method)
    except SyntaxError:
        return False


def committed(notebook: Any, *, tutorial: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yield name and problems of every check that needs the notebook alone."""
    every = [syntax, checked_outputs, stripped_outputs, parameters_cell, no_network, budget, images, cell_ids]
    every += [gpu_cells, readable_claims]
    if tutorial:
        every += [required_cells, anatomy, budget_line, measured_live, exercises]
    for check in every:
        yield check.__name__, check(notebook)


# After a run


def outputs(notebook: Any) -> Iterator[tuple[Any, Any]]:
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            yield cell, output


def failed_cells(notebook: Any) -> list[str]:
    return [
        f"Cell {cell.id} raised {output.ename}: {output.evalue}"
        for cell, output in outputs(notebook)
        if output.output_type == "error"
    ]


def described_figures(notebook: Any) -> list[str]:
    problems = []
    for cell, output in outputs(notebook):
        figure = output.get("data", {}).get(PLOTLY)
        if figure is not None:
            meta = figure.get("layout", {}).get("meta")
            if not isinstance(meta, Mapping) or not str(meta.get("alt", "")).strip():
                problems.append(f"Cell {cell.id} shows a figure without alt text.")
        for kind in ("image/png", "image/jpeg", "image/svg+xml"):
            if kind in output.get("data", {}):
                problems.append(f"Cell {cell.id} shows a picture ({kind}), which carries no alt text.")
    return problems


def kept_budget(
    declared: Mapping[str, float], seconds: float, memory_mb: float | None, *, slowness: float = 1.0
) -> list[str]:
    """A budget is exceeded at twice what is declared; `slowness` is how much slower this machine is known to be."""
    problems = []
    if seconds > 2 * declared["seconds"] * slowness:
        problems.append(f"The run took {seconds:.0f} s, more than twice its budget of {declared['seconds']:g} s.")
    if memory_mb is not None and memory_mb > 2 * declared["memory_mb"]:
        problems.append(f"The run took {memory_mb:.0f} MB, more than twice its budget of {declared['memory_mb']:g} MB.")
    return problems


def harvested_claims(notebook: Any, claims: Collection[Claim]) -> list[str]:
    """What the source says is measured live must be what came out."""
    measured = {claim.id for claim in claims}
    places = named_claims(notebook)
    others = {named.id for named in places if named.how in ("recall", "gpu") or named.on_gpu}
    wanted = {named.id for named in places if named.id and named.id not in others}
    problems = [f"Claim {id} is named, but was not measured in this run." for id in sorted(wanted - measured)]
    unknown = measured - {named.id for named in places}
    problems += [f"Claim {id} was measured, but no cell names it." for id in sorted(unknown)]
    return problems


def stale_claims(claims: Collection[str], record: Mapping[str, Any], hash_of: Any) -> list[str]:
    """Return which records are older than the code; said, not held against the notebook."""
    problems = []
    for id in claims:
        for profile, entry in record.get("claims", {}).get(id, {}).items():
            if entry.get("wing") and entry.get("code") != hash_of(entry["wing"]):
                problems.append(f"The record of claim {id} ({profile}) is older than the code of {entry['wing']}.")
    return problems
