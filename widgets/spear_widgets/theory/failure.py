"""Probability that the pool misses a direction, against the width."""

from functools import lru_cache

from spear_core.study import collecting, metrics, theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.stored import results

FAILURE_WIDTHS = (25, 35, 50, 70, 100, 140, 200, 280, 400)


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
                "batch_size": controls.slider("batch size b", 6, 4, 8, step=2),
                "doublings": controls.stops("draws", [(f"{2**k} × expected", k) for k in range(7)], 1),
                "threshold": controls.slider("threshold τ", 0.2, 0.0, 0.48, step=0.02),
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
        self.show("picture", self._chart.image())
        failed = ", ".join(f"{count} at m = {m}" for m, (count, _) in self.state.items())
        self.say(
            f"{draws:,.0f} draws, {2 ** values['doublings']} times H<sub>b</sub>·2<sup>b−1</sup>; at least τ = "
            f"{tau:.2f} of zeros. Of 300 clients with gaussian inputs, <b>failed: {failed}</b>."
        )
