"""What a teacher wants to see of an assignment at once: how each question went, and which two submissions to look at."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from sciviz.coursework.grading import Handed
from sciviz.coursework.source import Assignment

_SHINGLE = 5
_FEWEST = 25
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Pair:
    """Two submissions that are more alike than others are.

    Attributes
    ----------
    likeness
        From 0 to 1; 1 where the students' own lines have the same structure throughout.
    usual
        The class's median over all pairs, to compare with.
    """

    one: str
    other: str
    likeness: float
    usual: float


def shingles(source: str) -> list[str]:
    """Return runs of five tokens, in which a name is any name and comments are left out: renaming hides nothing.

    >>> shingles("a = b + 1") == shingles("x = y + 1  # mine")
    True
    """
    words: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                words.append(token.string if keyword.iskeyword(token.string) else "N")
            elif token.type in (tokenize.OP, tokenize.NUMBER):
                words.append(token.string)
            elif token.type == tokenize.STRING:
                words.append("S")
    except (tokenize.TokenError, SyntaxError, IndentationError):
        words = words or source.split()
    return [" ".join(words[place : place + _SHINGLE]) for place in range(max(0, len(words) - _SHINGLE + 1))]


def look_alikes(
    records: Mapping[str, Mapping[str, Any]], released: Sequence[Handed], *, least: float = 0.8
) -> list[Pair]:
    """Return pairs of submissions whose own code is much alike, the most alike first.

    Structure is compared (TF-IDF over runs of tokens, cosine), so that what all of a class write counts little and what only two
    share counts much. Code that was handed out is left out, and so are submissions with very little code of their own.

    Parameters
    ----------
    least
        Likeness from which a pair is named; it must also stand clear of what is usual in the class.
    """
    given = {shingle for cell in released for shingle in shingles(cell.source)}
    texts: dict[str, list[str]] = {}
    for student, record in records.items():
        own = [cell["source"] for cell in record["cells"] if cell["kind"] == "code" and not cell["ours"]]
        found = [shingle for source in own for shingle in shingles(source) if shingle not in given]
        prose = [
            question["answer"] for question in record["questions"] if question.get("manual") and question.get("answer")
        ]
        found += [f"text {run}" for text in prose for run in _runs_of_words(text, released)]
        if len(found) >= _FEWEST:
            texts[student] = found
    if len(texts) < 2:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(analyzer=lambda found: found, sublinear_tf=True).fit_transform(texts.values())
    likeness = np.asarray((matrix @ matrix.T).todense())
    students = list(texts)
    rows, columns = np.triu_indices(len(students), 1)
    values = likeness[rows, columns]
    usual = float(np.median(values)) if len(values) > 2 else 0.0
    # In a class in which all answers are short and alike, 0.8 says nothing.
    bar = max(least, usual + 0.5 * (1 - usual))
    chosen = [i for i in np.argsort(-values) if values[i] >= bar]
    return [
        Pair(students[rows[i]], students[columns[i]], round(float(min(1.0, values[i])), 3), round(usual, 3))
        for i in chosen
    ]


def _runs_of_words(text: str, released: Sequence[Handed]) -> list[str]:
    given = {word for cell in released if cell.role == "manual" for word in _word_runs(cell.source)}
    return [run for run in _word_runs(text) if run not in given]


def _word_runs(text: str) -> list[str]:
    words = [word.strip(".,;:!?()*_`\"'").casefold() for word in text.split()]
    return [" ".join(words[place : place + 4]) for place in range(max(0, len(words) - 3))]


def distribution(assignment: Assignment, scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return for each question, and for the whole, how the students did.

    Parameters
    ----------
    scores
        By student, then by question.
    """
    rows = []
    points = {asked.id: asked.points for asked in assignment.questions}
    for name, most in [*points.items(), ("in all", sum(points.values()))]:
        values = np.array([sum(own.values()) if name == "in all" else own.get(name, 0.0) for own in scores.values()])
        shares = values / most if len(values) else np.zeros(0)
        counts = np.histogram(np.clip(shares, 0, 1), bins=10, range=(0, 1))[0]
        rows.append(
            {
                "question": name,
                "points": most,
                "mean": float(values.mean()) if len(values) else 0.0,
                "median": float(np.median(values)) if len(values) else 0.0,
                "none": float((shares == 0).mean()) if len(values) else 0.0,
                "full": float((shares >= 1).mean()) if len(values) else 0.0,
                "counts": counts.tolist(),
            }
        )
    return rows


def distribution_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as text, with a bar for each tenth of the points from none to all."""
    width = max(len(str(row["question"])) for row in rows)
    lines = [f"{'question':<{width}}  points   mean  median   none   full  none ▸ full"]
    for row in rows:
        most = max(row["counts"]) or 1
        bars = "".join(_BARS[0 if not n else max(1, round(8 * n / most))] for n in row["counts"])
        lines.append(
            f"{row['question']:<{width}}  {row['points']:>6.4g}  {row['mean']:>5.3g}  {row['median']:>6.3g}  "
            f"{row['none']:>4.0%}   {row['full']:>4.0%}  |{bars}|"
        )
    return "\n".join(lines)


def overview_page(
    assignment: Assignment,
    class_name: str,
    records: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, float]],
    pairs: Sequence[Pair],
    *,
    missing: int = 0,
    waiting: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return a page for the teacher: how each question went, what was said, whom to look at, and a link to each feedback page.

    Parameters
    ----------
    scores
        By student, then by question.
    missing
        How many of the class list handed in nothing.
    waiting
        Students with answers that wait for the teacher, each with these questions.
    """
    from sciviz.coursework.feedback import clean, number, style, template

    waiting = waiting or {}
    names = [asked.id for asked in assignment.questions]
    students = [
        {
            "id": student,
            "link": f"../feedback/{quote(student)}/{quote(assignment.name)}/{quote(assignment.name)}.html",
            "scores": [
                "waits" if name in waiting.get(student, ()) else number(scores[student].get(name, 0.0))
                for name in names
            ],
            "total": sum(scores[student].values()),
            "remarks": "; ".join([*filter(None, [record["problem"]]), *record["remarks"]]),
        }
        for student, record in records.items()
    ]

    def height(count: int, row: Mapping[str, Any]) -> float:
        return float(round(27 * count / max(1, *row["counts"]), 1))

    def spoken(row: Mapping[str, Any]) -> str:
        return "Students by tenth of the points, from none to all: " + ", ".join(map(str, row["counts"]))

    return template("overview.html.jinja").render(
        **style(),
        name=assignment.name,
        title=assignment.title,
        class_name=clean(class_name),
        count=len(records),
        missing=missing,
        waiting=len(waiting),
        rows=distribution(assignment, scores),
        said=common_messages(records),
        pairs=pairs,
        names=names,
        waits={name: sum(name in questions for questions in waiting.values()) for name in names},
        heading=assignment.heading,
        students=students,
        clean=clean,
        number=number,
        percent="{:.0%}".format,
        height=height,
        spoken=spoken,
    )


def common_messages(records: Mapping[str, Mapping[str, Any]], most: int = 5) -> dict[str, list[tuple[str, int]]]:
    """Return what was said most often of each question's answers that were not right."""
    found: dict[str, dict[str, set[str]]] = {}
    for student, record in records.items():
        for question in record["questions"]:
            for case in question["cases"]:
                if case["fraction"] < 1:
                    found.setdefault(question["id"], {}).setdefault(case["message"], set()).add(student)
    return {
        name: sorted(((text, len(who)) for text, who in said.items()), key=lambda pair: -pair[1])[:most]
        for name, said in found.items()
    }
