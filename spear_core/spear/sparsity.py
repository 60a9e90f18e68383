"""Step 3: a wrong q leaves L q dense, a right one leaves about half of it zero (SPEAR, sparsity filter).

L q_i is ∂L/∂z_i up to scale, and ReLU makes it zero wherever the sample does not activate the unit. A wrong
direction has only the b − 1 zeros that it was made to have. Candidates are tested on a few rows first; only
survivors see the rest (two-stage filter), and those are fitted: the direction that is zero on *all* its zeros.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.records import Pool
from spear_core.spear.sampling import Draw, draw_directions
from spear_core.spear.uniqueness import BLURRED, Zeros, is_unique, pinning, without_pinning_rows
from spear_core.spear.zeros import SPARE_ROWS, null_space, zero_tolerance, zeros_of
from spear_core.tolerances import EQUAL_DIRECTION, SAME_DIRECTION

FIRST_ROWS = 24  # rows of the first stage
# zeros among them, beside its own: one in a million wrong ones has them, P(Bin(24, ½) < 4) = 0.01 %
FIRST_ZEROS = 4
COARSE_ZERO = 4e-3  # of the mean |entry|: float32 null vectors of ill-conditioned rows are that far off
FIT_TOLERANCES = (1e-2, 1e-3, 1e-4)  # of the mean |entry|, finer and finer
MOST_SURVIVORS = 4  # times b: as many survivors of one chunk are followed up
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
    return zeros >= own.flatten() + FIRST_ZEROS


def filter_directions(
    candidates: Tensor,
    low_rank: LowRank,
    pool: Pool,
    *,
    threshold: float,
    generator: torch.Generator | None = None,
) -> Pool:
    """Stage two: what passed the first stage meets all rows, is fitted, and joins the pool if it is new.

    Args:
        candidates: survivors of stage one as rows, shape (k, b), any float dtype.
        low_rank: the split of G.
        pool: directions found so far.
        threshold: τ, the least share of zeros in L q.
        generator: CPU generator.

    Returns:
        The pool with the new directions behind the old ones.
    """
    candidates = candidates.to(torch.float64)
    candidates = candidates / candidates.norm(dim=1, keepdim=True)
    followed = 0
    for q in candidates[~_known(candidates, pool)]:
        if not _known(q[None], pool):
            kernel, rows = fitted(low_rank, q)
            if _known(kernel[:, :1].T, pool):
                continue
            for direction in descend(low_rank, kernel, rows, generator=generator):
                pool = join(direction, low_rank, pool, threshold)
            if 1 < kernel.shape[1] <= FULLY_EXPLORED:
                pool = replace(pool, explored=(*pool.explored, kernel))
            followed += 1
            if followed == MOST_SURVIVORS * low_rank.batch_size:
                break
    return pool


def join(q: Tensor, low_rank: LowRank, pool: Pool, threshold: float) -> Pool:
    """A pool with one more direction, fitted to all its zeros, if it has enough of them and is new.

    Args:
        q: unit direction, shape (b,), float64.
        low_rank: the split of G.
        pool: directions found so far.
        threshold: τ, the least share of zeros in L q.
    """
    if _parallel(q, pool):
        return pool
    q, zero_rows = _refit(low_rank, q)
    zeros = zero_rows.sum()
    if float(zeros) < threshold * len(zero_rows) or _parallel(q, pool):
        return pool
    unique = torch.tensor([is_unique(low_rank, zero_rows)], device=q.device)
    return replace(
        pool,
        directions=torch.cat([pool.directions, q[:, None]], dim=1),
        zeros=torch.cat([pool.zeros, zeros[None]]),
        unique=torch.cat([pool.unique, unique]),
    )


def fitted(low_rank: LowRank, q: Tensor) -> tuple[Tensor, Tensor]:
    """The directions that the zeros of a candidate leave, shape (b, d), and those zeros, a mask (m,).

    Null vectors of ill-conditioned rows in float32 are off by up to a hundredth, so the zeros are taken
    coarsely at first; the direction fitted to them all is better, so the next look is finer.

    Args:
        low_rank: the split of G.
        q: unit direction, shape (b,).
    """
    L = low_rank.factor
    for tolerance in FIT_TOLERANCES:
        entries = L @ q
        limit = tolerance * entries.abs().mean()
        rows = L[entries.abs() <= limit]
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        kernel = vectors[:, values <= limit**2 * max(1, len(rows))]
        if not kernel.shape[1]:
            kernel = vectors[:, :1]
        q = kernel @ (kernel.T @ q)
        q = q / q.norm()
    zero_rows = zeros_of(low_rank, q[:, None])[:, 0]
    rows = without_pinning_rows(low_rank, zero_rows)
    kernel, _ = null_space(low_rank, rows)
    return (kernel if kernel.shape[1] else q[:, None]), rows


def descend(
    low_rank: LowRank, kernel: Tensor, zero_rows: Tensor, *, generator: torch.Generator | None = None
) -> list[Tensor]:
    """The sparsest directions in a kernel.

    Two similar samples share most of their zeros. The shared ones leave a plane of directions, and every
    mixture in it passes the filter. Within the plane the problem is a small copy of the large one: L restricted
    to the kernel, with as many columns as it has dimensions, so steps 2 and 3 are repeated there.

    Args:
        low_rank: the split of G.
        kernel: orthonormal columns, shape (b, d).
        zero_rows: the rows on which all of it is zero, mask of shape (m,).
        generator: CPU generator.

    Returns:
        Unit directions, each shape (b,), sparsest first: the only one if d = 1; otherwise those with more
        zeros than the rest, one for each dimension at most.
    """
    L, d = low_rank.factor, kernel.shape[1]
    if d == 1:
        return [kernel[:, 0]]
    inside = L @ kernel
    norms = inside.norm(dim=1)
    rest = (norms > zero_tolerance(low_rank, kernel).amax(dim=1)).nonzero().flatten()
    if len(rest) < d:
        return []
    drawn = draw_directions(inside[rest] / norms[rest, None], DESCENT_DRAWS, generator=generator).directions
    drawn = drawn[drawn.isfinite().all(dim=1)]
    directions = kernel @ (drawn / drawn.norm(dim=1, keepdim=True)).T
    zeros = zeros_of(low_rank, directions).sum(dim=0)
    enough = int(zero_rows.sum()) + d - 1 + SPARE_ROWS  # d − 1 rows were drawn to be zero
    order = zeros.argsort(descending=True)
    return _different(directions[:, order[zeros[order] >= enough]], d)


def explored_spaces(
    low_rank: LowRank, found: Zeros, explored: list[Tensor], generator: torch.Generator | None
) -> Iterator[list[Tensor]]:
    """The sparsest directions in each space that the zeros shared by similar samples leave.

    Args:
        low_rank: the split of G.
        found: directions fitted to their zeros.
        explored: kernels that have been searched completely; those of this call are added.
        generator: CPU generator.

    Yields:
        For every space that is looked at, as `descend` finds them; none where the zeros leave a single direction.
    """
    for q, rows in zip(found.directions[:, found.shared].T, found.rows[:, found.shared].T, strict=True):
        if not is_inside(q, explored):
            kernel, rows = shared_kernel(low_rank, rows)
            if 1 < kernel.shape[1] <= FULLY_EXPLORED:
                explored.append(kernel)
            yield descend(low_rank, kernel, rows, generator=generator) if kernel.shape[1] > 1 else []


def is_inside(q: Tensor, spaces: Sequence[Tensor]) -> bool:
    """Whether a unit vector lies in the span of one of several sets of orthonormal columns."""
    return any(float((q @ basis).norm()) > 1 - SAME_DIRECTION for basis in spaces)


def shared_kernel(low_rank: LowRank, zero_rows: Tensor) -> tuple[Tensor, Tensor]:
    """The directions that are zero on given rows, those left out that pin a direction on their own or in pairs.

    Args:
        low_rank: the split of G.
        zero_rows: mask, shape (m,).

    Returns:
        Orthonormal columns, shape (b, d), and the rows that are left, mask of shape (m,).
    """
    L, rows = low_rank.factor, zero_rows.clone()
    for last in (False, True):
        values, vectors = torch.linalg.eigh(L[rows].T @ L[rows])
        silent = ((L @ vectors).abs() <= zero_tolerance(low_rank, vectors))[rows].all(dim=0)
        if not last:
            span = (L[rows] @ vectors[:, ~silent] / values[~silent].clamp_min(BLURRED).sqrt()).T
            rows[rows.nonzero().flatten()[pinning(span)]] = False
    return vectors[:, silent], rows


def _different(directions: Tensor, most: int) -> list[Tensor]:
    """The first few columns that are not parallel to an earlier one."""
    found: list[Tensor] = []
    while directions.shape[1] and len(found) < most:
        found.append(directions[:, 0])
        directions = directions[:, (found[-1] @ directions).abs() < 1 - EQUAL_DIRECTION]
    return found


def _known(candidates: Tensor, pool: Pool) -> Tensor:
    """Which rows the pool has as directions, or in a space that it has searched, to float32, shape (k,)."""
    known = ((candidates @ pool.directions).abs() > 1 - SAME_DIRECTION).any(dim=1)
    if not pool.explored:
        return known
    shares = (candidates @ torch.cat(pool.explored, dim=1)).square()
    spaces = torch.arange(len(pool.explored), device=shares.device).repeat_interleave(
        torch.tensor([kernel.shape[1] for kernel in pool.explored], device=shares.device)
    )
    inside = shares.new_zeros(len(candidates), len(pool.explored)).index_add(1, spaces, shares).sqrt()
    return known | (inside > 1 - SAME_DIRECTION).any(dim=1)


def _parallel(q: Tensor, pool: Pool) -> bool:
    return bool(((q @ pool.directions).abs() > 1 - SAME_DIRECTION).any())


def _refit(low_rank: LowRank, q: Tensor) -> tuple[Tensor, Tensor]:
    """The direction fitted to all its zeros, not only to those that were drawn, and those zeros.

    A few ill-conditioned rows leave a direction just outside the tolerance of some of its zeros; fitted to
    the others it meets them too.
    """
    zero_rows = zeros_of(low_rank, q[:, None])[:, 0]
    while (kernel := null_space(low_rank, zero_rows)[0]).shape[1] == 1:
        fitted_rows = zeros_of(low_rank, kernel[:, :1])[:, 0]
        if fitted_rows.sum() < zero_rows.sum():
            break
        settled = bool(fitted_rows.sum() == zero_rows.sum())
        q, zero_rows = kernel[:, 0], fitted_rows
        if settled:
            break
    return q, zero_rows
