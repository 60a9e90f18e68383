"""Steps 2–4 in milliseconds: two consecutive layers tell everything (forward consistency).

The gradients of two consecutive layers hold the same secret twice:

- layer 1: Xᵀ = Q⁻¹ R, so z_i = W x_i + β = M c_i + β with M = W Rᵀ known and c_i the i-th row of Q⁻¹;
- layer 2: ∂L/∂W₂ = (∂L/∂Z₂) Yᵀ, so y_i = σ(z_i) lies in the row space 𝒴 of ∂L/∂W₂, a known b-dimensional
  subspace of ℝᵐ.

A sample is a z ∈ span[M, β] with σ(z) ∈ 𝒴: m − b equations for b unknowns and no search over rows. From
random starts, all at once, this module repeats four moves:

1. **walk** (`consistency_walk`): projections between the two spaces bring most starts near a sample;
2. **finish** (`consistency_finish`): with the activation pattern fixed, the exact z is a null vector;
3. **judge** (`consistency_judge`): a sample is reported only if σ(z) meets 𝒴 to rounding, the bias gradients
   agree, and nothing near it does as well (mixtures of two samples with one pattern are refused);
4. **deflate** (`deflation`): what is found is taken out of *both* spaces; the rest is a smaller, easier
   problem in which nothing is found twice.

The first two moves differ by activation: `consistency_relu` uses that ReLU's relation is homogeneous,
`consistency_smooth` takes any σ. Where the next layer's gradient has rank below b, 𝒴 misses samples and the
method does not apply. Near b = m/2, where one relation runs out of equations, `coupled` takes several at once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor

from spear_core.consistency import relu as consistency_relu
from spear_core.consistency import smooth as consistency_smooth
from spear_core.consistency.deflation import found_directions
from spear_core.consistency.judge import judge
from spear_core.consistency.relation import Relation, relate
from spear_core.consistency.walk import CROWDED, crowding
from spear_core.problem import LinearLayer, Problem
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Forward

ERROR_MARGIN = 10.0  # two finds of one sample may differ by so many expected errors
SAME_SAMPLE = 1e-4  # two finds closer than this, relative to ‖z‖, are one sample in any case
STARTS_PER_SAMPLE = 400  # default budget
PATIENCE = 12  # rounds without a find after which the rest is left to another method
LESS_PATIENCE = (
    4  # where nothing was ever found, though walks of this kind always arrive; and for rounds that
)
# find nothing but mixtures of samples with one pattern, which no start can part


@dataclass(frozen=True)
class Found:
    """State of the search after a round: what is found, and where the walkers stand.

    Attributes:
        coefficients: c_i as rows, shape (k, r), float64: x_i = c_i @ low_rank.rows.
        directions: q_i as columns, shape (b, k), unit length, in the basis L = low_rank.factor:
            ∂L/∂z_i ∝ L q_i. Where b > r (more samples than independent inputs) layer 1 does not separate the
            samples, and these are the `next_directions`. NaN where not yet determined.
        next_directions: the same for the next layer, in the basis of the factor of its gradient.
        misfit: distance of σ(z_i) from the row space 𝒴, relative to its length, shape (k,).
        error: what the noise of the gradients may have done to z_i, relative to its length, shape (k,).
        candidates: the walkers z as columns, shape (m, K), for drawing.
        rounds: rounds so far.
        starts: random starts so far.
    """

    coefficients: Tensor
    directions: Tensor
    next_directions: Tensor
    misfit: Tensor
    error: Tensor
    candidates: Tensor
    rounds: int
    starts: int


def search(
    problem: Problem,
    low_rank: LowRank,
    *,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
    known: Tensor | None = None,
    max_starts: int | None = None,
    forward: Forward | None = None,
) -> Iterator[Found]:
    """Find the samples of a batch from two consecutive layers, round by round.

    Args:
        problem: the attacked layer and at least one layer behind it.
        low_rank: split of the attacked layer's weight gradient.
        batch_size: b; default: the rank of the second layer's gradient.
        generator: source of all randomness (a CPU generator).
        deadline: value of `time.monotonic()` at which to stop, in the middle of a round as well.
        known: coefficients of samples found by another method, shape (k, r); taken out from the start.
        max_starts: give up after this many random starts; default: 400 per sample.
        forward: the attacked layer in the row space of its gradient, where that is at hand.

    Yields:
        The state after each round, at least once; the last one has all that was found. Samples whose
        activation patterns are the same are left out: this relation holds for all their mixtures as well.

    Raises:
        ValueError: if there is no second layer, or if its gradient has a lower rank than the first one's.
    """
    relation = relate(problem, low_rank, batch_size=batch_size, forward=forward)
    candidates = moves_for(problem.attacked).candidates
    max_starts = max_starts or STARTS_PER_SAMPLE * relation.batch_size
    state = _beginning(relation, known, generator)
    idle = only_mixtures = 0
    while True:
        c = relation.to_sources(state.coefficients)
        q = None if relation.crowded else state.directions
        directions = (q, state.next_directions)
        walkers, new, weak = candidates(relation, c, directions, idle, generator, deadline)
        true, misfit, error, undetermined = judge(relation, new, weak)
        best = misfit.argsort()
        best = best[true[best]]
        known_before = len(state.misfit)
        state = replace(
            _merge(relation, state, new[:, best], misfit[best], error[best]),
            candidates=walkers,
            rounds=state.rounds + 1,
            starts=state.starts + walkers.shape[1],
        )
        found_none = len(state.misfit) == known_before
        idle = idle + 1 if found_none else 0
        only_mixtures = only_mixtures + bool(undetermined.any()) if found_none else 0
        yield state
        complete = len(state.misfit) >= relation.batch_size
        spent = state.starts >= max_starts or time.monotonic() > deadline
        easy = not len(state.misfit) and crowding(relation.inner, relation.outer) < CROWDED
        hopeless = idle >= (LESS_PATIENCE if easy else PATIENCE) or only_mixtures >= LESS_PATIENCE
        if complete or spent or hopeless:
            return


def moves_for(layer: LinearLayer) -> ModuleType:
    """`consistency_relu` or `consistency_smooth`, whichever suits the activation behind a layer."""
    return consistency_relu if layer.has_relu else consistency_smooth


def _beginning(relation: Relation, known: Tensor | None, generator: torch.Generator | None) -> Found:
    empty = relation.basis.new_empty
    m, b = relation.outer.shape
    state = Found(
        empty(0, relation.basis.shape[1]), empty(b, 0), empty(b, 0), empty(0), empty(0), empty(m, 0), 0, 0
    )
    if known is None or len(known) == 0:
        return state
    c = relation.to_sources(known.to(relation.basis)).T
    weakest = moves_for(relation.layers[0]).weakest_changes(relation, c, generator)
    _, misfit, error, _ = judge(relation, c, weakest)
    return _merge(relation, state, c, misfit, error)


def _merge(relation: Relation, state: Found, c: Tensor, misfit: Tensor, error: Tensor) -> Found:
    """Add what is new to what is found, and the directions as far as they follow.

    New is what lies further from everything found than its error allows.
    """
    if c.shape[1] == 0:
        return state
    known = relation.to_sources(state.coefficients)
    together = torch.cat([known, c.T])
    misfit, errors = torch.cat([state.misfit, misfit]), torch.cat([state.error, error])
    z = relation.hidden(together).T
    inside = z @ relation.inner  # distances are the same in coordinates of span [M, β]
    blur = (ERROR_MARGIN * error).clamp_min(SAME_SAMPLE)
    reach = torch.cat([z.new_zeros(len(known)), blur]) * z.norm(dim=1)
    apart = torch.cdist(inside, inside, compute_mode="use_mm_for_euclid_dist")
    first = ~(apart < reach[:, None]).tril(-1).any(dim=1)
    together, misfit, errors = (t[first][: relation.batch_size] for t in (together, misfit, errors))
    before = state.directions, state.next_directions
    directions, next_directions = found_directions(relation, together, before)
    return replace(
        state,
        coefficients=relation.to_rows(together),
        directions=next_directions if relation.crowded else directions,
        next_directions=next_directions,
        misfit=misfit,
        error=errors,
    )
