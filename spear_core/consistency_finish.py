"""Forward consistency, second move: from near a sample to the exact z.

With ReLU and the pattern a = [z > 0] fixed, σ(z) = a ∘ z is linear, and σ(z) ∈ 𝒴 reads A u = 0 with
A = (I − Y Yᵀ) diag(a) Φ and z = Φ u: the exact z is a null vector. With any other σ the same matrix, with
a = σ'(z), is the Jacobian of a Gauss–Newton step. Both are least-squares problems, solved for all candidates
at once by conjugate gradients (CGLS; Björck 1996, §7.4): only products of m × b by b × K.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from spear_core.consistency_relation import value_and_slope
from spear_core.deflation import masked_products

DENSE_SIZE = 192  # up to this size Cholesky factors are cheaper than many steps
CG_STEPS = 45
DENSE_STEPS = 3
INVERSE_STEPS = 4
STALLED = 1 - 1e-3  # Gauss–Newton stops where no candidate's misfit falls by more than this
RETURNED = 1e-6  # what may be left of a kick before the exact solution counts as converged
KICK = 0.1  # relative length of a random step that steps enough must undo
EDGE = 1e-4  # units this close to zero, relative to the rms of z, are tried on both sides


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
        dense: whether to factorise A rather than to take more steps of conjugate gradients.

    Returns:
        u as columns, shape (r, K).
    """

    def residual(u: Tensor) -> Tensor:
        y = sigma(centre + inner @ u)
        return y - outer @ (outer.T @ y) - offset

    u, left = start, residual(start)
    for _ in range(passes):
        _, slope = value_and_slope(sigma, centre + inner @ u)
        lower = factorise(inner, outer, slope) if dense else None
        step = least_squares(inner, outer, slope, left, DENSE_STEPS if dense else 16, lower)
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


def exact_null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """ReLU: the null vectors to full precision, and the direction in which A determines each least.

    Args:
        inner: Φ in float64.
        outer: Y in float64.
        start: u as unit columns, shape (r, K), converged to float32 precision.
        generator: source of random vectors.

    Returns:
        u as unit columns, shape (r, K), and the weakest directions, also unit columns.
    """
    pattern = active(inner, start)
    exact, weak = _exact_for_pattern(inner, outer, start, pattern, generator)
    # float32 leaves units near zero on the wrong side; the exact z puts them right
    moved = (active(inner, exact) != pattern).any(dim=0).nonzero().flatten()
    if len(moved):
        pattern[:, moved] = active(inner, exact[:, moved])
        exact[:, moved], weak[:, moved] = _exact_for_pattern(
            inner, outer, exact[:, moved], pattern[:, moved], generator
        )
    return exact, _weakest_at_edges(inner, outer, exact, pattern, weak, generator)


def _exact_for_pattern(
    inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """`exact_null_vectors` for given patterns."""
    if start.shape[0] <= DENSE_SIZE:
        lower = factorise(inner, outer, pattern, start)
        return null_vectors(inner, outer, start, pattern, DENSE_STEPS, lower), smallest(lower, generator)
    # two opposite kicks must end at one point; where they do not, few steps do not resolve similar samples
    kick = KICK * random_units(start.shape, start, generator)
    exact, other = null_vectors(
        inner,
        outer,
        _units(torch.cat([start + kick, start - kick], dim=1)),
        pattern.repeat(1, 2),
        CG_STEPS,
    ).chunk(2, dim=1)
    # a random vector stands for the weakest where nothing is weak: A shrinks no kick that so few steps undo
    exact, weak = exact.clone(), random_units(start.shape, start, generator)
    slow = ((exact - other).norm(dim=0) > RETURNED * KICK).nonzero().flatten()
    if len(slow):
        lower = factorise(inner, outer, pattern[:, slow], start[:, slow])
        exact[:, slow] = null_vectors(inner, outer, start[:, slow], pattern[:, slow], DENSE_STEPS, lower)
        weak[:, slow] = smallest(lower, generator)
    return exact, weak


def _weakest_at_edges(
    inner: Tensor,
    outer: Tensor,
    exact: Tensor,
    pattern: Tensor,
    weak: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Replace weakest directions by those on the other side of units that are zero to rounding.

    The consistent mixtures of two samples with one pattern end where a unit reaches zero. With that unit
    counted to the far side the end point looks unique; counted to the near side it does not.
    """
    z = inner @ exact
    edge = z.abs() < EDGE * z.square().mean(dim=0).sqrt()
    at_edge = edge.any(dim=0).nonzero().flatten()
    if len(at_edge):
        near, far = pattern[:, at_edge], torch.where(edge, 1 - pattern, pattern)[:, at_edge]
        other = smallest(factorise(inner, outer, far, exact[:, at_edge]), generator)
        weaker = _shrinkage(inner, outer, far, other) < _shrinkage(inner, outer, near, weak[:, at_edge])
        weak = weak.clone()
        weak[:, at_edge] = torch.where(weaker, other, weak[:, at_edge])
    return weak


def _shrinkage(inner: Tensor, outer: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """‖A u‖ of unit columns."""
    y = weights * (inner @ u)
    return (y - outer @ (outer.T @ y)).norm(dim=0)


def null_vectors(
    inner: Tensor,
    outer: Tensor,
    start: Tensor,
    weights: Tensor,
    steps: int,
    lower: Tensor | None = None,
) -> Tensor:
    """Unit u + d that minimises ‖A (u + d)‖ over d ⟂ u, for every column u of `start`."""
    y = weights * (inner @ start)
    residual = y - outer @ (outer.T @ y)
    return _units(start + least_squares(inner, outer, weights, residual, steps, lower, normal=start))


def least_squares(
    inner: Tensor,
    outer: Tensor,
    weights: Tensor,
    residual: Tensor,
    steps: int,
    lower: Tensor | None = None,
    normal: Tensor | None = None,
) -> Tensor:
    """Minimise ‖A d + residual‖ for every column, A = (I − Y Yᵀ) diag(a) Φ, by CGLS.

    Args:
        inner: Φ, shape (m, r).
        outer: Y, shape (m, b).
        weights: a as columns, shape (m, K).
        residual: as columns in the complement of 𝒴, shape (m, K).
        steps: conjugate-gradient steps.
        lower: Cholesky factors from `factorise`. With them three steps suffice, however ill-conditioned A is
            (similar samples).
        normal: unit columns u, shape (r, K), to which d stays orthogonal.

    Returns:
        d as columns, shape (r, K).
    """
    if inner.shape[1] == 0:
        return weights.new_zeros(0, weights.shape[1])
    tiny = torch.finfo(weights.dtype).tiny

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
    """Right singular vector of the smallest singular value of each factorised A, as unit columns (r, K).

    By inverse iteration from random vectors. It is the direction in which noise moves a candidate most, and
    the mixing direction where two samples share their pattern.
    """
    count, r = lower.shape[:2]
    v = random_units((r, count), lower, generator)
    for _ in range(INVERSE_STEPS):
        v = _units(torch.cholesky_solve(v.T[:, :, None], lower)[:, :, 0].T)
    return v


def gain(lower: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """1 / (smallest singular value) of each factorised A: how far a unit of noise moves a candidate, (K,)."""
    v = smallest(lower, generator)
    return 1 / (lower.mT @ v.T[:, :, None]).norm(dim=1)[:, 0]


def _units(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0)


def random_units(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random unit columns of the dtype and on the device of `like`, drawn on the CPU."""
    return _units(torch.randn(shape, dtype=like.dtype, generator=generator).to(like.device))
