"""A reader's function under guard: it may raise, exit, loop, print or write into its arguments.

It runs in the notebook's own process, so what it does to files or to the interpreter is not undone; code that
catches every exception in an endless loop, or stays inside one call of a library, is not stopped either.
"""

import contextlib
import copy
import ctypes
import inspect
import io
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
PRINTED = 300  # characters of what a function prints that are kept


class TimeUp(BaseException):
    """Raised inside a function that takes too long; no `except Exception` catches it."""


@dataclass(frozen=True)
class Ran:
    """What came of a call.

    Attributes:
        value: what it returned.
        error: what it raised, or None.
        printed: the start of what it printed.
        changed: numbers of the arguments it wrote into.
    """

    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    changed: tuple[int, ...] = ()


def run(function: Function, arguments: tuple[Any, ...], seconds: float) -> Ran:
    """Call a function on copies of its arguments; only the reader's own interrupt gets through."""
    given = copies(arguments)
    paper = _Paper()
    value, error = None, None
    try:
        with contextlib.redirect_stdout(paper), time_limit(seconds):
            value = function(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        error = raised
    changed = tuple(i for i, (was, now) in enumerate(zip(arguments, given)) if not _same(was, now))
    return Ran(value, error, paper.getvalue(), changed)


def copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """So that an answer that writes into its arguments spoils nothing."""
    return tuple(_copy(argument) for argument in arguments)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return value.clone_state() if isinstance(value, torch.Generator) else copy.deepcopy(value)


def _same(was: Any, now: Any) -> bool:
    """Whether an argument is as it was; looked at where people write into one."""
    if isinstance(was, Tensor):
        return was.shape == now.shape and bool(((was == now) | (was.isnan() & now.isnan())).all())
    try:
        return not isinstance(was, (list, dict, set)) or bool(was == now)
    except (RuntimeError, ValueError):  # lists of tensors do not compare
        return True


class _Paper(io.StringIO):
    """Keeps the start of what is printed: an endless loop prints more than fits."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, PRINTED - self.tell())])
        return len(text)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` inside the block once it has taken so long."""
    main = threading.current_thread() is threading.main_thread()
    with _alarm(seconds) if main and hasattr(signal, "setitimer") else _watcher(seconds):
        yield


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeUp

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, ring)
    # once more each second: a bare `except` in a loop catches the first
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - began)), interval)


@contextlib.contextmanager
def _watcher(seconds: float) -> Iterator[None]:
    """Where there are no alarms (Windows, threads): another thread raises it here."""
    caller, done = ctypes.c_ulong(threading.get_ident()), threading.Event()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        if not done.wait(seconds):
            raise_in(caller, ctypes.py_object(TimeUp))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        raise_in(caller, None)  # one that was on its way


def explain(ran: Ran, function: Function, seconds: float) -> tuple[str, str]:
    """What an error means: one sentence, and what to do."""
    error = ran.error
    match error:
        case SystemExit():
            return "Your function ended the program.", "Return the answer; `exit` gives nothing back."
        case TimeUp():
            return (
                f"Your function did not end within {seconds:g} seconds.",
                "Does the loop in this line ever end? Something in its condition must change with each turn.",
            )
        case RecursionError():
            return (
                "Your function calls itself without end.",
                "A recursion needs a case in which it does not call itself, and each call must come closer to it.",
            )
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "allocate" in text or "out of memory" in text:
        more = "How large is the array in this line? Its shape is the product of all its dimensions."
    elif isinstance(error, TypeError) and "positional argument" in text and not own_line(error, function):
        more = "Keep the arguments of the function as they were given, in their order."
    elif "dtype" in text or "scalar type" in text or "same type" in text:
        more = "32 and 64 bits do not mix here: `.double()` or `.to(other.dtype)` turns one into the other."
    else:
        more = ""
    return f"Your function raised {type(error).__name__}.", f"{text}. {more}".strip() if more else text


def own_line(error: BaseException | None, function: Function) -> str:
    """The last line of the reader's own code on an exception's way, with its number; empty if there is none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    own = code.co_filename if code is not None else ""
    for frame in reversed(traceback.extract_tb(error.__traceback__ if error else None)):
        if frame.filename == own and frame.line:
            return f"{frame.lineno}: {frame.line}"
    return ""
