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
says about ∂L/∂Z takes part (`readout`). What converges is fitted to all its zeros in
float64 and must be the only direction with these zeros (`confirm`). Then it is taken out:
c_k · q_i = 0 for every other sample k, so each q_i removes a dimension from the space of the c that are left.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.halfspace import readout
from spear_core.halfspace.alternation import alternate, labels, project, scoring_space
from spear_core.halfspace.confirm import Confirmed
from spear_core.linalg import orthogonal_complement, orthonormal
from spear_core.search import Budget, Method, State, Step, Target, stopped_late
from spear_core.spear.completion import completed, expected_corners
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Pool
from spear_core.spear.sampling import FEW_DRAWS, expected_draws
from spear_core.spear.search import conclude, pool_of, selected
from spear_core.spear.zeros import zeros_of

# share of the rows taken for zeros, look by look: about half of them are, and the surest are right early; but similar
# samples differ in rows near zero only
SUREST = (0.3, 0.35, 0.4)
# the same once at most this share of the samples is missing: in the narrow space left for z it is known better, and
# those left are similar to others
NARROW, NARROW_SUREST = 0.1, (0.38, 0.42, 0.45)
LAST, LAST_PATIENCE = 2, 3  # so few missing after so many rounds without a find are left to `completion`
CORNERS = 8  # tried for these, times the expected number
WALKERS, READOUT_WALKERS = 0.7, 3.0  # per missing sample; many of one round would find the same samples
# share of the samples that may be missing for q to be sought apart from the known directions, except in every so many
# rounds without a find: the two ways have other dead ends
DUAL, DUAL_ROUNDS = 0.35, 3
READOUT_PATIENCE = 3  # rounds without a find after which the output layer is no longer believed
FEWEST_WALKERS = 16
RETRIES = 3  # times that directions are dropped which turn out to disagree with the rest
STARTS_PER_SAMPLE = 200  # default budget
HOPELESS = 40  # of these, after which a batch that sampling finds in no time is left to it, if none was found


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """Directions round by round from the attacked layer alone, then SPEAR's steps 4 and 5 on them; a `Search`.

    Samples that another method has proven are taken out from the start. By default 200 random starts per sample.
    """
    # what another method has proven makes the problem smaller
    began, low_rank = time.perf_counter(), target.low_rank
    proven, drawn = before.proven_coefficients, before.samples_drawn
    pool = pool_of(proven, target.forward, before.pool)
    method = f"{before.method}+halfspace" if len(proven) else "halfspace"
    state = replace(
        before, step=Step.HALFSPACE, method=method, pool=pool, certificate=None, reconstruction=None
    )
    # the search itself, and the last few samples, where corners are cheaper than further rounds
    for found, starts in rounds(target, budget, pool.known.directions):
        state = replace(state, pool=pool_with(low_rank, found), samples_drawn=drawn + starts)
        state = state.timed("halfspace", began)
        yield state
        began = time.perf_counter()
    missing = low_rank.batch_size - len(state.pool)
    if 0 < missing <= LAST and not budget.late:
        corners = round(CORNERS * expected_corners(missing, len(low_rank.factor)))
        pool = completed(
            state.pool, target.forward, corners, generator=budget.generator, deadline=budget.deadline
        )
        state = replace(state, pool=pool).timed("halfspace", began)
        yield state
    missing = low_rank.batch_size - len(state.pool)
    state = replace(state, notes=stopped_late(budget, missing, f"{starts:,} random starts"))
    # a certificate in a hurry would not sharpen the batch
    in_time = len(state.pool) > 0 and not budget.late
    yield from selected(target, state, budget) if in_time else conclude(target, state, budget)


def pool_with(low_rank: LowRank, directions: Tensor, unique: Tensor | None = None) -> Pool:
    """A pool of directions, unit columns; each the only one that its zeros leave, unless said otherwise."""
    zeros = zeros_of(low_rank, directions).sum(dim=0)
    return Pool(directions, zeros, torch.ones_like(zeros, dtype=torch.bool) if unique is None else unique)


def rounds(target: Target, budget: Budget, known: Tensor | None = None) -> Iterator[tuple[Tensor, int]]:
    """The search itself, round by round; directions known from another method are taken out from the start.

    Yields:
        After each round, at least one: q_i as unit columns, shape (b, k), float64, ∂L/∂z_i ∝ L q_i, each the only one
        that its zeros leave; and the number of random starts so far.
    """
    low_rank, forward, generator = target.low_rank, target.forward, budget.generator
    L, b = low_rank.factor, low_rank.batch_size
    scores, rows = scoring_space(forward), L.to(torch.float32)
    confirmed = Confirmed(
        low_rank, orthonormal(scores).to(rows), L.new_zeros(b, 0) if known is None else known.to(L)
    )
    V = readout.readout(target)
    walkers = [rows.new_zeros(b, 0) for _ in SUREST[1:]]  # those that wait for the second look, and so on
    limit, retries, idle, starts = budget.max_samples or STARTS_PER_SAMPLE * b, RETRIES, 0, 0
    missing = b - confirmed.directions.shape[1]
    while True:
        # random starts in the space that the samples found leave for z
        left = orthogonal_complement(confirmed.directions)
        space = orthonormal(scores @ left).to(rows)
        many = WALKERS if V is None else READOUT_WALKERS
        fresh = max(0, max(FEWEST_WALKERS, round(many * missing)) - sum(q.shape[1] for q in walkers))
        start = space @ torch.randn(space.shape[1], fresh, generator=generator).to(space)
        if V is None:
            surest = NARROW_SUREST if missing <= NARROW * b else SUREST
            dual = missing <= DUAL * b and (idle + 1) % DUAL_ROUNDS > 0
            apart = left.to(rows) if dual else None
            looked = project(space, labels(rows @ torch.cat(walkers, dim=1)))
            looks = [
                alternate(rows, space, z, round(share * len(rows)), left=apart, generator=generator)
                for z, share in zip([start, *looked.split([q.shape[1] for q in walkers], 1)], surest)
            ]
        else:
            looks = [readout.arrived(rows, space, V, start, budget, idle)]
        # what has converged is taken out, and left alone; who was looked at in every way is let go
        settled = confirmed.judge(torch.cat(looks, dim=1), space, generator=generator)
        if V is None:  # behind the output layer, who has not arrived is no better than a new start
            ends = settled.split([q.shape[1] for q in looks])
            walkers = [q[:, ~there] for q, there in zip(looks[:-1], ends)]
        starts += fresh
        if confirmed.directions.shape[1] == b and retries > 0:
            confirmed.directions = _agreeing(forward, confirmed.directions)
            retries -= 1
        yield confirmed.directions, starts
        # when to believe the output layer no longer, and when to stop
        missing, before = b - confirmed.directions.shape[1], missing
        idle = idle + 1 if missing == before else 0
        if idle == READOUT_PATIENCE:
            V = None
        stuck = missing <= LAST and idle >= LAST_PATIENCE
        hopeless = budget.max_samples is None and missing == b and starts >= HOPELESS * b
        stuck |= hopeless and expected_draws(b) < FEW_DRAWS
        if missing == 0 or starts >= limit or budget.late or stuck:
            return


def _agreeing(forward: Forward, directions: Tensor) -> Tensor:
    """Those of b directions that have their zeros exactly where z ≤ 0: a mixture of two samples spoils z of both."""
    agreement = reconstruct(forward, directions).agreement
    assert agreement is not None  # half-spaces are for ReLU only
    return directions[:, agreement.all(dim=1)]


HALFSPACE = Method("halfspace", search, conclude)
