"""Certificate (c) from the next layer: is σ(W x + β) in the row space of its gradient, and nothing near it?

For each sample on its own: σ(z) ∈ 𝒴 are m − b equations for the b unknowns of z, none of which speaks of the
other samples. They prove the sample if they hold to rounding, if z cannot move without breaking them, and if
there are clearly more of them than unknowns.
"""

from types import ModuleType

import torch
from torch import Tensor

from spear_core.consistency import relu, smooth
from spear_core.consistency.exact import EDGE
from spear_core.consistency.judge import ARITHMETIC, EXCLUSION_MARGIN, SMALL_CHANGE, judge
from spear_core.consistency.masked_least_squares import DENSE_SIZE, amplification, factorise, solved
from spear_core.consistency.relation import Relation, relate
from spear_core.errors import InputError
from spear_core.linalg import beside, orthonormal, units, value_and_slope
from spear_core.problem import LinearLayer
from spear_core.search import Target
from spear_core.spear.zeros import inverse_iteration
from spear_core.tolerances import SPARE_EQUATIONS

AT_ONCE = 64  # samples whose equations are factorised together
MOST_MEASURED = 96  # unknowns whose directions are all measured; of more that takes as long as the search
WEAKEST_ALONE = 8.0  # times what the weakest direction suffers is more than all do
LUCK = 2.0  # times the expected error is allowed for, since noise may lie in the direction that suffers most
SPARED = 1 - 1e-6  # of a unit's equation, the most that the others may leave to it alone; less is rounding
MORE = 2.0  # equations than unknowns, at least, in every set of directions that are excluded least
WEAKEST = 16  # directions of many that are looked at
KINKED = 0.01  # slopes on both sides that differ by more make a kink
PROVEN_SCALE_AGREES = 1e-3  # how far the scales told by the two bias gradients may differ from 1


def moves_for(layer: LinearLayer) -> ModuleType:
    """`relu` or `smooth`, whichever suits the activation behind a layer."""
    return relu if layer.has_relu else smooth


def judge_given(
    relation: Relation, c: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`judge` of samples that somebody else has found, c as columns."""
    return judge(relation, c, moves_for(relation.layers[0]).weakest_changes(relation, c, generator))


def overdetermined(relation: Relation) -> bool:
    """Whether a sample's equations, m − b, are clearly more than its unknowns: wrong points satisfy fewer as well."""
    m, b = relation.outer.shape
    return m - b >= relation.basis.shape[1] + SPARE_EQUATIONS


def well_counted(relation: Relation, c: Tensor, *, whole: bool = False) -> Tensor:
    """Whether samples, c as rows, have more equations than unknowns wherever they are excluded weakly, shape (k,).

    Samples that activate nearly the same units are told apart by the few units that differ, and as many of these as
    there are samples leave isolated mixtures. So the units that exclude the d least excluded directions are counted, by
    their leverages h, as (Σ h)² / Σ h², for every d; and without any one unit, however firmly it holds, z must not be
    able to move, unless the `whole` batch is there, which a mixture would not complete. Units at a kink may be on
    either side, or on one side for one direction and on the other for another: they say nothing.
    """
    z = relation.hidden(c)
    if relation.inner.shape[1] > DENSE_SIZE:  # where a matrix for each sample takes too long
        return torch.ones_like(z[0], dtype=torch.bool)
    _, slope = value_and_slope(relation.activation, z)
    size = EDGE * z.square().mean(dim=0).sqrt()
    sides = [value_and_slope(relation.activation, z + sign * size)[1] for sign in (1, -1)]
    kinks = (sides[0] - sides[1]).abs() > KINKED
    counted, apart = torch.zeros_like(size, dtype=torch.bool), kinks.any(dim=0)
    free = (~apart).nonzero().flatten()
    for part in free.split(AT_ONCE):
        counted[part] = _enough(relation, relation.outer, z[:, part], slope[:, part], whole)[0]
    for k in apart.nonzero().flatten().tolist():
        own = kinks[:, k].nonzero().flatten()
        beyond = torch.zeros(len(z), len(own), dtype=z.dtype, device=z.device)
        beyond[own, torch.arange(len(own), device=z.device)] = 1.0
        outer = torch.linalg.qr(torch.cat([beyond, relation.outer], dim=1))[0]
        weights = slope[:, k, None].masked_fill(kinks[:, k, None], 0)
        enough, weak, excluded = _enough(relation, outer, z[:, [k]], weights, whole, always=True)
        change = weights * weak
        feigned = relation.expected_misfit(relation.changes(weak), change) * change.norm(dim=0)
        counted[k] = (enough & (excluded > EXCLUSION_MARGIN * (feigned + ARITHMETIC / SMALL_CHANGE)))[0]
    return counted


def _enough(
    relation: Relation, outer: Tensor, z: Tensor, weights: Tensor, whole: bool, *, always: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`well_counted` of z as columns; `always` with the weakest directions, (m, k), and how they are excluded, (k,)."""
    homogeneous, (m, k) = relation.layers[0].has_relu, z.shape
    moves = relation.inner if homogeneous else orthonormal(relation.basis)
    r = moves.shape[1]
    A = (
        beside(outer, (weights[:, :, None] * moves[:, None]).reshape(m, k * r))
        .reshape(m, k, r)
        .transpose(0, 1)
    )
    grams, share = A.mT @ A, 1 - outer.shape[1] / m
    if homogeneous:  # along z itself the bias gradients hold it
        ray = units(moves.T @ z).T
        grams = grams + m * ray[:, :, None] * ray[:, None, :]
    lower, failed = torch.linalg.cholesky_ex(grams)
    leverages = torch.linalg.solve_triangular(lower, A.mT, upper=False).square().sum(dim=1)
    largest, own = leverages.amax(dim=1), 1 - outer.square().sum(dim=1)
    # mixtures that are held by as many units as they have dimensions, however firmly: z moves without one of those
    spared = torch.full_like(failed, whole, dtype=torch.bool) | (
        leverages <= SPARED * own.clamp_min(0) + ARITHMETIC
    ).all(dim=1)
    # no leverage of fewer directions is larger: d / largest is a bound for all of them
    enough = (failed == 0) & (share > (1 + MORE) * largest)
    if bool(enough.all()) and not always:
        return enough & spared, z, largest
    rest = torch.arange(k, device=z.device) if always else (~enough).nonzero().flatten()
    values, vectors = _weakest(grams[rest], lower[rest], r - homogeneous)
    h = ((A[rest] @ vectors).square() / values.clamp_min(torch.finfo(z.dtype).tiny)[:, None]).cumsum(dim=2)
    told = share * h.sum(dim=1).square() / h.square().sum(dim=1)
    d = torch.arange(1, told.shape[1] + 1, dtype=z.dtype, device=z.device)
    enough[rest] = (told >= d + MORE).all(dim=1)
    enough &= spared
    if not told.shape[1]:
        return enough, z, largest
    weak = moves @ vectors[:, :, 0].T
    # not the root of an eigenvalue, of which rounding leaves 1e-8
    return enough, weak, beside(outer, weights[:, rest] * weak).norm(dim=0)


def _weakest(grams: Tensor, lower: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Smallest eigenvalues of Gram matrices and their vectors, all of small ones, `WEAKEST` of larger ones."""
    if grams.shape[1] <= 2 * WEAKEST:
        values, vectors = torch.linalg.eigh(grams)
        return values[:, :most], vectors[:, :, :most]
    start = torch.randn(grams.shape[1], WEAKEST, generator=torch.Generator().manual_seed(0)).to(grams)
    block = inverse_iteration(lower, torch.linalg.qr(start)[0].expand(len(grams), -1, -1))
    values, turn = torch.linalg.eigh(block.mT @ grams @ block)
    return values, block @ turn


def witness(
    target: Target, coefficients: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Which samples, rows c_i with x_i = c_i R, the next layer proves, and how far rounding may have moved them.

    For `search.Later`; the attacked layer must have at least one behind it.
    """
    try:
        relation = relate(target)
    except InputError:  # the next layer's gradient has too low a rank
        unknown = torch.full_like(coefficients[:, 0], torch.inf, dtype=torch.float64)
        return unknown < 0, unknown
    c = relation.to_sources(coefficients.to(relation.basis))
    proven, *_ = judge_given(relation, c.T, generator)
    # more closely than while searching, where a sample may still be blurred
    proven &= relation.scales_agree(c.T, relation.activation(relation.hidden(c)), PROVEN_SCALE_AGREES)
    if not overdetermined(relation):
        proven = torch.zeros_like(proven)
    if bool(proven.any()):
        proven[proven.clone()] = well_counted(relation, c[proven], whole=len(c) == target.batch_size)
    return proven, blur(target, coefficients, generator)


def blur(target: Target, coefficients: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """How far rounding may have moved samples, rows c_i, that the next layer holds: root mean square, shape (k,)."""
    relation = relate(target)
    c = relation.to_sources(coefficients.to(relation.basis))
    z = relation.hidden(c)
    if relation.basis.shape[1] > MOST_MEASURED:  # one direction stands for all of them
        error = WEAKEST_ALONE * judge_given(relation, c.T, generator)[2] * z.norm(dim=0)
    else:
        y, slope = value_and_slope(relation.activation, z)
        # noise is spread evenly over the m entries of y
        expected = torch.maximum(relation.expected_misfit(c.T, y), relation.misfit(y))
        error = LUCK * expected * y.norm(dim=0) / len(y) ** 0.5 * _amplified(relation, z, slope)
    return error / relation.spread  # W spreads an error of x evenly over the units


def _amplified(relation: Relation, z: Tensor, slope: Tensor) -> Tensor:
    """How far noise of 1 in every entry of y moves each z, shape (k,).

    ReLU leaves the length of z to the bias gradient, c · Lᵀ g = 1: what moves z sideways moves it along itself, too.
    """
    moves, m = orthonormal(relation.basis), len(z)
    of_length = None
    if relation.layers[0].has_relu and not relation.overfull:
        of_length, failed = torch.linalg.solve_ex(relation.basis.T @ moves, relation.means[0][:, None])
        if failed:  # a direction that rounding leaves nothing of
            return z.new_full((z.shape[1],), torch.inf)
    sizes = []
    for z_part, slope_part in zip(z.split(AT_ONCE, dim=1), slope.split(AT_ONCE, dim=1), strict=True):
        ray = None if of_length is None else units(moves.T @ z_part)
        lower = factorise(moves, relation.outer, slope_part, ray)
        size, alone = amplification(lower)
        # where one direction suffers alone, nearly two samples mix in it: there all noise may have gone
        size = size * (1 + m * alone.square()).sqrt()
        if of_length is not None:
            along = of_length.T @ solved(lower, of_length.expand(-1, len(lower)))
            size = size + z_part.norm(dim=0) * along[0].clamp_min(0).sqrt()
        sizes.append(size)
    return torch.cat(sizes)
