"""Least squares that outliers do not pull: where most equations hold exactly and the others not at all."""

from collections.abc import Callable

import torch
from torch import Tensor

from spear_core.linalg import least_squares

REWEIGHTINGS = 20  # by which equations that hold are down at rounding
POWER = 0.5  # of the residuals whose sum is made small


def robust_solution(matrix: Tensor, values: Tensor, late: Callable[[], bool] = lambda: False) -> Tensor:
    """Vector x of small Σ |A x − y|^½, (…, k, 1), by iteratively reweighted least squares; A is (…, r, k), r ≥ k.

    When it is `late` the weights of the last look stand.

    >>> A = torch.tensor([[1.0], [1.0], [1.0], [1.0]], dtype=torch.float64)
    >>> y = torch.tensor([[2.0], [2.0], [2.0], [100.0]], dtype=torch.float64)
    >>> round(float(robust_solution(A, y)), 6)
    2.0
    """
    least = torch.finfo(matrix.dtype).eps
    scale = torch.ones_like(values)
    for _ in range(REWEIGHTINGS):
        found = least_squares(scale * matrix, scale * values)
        if late():
            break
        size = (matrix @ found - values).abs()
        # zero if all equations hold exactly: then all weigh alike
        floor = least * size.amax(dim=-2, keepdim=True)
        scale = size.clamp_min(floor + (floor == 0)) ** (POWER / 2 - 1)
    return found
