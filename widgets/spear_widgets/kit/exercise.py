"""Exercises that check themselves: wanted, yours, difference, and a hint for the mistakes people make.

An exercise is a reference function, cases of several shapes and seeds, and known mistakes. A mistake is a
wrong function with its hint: an answer that agrees with it on the cases gets that hint. The folded-away
solution is the source of the reference function itself, so it cannot go stale.
"""

import ast
import inspect
import os
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from spear_widgets.kit.verdict import Verdict

Function = Callable[..., Any]
Cases = Iterable[tuple[str, tuple[Any, ...]]]  # what a case is, and the arguments of the call


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and the hint for it."""

    function: Function
    hint: str


@dataclass(frozen=True)
class Variant:
    """Another right answer whose numbers differ a little from the reference's, and what to say about it."""

    function: Function
    words: str


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
        variants: other right answers.
        seconds: how long one call may take.
        agree: (wanted, yours) → whether the answer is right; default: equal shape and close values.
    """

    name: str = ""
    level: Literal["warm-up", "task"] = "task"
    minutes: int = 10
    task: str
    reference: Function
    cases: Callable[[], Cases]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, str, str]
    variants: tuple[Variant, ...] = ()
    seconds: float = 10.0
    agree: Callable[[Any, Any], bool] | None = None

    def check(self, function: Function) -> Verdict:
        """Run an answer on all cases and compare it with the reference; never raises."""
        cases = list(self.cases())
        for description, arguments in cases:
            wanted = self.reference(*_copies(arguments))
            try:
                yours = function(*_copies(arguments))
            except Exception as error:
                place = own_line(error, function)
                return Verdict(
                    False,
                    f"Your function raised {type(error).__name__}.",
                    f"{type(error).__name__}: {error}",
                    (("case", description), *([("your line", place)] if place else [])),
                )
            if yours is None or yours is ...:
                hint = "Write the function, then run this cell again."
                return Verdict(False, "Not answered yet.", hint, open=True)
            if not self._agrees(wanted, yours):
                hint = self._known_mistake(function, cases) or shape_hint(wanted, yours) or self.hints[0]
                details = (
                    ("case", description),
                    ("wanted", describe(wanted)),
                    ("yours", describe(yours)),
                    ("difference", difference(wanted, yours)),
                )
                return Verdict(False, "Not yet.", hint, details)
        return Verdict(True, f"Correct on all {len(cases)} cases.")

    def _agrees(self, wanted: Any, yours: Any) -> bool:
        try:
            return bool((self.agree or close)(wanted, yours))
        except Exception:  # an answer of a strange type is a wrong answer, not a failure of the checker
            return False

    def _known_mistake(self, function: Function, cases: Sequence[tuple[str, tuple[Any, ...]]]) -> str | None:
        """The hint of the first known mistake that gives the same answers everywhere."""
        yours = [_result(function, arguments) for _, arguments in cases]
        for mistake in self.mistakes:
            theirs = [_result(mistake.function, arguments) for _, arguments in cases]
            if all(close(a, b) for a, b in zip(theirs, yours)):
                return mistake.hint
        return None

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
        folded = fold("Solution", f"```python\n{self.solution}\n```") if solutions_are_shown() else ""
        for number in (3, 2, 1):
            folded = fold(f"Hint {number} of 3", f"{self.hints[number - 1]}\n\n{folded}")
        return f"{head(self.level, self.minutes)}\n\n**Exercise.** {self.task}\n\n{folded}"


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
        """Note an answer and show the other one beside it; nothing judges it."""
        if not answer.strip(" .…\n"):
            return Verdict(
                False, "Not answered yet.", "Write your answer, then run this cell again.", open=True
            )
        other = self.model_answer if solutions_are_shown() else ""
        return Verdict(True, "Noted. Compare it with the answer below." if other else "Noted.", other)

    def __repr__(self) -> str:
        return f"Open question: {self.text}"

    def _repr_markdown_(self) -> str:
        return f"{head('open question', self.minutes)}\n\n{self.text}"


def head(level: str, minutes: int) -> str:
    """The line above a task: how hard, how long."""
    return f"**{level.capitalize()}** · {minutes} minutes"


def fold(title: str, text: str) -> str:
    """Markdown that opens with a click; the blank lines make it Markdown again inside HTML."""
    return f"<details><summary>{title}</summary>\n\n{text.strip()}\n\n</details>"


def solutions_are_shown() -> bool:
    """A class that is to be graded sets SPEAR_SOLUTIONS=hidden."""
    return os.environ.get("SPEAR_SOLUTIONS") != "hidden"


def own_line(error: BaseException, function: Function) -> str:
    """The last line of the reader's own code on an exception's way, with its number; empty if there is none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    own = code.co_filename if code is not None else ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == own and frame.line:
            return f"{frame.lineno}: {frame.line}"
    return ""


def _copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """So that an answer that writes into its arguments spoils nothing."""
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)


def _result(function: Function, arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*_copies(arguments))
    except Exception as error:
        return error


def close(wanted: Any, yours: Any) -> bool:
    """Equal shape, and values equal to the precision of the coarser dtype."""
    if isinstance(wanted, Exception) or isinstance(yours, Exception):
        return type(wanted) is type(yours)
    a, b = _as_tensor(wanted), _as_tensor(yours)
    if a is None or b is None:
        return type(wanted) is type(yours) and bool(wanted == yours)
    if a.shape != b.shape:
        return False
    coarse = torch.float32 in (a.dtype, b.dtype)
    a, b = a.to(torch.float64), b.to(torch.float64)
    limit = (1e-4 if coarse else 1e-8) * max(1e-300, float(a.abs().max()) if a.numel() else 1.0)
    return bool(((a - b).abs() <= limit).all())


def _as_tensor(value: Any) -> Tensor | None:
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None


def shape_hint(wanted: Any, yours: Any) -> str | None:
    """What a wrong shape or type says, in words; None if the shape is right."""
    a, b = _as_tensor(wanted), _as_tensor(yours)
    if a is None:
        return None
    if b is None:
        return f"Return {_kind(a)}; yours is of type {type(yours).__name__}."
    if a.shape == b.shape:
        return None
    if a.ndim == 2 and b.shape == a.T.shape:
        return f"The shape must be {tuple(a.shape)}, yours is {tuple(b.shape)}: it is transposed."
    if a.numel() == b.numel():
        return f"The shape must be {tuple(a.shape)}, yours is {tuple(b.shape)}: arranged otherwise."
    return f"The shape must be {tuple(a.shape)}, yours is {tuple(b.shape)}."


def _kind(value: Tensor) -> str:
    return "a number" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"


def describe(value: Any) -> str:
    """A value in a line or two: shape and the first few entries."""
    tensor = _as_tensor(value)
    if tensor is None:
        return f"{type(value).__name__}: {str(value)[:80]}"
    if tensor.ndim == 0:
        return _number(tensor.item())
    shown = ", ".join(map(_number, tensor.flatten()[:4].tolist()))
    return f"shape {tuple(tensor.shape)}: {shown}{', …' if tensor.numel() > 4 else ''}"


def _number(value: Any) -> str:
    """As many digits as tell right from wrong."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def difference(wanted: Any, yours: Any) -> str:
    """By how much an answer is off."""
    a, b = _as_tensor(wanted), _as_tensor(yours)
    if a is None or b is None or a.shape != b.shape:
        return "not comparable"
    return f"largest {float((a.to(torch.float64) - b.to(torch.float64)).abs().max()):.3g}"
