"""One draw after the other: b − 1 rows, their null vector, its zeros and the verdict."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from spear_core.spear.zeros import default_threshold
from spear_core.study import theory
from spear_core.study.candidates import Candidates, draw_candidates
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene

DRAWS = 200  # on one page of draws; drawing goes on for as many pages as the reader wants
SEED = (
    402  # of the first page; its first draws are like the rest: with most batches the very first is rejected
)
PATIENCE = 100  # pages that a button looks through before it asks the reader
TALLEST = 0.75  # share of zeros at which the axis ends; right directions have about a half


@lru_cache(maxsize=4)
def page(stage: Scene, number: int) -> Candidates:
    """Draws number·DRAWS + 1 … (number + 1)·DRAWS of a batch, always the same; only the last few pages are kept."""
    generator = torch.Generator().manual_seed(SEED + number)
    found = draw_candidates(stage.low_rank, stage.true_q, DRAWS, generator=generator)
    assert len(found) == DRAWS, "sets of dependent rows left too few draws"
    return found


class DrawExplorer(base.Explorer):
    """One draw: b − 1 rows, their null vector q, the entries of L q, and the verdict.

    Attributes:
        stage: client and server of the present batch.
        state: the page of draws that is shown; the slider says which draw.
        threshold: zeros that a candidate must have.
        met: for each sample the number of the draw that first gave its direction, as far as was drawn.
    """

    name = "draw"
    title = "Draw b − 1 rows, take their null vector, count zeros"
    description = (
        "The entries of L q for one random draw, with the b − 1 rows it was made from marked; below, the number "
        "of zeros of the draws up to it against the threshold, filled where q is right, and the samples that were met."
    )

    def __init__(self) -> None:
        self._panels = DrawPanels(len(scene().low_rank.factor))
        self._drawn_from: Scene | None = None
        self._pages = 0
        self.new_button = self.button(
            "Next new direction", self.next_new, tooltip="The next draw that meets a direction not met before"
        )
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 4, 2, 8),
                "draw": controls.slider("draw number", 1, 1, DRAWS, track=16),
            },
            buttons=(
                self.button("Draw again", self.again),
                self.button("Next that is kept", self.next_kept, tooltip="The next draw with enough zeros"),
                self.new_button,
            ),
        )
        self.refresh()

    def again(self) -> None:
        """One draw more."""
        number = self.control["draw"].value
        if number == DRAWS * self._pages:
            self._go_on()
        self.set(draw=number + 1)

    def next_kept(self) -> None:
        """The next draw that is kept."""
        self._find(self._kept_after, "No draw with enough zeros")

    def next_new(self) -> None:
        """The next draw that meets a direction for the first time."""
        self._find(
            lambda number: min((at for at in self.met if at is not None and at > number), default=None),
            "No new direction",
        )

    def reset(self) -> None:
        """All controls back to their first values, and the drawing to its first page."""
        self._drawn_from = None
        super().reset()

    def _find(self, after: Callable[[int], int | None], missing: str) -> None:
        """Go to the first draw after the present one for which something holds, drawing on as needed."""
        begin = number = self.control["draw"].value
        for _ in range(PATIENCE):
            if number == DRAWS * self._pages:
                self._go_on()
            found = after(number)
            if found is not None:
                return self.set(draw=found)
            number = (number // DRAWS + 1) * DRAWS
        self.set(draw=number)
        self.status.value = f"{missing} in {number - begin:,} draws. Press again to draw on."

    def _kept_after(self, number: int) -> int | None:
        """The first draw that is kept among the next ones on their page."""
        start = number // DRAWS * DRAWS
        later = (
            (page(self.stage, number // DRAWS).zeros[number - start :] >= self.threshold).nonzero().flatten()
        )
        return number + 1 + int(later[0]) if len(later) else None

    def _go_on(self) -> None:
        """Draw one more page. What is kept of all pages is the first find of each sample."""
        for i, at in enumerate(page(self.stage, self._pages).first_finds(DRAWS)):
            if self.met[i] is None and at is not None:
                self.met[i] = DRAWS * self._pages + at
        self._pages += 1
        with self.quietly():
            self.control["draw"].max = DRAWS * self._pages

    def _begin(self) -> None:
        """Another batch: its drawing begins with its first page."""
        self._drawn_from, self._pages = self.stage, 0
        self.met: list[int | None] = [None] * self.stage.batch_size
        m = len(self.stage.low_rank.factor)
        self.threshold = theory.least_zeros(m, default_threshold(self.stage.low_rank))
        self._go_on()

    def update(self) -> None:
        """Draw the present setting."""
        b = self.values["batch_size"]
        self.stage = scene(self.values["data"], b)
        if self.stage is not self._drawn_from:
            self._begin()
        number = self.control["draw"].value
        start = (number - 1) // DRAWS * DRAWS
        self.state, place = page(self.stage, start // DRAWS), number - 1 - start
        first = [at if at is not None and at <= number else None for at in self.met]
        met = sum(at is not None for at in first)
        self.new_button.disabled = met == b
        plot = self._panels.image(self.state, place, start, self.threshold)
        self.show("picture", drawing.below([plot, met_pictures(self.stage, first)]))
        rows, zeros = sorted(self.state.rows[place].tolist()), int(self.state.zeros[place])
        m, kept = self.state.zero.shape[1], zeros >= self.threshold
        so_far = self.state.zeros[: place + 1] >= self.threshold
        right = self.state.right[: place + 1]
        self.say(
            f"Draw {number:,}: rows {', '.join(str(row + 1) for row in rows)} give q, and L q has "
            f"<b>{zeros} zeros</b> of {m}, {'at least' if kept else 'fewer than'} {self.threshold}: "
            f"<b>{'kept' if kept else 'rejected'}</b>{', and right' if right[-1] else ', and wrong' if kept else ''}. "
            f"Of draws {start + 1:,} to {number:,}, kept {int(so_far.sum())}, "
            f"right {int(right.sum())}. "
            + (f"Directions met so far: {met} of {b}." if met < b else f"All {b} directions are met.")
        )


def met_pictures(stage: Scene, first: list[int | None]) -> Image.Image:
    """The samples, pale until their direction was met."""
    pictures = sample_pictures(stage.batch, stage.batch.inputs)
    if pictures.dtype == np.uint8:
        pictures = pictures / 255
    shown = [0.8 + 0.2 * picture if at is None else picture for picture, at in zip(pictures, first)]
    labels = ["not met" if at is None else f"draw {at:,}" for at in first]
    frames = [None if at is None else drawing.colour(i) for i, at in enumerate(first)]
    return drawing.picture_grid(np.stack(shown), side=72, labels=labels, frames=frames)


class DrawPanels:
    """The entries of L q of one draw, above the zeros of all draws so far."""

    def __init__(self, m: int) -> None:
        """Make the axes for m units; all batches share them."""
        self._canvas = Canvas(drawing.WIDTH, 350)
        self._top = TALLEST * m
        labels = {"xlabel": f"unit 1 to {m}", "ylabel": "L q"}
        upper = self._canvas.axes(
            0.06, 0.62, 0.92, 0.31, xlim=(0, m + 1), ylim=(-1.25, 1.1), yticks=[0], **labels
        )
        upper.axhline(0, color=drawing.FAINT, linewidth=0.8)
        (self._nonzero,) = upper.plot([], [], "o", color=drawing.BLUE, markersize=4, label="not zero")
        (self._zero,) = upper.plot([], [], "D", color=drawing.ORANGE, markersize=5, label="zero")
        (self._own,) = upper.plot([], [], "^", color=drawing.INK, markersize=9, label="the b − 1 rows drawn")
        upper.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, borderpad=0
        )
        self._verdict = upper.text(0, 1.18, "", fontsize=12, fontweight="bold", va="bottom")
        labels = {"xlabel": "draw number", "ylabel": "zeros"}
        self._lower = lower = self._canvas.axes(0.06, 0.14, 0.92, 0.29, ylim=(0, self._top), **labels)
        (self._cut,) = lower.plot([], [], "--", color=drawing.INK, linewidth=1)
        (self._rejected,) = lower.plot([], [], "x", color=drawing.FAINT, markersize=5)
        (self._kept,) = lower.plot([], [], "o", color=drawing.ORANGE, markersize=6, fillstyle="none")
        (self._right,) = lower.plot([], [], "o", color=drawing.ORANGE, markersize=6)
        self._rejected.set_label("rejected")
        self._kept.set_label("kept, but wrong")
        self._right.set_label("kept, and right (only the client knows)")
        lower.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, borderpad=0
        )
        (self._here,) = lower.plot([], [], color=drawing.BLUE, linewidth=1.5)
        self._limit = lower.text(0, 0, "", ha="right", va="bottom", fontsize=9)
        self._start = -1
        self._canvas.moving(
            self._nonzero, self._zero, self._own, self._verdict, self._cut, self._rejected, self._kept,
            self._right, self._here, self._limit,
        )  # fmt: skip

    def image(self, found: Candidates, place: int, start: int, threshold: int) -> Image.Image:
        """Both panels for one draw.

        Args:
            found: a page of draws.
            place: of the draw on it, from 0.
            start: number of draws before this page.
            threshold: zeros that a candidate must have.
        """
        entries, zero = found.entries[place].numpy(), found.zero[place].numpy()
        units, rows = np.arange(1, len(entries) + 1), found.rows[place].numpy() + 1
        self._nonzero.set_data(units[~zero], entries[~zero] / np.abs(entries).max())
        self._zero.set_data(units[zero], np.zeros(zero.sum()))
        self._own.set_data(rows, np.full(len(rows), -1.1))
        number, end = start + place + 1, start + DRAWS + 1
        zeros, numbers = found.zeros[: place + 1].numpy(), np.arange(start + 1, number + 1)
        kept = zeros >= threshold
        if start != self._start:
            self._lower.set_xlim(start, end)
            self._canvas.redraw()
            self._start = start
        self._rejected.set_data(numbers[~kept], zeros[~kept])
        right = kept & found.right[: place + 1].numpy()
        self._kept.set_data(numbers[kept & ~right], zeros[kept & ~right])
        self._right.set_data(numbers[right], zeros[right])
        self._cut.set_data([start, end], [threshold, threshold])
        self._limit.set_text(f"kept from {threshold} zeros on")
        self._limit.set_position((end - 1, threshold))
        self._here.set_data([number, number], [0, self._top])
        self._verdict.set_text(f"draw {number:,}: {zeros[-1]} zeros, {'kept' if kept[-1] else 'rejected'}")
        return self._canvas.image()
