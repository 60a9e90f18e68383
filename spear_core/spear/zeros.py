"""Where L q is zero, and what directions those rows leave.

L q_i is ∂L/∂z_i up to scale, and zero wherever the sample does not activate the unit. With A the rows of L on which q
is zero, q is the null vector of A; of many candidates at once, Gram matrices AᵀA, their Cholesky factors and inverse
iteration take the place of one SVD each.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spear_core.linalg import masked_products
from spear_core.spear.low_rank import LowRank

FIT_TOLERANCES = (4e-3, 2e-4, 1e-5, 5e-7, 2e-8, 1e-9, 5e-11, 2e-12, 0.0)  # of the mean |entry|, or rounding
SPARE_ROWS = 2  # zeros that a direction must be able to lose and stay unique
INVERSE_STEPS = 4
BLOCK = 4  # smallest eigenvectors that are looked at: a direction's own and its closest rivals
CHUNK_NUMBERS = 2**22  # entries of the batched products held at a time


def zero_tolerance(low_rank: LowRank, directions: Tensor) -> Tensor:
    """How far from zero rounding may push an entry of L q, shape (m, k).

    Rounding errors δG reach L as δG V S⁻¹, so row j of L q is off by about ν_j ‖S⁻¹ q‖, with ν_j the error
    of row j of G: in proportion to the row's own size, or alike for all (`LowRank.even`). Directions are unit columns.
    """
    S = low_rank.singular_values[: low_rank.batch_size]
    amplified = (directions / S[:, None]).norm(dim=0)
    arithmetic = torch.finfo(torch.float64).eps  # of L itself, whose columns have length one
    return torch.outer(low_rank.row_noise, low_rank.zero_margin * amplified) + 16 * arithmetic


def zeros_of(low_rank: LowRank, directions: Tensor) -> Tensor:
    """Where L q is zero, to rounding: masks as columns, shape (m, k), for unit columns (b, k)."""
    return (low_rank.factor @ directions).abs() <= zero_tolerance(low_rank, directions)


def default_threshold(low_rank: LowRank) -> float:
    """τ, the share of zeros that a direction must have, at least.

    Half of a column is zero, give or take √m / 2, and photographs less evenly so; a wrong direction has b − 1
    zeros and hardly another. One fifth keeps a right one (P(Bin(100, ½) < 20) is 1e-10), and the two spare zeros
    keep a wrong one out where b is a good part of m.
    """
    m, b = low_rank.factor.shape
    return max(0.2, (b - 1 + SPARE_ROWS) / m)


def null_space(low_rank: LowRank, zero_rows: Tensor) -> Tensor:
    """Directions q with (L q)_j = 0 on the given rows, a mask (m,): orthonormal, shape (b, d), most certain first."""
    L = low_rank.factor
    rows = L[zero_rows]
    _, triangle = torch.linalg.qr(rows, mode="r") if len(rows) >= L.shape[1] else (None, rows)
    directions = torch.linalg.svd(triangle, full_matrices=True).Vh.T
    # a direction is in the kernel if no row says more than rounding about it
    silent = (rows @ directions).abs() <= zero_tolerance(low_rank, directions)[zero_rows]
    return directions[:, silent.all(dim=0)].flip(1)


def fit(low_rank: LowRank, q: Tensor, tolerances: Sequence[float] = FIT_TOLERANCES) -> Tensor:
    """Fit candidates to the entries of L q that look like zeros, unit columns, shape (b, K).

    Small entries that are no zeros pull q away by as much as they are large; the finer looks let go of them. Tolerances
    are of the mean |entry|, and never below rounding.
    """
    L = low_rank.factor
    q, last = q.clone(), torch.zeros(len(L), q.shape[1], dtype=torch.bool, device=q.device)
    for tolerance in tolerances:
        entries = (L @ q).abs()
        zeros = entries <= torch.maximum(tolerance * entries.mean(dim=0), zero_tolerance(low_rank, q))
        changed = (zeros != last).any(dim=0).nonzero().flatten()
        for part in changed.split(chunk(L)):
            lower = regular_cholesky(masked_products(L, L, zeros[:, part]))
            q[:, part] = inverse_iteration(lower, q[:, part].T[:, :, None])[:, :, 0].T
        last = zeros
    return q


def smallest_vectors(
    grams: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The eigenvectors of the smallest eigenvalues, by inverse iteration on a few vectors at once.

    Of matrices (K, b, b), from unit columns near their first eigenvectors, (b, K); the others start at random. Returns
    unit vectors, shape (K, b, d), and the eigenvalues, ascending, shape (K, d), d = `BLOCK` or b.
    """
    count, b = grams.shape[:2]
    others = torch.randn(count, b, min(b, BLOCK) - 1, dtype=start.dtype, generator=generator).to(start)
    vectors = inverse_iteration(regular_cholesky(grams), torch.cat([start.T[:, :, None], others], dim=2))
    values, turn = torch.linalg.eigh(vectors.mT @ grams @ vectors)
    return vectors @ turn, values


def regular_cholesky(grams: Tensor) -> Tensor:
    """Cholesky factors of Gram matrices that are singular up to rounding."""
    b, eps = grams.shape[1], torch.finfo(grams.dtype).eps
    # of dead rows, all is zero
    shift = (b * eps * grams.diagonal(dim1=1, dim2=2).amax(dim=1)).clamp_min(eps**2)
    return torch.linalg.cholesky_ex(grams + torch.diag_embed(shift[:, None].expand(-1, b)))[0]


def inverse_iteration(lower: Tensor, vectors: Tensor) -> Tensor:
    """Blocks of orthonormal vectors, shape (K, b, d), turned towards the smallest eigenvectors."""
    for _ in range(INVERSE_STEPS):
        vectors = torch.cholesky_solve(vectors, lower)
        if vectors.shape[2] == 1:
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        else:
            vectors = torch.linalg.qr(vectors)[0]
    return vectors


def chunk(factor: Tensor) -> int:
    """How many copies of L may be held at a time."""
    return max(1, CHUNK_NUMBERS // factor.numel())
