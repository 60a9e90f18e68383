"""What a check found, in words and as a page."""

import html
import re
from dataclasses import dataclass

# a mark and a colour, seen on white and on black: those who see no colours have the mark
MARKS = {"solved": ("✔", "#009E73"), "tried": ("✘", "#D55E00"), "open": ("…", "#999999")}


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check.

    Attributes:
        passed: whether all cases agree.
        words: what was found, one sentence.
        hint: what to look at next, or a remark on an answer that passed; may hold `code` and $formulas$.
        details: (label, text) pairs: case, wanted, yours, difference.
        open: whether there is no answer yet, neither right nor wrong.
    """

    passed: bool
    words: str
    hint: str = ""
    details: tuple[tuple[str, str], ...] = ()
    open: bool = False

    @property
    def _hint_name(self) -> str:
        return "Note" if self.passed else "Hint"

    def __repr__(self) -> str:
        lines = [self.words, *(f"  {label}: {text}" for label, text in self.details)]
        return "\n".join([*lines, f"{self._hint_name}: {self.hint}"] if self.hint else lines)

    def _repr_html_(self) -> str:
        mark, colour = MARKS["solved" if self.passed else "open" if self.open else "tried"]
        cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;background:none"
        code = "background:none;white-space:pre-wrap"
        rows = "".join(
            f"<tr style='background:none'><th style='{cell}'>{html.escape(label)}</th>"
            f"<td style='{cell}'><code style='{code}'>{html.escape(text)}</code></td></tr>"
            for label, text in self.details
        )
        table = f"<table style='border:0'>{rows}</table>" if rows else ""
        hint = f"<p><b>{self._hint_name}.</b> {as_html(self.hint)}</p>" if self.hint else ""
        return (
            f"<div style='border-left:5px solid {colour};padding-left:12px'><p><b><span style='color:{colour}'>{mark}"
            f"</span> {html.escape(self.words)}</b></p>{table}{hint}</div>"
        )


def as_html(text: str) -> str:
    """Text with `code` between backticks; formulas between dollars are set by the page."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
