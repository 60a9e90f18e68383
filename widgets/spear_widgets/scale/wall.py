"""256 photographs of 224 × 224 out of one gradient: a recorded run as a wall of tiles that resolves."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spear_widgets.kit import base, drawing
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.kit.stage import Stage

RECORDED = Path(__file__).with_name("recorded")
SHEETS = ("mixtures", "photographs", "large")


@cache
def record() -> dict[str, Any]:
    """What `python benchmarks/wall.py` has stored.

    Times are CPU seconds of one thread; by place in the batch: when a photograph was found, its PSNR at full size, and
    whether it was certified in the end.
    """
    return dict(json.loads((RECORDED / "wall.json").read_text(encoding="utf-8")))


class WallExplorer(base.Explorer):
    """A wall of 256 tiles: mixtures at first, each of which turns into its photograph when the search found it.

    Attributes:
        record: what was measured.
    """

    name = "wall"
    ribbon = Ribbon()
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


def title_picture() -> base.Picture:
    """The rows of R before the search: all that the gradient shows."""
    with Image.open(RECORDED / "mixtures.webp") as sheet:
        side, half = sheet.width, sheet.height // 2
        tiles = Image.new("RGB", (2 * side, half))
        for k in range(2):  # its halves side by side: 32 squares in a row
            tiles.paste(sheet.crop((0, k * half, side, (k + 1) * half)), (k * side, 0))
    picture = tiles.resize((drawing.WIDTH * drawing.SCALE, drawing.WIDTH * drawing.SCALE // 4))
    return base.Picture(
        picture,
        "A sheet of 256 small squares, all that a gradient of 256 photographs shows: mixtures, most like noise.",
    )
