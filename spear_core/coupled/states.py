"""Coupled relations as states: search with several layers, reconstruct and certify what was found."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from spear_core.coupled import search as coupled
from spear_core.coupled.chain import Chain
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear import search
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward, Reconstruction, from_coefficients
from spear_core.spear.search import timed

NEWS = 1 / 8  # share of the batch whose finding is worth a reconstruction of all found so far


def coupled_states(
    problem: Problem,
    low_rank: LowRank,
    before: State,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """Samples round by round from the gradients of three and more consecutive layers.

    Args:
        problem: a chain to which `coupled.obstacle` has nothing to object.
        low_rank: the split of the attacked layer's gradient.
        before: the state so far; samples in it are taken out from the start.
        generator: CPU generator.
        max_samples: random starts after which to stop.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        A state after every round; the last one holds the certificate.
    """
    began = time.perf_counter()
    b = low_rank.batch_size
    forward = Forward.of(low_rank, problem.attacked)
    chain = Chain.of(problem, low_rank, coupled.relations_for(problem, b))
    state = replace(before, step="consistency", method="consistency")
    shown = -b
    known = None if before.reconstruction is None else before.reconstruction.preactivations
    rounds = coupled.search(
        chain, known=known, generator=generator, deadline=deadline, max_starts=max_samples
    )
    for found in rounds:
        count = len(found.samples)
        if count == b or count - shown >= NEWS * b:
            state, shown = replace(state, reconstruction=_reconstruction(chain, forward, found)), count
        state = timed(replace(state, samples_drawn=found.starts, walkers=found.walkers), "consistency", began)
        yield state
        began = time.perf_counter()
    if count > shown:
        state = replace(state, reconstruction=_reconstruction(chain, forward, found))
    if count < b and time.monotonic() >= deadline:
        state = replace(state, notes=(f"stopped at the time limit after {found.starts:,} random starts",))
    yield search.certified(state, problem, batch_size=b, generator=generator)


def _reconstruction(chain: Chain, forward: Forward, found: coupled.Found) -> Reconstruction:
    c, determined = coupled.coefficients(chain, forward, found)
    directions = found.directions(0)[:, determined] if found.samples else c.T
    return from_coefficients(forward, c, directions)
