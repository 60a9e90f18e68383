"""Predict, then reveal: the reader commits to an answer before the measured one is shown.

Nothing waits: a notebook that runs by itself goes on, and the reveal stays shut. A picture that answers the question is
covered until then, too: `question.then(picture)`.
"""

import html
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as W
import traitlets

from spear_widgets.kit import base
from spear_widgets.kit.kept import Kept
from spear_widgets.kit.veil import Veil


class Prediction(Kept, W.VBox):
    """A question with choices, and what was measured once one of them is committed to.

    Attributes:
        choice: the reader's choice.
        commit_button: shows the reveal.
        reveal: empty until then.
        committed: the answer that was given, or None.
        found: what was measured when it was given, or None.
    """

    title = "a question, and its answer"
    committed = traitlets.Unicode(None, allow_none=True)

    def __init__(
        self,
        question: str,
        choices: Sequence[str],
        measured: str | Callable[[], str | float],
        why: str,
        *,
        limits: Sequence[float] = (),
    ) -> None:
        """Pose a question.

        Args:
            question: one sentence.
            choices: the possible answers, all different.
            measured: the right one of the choices, or a function that computes it, or a number, when it is asked for.
            why: the reason, in a sentence or two (HTML is allowed).
            limits: between which choice and the next a measured number changes sides, ascending.

        Raises:
            ValueError: fewer than two choices, or the answer is not among them.
        """
        if len(set(choices)) < 2 or len(set(choices)) < len(choices):
            raise ValueError(f"choices must be at least two different ones, got {list(choices)}")
        if isinstance(measured, str) and measured not in choices:
            raise ValueError(f"measured must be one of the choices, got {measured!r}")
        self.question, self.choices, self.why = question, tuple(choices), why
        self._measured, self._limits = measured, limits
        self.found: str | None = None
        self.choice = W.RadioButtons(
            options=choices, value=None, layout=W.Layout(width="max-content", max_width="100%")
        )
        self.commit_button = W.Button(
            description="This is my answer",
            disabled=True,
            layout=W.Layout(width="auto", align_self="flex-start"),
            tooltip="Then see",
        )
        self.reveal = W.HTML()
        self.status = W.HTML().add_class("spear-status")
        self.choice.observe(self._on_choice, "value")
        self.commit_button.on_click(self._on_commit)
        super().__init__(
            [W.HTML(f"<b>Predict.</b> {question}"), self.choice, self.commit_button, self.reveal, self.status]
        )
        self.add_class("spear-predict")

    def measure(self) -> str:
        """The measured answer.

        Raises:
            ValueError: if it is not among the choices.
        """
        answer = self._measured if isinstance(self._measured, str) else self._measured()
        if isinstance(answer, (int, float)):
            answer = self.choices[bisect_right(self._limits, answer)]
        if answer not in self.choices:
            raise ValueError(f"measured must be one of the choices, got {answer!r}")
        return answer

    def commit(self, answer: str) -> bool:
        """Commit to an answer and open the reveal; whether it was right.

        Raises:
            ValueError: if it is not among the choices.
        """
        if answer not in self.choices:
            raise ValueError(f"answer must be one of {list(self.choices)}, got {answer!r}")
        measured = self.found = self.measure()
        verdict = "Right." if answer == measured else "Not so."
        self.reveal.value = (
            f"<b>{verdict}</b> You said: {html.escape(answer)}. "
            f"Answer: <b>{html.escape(measured)}</b>. {self.why}"
        )
        self.committed = answer
        return answer == measured

    def then(self, shown: base.Explorer | base.Picture) -> Veil:
        """What answers the question, covered until the reader has answered it; for the end of a later cell."""
        return Veil(self, shown)

    def _on_choice(self, change: object) -> None:
        self.commit_button.disabled = self.choice.value is None

    def _on_commit(self, button: object) -> None:
        if self.choice.value is None:
            return
        try:
            self.commit(self.choice.value)
            self.status.value = ""
        except Exception as error:
            self.status.value = f"Error: {html.escape(str(error))}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        data = dict(super()._repr_mimebundle_(**kwargs) or {})
        options = "".join(f"<li>{html.escape(choice)}</li>" for choice in self.choices)
        data["text/plain"] = f"Question: {self.question} " + " / ".join(self.choices)
        data["text/html"] = (
            f"<p><b>Predict.</b> {self.question}</p><ul>{options}</ul>"
            "<details><summary>Answer</summary>"
            f"<p><b>{html.escape(self.measure())}</b>. {self.why}</p></details>"
        )
        return data
