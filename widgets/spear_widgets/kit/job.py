"""Long work in small steps, with progress and a stop button, while the page stays alive."""

import asyncio
import time
from collections.abc import Callable, Iterator

import ipywidgets as W

from spear_widgets.kit.base import Explorer

SLICE_SECONDS = 0.05  # how long to work before the kernel may look at its messages


class Job(W.HBox):
    """Runs an iterator that yields the share done so far, 0 to 1.

    Inside a kernel it works in slices, so that the stop button is heard; without an event loop (a script, a
    test) `start` returns when all is done.

    It takes its place below the explorer's controls.

    Attributes:
        running: whether work is going on.
        bar: the progress bar.
        stop_button: asks the work to end after its present step.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.running = False
        self.bar = W.FloatProgress(value=0.0, min=0.0, max=1.0, layout=W.Layout(width="12em"))
        self.stop_button = explorer.button("Stop", self.stop, tooltip="End the work and keep what there is")
        self._task: asyncio.Task[None] | None = None
        super().__init__([self.bar, self.stop_button], layout=W.Layout(visibility="hidden"))
        heading, controls, *rest = explorer.children
        explorer.children = (heading, controls, self, *rest)

    def start(
        self, steps: Iterator[float], then: Callable[[], None] | None = None, *, rest: float = 0.0
    ) -> None:
        """Begin; a job that is still running is stopped first.

        Args:
            steps: does a small piece of work before each yield of the share done.
            then: called at the end, also after a stop.
            rest: seconds to wait after every step, for steps that only look at what a thread does.
        """
        self.stop()
        self.running = True
        self.layout.visibility = "visible"
        slices = self._slices(steps, then, 0.0 if rest else SLICE_SECONDS)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            for _ in slices:
                time.sleep(rest)
        else:
            self._task = loop.create_task(self._work(slices, rest))

    def stop(self) -> None:
        """Ask the work to end; what there is stays."""
        self.running = False

    async def _work(self, slices: Iterator[None], rest: float) -> None:
        try:
            for _ in slices:
                await asyncio.sleep(rest)
        except Exception as error:
            self.explorer.fail(error)

    def _slices(
        self, steps: Iterator[float], then: Callable[[], None] | None, seconds: float
    ) -> Iterator[None]:
        me = self._current = object()  # a job that was started later takes over bar and flag
        try:
            began = time.monotonic()
            for share in steps:
                self.bar.value = share
                if not self.running or self._current is not me:
                    break
                if time.monotonic() - began >= seconds:
                    yield
                    began = time.monotonic()
                    if not self.running or self._current is not me:
                        break
            if then is not None and self._current is me:
                then()
        finally:
            if self._current is me:
                self.running = False
                self.layout.visibility = "hidden"
