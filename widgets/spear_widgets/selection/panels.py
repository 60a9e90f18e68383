"""The pool as a scatter of zeros, and λ over the states."""

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from spear_core.search import State
from spear_core.spear.zeros import default_threshold
from spear_widgets.kit import drawing
from spear_widgets.kit.canvas import Canvas


class PlotPanels:
    """The pool as a scatter of zeros, and λ over the states.

    What moves is drawn on stored axes, which are drawn anew only when a limit changes: it keeps a step quick.
    """

    def __init__(self, counted: str = "state", first: int = 1) -> None:
        """Make the axes.

        Args:
            counted: what the states are called on the axis.
            first: number of the first one.
        """
        self._first = first
        self._limits: tuple[float, ...] = ()
        self._canvas = Canvas(drawing.WIDTH, 210)
        self._pool = self._canvas.axes(0.07, 0.24, 0.45, 0.63)
        self._trace = self._canvas.axes(0.62, 0.24, 0.36, 0.63)
        looks = (
            ("mixture?", "x", drawing.FAINT, 5),
            ("unique", "o", drawing.BLUE, 6),
            ("chosen", "D", drawing.ORANGE, 7),
        )
        self._kinds = [
            self._pool.plot([], [], mark, color=tint, markersize=size, label=name)[0]
            for name, mark, tint, size in looks
        ]
        self._pool.legend(fontsize=9, loc="upper right", ncols=3, framealpha=0.9)
        (self._least,) = self._pool.plot([], [], "--", color=drawing.INK, linewidth=1)
        self._pool.set(ylabel="zeros of L q", xlabel="directions in the pool, most zeros first (dashed: τ m)")
        (self._match,) = self._trace.plot([], [], "D-", color=drawing.ORANGE, markersize=5, linewidth=1)
        self._trace.axhline(1, color=drawing.INK, linestyle="--", linewidth=1)
        self._trace.set(xlabel=counted, ylabel="λ")
        self._titles = [
            axes.set_title(" ", fontsize=11, loc="left", y=1.0)  # looking for a free place takes a while
            for axes in (self._pool, self._trace)
        ]
        for axes in (self._pool, self._trace):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        self._canvas.moving(*self._kinds, self._least, self._match, *self._titles)

    def image(self, states: list[State]) -> Image.Image:
        """The pool of the last state, and λ of them all."""
        values = [np.nan if state.reconstruction is None else state.sparsity_match for state in states]
        self._set_limits(states[-1], values)
        self._set_pool(states[-1])
        self._match.set_data(range(self._first, self._first + len(values)), values)
        self._titles[1].set_text("no batch chosen yet" if np.isnan(values[-1]) else f"λ = {values[-1]:.4f}")
        return self._canvas.image()

    def _set_limits(self, state: State, values: list[float]) -> None:
        m = len(state.low_rank.factor)
        # in coarse steps, so that they seldom change
        members, count = _room(len(state.pool), 20), _room(len(values), 8)
        low = 0.5 if all(np.isnan(value) or value >= 0.5 for value in values) else 0.0
        limits: tuple[float, ...] = (m, members, count, low)
        if self._limits == limits:
            return
        self._limits = limits
        self._pool.set(xlim=(0, members + 1), ylim=(0, 0.75 * m))
        self._trace.set(xlim=(self._first - 0.5, self._first + count - 0.5), ylim=(low, 1.05))
        self._canvas.redraw()

    def _set_pool(self, state: State) -> None:
        pool, chosen = state.pool, set(state.chosen)
        places: list[list[tuple[int, int]]] = [[], [], []]
        for place, k in enumerate(pool.zeros.argsort(descending=True).tolist(), 1):
            kind = 2 if k in chosen else 1 if bool(pool.unique[k]) else 0
            places[kind].append((place, int(pool.zeros[k])))
        for line, points in zip(self._kinds, places):
            line.set_data([x for x, _ in points], [y for _, y in points])
        least = default_threshold(state.low_rank) * len(state.low_rank.factor)
        self._least.set_data(self._pool.get_xlim(), [least, least])
        self._titles[0].set_text(f"{state.samples_drawn:,} draws, pool of {len(pool)}")


def _room(count: int, least: int) -> int:
    """The first of `least`, twice as many, four times as many, … that is enough."""
    while least < count:
        least *= 2
    return least
