"""One state of the attack as a picture: what it makes of the batch, its error, the pool and λ."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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
ERRORS = (
    "error, the largest below each: white is rounding, black one standard deviation of the pixels or more"
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
def state_picture(stage: Scene, states: list[State], plot: PlotPanels) -> Image.Image:
    """One state: private batch, what is made of it, its error, pool and λ.

    Args:
        stage: the client.
        states: all up to the one to be drawn.
        plot: draws pool and λ.
    """
    state = states[-1]
    seen = look(stage, state)
    batch, b = stage.batch, len(stage.batch.inputs)
    private, made = sample_pictures(batch, batch.inputs), in_places(batch, seen.inputs, seen.places)
    wrong, there = np.full(private.shape, 235, dtype=np.uint8), seen.places >= 0
    wrong[there.numpy()] = error_pictures(batch, seen.inputs[seen.places[there]] - batch.inputs[there])
    labels = ["none yet" if not np.isfinite(e) else _short(e) for e in seen.errors.tolist()]
    side = min(64, (drawing.WIDTH - 8) // b - 8)
    pictures = [
        drawing.headline("the private batch, for comparison", 13, drawing.WIDTH),
        drawing.picture_grid(private, side=side),
        drawing.headline(seen.title, 13, drawing.WIDTH),
        drawing.picture_grid(made, side=side),
        drawing.headline(ERRORS, 13),
        drawing.picture_grid(wrong, side=side, labels=labels, frames=[drawing.FAINT] * b),
    ]
    return drawing.below([drawing.below(pictures, gap=0), plot.image(states)], gap=4)


def _short(error: float) -> str:
    return (
        "1e-7"
        if error < 1e-7
        else f"{error:.1g}".replace("e-0", "e-")
        if error < 10
        else f"{min(error, 9999):.0f}"
    )
