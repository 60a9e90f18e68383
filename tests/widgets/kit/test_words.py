"""Numbers in words: no "4e-19", no "nan", no "1 directions"."""

import math

import pytest
import torch

from spear_widgets.kit import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "none"),
        (0.25, "25.0 %"),
        (0.001, "0.1 %"),
        (4.9e-5, "1 in 20,000"),
        (4e-19, "less than 1 in 1,000,000"),
    ],
)
def test_chances(value: float, said: str):
    assert words.chance(value) == said


@pytest.mark.parametrize(("psnr", "said"), [(41.4, "41 dB"), (math.inf, "equal"), (-math.inf, "nothing")])
def test_decibels(psnr: float, said: str):
    assert words.decibels(psnr) == said


def test_counts():
    assert [words.count(k, "direction") for k in (0, 1, 1200)] == [
        "0 directions",
        "1 direction",
        "1,200 directions",
    ]


def test_the_middle_of_an_even_number_lies_between_two():
    assert words.middle(torch.tensor([27.0, 40.0, 30.0, 35.0])) == 32.5
    assert words.middle([1, 2, -math.inf]) == 1
    assert words.middle([-math.inf, -math.inf, 3.0, 4.0]) == -math.inf


def test_lambda():
    assert words.match(0.98765) == "λ = 0.9877"
    assert "nan" not in words.match(math.nan)


def test_a_long_message_is_folded_after_its_beginning():
    many = "much " * 20
    assert words.folded(f"must be <one>, got 2: it was noise: {many}") == (
        f"must be &lt;one&gt;, got 2. <details><summary>Why</summary>it was noise: {many}</details>"
    )
    assert words.folded("must be one: no") == "must be one: no"
