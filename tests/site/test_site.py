"""The built site in a browser: pages open and ask for nothing outside, what moves does, machines can read it.

`make test-site` builds it and runs this. Where it has not been built, all of it is skipped.
"""

import contextlib
import functools
import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from docs.site import live, pages
from tests.browser.conftest import require_browser
from tests.browser.lab import launch
from tests.browser.stages import SERIOUS

SITE = pages.ROOT / "build" / "site"
BUILT = importlib.util.find_spec("sphinx") is not None and (SITE / "index.html").exists()
pytestmark = [
    pytest.mark.skipif(not BUILT, reason="the site is not built here: make site"),
    pytest.mark.browser,
    pytest.mark.thorough,
    pytest.mark.timeout(900),
]
NAMES = sorted(
    str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if not {"live", "_static"} & {*path.parts}
)
WITH_FIGURES = [name for name in NAMES if 'class="spear-' in (SITE / name).read_text(encoding="utf-8")]
MOST_BYTES, MOST_BYTES_OF_A_PAGE = 60_000_000, 8_000_000


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_browser()
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@contextlib.contextmanager
def opened(
    browser: Browser, address: str, name: str, theme: str = "light"
) -> Iterator[tuple[Page, list[int]]]:
    """A page, in which nothing may go wrong, and the bytes that it has asked for."""
    faults: list[str] = []
    sizes: list[int] = []
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme=theme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)

        def answered(response) -> None:
            if not response.url.startswith((address, "blob:", "data:")):
                faults.append(f"asked outside: {response.url}")
            elif response.url.startswith(address):
                path = SITE / response.url.removeprefix(address).partition("?")[0].partition("#")[0]
                sizes.append(path.stat().st_size if path.is_file() else 0)

        page.on("response", answered)
        page.on(
            "requestfailed", lambda r: faults.append(f"failed: {r.url}") if "blob:" not in r.url else None
        )
        page.goto(address + quote(name))
        page.wait_for_load_state("load")
        yield page, sizes
        assert not faults, faults
    finally:
        context.close()


def test_it_is_small():
    assert sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_can_be_read_and_is_small(browser: Browser, address: str, name: str, theme: str):
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, address, name, theme) as (page, sizes):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")  # what is loaded late, too
        page.wait_for_timeout(500)
        found = Axe().run(page, options={"preload": False}).response["violations"]
        serious = [
            (fault["id"], [node["html"][:160] for node in fault["nodes"]][:3])
            for fault in found
            if fault["impact"] in SERIOUS
        ]
        assert serious == []
    assert sum(sizes) <= MOST_BYTES_OF_A_PAGE


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_every_stage_draws_and_hears_a_control(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        page.evaluate("for (const cover of document.querySelectorAll('details')) cover.open = true")
        for handle in page.locator(".spear-live iframe").element_handles():
            handle.scroll_into_view_if_needed()
            page.wait_for_timeout(200)
            frame = handle.content_frame()
            assert frame is not None
            frame.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
            before = frame.evaluate("document.querySelector('.spear-stage').stage.frames")
            control = frame.locator(
                ":is(canvas[tabindex], .spear-stage input, .spear-stage button):visible:enabled"
            ).first
            control.focus()
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Space")
            frame.wait_for_function(
                "before => document.querySelector('.spear-stage').stage.frames > before", arg=before
            )
            ratio = handle.evaluate("frame => frame.clientHeight") / frame.evaluate(
                "document.documentElement.offsetHeight"
            )
            assert 0.95 < ratio < 1.05, "the frame is as high as what it holds"


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_every_player_goes_through_all_positions_by_keyboard(browser: Browser, address: str, name: str):
    with opened(browser, address, name) as (page, _):
        page.evaluate("for (const cover of document.querySelectorAll('details')) cover.open = true")
        for figure in page.locator(".spear-player").all():
            about = json.loads(figure.locator("script").text_content() or "")
            slider, image = figure.locator("input[type=range]"), figure.locator(".spear-sheet img")
            for number, row in enumerate(about["rows"]):
                if about["choice"] is not None:
                    figure.locator("select").select_option(str(number))
                slider.focus()
                page.keyboard.press("Home")
                for position, text in enumerate(row["names"]):
                    if position:
                        page.keyboard.press("ArrowRight")
                    assert slider.get_attribute("aria-valuetext") == text
                    assert (image.get_attribute("src") or "").endswith(f"/{number}-{position}.webp")
                    said = figure.locator(".spear-words").evaluate(
                        "(e, t) => { const d = document.createElement('p');"
                        " d.innerHTML = t; return e.textContent === d.textContent; }",
                        row["words"][position],
                    )
                    assert said
                    assert image.evaluate("async e => { await e.decode(); return e.naturalWidth > 0; }")
            first, last = about["first"], len(about["rows"][about["first"]]["names"]) - 1
            page.goto(page.url.partition("#")[0] + f"#{figure.get_attribute('id')}:{first}:{last}")
            page.wait_for_function(
                "([name, end]) => document.getElementById(name).querySelector('img').src.endsWith(end)",
                arg=[figure.get_attribute("id"), f"/{first}-{last}.webp"],
            )


PLAYED = [found for path in pages.NOTEBOOKS for found in live.explorers(path)] if BUILT else []


@pytest.mark.parametrize("found", PLAYED, ids=lambda found: found.name)
def test_a_player_says_what_the_explorer_says(found: live.Found):
    explorer = found.make()
    if explorer.live is not None:
        return
    known = json.loads((pages.ROOT / "build/site-source/extra/live/live.json").read_text(encoding="utf-8"))
    about = known[found.name]
    row = about["rows"][about["first"]]
    main, _ = live.main_controls(explorer)
    steps = live.steps(explorer.control[main], live.MOST_POSITIONS)
    assert [text for text, _ in steps] == row["names"]
    for words, (_, value) in zip(row["words"], steps):
        assert live.at(explorer, **{main: value}) == words
