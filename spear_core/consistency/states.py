"""The consistency method as states: search with two layers, reconstruct and certify what was found."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from spear_core.consistency import parting
from spear_core.consistency import search as consistency
from spear_core.consistency.relu import stands_alone
from spear_core.coupled import search as coupled
from spear_core.coupled.states import coupled_states
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear import search
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward, from_coefficients
from spear_core.spear.search import timed


def consistency_states(
    problem: Problem,
    low_rank: LowRank,
    before: State,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """Samples round by round from the gradients of two consecutive layers, or of more where that pays.

    Args:
        problem: the attacked layer and at least one layer behind it.
        low_rank: the split of its gradient.
        before: the state so far, with the batch size; samples in it are taken out from the start.
        generator: CPU generator.
        max_samples: random starts after which to stop.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        A state after every round of starts; the last one holds the certificate.
    """
    batch_size = before.batch_size
    if batch_size == low_rank.batch_size and coupled.pays(problem, batch_size):
        yield from coupled_states(
            problem, low_rank, before, generator=generator, max_samples=max_samples, deadline=deadline
        )
        return
    began = time.perf_counter()
    known = None if before.reconstruction is None else before.reconstruction.coefficients
    state = replace(before, step="consistency", method="consistency")
    forward = Forward.of(low_rank, problem.attacked)
    rounds = consistency.search(
        problem,
        low_rank,
        batch_size=batch_size,
        generator=generator,
        deadline=deadline,
        known=known,
        max_starts=max_samples,
        forward=forward,
    )
    for found in rounds:
        reconstruction = from_coefficients(forward, found.coefficients, found.directions, found.error)
        state = replace(
            state, samples_drawn=found.starts, reconstruction=reconstruction, walkers=found.candidates
        )
        state = timed(state, "consistency", began)
        yield state
        began = time.perf_counter()
    late = time.monotonic() >= deadline
    if len(found.coefficients) < batch_size and late:
        state = replace(state, notes=(f"stopped at the time limit after {found.starts:,} random starts",))
    result = certified(state, problem, generator=generator)
    if batch_size == low_rank.batch_size and parting.applies(problem, found.directions) and not late:
        result = _parted(state, result, problem, forward, generator, deadline)
    yield result


def _parted(
    state: State,
    result: State,
    problem: Problem,
    forward: Forward,
    generator: torch.Generator | None,
    deadline: float,
) -> State:
    """The certified state with the last samples parted, or without them where that proves more."""
    began, found = time.perf_counter(), state.reconstruction
    assert found is not None
    rest = parting.parted(
        problem, forward, found.coefficients, found.directions, generator=generator, deadline=deadline
    )
    if rest is None:
        return result
    together = from_coefficients(forward, torch.cat([found.coefficients, rest]), found.directions)
    # not a state of its own before its certificate: the next layer has not judged these samples, as it has the others
    whole = timed(replace(state, reconstruction=together), "consistency", began)
    whole = search.certified(whole, problem, batch_size=state.batch_size, generator=generator)
    # of samples too alike for rounding, guesses would spoil what is proven of the others
    return whole if whole.proven >= result.proven else result


def certified(state: State, problem: Problem, *, generator: torch.Generator | None = None) -> State:
    """The state with the certificate of the samples found so far, each of which the search has judged.

    Args:
        state: any state of this search, for example the last one before an interruption.
        problem: the attacked layer and what follows it.
        generator: CPU generator.
    """
    assert state.reconstruction is not None  # every round yields one, if only of no samples
    # samples that stand only with the help of others are judged by their zeros as well
    alone = not problem.attacked.has_relu or bool(
        stands_alone(state.reconstruction.preactivations.T, state.low_rank.batch_size).all()
    )
    return search.certified(state, problem, batch_size=state.batch_size, judged=alone, generator=generator)


def spans_batch(problem: Problem, low_rank: LowRank) -> bool:
    """Whether the next layer's gradient has a dimension for every sample, as the method needs."""
    m, n = problem.layers[1].weight_grad.shape
    return min(m, n) >= low_rank.batch_size
