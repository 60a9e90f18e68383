"""What b costs: the exponential wall of draws."""

import math
from collections.abc import Callable
from typing import Any

from spear_core.study import theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.stored import results

YEAR = 365.25 * 86400
REACHES = {  # of a computer a thousand times as fast, where this one reaches 35: the answers to the question
    "about 10 samples more": 45,
    "twice as many samples": 70,
    "a thousand times as many samples": 35_000,
}
FASTER = 9  # power of ten of its draws a second
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
    """What b costs: draws at any speed.

    Attributes:
        draws: expected number at the present b.
        seconds: at the present speed.
    """

    name = "wall"
    title = "The wall"
    description = (
        "Time against batch size on a logarithmic scale: the line of sampling rises straight past a day, a year and "
        "the age of the universe, with measured dots at its lower end."
    )
    THEORY, NOISE, PHOTOS = "draws: H_b · 2^(b−1)", "measured: gaussian noise", "measured: photographs"

    def __init__(self) -> None:
        self._reach = 0
        self._chart = wall_chart(self.THEORY, self.NOISE, self.PHOTOS)
        super().__init__(
            {
                "batch_size": controls.slider("batch size b", 24, 2, 128, track=16),
                "speed": controls.stops("draws a second", [(f"{10**k:,}", k) for k in range(3, 13)], 6),
            }
        )
        self.refresh()

    def answered(self, choice: str) -> None:
        """Draw how far the faster computer gets in a day by the reader's answer, and its line."""
        self._reach = REACHES[choice]
        self.set(speed=FASTER, batch_size=45)

    def update(self) -> None:
        """Draw the present setting."""
        b, speed = self.values["batch_size"], 10.0 ** self.values["speed"]
        grid = list(range(2, 129))
        self._chart.put(self.THEORY, grid, [theory.expected_draws(k) / speed for k in grid])
        put_measured(self._chart, speed, self.NOISE, self.PHOTOS)
        self._chart.mark(b, f"b = {b}")
        if self._reach and self.values["speed"] == FASTER:
            at, day = min(self._reach, 128), SPANS[1][1]
            words = f"you said {self._reach:,}" + (", further to the right" if at < self._reach else "")
            self._chart.expect([at, at], [1e-6, day], words)
        else:
            self._chart.expect([], [])
        self.show("picture", self._chart.image())
        self.draws = theory.expected_draws(b)
        self.seconds = self.draws / speed
        self.say(
            f"b = {b}: about 10<sup>{math.log10(self.draws):.1f}</sup> draws, at 10<sup>{self.values['speed']}</sup> "
            f"a second <b>{duration(self.seconds)}</b>."
        )


def wall_chart(theory_line: str, noise: str, photos: str) -> Chart:
    """Seconds over the batch size, with spans of time that one can imagine."""
    chart = Chart(
        [
            Style(theory_line, drawing.INK, "--"),
            Style(noise, drawing.BLUE, marker="o"),
            Style(photos, drawing.ORANGE, marker="s"),
        ],
        height=420,
        yscale="log",
        xlim=(0, 130),
        ylim=(1e-7, 1e32),
        xlabel="batch size b",
        ylabel="seconds",
    )
    for name, span in SPANS:
        chart.axes.axhline(span, color=drawing.FAINT, linewidth=0.8)
        chart.axes.text(129, span * 3, name, ha="right", va="bottom", fontsize=9)
    return chart


def put_measured(chart: Chart, speed: float, noise: str, photos: str) -> None:
    """The stored draws at a speed."""
    for label, kind in ((noise, "gaussian"), (photos, "photos")):
        found = mean_by_batch_size("draws", "mean", lambda row, kind=kind: row["kind"] == kind)  # type: ignore[misc]
        chart.put(label, list(found), [mean / speed for mean in found.values()])


def title_picture() -> base.Picture:
    """The measured dots at a million draws a second, and not the line that they lie on."""
    chart = wall_chart("?", WallExplorer.NOISE, WallExplorer.PHOTOS)
    put_measured(chart, 1e6, WallExplorer.NOISE, WallExplorer.PHOTOS)
    return base.Picture(
        chart.on_paper(),
        "Time against batch size on a logarithmic scale: dots measured for batches of 2 to 16, at the lower left. "
        "The rest of the picture, up to batches of 128 and the age of the universe, is empty.",
    )
