"""The stepper: pause, play, step and go back through the generator that `invert` drains."""

import html
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw
from torch import Tensor

import spear_core
from spear_core import tracing
from spear_core.certificate import GRADIENT, REPLAY, UNIQUE, ZEROS
from spear_core.data import Batch
from spear_core.metrics import compare
from spear_core.reconstruction import reconstruct
from spear_core.selection import greedy
from spear_core.sparsity import default_threshold
from spear_core.state import State
from widgets import base, drawing
from widgets.job import Job
from widgets.low_rank import sample_pictures
from widgets.scene import DATA, Scene, of_batch, scene

WIDTHS = (100, 200, 400)
MOST_SAMPLES = 100_000  # draws after which the search gives up
NEAR = 0.02  # noise on the copy of a sample, in standard deviations of the data
MOST_RUNS = 8  # that are kept, with their states, while the reader looks at other batches
PLAY_SECONDS = 0.8  # for each state
POLL_SECONDS = 0.03  # how often the page is looked after while a state is computed
WORST, BEST = 0.0, -7.0  # powers of ten of the error map, black and white
TWINS = (
    ("as it comes", "none"),
    ("1 and 2 nearly equal", "near"),
    ("1 and 2 with one activation pattern", "same"),
)
PARTS = (GRADIENT, ZEROS, UNIQUE, REPLAY)
STAGES = ("low rank", "sampling", "selection", "certificate")
TRACK = (
    ("1 low rank", "low rank"),
    ("2 sampling", "sampling"),
    ("3 filter", "sampling"),
    ("4 selection", "selection"),
    ("5 reconstruction", "selection"),
    ("certificate", "certificate"),
)


# ---------------------------------------------------------------- the batch
@lru_cache(maxsize=16)
def client_with(name: str, batch_size: int, width: int, seed: int, twins: str = "none") -> Scene:
    """A client, whose first two samples may be twins.

    Args:
        name: of the data.
        batch_size: b ≥ 2.
        width: m.
        seed: of data and weights.
        twins: "none"; "near", sample 2 is sample 1 plus a little noise; "same", so little that no unit of the
            attacked layer tells the two apart. Their labels differ, as they do for two pictures of two things.

    Raises:
        ValueError: another kind of twins.
    """
    if twins not in dict(TWINS).values():
        raise ValueError(f'twins must be "none", "near" or "same", got {twins!r}')
    stage = scene(name, batch_size, width, seed)
    noise = NEAR * torch.randn(stage.batch.inputs.shape[1], generator=torch.Generator().manual_seed(0))
    labels = stage.batch.labels.clone()
    labels[1] = (labels[0] + 1) % stage.batch.classes
    while twins != "none":
        inputs = stage.batch.inputs.clone()
        inputs[1] = inputs[0] + noise
        stage = of_batch(replace(stage.batch, inputs=inputs, labels=labels), width=width, seed=seed)
        pattern = stage.preactivations > 0
        if twins == "near" or torch.equal(pattern[0], pattern[1]):
            break
        noise = noise / 2
    return stage


# ---------------------------------------------------------------- the run
class Run:
    """The attack's generator with the states that it has yielded so far.

    Attributes:
        stage: the client and its gradient.
        states: seen so far, in order.
        done: whether the generator has ended.
        refusal: why the attack refused the gradient, in words.
        error: what the generator raised, other than a refusal; it has then ended.
        frames: pictures that were drawn already, by position.
    """

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.states: list[State] = []
        self.done = False
        self.refusal = ""
        self.error: Exception | None = None
        self.frames: dict[int, bytes] = {}
        problem = tracing.read_problem(stage.model, stage.gradients)
        self._generator = spear_core.states(problem, method="sampling", max_samples=MOST_SAMPLES)
        self._worker: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the next state is being computed."""
        return self._worker is not None and self._worker.is_alive()

    def advance(self) -> None:
        """Compute the next state; at the end do nothing."""
        if self.done:
            return
        try:
            self.states.append(next(self._generator))
        except StopIteration:
            self.done = True
        except ValueError as refusal:
            self.refusal, self.done = str(refusal), True
        except Exception as error:
            self.error, self.done = error, True

    def advancing(self) -> Iterator[None]:
        """The same beside the page: yields while it waits. A state that is under way is waited for."""
        if not self.busy:
            self._worker = threading.Thread(target=self.advance, daemon=True)
            self._worker.start()
        while self.busy:
            assert self._worker is not None
            self._worker.join(POLL_SECONDS)
            yield


# ---------------------------------------------------------------- what a state shows
@dataclass(frozen=True)
class Look:
    """The batch that a state amounts to, in the order of the private one.

    Attributes:
        title: what the pictures are.
        inputs: rows, shape (k, n).
        places: for each private sample the row that belongs to it, −1 for none, shape (b,).
        errors: largest absolute error of each private sample, infinite where there is no row, shape (b,).
    """

    title: str
    inputs: Tensor
    places: Tensor
    errors: Tensor


def look(stage: Scene, state: State) -> Look:
    """What the directions found so far make of the batch.

    Before there are b of them, the pseudo-inverse stands for Q⁻¹: each sample is mixed with the missing ones.
    Before there is any, the rows of R are all there is.
    """
    chosen = greedy(state.pool) if len(state.pool) else ()
    truth = stage.batch.inputs.to(torch.float64)
    b = len(truth)
    if state.reconstruction is not None:
        inputs, title = state.reconstruction.inputs, "recovered from the chosen directions"
    elif chosen:
        inputs = reconstruct(stage.forward, state.pool.directions[:, list(chosen)]).inputs
        title = f"ghosts: what {len(chosen)} of {b} directions give"
    else:
        rows = state.low_rank.rows
        inputs, title = rows / rows.std(dim=1, keepdim=True), "rows of R: mixtures of all samples"
    if not inputs.isfinite().all():
        inputs = inputs.nan_to_num()
    places = compare(inputs, truth).order
    errors = torch.full((b,), torch.inf, dtype=torch.float64)
    there = places >= 0
    errors[there] = (inputs[places[there]] - truth[there]).abs().amax(dim=1)
    return Look(title, inputs, places, errors)


def error_pictures(batch: Batch, errors: Tensor) -> np.ndarray:
    """Absolute errors as grey pictures on a logarithmic scale, uint8 (k, H, W, 3): white is rounding.

    Args:
        batch: for the shape of its pictures.
        errors: shape (k, n).
    """
    powers = errors.abs().clamp_min(10.0**BEST).log10().clamp(BEST, WORST)
    shade = ((WORST - powers) / (WORST - BEST) * 255).round().to(torch.uint8)
    if batch.shape is not None:
        picture = shade.reshape(-1, *batch.shape).amin(dim=1)  # the worst of the colours
    else:
        n = shade.shape[1]
        side = -(-n // 6)
        picture = torch.full((len(shade), 6 * side), 255, dtype=torch.uint8)
        picture[:, :n] = shade
        picture = picture.reshape(-1, 6, side)
    return picture[..., None].expand(*picture.shape, 3).numpy()


# ---------------------------------------------------------------- the explorer
class Stepper(base.Explorer):
    """Steps through the attack on a batch of the reader's choice.

    Attributes:
        run: the generator and the states seen.
        position: of the state that is shown.
        job: plays, steps and computes; its button pauses.
        play_seconds: how long each state is shown while playing.
    """

    name = "stepper"
    title = "The whole attack, state by state"
    description = (
        "Three states of one attack: at first rows of R that show mixtures of all photographs, then ghosts while "
        "directions are missing, at last the recovered photographs with their error map and the certificate."
    )

    def __init__(self, **first: Any) -> None:
        """Begin at the split of the gradient.

        Args:
            first: values of controls to begin with.
        """
        self.play_seconds = PLAY_SECONDS
        self.run: Run | None = None
        self._runs: dict[tuple[Any, ...], Run] = {}
        self._key: tuple[Any, ...] = ()
        self._plot = PlotPanels()
        super().__init__(
            {
                "data": base.dropdown("data", DATA),
                "batch_size": base.int_slider("batch size b", 12, 2, 12),
                "width": base.dropdown("width m", WIDTHS, 200),
                "seed": base.int_slider("seed", 3, 0, 9, track=7),
                "twins": base.dropdown("samples", TWINS),
                "position": base.int_slider("state", 0, 0, 0, track=14),
            },
            format="jpeg",
            buttons=(
                self.button("First", self.first, tooltip="Back to the first state"),
                self.button("◀ Back", self.back, tooltip="One state back"),
                self.button("Step ▶", self.step, tooltip="One state on"),
                self.button("Play", self.play, tooltip="On and on, until you pause"),
                self.button("End", self.finish, tooltip="To the last state"),
                *(
                    self.button(f"→ {stage}", self._jumper(stage), tooltip=f"On to {stage}")
                    for stage in STAGES[1:]
                ),
            ),
        )
        self.job = Job(self)
        self.job.stop_button.description = "Pause"
        self.children = (*self.children[:2], self.job, *self.children[2:])  # type: ignore[has-type]
        with self.quietly():
            for control, value in first.items():
                self.control[control].value = value
        self._first = self.values
        self.refresh()

    # ------------------------------------------------------------ moving
    @property
    def position(self) -> int:
        """Of the state that is shown, from 0."""
        return int(self.control["position"].value)

    @property
    def state(self) -> State | None:
        """The state that is shown; None if the attack refused."""
        assert self.run is not None
        return self.run.states[self.position] if self.run.states else None

    def first(self) -> None:
        """Show the first state; the later ones stay."""
        self.job.stop()
        self.set(position=0)

    def back(self) -> None:
        """Show the state before; at the first one, stay."""
        self.job.stop()
        self.set(position=max(self.position - 1, 0))

    def step(self) -> None:
        """Show the next state; at the end, stay."""
        self._go(lambda state: True)

    def play(self) -> None:
        """Show one state after the other."""
        self._go(lambda state: False, self.play_seconds)

    def finish(self) -> None:
        """Run to the end and show the last state."""
        self._go(lambda state: False)

    def finish_now(self) -> None:
        """Run to the end and wait for it.

        Raises:
            Exception: what the attack raised.
        """
        assert self.run is not None
        self.job.stop()
        for _ in self._moves(self.run, lambda state: False, 0.0):
            pass

    def jump(self, stage: str) -> None:
        """On to the next state of a stage; to the last state if there is none.

        Raises:
            ValueError: an unknown stage.
        """
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        if stage == STAGES[0]:
            self.first()
        else:
            self._go(lambda state: state.step == stage)

    def _jumper(self, stage: str) -> Callable[[], None]:
        return lambda: self.jump(stage)

    def _go(self, arrived: Callable[[State], bool], pause: float = 0.0) -> None:
        assert self.run is not None
        self.job.start(self._moves(self.run, arrived, pause))

    def _moves(self, run: Run, arrived: Callable[[State], bool], pause: float) -> Iterator[float]:
        """Move on state by state, computing those that were not seen yet."""
        while run is self.run:
            if self.position + 1 == len(run.states) and not run.done:
                for _ in run.advancing():
                    self.status.value = f"Computing state {len(run.states) + 1} …"
                    yield _share(run)
                self.status.value = ""
                if run.error is not None:
                    raise run.error
            if run is not self.run or self.position + 1 >= len(run.states):
                break
            self._show(self.position + 1)
            if arrived(run.states[self.position]):
                break
            yield _share(run)
            until = time.monotonic() + pause
            while time.monotonic() < until:
                time.sleep(POLL_SECONDS)
                yield _share(run)

    def _show(self, position: int) -> None:
        with self.quietly():
            assert self.run is not None
            self.control["position"].max = len(self.run.states) - 1
            self.control["position"].value = position
        self.refresh()

    # ------------------------------------------------------------ drawing
    def update(self) -> None:
        """Draw the present state; another setting begins another run, or goes on with the one it had."""
        values = self.values
        position = values.pop("position")
        key = tuple(values.values())
        if self.run is None or key != self._key:
            if self.run is not None:
                self.job.stop()
            self.run = self._runs.pop(key, None) or Run(client_with(*key))
            self._runs[key] = self.run  # the latest last
            while len(self._runs) > MOST_RUNS:
                self._runs.pop(next(iter(self._runs)))
            self._key = key
            if not self.run.states and not self.run.busy:
                self.run.advance()
            position = 0
        run = self.run
        if run.error is not None and not run.states:
            raise run.error
        with self.quietly():
            self.control["position"].max = max(len(run.states) - 1, 0)
            self.control["position"].value = position
        if not run.states:
            self.show("picture", drawing.encode(drawing.headline("refused", 14, drawing.WIDTH), "jpeg"))
            self.say(f"<b>Refused</b>, before any search: {html.escape(run.refusal)}")
            return
        position = self.position
        if position not in run.frames:
            run.frames[position] = drawing.encode(
                state_picture(run.stage, run.states[: position + 1], self._plot), "jpeg"
            )
        self.show("picture", run.frames[position])
        self.say(words(run, position))

    def reset(self) -> None:
        """All controls back to their first values, and a new run."""
        self.job.stop()
        self._runs.clear()
        self._key = ()
        super().reset()

    def static_picture(self) -> bytes:
        """The first, a middle and the last state of this setting's attack, run apart from the one on show."""
        values = self.values
        values.pop("position")
        return film(*values.values())


def _share(run: Run) -> float:
    """Share of the work done, as far as anybody knows: λ is the best guess."""
    return max((state.sparsity_match for state in run.states[-1:]), default=0.0)


@lru_cache(maxsize=8)
def film(name: str, batch_size: int, width: int, seed: int, twins: str) -> bytes:
    """The first state, one with half of the directions and the last state of a run, below each other, as PNG."""
    run = Run(client_with(name, batch_size, width, seed, twins))
    while not run.done:
        run.advance()
    if run.error is not None:
        raise run.error
    if not run.states:
        return drawing.encode(drawing.headline(f"refused: {run.refusal}", 14, drawing.WIDTH))
    plot, stage = PlotPanels(), run.stage
    pictures = [state_picture(stage, run.states[: k + 1], plot) for k in film_positions(run.states)]
    return drawing.stack_pictures([drawing.encode(picture) for picture in pictures])


def film_positions(states: list[State]) -> list[int]:
    """The first state, one with half of the directions or else the first selection, and the last one."""
    b = states[0].batch_size
    half = [k for k, s in enumerate(states) if s.reconstruction is None and b / 2 <= len(greedy(s.pool)) < b]
    selected = [k for k, state in enumerate(states) if state.step == "selection"]
    return list(dict.fromkeys([0, *(half or selected)[:1], len(states) - 1]))


def state_picture(
    stage: Scene, states: list[State], plot: "PlotPanels", *, whole: bool = True
) -> Image.Image:
    """One state: stages, private batch, what is made of it, its error, certificate, pool and λ.

    Args:
        stage: the client.
        states: all up to the one to be drawn.
        plot: draws pool and λ.
        whole: whether to draw stages and certificate; without them, only what step 4 changes.
    """
    state = states[-1]
    seen = look(stage, state)
    batch, b = stage.batch, len(stage.batch.inputs)
    private = sample_pictures(batch, batch.inputs)
    blank = np.full_like(private, 235 if private.dtype == np.uint8 else 0.92)
    made, wrong = blank.copy(), np.full((b, *private.shape[1:]), 235, dtype=np.uint8)
    there = (seen.places >= 0).nonzero().flatten()
    rows = seen.inputs[seen.places[there]]
    made[there.numpy()] = sample_pictures(batch, rows)
    wrong[there.numpy()] = error_pictures(batch, rows - batch.inputs[there])
    labels = ["none yet" if not np.isfinite(e) else f"off by {_power(e)}" for e in seen.errors.tolist()]
    side = min(84, (drawing.WIDTH - 8) // b - 8)
    pictures = [
        drawing.headline("the private batch, for comparison", 13, drawing.WIDTH),
        drawing.picture_grid(private, side=side),
        drawing.headline(seen.title, 13, drawing.WIDTH),
        drawing.picture_grid(made, side=side),
        drawing.headline("error: white is rounding, black is an error of one standard deviation or more", 13),
        drawing.picture_grid(wrong, side=side, labels=labels, frames=[drawing.FAINT] * b),
    ]
    bands = [drawing.below(pictures, gap=0), plot.image(states)]
    if whole:
        track = [(name, "filled" if step == state.step else "empty") for name, step in TRACK]
        bands = [_boxes(track), bands[0], _boxes(lamps(state)), bands[1]]
    return drawing.below(bands, gap=4)


def _power(error: float) -> str:
    return "1e-7" if error < 1e-7 else f"{error:.0e}".replace("e-0", "e-").replace("e+00", "")


def lamps(state: State) -> list[tuple[str, str]]:
    """The certificate's parts with how they look: dark before the certificate, then lit or refused."""
    parts = {} if state.certificate is None else state.certificate.parts
    looks = {True: ("✓ ", "good"), False: ("✗ ", "bad"), None: ("– ", "empty")}
    found = []
    for name in PARTS:
        mark, tint = looks[parts[name]] if name in parts else ("… ", "empty")
        found.append((mark + name, tint))
    return found


def _boxes(items: list[tuple[str, str]]) -> Image.Image:
    """Texts in boxes side by side over the whole width."""
    fills = {"filled": drawing.BLUE, "empty": drawing.PAPER, "good": drawing.GREEN, "bad": drawing.ORANGE}
    sheet = Image.new("RGB", (drawing.WIDTH, 34), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    wide = (drawing.WIDTH - 8) / len(items)
    for k, (text, tint) in enumerate(items):
        left = 8 + k * wide
        draw.rectangle((left, 4, left + wide - 8, 30), fill=fills[tint], outline=drawing.INK)
        ink = drawing.INK if tint == "empty" else drawing.PAPER
        draw.text((left + wide / 2 - 4, 17), text, fill=ink, font=drawing.font(13), anchor="mm")
    return sheet


class PlotPanels:
    """The pool as a scatter of zeros, and λ over the states.

    What moves is drawn on stored axes, which are drawn anew only when a limit changes: it keeps a step quick.
    """

    def __init__(self, counted: str = "state", first: int = 1) -> None:
        """Make the axes.

        Args:
            counted: what the states are called on the axis.
            first: number of the first one.
        """
        self._first = first
        self._limits: tuple[float, ...] = ()
        self._canvas = drawing.Canvas(drawing.WIDTH, 230)
        self._pool = self._canvas.figure.add_axes((0.07, 0.2, 0.45, 0.66))
        self._trace = self._canvas.figure.add_axes((0.62, 0.2, 0.36, 0.66))
        looks = (
            ("mixture?", "x", drawing.FAINT, 5),
            ("unique", "o", drawing.BLUE, 6),
            ("chosen", "D", drawing.ORANGE, 7),
        )
        self._kinds = [
            self._pool.plot([], [], mark, color=tint, markersize=size, label=name)[0]
            for name, mark, tint, size in looks
        ]
        self._pool.legend(fontsize=9, loc="upper right", ncols=3, framealpha=0.9)
        (self._least,) = self._pool.plot([], [], "--", color=drawing.INK, linewidth=1)
        self._pool.set(ylabel="zeros of L q", xlabel="directions in the pool, most zeros first (dashed: τ m)")
        (self._match,) = self._trace.plot([], [], "D-", color=drawing.ORANGE, markersize=5, linewidth=1)
        self._trace.axhline(1, color=drawing.INK, linestyle="--", linewidth=1)
        self._trace.set(xlabel=counted, ylabel="λ")
        self._titles = [axes.set_title(" ", fontsize=11, loc="left") for axes in (self._pool, self._trace)]
        for axes in (self._pool, self._trace):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.spines[["top", "right"]].set_visible(False)
        self._canvas.moving(*self._kinds, self._least, self._match, *self._titles)

    def image(self, states: list[State]) -> Image.Image:
        """The pool of the last state, and λ of them all."""
        values = [np.nan if state.reconstruction is None else state.sparsity_match for state in states]
        self._set_limits(states[-1], values)
        self._set_pool(states[-1])
        self._match.set_data(range(self._first, self._first + len(values)), values)
        self._titles[1].set_text("no batch chosen yet" if np.isnan(values[-1]) else f"λ = {values[-1]:.4f}")
        return self._canvas.image()

    def _set_limits(self, state: State, values: list[float]) -> None:
        m = len(state.low_rank.factor)
        members = 10 * max(1, -(-len(state.pool) // 10))  # in coarse steps, so that they seldom change
        count = 8 * max(1, -(-len(values) // 8))
        low = np.floor(20 * min([0.9, *(value for value in values if not np.isnan(value))])) / 20 - 0.01
        limits: tuple[float, ...] = (m, members, count, low)
        if self._limits == limits:
            return
        self._limits = limits
        self._pool.set(xlim=(0, members + 1), ylim=(0, 0.75 * m))
        self._trace.set(xlim=(self._first - 0.5, self._first + count - 0.5), ylim=(low, 1 + (1 - low) * 0.1))
        self._canvas.redraw()

    def _set_pool(self, state: State) -> None:
        pool, chosen = state.pool, set(state.chosen)
        places: list[list[tuple[int, int]]] = [[], [], []]
        for place, k in enumerate(pool.zeros.argsort(descending=True).tolist(), 1):
            kind = 2 if k in chosen else 1 if bool(pool.unique[k]) else 0
            places[kind].append((place, int(pool.zeros[k])))
        for line, points in zip(self._kinds, places):
            line.set_data([x for x, _ in points], [y for _, y in points])
        least = default_threshold(state.low_rank) * len(state.low_rank.factor)
        self._least.set_data(self._pool.get_xlim(), [least, least])
        self._titles[0].set_text(f"{state.samples_drawn:,} draws, pool of {len(pool)}")


def words(run: Run, position: int) -> str:
    """One state in words."""
    state, b = run.states[position], len(run.stage.batch.inputs)
    pool, chosen = state.pool, len(state.chosen)
    total = f" of {len(run.states)}" if run.done else ""
    if state.step == "low rank":
        text = (
            f"The gradient is split, G = L R, and its rank says b = <b>{state.batch_size}</b>. "
            "No direction is known yet."
        )
    elif state.step == "sampling":
        text = (
            f"<b>{state.samples_drawn:,} draws</b> so far. {len(pool)} directions passed the filter, and the zeros of "
            f"<b>{int(pool.unique.sum())}</b> leave no other direction; the batch has {b}."
        )
    elif state.step == "selection":
        before = run.states[position - 1]
        how = (
            "A swap raises λ"
            if before.step == "selection"
            else "The sparsest independent directions are chosen"
        )
        text = f"{how}: {chosen} of {b} directions, <b>λ = {state.sparsity_match:.4f}</b>."
    else:
        text = _verdict(state)
    notes = f" {html.escape('; '.join(state.notes))}." if any(state.notes) else ""
    return f"State {position + 1}{total}, {state.step}. {text}{notes}"


def _verdict(state: State) -> str:
    certificate = state.certificate
    if certificate is None:
        return "Nothing was found, so nothing can be certified."
    if state.certified:
        return f"<b>Certified: all {state.batch_size} samples are exact.</b>"
    why = "; ".join(certificate.notes) or "samples are missing"
    return f"<b>Refused</b>: {html.escape(why)}."


def title_picture() -> base.Picture:
    """The batch in three states: mixtures, ghosts, photographs."""
    stepper = Stepper()
    stepper.finish_now()
    assert stepper.run is not None
    stage, states = stepper.run.stage, stepper.run.states
    side = (drawing.WIDTH - 8) // len(stage.batch.inputs) - 8
    bands = []
    for k in film_positions(states):
        seen = look(stage, states[k])
        made = np.full((len(seen.places), *stage.batch.pictures(stage.batch.inputs).shape[1:]), 0.92)
        there = (seen.places >= 0).nonzero().flatten()
        made[there.numpy()] = sample_pictures(stage.batch, seen.inputs[seen.places[there]])
        bands += [drawing.headline(seen.title, 14, drawing.WIDTH), drawing.picture_grid(made, side=side)]
    return base.Picture(
        drawing.encode(drawing.below(bands, gap=2)),
        "Twelve photographs in three states of the attack: as mixtures, as ghosts while directions are missing, sharp.",
    )
