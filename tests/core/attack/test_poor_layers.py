"""Layers that hardly tell samples apart end in a result or a typed error, never in one of linear algebra."""

from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.nn import functional as F

from spear_core import client, diagnose, invert
from spear_core.certificate.record import Claim
from spear_core.consistency.masked_least_squares import amplification, factorise
from spear_core.errors import InputError
from spear_core.linalg import orthonormal
from spear_core.spear.zeros import smallest_vectors
from spear_core.study.metrics import compare
from tests.core.zoo import seeded
from tests.thorough import thorough


def network(*sizes: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), act())]
    return nn.Sequential(*layers[:-1])


def test_four_rows_of_a_raw_table():
    torch.manual_seed(2)
    rows = torch.tensor(load_iris().data)[torch.randperm(150)[:4]]
    torch.manual_seed(2)
    model, y = network(4, 16, 16, 1).double(), torch.tensor([[0.0], [1.0], [0.0], [1.0]]).double()
    gradients = torch.autograd.grad(F.mse_loss(model(rows), y), list(model.parameters()))
    assert len(invert(model, gradients, time_limit=5).inputs)


@pytest.mark.parametrize("seed", range(4))
def test_layers_of_four_units(seed):
    torch.manual_seed(seed)
    model, x = network(64, 4, 4, 10), torch.rand(4, 64)
    try:
        assert not invert(model, client.gradients(model, x, torch.arange(4)), time_limit=1).certified
    except InputError as error:
        assert "rank saturated" in str(error)


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
def test_more_samples_than_the_next_layer_has_outputs(act):
    torch.manual_seed(0)
    model, x = network(64, 200, 3, act=act), torch.rand(8, 64)
    gradients = client.gradients(model, x, torch.arange(8) % 3)
    with pytest.raises(InputError, match="the next layer's gradient is of rank 2, below b = 8"):
        invert(model, gradients, method="consistency")
    found = diagnose(model, gradients)["0"]
    assert found.methods == (("sampling", "halfspace") if act is nn.ReLU else ())
    if act is nn.ReLU:
        assert invert(model, gradients).certified
    else:
        assert "is of rank 2, below b = 8: 3 outputs tell no more samples apart" in found.obstacle


@pytest.mark.parametrize("act", [nn.Hardtanh, nn.Hardsigmoid])
def test_hard_activations_are_inverted_where_some_units_saturate(act):
    torch.manual_seed(0)
    model, x = network(40, 100, 100, 10, act=act), 3 * torch.randn(6, 40)
    found = invert(model, client.gradients(model, x, torch.arange(6)))
    assert found.certified and bool(compare(found.inputs, x).exact.all())


@pytest.mark.parametrize(
    ("act", "scale"), [(nn.Hardsigmoid, 1.0), (nn.Tanh, 1e-3), *thorough((nn.ReLU, 1e-3))]
)
def test_samples_that_see_an_affine_network_are_mixtures_by_name(act, scale):
    torch.manual_seed(0)
    model, x = network(40, 100, 100, 10, act=act), scale * torch.randn(6, 40)
    found = invert(model, client.gradients(model, x, torch.arange(6)))
    assert not found.certified_rows.any() and "where every unit is affine" in str(found.notes)


def test_inputs_a_million_times_larger_come_back_and_their_scale_is_not_claimed():
    """Softmax is saturated then: a sample without a loss leaves nothing, and no loss objects to another scale."""
    torch.manual_seed(0)
    model, x = network(40, 100, 100, 10), 1e6 * torch.randn(4, 40)
    gradients = client.gradients(model, x, torch.arange(4))
    first = invert(model, gradients)
    assert len(first.inputs) >= 3 and set(first.claims) == {Claim.NOTHING}
    found = invert(model, gradients, batch_size=first.batch_size)
    off = torch.cdist(found.inputs, x, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    assert bool((off < 1e-5 * x.norm(dim=1).min()).all())
    assert not found.certified_rows.any() and "rests on the bias gradient alone" in str(found.notes)


def test_columns_that_are_small_beside_the_largest_are_named():
    """An update rounds all columns alike: those of a millionth are lost, and rows are exact all the same."""
    torch.manual_seed(0)
    model, x = network(40, 100, 100, 10), torch.rand(2, 40)
    x[:, 3:] *= 1e-6
    gradients = client.gradients(model, x, torch.arange(2))
    weights = dict(model.named_parameters())
    sent = {name: (weights[name] - (weights[name] - g)).detach() for name, g in gradients.items()}
    found = invert(model, sent)
    off = (found.inputs[:, None] - x).abs().amin(dim=0).amax(dim=0) / x.amax(dim=0)
    assert found.certified and bool((off[3:] > 0.01).any())
    assert "37 of 40 columns of the inputs are so small" in str(found.notes)
    assert not invert(model, client.gradients(model, torch.rand(2, 40), torch.arange(2))).notes


def test_equations_that_say_nothing_leave_the_error_open():
    inner, outer = (orthonormal(torch.randn(8, 3, generator=seeded(), dtype=torch.float64)) for _ in "ab")
    size, _ = amplification(factorise(inner, outer, torch.zeros(8, 2, dtype=torch.float64)))
    assert not (size < 1e100).any()


def test_directions_of_dead_rows_are_finite():
    start = torch.eye(3, dtype=torch.float64)[:, :1]
    vectors, values = smallest_vectors(torch.zeros(1, 3, 3, dtype=torch.float64), start, seeded())
    assert vectors.isfinite().all() and not values.any()
