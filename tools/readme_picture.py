"""Take the README's picture anew: an explorer of the first tutorial, as it stands in JupyterLab.

`python tools/readme_picture.py` writes course/pictures/kernel-explorer.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from jupyter import Notebook, chromium, jupyter_lab  # noqa: E402

SOURCE = """\
from sciviz.ntk import explorer

panel = explorer.explore_kernel(seed=0)
panel.set(width=128, depth=2, posterior=True)
panel"""


def main() -> None:
    target = ROOT / "course" / "pictures" / "kernel-explorer.png"
    target.parent.mkdir(exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(notebook, Path(scratch, "picture.ipynb"))
        with jupyter_lab(Path(scratch)) as address, chromium() as browser:
            page = Notebook(browser, address, "picture.ipynb", width=1400)
            page.run_all()
            page.page.locator(".sciviz-panel").screenshot(path=str(target))
            page.close()


if __name__ == "__main__":
    main()
