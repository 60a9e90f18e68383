"""One draw after the other: b − 1 rows, their null vector, its zeros and the verdict."""

import numpy as np
from PIL import Image
from torch import Tensor

from spear_core.spear.zeros import default_threshold
from spear_core.study import theory
from spear_core.study.candidates import Candidates
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene
from spear_widgets.sampling.candidate import candidates

DRAWS = 200  # that the first explorer scrubs through
TALLEST = 0.75  # share of zeros at which the axis ends; right directions have about a half


class DrawExplorer(base.Explorer):
    """One draw: b − 1 rows, their null vector q, the entries of L q, and the verdict.

    Attributes:
        stage: client and server of the present batch.
        state: all draws of this batch; the slider says which one is shown.
        threshold: zeros that a candidate must have.
    """

    name = "draw"
    title = "Draw b − 1 rows, take their null vector, count zeros"
    description = (
        "The entries of L q for one random draw, with the b − 1 rows it was made from marked; below, the number "
        "of zeros of every draw so far against the threshold, and the samples whose directions were met."
    )

    def __init__(self) -> None:
        self._panels = DrawPanels(len(scene().low_rank.factor))
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 4, 2, 8),
                "draw": controls.slider("draw number", 1, 1, DRAWS, track=16),
            },
            buttons=(
                self.button("Draw again", lambda: self.move("draw", 1)),
                self.button("Next that is kept", self.next_kept, tooltip="The next draw with enough zeros"),
            ),
        )
        self.refresh()

    @property
    def kept(self) -> Tensor:
        """Which draws have enough zeros, shape (DRAWS,)."""
        return self.state.zeros >= self.threshold

    def next_kept(self) -> None:
        """The next draw that is kept; the last one if there is none."""
        later = self.kept[self.control["draw"].value :].nonzero().flatten()
        self.set(draw=self.control["draw"].value + 1 + int(later[0]) if len(later) else DRAWS)

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        b, number = values["batch_size"], values["draw"]
        self.stage = scene(values["data"], b)
        self.state = candidates(self.stage, DRAWS)
        m = len(self.stage.low_rank.factor)
        self.threshold = theory.least_zeros(m, default_threshold(self.stage.low_rank))
        plot = self._panels.image(self.state, number, self.threshold)
        first = self.state.first_finds(number)
        picture = drawing.below([plot, met_pictures(self.stage, first)])
        self.show("picture", picture)
        rows = sorted(self.state.rows[number - 1].tolist())
        kept = bool(self.kept[number - 1])
        self.say(
            f"Draw {number}: rows {', '.join(str(row + 1) for row in rows)} give q, and L q has "
            f"<b>{int(self.state.zeros[number - 1])} zeros</b> of {m}, {'at least' if kept else 'fewer than'} "
            f"{self.threshold}: <b>{'kept' if kept else 'rejected'}</b>. "
            f"Directions met so far: {sum(at is not None for at in first)} of {b}."
        )


def met_pictures(stage: Scene, first: list[int | None]) -> Image.Image:
    """The samples, pale until their direction was met."""
    pictures = sample_pictures(stage.batch, stage.batch.inputs)
    if pictures.dtype == np.uint8:
        pictures = pictures / 255
    shown = [0.8 + 0.2 * picture if at is None else picture for picture, at in zip(pictures, first)]
    labels = ["not met" if at is None else f"draw {at}" for at in first]
    frames = [None if at is None else drawing.colour(i) for i, at in enumerate(first)]
    return drawing.picture_grid(np.stack(shown), side=72, labels=labels, frames=frames)


class DrawPanels:
    """The entries of L q of one draw, above the zeros of all draws so far."""

    def __init__(self, m: int) -> None:
        """Make the axes for m units; all batches share them."""
        self._canvas = Canvas(drawing.WIDTH, 400)
        self._top = TALLEST * m
        upper = self._canvas.axes(
            0.06,
            0.6,
            0.92,
            0.33,
            xlim=(0, m + 1),
            ylim=(-1.25, 1.1),
            yticks=[0],
            xlabel=f"unit 1 to {m}",
            ylabel="L q",
        )
        upper.axhline(0, color=drawing.FAINT, linewidth=0.8)
        (self._nonzero,) = upper.plot([], [], "o", color=drawing.BLUE, markersize=4, label="not zero")
        (self._zero,) = upper.plot([], [], "D", color=drawing.ORANGE, markersize=5, label="zero")
        (self._own,) = upper.plot([], [], "^", color=drawing.INK, markersize=9, label="the b − 1 rows drawn")
        upper.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, borderpad=0
        )
        self._verdict = upper.text(0, 1.18, "", fontsize=12, fontweight="bold", va="bottom")
        lower = self._canvas.axes(
            0.06,
            0.12,
            0.92,
            0.32,
            xlim=(0, DRAWS + 1),
            ylim=(0, self._top),
            xlabel="draw number",
            ylabel="zeros",
        )
        (self._cut,) = lower.plot([], [], "--", color=drawing.INK, linewidth=1)
        (self._rejected,) = lower.plot([], [], "x", color=drawing.FAINT, markersize=5)
        (self._kept,) = lower.plot([], [], "o", color=drawing.ORANGE, markersize=6)
        (self._here,) = lower.plot([], [], color=drawing.BLUE, linewidth=1.5)
        self._limit = lower.text(DRAWS, 0, "", ha="right", va="bottom", fontsize=9)
        self._canvas.moving(
            self._nonzero, self._zero, self._own, self._verdict, self._cut, self._rejected, self._kept,
            self._here, self._limit,
        )  # fmt: skip

    def image(self, found: Candidates, draw: int, threshold: int) -> Image.Image:
        """Both panels for one draw.

        Args:
            found: all draws.
            draw: its number, from 1.
            threshold: zeros that a candidate must have.
        """
        entries, zero = found.entries[draw - 1].numpy(), found.zero[draw - 1].numpy()
        units, rows = np.arange(1, len(entries) + 1), found.rows[draw - 1].numpy() + 1
        self._nonzero.set_data(units[~zero], entries[~zero] / np.abs(entries).max())
        self._zero.set_data(units[zero], np.zeros(zero.sum()))
        self._own.set_data(rows, np.full(len(rows), -1.1))
        zeros, numbers = found.zeros[:draw].numpy(), np.arange(1, draw + 1)
        kept = zeros >= threshold
        self._rejected.set_data(numbers[~kept], zeros[~kept])
        self._kept.set_data(numbers[kept], zeros[kept])
        self._cut.set_data([0, DRAWS + 1], [threshold, threshold])
        self._limit.set_text(f"kept from {threshold} on")
        self._limit.set_y(threshold)
        self._here.set_data([draw, draw], [0, self._top])
        self._verdict.set_text(f"draw {draw}: {zeros[-1]} zeros, {'kept' if kept[-1] else 'rejected'}")
        return self._canvas.image()


def title_picture() -> base.Picture:
    """Two hundred draws: most rejected, a few with half of their entries zero."""
    explorer = DrawExplorer()
    explorer.set(batch_size=6, draw=DRAWS)
    return base.Picture(
        explorer.static_picture(),
        "Two hundred random draws for a batch of six: crosses for candidates with few zeros, dots for those that "
        "pass the threshold, and below them the six photographs with the draw that first met each direction.",
    )
