"""SPEAR's search: sample, filter, select, reconstruct, certify, until the batch is proven (SPEAR, Algorithm 1)."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from spear_core import theory
from spear_core.certificate import certify
from spear_core.low_rank import LowRank
from spear_core.problem import Problem
from spear_core.reconstruction import Forward
from spear_core.sampling import chunk_sizes, draw_directions, live_rows
from spear_core.selection import greedy, select
from spear_core.sparsity import Pool, default_threshold, filter_directions, passes_first_stage
from spear_core.state import State

PATIENCE = 64  # times the expected number of draws, after which the search gives up
MINIMUM_DRAWS = 2**20  # below that many draws the search never gives up: they take a second


def sampling_states(
    problem: Problem,
    low_rank: LowRank,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """Steps 2 to 5 as a generator of states.

    Args:
        problem: the attacked layer and what follows it.
        low_rank: step 1, the split of its gradient.
        generator: CPU generator, source of all randomness.
        max_samples: candidates after which to stop; by default `PATIENCE` times what theory expects.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        A state after every chunk of candidates and every improvement of the selection; the last one holds the
        certificate of the best batch, proven or not, and the reason for stopping if it is not.
    """
    b = low_rank.batch_size
    limit = max_samples or max(MINIMUM_DRAWS, int(PATIENCE * theory.expected_draws(b)))
    threshold = default_threshold(low_rank)
    rows = live_rows(low_rank.factor)
    normalised = (low_rank.factor[rows] / low_rank.factor[rows].norm(dim=1, keepdim=True)).to(torch.float32)
    forward = Forward.of(low_rank, problem.attacked)
    state = State("sampling", low_rank, Pool.empty(b, normalised.device))
    settled_at = limit
    for size in chunk_sizes(b):
        began = time.perf_counter()
        size = min(size, limit - state.samples_drawn)
        draw = draw_directions(normalised, size, generator=generator)
        candidates = draw.directions
        if b > 1:  # with b = 1 every row of L is the direction, and none is left to test it on
            candidates = candidates[passes_first_stage(draw, normalised, generator=generator)]
        pool = filter_directions(candidates, low_rank, state.pool, threshold=threshold, generator=generator)
        grown = int(pool.unique.sum()) > int(state.pool.unique.sum()) or state.reconstruction is None
        state = replace(state, step="sampling", pool=pool, samples_drawn=state.samples_drawn + size)
        state = _timed(state, "sampling", began)
        yield state
        if grown and len(greedy(pool)) == b:
            for state in _selected(state, problem, forward, generator):
                yield state
            if state.certified:
                return
            if bool(pool.unique[list(state.chosen)].all()):
                # b unique directions are all there are; a little longer, in case one is a stray
                settled_at = min(settled_at, 4 * state.samples_drawn)
                if state.sparsity_match == 1:
                    return
        stop = _reason_to_stop(state, settled_at, limit, deadline)
        if stop is not None:
            break
    state = replace(state, notes=(stop,) if stop else ())
    yield from conclude(state, problem, generator=generator)


def _reason_to_stop(state: State, settled_at: int, limit: int, deadline: float) -> str | None:
    if time.monotonic() >= deadline:
        return f"stopped at the time limit after {state.samples_drawn:,} draws"
    if state.samples_drawn >= limit:
        return f"stopped after {state.samples_drawn:,} draws"
    if state.samples_drawn >= settled_at:
        return ""
    return None


def conclude(state: State, problem: Problem, *, generator: torch.Generator | None = None) -> Iterator[State]:
    """Make the best of what was found so far: select, reconstruct and certify, whatever is missing.

    Args:
        state: any state, for example the last one before an interruption.
        problem: the attacked layer and what follows it.
        generator: CPU generator.
    """
    if len(state.pool) and (state.certificate is None or not state.certified):
        forward = Forward.of(state.low_rank, problem.attacked)
        yield from _selected(state, problem, forward, generator)
    else:
        yield replace(state, step="certificate")


def _selected(
    state: State, problem: Problem, forward: Forward, generator: torch.Generator | None
) -> Iterator[State]:
    """Steps 4 and 5 on the pool of a state; the certificate last."""
    began = time.perf_counter()
    for selection in select(state.pool, forward):
        state = replace(
            state,
            step="selection",
            chosen=selection.chosen,
            reconstruction=selection.reconstruction,
            certificate=None,
        )
        yield state
    state = _timed(state, "selection", began)
    began = time.perf_counter()
    assert state.reconstruction is not None
    certificate = certify(problem, state.low_rank, state.reconstruction, generator=generator)
    yield _timed(replace(state, step="certificate", certificate=certificate), "certificate", began)


def _timed(state: State, step: str, began: float) -> State:
    spent = state.seconds.get(step, 0.0) + time.perf_counter() - began
    return replace(state, seconds={**state.seconds, step: spent})
