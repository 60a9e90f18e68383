"""Explorers of step 2 against the arrays of spear_core: one draw, collecting all directions; their exercises."""

import numpy as np
import pytest
import torch
from traitlets import TraitError

from spear_core.spear.zeros import default_threshold
from spear_core.study import theory
from spear_widgets.sampling import exercises, questions
from spear_widgets.sampling.candidate import candidates
from spear_widgets.sampling.collecting import (
    KINDS,
    RUNS,
    SEARCH_RUNS,
    CollectExplorer,
    batch_of_kind,
    collect,
    search_draws,
)
from spear_widgets.sampling.draws import DRAWS, PATIENCE, DrawExplorer, page


@pytest.fixture(scope="module")
def shared_draw() -> DrawExplorer:
    return DrawExplorer()


@pytest.fixture
def draw(shared_draw):
    shared_draw.reset()
    return shared_draw


# ---------------------------------------------------------------- one draw after the other
def test_every_draw_says_what_it_is(draw):
    m = len(draw.stage.low_rank.factor)
    assert draw.threshold == theory.least_zeros(m, default_threshold(draw.stage.low_rank))
    for number in [1, 2, 3, 50, 199, 200, 1]:
        draw.control["draw"].value = number
        assert draw.status.value == ""
        zeros = int(draw.state.zero[number - 1].sum())
        assert f"<b>{zeros} zeros</b> of {m}" in draw.caption.value
        assert ("<b>kept</b>" in draw.caption.value) == (zeros >= draw.threshold)
        kept, right = (draw.state.zeros >= draw.threshold)[:number], draw.state.right[:number]
        assert (
            f"Of draws 1 to {number}, kept {int(kept.sum())}, right {int(right.sum())}." in draw.caption.value
        )
        drawn = draw._panels._right.get_xdata().tolist()
        assert drawn == [k + 1 for k in (kept & right).nonzero().flatten().tolist()]


@pytest.mark.parametrize("b", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("data", ["photos", "breast_cancer"])
def test_the_first_draws_are_like_the_rest(draw, data: str, b: int):
    draw.set(data=data, batch_size=b)
    many = candidates(draw.stage, 4000)
    kept, kept_of_many = draw.state.zeros >= draw.threshold, many.zeros >= draw.threshold
    for values, wanted in [(kept, kept_of_many), (draw.state.right, many.right)]:
        share = float(wanted.double().mean())
        for count in (20, DRAWS):
            measured = float(values[:count].double().mean())
            assert abs(measured - share) < 3 * (share * (1 - share) / count) ** 0.5 + 1 / count
    assert not bool(kept[0]), "the first is no hit"


def test_drawing_goes_on_as_long_as_one_likes(draw):
    for _ in range(3):
        draw.set(draw=draw.control["draw"].max)
        last = draw.values["draw"]
        draw.again()
        assert draw.values["draw"] == last + 1
        assert draw.control["draw"].max == last + DRAWS
        assert f"Draw {last + 1:,}:" in draw.caption.value
    assert draw.values["draw"] == 3 * DRAWS + 1
    assert page.cache_info().currsize <= page.cache_info().maxsize == 4, "memory does not grow with the draws"
    draw.reset()
    assert draw.values["draw"] == 1 and draw.control["draw"].max == DRAWS


def test_next_kept_goes_from_one_to_the_next(draw):
    draw.set(batch_size=8)
    zeros = torch.cat([page(draw.stage, number).zeros for number in range(4)])
    wanted = [int(k) + 1 for k in (zeros >= draw.threshold).nonzero().flatten() if k > 0]
    assert wanted[-1] > 2 * DRAWS
    visited = []
    for _ in wanted:
        draw.next_kept()
        visited.append(draw.values["draw"])
        assert "<b>kept</b>" in draw.caption.value
    assert visited == wanted


@pytest.mark.parametrize(("data", "b"), [("photos", 4), ("photos", 8), ("digits", 8)])
def test_all_directions_are_met_in_the_end(draw, data: str, b: int):
    draw.set(data=data, batch_size=b)
    met = 0
    while not draw.new_button.disabled:
        draw.next_new()
        number = draw.values["draw"]
        found = page(draw.stage, (number - 1) // DRAWS)
        assert bool(found.right[(number - 1) % DRAWS])
        assert draw.met[int(found.sample[(number - 1) % DRAWS])] == number
        met += 1
        assert (f"so far: {met} of {b}." if met < b else f"All {b} directions are met.") in draw.caption.value
    assert met == b and None not in draw.met
    draw.set(draw=1)
    assert not draw.new_button.disabled


def test_a_search_for_a_draw_in_vain_says_so(draw, monkeypatch):
    monkeypatch.setattr("spear_widgets.sampling.draws.PATIENCE", 2)
    draw.threshold = 10_000
    draw.next_kept()
    assert draw.values["draw"] == 2 * DRAWS
    assert draw.status.value == f"No draw with enough zeros in {2 * DRAWS - 1} draws. Press again to draw on."
    assert PATIENCE * DRAWS >= 10_000


@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
@pytest.mark.parametrize("b", [2, 8])
def test_draws_follow_batch_and_data(draw, data: str, b: int):
    draw.set(data=data, batch_size=b, draw=200)
    assert draw.state.directions.shape[1] == b
    assert draw.stage.batch_size == b
    assert draw.status.value == ""


def test_bad_values_of_a_draw_are_refused(draw):
    with pytest.raises(TraitError):
        draw.set(data="faces")
    with pytest.raises(KeyError):
        draw.set(drawn=3)
    draw.set(draw=0)
    assert draw.values["draw"] == 1


def test_a_failing_draw_is_told_in_words(draw, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no rows left")

    monkeypatch.setattr("spear_widgets.sampling.draws.page", fail)
    draw.control["batch_size"].value = 7
    assert draw.status.value == "Error: no rows left"
    with pytest.raises(RuntimeError, match="no rows left"):
        draw.refresh()
    monkeypatch.undo()
    draw.reset()
    assert draw.status.value == ""


# ---------------------------------------------------------------- collecting
@pytest.mark.parametrize("kind", KINDS)
def test_hits_are_the_draws_whose_direction_is_right(kind: str):
    stage = batch_of_kind(kind, 4)
    hits = collect(kind, 4).hits
    share = sum(hits)
    found = candidates(stage, 4000)
    # an estimate from 4000 draws, and one from 400 sets a sample; six standard deviations
    assert abs(share - float(found.right.double().mean())) < 6 * (2 * 0.25 * share / 4000 + 1e-4) ** 0.5
    assert len(hits) == 4 and min(hits) > 0
    assert share < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_collection_is_complete(kind: str):
    found = collect(kind, 4)
    assert len(found.draws) == RUNS
    assert min(found.draws) >= 4
    assert found.mean == pytest.approx(np.mean(found.draws.tolist()))
    assert abs(found.mean - found.expected) < 5 * found.error


def test_alike_samples_take_more_draws():
    noise, photos, digits, twins = (collect(kind, 6) for kind in KINDS)
    assert noise.mean < photos.mean < twins.mean
    assert noise.mean < digits.mean
    assert theory.expected_draws(6) < noise.expected < photos.expected < digits.expected


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        batch_of_kind("music", 3)


def test_the_real_search_finds_every_direction():
    assert search_draws(batch_of_kind("photographs", 4), 0) is not None


def test_the_real_search_gives_up(monkeypatch):
    monkeypatch.setattr("spear_widgets.sampling.collecting.MOST_SEARCHED", 4)
    assert search_draws(batch_of_kind("digits", 8), 0) is None


def test_collecting_explorer_at_every_batch_size():
    collecting = CollectExplorer()
    for b in (8, 4, 5, 6):
        collecting.control["batch_size"].value = b
        assert collecting.status.value == ""
        assert collecting.state == {kind: collect(kind, b) for kind in KINDS}
        assert f"{theory.expected_draws(b):,.0f}" in collecting.caption.value
    collecting.reset()
    assert collecting.values == {"batch_size": 6}


def test_the_real_search_runs_once_for_each_setting(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "spear_widgets.sampling.collecting.search_draws", lambda stage, seed: calls.append(seed) or 10
    )
    collecting = CollectExplorer()
    collecting.set(batch_size=4)
    collecting.search()
    assert len(calls) == len(KINDS) * SEARCH_RUNS
    collecting.search()
    assert len(calls) == len(KINDS) * SEARCH_RUNS
    assert collecting.searched[KINDS[0], 4] == [10] * SEARCH_RUNS
    assert not collecting.job.running
    assert collecting.search_button.disabled, "it would do nothing"
    assert f"{KINDS[0]} 10, " in collecting.caption.value
    collecting.set(batch_size=5)
    assert not collecting.search_button.disabled


def test_a_search_stopped_midway_keeps_what_it_has_and_goes_on(monkeypatch):
    collecting = CollectExplorer()

    def stop_at_second(stage, seed):
        if seed == 1:
            collecting.job.stop()
        return 10

    monkeypatch.setattr("spear_widgets.sampling.collecting.search_draws", stop_at_second)
    collecting.search()
    assert collecting.searched == {(KINDS[0], 6): [10, 10]}
    monkeypatch.setattr("spear_widgets.sampling.collecting.search_draws", lambda stage, seed: None)
    collecting.search()
    assert collecting.searched[KINDS[0], 6] == [10, 10, None]
    assert len(collecting.searched) == len(KINDS)
    assert collecting.status.value == ""
    assert f"{KINDS[0]} 10 or not within 10,000, {KINDS[1]} not within 10,000," in collecting.caption.value


def test_a_search_that_fails_is_told_in_words(monkeypatch):
    def fail(stage, seed):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("spear_widgets.sampling.collecting.search_draws", fail)
    collecting = CollectExplorer()
    collecting.guard(collecting.search)
    assert collecting.status.value == "Error: no kernel"
    assert not collecting.job.running


# ---------------------------------------------------------------- questions and exercises
QUESTIONS = [
    questions.chance_of_a_hit,
    questions.zeros_of_a_mixture,
    questions.width_and_rejection,
    questions.cost_of_similar_samples,
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.__name__)
def test_questions_measure_one_of_their_choices(question):
    posed = question()
    assert posed.measure() in posed.choices
    assert posed.reveal.value == ""


def test_the_reference_agrees_with_theory():
    for m, tau in [(20, 0.25), (30, 0.3125), (64, 0.375)]:
        assert exercises.false_rejection(m, tau) == pytest.approx(theory.false_rejection(m, tau))
