"""The progress bar's expected time, against theory and against what has really been drawn."""

from dataclasses import replace

import pytest
import torch

from spear_core.attack.progress import expected_remaining, reporter
from spear_core.search import State, Step
from spear_core.spear.records import Pool
from spear_core.study import theory
from tests.core.attacked import gaussian


def state_with(found, drawn=0, b=8, strays=0, step=Step.SAMPLING):
    low_rank = gaussian(b).low_rank
    unique = torch.tensor([True] * found + [False] * strays)
    pool = Pool(
        torch.eye(b, dtype=torch.float64)[:, [0] * len(unique)], torch.full((len(unique),), 50), unique
    )
    return State(step, low_rank, pool, samples_drawn=drawn)


def test_at_the_start_it_is_what_theory_says():
    assert expected_remaining(state_with(0)) == pytest.approx(theory.expected_draws(8))


def test_the_rest_is_stretched_by_what_the_draws_so_far_have_cost():
    """Four times the draws that theory allows for 5 of 8: four times as many for the rest, nearly."""
    theory_so_far = theory.expected_draws(8) - theory.expected_draws(8, 5)
    for factor in (2, 4, 10):
        remaining = expected_remaining(state_with(5, drawn=round(factor * theory_so_far)))
        rest = theory.expected_draws(8, 5)
        assert (1 + factor) / 2 * rest < remaining < factor * rest


def test_luck_so_far_does_not_shorten_the_rest():
    assert expected_remaining(state_with(7, drawn=10)) == pytest.approx(theory.expected_draws(8, 7))


def test_waiting_in_vain_lengthens_it():
    waits = [expected_remaining(state_with(6, drawn=drawn)) for drawn in (0, 1000, 10_000, 100_000)]
    assert waits == sorted(waits)
    assert waits[-1] > 10 * waits[0]


def test_strays_do_not_count_as_found():
    assert expected_remaining(state_with(3, 500, strays=9)) == expected_remaining(state_with(3, 500))


@pytest.mark.parametrize("state", [state_with(8, 100), state_with(3, 100, step=Step.CERTIFICATE)])
def test_nothing_remains_when_all_is_found_or_over(state):
    assert expected_remaining(state) == 0


def test_the_bar_shows_draws_and_samples(capsys):
    with reporter(True) as report:
        report(state_with(0, 64))
        report(state_with(5, 2048))
        report(replace(state_with(8, 4096), step=Step.CERTIFICATE))
    shown = capsys.readouterr().err
    assert "\r8 of 8 samples: 100%" in shown
    assert "4.10k/4.10k" in shown


def test_a_function_is_called_and_nothing_is_shown(capsys):
    seen = []
    with reporter(seen.append) as report:
        report(state := state_with(1))
    assert seen == [state]
    with reporter(False) as report:
        report(state)
    assert capsys.readouterr() == ("", "")
