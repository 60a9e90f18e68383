"""An attack beside the page: a thread that hears a stop between two states of the search."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from spear_core.search import State

T = TypeVar("T")


class Beside(threading.Thread, Generic[T]):
    """Runs a function, which hands the `report` that it is given to the attack as its `progress=`.

    Attributes:
        result: what it returned, when it has ended.
        latest: the search's latest state.
        stopped: whether it was asked to end with the best so far.
        error: what it raised.
    """

    def __init__(self, work: Callable[[Callable[[State], None]], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: T | None = None
        self.began = time.perf_counter()
        self.latest: State | None = None
        self.stopped = False
        self.error: Exception | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.began

    def stop(self) -> None:
        """Ask the search to end with the best so far."""
        self.stopped = True

    def end(self) -> None:
        """Wait for it, which a reader's stop makes short: it ends with its present step. Raises what it raised."""
        if self.is_alive():
            self.stop()
            self.join()
        if self.error is not None:
            raise self.error

    def report(self, state: State) -> None:
        """Note a state; after a stop, end."""
        self.latest = state
        if self.stopped:
            raise KeyboardInterrupt  # what `invert` takes as "hand back the best so far"

    def run(self) -> None:
        """Work, and keep what is raised."""
        self.began = time.perf_counter()
        try:
            self.result = self._work(self.report)
        except Exception as error:
            self.error = error
