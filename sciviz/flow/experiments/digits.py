"""Digits from noise: in one, two, four and many steps, by straight lines, by reflow and by a diffusion's path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Generator, Tensor, nn
from torch.nn import functional

from sciviz.flow.couplings import Draw, given_pairs
from sciviz.flow.interpolants import variance_preserving
from sciviz.flow.measures import frechet_distance, nearest_neighbour_check
from sciviz.flow.networks import GuidedField, ImageField
from sciviz.flow.rectify import fit_velocity
from sciviz.flow.sampling import integrate
from sciviz.lab import data
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, variable


class Images(NamedTuple):
    """Images as flat vectors around zero, with labels: a training and a held-out part."""

    train: Float[Tensor, "n d"]
    train_labels: Tensor
    held_out: Float[Tensor, "m d"]
    held_out_labels: Tensor


def load_images(*, seed: int, side: int = 8, device: torch.device | str = "cpu") -> Images:
    """Return scikit-learn's digits as vectors in [-1, 1], enlarged to `side` × `side` pixels.

    >>> load_images(seed=0).train.shape[1]
    64
    """
    check_int(8, side=side)
    digits = data.load_digits(seed=seed)
    parts = []
    for split in ("train", "test"):
        X, y = data.to_tensors(digits, "X", "y", split=split, device=device)
        if side != 8:
            pictures = functional.interpolate(X.view(-1, 1, 8, 8), size=side, mode="bicubic", antialias=True)
            X = pictures.clamp(0, 1).flatten(1)
        parts += [2 * X - 1, y]
    return Images(*parts)


def noise_and_images(X: Tensor, labels: Tensor, *, batch_size: int) -> Draw:
    """Return a function that draws batches of noise, image and label."""

    def draw(generator: Generator) -> tuple[Tensor, ...]:
        chosen = torch.randint(len(X), (batch_size,), generator=generator, device=X.device)
        return torch.randn(batch_size, X.shape[1], generator=generator, device=X.device), X[chosen], labels[chosen]

    return draw


def classifier_features(
    images: Images, *, width: int = 64, num_steps: int = 400, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """Train a small classifier, and return what its last hidden layer makes of images.

    Distances between such features say whether digits look like digits to *this* classifier. They are no Fréchet
    inception distance, and cannot be compared with one.
    """
    generator = torch.Generator().manual_seed(seed)
    dim = images.train.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(dim, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.Tanh())
        head = nn.Linear(width, 10)
    where = images.train.device
    body.to(where), head.to(where)
    rule = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=3e-3, weight_decay=1e-4)
    for _ in range(num_steps):
        chosen = torch.randint(len(images.train), (128,), generator=generator).to(where)
        loss = functional.cross_entropy(head(body(images.train[chosen])), images.train_labels[chosen])
        rule.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()

    @torch.no_grad()
    def features(X: Tensor) -> Tensor:
        result: Tensor = body(X)
        return result

    return features


class DigitFlows(NamedTuple):
    """Three networks of one size and training budget: lines, the same after reflow, and a diffusion's path."""

    straight: ImageField
    reflowed: ImageField
    diffusion: ImageField


def train_digits(
    images: Images,
    *,
    width: int = 128,
    depth: int = 3,
    num_steps: int = 1500,
    batch_size: int = 128,
    num_pairs: int = 2000,
    lr: float = 2e-3,
    seed: int = 0,
    progress: bool = False,
) -> DigitFlows:
    """Train a class-conditional flow on digits, reflow it once, and train a diffusion's path beside it.

    The reflowed network starts from the first one's weights, with half of its steps.
    """
    check_int(1, width=width, depth=depth, num_steps=num_steps, num_pairs=num_pairs)
    dim, where = images.train.shape[1], images.train.device

    def fresh() -> ImageField:
        return ImageField(dim, width=width, depth=depth, num_classes=10, seed=seed).to(where)

    draw = noise_and_images(images.train, images.train_labels, batch_size=batch_size)
    one, other, second = fresh(), fresh(), fresh()
    options: dict[str, Any] = {"seed": seed, "lr": lr, "decay": 0.995, "progress": progress}
    fit_velocity(one, draw, num_steps=num_steps, **options)
    fit_velocity(other, draw, num_steps=num_steps, interpolant=variance_preserving(), **options)
    generator = torch.Generator(where).manual_seed(seed + 1)
    x0 = torch.randn(num_pairs, dim, generator=generator, device=where)
    labels = torch.randint(10, (num_pairs,), generator=generator, device=where)
    x1 = integrate(GuidedField(one, labels), x0, num_steps=16, method="midpoint")[-1]
    second.load_state_dict(one.state_dict())
    pairs = given_pairs(x0, x1, labels, batch_size=batch_size)
    fit_velocity(second, pairs, num_steps=num_steps // 2, **{**options, "lr": lr / 2})
    return DigitFlows(one, second, other)


def few_steps(
    *,
    steps: tuple[int, ...] = (1, 2, 4, 8, 50),
    num_seeds: int = 1,
    num_samples: int = 500,
    num_steps: int = 800,
    width: int = 128,
    side: int = 8,
    batch_size: int = 128,
    num_pairs: int = 2000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    images: Images | None = None,
    flows: DigitFlows | None = None,
) -> xr.Dataset:
    """Make digits in few steps by each of the three networks, and measure how far they are from held-out digits.

    Parameters
    ----------
    steps
        Numbers of Euler steps.
    images
        Images of your own in place of the digits.
    flows
        Networks trained already; then `num_seeds` must be 1.

    Returns
    -------
    `distance` (path, euler_steps, seed), `floor` (seed), `copies` (path, seed), and `image` (path, euler_steps, digit, pixel).

    >>> small = few_steps(steps=(1, 2), num_samples=40, num_steps=5, width=16, num_pairs=10)
    >>> small.image.shape
    (3, 2, 10, 64)
    """
    check_int(1, num_seeds=num_seeds)
    if flows is not None:
        check_int(1, 1, num_seeds=num_seeds)
    rows: list[Any] = []
    pictures: Tensor | None = None
    floors, copies = [], []
    for number in range(num_seeds):
        mine = images or load_images(seed=seed + number, side=side, device=device)
        nets = flows or train_digits(
            mine, width=width, num_steps=num_steps, batch_size=batch_size, num_pairs=num_pairs, seed=seed + number
        )
        features = classifier_features(mine, seed=seed + number)
        real = features(mine.held_out)
        generator = torch.Generator(mine.train.device).manual_seed(seed + number + 5)
        x0 = torch.randn(num_samples, mine.train.shape[1], generator=generator, device=mine.train.device)
        labels = torch.arange(num_samples, device=x0.device) % 10
        chosen = torch.randperm(len(mine.train), generator=generator, device=x0.device)[: len(mine.held_out)]
        floors.append(frechet_distance(features(mine.train[chosen]), real))
        table, shown, copied = [], [], []
        for network in nets:
            guided = GuidedField(network, labels)
            # A diffusion's rate is infinite where its noise ends: all stop, and start, a thousandth short of it.
            ends = [
                integrate(guided, x0, torch.linspace(0, 0.999, count + 1, dtype=torch.float64), method="euler")[-1]
                for count in steps
            ]
            table.append([frechet_distance(features(end), real) for end in ends])
            shown.append(torch.stack([end[:10] for end in ends]))
            copied.append(nearest_neighbour_check(ends[-1], mine.train, mine.held_out).share)
        rows.append(table)
        copies.append(copied)
        pictures = torch.stack(shown) if pictures is None else pictures
    assert pictures is not None
    paths = ["straight", "reflowed", "diffusion"]
    return dataset(
        "Digits in few steps",
        {
            "path": variable("path", paths, "Path"),
            "euler_steps": variable("euler_steps", list(steps), "Euler steps"),
            "seed": variable("seed", np.arange(num_seeds), "Seed"),
            "digit": variable("digit", np.arange(10), "Digit"),
            "pixel": variable("pixel", np.arange(pictures.shape[-1]), "Pixel"),
        },
        {
            "distance": variable(
                "path euler_steps seed", np.moveaxis(np.array(rows), 0, -1), "Distance of classifier features (not FID)"
            ),
            "floor": variable("seed", floors, "Distance of training digits from held-out ones"),
            "copies": variable(
                "path seed", np.array(copies).T, "Share nearer to the training set than 95% of new digits"
            ),
            "image": variable("path euler_steps digit pixel", pictures.clamp(-1, 1), "Pixel"),
        },
        num_steps=num_steps,
        width=width,
    )


def few_steps_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold one step of the reflowed network against one step of the one it came from."""
    at = ds.distance.sel(euler_steps=1)
    ratio = (at.sel(path="reflowed") / at.sel(path="straight")).values
    return ClaimResult(
        measured=float(ratio.mean()),
        holds=bool(ratio.max() <= 0.5) if ds.sizes["seed"] >= 3 else None,
        criterion=(
            "distance of classifier features to held-out digits after one Euler step: reflowed at most 0.5 of the first "
            "flow, in each of at least 3 seeds"
        ),
        spread=float(ratio.std()),
        seeds=ds.sizes["seed"],
    )


def nearest_images(X: ArrayLike, images: Images) -> Tensor:
    """Return the training image nearest to each of some images."""
    mine = torch.as_tensor(np.asarray(X), dtype=torch.float32)
    return images.train[torch.cdist(mine, images.train).argmin(1)]
