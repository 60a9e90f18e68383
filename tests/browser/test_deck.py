"""The teacher's deck and printed pages in a browser: keys, notes, paper, and what axe-core says of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from teaching import answers, deck, exam
from tests.browser.stages import SERIOUS

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{fault['id']}: {fault['help']}" for fault in found if fault["impact"] in SERIOUS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("teaching")
    for name, text in (
        ("deck", deck.page()),
        ("exam", exam.page(key=True)),
        ("answers", answers.page(dict.fromkeys(answers.CLIENTS, 0))),
    ):
        (made / f"{name}.html").write_text(text, encoding="utf-8")
    return made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    yield page
    context.close()
    assert not faults


def test_every_slide_fits_and_is_reached_by_keyboard(page: Page, folder: Path):
    page.goto((folder / "deck.html").as_uri())
    count = page.locator("section").count()
    for number in range(1, count + 1):
        shown = page.locator("section:visible")
        assert shown.count() == 1 and shown.get_attribute("id") == str(number)
        assert shown.evaluate("slide => slide.scrollHeight <= slide.clientHeight"), (
            f"slide {number} is cut off"
        )
        for picture in shown.locator("figure img").all():
            box = picture.bounding_box()
            assert box and box["height"] > 120 and box["y"] + box["height"] <= 720
        assert not page.locator("aside:visible").count()
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Home")
    assert page.locator("section:visible").get_attribute("id") == "1"
    page.keyboard.press("n")
    assert page.locator("aside:visible").count() == 1


def test_the_speaker_has_a_window(page: Page, folder: Path):
    page.goto((folder / "deck.html").as_uri())
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    notes = opened.value
    assert "Ten minutes" in notes.locator("body").inner_text()
    notes.keyboard.press("ArrowRight")
    assert page.locator("section:visible").get_attribute("id") == "2"
    assert notes.locator("h2").inner_text().startswith("2 · ")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["deck", "exam", "answers"])
def test_machines_can_read_it(page: Page, folder: Path, name: str, theme: str):
    page.emulate_media(color_scheme=theme)
    page.goto((folder / f"{name}.html").as_uri())
    assert serious(page) == []


def test_on_paper_every_slide_has_a_page_with_its_notes(page: Page, folder: Path):
    page.goto((folder / "deck.html").as_uri())
    pages = page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n")
    assert pages == page.locator("section").count()
    page.emulate_media(media="print")
    assert page.locator("aside:visible").count() == pages
