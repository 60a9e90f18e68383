"""Gradients in every disguise end under the names of the model's parameters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spear_core import client
from spear_core.errors import InputError, InputTypeError, MissingGradient
from spear_core.model.checks import as_real, check_finite
from spear_core.model.parameters import normalise, strip
from tests.core.zoo import batch, mlp

MODEL = mlp()
TRUTH = client.gradients(MODEL, *batch())


class Wrapped(nn.Module):
    """What DataParallel, torch.compile and Opacus do to names."""

    def __init__(self, prefix: str, inner: nn.Module) -> None:
        super().__init__()
        setattr(self, prefix, inner)


def wrap(model: nn.Module, prefixes: list[str]) -> nn.Module:
    for prefix in reversed(prefixes):
        model = Wrapped(prefix, model)
    return model


REPRESENTATIONS = {
    "as it is": lambda g: g,
    "requires grad": lambda g: g.clone().requires_grad_(),
    "parameter": lambda g: nn.Parameter(g.clone()),
    "array": lambda g: g.numpy(),
    "read-only array": lambda g: _read_only(g.numpy()),
    "big-endian array": lambda g: g.numpy().astype(">f8"),
    "reversed array": lambda g: np.ascontiguousarray(g.numpy()[::-1])[::-1],
    "transposed view": lambda g: g.t().contiguous().t(),
    "strided view": lambda g: torch.stack([g, g], dim=-1)[..., 0],
    "sparse": lambda g: g.to_sparse(),
    "result of grad": lambda g: g.clone().requires_grad_() * 1,
}
CONTAINERS = {
    "dict": lambda named: dict(named),
    "pairs": lambda named: list(named),
    "list": lambda named: [value for _, value in named],
    "tuple": lambda named: tuple(value for _, value in named),
    "generator": lambda named: (value for _, value in named),
}
PREFIXES = st.lists(st.sampled_from(["module", "_orig_mod", "_module"]), max_size=3)


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@given(
    container=st.sampled_from(sorted(CONTAINERS)),
    forms=st.lists(st.sampled_from(sorted(REPRESENTATIONS)), min_size=6, max_size=6),
    on_model=PREFIXES,
    on_keys=PREFIXES,
    missing=st.sets(st.integers(0, 5), max_size=5),
    leave_out=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_container_of_any_representation_under_any_prefix(
    container, forms, on_model, on_keys, missing, leave_out
):
    named = []
    for position, ((name, grad), form) in enumerate(zip(TRUTH.items(), forms)):
        if position in missing and leave_out and container in ("dict", "pairs"):
            continue
        value = None if position in missing else REPRESENTATIONS[form](grad)
        named.append((".".join([*on_keys, name]), value))
    before = [value.clone() if isinstance(value, torch.Tensor) else value for _, value in named]
    found = normalise(wrap(MODEL, on_model), CONTAINERS[container](named))
    assert list(found) == list(TRUTH)
    for position, (name, grad) in enumerate(TRUTH.items()):
        if position in missing:
            assert found[name] is None
        else:
            assert torch.equal(found[name], grad) and not found[name].requires_grad
    for (_, value), old in zip(named, before):
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.to_dense(), old.to_dense())


def test_grad_attributes_and_functional_gradients():
    model = mlp()
    x, y = batch()
    nn.functional.cross_entropy(model(x), y).backward()
    attributes = normalise(model, {name: p.grad for name, p in model.named_parameters()})

    def loss(parameters):
        return nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

    functional = normalise(model, torch.func.grad(loss)(dict(model.named_parameters())))
    for name, grad in TRUTH.items():
        assert torch.allclose(attributes[name], grad) and torch.allclose(functional[name], grad)


@pytest.mark.parametrize("form", ["as it is", "requires grad", "array", "transposed view", "strided view"])
def test_nothing_is_copied(form):
    given_values = {name: REPRESENTATIONS[form](grad) for name, grad in TRUTH.items()}
    found = normalise(MODEL, given_values)
    for name, value in given_values.items():
        assert np.shares_memory(found[name].numpy(), np.asarray(torch.as_tensor(value).detach()))


def test_an_expanded_view_stays_a_view():
    wide = {"0.weight": torch.ones(1, 1, dtype=torch.float64).expand(40, 12), "0.bias": torch.ones(40)}
    assert normalise(MODEL, wide)["0.weight"].untyped_storage().nbytes() == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_and_the_rest_left_alone(dtype):
    mixed = dict(TRUTH) | {"0.weight": TRUTH["0.weight"].to(dtype), "0.bias": TRUTH["0.bias"].float()}
    found = normalise(mlp(dtype=torch.float32), mixed)
    assert [found[name].dtype for name in ("0.weight", "0.bias", "2.weight")] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]


def test_state_dict_order_with_buffers_and_counters():
    model = nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 5))
    state = [
        torch.full(value.shape, float(k)) if value.ndim else np.int64(7)
        for k, value in enumerate(model.state_dict().values())
    ]
    wanted = {"0.weight": 0, "0.bias": 1, "1.weight": 2, "1.bias": 3, "3.weight": 7, "3.bias": 8}
    for values in (state, [value for value in state if not isinstance(value, np.int64)]):
        found = normalise(model, values)
        assert {name: float(grad.flatten()[0]) for name, grad in found.items()} == wanted


def test_a_sequence_of_the_trainable_parameters_alone():
    model = mlp()
    model[0].requires_grad_(False)
    trainable = [p.data for p in model.parameters() if p.requires_grad]
    found = normalise(model, trainable)
    assert found["0.weight"] is None and torch.equal(found["4.weight"], model[4].weight)


def test_a_mapping_may_hold_buffers_and_both_names_of_a_tied_parameter():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    found = normalise(model, {name: torch.ones_like(v) for name, v in model.state_dict().items()})
    assert list(found) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.bias"]


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("module.0.weight", "0.weight"),
        ("_orig_mod.module._module.a.module.weight", "a.module.weight"),
        ("module", "module"),
    ],
)
def test_only_leading_wrappers_are_stripped(name, bare):
    assert strip(name) == bare


VALUES = list(TRUTH.values())


@pytest.mark.parametrize(
    ("gradients", "error", "match"),
    [
        (VALUES[:5], InputError, r"6 \(model.parameters\(\)\), got 5"),
        ([*VALUES, VALUES[0]], InputError, "got 7 or more"),
        ((VALUES[0] for _ in iter(int, 1)), InputError, "got 7 or more"),
        ([], InputError, "got 0"),
        ({"0.weights": VALUES[0]}, InputError, r"\('0.weight', '0.bias', .*got '0.weights'"),
        ({3: VALUES[0]}, InputTypeError, "must be strings, got 3"),
        (VALUES[0], InputTypeError, "must be a mapping .* got Tensor"),
        ("0.weight", InputTypeError, "got str"),
        (None, InputTypeError, "got NoneType"),
        (MODEL, InputTypeError, "got Sequential"),
        ({"0.weight": VALUES[0].T}, InputError, r"must be of shape \(40, 12\), got \(12, 40\): transposed\?"),
        (
            [VALUES[1], VALUES[0], *VALUES[2:]],
            InputError,
            r"gradient of '0.weight' must be of shape \(40, 12\)",
        ),
        ({"0.weight": VALUES[0].long()}, InputTypeError, "floating-point numbers, got torch.int64"),
        ({"0.weight": VALUES[0] > 0}, InputTypeError, "floating-point numbers, got torch.bool"),
        ({"0.weight": VALUES[0] * 1j}, InputTypeError, "floating-point numbers, got torch.complex128"),
        ({"0.weight": VALUES[0].to("meta")}, InputTypeError, "must hold data"),
        ({"0.weight": VALUES[0].tolist()}, InputTypeError, "must be a tensor or an array, got list"),
        ({"0.weight": np.array([["a"] * 12] * 40)}, InputTypeError, "numeric array, got ndarray of <U1"),
        ({"0.weight": np.array([[None] * 12] * 40)}, InputTypeError, "numeric array, got ndarray of object"),
        (
            {"0.bias": torch.full((40,), torch.nan)},
            InputError,
            r"gradient of '0.bias' must be finite, got 40 NaN",
        ),
        (
            {"0.bias": torch.tensor([torch.inf, -torch.inf, torch.nan, *[0.0] * 37])},
            InputError,
            "got 1 NaN and 2 infinite of 40 entries",
        ),
        (dict.fromkeys(TRUTH), MissingGradient, "got none"),
        ({}, MissingGradient, "got none"),
        ([torch.zeros_like(v) for v in VALUES], MissingGradient, "all zero: no samples"),
    ],
)
def test_refusals(gradients, error, match):
    with pytest.raises(error, match=match):
        normalise(MODEL, gradients)


def test_a_model_is_needed():
    with pytest.raises(InputTypeError, match=r"must be a torch.nn.Module, got dict"):
        normalise({}, TRUTH)
    with pytest.raises(InputError, match="must have parameters, got ReLU"):
        normalise(nn.ReLU(), TRUTH)


NAMES = {
    "checkpointed inside": lambda name: name.replace(".", "._checkpoint_wrapped_module."),
    "sharded inside": lambda name: name.replace(".", "._fsdp_wrapped_module."),
    "trainer": lambda name: f"model.{name}",
    "adapters": lambda name: f"base_model.model.{name}",
    "data parallel trainer": lambda name: f"module.model.{name}",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_with_wrappers_in_front_and_in_between(kind):
    found = normalise(MODEL, {NAMES[kind](name): grad for name, grad in TRUTH.items()})
    assert all(torch.equal(found[name], grad) for name, grad in TRUTH.items())


def test_the_model_may_be_inside_the_trainer_and_the_mapping_nested():
    found = normalise(Wrapped("model", MODEL), {name: TRUTH[name] for name in ("2.weight", "2.bias")})
    assert torch.equal(found["model.2.weight"], TRUTH["2.weight"]) and found["model.0.weight"] is None
    nested = {"2": {"weight": TRUTH["2.weight"], "bias": TRUTH["2.bias"]}}
    assert torch.equal(normalise(MODEL, nested)["2.weight"], TRUTH["2.weight"])


def test_no_prefix_is_guessed_where_two_would_fit():
    two = nn.ModuleDict({"left": mlp(), "right": mlp()})
    with pytest.raises(InputError, match="must be those of the model's parameters"):
        normalise(two, TRUTH)
    with pytest.raises(InputError, match=r"got 'Dense_0.kernel': transpose a kernel \(n, m\)"):
        normalise(MODEL, {"Dense_0": {"kernel": TRUTH["0.weight"].T}})
    with pytest.raises(
        InputError, match=r"got \(3, 40, 12\): per-sample gradients\? Pass their sum over the first"
    ):
        normalise(MODEL, [torch.stack([grad] * 3) for grad in TRUTH.values()])


def test_an_expanded_view_is_never_written_out():
    side = 10**5  # 40 GB in float32
    for one in (torch.ones(1, 1), torch.ones(1, 1).half()):
        assert check_finite(as_real(one.expand(side, side), "it"), "it") is None
    assert as_real(np.broadcast_to(np.float32(1), (side, side)), "it").shape == (side, side)
    with pytest.raises(InputError, match="got 10000000000 NaN and 0 infinite of 10000000000"):
        check_finite(torch.full((1, 1), torch.nan).expand(side, side), "it")
    with pytest.raises(InputError, match=r"must be of shape \(40, 12\), got \(100000, 100000\)"):
        normalise(MODEL, {"0.weight": np.broadcast_to(np.float16(1), (side, side))})
