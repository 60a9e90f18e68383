"""A batch, what the server sees of it, and the landscape of misfit over directions."""

from dataclasses import dataclass, replace
from functools import lru_cache

import ipywidgets as W
import matplotlib
import numpy as np
import torch
from torch import Tensor

from spear_core.study.landscape import Landscape, landscape
from spear_widgets.kit import controls
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import ACTIVATIONS, Scene, scene

WIDTH, DEPTH, SEED = 100, 4, 3
NEAR_DEGREES = 1.0  # a walker so close to a sample's direction is said to have arrived
FIRST_AT = 140  # degrees on the page, from the middle, where the first of three samples is
MAP = matplotlib.colormaps["viridis"]


@dataclass(frozen=True, eq=False)
class Ground(Scene):
    """A client with photographs, what the server sees of it, and the landscape over directions.

    Attributes:
        landscape: the misfit over directions, on the units that are seen.
        samples: where the true samples lie, as unit columns, shape (b, b). Only the client knows them.
        home: orthonormal rows, shape (b, b): the axes of the pictures, in which the samples' middle is in
            front whatever basis the split came in.
    """

    landscape: Landscape
    samples: Tensor
    home: Tensor


def ground(
    batch_size: int, activation: str = "ReLU", seen: int = WIDTH, width: int = WIDTH, seed: int = SEED
) -> Ground:
    """A batch of photographs and its landscape.

    Args:
        batch_size: b.
        activation: one of `ACTIVATIONS`.
        seen: how many columns of the next layer's gradient the server sees.
        width: m.
        seed: of data and weights.

    Raises:
        ValueError: an unknown activation, or more units seen than there are.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
    if not 0 <= seen <= width:
        raise ValueError(f"seen must be 0 to {width}, got {seen}")
    return _ground(batch_size, activation, seen, width, seed)


@lru_cache(maxsize=32)
def _ground(batch_size: int, activation: str, seen: int, width: int, seed: int) -> Ground:
    if seen < width:
        whole = _ground(batch_size, activation, width, width, seed)
        units = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:seen]
        part = whole.landscape.seeing(units)
        return replace(whole, landscape=part)
    stage = scene("photos", batch_size, width, seed, DEPTH, activation)
    everything = landscape(stage.problem, stage.low_rank)
    inputs = stage.batch.inputs.to(torch.float64)
    samples = everything.directions(torch.linalg.lstsq(stage.low_rank.rows.T, inputs.T).solution.T)
    return Ground(stage.batch, stage.model, everything, samples, _home(samples))


def _home(samples: Tensor) -> Tensor:
    """Axes in which a circle has its samples around 180 degrees, and a sphere has them in front."""
    if len(samples) > 3:
        return torch.eye(len(samples), dtype=samples.dtype)
    axes = torch.cat([samples.sum(dim=1, keepdim=True), samples[:, :-1]], dim=1)
    Q, R = torch.linalg.qr(axes)
    middle, *across = (Q * R.diagonal().sign()).T
    if len(across) == 1:
        return torch.stack([-middle, across[0]])
    a = np.deg2rad(FIRST_AT)
    right = np.cos(a) * across[0] - np.sin(a) * across[1]
    return torch.stack([middle, right, np.sin(a) * across[0] + np.cos(a) * across[1]])


def ghosts(stage: Ground, points: Tensor) -> Tensor:
    """The inputs x = c R that points v stand for, shape (k, n); NaN where there is none."""
    return stage.landscape.coefficients(points) @ stage.low_rank.rows


def nearest(stage: Ground, points: Tensor) -> tuple[Tensor, Tensor]:
    """For points v as columns: the sample nearest to each, and how many degrees away it is."""
    # the chord resolves small angles that the cosine rounds away
    chord = torch.cdist(points.T, stage.samples.T, compute_mode="donot_use_mm_for_euclid_dist")
    length, sample = chord.min(dim=1)
    return sample, torch.rad2deg(2 * torch.asin((length / 2).clamp_max(1)))


def ghost_pictures(stage: Ground, points: Tensor) -> np.ndarray:
    """Ghosts as pictures, shape (k, H, W, 3), plain grey where there is no input."""
    inputs = ghosts(stage, points)
    nothing = inputs.isnan().any(dim=1)
    pictures = sample_pictures(stage.batch, inputs.nan_to_num())
    pictures = np.array(pictures)
    pictures[nothing.numpy()] = 0.82 if pictures.dtype != np.uint8 else 210
    return pictures


def seen_slider(batch_size: int) -> W.SelectionSlider:
    """How many units of the next layer the server sees, from none to all."""
    b = batch_size
    options = sorted({0, b, b + 1, 2 * b - 1, 2 * b + 1, 10, 15, 25, 50, WIDTH})
    return controls.stops("units of layer 2 that the server sees", options, WIDTH, track=20)


def counted(equations: int) -> str:
    """How many equations, in words."""
    return f"{equations} equation{'' if equations == 1 else 's'}"
