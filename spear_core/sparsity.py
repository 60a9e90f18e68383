"""Step 3: a wrong q leaves L q dense, a right one leaves about half of it zero (SPEAR, §3.3).

L q_i is ∂L/∂z_i up to scale, and ReLU makes it zero wherever the sample does not activate the unit. A wrong
direction has only the b − 1 zeros that it was made to have. Candidates are tested on a few rows first; only
survivors see the rest (two-stage filter), and those are polished: the direction that fits *all* its zeros.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.low_rank import LowRank
from spear_core.sampling import draw_directions
from spear_core.tolerances import ZERO_MARGIN, noise_per_entry

FIRST_ROWS = 24  # rows of the first stage
FIRST_ZEROS = 6  # zeros among them to pass: P(Bin(24, ½) < 6) = 0.3 %, and no wrong candidate has seen six
COARSE_ZERO = 1e-2  # of the mean |entry|: float32 null vectors of ill-conditioned rows are that far off
POLISH_TOLERANCES = (1e-2, 1e-3, 1e-4)  # of the mean |entry|, finer and finer
MOST_SURVIVORS = 4  # times b: as many survivors of one chunk are followed up
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
    """

    directions: Tensor
    zeros: Tensor
    unique: Tensor

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
    of row j of G, in proportion to the row's own size.

    Args:
        low_rank: the split of G; its floor measures δG.
        directions: unit columns, shape (b, k).
    """
    L, S = low_rank.factor, low_rank.singular_values[: low_rank.batch_size]
    row_size = (L * S).norm(dim=1)
    relative = (row_size / row_size.square().mean().sqrt()).clamp_min(1e-3)
    shape = (L.shape[0], low_rank.rows.shape[1])
    floor = max(low_rank.floor, torch.finfo(torch.float64).eps * float(low_rank.singular_values[0]))
    amplified = (directions / S[:, None]).norm(dim=0)
    noise = noise_per_entry(floor, shape) * torch.outer(relative, amplified)
    arithmetic = torch.finfo(torch.float64).eps  # of L itself, whose columns have length one
    return ZERO_MARGIN * noise + 16 * arithmetic


def default_threshold(low_rank: LowRank) -> float:
    """τ, the share of zeros that a direction must have, at least.

    Half of a column is zero, give or take √m / 2, and photographs less evenly so; a wrong direction has b − 1
    zeros and hardly another. One fifth keeps a right one (P(Bin(100, ½) < 20) is 1e-10), and the two spare zeros keep
    a wrong one out where b is a good part of m.
    """
    m, b = low_rank.factor.shape
    return max(0.2, (b - 1 + SPARE_ROWS) / m)


def passes_first_stage(candidates: Tensor, factor: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Test candidates on a few random rows of L, coarsely: stage one of the filter.

    Args:
        candidates: directions as rows, shape (k, b).
        factor: L, shape (m, b), rows of comparable length.
        generator: CPU generator. Other rows each time: no direction is unlucky for good.

    Returns:
        Mask, shape (k,).
    """
    m = factor.shape[0]
    rows = torch.randperm(m, generator=generator)[:FIRST_ROWS].to(factor.device)
    entries = (factor[rows] @ candidates.T).abs_()
    coarse = entries.mean(dim=0).mul_(COARSE_ZERO)
    zeros = (entries < coarse).sum(dim=0, dtype=torch.uint8)  # an int64 sum costs as much as the inverse
    return zeros >= FIRST_ZEROS * min(1.0, len(rows) / FIRST_ROWS)


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
        The pool with the new directions behind the old ones; the same object if there is none.
    """
    candidates = candidates.to(torch.float64)
    candidates = candidates / candidates.norm(dim=1, keepdim=True)
    followed = 0
    for q in candidates:
        if not _known(q, pool):
            rows = without_pinning_rows(low_rank, polish(low_rank, q))
            for direction in descend(low_rank, rows, generator=generator):
                pool = _join(direction, low_rank, pool, threshold)
            followed += 1
            if followed == MOST_SURVIVORS * low_rank.batch_size:
                break
    return pool


def polish(low_rank: LowRank, q: Tensor) -> Tensor:
    """Which rows of L q are zero, for a candidate with errors of its own, shape (m,).

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
    return ((L @ q[:, None]).abs() <= zero_tolerance(low_rank, q[:, None]))[:, 0]


def descend(
    low_rank: LowRank, zero_rows: Tensor, *, generator: torch.Generator | None = None
) -> list[Tensor]:
    """Directions that are zero on the given rows; where several dimensions are left, the sparsest of those.

    Two similar samples share most of their zeros. The shared ones leave a plane of directions, and every
    mixture in it passes the filter. Within the plane the problem is a small copy of the large one: L restricted
    to the kernel, with as many columns as it has dimensions, so steps 2 and 3 are repeated there.

    Args:
        low_rank: the split of G.
        zero_rows: mask of rows, shape (m,).
        generator: CPU generator.

    Returns:
        Unit directions, each shape (b,): one if the rows pin it down; otherwise those with the most zeros.
        If nothing in a plane has more zeros than the rest, two samples have the same activation pattern:
        then any two directions that span the plane.
    """
    L = low_rank.factor
    kernel, _ = null_space(low_rank, zero_rows)
    d = kernel.shape[1]
    if d <= 1:
        return list(kernel.T)
    inside = L @ kernel
    norms = inside.norm(dim=1)
    rest = (norms > zero_tolerance(low_rank, kernel).amax(dim=1)).nonzero().flatten()
    if len(rest) < d:
        return list(kernel.T) if d == 2 else []
    drawn = draw_directions(inside[rest] / norms[rest, None], DESCENT_DRAWS, generator=generator)
    drawn = drawn[drawn.isfinite().all(dim=1)]
    directions = kernel @ (drawn / drawn.norm(dim=1, keepdim=True)).T
    zeros = ((L @ directions).abs() <= zero_tolerance(low_rank, directions)).sum(dim=0)
    enough = int(zero_rows.sum()) + d - 1 + SPARE_ROWS  # d − 1 rows were drawn to be zero
    found: list[Tensor] = []
    for k in zeros.argsort(descending=True).tolist():
        if zeros[k] < enough or len(found) == d:
            break
        if all(float((directions[:, k] @ other).abs()) < 1 - 1e-9 for other in found):
            found.append(directions[:, k])
    return found or (list(kernel.T) if d == 2 else [])


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
    silent = (L[zero_rows] @ directions).abs() <= zero_tolerance(low_rank, directions)[zero_rows]
    in_kernel = silent.all(dim=0)
    return directions[:, in_kernel].flip(1), values.flip(0)


def without_pinning_rows(low_rank: LowRank, zero_rows: Tensor) -> Tensor:
    """The zeros of a direction without those few that alone pin it down, shape (m,).

    A mixture of two similar samples has all the zeros that both share, and one more row pins down *which*
    mixture: a plain rank test would accept it. So the row that matters most is taken away, twice; if the
    kernel then has a second dimension, what is left is returned, otherwise all rows are.
    """
    L, b = low_rank.factor, low_rank.batch_size
    if b == 1 or null_space(low_rank, zero_rows)[0].shape[1] != 1:
        return zero_rows
    rows = zero_rows.clone()
    for _ in range(SPARE_ROWS):
        second = torch.linalg.eigh(L[rows].T @ L[rows])[1][:, 1]
        rows[((L @ second).abs() * rows).argmax()] = False
        if null_space(low_rank, rows)[0].shape[1] > 1:
            return rows
    return zero_rows


def is_unique(low_rank: LowRank, zero_rows: Tensor) -> bool:
    """Whether the zeros leave one direction only, rank b − 1, even without the two rows that matter most."""
    kept = without_pinning_rows(low_rank, zero_rows)
    return null_space(low_rank, kept)[0].shape[1] == 1


def _known(q: Tensor, pool: Pool) -> bool:
    """Whether the pool has this direction, to the accuracy of a float32 candidate."""
    return bool(len(pool) and ((q @ pool.directions).abs() > 1 - 1e-6).any())


def _independent(q: Tensor, directions: Tensor) -> bool:
    fitted = directions @ torch.linalg.lstsq(directions, q[:, None]).solution if directions.shape[1] else 0 * q[:, None]
    return float((q[:, None] - fitted).norm()) > INDEPENDENT


def _join(q: Tensor, low_rank: LowRank, pool: Pool, threshold: float) -> Pool:
    zero_rows = ((low_rank.factor @ q[:, None]).abs() <= zero_tolerance(low_rank, q[:, None]))[:, 0]
    zeros = zero_rows.sum()
    if float(zeros) < threshold * len(zero_rows) or _known(q, pool):
        return pool
    unique = torch.tensor([is_unique(low_rank, zero_rows)], device=q.device)
    if not unique and not _independent(q, pool.directions):
        return pool  # a mixture is of use only where nothing better spans its plane
    if unique and (kernel := null_space(low_rank, zero_rows)[0]).shape[1] == 1:
        q = kernel[:, 0]  # fitted to all its zeros, not only to those that were drawn
    return Pool(
        torch.cat([pool.directions, q[:, None]], dim=1),
        torch.cat([pool.zeros, zeros[None]]),
        torch.cat([pool.unique, unique]),
    )
