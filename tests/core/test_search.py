"""What every method stands on: a target that is looked at once, a budget, splits, and states that only grow."""

import time
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
import torch

import spear_core
from spear_core import client, search
from spear_core.problem import Problem
from spear_core.search import Budget, Splits, State, Step, Target, stopped_late
from spear_core.spear.low_rank import split
from spear_core.spear.records import Forward
from tests.core.attacked import attacked, gaussian, photos, target_of
from tests.core.zoo import seeded
from tests.thorough import thorough


# ---------------------------------------------------------------- target
def test_what_is_made_once_is_the_same_ever_after():
    target, made = gaussian(3).target, []

    def make():
        made.append(object())
        return made[-1]

    assert target.once("thing", make) is target.once("thing", make) is made[0]
    assert target.once(("thing", 2), make) is made[1]
    assert len(made) == 2


def test_what_is_made_of_one_target_is_not_that_of_another():
    first, second = gaussian(3).target, gaussian(3, seed=1).target
    assert first.once("thing", lambda: 1) == 1
    assert second.once("thing", lambda: 2) == 2
    assert first.forward is first.forward is not second.forward


def test_without_a_batch_size_the_rank_is_it():
    case = gaussian(5)
    assert case.target.batch_size == 5 and not case.target.crowded
    assert target_of(case.problem, case.low_rank, 7).crowded


def test_with_another_number_of_samples_nothing_is_made_again():
    target = gaussian(5).target
    forward = target.forward
    more = target.holding(8)
    assert (target.batch_size, more.batch_size) == (5, 8) and more.crowded and not target.crowded
    assert more.forward is forward and more.splits is target.splits
    assert more.once("thing", object) is target.once("thing", object)


def test_forward_is_the_layer_in_the_row_space():
    case = gaussian(4)
    wanted = Forward.of(case.low_rank, case.problem.attacked)
    assert torch.equal(case.target.forward.weights, wanted.weights)


def steps_of_a_client(case):
    return client.update(case.model, case.inputs, case.labels, steps=3, lr=0.05)


def two_large_steps(case):
    """Of which the second layer shows twice as many samples."""
    return client.update(case.model, case.inputs, case.labels, steps=2, lr=0.5)


def rows_of_a_table():
    """40 rows of 30 columns: more samples than layer 1 can tell apart."""
    rows = torch.randn(40, 30, generator=seeded(), dtype=torch.float64)
    return attacked(rows, torch.arange(40) % 10, 200)


def noisy(case):
    return client.noised(case.gradients, 1e-2, generator=seeded(1))


ATTACKS = {  # the case, what was sent, options
    "sampling": (lambda: photos(6), None, {"method": "sampling"}),
    "halfspace": (lambda: photos(8), None, {"method": "halfspace"}),
    "consistency": (lambda: photos(24, 80), None, {"method": "consistency"}),
    "consistency, crowded": (rows_of_a_table, None, {}),
    "coupled": (lambda: gaussian(30, 64, dtype=torch.float32), None, {"method": "consistency"}),
    "auto": (lambda: photos(6), None, {}),
    "one after the other": (lambda: photos(12), None, {"max_samples": 1}),
    "least squares": (lambda: photos(6, 150), noisy, {"batch_size": 6}),
    "fedavg": (lambda: gaussian(4, 150, depth=3), steps_of_a_client, {"local_steps": 3, "lr": 0.05}),
    "fedavg, not told": (lambda: gaussian(12, 100, depth=3), two_large_steps, {"max_samples": 1}),
}


LONG = ("one after the other", "least squares")


@pytest.mark.parametrize("name", [*(name for name in ATTACKS if name not in LONG), *thorough(*LONG)])
def test_an_attack_looks_at_the_layer_and_splits_each_gradient_once(name, monkeypatch):
    make, sent, options = ATTACKS[name]
    case, counts = make(), Counter()
    project, first_split = Forward.of.__func__, search.split

    def counted(cls, low_rank, layer):
        counts["forward"] += 1
        return project(cls, low_rank, layer)

    def split_once(gradient, *args, **options):
        counts[gradient.data_ptr()] += 1
        return first_split(gradient, *args, **options)

    monkeypatch.setattr(Forward, "of", classmethod(counted))
    monkeypatch.setattr(search, "split", split_once)
    spear_core.invert(case.model, sent(case) if sent else case.gradients, generator=seeded(), **options)
    assert counts["forward"] == 1
    assert set(counts.values()) == {1}


# ---------------------------------------------------------------- budget
def test_a_budget_is_late_from_its_deadline_on(monkeypatch):
    assert not Budget().late
    budget = Budget(deadline=100.0)
    for now, late in ((99.9, False), (100.0, True), (100.1, True)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        assert budget.late == late


def test_only_who_is_late_and_misses_something_was_stopped_by_the_clock():
    late, early = Budget(deadline=time.monotonic() - 1), Budget()
    assert stopped_late(late, 2, "7 starts") == ("stopped at the time limit after 7 starts",)
    assert stopped_late(late, 0, "7 starts") == stopped_late(early, 2, "7 starts") == ()


# ---------------------------------------------------------------- splits
def test_each_layer_is_split_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        search,
        "split",
        lambda gradient, *args, **options: (calls.append(1), split(gradient, *args, **options))[1],
    )
    splits = Splits(gaussian(6).problem)
    first = splits.of(1)
    assert first.batch_size == 6
    assert splits.of(1, 6) is first is splits.of(1) is splits.of(1, expected=6)
    assert len(calls) == 1
    assert splits.of(1, 5).batch_size == 5
    assert splits.of(2) is not first and splits.of(2).factor.shape[1] == 6
    assert splits.of(1) is first is splits.of(1, 6)
    assert len(calls) == 3


def test_splits_do_not_depend_on_the_caller_s_randomness():
    problem = gaussian(6).problem
    before = torch.get_rng_state()
    assert torch.equal(Splits(problem).of(1).factor, Splits(problem).of(1).factor)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_target_splits_the_layers_of_its_problem():
    case = gaussian(3)
    splits = Splits(case.problem)
    assert Target(case.problem, case.low_rank, splits=splits).splits is splits
    problem = case.problem
    assert Target(problem, case.low_rank).splits.problem is problem


# ---------------------------------------------------------------- state
def beginning(b=3, batch_size=0):
    return State.beginning(gaussian(b).low_rank, batch_size)


def test_an_attack_begins_with_a_split_and_nothing_found():
    state = beginning()
    assert state.step is Step.LOW_RANK and state.batch_size == 3
    assert len(state.pool) == state.samples_drawn == state.proven == state.sparsity_match == 0
    assert state.proven_coefficients.shape == (0, 3)
    assert not state.certified
    assert beginning(batch_size=9).batch_size == 9


def test_time_adds_up_by_step_and_leaves_the_earlier_state_alone(monkeypatch):
    clock = iter([12.0, 25.0, 31.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    state = beginning()
    once = state.timed(Step.SAMPLING, 10.0)
    twice = once.timed("sampling", 20.0)
    other = twice.timed("certificate", 30.0)
    assert (state.seconds, once.seconds, twice.seconds) == ({}, {"sampling": 2.0}, {"sampling": 7.0})
    assert other.seconds == {"sampling": 7.0, "certificate": 1.0}


def test_notes_are_added_behind_the_earlier_ones():
    state = beginning().noted("first")
    assert state.noted().notes == ("first",)
    assert state.noted("second", "third").notes == ("first", "second", "third")
    assert state.notes == ("first",)
    with pytest.raises(FrozenInstanceError):
        state.notes = ()


def test_steps_are_the_words_that_results_show():
    words = {"low rank", "sampling", "halfspace", "consistency", "selection", "certificate"}
    assert {str(step) for step in Step} == words
    assert Step.LOW_RANK == "low rank"


def test_one_layer_is_a_problem_whose_splits_are_never_asked_for():
    case = gaussian(3)
    target = target_of(Problem(case.problem.layers[:1]), case.low_rank)
    assert target.later is None
