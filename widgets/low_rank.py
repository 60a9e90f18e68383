"""Explorers of step 1: the gradient as a sum of b outer products, and the Q that the split leaves open."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from ipywidgets import Button
from PIL import Image
from torch import Tensor

from spear_core.client.data import Batch
from spear_core.spear import low_rank
from spear_core.spear.reconstruction import Reconstruction, reconstruct
from spear_core.spear.sparsity import zero_tolerance
from widgets import base, drawing
from widgets.scene import DATA, Scene, scene

UNITS, INPUTS = 40, 96  # the corner of the gradient that is drawn
SPECTRUM = 24  # singular values that are drawn
STEPS = 100  # of the way from a wrong Q to the right one
BLEND = 1.6  # how far the first Q of that way mixes the samples


# ---------------------------------------------------------------- peeling
@dataclass(frozen=True)
class Peel:
    """The sum of the first k of the b outer products of a gradient.

    Attributes:
        partial: the sum, shape (m, n).
        gradient: G, shape (m, n), as the client sends it.
        rank: numerical rank of the sum.
        singular_values: of the sum, relative to the largest, at most `SPECTRUM`; empty if there is no term.
        remainder: largest entry of what is missing, relative to the largest of G.
    """

    partial: Tensor
    gradient: Tensor
    rank: int
    singular_values: Tensor
    remainder: float


@lru_cache(maxsize=64)  # so that the slider scrubs
def peel(stage: Scene, terms: int) -> Peel:
    """Add up the first terms of a gradient.

    Raises:
        ValueError: if there are not so many terms.
    """
    b = stage.batch_size
    if not 0 <= terms <= b:
        raise ValueError(f"terms must be 0 to {b}, got {terms}")
    gradient = stage.layer.weight_grad
    # the sum of outer products ∂L/∂z_i x_iᵀ is one matrix product
    partial = stage.output_grads[:terms].T @ stage.batch.inputs[:terms]
    remainder = float((gradient - partial).abs().max() / gradient.abs().max())
    if terms == 0:
        return Peel(partial, gradient, 0, torch.zeros(0), remainder)
    parts = low_rank.split(partial, generator=torch.Generator().manual_seed(0))
    values = parts.singular_values[:SPECTRUM]
    return Peel(partial, gradient, parts.batch_size, values / values[0], remainder)


class PeelExplorer(base.Explorer):
    """The gradient peeled term by term, with the singular values of what there is so far.

    Attributes:
        stage: client and server of the present batch.
        state: the present sum.
    """

    name = "peel"
    title = "A gradient is a sum of outer products, one for each sample"
    description = (
        "Left, the sum of the outer products of some samples as a coloured matrix, beside the client's "
        "gradient and what is missing; below, singular values, which fall off a cliff after one a term."
    )

    def __init__(self) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, 230)
        self._axes = axes = self._canvas.figure.add_axes((0.075, 0.2, 0.91, 0.76))
        axes.set(xlim=(0.4, SPECTRUM + 0.6), ylim=(1e-9, 4), yscale="log")
        axes.set(xlabel="singular value number", ylabel="relative to the largest")
        axes.set_yticks([1, 1e-2, 1e-4, 1e-6, 1e-8])
        axes.set_xticks(range(1, SPECTRUM + 1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhspan(1e-9, 3e-7, color="#eeeeee", zorder=0)
        axes.text(SPECTRUM + 0.5, 1.4e-7, "rounding of 32-bit numbers", ha="right", va="top", color="#555555")
        (self._signal,) = axes.plot([], [], "o", color=drawing.BLUE, markersize=8)
        (self._floor,) = axes.plot([], [], "x", color=drawing.ORANGE, markersize=7, markeredgewidth=1.8)
        (self._cliff,) = axes.plot([], [], "--", color=drawing.INK, linewidth=1.2)
        self._canvas.moving(self._signal, self._floor, self._cliff)
        super().__init__(
            {
                "data": base.dropdown("data", DATA),
                "batch_size": base.int_slider("batch size b", 4, 1, 12),
                "width": base.dropdown("width m", [50, 100, 200, 400], 200),
                "terms": base.int_slider("terms added", 2, 0, 4),
            },
            ("matrices", "spectrum"),
            buttons=(self._step_button("− one term", -1), self._step_button("+ one term", 1)),
        )
        self.refresh()

    def _step_button(self, label: str, by: int) -> Button:
        return self.button(label, lambda: self.step(by))

    def step(self, by: int) -> None:
        """Add or take away terms, as far as there are any."""
        slider = self.control["terms"]
        self.set(terms=min(max(slider.value + by, 0), slider.max))

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"], values["width"])
        with self.quietly():
            self.control["terms"].max = values["batch_size"]
        terms = self.control["terms"].value
        self.state = peel(self.stage, terms)
        self.show("matrices", drawing.encode(peel_picture(self.stage, self.state, terms), "jpeg"))
        self._draw_spectrum()
        self.say(self._words(terms))

    def set(self, **values: object) -> None:
        """As in `Explorer`; a batch size makes room for its terms first."""
        with self.quietly():
            self.control["terms"].max = values.get("batch_size", self.control["batch_size"].value)
        super().set(**values)

    def _draw_spectrum(self) -> None:
        values, rank = self.state.singular_values.clamp_min(1.5e-9).tolist(), self.state.rank
        numbers = list(range(1, len(values) + 1))
        self._signal.set_data(numbers[:rank], values[:rank])
        self._floor.set_data(numbers[rank:], values[rank:])
        self._cliff.set_data([rank + 0.5] * 2, [1e-9, 4])
        picture, room = self._canvas.image(), rank < SPECTRUM - 6
        at = self._canvas.pixel(self._axes, rank + 0.7 if room else rank - 0.1, 0.9)
        note = f"rank {rank}: the cliff is here" if rank else "no term yet: rank 0"
        drawing.write(picture, at, note, 15, anchor="lm" if room else "rm")
        self.show("spectrum", drawing.encode(picture, "jpeg"))

    def _words(self, terms: int) -> str:
        b = self.stage.batch_size
        left = (
            "nothing is missing: the sum <b>is</b> the gradient, to rounding"
            if self.state.remainder < 1e-5
            else f"{100 * self.state.remainder:.0f} % of the gradient's largest entry is still missing"
        )
        return f"{terms} of {b} outer products added: <b>rank {self.state.rank}</b>; {left}."


def peel_picture(stage: Scene, state: Peel, terms: int) -> Image.Image:
    """Samples, with those in the sum framed; the sum, the gradient and their difference as matrices."""
    limit = float(state.gradient[:UNITS, :INPUTS].abs().max())
    panels = [
        _matrix(state.partial, limit, f"sum of {terms} outer product{'' if terms == 1 else 's'}"),
        _matrix(state.gradient, limit, "the client's gradient"),
        _matrix(state.gradient - state.partial, limit, "what is missing"),
    ]
    b = stage.batch_size
    labels = [f"{i + 1}{' ✓' if i < terms else ''}" for i in range(b)]
    frames = [drawing.colour(i) if i < terms else None for i in range(b)]
    samples = sample_pictures(stage.batch, stage.batch.inputs)
    side = 64
    top = drawing.picture_grid(samples, side=side, labels=labels, frames=frames)
    return _on_width(drawing.below([top, drawing.beside(panels)]))


def _matrix(values: Tensor, limit: float, title: str) -> Image.Image:
    corner = values[:UNITS, :INPUTS].numpy()
    picture = Image.fromarray(drawing.signed_colours(corner, limit)).resize(
        (300, 125), Image.Resampling.NEAREST
    )
    framed = Image.new("RGB", (302, 127), drawing.FAINT)
    framed.paste(picture, (1, 1))
    return drawing.below([drawing.headline(title, 13, 302), framed], gap=0)


def sample_pictures(batch: Batch, inputs: Tensor) -> np.ndarray:
    """Samples as pictures, shape (b, H, W, 3); rows of a table as coloured squares."""
    if batch.shape is not None:
        return batch.pictures(inputs.to(torch.float32))
    n = inputs.shape[1]
    side = -(-n // 6)
    padded = torch.zeros(len(inputs), 6 * side).index_copy_(1, torch.arange(n), inputs.to(torch.float32))
    return drawing.signed_colours(padded.reshape(-1, 6, side).numpy(), 3.0)


def _on_width(image: Image.Image) -> Image.Image:
    """On a sheet of the usual width, so that the page does not jump when a picture is narrower."""
    sheet = Image.new("RGB", (max(drawing.WIDTH, image.width), image.height), drawing.PAPER)
    sheet.paste(image, (0, 0))
    return sheet


# ---------------------------------------------------------------- ghosts
@dataclass(frozen=True)
class Ghosts:
    """What one Q makes of the split.

    Attributes:
        found: the batch that belongs to this Q.
        zeros: exact zeros in each column of L Q, shape (b,).
        error: largest entry of (L Q)(Q⁻¹ R) − G, relative to the largest of G.
        mixing: the samples' shares in each ghost, shape (b, b), rows add up to 1.
    """

    found: Reconstruction
    zeros: Tensor
    error: float
    mixing: Tensor

    @property
    def right(self) -> bool:
        """Whether this is the right Q."""
        return bool(torch.equal(self.mixing, torch.eye(len(self.mixing), dtype=self.mixing.dtype)))


def mixing(batch_size: int, wrong: int, step: int) -> Tensor:
    """Shares in which a wrong Q mixes the samples, shape (b, b): non-negative, rows add up to 1, invertible.

    A smooth way through invertible matrices: exp(u A) for a random A with rows that add up to zero.

    Args:
        batch_size: b.
        wrong: which way.
        step: from 0, far off, to `STEPS`, the identity.

    Raises:
        ValueError: if the step is out of range.
    """
    if not 0 <= step <= STEPS:
        raise ValueError(f"step must be 0 to {STEPS}, got {step}")
    generator = torch.Generator().manual_seed(wrong)
    shares = torch.rand(batch_size, batch_size, generator=generator, dtype=torch.float64) ** 3
    shares = shares / shares.sum(dim=1, keepdim=True)
    away = BLEND * (1 - step / STEPS)
    if away == 0:
        return torch.eye(batch_size, dtype=torch.float64)
    return torch.linalg.matrix_exp(away * (shares - torch.eye(batch_size, dtype=torch.float64)))


def ghosts(stage: Scene, wrong: int, step: int) -> Ghosts:
    """The batch that a Q on the way from a wrong one to the right one gives.

    X̃ = M X needs Q̃ = Q M⁻¹, and reproduces G as well as X does.
    """
    M = mixing(stage.batch_size, wrong, step)
    Q = stage.true_q @ torch.linalg.inv(M)
    directions = Q / Q.norm(dim=0)
    found = reconstruct(stage.forward, directions)
    G = stage.layer.weight_grad.to(torch.float64)
    error = float((found.output_grads.T @ found.inputs - G).abs().max() / G.abs().max())
    entries = (stage.low_rank.factor @ directions).abs()
    zeros = (entries <= zero_tolerance(stage.low_rank, directions)).sum(dim=0)
    return Ghosts(found, zeros, error, M)


class GhostExplorer(base.Explorer):
    """Scrub from a wrong Q to the right one and watch mixed-up pictures come apart.

    Attributes:
        stage: client and server of the present batch.
        state: what the present Q gives.
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
                "data": base.dropdown("data", DATA[:2]),
                "batch_size": base.int_slider("batch size b", 4, 2, 8),
                "wrong": base.int_slider("which wrong Q", 1, 1, 9),
                "step": base.int_slider("from wrong (0) to right (100)", 0, 0, STEPS, track=16),
            },
            buttons=(self.button("Right Q", lambda: self.set(step=STEPS)),),
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"])
        self.state = ghosts(self.stage, values["wrong"], values["step"])
        self.show("picture", drawing.encode(ghost_picture(self.stage, self.state), "jpeg"))
        m = self.stage.output_grads.shape[1]
        counts = ", ".join(str(int(count)) for count in self.state.zeros)
        says = "rounding only" if self.state.error < 1e-5 else "more than rounding"
        verdict = "This is the right Q." if self.state.right else "A wrong Q."
        self.say(
            f"<b>{verdict}</b> Difference between (L Q)(Q⁻¹ R) and the gradient: <b>{says}</b>. "
            f"Exact zeros in the columns of L Q: <b>{counts}</b> of {m}."
        )


def ghost_picture(stage: Scene, state: Ghosts) -> Image.Image:
    """Ghosts above the columns of L Q, zero entries white, all others tinted."""
    b = len(state.zeros)
    side = min(168, drawing.WIDTH // b - 8)
    pictures = sample_pictures(stage.batch, state.found.inputs)
    labels = [f"row {i + 1} of Q⁻¹ R" for i in range(b)]
    top = drawing.picture_grid(pictures, side=side, labels=labels)
    entries = (stage.low_rank.factor @ state.found.directions).T.numpy()
    exact = entries.copy()
    tolerance = zero_tolerance(stage.low_rank, state.found.directions).T.numpy()
    exact[np.abs(entries) <= tolerance] = 0
    tiles = np.stack([zero_tiles(column) for column in exact])
    labels = [f"L q{i + 1}: {int(count)} zeros" for i, count in enumerate(state.zeros)]
    return _on_width(drawing.below([top, drawing.picture_grid(tiles, side=side, labels=labels)], gap=2))


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


# ---------------------------------------------------------------- still pictures
def title_picture() -> base.Picture:
    """Private photographs, and rows of the gradient shown as if they were photographs."""
    stage = scene("photos", 4)
    photos = drawing.picture_grid(sample_pictures(stage.batch, stage.batch.inputs), side=100)
    G = stage.layer.weight_grad
    rows = G[G.norm(dim=1).argsort(descending=True)[:8]]
    rows = rows / rows.std(dim=1, keepdim=True)
    mixed = drawing.picture_grid(sample_pictures(stage.batch, rows), side=100)
    sheet = drawing.below(
        [
            drawing.headline("a private batch of four photographs"),
            photos,
            drawing.headline("eight of the 200 rows of the gradient, drawn as pictures"),
            mixed,
        ],
        gap=0,
    )
    return base.Picture(
        drawing.encode(sheet),
        "Four private photographs, and below them eight rows of the gradient drawn as pictures: "
        "each is a mixture of the four photographs, some of them as negatives.",
    )


def picture_of(batch: Batch, inputs: Tensor, description: str, labels: Sequence[str] = ()) -> base.Picture:
    """Samples as pictures, for the end of a cell."""
    grid = drawing.picture_grid(sample_pictures(batch, inputs), side=112, labels=labels)
    return base.Picture(drawing.encode(grid), description)
