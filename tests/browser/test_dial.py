"""The dial: grabbed, swiped, turned by keys; what it shows is what spear_core says."""

import math
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser

from spear_widgets.sparsity.dial import DialExplorer, at_angle
from spear_widgets.sparsity.directions import look
from tests.browser.stages import StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


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
