"""Step 3: a wrong q leaves L q dense, a right one leaves about half of it zero (SPEAR, sparsity filter).

L q_i is ∂L/∂z_i up to scale, and ReLU makes it zero wherever the sample does not activate the unit. A wrong
direction has only the b − 1 zeros that it was made to have. Candidates are tested on a few rows first; only
survivors see the rest (two-stage filter), and those are fitted: the direction that is zero on *all* its zeros.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor

from spear_core.linalg import is_first
from spear_core.spear.low_rank import LowRank
from spear_core.spear.records import Pool
from spear_core.spear.sampling import Draw, draw_directions
from spear_core.spear.uniqueness import Zeros, shared_kernel, weigh
from spear_core.spear.zeros import SPARE_ROWS, fit, zero_tolerance, zeros_of
from spear_core.tolerances import EQUAL_DIRECTION, SAME_DIRECTION

FIRST_ROWS = 24  # rows of the first stage
# zeros among them, beside its own: one in a million wrong ones has them, P(Bin(24, ½) < 4) = 0.01 %
FIRST_ZEROS = 4
COARSE_ZERO = 4e-3  # of the mean |entry|: float32 null vectors of ill-conditioned rows are that far off
MOST_SURVIVORS = 8  # times b: as many survivors of one chunk are fitted
EXACT = (0.0, 0.0)  # of the mean |entry|: rounding alone; the second look takes what the first has uncovered
FULLY_EXPLORED = 3  # dimensions of a kernel that the draws of one descent explore completely
DESCENT_DRAWS = 256  # candidates per step down into a kernel of several dimensions


def passes_first_stage(draw: Draw, factor: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Test candidates on a few random rows of L, coarsely: stage one of the filter.

    A candidate is zero on its own b − 1 rows whatever it is, so those do not count.

    Args:
        draw: candidates with their rows.
        factor: L, shape (m, b), rows of comparable length.
        generator: CPU generator. Other rows each time: no direction is unlucky for good.

    Returns:
        Mask over the candidates, shape (k,).
    """
    m = factor.shape[0]
    rows = torch.randperm(m, generator=generator)[:FIRST_ROWS].to(factor.device)
    entries = (factor[rows] @ draw.directions.T).abs_()
    coarse = entries.mean(dim=0).mul_(COARSE_ZERO)
    zeros = (entries < coarse).sum(dim=0, dtype=torch.uint8)  # an int64 sum costs as much as the inverse
    tested = torch.zeros(m, dtype=torch.uint8, device=factor.device)
    tested[rows] = 1
    own = tested[draw.sets]
    own = own.sum(dim=1, keepdim=True, dtype=torch.uint8) - own
    return zeros >= own.flatten()[: len(zeros)] + FIRST_ZEROS


def filter_directions(
    candidates: Tensor,
    low_rank: LowRank,
    pool: Pool,
    *,
    threshold: float,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
) -> Pool:
    """Stage two: what passed the first stage meets all rows, is fitted, and joins the pool if it is new.

    Candidates are the survivors of stage one as rows, shape (k, b), of any float dtype; `threshold` is τ, the least
    share of zeros in L q. New directions stand behind the old ones. After the deadline, in `time.monotonic()`, what is
    left of the candidates is let go.
    """
    if not len(candidates):  # as of most chunks, once b is ten or so
        return pool
    candidates = candidates.to(torch.float64)
    candidates = candidates / candidates.norm(dim=1, keepdim=True)
    b, fitted = low_rank.batch_size, 0
    while fitted < MOST_SURVIVORS * b and len(new := candidates[~_known(candidates, pool)]):
        some, candidates = new[:b], new[b:]  # what these bring to the pool need not be fitted again
        fitted += len(some)
        found, explored = _weighed(low_rank, fit(low_rank, some.T)), list(pool.explored)
        pool = _added(pool, found.pick(found.unique), threshold)
        # with fewer zeros it is a mixture of many: more draws find its samples sooner than a look into their space
        spaces = explored_spaces(low_rank, found.pick(found.shared), explored, generator=generator)
        in_time = takewhile(lambda _: time.monotonic() < deadline, spaces)
        inside = torch.cat([found.directions[:, :0], *in_time], dim=1)
        pool = join(inside, low_rank, pool, threshold) if inside.shape[1] else pool
        pool = replace(pool, explored=tuple(explored))
        if time.monotonic() > deadline:
            break
    return pool


def join(directions: Tensor, low_rank: LowRank, pool: Pool, threshold: float) -> Pool:
    """A pool with more unit columns q (b, k), fitted to all their zeros: those that have τ of them and are new.

    They are exact already, but for rounding that hides some of their zeros; a coarser look would lead elsewhere.
    """
    return _added(pool, _weighed(low_rank, fit(low_rank, directions, EXACT)), threshold)


def _weighed(low_rank: LowRank, directions: Tensor) -> Zeros:
    """`weigh` with random numbers that are always the same, so that draws stay as they are."""
    return weigh(low_rank, directions, generator=torch.Generator().manual_seed(0))


def _added(pool: Pool, found: Zeros, threshold: float) -> Pool:
    q, zeros = found.directions, found.rows.sum(dim=0)
    alike = (q.T @ torch.cat([pool.directions, q], dim=1)).abs() > 1 - SAME_DIRECTION
    fit_in = ~alike[:, : len(pool)].any(dim=1) & (zeros >= threshold * len(found.rows))
    new = (fit_in & is_first(alike[:, len(pool) :] & fit_in)).nonzero().flatten()
    return replace(
        pool,
        directions=torch.cat([pool.directions, q[:, new]], dim=1),
        zeros=torch.cat([pool.zeros, zeros[new]]),
        unique=torch.cat([pool.unique, found.unique[new]]),
    )


def descend(
    low_rank: LowRank, kernel: Tensor, zero_rows: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """The sparsest directions in a kernel.

    Two similar samples share most of their zeros. The shared ones leave a plane of directions, and every
    mixture in it passes the filter. Within the plane the problem is a small copy of the large one: L restricted
    to the kernel, orthonormal columns (b, d), with as many columns as it has dimensions, so steps 2 and 3 are repeated
    there. All of it is zero on `zero_rows`, a mask (m,).

    Returns:
        Unit columns, shape (b, k), sparsest first: the only one if d = 1; otherwise those with more zeros than the
        rest, one for each dimension at most.
    """
    L, d = low_rank.factor, kernel.shape[1]
    if d == 1:
        return kernel
    inside = L @ kernel
    norms = inside.norm(dim=1)
    rest = (norms > zero_tolerance(low_rank, kernel).amax(dim=1)).nonzero().flatten()
    if len(rest) < d:
        return kernel[:, :0]
    drawn = draw_directions(inside[rest] / norms[rest, None], DESCENT_DRAWS, generator=generator).directions
    drawn = drawn[drawn.isfinite().all(dim=1)]
    directions = kernel @ (drawn / drawn.norm(dim=1, keepdim=True)).T
    zeros = zeros_of(low_rank, directions).sum(dim=0)
    enough = int(zero_rows.sum()) + d - 1 + SPARE_ROWS  # d − 1 rows were drawn to be zero
    order = zeros.argsort(descending=True)
    sparsest = directions[:, order[zeros[order] >= enough]]
    return sparsest[:, is_first((sparsest.T @ sparsest).abs() >= 1 - EQUAL_DIRECTION)][:, :d]


def explored_spaces(
    low_rank: LowRank,
    found: Zeros,
    explored: list[Tensor],
    *,
    largest: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """What `descend` finds in each space that zeros leave which are not one direction's own, as columns (b, k), k ≥ 0.

    So it is of similar samples, which share theirs. Kernels that have been searched completely are in `explored`, and
    added to it; those of more than `largest` dimensions are not looked into.
    """
    for q, rows in zip(found.directions.T, found.rows.T, strict=True):
        if any(float((q @ kernel).norm()) > 1 - SAME_DIRECTION for kernel in explored):
            continue
        kernel, rows = shared_kernel(low_rank, rows)
        d = kernel.shape[1]
        if 1 < d <= FULLY_EXPLORED:
            explored.append(kernel)
        within = 0 < d <= (largest or d)
        yield descend(low_rank, kernel, rows, generator=generator) if within else kernel[:, :0]


def _known(candidates: Tensor, pool: Pool) -> Tensor:
    """Which rows the pool has as directions, or in a space that it has searched, to float32, shape (k,)."""
    known = ((candidates @ pool.directions).abs() > 1 - SAME_DIRECTION).any(dim=1)
    for kernel in pool.explored:
        known |= (candidates @ kernel).norm(dim=1) > 1 - SAME_DIRECTION
    return known
