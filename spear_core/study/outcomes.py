"""The attack on a defended message, and what it gave, once or in many runs, seen by one who has the private batch."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spear_core import Inversion, invert, invert_layer
from spear_core.study import metrics
from spear_core.study.defended import Message

Row = Mapping[str, Any]
SECONDS = 2.0  # after which a stored attack was stopped


@dataclass(frozen=True)
class Outcome:
    """What the attack on a message gave, compared with the private batch.

    Attributes:
        psnr: of every private sample, −inf where nothing came back, shape (b,).
        order: recovered row of every private sample, −1 where there is none, shape (b,).
        certified: which private samples are proven, shape (b,).
        false: certified rows that are not exact.
        words: the refusal, where the attack did not begin; or what came back that is no batch; else empty.
        inversion: the result, None after a refusal.
    """

    psnr: Tensor
    order: Tensor
    certified: Tensor
    false: int
    words: str
    inversion: Inversion | None


def _attack(sent: Message, **limits: Any) -> Inversion:
    """Invert a message; where the second layer is hidden, the first one alone."""
    first = sent.model[0]
    assert isinstance(first, nn.Linear)
    hidden = "2.weight" not in sent.gradients and isinstance(sent.model[1], nn.ReLU)
    if "0.weight" in sent.gradients and hidden:
        grads = sent.gradients["0.weight"], sent.gradients["0.bias"]
        return invert_layer(*grads, first.weight.detach(), first.bias.detach(), **limits)
    return invert(sent.model, sent.gradients, **sent.options, **limits)


def outcome(sent: Message, **limits: Any) -> Outcome:
    """Attack a message, within limits of `spear_core.invert` (`time_limit`), and compare with what its client kept."""
    truth, found, words = sent.batch.inputs, None, ""
    try:
        found = _attack(sent, **limits)
    except ValueError as refusal:
        words = str(refusal)
    inputs, rows = truth[:0], torch.zeros(0, dtype=torch.bool)
    if found is not None and found.inputs.shape[1] == truth.shape[1]:
        inputs, rows = found.inputs, found.certified_rows.cpu()
    elif found is not None:
        words = f"Only the inputs of a later layer came back: {found.inputs.shape[1]} numbers, no pictures."
    score = metrics.compare(inputs, truth)
    matched = score.order >= 0
    certified = torch.zeros_like(matched)
    certified[matched] = rows[score.order[matched]]
    false = int(rows.sum()) - int((certified & score.exact).sum())
    return Outcome(score.psnr, score.order, certified, false, words, found)


# ---------------------------------------------------------------- many runs
@dataclass(frozen=True)
class Measured:
    """Stored runs of one defence at one value.

    Attributes:
        attacks: as `benchmarks/defences.py` stores them.
        networks: trained with the defence; empty where that was not measured.
        psnr: of every private sample of every run, in dB; −99 where nothing came back.
        median: of these; NaN where no run is stored.
        certified: samples that were proven, in all.
        false: certified rows that were not exact.
        refused: runs in which the attack did not begin, or no inputs of the first layer came back.
        seconds: median CPU seconds of an attack; NaN where no run is stored.
        accuracy: mean share of unseen digits that the networks are right about; None where it was not measured.
    """

    attacks: tuple[Row, ...]
    networks: tuple[Row, ...]
    psnr: list[float]
    median: float
    certified: int
    false: int
    refused: int
    seconds: float
    accuracy: float | None

    @classmethod
    def of(cls, attacks: Iterable[Row], networks: Iterable[Row], **which: Any) -> "Measured":
        """Those of the rows that belong to a `defence` and a `value`."""
        runs, trained = (
            tuple(row for row in rows if which.items() <= row.items()) for rows in (attacks, networks)
        )
        psnr = [decibel for row in runs for decibel in row["psnr"]]
        median = statistics.median(psnr or [math.nan])
        seconds = statistics.median([row["seconds"] for row in runs] or [math.nan])
        certified, false = (sum(row[key] for row in runs) for key in ("certified", "false"))
        refused = sum(bool(row["refused"]) for row in runs)
        accuracy = statistics.mean(row["accuracy"] for row in trained) if trained else None
        return cls(runs, trained, psnr, median, certified, false, refused, seconds, accuracy)

    def count(self, decibel: float = metrics.EXACT_DB) -> tuple[int, int]:
        """Samples at or above a PSNR, and how many there were."""
        return sum(p >= decibel for p in self.psnr), len(self.psnr)

    def share(self, decibel: float = metrics.EXACT_DB) -> float:
        """Share of the samples at or above a PSNR."""
        found, of = self.count(decibel)
        return found / of
