"""What the wing's experiments share: seeds that no two base seeds share, and the coordinate that counts them."""

from __future__ import annotations

import numpy as np

from sciviz.lab.checks import check_int
from sciviz.lab.results import Variable, variable


def sub_seeds(seed: int, num: int) -> list[int]:
    """Return `num` seeds that follow from one, none of them shared with another base seed (as `seed + i` would be).

    >>> len(set(sub_seeds(0, 5)) | set(sub_seeds(1, 5)))
    10
    """
    check_int(0, seed=seed)
    check_int(1, num=num)
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num, np.uint32)]


def seed_coord(num_seeds: int) -> Variable:
    """Return the coordinate that counts the draws of an experiment."""
    return variable("seed", np.arange(num_seeds), "draw of the experiment")
