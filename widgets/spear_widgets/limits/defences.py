"""The explorer of defences: one defence, its knob, the attack on it, and what many runs have measured."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from PIL import Image

from spear_core.client import data
from spear_core.consistency.noisy import NOISY
from spear_core.search import State
from spear_core.study import metrics
from spear_core.study.defended import BATCH, DEFENCES, message
from spear_core.study.outcomes import SECONDS, Outcome, outcome
from spear_widgets.kit import base, controls, drawing, words
from spear_widgets.kit.beside import Beside
from spear_widgets.kit.job import Job
from spear_widgets.kit.ribbon import Ribbon
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
TITLE = (  # defences that no question asks about
    ("bits", 4, "4 bits a number"),
    ("top", 0.5, "half of the entries"),
    ("format", "bfloat16", "bfloat16 numbers"),
    ("dp", 1e-3, "DP-SGD, σ = 0.001"),
    ("dp", 1e-2, "DP-SGD, σ = 0.01"),
)
CORNER = (10, 96)  # rows and columns of it
Setting = tuple[str, Any, str, int]  # defence, value, kind, seed


@dataclass(frozen=True)
class Attempt:
    """An attack that has ended.

    Attributes:
        batch: the private one.
        found: what came back.
        late: whether the time limit ended it.
    """

    batch: data.Batch
    found: Outcome
    late: bool


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
        began = time.monotonic()
        found = outcome(sent, time_limit=time_limit, progress=report)
        return Attempt(sent.batch, found, time.monotonic() - began >= time_limit)


class DefenceExplorer(base.Explorer):
    """A defended client, the attack on it, and the stored curves with this run on them.

    The curves are there at once. The attack runs beside the page, and its pictures and points follow when it ends.

    Attributes:
        attempt: what came back at the present setting; None while the attack runs.
        job: progress and stop button.
    """

    name = "limits"
    ribbon = Ribbon()
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
        knob = controls.stops("strength", _strengths("noise"), 4, track=14)
        defence.observe(self._fit_knob, "value")  # before any run: the knob of another defence may be shorter
        super().__init__(
            {
                "defence": defence,
                "knob": knob,
                "kind": controls.dropdown("pictures", KINDS),
                "seed": controls.stops(
                    "batch", [(f"{k + 1} of {SEEDS + 1}", k) for k in range(SEEDS + 1)], 0
                ),
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

    def redraw(self) -> None:
        """Draw what there is once more; an attack that runs goes on."""
        self._draw()

    def _draw(self, *, stopped: bool = False) -> None:
        key, value, *_ = self.setting
        if self.attempt is not None:
            self._last = self.attempt
        if key not in self._curves:
            self._curves[key] = Curves(key)
        psnr = None if self.attempt is None else self.attempt.found.psnr
        with drawing.on_page():
            picture = result_picture(self._last)
            if self.attempt is None:
                paper = Image.new("RGB", picture.size, drawing.tint(drawing.PAPER))
                picture = Image.blend(picture, paper, PALE)
            self.show("picture", picture)
            self.show("curves", self._curves[key].image(self.values["knob"], psnr))
        defence = DEFENCES[key]
        self.say(f"{defence.name}, {defence.knob}: <b>{shown(value)}</b>. {self._words(stopped)}")

    def _words(self, stopped: bool) -> str:
        if self.attempt is not None:
            return f"{'Stopped: the best so far. ' if stopped else ''}{verdict(self.attempt)}"
        if stopped:
            return "Stopped before anything came back."
        return "The curves are stored; the attack on this message is running, the pale pictures are the last ones."

    def _fit_knob(self, change: Any) -> None:
        knob, options = self.control["knob"], _strengths(change["new"])
        kept = min(knob.value, len(options) - 1)
        with self.quietly():
            knob.options = options
            knob.value = kept


def _strengths(defence: str) -> list[tuple[str, int]]:
    return [(shown(value), step) for step, value in enumerate(DEFENCES[defence].values)]


def verdict(attempt: Attempt) -> str:
    """What came back, in words."""
    found = attempt.found
    b, exact = len(found.psnr), int((found.psnr >= metrics.EXACT_DB).sum())
    if found.words:
        what = "Refused" if found.inversion is None else "No pictures"
        return f"<b>{what}, nothing of the batch comes back.</b> {words.folded(found.words)}"
    seen = int((found.psnr >= metrics.SEEN_DB).sum())
    estimated = (
        found.inversion is not None and found.inversion.method == NOISY.name
    )  # noise, and not time, blurs it
    if attempt.late and not seen and not estimated:
        return (
            f"<b>Time ran out</b> after {SECONDS:.0f} seconds, before any sample was recognisable. That protects "
            "nothing: with more time this attack may succeed."
        )
    kind = (
        "all exact"
        if exact == b
        else "recognisable"
        if seen == b
        else "partly recognisable"
        if seen
        else "lost"
    )
    median = words.middle(found.psnr)
    level = "most did not come back" if median == -math.inf else f"median {words.decibels(median)}"
    proven = int(found.certified.sum())
    return (
        f"<b>{kind}</b>: {level}; {exact} of {b} exact ({metrics.EXACT_DB:.0f} dB or more), "
        f"{seen} of {b} recognisable ({metrics.SEEN_DB:.0f} dB or more), {proven or 'nothing'} certified."
        f"{f' The search was stopped after {SECONDS:.0f} seconds.' if attempt.late else ''}"
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
            labels[i] = f"{words.decibels(float(found.psnr[i]))}{' ✓' if proven else ''}"
        frames[i] = drawing.GREEN if proven else None
    return drawing.picture_grid(made, side=76, labels=labels, frames=frames)


def title_picture() -> base.Picture:
    """What the server gets: a corner of the first gradient, plain and under five defences."""
    plain = message("format", "float32")
    rows = plain.gradients["0.weight"].norm(dim=1).argsort(descending=True)[: CORNER[0]]
    lines = []
    for sent in (plain, *(message(key, value) for key, value, _ in TITLE)):
        corner = sent.gradients["0.weight"][rows, : CORNER[1]].numpy()
        limit = 3 * float((corner**2).mean()) ** 0.5
        colours = drawing.signed_colours(corner, limit)
        lines.append(drawing.enlarged(colours, 8 * CORNER[1], 8 * CORNER[0]))
    names = ["plain", *(name for _, _, name in TITLE)]
    return base.Picture(
        drawing.named(list(zip(names, lines)), 170),
        f"A corner of {CORNER[0]} × {CORNER[1]} numbers of one gradient, six times, blue below zero and orange above: "
        "as it is, and under five defences. No photograph is to be seen in any of them.",
    )
