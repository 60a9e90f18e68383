"""Noise on every entry: the estimate is as good as it says it is, and never called exact."""

import pytest
import torch

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.consistency import noisy
from spear_core.model.layers import read_problem
from spear_core.search import Budget, State
from spear_core.spear.low_rank import split
from spear_core.study import metrics
from tests.core.attacked import target_of
from tests.core.zoo import seeded
from tests.thorough import thorough


def sent(relative, *, clip=None, seed=0, b=6):
    batch = data.load("photos", b, size=16, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], 200, 4, generator=seeded(100 + seed))
    if clip is None:
        gradients = client.gradients(model, batch.inputs, batch.labels)
    else:
        gradients = client.clipped(model, batch.inputs, batch.labels, norm=clip)
    return model, client.noised(gradients, relative, generator=seeded(200 + seed)), batch


@pytest.mark.parametrize(("relative", "decibel"), [(1e-3, 70), (1e-1, 30), *thorough((1e-2, 50))])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_noisy_gradients_are_estimated_and_not_certified(relative, decibel, clip):
    model, gradients, batch = sent(relative, clip=clip)
    found = spear_core.invert(model, gradients, batch_size=6)
    assert metrics.compare(found.inputs, batch.inputs).psnr.median() > decibel
    assert not found.certified_rows.any()
    assert any("expected error" in note for note in found.notes)


def test_the_expected_error_is_of_the_right_size():
    ratios = []
    for seed in range(6):
        model, gradients, batch = sent(1e-2, seed=seed)
        problem = read_problem(model, gradients)
        low_rank = split(problem.attacked.weight_grad, 6)
        assert noisy.is_noisy(problem, low_rank)
        target = target_of(problem, low_rank)
        *_, state = noisy.search(target, State.beginning(low_rank), Budget(seeded()))
        assert state.reconstruction is not None and state.certificate is not None
        inputs = state.reconstruction.inputs
        order = metrics.compare(inputs, batch.inputs).order
        matched = order >= 0
        error = (inputs[order[matched]] - batch.inputs[matched]).square().mean(
            dim=1
        ).sqrt() / inputs.abs().max()
        ratios.append(error / state.certificate.expected_error[order[matched]])
    assert 0.5 < float(torch.cat(ratios).median()) < 2


def test_rounding_is_not_noise():
    model, gradients, _ = sent(0.0)
    problem = read_problem(model, gradients)
    assert not noisy.is_noisy(problem, split(problem.attacked.weight_grad, 6))
    assert spear_core.invert(model, gradients, batch_size=6).certified


@pytest.mark.parametrize("relative", [1e-4, 1e-2, *thorough(1e-5, 1e-3)])
def test_no_certified_row_is_wrong_over_four_decades(relative):
    for seed in range(2):
        model, gradients, batch = sent(relative, seed=seed)
        found = spear_core.invert(model, gradients, batch_size=6, time_limit=2)
        score = metrics.compare(found.inputs, batch.inputs)
        exact = torch.zeros(len(found.inputs), dtype=torch.bool)
        exact[score.order[score.exact]] = True
        assert not (found.certified_rows & ~exact).any()
