"""b = 3: each row of L is a great circle, and a sample is where many of them cross."""

from pathlib import Path

import numpy as np

from spear_core.spear.sampling import live_rows
from spear_widgets.kit import base
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import scene
from spear_widgets.kit.stage import Stage
from spear_widgets.sparsity.directions import sent

SPHERE_UNITS = 80


class SphereExplorer(base.Explorer):
    """Each row of L a great circle on the sphere of directions; where many of them cross is a sample.

    The point in the middle of the view is q: turning the sphere is choosing q.

    Attributes:
        stage: client and server of the batch of three.
    """

    name = "sphere"
    title = "b = 3: every row of L is a great circle"
    description = (
        "A ball covered with great circles, one for each row of L, with the cross q in its middle; dozens of "
        "circles cross at three marked points, the samples. Beside it the entries of L q and the three photographs."
    )

    def __init__(self, *, marked: bool = False) -> None:
        """Make it.

        Args:
            marked: whether the samples are marked at first.
        """
        super().__init__({}, live=Stage(Path(__file__).with_suffix(".js")))
        self._marked = marked
        self.refresh()

    def update(self) -> None:
        """Send the batch to the page."""
        self.stage = scene("photos", 3, SPHERE_UNITS)
        live = live_rows(self.stage.low_rank.factor)
        photos = sample_pictures(self.stage.batch, self.stage.batch.inputs)
        assert self.live is not None
        self.live.put(
            **sent(self.stage),
            through=self.stage.zero(self.stage.true_directions)[live],
            units=(live + 1).tolist(),
            photos=np.round(255 * photos).astype(np.uint8),
            marked=self._marked,
        )
