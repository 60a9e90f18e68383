"""b = 3: twenty searches that run down into the wells of the sphere."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from PIL import Image
from torch import Tensor

from spear_core.study.landscape import paths
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas, Pixels
from spear_widgets.kit.eye import view
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import ACTIVATIONS
from spear_widgets.two_shadows.grounds import (
    MAP,
    NEAR_DEGREES,
    Ground,
    counted,
    ghost_pictures,
    ground,
    nearest,
    seen_slider,
)
from spear_widgets.two_shadows.sphere import heat, sphere_picture

SPHERE_COUNTS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 80)
WALKERS = 20
SHORTEST_LINE = 2e-3  # of a path, in radii: what is shorter is not visible


@lru_cache(maxsize=32)
def descents(stage: Ground) -> Tensor:
    """Paths of the same twenty random starts, shape (len(SPHERE_COUNTS) + 1, 3, WALKERS)."""
    return paths(stage.landscape, random_starts(3, WALKERS), SPHERE_COUNTS)


def random_starts(batch_size: int, count: int, seed: int = 5) -> Tensor:
    """Random unit columns, shape (b, count)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(batch_size, count, generator=generator, dtype=torch.float64)
    return start / start.norm(dim=0)


def followed(stage: Ground, whole: Tensor) -> list[int]:
    """For each sample the walker to show: of those that end there, the one that starts farthest off.

    Where none ends there, a walker that ends elsewhere. Starts without an input have no ghost and come last.
    """
    ends, away = nearest(stage, whole[-1])
    ghostly = stage.landscape.shares(whole[0]) > 0
    worth = torch.rad2deg(torch.acos((stage.samples.T @ whole[0]).clamp(-1, 1))) + 360 * ghostly
    worth = torch.where(
        (ends[None] == torch.arange(len(stage.samples))[:, None]) & (away < NEAR_DEGREES), worth, -1
    )
    return [int(row.argmax()) if row.max() >= 0 else i for i, row in enumerate(worth)]


def between(paths_: Tensor, pieces: int = 3) -> Tensor:
    """Points on the arcs between the steps of each walker, shape (K, pieces · (steps − 1) + 1, 3)."""
    walkers = paths_.permute(2, 0, 1)
    share = torch.arange(pieces, dtype=walkers.dtype)[:, None] / pieces
    inner = walkers[:, :-1, None] * (1 - share) + walkers[:, 1:, None] * share
    points = torch.cat([inner.flatten(1, 2), walkers[:, -1:]], dim=1)
    return points / points.norm(dim=2, keepdim=True).clamp_min(1e-12)


class WellsExplorer(base.Explorer):
    """b = 3: the misfit as a heat map on the sphere, and twenty searches that run down into its wells.

    Attributes:
        stage: batch and landscape.
        points: where the twenty walkers stand, as columns, shape (3, 20).
        followed: for each sample the walker whose ghost is shown.
    """

    name = "wells"
    title = "b = 3: the misfit over the sphere of directions"
    description = (
        "A sphere coloured by misfit with three dark wells, one at each sample, and the paths of twenty "
        "random starts that run down into them; beside it, three ghosts above the three photographs."
    )

    def __init__(self) -> None:
        self._draw_frame()
        options = [*((str(k), i) for i, k in enumerate(SPHERE_COUNTS)), ("finish", len(SPHERE_COUNTS))]
        super().__init__(
            {
                "activation": controls.dropdown("activation", list(ACTIVATIONS)),
                "turn": controls.slider("turn", 0, -180, 180, step=2, track=14),
                "tilt": controls.slider("tilt", 0, -90, 90, step=2, track=14),
                "steps": controls.stops("steps of the search", options, len(SPHERE_COUNTS), track=14),
                "seen": seen_slider(3),
            },
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = Canvas(drawing.WIDTH, 520)
        figure = self._canvas.figure
        self._sphere = axes = self._canvas.blank(
            0.0, 0.0, 0.54, 1.0, aspect="equal", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06)
        )
        left, bottom = axes.transData.transform((-1, -1))
        self._across = round(axes.transData.transform((1, -1))[0] - left)
        self._ball = Pixels(round(left), round(bottom), zorder=1)
        figure.add_artist(self._ball)
        rim = Circle((0, 0), 1, fill=False, edgecolor="#555555", linewidth=1.4, zorder=2)
        axes.add_patch(rim)
        self._tracks = LineCollection([], colors="white", linewidths=1.1, zorder=3)
        axes.add_collection(self._tracks)
        (self._walkers,) = axes.plot(
            [], [], "o", color="white", markeredgecolor=drawing.INK, markersize=6, zorder=5
        )
        look: dict[str, Any] = {"color": "white", "markersize": 15, "markeredgewidth": 2.6}
        self._marks = [
            axes.plot([], [], drawing.marker(i), fillstyle="none", zorder=4, **look)[0] for i in range(3)
        ]
        bar = figure.add_axes((0.6, 0.11, 0.37, 0.035))
        bar.imshow(np.linspace(0, 1, 200)[None], cmap=MAP, aspect="auto", extent=(0, 1, 0, 1))
        bar.set(yticks=[], xticks=[0, 0.5, 1], xlabel="misfit: 0 fits both layers, 1 not at all")
        self._frames = []
        batch = ground(3).batch
        for i, photo in enumerate(sample_pictures(batch, batch.inputs)):
            left = 0.6 + 0.13 * i
            above = figure.add_axes((left, 0.64, 0.115, 0.212))
            above.set(xticks=[], yticks=[])
            self._frames.append(above)
            beneath = figure.add_axes((left, 0.315, 0.115, 0.212))
            beneath.imshow(photo, interpolation="nearest")
            beneath.set(xticks=[], yticks=[])
            beneath.set_xlabel(f"sample {i + 1}", fontsize=10)
            beneath.plot(
                [3.5], [3.5], drawing.marker(i), color="white", markersize=9, markeredgecolor=drawing.INK
            )
        figure.text(0.6, 0.545, "the private photographs", fontsize=10)
        self._canvas.moving(self._ball, rim, self._tracks, self._walkers, *self._marks)

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = ground(3, values["activation"], values["seen"])
        eye = view(values["turn"], values["tilt"]) @ self.stage.home
        whole = descents(self.stage)
        self.points = whole[values["steps"]]
        self.followed = followed(self.stage, whole)
        ball = Image.fromarray(sphere_picture(heat(self.stage), eye))
        self._ball.picture = ball.resize((self._across, self._across), Image.Resampling.BILINEAR)
        self._draw_paths(whole[: values["steps"] + 1], eye)
        self.show("picture", self._image())
        self.say(self._words())

    def _draw_paths(self, walked: Tensor, eye: Tensor) -> None:
        seen = between(walked) @ eye.T
        front = (seen[:, :-1, 2] > 0) & (seen[:, 1:, 2] > 0)
        front &= (seen[:, 1:] - seen[:, :-1]).norm(dim=2) > SHORTEST_LINE
        segments = torch.stack([seen[:, :-1, :2], seen[:, 1:, :2]], dim=2)[front]
        self._tracks.set_segments(list(segments.numpy()))
        now = (eye @ walked[-1]).numpy()
        self._walkers.set_data(now[0, now[2] > 0], now[1, now[2] > 0])
        for mark, (x, y, depth) in zip(self._marks, (eye @ self.stage.samples).T.tolist()):
            visible = depth > 0
            mark.set_data([x] if visible else [], [y] if visible else [])

    def _image(self) -> Image.Image:
        """The picture with the ghosts and what they are, and with the samples' names beside their marks."""
        picture = self._canvas.image()
        ghosts_ = ghost_pictures(self.stage, self.points[:, self.followed])
        for frame, ghost in zip(self._frames, ghosts_, strict=True):
            self._canvas.inset(picture, frame, ghost)
        for i, mark in enumerate(self._marks):
            for x, y in np.asarray(mark.get_xydata()):  # one point, or none where it is behind
                right = x < 0.4
                at = self._canvas.pixel(self._sphere, x + (0.09 if right else -0.09), y)
                name, anchor = f"sample {i + 1}", "lm" if right else "rm"
                drawing.write(picture, at, name, anchor=anchor, ink=drawing.PAPER, paper=f"{drawing.INK}99")
        step = self.control["steps"].index
        label = self.control["steps"].options[step][0]
        when = "after the finish" if label == "finish" else f"after {label} step{'' if label == '1' else 's'}"
        at = (0.6 * drawing.WIDTH, 0.13 * 520)
        drawing.write(picture, at, f"what three of the walkers stand for, {when}")
        return picture

    def _words(self) -> str:
        ground_ = self.stage.landscape
        if not ground_.equations:
            return (
                f"The server sees {len(ground_.units)} units of the next layer, and b = 3: "
                "<b>every direction fits</b>, the wells are gone, and no walker has anywhere to go."
            )
        sample, away = nearest(self.stage, self.points)
        counts = [int(((sample == i) & (away < NEAR_DEGREES)).sum()) for i in range(3)]
        there = ", ".join(f"{count} at sample {i + 1}" for i, count in enumerate(counts))
        return (
            f"{len(ground_.units)} units seen, {counted(ground_.equations)}: "
            f"<b>{sum(counts)} of {WALKERS}</b> walkers are within {NEAR_DEGREES:g}° of a sample ({there})."
        )
