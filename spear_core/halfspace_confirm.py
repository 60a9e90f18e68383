"""Half-spaces: which candidates are directions of samples, all of them judged at once.

A candidate near a sample's direction is fitted to its zeros, ever more finely, in float64. It is confirmed if

1. its zeros are enough and leave one direction only, even with any two of them taken away. Two similar samples
   share most zeros, and one further row picks *some* mixture of them: a plain rank test would believe it;
2. its zeros are a half-space: some c has M c ≤ 0 on them and M c > 0 on all other rows. The zeros of a mixture
   are an intersection of half-spaces, which the m points in ℝᵇ hardly ever separate.

Where the zeros leave a plane or a small space, similar samples lie in it, and steps 2 and 3 of SPEAR are
repeated inside (`sparsity.descend`).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.low_rank import LowRank
from spear_core.reconstruction import UNDECIDED
from spear_core.sparsity import (
    COARSE_ZERO,
    FULLY_EXPLORED,
    INDEPENDENT,
    PINNED,
    SPARE_ROWS,
    default_threshold,
    descend,
    polish,
    zero_tolerance,
)

FIT_TOLERANCES = (
    4e-3,
    2e-4,
    1e-5,
    0.0,
)  # of the mean |entry|: candidates are fitted to the entries below, finer and finer
SAME = 1 - 1e-6  # cosine from which two candidates are one direction, to a float32 candidate's accuracy
BLOCK = 4  # vectors iterated at once to find the smallest two
INVERSE_STEPS = 4
BLURRED = (
    1e-8  # second smallest eigenvalue of the Gram matrix, below which float64 does not resolve leverages
)
HINGE_STEPS = 80  # nine in ten true patterns are separated after that, the others but for a few rows
STRAYS = 0.01  # share of the rows that may then still be on the wrong side
CHUNK_NUMBERS = 2**22  # entries of the batched products held at a time
MOST_DESCENTS = 8  # kernels of several dimensions that are searched per call


@dataclass(frozen=True)
class Confirmed:
    """What is known so far.

    Attributes:
        directions: q_i as unit columns, shape (b, k), float64.
        unique: whether its zeros pin each down, shape (k,).
        explored: kernels of several dimensions that have been searched, orthonormal columns.
    """

    directions: Tensor
    unique: Tensor
    explored: tuple[Tensor, ...] = ()

    @property
    def count(self) -> int:
        """How many."""
        return self.directions.shape[1]

    def holds(self, q: Tensor) -> Tensor:
        """Which of the unit columns are known, shape (K,)."""
        return ((self.directions.T @ q).abs() > SAME).any(dim=0)

    def has_explored(self, q: Tensor) -> bool:
        """Whether a direction lies in a kernel that has been searched."""
        return any(float((q @ kernel).norm()) > SAME for kernel in self.explored)


def confirm(
    low_rank: LowRank,
    space: Tensor,
    candidates: Tensor,
    confirmed: Confirmed,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Confirmed, Tensor]:
    """Judge candidates.

    Args:
        low_rank: the split of G.
        space: orthonormal basis of the scores z = M c that are possible, shape (m, r).
        candidates: as columns, shape (b, K), any float dtype.
        confirmed: what is known so far.
        generator: CPU generator.

    Returns:
        What is known now, and which candidates need no further search, shape (K,).
    """
    q = _units(candidates.to(torch.float64))
    entries = (low_rank.factor @ q).abs()
    zeros = (entries < COARSE_ZERO * entries.mean(dim=0)).sum(dim=0)
    settled = zeros >= default_threshold(low_rank) * len(entries)
    open_ones = settled.nonzero().flatten()
    open_ones = open_ones[~confirmed.holds(q[:, open_ones])]
    open_ones = open_ones[distinct(q[:, open_ones])]
    if not len(open_ones):
        return confirmed, settled
    fitted = fit(low_rank, q[:, open_ones])
    fitted = fitted[:, ~confirmed.holds(fitted)]
    fitted = fitted[:, distinct(fitted)]
    unique, zeros, fitted = pinned_down(low_rank, fitted)
    confirmed = _join(low_rank, space, confirmed, fitted[:, unique], zeros[:, unique])
    for direction in fitted[:, ~unique].T[:MOST_DESCENTS]:
        if not confirmed.has_explored(direction):
            kernel, rows = polish(low_rank, direction)
            inside = descend(low_rank, kernel, rows, generator=generator)
            if 1 < kernel.shape[1] <= FULLY_EXPLORED:
                confirmed = replace(confirmed, explored=(*confirmed.explored, kernel))
            if inside:
                good, zeros, found = pinned_down(low_rank, torch.stack(inside, dim=1))
                confirmed = _join(low_rank, space, confirmed, found[:, good], zeros[:, good])
    return confirmed, settled


def _join(low_rank: LowRank, space: Tensor, confirmed: Confirmed, q: Tensor, zeros: Tensor) -> Confirmed:
    """Add the directions that are new, independent, and whose zeros are a half-space."""
    tolerance = zero_tolerance(low_rank, q)
    decided = zeros.logical_not() | ((low_rank.factor @ q).abs() <= UNDECIDED * tolerance)
    good = is_halfspace(space, zeros, decided)
    directions = confirmed.directions
    for candidate in q[:, good].T:
        if directions.shape[1] < len(candidate) and _independent(candidate, directions):
            directions = torch.cat([directions, candidate[:, None]], dim=1)
    new = directions.shape[1] - confirmed.count
    return replace(
        confirmed,
        directions=directions,
        unique=torch.cat([confirmed.unique, confirmed.unique.new_ones(new)]),
    )


def _independent(q: Tensor, directions: Tensor) -> bool:
    basis = torch.linalg.qr(directions)[0]
    return float((q - basis @ (basis.T @ q)).norm()) > INDEPENDENT


def distinct(q: Tensor) -> Tensor:
    """Which unit columns are not parallel to an earlier one, shape (K,)."""
    return ~((q.T @ q).abs() > SAME).tril(-1).any(dim=1)


def fit(low_rank: LowRank, q: Tensor) -> Tensor:
    """Fit candidates to the entries of L q that look like zeros, unit columns, shape (b, K).

    Small entries that are no zeros pull q away by as much as they are large; the finer looks let go of them.
    """
    L = low_rank.factor
    for tolerance in FIT_TOLERANCES:
        entries = (L @ q).abs()
        limit = torch.maximum(tolerance * entries.mean(dim=0), zero_tolerance(low_rank, q))
        q = inverse_iteration(regular_cholesky(masked_grams(L, entries <= limit)), q.T[:, :, None])[:, :, 0].T
    return q


def pinned_down(low_rank: LowRank, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether zeros are enough and leave one direction, even without any two of them.

    A row without which the others lose a rank has leverage 1 (the diagonal of H = A (AᵀA)⁻¹ Aᵀ); two that do so
    together make the 2×2 block of I − H singular. I − H is a projection, so in such a pair the diagonal entries
    add up to at most 1: only rows with an entry of at most ½ need be compared with the others.

    Args:
        low_rank: the split of G.
        q: unit columns, shape (b, K).

    Returns:
        The answers, shape (K,), the zeros, shape (m, K), and the directions fitted to all of them.
    """
    L, b = low_rank.factor, low_rank.batch_size
    zeros = (L @ q).abs() <= zero_tolerance(low_rank, q)
    enough = zeros.sum(dim=0) >= max(default_threshold(low_rank) * len(L), b - 1 + SPARE_ROWS)
    answers, fitted = torch.zeros_like(enough), q.clone()
    if b == 1:
        return enough, zeros, q
    candidates = enough.nonzero().flatten()
    for part in candidates.split(max(1, CHUNK_NUMBERS // (len(L) * b))):
        mask = zeros[:, part]
        grams = masked_grams(L, mask)
        vectors, values = smallest_vectors(grams, q[:, part])
        first, second = vectors[:, :, 0].T, vectors[:, :, 1].T
        # another direction is in the kernel if no row says more than rounding about it
        silent = ((L @ second).abs() <= zero_tolerance(low_rank, second)) | ~mask
        single = ~silent.all(dim=0) & (values[:, 1] > BLURRED)
        grams += first.T[:, :, None] * first.T[:, None, :]
        lower = torch.linalg.cholesky_ex(grams)[0]
        whitened = torch.linalg.solve_triangular(lower, L.T.expand(len(part), -1, -1), upper=False)
        spare = torch.where(mask.T, 1 - whitened.square().sum(dim=1), 1.0)
        single &= (spare > PINNED).all(dim=1)
        for k in (single & (spare <= 0.5).any(dim=1)).nonzero().flatten().tolist():
            single[k] = not _pair_pins(whitened[k][:, mask[:, k]], spare[k][mask[:, k]])
        answers[part], fitted[:, part] = single, torch.where(single, first, q[:, part])
    return answers, zeros, fitted


def _pair_pins(whitened: Tensor, spare: Tensor) -> bool:
    low = spare <= 0.5
    off = whitened[:, low].T @ whitened
    off[torch.arange(len(off)), low.nonzero().flatten()] = 0
    mean, half = (spare[low, None] + spare) / 2, (spare[low, None] - spare) / 2
    smallest = mean - (half.square() + off.square()).sqrt()
    smallest[torch.arange(len(off)), low.nonzero().flatten()] = 1
    return bool((smallest < PINNED).any())


def is_halfspace(space: Tensor, zeros: Tensor, decided: Tensor) -> Tensor:
    """Whether some vector z of the space is ≤ 0 on the zeros and > 0 elsewhere, shape (K,).

    Accelerated gradient steps (Nesterov 1983) on the squared hinge loss Σ max(0, 1 − y z)², y = ±1, whose
    minimum is zero if there is such a z. Rows that a sample barely activates would take many steps more; with all
    others on their sides, a few strays do not count: the zeros of two mixed samples leave a tenth of the rows.

    Args:
        space: orthonormal columns, shape (m, r).
        zeros: masks as columns, shape (m, K).
        decided: which rows count, shape (m, K).
    """
    weight, allowed = decided.to(space.dtype), STRAYS * len(zeros)
    side = weight * (1 - 2 * zeros.to(space.dtype))
    w = space.T @ side
    last, pace = w, 1.0
    for _ in range(HINGE_STEPS):
        pace, old_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2, pace
        ahead = w + (old_pace - 1) / pace * (w - last)
        last, w = w, ahead + space.T @ (side * (1 - side * (space @ ahead)).clamp_min(0))
    strays = ((side * (space @ w) <= 0) & decided).sum(dim=0)
    return strays <= allowed


def masked_grams(factor: Tensor, masks: Tensor) -> Tensor:
    """Aᵀ A for the rows A of each mask, (m, b) and (m, K) give (K, b, b)."""
    size = max(1, CHUNK_NUMBERS // factor.numel())
    weights = masks.T[:, :, None].to(factor.dtype).split(size)
    return torch.cat([(part * factor).mT @ factor for part in weights])


def smallest_vectors(
    grams: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The two eigenvectors of the smallest eigenvalues, by inverse iteration on a few vectors at once.

    Args:
        grams: shape (K, b, b).
        start: unit columns near the first eigenvector, shape (b, K).
        generator: CPU generator, for the other vectors.

    Returns:
        Unit vectors, shape (K, b, 2), and the eigenvalues, ascending, shape (K, 2).
    """
    count, b = grams.shape[:2]
    others = torch.randn(count, b, min(b, BLOCK) - 1, dtype=start.dtype, generator=generator).to(start)
    vectors = inverse_iteration(regular_cholesky(grams), torch.cat([start.T[:, :, None], others], dim=2))
    values, turn = torch.linalg.eigh(vectors.mT @ grams @ vectors)
    return (vectors @ turn)[:, :, :2], values[:, :2]


def regular_cholesky(grams: Tensor) -> Tensor:
    """Cholesky factors of Gram matrices that are singular up to rounding."""
    b = grams.shape[1]
    shift = b * torch.finfo(grams.dtype).eps * grams.diagonal(dim1=1, dim2=2).amax(dim=1, keepdim=True)
    return torch.linalg.cholesky_ex(grams + shift[:, :, None] * torch.eye(b).to(grams))[0]


def inverse_iteration(lower: Tensor, vectors: Tensor) -> Tensor:
    """Blocks of orthonormal vectors, shape (K, b, d), turned towards the smallest eigenvectors."""
    for _ in range(INVERSE_STEPS):
        vectors = torch.cholesky_solve(vectors, lower)
        if vectors.shape[2] == 1:
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        else:
            vectors = torch.linalg.qr(vectors)[0]
    return vectors


def _units(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0)
