"""One direction q, and what it does to the live rows of L."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from spear_core.spear.sampling import live_rows
from spear_widgets.kit import drawing
from spear_widgets.kit.scene import Scene


@dataclass(frozen=True)
class Look:
    """One direction q, and what it does to the live rows of L.

    Attributes:
        direction: q, unit, shape (b,).
        entries: L q on the live rows, shape (k,).
        zero: which of them are zero, to rounding, shape (k,).
        sample: which sample's true direction this is, or None.
    """

    direction: Tensor
    entries: Tensor
    zero: Tensor
    sample: int | None

    @property
    def zeros(self) -> int:
        """How many entries are zero."""
        return int(self.zero.sum())


class Entries:
    """The entries of L q as dots, and those that are zero as diamonds.

    Attributes:
        axes: where they are drawn.
        artists: what moves.
    """

    def __init__(self, axes: Axes, rows: Tensor) -> None:
        """Prepare axes for the live rows of L, shape (k, b)."""
        self.axes, limit = axes, 1.05 * float(rows.norm(dim=1).max())
        axes.set(xlim=(-1, len(rows)), ylim=(-limit, limit), yticks=[0], xticks=[])
        axes.set_xlabel(f"entries of L q, {len(rows)} units that are not always silent")
        axes.axhline(0, color=drawing.FAINT, linewidth=0.8)
        axes.spines["bottom"].set_visible(False)
        (self._nonzero,) = axes.plot([], [], "o", color=drawing.BLUE, markersize=4)
        (self._zero,) = axes.plot([], [], "D", color=drawing.ORANGE, markersize=6)
        self.artists = self._nonzero, self._zero

    def put(self, state: Look) -> None:
        """Draw those of a direction."""
        entries, zero = state.entries.numpy(), state.zero.numpy()
        numbers = np.arange(len(entries))
        self._nonzero.set_data(numbers[~zero], entries[~zero])
        self._zero.set_data(numbers[zero], np.zeros(zero.sum()))


def look(stage: Scene, direction: Tensor) -> Look:
    """Entries and zeros of L q on the rows that some sample activates.

    Args:
        stage: a scene.
        direction: q, any length but zero, shape (b,).

    Raises:
        ValueError: if q has another shape or is zero.
    """
    b = stage.low_rank.batch_size
    norm = float(direction.norm())
    if direction.shape != (b,) or not 0 < norm < float("inf"):
        raise ValueError(f"direction must be a vector of {b} numbers, not all zero, got {direction.tolist()}")
    q = (direction / norm)[:, None]
    rows = live_rows(stage.low_rank.factor)
    entries = stage.low_rank.factor[rows] @ q
    zero = stage.zero(q)[rows]
    alike = (stage.true_directions.T @ q).abs().flatten()
    best = int(alike.argmax())
    return Look(q[:, 0], entries[:, 0], zero[:, 0], best if float(alike[best]) > 1 - 1e-9 else None)
