"""Hidden checks of the assignment on Hopfield networks."""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Case, Mistake, Question, Value, Wrong, compare

# Gains are powers of two and there are 128 spins, so that a field that is zero is exactly zero in floating point.
PRACTICE = {
    "gain": 2.0,
    "zero_field": "keep",
    "num_flipped": 12,
    "threshold": 0.95,
    "pull": 2.0,
    "share": 0.9,
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's constants."""
    return {
        "gain": float(rng.choice([0.25, 0.5, 4.0])),
        "zero_field": str(rng.choice(["keep", "up", "down"])),
        "num_flipped": int(rng.choice([8, 10, 14])),
        "threshold": float(rng.choice([0.9, 0.92, 0.94])),
        "pull": float(rng.choice([0.5, 1.5, 3.0])),
        "share": float(rng.choice([0.8, 0.85, 0.95])),
    }


Array = np.ndarray[Any, Any]

# --- classical: couplings, energy, settling ---------------------------------------------------------------------------


def couplings(patterns: Any, gain: float, *, diagonal: bool = False, scale: bool = True) -> Array:
    """Return Hebb's couplings."""
    patterns = np.asarray(patterns, dtype=float)
    J: Array = gain * patterns.T @ patterns / (patterns.shape[1] if scale else 1)
    if not diagonal:
        np.fill_diagonal(J, 0.0)
    return J


def settle(J: Array, state: Any, sweeps: int, zero_field: str, *, at_once: bool = False) -> Array:
    """Return the state after some sweeps; `at_once` is the mistake of setting all spins together."""
    state = np.array(state, dtype=float)
    for _ in range(sweeps):
        seen = state.copy() if at_once else state
        for i in range(len(state)):
            field = J[i] @ seen
            state[i] = np.sign(field) if field != 0 else {"up": 1.0, "down": -1.0}.get(zero_field, state[i])
    return state


def _spins(rng: np.random.Generator, *shape: int) -> Array:
    return rng.choice([-1.0, 1.0], shape)


def _differing(rng: np.random.Generator, num_patterns: int, zeros: bool, sweeps: int) -> tuple[Array, Array]:
    """Return couplings and a state whose end depends on the order (and, with `zeros`, on each rule for a field of zero)."""
    while True:
        J = couplings(_spins(rng, num_patterns, 16), 1.0)
        state = _spins(rng, 16)
        ends = [settle(J, state, sweeps, rule) for rule in ("keep", "up", "down")]
        ends.append(settle(J, state, sweeps, "keep", at_once=True))
        alike = [np.array_equal(a, b) for i, a in enumerate(ends) for b in ends[:i]]
        if zeros and not any(alike):
            return J, state
        # Of sixteen spins and an odd number of patterns no field is ever zero.
        if not zeros and not np.array_equal(ends[0], ends[3]):
            return J, state


def classical_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Random patterns, one alone, many copies in small integers; states that tell the rules apart."""
    J = couplings(_spins(rng, 5, 12), 1.0)
    state = _spins(rng, 12)
    while abs(state @ J @ state) < 0.1:
        state = _spins(rng, 12)
    copies = np.repeat(_spins(rng, 2, 8), 100, axis=0).astype(np.int8)
    uneven, uneven_state = _differing(rng, 7, False, 3)
    even, even_state = _differing(rng, 6, True, 1)
    first, first_state = _differing(rng, 5, False, 1)
    return [
        Call("couplings", _spins(rng, 5, 12), label="couplings of five patterns"),
        Call("couplings", _spins(rng, 1, 6), label="couplings of one pattern"),
        Call("couplings", copies, label="couplings of many copies, in int8"),
        Call("energy", J, state, label="energy"),
        Call("settle", uneven, uneven_state, 3, weight=2.0, label="three sweeps"),
        Call("settle", first, first_state.astype(np.int64), 1, label="one sweep, in integers"),
        Call("settle", even, even_state, 1, label="fields of zero"),
        Call("settle", first, first_state, 0, label="no sweep"),
    ]


def classical_reference(case: Call, variant: dict[str, Any]) -> Any:
    """Return what the function must return."""
    if case.name == "couplings":
        return couplings(case.args[0], variant["gain"])
    if case.name == "energy":
        J, state = case.args
        return float(-0.5 * state @ J @ state)
    return settle(*case.args, variant["zero_field"])


def classical_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a factor, or a diagonal, that should not be there."""
    right = classical_reference(case, variant)
    mistakes = []
    if case.name == "couplings":
        (patterns,) = case.args
        mistakes = [
            Mistake(couplings(patterns, variant["gain"], diagonal=True), 0.5, "A spin must not be coupled to itself."),
            Mistake(couplings(patterns, 1.0), 0.5, "The factor g is missing."),
            Mistake(couplings(patterns, variant["gain"], scale=False), 0.5, "The factor 1/N is missing."),
            Mistake(right * patterns.shape[1] / len(patterns), 0.5, "Divide by the number of spins, not of patterns."),
        ]
    elif case.name == "energy":
        mistakes = [
            Mistake(2 * right, 0.5, "Each pair is counted twice: where is the half?"),
            Mistake(-right, 0.5, "The sign: agreement must lower the energy."),
        ]
    else:
        J, state, sweeps = case.args
        if sweeps and np.array_equal(np.shape(answer), np.shape(state)):
            together = settle(J, state, sweeps, variant["zero_field"], at_once=True)
            mistakes = [
                Mistake(together, 0.0, "All spins were set at once: each must see what those before it became.")
            ]
    return compare(answer, right, mistakes=mistakes)


_CLASSICAL = """
def couplings(patterns):
    patterns = {patterns}
    J = {J}
    {diagonal}
    return J
def energy(J, state):
    return {energy}
def settle(J, state, sweeps):
    state = {copy}
    for _ in range(sweeps):
        seen = {seen}
        for i in range(len(state)):
            field = J[i] @ seen
            state[i] = {new}
    return state
"""


def _classical(**changed: str) -> str:
    parts = {
        "patterns": "np.asarray(patterns, dtype=float)",
        "J": "gain * patterns.T @ patterns / patterns.shape[1]",
        "diagonal": "np.fill_diagonal(J, 0.0)",
        "energy": "-0.5 * state @ J @ state",
        "copy": "np.array(state, dtype=float)",
        "seen": "state",
        "new": 'np.sign(field) if field else {"up": 1.0, "down": -1.0}.get(zero_field, state[i])',
    }
    return _CLASSICAL.format(**(parts | changed))


# Nine shares: three of the couplings, one of the energy, five of settling.
CLASSICAL_WRONG = [
    Wrong("all spins at once", _classical(seen="state.copy()"), 5 / 9),
    Wrong("couples a spin to itself", _classical(diagonal="pass"), 7.5 / 9),
    Wrong("no factor 1/N", _classical(J="gain * patterns.T @ patterns"), 7.5 / 9),
    Wrong("no gain", _classical(J="patterns.T @ patterns / patterns.shape[1]"), 7.5 / 9),
    Wrong("transposed", _classical(J="gain * patterns @ patterns.T / patterns.shape[1]"), 6 / 9),
    Wrong("no half", _classical(energy="-state @ J @ state"), 8.5 / 9),
    Wrong("the energy's sign", _classical(energy="0.5 * state @ J @ state"), 8.5 / 9),
    Wrong("a spin of zero", _classical(new="np.sign(field)"), 8 / 9),
    Wrong(
        "integers overflow",
        _classical(patterns="patterns", J="gain * (patterns.T @ patterns) / patterns.shape[1]"),
        8 / 9,
    ),
    # What is changed in place loses half: three sweeps, one sweep and zero fields, four shares. No sweep changes nothing.
    Wrong("in place", _classical(copy="state"), 7 / 9),
]


# --- wrong-share: signal and noise ------------------------------------------------------------------------------------


def wrong_share(num_patterns: int, num_spins: int, flipped: float) -> float:
    """Return the probability that a spin is wrong after one step."""
    signal = 1 - 2 * flipped
    if num_patterns == 1:
        return 0.0 if signal > 0 else 0.5 if signal == 0 else 1.0
    return NormalDist().cdf(-signal / ((num_patterns - 1) / num_spins) ** 0.5)


def most_patterns(num_spins: int, tolerated: float) -> int:
    """Return the largest number of patterns for which that is at most `tolerated`."""
    most = max(1, int(num_spins / NormalDist().inv_cdf(tolerated) ** 2) - 1)
    while wrong_share(most + 1, num_spins, 0.0) <= tolerated:
        most += 1
    return most


def share_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Usual loads, one pattern alone, half and more of the spins flipped; tight and loose tolerances."""
    count, size = int(rng.integers(20, 60)), int(rng.integers(150, 400))
    return [
        Call("wrong_share", count, size, float(rng.uniform(0.05, 0.3)), weight=2.0, label="a usual cue"),
        Call("wrong_share", count, size, 0.0, label="no spin flipped"),
        Call("wrong_share", count, size, float(rng.uniform(0.6, 0.9)), label="most spins flipped"),
        Call("wrong_share", 1, size, 0.5, label="one pattern, half of its spins"),
        Call(
            "most_patterns", size, float(rng.uniform(0.005, 0.02)), weight=2.0, label="a tolerance of about a percent"
        ),
        Call("most_patterns", 30, 1e-9, label="hardly any tolerance"),
    ]


def share_reference(case: Call, variant: dict[str, Any]) -> float:
    """Return the closed form."""
    return (wrong_share if case.name == "wrong_share" else most_patterns)(*case.args)


def share_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for all patterns as noise, or one pattern off."""
    right = share_reference(case, variant)
    if case.name == "most_patterns":
        return compare(
            answer,
            right,
            mistakes=[
                Mistake(right + 1, 0.5, "One too many: at that number the share is above what is tolerated."),
                Mistake(right - 1, 0.5, "One too few. Which patterns are noise?"),
            ],
        )
    count, size, flipped = case.args
    if count == 1:
        return compare(answer, right)
    mistakes = [
        Mistake(1 - right, 0.25, "This is the probability that the spin is right."),
        Mistake(wrong_share(count + 1, size, flipped), 0.5, "The pattern itself is no noise: there are K − 1 others."),
        Mistake(
            NormalDist().cdf(-(1 - flipped) / ((count - 1) / size) ** 0.5),
            0.25,
            "A flipped spin does not only lack, it votes against: the overlap is 1 − 2f.",
        ),
        Mistake(
            NormalDist().cdf(-(1 - 2 * flipped) / ((count - 1) / size)),
            0.25,
            "The noise has the variance (K − 1)/N; a probability needs its standard deviation.",
        ),
    ]
    return compare(answer, right, rtol=1e-6, atol=1e-12, mistakes=mistakes)


_SHARE = """
from statistics import NormalDist
def wrong_share(num_patterns, num_spins, flipped):
    signal = {signal}
    {alone}
    return NormalDist().cdf({sign}signal / {noise})
def most_patterns(num_spins, tolerated):
    most = {first}
    while wrong_share(most + 1, num_spins, 0.0) <= tolerated:
        most += 1
    return most{more}
"""


def _share(**changed: str) -> str:
    parts = {
        "signal": "1 - 2 * flipped",
        "alone": "if num_patterns == 1: return 0.0 if signal > 0 else 0.5 if signal == 0 else 1.0",
        "sign": "-",
        "noise": "((num_patterns - 1) / num_spins) ** 0.5",
        "first": "1",
        "more": "",
    }
    return _SHARE.format(**(parts | changed))


# Eight shares: five of the probability (the usual cue two), three of the number.
SHARE_WRONG = [
    Wrong(
        "the pattern is its own noise",
        _share(noise="(num_patterns / num_spins) ** 0.5"),
        (2 * 0.5 + 0.5 + 0.5 + 1 + 2 * 0.5 + 1) / 8,
    ),
    Wrong("1 - f for the overlap", _share(signal="1 - flipped"), (2 * 0.25 + 1 + 0.25 + 0 + 2 + 1) / 8),
    Wrong(
        "variance for deviation",
        _share(noise="((num_patterns - 1) / num_spins)"),
        (2 * 0.25 + 0.25 + 0.25 + 1 + 0 + 0) / 8,
    ),
    Wrong(
        "probability to be right",
        _share(sign="")
        + "def most_patterns(num_spins, tolerated):\n    return 1 + int(num_spins / NormalDist().inv_cdf(tolerated) ** 2)\n",
        (2 * 0.25 + 0.25 + 0.25 + 1 + 2 + 1) / 8,
    ),
    Wrong("divides by zero", _share(alone="pass", first="2"), (2 + 1 + 1 + 0 + 2 + 0.5) / 8),
    Wrong("no chance", _share(alone="if num_patterns == 1: return 0.0"), (2 + 1 + 1 + 0 + 2 + 1) / 8),
    Wrong("rounded up", _share(more=" + 1"), (5 + 2 * 0.5 + 0.5) / 8),
    Wrong("a load, not a number", _share(more=" / num_spins"), 5 / 8),
]


# --- load-curve: an experiment ----------------------------------------------------------------------------------------

_COUNTS = (6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28)


def own_data(variant: dict[str, Any]) -> tuple[Array, Array]:
    """Return what the setup cell draws: patterns of spins, and points in the plane."""
    rng = np.random.default_rng(variant["seed"])
    patterns = rng.choice([-1.0, 1.0], (40, 128))
    turn, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.6)
    angles = turn + np.concatenate([[0.0, gap], np.array([1.9, 3.1, 4.3]) + rng.uniform(-0.3, 0.3, 3)])
    return patterns, np.stack([np.cos(angles), np.sin(angles)], axis=1)


@functools.lru_cache(maxsize=16)
def _overlaps(seed: int, zero_field: str, num_flipped: int, at_once: bool, cue: bool) -> tuple[float, ...]:
    """Return the mean overlaps, all states of a count settling beside each other."""
    patterns = own_data({"seed": seed})[0]
    found = []
    for count in _COUNTS:
        stored = patterns[:count]
        J = couplings(stored, 1.0)
        state = stored.copy()
        state[:, :num_flipped] *= -1
        begin = state.copy()
        for _ in range(10):
            seen = state.copy() if at_once else state
            for i in range(state.shape[1]):
                field = seen @ J[i]
                at_zero = {"up": 1.0, "down": -1.0}.get(zero_field, state[:, i])
                state[:, i] = np.where(field == 0, at_zero, np.sign(field))
        found.append(float((state * (begin if cue else stored)).mean()))
    return tuple(found)


def overlaps(variant: dict[str, Any], *, at_once: bool = False, cue: bool = False, **changed: Any) -> Array:
    """Return the mean overlap for each number of patterns."""
    used = {name: variant[name] for name in ("seed", "zero_field", "num_flipped")} | changed
    return np.array(_overlaps(**used, at_once=at_once, cue=cue))


def first_bad(values: Array, variant: dict[str, Any]) -> int:
    """Return the first count whose overlap is below the threshold, 0 if none is."""
    return next((count for count, value in zip(_COUNTS, values, strict=True) if value < variant["threshold"]), 0)


def load_reference(case: Value, variant: dict[str, Any]) -> Any:
    """Return the overlaps, or the first count below the threshold."""
    right = overlaps(variant)
    return right if case.name == "overlaps" else first_bad(right, variant)


def load_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a slip in the recipe, and for the count before the first bad one."""
    right = overlaps(variant)
    if case.name == "overlaps":
        return compare(
            answer,
            right,
            rtol=1e-9,
            mistakes=[
                Mistake(overlaps(variant, cue=True), 0.5, "This is the overlap with the cue, not with the pattern."),
                Mistake(
                    overlaps(variant, num_flipped=0), 0.5, "Begin with the first spins reversed, not at the pattern."
                ),
                Mistake(overlaps(variant, at_once=True), 0.5, "The spins were set all at once."),
                Mistake(128 * right, 0.5, "An overlap is divided by the number of spins."),
                Mistake((1 - right) / 2, 0.5, "This is the share of wrong spins, not the overlap."),
            ],
        )
    bad = first_bad(right, variant)
    if bad == 0:
        return compare(answer, bad)
    place = _COUNTS.index(bad)
    return compare(
        answer,
        bad,
        mistakes=[
            Mistake(_COUNTS[max(0, place - 1)], 0.5, "This is the last good one; the first bad one is asked for."),
            Mistake(bad / 128, 0.5, "This is the load; the number of patterns is asked for."),
        ],
    )


_LOAD = """
overlaps = []
for count in counts:
    stored = {stored}
    J = couplings(stored)
    cues = stored.copy()
    cues[:, :num_flipped] *= {flip}
    ends = np.stack([settle(J, cue, {sweeps}) for cue in cues])
    overlaps.append(float({overlap}))
first_bad = {first}
"""


def _load(**changed: str) -> str:
    parts = {
        "stored": "own_patterns[:count]",
        "flip": "-1",
        "sweeps": "10",
        "overlap": "(ends * stored).mean()",
        "first": "next((count for count, m in zip(counts, overlaps) if m < threshold), 0)",
    }
    return _LOAD.format(**(parts | changed))


_RIGHT_FIRST = "next(c for c, m in zip(counts, overlaps) if m < threshold)"
LOAD_WRONG = [
    Wrong("the last good one", _load(first=f"counts[counts.index({_RIGHT_FIRST}) - 1]"), 0.75),
    Wrong("the load", _load(first=f"{_RIGHT_FIRST} / 128"), 0.75),
    Wrong("the place", _load(first=f"counts.index({_RIGHT_FIRST})"), 0.5),
    Wrong("not divided by the spins", _load(overlap="(ends * stored).sum(1).mean()", first="0"), 0.25),
    Wrong("the share of wrong spins", _load(overlap="(ends != stored).mean()", first="6"), 0.25),
    Wrong("the cue's overlap", _load(overlap="(ends * cues).mean()", first="6"), 0.25),
    Wrong("stores all forty", _load().replace("couplings(stored)", "couplings(own_patterns)"), 0.0),
    Wrong("never settles", _load(sweeps="0"), 0.0),
    Wrong("a guess", "overlaps = [1.0] * len(counts)\nfirst_bad = 5", 0.0),
]


# --- modern: attention from an energy ---------------------------------------------------------------------------------


def modern_update(X: Any, states: Any, beta: float, pull: float) -> Array:
    """Return the states after one update: the mean of the patterns with softmax weights, over the pull."""
    X, states = np.asarray(X, dtype=float), np.asarray(states, dtype=float)
    scores = beta * states @ X.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    new: Array = weights / weights.sum(1, keepdims=True) @ X / pull
    return new


def _smooth(X: Any, states: Any, beta: float) -> Array:
    """Return log Σ exp(β x·ξ)."""
    scores = beta * np.asarray(states, dtype=float) @ np.asarray(X, dtype=float).T
    largest = scores.max(1)
    found: Array = largest + np.log(np.exp(scores - largest[:, None]).sum(1))
    return found


def modern_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Random patterns, one alone, equal ones, a state at the origin, a very large β, float32 near its end."""
    X, states = rng.standard_normal((6, 4)), rng.standard_normal((3, 4))
    beta = float(rng.uniform(0.5, 3))
    return [
        Call("modern_update", X, states, beta, weight=3.0, label="six patterns"),
        Call("modern_update", X, states, 1e5, label="a very large β"),
        Call("modern_update", X[:1], states, beta, label="one pattern"),
        Call(
            "modern_update", np.repeat(X[:2], 3, axis=0), 0 * states[:1], beta, label="equal patterns, from the origin"
        ),
        Call("modern_update", (1e20 * X).astype(np.float32), states.astype(np.float32), 1e20, label="float32"),
        Call("modern_energy", X, states, beta, weight=2.0, label="energy"),
        Call("modern_energy", X, states, 1e5, label="energy at a very large β"),
    ]


def modern_reference(case: Call, variant: dict[str, Any]) -> Array:
    """Return the new states, or their energies."""
    X, states, beta = case.args
    if case.name == "modern_update":
        return modern_update(X, states, beta, variant["pull"])
    squares: Array = (np.asarray(states, dtype=float) ** 2).sum(1)
    return -_smooth(X, states, beta) / beta + variant["pull"] / 2 * squares


def modern_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks where the pull is forgotten."""
    X, states, beta = case.args
    right = modern_reference(case, variant)
    pull = variant["pull"]
    if case.name == "modern_update":
        plain = pull * right
        mistakes = [
            Mistake(plain, 0.5, "λ is missing: where does the gradient of (tangent plane + λ/2 ξ²) vanish?"),
            Mistake(
                pull * plain, 0.25, "λ is on the wrong side: a stronger pull brings the state closer to the origin."
            ),
            Mistake(
                states - (pull * states - plain),
                0.25,
                "This is a gradient step of length one. It is the minimum for λ = 1 only.",
            ),
        ]
    else:
        squares = (np.asarray(states, dtype=float) ** 2).sum(1)
        first = -_smooth(X, states, beta) / beta
        mistakes = [
            Mistake(first + squares / 2, 0.5, "λ is missing in the energy."),
            Mistake(first + pull * squares, 0.5, "The half is missing in the energy."),
            Mistake(first * beta + pull / 2 * squares, 0.5, "1/β is missing before the logarithm."),
            Mistake(first, 0.25, "The second term of the energy is missing."),
        ]
    return compare(answer, right, rtol=1e-5, mistakes=mistakes)


_MODERN = """
def modern_update(X, states, beta):
    X, states = {types}
    {before}
    scores = beta * states @ X.T
    weights = np.exp(scores - {largest})
    weights = weights / weights.sum(axis={axis}, keepdims=True)
    return {result}
def modern_energy(X, states, beta):
    scores = beta * np.asarray(states, dtype=float) @ np.asarray(X, dtype=float).T
    largest = {shift}
    smooth = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
    return {energy}
"""


def _modern(**changed: str) -> str:
    parts = {
        "types": "np.asarray(X, dtype=float), np.asarray(states, dtype=float)",
        "before": "pass",
        "largest": "scores.max(axis=1, keepdims=True)",
        "axis": "1",
        "result": "weights @ X / pull",
        "shift": "scores.max(axis=1)",
        "energy": "-smooth / beta + pull / 2 * (states ** 2).sum(axis=1)",
    }
    return _MODERN.format(**(parts | changed))


# Ten shares: seven of the update, three of the energy.
MODERN_WRONG = [
    Wrong("no λ", _modern(result="weights @ X", energy="-smooth / beta + (states ** 2).sum(axis=1) / 2"), 0.5),
    Wrong("times λ", _modern(result="pull * weights @ X"), (7 * 0.25 + 3) / 10),
    # From the origin, or beside very long patterns, that step lacks only λ.
    Wrong(
        "gradient step of length one",
        _modern(result="states - (pull * states - weights @ X)"),
        (5 * 0.25 + 2 * 0.5 + 3) / 10,
    ),
    Wrong("softmax over states", _modern(axis="0", largest="scores.max(axis=0)"), 3 / 10),
    Wrong(
        "overflow",
        _modern(largest="0", shift="np.zeros(len(states))"),
        # A very large β twice, and float32.
        7 / 10,
    ),
    Wrong("float32 overflow", _modern(types="X, states", before="beta = X.dtype.type(beta)"), 9 / 10),
    Wrong("the hardest choice", _modern(result="X[scores.argmax(axis=1)] / pull"), (1 + 1 + 1 + 3) / 10),
    Wrong("no 1/β", _modern(energy="-smooth + pull / 2 * (states ** 2).sum(axis=1)"), (7 + 3 * 0.5) / 10),
    Wrong(
        "one energy in all", _modern(energy="float((-smooth / beta).sum() + pull / 2 * (states ** 2).sum())"), 7 / 10
    ),
    # All but the state at the origin is changed, and float32 overflows on the way.
    Wrong("in place", _modern(types="X, states", before="states *= beta; beta = 1.0; X = X + 0"), (3.5 + 3) / 10),
]


# --- told-apart: an explorer question ---------------------------------------------------------------------------------


def first_weight(points: Array, beta: float, pull: float) -> float:
    """Return the weight on the first pattern, at the end that a state reaches from it."""
    state = points[:1]
    for _ in range(5000):
        before, state = state, modern_update(points, state, beta, pull)
        if np.abs(state - before).max() < 1e-12:
            break
    scores = beta * points @ state[0]
    return float(1 / np.exp(scores - scores[0]).sum())


@functools.lru_cache(maxsize=16)
def _told_apart(seed: int, pull: float, share: float) -> float:
    points = own_data({"seed": seed})[1]
    low, high = 1.0, 2000.0
    while high / low > 1.00001:
        beta = (low * high) ** 0.5
        low, high = (low, beta) if first_weight(points, beta, pull) >= share else (beta, high)
    return high


def told_apart(variant: dict[str, Any], **changed: float) -> float:
    """Return the smallest β at which the first pattern has its share."""
    return _told_apart(**({name: variant[name] for name in ("seed", "pull", "share")} | changed))


def apart_judge(answer: Any, case: Case, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a rough search, and where the pull is forgotten."""
    right = told_apart(variant)
    fraction, message = compare(answer, right, rtol=0.011)
    if fraction == 1:
        return fraction, message
    if compare(answer, right, rtol=0.06)[0] == 1:
        return 0.5, "Nearly: search more finely, or let the state come to rest before you look."
    rest = right / variant["pull"]
    return compare(
        answer, right, rtol=0.011, mistakes=[Mistake(rest, 0.5, "This is the β of tutorial 4's energy, with λ = 1.")]
    )


_APART = """
def first_weight(beta, steps=3000):
    state = {begin}
    for _ in range(steps):
        state = modern_update(own_points, state, beta)
    scores = beta * (own_points @ state[0])
    return np.exp(scores[{place}] - scores.max()) / np.exp(scores - scores.max()).sum()
low, high = 1.0, 2000.0
while high / low > 1.001:
    beta = np.sqrt(low * high)
    low, high = (low, beta) if first_weight(beta{steps}) >= {share} else (beta, high)
beta_single = {value}
"""


def _apart(**changed: str) -> str:
    parts = {"begin": "own_points[:1]", "place": "0", "steps": ", 400", "share": "share", "value": "float(high)"}
    return _APART.format(**(parts | changed))


APART_WRONG = [
    Wrong("four percent off", _apart(value="float(high) * 1.04"), 0.5),
    Wrong("forgets λ", _apart(value="float(high) / pull"), 0.5),
    Wrong("one step only", _apart(steps=", 1"), 0.0),
    Wrong("a temperature", _apart(value="1 / float(high)"), 0.0),
    Wrong("half is enough", _apart(share="0.51"), 0.0),
    Wrong("the mean of all", "beta_single = 2.0", 0.0),
    Wrong("as text", _apart(value="str(high)"), 0.0),
]

QUESTIONS = {
    "classical": Question(classical_inputs, classical_reference, classical_judge, CLASSICAL_WRONG),
    "wrong-share": Question(share_inputs, share_reference, share_judge, SHARE_WRONG),
    "load-curve": Question(
        lambda rng, variant: [
            Value("overlaps", label="the overlap at each number of patterns"),
            Value("first_bad", label="the first bad number"),
        ],
        load_reference,
        load_judge,
        LOAD_WRONG,
    ),
    "modern": Question(modern_inputs, modern_reference, modern_judge, MODERN_WRONG),
    "told-apart": Question(
        lambda rng, variant: [Value("beta_single")],
        lambda case, variant: told_apart(variant),
        apart_judge,
        APART_WRONG,
    ),
}
