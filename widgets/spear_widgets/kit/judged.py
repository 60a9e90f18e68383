"""Exercises that are judged by what an answer brings about: there are many right ones, and a few ways to miss."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from spear_widgets.kit.exercise import Exercise, Function
from spear_widgets.kit.verdict import Verdict


@dataclass(frozen=True)
class Outcome:
    """What came of an answer. Two of one kind are equal, whatever the numbers in their words.

    Attributes:
        kind: what a mistake is recognised by.
        words: what the reader sees.
    """

    kind: str
    words: str = field(compare=False)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, kw_only=True)
class Judged(Exercise):
    """An exercise whose reference, mistakes and answers are compared by their outcome.

    Attributes:
        outcome: (function, arguments of a case) → what it brings about; an answer that returns nothing has none.
    """

    outcome: Callable[..., Outcome | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", self._judged(self.reference))
        mistakes = tuple(replace(mistake, function=self._judged(mistake.function)) for mistake in self.mistakes)
        object.__setattr__(self, "mistakes", mistakes)

    def check(self, function: Function) -> Verdict:
        """Judge an answer on all cases; never raises."""
        return super().check(self._judged(function))

    def _judged(self, function: Function) -> Function:
        """The outcome of a function in its place."""
        inner = inspect.unwrap(function)

        @functools.wraps(inner)
        def outcome(*arguments: Any) -> Outcome | None:
            return self.outcome(inner, *arguments)

        return outcome
