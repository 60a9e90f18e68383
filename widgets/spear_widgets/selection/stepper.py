"""The stepper: pause, play, step and go back through the generator that `invert` drains."""

import html
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from PIL import Image

from spear_core.certificate.words import notes
from spear_core.search import State
from spear_core.spear.selection import greedy
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit import words as wording
from spear_widgets.kit.job import Job
from spear_widgets.kit.samples import in_places
from spear_widgets.kit.scene import DATA
from spear_widgets.selection.panels import PlotPanels
from spear_widgets.selection.runs import POLL_SECONDS, TWINS, Run, client_with
from spear_widgets.selection.state_picture import look, state_picture

WIDTHS = (100, 200, 400)
MOST_RUNS = 8  # that are kept, with their states, while the reader looks at other batches
PLAY_SECONDS = 0.8  # for each state
STAGES = ("low rank", "sampling", "selection", "certificate")


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
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", 12, 2, 12),
                "width": controls.dropdown("width m", WIDTHS, 200),
                "seed": controls.slider("seed", 3, 0, 9, track=7),
                "twins": controls.dropdown("samples", TWINS),
                "position": controls.slider("state", 0, 0, 0, track=14),
            },
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
            self.show("picture", drawing.headline("refused", 14, drawing.WIDTH))
            self.say(f"<b>Refused</b>, before any search: {wording.folded(run.refusal)}")
            return
        position = self.position
        self.show("picture", state_picture(run.stage, run.states[: position + 1], self._plot))
        self.say(words(run, position))

    def reset(self) -> None:
        """All controls back to their first values, and a new run."""
        self.job.stop()
        self._runs.clear()
        self._key = ()
        super().reset()

    def static_picture(self) -> Image.Image:
        """The first, a middle and the last state of this setting's attack, run apart from the one on show."""
        values = self.values
        values.pop("position")
        return film(*values.values())


def _share(run: Run) -> float:
    """Share of the work done, as far as anybody knows: λ is the best guess."""
    return max((state.sparsity_match for state in run.states[-1:]), default=0.0)


@lru_cache(maxsize=8)
def film(name: str, batch_size: int, width: int, seed: int, twins: str) -> Image.Image:
    """The first state, one with half of the directions and the last state of a run, below each other."""
    run = Run(client_with(name, batch_size, width, seed, twins))
    while not run.done:
        run.advance()
    if run.error is not None:
        raise run.error
    if not run.states:
        return drawing.headline(f"refused: {run.refusal}", 14, drawing.WIDTH)
    plot, stage = PlotPanels(), run.stage
    pictures = [state_picture(stage, run.states[: k + 1], plot) for k in film_positions(run.states)]
    return drawing.below(pictures, gap=0)


def film_positions(states: list[State]) -> list[int]:
    """The first state, one with half of the directions or else the first selection, and the last one."""
    b = states[0].batch_size
    half = [k for k, s in enumerate(states) if s.reconstruction is None and b / 2 <= len(greedy(s.pool)) < b]
    selected = [k for k, state in enumerate(states) if state.step == "selection"]
    return list(dict.fromkeys([0, *(half or selected)[:1], len(states) - 1]))


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
            f"<b>{state.samples_drawn:,} draws</b> so far. {wording.count(len(pool), 'direction')} passed the "
            f"filter, and the zeros of "
            f"<b>{int(pool.unique.sum())}</b> leave no other direction; the batch has {b}."
        )
    elif state.step == "selection":
        before = run.states[position - 1]
        how = (
            "A swap raises λ"
            if before.step == "selection"
            else "The sparsest independent directions are chosen"
        )
        text = f"{how}: {chosen} of {b} directions, <b>{wording.match(state.sparsity_match)}</b>."
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
    why = "; ".join(notes(certificate)) or "samples are missing"
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
        made = in_places(stage.batch, seen.inputs, seen.places)
        bands += [drawing.headline(seen.title, 14, drawing.WIDTH), drawing.picture_grid(made, side=side)]
    return base.Picture(
        drawing.below(bands, gap=2),
        "Twelve photographs in three states of the attack: as mixtures, as ghosts while directions are missing, sharp.",
    )
