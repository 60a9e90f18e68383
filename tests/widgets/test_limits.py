"""The explorer of defences: what it shows is what the library finds, and refusals are outcomes."""

import pytest
import torch
from traitlets import TraitError

from spear_core import metrics
from spear_core.defended import DEFENCES, message, outcome
from widgets import limits as explore
from widgets import limits_questions as questions
from widgets import stored


@pytest.fixture(scope="module")
def explorer() -> explore.DefenceExplorer:
    return explore.DefenceExplorer()


def test_every_value_of_every_defence_was_measured_ten_times():
    for name, defence in DEFENCES.items():
        for value in defence.values:
            assert len(explore.measured(name, value)) == 10
            found, of = explore.counted(name, value)
            assert 0 <= found <= of
    for row in stored.results("defences", "accuracy"):
        assert explore.accuracy(row["defence"], row["value"]) > 0.1


@pytest.mark.parametrize("name", ["noise", "clip", "bits", "hidden", "norm", "copies"])
def test_each_step_of_the_knob_shows_what_the_attack_finds(explorer, name: str):
    explorer.set(defence=name, knob=0)
    for knob in reversed(range(len(DEFENCES[name].values))):
        explorer.control["knob"].value = knob
        assert explorer.status.value == ""
        wanted = outcome(message(name, DEFENCES[name].values[knob]), time_limit=explore.SECONDS)
        assert torch.allclose(explorer.found.psnr, wanted.psnr, rtol=1e-3)  # threads add up in another order
        said = wanted.words.split(", got")[0]  # what was got may be rounding, which threads do not repeat
        assert said in explorer.caption.value.replace("&#x27;", "'")
        assert ("nothing certified" in explorer.caption.value) == (
            not wanted.words and not wanted.certified.any()
        )


def test_a_shorter_knob_is_fitted_and_reset_leads_back(explorer):
    explorer.reset()
    first = explorer.picture["picture"].value
    explorer.control["knob"].value = 6
    explorer.control["defence"].value = "format"
    assert explorer.values["knob"] == 2 and explorer.status.value == ""
    explorer.set(kind="digits", seed=3)
    assert explorer.sent.batch.inputs.shape == (8, 64)
    with pytest.raises(TraitError):
        explorer.set(defence="prayer")
    explorer.reset()
    assert explorer.picture["picture"].value == first


def test_a_failing_attack_is_shown_and_raised(explorer, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("no attack")

    explorer.reset()
    monkeypatch.setattr(explore, "attacked", fail)
    explorer.control["knob"].value = 1
    assert explorer.status.value == "Error: no attack"
    with pytest.raises(FloatingPointError):
        explorer.refresh()
    monkeypatch.undo()
    explorer.reset()
    assert explorer.status.value == ""


def test_exact_is_said_of_exact_batches_only(explorer):
    explorer.reset()
    for knob in range(7):
        explorer.control["knob"].value = knob
        exact = bool((explorer.found.psnr >= metrics.EXACT_DB).all())
        assert ("<b>exact</b>" in explorer.caption.value) == exact


@pytest.mark.parametrize(
    "make", [questions.noise, questions.clipping, questions.aggregation, questions.short_numbers]
)
def test_questions_know_their_answer(make):
    question = make()
    measured = question.measure()
    assert [question.commit(choice) for choice in question.choices] == [
        choice == measured for choice in question.choices
    ]
