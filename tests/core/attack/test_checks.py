"""Bad input is refused before any work, with what must be and what was given."""

import numpy as np
import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.attack.counting import check_rank
from spear_core.attack.options import METHODS, check_options
from spear_core.attack.plan import check_method, obstacles
from spear_core.errors import InputError, InputTypeError, MissingGradient, NotLowRank, RankSaturated
from spear_core.model.checks import check_layer, check_one_device
from spear_core.model.layers import read_problem
from spear_core.problem import LinearLayer, Problem
from spear_core.spear.low_rank import split
from tests.core.zoo import CLASSES, WIDTH, N, batch, mlp, seeded

MODEL = mlp()
GRADIENTS = client.gradients(MODEL, *batch())
LAYER = {
    "weight_grad": GRADIENTS["0.weight"],
    "bias_grad": GRADIENTS["0.bias"],
    "weight": MODEL[0].weight,
    "bias": MODEL[0].bias,
}


# ---------------------------------------------------------------- options
@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"method": method} for method in METHODS),
        {"batch_size": 1, "max_samples": 10**12, "time_limit": 0},
        {"batch_size": np.int64(3), "time_limit": np.float32(0.5), "generator": torch.Generator()},
        {"time_limit": float("inf")},
    ],
)
def test_good_options_pass(options):
    check_options(**options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "newton"}, 'must be "auto", "sampling", "halfspace" or "consistency", got \'newton\''),
        ({"method": None}, "got None"),
        ({"method": ["auto"]}, "got \\['auto'\\]"),
        *(
            ({name: value}, f"{name} must be a whole number from 1 on, or None, got {value!r}")
            for name in ("batch_size", "max_samples")
            for value in (0, -3, True, 2.0, "4")
        ),
        *(
            (
                {"time_limit": value},
                f"time_limit must be a number of seconds from 0 on, or None, got {value!r}",
            )
            for value in (-1, -0.5, float("nan"), True, "1")
        ),
        ({"generator": 7}, "generator must be a torch.Generator or None, got int"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        check_options(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_of_the_gpu_is_refused():
    with pytest.raises(InputError, match="must be on the CPU, got one on cuda"):
        check_options(generator=torch.Generator("cuda"))


# ---------------------------------------------------------------- one layer
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
            changed("bias_grad", lambda g: g * 1e-15),
            InputError,
            "bias gradient is zero: BatchNorm in train mode",
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


# ---------------------------------------------------------------- rank
def judge(weight_grad, batch_size=None, model=MODEL, chain=True, **others):
    gradients = {**GRADIENTS, "0.weight": weight_grad, **others}
    problem = read_problem(model, gradients)
    if not chain:
        problem = Problem(problem.layers[:1])
    check_rank(split(problem.attacked.weight_grad, batch_size, generator=seeded()), problem, batch_size)


G, W = GRADIENTS["0.weight"], MODEL[0].weight.detach()
LARGE = G.abs().flatten().quantile(0.9)
NOISE = torch.randn(G.shape, generator=seeded(9), dtype=G.dtype)


@pytest.mark.parametrize(
    "gradient",
    [G, G * 1e-12, -3 * G, G * 65536, G.float(), G.bfloat16(), G + 1e-6 * LARGE * NOISE],
)
def test_low_rank_passes(gradient):
    judge(gradient)


PROCESSED = {
    "pure noise": (lambda G, noise: noise, "noise"),
    "noise added": (lambda G, noise: G + 0.1 * G.std() * noise, "noise"),
    "the weights": (lambda G, noise: W, r"1 × the weights"),
    "weights after a step": (lambda G, noise: W - 0.1 * G, r"the weights plus rank 4: pass the difference"),
    "weights after many noisy steps": (lambda G, noise: W - 0.1 * G + 0.01 * noise, "close to the weights"),
    "weight decay": (lambda G, noise: G + 5e-4 * W, r"rank 4 without 0.0005 × the weights: weight decay"),
    "scaled weight decay": (lambda G, noise: -0.3 * (G + 0.01 * W), r"pass gradient \+ 0\.003\d* × weights"),
    "signs": (lambda G, noise: G.sign(), "same magnitude"),
    "Adam's first step": (lambda G, noise: 1e-3 * G / (G.abs() + 1e-8), "same magnitude"),
    "top-k": (lambda G, noise: G * (G.abs() > G.abs().flatten().quantile(0.8)), "top-k"),
    "quantised": (lambda G, noise: (G / G.abs().max() * 15).round() / 15, "quantised"),
    "clipped by value": (lambda G, noise: G.clamp(-LARGE, LARGE), "clipped"),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", PROCESSED)
def test_what_is_not_low_rank_is_refused_with_its_reason(kind, seed):
    process, match = PROCESSED[kind]
    noise = torch.randn(G.shape, generator=seeded(100 + seed), dtype=G.dtype)
    gradient = client.gradients(MODEL, *batch(seed))["0.weight"]
    with pytest.raises(NotLowRank, match=match) as caught:
        judge(process(gradient, noise))
    assert "must be low-rank, of rank b < min(m, n) = 12" in str(caught.value)


def test_adding_weight_decay_back_is_what_the_message_says():
    decayed = G + 5e-4 * W
    with pytest.raises(NotLowRank) as caught:
        judge(decayed)
    factor = float(str(caught.value).split("gradient − ")[1].split()[0])
    judge(decayed - factor * W)


def test_noise_is_let_through_with_a_batch_size():
    judge(G + 0.01 * G.std() * NOISE, batch_size=4)


def test_a_batch_size_above_the_rank_is_refused():
    with pytest.raises(InputError, match="at most the rank of the gradient, 4, got 6"):
        judge(G, batch_size=6)


def test_a_batch_size_below_a_clear_rank_is_refused():
    with pytest.raises(InputError, match="must be the rank of the gradient, 4, got 3"):
        judge(G, batch_size=3)


@pytest.mark.parametrize("chain", [True, False])
def test_a_batch_larger_than_the_layer_is_named(chain):
    gradients = client.gradients(MODEL, *batch(b=15))
    with pytest.raises(RankSaturated, match="got b = 15" if chain else "rank 12, from at least so many"):
        judge(gradients.pop("0.weight"), chain=chain, **gradients)


@pytest.mark.parametrize(("b", "width"), [(5, WIDTH), (2, 60)])
def test_constant_inputs_do_not_hide_saturation(b, width):
    """Of 12 inputs 3 vary: rank 3 is no batch size unless the next layer says so."""
    model = nn.Sequential(nn.Linear(N, width), nn.ReLU(), nn.Linear(width, CLASSES)).double()
    x, y = batch(b=b)
    x[:, 3:] = 0
    gradients = client.gradients(model, x, y)
    problem = read_problem(model, gradients)
    low_rank = split(problem.attacked.weight_grad, generator=seeded())
    if b < 3:
        check_rank(low_rank, problem)
    else:
        assert low_rank.batch_size == 3
        with pytest.raises(RankSaturated):
            check_rank(low_rank, problem)


def test_a_bias_gradient_of_another_batch_is_refused():
    with pytest.raises(InputError, match="must lie in the column space of the weight gradient"):
        judge(G, **{"0.bias": torch.randn(WIDTH, generator=seeded(), dtype=G.dtype)})


# ---------------------------------------------------------------- methods
def of_layer(activation, layers=2):
    layer = LinearLayer(G, GRADIENTS["0.bias"], W, MODEL[0].bias.detach(), activation)
    return Problem((layer,) * layers)


@pytest.mark.parametrize(
    ("activation", "layers", "usable"),
    [
        (torch.relu, 2, {"sampling", "halfspace", "consistency"}),
        (torch.relu, 1, {"sampling", "halfspace"}),
        (nn.functional.gelu, 2, {"consistency"}),
        (nn.functional.gelu, 1, set()),
        (None, 2, set()),
    ],
)
def test_methods_that_cannot_work_are_refused(activation, layers, usable):
    problem = of_layer(activation, layers)
    assert {name for name, obstacle in obstacles(problem).items() if not obstacle} == usable
    for method in METHODS:
        if method in usable or (method == "auto" and usable):
            check_method(method, problem)
        elif usable:
            with pytest.raises(InputError, match=f'must be "auto" or .*got "{method}": it needs'):
                check_method(method, problem)
        else:
            with pytest.raises(InputError, match="got none that does"):
                check_method(method, problem)


def test_the_activation_is_named():
    with pytest.raises(InputError, match=r'"consistency", got "sampling": .*zeros of ReLU, and GELU follows'):
        check_method("sampling", of_layer(nn.functional.gelu))
