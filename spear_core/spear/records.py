"""What steps 2 to 5 hand to each other: the pool of directions, the layer in the row space, the batch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.problem import LinearLayer
from spear_core.spear.low_rank import LowRank

PROJECTED_COLUMNS = 2**13  # columns of W that are held in float64 at a time: memory stays bounded


@dataclass(frozen=True)
class Pool:
    """Directions that passed the filter.

    Attributes:
        directions: unit vectors as columns, shape (b, p), float64.
        zeros: zero entries of L q for each, shape (p,).
        unique: whether its zeros leave no other direction, even with two of them taken away, shape (p,).
        explored: planes and spaces of mixtures that have been searched, orthonormal columns, shape (b, d)
            each.
    """

    directions: Tensor
    zeros: Tensor
    unique: Tensor
    explored: tuple[Tensor, ...] = ()

    @classmethod
    def empty(cls, b: int, device: torch.device) -> "Pool":
        """A pool of no directions of length b."""
        return cls(
            torch.zeros(b, 0, dtype=torch.float64, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
            torch.zeros(0, dtype=torch.bool, device=device),
        )

    def __len__(self) -> int:
        return self.directions.shape[1]

    @property
    def known(self) -> "Pool":
        """Those whose zeros leave no other direction."""
        rows = self.unique
        return replace(self, directions=self.directions[:, rows], zeros=self.zeros[rows], unique=rows[rows])


@dataclass(frozen=True)
class Forward:
    """The attacked layer seen from the row space of its gradient: x = c R gives z = c (W Rᵀ)ᵀ + β.

    Computed once per attack (`search.Target`), so that trying out directions never touches the n columns again.

    Attributes:
        low_rank: the split of G.
        layer: the attacked layer.
        weights: (W Rᵀ)ᵀ = R Wᵀ, shape (b, m), float64.
    """

    low_rank: LowRank
    layer: LinearLayer
    weights: Tensor

    @classmethod
    def of(cls, low_rank: LowRank, layer: LinearLayer) -> "Forward":
        """Project W on the rows R, a slice of columns at a time."""
        R, W = low_rank.rows, layer.weight
        weights = R.new_zeros(low_rank.batch_size, len(W))
        for rows, columns in zip(R.split(PROJECTED_COLUMNS, 1), W.split(PROJECTED_COLUMNS, 1), strict=True):
            weights += rows @ columns.to(torch.float64).T
        return cls(low_rank, layer, weights)

    def preactivations(self, coefficients: Tensor) -> Tensor:
        """Z as rows, shape (k, m), for coefficients c as rows, shape (k, b)."""
        return coefficients @ self.weights + self.layer.bias.to(torch.float64)


@dataclass(frozen=True)
class Reconstruction:
    """A batch computed from directions, and how well it agrees with what ReLU must have done.

    Attributes:
        low_rank: the split that it is computed from.
        directions: Q̄, unit columns, shape (b, k).
        lengths: s, so that Q = Q̄ diag(s), shape (k,).
        coefficients: Q⁻¹, rows c_i with x_i = c_i R, shape (k, b).
        preactivations: Z as rows, shape (k, m), float64.
        agreement: whether [∂L/∂z = 0] = [z ≤ 0], for each sample and unit, shape (k, m); None where σ is not
            ReLU, or where layer 1 does not separate the samples (b > n).
    """

    low_rank: LowRank
    directions: Tensor
    lengths: Tensor
    coefficients: Tensor
    preactivations: Tensor
    agreement: Tensor | None

    @property
    def inputs(self) -> Tensor:
        """X as rows, Xᵀ = Q⁻¹ R, shape (k, n), float64."""
        return self.coefficients @ self.low_rank.rows

    @property
    def output_grads(self) -> Tensor:
        """(∂L/∂Z)ᵀ = (L Q)ᵀ, shape (k, m), float64."""
        return (self.low_rank.factor @ (self.directions * self.lengths)).T

    @property
    def separated(self) -> bool:
        """Whether layer 1 tells every sample's direction."""
        return bool(self.directions.isfinite().all())

    @property
    def sparsity_match(self) -> float:
        """λ, the share of entries that agree; NaN where zeros say nothing."""
        if self.agreement is None:
            return torch.nan
        return float(self.agreement.to(torch.float64).mean()) if self.agreement.numel() else 0.0
