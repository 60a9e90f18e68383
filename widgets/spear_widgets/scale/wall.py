"""256 photographs of 224 × 224 out of one gradient: a recorded run as a wall of tiles that resolves."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spear_widgets.kit import base
from spear_widgets.kit.stage import Stage

RECORDED = Path(__file__).with_name("recorded")
SHEETS = ("mixtures", "photographs", "large")


@cache
def record() -> dict[str, Any]:
    """What `python benchmarks/wall.py` has stored.

    Times are CPU seconds of one thread; by place in the batch: when a photograph was found, its PSNR at full size, and
    whether it was certified in the end.

    Raises:
        FileNotFoundError: if it is not there; the message names the command that makes it.
    """
    path = RECORDED / "wall.json"
    if not path.exists():
        raise FileNotFoundError(f"{path.name} must be there, got none: run python benchmarks/wall.py")
    return dict(json.loads(path.read_text(encoding="utf-8")))


class WallExplorer(base.Explorer):
    """A wall of 256 tiles: mixtures at first, each of which turns into its photograph when the search found it.

    Attributes:
        record: what was measured.
    """

    name = "wall"
    title = "256 photographs of 224 × 224 from one gradient"
    description = (
        "A wall of 256 tiles. At first each is a row of R, a mixture of all photographs, most like noise; "
        "round by round the search finds photographs, until all 256 are there and proven."
    )

    def __init__(self, at: float | None = None) -> None:
        """Show the recorded run.

        Args:
            at: seconds at which it stands at first; by default when the mixtures are there.
        """
        self._at = at
        super().__init__({}, live=Stage(Path(__file__).with_suffix(".js")))
        self.refresh()

    def update(self) -> None:
        """Send the record and its sheets of tiles to the page."""
        self.record = record()
        sheets = {name: (RECORDED / f"{name}.webp").read_bytes() for name in SHEETS}
        assert self.live is not None
        self.live.put(
            at=self.record["split"] if self._at is None else self._at,
            sheets={name: np.frombuffer(sheet, dtype=np.uint8) for name, sheet in sheets.items()},
            **self.record,
        )
