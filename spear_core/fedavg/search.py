"""Exact inversion of a FedAvg update: several local steps, and the batch all the same.

θ₀ − θ_T is no gradient, but its first layer is η Σ_t (∂L/∂Z_t)ᵀ Xᵀ: of rank b, its row space exactly the span of the
inputs, with zeros where a unit stays inactive through all steps. So

1. split the update as one splits a gradient;
2. find the directions from the zeros that survive (`directions`), and with them X and η Σ_t ∂L/∂Z_t;
3. read off the labels, and the division into minibatches (`order`);
4. replay the client, all steps, and compare the whole update (`training`, `kinks`).

The replay is the proof: no averaged gradient enters it, and it must give every layer's update to rounding.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from spear_core.certificate.backprop import forward, label_errors
from spear_core.certificate.output_errors import explained
from spear_core.certificate.record import Certificate
from spear_core.certificate.single import single_rows
from spear_core.fedavg.directions import rounds
from spear_core.fedavg.error import update_error
from spear_core.fedavg.kinks import replayed_residuals
from spear_core.fedavg.order import find_schedule
from spear_core.fedavg.training import Client, LocalTraining
from spear_core.halfspace.search import pool_with
from spear_core.search import Budget, Method, State, Step, Target, stopped_late
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Reconstruction
from spear_core.spear.uniqueness import weigh
from spear_core.spear.zeros import zeros_of
from spear_core.tolerances import replay_residual, rounding_residual

REACH = 4.0  # times the expected error of the samples; a z so near to its kink may lie on either side
ATTEMPTS = 6  # searches from other random starts, while the replay does not give the update
# seconds for the order of minibatches and the kinks, after Ctrl-C and past a time limit
LAST_REPLAY = (4.0, 0.3)

TURNED = "the labels fit weights after − before: taken with the other sign"


def fedavg(training: LocalTraining) -> Method:
    """The method for an update: `training` is what the server told its clients to do."""
    return Method("fedavg", partial(search, training), partial(conclude, training))


def search(training: LocalTraining, target: Target, before: State, budget: Budget) -> Iterator[State]:
    """Directions, then the client played again; see `spear_core.search.Search`. By default `ATTEMPTS` searches.

    Layers have updates in the place of gradients. States hold the batch and the certificate of the best attempt so far.
    """
    b = target.low_rank.batch_size
    state = replace(before, step=Step.HALFSPACE, method="fedavg")
    fullest = state.pool
    for _ in range(ATTEMPTS):
        began, drawn = time.perf_counter(), state.samples_drawn
        for directions, unique, starts in rounds(target, budget):
            pool = pool_with(target.low_rank, directions, unique)
            state = replace(state, pool=pool, samples_drawn=drawn + starts).timed("halfspace", began)
            yield state
            fullest = max(pool, fullest, key=len)
            # a complete batch is played again; unless that gives the update, the search goes on
            if len(pool) == b:
                state = _better(state, _replayed(training, target, state, budget))
                yield state
                if state.certificate is not None and state.certificate.reproduces:
                    break
            began = time.perf_counter()
        # directions that are unique and agree with their samples: another search would find the same
        settled = len(state.pool) == b and bool(state.pool.unique.all())
        if settled or budget.max_samples is not None or budget.late:
            break
    # an incomplete batch is shown all the same, as a guess
    if state.certificate is None:
        state = replace(state, pool=fullest)
    late = stopped_late(budget, b - state.proven, f"{state.samples_drawn:,} random starts")
    yield from conclude(training, target, state.noted(*late), budget)


def conclude(training: LocalTraining, target: Target, state: State, budget: Budget) -> Iterator[State]:
    """The state with its best batch, or that of its directions, judged by the client played again."""
    if len(state.pool) and state.certificate is None:
        last = replace(budget, deadline=time.monotonic() + LAST_REPLAY[budget.late])
        yield _replayed(training, target, state, last)
    else:
        yield replace(state, step=Step.CERTIFICATE)


def _replayed(training: LocalTraining, target: Target, state: State, budget: Budget) -> State:
    """The state with the batch that its directions give, and what the simulated client says of it."""
    began = time.perf_counter()
    found = reconstruct(target.forward, state.pool.directions)
    certificate = simulated(target, found, training, budget)
    state = replace(state, step=Step.CERTIFICATE, reconstruction=found, certificate=certificate)
    if not torch.equal(certificate.output_grads, found.output_grads) and TURNED not in state.notes:
        state = state.noted(TURNED)
    return state.timed("replay", began)


def simulated(target: Target, found: Reconstruction, training: LocalTraining, budget: Budget) -> Certificate:
    """The certificate of an update: the simulated client must send all of it again, to rounding.

    The batch need not be complete. After the deadline, neither the order of minibatches nor units at their kinks are
    looked for.
    """
    # what the directions alone say; without a complete chain of layers that is all
    low_rank, problem, k = target.low_rank, target.problem, len(found.coefficients)
    unique = weigh(low_rank, found.directions, generator=budget.generator).unique
    client = Client.of(target, training)
    certificate = Certificate(
        batch_size=low_rank.batch_size,
        output_grads=found.output_grads,
        expected_error=update_error(low_rank, found, zeros_of(low_rank, found.directions)),
        limit=max(rounding_residual(low_rank.noise), replay_residual(client.rounding)),
        gradient_residual=torch.inf,
        unique_rows=unique,
        replay_residual=torch.inf,
    )
    if k < low_rank.batch_size or problem.branches or problem.layers[-1].activation is not None:
        return certificate
    # what the client saw, in which order, and on which side of its kinks
    inputs = found.coefficients * client.scale
    output_grads, cosines = found.output_grads, client.label_cosines(inputs, found.output_grads)
    if cosines.amax(dim=0).mean() < -cosines.amin(dim=0).mean():  # after − before
        client, output_grads, cosines = client.turned(), -output_grads, -cosines
    labels = cosines.argmax(dim=0)
    schedule = find_schedule(
        client, training, inputs, labels, output_grads, budget, thorough=bool(unique.all())
    )
    size = found.inputs.abs().max() / found.inputs.square().mean().sqrt()
    reach = REACH * float(certificate.expected_error.max() * size)
    limit, deadline = certificate.limit, budget.deadline
    first, *later = replayed_residuals(
        client, inputs, labels, schedule, limit=limit, reach=reach, deadline=deadline
    )
    others = max(later, default=torch.inf)
    # the client averages: what it sends of a sample has the weight of one
    passed = forward(problem.layers, found.preactivations)
    loss = explained(label_errors(passed.output, labels), labels)
    return replace(
        certificate,
        output_grads=output_grads,
        gradient_residual=first,
        replay_residual=others,
        labels=labels,
        single_rows=unique | True if target.told else single_rows(target, found, loss, passed.fewest),
    )


def _better(before: State, tried: State) -> State:
    """What was tried, or its directions with the batch of an attempt before whose replay came as close."""
    closer = before.certificate is None or _misfit(tried.certificate) < _misfit(before.certificate)
    return replace(tried if closer else before, step=Step.HALFSPACE, seconds=tried.seconds)


def _misfit(certificate: Certificate | None) -> float:
    """How far the replay of a complete batch is off."""
    assert certificate is not None and certificate.replay_residual is not None  # every attempt has one
    return max(certificate.gradient_residual, certificate.replay_residual)
