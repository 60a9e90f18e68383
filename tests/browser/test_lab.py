"""Every notebook, run in a real JupyterLab, and every control in it moved by keyboard and by mouse.

The tests of one notebook share one window, in this order: run, look, drive.
"""

import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import NOTEBOOKS
from tests.browser.lab import Control, Lab, NotReached, Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

each_notebook = pytest.mark.parametrize(
    "opened", NOTEBOOKS, ids=lambda p: p.stem, indirect=True, scope="module"
)


def every_control(lab: Lab) -> list[Control]:
    return [control for widget in lab.widgets() for control in widget.controls()]


def drive(lab: Lab, control: Control, how: str) -> int:
    """Moves one control in every way; after each step nothing anywhere may have gone wrong."""
    steps = control.by_keyboard() if how == "keyboard" else control.by_mouse()
    count = 0
    for step in steps:
        lab.wait_quiet()
        lab.check(f"{step} on {control.kind} {control.label!r} of {control.widget.name}")
        count += 1
    return count


# ---------------------------------------------------------------- the real notebooks
@each_notebook
def test_runs_top_to_bottom(opened: Lab):
    opened.run_all()


@each_notebook
@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fits_the_page(opened: Lab, theme: str, width: int):
    opened.set_theme(theme)
    opened.set_width(width)
    opened.screenshot(f"{theme}-{width}")
    opened.check(f"showing it in {theme} at {width}")
    too_wide = {w.name: w.overflow() for w in opened.widgets() if w.overflow() > 1}
    assert not too_wide, f"wider than their cells, in pixels: {too_wide}"


@each_notebook
@pytest.mark.parametrize("how", ["keyboard", "mouse"])
def test_every_control(opened: Lab, how: str):
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    controls = every_control(opened)
    driven = sum(drive(opened, control, how) for control in controls)
    assert driven or not controls, f"none of {len(controls)} controls could be moved"


@each_notebook
def test_controls_out_of_order(opened: Lab):
    """All controls once more, in random order and without waiting between them; then all at rest again."""
    rng = random.Random(0)
    controls = every_control(opened)
    for _ in range(2):
        rng.shuffle(controls)
        for control in controls:
            for _ in control.by_keyboard() if rng.random() < 0.5 else control.by_mouse():
                if rng.random() < 0.4:
                    break
    opened.wait_quiet()
    opened.check("all controls out of order")


# ---------------------------------------------------------------- the harness itself, on small notebooks
@pytest.fixture
def scratch(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Lab]:
    lab = Lab(browser, server)
    lab.open_notebook(f"{request.param}.ipynb")
    yield lab
    lab.close()


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scratch", [name], indirect=True)


@on("sound")
def test_harness_sees_pictures_change(scratch: Lab):
    scratch.run_all()
    widget = scratch.widget("spear-scratch")
    assert [c.kind for c in widget.controls()] == ["slider", "select", "checkbox", "button"]
    before = widget.picture()
    widget.move_slider(0, "End")
    by_key = widget.wait_image_change(before)
    assert widget.status == "value 10"
    widget.drag_slider(0, 0.0)
    widget.wait_image_change(by_key)
    assert widget.status == "value 0"
    for how in ("keyboard", "mouse"):
        steps = [drive(scratch, control, how) for control in widget.controls()]
        assert all(steps), steps
    assert widget.overflow() <= 1


@on("sound")
def test_harness_lets_a_control_go_that_goes_while_it_is_reached_for(scratch: Lab):
    scratch.run_all()
    scratch.page.set_default_timeout(2000)
    button = next(c for c in scratch.widget("spear-scratch").controls() if c.kind == "button")
    never_still = "e.animate([{translate: '0'}, {translate: '90px'}], {duration: 300, iterations: Infinity})"
    button.at.evaluate(f"e => void {never_still}")
    with pytest.raises(NotReached):
        next(button.by_mouse())
    button.at.evaluate("e => void setTimeout(() => e.style.visibility = 'hidden', 500)")
    assert not list(button.by_mouse())


@on("faulty")
def test_harness_finds_errors_of_a_callback(scratch: Lab):
    scratch.run_all()
    raising, complaining = scratch.widget("spear-scratch").sliders()
    complaining.press("ArrowRight")
    scratch.wait_quiet()
    assert scratch.errors() == ["status line: Error: must be odd, got an even number"]
    raising.press("ArrowRight")
    scratch.wait_quiet()
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        scratch.check("one step")


@on("wide")
def test_harness_finds_what_does_not_fit(scratch: Lab):
    scratch.run_all()
    assert scratch.widget("spear-scratch").overflow() > 1000


@on("raises")
def test_harness_finds_a_cell_that_raises(scratch: Lab):
    with pytest.raises(AssertionError, match="KeyError"):
        scratch.run_all()
