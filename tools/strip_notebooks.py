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
import json
import sys
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tutorials", "course")
CHECKED = "nbval-check-output"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python"}
KEPT_METADATA = ("title", "authors", "nbgrader", "sciviz")
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


def give_ids(raw: dict[str, Any]) -> dict[str, Any]:
    """Give each cell of a notebook's JSON an id of its own, the same on every run.

    nbformat would do it too, on reading, but with another random id each time.
    """
    raw["nbformat_minor"] = 5
    seen: set[str] = set()
    for place, cell in enumerate(raw["cells"]):
        if not cell.get("id") or cell["id"] in seen:
            content = json.dumps([place, cell["cell_type"], cell["source"]])
            cell["id"] = hashlib.sha256(content.encode()).hexdigest()[:8]
        seen.add(cell["id"])
    return raw


def strip(notebook: Any) -> Any:
    """Strip `notebook` (nbformat 4.5) in place and return it; stripping twice is the same as stripping once."""
    kept = {name: notebook.metadata[name] for name in KEPT_METADATA if name in notebook.metadata}
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO, **kept})
    for cell in notebook.cells:
        for name in RUN_METADATA:
            cell.metadata.pop(name, None)
        if cell.metadata.get("tags") == []:
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        if CHECKED in cell.metadata.get("tags", []):
            cell.execution_count = 1
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = nbformat.from_dict({})
                if "execution_count" in output:
                    output.execution_count = 1
        else:
            cell.execution_count = None
            cell.outputs = []
    return notebook


def stripped_text(path: Path) -> str:
    """Return the text that `path` should have."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw.get("nbformat") != 4:
        raise SystemExit(f"{path} is in notebook format {raw.get('nbformat')}, and only 4 is known here: save it anew.")
    notebook = nbformat.reads(json.dumps(give_ids(raw)), as_version=4)
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
