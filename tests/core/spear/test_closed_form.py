"""One sample comes back from any layer with a bias, whatever follows, and what it proves is said."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import diagnose, invert, invert_layer
from spear_core.certificate.record import Claim
from spear_core.errors import InputError, MissingGradient
from tests.core.zoo import seeded
from tests.thorough import thorough

N, M, CLASSES = 12, 40, 5
ACTIVATIONS = (
    *(nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU),
    *(nn.ELU, nn.Softplus, nn.Hardtanh, nn.Hardsigmoid, nn.Mish, nn.SELU),
)
BEHIND = {
    "one layer": lambda act: [act(), nn.Linear(M, CLASSES)],
    "two layers": lambda act: [act(), nn.Linear(M, M), act(), nn.Linear(M, CLASSES)],
    "softmax": lambda act: [nn.Softmax(dim=1), nn.Linear(M, CLASSES)],
    "GLU": lambda act: [nn.GLU(), nn.Linear(M // 2, CLASSES)],
    "LayerNorm": lambda act: [nn.LayerNorm(M), act(), nn.Linear(M, CLASSES)],
    "one output": lambda act: [act(), nn.Linear(M, 1)],
    "nothing": lambda act: [],
}


def sent(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    output = model(x)
    loss = F.mse_loss(output[:, 0], y.to(x.dtype)) if output.shape[1] == 1 else F.cross_entropy(output, y)
    return torch.autograd.grad(loss, list(model.parameters()))


def one(dtype: torch.dtype = torch.float32, b: int = 1) -> tuple[Tensor, Tensor]:
    return torch.randn(b, N, generator=seeded(3), dtype=dtype), torch.arange(3, 3 + b)


@pytest.mark.parametrize("dtype", [torch.float32, *thorough(torch.float64)])
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_one_sample_needs_nothing_of_what_follows(act, behind, dtype):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(N, M), *BEHIND[behind](act)).to(dtype), one(dtype)
    gradients = sent(model, x, y)
    inversion = invert(model, gradients)
    assert inversion.batch_size == len(inversion.inputs) == 1 and inversion.method == "closed form"
    rounding = 16 * torch.finfo(dtype).eps
    assert (
        torch.allclose(inversion.inputs, x, rtol=0, atol=rounding) and inversion.gradient_residual < rounding
    )
    assert inversion.labels is None or inversion.labels.tolist() == y.tolist()
    assert invert(model, gradients, batch_size=1).certified


def test_the_output_layer_alone_names_the_label():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Flatten(), nn.Linear(N, CLASSES)), one()
    for sign in (1, -1):
        inversion = invert(model, [sign * g for g in sent(model, x, y)])
        assert inversion.labels is not None and inversion.labels.tolist() == [3]


def test_the_gradient_of_the_last_layer_is_enough_for_one_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(N, M), nn.ReLU(), nn.Linear(M, CLASSES))
    for b in (1, 2):
        x, y = one(b=b)
        gradients = dict(zip(("0.weight", "0.bias", "2.weight", "2.bias"), sent(model, x, y)))
        last = {name: g for name, g in gradients.items() if name.startswith("2")}
        if b == 1:
            assert torch.allclose(invert(model, last).inputs, torch.relu(model[0](x)), atol=1e-6)
            assert diagnose(model, last)["2"].methods == ("closed form",)
        else:
            with pytest.raises(MissingGradient, match="must include a layer before the output layer '2'"):
                invert(model, last)


def test_a_layer_without_its_model_need_not_have_relu_behind_it():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(N, M), nn.GELU(), nn.Linear(M, CLASSES)), one()
    G, g, *_ = sent(model, x, y)
    inversion = invert_layer(G, g, model[0].weight, model[0].bias)
    assert torch.allclose(inversion.inputs, x, atol=1e-6) and inversion.gradient_residual < 1e-6
    assert "zeros disagree: not ReLU follows" in inversion.notes


@pytest.mark.parametrize("outputs", [1, 2])
def test_of_one_output_any_batch_looks_like_one_sample_and_is_not_certified(outputs):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(N, outputs)).double(), one(torch.float64, 4)
    z = model(x)
    loss = F.cross_entropy(z, y % 2) if outputs == 2 else F.mse_loss(z[:, 0], y.double())
    (delta,) = torch.autograd.grad(loss, z, retain_graph=True)
    inversion = invert(model, torch.autograd.grad(loss, list(model.parameters())))
    mean = (delta[:, :1] * x).sum(dim=0) / delta[:, 0].sum()
    assert torch.allclose(inversion.inputs, mean[None])
    # of one output, G is one row: nothing in it tells noise from rounding
    claim, note = {
        1: (Claim.NOTHING, "one row of the gradient"),
        2: (Claim.MEAN, "weighted mean of several"),
    }[outputs]
    assert inversion.claims == (claim,) and any(note in said for said in inversion.notes)


def test_a_method_that_is_named_is_refused_as_ever():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(N, M), nn.GELU(), nn.Linear(M, CLASSES))
    with pytest.raises(InputError, match="it needs the zeros of ReLU"):
        invert(model, sent(model, *one()), method="halfspace")


def test_noise_in_a_row_that_outweighs_all_others_is_seen():
    """The spectrum shows the noise of the others only."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(N, 400)).double(), one(torch.float64)[0]
    exact = sent(model, x, torch.tensor([7]))
    assert invert(model, exact, batch_size=1).certified
    rounded = invert(model, [g.half().double() for g in exact], batch_size=1)
    assert not rounded.certified and (rounded.inputs - x).abs().max() > 1e-4


def test_signs_of_a_sample_s_gradient_are_not_certified():
    """Adam's first step on one sample is of rank 1, and so are the signs of its gradient: of x they leave x > 0."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(N, M), nn.ReLU(), nn.Linear(M, M, bias=False), nn.ReLU(), nn.Linear(M, CLASSES)
    )
    step = [grad.sign() for grad in sent(model, *one())]
    inversion = invert(model, step, batch_size=1)
    assert inversion.claims == (Claim.NOTHING,)
    assert any("of one size, as signs are" in note for note in inversion.notes)
