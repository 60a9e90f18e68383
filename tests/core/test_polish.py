"""Polishing a complete batch by the gradients of all layers."""

import pytest
import torch
from torch import nn

from spear_core import client, data, low_rank, tracing
from spear_core.networks import fully_connected
from spear_core.polish import polish
from spear_core.reconstruction import Forward
from tests.core.attacked import seeded

BLUR = {torch.float32: 1e-5, torch.float64: 1e-8}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_polish_takes_most_of_an_error_away(activation, dtype):
    batch = data.load("photos", 12, size=16, generator=seeded(0), dtype=dtype)
    model = fully_connected(768, 100, 4, activation=activation, generator=seeded(1), dtype=dtype)
    problem = tracing.read_problem(model, client.gradients(model, batch.inputs, batch.labels))
    split = low_rank.split(problem.attacked.weight_grad)
    truth = torch.linalg.lstsq(split.rows.T, batch.inputs.to(torch.float64).T).solution.T
    noise = torch.randn(truth.shape, dtype=torch.float64, generator=seeded(2))
    blurred = truth + BLUR[dtype] * truth.norm(dim=1, keepdim=True) * noise
    sharp = polish(problem, Forward.of(split, problem.attacked), blurred, batch.labels)
    assert float((sharp - truth).norm()) < 0.2 * float((blurred - truth).norm())


def test_polish_leaves_the_truth_where_it_is_and_survives_wrong_labels():
    batch = data.load("photos", 4, size=16, generator=seeded(3))
    model = fully_connected(768, 60, 3, generator=seeded(4))
    problem = tracing.read_problem(model, client.gradients(model, batch.inputs, batch.labels))
    split = low_rank.split(problem.attacked.weight_grad)
    truth = torch.linalg.lstsq(split.rows.T, batch.inputs.to(torch.float64).T).solution.T
    wrong = polish(problem, Forward.of(split, problem.attacked), truth, (batch.labels + 1) % 10)
    assert wrong.isfinite().all()
    right = polish(problem, Forward.of(split, problem.attacked), truth, batch.labels)
    assert float((right - truth).norm()) < 1e-5 * float(truth.norm())
