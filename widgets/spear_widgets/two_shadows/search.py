"""The whole search on batches of 24 to 100 photographs, with the clock running."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spear_core.attack.inversion import Inversion, as_inversion
from spear_core.attack.invert import states
from spear_core.client import data
from spear_core.problem import Problem
from spear_core.search import State
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.job import Job
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.kit.scene import scene
from spear_widgets.two_shadows.grounds import DEPTH, SEED

BATCHES = {24: 400, 50: 500, 100: 1000}  # b and the width m that goes with it
SECONDS = 60  # limit of one search
TALL = 288  # pixels of the grid, whatever the batch: nothing below it jumps


class SearchExplorer(base.Explorer):
    """The attack itself on batches of 24 to 100 photographs, with the clock running.

    Attributes:
        inversion: the present result; uncertified rows are marked as not proven.
        seconds: time of the search so far, the client's own work not counted.
        rounds: states that the attack has gone through.
    """

    name = "search"
    ribbon = Ribbon()
    title = "The whole search, at a batch size of your choice"
    description = (
        "A grid of photographs computed back from one gradient; those that are proven have a frame, and a "
        "line above counts the proven, the unproven and the missing ones."
    )

    def __init__(self) -> None:
        self.inversion: Inversion | None = None
        self.last: State | None = None
        self.seconds, self.rounds = 0.0, 0
        super().__init__(
            {
                "batch_size": controls.dropdown(
                    "batch size and width", [(f"b = {b}, m = {m}", b) for b, m in BATCHES.items()]
                ),
                "activation": controls.dropdown("activation", ["ReLU", "GELU"]),
            },
            buttons=(self.button("Run the search", self.run, tooltip="Invert this batch, with a clock"),),
        )
        self.job = Job(self)
        self.refresh()
        for _ in self._search(self.problem):  # at once: the page shall open with a result
            pass
        self._end()

    def update(self) -> None:
        """A new setting waits for the button: nothing has been found yet."""
        if hasattr(self, "job"):
            self.job.stop()
        values = self.values
        b = values["batch_size"]
        stage = scene("photos", b, BATCHES[b], SEED, DEPTH, values["activation"])
        self.batch, self.problem = stage.batch, stage.problem
        self._forget()
        self.show("picture", result_picture(self.batch, None))
        self.say("Nothing found yet: run the search.")

    def _forget(self) -> None:
        self.inversion, self.last, self.seconds, self.rounds = None, None, 0.0, 0

    def run(self) -> None:
        """Start the attack from the beginning."""
        self._forget()
        self.job.start(self._search(self.problem), self._end)

    def _search(self, problem: Problem) -> Iterator[float]:
        steps = states(
            problem, generator=torch.Generator().manual_seed(0), deadline=time.monotonic() + SECONDS
        )
        while self.problem is problem:
            began = time.perf_counter()
            with base.one_thread():
                state = next(steps, None)
            self.seconds += time.perf_counter() - began
            if state is None:
                return
            self.last, self.rounds = state, self.rounds + 1
            self.inversion = as_inversion(state, problem)
            self._draw()
            yield 0.0 if state.reconstruction is None else len(state.reconstruction.inputs) / state.batch_size

    def _end(self) -> None:
        if self.last is not None:
            self._draw(ended=True)

    def redraw(self) -> None:
        """Draw what was found once more."""
        if self.last is None:
            self.refresh()
        else:
            self._draw(ended=not self.job.running)

    def _draw(self, *, ended: bool = False) -> None:
        state, inversion = self.last, self.inversion
        assert state is not None and inversion is not None
        b, clock = state.batch_size, f"Clock: <b>{self.seconds:.2f} s</b>, the client's work not counted."
        stopped = "Stopped. " if ended and state.step != "certificate" else ""
        if state.reconstruction is None:
            self.say(f"{stopped}The gradient is split, its rank says b = {b}. {clock}")
            return
        found = state.reconstruction.inputs
        proven = inversion.certified_rows if state.step == "certificate" else None
        with drawing.on_page():
            self.show("picture", result_picture(self.batch, found, proven))
        certain = 0 if proven is None else int(proven.sum())
        verdict = f"<b>{certain} of {b} proven</b>, {len(found) - certain} found and not proven"
        self.say(f"{stopped}{verdict}. {clock}")


def result_picture(batch: data.Batch, found: Tensor | None, proven: Tensor | None = None) -> Image.Image:
    """Found samples as pictures: framed where proven, without a frame where not, grey where missing."""
    b = len(batch.labels)
    lines = next(n for n in range(1, b + 1) if -(-b // n) * (TALL // n) <= drawing.WIDTH - 8)
    rows = 0 if found is None else len(found)
    pictures = np.full((b, *batch.pictures(batch.inputs[:1]).shape[1:]), 210, dtype=np.uint8)
    if found is not None and rows:
        pictures[:rows] = drawing.as_bytes(np.asarray(batch.pictures(found.to(torch.float32))))[:b]
    certain = [False] * b if proven is None or not len(proven) else [bool(p) for p in proven]
    frames = [drawing.GREEN if i < rows and certain[i] else None for i in range(b)]
    grid = drawing.picture_grid(pictures, side=TALL // lines - 8, columns=-(-b // lines), frames=frames)
    count = sum(certain[:rows])
    text = f"{count} of {b} proven (framed), {rows - count} found and not proven, {b - rows} missing (grey)"
    return drawing.below([drawing.headline(text, width=drawing.WIDTH), grid], gap=0)
