"""What was measured, in text: lines for one defence, and the table of all defences with a verdict each."""

import html
from dataclasses import dataclass
from typing import Any

from spear_core.study import metrics
from spear_core.study.defended import DEFENCES
from spear_core.study.outcomes import SECONDS, Measured
from spear_widgets.kit.exercise import fold
from spear_widgets.limits.rows import measured, shown

FEW = 0.1  # share of recognisable samples up to which a defence is not dismissed
RESHAPED = (
    "batch",
    "clients",
    "width",
)  # defences that train other batches, or another network, than the rest do
OUT_OF_TIME = 0.95 * SECONDS  # median seconds from which an attack counts as stopped by the clock


class Numbers(str):
    """Lines of numbers; at the end of a cell they are folded, since they may answer a question."""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/markdown": fold("The numbers", f"```text\n{self}\n```")}


def numbers(*keys: str, part: str = "attack") -> Numbers:
    """What was measured for some defences, in aligned columns; `part` as in `limits_rows.measured`."""
    return Numbers("\n\n".join(_numbers(key, part) for key in keys))


def _numbers(key: str, part: str) -> str:
    defence = DEFENCES[key]
    found = [measured(key, value, part) for value in defence.values]
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
    return "\n".join([f"{defence.name}{', by zeros alone' if part == 'zeros' else ''}", *rows])


def undefended(key: str) -> float:
    """Accuracy of the same network trained without this defence."""
    itself = DEFENCES[key].values[0]  # of what changes the network or its batches, the first value is none
    accuracy = measured(*((key, itself) if key in RESHAPED else ("format", "float32"))).accuracy
    assert accuracy is not None
    return accuracy


@dataclass(frozen=True)
class Verdict:
    """What the stored runs say about a defence.

    Attributes:
        name: of the defence.
        knob: what its values are.
        protects: against the stored attacks: no, from where on, or unproven; with the numbers.
        cost: accuracy beside that without a defence.
    """

    name: str
    knob: str
    protects: str
    cost: str


def verdict(key: str) -> Verdict:
    """Judge a defence by its stored runs, at the value at which the fewest samples were recognisable."""
    defence = DEFENCES[key]
    strongest = {value: _stronger(key, value) for value in defence.values}
    seen = {value: found.share(metrics.SEEN_DB) for value, found in strongest.items()}
    best = min(seen, key=lambda value: seen[value])  # the first of equals
    found = strongest[best]
    count, of = found.count(metrics.SEEN_DB)
    recognisable = f"{count} of {of} recognisable"
    if seen[best] > FEW:
        where = "at every value" if len(set(seen.values())) == 1 else f"even at {shown(best)}"
        zeros = any(strongest[value] is not measured(key, value) for value in defence.values)
        alone = ", by zeros alone" if zeros else ""
        last = defence.values[-1]
        return Verdict(defence.name, defence.knob, f"no: {recognisable} {where}{alone}", _cost(key, last))
    later = list(seen.values())[defence.values.index(best) :]
    onwards = len(later) > 1 and max(later) <= FEW
    where = f"from {shown(best)} on" if onwards else f"at {shown(best)}"
    why = _why(measured(key, best))
    word = f"unproven, {where}: {why}" if why else f"{'almost' if count else 'yes'}, {where}: {recognisable}"
    return Verdict(defence.name, defence.knob, word, _cost(key, best))


def _stronger(key: str, value: Any) -> Measured:
    """Of the attacks that are stored, the one to which more samples fell."""
    attack, zeros = measured(key, value), measured(key, value, "zeros")
    falls = zeros.attacks and zeros.share(metrics.SEEN_DB) > attack.share(metrics.SEEN_DB)
    return zeros if falls else attack


def _why(found: Measured) -> str:
    """What stopped the attack, where that says nothing about a better one; else empty."""
    if found.refused > len(found.attacks) / 2:
        return "refused, or only a later layer came back"
    return "time ran out" if found.seconds >= OUT_OF_TIME else ""


def _cost(key: str, value: Any) -> str:
    accuracy = measured(key, value).accuracy
    return (
        "not measured"
        if accuracy is None
        else f"{accuracy:.1%} instead of {undefended(key):.1%}, at {shown(value)}"
    )


class Table:
    """The verdicts of all defences."""

    heads = ("defence", "knob", "protects against this attack?", "accuracy")

    def __init__(self) -> None:
        self.verdicts = [verdict(key) for key in DEFENCES]

    def __repr__(self) -> str:
        return "\n".join(f"{v.name} ({v.knob}): {v.protects}; {v.cost}" for v in self.verdicts)

    def _repr_html_(self) -> str:
        cell = "<t{0} style='text-align:left'>{1}</t{0}>".format
        rows = [[html.escape(text) for text in (v.name, v.knob, v.protects, v.cost)] for v in self.verdicts]
        body = "".join(f"<tr>{''.join(cell('d', text) for text in row)}</tr>" for row in rows)
        return f"<table><tr>{''.join(cell('h', head) for head in self.heads)}</tr>{body}</table>"
