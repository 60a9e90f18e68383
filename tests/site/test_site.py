"""The built site in a browser: pages open and ask for nothing outside, what moves does, machines can read it.

`make test-site` builds it and runs this. Elsewhere it is built for these tests, with fewer positions, or skipped
where Sphinx is missing.
"""

import contextlib
import functools
import http.server
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Frame, Locator, Page

from docs.site import live, pages, players
from tests.browser.conftest import started
from tests.browser.stages import SERIOUS

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="Sphinx is missing: make site"),
    pytest.mark.browser,
    pytest.mark.thorough,
    pytest.mark.timeout(900),
]
NOTEBOOKS = [f"notebooks/{path.stem}.html" for path in pages.NOTEBOOKS]
MADE = ["index.html", "api.html", "genindex.html", "py-modindex.html", "search.html"]
NAMES = sorted([*(path.with_suffix(".html").as_posix() for path in pages.PAGES), *MADE])
FOUND = {found.name: found for path in pages.NOTEBOOKS for found in live.explorers(path)}
MOVING = [
    name for name in NOTEBOOKS if any(found.notebook in name for found in FOUND.values())
]  # pages on which something does
MOST_BYTES, MOST_BYTES_OF_A_PAGE = 60_000_000, 8_000_000

browser = pytest.fixture(scope="module", name="browser")(started)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    if named := os.environ.get("SPEAR_SITE"):
        return pages.ROOT / named
    into = tmp_path_factory.mktemp("site")
    build = [sys.executable, "docs/site/build.py", "--into", str(into), "--most", "9"]
    subprocess.run(build, check=True, cwd=pages.ROOT, timeout=1800)
    return into / "site"


@pytest.fixture(scope="module")
def known(site: Path) -> dict[str, dict[str, Any]]:
    """What moves, by name."""
    known: dict[str, dict[str, Any]] = json.loads((site / "live" / "live.json").read_text(encoding="utf-8"))
    return known


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextlib.contextmanager
def opened(browser: Browser, address: str, name: str, theme: str = "light", width: int = 1280):
    """A page, in which nothing may go wrong, and the bytes that it has asked for."""
    faults: list[str] = []
    sizes: list[int] = []
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)

        def answered(response) -> None:
            if not response.url.startswith((address, "blob:", "data:")):
                faults.append(f"asked outside: {response.url}")
            elif response.url.startswith(address):
                sizes.append(int(response.headers.get("content-length", 0)))

        page.on("response", answered)
        page.on(
            "requestfailed", lambda r: faults.append(f"failed: {r.url}") if "blob:" not in r.url else None
        )
        page.goto(address + quote(name, safe="/#:"))
        page.wait_for_load_state("load")
        yield page, sizes
        assert not faults, faults
    finally:
        context.close()


def uncover(page: Page) -> None:
    page.evaluate("for (const cover of document.querySelectorAll('details')) cover.open = true")


# ---------------------------------------------------------------- pages
def test_all_pages_are_there_and_it_is_small(site: Path):
    found = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert sorted(name for name in found if not name.startswith(("live/", "_static/"))) == NAMES
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_can_be_read_and_is_small(browser: Browser, address: str, name: str, theme: str):
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, address, name, theme) as (page, sizes):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")  # what is loaded late, too
        page.wait_for_timeout(500)
        assert sum(sizes) <= MOST_BYTES_OF_A_PAGE
        uncover(page)
        found = Axe().run(page, options={"preload": False}).response["violations"]
        serious = [
            (fault["id"], [node["html"][:160] for node in fault["nodes"]][:3])
            for fault in found
            if fault["impact"] in SERIOUS
        ]
        assert serious == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_phone(browser: Browser, address: str, name: str):
    with opened(browser, address, name, width=360) as (page, _):
        uncover(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_nothing_is_left_out(known):
    if "SPEAR_SITE" not in os.environ:
        return  # fewer positions
    for name, about in known.items():
        if about["kind"] == "player":
            explorer = FOUND[name].make()
            main, choice = players.main_controls(explorer)
            assert len(about["choices"]) == (len(players.steps(explorer.control[choice])) if choice else 1)
            first = about["rows"][about["first"]]
            most = players.MOST.get(type(explorer).__name__)
            assert first["names"] == [text for text, _ in players.steps(explorer.control[main], most)]


# ---------------------------------------------------------------- questions
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_question_asks_before_it_shows(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        waiting = page.locator(".spear-veil").count()
        for box in page.locator(".spear-predict").all():
            assert "Answer:" not in box.inner_text() and box.locator("button").is_disabled()
            veils = page.locator(f".spear-veil[data-waits='{box.get_attribute('data-asks')}']")
            assert not any(veil.get_attribute("open") is not None for veil in veils.all())
            right = box.locator("input").first.input_value()
            box.locator("input").first.check()
            box.locator("button").click()
            said = box.locator("[role=status]").inner_text()
            assert f"You said: {right}" in said and "Answer:" in said
            assert said.startswith("✔" if f"Answer: {right}." in said else "✘")
            assert all(veil.get_attribute("open") is not None for veil in veils.all())
            waiting -= veils.count()
        assert waiting == 0, "each cover waits for a question of its page"


# ---------------------------------------------------------------- stages
def shown_stage(page: Page, figure: Locator) -> tuple[Any, Frame]:
    """The frame of a stage that has drawn, as an element and as a page."""
    handle = figure.locator("iframe").element_handle()
    handle.scroll_into_view_if_needed()
    frame = handle.content_frame()
    frame.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
    return handle, frame


def figures(page: Page, kind: str) -> Iterator[tuple[Locator, dict[str, Any]]]:
    """The stages or players of a page, nothing covered, each with what it says of itself."""
    uncover(page)
    for figure in page.locator(kind).all():
        yield figure, json.loads(figure.locator("script").text_content() or "")


def frames(frame: Frame) -> int:
    return frame.evaluate("document.querySelector('.spear-stage').stage.frames")


def moved(frame: Frame, before: int) -> None:
    frame.wait_for_function("n => document.querySelector('.spear-stage').stage.frames > n", arg=before)


@pytest.mark.parametrize("name", MOVING)
def test_every_stage_draws_and_hears_keyboard_and_mouse(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        for figure, about in figures(page, ".spear-live"):
            for option in dict.fromkeys([about["first"], *range(len(about["choices"]))]):
                if about["choice"] is not None:
                    figure.locator("select").select_option(str(option))
                    page.wait_for_timeout(200)
                handle, frame = shown_stage(page, figure)
                before = frames(frame)
                control = frame.locator(
                    ":is(canvas[tabindex], .spear-stage input, .spear-stage button):visible:enabled"
                ).first
                control.focus()
                page.keyboard.press("ArrowRight")
                page.keyboard.press("Space")
                moved(frame, before)
                before = frames(frame)
                frame.locator(
                    ":is(canvas, .spear-stage button, .spear-stage input):visible:enabled"
                ).last.click()
                moved(frame, before)
                page.wait_for_timeout(100)
                ratio = handle.evaluate("frame => frame.clientHeight") / frame.evaluate(
                    "document.documentElement.offsetHeight"
                )
                assert 0.95 < ratio < 1.05, "the frame is as high as what it holds"


# ---------------------------------------------------------------- players
def wait_for(figure: Locator, row: int, position: int) -> None:
    """Until a player shows a position, with all layers of its picture."""
    figure.page.wait_for_function(
        """([name, shown]) => {
            const sheet = document.getElementById(name).querySelector('.spear-sheet');
            return sheet.dataset.shown === shown && [...sheet.querySelectorAll('img')].every(i => i.naturalWidth > 0);
        }""",
        arg=[figure.get_attribute("id"), f"{row}:{position}"],
        polling=20,
    )


def check_position(figure: Locator, about: dict[str, Any], row: int, position: int) -> None:
    wait_for(figure, row, position)
    photographs, *charts = about["rows"][row]["frames"][position]
    said, named, shown = figure.evaluate(
        """(figure, words) => {
            const told = document.createElement('p');
            told.innerHTML = words;
            return [told.textContent === figure.querySelector('.spear-words').textContent,
                figure.querySelector('input[type=range]').getAttribute('aria-valuetext'),
                [...figure.querySelectorAll('.spear-sheet img')].map(i => i.src.replace(/.*\\/(\\d+)\\.webp/, '$1'))];
        }""",
        about["rows"][row]["words"][position],
    )
    assert said and named == about["rows"][row]["names"][position]
    assert shown == [str(number) for number in (*charts, photographs) if number >= 0]


@pytest.mark.parametrize("name", MOVING)
def test_every_player_goes_through_all_positions_by_keyboard(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        for figure, about in figures(page, ".spear-player"):
            slider = figure.locator("input[type=range]")
            for number, row in enumerate(about["rows"]):
                if about["choice"] is not None:
                    figure.locator("select").select_option(str(number))
                slider.focus()
                page.keyboard.press("Home")
                for position in range(len(row["names"])):
                    if position:
                        page.keyboard.press("ArrowRight")
                        check_position(figure, about, number, position)


@pytest.mark.parametrize("name", MOVING)
def test_every_player_hears_the_mouse_and_links(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        for figure, about in figures(page, ".spear-player"):
            row, last = about["first"], len(about["rows"][about["first"]]["names"]) - 1
            slider = figure.locator("input[type=range]")
            slider.scroll_into_view_if_needed()
            box = slider.bounding_box()
            assert box is not None
            middle = box["y"] + box["height"] / 2
            page.mouse.move(box["x"] + box["width"] / 2, middle)
            page.mouse.down()
            for end, x in ((last, box["x"] + box["width"] + 20), (0, box["x"] - 20)):
                page.mouse.move(x, middle, steps=5)
                check_position(figure, about, row, end)
            page.mouse.up()
            figure.get_by_role("button", name="Step forward").click()
            check_position(figure, about, row, 1)
            figure.get_by_role("button", name="Step back").click()
            check_position(figure, about, row, 0)
            figure.get_by_role("button", name="Play").click()
            wait_for(figure, row, 1)
            figure.get_by_role("button", name="Stop").click()
            page.goto(page.url.partition("#")[0] + f"#{figure.get_attribute('id')}:{row}:{last}")
            check_position(figure, about, row, last)


def test_a_link_to_a_position_opens_its_cover_and_shows_it(browser: Browser, address: str, known):
    name = next(name for name, about in known.items() if about["kind"] == "player")
    last = len(known[name]["rows"][0]["names"]) - 1
    with opened(browser, address, f"notebooks/{FOUND[name].notebook}.html#{name}:0:{last}") as (page, _):
        figure = page.locator(f"[id='{name}']")
        check_position(figure, known[name], 0, last)
        assert figure.locator(".spear-sheet").is_visible()


def test_a_chart_is_dark_on_a_dark_page(browser: Browser, address: str, known):
    name = next(name for name, about in known.items() if about["kind"] == "player")
    with opened(browser, address, f"notebooks/{FOUND[name].notebook}.html", "dark") as (page, _):
        uncover(page)
        sheet = page.locator(f"[id='{name}'] .spear-sheet")
        sheet.scroll_into_view_if_needed()
        page.locator(f"[id='{name}'] .spear-sheet img").first.evaluate("image => image.decode()")
        page.wait_for_timeout(200)
        with Image.open(io.BytesIO(sheet.screenshot())) as drawn:
            assert (
                max(abs(a - b) for a, b in zip(drawn.convert("RGB").getpixel((2, 2)), players.DARK.paper))
                <= 3
            )


# ---------------------------------------------------------------- the same as in a notebook
def composed(folder: Path, frame: list[int], *, dark: bool) -> Image.Image:
    """The layers of a position as the page lays them over each other."""
    photographs, *charts = frame
    made = Image.open(folder / f"{charts[0]}.webp").convert("RGB")
    for number in charts[1:]:
        layer = Image.open(folder / f"{number}.webp").convert("RGBA")
        made.paste(layer, mask=layer)
    if dark:
        made = made.convert("RGB", players.DARK.matrix)
    if photographs >= 0:
        layer = Image.open(folder / f"{photographs}.webp").convert("RGBA")
        made.paste(layer, mask=layer)
    return made


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_a_player_shows_and_says_what_the_explorer_does(found: live.Found, site: Path, known):
    if known[found.name]["kind"] == "player":
        # Beside the browser's event loop, in which an explorer would not wait for what it computes
        with ThreadPoolExecutor(1) as beside:
            beside.submit(check_player, found, known[found.name], site / "live" / found.name).result()


def check_player(found: live.Found, about: dict[str, Any], folder: Path) -> None:
    explorer = found.make()
    main, choice = players.main_controls(explorer)
    choices = dict(players.steps(explorer.control[choice])) if choice else {"": None}
    for number, (row, text) in enumerate(zip(about["rows"], about["choices"], strict=True)):
        if choice:
            players.at(explorer, **{choice: choices[text]})
        explorer._drawn.clear()
        values = dict(players.steps(explorer.control[main]))
        # words at all positions of the choice that it opens with, pictures at three of each
        looked_at = {0, len(row["names"]) // 2, len(row["names"]) - 1}
        for k in range(len(row["names"])) if number == about["first"] else sorted(looked_at):
            said = players.at(explorer, **{main: values[row["names"][k]]})
            if any(" seconds" in words for words in (said, row["words"][k])):
                continue  # an attack that the clock has ended: how far it came depends on the machine
            assert said == row["words"][k]
            if k in looked_at:
                light, dark = players.on_paper(explorer), players.in_the_dark(explorer)
                for picture, is_dark in ((light, False), (dark, True)):
                    stored = composed(folder, row["frames"][k], dark=is_dark)
                    height = min(stored.height, picture.height)  # what is lower ends in empty paper
                    both = [each.crop((0, 0, each.width, height)) for each in (stored, picture)]
                    difference = max(high for _, high in ImageChops.difference(*both).getextrema())
                    assert difference <= (players.ROUNDING if is_dark else 0)
