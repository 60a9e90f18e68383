"""Directions of the samples already found, so that the search for the rest becomes smaller.

Xᵀ = Q⁻¹ R: the rows c_i of Q⁻¹ and the columns q_i of Q are dual, c_k · q_i = 0 for k ≠ i. All samples not
yet found therefore have c ⟂ q_i for every found i.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from spear_core.consistency.masked_least_squares import DENSE_SIZE, solved
from spear_core.consistency.relation import Relation
from spear_core.linalg import masked_products, units, value_and_slope

REFINEMENTS = 4  # with float32 factors, where w is long
# smallest pivot of normal equations that still determines their unknowns, relative to the largest: their matrix is a
# square, so singular values down to 1e-3 of the largest count
DETERMINED = 1e-6
ZERO_RESIDUAL = 1e-2  # what L q may leave on the inactive rows, relative to its length


def found_directions(
    relation: Relation, found: Tensor, before: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """q_i of both layers for found samples c, rows in `relation.sources`, (k, r).

    Unit columns in the bases of the two layers' factors, (r, k) and (b, k); NaN where not determined, which is
    everywhere in layer 1 if there are more samples than independent inputs. `before` are those of the first few
    samples, as far as they were determined then.
    """
    z = relation.hidden(found)
    y = relation.activation(z)
    p = relation.next_coefficients(y)
    (L, L2), (layer, following) = (s.factor for s in relation.splits), relation.layers
    unknown, next_unknown = (torch.full_like(t, torch.nan) for t in (found.T, p))
    first, second = before or (unknown[:, :0], next_unknown[:, :0])
    weight = following.weight.to(torch.float64)
    if layer.has_relu and following.has_relu:
        next_z = weight @ y + following.bias.to(torch.float64)[:, None]
        directions = unknown if relation.overfull else dual_directions(L, found, z < 0, first)
        return directions, dual_directions(L2, p.T, next_z < 0, second)
    if relation.overfull:
        return unknown, next_unknown
    _, slope = value_and_slope(relation.activation, z)
    return coupled_directions((L, weight.T @ L2), (found, p.T), slope)


def dual_directions(factor: Tensor, coefficients: Tensor, inactive: Tensor, before: Tensor) -> Tensor:
    """q_i of found samples from duality and zeros together.

    c_k · q_i = [k = i] for all found k leaves q_i = p_i + N w, p_i the i-th column of C⁺ and N a basis of the
    complement of the found c. The inactive rows decide w by least squares: diag(1 − a_i) L (p_i + N w) = 0.
    When all samples are found N is empty and Q = C⁻¹, whatever the zeros.

    From L (m, b), C (k, b), where z_i < 0 (m, k), and the directions of the first few (b, ·), to unit columns (b, k),
    NaN where the inactive rows do not determine q_i.
    """
    k, b = coefficients.shape
    rotation, triangle = torch.linalg.qr(coefficients.T, mode="complete")
    identity = torch.eye(k, dtype=factor.dtype, device=factor.device)
    particular = rotation[:, :k] @ torch.linalg.solve_triangular(triangle[:k].T, identity, upper=False)
    free = rotation[:, k:]
    if b == k or k == 0:
        return units(particular)
    # where w is short, every find sharpens all directions; where it is long, only new ones are worth the time, and
    # float32 factors with refinement
    few = b - k <= DENSE_SIZE
    result = pad(before, (0, k - before.shape[1]), value=torch.nan)
    wanted = result.isnan().any(dim=0) | few
    particular, zero = particular[:, wanted], inactive[:, wanted].to(factor.dtype)
    LN, Lp = factor @ free, factor @ particular
    small_LN, small_zero = (t if few else t.to(torch.float32) for t in (LN, zero))
    lower, failed = torch.linalg.cholesky_ex(masked_products(small_LN, small_LN, small_zero))
    lower, w = lower.to(LN.dtype), LN.new_zeros(b - k, 1)
    for _ in range(1 if few else REFINEMENTS):
        w = w + solved(lower, LN.T @ (zero * (Lp - LN @ w)))
    # no direction where the inactive rows say too little, or do not agree
    directions = particular - free @ w
    signal = factor @ directions
    wrong = (zero * signal).norm(dim=0) > ZERO_RESIDUAL * signal.norm(dim=0)
    loose = (failed > 0) | (lower.diagonal(dim1=1, dim2=2).amin(dim=1) ** 2 < DETERMINED)
    result[:, wanted] = units(directions).masked_fill(wrong | loose, torch.nan)
    return result


def coupled_directions(
    factors: tuple[Tensor, Tensor], coefficients: tuple[Tensor, Tensor], slope: Tensor
) -> tuple[Tensor, Tensor]:
    """q_i of two consecutive layers at once, without zeros: L q = σ'(z) ∘ (E q₂), back-propagation itself.

    These are m equations for 2 b unknowns: (q, q₂) is the null vector of A = [L, −diag(σ') E], found by one
    step of inverse iteration from (c_i, 0), which is never orthogonal to it since c_i · q_i = 1. Each sample
    stands on its own, so one that noise has moved spoils no other. When all samples are found, Q = C⁻¹.

    From L and E = W₂ᵀ L₂, each (m, b), the found c_i and p_i as rows, each (k, b), and σ'(z_i) as columns (m, k), to
    both as unit columns, each (b, k), NaN where not determined.
    """
    (L, E), (c, p) = factors, coefficients
    b = L.shape[1]
    if len(c) == b:
        return units(torch.linalg.pinv(c)), units(torch.linalg.pinv(p))
    # AᵀA, lifted along the start so that it can be factorised
    start = pad(c / c.norm(dim=1, keepdim=True), (0, E.shape[1]))
    gram = start[:, :, None] * start[:, None, :]
    gram[:, :b, :b] += torch.eye(b, dtype=L.dtype, device=L.device)
    crossed = masked_products(L, E, slope)
    gram[:, :b, b:] -= crossed
    gram[:, b:, :b] -= crossed.mT
    gram[:, b:, b:] += masked_products(E, E, slope**2)
    lower, failed = torch.linalg.cholesky_ex(gram)
    q, next_q = solved(lower, start.T).split([b, E.shape[1]])
    # no directions where the null vector is not the only one, or none
    signal = L @ q
    wrong = (signal - slope * (E @ next_q)).norm(dim=0) > ZERO_RESIDUAL * signal.norm(dim=0)
    wrong |= ~well_determined(lower, failed)
    return units(q).masked_fill(wrong, torch.nan), units(next_q).masked_fill(wrong, torch.nan)


def well_determined(lower: Tensor, failed: Tensor) -> Tensor:
    """Which normal equations determine all their unknowns, from `torch.linalg.cholesky_ex` of each, shape (K,)."""
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    return (failed == 0) & (pivots.amin(dim=1) >= DETERMINED * pivots.amax(dim=1))


def determined(directions: Tensor) -> Tensor:
    """The columns that are known."""
    return directions[:, ~directions.isnan().any(dim=0)]
