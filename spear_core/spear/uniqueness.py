"""Are the zeros of a direction enough, and do they leave this one only?

A mixture of two similar samples has all the zeros that they share, and each further row pins down *which* mixture: a
plain rank test would accept it. So uniqueness must survive the loss of any two rows, and more rows must tell a
direction from its closest rivals than chance makes zero.
"""

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from spear_core.linalg import masked_products
from spear_core.spear.low_rank import LowRank
from spear_core.spear.zeros import (
    SPARE_ROWS,
    chunk,
    default_threshold,
    null_space,
    smallest_vectors,
    zero_tolerance,
)

PINNED = 1e-6  # a share of a row that the other rows do not already span, below which it pins a direction
PAIRED = 0.5 + PINNED  # of two rows that pin together, one at least has no larger such share
BLURRED = 1e-8  # least second eigenvalue of AᵀA at which float64 still resolves the leverages
WINDOW = 33  # tolerances; entries of this size are counted to learn how often one is small by chance
CHANCE = 1e-3  # accepted probability that so many entries are small by chance, somewhere among all mixtures
BLURRED_ZEROS = 2.0  # so many zeros by chance mean that zeros and small entries are not apart


def shared_kernel(low_rank: LowRank, zero_rows: Tensor) -> tuple[Tensor, Tensor]:
    """The directions that are zero on given rows, those left out that pin a direction on their own or in pairs.

    Rows are masks, shape (m,). Returns orthonormal columns, shape (b, d), and the rows that are left.
    """
    L, rows = low_rank.factor, zero_rows.clone()
    kernel = null_space(low_rank, rows)
    # the rows as seen from what they exclude: whitened, their squared lengths are leverages
    excluded = torch.linalg.svd(L[rows] - L[rows] @ kernel @ kernel.T, full_matrices=False)[0]
    rank = L.shape[1] - kernel.shape[1]
    rows[zero_rows.nonzero().flatten()[pinning(excluded[:, :rank].T)]] = False
    return (kernel if rows.equal(zero_rows) else null_space(low_rank, rows)), rows


def pinning(whitened: Tensor) -> Tensor:
    """Rows without which, or without which and one other, the rest lose a rank: mask, shape (k,).

    A row without which the others lose a rank has leverage 1 (the diagonal of H = A A⁺); two rows that do so together
    make the 2×2 block of I − H singular. I − H is a projection, so the diagonal entries of such a pair add up to at
    most 1: only rows with an entry of at most ½ need be compared with the others. Given are the rows as columns,
    whitened to WᵀW = H, shape (r, k).
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
        which = which.nonzero().flatten() if which.dtype == torch.bool else which
        return Zeros(*(getattr(self, name)[..., which] for name in self.__match_args__))

    def __add__(self, other: "Zeros") -> "Zeros":
        """All directions of the two."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__match_args__)
        return Zeros(*(torch.cat(pair, dim=-1) for pair in pairs))


def weigh(low_rank: LowRank, q: Tensor, *, generator: torch.Generator | None = None) -> Zeros:
    """Are the zeros of each direction enough, and do they leave this one only?

    *Unique.* The zeros leave one direction, and no one or two of them pin it down (`pinning`).

    *Firm.* Mixtures of two similar samples share most zeros, and each further row is zero for one of them; within
    rounding several rows may agree on one. An entry falls below the tolerance by chance as often as into any other
    interval of that length, so the number that do is Poisson; a direction is firm if more of its zeros than
    that tell it from the directions that its zeros exclude least: from one, and from two or three at once.

    The directions are unit columns, shape (b, K).
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
        grams = masked_products(L, L, mask)
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
    their leverages h, which add up to d: (Σ h)² / Σ h² of them. Rivals (K, b, r) are eigenvectors of the zeros' Gram
    matrices, closest first, with their eigenvalues (K, r); `rate` of the other entries are small by chance.
    """
    shares = (L @ rivals).square() / values[:, None].clamp_min(torch.finfo(L.dtype).tiny) * mask.T[:, :, None]
    leverage, worst = shares.cumsum(dim=2), torch.zeros_like(rate)
    for d in range(1, rivals.shape[2] + 1):
        h = leverage[:, :, d - 1]
        spare = h.sum(dim=1).square() / h.square().sum(dim=1) - d
        ways = comb(len(L), d) * torch.special.gammainc(spare.clamp_min(0.5), rate)
        worst = torch.maximum(worst, ways)
    return worst


def _hangs_on_two(L: Tensor, grams: Tensor, null: Tensor, mask: Tensor) -> Tensor:
    """Whether one or two zeros alone pin the direction down, shape (K,)."""
    lower = torch.linalg.cholesky_ex(grams + null.T[:, :, None] * null.T[:, None, :])[0]
    whitened = torch.linalg.solve_triangular(lower, L.T.expand(len(grams), -1, -1), upper=False)
    least = torch.where(mask.T, 1 - whitened.square().sum(dim=1), 1.0).amin(dim=1)
    pinned = least < PINNED
    for k in (~pinned & (least <= PAIRED)).nonzero().flatten().tolist():
        pinned[k] = pinning(whitened[k] * mask[:, k]).any()  # a row of zeros pins nothing
    return pinned
