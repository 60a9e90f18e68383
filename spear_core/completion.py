"""The last few samples need no luck: what is known confines them to a small space that can be searched through.

Sampling waits longest for the sample with the fewest zeros. But with b − k directions known, each of the other k
samples has c · q_i = 0 for all of them, and g = L Q 1 gives its length, c · (Lᵀ g) = 1: a space of k − 1
dimensions. The m hyperplanes z_j = 0 cut it into cells, in which the same units are inactive, and in the right
cell their rows of L have a null vector: the missing direction. One missing sample leaves a single point, two a
line with m + 1 cells. SPEAR does without this; it takes the place of the most expensive draws.
"""

import time
from collections.abc import Iterator
from itertools import combinations, islice
from math import comb

import torch
from torch import Tensor

from spear_core.reconstruction import Forward
from spear_core.sparsity import SPARE_ROWS, Pool, default_threshold, join, null_space

CORNER_COST = 64  # draws that take as long as one corner
MOST_CORNERS = 2**19  # so that a completion takes half a minute at most
CHUNK = 2**12  # corners looked at together
SINGULAR = 1e-9  # least eigenvalue of the inactive rows' Gram matrix in the right cell; of all rows it is I


def pays_off(pool: Pool, m: int, drawn: int) -> bool:
    """Whether completing a pool costs less than what was drawn already.

    Args:
        pool: directions found so far; those with unique zeros are taken for known.
        m: units of the attacked layer.
        drawn: candidates that it took to find them.
    """
    missing = pool.directions.shape[0] - int(pool.unique.sum())
    return missing > 0 and comb(m, missing - 1) * CORNER_COST <= min(drawn, MOST_CORNERS * CORNER_COST)


def completed(pool: Pool, forward: Forward, deadline: float = float("inf")) -> Pool:
    """The pool with the directions that the known ones leave.

    Args:
        pool: directions found so far; those with unique zeros are taken for known, fewer than b.
        forward: the attacked layer in the row space of its gradient.
        deadline: `time.monotonic()` after which to stop.
    """
    b = forward.low_rank.batch_size
    missing = b - int(pool.unique.sum())
    for inactive in _inactive_units(pool, forward, missing):
        for rows in inactive[_is_singular(forward.low_rank.factor, inactive)]:
            kernel, _ = null_space(forward.low_rank, rows)
            if kernel.shape[1] == 1:
                pool = join(kernel[:, 0], forward.low_rank, pool, default_threshold(forward.low_rank))
        if int(pool.unique.sum()) >= b or time.monotonic() >= deadline:
            break
    return pool


def _inactive_units(pool: Pool, forward: Forward, missing: int) -> Iterator[Tensor]:
    """Which units are inactive around each corner of the cells, a mask (K, m) at a time.

    At a corner k − 1 units have z = 0. They are left out: what remains is inactive in every cell that meets there.
    """
    layer, low_rank = forward.layer, forward.low_rank
    complement = torch.linalg.svd(pool.directions[:, pool.unique], full_matrices=True)[0][:, -missing:]
    length = complement.T @ (low_rank.factor.T @ layer.bias_grad.to(torch.float64))
    # c = complement @ (point + free @ t), for every t of k − 1 dimensions
    point, free = length / length.square().sum(), torch.linalg.svd(length[None], full_matrices=True)[2][1:].T
    base = (complement @ point) @ forward.weights + layer.bias.to(torch.float64)
    slope = (complement @ free).T @ forward.weights
    m = len(base)
    every = combinations(range(m), missing - 1)
    while chunk := list(islice(every, CHUNK)):
        units = torch.tensor(chunk, dtype=torch.int64, device=base.device).reshape(len(chunk), missing - 1)
        t, _ = torch.linalg.solve_ex(slope.T[units], -base[units])
        inactive = base + t @ slope < 0
        yield inactive.scatter(1, units, value=False)


def _is_singular(factor: Tensor, rows: Tensor) -> Tensor:
    """Whether the marked rows of L have a null vector, as far as a Gram matrix can tell, for each mask (K, m)."""
    m, b = factor.shape
    products = (factor[:, :, None] * factor[:, None, :]).reshape(m, b * b)
    gram = (rows.to(factor.dtype) @ products).reshape(-1, b, b)
    least = torch.linalg.eigvalsh(gram)[:, 0]
    enough = rows.sum(dim=1) >= b - 1 + SPARE_ROWS
    return enough & (least <= SINGULAR)
