"""Grading: what a reader wrote is found, run in its own process, and does no harm that a process can prevent."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from spear_widgets import course, grading

START = """import math

import torch

from spear_widgets.low_rank import exercises, explore
"""
RIGHT = "    return torch.linalg.matrix_rank(weight_grad)"


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "handed_in.ipynb"
    path.write_text(
        json.dumps(
            {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
        )
    )
    return path


def count_samples(folder: Path, body: str, **options: float) -> grading.Row:
    """The row of one answer to an exercise of notebook 01."""
    cell = f"def count_samples(weight_grad):\n{body}\n\n\nexercises.COUNT_SAMPLES.check(count_samples)"
    rows = grading.grade(notebook(folder, START, cell), **options)
    return next(row for row in rows if row.exercise == "01/count_samples")


@pytest.mark.parametrize(
    ("body", "passed", "words"),
    [
        (RIGHT, True, "Correct on all"),
        ("    return len(weight_grad)", False, "width m of the layer"),
        ("    ...", False, "Not answered yet"),
        ("    import sys\n    sys.exit(0)", False, "ended the program"),
        ("    import os\n    os._exit(0)", False, "ended the process"),
        ("    return [0] * 10**10", False, "MemoryError"),
        ("    return torch.zeros(10**11).sum()", False, "allocate"),
        ("    return count_samples(weight_grad)", False, "calls itself without end"),
        ("    print('x' * 10**6)\n    return 3", False, "Not yet"),
        ("    raise BaseException('no')", False, "BaseException"),
        ("    return 1 / 0", False, "ZeroDivisionError"),
        ("    open('here.txt', 'w').write('x' * 10**8)\n    return 3", False, "File too large"),
        ("    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)", False, "ended the process"),
        ("    return exercises.COUNT_SAMPLES.reference(weight_grad)", False, "NameError"),
        (
            "    from spear_widgets.low_rank import exercises as e\n    return e.count_samples(weight_grad)",
            True,
            "Look at the answer: it names `spear_widgets`",
        ),
    ],
)
def test_answers(tmp_path: Path, body: str, passed: bool, words: str):
    row = count_samples(tmp_path, body)
    assert row.passed is passed, row
    assert words in f"{row.words} {row.hint}"
    assert body.strip().splitlines()[0] in row.answer or "exercises as e" in body


@pytest.mark.parametrize(
    "body",
    [
        "    while True:\n        pass",
        "    while True:\n        try:\n            while True: pass\n        except BaseException:\n            pass",
        "    import signal, time\n    signal.signal(signal.SIGALRM, signal.SIG_IGN)\n    time.sleep(600)",
    ],
)
def test_an_answer_that_hangs_is_ended(tmp_path: Path, body: str):
    begun = time.monotonic()
    row = count_samples(tmp_path, body, seconds=2)
    assert row.passed is False and "did not end within 2 seconds" in row.words
    assert time.monotonic() - begun < 100


def test_files_and_processes_of_an_answer_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    body = f"""    import os, subprocess
    open("left.txt", "w").write("x")
    child = subprocess.Popen(["sleep", "600"])
    open({str(tmp_path / "said.txt")!r}, "w").write(f"{{child.pid}} {{os.getcwd()}}")
    return 3"""
    assert count_samples(tmp_path, body).passed is False
    pid, folder = (tmp_path / "said.txt").read_text().split()
    assert not (tmp_path / "left.txt").exists() and not Path(folder).exists()
    for _ in range(50):  # an ended process may be listed until its parent has read it
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the answer goes on")
    assert not (tmp_path / "progress.json").exists()


def test_what_stands_around_an_answer_is_not_run(tmp_path: Path):
    cells = (
        START,
        "%matplotlib inline\n!echo hello\nMARGIN = 1e-6\nraise RuntimeError('this cell is not run')",
        "broken (",
        "def helper(G):\n    return torch.linalg.svdvals(G.double())",
        "exercises.COUNT_SAMPLES",
        "limit = 2 * MARGIN\n\ndef count_samples(G):\n    S = helper(G)\n    return int((S > limit * S[0]).sum())\n\n"
        "exercises.COUNT_SAMPLES.check(count_samples)",
        "def count_samples(G):\n    return 'a later try that is not checked'",
        "exercises.BATCH_FROM.check(lambda rows, Q: torch.linalg.solve(Q, rows))",
    )
    rows = {row.exercise: row for row in grading.grade(notebook(tmp_path, *cells))}
    assert rows["01/count_samples"].passed and rows["01/batch_from"].passed


def test_all_exercises_have_a_row_answered_or_not(tmp_path: Path):
    cells = (START, "def batch_from(rows, Q:\n    return Q\n\nexercises.BATCH_FROM.check(batch_from)")
    rows = grading.grade(notebook(tmp_path, *cells))
    wanted = [one.name for one in course.chapters()[0].exercises.values()]
    assert [row.exercise for row in rows] == wanted
    by_name = {row.exercise: row for row in rows}
    assert by_name["01/count_samples"].words.startswith("Not answered")
    assert (
        by_name["01/batch_from"].words == "The cell is no Python."
        and "line 1" in by_name["01/batch_from"].hint
    )
    assert not any(row.passed for row in rows)


@pytest.mark.parametrize("chapter", course.chapters(), ids=lambda chapter: chapter.title)
def test_the_notebooks_have_a_cell_for_each_exercise(chapter: course.Chapter):
    path = Path(__file__).resolve().parents[2] / "notebooks" / chapter.file
    cells = grading._cells(path)
    for variable in chapter.exercises:
        found = grading.find(cells, variable)
        assert found is not None, variable
        assert "import" not in found.cell


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("no JSON", "Jupyter notebook"),
        ("[]", "Jupyter notebook"),
        ('{"cells": []}', "exercises of a chapter"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, text: str, what: str):
    path = tmp_path / "other.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"notebook must .*{what}.*got other.ipynb"):
        grading.grade(path)


def test_an_outcome_is_data(tmp_path: Path):
    """What a process sends is not unpickled, and must have the right form."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    for said in (b"\x80\x04.", b"[1]", b'{"passed": "yes", "words": "", "hint": ""}'):
        theirs.send_bytes(said)
        assert grading._receive(ours, 1) is None
