"""One direction q, and what it does to the live rows of L."""

from dataclasses import dataclass

from torch import Tensor

from spear_core.spear.sampling import live_rows
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


def sent(stage: Scene) -> dict[str, object]:
    """What a page needs to look at any direction by itself, see `entries.js`: the live rows and when they are zero."""
    live = stage.live_rows()
    return {
        **live,
        "limit": float(live["rows"].norm(dim=1).max()),
        "exact": stage.true_directions.T.contiguous(),
    }
