"""Exercises of notebook 05, with the mistakes that people make in them."""

import math
from collections.abc import Sequence
from typing import Any

from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion


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
    task="Write `still_missing(hits, draws)`: `hits` lists $p_i$, the probability that one draw gives direction $i$. "
    "How likely is it that at least one direction is missing after so many draws? Take directions as independent.",
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
            "The rare directions decide, and a mean hides them. Use each $p_i$ by itself.",
        ),
        Mistake(
            lambda hits, draws: float((1 - min(hits)) ** draws),
            "That looks at the rarest direction only. The others can be missing, too.",
        ),
    ),
    hints=(
        "How likely is it that one given direction has been met?",
        "It is missed N times in a row with probability $(1-p)^N$.",
        "All are met with probability $\\prod_i (1 - (1-p_i)^N)$. Return one minus that, for example with `math.prod`.",
    ),
)


# ---------------------------------------------------------------- how many draws a batch needs
def draws_needed(zeros, width, risk):  # type: ignore[no-untyped-def]  # shown as the solution
    """The smallest N with P(some direction missing) ≤ risk, by doubling and halving; inf if there is none."""
    b = len(zeros)
    hits = [math.comb(k, b - 1) / math.comb(width, b - 1) for k in zeros]
    if min(hits) == 0:
        return math.inf

    def missing(draws: int) -> float:
        return 1 - math.prod(-math.expm1(draws * math.log1p(-p)) for p in hits)

    low, high = 0, 1
    while missing(high) > risk:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if missing(middle) > risk else (low, middle)
    return high


def _hits(zeros: Sequence[int], width: int, rows: int) -> list[float]:
    return [math.comb(k, rows) / math.comb(width, rows) for k in zeros]


def _smallest(hits: Sequence[float], risk: float) -> float:
    """The draws that a list of hits needs."""
    if min(hits) == 0:
        return math.inf
    low, high = 0, 1
    while still_missing(hits, high) > risk:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if still_missing(hits, middle) > risk else (low, middle)
    return high


def _fair_coins(zeros: Sequence[int], width: int, risk: float) -> float:
    return _smallest([2.0 ** (1 - len(zeros))] * len(zeros), risk)


def _mean_hit(zeros: Sequence[int], width: int, risk: float) -> float:
    hits = _hits(zeros, width, len(zeros) - 1)
    return _smallest([sum(hits) / len(hits)] * len(hits), risk)


def _rarest(zeros: Sequence[int], width: int, risk: float) -> float:
    return _smallest([min(_hits(zeros, width, len(zeros) - 1))], risk)


def _bound(zeros: Sequence[int], width: int, risk: float) -> float:
    least = min(_hits(zeros, width, len(zeros) - 1))
    return math.ceil(math.log(len(zeros) / risk) / least) if least else math.inf


def _doubled(zeros: Sequence[int], width: int, risk: float) -> float:
    found = draws_needed(zeros, width, risk)
    return found if found == math.inf else 2 ** math.ceil(math.log2(found))


def _never_infinite(zeros: Sequence[int], width: int, risk: float) -> float:
    hits = [p for p in _hits(zeros, width, len(zeros) - 1) if p]
    return _smallest(hits, risk)


def _columns() -> Cases:
    return [
        ("three columns of 12 units", ([5, 6, 4], 12, 0.05)),
        ("b = 4, m = 200", ([98, 102, 110, 91], 200, 0.01)),
        ("b = 8, m = 400, one poor column", ([150, *[200] * 7], 400, 0.001)),
        ("b = 24, m = 400", ([200] * 24, 400, 0.01)),
        ("five columns of 16 units, one with three zeros", ([3, 8, 9, 9, 8], 16, 0.1)),
    ]


def _same_number(wanted: float, yours: Any) -> bool:
    """Equal whole numbers, or infinities; large ones to a millionth, which rounding decides."""
    yours = float(yours)
    if math.isinf(wanted):
        return yours == wanted
    return yours == round(yours) and abs(yours - wanted) <= 1e-6 * wanted


DRAWS_NEEDED = Exercise(
    name="05/draws_needed",
    level="task",
    minutes=25,
    task="A server wants to know what a batch will cost before it draws. Write `draws_needed(zeros, width, risk)`: "
    "`zeros` lists the number of zeros $k_i$ of each column of $\\partial L/\\partial Z$, $b$ of them, `width` is $m$. "
    "Return the smallest whole number of draws after which some direction is missing with probability at most "
    "`risk`, or `math.inf` if no number is enough. Take the exact probability of a hit, and directions as "
    "independent. One of the cases has $b = 24$.",
    reference=draws_needed,
    cases=_columns,
    mistakes=(
        Mistake(
            _fair_coins,
            "That is the limit $2^{-(b-1)}$, the same for every column. Here the zeros are known: use each $k_i$.",
        ),
        Mistake(
            lambda zeros, width, risk: _smallest(_hits(zeros, width, len(zeros)), risk),
            "A draw takes $b-1$ rows, not $b$.",
        ),
        Mistake(_mean_hit, "The rare directions decide, and a mean hides them. Use each $p_i$ by itself."),
        Mistake(_rarest, "That looks at the rarest direction only. The others can be missing, too."),
        Mistake(
            _bound,
            "So many are enough, but fewer would be: $\\ln(b/\\delta)/p$ is a bound. The smallest number is wanted.",
        ),
        Mistake(
            _doubled,
            "So many are enough, but fewer would be: after doubling, search between the last two numbers.",
        ),
        Mistake(
            _never_infinite,
            "A column with fewer than $b-1$ zeros is never hit, whatever the number of draws: return `math.inf`.",
        ),
    ),
    hints=(
        "Two steps: from each $k_i$ to the probability $p_i$ of a hit, then from the $p_i$ to the number of draws.",
        "The warm-up gives the risk after $N$ draws, and more draws never raise it. So search for $N$.",
        "Double $N$ until the risk is small enough, then halve the gap between the last two numbers. "
        "`math.comb` gives $p_i$.",
    ),
    agree=_same_number,
)

PROMISE = OpenQuestion(
    "05/promise",
    "The paper shows that *much larger batches can be reconstructed with high probability given exponential time*. "
    'Someone concludes: "So batches of 40 are safe." What of that does the sentence support, what does it not, and '
    "which number would you ask for? Five sentences.",
    10,
    "The sentence is about what an attacker *can* do, and promises a defender nothing. It says what drawing costs: at "
    "$b = 40$ about $2 \\cdot 10^{12}$ draws, four weeks at a million a second, an hour on a thousand such machines. "
    "So time protects only against those who have none. It says nothing of any other attack on the same gradient: a "
    "lower "
    "bound on the cost of *every* attack would, and there is none. Ask for that bound, or for the price of the best "
    "attack that is known.",
)
