"""Step 2: one inverse for b candidates against one SVD for each."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spear_core.spear.sampling import CHUNK_BYTES, chunk_sizes, draw_directions, draw_row_sets, live_rows
from tests.core.attacked import gaussian
from tests.core.zoo import seeded


def null_vector(rows):
    """The naive way: the last right singular vector of b − 1 rows."""
    return torch.linalg.svd(rows, full_matrices=True)[2][-1]


def angle(p, q):
    """Sine of the angle between two directions, exact also where it is small."""
    p, q = (v.to(torch.float64) / v.to(torch.float64).norm() for v in (p, q))
    return float((p - (p @ q) * q).norm())


@pytest.mark.parametrize("b", [1, 2, 3, 6, 12])
def test_candidates_are_the_null_vectors_of_one_svd_each(b, dtype, device):
    L = torch.randn(50, b, generator=seeded(b), dtype=torch.float64).to(device, dtype)
    draw = draw_directions(L, 60, generator=seeded(1))
    assert draw.directions.dtype == dtype
    assert draw.directions.device == L.device
    assert len(draw.directions) == draw.sets.numel()
    assert len(draw.directions) >= 60
    angles = []
    for number, candidate in enumerate(draw.directions):
        rows, left_out = draw.sets[number // b], number % b
        others = [int(row) for place, row in enumerate(rows) if place != left_out]
        angles.append(angle(candidate, null_vector(L[others].to(torch.float64))))
    # rounding is amplified by the condition of b random rows, hence most and not all
    angles = torch.tensor(angles)
    assert float(angles.median()) < 50 * b * torch.finfo(dtype).eps
    assert float(angles.max()) < 1e6 * torch.finfo(dtype).eps


@given(b=st.integers(1, 10), spare=st.integers(0, 40), count=st.integers(1, 200), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_candidates_are_orthogonal_to_their_rows_but_one(b, spare, count, seed):
    L = torch.randn(b + spare, b, generator=seeded(seed), dtype=torch.float64)
    draw = draw_directions(L, count, generator=seeded(seed))
    assert len(draw.directions) == count and len(draw.sets) == -(-count // b)
    numbers = torch.arange(count)
    products = torch.einsum("kib,kb->ki", L[draw.sets[numbers // b]], draw.directions)
    expected = torch.eye(b, dtype=torch.float64)[numbers % b]
    size = draw.directions.norm(dim=1)[:, None]
    assert bool(((products - expected).abs() <= 1e-11 * (1 + size)).all())


def test_rows_that_are_zero_for_a_sample_give_its_direction():
    case = gaussian(4)
    low_rank = case.low_rank
    live = live_rows(low_rank.factor)
    L, Q, zeros = low_rank.factor[live], case.directions(low_rank), case.zeros[live]
    draw = draw_directions(L, 2000, generator=seeded())
    hits = 0
    for number, candidate in enumerate(draw.directions):
        rows = draw.sets[number // 4][torch.arange(4) != number % 4]
        if float(torch.linalg.svdvals(L[draw.sets[number // 4]])[-1]) < 1e-9:
            continue  # rows that only one sample activates are parallel
        for sample in range(4):
            if bool(zeros[rows, sample].all()):
                hits += 1
                assert angle(candidate, Q[:, sample]) < 1e-6
    # each of the 4 samples is hit with probability about 2^−3, less what was singular
    assert 200 < hits < 2000


@given(m=st.integers(1, 60), share=st.floats(0, 1), count=st.integers(1, 300), seed=st.integers(0, 999))
@settings(deadline=None)
def test_row_sets_hold_different_rows_below_m(m, share, count, seed):
    size = 1 + int(share * (m - 1))
    sets = draw_row_sets(m, size, count, generator=seeded(seed))
    assert sets.shape[0] >= count
    assert sets.shape[1] == size
    assert all(len(set(rows)) == size for rows in sets.tolist())
    assert int(sets.min()) >= 0
    assert int(sets.max()) < m


def test_every_row_and_every_pair_is_drawn_equally_often():
    """10 rows, sets of 3: a row with probability 0.3, a pair with 3/45; five standard deviations."""
    count = 30_000
    sets = draw_row_sets(10, 3, count, generator=seeded())
    member = torch.zeros(len(sets), 10, dtype=torch.float64).scatter_(1, sets, 1.0)
    together = member.T @ member / len(sets)
    for i, j in itertools.combinations_with_replacement(range(10), 2):
        p = 0.3 if i == j else 3 / 45
        # sets of one order are not independent: allow for three of them as one
        assert abs(float(together[i, j]) - p) < 5 * (3 * p * (1 - p) / len(sets)) ** 0.5


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least as many rows as columns, got 4 × 5"):
        draw_directions(torch.eye(5)[:4], 10)


def test_singular_rows_give_no_finite_direction():
    draw = draw_directions(torch.ones(6, 2), 10, generator=seeded())
    assert not bool(draw.directions.isfinite().all(dim=1).any())


def test_live_rows_leave_out_what_is_zero_for_the_whole_batch(dtype, device):
    L = torch.randn(30, 4, generator=seeded(), dtype=dtype).to(device)
    silent = [0, 7, 29]
    L[silent] = 0
    L[7] = 1e-9
    assert live_rows(L).tolist() == [row for row in range(30) if row not in silent]


@pytest.mark.parametrize("b", [1, 2, 16, 24, 100, 3000])
def test_chunks_grow_from_few_to_a_fixed_memory(b):
    sizes = list(itertools.islice(chunk_sizes(b), 40))
    assert sizes[0] <= 32 * b
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2]
    assert b <= sizes[-1]
    assert 4 * b * sizes[-1] <= max(CHUNK_BYTES, 4 * b * b)


def test_same_seed_same_candidates():
    L = torch.randn(40, 6, generator=seeded())
    first, second, other = (draw_directions(L, 50, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.directions, second.directions)
    assert torch.equal(first.sets, second.sets)
    assert not torch.equal(first.sets, other.sets)
