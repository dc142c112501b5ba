"""Regenerate neural_tangents.json, kernels computed by an independent implementation.

neural-tangents needs an older jax than anything else here, hence an environment of its own:

    python -m venv reference-env
    reference-env/bin/pip install neural-tangents==0.6.5 jax==0.4.23 jaxlib==0.4.23 "numpy<2" "scipy<1.13"
    reference-env/bin/python tests/unit/ntk/reference/make_neural_tangents.py
"""

import itertools
import json
import math
import pathlib

import jax
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {"relu": stax.Relu, "erf": stax.Erf, "sine": stax.Sin}


def layers(depth, activation, weight_variance, bias_variance, bias, width=1, out=1):
    sizes = [width] * depth + [out]
    for i, size in enumerate(sizes):
        b = bias_variance if i == 0 or bias == "all" else 0.0
        yield stax.Dense(size, W_std=math.sqrt(weight_variance), b_std=math.sqrt(b) if bias_variance else None)
        if i < depth:
            yield ACTIVATIONS[activation]()


def infinite(X1, X2):
    settings = itertools.product(ACTIVATIONS, (1, 2, 5), ((2.0, 0.0), (1.3, 0.4)), ("all", "first"))
    for activation, depth, (weight_variance, bias_variance), bias in settings:
        if bias == "first" and bias_variance == 0:
            continue
        _, _, kernel = stax.serial(*layers(depth, activation, weight_variance, bias_variance, bias))
        result = kernel(X1, X2, ("nngp", "ntk"))
        yield {
            "activation": activation,
            "depth": depth,
            "weight_variance": weight_variance,
            "bias_variance": bias_variance,
            "bias": bias,
            "nngp": np.asarray(result.nngp).tolist(),
            "ntk": np.asarray(result.ntk).tolist(),
        }


def empirical(X1, X2):
    for activation in ACTIVATIONS:
        init, apply, _ = stax.serial(*layers(2, activation, 1.3, 0.4, "all", width=4, out=2))
        _, params = init(jax.random.PRNGKey(1), X1.shape)
        kernel = nt.empirical_ntk_fn(apply, trace_axes=())(X1, X2, params)
        dense = [p for p in params if len(p)]
        yield {
            "activation": activation,
            "weight_variance": 1.3,
            "bias_variance": 0.4,
            # neural-tangents stores a weight as (fan_in, fan_out), torch the other way round.
            "weights": [np.asarray(w).T.tolist() for w, _ in dense],
            "biases": [np.asarray(b).reshape(-1).tolist() for _, b in dense],
            "outputs": np.asarray(apply(params, X1)).tolist(),
            "ntk": np.asarray(kernel).tolist(),
        }


def main():
    rng = np.random.default_rng(7)
    X1, X2 = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    record = {
        "made_by": {"neural_tangents": nt.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "precision": str(np.asarray(jax.numpy.zeros(1)).dtype),
        "X1": X1.tolist(),
        "X2": X2.tolist(),
        "infinite": list(infinite(X1, X2)),
        "empirical": list(empirical(X1, X2)),
    }
    path = pathlib.Path(__file__).with_name("neural_tangents.json")
    path.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
