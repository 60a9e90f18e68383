"""Probability that a right direction is rejected, against the width."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spear_core.client import data
from spear_core.study import metrics, theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.scene import silent_units

KINDS = (("gaussian noise", "gaussian"), ("photographs", "photos"), ("handwritten digits", "digits"))
LAYER_UNITS = 80_000  # of all fresh layers of one width together
REJECTION_WIDTHS = (20, 40, 80, 160, 320, 640)


@lru_cache(maxsize=64)
def fresh_zeros(kind: str, width: int) -> Tensor:
    """Zeros of one sample in each of many fresh layers of a width, shape (layers,)."""
    generator = torch.Generator().manual_seed(width)
    if kind == "gaussian":
        x = torch.randn(1, 192, generator=generator)
    else:
        x = data.load(kind, 2, size=8, generator=generator).inputs[:1]
    layers = LAYER_UNITS // width
    return silent_units(x, layers * width, generator).reshape(layers, width).sum(dim=1)


def rejected(kind: str, width: int, threshold: float) -> tuple[int, int]:
    """How many right directions have fewer than τ m zeros, of how many."""
    zeros = fresh_zeros(kind, width)
    return int((zeros < theory.least_zeros(width, threshold)).sum()), len(zeros)


class RejectionExplorer(base.Explorer):
    """Probability that a right direction is rejected, against the width.

    Attributes:
        state: (rejected, of how many) by width.
    """

    name = "rejection"
    title = "How often is a right direction rejected?"
    description = (
        "The probability of a false rejection, falling with the width of the layer on logarithmic axes: the exact "
        "binomial line, Chernoff's bound above it, and measured dots with error bars on the line."
    )
    EXACT, BOUND, MEASURED = "P(Bin(m, ½) < τ m)", "Chernoff's bound", "measured in fresh layers, 95 %"

    def __init__(self) -> None:
        self._chart = Chart(
            [
                Style(self.EXACT, drawing.BLUE, "-"),
                Style(self.BOUND, drawing.INK, "--"),
                Style(self.MEASURED, drawing.ORANGE, marker="o"),
            ],
            xscale="log",
            yscale="log",
            xlim=(15, 800),
            ylim=(1e-5, 1.5),
            xlabel="width m",
            ylabel="P(false rejection)",
        )
        self._chart.ticks(REJECTION_WIDTHS)
        super().__init__(
            {
                "kind": controls.dropdown("data", KINDS),
                "threshold": controls.slider("threshold τ", 0.4, 0.2, 0.48, step=0.02, track=16),
            }
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        kind, tau = self.values["kind"], round(self.values["threshold"], 2)
        grid = [int(m) for m in np.geomspace(15, 800, 120)]
        exact = _rejection_line(tau)
        self._chart.put(self.EXACT, grid, exact)
        self._chart.put(self.BOUND, grid, [theory.false_rejection_bound(m, tau) for m in grid])
        self.state = {m: rejected(kind, m, tau) for m in REJECTION_WIDTHS}
        seen = {m: pair for m, pair in self.state.items() if pair[0]}
        ends = [metrics.share_interval(*pair) for pair in seen.values()]
        self._chart.put(self.MEASURED, list(seen), [count / of for count, of in seen.values()], ends)
        self.show("picture", self._chart.image())
        inside = sum(
            low <= theory.false_rejection(m, tau) <= high
            for m, (low, high) in ((m, metrics.share_interval(*pair)) for m, pair in self.state.items())
        )
        count, of = self.state[80]
        self.say(
            f"τ = {tau:.2f}. At m = 80, {count} of {of} right directions were rejected; theory says "
            f"{theory.false_rejection(80, tau) * of:.1f}. At <b>{inside} of {len(self.state)}</b> widths the formula "
            f"lies inside the error bar; widths at which none was rejected have no dot."
        )


@lru_cache(maxsize=32)
def _rejection_line(threshold: float) -> list[float]:
    return [theory.false_rejection(int(m), threshold) for m in np.geomspace(15, 800, 120)]
