"""Pictures behind convolutions: exact and certified where the equations suffice, and nowhere else."""

import pytest
import torch
from torch import Tensor, nn

import spear_core
from spear_core import client
from spear_core.errors import InputError
from spear_core.front.descent import steepness
from spear_core.front.part import front_of, linearised
from spear_core.front.proof import jacobian, prove
from spear_core.front.search import rounding_limit
from spear_core.model.reading import choose, read
from tests.thorough import thorough

SHAPE, B = (1, 8, 8), 3
LIMIT = rounding_limit(torch.float32)


class Residual(nn.Module):
    """A convolution beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.conv(x))


def network(*front: nn.Module, shape=SHAPE, width: int = 64, seed: int = 0) -> nn.Module:
    """A front part, a flattening and two linear layers, with weights of a seed."""
    before = nn.Sequential(*front, nn.Flatten())
    features = before.eval()(torch.zeros(1, *shape)).shape[1]
    model = nn.Sequential(*before, nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 10))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = module.weight[0].numel() ** -0.5
                for parameter in module.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
    return model


def batch(b: int = B, shape=SHAPE, seed: int = 1, dtype=torch.float32) -> Tensor:
    return torch.randn(b, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inverted(model: nn.Module, inputs: Tensor, **options):
    labels = torch.arange(len(inputs)) % 10
    sent = client.gradients(model, inputs, labels)
    options = {"input_shape": tuple(inputs.shape[1:]), **options}
    return spear_core.invert(model, sent, batch_size=len(inputs), **options)


def front_before(model: nn.Module, inputs: Tensor, layer: str | None = None):
    reading = read(model, client.gradients(model, inputs, torch.arange(len(inputs))))
    return front_of(reading, choose(reading, layer)[0], tuple(inputs.shape[1:]), inputs)


def exact(inversion, inputs: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Which of the network's inputs that were found are in the batch."""
    found = inversion.network_inputs.to(inputs.dtype)
    distance = (found[:, None] - inputs[None]).flatten(2).abs().amax(dim=2).min(dim=1).values
    return distance <= tolerance * inputs.abs().max()


FRONTS = {
    "max-pool": lambda: [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
    "two convolutions": lambda: [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 96, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ],
    "residual": lambda: [
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        Residual(24),
        nn.MaxPool2d(2, ceil_mode=True),
    ],
    "BatchNorm in eval mode": lambda: [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()],
    "GELU": lambda: [nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.AvgPool2d(2)],
    "average pool": lambda: [nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)],
    "no front part": lambda: [],
    "a convolution alone": lambda: [nn.Conv2d(1, 4, 3, padding=1)],
}


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("seed", [1, *thorough(2, 3, 4)])
def test_pictures_come_back_certified(name, seed):
    model, inputs = network(*FRONTS[name](), seed=seed), batch(seed=seed)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inversion = inverted(model, inputs)
    assert inversion.network_inputs_certified.all(), inversion
    assert f"{B} of {B} pictures {SHAPE}, certified" in repr(inversion)
    assert exact(inversion, inputs).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_rows_and_pictures_belong_together_and_float64_is_kept():
    model, inputs = network(*FRONTS["max-pool"]()).double(), batch(dtype=torch.float64)
    inversion = inverted(model, inputs)
    assert inversion.network_inputs.dtype == torch.float64 and inversion.network_inputs_certified.all()
    assert torch.allclose(model[:4](inversion.network_inputs), inversion.inputs, atol=1e-9)
    assert exact(inversion, inputs, 1e-9).all()


def test_the_same_call_gives_the_same_result():
    model, inputs = network(*FRONTS["two convolutions"]()), batch()
    first, second = (inverted(model, inputs, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.network_inputs, second.network_inputs)


POOR = {
    "few channels": lambda: [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
    "stride": lambda: [nn.Conv2d(1, 16, 3, stride=4), nn.ReLU()],
    "heavy pooling": lambda: [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)],
    "bottleneck": lambda: [nn.Conv2d(1, 8, 4, stride=4), nn.Conv2d(8, 64, 1), nn.ReLU()],
    "a part unseen": lambda: [nn.Conv2d(1, 32, 3, stride=5), nn.ReLU()],
    "even": lambda: [nn.Conv2d(1, 16, 3, padding=1, bias=False), Absolute(), nn.AvgPool2d(2)],
    "position lost": lambda: [
        nn.Conv2d(1, 256, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    ],
}


class Absolute(nn.Module):
    """What x and −x have in common."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


FEW = [("few channels", 1), ("even", 1)]
ALL = [(name, seed) for name in POOR for seed in range(1, 7)]


@pytest.mark.parametrize(("name", "seed"), [*FEW, *thorough(*(case for case in ALL if case not in FEW))])
def test_nothing_is_certified_where_information_is_lost(name, seed):
    inversion = inverted(network(*POOR[name](), seed=seed), batch(seed=seed))
    assert inversion.certified or name == "position lost", "the features come back, unless they are alike"
    if inversion.network_inputs is None:  # too few numbers pass, which counting says before the search
        assert any("network inputs" in note and "numbers" in note for note in inversion.notes)
    else:
        assert not inversion.network_inputs_certified.any()
        assert any("network inputs are not proven" in note for note in inversion.notes)


@pytest.mark.parametrize("name", POOR)
def test_not_even_the_truth_is_proven_where_others_fit_as_well(name):
    """Whatever a search finds: of the truth itself, nothing tells that it is the only one."""
    model, inputs = network(*POOR[name]()), batch()
    front = front_before(model, inputs)
    target = front.features(inputs.double())
    for x, y in zip(inputs.double(), target):
        assert prove(front, y, x, LIMIT, torch.Generator()).missing


class Uneven(nn.Module):
    """Far too many numbers for most of the picture, and just enough for its first row."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.rest = nn.Linear(8, 8), nn.Linear(56, 224)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return torch.cat([(self.row(x[:, :8]) - 1).abs(), torch.relu(self.rest(x[:, 8:]))], dim=1)


def test_spare_equations_of_one_part_do_not_serve_another():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(Uneven(), nn.Linear(232, 64), nn.ReLU(), nn.Linear(64, 10))
    inputs = batch()
    front = front_before(model, inputs, "1")
    x = inputs[0].double()
    proof = prove(front, front.features(x[None])[0], x, LIMIT, torch.Generator())
    assert "without an equation to spare" in proof.missing


def test_ties_of_pools_are_no_equations():
    """Flat areas: which of four equal numbers won is nobody's to say."""
    model, inputs = network(*FRONTS["max-pool"]()), batch()
    front, flat = front_before(model, inputs), torch.ones(SHAPE, dtype=torch.float64)
    proof = prove(front, front.features(flat[None])[0], flat, LIMIT, torch.Generator())
    assert "at their kinks" in proof.missing


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(20))
def test_what_is_certified_is_exact(seed):
    generator = torch.Generator().manual_seed(seed)
    channels, kernel, pool = (
        int(torch.randint(low, high, (), generator=generator)) for low, high in ((3, 20), (2, 5), (1, 4))
    )
    front = [nn.Conv2d(1, channels, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(pool)]
    inputs = batch(seed=seed)
    inputs[0] = (inputs[0] * 3).round().clamp(0, 1)  # flat areas, and so ties of pools
    inversion = inverted(network(*front, seed=seed), inputs)
    if inversion.network_inputs is not None:
        assert exact(inversion, inputs)[inversion.network_inputs_certified].all()


def test_a_front_part_in_another_mode_is_named():
    model, inputs = network(*FRONTS["BatchNorm in eval mode"]()), batch()
    sent = client.gradients(model, inputs, torch.arange(B))
    inversion = spear_core.invert(model.train(), sent, batch_size=B, input_shape=SHAPE)
    assert inversion.network_inputs is None
    assert any("BatchNorm or Dropout in train mode" in note for note in inversion.notes)


def test_gradients_of_another_front_part_void_the_proof():
    model, inputs = network(*FRONTS["max-pool"]()), batch()
    sent = client.gradients(model, inputs, torch.arange(B))
    sent["0.weight"] = sent["0.weight"].flip(0)
    inversion = spear_core.invert(model, sent, batch_size=B, input_shape=SHAPE)
    assert not inversion.network_inputs_certified.any()
    assert any("miss the front part's gradients" in note for note in inversion.notes)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 9, 9), "input_shape must be that of one input, which becomes 256 numbers .* got \\(1, 9, 9\\)"),
        ((3, 8, 8), "got \\(3, 8, 8\\): "),
        ((1, 0, 8), "must be the sizes of one input"),
        (64, "must be the sizes of one input, as \\(1, 28, 28\\), or None, got 64"),
        ("88", "must be the sizes of one input"),
    ],
)
def test_a_wrong_shape_is_refused(shape, match):
    model = network(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    if shape == (1, 9, 9):
        model = network(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    with pytest.raises(InputError, match=match):
        inverted(model, batch(), input_shape=shape)


@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_a_time_limit_gives_the_best_so_far(limit):
    inversion = inverted(network(*FRONTS["two convolutions"]()), batch(8), time_limit=limit)
    if inversion.network_inputs is not None:
        assert not inversion.network_inputs_certified.all()
        assert any("time limit" in note for note in inversion.notes)


def test_several_local_steps_are_told():
    model, inputs = network(*FRONTS["max-pool"](), width=100), batch()
    update = client.update(model, inputs, torch.arange(B), steps=2, lr=0.01)
    inversion = spear_core.invert(model, update, local_steps=2, lr=0.01, input_shape=SHAPE)
    assert inversion.network_inputs is None and any("several local steps" in note for note in inversion.notes)


def test_derivatives_are_those_of_autograd():
    model, inputs = network(*FRONTS["two convolutions"]()), batch()
    front = front_before(model, inputs)
    assert torch.allclose(front.features(inputs), model[:7](inputs), atol=1e-6)
    J = torch.autograd.functional.jacobian(lambda x: model[:7](x[None])[0], inputs[0]).flatten(1)
    assert torch.allclose(jacobian(front, inputs[0]), J.T, atol=1e-6)
    forward, back = linearised(front.features, inputs)
    v, w = torch.randn_like(inputs), torch.randn(B, len(J))
    assert torch.allclose(forward(v)[0], J @ v[0].flatten(), atol=1e-5)
    assert torch.allclose(back(w)[0].flatten(), J.T @ w[0], atol=1e-5)
    largest = float(torch.linalg.matrix_norm(J, 2)) ** 2
    assert 0.8 * largest <= float(steepness(front.features, inputs, torch.Generator())[0]) <= 1.01 * largest
