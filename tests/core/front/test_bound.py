"""The bound: it counts what its words say, no derivative has a larger rank, and what it forbids is not found."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

import spear_core
from spear_core import client
from spear_core.errors import InputError
from spear_core.front.bound import Bound, Cut, Exactness, bound
from spear_core.front.part import front_of
from spear_core.model.reading import choose, read
from tests.thorough import thorough


class Flower(nn.Module):
    """The network of Flower's quick-start example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x))).view(-1, 400)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def diagnosed(model: nn.Module, shape: tuple[int, ...], b: int = 4, dtype=torch.float32, **options) -> Bound:
    inputs = torch.rand(b, *shape, generator=torch.Generator().manual_seed(b), dtype=dtype)
    sent = client.gradients(model.to(dtype), inputs, torch.arange(b) % 10)
    return spear_core.diagnose(model, sent, input_shape=shape, **options)


def test_flowers_network_passes_too_few_numbers_even_of_one_picture():
    torch.manual_seed(0)
    found = diagnosed(Flower(), (3, 32, 32), b=1)
    assert found.bound.exactness is Exactness.CANNOT
    assert found.bound.numbers == 6 * (3 * 25 + 1) + 6 * 14 * 14 == 1632
    assert "network inputs cannot be exact: of their 3,072 numbers, at most 1,632" in repr(found)
    assert "1,176 of each sample through 'pool'" in repr(found)
    assert str(found.bound) in found._repr_html_().replace("&#x27;", "'")
    # as part of a larger batch, its features are the narrowest place
    assert diagnosed(Flower(), (3, 32, 32), b=8).bound.numbers == 8 * 400 + 456 + 16 * (6 * 25 + 1)


def front_and_head(*front: nn.Module, features: int, width: int = 64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 10))


def test_features_that_determine_the_picture():
    model = front_and_head(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), features=512)
    found = diagnosed(model, (1, 8, 8))
    assert found.bound.exactness is Exactness.CAN and found.bound.rank == found.bound.unknowns == 64
    assert "network inputs can be exact" in repr(found)
    # 4 × (64 of each) are far from the 5,000 of the gradient, but a large batch is not
    sent = 80 + 64 * 513 + 650
    assert found.bound.impossible_from == sent // 64 + 1


def test_enough_numbers_in_all_but_too_few_features_is_not_known():
    model = front_and_head(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Sigmoid(), features=32)
    found = diagnosed(model, (1, 8, 8), b=1)
    assert found.bound.exactness is Exactness.CANNOT  # 32 + 20 numbers for 64
    model = front_and_head(nn.Conv2d(1, 8, 7, stride=4, padding=3), nn.Sigmoid(), features=32)
    found = diagnosed(model, (1, 8, 8), b=1)
    assert found.bound.exactness is Exactness.UNKNOWN and found.bound.passed == 32  # + 400 in gradients
    assert "not known whether network inputs can be exact" in repr(found)
    assert "from b = 13 on they cannot" in repr(found)
    assert diagnosed(model, (1, 8, 8), b=13).bound.exactness is Exactness.CANNOT


NETWORKS = {
    "a narrow convolution": lambda: front_and_head(
        nn.Conv2d(1, 2, 3, stride=2), nn.Sigmoid(), features=8, width=4
    ),
    "pooled": lambda: front_and_head(
        nn.Conv2d(1, 3, 3, bias=False), nn.Tanh(), nn.AvgPool2d(2), features=12, width=5
    ),
    "one bottleneck": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 3), nn.Tanh(), nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 10)
    ),
    "shared weights": lambda: Shared(),
}


class Shared(nn.Module):
    """One layer is used before and behind a narrow place."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.same = nn.Linear(36, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.same(torch.tanh(self.narrow(x.flatten(1)))))
        return self.head(torch.tanh(self.same(x)))


def rank_of_gradient(model: nn.Module, inputs: Tensor, labels: Tensor) -> int:
    """Of the derivative of the whole gradient by the whole batch."""
    parameters = dict(model.named_parameters())

    def gradient(x: Tensor) -> Tensor:
        def loss(given):
            return nn.functional.cross_entropy(functional_call(model, given, (x,)), labels)

        return torch.cat([each.flatten() for each in grad(loss)(parameters).values()])

    J = torch.func.jacrev(gradient)(inputs).flatten(1)
    return int(torch.linalg.matrix_rank(J, rtol=1e-11))


@pytest.mark.parametrize("b", [1, 2, *thorough(3, 5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_derivative_has_a_larger_rank(name, b):
    torch.manual_seed(b)
    model = NETWORKS[name]().double()
    inputs, labels = torch.rand(b, 1, 6, 6, dtype=torch.float64), torch.arange(b)
    rank, sent = rank_of_gradient(model, inputs, labels), client.gradients(model, inputs, labels)
    reading = read(model, sent)
    call = choose(reading, None)[0]
    front = front_of(reading, call, (1, 6, 6), inputs)
    found = bound(reading.traced, front, reading.gradients, b)
    assert found is not None and rank <= found.numbers
    assert found.exactness is not Exactness.CANNOT or rank < b * 36


def test_frozen_parameters_send_nothing():
    model = front_and_head(nn.Conv2d(1, 8, 7, stride=4, padding=3), nn.Sigmoid(), features=32)
    inputs = torch.rand(1, 1, 8, 8)
    sent = client.gradients(model, inputs, torch.tensor([3]))
    without = {name: grad for name, grad in sent.items() if not name.startswith("0.")}
    assert spear_core.diagnose(model, without, input_shape=(1, 8, 8)).bound.numbers == 32


def test_what_cannot_be_exact_is_not_sought():
    torch.manual_seed(0)
    model, inputs = Flower(), torch.rand(4, 3, 32, 32)
    sent = client.gradients(model, inputs, torch.arange(4))
    inversion = spear_core.invert(model, sent, input_shape=(3, 32, 32))
    assert inversion.network_inputs is None
    assert any("network inputs cannot be exact" in note for note in inversion.notes)
    # one sample and wide gradients before: nobody knows, and features alone do not say
    model = front_and_head(nn.Conv2d(1, 8, 7, stride=4, padding=3), nn.Sigmoid(), features=32)
    sent = client.gradients(model, torch.rand(1, 1, 8, 8), torch.tensor([3]))
    inversion = spear_core.invert(model, sent, input_shape=(1, 8, 8))
    assert any("32 numbers pass for the 64 of an input" in note for note in inversion.notes)


def test_without_a_shape_or_a_rank_nothing_is_said_and_a_wrong_shape_is_refused():
    model = front_and_head(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), features=512)
    sent = client.gradients(model, torch.rand(3, 1, 8, 8), torch.arange(3))
    assert spear_core.diagnose(model, sent).bound is None
    for wrong in [(1, 9, 9), 8, (1, 0, 8)]:
        with pytest.raises(InputError, match="input_shape must be"):
            spear_core.diagnose(model, sent, input_shape=wrong)


class Three(nn.Module):
    """Behind its front part, it takes three samples and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.head = nn.Linear(16, 30), nn.Linear(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.narrow(x.flatten(1))).view(3, 30))


def test_a_model_for_one_batch_size_alone_has_no_bound():
    torch.manual_seed(0)
    model = Three()
    sent = client.gradients(model, torch.rand(3, 1, 4, 4), torch.arange(3))
    found = spear_core.diagnose(model, sent, input_shape=(1, 4, 4))
    assert found.attacked == "narrow" and found.bound is None


def test_a_cut_says_where_and_how_many():
    assert Cut("pool", 1176, 456).most(2) == 2808
    one = Bound(1, 100, (Cut("a", 40, 30), Cut("the gradient as a whole", 0, 1000)), 40)
    assert one.narrowest.name == "a" and one.numbers == 70 and one.impossible_from == 1
    assert "of their 100 numbers, at most 70" in str(one)
    wide = Bound(2, 30, (Cut("a", 40, 30), Cut("the gradient as a whole", 0, 1000)), 40)
    assert wide.exactness is Exactness.UNKNOWN and wide.impossible_from == 34
