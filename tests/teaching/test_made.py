"""The teacher's side: one command makes all of it, it needs no network, and students get none of it."""

import html
import re
from pathlib import Path

import numpy as np
import pytest

from spear_widgets import course
from spear_widgets.copies import copy, without_solutions
from spear_widgets.kit.exercise import Exercise
from spear_widgets.kit.solutions import FOR_STUDENTS
from teaching import answers, deck, exam, pages
from teaching.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
TEACHING = ROOT / "teaching"
MARKDOWN = [*sorted(TEACHING.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXERCISES = [task for chapter in course.chapters() for task in chapter.exercises.values()]


@pytest.mark.slow
@pytest.mark.thorough
def test_one_command_makes_everything(tmp_path: Path, capsys):
    assert main(["--out", str(tmp_path), "--seed", "3"]) == 0
    told = capsys.readouterr().out
    instructors = (TEACHING / "INSTRUCTORS.md").read_text(encoding="utf-8")
    for name in ("deck.html", "answers.html", "exam.html", "exam-with-key.html", "key.npz"):
        assert (tmp_path / name).stat().st_size > 1000 and name in told and f"`{name}`" in instructors
    assert len(list((tmp_path / "capstone").iterdir())) == 5
    with np.load(tmp_path / "key.npz") as key:
        assert len(key.files) == 10


# ---------------------------------------------------------------- pages
PAGES = {
    "deck": deck.page,
    "answers": lambda: answers.page(dict.fromkeys(answers.CLIENTS, 0)),
    "exam": lambda: exam.page(key=False),
    "exam with key": lambda: exam.page(key=True),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_network_and_describes_its_pictures(name: str):
    page = PAGES[name]()
    for address in re.findall(r"(?:src|href)=['\"]([^'\"]*)", page):
        assert address.startswith("data:"), address
    assert "@import" not in page and "<link" not in page and "url(" not in page
    pictures = re.findall(r"<img[^>]*>", page)
    assert pictures and all(re.search(r"alt='[^']+'", picture) for picture in pictures)
    visible = re.sub(r"<(style|script|code).*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert "$" not in visible and "{{" not in visible and "**" not in visible


def test_the_deck_has_the_slides_that_the_plans_name():
    made = deck.slides((TEACHING / "deck.md").read_text(encoding="utf-8"))
    assert all(re.search(r"<h[12]>", slide.shown) and slide.notes for slide in made)
    instructors = (TEACHING / "INSTRUCTORS.md").read_text(encoding="utf-8")
    assert f"{len(made)} slides" in instructors
    named = [int(number) for number in re.findall(r"[Ss]lides? (\d+)", instructors)]
    assert named and max(named) <= len(made)
    assert sum("<figure>" in slide.shown for slide in made) >= 16


@pytest.mark.parametrize("place", [("no_such", "x"), ("0", "x"), ("low_rank", "no such code")])
def test_a_picture_that_is_not_there_is_said(place: tuple[str, str]):
    with pytest.raises(ValueError, match="must"):
        deck.picture(*place)


def test_the_answer_key_has_every_exercise_with_its_solution():
    page = answers.page(dict.fromkeys(answers.CLIENTS, 0))
    for task in EXERCISES:
        assert f"<code>{task.name}</code> · " in page
        if isinstance(task, Exercise):
            assert html.escape(task.solution.splitlines()[-1].strip(), quote=False) in html.unescape(
                page
            ) or (html.escape(task.solution.splitlines()[-1].strip(), quote=False) in page)


# ---------------------------------------------------------------- the exam
def test_the_exam_is_as_long_as_it_says():
    text = (TEACHING / "exam.md").read_text(encoding="utf-8")
    points = [int(number) for number in re.findall(r"^## .*\((\d+) points\)$", text, flags=re.MULTILINE)]
    assert 10 <= len(points) <= 14 and sum(points) == 60
    for part, wanted in zip(re.split(r"^## ", text, flags=re.MULTILINE)[1:], points):
        quoted = "".join(exam.KEY.findall(part))
        assert quoted, part[:40]
        given = [int(number) for number in re.findall(r"\((\d)(?: for one of them| each)?\)", quoted)]
        if given and "each" not in quoted:
            assert sum(given) == wanted, part[:40]


def test_the_exam_without_key_holds_no_key():
    text = (TEACHING / "exam.md").read_text(encoding="utf-8")
    page, key = exam.page(key=False), exam.page(key=True)
    assert "<blockquote>" not in page and key.count("<blockquote>") == page.count("class='room'")
    for quoted in exam.KEY.findall(text):
        assert quoted.lstrip("> ")[:25] not in page


def test_the_numbers_of_the_key():
    """By hand."""
    known = exam.numbers()
    assert (known["x"], known["count"], known["after"], known["lambda"]) == ("(1, 2, −1)", "4", "36", "7/8")
    assert exam.candidates() == [((1.0, -1.0), 3), ((2.0, 1.0), 3), ((0.0, 1.0), 1)]
    assert known["draws_8"] == f"{128 * sum(1 / k for k in range(1, 9)):.0f}"
    assert set(re.findall(r"\{\{(\w+)\}\}", (TEACHING / "exam.md").read_text(encoding="utf-8"))) == set(known)


def test_a_formula_that_cannot_be_set_is_said():
    assert "alt='x \\le y'" in pages.formula(r"x \le y")
    with pytest.raises(ValueError, match=r"must be one that matplotlib can set, got '\\+begin"):
        pages.formula(r"\begin{array}{r} 1 \end{array}")


# ---------------------------------------------------------------- a student's copy
def test_a_students_copy_holds_no_answers(tmp_path: Path, monkeypatch):
    copied, _ = copy(tmp_path / "mine", for_students=True)
    files = [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    names = {path.relative_to(tmp_path / "mine").as_posix() for path in files}
    assert {name.partition("/")[0] for name in names} == {*copied, "capstone", "docs", FOR_STUDENTS}
    assert not any("key" in name or "teaching" in name for name in names)
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.suffix != ".npz")
    assert "<summary>Hint 3 of 3" in text and "<summary>Solution" not in text
    monkeypatch.chdir(tmp_path / "mine")
    for task in EXERCISES:
        assert "Solution" not in task._repr_markdown_()
        if isinstance(task, Exercise):
            assert "Hint 1" in task._repr_markdown_()
    monkeypatch.chdir(tmp_path)
    assert "<summary>Solution" in next(t for t in EXERCISES if isinstance(t, Exercise))._repr_markdown_()


def test_only_the_solution_is_taken_out():
    inner = "<details><summary>Solution</summary>\\n\\nb</details>"
    fold = f"<details><summary>Hint 1</summary>\\n\\na\\n\\n{inner}c</details>"
    notebook = (
        f'{{"cells": [{{"outputs": [{{"data": {{"text/markdown": ["{fold}"]}}}}]}}, {{"source": "d"}}]}}'
    )
    left = without_solutions(notebook)
    assert "Hint 1" in left and "c</details>" in left and '"d"' in left
    assert "Solution" not in left and "b</details>" not in left


def test_links_of_a_copy_lead_somewhere(tmp_path: Path):
    copy(tmp_path)
    for path in (*tmp_path.glob("*.ipynb"), *tmp_path.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#\s]+\.(?:md|ipynb))[#)]", path.read_text(encoding="utf-8")):
            assert "://" in link or (path.parent / link).exists(), f"{path.name}: {link}"


# ---------------------------------------------------------------- prose
@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        assert "://" in link or ": " in link or (path.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize(("name", "most"), [("ethics", 700), ("accessibility", 300)])
def test_pages_are_short(name: str, most: int):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    words = re.sub(r"\]\([^)]*\)", "]", text)
    assert len(re.findall(r"[^\W_]+(?:[-'’./][^\W_]+)*", words)) <= most
