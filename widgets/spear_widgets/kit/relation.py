"""How a wrong answer is related to the right one, over all cases: a sentence that the reader can act on.

`relation` tries what holds in general: the negative, one minus, a factor, a power, another order, fewer digits.
`observe` says what is seen where none of these holds, and always says something.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spear_widgets.kit.compare import Pair, near, number

LISTED = 3  # cases at most that a hint names
DIGITS = 1e-4  # a relation holds to this share of the largest entry
ROUGHLY = 1e-3  # nearer than this is right, but for rounding

# what yours may be, as a function of what is wanted
SHAPES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("Yours is the negative of what is wanted.", torch.neg),
    ("Yours is one minus what is wanted: the opposite.", lambda a: 1 - a),
    ("Yours is the magnitude of what is wanted: signs got lost.", torch.abs),
    ("Yours is the square of what is wanted.", torch.square),
    ("Yours is the square root of what is wanted.", torch.sqrt),
    ("Yours is one over what is wanted: the fraction is upside down.", torch.reciprocal),
    ("Yours is the logarithm of what is wanted.", torch.log),
    ("What is wanted is the logarithm of yours.", torch.exp),
    ("Yours holds the right numbers in the opposite order.", lambda a: a.flip(0) if a.ndim else a),
    (
        "Yours is the transpose of what is wanted.",
        lambda a: a.T if a.ndim == 2 and a.shape[0] == a.shape[1] else a,
    ),
)

POWERS = (
    ("times", 1),
    ("divided by", -1),
    ("times the root of", 0.5),
    ("divided by the root of", -0.5),
    ("times the square of", 2),
    ("divided by the square of", -2),
)


def relation(pairs: Sequence[Pair], arguments: Sequence[dict[str, Any]]) -> str | None:
    """The relation between wanted and yours that holds in all cases, in words.

    Args:
        pairs: wanted and yours of each case, of equal shapes.
        arguments: the arguments of each case, by name; a factor may be one of their sizes.
    """
    pairs = [(a.double(), b.double()) for a, b in pairs]
    if not pairs or any(a.shape != b.shape or not b.isfinite().all() for a, b in pairs):
        return None
    for words in (_digits(pairs), _form(pairs), _shift(pairs), _factor(pairs, arguments), _order(pairs)):
        if words:
            return words
    return None


def _digits(pairs: Sequence[Pair]) -> str | None:
    if not all(near(a, b, ROUGHLY) for a, b in pairs):
        return None
    worst = max(
        float((a - b).abs().max() / a.abs().max()) for a, b in pairs if a.numel() and a.abs().max() > 0
    )
    return (
        f"Right, but to {int(-math.log10(worst))} digits only. Is something computed in 32 bits or less, a number "
        "rounded, or a small constant added that the others do not have?"
    )


def _form(pairs: Sequence[Pair]) -> str | None:
    for words, shape in SHAPES:
        if all(near(shape(a), b, DIGITS) for a, b in pairs):
            return words
    return None


def _shift(pairs: Sequence[Pair]) -> str | None:
    """By the same number everywhere."""
    shifts = torch.cat([(b - a).flatten() for a, b in pairs])
    size = max(float(b.abs().max()) for _, b in pairs if b.numel())
    if shifts.numel() < 2 or not near(shifts, shifts[0].expand_as(shifts), DIGITS) or size == 0:
        return None
    by = float(shifts[0])
    off = "off by one" if abs(by) == 1 else f"off by {number(abs(by))}"
    return f"Yours is {off} in every case: too {'large' if by > 0 else 'small'}."


def _factor(pairs: Sequence[Pair], arguments: Sequence[dict[str, Any]]) -> str | None:
    """Yours is wanted times one number, or times one of each case."""
    factors = []
    some = [i for i, (a, b) in enumerate(pairs) if a.any() or b.any()]  # nothing is any multiple of nothing
    pairs, arguments = [pairs[i] for i in some], [arguments[i] for i in some]
    for a, b in pairs:
        size = float((a * a).sum())
        factor = float((a * b).sum()) / size if size else 0.0
        if factor == 0 or not near(factor * a, b, DIGITS):
            return None
        factors.append(factor)
    if factors and all(math.isclose(f, factors[0], rel_tol=DIGITS) for f in factors):
        times = f"{number(round(factors[0], 6))} times" if len(factors) > 1 else "a multiple of"
        return f"Yours is {times} what is wanted, in every case."
    for name, sizes in _sizes(arguments).items():
        for words, power in POWERS:
            if all(s > 0 and math.isclose(f, s**power, rel_tol=DIGITS) for f, s in zip(factors, sizes)):
                return f"Yours is what is wanted, {words} {name}."
    if max((a.numel() for a, _ in pairs), default=0) < 2:
        return None  # any number is a multiple of another
    shown = ", ".join(number(float(f"{f:.3g}")) for f in factors)
    return (
        f"Yours is a multiple of what is wanted, by another factor in each case ({shown}): is it normalised?"
    )


def _sizes(arguments: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Numbers that belong to the arguments of each case, by what they are."""
    found: dict[str, list[float]] = {}
    for case in arguments:
        for name, value in case.items():
            if isinstance(value, (int, float)):
                found.setdefault(f"`{name}`", []).append(float(value))
            elif isinstance(value, (list, tuple)):
                found.setdefault(f"the number of entries of `{name}`", []).append(len(value))
            elif isinstance(value, Tensor):
                for axis, length in enumerate(value.shape):
                    found.setdefault(f"`{name}.shape[{axis}]`", []).append(length)
                if value.is_floating_point():
                    found.setdefault(f"the length (norm) of `{name}`", []).append(
                        float(value.double().norm())
                    )
                    found.setdefault(f"the number of entries of `{name}`", []).append(value.numel())
    return {name: sizes for name, sizes in found.items() if len(sizes) == len(arguments)}


def _order(pairs: Sequence[Pair]) -> str | None:
    if all(near(a.flatten().sort().values, b.flatten().sort().values, DIGITS) for a, b in pairs):
        return "Yours holds the right numbers in another order."
    return None


def observe(descriptions: Sequence[str], pairs: Sequence[Pair], right: Sequence[bool]) -> str:
    """What is seen of a wrong answer that has none of the relations, in words.

    Args:
        descriptions: what the cases are.
        pairs: wanted and yours of each, of equal shapes.
        right: which cases are right.
    """
    strange = [not b.double().isfinite().all() for _, b in pairs]
    if any(strange):
        where = descriptions[strange.index(True)]
        return (
            f"Yours is not a finite number for “{where}”: a division by zero, or a logarithm or root of less?"
        )
    first = pairs[0][1]
    if len(pairs) > 1 and all(b.shape == first.shape and torch.equal(b, first) for _, b in pairs[1:]):
        return "Yours is the same in every case. It must depend on what the function is given."
    if all(right):  # of those that can be compared
        return "Where the two can be compared, yours is right. Elsewhere it is of another kind or shape than wanted."
    if any(right):
        wrong = [f"“{text}”" for text, ok in zip(descriptions, right) if not ok]
        if len(wrong) > LISTED:
            return f"Right in {sum(right)} of {len(right)} cases. Begin with the first wrong one: {wrong[0]}."
        return (
            f"Right in {sum(right)} of {len(right)} cases, wrong for {', '.join(wrong)}. What is special there that "
            "your function takes for granted?"
        )
    wanted, yours = (side.double().flatten() for side in pairs[0])
    off = ~torch.isclose(wanted, yours, rtol=DIGITS, atol=DIGITS * float(wanted.abs().max()))
    if 0 < int(off.sum()) < len(wanted):
        i = int(off.nonzero()[0])
        return (
            f"{len(wanted) - int(off.sum())} of {len(wanted)} entries are right in the case shown. The first wrong "
            f"one is number {i}: wanted {number(float(wanted[i]))}, yours {number(float(yours[i]))}."
        )
    sides = {bool(x) for a, b in pairs for x in (b.double() > a.double()).flatten()}
    if sides == {True}:
        return "Yours is too large in every case: does something count that should not?"
    if sides == {False}:
        return "Yours is too small in every case: is something left out?"
    return "Yours is too large in some places and too small in others: no factor or shift mends it."
