"""Step 5: scale the directions, invert Q, read off the batch (SPEAR, final step).

The directions are known up to length. The bias gradient is the sum of the columns of ∂L/∂Z,
g = (∂L/∂Z) 1 = L Q̄ s, which gives the lengths s, so Q = Q̄ diag(s), and Xᵀ = Q⁻¹ R.
"""

import torch
from torch import Tensor

from spear_core.linalg import least_squares, units
from spear_core.problem import LinearLayer
from spear_core.spear.low_rank import LowRank
from spear_core.spear.records import Forward, Reconstruction
from spear_core.spear.zeros import zero_tolerance
from spear_core.tolerances import precision

UNDECIDED = 1 / 64  # of the tolerance: between the two, an entry may be a zero or a small number
Z_MARGIN = 256.0  # a pre-activation within so many rounding errors of its kink may lie on either side


def scales(low_rank: LowRank, directions: Tensor, bias_grad: Tensor) -> Tensor:
    """Lengths s of the directions from g = L Q̄ s (least squares), shape (k,).

    Args:
        low_rank: the split of G.
        directions: Q̄, unit columns, shape (b, k).
        bias_grad: g, shape (m,).
    """
    in_factor = low_rank.factor.T @ bias_grad.to(torch.float64)
    return least_squares(directions, in_factor[:, None])[:, 0]


def reconstruct(forward: Forward, directions: Tensor) -> Reconstruction:
    """The batch that belongs to a set of directions: Q = Q̄ diag(s), Xᵀ = Q⁻¹ R, ∂L/∂Z = L Q.

    Args:
        forward: the attacked layer in the row space of its gradient.
        directions: Q̄, unit columns, shape (b, k). With k < b the pseudo-inverse replaces Q⁻¹: the rows are
            a guess.

    Returns:
        k rows, with their agreement with the forward pass.
    """
    lengths = scales(forward.low_rank, directions, forward.layer.bias_grad)
    # a length of zero would be a sample without gradient: it cannot be scaled, only shown
    lengths = torch.where(lengths.abs() > torch.finfo(torch.float64).tiny, lengths, torch.ones_like(lengths))
    Q = directions * lengths
    coefficients = torch.linalg.inv(Q) if Q.shape[0] == Q.shape[1] else torch.linalg.pinv(Q)
    return _batch(forward, directions, lengths, coefficients, zeros_speak=True)


def from_coefficients(forward: Forward, coefficients: Tensor, directions: Tensor) -> Reconstruction:
    """The batch of samples that were found one by one, x_i = c_i R.

    Args:
        forward: the attacked layer in the row space of its gradient.
        coefficients: rows c_i, shape (k, r). If they are all b of them, Q is their inverse.
        directions: unit columns q_i, shape (r, k), NaN where not known; used if samples are missing. Any
            other number of rows means that layer 1 does not separate the samples (b > r).
    """
    k, rank = coefficients.shape
    separated = directions.shape[0] == rank
    if not separated:  # more samples than inputs: layer 1 has no q of their own
        directions = coefficients.new_full((rank, k), torch.nan)
    elif k == rank:
        directions = units(torch.linalg.inv(coefficients))
    lengths = 1 / (coefficients * directions.T).sum(dim=1)  # c_i · q_i = 1
    zeros_speak = forward.layer.has_relu and separated
    return _batch(forward, directions, lengths, coefficients, zeros_speak=zeros_speak)


def _batch(
    forward: Forward,
    directions: Tensor,
    lengths: Tensor,
    coefficients: Tensor,
    *,
    zeros_speak: bool,
) -> Reconstruction:
    low_rank, z = forward.low_rank, forward.preactivations(coefficients)
    agrees = agreement(low_rank, directions, z, forward.layer) if zeros_speak else None
    return Reconstruction(low_rank, directions, lengths, coefficients, z, agrees)


def agreement(low_rank: LowRank, directions: Tensor, preactivations: Tensor, layer: LinearLayer) -> Tensor:
    """Whether [∂L/∂Z = 0] = [Z ≤ 0], entry by entry, shape (k, m); the mean is SPEAR's sparsity-matching score λ.

    Where rounding leaves either side undecided, or q is not known, the entry counts as agreeing.

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
    known = directions.isfinite().all(dim=0)[:, None]
    return ~known | (zero_allowed & (preactivations <= kink)) | (nonzero_allowed & (preactivations > -kink))


def preactivation_tolerance(low_rank: LowRank, preactivations: Tensor, layer: LinearLayer) -> Tensor:
    """How far rounding may move z, shape (k, 1): the client's own arithmetic, and the error of X."""
    relative = max(precision(layer.weight_grad.dtype) / 16, low_rank.noise)
    return Z_MARGIN * relative * preactivations.abs().amax(dim=1, keepdim=True)


def gradient_residual(
    reconstruction: Reconstruction, layer: LinearLayer, output_grads: Tensor | None = None
) -> float:
    """‖(∂L/∂Z) Xᵀ − G‖ / ‖G‖ and ‖(∂L/∂Z) 1 − g‖ / ‖g‖, the larger of the two.

    Both (∂L/∂Z) Xᵀ = (∂L/∂Z) C R and G ≈ L R lie in the span of the rows of R, which are orthogonal with the
    singular values as their lengths, so the difference is measured there, plus what the split left out.

    Args:
        reconstruction: what was recovered.
        layer: the attacked layer.
        output_grads: (∂L/∂Z)ᵀ if it is known from elsewhere, shape (k, m). By default L Q as ReLU must have
            left it, exactly zero where z ≤ 0, so that a wrong batch cannot hide in small numbers.
    """
    grads = output_grads
    if grads is None:
        grads = reconstruction.output_grads
        if layer.has_relu:
            grads = torch.where(reconstruction.preactivations > 0, grads, 0.0)
    low_rank, g = reconstruction.low_rank, layer.bias_grad.to(torch.float64)
    values = low_rank.singular_values
    inside = (grads.T @ reconstruction.coefficients - low_rank.factor) * values[: low_rank.batch_size]
    left_out = values[low_rank.batch_size :].norm()
    weight_part = torch.hypot(inside.norm(), left_out) / values.norm()
    bias_part = (grads.sum(dim=0) - g).norm() / g.norm()
    return float(torch.maximum(weight_part, bias_part))
