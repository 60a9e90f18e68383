"""Numbers in words that a reader can compare."""

import html
import math
import statistics
from collections.abc import Iterable

from torch import Tensor

FEW_WORDS = 20  # that are read at once
LEAST_CHANCE = 1e-6  # below which a chance is not counted out


def count(number: int, noun: str) -> str:
    """So many of something: "1 direction", "3 directions"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def chance(value: float) -> str:
    """A probability: "none", "12.5 %", "1 in 20,000"."""
    if value == 0:
        return "none"
    if value >= 0.001:
        return f"{100 * value:.1f} %"
    if value < LEAST_CHANCE:
        return f"less than 1 in {1 / LEAST_CHANCE:,.0f}"
    return f"1 in {float(f'{1 / value:.2g}'):,.0f}"


def decibels(psnr: float) -> str:
    """A PSNR: "41 dB"; "equal" where no number differs, "nothing" where nothing came back."""
    return "equal" if psnr == math.inf else "nothing" if psnr == -math.inf else f"{psnr:.0f} dB"


def middle(psnr: Tensor | Iterable[float]) -> float:
    """The median; of an even number of values, the mean of the middle two."""
    return statistics.median(psnr.tolist() if isinstance(psnr, Tensor) else psnr)


def folded(sentence: str) -> str:
    """A long message as HTML: its beginning, and the rest for whoever unfolds it."""
    head, _, rest = sentence.partition(": ")
    if len(sentence.split()) <= FEW_WORDS or not rest:
        return html.escape(sentence)
    return f"{html.escape(head)}. <details><summary>Why</summary>{html.escape(rest)}</details>"


def match(value: float) -> str:
    """λ, or why there is none."""
    return "λ cannot be told without ReLU" if math.isnan(value) else f"λ = {value:.4f}"
