"""Forward consistency: what the gradients of two consecutive layers say about one hidden vector z.

z = M c + β with M = W Rᵀ, and σ(z) = R₂ᵀ p: two low-dimensional spaces joined by the activation σ. The bias
gradients add one equation each, since g = ∂L/∂Z 1 = L Q 1 and c_i Q = e_i give c_i · Lᵀ g = 1 for every
sample on its own, and p_i · L₂ᵀ g₂ = 1 in the next layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spear_core.errors import InputError
from spear_core.linalg import least_squares, misfit
from spear_core.problem import LinearLayer
from spear_core.search import Target
from spear_core.spear.low_rank import LowRank
from spear_core.tolerances import noise_per_entry, precision

MISFIT_MARGIN = 10.0  # a true sample's misfit is within twice its prediction; this leaves room for bad luck
SCALE_AGREES = 0.1  # how far the scales told by β and by the bias gradients may differ for a blurred sample
BIAS_COUNTS = 1e3  # rounding errors by which β must stick out of span M to count as a dimension of its own


@dataclass(frozen=True)
class Relation:
    """Two layers' knowledge of one hidden vector z, all float64; c (r, k), z and y (m, k) and p (b, k) are columns.

    Attributes:
        sources: B, shape (r, n): x = c B. The rows R of the split, or the identity where more samples span ℝⁿ.
        basis: M = W Bᵀ, shape (m, r).
        bias: β, shape (m,).
        inner: Φ, orthonormal basis of span[M, β], shape (m, r + 1), or (m, r) where β adds no column.
        triangle: T with [M, β] = Φ T.
        outer: Y, orthonormal basis of 𝒴, the row space of ∂L/∂W₂, shape (m, b).
        outer_triangle: T₂ with R₂ᵀ = Y T₂.
        splits: the splits of the two layers' gradients.
        layers: the two layers.
    """

    sources: Tensor
    basis: Tensor
    bias: Tensor
    inner: Tensor
    triangle: Tensor
    outer: Tensor
    outer_triangle: Tensor
    splits: tuple[LowRank, LowRank]
    layers: tuple[LinearLayer, LinearLayer]

    @property
    def activation(self) -> Callable[[Tensor], Tensor]:
        """σ between the two layers."""
        activation = self.layers[0].activation
        assert activation is not None  # `relate` is only asked about layers that another one follows
        return activation

    @property
    def batch_size(self) -> int:
        """b, as the second layer tells it."""
        return self.splits[1].batch_size

    @property
    def has_bias(self) -> bool:
        """Whether β adds a dimension to span[M, β]."""
        return self.inner.shape[1] > self.basis.shape[1]

    @property
    def overfull(self) -> bool:
        """Whether there are more samples than independent inputs (b > r)."""
        return self.batch_size > self.basis.shape[1]

    @cached_property
    def spread(self) -> float:
        """‖W‖, by which an error of x spreads over the units; of a wide layer it takes long."""
        return float(self.layers[0].weight.norm())

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """Lᵀ g and L₂ᵀ g₂: c · Lᵀ g = 1 (unless overfull) and p · L₂ᵀ g₂ = 1 for every sample."""
        first, second = (
            s.factor.T @ layer.bias_grad.to(torch.float64)
            for s, layer in zip(self.splits, self.layers, strict=True)
        )
        return first, second

    def hidden(self, coefficients: Tensor) -> Tensor:
        """z = M c + β, from c as rows."""
        return self.basis @ coefficients.T + self.bias[:, None]

    def next_coefficients(self, y: Tensor) -> Tensor:
        """p with y ≈ R₂ᵀ p."""
        return torch.linalg.solve_triangular(self.outer_triangle, self.outer.T @ y, upper=True)

    def changes(self, z: Tensor) -> Tensor:
        """For differences of z: those of c, of what β does not take."""
        coordinates = torch.linalg.solve_triangular(self.triangle, self.inner.T @ z, upper=True)
        return coordinates[: self.basis.shape[1]]

    def misfit(self, y: Tensor) -> Tensor:
        """Distance from 𝒴, relative to the length, shape (k,)."""
        return misfit(self.outer, y)

    def expected_misfit(self, c: Tensor, y: Tensor) -> Tensor:
        """Misfit of a true sample, or of a change of it, that the rounding of the two gradients explains, shape (k,).

        Entries of R and R₂ carry the noise of the gradients: it enters z as W E c and y as E₂ p.
        """
        noise, next_noise = (
            noise_per_entry(s.floor, layer.weight_grad.shape)
            for s, layer in zip(self.splits, self.layers, strict=True)
        )
        exact_sources = self.sources is not self.splits[0].rows
        in_z = 0.0 if exact_sources else noise * self.spread * c.norm(dim=0)
        in_y = next_noise * self.basis.shape[0] ** 0.5 * self.next_coefficients(y).norm(dim=0)
        return (in_z + in_y) / y.norm(dim=0) + precision(self.layers[0].weight_grad.dtype)

    def may_be_samples(self, z: Tensor, least: float, most: float) -> Tensor:
        """Which z, of any scale if σ is ReLU, have a misfit below `least`, or one that noise explains below `most`."""
        y = self.activation(z)
        allowed = MISFIT_MARGIN * self.expected_misfit(self.changes(z), y)
        return self.misfit(y) < allowed.clamp(least, most)

    def scales_agree(self, c: Tensor, y: Tensor, within: float) -> Tensor:
        """Whether both layers' bias gradients tell the scale of each sample as 1, shape (k,)."""
        mean, next_mean = self.means
        agree = (next_mean @ self.next_coefficients(y) - 1).abs() < within
        return agree if self.overfull else agree & ((mean @ c - 1).abs() < within)

    def scaled(self, rays: Tensor, within: float) -> tuple[Tensor, Tensor]:
        """ReLU: rays u of z = Φ u → c, and where the coefficient of β comes out as 1, shape (k,).

        A bias gradient fixes the scale more precisely than β does, which is a small part of z, and where β = 0 as
        well. β is then an independent check.
        """
        coordinates = torch.linalg.solve_triangular(self.triangle, rays, upper=True)
        c, of_bias = coordinates.split([self.basis.shape[1], int(self.has_bias)])
        mean, next_mean = self.means
        if self.overfull:
            scale = next_mean @ self.next_coefficients(torch.relu(self.inner @ rays))
        else:
            scale = mean @ c
        return c / scale, (scale > 0) & ((of_bias / scale - 1).abs() < within).all(dim=0)

    def to_sources(self, coefficients: Tensor) -> Tensor:
        """c in the rows of the split, as rows → c in `sources`."""
        rows = self.splits[0].rows
        return coefficients if self.sources is rows else coefficients @ rows

    def to_rows(self, c: Tensor) -> Tensor:
        """c in `sources`, as rows → c in the rows of the split."""
        rows = self.splits[0].rows
        return c if self.sources is rows else least_squares(rows.T, c.T).T


def relate(target: Target, batch_size: int | None = None) -> Relation:
    """Collect what two layers say about z; once for each target.

    Args:
        target: the attacked layer and at least one behind it.
        batch_size: b; by default the rank of the second layer's gradient.

    Raises:
        InputError: if there is no second layer, or if its gradient has a lower rank than the first one's.
    """
    if len(target.problem.layers) < 2:
        raise InputError("problem must have a layer behind the attacked one, got 1 layer")
    rank = target.low_rank.batch_size
    following = target.splits.of(1, batch_size, expected=rank)
    if following.batch_size < rank:
        raise InputError(
            f"the next layer's gradient must have at least rank {rank}, got {following.batch_size}"
        )
    return target.once(("relation", following.batch_size), lambda: _related(target, following))


def _related(target: Target, following: LowRank) -> Relation:
    first, second = target.problem.layers[:2]
    rank, n = target.low_rank.rows.shape
    bias = first.bias.to(torch.float64)
    if following.batch_size > rank == n:
        sources, basis = torch.eye(n, dtype=bias.dtype, device=bias.device), first.weight.to(bias.dtype)
    else:
        sources, basis = target.low_rank.rows, target.forward.weights.T
    inner, triangle = torch.linalg.qr(torch.cat([basis, bias[:, None]], dim=1))
    if triangle[-1, -1].abs() <= BIAS_COUNTS * precision(first.weight.dtype) * bias.norm():
        inner, triangle = inner[:, :-1], triangle[:-1, :-1]
    outer, outer_triangle = torch.linalg.qr(following.rows.T)
    splits, layers = (target.low_rank, following), (first, second)
    return Relation(sources, basis, bias, inner, triangle, outer, outer_triangle, splits, layers)
