"""b = 3: the misfit over the sphere of directions as a relief, and searches that roll down into its wells."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from spear_core.study.landscape import paths
from spear_widgets.kit import drawing
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.two_shadows.grounds import Ground, GroundExplorer, nearest

COUNTS = (*range(21), *range(22, 41, 2), *range(44, 81, 4))  # steps after which a search is looked at
WALKERS, MOST_WALKERS = 20, 40  # random starts: those that are shown at first, and at most
STARTS = 800  # starts that a reader may choose, about 8 degrees from one to the next
RINGS, SECTORS = 54, 132  # of the relief's mesh


def random_starts(batch_size: int, count: int, seed: int = 5) -> Tensor:
    """Random unit columns, shape (b, count)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(batch_size, count, generator=generator, dtype=torch.float64)
    return start / start.norm(dim=0)


def even_starts(count: int) -> Tensor:
    """Unit columns spread evenly over the sphere along a spiral of golden turns, shape (3, count)."""
    height = 1 - (2 * torch.arange(count, dtype=torch.float64) + 1) / count
    turn = torch.arange(count, dtype=torch.float64) * torch.pi * (3 - 5**0.5)
    across = (1 - height**2).sqrt()
    return torch.stack([across * turn.cos(), across * turn.sin(), height])


@lru_cache(maxsize=32)
def descents(stage: Ground) -> Tensor:
    """Paths of the same twenty random starts, shape (len(COUNTS) + 1, 3, WALKERS)."""
    return paths(stage.landscape, random_starts(3, WALKERS), COUNTS)


@lru_cache(maxsize=8)
def all_descents(stage: Ground) -> Tensor:
    """Paths of all searches that the page shows: those of `descents`, more random ones, and those of `even_starts`.

    Shape (len(COUNTS) + 1, 3, MOST_WALKERS + STARTS).
    """
    more = random_starts(3, MOST_WALKERS - WALKERS, seed=6)
    starts = torch.cat([more, page_axes(stage).T @ even_starts(STARTS)], dim=1)
    return torch.cat([descents(stage), paths(stage.landscape, starts, COUNTS)], dim=2)


def page_axes(stage: Ground) -> Tensor:
    """Right, up and towards the samples' middle, as orthonormal rows."""
    return stage.home[[1, 2, 0]]


def mesh(stage: Ground) -> Tensor:
    """Directions in rings around the samples' middle, as rows of the page's axes, ((RINGS + 1) · SECTORS, 3).

    Rings stand at even distances 2 sin(θ/2). Of all directions, the nearest to a sample is moved onto it: a well ends
    in a point.
    """
    angle = 2 * torch.asin(torch.linspace(0, 1, RINGS + 1, dtype=torch.float64))[:, None]
    turn = torch.arange(SECTORS, dtype=torch.float64) * 2 * torch.pi / SECTORS
    places = torch.stack(
        [angle.sin() * turn.cos(), angle.sin() * turn.sin(), angle.cos().expand(-1, SECTORS)], dim=2
    ).flatten(0, 1)
    samples = page_axes(stage) @ stage.samples
    places[(places @ samples).argmax(dim=0)] = samples.T
    return places


def first_ringed(stage: Ground) -> int:
    """Of the walkers whose start is an input, so that it has a ghost, the one farthest from every sample."""
    start = descents(stage)[0]
    _, away = nearest(stage, start)
    return int(torch.where(stage.landscape.shares(start) > 0, away, -1).argmax())


class WellsExplorer(GroundExplorer):
    """b = 3: the misfit as a relief over all directions, and searches that roll down into its wells."""

    name = "wells"
    ribbon = Ribbon()
    title = "b = 3: the misfit over the sphere of directions"
    description = (
        "The sphere of directions laid out as a landscape as high as the misfit: a bowl with three deep wells, one at "
        "each sample, and twenty balls, searches from random starts, that lie on it; beside it the ghost picture that "
        "one of the balls stands for, and the three photographs."
    )

    batch_size = 3

    def __init__(self) -> None:
        super().__init__(Path(__file__).with_suffix(".js"))

    def axes(self) -> Tensor:
        """Right, up and towards the samples' middle."""
        return page_axes(self.stage)

    def sent(self) -> dict[str, object]:
        """The relief, and the searches on it."""
        stage, axes, batch = self.stage, self.axes(), self.stage.batch
        places, walked = mesh(stage), all_descents(stage)
        return {
            "rings": RINGS,
            "sectors": SECTORS,
            "places": places.to(torch.float32),
            "misfit": stage.landscape.misfit(axes.T @ places.T).to(torch.float32),
            "paths": torch.einsum("ac,tck->kta", axes, walked).to(torch.float32),
            "heights": torch.stack([stage.landscape.misfit(v) for v in walked], dim=1).to(torch.float32),
            "counts": COUNTS,
            "free": MOST_WALKERS,
            "first": first_ringed(stage),
            "samples": (axes @ stage.samples).T.to(torch.float32),
            "photos": drawing.as_bytes(sample_pictures(batch, batch.inputs)),
        }
