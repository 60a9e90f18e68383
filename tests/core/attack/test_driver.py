"""Ctrl-C, at any moment and in any method: the method that was running makes the best of what it has, flagged."""

from dataclasses import dataclass, field, replace

import pytest
import torch

import spear_core
from spear_core import client
from spear_core.attack.counting import Count
from spear_core.attack.driver import run
from spear_core.attack.inversion import as_inversion
from spear_core.attack.plan import Plan, prepared
from spear_core.consistency import noisy
from spear_core.consistency import search as consistency
from spear_core.coupled import search as coupled
from spear_core.fedavg import search as fedavg
from spear_core.fedavg.training import local_training
from spear_core.halfspace import search as halfspace
from spear_core.search import Budget, Method, State, Step
from spear_core.spear import search as sampling
from spear_core.study.metrics import EXACT_DB, compare
from tests.core.attacked import gaussian, photos
from tests.core.zoo import seeded
from tests.thorough import thorough

# what must not be said of an estimate or of an update, for which nothing of the kind was checked
ZEROS_DISAGREE, TOO_SIMILAR, DUPLICATES = "λ < 1", "too similar to others", "near-duplicates?"


@dataclass(frozen=True)
class Case:
    """An attack that is interrupted.

    Attributes:
        make: the attacked network.
        step: module and name of what the search calls again and again.
        call: at which call of it Ctrl-C is pressed; at least one state was yielded before.
        options: of `invert`.
        send: what the client sends; by default its gradients.
    """

    make: object
    step: tuple
    call: int
    options: dict = field(default_factory=dict)
    send: object = lambda case: case.gradients


def local_steps(case):
    return client.update(case.model, case.inputs, case.labels, steps=3, lr=0.05)


def with_noise(case):
    return client.noised(case.gradients, 1e-2, generator=seeded(1))


FEDAVG = {"local_steps": 3, "lr": 0.05}
CASES = {
    "sampling": Case(
        lambda: photos(12, 100, seed=1), (sampling, "draw_directions"), 3, {"method": "sampling"}
    ),
    "halfspace": Case(lambda: photos(24, 120), (halfspace.Confirmed, "judge"), 6, {"method": "halfspace"}),
    "consistency": Case(lambda: photos(24, 80), (consistency, "judge"), 2, {"method": "consistency"}),
    "coupled": Case(
        lambda: gaussian(30, 64, dtype=torch.float32), (coupled, "walk"), 3, {"method": "consistency"}
    ),
    "fedavg": Case(lambda: gaussian(4, 150, depth=3), (fedavg, "simulated"), 1, FEDAVG, local_steps),
    "least squares": Case(
        lambda: photos(6, 150), (noisy, "expected_error"), 1, {"batch_size": 6}, with_noise
    ),
}
METHODS = {"coupled": "consistency"}  # by other names


def press_at(monkeypatch, module, name, call):
    """Ctrl-C at a call of a function, counted from 1; once."""
    calls, step = [], getattr(module, name)

    def pressed(*args, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return step(*args, **options)

    monkeypatch.setattr(module, name, pressed)
    return calls


def attack(name, progress=False):
    case = CASES[name].make()
    sent = CASES[name].send(case)
    return case, spear_core.invert(
        case.model, sent, generator=seeded(), progress=progress, **CASES[name].options
    )


def assert_concluded(name, case, found, seen):
    """What the method found is there, judged as this method judges, flagged, and nothing false is said of it."""
    assert "interrupted" in found.notes
    assert found.method == METHODS.get(name, name)
    assert 0 < len(found.inputs) <= len(case.inputs)
    assert len(found.inputs) == len(found.certified_rows) == len(found.output_grads)
    assert found.samples_drawn == seen[-1].samples_drawn
    proven = compare(found.inputs[found.certified_rows], case.inputs)
    assert int(proven.exact.sum()) == int(found.certified_rows.sum()), "a certified row is not exact"
    if name in ("sampling", "halfspace"):  # steps 4 and 5 on the pool
        assert "selection" in found.seconds
        assert len(found.inputs) == min(len(seen[-1].pool), len(case.inputs))
        assert not found.certified
    if name in ("consistency", "coupled"):  # samples stand on their own, whatever is missing
        assert len(found.inputs) == len(seen[-1].reconstruction.coefficients)
        assert int((compare(found.inputs, case.inputs).psnr > 80).sum()) == len(found.inputs)
    if name == "consistency":
        assert found.certified_rows.any()
    if name == "fedavg":  # the client was played again: by its verdict, and by no averaged gradient
        assert "replay" in found.seconds
        assert found.certified and compare(found.inputs, case.inputs).exact.all()
        assert not any(ZEROS_DISAGREE in note for note in found.notes)
    if name == "least squares":
        assert any("expected error" in note for note in found.notes)
        assert not found.certified_rows.any()
        assert compare(found.inputs, case.inputs).psnr.median() > 30
        assert not any(words in note for note in found.notes for words in (TOO_SIMILAR, DUPLICATES))


@pytest.mark.parametrize("name", CASES)
def test_pressed_within_a_step_of_the_search(name, monkeypatch):
    seen = []
    calls = press_at(monkeypatch, *CASES[name].step, CASES[name].call)
    case, found = attack(name, seen.append)
    assert len(calls) >= CASES[name].call
    searched = [state for state in seen if state.step is not Step.CERTIFICATE]
    assert_concluded(name, case, found, searched)


@pytest.mark.parametrize("name", CASES)
def test_pressed_while_a_state_is_shown(name):
    seen = []

    def show(state):
        seen.append(state)
        if (state.reconstruction is not None or len(state.pool) >= 2) and not state.certificate:
            raise KeyboardInterrupt

    case, found = attack(name, show)
    assert seen[-1].step is not Step.CERTIFICATE
    assert_concluded(name, case, found, seen)


def test_pressed_before_anything_is_found_there_is_nothing_and_no_error(monkeypatch):
    for name, step in (
        ("sampling", "draw_directions"),
        ("halfspace", "judge"),
        ("consistency", "judge"),
        ("coupled", "walk"),
        ("fedavg", "rounds"),
        ("least squares", "_round"),
    ):
        with monkeypatch.context() as patch:
            press_at(patch, CASES[name].step[0], step, 1)
            case, found = attack(name)
        assert "interrupted" in found.notes and found.inputs.shape == (0, case.inputs.shape[1])
        assert not found.certified and any("was found" in note for note in found.notes)


# ---------------------------------------------------------------- updates and noise: nothing false is said
def test_directions_of_an_update_that_are_incomplete_are_no_certificate(monkeypatch):
    case = gaussian(12, 150, depth=3, seed=2)
    seen = []

    def show(state):
        seen.append(state)
        if 0 < len(state.pool) < 12:
            raise KeyboardInterrupt

    found = spear_core.invert(
        case.model, local_steps(case), **FEDAVG, max_samples=1, generator=seeded(), progress=show
    )
    assert 0 < len(seen[-1].pool) < 12, "complete at once: nothing is tested"
    assert "interrupted" in found.notes and "replay" in found.seconds
    assert len(found.inputs) == len(seen[-1].pool) and not found.certified_rows.any()
    assert not any(ZEROS_DISAGREE in note or DUPLICATES in note for note in found.notes)


def test_an_update_of_another_client_fails_by_its_replay_alone():
    case = gaussian(4, 150, depth=3)

    def show(state):
        if state.step is Step.HALFSPACE:
            raise KeyboardInterrupt

    found = spear_core.invert(
        case.model, local_steps(case), local_steps=3, lr=0.04, generator=seeded(), progress=show
    )
    assert "interrupted" in found.notes and not found.certified_rows.any()
    assert any("replaying the client misses" in note for note in found.notes)
    assert not any(ZEROS_DISAGREE in note for note in found.notes)


@pytest.mark.parametrize("relative", [1e-2, *thorough(1e-3, 1e-1)])
def test_of_an_estimate_nothing_is_said_that_was_not_checked(relative):
    case = photos(6, 150)
    sent = client.noised(case.gradients, relative, generator=seeded(1))
    found = spear_core.invert(case.model, sent, batch_size=6, generator=seeded())
    assert found.method == "least squares" and not found.certified_rows.any()
    assert any("expected error" in note for note in found.notes)
    said = (TOO_SIMILAR, DUPLICATES, ZEROS_DISAGREE, "not unique")
    assert not any(words in note for note in found.notes for words in said)


# ---------------------------------------------------------------- the generator itself
@pytest.mark.parametrize("name", CASES)
def test_the_last_state_of_an_interrupted_generator_is_a_flagged_result(name, monkeypatch):
    case, options = CASES[name].make(), dict(CASES[name].options)
    training = local_training(options.pop("local_steps", None), options.pop("lr", None), None)
    problem = replace(case, gradients=CASES[name].send(case)).problem
    press_at(monkeypatch, *CASES[name].step, CASES[name].call)
    steps = list(spear_core.states(problem, generator=seeded(), training=training, **options))
    assert steps[-1].step is Step.CERTIFICATE and "interrupted" in steps[-1].notes
    assert_concluded(name, case, as_inversion(steps[-1], problem), steps[:-1])


@pytest.mark.parametrize("name", CASES)
def test_who_steps_through_the_generator_may_throw_the_interruption_in(name):
    case, options = CASES[name].make(), dict(CASES[name].options)
    training = local_training(options.pop("local_steps", None), options.pop("lr", None), None)
    problem = replace(case, gradients=CASES[name].send(case)).problem
    steps = spear_core.states(problem, generator=seeded(), training=training, **options)
    seen = [next(steps)]
    while seen[-1].reconstruction is None and len(seen[-1].pool) < 2:
        seen.append(next(steps))
    last = [steps.throw(KeyboardInterrupt()), *steps][-1]
    assert last.step is Step.CERTIFICATE and "interrupted" in last.notes
    assert_concluded(name, case, as_inversion(last, problem), seen)


# ---------------------------------------------------------------- the loop, with methods that only talk
def method(name, certified=False, pressed=False, singular=False):
    """Yields one state and a last one; Ctrl-C, or an error, may come between the two. Everything is noted."""

    def search(target, before, budget):
        yield replace(before, step=Step.SAMPLING, certificate=None, samples_drawn=1).noted(f"{name} searched")
        if pressed:
            raise KeyboardInterrupt
        if singular:
            torch.linalg.inv(torch.zeros(2, 2))
        yield replace(before, step=Step.CERTIFICATE).noted(f"{name} ended")

    def conclude(target, state, budget):
        yield replace(state, step=Step.SELECTION)
        yield replace(state, step=Step.CERTIFICATE).noted(f"{name} concluded for b = {target.batch_size}")

    return Method(name, search, conclude)


def driven(*methods, budget=None, count=None, batch_sizes=None):
    target = gaussian(3).target
    batch_sizes = batch_sizes or [3] * len(methods)
    plan = Plan(tuple(zip(methods, batch_sizes, strict=True)), count or Count(3))
    return list(run(plan, target, State.beginning(target.low_rank), budget or Budget()))


def test_methods_run_one_after_the_other_until_none_is_left():
    steps = driven(method("first"), method("second"))
    assert [state.notes[-1] for state in steps] == [
        "first searched",
        "first ended",
        "second searched",
        "second ended",
    ]


def test_the_running_method_concludes_and_no_other_one_does():
    *_, last = driven(method("first", pressed=True), method("second"), batch_sizes=[4, 5])
    assert last.notes == ("first searched", "first concluded for b = 4", "interrupted") and last.ended
    steps = driven(method("first"), method("second", pressed=True), method("third"), batch_sizes=[4, 5, 6])
    said = [note for state in steps for note in state.notes]
    assert not any("third" in note or note.startswith("first concluded") for note in said)
    assert steps[-1].step is Step.CERTIFICATE and steps[-1].notes[-1] == "interrupted"


def test_a_method_whose_numbers_break_down_leaves_the_rest_to_the_next():
    steps = driven(method("first", singular=True), method("second"))
    assert [state.notes[-1] for state in steps] == ["first searched", "second searched", "second ended"]
    assert steps[-1].notes[0].startswith("first ended early: linalg.inv")
    *_, last = driven(method("first"), method("second", singular=True))
    assert last.step is Step.CERTIFICATE and last.notes[-1].startswith("second ended early: ")


def test_the_clock_lets_the_running_method_end_and_starts_no_other():
    steps = driven(method("first"), method("second"), budget=Budget(deadline=0.0))
    assert [state.notes[-1] for state in steps] == ["first searched", "first ended", "first ended"]
    assert steps[-1].ended


def test_what_the_ranks_leave_open_is_said_once():
    count = Count(3, 7)
    *_, last = driven(method("first"), count=count)
    assert last.notes.count(count.note) == 1
    *_, last = driven(method("first", pressed=True), count=count)
    assert last.notes[-2:] == ("interrupted", count.note)


def test_the_better_of_two_results_is_the_last_state():
    """An interrupted second method gives less than the first one has proven."""
    case = photos(24, 80)
    target, before, plan = prepared(case.problem, "auto", None, None, Budget(seeded()))
    *_, proven = plan.methods[0][0].search(target, before, Budget(seeded()))
    assert proven.certified

    def search(target, before, budget):
        yield replace(proven, batch_size=25)  # as if a sample were missing
        yield proven

    def nothing(target, state, budget):
        yield replace(before, step=Step.CERTIFICATE)

    first = Method("first", search, nothing)
    lost = Method("second", lambda *arguments: one_state_and_pressed(before), nothing)
    steps = list(run(Plan(((first, 24), (lost, 24)), Count(24)), target, before, Budget()))
    assert steps[-1].proven == 24
    assert float(compare(steps[-1].reconstruction.inputs, case.inputs).psnr.min()) > EXACT_DB
    assert torch.equal(steps[-1].reconstruction.inputs, proven.reconstruction.inputs)


def one_state_and_pressed(state):
    yield replace(state, step=Step.SAMPLING)
    raise KeyboardInterrupt
