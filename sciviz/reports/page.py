"""The page of a report: one self-contained HTML file that draws its figures and equations with the network off."""

from __future__ import annotations

import base64
import functools
import html
import json
import mimetypes
import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

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
_LARGEST = 8_000_000


class _Renderer(IPythonRenderer):
    """Markdown in which equations become MathML: every browser draws it, and no script has to be carried along."""

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return _mathml(body, "block")

    def _embed_image_or_attachment(self, src: str) -> str:
        # Done for Markdown and HTML alike by `_embedded`; nbconvert raises where an attachment is missing.
        return src

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


def _embedded(source: str, attachments: Mapping[str, Any], folder: Path | None) -> str:
    """Put pictures into the page itself: those beside the notebook, and those attached to the cell.

    One that is not there, or lies on another machine, becomes its alt text: a page loads nothing.
    """

    def embed(match: re.Match[str]) -> str:
        tag = match[0]
        found = re.search(r"""\bsrc\s*=\s*(["'])(.*?)\1""", tag)
        address = html.unescape(found[2]) if found else ""
        if address.startswith("data:"):
            return tag
        data = None
        if address.startswith("attachment:"):
            kind, data = next(iter(attachments.get(address.removeprefix("attachment:"), {}).items()), ("", None))
        elif folder is not None and not re.match(r"[a-z][a-z0-9+.-]*:|//", address, re.IGNORECASE):
            path = folder / unquote(address)
            kind = mimetypes.guess_type(path.name)[0] or ""
            if kind.startswith("image/") and path.is_file():
                data = base64.b64encode(path.read_bytes()).decode("ascii")
        if found and data is not None:
            return f"{tag[: found.start(2)]}data:{kind};base64,{data.strip()}{tag[found.end(2) :]}"
        alt = re.search(r"""\balt\s*=\s*(["'])(.*?)\1""", tag)
        words = (alt[2] if alt else "") or html.escape(address)
        if re.match(r"https?:", address, re.IGNORECASE):
            return f"<a href='{html.escape(address, quote=True)}'>{words}</a>"
        return f"<em>{words}</em>"

    return re.sub(r"<img\b[^>]*>", embed, source, flags=re.IGNORECASE)


@functools.cache
def _highlighter() -> Any:
    return Highlight2HTML(pygments_lexer="ipython3")


def figure_html(bundle: Mapping[str, Any], number: int) -> str:
    """Return a figure as the page draws it: a place, and its data; with a slider below it where it has frames."""
    figure = {"data": bundle["data"], "layout": dict(bundle["layout"]), "frames": bundle.get("frames") or []}
    alt = str((figure["layout"].get("meta") or {}).get("alt", "A figure without a description."))
    # A width fixed in the notebook would be cut off on a narrow screen.
    figure["layout"].pop("width", None)
    figure["layout"]["autosize"] = True
    # Plotly's own slider cannot be moved with the keyboard; the page puts the browser's in its place.
    sliders = figure["layout"].pop("sliders", None)
    figure["layout"].pop("updatemenus", None)
    slider = ""
    if figure["frames"]:
        about = (sliders or [{}])[0]
        labels = [step.get("label", "") for step in about.get("steps") or []]
        name = (about.get("currentvalue") or {}).get("prefix", "").strip(" :=") or "Position"
        active = int(about.get("active") or 0)
        # Each frame carries its own label, so that frames can be left out where there are too many.
        figure["frames"] = [
            {**frame, "label": label or frame.get("name", ""), "start": i == active}
            for i, (frame, label) in enumerate(zip_longest(figure["frames"], labels[: len(figure["frames"])]))
        ]
        slider = (
            f"<div class='frames' data-for='figure-{number}'><button type='button'>Play</button>"
            f"<label>{html.escape(name)} <input type='range' min='0' step='1'></label><output></output></div>"
        )
    # "</" would end the script element early.
    data = json.dumps(figure, ensure_ascii=False).replace("</", "<\\/")
    height = int(figure["layout"].get("height", theme.HEIGHT))
    return (
        f'<div class="figure-scroll"><div class="figure" id="figure-{number}" role="img" '
        f'aria-label="{html.escape(alt, quote=True)}" style="min-height:{height}px"></div></div>{slider}'
        f'<script type="application/json" class="figure-data" data-for="figure-{number}">{data}</script>'
    )


class _Cells:
    """Turns cells into the blocks of the page, numbering figures on the way."""

    def __init__(self, folder: Path | None) -> None:
        self.figures = 0
        self._folder = folder

    def block(self, cell: Any) -> dict[str, Any] | None:
        if cell.cell_type == "markdown":
            shown = _embedded(markdown_html(cell.source), cell.get("attachments", {}), self._folder)
            return {"kind": "text", "html": shown}
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
            return figure_html(data[_PLOTLY], self.figures)
        if "application/vnd.jupyter.widget-view+json" in data:
            return ""
        if "text/html" in data:
            return f"<div class='output'>{_embedded(data['text/html'], {}, self._folder)}</div>"
        for kind in ("image/svg+xml", "image/png", "image/jpeg"):
            if kind in data:
                source = data[kind]
                if kind == "image/svg+xml":
                    return f"<div class='output'>{source}</div>"
                return f"<img alt='Output of the cell' src='data:{kind};base64,{source.strip()}'>"
        if "text/markdown" in data:
            return f"<div class='output'>{_embedded(markdown_html(data['text/markdown']), {}, self._folder)}</div>"
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


def write_page(done: Executed, run: Mapping[str, Any], path: Path, *, title: str, folder: Path | None = None) -> None:
    """Write the page of an executed notebook: claims and parameters first, then the notebook with its code folded.

    Parameters
    ----------
    folder
        Where the notebook lies, and with it the pictures that its text shows.
    """
    from plotly.offline import get_plotlyjs

    cells = _Cells(folder)
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
        active=theme.ACTIVE,
    )
    path.write_text(_small_enough(page), encoding="utf-8")


def _small_enough(page: str) -> str:
    """Leave out every other frame of the figure with the most of them, until the page is no larger than promised."""
    found = re.compile(
        r'(<script type="application/json" class="figure-data" data-for="[^"]*">)(.*?)(</script>)', re.DOTALL
    )
    while len(page.encode()) > _LARGEST:
        heavy = max(
            (match for match in found.finditer(page) if '"frames": [{' in match[2]),
            key=lambda m: len(m[2]),
            default=None,
        )
        figure = json.loads(heavy[2].replace("<\\/", "</")) if heavy else {"frames": []}
        frames = figure["frames"]
        if heavy is None or len(frames) < 3:
            break
        figure["frames"] = [f for i, f in enumerate(frames) if i % 2 == 0 or f.get("start") or i == len(frames) - 1]
        if len(figure["frames"]) == len(frames):
            break
        data = json.dumps(figure, ensure_ascii=False).replace("</", "<\\/")
        page = f"{page[: heavy.start(2)]}{data}{page[heavy.end(2) :]}"
    return page
