"""Certificate (c) from the next layer: is σ(W x + β) in the row space of its gradient, and nothing near it?

For each sample on its own: σ(z) ∈ 𝒴 are m − b equations for the b unknowns of z, none of which speaks of the
other samples. They prove the sample if they hold to rounding, if z cannot move without breaking them, and if
there are clearly more of them than unknowns.
"""

import torch
from torch import Tensor

from spear_core.certificate.passing import forward
from spear_core.consistency.judge import judge as judged
from spear_core.consistency.masked_least_squares import amplification, factorise
from spear_core.consistency.relation import SPARE_EQUATIONS, relate, value_and_slope
from spear_core.consistency.search import moves_for
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank

OTHER_ANGLE = 1e-2  # least sine of the second angle, and largest ratio of the first to it
AT_ONCE = 64  # samples whose equations are factorised together
LUCK = 2.0  # times the expected error is allowed for, since noise may lie in the direction that suffers most
BIAS_AGREES = 1e-3  # how far the scales told by the two bias gradients may differ from 1


def told_by_patterns(problem: Problem, low_rank: LowRank, preactivations: Tensor) -> Tensor:
    """Which directions are the only ones that back-propagation through their activation patterns allows, shape (k,).

    Whatever the loss, ∂L/∂z = A δ with A from the patterns of all layers and δ the error of the output: m − b
    equations, A δ ∈ span L, for as many unknowns as there are outputs. The second smallest angle between span A and
    span L tells whether they leave a second direction; of samples that share all patterns they do. Zeros alone
    tell a direction only while b < m/2.

    Args:
        problem: layers from the attacked one to the output layer, one after the other, all with ReLU between them.
        low_rank: the split of the attacked layer's gradient.
        preactivations: Z as rows, shape (k, m), float64.
    """
    layers, L = problem.layers, low_rank.factor
    m, b = L.shape
    outputs = len(layers[-1].bias)
    if (
        problem.branches
        or m - b < outputs + SPARE_EQUATIONS
        or not all(layer.has_relu for layer in layers[:-1])
    ):
        return torch.zeros(len(preactivations), dtype=torch.bool, device=L.device)
    passed = forward(layers, preactivations)
    errors = torch.eye(outputs, dtype=L.dtype, device=L.device)[:, None].expand(-1, len(preactivations), -1)
    *_, grads = passed.back(errors)
    grads = grads.permute(1, 2, 0)  # for each sample A, shape (m, outputs)
    outside = grads - L @ (L.T @ grads)
    whole = grads.mT @ grads
    whole.diagonal(dim1=1, dim2=2).add_(
        torch.finfo(L.dtype).eps * whole.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None]
    )
    lower = torch.linalg.cholesky_ex(whole)[0]
    turned = torch.linalg.solve_triangular(lower, outside.mT, upper=False)
    sines = torch.linalg.eigvalsh(turned @ turned.mT).clamp_min(0).sqrt()
    return (sines[:, 0] < OTHER_ANGLE * sines[:, 1]) & (sines[:, 1] > OTHER_ANGLE)


def judge(
    problem: Problem,
    low_rank: LowRank,
    coefficients: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Which samples the next layer proves, and how far rounding may have moved each of them.

    Args:
        problem: the attacked layer and at least one behind it.
        low_rank: the split of the attacked layer's gradient.
        coefficients: rows c_i, x_i = c_i R, shape (k, r).
        generator: CPU generator.

    Returns:
        Mask, shape (k,), and the size of the error of each row of inputs, root mean square, shape (k,).
    """
    nobody = torch.zeros(len(coefficients), dtype=torch.bool, device=coefficients.device)
    unknown = torch.full((len(coefficients),), torch.inf, dtype=torch.float64, device=coefficients.device)
    try:
        relation = relate(problem, low_rank)
    except ValueError:  # the next layer's gradient has too low a rank
        return nobody, unknown
    m, b = relation.outer.shape
    c = relation.to_sources(coefficients.to(relation.basis))
    weakest = moves_for(problem.attacked).weakest_changes(relation, c.T, generator)
    proven = judged(relation, c.T, weakest)[0]
    z = relation.hidden(c)
    y, slope = value_and_slope(relation.activation, z)
    p = relation.next_coefficients(y)
    expected = relation.expected_misfit(c.T, p, y.norm(dim=0))
    mean, next_mean = relation.mean_gradients()
    proven &= (next_mean @ p - 1).abs() < BIAS_AGREES
    if not relation.crowded:
        proven &= (c @ mean - 1).abs() < BIAS_AGREES
    if m - b < relation.basis.shape[1] + SPARE_EQUATIONS:
        proven = nobody
    moves = torch.linalg.qr(relation.basis)[0]
    amplified = [
        amplification(factorise(moves, relation.outer, part)) for part in slope.split(AT_ONCE, dim=1)
    ]
    # noise is spread evenly over the m entries of y, and W spreads an error of x evenly over the units
    noise = LUCK * torch.maximum(expected, relation.misfit(y)) * y.norm(dim=0) / m**0.5
    size, alone = (torch.cat(parts) for parts in zip(*amplified, strict=True))
    # where one direction suffers alone, nearly two samples mix in it: there all noise may have gone
    return proven, noise * size * (1 + m * alone.square()).sqrt() / relation.spread
