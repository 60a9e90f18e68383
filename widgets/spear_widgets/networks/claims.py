"""What others say of such attacks, beside what was measured here."""

import html
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spear_widgets.kit.stored import parts

SCRIPTS = {"networks": "pictures", "batch_norm": "exact"}  # and what each counts


@dataclass(frozen=True)
class Claim:
    """What a paper's abstract says, in our words.

    Attributes:
        who: authors and year.
        arxiv: its number there.
        says: the claim.
    """

    who: str
    arxiv: str
    says: str


CLAIMS = (
    Claim(
        "Du and others, 2024",
        "2404.05403",
        "Gradient inversion is constrained by practical local training, sensitive to the model, and easily defended "
        "by simple changes of the gradients.",
    ),
    Claim(
        "Zhu and others, 2024",
        "2409.19301",
        "None of the privacy attacks tried breaches clients in realistic federated learning, even without defences.",
    ),
    Claim(
        "Valadi and others, 2025",
        "2508.19819",
        "Modern vision models resist; many reported successes need inference mode or simplified networks.",
    ),
)


@dataclass(frozen=True)
class Measured:
    """A row of stored runs.

    Attributes:
        network: its name in the script.
        b: batch size.
        exact: samples of 90 dB or more, of `of`.
        certified: samples.
        false: certified, but not exact.
        of: samples in all.
        seconds: median, CPU.
    """

    network: str
    b: int
    exact: int
    certified: int
    false: int
    of: int
    seconds: float

    @classmethod
    def read(cls, part: str, runs: list[dict[str, Any]], counted: str) -> "Measured":
        """From what a script has stored."""
        network, _, b = part.partition(" | b=")
        exact, certified, false = (sum(run[key] for run in runs) for key in (counted, "certified", "false"))
        seconds = statistics.median(run["seconds"] for run in runs)
        return cls(network, int(b), exact, certified, false, int(b) * len(runs), seconds)

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        counts = (f"{count} of {self.of}" for count in (self.exact, self.certified))
        return self.network, str(self.b), *counts, str(self.false), f"{self.seconds:.2g} s"


def measured(script: str) -> list[Measured]:
    """The rows of a script, in the order of their names."""
    rows = {part: runs for part, runs in parts(script).items() if " | b=" in part}
    found = [Measured.read(part, runs, SCRIPTS[script]) for part, runs in rows.items()]
    return sorted(found, key=lambda row: (row.network, row.b))


class Claims:
    """The claims, and below them the stored rows."""

    heads = ("network", "b", "exact", "certified", "of these wrong", "median time")

    def __init__(self) -> None:
        self.rows = {script: measured(script) for script in SCRIPTS}

    def __repr__(self) -> str:
        said = [f"{claim.who} (arXiv:{claim.arxiv}): {claim.says}" for claim in CLAIMS]
        lines = [" · ".join(row.cells) for rows in self.rows.values() for row in rows]
        return "\n".join([*said, " · ".join(self.heads), *lines])

    def _repr_html_(self) -> str:
        rows = [row.cells for rows in self.rows.values() for row in rows]
        said = [(f"{claim.who}, arXiv:{claim.arxiv}", claim.says) for claim in CLAIMS]
        return _table(("who", "says"), said) + _table(self.heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cell = "<t{0} style='text-align:left'>{1}</t{0}>".format
    lines = [[("h", head) for head in heads], *([("d", text) for text in row] for row in rows)]
    body = ("".join(cell(kind, html.escape(text)) for kind, text in line) for line in lines)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in body)}</table>"
