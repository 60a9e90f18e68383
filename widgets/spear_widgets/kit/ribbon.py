"""What is not in the paper wears a ribbon where it is read: in a heading, on a widget, in a legend.

In the Markdown of a notebook it is written as it stands, as the first words of the paragraph: "◆ *Not in the paper.*"
"""

import html
from typing import Any

NOT_IN_PAPER = "◆ not in the paper"  # for a legend or an axis


class Ribbon:
    """Words in a frame, which need no colour and are there in print and for a screen reader."""

    def __init__(self, words: str = NOT_IN_PAPER) -> None:
        self.words = words

    @property
    def html(self) -> str:
        """As HTML, for a widget's heading."""
        style = "border:1px solid currentColor;border-radius:3px;padding:0 6px;font-weight:normal;white-space:nowrap"
        return f"<span style='{style}'>{html.escape(self.words)}</span>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/html": f"<p>{self.html}</p>", "text/plain": self.words}
