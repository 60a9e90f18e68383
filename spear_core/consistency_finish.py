"""Forward consistency, second move: with the activation pattern fixed, the exact z is a null vector.

With a = [z > 0], relu(z) = a ∘ z is linear, and relu(z) ∈ 𝒴 reads A u = 0 with A = (I − Y Yᵀ) diag(a) Φ and
z = Φ u. The null vector is found by conjugate gradients on AᵀA for all candidates at once (CGLS; Björck 1996,
§7.4): only products of m × b by b × K, and from a nearby start the condition of the *other* directions alone
counts.
"""

import torch
from torch import Tensor

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
    exact = null_vectors(inner, outer, kicked / kicked.norm(dim=0), _pattern(inner, start), 30)
    return exact, (exact - start).norm(dim=0) / KICK


def null_vectors(inner: Tensor, outer: Tensor, start: Tensor, pattern: Tensor, steps: int) -> Tensor:
    """Minimise ‖A (u + d)‖ over d ⟂ u for every column, A = (I − Y Yᵀ) diag(a) Φ, by CGLS."""
    tiny = torch.finfo(start.dtype).tiny

    def forward(d: Tensor) -> Tensor:
        y = pattern * (inner @ d)
        return y - outer @ (outer.T @ y)

    def gradient(residual: Tensor) -> Tensor:
        s = inner.T @ (pattern * residual)
        return s - start * (start * s).sum(dim=0)

    move = torch.zeros_like(start)
    residual = -forward(start)
    s = gradient(residual)
    along, size = s, (s * s).sum(dim=0)
    for _ in range(steps):
        change = forward(along)
        length = size / (change * change).sum(dim=0).clamp_min(tiny)
        move = move + length * along
        residual = residual - length * change
        s = gradient(residual)
        new_size = (s * s).sum(dim=0)
        along, size = s + along * (new_size / size.clamp_min(tiny)), new_size
    exact = start + move
    return exact / exact.norm(dim=0)


def _pattern(inner: Tensor, u: Tensor) -> Tensor:
    return (inner @ u > 0).to(u.dtype)
