"""Explorers of the attack at scale: guesses beside exact inversion, and success and time over batch and width."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import spear_core
from spear_core.client import data
from spear_core.study import approximate, metrics
from widgets import base, drawing
from widgets.low_rank import sample_pictures
from widgets.scene import Scene, of_batch
from widgets.stored import results
from widgets.theory import Chart, Style

SMALL_SIDE, SMALL_WIDTH = 16, 100  # photographs and layer of the race
FRAMES = 20  # guesses that can be looked at
DLG_STEPS, ADAM_STEPS = 40, 400
BATCHES = (1, 2, 4)
SEED = 0
WIDTHS = (50, 100, 200, 400)
METHODS = {"sampling": (drawing.ORANGE, "o"), "consistency": (drawing.BLUE, "s")}


# ---------------------------------------------------------------- guesses and the exact batch
@dataclass(frozen=True)
class Race:
    """Three attacks on one gradient.

    Attributes:
        stage: client and server.
        guesses: of each approximate attack, `FRAMES` + 1 batches at even steps, shape (frames, b, n).
        exact: what exact inversion gives, shape (b, n).
        certified: whether that is proven.
    """

    stage: Scene
    guesses: dict[str, Tensor]
    exact: Tensor
    certified: bool


@lru_cache(maxsize=8)
def race(batch_size: int, seed: int) -> Race:
    """Run the three attacks on the same small batch."""
    batch = data.load("photos", batch_size, size=SMALL_SIDE, generator=torch.Generator().manual_seed(seed))
    stage = of_batch(batch, width=SMALL_WIDTH, seed=seed)
    assert batch.shape is not None
    bounds = -batch.shift / batch.scale, (1 - batch.shift) / batch.scale
    runs = {
        "DLG, L-BFGS": approximate.deep_leakage(
            stage.model,
            stage.gradients,
            tuple(batch.inputs.shape),
            batch.classes,
            steps=DLG_STEPS,
            generator=torch.Generator().manual_seed(seed),
        ),
        "cosine + TV, Adam": approximate.inverting_gradients(
            stage.model,
            stage.gradients,
            batch.labels,
            batch.shape,
            bounds=bounds,
            steps=ADAM_STEPS,
            generator=torch.Generator().manual_seed(seed),
        ),
    }
    guesses = {}
    for name, run in runs.items():
        inputs = [guess.inputs for guess in run]
        guesses[name] = torch.stack(
            [inputs[round(i * (len(inputs) - 1) / FRAMES)] for i in range(FRAMES + 1)]
        )
    found = spear_core.invert(stage.model, stage.gradients)
    return Race(stage, guesses, found.inputs, found.certified)


class RaceExplorer(base.Explorer):
    """Guesses that are moved until their gradient fits, beside the batch computed from the gradient.

    Attributes:
        state: the three attacks.
    """

    name = "race"
    title = "Guess and improve, or compute"
    description = (
        "Four rows of the same photographs: the private ones, what DLG and the attack by cosine distance have guessed "
        "so far, and what exact inversion computes; below each its PSNR."
    )

    def __init__(self) -> None:
        super().__init__(
            {
                "batch_size": base.dropdown("batch size b", BATCHES, 4),
                "progress": base.int_slider("part of the run (of 20)", FRAMES, 0, FRAMES, track=16),
            },
        )
        self.refresh()

    def psnr(self) -> dict[str, Tensor]:
        """PSNR of every sample, by attack, at the present part of the run."""
        truth, frame = self.state.stage.batch.inputs, self.values["progress"]
        shown = {name: guess[frame] for name, guess in self.state.guesses.items()}
        shown["exact inversion"] = self.state.exact
        return {name: metrics.compare(inputs, truth).psnr for name, inputs in shown.items()}

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        self.state = race(values["batch_size"], SEED)
        found = self.psnr()
        self.show("picture", drawing.encode(race_picture(self.state, values["progress"]), "jpeg"))
        medians = [f"{name} {float(psnr.median()):.0f} dB" for name, psnr in found.items()]
        proof = (
            "It is proven, from the gradient alone" if self.state.certified else "It could not be proven here"
        )
        self.say(
            f"Median PSNR: {', '.join(medians)}. From 90 dB on, no 8-bit pixel differs. {proof}; a guess never is."
        )


def race_picture(state: Race, frame: int) -> Image.Image:
    """Private, guessed, computed, below each other."""
    truth = state.stage.batch.inputs
    rows = [("private", truth), *((name, guess[frame]) for name, guess in state.guesses.items())]
    rows.append(("exact inversion", state.exact))
    pictures = []
    for name, inputs in rows:
        score = metrics.compare(inputs, truth)
        place = score.order.clamp_min(0)
        labels = [""] * len(truth) if name == "private" else [f"{p:.0f} dB" for p in score.psnr.tolist()]
        grid = drawing.picture_grid(
            sample_pictures(state.stage.batch, inputs[place]),
            side=72,
            labels=labels,
            frames=[
                drawing.GREEN if name == "exact inversion" and exact else None
                for exact in score.exact.tolist()
            ],
        )
        pictures.append(drawing.beside([drawing.headline(name, 14, 200), grid]))
    return drawing.below(pictures, gap=2)


# ---------------------------------------------------------------- success and time
def measured(method: str, width: int) -> dict[int, list[dict[str, Any]]]:
    """Stored runs of a method at one width, by batch size: photo crops of 32 × 32, six layers."""
    rows = results("scale", "grid") if method == "sampling" else results("success_map", "map")
    cells: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["m"] == width and row.get("method", method) == method:
            cells.setdefault(row["b"], []).append(row)
    return dict(sorted(cells.items()))


def exact_share(runs: list[dict[str, Any]]) -> tuple[int, int]:
    """Samples that came back exactly, and how many there were."""
    return sum(run["exact"] for run in runs), sum(run["b"] for run in runs)


class ReachExplorer(base.Explorer):
    """Success and time over the batch size, at one width: sampling and consistency in one picture.

    Attributes:
        state: (exact, of how many samples) by method and batch size.
    """

    name = "reach"
    title = "Success and time over batch size and width"
    description = (
        "Above, the share of samples that come back exactly against the batch size, with error bars, for sampling and "
        "for consistency; below, the CPU seconds of the attack on a logarithmic scale."
    )

    def __init__(self) -> None:
        styles = [Style(name, colour, "-", marker) for name, (colour, marker) in METHODS.items()]
        shared = {"xscale": "log", "xlim": (1.8, 300), "xlabel": "batch size b"}
        self._success = Chart(
            styles, height=300, ylim=(-0.03, 1.05), ylabel="share of samples exact", **shared
        )
        self._time = Chart(
            styles, height=300, yscale="log", ylim=(1e-3, 100), ylabel="CPU seconds, median", **shared
        )
        for chart in (self._success, self._time):
            chart.ticks((2, 4, 8, 16, 32, 64, 128, 256))
        super().__init__(
            {"width": base.int_slider("width m: 50 doubled so many times", 3, 0, 3)}, ("success", "time")
        )
        self.refresh()

    def update(self) -> None:
        """Draw the present setting."""
        m = WIDTHS[self.values["width"]]
        self.state = {}
        words = []
        for method in METHODS:
            cells = measured(method, m)
            counts = {b: exact_share(runs) for b, runs in cells.items()}
            self.state[method] = counts
            shares = [found / of for found, of in counts.values()]
            ends = [metrics.share_interval(*pair) for pair in counts.values()]
            self._success.put(method, list(counts), shares, ends)
            seconds = [float(np.median([run["seconds"] for run in runs])) for runs in cells.values()]
            self._time.put(method, list(cells), seconds)
            whole = [b for b, (found, of) in counts.items() if found == of]
            words.append(f"b = <b>{max(whole)}</b> with {method}" if whole else f"none with {method}")
        for chart in (self._success, self._time):
            chart.mark(m / 2, "b = m/2")
        self.show("success", self._success.jpeg())
        self.show("time", self._time.jpeg())
        self.say(
            f"m = {m}: the largest batches that all came back whole: {', '.join(words)}. The line is b = m/2."
        )


def title_picture() -> base.Picture:
    """Guessed and computed."""
    explorer = RaceExplorer()
    return base.Picture(explorer.static_picture(), RaceExplorer.description)
