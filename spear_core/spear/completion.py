"""The last few samples need no luck: what is known confines them to a small space that can be searched through.

Sampling waits longest for the sample with the fewest zeros. But with b − k directions known, each of the other k
samples has c · q_i = 0 for all of them, and g = L Q 1 gives its length, c · (Lᵀ g) = 1: a space of k − 1
dimensions. The m hyperplanes z_j = 0 cut it into cells, in which the same units are inactive, and in the right
cell their rows of L have a null vector: the missing direction. One missing sample leaves a single point, two a
line with m + 1 cells, three a plane: random corners of cells find them. SPEAR does without this; it takes the place
of the most expensive draws.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from spear_core.linalg import masked_products
from spear_core.spear.records import Forward, Pool
from spear_core.spear.sampling import draw_row_sets
from spear_core.spear.selection import greedy
from spear_core.spear.sparsity import join
from spear_core.spear.zeros import SPARE_ROWS, default_threshold, null_space, zeros_of

CORNER_COST = 64  # draws that take as long as one corner
MOST_CORNERS = 2**15  # of one turn: a second or two
CHUNK, CHUNK_NUMBERS = 2**11, 2**22  # corners looked at together, and entries of their Gram matrices
SINGULAR = 1e-9  # least eigenvalue of the inactive rows' Gram matrix in the right cell; of all rows it is I


@dataclass
class Completion:
    """Takes turns with sampling, as soon as it promises a result for less than was drawn already.

    Attributes:
        forward: the attacked layer in the row space of its gradient.
        corners: tried so far.
    """

    forward: Forward
    corners: int = 0

    def advance(
        self,
        pool: Pool,
        drawn: int,
        *,
        generator: torch.Generator | None = None,
        deadline: float = float("inf"),
    ) -> Pool:
        """The pool with what another turn finds; the same pool while draws, of which there were many, are cheaper."""
        m, b = self.forward.low_rank.factor.shape
        missing = b - int(pool.unique.sum())
        turn = min(drawn // CORNER_COST - self.corners, MOST_CORNERS)
        if missing <= 0 or turn < min(MOST_CORNERS, max(expected_corners(missing, m), self.corners / 8)):
            return pool
        self.corners += turn
        return completed(pool, self.forward, turn, generator=generator, deadline=deadline)


def expected_corners(k: int, m: int) -> float:
    """Random corners until one of k right cells has it: a cell has 2^(k−1) of the C(m, k−1) corners on average.

    >>> expected_corners(1, 400), expected_corners(2, 400)
    (1.0, 100.0)
    """
    return comb(m, k - 1) / (2 ** (k - 1) * k)


def completed(
    pool: Pool,
    forward: Forward,
    corners: int,
    *,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
) -> Pool:
    """The pool with the directions found around random corners, given those that are known.

    Args:
        pool: directions found so far; those with unique zeros are taken for known, fewer than b.
        forward: the attacked layer in the row space of its gradient.
        corners: how many to try, or a few more; fewer if that makes another direction known.
        generator: CPU generator.
        deadline: `time.monotonic()` after which no further cell is looked into.

    Returns:
        If known and new directions are b independent ones, these only: mixtures of similar samples are settled.
    """
    low_rank = forward.low_rank
    confirmed = known = pool.known
    threshold, seen = default_threshold(low_rank), set[frozenset[int]]()
    for inactive, units in _inactive_units(known, forward, corners, generator):
        for place in _is_singular(low_rank.factor, inactive).nonzero().flatten():
            if time.monotonic() > deadline:
                break
            corner = frozenset(units[place].tolist())
            if corner in seen:  # few units have few corners, each drawn many times
                continue
            seen.add(corner)
            kernel = null_space(low_rank, inactive[place])
            if kernel.shape[1] != 1:
                continue
            unexplained = zeros_of(low_rank, kernel)[:, 0] & ~inactive[place]
            unexplained = unexplained.scatter(0, units[place], value=False)
            more = join(kernel, low_rank, confirmed, threshold)
            if int(more.unique.sum()) > len(known) or not unexplained.any():
                confirmed, pool = more, join(kernel, low_rank, pool, threshold)
        if int(confirmed.unique.sum()) > len(known) or time.monotonic() > deadline:
            break
    return confirmed if len(greedy(confirmed)) == low_rank.batch_size else pool


def _inactive_units(
    known: Pool, forward: Forward, corners: int, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Which units are inactive around each corner of the cells, a mask (K, m) at a time, and its units (K, k − 1).

    At a corner k − 1 units have z = 0. They are left out: what remains is inactive in every cell that meets there.
    """
    layer, low_rank = forward.layer, forward.low_rank
    complement = torch.linalg.svd(known.directions, full_matrices=True)[0][:, len(known) :]
    length = complement.T @ (low_rank.factor.T @ layer.bias_grad.to(torch.float64))
    # c = complement @ (point + free @ t), for every t of k − 1 dimensions
    point, free = length / length.square().sum(), torch.linalg.svd(length[None], full_matrices=True)[2][1:].T
    base = (complement @ point) @ forward.weights + layer.bias.to(torch.float64)
    slope = (complement @ free).T @ forward.weights
    m, k = len(base), len(length)
    if k == 1:  # a point
        yield base[None] < 0, torch.zeros(1, 0, dtype=torch.int64, device=base.device)
        return
    chunk = max(1, min(CHUNK, CHUNK_NUMBERS // low_rank.batch_size**2))
    for count in [chunk] * (corners // chunk) + [corners % chunk]:
        units = draw_row_sets(m, k - 1, count, generator=generator).to(base.device)
        t, _ = torch.linalg.solve_ex(slope.T[units], -base[units])
        inactive = base + t @ slope < 0
        yield inactive.scatter(1, units, value=False), units


def _is_singular(factor: Tensor, rows: Tensor) -> Tensor:
    """Whether the marked rows of L have a null vector, as far as a Gram matrix can tell, for each mask (K, m)."""
    gram, b = masked_products(factor, factor, rows.T), factor.shape[1]
    gram.diagonal(dim1=1, dim2=2).sub_(SINGULAR)
    indefinite = torch.linalg.cholesky_ex(gram)[1] > 0  # the least eigenvalue was below SINGULAR
    return (rows.sum(dim=1) >= b - 1 + SPARE_ROWS) & indefinite
