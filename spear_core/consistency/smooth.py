"""Forward consistency with any activation: nothing in the relation needs zeros.

For a general σ the scale of z matters, so both spaces are affine. The bias gradients place them: every
sample has c · Lᵀ g = 1 and p · L₂ᵀ g₂ = 1, and every sample still missing has c · q_i = 0 and p · q_i = 0 for
the found ones. So z = z₀ + Φ u and y = y₀ + Y v, and a sample is where σ(z₀ + Φ u) = y₀ + Y v.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.consistency.deflation import determined
from spear_core.consistency.finish import gauss_newton
from spear_core.consistency.masked_least_squares import factorise, smallest
from spear_core.consistency.relation import Relation
from spear_core.consistency.walk import reflect_affine
from spear_core.linalg import is_first, orthogonal_complement, value_and_slope

STEPS, MEMORY = 80, 0.93  # of the walk
NEAR = 0.15  # misfit below which a walker is worth a finish
CONVERGED = 0.01  # misfit after the first passes that is worth float64
FIRST_PASSES, PASSES = 5, 15  # Gauss–Newton steps in float32 and in float64
DENSE_SIZE = 64  # unknowns up to which factorising pays
FEWEST_STARTS = 32
UNLIKE = 0.1  # candidates closer than this, relative to ‖z − z₀‖, are one


@dataclass(frozen=True)
class AffinePair:
    """z ∈ z₀ + span Φ and y ∈ y₀ + span Y, orthonormal columns, z₀ ⟂ Φ and y₀ ⟂ Y."""

    centre: Tensor
    inner: Tensor
    offset: Tensor
    outer: Tensor

    def to(self, dtype: torch.dtype) -> "AffinePair":
        """The same in another precision."""
        return AffinePair(*(t.to(dtype) for t in (self.centre, self.inner, self.offset, self.outer)))


def candidates(
    relation: Relation,
    found: Tensor,
    directions: tuple[Tensor | None, Tensor],
    idle: int,
    generator: torch.Generator | None,
    deadline: float = float("inf"),
) -> tuple[int, Tensor, Tensor]:
    """One round, as `relu.candidates`."""
    first, second = directions
    nothing = relation.basis.new_empty(relation.basis.shape[1], 0)
    again = idle % 3 == 2
    pair = _affine_pair(
        relation,
        nothing if again or first is None else determined(first),
        second[:, :0] if again else determined(second),
    )
    whole = _affine_pair(relation, nothing, second[:, :0])
    sigma = relation.activation
    small = pair.to(torch.float32)
    count = max(FEWEST_STARTS, 2 * (relation.batch_size - len(found)))
    walkers = reflect_affine(
        sigma,
        *_parts(small),
        _starts(relation, small, count, generator),
        steps=STEPS * 2 ** min(idle, 3),
        memory=MEMORY,
        deadline=deadline,
    )
    near = small.inner.T @ (walkers - small.centre)
    near = near[:, _distinct(sigma, small, near, NEAR)]
    if time.monotonic() > deadline:
        near = near[:, :0]
    dense = pair.inner.shape[1] <= DENSE_SIZE
    near = gauss_newton(sigma, *_parts(small), near, passes=FIRST_PASSES, dense=dense)
    near = near[:, _distinct(sigma, small, near, NEAR)]
    z = pair.centre + pair.inner @ near.to(torch.float64)
    allowed = relation.believable_misfit(z).clamp(CONVERGED, NEAR)
    z = z[:, relation.misfit(sigma(z)) < allowed]
    u = gauss_newton(sigma, *_parts(whole), whole.inner.T @ (z - whole.centre), passes=PASSES, dense=dense)
    z = whole.centre + whole.inner @ u
    c = torch.linalg.lstsq(relation.basis, z - relation.bias[:, None]).solution
    return count, c, _weakest_changes(relation, whole, z, generator)


def weakest_changes(relation: Relation, c: Tensor, generator: torch.Generator | None) -> Tensor:
    """As `relu.weakest_changes`."""
    nothing = relation.basis.new_empty(relation.basis.shape[1], 0)
    whole = _affine_pair(relation, nothing, relation.basis.new_empty(relation.batch_size, 0))
    return _weakest_changes(relation, whole, relation.hidden(c.T), generator)


def _weakest_changes(
    relation: Relation, whole: AffinePair, z: Tensor, generator: torch.Generator | None
) -> Tensor:
    _, slope = value_and_slope(relation.activation, z)
    return whole.inner @ smallest(factorise(whole.inner, whole.outer, slope), generator)


def _affine_pair(relation: Relation, first: Tensor, second: Tensor) -> AffinePair:
    """The spaces of the samples with c ⟂ `first` and p ⟂ `second` (directions of found ones, as columns)."""
    mean, next_mean = relation.mean_gradients()
    if relation.overfull:
        c, free = mean.new_zeros(relation.basis.shape[1]), None
    else:
        c, free = _slice(mean, first)
    p, next_free = _slice(next_mean, second)
    inner = torch.linalg.qr(relation.basis if free is None else relation.basis @ free)[0]
    outer = torch.linalg.qr(relation.rows.T @ next_free)[0]
    centre = relation.basis @ c + relation.bias
    offset = relation.rows.T @ p
    return AffinePair(
        centre=(centre - inner @ (inner.T @ centre))[:, None],
        inner=inner,
        offset=(offset - outer @ (outer.T @ offset))[:, None],
        outer=outer,
    )


def _slice(mean: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The affine set {c : c · mean = 1, c · q = 0}: its point nearest to 0 and a basis of its directions."""
    constraints = torch.cat([mean[:, None], directions], dim=1)
    wanted = mean.new_zeros(constraints.shape[1])
    wanted[0] = 1
    return torch.linalg.pinv(constraints.T) @ wanted, orthogonal_complement(constraints)


def _starts(relation: Relation, pair: AffinePair, count: int, generator: torch.Generator | None) -> Tensor:
    """Random z of the size that samples have: ‖x‖ ≈ ‖G‖ / ‖g‖, were the columns of ∂L/∂Z orthogonal."""
    layer, low_rank = relation.layers[0], relation.splits[0]
    size = (
        low_rank.singular_values.norm()
        / layer.bias_grad.norm()
        * relation.spread
        / layer.weight.shape[1] ** 0.5
    )
    u = torch.randn(pair.inner.shape[1], count, generator=generator)
    u = u / u.norm(dim=0) * (0.3 + 1.2 * torch.rand(count, generator=generator))
    return pair.centre + pair.inner @ (float(size) * u.to(pair.inner))


def _distinct(sigma: Callable[[Tensor], Tensor], pair: AffinePair, u: Tensor, near: float) -> Tensor:
    """Indices of the u with a misfit below `near`, best first, one of those that point the same way."""
    y = sigma(pair.centre + pair.inner @ u)
    misfit = (y - pair.outer @ (pair.outer.T @ y) - pair.offset).norm(dim=0) / y.norm(dim=0)
    order = misfit.argsort()
    order = order[misfit[order] < near]
    u = u[:, order] / u[:, order].norm(dim=0)
    return order[is_first(torch.cdist(u.T, u.T) < UNLIKE)]


def _parts(pair: AffinePair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return pair.centre, pair.inner, pair.outer, pair.offset
