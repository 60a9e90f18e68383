"""Inputs that are affinely but not linearly independent come back exactly: the bias counts as one more input."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import client, diagnose, invert, invert_layer
from spear_core.attack.augmented import augmented
from spear_core.certificate.record import Claim
from spear_core.client.networks import fully_connected
from spear_core.model.layers import read_problem
from spear_core.search import Splits
from spear_core.spear.low_rank import split
from spear_core.study.metrics import compare
from tests.core.attacked import gaussian
from tests.core.zoo import seeded

DTYPES = (torch.float32, torch.float64)


def network(n: int, dtype: torch.dtype, width: int = 200, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(n)
    layers = [nn.Linear(n, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 10)]
    return nn.Sequential(*layers).to(dtype)


def pixels(b: int, n: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = seeded(seed)
    return torch.rand(b, n, generator=generator, dtype=dtype), torch.arange(b) % 10


def assert_all_exact(inversion, x: Tensor) -> None:
    assert inversion.certified, inversion
    assert inversion.batch_size == len(x) and inversion.inputs.shape == x.shape
    assert compare(inversion.inputs, x).psnr.min() > 110


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("b", [2, 8, 13, 30])
def test_as_many_samples_as_inputs(b, dtype):
    model, (x, y) = network(b, dtype), pixels(b, b, dtype)
    gradients = client.gradients(model, x, y)
    assert_all_exact(invert(model, gradients), x)
    assert diagnose(model, gradients)["0"].methods == ("sampling", "halfspace", "consistency")[b > 20 :]


@pytest.mark.parametrize("b", [7, 8, 9])
def test_one_sample_more_or_less_than_inputs(b):
    x, y = pixels(b, 8, torch.float32)
    model = fully_connected(8, [200, 200], 3, 5, generator=seeded(2))
    assert_all_exact(invert(model, client.gradients(model, x, y % 5)), x)


def test_one_layer_alone_gives_as_many_samples_as_inputs():
    model, (x, y) = network(8, torch.float32), pixels(8, 8, torch.float32)
    sent, layer = client.gradients(model, x := x - 0.5, y), model[0]
    seen = sent["0.weight"], sent["0.bias"], layer.weight, layer.bias
    assert_all_exact(invert_layer(*seen, batch_size=8), x)
    alone = invert_layer(*seen)  # of one layer, each of the eight may be a mean of several
    assert compare(alone.inputs, x).psnr.min() > 110 and alone.claims == (Claim.MEAN,) * 8


SPECIAL = {
    "a sample that is all zero": lambda x: x * (torch.arange(len(x)) != 3)[:, None],
    "rows with mean zero": lambda x: x - x.mean(dim=0),
    "one sample between two others": lambda x: torch.cat([x[:-1], x[:2].mean(dim=0, keepdim=True)]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "act"),
    [*((kind, nn.ReLU) for kind in SPECIAL), *((kind, nn.GELU) for kind in list(SPECIAL)[:2])],
)
def test_linearly_dependent_inputs(kind, act, dtype):
    model, (x, y) = network(64, dtype, act=act), pixels(8, 64, dtype)
    x = SPECIAL[kind](x)
    assert_all_exact(invert(model, client.gradients(model, x, y)), x)


def test_a_given_batch_size_counts_the_sample_that_is_all_zero():
    model, (x, y) = network(64, torch.float32), pixels(8, 64, torch.float32)
    x[3] = 0
    assert_all_exact(invert(model, client.gradients(model, x, y), batch_size=8), x)


def test_batch_norm_first():
    """In train mode it leaves rows with mean zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 100), nn.ReLU(), nn.Linear(100, 5)).train()
    x, y = pixels(4, 20, torch.float32)
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    assert_all_exact(invert(model, gradients), F.batch_norm(x, None, None, training=True))


def test_tokens_behind_layer_norm():
    model, (x, y) = network(16, torch.float32), pixels(16, 16, torch.float32)
    x = F.layer_norm(x, (16,))
    assert_all_exact(invert(model, client.gradients(model, x, y)), x)


@pytest.mark.parametrize("b", [1, 4, 8])
def test_independent_inputs_are_attacked_as_ever(b):
    case = gaussian(b)
    splits, low_rank = Splits(case.problem), case.low_rank
    assert augmented(splits, low_rank, None, seeded()) == (splits, low_rank)


def test_a_batch_larger_than_the_input_is_attacked_as_ever():
    model, (x, y) = network(8, torch.float64), pixels(20, 8, torch.float64)
    splits = Splits(read_problem(model, client.gradients(model, x, y)))
    low_rank = split(splits.problem.attacked.weight_grad)
    assert augmented(splits, low_rank, None, seeded()) == (splits, low_rank)


def test_what_is_attacked_then_gives_the_same_outputs():
    """W̃ (x, t) = W x + β, and the last column of what is found is t."""
    model, (x, y) = network(64, torch.float64), pixels(4, 64, torch.float64)
    x[1] = 0
    problem = read_problem(model, client.gradients(model, x, y))
    splits, low_rank = augmented(
        Splits(problem), split(problem.attacked.weight_grad, generator=seeded()), None, seeded()
    )
    layer, wider = problem.attacked, splits.problem.attacked
    t = float(wider.weight_grad[0, -1] / layer.bias_grad[0])
    assert t == 2.0 ** round(torch.log2(torch.tensor(t)).item()) and low_rank.batch_size == 4
    constant = torch.full_like(x[:, :1], t)
    assert torch.allclose(torch.cat([x, constant], dim=1) @ wider.weight.T, x @ layer.weight.T + layer.bias)
    assert not wider.bias.any() and torch.equal(wider.weight_grad[:, :-1], layer.weight_grad)
    assert compare(invert(model, client.gradients(model, x, y)).inputs, x).psnr.min() > 200
