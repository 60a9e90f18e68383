"""Explorers of step 2: draw b − 1 rows of L, look at one direction, and count draws until all are found."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.sampling import Draw, draw_directions, live_rows
from spear_core.spear.sparsity import (
    Pool,
    default_threshold,
    filter_directions,
    passes_first_stage,
    zero_tolerance,
)
from spear_core.study import theory
from widgets import base, drawing
from widgets.job import Job
from widgets.low_rank import sample_pictures
from widgets.scene import DATA, Scene, of_batch, scene

DRAWS = 200  # that the first explorer scrubs through
CANDIDATES = 4000  # for histograms
IN_CACHE = 500  # candidates whose entries are looked at together
SIZES = range(4, 9)  # of the batches that are collected
RUNS = 30  # repetitions of collecting all directions
MOST_DRAWS = 100_000  # after which all repetitions together give up
SEARCH_RUNS = 3  # repetitions of the real search, for each kind of batch
MOST_SEARCHED = 10_000  # draws after which one of them gives up
TALLEST = 0.75  # share of zeros at which the axis ends; right directions have about a half
NEGLIGIBLE = 1e-5  # share in a direction below which a sample is not in it: float32 gradients leave less


# ---------------------------------------------------------------- candidates
@dataclass(frozen=True, eq=False)
class Candidates:
    """Directions drawn from rows of L, with all their zeros, and what the client knows about them.

    Attributes:
        rows: the b − 1 units that each comes from, shape (k, b − 1).
        directions: unit vectors as rows, shape (k, b).
        factor: L, shape (m, b).
        zero: which entries of L q are zero to rounding, shape (k, m).
        mixed: how many samples are mixed in q, from 1 (right) to b; only the client can tell, shape (k,).
        sample: the sample that has the largest part in q, shape (k,).
    """

    rows: Tensor
    directions: Tensor
    factor: Tensor
    zero: Tensor
    mixed: Tensor
    sample: Tensor

    @cached_property
    def entries(self) -> Tensor:
        """L q for each candidate, shape (k, m)."""
        return self.directions @ self.factor.T

    @cached_property
    def zeros(self) -> Tensor:
        """Number of zeros, shape (k,)."""
        return self.zero.sum(dim=1)

    @property
    def right(self) -> Tensor:
        """Which candidates are a column of Q, shape (k,)."""
        return self.mixed == 1

    def __len__(self) -> int:
        return len(self.directions)


@lru_cache(maxsize=12)
def candidates(stage: Scene, count: int, seed: int = 0) -> Candidates:
    """Draw candidates, one from each set of rows, so that they are independent draws.

    Args:
        stage: a scene with b ≥ 2.
        count: how many.
        seed: of the draws.
    """
    L, b = stage.low_rank.factor, stage.low_rank.batch_size
    live = live_rows(L)
    unit_rows = L[live] / L[live].norm(dim=1, keepdim=True)
    draw = draw_directions(unit_rows, b * count, generator=torch.Generator().manual_seed(seed))
    directions, rows = draw.directions[b - 1 :: b], live[draw.sets[:, : b - 1]]
    usable = directions.isfinite().all(dim=1).nonzero().flatten()[:count]
    directions = directions[usable] / directions[usable].norm(dim=1, keepdim=True)
    # ∂L/∂Z (Q⁻¹ q) = L q: the coordinates of q in the client's columns, each weighed by its column
    shares = torch.linalg.solve(stage.true_q, directions.T) * stage.true_q.norm(dim=0)[:, None]
    shares = shares.abs() / shares.abs().amax(dim=0)
    return Candidates(
        rows=rows[usable],
        directions=directions,
        factor=L,
        zero=torch.cat([_zero(stage.low_rank, part) for part in directions.split(IN_CACHE)]),
        mixed=(shares > NEGLIGIBLE).sum(dim=0),
        sample=shares.argmax(dim=0),
    )


def _zero(low_rank: LowRank, directions: Tensor) -> Tensor:
    """Which entries of L q are zero, one row for each direction."""
    size = (directions @ low_rank.factor.T).abs_()
    # null vectors of ill-conditioned rows are blurred by as much as a negligible sample
    blur = NEGLIGIBLE * size.mean(dim=1, keepdim=True)
    return size <= torch.maximum(zero_tolerance(low_rank, directions.T).T, blur)


def first_finds(found: Candidates, batch_size: int, draws: int | None = None) -> list[int | None]:
    """For each sample the number of the draw, from 1, that first gave its direction; None if none did."""
    upto = len(found) if draws is None else draws
    first: list[int | None] = []
    for sample in range(batch_size):
        hits = (found.right[:upto] & (found.sample[:upto] == sample)).nonzero().flatten()
        first.append(int(hits[0]) + 1 if len(hits) else None)
    return first


# ---------------------------------------------------------------- one draw after the other
class DrawExplorer(base.Explorer):
    """One draw: b − 1 rows, their null vector q, the entries of L q, and the verdict.

    Attributes:
        stage: client and server of the present batch.
        state: all draws of this batch; the slider says which one is shown.
        threshold: zeros that a candidate must have.
    """

    name = "draw"
    title = "Draw b − 1 rows, take their null vector, count zeros"
    description = (
        "The entries of L q for one random draw, with the b − 1 rows it was made from marked; below, the number "
        "of zeros of every draw so far against the threshold, and the samples whose directions were met."
    )

    def __init__(self) -> None:
        self._panels = DrawPanels(len(scene().low_rank.factor))
        super().__init__(
            {
                "data": base.dropdown("data", DATA),
                "batch_size": base.int_slider("batch size b", 4, 2, 8),
                "draw": base.int_slider("draw number", 1, 1, DRAWS, track=16),
            },
            buttons=(
                self.button("Draw again", self.draw_again),
                self.button("Next that is kept", self.next_kept, tooltip="The next draw with enough zeros"),
            ),
        )
        self.refresh()

    @property
    def kept(self) -> Tensor:
        """Which draws have enough zeros, shape (DRAWS,)."""
        return self.state.zeros >= self.threshold

    def draw_again(self) -> None:
        """The next draw; the last one stays."""
        self.set(draw=min(self.control["draw"].value + 1, DRAWS))

    def next_kept(self) -> None:
        """The next draw that is kept; the last one if there is none."""
        later = self.kept[self.control["draw"].value :].nonzero().flatten()
        self.set(draw=self.control["draw"].value + 1 + int(later[0]) if len(later) else DRAWS)

    def update(self) -> None:
        """Draw the present setting."""
        values = self.values
        b, number = values["batch_size"], values["draw"]
        self.stage = scene(values["data"], b)
        self.state = candidates(self.stage, DRAWS)
        m = len(self.stage.low_rank.factor)
        self.threshold = theory.least_zeros(m, default_threshold(self.stage.low_rank))
        plot = self._panels.image(self.state, number, self.threshold)
        first = first_finds(self.state, b, number)
        picture = drawing.below([plot, met_pictures(self.stage, first)])
        self.show("picture", drawing.encode(picture, "jpeg"))
        rows = sorted(self.state.rows[number - 1].tolist())
        kept = bool(self.kept[number - 1])
        self.say(
            f"Draw {number}: rows {', '.join(str(row + 1) for row in rows)} give q, and L q has "
            f"<b>{int(self.state.zeros[number - 1])} zeros</b> of {m}, {'at least' if kept else 'fewer than'} "
            f"{self.threshold}: <b>{'kept' if kept else 'rejected'}</b>. "
            f"Directions met so far: {sum(at is not None for at in first)} of {b}."
        )


def met_pictures(stage: Scene, first: list[int | None]) -> Image.Image:
    """The samples, pale until their direction was met."""
    pictures = sample_pictures(stage.batch, stage.batch.inputs)
    if pictures.dtype == np.uint8:
        pictures = pictures / 255
    shown = [0.8 + 0.2 * picture if at is None else picture for picture, at in zip(pictures, first)]
    labels = ["not met" if at is None else f"draw {at}" for at in first]
    frames = [None if at is None else drawing.colour(i) for i, at in enumerate(first)]
    return drawing.picture_grid(np.stack(shown), side=72, labels=labels, frames=frames)


class DrawPanels:
    """The entries of L q of one draw, above the zeros of all draws so far."""

    def __init__(self, m: int) -> None:
        """Make the axes for m units; all batches share them."""
        self._canvas = drawing.Canvas(drawing.WIDTH, 400)
        figure = self._canvas.figure
        self._top = TALLEST * m
        upper = figure.add_axes((0.06, 0.6, 0.92, 0.33))
        upper.set(xlim=(0, m + 1), ylim=(-1.25, 1.1), yticks=[0], xlabel=f"unit 1 to {m}", ylabel="L q")
        upper.axhline(0, color=drawing.FAINT, linewidth=0.8)
        (self._nonzero,) = upper.plot([], [], "o", color=drawing.BLUE, markersize=4, label="not zero")
        (self._zero,) = upper.plot([], [], "D", color=drawing.ORANGE, markersize=5, label="zero")
        (self._own,) = upper.plot([], [], "^", color=drawing.INK, markersize=9, label="the b − 1 rows drawn")
        upper.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, borderpad=0
        )
        self._verdict = upper.text(0, 1.18, "", fontsize=12, fontweight="bold", va="bottom")
        lower = figure.add_axes((0.06, 0.12, 0.92, 0.32))
        lower.set(xlim=(0, DRAWS + 1), ylim=(0, self._top), xlabel="draw number", ylabel="zeros")
        (self._cut,) = lower.plot([], [], "--", color=drawing.INK, linewidth=1)
        (self._rejected,) = lower.plot([], [], "x", color=drawing.FAINT, markersize=5)
        (self._kept,) = lower.plot([], [], "o", color=drawing.ORANGE, markersize=6)
        (self._here,) = lower.plot([], [], color=drawing.BLUE, linewidth=1.5)
        self._limit = lower.text(DRAWS, 0, "", ha="right", va="bottom", fontsize=9)
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
        self._canvas.moving(
            self._nonzero, self._zero, self._own, self._verdict, self._cut, self._rejected, self._kept,
            self._here, self._limit,
        )  # fmt: skip

    def image(self, found: Candidates, draw: int, threshold: int) -> Image.Image:
        """Both panels for one draw.

        Args:
            found: all draws.
            draw: its number, from 1.
            threshold: zeros that a candidate must have.
        """
        entries, zero = found.entries[draw - 1].numpy(), found.zero[draw - 1].numpy()
        units, rows = np.arange(1, len(entries) + 1), found.rows[draw - 1].numpy() + 1
        self._nonzero.set_data(units[~zero], entries[~zero] / np.abs(entries).max())
        self._zero.set_data(units[zero], np.zeros(zero.sum()))
        self._own.set_data(rows, np.full(len(rows), -1.1))
        zeros, numbers = found.zeros[:draw].numpy(), np.arange(1, draw + 1)
        kept = zeros >= threshold
        self._rejected.set_data(numbers[~kept], zeros[~kept])
        self._kept.set_data(numbers[kept], zeros[kept])
        self._cut.set_data([0, DRAWS + 1], [threshold, threshold])
        self._limit.set_text(f"kept from {threshold} on")
        self._limit.set_y(threshold)
        self._here.set_data([draw, draw], [0, self._top])
        self._verdict.set_text(f"draw {draw}: {zeros[-1]} zeros, {'kept' if kept[-1] else 'rejected'}")
        return self._canvas.image()


# ---------------------------------------------------------------- collecting all directions
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


@dataclass(frozen=True)
class Collection:
    """How many draws it took to meet every direction, and what was expected.

    Attributes:
        draws: of each repetition that was completed, at most `RUNS`.
        expected: H_b · 2^(b−1).
        expected_here: the same for the zeros that this batch really has, shared ones left out.
    """

    draws: tuple[int, ...]
    expected: float
    expected_here: float

    @property
    def mean(self) -> float:
        """Mean number of draws; infinite if no repetition was completed."""
        return sum(self.draws) / len(self.draws) if self.draws else float("inf")


@lru_cache(maxsize=64)
def collect(kind: str, batch_size: int) -> Collection:
    """Draw until every direction was met, again and again.

    Args:
        kind: one of `KINDS`.
        batch_size: b ≥ 2.
    """
    stage = batch_of_kind(kind, batch_size)
    draws: list[int] = []
    missing, began = set(range(batch_size)), 0
    for number, sample in _hits(stage):
        missing.discard(sample)
        if not missing:
            draws.append(number - began)
            missing, began = set(range(batch_size)), number
            if len(draws) == RUNS:
                break
    return Collection(tuple(draws), theory.expected_draws(batch_size), expected_for(stage))


def expected_for(stage: Scene) -> float:
    """Expected draws from the zeros of each column, and those that it shares with the most similar one."""
    live = live_rows(stage.low_rank.factor)
    silent = (stage.preactivations <= 0)[:, live].to(torch.int64)
    shared = silent @ silent.T
    zeros = shared.diagonal().clone()
    shared.fill_diagonal_(0)
    b, units = stage.batch_size, len(live)
    chances = [
        theory.hit_probability(b, units, int(own), shared=int(most))
        for own, most in zip(zeros, shared.amax(dim=1))
    ]
    return theory.expected_draws_each(chances)


def _hits(stage: Scene) -> Iterator[tuple[int, int]]:
    """Numbers, from 1 to `MOST_DRAWS`, of the draws that give a sample's direction, and the sample.

    The client's patterns say which draws may hit; that their null vector has *all* zeros of the sample settles
    it: rows that are silent for two samples leave a plane.
    """
    low_rank, b = stage.low_rank, stage.batch_size
    L = low_rank.factor
    live = live_rows(L)
    unit_rows = L[live] / L[live].norm(dim=1, keepdim=True)
    silent = (stage.preactivations <= 0)[:, live]
    generator = torch.Generator().manual_seed(1)
    chunk, total = 256 * b, 0
    while total < MOST_DRAWS:
        draw = draw_directions(unit_rows, chunk, generator=generator)
        zero = silent[:, draw.sets].to(torch.uint8)  # (b, sets, b)
        others = zero.sum(dim=2, keepdim=True) - zero  # zeros among all rows but the j-th
        hits = torch.full((len(draw.directions),), -1)
        for sample, may in enumerate((others == b - 1).reshape(b, -1)):
            at = may.nonzero().flatten()
            q = draw.directions[at].T
            usable = q.isfinite().all(dim=0)
            at, q = at[usable], q[:, usable] / q[:, usable].norm(dim=0)
            small = (L @ q).abs() <= zero_tolerance(low_rank, q)
            hits[at[small[live[silent[sample]]].all(dim=0)]] = sample
        # candidates of one set are not independent; in random order their neighbours are others
        hits = hits[torch.randperm(len(hits), generator=generator)]
        at = (hits >= 0).nonzero().flatten()
        yield from zip((total + at + 1).tolist(), hits[at].tolist())
        total += len(hits)
        chunk = min(2 * chunk, 16_384)


def search_draws(stage: Scene, seed: int) -> int | None:
    """Draws that the real search needs, kernels searched: the same filter, fed one set of rows at a time.

    Args:
        stage: a scene.
        seed: of the draws.

    Returns:
        None if it takes more than `MOST_SEARCHED`.
    """
    low_rank, b = stage.low_rank, stage.batch_size
    generator = torch.Generator().manual_seed(seed)
    live = live_rows(low_rank.factor)
    factor = low_rank.factor[live]
    factor = (factor / factor.norm(dim=1, keepdim=True)).to(torch.float32)
    pool = Pool.empty(b, factor.device)
    threshold = default_threshold(low_rank)
    drawn = 0
    while drawn < MOST_SEARCHED:
        draw = draw_directions(factor, b, generator=generator)
        draw = Draw(draw.directions[:b], draw.sets[:1])
        drawn += b
        passed = draw.directions[passes_first_stage(draw, factor, generator=generator)]
        pool = filter_directions(passed, low_rank, pool, threshold=threshold, generator=generator)
        if int(pool.unique.sum()) >= b:
            return drawn
    return None


class CollectExplorer(base.Explorer):
    """Draws until all directions are met, for batches of unlike and of alike samples.

    Attributes:
        state: a `Collection` for each kind of batch.
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
        self._canvas = drawing.Canvas(drawing.WIDTH, 370)
        self._draw_frame()
        self.searched: dict[tuple[str, int], list[int | None]] = {}
        super().__init__(
            {"batch_size": base.int_slider("batch size b", 6, SIZES[0], SIZES[-1], track=16)},
            buttons=(
                self.button("Run the real search, too", self.search, tooltip="A few seconds; may be stopped"),
            ),
        )
        self.job = Job(self)
        self.children = (*self.children[:2], self.job, *self.children[2:])  # type: ignore[has-type]
        self.control["batch_size"].observe(lambda _: self.job.stop(), "value")
        with base.one_thread():
            for kind, size in product(KINDS, SIZES):  # drawn now, so that the slider does not wait for it
                collect(kind, size)
        self.refresh()

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
        self.show("picture", self._canvas.jpeg())
        self.say(self._words(b))

    def _draw_frame(self) -> None:
        axes = self._canvas.figure.add_axes((0.17, 0.27, 0.81, 0.65))
        axes.set(xscale="log", ylim=(-0.6, len(KINDS) - 0.4), xlim=(1, MOST_DRAWS))
        axes.set_yticks(
            range(len(KINDS)), [kind.replace("two photographs", "two photographs\n") for kind in KINDS]
        )
        axes.set_xlabel("draws until all b directions are met")
        axes.spines[["top", "right"]].set_visible(False)
        lines = [
            axes.plot([], [], "o", color=drawing.BLUE, markersize=4, alpha=0.45, label="one repetition"),
            axes.plot([], [], "D", color=drawing.ORANGE, markersize=10, label="their mean"),
            axes.plot(
                [], [], "|", color=drawing.INK, markersize=22, markeredgewidth=2, label="theory with this batch's zeros"
            ),
            axes.plot(
                [], [], "v", color=drawing.GREEN, markersize=8, markerfacecolor="none", markeredgewidth=1.6,
                label="the real search",
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
        self._canvas.moving(*self._lines, self._title)

    def _draw(self, b: int) -> None:
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, RUNS)
        points: list[list[tuple[float, float]]] = [[], [], [], []]
        for line, kind in enumerate(KINDS):
            found, at = self.state[kind], line + 0.12
            points[0] += [(draws, at + up) for draws, up in zip(found.draws, spread)]
            points[1].append((found.mean, at))
            points[2].append((found.expected_here, at))
            points[3] += [
                (draws, line - 0.28) for draws in self.searched.get((kind, b), []) if draws is not None
            ]
        for artist, pairs in zip(self._lines, points):
            finite = [pair for pair in pairs if np.isfinite(pair[0])]
            artist.set_data([x for x, _ in finite], [y for _, y in finite])
        expected = theory.expected_draws(b)
        self._lines[4].set_data([expected, expected], [-0.6, len(KINDS) - 0.4])
        self._title.set_text(f"b = {b}: H_b · 2^(b−1) = {expected:,.0f} draws")

    def _words(self, b: int) -> str:
        expected = theory.expected_draws(b)
        parts = []
        for kind in KINDS:
            found = self.state[kind]
            parts.append(
                f"{kind} {found.mean / expected:.1f} times"
                if found.draws
                else f"{kind}: not all of them in {MOST_DRAWS:,}"
            )
        return (
            f"Mean draws, compared with H<sub>b</sub>·2<sup>b−1</sup> = {expected:,.0f}: "
            + "; ".join(parts)
            + "."
        )


def title_picture() -> base.Picture:
    """Two hundred draws: most rejected, a few with half of their entries zero."""
    explorer = DrawExplorer()
    explorer.set(batch_size=6, draw=DRAWS)
    return base.Picture(
        explorer.static_picture(),
        "Two hundred random draws for a batch of six: crosses for candidates with few zeros, dots for those that "
        "pass the threshold, and below them the six photographs with the draw that first met each direction.",
    )
