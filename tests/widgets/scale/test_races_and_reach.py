"""The explorers of the attack at scale: guesses are guesses, what is called exact is exact, shares are counted."""

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from spear_core.client import data
from spear_core.study import metrics
from spear_widgets.kit import stored, words
from spear_widgets.scale import questions
from spear_widgets.scale.races import BATCHES, EXACT, FRAMES, RaceExplorer
from spear_widgets.scale.reach import WIDTHS, ReachExplorer, whole_up_to
from spear_widgets.scale.wall import RECORDED, SHEETS, record

each_batch = pytest.mark.parametrize(
    "b",
    [
        b if b in (min(BATCHES), max(BATCHES)) else pytest.param(b, marks=pytest.mark.thorough)
        for b in BATCHES
    ],
)


@pytest.fixture(scope="module")
def race() -> RaceExplorer:
    return RaceExplorer()


@pytest.fixture(scope="module")
def reach() -> ReachExplorer:
    return ReachExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    for name in ("race", "reach"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()


# ---------------------------------------------------------------- stored results
def test_photographs_of_imagenets_size_come_back_from_large_batches():
    rows = stored.results("scale", "imagenet")
    assert max(row["b"] for row in rows) >= 256
    assert all(row["exact"] == row["b"] and row["psnr"] >= metrics.EXACT_DB for row in rows)
    assert sum(row["false"] for row in rows) == 0
    assert {row["method"] for row in rows} == {"sampling", "consistency"}


@pytest.mark.parametrize("script", [("scale", "grid"), ("success_map", "map")])
def test_no_stored_certificate_is_false(script: tuple[str, str]):
    assert sum(row["false"] for row in stored.results(*script)) == 0


def test_stored_guesses_are_never_exact_and_inversion_always():
    for row in stored.results("scale", "approximate"):
        assert row["exact"] == (row["b"] if row["method"] == "exact" else 0)
        assert len(row["psnr"]) == row["b"]


# ---------------------------------------------------------------- guesses
@each_batch
def test_frames_of_a_race_lead_from_start_to_end(race, b: int):
    race.set(batch_size=b)
    state = race.state
    _, n = state.stage.batch.inputs.shape
    for guess in state.guesses.values():
        assert guess.shape == (FRAMES + 1, b, n)
        first, last = (
            words.middle(metrics.compare(guess[i], state.stage.batch.inputs).psnr) for i in (0, FRAMES)
        )
        assert first < 20 < last


@each_batch
def test_exact_inversion_is_exact_and_proven(race, b: int):
    race.set(batch_size=b)
    assert race.state.certified
    assert bool(metrics.compare(race.state.exact, race.state.stage.batch.inputs).exact.all())
    assert set(race.state.times) == {*race.state.guesses, EXACT}


def test_times_go_on_and_a_batch_of_another_size_is_run_anew(race):
    for b in (1, 4):
        race.set(batch_size=b)
        for name, times in race.state.times.items():
            assert (times.diff() >= 0).all() and times[-1] > 0, name
    with pytest.raises(TraitError):
        race.set(batch_size=3)
    race.reset()
    assert race.values == {"batch_size": 4}


def test_a_failing_attack_is_shown_and_raised(race, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("no guess")

    monkeypatch.setattr("spear_widgets.scale.races.race", fail)
    race.control["batch_size"].value = 2
    assert race.status.value == "Error: no guess"
    with pytest.raises(FloatingPointError):
        race.refresh()
    monkeypatch.undo()
    race.reset()
    assert race.status.value == ""


# ---------------------------------------------------------------- the recorded run
def test_the_wall_is_one_run_and_small():
    run, rounds = record(), record()["rounds"]
    assert run["b"] == 256 and run["side"] == 224
    for when, count in rounds:
        assert sum(found is not None and found <= when for found in run["found"]) == count
    assert run["split"] < rounds[0][0] and rounds[-1][0] < run["end"]
    for found, psnr, certified in zip(run["found"], run["psnr"], run["certified"], strict=True):
        assert not certified or (found is not None and psnr >= metrics.EXACT_DB)
    sizes = {name: (RECORDED / f"{name}.webp").stat().st_size for name in SHEETS}
    assert sizes["mixtures"] + sizes["photographs"] <= 600 * 1024 and sum(sizes.values()) <= 640 * 1024


@pytest.mark.slow
def test_the_stored_photographs_are_the_private_ones():
    run = record()
    batch = data.load("photos", run["b"], size=run["side"], generator=torch.Generator().manual_seed(0))
    private = 255 * batch.pictures(batch.inputs[run["large"]])
    sheet = np.asarray(Image.open(RECORDED / "large.webp"), dtype=float)
    for k, picture in enumerate(private):
        row, column = divmod(k, run["columns"])
        stored = sheet[row * 224 : (row + 1) * 224, column * 224 : (column + 1) * 224]
        assert np.abs(stored - picture).mean() < 6, "compression blurs, and no more than that"


# ---------------------------------------------------------------- success
@pytest.mark.parametrize("m", WIDTHS)
def test_shares_are_counted_from_the_stored_runs(reach, m: int):
    reach.set(width=m)
    assert reach.status.value == ""
    assert f"m = {m}:" in reach.caption.value
    sampling = [row for row in stored.results("scale", "grid") if row["m"] == m]
    consistency = [row for row in stored.results("success_map", "map") if row["m"] == m]
    for method, rows in (("sampling", sampling), ("consistency", consistency)):
        assert set(reach.state[method]) == {row["b"] for row in rows}
        for b, (exact, of) in reach.state[method].items():
            own = [row for row in rows if row["b"] == b]
            assert (exact, of) == (sum(row["exact"] for row in own), b * len(own))


def test_consistency_reaches_further_with_the_width_and_sampling_does_not(reach):
    ends = {}
    for width in WIDTHS:
        reach.set(width=width)
        for method, counts in reach.state.items():
            ends.setdefault(method, []).append(max(b for b, (found, of) in counts.items() if found == of))
    assert ends["consistency"] == sorted(ends["consistency"])
    assert ends["consistency"][3] > 5 * ends["consistency"][0]
    assert ends["sampling"][3] < 2 * ends["sampling"][0]


def test_whole_means_that_no_smaller_batch_had_a_gap(reach):
    assert whole_up_to({160: (320, 320), 180: (356, 360), 200: (400, 400)}) == 160
    assert whole_up_to({4: (11, 12)}) == 0
    reach.set(width=400)
    assert "b = <b>160</b> with consistency, of 220 tried" in reach.caption.value


def test_reach_out_of_order_and_reset(reach):
    first = reach.picture["success"].value
    for width in (50, 400, 200):
        reach.control["width"].value = width
        assert reach.status.value == ""
    reach.reset()
    assert reach.values == {"width": 100}
    assert reach.picture["success"].value == first


# ---------------------------------------------------------------- questions and exercises
@pytest.mark.parametrize(
    "make", [questions.size_of_a_picture, questions.equal_to_the_eye, questions.where_it_ends]
)
def test_questions_know_their_answer(make):
    question = make()
    measured = question.measure()
    assert [question.commit(choice) for choice in question.choices] == [
        choice == measured for choice in question.choices
    ]
