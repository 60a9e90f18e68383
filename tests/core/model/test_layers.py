"""What follows a layer is read off the real forward, however it is written."""

import copy
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import client
from spear_core.client import networks
from spear_core.errors import InputError, MissingGradient, UnknownLayer
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from tests.core.zoo import (
    CLASSES,
    HIDDEN,
    WIDTH,
    BatchNormMLP,
    Forward,
    N,
    ResidualMLP,
    SmallCNN,
    batch,
    mlp,
    randomise,
    seeded,
)


def in_place(self, x):
    h = self.first(x)
    h.relu_()
    return self.last(F.relu(self.second(h), inplace=True))


def module_in_place(self, x):
    h = self.first(x)
    self.relu(h)
    return self.last(self.relu(self.second(h)))


def item_assignment(self, x):
    h = self.first(x)
    h[h < 0] = 0
    return self.last(self.second(h).relu())


def depends_on_data(self, x):
    h = self.first(x)
    return self.last(self.second(h.relu() if float(x.abs().sum()) > 0 else h).relu())


def checks_shapes(self, x):
    assert x.shape[1] == N
    return self.last(self.second(self.first(x).relu()).relu())


def keeps_a_mask(self, x, mask=None):
    x = x if mask is None else x * mask
    return self.last(self.second(self.first(x).relu()).relu())


def between(step):
    """A model with `step` after its first layer and ReLU after its second."""
    return lambda self, x: self.last(F.relu(self.second(step(self, self.first(x)))))


RELU = {
    "module": between(lambda self, z: nn.ReLU()(z)),
    "function": between(lambda self, z: F.relu(z)),
    "method": between(lambda self, z: z.relu()),
    "method in place, result used": between(lambda self, z: z.relu_()),
    "method in place, result dropped": in_place,
    "module in place, result dropped": module_in_place,
    "assignment to items": item_assignment,
    "clamp": between(lambda self, z: z.clamp(min=0)),
    "maximum": between(lambda self, z: torch.maximum(z, torch.zeros_like(z))),
    "where": between(lambda self, z: torch.where(z > 0, z, 0.0)),
    "product with a mask": between(lambda self, z: z * (z > 0)),
    "arithmetic": between(lambda self, z: (z + z.abs()) / 2),
    "dropout in eval mode": between(lambda self, z: self.dropout(self.dropout(z).relu())),
    "view of the batch size": lambda self, x: self.last(
        F.relu(self.second(F.relu(self.first(x)).view(x.size(0), -1)))
    ),
    "flatten and view": between(lambda self, z: F.relu(z.flatten(1)).view(z.size(0), -1)),
    "BatchNorm before": between(lambda self, z: F.relu(self.norm(z))),
    "BatchNorm after": between(lambda self, z: self.norm(F.relu(z))),
    "BatchNorm on both sides": between(lambda self, z: self.norm(F.relu(self.norm(z)))),
    "scaled": between(lambda self, z: 0.5 * F.relu(3 * z - 1)),
    "control flow on data": depends_on_data,
    "assertion on the shape": checks_shapes,
    "argument with a default": keeps_a_mask,
    "flattened input": lambda self, x: self.last(
        F.relu(self.second(F.relu(self.first(x.view(x.size(0), -1)))))
    ),
    "softmax at the end": lambda self, x: F.log_softmax(
        self.last(F.relu(self.second(F.relu(self.first(x))))), 1
    ),
}


def assert_sound(problem: Problem, inputs: Tensor) -> None:
    """Every layer of the chain, folded or not, must be the linear layer that it claims to be.

    Its gradients are sums over the samples: ∂L/∂W = Dᵀ Y and ∂L/∂β = Dᵀ 1 with the same D, where Y are its
    inputs as the forward pass of the problem gives them.
    """
    y = inputs
    for layer in problem.layers:
        D = torch.linalg.lstsq(y.T, layer.weight_grad.T).solution
        assert torch.allclose(D.T @ y, layer.weight_grad, atol=1e-12)
        assert torch.allclose(D.sum(dim=0), layer.bias_grad, atol=1e-12)
        z = y @ layer.weight.T + layer.bias
        y = z if layer.activation is None else layer.activation(z)


@pytest.mark.parametrize("style", RELU)
def test_relu_however_it_is_written(style):
    model = randomise(Forward(RELU[style]))
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["first", "second", "last"]
    assert [layer.has_relu for layer in problem.layers] == [True, True, False]
    assert problem.layers[-1].activation is None and not problem.branches
    assert_sound(problem, x)


ACTIVATIONS = {
    "LeakyReLU": F.leaky_relu,
    "LeakyReLU(0.3)": nn.LeakyReLU(0.3),
    "PReLU": nn.PReLU(dtype=torch.float64),
    "ReLU6": nn.ReLU6(),
    "ELU": F.elu,
    "GELU": nn.GELU(),
    "GELU, tanh": nn.GELU(approximate="tanh"),
    "SiLU by hand": lambda z: z * torch.sigmoid(z),
    "Softplus": nn.Softplus(),
    "tanh": torch.tanh,
    "square": lambda z: z**2,
    "sine of a scaled value": lambda z: torch.sin(2 * z),
    "skip": lambda z: z + F.relu(z),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_other_activations(name):
    function = ACTIVATIONS[name]
    model = randomise(Forward(between(lambda self, z: function(z))))
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["first", "second", "last"]
    assert not problem.attacked.has_relu
    assert_sound(problem, x)
    scaled = torch.linspace(-3, 3, 37, dtype=torch.float64, requires_grad=True)
    assert problem.attacked.activation(scaled).shape == scaled.shape
    assert torch.autograd.grad(problem.attacked.activation(scaled).sum(), scaled)[0].shape == scaled.shape


def test_the_chain_ends_where_the_graph_branches():
    model = randomise(Forward(lambda self, x: self.last(F.relu(self.second(F.relu(self.first(x)))))))
    model.side = nn.Linear(N, N, dtype=torch.float64)
    model.function = lambda self, x: self.last(
        F.relu(self.second(F.relu(self.first(x + F.relu(self.side(x))))))
    )
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["side"] and problem.attacked.has_relu
    assert_sound(problem, x)


def test_the_chain_goes_on_beside_a_branch_after_the_activation():
    def forward(self, x):
        y = F.relu(self.second(F.relu(self.first(x))))
        return self.last(y) + y.mean(dim=1, keepdim=True)

    model = randomise(Forward(forward))
    problem = read_problem(model, client.gradients(model, *batch()))
    assert [layer.name for layer in problem.layers] == ["first", "second", "last"] and problem.branches


def test_a_missing_gradient_ends_the_chain_with_a_note():
    model = mlp()
    gradients = client.gradients(model, *batch())
    for gone in (None, torch.zeros(HIDDEN, WIDTH)):
        problem = read_problem(model, gradients | {"2.weight": gone})
        assert len(problem.layers) == 1 and "ends before layer '2'" in problem.notes[0]


def test_two_heads_follow_the_wider_one():
    def forward(self, x):
        y = F.relu(self.first(x))
        return torch.cat([self.last(F.relu(self.second(y))), self.value(y)], dim=1)

    model = Forward(forward)
    model.value = nn.Linear(WIDTH, 1)
    model = randomise(model)
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["first", "second", "last"]
    assert_sound(problem, x)


def test_dropout_in_train_mode_is_noted_and_ends_the_chain():
    model = randomise(Forward(between(lambda self, z: self.dropout(F.relu(z)))))
    model.dropout.train()
    problem = read_problem(model, client.gradients(model, *batch()))
    assert len(problem.layers) == 1 and problem.attacked.has_relu
    assert any("Dropout in train mode after layer 'first'" in note for note in problem.notes)


def test_a_layer_used_twice_gives_the_rows_of_both_uses():
    def forward(self, x):
        return self.last(F.relu(self.second(F.relu(self.first(x)) + F.relu(self.first(x.flip(1))))))

    model = randomise(Forward(forward))
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert len(problem.layers) == 1 and any("used 2 times" in note for note in problem.notes)
    assert_sound(problem, torch.cat([x, x.flip(1)]))


def test_public_style_architectures():
    x, y = batch()
    tabular = randomise(BatchNormMLP())
    problem = read_problem(tabular, client.gradients(tabular, x, y))
    assert [layer.name for layer in problem.layers] == ["block1.0", "block2.0", "head"]
    assert_sound(problem, x)

    residual = randomise(ResidualMLP())
    problem = read_problem(residual, client.gradients(residual, x, y))
    assert [layer.name for layer in problem.layers] == ["stem", "up.0", "down.0"] and problem.branches
    assert_sound(problem, x)
    inner = read_problem(residual, client.gradients(residual, x, y), layer="up.1")
    assert inner.attacked.has_relu and "inputs of layer 'up.1'" in inner.notes[-1]

    network = randomise(SmallCNN())
    images = torch.rand(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    problem = read_problem(network, client.gradients(network, images, y))
    assert [layer.name for layer in problem.layers] == ["classifier.1", "classifier.3"]
    assert_sound(problem, network.features(images).flatten(1))


def test_transformer_blocks_are_looked_into():
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 3, 16, generator=seeded(), dtype=torch.float64)
    gradients = client.gradients(block, x, x, loss=F.mse_loss)
    problem = read_problem(block, gradients, layer="linear1")
    assert [layer.name for layer in problem.layers] == ["linear1", "linear2"] and problem.attacked.has_relu


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "style", ["BatchNorm after", "control flow on data", "module in place, result dropped"]
)
def test_the_model_is_left_alone(style, train):
    model = randomise(Forward(RELU[style])).train(train)
    x, y = batch()
    gradients = client.gradients(model, x, y)
    before = copy.deepcopy(model.state_dict())
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    read_problem(model, gradients)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert modes == [module.training for module in model.modules()]
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_hooks_of_others_are_not_called():
    model, calls = mlp(activation=nn.GELU), []  # which is run on made-up inputs, to find out what it does
    gradients = client.gradients(model, *batch())
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    read_problem(model, gradients)
    assert not calls


def test_wrappers_are_looked_through():
    model = mlp()
    x, y = batch()
    gradients = client.gradients(model, x, y)
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        problem = read_problem(wrapped, gradients, layer="module.2")
        assert [layer.name for layer in problem.layers] == ["2", "4"]


@given(
    steps=st.lists(
        st.sampled_from(["relu", "norm", "dropout", "identity", "double", "flatten", "tanh"]), max_size=4
    ),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_steps_is_sound(steps, seed):
    """Whatever stands between two layers, the folded problem explains the gradients that the client sends."""
    functions = {
        "relu": lambda self, z: F.relu(z),
        "norm": lambda self, z: self.norm(z),
        "dropout": lambda self, z: self.dropout(z),
        "identity": lambda self, z: nn.Identity()(z),
        "double": lambda self, z: 2 * z,
        "flatten": lambda self, z: z.flatten(1),
        "tanh": lambda self, z: z.tanh(),
    }

    def step(self, z):
        for name in steps:
            z = functions[name](self, z)
        return z

    model = randomise(Forward(between(step)), seed)
    x, y = batch(seed)
    problem = read_problem(model, client.gradients(model, x, y))
    assert_sound(problem, x)


class NoLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3)

    def forward(self, x):
        return self.conv(x)


GRADIENTS = client.gradients(mlp(), *batch())


@pytest.mark.parametrize(
    ("model", "gradients", "layer", "error", "match"),
    [
        (mlp(), GRADIENTS, "fc1", UnknownLayer, r"one of '0', '2', '4', got 'fc1'"),
        (mlp(), GRADIENTS, "", UnknownLayer, r"got ''"),
        (mlp(), GRADIENTS, 0, UnknownLayer, r"got 0"),
        (mlp(), GRADIENTS, "1", UnknownLayer, r"got '1', which is ReLU"),
        (
            NoLinear(),
            [torch.ones(1, 1, 3), torch.ones(1)],
            None,
            UnknownLayer,
            "at least one nn.Linear, got NoLinear",
        ),
        (
            mlp(),
            {"0.bias": GRADIENTS["0.bias"]},
            None,
            MissingGradient,
            "must include '0.weight', got '0.bias' only",
        ),
        (
            mlp(),
            {"0.weight": GRADIENTS["0.weight"]},
            None,
            MissingGradient,
            "include '0.bias', got '0.weight' only",
        ),
        (
            mlp(),
            {name: GRADIENTS[name] for name in ("4.weight", "4.bias")},
            None,
            MissingGradient,
            "before the output layer '4', got none for '0', '2'",
        ),
        (
            mlp(),
            GRADIENTS | {"2.weight": None, "2.bias": None},
            "2",
            MissingGradient,
            "no gradient reached layer '2'",
        ),
        (
            mlp(),
            GRADIENTS | {name: torch.zeros_like(GRADIENTS[name]) for name in ("2.weight", "2.bias")},
            "2",
            MissingGradient,
            "no gradient reached layer '2'",
        ),
        (
            mlp(),
            GRADIENTS | {"0.bias": torch.zeros_like(GRADIENTS["0.bias"])},
            None,
            InputError,
            r"bias gradient is zero: the errors of all samples cancel \(balanced labels",
        ),
        (
            mlp(),
            GRADIENTS | {"0.weight": torch.zeros_like(GRADIENTS["0.weight"])},
            None,
            MissingGradient,
            "must not be all zero",
        ),
        (
            nn.Sequential(nn.Linear(N, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, CLASSES)),
            [torch.ones(WIDTH, N), torch.ones(CLASSES, WIDTH), torch.ones(CLASSES)],
            None,
            UnknownLayer,
            "layer '0' must have a bias",
        ),
    ],
)
def test_refusals(model, gradients, layer, error, match):
    with pytest.raises(error, match=match):
        read_problem(model, gradients, layer)


def test_an_unused_first_layer_is_skipped_with_a_note():
    def forward(self, x):
        return self.last(F.relu(self.second(F.relu(self.first(x).detach()))))

    model = randomise(Forward(forward))
    problem = read_problem(model, client.gradients(model, *batch()))
    assert problem.attacked.name == "second" and "no gradient reached layer 'first'" in problem.notes[0]


def test_a_layer_without_bias_before_a_batch_norm_in_train_mode_is_told_of_eval():
    model = BatchNormMLP().train()
    sent = client.gradients(model, *batch(dtype=torch.float32))
    with pytest.raises(UnknownLayer, match=r"must have a bias, got bias=False.*call model.eval\(\)"):
        read_problem(model, sent)


def test_batch_norm_in_train_mode_is_named_either_way():
    model = randomise(Forward(between(lambda self, z: F.relu(self.norm(z)))))
    from_eval = client.gradients(model, *batch())
    model.norm.train()
    from_train = client.gradients(model, *batch())
    with pytest.raises(InputError, match="bias gradient is zero: BatchNorm in train mode"):
        read_problem(model, from_train)
    with pytest.raises(
        InputError, match=r"BatchNorm1d after layer 'first' must be in eval mode.*model.eval\(\)"
    ):
        read_problem(model, from_eval)


def test_weights_must_be_finite_and_traceable():
    model = mlp()
    gradients = client.gradients(model, *batch())
    with torch.no_grad():
        model[0].weight[1, 2] = torch.nan
    with pytest.raises(InputError, match="weight of '0' must be finite, got 1 NaN"):
        read_problem(model, gradients)

    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            raise RuntimeError("needs a key")

    with pytest.raises(InputError, match=r"must be traceable by torch.fx .* got Opaque, .*needs a key"):
        read_problem(Opaque(), [torch.ones(2, 3), torch.ones(2)])


def test_an_exported_program_is_read_like_its_model():
    model = randomise(
        nn.Sequential(nn.Linear(N, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True), nn.Linear(WIDTH, 5))
    )
    x, y = batch()
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("b")},)).module()
    problem = read_problem(exported, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["0", "3"] and problem.attacked.has_relu
    assert_sound(problem, x)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_module_is_run_as_it_is():
    model = randomise(Forward(between(lambda self, z: self.relu(z))))
    model.relu = torch.jit.script(nn.ReLU())
    attributes = set(vars(model.relu))
    x, y = batch()
    problem = read_problem(model, client.gradients(model, x, y))
    assert [layer.name for layer in problem.layers] == ["first", "second", "last"]
    assert problem.attacked.has_relu and set(vars(model.relu)) == attributes
    assert_sound(problem, x)


@pytest.mark.parametrize("width", [48, 49, 50])
def test_what_mixes_the_samples_of_a_batch_is_no_activation(width):
    for mixing in (lambda y: y - y.mean(0), lambda y: y * (1 + y.std(0)), lambda y: y + y.roll(1, dims=0)):
        model = Forward(
            lambda self, x, mixing=mixing: self.last(F.relu(self.second(mixing(F.relu(self.first(x))))))
        )
        model.first, model.second = nn.Linear(N, width), nn.Linear(width, HIDDEN)
        problem = read_problem(model.double(), client.gradients(model, *batch()))
        assert [layer.name for layer in problem.layers] == ["first"] and problem.attacked.has_relu


def test_parametrised_layers_are_named():
    model = randomise(Forward(RELU["function"]))
    nn.utils.parametrizations.orthogonal(model.first)
    with pytest.raises(UnknownLayer, match="layer 'first' must have a weight of its own"):
        read_problem(model, client.gradients(model, *batch()), layer="first")


def test_other_threads_can_use_the_model_while_it_is_read():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the threads take turns inside of a trace
    model = networks.fully_connected(12, width=20, depth=6, generator=seeded(0))
    x = torch.randn(3, 12)
    grads = client.gradients(model, x, torch.tensor([0, 1, 2]))
    expected, failed, done = model(x), [], threading.Event()

    def train() -> None:
        while not done.is_set():
            try:
                assert torch.equal(model(x), expected)
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=train)
    thread.start()
    for _ in range(200):
        read_problem(model, grads)
    done.set()
    thread.join()
    sys.setswitchinterval(interval)
    assert not failed


def test_reading_leaves_hooks_and_attributes_of_the_model_alone():
    model = networks.fully_connected(12, width=20, generator=seeded(0))
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(0))
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    grads = client.gradients(model, torch.randn(3, 12, generator=seeded(1)), torch.tensor([0, 1, 2]))
    calls.clear()
    read_problem(model, grads)
    assert not calls
    assert {name: dict(module.__dict__) for name, module in model.named_modules()} == before
