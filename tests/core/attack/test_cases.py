"""What people will really feed it: gradients in disguise, hard but honest ones, and nonsense."""

import copy
import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spear_core import client
from spear_core.attack.diagnose import diagnose
from spear_core.attack.invert import invert, invert_layer
from spear_core.certificate.record import Claim
from spear_core.errors import InputError, NotLowRank, RankSaturated
from spear_core.study.metrics import compare
from tests.core.zoo import (
    HIDDEN,
    B,
    BatchNormMLP,
    N,
    ResidualMLP,
    SmallCNN,
    batch,
    mlp,
    network,
    randomise,
    seeded,
)

try:
    import resource
except ImportError:  # Windows
    resource = None

X, Y = batch()
MODEL = mlp()
GRADIENTS = client.gradients(MODEL, X, Y)
DRAWS = 50_000  # what a test may spend on a batch that cannot be certified
# the search that needs no agreement between layers, for gradients and weights that do not quite match
ALONE = {"method": "sampling", "max_samples": DRAWS}


def assert_exact(inversion, truth=X, decibel=150.0, certified=True):
    score = compare(inversion.inputs, truth)
    assert inversion.batch_size == len(truth)
    assert float(score.psnr.min()) > decibel
    assert inversion.certified or not certified
    return score.order


# ---------------------------------------------------------------- the same X
DISGUISES = {
    "as they are": lambda g: g,
    "half the loss": lambda g: 0.5 * g,
    "summed loss": lambda g: B * g,
    "negative": lambda g: -3 * g,
    "loss scale": lambda g: 65536 * g,
    "well trained": lambda g: 1e-12 * g,
    "clipped to a norm": lambda g: g * min(1.0, 0.01 / float(GRADIENTS["0.weight"].norm())),
    "Poisson divisor": lambda g: g * B / 7,
}
FORMS = {
    "tensor": lambda g: g,
    "requires grad": lambda g: g.clone().requires_grad_(),
    "array": lambda g: g.numpy(),
    "sparse": lambda g: g.to_sparse(),
    "transposed": lambda g: g.t().contiguous().t(),
}


@given(
    disguise=st.sampled_from(sorted(DISGUISES)),
    form=st.sampled_from(sorted(FORMS)),
    container=st.sampled_from(["dict", "list", "generator"]),
    prefix=st.sampled_from(["", "module.", "_orig_mod.module.", "_module."]),
    without=st.sampled_from([None, "4.bias", "4.weight", "2.weight"]),
)
@settings(max_examples=30, deadline=None)
def test_disguises_in_any_combination(disguise, form, container, prefix, without):
    named = {
        prefix + name: None if name == without else FORMS[form](DISGUISES[disguise](grad))
        for name, grad in GRADIENTS.items()
    }
    given_gradients = {
        "dict": lambda: named,
        "list": lambda: list(named.values()),
        "generator": lambda: (grad for grad in named.values()),
    }[container]()
    # where the output layer cannot be replayed, only b says that no row is a mean of several samples
    b = B if without is not None else None
    inversion = invert(MODEL, given_gradients, max_samples=DRAWS, batch_size=b)
    # one layer as narrow as this gives the batch away, but cannot prove it
    order = assert_exact(inversion, certified=without != "2.weight")
    assert inversion.labels is None or torch.equal(inversion.labels[order], Y)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: F.cross_entropy(out, y, reduction="sum"),
        lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1),
        lambda out, y: F.cross_entropy(out, torch.eye(5, dtype=out.dtype)[y] * 0.8 + 0.04),
        lambda out, y: F.mse_loss(out, torch.ones_like(out)),
        lambda out, y: (
            F.cross_entropy(out[:, :3], y % 3) + F.mse_loss(out[:, 3:], torch.ones_like(out[:, 3:]))
        ),
    ],
    ids=["sum", "label smoothing", "soft labels", "regression", "two heads"],
)
def test_any_loss(loss):
    sent = client.gradients(MODEL, X, Y, loss=loss)
    assert_exact(invert(MODEL, sent, max_samples=DRAWS, batch_size=B))
    unknown = invert(MODEL, sent, max_samples=DRAWS)
    assert_exact(unknown, certified=False)
    assert Claim.NOTHING not in unknown.claims


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss], ids=["squared", "absolute"])
def test_a_loss_that_is_not_known_leaves_the_second_claim_until_b_is_given(loss):
    target = torch.rand(B, 5, dtype=X.dtype, generator=seeded(3))
    sent = client.gradients(MODEL, X, target, loss=loss)
    inversion = invert(MODEL, sent, max_samples=DRAWS)
    assert inversion.claims == (Claim.MEAN,) * B and not bool(inversion.certified_rows.any())
    assert_exact(invert(MODEL, sent, max_samples=DRAWS, batch_size=B))


def step(model, inputs, labels, steps=1, lr=0.1, **options):
    trained = copy.deepcopy(model)
    optimiser = torch.optim.SGD(trained.parameters(), lr=lr, **options)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(trained(inputs), labels).backward()
        optimiser.step()
    return {name: value.detach() for name, value in trained.named_parameters()}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_the_difference_of_weights(options, sign):
    after = step(MODEL, X, Y, **options)
    update = {name: sign * (value.detach() - after[name]) / 0.1 for name, value in MODEL.named_parameters()}
    assert_exact(invert(MODEL, update))


def test_the_difference_of_float32_weights():
    model = mlp(dtype=torch.float32)
    after = step(model, X.float(), Y)
    update = {name: (value.detach() - after[name]) / 0.1 for name, value in model.named_parameters()}
    inversion = invert(model, update, **ALONE)
    assert inversion.batch_size == B
    assert float(compare(inversion.inputs, X).psnr.min()) > 40


def test_weight_decay_is_named_and_taken_out_as_the_message_says():
    after = step(MODEL, X, Y, weight_decay=0.01)
    update = {name: (value.detach() - after[name]) / 0.1 for name, value in MODEL.named_parameters()}
    with pytest.raises(InputError, match="weight decay"):
        invert(MODEL, update)
    assert_exact(
        invert(MODEL, {name: u - 0.01 * MODEL.get_parameter(name).detach() for name, u in update.items()})
    )


def test_all_biases_zero():
    model = mlp()
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.bias.zero_()
    assert_exact(invert(model, client.gradients(model, X, Y)))


def test_float32_weights_with_float64_gradients():
    inversion = invert(copy.deepcopy(MODEL).float(), GRADIENTS, **ALONE)
    assert inversion.inputs.dtype == torch.float64
    assert_exact(inversion, certified=False)


class SkipConnection(nn.Module):
    """x + relu(L x), then a linear output."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(60, 60), nn.Linear(60, 5)

    def forward(self, x):
        return self.head(x + F.relu(self.body(x)))


@pytest.mark.parametrize("seed", range(3))
def test_a_residual_around_the_layer(seed):
    model, (x, y) = randomise(SkipConnection(), seed), batch(seed, b=3, n=60)
    inversion = invert(model, client.gradients(model, x, y), method="sampling", max_samples=2_000)
    assert_exact(inversion, x, certified=False)


def test_images_come_back_as_rows():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 60), nn.ReLU(), nn.Linear(60, 5)).double()
    images = torch.randn(3, 3, 4, 4, generator=seeded(), dtype=torch.float64)
    inversion = invert(model, client.gradients(model, images, Y[:3]))
    assert inversion.inputs.shape == (3, 48)
    order = assert_exact(inversion, images.flatten(1))
    assert torch.allclose(inversion.inputs[order].reshape(images.shape), images)


@pytest.mark.parametrize("architecture", [BatchNormMLP, ResidualMLP, SmallCNN])
def test_models_of_somebody_else(architecture):
    """Right, or honestly not certified; over these seeds nearly always right."""
    exact = 0
    for seed in range(4):
        model = randomise(architecture(), seed)
        x, y = batch(seed, b=3)
        if architecture is SmallCNN:
            x = torch.randn(3, 1, 8, 8, generator=seeded(seed), dtype=torch.float64)
        truth = model.features(x).flatten(1).detach() if architecture is SmallCNN else x
        inversion = invert(model, client.gradients(model, x, y), max_samples=DRAWS)
        right = len(inversion.inputs) == 3 and float(compare(inversion.inputs, truth).psnr.min()) > 150
        assert right or not inversion.certified
        exact += right
    assert exact >= 3


# ---------------------------------------------------------------- hard but honest
def test_weights_one_step_older_than_the_gradient():
    newer = copy.deepcopy(MODEL)
    newer.load_state_dict(step(MODEL, X, Y, steps=3))
    inversion = invert(MODEL, client.gradients(newer, X, Y), **ALONE)
    assert_exact(inversion, certified=False)
    assert not inversion.certified


@pytest.mark.parametrize("lr", [0.001, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_five_local_steps_at_once(seed, lr):
    """The inputs, with λ; nothing certified, and the reason is named."""
    model, (x, y) = mlp(seed + 1), batch(seed)
    after = step(model, x, y, steps=5, lr=lr)
    update = {name: (value.detach() - after[name]) / lr for name, value in model.named_parameters()}
    inversion = invert(model, update, max_samples=DRAWS)
    assert_exact(inversion, x, certified=False)
    assert inversion.sparsity_match > 0.9 and not inversion.certified_rows.any()
    assert any("several local steps" in note for note in inversion.notes)
    assert any("several local steps" in note for note in diagnose(model, update)["0"].notes)


@pytest.mark.parametrize(
    ("b", "dtype"), [(13, torch.float32), (13, torch.float64), (16, torch.float64), (19, torch.float64)]
)
def test_a_batch_larger_than_the_input_dimension(b, dtype):
    """The next layer's rank tells b; it is never reported as n."""
    model, (x, y) = mlp(dtype=dtype), batch(b=b, dtype=dtype)
    gradients = client.gradients(model, x, y)
    inversion = invert(model, gradients)
    assert_exact(inversion, x, decibel=90)
    found = diagnose(model, gradients)["0"]
    assert found.rank == N and found.methods == ("consistency",)
    assert f"b = {b}, as the next layer's gradient says" in found.notes


@pytest.mark.parametrize("b", [HIDDEN, 40])
def test_a_batch_that_no_layer_can_count_is_refused(b):
    with pytest.raises(RankSaturated, match="rank saturated"):
        invert(MODEL, client.gradients(MODEL, *batch(b=b)))


def test_a_batch_larger_than_the_number_of_classes():
    x, y = batch(3, b=8)
    assert_exact(invert(MODEL, client.gradients(MODEL, x, y)), x)


def test_a_sample_that_is_twice_in_the_batch_comes_back_once_and_it_is_said():
    twice = torch.cat([X, X[:1]])
    inversion = invert(MODEL, client.gradients(MODEL, twice, torch.cat([Y, Y[:1]])), max_samples=DRAWS)
    order = assert_exact(inversion)
    assert torch.equal(inversion.labels[order], Y)
    assert any("several times" in note for note in inversion.notes)


def test_near_duplicates_of_one_label_that_float32_shows_as_one_row_are_not_certified():
    for distance in (0.0, 1e-3):
        near = X[:1] + distance * X[:1].square().mean().sqrt() * torch.randn(X[:1].shape, generator=seeded(8))
        model = copy.deepcopy(MODEL).float()
        sent = client.gradients(model, torch.cat([X, near]).float(), torch.cat([Y, Y[:1]]))
        inversion = invert(model, sent, max_samples=DRAWS)
        assert inversion.batch_size == len(X)
        nearest = torch.cdist(X[:1], inversion.inputs.double())[0].argmin()
        expected = torch.ones(len(X), dtype=torch.bool)
        expected[nearest] = False
        assert torch.equal(inversion.certified_rows, expected)
        assert any("weigh as much as several" in note for note in inversion.notes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_that_is_twice_with_two_labels_is_named_with_both(dtype):
    twice, other = torch.cat([X, X[:1]]).to(dtype), int(Y[0] + 1) % 5
    sent = client.gradients(copy.deepcopy(MODEL).to(dtype), twice, torch.cat([Y, torch.tensor([other])]))
    inversion = invert(copy.deepcopy(MODEL).to(dtype), sent, max_samples=DRAWS)
    row = int(torch.cdist(X[:1], inversion.inputs.double())[0].argmin())
    assert inversion.certified and inversion.batch_size == len(X)
    assert sorted(inversion.labels.tolist()) == sorted([-1, *Y[1:].tolist()]) and inversion.labels[row] == -1
    both = ", ".join(map(str, sorted([int(Y[0]), other])))
    assert inversion.notes == (f"sample {row} is in the batch 2 times, with labels {both}",)


def test_the_sum_of_two_clients_is_one_batch():
    other, labels = batch(5, b=2)
    theirs = client.gradients(MODEL, other, labels)
    inversion = invert(
        MODEL, {name: grad + theirs[name] for name, grad in GRADIENTS.items()}, max_samples=DRAWS
    )
    assert_exact(inversion, torch.cat([X, other]), certified=False)


def test_a_hidden_layer_gives_its_inputs():
    hidden = F.relu(MODEL[0](X)).detach()
    inversion = invert(MODEL, GRADIENTS, layer="2", max_samples=DRAWS)
    assert any("inputs of layer '2'" in note for note in inversion.notes)
    score = compare(inversion.inputs, hidden)
    assert float(score.psnr.min()) > 150 or not inversion.certified


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_approximate_and_never_certified(dtype):
    rounded = {name: grad.to(dtype) for name, grad in GRADIENTS.items()}
    inversion = invert(mlp(dtype=torch.float32), rounded, batch_size=B, **ALONE)
    assert inversion.inputs.dtype == torch.float32 and not inversion.certified


def test_per_example_clipping_hides_nothing():
    clipped = {name: torch.zeros_like(grad) for name, grad in GRADIENTS.items()}
    for x, y in zip(X, Y):
        single = client.gradients(MODEL, x[None], y[None])
        norm = torch.cat([grad.flatten() for grad in single.values()]).norm()
        for name, grad in single.items():
            clipped[name] += grad * (0.3 / norm).clamp(max=1)
    inversion = invert(MODEL, clipped)
    assert torch.equal(inversion.labels[assert_exact(inversion)], Y)
    assert any("clipped one by one" in note for note in inversion.notes)


def test_one_layer_alone_takes_arrays():
    arrays = [GRADIENTS["0.weight"], GRADIENTS["0.bias"], MODEL[0].weight.detach(), MODEL[0].bias.detach()]
    assert_exact(invert_layer(*(array.numpy() for array in arrays), max_samples=DRAWS), certified=False)


# ---------------------------------------------------------------- refused, by name
def _largest(g, share):
    return g.abs().flatten().quantile(share)


UPDATES = {
    "noise alone": (lambda g, w: torch.randn(g.shape, generator=seeded(7), dtype=g.dtype), "noise"),
    "the weights": (lambda g, w: w, "pass the difference of two weights"),
    "Adam": (lambda g, w: 1e-3 * g / (g.abs() + 1e-8), "Adam"),
    "signs": (lambda g, w: g.sign(), "signs"),
    "top-k": (lambda g, w: g * (g.abs() >= _largest(g, 0.8)), "top-k"),
    "clipped by value": (lambda g, w: g.clamp(-_largest(g, 0.9), _largest(g, 0.9)), "clipped value by value"),
    "quantised": (lambda g, w: (g / g.abs().max() * 15).round() / 15, "quantised"),
    "weight decay": (lambda g, w: g + 5e-4 * w, "weight decay"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", UPDATES)
def test_updates_that_are_no_gradients_are_refused_by_name(kind, seed):
    """Every layer was processed, so the next layer's rank is no help."""
    change, cause = UPDATES[kind]
    model, (x, y) = mlp(seed + 1), batch(seed)
    gradients = client.gradients(model, x, y)
    update = {name: change(grad, model.get_parameter(name).detach()) for name, grad in gradients.items()}
    with pytest.raises(NotLowRank, match=f"not low-rank.*{cause}"):
        invert(model, update)
    assert "not low-rank" in diagnose(model, update)["0"].obstacle


# ---------------------------------------------------------------- nonsense
def nonsense(rng: random.Random):
    """A model and gradients with one or more things wrong with them, or right after all."""
    model = rng.choice([MODEL, BN, RESIDUAL])
    gradients = dict(client.gradients(model, X, Y))
    keywords = {}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(list(gradients))
        gradients[name] = rng.choice(DAMAGES)(gradients[name], rng)
    if rng.random() < 0.2:
        gradients = rng.choice([list, tuple, iter])(gradients.values())
    elif rng.random() < 0.2:
        gradients = {rng.choice(["module.", "x.", "0.", ""]) + name: grad for name, grad in gradients.items()}
    if rng.random() < 0.2:
        keywords["batch_size"] = rng.choice([0, 1, 3, 4, 5, 12, 40, 10**9, -1, 2.5, True, "4"])
    if rng.random() < 0.2:
        keywords["method"] = rng.choice(["auto", "sampling", "magic", None, 3])
    if rng.random() < 0.2:
        keywords["layer"] = rng.choice(["0", "2", "4", "head", "module.0", "1", "nowhere", 7, ""])
    return model, gradients, keywords


def _entries(grad, rng, value):
    grad = torch.as_tensor(grad).clone() if isinstance(grad, torch.Tensor | np.ndarray) else torch.zeros(3)
    grad.view(-1)[rng.randrange(max(1, grad.numel())) :] = value
    return grad


def _on_tensor(function):
    """Apply where there is still a tensor; leave other damage alone."""
    return lambda grad, rng: (
        function(grad.to_dense(), rng) if isinstance(grad, torch.Tensor) and grad.numel() else grad
    )


DAMAGES = [
    lambda grad, rng: grad,
    lambda grad, rng: None,
    lambda grad, rng: rng.choice(["a", 3, [1.0], object(), {}, b""]),
    lambda grad, rng: np.array([["a"]]),
    _on_tensor(lambda grad, rng: grad.flatten()),
    _on_tensor(lambda grad, rng: grad.T if grad.ndim == 2 else grad[None]),
    _on_tensor(lambda grad, rng: grad[:0]),
    _on_tensor(
        lambda grad, rng: grad.to(rng.choice([torch.int64, torch.bool, torch.complex64, torch.float16]))
    ),
    _on_tensor(lambda grad, rng: grad.to_dense().numpy()),
    _on_tensor(lambda grad, rng: _entries(grad, rng, float("nan"))),
    _on_tensor(lambda grad, rng: _entries(grad, rng, float("inf"))),
    _on_tensor(lambda grad, rng: _entries(grad, rng, 1.0)),
    _on_tensor(lambda grad, rng: torch.zeros_like(grad)),
    _on_tensor(lambda grad, rng: torch.randn(grad.shape, generator=seeded(rng.randrange(99)))),
    _on_tensor(lambda grad, rng: grad * rng.choice([1e-300, 1e-30, 1e30, 1e300, -1.0])),
    _on_tensor(lambda grad, rng: grad.sign() if not grad.is_complex() else grad),
    _on_tensor(lambda grad, rng: grad.to_sparse()),
    _on_tensor(lambda grad, rng: torch.ones_like(grad)),
]
BN, RESIDUAL = randomise(BatchNormMLP()), randomise(ResidualMLP())


HANG = 30.0  # seconds after which a run with a limit of 0.3 counts as hanging, on however busy a machine
GROWTH = 2**20  # kB that the process may grow by in 200 runs


def assert_block_ends_well(seeds):
    """Each run ends in time, and none keeps or takes much memory: all these networks are small."""
    before = peak_memory()
    for seed in seeds:
        began = time.monotonic()
        assert_typed_error_or_right(seed)
        assert time.monotonic() - began < HANG, f"seed {seed}"
    assert peak_memory() - before < GROWTH


def peak_memory():
    """Largest size of this process so far, kB; 0 where the system does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0


def assert_typed_error_or_right(seed):
    rng = random.Random(seed)
    model, gradients, keywords = nonsense(rng)
    try:
        inversion = invert(model, gradients, max_samples=2_000, time_limit=0.3, **keywords)
    except InputError as error:
        assert len(str(error)) > 20
        return
    skipped = any(
        "no gradient reached layer" in note for note in inversion.notes
    )  # then a later one was taken
    if inversion.certified and "layer" not in keywords and not skipped:
        # whatever was damaged, what is certified is the client's batch
        assert float(compare(inversion.inputs, X).psnr.min()) > 90


@pytest.mark.parametrize("block", range(4))
def test_nonsense_ends_in_a_typed_error_or_a_right_result(block):
    assert_block_ends_well(range(50 * block, 50 * (block + 1)))


@pytest.mark.thorough
@pytest.mark.parametrize("block", range(10))
def test_much_more_nonsense(block):
    assert_block_ends_well(range(1_000 + 200 * block, 1_000 + 200 * (block + 1)))


def test_the_fixture_is_what_the_table_says():
    assert X.shape == (B, N) and [p.shape[0] for p in MODEL.parameters()][::2] == [40, 20, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_of_differences_leaves_no_bias_gradient_at_the_output(dtype):
    model = network(20, 100, 100, 1, dtype=dtype)
    x = torch.randn(8, 20, generator=seeded(1)).to(dtype)
    score = model(x)[:, 0]
    loss = F.margin_ranking_loss(score[:4], score[4:], torch.ones(4).to(dtype), margin=1.0)
    inversion = invert(model, torch.autograd.grad(loss, list(model.parameters())), batch_size=8)
    assert inversion.certified and float(compare(inversion.inputs, x).psnr.min()) > 120


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot_inputs_leave_the_first_layer_sharper_than_the_next(dtype):
    model = network(50, 200, 200, 10, dtype=dtype)
    x = torch.eye(50, dtype=dtype)[torch.randperm(50, generator=seeded(1))[:8]]
    inversion = invert(model, client.gradients(model, x, torch.arange(8)))
    assert inversion.certified and float(compare(inversion.inputs, x).psnr.min()) > 150
