"""From features to pictures: the search through the front part, recorded as it runs, to be scrubbed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spear_core.front.descent import Event
from spear_core.front.search import rounding_limit
from spear_core.study import metrics
from spear_core.study.forming import Forming, Moment, form
from spear_widgets.kit import base, controls, drawing, words
from spear_widgets.kit.beside import Beside
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.job import Job
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.networks.designs import FEDAVG, Client, Design, photo_client

DESIGNS = {
    "5 × 5, max-pools": FEDAVG,
    "3 × 3, max-pools": Design(kernel=3),
    "5 × 5, stride 2, no pools": Design(stride=2, pool="none"),
    "5 × 5, average pools": Design(pool="average"),
    "5 × 5, half the channels": Design(first=16, second=32),
}
PICTURES = 3  # in a batch
SEEDS = (2, 3, 5, 6)
LOOK = 0.03  # seconds between two looks at a run
USUAL = 40  # moments of a run, for its progress
DECADES = 5.0  # of contradictions, from full colour to white
FEW = 40  # markers on a curve
SIDE = 104  # pixels of a picture on the page


@dataclass(frozen=True, eq=False)
class Course:
    """A client, and how its pictures formed.

    Attributes:
        client: with the private pictures.
        forming: what the search did.
        order: the recovered picture that belongs to each private one.
        psnr: of each private picture at each moment, in dB, shape (moments, b).
    """

    client: Client
    forming: Forming
    order: Tensor
    psnr: Tensor

    @property
    def last(self) -> int:
        """Number of the last moment."""
        return len(self.forming.moments) - 1

    def proven(self) -> list[bool]:
        """Which private pictures are certified at the end."""
        inversion = self.forming.inversion
        if inversion is None or inversion.network_inputs_certified is None:
            return [False] * len(self.order)
        return [bool(sure) for sure in inversion.network_inputs_certified[self.order]]


def course(name: str, seed: int, told: Callable[[Moment], None] = lambda moment: None) -> Course:
    """Attack a client and watch."""
    with base.one_thread():
        client = photo_client(DESIGNS[name], PICTURES, seed)
        forming = form(client.model, client.gradients, DESIGNS[name].shape, told)
        truth = client.pictures.flatten(1)
        with torch.no_grad():
            features = forming.front.features(client.pictures.double())
        order = metrics.compare(forming.target, features).order
        span = float(truth.max() - truth.min())
        errors = torch.stack(
            [(m.inputs[order].flatten(1) - truth).square().mean(dim=1) for m in forming.moments]
        )
    return Course(client, forming, order, 10 * torch.log10(span**2 / errors))


@lru_cache(maxsize=2)
def opened() -> Course:
    """The run that the page opens with: one of its pictures gets stuck and is kicked."""
    return course("3 × 3, max-pools", SEEDS[0])


class FormingExplorer(base.Explorer):
    """Pictures as the search finds them, moment by moment, with what its equations still say against each.

    Attributes:
        course: the present run; the one before while another runs.
        job: progress and stop button.
    """

    name = "forming"
    ribbon = Ribbon()
    title = "Pictures that form"
    description = (
        "Three private photographs, below them what the server has of each at this moment, and a map of where its "
        "equations still contradict the picture; beside them the residual of every picture over the whole search, "
        "with its kicks and the line at which it is rounding."
    )

    def __init__(self) -> None:
        self.course = opened()
        self._run: Beside[Course] | None = None
        self._curves: Curves | None = None
        super().__init__(
            {
                "network": controls.dropdown("network", list(DESIGNS), "3 × 3, max-pools"),
                "seed": controls.dropdown(
                    "batch", [(f"{k} of {len(SEEDS)}", s) for k, s in enumerate(SEEDS, 1)]
                ),
                "moment": controls.slider("moment", 4, 0, self.course.last, track=16),
            },
            buttons=[
                self.button("◀ Back", lambda: self.move("moment", -1), tooltip="One moment back"),
                self.button("Step ▶", lambda: self.move("moment", 1), tooltip="One moment on"),
            ],
        )
        self._shown = self.control["network"].value, self.control["seed"].value
        self.job = Job(self)
        self.refresh()

    def update(self) -> None:
        """Show a moment; for another network or batch, run the search beside the page first."""
        wanted = self.values["network"], self.values["seed"]
        if wanted == self._shown:
            self.show_moment()
        else:
            self.run(*wanted)

    def run(self, network: str, seed: int) -> None:
        """Attack another client beside the page."""
        before, self._shown = self._run, (network, seed)
        if before is not None:
            before.stop()
        self._run = Beside(lambda report: course(network, seed, report))  # type: ignore[arg-type]
        self.say("The search runs; the pictures are those of the run before.")
        self.job.start(self._watch(self._run, before), partial(self._finish, self._run), rest=LOOK)

    def _watch(self, run: Beside[Course], before: Beside[Course] | None) -> Iterator[float]:
        while before is not None and before.is_alive():
            yield 0.0
        run.start()
        heard, last = 0, None
        while run.is_alive():
            heard, last = heard + (run.latest is not last), run.latest
            yield min(heard / USUAL, 1.0)

    def _finish(self, run: Beside[Course]) -> None:
        if run is not self._run:
            return
        if run.ident is not None:  # it had begun
            run.end()
        if run.result is None:
            self.say("Stopped before the search began.")
            return
        self.course = run.result
        slider = self.control["moment"]
        with self.quietly():
            slider.value = 0
            slider.max = self.course.last
            slider.value = self.course.last
        self.show_moment()

    def redraw(self) -> None:
        """Draw what there is once more; a search that runs goes on."""
        self.show_moment()

    def show_moment(self) -> None:
        """Draw the moment that the slider says."""
        shown, curves = self.course, self._curves  # another thread may end a search meanwhile
        at = min(self.values["moment"], shown.last)
        if curves is None or curves.shown is not shown:
            curves = self._curves = Curves(shown)
        with drawing.on_page():
            self.show("picture", drawing.beside([pictures(shown, at), curves.image(at)], gap=10))
        self.say(said(shown, at))

    def reset(self) -> None:
        """The run that the page opened with."""
        if self._run is not None:
            self._run.stop()
        self._run = None  # whose result is no longer wanted
        self.job.stop()
        self.course = opened()
        with self.quietly():
            self.control["moment"].max = max(self.course.last, self._first["moment"])
        self._shown = self._first["network"], self._first["seed"]
        super().reset()


def pictures(shown: Course, at: int) -> Image.Image:
    """Private pictures, what the server has of them, and where its equations contradict it."""
    moment, private = shown.forming.moments[at], shown.client.pictures
    low, high = float(private.min()), float(private.max())

    def grey(x: Tensor) -> np.ndarray:
        pixels = ((x - low) / (high - low)).clamp(0, 1).permute(0, 2, 3, 1)
        return pixels.expand(*pixels.shape[:3], 3).float().numpy()

    done = at == shown.last
    labels = [
        f"{words.decibels(float(psnr))}{' ✓' if done and sure else ''}"
        for psnr, sure in zip(shown.psnr[at], shown.proven())
    ]
    frames = [drawing.colour(k) for k in range(len(labels))]
    rests = [f"{float(rest):.0e}" for rest in moment.rest[shown.order]]
    grid: dict[str, Any] = {"side": SIDE}
    return drawing.named(
        [
            ("private", drawing.picture_grid(grey(private), **grid)),
            (
                "server",
                drawing.picture_grid(grey(moment.inputs[shown.order]), labels=labels, frames=frames, **grid),
            ),
            (
                "contradicts",
                drawing.picture_grid(
                    contradictions(shown, at), labels=rests, frames=[drawing.FAINT] * len(rests), **grid
                ),
            ),
        ],
        104,
    )


def contradictions(shown: Course, at: int) -> np.ndarray:
    """Where equations contradict each picture, white five decades below the start's largest, shape (b, H, W, 3)."""
    forming = shown.forming
    first, now = (forming.contradictions(forming.moments[k].inputs) for k in (0, at))
    share = (now / first.amax()).clamp_min(10**-DECADES).log10() / DECADES + 1
    return drawing.signed_colours(share[shown.order][:, 0].clamp(0, 1).numpy(), 1.0)


def said(shown: Course, at: int) -> str:
    """A moment in words."""
    moment, forming = shown.forming.moments[at], shown.forming
    who = words.count(len(moment.at), "picture")
    match moment.event:
        case Event.START:
            what = f"{who}: a blank start, grey with a little noise."
        case Event.STEP:
            what = f"{who} on the way down, after {words.count(moment.step, 'step')}."
        case Event.KICK:
            what = f"A kick for {who}, moved where the equations contradict each other."
        case Event.FINISH:
            what = f"Gauss–Newton steps for {who}, in double precision."
        case Event.BEST:
            what = "The best that all rounds have found of each, and the proof."
    seen = shown.psnr[at]
    exact = int((seen >= metrics.EXACT_DB).sum())
    text = f"Moment {at} of {shown.last}. {what} Exact now: {exact} of {len(seen)}."
    if at < shown.last:
        return text
    sure = sum(shown.proven())
    notes = () if forming.inversion is None else forming.inversion.notes
    why = [note for note in notes if "network inputs are not proven" in note or "interrupted" in note]
    reasons = f" {words.folded('; '.join(why))}" if why else ""
    return f"{text} <b>Certified: {sure} of {len(seen)}.</b>{reasons}"


class Curves:
    """Residuals of all pictures over a whole search, and where the reader is."""

    def __init__(self, shown: Course) -> None:
        self.shown = shown
        moments, b = shown.forming.moments, len(shown.order)
        self.canvas = Canvas(482, 400)
        rest = torch.stack([moment.rest for moment in moments])[:, shown.order].clamp_min(1e-9)
        axes = self.canvas.axes(
            0.15, 0.13, 0.82, 0.78, yscale="log", ylim=(3e-8, 3), xlim=(-0.5, shown.last + 0.5)
        )
        axes.set_xlabel("moment")
        axes.set_title("relative residual of the features", fontsize=10, loc="left")
        axes.yaxis.set_ticks([1, 1e-2, 1e-4, 1e-6], labels=["1", "0.01", "0.0001", "0.000001"], fontsize=8)
        axes.minorticks_off()
        every = max(1, len(moments) // FEW)
        kicks = [k for k, moment in enumerate(moments) if moment.event is Event.KICK]
        for number, k in enumerate(kicks):
            axes.axvline(
                k, color=drawing.FAINT, linestyle=":", linewidth=1.2, label="kick" if number == 0 else None
            )
        limit = rounding_limit(torch.float32)
        axes.axhline(limit, color=drawing.INK, linestyle="--", linewidth=1, label="below: rounding")
        for k in range(b):
            looks: dict[str, Any] = {
                "color": drawing.colour(k),
                "marker": drawing.marker(k),
                "markersize": 4,
                "markevery": every,
            }
            axes.plot(range(len(moments)), rest[:, k], label=f"picture {k + 1}", linewidth=1.5, **looks)
        (self._here,) = axes.plot([], [], color=drawing.INK, linewidth=2)
        axes.legend(fontsize=8, frameon=False, loc="lower left")
        self.canvas.moving(self._here)
        self._ends = axes.get_ylim()

    def image(self, at: int) -> Image.Image:
        """With a line at a moment."""
        self._here.set_data([at, at], self._ends)
        return self.canvas.image()


def title_picture() -> base.Picture:
    """What the attack on the linear layer gives of a photograph: its features, one tile for each channel."""
    client = photo_client(FEDAVG, 1, SEEDS[0])
    with torch.no_grad():
        maps = client.model[:6](client.pictures)[0].double().numpy()  # type: ignore[index]
    tiles = drawing.signed_colours(maps, float(maps.max()))
    return base.Picture(
        drawing.picture_grid(tiles, side=48, columns=16),
        "Sixty-four small maps of 7 × 7 numbers in orange: what the convolutions and pools of a network have made of "
        "one photograph. No face is to be seen in them.",
    )
