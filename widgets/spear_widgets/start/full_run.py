"""The whole attack at once: choose a client, run `spear_core.invert`, see what comes back and what is proven."""

import html
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

import spear_core
from spear_core import Inversion
from spear_core.certificate.record import Claim
from spear_core.search import State
from spear_core.study.metrics import Score, compare
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit import words as wording
from spear_widgets.kit.beside import Beside
from spear_widgets.kit.job import Job
from spear_widgets.kit.samples import in_places, sample_pictures
from spear_widgets.kit.scene import DATA, Scene, scene

WIDTHS = (100, 200, 400, 800)
TIME_LIMIT = 20.0  # seconds, after which the best so far is shown, flagged
ACROSS = 12  # pictures in a row
MATRIX = (60, 300)  # corner of the gradient that is drawn
MARKS = {
    Claim.SAMPLE: ("✓ proven", drawing.GREEN),
    Claim.MEAN: ("? one or mean", drawing.ORANGE),
    Claim.NOTHING: ("? not proven", drawing.ORANGE),
}


@dataclass(frozen=True)
class Outcome:
    """What an attack gave.

    Attributes:
        inversion: the result; None if the attack refused the gradient.
        score: comparison with the private batch, which only we can make.
        seconds: by the clock, from the gradient to the result.
        refusal: why the attack refused, in words.
    """

    inversion: Inversion | None
    score: Score | None
    seconds: float
    refusal: str = ""


def attack(stage: Scene, report: Callable[[State], None]) -> Outcome:
    """Run `spear_core.invert` on a scene; a refusal is an outcome, too."""
    began = time.perf_counter()
    try:
        inversion = spear_core.invert(stage.model, stage.gradients, time_limit=TIME_LIMIT, progress=report)
    except ValueError as refusal:
        return Outcome(None, None, time.perf_counter() - began, str(refusal))
    seconds = time.perf_counter() - began
    return Outcome(inversion, compare(inversion.inputs, stage.batch.inputs), seconds)


class FullRun(base.Explorer):
    """Choose a client, run the attack on its gradient, and look at pictures, clock and certificate.

    Attributes:
        stage: client and server of the present setting.
        outcomes: what came back, by setting.
        attack: the one that runs or ran last.
        job: progress and stop button.
    """

    name = "full-run"
    title = "The full run: from a gradient back to the batch"
    description = (
        "A private batch of photographs, the gradient that the client sends as a coloured matrix, and the pictures "
        "computed from that gradient alone, each marked as proven exact or as not proven."
    )

    def __init__(self) -> None:
        self.outcomes: dict[tuple[object, ...], Outcome] = {}
        self.attack: Beside[Outcome] | None = None
        self.run_button = self.button(
            "Run the attack", self.run, tooltip="Recover the batch from the gradient"
        )
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 8, 1, 24),
                "width": controls.dropdown("width m", WIDTHS, 200),
                "depth": controls.slider("linear layers", 4, 2, 8),
                "seed": controls.slider("seed of data and weights", 3, 0, 9),
            },
            ("client", "result"),
            buttons=(self.run_button,),
        )
        self.run_button.button_style = "primary"
        self.job = Job(self)
        for control in self.control.values():
            control.observe(lambda _: self.cancel(), "value")
        self.refresh()
        self.run_now()  # loads what the attack needs, so that the clock of the next run shows the attack alone
        self.run_now()

    @property
    def key(self) -> tuple[object, ...]:
        """The present setting."""
        return tuple(self.values.values())

    @property
    def outcome(self) -> Outcome | None:
        """What came back at the present setting, if the attack was run."""
        return self.outcomes.get(self.key)

    def run(self) -> None:
        """Run the attack beside the page; a setting that was run already is run again."""
        self.cancel()
        self.attack = Beside(partial(attack, self.stage))
        self.job.start(self._watch(self.attack), then=self._finish)

    def run_now(self) -> None:
        """Run the attack and wait for it.

        Raises:
            Exception: what the attack raised.
        """
        self.cancel()
        self.attack = Beside(partial(attack, self.stage))
        self.attack.run()
        self._finish()

    def cancel(self) -> None:
        """A new setting: the attack on the old one ends, and its result is not shown."""
        if self.attack is not None:
            self.attack.stop()
            self.attack = None
        self.job.stop()

    def _watch(self, attack: Beside[Outcome]) -> Iterator[float]:
        attack.start()
        while attack.is_alive():
            attack.join(0.03)
            self.status.value = html.escape(_progress(attack))
            yield min(attack.seconds / TIME_LIMIT, 1.0)

    def _finish(self) -> None:
        attack = self.attack
        if attack is None:  # the setting has changed meanwhile
            return
        attack.end()
        assert attack.result is not None
        self.outcomes[self.key] = attack.result
        self.refresh()

    def update(self) -> None:
        """Draw the present setting: the client, and the result if there is one."""
        values = self.values
        self.stage = scene(
            values["data"], values["batch_size"], values["width"], values["seed"], values["depth"]
        )
        self.show("client", client_picture(self.stage))
        self.show("result", result_picture(self.stage, self.outcome))
        self.say(words(self.stage, self.outcome))


def _progress(attack: Beside[Outcome]) -> str:
    state = attack.latest
    drawn = "" if state is None or not state.samples_drawn else f", {state.samples_drawn:,} draws or starts"
    step = "splitting the gradient" if state is None else f"{state.method}{drawn}"
    return f"Searching for {attack.seconds:.1f} s: {step}."


def client_picture(stage: Scene) -> Image.Image:
    """The private batch, and a corner of the gradient as the server sees it."""
    G = stage.layer.weight_grad
    corner = G[: MATRIX[0], : MATRIX[1]].numpy()
    spread = float(np.abs(corner).mean()) * 4
    noise = drawing.enlarged(drawing.signed_colours(corner, spread), 900, 120)
    return drawing.below(
        [
            drawing.headline("private: the batch never leaves the client", 14, drawing.WIDTH),
            _grid(sample_pictures(stage.batch, stage.batch.inputs), [], []),
            drawing.headline(
                f"sent: the gradient, {G.shape[0]} × {G.shape[1]} numbers in the first layer (a corner)"
            ),
            drawing.beside([drawing.headline("", 1), noise], gap=0),
        ],
        gap=2,
    )


def result_picture(stage: Scene, outcome: Outcome | None) -> Image.Image:
    """What came back, each picture below its original's place and marked as proven or not."""
    b = stage.batch_size
    if outcome is None or outcome.inversion is None or outcome.score is None:
        what = "not run yet: press Run the attack" if outcome is None else "the attack refused this gradient"
        return drawing.headline(f"recovered: {what}", 14, drawing.WIDTH)
    inversion, order = outcome.inversion, outcome.score.order.tolist()
    pictures = in_places(stage.batch, inversion.inputs, outcome.score.order)
    labels, frames = ["missing"] * b, [drawing.FAINT] * b
    for place, row in enumerate(order):
        if row >= 0:
            labels[place], frames[place] = MARKS[inversion.claims[row]]
    heading = f"recovered from the gradient alone ({inversion.method})"
    return drawing.below(
        [drawing.headline(heading, 14, drawing.WIDTH), _grid(pictures, labels, frames)], gap=2
    )


def _grid(pictures: np.ndarray, labels: list[str], frames: list[str]) -> Image.Image:
    side = min(96, (drawing.WIDTH - 8) // min(len(pictures), ACROSS) - 8)
    return drawing.picture_grid(
        pictures, side=max(side, 60), columns=min(len(pictures), ACROSS), labels=labels, frames=frames
    )


def words(stage: Scene, outcome: Outcome | None) -> str:
    """The outcome in a few sentences."""
    if outcome is None:
        return f"A client with {stage.batch_size} samples has sent its gradient. <b>Run the attack</b> on it."
    if outcome.inversion is None or outcome.score is None:
        return f"<b>Refused</b>, before any search: {wording.folded(outcome.refusal)}"
    inversion, b = outcome.inversion, stage.batch_size
    proven, means = (inversion.claims.count(claim) for claim in (Claim.SAMPLE, Claim.MEAN))
    more = f", {means} a sample or a mean of several" if means else ""
    state = (
        "<b>all proven exact</b>"
        if inversion.certified
        else f"<b>{proven} of {b} proven exact</b>{more}{', the rest not' * (proven + means < b)}"
    )
    labels = "not identified" if inversion.labels is None else "identified"
    notes = f" Notes: {html.escape('; '.join(inversion.notes))}." if inversion.notes else ""
    return (
        f"{len(inversion.inputs)} of {b} samples came back in {outcome.seconds:.2f} s: {state}. "
        f"{wording.match(inversion.sparsity_match)}, labels {labels}. Compared with the private batch, "
        f"which the server cannot do: {int(outcome.score.exact.sum())} of {b} are equal to 90 dB or more.{notes}"
    )
