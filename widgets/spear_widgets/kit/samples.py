"""Samples of a batch as pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spear_core.client.data import Batch
from spear_widgets.kit import base, drawing


def sample_pictures(batch: Batch, inputs: Tensor) -> np.ndarray:
    """Samples as pictures, shape (b, H, W, 3); rows of a table as coloured squares."""
    if batch.shape is not None:
        return batch.pictures(inputs.to(torch.float32))
    n = inputs.shape[1]
    side = -(-n // 6)
    padded = torch.zeros(len(inputs), 6 * side).index_copy_(1, torch.arange(n), inputs.to(torch.float32))
    return drawing.signed_colours(padded.reshape(-1, 6, side).numpy(), 3.0)


def in_places(batch: Batch, inputs: Tensor, places: Tensor) -> np.ndarray:
    """Samples as pictures in the places of the private ones; plain grey where none came back.

    Args:
        batch: the private one.
        inputs: rows, shape (k, n).
        places: for each private sample the row that belongs to it, −1 for none.
    """
    private = sample_pictures(batch, batch.inputs[: len(places)])
    pictures = np.full_like(private, 235 if private.dtype == np.uint8 else 0.92)
    there = places >= 0
    if there.any():
        pictures[there.numpy()] = sample_pictures(batch, inputs[places[there]])
    return pictures


def picture_of(batch: Batch, inputs: Tensor, description: str, labels: Sequence[str] = ()) -> base.Picture:
    """Samples as pictures, for the end of a cell."""
    pictures = sample_pictures(batch, inputs)
    grid = (
        drawing.picture_grid(pictures, side=112, labels=labels)
        if labels
        else on_any_ground(pictures, side=112)
    )
    return base.Picture(grid, description)


def on_any_ground(pictures: np.ndarray, *, side: int, columns: int | None = None) -> Image.Image:
    """A grid without words, as `drawing.picture_grid` makes it, with nothing between its pictures: for any page."""
    grid, filled = (
        drawing.picture_grid(shown, side=side, columns=columns)
        for shown in (pictures, np.zeros_like(pictures))
    )
    grid.putalpha(filled.convert("L").point([255] + [0] * 255))  # all that is not black where pictures are
    return grid


def developing(batch: Batch) -> dict[str, object]:
    """What a stage needs to make pictures of rows by itself (`develop` in stage.js)."""
    n = batch.inputs.shape[1]
    scale, shift = (part.to(torch.float32).expand(n) for part in (batch.scale, batch.shift))
    return {"shape": batch.shape, "scale": scale, "shift": shift}
