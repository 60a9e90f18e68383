"""Exercises: the reference passes, each listed mistake fails with its own hint, slips are explained."""

import copy
import math
from importlib import import_module

import pytest
import torch

import spear_core
from spear_core.study import metrics
from spear_widgets.kit.compare import close, describe, shape_hint
from spear_widgets.kit.exercise import Exercise, Mistake, OpenQuestion
from spear_widgets.kit.verdict import Verdict
from tests.widgets.kit.small_exercises import BATCH_FROM, DIRECTION_FROM

FOLDERS = (
    "start",
    "low_rank",
    "sparsity",
    "sampling",
    "selection",
    "scale",
    "theory",
    "two_shadows",
    "limits",
)
EXERCISES = {
    name: value
    for folder in FOLDERS
    for name, value in vars(import_module(f"spear_widgets.{folder}.exercises")).items()
    if isinstance(value, Exercise)
}
# an answer that is attacked, and that networks learn with, takes seconds
MARKS = {name: [pytest.mark.slow] if exercise.seconds > 60 else [] for name, exercise in EXERCISES.items()}
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{name}-{mistake.hint[:30]}", marks=MARKS[name])
    for name, exercise in EXERCISES.items()
    for mistake in exercise.mistakes
]
each_exercise = pytest.mark.parametrize(
    "exercise",
    [pytest.param(exercise, id=name, marks=MARKS[name]) for name, exercise in EXERCISES.items()],
)


@each_exercise
def test_the_reference_passes(exercise: Exercise):
    assert exercise.check(exercise.reference).passed


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_a_listed_mistake_fails_with_its_own_hint(exercise: Exercise, mistake: Mistake):
    verdict = exercise.check(mistake.function)
    assert not verdict.passed
    assert verdict.hint == mistake.hint
    shown = ["case", "yours"] if exercise.judge else ["case", "wanted", "yours", "difference"]
    assert [label for label, _ in verdict.details] == shown


@each_exercise
def test_hints_of_mistakes_differ(exercise: Exercise):
    hints = [mistake.hint for mistake in exercise.mistakes]
    assert len(set(hints)) == len(hints) >= 3


@each_exercise
def test_the_solution_that_is_shown_is_one(exercise: Exercise):
    scope = {
        "math": math,
        "torch": torch,
        "metrics": metrics,
        "spear_core": spear_core,
    }  # what notebooks import
    exec(exercise.solution, scope)
    assert "Tensor" not in exercise.solution and "type: ignore" not in exercise.solution
    assert exercise.check(scope[exercise.reference.__name__]).passed
    assert exercise.reference.__name__ in exercise.task


@each_exercise
@pytest.mark.parametrize("nothing", [None, ...])
def test_an_empty_answer_is_no_error(exercise: Exercise, nothing):
    verdict = exercise.check(lambda *arguments: nothing)
    assert not verdict.passed
    assert "Not answered yet" in verdict.words


@each_exercise
def test_an_answer_that_raises_is_explained(exercise: Exercise):
    def raises(*arguments):
        raise IndexError("index 9 is out of bounds")

    verdict = exercise.check(raises)
    assert not verdict.passed
    assert "IndexError: index 9" in verdict.hint
    assert dict(verdict.details)["your line"].endswith('raise IndexError("index 9 is out of bounds")')


@each_exercise
@pytest.mark.parametrize("answer", ["a text", [1, 2], torch.zeros(0), torch.zeros(2, 2, 2), {}, float("nan")])
def test_strange_answers_fail_without_an_exception(exercise: Exercise, answer):
    verdict = exercise.check(lambda *arguments: answer)
    assert not verdict.passed
    assert verdict.hint


@pytest.mark.parametrize(
    "exercise",
    [
        pytest.param(one, id=name, marks=[pytest.mark.thorough] * len(MARKS[name]))
        for name, one in EXERCISES.items()
    ],
)
def test_an_answer_that_writes_into_its_arguments_spoils_nothing(exercise: Exercise):
    def vandal(*arguments):
        result = exercise.reference(*copy.deepcopy(arguments))
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                argument.zero_()
        return result

    assert exercise.check(vandal).passed
    assert exercise.check(exercise.reference).passed


@each_exercise
def test_cases_differ(exercise: Exercise):
    """In shape where arguments are tensors: a function that is written for one shape must not pass."""
    cases = {
        tuple(a.shape if isinstance(a, torch.Tensor) else str(a) for a in arguments)
        for _, arguments in exercise.cases()
    }
    assert len(cases) >= (1 if exercise.judge else 3)  # what is judged may be one report


@each_exercise
def test_hints_come_in_three_steps_before_the_solution(exercise: Exercise):
    page = exercise._repr_markdown_()
    places = [page.index(text) for text in ("Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Solution")]
    assert places == sorted(places)
    assert page.count("<details>") == 4 == page.count("</details>")


@each_exercise
def test_an_exercise_says_how_hard_and_how_long_it_is(exercise: Exercise):
    notebook, function = exercise.name.split("/")
    assert len(notebook) == 2 and notebook.isdigit() and function == exercise.reference.__name__
    first, _, rest = exercise._repr_markdown_().partition("\n\n")
    assert first == f"**{exercise.level.capitalize()}** · {exercise.minutes} minutes"
    assert rest.startswith(f"**Exercise.** {exercise.task}")


def test_names_of_exercises_differ():
    assert len({exercise.name for exercise in EXERCISES.values()}) == len(EXERCISES)


def test_a_class_that_is_graded_sees_hints_and_no_solution(monkeypatch):
    monkeypatch.setenv("SPEAR_SOLUTIONS", "hidden")
    page = BATCH_FROM._repr_markdown_()
    assert "Hint 3 of 3" in page and "Solution" not in page and "def batch_from" not in page
    assert page.count("<details>") == 3 == page.count("</details>")


def test_an_open_question_is_noted_and_answered():
    question = OpenQuestion("01/why", "Why $b$?", 10, "Since $b$ is the rank.")
    assert question._repr_markdown_() == "**Open question** · 10 minutes\n\nWhy $b$?"
    for nothing in ("", " … ", "..."):
        assert question.check(nothing).open and "rank" not in repr(question.check(nothing))
    verdict = question.check("Because it is.")
    assert verdict.passed and verdict.hint == question.model_answer


def test_code_in_a_hint_looks_like_code():
    page = Verdict(False, "Not yet.", "Call `f(x) < 1`.")._repr_html_()
    assert "Call <code>f(x) &lt; 1</code>." in page


def test_minus_q_is_q():
    exercise = DIRECTION_FROM
    assert exercise.check(lambda rows: -exercise.reference(rows)).passed
    assert not exercise.check(lambda rows: 2 * exercise.reference(rows)).passed


def test_a_verdict_in_words():
    verdict = BATCH_FROM.check(lambda rows, Q: rows)
    assert "Hint: " in repr(verdict) and "wanted: shape (3, 7)" in repr(verdict)
    assert "<b>Hint.</b>" in verdict._repr_html_()


def test_right_wrong_and_open_look_different():
    exercise = BATCH_FROM
    answers = (exercise.reference, lambda rows, Q: rows, lambda rows, Q: None)
    pages = [exercise.check(answer)._repr_html_() for answer in answers]
    for looks in zip(("✔", "✘", "…"), ("#009E73", "#D55E00", "#999999")):
        assert [all(look in page for look in looks) for page in pages].count(True) == 1
    assert not any("<pre" in page for page in pages)


def test_an_exception_shows_the_line_of_the_reader_not_of_the_library():
    def answer(rows, Q):
        helped = rows.T
        return torch.linalg.solve(helped, torch.zeros(1000, 1000))

    verdict = BATCH_FROM.check(answer)
    number, line = dict(verdict.details)["your line"].split(": ", 1)
    assert line == "return torch.linalg.solve(helped, torch.zeros(1000, 1000))"
    assert int(number) == answer.__code__.co_firstlineno + 2


def test_numbers_have_as_many_digits_as_tell_right_from_wrong():
    assert describe(torch.tensor(0.49)) == "0.49"
    assert describe(torch.tensor([0.1, 1 / 3])) == "shape (2,): 0.1, 0.333333"
    assert describe(7) == "7" and describe(True) == "True"


@pytest.mark.parametrize(
    ("wanted", "yours", "hint"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), "transposed"),
        (torch.zeros(6), torch.zeros(2, 3), "arranged otherwise"),
        (torch.zeros(6), torch.zeros(5), r"must be \(6,\), yours is \(5,\)"),
        (3, "three", "Return a number; yours is of type str"),
        (torch.zeros(2), torch.zeros(2), None),
    ],
)
def test_shape_slips_become_hints(wanted, yours, hint):
    found = shape_hint(wanted, yours)
    if hint is None:
        assert found is None
    else:
        import re

        assert re.search(hint, found)


def test_close_follows_the_coarser_dtype():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    assert close(third, third.to(torch.float32))
    assert not close(third, third + 1e-6)
    assert not close(third, torch.tensor([float("nan")]))
