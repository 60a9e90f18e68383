"""What a wrong Q makes of the split G = L R: ghosts, mixtures of the samples that reproduce the gradient as well.

Each number `wrong` is a way from a wrong Q to the right one, and `step` a place on it, from 0 to `STEPS`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Reconstruction
from spear_core.spear.zeros import zeros_of

STEPS = 100  # of the way from a wrong Q to the right one
BLEND = 1.6  # how far the first Q of that way mixes the samples


@dataclass(frozen=True)
class Ghosts:
    """What one Q makes of the split.

    Attributes:
        found: the batch that belongs to this Q.
        zeros: exact zeros in each column of L Q, shape (b,).
        error: largest entry of (L Q)(Q⁻¹ R) − G, relative to the largest of G.
        right: whether this is the right Q.
    """

    found: Reconstruction
    zeros: Tensor
    error: float
    right: bool


def mixing(batch_size: int, wrong: int, step: int) -> Tensor:
    """Shares in which a wrong Q mixes the samples, shape (b, b): non-negative, rows add up to 1, invertible.

    A smooth way through invertible matrices: exp(u A) for a random A with rows that add up to zero.

    Raises:
        ValueError: if the step is out of range.
    """
    if not 0 <= step <= STEPS:
        raise ValueError(f"step must be 0 to {STEPS}, got {step}")
    unmixed = torch.eye(batch_size, dtype=torch.float64)
    if step == STEPS:
        return unmixed
    generator = torch.Generator().manual_seed(wrong)
    shares = torch.rand(batch_size, batch_size, generator=generator, dtype=torch.float64) ** 3
    shares = shares / shares.sum(dim=1, keepdim=True)
    return torch.linalg.matrix_exp(BLEND * (1 - step / STEPS) * (shares - unmixed))


def ghosts(forward: Forward, true_q: Tensor, wrong: int, step: int) -> Ghosts:
    """The batch of a Q on the way: X̃ = M X needs Q̃ = Q M⁻¹, and reproduces G as well as X does.

    `true_q` is the Q with ∂L/∂Z = L Q, shape (b, b), which only the client knows.
    """
    M = mixing(len(true_q), wrong, step)
    Q = true_q @ torch.linalg.inv(M)
    found = reconstruct(forward, Q / Q.norm(dim=0))
    G = forward.layer.weight_grad.to(torch.float64)
    error = float((found.output_grads.T @ found.inputs - G).abs().max() / G.abs().max())
    return Ghosts(found, zeros_of(forward.low_rank, found.directions).sum(dim=0), error, step == STEPS)
