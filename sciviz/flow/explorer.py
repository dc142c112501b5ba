"""Explorers of the wing `flow`: controls → an experiment → a figure."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sciviz.flow import couplings, experiments, networks, rectify
from sciviz.flow.experiments import digits, rectified
from sciviz.flow.experiments.digits import DigitFlows, Images
from sciviz.flow.figures import mosaic, plot_crossing, plot_particles
from sciviz.flow.measures import curvature, sliced_wasserstein, straightness
from sciviz.flow.networks import GuidedField, ImageField, VelocityField
from sciviz.flow.sampling import integrate
from sciviz.lab import cache, theme
from sciviz.lab.drag import DragPoints
from sciviz.lab.panel import Choices, Panel, Range
from sciviz.lab.results import dataset, variable

SHAPES = ("gaussian", "eight_gaussians", "two_moons", "pinwheel", "rings", "two_spirals")
_PARTICLES = 220


def _code() -> str:
    """Return a hash of the code that trains: results of another program are not taken for its own."""
    parts = [inspect.getsource(module) for module in (couplings, networks, rectify, rectified, digits)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _pack(modules: list[nn.Module]) -> dict[str, Tensor]:
    return {f"{place}.{name}": part for place, one in enumerate(modules) for name, part in one.state_dict().items()}


def _unpack(tensors: Mapping[str, Tensor], modules: list[nn.Module]) -> None:
    for place, one in enumerate(modules):
        own = {name.split(".", 1)[1]: part for name, part in tensors.items() if name.startswith(f"{place}.")}
        one.load_state_dict(own)


def trained_shapes(
    clouds: Mapping[str, Tensor], *, rounds: int, num_steps: int, seed: int
) -> tuple[list[tuple[str, str]], list[VelocityField]]:
    """Return flows between every two clouds, from the cache or trained now with a progress bar.

    Half of the pairs are enough: the other half is the same flow followed backwards.
    """
    names = list(clouds)
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place:]]
    fields = [VelocityField(2, width=48, depth=3, members=len(pairs), seed=0) for _ in range(rounds)]
    marks = [hashlib.sha256(clouds[name].contiguous().numpy().tobytes()).hexdigest() for name in names]
    settings = {"clouds": [*names, *marks], "rounds": rounds, "num_steps": num_steps, "seed": seed}

    def make() -> dict[str, Tensor]:
        trained = experiments.flow_between(
            clouds, pairs, rounds=rounds, num_steps=num_steps, batch_size=128, width=48, seed=seed, progress=True
        )
        return _pack(list(trained))

    _unpack(cache.kept("shapes", settings, make, code=_code()), list(fields))
    return pairs, fields


def trained_digits(
    images: Images, *, num_steps: int = 800, width: int = 128, seed: int = 0, progress: bool = True
) -> DigitFlows:
    """Return the three networks for digits, from the cache or trained now with a progress bar."""
    dim = images.train.shape[1]
    fields = [ImageField(dim, width=width, depth=3, num_classes=10, seed=0) for _ in range(3)]
    mark = hashlib.sha256(images.train.cpu().contiguous().numpy().tobytes()).hexdigest()
    settings = {"images": mark, "num_steps": num_steps, "width": width, "seed": seed}

    def make() -> dict[str, Tensor]:
        made = experiments.train_digits(images, num_steps=num_steps, width=width, seed=seed, progress=progress)
        return _pack(list(made))

    _unpack(cache.kept("digits", settings, make, code=_code()), list(fields))
    return DigitFlows(*fields)


def explore_particles(*, seed: int = 0, num_steps: int = 400, clouds: Mapping[str, ArrayLike] | None = None) -> Panel:
    """Explore flows between shapes: particles in time, their paths coloured by curvature, after each reflow.

    Parameters
    ----------
    seed
        Draws the points and the networks' weights.
    num_steps
        Training steps of each round.
    clouds
        Two to six clouds of your own, by name, (num, 2) each, in place of the six shapes.

    Returns
    -------
    A panel with controls for source, target, reflows, Euler steps and time.

    Raises
    ------
    ValueError
        If there are fewer than two clouds or more than six, or one is not (num, 2).
    """
    given: Mapping[str, Any] = {name: name for name in SHAPES} if clouds is None else clouds
    if not 2 <= len(given) <= 6:
        raise ValueError(f"clouds must be two to six, got {len(given)}.")
    points = {
        name: experiments.cloud(what, seed=seed + place, num_samples=8000)
        for place, (name, what) in enumerate(given.items())
    }
    for name, one in points.items():
        if one.shape[1] != 2:
            raise ValueError(f"clouds must lie in the plane, got {name!r} of shape {tuple(one.shape)}.")
    pairs, fields = trained_shapes(points, rounds=3, num_steps=num_steps, seed=seed)
    extent = 1.12 * max(float(one[:1000].abs().quantile(0.999)) for one in points.values())
    names = [(name.replace("_", " "), name) for name in points]

    def member(reflows: int, source: str, target: str) -> Callable[[Tensor, Tensor], Tensor]:
        forward = (source, target) in pairs
        one = single(reflows, pairs.index((source, target) if forward else (target, source)))
        return one if forward else lambda t, x: -one(1 - t, x)

    @lru_cache(maxsize=64)
    def single(reflows: int, index: int) -> VelocityField:
        return fields[reflows].member(index)

    @lru_cache(maxsize=256)
    def follow(source: str, target: str, reflows: int, steps: int) -> xr.Dataset:
        velocity = member(reflows, source, target)
        x0, real = points[source][:_PARTICLES], points[target][-_PARTICLES:]
        times = torch.linspace(0, 1, 41, dtype=torch.float64)
        # Euler's path is a chain of straight pieces: what lies between its corners is known.
        corners = integrate(velocity, x0, torch.linspace(0, 1, steps + 1, dtype=torch.float64), method="euler")
        at = times * steps
        low = at.floor().clamp_max(steps - 1).long()
        path = torch.lerp(corners[low], corners[low + 1], (at - low)[:, None, None].float())
        fine = integrate(velocity, x0, torch.linspace(0, 1, 21, dtype=torch.float64), num_steps=20, method="midpoint")
        return dataset(
            "Particles",
            {
                "particle": variable("particle", np.arange(_PARTICLES), "Particle"),
                "time": variable("time", times, "Flow time"),
                "axis": variable("axis", ["x1", "x2"], "Coordinate"),
            },
            {
                "path": variable("particle time axis", path.transpose(0, 1), "Position"),
                "curvature": variable("particle", curvature(fine).median(0).values, "Curvature"),
                "goal": variable("particle axis", real, "Target"),
            },
            source=source.replace("_", " "),
            target=target.replace("_", " "),
            straightness=float(straightness(velocity, x0, num_steps=10, method="midpoint")),
            distance=float(sliced_wasserstein(path[-1], real, num_projections=64, seed=0)),
            round=reflows + 1,
            steps=steps,
            extent=extent,
        )

    def compute(
        source: str = "",
        target: str = "",
        reflows: Annotated[int, Range(0, 2, label="Reflows")] = 0,
        steps: Annotated[int, Range(1, 32, log=True, label="Euler steps")] = 32,
        time: Annotated[float, Range(0.0, 1.0, step=0.025, label="Time", play=True)] = 0.5,
    ) -> xr.Dataset:
        found = follow(source, target, reflows, steps).copy()
        found.attrs = {**found.attrs, "now": round(time * 40)}
        return found

    options: dict[str, Any] = {"style": {"description_width": "initial"}, "layout": widgets.Layout(width="auto")}
    chosen = list(points)
    return Panel(
        compute,
        plot_particles,
        title="Particles on their way",
        describe=_describe_particles,
        hint="Move the time, or press play. Then go down to one Euler step – and reflow.",
        controls={
            "source": widgets.Dropdown(options=names, value=chosen[0], description="From", **options),
            "target": widgets.Dropdown(options=names, value=chosen[1], description="To", **options),
        },
    )


def _describe_particles(ds: xr.Dataset) -> str:
    return (
        f"Straightness S = {ds.attrs['straightness']:.3g} (0 is straight). Sliced Wasserstein distance of the ends to the "
        f"target: {ds.attrs['distance']:.3f}."
    )


class _Made(NamedTuple):
    """What the digit explorer draws: digits in few steps and in many."""

    few: np.ndarray[Any, Any]
    many: np.ndarray[Any, Any]
    difference: float
    steps: int
    digit: int
    side: int


Digit = Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
Path = Literal["straight", "reflowed", "diffusion"]


def explore_digits(
    *, seed: int = 0, num_steps: int = 800, images: Images | None = None, flows: DigitFlows | None = None
) -> Panel:
    """Explore digits made in few steps beside what many steps make of the same noise.

    Parameters
    ----------
    seed
        Draws data, weights and noise.
    num_steps
        Training steps of each network, where they have to be trained.
    images, flows
        Images of your own, and networks trained on them already.

    Returns
    -------
    A panel with controls for the path, the class, the number of steps and the guidance.
    """
    images = experiments.load_images(seed=seed) if images is None else images
    flows = trained_digits(images, num_steps=num_steps, seed=seed) if flows is None else flows
    side = round(images.train.shape[1] ** 0.5)
    x0 = torch.randn(12, side * side, generator=torch.Generator().manual_seed(seed))

    @lru_cache(maxsize=512)
    def make(path: str, digit: int, steps: int, guidance: float) -> Tensor:
        field = GuidedField(getattr(flows, path), torch.full((12,), digit), guidance)
        times = torch.linspace(0, 0.999, steps + 1, dtype=torch.float64)
        return integrate(field, x0, times, method="euler")[-1].clamp(-1, 1)

    def compute(
        path: Annotated[Path, Choices("Path", {"straight": "straight lines", "reflowed": "after reflow"})] = "straight",
        digit: Annotated[Digit, Choices("Class")] = 3,
        steps: Annotated[int, Range(1, 32, log=True, label="Steps")] = 2,
        guidance: Annotated[float, Range(0.0, 3.0, step=0.5, label="Guidance")] = 1.0,
    ) -> _Made:
        few, many = make(path, digit, steps, float(guidance)), make(path, digit, 50, float(guidance))
        gap = float((few - many).square().mean().sqrt())
        grids = [part.view(3, 4, -1).numpy() for part in (few, many)]
        return _Made(grids[0], grids[1], gap, steps, digit, side)

    return Panel(
        compute,
        _draw_made,
        title="Digits from noise",
        describe=lambda now: (
            f"{now.steps} step{'s' if now.steps > 1 else ''} and 50 steps from the same noise differ by {now.difference:.2f} a "
            "pixel (root mean square; pixels go from −1 to 1)."
        ),
        hint="Go down to one step on each path. Then set the guidance to 0 (no class) and to 3 (too much of it).",
    )


def _draw_made(now: _Made) -> theme.Figure:
    words = f"{now.steps} step{'s' if now.steps > 1 else ''}"
    fig = theme.figure(
        title=f"Twelve times “{now.digit}” in {words}, and in fifty",
        alt=f"Two mosaics of twelve images of the digit {now.digit}: left in {words}, right in 50 from the same noise. They "
        f"differ by {now.difference:.2f} a pixel.",
        height=330,
    )
    theme.columns(fig, (f"In {words}", "", ""), ("In 50 steps, from the same noise", "", ""), gap=0.06)
    layout: dict[str, Any] = {"margin": {"l": 24, "r": 24, "b": 20}}
    for column, images in enumerate((now.few, now.many), start=1):
        theme.add_heatmap(fig, mosaic(images, now.side), title=("few steps", "50 steps")[column - 1], column=column)
        fig.data[-1].update(showscale=False, zmin=-1, zmax=1)
        end = "" if column == 1 else "2"
        bare = {"showticklabels": False, "ticks": "", "constrain": "domain", "showline": False}
        layout[f"yaxis{end}"] = {**bare, "autorange": "reversed", "scaleanchor": f"x{end}"}
        layout[f"xaxis{end}"] = bare
    fig.update_layout(layout)
    return fig


def explore_crossing(*, points: ArrayLike | None = None) -> Panel:
    """Explore two lines that cross: drag their ends, and watch what the expected velocity makes of them.

    Parameters
    ----------
    points
        Where the ends are at first: two sources, then two targets, (4, 2) within ±1.25.

    Returns
    -------
    A panel with draggable ends and controls for the time and the blur.
    """
    first: Any = [(-1.0, -0.7), (-1.0, 0.7), (1.0, 0.7), (1.0, -0.7)] if points is None else np.asarray(points).tolist()
    if len(first) != 4:
        raise ValueError(f"points must be two sources and two targets, got {len(first)} points.")
    ends = DragPoints(first, x_range=(-1.25, 1.25), y_range=(-1.25, 1.25), x_label="x₁", y_label="x₂")

    def compute(
        ends: tuple[Any, ...] = (),
        time: Annotated[float, Range(0.0, 1.0, step=0.05, label="Time", play=True)] = 0.5,
        blur: Annotated[float, Range(0.03, 0.5, step=0.01, label="Blur")] = 0.12,
    ) -> xr.Dataset:
        return experiments.crossing_lines(list(ends[:2]), list(ends[2:]), time=time, blur=blur, num_times=41)

    return Panel(
        compute,
        lambda ds: plot_crossing(ds, active=True),
        title="Two lines cross",
        describe=_describe_crossing,
        hint="Drag a disc or a square, or choose it and use its two sliders. Points 1 and 2 are sources, 3 and 4 targets.",
        controls={"ends": ends},
    )


def _describe_crossing(ds: xr.Dataset) -> str:
    # Rounded, and then no minus in front of a zero.
    one, other = (round(part, 2) + 0.0 for part in ds.attrs["velocity"])
    swapped = ds.flow.values[:, -1]
    to = [int(np.argmin(np.linalg.norm(ds.end.values - end, axis=1))) + 1 for end in swapped]
    return (
        f"The lines pass {ds.attrs['gap']:.2f} from each other; between them the expected velocity is ({one:.2f}, {other:.2f}). "
        f"Following it, source 1 comes nearest to target {to[0]}, source 2 to target {to[1]}."
    )
