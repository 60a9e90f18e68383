"""Steps 2–4 in milliseconds: two consecutive layers tell everything (forward consistency).

The gradients of two consecutive layers hold the same secret twice:

- layer 1: Xᵀ = Q⁻¹ R, so z_i = W x_i + β = M c_i + β with M = W Rᵀ known and c_i the i-th row of Q⁻¹;
- layer 2: ∂L/∂W₂ = (∂L/∂Z₂) Yᵀ, so y_i = σ(z_i) lies in the row space 𝒴 of ∂L/∂W₂, a known b-dimensional
  subspace of ℝᵐ.

A sample is a z ∈ span[M, β] with σ(z) ∈ 𝒴: m − b equations for b unknowns and no search over rows. From
random starts, all at once, this module repeats four moves:

1. **walk** (`walk`): projections between the two spaces bring most starts near a sample;
2. **finish** (`finish`): with the activation pattern fixed, the exact z is a null vector;
3. **judge** (`judge`): a sample is reported only if σ(z) meets 𝒴 to rounding, the bias gradients
   agree, and nothing near it does as well (mixtures of two samples with one pattern are refused);
4. **deflate** (`deflation`): what is found is taken out of *both* spaces; the rest is a smaller, easier
   problem in which nothing is found twice.

The first two moves differ by activation: `relu` uses that ReLU's relation is homogeneous, `smooth` takes any σ. Where
the next layer's gradient has rank below b, 𝒴 misses samples and the method does not apply. Near b = m/2, where one
relation runs out of equations, `coupled` takes several at once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.certificate.certify import certified
from spear_core.consistency import twins
from spear_core.consistency.deflation import found_directions
from spear_core.consistency.judge import judge
from spear_core.consistency.relation import Relation, relate
from spear_core.consistency.relu import stands_alone
from spear_core.consistency.walk import REFLECT_FROM, crowding
from spear_core.consistency.witness import judge_given, moves_for, overdetermined, well_counted
from spear_core.linalg import is_first
from spear_core.search import Budget, Method, State, Step, Target, stopped_late
from spear_core.spear.reconstruction import from_coefficients, reconstruct
from spear_core.spear.zeros import fit
from spear_core.tolerances import SAME_SAMPLE

ERROR_MARGIN = 10.0  # two finds of one sample may differ by so many expected errors
STARTS_PER_SAMPLE = 400  # default budget
PATIENCE = 12  # rounds without a find after which the rest is left to another method
# the same where nothing was ever found, though walks of this kind always arrive; and for rounds that find nothing but
# mixtures of samples with one pattern, which no start can part
LESS_PATIENCE = 4


@dataclass(frozen=True)
class Found:
    """What is found after a round.

    Attributes:
        coefficients: c_i as rows, shape (k, r), float64: x_i = c_i @ low_rank.rows.
        directions: q_i as columns, shape (b, k), unit length, in the basis L = low_rank.factor:
            ∂L/∂z_i ∝ L q_i. Where b > r (more samples than independent inputs) layer 1 does not separate the
            samples, and these are the `next_directions`. NaN where not yet determined.
        next_directions: the same for the next layer, in the basis of the factor of its gradient.
        misfit: distance of σ(z_i) from the row space 𝒴, relative to its length, shape (k,).
        error: what the noise of the gradients may have done to z_i, relative to its length, shape (k,).
        starts: random starts so far.
    """

    coefficients: Tensor
    directions: Tensor
    next_directions: Tensor
    misfit: Tensor
    error: Tensor
    starts: int = 0

    def __len__(self) -> int:
        return len(self.coefficients)


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """Samples round by round from the gradients of two consecutive layers; see `spear_core.search.Search`.

    By default at most 400 random starts per sample. Samples whose activation patterns are the same are left out by the
    rounds, which all their mixtures satisfy as well, and told apart at the end where the rest of the network does that
    (`twins`).

    Raises:
        InputError: if there is no second layer, or if its gradient has a lower rank than the first one's.
    """
    began = time.perf_counter()
    known = None if before.reconstruction is None else before.reconstruction.coefficients
    state = replace(before, step=Step.CONSISTENCY, method="consistency")
    for found in rounds(target, budget, known):
        batch = from_coefficients(target.forward, found.coefficients, found.directions)
        state = replace(state, samples_drawn=found.starts, reconstruction=batch).timed("consistency", began)
        yield state
        began = time.perf_counter()
    missing, late = target.batch_size - len(found), budget.late
    state = replace(state, notes=stopped_late(budget, missing, f"{found.starts:,} random starts"))
    (result,) = conclude(target, state, budget)
    if not late and not target.crowded and twins.applies(target.problem, found.directions):
        result = _with_twins(target, state, result, budget)
    yield result


def rounds(target: Target, budget: Budget, known: Tensor | None = None) -> Iterator[Found]:
    """What is found after each round, at least once.

    Samples `known` from another method, as their coefficients, shape (k, r), are taken out from the start.
    """
    relation = relate(target, target.batch_size)
    max_starts = budget.max_samples or STARTS_PER_SAMPLE * relation.batch_size
    empty, b = relation.basis.new_empty, relation.batch_size
    found = Found(empty(0, relation.basis.shape[1]), empty(b, 0), empty(b, 0), empty(0), empty(0))
    if known is not None and len(known):
        c = relation.to_sources(known.to(relation.basis)).T
        _, misfit, error, _ = judge_given(relation, c, budget.generator)
        found = _merge(relation, found, c, misfit, error)
    candidates = moves_for(target.problem.attacked).candidates
    easy = crowding(relation.inner, relation.outer) < REFLECT_FROM
    idle = only_mixtures = 0
    while True:
        # walk and finish, judge, deflate
        directions = None if relation.overfull else found.directions, found.next_directions
        starts, new, weak = candidates(relation, directions, idle, budget)
        true, misfit, error, undetermined = judge(relation, new, weak)
        best = misfit.argsort()
        best = best[true[best]]
        before = len(found)
        found = _merge(relation, found, new[:, best], misfit[best], error[best])
        found = replace(found, starts=found.starts + starts)
        yield found
        # go on while there is something to hope for
        idle = idle + 1 if len(found) == before else 0
        only_mixtures = only_mixtures + bool(undetermined.any()) if idle else 0
        complete = len(found) >= relation.batch_size
        spent = found.starts >= max_starts or budget.late
        patience = LESS_PATIENCE if easy and not len(found) else PATIENCE
        if complete or spent or idle >= patience or only_mixtures >= LESS_PATIENCE:
            return


def _merge(relation: Relation, found: Found, c: Tensor, misfit: Tensor, error: Tensor) -> Found:
    """Add what is new to what is found, and the directions as far as they follow.

    New is what lies further from everything found than its error allows.
    """
    if c.shape[1] == 0:
        return found
    known = relation.to_sources(found.coefficients)
    together = torch.cat([known, c.T])
    misfit, errors = torch.cat([found.misfit, misfit]), torch.cat([found.error, error])
    z = relation.hidden(together).T
    inside = z @ relation.inner  # distances are the same in coordinates of span [M, β]
    blur = (ERROR_MARGIN * error).clamp_min(SAME_SAMPLE)
    reach = torch.cat([z.new_zeros(len(known)), blur]) * z.norm(dim=1)
    apart = torch.cdist(inside, inside, compute_mode="use_mm_for_euclid_dist")
    first = is_first(apart < reach[:, None])
    together, misfit, errors = (t[first][: relation.batch_size] for t in (together, misfit, errors))
    before = found.directions, found.next_directions
    directions, next_directions = found_directions(relation, together, before)
    return replace(
        found,
        coefficients=relation.to_rows(together),
        directions=next_directions if relation.overfull else directions,
        next_directions=next_directions,
        misfit=misfit,
        error=errors,
    )


def _with_twins(target: Target, state: State, result: State, budget: Budget) -> State:
    """The certified state with the last samples told apart, or without them where that proves more."""
    began, found = time.perf_counter(), state.reconstruction
    assert found is not None
    rest = twins.told_apart(target, found.coefficients, found.directions, budget)
    if rest is None:
        return result
    together = from_coefficients(target.forward, torch.cat([found.coefficients, rest]), found.directions)
    # not a state of its own before its certificate: the next layer has not judged these samples, as it has the others
    whole = replace(state, reconstruction=together).timed("consistency", began)
    whole = certified(target, whole, budget)
    # of samples too alike for rounding, guesses would spoil what is proven of the others
    return whole if whole.proven >= result.proven else result


def conclude(target: Target, state: State, budget: Budget) -> Iterator[State]:
    """Any state of this search with the certificate of the samples found so far, each of which it has judged."""
    batch = state.reconstruction
    if batch is None:  # nothing was begun
        yield replace(state, step=Step.CERTIFICATE)
        return
    if (
        batch.sparsity_match < 1
        and len(batch.coefficients) == target.low_rank.batch_size == target.batch_size
    ):
        # where layer 1 is sharper than the next one, as of one-hot inputs, directions are as sharp as their zeros
        fitted = reconstruct(target.forward, fit(target.low_rank, batch.directions))
        if fitted.sparsity_match == 1:
            yield certified(target, replace(state, reconstruction=fitted), budget)
            return
    # samples that stand only with the help of others are judged by their zeros as well
    relation = relate(target, target.batch_size)
    alone = overdetermined(relation) and (
        not target.problem.attacked.has_relu
        or bool(stands_alone(batch.preactivations.T, target.low_rank.batch_size).all())
    )
    complete = len(batch.coefficients) == target.batch_size
    alone = alone and bool(
        well_counted(relation, relation.to_sources(batch.coefficients), whole=complete).all()
    )
    yield certified(target, state, budget, judged=alone)


CONSISTENCY = Method("consistency", search, conclude, finds_samples=True)
