"""The attack's generator on a client of the reader's choice, with the states that it has yielded."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch

import spear_core
from spear_core.search import State
from spear_widgets.kit.scene import Scene, of_batch, scene

MOST_SAMPLES = 100_000  # draws after which the search gives up
NEAR = 0.02  # noise on the copy of a sample, in standard deviations of the data
POLL_SECONDS = 0.03  # how often the page is looked after while a state is computed
TWINS = (
    ("as it comes", "none"),
    ("1 and 2 nearly equal", "near"),
    ("1 and 2 with one activation pattern", "same"),
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
    """

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.states: list[State] = []
        self.done = False
        self.refusal = ""
        self.error: Exception | None = None
        self._generator = spear_core.states(stage.problem, method="sampling", max_samples=MOST_SAMPLES)
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
