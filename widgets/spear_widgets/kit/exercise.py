"""Exercises that check themselves: wanted, yours, difference, and a hint for the mistakes people make.

An exercise is a reference function, cases of several shapes and seeds, and known mistakes. A mistake is a
wrong function with its hint: an answer that agrees with it on the cases gets that hint. The folded-away
solution is the source of the reference function itself, so it cannot go stale.
"""

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch

from spear_widgets.kit import answers, solutions
from spear_widgets.kit.compare import as_tensor, close, describe, difference, shape_hint
from spear_widgets.kit.guard import Ran, TimeUp, copies, explain, own_line, run
from spear_widgets.kit.relation import observe, relation
from spear_widgets.kit.verdict import Verdict

Function = Callable[..., Any]
Cases = Iterable[tuple[str, tuple[Any, ...]]]  # what a case is, and the arguments of the call


@dataclass(frozen=True)
class Case:
    """One call of an exercise, with what the reference gives."""

    description: str
    arguments: tuple[Any, ...]
    wanted: Any


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and the hint for it."""

    function: Function
    hint: str


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A task, its cases, hints and solution. All texts are Markdown, with formulas between dollars.

    Attributes:
        name: notebook and function, as "01/count_samples": what progress and grades are kept under.
        level: a warm-up takes a few lines, a task some work.
        minutes: how long it takes.
        task: what to write, one or two sentences.
        reference: the solution; its source is shown, folded away.
        cases: yields (description, arguments) of each call, of several shapes and seeds.
        mistakes: known wrong answers with their hints.
        hints: three, each saying more than the one before.
        seconds: how long one call may take.
        agree: (wanted, yours) → whether the answer is right; default: equal shape, and values equal to the precision of
            their type.
        judge: (arguments, yours) → what is wrong, empty if nothing is: for tasks with many right answers. The reference
            is then one of them, and wanted is not shown.
    """

    name: str = ""
    level: Literal["warm-up", "task"] = "task"
    minutes: int = 10
    task: str
    reference: Function
    cases: Callable[[], Cases]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, str, str]
    seconds: float = 10.0
    agree: Callable[[Any, Any], bool] | None = None
    judge: Callable[[tuple[Any, ...], Any], str] | None = None

    def check(self, function: Function) -> Verdict:
        """Judge an answer and keep it beside the notebook; raises nothing but the reader's own interrupt."""
        verdict = self.verdict(function)
        return verdict if verdict.open else answers.keep(self.name, _source(function), verdict)

    def verdict(self, function: Function) -> Verdict:
        """Run an answer on all cases and compare it with the reference."""
        notes: list[str] = []
        runs: list[Ran] = []
        for case in self._cases:
            ran = run(function, case.arguments, self.seconds)
            runs.append(ran)
            verdict = _not_answered(function, ran, case) or self._failed(function, ran, case)
            right, judged = (False, "") if verdict else self._right(case, ran.value)
            if verdict is None and not right:
                verdict = self._wrong(function, case, runs, judged)
            if verdict is not None:
                return _with_prints(verdict, ran)
            if ran.changed:
                name = list(inspect.signature(self.reference).parameters)[ran.changed[0]]
                notes.append(
                    f"Your function writes into `{name}`: whoever calls it finds that changed afterwards."
                )
        return _with_prints(
            Verdict(True, f"Correct on all {len(runs)} cases.", notes[0] if notes else ""), runs[0]
        )

    def arguments(self, number: int = 1) -> tuple[Any, ...]:
        """The arguments of a case, counted from 1: to try a function on."""
        return copies(self._cases[number - 1].arguments)

    @cached_property
    def _cases(self) -> list[Case]:
        return [Case(text, given, self.reference(*copies(given))) for text, given in self.cases()]

    def _failed(self, function: Function, ran: Ran, case: Case) -> Verdict | None:
        if ran.error is None:
            return None
        words, hint = explain(ran, function, self.seconds)
        place = own_line(ran.error, function)
        return Verdict(
            False, words, hint, (("case", case.description), *([("your line", place)] if place else []))
        )

    def _right(self, case: Case, yours: Any) -> tuple[bool, str]:
        """Whether an answer is right, and what a judge says if not."""
        try:
            if self.judge:
                fault = self.judge(copies(case.arguments), yours)
                return not fault, fault
            return bool((self.agree or close)(case.wanted, yours)), ""
        except (
            Exception
        ) as error:  # an answer of a strange type is a wrong answer, not a failure of the checker
            return False, f"Is it of the right type and shape? {type(error).__name__}: {error}"

    def _wrong(self, function: Function, case: Case, runs: list[Ran], judged: str) -> Verdict:
        """A known mistake, what the judge says, the shape, a relation, or what is seen."""
        yours = runs[-1].value
        for other in self._cases[len(runs) :] if self.mistakes or not self.judge else ():
            runs.append(run(function, other.arguments, self.seconds))
            if isinstance(runs[-1].error, TimeUp):
                break
        hint = self._known_mistake(runs)
        shown = {"case": case.description, "yours": describe(yours)}
        if self.judge:
            return Verdict(False, "Not yet.", hint or judged, tuple(shown.items()))
        hint = hint or shape_hint(case.wanted, yours) or self._related(runs)
        shown = {"case": case.description, "wanted": describe(case.wanted), **shown}
        shown["difference"] = difference(case.wanted, yours)
        return Verdict(False, "Not yet.", hint, tuple(shown.items()))

    def _known_mistake(self, runs: list[Ran]) -> str | None:
        """The hint of the first known mistake that gives the same answers everywhere."""
        yours = [ran.error or ran.value for ran in runs]
        for mistake, theirs in zip(self.mistakes, self._mistaken):
            if len(yours) == len(theirs) and all(map(self._same, theirs, yours)):
                return mistake.hint
        return None

    def _same(self, one: Any, other: Any) -> bool:
        """Whether two answers are as good as equal; −q is as wrong as q, where q and −q are both right."""
        try:
            return close(one, other) or bool(self.agree and self.agree(one, other))
        except Exception:
            return False

    @cached_property
    def _mistaken(self) -> list[list[Any]]:
        """What each known mistake gives, or raises, in each case."""
        ran = [[run(m.function, case.arguments, self.seconds) for case in self._cases] for m in self.mistakes]
        return [[one.error or one.value for one in row] for row in ran]

    def _related(self, runs: list[Ran]) -> str:
        """A relation that holds in all cases; else what is seen in those that can be compared."""
        names = list(inspect.signature(self.reference).parameters)
        pairs, given, texts, right = [], [], [], []
        for case, ran in zip(self._cases, runs):
            a, b = as_tensor(case.wanted), as_tensor(ran.value)
            if a is not None and b is not None and a.shape == b.shape:
                pairs.append((a, b))
                given.append(dict(zip(names, case.arguments)))
                texts.append(case.description)
                right.append(self._right(case, ran.value)[0])
        if not pairs:
            return "What your function returns is of another kind than what is wanted: compare the two lines above."
        if len(pairs) == len(self._cases) and (found := relation(pairs, given)):
            return found
        wrong = [i for i, fine in enumerate(right) if not fine]
        # of truth values, all that are wrong are the opposite
        some = len(wrong) > 1 and not any(pairs[i][0].dtype == torch.bool for i in wrong)
        found = relation([pairs[i] for i in wrong], [given[i] for i in wrong]) if some else None
        if found and any(right):
            return (
                f"Right in {sum(right)} of {len(right)} cases. In the others: {found[0].lower()}{found[1:]}"
            )
        return observe(texts, pairs, right)

    @property
    def solution(self) -> str:
        """Source of the reference, without the annotations, whose names a notebook does not import."""
        lines = textwrap.dedent(inspect.getsource(self.reference)).strip().splitlines()
        (function,) = ast.parse("\n".join(lines)).body
        assert isinstance(function, ast.FunctionDef)
        head = f"def {function.name}({', '.join(inspect.signature(self.reference).parameters)}):"
        return "\n".join([head, *lines[function.body[0].lineno - 1 :]])

    def __repr__(self) -> str:
        return f"Exercise: {self.task}"

    def _repr_markdown_(self) -> str:
        folded = fold("Solution", f"```python\n{self.solution}\n```") if solutions.are_shown() else ""
        for number in (3, 2, 1):
            folded = fold(f"Hint {number} of 3", f"{self.hints[number - 1]}\n\n{folded}")
        return f"{head(self.level, self.minutes)}\n\n**Exercise.** {self.task}\n\n{folded}{before(self.name)}"


@dataclass(frozen=True)
class OpenQuestion:
    """A question that is answered in words, with an answer to compare with.

    Attributes:
        name: notebook and a word, as "04/why_not_both".
        text: the question, in Markdown.
        minutes: how long it takes.
        model_answer: one good answer, shown after the reader's own.
    """

    name: str
    text: str
    minutes: int
    model_answer: str

    def check(self, answer: str) -> Verdict:
        """Keep an answer and show the other one beside it; nothing judges it."""
        verdict = self.verdict(answer)
        return verdict if verdict.open else answers.keep(self.name, answer, verdict)

    def verdict(self, answer: str) -> Verdict:
        """Whether something is written, and the answer to compare it with."""
        if not answer.strip(" .…\n"):
            return Verdict(
                False, "Not answered yet.", "Write your answer, then run this cell again.", open=True
            )
        other = self.model_answer if solutions.are_shown() else ""
        return Verdict(True, "Noted. Compare it with the answer below." if other else "Noted.", other)

    def __repr__(self) -> str:
        return f"Open question: {self.text}"

    def _repr_markdown_(self) -> str:
        return f"{head('open question', self.minutes)}\n\n{self.text}\n\n{before(self.name)}".rstrip()


def head(level: str, minutes: int) -> str:
    """The line above a task: how hard, how long."""
    return f"**{level.capitalize()}** · {minutes} minutes"


def fold(title: str, text: str) -> str:
    """Markdown that opens with a click; the blank lines make it Markdown again inside HTML."""
    return f"<details><summary>{title}</summary>\n\n{text.strip()}\n\n</details>"


def before(name: str) -> str:
    """The reader's answer of an earlier session, folded; empty if there is none."""
    kept = answers.last(name)
    return f"\n\n{fold(kept[0], f'```python{chr(10)}{kept[1]}{chr(10)}```')}" if kept else ""


def _not_answered(function: Function, ran: Ran, case: Case) -> Verdict | None:
    """Nothing was returned: since nothing is written yet, or since a line is missing."""
    # libraries raise it, too, with words
    unwritten = isinstance(ran.error, NotImplementedError) and not str(ran.error)
    placeholder = ran.value is ... or unwritten
    if not placeholder and (ran.error is not None or ran.value is not None):
        return None
    if placeholder or _is_empty(function):
        return Verdict(False, "Not answered yet.", "Write the function, then run this cell again.", open=True)
    if ran.printed:
        hint = "It prints a value. Whoever calls it needs the value itself: `return` it."
    else:
        hint = "Does every way through the function end in a line with `return`?"
    return Verdict(False, "Your function returned nothing.", hint, (("case", case.description),))


def _is_empty(function: Function) -> bool:
    """Whether a function does nothing but return a constant."""
    if not hasattr(function, "__code__"):
        return False
    idle = ("RESUME", "RETURN", "LOAD_", "COPY_FREE", "MAKE_CELL", "NOP", "POP_TOP", "CACHE")
    return all(step.opname.startswith(idle) for step in dis.get_instructions(function))


def _with_prints(verdict: Verdict, ran: Ran) -> Verdict:
    """Prints are for finding mistakes: they are shown with what was found."""
    if not ran.printed.strip() or verdict.open:
        return verdict
    return replace(verdict, details=(*verdict.details, ("printed", ran.printed.rstrip())))


def _source(function: Function) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):  # typed where no source is kept
        return ""
