"""A class of thirty is graded: right, wrong, unfinished, hanging and malicious copies, each with its own line."""

import csv
import os
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from spear_widgets import course
from spear_widgets.__main__ import main
from spear_widgets.capstone import hand_in
from spear_widgets.capstone.messages import NAMES
from tests.thorough import thorough

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = next(chapter for chapter in course.chapters() if "COUNT_SAMPLES" in chapter.exercises)
EXERCISE = CHAPTER.exercises["COUNT_SAMPLES"]
RIGHT = EXERCISE.solution
BODIES = {
    "right": RIGHT,
    "wrong": "def count_samples(weight_grad):\n    return len(weight_grad)",
    "unfinished": "def count_samples(weight_grad):\n    ...",
    "raising": "def count_samples(weight_grad):\n    raise SystemExit('enough')",
    "hanging": "def count_samples(weight_grad):\n    while True:\n        pass",
    "greedy": "def count_samples(weight_grad):\n    return [0] * 10**10",
    "deaf": (
        "import signal, time\n\ndef count_samples(weight_grad):\n"
        "    for name in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):\n"
        "        signal.signal(name, signal.SIG_IGN)\n    time.sleep(600)"
    ),
    "killing": "import os\n\ndef count_samples(weight_grad):\n    os.kill(os.getpid(), 9)",
    "littering": (
        "def count_samples(weight_grad):\n    open('litter.txt', 'w').write('x')\n    print('x' * 10**6)\n    return 3"
    ),
    "peeking": (
        "def count_samples(weight_grad):\n    from spear_widgets.low_rank import exercises\n"
        "    return exercises.COUNT_SAMPLES.reference(weight_grad)"
    ),
}
WANTED = {"right": "right", "peeking": "right", "unfinished": "open"}  # all others: wrong


def copy_of_the_notebook(folder: Path, answer: str) -> Path:
    """The chapter as a student hands it in, with one answer."""
    notebook = nbformat.read(ROOT / "notebooks" / CHAPTER.file, as_version=4)
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and "COUNT_SAMPLES.check(" in c.source]
    cell.source = f"{answer}\n\n\nexercises.COUNT_SAMPLES.check(count_samples)"
    folder.mkdir()
    nbformat.write(notebook, folder / CHAPTER.file)
    return folder / CHAPTER.file


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


SMALL = ("right", "wrong", "unfinished", "killing")  # none that lasts as long as it may


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "times"), [(SMALL, 1), *thorough((tuple(BODIES), 3))], ids=["4", "30"])
def test_a_class(kinds: tuple[str, ...], times: int, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handed_in = [
        copy_of_the_notebook(tmp_path / f"{kind}-{number}", BODIES[kind])
        for number in range(times)
        for kind in kinds
    ]
    left = set(tmp_path.iterdir())
    assert main(["grade", *map(str, handed_in), "--seconds", "5"]) == 0
    lines = table(tmp_path / "grades.csv")
    assert len(lines) == len(handed_in) * len(CHAPTER.exercises)
    for line in lines:
        if line["task"] != EXERCISE.name:
            assert line["result"] in ("open", "wrong")
            continue
        kind = line["who"].partition("-")[0]
        assert line["result"] == WANTED.get(kind, "wrong"), str(line)
        assert ("Look at the answer" in line["words"]) == (kind == "peeking"), line
        assert line["points"] == str(int(line["result"] == "right"))
    assert set(tmp_path.iterdir()) - left == {tmp_path / "grades.csv"}
    told = capsys.readouterr().out.splitlines()
    assert f"right-0: 1 of {len(CHAPTER.exercises)} points" in told and len(told) == len(handed_in)
    right = times * sum(WANTED.get(kind) == "right" for kind in kinds)
    points = Counter(line.split(":")[1].split()[0] for line in told)
    assert points == {"1": right, "0": len(handed_in) - right}


# ---------------------------------------------------------------- the capstone
@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Of five clients with one photograph each."""
    truth = torch.randn(5, 1, hand_in.PIXELS, generator=torch.Generator().manual_seed(0))
    arrays = {name: row.numpy() for name, row in zip(NAMES, truth)}
    np.savez(tmp_path / "key.npz", **arrays, **{f"{name}_best": np.array(3) for name in NAMES})
    return tmp_path / "key.npz"


def test_capstones_are_graded_with_the_key(tmp_path: Path, key: Path, capsys):
    with np.load(key) as file:
        truth = {name: torch.from_numpy(file[name]) for name in NAMES}
    for who, claim in (("ann", True), ("bob", False)):
        (tmp_path / who).mkdir()
        rows = {name: truth[name] for name in NAMES[:2]}
        hand_in.hand_in(rows, {name: [claim] for name in rows}, tmp_path / who / "capstone.npz")
    (tmp_path / "eve").mkdir()
    (tmp_path / "eve" / "capstone.npz").write_bytes(os.urandom(100))
    files = [str(tmp_path / who / "capstone.npz") for who in ("ann", "bob", "eve")]
    assert main(["grade", *files, "--key", str(key), "--out", str(tmp_path / "grades.csv")]) == 0
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "ann: 6 of 15 points",
        "bob: 4 of 15 points",
        "eve: 0 of 0 points, 1 to look at",
    ]
    lines = table(tmp_path / "grades.csv")
    assert [line["result"] for line in lines] == 10 * ["points"] + ["not graded"]
    assert lines[0]["words"] == "1 rows for 1 photographs, 1 exact; 1 claimed exact, 0 of them wrongly."
    assert "must be a file that hand_in wrote" in lines[-1]["words"]


def test_without_a_key_nothing_is_graded(tmp_path: Path, capsys):
    (tmp_path / "capstone.npz").touch()
    assert main(["grade", str(tmp_path / "capstone.npz"), "--out", str(tmp_path / "grades.csv")]) == 2
    assert "--key must name" in capsys.readouterr().err
    assert not (tmp_path / "grades.csv").exists()


def test_what_is_no_notebook_has_a_line_that_says_so(tmp_path: Path):
    (tmp_path / "notes.ipynb").write_text("=HYPERLINK(1)")
    assert main(["grade", str(tmp_path / "notes.ipynb"), "--out", str(tmp_path / "grades.csv")]) == 0
    (line,) = table(tmp_path / "grades.csv")
    assert (line["who"], line["result"]) == ("notes", "not graded")
    assert "must be a Jupyter notebook" in line["words"]


def test_no_cell_of_the_table_is_a_formula():
    from spear_widgets.grades import _short

    assert _short("=1+1\n") == "'=1+1" and _short("x = 1\ny = 2") == "x = 1 y = 2"
