"""Exercises of notebook 03, with the mistakes that people make in them."""

import math

import torch

from spear_widgets.kit.exercise import Cases, Exercise, Mistake


# ---------------------------------------------------------------- false rejection
def false_rejection(units, threshold):  # type: ignore[no-untyped-def]  # shown as the solution
    """P(Bin(m, ½) < τ m), summed."""
    few = [k for k in range(units + 1) if k < threshold * units]
    return sum(math.comb(units, k) for k in few) / 2**units


def _up_to_and_with(units: int, threshold: float) -> float:
    few = [k for k in range(units + 1) if k <= threshold * units]
    return sum(math.comb(units, k) for k in few) / 2**units


def _bell_curve(units: int, threshold: float) -> float:
    score = (threshold * units - units / 2) / (units**0.5 / 2)
    return 0.5 * math.erfc(-score / 2**0.5)


def _widths() -> Cases:
    return [
        ("m = 20, τ = 0.25", (20, 0.25)),
        ("m = 30, τ = 0.3125", (30, 0.3125)),
        ("m = 64, τ = 0.375", (64, 0.375)),
        ("m = 10, τ = 0", (10, 0.0)),
    ]


FALSE_REJECTION = Exercise(
    name="03/false_rejection",
    level="warm-up",
    minutes=10,
    task="Write `false_rejection(units, threshold)`: the probability that a right direction has fewer than τ m zeros, "
    "if each of the m entries is zero with probability ½, independently.",
    reference=false_rejection,
    cases=_widths,
    mistakes=(
        Mistake(_up_to_and_with, "A direction with exactly τ m zeros is kept: count only those with fewer."),
        Mistake(
            lambda units, threshold: 1 - false_rejection(units, threshold),
            "That is the probability of being kept. Rejection is the other tail.",
        ),
        Mistake(
            lambda units, threshold: math.comb(units, int(threshold * units)) / 2**units,
            "That is the probability of one number of zeros. Add up all numbers below τ m.",
        ),
        Mistake(
            lambda units, threshold: sum(
                math.comb(units, k) for k in range(units + 1) if k < threshold * units
            ),
            "Those are the ways, not their probability. Each of the 2^m patterns is equally likely.",
        ),
        Mistake(
            _bell_curve,
            "The bell curve is close in the middle and wrong in the tail, where a threshold sits. Sum the binomial.",
        ),
    ),
    hints=(
        "The number of zeros is like the number of heads in m tosses of a coin. For which numbers is q rejected?",
        "k zeros have probability C(m, k) / 2^m; `math.comb` gives C(m, k).",
        "Add up `math.comb(units, k)` for all whole k with `k < threshold * units`, and divide by `2**units`.",
    ),
)


# ---------------------------------------------------------------- coupon collector
def draws_until_all(hits, batch_size):  # type: ignore[no-untyped-def]  # shown as the solution
    """Number of the draw, from 1, with which the last missing direction is met; −1 if one stays missing."""
    missing = set(range(batch_size))
    for number, sample in enumerate(hits, start=1):
        missing.discard(sample)
        if not missing:
            return number
    return -1


def _from_zero(hits: list[int], batch_size: int) -> int:
    number: int = draws_until_all(hits, batch_size)
    return number if number < 0 else number - 1


def _any_hits(hits: list[int], batch_size: int) -> int:
    found = [number for number, hit in enumerate(hits, start=1) if hit >= 0]
    return found[batch_size - 1] if len(found) >= batch_size else -1


def _misses_count(hits: list[int], batch_size: int) -> int:
    seen: set[int] = set()
    for number, sample in enumerate(hits, start=1):
        seen.add(sample)
        if len(seen) == batch_size:
            return number
    return -1


def _sequences() -> Cases:
    yield "b = 3", ([-1, 2, -1, 2, 0, -1, 0, 1, 2], 3)
    yield "b = 2, one direction never met", ([0, -1, 0, 0, -1], 2)
    for b in (2, 4):
        draws = torch.randint(-1, 2 * b, (80,), generator=torch.Generator().manual_seed(b))
        hits = torch.where(draws < b, draws, -1).tolist()
        yield f"b = {b}, 80 random draws", (hits, b)


DRAWS_UNTIL_ALL = Exercise(
    name="03/draws_until_all",
    level="warm-up",
    minutes=10,
    task="Write `draws_until_all(hits, batch_size)`. hits is a list with one entry a draw: the number 0 … b−1 of the "
    "sample whose direction it gave, or −1 for none. How many draws until all b were met? −1 if they never are.",
    reference=draws_until_all,
    cases=_sequences,
    mistakes=(
        Mistake(
            _from_zero, "That is the position in the list, which counts from 0. Five draws end at position 4."
        ),
        Mistake(
            lambda hits, batch_size: draws_until_all([hit for hit in hits if hit >= 0], batch_size),
            "Draws that give nothing cost as much as the others: count them, too.",
        ),
        Mistake(_any_hits, "A direction that is met twice is still one. Wait for b different ones."),
        Mistake(_misses_count, "−1 is no direction: it must not count as one of the b."),
        Mistake(
            lambda hits, batch_size: len(hits),
            "Stop at the draw that completes the set; later ones are not needed.",
        ),
    ),
    hints=(
        "Keep track of which directions are still missing.",
        "A set is handy: `missing = set(range(batch_size))`, and `missing.discard(hit)` takes one out.",
        "Go through `enumerate(hits, start=1)` and return the number when missing is empty; return −1 at the end.",
    ),
)
