"""The whole attack at once: choose a client, run `spear_core.invert`, see what comes back and what is proven."""

import html
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np
import torch

import spear_core
from spear_core import Inversion
from spear_core.certificate.record import Claim
from spear_core.client.data import as_pictures
from spear_core.search import State
from spear_core.study.metrics import EXACT_DB, Score, compare
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.beside import Beside
from spear_widgets.kit.job import Job
from spear_widgets.kit.samples import in_places, sample_pictures
from spear_widgets.kit.scene import DATA, Scene, of_batch, scene
from spear_widgets.kit.stage import Stage
from spear_widgets.start.own import OwnPicture, Upload, with_picture

WIDTHS = (100, 200, 400, 800)
MOST_SAMPLES = 16  # beyond, SPEAR takes longer than one waits for
TIME_LIMIT = 20.0  # seconds, after which the best so far is shown, flagged
CORNER = (48, 300)  # rows and columns of the gradient that are drawn
MOST_MAGNIFIED = 9  # powers of ten
PROMPTS = {
    "waiting": "nothing yet: press Run the attack",
    "running": "the attack is running …",
    "refused": "the attack refuses this gradient",
    "done": "",
}
DIGITS = 5  # of a number in a table, within what 32 bits hold


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
    """Run SPEAR on a scene; a refusal is an outcome, too."""
    began = time.perf_counter()
    try:
        inversion = spear_core.invert(
            stage.model, stage.gradients, method="sampling", time_limit=TIME_LIMIT, progress=report
        )
    except ValueError as refusal:
        return Outcome(None, None, time.perf_counter() - began, str(refusal))
    seconds = time.perf_counter() - began
    return Outcome(inversion, compare(inversion.inputs, stage.batch.inputs), seconds)


@lru_cache(maxsize=4)
def with_own(own: OwnPicture, name: str, batch_size: int, width: int, seed: int, depth: int) -> Scene:
    """The scene of a setting with a reader's picture as its first sample."""
    batch = scene(name, batch_size, width, seed, depth).batch
    return of_batch(with_picture(batch, own), width=width, seed=seed, depth=depth)


class FullRun(base.Explorer):
    """Choose a client, run the attack on its gradient, and look at pictures, clock and certificate.

    Attributes:
        stage: client and server of the present setting.
        own: the reader's picture, or None.
        upload: where a picture is dropped or chosen.
        outcomes: what came back, by setting.
        attack: the one that runs or ran last.
        job: progress and stop button.
    """

    name = "full-run"
    title = "SPEAR, from a gradient back to the batch"
    description = (
        "A private batch of photographs, the gradient that the client sends as a coloured strip, and the pictures "
        "computed from that gradient alone, each marked as proven or not; at the side, one sample closely."
    )

    def __init__(self) -> None:
        self.outcomes: dict[tuple[object, ...], Outcome] = {}
        self.attack: Beside[Outcome] | None = None
        self.own: OwnPicture | None = None
        self.run_button = self.button(
            "Run the attack", self.run, tooltip="Recover the batch from the gradient"
        )
        self.upload = Upload(lambda *file: self.guard(partial(self._receive, *file)))
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 8, 1, MOST_SAMPLES),
                "width": controls.dropdown("width m", WIDTHS, 200),
                "depth": controls.slider("linear layers", 4, 2, 8),
                "seed": controls.slider("seed of data and weights", 3, 0, 9),
            },
            buttons=(self.run_button,),
            live=Stage(Path(__file__).with_suffix(".js")),
        )
        self.run_button.button_style = "primary"
        self.caption.layout.min_height = "8em"  # as long as it gets: what follows must not jump
        self.job = Job(self)
        heading, row, *rest = self.children
        self.children: tuple[W.Widget, ...] = (heading, row, self.upload, *rest)
        for control in self.control.values():
            control.observe(lambda _: self.cancel(), "value")
        self.refresh()
        self.run_now()  # loads what the attack needs, so that the clock of the next run shows the attack alone
        self.run_now()

    @property
    def key(self) -> tuple[object, ...]:
        """The present setting."""
        return (*self.values.values(), self.own)

    @property
    def outcome(self) -> Outcome | None:
        """What came back at the present setting, if the attack was run."""
        return self.outcomes.get(self.key)

    def use(self, own: OwnPicture | None) -> None:
        """Make a reader's picture the first sample of the batch, and run the attack; with None, take it out again."""
        self.cancel()
        self.own = own
        if own is None:
            return self.refresh()
        pictures = [value for _, value in DATA[:2]]
        data = self.values["data"]
        self.set(data=data if data in pictures else pictures[0])
        return self.run()

    def _receive(self, name: str, size: int, content: bytes) -> None:
        try:
            own = OwnPicture.read(name, size, content) if name else None
        except ValueError as error:  # a reader's slip, nothing for the log
            self.status.value = f"Error: {html.escape(str(error))}"
        else:
            self.use(own)

    def reset(self) -> None:
        """All controls back to their first values, without the reader's picture."""
        self.cancel()
        self.own = None
        super().reset()

    def run(self) -> None:
        """Run the attack beside the page; a setting that was run already is run again."""
        self.cancel()
        beside = self.attack = Beside(partial(attack, self.stage))
        self.put("running")
        self.say("The attack is running. It has the network and the gradient, and nothing else.")
        self.job.start(self._watch(beside), then=self._finish)  # which may be cancelled before it starts

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
        try:
            attack.end()
        except Exception:
            self.refresh()  # it runs no more
            raise
        assert attack.result is not None
        self.outcomes[self.key] = attack.result
        self.refresh()
        self.put("fresh")

    def update(self) -> None:
        """Draw the present setting: the client, and the result if there is one."""
        values = self.values
        setting = values["data"], values["batch_size"], values["width"], values["seed"], values["depth"]
        own = self.own if values["data"] != DATA[-1][1] else None
        self.stage = scene(*setting) if own is None else with_own(own, *setting)
        self.upload.name = own.name if own is not None else ""
        self.put()
        self.say(words(self.stage, self.outcome))

    def put(self, phase: str = "") -> None:
        """Send the present setting to the page; the phase is by default what the outcome says."""
        assert self.live is not None
        chosen = min(int(self.live.value.get("chosen", 0)), self.stage.batch_size - 1)
        sent = shown(self.stage, None if phase == "running" else self.outcome, self.upload.name)
        if phase == "running" or (phase == "fresh" and sent["phase"] == "done"):
            sent |= {"phase": phase, "prompt": PROMPTS["running"]}
        self.live.put(**sent, chosen=chosen)


def _progress(attack: Beside[Outcome]) -> str:
    state = attack.latest
    drawn = "" if state is None or not state.samples_drawn else f", {state.samples_drawn:,} draws"
    step = "splitting the gradient" if state is None else f"SPEAR{drawn}"
    return f"Searching for {attack.seconds:.1f} s: {step}."


# ---------------------------------------------------------------- what the page draws
def shown(stage: Scene, outcome: Outcome | None, own: str = "") -> dict[str, Any]:
    """What `full_run.js` draws of a client and of what came back, each sample in its original's place.

    Args:
        stage: client and server.
        outcome: None if the attack was not run.
        own: name of the reader's picture, if it is the first sample.
    """
    G, b = stage.layer.weight_grad, stage.batch_size
    corner = G[: CORNER[0], : CORNER[1]].numpy()
    spread = float(np.abs(corner).mean()) * 4 or 1.0
    phase = "waiting" if outcome is None else "refused" if outcome.inversion is None else "done"
    private = drawing.as_bytes(sample_pictures(stage.batch, stage.batch.inputs))
    names = [f"sample {i + 1}" for i in range(b)]
    if own:
        names[0] = "sample 1, your picture"
    claims, recovered = ["missing"] * b, private[:0]
    if outcome is not None and outcome.inversion is not None and outcome.score is not None:
        rows = outcome.inversion.claims
        claims = ["missing" if row < 0 else rows[row].name.lower() for row in outcome.score.order.tolist()]
        recovered = drawing.as_bytes(in_places(stage.batch, outcome.inversion.inputs, outcome.score.order))
    return {
        "phase": phase,
        "private": private,
        "recovered": recovered,
        "corner": np.clip(corner * (127 / spread), -127, 127).astype(np.int8),
        "size": list(G.shape),
        "prompt": PROMPTS[phase],
        "claims": claims,
        "names": names,
        "said": [f"{name[0].upper()}{name[1:]}: {seen(outcome, i)}" for i, name in enumerate(names)],
        **(differences(stage, outcome) if stage.batch.shape else {"table": table(stage, outcome)}),
    }


def differences(stage: Scene, outcome: Outcome | None) -> dict[str, Any]:
    """What is between private and recovered pictures, around grey, and how often it was magnified to be seen."""
    if outcome is None or outcome.inversion is None or outcome.score is None:
        return {}
    batch, order = stage.batch, outcome.score.order
    assert batch.shape is not None
    gaps = torch.zeros_like(batch.inputs, dtype=torch.float64)
    there = order >= 0
    gaps[there] = outcome.inversion.inputs[order[there]].double() - batch.inputs[there].double()
    gaps = gaps.nan_to_num() * batch.scale
    largest = gaps.abs().amax(dim=1)
    often = 10 ** (0.5 / largest).log10().floor().clamp(0, MOST_MAGNIFIED)
    pictures = as_pictures(0.5 + gaps * often[:, None], batch.shape)
    magnified = [f"{int(times):,}" if gap else "" for times, gap in zip(often, largest, strict=True)]
    return {"differences": drawing.as_bytes(pictures), "magnified": magnified}


def seen(outcome: Outcome | None, place: int) -> str:
    """What is known of one private sample, in words; the distance from it is our own measurement."""
    if outcome is None:
        return "nothing has been computed from the gradient yet."
    if outcome.inversion is None or outcome.score is None:
        return "the attack refused this gradient."
    row, psnr = int(outcome.score.order[place]), float(outcome.score.psnr[place])
    if row < 0:
        return "it did not come back."
    proof = {
        Claim.SAMPLE: "proven to be one sample of the batch",
        Claim.MEAN: "proven to be one sample, or a mean of several",
        Claim.SHIFTED: "proven to be one sample, but for a vector that all rows share",
        Claim.NOTHING: "not proven, a guess",
    }[outcome.inversion.claims[row]]
    far = "equal in every bit" if np.isinf(psnr) else f"PSNR {psnr:.0f} dB"
    exact = (
        f"exact, {far}" if outcome.score.exact[place] else f"{far}, not exact, which takes {EXACT_DB:.0f} dB"
    )
    return f"{proof}. Measured against the private one, which the server cannot do: {exact}."


def table(stage: Scene, outcome: Outcome | None) -> dict[str, Any] | None:
    """Rows of a table in their own units, as texts: names of columns, private and recovered numbers; else None."""
    batch = stage.batch
    if batch.shape is not None:
        return None
    private = _numbers(batch.original(batch.inputs).tolist())
    recovered = [[""] * len(batch.columns) for _ in private]
    if outcome is not None and outcome.inversion is not None and outcome.score is not None:
        back = _numbers(batch.original(outcome.inversion.inputs).tolist())
        recovered = [recovered[0] if row < 0 else back[row] for row in outcome.score.order.tolist()]
    return {"columns": list(batch.columns), "private": private, "recovered": recovered}


def _numbers(rows: list[list[float]]) -> list[list[str]]:
    return [[f"{number:.{DIGITS}g}" for number in row] for row in rows]


def words(stage: Scene, outcome: Outcome | None) -> str:
    """The outcome: what it comes to in bold, the rest below."""
    if outcome is None:
        return f"A client with {stage.batch_size} samples has sent its gradient. <b>Run the attack</b> on it."
    if outcome.inversion is None or outcome.score is None:
        must, _, got = outcome.refusal.partition(", got ")
        rest = f"<br>Got {html.escape(got)}" if got else ""
        return f"<b>Refused, before any search: {html.escape(must)}.</b>{rest}"
    inversion, b = outcome.inversion, stage.batch_size
    proven, means = (inversion.claims.count(claim) for claim in (Claim.SAMPLE, Claim.MEAN))
    state = "all proven exact" if inversion.certified else f"{proven} of {b} proven exact"
    more = "" if inversion.certified or not means else f", {means} a sample or a mean of several"
    rest = ", the rest not" if not inversion.certified and proven + means < b else ""
    labels = "not found" if inversion.labels is None else "found"
    notes = "".join(f"<br>{note[0].upper()}{note[1:]}." for note in map(html.escape, inversion.notes))
    return (
        f"<b>{len(inversion.inputs)} of {b} samples came back in {outcome.seconds:.2f} s: {state}</b>{more}{rest}.<br>"
        f"SPEAR drew {inversion.samples_drawn:,} times; labels {labels}. Compared with the private "
        f"batch, {int(outcome.score.exact.sum())} of {b} are exact (90 dB or more).{notes}"
    )
