"""What a class has handed in, in one table: notebooks by their exercises, `capstone.npz` by the teacher's key."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tqdm import tqdm

LONGEST = 300  # letters of a text in the table


@dataclass(frozen=True)
class Line:
    """A line of the table: an exercise of a notebook, or a client of the capstone.

    Attributes:
        who: the folder that the file lies in, or, if all files lie in one, the file.
        file: its name.
        task: the exercise or the client.
        result: "right", "wrong", "open" (not answered), "to read" (an answer in words), "points" or "not graded".
        points: 1 for a right exercise, those of a client, nothing where a person has to read.
        of: how many there are to be had.
        words: what was found.
        answer: what was written.
    """

    who: str
    file: str
    task: str
    result: str
    points: int | None
    of: int
    words: str
    answer: str = ""


def graded(paths: Sequence[Path], key: Path | None, *, seconds: float, megabytes: int) -> Iterator[Line]:
    """The lines of all files. A file that cannot be graded has one that says so; none stops the others.

    Args:
        paths: notebooks and capstone hand-ins.
        key: the teacher's file, for the latter.
        seconds: for an answer.
        megabytes: of memory for an answer, Linux only.

    Raises:
        ValueError: if there are capstone hand-ins and no key, before anything is graded.
    """
    if key is None and any(path.suffix == ".npz" for path in paths):
        raise ValueError("--key must name the key.npz of the capstone, which `make teaching` makes, got none")
    return _lines(paths, key, seconds, megabytes)


def _lines(paths: Sequence[Path], key: Path | None, seconds: float, megabytes: int) -> Iterator[Line]:
    several = len({path.resolve().parent for path in paths}) > 1
    for path in tqdm(paths, unit="file", disable=None):
        who = path.resolve().parent.name if several else path.stem
        try:
            if path.suffix == ".npz":
                assert key is not None
                yield from _capstone(who, path, key)
            else:
                yield from _notebook(who, path, seconds, megabytes)
        except (ValueError, OSError) as error:
            yield Line(who, path.name, "", "not graded", 0, 0, _short(str(error)))


def _notebook(who: str, path: Path, seconds: float, megabytes: int) -> Iterator[Line]:
    from spear_widgets.grading import grade

    for row in grade(path, seconds=seconds, megabytes=megabytes):
        result = "to read" if row.passed is None else "right" if row.passed else "wrong"
        if row.words.startswith("Not answered"):
            result = "open"
        points = None if row.passed is None else int(row.passed)
        words = f"{row.words} {row.hint}".strip()
        yield Line(who, path.name, row.exercise, result, points, 1, _short(words), _short(row.answer))


def _capstone(who: str, path: Path, key: Path) -> Iterator[Line]:
    from spear_widgets.capstone import grade

    found = grade.grade(path, grade.key(key))
    for name, points in found.points.items():
        words = found.words.get(name, "Not handed in.")
        yield Line(who, path.name, f"capstone/{name}", "points", points, found.best[name], words)


def _short(text: str) -> str:
    """One line, not longer than a cell of a table should be, and no formula for a spreadsheet to run."""
    line = " ".join(text.split())[:LONGEST]
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line


def write(lines: Iterator[Line], path: Path) -> str:
    """Write the table as CSV, line by line, and tell what each person has."""
    solved: Counter[str] = Counter()
    of: Counter[str] = Counter()
    left: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [field.name for field in fields(Line)])
        table.writeheader()
        for line in lines:
            table.writerow(asdict(line))
            stream.flush()
            solved[line.who] += line.points or 0
            of[line.who] += line.of
            left[line.who] += line.result in ("to read", "not graded")
    return "\n".join(
        f"{who}: {solved[who]} of {of[who]} points" + (f", {left[who]} to look at" if left[who] else "")
        for who in of
    )
