"""Grades a notebook that somebody handed in: each answer by its exercise, in a process of its own.

A cell is not run as a notebook runs it. Of the cells up to the one that checks an answer, only imports, definitions and
plain constants are run, and of that cell everything but the check.

What the process contains: time and memory (where the system can limit them), the end of the program, what is printed,
large files, files in the working folder, and processes that the answer starts in its group. What it does not: it has
the rights of whoever grades, so it can read and write their files and use the network, and an answer can tamper
with the checker that judges it. Answers that name the checker's parts are marked. Grade a class that you do not
trust in a container, or as a user who owns nothing.
"""

import ast
import contextlib
import json
import linecache
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from spear_widgets import course
from spear_widgets.kit.exercise import Exercise, OpenQuestion

START = 300.0  # seconds in which a process must begin; the first one loads PyTorch
REPLY = 100_000  # bytes of an outcome at most
LARGEST_FILE = 10 << 20
# whoever writes these in an answer looks at the checker instead of the task
CHECKER = re.compile(
    r"\b(spear_widgets|exercises|reference|_cases|_mistaken|__globals__|gc|inspect|_getframe)\b"
)


@dataclass(frozen=True)
class Row:
    """One exercise of one notebook.

    Attributes:
        exercise: its name.
        passed: None if it is to be read: an answer in words.
        words: what was found.
        hint: what to look at next.
        answer: what the reader wrote.
    """

    exercise: str
    passed: bool | None
    words: str
    hint: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Answer:
    """What is run for one exercise.

    Attributes:
        before: statements of earlier cells, each by itself; those that fail are left out.
        cell: what else the answer's own cell holds.
        value: the expression that is checked.
    """

    before: tuple[str, ...]
    cell: str
    value: str


def grade(notebook: str | Path, *, seconds: float = 60.0, megabytes: int = 2048) -> list[Row]:
    """All exercises of a notebook, answered or not.

    Args:
        notebook: a file; which chapter it is follows from what it imports.
        seconds: for all cases of one exercise; more in proportion where one call may take longer than usual.
        megabytes: of memory, beyond what the libraries take; Linux only.

    Raises:
        ValueError: the file is no notebook, or none with exercises.
    """
    cells = _cells(Path(notebook))
    source = "\n".join(cells)
    chapters = [c for c in course.chapters() if re.search(rf"\bspear_widgets\.{c.folder}\b", source)]
    if not chapters:
        raise ValueError(f"notebook must import the exercises of a chapter, got {Path(notebook).name}")
    return [
        _row(cells, variable, exercise, seconds, megabytes)
        for chapter in chapters
        for variable, exercise in chapter.exercises.items()
    ]


# ---------------------------------------------------------------- finding answers
def _cells(path: Path) -> list[str]:
    """The source of each code cell, without magics."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"notebook must be a Jupyter notebook, got {path.name} ({error!r})") from error
    return [re.sub(r"^([ \t]*)([%!].*)$", r"\1pass", cell, flags=re.MULTILINE) for cell in code]


def _row(
    cells: list[str], variable: str, exercise: Exercise | OpenQuestion, seconds: float, megabytes: int
) -> Row:
    found = find(cells, variable)
    if found is None:
        broken = [cell for cell in cells if f"{variable}.check" in cell]
        words = "The cell is no Python." if broken else "Not answered: there is no cell that checks it."
        return Row(exercise.name, False, words, _syntax(broken[-1]) if broken else "", "\n".join(broken[-1:]))
    if isinstance(exercise, OpenQuestion):
        return _written(exercise, found)
    longer = max(1.0, exercise.seconds / Exercise.seconds)  # than the usual exercise
    outcome = _in_a_process(exercise.name, found, seconds * longer, megabytes)
    words = outcome["words"]
    if outcome["passed"] and (marked := CHECKER.search(found.cell)):
        words += f" Look at the answer: it names `{marked[0]}`."
    return Row(exercise.name, outcome["passed"], words, outcome["hint"], found.cell)


def _syntax(cell: str) -> str:
    try:
        ast.parse(cell)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno}: {(error.text or '').strip()}"
    return ""


def _written(question: OpenQuestion, found: Answer) -> Row:
    try:
        text = str(ast.literal_eval(found.value))
    except ValueError:  # put together by a program
        text = found.value
    verdict = question.verdict(text)
    return Row(question.name, False if verdict.open else None, verdict.words, "", text)


def find(cells: list[str], variable: str) -> Answer | None:
    """The last answer that is given to `variable.check`; None if there is none."""
    answer: Answer | None = None
    before: list[str] = []
    for cell in cells:
        try:
            statements = ast.parse(cell).body
        except SyntaxError:
            continue
        checks = [(s, call) for s in statements if (call := _check(s, variable))]
        if checks:
            others = [s for s in statements if all(s is not check for check, _ in checks)]
            own = [_text(cell, s) for s in others if not _imports_widgets(s)]
            answer = Answer(tuple(before), "\n\n".join(own), ast.unparse(checks[-1][1].args[0]))
        before += [ast.unparse(s) for s in statements if _is_definition(s)]
    return answer


def _check(statement: ast.stmt, variable: str) -> ast.Call | None:
    """The call `….VARIABLE.check(answer)` in a statement."""
    for node in ast.walk(statement):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "check"
            and len(node.args) == 1
        ):
            owner = node.func.value
            if variable == (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")):
                return node
    return None


def _text(cell: str, statement: ast.stmt) -> str:
    """As the reader wrote it; a segment leaves out decorators."""
    decorated = getattr(statement, "decorator_list", [])
    return ast.unparse(statement) if decorated else ast.get_source_segment(cell, statement) or ""


def _imports_widgets(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Import, ast.ImportFrom)) and "spear_widgets" in ast.unparse(statement)


def _is_definition(statement: ast.stmt) -> bool:
    """Imports, functions, classes, and names of plain constants."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return not _imports_widgets(statement)
    if isinstance(statement, ast.Assign):
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            return False
        return True
    return isinstance(statement, (ast.FunctionDef, ast.ClassDef))


# ---------------------------------------------------------------- running one
def _in_a_process(name: str, answer: Answer, seconds: float, megabytes: int) -> dict[str, Any]:
    """The outcome of one answer, whatever it does."""
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload([__name__])  # PyTorch is loaded once
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = context.Process(
            target=_child, args=(theirs, name, answer, folder, seconds, megabytes), daemon=True
        )
        process.start()
        theirs.close()
        begun = outcome = None
        try:
            begun = _receive(ours, START)
            outcome = begun and _receive(ours, seconds)
        except TimeoutError:
            outcome = _outcome(
                f"The answer did not end within {seconds:g} seconds.", "Does a loop never end?"
            )
        finally:
            _end(process, begun is not None)
    ended = f"Exit code {process.exitcode}: the program was ended from within, or took too much memory."
    return outcome or _outcome("The answer ended the process.", ended)


def _outcome(words: str, hint: str, passed: bool = False) -> dict[str, Any]:
    return {"passed": passed, "words": words, "hint": hint}


def _receive(ours: Connection, seconds: float) -> dict[str, Any] | None:
    """What a process says, as data: nothing of it is run. None if it ended, or says something else."""
    try:
        if not ours.poll(seconds):
            raise TimeoutError
        said = json.loads(ours.recv_bytes(REPLY))
    except (EOFError, ConnectionError, ValueError):
        return None
    kinds = {"passed": bool, "words": str, "hint": str}
    return (
        said if isinstance(said, dict) and all(isinstance(said.get(k), t) for k, t in kinds.items()) else None
    )


def _end(process: Any, begun: bool) -> None:
    """With all that it started and that did not leave its group."""
    process.join(0.2)  # one that ends says how
    if begun and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _child(say: Connection, name: str, answer: Answer, folder: str, seconds: float, megabytes: int) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    os.chdir(folder)
    os.environ["SPEAR_PROGRESS"] = ""
    torch.set_num_threads(1)  # as in a notebook; more would wait for each other at the answer's expense
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    exercise = next(e for c in course.chapters() for e in c.exercises.values() if e.name == name)
    assert isinstance(exercise, Exercise)
    _ = exercise.arguments()  # the cases are made before memory is limited
    _limit(seconds, megabytes)
    say.send_bytes(json.dumps(_outcome("begun", "")).encode())
    said = _judged(exercise, answer)
    say.send_bytes(json.dumps(said).encode()[:REPLY])


def _judged(exercise: Exercise, answer: Answer) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__"}
    for statement in answer.before:
        with contextlib.suppress(Exception):
            exec(statement, scope)
    linecache.cache["<answer>"] = (len(answer.cell), None, answer.cell.splitlines(keepends=True), "<answer>")
    try:
        exec(compile(answer.cell, "<answer>", "exec"), scope)
        function: Callable[..., Any] = eval(answer.value, scope)
    except BaseException as error:
        return _outcome(
            "The cell of the answer cannot be run.",
            f"{type(error).__name__}: {error}. It may use imports, functions and constants of earlier cells, and "
            "whatever its own cell makes.",
        )
    verdict = exercise.verdict(function)
    return _outcome(verdict.words, verdict.hint, verdict.passed)


def _limit(seconds: float, megabytes: int) -> None:
    """As far as the system has limits: processor time, file size, and memory on Linux."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        resource.RLIMIT_CPU: int(time.process_time() + seconds) + 1,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
    }
    pages = Path("/proc/self/statm")
    if pages.exists():
        used = int(pages.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = used + (megabytes << 20)
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
