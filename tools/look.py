"""Run a notebook in real JupyterLab and take a picture of every cell: `python tools/look.py NOTEBOOK OUT [--dark]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from jupyter import Notebook, chromium, jupyter_lab


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dark", action="store_true", help="JupyterLab's dark theme")
    parser.add_argument("--width", type=int, default=1280)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    theme = "JupyterLab Dark" if arguments.dark else "JupyterLab Light"
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(arguments.notebook, scratch)
        with jupyter_lab(Path(scratch), theme) as address, chromium() as browser:
            notebook = Notebook(browser, address, arguments.notebook.name, width=arguments.width)
            notebook.run_all()
            for index, cell in enumerate(notebook.page.locator(".jp-Notebook .jp-Cell").all()):
                cell.scroll_into_view_if_needed()
                cell.screenshot(path=str(arguments.out / f"cell{index:02d}.png"))
            print("cells in error:", len(notebook.failed_cells()), "| page errors:", notebook.errors)
            print("asked outside this machine:", notebook.outside)
            for text in notebook.failed_cells():
                print(text[-1500:])
            notebook.close()


if __name__ == "__main__":
    main()
