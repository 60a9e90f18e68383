"""A picture that answers a question stays covered until the reader has answered it.

Nothing waits: a notebook that runs by itself goes on, and stores the picture as if there were no cover. On a page that
lives, the picture appears with the reader's answer above it, or at a press of the button without one.
"""

import html
import io
from typing import TYPE_CHECKING, Any

import ipywidgets as W
from PIL import Image

from spear_widgets.kit import base, drawing
from spear_widgets.kit.kept import VIEW, Kept

if TYPE_CHECKING:
    from spear_widgets.kit.predict import Prediction

# page pixels of a cover: what is said below is not on one screen with it
LEAST_HEIGHT, MOST_HEIGHT = 320, 560


class Veil(Kept, W.VBox):
    """Something to see, covered until a question is answered.

    Attributes:
        question: the question that must be answered first.
        shown: the explorer that is covered, or the picture, as a widget.
        line: what the reader said and what was measured; before that, what to do.
        skip: shows it without an answer, and covers it again.
    """

    title = "a picture, covered until its question is answered"

    def __init__(self, question: "Prediction", shown: "base.Explorer | base.Picture") -> None:
        """Cover something.

        Args:
            question: it may have been answered already.
            shown: an explorer, whose `answered` is told the answer, or a picture.
        """
        bundle, self._metadata = shown._repr_mimebundle_()
        self._still = {kind: content for kind, content in bundle.items() if kind != VIEW}
        self.question = question
        self.shown = _as_widget(shown, self._still["image/png"]) if isinstance(shown, base.Picture) else shown
        height = min(max(self._height(), LEAST_HEIGHT), MOST_HEIGHT)
        layout = W.Layout(min_height=f"{height}px", border="1px dashed currentColor")
        self.line = W.HTML()
        self.cover = W.Box(layout=layout)
        self.skip = W.Button(layout=W.Layout(width="auto", align_self="flex-start"))
        self.skip.add_class("spear-skip")
        self.skip.on_click(lambda _: self.cover_again() if self.opened else self.uncover())
        super().__init__()
        self.add_class("spear-veil")
        self.cover_again()
        question.observe(self._on_answer, "committed")
        if question.committed is not None:
            self._on_answer()

    @property
    def opened(self) -> bool:
        """Whether it can be seen."""
        return self.shown in self.children

    def uncover(self) -> None:
        """Show it without an answer."""
        self.skip.description = "Cover it again"
        self.line.value = "Shown without an answer."
        self.children = [self.line, self.skip, self.shown]

    def cover_again(self) -> None:
        """Cover it."""
        self.skip.description = "Show without answering"
        self.line.value = f"<b>Covered until you have answered:</b> {self.question.question}"
        self.children = [self.line, self.skip, self.cover]

    def _on_answer(self, change: object = None) -> None:
        yours, measured = self.question.committed, self.question.found
        assert yours is not None and measured is not None
        mark = "✔" if yours == measured else "✘"
        self.line.value = (
            f"<span role='status'>{mark} You said: <b>{html.escape(yours)}</b>. "
            f"Answer: <b>{html.escape(measured)}</b>.</span>"
        )
        self.children = [self.line, self.shown]
        if isinstance(self.shown, base.Explorer):
            self.shown.answered(yours)

    def _height(self) -> int:
        with Image.open(io.BytesIO(self._still["image/png"])) as picture:
            width = self._metadata["image/png"].get("width", picture.width)
            return round(picture.height * width / picture.width)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(super()._repr_mimebundle_(**kwargs) or {}) | self._still, self._metadata


def _as_widget(picture: base.Picture, png: bytes) -> W.Image:
    widget = base.image(picture.description)
    widget.layout.width = f"{picture.picture.width // drawing.SCALE}px"
    widget.value = png
    return widget
