"""Real data: progression of diabetes from ten measurements, by KANs, perceptrons, boosted trees, and a straight line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from sciviz.kan.experiments._common import sub_seeds
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.training import levenberg_marquardt
from sciviz.lab import data
from sciviz.lab.checks import check_int
from sciviz.lab.results import dataset, paired_interval, variable

MODELS = ("mean", "ridge regression", "boosted trees", "KAN [d, 1]", "KAN [d, 2, 1]", "MLP")
_SPLITS = ("train", "test")


def real_regression(
    *,
    seed: int,
    num_seeds: int = 5,
    num_test: int = 120,
    ridge: float = 3e-3,
    load: Callable[[int], Any] | None = None,
) -> xr.Dataset:
    """Compare test errors on splits of real data: scikit-learn's diabetes set, or your own.

    The KANs and the perceptron are trained by Levenberg-Marquardt with a ridge on their parameters; [d, 1] is a sum of one
    curve a feature, a *generalised additive model*.

    Parameters
    ----------
    ridge
        Weight of the squared parameters, for KANs and perceptron alike.
    load
        `load(seed)` → a data set with `X`, `y` and a split, as `sciviz.lab.data.as_dataset` makes it.

    Returns
    -------
    xr.Dataset
        `rmse` (model, split) on test data in units of the target's standard deviation (SD); `parameters` (model); the curves
        of KAN [d, 1] on the first split as `position` and `curve` (feature, point).

    >>> sorted(real_regression(seed=0, num_seeds=1).data_vars)
    ['curve', 'parameters', 'position', 'rmse']
    """
    check_int(1, num_seeds=num_seeds)
    seeds = sub_seeds(seed, num_seeds)
    splits = [load(s) if load else data.load_diabetes(seed=s, num_test=num_test) for s in seeds]
    parts = [[data.to_tensors(one, "X", "y", split=split, dtype=torch.float64) for one in splits] for split in _SPLITS]
    (X, y), (T, t) = ((torch.stack(values) for values in zip(*part, strict=True)) for part in parts)
    y, t = (values.reshape(num_seeds, -1, 1) for values in (y, t))
    centre, size = y.mean(1, keepdim=True), y.std(1, keepdim=True)
    y, t = (y - centre) / size, (t - centre) / size
    features = X.shape[-1]
    errors = np.zeros((len(MODELS), num_seeds))
    counts = np.zeros(len(MODELS), dtype=int)
    errors[0] = t.square().mean((1, 2)).sqrt().numpy()
    counts[:2] = 1, features + 1
    for place in range(num_seeds):
        for row, model in ((1, RidgeCV(alphas=np.logspace(-3, 3, 13))), (2, _trees(seeds[place]))):
            model.fit(X[place].numpy(), y[place, :, 0].numpy())
            missed = model.predict(T[place].numpy()) - t[place, :, 0].numpy()
            errors[row, place] = float(np.sqrt((missed**2).mean()))
            if row == 2:
                counts[row] = sum(2 * tree[0].tree_.node_count for tree in model.estimators_)
    networks: list[KAN | BatchedMLP] = [
        KAN([features, 1], seed=seeds[0], num_cells=3, members=num_seeds, dtype=torch.float64),
        KAN([features, 2, 1], seed=seeds[0], num_cells=3, members=num_seeds, dtype=torch.float64),
        BatchedMLP([features, 10, 1], seed=seeds[0], members=num_seeds, dtype=torch.float64),
    ]
    for row, network in enumerate(networks, start=3):
        if isinstance(network, KAN):
            network.follow(X, blend=0.5)
        levenberg_marquardt(network, X, y, num_steps=15, damping=1.0, ridge=ridge)
        with torch.no_grad():
            errors[row] = (network(T) - t).square().mean((1, 2)).sqrt().numpy()
        counts[row] = network.num_active()
    additive = networks[0]
    assert isinstance(additive, KAN)
    with torch.no_grad():
        points = torch.quantile(X[0], torch.linspace(0.01, 0.99, 61, dtype=torch.float64), dim=0)
        curves = additive.member(0)[0].edges(points)[..., 0]
        curves = curves - curves.mean(0)
    names = _feature_names(splits[0], features)
    return dataset(
        "Real regression",
        {
            "model": variable("model", list(MODELS), "Model"),
            "split": variable("split", np.arange(num_seeds), "Split"),
            "feature": variable("feature", names, "Feature"),
        },
        {
            "rmse": variable("model split", errors, "Test error (RMSE)", "target's SD"),
            "parameters": variable("model", counts, "Parameters"),
            "position": variable("feature point", points.T, "Feature, standardised", "SD"),
            "curve": variable("feature point", curves.T, "Contribution", "target's SD"),
        },
        num_train=int(X.shape[1]),
        num_test=int(T.shape[1]),
    )


def _trees(seed: int) -> GradientBoostingRegressor:
    # Shallow and slow, as few data ask for; chosen by cross-validation beforehand.
    return GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.05, max_depth=2, subsample=0.5, random_state=seed % 2**31
    )


def _feature_names(one: xr.Dataset, features: int) -> list[str]:
    return (
        [str(name) for name in one["feature"].values]
        if "feature" in one.coords
        else [f"x{n + 1}" for n in range(features)]
    )


def real_summary(ds: xr.Dataset) -> dict[str, str]:
    """Return, for each model, its mean difference from ridge regression with a 95% interval, as text.

    >>> real_summary(real_regression(seed=0, num_seeds=2))["ridge regression"]
    'the yardstick'
    """
    line = ds.rmse.sel(model="ridge regression")
    said = {}
    for name in ds.model.values:
        if name == "ridge regression":
            said[str(name)] = "the yardstick"
            continue
        interval = paired_interval(ds.rmse.sel(model=name) - line)
        said[str(name)] = f"{interval.mean:+.3f} (95% interval {interval.low:+.3f} to {interval.high:+.3f})"
    return said
