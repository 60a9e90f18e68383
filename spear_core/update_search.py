"""Directions from the update of several local steps (FedAvg): the zeros that survive training.

The update of the first layer is still a product, W₀ − W_T = η Σ_t (∂L/∂Z_t)ᵀ Xᵀ = L R, with one column η Σ_t ∂L/∂z_i(t)
per sample, and that column is exactly zero where the unit stays inactive in sample i through all steps. So
SPEAR's zeros are there, only fewer: units near zero change sides while the client trains. Therefore only the
rows with the most negative scores are trusted, and null vectors of *random* sets of them are tried, of which one
without any stray row is enough. The rest is the half-space alternation (`halfspace`).
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from spear_core.deflation import orthogonal_complement
from spear_core.halfspace import Found, alternate, labels, orthonormal, project, scoring_space
from spear_core.halfspace_zeros import fit, weigh
from spear_core.low_rank import LowRank
from spear_core.problem import Problem
from spear_core.reconstruction import Forward, reconstruct
from spear_core.sampling import draw_directions
from spear_core.sparsity import COARSE_ZERO, INDEPENDENT, zero_tolerance

SUREST = (0.1, 0.15, 0.25, 0.35)  # share of the rows taken for zeros, look by look
TRUSTED = 0.15  # share of the rows that sets are drawn from
DRAWS = 64  # null vectors per candidate
WALKERS = 2  # per missing sample
FEWEST_WALKERS = 16
SAME = 1 - 1e-6  # cosine from which two directions are one
ACTIVE = 0.3  # of the rms of z; a unit above that at the start is hardly inactive in all later steps
STRAYS = 0.04  # share of its zeros that may be at such units before a direction is refused
LENIENT = 3  # rounds without a find, after which what chance may have pinned down is taken as well
DESPERATE = 6  # and after which the last sample's direction need not be unique
STARTS_PER_SAMPLE = 60  # default budget


def search(
    problem: Problem,
    low_rank: LowRank,
    *,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
    max_starts: int | None = None,
) -> Iterator[Found]:
    """Find the directions of all samples, round by round.

    Args:
        problem: the attacked layer, followed by ReLU, with its update in the place of the gradient.
        low_rank: split of that update.
        generator: CPU generator, source of all randomness.
        deadline: value of `time.monotonic()` at which to stop.
        max_starts: give up after this many random starts; by default 60 per sample.

    Yields:
        The state after each round, at least once. What is not `unique` was left over when all others were
        known, and rests on them.
    """
    L, b = low_rank.factor, low_rank.batch_size
    forward = Forward.of(low_rank, problem.attacked)
    scores, rows = scoring_space(forward), L.to(torch.float32)
    known, refused = L.new_zeros(b, 0), L.new_zeros(b, 0)
    limit = max_starts or STARTS_PER_SAMPLE * b
    starts = rounds = idle = 0
    while True:
        space = orthonormal(scores @ orthogonal_complement(known)).to(torch.float32)
        count = max(FEWEST_WALKERS, WALKERS * (b - known.shape[1]))
        candidates = _candidates(rows, space, count, generator)
        found = weigh(low_rank, fit(low_rank, candidates), generator=generator)
        good = found.unique & (found.firm | (idle >= LENIENT))
        more = _joined(known, refused, found.directions[:, good])
        if idle >= DESPERATE and more.shape[1] == b - 1:
            more = _joined(more, refused, fit(low_rank, _last(low_rank, scores, more)))
        idle = idle + 1 if more.shape[1] == known.shape[1] else 0
        known, starts, rounds = more, starts + count, rounds + 1
        spent = starts >= limit or time.monotonic() > deadline
        if known.shape[1] == b and not spent:
            wrong = _disagree(low_rank, forward, known)
            refused = torch.cat([refused, known[:, wrong]], dim=1)
            known = known[:, ~wrong]
        yield Found(known, weigh(low_rank, known, generator=generator).unique, candidates, rounds, starts)
        if spent or known.shape[1] == b:
            return


def _candidates(rows: Tensor, space: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Unit columns from random starts: what each look of the alternation gives, and the best of random sets."""
    z = space @ torch.randn(space.shape[1], count, generator=generator).to(space)
    looks = []
    for share in SUREST:
        looks.append(alternate(rows, space, z, round(share * len(rows)), generator=generator))
        z = project(space, labels(rows @ looks[-1]))
    q = torch.cat([*looks[1:], _sparsest(rows, z, generator)], dim=1).to(torch.float64)
    return q / q.norm(dim=0)


def _sparsest(rows: Tensor, scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """For each column of scores: of null vectors of random trusted rows, the one with the most zeros, (b, K)."""
    m, b = rows.shape
    trusted = min(m, max(2 * b, round(TRUSTED * m)))
    best = []
    for surest in scores.topk(trusted, dim=0, largest=False).indices.T:
        inside = rows[surest]
        inside = inside / inside.norm(dim=1, keepdim=True).clamp_min(torch.finfo(inside.dtype).tiny)
        drawn = draw_directions(inside, DRAWS, generator=generator).directions
        drawn = torch.nan_to_num(drawn / drawn.norm(dim=1, keepdim=True), nan=1.0)
        entries = (rows @ drawn.T).abs()
        best.append(drawn[(entries < COARSE_ZERO * entries.mean(dim=0)).sum(dim=0).argmax()])
    return torch.stack(best, dim=1)


def _joined(known: Tensor, refused: Tensor, new: Tensor) -> Tensor:
    """Known directions and those new ones that are independent of them and were not refused, at most b."""
    for q in new[:, new.isfinite().all(dim=0)].T:
        if known.shape[1] == len(q):
            break
        rest = q - known @ torch.linalg.lstsq(known, q[:, None]).solution[:, 0] if known.shape[1] else q
        if rest.norm() > INDEPENDENT and not bool(((refused.T @ q).abs() > SAME).any()):
            known = torch.cat([known, q[:, None]], dim=1)
    return known


def _last(low_rank: LowRank, scores: Tensor, known: Tensor) -> Tensor:
    """The direction that is left when b − 1 are known: they give c of the last sample, and so its zeros.

    c · q_i = 0 leaves one line and c · ḡ = 1 its sign (scores are M c). Few of its rows may be zero, so
    several shares of them are tried; column, shape (b, 1), or none.
    """
    L, c = low_rank.factor, orthogonal_complement(known)[:, :1]
    z = (scores @ c)[:, 0]
    # a sample's units are active where its column of L Q is large: the sign that correlates with it
    best, most = c[:, :0], 0
    for side in (z, -z):
        for share in (*SUREST, 0.5):
            surest = side.topk(round(share * len(z)), largest=False).indices
            q = torch.linalg.svd(L[surest])[2][-1][:, None] if len(surest) >= len(c) else c[:, :0]
            zeros = int(((L @ q).abs() <= zero_tolerance(low_rank, q)).sum()) if q.shape[1] else 0
            best, most = (q, zeros) if zeros > most else (best, most)
    return best


def _disagree(low_rank: LowRank, forward: Forward, known: Tensor) -> Tensor:
    """Which of b directions are zero where their sample is clearly active at the start, shape (b,).

    Such a unit has a gradient from the first step that the sample is in. A mixture of two samples spoils the
    inputs of these two only.
    """
    z = reconstruct(forward, known).preactivations.T
    zeros = (low_rank.factor @ known).abs() <= zero_tolerance(low_rank, known)
    active = z > ACTIVE * z.square().mean(dim=0).sqrt()
    return (zeros & active).sum(dim=0) > STRAYS * zeros.sum(dim=0)
