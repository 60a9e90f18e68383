"""Step 3: the filter against counting zeros one by one; uniqueness against leaving out every pair of rows."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spear_core.spear import sparsity
from spear_core.spear.low_rank import LowRank, split
from spear_core.spear.records import Pool
from spear_core.spear.sampling import draw_directions
from spear_core.spear.sparsity import (
    FIRST_ROWS,
    FIRST_ZEROS,
    MOST_SURVIVORS,
    descend,
    filter_directions,
    passes_first_stage,
)
from spear_core.spear.uniqueness import shared_kernel, weigh
from spear_core.spear.zeros import SPARE_ROWS, default_threshold, fit, null_space, zero_tolerance, zeros_of
from tests.core.attacked import attacked, gaussian, photos
from tests.core.zoo import seeded
from tests.thorough import thorough


def misses(found, Q):
    """Sine of the angle from each true direction to the nearest found one."""
    if not found.shape[1]:
        return torch.ones(Q.shape[1], dtype=torch.float64)
    along = Q.T @ found
    nearest = along.abs().argmax(dim=1)
    chosen = found[:, nearest] * along.gather(1, nearest[:, None]).sign()[:, 0]
    return (Q - chosen).norm(dim=0)


def of_factor(L):
    """A split with this L, all singular values one, no noise but float64's."""
    b = L.shape[1]
    return LowRank(L, torch.eye(b, 2 * b, dtype=L.dtype), torch.ones(b, dtype=L.dtype), 0.0, True)


# ---------------------------------------------------------------- tolerance
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [gaussian, photos])
def test_the_tolerance_tells_the_zeros_of_true_directions(kind, seed, dtype):
    case = kind(8, seed=seed, dtype=dtype)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    entries = (low_rank.factor @ Q).abs()
    told = entries <= zero_tolerance(low_rank, Q)
    assert bool(told[case.zeros].all())
    # what is taken for zero and is none is so small that float32 could not tell
    assert float((told & ~case.zeros).double().mean()) < 1e-3


def test_even_rounding_is_alike_for_all_rows_and_its_margin_small():
    low_rank = split(gaussian(5, dtype=torch.float32).gradients["0.weight"], generator=seeded())
    q = torch.eye(5, dtype=torch.float64)
    flat = zero_tolerance(replace(low_rank, even=True), q)
    torch.testing.assert_close(flat, flat[:1].expand_as(flat))
    own = zero_tolerance(low_rank, q).square().mean(dim=0).sqrt()
    torch.testing.assert_close(flat[0] / own, torch.full_like(own, 16 / 1024), rtol=1e-2, atol=0)


def test_the_tolerance_follows_noise_rows_and_weak_directions():
    low_rank = split(gaussian(5, dtype=torch.float32).gradients["0.weight"], generator=seeded())
    q = torch.eye(5, dtype=torch.float64)
    tolerance = zero_tolerance(low_rank, q)
    assert tolerance.shape == (100, 5)
    louder = zero_tolerance(replace(low_rank, floor=10 * low_rank.floor), q)
    torch.testing.assert_close(louder, 10 * tolerance, rtol=1e-3, atol=0)
    # S⁻¹ amplifies noise along weak directions
    ratio = low_rank.singular_values[0] / low_rank.singular_values[4]
    torch.testing.assert_close(tolerance[:, 4], ratio * tolerance[:, 0], rtol=1e-3, atol=0)
    assert bool((zero_tolerance(replace(low_rank, floor=0.0), q) > 0).all())


def test_threshold_keeps_right_directions_and_asks_for_spare_zeros():
    wide, narrow = of_factor(torch.zeros(400, 8)), of_factor(torch.zeros(40, 20))
    assert default_threshold(wide) == 0.2
    assert default_threshold(narrow) == (20 - 1 + SPARE_ROWS) / 40


# ---------------------------------------------------------------- first stage
def count_one_by_one(draw, L, rows):
    """The naive first stage: for each candidate, the rows it was not made of, entry by entry."""
    b = L.shape[1]
    passed = []
    for number, q in enumerate(draw.directions):
        members = draw.sets[number // b].tolist()
        own = set(members) - {members[number % b]}
        entries = {row: abs(float(L[row] @ q)) for row in rows}
        limit = sparsity.COARSE_ZERO * sum(entries.values()) / len(entries)
        zeros = [row for row, entry in entries.items() if entry < limit and row not in own]
        passed.append(len(zeros) >= FIRST_ZEROS)
    return torch.tensor(passed)


@pytest.mark.parametrize("b", [2, 4, 6])
def test_first_stage_counts_zeros_on_rows_that_were_not_drawn(b):
    case = gaussian(b)
    L = case.low_rank.factor
    L = L[L.norm(dim=1) > 1e-9]
    draw = draw_directions(L / L.norm(dim=1, keepdim=True), 400, generator=seeded(b))
    naive = count_one_by_one(
        draw,
        L / L.norm(dim=1, keepdim=True),
        torch.randperm(len(L), generator=seeded(5))[:FIRST_ROWS].tolist(),
    )
    passed = passes_first_stage(draw, L / L.norm(dim=1, keepdim=True), generator=seeded(5))
    assert torch.equal(passed, naive)
    assert 0 < int(passed.sum()) < len(passed)


def test_first_stage_keeps_right_directions_and_rejects_the_others(dtype, device):
    case = gaussian(6, width=200, dtype=dtype, device=device)
    low_rank = case.low_rank
    L = low_rank.factor[low_rank.factor.norm(dim=1) > 1e-9]
    L = (L / L.norm(dim=1, keepdim=True)).to(torch.float32)
    draw = draw_directions(L, 20_000, generator=seeded(1))
    unit = (draw.directions / draw.directions.norm(dim=1, keepdim=True)).to(torch.float64)
    along = (unit @ case.directions(low_rank)).abs().amax(dim=1)  # NaN where the rows were singular
    right, wrong = along > 1 - 1e-8, along < 0.99
    assert int(right.sum()) > 500
    shares = torch.stack(
        [
            torch.stack([passed[right].double().mean(), passed[wrong].double().mean()])
            for passed in (passes_first_stage(draw, L, generator=seeded(seed)) for seed in range(20))
        ]
    )
    assert float(shares[:, 0].mean()) > 0.99
    # mixtures of two samples have a quarter of zeros and may pass; all others do not
    assert float(shares[:, 1].mean()) < 0.2


# ---------------------------------------------------------------- null space
@given(b=st.integers(2, 9), rank=st.integers(0, 8), more=st.integers(0, 12), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_null_space_is_what_a_full_svd_says(b, rank, more, seed):
    rank = min(rank, b)
    generator = seeded(seed)
    count = rank + more if rank else 0
    inside = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    span = torch.linalg.qr(torch.randn(b, b, generator=generator, dtype=torch.float64))[0][:, :rank]
    L = torch.cat([inside @ span.T, torch.randn(30, b, generator=generator, dtype=torch.float64)])
    rows = torch.arange(len(L)) < count
    kernel = null_space(of_factor(L), rows)
    _, _, Vh = torch.linalg.svd(L[rows], full_matrices=True)
    naive = Vh[rank:].T
    assert kernel.shape == (b, b - rank)
    torch.testing.assert_close(kernel @ kernel.T, naive @ naive.T, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- uniqueness
def ranks(L, subsets):
    """Rank of each set of rows, one SVD for each."""
    if not subsets:
        return []
    stacks = torch.stack([L[list(subset)] for subset in subsets])
    if not stacks.numel():
        return [0] * len(subsets)
    return (torch.linalg.svdvals(stacks) > 1e-6).sum(dim=1).tolist()


def ranks_are_clear(L, rows, b):
    """No set of rows without two of them is *nearly* short of a rank: there, who is right is a matter of taste."""
    sets = [rows, *(without(rows, pair) for pair in itertools.combinations(rows, SPARE_ROWS))]
    values = [torch.linalg.svdvals(L[subset]) for subset in sets if subset]
    return all(bool(((found < 1e-9) | (found > 2e-2)).all()) for found in values)


def without(rows, gone):
    return [row for row in rows if row not in gone]


def pinning_one_by_one(L, rows):
    """The naive way: rows without which, alone or with a second one, the others lose a rank."""
    (whole,) = ranks(L, [rows])
    alone = {row for row, rank in zip(rows, ranks(L, [without(rows, [row]) for row in rows])) if rank < whole}
    pairs = list(itertools.combinations(without(rows, alone), 2))
    lost = [
        pair for pair, rank in zip(pairs, ranks(L, [without(rows, pair) for pair in pairs])) if rank < whole
    ]
    return alone.union(*lost)


def unique_one_by_one(L, rows, b):
    if len(rows) < b - 1 + SPARE_ROWS or ranks(L, [rows]) != [b - 1]:
        return False
    pairs = itertools.combinations(rows, SPARE_ROWS)
    return all(rank == b - 1 for rank in ranks(L, [without(rows, pair) for pair in pairs]))


@given(
    b=st.integers(3, 6),
    shared=st.integers(0, 8),
    pins=st.integers(0, 5),
    loss=st.integers(1, 2),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_uniqueness_is_what_leaving_out_every_pair_says(b, shared, pins, loss, seed):
    """Some rows leave a kernel of several dimensions, and a few more pin down one direction in it."""
    generator = seeded(seed)
    frame = torch.linalg.qr(torch.randn(b, b, generator=generator, dtype=torch.float64))[0]
    q, rest = frame[:, 0], frame[:, 1:]
    inside = rest[:, : max(0, b - 1 - loss)]
    shared_rows = torch.randn(shared, inside.shape[1], generator=generator, dtype=torch.float64) @ inside.T
    pin_rows = torch.randn(pins, b - 1, generator=generator, dtype=torch.float64) @ rest.T
    others = torch.randn(12, b, generator=generator, dtype=torch.float64)
    L = torch.cat([shared_rows, pin_rows, others])
    zero_rows = torch.arange(len(L)) < shared + pins
    rows = zero_rows.nonzero().flatten().tolist()
    low_rank = of_factor(L)
    assert float((L[zero_rows] @ q).abs().max() if rows else 0) < 1e-12
    assume(ranks_are_clear(L, rows, b))
    enough = len(rows) >= default_threshold(low_rank) * len(L)
    found = weigh(low_rank, q[:, None], generator=seeded())
    assert torch.equal(found.rows[:, 0], zero_rows)
    assert bool(found.unique) == (enough and unique_one_by_one(L, rows, b))
    kernel, kept = shared_kernel(low_rank, zero_rows)
    dropped = set((zero_rows & ~kept).nonzero().flatten().tolist())
    assert dropped == (pinning_one_by_one(L, rows) if rows else set())
    assert kernel.shape[1] == b - (ranks(L, [kept.nonzero().flatten().tolist()])[0] if kept.any() else 0)


@pytest.mark.parametrize("b", [1, 2, 3, 5])
def test_zeros_of_true_directions_are_unique_and_those_of_mixtures_are_not(b, dtype):
    case = gaussian(b, dtype=dtype)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    found = weigh(low_rank, Q, generator=seeded())
    assert torch.equal(found.rows, case.zeros)
    for column, unique in zip(case.zeros.T, found.unique):
        naive = unique_one_by_one(low_rank.factor, column.nonzero().flatten().tolist(), b)
        assert bool(unique) == naive
        assert naive
    if b >= 2:
        # the mixture of two samples that one further row pins down has all their shared zeros, and that row
        L, (p, q) = low_rank.factor, Q.T[:2]
        row = int((~case.zeros[:, 0] & ~case.zeros[:, 1]).nonzero()[0])
        mixture = (L[row] @ q) * p - (L[row] @ p) * q
        mixture = mixture / mixture.norm()
        assert bool(zeros_of(low_rank, mixture[:, None])[row])
        assert not weigh(low_rank, mixture[:, None], generator=seeded()).unique


# ---------------------------------------------------------------- fit, descend, pool
def test_the_fit_brings_a_coarse_candidate_to_rounding(dtype, device):
    case = gaussian(6, dtype=dtype, device=device)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    for sample, q in enumerate(Q.T):
        coarse = q + 1e-4 * torch.randn(6, generator=seeded(sample), dtype=torch.float64).to(device)
        fine = fit(low_rank, (coarse / coarse.norm())[:, None])
        kernel, rows = shared_kernel(low_rank, zeros_of(low_rank, fine)[:, 0])
        assert kernel.shape == (6, 1)
        assert torch.equal(rows, case.zeros[:, sample])
        for found in (fine, kernel):
            assert float(misses(found, q[:, None])) < 200 * torch.finfo(dtype).eps


def similar_pair(seed=0, dtype=torch.float64, distance=0.5):
    """Six samples, of which the first two are near-duplicates."""
    generator = seeded(seed)
    inputs = torch.randn(6, 150, generator=generator, dtype=dtype)
    inputs[1] = inputs[0] + distance * torch.randn(150, generator=generator, dtype=dtype)
    return attacked(inputs, torch.arange(6), seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_mixture_of_similar_samples_leads_to_the_two_samples(seed):
    case = similar_pair(seed)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    shared = case.zeros[:, 0] & case.zeros[:, 1]
    kernel = null_space(low_rank, shared)
    assert kernel.shape[1] == 2
    found = descend(low_rank, kernel, shared, generator=seeded())
    assert found.shape[1] == 2
    assert float(misses(found, Q[:, :2]).max()) < 1e-9
    # and the whole way from the mixture
    mixture = Q[:, 0] + 0.3 * Q[:, 1]
    pool = filter_directions(
        mixture[None], low_rank, Pool.empty(6, mixture.device), threshold=0.2, generator=seeded()
    )
    assert float(misses(pool.directions, Q[:, :2]).max()) < 1e-9
    assert len(pool) == 2
    assert len(pool.explored) == 1
    again = filter_directions(mixture[None], low_rank, pool, threshold=0.2, generator=seeded(1))
    assert len(again) == 2  # neither twice nor searched twice


def test_a_line_descends_to_itself():
    case = gaussian(4)
    low_rank = case.low_rank
    kernel = null_space(low_rank, case.zeros[:, 0])
    assert torch.equal(descend(low_rank, kernel, case.zeros[:, 0]), kernel)


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
def test_the_pool_holds_what_counting_zeros_one_by_one_keeps(seed, dtype, device):
    """Every candidate on all rows in float64, no first stage, no fit: the same directions."""
    b, width, threshold = 4, 100, 0.38  # above what mixtures of two samples have
    case = gaussian(b, width, seed=seed, dtype=dtype, device=device)
    low_rank = case.low_rank
    L, live = low_rank.factor, low_rank.factor.norm(dim=1) > 1e-9
    draw = draw_directions(L[live] / L[live].norm(dim=1, keepdim=True), 600, generator=seeded(seed))
    unit = draw.directions[draw.directions.isfinite().all(dim=1)]
    unit = unit / unit.norm(dim=1, keepdim=True)
    pool = Pool.empty(b, torch.device(device))
    for some in unit.split(MOST_SURVIVORS * b):  # of one call, no more survivors are followed
        pool = filter_directions(some, low_rank, pool, threshold=threshold, generator=seeded())
    kept = []
    for q in unit:
        tolerance = zero_tolerance(low_rank, q[:, None])[:, 0]
        zeros = sum(abs(float(row @ q)) <= float(limit) for row, limit in zip(L, tolerance))
        if zeros >= threshold * width and all(abs(float(q @ other)) < 1 - 1e-6 for other in kept):
            kept.append(q)
    naive = torch.stack(kept, dim=1)
    assert float(misses(pool.directions, naive).max()) < 1e-4
    assert float(misses(naive, pool.directions).max()) < 1e-4
    Q = case.directions(low_rank)
    assert float(misses(pool.directions, Q).max()) < 200 * torch.finfo(dtype).eps
    order = (pool.directions.T @ Q).abs().argmax(dim=1)
    assert torch.equal(pool.zeros, case.zeros.sum(dim=0)[order])
    assert bool(pool.unique.all())


def test_the_filter_keeps_the_threshold_and_the_old_pool():
    case = gaussian(4)
    low_rank = case.low_rank
    Q, zeros = case.directions(low_rank), case.zeros.sum(dim=0)
    strict = (int(zeros.max()) + 1) / len(case.zeros)
    empty = Pool.empty(4, Q.device)
    assert len(filter_directions(Q.T, low_rank, empty, threshold=strict)) == 0
    first = filter_directions(Q.T[:2], low_rank, empty, threshold=0.2)
    both = filter_directions(Q.T, low_rank, first, threshold=0.2)
    assert (len(empty), len(first), len(both)) == (0, 2, 4)
    assert torch.equal(both.directions[:, :2], first.directions)


def test_a_direction_found_inexactly_is_fitted_to_all_its_zeros():
    """A photo batch in which a plane of mixtures gave a sample's direction 13 zeros short of its 48."""
    case = photos(10, 100, seed=0, size=32, dtype=torch.float64)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    for sample, q in enumerate(Q.T):
        exact = zero_tolerance(low_rank, q[:, None])[:, 0]
        nudge = torch.randn(10, generator=seeded(sample), dtype=torch.float64)
        off = q + 1e-9 * nudge
        off = off / off.norm()
        assert int(((low_rank.factor @ off).abs() <= exact).sum()) < int(case.zeros[:, sample].sum())
        pool = filter_directions(off[None], low_rank, Pool.empty(10, q.device), threshold=0.2)
        assert int(pool.zeros[0]) == int(case.zeros[:, sample].sum())
