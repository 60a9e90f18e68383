"""Candidates of step 2 with all their zeros, and what the client knows about them: which mix how many samples.

The search throws a candidate away after a look at a few rows (`spear_core.spear.sparsity`); here all k are kept, so
that the errors and the savings of the filter can be counted. Shares of right and wrong candidates are the client's
view: it knows `true_q`, the Q with ∂L/∂Z = L Q, shape (b, b).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.sampling import draw_directions, live_rows
from spear_core.spear.zeros import zero_tolerance
from spear_core.study import theory

NEGLIGIBLE = 1e-5  # share in a direction below which a sample is not in it: float32 gradients leave less


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

    def first_finds(self, draws: int) -> list[int | None]:
        """For each sample the number of the draw, from 1, that first gave its direction; None if none did so."""
        first: list[int | None] = [None] * self.directions.shape[1]
        for k in reversed(self.right[:draws].nonzero().flatten().tolist()):
            first[int(self.sample[k])] = k + 1
        return first

    def errors(self, shares: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
        """At each threshold τ the share of right directions rejected, and of wrong candidates kept.

        The right ones come from elsewhere, as `shares` of zeros, multiples of 1 / m: these candidates hold too few.
        """
        m = self.zero.shape[1]
        least = torch.tensor([theory.least_zeros(m, threshold) for threshold in thresholds])
        right = (shares * m).round().to(torch.int64).sort().values
        wrong = self.zeros[~self.right].sort().values
        rejected = torch.searchsorted(right, least) / len(right)
        return rejected, 1 - torch.searchsorted(wrong, least) / max(len(wrong), 1)


def draw_candidates(
    low_rank: LowRank, true_q: Tensor, count: int, *, generator: torch.Generator
) -> Candidates:
    """At most so many candidates of a batch of b ≥ 2, one from each set of rows, so that they are independent draws."""
    L, b = low_rank.factor, low_rank.batch_size
    live = live_rows(L)
    unit_rows = L[live] / L[live].norm(dim=1, keepdim=True)
    draw = draw_directions(unit_rows, b * count, generator=generator)
    directions, rows = draw.directions[b - 1 :: b], live[draw.sets[:, : b - 1]]
    usable = directions.isfinite().all(dim=1).nonzero().flatten()[:count]
    directions = directions[usable] / directions[usable].norm(dim=1, keepdim=True)
    # ∂L/∂Z (Q⁻¹ q) = L q: the coordinates of q in the client's columns, each weighed by its column
    shares = torch.linalg.solve(true_q, directions.T) * true_q.norm(dim=0)[:, None]
    shares = shares.abs() / shares.abs().amax(dim=0)
    # null vectors of ill-conditioned rows are blurred by as much as a negligible sample
    size = (directions @ L.T).abs_()
    blur = NEGLIGIBLE * size.mean(dim=1, keepdim=True)
    zero = size <= torch.maximum(zero_tolerance(low_rank, directions.T).T, blur)
    mixed = (shares > NEGLIGIBLE).sum(dim=0)
    return Candidates(rows[usable], directions, L, zero, mixed, shares.argmax(dim=0))


# ---------------------------------------------------------------- the filter in two stages
@dataclass(frozen=True)
class Stages:
    """What a first look at a few rows costs, loses and saves.

    Attributes:
        lost: share of right candidates that it rejects.
        passed: share of wrong candidates that go on to all rows.
        entries: entries of L q that are computed for each draw, on average; without a first stage, m.
    """

    lost: float
    passed: float
    entries: float


def two_stages(found: Candidates, rows: int, zeros: int) -> Stages:
    """Test candidates on so many random rows first, where each needs so many zeros beside the rows it was made from.

    Raises:
        ValueError: unless 0 ≤ zeros ≤ rows and 1 ≤ rows.
    """
    if not 0 <= zeros <= rows or rows < 1:
        raise ValueError(f"zeros must be 0 to the number of rows, got {zeros} of {rows}")
    counts = zeros_in_order(found)
    passes = counts[:, min(rows, counts.shape[1]) - 1] >= zeros
    right = found.right
    lost = float((~passes[right]).double().mean()) if right.any() else 0.0
    passed = float(passes[~right].double().mean()) if (~right).any() else 0.0
    return Stages(lost, passed, rows + float(passes.double().mean()) * found.zero.shape[1])


@lru_cache(maxsize=4)
def zeros_in_order(found: Candidates) -> Tensor:
    """Zeros of each candidate among its first 1, 2, 3, … rows, its own rows not counted, shape (k, live rows).

    Every candidate has its own random order of rows, so that the shares do not hang on one choice of rows.
    """
    live = live_rows(found.factor)
    keys = torch.rand(len(found), len(live), generator=torch.Generator().manual_seed(0))
    counted = found.zero.scatter(1, found.rows, False)[:, live]
    return counted.gather(1, keys.argsort(dim=1)).cumsum(dim=1)
