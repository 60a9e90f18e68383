"""The honest client against `loss.backward()`."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spear_core.client.messages import gradients
from tests.core.zoo import SmallCNN, batch, mlp, seeded


def by_backward(model, inputs, targets, loss=F.cross_entropy):
    """The naive way; restores `.grad`."""
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    loss(model(inputs), targets).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = before[name]
    return {name: grad for name, grad in found.items() if grad is not None}


def assert_same(found, naive):
    assert list(found) == list(naive)
    for name in naive:
        torch.testing.assert_close(found[name], naive[name])


def test_a_fully_connected_network(dtype, device):
    model = mlp(dtype=dtype).to(device)
    inputs, labels = (tensor.to(device) for tensor in batch(dtype=dtype))
    found = gradients(model, inputs, labels)
    assert_same(found, by_backward(model, inputs, labels))
    assert all(grad.dtype == dtype and grad.device.type == device.type for grad in found.values())
    assert not any(grad.requires_grad for grad in found.values())


def test_a_convolutional_network_and_another_loss():
    model = SmallCNN()
    inputs = torch.randn(3, 1, 8, 8, generator=seeded())
    targets = torch.randn(model(inputs).shape, generator=seeded())
    assert_same(
        gradients(model, inputs, targets, F.mse_loss), by_backward(model, inputs, targets, F.mse_loss)
    )


def test_a_loss_of_ones_own():
    def loss(output, targets):
        return (output.square().sum(dim=1) * targets).sum()

    model, (inputs, labels) = mlp(), batch()
    assert_same(gradients(model, inputs, labels, loss), by_backward(model, inputs, labels, loss))


def test_frozen_and_unreached_parameters_are_left_out():
    model, (inputs, labels) = mlp(), batch()
    model[2].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    found = gradients(model, inputs, labels)
    assert "2.weight" not in found
    assert "unused" not in found
    assert_same(found, by_backward(model, inputs, labels))


def test_the_gradient_of_a_batch_is_the_mean_of_its_samples():
    model, (inputs, labels) = mlp(), batch()
    whole = gradients(model, inputs, labels)
    single = [gradients(model, inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))]
    for name, grad in whole.items():
        torch.testing.assert_close(grad, torch.stack([one[name] for one in single]).mean(dim=0))


@pytest.mark.parametrize("grad", [None, 7.0])
def test_the_model_is_left_as_it_is(grad):
    model, (inputs, labels) = mlp(), batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if grad is not None:
        model[0].bias.grad = torch.full_like(model[0].bias, grad)
    gradients(model, inputs, labels)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    kept = model[0].bias.grad
    assert kept is None if grad is None else bool((kept == grad).all())
    assert model[0].weight.grad is None
