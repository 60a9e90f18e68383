"""One state of the attack as a picture: what it makes of the batch, its error, the certificate, the pool and λ."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from spear_core.certificate.record import Part
from spear_core.client.data import Batch
from spear_core.search import State
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.selection import greedy
from spear_core.study.metrics import compare
from spear_widgets.kit import drawing
from spear_widgets.kit.samples import in_places, sample_pictures
from spear_widgets.kit.scene import Scene
from spear_widgets.selection.panels import PlotPanels

WORST, BEST = 0.0, -7.0  # powers of ten of the error map, black and white
PARTS = (Part.GRADIENT, Part.ZEROS, Part.UNIQUE, Part.REPLAY)
TRACK = (
    ("1 low rank", "low rank"),
    ("2 sampling", "sampling"),
    ("3 filter", "sampling"),
    ("4 selection", "selection"),
    ("5 reconstruction", "selection"),
    ("certificate", "certificate"),
)


# ---------------------------------------------------------------- what a state shows
@dataclass(frozen=True)
class Look:
    """The batch that a state amounts to, in the order of the private one.

    Attributes:
        title: what the pictures are.
        inputs: rows, shape (k, n).
        places: for each private sample the row that belongs to it, −1 for none, shape (b,).
        errors: largest absolute error of each private sample, infinite where there is no row, shape (b,).
    """

    title: str
    inputs: Tensor
    places: Tensor
    errors: Tensor


def look(stage: Scene, state: State) -> Look:
    """What the directions found so far make of the batch.

    Before there are b of them, the pseudo-inverse stands for Q⁻¹: each sample is mixed with the missing ones.
    Before there is any, the rows of R are all there is.
    """
    chosen = greedy(state.pool) if len(state.pool) else ()
    truth = stage.batch.inputs.to(torch.float64)
    b = len(truth)
    if state.reconstruction is not None:
        inputs, title = state.reconstruction.inputs, "recovered from the chosen directions"
    elif chosen:
        inputs = reconstruct(stage.forward, state.pool.directions[:, list(chosen)]).inputs
        title = f"ghosts: what {len(chosen)} of {b} directions give"
    else:
        rows = state.low_rank.rows
        inputs, title = rows / rows.std(dim=1, keepdim=True), "rows of R: mixtures of all samples"
    if not inputs.isfinite().all():
        inputs = inputs.nan_to_num()
    places = compare(inputs, truth).order
    errors = torch.full((b,), torch.inf, dtype=torch.float64)
    there = places >= 0
    errors[there] = (inputs[places[there]] - truth[there]).abs().amax(dim=1)
    return Look(title, inputs, places, errors)


def error_pictures(batch: Batch, errors: Tensor) -> np.ndarray:
    """Absolute errors as grey pictures on a logarithmic scale, uint8 (k, H, W, 3): white is rounding.

    Args:
        batch: for the shape of its pictures.
        errors: shape (k, n).
    """
    powers = errors.abs().clamp_min(10.0**BEST).log10().clamp(BEST, WORST)
    shade = ((WORST - powers) / (WORST - BEST) * 255).round().to(torch.uint8)
    if batch.shape is not None:
        picture = shade.reshape(-1, *batch.shape).amin(dim=1)  # the worst of the colours
    else:
        n = shade.shape[1]
        side = -(-n // 6)
        picture = torch.full((len(shade), 6 * side), 255, dtype=torch.uint8)
        picture[:, :n] = shade
        picture = picture.reshape(-1, 6, side)
    return picture[..., None].expand(*picture.shape, 3).numpy()


# ---------------------------------------------------------------- the picture
def state_picture(
    stage: Scene, states: list[State], plot: "PlotPanels", *, whole: bool = True
) -> Image.Image:
    """One state: stages, private batch, what is made of it, its error, certificate, pool and λ.

    Args:
        stage: the client.
        states: all up to the one to be drawn.
        plot: draws pool and λ.
        whole: whether to draw stages and certificate; without them, only what step 4 changes.
    """
    state = states[-1]
    seen = look(stage, state)
    batch, b = stage.batch, len(stage.batch.inputs)
    private, made = sample_pictures(batch, batch.inputs), in_places(batch, seen.inputs, seen.places)
    wrong, there = np.full(private.shape, 235, dtype=np.uint8), seen.places >= 0
    wrong[there.numpy()] = error_pictures(batch, seen.inputs[seen.places[there]] - batch.inputs[there])
    labels = ["none yet" if not np.isfinite(e) else f"off by {_power(e)}" for e in seen.errors.tolist()]
    side = min(52 if whole else 64, (drawing.WIDTH - 8) // b - 8)
    pictures = [
        drawing.headline("the private batch, for comparison", 13, drawing.WIDTH),
        drawing.picture_grid(private, side=side),
        drawing.headline(seen.title, 13, drawing.WIDTH),
        drawing.picture_grid(made, side=side),
        drawing.headline("error: white is rounding, black is an error of one standard deviation or more", 13),
        drawing.picture_grid(wrong, side=side, labels=labels, frames=[drawing.FAINT] * b),
    ]
    bands = [drawing.below(pictures, gap=0), plot.image(states)]
    if whole:
        track = [(name, "filled" if step == state.step else "empty") for name, step in TRACK]
        bands = [_boxes(track), bands[0], _boxes(lamps(state)), bands[1]]
    return drawing.below(bands, gap=4)


def _power(error: float) -> str:
    return "1e-7" if error < 1e-7 else f"{error:.0e}".replace("e-0", "e-").replace("e+00", "")


def lamps(state: State) -> list[tuple[str, str]]:
    """The certificate's parts with how they look: dark before the certificate, then lit or refused."""
    parts = {} if state.certificate is None else state.certificate.parts
    looks = {True: ("✓ ", "good"), False: ("✗ ", "bad"), None: ("– ", "empty")}
    found = []
    for name in PARTS:
        mark, tint = looks[parts[name]] if name in parts else ("… ", "empty")
        found.append((mark + name, tint))
    return found


def _boxes(items: list[tuple[str, str]]) -> Image.Image:
    """Texts in boxes side by side over the whole width."""
    fills = {"filled": drawing.BLUE, "empty": drawing.PAPER, "good": drawing.GREEN, "bad": drawing.ORANGE}
    sheet = drawing.sheet(drawing.WIDTH, 34)
    draw, scale = ImageDraw.Draw(sheet), drawing.SCALE
    wide = (drawing.WIDTH - 8) / len(items)
    for k, (text, tint) in enumerate(items):
        left = 8 + k * wide
        box = [scale * end for end in (left, 4, left + wide - 8, 30)]
        draw.rectangle(box, drawing.tint(fills[tint]), drawing.tint(drawing.INK), scale)
        ink = drawing.INK if tint == "empty" else drawing.PAPER
        drawing.write(sheet, (left + wide / 2 - 4, 17), text, 13, anchor="mm", ink=ink)
    return sheet
