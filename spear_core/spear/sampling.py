"""Step 2: b − 1 rows of L give one candidate direction q (SPEAR, sampling).

If sample i is inactive in every row of a set A, then L_A q_i = 0: with b − 1 independent rows the null vector
of L_A *is* q_i, up to scale. A random A does that for sample i with probability about 2^−(b−1).

One solve per candidate would be wasteful: the inverse of b sampled rows S holds b null vectors at once, since
S S⁻¹ = I says that column k of S⁻¹ is orthogonal to every row of S but the k-th.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_BYTES = 2**20  # of one chunk of inverses: it stays in cache; ten times more is several times slower
FEW_DRAWS = 1e5  # sampling that is expected to take no more is done within a second


def live_rows(factor: Tensor) -> Tensor:
    """Indices of the rows of L that are not zero in every column: units that some sample activates.

    A unit that is silent for the whole batch has a zero row; it says nothing and makes samples singular.

    Args:
        factor: L, shape (m, b).
    """
    norms = factor.norm(dim=1)
    return (norms > 1e-6 * norms.max()).nonzero().flatten()


@dataclass(frozen=True)
class Draw:
    """Candidates and the rows that they come from.

    Attributes:
        directions: as rows, shape (k, b), of any length; NaN or infinite where the sampled rows were
            singular.
        sets: b row numbers of L per set, shape (⌈k / b⌉, b). Candidate number i·b + j is orthogonal to all rows
            of set i but the j-th.
    """

    directions: Tensor
    sets: Tensor


def draw_directions(factor: Tensor, count: int, *, generator: torch.Generator | None = None) -> Draw:
    """Candidate directions from random rows of L (SPEAR, step 2).

    Args:
        factor: L, shape (m, b), m > b; rows of any scale but none zero. Its dtype is that of the result:
            float32 is enough here, since what survives the filter is polished in float64.
        count: how many candidates to draw; of the last set perhaps not all.
        generator: CPU generator, the source of all randomness.

    Returns:
        So many candidates.

    Raises:
        ValueError: if L has fewer than b rows.
    """
    m, b = factor.shape
    if m < b:
        raise ValueError(f"factor must have at least as many rows as columns, got {m} × {b}")
    whole = -(-count // b)
    sets = draw_row_sets(m, b, whole, generator=generator)[:whole].to(factor.device)
    # rows of the inverse of Sᵀ are columns of S⁻¹, so that a candidate is contiguous
    return Draw(torch.linalg.inv_ex(factor[sets].mT)[0].reshape(-1, b)[:count], sets)


def draw_row_sets(m: int, size: int, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Random sets of `size` different row numbers below m, shape (≥ count, size).

    One random order of all rows is cut into ⌊m / size⌋ sets: a fraction of the cost of one draw per set.
    """
    per_order = m // size
    orders = torch.rand(-(-count // per_order), m, generator=generator).argsort(dim=1)
    return orders[:, : per_order * size].reshape(-1, size)


def chunk_sizes(b: int) -> Iterator[int]:
    """How many candidates to draw at a time: few at first, since small batches need few, then more.

    The largest chunk keeps S and S⁻¹ within `CHUNK_BYTES`, whatever b is.
    """
    largest = max(b, CHUNK_BYTES // (4 * b))
    size = 32 * b
    while True:
        yield min(size, largest)
        size *= 2


def harmonic(b: int) -> float:
    """H_b = 1 + 1/2 + … + 1/b, the coupon collector's number."""
    return math.fsum(1 / k for k in range(1, b + 1))


def expected_draws(b: int, found: int = 0, *, zero_share: float = 0.5) -> float:
    """Expected number of candidates until all b directions are met, H_b · 2^(b−1) for half of zeros.

    A draw of b − 1 rows hits direction i if all of them are zero in column i: probability p^(b−1). The hits
    are spread over b directions, so collecting them takes H_b times as many draws as one of them.

    Args:
        b: batch size.
        found: how many directions are known already; H_(b−found) replaces H_b.
        zero_share: p, the share of zeros in a column of ∂L/∂Z.

    >>> round(expected_draws(4), 6)
    16.666667
    """
    return float(harmonic(b - found) / zero_share ** (b - 1))
