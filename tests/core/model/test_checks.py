"""Bad tensors are refused before any work, with what must be and what was given."""

import pytest
import torch

from spear_core import client
from spear_core.errors import InputError, InputTypeError, MissingGradient
from spear_core.model.checks import check_layer, check_one_device
from tests.core.zoo import batch, mlp, seeded

MODEL = mlp()
GRADIENTS = client.gradients(MODEL, *batch())
LAYER = {
    "weight_grad": GRADIENTS["0.weight"],
    "bias_grad": GRADIENTS["0.bias"],
    "weight": MODEL[0].weight,
    "bias": MODEL[0].bias,
}


def test_a_layer_shares_memory_with_what_was_given():
    layer = check_layer(**LAYER | {"bias": LAYER["bias"].detach().numpy()})
    assert layer.weight.data_ptr() == MODEL[0].weight.data_ptr() and not layer.weight.requires_grad
    assert layer.weight_grad.data_ptr() == GRADIENTS["0.weight"].data_ptr()
    assert layer.bias.data_ptr() == MODEL[0].bias.data_ptr()
    assert layer.has_relu


def changed(name, change):
    return LAYER | {name: change(LAYER[name].detach().clone())}


def with_entries(value, count):
    def change(tensor):
        tensor.view(-1)[:count] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("layer", "error", "match"),
    [
        (
            changed("weight_grad", lambda g: g.T),
            InputError,
            r"of shape \(40, 12\).*got \(12, 40\): transposed",
        ),
        (changed("weight", lambda g: g.T), InputError, r"weight_grad must be of shape \(12, 40\)"),
        (changed("weight_grad", lambda g: g[:, :5]), InputError, r"got \(40, 5\)"),
        (changed("weight_grad", lambda g: g[0]), InputError, r"got \(12,\)"),
        (
            changed("bias_grad", lambda g: g[:7]),
            InputError,
            r"bias_grad must be of shape \(40,\).*got \(7,\)",
        ),
        (changed("bias", lambda g: g[None]), InputError, r"bias must be of shape \(40,\).*got \(1, 40\)"),
        (changed("weight", lambda g: g[..., None]), InputError, r"weight must be a matrix \(m, n\)"),
        (changed("weight", lambda g: g[:0]), InputError, r"weight must be a matrix .* got shape \(0, 12\)"),
        (
            changed("weight_grad", with_entries(torch.nan, 3)),
            InputError,
            "weight_grad must be finite, got 3 NaN",
        ),
        (
            changed("bias", with_entries(torch.inf, 2)),
            InputError,
            "bias must be finite, got 0 NaN and 2 infinite",
        ),
        (changed("weight", lambda g: g.long()), InputTypeError, "weight must hold floating-point numbers"),
        (
            changed("bias", lambda g: g.tolist()),
            InputTypeError,
            "bias must be a tensor or an array, got list",
        ),
        (changed("bias", lambda g: None), InputTypeError, "bias must be a tensor or an array, got NoneType"),
        (changed("weight_grad", lambda g: g * 1e-300), InputError, "between 1e-140 and 1e[+]140, got .*e-30"),
        (changed("weight_grad", lambda g: g * 1e200), InputError, "multiply all gradients by one factor"),
        (changed("weight_grad", torch.zeros_like), MissingGradient, "all zero: no samples"),
        (
            changed("bias_grad", torch.zeros_like),
            InputError,
            "bias gradient is zero: BatchNorm in train mode",
        ),
        (
            changed("bias_grad", lambda g: 1e-16 * torch.randn(g.shape, generator=seeded(), dtype=g.dtype)),
            InputError,
            r"bias gradient is zero: BatchNorm in train mode right after .*; or the errors of all samples cancel",
        ),
        (
            LAYER
            | {
                "weight_grad": 2.0**-149 * torch.randint(9, (40, 12), generator=seeded()).float(),
                "bias_grad": torch.zeros(40),
            },
            InputError,
            "underflow",
        ),
    ],
)
def test_bad_layers_are_refused(layer, error, match):
    with pytest.raises(error, match=match):
        check_layer(**layer)


def test_tensors_on_two_devices_are_refused(monkeypatch):
    layer = check_layer(**LAYER)

    class Elsewhere:
        device = torch.device("cuda:0")

    with pytest.raises(InputError, match="one device, got weight_grad on cpu, bias on cuda:0"):
        check_one_device({"weight_grad": layer.weight_grad, "bias": Elsewhere()})


@pytest.mark.parametrize("scale", [1e6, 1e9])
def test_a_bias_gradient_that_is_small_beside_huge_inputs_is_none_the_less_one(scale):
    x, y = batch(dtype=torch.float32)
    model = mlp(dtype=torch.float32)
    sent = client.gradients(model, scale * x, y)
    layer = check_layer(sent["0.weight"], sent["0.bias"], model[0].weight, model[0].bias)
    assert float(layer.bias_grad.abs().max()) < 1e-4 * float(layer.weight_grad.abs().max())
