"""The page of a report is one file: it loads nothing, and says in words what it shows."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest

from sciviz.reports import Report
from sciviz.reports.page import markdown_html, write_page
from sciviz.reports.runner import Executed
from tests.notebooks import toys


class Elements(HTMLParser):
    """Collects every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(made: Report) -> Elements:
    return Elements((made.folder / "report.html").read_text(encoding="utf-8"))


def test_page_loads_nothing(page: Elements) -> None:
    for tag, attributes in page.found:
        for name in ("src", "srcset", "data", "poster", "background"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or ""), (tag, attributes)
        if tag in ("link", "iframe", "object", "embed", "base"):
            pytest.fail(f"<{tag}> loads something")
    assert not [script for script in page.all("script") if "src" in script]
    styles = "".join(attributes.get("style") or "" for _, attributes in page.found)
    assert "url(" not in styles and "@import" not in styles


def test_figures_are_described(page: Elements) -> None:
    figures = [attributes for attributes in page.all("div") if attributes.get("class") == "figure"]
    assert [figure["aria-label"] for figure in figures] == ["A line that climbs."]
    assert all(figure["role"] == "img" for figure in figures)
    assert all((image.get("alt") or "").strip() for image in page.all("img"))


def test_equations_are_mathml(page: Elements) -> None:
    labels = [attributes.get("aria-label") for attributes in page.all("math")]
    assert labels == ["y = a x^2", "y = a x"]
    assert "$" not in page.text


def test_claims_come_first(page: Elements) -> None:
    assert page.text.index("3 claims") < page.text.index("Do, learn, need")
    assert "toy-line/slope" in page.text


def test_parameters_and_contents_are_told(page: Elements) -> None:
    for value in ("points = 5", "steep = 3.0", "seed = 7"):
        assert value in page.text
    anchors = {link["href"] for link in page.all("a") if (link.get("href") or "").startswith("#")}
    ids = {f"#{attributes['id']}" for _, attributes in page.found if attributes.get("id")}
    assert anchors and anchors <= ids


def test_page_has_a_language_a_title_and_one_heading(page: Elements) -> None:
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1
    assert "A line, and what it teaches" in page.text


def _page_of(tmp_path: Path, *outputs: Any, source: str = "x = 1", text: str = "# T") -> str:
    notebook = toys.small(source)
    notebook.cells[-1].outputs = list(outputs)
    notebook.cells.insert(0, toys.make_cell("markdown", "text", (), text))
    run = {"parameters": {"kind": "<i>"}, "tutorial": "toy", "seconds": 1.0}
    write_page(Executed(notebook, None, 1.0, {}), run, tmp_path / "page.html", title="toy")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def _display(**data: Any) -> Any:
    return nbformat.v4.new_output("display_data", data={name.replace("__", "/"): value for name, value in data.items()})


def test_what_a_figure_holds_cannot_end_its_script(tmp_path: Path) -> None:
    figure = {"data": [], "layout": {"meta": {"alt": 'A "quoted" <dot>.'}, "title": {"text": "</script><b>out</b>"}}}
    bundle = nbformat.v4.new_output("display_data", data={"application/vnd.plotly.v1+json": figure})
    page = Elements(_page_of(tmp_path, bundle))
    assert not page.all("b")
    (holder,) = [attributes for attributes in page.all("div") if attributes.get("class") == "figure"]
    assert holder["aria-label"] == 'A "quoted" <dot>.'


def test_plotly_is_carried_only_where_something_is_drawn(tmp_path: Path) -> None:
    assert len(_page_of(tmp_path)) < 100_000


def test_plain_outputs_are_escaped(tmp_path: Path) -> None:
    page = _page_of(
        tmp_path,
        nbformat.v4.new_output("stream", name="stdout", text="<b>out</b>"),
        nbformat.v4.new_output("stream", name="stderr", text="a progress bar"),
        _display(text__plain="<b>plain</b>"),
    )
    assert "<b>" not in page and page.count("&lt;b&gt;") == 2 and "a progress bar" not in page
    assert "kind = &lt;i&gt;" in page


def test_pictures_travel_in_the_page(tmp_path: Path) -> None:
    page = Elements(_page_of(tmp_path, _display(image__png="AAAA\n")))
    (image,) = page.all("img")
    assert image["src"] == "data:image/png;base64,AAAA" and image["alt"]


def test_pictures_beside_the_notebook_travel_too(page: Elements) -> None:
    (image,) = page.all("img")
    assert image["alt"] == "A curve"
    assert base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) == toys.PNG


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("![A dot](attachment:dot.png)", '<img src="data:image/png;base64,AAAA" alt="A dot"'),
        ("![A dot](a%20dot.png)", "data:image/png;base64,"),
        ("![A & B](missing.png)", "<em>A &amp; B</em>"),
        ("![Lost](attachment:lost.png)", "<em>Lost</em>"),
        ("![A dot](https://example.org/d.png)", "<a href='https://example.org/d.png'>A dot</a>"),
        ("![A secret](notes.txt)", "<em>A secret</em>"),
        ('<img alt="A dot" src="//example.org/d.png">', "<em>A dot</em>"),
    ],
)
def test_pictures_of_a_text(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "a dot.png").write_bytes(toys.PNG)
    (tmp_path / "notes.txt").write_text("no picture")
    notebook = toys.small()
    cell = toys.make_cell("markdown", "text", (), source)
    cell.attachments = {"dot.png": {"image/png": "AAAA"}}
    notebook.cells.insert(0, cell)
    run = {"parameters": {}, "tutorial": "toy", "seconds": 1.0}
    write_page(Executed(notebook, None, 1.0, {}), run, tmp_path / "page.html", title="toy", folder=tmp_path)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert words in page
    assert all((image["src"] or "").startswith("data:") for image in Elements(page).all("img"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("$$\\frac{a}{b}$$", "<mfrac>"),
        ("\\begin{align}a &= b \\\\ c &= d\\end{align}", "<mtable"),
        ("Cost: 5\\$ and 6\\$", "Cost: 5$ and 6$"),
        ("| a | b |\n|---|---|\n| 1 | $x$ |", "<table>"),
        ("`$x$`", "<code>$x$</code>"),
    ],
)
def test_markdown(source: str, words: str) -> None:
    assert words in markdown_html(source)


def test_equation_that_cannot_be_read_is_shown_as_written() -> None:
    shown = markdown_html("$\\frac{a}$")
    assert "frac" in shown and "<p>" in shown


# In a browser, from a file, with the network off


@pytest.mark.browser
def test_figures_are_drawn_offline(made: Report, browser: Any) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    address = (made.folder / "report.html").as_uri()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".figure .main-svg")
    assert page.locator(".figure path.js-line").count() >= 1
    assert page.locator(".figure .gtitle").first.text_content() == "The line climbs"
    assert page.locator("math").count() == 2
    wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert errors == []
    assert [url for url in asked if url != address and not url.startswith(("data:", "blob:"))] == []
    assert wide, "the page is wider than its window"


@pytest.mark.browser
def test_page_on_a_telephone(made: Report, browser: Any) -> None:
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto((made.folder / "report.html").as_uri())
    page.wait_for_selector(".figure .main-svg")
    sizes = json.loads(page.evaluate("JSON.stringify([document.documentElement.scrollWidth, innerWidth])"))
    context.close()
    assert sizes[0] <= sizes[1], sizes
