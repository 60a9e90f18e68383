"""Activation patterns: which unit is silent for which sample."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw

from spear_core.study.patterns import most_alike
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, of_batch, scene

SHEET, TALLEST = 432, 108  # pixels of all lines together, and of one line at most
NEAR_DUPLICATE = 0.02  # noise on the copy of a sample, in standard deviations of the data


@lru_cache(maxsize=16)
def with_near_duplicate(stage: Scene, width: int) -> Scene:
    """The same batch with its second sample replaced by a copy of the first, plus a little noise."""
    inputs = stage.batch.inputs.clone()
    noise = torch.randn(inputs.shape[1], generator=torch.Generator().manual_seed(0))
    inputs[1] = inputs[0] + NEAR_DUPLICATE * noise
    return of_batch(replace(stage.batch, inputs=inputs), width=width)


class PatternExplorer(base.Explorer):
    """Activation patterns, units × samples, and how many entries of each column of ∂L/∂Z are zero.

    Attributes:
        stage: client and server of the present batch.
        silent: its activation patterns, Z ≤ 0, shape (b, m).
        zero: ∂L/∂Z = 0, shape (b, m).
    """

    name = "patterns"
    title = "Which unit is silent for which sample"
    description = (
        "One line of cells for each sample and one cell for each unit, dark where the unit is active and "
        "white where ReLU made the gradient zero: about half of each line is white."
    )

    def __init__(self) -> None:
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 4, 2, 24),
                "width": controls.slider("width m", 120, 40, 200, step=20),
                "seed": controls.slider("seed of data and weights", 3, 0, 9),
                "duplicate": controls.checkbox("sample 2 is nearly sample 1", False),
            },
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"], values["width"], values["seed"])
        if values["duplicate"]:
            self.stage = with_near_duplicate(self.stage, values["width"])
        self.silent, self.zero = self.stage.preactivations <= 0, self.stage.output_grads == 0
        share = self.zero.to(torch.float64).mean(dim=1)
        self.show("picture", pattern_picture(self.stage, self.zero, share.tolist()))
        i, j, units = most_alike(self.silent)
        same = "exactly" if torch.equal(self.silent, self.zero) else "not always"
        apart = f"{units} unit{'' if units == 1 else 's'}"
        self.say(
            f"∂L/∂Z is zero {same} where Z ≤ 0. Zeros by sample: {100 * float(share.min()):.0f} to "
            f"{100 * float(share.max()):.0f} %. Silent for all samples: {int(self.silent.all(dim=0).sum())} of "
            f"{values['width']} units. Most alike: samples {i + 1} and {j + 1}, which differ in {apart}."
        )


def pattern_picture(stage: Scene, zero: torch.Tensor, shares: list[float]) -> Image.Image:
    """Thumbnails, patterns as cells, and the share of zeros as bars with a mark at one half."""
    b, m = zero.shape
    height = min(TALLEST, SHEET // b)
    left, bars = TALLEST + 10, 130
    cell = (drawing.WIDTH - left - bars - 60) // m
    right = left + cell * m + 12
    # as tall for any batch: nothing jumps
    sheet, scale = drawing.sheet(drawing.WIDTH, SHEET + 26), drawing.SCALE
    draw = ImageDraw.Draw(sheet)
    drawing.write(sheet, (left, 4), f"unit 1 to {m}: dark = active, white = zero gradient", 12, anchor="la")
    drawing.write(sheet, (right, 4), "zeros; line: 50 %", 12, anchor="la")
    cells = np.where(zero.numpy()[..., None], 255, np.array([0, 70, 120])).astype(np.uint8)

    def box(x0: float, y0: float, x1: float, y1: float, fill: str | None, edge: str | None = None) -> None:
        draw.rectangle([scale * end for end in (x0, y0, x1, y1)], fill, edge, scale)

    for i, picture in enumerate(sample_pictures(stage.batch, stage.batch.inputs)):
        top, side = 22 + i * height, height - 4
        sheet.paste(drawing.enlarged(picture, side, side), ((left - side - 6) * scale, top * scale))
        box(left - 1, top - 1, left + cell * m + 1, top + side + 1, None, drawing.tint(drawing.FAINT))
        sheet.paste(drawing.enlarged(cells[i : i + 1], cell * m, side), (left * scale, top * scale))
        middle, tall = top + side / 2, min(side / 2 - 1, 14)
        box(right, middle - tall, right + shares[i] * bars, middle + tall, drawing.tint(drawing.BLUE))
        drawing.write(sheet, (right + bars + 6, middle), f"{100 * shares[i]:.0f} %", 12, anchor="lm")
    half = right + bars / 2
    box(half - 1, 20, half + 1, 20 + b * height, drawing.tint(drawing.ORANGE))
    return sheet
