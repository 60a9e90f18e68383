"""Forward consistency, second move: from near a sample to its z.

With ReLU and the pattern a = [z > 0] fixed, σ(z) = a ∘ z is linear, and σ(z) ∈ 𝒴 reads A u = 0 with
A = (I − Y Yᵀ) diag(a) Φ and z = Φ u: the exact z is a null vector (`exact`). With any other σ the
same matrix, with a = σ'(z), is the Jacobian of a Gauss–Newton step. Both are least-squares problems, solved
for all candidates at once (`masked_least_squares`, which says what the letters mean).
"""

import torch
from torch import Tensor

from spear_core.consistency.affine import Pair
from spear_core.consistency.masked_least_squares import (
    DENSE_STEPS,
    active,
    factorise,
    gradient,
    least_squares,
    null_vectors,
)
from spear_core.linalg import value_and_slope

THIN_STEPS = 16  # of conjugate gradients without Cholesky factors
SHORTER = (1.0, 0.5, 0.25, 0.1)  # shares of a Gauss–Newton step that are tried until one descends
STALLED = 1 - 1e-3  # Gauss–Newton stops where no candidate's misfit falls by more than this


def pattern_newton(inner: Tensor, outer: Tensor, start: Tensor, *, passes: int, steps: int) -> Tensor:
    """ReLU: solve with the current pattern, take the new pattern, repeat. Newton's method for a kink.

    From unit columns u to unit columns u, of which those with a cosine of about 0.9 to a sample converge to it. The
    pattern is renewed in at most `passes` passes of `steps` conjugate gradients each; a candidate whose pattern no
    longer changes has arrived.
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


def gauss_newton(pair: Pair, start: Tensor, *, passes: int, dense: bool) -> Tensor:
    """Any σ: minimise the distance of σ(z₀ + Φ u) from y₀ + span Y over u, the step shortened where it would climb.

    From columns u to columns u; `dense` factorises A rather than to take more steps of conjugate gradients.
    """
    inner, outer, steps = pair.before.basis, pair.after.basis, DENSE_STEPS if dense else THIN_STEPS
    u, (left, _) = start, pair.outside(start)
    for _ in range(passes):
        _, slope = value_and_slope(pair.sigma, pair.before.at(u))
        lower = factorise(inner, outer, slope) if dense else None
        step = least_squares(inner, outer, slope, gradient(inner, slope, left), steps, lower)
        before = left.norm(dim=0)
        for share in SHORTER:
            tried = u + share * step
            new, _ = pair.outside(tried)
            better = new.norm(dim=0) < left.norm(dim=0)
            u, left = torch.where(better, tried, u), torch.where(better, new, left)
            # whoever has moved stays until the next pass
            step = torch.where(better, 0, step)
            if better.all():
                break
        if (left.norm(dim=0) > STALLED * before).all():
            break
    return u
