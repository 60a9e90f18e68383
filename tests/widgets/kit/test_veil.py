"""A covered picture: shut until the question is answered or the button pressed, and stored as if it were open."""

import numpy as np
import pytest
from PIL import Image

from spear_widgets.kit import base
from spear_widgets.kit.kept import VIEW
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.ribbon import NOT_IN_PAPER, Ribbon
from spear_widgets.kit.veil import Veil


class Counting(base.Explorer):
    """A grey sheet that keeps what it is told."""

    name = "counting"
    description = "A grey sheet of one colour, for a test."
    ribbon = Ribbon()

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__({})
        self.refresh()

    def update(self) -> None:
        self.show("picture", Image.new("RGB", (400, 200), "grey"))

    def answered(self, choice: str) -> None:
        self.told.append(choice)


def picture() -> base.Picture:
    return base.Picture(Image.fromarray(np.zeros((80, 120, 3), np.uint8)), "Four black squares in a row.")


@pytest.fixture
def question() -> Prediction:
    return Prediction("What rank has it?", ["1", "<4>"], lambda: "<4>", "One term a sample.")


@pytest.fixture(params=[picture, Counting])
def shown(request: pytest.FixtureRequest) -> base.Explorer | base.Picture:
    return request.param()


def seen(veil: Veil) -> bool:
    return veil.shown in veil.children


def test_it_is_covered_and_says_until_when(question: Prediction, shown: base.Explorer | base.Picture):
    veil = question.then(shown)
    assert not seen(veil)
    assert "What rank has it?" in veil.line.value
    question.choice.value = "1"
    assert not seen(veil), "a choice alone is no answer"


@pytest.mark.parametrize(("answer", "mark"), [("<4>", "✔"), ("1", "✘")])
def test_an_answer_uncovers_it_and_stands_above(question: Prediction, shown, answer: str, mark: str):
    veil = question.then(shown)
    question.choice.value = answer
    question.commit_button.click()
    assert seen(veil)
    assert veil.skip not in veil.children
    assert mark in veil.line.value
    assert "Answer: <b>&lt;4&gt;</b>" in veil.line.value
    if isinstance(shown, Counting):
        assert shown.told == [answer]


def test_a_second_answer_replaces_the_first(question: Prediction):
    shown = Counting()
    veil = question.then(shown)
    question.commit("1")
    question.commit("<4>")
    assert shown.told == ["1", "<4>"]
    assert "✔" in veil.line.value


def test_without_an_answer_by_the_button_and_back(question: Prediction, shown):
    veil = question.then(shown)
    veil.skip.click()
    assert seen(veil)
    assert question.committed is None
    veil.skip.click()
    assert not seen(veil)
    veil.skip.click()
    question.commit("1")
    assert seen(veil)
    assert "You said: <b>1</b>" in veil.line.value


def test_what_was_answered_before_is_not_covered(question: Prediction, shown):
    question.commit("1")
    assert seen(question.then(shown))


def test_it_is_stored_as_if_it_were_open(question: Prediction, shown):
    wanted, metadata = shown._repr_mimebundle_()
    bundle, its_metadata = question.then(shown)._repr_mimebundle_()
    assert VIEW in bundle
    for kind in ("image/png", "text/plain"):
        assert bundle[kind] == wanted[kind]
    assert its_metadata == metadata


@pytest.mark.parametrize(("height", "covered"), [(80, "320px"), (800, "400px"), (2000, "560px")])
def test_the_cover_is_about_as_high_as_the_picture(question: Prediction, height: int, covered: str):
    tall = base.Picture(Image.new("RGB", (120, height)), "Four black squares in a row.")
    assert question.then(tall).cover.layout.min_height == covered


def test_a_ribbon_is_read_beside_the_title_and_in_print():
    assert any(NOT_IN_PAPER in getattr(child, "value", "") for child in Counting().children)
    bundle = Ribbon()._repr_mimebundle_()
    assert bundle["text/plain"] == NOT_IN_PAPER
    assert NOT_IN_PAPER in bundle["text/html"]
