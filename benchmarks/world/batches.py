"""Batches of every kind that people have: (rng, b) → b rows of float64, drawn from torch's global generator."""

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.client import data

Batches = Callable[[random.Random, int], Tensor]
SIDES = (4, 6, 8, 12, 16)  # of pictures, in pixels


def drawn(rng: random.Random, alike: bool = False) -> tuple[str, Batches]:
    """A kind and its name; `alike`: only those whose samples resemble each other, and raw tables."""
    name = rng.choice(ALIKE if alike else tuple(KINDS))
    return name, KINDS[name]


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Between the two, all orders of magnitude alike."""
    return low * (high / low) ** rng.random()


# ---------------------------------------------------------------- what there is
def _table(standardize: bool) -> Batches:
    def rows(rng: random.Random, b: int) -> Tensor:
        name = rng.choice(data.TABLES)
        return data.load(name, b, standardize=standardize, dtype=torch.float64).inputs

    return rows


def _digits(rng: random.Random, b: int) -> Tensor:
    return data.load("digits", b, standardize=rng.random() < 0.5, dtype=torch.float64).inputs


def _photographs(rng: random.Random, b: int) -> Tensor:
    pictures = _pictures(rng, b, rng.choice(SIDES))
    return (_standard(pictures) if rng.random() < 0.5 else pictures).flatten(1)


def _series(rng: random.Random, b: int) -> Tensor:
    """Windows of one time series: waves, a random walk, a little noise."""
    length, stride = rng.choice((8, 16, 32, 64)), rng.choice((1, 1, 2, 4))
    t = torch.arange(length + stride * b, dtype=torch.float64)
    waves = sum(torch.sin(t * rng.uniform(0.02, 1) + rng.uniform(0, 6)) for _ in range(3))
    steps = torch.randn(len(t), dtype=torch.float64)
    return (waves + rng.choice((0, 0.1)) * steps.cumsum(0)).unfold(0, length, stride)[:b]


def _one_hot(rng: random.Random, b: int) -> Tensor:
    sizes = [rng.randint(2, 20) for _ in range(rng.randint(1, 5))]
    return torch.cat([F.one_hot(torch.randint(size, (b,)), size) for size in sizes], dim=1).double()


def _counts(rng: random.Random, b: int) -> Tensor:
    return torch.poisson(torch.full((b, rng.randint(5, 100)), log_uniform(rng, 0.05, 5))).double()


def _gaussian(rng: random.Random, b: int) -> Tensor:
    return torch.randn(b, int(log_uniform(rng, 2, 200)), dtype=torch.float64)


def _dependent(rng: random.Random, b: int) -> Tensor:
    """Of fewer dimensions than samples; half of the time shifted, so that only differences are dependent."""
    rank, n = max(1, b - rng.randint(1, 3)), rng.randint(4, 100)
    rows = torch.randn(b, rank, dtype=torch.float64) @ torch.randn(rank, n, dtype=torch.float64)
    return rows + rng.choice((0, 1)) * torch.randn(n, dtype=torch.float64)


def _single_pixels(rng: random.Random, b: int) -> Tensor:
    side = rng.choice(SIDES)
    pixels = torch.randint(side**2, (b,))
    return F.one_hot(pixels, side**2).double() * torch.rand(b, 1, dtype=torch.float64)


# ---------------------------------------------------------------- samples that resemble each other
def _burst(rng: random.Random, b: int) -> Tensor:
    """One scene, the camera up to two pixels beside, with the noise of its sensor."""
    side, channels = rng.choice(SIDES), rng.choice((1, 3))
    (scene,) = _pictures(rng, 1, side + 2)
    shifts = [(rng.randint(0, 2), rng.randint(0, 2)) for _ in range(b)]
    frames = torch.stack([scene[:channels, i : i + side, j : j + side] for i, j in shifts])
    return _sensed(rng, frames, log_uniform(rng, 1e-3, 3e-2))


def _brightness(rng: random.Random, b: int) -> Tensor:
    """One scene, exposed longer and longer, or with an offset."""
    scene, step = _pictures(rng, 1, rng.choice(SIDES)), torch.linspace(0.5, 1.2, b, dtype=torch.float64)
    step = step.view(-1, 1, 1, 1)
    frames = scene + step if rng.random() < 0.3 else scene * step
    return _sensed(rng, frames, rng.choice((0, 0, 1e-3, 1e-2)))


def _cross_fade(rng: random.Random, b: int) -> Tensor:
    """a x + (1 − a) y."""
    first, last = _pictures(rng, 2, rng.choice(SIDES))
    share = torch.linspace(0, 1, b, dtype=torch.float64) if rng.random() < 0.5 else torch.rand(b).double()
    frames = torch.lerp(first, last, share.view(-1, 1, 1, 1))
    return _sensed(rng, frames, rng.choice((0, 1e-3)))


def _video(rng: random.Random, b: int) -> Tensor:
    """The camera pans, a fraction of a pixel a frame; something small moves."""
    side, speed = rng.choice(SIDES), log_uniform(rng, 0.05, 1)
    (scene,) = _pictures(rng, 1, 2 * side)
    frames = []
    for t in range(b):
        whole, part = divmod(speed * t % side, 1)
        left, right = (scene[:, :side, int(whole) + k :][:, :, :side] for k in (0, 1))
        frame = torch.lerp(left, right, part) if part else left.clone()
        frame[:, t % side, side // 2] = 1
        frames.append(frame)
    return _sensed(rng, torch.stack(frames), rng.choice((0, 1e-3)))


def _common(rng: random.Random, b: int) -> Tensor:
    """One row, and a little of every sample's own."""
    n = int(log_uniform(rng, 4, 200))
    common = torch.rand(n, dtype=torch.float64) if rng.random() < 0.5 else torch.randn(n, dtype=torch.float64)
    return common + log_uniform(rng, 1e-4, 0.1) * torch.randn(b, n, dtype=torch.float64)


def _half_again(change: Callable[[random.Random, Tensor], Tensor]) -> Batches:
    """Pictures or rows, and half of them again, changed."""

    def rows(rng: random.Random, b: int) -> Tensor:
        own = rng.choice((_photographs, _digits, _gaussian, KINDS["table, raw"]))(rng, b - b // 2)
        return torch.cat([own, change(rng, own[: b // 2])])

    return rows


def _zeros_among(rng: random.Random, b: int) -> Tensor:
    rows = rng.choice((_photographs, _gaussian, _counts))(rng, b)
    rows[: rng.choice((1, 1, 2))] = 0
    return rows


def _pictures(rng: random.Random, b: int, side: int) -> Tensor:
    """Crops of photographs, shape (b, 3 or 1, side, side), from 0 to 1."""
    batch = data.load("photos", b, size=side, standardize=False, dtype=torch.float64)
    pictures = batch.inputs.reshape(b, 3, side, side)
    return pictures if rng.random() < 0.5 else pictures.mean(dim=1, keepdim=True)


def _sensed(rng: random.Random, frames: Tensor, noise: float) -> Tensor:
    """With noise; half of the time standardised, as in training."""
    frames = frames + noise * torch.randn(frames.shape, dtype=torch.float64)
    return (_standard(frames) if rng.random() < 0.5 else frames).flatten(1)


def _standard(pictures: Tensor) -> Tensor:
    return (pictures - pictures.mean()) / pictures.std().clamp_min(1e-3)


KINDS: dict[str, Batches] = {
    "table, raw": _table(standardize=False),
    "table, standardised": _table(standardize=True),
    "digits": _digits,
    "photographs": _photographs,
    "burst": _burst,
    "brightness": _brightness,
    "cross-fade": _cross_fade,
    "video": _video,
    "half again, shifted": _half_again(lambda rng, rows: rows.roll(1, dims=1)),
    "half again, a thousandth beside": _half_again(lambda rng, rows: rows + 1e-3 * rows.roll(1, dims=1)),
    "half again, the same": _half_again(lambda rng, rows: rows),
    "common + noise": _common,
    "time series": _series,
    "one-hot": _one_hot,
    "counts": _counts,
    "zero rows": _zeros_among,
    "single pixels": _single_pixels,
    "gaussian": _gaussian,
    "dependent": _dependent,
}
ALIKE = (
    *("table, raw", "photographs", "burst", "brightness", "cross-fade", "video"),
    *("half again, shifted", "half again, a thousandth beside", "common + noise"),
)
