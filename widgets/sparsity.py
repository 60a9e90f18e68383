"""Explorers of step 3: where ReLU leaves zeros, and how the zeros of L q betray the right direction q."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from ipywidgets import Checkbox
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from PIL import Image, ImageDraw
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.sampling import live_rows
from spear_core.spear.sparsity import zero_tolerance
from widgets import base, drawing
from widgets.low_rank import sample_pictures
from widgets.scene import DATA, Scene, of_batch, scene

DIAL_UNITS, SPHERE_UNITS = 60, 80
NEAR_DUPLICATE = 0.02  # noise on the copy of a sample, in standard deviations of the data
CIRCLE_POINTS = 91  # odd, so that every second one closes the circle, too


# ---------------------------------------------------------------- activation patterns
@dataclass(frozen=True)
class Patterns:
    """Which unit is silent for which sample.

    Attributes:
        silent: Z ≤ 0, shape (b, m).
        zero: ∂L/∂Z = 0, shape (b, m).
    """

    silent: Tensor
    zero: Tensor

    @property
    def zero_share(self) -> Tensor:
        """Share of zeros in each sample's ∂L/∂z, shape (b,)."""
        return self.zero.to(torch.float64).mean(dim=1)

    @property
    def silent_for_all(self) -> int:
        """Units that no sample activates."""
        return int(self.silent.all(dim=0).sum())

    @property
    def most_alike(self) -> tuple[int, int, int]:
        """The two samples whose patterns differ least, and in how many units."""
        differ = (self.silent[:, None] != self.silent).sum(dim=2)
        differ.fill_diagonal_(self.silent.shape[1] + 1)  # no sample is compared with itself
        i, j = divmod(int(differ.argmin()), len(differ))
        return i, j, int(differ[i, j])


def patterns(stage: Scene) -> Patterns:
    """Both patterns of a scene."""
    return Patterns(stage.preactivations <= 0, stage.output_grads == 0)


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
        state: the present patterns.
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
                "data": base.dropdown("data", DATA),
                "batch_size": base.int_slider("batch size b", 4, 2, 24),
                "width": base.int_slider("width m", 120, 40, 200, step=20),
                "seed": base.int_slider("seed of data and weights", 3, 0, 9),
                "duplicate": Checkbox(
                    False, description="sample 2 is nearly sample 1", indent=False, layout={"width": "auto"}
                ),
            },
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"], values["width"], values["seed"])
        if values["duplicate"]:
            self.stage = with_near_duplicate(self.stage, values["width"])
        self.state = patterns(self.stage)
        self.show("picture", drawing.encode(pattern_picture(self.stage, self.state), "jpeg"))
        share = self.state.zero_share
        i, j, units = self.state.most_alike
        same = "exactly" if torch.equal(self.state.silent, self.state.zero) else "not always"
        apart = f"{units} unit{'' if units == 1 else 's'}"
        self.say(
            f"∂L/∂Z is zero {same} where Z ≤ 0. Zeros by sample: {100 * float(share.min()):.0f} to "
            f"{100 * float(share.max()):.0f} %. Silent for all samples: {self.state.silent_for_all} of "
            f"{values['width']} units. Most alike: samples {i + 1} and {j + 1}, which differ in {apart}."
        )


def pattern_picture(stage: Scene, state: Patterns) -> Image.Image:
    """Thumbnails, patterns as cells, and the share of zeros as bars with a mark at one half."""
    b, m = state.zero.shape
    height = 44 if b <= 8 else 22
    cell, left, bars = 760 // m, height + 14, 130
    right = left + cell * m + 12
    sheet = Image.new("RGB", (right + bars + 44, b * height + 26), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    small = drawing.font(12)
    draw.text((left, 4), f"unit 1 to {m}: dark = active, white = zero gradient", fill=drawing.INK, font=small)
    draw.text((right, 4), "zeros; line: 50 %", fill=drawing.INK, font=small)
    shares = state.zero_share.tolist()
    cells = np.where(state.zero.numpy()[..., None], 255, np.array([0, 70, 120])).astype(np.uint8)
    for i, picture in enumerate(sample_pictures(stage.batch, stage.batch.inputs)):
        top = 22 + i * height
        pixels = np.asarray(255 * picture if picture.dtype != np.uint8 else picture, dtype=np.uint8)
        side = height - 4
        sheet.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (4, top))
        line = Image.fromarray(cells[i : i + 1]).resize((cell * m, side), Image.Resampling.NEAREST)
        sheet.paste(line, (left, top))
        draw.rectangle((left - 1, top - 1, left + cell * m, top + side), outline=drawing.FAINT)
        draw.rectangle((right, top + 3, right + shares[i] * bars, top + side - 3), fill=drawing.BLUE)
        draw.text(
            (right + bars + 6, top + side / 2),
            f"{100 * shares[i]:.0f} %",
            fill=drawing.INK,
            font=small,
            anchor="lm",
        )
    half = right + bars / 2
    draw.line((half, 20, half, 20 + b * height), fill=drawing.ORANGE, width=3)
    return sheet


# ---------------------------------------------------------------- one direction
@dataclass(frozen=True)
class Look:
    """One direction q, and what it does to the live rows of L.

    Attributes:
        direction: q, unit, shape (b,).
        entries: L q on the live rows, shape (k,).
        zero: which of them are zero, to rounding, shape (k,).
        sample: which sample's true direction this is, or None.
    """

    direction: Tensor
    entries: Tensor
    zero: Tensor
    sample: int | None

    @property
    def zeros(self) -> int:
        """How many entries are zero."""
        return int(self.zero.sum())


def look(stage: Scene, direction: Tensor) -> Look:
    """Entries and zeros of L q on the rows that some sample activates.

    Args:
        stage: a scene.
        direction: q, any length but zero, shape (b,).

    Raises:
        ValueError: if q has another shape or is zero.
    """
    b = stage.low_rank.batch_size
    norm = float(direction.norm())
    if direction.shape != (b,) or not 0 < norm < float("inf"):
        raise ValueError(f"direction must be a vector of {b} numbers, not all zero, got {direction.tolist()}")
    q = (direction / norm)[:, None]
    rows = live_rows(stage.low_rank.factor)
    entries = stage.low_rank.factor[rows] @ q
    zero = entries.abs() <= zero_tolerance(stage.low_rank, q)[rows]
    alike = (true_directions(stage).T @ q).abs().flatten()
    best = int(alike.argmax())
    return Look(q[:, 0], entries[:, 0], zero[:, 0], best if float(alike[best]) > 1 - 1e-9 else None)


def true_directions(stage: Scene) -> Tensor:
    """The q_i as unit columns, each in the half-space of positive last coordinate, shape (b, b)."""
    Q = stage.true_q / stage.true_q.norm(dim=0)
    return Q * torch.where(Q[-1] < 0, -1.0, 1.0)


# ---------------------------------------------------------------- b = 2: the dial
def angle_of(direction: Tensor) -> float:
    """Angle of a direction in the plane in degrees, 0 ≤ angle < 180: q and −q are the same."""
    return float(torch.rad2deg(torch.atan2(direction[1], direction[0]))) % 180


def at_angle(degrees: float) -> Tensor:
    """The unit direction at an angle in degrees."""
    return torch.tensor([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], dtype=torch.float64)


def dial_angles(stage: Scene) -> list[float]:
    """Whole degrees, and between them the two exact angles, ascending."""
    exact = [angle_of(q) for q in true_directions(stage).T]
    return sorted([*(float(degrees) for degrees in range(180)), *exact])


def zero_counts(low_rank: LowRank, angles: list[float]) -> Tensor:
    """Zeros of L q among the live rows at each angle, shape (len(angles),)."""
    directions = torch.stack([at_angle(degrees) for degrees in angles], dim=1)
    rows = live_rows(low_rank.factor)
    small = (low_rank.factor[rows] @ directions).abs() <= zero_tolerance(low_rank, directions)[rows]
    return small.sum(dim=0)


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
        self._prepare("photos")
        options = {
            "data": base.dropdown("data", DATA[:2]),
            "position": base.int_slider("turn q", 20, 0, len(self.angles) - 1, track=26),
        }
        options["position"].readout = False
        self._draw_frame()
        super().__init__(options, buttons=(self.button("Jump to the next spike", self.jump),))
        self.refresh()

    def _prepare(self, data: str) -> None:
        self.stage = scene(data, 2, DIAL_UNITS)
        self.angles = dial_angles(self.stage)
        self.counts = zero_counts(self.stage.low_rank, self.angles)

    def _draw_frame(self) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, 430)
        figure = self._canvas.figure
        self._plane = figure.add_axes((0.01, 0.34, 0.3, 0.64), aspect="equal")
        self._plane.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
        self._plane.axis("off")
        self._bars = figure.add_axes((0.37, 0.42, 0.42, 0.53))
        self._curve = figure.add_axes((0.075, 0.12, 0.715, 0.17))
        self._photo = figure.add_axes((0.82, 0.5, 0.17, 0.38))
        self._photo.axis("off")
        self._drawn_for: Scene | None = None

    def _draw_background(self) -> None:
        """What does not move while the dial is turned: once for each batch."""
        low_rank = self.stage.low_rank
        for axes in (self._plane, self._bars, self._curve, self._photo):
            axes.clear()
        self._plane.set(xlim=(-1.2, 1.2), ylim=(-1.62, 1.15))
        self._plane.axis("off")
        self._plane.add_patch(Circle((0, 0), 1, fill=False, color=drawing.FAINT))
        rows = low_rank.factor[live_rows(low_rank.factor)]
        across = torch.stack([-rows[:, 1], rows[:, 0]], dim=1)
        across = (across / across.norm(dim=1, keepdim=True)).numpy()
        segments = np.stack([-across, across], axis=1)
        self._plane.add_collection(
            LineCollection(list(segments), colors="#777777", linewidths=0.9, alpha=0.35)
        )
        self._plane.text(
            0,
            -1.6,
            "a line for each row of L:\nq on it makes that entry zero",
            ha="center",
            va="bottom",
            fontsize=9,
        )
        k = len(rows)
        limit = 1.05 * float(rows.norm(dim=1).max())
        self._bars.set(xlim=(-1, k), ylim=(-limit, limit), yticks=[0], xticks=[])
        self._bars.set_xlabel(f"entries of L q, {k} units that are not always silent")
        self._bars.axhline(0, color=drawing.FAINT, linewidth=0.8)
        self._bars.spines[["top", "right", "bottom"]].set_visible(False)
        self._curve.plot(self.angles, self.counts.numpy(), color=drawing.BLUE, linewidth=1.5)
        for i, q in enumerate(true_directions(self.stage).T):
            at = angle_of(q)
            top = float(self.counts[self.angles.index(at)])
            self._curve.plot([at], [top], drawing.marker(i), color=drawing.colour(i), markersize=8)
            self._curve.annotate(
                f"q of sample {i + 1}", (at, top), (8, -3), textcoords="offset points", fontsize=9
            )
        self._curve.set(xlim=(0, 180), ylim=(0, 1.2 * float(self.counts.max())), xticks=range(0, 181, 30))
        self._curve.set(xlabel="angle of q in degrees", ylabel="zeros")
        self._curve.spines[["top", "right"]].set_visible(False)
        (self._needle,) = self._plane.plot(
            [], [], color=drawing.ORANGE, linewidth=3, marker="o", markevery=[1]
        )
        (self._nonzero,) = self._bars.plot([], [], "o", color=drawing.BLUE, markersize=4)
        (self._zero,) = self._bars.plot([], [], "D", color=drawing.ORANGE, markersize=6)
        self._count = self._bars.text(
            k / 2, limit, "", ha="center", va="bottom", fontsize=12, fontweight="bold"
        )
        (self._here,) = self._curve.plot([], [], color=drawing.ORANGE, linewidth=2)
        self._photo.set(xlim=(0, 1), ylim=(0, 1))
        self._photo.axis("off")
        self._ghost = self._photo.imshow(
            np.zeros((2, 2, 3)), extent=(0, 1, 0, 1), interpolation="nearest", aspect="auto"
        )
        self._photo.set_title("what q makes of\nthe other sample", fontsize=9)
        self._canvas.forget()
        self._canvas.moving(self._needle, self._nonzero, self._zero, self._count, self._here, self._ghost)
        self._drawn_for = self.stage

    def jump(self) -> None:
        """Turn to the next exact angle, round and round."""
        exact = [self.angles.index(angle_of(q)) for q in true_directions(self.stage).T]
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
        q, entries, zero = self.state.direction.numpy(), self.state.entries.numpy(), self.state.zero.numpy()
        numbers = np.arange(len(entries))
        self._needle.set_data([-1.1 * q[0], 1.1 * q[0]], [-1.1 * q[1], 1.1 * q[1]])
        self._nonzero.set_data(numbers[~zero], entries[~zero])
        self._zero.set_data(numbers[zero], np.zeros(zero.sum()))
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
            f"q at {where}: <b>{self.state.zeros}</b> of {len(entries)} entries of L q are zero; {verdict}."
        )


# ---------------------------------------------------------------- b = 3: the sphere
def view(turn: float, tilt: float) -> Tensor:
    """Axes of an eye that looks at the sphere: right, up and towards the eye, as rows, shape (3, 3).

    Args:
        turn: degrees around the vertical axis.
        tilt: degrees above the equator, −90 to 90.
    """
    a, t = np.deg2rad(turn), np.deg2rad(tilt)
    towards = [np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)]
    right = [-np.sin(a), np.cos(a), 0.0]
    up = [-np.sin(t) * np.cos(a), -np.sin(t) * np.sin(a), np.cos(t)]
    return torch.tensor([right, up, towards], dtype=torch.float64)


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


def passes_through(stage: Scene, rows: Tensor) -> Tensor:
    """Which great circle passes through which sample's direction, shape (k, b).

    Args:
        stage: a scene.
        rows: positions of rows of L, shape (k,).
    """
    Q = true_directions(stage)
    small = (stage.low_rank.factor @ Q).abs() <= zero_tolerance(stage.low_rank, Q)
    return small[rows]


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
        self._through = passes_through(self.stage, live)
        self._live = live
        first = facing(true_directions(self.stage).sum(dim=1))
        self._exact: tuple[float, float] | None = None
        self._draw_frame()
        self.buttons = [self.button(f"Sample {i + 1} to the middle", partial(self.face, i)) for i in range(3)]
        super().__init__(
            {
                "turn": base.int_slider("turn", round(first[0]) + 10, -180, 180, step=2, track=16),
                "tilt": base.int_slider("tilt", round(first[1]) - 8, -90, 90, step=2, track=16),
                "circles": base.int_slider("circles (rows of L)", len(live), 2, len(live), track=16),
                "marked": Checkbox(
                    True, description="mark the samples", indent=False, layout={"width": "auto"}
                ),
            },
            buttons=self.buttons,
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, 540)
        figure = self._canvas.figure
        self._sphere = axes = figure.add_axes((0.0, 0.0, 0.56, 1.0), aspect="equal")
        axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        axes.axis("off")
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
        self._panel = figure.add_axes((0.63, 0.34, 0.35, 0.5))
        k = len(self._live)
        limit = 1.02 * float(self.stage.low_rank.factor.norm(dim=1).max())
        self._panel.set(xlim=(-1, k), ylim=(-limit, limit), yticks=[0], xticks=[])
        self._panel.axhline(0, color=drawing.FAINT, linewidth=0.8)
        self._panel.spines[["top", "right", "bottom"]].set_visible(False)
        self._panel.set_xlabel(f"entries of L q, {k} units that are not always silent")
        (self._nonzero,) = self._panel.plot([], [], "o", color=drawing.BLUE, markersize=4)
        (self._zero,) = self._panel.plot([], [], "D", color=drawing.ORANGE, markersize=6)
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
        self._canvas.moving(self._back, self._front, *self._marks, self._aim, rim, self._nonzero, self._zero)

    def face(self, sample: int) -> None:
        """Bring a sample's direction exactly to the middle, between the sliders' whole degrees."""
        self._exact = facing(true_directions(self.stage)[:, sample])
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
        entries, zero = self.state.entries.numpy(), self.state.zero.numpy()
        numbers = np.arange(len(entries))
        self._nonzero.set_data(numbers[~zero], entries[~zero])
        self._zero.set_data(numbers[zero], np.zeros(zero.sum()))
        self.show("picture", drawing.encode(self._written(places), "jpeg"))
        verdict = (
            "no sample" if self.state.sample is None else f"<b>exactly sample {self.state.sample + 1}</b>"
        )
        near = int((self.state.entries.abs() <= np.sin(np.deg2rad(3)) * self._row_norms).sum())
        self.say(
            f"In the middle: {verdict}. Of {len(entries)} great circles, <b>{self.state.zeros}</b> pass "
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
        for mark, q in zip(self._marks, true_directions(self.stage).T):
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
        top = self._canvas.pixel(self._panel, len(self._live) / 2, self._panel.get_ylim()[1])
        drawing.write(picture, top, f"{self.state.zeros} zeros", 17, bold=True, anchor="md")
        return picture


def title_picture() -> base.Picture:
    """The sphere with the circles of 80 units and its three crossings."""
    explorer = SphereExplorer()
    return base.Picture(explorer.static_picture(), SphereExplorer.description)
