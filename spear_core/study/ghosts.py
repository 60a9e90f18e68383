"""What a wrong Q makes of the split G = L R: ghosts, mixtures of the samples that reproduce the gradient as well.

Each number `wrong` is a way from a wrong Q to the right one, and `step` a place on it, from 0 to `STEPS`.
"""

import torch
from torch import Tensor

from spear_core.linalg import units
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Reconstruction

STEPS = 100  # of the way from a wrong Q to the right one
BLEND = 1.6  # how far the first Q of that way mixes the samples
LEAST = 0.02  # of each other sample in a mixture, so that none is lost in rounding before the end of the way


def way(batch_size: int, wrong: int) -> Tensor:
    """The generator B of a way of mixing samples, shape (b, b): positive off the diagonal, rows add up to zero."""
    generator = torch.Generator().manual_seed(wrong)
    shares = torch.rand(batch_size, batch_size, generator=generator, dtype=torch.float64) ** 3 + LEAST
    shares = shares / shares.sum(dim=1, keepdim=True)
    return BLEND * (shares - torch.eye(batch_size, dtype=torch.float64))


def mixing(batch_size: int, wrong: int, step: float) -> Tensor:
    """Shares in which a wrong Q mixes the samples, shape (b, b): non-negative, rows add up to 1, invertible.

    A smooth way through invertible matrices, M = exp((1 − step / STEPS) B).

    Raises:
        ValueError: if the step is out of range.
    """
    if not 0 <= step <= STEPS:
        raise ValueError(f"step must be 0 to {STEPS}, got {step}")
    return torch.linalg.matrix_exp((1 - step / STEPS) * way(batch_size, wrong))


def ghosts(forward: Forward, true_q: Tensor, wrong: int, step: float) -> Reconstruction:
    """The batch of a Q on the way: X̃ = M X needs Q̃ = Q M⁻¹, and reproduces G as well as X does.

    `true_q` is the Q with ∂L/∂Z = L Q, shape (b, b), which only the client knows.
    """
    return reconstruct(forward, units(true_q @ torch.linalg.inv(mixing(len(true_q), wrong, step))))
