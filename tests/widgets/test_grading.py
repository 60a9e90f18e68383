"""Grading: what a reader wrote is found, run in its own process, and does no harm that a process can prevent."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from spear_widgets import course, grading

START = """import math

import torch

from spear_widgets.limits import exercises, explore
"""
RIGHT = "    return torch.renorm(grads, 2, 0, norm).mean(dim=0)"


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "handed_in.ipynb"
    path.write_text(
        json.dumps(
            {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
        )
    )
    return path


def clip(folder: Path, body: str, **options: float) -> grading.Row:
    """The row of one answer to an exercise of notebook 08."""
    cell = f"def clip(grads, norm):\n{body}\n\n\nexercises.CLIP.check(clip)"
    rows = grading.grade(notebook(folder, START, cell), **options)
    return next(row for row in rows if row.exercise == "08/clip")


@pytest.mark.parametrize(
    ("body", "passed", "words"),
    [
        (RIGHT, True, "Correct on all"),
        ("    return grads.mean(dim=0)", False, "rows as they are"),
        ("    ...", False, "Not answered yet"),
        ("    import sys\n    sys.exit(0)", False, "ended the program"),
        ("    import os\n    os._exit(0)", False, "ended the process"),
        ("    return [0] * 10**10", False, "MemoryError"),
        ("    return torch.zeros(10**11).sum()", False, "allocate"),
        ("    return clip(grads, norm)", False, "calls itself without end"),
        ("    print('x' * 10**6)\n    return 3", False, "Not yet"),
        ("    raise BaseException('no')", False, "BaseException"),
        ("    return 1 / 0", False, "ZeroDivisionError"),
        ("    open('here.txt', 'w').write('x' * 10**8)\n    return 3", False, "File too large"),
        ("    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)", False, "ended the process"),
        ("    return exercises.CLIP.reference(grads, norm)", False, "NameError"),
        (
            "    from spear_widgets.limits import exercises as e\n    return e.clip(grads, norm)",
            True,
            "Look at the answer: it names `spear_widgets`",
        ),
    ],
)
def test_answers(tmp_path: Path, body: str, passed: bool, words: str):
    row = clip(tmp_path, body)
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
    row = clip(tmp_path, body, seconds=2)
    assert row.passed is False and "did not end within 2 seconds" in row.words
    assert time.monotonic() - begun < 100


def test_files_and_processes_of_an_answer_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    body = f"""    import os, subprocess
    open("left.txt", "w").write("x")
    child = subprocess.Popen(["sleep", "600"])
    open({str(tmp_path / "said.txt")!r}, "w").write(f"{{child.pid}} {{os.getcwd()}}")
    return 3"""
    assert clip(tmp_path, body).passed is False
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
        "%matplotlib inline\n!echo hello\nONE = 1\nraise RuntimeError('this cell is not run')",
        "broken (",
        "def lengths(grads):\n    return grads.norm(dim=1, keepdim=True)",
        "exercises.CLIP",
        "most = 1 * ONE\n\ndef clip(g, norm):\n    # mine\n"
        "    return (g * (norm / lengths(g)).clamp(max=most)).mean(dim=0)"
        "\n\nexercises.CLIP.check(clip)",
        "def clip(grads, norm):\n    return 'a later try that is not checked'",
    )
    row = next(row for row in grading.grade(notebook(tmp_path, *cells)) if row.exercise == "08/clip")
    assert row.passed and "# mine" in row.answer


def test_all_exercises_have_a_row_answered_or_not(tmp_path: Path):
    cells = (
        START.replace("limits", "low_rank"),
        "def mixing(output_grads:\n    return 1\n\nexercises.MIXING.check(mixing)",
        "exercises.SUMMED.check('The rank is 40.')",
    )
    rows = grading.grade(notebook(tmp_path, *cells))
    (chapter,) = (chapter for chapter in course.chapters() if chapter.folder == "low_rank")
    assert [row.exercise for row in rows] == [one.name for one in chapter.exercises.values()]
    by_name = {row.exercise: row for row in rows}
    assert by_name["01/count_samples"].words.startswith("Not answered")
    assert by_name["01/mixing"].words == "The cell is no Python." and "line 1" in by_name["01/mixing"].hint
    assert by_name["01/summed"].passed is None and by_name["01/summed"].answer == "The rank is 40."
    assert not any(row.passed for row in rows)


def test_a_lambda_is_an_answer(tmp_path: Path):
    cell = "exercises.MIXING.check(lambda D: D / D.sum(1, keepdim=True))"
    rows = grading.grade(notebook(tmp_path, START.replace("limits", "low_rank"), cell))
    assert [row.exercise for row in rows if row.passed] == ["01/mixing"]


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
