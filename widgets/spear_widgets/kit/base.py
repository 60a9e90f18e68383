"""What all explorers share: a box of controls, pictures, a sentence that says what they show, a status line.

A subclass names its controls and pictures and writes `update`: read `self.values`, compute, `self.show` the
pictures and `self.say` what they show. The rest is here: quick slider moves are merged, an error is shown in
the status line, and without a kernel the explorer is a picture with its description.
"""

import asyncio
import base64
import html
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as W
import torch
import traitlets
from ipywidgets.widgets.trait_types import CByteMemoryView
from PIL import Image

from spear_widgets.kit import drawing
from spear_widgets.kit.kept import Kept
from spear_widgets.kit.page import page
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.kit.stage import Stage

log = logging.getLogger(__name__)
MERGE_SECONDS = 0.01  # changes so soon after a run had waited for it: they are merged into one
ALIVE = "Run all cells, and it has controls."  # said below the picture that stands in for an explorer


class Explorer(Kept, W.VBox):
    """A box of controls and pictures that follows its controls.

    Attributes:
        name: the box gets the class `spear-<name>`.
        title: heading of the box.
        ribbon: stands beside the title, if there is one.
        description: what the pictures show, in one fixed sentence; the text alternative.
        control: the controls by name.
        picture: the pictures by name, `ipywidgets.Image`.
        live: what the page draws by itself, or None.
        caption: what the pictures show at the present setting, in words.
        status: errors and progress, in words.
    """

    name = "explorer"
    title = ""
    description = ""
    ribbon: Ribbon | None = None  # where it shows what is not in the paper
    caption_height = "5em"  # two lines, so that the page does not jump

    def __init__(
        self,
        controls: Mapping[str, W.Widget],
        pictures: Sequence[str] | None = None,
        *,
        buttons: Sequence[W.Widget] = (),
        live: Stage | None = None,
    ) -> None:
        """Lay out the box. Call `self.refresh()` at the end of the subclass's own `__init__`.

        Args:
            controls: by name; each one with a `value` is watched.
            pictures: names; by default "picture", or none beside a stage.
            buttons: shown beside the controls, for example from `self.button`.
            live: what the page draws by itself, and says in words.
        """
        self.control = dict(controls)
        self.live = live
        if pictures is None:
            pictures = ("picture",) if live is None else ()
        self.picture = {name: image(self.description) for name in pictures}
        self._drawn: dict[str, Image.Image] = {}
        # room for its lines, so that nothing below jumps when the words grow; a stage says its own
        room = self.caption_height if self.picture else "0"
        self.caption = W.HTML(layout=W.Layout(min_height=room)).add_class("spear-caption")
        self.status = W.HTML(layout=W.Layout(min_height="1.6em")).add_class("spear-status")
        self._first = self.values
        self._listening = True
        self._ended = 0.0
        self._scheduled: asyncio.TimerHandle | None = None
        self.runs = 0
        reset = self.button("Reset", self.reset, tooltip="All controls back to where they were at first")
        row = W.Box(
            [*self.control.values(), W.HBox([*buttons, reset])],  # buttons stay together where the row breaks
            layout=W.Layout(display="flex", flex_flow="row wrap", align_items="center", grid_gap="2px 14px"),
        )
        heading = W.HTML(
            f"<b style='font-size:1.1em'>{html.escape(self.title)}</b> {self.ribbon.html if self.ribbon else ''}"
        )
        shown = [*([] if live is None else [live]), *self.picture.values()]
        around = [page()] if pictures else []  # a stage looks around by itself
        super().__init__([heading, *([row] if controls else []), *shown, self.caption, self.status, *around])
        self.add_class(f"spear-{self.name}")
        for control in self.control.values():
            if control.has_trait("value"):
                control.observe(self._on_change, "value")
        if pictures:
            page().tell(self)

    # ---------------------------------------------------------------- for subclasses
    def update(self) -> None:
        """Compute from `self.values`, then `show` and `say`. May raise: the error is shown."""
        raise NotImplementedError

    @property
    def values(self) -> dict[str, Any]:
        """The controls' present values by name."""
        return {name: c.value for name, c in self.control.items() if c.has_trait("value")}

    def show(self, picture: str, content: Image.Image) -> None:
        """Put a picture on display, on a sheet that is never lower than the one before."""
        height = self._drawn[picture].height if picture in self._drawn else 0
        self._drawn[picture] = drawing.on_width(content, height)
        self.picture[picture].value = drawing.encode(self._drawn[picture])

    def say(self, words: str) -> None:
        """Say in words what the pictures show now (HTML is allowed)."""
        self.caption.value = words

    def button(self, label: str, handler: Callable[[], None], *, tooltip: str = "") -> W.Button:
        """A button whose errors go to the status line."""
        button = W.Button(description=label, tooltip=tooltip or label, layout=W.Layout(width="auto"))
        button.on_click(lambda _: self.guard(handler))
        return button

    def answered(self, choice: str) -> None:
        """The reader has answered the question that covered this; a picture that can show the answer, does."""

    # ---------------------------------------------------------------- for readers and tests
    def refresh(self) -> None:
        """Compute and draw now. Raises what `update` raises."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self.runs += 1
        try:
            with one_thread(), drawing.on_page():
                self.update()
            self.status.value = ""
        finally:
            self._ended = time.monotonic()

    def redraw(self) -> None:
        """Draw what there is once more, because the page looks otherwise."""
        self.refresh()

    def set(self, **values: Any) -> None:
        """Set several controls and draw once.

        Raises:
            KeyError: no such control.
            traitlets.TraitError: a value that the control does not take.
        """
        with self.quietly():
            for name, value in values.items():
                self.control[name].value = value
        self.refresh()

    def move(self, control: str, by: int) -> None:
        """Move a slider by some steps, as far as it goes."""
        slider = self.control[control]
        self.set(**{control: min(max(slider.value + by, slider.min), slider.max)})

    def reset(self) -> None:
        """All controls back to their first values, and pictures to their first heights."""
        self._drawn.clear()
        self.set(**self._first)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Controls that are set inside do not start a run."""
        before, self._listening = self._listening, False
        try:
            yield
        finally:
            self._listening = before

    def guard(self, handler: Callable[[], None]) -> None:
        """Call a handler; an error goes to the status line in words, and to the log with its traceback."""
        try:
            handler()
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Show an error."""
        log.error("%s: %s", self.name, error, exc_info=error)
        self.status.value = f"Error: {html.escape(str(error) or type(error).__name__)}"

    # ---------------------------------------------------------------- inside
    def _on_change(self, change: object) -> None:
        """Draw at once, unless this change came while another was being drawn: those wait and are merged."""
        if not self._listening or self._scheduled is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or time.monotonic() - self._ended > MERGE_SECONDS:
            self.guard(self.refresh)
        else:
            self._scheduled = loop.call_later(MERGE_SECONDS, self.guard, self.refresh)

    def static_picture(self) -> Image.Image:
        """What stands for the explorer where there is no kernel, as on white paper."""
        if self.live is not None:
            still = Image.open(io.BytesIO(self.live.still)).convert("RGB")
            return still.resize(
                (still.width * drawing.SCALE, still.height * drawing.SCALE), Image.Resampling.NEAREST
            )
        if drawing.page() == drawing.ON_PAPER:
            return drawing.below(list(self._drawn.values()), gap=0)
        with drawing.page_is_paper():
            self.redraw()
            picture = self.static_picture()
        self.redraw()
        return picture

    @classmethod
    def still(cls) -> "Picture":
        """The explorer as it opens, as a picture."""
        return Picture(cls().static_picture(), cls.description)  # type: ignore[call-arg]  # subclasses take none

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = dict(super()._repr_mimebundle_(**kwargs) or {})
        words = f"{self.ribbon.words}. " if self.ribbon else ""
        picture = drawing.captioned(self.static_picture(), f"{words}{self.description} {ALIVE}")
        shown, metadata = Picture(picture, self.description)._repr_mimebundle_()
        return data | shown, metadata


@contextmanager
def one_thread() -> Iterator[None]:
    """Small arrays on one core: waiting for a second one costs more, and far more where others use it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class DescribedImage(W.Image):
    """An image with a text alternative that reaches the page as a data URL.

    The front end makes a tooltip the picture's title, which screen readers read, but looks for a description
    first, and stumbles over images, which have none. A data URL is on the page some 10 ms before the blob
    that the front end would make of the bytes.
    """

    description = traitlets.Unicode("").tag(sync=True)
    format = traitlets.Unicode("url").tag(sync=True)
    value = CByteMemoryView().tag(sync=True, to_json=lambda value, _: _data_url(value))


def _data_url(picture: memoryview) -> bytes:
    kind = b"png" if bytes(picture[:4]) == b"\x89PNG" else b"jpeg"
    return b"data:image/" + kind + b";base64," + base64.b64encode(picture)


def image(alt: str) -> W.Image:
    """An empty image with its text alternative, as wide as a whole-width picture."""
    # an <img> is as wide as its pixels, of which there are several to one of the page; on a narrow page it shrinks
    layout = W.Layout(width=f"{drawing.WIDTH}px", max_width="100%", height="auto", align_self="flex-start")
    return DescribedImage(layout=layout, tooltip=alt)


class Picture:
    """A picture with its description, for the end of a cell."""

    def __init__(self, picture: Image.Image, description: str) -> None:
        self.picture = picture
        self.description = description

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/png": drawing.stored(self.picture), "text/plain": self.description}
        return data, {"image/png": {"alt": self.description, "width": self.picture.width // drawing.SCALE}}
