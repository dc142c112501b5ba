"""Digits for ensembles: the same images, split anew for each member."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciviz.lab.checks import check_int
from sciviz.lab.data import load_digits


class DigitSplits(NamedTuple):
    """Training and test digits of each member; pixels in [0, 1]."""

    X: Float[Tensor, "members train 64"]
    y: Int[Tensor, "members train"]
    X_test: Float[Tensor, "members test 64"]
    y_test: Int[Tensor, "members test"]


@cache
def _all_digits() -> tuple[Tensor, Tensor]:
    # Read once: scikit-learn parses its file anew on each call, which would cost more than some of the training.
    digits = load_digits(seed=0)
    return torch.tensor(digits.X.values, dtype=torch.float32), torch.tensor(digits.y.values)


def sub_seeds(seed: int, num: int) -> list[int]:
    """Return `num` seeds that no two base seeds share (as seed + i would).

    >>> len(set(sub_seeds(0, 5) + sub_seeds(1, 5)))
    10
    """
    check_int(0, seed=seed)
    check_int(1, num=num)
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num, np.uint32)]


def digit_splits(seed: int, num_seeds: int, *, num_train: int = 1437, num_test: int = 360) -> DigitSplits:
    """Split scikit-learn's 1797 digits at random, once for each member.

    >>> digit_splits(0, 3, num_train=100, num_test=50).X.shape
    torch.Size([3, 100, 64])
    """
    X, y = _all_digits()
    check_int(1, len(X) - 1, num_train=num_train)
    check_int(1, len(X) - num_train, num_test=num_test)
    orders = [torch.randperm(len(X), generator=torch.Generator().manual_seed(s)) for s in sub_seeds(seed, num_seeds)]
    order = torch.stack(orders)
    train, test = order[:, :num_train], order[:, num_train : num_train + num_test]
    return DigitSplits(X[train], y[train], X[test], y[test])


def one_hot(y: Int[Tensor, "..."], num_classes: int = 10) -> Float[Tensor, "... classes"]:
    """Return one-hot targets as floats.

    >>> one_hot(torch.tensor([1]), 3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return torch.nn.functional.one_hot(y, num_classes).float()
