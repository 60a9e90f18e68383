"""Half-spaces: which candidates are directions of samples, all of them judged at once.

A candidate near a sample's direction is fitted to its zeros, ever more finely, in float64. It is confirmed if

1. its zeros are enough and leave one direction only, even with any two of them taken away
   (`uniqueness.weigh`). Two similar samples share most zeros, and one further row picks *some* mixture of
   them: a plain rank test would believe it;
2. its zeros are a half-space: some c has M c ≤ 0 on them and M c > 0 on all other rows. The zeros of a mixture
   are an intersection of half-spaces, which the m points in ℝᵇ hardly ever separate.

Where the zeros leave a plane or a small space, similar samples lie in it, and steps 2 and 3 of SPEAR are
repeated inside (`sparsity.descend`).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.linalg import is_first, units
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import UNDECIDED
from spear_core.spear.sparsity import COARSE_ZERO, FULLY_EXPLORED, descend
from spear_core.spear.uniqueness import Zeros, shared_kernel, weigh
from spear_core.spear.zeros import default_threshold, fit, zero_tolerance
from spear_core.tolerances import INDEPENDENT, SAME_DIRECTION

SAME = 1 - SAME_DIRECTION
HINGE_STEPS = 80  # nine in ten true patterns are separated after that, the others but for a few rows
HINGE_LOOK = 16  # steps between two looks at who is separated
STRAYS = 0.01  # share of the rows that may then still be on the wrong side
SMALL_SPACE = 0.25  # share of b, below which separating rows by what is left is evidence of its own
FEW_STRAYS = 0.005  # the same share there
MOST_UNSURE = 32  # directions that wait for a narrower space
MOST_DESCENTS = 4  # kernels of several dimensions that are searched per call


@dataclass(frozen=True)
class Confirmed:
    """What is known so far.

    Attributes:
        directions: q_i as unit columns, shape (b, k), float64.
        unsure: unique directions that chance may have pinned down; None if there are none.
        explored: kernels of several dimensions that have been searched, orthonormal columns.
    """

    directions: Tensor
    unsure: Zeros | None = None
    explored: tuple[Tensor, ...] = ()

    @property
    def count(self) -> int:
        """How many."""
        return self.directions.shape[1]

    def holds(self, q: Tensor) -> Tensor:
        """Which of the unit columns are known, shape (K,)."""
        return ((self.directions.T @ q).abs() > SAME).any(dim=0)

    def has_explored(self, q: Tensor) -> bool:
        """Whether a direction lies in a kernel that has been searched."""
        return any(float((q @ kernel).norm()) > SAME for kernel in self.explored)


def confirm(
    low_rank: LowRank,
    spaces: tuple[Tensor, Tensor],
    candidates: Tensor,
    confirmed: Confirmed,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Confirmed, Tensor]:
    """Judge candidates.

    Args:
        low_rank: the split of G.
        spaces: orthonormal bases of the scores z = M c, of all and of those that are left, (m, b) and (m, r).
        candidates: as columns, shape (b, K), any float dtype.
        confirmed: what is known so far.
        generator: CPU generator.

    Returns:
        What is known now, and which candidates are known by now, shape (K,).
    """
    if confirmed.unsure is not None and _is_narrow(spaces):
        confirmed = _join(low_rank, spaces, replace(confirmed, unsure=None), confirmed.unsure)
    candidates = units(candidates.to(torch.float64))
    entries = (low_rank.factor @ candidates).abs()
    zeros = (entries < COARSE_ZERO * entries.mean(dim=0)).sum(dim=0)
    q = _new(candidates[:, zeros >= default_threshold(low_rank) * len(entries)], confirmed)
    q = q[:, [k for k, column in enumerate(q.T) if not confirmed.has_explored(column)]]
    if not q.shape[1]:
        return confirmed, confirmed.holds(candidates)
    found = weigh(low_rank, _new(fit(low_rank, q), confirmed), generator=generator)
    confirmed = _join(low_rank, spaces, confirmed, found)
    descents = 0
    for direction, rows in zip(
        found.directions[:, found.shared].T, found.rows[:, found.shared].T, strict=True
    ):
        if descents < MOST_DESCENTS and not confirmed.has_explored(direction):
            confirmed = _descend(low_rank, spaces, confirmed, rows, generator)
            descents += 1
    return confirmed, confirmed.holds(candidates)


def _descend(
    low_rank: LowRank,
    spaces: tuple[Tensor, Tensor],
    confirmed: Confirmed,
    rows: Tensor,
    generator: torch.Generator | None,
) -> Confirmed:
    """Search the kernel that shared zeros leave."""
    kernel, rows = shared_kernel(low_rank, rows)
    if kernel.shape[1] < 2:
        return confirmed
    if kernel.shape[1] <= FULLY_EXPLORED:
        confirmed = replace(confirmed, explored=(*confirmed.explored, kernel))
    inside = descend(low_rank, kernel, rows, generator=generator)
    if not inside.shape[1]:
        return confirmed
    sparse = weigh(low_rank, _new(inside, confirmed), generator=generator)
    return _join(low_rank, spaces, confirmed, sparse)


def _new(q: Tensor, confirmed: Confirmed) -> Tensor:
    """Those unit columns that are not known and not parallel to an earlier one."""
    return q[:, _are_new(q, confirmed)]


def _are_new(q: Tensor, confirmed: Confirmed) -> Tensor:
    """Numbers of the unit columns that are not known and not parallel to an earlier one."""
    unknown = (~confirmed.holds(q)).nonzero().flatten()
    q = q[:, unknown]
    return unknown[is_first((q.T @ q).abs() > SAME)]


def _join(low_rank: LowRank, spaces: tuple[Tensor, Tensor], confirmed: Confirmed, found: Zeros) -> Confirmed:
    """Add the directions that are new, independent, unique, and whose zeros are a half-space.

    Where few zeros tell two similar samples apart, chance can pin down a mixture. It takes the narrow space
    that the other samples leave for z to refuse it.
    """
    whole, left = spaces
    entries, tolerance = (
        (low_rank.factor @ found.directions).abs(),
        zero_tolerance(low_rank, found.directions),
    )
    decided = ~found.rows | (entries <= UNDECIDED * tolerance)
    good = found.firm.clone()
    good[found.firm] = is_halfspace(whole, found.rows[:, found.firm], decided[:, found.firm], STRAYS)
    unsure = found.unique & ~found.firm
    if _is_narrow(spaces):
        good[unsure] = is_halfspace(left, found.rows[:, unsure], decided[:, unsure], FEW_STRAYS)
    waiting = found.pick(unsure & ~good)
    waiting = waiting if confirmed.unsure is None else confirmed.unsure + waiting
    directions = confirmed.directions
    for q in found.directions[:, good].T:
        basis = torch.linalg.qr(directions)[0]
        independent = float((q - basis @ (basis.T @ q)).norm()) > INDEPENDENT
        if independent and directions.shape[1] < len(q):
            directions = torch.cat([directions, q[:, None]], dim=1)
    confirmed = replace(confirmed, directions=directions)
    return replace(confirmed, unsure=waiting.pick(_are_new(waiting.directions, confirmed)[:MOST_UNSURE]))


def _is_narrow(spaces: tuple[Tensor, Tensor]) -> bool:
    whole, left = spaces
    return left.shape[1] <= SMALL_SPACE * whole.shape[1]


def is_halfspace(space: Tensor, zeros: Tensor, decided: Tensor, strays: float) -> Tensor:
    """Whether some vector z of the space is ≤ 0 on the zeros and > 0 elsewhere, shape (K,).

    Accelerated gradient steps (Nesterov 1983) on the squared hinge loss Σ max(0, 1 − y z)², y = ±1, whose
    minimum is zero if there is such a z. Rows that a sample barely activates would take many steps more. Whoever is
    separated is let go.

    Args:
        space: orthonormal columns, shape (m, r).
        zeros: masks as columns, shape (m, K).
        decided: which rows count, shape (m, K).
        strays: share of the rows that may be on the wrong side.
    """
    side = decided.to(space.dtype) * (1 - 2 * zeros.to(space.dtype))
    found = torch.zeros(side.shape[1], dtype=torch.bool, device=side.device)
    moving = torch.arange(len(found), device=side.device)
    last = w = space.T @ side
    pace = 1.0
    for step in range(1, HINGE_STEPS + 1):
        pace, old_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2, pace
        ahead = w + (old_pace - 1) / pace * (w - last)
        last, w = w, ahead + space.T @ (side * (1 - side * (space @ ahead)).clamp_min(0))
        if step % HINGE_LOOK == 0:
            wrong = ((side * (space @ w) <= 0) & (side != 0)).sum(dim=0) > strays * len(zeros)
            found[moving[~wrong]] = True
            moving, side, last, w = moving[wrong], side[:, wrong], last[:, wrong], w[:, wrong]
            if not len(moving):
                break
    return found
