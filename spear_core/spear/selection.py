"""Step 4: choose the b directions that agree with the forward pass (SPEAR, greedy filtering).

The pool may hold wrong directions beside the right ones. Start with the sparsest independent ones, then swap
single directions as long as λ grows, the share of entries with [∂L/∂Z = 0] = [Z ≤ 0]. λ = 1 is the goal.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.linalg import independent
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Pool, Reconstruction
from spear_core.tolerances import INDEPENDENT


@dataclass(frozen=True)
class Selection:
    """Directions chosen from the pool, and the batch that they give.

    Attributes:
        chosen: positions in the pool, b of them.
        reconstruction: the batch of these directions, with its λ.
    """

    chosen: tuple[int, ...]
    reconstruction: Reconstruction

    @property
    def sparsity_match(self) -> float:
        """λ of the chosen directions."""
        return self.reconstruction.sparsity_match


def greedy(pool: Pool, apart: float = INDEPENDENT) -> tuple[int, ...]:
    """The sparsest independent directions, unique ones first: positions in the pool, at most b.

    Each is at least so far `apart` from the span of those before it.
    """
    sparsest = pool.zeros.argsort(descending=True, stable=True)
    order = sparsest[pool.unique[sparsest].to(torch.int8).argsort(descending=True, stable=True)]
    return tuple(order[independent(pool.directions[:, order], apart)].tolist())


def select(pool: Pool, forward: Forward, *, deadline: float = float("inf")) -> Iterator[Selection]:
    """Greedy choice, then the swaps that raise λ; yields every improvement, the best one last.

    Args:
        pool: directions that passed the filter, at least one.
        forward: the attacked layer in the row space of its gradient.
        deadline: `time.monotonic()` after which to try no more swaps.

    Yields:
        Selections with growing λ. With fewer than b independent directions, the greedy choice only.
    """
    best = _selection(greedy(pool), pool, forward)
    yield best
    if len(best.chosen) < forward.low_rank.batch_size:
        return
    improved = True
    while improved and best.sparsity_match < 1:
        improved = False
        for outsider in set(range(len(pool))) - set(best.chosen):
            for swapped in _swaps(outsider, best.chosen, pool):
                if time.monotonic() >= deadline:
                    return
                candidate = _selection(swapped, pool, forward)
                if candidate.sparsity_match > best.sparsity_match:
                    best, improved = candidate, True
                    yield best
                    break


def _swaps(outsider: int, chosen: tuple[int, ...], pool: Pool) -> Iterator[tuple[int, ...]]:
    """The chosen set with one member replaced, wherever that leaves b independent directions."""
    coordinates: Tensor = torch.linalg.solve(pool.directions[:, list(chosen)], pool.directions[:, outsider])
    for place in coordinates.abs().argsort(descending=True).tolist():
        if float(coordinates[place].abs()) > INDEPENDENT:
            yield (*chosen[:place], outsider, *chosen[place + 1 :])


def _selection(chosen: tuple[int, ...], pool: Pool, forward: Forward) -> Selection:
    return Selection(chosen, reconstruct(forward, pool.directions[:, list(chosen)]))
