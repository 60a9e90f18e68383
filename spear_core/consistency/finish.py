"""Forward consistency, second move: from near a sample to its z.

With ReLU and the pattern a = [z > 0] fixed, σ(z) = a ∘ z is linear, and σ(z) ∈ 𝒴 reads A u = 0 with
A = (I − Y Yᵀ) diag(a) Φ and z = Φ u: the exact z is a null vector (`exact`). With any other σ the
same matrix, with a = σ'(z), is the Jacobian of a Gauss–Newton step. Both are least-squares problems, solved
for all candidates at once (`masked_least_squares`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from spear_core.consistency.masked_least_squares import (
    active,
    factorise,
    gradient,
    least_squares,
    null_vectors,
)
from spear_core.linalg import value_and_slope

DENSE_STEPS, STEPS = 3, 16  # of conjugate gradients, with Cholesky factors and without
STALLED = 1 - 1e-3  # Gauss–Newton stops where no candidate's misfit falls by more than this


def pattern_newton(inner: Tensor, outer: Tensor, start: Tensor, *, passes: int, steps: int) -> Tensor:
    """ReLU: solve with the current pattern, take the new pattern, repeat. Newton's method for a kink.

    Converges from a cosine of about 0.9 to the sample.

    Args:
        inner: Φ, orthonormal columns, shape (m, r).
        outer: Y, orthonormal columns, shape (m, b).
        start: u as unit columns, shape (r, K).
        passes: how often the pattern is renewed; a candidate whose pattern no longer changes has arrived.
        steps: conjugate-gradient steps per pass.

    Returns:
        u as unit columns, shape (r, K).
    """
    u, pattern = start.clone(), active(inner, start)
    moving = torch.arange(u.shape[1], device=u.device)
    for _ in range(passes):
        u[:, moving] = null_vectors(inner, outer, u[:, moving], pattern[:, moving], steps)
        turned = active(inner, u[:, moving])
        changed = (turned != pattern[:, moving]).any(dim=0)
        pattern[:, moving] = turned
        moving = moving[changed]
        if not len(moving):
            break
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
        step = least_squares(
            inner, outer, slope, gradient(inner, slope, left), DENSE_STEPS if dense else STEPS, lower
        )
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
