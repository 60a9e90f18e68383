"""b = 2: directions are angles, and at exactly two of them many entries of L q vanish."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spear_core.linalg import least_squares
from spear_core.spear.sampling import live_rows
from spear_widgets.kit import base, controls
from spear_widgets.kit.samples import developing
from spear_widgets.kit.scene import DATA, Scene, scene
from spear_widgets.kit.stage import Stage
from spear_widgets.sparsity.directions import sent

DIAL_UNITS = 60


def angle_of(direction: Tensor) -> float:
    """Angle of a direction in the plane in degrees, 0 ≤ angle < 180: q and −q are the same."""
    return float(torch.rad2deg(torch.atan2(direction[1], direction[0]))) % 180


def at_angle(degrees: float) -> Tensor:
    """The unit direction at an angle in degrees."""
    return torch.tensor([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], dtype=torch.float64)


def dial_angles(stage: Scene) -> list[float]:
    """Whole degrees, and between them the two exact angles, ascending."""
    exact = [angle_of(q) for q in stage.true_directions.T]
    return sorted([*(float(degrees) for degrees in range(180)), *exact])


def zero_counts(stage: Scene, angles: list[float]) -> Tensor:
    """Zeros of L q among the live rows at each angle, shape (len(angles),)."""
    directions = torch.stack([at_angle(degrees) for degrees in angles], dim=1)
    return stage.zero(directions)[live_rows(stage.low_rank.factor)].sum(dim=0)


class DialExplorer(base.Explorer):
    """Turn q for a batch of two: at exactly two angles many entries of L q are zero at once.

    Attributes:
        stage: client and server of the present batch.
    """

    name = "dial"
    title = "b = 2: turn the direction q"
    description = (
        "Left, the plane with a line for each row of L and the needle q; right, the entries of L q; below, "
        "the number of zeros against the angle: almost none anywhere but at two spikes, one a sample."
    )

    def __init__(self) -> None:
        super().__init__(
            {"data": controls.dropdown("data", DATA[:2])}, live=Stage(Path(__file__).with_suffix(".js"))
        )
        self.refresh()

    def update(self) -> None:
        """Send the present batch to the page."""
        self.stage = scene(self.values["data"], 2, DIAL_UNITS)
        angles, exact = dial_angles(self.stage), [angle_of(q) for q in self.stage.true_directions.T]
        counts = zero_counts(self.stage, angles)
        low_rank, layer = self.stage.low_rank, self.stage.layer
        bias_grad = layer.bias_grad.to(torch.float64)
        assert self.live is not None
        self.live.put(
            **sent(self.stage),
            angles=exact,
            peaks=[int(counts[angles.index(angle)]) for angle in exact],
            positions=torch.tensor(angles, dtype=torch.float64),
            counts=counts,
            combined=least_squares(low_rank.factor, bias_grad[:, None])[:, 0],
            R=low_rank.rows.to(torch.float32),
            photo=developing(self.stage.batch),
        )
