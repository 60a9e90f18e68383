"""The page around the pictures: a widget that shows nothing and tells its colour, at once and when it changes."""

import weakref
from functools import cache
from pathlib import Path
from typing import Protocol

import anywidget
import ipywidgets as W
import traitlets

from spear_widgets.kit import drawing
from spear_widgets.kit.stage import bundled

# a slider's text is cut where the page gives it a fixed width
WHOLE = ".widget-readout { width: auto; min-width: 4.5em; max-width: none; flex: none; overflow: visible; }"


class Drawn(Protocol):
    """What is drawn for a page."""

    def redraw(self) -> None:
        """Draw what there is once more."""

    def fail(self, error: BaseException) -> None:
        """Show an error."""


class Page(anywidget.AnyWidget):
    """What the reader's page looks like; one for all explorers of a kernel, each of which holds it.

    Attributes:
        seen: `{"paper": [red, green, blue], "dark": bool}`; empty until a page has told.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode(f"[class*=spear-] {WHOLE}").tag(sync=True)
    seen = traitlets.Dict().tag(sync=True)

    def __init__(self) -> None:
        self._explorers: weakref.WeakSet[Drawn] = weakref.WeakSet()
        esm = bundled(Path(__file__).with_suffix(".js"))
        super().__init__(_esm=esm, layout=W.Layout(display="none"))

    def tell(self, explorer: Drawn) -> None:
        """From now on, have an explorer drawn again when the page has changed."""
        self._explorers.add(explorer)

    @traitlets.observe("seen")
    def _on_seen(self, change: object) -> None:
        drawing.set_page(drawing.Look(tuple(self.seen["paper"]), self.seen["dark"]))
        for explorer in list(self._explorers):
            try:
                explorer.redraw()
            except Exception as error:
                explorer.fail(error)


@cache
def page() -> Page:
    """The one page."""
    return Page()
