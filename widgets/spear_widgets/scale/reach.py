"""Success and time over batch size and width, as the benchmarks have stored them."""

import math
from typing import Any

import numpy as np

from spear_core.study import metrics
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.ribbon import NOT_IN_PAPER
from spear_widgets.kit.stored import results

WIDTHS = (50, 100, 200, 400)
ASKED = 400  # the width that the question speaks of
EXPECTED = {  # its answers, as a line over the batch size: whole up to somewhere, and how it falls
    "at about b = 24": ([24, 24, 2], [0.05, 0.9, 0.9]),
    "between b = 160 and b = 260": ([260, 160, 2], [0.05, 0.9, 0.9]),
    "it does not end": ([290, 2], [0.8, 0.8]),
}
METHODS = {"sampling": (drawing.ORANGE, "o"), "consistency": (drawing.BLUE, "s")}
LABELS = {"sampling": "sampling (SPEAR)", "consistency": f"consistency {NOT_IN_PAPER}"}


def measured(method: str, width: int) -> dict[int, list[dict[str, Any]]]:
    """Stored runs of a method at one width, by batch size: photo crops of 32 × 32, six layers."""
    rows = results("scale", "grid") if method == "sampling" else results("success_map", "map")
    cells: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["m"] == width and row.get("method", method) == method:
            cells.setdefault(row["b"], []).append(row)
    return dict(sorted(cells.items()))


def exact_share(runs: list[dict[str, Any]]) -> tuple[int, int]:
    """Samples that came back exactly, and how many there were."""
    return sum(run["exact"] for run in runs), sum(run["b"] for run in runs)


def whole_up_to(counts: dict[int, tuple[int, int]]) -> int:
    """The largest batch size up to which, of those tried, every sample came back exactly; 0 if none did."""
    gap = min((b for b, (found, of) in counts.items() if found < of), default=math.inf)
    return max((b for b in counts if b < gap), default=0)


class ReachExplorer(base.Explorer):
    """Success and time over the batch size, at one width: sampling and consistency in one picture.

    Attributes:
        state: (exact, of how many samples) by method and batch size.
    """

    name = "reach"
    title = "Success and time over batch size and width"
    description = (
        "Above, the share of samples that come back exactly against the batch size, with error bars, for sampling and "
        "for consistency; below, the CPU seconds of the attack on a logarithmic scale."
    )

    def __init__(self) -> None:
        self._answer = ""
        # where both are whole, the small circle lies on the large square
        styles = [
            Style(LABELS[name], colour, "-", marker, size=size)
            for (name, (colour, marker)), size in zip(reversed(METHODS.items()), (9, 5))
        ]
        shared = {"xscale": "log", "xlim": (1.8, 300), "xlabel": "batch size b"}
        self._success = Chart(
            styles, height=300, ylim=(-0.03, 1.05), ylabel="share of samples exact", **shared
        )
        self._time = Chart(
            styles, height=300, yscale="log", ylim=(1e-3, 100), ylabel="CPU seconds, median", **shared
        )
        for chart in (self._success, self._time):
            chart.ticks((2, 4, 8, 16, 32, 64, 128, 256))
        super().__init__({"width": controls.stops("width m", WIDTHS, 100)}, ("success", "time"))
        self.refresh()

    def answered(self, choice: str) -> None:
        """Draw where the reader expected the end, beside what was measured at that width."""
        self._answer = choice
        self.set(width=ASKED)

    def update(self) -> None:
        """Draw the present setting."""
        m = self.values["width"]
        self.state = {}
        words = []
        for method in METHODS:
            cells = measured(method, m)
            counts = {b: exact_share(runs) for b, runs in cells.items()}
            self.state[method] = counts
            shares = [found / of for found, of in counts.values()]
            ends = [metrics.share_interval(*pair) for pair in counts.values()]
            self._success.put(LABELS[method], list(counts), shares, ends)
            seconds = [float(np.median([run["seconds"] for run in runs])) for runs in cells.values()]
            self._time.put(LABELS[method], list(cells), seconds)
            words.append(f"b = <b>{whole_up_to(counts)}</b> with {method}, of {max(counts)} tried")
        for chart in (self._success, self._time):
            chart.mark(m / 2, "b = m/2")
        self._success.expect(*(EXPECTED[self._answer] if self._answer and m == ASKED else ((), ())))
        self.show("success", self._success.image())
        self.show("time", self._time.image())
        self.say(
            f"m = {m}: every photograph came back exactly up to {'; up to '.join(words)}. The line is b = m/2."
        )
