"""Claims: what a paper says, the criterion it is held to, and what was measured here.

A claim travels through a notebook as a MIME bundle in its cell's output, so any executed notebook, by whatever
tool it was run, can be harvested (`harvest_claims`). The committed record of claims is `course/claims.json`.
"""

from __future__ import annotations

import ast
import hashlib
import html
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sciviz.lab.checks import check_choice
from sciviz.lab.places import course_dir

CLAIM_MIME = "application/vnd.sciviz.claim+json"
OUTCOMES = ("holds", "fails", "undecided")
_MARK = {"holds": "✓", "fails": "✗", "undecided": "?"}


class ClaimError(AssertionError):
    """A claim's outcome differs from what is expected of it (raised in strict mode only)."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and what came of measuring it.

    Attributes
    ----------
    id
        The paper's key in `course/papers.bib`, a slash, and the part.
    says
        The statement, in one sentence.
    criterion
        What the measurement must satisfy, written before it was looked at.
    measured
        A number, or several by name; None if nothing is recorded yet.
    spread
        The measurement's spread, in words or as a number.
    seeds
        How many seeds it rests on.
    outcome
        "holds", "fails" or "undecided".
    expected
        What the course expects the outcome to be.
    why
        Why it does not hold, where that is expected.
    source
        "live" if measured in this run, "record" if taken from the committed record.
    profile, device
        Where it was measured.
    """

    id: str
    says: str
    criterion: str
    measured: Any
    outcome: str
    expected: str = "holds"
    why: str = ""
    spread: Any = None
    seeds: int | None = None
    source: str = "live"
    profile: str = "quick"
    device: str = "cpu"

    @property
    def surprising(self) -> bool:
        """Whether the outcome differs from the expected one, in either direction."""
        return self.outcome != self.expected

    def value_text(self) -> str:
        """Return the measurement as a person reads it, with the digits that its spread supports."""
        return format_value(self.measured, self.spread)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {CLAIM_MIME: self.to_json(), "text/html": self._html(), "text/plain": self._text()}

    def to_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON; infinities and NaN, which JSON lacks, become words."""
        data: dict[str, Any] = _map_floats(asdict(self), lambda x: x if math.isfinite(x) else f"float:{x}")
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Claim:
        """Rebuild a claim from `to_json`."""
        return cls(**{name: _read_floats(value) for name, value in data.items()})

    def _text(self) -> str:
        verdict = f"{self.outcome}{' (unexpected)' if self.surprising else ''}"
        return f"{_MARK[self.outcome]} {self.id}: {verdict}; measured {self.value_text()}; criterion: {self.criterion}"

    def _html(self) -> str:
        tone = _tone(self)
        note = f"<div style='{_SMALL}'>Why: {html.escape(self.why)}</div>" if self.why else ""
        live = "" if self.source == "live" else " · from the committed record, not measured in this run"
        # Experiments on single random numbers draw hundreds of thousands; those are not runs.
        seeds = f" · {self.seeds:,} {'seeds' if self.seeds < 1000 else 'random draws'}" if self.seeds else ""
        return (
            f"<div role='group' aria-label='Claim {html.escape(self.id)}' "
            f"style='{_CARD};border-left:5px solid {tone}'>"
            f"<div><strong style='color:{tone}'>{_MARK[self.outcome]} {_verdict(self)}</strong> "
            f"<span style='{_SMALL}'>claim <code style='{_CODE}'>{html.escape(self.id)}</code>"
            f"{seeds}{live}</span></div>"
            f"<div style='margin:4px 0'>{html.escape(self.says)}</div>"
            f"<div style='{_SMALL}'>Measured <strong>{html.escape(self.value_text())}</strong>"
            f" · holds if {html.escape(self.criterion)}</div>{note}</div>"
        )


def _map_floats(value: Any, change: Callable[[float], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _map_floats(part, change) for name, part in value.items()}
    if isinstance(value, list):
        return [_map_floats(part, change) for part in value]
    return change(value) if isinstance(value, float) else value


def _read_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _read_floats(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_read_floats(part) for part in value]
    return float(value[6:]) if isinstance(value, str) and value.startswith("float:") else value


# Cards carry their own background and ink, so that they read the same in a light and in a dark theme.
_INK, _PAPER = "#1f2430", "#fbfaf7"
_CARD = (
    f"background:{_PAPER};color:{_INK};padding:10px 14px;border-radius:6px;margin:6px 0;max-width:860px;"
    "border:1px solid #dcd9d0;font-size:14px;line-height:1.5"
)
_SMALL = "color:#4b5160;font-size:13px"
_CODE = f"background:#efece4;color:{_INK};padding:0 4px;border-radius:3px"


def _tone(claim: Claim) -> str:
    if claim.surprising:
        return "#b3261e"
    return {"holds": "#1b6e3c", "fails": "#8a4b00", "undecided": "#5b5f6b"}[claim.outcome]


def _verdict(claim: Claim) -> str:
    words = {"holds": "Holds", "fails": "Does not hold", "undecided": "Undecided"}[claim.outcome]
    if claim.surprising:
        return f"{words}, though the course expects it {_expectation(claim.expected)}"
    return words if claim.outcome == "holds" else f"{words}, as the course expects"


def _expectation(expected: str) -> str:
    return {"holds": "to hold", "fails": "to fail", "undecided": "to stay undecided"}[expected]


def format_value(value: Any, spread: Any = None) -> str:
    """Write a measurement for a person, keeping the digits that its spread supports.

    >>> format_value(-0.49831, 0.021)
    '-0.498 ± 0.021'
    >>> format_value({"lazy": 12.5, "rich": 1.3})
    'lazy 12.5, rich 1.3'
    >>> format_value(float("inf"))
    'never reached'
    """
    if isinstance(value, Mapping):
        spreads = spread if isinstance(spread, Mapping) else {}
        return ", ".join(f"{name} {format_value(part, spreads.get(name))}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_value, value))
    if value is None:
        return "not recorded yet"
    if isinstance(value, (bool, str)):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else value
    number = float(value)
    if math.isinf(number):
        return "never reached" if number > 0 else "minus infinity"
    if isinstance(spread, (int, float)) and math.isfinite(spread) and spread > 0:
        digits = max(0, 1 - math.floor(math.log10(spread)))
        return f"{number:.{digits}f} ± {spread:.{digits}f}" if digits <= 6 else f"{number:.3g} ± {spread:.2g}"
    text = f"{number:.3g}" if number else "0"
    return f"{text} ({spread})" if isinstance(spread, str) and spread else text


def plain(value: Any) -> Any:
    """Turn a measurement into what JSON can carry (NumPy and torch scalars become floats).

    Raises
    ------
    TypeError
        If the value is neither a number, a string, a bool nor a mapping or sequence of them.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(f"measured must be a number, a word, or several of them by name, got {type(value).__name__}.")


def make_claim(
    id: str,
    *,
    says: str,
    criterion: str,
    measured: Any,
    holds: bool | None,
    expected: str = "holds",
    why: str = "",
    spread: Any = None,
    seeds: int | None = None,
    profile: str = "quick",
    device: str = "cpu",
) -> Claim:
    """Build a claim and check that it is complete.

    Raises
    ------
    ValueError
        If the id has no paper and part, a text is empty, or a claim expected not to hold has no `why`.

    >>> make_claim("ntk-jacot/x", says="a", criterion="b", measured=1.0, holds=True).outcome
    'holds'
    """
    paper, _, part = id.partition("/")
    if not paper or not part:
        raise ValueError(
            f"id must be a paper's key, a slash and the part (as in 'ntk-jacot/concentration'), got {id!r}."
        )
    if not says.strip() or not criterion.strip():
        raise ValueError(f"says and criterion must both be sentences, got says={says!r}, criterion={criterion!r}.")
    check_choice(OUTCOMES, expected=expected)
    if expected != "holds" and not why.strip():
        raise ValueError(f"why must say why claim {id!r} is expected to be {expected!r}, got an empty text.")
    # A NumPy bool is not `True`, and `bool(None)` would turn an undecided claim into a failed one.
    outcome = "undecided" if holds is None else "holds" if bool(holds) else "fails"
    return Claim(
        id, says, criterion, plain(measured), outcome, expected, why, plain(spread), seeds, "live", profile, device
    )


def is_strict() -> bool:
    """Return whether a surprising claim raises (`SCIVIZ_STRICT=1`, as CI and `sciviz verify` set it)."""
    return os.environ.get("SCIVIZ_STRICT", "") not in ("", "0")


def decide(claim: Claim) -> Claim:
    """Return the claim; in strict mode raise if its outcome is not the expected one.

    Raises
    ------
    ClaimError
        In strict mode, if outcome and expectation differ, in either direction.
    """
    if claim.surprising and is_strict():
        raise ClaimError(
            f"Claim {claim.id} {claim.outcome}, but is expected {_expectation(claim.expected)}: "
            f"measured {claim.value_text()}, criterion: {claim.criterion}."
        )
    return claim


@cache
def _read_record(path: str, mtime: float) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        data: dict[str, Any] = json.load(file)
    return data


def load_record() -> dict[str, Any]:
    """Return the committed record: what the claims measured, by id and profile, and what the tutorials cost."""
    path = course_dir() / "claims.json"
    return _read_record(str(path), path.stat().st_mtime) if path.is_file() else {}


def recorded_claim(id: str, profile: str | None = None) -> dict[str, Any] | None:
    """Return one entry of the committed record; without a profile, the fullest one there is."""
    entries: dict[str, dict[str, Any]] = load_record().get("claims", {}).get(id, {})
    for wanted in ("gpu", "full", "quick") if profile is None else (profile,):
        if wanted in entries:
            return entries[wanted]
    return None


@cache
def code_hash(wing: str) -> str:
    """Return a hash of the syntax of a wing's methods and experiments.

    Comments, layout and docstrings do not change it; figures and explorers are not part of it.

    >>> len(code_hash("ntk"))
    12
    """
    folder = course_dir().parent
    return package_hash(folder / wing if folder.name == "sciviz" else folder / "sciviz" / wing)


def package_hash(package: Path) -> str:
    """Return a hash of the syntax of a folder's modules and those of its sub-folders, but for what draws."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.name not in ("__init__.py", "figures.py", "explorer.py"):
            syntax = _syntax(path.read_text(encoding="utf-8"))
            digest.update(path.relative_to(package).as_posix().encode() + syntax.encode())
    return digest.hexdigest()[:12]


@cache
def _syntax(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


class ClaimsTable:
    """The claims of a run as one table: what was said, what was measured now, and the committed record.

    Parameters
    ----------
    claims
        In the order in which they were measured; the last one of each id counts.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self.claims = list({claim.id: claim for claim in claims}.values())

    def __len__(self) -> int:
        return len(self.claims)

    def _recorded(self, claim: Claim) -> str:
        entry = recorded_claim(claim.id)
        if entry is None:
            return "none yet"
        stale = entry.get("wing") and entry["code"] != code_hash(entry["wing"])
        older = "; older than the code" if stale else ""
        value = format_value(entry["measured"], entry.get("spread"))
        return f"{value} ({entry['profile']}, {entry['date']}{older})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/html": self._html(), "text/plain": self._text()}

    def summary(self) -> str:
        """Return one sentence that counts the outcomes."""
        counts = {outcome: sum(claim.outcome == outcome for claim in self.claims) for outcome in OUTCOMES}
        one = {"holds": "holds", "fails": "does not hold", "undecided": "is undecided"}
        many = {"holds": "hold", "fails": "do not hold", "undecided": "are undecided"}
        parts = [f"{count} {(one if count == 1 else many)[outcome]}" for outcome, count in counts.items() if count]
        surprises = sum(claim.surprising for claim in self.claims)
        tail = f"; unlike what the course expects: {surprises}" if surprises else ""
        noun = "claim" if len(self.claims) == 1 else "claims"
        return f"{len(self.claims)} {noun}: {', '.join(parts) or 'none measured'}{tail}."

    def _text(self) -> str:
        return "\n".join([self.summary(), *(claim._text() for claim in self.claims)])

    def _html(self) -> str:
        # On each cell, not on the table: JupyterLab colours table rows itself.
        cell = (
            f"style='padding:7px 10px;border-top:1px solid #dcd9d0;text-align:left;vertical-align:top;"
            f"background:{_PAPER};color:{_INK}'"
        )
        rows = []
        for claim in self.claims:
            live = "" if claim.source == "live" else " <em>(record)</em>"
            rows.append(
                f"<tr><td {cell}><strong style='color:{_tone(claim)}'>{_MARK[claim.outcome]} {_verdict(claim)}</strong>"
                f"</td><td {cell}>{html.escape(claim.says)}<div style='{_SMALL}'><code style='{_CODE}'>"
                f"{html.escape(claim.id)}</code>{f' · {html.escape(claim.why)}' if claim.why else ''}</div></td>"
                f"<td {cell}>{html.escape(claim.criterion)}</td>"
                f"<td {cell}>{html.escape(claim.value_text())}{live}</td>"
                f"<td {cell}>{html.escape(self._recorded(claim))}</td></tr>"
            )
        widths = {"Outcome": 11, "What the paper says": 29, "Holds if": 26, "Measured now": 17, "Committed record": 17}
        heads = "".join(f"<th scope='col' {cell[:-1]};width:{width}%'>{name}</th>" for name, width in widths.items())
        return (
            f"<div class='sciviz-claims' style='{_CARD};max-width:1100px;overflow-x:auto'><p style='margin:0 0 8px'><strong>"
            f"{html.escape(self.summary())}</strong></p><table style='border-collapse:collapse;color:{_INK};"
            f"background:{_PAPER};font-size:13px;width:100%'><thead><tr>{heads}</tr></thead>"
            f"<tbody style='background:{_PAPER}'>{''.join(rows)}</tbody></table></div>"
        )


def check_close(actual: Any, expected: Any, *, atol: float = 0.0, rtol: float = 1e-5, what: str = "values") -> None:
    """Check that two tensors agree within `atol + rtol · |expected|`, and print the largest difference.

    Parameters
    ----------
    actual, expected
        Tensors, arrays or numbers; shapes must agree exactly.
    what
        What is compared, for the message.

    Raises
    ------
    AssertionError
        If shapes differ, an entry is not finite, or the difference is too large; the message says where.

    >>> check_close(1.0, 1.0 + 1e-9, atol=1e-6, what="the two ways")
    the two ways agree: largest difference 1e-09 (allowed 1e-06 + 1e-05 · |expected|)
    """
    import numpy as np

    got, want = (np.asarray(_detached(value), dtype=np.float64) for value in (actual, expected))
    if got.shape != want.shape:
        raise AssertionError(f"{what} differ in shape: {got.shape} against {want.shape}.")
    if not np.isfinite(got).all() or not np.isfinite(want).all():
        raise AssertionError(f"{what} hold entries that are not finite.")
    difference = np.abs(got - want)
    allowed = atol + rtol * np.abs(want)
    largest = float(difference.max(initial=0.0))
    if (difference > allowed).any():
        worst = np.unravel_index(int((difference - allowed).argmax()), difference.shape)
        place = f" at index {tuple(int(i) for i in worst)}" if got.ndim else ""
        raise AssertionError(
            f"{what} differ: {got[worst]:.6g} against {want[worst]:.6g}{place}, "
            f"a difference of {difference[worst]:.2g} where {allowed[worst]:.2g} is allowed."
        )
    print(f"{what} agree: largest difference {largest:.2g} (allowed {atol:g} + {rtol:g} · |expected|)")


def _detached(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def harvest_claims(notebook: Any) -> list[Claim]:
    """Collect the claims in the outputs of an executed notebook (an `nbformat` node or its dictionary).

    Only what was measured in that run is returned, not what it showed from the record; the last of an id counts.
    """
    found: dict[str, Claim] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(CLAIM_MIME)
            if bundle is not None and bundle["source"] == "live":
                found[bundle["id"]] = Claim.from_json(bundle)
    return list(found.values())
