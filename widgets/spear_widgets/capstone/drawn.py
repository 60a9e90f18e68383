"""What the capstone shows: the five messages as they arrived, and rows as pictures."""

from typing import Any

import numpy as np
from torch import Tensor

from spear_widgets.capstone.hand_in import as_rows
from spear_widgets.capstone.messages import NAMES, as_batch, message
from spear_widgets.kit import base, drawing
from spear_widgets.kit.samples import picture_of

ROWS = 16  # of each gradient: enough to see that there is nothing to see


def title_picture() -> base.Picture:
    """The first layer's part of each message, in colours."""
    shown = []
    for name in NAMES:
        gradient = next(iter(message(name).gradients.values())).numpy()[:ROWS]
        limit = float(np.quantile(np.abs(gradient), 0.99))
        shown.append((name, drawing.enlarged(drawing.signed_colours(gradient, limit), 768, 4 * ROWS)))
    words = (
        "Five strips of coloured noise, part of what each of the five clients sent for its first layer. "
        "No photograph is to be seen in them."
    )
    return base.Picture(drawing.named(shown, 80), words)


def pictures(recovered: Any) -> base.Picture:
    """Rows, shape (k, 768), as pictures.

    Raises:
        ValueError: rows of another form.
    """
    rows: Tensor = as_rows("…", recovered)
    return picture_of(as_batch(rows), rows, f"{len(rows)} rows as pictures.")
