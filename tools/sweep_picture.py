"""Draw the README's picture of the worked sweep, from the store alone.

`python tools/sweep_picture.py FOLDER` writes course/pictures/sweep-ntk.png and prints its alt text. FOLDER is that of
`sciviz sweep ntk --grid width=128,512,2048 --grid seed=0:8 -p num_seeds 3 -o FOLDER`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from sciviz.lab import theme
from sciviz.reports import open_sweep

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from jupyter import chromium  # noqa: E402


def draw(folder: Path) -> theme.Figure:
    """Draw how far trained networks stay from the equation of their kernel, against their width."""
    with open_sweep(folder) as tree:
        found = tree["ntk-jacot.kernel-flow"].load()
    widths, count = found.width.values, found.sizes["seed"]
    mean, spread = found.mean("seed").values, found.std("seed", ddof=1).values
    slope = np.polyfit(np.log(widths), np.log(mean), 1)[0]
    said = ", ".join(f"{value:.3f} at width {width:,}" for width, value in zip(widths, mean, strict=True))
    fig = theme.figure(
        title="The wider the network, the closer it keeps to its kernel's equation",
        subtitle=f"{found.size} points: {len(widths)} widths × {count} seeds; band: one standard deviation over seeds",
        alt=f"On log-log axes the largest deviation of a trained network's outputs from the kernel flow falls with the "
        f"width: {said}, means over {count} seeds; fitted slope {slope:.2f}, beside a dashed line of slope −1/2.",
        x="Width (hidden units)",
        y="Deviation from the kernel flow",
        x_type="log",
        y_type="log",
    )
    theme.add_data(fig, np.repeat(widths, count), found.transpose("width", "seed").values.ravel(), "points", size=6)
    fig.data[-1].marker.opacity = 0.5
    theme.add_theory(fig, widths, mean[0] * (widths / widths[0]) ** -0.5, "width⁻¹ᐟ²")
    theme.add_measurement(fig, widths, mean, "mean", low=mean - spread, high=mean + spread, markers=True)
    fig.update_xaxes(tickmode="array", tickvals=widths, ticktext=[f"{width:,}" for width in widths], minor=None)
    return fig


def main() -> None:
    """Write the picture."""
    fig = draw(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        page_file = Path(scratch, "page.html")
        # Plotly's own script is written into the page: nothing is asked of a network.
        config = {"displayModeBar": False}
        fig.write_html(page_file, include_plotlyjs=True, default_width="760px", default_height="400px", config=config)
        page = browser.new_page(viewport={"width": 800, "height": 480}, device_scale_factor=1.5)
        page.goto(page_file.as_uri())
        page.locator(".plotly-graph-div .main-svg").first.wait_for()
        page.locator(".plotly-graph-div").screenshot(path=str(ROOT / "course" / "pictures" / "sweep-ntk.png"))
    print(theme.alt_text(fig))


if __name__ == "__main__":
    main()
