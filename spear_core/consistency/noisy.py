"""The batch behind a gradient with noise on every entry: a least-squares estimate, with its expected error.

Noise gives the gradient full rank and fills its zeros, so nothing can be exact and nothing is certified. But b rows
of n numbers are still estimated from m·n noisy entries. Two layers' consistency (`consistency`), without its demand
for rounding: for every activation pattern that the walk arrives at, z is the vector of span[M, β] whose σ(z) is
closest to 𝒴. What remains is mostly the noise of the row space, x = c R with R = Lᵀ G: an error of about ν ‖c‖ per
entry, with ν the deviation of the noise, read off the singular values behind b.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.certificate.certify import expected_error
from spear_core.certificate.record import Certificate
from spear_core.consistency.finish import pattern_newton
from spear_core.consistency.masked_least_squares import DENSE_STEPS, active, factorise, null_vectors
from spear_core.consistency.relation import Relation, relate
from spear_core.consistency.walk import crowding, starts_per_sample, walk
from spear_core.linalg import first_apart
from spear_core.problem import Problem
from spear_core.search import Budget, Method, State, Step, Target
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import from_coefficients, gradient_residual
from spear_core.tolerances import noise_per_entry, rounding_residual

ROUNDS = 12  # of random starts, while fewer than b samples are apart
FEWEST_STARTS = 64  # of a round; nothing is taken out between rounds, so each starts on all samples
PASSES, STEPS = 8, 8  # new patterns in float32, and conjugate gradients for each
NOISY_SCALE_AGREES = 0.5  # how far the scales that β and the bias gradient tell may differ under noise
APART = 0.03  # samples whose z differ by less, relative to their length, count as one
COEFFICIENTS = 1.7  # times the error of R: what the error of c makes of it; measured, 1.3 to 2.6
POOR = 4.0  # times the median misfit, above which a candidate is no sample
FINISHES = 3  # renewals of the pattern in float64


def is_noisy(problem: Problem, low_rank: LowRank) -> bool:
    """Whether the floor of the spectrum is above all that may be certified, and two layers with ReLU follow."""
    if not problem.attacked.has_relu or len(problem.layers) < 2:
        return False
    spans = min(problem.layers[1].weight_grad.shape) > low_rank.batch_size
    return spans and low_rank.noise > rounding_residual(low_rank.noise)


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """The estimate as states, one after every round of starts; see `spear_core.search.Search`.

    The target is split for the given b, and `is_noisy`. At most `ROUNDS` rounds, whatever the budget says of starts.
    """
    began = time.perf_counter()
    b, relation = target.batch_size, relate(target, target.batch_size)
    state = replace(before, step=Step.CONSISTENCY, method="least squares")
    rays = relation.inner.new_zeros(relation.inner.shape[1], 0)
    for _ in range(ROUNDS):
        rays = _distinct(relation, torch.cat([rays, _round(relation, budget)], dim=1))
        c, _ = relation.scaled(rays, NOISY_SCALE_AGREES)
        found = from_coefficients(target.forward, c.T, c.new_full((b, c.shape[1]), torch.nan))
        drawn = state.samples_drawn + _starts(relation)
        state = replace(state, samples_drawn=drawn, reconstruction=found).timed("consistency", began)
        yield state
        began = time.perf_counter()
        if rays.shape[1] == b or budget.late:
            break
    yield from conclude(target, state, budget)


def _starts(relation: Relation) -> int:
    crowded = crowding(relation.inner, relation.outer)
    return max(FEWEST_STARTS, int(relation.batch_size * starts_per_sample(crowded)))


def _round(relation: Relation, budget: Budget) -> Tensor:
    """Rays u of z = Φ u from fresh starts, unit columns, those whose scales agree."""
    start = torch.randn(relation.inner.shape[1], _starts(relation), generator=budget.generator)
    inner, outer = relation.inner.to(torch.float32), relation.outer.to(torch.float32)
    near = walk(inner, outer, start.to(inner.device), deadline=budget.deadline)
    u = pattern_newton(inner, outer, near, passes=PASSES, steps=STEPS).to(torch.float64)
    for _ in range(FINISHES):
        pattern = active(relation.inner, u)
        lower = factorise(relation.inner, relation.outer, pattern, u)
        u = null_vectors(relation.inner, relation.outer, u, pattern, DENSE_STEPS, lower)
    u = u[:, u.isfinite().all(dim=0)]
    return u[:, relation.scaled(u, NOISY_SCALE_AGREES)[1]]


def _distinct(relation: Relation, rays: Tensor) -> Tensor:
    """At most b rays, those of least misfit first, none close to an earlier one."""
    misfit = relation.misfit(torch.relu(relation.inner @ rays))
    order = misfit.argsort()
    typical = misfit[order[: relation.batch_size]].median() if len(order) else 0.0
    rays = rays[:, order[misfit[order] < POOR * typical]]
    return rays[:, first_apart(torch.cdist(rays.T, rays.T) < APART)[: relation.batch_size]]


def conclude(target: Target, state: State, budget: Budget) -> Iterator[State]:
    """The state with a certificate that proves nothing, but states the expected error, and the labels."""
    began, low_rank, found = time.perf_counter(), target.low_rank, state.reconstruction
    if found is None:  # stopped before the first round had ended
        yield replace(state, step=Step.CERTIFICATE)
        return
    error = COEFFICIENTS * expected_error(low_rank, found, None)
    played = None
    if len(error) == low_rank.batch_size and target.later is not None:
        played = target.later.replay(target, found.preactivations, None)
    residual = gradient_residual(found, target.problem.attacked) if found.separated else torch.inf
    certificate = Certificate(
        batch_size=low_rank.batch_size,
        output_grads=found.output_grads,
        expected_error=error,
        limit=0.0,
        gradient_residual=residual,
        labels=None if played is None else played.loss.labels,
    )
    noise = noise_per_entry(low_rank.floor, target.problem.attacked.weight_grad.shape)
    typical = float(error.median()) if len(error) else torch.inf
    note = (
        f"least squares under noise of {noise:.1e} per entry of the gradient: expected error {typical:.1e} "
        "of the largest input, nothing is exact"
    )
    state = replace(state, step=Step.CERTIFICATE, certificate=certificate).noted(note)
    yield state.timed("certificate", began)


NOISY = Method("least squares", search, conclude, finds_samples=True)
