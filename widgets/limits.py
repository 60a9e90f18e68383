"""The explorer of defences: one defence, its knob, the attack run at once, and what many runs have measured."""

import statistics
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from spear_core import data, metrics
from spear_core.defended import BATCH, DEFENCES, Message, Outcome, message, outcome
from widgets import base, drawing
from widgets.low_rank import sample_pictures
from widgets.stored import results
from widgets.theory import Chart, Style

SECONDS = 2.0  # after which an attack returns the best so far
KINDS = (("photographs", "photos"), ("handwritten digits", "digits"))
SEEDS = 9
PSNR_SHOWN = (-5.0, 185.0)  # dB on the axis
SHARES = (
    Style("share of samples exact", drawing.BLUE, "-", "o"),
    Style("accuracy on unseen digits", drawing.GREEN, "--", "s"),
    Style("exact in this batch", drawing.ORANGE, "", "D"),
)
DECIBELS = (
    Style("median PSNR", drawing.BLUE, "-", "o"),
    Style("median of this batch", drawing.ORANGE, "", "D"),
)


@lru_cache(maxsize=64)
def attacked(defence: str, value: Any, kind: str, seed: int) -> tuple[Message, Outcome]:
    """What a defended client sends, and what comes back of it."""
    sent = message(defence, value, kind, seed)
    return sent, outcome(sent, time_limit=SECONDS)


def measured(defence: str, value: Any, part: str = "attack") -> list[dict[str, Any]]:
    """Stored attacks on one defence at one value, or networks trained with it (part "accuracy")."""
    return [row for row in results("defences", part) if (row["defence"], row["value"]) == (defence, value)]


def counted(defence: str, value: Any, decibel: float = metrics.EXACT_DB) -> tuple[int, int]:
    """Samples at or above a PSNR in the stored attacks, and how many there were."""
    psnr = [p for row in measured(defence, value) for p in row["psnr"]]
    return sum(p >= decibel for p in psnr), len(psnr)


def median_psnr(defence: str, value: Any) -> float:
    """Median over all samples of the stored attacks, in dB; −99 where nothing came back."""
    return statistics.median(p for row in measured(defence, value) for p in row["psnr"])


def accuracy(defence: str, value: Any) -> float | None:
    """Mean stored accuracy on unseen digits, from 0 to 1; None where it was not measured."""
    rows = measured(defence, value, "accuracy")
    return statistics.mean(row["accuracy"] for row in rows) if rows else None


def shown(value: Any) -> str:
    """A value of a knob, as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


class DefenceExplorer(base.Explorer):
    """A defended client, the attack on it, and the stored curves with this run on them.

    Attributes:
        sent: the message.
        found: what came back.
    """

    name = "limits"
    title = "A defence, its knob, and the attack"
    description = (
        "Above, private pictures and below them what the attack makes of the defended gradient, each with its PSNR "
        "and a tick if it is proven; then the share of exact samples, the accuracy and the median PSNR over the knob."
    )

    def __init__(self) -> None:
        self._charts: dict[str, tuple[Chart, Chart]] = {}
        defence = base.dropdown("defence", [(d.name, key) for key, d in DEFENCES.items()], "noise")
        knob = base.int_slider("strength", 4, 0, len(DEFENCES["noise"].values) - 1)
        defence.observe(self._fit_knob, "value")  # before any run: the knob of another defence may be shorter
        super().__init__(
            {
                "defence": defence,
                "knob": knob,
                "kind": base.dropdown("pictures", KINDS),
                "seed": base.int_slider("batch", 0, 0, SEEDS),
            },
            ("picture", "shares", "decibels"),
        )
        self.refresh()

    def _fit_knob(self, change: Any) -> None:
        with self.quietly():
            self.control["knob"].max = len(DEFENCES[change["new"]].values) - 1

    def update(self) -> None:
        """Attack the present setting, and draw."""
        values = self.values
        key, knob = values["defence"], values["knob"]
        defence = DEFENCES[key]
        value = defence.values[knob]
        self.sent, self.found = attacked(key, value, values["kind"], values["seed"])
        self.show("picture", drawing.encode(result_picture(self.sent.batch, self.found)))
        self._draw_curves(key, knob)
        self.say(f"{defence.name}, {defence.knob}: <b>{shown(value)}</b>. {verdict(self.found)}")

    def _draw_curves(self, key: str, knob: int) -> None:
        if key not in self._charts:
            self._charts[key] = charts(key)
        shares, decibels = self._charts[key]
        exact = float((self.found.psnr >= metrics.EXACT_DB).double().mean())
        shares.put(SHARES[2].label, [knob], [exact])
        median = float(self.found.psnr.median())
        decibels.put(DECIBELS[1].label, [knob], [float(np.clip(median, *PSNR_SHOWN))])
        self.show("shares", shares.png())
        self.show("decibels", decibels.png())


def verdict(found: Outcome) -> str:
    """What came back, in words."""
    b, exact = len(found.psnr), int((found.psnr >= metrics.EXACT_DB).sum())
    if found.words:
        what = "Refused" if found.inversion is None else "No pictures"
        return f"<b>{what}, nothing of the batch comes back.</b> {found.words}"
    near = int((found.psnr >= metrics.FOUND_DB).sum())
    kind = "exact" if exact == b else "approximate" if near else "lost"
    median = float(found.psnr.median())
    level = f"median {median:.0f} dB" if np.isfinite(median) else "most did not come back"
    proven = int(found.certified.sum())
    return (
        f"<b>{kind}</b>: {level}; {exact} of {b} exact (90 dB or more), "
        f"{near} of {b} at {metrics.FOUND_DB:.0f} dB or more, {proven or 'nothing'} certified."
    )


def charts(key: str) -> tuple[Chart, Chart]:
    """The stored curves of a defence: shares, and decibels; steps of the knob at equal distances."""
    defence = DEFENCES[key]
    at = range(len(defence.values))
    axes = {"xlim": (-0.3, len(at) - 0.7), "xlabel": defence.knob}
    shares = Chart(SHARES, height=260, ylim=(-0.05, 1.08), ylabel="share", **axes)
    decibels = Chart(DECIBELS, height=260, ylim=PSNR_SHOWN, ylabel="PSNR in dB", **axes)
    for chart in (shares, decibels):
        chart.axes.set_xticks(list(at), [shown(value) for value in defence.values])
    decibels.axes.axhline(metrics.EXACT_DB, color=drawing.INK, linewidth=0.8, linestyle=":")
    counts = [counted(key, value) for value in defence.values]
    ends = [metrics.share_interval(*pair) for pair in counts]
    shares.put(SHARES[0].label, list(at), [found / of for found, of in counts], ends)
    right = [(i, accuracy(key, value)) for i, value in enumerate(defence.values)]
    kept = [(i, share) for i, share in right if share is not None]
    shares.put(SHARES[1].label, [i for i, _ in kept], [share for _, share in kept])
    medians = [float(np.clip(median_psnr(key, value), *PSNR_SHOWN)) for value in defence.values]
    decibels.put(DECIBELS[0].label, list(at), medians)
    return shares, decibels


def result_picture(batch: data.Batch, found: Outcome) -> Image.Image:
    """The first private pictures, and what came back of each; grey where nothing did."""
    count = min(BATCH, len(batch.labels))
    truth = sample_pictures(batch, batch.inputs[:count])
    made = np.full_like(truth, 0.85)
    labels, frames = [], []
    for i in range(count):
        row, proven = int(found.order[i]), bool(found.certified[i])
        if row < 0 or found.inversion is None:
            labels.append("nothing")
        else:
            made[i] = sample_pictures(batch, found.inversion.inputs[row : row + 1].cpu())[0]
            labels.append(f"{float(found.psnr[i]):.0f} dB{' ✓' if proven else ''}")
        frames.append(drawing.GREEN if proven else None)
    private = drawing.picture_grid(truth, side=76, columns=count)
    back = drawing.picture_grid(made, side=76, columns=count, labels=labels, frames=frames)
    rows = [("private", private), ("comes back", back)]
    return drawing.below(
        [drawing.beside([drawing.headline(name, 14, 110), grid]) for name, grid in rows], gap=2
    )


def title_picture() -> base.Picture:
    """One batch under noise of one per cent."""
    sent, found = attacked("noise", 1e-2, "photos", 0)
    description = (
        "Eight private photographs, and below them what comes back of their gradient although gaussian noise of "
        "one per cent was added to every entry: the same photographs, each with its PSNR, none proven."
    )
    return base.Picture(drawing.encode(result_picture(sent.batch, found)), description)
