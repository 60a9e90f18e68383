"""Exact inversion of a FedAvg update: several local steps, and the batch all the same.

θ₀ − θ_T is no gradient, but its first layer is η Σ_t (∂L/∂Z_t)ᵀ Xᵀ: of rank b, its row space exactly the span of the
inputs, with zeros where a unit stays inactive through all steps. So

1. split the update as one splits a gradient;
2. find the directions from the zeros that survive (`update_search`), and with them X and η Σ_t ∂L/∂Z_t;
3. read off the labels, and the division into minibatches (`local_order`);
4. replay the client, all steps, and compare the whole update (`local_training`).

The replay is the proof: no averaged gradient enters it, and it must give every layer's update to rounding.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.certificate import Certificate, expected_error
from spear_core.halfspace_zeros import weigh
from spear_core.local_order import find_schedule
from spear_core.local_training import Client, LocalTraining
from spear_core.low_rank import LowRank
from spear_core.problem import Problem
from spear_core.reconstruction import Forward, Reconstruction, reconstruct
from spear_core.search import timed
from spear_core.sparsity import Pool, zero_tolerance
from spear_core.state import State
from spear_core.tolerances import rounding_residual
from spear_core.update_search import search

ATTEMPTS = 6  # searches from other random starts, while the replay does not give the update
REPLAY_MARGIN = 4.0  # replayed weights are rounded as the client's were, in another order
LARGEST_ROUNDING = 1e-4  # relative; an update that rounding blurs more proves nothing


def fedavg_states(
    problem: Problem,
    low_rank: LowRank,
    before: State,
    training: LocalTraining,
    *,
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
) -> Iterator[State]:
    """The attack on an update, as a generator of states.

    Args:
        problem: the attacked layer and what follows it, with updates in the place of gradients.
        low_rank: the split of the first update.
        before: the state so far.
        training: what the server told its clients to do.
        generator: CPU generator, source of all randomness.
        max_samples: random starts after which to stop.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        A state after every round of the search; the last one holds the certificate of the best attempt.
    """
    forward = Forward.of(low_rank, problem.attacked)
    best: State | None = None
    state = replace(before, step="halfspace", method="fedavg")
    drawn = 0
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        for found in search(
            problem, low_rank, generator=generator, deadline=deadline, max_starts=max_samples
        ):
            q = found.directions
            zeros = ((low_rank.factor @ q).abs() <= zero_tolerance(low_rank, q)).sum(dim=0)
            pool = Pool(q, zeros, found.unique)
            state = timed(
                replace(state, step="halfspace", pool=pool, samples_drawn=drawn + found.starts),
                "halfspace",
                began,
            )
            yield state
            began = time.perf_counter()
        drawn = state.samples_drawn
        if not len(state.pool):
            continue
        result = reconstruct(forward, state.pool.directions)
        certificate = replayed(problem, forward, result, training, generator=generator, deadline=deadline)
        state = timed(
            replace(state, step="certificate", reconstruction=result, certificate=certificate),
            "replay",
            began,
        )
        if best is None or _worth(certificate) > _worth(best.certificate):
            best = state
        settled = certificate.complete and bool(certificate.unique_rows.all())  # others would give the same
        if settled or max_samples is not None or time.monotonic() >= deadline:
            break
    if best is None:
        yield replace(state, step="certificate")
    else:
        yield replace(best, samples_drawn=drawn, seconds=state.seconds)


def replayed(
    problem: Problem,
    forward: Forward,
    found: Reconstruction,
    training: LocalTraining,
    *,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
) -> Certificate:
    """The certificate of an update: the simulated client must send all of it again, to rounding.

    Args:
        problem: what the server sees.
        forward: its attacked layer in the row space of the update.
        found: the batch; it need not be complete.
        training: what the client did.
        generator: CPU generator.
        deadline: `time.monotonic()` after which not to look for the order of minibatches.
    """
    low_rank, k = forward.low_rank, len(found.coefficients)
    zeros = (low_rank.factor @ found.directions).abs() <= zero_tolerance(low_rank, found.directions)
    unique = weigh(low_rank, found.directions, generator=generator).unique
    client = Client.of(problem, forward, training)
    labels, residuals = None, [torch.inf, torch.inf]
    if k == low_rank.batch_size and not problem.branches and problem.layers[-1].activation is None:
        labels, residuals = _replay(client, found, training, deadline)
    rounding = min(LARGEST_ROUNDING, REPLAY_MARGIN * client.rounding)
    return Certificate(
        batch_size=low_rank.batch_size,
        gradient_residual=residuals[0],
        limit=max(rounding_residual(low_rank.noise), rounding),
        agreeing_rows=None,
        unique_rows=unique,
        independent_rows=torch.zeros_like(unique),
        replay_residual=max(residuals[1:], default=torch.inf),
        expected_error=expected_error(low_rank, found, zeros),
        labels=labels,
        output_grads=found.output_grads,
        plural_rows=torch.zeros_like(unique),
    )


def _replay(
    client: Client, found: Reconstruction, training: LocalTraining, deadline: float
) -> tuple[Tensor, list[float]]:
    """Labels, and how far each layer's replayed update is off."""
    inputs, output_grads = found.coefficients * client.scale, found.output_grads
    labels = client.labels(inputs, output_grads)
    schedule = find_schedule(client, training, inputs, labels, output_grads, deadline=deadline)
    return labels, client.residuals(client.train(inputs, labels, schedule))


def _worth(certificate: Certificate | None) -> tuple[int, float]:
    """How good an attempt is: samples found, then how close the replay comes."""
    assert certificate is not None  # every attempt has one
    return len(certificate.unique_rows), -max(certificate.gradient_residual, certificate.replay_residual)
