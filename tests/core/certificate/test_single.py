"""Proven rows that are means of several samples, and scales that nobody confirms."""

import pytest
import torch
from torch.nn import functional as F

from spear_core import client, invert, invert_layer
from spear_core.certificate.record import Claim
from spear_core.client import data
from spear_core.study.metrics import EXACT_DB, compare
from tests.core.zoo import network, seeded
from tests.thorough import thorough


def exact_rows(found, truth):
    """Which rows are a sample."""
    rows = torch.zeros(len(found.inputs), dtype=torch.bool)
    score = compare(found.inputs, truth)
    rows[score.order[score.exact]] = True
    return rows


# ---------------------------------------------------------------- one row, several samples
def test_collinear_errors_of_one_pattern_are_a_mean_and_said_to_be_one(dtype):
    x = data.load("wine", 4, standardize=False, generator=seeded(0)).inputs.to(dtype)
    model = network(13, 16, 1, dtype=dtype)
    sent = client.gradients(model, x, torch.tensor([[0.0], [1.0], [0.0], [1.0]]).to(dtype), loss=F.mse_loss)
    found = invert(model, sent)
    assert found.batch_size < 4  # two of the four activate the same units
    assert not bool(found.certified_rows.any())


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_pictures_with_one_gradient(outputs):
    """x₁ and x₂, or their mean twice: the same gradient in every layer, to the last digits."""
    model = network(24, 40, 30, outputs)
    for layer in (model[0], model[2]):  # no input moves a unit across its kink
        layer.bias.data = 100 * layer.bias.data.sign()
    pair = torch.rand(2, 24, dtype=torch.float64, generator=seeded(1))
    mean = pair.mean(dim=0, keepdim=True).repeat(2, 1)

    def loss(output, _):  # linear: all errors of the output are equal
        return output.sum()

    labels = torch.zeros(2, dtype=torch.int64)
    one, other = (client.gradients(model, batch, labels, loss=loss) for batch in (pair, mean))
    assert all(torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-12) for name in one)
    found = invert(model, one)
    assert found.claims == (Claim.MEAN,) and compare(found.inputs, mean[:1]).psnr.min() > EXACT_DB
    assert "batch_size" in " ".join(found.notes)


@pytest.mark.parametrize("eps", [1e-2, *thorough(1e-3, 3e-2)])
@pytest.mark.parametrize("seed", [0, 1, *thorough(2, 3)])
def test_no_mixture_of_alike_samples_is_certified(eps, seed, dtype):
    generator = seeded(seed)
    x = torch.rand(1, 16, generator=generator) + eps * torch.randn(2 + seed % 3, 16, generator=generator)
    model = network(16, 64, *(64,) * (seed % 2), 10, dtype=dtype, seed=seed)
    sent = client.gradients(model, x.to(dtype), torch.arange(len(x)))
    found = invert(model, sent, max_samples=400)
    assert bool(exact_rows(found, x)[found.certified_rows].all())


def test_a_single_float32_row_is_one_sample_only_if_b_says_so():
    model = network(16, 64, 10, dtype=torch.float32)
    x = torch.rand(1, 16, generator=seeded(0))
    twins = torch.cat([x, x + 1e-4 * torch.randn(1, 16, generator=seeded(1))])
    for batch in (x, twins):
        sent = client.gradients(model, batch, torch.zeros(len(batch), dtype=torch.int64))
        assert invert(model, sent).claims == (Claim.MEAN,)
    sent = client.gradients(model, x, torch.tensor([3]))
    assert invert(model, sent, batch_size=1).claims == (Claim.SAMPLE,)


def test_errors_of_a_saturated_softmax_are_collinear():
    """All samples are taken for one class, and none is of it: δ = e_wrong − e_label."""
    model = network(16, 64, 10)
    with torch.no_grad():
        model[2].bias[7] += 60
    x = torch.rand(3, 16, dtype=torch.float64, generator=seeded(0))
    found = invert(model, client.gradients(model, x, torch.tensor([1, 2, 3])))
    assert Claim.SAMPLE not in found.claims


def test_one_layer_alone_is_certified_where_b_is_known():
    model = network(16, 64, 10)
    x = torch.randn(4, 16, dtype=torch.float64, generator=seeded(0))
    layer = model[0]
    sent = client.gradients(model, x, torch.arange(4))
    seen = sent["0.weight"], sent["0.bias"], layer.weight, layer.bias
    for b, claim in ((None, Claim.MEAN), (4, Claim.SAMPLE)):
        found = invert_layer(*seen, batch_size=b)
        assert compare(found.inputs, x).psnr.min() > EXACT_DB
        assert found.claims == (claim,) * 4 and found.certified == (b == 4)
        assert any("rests on the bias gradient alone" in note for note in found.notes)


# ---------------------------------------------------------------- the scale
@pytest.mark.parametrize(
    ("zero_biases", "factor"),
    [(True, 2), (True, 0.5), (True, 1.37), *thorough((False, 2), (False, 0.5), (False, 1.37))],
)
def test_a_factor_on_all_bias_gradients_is_found_and_named(factor, zero_biases, dtype):
    model = network(64, 200, 10, zero_biases=zero_biases, dtype=dtype)
    x = torch.rand(8, 64, dtype=dtype, generator=seeded(0))
    sent = client.gradients(model, x, torch.arange(8))
    found = invert(model, {name: g * (factor if g.ndim == 1 else 1) for name, g in sent.items()})
    assert found.certified and compare(found.inputs, x).psnr.min() > EXACT_DB
    assert any(f"bias gradients are {factor:g} times" in note for note in found.notes)


@pytest.mark.parametrize("factor", [1, 2])
def test_without_biases_and_with_an_unknown_loss_nobody_confirms_the_scale(factor):
    model = network(64, 200, 10, zero_biases=True)
    x = torch.rand(8, 64, dtype=torch.float64, generator=seeded(0))
    sent = client.gradients(model, x, torch.rand(8, 10, dtype=torch.float64), loss=F.mse_loss)
    sent = {name: g * (factor if g.ndim == 1 else 1) for name, g in sent.items()}
    found = invert(model, sent, batch_size=8)
    assert compare(factor * found.inputs, x).psnr.min() > EXACT_DB
    assert found.claims == (Claim.NOTHING,) * 8
    assert any("rests on the bias gradient alone" in note for note in found.notes)


def test_through_a_bottleneck_all_errors_are_collinear():
    """One active unit in a layer, and ∂L/∂z of all samples are multiples of one vector, whatever the loss."""
    model = network(16, 40, 2, 10)
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([5.0, -50.0]))
    x = torch.rand(1, 16, dtype=torch.float64, generator=seeded(0))
    x = x + 1e-3 * torch.randn(2, 16, dtype=torch.float64, generator=seeded(1))
    found = invert(model, client.gradients(model, x, torch.tensor([2, 2])))
    assert Claim.SAMPLE not in found.claims


def test_patterns_without_a_way_back_prove_nothing():
    model = network(16, 40, 30, 10)
    with torch.no_grad():
        model[2].bias[1:] = -50  # all but one unit are silent
    x = torch.rand(6, 16, dtype=torch.float64, generator=seeded(0))
    found = invert(model, client.gradients(model, x, torch.arange(6)), max_samples=200)
    assert bool(exact_rows(found, x)[found.certified_rows].all())


def test_inputs_that_are_multiples_of_each_other_leave_a_bias_gradient_that_tells_no_scale():
    """Two samples of one pixel, of other brightness: of layer 1 they are one row, of its bias gradient two."""
    model = network(30, 80, 80, 10, zero_biases=True)
    x = torch.eye(30, dtype=torch.float64)[:6] * torch.rand(6, 1, dtype=torch.float64, generator=seeded(0))
    x = torch.cat([x, 3 * x[:1]])
    target = torch.rand(7, 10, dtype=torch.float64, generator=seeded(1))
    found = invert(model, client.gradients(model, x, target, loss=F.mse_loss), max_samples=300)
    assert found.claims.count(Claim.NOTHING) == len(found.claims) or bool(exact_rows(found, x).all())
