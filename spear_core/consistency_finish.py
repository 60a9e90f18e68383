"""Forward consistency, second move: with the activation pattern fixed, the exact z is a null vector.

With a = [z > 0], relu(z) = a ∘ z is linear, and relu(z) ∈ 𝒴 reads A u = 0 with A = (I − Y Yᵀ) diag(a) Φ and
z = Φ u. The null vector is found by conjugate gradients on AᵀA for all candidates at once (CGLS; Björck 1996,
§7.4): only products of m × b by b × K, and from a nearby start the condition of the *other* directions alone
counts.
"""

import torch
from torch import Tensor

from spear_core.deflation import masked_products

DENSE_SIZE = 128  # up to this size Cholesky factors are cheaper than many steps
CG_STEPS = 60
RETURNED = 1e-4  # a slower return, relative to the kick, means that similar samples make A ill-conditioned
KICK = 0.1  # relative length of the random step that a true sample must come back from


def pattern_newton(inner: Tensor, outer: Tensor, start: Tensor, *, passes: int, steps: int) -> Tensor:
    """Solve with the current pattern, take the new pattern, repeat: Newton's method for a kinked function.

    Converges from a cosine of about 0.9 to the sample.

    Args:
        inner: Φ, orthonormal columns, shape (m, r).
        outer: Y, orthonormal columns, shape (m, b).
        start: u as unit columns, shape (r, K).
        passes: how often the pattern is renewed.
        steps: conjugate-gradient steps per pass.

    Returns:
        u as unit columns, shape (r, K).
    """
    u = start
    for _ in range(passes):
        u = null_vectors(inner, outer, u, _pattern(inner, u), steps)
    return u


def kicked_null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Exact null vectors from kicked starts, and how far each came to lie from where it was.

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
    kick = torch.randn(start.shape, dtype=start.dtype, generator=generator).to(start.device)
    kicked = start + KICK * kick / kick.norm(dim=0)
    kicked = kicked / kicked.norm(dim=0)
    pattern = _pattern(inner, start)
    small = start.shape[0] <= DENSE_SIZE
    exact = null_vectors(inner, outer, kicked, pattern, 3 if small else CG_STEPS, dense=small)
    shift = (exact - start).norm(dim=0) / KICK
    slow = (shift > RETURNED).nonzero().flatten()
    if not small and len(slow):
        exact[:, slow] = null_vectors(inner, outer, kicked[:, slow], pattern[:, slow], 4, dense=True)
        shift = (exact - start).norm(dim=0) / KICK
    return exact, shift


def null_vectors(
    inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor, steps: int, *, dense: bool = False
) -> Tensor:
    """Minimise ‖A (u + d)‖ over d ⟂ u for every column, A = (I − Y Yᵀ) diag(a) Φ, by CGLS.

    Args:
        inner: Φ, shape (m, r).
        outer: Y, shape (m, b).
        start: u as unit columns, shape (r, K).
        pattern: a as columns of 0 and 1, shape (m, K).
        steps: conjugate-gradient steps.
        dense: whether to precondition with the Cholesky factor of AᵀA + u uᵀ. Then three steps suffice, however
            ill-conditioned A is (similar samples), at m r (r + b) operations per candidate.
    """
    tiny = torch.finfo(start.dtype).tiny
    lower = _cholesky(inner, outer, start, pattern) if dense else None

    def forward(d: Tensor) -> Tensor:
        y = pattern * (inner @ d)
        return y - outer @ (outer.T @ y)

    def gradient(residual: Tensor) -> Tensor:
        s = inner.T @ (pattern * residual)
        return project(s)

    def project(s: Tensor) -> Tensor:
        return s - start * (start * s).sum(dim=0)

    def precondition(s: Tensor) -> Tensor:
        return s if lower is None else project(torch.cholesky_solve(s.T[:, :, None], lower)[:, :, 0].T)

    move = torch.zeros_like(start)
    residual = -forward(start)
    s = gradient(residual)
    along = precondition(s)
    size = (s * along).sum(dim=0)
    for _ in range(steps):
        change = forward(along)
        length = size / (change * change).sum(dim=0).clamp_min(tiny)
        move = move + length * along
        residual = residual - length * change
        s = gradient(residual)
        scaled = precondition(s)
        new_size = (s * scaled).sum(dim=0)
        along, size = scaled + along * (new_size / size.clamp_min(tiny)), new_size
    exact = start + move
    return exact / exact.norm(dim=0)


def _cholesky(inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor) -> Tensor:
    """Cholesky factors of AᵀA + u uᵀ, shape (K, r, r); u uᵀ lifts the null direction, so that they exist."""
    r, b = inner.shape[1], outer.shape[1]
    lost = masked_products(outer, inner, pattern)
    gram = masked_products(inner, inner, pattern) - lost.mT @ lost
    gram += start.T[:, :, None] * start.T[:, None, :]
    gram.diagonal(dim1=1, dim2=2).add_(r * torch.finfo(gram.dtype).eps)
    return torch.linalg.cholesky_ex(gram)[0]


def _pattern(inner: Tensor, u: Tensor) -> Tensor:
    return (inner @ u > 0).to(u.dtype)
