"""Half-spaces: which candidates are directions of samples, all of them judged at once.

A candidate near a sample's direction is fitted to its zeros, ever more finely, in float64. It is confirmed if

1. its zeros are enough and leave one direction only, even with any two of them taken away
   (`uniqueness.weigh`). Two similar samples share most zeros, and one further row picks *some* mixture of
   them: a plain rank test would believe it;
2. its zeros are a half-space: some c has M c ≤ 0 on them and M c > 0 on all other rows. The zeros of a mixture
   are an intersection of half-spaces, which the m points in ℝᵇ hardly ever separate.

Where the zeros leave a plane or a small space, similar samples lie in it, and steps 2 and 3 of SPEAR are
repeated inside (`sparsity.explored_spaces`).

Directions are unit columns q, shape (b, K); masks of rows are columns too, shape (m, K).
"""

from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from spear_core.linalg import independent, is_first, units
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import UNDECIDED
from spear_core.spear.sparsity import COARSE_ZERO, explored_spaces
from spear_core.spear.uniqueness import Zeros, weigh
from spear_core.spear.zeros import default_threshold, fit, zero_tolerance
from spear_core.tolerances import INDEPENDENT, SAME_DIRECTION

HINGE_STEPS = 80  # nine in ten true patterns are separated after that, the others but for a few rows
HINGE_LOOK = 16  # steps between two looks at who is separated
STRAYS = 0.01  # share of the rows that may then still be on the wrong side
SMALL_SPACE = 0.25  # share of b, below which separating rows by what is left is evidence of its own
FEW_STRAYS = 0.005  # the same share there
MOST_UNSURE = 32  # directions that wait for a narrower space
MOST_SPACES = 4  # shared by similar samples, that are searched per round


@dataclass
class Confirmed:
    """What is known so far; it grows as candidates are judged.

    Attributes:
        low_rank: the split of G.
        whole: orthonormal basis of the scores z = M c that are possible, shape (m, b).
        directions: q_i of the samples found, unit columns, shape (b, k), float64.
        unsure: unique directions that chance may have pinned down.
        explored: kernels of several dimensions that have been searched, orthonormal columns.
    """

    low_rank: LowRank
    whole: Tensor
    directions: Tensor
    unsure: Zeros | None = None
    explored: list[Tensor] = field(default_factory=list)

    def judge(self, candidates: Tensor, space: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Confirm candidates, of any length and float dtype; which of them are known by now, shape (K,).

        `space` is an orthonormal basis of the scores that the samples found leave, shape (m, r).
        """
        L = self.low_rank.factor
        # who was waiting for a narrow space
        if self.unsure is not None and self._is_narrow(space):
            waiting, self.unsure = self.unsure, None
            self._join(waiting, space)
        # most candidates are far from any sample: a coarse count of zeros spares them the fit
        candidates = units(candidates.to(torch.float64))
        entries = (L @ candidates).abs()
        zeros = (entries < COARSE_ZERO * entries.mean(dim=0)).sum(dim=0)
        q = self._new(candidates[:, zeros >= default_threshold(self.low_rank) * len(entries)])
        for kernel in self.explored:
            q = q[:, (kernel.T @ q).norm(dim=0) <= 1 - SAME_DIRECTION]
        if q.shape[1]:
            found = weigh(self.low_rank, self._new(fit(self.low_rank, q)), generator=generator)
            self._join(found, space)
            # similar samples, told apart inside the space that their shared zeros leave
            spaces = explored_spaces(
                self.low_rank, found.pick(found.shared), self.explored, generator=generator
            )
            for inside in islice(spaces, MOST_SPACES):
                self._join(weigh(self.low_rank, self._new(inside), generator=generator), space)
        return self._knows(candidates)

    def _join(self, found: Zeros, space: Tensor) -> None:
        """Add the directions that are independent, unique, and whose zeros are a half-space.

        Where few zeros tell two similar samples apart, chance can pin down a mixture. It takes the narrow space
        that the other samples leave for z to refuse it.
        """
        entries = (self.low_rank.factor @ found.directions).abs()
        decided = ~found.rows | (entries <= UNDECIDED * zero_tolerance(self.low_rank, found.directions))
        good, unsure = found.firm.clone(), found.unique & ~found.firm
        good[found.firm] = is_halfspace(self.whole, found.rows[:, found.firm], decided[:, found.firm], STRAYS)
        if self._is_narrow(space):
            good[unsure] = is_halfspace(space, found.rows[:, unsure], decided[:, unsure], FEW_STRAYS)
        self.directions = with_independent(self.directions, found.directions[:, good])
        waiting = found.pick(unsure & ~good)
        waiting = waiting if self.unsure is None else self.unsure + waiting
        self.unsure = waiting.pick(self._unknown(waiting.directions)[:MOST_UNSURE])

    def _is_narrow(self, space: Tensor) -> bool:
        return space.shape[1] <= SMALL_SPACE * self.whole.shape[1]

    def _knows(self, q: Tensor) -> Tensor:
        return ((self.directions.T @ q).abs() > 1 - SAME_DIRECTION).any(dim=0)

    def _new(self, q: Tensor) -> Tensor:
        return q[:, self._unknown(q)]

    def _unknown(self, q: Tensor) -> Tensor:
        """Numbers of the columns that are neither known nor parallel to an earlier one."""
        unknown = (~self._knows(q)).nonzero().flatten()
        q = q[:, unknown]
        return unknown[is_first((q.T @ q).abs() > 1 - SAME_DIRECTION)]


def with_independent(known: Tensor, new: Tensor) -> Tensor:
    """Known directions and, one after the other, those new ones that are independent of them; b at most."""
    both = torch.cat([known, new], dim=1)
    return both[:, independent(both, INDEPENDENT)]


def is_halfspace(space: Tensor, zeros: Tensor, decided: Tensor, strays: float) -> Tensor:
    """Whether some vector z of the space is ≤ 0 on the zeros and > 0 elsewhere, shape (K,).

    Accelerated gradient steps (Nesterov 1983) on the squared hinge loss Σ max(0, 1 − y z)², y = ±1, whose
    minimum is zero if there is such a z. Rows that a sample barely activates would take many steps more. Whoever is
    separated is let go. Only decided rows count, and the share `strays` of all rows may be on the wrong side.
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
            found[moving] = ~wrong
            left = wrong.nonzero().flatten()
            moving, side, last, w = moving[left], side[:, left], last[:, left], w[:, left]
            if not len(moving):
                break
    return found
