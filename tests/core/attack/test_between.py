"""What stands between in real networks: dropout, LayerNorm, RMSNorm, spectral norm, BatchNorm without its buffers.

The result is right and says what a row is, or the layer is refused by name; nothing else is certified.
"""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from spear_core import diagnose, invert
from spear_core.errors import InputError
from spear_core.study.metrics import compare
from tests.core.zoo import seeded

N, WIDTH, CLASSES, B = 64, 200, 10, 8


class Between(nn.Module):
    """Three linear layers, with something in front of the first one."""

    def __init__(self, front: nn.Module, n: int = N, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.front, self.fc = front, nn.Linear(n, WIDTH)
        self.rest = nn.Sequential(act(), nn.Linear(WIDTH, WIDTH), act(), nn.Linear(WIDTH, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.fc(self.front(x)))


class Function(nn.Module):
    """A front part that is no module of its own."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, self.training)


def attacked(make, shape=(N,), seed=1, layer="fc"):
    """A model as the server has it, what one step's gradient is, what the layer took, and the inputs."""
    torch.manual_seed(seed)
    server = make().train()
    client = copy.deepcopy(server)
    x, y = torch.rand(B, *shape, generator=seeded(0)), torch.arange(B) % CLASSES
    taken = []
    client.get_submodule(layer).register_forward_hook(lambda _, inputs, __: taken.append(inputs[0].detach()))
    grads = torch.autograd.grad(F.cross_entropy(client(x), y), list(client.parameters()))
    return server, dict(zip(dict(client.named_parameters()), grads)), taken[0], x, client


def said(found, words):
    return any(words in note for note in found.notes)


def assert_rows(found, rows):
    assert found.certified and len(found.inputs) == len(rows)
    assert compare(found.inputs, rows).psnr.min() > 110


DROPOUTS = {
    "module": lambda: nn.Dropout(0.3),
    "function": lambda: Function(lambda x, training: F.dropout(x, 0.3, training=training)),
    "after an activation": lambda: nn.Sequential(nn.Linear(N, N), nn.Tanh(), nn.Dropout(0.3)),
    "not right before": lambda: nn.Sequential(nn.Dropout(0.3), nn.Conv1d(1, 1, 1)),
}


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("kind", DROPOUTS)
def test_rows_behind_dropout_carry_its_mask_and_say_so(kind, act):
    shape = (1, N) if kind == "not right before" else (N,)
    front = (lambda: nn.Sequential(*DROPOUTS[kind](), nn.Flatten())) if len(shape) > 1 else DROPOUTS[kind]
    model, sent, rows, x, _ = attacked(lambda: Between(front(), act=act), shape)
    for options in ({}, {"batch_size": B}):
        found = invert(model, sent, layer="fc", **options)
        assert_rows(found, rows.flatten(1))
        assert any(
            "inputs of layer 'fc', not of the network, after" in note and "ropout in train mode" in note
            for note in found.notes
        )
    if kind == "module":
        kept = rows != 0
        assert 0.2 < 1 - kept.float().mean() < 0.4
        torch.testing.assert_close(rows[kept], x[kept] / 0.7)
    behind = invert(model, sent, layer="fc", input_shape=shape)
    assert behind.network_inputs is None and said(behind, "Network inputs are not sought")


def test_dropout_over_channels():
    def make():
        front = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten())
        return Between(front, 8 * 64)

    model, sent, rows, _, _ = attacked(make, (1, 8, 8))
    found = invert(model, sent)
    assert_rows(found, rows)
    assert said(found, "after Dropout2d in train mode")


@pytest.mark.parametrize("front", [lambda: nn.Dropout(0.0), lambda: nn.Dropout(0.3).eval()])
def test_dropout_that_drops_nothing_is_not_spoken_of(front):
    torch.manual_seed(1)
    model = Between(front())
    x, y = torch.rand(B, N, generator=seeded(0)), torch.arange(B) % CLASSES
    sent = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    found = invert(model, sent)
    assert_rows(found, x)
    assert not said(found, "ropout")


def behind(act: type[nn.Module], *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(N, WIDTH), *between, act(), nn.Linear(WIDTH, WIDTH), act(), nn.Linear(WIDTH, CLASSES)
    )


def with_dropout(act: type[nn.Module]) -> nn.Sequential:
    layers = list(behind(act))
    return nn.Sequential(*layers[:2], nn.Dropout(0.3), *layers[2:])


def test_dropout_behind_relu_leaves_most_rows_right_and_all_uncertified():
    model, sent, _, x, _ = attacked(lambda: with_dropout(nn.ReLU), layer="0")
    for options in ({}, {"batch_size": B}):
        found = invert(model, sent, **options)
        assert compare(found.inputs, x).psnr.median() > 110 and not found.certified_rows.any()
        assert said(found, "Dropout in train mode after layer '0'")
    assert diagnose(model, sent)["0"].follows == "ReLU → Dropout in train mode"


def test_dropout_behind_another_activation_is_refused_by_name():
    model, sent, _, _, _ = attacked(lambda: with_dropout(nn.GELU), layer="0")
    with pytest.raises(InputError, match=r"\(GELU → Dropout in train mode follows\); try layer='3'"):
        invert(model, sent)


NORMS = {
    "LayerNorm": (lambda: nn.LayerNorm(N), "without each one's mean and size", N - 2),
    "RMSNorm": (lambda: nn.RMSNorm(N), "without each one's size", N - 1),
    "layer_norm": (
        lambda: Function(lambda x, _: F.layer_norm(x, (N,))),
        "without each one's mean and size",
        N - 2,
    ),
}


@pytest.mark.parametrize("kind", NORMS)
def test_rows_behind_a_norm_are_normalised_and_their_inputs_never_proven(kind):
    front, words, rank = NORMS[kind]
    model, sent, rows, _, _ = attacked(lambda: Between(front()))
    found = invert(model, sent, input_shape=(N,))
    assert_rows(found, rows)
    assert said(found, f"not of the network, after {kind}: {words}")
    assert not found.network_inputs_certified.any()
    told = f"not known whether network inputs can be exact: of the 64 numbers of a random input, {rank} clearly reach"
    assert said(found, told)
    assert told in str(diagnose(model, sent, input_shape=(N,)).bound)


BEHIND = {
    "LayerNorm": lambda: [nn.ReLU(), nn.Flatten(), nn.LayerNorm(16 * 64)],
    "GroupNorm": lambda: [nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten()],
}


@pytest.mark.parametrize("kind", BEHIND)
def test_a_norm_behind_convolutions_takes_little_and_pictures_can_be_proven(kind):
    def make():
        return Between(nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *BEHIND[kind]()), 16 * 64)

    model, sent, rows, x, _ = attacked(make, (1, 8, 8))
    found = invert(model, sent, input_shape=(1, 8, 8))
    assert_rows(found, rows)
    proven = found.network_inputs_certified
    assert proven.any() and (proven.all() or kind == "GroupNorm")  # whose search gets stuck more often
    assert compare(found.network_inputs[proven].flatten(1), x.flatten(1)).exact.sum() == proven.sum()


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_norm_right_behind_the_layer_is_refused_by_name(norm):
    model, sent, _, _, _ = attacked(lambda: behind(nn.ReLU, norm(WIDTH)), layer="0")
    with pytest.raises(InputError, match=rf"\({norm.__name__} follows\); try layer='3'"):
        invert(model, sent)


def test_spectral_norm_is_refused_by_name_and_elsewhere_in_no_way():
    def make(place):
        model = behind(nn.ReLU)
        parametrizations.spectral_norm(model[place])
        return model

    model, sent, _, _, _ = attacked(lambda: make(0), layer="0")
    with pytest.raises(InputError, match=r"layer '0' must have a weight of its own, got '_SpectralNorm' of"):
        invert(model, sent, layer="0")
    model, sent, _, x, _ = attacked(lambda: make(2), layer="0")
    assert_rows(invert(model, sent, batch_size=B), x)


def test_pictures_behind_spectral_norm_are_proven_with_its_own_buffers_only():
    def make():
        conv = parametrizations.spectral_norm(nn.Conv2d(1, 8, 3, padding=1))
        return Between(nn.Sequential(conv, nn.ReLU(), nn.Flatten()), 8 * 64)

    model, sent, rows, x, client = attacked(make, (1, 8, 8))
    found = invert(model, sent, input_shape=(1, 8, 8))
    assert found.network_inputs_certified.all()
    assert compare(found.network_inputs.flatten(1), x.flatten(1)).exact.all()
    # those of the client moved on in its step, and would move once more
    moved = invert(client, sent, input_shape=(1, 8, 8))
    assert_rows(moved, rows)
    assert not moved.network_inputs_certified.any() and said(moved, "miss the front part's gradients")


NO_BUFFERS = {
    "with a bias": (
        lambda: nn.Linear(N, WIDTH),
        nn.BatchNorm1d(WIDTH),
        "buffers=; without, it is not attacked",
    ),
    "without a bias": (lambda: nn.Linear(N, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), "else pass buffers="),
    "without statistics": (
        lambda: nn.Linear(N, WIDTH),
        nn.BatchNorm1d(WIDTH, track_running_stats=False),
        "without, it is not attacked",
    ),
}


@pytest.mark.parametrize("kind", NO_BUFFERS)
def test_batch_norm_without_buffers_is_refused_and_told_what_would_do(kind):
    linear, norm, words = NO_BUFFERS[kind]
    model, sent, _, _, _ = attacked(
        lambda: nn.Sequential(linear(), norm, *list(behind(nn.ReLU))[1:]), layer="0"
    )
    with pytest.raises(InputError, match=f"{words}.*try layer='3'"):
        invert(model, sent)
    rows = invert(model, sent, layer="3")  # a later layer's inputs come back, and say whose they are
    assert rows.certified and said(rows, "inputs of layer '3', not of the network")


def test_batch_norm_behind_convolutions():
    def make():
        front = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        return Between(front, 8 * 64)

    model, sent, rows, _, _ = attacked(make, (1, 8, 8))
    found = invert(model, sent, input_shape=(1, 8, 8))
    assert_rows(found, rows)
    assert found.network_inputs is None and said(found, "is a BatchNorm or Dropout in train mode?")
    # as if it had been in eval mode: the features hold, no picture does
    other = invert(copy.deepcopy(model).eval(), sent, input_shape=(1, 8, 8))
    assert_rows(other, rows)
    assert not other.network_inputs_certified.any()
