"""How many draws until all directions are met, for unlike and for alike samples."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
import torch

from spear_core import states
from spear_core.study import collecting, theory
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas, plain_ticks
from spear_widgets.kit.job import Job
from spear_widgets.kit.ribbon import NOT_IN_PAPER
from spear_widgets.kit.scene import Scene, of_batch, scene

SIZES = range(4, 9)  # of the batches that are collected
RUNS = 30  # repetitions of collecting all directions
MOST_DRAWS = 100_000  # after which all repetitions together give up
SEARCH_RUNS = 3  # repetitions of the real search, for each kind of batch
MOST_SEARCHED = 10_000  # draws after which one of them gives up


FACTORS = {  # draws of digits, as multiples of those of noise, from … to: the answers to the question
    "fewer": (0.1, 0.7),
    "about as many": (0.7, 2.0),
    "several times as many": (2.0, 10.0),
}
ASKED = 6  # the batch size of the question
KINDS = ("unrelated noise", "photographs", "digits", "two photographs alike")
ALIKE = 0.1  # noise on the copy of a photograph, in standard deviations: some dozen units tell the two apart


@lru_cache(maxsize=64)
def batch_of_kind(kind: str, batch_size: int) -> Scene:
    """A scene of one of the `KINDS`, from unlike samples to alike ones.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    stage = scene("digits" if kind == "digits" else "photos", batch_size)
    if kind in (KINDS[1], KINDS[2]):
        return stage
    inputs = torch.randn(stage.batch.inputs.shape, generator=torch.Generator().manual_seed(0))
    if kind == KINDS[3]:
        noise, inputs = inputs[1], stage.batch.inputs.clone()
        inputs[1] = inputs[0] + ALIKE * noise
    return of_batch(replace(stage.batch, inputs=inputs))


@lru_cache(maxsize=64)
def collect(kind: str, batch_size: int) -> collecting.Collection:
    """Draw until every direction was met, again and again.

    Args:
        kind: one of `KINDS`.
        batch_size: b ≥ 2.
    """
    grads = batch_of_kind(kind, batch_size).output_grads
    return collecting.collect(grads, RUNS, generator=torch.Generator().manual_seed(1), limit=MOST_DRAWS)


def search_draws(stage: Scene, seed: int) -> int | None:
    """Draws after which the real search has the direction of every sample in its pool.

    Args:
        stage: a scene.
        seed: of the draws.

    Returns:
        None if it takes more than `MOST_SEARCHED`.
    """
    generator = torch.Generator().manual_seed(seed)
    for state in states(stage.problem, method="sampling", max_samples=MOST_SEARCHED, generator=generator):
        if int(state.pool.unique.sum()) >= stage.batch_size:
            return state.samples_drawn
    return None


class CollectExplorer(base.Explorer):
    """Draws until all directions are met, for batches of unlike and of alike samples.

    Attributes:
        state: draws for each kind of batch.
        searched: draws of the real search by (kind, batch size), as far as it was run.
        job: runs the real search.
    """

    name = "collect"
    title = "How many draws until all directions are met?"
    description = (
        "Dots for the number of draws that thirty repetitions needed, one line for each kind of batch, on a "
        "logarithmic scale with theory's number as a vertical line: the more alike the samples, the more draws."
    )

    def __init__(self) -> None:
        self._canvas = Canvas(drawing.WIDTH, 370)
        self._draw_frame()
        self.searched: dict[tuple[str, int], list[int | None]] = {}
        self._answer = ""
        self.search_button = self.button(
            "Run our search, too", self.search, tooltip="A few seconds; may be stopped"
        )
        super().__init__(
            {"batch_size": controls.slider("batch size b", ASKED, SIZES[0], SIZES[-1], track=16)},
            buttons=(self.search_button,),
        )
        self.job = Job(self)
        self.control["batch_size"].observe(lambda _: self.job.stop(), "value")
        with base.one_thread():
            for kind, size in product(KINDS, SIZES):  # drawn now, so that the slider does not wait for it
                collect(kind, size)
        self.refresh()

    def answered(self, choice: str) -> None:
        """Draw where the reader expected the digits."""
        self._answer = choice
        self.set(batch_size=ASKED)

    def search(self) -> None:
        """Run the real search a few times on each kind of batch; what is known already is not run again."""
        self.job.start(self._search_steps(self.control["batch_size"].value), then=self.refresh)

    def _search_steps(self, batch_size: int) -> Iterator[float]:
        total = len(KINDS) * SEARCH_RUNS
        for number, kind in enumerate(KINDS):
            runs = self.searched.setdefault((kind, batch_size), [])
            while len(runs) < SEARCH_RUNS:
                with base.one_thread():
                    runs.append(search_draws(batch_of_kind(kind, batch_size), len(runs)))
                yield (number * SEARCH_RUNS + len(runs)) / total

    def update(self) -> None:
        """Draw the present setting."""
        b = self.values["batch_size"]
        self.state = {kind: collect(kind, b) for kind in KINDS}
        self._draw(b)
        self.show("picture", self._canvas.image())
        self.search_button.disabled = all(
            len(self.searched.get((kind, b), ())) == SEARCH_RUNS for kind in KINDS
        )
        self.say(self._words(b))

    def _draw_frame(self) -> None:
        axes = self._canvas.axes(
            0.17, 0.27, 0.79, 0.65, xscale="log", ylim=(-0.6, len(KINDS) - 0.4), xlim=(1, MOST_DRAWS)
        )
        axes.set_yticks(
            range(len(KINDS)), [kind.replace("two photographs", "two photographs\n") for kind in KINDS]
        )
        axes.set_xlabel("draws until all b directions are met")
        plain_ticks(axes.xaxis, (1, 10, 100, 1000, 10_000, 100_000))
        lines = [
            axes.plot([], [], "o", color=drawing.BLUE, markersize=4, alpha=0.45, label="one repetition"),
            axes.plot([], [], "D", color=drawing.ORANGE, markersize=10, label="their mean"),
            axes.plot(
                [], [], "|", color=drawing.INK, markersize=22, markeredgewidth=2, label="theory with this batch's zeros"
            ),
            axes.plot(
                [], [], "v", color=drawing.GREEN, markersize=8, markerfacecolor="none", markeredgewidth=1.6,
                label=f"our search, {NOT_IN_PAPER}",
            ),
            axes.plot([], [], "--", color=drawing.INK, linewidth=1.2, label="H_b · 2^(b−1)"),
        ]  # fmt: skip
        self._lines = [line for (line,) in lines]
        figure = self._canvas.figure
        figure.legend(
            handles=self._lines, loc="lower center", ncols=5, fontsize=9, frameon=False, columnspacing=1.2,
            markerscale=0.8,
        )  # fmt: skip
        self._title = axes.text(1, len(KINDS) - 0.35, "", fontsize=11, va="bottom")
        (self._expected,) = axes.plot([], [], ":", color=drawing.PURPLE, linewidth=3)
        self._said = axes.text(1, 0, "", color=drawing.PURPLE, fontsize=10, va="center")
        self._canvas.moving(*self._lines, self._title, self._expected, self._said)

    def _draw(self, b: int) -> None:
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, RUNS)
        points: list[list[tuple[float, float]]] = [[], [], [], []]
        for line, kind in enumerate(KINDS):
            found, at = self.state[kind], line + 0.12
            points[0] += [(draws, at + up) for draws, up in zip(found.draws.tolist(), spread)]
            points[1].append((found.mean, at))
            points[2].append((found.expected, at))
            points[3] += [
                (draws, line - 0.28) for draws in self.searched.get((kind, b), []) if draws is not None
            ]
        for artist, pairs in zip(self._lines, points):
            finite = [pair for pair in pairs if np.isfinite(pair[0])]
            artist.set_data([x for x, _ in finite], [y for _, y in finite])
        expected = theory.expected_draws(b)
        self._lines[4].set_data([expected, expected], [-0.6, len(KINDS) - 0.4])
        self._title.set_text(f"b = {b}: H_b · 2^(b−1) = {expected:,.0f} draws")
        self._expect(b == ASKED)

    def _expect(self, asked: bool) -> None:
        """The draws of digits as the reader has guessed them, below their dots; nothing at another batch size."""
        low, high = (factor * self.state[KINDS[0]].mean for factor in FACTORS.get(self._answer, (1, 1)))
        there, line = bool(self._answer) and asked, KINDS.index("digits") - 0.28
        self._expected.set_data([low, high] if there else [], [line, line] if there else [])
        self._said.set(position=(1.1 * high, line), text="you said" if there else "")

    def _words(self, b: int) -> str:
        expected = theory.expected_draws(b)
        means = [
            f"{kind} {found.mean / expected:.1f}"
            if len(found.draws)
            else f"{kind} not within {MOST_DRAWS:,} draws"
            for kind, found in self.state.items()
        ]
        known = [self.searched.get((kind, b), []) for kind in KINDS]
        searched = ", ".join(f"{kind} {_mean(runs)}" for kind, runs in zip(KINDS, known))
        return (
            f"Mean draws as multiples of H<sub>b</sub>·2<sup>b−1</sup> = {expected:,.0f}: {', '.join(means)}.<br>"
            + (f"Draws of our search: {searched}." if any(known) else f"Our search has not run for b = {b}.")
        )


def _mean(runs: list[int | None]) -> str:
    """What some runs of the real search took, in words."""
    found = [draws for draws in runs if draws is not None]
    words = [f"{np.mean(found):,.0f}"] if found else []
    if len(found) < len(runs):
        words.append(f"not within {MOST_SEARCHED:,}")
    return " or ".join(words) or "not yet run"
