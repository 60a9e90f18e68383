"""Candidates with the client's knowledge, and the errors and savings of the filter, against counting."""

import numpy as np
import pytest
import torch

from spear_core.spear.sampling import live_rows
from spear_core.study.candidates import Candidates, draw_candidates, two_stages, zeros_in_order
from spear_widgets.kit.scene import Scene, scene


def candidates(stage: Scene, count: int) -> Candidates:
    generator = torch.Generator().manual_seed(0)
    return draw_candidates(stage.low_rank, stage.true_q, count, generator=generator)


@pytest.mark.parametrize(("name", "b"), [("photos", 2), ("photos", 5), ("digits", 4), ("breast_cancer", 3)])
def test_candidates_are_null_vectors_of_their_rows(name: str, b: int):
    stage = scene(name, b, 60)
    found = candidates(stage, 300)
    L = stage.low_rank.factor
    assert found.rows.shape == (len(found), b - 1)
    assert 250 < len(found) <= 300
    assert torch.allclose(found.directions.norm(dim=1), torch.ones(len(found), dtype=torch.float64))
    own = (L[found.rows] @ found.directions[:, :, None])[..., 0].abs()
    assert float(own.max()) < 1e-8
    assert found.zero.gather(1, found.rows).all()
    assert torch.allclose(found.entries, found.directions @ L.T)
    assert set(found.rows.flatten().tolist()) <= set(live_rows(L).tolist())


def test_what_counts_as_right_is_a_column_of_q():
    stage = scene("photos", 5)
    found = candidates(stage, 1000)
    alike = (found.directions @ stage.true_directions).abs()
    assert (alike.amax(dim=1)[found.right] > 1 - 1e-9).all()
    assert (alike.amax(dim=1)[~found.right] < 1 - 1e-12).all()  # between the two, it is blurred
    assert torch.equal(found.sample[found.right], alike.argmax(dim=1)[found.right])
    missing = (stage.preactivations <= 0).sum(dim=1)[found.sample[found.right]] - found.zeros[found.right]
    assert (missing >= 0).all()
    assert float((missing == 0).double().mean()) > 0.97  # the others come from ill-conditioned rows


def test_first_finds_by_hand():
    stage = scene("photos", 3, 60)
    found = candidates(stage, 100)
    for draws in (1, 7, 100):
        for sample, at in enumerate(found.first_finds(draws)):
            hits = [k + 1 for k in range(draws) if bool(found.right[k]) and int(found.sample[k]) == sample]
            assert at == (hits[0] if hits else None)


@pytest.mark.parametrize("tau", [0.05, 0.2, 0.33, 0.6])
def test_error_rates_by_counting(tau: float):
    found = candidates(scene("photos", 4, 100), 500)
    shares = torch.randint(30, 70, (400,), generator=torch.Generator().manual_seed(0)) / 100
    (rejected,), (accepted,) = found.errors(shares, [tau])
    zeros, right = found.zeros.tolist(), found.right.tolist()
    wrong = [z for z, ok in zip(zeros, right, strict=True) if not ok]
    assert float(accepted) == pytest.approx(np.mean([z >= round(100 * tau, 6) for z in wrong]))
    counted = np.mean([round(100 * s) < round(100 * tau, 6) for s in shares.tolist()])
    assert float(rejected) == pytest.approx(counted)


# ---------------------------------------------------------------- two stages
def test_two_stages_by_counting():
    stage = scene("photos", 5, 80)
    found = candidates(stage, 200)
    rows, zeros = 12, 3
    counts = zeros_in_order(found)
    assert counts.shape[0] == len(found)
    # after all rows, every zero but a candidate's own and those of silent units was counted
    live = (stage.preactivations > 0).any(dim=0)
    for k in range(0, len(found), 17):
        others = found.zero[k] & live
        others[found.rows[k]] = False
        assert int(counts[k, -1]) == int(others.sum())
    state = two_stages(found, rows, zeros)
    passes = counts[:, rows - 1] >= zeros
    assert state.passed == pytest.approx(float(passes[~found.right].double().mean()))
    assert state.lost == pytest.approx(float((~passes[found.right]).double().mean()))
    assert state.entries == pytest.approx(rows + float(passes.double().mean()) * 80)


@pytest.mark.parametrize(("rows", "zeros"), [(0, 0), (4, 5), (4, -1)])
def test_impossible_stages_are_refused(rows: int, zeros: int):
    stage = scene("photos", 5, 80)
    with pytest.raises(ValueError, match="zeros must be 0 to the number of rows"):
        two_stages(candidates(stage, 200), rows, zeros)
