"""Certificate (d): the replay against autograd of the real model."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spear_core import client
from spear_core.certificate.replay import replay
from spear_core.client.networks import fully_connected
from spear_core.model.layers import read_problem
from tests.core.attacked import gaussian, target_of
from tests.core.zoo import ResidualMLP, batch, randomise, seeded
from tests.thorough import thorough


def truth(model, inputs, labels, loss=F.cross_entropy):
    """Z and ∂L/∂Z of the first layer by autograd."""
    z = model[0](inputs)
    (output_grads,) = torch.autograd.grad(loss(model[1:](z), labels), z)
    return z.detach().double(), output_grads.double()


def network(seed=0, depth=4, activation=nn.ReLU, dtype=torch.float64, classes=10):
    return fully_connected(30, 60, depth, classes, activation=activation, generator=seeded(seed), dtype=dtype)


@given(b=st.integers(1, 12), depth=st.integers(2, 6), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_replay_is_autograd_of_the_model(b, depth, seed):
    model, (X, y) = network(seed, depth), batch(seed, b, 30)
    gradients = client.gradients(model, X, y)
    z, output_grads = truth(model, X, y)
    played = replay(target_of(read_problem(model, gradients)), z)
    assert played.loss.labels.tolist() == y.tolist()
    torch.testing.assert_close(played.output_grads, output_grads, rtol=0, atol=1e-9)
    assert played.residual < 1e-7


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.LeakyReLU])
def test_replay_of_other_activations(activation, dtype, device):
    model = network(activation=activation, dtype=dtype).to(device)
    X, y = (t.to(device) for t in batch(1, 6, 30, dtype))
    z, output_grads = truth(model, X, y)
    played = replay(target_of(read_problem(model, client.gradients(model, X, y))), z)
    error = float((played.output_grads - output_grads).norm() / output_grads.norm())
    assert error < 1e4 * torch.finfo(dtype).eps
    assert played.loss.labels.tolist() == y.tolist()


@pytest.mark.parametrize("factor", [0.5, 6.0, -1.0])
def test_a_common_factor_of_either_sign_keeps_labels_and_residual(factor):
    model, (X, y) = network(), batch(2, 6, 30)
    gradients = {name: factor * grad for name, grad in client.gradients(model, X, y).items()}
    z, output_grads = truth(model, X, y)
    played = replay(target_of(read_problem(model, gradients)), z)
    assert played.loss.labels.tolist() == y.tolist()
    torch.testing.assert_close(played.output_grads, factor * output_grads, rtol=0, atol=1e-9)


def test_a_loss_without_classes_is_replayed_without_labels():
    model, (X, _) = network(classes=3), batch(3, 6, 30)
    targets = torch.randn(6, 3, generator=seeded(), dtype=torch.float64)
    gradients = client.gradients(model, X, targets, F.mse_loss)
    z, output_grads = truth(model, X, targets, F.mse_loss)
    played = replay(target_of(read_problem(model, gradients)), z)
    assert played.loss.labels is None
    torch.testing.assert_close(played.output_grads, output_grads, rtol=0, atol=1e-9)
    assert played.residual < 1e-7


@pytest.mark.parametrize("smoothing", [0.01, 0.1, 0.5])
def test_label_smoothing_is_replayed_with_its_labels(smoothing, dtype):
    def loss(output, labels):
        return F.cross_entropy(output, labels, label_smoothing=smoothing)

    model, (X, y) = network(dtype=dtype), batch(2, 6, 30, dtype)
    z, output_grads = truth(model, X, y, loss)
    played = replay(target_of(read_problem(model, client.gradients(model, X, y, loss))), z)
    assert played.loss.labels.tolist() == y.tolist()
    error = float((played.output_grads - output_grads).norm() / output_grads.norm())
    assert max(error, played.residual) < 1e4 * torch.finfo(dtype).eps


def soft(output, labels):
    targets = torch.full_like(output, 0.01).scatter(1, labels[:, None], 0.8)
    targets[:, 0] += 1 - targets.sum(dim=1)
    return F.cross_entropy(output, targets)


def weighted(output, labels):
    return F.cross_entropy(output, labels, torch.linspace(0.5, 2, output.shape[1], dtype=output.dtype))


@pytest.mark.parametrize("loss", [soft, weighted, F.multi_margin_loss])
def test_other_losses_are_replayed_with_what_the_output_layer_tells(loss):
    model, (X, y) = network(), batch(2, 6, 30)
    z, output_grads = truth(model, X, y, loss)
    played = replay(target_of(read_problem(model, client.gradients(model, X, y, loss))), z)
    torch.testing.assert_close(played.output_grads, output_grads, rtol=0, atol=1e-9)
    assert played.residual < 1e-7


@pytest.mark.parametrize("b", [12, *thorough(500)])
@pytest.mark.parametrize(
    "added", [(1,), (1, 2), (0,), (0, 0), (0, 1), ()], ids=lambda added: f"and {added} more labels"
)
def test_copies_of_one_sample_are_told_with_their_labels(b, added, dtype):
    """Labels of the copies, as steps from the sample's own: only copies of one label weigh as several samples."""
    model = fully_connected(400, 600, 4, generator=seeded(), dtype=dtype)
    X, y = batch(2, b, 400, dtype)
    more = torch.tensor([(int(y[3]) + step) % 10 for step in added], dtype=y.dtype)
    sent = client.gradients(model, torch.cat([X, X[3:4].expand(len(added), -1)]), torch.cat([y, more]))
    loss = replay(
        target_of(read_problem(model, sent)), copy.deepcopy(model).double()[0](X.double()).detach()
    ).loss
    labels = sorted([int(y[3]), *more.tolist()])
    differ = len(set(labels)) > 1
    assert loss.copies == ({3: tuple(labels)} if differ else {})
    assert loss.labels.tolist() == [
        -1 if differ and row == 3 else label for row, label in enumerate(y.tolist())
    ]
    assert loss.plural.nonzero().flatten().tolist() == ([3] if len(set(labels)) < len(labels) else [])
    assert loss.uneven == (len(added) > 0 and not differ)
    # a loss that is fitted is no witness
    assert loss.named.tolist() == [not added or (differ and row != 3) for row in range(b)]


@pytest.mark.parametrize("layer", [2, 4])
@pytest.mark.parametrize("active", [True, False])
def test_a_unit_that_rounding_put_on_the_other_side_of_its_kink_is_turned_over(layer, active):
    model, (X, y) = network(dtype=torch.float32), batch(4, 6, 30, torch.float32)
    exact = copy.deepcopy(model).double()
    z = exact[: layer + 1](X.double())[3, 7].detach()
    kink = exact[layer].bias[7].detach() - z  # the bias with which unit 7 of sample 3 is at zero
    below = torch.nextafter(kink.float(), torch.tensor(-torch.inf))
    above = torch.nextafter(kink.float(), torch.tensor(torch.inf))
    with torch.no_grad():
        exact[layer].bias[7], model[layer].bias[7] = (above, below) if active else (below, above)
    sent = {name: grad.float() for name, grad in client.gradients(exact, X.double(), y).items()}
    problem, first = read_problem(model, sent), exact[0](X.double()).detach()
    assert replay(target_of(problem), first).residual < 1e-6
    moved = first + 1e-4 * torch.randn(first.shape, generator=seeded(), dtype=first.dtype)
    assert replay(target_of(problem), moved).residual > 1e-5


def test_a_wrong_batch_and_a_wrong_layer_show():
    case = gaussian(6)
    z, _ = truth(case.model, case.inputs, case.labels)
    assert replay(case.target, z).residual < 1e-7
    assert (
        replay(case.target, z + 0.01 * torch.randn(z.shape, generator=seeded(), dtype=z.dtype)).residual
        > 1e-4
    )
    for name in ("2.weight", "6.bias", "10.weight"):
        spoilt = dict(case.gradients)
        spoilt[name] = spoilt[name] + 1e-3 * spoilt[name].norm()
        assert replay(target_of(read_problem(case.model, spoilt)), z).residual > 1e-4


def test_where_the_chain_says_nothing_there_is_no_replay():
    X, y = batch(0, 5, 12)
    residual = randomise(ResidualMLP())
    gradients = client.gradients(residual, X, y)
    problem = read_problem(residual, gradients)
    assert problem.branches
    assert replay(target_of(problem), torch.zeros(5, len(problem.attacked.bias), dtype=torch.float64)) is None
    model, (X, y) = fully_connected(30, [60, 4], 3, generator=seeded(), dtype=torch.float64), batch(0, 6, 30)
    z, _ = truth(model, X, y)  # 6 samples, and the output layer has 4 inputs and a bias
    assert replay(target_of(read_problem(model, client.gradients(model, X, y))), z) is None
    assert replay(target_of(read_problem(model, client.gradients(model, X[:5], y[:5]))), z[:5]) is not None
