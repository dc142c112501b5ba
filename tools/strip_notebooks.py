"""Strip notebooks of what a run leaves behind, except the outputs that nbval is to compare.

    python tools/strip_notebooks.py [NOTEBOOK ...]           # rewrite those that need it (default: all tracked folders)
    python tools/strip_notebooks.py --check [NOTEBOOK ...]   # write nothing; exit 1 and name those that need it

Code cells lose their outputs and execution counts. A cell tagged `nbval-check-output` keeps its outputs, and its
count becomes 1, so that a second run changes nothing (nbstripout does not know that tag). Notebook metadata is cut
to what every run agrees on. Cell ids are kept, and a missing or repeated one is made from its place and content.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tutorials", "course")
CHECKED = "nbval-check-output"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python"}
# What JupyterLab, papermill, nbclient or a debugger writes into a cell, and nobody means to keep.
RUN_METADATA = (
    "ExecuteTime",
    "execution",
    "collapsed",
    "scrolled",
    "papermill",
    "vscode",
    "outputId",
    "colab",
    "trusted",
)


def _stable_id(cell: Any, place: int) -> str:
    source = f"{place}\n{cell.cell_type}\n{cell.source}"
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def strip(notebook: Any) -> Any:
    """Strip `notebook` (nbformat 4) in place and return it; stripping twice is the same as stripping once."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kept = {name: value for name, value in notebook.metadata.items() if name in ("title", "authors", "nbgrader")}
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO, **kept})
    seen: set[str] = set()
    for place, cell in enumerate(notebook.cells):
        if not cell.get("id") or cell["id"] in seen:
            cell["id"] = _stable_id(cell, place)
        seen.add(cell["id"])
        for name in RUN_METADATA:
            cell.metadata.pop(name, None)
        if cell.metadata.get("tags") == []:
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        if CHECKED in cell.metadata.get("tags", []):
            cell.execution_count = 1
            for output in cell.outputs:
                output.pop("metadata", None) if output.output_type in ("stream", "error") else output.metadata.clear()
                if "execution_count" in output:
                    output.execution_count = 1
        else:
            cell.execution_count = None
            cell.outputs = []
    return notebook


def stripped_text(path: Path) -> str:
    """Return the text that `path` should have."""
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    return nbformat.writes(strip(notebook), version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def find_notebooks() -> list[Path]:
    """Return the notebooks of the course, without Jupyter's checkpoints."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.ipynb"))
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of " + " and ".join(FOLDERS))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a notebook needs stripping")
    options = parser.parse_args(arguments)
    changed = []
    for path in options.notebooks or find_notebooks():
        wanted = stripped_text(path)
        if wanted != path.read_text(encoding="utf-8"):
            changed.append(path)
            if not options.check:
                path.write_text(wanted, encoding="utf-8", newline="\n")
    for path in changed:
        print(f"{path}: {'needs stripping, run `make format`' if options.check else 'stripped'}")
    # As pre-commit has it: a hook that changed a file has not passed.
    return 1 if changed and (options.check or options.notebooks) else 0


if __name__ == "__main__":
    sys.exit(main())
