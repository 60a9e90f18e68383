"""A batch, what the server sees of it, and the landscape of misfit over directions."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spear_core.linalg import least_squares
from spear_core.study.landscape import Landscape, landscape
from spear_widgets.kit import base, controls
from spear_widgets.kit.samples import developing
from spear_widgets.kit.scene import ACTIVATIONS, Scene, scene
from spear_widgets.kit.stage import Stage

WIDTH, DEPTH, SEED = 100, 4, 3
NEAR_DEGREES = 1.0  # a walker so close to a sample's direction is said to have arrived
FIRST_AT = 140  # degrees on the page, from the middle, where the first of three samples is


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
    samples = everything.directions(least_squares(stage.low_rank.rows.T, inputs.T).T)
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


class GroundExplorer(base.Explorer):
    """What circle and sphere share: two controls that need Python, and a stage that keeps its view while they move.

    Attributes:
        stage: batch and landscape.
    """

    batch_size = 0
    stage: Ground

    def __init__(self, module: Path) -> None:
        b, self._kept = self.batch_size, False
        options = sorted({0, b, b + 1, 2 * b - 1, 2 * b + 1, 10, 15, 25, 50, WIDTH})
        super().__init__(
            {
                "activation": controls.dropdown("activation", list(ACTIVATIONS)),
                "seen": controls.stops("units of layer 2 that the server sees", options, WIDTH, track=20),
            },
            live=Stage(module),
        )
        self.refresh()

    def reset(self) -> None:
        """All back to how it was at first, on the page, too."""
        self._kept = False
        super().reset()

    def update(self) -> None:
        """Send the present landscape to the page."""
        self.stage = ground(self.batch_size, self.values["activation"], self.values["seen"])
        batch, landscape = self.stage.batch, self.stage.landscape
        axes = self.axes()
        assert self.live is not None
        self.live.put(
            **self.sent(),
            units=len(landscape.units),
            equations=landscape.equations,
            near=NEAR_DEGREES,
            # what the page needs to develop ghosts by itself: see `developGhost` in walk.js
            chart=landscape.unscaled(axes.T),
            means=landscape.relation.means[0],
            R=self.stage.low_rank.rows.to(torch.float32),
            photo=developing(batch),
            keep=self._kept,
        )
        self._kept = True

    def axes(self) -> Tensor:
        """Of the page, orthonormal rows, shape (b, b)."""
        return self.stage.home

    def sent(self) -> dict[str, object]:
        """What the page draws beside ghosts."""
        raise NotImplementedError
