"""The relief: turned, tilted, folded up; where its balls are is what spear_core says."""

from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser

from spear_widgets.two_shadows.grounds import NEAR_DEGREES, ghosts, nearest
from spear_widgets.two_shadows.wells import COUNTS, WALKERS, WellsExplorer, all_descents, page_axes
from tests.browser.stages import FRAME, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(180)]

LAST = len(COUNTS)
BALLS = "state.seen.map(({ k, at, misfit }) => ({ k, at: Array.from(at), misfit }))"


@pytest.fixture(scope="module")
def wells() -> WellsExplorer:
    return WellsExplorer()


@pytest.fixture
def page(browser: Browser, wells: WellsExplorer) -> Iterator[StagePage]:
    with on_page(browser, wells.live, touch=True) as shown:
        yield shown


def middle(page: StagePage, right: float = 0, down: float = 0) -> tuple[float, float]:
    """A point of the relief without a ball, by default near its middle."""
    box = page.js("state.at.relief")
    return box["x"] + box["width"] / 2 + right, box["y"] + box["height"] / 2 + down


def points(wells: WellsExplorer, balls: list[dict]) -> torch.Tensor:
    """Where balls of the page are, as points v."""
    at = torch.tensor([ball["at"] for ball in balls], dtype=torch.float64).T
    return page_axes(wells.stage).T @ at


# ---------------------------------------------------------------- the numbers
@pytest.mark.parametrize("place", [0, 3, 20, LAST])
def test_balls_stand_where_the_search_does(page: StagePage, wells: WellsExplorer, place: int):
    page.slide("steps", place)
    balls = page.js(BALLS)
    assert len(balls) == WALKERS, "all are drawn"
    v = points(wells, balls)
    walked = all_descents(wells.stage)[place][:, [ball["k"] for ball in balls]]
    torch.testing.assert_close(v, walked, atol=1e-6, rtol=0)
    misfit = torch.tensor([ball["misfit"] for ball in balls], dtype=torch.float64)
    torch.testing.assert_close(misfit, wells.stage.landscape.misfit(v), atol=1e-5, rtol=1e-3)
    near = int((nearest(wells.stage, v)[1] < NEAR_DEGREES).sum())
    if place:
        assert f"{near} of {WALKERS} balls" in page.said
    if place == LAST:
        assert near == WALKERS


def test_between_two_steps_balls_keep_to_the_relief(page: StagePage, wells: WellsExplorer):
    page.js("stage.scene.controls[1].set(state, 2.5)")
    page.js("stage.ask()")
    balls = page.js(BALLS)
    v = points(wells, balls)
    torch.testing.assert_close(v.norm(dim=0), torch.ones(WALKERS, dtype=torch.float64))
    misfit = torch.tensor([ball["misfit"] for ball in balls], dtype=torch.float64)
    assert (misfit - wells.stage.landscape.misfit(v)).abs().max() < 0.03


def test_no_two_balls_cover_each_other(page: StagePage):
    page.slide("steps", LAST)
    spots = torch.tensor(page.js("state.seen.map(({ x, y }) => [x, y])"))
    radius = page.js("state.seen[0].radius")
    apart = torch.cdist(spots, spots) + 99 * torch.eye(len(spots))
    assert apart.min() > radius, "each that is counted is seen"


def test_the_ghost_is_that_of_the_ball(page: StagePage, wells: WellsExplorer):
    page.slide("steps", 4)
    ball = page.js(
        "state.seen.filter(({ k }) => k === state.chosen).map(({ at }) => ({ at: Array.from(at) }))"
    )
    wanted = wells.stage.batch.pictures(ghosts(wells.stage, points(wells, ball)).float())[0]
    shown = page.numbers("state.ghost.getContext('2d').getImageData(0, 0, 32, 32).data")
    drawn = torch.tensor(shown).reshape(32, 32, 4)[..., :3] / 255
    assert (drawn - torch.as_tensor(wanted).clamp(0, 1)).abs().max() < 0.01


# ---------------------------------------------------------------- hands
@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_it_is_turned_and_tilted_and_coasts(page: StagePage, hand: str):
    at = middle(page, 0, 10)
    getattr(page, hand)(at, (at[0] + 90, at[1] - 40), steps=10)
    told = page.told
    assert told["spin"] >= 35 and told["tilt"] < 40
    assert told["start"] == -1, "a drag starts no ball"


def test_without_motion_it_stops_at_once(browser: Browser, wells: WellsExplorer):
    with on_page(browser, wells.live, calm=True) as page:
        at = middle(page, 0, 10)
        page.drag(at, (at[0] + 100, at[1]))
        assert page.told["spin"] == pytest.approx(40, abs=0.5)
        page.click("Play")
        page.page.wait_for_timeout(700)
        place = page.page.evaluate("document.querySelector('.spear-stage').stage.state.run.at")
        assert place == int(place) > 0, "from step to step, without flights"


@pytest.mark.parametrize("hand", ["mouse", "touch"])
def test_a_tap_starts_a_ball_of_the_readers(page: StagePage, wells: WellsExplorer, hand: str):
    x, y = page.at(*middle(page, 60, 40))
    page.page.mouse.click(x, y) if hand == "mouse" else page.page.touchscreen.tap(x, y)
    page.settle(20)
    told = page.told
    assert told["start"] == told["chosen"] >= page.js("state.free") and told["at"] == LAST
    start = page.js("Array.from(state.paths.subarray(3 * state.start * state.heights.shape[1]).slice(0, 3))")
    where = page.js("state.relief.project(state.arcs.get(state.start))")
    box = page.page.locator("canvas").bounding_box()
    assert abs(where[0] + box["x"] - x) < 16 and abs(where[1] + box["y"] - y) < 16
    walked = all_descents(wells.stage)[:, :, told["start"]]
    begun = page_axes(wells.stage) @ walked[0]
    torch.testing.assert_close(begun, torch.tensor(start, dtype=torch.float64), atol=1e-6, rtol=0)
    sample, away = nearest(wells.stage, walked[-1][:, None])
    assert away < NEAR_DEGREES and "Your ball stands at misfit" in page.said
    assert f"at sample {int(sample) + 1}" in page.said


def test_keys_do_what_hands_do(page: StagePage):
    page.press("ArrowRight", "ArrowRight", "ArrowUp")
    assert (page.told["spin"], page.told["tilt"]) == (12, 46)
    page.press("PageUp", "PageUp")
    assert page.told["at"] == 2
    page.press("End")
    assert page.told["at"] == LAST
    before = page.told["chosen"]
    page.press("n")
    assert page.told["chosen"] == (before + 1) % WALKERS
    page.press("d")
    first = page.told["start"]
    page.press("d", "d", "s")
    assert first >= page.js("state.free") and page.told["start"] not in (-1, first)
    assert page.told["chosen"] == page.told["start"]
    page.press(" ")
    page.settle(20)
    assert page.told["at"] == LAST


def test_the_ball_and_the_number_of_walkers(page: StagePage):
    page.page.get_by_label("shape").select_option(label="ball")
    page.settle()
    assert page.js("state.flat") == 0
    page.slide("tilt", -90)
    assert page.js("state.seen.filter(({ hidden }) => hidden).length") > 0, (
        "some are behind, and drawn faintly"
    )
    assert page.js("state.seen.length") == WALKERS
    page.slide("balls", 1)
    page.slide("steps", LAST)
    assert "1 of 1 ball is within" in page.said
    page.slide("balls", 40)
    assert page.js("state.seen.length") == 40


def test_the_view_stays_while_python_sends_another_relief(page: StagePage):
    put = """(stage.model.set('value', {}),
        stage.model.set('data', { ...stage.model.get('data'), keep: argument }), stage.begin())"""
    page.slide("turn", 77)
    page.js(put, True)
    assert page.told["spin"] == 77
    page.js(put, False)
    assert page.told["spin"] == 0, "after a reset all is as at first"


def test_without_equations_it_is_flat(browser: Browser):
    hidden = WellsExplorer()
    hidden.set(seen=3)
    with on_page(browser, hidden.live) as page:
        assert "every direction fits" in page.said
        assert page.js("state.relief.peak") == 0
        page.slide("steps", LAST)
        assert page.js("state.seen.every(({ misfit }) => misfit === 0)")


# ---------------------------------------------------------------- time
@pytest.mark.parametrize("scale", [1, 2])
def test_it_moves_at_fifty_frames_a_second(browser: Browser, wells: WellsExplorer, scale: float):
    with on_page(browser, wells.live, scale=scale) as page:
        for begin in ("stage.state.speed = [2, 0]", "stage.scene.key(stage.state, ' ')"):
            page.settle(20)
            page.page.evaluate(
                f"(() => {{ const {{ stage }} = document.querySelector('.spear-stage'); {begin}; stage.ask(); }})()"
            )
            assert page.frame_seconds() <= FRAME, begin
