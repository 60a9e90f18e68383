"""The explorer of defences: what it shows is what the library finds, at once or when the attack has ended."""

import asyncio

import pytest
import torch
from traitlets import TraitError

from spear_core.study import metrics
from spear_core.study.defended import DEFENCES, message
from spear_core.study.outcomes import SECONDS, outcome
from spear_widgets.limits import defences, questions
from tests.thorough import thorough


@pytest.fixture(scope="module")
def explorer() -> defences.DefenceExplorer:
    return defences.DefenceExplorer()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(defences, "SETTLED", 0.0)
    monkeypatch.setattr(defences, "LOOK", 0.005)


@pytest.mark.parametrize("name", ["clip", "hidden", "norm", "copies", *thorough("bits", "noise")])
def test_each_step_of_the_knob_shows_what_the_attack_finds(explorer, name: str):
    explorer.set(defence=name, knob=0)
    for knob in reversed(range(len(DEFENCES[name].values))):
        explorer.control["knob"].value = knob
        assert explorer.status.value == ""
        wanted = outcome(message(name, DEFENCES[name].values[knob]), time_limit=SECONDS)
        # threads add up in another order
        assert torch.allclose(explorer.attempt.found.psnr, wanted.psnr, rtol=1e-3)
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
    assert explorer.attempt.batch.inputs.shape == (8, 64)
    with pytest.raises(TraitError):
        explorer.set(defence="prayer")
    explorer.reset()
    assert explorer.picture["picture"].value == first


def test_a_failing_attack_is_shown_and_raised(explorer, monkeypatch):
    def fail(*arguments, **options):
        raise FloatingPointError("no attack")

    explorer.reset()
    monkeypatch.setattr(defences, "outcome", fail)
    monkeypatch.setattr(explorer, "_attempts", {})
    explorer.control["knob"].value = 1
    assert explorer.status.value == "Error: no attack"
    with pytest.raises(FloatingPointError):
        explorer.refresh()
    monkeypatch.undo()
    explorer.reset()
    assert explorer.status.value == ""


def test_the_words_are_those_of_the_numbers(explorer):
    explorer.reset()
    for knob in range(7):
        explorer.control["knob"].value = knob
        psnr, words = explorer.attempt.found.psnr, explorer.caption.value
        assert ("<b>all exact</b>" in words) == bool((psnr >= metrics.EXACT_DB).all())
        assert ("<b>lost</b>" in words) == (not bool((psnr >= metrics.SEEN_DB).any()))
        assert f"{int((psnr >= metrics.SEEN_DB).sum())} of 8 recognisable" in words


def test_a_clock_that_ran_out_is_no_protection(explorer):
    nothing = outcome(message("batch", 240), time_limit=0.1)
    attempt = defences.Attempt(explorer.attempt.batch, nothing, late=True)
    assert "Time ran out" in defences.verdict(attempt) and "lost" not in defences.verdict(attempt)


# ---------------------------------------------------------------- while an attack runs
async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_curves_come_at_once_and_the_attack_can_be_stopped(explorer):
    explorer.reset()
    before = explorer.picture["curves"].value, explorer.picture["picture"].value

    async def page() -> None:
        explorer.set(defence="dropout", knob=3)
        assert explorer.attempt is None and "is running" in explorer.caption.value
        assert explorer.picture["curves"].value != before[0]
        assert explorer.picture["picture"].value != before[1]  # pale
        await until(lambda: explorer._attack.latest is not None)
        assert explorer.job.running and explorer.job.layout.visibility == "visible"
        explorer.job.stop_button.click()
        await until(lambda: explorer.job.layout.visibility == "hidden")

    asyncio.run(page())
    assert "Stopped: the best so far" in explorer.caption.value
    assert explorer.setting not in explorer._attempts  # half an attack is not shown again as a whole one
    assert explorer._attack.seconds < 60 and explorer.status.value == ""


def test_stopped_before_it_began(explorer, monkeypatch):
    monkeypatch.setattr(defences, "SETTLED", 60.0)
    explorer.reset()

    async def page() -> None:
        explorer.set(defence="dropout", knob=2)
        await asyncio.sleep(0.02)
        explorer.job.stop_button.click()
        await until(lambda: explorer.job.layout.visibility == "hidden")

    asyncio.run(page())
    assert "Stopped before anything came back" in explorer.caption.value


def test_a_move_ends_the_attack_of_the_setting_before(explorer):
    explorer.reset()
    attacks = []

    async def page() -> None:
        explorer.set(defence="dropout", knob=4)
        attacks.append(explorer._attack)
        await until(lambda: attacks[0].latest is not None)
        explorer.set(defence="clip", knob=1, seed=7)
        assert attacks[0].stopped
        await until(lambda: explorer.attempt is not None)

    asyncio.run(page())
    assert not attacks[0].is_alive()
    assert "clipping" in explorer.caption.value and "<b>all exact</b>" in explorer.caption.value
    assert explorer.attempt is explorer._attempts["clip", 1.0, "photos", 7]


def test_the_page_without_a_kernel_shows_a_result():
    data, metadata = defences.DefenceExplorer()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == defences.DefenceExplorer.description
    assert defences.title_picture().picture.width > 600


@pytest.mark.parametrize(
    "make",
    [
        questions.noise,
        questions.clipping,
        questions.aggregation,
        questions.short_numbers,
        questions.dropout,
    ],
)
def test_questions_know_their_answer(make):
    question = make()
    measured = question.measure()
    assert [question.commit(choice) for choice in question.choices] == [
        choice == measured for choice in question.choices
    ]
