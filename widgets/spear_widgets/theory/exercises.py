"""Exercises of notebook 06, with the mistakes that people make in them."""

import math
from typing import Any

from spear_widgets.kit.exercise import Cases, Exercise, Mistake


# ---------------------------------------------------------------- some direction is missing
def still_missing(hits, draws):  # type: ignore[no-untyped-def]  # shown as the solution
    """1 − Π (1 − (1 − p_i)^N), directions taken as independent."""
    return 1 - math.prod(1 - (1 - p) ** draws for p in hits)


def _hit_lists() -> Cases:
    return [
        ("three directions, 10 draws", ([0.2, 0.1, 0.15], 10)),
        ("a rare one among four, 40 draws", ([0.1, 0.1, 0.1, 0.01], 40)),
        ("one direction, no draw", ([0.3], 0)),
        ("six directions, 100 draws", ([0.03, 0.02, 0.04, 0.03, 0.025, 0.035], 100)),
    ]


STILL_MISSING = Exercise(
    name="05/still_missing",
    level="warm-up",
    minutes=8,
    task="Write `still_missing(hits, draws)`: hits lists p_i, the probability that one draw gives direction i. How "
    "likely is it that at least one direction is missing after so many draws? Take the directions as independent.",
    reference=still_missing,
    cases=_hit_lists,
    mistakes=(
        Mistake(
            lambda hits, draws: sum((1 - p) ** draws for p in hits),
            "A sum of probabilities is an upper bound, and can exceed 1. Multiply those of being met.",
        ),
        Mistake(
            lambda hits, draws: math.prod((1 - p) ** draws for p in hits),
            "That is the probability that all of them are missing. One is enough to fail.",
        ),
        Mistake(
            lambda hits, draws: math.prod(1 - (1 - p) ** draws for p in hits),
            "That is the probability that nothing is missing: the opposite.",
        ),
        Mistake(
            lambda hits, draws: 1 - (1 - (1 - sum(hits) / len(hits)) ** draws) ** len(hits),
            "The rare directions decide, and a mean hides them. Use each p_i by itself.",
        ),
        Mistake(
            lambda hits, draws: float((1 - min(hits)) ** draws),
            "That looks at the rarest direction only. The others can be missing, too.",
        ),
    ),
    hints=(
        "How likely is it that one given direction has been met?",
        "It is missed N times in a row with probability (1 − p)^N.",
        "All are met with probability Π (1 − (1 − p_i)^N). Return one minus that, for example with `math.prod`.",
    ),
)


# ---------------------------------------------------------------- how many draws for a given risk
def draws_for_risk(batch_size, risk):  # type: ignore[no-untyped-def]  # shown as the solution
    """The smallest N with 1 − (1 − (1 − p)^N)^b ≤ risk, for p = 2^−(b−1)."""
    p = 2.0 ** -(batch_size - 1)
    missed = 1 - (1 - risk) ** (1 / batch_size)  # as often may one direction be missed
    return math.ceil(math.log(missed) / math.log(1 - p))


def _risks() -> Cases:
    return [(f"b = {b}, risk {risk}", (b, risk)) for b, risk in ((2, 0.1), (4, 0.01), (8, 0.05), (12, 0.001))]


def _same_number(wanted: Any, yours: Any) -> bool:
    return bool(wanted == yours)


DRAWS_FOR_RISK = Exercise(
    name="05/draws_for_risk",
    level="task",
    minutes=15,
    task="Write `draws_for_risk(batch_size, risk)`, b ≥ 2: the smallest whole number of draws after which some "
    "direction is missing with probability at most risk. Take p = 2^−(b−1) for every direction, and them as "
    "independent.",
    reference=draws_for_risk,
    cases=_risks,
    mistakes=(
        Mistake(
            lambda batch_size, risk: math.ceil(math.log(risk) / math.log(1 - 2.0 ** -(batch_size - 1))),
            "That is the risk of missing one given direction. There are b that can be missed.",
        ),
        Mistake(
            lambda batch_size, risk: math.ceil(
                math.log(1 - (1 - risk) ** (1 / batch_size)) / math.log(1 - 2.0**-batch_size)
            ),
            "A draw takes b − 1 rows, so p = 2^−(b−1).",
        ),
        Mistake(
            lambda batch_size, risk: math.ceil(
                sum(1 / k for k in range(1, batch_size + 1)) * 2 ** (batch_size - 1)
            ),
            "That is the expected number. It leaves a large risk, and does not depend on it.",
        ),
        Mistake(
            lambda batch_size, risk: float(
                math.log(1 - (1 - risk) ** (1 / batch_size)) / math.log(1 - 2.0 ** -(batch_size - 1))
            ),
            "Draws are whole: take the next whole number, `math.ceil`.",
        ),
    ),
    hints=(
        "First: how often may one direction be missed so that all b together stay within the risk?",
        "(1 − missed)^b = 1 − risk gives missed; then (1 − p)^N = missed.",
        "N = log(missed) / log(1 − p), rounded up.",
    ),
    agree=_same_number,
)
