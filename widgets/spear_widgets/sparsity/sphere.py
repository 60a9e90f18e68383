"""b = 3: each row of L is a great circle, and a sample is where many of them cross."""

from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from PIL import Image
from torch import Tensor

from spear_core.spear.sampling import live_rows
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.eye import view
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import scene
from spear_widgets.sparsity.directions import Look, look

SPHERE_UNITS = 80
CIRCLE_POINTS = 91  # odd, so that every second one closes the circle, too


def facing(direction: Tensor) -> tuple[float, float]:
    """Turn and tilt, in degrees, that bring a direction to the middle of the view."""
    x, y, z = (direction / direction.norm()).tolist()
    return float(np.rad2deg(np.arctan2(y, x))), float(np.rad2deg(np.arcsin(np.clip(z, -1, 1))))


def great_circles(rows: Tensor) -> Tensor:
    """Points of the great circles {q : l · q = 0}, one for each row l, shape (k, CIRCLE_POINTS, 3)."""
    normals = rows / rows.norm(dim=1, keepdim=True)
    # any vector that is not parallel to the normal starts a basis of the circle's plane
    helper = torch.eye(3, dtype=rows.dtype)[normals.abs().argmin(dim=1)]
    first = torch.linalg.cross(normals, helper)
    first = first / first.norm(dim=1, keepdim=True)
    second = torch.linalg.cross(normals, first)
    phase = torch.linspace(0, 2 * np.pi, CIRCLE_POINTS, dtype=rows.dtype)
    return first[:, None] * phase.cos()[:, None] + second[:, None] * phase.sin()[:, None]


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


class SphereExplorer(base.Explorer):
    """Each row of L a great circle on the sphere of directions; where many of them cross is a sample.

    The point in the middle of the view is q: turning the sphere is choosing q.

    Attributes:
        stage: client and server of the batch of three.
        rows: positions of the rows of L that are drawn.
        state: what the q in the middle does, on all live rows.
    """

    name = "sphere"
    title = "b = 3: every row of L is a great circle, and a sample is where many of them cross"
    description = (
        "A sphere covered with great circles, one for each row of L; three points where dozens of circles "
        "cross are marked as the three samples, and everywhere else far fewer meet."
    )

    def __init__(self) -> None:
        self.stage = scene("photos", 3, SPHERE_UNITS)
        live = live_rows(self.stage.low_rank.factor)
        self._circles = great_circles(self.stage.low_rank.factor[live])
        self._through = self.stage.zero(self.stage.true_directions)[live]
        self._live = live
        first = facing(self.stage.true_directions.sum(dim=1))
        self._exact: tuple[float, float] | None = None
        self._draw_frame()
        self.buttons = [self.button(f"Sample {i + 1} to the middle", partial(self.face, i)) for i in range(3)]
        super().__init__(
            {
                "turn": controls.slider("turn", round(first[0]) + 10, -180, 180, step=2, track=16),
                "tilt": controls.slider("tilt", round(first[1]) - 8, -90, 90, step=2, track=16),
                "circles": controls.slider("circles (rows of L)", len(live), 2, len(live), track=16),
                "marked": controls.checkbox("mark the samples", True),
            },
            buttons=self.buttons,
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = Canvas(drawing.WIDTH, 540)
        figure = self._canvas.figure
        self._sphere = axes = self._canvas.blank(
            0.0, 0.0, 0.56, 1.0, aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1)
        )
        across = np.linspace(-1, 1, 160)
        height = np.clip(1 - across[None] ** 2 - across[:, None] ** 2, 0, None) ** 0.5
        light = np.clip(0.55 * height - 0.25 * across[None] + 0.3 * across[:, None], 0, 1)[..., None]
        ball = np.array([0.80, 0.86, 0.93]) + light * np.array([0.2, 0.14, 0.07])
        disc = axes.imshow(
            np.clip(ball, 0, 1), extent=(-1, 1, -1, 1), origin="lower", interpolation="bilinear"
        )
        rim = Circle((0, 0), 1, fill=False, edgecolor="#555555", linewidth=1.4, zorder=8)
        axes.add_patch(rim)
        disc.set_clip_path(rim)
        self._back = LineCollection([], colors="#8795a5", linewidths=0.5, alpha=0.3, zorder=2)
        self._front = LineCollection([], linewidths=0.9, zorder=3)
        axes.add_collection(self._back)
        axes.add_collection(self._front)
        outline: dict[str, Any] = {
            "markersize": 13,
            "markeredgecolor": "white",
            "markeredgewidth": 2,
            "zorder": 6,
        }
        self._marks = [
            axes.plot([], [], drawing.marker(i), color=drawing.colour(i), **outline)[0] for i in range(3)
        ]
        (self._aim,) = axes.plot(
            [0], [0], "+", color=drawing.INK, markersize=26, markeredgewidth=1.6, zorder=9
        )
        axes.text(-1.08, 1.05, "the cross in the middle is q", fontsize=10, va="top")
        rows = self.stage.low_rank.factor[self._live]
        self._entries = Entries(self._canvas.axes(0.63, 0.34, 0.35, 0.5), rows)
        photos = sample_pictures(self.stage.batch, self.stage.batch.inputs)
        for i, photo in enumerate(photos):
            thumb = figure.add_axes((0.64 + 0.115 * i, 0.04, 0.1, 0.18))
            thumb.imshow(photo, interpolation="nearest")
            thumb.set(xticks=[], yticks=[], xlabel=f"sample {i + 1}")
            thumb.plot(
                [3], [3], drawing.marker(i), color=drawing.colour(i), markersize=9, markeredgecolor="white"
            )
            for spine in thumb.spines.values():
                spine.set(color=drawing.colour(i), linewidth=3)
        self._canvas.moving(self._back, self._front, *self._marks, self._aim, rim, *self._entries.artists)

    def face(self, sample: int) -> None:
        """Bring a sample's direction exactly to the middle, between the sliders' whole degrees."""
        self._exact = facing(self.stage.true_directions[:, sample])
        try:
            with self.quietly():
                self.control["turn"].value = round(self._exact[0])
                self.control["tilt"].value = round(self._exact[1])
            self.refresh()
        finally:
            self._exact = None

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        eye = view(*(self._exact or (values["turn"], values["tilt"])))
        self.state = look(self.stage, eye[2])
        self._draw_circles(eye, values["circles"], values["marked"])
        places = self._draw_marks(eye, values["marked"])
        self._entries.put(self.state)
        self.show("picture", self._written(places))
        verdict = (
            "no sample" if self.state.sample is None else f"<b>exactly sample {self.state.sample + 1}</b>"
        )
        near = int((self.state.entries.abs() <= np.sin(np.deg2rad(3)) * self._row_norms).sum())
        self.say(
            f"In the middle: {verdict}. Of {len(self._live)} great circles, <b>{self.state.zeros}</b> pass "
            f"exactly through q and {near} within 3°; {values['circles']} are drawn."
        )

    @property
    def _row_norms(self) -> Tensor:
        return self.stage.low_rank.factor[self._live].norm(dim=1)

    def _draw_circles(self, eye: Tensor, count: int, marked: bool) -> None:
        seen = (self._circles[:count] @ eye.T).numpy()
        flat, depth = seen[..., :2], seen[..., 2:]
        # a circle is half in front: cut it where it goes behind, by blanking the points there
        self._front.set_segments(list(np.where(depth >= 0, flat, np.nan)))
        self._back.set_segments(list(np.where(depth <= 0, flat, np.nan)[:, ::2]))  # faint: half the points do
        through = self._through[:count].numpy()
        colours = ["#5b6b7b"] * count
        widths = [0.7] * count
        if marked:
            for row in range(count):
                samples = through[row].nonzero()[0]
                if len(samples) == 1:
                    colours[row], widths[row] = drawing.colour(int(samples[0])), 1.1
                elif len(samples) == 2:
                    colours[row], widths[row] = drawing.INK, 1.6
        self._front.set(color=colours, linewidth=widths, alpha=0.8 if marked else 0.55)

    def _draw_marks(self, eye: Tensor, marked: bool) -> list[tuple[float, float]]:
        """Put the samples' marks in place; returns where, none if they are not to be seen."""
        places = []
        for mark, q in zip(self._marks, self.stage.true_directions.T):
            x, y, depth = (eye @ q).tolist()
            if depth < 0:  # −q is the same direction, and it is in front
                x, y = -x, -y
            mark.set_data([x], [y])
            mark.set_visible(marked)
            places.append((x, y))
        return places if marked else []

    def _written(self, places: list[tuple[float, float]]) -> Image.Image:
        """The picture with the number of zeros, and with the samples' names beside their marks."""
        picture = self._canvas.image()
        for i, (x, y) in enumerate(places):
            at = self._canvas.pixel(self._sphere, x + 0.06, y + 0.05)
            drawing.write(picture, at, f"sample {i + 1}", 15, bold=True, paper="#ffffffd8")
        top = self._canvas.pixel(self._entries.axes, len(self._live) / 2, self._entries.axes.get_ylim()[1])
        drawing.write(picture, top, f"{self.state.zeros} zeros", 17, bold=True, anchor="md")
        return picture
