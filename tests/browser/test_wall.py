"""The wall: what it shows and says of every tile is what was recorded, by any hand, at fifty frames a second."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from spear_widgets.scale import wall as module
from spear_widgets.scale.wall import RECORDED, WallExplorer
from tests.browser.stages import FRAME, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wall() -> WallExplorer:
    return WallExplorer()


@pytest.fixture
def page(browser: Browser, wall: WallExplorer) -> Iterator[StagePage]:
    with on_page(browser, wall.live, touch=True) as shown:
        yield shown


def middle(page: StagePage, tile: int) -> tuple[float, float]:
    at = page.js("state.at.wall")
    row, column = divmod(tile, at["columns"])
    return at["x"] + (column + 0.5) * at["side"], at["y"] + (row + 0.5) * at["side"]


def moments(run: dict) -> list[float]:
    return [0.0, run["split"], *(when for when, _ in run["rounds"]), run["end"]]


# ---------------------------------------------------------------- the record
def test_counts_are_those_of_the_record_at_every_moment(page: StagePage, wall: WallExplorer):
    run = wall.record
    assert page.told == {"seconds": run["split"], "tile": page.js("state.tile"), "found": 0, "proven": 0}
    page.press("Home")
    for when in moments(run)[1:]:
        page.click("Next round")
        found = sum(seconds is not None and seconds <= when for seconds in run["found"])
        proven = sum(run["certified"]) if when == run["end"] else 0
        assert page.told == {
            "seconds": when,
            "tile": page.js("state.tile"),
            "found": found,
            "proven": proven,
        }
        if found:
            assert f"{found} of 256 photographs found, {proven or 'none'} proven" in page.said
    page.press("PageUp")
    assert page.told["seconds"] == run["rounds"][-1][0] and page.told["proven"] == 0


def test_every_tile_says_what_it_is(page: StagePage, wall: WallExplorer):
    run = wall.record
    for tile in (0, 77, 255):
        page.press("Home")
        page.page.mouse.move(*page.at(*middle(page, tile)))
        assert f"Tile {tile + 1}: row {tile + 1} of R" in page.said
        page.slide("clock", run["found"][tile] + 0.011)
        assert f"photograph {tile + 1}, found after {run['found'][tile]:.2f} s" in page.said
        assert f"{run['psnr'][tile]:.0f} dB at 224 × 224, not proven yet" in page.said
        page.press("End")
        assert f"✓ proven after {run['end']:.2f} s" in page.said


def test_what_is_not_certified_is_not_shown_as_exact(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    run = module.record()
    certified = [k != 5 for k in range(256)]
    monkeypatch.setattr(module, "record", lambda: run | {"certified": certified})
    with on_page(browser, WallExplorer(at=run["end"]).live) as page:
        page.page.mouse.move(*page.at(*middle(page, 5)))
        assert "255 proven" in page.said and "not proven: may be wrong" in page.said
        assert page.told["proven"] == 255


def test_the_tile_beside_is_the_stored_photograph_at_full_size(page: StagePage, wall: WallExplorer):
    page.press("End")
    page.click("Next at full size")
    tile, big = page.told["tile"], page.js("state.at.big")
    assert tile in wall.record["large"] and big["side"] == 224
    row, column = divmod(wall.record["large"].index(tile), wall.record["columns"])
    sheet = np.asarray(Image.open(RECORDED / "large.webp").convert("RGB"), dtype=float)
    x, y = page.at(big["x"], big["y"])
    box = {"x": round(x), "y": round(y), "width": 224, "height": 224}
    shot = np.asarray(Image.open(io.BytesIO(page.page.screenshot(clip=box))).convert("RGB"), dtype=float)
    stored = sheet[row * 224 : (row + 1) * 224, column * 224 : (column + 1) * 224]
    assert np.abs(shot - stored)[4:-4, 4:-4].mean() < 4


# ---------------------------------------------------------------- hands
def test_touch_and_keys_choose_a_tile(page: StagePage):
    page.swipe(middle(page, 30), middle(page, 33))
    assert page.told["tile"] == 33
    columns = page.js("state.at.wall.columns")
    page.press("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft")
    assert page.told["tile"] == 33 + columns
    page.press(*["ArrowUp"] * 4)
    assert page.told["tile"] == 33 % columns, "no further than the edge"


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_the_clock_is_dragged(page: StagePage, wall: WallExplorer, hand: str):
    line = page.js("state.at.line")
    foot = line["y"] + line["height"]
    getattr(page, hand)((line["x"] + 4, foot), (line["x"] + 0.75 * line["width"], foot))
    assert page.told["seconds"] == pytest.approx(0.75 * wall.record["end"], abs=0.05)
    page.press("End")
    assert page.told["seconds"] == wall.record["end"]


def test_it_plays_by_its_own_clock_and_stops_at_the_end(page: StagePage, wall: WallExplorer):
    start = wall.record["rounds"][0][0] - 0.4
    page.slide("clock", start)
    page.press("Space")
    cost = page.frame_seconds(3.0)
    gone = page.page.evaluate("document.querySelector('.spear-stage').stage.state.t") - start
    assert cost <= FRAME
    assert 1.5 < gone < 8.0, "some three seconds by the clock of the run"
    page.page.get_by_label("speed").select_option(label="4 × real time")
    page.page.wait_for_function("!document.querySelector('.spear-stage').stage.state.playing")
    assert page.told["seconds"] == wall.record["end"] and page.told["found"] == 256
    page.click("Play")
    page.click("Pause")
    assert page.told["seconds"] < wall.record["end"], "from the mixtures again"
