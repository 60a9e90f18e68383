"""Steps 2–3 in polynomial time, from one layer's gradient alone: zeros are half-spaces.

ReLU leaves L q_i zero exactly where z_i = W x_i + β ≤ 0, and z_i lies in a known small space. With Xᵀ = Q⁻¹ R
and c_i the i-th row of Q⁻¹, z_i = W Rᵀ c_i + β; the bias gradient g = L Q 1 gives c_i · ḡ = 1 with ḡ = Lᵀ g; so

    z_i = M c_i,   M = W Rᵀ + β ḡᵀ  (m×b, known).

The zero set of column i is a half-space {j : M_j · c_i ≤ 0} among m known points in ℝᵇ. One half of the pair
(q_i, c_i) gives a guess of the other:

- from q to c: |L q| large or small is a label on every point, and the best linear score for it is one projection
  onto col M (Fisher's discriminant);
- from c to q: the rows with the most negative scores are the surest zeros, and q is the smallest singular
  vector of L there.

From random starts, all candidates at once, the two are alternated; where the next layer is the output layer, what it
says about ∂L/∂Z takes part (`halfspace_readout`). What converges is fitted to all its zeros in
float64 and must be the only direction with these zeros (`halfspace_confirm`). Then it is taken out:
c_k · q_i = 0 for every other sample k, so each q_i removes a dimension from the space of the c that are left.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.consistency.deflation import orthogonal_complement
from spear_core.halfspace import readout as halfspace_readout
from spear_core.halfspace.confirm import Confirmed, confirm
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward, reconstruct

SUREST = (0.3, 0.35, 0.4)  # share of the rows taken for zeros, look by look: about half of them are,
# and the surest are right early; but similar samples differ in rows near zero only
NARROW, NARROW_SUREST = (
    0.1,
    (0.38, 0.42, 0.45),
)  # the same once at most this share of the samples is missing: in
# the narrow space left for z it is known better, and those left are similar to others
LAST, LAST_PATIENCE = 2, 3  # so few missing after so many rounds without a find are left to `completion`
SMOOTHING = 1e-6  # keeps Cholesky factors alive in float32; true zeros leave a second eigenvalue above 0.01
INVERSE_STEPS = 3  # of inverse iteration; the vector of the step before is a good start
STEPS = 10  # alternations before candidates are looked at
WALKERS, READOUT_WALKERS = 0.7, 3.0  # per missing sample; many of one round would find the same samples
DUAL = 0.35  # share of the samples that may be missing for q to be sought apart from the known directions,
DUAL_ROUNDS = 3  # except in every so many rounds without a find: the two ways have other dead ends
READOUT_PATIENCE = 3  # rounds without a find after which the output layer is no longer believed
FEWEST_WALKERS = 16
CHUNK_NUMBERS = 2**22  # entries of the gathered rows held at a time
RETRIES = 3  # times that directions are dropped which turn out to disagree with the rest
STARTS_PER_SAMPLE = 200  # default budget


@dataclass(frozen=True)
class Found:
    """State of the search after a round: what is confirmed, and where the candidates stand.

    Attributes:
        directions: q_i as unit columns, shape (b, k), float64: ∂L/∂z_i ∝ L q_i.
        unique: whether the zeros of each leave no other direction, even without two of them, shape (k,).
        candidates: the q that are still searching, unit columns, shape (b, K).
        rounds: rounds so far.
        starts: random starts so far.
    """

    directions: Tensor
    unique: Tensor
    candidates: Tensor
    rounds: int
    starts: int


def search(
    problem: Problem,
    low_rank: LowRank,
    *,
    generator: torch.Generator | None = None,
    deadline: float | None = None,
    known: Tensor | None = None,
    max_starts: int | None = None,
) -> Iterator[Found]:
    """Find the directions of a batch from the attacked layer alone, round by round.

    Args:
        problem: the attacked layer, followed by ReLU.
        low_rank: split of its weight gradient.
        generator: CPU generator, source of all randomness.
        deadline: value of `time.monotonic()` at which to stop.
        known: directions found by another method, unit columns, shape (b, k); taken out from the start.
        max_starts: give up after this many random starts; default: 200 per sample.

    Yields:
        The state after each round, at least once; the last one has all that was found.
    """
    L, b = low_rank.factor, low_rank.batch_size
    forward = Forward.of(low_rank, problem.attacked)
    scores = scoring_space(forward)
    rows, whole = L.to(torch.float32), orthonormal(scores).to(torch.float32)
    max_starts = max_starts or STARTS_PER_SAMPLE * b
    known = L.new_zeros(b, 0) if known is None else known.to(L)
    confirmed = Confirmed(known)
    retries, idle = RETRIES, 0
    V = halfspace_readout.readout(problem)
    q, ages, starts, rounds = rows.new_zeros(b, 0), torch.zeros(0, dtype=torch.int64, device=L.device), 0, 0
    while True:
        missing = b - confirmed.count
        left = orthogonal_complement(confirmed.directions)
        space = orthonormal(scores @ left).to(torch.float32)
        walkers = WALKERS if V is None else READOUT_WALKERS
        fresh = max(FEWEST_WALKERS, round(walkers * missing)) - q.shape[1]
        start = torch.randn(space.shape[1], max(0, fresh), generator=generator).to(space)
        if V is None:
            surest = NARROW_SUREST if missing <= NARROW * b else SUREST
            dual = missing <= DUAL * b and (idle + 1) % DUAL_ROUNDS > 0
            q, ages = _by_zeros(
                rows, left.to(rows) if dual else None, space, (q, ages), start, surest, generator
            )
        else:  # who has not arrived is no better than a new start
            q = halfspace_readout.alternate(rows, space, V, space @ start)
            ages = ages.new_full((q.shape[1],), len(SUREST))
        confirmed, settled = confirm(low_rank, (whole, space), q, confirmed, generator=generator)
        agreeing = agreement_when_complete(forward, confirmed.directions)
        if not agreeing.all() and retries > 0:
            confirmed = replace(confirmed, directions=confirmed.directions[:, agreeing])
            retries -= 1
        idle = idle + 1 if confirmed.count == b - missing else 0
        if idle == READOUT_PATIENCE:
            V = None
        kept = ~settled & (ages < len(SUREST) - 1)
        q, ages = q[:, kept], ages[kept] + 1
        starts, rounds = starts + start.shape[1], rounds + 1
        unique = torch.ones(confirmed.count, dtype=torch.bool, device=L.device)
        yield Found(confirmed.directions, unique, q, rounds, starts)
        late = deadline is not None and time.monotonic() > deadline
        last = b - confirmed.count <= LAST and idle >= LAST_PATIENCE
        if confirmed.count >= b or starts >= max_starts or late or last:
            return


def _by_zeros(
    rows: Tensor,
    left: Tensor | None,
    space: Tensor,
    walkers: tuple[Tensor, Tensor],
    start: Tensor,
    surest: tuple[float, ...],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Directions (b, K) and their ages after one more look at each, from those so far and fresh starts (r, k)."""
    q, ages = walkers
    z = torch.cat([project(space, labels(rows @ q)), space @ start], dim=1)
    ages = torch.cat([ages, ages.new_zeros(start.shape[1])])
    looks = [
        alternate(rows, space, z[:, ages == age], round(share * len(rows)), left=left, generator=generator)
        for age, share in enumerate(surest)
    ]
    return torch.cat(looks, dim=1), ages.sort().values


def scoring_space(forward: Forward) -> Tensor:
    """M = W Rᵀ + β ḡᵀ with ḡ = Lᵀ g, so that every sample is z_i = M c_i, shape (m, b), float64."""
    layer = forward.layer
    mean = forward.low_rank.factor.T @ layer.bias_grad.to(torch.float64)
    return forward.weights.T + torch.outer(layer.bias.to(torch.float64), mean)


def agreement_when_complete(forward: Forward, directions: Tensor) -> Tensor:
    """Which of b directions have their zeros exactly where z ≤ 0, shape (k,); all, as long as some are missing.

    A mixture of two samples in the place of one of them spoils z of both.
    """
    count = directions.shape[1]
    if count < forward.low_rank.batch_size:
        return torch.ones(count, dtype=torch.bool, device=directions.device)
    agreement = reconstruct(forward, directions).agreement
    assert agreement is not None  # half-spaces are for ReLU only
    return agreement.all(dim=1)


def alternate(
    factor: Tensor,
    space: Tensor,
    scores: Tensor,
    surest: int,
    *,
    left: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Half-space alternation: surest zeros → q → labels → scores, all candidates in step.

    Args:
        factor: L, shape (m, b).
        space: orthonormal basis of the scores z that are possible, shape (m, r).
        scores: z to start from, as columns, shape (m, K).
        surest: how many rows to take for zeros.
        left: see `smallest_singular`.
        generator: CPU generator, for the first vectors of the inverse iterations.

    Returns:
        q as unit columns, shape (b, K).
    """
    q = torch.randn(factor.shape[1], scores.shape[1], generator=generator).to(factor)
    for step in range(STEPS):
        q = smallest_singular(factor, scores, surest, q, left)
        if step < STEPS - 1:
            scores = project(space, labels(factor @ q))
    return q


def labels(entries: Tensor) -> Tensor:
    """Near −1 where |L q| is far below its median, near 1 where far above: tanh log(|L q| / median)."""
    squares = entries.square()
    median = squares.median(dim=0).values if squares.shape[1] else squares[0]
    return (squares - median) / (squares + median)


def project(space: Tensor, vectors: Tensor) -> Tensor:
    """Orthogonal projection of columns on the span of orthonormal columns."""
    return space @ (space.T @ vectors)


def smallest_singular(
    factor: Tensor, scores: Tensor, surest: int, start: Tensor, left: Tensor | None = None
) -> Tensor:
    """The smallest right singular vector of L on the rows of lowest score, by inverse iteration.

    A known direction whose sample resembles the one that is sought is nearly a null vector of its rows, too. What
    enters the inverse can therefore be kept orthogonal to the known ones: c_i is, and c_i · q_i = 1, so q_i comes
    through.

    Args:
        factor: L, shape (m, b).
        scores: as columns, shape (m, K).
        surest: how many rows to take.
        start: vectors to begin with, shape (b, K).
        left: orthonormal basis of what is orthogonal to the known directions, shape (b, r); None to leave them in.

    Returns:
        Unit columns, shape (b, K).
    """
    m, b = factor.shape
    count = max(surest, min(m, b + b // 8))
    size = max(1, CHUNK_NUMBERS // (count * b))
    found = []
    for z, q in zip(scores.split(size, dim=1), start.split(size, dim=1), strict=True):
        rows = factor[z.T.topk(count, dim=1, largest=False, sorted=False).indices]
        gram = rows.mT @ rows
        gram.diagonal(dim1=1, dim2=2).add_(SMOOTHING)
        lower = torch.linalg.cholesky_ex(gram)[0]
        v = q.T[:, :, None]
        for _ in range(INVERSE_STEPS):
            if left is not None:
                v = project(left, v[:, :, 0].T).T[:, :, None]
            v = torch.cholesky_solve(v, lower)
            v = v / v.norm(dim=1, keepdim=True)
        found.append(v[:, :, 0].T)
    return torch.cat(found, dim=1)


def orthonormal(columns: Tensor) -> Tensor:
    """Orthonormal basis of the span."""
    return torch.linalg.qr(columns)[0]
