"""What every stage keeps: it fits, in both themes and at any scale; machines can read it; it is its stored picture."""

import functools
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from docs.stills import STILLS, make_still
from spear_widgets.kit.stage import Stage
from tests.browser.stages import WIDTH, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

TALLEST = 560  # CSS pixels
DIFFERENT = 12  # mean difference of two pictures, of 255, above which they show something else

each = pytest.mark.parametrize("name", STILLS)


@functools.cache
def stage_of(name: str) -> Stage:
    return STILLS[name]()


@pytest.fixture(scope="module", params=STILLS)
def narrow(request: pytest.FixtureRequest, browser: Browser) -> Iterator[StagePage]:
    with on_page(browser, stage_of(request.param), width=336) as page:
        yield page


def fits_and_can_be_read(page: StagePage) -> None:
    assert page.height() <= TALLEST
    assert page.overflow() <= 0
    assert len(page.said) > 20
    assert page.unreadable() == []
    assert page.faulty_labels() == []


def test_it_fits_and_can_be_read(narrow: StagePage):
    fits_and_can_be_read(narrow)


@pytest.mark.thorough
@each
@pytest.mark.parametrize("width", [WIDTH, 1600])
def test_it_fits_at_other_widths(browser: Browser, name: str, width: int):
    with on_page(browser, stage_of(name), width=width) as page:
        fits_and_can_be_read(page)


def test_ink_may_be_translucent(narrow: StagePage):
    """As JupyterLab's is: a colour that is none would silently leave the one before it."""
    narrow.page.add_style_tag(content="body { color: rgba(0, 0, 0, 0.87); }")
    narrow.js("stage.ask()")
    inks = narrow.js("[stage.pen.ink, stage.pen.soft, stage.pen.tone(0.3)]")
    assert all(narrow.page.evaluate("ink => CSS.supports('color', ink)", ink) for ink in inks), inks


@pytest.mark.thorough
@each
def test_both_themes_both_scales_and_without_motion(browser: Browser, name: str):
    with on_page(browser, stage_of(name), theme="dark", scale=2, calm=True) as page:
        page.settle()
        pixels = page.js("[stage.canvas.width, stage.canvas.clientWidth]")
        assert pixels[0] == 2 * pixels[1]
        shot = np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("L"))
        assert np.median(shot) < 60, "a dark page must stay dark"


@pytest.mark.thorough
@each
def test_the_stored_picture_is_what_it_draws(browser: Browser, name: str):
    stage = stage_of(name)
    drawn, stored = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=float)
        for content in (make_still(browser, stage), stage.still)
    )
    assert drawn.shape == stored.shape, "run docs/stills.py"
    assert np.abs(drawn - stored).mean() < DIFFERENT, "run docs/stills.py"
