"""Step 5: scale the directions, invert Q, read off the batch (SPEAR, §3.1 and §3.4).

The directions are known up to length. The bias gradient is the sum of the columns of ∂L/∂Z,
g = (∂L/∂Z) 1 = L Q̄ s, which gives the lengths s, so Q = Q̄ diag(s), and Xᵀ = Q⁻¹ R.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.low_rank import LowRank
from spear_core.problem import LinearLayer
from spear_core.sparsity import zero_tolerance
from spear_core.tolerances import precision

UNDECIDED = 1 / 64  # of the tolerance: between the two, an entry may be a zero or a small number
Z_MARGIN = 256.0  # a pre-activation within so many rounding errors of its kink may lie on either side


@dataclass(frozen=True)
class Reconstruction:
    """A batch computed from directions, and how well it agrees with what ReLU must have done.

    Attributes:
        inputs: X as rows, shape (b, n), float64.
        output_grads: (∂L/∂Z)ᵀ, shape (b, m), float64.
        preactivations: Z as rows, shape (b, m), float64.
        agreement: whether [∂L/∂z = 0] = [z ≤ 0], for each sample and unit, shape (b, m).
        directions: unit columns of Q, shape (b, b).
    """

    inputs: Tensor
    output_grads: Tensor
    preactivations: Tensor
    agreement: Tensor
    directions: Tensor

    @property
    def sparsity_match(self) -> float:
        """λ, the share of entries that agree."""
        return float(self.agreement.to(torch.float64).mean()) if self.agreement.numel() else 0.0


def scales(low_rank: LowRank, directions: Tensor, bias_grad: Tensor) -> Tensor:
    """Lengths s of the directions from g = L Q̄ s (least squares), shape (k,).

    Args:
        low_rank: the split of G.
        directions: Q̄, unit columns, shape (b, k).
        bias_grad: g, shape (m,).
    """
    in_factor = low_rank.factor.T @ bias_grad.to(torch.float64)
    return torch.linalg.lstsq(directions, in_factor[:, None]).solution[:, 0]


def reconstruct(low_rank: LowRank, directions: Tensor, layer: LinearLayer) -> Reconstruction:
    """The batch that belongs to a set of directions: Q = Q̄ diag(s), Xᵀ = Q⁻¹ R, ∂L/∂Z = L Q.

    Args:
        low_rank: the split of G.
        directions: Q̄, unit columns, shape (b, k). With k < b the missing ones are replaced by the pseudo-inverse,
            so that the rows are a guess.
        layer: the attacked layer.

    Returns:
        k rows, with their agreement with the forward pass.
    """
    lengths = scales(low_rank, directions, layer.bias_grad)
    # a length of zero would be a sample without gradient: it cannot be scaled, only shown
    lengths = torch.where(lengths.abs() > torch.finfo(torch.float64).tiny, lengths, torch.ones_like(lengths))
    Q = directions * lengths
    inverse = torch.linalg.inv(Q) if Q.shape[0] == Q.shape[1] else torch.linalg.pinv(Q)
    inputs = inverse @ low_rank.rows
    preactivations = inputs @ layer.weight.to(torch.float64).T + layer.bias.to(torch.float64)
    return Reconstruction(
        inputs=inputs,
        output_grads=(low_rank.factor @ Q).T,
        preactivations=preactivations,
        agreement=agreement(low_rank, directions, preactivations, layer),
        directions=directions,
    )


def agreement(low_rank: LowRank, directions: Tensor, preactivations: Tensor, layer: LinearLayer) -> Tensor:
    """Whether [∂L/∂Z = 0] = [Z ≤ 0], entry by entry, shape (k, m); the mean is SPEAR's λ (Eq. 6).

    Where rounding leaves either side undecided, the entry counts as agreeing.

    Args:
        low_rank: the split of G.
        directions: unit columns, shape (b, k).
        preactivations: Z as rows, shape (k, m).
        layer: the attacked layer.
    """
    entries = (low_rank.factor @ directions).abs().T
    tolerance = zero_tolerance(low_rank, directions).T
    kink = preactivation_tolerance(low_rank, preactivations, layer)
    zero_allowed, nonzero_allowed = entries <= tolerance, entries > UNDECIDED * tolerance
    return (zero_allowed & (preactivations <= kink)) | (nonzero_allowed & (preactivations > -kink))


def preactivation_tolerance(low_rank: LowRank, preactivations: Tensor, layer: LinearLayer) -> Tensor:
    """How far rounding may move z, shape (k, 1): the client's own arithmetic, and the error of X."""
    relative = max(precision(layer.weight_grad.dtype) / 16, low_rank.noise)
    return Z_MARGIN * relative * preactivations.abs().amax(dim=1, keepdim=True)


def gradient_residual(
    reconstruction: Reconstruction, layer: LinearLayer, *, generator: torch.Generator | None = None
) -> float:
    """‖(∂L/∂Z) Xᵀ − G‖ / ‖G‖ and ‖(∂L/∂Z) 1 − g‖ / ‖g‖, the larger of the two.

    ∂L/∂Z is taken as ReLU must have left it, exactly zero where z ≤ 0, so a wrong batch cannot hide in
    small numbers. Of a very wide gradient `RESIDUAL_COLUMNS` random columns are compared: the row space of the
    others is the split's business.

    Args:
        reconstruction: what was recovered.
        layer: the attacked layer.
        generator: CPU generator, for the choice of columns.
    """
    grads = torch.where(reconstruction.preactivations > 0, reconstruction.output_grads, 0.0)
    n = layer.weight_grad.shape[1]
    columns = torch.arange(n) if n <= RESIDUAL_COLUMNS else torch.randperm(n, generator=generator)[:RESIDUAL_COLUMNS]
    columns = columns.to(layer.weight_grad.device)
    G, g = layer.weight_grad[:, columns].to(torch.float64), layer.bias_grad.to(torch.float64)
    weight_part = (grads.T @ reconstruction.inputs[:, columns] - G).norm() / G.norm()
    bias_part = (grads.sum(dim=0) - g).norm() / g.norm()
    return float(torch.maximum(weight_part, bias_part))


RESIDUAL_COLUMNS = 2**13
