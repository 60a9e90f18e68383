"""Forward consistency with ReLU: the exact z once the activation pattern is right, and how firmly it stands.

σ(z) = a ∘ z ∈ 𝒴 reads A u = 0 with A = (I − Y Yᵀ) diag(a) Φ and z = Φ u. Small problems factorise A of every
candidate; large ones correct a float32 solution by its float64 residual. The direction that A shrinks most is
where noise moves z most, and where two samples share their pattern it is the one in which they mix.
`masked_least_squares` says what the letters mean.
"""

import torch
from torch import Tensor

from spear_core.consistency.masked_least_squares import (
    DENSE_SIZE,
    DENSE_STEPS,
    active,
    factorise,
    least_squares,
    null_vectors,
    smallest,
    squared,
)
from spear_core.linalg import beside, random_units, units

FEW = 3  # candidates for which thin products would be slower than a factorisation each
REFINEMENTS, REFINING_STEPS = 4, 16
SETTLED = 1e-8  # length of a step after which the next, a hundredth of it or less, is rounding
KICK, KICK_STEPS = 0.1, (16, 30)  # relative length of a random step that so many steps of float32 must undo
RETURNED = 1e-3  # what may be left of it
EDGE = 1e-4  # units this close to zero, relative to the rms of z, are tried on both sides


def exact_null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The null vectors to full precision, and the direction in which A determines each least, both unit columns.

    All in float64; `start` are unit columns u that have converged to float32 precision.
    """
    pattern = active(inner, start)
    exact, weak = _for_pattern(inner, outer, start, pattern, generator)
    # float32 leaves units near zero on the wrong side; the exact z puts them right
    moved = (active(inner, exact) != pattern).any(dim=0).nonzero().flatten()
    if len(moved):
        pattern[:, moved] = active(inner, exact[:, moved])
        exact[:, moved], weak[:, moved] = _for_pattern(
            inner, outer, exact[:, moved], pattern[:, moved], generator
        )
    return exact, _weakest_at_edges(inner, outer, exact, pattern, weak, generator)


def weakest_directions(
    inner: Tensor, outer: Tensor, exact: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """For given null vectors, as unit columns, the direction in which A determines each least."""
    pattern = active(inner, exact)
    _, weak = _for_pattern(inner, outer, exact, pattern, generator, is_exact=True)
    return _weakest_at_edges(inner, outer, exact, pattern, weak, generator)


def _for_pattern(
    inner: Tensor,
    outer: Tensor,
    start: Tensor,
    pattern: Tensor,
    generator: torch.Generator | None,
    *,
    is_exact: bool = False,
) -> tuple[Tensor, Tensor]:
    """`exact_null_vectors` for given patterns; a random vector stands for the weakest where nothing is weak."""
    if start.shape[0] <= DENSE_SIZE or start.shape[1] <= FEW:
        return _by_factors(inner, outer, start, pattern, generator)
    kick = random_units(start.shape, start, generator)
    exact, weak = (start.clone() if is_exact else refined(inner, outer, start, pattern)), kick
    # where a few float32 steps do not return from the kick, A shrinks something: similar samples
    small = inner.to(torch.float32), outer.to(torch.float32)
    kicked, small_pattern = units(exact + KICK * kick).to(torch.float32), pattern.to(torch.float32)
    slow = torch.arange(exact.shape[1], device=exact.device)
    for steps in KICK_STEPS:
        back = null_vectors(*small, kicked[:, slow], small_pattern[:, slow], steps)
        slow = slow[(back - exact[:, slow]).norm(dim=0) > RETURNED * KICK]
    if len(slow):
        exact[:, slow], weak[:, slow] = _by_factors(inner, outer, start[:, slow], pattern[:, slow], generator)
    return exact, weak


def _by_factors(
    inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    lower = factorise(inner, outer, pattern, start)
    return null_vectors(inner, outer, start, pattern, DENSE_STEPS, lower), smallest(lower, generator)


def refined(inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor) -> Tensor:
    """Null vectors by iterative refinement: Aᵀ A u in float64, the correction in float32; see `exact_null_vectors`."""
    small, small_pattern = (inner.to(torch.float32), outer.to(torch.float32)), pattern.to(torch.float32)
    exact = start.clone()
    moving = torch.arange(start.shape[1], device=start.device)
    for _ in range(REFINEMENTS):
        u, a = exact[:, moving], pattern[:, moving]
        slope = squared(inner, outer, a, u)
        size = slope.norm(dim=0).clamp_min(torch.finfo(u.dtype).tiny)
        down, normal = (slope / size).to(torch.float32), u.to(torch.float32)
        step = size * least_squares(*small, small_pattern[:, moving], down, REFINING_STEPS, normal=normal)
        exact[:, moving] = units(u + step)
        moving = moving[step.norm(dim=0) > SETTLED]
        if not len(moving):
            break
    return exact


def _weakest_at_edges(
    inner: Tensor,
    outer: Tensor,
    exact: Tensor,
    pattern: Tensor,
    weak: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Replace weakest directions by those on the other side of units that are zero to rounding.

    The consistent mixtures of two samples with one pattern end where a unit reaches zero. With that unit
    counted to the far side the end point looks unique; counted to the near side it does not.
    """
    z = inner @ exact
    edge = z.abs() < EDGE * z.square().mean(dim=0).sqrt()
    at_edge = edge.any(dim=0).nonzero().flatten()
    if len(at_edge):
        near, far = pattern[:, at_edge], torch.where(edge, 1 - pattern, pattern)[:, at_edge]
        _, other = _for_pattern(inner, outer, exact[:, at_edge], far, generator, is_exact=True)
        weaker = _shrinkage(inner, outer, far, other) < _shrinkage(inner, outer, near, weak[:, at_edge])
        weak = weak.clone()
        weak[:, at_edge] = torch.where(weaker, other, weak[:, at_edge])
    return weak


def _shrinkage(inner: Tensor, outer: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """‖A u‖ of unit columns."""
    return beside(outer, weights * (inner @ u)).norm(dim=0)
