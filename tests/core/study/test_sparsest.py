"""Zeros alone: dropout and moved zeros do not hide a batch, and the greedy choice is the plain one."""

import pytest
import torch

from spear_core import client
from spear_core.client import networks
from spear_core.spear.records import Pool
from spear_core.spear.selection import greedy
from spear_core.study import metrics
from spear_core.study.defended import message
from spear_core.study.sparsest import APART, sparsest_batch
from tests.thorough import thorough


def found(sent) -> metrics.Score:
    grads = sent.gradients["0.weight"], sent.gradients["0.bias"]
    inputs = sparsest_batch(*grads, 8, generator=torch.Generator().manual_seed(0))
    return metrics.compare(inputs, sent.batch.inputs)


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
def test_dropout_hides_nothing_from_it(share: float, seed: int):
    assert bool(found(message("dropout", share, seed=seed)).exact.all())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [2, 4])
def test_minibatches_of_one_epoch_hide_nothing_from_it(size: int, seed: int):
    assert bool(found(message("minibatch", size, seed=seed)).exact.all())


def test_nothing_comes_of_gradients_without_zeros():
    assert not found(message("activation", "Tanh")).exact.any()


def test_the_same_seed_gives_the_same_batch_and_the_dtype_is_that_of_the_gradients():
    sent = message("dropout", 0.1)
    runs = [
        sparsest_batch(
            sent.gradients["0.weight"].to(dtype),
            sent.gradients["0.bias"].to(dtype),
            8,
            generator=torch.Generator().manual_seed(3),
        )
        for dtype in (torch.float32, torch.float32, torch.float64)
    ]
    assert torch.equal(runs[0], runs[1]) and runs[2].dtype == torch.float64


def test_too_narrow_a_layer_is_refused():
    model = networks.fully_connected(30, 6, 3, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(8, 30, generator=torch.Generator().manual_seed(1))
    grads = client.gradients(model, inputs, torch.arange(8))
    with pytest.raises(ValueError, match="batch_size must be above 0 and below m and n, got 8"):
        sparsest_batch(grads["0.weight"], grads["0.bias"], 8)


def test_independent_directions_are_taken_by_their_zeros():
    e = torch.eye(3, dtype=torch.float64)
    mixed = (e[0] + e[1]) / 2**0.5
    near = e[0] + 0.5 * APART * e[1]  # no other direction than the first
    directions = torch.stack([e[0], near / near.norm(), -e[0], mixed, e[1], e[2]], dim=1)
    pool = Pool(directions, torch.tensor([9, 8, 8, 3, 5, 7]), torch.ones(6, dtype=torch.bool))
    assert greedy(pool, APART) == (0, 5, 4)
    assert greedy(pool)[:2] == (0, 1)
