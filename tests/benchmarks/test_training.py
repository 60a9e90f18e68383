"""The training script learns, and what it has trained is inverted as a fresh network is."""

import runpy
from pathlib import Path

import torch

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics
from tests.core.zoo import seeded

train = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "_training.py"))["train"]


def test_a_trained_network_has_learnt_and_leaks_all_the_same():
    model = fully_connected(64, 200, 3, generator=seeded())
    assert train(model, "digits", epochs=6, generator=seeded()) > 0.6
    assert all(parameter.grad is None for parameter in model.parameters())
    batch = data.load("digits", 6, generator=seeded(1))
    found = spear_core.invert(model, client.gradients(model, batch.inputs, batch.labels), time_limit=20)
    assert metrics.compare(found.inputs, batch.inputs).exact.all()


def test_one_seed_is_one_training():
    models = [fully_connected(64, 30, 2, generator=seeded()) for _ in range(2)]
    assert train(models[0], epochs=1, generator=seeded(3)) == train(models[1], epochs=1, generator=seeded(3))
    assert torch.equal(models[0][0].weight, models[1][0].weight)


def test_inputs_of_every_layer_come_back():
    model = fully_connected(64, 150, 4, generator=seeded())
    batch = data.load("digits", 5, generator=seeded(1))
    sent = client.gradients(model, batch.inputs, batch.labels)
    for layer in (0, 2, 4):
        found = spear_core.invert(model, sent, layer=str(layer))
        assert metrics.compare(found.inputs, model[:layer](batch.inputs)).exact.all()
