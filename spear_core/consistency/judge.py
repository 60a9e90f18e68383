"""Forward consistency, third move: which candidates are samples.

A sample is reported only if σ(z) meets 𝒴 to the rounding of the gradients, the bias gradients agree with its
scale, and nothing near it does as well: two samples with one activation pattern mix freely, and their mixtures
are refused.
"""

import torch
from torch import Tensor

from spear_core.consistency.exact import EDGE
from spear_core.consistency.relation import MISFIT_MARGIN, SCALE_AGREES, Relation

ARITHMETIC = 8 * torch.finfo(torch.float64).eps  # misfit of a true sample that float64 itself makes
LARGEST_MISFIT = 0.05  # however large the noise: beyond it wrong points pass as well
EXCLUSION_MARGIN = 30.0  # the least excluded change must be excluded by more than noise could feign
SMALL_CHANGE = 1e-5  # step along the weakest change, relative to ‖z‖
LARGEST_ERROR = 0.01  # relative error of z that the noise may explain before a sample counts as undetermined


def judge(relation: Relation, c: Tensor, weak: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which candidates c (as columns) are samples, their misfits and errors, and which are left undetermined.

    A candidate passes if its misfit is explained by the noise of the gradients, if the bias gradients agree
    with its scale, c · Lᵀ g = 1 and p · L₂ᵀ g₂ = 1, and if its equations exclude everything near it, even the
    change of z that they exclude least (`weak`, unit columns): mixtures of samples with one activation
    pattern, or in the linear range of σ, are as consistent as the samples are.
    """
    z = relation.hidden(c.T)
    y = relation.activation(z)
    misfit, length = relation.misfit(y), y.norm(dim=0)
    expected = relation.expected_misfit(c, y)
    allowed = MISFIT_MARGIN * expected.clamp_min(ARITHMETIC)
    consistent = misfit < allowed.clamp_max(LARGEST_MISFIT)
    consistent &= relation.scales_agree(c, y, SCALE_AGREES)
    # to both sides, since at a kink of σ only one of them may be consistent
    sides = [exclusion(relation, z, weak, sign * SMALL_CHANGE) for sign in (1, -1)]
    (excluded_up, feigned_up), (excluded_down, feigned_down) = sides
    excluded, feigned = torch.minimum(excluded_up, excluded_down), torch.maximum(feigned_up, feigned_down)
    # noise in y is spread over m directions, and one of them moves z along the weakest change
    error = expected * length / (excluded * z.norm(dim=0) * z.shape[0] ** 0.5)
    determined = (excluded > EXCLUSION_MARGIN * feigned) & (error < LARGEST_ERROR)
    return consistent & determined, misfit, torch.maximum(expected, error), consistent & ~determined


def exclusion(relation: Relation, z: Tensor, weak: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """How fast y leaves 𝒴 as z moves along `weak`, and how fast noise could make it seem to, (k,) each.

    One-sided, since at a kink of σ one side may be consistent where the other is not: the mixtures of two
    samples with one pattern end where a unit reaches zero.
    """
    length = z.norm(dim=0)
    at_kink = z.abs() < EDGE * length / z.shape[0] ** 0.5
    start = z.masked_fill(at_kink, 0)
    moved = relation.activation(start + step * length * weak) - relation.activation(start)
    change = moved / (step * length)
    speed = change.norm(dim=0)
    feigned = relation.expected_misfit(relation.changes(weak), change)
    # two points so close together are told apart to so many digits only
    difference = ARITHMETIC / abs(step)
    return relation.misfit(change) * speed, feigned * speed + difference
