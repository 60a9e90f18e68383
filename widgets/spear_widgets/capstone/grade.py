"""Points of a hand-in, given the teacher's key: for what came back, and for whether the claims were right.

For each photograph of a client, the row that belongs to it gets 2 points if it is exact (90 dB), 1 if it can be
recognised (25 dB). A row that is claimed exact gets 1 point more if it is, and loses 2 if it is not. A row that can be
recognised, is not exact and is not claimed to be, gets the same point for that: it is the honest answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spear_core.study import metrics
from spear_widgets.capstone.hand_in import read
from spear_widgets.capstone.messages import NAMES

EXACT, SEEN, RIGHT, WRONG = 2, 1, 1, -2


@dataclass(frozen=True)
class Grade:
    """By message: points, what the reference gets, and in words what was right; the last only of what was handed in."""

    points: dict[str, int]
    best: dict[str, int]
    words: dict[str, str]


def key(path: Path) -> dict[str, Tensor]:
    """The clients' photographs by message, and what can be had, from the teacher's file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def grade(path: Path, truth: Mapping[str, Tensor]) -> Grade:
    """Grade a hand-in.

    Raises:
        ValueError: if the file is no hand-in.
        OSError: if it cannot be read.
    """
    rows, claims = read(path)
    found = {name: points(rows[name], claims[name], truth[name]) for name in rows}
    words = {name: _words(claims[name], _exact(rows[name], truth[name]), len(truth[name])) for name in rows}
    best = {name: int(truth[f"{name}_best"]) for name in NAMES}
    return Grade({name: found.get(name, 0) for name in NAMES}, best, words)


def _words(claims: Tensor, exact: Tensor, count: int) -> str:
    wrong = int((claims & ~exact).sum())
    return (
        f"{len(claims)} rows for {count} photographs, {int(exact.sum())} exact; "
        f"{int(claims.sum())} claimed exact, {wrong} of them wrongly."
    )


def points(rows: Tensor, claims: Tensor, truth: Tensor) -> int:
    """The points of one message."""
    score = metrics.compare(rows, truth)
    exact, seen = _exact(rows, truth), torch.zeros(len(rows), dtype=torch.bool)
    seen[score.order[score.psnr >= metrics.SEEN_DB]] = True
    recovered = EXACT * exact + SEEN * (seen & ~exact)
    honest = RIGHT * (claims & exact) + WRONG * (claims & ~exact) + RIGHT * (~claims & seen & ~exact)
    return int((recovered + honest).sum())


def _exact(rows: Tensor, truth: Tensor) -> Tensor:
    """Which rows are photographs of the client, each of another one."""
    score = metrics.compare(rows, truth)
    exact = torch.zeros(len(rows), dtype=torch.bool)
    exact[score.order[score.exact]] = True
    return exact
