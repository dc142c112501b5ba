"""Build hook: a wheel carries the tutorials and the course's records, an editable install reads them from the checkout.

A static `force-include` would do the first but not the second (it copies into an editable install too, where
the copies go stale), and it fails on a directory that is not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "sciviz/_tutorials": ("tutorials", ("*.ipynb",)),
    "sciviz/_course": ("course", ("claims.json", "papers.bib")),
    # So that a teacher needs no checkout; `sciviz course init` copies them.
    "sciviz/_course/assignments": ("course/assignments", ("*.ipynb", "*.py")),
}


class TutorialsHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for target, (source, patterns) in CARRIED.items():
            for pattern in patterns:
                for path in sorted(Path(self.root, source).glob(pattern)):
                    build_data["force_include"][str(path)] = f"{target}/{path.name}"
