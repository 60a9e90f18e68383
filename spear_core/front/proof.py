"""When a picture is proven: its equations hold to rounding, determine it with some to spare, and no copy of it fits as well.

docs/certificate.md states what follows. J, all n columns of it, is written down for one sample at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vmap

from spear_core.front.descent import normal, relative
from spear_core.front.part import Front, linearised
from spear_core.tolerances import ALLOWED_ERROR, SPARE_EQUATIONS

MOST = 4096  # numbers of one input up to which J is written down
COLUMNS = 98  # of J at a time
GAP = 1 / 300  # least ratio of the singular values of J; float32 still tells it
SPARE_SHARE = 0.1  # share of each equation that the others must leave to spare: 1 − its leverage
SAFETY = 4.0  # on the error that rounding may have caused
PROBES = 64  # random points within the error, at which J is looked at for kinks
CHANGED = 1e-4  # relative change of J v that is a kink
INDEPENDENT = 1e-3  # singular value of such changes, relative, that counts as one more
ROUNDINGS = 64.0  # of the features' precision that a limit allows
WITHIN = 2.0  # times the error of x that kinks are looked for, and that kinks may add
SHIFTS = 8  # entries by which an input is shifted along every axis
SAME = 10.0  # limits of the residual within which a copy of an input counts as another solution


@dataclass(frozen=True)
class Proof:
    """What could be shown of one input.

    Attributes:
        error: what rounding may have done to each entry, root mean square, relative to the largest entry.
        missing: what could not be shown; empty if all could.
    """

    error: float
    missing: str = ""


def prove(front: Front, target: Tensor, x: Tensor, limit: float, generator: torch.Generator) -> Proof:
    """The proof of one input, shape (*shape), for its features y, shape (n,), both in float64."""
    rest, n = front.features(x[None])[0] - target, x.numel()
    size = float(target.norm())
    if not float(rest.norm()) <= limit * size:
        return Proof(float("inf"), "the features are not reproduced to rounding")
    if n > MOST:
        return Proof(float("inf"), f"an input has {n:,} numbers, more than {MOST:,}: too many to check")
    if short := _too_few(front, x, generator):
        return Proof(float("inf"), short)
    low = x.to(torch.float32)
    J = jacobian(front, low)
    active = J.abs().amax(dim=0) > 0  # what an inactive unit gives is no equation
    J, count = J[:, active], int(active.sum())
    if count < n + SPARE_EQUATIONS:
        return Proof(float("inf"), _few(count, n))
    # errors of y that its residual shows, and that it hides, since x was fitted to them
    noise = SAFETY * max(float(rest.norm()) * (count / (count - n)) ** 0.5, limit / ROUNDINGS * size)
    least, leverage = _determined(J)
    error = noise / (max(least, 1e-30) * n**0.5)
    if WITHIN * error > ALLOWED_ERROR * float(x.abs().max()):
        return Proof(error, "the equations do not determine it to rounding")
    # without what kinks within that error may change
    kinks = _kinks(front, low, J, active, WITHIN * error, generator)
    if kinks.shape[1] >= PROBES:
        return Proof(error, "too many units are at their kinks")
    if count - kinks.shape[1] < n + SPARE_EQUATIONS:
        return Proof(error, _few(count - kinks.shape[1], n))
    without = least
    if kinks.shape[1]:
        without, leverage = _determined(J, kinks)
    missing = ""
    if without < least / WITHIN:
        missing = "units at their kinks leave it undetermined"
    elif leverage > 1 - SPARE_SHARE:
        missing = "a part of it is determined without an equation to spare"
    elif _has_copy(front, target, low, SAME * limit):
        missing = "a mirrored, shifted or negated copy of it gives the same features"
    return Proof(WITHIN * error / float(x.abs().max()), missing)


def jacobian(front: Front, x: Tensor) -> Tensor:
    """Jᵀ of the features at one input, shape (entries of x, n)."""
    units = torch.eye(x.numel(), dtype=x.dtype, device=x.device).view(-1, *x.shape)

    def along(v: Tensor) -> Tensor:  # forward mode, half as long as what back-propagation needs for it
        return jvp(lambda u: front.features(u[None])[0], (x,), (v,))[1]

    return torch.cat([vmap(along)(block) for block in units.split(COLUMNS)])


def _determined(J: Tensor, kinks: Tensor | None = None) -> tuple[float, float]:
    """The least singular value, 0 where it is no clear one, and the largest leverage of an equation.

    Equations are the columns of `J`, freed of the span of `kinks`, orthonormal columns. The leverage aᵀ(A Aᵀ)⁻¹a of
    an equation is 1 where x without it is not determined. What is left of an equation without the kinks counts as 1.
    """
    A = J if kinks is None else J - (J @ kinks) @ kinks.T
    gram = A @ A.T
    values = torch.linalg.eigvalsh(gram)
    if not float(values[0]) > GAP**2 * float(values[-1]):
        return 0.0, 1.0
    lower = torch.linalg.cholesky_ex(gram)[0]
    leverage = torch.linalg.solve_triangular(lower, A, upper=False).square().sum(dim=0)
    if kinks is not None:
        left = 1 - kinks.square().sum(dim=1)
        leverage = (leverage / left)[left > SPARE_SHARE]
    return float(values[0].sqrt()), float(leverage.max())


def _kinks(
    front: Front, x: Tensor, J: Tensor, active: Tensor, error: float, generator: torch.Generator
) -> Tensor:
    """Orthonormal directions among the equations in which J changes within an error of x, one a column.

    Any mean of Jacobians between x and the truth differs from J in these directions only.
    """
    directions, offsets = (normal(x.new_zeros(PROBES, *x.shape), generator) for _ in range(2))
    forward, _ = linearised(front.features, x + error * offsets)
    here = directions.flatten(1) @ J
    changes = forward(directions)[:, active] - here
    changes = changes[changes.norm(dim=1) > CHANGED * here.norm(dim=1)]
    if not len(changes):
        return J.new_zeros(J.shape[1], 0)
    _, size, rows = torch.linalg.svd(changes, full_matrices=False)
    return rows[size > INDEPENDENT * size[0]].T


def _too_few(front: Front, x: Tensor, generator: torch.Generator) -> str:
    """Whether a value that all of F passes through moves in too few numbers, in words."""
    low = x.to(torch.float32)[None]
    for part in front.bottlenecks():
        forward, _ = linearised(part.features, low)
        moves = int(forward(normal(low, generator)).count_nonzero())
        if moves < x.numel() + SPARE_EQUATIONS:
            return f"on the way, {_few(moves, x.numel())}"
    return ""


def _few(equations: int, n: int) -> str:
    return f"{equations:,} active numbers are too few for the {n:,} of an input"


def _has_copy(front: Front, target: Tensor, x: Tensor, limit: float) -> bool:
    """Whether an image of x under a symmetry that front parts may have gives the same features."""
    copies = [-x]
    for axis in range(x.dim()):
        copies.append(x.flip(axis))
        for shift in range(1, min(SHIFTS, x.shape[axis] - 1) + 1):
            copies += [x.roll(shift, axis), x.roll(-shift, axis)]
    if x.dim() >= 2:
        copies.append(x.flip(-1).flip(-2))
        if x.shape[-1] == x.shape[-2]:
            copies += [x.mT, x.mT.flip(-1), x.mT.flip(-2)]
    stack = torch.stack(copies)
    other = (stack - x).flatten(1).norm(dim=1) > limit * x.norm()
    rest = relative(front.features(stack) - target.to(x.dtype), target.to(x.dtype).expand(len(stack), -1))
    return bool((other & (rest <= limit)).any())
