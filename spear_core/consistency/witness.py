"""Certificate (c) from the next layer: is σ(W x + β) in the row space of its gradient, and nothing near it?

For each sample on its own: σ(z) ∈ 𝒴 are m − b equations for the b unknowns of z, none of which speaks of the
other samples. They prove the sample if they hold to rounding, if z cannot move without breaking them, and if
there are clearly more of them than unknowns.
"""

from types import ModuleType

import torch
from torch import Tensor

from spear_core.consistency import relu, smooth
from spear_core.consistency.judge import judge
from spear_core.consistency.masked_least_squares import amplification, factorise
from spear_core.consistency.relation import Relation, relate
from spear_core.errors import InputError
from spear_core.linalg import orthonormal, value_and_slope
from spear_core.problem import LinearLayer
from spear_core.search import Target
from spear_core.tolerances import SPARE_EQUATIONS

AT_ONCE = 64  # samples whose equations are factorised together
LUCK = 2.0  # times the expected error is allowed for, since noise may lie in the direction that suffers most
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
    m = len(relation.outer)
    c = relation.to_sources(coefficients.to(relation.basis))
    proven, *_ = judge_given(relation, c.T, generator)
    z = relation.hidden(c)
    y, slope = value_and_slope(relation.activation, z)
    expected = relation.expected_misfit(c.T, y)
    # more closely than while searching, where a sample may still be blurred
    proven &= relation.scales_agree(c.T, y, PROVEN_SCALE_AGREES)
    if not overdetermined(relation):
        proven = torch.zeros_like(proven)
    moves, parts = orthonormal(relation.basis), slope.split(AT_ONCE, dim=1)
    amplified = [amplification(factorise(moves, relation.outer, part)) for part in parts]
    # noise is spread evenly over the m entries of y, and W spreads an error of x evenly over the units
    noise = LUCK * torch.maximum(expected, relation.misfit(y)) * y.norm(dim=0) / m**0.5
    size, alone = (torch.cat(both) for both in zip(*amplified, strict=True))
    # where one direction suffers alone, nearly two samples mix in it: there all noise may have gone
    return proven, noise * size * (1 + m * alone.square()).sqrt() / relation.spread
