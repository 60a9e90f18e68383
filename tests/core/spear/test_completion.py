"""The last samples follow from the others: whatever is left out of the pool comes back, to rounding."""

import pytest
import torch

import spear_core
from spear_core.spear.completion import CORNER_COST, Completion, completed, expected_corners
from spear_core.spear.records import Pool
from spear_core.spear.sparsity import join
from spear_core.spear.zeros import default_threshold, null_space
from tests.core.attacked import gaussian, photos
from tests.core.zoo import seeded
from tests.thorough import thorough


def pool_without(case, missing):
    """The true directions, all but the first few."""
    low_rank = case.low_rank
    pool = Pool.empty(low_rank.batch_size, low_rank.factor.device)
    for q in case.directions(low_rank).T[missing:]:
        pool = join(q[:, None], low_rank, pool, default_threshold(low_rank))
    return pool


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("b", [4, 8])
def test_missing_directions_come_back(b, missing, dtype, device):
    case = gaussian(b, dtype=dtype, device=device)
    pool = pool_without(case, missing)
    while int(pool.unique.sum()) < b:
        known = int(pool.unique.sum())
        pool = completed(pool, case.target.forward, 2**12, generator=seeded())
        assert int(pool.unique.sum()) > known
    Q = case.directions(case.low_rank)
    error = 1 - (Q.T @ pool.directions).abs().amax(dim=1)
    assert len(pool) == b
    assert float(error.max()) < 1e-9


def test_a_single_sample_needs_no_draw():
    case = gaussian(1)
    assert len(completed(Pool.empty(1, torch.device("cpu")), case.target.forward, 1)) == 1


def test_a_wrong_direction_among_the_known_adds_nothing_certified():
    case = gaussian(4)
    pool = pool_without(case, 1)
    wrong = torch.nn.functional.normalize(torch.randn(4, 1, generator=seeded(), dtype=torch.float64), dim=0)
    pool = Pool(torch.cat([wrong, pool.directions[:, 1:]], dim=1), pool.zeros, pool.unique)
    assert len(completed(pool, case.target.forward, 64, generator=seeded())) == 3


def test_it_waits_until_it_is_cheaper_than_what_was_drawn():
    case = gaussian(8)
    pool = pool_without(case, 2)
    enough = int(expected_corners(2, 100)) * CORNER_COST
    completion = Completion(case.target.forward)
    assert completion.advance(pool, enough - 1, generator=seeded()) is pool
    assert not completion.corners
    completion.advance(pool, enough, generator=seeded())
    assert completion.corners == enough // CORNER_COST
    full = pool_without(case, 0)
    assert completion.advance(full, 10**9, generator=seeded()) is full


def test_mixtures_of_similar_samples_are_settled():
    case = gaussian(6)
    Q = case.directions(case.low_rank)
    pool, mixture = pool_without(case, 2), torch.nn.functional.normalize(Q[:, :1] + Q[:, 1:2], dim=0)
    mixed = Pool(
        torch.cat([pool.directions, mixture], dim=1),
        torch.cat([pool.zeros, torch.tensor([30])]),
        torch.cat([pool.unique, torch.tensor([False])]),
    )
    found = completed(mixed, case.target.forward, 2**10, generator=seeded())
    assert len(found) == 6
    assert bool(found.unique.all())


@pytest.mark.parametrize("seed", [5, *thorough(2)])
def test_samples_too_active_to_be_drawn_are_recovered(seed, dtype):
    """Of these batches one sample is active in two thirds of the units and hardly ever drawn."""
    case = photos(16, width=100, seed=seed, dtype=dtype)
    found = spear_core.invert(case.model, case.gradients, method="sampling", generator=seeded(seed))
    assert found.certified
    assert found.samples_drawn < 2**22


def test_after_the_deadline_no_cell_is_looked_into(monkeypatch):
    """Alike samples leave null vectors in very many cells, each of which takes a fit."""
    case = gaussian(4)
    pool = pool_without(case, 2)
    monkeypatch.setattr("spear_core.spear.completion.null_space", lambda *_: pytest.fail("looked"))
    assert completed(pool, case.target.forward, 2**14, generator=seeded(), deadline=0.0) is pool


def test_few_corners_are_looked_into_once_each(monkeypatch):
    """Three of 13 units meet in at most 286 corners, however many are drawn."""
    case, looked = gaussian(4, width=13), []

    def counted(low_rank, rows):
        looked.append(rows)
        return null_space(low_rank, rows)

    monkeypatch.setattr("spear_core.spear.completion.null_space", counted)
    completed(Pool.empty(4, torch.device("cpu")), case.target.forward, 2**13, generator=seeded())
    assert 0 < len(looked) <= 286
