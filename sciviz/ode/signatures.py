"""Signatures of paths: the iterated integrals in which the solution of a controlled equation is linear.

The signature of a path x in R^c, truncated at depth m, holds for every word (i₁, …, i_k) with k ≤ m the number
∫_{s₁<…<s_k} dx_{i₁}(s₁) … dx_{i_k}(s_k). A linear functional of it approximates the solution of y' = G(y) x'
[siglasso-cde, section 3], so that learning such an equation becomes penalised linear regression.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciviz.lab.checks import check_finite, check_int, check_ndim, check_same_length

__all__ = ["SignatureLasso", "signature", "signature_multiplications", "signature_size"]


def signature_size(num_channels: int, depth: int) -> int:
    """Count the terms of a signature truncated at `depth`: c + c² + … + c^depth.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a positive integer.

    >>> signature_size(3, 3)
    39
    """
    check_int(1, num_channels=num_channels, depth=depth)
    sizes = [math.prod([num_channels] * level) for level in range(1, depth + 1)]
    return sum(sizes)


def signature_multiplications(num_channels: int, depth: int) -> int:
    """Count the multiplications of one segment in `signature`: what its cost is stated in.

    >>> signature_multiplications(2, 2)
    10
    """
    check_int(1, num_channels=num_channels, depth=depth)
    outer_products: int = sum(num_channels**power for level in range(1, depth + 1) for power in range(2, level + 1))
    return outer_products + num_channels * depth * (depth + 1) // 2


def signature(
    path: Float[Tensor, "*batch times channels"], depth: int, *, stream: bool = False
) -> Float[Tensor, "*batch terms"]:
    """Return the signature of a piecewise linear path, truncated at `depth`.

    The signature of a straight piece with increment d is exp(d) = (d, d⊗d/2!, d⊗d⊗d/3!, …), and that of two paths in
    succession is the tensor product of theirs (Chen's identity). Horner's rule multiplies by exp(d) in place:

        S_k ← (…((d/k + S₁) ⊗ d/(k-1) + S₂) ⊗ … + S_{k-1}) ⊗ d + S_k

    Parameters
    ----------
    path
        Points of the path. To make the signature see time, and tell all paths apart, put time in as a channel.
    depth
        Longest word that is kept.
    stream
        Return the signature of the path up to each of its points, (*batch, times, terms); the first is zero.

    Raises
    ------
    TypeError, ValueError
        If `depth` is not a positive integer, or the path has fewer than two points or non-finite ones.

    Of a straight line only the increment d is seen, as d, d²/2:

    >>> signature(torch.tensor([[0.0], [1.0], [3.0]]), depth=2).tolist()
    [3.0, 4.5]
    """
    check_int(1, depth=depth)
    if path.ndim < 2 or path.shape[-2] < 2:
        raise ValueError(f"path must be (..., times, channels) with at least 2 times, got shape {tuple(path.shape)}.")
    check_finite(path=path)
    increments = path.diff(dim=-2)
    lead, channels = path.shape[:-2], path.shape[-1]
    levels = [path.new_zeros((*lead, channels**level)) for level in range(1, depth + 1)]
    history = [torch.cat(levels, dim=-1)]
    for n in range(increments.shape[-2]):
        step = increments[..., n, :]
        # From the deepest level up: a level needs the shallower ones as they were.
        for k in range(depth, 0, -1):
            term = step / k
            for level in range(1, k):
                term = _outer(levels[level - 1] + term, step / (k - level))
            levels[k - 1] = levels[k - 1] + term
        if stream:
            history.append(torch.cat(levels, dim=-1))
    return torch.stack(history, dim=-2) if stream else torch.cat(levels, dim=-1)


def _outer(left: Float[Tensor, "*batch a"], right: Float[Tensor, "*batch b"]) -> Float[Tensor, "*batch ab"]:
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


class SignatureLasso:
    """Lasso regression on truncated signatures: learns a controlled equation without solving it [siglasso-cde].

    At every time t the target is read as y(t) = w · S(x on [0, t]) + constant, with one sparse w for all times. The
    penalty is chosen by cross-validation over whole paths, so that no path is in both parts.

    Parameters
    ----------
    depth
        Depth of the signature.
    num_penalties, num_folds
        Size of the path of penalties and number of parts of the cross-validation.

    Attributes
    ----------
    weights
        (targets, terms), after `fit`.
    multiplications
        What `fit` cost, counted: signatures, Gram matrices and all corners of the path of weights.

    >>> time = torch.linspace(0, 1, 11).expand(8, 11)
    >>> slope = torch.linspace(-1, 1, 8)[:, None]
    >>> path = torch.stack([time, slope * time], dim=-1)
    >>> y = (2 * slope * time)[..., None]
    >>> model = SignatureLasso(depth=2).fit(path, y, torch.ones(8, 11, dtype=torch.bool))
    >>> bool((model.predict(path) - y).abs().max() < 0.05)
    True
    """

    def __init__(self, depth: int = 3, *, num_penalties: int = 20, num_folds: int = 5) -> None:
        check_int(1, depth=depth, num_penalties=num_penalties)
        check_int(2, num_folds=num_folds)
        self.depth, self.num_penalties, self.num_folds = depth, num_penalties, num_folds
        self.multiplications = 0

    def fit(
        self,
        path: Float[Tensor, "paths times channels"],
        y: Float[Tensor, "paths times targets"],
        observed: Bool[Tensor, "paths times"],
    ) -> SignatureLasso:
        """Learn from the targets `y` where `observed`; elsewhere `y` is not looked at.

        Raises
        ------
        ValueError
            If shapes do not fit, or there are fewer paths than folds.
        """
        check_ndim(3, path=path, y=y)
        check_same_length(path=path, y=y, observed=observed)
        if path.shape[0] < self.num_folds:
            raise ValueError(f"path must hold at least {self.num_folds} paths, one for each fold, got {path.shape[0]}.")
        terms = signature(path.double(), self.depth, stream=True)
        segments = path.shape[0] * (path.shape[1] - 1)
        self.multiplications = segments * signature_multiplications(path.shape[2], self.depth)
        sample = torch.arange(path.shape[0]).unsqueeze(-1).expand(observed.shape)[observed]
        features, targets = terms[observed], y.double()[observed]
        check_finite(y=targets)
        self.scale = features.std(dim=0).clamp(min=1e-12)
        self.centre, self.offset = features.mean(dim=0), targets.mean(dim=0)
        features, targets = (features - self.centre) / self.scale, targets - self.offset
        fold = sample % self.num_folds
        rows = [self._fit_one(features, targets[:, i], fold) for i in range(targets.shape[1])]
        self.weights = torch.stack(rows) / self.scale
        return self

    def _fit_one(self, features: Tensor, target: Tensor, fold: Tensor) -> Tensor:
        largest = float((features.T @ target).abs().max()) / len(target)
        penalties = torch.logspace(0, -4, self.num_penalties, dtype=torch.float64) * max(largest, 1e-12)
        score = torch.zeros(self.num_penalties, dtype=torch.float64)
        for part in range(self.num_folds):
            held = fold == part
            weights = self._path(features[~held], target[~held], penalties)
            score += (features[held] @ weights - target[held].unsqueeze(-1)).square().sum(dim=0)
        best = penalties[int(score.argmin())]
        return self._path(features, target, best.unsqueeze(0))[:, 0]

    def _path(self, features: Tensor, target: Tensor, penalties: Tensor) -> Tensor:
        """Lasso weights at the penalties, exactly: least-angle regression walks the corners of their linear path."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path_gram

        rows, count = features.shape
        with warnings.catch_warnings():
            # Words of a signature are nearly dependent; where a corner cannot be told apart the path ends early.
            warnings.simplefilter("ignore", ConvergenceWarning)
            corners, _, found = lars_path_gram(
                (features.T @ target).numpy(), (features.T @ features).numpy(), n_samples=rows, method="lasso",
                alpha_min=float(penalties.min()), max_iter=4 * count,
            )  # fmt: skip
        # One corner costs a triangular solve and a product with the Gram matrix.
        self.multiplications += count**2 * rows + 2 * count**2 * len(corners)
        wanted = penalties.numpy()[::-1]
        rising = [np.interp(wanted, corners[::-1], weights[::-1])[::-1].copy() for weights in found]
        return torch.from_numpy(np.stack(rising))

    def predict(self, path: Float[Tensor, "paths times channels"]) -> Float[Tensor, "paths times targets"]:
        """Return the targets along the whole of each path."""
        terms = signature(path.double(), self.depth, stream=True)
        return ((terms - self.centre) @ self.weights.T + self.offset).to(path.dtype)
