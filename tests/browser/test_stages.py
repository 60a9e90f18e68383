"""What every stage keeps: it fits, in both themes and at any scale; machines can read it; it is its stored picture."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from docs.stills import STILLS, make_still
from tests.browser.stages import WIDTH, on_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

TALLEST = 560  # CSS pixels
DIFFERENT = 12  # mean difference of two pictures, of 255, above which they show something else

each = pytest.mark.parametrize("name", STILLS)


@each
def test_it_fits_and_can_be_read(browser: Browser, name: str):
    stage = STILLS[name]()
    for width in (336, WIDTH, 1600):
        with on_page(browser, stage, width=width) as page:
            assert page.height() <= TALLEST
            assert page.overflow() <= 0
            assert len(page.said) > 20
            if width == WIDTH:
                assert page.unreadable() == []


@pytest.mark.thorough
@each
def test_both_themes_both_scales_and_without_motion(browser: Browser, name: str):
    stage = STILLS[name]()
    with on_page(browser, stage, theme="dark", scale=2, calm=True) as page:
        page.settle()
        pixels = page.js("[stage.canvas.width, stage.canvas.clientWidth]")
        assert pixels[0] == 2 * pixels[1]
        shot = np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("L"))
        assert np.median(shot) < 60, "a dark page must stay dark"


@pytest.mark.thorough
@each
def test_the_stored_picture_is_what_it_draws(browser: Browser, name: str):
    stage = STILLS[name]()
    drawn, stored = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=float)
        for content in (make_still(browser, stage), stage.still)
    )
    assert drawn.shape == stored.shape, "run docs/stills.py"
    assert np.abs(drawn - stored).mean() < DIFFERENT, "run docs/stills.py"


@each
def test_ink_may_be_translucent(browser: Browser, name: str):
    """As JupyterLab's is: a colour that is none would silently leave the one before it."""
    with on_page(browser, STILLS[name](), calm=True) as page:
        page.page.add_style_tag(content="body { color: rgba(0, 0, 0, 0.87); }")
        page.js("stage.ask()")
        inks = page.js("[stage.pen.ink, stage.pen.soft, stage.pen.tone(0.3)]")
        assert all(page.page.evaluate("ink => CSS.supports('color', ink)", ink) for ink in inks), inks
