"""One hidden layer: what the output layer says about ∂L/∂Z, against naive versions."""

import pytest
import torch

from spear_core import client, invert
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.halfspace import readout
from spear_core.halfspace.alternation import scoring_space
from spear_core.linalg import orthonormal
from spear_core.model.layers import read_problem
from spear_core.search import Budget
from spear_core.spear.low_rank import split
from tests.core.attacked import target_of
from tests.core.zoo import seeded


def attacked(b: int = 12, m: int = 200, depth: int = 2, seed: int = 0):
    batch = data.load("photos", b, size=16, generator=seeded(seed))
    model = fully_connected(768, m, depth, generator=seeded(seed + 1))
    return model, client.gradients(model, batch.inputs, batch.labels), batch


def test_errors_behind_the_hidden_layer_make_the_gradient():
    model, gradients, batch = attacked()
    V = readout.readout(target_of(read_problem(model, gradients)))
    assert V is not None and V.shape[1] < 10  # the errors of cross-entropy add up to zero
    output = model(batch.inputs)
    errors = output.softmax(dim=1) - torch.nn.functional.one_hot(batch.labels, 10)
    wanted = (errors @ model[-1].weight).T.detach()
    left = wanted - V @ torch.linalg.lstsq(V, wanted).solution
    assert left.norm() < 1e-4 * wanted.norm()


def test_deeper_networks_have_no_readout():
    assert readout.readout(target_of(read_problem(*attacked(depth=3)[:2]))) is None


def test_the_fit_of_a_pattern_is_the_smallest_singular_vector():
    L, V = (torch.linalg.qr(torch.randn(60, k, generator=seeded(k)))[0] for k in (8, 3))
    active = (torch.randn(60, 4, generator=seeded()) > 0).float()
    crossed = (L[:, :, None] * V[:, None, :]).reshape(60, -1)
    squared = (V[:, :, None] * V[:, None, :]).reshape(60, -1)
    q, t, left = readout._for_patterns(active, crossed, squared)
    for k in range(4):
        signal = active[:, k, None] * V
        basis = torch.linalg.qr(signal)[0]
        smallest = torch.linalg.svdvals(basis - L @ (L.T @ basis))[-1]
        assert torch.isclose(left[k], smallest**2, atol=1e-4)
        fitted = signal @ t[:, k]
        assert torch.allclose(L @ q[:, k], L @ (L.T @ fitted), atol=1e-4)
        assert torch.isclose((fitted - L @ q[:, k]).norm() / fitted.norm(), smallest, atol=1e-3)


def test_walkers_arrive_at_samples():
    model, gradients, batch = attacked()
    problem = read_problem(model, gradients)
    low_rank = split(problem.attacked.weight_grad)
    target = target_of(problem, low_rank)
    space = orthonormal(scoring_space(target.forward)).float()
    V = readout.readout(target)
    assert V is not None
    start = space @ torch.randn(space.shape[1], 60, generator=seeded())
    q = readout.arrived(low_rank.factor.float(), space, V, start, Budget(seeded()))
    true = torch.linalg.inv(torch.linalg.lstsq(low_rank.rows.T, batch.inputs.double().T).solution.T)
    cosine = ((true / true.norm(dim=0)).T @ q.double()).abs()
    assert q.shape[1] >= 50 and cosine.max(dim=0).values.quantile(0.1) > 1 - 1e-5
    assert len(cosine.argmax(dim=0).unique()) >= 6


@pytest.mark.parametrize("seed", range(3))
def test_batches_at_one_hidden_layer_come_back(seed: int):
    model, gradients, _ = attacked(40, 400, seed=10 + seed)
    found = invert(model, gradients)
    assert found.certified and found.method == "halfspace"


def test_a_batch_with_a_unit_on_the_wrong_side_of_its_kink_is_sharpened():
    model, gradients, _ = attacked(40, 200, seed=20)
    assert invert(model, gradients).certified


def test_a_readout_that_says_nothing_is_dropped(monkeypatch):
    model, gradients, _ = attacked(6)
    wrong = torch.randn(200, 9, generator=seeded())
    monkeypatch.setattr(readout, "readout", lambda target: wrong)
    assert invert(model, gradients).certified
