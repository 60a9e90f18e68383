"""b = 2: the misfit over the circle of directions, and the search from any start."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from spear_core.study.landscape import paths
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.two_shadows.grounds import Ground, GroundExplorer

CIRCLE_COUNTS = tuple(range(41))  # steps after which the search is looked at


def at_degrees(degrees: Tensor | float) -> Tensor:
    """Unit columns at angles in degrees, shape (2, k)."""
    radians = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64)).reshape(-1)
    return torch.stack([radians.cos(), radians.sin()])


def on_circle(stage: Ground, degrees: Tensor | float) -> Tensor:
    """Points v at angles in degrees on the page, as unit columns, shape (2, k)."""
    return stage.home.T @ at_degrees(degrees)


def angles_of(stage: Ground, points: Tensor) -> Tensor:
    """Angles of points v on the page in degrees, 0 ≤ angle < 360."""
    across, up = stage.home @ points
    return torch.rad2deg(torch.atan2(up, across)) % 360


@lru_cache(maxsize=16)
def profile(stage: Ground) -> tuple[Tensor, Tensor]:
    """Angles around the circle, close together near the samples, and the misfit at each."""
    beside = torch.cat([torch.logspace(-7, 0, 22, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    beside = torch.cat([-beside, beside])
    exact = angles_of(stage, stage.samples)
    angles = torch.cat([torch.arange(0, 360, 1.0, dtype=torch.float64), (exact[:, None] + beside).flatten()])
    angles = (angles % 360).sort().values
    return angles, stage.landscape.misfit(on_circle(stage, angles))


@lru_cache(maxsize=16)
def all_descents(stage: Ground) -> Tensor:
    """Paths of the search from every whole degree, shape (len(CIRCLE_COUNTS) + 1, 2, 360)."""
    return paths(stage.landscape, on_circle(stage, torch.arange(360.0)), CIRCLE_COUNTS)


class CircleExplorer(GroundExplorer):
    """b = 2: the misfit on the circle of directions, and the search from wherever the reader puts it."""

    name = "circle"
    ribbon = Ribbon()
    title = "b = 2: the misfit over the circle of directions"
    description = (
        "Left, the circle of directions coloured by misfit, with a ball at the start of a search and the picture that "
        "its direction stands for; right, the misfit against the angle, a curve with two sharp wells, each at a "
        "sample; below, pictures of the search's steps: a mixed one turns into a photograph."
    )

    batch_size = 2

    def __init__(self) -> None:
        super().__init__(Path(__file__).with_suffix(".js"))

    def sent(self) -> dict[str, object]:
        """The curve of misfit, and the searches from all starts."""
        stage, walked = self.stage, all_descents(self.stage)
        positions, misfit = profile(stage)
        return {
            "positions": positions,
            "misfit": misfit,
            "walks": torch.stack([angles_of(stage, v) for v in walked], dim=1),
            "heights": torch.stack([stage.landscape.misfit(v) for v in walked], dim=1),
            "counts": CIRCLE_COUNTS,
            "angles": angles_of(stage, stage.samples).tolist(),
        }
