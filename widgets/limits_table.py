"""What was measured, in text: lines for one defence, and the table of all defences with a verdict each."""

import html
from dataclasses import dataclass
from typing import Any

from spear_core import metrics
from spear_core.defended import DEFENCES
from widgets.limits_rows import SECONDS, Measured, measured, shown

FEW = 0.1  # share of recognisable samples up to which a defence is not dismissed
OUT_OF_TIME = 0.95 * SECONDS  # median seconds from which an attack counts as stopped by the clock


def numbers(*keys: str) -> str:
    """What was measured for some defences, in aligned columns."""
    return "\n\n".join(map(_numbers, keys))


def _numbers(key: str) -> str:
    defence = DEFENCES[key]
    found = [measured(key, value) for value in defence.values]
    lines = {
        defence.knob: [shown(value) for value in defence.values],
        "exact": [f"{m.share():.0%}" for m in found],
        "recognisable": [f"{m.share(metrics.SEEN_DB):.0%}" for m in found],
        "median PSNR in dB": [f"{m.median:.0f}" if m.median > 0 else "nothing" for m in found],
    }
    if any(m.networks for m in found):
        lines["accuracy"] = [f"{m.accuracy:.1%}" for m in found if m.accuracy is not None]
    wide = max(len(cell) + 2 for row in lines.values() for cell in row)
    long = max(map(len, lines))
    rows = [f"  {head:{long}}" + "".join(f"{cell:>{wide}}" for cell in row) for head, row in lines.items()]
    return "\n".join([defence.name, *rows])


def undefended() -> float:
    """Accuracy of the same network trained without any defence."""
    accuracy = measured("format", "float32").accuracy
    assert accuracy is not None
    return accuracy


@dataclass(frozen=True)
class Verdict:
    """What the stored runs say about a defence.

    Attributes:
        name: of the defence.
        protects: against this attack: no, from where on, or unproven; with the numbers.
        cost: accuracy beside that without a defence.
    """

    name: str
    protects: str
    cost: str


def verdict(key: str) -> Verdict:
    """Judge a defence by its stored runs, at the value at which the fewest samples were recognisable."""
    defence = DEFENCES[key]
    seen = {value: measured(key, value).share(metrics.SEEN_DB) for value in defence.values}
    best = min(seen, key=lambda value: seen[value])  # the first of equals
    found = measured(key, best)
    count, of = found.count(metrics.SEEN_DB)
    recognisable = f"{count} of {of} recognisable"
    if seen[best] > FEW:
        where = "at every value" if len(set(seen.values())) == 1 else f"even at {shown(best)}"
        strongest = defence.values[-1]
        return Verdict(
            defence.name, f"no: {recognisable} {where}", _cost(measured(key, strongest), strongest)
        )
    later = list(seen.values())[defence.values.index(best) :]
    onwards = len(later) > 1 and max(later) <= FEW
    where = f"from {shown(best)} on" if onwards else f"at {shown(best)}"
    why = _why(found)
    word = f"unproven, {where}: {why}" if why else f"{'almost' if count else 'yes'}, {where}: {recognisable}"
    return Verdict(defence.name, word, _cost(found, best))


def _why(found: Measured) -> str:
    """What stopped the attack, where that says nothing about a better one; else empty."""
    if found.refused > len(found.attacks) / 2:
        return "refused, or only a later layer came back"
    return "time ran out" if found.seconds >= OUT_OF_TIME else ""


def _cost(found: Measured, value: Any) -> str:
    if found.accuracy is None:
        return "not measured"
    return f"{found.accuracy:.1%} instead of {undefended():.1%}, at {shown(value)}"


class Table:
    """The verdicts of all defences."""

    heads = ("defence", "protects against this attack?", "accuracy")

    def __init__(self) -> None:
        self.verdicts = [verdict(key) for key in DEFENCES]

    def __repr__(self) -> str:
        return "\n".join(f"{v.name}: {v.protects}; {v.cost}" for v in self.verdicts)

    def _repr_html_(self) -> str:
        cell = "<t{0} style='text-align:left'>{1}</t{0}>".format
        rows = [[html.escape(text) for text in (v.name, v.protects, v.cost)] for v in self.verdicts]
        body = "".join(f"<tr>{''.join(cell('d', text) for text in row)}</tr>" for row in rows)
        return f"<table><tr>{''.join(cell('h', head) for head in self.heads)}</tr>{body}</table>"
