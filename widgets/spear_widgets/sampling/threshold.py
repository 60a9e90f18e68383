"""The threshold τ on the number of zeros, and its two errors."""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spear_core.client import data
from spear_core.spear.zeros import default_threshold
from spear_core.study import metrics, theory
from spear_core.study.candidates import Candidates
from spear_widgets.kit import base, controls, drawing, words
from spear_widgets.kit.canvas import Canvas, plain_ticks
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.scene import DATA, scene, silent_units
from spear_widgets.sampling.candidate import CANDIDATES, candidates

LAYER_UNITS = 100_000  # units of fresh layers in which rejections are counted
LAYER_SAMPLES = 4
SMALL_SIDE = 8  # pixels of the photographs that go into them: the law holds for any input
WIDTHS = (50, 100, 200, 400)
THRESHOLDS = tuple(round(0.01 * k, 2) for k in range(5, 61))
SHARES = {"hardly any": 0.02, "about one quarter": 0.25, "about one half": 0.5}  # the answers to the question
ASKED_TAU = 0.4  # of the question on width
LEAST_COUNT = 0.5  # where the logarithmic axis of counts begins


@lru_cache(maxsize=16)
def fresh_shares(name: str, width: int) -> Tensor:
    """Shares of silent units of a few samples in many fresh layers of one width, shape (layers · samples,).

    Args:
        name: of the data.
        width: m, a divisor of `LAYER_UNITS`.
    """
    return _silent_units(name).reshape(-1, width).to(torch.float32).mean(dim=1)


@lru_cache(maxsize=len(DATA))
def _silent_units(name: str) -> Tensor:
    """Which of many units are silent for a few samples, shape (samples, units): layers of any width are cut from it."""
    generator = torch.Generator().manual_seed(0)
    batch = data.load(name, LAYER_SAMPLES, size=SMALL_SIDE, generator=generator)
    return silent_units(batch.inputs, LAYER_UNITS, generator)


class ThresholdExplorer(base.Explorer):
    """Zeros of thousands of candidates, and the threshold that parts right from wrong.

    Attributes:
        stage: client and server of the present batch.
        candidates: directions drawn from it.
        rejected: share of right directions with fewer than τ m zeros, measured in fresh layers.
        accepted: share of wrong candidates with at least τ m zeros, measured on this batch.
    """

    name = "threshold"
    title = "The threshold τ and its two errors"
    description = (
        "Left, a histogram of the number of zeros of thousands of candidates: wrong ones pile up near zero, right "
        "ones near one half; right, how the shares of both errors depend on the threshold, measured and in theory."
    )

    def __init__(self) -> None:
        self._panels = ThresholdPanels()
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 6, 3, 10),
                "width": controls.dropdown("width m", WIDTHS, 200),
                "threshold": controls.slider("threshold τ", 0.2, THRESHOLDS[0], THRESHOLDS[-1], step=0.01),
            },
        )
        self.refresh()

    def answered(self, choice: str) -> None:
        """Draw where the reader expected the mixtures of two."""
        self._panels.expect(SHARES[choice])
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.stage = scene(values["data"], values["batch_size"], values["width"])
        self.candidates = candidates(self.stage, CANDIDATES)
        self.shares = fresh_shares(values["data"], values["width"])
        tau, m = round(values["threshold"], 2), values["width"]
        (self.rejected,), (self.accepted,) = (r.tolist() for r in self.candidates.errors(self.shares, [tau]))
        self._panels.put(self.candidates, self.shares)
        self.show("picture", self._panels.image(tau))
        self.say(
            f"τ = {tau:.2f}: at least <b>{theory.least_zeros(m, tau)} of {m}</b> zeros. Right directions rejected: "
            f"measured {words.chance(self.rejected)}, theory {words.chance(theory.false_rejection(m, tau))}. "
            f"Wrong candidates kept: measured {words.chance(self.accepted)}. SPEAR's search here uses "
            f"τ = {default_threshold(self.stage.low_rank):.2f}."
        )


@lru_cache(maxsize=len(WIDTHS))
def theory_curves(units: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """At each of the `THRESHOLDS`: right ones rejected, the bound on that, and mixtures of two kept.

    Args:
        units: m.
    """
    return (
        tuple(theory.false_rejection(units, tau) for tau in THRESHOLDS),
        tuple(theory.false_rejection_bound(units, tau) for tau in THRESHOLDS),
        tuple(theory.false_acceptance(units, tau) for tau in THRESHOLDS),
    )


def rejections() -> base.Picture:
    """False rejections over the width: formula, bound, and counts in fresh layers."""
    formula, bound, counted = (
        f"{name}, τ = {ASKED_TAU:g}" for name in ("formula", "Chernoff's bound", "counted")
    )
    chart = Chart(
        [
            Style(formula, drawing.ORANGE, "-"),
            Style(bound, drawing.ORANGE, ":"),
            Style(counted, drawing.BLUE, marker="D"),
        ],
        xscale="log", yscale="log", xlim=(40, 500), ylim=(1e-6, 2), xlabel="width m",
        ylabel="right directions rejected",
    )  # fmt: skip
    chart.ticks(WIDTHS)
    grid = range(50, 401, 10)
    chart.put(formula, grid, [theory.false_rejection(m, ASKED_TAU) for m in grid])
    chart.put(bound, grid, [theory.false_rejection_bound(m, ASKED_TAU) for m in grid])
    counts = {m: rejected_of(m) for m in WIDTHS}
    seen = {m: pair for m, pair in counts.items() if pair[0]}  # no share of nothing on a logarithmic axis
    ends = [metrics.share_interval(*pair) for pair in seen.values()]
    chart.put(counted, list(seen), [found / of for found, of in seen.values()], ends)
    return base.Picture(
        chart.on_paper(),
        "The share of right directions that are rejected, over the width of the layer, both axes logarithmic: a line "
        "that falls ever more steeply, a bound above it, and counts in fresh layers on the line.",
    )


def rejected_of(width: int) -> tuple[int, int]:
    """Right directions with fewer than `ASKED_TAU` m zeros in fresh layers, and of how many."""
    zeros = (fresh_shares("photos", width) * width).round()
    return int((zeros < theory.least_zeros(width, ASKED_TAU)).sum()), len(zeros)


class ThresholdPanels:
    """A histogram of zeros and the error rates as curves, with a movable threshold."""

    KINDS = (
        ("one sample: right", drawing.ORANGE, ""),
        ("two mixed", drawing.SKY, "//"),
        ("three mixed", drawing.BLUE, "\\\\"),
        ("more mixed", drawing.FAINT, ".."),
    )
    CURVES = (
        ("right rejected: P(Bin(m, ½) < τ m)", "-", drawing.ORANGE, 0),
        ("its bound", ":", drawing.ORANGE, 0),
        ("two mixed kept: P(Bin(m, ¼) ≥ τ m)", "--", drawing.BLUE, 0),
        ("rejected, measured", "D", drawing.ORANGE, 5),
        ("wrong kept, measured", "x", drawing.BLUE, 6),
    )

    def __init__(self) -> None:
        """Make the axes, which all batches share."""
        self._canvas = Canvas(drawing.WIDTH, 440)
        left = self._canvas.axes(0.08, 0.3, 0.4, 0.63)
        right = self._canvas.axes(0.57, 0.3, 0.41, 0.63)
        self._drawn: Candidates | None = None
        self._stairs = [
            left.stairs(
                [1.0], [0, 1], baseline=[LEAST_COUNT], fill=True, facecolor=tint, hatch=hatch,
                edgecolor="white", linewidth=0.3, label=name,
            )
            for name, tint, hatch in self.KINDS
        ]  # fmt: skip
        left.set(yscale="log", xlim=(0, 0.75), ylim=(LEAST_COUNT, 2 * CANDIDATES))
        plain_ticks(left.yaxis, (1, 10, 100, 1000))
        left.set(xlabel="zeros of L q, as a share of m", ylabel="candidates")
        self._curves = [
            right.plot([], [], style, color=tint, label=name, markersize=size, markevery=2)[0]
            for name, style, tint, size in self.CURVES
        ]
        right.set(yscale="log", xlim=(0.04, 0.61), ylim=(1e-5, 1.5), xlabel="threshold τ", ylabel="share")
        plain_ticks(right.yaxis, (0.0001, 0.001, 0.01, 0.1, 1))
        (self._cut,) = left.plot([], [], color=drawing.INK, linewidth=2)
        (self._at,) = right.plot([], [], color=drawing.INK, linewidth=2)
        (self._expected,) = left.plot([], [], ":", color=drawing.PURPLE, linewidth=2.5)
        self._said = left.text(0, CANDIDATES, "", color=drawing.PURPLE, fontsize=10, ha="left", va="bottom")
        self._title = left.text(0, 1.02, "", transform=left.transAxes, fontsize=11, va="bottom")
        for axes, at in ((left, 0.06), (right, 0.42)):
            self._canvas.figure.legend(
                *axes.get_legend_handles_labels(), fontsize=9, frameon=False, loc="upper left", ncols=2,
                bbox_to_anchor=(at, 0.19), columnspacing=0.8,
            )  # fmt: skip
        self._canvas.moving(
            *self._stairs,
            *self._curves,
            self._cut,
            self._at,
            self._title,
            self._expected,
            self._said,
            left.spines["bottom"],
        )

    def put(self, found: Candidates, shares: Tensor) -> None:
        """Show a batch, unless it is there.

        Args:
            found: its candidates.
            shares: of silent units, one for each right direction.
        """
        if found is self._drawn:
            return
        m = found.zero.shape[1]
        edges = (np.arange(0, m + 2, max(1, m // 50)) - 0.5) / m
        below = np.zeros(len(edges) - 1)
        kinds = (found.mixed == 1, found.mixed == 2, found.mixed == 3, found.mixed > 3)
        for stairs, kind in zip(self._stairs, kinds):
            count, _ = np.histogram((found.zeros[kind] / m).numpy(), bins=edges)
            floor = np.maximum(below, LEAST_COUNT)
            below = below + count
            stairs.set_data(np.maximum(below, LEAST_COUNT), edges, floor)  # type: ignore[arg-type]  # as in `stairs`
        measured = [np.where(rate > 0, rate, np.nan) for rate in found.errors(shares, THRESHOLDS)]
        for curve, heights in zip(self._curves, (*theory_curves(m), *measured)):
            curve.set_data(THRESHOLDS, list(heights))
        self._title.set_text(f"{len(found):,} draws")
        self._drawn = found

    def expect(self, share: float) -> None:
        """A share of zeros that the reader expected of mixtures of two."""
        self._expected.set_data([share, share], [LEAST_COUNT, 2 * CANDIDATES])
        self._said.set(x=share + 0.008, text="you said")

    def image(self, threshold: float) -> Image.Image:
        """Both panels with the threshold as a vertical line."""
        self._cut.set_data([threshold, threshold], [LEAST_COUNT, 2 * CANDIDATES])
        self._at.set_data([threshold, threshold], [1e-5, 1.5])
        return self._canvas.image()
