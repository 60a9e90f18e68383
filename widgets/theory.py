"""Explorers of the theory: each formula as a line, what was measured as dots with error bars on it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from spear_core.client import data, networks
from spear_core.study import collecting, metrics, theory
from widgets import base, drawing
from widgets.scene import SIDE, of_batch, scene
from widgets.stored import results

KINDS = (("gaussian noise", "gaussian"), ("photographs", "photos"), ("handwritten digits", "digits"))
RUNS = 60  # repetitions of one collection
POINTS = 9  # measured points on a curve
LAYER_UNITS = 80_000  # of all fresh layers of one width together
REJECTION_WIDTHS = (20, 40, 80, 160, 320, 640)
FAILURE_WIDTHS = (25, 35, 50, 70, 100, 140, 200, 280, 400)
YEAR = 365.25 * 86400
SPANS = (("second", 1.0), ("day", 86400.0), ("year", YEAR), ("age of the universe", 13.8e9 * YEAR))


# ---------------------------------------------------------------- lines and dots
@dataclass(frozen=True)
class Style:
    """How one series is drawn: a line without marker, or markers with error bars."""

    label: str
    colour: str
    line: str = "none"
    marker: str = ""


class Chart:
    """Fixed axes with series that move: lines, and dots with error bars.

    Attributes:
        axes: where to add what does not move.
    """

    def __init__(self, styles: Sequence[Style], height: int = 380, **axes: Any) -> None:
        self._canvas = drawing.Canvas(drawing.WIDTH, height)
        self.axes: Axes = self._canvas.figure.add_axes((0.09, 0.26, 0.89, 0.67))
        self.axes.set(**axes)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.grid(color="#e6e6e6", linewidth=0.6, zorder=0)
        self._series: dict[str, Line2D] = {}
        self._bars: dict[str, Line2D] = {}
        for style in styles:
            (line,) = self.axes.plot(
                [],
                [],
                linestyle=style.line,
                marker=style.marker,
                color=style.colour,
                label=style.label,
                zorder=3,
            )
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
        self._canvas.moving(*self._bars.values(), *self._series.values(), self._mark, self._words)

    def ticks(self, at: Sequence[int]) -> None:
        """Plain numbers on a logarithmic x axis."""
        drawing.plain_ticks(self.axes.xaxis, at)

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

    def jpeg(self) -> bytes:
        """The chart as it is now."""
        return self._canvas.jpeg()


# ---------------------------------------------------------------- draws
@lru_cache(maxsize=64)
def private_grads(kind: str, batch_size: int, width: int, seed: int) -> Tensor:
    """(∂L/∂Z)ᵀ of a batch of a kind, as its client knows it, shape (b, m)."""
    if kind != "gaussian":
        return scene(kind, batch_size, width, seed, 3).output_grads
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch_size, 3 * SIDE**2, generator=generator)
    labels = torch.randint(10, (batch_size,), generator=generator)
    batch = data.Batch(inputs, labels, 10, None, torch.zeros(1), torch.ones(1))
    return of_batch(batch, width=width, seed=seed, depth=3).output_grads


@dataclass(frozen=True)
class Odds:
    """One batch, drawn from again and again.

    Attributes:
        draws: until all directions were met, one number a run, ascending, shape (`RUNS`,).
        hits: p_i, predicted from the zeros of this batch.
        expected: mean number of draws that follows from them.
    """

    draws: Tensor
    hits: list[float]
    expected: float

    @property
    def mean(self) -> float:
        """Mean number of draws."""
        return float(self.draws.to(torch.float64).mean())

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(self.draws.to(torch.float64).std()) / math.sqrt(len(self.draws))


@lru_cache(maxsize=64)
def odds(kind: str, batch_size: int, width: int, seed: int) -> Odds:
    """Draw from a batch until all directions are met, `RUNS` times."""
    D = private_grads(kind, batch_size, width, seed)
    generator = torch.Generator().manual_seed(seed)
    hits = collecting.hit_probabilities(D, generator=generator)
    taken = collecting.first_hits(D, RUNS, generator=generator).max(dim=1).values
    return Odds(taken.sort().values, hits, theory.expected_draws_each(hits))


def quantiles(draws: Tensor) -> list[int]:
    """Numbers of draws at which to show the measured share: even steps through the sorted runs."""
    return sorted({int(draws[round(i * (len(draws) - 1) / (POINTS - 1))]) for i in range(POINTS)})


class OddsExplorer(base.Explorer):
    """Probability that all directions have been met after N draws.

    Attributes:
        state: what was drawn and predicted.
    """

    name = "odds"
    title = "How likely is it that N draws are enough?"
    description = (
        "The probability that all directions have been met, rising from 0 to 1 with the number of draws: a dashed "
        "line for fair coins, a solid one for the zeros of this batch, and measured dots with error bars on the latter."
    )
    COINS, OWN, MEASURED = "wide layer, fair coins", "zeros of this batch", f"measured, {RUNS} runs, 95 %"

    def __init__(self) -> None:
        self._chart = Chart(
            [
                Style(self.COINS, drawing.INK, "--"),
                Style(self.OWN, drawing.BLUE, "-"),
                Style(self.MEASURED, drawing.ORANGE, marker="o"),
            ],
            xscale="log",
            xlim=(1, 1e6),
            ylim=(0, 1.02),
            xlabel="draws N",
            ylabel="P(all directions met)",
        )
        super().__init__(
            {
                "kind": base.dropdown("data", KINDS),
                "batch_size": base.int_slider("batch size b", 6, 2, 10),
                "width": base.int_slider("width m", 200, 50, 400, step=50),
                "seed": base.int_slider("seed", 0, 0, 9),
            }
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        b = values["batch_size"]
        self.state = odds(values["kind"], b, values["width"], values["seed"])
        grid = np.geomspace(1, 1e6, 160).tolist()
        coin = [theory.asymptotic_hit_probability(b)] * b
        self._chart.put(self.COINS, grid, [collecting.completed(n, coin) for n in grid])
        self._chart.put(self.OWN, grid, [collecting.completed(n, self.state.hits) for n in grid])
        at = quantiles(self.state.draws)
        reached = [int((self.state.draws <= n).sum()) for n in at]
        ends = [metrics.share_interval(count, RUNS) for count in reached]
        self._chart.put(self.MEASURED, at, [count / RUNS for count in reached], ends)
        self.show("picture", self._chart.jpeg())
        low, high = collecting.predicted_range(b, values["width"])
        self.say(
            f"Expected draws: H<sub>b</sub>·2<sup>b−1</sup> = {theory.expected_draws(b):,.0f} in the limit; "
            f"{low:,.0f} to {high:,.0f} for fair coins at this width; {self.state.expected:,.0f} from the zeros of "
            f"this batch. <b>Measured: {self.state.mean:,.0f} ± {2 * self.state.error:,.0f}</b>."
        )


# ---------------------------------------------------------------- rejection
@lru_cache(maxsize=64)
def fresh_zeros(kind: str, width: int) -> Tensor:
    """Zeros of one sample in each of many fresh layers of a width, shape (layers,)."""
    generator = torch.Generator().manual_seed(width)
    if kind == "gaussian":
        x = torch.randn(1, 192, generator=generator)
    else:
        x = data.load(kind, 2, size=8, generator=generator).inputs[:1]
    layers = LAYER_UNITS // width
    model = networks.fully_connected(x.shape[1], layers * width, 2, generator=generator)
    with torch.no_grad():
        silent = model[0](x)[0] <= 0
    return silent.reshape(layers, width).sum(dim=1)


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
                "kind": base.dropdown("data", KINDS),
                "threshold": base.float_slider("threshold τ", 0.4, 0.2, 0.48, step=0.02, track=16),
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
        self.show("picture", self._chart.jpeg())
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


# ---------------------------------------------------------------- failure
@lru_cache(maxsize=256)
def failures(batch_size: int, width: int, draws: float, threshold: float) -> tuple[int, int]:
    """Of the stored clients, how many had a direction that was not drawn or too few zeros; of how many."""
    (row,) = [r for r in results("theory", "failure") if (r["b"], r["m"]) == (batch_size, width)]
    least = theory.least_zeros(width, threshold)
    failed = [not 0 < n <= draws or k < least for n, k in zip(row["draws"], row["zeros"])]
    return sum(failed), len(failed)


class FailureExplorer(base.Explorer):
    """Probability that the pool misses a direction, against the width, for any number of draws.

    Attributes:
        state: (failed, of how many) by width.
    """

    name = "failure"
    title = "How often is some direction missing in the end?"
    description = (
        "The probability that some direction is missing, against the width of the layer: a dashed line for the limit "
        "of wide layers, a solid one for fair coins at finite width, and measured dots with error bars on the latter."
    )
    LIMIT, COINS, MEASURED = (
        "hits as in a wide layer",
        "fair coins, this width",
        "measured, 300 clients, 95 %",
    )

    def __init__(self) -> None:
        self._chart = Chart(
            [
                Style(self.LIMIT, drawing.INK, "--"),
                Style(self.COINS, drawing.BLUE, "-"),
                Style(self.MEASURED, drawing.ORANGE, marker="o"),
            ],
            xscale="log",
            xlim=(20, 500),
            ylim=(0, 1.02),
            xlabel="width m",
            ylabel="P(failure)",
        )
        self._chart.ticks((25, 50, 100, 200, 400))
        super().__init__(
            {
                "batch_size": base.int_slider("batch size b", 6, 4, 8, step=2),
                "doublings": base.int_slider("doublings of the draws", 1, 0, 6),
                "threshold": base.float_slider("threshold τ", 0.2, 0.0, 0.48, step=0.02),
            }
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        b, tau = values["batch_size"], round(values["threshold"], 2)
        draws = 2 ** values["doublings"] * theory.expected_draws(b)
        limit = [theory.failure_probability(b, int(draws), units=m, threshold=tau) for m in FAILURE_WIDTHS]
        coins = [collecting.coin_failure(b, draws, m, tau) for m in FAILURE_WIDTHS]
        self._chart.put(self.LIMIT, FAILURE_WIDTHS, limit)
        self._chart.put(self.COINS, FAILURE_WIDTHS, coins)
        widths = sorted({row["m"] for row in results("theory", "failure")})
        self.state = {m: failures(b, m, draws, tau) for m in widths}
        shares = [count / of for count, of in self.state.values()]
        ends = [metrics.share_interval(*pair) for pair in self.state.values()]
        self._chart.put(self.MEASURED, widths, shares, ends)
        self.show("picture", self._chart.jpeg())
        failed = ", ".join(f"{count} at m = {m}" for m, (count, _) in self.state.items())
        self.say(
            f"{draws:,.0f} draws, {2 ** values['doublings']} times H<sub>b</sub>·2<sup>b−1</sup>; at least τ = "
            f"{tau:.2f} of zeros. Of 300 clients with gaussian inputs, <b>failed: {failed}</b>."
        )


# ---------------------------------------------------------------- the wall
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
    """What b costs: draws at any speed, and the road of notebook 07.

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
        "no draws (notebook 07), measured",
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
                "batch_size": base.int_slider("batch size b", 24, 2, 128, track=16),
                "speed": base.int_slider("draws a second: 10 to the power of", 6, 3, 12),
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
        self.show("picture", self._chart.jpeg())
        self.draws = theory.expected_draws(b)
        self.seconds = self.draws / speed
        last = max(road)
        self.say(
            f"b = {b}: about 10<sup>{math.log10(self.draws):.1f}</sup> draws, at 10<sup>{self.values['speed']}</sup> "
            f"a second <b>{duration(self.seconds)}</b>. Without draws, b = {last} took "
            f"{duration(road[last])} of one core."
        )


def title_picture() -> base.Picture:
    """The wall."""
    explorer = WallExplorer()
    return base.Picture(explorer.static_picture(), WallExplorer.description)
