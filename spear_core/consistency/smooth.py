"""Forward consistency with any activation: nothing in the relation needs zeros.

For a general σ the scale of z matters, so both spaces are affine (`affine`): a sample is where
σ(z₀ + Φ u) = y₀ + Y v.
"""

import torch
from torch import Tensor

from spear_core.consistency.affine import Pair, Space, allowed
from spear_core.consistency.deflation import determined
from spear_core.consistency.finish import gauss_newton
from spear_core.consistency.masked_least_squares import factorise, smallest
from spear_core.consistency.relation import Relation
from spear_core.consistency.walk import FEWEST_STARTS, NEAR, reflect_affine
from spear_core.linalg import best_apart, least_squares, units, value_and_slope
from spear_core.search import Budget

WALK_STEPS, MEMORY = 80, 0.93  # steps of the walk, and its κ
CONVERGED = 0.01  # misfit after the first passes that is worth float64
FIRST_PASSES, PASSES = 5, 15  # Gauss–Newton steps in float32 and in float64
# unknowns up to which factorising pays: fewer than for `exact`, since it is done anew in every pass
DENSE_PASSES = 64
UNLIKE = 0.1  # candidates closer than this, relative to ‖z − z₀‖, are one


def candidates(
    relation: Relation, directions: tuple[Tensor | None, Tensor], idle: int, budget: Budget
) -> tuple[int, Tensor, Tensor]:
    """One round, as `relu.candidates`."""
    first, second = directions
    whole = pair = _pair(relation, None, second[:, :0])
    if idle % 3 != 2:  # every third idle round starts afresh, as with ReLU
        pair = _pair(relation, first, second)
    small = pair.to(torch.float32)

    def best(u: Tensor) -> Tensor:
        outside, length = small.outside(u)
        return u[:, best_apart(units(u), outside.norm(dim=0) / length, NEAR, UNLIKE)]

    # walk, and finish what came near: first in float32, in what is left of the spaces
    count = max(FEWEST_STARTS, 2 * (relation.batch_size - second.shape[1]))
    start, steps = _starts(relation, small, count, budget.generator), WALK_STEPS * 2 ** min(idle, 3)
    walkers = reflect_affine(small, start, steps, MEMORY, budget.deadline)
    near = best(small.before.coordinates(walkers))
    if budget.late:
        near = near[:, :0]
    dense = pair.before.basis.shape[1] <= DENSE_PASSES
    near = best(gauss_newton(small, near, passes=FIRST_PASSES, dense=dense))
    # then in float64, in the whole of them: a direction's error does not enter
    z = pair.before.at(near.to(torch.float64))
    z = z[:, relation.may_be_samples(z, CONVERGED, NEAR)]
    z = whole.before.at(gauss_newton(whole, whole.before.coordinates(z), passes=PASSES, dense=dense))
    c = least_squares(relation.basis, z - relation.bias[:, None])
    return count, c, _weakest(whole, z, budget.generator)


def weakest_changes(relation: Relation, c: Tensor, generator: torch.Generator | None) -> Tensor:
    """As `relu.weakest_changes`."""
    whole = _pair(relation, None, relation.basis.new_empty(relation.batch_size, 0))
    return _weakest(whole, relation.hidden(c.T), generator)


def _weakest(whole: Pair, z: Tensor, generator: torch.Generator | None) -> Tensor:
    _, slope = value_and_slope(whole.sigma, z)
    inner, outer = whole.before.basis, whole.after.basis
    return inner @ smallest(factorise(inner, outer, slope), generator)


def _pair(relation: Relation, first: Tensor | None, second: Tensor) -> Pair:
    """The spaces of the samples with c ⟂ `first` and p ⟂ `second` (directions of found ones, as columns)."""
    mean, next_mean = relation.means
    found = () if first is None else (determined(first),)
    # with more samples than inputs, layer 1 says nothing of a sample's scale
    coefficients = None if relation.overfull else allowed(mean, *found)
    next_coefficients = allowed(next_mean, determined(second))
    before = Space.image(relation.basis, relation.bias, coefficients)
    after = Space.image(relation.splits[1].rows.T, torch.zeros_like(relation.bias), next_coefficients)
    return Pair(relation.activation, before, after)


def _starts(relation: Relation, pair: Pair, count: int, generator: torch.Generator | None) -> Tensor:
    """Random z of the size that samples have: ‖x‖ ≈ ‖G‖ / ‖g‖, were the columns of ∂L/∂Z orthogonal."""
    layer = relation.layers[0]
    size = relation.splits[0].singular_values.norm() / layer.bias_grad.norm()
    size = size * relation.spread / layer.weight.shape[1] ** 0.5
    u = units(torch.randn(pair.before.basis.shape[1], count, generator=generator))
    u = u * (0.3 + 1.2 * torch.rand(count, generator=generator))
    return pair.before.at(float(size) * u.to(pair.before.basis))
