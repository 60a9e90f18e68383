"""How many draws, how many mistakes: the probabilities behind steps 2 to 4 (SPEAR, §4)."""

import math


def harmonic(b: int) -> float:
    """H_b = 1 + 1/2 + … + 1/b, the coupon collector's number."""
    return math.fsum(1 / k for k in range(1, b + 1))


def expected_draws(b: int, found: int = 0, *, zero_share: float = 0.5) -> float:
    """Expected number of draws until all b directions are met, H_b · 2^(b−1) for the usual half of zeros.

    A draw of b − 1 rows hits direction i if all of them are zero in column i: probability p^(b−1). The hits
    are spread over b directions, so collecting them takes H_b times as many draws as one of them.

    Args:
        b: batch size.
        found: how many directions are known already; H_(b−found) replaces H_b.
        zero_share: p, the share of zeros in a column of ∂L/∂Z.

    >>> expected_draws(4)
    16.666666666666664
    """
    return harmonic(b - found) * zero_share ** (1 - b)
