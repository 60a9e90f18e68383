"""Forward consistency, second move: from near a sample to the exact z.

With ReLU and the pattern a = [z > 0] fixed, σ(z) = a ∘ z is linear, and σ(z) ∈ 𝒴 reads A u = 0 with
A = (I − Y Yᵀ) diag(a) Φ and z = Φ u: the exact z is a null vector. With any other σ the same matrix, a = σ'(z),
is the Jacobian of a Gauss–Newton step. Both are least-squares problems, solved for all candidates at once by
conjugate gradients (CGLS; Björck 1996, §7.4): only products of m × b by b × K.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from spear_core.consistency_relation import value_and_slope
from spear_core.deflation import masked_products

DENSE_SIZE = 192  # up to this size Cholesky factors are cheaper than many steps
CG_STEPS = 60
DENSE_STEPS = 3
STALLED = 1 - 1e-3  # Gauss–Newton stops where no candidate's misfit falls by more than this
RETURNED = 1e-6  # what may be left of a kick before the exact solution counts as converged
KICK = 0.1  # relative length of the random step that a true sample must come back from


def pattern_newton(inner: Tensor, outer: Tensor, start: Tensor, *, passes: int, steps: int) -> Tensor:
    """ReLU: solve with the current pattern, take the new pattern, repeat. Newton's method for a kink.

    Converges from a cosine of about 0.9 to the sample.

    Args:
        inner: Φ, orthonormal columns, shape (m, r).
        outer: Y, orthonormal columns, shape (m, b).
        start: u as unit columns, shape (r, K).
        passes: how often the pattern is renewed, unless it no longer changes.
        steps: conjugate-gradient steps per pass.

    Returns:
        u as unit columns, shape (r, K).
    """
    u, last = start, None
    for _ in range(passes):
        pattern = active(inner, u)
        if last is not None and torch.equal(pattern, last):
            break
        u, last = null_vectors(inner, outer, u, pattern, steps), pattern
    return u


def gauss_newton(
    sigma: Callable[[Tensor], Tensor],
    centre: Tensor,
    inner: Tensor,
    outer: Tensor,
    offset: Tensor,
    start: Tensor,
    *,
    passes: int,
    dense: bool,
) -> Tensor:
    """Any σ: minimise ‖(I − Y Yᵀ) (σ(z₀ + Φ u) − y₀)‖ over u, the step halved where it would climb.

    Args:
        sigma: the activation.
        centre: z₀, shape (m, 1).
        inner: Φ, orthonormal columns, shape (m, r).
        outer: Y, orthonormal columns, shape (m, b).
        offset: y₀ ⟂ Y, shape (m, 1).
        start: u as columns, shape (r, K).
        passes: Gauss–Newton steps.
        dense: as for `least_squares`.

    Returns:
        u as columns, shape (r, K).
    """

    def residual(u: Tensor) -> Tensor:
        y = sigma(centre + inner @ u)
        return y - outer @ (outer.T @ y) - offset

    u, left = start, residual(start)
    for _ in range(passes):
        _, slope = value_and_slope(sigma, centre + inner @ u)
        step = least_squares(inner, outer, slope, left, DENSE_STEPS if dense else 16, dense=dense)
        before = left.norm(dim=0)
        for shorten in (1.0, 0.5, 0.25, 0.1):
            tried = u + shorten * step
            new = residual(tried)
            better = new.norm(dim=0) < left.norm(dim=0)
            u, left = torch.where(better, tried, u), torch.where(better, new, left)
            # whoever has moved stays until the next pass
            step = torch.where(better, 0, step)
            if better.all():
                break
        if (left.norm(dim=0) > STALLED * before).all():
            break
    return u


def kicked_null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """ReLU: exact null vectors from kicked starts, and how far each came to lie from where it was.

    Where the null space of A is a plane (two samples with one pattern: any mixture is consistent), the part of
    the kick inside the plane stays. So a small shift shows that the sample is unique.

    Args:
        inner: Φ in float64.
        outer: Y in float64.
        start: u as unit columns, shape (r, K), converged to float32 precision.
        generator: source of the kicks.

    Returns:
        u as unit columns, shape (r, K), and the shifts relative to the kick, shape (K,).
    """
    kick = KICK * _random_units(start, generator)
    pattern = active(inner, start)
    if start.shape[0] <= DENSE_SIZE:
        exact = null_vectors(inner, outer, _units(start + kick), pattern, DENSE_STEPS, dense=True)
        return exact, (exact - start).norm(dim=0) / KICK
    # two opposite kicks must end at one point; where they do not, few steps do not resolve similar samples
    exact, other = null_vectors(
        inner,
        outer,
        _units(torch.cat([start + kick, start - kick], dim=1)),
        pattern.repeat(1, 2),
        CG_STEPS,
    ).chunk(2, dim=1)
    shift = (exact - other).norm(dim=0) / KICK
    slow = (shift > RETURNED).nonzero().flatten()
    if len(slow):
        again = _units((start + kick)[:, slow])
        exact = exact.clone()
        exact[:, slow] = null_vectors(inner, outer, again, pattern[:, slow], DENSE_STEPS + 1, dense=True)
        shift[slow] = (exact - start)[:, slow].norm(dim=0) / KICK
    return exact, shift


def kick_remainder(
    inner: Tensor, outer: Tensor, slope: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Any σ: the share of a random kick that the linearised problem does not take back, shape (K,)."""
    kick = _random_units(inner.new_empty(inner.shape[1], slope.shape[1]), generator)
    change = slope * (inner @ kick)
    change = change - outer @ (outer.T @ change)
    dense = inner.shape[1] <= DENSE_SIZE
    back = least_squares(inner, outer, slope, change, DENSE_STEPS if dense else CG_STEPS, dense=dense)
    return (kick + back).norm(dim=0)


def null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, weights: Tensor, steps: int, *, dense: bool = False
) -> Tensor:
    """Unit u + d that minimises ‖A (u + d)‖ over d ⟂ u, for every column u of `start`."""
    y = weights * (inner @ start)
    residual = y - outer @ (outer.T @ y)
    exact = start + least_squares(inner, outer, weights, residual, steps, dense=dense, normal=start)
    return exact / exact.norm(dim=0)


def least_squares(
    inner: Tensor,
    outer: Tensor,
    weights: Tensor,
    residual: Tensor,
    steps: int,
    *,
    dense: bool = False,
    normal: Tensor | None = None,
) -> Tensor:
    """Minimise ‖A d + residual‖ for every column, A = (I − Y Yᵀ) diag(a) Φ, by CGLS.

    Args:
        inner: Φ, shape (m, r).
        outer: Y, shape (m, b).
        weights: a as columns, shape (m, K).
        residual: as columns in the complement of 𝒴, shape (m, K).
        steps: conjugate-gradient steps.
        dense: whether to precondition with the Cholesky factor of AᵀA (+ u uᵀ). Then three steps suffice,
            however ill-conditioned A is (similar samples), at m r (r + b) operations per candidate.
        normal: unit columns u, shape (r, K), to which d stays orthogonal.

    Returns:
        d as columns, shape (r, K).
    """
    if inner.shape[1] == 0:
        return weights.new_zeros(0, weights.shape[1])
    tiny = torch.finfo(weights.dtype).tiny
    lower = _cholesky(inner, outer, weights, normal) if dense else None

    def forward(d: Tensor) -> Tensor:
        y = weights * (inner @ d)
        return y - outer @ (outer.T @ y)

    def gradient(residual: Tensor) -> Tensor:
        return project(inner.T @ (weights * residual))

    def project(s: Tensor) -> Tensor:
        return s if normal is None else s - normal * (normal * s).sum(dim=0)

    def precondition(s: Tensor) -> Tensor:
        return s if lower is None else project(torch.cholesky_solve(s.T[:, :, None], lower)[:, :, 0].T)

    residual = -residual
    s = gradient(residual)
    along = precondition(s)
    size = (s * along).sum(dim=0)
    move = torch.zeros_like(s)
    for _ in range(steps):
        change = forward(along)
        length = size / (change * change).sum(dim=0).clamp_min(tiny)
        move = move + length * along
        residual = residual - length * change
        s = gradient(residual)
        scaled = precondition(s)
        new_size = (s * scaled).sum(dim=0)
        along, size = scaled + along * (new_size / size.clamp_min(tiny)), new_size
    return move


def active(inner: Tensor, u: Tensor) -> Tensor:
    """A = [Φ u > 0] as 0 and 1."""
    return (inner @ u > 0).to(u.dtype)


def _cholesky(inner: Tensor, outer: Tensor, weights: Tensor, normal: Tensor | None) -> Tensor:
    """Cholesky factors of AᵀA + u uᵀ, shape (K, r, r); u uᵀ lifts the null direction, so that they exist."""
    lost = masked_products(outer, inner, weights)
    gram = masked_products(inner, inner, weights**2) - lost.mT @ lost
    if normal is not None:
        gram += normal.T[:, :, None] * normal.T[:, None, :]
    largest = gram.diagonal(dim1=1, dim2=2).amax(dim=1)
    gram.diagonal(dim1=1, dim2=2).add_(gram.shape[1] * torch.finfo(gram.dtype).eps * largest[:, None])
    return torch.linalg.cholesky_ex(gram)[0]


def _units(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0)


def _random_units(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return _units(torch.randn(like.shape, dtype=like.dtype, generator=generator).to(like.device))
