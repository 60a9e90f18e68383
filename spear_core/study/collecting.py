"""Collect all b directions: what coin tosses predict before any draw, and what draws of real rows measure.

A draw A of b − 1 rows gives q_i if all of them are silent for sample i and independent. Since L = (∂L/∂Z) Q⁻¹,
the rows of L are independent where those of ∂L/∂Z are, so ∂L/∂Z decides both: this is the client's view, for
comparison with theory; the server finds out by counting zeros (`spear_core.spear.sparsity`).

Letters throughout: output_grads = (∂L/∂Z)ᵀ of shape (b, m), batch_size = b ≥ 2, units = m, draws = N.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.study import theory

CHUNK = 2**14  # draws at a time
# Least singular value of rows that count as independent, relative to their norm: it is sought in the Gram matrix, whose
# rounding of 1e-16 hides anything below 1e-8, and two orders lie between.
INDEPENDENT = 1e-6
COINS = 2000  # random patterns behind `full_rank_probability`
BATCHES = 200  # random batches behind `predicted_range` and `coin_failure`


def live_columns(output_grads: Tensor) -> Tensor:
    """∂L/∂Z without the units that are silent for the whole batch, rows of length one, shape (k, b), float64."""
    D = output_grads.T.to(torch.float64)
    lengths = D.norm(dim=1, keepdim=True)
    alive = lengths.flatten() > 0
    return D[alive] / lengths[alive]


def independent(rows: Tensor) -> Tensor:
    """Whether sets of rows are independent: whether A Aᵀ stays positive definite with a little less on its diagonal.

    Rows of length one, shape (sets, k, b) with k ≤ b; the result has shape (sets,).

    >>> independent(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])).tolist()
    [True, False]
    """
    gram = rows.to(torch.float64) @ rows.to(torch.float64).mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal -= INDEPENDENT**2 * diagonal.sum(dim=1, keepdim=True)
    return torch.linalg.cholesky_ex(gram).info == 0  # a hundredth of the time of singular values


def random_sets(count: int, size: int, below: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Independent, uniform sets of different row numbers, shape (≤ count, size).

    Rows are drawn with replacement and sets with a repetition dropped, so what is left is uniform.
    """
    sets = torch.randint(below, (count, size), generator=generator)
    columns = sets.T.contiguous()
    distinct = torch.ones(count, dtype=torch.bool)
    for one, other in combinations(columns, 2):
        distinct &= one != other
    return sets[distinct]


# ---------------------------------------------------------------- measured
def first_hits(
    output_grads: Tensor, runs: int, *, generator: torch.Generator | None = None, limit: int = 10**8
) -> Tensor:
    """Number of the draw that first gave each direction, over independent repetitions, shape (≤ runs, b).

    After `limit` draws in all no further run is begun or finished. The largest number in a row is what that run took.
    """
    rows = live_columns(output_grads)
    k, b = rows.shape
    # eight samples in a word, so that one operation asks for all of them
    silent = F.pad((rows == 0).to(torch.uint8), (0, -b % 8)).view(torch.int64)
    finished: list[list[int]] = []
    met: dict[int, int] = {}
    began = drawn = 0
    while len(finished) < runs and drawn < limit:
        sets = random_sets(CHUNK, b - 1, k, generator=generator)
        # samples for which all rows of a set are silent; only of those sets the independence is asked
        hits = silent.index_select(0, sets[:, 0])
        for column in sets.T[1:]:
            hits &= silent.index_select(0, column)
        at, sample = hits.view(torch.uint8).nonzero(as_tuple=True)
        usable = independent(rows[sets[at]]) if len(at) else torch.zeros(0, dtype=torch.bool)
        # a run ends with its last direction, in the middle of a chunk
        for draw, i in zip((at[usable] + drawn + 1).tolist(), sample[usable].tolist()):
            met.setdefault(i, draw - began)
            if len(met) == b:
                finished.append([met[k] for k in range(b)])
                met, began = {}, draw
        drawn += len(sets)
    return torch.tensor(finished[:runs], dtype=torch.int64).reshape(-1, b)


# ---------------------------------------------------------------- predicted for one batch
def hit_probabilities(
    output_grads: Tensor, *, sets: int = 400, generator: torch.Generator | None = None
) -> list[float]:
    """Probability p_i that a draw gives direction i, from the zeros of this batch.

    C(k_i, b−1) of C(m, b−1) sets are silent for sample i; which share of those is independent is estimated by
    drawing so many `sets` from them alone. So the cost does not grow with 2^b, and p_i can be known where no draw
    would hit.
    """
    rows = live_columns(output_grads)
    k, b = rows.shape
    found = []
    for silent in (rows == 0).T:
        own = rows[silent]
        if len(own) < b - 1:
            found.append(0.0)
            continue
        chosen = torch.rand(sets, len(own), generator=generator).topk(b - 1, dim=1, largest=False).indices
        share = float(independent(own[chosen]).to(torch.float64).mean())
        found.append(theory.hit_probability(b, k, len(own)) * share)
    return found


def completed(draws: float, probabilities: Sequence[float]) -> float:
    """Probability that every direction has been met, Π (1 − e^(−p_i N)).

    >>> completed(0, [0.1, 0.2]), completed(1e6, [0.1, 0.2])
    (0.0, 1.0)
    """
    return math.prod(-math.expm1(-p * draws) for p in probabilities)


# ---------------------------------------------------------------- both
@dataclass(frozen=True)
class Collection:
    """One batch, drawn from again and again until all directions were met.

    Attributes:
        draws: of each repetition that was completed, ascending, shape (≤ runs,).
        hits: p_i, predicted from the zeros of the batch.
        expected: the mean number of draws that follows from them.
    """

    draws: Tensor
    hits: list[float]
    expected: float

    @property
    def mean(self) -> float:
        """Mean number of draws; infinite if no repetition was completed."""
        return float(self.draws.to(torch.float64).mean()) if len(self.draws) else math.inf

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(self.draws.to(torch.float64).std()) / math.sqrt(len(self.draws))


def collect(output_grads: Tensor, runs: int, *, generator: torch.Generator, limit: int = 10**8) -> Collection:
    """Draw from a batch until all directions are met, again and again; the arguments are those of `first_hits`."""
    hits = hit_probabilities(output_grads, generator=generator)
    taken = first_hits(output_grads, runs, generator=generator, limit=limit).amax(dim=1)
    return Collection(taken.sort().values, hits, theory.expected_draws_each(hits))


# ---------------------------------------------------------------- predicted before the batch is known
@lru_cache(maxsize=64)
def full_rank_probability(batch_size: int) -> float:
    """Probability that b − 1 rows that are silent for one sample are independent, for coin tosses.

    Each entry is zero with probability ½, no row is zero throughout. Nearly 1 for large b; for small b many
    sets are lost, for example where two rows are active for the same single sample. Counted over `COINS`
    random patterns, always the same ones.
    """
    generator = torch.Generator().manual_seed(batch_size)
    size = batch_size - 1
    pattern = torch.rand(COINS, size, size, generator=generator) < 0.5
    while bool((empty := ~pattern.any(dim=2)).any()):
        pattern[empty] = torch.rand(int(empty.sum()), size, generator=generator) < 0.5
    rows = torch.randn(pattern.shape, dtype=torch.float64, generator=generator) * pattern
    return float(independent(rows / rows.norm(dim=2, keepdim=True)).to(torch.float64).mean())


@lru_cache(maxsize=256)
def coin_batches(batch_size: int, units: int) -> tuple[Tensor, Tensor]:
    """Batches as they would be if every entry of ∂L/∂Z were zero by the toss of a fair coin.

    Batches differ in their numbers of zeros, and a few zeros more or less count to the power of b − 1. Returned are the
    zeros of each column, and the probability that a draw gives its direction, both of shape (`BATCHES`, b).
    """
    generator = torch.Generator().manual_seed(units)
    rank = full_rank_probability(batch_size)
    zero = torch.rand(BATCHES, units, batch_size, generator=generator) < 0.5
    zeros = zero.sum(dim=1)
    gone = zero.all(dim=2).sum(dim=1)  # units that are silent for the whole batch
    chance = cache(theory.hit_probability)  # few different numbers
    live, counts = (units - gone).tolist(), (zeros - gone[:, None]).tolist()
    hits = [[chance(batch_size, of, count) for count in row] for of, row in zip(live, counts)]
    return zeros, torch.tensor(hits, dtype=torch.float64) * rank


@lru_cache(maxsize=256)
def predicted_range(batch_size: int, units: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Range that holds the expected number of draws of most batches, if every unit is a fair coin.

    The central quantiles of `theory.expected_draws_each` over `coin_batches`, with that share of them inside.
    """
    expected = theory.expected_draws_of_batches(coin_batches(batch_size, units)[1].numpy())
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.from_numpy(expected).quantile(ends).tolist()
    return low, high


def coin_failure(batch_size: int, draws: float, units: int, threshold: float) -> float:
    """Probability that some direction is never drawn, or rejected: `theory.failure_probability` for finite m.

    The mean over `coin_batches`.
    """
    zeros, hits = coin_batches(batch_size, units)
    kept = (zeros >= theory.least_zeros(units, threshold)).all(dim=1)
    met = -torch.expm1(-hits * draws)
    return 1 - float((met.prod(dim=1) * kept).mean())
