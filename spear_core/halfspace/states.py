"""The half-space method as states: directions from one layer alone, then SPEAR's steps 4 and 5 on them."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.halfspace import search as halfspace
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.completion import completed, expected_corners
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward
from spear_core.spear.search import conclude, pool_of, proven_coefficients, timed
from spear_core.spear.sparsity import Pool, zero_tolerance

CORNERS = 8  # tried for the last samples, times the expected number


def halfspace_states(
    problem: Problem,
    low_rank: LowRank,
    before: State,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """Directions round by round from the attacked layer's gradient alone.

    Args:
        problem: the attacked layer, followed by ReLU.
        low_rank: the split of its gradient.
        before: what another method left: its samples are taken out from the start.
        generator: CPU generator.
        max_samples: random starts after which to stop.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        A state after every round of starts and every improvement of the selection; the last one holds the
        certificate.
    """
    began = time.perf_counter()
    proven = proven_coefficients(before)
    forward = Forward.of(low_rank, problem.attacked)
    pool = pool_of(proven, forward, before.pool)
    method = f"{before.method}+halfspace" if len(proven) else "halfspace"
    drawn = before.samples_drawn
    state = replace(before, step="halfspace", method=method, pool=pool, certificate=None, reconstruction=None)
    rounds = halfspace.search(
        problem,
        low_rank,
        generator=generator,
        deadline=deadline,
        known=pool.directions[:, pool.unique],
        max_starts=max_samples,
    )
    for found in rounds:
        pool = _pool(low_rank, found.directions, found.unique)
        state = timed(replace(state, pool=pool, samples_drawn=drawn + found.starts), "halfspace", began)
        yield state
        began = time.perf_counter()
    missing = low_rank.batch_size - len(state.pool)
    if 0 < missing <= halfspace.LAST and time.monotonic() < deadline:
        corners = round(CORNERS * expected_corners(missing, len(low_rank.factor)))
        pool = completed(state.pool, forward, corners, generator=generator)
        state = timed(replace(state, pool=pool), "halfspace", began)
        yield state
    if len(state.pool) < low_rank.batch_size and time.monotonic() >= deadline:
        state = replace(state, notes=(f"stopped at the time limit after {found.starts:,} random starts",))
    yield from conclude(state, problem, generator=generator)


def _pool(low_rank: LowRank, directions: Tensor, unique: Tensor) -> Pool:
    zeros = ((low_rank.factor @ directions).abs() <= zero_tolerance(low_rank, directions)).sum(dim=0)
    return Pool(directions, zeros, unique)
