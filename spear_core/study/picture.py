"""One picture of the story: private photographs, what was sent, what came back, and the difference."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spear_core import Inversion
from spear_core.client.data import Batch, as_pictures
from spear_core.study.metrics import compare

ERROR_FACTOR = 1e6  # float32 errors of about 1e-7 become visible
TILE, GAP, MARGIN, HEADING = 96, 4, 16, 28
COLUMNS = 12  # tiles per line
INK, PAPER, PLACEHOLDER = (32, 32, 32), (255, 255, 255), 200


def story(batch: Batch, weight_grad: Tensor, inversion: Inversion) -> Image.Image:
    """Four bands of tiles: the private pictures, rows of the gradient, the recovered pictures, the error.

    Of the gradient ∂L/∂W, shape (m, n), b rows are shown, each on its own scale; what is missing leaves a grey tile.

    Raises:
        ValueError: if the batch holds no pictures.
    """
    originals, recovered = batch.pictures(batch.inputs), batch.pictures(inversion.inputs)
    assert batch.shape is not None  # `pictures` has refused table rows
    # grey where nothing came back
    found, errors = (np.full_like(originals, PLACEHOLDER / 255) for _ in range(2))
    order = compare(inversion.inputs, batch.inputs).order
    here = order >= 0
    found[here] = recovered[order[here]]
    difference = batch.original(inversion.inputs.cpu()[order[here]]) - batch.original(
        batch.inputs.cpu()[here]
    )
    errors[here] = as_pictures(ERROR_FACTOR * difference.abs(), batch.shape)
    # the rows of the gradient with the largest entries, each stretched to [0, 1] around grey
    rows = weight_grad[weight_grad.norm(dim=1).argsort(descending=True)[: len(originals)]].detach().cpu()
    sent = as_pictures(0.5 + rows / (4 * rows.std(dim=1, keepdim=True)), batch.shape)
    state = "certified exact" if inversion.certified else "not certified"
    bands = [
        ("Private batch: what never leaves the client", originals),
        ("What the client sends: rows of the gradient, each a mixture of the batch", sent),
        (f"Recovered from the gradient alone ({state})", found),
        (f"Difference from the private batch, magnified {ERROR_FACTOR:,.0f} times", errors),
    ]
    return _stack(bands)


def _stack(bands: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    columns = min(COLUMNS, max(len(tiles) for _, tiles in bands))
    lines = [-(-len(tiles) // columns) for _, tiles in bands]
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    height = MARGIN + sum(HEADING + count * (TILE + GAP) + MARGIN for count in lines)
    sheet = Image.new("RGB", (max(width, 460), height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    top = MARGIN
    for (heading, tiles), count in zip(bands, lines, strict=True):
        draw.text((MARGIN, top), heading, fill=INK, font=font)
        for i, tile in enumerate(tiles):
            place = (MARGIN + i % columns * (TILE + GAP), top + HEADING + i // columns * (TILE + GAP))
            picture = Image.fromarray((tile * 255).round().astype(np.uint8))
            sheet.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST), place)
        top += HEADING + count * (TILE + GAP) + MARGIN
    return sheet
