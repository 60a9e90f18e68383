"""Least squares with A = (I − Y Yᵀ) diag(a) Φ for many masks a at once.

Every candidate of forward consistency has its own a, the activation pattern or the slope of σ, and thereby its
own matrix; Φ and Y are shared. Conjugate gradients (Björck 1996, §7.4) need only products of m × b by
b × K, all K candidates in step, and Cholesky factors as a preconditioner where b is small or A is
ill-conditioned.

Here and in `exact` and `finish`, `inner` is Φ, shape (m, r), and `outer` is Y, shape (m, b), both with orthonormal
columns. Everything else has a column for each candidate: u and d (r, K), a (`weights`, `pattern`), z = Φ u and
residuals (m, K).
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from spear_core.linalg import beside, masked_products, random_units, units

DENSE_SIZE = 192  # unknowns up to which an r × r factor a candidate is cheaper than many steps
DENSE_STEPS = 3  # of conjugate gradients that suffice with Cholesky factors, however ill-conditioned A is
INVERSE_STEPS = 4
NARROW = 16  # columns up to which matrix products take longer with fewer of them, up to four times


def null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, weights: Tensor, steps: int, lower: Tensor | None = None
) -> Tensor:
    """Unit u + d that minimises ‖A (u + d)‖ over d ⟂ u, for every u of `start`; for the rest see `least_squares`."""
    slope = squared(inner, outer, weights, start)
    return units(start + least_squares(inner, outer, weights, slope, steps, lower, normal=start))


def least_squares(
    inner: Tensor,
    outer: Tensor,
    weights: Tensor,
    slope: Tensor,
    steps: int,
    lower: Tensor | None = None,
    normal: Tensor | None = None,
) -> Tensor:
    """d that minimises ‖A d + residual‖, by conjugate gradients on AᵀA d = −slope.

    Of the residual only `slope` = Aᵀ residual is needed, from `gradient`, so that rounding of the part that no d can
    remove stays out. With the Cholesky factors `lower`, from `factorise`, `DENSE_STEPS` are enough. d stays orthogonal
    to the unit columns `normal`.
    """
    if inner.shape[1] == 0:
        return slope
    count = slope.shape[1]
    if 1 < count < NARROW and lower is None:
        wider = (0, NARROW - count)
        weights, slope = pad(weights, wider), pad(slope, wider)
        normal = None if normal is None else pad(normal, wider)
    tiny = torch.finfo(weights.dtype).tiny  # candidates that have arrived must not divide by zero

    def project(s: Tensor) -> Tensor:
        return s if normal is None else torch.addcmul(s, normal, (normal * s).sum(dim=0), value=-1)

    def precondition(s: Tensor) -> Tensor:
        return s if lower is None else project(solved(lower, s))

    left = project(-slope)
    along = precondition(left)
    size = (left * along).sum(dim=0)
    settled = torch.finfo(weights.dtype).eps ** 2 * size  # past this, steps would follow rounding
    move = torch.zeros_like(left)
    for _ in range(steps):
        change = beside(outer, weights * (inner @ along))
        length = torch.where(size > settled, size / (change * change).sum(dim=0).clamp_min(tiny), 0)
        move = torch.addcmul(move, length, along)
        left = torch.addcmul(left, length, project(gradient(inner, weights, change)), value=-1)
        scaled = precondition(left)
        new_size = (left * scaled).sum(dim=0)
        along, size = torch.addcmul(scaled, along, new_size / size.clamp_min(tiny)), new_size
    return move[:, :count]


def gradient(inner: Tensor, weights: Tensor, residual: Tensor) -> Tensor:
    """Aᵀ residual, for a residual in the complement of 𝒴."""
    return inner.T @ (weights * residual)


def squared(inner: Tensor, outer: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """AᵀA u."""
    return gradient(inner, weights, beside(outer, weights * (inner @ u)))


def active(inner: Tensor, u: Tensor) -> Tensor:
    """a = [Φ u > 0] as 0 and 1."""
    return (inner @ u > 0).to(u.dtype)


def factorise(inner: Tensor, outer: Tensor, weights: Tensor, normal: Tensor | None = None) -> Tensor:
    """Cholesky factors of AᵀA + u uᵀ, shape (K, r, r); u uᵀ lifts the null direction, so that they exist.

    m r (r + b) operations per candidate.
    """
    lost = masked_products(outer, inner, weights)
    gram = masked_products(inner, inner, weights**2) - lost.mT @ lost
    if normal is not None:
        gram += normal.T[:, :, None] * normal.T[:, None, :]
    diagonal = gram.diagonal(dim1=1, dim2=2)
    if diagonal.shape[1]:
        diagonal += diagonal.shape[1] * torch.finfo(gram.dtype).eps * diagonal.amax(dim=1, keepdim=True)
    return torch.linalg.cholesky_ex(gram)[0]


def smallest(lower: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Unit right singular vectors of the smallest singular value of each factorised A, shape (r, K).

    By inverse iteration from random vectors. Such a vector is the direction in which noise moves a candidate most, and
    the mixing direction where two samples share their pattern.
    """
    count, r = lower.shape[:2]
    v = random_units((r, count), lower, generator)
    for _ in range(INVERSE_STEPS):
        v = units(solved(lower, v))
    return v


def solved(lower: Tensor, columns: Tensor) -> Tensor:
    """x of (L Lᵀ) x = b for every column b, (r, K), with its own Cholesky factor L, (K, r, r)."""
    return torch.cholesky_solve(columns.T[:, :, None], lower)[:, :, 0].T


def amplification(lower: Tensor) -> tuple[Tensor, Tensor]:
    """How far unit noise in every entry of y moves a candidate, and whether along one direction alone.

    Returns:
        ‖A⁺‖ (Frobenius) of each factorised A, and 1 / (number of directions that share it evenly), shape (K,) each.
    """
    # not so of a sample that leaves an unknown open
    regular = (lower.diagonal(dim1=1, dim2=2) > 0).all(dim=1)
    inverse = torch.cholesky_inverse(lower.masked_fill(~regular[:, None, None], 1.0))
    size = inverse.diagonal(dim1=1, dim2=2).sum(dim=1).masked_fill(~regular, torch.inf)
    return size.sqrt(), inverse.square().sum(dim=(1, 2)) / size.square()
