"""What the stored attacks on one defence at one value of its knob gave, for the benchmark and for notebook 08."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from spear_core.study import metrics
from spear_core.study.defended import DEFENCES
from spear_widgets.kit.stored import results

Row = Mapping[str, Any]
SECONDS = 2.0  # after which a stored attack was stopped


@dataclass(frozen=True)
class Measured:
    """Stored runs of one defence at one value.

    Attributes:
        attacks: as `benchmarks/defences.py` stores them.
        networks: trained with the defence; empty where that was not measured.
    """

    attacks: tuple[Row, ...]
    networks: tuple[Row, ...]

    @classmethod
    def of(cls, attacks: Iterable[Row], networks: Iterable[Row], defence: str, value: Any) -> "Measured":
        """Those of the rows that belong to a defence and a value."""
        groups = [
            tuple(row for row in rows if (row["defence"], row["value"]) == (defence, value))
            for rows in (attacks, networks)
        ]
        return cls(*groups)

    @property
    def psnr(self) -> list[float]:
        """Of every private sample of every run, in dB; −99 where nothing came back."""
        return [decibel for row in self.attacks for decibel in row["psnr"]]

    def count(self, decibel: float = metrics.EXACT_DB) -> tuple[int, int]:
        """Samples at or above a PSNR, and how many there were."""
        return sum(p >= decibel for p in self.psnr), len(self.psnr)

    def share(self, decibel: float = metrics.EXACT_DB) -> float:
        """Share of the samples at or above a PSNR."""
        found, of = self.count(decibel)
        return found / of

    @property
    def median(self) -> float:
        """Median PSNR over all samples."""
        return statistics.median(self.psnr)

    @property
    def accuracy(self) -> float | None:
        """Mean share of unseen digits that the networks are right about; None where it was not measured."""
        return statistics.mean(row["accuracy"] for row in self.networks) if self.networks else None

    @property
    def certified(self) -> int:
        """Samples that were proven, in all."""
        return sum(row["certified"] for row in self.attacks)

    @property
    def false(self) -> int:
        """Certified rows that were not exact."""
        return sum(row["false"] for row in self.attacks)

    @property
    def refused(self) -> int:
        """Runs in which the attack did not begin, or no inputs of the first layer came back."""
        return sum(bool(row["refused"]) for row in self.attacks)

    @property
    def seconds(self) -> float:
        """Median CPU seconds of an attack."""
        return statistics.median(row["seconds"] for row in self.attacks)


@lru_cache(maxsize=512)
def measured(defence: str, value: Any, part: str = "attack") -> Measured:
    """What is stored for a defence at a value.

    Args:
        defence: key of `DEFENCES`.
        value: of its knob.
        part: "attack", `spear_core.invert`; or "zeros", `spear_core.study.sparsest`, where that was measured.

    Raises:
        KeyError: no such defence.
        ValueError: nothing is stored for this value.
    """
    found = Measured.of(results("defences", part), results("defences", "accuracy"), defence, value)
    if not found.attacks and part == "attack":
        raise ValueError(f"value must be one of {DEFENCES[defence].values}, got {value!r}")
    return found


def shown(value: Any) -> str:
    """A value of a knob, as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)
