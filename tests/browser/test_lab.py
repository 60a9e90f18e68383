"""Every notebook, run in a real JupyterLab as it was stored, and every control in it moved by keyboard and by mouse.

The tests of one notebook share one window, in which the fixture `opened` has run it. `make test` looks once and
moves each explorer's controls once; the rest, which is `thorough`, looks from all sides and moves all in all ways.
"""

import random

import pytest

from tests.browser.conftest import NOTEBOOKS
from tests.browser.lab import ROOT, Lab, Widget
from tests.notebooks.same_outputs import differences

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # what a stored output calls a widget

each_notebook = pytest.mark.parametrize(
    "opened", NOTEBOOKS, ids=lambda p: p.stem, indirect=True, scope="module"
)


def widgets_of(lab: Lab) -> list[Widget]:
    """The widgets in the page; there are some if the notebook as it is stored has some."""
    widgets = lab.widgets()
    stored = (ROOT / "notebooks" / f"{lab.name}.ipynb").read_text(encoding="utf-8")
    assert bool(widgets) == (WIDGET_VIEW in stored), f"{lab.name} shows {len(widgets)} widgets"
    return widgets


def one_of_each(widgets: list[Widget]) -> list[Widget]:
    """The first widget of each class."""
    return list({widget.name: widget for widget in reversed(widgets)}.values())[::-1]


def drive_all(widget: Widget, how: str) -> None:
    """Moves all controls of a widget, then those that this has woken up, as a choice does the answer's button."""
    moved: set[str] = set()
    steps = 0
    for _ in range(2):
        for control in widget.controls():
            if control.mark not in moved:
                moved.add(control.mark)
                steps += control.drive(how)
    assert_moved(widget, steps, len(moved))


def drive_shortly(widget: Widget) -> None:
    """One step with each control by keyboard, with a stage by mouse, too; then with those that this has woken up.

    Radio buttons are one control.
    """
    moved: dict[str, str] = {}
    steps = 0
    for _ in range(2):
        for control in widget.controls():
            if control.mark not in moved and not (control.kind == "radio" and "radio" in moved.values()):
                moved[control.mark] = control.kind
                steps += control.drive("keyboard", 1)
                steps += control.drive("mouse", 1) if control.kind == "canvas" else 0
    assert_moved(widget, steps, len(moved))


def assert_moved(widget: Widget, steps: int, controls: int) -> None:
    """Something moved; what a veil covered may be a picture, which cannot."""
    picture = "spear-veil" in widget.name.split() and not controls
    assert steps or picture, f"none of {controls} controls of {widget.name} could be moved"


# ---------------------------------------------------------------- the real notebooks
@each_notebook
def test_runs_top_to_bottom(opened: Lab):
    widgets_of(opened)
    opened.check("running it")


@each_notebook
def test_its_outputs_are_the_stored_ones(opened: Lab, request: pytest.FixtureRequest):
    found = differences(request.session, ROOT / "notebooks" / f"{opened.name}.ipynb", opened.ran)
    assert not found, "\n\n".join([opened.name, *found])


@each_notebook
@pytest.mark.parametrize(
    ("theme", "width"),
    [
        ("light", 1280),
        pytest.param("dark", 1920, marks=pytest.mark.thorough),
        pytest.param("light", 1920, marks=pytest.mark.thorough),
        pytest.param("dark", 1280, marks=pytest.mark.thorough),
    ],
)
def test_fits_the_page(opened: Lab, theme: str, width: int):
    opened.set_theme(theme)
    opened.set_width(width)
    opened.screenshot(f"{theme}-{width}")
    opened.check(f"showing it in {theme} at {width}")
    too_wide = {w.name: w.overflow() for w in widgets_of(opened) if w.overflow() > 1}
    assert not too_wide, f"wider than their cells, in pixels: {too_wide}"
    cut = opened.page.evaluate(
        "[...document.querySelectorAll('.widget-readout')]"
        ".filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.textContent)"
    )
    assert not cut, f"what a slider says is cut off: {cut}"


@each_notebook
def test_each_explorer(opened: Lab):
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    for widget in one_of_each(widgets_of(opened)):
        drive_shortly(widget)


@pytest.mark.parametrize(
    "opened",
    [path for path in NOTEBOOKS if path.stem == "02_sparsity"],
    ids=lambda p: p.stem,
    indirect=True,
    scope="module",
)
@pytest.mark.parametrize("name", ["spear-dial", "spear-sphere"])
def test_arrow_keys_move_a_stage_and_not_the_notebook(opened: Lab, name: str):
    root = opened.widget(name).root
    canvas, slider, said = (
        root.locator(part).first for part in ("canvas", "input[type=range]", ".spear-said")
    )
    canvas.scroll_into_view_if_needed()
    for where in (canvas, slider):
        where.click()
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
            before = said.inner_text()
            opened.page.keyboard.press(key)
            opened.page.wait_for_timeout(300)
            assert said.inner_text() != before, f"{key} on {where}"
    opened.check("arrow keys")


@each_notebook
@pytest.mark.thorough
@pytest.mark.parametrize("how", ["keyboard", "mouse"])
def test_every_control(opened: Lab, how: str):
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    for widget in widgets_of(opened):
        drive_all(widget, how)


@each_notebook
@pytest.mark.thorough
def test_controls_out_of_order(opened: Lab):
    """All controls once more, in random order and without waiting between them; then all at rest again."""
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    rng = random.Random(0)
    widgets = widgets_of(opened)
    for _ in range(2):
        controls = [control for widget in widgets for control in widget.controls()]
        assert controls or not widgets
        rng.shuffle(controls)
        for control in controls:
            for _ in control.by_keyboard() if rng.random() < 0.5 else control.by_mouse():
                if rng.random() < 0.4:
                    break
    opened.wait_quiet()
    opened.check("all controls out of order")
