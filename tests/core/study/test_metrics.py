"""Matching against trying every order, PSNR against its formula."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spear_core.study import metrics
from spear_core.study.metrics import EXACT_DB, compare
from tests.core.zoo import seeded


def best_order(recovered, truth):
    """The naive way: every assignment, the least total squared error."""
    return min(
        itertools.permutations(range(len(recovered)), len(truth)),
        key=lambda order: float((recovered[list(order)] - truth).square().sum()),
    )


@given(
    b=st.integers(1, 5),
    n=st.integers(1, 8),
    spare=st.integers(0, 1),
    noise=st.floats(0, 1),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_rows_are_paired_as_trying_every_order_does(b, n, spare, noise, seed):
    generator = seeded(seed)
    truth = torch.randn(b, n, generator=generator, dtype=torch.float64)
    noisy = truth + noise * torch.randn(b, n, generator=generator, dtype=torch.float64)
    more = torch.randn(spare, n, generator=generator, dtype=torch.float64)
    recovered = torch.cat([noisy, more])[torch.randperm(b + spare, generator=generator)]
    assert compare(recovered, truth).order.tolist() == list(best_order(recovered, truth))


def test_psnr_is_its_formula(dtype):
    truth = torch.rand(4, 50, generator=seeded(), dtype=dtype)
    error = 1e-3 * torch.randn(4, 50, generator=seeded(1), dtype=dtype)
    score = compare((truth + error).flip(0), truth)
    error = ((truth + error) - truth).double()
    span = float(truth.double().max() - truth.double().min())
    naive = 10 * torch.log10(span**2 / error.square().mean(dim=1))
    torch.testing.assert_close(score.psnr, naive)
    assert score.order.tolist() == [3, 2, 1, 0]
    assert score.largest_error == pytest.approx(float(error.abs().max()))


def test_ninety_decibel_are_exact():
    truth = torch.eye(3, dtype=torch.float64).repeat(1, 4)
    off = torch.tensor([0.99, 1.01, 100], dtype=torch.float64)[:, None] * 10 ** (-EXACT_DB / 20)
    assert compare(truth + off, truth).exact.tolist() == [True, False, False]


def test_equal_rows_have_infinite_psnr():
    truth = torch.rand(3, 5, generator=seeded())
    score = compare(truth, truth)
    assert bool((score.psnr == torch.inf).all())
    assert bool(score.exact.all())
    assert score.largest_error == 0


def test_missing_rows_count_as_nothing():
    truth = torch.rand(4, 6, generator=seeded())
    score = compare(truth[[2, 0]], truth)
    assert score.order.tolist() == [1, -1, 0, -1]
    assert score.exact.tolist() == [True, False, True, False]
    assert score.psnr[[1, 3]].tolist() == [-torch.inf, -torch.inf]
    nothing = compare(truth[:0], truth)
    assert nothing.order.tolist() == [-1] * 4
    assert not bool(nothing.exact.any())
    assert nothing.largest_error == torch.inf


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_no_number_is_never_exact_and_spoils_no_other(bad):
    truth = torch.rand(3, 6, generator=seeded())
    recovered = truth.clone()
    recovered[1, 2] = bad
    score = compare(recovered, truth)
    assert score.exact.tolist() == [True, False, True]
    assert float(score.psnr[1]) == -torch.inf
    assert score.order.tolist() == [0, -1, 2]
    nothing = compare(torch.full_like(truth, bad), truth)
    assert nothing.order.tolist() == [-1] * 3
    assert nothing.largest_error == torch.inf


def test_a_row_that_is_far_off_spoils_no_other():
    truth = torch.rand(4, 6, generator=seeded(), dtype=torch.float64)
    recovered = truth[[2, 3, 1, 0]]
    recovered[2] = 1e25
    score = compare(recovered, truth)
    assert score.order.tolist() == [3, 2, 0, 1]
    assert score.exact.tolist() == [True, False, True, True]


def test_duplicates_are_paired_one_to_one():
    truth = torch.rand(3, 6, generator=seeded())
    score = compare(truth[[0, 0, 0]], truth)
    assert sorted(score.order.tolist()) == [0, 1, 2]
    assert int(score.exact.sum()) == 1


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (3,)), ((2, 1, 3), (2, 3))])
def test_batches_of_other_shapes_are_refused(shapes):
    first, second = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(
        ValueError, match=r"both batches must be \(rows, 3\)|both batches must be \(rows, 4\)"
    ):
        compare(first, second)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (150, 300)])
def test_share_interval_is_wilsons(successes: int, trials: int):
    z, share = 1.959963984540054, successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    wanted = (max(0.0, middle - half), min(1.0, middle + half))
    assert metrics.share_interval(successes, trials) == pytest.approx(wanted, abs=1e-9)


def test_an_exact_row_keeps_its_partner_beside_a_strange_one():
    truth = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    recovered = torch.tensor([[3.0, 0.0], [7.0, 0.0]])  # 9 + 16 is less than 0 + 49
    score = compare(recovered, truth)
    assert score.order.tolist() == [1, 0]
    assert score.exact.tolist() == [False, True]
