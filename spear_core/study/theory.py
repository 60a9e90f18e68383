"""How many draws, how many mistakes: the probabilities behind steps 2 to 4.

Sources: the analysis in SPEAR (arXiv:2403.03945) of the number of samples and of the sparsity filter; the
coupon collector's problem; the Chernoff–Hoeffding bound (Hoeffding 1963, Theorem 1). Everything follows from
two facts about a fresh network: a unit is silent for a sample with probability ½, and for one sample all
units are independent.

Letters throughout: b = batch_size, m = units, N = draws, τ = threshold (the least share of zeros that is kept), and
p = zero_share, the share of zeros in the column of ∂L/∂Z of a sample.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from spear_core.spear.sampling import expected_draws as expected_draws
from spear_core.spear.sampling import harmonic as harmonic

NODES = 256  # of an integral: six digits for directions that differ a thousandfold in probability


# ---------------------------------------------------------------- step 2: draws
def hit_probability(batch_size: int, units: int, zeros: int, *, shared: int = 0) -> float:
    """Probability that b − 1 rows, drawn without replacement, give the direction of one sample (step 2).

    All of them must be among the k = `zeros` of the sample's column, C(k, b−1) of C(m, b−1) sets (hypergeometric).
    Sets that are zero in a second column as well leave a plane of directions, not one: with a similar sample that has
    s = `shared` of these zeros as well, C(s, b−1) sets are lost.

    Raises:
        ValueError: unless 0 ≤ shared ≤ zeros ≤ units, b ≥ 1 and b − 1 ≤ units.

    >>> round(hit_probability(4, 100, 50), 4), hit_probability(4, 100, 50, shared=50)
    (0.1212, 0.0)
    """
    if not 0 <= shared <= zeros <= units or not 1 <= batch_size <= units + 1:
        raise ValueError(
            "shared, zeros, units must be in ascending order and hold b − 1 rows, "
            f"got {shared}, {zeros}, {units} with b = {batch_size}"
        )
    rows = batch_size - 1
    sets = math.comb(zeros, rows) - (math.comb(shared, rows) if rows else 0)
    return sets / math.comb(units, rows)


def asymptotic_hit_probability(batch_size: int, *, zero_share: float = 0.5) -> float:
    """What `hit_probability` tends to for wide layers, p^(b−1).

    >>> asymptotic_hit_probability(4)
    0.125
    """
    return float(zero_share ** (batch_size - 1))


def expected_draws_each(probabilities: Sequence[float]) -> float:
    """The same for directions that are not equally likely: E = ∫ 1 − Π (1 − e^(−p_i t)) dt over t > 0.

    The classical formula for collecting unequal coupons (Flajolet, Gardy, Thimonier 1992). A draw gives direction i
    with probability p_i, and one direction at most, so it is exact; infinity if a direction cannot be drawn.

    >>> round(expected_draws_each([0.125] * 4), 6)
    16.666667
    """
    return float(expected_draws_of_batches(np.array([probabilities]))[0])


def expected_draws_of_batches(probabilities: np.ndarray) -> np.ndarray:
    """`expected_draws_each` for every row of p_i, shape (k, b), at once; shape (k,).

    By Gauss and Legendre's rule in w, with e^(−t) = w² and t in units of the rarest direction's 1 / p.
    """
    w, weights = _nodes()
    rarest = probabilities.min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (probabilities / rarest[:, None]).T[:, :, None]
        powers = np.exp(2 * shares * np.log(w))  # w to the power of 2 p / rarest, faster than by **
        missing = -np.expm1(np.log1p(-powers).sum(axis=0))
        expected = (missing / w) @ weights / rarest
    return np.where(rarest > 0, expected, np.inf)


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Where to evaluate between 0 and 1, and the weights, which add up to 2: dv / v = 2 dw / w."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights


# ---------------------------------------------------------------- step 3: the filter
def least_zeros(units: int, threshold: float) -> int:
    """The smallest whole number of zeros that is at least τ m."""
    return math.ceil(threshold * units - 1e-9)  # 0.3 · 70 is 21, not a rounding error more


def false_rejection(units: int, threshold: float, *, zero_share: float = 0.5) -> float:
    """Probability that a right direction has too few zeros, P(Bin(m, p) < τ m) (step 3).

    >>> false_rejection(4, 0.5)  # fewer than two heads in four tosses
    0.3125
    """
    from scipy import stats  # takes half a second to import

    return float(stats.binom.cdf(least_zeros(units, threshold) - 1, units, zero_share))


def false_rejection_bound(units: int, threshold: float, *, zero_share: float = 0.5) -> float:
    """The Chernoff–Hoeffding bound on `false_rejection`, exp(−m KL(τ ‖ p)), or 1 from τ = p on.

    >>> false_rejection(200, 0.3) <= false_rejection_bound(200, 0.3)
    True
    """
    tau, p = threshold, zero_share
    if tau >= p:
        return 1.0
    divergence = (1 - tau) * math.log((1 - tau) / (1 - p)) + (tau * math.log(tau / p) if tau > 0 else 0.0)
    return math.exp(-units * divergence)


def false_acceptance(units: int, threshold: float, mixed: int = 2, *, zero_share: float = 0.5) -> float:
    """Probability that a mixture of k = `mixed` samples has enough zeros all the same, P(Bin(m, p^k) ≥ τ m) (step 3).

    L q of a mixture is zero where *all* k samples are silent. A direction that mixes everything has b − 1
    zeros and passes only where τ m ≤ b − 1. Holds for independent patterns; similar samples share more.

    >>> false_acceptance(4, 0.5, mixed=1)  # two heads or more in four tosses
    0.6875
    """
    from scipy import stats

    return float(stats.binom.sf(least_zeros(units, threshold) - 1, units, zero_share**mixed))


def failure_probability(
    batch_size: int, draws: int, *, units: int | None = None, threshold: float = 0.0, zero_share: float = 0.5
) -> float:
    """Probability that some direction is not in the pool after so many draws: never drawn, or rejected.

    1 − ((1 − (1 − p)^N)(1 − P(false rejection)))^b, which takes the directions as independent. A draw that
    gives one cannot give another, so the truth is slightly larger, and at most b times the failure of one. Without
    `units`, false rejection is left out.

    >>> failure_probability(1, 1), failure_probability(2, 0)
    (0.0, 1.0)
    """
    missed = (1 - asymptotic_hit_probability(batch_size, zero_share=zero_share)) ** draws
    rejected = 0.0 if units is None else false_rejection(units, threshold, zero_share=zero_share)
    return 1 - ((1 - missed) * (1 - rejected)) ** batch_size
