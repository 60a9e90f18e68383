"""Explorers of step 3 as a filter: error rates and two stages, against counting."""

import pytest
import torch
from traitlets import TraitError

from spear_core.study import theory
from spear_core.study.candidates import two_stages
from spear_widgets.sampling.stages import StageExplorer
from spear_widgets.sampling.threshold import (
    ASKED_TAU,
    LAYER_SAMPLES,
    LAYER_UNITS,
    THRESHOLDS,
    WIDTHS,
    ThresholdExplorer,
    fresh_shares,
    rejected_of,
)


@pytest.fixture(scope="module")
def shared_threshold() -> ThresholdExplorer:
    return ThresholdExplorer()


@pytest.fixture
def threshold(shared_threshold):
    shared_threshold.reset()
    return shared_threshold


@pytest.mark.parametrize("name", ["photos", "digits", "breast_cancer"])
def test_fresh_layers_follow_the_coin(name: str):
    shares = fresh_shares(name, 50)
    assert len(shares) == LAYER_UNITS // 50 * LAYER_SAMPLES
    # four samples share a layer: the layers alone are independent; six standard deviations
    layers = LAYER_UNITS // 50
    for tau in (0.4, 0.5):
        measured = float((shares < tau - 1e-6).double().mean())
        expected = theory.false_rejection(50, tau)
        assert abs(measured - expected) < 6 * (expected * (1 - expected) / layers) ** 0.5


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_counted_lies_on_the_formula(width: int):
    found, of = rejected_of(width)
    assert of == LAYER_UNITS // width * LAYER_SAMPLES
    expected = theory.false_rejection(width, ASKED_TAU) * of / LAYER_SAMPLES  # layers alone are independent
    assert abs(found / LAYER_SAMPLES - expected) < 4 * expected**0.5 + 1


def test_every_threshold(threshold):
    rejected, accepted = [], []
    for tau in THRESHOLDS:
        threshold.control["threshold"].value = tau
        assert threshold.status.value == ""
        rejected.append(threshold.rejected)
        accepted.append(threshold.accepted)
        assert f"τ = {tau:.2f}" in threshold.caption.value
    assert rejected == sorted(rejected)
    assert accepted == sorted(accepted, reverse=True)
    assert accepted[0] > 0.9 > 0.1 > rejected[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("b", [3, 10])
def test_widths_and_batches(threshold, width: int, b: int):
    threshold.set(width=width, batch_size=b)
    assert threshold.candidates.zero.shape[1] == width
    assert threshold.stage.batch_size == b
    assert threshold.status.value == ""


def test_back_and_forth_gives_the_same_picture(threshold):
    first = threshold.picture["picture"].value
    threshold.set(batch_size=4, threshold=0.5)
    assert threshold.picture["picture"].value != first
    threshold.reset()
    assert threshold.picture["picture"].value == first


def test_bad_thresholds(threshold):
    with pytest.raises(TraitError):
        threshold.set(width=123)
    threshold.set(threshold=7.0)
    assert threshold.values["threshold"] == THRESHOLDS[-1]


def test_a_failure_is_told_in_words(threshold, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no layers")

    monkeypatch.setattr("spear_widgets.sampling.threshold.fresh_shares", fail)
    threshold.control["batch_size"].value = 9
    assert threshold.status.value == "Error: no layers"
    monkeypatch.undo()
    threshold.reset()
    assert threshold.status.value == ""


# ---------------------------------------------------------------- two stages
def test_stage_explorer_everywhere():
    stages = StageExplorer()
    for rows in (4, 64, 24, 5):
        for zeros in (0, 16, 4):
            stages.set(rows=rows, zeros=zeros)
            assert stages.status.value == ""
            assert stages.control["zeros"].max == min(16, rows)
            used = stages.control["zeros"].value
            assert stages.state == two_stages(stages.candidates, rows, used)
    stages.set(rows=24, zeros=0)
    assert stages.state.passed == 1
    assert "nothing saved" in stages.caption.value
    stages.set(zeros=1)
    assert "24 rows, 1 zero wanted:" in stages.caption.value
    stages.reset()
    assert stages.values == {"rows": 24, "zeros": 4}
    assert stages.state.lost < 0.01 < stages.candidates.zero.shape[1] / stages.state.entries - 3


def test_torch_threads_are_left_alone(threshold):
    before = torch.get_num_threads()
    threshold.refresh()
    assert torch.get_num_threads() == before
