"""Step 4: the greedy choice and its swaps against trying every subset."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Pool
from spear_core.spear.selection import greedy, select
from tests.core.attacked import gaussian
from tests.core.zoo import seeded


def pool_of(directions, zeros, unique=None):
    unique = torch.zeros(len(zeros), dtype=torch.bool) if unique is None else torch.as_tensor(unique)
    return Pool(directions, torch.as_tensor(zeros), unique)


def greedy_by_rank(pool):
    """The naive way: in order, keep what raises the rank."""
    order = sorted(range(len(pool)), key=lambda i: (not bool(pool.unique[i]), -int(pool.zeros[i]), i))
    chosen = []
    for position in order:
        columns = pool.directions[:, [*chosen, position]]
        if int(torch.linalg.matrix_rank(columns, tol=1e-5)) > len(chosen):
            chosen.append(position)
    return tuple(chosen)


@given(b=st.integers(1, 6), spare=st.integers(0, 5), copies=st.integers(0, 4), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_greedy_takes_the_sparsest_independent_ones_unique_first(b, spare, copies, seed):
    generator = seeded(seed)
    directions = torch.randn(b, b + spare, generator=generator, dtype=torch.float64)
    same = directions[:, torch.randint(b + spare, (copies,), generator=generator)]
    directions = torch.cat([directions, -2 * same], dim=1)
    directions = directions / directions.norm(dim=0)
    count = directions.shape[1]
    pool = pool_of(
        directions,
        torch.randint(5, (count,), generator=generator),
        torch.rand(count, generator=generator) < 0.5,
    )
    chosen = greedy(pool)
    assert chosen == greedy_by_rank(pool)
    assert len(chosen) == b


def test_greedy_leaves_short_what_does_not_span():
    pool = pool_of(torch.eye(4, dtype=torch.float64)[:, [1, 2, 1]], [5, 7, 9])
    assert greedy(pool) == (2, 1)


def decoys(case, Q, count, seed):
    """Mixtures of two samples each."""
    generator = seeded(seed)
    b = Q.shape[1]
    weights = torch.zeros(b, count, dtype=torch.float64)
    for column in range(count):
        weights[torch.randperm(b, generator=generator)[:2], column] = torch.randn(
            2, generator=generator
        ).double()
    mixed = Q @ weights
    return mixed / mixed.norm(dim=0)


@pytest.mark.parametrize("seed", range(3))
def test_swaps_reach_what_trying_every_subset_finds(seed, dtype):
    b = 4
    case = gaussian(b, seed=seed, dtype=dtype)
    forward, Q = case.target.forward, case.directions(case.low_rank)
    pool = pool_of(
        torch.cat([decoys(case, Q, 3, seed), Q], dim=1), [60, 58, 56, 50, 50, 50, 50]
    )  # the decoys pass for the sparsest
    every = {
        subset: reconstruct(forward, pool.directions[:, list(subset)]).sparsity_match
        for subset in itertools.combinations(range(len(pool)), b)
        if int(torch.linalg.matrix_rank(pool.directions[:, list(subset)], tol=1e-5)) == b
    }
    best = max(every, key=every.get)
    *earlier, last = select(pool, forward)
    assert best == (3, 4, 5, 6)
    assert tuple(sorted(last.chosen)) == best
    assert last.sparsity_match == every[best] == 1
    matches = [selection.sparsity_match for selection in (*earlier, last)]
    assert matches == sorted(set(matches))
    assert len(earlier) > 0
    assert earlier[0].chosen == greedy(pool)


def test_a_perfect_choice_is_not_swapped():
    case = gaussian(4)
    Q = case.directions(case.low_rank)
    pool = pool_of(torch.cat([Q, decoys(case, Q, 3, 0)], dim=1), [50, 50, 50, 50, 30, 30, 30])
    (only,) = select(pool, case.target.forward)
    assert only.chosen == (0, 1, 2, 3)
    assert only.sparsity_match == 1


def test_too_few_directions_give_the_greedy_choice_only():
    case = gaussian(4)
    Q = case.directions(case.low_rank)
    pool = pool_of(Q[:, :2], [50, 49])
    (only,) = select(pool, case.target.forward)
    assert only.chosen == (0, 1)
    assert only.reconstruction.inputs.shape == (2, case.inputs.shape[1])


def test_the_pool_is_left_as_it_is():
    case = gaussian(3)
    pool = pool_of(case.directions(case.low_rank), [50, 50, 50])
    before = replace(pool, directions=pool.directions.clone(), zeros=pool.zeros.clone())
    list(select(pool, case.target.forward))
    assert torch.equal(pool.directions, before.directions)
    assert torch.equal(pool.zeros, before.zeros)
