"""Draws measured against draws predicted, and both against counting."""

import itertools
import math

import pytest
import torch

from spear_core.spear.zeros import null_space
from spear_core.study import collecting, metrics, theory
from spear_widgets.kit.scene import scene


def random_grads(b: int, m: int, seed: int = 0) -> torch.Tensor:
    """Generic numbers with half of them zero, shape (b, m)."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(b, m, generator=generator, dtype=torch.float64)
    return values * (torch.rand(b, m, generator=generator) < 0.5)


def test_live_columns_leave_out_silent_units_and_keep_zeros():
    D = random_grads(3, 40)
    D[:, 7] = 0
    rows = collecting.live_columns(D)
    alive = (D != 0).any(dim=0)
    assert rows.shape == (int(alive.sum()), 3)
    assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows), dtype=torch.float64))
    assert torch.equal(rows == 0, (D[:, alive] == 0).T)


def test_random_sets_are_uniform_and_without_repetition():
    sets = collecting.random_sets(60_000, 2, 5, generator=torch.Generator().manual_seed(0))
    pairs = sets.sort(dim=1).values
    assert bool((pairs[:, 0] != pairs[:, 1]).all())
    counts = torch.bincount(pairs[:, 0] * 5 + pairs[:, 1])
    shares = counts[counts > 0] / len(sets)
    assert len(shares) == 10
    assert float((shares - 0.1).abs().max()) < 0.007  # five standard deviations


@pytest.mark.parametrize(("b", "m"), [(2, 9), (3, 10), (4, 12)])
def test_hit_probabilities_against_all_sets(b: int, m: int):
    D = random_grads(b, m, seed=b)
    rows = collecting.live_columns(D)
    counts = torch.zeros(b)
    sets = list(itertools.combinations(range(len(rows)), b - 1))
    for chosen in sets:
        part = rows[list(chosen)]
        if torch.linalg.matrix_rank(part) == b - 1:
            counts += (part == 0).all(dim=0)
    wanted = (counts / len(sets)).tolist()
    found = collecting.hit_probabilities(D, sets=4000, generator=torch.Generator().manual_seed(0))
    assert found == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("b", [2, 4, 7])
def test_mean_of_first_hits_is_what_theory_expects(b: int):
    D = random_grads(b, 120)
    generator = torch.Generator().manual_seed(1)
    taken = collecting.first_hits(D, 800, generator=generator)
    assert taken.shape == (800, b)
    assert int(taken.min()) >= 1
    assert bool((taken.sort(dim=1).values.diff(dim=1) > 0).all()), "a draw gives one direction at most"
    draws = taken.max(dim=1).values.double()
    expected = theory.expected_draws_each(collecting.hit_probabilities(D, sets=4000, generator=generator))
    assert abs(float(draws.mean()) - expected) < 4.5 * float(draws.std()) / math.sqrt(len(draws))
    for share in (0.2, 0.5, 0.8):  # not the mean only: the whole distribution
        at = float(draws.quantile(share))
        low, high = metrics.share_interval(int((draws <= at).sum()), len(draws), 1 - 1e-6)
        hits = collecting.hit_probabilities(D, sets=4000, generator=generator)
        assert low - 0.05 < collecting.completed(at, hits) < high + 0.05


def test_a_hit_is_a_null_vector_of_the_rows_of_L():
    stage = scene("photos", 4, 100)
    silent = stage.output_grads == 0
    live = (~silent.all(dim=0)).nonzero().flatten()
    for i in range(4):
        own = live[silent[i, live]][:30]
        kernel = null_space(stage.low_rank, torch.isin(torch.arange(100), own))
        assert kernel.shape[1] == 1
        q = stage.true_q[:, i] / stage.true_q[:, i].norm()
        assert abs(float(kernel[:, 0] @ q)) > 1 - 1e-6


def test_twins_are_never_told_apart():
    D = random_grads(3, 60)
    twins = torch.cat([D[:1], D])
    hits = collecting.hit_probabilities(twins, generator=torch.Generator().manual_seed(0))
    assert hits[:2] == [0.0, 0.0]
    assert len(collecting.first_hits(twins, 1, generator=torch.Generator().manual_seed(0), limit=50_000)) == 0


def test_too_few_zeros_for_any_draw():
    D = random_grads(5, 40)
    D[2] = 1.0
    assert collecting.hit_probabilities(D, generator=torch.Generator().manual_seed(0))[2] == 0.0


def test_full_rank_probability_by_listing_all_patterns():
    for b in (2, 3, 4):
        rows = [row for row in itertools.product((0.0, 1.0), repeat=b - 1) if any(row)]
        patterns = torch.tensor(list(itertools.product(rows, repeat=b - 1)), dtype=torch.float64)
        values = torch.randn(patterns.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        wanted = float((torch.linalg.matrix_rank(patterns * values) == b - 1).double().mean())
        low, high = metrics.share_interval(round(wanted * collecting.COINS), collecting.COINS, 1 - 1e-6)
        assert low <= collecting.full_rank_probability(b) <= high
    assert collecting.full_rank_probability(20) > 0.99


@pytest.mark.parametrize("b", [3, 6])
def test_the_range_holds_most_batches_and_tends_to_the_limit(b: int):
    low, high = collecting.predicted_range(b, 200)
    generator = torch.Generator().manual_seed(2)
    inside = 0
    for seed in range(40):
        hits = collecting.hit_probabilities(random_grads(b, 200, 100 + seed), generator=generator)
        inside += low <= theory.expected_draws_each(hits) <= high
    assert inside >= 33
    widths = [collecting.predicted_range(b, m) for m in (100, 1000, 10_000)]
    spreads = [high / low for low, high in widths]
    assert spreads == sorted(spreads, reverse=True)


def test_exact_and_asymptotic_failure_agree_in_a_wide_layer():
    draws = 3 * theory.expected_draws(12)
    wide = collecting.coin_failure(12, draws, 20_000, 0.2)
    assert wide == pytest.approx(theory.failure_probability(12, int(draws)), abs=0.02)
    narrow = collecting.coin_failure(12, draws, 100, 0.2)
    assert narrow > 2 * wide


def test_failure_has_its_limits():
    assert collecting.coin_failure(4, 0, 100, 0.0) == 1
    assert collecting.coin_failure(4, 1e9, 100, 0.0) == pytest.approx(0, abs=1e-9)
    rejected = theory.false_rejection(100, 0.45)
    assert collecting.coin_failure(4, 1e9, 100, 0.45) == pytest.approx(1 - (1 - rejected) ** 4, abs=0.1)
