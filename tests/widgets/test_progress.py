"""Answers survive a restart, in a file that people can read; a damaged or forbidden one is said in words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from spear_widgets import course, progress
from spear_widgets.kit import answers
from spear_widgets.limits import exercises
from spear_widgets.scale.exercises import PSNR

RIGHT = """def clip(grads, norm):
    lengths = grads.norm(dim=1, keepdim=True)
    return (grads * (norm / lengths).clamp(max=1)).mean(dim=0)
"""
ALL = [one for chapter in course.chapters() for one in chapter.exercises.values()]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "progress.json"
    monkeypatch.setenv("SPEAR_PROGRESS", str(path))
    return path


def wrong(grads, norm):
    return grads.mean(dim=0)


def test_a_right_answer_is_kept_with_its_source_its_verdict_and_its_time(kept: Path):
    assert exercises.CLIP.check(wrong).details[-1][0] == "difference"
    entry = json.loads(kept.read_text(encoding="utf-8"))["08/clip"]
    assert entry["answer"] == ["def wrong(grads, norm):", "    return grads.mean(dim=0)"]
    assert entry["verdict"] == "Not yet." and "solved" not in entry and entry["time"][:2] == "20"
    assert exercises.CLIP.check(exercises.clip).passed
    entry = json.loads(kept.read_text(encoding="utf-8"))["08/clip"]
    assert (
        entry["solved"] == entry["time"]
        and entry["answer"][0]
        == "def clip(grads, norm):  # type: ignore[no-untyped-def]  # shown as the solution"
    )
    before = kept.read_text(encoding="utf-8")
    exercises.CLIP.check(wrong)  # trying something else loses nothing
    assert kept.read_text(encoding="utf-8") == before
    assert [path.name for path in kept.parent.iterdir()] == ["progress.json"]


def test_an_empty_answer_writes_nothing(kept: Path):
    assert exercises.CLIP.check(lambda grads, norm: None).open
    assert exercises.CLIP.check(lambda grads, norm: ...).open
    assert not list(kept.parent.iterdir())


def test_outside_a_notebook_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPEAR_PROGRESS", raising=False)
    exercises.CLIP.check(wrong)
    monkeypatch.setenv("SPEAR_PROGRESS", "")
    exercises.CLIP.check(wrong)
    assert answers.place() is None and not list(tmp_path.iterdir())


def run(folder: Path, *cells: str) -> list[dict]:
    """What each cell of a notebook shows, in a kernel of its own."""
    book = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs[-1].data if cell.outputs else {} for cell in book.cells]


@pytest.mark.slow
def test_answers_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPEAR_PROGRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    start = "from spear_widgets import progress\nfrom spear_widgets.limits import exercises"
    check = "exercises.CLIP.check(clip)"
    asked = (start, "progress.show()", "exercises.CLIP", f"def clip(grads, norm): ...\n{check}")
    hanging = f"def clip(grads, norm):\n    while True: pass\n\n{check}"
    first = run(
        tmp_path,
        *asked,
        "import os; os.listdir()",
        hanging.replace(check, "object.__setattr__(exercises.CLIP, 'seconds', 1)\n" + check),
        f"{RIGHT}\n{check}",
    )
    assert "Your answer of" not in first[2]["text/markdown"]
    assert first[4]["text/plain"] == "[]"  # nothing was answered
    assert "did not end within 1 seconds" in first[5]["text/plain"]
    assert "Correct on all" in first[6]["text/plain"]
    again = run(tmp_path, *asked)
    assert RIGHT in again[2]["text/markdown"] and "1 of " in again[1]["text/html"]
    assert again[3] == first[3]
    assert progress.report(tmp_path) == again[1]["text/plain"]


def test_the_last_answer_is_offered_folded(kept: Path):
    assert "Your answer" not in exercises.CLIP._repr_markdown_()
    exercises.CLIP.check(wrong)
    page = exercises.CLIP._repr_markdown_()
    time = json.loads(kept.read_text())["08/clip"]["time"]
    assert f"<details><summary>Your answer of {time[:16]}: Not yet.</summary>" in page
    assert "```python\ndef wrong(grads, norm):\n    return grads.mean(dim=0)\n```" in page


DAMAGED = [
    "{",
    "[]",
    '{"08/clip": 3}',
    '{"08/clip": {"time": 1}}',
    '{"08/clip": {"time": "", "verdict": "", "answer": "x"}}',
    "\0",
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_put_aside_and_said(kept: Path, text: str):
    kept.write_text(text, encoding="utf-8")
    assert "progress.json is damaged" in repr(progress.show()) and "damaged" in progress.show()._repr_html_()
    assert "Your answer" not in exercises.CLIP._repr_markdown_()
    said = dict(exercises.CLIP.check(wrong).details)["progress"]
    assert "progress.json is damaged" in said and "progress.damaged.json" in said
    assert (kept.parent / "progress.damaged.json").read_text(encoding="utf-8") == text
    assert list(json.loads(kept.read_text(encoding="utf-8"))) == ["08/clip"]
    assert "progress" not in dict(exercises.CLIP.check(wrong).details)


def test_a_file_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPEAR_PROGRESS", str(tmp_path / "no such folder" / "progress.json"))
    verdict = exercises.CLIP.check(exercises.clip)
    assert verdict.passed and "cannot be written" in dict(verdict.details)["progress"]
    monkeypatch.setenv("SPEAR_PROGRESS", str(tmp_path))  # a folder
    assert "cannot be read" in repr(progress.show())
    assert "cannot be written" in dict(exercises.CLIP.check(exercises.clip).details)["progress"]
    assert not list(tmp_path.iterdir())


def test_a_crash_while_writing_leaves_the_old_file(kept: Path, monkeypatch: pytest.MonkeyPatch):
    exercises.CLIP.check(wrong)
    before = kept.read_text(encoding="utf-8")

    def fails(old: str, new: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    assert "No space left" in dict(exercises.CLIP.check(exercises.clip).details)["progress"]
    assert kept.read_text(encoding="utf-8") == before and len(list(kept.parent.iterdir())) == 1


def test_the_map(kept: Path):
    empty = progress.show()
    assert repr(empty).splitlines()[0].startswith(f"0 of {len(ALL)} exercises solved; ")
    assert empty._repr_html_() == progress.Progress({})._repr_html_()  # the same in every fresh copy
    exercises.CLIP.check(exercises.clip)
    PSNR.check(lambda truth, guess: truth.mean())
    shown = repr(progress.show())
    assert shown.startswith(f"1 of {len(ALL)}") and "✔ clip" in shown and "✘ psnr" in shown
    page = progress.show()._repr_html_()
    for chapter in course.chapters():
        assert f"href='{chapter.file}'" in page
    assert page.count("✔") == 2 and "<caption" in page and "scope='row'" in page


def test_all_solved(kept: Path):
    entry = {
        "solved": "2026-01-01 10:00:00",
        "time": "2026-01-01 10:00:00",
        "verdict": "Correct.",
        "answer": ["x"],
    }
    kept.write_text(json.dumps({one.name: entry for one in ALL}))
    assert repr(progress.show()).startswith("All exercises solved.")
    assert progress.report(kept.parent) == repr(progress.show())
    assert repr(progress.show()).count("done") == len(course.chapters())


def test_the_command_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "spear_widgets.progress", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0 and done.stdout == progress.report(tmp_path) + "\n"
    assert not list(tmp_path.iterdir())


def test_every_exercise_of_the_notebooks_is_in_the_course():
    folders = {path.parent.name for path in (Path(progress.__file__).parent).glob("*/exercises.py")}
    assert folders == {chapter.folder for chapter in course.chapters()}
    assert all(
        one.name.startswith(chapter.file[:2] + "/")
        for chapter in course.chapters()
        for one in chapter.exercises.values()
    )
    assert len({one.name for one in ALL}) == len(ALL)
