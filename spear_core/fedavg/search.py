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

from spear_core.certificate.certify import GRADIENT, REPLAY, Certificate
from spear_core.fedavg.directions import search
from spear_core.fedavg.error import update_error
from spear_core.fedavg.kinks import replayed_residuals
from spear_core.fedavg.order import find_schedule
from spear_core.fedavg.training import Client, LocalTraining
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward, Reconstruction, reconstruct
from spear_core.spear.search import timed
from spear_core.spear.sparsity import Pool, zero_tolerance
from spear_core.spear.zeros import weigh
from spear_core.tolerances import replay_residual, rounding_residual

REACH = 4.0  # times the expected error of the samples; a z so near to its kink may lie on either side
ATTEMPTS = 6  # searches from other random starts, while the replay does not give the update


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
    state = fullest = replace(before, step="halfspace", method="fedavg")
    for _ in range(ATTEMPTS):
        began, drawn = time.perf_counter(), state.samples_drawn
        for found in search(
            problem, low_rank, generator=generator, deadline=deadline, max_starts=max_samples
        ):
            q = found.directions
            zeros = ((low_rank.factor @ q).abs() <= zero_tolerance(low_rank, q)).sum(dim=0)
            state = replace(state, pool=Pool(q, zeros, found.unique), samples_drawn=drawn + found.starts)
            state = timed(state, "halfspace", began)
            yield state
            began = time.perf_counter()
            fullest = max(state, fullest, key=lambda state: len(state.pool))
            if len(state.pool) == low_rank.batch_size:
                tried = _tried(problem, forward, state, training, generator, deadline)
                state = replace(state, seconds=tried.seconds)
                best = max(best or tried, tried, key=_worth)
                if _replays(best):
                    break
                began = time.perf_counter()
        # directions that are unique and agree with their samples: another search would find the same
        settled = len(state.pool) == low_rank.batch_size and bool(state.pool.unique.all())
        if settled or max_samples is not None or time.monotonic() >= deadline:
            break
    if best is None and len(fullest.pool):
        best = _tried(problem, forward, fullest, training, generator, deadline)
    last = replace(state, step="certificate") if best is None else best
    yield replace(last, samples_drawn=state.samples_drawn, seconds=state.seconds)


def _tried(
    problem: Problem,
    forward: Forward,
    state: State,
    training: LocalTraining,
    generator: torch.Generator | None,
    deadline: float,
) -> State:
    """The state with the batch that its directions give, and what the simulated client says of it."""
    began = time.perf_counter()
    found = reconstruct(forward, state.pool.directions)
    certificate = replayed(problem, forward, found, training, generator=generator, deadline=deadline)
    state = replace(state, step="certificate", reconstruction=found, certificate=certificate)
    return timed(state, "replay", began)


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
    limit = max(rounding_residual(low_rank.noise), replay_residual(client.rounding))
    error = update_error(low_rank, found, zeros)
    labels, residuals = None, [torch.inf, torch.inf]
    if k == low_rank.batch_size and not problem.branches and problem.layers[-1].activation is None:
        inputs = found.coefficients * client.scale
        labels = client.labels(inputs, found.output_grads)
        schedule = find_schedule(
            client,
            training,
            inputs,
            labels,
            found.output_grads,
            generator=generator,
            thorough=bool(unique.all()),
            deadline=deadline,
        )
        reach = REACH * float(error.max() * found.inputs.abs().max() / found.inputs.square().mean().sqrt())
        residuals = replayed_residuals(client, inputs, labels, schedule, limit=limit, reach=reach)
    return Certificate(
        batch_size=low_rank.batch_size,
        gradient_residual=residuals[0],
        limit=limit,
        agreeing_rows=None,
        unique_rows=unique,
        independent_rows=torch.zeros_like(unique),
        replay_residual=max(residuals[1:], default=torch.inf),
        expected_error=error,
        labels=labels,
        output_grads=found.output_grads,
        plural_rows=torch.zeros_like(unique),
    )


def _replays(state: State) -> bool:
    """Whether the simulated client sends the update again, so that no other batch would do better."""
    certificate = state.certificate
    return certificate is not None and all(certificate.parts[part] for part in (GRADIENT, REPLAY))


def _worth(state: State) -> float:
    """How close the replay of a complete batch comes."""
    assert state.certificate is not None  # every attempt has one
    return -max(state.certificate.gradient_residual, state.certificate.replay_residual)
