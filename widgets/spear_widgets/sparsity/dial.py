"""b = 2: directions are angles, and at exactly two of them many entries of L q vanish."""

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from torch import Tensor

from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.sampling import live_rows
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene
from spear_widgets.sparsity.directions import Entries, look

DIAL_UNITS = 60


def angle_of(direction: Tensor) -> float:
    """Angle of a direction in the plane in degrees, 0 ≤ angle < 180: q and −q are the same."""
    return float(torch.rad2deg(torch.atan2(direction[1], direction[0]))) % 180


def at_angle(degrees: float) -> Tensor:
    """The unit direction at an angle in degrees."""
    return torch.tensor([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], dtype=torch.float64)


def dial_angles(stage: Scene) -> list[float]:
    """Whole degrees, and between them the two exact angles, ascending."""
    exact = [angle_of(q) for q in stage.true_directions.T]
    return sorted([*(float(degrees) for degrees in range(180)), *exact])


def zero_counts(stage: Scene, angles: list[float]) -> Tensor:
    """Zeros of L q among the live rows at each angle, shape (len(angles),)."""
    directions = torch.stack([at_angle(degrees) for degrees in angles], dim=1)
    return stage.zero(directions)[live_rows(stage.low_rank.factor)].sum(dim=0)


def dial_ghost(stage: Scene, direction: Tensor) -> Tensor:
    """The input that q implies for the *other* sample, shape (1, n).

    Rows of Q⁻¹ are orthogonal to the other columns of Q, so for b = 2 one column gives the other sample.
    """
    across = torch.stack([-direction[1], direction[0]])
    return reconstruct(stage.forward, torch.stack([direction, across], dim=1)).inputs[1:]


class DialExplorer(base.Explorer):
    """Turn q for a batch of two: at exactly two angles many entries of L q are zero at once.

    Attributes:
        stage: client and server of the present batch.
        angles: the dial's positions in degrees.
        counts: zeros at each of them.
        state: what the present q does.
    """

    name = "dial"
    title = "b = 2: turn the direction q"
    description = (
        "Left, the plane with a line for each row of L and the needle q; right, the entries of L q; below, "
        "the number of zeros against the angle: almost none anywhere but at two spikes, one a sample."
    )

    def __init__(self) -> None:
        self._drawn_for: Scene | None = None
        self._prepare("photos")
        options = {
            "data": controls.dropdown("data", DATA[:2]),
            "position": controls.slider("turn q", 20, 0, len(self.angles) - 1, track=26),
        }
        options["position"].readout = False
        super().__init__(options, buttons=(self.button("Jump to the next spike", self.jump),))
        self.refresh()

    def _prepare(self, data: str) -> None:
        self.stage = scene(data, 2, DIAL_UNITS)
        self.angles = dial_angles(self.stage)
        self.counts = zero_counts(self.stage, self.angles)

    def _draw_background(self) -> None:
        """What does not move while the dial is turned: once for each batch."""
        self._canvas = Canvas(drawing.WIDTH, 430)
        plane = self._canvas.blank(
            0.01, 0.34, 0.3, 0.64, aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.62, 1.15)
        )
        curve = self._canvas.axes(0.075, 0.12, 0.715, 0.17, xlabel="angle of q in degrees", ylabel="zeros")
        photo = self._canvas.blank(0.82, 0.5, 0.17, 0.38)
        plane.add_patch(Circle((0, 0), 1, fill=False, color=drawing.FAINT))
        low_rank = self.stage.low_rank
        rows = low_rank.factor[live_rows(low_rank.factor)]
        across = torch.stack([-rows[:, 1], rows[:, 0]], dim=1)
        across = (across / across.norm(dim=1, keepdim=True)).numpy()
        segments = np.stack([-across, across], axis=1)
        plane.add_collection(LineCollection(list(segments), colors="#777777", linewidths=0.9, alpha=0.35))
        plane.text(
            0,
            -1.6,
            "a line for each row of L:\nq on it makes that entry zero",
            ha="center",
            va="bottom",
            fontsize=9,
        )
        self._entries = Entries(self._canvas.axes(0.37, 0.42, 0.42, 0.53), rows)
        curve.plot(self.angles, self.counts.numpy(), color=drawing.BLUE, linewidth=1.5)
        for i, q in enumerate(self.stage.true_directions.T):
            at = angle_of(q)
            top = float(self.counts[self.angles.index(at)])
            curve.plot([at], [top], drawing.marker(i), color=drawing.colour(i), markersize=8)
            curve.annotate(f"q of sample {i + 1}", (at, top), (8, -3), textcoords="offset points", fontsize=9)
        curve.set(xlim=(0, 180), ylim=(0, 1.2 * float(self.counts.max())), xticks=range(0, 181, 30))
        (self._needle,) = plane.plot([], [], color=drawing.ORANGE, linewidth=3, marker="o", markevery=[1])
        bars = self._entries.axes
        self._count = bars.text(
            len(rows) / 2, bars.get_ylim()[1], "", ha="center", va="bottom", fontsize=12, fontweight="bold"
        )
        (self._here,) = curve.plot([], [], color=drawing.ORANGE, linewidth=2)
        self._ghost = photo.imshow(
            np.zeros((2, 2, 3)), extent=(0, 1, 0, 1), interpolation="nearest", aspect="auto"
        )
        photo.set_title("what q makes of\nthe other sample", fontsize=9)
        self._canvas.moving(self._needle, *self._entries.artists, self._count, self._here, self._ghost)
        self._drawn_for = self.stage

    def jump(self) -> None:
        """Turn to the next exact angle, round and round."""
        exact = [self.angles.index(angle_of(q)) for q in self.stage.true_directions.T]
        now = self.control["position"].value
        self.set(position=min(exact, key=lambda position: (position - now - 1) % len(self.angles)))

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self._prepare(values["data"])
        if self._drawn_for is not self.stage:
            self._draw_background()
        angle = self.angles[values["position"]]
        self.state = look(self.stage, at_angle(angle))
        q = self.state.direction.numpy()
        self._needle.set_data([-1.1 * q[0], 1.1 * q[0]], [-1.1 * q[1], 1.1 * q[1]])
        self._entries.put(self.state)
        self._count.set_text(f"{self.state.zeros} zeros")
        self._here.set_data([angle, angle], [0, 1.2 * float(self.counts.max())])
        self._ghost.set_data(
            sample_pictures(self.stage.batch, dial_ghost(self.stage, self.state.direction))[0]
        )
        self.show("picture", self._canvas.jpeg())
        where = f"{angle:.0f}°" if self.state.sample is None else f"{angle:.4f}°"
        verdict = (
            "q is no sample's direction"
            if self.state.sample is None
            else f"<b>q is the direction of sample {self.state.sample + 1}</b>, "
            f"and the picture is sample {2 - self.state.sample}"
        )
        self.say(
            f"q at {where}: <b>{self.state.zeros}</b> of {len(self.state.entries)} entries of L q are zero; {verdict}."
        )
