"""A covered stage and a covered picture in JupyterLab: by the button, and by the answer, with the keyboard alone."""

from collections.abc import Iterator

import pytest

from tests.browser.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]


@pytest.fixture
def lab(window: Lab) -> Iterator[Lab]:
    window.open_notebook("veiled.ipynb")
    window.run_all()
    yield window
    window.close_notebook()


def test_covered_shown_without_an_answer_and_answered(lab: Lab):
    veils = lab.page.locator(".spear-veil")
    stage, picture = veils.nth(0).locator("canvas"), veils.nth(1).locator("img")
    assert veils.count() == 2
    assert not stage.count() and not picture.count()
    height = veils.nth(0).bounding_box()["height"]
    assert height > 300, "as high as what it covers"

    skip = veils.nth(0).get_by_role("button", name="Show without answering")
    skip.focus()
    lab.page.keyboard.press("Space")
    stage.first.wait_for(state="visible")
    veils.nth(0).get_by_role("button", name="Cover it again").focus()
    lab.page.keyboard.press("Space")
    stage.first.wait_for(state="detached")
    assert not picture.count(), "the other one stays covered"

    question = lab.page.locator(".spear-predict")
    question.locator("input").nth(1).focus()
    lab.page.keyboard.press("Space")
    lab.wait_quiet()
    question.get_by_role("button", name="This is my answer").focus()
    lab.page.keyboard.press("Space")
    stage.first.wait_for(state="visible")
    picture.wait_for(state="visible")
    for veil in (veils.nth(0), veils.nth(1)):
        assert veil.get_by_role("status").first.inner_text() == "✘ You said: it is not. Answer: it is."
    assert picture.get_attribute("title"), "a picture has its description"
    lab.check("answering")
