"""Directions of the samples already found, so that the search for the rest becomes smaller.

Xᵀ = Q⁻¹ R: the rows c_i of Q⁻¹ and the columns q_i of Q are dual, c_k · q_i = 0 for k ≠ i. All samples not
yet found therefore have c ⟂ q_i for every found i.
"""

import torch
from torch import Tensor

DETERMINED = 1e-6  # smallest pivot of the normal equations that still determines q, relative to the rows' 1
ZERO_RESIDUAL = 1e-2  # what L q may leave on the inactive rows, relative to its length
CHUNK_NUMBERS = 2**23  # entries of the pair products held at a time


def dual_directions(factor: Tensor, coefficients: Tensor, inactive: Tensor) -> Tensor:
    """q_i of found samples from duality and zeros together.

    c_k · q_i = [k = i] for all found k leaves q_i = p_i + N w, p_i the i-th column of C⁺ and N a basis of the
    complement of the found c. The inactive rows decide w by least squares: diag(1 − a_i) L (p_i + N w) = 0. When
    all samples are found N is empty and Q = C⁻¹, whatever the zeros.

    Args:
        factor: L, shape (m, b), orthonormal columns.
        coefficients: C, the found c_i as rows, shape (k, b).
        inactive: where z_i < 0, shape (m, k), bool.

    Returns:
        q_i as unit columns, shape (b, k); NaN where the inactive rows do not determine q_i.
    """
    particular = torch.linalg.pinv(coefficients)
    free = orthogonal_complement(coefficients.T)
    if free.shape[1] == 0 or len(coefficients) == 0:
        return particular / particular.norm(dim=0)
    LN, Lp = factor @ free, factor @ particular
    zero = inactive.to(factor.dtype)
    gram = masked_products(LN, LN, zero)
    lower, failed = torch.linalg.cholesky_ex(gram)
    w = torch.cholesky_solve((LN.T @ (zero * Lp)).T[:, :, None], lower)[:, :, 0].T
    directions = particular - free @ w
    signal = factor @ directions
    wrong = (zero * signal).norm(dim=0) > ZERO_RESIDUAL * signal.norm(dim=0)
    loose = (failed > 0) | (lower.diagonal(dim1=1, dim2=2).amin(dim=1) ** 2 < DETERMINED)
    directions = directions / directions.norm(dim=0)
    return directions.masked_fill(wrong | loose, float("nan"))


def orthogonal_complement(columns: Tensor) -> Tensor:
    """Orthonormal basis of the complement of the span of (r, k) columns, shape (r, r − k)."""
    r, k = columns.shape
    return torch.linalg.qr(columns / columns.norm(dim=0), mode="complete")[0][:, k:]


def masked_products(left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Aᵀ diag(w_k) B for every column w_k, as one product: (m, p), (m, r) and (m, K) give (K, p, r)."""
    p, r = left.shape[1], right.shape[1]
    products = weights.new_zeros(weights.shape[1], p * r)
    rows = max(1, CHUNK_NUMBERS // (p * r))
    for A, B, w in zip(left.split(rows), right.split(rows), weights.split(rows), strict=True):
        products += w.T @ (A[:, :, None] * B[:, None, :]).reshape(len(A), p * r)
    return products.reshape(-1, p, r)
