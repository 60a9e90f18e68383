"""Formulas against counting, against each other, and against simulation with stated confidence."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spear_core.client import networks
from spear_core.spear.sampling import draw_row_sets
from spear_core.study import theory

CONFIDENCE = (
    1 - 1e-6
)  # of every interval below: one run in a million fails by chance, and the seeds are fixed


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Exact (Clopper–Pearson) interval for a probability."""
    found = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def test_harmonic_numbers():
    assert [theory.harmonic(b) for b in (0, 1, 2, 4)] == pytest.approx([0, 1, 1.5, 25 / 12])


# ---------------------------------------------------------------- draws
@pytest.mark.parametrize(
    ("b", "units", "zeros", "shared"), [(3, 6, 4, 2), (4, 7, 4, 3), (2, 5, 1, 0), (1, 4, 2, 2)]
)
def test_hit_probability_counts_sets(b, units, zeros, shared):
    sets = list(itertools.combinations(range(units), b - 1))
    good = [A for A in sets if all(row < zeros for row in A) and (b == 1 or any(row >= shared for row in A))]
    assert theory.hit_probability(b, units, zeros, shared=shared) == pytest.approx(len(good) / len(sets))


@given(st.integers(1, 12), st.floats(0.2, 0.8))
def test_hit_probability_tends_to_the_power(b, share):
    units = 10**6
    exact = theory.hit_probability(b, units, round(share * units))
    assert exact == pytest.approx(theory.asymptotic_hit_probability(b, zero_share=share), rel=1e-3)


@pytest.mark.parametrize("arguments", [(3, 5, 6), (3, 5, -1), (7, 5, 5), (0, 5, 5)])
def test_hit_probability_refuses(arguments):
    with pytest.raises(ValueError, match="must be in ascending order"):
        theory.hit_probability(*arguments)


def test_more_shared_zeros_than_zeros_are_refused():
    with pytest.raises(ValueError, match="got 4, 3, 5"):
        theory.hit_probability(2, 5, 3, shared=4)


def test_hit_probability_of_the_rows_that_the_search_draws():
    b, units, zeros = 5, 60, 27
    sets = draw_row_sets(units, b - 1, 40_000, generator=torch.Generator().manual_seed(0))
    hits = int((sets < zeros).all(dim=1).sum())
    # sets of one order are disjoint, so hits repel each other: the interval is wider than needed
    low, high = interval(hits, len(sets))
    assert low < theory.hit_probability(b, units, zeros) < high
    assert not low < 2 * theory.hit_probability(b, units, zeros) < high


@pytest.mark.parametrize("b", [1, 2, 4, 9, 16])
def test_equal_directions_take_the_coupon_collectors_number(b):
    p = theory.asymptotic_hit_probability(b)
    assert theory.expected_draws(b) == pytest.approx(theory.harmonic(b) * 2 ** (b - 1))
    assert theory.expected_draws_each([p] * b) == pytest.approx(theory.expected_draws(b), rel=1e-6)
    assert theory.expected_draws(b, found=b) == 0


@given(st.lists(st.floats(0.01, 0.24), min_size=1, max_size=4))
def test_unequal_directions_by_inclusion_and_exclusion(probabilities):
    wanted = sum(
        (-1) ** (k + 1) / sum(chosen)
        for k in range(1, len(probabilities) + 1)
        for chosen in itertools.combinations(probabilities, k)
    )
    assert theory.expected_draws_each(probabilities) == pytest.approx(wanted, rel=1e-5)


def test_a_direction_that_cannot_be_drawn_takes_forever():
    assert theory.expected_draws_each([0.5, 0.0]) == math.inf


# ---------------------------------------------------------------- the filter
@pytest.mark.parametrize(("units", "threshold"), [(10, 0.3), (11, 0.3), (70, 0.3), (20, 0.0), (20, 1.0)])
def test_false_rejection_sums_the_binomial(units, threshold):
    few = [k for k in range(units + 1) if k < round(threshold * units, 9)]
    wanted = sum(math.comb(units, k) for k in few) / 2**units
    assert theory.false_rejection(units, threshold) == pytest.approx(wanted)
    assert theory.false_acceptance(units, threshold, mixed=1) == pytest.approx(1 - wanted)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.05, 0.95))
def test_the_bound_holds(units, threshold, share):
    exact = theory.false_rejection(units, threshold, zero_share=share)
    assert exact <= theory.false_rejection_bound(units, threshold, zero_share=share) + 1e-12


def test_the_bound_is_close_on_the_scale_of_exponents():
    exact, bound = theory.false_rejection(1000, 0.3), theory.false_rejection_bound(1000, 0.3)
    assert 0.9 < math.log(exact) / math.log(bound) < 1.2


def test_a_mixture_of_more_samples_passes_more_rarely():
    passing = [theory.false_acceptance(100, 0.2, mixed) for mixed in (1, 2, 3)]
    assert passing == sorted(passing, reverse=True)
    assert passing[0] > 0.999 > passing[1] > 0.5 > passing[2]


def test_false_rejection_of_real_layers():
    """Units of a fresh layer are independent for one sample, whatever the sample is."""
    units, threshold, layers = 40, 0.4, 5000
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, generator=generator)
    first = networks.fully_connected(12, width=units * layers, depth=2, generator=generator)[0]
    zeros = (first(x) <= 0).reshape(layers, units).sum(dim=1)
    low, high = interval(int((zeros < threshold * units).sum()), layers)
    assert low < theory.false_rejection(units, threshold) < high
    assert high - low < 0.04


# ---------------------------------------------------------------- failure
def test_failure_has_its_limits():
    assert theory.failure_probability(6, 0) == 1
    assert theory.failure_probability(6, 10**6) == pytest.approx(0)
    rejected = theory.false_rejection(50, 0.4)
    certain = theory.failure_probability(6, 10**6, units=50, threshold=0.4)
    assert certain == pytest.approx(1 - (1 - rejected) ** 6)


def test_failure_simulated():
    b, draws, runs = 4, 30, 20_000
    generator = torch.Generator().manual_seed(0)
    p = theory.asymptotic_hit_probability(b)
    outcome = torch.rand(runs, draws, generator=generator) / p  # below b: the direction that is drawn
    met = torch.stack([(outcome.floor() == i).any(dim=1) for i in range(b)], dim=1).all(dim=1)
    low, high = interval(int((~met).sum()), runs)
    guess = theory.failure_probability(b, draws)
    at_most = b * (1 - p) ** draws
    assert low < at_most  # the union bound
    assert guess < high  # independence is optimistic …
    assert guess > 0.95 * low  # … but only slightly
