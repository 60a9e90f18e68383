"""Forward consistency, first move: walkers from random starts run down to the samples."""

import torch
from torch import Tensor

RELAXATION = 1.9  # just below 2, where the relaxed projection would stop contracting


def alternate(inner: Tensor, outer: Tensor, start: Tensor, steps: int) -> Tensor:
    """Alternating projections between {z ∈ span Φ} and {relu(z) ∈ 𝒴}, all walkers in step.

    With z = Φ u, h = relu(z) and y = relu(Y Yᵀ h), one step moves the active half of z to y and leaves the
    inactive half: u ← u + 1.9 Φᵀ (y − h), normalised, since the relation is homogeneous. The inner relu is
    what makes it converge from anywhere: y stays a vector of activations.

    Args:
        inner: Φ, orthonormal columns, shape (m, r).
        outer: Y, orthonormal columns, shape (m, b).
        start: u as columns, shape (r, K).
        steps: how many; each costs four products of m × b by b × K.

    Returns:
        u as unit columns, shape (r, K).
    """
    u = start / start.norm(dim=0)
    for _ in range(steps):
        h = torch.relu(inner @ u)
        y = torch.relu(outer @ (outer.T @ h))
        u = u + RELAXATION * (inner.T @ (y - h))
        u = u / u.norm(dim=0)
    return u
