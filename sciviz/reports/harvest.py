"""What a run leaves in its notebook, read without torch: a client or a worker that only collects should start fast."""

from __future__ import annotations

import base64
import io
from typing import Any

# The same as `sciviz.lab.runtime.DATASET_MIME`, whose module imports torch; a test holds the two together.
DATASET_MIME = "application/vnd.sciviz.dataset+json"
STAMP_MIME = "application/vnd.sciviz.stamp+json"


def datasets_of(notebook: Any) -> dict[str, Any]:
    """Collect the data sets in the outputs of an executed notebook, by name; the last of a name counts."""
    import xarray as xr

    bundles: dict[str, str] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(DATASET_MIME)
            if bundle is not None:
                bundles[bundle["name"]] = bundle["netcdf"]
    found = {}
    for name, payload in bundles.items():
        with xr.open_dataset(
            io.BytesIO(base64.b64decode(payload)), engine="h5netcdf", decode_timedelta=False
        ) as dataset:
            found[name] = dataset.load()
    return found


def stamp_of(notebook: Any) -> dict[str, Any]:
    """Return what `run.stamp()` showed last; empty if the notebook shows none."""
    found: dict[str, Any] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            found = output.get("data", {}).get(STAMP_MIME, found)
    return dict(found)
