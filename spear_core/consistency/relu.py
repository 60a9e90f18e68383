"""Forward consistency with ReLU: the relation is homogeneous, so a sample is a ray, and an exact one.

relu(t z) = t relu(z) for t > 0: the search runs over unit vectors z = Φ u of span[M, β], and β is one more
unknown direction. Its scale comes last, from the bias gradients.
"""

import torch
from torch import Tensor

from spear_core.consistency.deflation import determined
from spear_core.consistency.exact import exact_null_vectors, weakest_directions
from spear_core.consistency.finish import pattern_newton
from spear_core.consistency.masked_least_squares import active, null_vectors
from spear_core.consistency.relation import SCALE_AGREES, Relation
from spear_core.consistency.walk import FEWEST_STARTS, NEAR, crowding, starts_per_sample, walk
from spear_core.linalg import best_apart, misfit, orthogonal_complement, orthonormal, units
from spear_core.search import Budget
from spear_core.tolerances import SPARE_EQUATIONS

CONVERGED = 1e-3  # misfit in float32 below which the finish has arrived; anything else is not worth float64
STEPS = 8  # of conjugate gradients for one pattern
FIRST_PASSES, PASSES = 2, 6  # new patterns before and after duplicates are dropped
UNLIKE = 0.03  # unit vectors closer than this after the first passes are mostly one sample
CONVERGED_APART = 1e-3  # after the finish, closer ones are the same sample or wait for its deflation
LEAST_CHANGE_STEPS = 12  # of conjugate gradients: more would follow the noise of equations that say little
AT_ONCE = 72  # candidates finished between two looks at the clock


def candidates(
    relation: Relation, directions: tuple[Tensor | None, Tensor], idle: int, budget: Budget
) -> tuple[int, Tensor, Tensor]:
    """One round: walk from fresh starts in what is left of the two spaces, and finish.

    Args:
        relation: the two layers.
        directions: q of the samples found in layer 1 (None where b > r) and in layer 2, as columns, NaN where unknown.
        idle: rounds since the last find.
        budget: its generator, and the deadline at which the round ends with what it has.

    Returns:
        How many starts; candidates c as columns, shape (r, k); for each the unit change of z, shape (m, k), that its
        equations exclude least.
    """
    # every third idle round starts afresh, in case a direction is wrong and hides the sample it should spare
    whole = relation.inner, relation.triangle, relation.outer
    inner, triangle, outer = whole if idle % 3 == 2 else _deflated(relation, directions)
    small = inner.to(torch.float32), outer.to(torch.float32)

    def best(u: Tensor, apart: float) -> Tensor:
        return u[:, best_apart(u, misfit(small[1], torch.relu(small[0] @ u)), NEAR, apart)]

    missing = relation.batch_size - directions[1].shape[1]
    count = max(FEWEST_STARTS, int(missing * starts_per_sample(crowding(inner, outer))))
    start = starts(triangle, count, budget.generator)
    near = best(walk(*small, start, effort=idle, deadline=budget.deadline), 0.0)
    if budget.late:
        near = near[:, :0]
    # a first round has many walkers of each sample: most of them need no finish; later ones get a longer one
    near = pattern_newton(*small, near, passes=FIRST_PASSES, steps=STEPS)
    near = best(near, 0.0 if idle else UNLIKE)
    near = pattern_newton(*small, near, passes=PASSES, steps=3 * STEPS if idle else STEPS)
    near = best(near, CONVERGED_APART)
    near = near[:, relation.may_be_samples(inner @ near.to(torch.float64), CONVERGED, NEAR)].to(torch.float64)
    # float64 takes long, so the clock is looked at between parts
    parts = [part for part in near.split(AT_ONCE, dim=1) if not budget.late] or [near[:, :0]]
    pairs = [_exact(relation, inner, part, budget.generator) for part in parts]
    exact, weak = (torch.cat(tensors, dim=1) for tensors in zip(*pairs, strict=True))
    c, agrees = relation.scaled(exact, SCALE_AGREES)
    return count, c[:, agrees], weak[:, agrees]


def _exact(
    relation: Relation, inner: Tensor, near: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Converged rays, in what deflation has left of span[M, β], to full precision: in the whole of it, where it can be.

    A sample with fewer active units than there are unknowns is determined only together with those found before.
    There, what its own equations say nothing about stays as duality with the others has it.

    Returns:
        u as unit columns in Φ, shape (r, K), and the changes of z that are excluded least, shape (m, K).
    """
    z = inner @ near
    rays, weak = relation.inner.T @ z, torch.zeros_like(z)
    alone = stands_alone(z, relation.inner.shape[1])
    exact = torch.zeros_like(rays)
    exact[:, alone], own_weak = exact_null_vectors(relation.inner, relation.outer, rays[:, alone], generator)
    weak[:, alone] = relation.inner @ own_weak
    if not alone.all():
        left, left_weak = exact_null_vectors(inner, relation.outer, near[:, ~alone], generator)
        pattern = active(inner, left)
        lifted = units(relation.inner.T @ (inner @ left))
        exact[:, ~alone] = null_vectors(relation.inner, relation.outer, lifted, pattern, LEAST_CHANGE_STEPS)
        weak[:, ~alone] = inner @ left_weak
    return exact, weak


def stands_alone(z: Tensor, unknowns: int) -> Tensor:
    """Whether the own equations of samples, z as columns, can determine them: more active units than unknowns."""
    return (z > 0).sum(dim=0) >= unknowns + SPARE_EQUATIONS


def weakest_changes(relation: Relation, c: Tensor, generator: torch.Generator | None) -> Tensor:
    """For given samples c (as columns): the unit changes of z that their equations exclude least, (m, k)."""
    rays = units(relation.inner.T @ relation.hidden(c.T))
    return relation.inner @ weakest_directions(relation.inner, relation.outer, rays, generator)


def starts(triangle: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Random rays that look like the data, between evenly spread ones and ones as skewed as M itself.

    Samples resemble each other: they lie near the directions in which M is large. Even starts fall for the few
    samples that stand apart, over and over; starts u = V Λ^(α/2) n, with T Tᵀ = V Λ Vᵀ, normal n and α between
    0 and 1, reach about twice as many different ones.

    `triangle` is T with [M, β] = Φ T, shape (r, ·); the result are u as columns in Φ, float32, shape (r, count).
    """
    values, axes = torch.linalg.eigh(triangle @ triangle.T)
    skew = torch.rand(count, dtype=values.dtype, generator=generator).to(values.device) / 2
    normal = torch.randn(len(values), count, dtype=values.dtype, generator=generator).to(values.device)
    # relative to the largest, lest powers overflow; rounding may leave the smallest below zero
    sizes = (values / values[-1:]).clamp_min(torch.finfo(values.dtype).eps)[:, None] ** skew
    return (axes @ (sizes * normal)).to(torch.float32)


def _deflated(relation: Relation, directions: tuple[Tensor | None, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Φ, T and Y of the samples not yet found: c ⟂ q_i in layer 1, p ⟂ q_i in layer 2."""
    first, second = directions
    inner, triangle, outer = relation.inner, relation.triangle, relation.outer
    if first is not None and determined(first).shape[1]:
        left = relation.basis @ orthogonal_complement(determined(first))
        left = torch.cat([left, relation.bias[:, None]], dim=1) if relation.has_bias else left
        inner, triangle = torch.linalg.qr(left)
    if determined(second).shape[1]:
        outer = orthonormal(relation.splits[1].rows.T @ orthogonal_complement(determined(second)))
    return inner, triangle, outer
