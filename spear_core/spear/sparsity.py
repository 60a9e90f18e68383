"""Step 3: a wrong q leaves L q dense, a right one leaves about half of it zero (SPEAR, sparsity filter).

L q_i is ∂L/∂z_i up to scale, and ReLU makes it zero wherever the sample does not activate the unit. A wrong
direction has only the b − 1 zeros that it was made to have. Candidates are tested on a few rows first; only
survivors see the rest (two-stage filter), and those are polished: the direction that fits *all* its zeros.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.sampling import Draw, draw_directions

FIRST_ROWS = 24  # rows of the first stage
FIRST_ZEROS = (
    4  # zeros among them, beside its own: one in a million wrong ones has them, P(Bin(24, ½) < 4) = 0.01 %
)
COARSE_ZERO = 4e-3  # of the mean |entry|: float32 null vectors of ill-conditioned rows are that far off
POLISH_TOLERANCES = (1e-2, 1e-3, 1e-4)  # of the mean |entry|, finer and finer
MOST_SURVIVORS = 4  # times b: as many survivors of one chunk are followed up
PINNED = 1e-6  # a share of a row that the other rows do not already span, below which it pins a direction
PAIRED = 0.5 + PINNED  # of two rows that pin together, one at least has no larger such share
FULLY_EXPLORED = 3  # dimensions of a kernel that the draws of one descent explore completely
INDEPENDENT = 1e-5  # least distance of a unit direction from the span of others
DESCENT_DRAWS = 256  # candidates per step down into a kernel of several dimensions
SPARE_ROWS = 2  # zeros that a direction must be able to lose and stay unique


@dataclass(frozen=True)
class Pool:
    """Directions that passed the filter.

    Attributes:
        directions: unit vectors as columns, shape (b, p), float64.
        zeros: zero entries of L q for each, shape (p,).
        unique: whether its zeros leave no other direction, even with two of them taken away, shape (p,).
        explored: planes and spaces of mixtures that have been searched, orthonormal columns, shape (b, d)
            each.
    """

    directions: Tensor
    zeros: Tensor
    unique: Tensor
    explored: tuple[Tensor, ...] = ()

    @classmethod
    def empty(cls, b: int, device: torch.device) -> "Pool":
        """A pool of no directions of length b."""
        return cls(
            torch.zeros(b, 0, dtype=torch.float64, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
            torch.zeros(0, dtype=torch.bool, device=device),
        )

    def __len__(self) -> int:
        return self.directions.shape[1]


def zero_tolerance(low_rank: LowRank, directions: Tensor) -> Tensor:
    """How far from zero rounding may push an entry of L q, shape (m, k).

    Rounding errors δG reach L as δG V S⁻¹, so row j of L q is off by about ν_j ‖S⁻¹ q‖, with ν_j the error
    of row j of G: in proportion to the row's own size, or alike for all (`LowRank.even`).

    Args:
        low_rank: the split of G; its floor measures δG.
        directions: unit columns, shape (b, k).
    """
    S = low_rank.singular_values[: low_rank.batch_size]
    amplified = (directions / S[:, None]).norm(dim=0)
    arithmetic = torch.finfo(torch.float64).eps  # of L itself, whose columns have length one
    return torch.outer(low_rank.row_noise, low_rank.zero_margin * amplified) + 16 * arithmetic


def default_threshold(low_rank: LowRank) -> float:
    """τ, the share of zeros that a direction must have, at least.

    Half of a column is zero, give or take √m / 2, and photographs less evenly so; a wrong direction has b − 1
    zeros and hardly another. One fifth keeps a right one (P(Bin(100, ½) < 20) is 1e-10), and the two spare
    zeros keep
    a wrong one out where b is a good part of m.
    """
    m, b = low_rank.factor.shape
    return max(0.2, (b - 1 + SPARE_ROWS) / m)


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
    """Stage two: what passed the first stage meets all rows, is polished, and joins the pool if it is new.

    Args:
        candidates: survivors of stage one as rows, shape (k, b), any float dtype.
        low_rank: the split of G.
        pool: directions found so far.
        threshold: τ, the least share of zeros in L q.
        generator: CPU generator.

    Returns:
        The pool with the new directions behind the old ones.
    """
    if not len(candidates):  # as of most chunks, once b is ten or so
        return pool
    candidates = candidates.to(torch.float64)
    candidates = candidates / candidates.norm(dim=1, keepdim=True)
    followed = 0
    for q in candidates[~_known(candidates, pool)]:
        if not _known(q[None], pool):
            kernel, rows = polish(low_rank, q)
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


def polish(low_rank: LowRank, q: Tensor) -> tuple[Tensor, Tensor]:
    """The directions that the zeros of a candidate leave, shape (b, d), and those zeros, a mask (m,).

    Null vectors of ill-conditioned rows in float32 are off by up to a hundredth, so the zeros are taken
    coarsely at first; the direction fitted to them all is better, so the next look is finer.

    Args:
        low_rank: the split of G.
        q: unit direction, shape (b,).
    """
    L = low_rank.factor
    for tolerance in POLISH_TOLERANCES:
        entries = L @ q
        limit = tolerance * entries.abs().mean()
        rows = L[entries.abs() <= limit]
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        kernel = vectors[:, values <= limit**2 * max(1, len(rows))]
        if not kernel.shape[1]:
            kernel = vectors[:, :1]
        q = kernel @ (kernel.T @ q)
        q = q / q.norm()
    zero_rows = rows_of_zeros(low_rank, q)
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
    zeros = ((L @ directions).abs() <= zero_tolerance(low_rank, directions)).sum(dim=0)
    enough = int(zero_rows.sum()) + d - 1 + SPARE_ROWS  # d − 1 rows were drawn to be zero
    order = zeros.argsort(descending=True)
    return _different(directions[:, order[zeros[order] >= enough]], d)


def _different(directions: Tensor, most: int) -> list[Tensor]:
    """The first few columns that are not parallel to an earlier one."""
    found: list[Tensor] = []
    while directions.shape[1] and len(found) < most:
        found.append(directions[:, 0])
        directions = directions[:, (found[-1] @ directions).abs() < 1 - 1e-9]
    return found


def null_space(low_rank: LowRank, zero_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Directions q with (L q)_j = 0 on the given rows, and the singular values of those rows.

    Args:
        low_rank: the split of G.
        zero_rows: mask, shape (m,).

    Returns:
        Orthonormal kernel, shape (b, d), most certain direction first, and the b singular values, ascending.
    """
    L = low_rank.factor
    rows = L[zero_rows]
    _, triangle = torch.linalg.qr(rows, mode="r") if len(rows) >= L.shape[1] else (None, rows)
    right = torch.linalg.svd(triangle, full_matrices=True)
    values = torch.zeros(L.shape[1], dtype=L.dtype, device=L.device)
    values[: len(right.S)] = right.S
    directions = right.Vh.T
    # a direction is in the kernel if no row says more than rounding about it
    silent = (rows @ directions).abs() <= zero_tolerance(low_rank, directions)[zero_rows]
    in_kernel = silent.all(dim=0)
    return directions[:, in_kernel].flip(1), values.flip(0)


def without_pinning_rows(low_rank: LowRank, zero_rows: Tensor) -> Tensor:
    """The zeros of a direction without those few that alone pin it down, shape (m,).

    A mixture of similar samples has all the zeros that they share, and each further row pins down *which*
    mixture: a plain rank test would accept it.
    """
    L, b = low_rank.factor, low_rank.batch_size
    rows = zero_rows.nonzero().flatten()
    if b == 1 or len(rows) < b - 1 + SPARE_ROWS or null_space(low_rank, zero_rows)[0].shape[1] != 1:
        return zero_rows
    span = torch.linalg.svd(L[rows], full_matrices=False)[0][:, : b - 1]
    kept = zero_rows.clone()
    kept[rows[pinning(span.T)]] = False
    return kept


def pinning(whitened: Tensor) -> Tensor:
    """Rows without which, or without which and one other, the rest lose a rank: mask, shape (k,).

    A row without which the others lose a rank has leverage 1 (the diagonal of H = A A⁺); two rows that do so together
    make the 2×2 block of I − H singular. I − H is a projection, so the diagonal entries of such a pair add up to at
    most 1: only rows with an entry of at most ½ need be compared with the others.

    Args:
        whitened: the rows as columns, scaled to WᵀW = H, shape (r, k).
    """
    alone = 1 - whitened.square().sum(dim=0)
    single = alone < PINNED  # pins with any other row as well, which says nothing about that one
    low = ((alone <= PAIRED) & ~single).nonzero().flatten()
    itself = (torch.arange(len(low), device=low.device), low)
    mean, half = (alone[low, None] + alone) / 2, (alone[low, None] - alone) / 2
    smallest = mean - (half.square() + (whitened[:, low].T @ whitened).square()).sqrt()
    smallest[itself] = 1
    pairs = (smallest < PINNED) & ~single
    found = single | pairs.any(dim=0)
    found[low] |= pairs.any(dim=1)
    return found


def is_unique(low_rank: LowRank, zero_rows: Tensor) -> bool:
    """Whether the zeros leave one direction only, rank b − 1, even without any two of them."""
    kept = without_pinning_rows(low_rank, zero_rows)
    enough = int(kept.sum()) >= low_rank.batch_size - 1 + SPARE_ROWS
    return enough and bool(kept.equal(zero_rows)) and null_space(low_rank, kept)[0].shape[1] == 1


def _known(candidates: Tensor, pool: Pool) -> Tensor:
    """Which rows the pool has as directions, or in a space that it has searched, to float32, shape (k,)."""
    known = ((candidates @ pool.directions).abs() > 1 - 1e-6).any(dim=1)
    if not pool.explored:
        return known
    shares = (candidates @ torch.cat(pool.explored, dim=1)).square()
    spaces = torch.arange(len(pool.explored), device=shares.device).repeat_interleave(
        torch.tensor([kernel.shape[1] for kernel in pool.explored], device=shares.device)
    )
    inside = shares.new_zeros(len(candidates), len(pool.explored)).index_add(1, spaces, shares).sqrt()
    return known | (inside > 1 - 1e-6).any(dim=1)


def _parallel(q: Tensor, pool: Pool) -> bool:
    return bool(((q @ pool.directions).abs() > 1 - 1e-6).any())


def _refit(low_rank: LowRank, q: Tensor) -> tuple[Tensor, Tensor]:
    """The direction fitted to all its zeros, not only to those that were drawn, and those zeros.

    A few ill-conditioned rows leave a direction just outside the tolerance of some of its zeros; fitted to
    the others it meets them too.
    """
    zero_rows = rows_of_zeros(low_rank, q)
    while (kernel := null_space(low_rank, zero_rows)[0]).shape[1] == 1:
        fitted_rows = rows_of_zeros(low_rank, kernel[:, 0])
        if fitted_rows.sum() < zero_rows.sum():
            break
        settled = bool(fitted_rows.sum() == zero_rows.sum())
        q, zero_rows = kernel[:, 0], fitted_rows
        if settled:
            break
    return q, zero_rows


def rows_of_zeros(low_rank: LowRank, q: Tensor) -> Tensor:
    """Where L q is zero, to rounding, mask of shape (m,)."""
    return ((low_rank.factor @ q[:, None]).abs() <= zero_tolerance(low_rank, q[:, None]))[:, 0]
