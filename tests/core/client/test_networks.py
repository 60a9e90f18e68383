"""Networks of any width, depth and activation, from a seed."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spear_core.client.networks import fully_connected
from tests.core.zoo import seeded


@given(inputs=st.integers(1, 9), width=st.integers(1, 9), depth=st.integers(1, 6), classes=st.integers(1, 5))
def test_depth_linear_layers_with_activations_between(inputs, width, depth, classes):
    model = fully_connected(inputs, width, depth, classes, generator=seeded())
    layers = [module for module in model if isinstance(module, nn.Linear)]
    sizes = [inputs, *[width] * (depth - 1), classes]
    assert [(layer.in_features, layer.out_features) for layer in layers] == list(pairwise(sizes))
    assert [type(module) for module in model] == [nn.Linear, *[nn.ReLU, nn.Linear] * (depth - 1)]
    assert model(torch.zeros(3, inputs)).shape == (3, classes)


def test_one_width_per_layer_sets_the_depth():
    model = fully_connected(4, [7, 3, 5], classes=2, generator=seeded())
    assert [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Linear)] == [
        (7, 4),
        (3, 7),
        (5, 3),
        (2, 5),
    ]


def test_forward_is_the_chain_written_out(dtype):
    model = fully_connected(6, 8, 3, 4, activation=nn.GELU, generator=seeded(), dtype=dtype)
    x = torch.randn(5, 6, generator=seeded(), dtype=dtype)
    naive = x
    for number in (0, 2, 4):
        naive = naive @ model[number].weight.T + model[number].bias
        naive = nn.functional.gelu(naive) if number < 4 else naive
    torch.testing.assert_close(model(x), naive)
    assert all(parameter.dtype == dtype for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_are_spread_as_those_of_pytorch():
    """Uniform on ±n^−½: mean 0 and standard deviation n^−½/√3, both within five standard errors."""
    n = 300
    first = fully_connected(n, 400, 2, generator=seeded())[0]
    bound = n**-0.5
    reference = nn.Linear(n, 400)
    for name in ("weight", "bias"):
        ours, theirs = getattr(first, name).detach(), getattr(reference, name).detach()
        count = ours.numel()
        assert float(ours.abs().max()) <= bound
        assert float(theirs.abs().max()) <= bound
        assert abs(float(ours.mean())) < 5 * bound / (3 * count) ** 0.5
        assert float(ours.std()) == pytest.approx(bound / 3**0.5, rel=5 / count**0.5)
        assert float(theirs.std()) == pytest.approx(bound / 3**0.5, rel=5 / count**0.5)


def test_the_seed_is_all_there_is():
    torch.manual_seed(1)
    first = fully_connected(5, 6, 3, generator=seeded(3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = (
        fully_connected(5, 6, 3, generator=seeded(3)),
        fully_connected(5, 6, 3, generator=seeded(4)),
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first[0].weight, other[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0,), r"at least 1, got depth 6, sizes \[0, 400"),
        ((3, 0), r"at least 1, got depth 6, sizes \[3, 0"),
        ((3, 4, 0), "at least 1, got depth 0"),
        ((3, 4, 2, 0), r"sizes \[3, 4, 0\]"),
        ((3, [4, 0]), r"sizes \[3, 4, 0, 10\]"),
    ],
)
def test_empty_layers_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        fully_connected(*arguments)
