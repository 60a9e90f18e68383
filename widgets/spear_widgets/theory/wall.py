"""What b costs: the exponential wall of draws, and the road around it."""

import math
from collections.abc import Callable
from typing import Any

from spear_core.study import theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.stored import results

YEAR = 365.25 * 86400
SPANS = (("second", 1.0), ("day", 86400.0), ("year", YEAR), ("age of the universe", 13.8e9 * YEAR))


def duration(seconds: float) -> str:
    """Seconds in words that one can imagine."""
    for name, span in (("years", YEAR), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * span:
            number = seconds / span
            return f"{number:,.0f} {name}" if number < 1e7 else f"10^{math.log10(number):.0f} {name}"
    return f"{seconds:.1f} seconds" if seconds >= 0.1 else "less than 0.1 seconds"


def mean_by_batch_size(part: str, value: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[int, float]:
    """Geometric mean of a stored number over the rows that are wanted, by batch size."""
    found: dict[int, list[float]] = {}
    for row in results("theory", part):
        if wanted(row):
            found.setdefault(row["b"], []).append(math.log(row[value]))
    return {b: math.exp(sum(logs) / len(logs)) for b, logs in sorted(found.items())}


class WallExplorer(base.Explorer):
    """What b costs: draws at any speed, and the road of notebook 06.

    Attributes:
        draws: expected number at the present b.
        seconds: at the present speed.
    """

    name = "wall"
    title = "The wall, and the road around it"
    description = (
        "Time against batch size on a logarithmic scale: the line of sampling rises straight past a day, a year and "
        "the age of the universe, with measured dots at its lower end; the dots of the other road stay below a minute."
    )
    THEORY, NOISE, PHOTOS, ROAD = (
        "draws: H_b · 2^(b−1)",
        "measured: gaussian noise",
        "measured: photographs",
        "no draws (notebook 06), measured",
    )

    def __init__(self) -> None:
        self._chart = Chart(
            [
                Style(self.THEORY, drawing.INK, "--"),
                Style(self.NOISE, drawing.BLUE, marker="o"),
                Style(self.PHOTOS, drawing.ORANGE, marker="s"),
                Style(self.ROAD, drawing.GREEN, "-", "^"),
            ],
            height=420,
            yscale="log",
            xlim=(0, 130),
            ylim=(1e-7, 1e32),
            xlabel="batch size b",
            ylabel="seconds",
        )
        for name, span in SPANS:
            self._chart.axes.axhline(span, color=drawing.FAINT, linewidth=0.8)
            self._chart.axes.text(112, span * 3, name, ha="right", va="bottom", fontsize=9)
        super().__init__(
            {
                "batch_size": controls.slider("batch size b", 24, 2, 128, track=16),
                "speed": controls.stops("draws a second", [(f"{10**k:,}", k) for k in range(3, 13)], 6),
            }
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        b, speed = self.values["batch_size"], 10.0 ** self.values["speed"]
        grid = list(range(2, 129))
        self._chart.put(self.THEORY, grid, [theory.expected_draws(k) / speed for k in grid])
        for label, kind in ((self.NOISE, "gaussian"), (self.PHOTOS, "photos")):
            found = mean_by_batch_size("draws", "mean", lambda row, kind=kind: row["kind"] == kind)  # type: ignore[misc]
            self._chart.put(label, list(found), [mean / speed for mean in found.values()])
        road = mean_by_batch_size("roads", "seconds", lambda row: row["method"] == "consistency")
        self._chart.put(self.ROAD, list(road), list(road.values()))
        self._chart.mark(b, f"b = {b}")
        self.show("picture", self._chart.image())
        self.draws = theory.expected_draws(b)
        self.seconds = self.draws / speed
        last = max(road)
        self.say(
            f"b = {b}: about 10<sup>{math.log10(self.draws):.1f}</sup> draws, at 10<sup>{self.values['speed']}</sup> "
            f"a second <b>{duration(self.seconds)}</b>. Without draws, b = {last} took "
            f"{duration(road[last])} of one core."
        )
