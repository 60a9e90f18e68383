"""The attacks before SPEAR: faithful enough to work where their papers say that they work."""

import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.study.approximate import (
    Guess,
    best_so_far,
    deep_leakage,
    inverting_gradients,
    total_variation,
)
from spear_core.study.metrics import compare
from tests.core.zoo import seeded


def smooth_network(n=12, width=40, classes=5):
    """DLG wants a smooth network: ReLU has no second derivative."""
    model = nn.Sequential(nn.Linear(n, width), nn.Sigmoid(), nn.Linear(width, classes)).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5, generator=seeded(1))
    return model


def test_deep_leakage_recovers_a_single_sample_and_its_label():
    model, x = smooth_network(), torch.randn(1, 12, generator=seeded()).double()
    grads = client.gradients(model, x, torch.tensor([3]))
    *_, last = deep_leakage(model, grads, x.shape, 5, steps=60, generator=seeded(2))
    assert last.labels.tolist() == [3]
    assert float(compare(last.inputs, x).psnr) > 60


def test_deep_leakage_measures_the_distance_of_the_gradients():
    model, x = smooth_network(), torch.randn(2, 12, generator=seeded()).double()
    grads = client.gradients(model, x, torch.tensor([3, 0]))
    guesses = list(deep_leakage(model, grads, x.shape, 5, steps=20, generator=seeded(2)))
    assert [guess.step for guess in guesses] == list(range(21))
    assert guesses[-1].objective < 1e-3 * guesses[0].objective


def test_inverting_gradients_comes_closer_to_a_smooth_picture():
    shape = (1, 6, 6)
    model = smooth_network(36, 60)
    ramp = torch.linspace(-1, 1, 6, dtype=torch.float64)
    x = (ramp[:, None] + ramp[None, :]).reshape(1, 36) / 2
    labels = torch.tensor([2])
    bounds = (x.min(), x.max())
    grads = client.gradients(model, x, labels)
    first, *_, last = inverting_gradients(
        model, grads, labels, shape, bounds=bounds, steps=300, generator=seeded(3)
    )
    assert float(compare(last.inputs, x).psnr) > 25 > float(compare(first.inputs, x).psnr)
    assert last.objective < first.objective
    assert bounds[0] <= last.inputs.min() and last.inputs.max() <= bounds[1]


def test_the_model_is_left_as_it_is():
    model, x = smooth_network(), torch.randn(2, 12, generator=seeded()).double()
    labels = torch.tensor([1, 4])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = client.gradients(model, x, labels)
    list(deep_leakage(model, grads, x.shape, 5, steps=2, generator=seeded()))
    list(inverting_gradients(model, grads, labels, (1, 3, 4), steps=2, generator=seeded()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_total_variation_is_that_of_the_loops():
    x = torch.randn(2, 2 * 3 * 4, generator=seeded()).double()
    pixels = x.reshape(2, 2, 3, 4)
    down = [
        abs(float(pixels[i, c, h + 1, w] - pixels[i, c, h, w]))
        for i in range(2)
        for c in range(2)
        for h in range(2)
        for w in range(4)
    ]
    across = [
        abs(float(pixels[i, c, h, w + 1] - pixels[i, c, h, w]))
        for i in range(2)
        for c in range(2)
        for h in range(3)
        for w in range(3)
    ]
    expected = sum(down) / len(down) + sum(across) / len(across)
    assert float(total_variation(x, (2, 3, 4))) == pytest.approx(expected)


def test_the_best_so_far_is_kept_where_the_run_leaves_it():
    guesses = [
        Guess(torch.full((1, 2), float(k)), torch.zeros(1), objective, k)
        for k, objective in enumerate([5.0, 3.0, 4.0, 9.0, 1.0])
    ]
    assert best_so_far(iter(guesses), 4)[:, 0, 0].tolist() == [0, 1, 1, 1, 4]
    assert best_so_far(iter(guesses), 2)[:, 0, 0].tolist() == [0, 1, 4]
