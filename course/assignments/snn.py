"""Hidden checks of the assignment on spiking networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Case, Mistake, Question, Value, Wrong, compare

PRACTICE = {
    "decay": 0.9,
    "reset": "zero",
    "steepness": 4.0,
    "strength_plus": 0.01,
    "strength_minus": 0.012,
    "tau_plus": 20.0,
    "tau_minus": 30.0,
    "most_spikes": 20,
    "add_energy": 0.9,
    "multiply_energy": 4.6,
}
Array = np.ndarray[Any, Any]


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's neuron, its synapse, and its prices."""
    return {
        "decay": float(rng.choice([0.8, 0.85, 0.88])),
        "reset": str(rng.choice(["subtract", "subtract", "zero"])),
        "steepness": float(rng.choice([3.0, 5.0, 6.0])),
        "strength_plus": float(rng.choice([0.008, 0.012, 0.015])),
        "strength_minus": float(rng.choice([0.01, 0.014, 0.02])),
        "tau_plus": float(rng.choice([15.0, 17.0, 25.0])),
        "tau_minus": float(rng.choice([20.0, 34.0, 40.0])),
        "most_spikes": int(rng.choice([15, 25, 30])),
        "add_energy": float(rng.choice([0.4, 0.8, 1.1])),
        "multiply_energy": float(rng.choice([3.1, 3.7, 5.0])),
    }


# --- membrane: leaky integrate-and-fire -------------------------------------------------------------------------------


def other(reset: str) -> str:
    """Return the convention that is not this one."""
    return "subtract" if reset == "zero" else "zero"


def run_lif(current: Array, threshold: float, decay: float, reset: str) -> tuple[Array, Array, Array]:
    """Return spikes, and the membrane before and after its reset."""
    current = np.asarray(current, dtype=np.float64)
    spikes, before, after = (np.zeros(current.shape) for _ in range(3))
    held = np.zeros(current.shape[1])
    for t, now in enumerate(current):
        before[t] = decay * held + now
        spikes[t] = before[t] >= threshold
        held = before[t] * (1 - spikes[t]) if reset == "zero" else before[t] - threshold * spikes[t]
        after[t] = held
    return spikes, before, after


def membrane_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Several neurons, large numbers, a single step in float32, and a membrane that just reaches the threshold."""
    return [
        Call("run_lif", rng.uniform(-0.2, 1.2, (40, 5)), 1.3, weight=3.0, label="several neurons"),
        Call("run_lif", rng.uniform(-0.2, 1.2, (40, 4)) * 1e30, 1.1e30, label="large numbers"),
        Call("run_lif", np.array([[1.05, 0.4, 2.0]], dtype=np.float32), 1.0, label="a single step, float32"),
        Call("run_lif", np.array([[1.0], [0.3], [0.3]]), 1.0, label="just at the threshold"),
    ]


def membrane_reference(case: Call, variant: dict[str, Any]) -> tuple[Array, Array]:
    """Return spikes and membrane."""
    return run_lif(*case.args, variant["decay"], variant["reset"])[:2]


def membrane_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for the other reset, for spikes alone, and for the two in the wrong order."""
    spikes, before, after = run_lif(*case.args, variant["decay"], variant["reset"])
    wrong_reset = run_lif(*case.args, variant["decay"], other(variant["reset"]))
    full = compare(
        answer,
        (spikes, before),
        rtol=1e-5,
        mistakes=[
            Mistake(wrong_reset[:2], 0.5, "This is the other convention of the reset."),
            Mistake((spikes, after), 0.5, "The membrane is wanted before its reset."),
            Mistake((before, spikes), 0.5, "Spikes first, then the membrane."),
        ],
    )
    if full[0] > 0 or not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return full
    if compare(answer[0], spikes)[0] == 1:
        return 0.5, "The spikes are right, the membrane is not."
    return full


_MEMBRANE = """
def run_lif(current, threshold):
    {before}
    spikes, membrane = np.zeros(current.shape), np.zeros(current.shape)
    v = np.zeros(current.shape[1])
    for t in range(len(current)):
        u = {u}
        s = ({fires}) * 1.0
        if {zero}:
            v = {emptied}
        else:
            v = {lowered}
        spikes[t], membrane[t] = s, {kept}
    return {result}
"""


def _membrane(**changed: str) -> str:
    parts = {
        "before": "current = np.asarray(current, dtype=np.float64)",
        "u": "decay * v + current[t]",
        "fires": "u >= threshold",
        "zero": 'reset == "zero"',
        "emptied": "u * (1 - s)",
        "lowered": "u - threshold * s",
        "kept": "u",
        "result": "spikes, membrane",
    }
    return _MEMBRANE.format(**(parts | changed))


# Shares of six: several neurons (three), large numbers, a single step, just at the threshold.
MEMBRANE_WRONG = [
    Wrong("fires only above the threshold", _membrane(fires="u > threshold"), 5 / 6),
    # In a single step, and where nothing is left over, both conventions agree.
    Wrong("the other reset", _membrane(zero='reset == "subtract"'), 4 / 6),
    Wrong("the membrane after its reset", _membrane(kept="v"), 0.5),
    Wrong("no reset", _membrane(emptied="u", lowered="u"), 1 / 6),
    Wrong("the current leaks, too", _membrane(u="decay * (v + current[t])"), 0.0),
    Wrong("no leak", _membrane(u="v + current[t]"), 1.5 / 6),
    Wrong("a threshold of one", _membrane(before="threshold = 1.0"), 2 / 6),
    Wrong("membrane first", _membrane(result="membrane, spikes"), 0.5),
    Wrong("time along the columns", _membrane(before="current = current.T", result="spikes.T, membrane.T"), 1 / 6),
    # In a single step from rest nothing is changed.
    Wrong("in place", _membrane(before="", kept="u; current[t] = u"), 3.5 / 6),
]


# --- backward: the surrogate's backward pass --------------------------------------------------------------------------


def current_gradient(case: Call, variant: dict[str, Any], reset: str) -> Array:
    """Return dL/dI by the recursion backwards in time."""
    spikes, membrane, grad, threshold = case.args
    k = variant["steepness"]
    slope = k / 2 / (1 + k * np.abs(membrane - threshold)) ** 2
    kept = 1 - spikes if reset == "zero" else np.ones_like(spikes)
    gradient, later = np.zeros_like(membrane), np.zeros(membrane.shape[1])
    for t in reversed(range(len(membrane))):
        later = grad[t] * slope[t] + variant["decay"] * kept[t] * later
        gradient[t] = later
    return gradient


def backward_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Several neurons, a single step, and a loss that looks at the last step alone."""

    def case(num_steps: int, num: int, threshold: float) -> tuple[Array, Array, Array, float]:
        current = rng.uniform(0.1, 0.9, (num_steps, num))
        current[0] = np.linspace(0.5, 2.5, num)  # the first step has membranes below and above its threshold
        spikes, membrane, _ = run_lif(current, threshold, variant["decay"], variant["reset"])
        return spikes, membrane, rng.standard_normal((num_steps, num)), threshold

    last = case(8, 9, 0.8)
    last[2][:-1] = 0
    return [
        Call("current_gradient", *case(25, 4, 1.2), weight=3.0, label="several neurons"),
        Call("current_gradient", *case(1, 3, 1.5), label="a single step"),
        Call("current_gradient", *last, label="a loss of the last step"),
    ]


def backward_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for the other reset, or for a slope without its factor."""
    right = current_gradient(case, variant, variant["reset"])
    return compare(
        answer,
        right,
        mistakes=[
            Mistake(
                current_gradient(case, variant, other(variant["reset"])),
                0.5,
                "What does a spike do to the path through v? This is right for the other reset.",
            ),
            Mistake(2 * right / variant["steepness"], 0.5, "The slope's peak is k/2, not 1."),
            Mistake(2 * right, 0.5, "The slope's peak is k/2, not k."),
        ],
    )


_BACKWARD = """
def current_gradient(spikes, membrane, grad_spikes, threshold):
    x = {x}
    slope = {slope}
    kept = {kept}
    gradient, later = {gradient}, np.zeros(membrane.shape[1])
    for t in {order}(range(len(membrane))):
        later = {later}
        gradient[t] = later
    return gradient
"""


def _backward(**changed: str) -> str:
    parts = {
        "x": "membrane - threshold",
        "slope": "steepness / 2 / (1 + steepness * np.abs(x)) ** 2",
        "kept": '1 - spikes if reset == "zero" else np.ones_like(spikes)',
        "gradient": "np.zeros(membrane.shape)",
        "order": "reversed",
        "later": "grad_spikes[t] * slope[t] + decay * kept[t] * later",
    }
    return _BACKWARD.format(**(parts | changed))


# Shares of five: several neurons (three), a single step, a loss of the last step.
BACKWARD_WRONG = [
    Wrong("the other reset", _backward(kept='1 - spikes if reset == "subtract" else np.ones_like(spikes)'), 3 / 5),
    Wrong("no leak", _backward(later="grad_spikes[t] * slope[t] + kept[t] * later"), 1 / 5),
    Wrong("each step alone", _backward(later="grad_spikes[t] * slope[t]"), 1 / 5),
    Wrong("forwards in time", _backward(order=""), 1 / 5),
    Wrong("leaks once too often", _backward(later="decay * (grad_spikes[t] * slope[t] + kept[t] * later)"), 0.0),
    Wrong("slope at the membrane", _backward(x="membrane"), 0.0),
    Wrong("a peak of one", _backward(slope="1 / (1 + steepness * np.abs(x)) ** 2"), 0.5),
    Wrong("the true slope", _backward(slope="np.zeros_like(x)"), 0.0),
    Wrong("distance with its sign", _backward(slope="steepness / 2 / (1 + steepness * x) ** 2"), 0.0),
    Wrong("in place", _backward(gradient="grad_spikes"), 0.5),
]


# --- stdp: pairs of spikes --------------------------------------------------------------------------------------------


def weight_change(pre: Array, post: Array, plus: float, minus: float, tau_plus: float, tau_minus: float) -> float:
    """Return the sum over all pairs."""
    difference = np.asarray(post, np.float64)[None, :] - np.asarray(pre, np.float64)[:, None]
    up = np.exp(-difference[difference > 0] / tau_plus).sum()
    down = np.exp(difference[difference < 0] / tau_minus).sum()
    return float(plus * up - minus * down)


def stdp_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Many spikes, none, some at the same time, and some that are far apart."""
    return [
        Call("weight_change", rng.uniform(0, 200, 12), rng.uniform(0, 200, 9), weight=2.0, label="many spikes"),
        Call("weight_change", rng.uniform(0, 200, 4), np.array([]), label="a silent target"),
        Call(
            "weight_change", np.array([10.0, 20.0, 30.0]), np.array([10.0, 25.0, 30.0, 30.0]), label="at the same time"
        ),
        Call("weight_change", np.array([3.0, 8.0, 5e6]), np.array([6.0, 2e6, 5e6 - 4]), label="far apart"),
    ]


def _constants(variant: dict[str, Any]) -> tuple[float, float, float, float]:
    return tuple(variant[name] for name in ("strength_plus", "strength_minus", "tau_plus", "tau_minus"))  # type: ignore[return-value]


def stdp_reference(case: Call, variant: dict[str, Any]) -> float:
    """Return the change."""
    return weight_change(*case.args, *_constants(variant))


def stdp_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Marks for half a window, exchanged constants, and times in the wrong order."""
    pre, post = case.args
    plus, minus, tau_plus, tau_minus = _constants(variant)
    return compare(
        answer,
        stdp_reference(case, variant),
        atol=1e-12,
        mistakes=[
            Mistake(
                weight_change(pre, post, plus, 0.0, tau_plus, tau_minus), 0.5, "Pairs that come too late are missing."
            ),
            Mistake(
                weight_change(pre, post, plus, minus, tau_minus, tau_plus), 0.5, "The two time constants are exchanged."
            ),
            Mistake(
                weight_change(post, pre, plus, minus, tau_plus, tau_minus),
                0.25,
                "Δt is the target's time minus the source's: who fired first?",
            ),
        ],
    )


_STDP = """
def weight_change(pre, post):
    {before}
    difference = {difference}
    up = strength_plus * np.exp(-{positive} / {first})
    down = strength_minus * np.exp({negative} / {second})
    return {result}
"""


def _stdp(**changed: str) -> str:
    parts = {
        "before": "",
        "difference": "post[None, :] - pre[:, None]",
        "positive": "np.maximum(difference, 0)",
        "negative": "np.minimum(difference, 0)",
        "first": "tau_plus",
        "second": "tau_minus",
        "result": "(np.where(difference > 0, up, 0).sum() - np.where(difference < 0, down, 0).sum())",
    }
    return _STDP.format(**(parts | changed))


# Shares of five: many (two), silent, at the same time, far apart.
STDP_WRONG = [
    Wrong("source minus target", _stdp(difference="pre[:, None] - post[None, :]"), 2 / 5),
    Wrong(
        "same time counts as before",
        _stdp(result="np.where(difference >= 0, up, 0).sum() - np.where(difference < 0, down, 0).sum()"),
        4 / 5,
    ),
    Wrong(
        "one by one",
        _stdp(before="n = min(len(pre), len(post)); pre, post = pre[:n], post[:n]", difference="post - pre"),
        1 / 5,
    ),
    Wrong("time constants exchanged", _stdp(first="tau_minus", second="tau_plus"), 3 / 5),
    Wrong(
        "exponentials that overflow",
        _stdp(
            positive="difference",
            negative="difference",
            result="((difference > 0) * up - (difference < 0) * down).sum()",
        ),
        4 / 5,
    ),
    Wrong("growth only", _stdp(result="np.where(difference > 0, up, 0).sum()"), 3 / 5),
    Wrong(
        "mean over the pairs",
        _stdp(result="(np.where(difference > 0, up, 0) - np.where(difference < 0, down, 0)).mean()"),
        0.0,
    ),
    Wrong("not added up", _stdp(result="np.where(difference > 0, up, 0) - np.where(difference < 0, down, 0)"), 0.0),
    Wrong(
        "grows either way",
        _stdp(result="np.where(difference > 0, up, 0).sum() + np.where(difference < 0, down, 0).sum()"),
        1 / 5,
    ),
    Wrong("in place", _stdp(before="pre -= 1.0; post -= 1.0"), 0.5),
]


# --- quiet: an explorer question, from the student's own current ------------------------------------------------------


def own_numbers(variant: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Return the student's current, input spikes and weights, as the setup cell draws them."""
    rng = np.random.default_rng(variant["seed"])
    current = rng.normal(0.2, 0.4, (400, 1))
    spikes = (rng.random((20, 40)) < 0.07) * 1.0
    return current, spikes, rng.normal(0.25, 0.5, (40, 50))


def quiet_threshold(variant: dict[str, Any]) -> float:
    """Return the first threshold, in hundredths, with few enough spikes."""
    current = own_numbers(variant)[0]
    grid = np.arange(50, 401) / 100
    # All thresholds at once: the same current for 351 neurons, each with a threshold of its own.
    held, count = np.zeros(len(grid)), np.zeros(len(grid))
    for now in current[:, 0]:
        u = variant["decay"] * held + now
        s = u >= grid
        count += s
        held = u * (1 - s) if variant["reset"] == "zero" else u - grid * s
    quiet = count <= variant["most_spikes"]
    if not quiet.any():
        raise ValueError("the target must be within reach.")
    return float(grid[np.argmax(quiet)])


def quiet_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks one step off."""
    right = quiet_threshold(variant)
    return compare(
        answer,
        right,
        atol=1e-6,
        mistakes=[
            Mistake(right - 0.01, 0.5, "A hundredth too low: at most so many spikes are allowed."),
            Mistake(right + 0.01, 0.5, "A hundredth lower is quiet enough, too."),
            Mistake(round(100 * right), 0.25, "These are hundredths. The threshold itself is asked for."),
        ],
    )


_QUIET = """
_grid = np.arange(50, 401) / 100
_counts = np.array([run_lif(own_current, threshold)[0].sum() for threshold in _grid])
_first = float(_grid[np.argmax(_counts <= most_spikes)])
quiet_threshold = {value}
"""
QUIET_WRONG = [
    Wrong("one too low", _QUIET.format(value="_first - 0.01"), 0.5),
    Wrong("one too high", _QUIET.format(value="_first + 0.01"), 0.5),
    Wrong("in hundredths", _QUIET.format(value="round(100 * _first)"), 0.25),
    Wrong("the number of spikes", _QUIET.format(value="float(run_lif(own_current, _first)[0].sum())"), 0.0),
    Wrong("the largest", "quiet_threshold = 4.0", 0.0),
    Wrong("as text", _QUIET.format(value="str(_first)"), 0.0),
    Wrong("not a number", "quiet_threshold = float('nan')", 0.0),
]


# --- bill: an experiment over thresholds ------------------------------------------------------------------------------


def bill(
    input_spikes: Array, weights: Array, num_outputs: int, threshold: float, variant: dict[str, Any]
) -> tuple[float, float, float]:
    """Return synaptic operations, membrane updates and dense operations."""
    num_steps, num_inputs = input_spikes.shape
    num_hidden = weights.shape[1]
    hidden = run_lif(input_spikes @ weights, threshold, variant["decay"], variant["reset"])[0]
    return (
        float(input_spikes.sum() * num_hidden + hidden.sum() * num_outputs),
        float(num_steps * (num_hidden + num_outputs)),
        float(num_inputs * num_hidden + num_hidden * num_outputs),
    )


def bill_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """A network, silence, a single step, and the ratio at two thresholds."""
    spikes = (rng.random((12, 9)) < 0.3) * 1.0
    return [
        Call("bill", spikes, rng.uniform(0.1, 0.5, (9, 7)), 4, 1.0, weight=2.0, label="a network"),
        Call("bill", np.zeros((6, 5)), rng.standard_normal((5, 3)), 2, 1.0, label="silence"),
        Call("bill", np.ones((1, 2)), np.ones((2, 1)), 1, 1.0, label="a single step"),
        Call("energy_ratio", float(rng.uniform(0.8, 1.2)), label="a low threshold"),
        Call("energy_ratio", float(rng.uniform(2.5, 3.5)), label="a high threshold"),
    ]


def bill_reference(case: Call, variant: dict[str, Any]) -> Any:
    """Return the counts, or the ratio."""
    if case.name == "bill":
        return bill(*case.args, variant)
    _, spikes, weights = own_numbers(variant)
    synaptic, membrane, dense = bill(spikes, weights, 10, case.args[0], variant)
    add, multiply = variant["add_energy"], variant["multiply_energy"]
    return (add * synaptic + multiply * membrane) / (multiply * dense)


def bill_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """A third for each count; half for a ratio upside down, or without the membranes."""
    right = bill_reference(case, variant)
    if case.name == "bill":
        fraction, message = compare(answer, right)
        if fraction < 1 and isinstance(answer, (tuple, list, np.ndarray)) and len(answer) == 3:
            good = sum(compare(got, wanted)[0] == 1 for got, wanted in zip(answer, right, strict=True))
            return good / 3, message
        return fraction, message
    _, spikes, weights = own_numbers(variant)
    synaptic, _, dense = bill(spikes, weights, 10, case.args[0], variant)
    return compare(
        answer,
        right,
        mistakes=[
            Mistake(1 / right, 0.5, "The ratio is upside down."),
            Mistake(
                variant["add_energy"] * synaptic / (variant["multiply_energy"] * dense),
                0.5,
                "The membranes are missing.",
            ),
        ],
    )


_BILL = """
def bill(input_spikes, weights, num_outputs, threshold):
    num_steps, num_inputs = input_spikes.shape
    num_hidden = weights.shape[1]
    hidden_spikes, _ = run_lif(input_spikes @ weights, threshold)
    synaptic = {synaptic}
    membrane = {membrane}
    dense = {dense}
    return {result}

def energy_ratio(threshold):
    synaptic, membrane, dense = {unpacked}
    return {ratio}
"""


def _bill(**changed: str) -> str:
    parts = {
        "synaptic": "input_spikes.sum() * num_hidden + hidden_spikes.sum() * num_outputs",
        "membrane": "num_steps * (num_hidden + num_outputs)",
        "dense": "num_inputs * num_hidden + num_hidden * num_outputs",
        "result": "synaptic, membrane, dense",
        "unpacked": "bill(own_input, own_weights, own_num_outputs, threshold)",
        "ratio": "(add_energy * synaptic + multiply_energy * membrane) / (multiply_energy * dense)",
    }
    return _BILL.format(**(parts | changed))


# Shares of six: a network (two), silence, a single step, two ratios. In silence there are no synaptic operations.
BILL_WRONG = [
    Wrong("hidden spikes are free", _bill(synaptic="input_spikes.sum() * num_hidden"), 3 / 6),
    Wrong("outputs have no membranes", _bill(membrane="num_steps * num_hidden"), 4 * (2 / 3) / 6),
    # In a single step a pass each step is one pass.
    Wrong(
        "dense in every step", _bill(dense="num_steps * (num_inputs * num_hidden + num_hidden * num_outputs)"), 3 / 6
    ),
    # With one neuron behind each spike the fan-out is one.
    Wrong("spikes for operations", _bill(synaptic="input_spikes.sum() + hidden_spikes.sum()"), (4 / 3 + 2) / 6),
    Wrong("membranes only where there are spikes", _bill(membrane="hidden_spikes.sum()"), 4 * (2 / 3) / 6),
    Wrong(
        "order of the counts",
        _bill(
            result="membrane, synaptic, dense",
            unpacked="[bill(own_input, own_weights, own_num_outputs, threshold)[i] for i in (1, 0, 2)]",
        ),
        (4 / 3 + 2) / 6,
    ),
    Wrong(
        "upside down",
        _bill(ratio="(multiply_energy * dense) / (add_energy * synaptic + multiply_energy * membrane)"),
        5 / 6,
    ),
    Wrong("membranes for nothing", _bill(ratio="add_energy * synaptic / (multiply_energy * dense)"), 5 / 6),
    Wrong(
        "prices exchanged",
        _bill(ratio="(multiply_energy * synaptic + add_energy * membrane) / (add_energy * dense)"),
        4 / 6,
    ),
    Wrong("operations, not energy", _bill(ratio="(synaptic + membrane) / dense"), 4 / 6),
]

QUESTIONS = {
    "membrane": Question(membrane_inputs, membrane_reference, membrane_judge, MEMBRANE_WRONG),
    "backward": Question(
        backward_inputs,
        lambda case, variant: current_gradient(case, variant, variant["reset"]),
        backward_judge,
        BACKWARD_WRONG,
    ),
    "stdp": Question(stdp_inputs, stdp_reference, stdp_judge, STDP_WRONG),
    "quiet": Question(
        lambda rng, variant: [Value("quiet_threshold")],
        lambda case, variant: quiet_threshold(variant),
        quiet_judge,
        QUIET_WRONG,
    ),
    "bill": Question(bill_inputs, bill_reference, bill_judge, BILL_WRONG),
}
