"""The ghosts: slid, pushed, swiped, played; what they show is what spear_core makes of the same Q."""

from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser

from spear_core.spear.reconstruction import gradient_residual
from spear_core.study.ghosts import STEPS, ghosts
from spear_widgets.low_rank.ghosts import GhostExplorer
from tests.browser.stages import StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def ghost() -> GhostExplorer:
    return GhostExplorer()


@pytest.fixture
def page(browser: Browser, ghost: GhostExplorer) -> Iterator[StagePage]:
    with on_page(browser, ghost.live, touch=True) as shown:
        yield shown


def agrees(page: StagePage, ghost: GhostExplorer) -> None:
    """Rows, zeros and the difference from the gradient are those of spear_core for the Q that is shown."""
    stage, told = ghost.stage, page.told
    wanted = ghosts(stage.forward, stage.true_q, told["wrong"], told["step"])
    rows = torch.tensor(page.numbers("state.photos"), dtype=torch.float64).reshape(wanted.inputs.shape)
    assert float((rows - wanted.inputs).abs().max()) < 1e-5, "R travels in 32 bits"
    assert told["zeros"] == stage.zero(wanted.directions)[stage.live].sum(dim=0).tolist()
    counted = page.js("state.columns.map(column => column.zero.filter(Boolean).length)")
    assert counted == told["zeros"], "what is drawn is what is said"
    difference = gradient_residual(wanted, stage.layer, wanted.output_grads)
    assert page.js("state.residual") == pytest.approx(difference, rel=1e-3)
    assert told["right"] == (told["step"] == STEPS)
    assert page.said.startswith("The right Q." if told["right"] else "A wrong Q, ")


def on_track(page: StagePage, step: float) -> tuple[float, float]:
    track = page.js("state.at.track")
    return track["x"] + step / STEPS * track["width"], track["y"] + track["height"]


@pytest.mark.parametrize(("data", "b"), [("photos", 2), ("digits", 5), ("photos", 8)])
def test_it_agrees_all_the_way(browser: Browser, data: str, b: int):
    ghost = GhostExplorer()
    ghost.set(data=data, batch_size=b)
    with on_page(browser, ghost.live) as page:
        for wrong in (1, 9):
            page.page.get_by_label("which wrong Q").select_option(str(wrong))
            for step in (0, 37.5, 99.5, STEPS):
                page.slide("from wrong to right", step)
                assert page.told["step"] == step
                agrees(page, ghost)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_the_track_is_grabbed_and_the_pictures_pushed(page: StagePage, ghost: GhostExplorer, hand: str):
    getattr(page, hand)(on_track(page, 0), on_track(page, 70))
    assert page.told["step"] == pytest.approx(70, abs=0.5)
    agrees(page, ghost)
    getattr(page, hand)((300, 100), (180, 110))
    assert 40 < page.told["step"] < 60
    getattr(page, hand)((200, 100), (900, 100))
    assert page.told["step"] == STEPS, "the right Q is where the way ends, however far one pushes"
    agrees(page, ghost)


def test_keys(page: StagePage, ghost: GhostExplorer):
    page.press("ArrowRight", "PageUp", "ArrowUp", "ArrowLeft")
    assert page.told["step"] == 11
    page.press("End")
    agrees(page, ghost)
    page.press("ArrowLeft")
    assert page.told["step"] == 99 and max(page.told["zeros"]) == 0
    page.press("Home", "PageDown")
    assert page.told["step"] == 0


def test_it_plays_to_the_end_and_again(page: StagePage, ghost: GhostExplorer):
    page.press("PageUp", " ")
    page.page.wait_for_function("document.querySelector('.spear-stage').stage.state.step > 12")
    page.click("Pause")
    assert 12 < page.told["step"] < STEPS
    agrees(page, ghost)
    page.slide("from wrong to right", 95)
    page.click("Play")
    page.page.wait_for_function("document.querySelector('.spear-stage').stage.state.right")
    agrees(page, ghost)
    assert page.page.get_by_role("button", name="Play").is_visible()
    page.click("Play")
    page.click("Pause")
    assert page.told["step"] < STEPS


def test_without_motion_play_goes_to_the_end(browser: Browser, ghost: GhostExplorer):
    with on_page(browser, ghost.live, calm=True) as page:
        page.click("Play")
        assert page.told["right"]


def test_entries_shrink_and_only_their_number_jumps(page: StagePage):
    """The entries that end at zero shrink in step with the way that is left: no colour jumps."""
    page.slide("from wrong to right", STEPS)
    ends = "state.columns.map((c, i) => state.ending[i].map(k => Math.abs(c.entries[k])))"
    page.js("(state.ending = state.columns.map(c => c.zero.flatMap((z, k) => z ? [k] : [])), 0)")
    means = []
    for step in (80, 90, 95, 99, 99.5):
        page.slide("from wrong to right", step)
        sizes = torch.cat([torch.tensor(column) for column in page.js(ends)])
        means.append(float(sizes.mean()) / (STEPS - step))
        assert sum(page.told["zeros"]) <= 1
    assert max(means) < 1.2 * min(means)
