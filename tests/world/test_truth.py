"""The judge itself: that it sees what is wrong, and lets pass what is right."""

import time
from dataclasses import replace

import pytest
import torch
from torch import nn

import spear_core
from benchmarks.world import promises, truth
from benchmarks.world.client import Client, Fed
from spear_core import client
from tests.core.zoo import batch, mlp, seeded

ROWS = torch.randn(5, 12, generator=seeded(), dtype=torch.float64)
PATTERNS = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [2, 0, 1]]).double()
FED = Fed(ROWS, PATTERNS)


@pytest.mark.parametrize(
    "row, text",
    [
        (ROWS[3], "a sample a second time"),
        (ROWS[2] / 2, "a sample times 0.5"),
        (0.3 * ROWS[0] + 0.7 * ROWS[1], "a mean of one pattern"),
        (0.3 * ROWS[0] + 0.7 * ROWS[4], "a mixture of one pattern, though output errors differ"),
        (0.3 * ROWS[0] + 0.7 * ROWS[2], "a mixture of two, between them"),
        (-9 * ROWS[3] + 10 * ROWS[4], "a mixture of two, beyond them"),
        (ROWS[2] + ROWS[3] - ROWS[4], "a mixture of several"),
        (ROWS[0] + 1e-3, "nothing known, "),
    ],
)
def test_what_is_no_sample_is_called_what_it_is(row, text):
    fed = FED if "several" not in text else Fed(ROWS[2:], PATTERNS[2:])
    assert truth.what(row, fed).startswith(text)


def inversion() -> tuple[spear_core.Inversion, Fed]:
    model, (inputs, labels) = mlp(), batch()
    me = Client(None, model, nn.functional.cross_entropy, (inputs, labels), lambda: None)
    found = spear_core.invert(model, me.gradient())
    return found, me.fed("0", (40, 12))


def test_what_is_right_passes_in_any_order():
    found, fed = inversion()
    assert found.certified
    assert not truth.false_rows(found, fed)
    assert not truth.missing(found, fed)
    assert not truth.false_rows(found, Fed(fed.rows.flip(0), fed.output_grads.flip(0)))


def test_what_was_certified_and_is_wrong_is_seen():
    found, fed = inversion()
    shifted = found.inputs.clone()
    shifted[1] *= 1 + 1e-3
    assert truth.false_rows(replace(found, inputs=shifted), fed) == ["a sample times 1"]
    doubled = found.inputs[[0, 0, 1, 2]]
    assert truth.false_rows(replace(found, inputs=doubled), fed) == ["a sample a second time"]
    assert truth.missing(replace(found, inputs=doubled), fed) == 1
    modest = replace(found, inputs=shifted, certified_rows=torch.arange(4) != 1)
    assert not truth.false_rows(modest, fed)


def test_the_client_remembers_what_it_fed_into_every_layer():
    model, (inputs, labels) = mlp(), batch()
    me = Client(None, model, nn.functional.cross_entropy, (inputs, labels), lambda: None)
    grads = me.gradient()
    expected = client.gradients(model, inputs, labels)
    assert all(torch.equal(grads[name], grad) for name, grad in expected.items())
    me.gradient((inputs[:2] + 1, labels[:2]))  # another pass
    first, hidden = me.fed("0", (40, 12)), me.passes[0]["2"]
    assert torch.equal(first.rows, torch.cat([inputs, inputs[:2] + 1]))
    assert torch.allclose(first.output_grads[:4].T @ inputs, grads["0.weight"])
    assert torch.equal(hidden.rows, model[:2](inputs))


def test_a_change_of_anything_is_seen():
    model, (inputs, labels) = mlp(), batch()
    grads = client.gradients(model, inputs, labels)
    before = promises.snapshot(model, grads)
    assert not promises.changed(before, promises.snapshot(model, grads))
    with torch.random.fork_rng():
        torch.rand(1)
        assert promises.changed(before, promises.snapshot(model, grads)) == ["random state of torch"]
    grads["2.bias"][0] += 1e-12
    assert promises.changed(before, promises.snapshot(model, grads)) == ["gradient of 2.bias"]
    grads["2.bias"][0] -= 1e-12
    model.eval()
    assert "training of '0'" in promises.changed(before, promises.snapshot(model, grads))


def test_what_does_not_come_back_is_ended():
    with pytest.raises(promises.Overrun), promises.ended_after(0.05):
        began = time.process_time()
        while time.process_time() - began < 20:
            pass
