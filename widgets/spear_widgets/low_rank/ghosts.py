"""The Q that the split leaves open: every Q gives a batch, one Q gives the batch."""

import numpy as np
from PIL import Image

from spear_core.spear.reconstruction import gradient_residual
from spear_core.spear.records import Reconstruction
from spear_core.study.ghosts import STEPS, ghosts
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene


class GhostExplorer(base.Explorer):
    """Scrub from a wrong Q to the right one and watch mixed-up pictures come apart.

    Attributes:
        stage: client and server of the present batch.
        state: the batch that the present Q gives.
        zeros: exact zeros in each column of L Q.
    """

    name = "ghosts"
    title = "One gradient, many splits: every Q gives a batch, one Q gives the batch"
    description = (
        "Mixed-up ghost pictures that a wrong Q makes of a batch, above the entries of each column of L Q as "
        "tiles, where only the right Q leaves about half of the tiles white, which means exactly zero."
    )

    def __init__(self) -> None:
        super().__init__(
            {
                "data": controls.dropdown("data", DATA[:2]),
                "batch_size": controls.slider("batch size b", 4, 2, 8),
                "wrong": controls.slider("which wrong Q", 1, 1, 9),
                "step": controls.slider("from wrong (0) to right (100)", 0, 0, STEPS, track=16),
            },
            buttons=(self.button("Right Q", lambda: self.set(step=STEPS)),),
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"])
        self.state = ghosts(self.stage.forward, self.stage.true_q, values["wrong"], values["step"])
        self.zeros = self.stage.zero(self.state.directions).sum(dim=0).tolist()
        self.show("picture", ghost_picture(self.stage, self.state))
        m = self.stage.output_grads.shape[1]
        counts = ", ".join(map(str, self.zeros))
        error = gradient_residual(self.state, self.stage.layer, self.state.output_grads)
        says = "rounding only" if error < 1e-5 else "more than rounding"
        verdict = "This is the right Q." if values["step"] == STEPS else "A wrong Q."
        self.say(
            f"<b>{verdict}</b> Difference between (L Q)(Q⁻¹ R) and the gradient: <b>{says}</b>. "
            f"Exact zeros in the columns of L Q: <b>{counts}</b> of {m}."
        )


def ghost_picture(stage: Scene, found: Reconstruction) -> Image.Image:
    """Ghosts above the columns of L Q, zero entries white, all others tinted."""
    b = stage.batch_size
    side = min(168, drawing.WIDTH // b - 8)
    pictures = sample_pictures(stage.batch, found.inputs)
    labels = [f"row {i + 1} of Q⁻¹ R" for i in range(b)]
    top = drawing.picture_grid(pictures, side=side, labels=labels)
    entries = (stage.low_rank.factor @ found.directions).T.numpy()
    exact = np.where(stage.zero(found.directions).T.numpy(), 0, entries)
    tiles = np.stack([zero_tiles(column) for column in exact])
    labels = [f"L q{i + 1}: {(column == 0).sum()} zeros" for i, column in enumerate(exact)]
    return drawing.below([top, drawing.picture_grid(tiles, side=side, labels=labels)], gap=2)


def zero_tiles(column: np.ndarray) -> np.ndarray:
    """A column of m numbers as square tiles, uint8 (s, s, 3): white at exact zeros, tinted elsewhere."""
    side = int(np.ceil(len(column) ** 0.5))
    largest = np.abs(column).max(initial=0.0) or 1.0
    visible = np.where(column == 0, 0, np.sign(column) * (0.25 + 0.75 * np.abs(column) / largest))
    padded = np.zeros(side * side)
    padded[: len(column)] = visible
    tiles = drawing.signed_colours(padded, 1.0).reshape(side, side, 3)
    tiles.reshape(-1, 3)[len(column) :] = 200  # beyond the last unit
    return tiles
