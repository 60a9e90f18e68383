"""A matrix as the server sees it, for the head of a notebook: it poses the question and answers nothing."""

from torch import Tensor

from spear_widgets.kit import base, drawing

ROWS, COLUMNS = 56, 240  # of the matrix that are drawn
TILE = 4  # page pixels of an entry


def riddle(matrix: Tensor, words: str) -> base.Picture:
    """A corner of a matrix as coloured tiles: blue below zero, orange above, white near it.

    Args:
        matrix: of any shape; a flat one is drawn with larger tiles.
        words: what it is, in a sentence, which is its text alternative, too.
    """
    corner = matrix[:ROWS, :COLUMNS].float()
    rows, columns = corner.shape
    tall = max(TILE, 96 // rows)
    spread = 3 * float(corner.abs().mean()) or 1.0
    tiles = drawing.enlarged(drawing.signed_colours(corner.numpy(), spread), TILE * columns, tall * rows)
    return base.Picture(drawing.below([tiles, drawing.paragraph(words)]), words)
