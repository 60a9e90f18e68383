"""Descent for F(x) = y, all samples side by side: momentum, and equations weighted at random in every step.

F is piecewise affine, or nearly so: in the right piece the equations are many and well conditioned, so what stops a
descent are kinks, wrong winners of a pool for instance. There the equations contradict each other, and their compromise
depends on how each is weighted. At a solution none has an error, so weights do not move it. Weights 1 + ξ, ξ normal,
drawn anew in every step thus shake a sample exactly where equations contradict each other, and no other.
"""

from enum import StrEnum

import torch
from torch import Tensor

from spear_core.front.part import Map, linearised
from spear_core.search import Budget

MOMENTUM = 0.97
NOISE = 1.0  # standard deviation of the weights
POWER_STEPS = 8  # for the largest eigenvalue of JᵀJ
CHECK_EVERY = 20  # steps
STUCK = 5e-3  # relative residual below which kicks are smaller
DIVERGED = 3.0  # relative residual from which on a step was too long


class Event(StrEnum):
    """What has brought pictures to where they are."""

    START = "blank start"
    STEP = "step of a descent"
    KICK = "kick"
    FINISH = "Gauss–Newton steps"
    BEST = "best of all rounds"


def descend(
    features: Map,
    target: Tensor,
    start: Tensor,
    near: Tensor,
    steps: int,
    budget: Budget,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Inputs and their relative residuals ‖F(x) − y‖/‖y‖ after so many steps, or as soon as each is near.

    Args:
        features: F.
        target: y, shape (b, n).
        start: x, shape (b, …).
        near: relative residual of each with which it is done, shape (b,).
        steps: at most.
        budget: when to stop, and who watches.
        generator: CPU generator of the weights.
    """
    found, rest, goal = start.clone(), relative(features(start) - target, target), target
    rate = 1 / steepness(features, start, generator)
    x, speed, at = start, torch.zeros_like(start), torch.arange(len(start), device=start.device)
    for step in range(1, steps + 1):
        ahead = (x + MOMENTUM * speed).requires_grad_(True)
        errors = features(ahead) - goal
        weights = 1 + NOISE * normal(goal, generator)
        (slope,) = torch.autograd.grad(errors, ahead, weights * errors.detach())
        speed = MOMENTUM * speed - wide(rate, x) * slope
        x = x + speed
        budget.watch(Event.STEP, at, x)
        if step % CHECK_EVERY and step < steps:
            continue
        size = relative(errors.detach(), goal)
        # too long a step: from the start again, with half of it
        wild = ~(size <= DIVERGED)
        x, speed = torch.where(wide(wild, x), start[at], x), torch.where(wide(wild, x), 0.0, speed)
        rate = torch.where(wild, rate / 2, rate)
        better = (size < rest[at]) & ~wild
        found[at[better]], rest[at[better]] = x[better], size[better]
        going = ~(size < near[at])
        x, speed, rate, goal, at = x[going], speed[going], rate[going], goal[going], at[going]
        if not len(at) or budget.late:
            break
    return found, rest


def kicked(
    features: Map, target: Tensor, x: Tensor, size: float | Tensor, generator: torch.Generator
) -> Tensor:
    """Stuck inputs, moved where their equations contradict each other: along Jᵀ(ξ ∘ errors).

    The largest change of an entry is `size` times the spread of the entries, or less where little is left to do.
    """
    moving = x.clone().requires_grad_(True)
    errors = features(moving) - target
    (slope,) = torch.autograd.grad(errors, moving, normal(target, generator) * errors.detach())
    largest = slope.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    size *= (relative(errors.detach(), target) / STUCK).clamp_max(1)
    return x + slope * wide(size * x.flatten(1).std(dim=1, correction=0) / largest, x)


def steepness(features: Map, x: Tensor, generator: torch.Generator) -> Tensor:
    """The largest eigenvalue of JᵀJ at each sample, by the power method, shape (b,)."""
    v, value = normal(x, generator), x.new_ones(len(x))
    forward, back = linearised(features, x)
    for _ in range(POWER_STEPS):
        w = back(forward(v))
        size = w.flatten(1).norm(dim=1)
        value = size / v.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        v = torch.where(wide(size > 0, x), w / wide(size.clamp_min(torch.finfo(x.dtype).tiny), x), v)
    return torch.where(value > 0, value, 1.0)


def relative(errors: Tensor, target: Tensor) -> Tensor:
    """‖errors‖/‖target‖ of each sample, shape (b,)."""
    return errors.norm(dim=1) / target.norm(dim=1).clamp_min(torch.finfo(target.dtype).tiny)


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers, the same on every device."""
    return torch.randn(like.shape, generator=generator).to(like)


def wide(values: Tensor, like: Tensor) -> Tensor:
    """One value a sample, to be multiplied with the samples."""
    return values.view(-1, *[1] * (like.dim() - 1))
