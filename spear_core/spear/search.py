"""SPEAR's search: sample, filter, select, reconstruct, certify, until the batch is proven."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spear_core.certificate.certify import certify
from spear_core.certificate.sharpen import sharpened
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.completion import Completion
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward
from spear_core.spear.sampling import chunk_sizes, draw_directions, live_rows
from spear_core.spear.selection import greedy, select
from spear_core.spear.sparsity import (
    Pool,
    default_threshold,
    filter_directions,
    join,
    null_space,
    passes_first_stage,
)
from spear_core.study import theory

PATIENCE = 64  # times the expected number of draws, after which the search gives up
LAST_SWAPS = 2.0  # seconds for the last selection, past a time limit that has passed
MINIMUM_DRAWS = 2**22  # below that many draws the search never gives up: they take a second or two


def sampling_states(
    problem: Problem,
    low_rank: LowRank,
    before: State | None = None,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """Steps 2 to 5 as a generator of states.

    Args:
        problem: the attacked layer and what follows it.
        low_rank: step 1, the split of its gradient.
        before: what another method left: its samples leave a smaller space to search.
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
    forward = Forward.of(low_rank, problem.attacked)
    state = before or State("low rank", low_rank, Pool.empty(b, low_rank.factor.device))
    proven = proven_coefficients(state)
    pool = pool_of(proven, forward, state.pool)
    method = f"{state.method}+sampling" if len(pool) else "sampling"
    state = replace(state, step="sampling", method=method, pool=pool, reconstruction=None, certificate=None)
    # c_k · q_i = 0: what is found is orthogonal to what is missing
    space = torch.linalg.svd(proven, full_matrices=True)[2][len(proven) :].T
    inside = low_rank.factor @ space
    rows = live_rows(inside)
    normalised = (inside[rows] / inside[rows].norm(dim=1, keepdim=True)).to(torch.float32)
    drawn = 0
    completion = Completion(forward)
    settled_at = limit
    for size in chunk_sizes(space.shape[1]):
        began = time.perf_counter()
        size = min(size, limit - drawn)
        draw = draw_directions(normalised, size, generator=generator)
        candidates = draw.directions
        if space.shape[1] > 1:  # in one dimension every row is the direction, and none is left to test it on
            candidates = candidates[passes_first_stage(draw, normalised, generator=generator)]
        candidates = candidates @ space.T.to(candidates.dtype)
        drawn += size
        pool = filter_directions(candidates, low_rank, state.pool, threshold=threshold, generator=generator)
        sampled, pool = pool, completion.advance(pool, drawn, generator=generator)
        grown = int(pool.unique.sum()) > int(state.pool.unique.sum()) or len(pool) > len(sampled)
        state = replace(state, step="sampling", pool=pool, samples_drawn=state.samples_drawn + size)
        state = timed(state, "sampling", began)
        yield state
        if (grown or state.reconstruction is None) and len(greedy(pool)) == b:
            for step in selected(state, problem, forward, generator, deadline):
                state = step
                yield state
            if state.certified:
                return
            if bool(pool.unique[list(state.chosen)].all()):
                # b unique directions are all there are; a little longer, in case one is a stray
                settled_at = min(settled_at, 4 * drawn)
                if state.sparsity_match == 1:
                    return
        stop = _reason_to_stop(drawn, settled_at, limit, deadline)
        if stop is not None:
            break
    state = replace(state, notes=(stop,) if stop else ())
    yield from conclude(state, problem, generator=generator)


def proven_coefficients(state: State) -> Tensor:
    """Coefficients c_i of the samples that are proven already, shape (k, b)."""
    b = state.low_rank.batch_size
    if state.reconstruction is None or state.certificate is None:
        return torch.zeros(0, b, dtype=torch.float64, device=state.low_rank.factor.device)
    return state.reconstruction.coefficients[state.certificate.certified_rows]


def pool_of(coefficients: Tensor, forward: Forward, pool: Pool) -> Pool:
    """A pool with the directions of known samples: the null vector of the rows in which each is inactive."""
    low_rank = forward.low_rank
    for z in coefficients @ forward.weights + forward.layer.bias.to(torch.float64):
        kernel, _ = null_space(low_rank, z < 0)
        if kernel.shape[1] == 1:
            pool = join(kernel[:, 0], low_rank, pool, default_threshold(low_rank))
    return pool


def _reason_to_stop(drawn: int, settled_at: int, limit: int, deadline: float) -> str | None:
    if time.monotonic() >= deadline:
        return f"stopped at the time limit after {drawn:,} draws"
    if drawn >= limit:
        return f"stopped after {drawn:,} draws"
    return "" if drawn >= settled_at else None


def conclude(state: State, problem: Problem, *, generator: torch.Generator | None = None) -> Iterator[State]:
    """Make the best of what was found so far: select, reconstruct and certify, whatever is missing.

    Args:
        state: any state, for example the last one before an interruption.
        problem: the attacked layer and what follows it.
        generator: CPU generator.
    """
    if len(state.pool) and (state.certificate is None or not state.certified):
        forward = Forward.of(state.low_rank, problem.attacked)
        yield from selected(state, problem, forward, generator, time.monotonic() + LAST_SWAPS)
    else:
        yield replace(state, step="certificate")


def selected(
    state: State, problem: Problem, forward: Forward, generator: torch.Generator | None, deadline: float
) -> Iterator[State]:
    """Steps 4 and 5 on the pool of a state; the certificate last."""
    began = time.perf_counter()
    for selection in select(state.pool, forward, deadline=deadline):
        state = replace(
            state,
            step="selection",
            chosen=selection.chosen,
            reconstruction=selection.reconstruction,
            certificate=None,
        )
        yield state
    yield certified(timed(state, "selection", began), problem, generator=generator)


def certified(state: State, problem: Problem, **options: Any) -> State:
    """The state with the certificate of its batch, sharpened where that proves more of it.

    Args:
        state: one that holds a batch.
        problem: the attacked layer and what follows it.
        options: of `certify`.
    """
    began = time.perf_counter()
    assert state.reconstruction is not None
    check = partial(certify, problem, state.low_rank, **options)
    found, certificate = sharpened(problem, state.reconstruction, check)
    state = replace(state, step="certificate", reconstruction=found, certificate=certificate)
    return timed(state, "certificate", began)


def timed(state: State, step: str, began: float) -> State:
    """The state with the time since `began` added to a step."""
    spent = state.seconds.get(step, 0.0) + time.perf_counter() - began
    return replace(state, seconds={**state.seconds, step: spent})
