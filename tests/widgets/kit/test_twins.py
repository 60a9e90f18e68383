"""Clients whose first two samples resemble each other."""

import pytest
import torch

from spear_widgets.kit import twins
from spear_widgets.kit.scene import scene


def test_near_twins_differ_by_a_little_noise():
    stage = twins.client_with("photos", 4, 100, 3, "near")
    X, labels = stage.batch.inputs, stage.batch.labels
    assert 0 < float((X[1] - X[0]).std()) < 2 * twins.NEAR
    assert labels[0] != labels[1]
    assert torch.equal(X[2:], scene("photos", 4, 100, 3).batch.inputs[2:])


@pytest.mark.parametrize("name", ["photos", "digits"])
def test_same_twins_have_one_pattern_and_are_two(name: str):
    stage = twins.client_with(name, 4, 100, 3, "same")
    pattern = stage.preactivations > 0
    assert torch.equal(pattern[0], pattern[1])
    assert not torch.equal(stage.batch.inputs[0], stage.batch.inputs[1])


def test_other_twins_are_refused():
    with pytest.raises(ValueError, match='twins must be "none", "near" or "same"'):
        twins.client_with("photos", 4, 100, 3, "triplets")
