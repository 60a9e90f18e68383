"""The last digits: Gauss–Newton steps from nearby, residuals in float64, steps by conjugate gradients in float32."""

import torch
from torch import Tensor

from spear_core.front.descent import relative, wide
from spear_core.front.part import Map, linearised
from spear_core.search import Budget

STEPS = 12  # of Gauss and Newton, at most
INNER = 60  # of conjugate gradients in each, at most
INNER_DROP = 1e-3  # of ‖Jᵀ errors‖, after which a step is good enough
PAYS = 0.7  # what a step must leave of the residual for another one


def finished(features: Map, target: Tensor, x: Tensor, budget: Budget) -> tuple[Tensor, Tensor]:
    """Inputs in float64 and their relative residuals, shape (b,), no worse than before; y in float64."""
    x = x.to(torch.float64)
    errors = features(x) - target
    rest, going = relative(errors, target), torch.ones(len(x), dtype=torch.bool, device=x.device)
    for _ in range(STEPS):
        if budget.late or not going.any():
            break
        at = going.nonzero().flatten()
        moved = x[at] - _step(features, x[at].to(torch.float32), errors[at])
        left = features(moved) - target[at]
        size = relative(left, target[at])
        better = size < rest[at]
        going[at] = size < PAYS * rest[at]
        x[at[better]], errors[at[better]], rest[at[better]] = moved[better], left[better], size[better]
    return x, rest


def _step(features: Map, x: Tensor, errors: Tensor) -> Tensor:
    """J⁺ errors of each sample by conjugate gradients for JᵀJ s = Jᵀ errors, in float64 for the sum that it enters."""
    scale = errors.norm(dim=1).clamp_min(torch.finfo(errors.dtype).tiny)
    forward, back = linearised(features, x)
    left = back((errors / scale[:, None]).to(x.dtype))
    step, direction, size = torch.zeros_like(x), left, _square(left)
    first, tiny = size, torch.finfo(x.dtype).tiny
    for _ in range(INNER):
        along = forward(direction)
        length = size / along.square().sum(dim=1).clamp_min(tiny)
        step = step + wide(length, x) * direction
        left = left - wide(length, x) * back(along)
        new = _square(left)
        if bool((new <= INNER_DROP**2 * first).all()):
            break
        direction, size = left + wide(new / size.clamp_min(tiny), x) * direction, new
    return step.to(torch.float64) * wide(scale, x)


def _square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(dim=1)
