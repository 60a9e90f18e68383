"""No words of a picture are cut off or lie on each other, in any explorer as it opens and as it is answered."""

import importlib
import inspect

import pytest

from spear_widgets import course
from spear_widgets.kit import base
from spear_widgets.kit.canvas import Canvas
from spear_widgets.sampling import collecting, threshold
from spear_widgets.scale import reach
from spear_widgets.theory import chances, wall
from tests.widgets.kit.labels import touching

ROOMS = (
    "start",
    "low_rank",
    "sparsity",
    "sampling",
    "selection",
    "theory",
    "two_shadows",
    "scale",
    "limits",
    "networks",
)
EXPLORERS = {
    (room, name): made
    for room in ROOMS
    for name, made in vars(importlib.import_module(f"spear_widgets.{room}.explore")).items()
    if inspect.isclass(made) and issubclass(made, base.Explorer)
}
ANSWERED = [
    (threshold.ThresholdExplorer, threshold.SHARES),
    (collecting.CollectExplorer, collecting.FACTORS),
    (chances.OddsExplorer, chances.FACTORS),
    (wall.WallExplorer, wall.REACHES),
    (reach.ReachExplorer, reach.EXPECTED),
]


@pytest.fixture
def canvases(monkeypatch) -> list[Canvas]:
    """Every figure that is made from now on."""
    made: list[Canvas] = []
    begin = Canvas.__init__

    def remember(canvas: Canvas, *size: int) -> None:
        begin(canvas, *size)
        made.append(canvas)

    monkeypatch.setattr(Canvas, "__init__", remember)
    return made


def test_there_is_a_room_for_each_notebook():
    assert len(ROOMS) == len([chapter for chapter in course.chapters() if chapter.exercises])


@pytest.mark.parametrize(("room", "name"), EXPLORERS, ids="-".join)
def test_no_label_touches_another_or_is_cut(canvases: list[Canvas], room: str, name: str):
    EXPLORERS[room, name]()
    assert [words for canvas in canvases for words in touching(canvas)] == []


@pytest.mark.parametrize(
    ("kind", "choice"), [(kind, choice) for kind, choices in ANSWERED for choice in choices]
)
def test_the_readers_answer_is_drawn_into_the_picture(canvases: list[Canvas], kind: type, choice: str):
    explorer = kind()
    before = {name: bytes(picture.value) for name, picture in explorer.picture.items()}
    explorer.answered(choice)
    assert any(bytes(picture.value) != before[name] for name, picture in explorer.picture.items())
    said = [text.get_text() for canvas in canvases for text in canvas.figure.findobj(match=_said)]
    assert len(said) == 1
    assert [words for canvas in canvases for words in touching(canvas)] == []


def _said(artist: object) -> bool:
    return "you said" in getattr(artist, "get_text", str)()


@pytest.mark.parametrize(("kind", "choices"), ANSWERED)
def test_what_can_be_drawn_is_what_can_be_answered(kind: type, choices: dict):
    module = importlib.import_module(kind.__module__.rpartition(".")[0] + ".questions")
    asked = [
        make().choices
        for make in vars(module).values()
        if inspect.isfunction(make)
        and make.__module__ == module.__name__
        and not inspect.signature(make).parameters
    ]
    assert tuple(choices) in asked


@pytest.mark.parametrize(
    ("kind", "away"),
    [
        (collecting.CollectExplorer, {"batch_size": 5}),
        (chances.OddsExplorer, {"batch_size": 6}),
        (wall.WallExplorer, {"speed": 6}),
        (reach.ReachExplorer, {"width": 100}),
    ],
)
def test_an_answer_is_shown_only_where_it_was_asked(canvases: list[Canvas], kind: type, away: dict):
    explorer = kind()
    explorer.answered(next(iter(dict(ANSWERED)[kind])))
    explorer.set(**away)
    assert not [text for canvas in canvases for text in canvas.figure.findobj(match=_said)]
