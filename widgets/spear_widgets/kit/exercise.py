"""Exercises that check themselves: wanted, yours, difference, and a hint for the mistakes people make.

An exercise is a reference function, cases of several shapes and seeds, and known mistakes. A mistake is a
wrong function with its hint: an answer that agrees with it on the cases gets that hint. The folded-away
solution is the source of the reference function itself, so it cannot go stale.
"""

import ast
import html
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
Cases = Iterable[tuple[str, tuple[Any, ...]]]  # what a case is, and the arguments of the call


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and the hint for it."""

    function: Function
    hint: str


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check.

    Attributes:
        passed: whether all cases agree.
        words: what was found, one sentence.
        hint: what to look at next, empty if passed.
        details: (label, text) pairs: case, wanted, yours, difference.
        open: whether there is no answer yet, neither right nor wrong.
    """

    passed: bool
    words: str
    hint: str = ""
    details: tuple[tuple[str, str], ...] = ()
    open: bool = False

    def __repr__(self) -> str:
        lines = [self.words, *(f"  {label}: {text}" for label, text in self.details)]
        return "\n".join([*lines, f"Hint: {self.hint}"] if self.hint else lines)

    def _repr_html_(self) -> str:
        # on white and on black the same: an edge and a mark say it to those who see no colours
        mark, colour = (
            ("✔", "#009E73") if self.passed else ("…", "#999999") if self.open else ("✘", "#D55E00")
        )
        cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;background:none"
        code = "background:none;white-space:pre-wrap"
        rows = "".join(
            f"<tr style='background:none'><th style='{cell}'>{html.escape(label)}</th>"
            f"<td style='{cell}'><code style='{code}'>{html.escape(text)}</code></td></tr>"
            for label, text in self.details
        )
        table = f"<table style='border:0'>{rows}</table>" if rows else ""
        hint = f"<p><b>Hint.</b> {html.escape(self.hint)}</p>" if self.hint else ""
        return (
            f"<div style='border-left:5px solid {colour};padding-left:12px'><p><b><span style='color:{colour}'>{mark}"
            f"</span> {html.escape(self.words)}</b></p>{table}{hint}</div>"
        )


@dataclass(frozen=True)
class Exercise:
    """A task, its cases, hints and solution.

    Attributes:
        task: what to write, one or two sentences.
        reference: the solution; its source is shown, folded away.
        cases: yields (description, arguments) of each call, of several shapes and seeds.
        mistakes: known wrong answers with their hints.
        hints: three, each saying more than the one before.
        agree: (wanted, yours) → whether the answer is right; default: equal shape and close values.
    """

    task: str
    reference: Function
    cases: Callable[[], Cases]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, str, str]
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

    def _repr_html_(self) -> str:
        folded = f"<details><summary>Solution</summary><pre>{html.escape(self.solution)}</pre></details>"
        for number in (3, 2, 1):
            folded = (
                f"<details><summary>Hint {number} of 3</summary><p>{html.escape(self.hints[number - 1])}</p>"
                f"{folded}</details>"
            )
        return f"<p><b>Exercise.</b> {html.escape(self.task)}</p>{folded}"


def own_line(error: BaseException, function: Function) -> str:
    """The last line of the reader's own code on an exception's way, with its number; empty if there is none."""
    code = getattr(function, "__code__", None)
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
