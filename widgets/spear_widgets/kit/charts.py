"""Fixed axes with series that move: lines, and dots with error bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image

from spear_widgets.kit import drawing
from spear_widgets.kit.canvas import Canvas, plain_ticks


@dataclass(frozen=True)
class Style:
    """How one series is drawn: a line without marker, or markers with error bars."""

    label: str
    colour: str
    line: str = "none"
    marker: str = ""
    size: float = 6


class Chart:
    """Fixed axes with series that move: lines, and dots with error bars.

    Attributes:
        axes: where to add what does not move.
    """

    def __init__(self, styles: Sequence[Style], height: int = 380, **axes: Any) -> None:
        self._canvas = Canvas(drawing.WIDTH, height)
        self.axes: Axes = self._canvas.axes(0.09, 0.26, 0.89, 0.67, **axes)
        self.axes.grid(color="#e6e6e6", linewidth=0.6, zorder=0)
        self._series: dict[str, Line2D] = {}
        self._bars: dict[str, Line2D] = {}
        for style in styles:
            look: dict[str, Any] = {"linestyle": style.line, "marker": style.marker, "color": style.colour}
            look["markersize"] = style.size
            (line,) = self.axes.plot([], [], label=style.label, zorder=3, **look)
            (bar,) = self.axes.plot([], [], color=style.colour, linewidth=1.2, zorder=2)
            self._series[style.label], self._bars[style.label] = line, bar
        figure = self._canvas.figure
        figure.legend(
            handles=list(self._series.values()), loc="lower center", ncols=4, fontsize=9, frameon=False
        )
        (self._mark,) = self.axes.plot([], [], color=drawing.INK, linewidth=1)
        self._words = self.axes.text(
            0, 1.01, "", transform=self.axes.get_xaxis_transform(), ha="center", fontsize=9
        )
        (self._expected,) = self.axes.plot([], [], ":", color=drawing.PURPLE, linewidth=2.5, zorder=4)
        self._said = self.axes.text(0, 0, "", color=drawing.PURPLE, fontsize=10, ha="right", va="bottom")
        self._canvas.moving(*self._bars.values(), *self._series.values(), self._mark, self._words)
        self._canvas.moving(self._expected, self._said)

    def ticks(self, at: Sequence[int]) -> None:
        """Plain numbers on a logarithmic x axis."""
        plain_ticks(self.axes.xaxis, at)

    def put(
        self, label: str, x: Sequence[float], y: Sequence[float], ends: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Set the points of a series, and the ends of their error bars."""
        self._series[label].set_data(list(x), list(y))
        across = [at for at in x for _ in range(3)] if ends else []
        along = [end for low, high in ends for end in (low, high, math.nan)]
        self._bars[label].set_data(across, along)

    def mark(self, x: float, words: str) -> None:
        """A vertical line, with words above it."""
        self._mark.set_data([x, x], self.axes.get_ylim())
        self._words.set(x=x, text=words)

    def expect(
        self, x: Sequence[float], y: Sequence[float], words: str = "you said", *, right: bool = False
    ) -> None:
        """What the reader expected: a dotted line, with words at its beginning; nothing without points."""
        self._expected.set_data(list(x), list(y))
        self._said.set(text=f" {words} " if len(x) else "", ha="left" if right else "right")
        if len(x):
            self._said.set_position((x[0], y[0]))

    def image(self) -> Image.Image:
        """The chart as it is now."""
        return self._canvas.image()

    def on_paper(self) -> Image.Image:
        """The same on white paper, whatever the page is like."""
        with drawing.page_is_paper():
            return self.image()
