"""The gradient as a sum of b outer products, one for each sample."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from spear_core.spear import low_rank
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene

UNITS, INPUTS = 40, 96  # the corner of the gradient that is drawn
SPECTRUM = 24  # singular values that are drawn


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
        self._guessed, self._guess_at = "", 0.0
        self._canvas = Canvas(drawing.WIDTH, 230)
        self._axes = axes = self._canvas.axes(
            0.075, 0.2, 0.91, 0.76, xlim=(0.4, SPECTRUM + 0.6), ylim=(1e-9, 4), yscale="log",
            xlabel="singular value number", ylabel="relative to the largest",
        )  # fmt: skip
        axes.set_yticks([1, 1e-2, 1e-4, 1e-6, 1e-8])
        axes.set_xticks(range(1, SPECTRUM + 1))
        axes.axhspan(1e-9, 3e-7, color="#eeeeee", zorder=0)
        axes.text(SPECTRUM + 0.5, 1.4e-7, "rounding of 32-bit numbers", ha="right", va="top", color="#555555")
        (self._signal,) = axes.plot([], [], "o", color=drawing.BLUE, markersize=8)
        (self._floor,) = axes.plot([], [], "x", color=drawing.ORANGE, markersize=7, markeredgewidth=1.8)
        (self._cliff,) = axes.plot([], [], "--", color=drawing.INK, linewidth=1.2)
        (self._guess,) = axes.plot([], [], ":", color=drawing.PURPLE, linewidth=2.5)
        self._canvas.moving(self._signal, self._floor, self._cliff, self._guess)
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 4, 1, 12),
                "width": controls.dropdown("width m", [50, 100, 200, 400], 200),
                "terms": controls.slider("terms added", 2, 0, 4),
            },
            ("matrices", "spectrum"),
            buttons=(
                self.button("− one term", lambda: self.move("terms", -1)),
                self.button("+ one term", lambda: self.move("terms", 1)),
            ),
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"], values["width"])
        with self.quietly():
            self.control["terms"].max = values["batch_size"]
        terms = self.control["terms"].value
        self.state = peel(self.stage, terms)
        self.show("matrices", peel_picture(self.stage, self.state, terms))
        self._draw_spectrum()
        self.say(self._words(terms))

    def answered(self, choice: str) -> None:
        """Draw the rank that the reader expected, and all terms beside it."""
        rank = int(choice)
        self._guess_at = min(rank, SPECTRUM) + 0.5
        self._guess.set_data([self._guess_at] * 2, [1e-9, 4])
        self._guessed = f"you said {rank}" + (", further to the right" if rank > SPECTRUM else "")
        self.set(terms=self.stage.batch_size)

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
        if self._guessed:
            left = self._guess_at < SPECTRUM / 2
            at = self._canvas.pixel(self._axes, self._guess_at + (0.2 if left else -0.2), 1e-4)
            drawing.write(picture, at, self._guessed, 15, anchor="lm" if left else "rm", ink=drawing.PURPLE)
        self.show("spectrum", picture)

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
    rows, columns = (
        min(size, most) for size, most in zip(state.gradient.shape, (UNITS, INPUTS), strict=True)
    )
    corner = f"a corner of {rows} × {columns} of the {_size(state.gradient)} numbers: blue below zero, orange above"
    headings = [drawing.headline(words, 13) for words in ("private samples; framed: in the sum", corner)]
    return drawing.below([headings[0], top, headings[1], drawing.beside(panels)], gap=0)


def _size(matrix: Tensor) -> str:
    return " × ".join(f"{size:,}" for size in matrix.shape)


def _matrix(values: Tensor, limit: float, title: str) -> Image.Image:
    corner = values[:UNITS, :INPUTS].numpy()
    framed = Image.new("RGB", (302 * drawing.SCALE, 127 * drawing.SCALE), drawing.tint(drawing.FAINT))
    framed.paste(drawing.enlarged(drawing.signed_colours(corner, limit), 300, 125), (drawing.SCALE,) * 2)
    return drawing.below([drawing.headline(title, 13, 302), framed], gap=0)


# ---------------------------------------------------------------- still pictures
