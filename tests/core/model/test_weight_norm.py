"""Weight norm is undone without loss: the plain weights and their gradients are those that autograd gives."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from spear_core import invert
from spear_core.errors import UnknownLayer
from spear_core.model.weight_norm import without_weight_norm
from spear_core.study.metrics import compare
from tests.core.zoo import seeded

G, V = "0.parametrizations.weight.original0", "0.parametrizations.weight.original1"


def network(dtype=torch.float64, norms=((0, 0),), act=nn.ReLU):
    """64-100-100-10, the layers in `norms` with weight norm over all dimensions but one, or over all."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 100), act(), nn.Linear(100, 100), act(), nn.Linear(100, 10)).to(dtype)
    for place, dim in norms:
        parametrizations.weight_norm(model[place], dim=dim)
        with torch.no_grad():  # as after some training: ‖v‖ is not g, and g has either sign
            g, v = model[place].parametrizations.weight.parameters()
            v.mul_(torch.rand(v.shape[:1], generator=seeded(2), dtype=dtype)[:, None] + 0.5)
            g.mul_(1 - 2 * (torch.arange(g.numel()).view(g.shape) % 2))
    return model


def sent(model, x, y):
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return dict(zip(dict(model.named_parameters()), gradients, strict=True))


def batch(b=8, dtype=torch.float64):
    return torch.rand(b, 64, generator=seeded(0), dtype=dtype), torch.arange(b) % 10


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_the_gradient_of_the_plain_weight(dim, dtype, rounding):
    model, (x, y) = network(dtype, ((0, dim), (4, dim))), batch(dtype=dtype)
    plain, found = without_weight_norm(model, sent(model, x, y))
    assert {type(module) for module in plain} == {nn.Linear, nn.ReLU}
    torch.testing.assert_close(plain(x), model(x), rtol=rounding, atol=rounding)
    wanted = sent(plain, x, y)
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert found[name].dtype == dtype
        assert (found[name] - grad).norm() <= rounding * grad.norm(), name


def test_a_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.rand(2, 1, 8, 8, generator=seeded()), torch.arange(2)
    plain, found = without_weight_norm(model, sent(model, x, y))
    wanted = sent(plain, x, y)
    assert wanted["0.weight"].shape == (4, 1, 3, 3)
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad)


def test_the_model_is_left_alone():
    model, (x, y) = network(), batch()
    gradients, output = sent(model, x, y), model(x)
    names = list(gradients)
    without_weight_norm(model, gradients)
    assert list(gradients) == names == [name for name, _ in model.named_parameters()]
    assert parametrize.is_parametrized(model[0]) and torch.equal(model(x), output)


@pytest.mark.parametrize("missing", [G, V])
def test_where_a_gradient_is_missing_nothing_is_made_up(missing):
    model, (x, y) = network(), batch()
    gradients = sent(model, x, y) | {missing: None}
    assert without_weight_norm(model, gradients) == (model, gradients)
    with pytest.raises(UnknownLayer, match="layer '0' must have a weight of its own, got '_WeightNorm' of"):
        invert(model, gradients, layer="0")


def test_where_g_is_zero_nothing_is_made_up():
    model, (x, y) = network(), batch()
    with torch.no_grad():
        model[0].parametrizations.weight.original0[3] = 0
    gradients = sent(model, x, y)
    assert without_weight_norm(model, gradients) == (model, gradients)


def test_other_parametrizations_stay():
    model, (x, y) = network(norms=()), batch()
    parametrizations.spectral_norm(model[0])
    gradients = sent(model, x, y)
    assert without_weight_norm(model, gradients) == (model, gradients)
    with pytest.raises(UnknownLayer, match=r"'_SpectralNorm' of .* try layer='2'"):
        invert(model, gradients, layer="0")


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("norms", [((0, 0),), ((2, 0),), ((0, 0), (2, 1), (4, None))])
def test_batches_come_back_as_without_it(norms, act):
    model, (x, y) = network(torch.float32, norms, act), batch(dtype=torch.float32)
    gradients = sent(model, x, y)
    for given in (gradients, list(gradients.values())):
        found = invert(model, given)
        assert found.certified and compare(found.inputs, x).psnr.min() > 110
        assert sorted(found.labels.tolist()) == sorted(y.tolist())


@pytest.mark.parametrize("steps", [3])
@pytest.mark.parametrize("lr", [0.01, 0.5])
def test_steps_on_g_and_v_are_none_on_the_weight_and_nothing_is_certified(steps, lr):
    model, (x, y) = network(), batch()
    client = copy.deepcopy(model)
    optimiser = torch.optim.SGD(client.parameters(), lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(client(x), y).backward()
        optimiser.step()
    update = [old.detach() - new.detach() for old, new in zip(model.parameters(), client.parameters())]
    for options in ({}, {"local_steps": steps, "lr": lr}):
        found = invert(model, update, batch_size=8, time_limit=1, **options)
        assert not found.certified_rows.any()
