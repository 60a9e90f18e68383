"""The explorer of defences: one defence, its knob, the attack on it, and what many runs have measured."""

import html
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image

from spear_core.client import data
from spear_core.search import State
from spear_core.study import metrics
from spear_core.study.defended import BATCH, DEFENCES, message
from spear_core.study.outcomes import SECONDS, Outcome, outcome
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.beside import Beside
from spear_widgets.kit.job import Job
from spear_widgets.kit.samples import in_places, sample_pictures
from spear_widgets.limits.knobs import Curves
from spear_widgets.limits.rows import shown

KINDS = (("photographs", "photos"), ("handwritten digits", "digits"))
SEEDS = 9
SETTLED = 0.1  # seconds without a move after which an attack begins
KEPT = 64  # attempts that are shown again without another attack
LOOK = 0.03  # seconds between two looks at an attack that runs
PATIENCE = 60.0  # seconds: what a notebook prints must not depend on what else the machine does
PALE = 0.6  # how much of an old picture is white while the new one is computed
TITLE = (("noise", 1e-2), ("bits", 8), ("top", 0.5), ("dp", 1e-3), ("dp", 1e-2))
Setting = tuple[str, Any, str, int]  # defence, value, kind, seed


@dataclass(frozen=True)
class Attempt:
    """An attack that has ended.

    Attributes:
        batch: the private one.
        found: what came back.
    """

    batch: data.Batch
    found: Outcome


@lru_cache(maxsize=64)
def attacked(defence: str, value: Any, kind: str, seed: int) -> Attempt:
    """What comes back of a defended client, for settings that take a fraction of a second on an idle machine."""
    return _attack((defence, value, kind, seed), time_limit=PATIENCE)


def _attack(
    setting: Setting, report: Callable[[State], None] | None = None, time_limit: float = SECONDS
) -> Attempt:
    """Make the message of a setting, and attack it."""
    with base.one_thread():
        sent = message(*setting)
        return Attempt(sent.batch, outcome(sent, time_limit=time_limit, progress=report))


class DefenceExplorer(base.Explorer):
    """A defended client, the attack on it, and the stored curves with this run on them.

    The curves are there at once. The attack runs beside the page, and its pictures and points follow when it ends.

    Attributes:
        attempt: what came back at the present setting; None while the attack runs.
        job: progress and stop button.
    """

    name = "limits"
    title = "A defence, its knob, and the attack"
    description = (
        "Above, private pictures and below them what the attack makes of the defended gradient, each with its PSNR "
        "and a tick if it is proven; then the share of exact samples, the accuracy and the median PSNR over the knob."
    )

    def __init__(self) -> None:
        self.attempt: Attempt | None = None
        self._attack: Beside[Attempt] | None = None
        self._asked: Setting | None = None  # what it attacks
        self._attempts: dict[Setting, Attempt] = {}
        self._curves: dict[str, Curves] = {}
        defence = controls.dropdown("defence", [(d.name, key) for key, d in DEFENCES.items()], "noise")
        knob = controls.slider("strength", 4, 0, len(DEFENCES["noise"].values) - 1)
        defence.observe(self._fit_knob, "value")  # before any run: the knob of another defence may be shorter
        super().__init__(
            {
                "defence": defence,
                "knob": knob,
                "kind": controls.dropdown("pictures", KINDS),
                "seed": controls.slider("batch", 0, 0, SEEDS),
            },
            ("picture", "curves"),
        )
        self.job = Job(self)
        self._attempts[self.setting] = attacked(*self.setting)  # the page opens with a result
        self.refresh()

    @property
    def setting(self) -> Setting:
        """Defence, value of its knob, kind of data and seed at present."""
        values = self.values
        value = DEFENCES[values["defence"]].values[values["knob"]]
        return values["defence"], value, values["kind"], values["seed"]

    def update(self) -> None:
        """Draw what is stored, and what the attack gave if it was run; if not, start it."""
        self.cancel()
        self.attempt = self._attempts.get(self.setting)
        self._draw()
        if self.attempt is None:
            self.run()

    def run(self) -> None:
        """Attack the present setting beside the page."""
        before, self._asked = self._attack, self.setting
        self._attack = Beside(partial(_attack, self._asked))
        self.job.start(self._watch(self._attack, before), self._finish, rest=LOOK)

    def cancel(self) -> None:
        """A new setting: the attack on the old one ends, and its result is not shown."""
        if self._attack is not None:
            self._attack.stop()
        self.job.stop()

    def _watch(self, attack: Beside[Attempt], before: Beside[Attempt] | None) -> Iterator[float]:
        moved = time.monotonic()
        while time.monotonic() - moved < SETTLED or (before is not None and before.is_alive()):
            yield 0.0
        attack.start()
        while attack.is_alive():
            yield min(attack.seconds / SECONDS, 1.0)

    def _finish(self) -> None:
        attack = self._attack
        if attack is None or self._asked != self.setting:
            return
        attack.end()
        self.attempt = attack.result
        if self.attempt is not None and not attack.stopped:
            self._attempts[self.setting] = self.attempt
            if len(self._attempts) > KEPT:
                del self._attempts[next(iter(self._attempts))]
        self._draw(stopped=attack.stopped or self.attempt is None)

    def _draw(self, *, stopped: bool = False) -> None:
        key, value, *_ = self.setting
        if self.attempt is not None:
            self._picture = result_picture(self.attempt)
            self.show("picture", self._picture)
        else:
            white = Image.new("RGB", self._picture.size, drawing.PAPER)
            self.show("picture", Image.blend(self._picture, white, PALE))
        if key not in self._curves:
            self._curves[key] = Curves(key)
        psnr = None if self.attempt is None else self.attempt.found.psnr
        self.show("curves", self._curves[key].jpeg(self.values["knob"], psnr))
        defence = DEFENCES[key]
        self.say(f"{defence.name}, {defence.knob}: <b>{shown(value)}</b>. {self._words(stopped)}")

    def _words(self, stopped: bool) -> str:
        if self.attempt is not None:
            return f"{'Stopped: the best so far. ' if stopped else ''}{verdict(self.attempt.found)}"
        if stopped:
            return "Stopped before anything came back."
        return "The curves are stored; the attack on this message is running, the pale pictures are the last ones."

    def _fit_knob(self, change: Any) -> None:
        with self.quietly():
            self.control["knob"].max = len(DEFENCES[change["new"]].values) - 1


def verdict(found: Outcome) -> str:
    """What came back, in words."""
    b, exact = len(found.psnr), int((found.psnr >= metrics.EXACT_DB).sum())
    if found.words:
        what = "Refused" if found.inversion is None else "No pictures"
        return f"<b>{what}, nothing of the batch comes back.</b> {html.escape(found.words)}"
    seen = int((found.psnr >= metrics.SEEN_DB).sum())
    kind = (
        "all exact"
        if exact == b
        else "recognisable"
        if seen == b
        else "partly recognisable"
        if seen
        else "lost"
    )
    median = float(found.psnr.median())
    level = f"median {median:.0f} dB" if np.isfinite(median) else "most did not come back"
    proven = int(found.certified.sum())
    return (
        f"<b>{kind}</b>: {level}; {exact} of {b} exact ({metrics.EXACT_DB:.0f} dB or more), "
        f"{seen} of {b} recognisable ({metrics.SEEN_DB:.0f} dB or more), {proven or 'nothing'} certified."
    )


def result_picture(attempt: Attempt) -> Image.Image:
    """The first private pictures, and what came back of each; grey where nothing did."""
    count = min(BATCH, len(attempt.batch.labels))
    private = drawing.picture_grid(sample_pictures(attempt.batch, attempt.batch.inputs[:count]), side=76)
    rows = [("private", private), ("comes back", returned(attempt))]
    return drawing.named(rows, 110)


def returned(attempt: Attempt) -> Image.Image:
    """What came back of the first private pictures, each below its original's place."""
    batch, found = attempt.batch, attempt.found
    count = min(BATCH, len(batch.labels))
    places = found.order[:count]
    inputs = batch.inputs[:0] if found.inversion is None else found.inversion.inputs.cpu()
    made = in_places(batch, inputs, places)
    labels: list[str] = ["nothing"] * count
    frames: list[str | None] = [None] * count
    for i in range(count):
        proven = bool(found.certified[i])
        if places[i] >= 0:
            labels[i] = f"{float(found.psnr[i]):.0f} dB{' ✓' if proven else ''}"
        frames[i] = drawing.GREEN if proven else None
    return drawing.picture_grid(made, side=76, labels=labels, frames=frames)


def title_picture() -> base.Picture:
    """One batch under five defences."""
    attempts = [attacked(key, value, "photos", 0) for key, value in TITLE]
    names = [
        "1 % of noise",
        "8 bits a number",
        "half of the entries",
        "DP-SGD, σ = 0.001",
        "DP-SGD, σ = 0.01",
    ]
    private = drawing.picture_grid(sample_pictures(attempts[0].batch, attempts[0].batch.inputs), side=76)
    rows = [("private", private), *zip(names, map(returned, attempts))]
    picture = drawing.named(rows, 170)
    description = (
        "Eight private photographs, and below them what the attack makes of their gradient under five defences: with "
        "one per cent of noise, with 8 bits a number and with half of the entries the photographs come back, with "
        "little DP-SGD noise some of them, with more none."
    )
    return base.Picture(drawing.encode(picture), description)
