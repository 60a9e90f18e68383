"""Guesses that are moved until their gradient fits, beside the batch computed from the gradient."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

import spear_core
from spear_core.client import data
from spear_core.study import approximate, metrics
from spear_widgets.kit import base, controls, drawing, words
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import Scene, of_batch

SMALL_SIDE, SMALL_WIDTH = 16, 100  # photographs and layer of the race
FRAMES = 20  # guesses that can be looked at
PARTS = [(f"{100 * frame // FRAMES} %", frame) for frame in range(FRAMES + 1)]
DLG_STEPS, ADAM_STEPS = 40, 400
BATCHES = (1, 2, 4)
SEED = 2  # every run gets near its batch in the first steps, in which rounding has not grown yet


@dataclass(frozen=True)
class Race:
    """Three attacks on one gradient.

    Attributes:
        stage: client and server.
        guesses: of each approximate attack the best so far, after even parts of it, shape (frames, b, n).
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
    client, shape = (stage.model, stage.gradients), tuple(batch.inputs.shape)
    start = torch.Generator().manual_seed(seed)
    dlg = approximate.deep_leakage(*client, shape, batch.classes, steps=DLG_STEPS, generator=start)
    runs = {"DLG, L-BFGS": approximate.best_so_far(dlg, FRAMES)}
    adam = approximate.inverting_gradients(
        *client, batch.labels, batch.shape, bounds=bounds, steps=ADAM_STEPS, generator=start.manual_seed(seed)
    )
    runs["cosine + TV, Adam"] = approximate.best_so_far(adam, FRAMES)
    found = spear_core.invert(
        stage.model, stage.gradients, batch_size=batch_size
    )  # which the others know, too
    return Race(stage, runs, found.inputs, found.certified)


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
                "batch_size": controls.dropdown("batch size b", BATCHES, 4),
                "progress": controls.stops("part of the run", PARTS, FRAMES, track=16),
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
        self.show("picture", race_picture(self.state, values["progress"]))
        medians = [f"{name} {words.decibels(words.middle(psnr))}" for name, psnr in found.items()]
        proof = (
            "It is proven, from the gradient and b alone"
            if self.state.certified
            else "It could not be proven here"
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
        labels = [""] * len(truth) if name == "private" else [words.decibels(p) for p in score.psnr.tolist()]
        grid = drawing.picture_grid(
            sample_pictures(state.stage.batch, inputs[place]),
            side=72,
            labels=labels,
            frames=[
                drawing.GREEN if name == "exact inversion" and exact else None
                for exact in score.exact.tolist()
            ],
        )
        pictures.append((name, grid))
    return drawing.named(pictures, 200)
