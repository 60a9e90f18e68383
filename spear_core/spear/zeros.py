"""Half-spaces: what the zeros of many candidates say, in float64 and all at once.

With A the rows of L where L q is zero, q is the null vector of A. Instead of one SVD of A per candidate, this
takes Gram matrices AᵀA as batched products, their Cholesky factors, and inverse iteration.
"""

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.sparsity import PAIRED, PINNED, SPARE_ROWS, default_threshold, pinning, zero_tolerance

FIT_TOLERANCES = (4e-3, 2e-4, 1e-5, 5e-7, 2e-8, 1e-9, 5e-11, 2e-12, 0.0)  # of the mean |entry|, or rounding
BLOCK = 4  # smallest eigenvectors that are looked at: a direction's own and its closest rivals
INVERSE_STEPS = 4
BLURRED = 1e-8  # least second eigenvalue of AᵀA at which float64 still resolves the leverages
WINDOW = 33  # tolerances; entries of this size are counted to learn how often one is small by chance
CHANCE = 1e-3  # accepted probability that so many entries are small by chance, somewhere among all mixtures
BLURRED_ZEROS = 2.0  # so many zeros by chance mean that zeros and small entries are not apart
CHUNK_NUMBERS = 2**22  # entries of the batched products held at a time


@dataclass(frozen=True)
class Zeros:
    """Directions fitted to their zeros, and how firmly those hold them; K columns or entries each.

    Attributes:
        directions: q, unit columns, shape (b, K).
        rows: where L q is zero, shape (m, K).
        unique: whether they leave no other direction, even without any two of them.
        shared: whether they are enough but not unique: similar samples share them.
        firm: whether more of them tell q from its closest rival than could be zero by chance.
    """

    directions: Tensor
    rows: Tensor
    unique: Tensor
    shared: Tensor
    firm: Tensor

    def pick(self, which: Tensor) -> "Zeros":
        """Some of the directions: by mask, shape (K,), or by number."""
        return Zeros(*(getattr(self, name)[..., which] for name in self.__match_args__))

    def __add__(self, other: "Zeros") -> "Zeros":
        """All directions of the two."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__match_args__)
        return Zeros(*(torch.cat(pair, dim=-1) for pair in pairs))


def fit(low_rank: LowRank, q: Tensor) -> Tensor:
    """Fit candidates to the entries of L q that look like zeros, unit columns, shape (b, K).

    Small entries that are no zeros pull q away by as much as they are large; the finer looks let go of them.
    """
    L = low_rank.factor
    q, last = q.clone(), torch.zeros(len(L), q.shape[1], dtype=torch.bool, device=q.device)
    for tolerance in FIT_TOLERANCES:
        entries = (L @ q).abs()
        zeros = entries <= torch.maximum(tolerance * entries.mean(dim=0), zero_tolerance(low_rank, q))
        changed = (zeros != last).any(dim=0).nonzero().flatten()
        for part in changed.split(chunk(L)):
            lower = regular_cholesky(masked_grams(L, zeros[:, part]))
            q[:, part] = inverse_iteration(lower, q[:, part].T[:, :, None])[:, :, 0].T
        last = zeros
    return q


def weigh(low_rank: LowRank, q: Tensor, *, generator: torch.Generator | None = None) -> Zeros:
    """Are the zeros of each direction enough, and do they leave this one only?

    *Unique.* The zeros leave one direction, and no one or two of them pin it down (`sparsity.pinning`).

    *Firm.* Mixtures of two similar samples share most zeros, and each further row is zero for one of them; within
    rounding several rows may agree on one. An entry falls below the tolerance by chance as often as into any other
    interval of that length, so the number that do is Poisson; a direction is firm if more of its zeros than
    that tell it from the directions that its zeros exclude least: from one, and from two or three at once.

    Args:
        low_rank: the split of G.
        q: unit columns, shape (b, K).
        generator: CPU generator.
    """
    L, b = low_rank.factor, low_rank.batch_size
    entries, tolerance = (L @ q).abs(), zero_tolerance(low_rank, q)
    zeros = entries <= tolerance
    enough = zeros.sum(dim=0) >= max(default_threshold(low_rank) * len(L), b - 1 + SPARE_ROWS)
    if b == 1:
        return Zeros(q, zeros, enough, ~enough, enough)
    by_chance = (1.0 + ((entries <= WINDOW * tolerance) & ~zeros).sum(dim=0)) / (WINDOW - 1)
    q, unique, firm = q.clone(), enough.clone(), enough.clone()
    for part in enough.nonzero().flatten().split(chunk(L)):
        mask = zeros[:, part]
        grams = masked_grams(L, mask)
        vectors, values = smallest_vectors(grams, q[:, part], generator)
        first, rival = vectors[:, :, 0].T, vectors[:, :, 1].T
        # a rival remains if no row says more than rounding about it
        single = ((L @ rival).abs() * mask > zero_tolerance(low_rank, rival)).any(dim=0)
        unlikely = _by_chance(L, vectors[:, :, 1:], values[:, 1:], mask, by_chance[part])
        firm[part] = (unlikely < CHANCE) & (by_chance[part] < BLURRED_ZEROS)
        unique[part] = single & (values[:, 1] > BLURRED) & ~_hangs_on_two(L, grams, first, mask)
        q[:, part] = torch.where(unique[part], first, q[:, part])
    return Zeros(q, zeros, unique, enough & ~unique, firm & unique)


def _by_chance(L: Tensor, rivals: Tensor, values: Tensor, mask: Tensor, rate: Tensor) -> Tensor:
    """Expected number of mixtures of q and its closest rivals with as many zeros, by chance, shape (K,).

    With d rivals, d rows pick a mixture, in one of C(m, d) ways. The rows that tell q from the rivals are counted by
    their leverages h, which add up to d: (Σ h)² / Σ h² of them.

    Args:
        L: shape (m, b).
        rivals: eigenvectors of the zeros' Gram matrices, closest first, shape (K, b, r).
        values: their eigenvalues, shape (K, r).
        mask: the zeros, shape (m, K).
        rate: how many other entries are small by chance, on average, shape (K,).
    """
    shares = (L @ rivals).square() / values[:, None].clamp_min(torch.finfo(L.dtype).tiny) * mask.T[:, :, None]
    leverage, worst = shares.cumsum(dim=2), torch.zeros_like(rate)
    for d in range(1, rivals.shape[2] + 1):
        h = leverage[:, :, d - 1]
        spare = h.sum(dim=1).square() / h.square().sum(dim=1) - d
        ways = comb(len(L), d) * torch.special.gammainc(spare.clamp_min(0.5), rate)
        worst = torch.maximum(worst, ways)
    return worst


def shared_kernel(low_rank: LowRank, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The directions that are zero on given rows, those left out that pin a direction on their own or in pairs.

    Args:
        low_rank: the split of G.
        rows: mask, shape (m,).

    Returns:
        Orthonormal columns, shape (b, d), and the rows that are left, mask of shape (m,).
    """
    L, rows = low_rank.factor, rows.clone()
    for last in (False, True):
        values, vectors = torch.linalg.eigh(L[rows].T @ L[rows])
        silent = ((L @ vectors).abs() <= zero_tolerance(low_rank, vectors))[rows].all(dim=0)
        if not last:
            span = (L[rows] @ vectors[:, ~silent] / values[~silent].clamp_min(BLURRED).sqrt()).T
            rows[rows.nonzero().flatten()[pinning(span)]] = False
    return vectors[:, silent], rows


def _hangs_on_two(L: Tensor, grams: Tensor, null: Tensor, mask: Tensor) -> Tensor:
    """Whether one or two zeros alone pin the direction down, shape (K,)."""
    lower = torch.linalg.cholesky_ex(grams + null.T[:, :, None] * null.T[:, None, :])[0]
    whitened = torch.linalg.solve_triangular(lower, L.T.expand(len(grams), -1, -1), upper=False)
    least = torch.where(mask.T, 1 - whitened.square().sum(dim=1), 1.0).amin(dim=1)
    pinned = least < PINNED
    for k in (~pinned & (least <= PAIRED)).nonzero().flatten().tolist():
        pinned[k] = pinning(whitened[k][:, mask[:, k]]).any()
    return pinned


def smallest_vectors(
    grams: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The eigenvectors of the smallest eigenvalues, by inverse iteration on a few vectors at once.

    Args:
        grams: shape (K, b, b).
        start: unit columns near the first eigenvector, shape (b, K).
        generator: CPU generator, for the other vectors.

    Returns:
        Unit vectors, shape (K, b, d), and the eigenvalues, ascending, shape (K, d), d = `BLOCK` or b.
    """
    count, b = grams.shape[:2]
    others = torch.randn(count, b, min(b, BLOCK) - 1, dtype=start.dtype, generator=generator).to(start)
    vectors = inverse_iteration(regular_cholesky(grams), torch.cat([start.T[:, :, None], others], dim=2))
    values, turn = torch.linalg.eigh(vectors.mT @ grams @ vectors)
    return vectors @ turn, values


def regular_cholesky(grams: Tensor) -> Tensor:
    """Cholesky factors of Gram matrices that are singular up to rounding."""
    b = grams.shape[1]
    shift = b * torch.finfo(grams.dtype).eps * grams.diagonal(dim1=1, dim2=2).amax(dim=1)
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


def masked_grams(factor: Tensor, masks: Tensor) -> Tensor:
    """AᵀA for the rows A of each mask: (m, b) and (m, K) give (K, b, b)."""
    rows = [factor[mask] for mask in masks.T]
    return torch.stack([A.T @ A for A in rows]) if rows else factor.new_zeros(0, *2 * factor.shape[1:])


def chunk(factor: Tensor) -> int:
    """How many copies of L may be held at a time."""
    return max(1, CHUNK_NUMBERS // factor.numel())
