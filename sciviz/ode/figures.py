"""Figures of the neural-ODE wing: each takes a data set of `experiments` and computes nothing of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from sciviz.lab import theme
from sciviz.lab.theme import Figure, axis_title

ROUNDING = 1e-16


def _over_seeds(values: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the mean over seeds with the tenth and ninetieth percentile."""
    low, high = values.quantile([0.1, 0.9], "seed").values
    return values.mean("seed").values, low, high


def _in_decades(values: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the median over seeds with the smallest and largest: what suits a logarithmic axis."""
    return values.median("seed").values, values.min("seed").values, values.max("seed").values


def _few_decades(fig: Figure, axis: str = "yaxis", every: int = 3) -> Figure:
    """Label every third power of ten, where an axis spans many."""
    fig.layout[axis].update(dtick=every, minor={"dtick": 1, "ticks": "outside", "ticklen": 2})
    return fig


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _through(x: Any, y: Any, slope: float, at: int = 0) -> Any:
    """Return the power law of that slope through one of the points."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return y[at] * (x / x[at]) ** slope


def _joined(x: Any, y: Any) -> tuple[Any, Any]:
    """Put the rows of `x` and `y` one after the other, with gaps between them: one trace for all."""
    x, y = (np.asarray(values, dtype=float) for values in (x, y))
    gap = np.full((len(x), 1), np.nan)
    flat_x, flat_y = (np.concatenate([values, gap], axis=1).ravel()[:-1] for values in (x, y))
    # Where one coordinate is missing the point is: no half of it may stay.
    lost = np.isnan(flat_x) | np.isnan(flat_y)
    flat_x[lost], flat_y[lost] = np.nan, np.nan
    return flat_x, flat_y


def add_paths(
    fig: Figure, x: Any, y: Any, name: str, tone: str, *, width: float = 1.6, opacity: float = 0.9, column: int = 1
) -> Figure:
    """Add curves of one kind, each with its own x, as one trace."""
    flat_x, flat_y = _joined(x, y)
    end = "" if column == 1 else str(column)
    fig.add_trace(
        go.Scatter(
            x=flat_x,
            y=flat_y,
            mode="lines",
            line={"color": tone, "width": width},
            opacity=opacity,
            name=name,
            xaxis=f"x{end}",
            yaxis=f"y{end}",
        )
    )
    return fig


def add_marks(
    fig: Figure, x: Any, y: Any, name: str, tone: str, symbol: str, *, size: float = 8, column: int = 1
) -> Figure:
    """Add marks whose shape carries the meaning."""
    thin = symbol.endswith("-thin")
    end = "" if column == 1 else str(column)
    fig.add_trace(
        go.Scatter(
            x=np.asarray(x),
            y=np.asarray(y),
            mode="markers",
            marker={
                "color": tone,
                "size": size,
                "symbol": symbol,
                "line": {"color": tone if thin else theme.CARD, "width": 2 if thin else 1},
            },
            name=name,
            xaxis=f"x{end}",
            yaxis=f"y{end}",
        )
    )
    return fig


def _say(fig: Figure, text: str, x: float, y: float, tone: str, column: int = 1, **more: Any) -> Figure:
    """Write a word beside what it names."""
    end = "" if column == 1 else str(column)
    note = {"text": text, "x": x, "y": y, "xref": f"x{end}", "yref": f"y{end}", "showarrow": False}
    note |= {"font": {"color": theme.text_color(tone), "size": 13}, "xanchor": "left", **more}
    fig.add_annotation(note)
    return fig


# ---------------------------------------------------------------------------------------------------- solvers


def plot_residual_limit(ds: xr.Dataset) -> Figure:
    """Plot the distance of residual stacks from the flow of the neural ODE, against the number of blocks."""
    mean, low, high = _over_seeds(ds.error)
    gradient, below, above = _over_seeds(ds.gradient_error)
    fig = theme.figure(
        title="Twice the blocks, half the distance: a residual stack is Euler's method",
        subtitle=f"{ds.sizes['seed']} random fields; a stack of N blocks of size 1/N against the exact flow",
        alt=f"On log-log axes the distance of a residual stack's output from the flow falls from {mean[0]:.2g} with "
        f"{int(ds.depth[0])} blocks to {mean[-1]:.2g} with {int(ds.depth[-1])}, along a dashed line of slope minus one; "
        f"the distance of its gradient falls alike, from {gradient[0]:.2g} to {gradient[-1]:.2g}.",
        x=axis_title(ds.depth),
        y="Relative distance from the flow",
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.depth, _through(ds.depth, mean, -1.0), "blocks⁻¹")
    theme.add_measurement(fig, ds.depth, mean, "output", low=low, high=high, markers=True)
    return theme.add_measurement(
        fig, ds.depth, gradient, "gradient", low=below, high=above, index=1, markers=True
    )  # fmt: skip


def plot_solver_orders(ds: xr.Dataset) -> Figure:
    """Plot the error of up to four methods with equal steps, against the number of steps."""
    orders = {str(m): float(v) for m, v in zip(ds.method.values, ds.measured_order.values, strict=True)}
    said = ", ".join(f"{name} {order:.1f}" for name, order in orders.items())
    fig = theme.figure(
        title="An order more is a power of the step more",
        subtitle=f"{ds.attrs['title'].split(': ')[-1]}; fitted orders: {said}",
        alt=f"On log-log axes the error at the end falls with the number of steps, faster for methods of higher order. "
        f"Fitted orders: {said}. Dashed lines have the slopes that theory says.",
        x=axis_title(ds.num_steps),
        y=axis_title(ds.error),
        x_type="log",
        y_type="log",
    )
    for name in ds.method.values:
        one = ds.sel({"method": name})
        theme.add_theory(fig, ds.num_steps, _through(ds.num_steps, one.error, -float(one.order)), "")
        fig.data[-1].name = f"slope {float(one.order):g}"
    for index, name in enumerate(ds.method.values):
        theme.add_measurement(fig, ds.num_steps, ds.error.sel({"method": name}), str(name), index=index, markers=True)
    return _few_decades(fig)


def plot_work_precision(ds: xr.Dataset) -> Figure:
    """Plot error against evaluations for up to four methods: what precision costs."""
    least = ds.evaluations.where(ds.error <= 1e-6).min("setting")
    best = (
        str(ds.method.values[int(least.argmin("method"))]) if bool(least.notnull().any()) else str(ds.method.values[-1])
    )
    fig = theme.figure(
        title="The more digits you want, the more a high order pays",
        subtitle=f"{ds.attrs['title'].split(': ')[-1]}, to time {ds.attrs['duration']:.3g}; each mark is one setting",
        alt="On log-log axes the error at the end against evaluations of f. "
        + " ".join(
            f"{name}: {int(work[0])} evaluations give an error of {error[0]:.1g}, {int(work[-1])} give {error[-1]:.1g}."
            for name, work, error in zip(
                ds.method.values,
                ds.evaluations.transpose("method", ...).values,
                ds.error.transpose("method", ...).values,
                strict=True,
            )
        )
        + f" Fewest evaluations for six digits: {best}.",
        x=axis_title(ds.evaluations),
        y=axis_title(ds.error),
        x_type="log",
        y_type="log",
    )
    for index, name in enumerate(ds.method.values):
        one = ds.sel({"method": name})
        label = f"{name}, adaptive" if bool(one.adaptive) else str(name)
        theme.add_measurement(fig, one.evaluations, one.error, label, index=index, markers=True)
    fig.update_layout(margin={"r": 150})
    return _few_decades(fig)


def plot_tolerance_cost(ds: xr.Dataset) -> Figure:
    """Plot evaluations and error against tolerance, for fields as initialised and for wilder ones."""
    wild = ds.evaluations.isel(scale=-1).mean("seed")
    fig = theme.figure(
        title="Tolerance is a dial: fewer evaluations for a larger error",
        subtitle=f"{ds.sizes['seed']} random fields each; weights as initialised (×1) and three times larger (×3); dashed: "
        "error = tolerance",
        alt="Left: evaluations of f rise as the tolerance is tightened, for weights three times as large from "
        f"{float(wild[0]):.0f} to {float(wild[-1]):.0f}. Right: the error at the end falls with the tolerance, near the "
        "dashed line on which both are equal.",
        x_type="log",
        y_type="log",
    )
    theme.columns(
        fig,
        ("What it costs", "Tolerance", axis_title(ds.evaluations)),
        ("What it buys", "Tolerance", "Error at the end"),
        gap=0.2,
    )
    # Tight to the right: further right is more work.
    fig.update_layout(xaxis_autorange="reversed", xaxis2_autorange="reversed", margin={"r": 90})
    theme.add_theory(fig, ds.rtol, ds.rtol, "", column=2)
    fig.data[-1].name = "error equal to the tolerance"
    for end in ("", "2"):
        _few_decades(fig, f"xaxis{end}", 2)
    _few_decades(fig, "yaxis2", 2)
    for index, scale in enumerate(ds.scale.values):
        for column, values in ((1, ds.evaluations), (2, ds.error)):
            mean, low, high = _in_decades(values.sel(scale=scale))
            theme.add_measurement(
                fig, ds.rtol, mean, f"×{scale:g}", low=low, high=high, index=index, markers=True, column=column
            )  # fmt: skip
    return fig


def plot_steps(ds: xr.Dataset, trajectory: int = 0) -> Figure:
    """Plot one trajectory with the steps that were taken and refused, and their sizes."""
    one = ds.isel(trajectory=trajectory)
    tried = ~np.isnan(one.step_time.values)
    taken, refused = tried & one.accepted.values, tried & ~one.accepted.values
    name = str(ds.variable.values[0])
    size = np.abs(one.step_size.values)
    fig = theme.figure(
        title="The solver hurries where little happens and slows down at the corners",
        subtitle=f"{ds.attrs['title']}, {ds.attrs['method']}: {int(one.taken)} steps taken, {int(one.rejected)} refused, "
        f"{int(one.evaluations)} evaluations",
        alt=f"Left: the {name} of one trajectory against time with a dot at the start of each of {int(one.taken)} steps and a "
        f"cross at each of {int(one.rejected)} that were refused. Right: step sizes, from {size[taken].min():.2g} to "
        f"{size[taken].max():.2g}, smallest where the solution turns fast.",
    )
    theme.columns(
        fig,
        ("Trajectory", axis_title(ds.time), name.capitalize()),
        ("Size of each step", axis_title(ds.time), axis_title(ds.step_size)),
        gap=0.14,
    )
    fig.layout.yaxis2.update(type="log", dtick=1, minor={"dtick": "D1", "ticks": "outside", "ticklen": 2})
    theme.add_measurement(fig, ds.time, one.state.isel(variable=0), "")
    add_marks(
        fig, one.step_time[taken], one.step_state.isel(variable=0)[taken], "steps taken", theme.INK, "circle", size=6
    )
    theme.add_measurement(fig, one.step_time[taken], size[taken], "", markers=True, column=2)
    fig.data[-1].name = "size of steps taken"
    for column, height in ((1, one.step_state.isel(variable=0).values), (2, size)):
        add_marks(
            fig, one.step_time[refused], height[refused], "steps refused", theme.POSITIVE, "x-thin", size=9, column=column
        )  # fmt: skip
    fig.update_layout(margin={"r": 24})
    return fig


def plot_stiffness(ds: xr.Dataset) -> Figure:
    """Plot what an explicit and an implicit method cost as the Van der Pol oscillator stiffens."""
    first, last = int(ds.accepted[0]), int(ds.accepted[-1])
    fig = theme.figure(
        title="Stiffness: the solution gets no busier, but an explicit method does",
        subtitle=f"Van der Pol over one cycle, tolerance {ds.attrs['tolerance']:g}; explicit {ds.attrs['method']} beside "
        "SciPy's implicit Radau",
        alt=f"On log-log axes the steps for one cycle against the damping mu. The explicit method's grow from {first} to "
        f"{last}; the implicit method's stay between {int(ds.implicit_steps.min())} and {int(ds.implicit_steps.max())}.",
        x=axis_title(ds.mu),
        y=axis_title(ds.accepted),
        x_type="log",
        y_type="log",
    )
    theme.add_theory(fig, ds.mu, _mu_law(ds), "    μ²")
    theme.add_baseline(fig, ds.mu, ds.implicit_steps, "implicit")
    return theme.add_measurement(fig, ds.mu, ds.accepted, "explicit", markers=True)


def _mu_law(ds: xr.Dataset) -> Any:
    """Return the law μ² through the last point, shown where it lies above a tenth of the first."""
    law = _through(ds.mu, ds.accepted, 2.0, at=-1)
    return np.where(law >= 0.5 * float(ds.accepted.min()), law, np.nan)


def plot_batch_steps(ds: xr.Dataset) -> Figure:
    """Plot the evaluations that each trajectory of a batch needs, with steps of its own and with shared ones."""
    own, shared = (ds.evaluations.sel(steps=name) for name in ("own", "shared"))
    saved = float(shared.mean() / own.mean())
    fig = theme.figure(
        title="One stiff sample need not slow down all others",
        subtitle=f"{ds.sizes['trajectory']:,} Van der Pol oscillators in one call; shared steps cost "
        f"{saved:.0f} times the evaluations",
        alt=f"Evaluations against the damping mu of each oscillator on log-log axes. With steps of its own each needs from "
        f"{int(own.min())} to {int(own.max())}, rising with mu; with shared steps every one needs {int(shared.max())}.",
        x=axis_title(ds.mu),
        y=axis_title(ds.evaluations),
        x_type="log",
        y_type="log",
    )
    order = np.argsort(ds.mu.values)
    theme.add_baseline(fig, ds.mu.values[order], shared.values[order], "shared")
    # Two thousand dots say as much as a hundred thousand.
    some = order[:: max(1, len(order) // 2000)]
    theme.add_data(fig, ds.mu.values[some], own.values[some], "own steps", tone=theme.color(0), size=5)
    _say(fig, " own", float(np.log10(ds.mu.max())), float(np.log10(own.values[order[-20:]].mean())), theme.color(0))
    return fig


# ---------------------------------------------------------------------------------------------------- gradients


def plot_gradient_agreement(ds: xr.Dataset) -> Figure:
    """Plot the distance of the adjoint's gradient from backpropagation's, against tolerance."""
    adjoint, exact = (ds.difference.sel(gradient=name) for name in ("adjoint", "checkpoint"))
    mean, low, high = _in_decades(adjoint)
    fig = theme.figure(
        title="The adjoint is as good as its tolerance – at 10⁻³ it is off by percents",
        subtitle=f"{ds.sizes['seed']} random fields, {ds.attrs['method']}; relative distance from backpropagation through "
        "the same steps",
        alt="On log-log axes the relative distance of the adjoint's gradient from backpropagation's against the tolerance: "
        f"{mean[0]:.2g} at {float(ds.rtol[0]):g}, {mean[-1]:.2g} at {float(ds.rtol[-1]):g}, above the dashed line on which "
        f"distance and tolerance are equal. Checkpointing differs by {max(float(exact.max()), ROUNDING):.0e} at most.",
        x="Tolerance",
        y="Relative distance",
        x_type="log",
        y_type="log",
    )
    fig.update_layout(xaxis_autorange="reversed", margin={"r": 150})
    theme.add_theory(fig, ds.rtol, ds.rtol, "tolerance")
    floor = np.maximum(exact.max("seed"), ROUNDING)
    theme.add_baseline(fig, ds.rtol, floor, "checkpointing")
    theme.add_measurement(fig, ds.rtol, mean, "adjoint", low=low, high=high, markers=True)
    return _few_decades(fig)


def plot_contracting_adjoint(ds: xr.Dataset) -> Figure:
    """Plot how wrong the adjoint's gradient gets as a contracting layer is run for longer."""
    adjoint = ds.difference.sel(gradient="adjoint")
    lost = int(np.isinf(adjoint).any("duration").sum())
    shown = adjoint.where(np.isfinite(adjoint), 1e3).clip(max=1e3)
    mean, low, high = _in_decades(shown)
    fig = theme.figure(
        title="A layer that forgets cannot be run backwards",
        subtitle=f"{ds.sizes['seed']} contracting layers, tolerance {ds.attrs['tolerance']:g}; at 1 it is as far off as no "
        "gradient at all",
        alt="On a logarithmic axis the relative distance of the adjoint's gradient from backpropagation's against the "
        f"integration time: {mean[0]:.2g} at {float(ds.duration[0]):g}, {mean[-1]:.2g} at {float(ds.duration[-1]):g}. "
        f"For {lost} of the layers the way back could not be integrated at all. Checkpointing stays at rounding error.",
        x=axis_title(ds.duration),
        y="Relative distance",
        y_type="log",
    )
    fig.update_layout(margin={"r": 150})
    theme.add_theory(fig, ds.duration, np.ones(ds.sizes["duration"]), "no gradient")
    exact = np.maximum(ds.difference.sel(gradient="checkpoint").max("seed"), ROUNDING)
    theme.add_baseline(fig, ds.duration, exact, "checkpointing")
    theme.add_measurement(fig, ds.duration, mean, "adjoint", low=low, high=high, markers=True)
    return _few_decades(fig)


_GRADIENT_NAMES = {
    "solver": "through the solver",
    "checkpoint": "checkpointing",
    "adjoint": "adjoint",
    "reversible": "reversible",
}


def plot_activation_memory(ds: xr.Dataset) -> Figure:
    """Plot the memory that the forward pass keeps, against the number of steps, for each way to a gradient."""
    kept = ds.stored.mean("seed") / 1024
    first, last = kept.isel(num_steps=0), kept.isel(num_steps=-1)
    fig = theme.figure(
        title="The adjoint keeps the same few bytes however many steps are taken",
        subtitle="Tensors that the forward pass keeps for the backward pass, counted as autograd saves them",
        alt="On log-log axes the memory kept against the number of steps. "
        + " ".join(
            f"{_GRADIENT_NAMES.get(str(g), str(g))}: {float(first.sel(gradient=g)):.3g} to {float(last.sel(gradient=g)):.3g} KiB."
            for g in ds.gradient.values
        ),
        x=axis_title(ds.num_steps),
        y="Kept for the backward pass (KiB)",
        x_type="log",
        y_type="log",
    )
    for index, name in enumerate(ds.gradient.values):
        label = _GRADIENT_NAMES.get(str(name), str(name))
        theme.add_measurement(fig, ds.num_steps, kept.sel(gradient=name), label, index=index, markers=True)
    fig.update_layout(margin={"r": 160})
    return fig


# ---------------------------------------------------------------------------------------------------- what a flow can do


def plot_crossing(ds: xr.Dataset) -> Figure:
    """Plot trajectories of a plain and of an augmented neural ODE that were asked to turn a line around."""
    one = ds.isel(seed=0)
    plain, augmented = (float(ds.error.sel(model=m).mean()) for m in ("plain", "augmented"))
    fig = theme.figure(
        title="On a line nobody can overtake; with one more dimension everybody can",
        subtitle=f"Asked for x → −x. Mean squared error {plain:.2g} (no order-keeping map beats {float(ds.floor):.2g}) and "
        f"{augmented:.1g}",
        alt="Two panels of trajectories against time, orange for points that start above zero and blue for those below. "
        "Plain: all are squeezed towards zero and none crosses another. Augmented: they pass each other and end where "
        "they were asked to.",
        height=400,
    )
    theme.columns(
        fig,
        ("Plain: one dimension", axis_title(ds.time), axis_title(ds.state)),
        ("Augmented: the first of two", axis_title(ds.time), axis_title(ds.state)),
    )
    for column, model in enumerate(("plain", "augmented"), start=1):
        state = one.state.sel(model=model).transpose("sample", "time").values
        for tone, name, rows in (
            (theme.POSITIVE, "start above 0", state[:, 0] > 0),
            (theme.NEGATIVE, "start below 0", state[:, 0] <= 0),
        ):
            times = np.broadcast_to(ds.time.values, state[rows].shape)
            add_paths(fig, times, state[rows], f"{model}: {name}", tone, column=column)
        end = "" if column == 1 else "2"
        fig.layout[f"yaxis{end}"].range = [-1.15, 1.15]
    _say(fig, "start above 0", 0.02, 1.06, theme.POSITIVE)
    _say(fig, "start below 0", 0.02, -1.06, theme.NEGATIVE)
    return fig


_CLASS_TONES = ((theme.NEGATIVE, "circle"), (theme.POSITIVE, "diamond"))


def add_classes(fig: Figure, x: Any, y: Any, label: Any, column: int = 1) -> Figure:
    """Add points of two classes, told apart by colour and by shape."""
    for kind, (tone, symbol) in enumerate(_CLASS_TONES):
        rows = np.asarray(label) == kind
        add_marks(
            fig, np.asarray(x)[rows], np.asarray(y)[rows], f"class {kind}", tone, symbol, size=6, column=column
        )  # fmt: skip
    return fig


def plot_classifier(ds: xr.Dataset) -> Figure:
    """Plot where a plain and an augmented neural ODE carry two classes of points."""
    one = ds.isel(seed=0)
    label = one.label.values
    accuracy = {m: float(ds.test_accuracy.sel(model=m).mean()) for m in ("plain", "augmented")}
    cost = {m: float(ds.evaluations.sel(model=m).mean()) for m in ("plain", "augmented")}
    fig = theme.figure(
        title="A flow in the plane can stretch but not tear; one more dimension lifts apart",
        subtitle=f"{ds.attrs['title'].split(': ')[-1].capitalize()}, {_count(ds.sizes['seed'], 'seed')}: test accuracy "
        f"{accuracy['plain']:.3f} plain, {accuracy['augmented']:.3f} augmented; evaluations {cost['plain']:.0f} and "
        f"{cost['augmented']:.0f}",
        alt="Three panels of points of two classes. Left: where they start. Middle: where the plain neural ODE carries "
        "them, in the same plane. Right: where the augmented one carries them, seen from the side, with the extra "
        f"dimension upwards. Test accuracy {accuracy['plain']:.3f} and {accuracy['augmented']:.3f}.",
        height=400,
    )
    theme.columns(
        fig, ("Start", "x1", "x2"), ("Plain: end", "x1", "x2"), ("Augmented, from the side", "x1", "x3 (added)")
    )
    start = one.position.sel(model="plain").isel(time=0)
    plain, lifted = (one.position.sel(model=m).isel(time=-1) for m in ("plain", "augmented"))
    add_classes(fig, start.sel(dimension="x1"), start.sel(dimension="x2"), label)
    add_classes(fig, plain.sel(dimension="x1"), plain.sel(dimension="x2"), label, column=2)
    add_classes(fig, lifted.sel(dimension="x1"), lifted.sel(dimension="x3"), label, column=3)
    fig.update_layout(margin={"r": 24})
    return fig


def plot_digits_block(ds: xr.Dataset) -> Figure:
    """Plot test accuracy on digits of an ODE block, a residual block of the same size and no block, seed by seed."""
    names = [str(name) for name in ds.model.values]
    means = ", ".join(f"{name} {float(ds.accuracy.sel(model=name).mean()):.3f}" for name in names)
    fig = theme.figure(
        title="On digits an ODE block does what a residual block of its size does",
        subtitle=f"Each dot one of {ds.sizes['seed']} splits; the ODE block needs "
        f"{float(ds.evaluations.mean()):.0f} evaluations for a test batch at tolerance 10⁻⁴",
        alt=f"Test accuracy on handwritten digits, each dot one split. Means: {means}.",
        x=axis_title(ds.accuracy),
        height=300,
    )
    for row, name in enumerate(names):
        values = np.sort(ds.accuracy.sel(model=name).values)
        add_marks(
            fig, values, row + 0.16 * np.linspace(-1, 1, len(values)), name, theme.color(row), theme.MARKERS[row], size=10
        )  # fmt: skip
        theme.add_theory(fig, [values.mean()] * 2, [row - 0.3, row + 0.3], "")
        fig.data[-1].update(name=f"mean: {name}", line={"dash": "solid", "width": 2})
    sizes = [f"{name}<br>{int(n):,} parameters" for name, n in zip(names, ds.num_parameters.values, strict=True)]
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=sizes, range=[len(names) - 0.5, -0.5])
    fig.update_layout(margin={"r": 40})
    return fig


# ---------------------------------------------------------------------------------------------------- irregular series, density


_SERIES_LABELS = {"latent ODE": "latent ODE", "neural CDE": "neural CDE", "GRU with gaps": "GRU"}


def plot_irregular_series(ds: xr.Dataset, shown: int = 0) -> Figure:
    """Plot one irregular test series with each model's predictions, and the errors on what was seen and beyond."""
    one = ds.isel(shown=shown, feature=0)
    split = float(ds.attrs["visible_until"])
    ahead = {str(m): float(ds.error.sel(part="ahead", model=m).mean()) for m in ds.model.values}
    said = ", ".join(f"{_SERIES_LABELS.get(name, name)} {value:.2f}" for name, value in ahead.items())
    best = min(ahead, key=lambda name: ahead[name])
    fig = theme.figure(
        title="Reading irregular observations is easy; predicting beyond them is not",
        subtitle=f"Driven pendulum, {_count(ds.sizes['seed'], 'seed')}. Relative error ahead: {said}",
        alt=f"Left: the angle of a driven pendulum at irregular times, dots where it could be read, up to {split:g} seconds; "
        "beyond, each model's prediction beside the true curve. Right: error of each model on the part that was read "
        f"and on the part ahead; ahead the lowest is that of the {best}.",
        height=400,
    )
    theme.columns(
        fig,
        ("One test series", "Time (s)", "Angle (rad)"),
        ("Error, each dot a seed", "", "Error / predicting zero"),
        widths=(2.0, 1.0),
        gap=0.12,
    )
    time = one.observed_time.values
    theme.add_theory(fig, time, one.signal, "")
    fig.data[-1].update(name="true curve", line={"shape": "spline", "width": 2})
    for index, name in enumerate(ds.model.values):
        theme.add_measurement(fig, time, one.predicted.sel(model=name), "", index=index, markers=False)
        fig.data[-1].name = str(name)
    read = one.visible.values.astype(bool)
    theme.add_data(fig, time[read], one.signal.values[read], "may be read", size=9)
    low, high = float(one.signal.min()), float(one.signal.max())
    fig.add_vline(x=split, line={"color": theme.BASELINE, "width": 1.5, "dash": "dot"}, xref="x", yref="y")
    fig.layout.yaxis.range = [low - 0.35 * (high - low), high + 0.35 * (high - low)]
    _say(fig, "ahead →", split, high + 0.27 * (high - low), theme.MUTED)
    top = max(1.0, float(ds.error.max()))
    for index, name in enumerate(ds.model.values):
        for place, part in enumerate(("seen", "ahead")):
            values = np.sort(ds.error.sel(model=name, part=part).values)
            x = place + 0.22 * (index - 1) + 0.02 * np.linspace(-1, 1, len(values))
            add_marks(
                fig, x, values, f"{name}, {part}", theme.color(index), theme.MARKERS[index], size=9, column=2
            )  # fmt: skip
        label = _SERIES_LABELS.get(str(name), str(name))
        _add_key(fig, label, index, top * (1.42 - 0.11 * index))
    theme.add_baseline(fig, [-0.5, 1.5], [1, 1], "", column=2)
    fig.layout.xaxis2.update(tickvals=[0, 1], ticktext=["seen", "ahead"], range=[-0.5, 1.6])
    fig.layout.yaxis2.range = [0.0, 1.5 * top]
    fig.update_layout(margin={"r": 40})
    return fig


def _add_key(fig: Figure, label: str, index: int, height: float) -> None:
    """Name a kind of mark in the free space above the marks of the second panel."""
    add_marks(fig, [-0.35], [height], label, theme.color(index), theme.MARKERS[index], size=9, column=2)
    _say(fig, label, -0.25, height, theme.color(index), 2)


def plot_flow_density(ds: xr.Dataset) -> Figure:
    """Plot samples on their way from a Gaussian to the data, and the density that was learnt."""
    nll = {str(m): float(ds.nll.sel(model=m).mean()) for m in ds.model.values}
    fig = theme.figure(
        title="A flow carries a Gaussian to the data, and knows the density on the way",
        subtitle=f"Negative log likelihood on test points: Gaussian {nll['Gaussian']:.2f}, flow {nll['flow']:.2f}, the true "
        f"density {nll['exact']:.2f} nats; learnt mass {float(ds.mass.mean()):.3f}",
        alt="Three panels: samples at the start, a round Gaussian cloud; samples half way; and the learnt density with its "
        f"two moons as a heat map. Negative log likelihood {nll['flow']:.2f} nats, against {nll['exact']:.2f} for the true "
        f"density and {nll['Gaussian']:.2f} for the best Gaussian.",
        height=400,
    )
    middle = ds.sizes["time"] // 2
    theme.columns(
        fig,
        ("Samples at time 0", "x1", "x2"),
        (f"At time {float(ds.time[middle]):.2g}", "x1", "x2"),
        ("At time 1, and the density", "x1", "x2"),
    )
    theme.add_heatmap(fig, ds.density, ds.x, ds.y, title="density", column=3)
    fig.data[-1].update(showscale=False)
    for column, moment in ((1, 0), (2, middle), (3, ds.sizes["time"] - 1)):
        cloud = ds.path.isel(time=moment)
        share = moment / (ds.sizes["time"] - 1)
        x, y = cloud.sel(dimension="x1"), cloud.sel(dimension="x2")
        if column == 3:
            x, y = x[:120], y[:120]
        tone = theme.POSITIVE if column == 3 else theme.time_color(0.35 + 0.4 * share)
        theme.add_data(fig, x, y, f"samples at time {float(ds.time[moment]):.2g}", tone=tone, size=5, column=column)
        end = "" if column == 1 else str(column)
        fig.layout[f"xaxis{end}"].range = [-3.4, 3.4]
        fig.layout[f"yaxis{end}"].range = [-3.0, 3.0]
    fig.update_layout(margin={"r": 24})
    return fig


# ---------------------------------------------------------------------------------------------------- cheap dynamics


_ARM_NAMES = {"plain": "plain", "global": "all steps", "local": "one random step"}


def plot_regularised(ds: xr.Dataset) -> Figure:
    """Plot evaluations along training for the plain and both regularised models, and their accuracy at the end."""
    cost = {str(a): float(ds.evaluations.sel(arm=a).mean()) for a in ds.arm.values}
    accuracy = {str(a): float(ds.accuracy.sel(arm=a).mean()) for a in ds.arm.values}
    fig = theme.figure(
        title="Ask for dynamics that are easy to solve, and you get them",
        subtitle=f"Digits, {ds.sizes['seed']} seeds, tolerance {ds.attrs['tolerance']:g}; the solver's own error estimate in "
        f"the loss, weight {ds.attrs['weight']:g}",
        alt="Left: evaluations for a training batch against training step. At the end, on test digits: "
        + ", ".join(f"{_ARM_NAMES[name]} {value:.0f}" for name, value in cost.items())
        + ". Right: test accuracy of each seed; means "
        + ", ".join(f"{_ARM_NAMES[name]} {value:.3f}" for name, value in accuracy.items())
        + ".",
        height=400,
    )
    theme.columns(
        fig,
        ("Evaluations in training", axis_title(ds.step), axis_title(ds.evaluations_during)),
        ("Test accuracy, each dot a seed", axis_title(ds.accuracy), ""),
        gap=0.26,
    )
    during = ds.evaluations_during.rolling(step=5, min_periods=1, center=True).mean()
    for index, name in enumerate(ds.arm.values):
        mean, low, high = _over_seeds(during.sel(arm=name))
        theme.add_measurement(fig, ds.step, mean, _ARM_NAMES[str(name)], low=low, high=high, index=index)
        values = np.sort(ds.accuracy.sel(arm=name).values)
        add_marks(
            fig, values, index + 0.2 * np.linspace(-1, 1, len(values)), _ARM_NAMES[str(name)], theme.color(index),
            theme.MARKERS[index], size=9, column=2,
        )  # fmt: skip
    fig.layout.yaxis.rangemode = "tozero"
    fig.layout.yaxis2.update(
        tickvals=[0, 1, 2], ticktext=[_ARM_NAMES[str(a)] for a in ds.arm.values], range=[2.6, -0.6]
    )
    fig.update_layout(margin={"r": 40})
    return fig


# ---------------------------------------------------------------------------------------------------- equilibria, cells, signatures


def plot_fixed_points(ds: xr.Dataset, norm: float = 1000.0) -> Figure:
    """Plot how the distance of many starts shrinks as a subhomogeneous layer is iterated."""
    part = ds.sel(norm=norm)
    fig = theme.figure(
        title="Whatever the weights, two hundred starts meet in one point",
        subtitle=f"Norm of the weights {norm:,.0f}, {ds.sizes['seed']} seeds; dashed: the guarantee, distance × μ at each step",
        alt="On a logarithmic axis the largest Thompson distance between 200 starts against iterations, falling along or below "
        "dashed straight lines for degrees of subhomogeneity "
        + " and ".join(f"{float(mu):g}" for mu in ds.mu)
        + f". With signed weights and tanh at norm 10 end states stay {float(ds.signed_spread.sel(norm=10.0).min()):.2g} "
        "apart.",
        x=axis_title(ds.iteration),
        y=axis_title(ds.distance),
        y_type="log",
    )
    for index, mu in enumerate(ds.mu.values):
        one = np.maximum(part.distance.sel(mu=mu), 1e-15)
        mean, low, high = _in_decades(one)
        keep = mean > 2e-14
        shown = ds.iteration.values[keep]
        theme.add_theory(fig, shown, mean[0] * mu**shown, "")
        fig.data[-1].name = f"guarantee, μ = {mu:g}"
        theme.add_measurement(
            fig, shown, mean[keep], f"μ = {mu:g}", low=low[keep], high=high[keep], index=index
        )  # fmt: skip
    return _few_decades(fig)


_CELL_NAMES = {
    "liquid": "liquid, fused solver",
    "CT-RNN (relu)": "CT-RNN (ReLU)",
    "neural ODE": "neural ODE",
    "liquid, Euler steps, relu gate": "liquid, Euler steps",
}


def plot_liquid(ds: xr.Dataset) -> Figure:
    """Plot the largest state of liquid and other cells against the scale of their input."""
    said = []
    largest = ds.largest.where(np.isfinite(ds.largest), 1e12).clip(max=1e12)
    for name in ds.cell.values:
        values = largest.sel(cell=name).median("seed")
        said.append(f"{_CELL_NAMES[str(name)]} {float(values[0]):.2g} to {float(values[-1]):.2g}")
    fig = theme.figure(
        title="However hard it is driven, a liquid cell stays where it is",
        subtitle=f"{ds.sizes['seed']} random cells of one width, ReLU gates; what left the finite numbers is drawn at 10¹²",
        alt="On log-log axes the largest state against the scale of the input. Medians: " + "; ".join(said) + ".",
        x=axis_title(ds.input_scale),
        y=axis_title(ds.largest),
        x_type="log",
        y_type="log",
    )
    for index, name in enumerate(ds.cell.values):
        mean, low, high = _in_decades(largest.sel(cell=name))
        label = _CELL_NAMES[str(name)]
        theme.add_measurement(fig, ds.input_scale, mean, label, low=low, high=high, index=index, markers=True)
    fig.update_layout(margin={"r": 170})
    return _few_decades(_few_decades(fig), "xaxis", 2)


def plot_equilibrium(ds: xr.Dataset) -> Figure:
    """Plot what a training step costs in evaluations and products, for equilibrium layers and a finite-time ODE."""
    names = [str(name) for name in ds.model.values]
    mean = {name: float(ds.training_cost.sel(model=name).mean()) for name in names}
    vjps, back = float(ds.implicit_vjps.mean()), float(ds.adjoint_evaluations.mean())
    fig = theme.figure(
        title="The way back from equilibrium is cheap; training is not cheaper for it here",
        subtitle=f"Digits, {ds.sizes['seed']} seeds. Back from equilibrium: implicit gradient {vjps:.0f} products, adjoint "
        f"{back:.0f} evaluations",
        alt="Evaluations and products for a training step, each dot a seed. Means: "
        + ", ".join(f"{name} {value:.1f}" for name, value in mean.items())
        + f". The implicit gradient takes {vjps:.0f} products, the adjoint {back:.0f} evaluations for a gradient that is off "
        f"by {float(ds.adjoint_difference.median()):.2g} relative to its size.",
        x=axis_title(ds.training_cost),
        height=300,
    )
    for row, name in enumerate(names):
        values = np.sort(ds.training_cost.sel(model=name).values)
        add_marks(
            fig, values, row + 0.16 * np.linspace(-1, 1, len(values)), name, theme.color(row), theme.MARKERS[row], size=10
        )  # fmt: skip
    labels = {"equilibrium": "equilibrium", "skip": "with a first guess", "neural ODE": "finite-time ODE"}
    fig.update_yaxes(
        tickvals=list(range(len(names))), ticktext=[labels.get(n, n) for n in names], range=[len(names) - 0.5, -0.5]
    )
    fig.update_xaxes(rangemode="tozero")
    fig.update_layout(margin={"r": 40})
    return fig


def plot_signature_regression(ds: xr.Dataset) -> Figure:
    """Plot a target rebuilt from few observations, and the error of lasso and neural CDE against what they cost."""
    lasso = float(ds.error.median())
    late = float(ds.cde_error.isel(budget=-1).median("seed"))
    fig = theme.figure(
        title="Few observations: a linear regression on signatures is hard to beat cheaply",
        subtitle=f"{ds.sizes['seed']} random controlled equations, medians; a neural CDE with {float(ds.budget[-1]):g} times the "
        "work is the better one",
        alt=f"Left: a target path, its reconstruction by lasso on signatures and by a neural CDE. Right: on log-log axes the "
        f"error of the neural CDE against its work over that of the lasso, from "
        f"{float(ds.cde_error.isel(budget=0).median('seed')):.2g} to {late:.2g}; the lasso's error is {lasso:.2g}.",
        height=400,
    )
    theme.columns(
        fig,
        ("One test path", axis_title(ds.time), axis_title(ds.target)),
        ("Error against work", "Multiply-adds / lasso's", "Error / variance"),
        gap=0.2,
    )
    fig.layout.xaxis2.update(type="log", dtick=1, minor={"dtick": "D1", "ticks": "outside", "ticklen": 2})
    fig.layout.yaxis2.update(type="log", dtick=1, minor={"dtick": "D1", "ticks": "outside", "ticklen": 2})
    one = ds.isel(shown=0)
    theme.add_theory(fig, ds.time, one.target, "")
    fig.data[-1].name = "target"
    theme.add_measurement(fig, ds.time, one.predicted, "lasso", index=1)
    theme.add_measurement(fig, ds.time, one.cde_predicted, "CDE", index=0)
    x = np.concatenate([[1.0], ds.budget.values])
    theme.add_measurement(fig, x, np.full(len(x), lasso), "lasso", index=1, column=2)
    mean, low, high = _in_decades(ds.cde_error)
    theme.add_measurement(fig, ds.budget, mean, "CDE", low=low, high=high, index=0, markers=True, column=2)
    return fig


# ---------------------------------------------------------------------------------------------------- phase portraits


def _arrows(ds: xr.Dataset) -> tuple[Any, Any]:
    """Return the arrows of a vector field as one line with gaps: shaft and two strokes of the head, all of one length."""
    x, y = np.meshgrid(ds.arrow_x.values, ds.arrow_y.values)
    u, v = ds.rate.isel(component=0).values, ds.rate.isel(component=1).values
    step_x, step_y = (float(axis[-1] - axis[0]) / (len(axis) - 1) for axis in (ds.arrow_x.values, ds.arrow_y.values))
    # In units of the grid, so that arrows look alike whatever the axes' units are; fast ones are a little longer.
    across, up = u / step_x, v / step_y
    speed = np.hypot(across, up)
    size = 0.30 + 0.45 * np.sqrt(speed / max(float(speed.max()), 1e-12))
    scale = np.divide(size, speed, out=np.zeros_like(speed), where=speed > 0)
    across, up = (across * scale).ravel(), (up * scale).ravel()
    x, y = x.ravel(), y.ravel()
    rows_x, rows_y = [], []
    tip = (0.5 * across, 0.5 * up)
    for a, b in ((-0.5 * across, -0.5 * up), tip):
        rows_x.append(a)
        rows_y.append(b)
    for turn in (0.45, -0.45):
        cos, sin = np.cos(np.pi - turn), np.sin(np.pi - turn)
        rows_x += [tip[0] + 0.42 * (cos * across - sin * up), tip[0]]
        rows_y += [tip[1] + 0.42 * (sin * across + cos * up), tip[1]]
    rows_x = [x + step_x * row for row in rows_x]
    rows_y = [y + step_y * row for row in rows_y]
    return _joined(np.stack(rows_x, axis=1), np.stack(rows_y, axis=1))


def add_field(fig: Figure, ds: xr.Dataset, column: int = 1) -> Figure:
    """Add the arrows of a phase portrait as one quiet trace."""
    x, y = _arrows(ds)
    end = "" if column == 1 else str(column)
    fig.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": "#b9bcc4", "width": 1.2},
            hoverinfo="skip",
            name="vector field",
            xaxis=f"x{end}",
            yaxis=f"y{end}",
        )
    )
    return fig


def plot_phase_portrait(ds: xr.Dataset) -> Figure:
    """Plot the vector field of a system with trajectories through it."""
    starts = ds.state.isel(time=0)
    across, up = (str(name) for name in ds.component.values)
    fig = theme.figure(
        title=f"{ds.attrs['title']}: follow the arrows",
        subtitle=f"{ds.sizes['trajectory']} trajectories, {int(ds.evaluations.sum())} evaluations in all",
        alt=f"The vector field of {ds.attrs['title']} in the plane of {across} and {up}, with {ds.sizes['trajectory']} "
        "trajectories from light (early) to dark (late).",
        x=axis_title(ds.arrow_x),
        y=axis_title(ds.arrow_y),
        height=420,
    )
    add_field(fig, ds)
    state = ds.state.transpose("trajectory", "time", "variable").values
    for part, rows in enumerate(np.array_split(np.arange(ds.sizes["time"]), 3)):
        # Each part begins where the last one ended.
        span = slice(max(int(rows[0]) - 1, 0), int(rows[-1]) + 1)
        shade = theme.time_color(part / 2)
        add_paths(fig, state[:, span, 0], state[:, span, 1], ("early", "middle", "late")[part], shade, width=2.2)
    return theme.add_data(fig, starts.isel(variable=0), starts.isel(variable=1), "starting points", size=9)
