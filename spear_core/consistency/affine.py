"""The affine spaces in which a sample lies: z in one, σ(z) in another, whatever σ is.

The bias gradients place them: every sample has c · Lᵀ g = 1, and every sample still missing has c · q = 0 for the
directions q of the found ones (`deflation`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.linalg import least_squares, orthonormal


@dataclass(frozen=True)
class Space:
    """The affine space o + span N.

    Attributes:
        offset: o ⟂ N, shape (rows,).
        basis: N, orthonormal columns, shape (rows, d).
    """

    offset: Tensor
    basis: Tensor

    @classmethod
    def image(cls, matrix: Tensor, constant: Tensor, coefficients: tuple[Tensor, Tensor] | None) -> "Space":
        """{M c + β}, M (rows, b) and β (rows,), for the c that `allowed` gives, or for all if None."""
        if coefficients is None:
            offset, basis = constant, orthonormal(matrix)
        else:
            nearest, free = coefficients
            offset, basis = constant + matrix @ nearest, orthonormal(matrix @ free)
        return cls(offset - basis @ (basis.T @ offset), basis)

    def at(self, u: Tensor) -> Tensor:
        """o + N u for columns u."""
        return self.offset[:, None] + self.basis @ u

    def project(self, points: Tensor) -> Tensor:
        """The nearest points, as columns."""
        return self.at(self.basis.T @ points)

    def coordinates(self, points: Tensor) -> Tensor:
        """u with o + N u nearest to each point."""
        return self.basis.T @ (points - self.offset[:, None])

    def to(self, dtype: torch.dtype) -> "Space":
        """The same in another precision."""
        return Space(self.offset.to(dtype), self.basis.to(dtype))


def allowed(mean: Tensor, *directions: Tensor) -> tuple[Tensor, Tensor]:
    """{c : c · mean = 1, c · q = 0}: its point nearest to zero, shape (b,), and a basis of its directions, (b, d).

    `mean` is Lᵀ g, shape (b,); the q of the samples found are columns, each matrix of them (b, ·).
    """
    size = torch.where(mean.norm() > 0, mean.norm(), 1.0)  # sparse updates may leave nothing of it
    fixed = torch.cat([mean[:, None] / size, *directions], dim=1)
    wanted = torch.zeros_like(fixed[0])
    wanted[0] = 1 / size
    nearest = least_squares(fixed.T, wanted[:, None])[:, 0]
    return nearest, torch.linalg.qr(fixed, mode="complete")[0][:, fixed.shape[1] :]


@dataclass(frozen=True)
class Pair:
    """Where a sample is, for any σ: z ∈ z₀ + span Φ and σ(z) ∈ y₀ + span Y.

    Attributes:
        sigma: σ.
        before: z₀ + span Φ, of z in ℝᵐ.
        after: y₀ + span Y, of y in ℝᵐ.
    """

    sigma: Callable[[Tensor], Tensor]
    before: Space
    after: Space

    def to(self, dtype: torch.dtype) -> "Pair":
        """The same in another precision."""
        return Pair(self.sigma, self.before.to(dtype), self.after.to(dtype))

    def outside(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """What σ(z₀ + Φ u) has beside y₀ + span Y, and its length without that; columns (m, K), shape (K,)."""
        y = self.sigma(self.before.at(u))
        return y - self.after.project(y), y.norm(dim=0)
