"""A race by real clocks: guesses that are moved until their gradient fits, and the batch computed from the gradient."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spear_core
from spear_core.client import data
from spear_core.study import approximate, metrics
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import Scene, of_batch
from spear_widgets.kit.stage import Stage

SMALL_SIDE, SMALL_WIDTH = 16, 100  # photographs and layer of the race
FRAMES = 40  # guesses that can be looked at
DLG, COSINE, EXACT = "DLG, L-BFGS", "cosine + TV, Adam", "exact inversion"
STEPS = {DLG: 40, COSINE: 400}
BATCHES = (1, 2, 4)
SEED = 2  # every run gets near its batch in the first steps, in which rounding has not grown yet


@dataclass(frozen=True)
class Race:
    """Three attacks on one gradient, each run by itself, timed in CPU seconds of one thread.

    Attributes:
        stage: client and server.
        guesses: of each approximate attack the best so far, after even parts of it, shape (frames, b, n).
        exact: what exact inversion gives, shape (b, n).
        certified: whether that is proven.
        times: when each guess was there, and the exact batch, shapes (frames,) and (1,).
    """

    stage: Scene
    guesses: dict[str, Tensor]
    exact: Tensor
    certified: bool
    times: dict[str, Tensor]


def small_scene(batch_size: int, seed: int) -> Scene:
    """Client and server of a race: photographs of 16 × 16, a layer of 100 units."""
    batch = data.load("photos", batch_size, size=SMALL_SIDE, generator=torch.Generator().manual_seed(seed))
    return of_batch(batch, width=SMALL_WIDTH, seed=seed)


@lru_cache(maxsize=8)
def race(batch_size: int, seed: int) -> Race:
    """Run the three attacks on the same small batch."""
    stage = small_scene(batch_size, seed)
    guesses, times = {}, {}
    with base.one_thread():
        # once for nothing: a first call imports what it needs
        for steps in (dict.fromkeys(STEPS, 1), STEPS):
            for name in STEPS:
                clock: list[float] = []
                run = _guesses(name, stage, steps[name], seed)
                guesses[name] = approximate.best_so_far(_timed(run, clock), FRAMES)
                even = [round(i * (len(clock) - 1) / FRAMES) for i in range(FRAMES + 1)]
                times[name] = torch.tensor([clock[i] for i in even])
            began = time.thread_time()
            # b is told, as the others know it, too
            found = spear_core.invert(stage.model, stage.gradients, batch_size=batch_size)
            times[EXACT] = torch.tensor([time.thread_time() - began])
    return Race(stage, guesses, found.inputs, found.certified, times)


def _guesses(name: str, stage: Scene, steps: int, seed: int) -> Iterator[approximate.Guess]:
    """One of the approximate attacks, from its start on."""
    batch, start = stage.batch, torch.Generator().manual_seed(seed)
    assert batch.shape is not None
    how: dict[str, Any] = {"steps": steps, "generator": start}
    client = stage.model, stage.gradients
    if name == DLG:
        return approximate.deep_leakage(*client, tuple(batch.inputs.shape), batch.classes, **how)
    bounds = -batch.shift / batch.scale, (1 - batch.shift) / batch.scale
    return approximate.inverting_gradients(*client, batch.labels, batch.shape, bounds=bounds, **how)


def _timed(run: Iterator[approximate.Guess], clock: list[float]) -> Iterator[approximate.Guess]:
    """The same guesses; the clock is told when each of them was there."""
    began = time.thread_time()
    for guess in run:
        clock.append(time.thread_time() - began)
        yield guess


class RaceExplorer(base.Explorer):
    """Guesses that are moved until their gradient fits, beside the batch computed from the gradient, by real clocks.

    Attributes:
        state: the three attacks.
    """

    name = "race"
    title = "Guess and improve, or compute"
    description = (
        "The same private photographs as three attacks have them after the same time, each with its clock: DLG, the "
        "attack by cosine distance, and exact inversion; below, the PSNR of every photograph over the seconds."
    )

    def __init__(self, at: float = 0.0) -> None:
        """Run the three attacks.

        Args:
            at: the share of the longest run after which it stands at first.
        """
        self._at = at
        super().__init__(
            {"batch_size": controls.dropdown("batch size b", BATCHES, 4)},
            live=Stage(Path(__file__).with_name("race.js")),
        )
        self.refresh()

    def update(self) -> None:
        """Run the attacks on a batch of this size, and send their progress to the page."""
        self.state = race(self.values["batch_size"], SEED)
        assert self.live is not None
        self.live.put(at=self._at, **sent(self.state))


def sent(state: Race) -> dict[str, Any]:
    """A race as pictures, PSNR and times, see race.js."""
    batch = state.stage.batch
    lanes = [_lane(state, name, guess) for name, guess in state.guesses.items()]
    lanes.append(_lane(state, EXACT, state.exact[None]) | {"certified": state.certified})
    truth = drawing.as_bytes(sample_pictures(batch, batch.inputs))
    return {"lanes": lanes, "truth": truth, "limit": metrics.EXACT_DB}


def _lane(state: Race, name: str, frames: Tensor) -> dict[str, Any]:
    """What one attack had when, each guess beside the private photograph that it is nearest to."""
    batch = state.stage.batch
    scores = [metrics.compare(inputs, batch.inputs) for inputs in frames]
    placed = torch.cat([inputs[score.order.clamp_min(0)] for inputs, score in zip(frames, scores)])
    return {
        "name": name,
        "times": state.times[name],
        "psnr": torch.stack([score.psnr for score in scores]).clamp(-99, 999),
        "pictures": drawing.as_bytes(sample_pictures(batch, placed.nan_to_num())),
        "certified": False,
    }
