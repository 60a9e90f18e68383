"""What noise promises: against the definition by integration, against an accountant, and its ends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from spear_core.study import privacy


def hockey_stick(epsilon: float, sigma: float) -> float:
    """∫ max(p − e^ε q, 0): the definition, for the two messages that differ by one example of norm C."""
    with_it, without = stats.norm(1.0, sigma), stats.norm(0.0, sigma)
    excess = lambda y: max(with_it.pdf(y) - math.exp(epsilon) * without.pdf(y), 0.0)  # noqa: E731
    from_here = epsilon * sigma**2 + 0.5  # below it the integrand is zero
    return integrate.quad(excess, from_here, from_here + 40 * sigma, limit=200)[0]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
def test_delta_is_the_definition(epsilon: float, sigma: float):
    assert privacy.delta(epsilon, sigma) == pytest.approx(hockey_stick(epsilon, sigma), rel=1e-6, abs=1e-12)


@given(st.floats(-5, 2), st.sampled_from([1e-8, 1e-5, 1e-2]))
def test_epsilon_is_the_smallest_that_delta_admits(power: float, allowed: float):
    sigma = 10.0**power
    found = privacy.epsilon(sigma, allowed)
    assert privacy.delta(found * (1 + 1e-6), sigma) <= allowed
    assert found == 0.0 or privacy.delta(found * (1 - 1e-6), sigma) > allowed * (1 - 1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_an_accountant_agrees_up_to_its_bound(sigma: float):
    analysis = pytest.importorskip(
        "opacus.accountants.analysis.rdp", reason="needs opacus: pip install -e .[dev]"
    )
    orders = [1 + x / 10 for x in range(1, 200)]
    spent = analysis.compute_rdp(q=1.0, noise_multiplier=sigma, steps=1, orders=orders)
    bound, _ = analysis.get_privacy_spent(orders=orders, rdp=spent, delta=1e-5)
    assert 0.8 * bound < privacy.epsilon(sigma) <= bound


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_noise_that_is_none_is_refused(sigma: float):
    with pytest.raises(ValueError, match="noise_multiplier must be above 0"):
        privacy.epsilon(sigma)


@pytest.mark.parametrize("allowed", [0.0, 0.6])
def test_a_delta_that_promises_nothing_is_refused(allowed: float):
    with pytest.raises(ValueError, match="delta_allowed must be above 0"):
        privacy.epsilon(1.0, allowed)


def test_much_noise_costs_no_epsilon():
    assert privacy.epsilon(1e6) == 0.0
