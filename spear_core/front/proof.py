"""When a picture is proven: its equations hold to rounding, determine it with some to spare, and no copy of it fits.

docs/certificate.md states what follows. J, all n columns of it, is written down for one sample at a time.
"""

import warnings
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor
from torch.func import jvp, vmap

from spear_core.front.descent import normal, relative
from spear_core.front.part import Front, linearised
from spear_core.tolerances import ALLOWED_ERROR, SPARE_EQUATIONS, precision

MOST = 4096  # numbers of one input up to which J is written down
COLUMNS = 98  # of J at a time
GAP = 1 / 300  # least ratio of the singular values of J; float32 still tells it
SPARE_SHARE = 0.1  # share of each equation that the others must leave to spare: 1 − its leverage
SAFETY = 2.0  # on the error that rounding may have caused
PROBES = 64  # random points within the error, at which J is looked at for kinks
CHANGED = 1e-4  # relative change of J v that is a kink
INDEPENDENT = 1e-3  # singular value of such changes, relative, that counts as one more
ROUNDINGS = 64.0  # of the features' precision that a limit allows
WITHIN = 2.0  # times the error of x that kinks are looked for, and that kinks may add
FORWARD = Lock()  # torch counts the levels of forward mode for all threads together
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
    low, spare = x.to(torch.float32), 0 if front.affine else SPARE_EQUATIONS
    if not front.affine and _passes_too_few(front, low, generator):
        return Proof(float("inf"), f"on the way, too few active numbers for the {n:,} of an input")
    J = jacobian(front, low)
    active = J.abs().amax(dim=0) > 0  # what an inactive unit gives is no equation
    J, count = J[:, active], int(active.sum())
    few = f"too few active numbers for the {n:,} of an input"
    if count < n + spare:
        return Proof(float("inf"), few)
    # errors of y that its residual shows, and that it hides, since x was fitted to them
    shown = float(rest.norm()) * (count / max(count - n, 1)) ** 0.5
    least, leverage = _determined(J)
    error = SAFETY * max(shown, limit / ROUNDINGS * size) / (max(least, 1e-30) * n**0.5)
    largest = float(x.abs().max())
    if not WITHIN * error <= ALLOWED_ERROR * largest:
        return Proof(error, "the equations do not determine it to rounding")
    if front.affine:  # so no other piece, and no other solution
        return Proof(WITHIN * error / largest)
    # without what kinks within that error may change
    around = max(WITHIN * error, 4 * precision(low.dtype) * largest)
    kinks = _kinks(front, low, J, active, around, generator)
    without = least
    if kinks.shape[1]:
        without, leverage = _determined(J, kinks)
    missing = ""
    if kinks.shape[1] >= PROBES or not without >= least / WITHIN:
        missing = "too many units are at their kinks"
    elif count - kinks.shape[1] < n + spare:
        missing = few
    elif not leverage <= 1 - SPARE_SHARE:
        missing = "a part of it is determined without an equation to spare"
    elif _has_copy(front, target, low, SAME * limit):
        missing = "a mirrored, shifted or negated copy of it gives the same features"
    return Proof(WITHIN * error / largest, missing)


def jacobian(front: Front, x: Tensor) -> Tensor:
    """Jᵀ of the features at one input, shape (entries of x, n)."""
    units = torch.eye(x.numel(), dtype=x.dtype, device=x.device).view(-1, *x.shape)

    def along(v: Tensor) -> Tensor:  # forward mode, half as long as what back-propagation needs for it
        return jvp(lambda u: front.features(u[None])[0], (x,), (v,))[1]

    with FORWARD, warnings.catch_warnings():  # forward mode imports what torch itself calls deprecated
        warnings.simplefilter("ignore", FutureWarning)
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


def _passes_too_few(front: Front, x: Tensor, generator: torch.Generator) -> bool:
    """Whether a value that all of F passes through moves in too few numbers."""
    for part in front.bottlenecks:
        forward, _ = linearised(part.features, x[None])
        moves = int(forward(normal(x[None], generator)).count_nonzero())
        if moves < x.numel() + (0 if part.affine else SPARE_EQUATIONS):
            return True
    return False


def _has_copy(front: Front, target: Tensor, x: Tensor, limit: float) -> bool:
    """Whether an image of x under a symmetry that front parts may have gives the same features."""
    copies = [-x]
    for axis in range(x.dim()):
        copies.append(x.flip(axis))
        copies += [x.roll(shift, axis) for shift in range(1, x.shape[axis])]
    if x.dim() >= 2:
        copies.append(x.flip(-1).flip(-2))
        if x.shape[-1] == x.shape[-2]:
            copies += [x.mT, x.mT.flip(-1), x.mT.flip(-2)]
    stack = torch.stack(copies)
    other = (stack - x).flatten(1).norm(dim=1) > limit * x.norm()
    rest = relative(front.features(stack) - target.to(x.dtype), target.to(x.dtype).expand(len(stack), -1))
    return bool((other & (rest <= limit)).any())
