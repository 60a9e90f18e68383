"""Candidates: the null vectors of b − 1 rows of L, with all that the client knows about them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.sampling import draw_directions, live_rows
from spear_core.spear.sparsity import zero_tolerance
from spear_widgets.kit.scene import Scene

CANDIDATES = 4000  # for histograms
IN_CACHE = 500  # candidates whose entries are looked at together
NEGLIGIBLE = 1e-5  # share in a direction below which a sample is not in it: float32 gradients leave less


# ---------------------------------------------------------------- candidates
@dataclass(frozen=True, eq=False)
class Candidates:
    """Directions drawn from rows of L, with all their zeros, and what the client knows about them.

    Attributes:
        rows: the b − 1 units that each comes from, shape (k, b − 1).
        directions: unit vectors as rows, shape (k, b).
        factor: L, shape (m, b).
        zero: which entries of L q are zero to rounding, shape (k, m).
        mixed: how many samples are mixed in q, from 1 (right) to b; only the client can tell, shape (k,).
        sample: the sample that has the largest part in q, shape (k,).
    """

    rows: Tensor
    directions: Tensor
    factor: Tensor
    zero: Tensor
    mixed: Tensor
    sample: Tensor

    @cached_property
    def entries(self) -> Tensor:
        """L q for each candidate, shape (k, m)."""
        return self.directions @ self.factor.T

    @cached_property
    def zeros(self) -> Tensor:
        """Number of zeros, shape (k,)."""
        return self.zero.sum(dim=1)

    @property
    def right(self) -> Tensor:
        """Which candidates are a column of Q, shape (k,)."""
        return self.mixed == 1

    def __len__(self) -> int:
        return len(self.directions)


@lru_cache(maxsize=12)
def candidates(stage: Scene, count: int, seed: int = 0) -> Candidates:
    """Draw candidates, one from each set of rows, so that they are independent draws.

    Args:
        stage: a scene with b ≥ 2.
        count: how many.
        seed: of the draws.
    """
    L, b = stage.low_rank.factor, stage.low_rank.batch_size
    live = live_rows(L)
    unit_rows = L[live] / L[live].norm(dim=1, keepdim=True)
    draw = draw_directions(unit_rows, b * count, generator=torch.Generator().manual_seed(seed))
    directions, rows = draw.directions[b - 1 :: b], live[draw.sets[:, : b - 1]]
    usable = directions.isfinite().all(dim=1).nonzero().flatten()[:count]
    directions = directions[usable] / directions[usable].norm(dim=1, keepdim=True)
    # ∂L/∂Z (Q⁻¹ q) = L q: the coordinates of q in the client's columns, each weighed by its column
    shares = torch.linalg.solve(stage.true_q, directions.T) * stage.true_q.norm(dim=0)[:, None]
    shares = shares.abs() / shares.abs().amax(dim=0)
    return Candidates(
        rows=rows[usable],
        directions=directions,
        factor=L,
        zero=torch.cat([_zero(stage.low_rank, part) for part in directions.split(IN_CACHE)]),
        mixed=(shares > NEGLIGIBLE).sum(dim=0),
        sample=shares.argmax(dim=0),
    )


def _zero(low_rank: LowRank, directions: Tensor) -> Tensor:
    """Which entries of L q are zero, one row for each direction."""
    size = (directions @ low_rank.factor.T).abs_()
    # null vectors of ill-conditioned rows are blurred by as much as a negligible sample
    blur = NEGLIGIBLE * size.mean(dim=1, keepdim=True)
    return size <= torch.maximum(zero_tolerance(low_rank, directions.T).T, blur)


def first_finds(found: Candidates, batch_size: int, draws: int | None = None) -> list[int | None]:
    """For each sample the number of the draw, from 1, that first gave its direction; None if none did."""
    upto = len(found) if draws is None else draws
    first: list[int | None] = []
    for sample in range(batch_size):
        hits = (found.right[:upto] & (found.sample[:upto] == sample)).nonzero().flatten()
        first.append(int(hits[0]) + 1 if len(hits) else None)
    return first
