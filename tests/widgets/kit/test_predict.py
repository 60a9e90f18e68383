"""Predictions: shut until an answer is given, right and wrong answers, words without a kernel."""

import pytest

from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import scene
from spear_widgets.low_rank import questions as low_rank
from spear_widgets.sparsity import questions as sparsity


@pytest.fixture
def question() -> Prediction:
    return Prediction("What rank has it?", ["1", "4"], lambda: "4", "One term a sample.")


def test_the_reveal_is_shut_until_an_answer_is_given(question: Prediction):
    assert question.reveal.value == ""
    assert question.committed is None
    assert question.commit_button.disabled
    question.commit_button.click()
    assert question.reveal.value == ""


def test_a_choice_alone_reveals_nothing(question: Prediction):
    question.choice.value = "1"
    assert question.reveal.value == ""
    assert not question.commit_button.disabled


@pytest.mark.parametrize(("answer", "verdict"), [("4", "Right."), ("1", "Not so.")])
def test_prediction_beside_measurement(question: Prediction, answer: str, verdict: str):
    question.choice.value = answer
    question.commit_button.click()
    assert question.committed == answer
    assert verdict in question.reveal.value
    assert f"You said: {answer}." in question.reveal.value
    assert "Answer: <b>4</b>" in question.reveal.value
    assert "One term a sample." in question.reveal.value


def test_the_measurement_is_not_taken_before_it_is_asked_for():
    asked = []
    question = Prediction("Which?", ["a", "b"], lambda: asked.append(1) or "a", "So.")
    assert asked == []
    assert question.commit("a")
    assert asked == [1]


def test_a_failing_measurement_is_shown(question: Prediction):
    broken = Prediction("Which?", ["a", "b"], lambda: "c", "So.")
    broken.choice.value = "a"
    broken.commit_button.click()
    assert broken.status.value.startswith("Error: measured must be one of the choices")
    with pytest.raises(ValueError, match="must be one of the choices, got 'c'"):
        broken.commit("a")


@pytest.mark.parametrize(
    ("choices", "measured", "message"),
    [
        (["a"], "a", "at least two"),
        (["a", "a"], "a", "at least two"),
        (["a", "b"], "c", "one of the choices"),
    ],
)
def test_bad_questions_are_refused(choices, measured, message):
    with pytest.raises(ValueError, match=message):
        Prediction("Which?", choices, measured, "So.")


def test_an_answer_that_was_not_offered(question: Prediction):
    with pytest.raises(ValueError, match=r"must be one of \['1', '4'\], got '7'"):
        question.commit("7")


def test_static_view(question: Prediction):
    data = question._repr_mimebundle_()
    assert "What rank has it?" in data["text/html"]
    assert "<details>" in data["text/html"], "the answer is folded away"
    assert "4" in data["text/plain"]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (low_rank.row_of_a_batch(), "a mixture of the photographs"),
        (low_rank.rank_of(scene("photos", 4).layer.weight_grad), "4"),
        (low_rank.number_of_splits(), "infinitely many"),
        (sparsity.share_of_zeros(), "about one half"),
        (sparsity.angles_with_many_zeros(), "at exactly two"),
        (sparsity.circles_to_find_a_point(), "two"),
    ],
    ids=lambda value: value.question[:30] if isinstance(value, Prediction) else value,
)
def test_questions_of_the_notebooks(question: Prediction, answer: str):
    assert question.reveal.value == ""
    for choice in question.choices:
        assert question.commit(choice) == (choice == answer)
