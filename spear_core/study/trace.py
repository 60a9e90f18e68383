"""What every draw of SPEAR's search did: its rows, its candidate, its zeros, and what became of it.

>>> from spear_core import states
>>> from spear_core.client import data, gradients, networks
>>> from spear_core.model.layers import read_problem
>>> batch = data.load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
>>> model = networks.fully_connected(768, width=100, generator=torch.Generator().manual_seed(1))
>>> problem = read_problem(model, gradients(model, batch.inputs, batch.labels))
>>> trace = Trace()
>>> *_, last = states(problem, method="sampling", listen=trace.hear)
>>> draws = trace.draws()
>>> draws.count == last.samples_drawn and last.certified
True
"""

from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spear_core.spear.records import Pool
from spear_core.spear.sampling import Draw
from spear_core.tolerances import SAME_DIRECTION

MOST_DRAWS = 2**15  # that are kept whole; of later ones, those that passed the first stage


class Fate(IntEnum):
    """What became of a candidate."""

    FIRST_STAGE = 0  # too few zeros on the few rows that it was tested on first
    REFUSED = 1  # too few zeros on all rows
    KNOWN = 2  # the pool has it, or its space, already
    NEW = 3  # it brought a direction, or several, to the pool


@dataclass(frozen=True)
class Draws:
    """Draws in the order in which they were made; k of them were kept.

    Attributes:
        count: how many there were.
        numbers: which these are, from 0, shape (k,).
        sets: the b sampled rows of L of each, among the live ones, shape (k, b).
        left_out: which of the b was left out: the candidate is orthogonal to the others, shape (k,).
        directions: candidates as unit rows, float32, shape (k, b); NaN where rows were singular.
        fates: a `Fate` each, shape (k,).
        members: position in `Trace.found` of what was found, or was known already; −1 for none, shape (k,).
    """

    count: int
    numbers: Tensor
    sets: Tensor
    left_out: Tensor
    directions: Tensor
    fates: Tensor
    members: Tensor


@dataclass
class Trace:
    """Listens to a search and keeps what it hears, in bounded memory.

    Attributes:
        most: draws that are kept whole.
        count: draws heard so far.
        found: directions that have been in the pool, as unit columns, in the order in which they came, shape (b, p).
    """

    most: int = MOST_DRAWS
    count: int = 0
    found: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    _kept: list[tuple[Tensor, ...]] = field(default_factory=list, repr=False)

    def hear(self, draw: Draw, passed: Tensor, pool: Pool) -> None:
        """One chunk of draws: which of them passed the first stage, and the pool afterwards."""
        b = draw.directions.shape[1]
        directions = normalize(draw.directions, dim=1).cpu()
        numbers = torch.arange(len(directions))
        fates, members = self._judged(directions, passed.cpu(), pool)
        keep = (self.count + numbers < self.most) | (fates > Fate.FIRST_STAGE)
        chunk = (self.count + numbers, draw.sets.cpu()[numbers // b], numbers % b, directions, fates, members)
        self._kept.append(tuple(part[keep] for part in chunk))
        self.count += len(directions)

    def _judged(self, directions: Tensor, passed: Tensor, pool: Pool) -> tuple[Tensor, Tensor]:
        """The fate of each candidate, and what it found or led to."""
        fates = torch.where(passed, int(Fate.REFUSED), int(Fate.FIRST_STAGE))
        members, candidates = torch.full_like(fates, -1), passed.nonzero().flatten()
        before = self.found.shape[1]
        self.found = joined(self.found, pool.directions.cpu())
        if not len(candidates) or not self.found.shape[1]:
            return fates, members
        drawn = directions[candidates].to(torch.float64)
        alike = (drawn @ self.found).abs()
        best, nearest = alike.max(dim=1)
        same = best > 1 - SAME_DIRECTION
        for space in pool.explored:
            fates[candidates[(drawn @ space.cpu()).norm(dim=1) > 1 - SAME_DIRECTION]] = int(Fate.KNOWN)
        fates[candidates[same]], members[candidates[same]] = int(Fate.KNOWN), nearest[same]
        for new in range(
            before, self.found.shape[1]
        ):  # the first that is it, else the one whose space it lies in
            hits = candidates[same & (nearest == new)]
            first = hits[0] if len(hits) else candidates[alike[:, new].argmax()]
            fates[first], members[first] = int(Fate.NEW), new
        return fates, members

    def draws(self) -> Draws:
        """What was heard so far.

        Raises:
            ValueError: nothing yet.
        """
        if not self._kept:
            raise ValueError("trace must have heard a draw, got none: pass trace.hear as listen=")
        return Draws(self.count, *(torch.cat(parts) for parts in zip(*self._kept, strict=True)))


def joined(known: Tensor, directions: Tensor) -> Tensor:
    """Unit columns (b, p) with those of some more (b, k) that are new behind them; q and −q are one direction."""
    known = known if known.shape[1] else directions[:, :0]
    return torch.cat(
        [known, directions[:, ~((directions.T @ known).abs() > 1 - SAME_DIRECTION).any(dim=1)]], dim=1
    )
