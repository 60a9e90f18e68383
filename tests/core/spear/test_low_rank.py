"""Step 1: the thin split against a full SVD."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spear_core.spear import low_rank
from spear_core.spear.low_rank import split
from tests.core.attacked import gaussian
from tests.core.zoo import seeded


def matrix(m, n, rank, seed=0, dtype=torch.float64, decades=0.0):
    """Rank as given; singular values spread over so many decades."""
    generator = seeded(seed)
    left = torch.linalg.qr(torch.randn(m, rank, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(n, rank, generator=generator, dtype=torch.float64))[0]
    return ((left * torch.logspace(0, -decades, rank, dtype=torch.float64)) @ right.T).to(dtype)


def projector(basis):
    return basis @ basis.T


@pytest.mark.parametrize(
    ("m", "n", "rank"),
    [(60, 200, 7), (200, 60, 7), (300, 900, 40), (900, 300, 40), (50, 50, 1), (40, 60, 30)],
)
def test_split_is_the_truncated_svd(m, n, rank, dtype, device):
    G = matrix(m, n, rank, dtype=dtype, decades=2).to(device)
    found = split(G, generator=seeded())
    U, S, _ = torch.linalg.svd(G.to(torch.float64), full_matrices=False)
    assert found.batch_size == rank
    assert found.complete
    assert found.factor.dtype == found.rows.dtype == torch.float64
    assert found.factor.device == G.device
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.singular_values[:rank], S[:rank], rtol=rounding, atol=rounding)
    # the weakest direction stands 1e-2 above zero, so its rounding is a hundredfold
    close = {"rtol": 0, "atol": 100 * rounding}
    torch.testing.assert_close(projector(found.factor), projector(U[:, :rank]), **close)
    torch.testing.assert_close(found.rows, found.factor.T @ G.to(torch.float64), **close)
    torch.testing.assert_close(found.rows.norm(dim=1), S[:rank], **close)


@given(
    m=st.integers(12, 80),
    n=st.integers(12, 80),
    share=st.floats(0, 0.45),
    decades=st.floats(0, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_splits_into_a_product_with_orthonormal_and_orthogonal_factors(m, n, share, decades, seed):
    rank = 1 + int(share * (min(m, n) - 1))
    G = matrix(m, n, rank, seed, decades=decades)
    found = split(G, generator=seeded(seed))
    L, R = found.factor, found.rows
    assert found.batch_size == rank
    torch.testing.assert_close(L.T @ L, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(L @ R, G, rtol=0, atol=1e-13)
    gram = R @ R.T
    torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-13)
    assert bool((found.singular_values[:-1] >= found.singular_values[1:]).all())


def test_the_factor_spans_the_output_gradients(dtype, device):
    case = gaussian(9, dtype=dtype, device=device)
    L = case.low_rank.factor
    D = case.output_grads.T.to(torch.float64)
    assert float((L @ (L.T @ D) - D).norm() / D.norm()) < 50 * torch.finfo(dtype).eps


def test_the_rows_span_the_inputs(dtype, device):
    case = gaussian(9, dtype=dtype, device=device)
    basis = torch.linalg.qr(case.low_rank.rows.T)[0]
    X = case.inputs.T.to(torch.float64)
    assert float((basis @ (basis.T @ X) - X).norm() / X.norm()) < 5000 * torch.finfo(dtype).eps


@pytest.mark.parametrize("rank", [20, 21, 26, 27, 33, 70, 100])
def test_the_sketch_grows_until_it_holds_the_batch(rank):
    G = matrix(400, 500, rank)
    found = split(G, generator=seeded())
    assert found.batch_size == rank
    torch.testing.assert_close(found.factor @ found.rows, G, rtol=0, atol=1e-13)


def test_slices_of_columns_add_up_to_the_whole(monkeypatch):
    G = matrix(60, 500, 5, dtype=torch.float32)
    whole = split(G, 5, generator=seeded())
    monkeypatch.setattr(low_rank, "CHUNK_NUMBERS", 60 * 17)  # 30 slices, the last one shorter
    sliced = split(G, 5, generator=seeded())
    torch.testing.assert_close(sliced.factor @ sliced.rows, whole.factor @ whole.rows, rtol=0, atol=1e-7)
    torch.testing.assert_close(sliced.factor @ sliced.rows, G.to(torch.float64), rtol=0, atol=1e-7)


def test_full_rank_shows_no_floor():
    G = torch.randn(30, 40, generator=seeded(), dtype=torch.float64)
    found = split(G, generator=seeded())
    assert not found.complete
    assert found.batch_size == 30
    assert found.floor == 0


def test_a_given_batch_size_keeps_the_largest_directions():
    G = matrix(50, 80, 12, decades=1)
    found = split(G, 4, generator=seeded())
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    assert found.batch_size == 4
    torch.testing.assert_close(found.factor @ found.rows, (U[:, :4] * S[:4]) @ Vh[:4], rtol=0, atol=1e-10)
    assert found.floor == pytest.approx(float(S[4]))


def test_the_floor_is_the_noise_that_was_added():
    noise = 1e-6 * torch.randn(200, 300, generator=seeded(1), dtype=torch.float64)
    found = split(matrix(200, 300, 6) + noise, generator=seeded())
    assert found.batch_size == 6
    largest = float(torch.linalg.matrix_norm(noise, ord=2))
    assert 0.2 * largest < found.floor < 1.1 * largest
    assert found.noise == pytest.approx(found.floor, rel=1e-3)  # the largest singular value is 1


@pytest.mark.parametrize("seed", range(3))
def test_one_more_pass_leaves_out_of_the_factor_what_a_single_sketch_lets_in(seed):
    """Noise alike in all entries, against the SVD: the factor is off by ν S⁻¹ per entry and no more."""
    exact = matrix(200, 3000, 8, seed, decades=1)
    G = exact + 1e-8 * torch.randn(exact.shape, generator=seeded(seed), dtype=torch.float64)
    single, even = split(G, 8, generator=seeded(seed)), split(G, 8, generator=seeded(seed), even=True)
    true = torch.linalg.svd(G, full_matrices=False)[0][:, :8]
    off = [float((projector(found.factor) - projector(true)).norm()) for found in (single, even)]
    assert off[1] < 1e-3 * off[0]
    assert even.even
    assert not single.even


def test_a_direction_that_dominates_does_not_hide_the_others():
    """The largest ratio of neighbours is after the first value here; the rank is 4 all the same."""
    generator = seeded()
    U = torch.linalg.qr(torch.randn(60, 4, generator=generator, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(90, 4, generator=generator, dtype=torch.float64))[0]
    values = torch.tensor([1.0, 1e-9, 3e-10, 1e-11], dtype=torch.float64)
    assert split((U * values) @ V.T, generator=seeded()).batch_size == 4


def test_same_seed_same_split_and_nothing_is_written(dtype):
    G = matrix(100, 300, 8, dtype=dtype)
    before = G.clone()
    first, second = split(G, generator=seeded(3)), split(G, generator=seeded(3))
    assert torch.equal(G, before)
    assert torch.equal(first.factor, second.factor)
    assert torch.equal(first.rows, second.rows)
