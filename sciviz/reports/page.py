"""The page of a report: one self-contained HTML file that draws its figures and equations with the network off."""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from nbconvert.filters import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from sciviz.lab import theme
from sciviz.lab.claims import ClaimsTable

if TYPE_CHECKING:
    from sciviz.reports.runner import Executed

_PLOTLY = "application/vnd.plotly.v1+json"
_TEMPLATE = Path(__file__).with_name("page.html.jinja")


class _Renderer(IPythonRenderer):
    """Markdown in which equations become MathML: every browser draws it, and no script has to be carried along."""

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return _mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def _mathml(latex: str, display: str) -> str:
    import latex2mathml.converter

    try:
        result = str(latex2mathml.converter.convert(latex.strip(), display=display))
    except Exception:
        # The package raises many kinds; an equation that it cannot read is shown as it was written, not dropped.
        return f"<code>{html.escape(latex)}</code>"
    # The LaTeX goes along as what a screen reader without MathML says.
    return result.replace("<math ", f'<math aria-label="{html.escape(latex.strip(), quote=True)}" ', 1)


def markdown_html(source: str) -> str:
    """Return a Markdown cell as HTML.

    >>> markdown_html("**Bold** claims")
    '<p><strong>Bold</strong> claims</p>'
    """
    renderer = _Renderer(escape=False, exclude_anchor_links=True)
    return str(MarkdownWithMath(renderer=renderer).render(source)).strip()


@functools.cache
def _highlighter() -> Any:
    return Highlight2HTML(pygments_lexer="ipython3")


def _figure_html(bundle: Mapping[str, Any], number: int) -> str:
    figure = {"data": bundle["data"], "layout": dict(bundle["layout"])}
    alt = str((figure["layout"].get("meta") or {}).get("alt", "A figure without a description."))
    # A width fixed in the notebook would be cut off on a narrow screen.
    figure["layout"].pop("width", None)
    figure["layout"]["autosize"] = True
    # "</" would end the script element early.
    data = json.dumps(figure, ensure_ascii=False).replace("</", "<\\/")
    height = int(figure["layout"].get("height", theme.HEIGHT))
    return (
        f'<div class="figure" id="figure-{number}" role="img" aria-label="{html.escape(alt, quote=True)}" '
        f'style="min-height:{height}px"></div>'
        f'<script type="application/json" class="figure-data" data-for="figure-{number}">{data}</script>'
    )


class _Cells:
    """Turns cells into the blocks of the page, numbering figures on the way."""

    def __init__(self) -> None:
        self.figures = 0

    def block(self, cell: Any) -> dict[str, Any] | None:
        if cell.cell_type == "markdown":
            return {"kind": "text", "html": markdown_html(cell.source)}
        if cell.cell_type != "code":
            return None
        outputs = [shown for output in cell.get("outputs", []) if (shown := self.output(output))]
        if not cell.source.strip() and not outputs:
            return None
        return {"kind": "code", "source": _highlighter()(cell.source), "outputs": outputs}

    def output(self, output: Any) -> str:
        if output.output_type == "stream":
            # A progress bar writes to stderr; on a page only its last state could be shown, and says nothing.
            return "" if output.name == "stderr" else f"<pre class='stream'>{ansi2html(output.text)}</pre>"
        if output.output_type == "error":
            trace = ansi2html("\n".join(output.traceback))
            return (
                f"<div class='error' role='alert'><strong>{html.escape(output.ename)}: "
                f"{html.escape(output.evalue)}</strong><details><summary>Traceback</summary><pre>{trace}</pre></details></div>"
            )
        data = output.get("data", {})
        if _PLOTLY in data:
            self.figures += 1
            return _figure_html(data[_PLOTLY], self.figures)
        if "application/vnd.jupyter.widget-view+json" in data:
            return ""
        if "text/html" in data:
            return f"<div class='output'>{data['text/html']}</div>"
        for kind in ("image/svg+xml", "image/png", "image/jpeg"):
            if kind in data:
                source = data[kind]
                if kind == "image/svg+xml":
                    return f"<div class='output'>{source}</div>"
                return f"<img alt='Output of the cell' src='data:{kind};base64,{source.strip()}'>"
        if "text/markdown" in data:
            return f"<div class='output'>{markdown_html(data['text/markdown'])}</div>"
        return f"<pre class='stream'>{html.escape(data['text/plain'])}</pre>" if "text/plain" in data else ""


def _contents(blocks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Give second-level headings an anchor, and return them as the table of contents."""
    found: list[tuple[str, str]] = []

    def anchor(match: re.Match[str]) -> str:
        name = f"section-{len(found) + 1}"
        found.append((name, re.sub(r"<[^>]+>", "", match[1]).strip()))
        return f"<h2 id='{name}'>{match[1]}</h2>"

    for block in blocks:
        if block["kind"] == "text":
            block["html"] = re.sub(r"<h2[^>]*>(.*?)</h2>", anchor, block["html"], flags=re.DOTALL)
    return found


def write_page(done: Executed, run: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write the page of an executed notebook: claims and parameters first, then the notebook with its code folded."""
    from plotly.offline import get_plotlyjs

    cells = _Cells()
    blocks = [block for cell in done.notebook.cells if (block := cells.block(cell))]
    first = next((b for b in blocks if b["kind"] == "text"), None)
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", first["html"], re.DOTALL) if first else None
    if first and heading:
        first["html"] = first["html"].replace(heading[0], "", 1)
    claims = done.claims
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(_TEMPLATE.name).render(
        title=re.sub(r"<[^>]+>", "", heading[1]).strip() if heading else title,
        contents=_contents(blocks),
        blocks=blocks,
        claims_html=ClaimsTable(claims)._html() if claims else "",
        failure=done.failure,
        parameters=run["parameters"],
        facts=[
            ("Notebook", str(run["tutorial"])),
            ("Seconds", f"{run['seconds']:.1f}"),
            ("Device", str(run.get("device", "unknown"))),
            ("Peak memory", f"{run['peak_memory_mb']:,.0f} MB" if run.get("peak_memory_mb") else "not measured"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())),
            ("Finished", str(run.get("finished", "stopped before its end"))),
        ],
        plotly=get_plotlyjs() if cells.figures else "",
        ink=theme.INK,
        card=theme.CARD,
    )
    path.write_text(page, encoding="utf-8")
