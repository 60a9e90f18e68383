"""What a wrong Q makes of the split G = L R: ghosts, mixtures of the samples that reproduce the gradient as well."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Reconstruction
from spear_core.spear.zeros import zero_tolerance

STEPS = 100  # of the way from a wrong Q to the right one
BLEND = 1.6  # how far the first Q of that way mixes the samples


@dataclass(frozen=True)
class Ghosts:
    """What one Q makes of the split.

    Attributes:
        found: the batch that belongs to this Q.
        zeros: exact zeros in each column of L Q, shape (b,).
        error: largest entry of (L Q)(Q⁻¹ R) − G, relative to the largest of G.
        mixing: the samples' shares in each ghost, shape (b, b), rows add up to 1.
    """

    found: Reconstruction
    zeros: Tensor
    error: float
    mixing: Tensor

    @property
    def right(self) -> bool:
        """Whether this is the right Q."""
        return bool(torch.equal(self.mixing, torch.eye(len(self.mixing), dtype=self.mixing.dtype)))


def mixing(batch_size: int, wrong: int, step: int) -> Tensor:
    """Shares in which a wrong Q mixes the samples, shape (b, b): non-negative, rows add up to 1, invertible.

    A smooth way through invertible matrices: exp(u A) for a random A with rows that add up to zero.

    Args:
        batch_size: b.
        wrong: which way.
        step: from 0, far off, to `STEPS`, the identity.

    Raises:
        ValueError: if the step is out of range.
    """
    if not 0 <= step <= STEPS:
        raise ValueError(f"step must be 0 to {STEPS}, got {step}")
    generator = torch.Generator().manual_seed(wrong)
    shares = torch.rand(batch_size, batch_size, generator=generator, dtype=torch.float64) ** 3
    shares = shares / shares.sum(dim=1, keepdim=True)
    away = BLEND * (1 - step / STEPS)
    if away == 0:
        return torch.eye(batch_size, dtype=torch.float64)
    return torch.linalg.matrix_exp(away * (shares - torch.eye(batch_size, dtype=torch.float64)))


def ghosts(forward: Forward, true_q: Tensor, wrong: int, step: int) -> Ghosts:
    """The batch that a Q on the way from a wrong one to the right one gives.

    X̃ = M X needs Q̃ = Q M⁻¹, and reproduces G as well as X does.

    Args:
        forward: the first layer in the row space of its gradient.
        true_q: Q with ∂L/∂Z = L Q, shape (b, b), which only the client knows.
        wrong: which way.
        step: on it, as for `mixing`.
    """
    M = mixing(len(true_q), wrong, step)
    Q = true_q @ torch.linalg.inv(M)
    directions = Q / Q.norm(dim=0)
    found = reconstruct(forward, directions)
    G = forward.layer.weight_grad.to(torch.float64)
    error = float((found.output_grads.T @ found.inputs - G).abs().max() / G.abs().max())
    entries = (forward.low_rank.factor @ directions).abs()
    zeros = (entries <= zero_tolerance(forward.low_rank, directions)).sum(dim=0)
    return Ghosts(found, zeros, error, M)
