"""What noise promises against every attack: differential privacy (ε, δ) of one message.

A message is (ε, δ)-private if adding or removing one example changes the probability of no outcome by more than the
factor e^ε, but for outcomes of probability δ. Whatever the server computes from it, and whatever it knows besides.
"""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr

LARGEST_DELTA = 0.5  # beyond, a message may show more with probability one half: no promise


def delta(epsilon: float, noise_multiplier: float) -> float:
    """The smallest δ of one message of DP-SGD for a given ε (Balle and Wang 2018, arXiv:1805.06530, Theorem 8).

    With examples clipped to norm C and gaussian noise of deviation σ C on their sum,

        δ(ε) = Φ(1/(2σ) − ε σ) − e^ε Φ(−1/(2σ) − ε σ),    ε ≥ 0, σ = noise_multiplier > 0.
    """
    half, share = 0.5 / noise_multiplier, epsilon * noise_multiplier
    first, second = float(log_ndtr(half - share)), float(log_ndtr(-half - share)) + epsilon
    return max(math.exp(first) - math.exp(second), 0.0)


def epsilon(noise_multiplier: float, delta_allowed: float = 1e-5) -> float:
    """The smallest ε of one message of DP-SGD, every example in it, for a given δ and σ, the noise multiplier.

    Raises:
        ValueError: if σ is not positive, or δ is not above 0 and at most 0.5.

    >>> round(epsilon(1.0), 2), round(epsilon(0.1))
    (4.38, 92)
    """
    if not noise_multiplier > 0:
        raise ValueError(f"noise_multiplier must be above 0, got {noise_multiplier}")
    if not 0 < delta_allowed <= LARGEST_DELTA:
        raise ValueError(f"delta_allowed must be above 0 and at most {LARGEST_DELTA}, got {delta_allowed}")
    if delta(0.0, noise_multiplier) <= delta_allowed:
        return 0.0
    # Rényi divergences give this upper bound (Bun and Steinke 2016, arXiv:1605.02065, Proposition 1.3)
    largest = 0.5 / noise_multiplier**2 + math.sqrt(2 * math.log(1 / delta_allowed)) / noise_multiplier
    return float(brentq(lambda e: delta(e, noise_multiplier) - delta_allowed, 0.0, largest))
