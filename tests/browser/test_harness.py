"""The harness finds what it looks for: small notebooks, written at test time, with and without faults."""

from collections.abc import Iterator

import pytest

from tests.browser.lab import Gone, Lab

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(900)]


@pytest.fixture
def scratch(request: pytest.FixtureRequest, window: Lab) -> Iterator[Lab]:
    window.open_notebook(f"{request.param}.ipynb")
    yield window
    window.page.set_default_timeout(30_000)  # Playwright's own
    window.close_notebook()


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scratch", [name], indirect=True)


@on("sound")
def test_sees_pictures_change(scratch: Lab):
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
        steps = [control.drive(how, 2) for control in widget.controls()]
        assert all(steps), steps
    assert widget.overflow() <= 1


@on("sound")
def test_lets_a_control_go_that_goes_while_it_is_reached_for(scratch: Lab):
    scratch.run_all()
    button = next(c for c in scratch.widget("spear-scratch").controls() if c.kind == "button")
    never_still = "e.animate([{translate: '0'}, {translate: '90px'}], {duration: 300, iterations: Infinity})"
    button.at.evaluate(f"e => void {never_still}")
    scratch.page.set_default_timeout(2000)
    with pytest.raises(Gone):
        next(button.by_mouse())
    button.at.evaluate("e => void setTimeout(() => e.style.visibility = 'hidden', 500)")
    assert not list(button.by_mouse())


@on("faulty")
def test_finds_errors_of_a_callback(scratch: Lab):
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
def test_finds_what_does_not_fit(scratch: Lab):
    scratch.run_all()
    assert scratch.widget("spear-scratch").overflow() > 1000


@on("raises")
def test_finds_a_cell_that_raises(scratch: Lab):
    with pytest.raises(AssertionError, match="KeyError"):
        scratch.run_all()
