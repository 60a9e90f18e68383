"""Sharpening a complete batch by the gradients of all layers."""

import pytest
import torch
from torch import Tensor, nn

from spear_core import client
from spear_core.attack.invert import states
from spear_core.certificate.sharpen import Client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.model.layers import read_problem
from spear_core.search import Budget, Target
from spear_core.study import metrics
from spear_core.tolerances import ALLOWED_ERROR
from tests.core.attacked import seeded, target_of
from tests.thorough import thorough

BLUR = {torch.float32: 1e-5, torch.float64: 1e-8}


def attacked(b: int, width: int, depth: int, seed: int, **options) -> tuple[Target, Tensor, Tensor]:
    """What `sharpen` takes, and the true coefficients of the batch in the place of recovered ones."""
    batch = data.load("photos", b, size=16, generator=seeded(seed), dtype=options.get("dtype", torch.float32))
    model = fully_connected(768, width, depth, generator=seeded(seed + 1), **options)
    target = target_of(read_problem(model, client.gradients(model, batch.inputs, batch.labels)))
    truth = torch.linalg.lstsq(target.low_rank.rows.T, batch.inputs.to(torch.float64).T).solution.T
    return target, truth, batch.labels


def sharpen(target: Target, coefficients: Tensor, labels: Tensor) -> Tensor:
    client = Client.of(target, labels, Budget())
    return client.settled(coefficients * client.scale)[0] / client.scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_sharpen_takes_most_of_an_error_away(activation, dtype):
    target, truth, labels = attacked(12, 100, 4, seed=0, activation=activation, dtype=dtype)
    noise = torch.randn(truth.shape, dtype=torch.float64, generator=seeded(2))
    blurred = truth + BLUR[dtype] * truth.norm(dim=1, keepdim=True) * noise
    sharp = sharpen(target, blurred, labels)
    assert float((sharp - truth).norm()) < 0.2 * float((blurred - truth).norm())


def test_sharpen_leaves_the_truth_where_it_is_and_survives_wrong_labels():
    target, truth, labels = attacked(4, 60, 3, seed=3)
    wrong = sharpen(target, truth, (labels + 1) % 10)
    assert wrong.isfinite().all()
    right = sharpen(target, truth, labels)
    assert float((right - truth).norm()) < 1e-5 * float(truth.norm())


def test_sharpen_leaves_the_model_alone_and_works_where_gradients_are_switched_off():
    target, truth, labels = attacked(4, 60, 3, seed=3, dtype=torch.float64)
    with torch.no_grad():
        sharp = sharpen(target, truth, labels)
    assert not sharp.requires_grad
    assert not any(layer.weight.requires_grad or layer.bias.requires_grad for layer in target.problem.layers)


@pytest.mark.parametrize(("b", "width", "depth", "seed"), [(20, 50, 5, 10), *thorough((50, 100, 6, 11))])
def test_what_sharpening_proves_is_no_nearer_to_the_truth_than_it_says(b, width, depth, seed):
    batch = data.load("photos", b, size=16, generator=seeded(seed))
    model = fully_connected(768, width, depth, generator=seeded(seed + 1))
    *_, state = states(read_problem(model, client.gradients(model, batch.inputs, batch.labels)))
    assert state.certified and state.reconstruction is not None and state.certificate is not None
    found = state.reconstruction.inputs
    off = torch.cdist(found, batch.inputs.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    # the error is that of random signs, which the true one exceeds in a few batches of a hundred; what is allowed
    # leaves room for that below what is exact, −90 dB
    room = 10 ** (-metrics.EXACT_DB / 20) / ALLOWED_ERROR
    assert bool((off / (768**0.5 * found.abs().max()) <= room * state.certificate.expected_error).all())


@pytest.mark.parametrize("gap", [1e-3, 1e-4])
def test_what_no_step_moves_is_not_called_known(gap):
    inputs = torch.randn(6, 40, dtype=torch.float64, generator=seeded(3))
    inputs[1] = inputs[0] + gap * torch.randn(40, dtype=torch.float64, generator=seeded(4))
    labels = torch.tensor([1, 1, 2, 3, 4, 5])
    model = fully_connected(40, 60, 3, generator=seeded(5), dtype=torch.float64)
    target = target_of(read_problem(model, client.gradients(model, inputs, labels)))
    known = Client.of(target, labels, Budget())
    truth = torch.linalg.lstsq(target.low_rank.rows.T, inputs.T).solution.T * known.scale
    off = 1e-6 * truth.norm(dim=1)
    left = known.left(truth, off, 1e-2 * float(off.min()))
    # how the first two mix changes no gradient to first order; the others come back
    assert bool((left[:2] > off[:2]).all()) and bool((left[2:] < 0.01 * off[2:]).all())
    late = Client.of(target, labels, Budget(deadline=0.0)).left(truth, off, 0.0)
    assert bool(late.isinf().all())
