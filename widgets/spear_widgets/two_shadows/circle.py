"""b = 2: the misfit over the circle of directions, and the search from any start."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from spear_core.study.landscape import paths
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
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

CIRCLE_COUNTS = (0, 1, 2, 4, 8, 16, 40)  # steps of the search whose ghosts are shown
FLOOR = 1e-8  # below what 32-bit gradients resolve


def at_degrees(degrees: Tensor | float) -> Tensor:
    """Unit columns at angles in degrees, shape (2, k)."""
    radians = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64)).reshape(-1)
    return torch.stack([radians.cos(), radians.sin()])


def on_circle(stage: Ground, degrees: Tensor | float) -> Tensor:
    """Points v at angles in degrees on the page, as unit columns, shape (2, k)."""
    return stage.home.T @ at_degrees(degrees)


def angles_of(stage: Ground, points: Tensor) -> Tensor:
    """Angles of points v on the page in degrees, 0 ≤ angle < 360."""
    across, up = stage.home @ points
    return torch.rad2deg(torch.atan2(up, across)) % 360


@lru_cache(maxsize=16)
def profile(stage: Ground) -> tuple[Tensor, Tensor]:
    """Angles around the circle, close together near the samples, and the misfit at each."""
    beside = torch.cat([torch.logspace(-7, 0, 22, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    beside = torch.cat([-beside, beside])
    exact = angles_of(stage, stage.samples)
    angles = torch.cat([torch.arange(0, 360, 1.0, dtype=torch.float64), (exact[:, None] + beside).flatten()])
    angles = (angles % 360).sort().values
    return angles, stage.landscape.misfit(on_circle(stage, angles))


@dataclass(frozen=True)
class Descent:
    """One search on the circle, from a start to its end.

    Attributes:
        points: where it stands after each of `CIRCLE_COUNTS` and after the finish, as columns, (2, k).
        misfit: there, shape (k,).
        sample: the sample nearest to the end.
        degrees: how far from it the end is.
    """

    points: Tensor
    misfit: Tensor
    sample: int
    degrees: float

    @property
    def arrived(self) -> bool:
        """Whether the end is a sample."""
        return self.degrees < NEAR_DEGREES


@lru_cache(maxsize=1024)
def descend(stage: Ground, degrees: float) -> Descent:
    """Run the search from one start."""
    points = paths(stage.landscape, on_circle(stage, degrees), CIRCLE_COUNTS)[:, :, 0].T
    sample, away = nearest(stage, points[:, -1:])
    return Descent(points, stage.landscape.misfit(points), int(sample), float(away))


class CircleExplorer(base.Explorer):
    """b = 2: the misfit on the circle of directions, and the search from wherever the reader puts it.

    Attributes:
        stage: batch and landscape.
        state: the present search.
    """

    name = "circle"
    title = "b = 2: the misfit over the circle of directions"
    description = (
        "Left, the circle of directions coloured by misfit; right, the misfit against the angle: a curve "
        "with two sharp wells, each at a sample. The search's steps run down into one of them, and below "
        "them a mixed ghost picture turns into a photograph."
    )

    def __init__(self) -> None:
        self._draw_frame()
        super().__init__(
            {
                "activation": controls.dropdown("activation", list(ACTIVATIONS)),
                "start": controls.slider("start of the search, degrees", 174, 0, 359, track=20),
                "seen": seen_slider(2),
            },
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = Canvas(drawing.WIDTH, 500)
        figure = self._canvas.figure
        ring = self._canvas.blank(
            0.0, 0.36, 0.29, 0.62, aspect="equal", xlim=(-1.32, 1.32), ylim=(-1.32, 1.32)
        )
        around = at_degrees(torch.arange(0, 361, 2.0, dtype=torch.float64))
        ends = around.T.numpy()
        self._around = around[:, :-1]
        self._ring = LineCollection(list(np.stack([ends[:-1], ends[1:]], axis=1)), linewidths=11)
        ring.add_collection(self._ring)
        self._curve = curve = self._canvas.axes(
            0.37, 0.46, 0.605, 0.5, xlim=(0, 360), ylim=(FLOOR / 2, 8), yscale="log", xticks=range(0, 361, 60),
            xlabel="angle of the direction in degrees", ylabel="misfit",
        )  # fmt: skip
        curve.axhspan(FLOOR / 2, 2e-6, color="#eeeeee", zorder=0)
        curve.text(357, 1.2e-8, "rounding of 32-bit numbers", ha="right", color="#555555", fontsize=9)
        (self._line,) = curve.plot([], [], color=drawing.INK, linewidth=1.3)
        (self._floor,) = curve.plot([], [], color=drawing.INK, linewidth=3)
        look: dict[str, Any] = {
            "markersize": 12,
            "markeredgecolor": "white",
            "markeredgewidth": 1.5,
            "zorder": 6,
        }
        self._marks = [
            axes.plot([], [], drawing.marker(i), color=drawing.colour(i), **look)[0]
            for i in range(2)
            for axes in (ring, curve)
        ]
        path: dict[str, Any] = {"color": drawing.PURPLE, "zorder": 7}
        (self._needle,) = ring.plot([], [], linewidth=2, **path)
        (self._steps,) = ring.plot([], [], "o-", linewidth=1, markersize=5, **path)
        (self._dots,) = curve.plot([], [], "o", markersize=6, **path)
        (self._start,) = curve.plot([], [], "o", markersize=13, fillstyle="none", **path)
        labels = ["start", *(f"{k} step{'' if k == 1 else 's'}" for k in CIRCLE_COUNTS[1:]), "finish"]
        self._frames = []
        for i, label in enumerate(labels):
            frame = figure.add_axes((0.012 + i / len(labels) * 0.985, 0.03, 0.108, 0.207))
            frame.set(xticks=[], yticks=[])
            frame.set_title(label, fontsize=10, pad=3)
            self._frames.append(frame)
        figure.text(0.145, 0.355, "dark: fits; light: misfit", ha="center", fontsize=9)
        figure.text(0.012, 0.295, "what the direction stands for, on the way of the search (grey: no input)")
        self._canvas.moving(
            self._ring, self._line, self._floor, *self._marks, self._needle, self._steps, self._dots,
            self._start,
        )  # fmt: skip

    def update(self) -> None:
        """Run the search from the present start."""
        values = self.values
        self.stage = ground(2, values["activation"], values["seen"])
        self.state = descend(self.stage, float(values["start"]))
        names = self._draw_ground()
        misfit = self.state.misfit.clamp_min(FLOOR).numpy()
        points = (self.stage.home @ self.state.points).numpy()
        angles = angles_of(self.stage, self.state.points).numpy()
        self._needle.set_data([0, points[0, 0]], [0, points[1, 0]])
        self._steps.set_data(points[0], points[1])
        self._dots.set_data(angles, misfit)
        self._start.set_data([angles[0]], [misfit[0]])
        picture = self._canvas.image()
        for i, angle in enumerate(names):
            right = angle < 300
            at = self._canvas.pixel(self._curve, angle + (8 if right else -8), 3)
            drawing.write(picture, at, f"sample {i + 1}", 13, anchor="lm" if right else "rm")
        ghosts_ = ghost_pictures(self.stage, self.state.points)
        for frame, ghost in zip(self._frames, ghosts_, strict=True):
            self._canvas.inset(picture, frame, ghost)
        self.show("picture", picture)
        self.say(self._words(values["start"]))

    def _draw_ground(self) -> list[float]:
        """Draw what belongs to the batch; returns the samples' angles."""
        angles, misfit = profile(self.stage)
        self._line.set_data(angles, misfit.clamp_min(FLOOR))
        flat = not self.stage.landscape.equations
        self._floor.set_data([0, 360] if flat else [], [FLOOR, FLOOR] if flat else [])
        self._ring.set_color(MAP(self.stage.landscape.misfit(self.stage.home.T @ self._around).numpy()))
        exact = angles_of(self.stage, self.stage.samples).tolist()
        on_page = (self.stage.home @ self.stage.samples).T.tolist()
        for i, (angle, v) in enumerate(zip(exact, on_page, strict=True)):
            self._marks[2 * i].set_data([1.18 * v[0]], [1.18 * v[1]])
            self._marks[2 * i + 1].set_data([angle], [3])
        return exact

    def _words(self, start: int) -> str:
        ground_ = self.stage.landscape
        if not ground_.equations:
            return (
                f"The server sees {len(ground_.units)} units of the next layer, and b = 2: "
                "<b>every direction fits</b>. There is nothing to walk to, and the search stays where it is."
            )
        side = "" if float(ground_.shares(self.state.points[:, :1])) > 0 else ", where no input lies,"
        here = f"{counted(ground_.equations)}. From {start}°{side} the search"
        if self.state.arrived:
            return f"{here} ends <b>at sample {self.state.sample + 1}</b>."
        return f"{here} ends <b>at no sample</b>."
