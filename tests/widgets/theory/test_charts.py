"""The explorers of the theory: what is drawn as measured is measured, and lies on the line that is drawn."""

import pytest
import torch
from traitlets import TraitError

from spear_core.study import collecting, metrics, theory
from spear_widgets.kit import stored
from spear_widgets.theory import questions
from spear_widgets.theory.chances import RUNS, OddsExplorer, quantiles
from spear_widgets.theory.failure import FailureExplorer, failures
from spear_widgets.theory.rejection import (
    LAYER_UNITS,
    REJECTION_WIDTHS,
    RejectionExplorer,
    fresh_zeros,
    rejected,
)
from spear_widgets.theory.wall import YEAR, WallExplorer, duration, mean_by_batch_size


@pytest.fixture(scope="module")
def odds() -> OddsExplorer:
    return OddsExplorer()


@pytest.fixture(scope="module")
def rejection() -> RejectionExplorer:
    return RejectionExplorer()


@pytest.fixture(scope="module")
def failure() -> FailureExplorer:
    return FailureExplorer()


@pytest.fixture(scope="module")
def wall() -> WallExplorer:
    return WallExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    for name in ("odds", "rejection", "failure", "wall"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()


# ---------------------------------------------------------------- stored results
def test_what_is_not_stored_names_its_command(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"benchmarks/theory\.py --part nothing"):
        stored.results("theory", "nothing")
    monkeypatch.setattr(stored, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run python benchmarks/absent\.py"):
        stored.results("absent", "draws")


def test_noise_lies_inside_the_predicted_range_at_every_batch_size():
    rows = [row for row in stored.results("theory", "draws") if row["kind"] == "gaussian"]
    sizes = sorted({row["b"] for row in rows})
    assert sizes[0] == 2 and sizes[-1] >= 16
    for b in sizes:
        own = [row for row in rows if row["b"] == b]
        low, high = collecting.predicted_range(b, own[0]["m"])
        assert low <= sum(row["mean"] for row in own) / len(own) <= high
        assert sum(low <= row["predicted"] <= high for row in own) >= 0.8 * len(own)


@pytest.mark.parametrize("kind", ["gaussian", "photos", "digits"])
def test_zeros_of_a_batch_predict_its_draws(kind: str):
    rows = [row for row in stored.results("theory", "draws") if row["kind"] == kind]
    near = sum(abs(row["mean"] - row["predicted"]) <= 3 * row["error"] for row in rows)
    assert near >= 0.93 * len(rows)


def test_the_other_road_was_certified_each_time():
    rows = [row for row in stored.results("theory", "roads") if row["method"] == "consistency"]
    assert max(row["b"] for row in rows) >= 128
    assert all(row["certified"] for row in rows)


# ---------------------------------------------------------------- draws
@pytest.mark.parametrize("kind", ["gaussian", "photos", "digits"])
@pytest.mark.parametrize("b", [2, 5, 8])
def test_measured_draws_follow_the_zeros_of_the_batch(odds, kind: str, b: int):
    odds.set(kind=kind, batch_size=b)
    state = odds.state
    assert state.draws.shape == (RUNS,)
    assert abs(state.mean - state.expected) < 4.5 * state.error
    at = int(state.draws.median())
    count = int((state.draws <= at).sum())
    low, high = metrics.share_interval(count, RUNS, 1 - 1e-6)
    assert low <= collecting.completed(at, state.hits) <= high
    assert f"{state.mean:,.0f}" in odds.caption.value


def test_points_are_runs_and_in_order(odds):
    at = quantiles(odds.state.draws)
    assert at == sorted(set(at))
    assert set(at) <= set(odds.state.draws.tolist())
    assert at[0] == int(odds.state.draws[0]) and at[-1] == int(odds.state.draws[-1])


def test_odds_first_last_out_of_order_and_reset(odds):
    first = odds.picture["picture"].value
    for setting in (
        {"width": 400, "batch_size": 10},
        {"kind": "digits", "batch_size": 2},
        {"width": 50, "seed": 9},
        {"kind": "photos"},
    ):
        odds.set(**setting)
        assert odds.status.value == ""
        assert "Measured" in odds.caption.value
    with pytest.raises(TraitError):
        odds.set(kind="faces")
    odds.reset()
    assert odds.picture["picture"].value == first


# ---------------------------------------------------------------- rejection
def test_rejections_lie_in_their_error_bars_for_noise_and_pictures():
    inside = total = 0
    for kind in ("gaussian", "photos", "digits"):
        for tau in (0.3, 0.36, 0.4, 0.44, 0.48):
            for m in REJECTION_WIDTHS:
                low, high = metrics.share_interval(*rejected(kind, m, tau))
                inside += low <= theory.false_rejection(m, tau) <= high
                total += 1
    assert inside >= 0.85 * total  # thresholds share their layers, so the count scatters more than a binomial


def test_fresh_zeros_are_one_sample_in_each_layer():
    zeros = fresh_zeros("photos", 80)
    assert len(zeros) == LAYER_UNITS // 80
    assert abs(float(zeros.double().mean()) - 40) < 5 * 80**0.5 / 2 / len(zeros) ** 0.5


def test_rejection_first_last_and_reset(rejection):
    for tau in (0.2, 0.48, 0.36):
        for kind in ("gaussian", "digits", "photos"):
            rejection.set(threshold=tau, kind=kind)
            assert rejection.status.value == ""
            assert rejection.state == {m: rejected(kind, m, tau) for m in REJECTION_WIDTHS}
    rejection.reset()
    assert rejection.values == {"kind": "gaussian", "threshold": 0.4}


# ---------------------------------------------------------------- failure
def test_failures_are_counted_from_the_stored_clients():
    (row,) = [r for r in stored.results("theory", "failure") if (r["b"], r["m"]) == (6, 100)]
    draws, least = 157, theory.least_zeros(100, 0.3)
    wanted = sum(n == 0 or n > draws or k < least for n, k in zip(row["draws"], row["zeros"]))
    assert failures(6, 100, draws, 0.3) == (wanted, 300)
    with pytest.raises(ValueError):
        failures(5, 100, draws, 0.3)


@pytest.mark.parametrize("b", [4, 6, 8])
def test_measured_failures_follow_fair_coins_in_wide_layers(b: int):
    inside = []
    for m in (100, 200, 400):
        for doublings in range(5):
            draws = 2**doublings * theory.expected_draws(b)
            low, high = metrics.share_interval(*failures(b, m, draws, 0.2), 0.99)
            inside.append(low <= collecting.coin_failure(b, draws, m, 0.2) <= high)
    assert sum(inside) >= 0.8 * len(inside)


def test_failure_falls_with_draws_and_with_width(failure):
    shares = []
    for doublings in range(7):
        failure.set(batch_size=6, doublings=doublings, threshold=0.0)
        shares.append([count for count, _ in failure.state.values()])
        assert failure.status.value == ""
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*shares))
    assert shares[2] == sorted(shares[2], reverse=True)
    assert all(count <= 3 for count in shares[6][2:]), "six doublings leave next to nothing from m = 100 on"
    failure.set(doublings=6, threshold=0.4)
    assert failure.state[25][0] > 100, "rejected whatever the number of draws"


def test_failure_out_of_order_and_reset(failure):
    first = failure.picture["picture"].value
    for setting in (
        {"threshold": 0.48},
        {"batch_size": 8, "doublings": 0},
        {"batch_size": 4},
        {"doublings": 6},
    ):
        failure.set(**setting)
        assert failure.status.value == ""
    failure.reset()
    assert failure.picture["picture"].value == first


# ---------------------------------------------------------------- the wall
def test_the_wall_is_theory_over_speed(wall):
    for b in (2, 24, 128):
        for speed in (3, 12):
            wall.set(batch_size=b, speed=speed)
            assert wall.status.value == ""
            assert wall.draws == theory.expected_draws(b)
            assert wall.seconds == theory.expected_draws(b) / 10**speed
            assert duration(wall.seconds) in wall.caption.value


def test_durations_in_words():
    said = [duration(s) for s in (0.01, 1.25, 119, 7200, 3 * 86400, 5 * YEAR)]
    assert said == ["less than 0.1 seconds", "1.2 seconds", "119.0 seconds", "2 hours", "3 days", "5 years"]
    assert duration(1e30).endswith("years")


def test_means_by_batch_size_are_geometric():
    rows = [row for row in stored.results("theory", "draws") if row["kind"] == "photos" and row["b"] == 8]
    found = mean_by_batch_size("draws", "mean", lambda row: row["kind"] == "photos")
    means = torch.tensor([row["mean"] for row in rows])
    assert found[8] == pytest.approx(float(means.log().mean().exp()), rel=1e-5)


def test_a_failing_formula_is_shown_and_raised(wall, monkeypatch):
    def fail(*arguments, **options):
        raise FloatingPointError("no number")

    monkeypatch.setattr(theory, "expected_draws", fail)
    wall.control["batch_size"].value = 30
    assert wall.status.value == "Error: no number"
    with pytest.raises(FloatingPointError):
        wall.refresh()
    monkeypatch.undo()
    wall.reset()
    assert wall.status.value == ""


# ---------------------------------------------------------------- questions and exercises
@pytest.mark.parametrize(
    "make",
    [
        questions.one_sample_more,
        questions.limit_and_truth,
        questions.width_and_failure,
        questions.larger_computer,
    ],
)
def test_questions_know_their_answer(make):
    question = make()
    for choice in question.choices:
        assert question.commit(choice) == (choice == question.measure())
