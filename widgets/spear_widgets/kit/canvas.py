"""A figure that is updated in place: what moves is drawn on a stored background."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from spear_widgets.kit.drawing import PAPER, SCALE, WIDTH, enlarged, fitted

DPI = 100  # page pixels of an inch


class Canvas:
    """A matplotlib figure without a window that lives as long as its explorer.

    Artists passed to `moving` are drawn on a stored background, so a slider move redraws only those.

    Attributes:
        figure: make the axes on it once, then change the artists' data.
    """

    def __init__(self, width: int = WIDTH, height: int = 360) -> None:
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI * SCALE, facecolor=PAPER)
        self._agg = FigureCanvasAgg(self.figure)
        self._moving: list[Artist] = []
        self._background: object | None = None

    def axes(self, left: float, bottom: float, width: float, height: float, **settings: Any) -> Axes:
        """Axes without a frame above and at the right, at shares of the figure; settings are those of `Axes.set`."""
        axes = self.figure.add_axes((left, bottom, width, height))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(**settings)
        return axes

    def moving(self, *artists: Artist) -> None:
        """Register what changes between two pictures; call `redraw` when anything else has changed."""
        for artist in artists:
            artist.set_animated(True)
        self._moving += artists
        self._background = None

    def redraw(self) -> None:
        """Forget the stored background, because something that does not move has changed."""
        self._background = None

    def pixel(self, axes: Axes, x: float, y: float) -> tuple[float, float]:
        """Where a point of some axes is on the page, from the picture's left and from its top."""
        across, up = axes.transData.transform((x, y))
        return across / SCALE, (self.figure.bbox.height - up) / SCALE

    def inset(self, picture: Image.Image, axes: Axes, pixels: np.ndarray) -> None:
        """Put a small picture on the figure's where some empty axes are, enlarged without smoothing.

        Args:
            picture: from `image`; is changed.
            axes: with frame and title, as far as they are wanted.
            pixels: shape (H, W, 3), float in [0, 1] or uint8.
        """
        left, bottom, right, top = (round(end) for end in axes.bbox.extents)
        small = enlarged(pixels, (right - left) / SCALE, (top - bottom) / SCALE)
        picture.paste(small, (left, picture.height - top))

    def image(self) -> Image.Image:
        """The figure as it is now, in the colours of the page."""
        if self._background is None:
            self._agg.draw()
            if self._moving:
                self._background = self._agg.copy_from_bbox(self.figure.bbox)
        else:
            self._agg.restore_region(self._background)
        for artist in sorted(self._moving, key=lambda artist: artist.get_zorder()):
            if artist.axes is None:
                self.figure.draw_artist(artist)
            else:
                artist.axes.draw_artist(artist)
        pixels = self._agg.buffer_rgba()
        height, width = pixels.shape[:2]  # how matplotlib rounds the figure's size is its own business
        drawn = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1).convert("RGB")
        return fitted(drawn)


class Pixels(Artist):
    """A picture that goes on a figure as it is; matplotlib's own images are scaled and clipped, which takes long.

    Attributes:
        picture: what is drawn, its lowest line first.
    """

    def __init__(self, left: float, bottom: float, zorder: float) -> None:
        super().__init__()
        self.picture = Image.new("RGB", (1, 1))
        self._corner = (left, bottom)
        self.set_zorder(zorder)

    def draw(self, renderer: RendererBase) -> None:
        """Called by matplotlib."""
        renderer.draw_image(renderer.new_gc(), *self._corner, np.array(self.picture.convert("RGBA")))


def plain_ticks(axis: Axis, at: Sequence[float]) -> None:
    """Plain numbers on a logarithmic axis: powers are typeset, which takes longer than all the rest."""
    axis.set_ticks(list(at), labels=[f"{tick:,g}" for tick in at])
    axis.axes.minorticks_off()
