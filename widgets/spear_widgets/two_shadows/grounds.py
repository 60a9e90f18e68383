"""A batch, what the server sees of it, and the landscape of misfit over directions."""

from dataclasses import dataclass, replace
from functools import lru_cache

import ipywidgets as W
import matplotlib
import numpy as np
import torch
from torch import Tensor, nn

from spear_core import client
from spear_core.client import data, networks
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank, split
from spear_core.study.landscape import Landscape, landscape
from spear_widgets.kit import controls
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import SIDE

ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "tanh": nn.Tanh}
WIDTH, DEPTH, SEED = 100, 4, 3
NEAR_DEGREES = 1.0  # a walker so close to a sample's direction is said to have arrived
FIRST_AT = 140  # degrees on the page, from the middle, where the first of three samples is
MAP = matplotlib.colormaps["viridis"]


# ---------------------------------------------------------------- the stage
@dataclass(frozen=True, eq=False)
class Ground:
    """A batch, what the server sees of it, and the landscape over directions.

    Attributes:
        batch: the client's samples.
        model: the network.
        gradients: what the client sends.
        problem: what the server reads from both.
        low_rank: the split of the first layer's gradient.
        landscape: the misfit over directions, on the units that are seen.
        samples: where the true samples lie, as unit columns, shape (b, b). Only the client knows them.
        home: orthonormal rows, shape (b, b): the axes of the pictures, in which the samples' middle is in
            front whatever basis the split came in.
    """

    batch: data.Batch
    model: nn.Sequential
    gradients: dict[str, Tensor]
    problem: Problem
    low_rank: LowRank
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
    batch, model, gradients = client_of(batch_size, activation, width, seed)
    problem = read_problem(model, gradients)
    low_rank = split(problem.attacked.weight_grad, generator=torch.Generator().manual_seed(0))
    everything = landscape(problem, low_rank)
    true = torch.linalg.lstsq(low_rank.rows.T, batch.inputs.to(torch.float64).T).solution.T
    samples = everything.directions(true)
    return Ground(batch, model, gradients, problem, low_rank, everything, samples, _home(samples))


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


@lru_cache(maxsize=8)
def client_of(
    batch_size: int, activation: str, width: int, seed: int = SEED
) -> tuple[data.Batch, nn.Sequential, dict[str, Tensor]]:
    """Photographs, a fresh network, and the gradients that the client sends."""
    batch = data.load("photos", batch_size, size=SIDE, generator=torch.Generator().manual_seed(seed))
    model = networks.fully_connected(
        batch.inputs.shape[1],
        width,
        DEPTH,
        batch.classes,
        activation=ACTIVATIONS[activation],
        generator=torch.Generator().manual_seed(1000 + seed),
    )
    return batch, model, client.gradients(model, batch.inputs, batch.labels)


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
    return W.SelectionSlider(
        options=options,
        value=WIDTH,
        description="units of layer 2 that the server sees",
        style=controls.LABELLED,
        layout=W.Layout(width="38em", max_width="100%"),
    )


def counted(equations: int) -> str:
    """How many equations, in words."""
    return f"{equations} equation{'' if equations == 1 else 's'}"
