"""Forward consistency with ReLU: the relation is homogeneous, so a sample is a ray, and an exact one.

relu(t z) = t relu(z) for t > 0: the search runs over unit vectors z = Φ u of span[M, β], and β is one more
unknown direction. Its scale comes last, from the bias gradients.
"""

import time

import torch
from torch import Tensor

from spear_core.consistency.deflation import determined
from spear_core.consistency.exact import exact_null_vectors, weakest_directions
from spear_core.consistency.finish import pattern_newton
from spear_core.consistency.masked_least_squares import active, null_vectors
from spear_core.consistency.relation import Relation
from spear_core.consistency.walk import crowding, starts_per_sample, walk
from spear_core.linalg import is_first, orthogonal_complement, units
from spear_core.tolerances import SPARE_EQUATIONS

NEAR = 0.15  # misfit below which a walker sits in the basin of a sample
CONVERGED = 1e-3  # misfit in float32 below which the finish has arrived; anything else is not worth float64
FEWEST_STARTS = 32
STEPS = 8  # of conjugate gradients for one pattern
FIRST_PASSES, PASSES = 2, 6  # new patterns before and after duplicates are dropped
UNLIKE = 0.03  # unit vectors closer than this after the first passes are mostly one sample
# of conjugate gradients: few, since more would follow the noise of equations that say little
LEAST_CHANGE_STEPS = 12
AT_ONCE = 72  # candidates finished between two looks at the clock
CONVERGED_APART = 1e-3  # after the finish, closer ones are the same sample or wait for its deflation


def candidates(
    relation: Relation,
    found: Tensor,
    directions: tuple[Tensor | None, Tensor],
    idle: int,
    generator: torch.Generator | None,
    deadline: float = float("inf"),
) -> tuple[int, Tensor, Tensor]:
    """One round: walk from fresh starts in what is left of the two spaces, and finish.

    Args:
        relation: the two layers.
        found: coefficients of the samples found, shape (k, r).
        directions: their q in layer 1 (None where b > r) and in layer 2, as columns, NaN where unknown.
        idle: rounds since the last find.
        generator: source of the starts.
        deadline: `time.monotonic()` after which the round ends with what it has.

    Returns:
        How many starts; candidates c as columns, shape (r, k); for each the unit change of z, shape (m, k), that its
        equations exclude least.
    """
    # every third idle round starts afresh, in case a direction is wrong and hides the sample it should spare
    whole = relation.inner, relation.triangle, relation.outer
    inner, triangle, outer = whole if idle % 3 == 2 else _deflated(relation, directions)
    missing = relation.batch_size - len(found)
    count = max(FEWEST_STARTS, int(missing * starts_per_sample(crowding(inner, outer))))
    start = starts(triangle, count, generator)
    small_inner, small_outer = inner.to(torch.float32), outer.to(torch.float32)
    walkers = walk(small_inner, small_outer, start, effort=idle, deadline=deadline)
    near = walkers[:, _distinct(small_inner, small_outer, walkers, NEAR, 0.0)]
    if time.monotonic() > deadline:
        near = near[:, :0]
    near = pattern_newton(small_inner, small_outer, near, passes=FIRST_PASSES, steps=STEPS)
    near = near[:, _distinct(small_inner, small_outer, near, NEAR, UNLIKE if idle == 0 else 0.0)]
    steps = STEPS if idle == 0 else 3 * STEPS
    near = pattern_newton(small_inner, small_outer, near, passes=PASSES, steps=steps)
    near = near[:, _distinct(small_inner, small_outer, near, NEAR, CONVERGED_APART)]
    near = near[:, _converged(relation, inner @ near.to(torch.float64))].to(torch.float64)
    parts = [p for p in near.split(AT_ONCE, dim=1) if time.monotonic() <= deadline] or [near[:, :0]]
    pairs = [_exact(relation, inner, part, generator) for part in parts]
    exact, weak = (torch.cat(tensors, dim=1) for tensors in zip(*pairs, strict=True))
    c, scale_agrees = _scaled(relation, exact)
    return count, c[:, scale_agrees], weak[:, scale_agrees]


def _exact(
    relation: Relation, inner: Tensor, near: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Converged rays, in what deflation has left of span[M, β], to full precision: in the whole of it, where it can be.

    A sample with fewer active units than there are unknowns is determined only together with those found before.
    There, what its own equations say nothing about stays as duality with the others has it.

    Returns:
        u as unit columns in Φ, shape (r, K), and the changes of z that are excluded least, shape (m, K).
    """
    rays = relation.inner.T @ (inner @ near)
    alone = stands_alone(inner @ near, relation.inner.shape[1])
    exact, weak = torch.zeros_like(rays), torch.zeros_like(inner @ near)
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
    """Whether a sample's own equations can determine it: more active units than unknowns, shape (k,).

    Args:
        z: as columns, shape (m, k).
        unknowns: dimension of what z is sought in.
    """
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

    Args:
        triangle: T with [M, β] = Φ T, shape (r, ·).
        count: how many.
        generator: CPU generator.

    Returns:
        u as columns in Φ, float32, shape (r, count).
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
        outer = torch.linalg.qr(relation.rows.T @ orthogonal_complement(determined(second)))[0]
    return inner, triangle, outer


def _distinct(inner: Tensor, outer: Tensor, u: Tensor, near: float, apart: float) -> Tensor:
    """Indices of the u with a misfit below `near`, best first, one of those that are closer than `apart`."""
    y = torch.relu(inner @ u)
    misfit = (y - outer @ (outer.T @ y)).norm(dim=0) / y.norm(dim=0)
    order = misfit.argsort()
    order = order[misfit[order] < near]
    distance = torch.cdist(u[:, order].T, u[:, order].T, compute_mode="donot_use_mm_for_euclid_dist")
    return order[is_first(distance < apart)]


def _converged(relation: Relation, z: Tensor) -> Tensor:
    """Which z have a misfit at the rounding of float32, or at the noise of the gradients: mask, shape (K,)."""
    allowed = relation.believable_misfit(z).clamp(CONVERGED, NEAR)
    return relation.misfit(torch.relu(z)) < allowed


def _scaled(relation: Relation, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Rays u → coefficients c as columns, and where the coefficient of β comes out as 1.

    c · Lᵀ g = 1, or in the next layer p · L₂ᵀ g₂ = 1, fixes the scale more precisely than β does, which is a
    small part of z, and where β = 0 as well. β is then an independent check.
    """
    ray = torch.linalg.solve_triangular(relation.triangle, exact, upper=True)
    r = relation.basis.shape[1]
    mean, next_mean = relation.mean_gradients()
    if relation.overfull:
        scale = next_mean @ relation.next_coefficients(torch.relu(relation.inner @ exact))
    else:
        scale = mean @ ray[:r]
    agrees = scale > 0
    if relation.has_bias:
        agrees &= (ray[-1] / scale - 1).abs() < 0.1
    return ray[:r] / scale, agrees
