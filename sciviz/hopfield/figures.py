"""Figures of the Hopfield wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.theme import Figure, axis_title

# One mark for each kind of fixed point, in every figure that shows them: colour is never the only carrier.
KIND_MARKS = {"single": "circle", "metastable": "diamond", "global": "square"}
KIND_NAMES = {"single": "one pattern", "metastable": "mean of some", "global": "mean of all"}


def _over_seeds(values: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the mean over seeds with the tenth and ninetieth percentile."""
    low, high = values.quantile([0.1, 0.9], "seed").values
    return values.mean("seed").values, low, high


def _measured(fig: Figure, x: Any, values: xr.DataArray, label: str, index: int = 0, **more: Any) -> Figure:
    mean, low, high = _over_seeds(values)
    return theme.add_measurement(fig, x, mean, label, low=low, high=high, index=index, markers=True, **more)


def plot_one_step(ds: xr.Dataset) -> Figure:
    """Plot the overlaps that the classical and the modern memory reach at the same load, one dot a seed."""
    names = (("classical_overlap", "classical, settled"), ("modern_overlap", "modern, one step"))
    means = [float(ds[name].mean()) for name, _ in names]
    fig = theme.figure(
        title=f"{ds.attrs['num_stored']:,} patterns in {ds.attrs['dimension']} dimensions: one memory drowns, one answers",
        subtitle=f"Cues with {100 * ds.attrs['flipped']:.0f}% of entries flipped; {ds.sizes['seed']} draws of the patterns",
        alt=f"Overlap with the right pattern, one dot a draw: the classical network ends at {means[0]:.2f} on average, the "
        f"modern memory at {means[1]:.3f} after a single step.",
        x="Overlap with the right pattern",
        height=260,
    )
    for row, (name, label) in enumerate(names):
        spread = row + 0.15 * np.linspace(-1, 1, ds.sizes["seed"])
        theme.add_data(fig, ds[name], spread, label, tone=theme.color(row), size=10)
        fig.data[-1].marker.symbol = theme.MARKERS[row]
    fig.update_yaxes(tickvals=[0, 1], ticktext=[label for _, label in names], range=[-0.6, 1.6])
    fig.update_xaxes(range=[-0.03, 1.05])
    fig.update_layout(margin={"r": 40})
    return fig


def plot_collapse(ds: xr.Dataset) -> Figure:
    """Plot what is left of a pattern in the classical network, against the load."""
    mean = ds.overlap.mean("seed").values
    critical = float(ds.attrs["critical_load"])
    fig = theme.figure(
        title="The classical network does not fade: it collapses",
        subtitle=f"N = {ds.attrs['size']} spins, {ds.sizes['seed']} draws, started at the pattern itself; mean-field "
        f"theory ends at {critical:.3f}",
        alt=f"Overlap with the pattern that the network started from, against patterns per spin: {mean[0]:.2f} at a load of "
        f"{float(ds['load'][0]):g}, {mean[-1]:.2f} at {float(ds['load'][-1]):g}. The dashed mean-field curve falls from "
        f"0.97 to nothing at {critical:.3f}; the finite network follows it with a rounded corner.",
        x=axis_title(ds["load"]),
        y=axis_title(ds.overlap),
    )
    theme.add_theory(fig, ds["load"], ds.theory, "mean field")
    fig.data[-1].update(line_shape="hv")
    _measured(fig, ds["load"], ds.overlap, "measured")
    fig.update_yaxes(range=[-0.05, 1.08])
    return fig


def plot_phases(ds: xr.Dataset) -> Figure:
    """Plot the classical network's phase diagram from its mean-field equations."""
    fig = theme.figure(
        title="Three phases: it remembers below the curves, and is a glass or nothing above",
        subtitle="Classical network, replica-symmetric mean field; all three lines are theory",
        alt="Temperature against load. The glass line rises from one. The retrieval line falls from one to zero at a load of "
        "0.138; below it patterns are valleys. The lowest line, ending near 0.05, bounds where they are the deepest valleys.",
        x=axis_title(ds["load"]),
        y="Temperature",
    )
    for name, label in (("glass", "spin glass below"), ("retrieval", "retrieves below"), ("dominant", "deepest below")):
        # A line ends where its temperature reaches zero.
        end = int((ds[name] > 0).sum()) + 1
        theme.add_theory(fig, ds["load"][:end], ds[name][:end], label)
        fig.data[-1].line.dash = {"glass": "dot", "retrieval": "dash", "dominant": "longdash"}[name]
    fig.update_layout(margin={"r": 150})
    return fig


def plot_dense_capacity(ds: xr.Dataset) -> Figure:
    """Plot how many patterns the dense network keeps, against its size."""
    order = int(ds.attrs["interaction"])
    mean = ds.capacity.mean("seed").values
    slope = float(np.polyfit(np.log(ds["size"].values), np.log(ds.capacity.values).mean(0), 1)[0])
    fig = theme.figure(
        title=f"Groups of {order} spins remember about N to the power {order - 1} patterns",
        subtitle=f"{ds.sizes['seed']} draws; fitted slope {slope:.2f}",
        alt=f"On log-log axes the number of patterns that the order-{order} network keeps rises from {mean[0]:,.0f} with "
        f"{int(ds['size'][0])} spins to {mean[-1]:,.0f} with {int(ds['size'][-1])}; slope {slope:.2f}. The dashed mean-field "
        f"line has slope {order - 1}.",
        x=axis_title(ds["size"]),
        y=axis_title(ds.capacity),
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds["size"], ds.theory, "mean field")
    return _measured(fig, ds["size"], ds.capacity, "measured")


def plot_modern_capacity(ds: xr.Dataset) -> Figure:
    """Plot how many patterns one modern step retrieves, against the dimension."""
    mean = ds.capacity.mean("seed").values
    rate = float(np.polyfit(ds.dimension.values, np.log(mean), 1)[0])
    fig = theme.figure(
        title="Each dimension multiplies the number of patterns by the same factor",
        subtitle=f"Retrieved in one step at β = {ds.attrs['beta']:g}; measured: a factor of {np.exp(rate):.2f} a dimension",
        alt=f"With a logarithmic vertical axis the patterns retrieved in one step rise along a straight line from "
        f"{mean[0]:,.0f} in {int(ds.dimension[0])} dimensions to {mean[-1]:,.0f} in {int(ds.dimension[-1])}. The dashed "
        f"number that theory guarantees lies far below, {float(ds.bound[-1]):.2g} at the end.",
        x=axis_title(ds.dimension),
        y=axis_title(ds.capacity),
        y_type="log",
    )
    theme.add_theory(fig, ds.dimension, ds.bound, "guaranteed")
    return _measured(fig, ds.dimension, ds.capacity, "measured")


def plot_retrieval_error(ds: xr.Dataset) -> Figure:
    """Plot the error of one update and its bound, against the inverse temperature."""
    fig = theme.figure(
        title="One step is enough: its error falls exponentially with β",
        subtitle=f"{ds.sizes['pattern']} patterns on the unit sphere, {ds.sizes['seed']} draws; cues {ds.attrs['noise']:g} away",
        alt="With a logarithmic vertical axis the distance from the right pattern after one step falls from "
        f"{float(ds.error.isel(beta=0).mean()):.2g} at beta {float(ds.beta[0]):g} to {float(ds.error.isel(beta=-1).mean()):.2g} "
        f"at beta {float(ds.beta[-1]):g}. The dashed bound lies above at each beta.",
        x=axis_title(ds.beta),
        y="Distance from the pattern",
        y_type="log",
    )
    theme.add_theory(fig, ds.beta, ds.bound.mean(["seed", "pattern"]), "bound")
    return _measured(fig, ds.beta, ds.error.mean("pattern"), "measured")


def plot_fixed_points(ds: xr.Dataset) -> Figure:
    """Plot which kind of fixed point patterns end in, against the inverse temperature."""
    best = int(ds.share.sel(kind="metastable").mean("seed").values.argmax())
    fig = theme.figure(
        title="Cooling down: first one mean of everything, then means of groups, then single patterns",
        subtitle=f"Clustered patterns, {ds.sizes['seed']} draw{'s' if ds.sizes['seed'] > 1 else ''}; where iterating from "
        "each pattern ends",
        alt="Share of patterns that end in each kind of fixed point, against beta on a logarithmic axis. At the smallest beta "
        f"{float(ds.share.sel(kind='global').mean('seed')[0]):.2f} end in the mean of all; around beta {float(ds.beta[best]):.2g} "
        f"{float(ds.share.sel(kind='metastable').mean('seed')[best]):.2f} end in a mean of some; at the largest "
        f"{float(ds.share.sel(kind='single').mean('seed')[-1]):.2f} in the pattern itself.",
        x=axis_title(ds.beta),
        y="Share of patterns",
        x_type="log",
    )
    for index, kind in enumerate(("global", "metastable", "single")):
        mean, low, high = _over_seeds(ds.share.sel(kind=kind))
        theme.add_measurement(fig, ds.beta, mean, "", low=low, high=high, index=index, markers=True)
        fig.data[-1].name = KIND_NAMES[kind]
        peak = int(np.flatnonzero(mean >= mean.max() - 1e-9).mean())
        fig.add_annotation(
            x=float(np.log10(ds.beta[peak])),
            y=1.03,
            text=KIND_NAMES[kind],
            showarrow=False,
            yanchor="bottom",
            font={"color": theme.text_color(theme.color(index)), "size": 13},
        )
    fig.update_yaxes(range=[-0.05, 1.18])
    fig.update_layout(margin={"r": 40})
    return fig


def plot_examples(ds: xr.Dataset) -> Figure:
    """Plot how well archetypes are recovered from noisy examples, for each order."""
    last = ds.overlap.isel(examples=-1).mean("seed")
    fig = theme.figure(
        title="With enough examples groups of four find what pairs cannot",
        subtitle=f"K = {ds.attrs['num_archetypes']} archetypes in N = {ds.attrs['size']} spins, quality r = "
        f"{ds.attrs['quality']:g}; {ds.sizes['seed']} draws",
        alt=f"Overlap with archetypes never seen, against examples of each. At {int(ds.examples[-1])} examples: "
        + ", ".join(f"{float(last.sel(interaction=n)):.2f} at order {int(n)}" for n in ds.interaction.values)
        + ".",
        x=axis_title(ds.examples),
        y=axis_title(ds.overlap),
        x_type="log",
    )
    for index, order in enumerate(ds.interaction.values):
        _measured(fig, ds.examples, ds.overlap.sel(interaction=order), f"order {int(order)}", index)
    fig.update_yaxes(range=[0, 1.05])
    return fig


def plot_multitasking(ds: xr.Dataset) -> Figure:
    """Plot all overlaps after one relaxation, against the dilution."""
    fig = theme.figure(
        title="Blank entries leave room: one relaxation, several patterns",
        subtitle=f"N = {ds.attrs['size']:,}; overlaps sorted; dashed: (1 − d) dᵏ",
        alt=f"Sorted overlaps with {ds.sizes['rank']} patterns against the share of blank entries. Without blanks the first is "
        "one and the others zero; with few blanks they follow the dashed geometric hierarchy; with very many they are equal.",
        x=axis_title(ds.dilution),
        y=axis_title(ds.overlap),
    )
    names = ("largest", "second", "third", "fourth")
    for rank in range(min(ds.sizes["rank"], 4)):
        theme.add_theory(fig, ds.dilution, ds.theory.isel(rank=rank), "")
        fig.data[-1].name = f"(1 − d) d^{rank}"
        mean, low, high = _over_seeds(ds.overlap.isel(rank=rank))
        theme.add_measurement(fig, ds.dilution, mean, "", low=low, high=high, index=rank, markers=True)
        fig.data[-1].name = f"{names[rank]} overlap"
        place = (2, 5, 4, 4)[rank] if ds.sizes["dilution"] > 6 else 0
        fig.add_annotation(
            x=float(ds.dilution[place]),
            y=float(mean[place]),
            text=names[rank],
            showarrow=False,
            yshift=16 if rank < 2 else -14,
            font={"color": theme.text_color(theme.color(rank)), "size": 13},
        )
    fig.update_layout(margin={"r": 40})
    return fig


def plot_false_matches(ds: xr.Dataset, threshold: int = 10) -> Figure:
    """Plot how often a segment matches by chance, against the length of the code."""
    at = ds.sel(threshold=threshold)
    rate = at.rate.mean("seed")
    seen = rate.values > 0
    fig = theme.figure(
        title="Longer codes make false matches vanish, even for a segment that holds ten patterns",
        subtitle=f"Threshold {threshold} of {ds.attrs['synapses']} synapses; {ds.sizes['seed']} draws; dots: simulated, dashed: "
        "predicted",
        alt=f"On log-log axes the rate of false matches falls with the code length from {float(at.predicted[0]):.2g} at "
        f"{int(ds.dimension[0])} bits to {float(at.predicted[-1]):.2g} at {int(ds.dimension[-1])}. Simulated dots lie on the "
        "dashed prediction as far as they can be counted. A union of ten patterns errs more often, and falls as well.",
        x=axis_title(ds.dimension),
        y="False-match rate",
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.dimension, at.predicted, "one pattern")
    theme.add_theory(fig, ds.dimension, ds.union_predicted, "union of ten")
    theme.add_data(fig, ds.dimension[seen], rate[seen], "one pattern, simulated", tone=theme.color(0), size=10)
    union = ds.union_rate.mean("seed")
    kept = union.values > 0
    theme.add_data(fig, ds.dimension[kept], union[kept], "union of ten, simulated", tone=theme.color(1), size=10)
    fig.data[-1].marker.symbol = theme.MARKERS[1]
    fig.update_layout(margin={"r": 130})
    return fig


def plot_sparsey(ds: xr.Dataset) -> Figure:
    """Plot how similar the codes of similar inputs are, and what a field knows after one pass."""
    rows = (("recognition", "stored items"), ("accuracy", "class, unseen"))
    said = ", ".join(
        f"{label} {float(ds[name].sel(input=kind).mean()):.2f} from {kind}"
        for name, label in rows
        for kind in ds.input.values
    )
    fig = theme.figure(
        title="Seen once, kept for good – if the input is sparse",
        subtitle=f"Digits, one presentation each, {ds.sizes['seed']} draws",
        alt="Left: overlap of the code drawn for a corrupted input with that of the stored item, against the overlap of the "
        f"inputs; it rises smoothly for sparse features. Right: share right after one presentation: {said}.",
        height=400,
    )
    theme.columns(
        fig,
        ("Similar inputs, similar codes", axis_title(ds.input_overlap), axis_title(ds.code_overlap)),
        ("What it knows after one pass", "Share right", ""),
        widths=(1.2, 1.0),
        gap=0.26,
    )
    short = {"sparse features": "sparse", "dense pixels": "dense"}
    for index, kind in enumerate(ds.input.values):
        curve = ds.code_overlap.sel(input=kind)
        _measured(fig, ds.input_overlap[::-1], curve.isel(input_overlap=slice(None, None, -1)), short[str(kind)], index)
        for row, (name, label) in enumerate(rows):
            # Sparse above dense, with a mark of its own.
            level = row + 0.15 * (1 - 2 * index) + 0.08 * np.linspace(-1, 1, ds.sizes["seed"])
            theme.add_data(
                fig, ds[name].sel(input=kind), level, f"{label}, {kind}", tone=theme.color(index), size=9, column=2
            )
            fig.data[-1].marker.symbol = theme.MARKERS[index]
    fig.layout.xaxis2.range = [-0.05, 1.08]
    fig.layout.yaxis2.update(
        tickmode="array", tickvals=[0, 1], ticktext=[label for _, label in rows], range=[-0.5, 1.5]
    )
    fig.update_layout(margin={"r": 24})
    return fig


def plot_bags(ds: xr.Dataset) -> Figure:
    """Plot the area under the ROC curve for each way of pooling, one dot a seed."""
    counts = [int(c) for c in ds.relevant.values]
    mean = ds.auc.mean("seed")
    fig = theme.figure(
        title="Pooling by retrieval wins where evidence is spread; elsewhere max is as good",
        subtitle=f"{ds.sizes['seed']} tasks, one dot each; bags of 40 instances",
        alt="Area under the ROC curve on unseen bags for three ways of pooling. "
        + " ".join(
            f"With {c} relevant instance{'s' if c > 1 else ''}: "
            + ", ".join(f"{p} {float(mean.sel(pooling=p, relevant=c)):.3f}" for p in ds.pooling.values)
            + "."
            for c in counts
        ),
        height=320,
    )
    panels = ((f"{c} relevant instance{'s' if c > 1 else ''}", "Area under the ROC curve", "") for c in counts)
    theme.columns(fig, *panels, gap=0.16)
    names = [str(p) for p in ds.pooling.values]
    for column, count in enumerate(counts, start=1):
        end = "" if column == 1 else str(column)
        for row, name in enumerate(names):
            spread = row + 0.2 * np.linspace(-1, 1, ds.sizes["seed"])
            values = ds.auc.sel(pooling=name, relevant=count)
            theme.add_data(
                fig, values, spread, f"{name}, {count} relevant", tone=theme.color(row), size=9, column=column
            )
            fig.data[-1].marker.symbol = theme.MARKERS[row]
        fig.layout[f"yaxis{end}"].update(
            tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4]
        )
    fig.update_layout(margin={"r": 30, "l": 90})
    return fig


def plot_hidden_digits(ds: xr.Dataset) -> Figure:
    """Plot how often each memory finds a digit of which a part is hidden, against the number stored."""
    most = int(ds.stored[-1])
    end = ds.found.isel(stored=-1).mean("seed")
    fig = theme.figure(
        title="Digits look alike, and that is what breaks the classical memory, not their number",
        subtitle=f"The lower {100 * ds.attrs['hidden']:.0f}% hidden; {ds.sizes['seed']} draws; 64 pixels; grey: dense, order 4",
        alt=f"Share of half-hidden digits found, against digits stored. At {most} stored: "
        + ", ".join(f"{name} {float(end.sel(memory=name)):.2f}" for name in ds.memory.values)
        + ".",
        x=axis_title(ds.stored),
        y=axis_title(ds.found),
        x_type="log",
    )
    index = 0
    for row, name in enumerate(ds.memory.values):
        values = ds.found.sel(memory=name)
        if str(name).startswith("dense"):
            theme.add_baseline(fig, ds.stored, values.mean("seed"), "")
            tone = theme.MUTED
        else:
            _measured(fig, ds.stored, values, "", index)
            tone, index = theme.text_color(theme.color(index)), index + 1
        fig.data[-1].name = str(name)
        # Those that fail end together: each name stands where its line is alone.
        place = min((1, 3, 2, 5, 4)[row % 5], ds.sizes["stored"] - 1)
        fig.add_annotation(
            x=float(np.log10(ds.stored[place])),
            y=float(values.mean("seed")[place]),
            text=str(name),
            showarrow=False,
            xanchor="left",
            yshift=14,
            xshift=6,
            font={"color": tone, "size": 13},
        )
    fig.update_yaxes(range=[-0.03, 1.06])
    fig.update_layout(margin={"r": 60})
    return fig


def plot_glass(ds: xr.Dataset) -> Figure:
    """Plot the entropy of the glass in the symmetric and in the once-broken solution."""
    at = ds.entropy.sel(temperature=0.5, method="nearest")
    fig = theme.figure(
        title="Fewer than no states: the symmetric theory of the glass refutes itself",
        subtitle=f"Order {ds.attrs['interaction']}, beyond capacity; both lines are theory. Entropy counts states and cannot "
        "be negative",
        alt="Entropy per spin against temperature below the glass temperature. The symmetric solution falls below zero, to "
        f"{float(at.sel(solution='symmetric')):.2f} at half the glass temperature; the once-broken one stays at "
        f"{float(at.sel(solution='broken once')):.3f}.",
        x=axis_title(ds.temperature),
        y=axis_title(ds.entropy),
    )
    # Upwards in temperature both meet: labels stand at the cold end, where they part.
    cold = ds.isel(temperature=slice(None, None, -1))
    theme.add_baseline(fig, cold.temperature, np.zeros(ds.sizes["temperature"]), "")
    fig.data[-1].name = "zero"
    # Two solutions, and no line between them: the overlap jumps from one to the other.
    ordered = (cold.overlap.sel(solution="symmetric") > 1e-3).values
    for chosen, label, dash in ((~ordered, "symmetric, q = 0", "dot"), (ordered, "symmetric, q > 0", "dashdot")):
        part = cold.isel(temperature=chosen)
        theme.add_theory(fig, part.temperature, part.entropy.sel(solution="symmetric"), label)
        fig.data[-1].line.dash = dash
    theme.add_theory(fig, cold.temperature, cold.entropy.sel(solution="broken once"), "broken once")
    fig.update_xaxes(autorange="reversed")
    return fig


_RULE_NAMES = {"self_referential": "self-referential", "delta": "delta rule"}


def plot_few_shot(ds: xr.Dataset) -> Figure:
    """Plot accuracy within a stream of examples against training, with self-updates on and frozen at test."""
    last = ds.accuracy.isel(step=-1).mean("seed")
    fig = theme.figure(
        title="A network that rewrites itself learns names on the spot; frozen, it guesses",
        subtitle=f"{ds.attrs['ways']} ways, {ds.attrs['shots']} shots, shuffled names; {ds.sizes['seed']} seeds; dashed: chance",
        alt="Accuracy on unseen images against training steps. At the end: "
        + ", ".join(
            f"{_RULE_NAMES.get(str(r), str(r))} with updates {u} {float(last.sel(rule=r, updates=u)):.2f}"
            for r in ds.rule.values
            for u in ds.updates.values
        )
        + f"; chance is {ds.attrs['chance']:.2f}.",
        x=axis_title(ds.step),
        y=axis_title(ds.accuracy),
    )
    theme.add_theory(fig, ds.step, np.full(ds.sizes["step"], ds.attrs["chance"]), "")
    fig.data[-1].name = "chance"
    for index, rule in enumerate(ds.rule.values[:3]):
        name = _RULE_NAMES.get(str(rule), str(rule))
        _measured(fig, ds.step, ds.accuracy.sel(rule=rule, updates="on"), name, index)
    frozen = ds.accuracy.sel(rule="self_referential", updates="frozen")
    _measured(fig, ds.step, frozen, "frozen at test", 3)
    fig.update_yaxes(range=[0, 1.02])
    fig.update_layout(margin={"r": 140})
    return fig


def plot_hulls(ds: xr.Dataset) -> Figure:
    """Plot corners that were named beside the convex hulls: one panel a set, or, of trained networks, one a network."""
    if "output" in ds.named.dims:
        heads = {"pointer": "pointing", "vocabulary": "fixed vocabulary"}
        panels = [(heads[str(o)], 0, ds.named.sel(output=o), ds.covered.sel(output=o)) for o in ds.output.values]
        title = "Trained on at most ten points, only the pointer has an answer for twenty"
    else:
        sizes = [int(np.isfinite(each[:, 0]).sum()) for each in ds.points.values]
        panels = [(f"{size} points", i, ds.named, ds.covered) for i, size in enumerate(sizes)]
        exact = bool((ds.covered > 0.9999).all())
        title = "One rule points at corners, however many points there are" if exact else "Not all of the hull is named"
    said = [f"{head}, {100 * float(covered[i]):.0f}% of the hull's area" for head, i, _, covered in panels]
    fig = theme.figure(
        title=title,
        subtitle="Dashed: the convex hull; solid: what was named, from the large dot on",
        alt=f"{len(panels)} panels of points in the plane with the outline that was named: " + "; ".join(said) + ".",
        height=370,
    )
    theme.columns(fig, *((head, "", "") for head in said), gap=0.05)
    for column, (_, i, named, _) in enumerate(panels, start=1):
        points = ds.points.values[i]
        points = points[np.isfinite(points[:, 0])]
        theme.add_data(fig, points[:, 0], points[:, 1], "points", tone=theme.MUTED, size=7, column=column)
        outlines = [corners[corners >= 0] for corners in (named.isel(example=i).values, ds.hull.values[i])]
        path, true = (points[np.append(corners, corners[:1])] for corners in outlines)
        theme.add_measurement(fig, path[:, 0], path[:, 1], "", markers=True, column=column)
        fig.data[-1].name = "corners named"
        theme.add_theory(fig, true[:, 0], true[:, 1], "", column=column)
        fig.data[-1].name = "convex hull"
        theme.add_data(fig, path[:1, 0], path[:1, 1], "first corner named", tone=theme.color(0), size=15, column=column)
        end = "" if column == 1 else str(column)
        bare = {"showticklabels": False, "ticks": "", "constrain": "domain", "showgrid": False}
        fig.update_layout({f"xaxis{end}": bare, f"yaxis{end}": {**bare, "scaleanchor": f"x{end}"}})
    fig.update_layout(margin={"l": 24, "r": 24, "b": 24})
    return fig


def plot_hull_training(ds: xr.Dataset) -> Figure:
    """Plot the share of hulls that both networks name exactly, against the share of their training."""
    last = ds.accuracy.isel(progress=-1).mean("seed")
    ends = {str(o): float(last.sel(output=o)) for o in ds.output.values}
    fig = theme.figure(
        title=f"Pointing names {100 * ends['pointer']:.0f}% of hulls exactly, a fixed vocabulary "
        f"{100 * ends['vocabulary']:.0f}%",
        subtitle=f"5 to 10 points; {ds.attrs['num_steps']:,} steps of {ds.attrs['batch_size']} sets each; "
        f"{ds.sizes['seed']} seeds",
        alt="Share of hulls of 5 to 10 points that are named exactly, against the share of the training. Pointing ends at "
        f"{ends['pointer']:.2f}, the network with a fixed vocabulary at {ends['vocabulary']:.2f}.",
        x=axis_title(ds.progress),
        y=axis_title(ds.accuracy),
    )
    for index, (output, label) in enumerate((("pointer", "pointing"), ("vocabulary", "fixed vocabulary"))):
        _measured(fig, ds.progress, ds.accuracy.sel(output=output), label, index)
    fig.update_yaxes(range=[0, 1])
    fig.update_layout(margin={"r": 140})
    return fig


def plot_energy_surface(ds: xr.Dataset, *, active: bool = False) -> Figure:
    """Plot the modern memory's energy over the plane, its patterns, and its fixed points by kind."""
    counts = {kind: int((ds.point_kind == kind).sum()) for kind in KIND_MARKS}
    said = ", ".join(f"{n} {KIND_NAMES[kind]}" for kind, n in counts.items() if n)
    beta = float(ds.attrs["beta"])
    fig = theme.figure(
        title=f"β = {beta:.3g}: {sum(counts.values())} valley{'s' if sum(counts.values()) > 1 else ''} for "
        f"{ds.sizes['pattern']} patterns",
        subtitle=f"Crosses: patterns. Fixed points: {said}",
        alt=f"Energy of {ds.sizes['pattern']} patterns in the plane at beta {beta:.3g}, dark where it is high. "
        f"Iterating from the patterns leads to these fixed points: {said}.",
        x=axis_title(ds.x),
        y=axis_title(ds.y),
        height=460,
    )
    theme.add_heatmap(fig, ds.energy.values, ds.x.values, ds.y.values, title="energy")
    fig.data[-1].zsmooth = "best"
    mark = theme.ACTIVE if active else theme.INK
    theme.add_data(
        fig, ds.patterns.sel(coordinate="x"), ds.patterns.sel(coordinate="y"), "patterns", tone=mark, size=13
    )
    fig.data[-1].marker.update(symbol="x-thin", line={"color": mark, "width": 3})
    for index, (kind, symbol) in enumerate(KIND_MARKS.items()):
        chosen = ds.points.isel(point=(ds.point_kind == kind).values)
        theme.add_data(
            fig,
            chosen.sel(coordinate="x"),
            chosen.sel(coordinate="y"),
            f"fixed points: {KIND_NAMES[kind]}",
            tone=theme.color(2 - index),
            size=15,
        )
        fig.data[-1].marker.update(symbol=symbol, line={"color": theme.CARD, "width": 2})
    # One unit is as long across as up: distances are what the energy is about.
    fig.update_yaxes(scaleanchor="x", constrain="domain")
    fig.update_xaxes(constrain="domain")
    fig.update_layout(margin={"r": 40})
    return fig
