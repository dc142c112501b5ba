"""Figures of the Kolmogorov-Arnold wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.results import paired_interval
from sciviz.lab.theme import Figure, axis_title

# ----------------------------------------------------------------------------------------------- splines and networks


def plot_spline(ds: xr.Dataset) -> Figure:
    """Plot a spline, what it approximates, its knots, and under them the weighted bases that it is the sum of."""
    order, cells = int(ds.attrs["order"]), int(ds.attrs["num_cells"])
    error = float(ds.rmse)
    fig = theme.figure(
        title=f"A sum of {ds.sizes['basis']} bumps misses the curve by {error:.2g} (RMSE)",
        subtitle=f"Order {order}, {cells} cells; grey: bumps × heights; ticks: knots; outside: {ds.attrs['extrapolation']}",
        alt=f"A spline of order {order} with {cells} cells on [-1, 1] beside the dashed curve it was fitted to, and its "
        f"{ds.sizes['basis']} weighted bases as thin grey lines, each zero but near its own knots. Root mean squared error on "
        f"the interval: {error:.2g}. Outside the interval the spline is continued ({ds.attrs['extrapolation']}).",
        x=axis_title(ds.position),
        y="Value",
    )
    inside = abs(ds.position) <= 1
    theme.add_bundle(fig, ds.position[inside], ds.part[:, inside], "bumps × heights", shade=theme.BASELINE)
    theme.add_theory(fig, ds.position, ds.target, "target")
    theme.add_measurement(fig, ds.position, ds.fit, "spline", active=True)
    size = float(np.abs(ds.target).max())
    fig.update_yaxes(range=[-1.6 * size, 1.6 * size])
    theme.add_data(fig, ds.knot, np.full(ds.sizes["knot"], -1.6 * size), "knots", size=9)
    fig.data[-1].marker.symbol = "line-ns-open"
    fig.data[-1].cliponaxis = False
    fig.update_layout(margin={"r": 80})
    return fig


def plot_convergence(ds: xr.Dataset, orders: tuple[int, ...] = (0, 1, 3, 5)) -> Figure:
    """Plot the error of splines against the number of cells, on logarithmic axes, one line per order."""
    shown = [k for k in orders if k in ds.order.values][:4]
    slopes = {k: float(ds.slope.sel(order=k)) for k in shown}
    fig = theme.figure(
        title="Twice the cells: an error 2ᵏ⁺¹ times smaller, for order k",
        subtitle="Slopes: " + ", ".join(f"order {k}: {slopes[k]:.1f}" for k in shown) + "; dashed: theory, −(k + 1)",
        alt="Error of a fitted spline against the number of grid cells, both on logarithmic axes, one falling line per order. "
        + ", ".join(f"Order {k} falls with slope {slopes[k]:.1f}" for k in shown)
        + "; theory says minus order minus one.",
        x=axis_title(ds.cells),
        y=axis_title(ds.rmse),
        x_type="log",
        y_type="log",
    )
    for index, k in enumerate(shown):
        error = ds.rmse.sel(order=k)
        # From the finest grid back over the half of the grids that the slope is taken from.
        far = ds.cells[len(ds.cells) // 2 :]
        theme.add_theory(fig, far, float(error[-1]) * (far / far[-1]) ** -(k + 1.0), "")
        theme.add_measurement(fig, ds.cells, error, f"order {k}", index=index, markers=True)
    fig.update_xaxes(tickmode="array", tickvals=ds.cells.values, ticktext=[str(n) for n in ds.cells.values])
    return fig


def _places(widths: list[int]) -> list[tuple[float, float]]:
    """Positions of the nodes of all layers, inputs at the bottom."""
    return [(n - (w - 1) / 2, 2.0 * row) for row, w in enumerate(widths) for n in range(w)]


def plot_network(ds: xr.Dataset, *, title: str = "", formulas: bool = True) -> Figure:
    """Plot a network as a graph, with the learnt function on each edge; the darker and thicker, the more it matters.

    All curves of a layer have one vertical scale, so that an edge that does little is flat.
    Takes what `experiments.network_graph` returns.
    """
    widths = [int(w) for w in np.atleast_1d(ds.attrs["widths"])]
    inputs = [str(name) for name in np.atleast_1d(ds.attrs["inputs"])]
    places = _places(widths)
    first = np.concatenate([[0], np.cumsum(widths)])
    kept = [e for e in range(ds.sizes["edge"]) if str(ds.form[e].item()) != "pruned"]
    shape = ", ".join(map(str, widths))
    forms = sorted({str(f) for f in ds.form.values if f and f != "pruned"})
    most = int(np.argmax(ds.score.values))
    strong = int((ds.score.values[kept] >= 0.05 * ds.score.values.max()).sum()) if kept else 0
    carried = f"{strong} of its {len(kept)} curves carry" if strong < len(kept) else f"all its {strong} curves carry"
    fig = theme.figure(
        title=title or f"A network [{shape}]: {carried} the output",
        subtitle="On each edge its function, one scale per layer; the darker and thicker, the more of the output depends on it",
        alt=f"A graph of widths [{shape}], inputs {', '.join(inputs)} at the bottom and the output on top. On each of its "
        f"{len(kept)} edges the function that the edge applies is drawn as a small curve"
        + (f"; fixed to formulas: {', '.join(forms)}" if forms else "")
        + f". The most important edge runs from node {int(ds.source[most])} of layer {int(ds['layer'][most])}.",
        height=150 + 150 * len(ds.attrs["widths"]),
    )
    top = float(ds.score.max()) or 1.0
    # The curves of a layer stand in a row, so that none lies over another, and each edge runs through its own.
    for layer in range(len(widths) - 1):
        row = [e for e in kept if int(ds["layer"][e]) == layer]
        row.sort(
            key=lambda e: places[first[layer] + int(ds.source[e])][0] + places[first[layer + 1] + int(ds.target[e])][0]
        )
        wide = max(max(widths), len(row) * 0.62)
        tall = max((float(np.ptp(ds.value[e].values)) for e in row), default=0.0) or 1.0
        for place, edge in enumerate(row):
            source, target = (
                places[first[layer] + int(ds.source[edge])],
                places[first[layer + 1] + int(ds.target[edge])],
            )
            x0 = (place + 0.5) / len(row) * wide - wide / 2 if len(row) > 3 else (source[0] + target[0]) / 2
            y0, half = 2.0 * layer + 1, 0.22
            x, y = ds.position[edge].values, ds.value[edge].values
            span_x = float(np.ptp(x)) or 1.0
            fig.add_shape(
                type="rect", x0=x0 - half, x1=x0 + half, y0=y0 - 0.36, y1=y0 + 0.36, fillcolor=theme.CARD, layer="below",
                line={"color": theme.GRID, "width": 1},
            )  # fmt: skip
            tone = theme.time_color(min(1.0, float(ds.score[edge]) / top))
            theme.add_measurement(
                fig, [source[0], x0, np.nan, x0, target[0]], [source[1], y0 - 0.36, np.nan, y0 + 0.36, target[1]], "",
                shade=tone,
            )  # fmt: skip
            fig.data[-1].update(line={"width": 1.3}, name="", hoverinfo="skip")
            across, up = (x - x.min()) / span_x - 0.5, (y - (y.max() + y.min()) / 2) / tall
            theme.add_measurement(fig, x0 + 1.8 * half * across, y0 + 0.62 * up, "", shade=tone)
            fig.data[-1].line.width = 1.4 + 1.8 * min(1.0, float(ds.score[edge]) / top)
            fig.data[
                -1
            ].name = f"edge from node {int(ds.source[edge])} to node {int(ds.target[edge])} of the next layer"
            form = str(ds.form[edge].item())
            if form and formulas:
                fig.add_annotation(
                    x=x0 - half, y=y0 + 0.36, text=form, showarrow=False, xanchor="left", yanchor="bottom",
                )  # fmt: skip
    xs, ys = zip(*places, strict=True)
    theme.add_data(fig, xs, ys, "nodes", size=13)
    for n, name in enumerate(inputs):
        fig.add_annotation(x=places[n][0], y=0, text=name, showarrow=False, yshift=-18)
    fig.add_annotation(
        x=places[-1][0], y=places[-1][1], text="output" if widths[-1] == 1 else "", showarrow=False, yshift=16
    )
    reach = max(
        max(widths) / 2,
        0.31 * max(len([e for e in kept if int(ds["layer"][e]) == n]) for n in range(len(widths) - 1)),
        1.2,
    )
    fig.update_xaxes(visible=False, range=[-reach - 0.2, reach + 0.2])
    fig.update_yaxes(visible=False, range=[-0.45, 2 * (len(widths) - 1) + 0.45])
    fig.update_layout(margin={"l": 20, "r": 20, "b": 20})
    return fig


def plot_extension(ds: xr.Dataset) -> Figure:
    """Plot training and test errors of networks whose grid is refined again and again."""
    best = float(ds.test.median("seed").min())
    spread = float((ds.test.max("seed") / ds.test.min("seed")).median())
    band = "the band from the best to the worst" if spread > 1.05 else "which all but coincide"
    fig = theme.figure(
        title="Each finer grid is a step down, until the data run out",
        subtitle=f"Cells of the grid above the steps; {ds.sizes['seed']} seeds, {band}",
        alt="Training and test error against the training step, on a logarithmic axis: a staircase that falls at each "
        f"extension of the grid, from {int(ds.stage[0])} to {int(ds.stage[-1])} cells. The median test error is lowest at "
        f"{best:.2g} and ends at {float(ds.test.median('seed')[-1]):.2g}; the training error ends at "
        f"{float(ds.train.median('seed')[-1]):.2g}.",
        x=axis_title(ds.step),
        y="Error (RMSE)",
        y_type="log",
    )
    for index, name in enumerate(("train", "test")):
        part = ds[name]
        theme.add_measurement(
            fig, ds.step, part.median("seed"), "training" if name == "train" else name, low=part.min("seed"),
            high=part.max("seed"), index=index,
        )  # fmt: skip
    fig.update_layout(margin={"t": 96})
    starts = np.flatnonzero(np.diff(ds["cells"].values, prepend=0))
    for start in starts:
        if start:
            fig.add_vline(x=float(start), line={"color": theme.GRID, "width": 1})
        fig.add_annotation(
            x=float(start), y=1, yref="paper", text=f"{int(ds['cells'][start])}", showarrow=False, xanchor="left",
            yanchor="bottom", font={"color": theme.MUTED, "size": 12},
        )  # fmt: skip
    return fig


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def plot_scaling(ds: xr.Dataset) -> Figure:
    """Plot test errors against numbers of parameters, for KANs and for perceptrons of two to four layers.

    Bands are drawn for the KAN and for the best perceptron of the largest size.
    """
    median = ds.rmse.median("seed")
    sizes = ds.parameters
    ends = {str(n): float(median.sel(network=n)[-1]) for n in ds.network.values}
    kan = str(ds.network.values[0])
    rest, best = min((v, n) for n, v in ends.items() if n != kan)
    fig = theme.figure(
        title=f"At {int(sizes[0, -1])} parameters the KAN's error is {_times(rest / ends[kan])} times smaller",
        subtitle=f"Widths {ds.attrs['widths']}, the target's own shape; {ds.sizes['seed']} seeds, bands from best to worst",
        alt="Test error against the number of parameters, both on logarithmic axes. The KAN's line falls steeply; those of "
        "perceptrons with two to four layers fall slowly. Medians at the largest size: "
        + ", ".join(f"{n} {v:.2g}" for n, v in ends.items())
        + ".",
        x=axis_title(sizes),
        y=axis_title(ds.rmse),
        x_type="log",
        y_type="log",
    )
    for index, name in enumerate(ds.network.values):
        part = ds.rmse.sel(network=name)
        order = np.argsort(sizes.sel(network=name).values)
        band = {"low": part.min("seed")[order], "high": part.max("seed")[order]} if name in (kan, best) else {}
        theme.add_measurement(
            fig, sizes.sel(network=name)[order], median.sel(network=name)[order], str(name), index=index, markers=True, **band
        )  # fmt: skip
    middle = ds.sizes["size"] // 2
    line = sizes[0] / float(sizes[0, middle])
    theme.add_theory(fig, sizes[0], float(median.sel(network=kan)[middle]) * line**-4.0, "slope −4")
    return fig


def plot_poisson(ds: xr.Dataset) -> Figure:
    """Plot where both networks miss the solution of Poisson's equation, and by how much."""
    last = ds.isel(cells=-1)
    medians = {str(n): float(last.error.sel(network=n).median()) for n in ds.network.values}
    sizes = {str(n): int(last.parameters.sel(network=n)) for n in ds.network.values}
    low, high = sorted(medians, key=lambda n: medians[n])
    fig = theme.figure(
        title=f"Both solve it; the {low}'s error is {medians[high] / medians[low]:.2g} times smaller",
        subtitle=f"The first of {ds.sizes['seed']} seeds, minus the exact solution; medians of all seeds in the headings",
        alt="Two maps of the square: the error of the solution of the first KAN and of the first perceptron. Median relative L2 "
        "errors: " + ", ".join(f"{n} {medians[n]:.2g} with {sizes[n]} parameters" for n in medians) + ".",
        height=420,
    )
    headings = [(f"{n}: {sizes[n]} parameters, error {medians[n]:.2g}", "x", "y") for n in medians]
    theme.columns(fig, *headings)
    for column, name in enumerate(medians, 1):
        missed = (ds.u.sel(network=name) - ds.truth).transpose("vertical", "horizontal")
        theme.add_heatmap(fig, missed, ds.horizontal, ds.vertical, title="error", signed=True, column=column)
        top = float(np.abs(ds.u - ds.truth).max())
        fig.data[-1].update(zmin=-top, zmax=top, showscale=column == 2)
    fig.data[-1].colorbar.title.update(side="top")
    return fig


def plot_rediscovery(ds: xr.Dataset) -> Figure:
    """Plot the exponents read off noisy orbits, beside Kepler's."""
    away = np.abs(ds.exponent - xr.DataArray(list(ds.attrs["exact"]), dims="quantity")).max(("quantity", "seed"))
    worst, level = float(away.max()), float(away.idxmax("noise"))
    fig = theme.figure(
        title=f"Noise moves the exponents: by up to {worst:.2g} at {100 * level:g}%",
        subtitle=f"One dot per draw, {ds.sizes['seed']} draws; dashed: Kepler's exponents 3/2 and -1/2",
        alt="Exponents of the formulas found, against the relative noise on the periods: for the semi-axis near 1.5, for the "
        f"mass near -0.5, scattering more with more noise; the largest distance is {worst:.2g}.",
    )
    theme.columns(
        fig,
        *[(f"of the {q}", axis_title(ds.noise), axis_title(ds.exponent)) for q in ds.quantity.values],
    )
    steps = np.arange(ds.sizes["noise"])
    for column, quantity in enumerate(ds.quantity.values, 1):
        exact = float(ds.attrs["exact"][column - 1])
        theme.add_theory(fig, [-0.4, len(steps) - 0.6], [exact, exact], "", column=column)
        part = ds.exponent.sel(quantity=quantity)
        where = steps[:, None] + 0.12 * np.linspace(-1, 1, ds.sizes["seed"])
        theme.add_data(
            fig, where.ravel(), part.values.ravel(), "found", tone=theme.color(column - 1), size=9, column=column
        )
        number = "" if column == 1 else "2"
        fig.layout[f"xaxis{number}"].update(tickvals=steps, ticktext=[f"{100 * v:g}%" for v in ds.noise.values])
        # The same span on both, so that the eye may compare.
        fig.layout[f"yaxis{number}"].update(range=[exact - 1.15 * worst - 0.01, exact + 1.15 * worst + 0.01])
    return fig


# ------------------------------------------------------------------------------------------------------ the wrong tool


def plot_noise_and_size(ds: xr.Dataset) -> Figure:
    """Plot test errors against the number of parameters for each level of noise, of KANs and perceptrons."""
    median = ds.rmse.median("seed")
    noisy = median.isel(noise=-1)
    fig = theme.figure(
        title="With noise on the targets, finer grids fit the noise",
        subtitle=f"Errors against the function without noise; {ds.attrs['num_points']} points, {ds.sizes['seed']} seeds",
        alt="Test error against the number of parameters, both logarithmic, one panel per level of noise. "
        + " ".join(
            f"At noise {float(n):g}: " + ", ".join(
                f"{k} from {float(median.sel(network=k, noise=n)[0]):.2g} to {float(median.sel(network=k, noise=n)[-1]):.2g}"
                for k in ds.network.values
            ) + "."
            for n in ds.noise.values
        )
        + f" At the most noise and the finest grid the KAN is at {float(noisy.isel(network=0)[-1]):.2g}.",
        y_type="log",
        x_type="log",
    )  # fmt: skip
    theme.columns(
        fig,
        *[
            (f"noise {float(n):g}", axis_title(ds.parameters), axis_title(ds.rmse) if not i else "")
            for i, n in enumerate(ds.noise.values)
        ],
        gap=0.13,
    )
    for column, level in enumerate(ds.noise.values, 1):
        for index, name in enumerate(ds.network.values):
            part = ds.rmse.sel(network=name, noise=level)
            theme.add_measurement(
                fig, ds.parameters.sel(network=name), part.median("seed"), str(name), low=part.min("seed"),
                high=part.max("seed"), index=index, markers=True, column=column,
            )  # fmt: skip
    low, high = np.log10(float(ds.rmse.min())), np.log10(float(ds.rmse.max()))
    fig.update_yaxes(range=[low - 0.2, high + 0.2], tickmode="linear", dtick=1, tickvals=None, ticktext=None)
    fig.update_xaxes(tickmode="array", tickvals=[20, 50, 150], ticktext=["20", "50", "150"])
    return fig


def plot_dimensions(ds: xr.Dataset) -> Figure:
    """Plot test errors on functions that a perceptron made, against the number of inputs."""
    median = ds.rmse.median("seed")
    last = int(ds.dimension[-1])
    fig = theme.figure(
        title="On functions made by a perceptron, the perceptron wins",
        subtitle=f"Equal parameters, {ds.attrs['num_points']} points, {ds.sizes['seed']} functions; 1 is predicting the mean",
        alt="Test error against the number of inputs, on a logarithmic axis. "
        + " ".join(
            f"{n}: " + ", ".join(f"{float(v):.2g}" for v in median.sel(network=n)) + "." for n in ds.network.values
        )
        + f" The KAN is at {float(median.isel(network=0)[-1]):.2g} with {last} inputs.",
        x=axis_title(ds.dimension),
        y="Test RMSE / target's SD",
        y_type="log",
    )
    for index, name in enumerate(ds.network.values):
        part = ds.rmse.sel(network=name)
        theme.add_measurement(
            fig, ds.dimension, part.median("seed"), str(name), low=part.min("seed"), high=part.max("seed"), index=index,
            markers=True,
        )  # fmt: skip
    fig.update_xaxes(tickvals=ds.dimension.values)
    return fig


def plot_clock(ds: xr.Dataset) -> Figure:
    """Plot test errors against the time spent in training, of a KAN and a perceptron of equal size."""
    times = {str(n): float(ds.step_time.sel(network=n)) for n in ds.network.values}
    last = {str(n): float(ds.error.sel(network=n)[-1]) for n in ds.network.values}
    ratio = times["KAN"] / times["MLP"]
    ahead, behind = sorted(last, key=lambda n: last[n])
    fig = theme.figure(
        title=f"After {float(ds.elapsed.max()):.2g} s the {ahead} is ahead: {last[ahead]:.2g} against {last[behind]:.2g}",
        subtitle=f"A KAN's step takes {ratio:.1f} times as long; Adam, about equal parameters, one run each; this machine's times",
        alt="Test error against seconds of training, on a logarithmic axis. At the end "
        + ", ".join(f"{n} {v:.2g} ({times[n]:.2f} ms a step)" for n, v in last.items())
        + ".",
        x=axis_title(ds.elapsed),
        y=axis_title(ds.error),
        y_type="log",
    )
    for index, name in enumerate(ds.network.values):
        theme.add_measurement(fig, ds.elapsed.sel(network=name), ds.error.sel(network=name), str(name), index=index)
    return fig


def plot_real(ds: xr.Dataset) -> Figure:
    """Plot the errors of all models on real data, one dot per split."""
    mean = ds.rmse.mean("split")
    names = [str(m) for m in ds.model.values]
    low = str(mean.idxmin("model").item())
    gain = paired_interval(ds.rmse.sel(model="ridge regression") - ds.rmse.sel(model=low))
    fig = theme.figure(
        title=f"{low}: {gain.mean:.3f} better than a linear model"
        if gain.low > 0
        else "No model is reliably better than a linear one",
        subtitle=f"One dot per split ({ds.sizes['split']}); {ds.attrs['num_train']} samples to learn from; parameters in brackets",
        alt="Test error of each model, one dot per split. Means: "
        + ", ".join(f"{m} {float(mean.sel(model=m)):.3f}" for m in names)
        + ".",
        x="Test RMSE / target's SD",
        height=340,
    )
    for place, name in enumerate(names):
        row = len(names) - 1 - place
        spread = row + 0.14 * np.linspace(-1, 1, ds.sizes["split"])
        tone = theme.color(0) if name.startswith("KAN") else theme.BASELINE
        theme.add_data(fig, ds.rmse.sel(model=name), spread, name, tone=tone, size=9)
        fig.data[-1].marker.symbol = "circle" if name.startswith("KAN") else "diamond"
    text = [f"{n} ({int(ds.parameters.sel(model=n)):,})" for n in names[::-1]]
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=text, range=[-0.6, len(names) - 0.4], showgrid=False)
    return fig


def plot_real_curves(ds: xr.Dataset, num: int = 4) -> Figure:
    """Plot the curves of the features that matter most to a KAN [d, 1]: what it adds up."""
    size = np.ptp(ds.curve.values, axis=1)
    chosen = np.argsort(-size)[:num]
    names = [str(ds.feature.values[n]) for n in chosen]
    fig = theme.figure(
        title="The whole model can be read: it is a sum of these curves",
        subtitle=f"KAN [{ds.sizes['feature']}, 1] on the first split, the {len(chosen)} features with the largest range",
        alt="Curves of contribution against the standardised feature, for "
        + ", ".join(f"{name} (range {size[n]:.2f})" for name, n in zip(names, chosen, strict=True))
        + ".",
        x=axis_title(ds.position),
        y=axis_title(ds.curve),
    )
    for index, n in enumerate(chosen):
        theme.add_measurement(fig, ds.position[n], ds.curve[n], names[index], index=index)
    fig.update_layout(margin={"r": 70})
    return fig


# -------------------------------------------------------------------------------- counterparts and learnt activations


def _dots_by_seed(fig: Figure, values: xr.DataArray, rows: str, labels: dict[str, str] | None = None) -> Figure:
    """Draw one dot per seed in one row for each entry of `rows`, the first on top; the first four rows differ in colour."""
    names = [str(name) for name in values[rows].values]
    for place, name in enumerate(names):
        row = len(names) - 1 - place
        kind = min(place, 3)
        spread = row + 0.14 * np.linspace(-1, 1, values.sizes["seed"])
        theme.add_data(fig, values.isel({rows: place}), spread, name, tone=theme.color(kind), size=9)
        fig.data[-1].marker.symbol = theme.MARKERS[kind]
    text = [(labels or {}).get(name, name) for name in names[::-1]]
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=text, range=[-0.6, len(names) - 0.4], showgrid=False)
    return fig


def plot_periodic(ds: xr.Dataset, networks: tuple[str, ...] = ("ReLU", "tanh", "Snake, a = 3")) -> Figure:
    """Plot a wave, what networks make of it beyond the interval they were trained on, and its true course."""
    shown = [n for n in networks if n in ds.network.values]
    reach, zero = float(ds.attrs["reach"]), float(ds.attrs["zero_error"])
    medians = {n: float(ds.error.median("seed").sel(network=n)) for n in shown}
    fig = theme.figure(
        title="All fit the interval; beyond it each goes on as its activation does",
        subtitle=f"Trained where |x| ≤ {reach:g}, {ds.sizes['seed']} seeds, the first one drawn; predicting zero costs {zero:.2g}",
        alt=f"A wave between -{2 * reach:g} and {2 * reach:g}, dashed, and the output of {len(shown)} networks trained on the "
        "middle half. Median errors outside: " + ", ".join(f"{n} {v:.2g}" for n, v in medians.items()) + ".",
        x=axis_title(ds.position),
        y="Output",
    )
    theme.add_theory(fig, ds.position, ds.target, "signal")
    size = float(np.abs(ds.target).max())
    middle = ds.sizes["position"] // 2
    for index, name in enumerate(shown):
        curve = ds.prediction.sel(network=name)
        # Up to where it leaves the frame, so that its label stands inside.
        out = np.flatnonzero(np.abs(curve.values) > 2.8 * size)
        first = max([0, *(out[out < middle] + 1)])
        last = min([ds.sizes["position"], *out[out > middle]])
        theme.add_measurement(fig, ds.position[first:last], curve[first:last], name, index=index)
    fig.update_yaxes(range=[-3 * size, 3 * size])
    fig.add_vrect(x0=-reach, x1=reach, fillcolor=theme.GRID, opacity=0.5, line_width=0, layer="below")
    fig.update_layout(margin={"r": 110})
    return fig


def _snake_title(ds: xr.Dataset) -> str:
    """Say which of Snake's a continue the wave, and which fails most."""
    snakes = [n for n in ds.network.values if str(n).startswith("Snake, ")]
    if not snakes:
        return "Beyond the interval each network goes on as its activation does"
    failed = (ds.error.sel(network=snakes) > 0.5 * float(ds.attrs["zero_error"])).sum("seed")
    worst = str(failed.idxmax("network").item())
    most, seeds = int(failed.max()), ds.sizes["seed"]
    if not most:
        return "Snake continues the wave with every a that was tried"
    value = worst.removeprefix("Snake, ")
    return f"How well Snake does depends on a: with {value} it fails in {most} of {seeds} seeds"


def plot_periodic_errors(ds: xr.Dataset) -> Figure:
    """Plot the errors beyond the interval, one dot per seed, beside what predicting zero costs."""
    median = ds.error.median("seed")
    best = str(median.idxmin("network").item())
    zero = float(ds.attrs["zero_error"])
    fig = theme.figure(
        title=_snake_title(ds),
        subtitle=f"One dot per seed; grey line: the cost of predicting zero, {zero:.2g}; above half of it counts as a failure",
        alt="Mean squared error beyond the interval on a logarithmic axis, one row a network, one dot per seed. Medians: "
        + ", ".join(f"{n} {float(median.sel(network=n)):.2g}" for n in ds.network.values)
        + f". The lowest is {best}.",
        x=axis_title(ds.error),
        x_type="log",
        height=320,
    )
    _dots_by_seed(fig, ds.error, "network")
    for trace, name in zip(fig.data, ds.network.values, strict=True):
        snake = str(name).startswith("Snake")
        trace.marker.update(color=theme.color(0) if snake else theme.BASELINE, symbol="circle" if snake else "diamond")
    theme.add_baseline(fig, [zero, zero], [-0.6, ds.sizes["network"] - 0.4], "")
    return fig


def plot_sharp(ds: xr.Dataset, target: str | None = None) -> Figure:
    """Plot a sharp function near its jump, and what tanh and Cauchy units make of it."""
    name = str(ds.target.values[0]) if target is None else target
    one = ds.sel(target=name)
    near = np.abs(ds.position.values) <= 0.3
    medians = {str(a): float(one.error.sel(activation=a).median()) for a in ds.activation.values}
    lower = min(medians, key=lambda a: medians[a])
    fig = theme.figure(
        title=f"{lower} units draw the jump with the smaller error",
        subtitle=f"{name}, dashed; {ds.attrs['width']} hidden units each, the first of {ds.sizes['seed']} seeds",
        alt=f"The target {name} near zero, dashed, and the outputs of two networks. Median test errors: "
        + ", ".join(f"{a} {v:.2g}" for a, v in medians.items())
        + ".",
        x=axis_title(ds.position),
        y="Output",
    )
    theme.add_theory(fig, ds.position[near], one.signal[near], "")
    for index, activation in enumerate(ds.activation.values):
        curve = one.prediction.sel(activation=activation)[near]
        theme.add_measurement(fig, ds.position[near], curve, str(activation), index=index)
    fig.update_layout(margin={"r": 80})
    return fig


def plot_heat(ds: xr.Dataset) -> Figure:
    """Plot the relative errors of the heat equation's solutions, one dot per seed."""
    medians = {str(a): float(ds.error.sel(activation=a).median()) for a in ds.activation.values}
    low, high = sorted(medians, key=lambda a: medians[a])
    fig = theme.figure(
        title=f"Heat equation: {high} ends with {medians[high] / medians[low]:.2g} times the error of {low}",
        subtitle=f"Start: sines of {ds.attrs['modes']} half-waves; {ds.attrs['width']} hidden units; one dot per seed",
        alt="Relative L2 error of the solution, one dot per seed. Medians: "
        + ", ".join(f"{a} {v:.2g}" for a, v in medians.items())
        + ".",
        x=axis_title(ds.error),
        x_type="log",
        height=260,
    )
    _dots_by_seed(fig, ds.error, "activation")
    # Less than a decade: a tick at 1, 2 and 5 of each.
    fig.update_xaxes(dtick="D2")
    return fig


def plot_disc(ds: xr.Dataset) -> Figure:
    """Plot the disc as the best network of three kinds draws it."""
    shown = ["quadratic", "ReLU", "squaring"]
    best = {n: float(ds.error.sel(network=n).min()) for n in shown}
    size = {n: int(ds.num_parameters.sel(network=n)) for n in shown}
    how = "exactly" if best["quadratic"] < 1e-6 else f"with an error of {best['quadratic']:.1g}"
    fig = theme.figure(
        title=f"Quadratic neurons draw the dome {how}; ReLU cuts it with straight edges",
        subtitle="The best seed of each, and its mean squared error; sizes: "
        + ", ".join(f"{size[n]}" for n in shown)
        + " parameters",
        alt="Three maps of the plane. Mean squared errors on new points: "
        + ", ".join(f"{n} {best[n]:.2g} with {size[n]} parameters" for n in shown)
        + ".",
    )
    theme.columns(
        fig,
        *[(f"{n}: {best[n]:.1g}", axis_title(ds["first"]), "Second input") for n in shown],
    )
    for column, name in enumerate(shown, 1):
        picture = ds.prediction.sel(network=name).transpose("second", "first")
        theme.add_heatmap(fig, picture, ds["first"], ds["second"], title="output", column=column)
        fig.data[-1].update(zmin=0.0, zmax=float(ds.signal.max()), showscale=column == len(shown))
        number = "" if column == 1 else str(column)
        # A circle is to look like one.
        fig.layout[f"yaxis{number}"].update(scaleanchor=f"x{number}", constrain="domain")
        fig.layout[f"xaxis{number}"].update(constrain="domain")
    fig.data[-1].colorbar.title.update(side="top")
    return fig


def plot_deep(ds: xr.Dataset) -> Figure:
    """Plot the training of deep quadratic networks as ReLinear does it; say what became of the random starts."""
    failed = {str(s): int((ds.relative_error.sel(start=s) >= 0.9).sum()) for s in ds.start.values}
    num = ds.sizes["seed"]
    overflowed = int((ds.start_error.sel(start="random") >= 1e30).sum())
    history = ds.history.sel(start="ReLinear")
    fig = theme.figure(
        title=f"Of {num} random starts {num - failed['random']} train; with ReLinear {num - failed['ReLinear']} of {num} do",
        subtitle=f"{ds.attrs['depth']} hidden layers of {ds.attrs['width']} quadratic neurons; an error of 1 is that of a constant",
        alt="Training error / the target's variance against the step, on a logarithmic axis. "
        f"{failed['random']} of {num} runs from a random start are not finite or not better than a constant, {overflowed} of them "
        f"not finite before the first step; with ReLinear {failed['ReLinear']}, and the median ends at "
        f"{float(ds.relative_error.sel(start='ReLinear').median()):.2g}.",
        x=axis_title(ds.step),
        y=axis_title(ds.history),
        y_type="log",
    )
    theme.add_measurement(
        fig, ds.step, history.median("seed"), "ReLinear", low=history.min("seed"), high=history.max("seed")
    )
    theme.add_baseline(fig, [0, int(ds.step[-1])], [1.0, 1.0], "a constant")
    fig.add_annotation(
        xref="paper", x=0.5, yref="paper", y=0.97, showarrow=False, xanchor="center", yanchor="top",
        text=f"random start: not finite before the first step in {overflowed} of {num} seeds",
    )  # fmt: skip
    low = np.log10(max(float(history.min()), 1e-12))
    fig.update_yaxes(range=[np.floor(low), 1.0])
    fig.update_layout(margin={"r": 120})
    return fig


def plot_arithmetic(ds: xr.Dataset) -> Figure:
    """Plot the weights of an arithmetic unit for each task, beside the inputs that the task is made of."""
    tasks = [str(t) for t in ds.task.values]
    worst = {t: float(ds.distance.sel(task=t).max()) for t in tasks}
    fig = theme.figure(
        title="Whole weights say which inputs are used"
        + ("; in series they are not reached" if worst[tasks[-1]] > 0.01 else ""),
        subtitle=f"One dot per seed ({ds.sizes['seed']}); dashes: exact weights; on the right those of the first sum",
        alt="Weights of the unit against the number of the input, for a sum, for a product, and for the first sum of a product "
        "of sums. Largest distances from whole numbers: " + ", ".join(f"{t} {v:.2g}" for t, v in worst.items()) + ".",
    )
    theme.columns(
        fig,
        ("NAU: x₁ + x₂ - x₃ + x₄", axis_title(ds.input), "Weight"),
        ("NMU: x₁ x₂ x₃", axis_title(ds.input), "Weight"),
        ("in series: the first sum", axis_title(ds.input), "Weight"),
    )
    exact = {"sum": [1, 1, -1, 1], "product": [1, 1, 1]}
    for column, task in enumerate(tasks, 1):
        truth = np.zeros(ds.sizes["input"])
        truth[: len(exact.get(task, []))] = exact.get(task, [])
        # Which of the two sums comes first is the unit's choice.
        for dash in (truth, 1 - truth) if task not in exact else (truth,):
            theme.add_data(fig, ds.input, dash, "exact", size=9, column=column)
            fig.data[-1].marker.update(symbol="line-ew-open", line={"width": 2, "color": theme.INK})
        weight = ds.weight.sel(task=task)
        where = np.broadcast_to(ds.input.values, weight.shape).ravel()
        theme.add_data(fig, where, weight.values.ravel(), task, tone=theme.color(column - 1), column=column)
    fig.update_xaxes(tickvals=ds.input.values)
    return fig


def plot_arithmetic_errors(ds: xr.Dataset) -> Figure:
    """Plot errors on the larger range, of the arithmetic units and of a ReLU MLP, by task."""
    median = ds.error.median("seed")
    labels, rows = [], []
    for task in ds.task.values:
        for network in ds.network.values:
            labels.append(f"{task}: {network}")
            rows.append(ds.error.sel(task=task, network=network).values.clip(1e-16))
    series = ds.sel(task=str(ds.task.values[-1]), network=str(ds.network.values[0]))
    good = int(((series.error < 1e-3) & (series.distance <= 0.01)).sum())
    fig = theme.figure(
        title=f"Single units extrapolate to rounding; in series {good} of {ds.sizes['seed']} do",
        subtitle=f"Trained on {ds.attrs['train_range']}, tested on {ds.attrs['test_range']}; one dot per seed",
        alt="Mean squared error on the larger range, on a logarithmic axis, one dot per seed. Medians: "
        + ", ".join(
            f"{t}, {n} {float(median.sel(task=t, network=n)):.2g}" for t in ds.task.values for n in ds.network.values
        )
        + ".",
        x=axis_title(ds.error),
        x_type="log",
        height=340,
    )
    for place, (label, values) in enumerate(zip(labels, rows, strict=True)):
        spread = len(rows) - 1 - place + 0.14 * np.linspace(-1, 1, len(values))
        theme.add_data(fig, values, spread, label, tone=theme.color(place % 2), size=9)
        fig.data[-1].marker.symbol = theme.MARKERS[place % 2]
    fig.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=labels[::-1], range=[-0.6, len(rows) - 0.4], showgrid=False
    )
    fig.update_xaxes(dtick=3, tickangle=0)
    return fig


def plot_duplicates(ds: xr.Dataset) -> Figure:
    """Plot which activations are fitted by which, exactly in both directions or in one."""
    fits = ds.error.values <= 1e-6
    both = fits & fits.T
    np.fill_diagonal(both, False)
    one = ds.one_way.values
    taken = both.any(1)
    names = ds.activation.values[taken]
    z = np.where(both, 2.0, np.where(one, 1.0, 0.0))[np.ix_(taken, taken)]
    pairs = int(both.sum() // 2)
    fig = theme.figure(
        title=f"{len(ds.activation)} names, {pairs} pairs that are one function",
        subtitle=f"The {len(names)} with a twin. Dark: each fits the other (10⁻⁶); light: only the column fits the row",
        alt=f"A map of {len(names)} activations by themselves, those that coincide with at least one other. {pairs} pairs fit "
        f"each other exactly: {', '.join(str(p) for p in ds.pair.values[:6])}, and so on. Of all {len(ds.activation)} names "
        f"{int(one.sum())} fits work in one direction only, steps aside.",
        x="Function that fits",
        y="Function that is fitted",
        height=640,
    )
    theme.add_heatmap(fig, z, names, names)
    fig.data[-1].update(showscale=False, name="fit")
    # Names on an axis of numbers are not drawn at all.
    fig.update_xaxes(type="category", tickangle=-60, dtick=1, tickfont={"size": 11})
    fig.update_yaxes(type="category", autorange="reversed", dtick=1, tickfont={"size": 11})
    fig.update_layout(margin={"t": 100})
    return fig


def plot_slide(ds: xr.Dataset) -> Figure:
    """Plot what ELU becomes as the order of its Mittag-Leffler function falls."""
    near = (ds.position.values >= -5) & (ds.position.values <= 1)
    fig = theme.figure(
        title="One form slides from ELU to a fraction as its order α falls",
        subtitle="x E(min(x, 0)) with β = 1 + α; dashed: ELU itself",
        alt="Curves of the gated form against x for orders from 0, light, to 1, dark. For negative x "
        "the one of order 1 is ELU and levels off at -1; the one of order 0 is the fraction x/(1 - x), still at -0.83 at -5. "
        "For positive x all are straight lines.",
        x=axis_title(ds.position),
        y="Activation",
    )
    elu = ds.function.sel(activation="ELU")[near]
    for alpha in ds.alpha.values:
        label = f"α = {alpha:.1f}" if alpha in (ds.alpha.values[0], ds.alpha.values[-1]) else ""
        curve = ds.slide.sel(alpha=alpha)[near]
        theme.add_measurement(fig, ds.position[near], curve, "", shade=theme.time_color(float(alpha)))
        fig.data[-1].name = f"α = {alpha:.1f}"
        if label:
            fig.add_annotation(x=-5, y=float(curve[0]), text=label, showarrow=False, xanchor="right", xshift=-4)
    theme.add_theory(fig, ds.position[near], elu, "ELU")
    fig.update_xaxes(range=[-5.7, 1.1])
    fig.update_layout(margin={"r": 60})
    return fig


def plot_learnt_shapes(ds: xr.Dataset) -> Figure:
    """Plot the activation that each seed learnt, and the accuracies of all activations."""
    mean = ds.accuracy.mean("seed")
    names = [str(a) for a in ds.activation.values]
    learnt = [name for name in names if name.startswith("learnt from ")]
    best = float(mean.drop_sel(activation=learnt).max())
    gain = float(mean.sel(activation=learnt).max()) - best
    fig = theme.figure(
        title=f"The best learnt shape and the best fixed one differ by {100 * abs(gain):.1f} points",
        subtitle=f"Digits, {ds.attrs['num_train']} for training, {ds.sizes['seed']} seeds and splits",
        alt="Left: the activations learnt, one curve per seed, beside what they started from. Right: accuracy on test digits, "
        "one dot per seed. Means: "
        + ", ".join(f"{a} {float(mean.sel(activation=a)):.3f}" for a in ds.activation.values)
        + ".",
    )
    theme.columns(
        fig, ("Shapes learnt", "Input x", "Activation"), ("Accuracy on test digits", "Accuracy", ""), gap=0.27
    )
    for index, start in enumerate(ds.start.values):
        curves = ds["shape"].sel(start=start)
        theme.add_bundle(fig, ds.position, curves, f"learnt from {start}", shade=theme.color(index))
        theme.add_theory(fig, ds.position, ds.start_shape.sel(start=start), str(start))
    for row, name in enumerate(names):
        spread = row + 0.14 * np.linspace(-1, 1, ds.sizes["seed"])
        tone = theme.color(learnt.index(name)) if name in learnt else theme.BASELINE
        theme.add_data(fig, ds.accuracy.sel(activation=name), spread, name, tone=tone, column=2)
    fig.update_layout(yaxis2={"tickvals": list(range(len(names))), "ticktext": names})
    return fig


def plot_selectable(ds: xr.Dataset) -> Figure:
    """Plot each method's median error on each function, relative to the best method's."""
    median = ds.error.median("seed")
    ratio = median / median.min("network")
    worst = {str(m): float(ratio.sel(network=m).max()) for m in ds.network.values}
    wins = {str(m): int((ratio.sel(network=m) == 1).sum()) for m in ds.network.values}
    best = max(wins, key=lambda m: wins[m])
    fig = theme.figure(
        title=f"{best} has the smallest error on {wins[best]} of {ds.sizes['function']} functions",
        subtitle=f"Median error of {ds.sizes['seed']} seeds by the best one's; {int(ds.num_parameters[0])} parameters",
        alt="A map of networks by functions: how many times the best network's error each has. Worst ratios: "
        + ", ".join(f"{m} {v:.1f}" for m, v in worst.items())
        + ".",
        height=420,
    )
    table = np.log10(ratio.transpose("function", "network").values)
    theme.add_heatmap(fig, table, ds.network.values, ds.function.values, title="log₁₀ ratio")
    fig.update_xaxes(type="category")
    fig.update_yaxes(type="category", autorange="reversed")
    return fig
