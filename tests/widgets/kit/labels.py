"""Where the words of a figure are: which are cut off at its edge, and which lie on each other."""

import itertools

from matplotlib.axis import Axis
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from spear_widgets.kit.canvas import Canvas


def boxes(canvas: Canvas) -> list[tuple[str, Bbox]]:
    """Every level text that is drawn, with its place on the picture."""
    canvas.image()
    beyond = {
        label for axes in canvas.figure.axes for axis in (axes.xaxis, axes.yaxis) for label in unseen(axis)
    }
    texts = canvas.figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [
        (t.get_text(), t.get_window_extent())
        for t in texts
        if t.get_text().strip() and not t.get_rotation() and t not in beyond
    ]


def unseen(axis: Axis) -> list[Text]:
    """Labels of ticks beyond the ends of an axis, which matplotlib keeps and does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    slack = 1e-9 * (high - low)
    return [tick.label1 for tick in ticks if not low - slack <= tick.get_loc() <= high + slack]


def touching(canvas: Canvas) -> list[str]:
    """What touches what, and what leaves the picture."""
    found = boxes(canvas)
    whole = canvas.figure.bbox
    pairs = [f"{a} / {b}" for (a, one), (b, two) in itertools.combinations(found, 2) if one.overlaps(two)]
    return pairs + [a for a, box in found if not (whole.contains(*box.min) and whole.contains(*box.max))]
