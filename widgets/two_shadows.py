"""Explorers of forward consistency: the misfit between two layers, and the search that runs down its wells.

Two layers hold the same secret, so a direction that suits both is a sample. The misfit over all directions,
the paths of the search and the whole attack come from `spear_core.study.landscape` and `spear_core.states`.
"""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import ipywidgets as W
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from spear_core import client
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import as_inversion, states
from spear_core.client import data, networks
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.low_rank import LowRank, split
from spear_core.study.landscape import Landscape, landscape, paths
from widgets import base, drawing
from widgets.job import Job
from widgets.low_rank import sample_pictures
from widgets.scene import SIDE

ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "tanh": nn.Tanh}
WIDTH, DEPTH, SEED = 100, 4, 3
CIRCLE_COUNTS = (0, 1, 2, 4, 8, 16, 40)  # steps of the search whose ghosts are shown
SPHERE_COUNTS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 80)
WALKERS = 20
NEAR_DEGREES = 1.0  # a walker so close to a sample's direction is said to have arrived
FLOOR = 1e-8  # below what 32-bit gradients resolve
FIRST_AT = 140  # degrees on the page, from the middle, where the first of three samples is
LATITUDES, LONGITUDES = 91, 180
SHORTEST_LINE = 2e-3  # of a path, in radii: what is shorter is not visible
PIXELS = 260  # of the sphere's diameter
MAP = matplotlib.colormaps["viridis"]
SHADES = (MAP(np.arange(256))[:, :3] * 255).astype(np.uint8)
BATCHES = {24: 400, 50: 500, 100: 1000}  # b and the width m that goes with it
SECONDS = 60  # limit of one search


# ---------------------------------------------------------------- the stage
@dataclass(frozen=True, eq=False)
class Ground:
    """A batch, what the server sees of it, and the landscape over directions.

    Attributes:
        batch: the client's samples.
        model: the network.
        gradients: what the client sends.
        problem: what the server reads from both.
        low_rank: the split of the first layer's gradient.
        landscape: the misfit over directions, on the units that are seen.
        samples: where the true samples lie, as unit columns, shape (b, b). Only the client knows them.
        home: orthonormal rows, shape (b, b): the axes of the pictures, in which the samples' middle is in
            front whatever basis the split came in.
    """

    batch: data.Batch
    model: nn.Sequential
    gradients: dict[str, Tensor]
    problem: Problem
    low_rank: LowRank
    landscape: Landscape
    samples: Tensor
    home: Tensor


def ground(
    batch_size: int, activation: str = "ReLU", seen: int = WIDTH, width: int = WIDTH, seed: int = SEED
) -> Ground:
    """A batch of photographs and its landscape.

    Args:
        batch_size: b.
        activation: one of `ACTIVATIONS`.
        seen: how many columns of the next layer's gradient the server sees.
        width: m.
        seed: of data and weights.

    Raises:
        ValueError: an unknown activation, or more units seen than there are.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
    if not 0 <= seen <= width:
        raise ValueError(f"seen must be 0 to {width}, got {seen}")
    return _ground(batch_size, activation, seen, width, seed)


@lru_cache(maxsize=32)
def _ground(batch_size: int, activation: str, seen: int, width: int, seed: int) -> Ground:
    if seen < width:
        whole = _ground(batch_size, activation, width, width, seed)
        units = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:seen]
        part = whole.landscape.seeing(units)
        return replace(whole, landscape=part)
    batch, model, gradients = client_of(batch_size, activation, width, seed)
    problem = read_problem(model, gradients)
    low_rank = split(problem.attacked.weight_grad, generator=torch.Generator().manual_seed(0))
    everything = landscape(problem, low_rank)
    true = torch.linalg.lstsq(low_rank.rows.T, batch.inputs.to(torch.float64).T).solution.T
    samples = everything.directions(true)
    return Ground(batch, model, gradients, problem, low_rank, everything, samples, _home(samples))


def _home(samples: Tensor) -> Tensor:
    """Axes in which a circle has its samples around 180 degrees, and a sphere has them in front."""
    if len(samples) > 3:
        return torch.eye(len(samples), dtype=samples.dtype)
    axes = torch.cat([samples.sum(dim=1, keepdim=True), samples[:, :-1]], dim=1)
    Q, R = torch.linalg.qr(axes)
    middle, *across = (Q * R.diagonal().sign()).T
    if len(across) == 1:
        return torch.stack([-middle, across[0]])
    a = np.deg2rad(FIRST_AT)
    right = np.cos(a) * across[0] - np.sin(a) * across[1]
    return torch.stack([middle, right, np.sin(a) * across[0] + np.cos(a) * across[1]])


@lru_cache(maxsize=8)
def client_of(
    batch_size: int, activation: str, width: int, seed: int = SEED
) -> tuple[data.Batch, nn.Sequential, dict[str, Tensor]]:
    """Photographs, a fresh network, and the gradients that the client sends."""
    batch = data.load("photos", batch_size, size=SIDE, generator=torch.Generator().manual_seed(seed))
    model = networks.fully_connected(
        batch.inputs.shape[1],
        width,
        DEPTH,
        batch.classes,
        activation=ACTIVATIONS[activation],
        generator=torch.Generator().manual_seed(1000 + seed),
    )
    return batch, model, client.gradients(model, batch.inputs, batch.labels)


def ghosts(stage: Ground, points: Tensor) -> Tensor:
    """The inputs x = c R that points v stand for, shape (k, n); NaN where there is none."""
    return stage.landscape.coefficients(points) @ stage.low_rank.rows


def nearest(stage: Ground, points: Tensor) -> tuple[Tensor, Tensor]:
    """For points v as columns: the sample nearest to each, and how many degrees away it is."""
    # the chord resolves small angles that the cosine rounds away
    chord = torch.cdist(points.T, stage.samples.T, compute_mode="donot_use_mm_for_euclid_dist")
    length, sample = chord.min(dim=1)
    return sample, torch.rad2deg(2 * torch.asin((length / 2).clamp_max(1)))


def ghost_pictures(stage: Ground, points: Tensor) -> np.ndarray:
    """Ghosts as pictures, shape (k, H, W, 3), plain grey where there is no input."""
    inputs = ghosts(stage, points)
    nothing = inputs.isnan().any(dim=1)
    pictures = sample_pictures(stage.batch, inputs.nan_to_num())
    pictures = np.array(pictures)
    pictures[nothing.numpy()] = 0.82 if pictures.dtype != np.uint8 else 210
    return pictures


def seen_slider(batch_size: int) -> W.SelectionSlider:
    """How many units of the next layer the server sees, from none to all."""
    b = batch_size
    options = sorted({0, b, b + 1, 2 * b - 1, 2 * b + 1, 10, 15, 25, 50, WIDTH})
    return W.SelectionSlider(
        options=options,
        value=WIDTH,
        description="units of layer 2 that the server sees",
        style=base.LABELLED,
        layout=W.Layout(width="38em", max_width="100%"),
    )


# ---------------------------------------------------------------- b = 2: the circle
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
                "activation": base.dropdown("activation", list(ACTIVATIONS)),
                "start": base.int_slider("start of the search, degrees", 174, 0, 359, track=20),
                "seen": seen_slider(2),
            },
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, 500)
        figure = self._canvas.figure
        ring = figure.add_axes((0.0, 0.36, 0.29, 0.62), aspect="equal")
        ring.set(xlim=(-1.32, 1.32), ylim=(-1.32, 1.32))
        ring.axis("off")
        around = at_degrees(torch.arange(0, 361, 2.0, dtype=torch.float64))
        ends = around.T.numpy()
        self._around = around[:, :-1]
        self._ring = LineCollection(list(np.stack([ends[:-1], ends[1:]], axis=1)), linewidths=11)
        ring.add_collection(self._ring)
        self._curve = curve = figure.add_axes((0.37, 0.46, 0.605, 0.5))
        curve.set(xlim=(0, 360), ylim=(FLOOR / 2, 8), yscale="log", xticks=range(0, 361, 60))
        curve.set(xlabel="angle of the direction in degrees", ylabel="misfit")
        curve.spines[["top", "right"]].set_visible(False)
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
        marks: list[tuple[Axes, dict[str, Any]]] = [
            (axes, {"marker": drawing.marker(i), "color": drawing.colour(i), **look})
            for i in range(2)
            for axes in (ring, curve)
        ]
        self._marks = [axes.plot([], [], **mark)[0] for axes, mark in marks]
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
        self.show("picture", drawing.encode(picture, "jpeg"))
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


def counted(equations: int) -> str:
    """How many equations, in words."""
    return f"{equations} equation{'' if equations == 1 else 's'}"


# ---------------------------------------------------------------- b = 3: the sphere
@lru_cache(maxsize=32)
def heat(stage: Ground) -> np.ndarray:
    """Misfit on a grid of latitudes (rows, −90 to 90) and longitudes (columns, a full turn, closed)."""
    latitude = torch.linspace(-90, 90, LATITUDES, dtype=torch.float64).deg2rad()[:, None]
    longitude = torch.linspace(-180, 180, LONGITUDES + 1, dtype=torch.float64).deg2rad()[None]
    points = torch.stack(
        [
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin().expand(-1, LONGITUDES + 1),
        ]
    )
    values: np.ndarray = stage.landscape.misfit(points.flatten(1)).reshape(LATITUDES, -1).numpy()
    return values


@lru_cache(maxsize=32)
def descents(stage: Ground) -> Tensor:
    """Paths of the same twenty random starts, shape (len(SPHERE_COUNTS) + 1, 3, WALKERS)."""
    return paths(stage.landscape, random_starts(3, WALKERS), SPHERE_COUNTS)


def random_starts(batch_size: int, count: int, seed: int = 5) -> Tensor:
    """Random unit columns, shape (b, count)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(batch_size, count, generator=generator, dtype=torch.float64)
    return start / start.norm(dim=0)


def eye_of(turn: float, tilt: float) -> Tensor:
    """Axes of an eye that looks at the sphere: right, up and towards the eye, as rows, shape (3, 3)."""
    a, t = np.deg2rad(turn), np.deg2rad(tilt)
    towards = [np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)]
    right = [-np.sin(a), np.cos(a), 0.0]
    up = [-np.sin(t) * np.cos(a), -np.sin(t) * np.sin(a), np.cos(t)]
    return torch.tensor([right, up, towards], dtype=torch.float64)


def sphere_picture(values: np.ndarray, eye: Tensor, pixels: int = PIXELS) -> np.ndarray:
    """The sphere as an eye sees it, coloured by a grid as `heat` makes it; white around it, (p, p, 3)."""
    inside, seen = _half_sphere(pixels)
    x, y, z = eye.T.to(torch.float32).numpy() @ seen
    latitude = (np.arcsin(np.clip(z, -1, 1)) / np.pi + 0.5) * (LATITUDES - 1)
    longitude = (np.arctan2(y, x) / (2 * np.pi) + 0.5) * LONGITUDES
    picture = np.full((pixels, pixels, 3), 255, dtype=np.uint8)
    looked_up = map_coordinates(
        values, np.stack([latitude, longitude]), np.float32, order=1, mode="nearest", prefilter=False
    )
    picture[inside] = SHADES[np.clip(looked_up * len(SHADES), 0, len(SHADES) - 1).astype(np.uint8)]
    return picture


@cache
def _half_sphere(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of a square show the sphere, and the points that they show, as columns."""
    across = np.linspace(-1, 1, pixels, dtype=np.float32)
    x, y = np.meshgrid(across, across)
    inside = x**2 + y**2 <= 1
    x, y = x[inside], y[inside]
    return inside, np.stack([x, y, np.sqrt(np.clip(1 - x**2 - y**2, 0, None))])


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
                "activation": base.dropdown("activation", list(ACTIVATIONS)),
                "turn": base.int_slider("turn", 0, -180, 180, step=2, track=14),
                "tilt": base.int_slider("tilt", 0, -90, 90, step=2, track=14),
                "steps": W.SelectionSlider(
                    options=options,
                    value=len(SPHERE_COUNTS),
                    description="steps of the search",
                    style=base.LABELLED,
                    layout=W.Layout(width="30em", max_width="100%"),
                ),
                "seen": seen_slider(3),
            },
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, 520)
        figure = self._canvas.figure
        self._sphere = axes = figure.add_axes((0.0, 0.0, 0.54, 1.0), aspect="equal")
        axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
        axes.axis("off")
        left, bottom = axes.transData.transform((-1, -1))
        self._across = round(axes.transData.transform((1, -1))[0] - left)
        self._ball = drawing.Pixels(round(left), round(bottom), zorder=1)
        figure.add_artist(self._ball)
        rim = Circle((0, 0), 1, fill=False, edgecolor="#555555", linewidth=1.4, zorder=2)
        axes.add_patch(rim)
        self._tracks = LineCollection([], colors="white", linewidths=1.1, zorder=3)
        axes.add_collection(self._tracks)
        (self._walkers,) = axes.plot(
            [], [], "o", color="white", markeredgecolor=drawing.INK, markersize=6, zorder=5
        )
        look: dict[str, Any] = {
            "color": "white",
            "markersize": 15,
            "fillstyle": "none",
            "markeredgewidth": 2.6,
            "zorder": 4,
        }
        self._marks = [axes.plot([], [], drawing.marker(i), **look)[0] for i in range(3)]
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

    def static_picture(self) -> bytes:
        """PNG in full colour: a palette of 256 spoils the scale of the misfit."""
        buffer = io.BytesIO()
        self._image().save(buffer, "png", optimize=True)
        return buffer.getvalue()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = ground(3, values["activation"], values["seen"])
        eye = eye_of(values["turn"], values["tilt"]) @ self.stage.home
        whole = descents(self.stage)
        self.points = whole[values["steps"]]
        self.followed = followed(self.stage, whole)
        ball = Image.fromarray(sphere_picture(heat(self.stage), eye))
        self._ball.picture = ball.resize((self._across, self._across), Image.Resampling.BILINEAR)
        self._draw_paths(whole[: values["steps"] + 1], eye)
        self.show("picture", drawing.encode(self._image(), "jpeg"))
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
        at = (0.6 * picture.width, 0.13 * picture.height)
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


# ---------------------------------------------------------------- the whole search
class SearchExplorer(base.Explorer):
    """The attack itself on batches of 24 to 100 photographs, with the clock running.

    Attributes:
        inversion: the present result; uncertified rows are marked as not proven.
        seconds: time of the search so far, the client's own work not counted.
        rounds: states that the attack has gone through.
    """

    name = "search"
    title = "The whole search, at a batch size of your choice"
    description = (
        "A grid of photographs computed back from one gradient; those that are proven have a frame, and a "
        "line above counts the proven, the unproven and the missing ones."
    )

    def __init__(self) -> None:
        self.inversion: Inversion | None = None
        self.last: State | None = None
        self.seconds, self.rounds = 0.0, 0
        super().__init__(
            {
                "batch_size": base.dropdown(
                    "batch size and width", [(f"b = {b}, m = {m}", b) for b, m in BATCHES.items()]
                ),
                "activation": base.dropdown("activation", ["ReLU", "GELU"]),
            },
            buttons=(self.button("Run the search", self.run, tooltip="Invert this batch, with a clock"),),
        )
        self.job = Job(self)
        self.children = (*self.children[:2], self.job, *self.children[2:])  # type: ignore[has-type]
        self.refresh()
        for _ in self._search(self.problem):  # at once: the page shall open with a result
            pass
        self._end()

    def update(self) -> None:
        """A new setting waits for the button: nothing has been found yet."""
        if hasattr(self, "job"):
            self.job.stop()
        values = self.values
        self.batch, model, gradients = client_of(
            values["batch_size"], values["activation"], BATCHES[values["batch_size"]]
        )
        self.problem = read_problem(model, gradients)
        self._forget()
        self.show("picture", drawing.encode(result_picture(self.batch, None)))
        self.say("Nothing found yet: run the search.")

    def _forget(self) -> None:
        self.inversion, self.last, self.seconds, self.rounds = None, None, 0.0, 0

    def run(self) -> None:
        """Start the attack from the beginning."""
        self._forget()
        self.job.start(self._search(self.problem), self._end)

    def _search(self, problem: Problem) -> Iterator[float]:
        steps = states(
            problem, generator=torch.Generator().manual_seed(0), deadline=time.monotonic() + SECONDS
        )
        while self.problem is problem:
            began = time.perf_counter()
            with base.one_thread():
                state = next(steps, None)
            self.seconds += time.perf_counter() - began
            if state is None:
                return
            self.last, self.rounds = state, self.rounds + 1
            self.inversion = as_inversion(state, problem)
            self._draw()
            yield 0.0 if state.reconstruction is None else len(state.reconstruction.inputs) / state.batch_size

    def _end(self) -> None:
        if self.last is not None:
            self._draw(ended=True)

    def _draw(self, *, ended: bool = False) -> None:
        state, inversion = self.last, self.inversion
        assert state is not None and inversion is not None
        b, clock = state.batch_size, f"Clock: <b>{self.seconds:.2f} s</b>, the client's work not counted."
        stopped = "Stopped. " if ended and state.step != "certificate" else ""
        if state.reconstruction is None:
            self.say(f"{stopped}The gradient is split, its rank says b = {b}. {clock}")
            return
        found = state.reconstruction.inputs
        proven = inversion.certified_rows if state.step == "certificate" else None
        self.show("picture", drawing.encode(result_picture(self.batch, found, proven)))
        certain = 0 if proven is None else int(proven.sum())
        verdict = f"<b>{certain} of {b} proven</b>, {len(found) - certain} found and not proven"
        self.say(f"{stopped}{verdict}. {clock}")


def result_picture(batch: data.Batch, found: Tensor | None, proven: Tensor | None = None) -> Image.Image:
    """Found samples as pictures: framed where proven, without a frame where not, grey where missing."""
    b = len(batch.labels)
    columns = 12 if b <= 24 else 20
    side = (drawing.WIDTH - 12) // columns - 8
    rows = 0 if found is None else len(found)
    pictures = np.full((b, *batch.pictures(batch.inputs[:1]).shape[1:]), 210, dtype=np.uint8)
    if found is not None and rows:
        pictures[:rows] = drawing.as_bytes(np.asarray(batch.pictures(found.to(torch.float32))))[:b]
    certain = [False] * b if proven is None or not len(proven) else [bool(p) for p in proven]
    frames = [drawing.GREEN if i < rows and certain[i] else None for i in range(b)]
    grid = drawing.picture_grid(pictures, side=side, columns=columns, frames=frames)
    count = sum(certain[:rows])
    text = f"{count} of {b} proven (framed), {rows - count} found and not proven, {b - rows} missing (grey)"
    return drawing.below([drawing.headline(text, width=drawing.WIDTH), grid], gap=0)


# ---------------------------------------------------------------- still pictures
def title_picture() -> base.Picture:
    """The sphere with three wells and twenty paths."""
    return base.Picture(WellsExplorer().static_picture(), WellsExplorer.description)
