"""The dial: grabbed, swiped, turned by keys; what it shows is what spear_core says."""

import math
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser

from spear_core.spear.reconstruction import reconstruct
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.sparsity.dial import DialExplorer, at_angle
from spear_widgets.sparsity.directions import look
from tests.browser.stages import StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def dial() -> DialExplorer:
    return DialExplorer()


@pytest.fixture
def page(browser: Browser, dial: DialExplorer) -> Iterator[StagePage]:
    with on_page(browser, dial.live, touch=True) as shown:
        yield shown


def on_rim(page: StagePage, degrees: float) -> tuple[float, float]:
    dial = page.js("state.at.dial")
    a = math.radians(degrees)
    return dial["x"] + dial["radius"] * math.cos(a), dial["y"] - dial["radius"] * math.sin(a)


def agrees(page: StagePage, dial: DialExplorer) -> None:
    """Entries and zeros are those of spear_core for the angle that is shown."""
    wanted = look(dial.stage, torch.tensor(page.numbers("state.q"), dtype=torch.float64))
    assert torch.allclose(torch.tensor(page.numbers("state.entries"), dtype=torch.float64), wanted.entries)
    assert page.told["zeros"] == wanted.zeros
    assert page.told["sample"] == (-1 if wanted.sample is None else wanted.sample)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_the_needle_is_grabbed(page: StagePage, dial: DialExplorer, hand: str):
    getattr(page, hand)(on_rim(page, 20), on_rim(page, 60))
    assert page.told["angle"] == pytest.approx(60, abs=0.5)
    agrees(page, dial)


def test_it_snaps_within_half_a_degree(page: StagePage, dial: DialExplorer):
    exact = page.js("state.angles")[0]
    page.drag(on_rim(page, 20), on_rim(page, exact + 0.3))
    assert page.told == {"angle": exact, "zeros": page.js("state.peaks")[0], "sample": 0}
    agrees(page, dial)
    assert "exactly the direction of sample 1" in page.said
    page.drag(on_rim(page, exact), on_rim(page, exact + 2))
    assert page.told["sample"] == -1 and page.told["angle"] == pytest.approx(exact + 2, abs=0.5)
    assert "2." in page.said and "° from the direction of sample 1" in page.said


def test_keys_and_slider_do_the_same(page: StagePage, dial: DialExplorer):
    page.press("ArrowRight", "PageUp")
    assert page.told["angle"] == 31
    page.slide("turn q", 75)
    assert page.told["angle"] == 75
    for _ in range(2):
        page.click("Next sample")
        agrees(page, dial)
        assert page.told["sample"] >= 0
    page.press("ArrowRight")
    assert page.told["sample"] == -1, "a step must leave the sample again"
    agrees(page, dial)


def test_angles_are_those_of_the_core(page: StagePage, dial: DialExplorer):
    for q, degrees in zip(dial.stage.true_directions.T, page.js("state.angles"), strict=True):
        assert abs(float(q @ at_angle(degrees))) > 1 - 1e-12


def test_the_picture_is_what_spear_core_makes_of_q(page: StagePage, dial: DialExplorer):
    batch = dial.stage.batch
    for place in (25, 140.5, *page.js("state.angles")):
        page.js("stage.change(() => stage.scene.controls[0].set(state, argument))", place)
        q = torch.tensor(page.numbers("state.q"), dtype=torch.float64)
        both = torch.stack([q, torch.stack([-q[1], q[0]])], dim=1)
        wanted = reconstruct(dial.stage.forward, both).inputs[1]
        got = torch.tensor(page.numbers("state.other"), dtype=torch.float64)
        assert torch.allclose(got, wanted, atol=1e-4 * float(wanted.abs().max()))
        shown = page.numbers("state.ghost.getContext('2d').getImageData(0, 0, 32, 32).data")
        pixels = torch.tensor(shown).reshape(32, 32, 4)[..., :3] / 255
        drawn = torch.from_numpy(sample_pictures(batch, wanted[None].float()))[0].clamp(0, 1)
        assert float((pixels - drawn).abs().max()) < 2 / 255
        if page.told["sample"] >= 0:
            other = batch.inputs[1 - page.told["sample"]]
            assert float((got - other).abs().max()) < 1e-4


def test_arrow_keys_on_the_slider_come_to_a_sample_and_leave_it(page: StagePage, dial: DialExplorer):
    exact = page.js("state.angles")[0]
    page.slide("turn q", round(exact - 2))
    page.page.get_by_role("slider", name="turn q").focus()
    seen = []
    for _ in range(8):
        page.page.keyboard.press("ArrowRight")
        agrees(page, dial)
        seen.append(page.told["sample"])
    assert seen[0] == seen[-1] == -1 and 0 in seen
