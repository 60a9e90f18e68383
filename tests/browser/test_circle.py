"""The circle: its start grabbed, swiped, moved by keys; the search from there is spear_core's."""

import math
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser

from spear_core.study.landscape import paths
from spear_widgets.two_shadows.circle import CIRCLE_COUNTS, CircleExplorer, angles_of, on_circle
from spear_widgets.two_shadows.grounds import NEAR_DEGREES, ghosts, nearest
from tests.browser.stages import FRAME, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(180)]

LAST = len(CIRCLE_COUNTS)


@pytest.fixture(scope="module")
def circle() -> CircleExplorer:
    return CircleExplorer()


@pytest.fixture
def page(browser: Browser, circle: CircleExplorer) -> Iterator[StagePage]:
    with on_page(browser, circle.live, touch=True) as shown:
        yield shown


def on_ring(page: StagePage, degrees: float) -> tuple[float, float]:
    ring, a = page.js("state.at.ring"), math.radians(degrees)
    return ring["x"] + ring["radius"] * math.cos(a), ring["y"] - ring["radius"] * math.sin(a)


def on_curve(page: StagePage, degrees: float) -> tuple[float, float]:
    box = page.js("state.at.curve")
    return box["x"] + degrees / 360 * box["width"], box["y"] + 20


def agrees(page: StagePage, circle: CircleExplorer) -> None:
    """Where the ball is, and how high, is what spear_core says of the search from this start."""
    told, ball = page.told, page.js("state.ball")
    stage = circle.stage
    walked = paths(stage.landscape, on_circle(stage, float(told["start"])), CIRCLE_COUNTS)[told["at"]]
    angle = float(angles_of(stage, walked))
    assert abs((ball["angle"] - angle + 180) % 360 - 180) < 1e-3
    wanted = float(stage.landscape.misfit(on_circle(stage, ball["angle"])))
    assert ball["misfit"] == pytest.approx(wanted, rel=1e-2, abs=1e-6)
    if told["at"] == LAST:
        sample, away = nearest(stage, walked)
        assert away < NEAR_DEGREES and f"ends at sample {int(sample) + 1}" in page.said


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_the_start_is_grabbed_and_let_go(page: StagePage, circle: CircleExplorer, hand: str):
    getattr(page, hand)(on_ring(page, 174), on_ring(page, 100))
    page.settle(20)
    assert page.told == {"start": pytest.approx(100, abs=1), "at": LAST}
    agrees(page, circle)
    getattr(page, hand)(on_curve(page, 174), on_curve(page, 250))
    page.settle(20)
    assert page.told == {"start": pytest.approx(250, abs=1), "at": LAST}
    agrees(page, circle)


@pytest.mark.parametrize("start", [0, 5, 143, 180, 359])
def test_every_step_is_that_of_the_search(page: StagePage, circle: CircleExplorer, start: int):
    page.slide("start", start)
    for place in (0, 1, 7, LAST):
        page.slide("steps", place)
        agrees(page, circle)


def test_keys_do_the_same(page: StagePage, circle: CircleExplorer):
    page.press("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft")
    assert page.told == {"start": 183, "at": 0}
    page.press("PageUp", "PageUp", "PageDown")
    assert page.told["at"] == 1
    agrees(page, circle)
    page.press(" ")
    page.settle(20)
    assert page.told["at"] == LAST
    page.press("Home")
    assert page.told["at"] == 0


def test_a_picture_of_the_strip_is_tapped(page: StagePage):
    strip = page.js("state.at.strip")
    x, y = page.at(strip["x"] + 4 * strip["step"] + 10, strip["y"] + 10)
    page.page.touchscreen.tap(x, y)
    assert page.told["at"] == 8


def test_ghosts_are_those_of_spear_core(page: StagePage, circle: CircleExplorer):
    page.slide("start", 180)
    page.slide("steps", 16)
    point = on_circle(circle.stage, page.js("state.ball.angle"))
    wanted = circle.stage.batch.pictures(ghosts(circle.stage, point).float())[0]
    shown = page.numbers("state.ghost.getContext('2d').getImageData(0, 0, 32, 32).data")
    drawn = torch.tensor(shown).reshape(32, 32, 4)[..., :3] / 255
    assert (drawn - torch.as_tensor(wanted).clamp(0, 1)).abs().max() < 0.01


def test_where_no_input_lies_it_says_so(page: StagePage, circle: CircleExplorer):
    for start in (5, 180, 300):
        page.slide("start", start)
        real = float(circle.stage.landscape.shares(on_circle(circle.stage, float(start)))) > 0
        assert page.js("state.real") is real
        assert ("where no input lies" in page.said) is not real


def test_without_equations_the_search_stays(browser: Browser):
    hidden = CircleExplorer()
    hidden.set(seen=2)
    with on_page(browser, hidden.live) as page:
        assert "every direction fits" in page.said
        page.slide("steps", LAST)
        assert page.js("[state.ball.angle, state.ball.misfit]") == [pytest.approx(174), 0]


def test_it_moves_at_fifty_frames_a_second(page: StagePage):
    page.click("Play")
    assert page.frame_seconds() <= FRAME
