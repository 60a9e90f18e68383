"""The full run shows what `spear_core.invert` returns, never more: refused, stopped, failed, changed meanwhile."""

import asyncio
import dataclasses
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from traitlets import TraitError

import spear_core
from spear_core.certificate.record import Claim
from spear_core.study.metrics import compare
from spear_widgets.kit.scene import scene
from spear_widgets.start import full_run, questions

SMALL = {"batch_size": 4, "width": 100}


@pytest.fixture
def full() -> full_run.FullRun:
    made = full_run.FullRun()
    made.set(**SMALL)
    return made


def test_it_begins_with_a_result():
    full = full_run.FullRun()
    assert full.outcome is not None
    assert full.outcome.inversion.certified
    assert "all proven exact" in full.caption.value
    assert full.status.value == ""


def test_a_new_setting_has_no_result_until_it_is_run(full):
    assert full.outcome is None
    assert "Run the attack" in full.caption.value
    full.run()
    wanted = spear_core.invert(full.stage.model, full.stage.gradients, method="sampling")
    assert torch.equal(full.outcome.inversion.inputs, wanted.inputs)
    assert full.outcome.score.exact.tolist() == compare(wanted.inputs, full.stage.batch.inputs).exact.tolist()
    assert full.status.value == ""
    assert not full.job.running


def test_a_result_is_kept_for_its_setting_only(full):
    full.run()
    outcome = full.outcome
    full.set(seed=4)
    assert full.outcome is None
    full.set(seed=3)
    assert full.outcome is outcome
    full.reset()
    assert full.values["batch_size"] == 8
    assert full.outcome is not None


@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
@pytest.mark.parametrize(("b", "depth"), [(1, 2), (16, 8), (12, 3)])
def test_every_data_first_and_last_setting(full, data: str, b: int, depth: int):
    full.set(data=data, batch_size=b, depth=depth, width=400)
    full.run()
    assert full.status.value == ""
    outcome = full.outcome
    if outcome.inversion is not None and outcome.inversion.certified:
        assert outcome.score.exact.all()


def test_bad_values(full):
    with pytest.raises(TraitError):
        full.set(width=3)
    with pytest.raises(KeyError):
        full.set(layers=2)
    full.set(batch_size=1000)
    assert full.values["batch_size"] == 16


# ---------------------------------------------------------------- never exact unless certified
def doubted(inversion, claim=Claim.NOTHING):
    """A result of which no row is proven to be a sample."""
    none = torch.zeros_like(inversion.certified_rows)
    return dataclasses.replace(inversion, certified=False, certified_rows=none, claims=(claim,) * len(none))


def claims(stage, inversion) -> tuple[list[str], str]:
    """What the page marks each sample as, and what is said of the whole."""
    outcome = full_run.Outcome(inversion, compare(inversion.inputs, stage.batch.inputs), 0.1)
    return full_run.shown(stage, outcome)["claims"], full_run.words(stage, outcome)


def test_marks_tell_proven_rows_from_others():
    stage = scene("digits", 3, 100)
    inversion = spear_core.invert(stage.model, stage.gradients)
    marks, said = claims(stage, inversion)
    assert marks == ["sample"] * 3 and "all proven exact" in said
    marks, said = claims(stage, doubted(inversion))
    assert marks == ["nothing"] * 3 and "all proven" not in said
    assert "0 of 3 proven exact</b>, the rest not" in said
    marks, said = claims(stage, doubted(inversion, Claim.MEAN))
    assert marks == ["mean"] * 3
    assert "0 of 3 proven exact</b>, 3 a sample or a mean of several" in said


def test_one_sample_is_shown_as_what_it_is_proven_to_be(full):
    """A single float32 row may be a mean of several: the server is not told b."""
    full.set(batch_size=1)
    full.run_now()
    assert full.outcome.score.exact.all() and full.outcome.inversion.claims == (Claim.MEAN,)
    assert "0 of 1 proven exact</b>, 1 a sample or a mean of several" in full.caption.value


def test_missing_rows_are_left_out():
    stage = scene("digits", 3, 100)
    inversion = spear_core.invert(stage.model, stage.gradients)
    short = dataclasses.replace(
        doubted(inversion),
        inputs=inversion.inputs[:0],
        certified_rows=inversion.certified_rows[:0],
        claims=(),
    )
    marks, said = claims(stage, short)
    assert marks == ["missing"] * 3 and "0 of 3 samples came back" in said


def test_what_is_said_of_one_sample_has_units_and_no_infinities(full):
    full.set(batch_size=1)
    full.run_now()
    (said,) = full.live.data["said"]
    assert said.startswith("Sample 1: proven to be one sample, or a mean of several. Measured against")
    assert " dB" in said or "equal in every bit" in said
    assert "inf" not in said
    far = dataclasses.replace(full.outcome.inversion, inputs=full.outcome.inversion.inputs + 0.1)
    guess = full_run.Outcome(doubted(far), compare(far.inputs, full.stage.batch.inputs), 0.1)
    assert "a guess" in full_run.seen(guess, 0) and "not exact, which takes 90 dB" in full_run.seen(guess, 0)


def test_differences_are_magnified_until_they_are_seen():
    stage = scene("photos", 3, 100)
    inversion = spear_core.invert(stage.model, stage.gradients)
    score = compare(inversion.inputs, stage.batch.inputs)
    shown = full_run.shown(stage, full_run.Outcome(inversion, score, 0.1))
    gaps = (inversion.inputs[score.order].double() - stage.batch.inputs.double()) * stage.batch.scale
    for k, often in enumerate(shown["magnified"]):
        assert 0.05 <= float(gaps[k].abs().max()) * int(often.replace(",", "")) <= 0.5
        assert shown["differences"][k].std() > 0
    same = dataclasses.replace(inversion, inputs=stage.batch.inputs)
    again = full_run.shown(stage, full_run.Outcome(same, compare(same.inputs, same.inputs), 0.1))
    assert again["magnified"] == [""] * 3


def test_a_table_is_shown_as_numbers_in_its_own_units(full):
    full.set(data="breast_cancer", batch_size=6)
    assert full.live.data["table"]["recovered"] == [[""] * 30] * 6
    full.run_now()
    table, batch = full.live.data["table"], full.stage.batch
    assert table["columns"][0] == "mean radius" and len(table["columns"]) == 30
    assert table["recovered"] == table["private"]
    whole = load_breast_cancer().data
    numbers = np.array(table["private"], dtype=float)
    assert all(np.isclose(whole, row, rtol=1e-4).all(axis=1).any() for row in numbers)
    assert len(batch.inputs) == 6


# ---------------------------------------------------------------- refused, stopped, failed
def test_a_refusal_is_told_in_words(full, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("weight must be a <matrix>, got a vector, from a long story")

    monkeypatch.setattr(spear_core, "invert", refuse)
    full.run()
    assert full.outcome.inversion is None
    refused = "<b>Refused, before any search: weight must be a &lt;matrix&gt;.</b><br>Got a vector, from a long story"
    assert full.caption.value == refused
    assert full.live.data["phase"] == "refused" and "refuses" in full.live.data["prompt"]
    assert full.status.value == ""


def test_a_failure_is_told_in_words(full, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(spear_core, "invert", fail)
    full.guard(full.run)
    assert full.status.value == "Error: out of memory"
    assert full.outcome is None and full.live.data["phase"] == "waiting"
    with pytest.raises(RuntimeError, match="out of memory"):
        full.run_now()


def slow_invert(inversion, steps: int = 400):
    """An attack that takes its time, reports, and hands back what it has when it is interrupted."""

    def invert(*arguments, progress, **options):
        stopped = doubted(inversion)
        state = next(iter(STATES))
        try:
            for _ in range(steps):
                time.sleep(0.005)
                progress(state)
        except KeyboardInterrupt:
            return stopped
        return inversion

    return invert


STATES: list = []


@pytest.fixture
def slow(full, monkeypatch):

    problem = full.stage.problem
    STATES[:] = [next(spear_core.states(problem))]
    inversion = spear_core.invert(full.stage.model, full.stage.gradients)
    monkeypatch.setattr(spear_core, "invert", slow_invert(inversion))
    return full


def test_stopped_midway_the_rest_is_not_proven(slow):
    async def page() -> None:
        slow.run()
        while slow.attack.latest is None:
            await asyncio.sleep(0.01)
        assert "Searching for" in slow.status.value
        assert slow.live.data["phase"] == "running" and "is running" in slow.live.data["prompt"]
        slow.job.stop_button.click()
        while slow.outcome is None:
            await asyncio.sleep(0.01)

    asyncio.run(page())
    assert "0 of 4 proven exact" in slow.caption.value
    assert slow.attack.seconds < 60
    assert slow.status.value == ""


def test_a_change_midway_drops_the_old_result(slow):
    async def page() -> None:
        slow.run()
        attack = slow.attack
        while attack.latest is None:
            await asyncio.sleep(0.01)
        slow.control["seed"].value = 5
        while attack.is_alive() or slow.job.running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    asyncio.run(page())
    assert slow.outcome is None
    assert "Run the attack" in slow.caption.value
    assert slow.values["seed"] == 5 and slow.live.data["phase"] == "waiting"


def test_the_page_without_a_kernel():
    data, metadata = full_run.FullRun()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == full_run.FullRun.description


def test_the_question_measures_one_of_its_choices():
    question = questions.what_comes_back()
    assert question.measure() == "all eight, exactly"
