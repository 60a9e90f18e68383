"""The stored curves of the defences: shares, accuracy and PSNR over the knob, and FedAvg case by case."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from spear_core.study import metrics
from spear_core.study.defended import DEFENCES
from spear_widgets.kit import base, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.charts import Style
from spear_widgets.kit.words import middle
from spear_widgets.limits.rows import measured, shown

EXACT = Style("exact (90 dB or more)", drawing.BLUE, "-", "o")
SEEN = Style("recognisable (25 dB or more)", drawing.ORANGE, "--", "^")
ACCURACY = Style("accuracy on unseen digits", drawing.GREEN, ":", "s")
MEDIAN = Style("median PSNR, with quartiles", drawing.INK, "-", "v")
SHARES = (EXACT, SEEN, ACCURACY)
RUN: dict[str, Any] = {"color": drawing.PURPLE, "markersize": 9, "zorder": 5}  # what one run has just given
NOTHING = 0.0  # dB: where samples stand that did not come back
DECIBELS = {NOTHING: "nothing", metrics.SEEN_DB: "25 dB", metrics.EXACT_DB: "90 dB", 160.0: "160 dB"}
TOP = 190.0  # dB on the axis
LONG_LABELS = 32  # characters of all ticks together, beyond which they are turned in a small picture


def height(decibel: float) -> float:
    """Where a PSNR is drawn."""
    return float(np.clip(decibel, NOTHING, TOP))


# ---------------------------------------------------------------- on any axes
def draw_shares(axes: Axes, key: str) -> None:
    """Shares of exact and of recognisable samples, and the accuracy, over the steps of a knob."""
    values = DEFENCES[key].values
    found = [measured(key, value) for value in values]
    for style, decibel in ((EXACT, metrics.EXACT_DB), (SEEN, metrics.SEEN_DB)):
        _line(axes, key, style, [m.share(decibel) for m in found])
        ends = [metrics.share_interval(*m.count(decibel)) for m in found]
        axes.vlines(range(len(values)), *zip(*ends), color=style.colour, linewidth=1)
    if any(m.networks for m in found):
        _line(axes, key, ACCURACY, [math.nan if m.accuracy is None else m.accuracy for m in found])
    axes.set(ylim=(-0.06, 1.08), yticks=[0, 0.5, 1])
    axes.set_yticklabels(["0", "50 %", "100 %"])
    _frame(axes, key)


def draw_decibels(axes: Axes, key: str) -> None:
    """Median PSNR and its quartiles over the steps of a knob."""
    values = DEFENCES[key].values
    quartiles = [np.percentile(measured(key, value).psnr, [25, 50, 75]) for value in values]
    low, middle, high = ([height(q[i]) for q in quartiles] for i in range(3))
    _line(axes, key, MEDIAN, middle)
    axes.vlines(range(len(values)), low, high, color=MEDIAN.colour, linewidth=1)
    axes.set(ylim=(NOTHING - 12, TOP), yticks=list(DECIBELS))
    axes.set_yticklabels(list(DECIBELS.values()))
    _frame(axes, key)


def _line(axes: Axes, key: str, style: Style, heights: Sequence[float]) -> None:
    axes.plot(range(len(heights)), heights, label=style.label, **_looks(style, _ordered(key)))


def _ordered(key: str) -> bool:
    """Whether the values of a knob are numbers: names have no order that a line could show."""
    return not isinstance(DEFENCES[key].values[0], str)


def _looks(style: Style, ordered: bool) -> dict[str, Any]:
    return {
        "linestyle": style.line if ordered else "",
        "marker": style.marker,
        "color": style.colour,
        # recognisable includes exact: the hollow marker stays visible around the full one
        "fillstyle": "none" if style is SEEN else "full",
        "markersize": 10 if style is SEEN else 6,
    }


def _frame(axes: Axes, key: str) -> None:
    values = DEFENCES[key].values
    axes.set_xlim(-0.3, len(values) - 0.7)
    axes.set_xticks(range(len(values)), [shown(value) for value in values])
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


class Curves:
    """One defence on a whole-width picture, with the present knob and what one run has just given.

    Attributes:
        canvas: the picture.
    """

    def __init__(self, key: str) -> None:
        self.canvas = Canvas(drawing.WIDTH, 400)
        self._ordered = _ordered(key)
        above = self.canvas.axes(0.08, 0.58, 0.66, 0.38)
        below = self.canvas.axes(0.08, 0.14, 0.66, 0.38)
        draw_shares(above, key)
        draw_decibels(below, key)
        above.tick_params(labelbottom=False)
        below.set_xlabel(DEFENCES[key].knob)
        (self._exact,), (self._median,) = (axes.plot([], [], "D", **RUN) for axes in (above, below))
        self._knob = [axes.axvline(0, color=drawing.INK, linewidth=1) for axes in (above, below)]
        self.canvas.moving(*self._knob, self._exact, self._median)

    def image(self, knob: int, psnr: Tensor | None) -> Image.Image:
        """The picture with the knob at a step, and a point for a run if there is one."""
        for line in self._knob:
            line.set_xdata([knob, knob])
        if psnr is None:
            self._exact.set_data([], [])
            self._median.set_data([], [])
        else:
            self._exact.set_data([knob], [float((psnr >= metrics.EXACT_DB).double().mean())])
            self._median.set_data([knob], [height(middle(psnr))])
        picture = self.canvas.image()
        legends = _legends(self._ordered, drawing.page())
        picture.paste(legends, (picture.width - legends.width, 0))
        return picture


@cache
def _legends(ordered: bool, page: drawing.Look) -> Image.Image:
    """What the lines and points of `Curves` are, beside its axes: the same for many defences, so drawn once a page."""
    canvas = Canvas(drawing.WIDTH // 4, 400)
    for styles, run, at in (
        (SHARES, "exact in this batch", 0.77),
        ((MEDIAN,), "median of this batch", 0.33),
    ):
        handles = [Line2D([], [], label=style.label, **_looks(style, ordered)) for style in styles]
        handles.append(Line2D([], [], linestyle="", marker="D", label=run, **RUN))
        canvas.figure.legend(
            handles=handles, loc="center left", bbox_to_anchor=(0, at), frameon=False, fontsize=9
        )
    return canvas.image()


# ---------------------------------------------------------------- pictures for the end of a cell
def curves(*keys: str) -> base.Picture:
    """Defences side by side: shares above, PSNR below."""
    names = ", ".join(DEFENCES[key].name for key in keys)
    words = (
        f"Curves over the knob of each of these defences: {names}. Above, the shares of exact and of recognisable "
        "samples, and the accuracy where it was measured; below, the median PSNR. The numbers are folded below it."
    )
    return base.Picture(side_by_side(keys).image(), words)


def side_by_side(keys: Sequence[str]) -> Canvas:
    """The figure of `curves`."""
    canvas = Canvas(drawing.WIDTH, 400)
    left, width = 0.075, 0.925 / len(keys)
    for i, key in enumerate(keys):
        at = left + i * width
        above = canvas.axes(at, 0.63, width - 0.03, 0.29)
        below = canvas.axes(at, 0.29, width - 0.03, 0.29)
        draw_shares(above, key)
        draw_decibels(below, key)
        above.set_title(DEFENCES[key].name, fontsize=10)
        below.set_xlabel(DEFENCES[key].knob, fontsize=9)
        for axes in (above, below):
            axes.tick_params(labelsize=8, labelleft=i == 0)
        above.tick_params(labelbottom=False)
        if sum(len(shown(value)) for value in DEFENCES[key].values) > LONG_LABELS:
            turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
            below.set_xticks(below.get_xticks(), [t.get_text() for t in below.get_xticklabels()], **turned)
        if i == 0:
            canvas.figure.legend(
                *_legend(above, below), loc="lower center", ncols=4, fontsize=9, frameon=False
            )
    return canvas


def _legend(*drawn: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = [], []
    for axes in drawn:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.append(handle)
            labels.append(label)
    return handles, labels
