"""Probability that all directions have been met after N draws."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spear_core.client import data
from spear_core.study import collecting, metrics, theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.scene import SIDE, of_batch, scene
from spear_widgets.theory.rejection import KINDS

RUNS = 60  # repetitions of one collection
POINTS = 9  # measured points on a curve
FACTORS = {  # of draws, for one sample more: the answers to the question
    "about as many draws": 1,
    "about twice as many draws": 2,
    "about a hundred times as many": 100,
}
ASKED = 6  # the batch that gets one sample more


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


@lru_cache(maxsize=64)
def odds(kind: str, batch_size: int, width: int, seed: int) -> collecting.Collection:
    """Draw from a batch until all directions are met, `RUNS` times."""
    grads = private_grads(kind, batch_size, width, seed)
    return collecting.collect(grads, RUNS, generator=torch.Generator().manual_seed(seed))


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
        self._factor = 0
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
                "kind": controls.dropdown("data", KINDS),
                "batch_size": controls.slider("batch size b", ASKED, 2, 10),
                "width": controls.slider("width m", 200, 50, 400, step=50),
                "seed": controls.slider("seed", 0, 0, 9),
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
        expected = self._factor > 0 and b == ASKED + 1
        self._expect(grid if expected else [])
        self.show("picture", self._chart.image())
        low, high = collecting.predicted_range(b, values["width"])
        self.say(
            f"Expected draws: H<sub>b</sub>·2<sup>b−1</sup> = {theory.expected_draws(b):,.0f} in the limit; "
            f"{low:,.0f} to {high:,.0f} for fair coins at this width; {self.state.expected:,.0f} from the zeros of "
            f"this batch. <b>Measured: {self.state.mean:,.0f} ± {2 * self.state.error:,.0f}</b>."
            + (
                f" Dotted: the line of b = {ASKED} at {self._factor} times the draws, as you said."
                if expected
                else ""
            )
        )

    def answered(self, choice: str) -> None:
        """One sample more, and beside it the line of the batch before, moved as far as the reader expected."""
        self._factor = FACTORS[choice]
        self.set(batch_size=ASKED + 1)

    def _expect(self, grid: list[float]) -> None:
        values = self.values
        before = odds(values["kind"], ASKED, values["width"], values["seed"]).hits
        shares = [collecting.completed(n / self._factor, before) for n in grid]
        rising = [(n, share) for n, share in zip(grid, shares) if 0.3 < share < 0.999]
        self._chart.expect([n for n, _ in rising], [share for _, share in rising], right=self._factor > 1)
