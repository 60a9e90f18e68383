"""Coupled relations, first move: walkers from random starts run down to samples, through k layers at once.

RAAR (Luke 2005) as in `consistency.walk`, between A, one affine space a layer, and B, the graph of relu between each
layer and the next. The affine spaces hold the scale p · Lᵀ g = 1: without it, half of all walkers run after the
negatives of samples, and past b = m/2 none arrives.
"""

import time

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spear_core.consistency.affine import Space
from spear_core.consistency.walk import nearest_on_relu
from spear_core.coupled.chain import Chain

MEMORY = 0.98  # κ of RAAR: from 0.95 down, false minima hold the walkers
SPREAD = 0.5  # of the starts' sizes, as the standard deviation of their logarithm
LONGEST_WALK = 2000
GLANCE = 50  # steps between two looks at the clock and at who has arrived
ARRIVED = 3e-3  # relative distance between the two sets below which the finish needs no more steps
ENOUGH = 0.5  # share of the walkers after whose arrival the others need not be waited for


def random_starts(
    chain: Chain, spaces: tuple[Space, ...], count: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Random points of A of the size that samples have: z and y, each (k, m, count), float32."""
    k = chain.relations
    sizes = torch.exp(SPREAD * torch.randn(count, generator=generator)).to(chain.size)
    columns = []
    for j, space in enumerate(spaces):
        u = torch.randn(space.basis.shape[1], count, generator=generator).to(space.basis)
        columns.append(space.at(chain.size[min(j, k - 1)] * sizes * normalize(u, dim=0)))
    z, y = _unstacked(columns, len(chain.layers[0].bias))
    return z.to(torch.float32), y.to(torch.float32)


def walk(
    spaces: tuple[Space, ...], z: Tensor, y: Tensor, *, steps: int = LONGEST_WALK, deadline: float
) -> tuple[Tensor, Tensor, Tensor]:
    """RAAR until half of the walkers have arrived, or so many steps are taken, or the deadline has passed.

    From weighted starts z and y, each (k, m, K), in the dtype of the spaces, to z and y on the graph of relu, and their
    relative distance from the spaces, shape (K,).
    """
    step = 0
    while True:
        z_affine, y_affine = projected(spaces, z, y)
        z_graph, y_graph = nearest_on_relu(2 * z_affine - z, 2 * y_affine - y)
        step += 1
        if step % GLANCE == 0 or step >= steps:
            apart = (z_affine - z_graph).square() + (y_affine - y_graph).square()
            length = z_affine.square() + y_affine.square()
            gap = (apart.sum(dim=(0, 1)) / length.sum(dim=(0, 1))).sqrt()
            # who has arrived is asked last: on a GPU it is the one question of the walk that waits for an answer
            late = step >= steps or time.monotonic() > deadline
            if late or float((gap < ARRIVED).to(torch.float64).mean()) >= ENOUGH:
                return z_graph, y_graph, gap
        z = MEMORY * (z + z_graph) + (1 - 2 * MEMORY) * z_affine
        y = MEMORY * (y + y_graph) + (1 - 2 * MEMORY) * y_affine


def projected(spaces: tuple[Space, ...], z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest points of A, layer by layer."""
    columns = [space.project(column) for space, column in zip(spaces, stacked(z, y), strict=True)]
    return _unstacked(columns, z.shape[1])


def stacked(z: Tensor, y: Tensor) -> list[Tensor]:
    """The coordinates of each layer, (y_{j−1}, z_j) one above the other; z and y are (k, m, …)."""
    return [z[0], *(torch.cat([before, after]) for before, after in zip(y, z[1:], strict=False)), y[-1]]


def _unstacked(columns: list[Tensor], m: int) -> tuple[Tensor, Tensor]:
    return torch.stack([c[-m:] for c in columns[:-1]]), torch.stack([c[:m] for c in columns[1:]])
