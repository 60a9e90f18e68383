"""The full run in the page: samples chosen by mouse, finger and key; a table as numbers; a file dropped and chosen."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from spear_widgets.start.full_run import FullRun, Outcome, shown
from tests.browser.conftest import NOTEBOOKS
from tests.browser.lab import Lab
from tests.browser.stages import StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def full() -> FullRun:
    return FullRun()


@pytest.fixture
def page(browser: Browser, full: FullRun) -> Iterator[StagePage]:
    with on_page(browser, full.live, touch=True) as shown:
        yield shown


def middle(page: StagePage, band: str, place: int) -> tuple[float, float]:
    grid = page.js(f"state.at.{band}")
    return tuple(grid["cells"][place][axis] + grid["side"] / 2 for axis in "xy")


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_a_sample_is_chosen_by_hand(page: StagePage, hand: str):
    getattr(page, hand)(middle(page, "private", 3), middle(page, "private", 3))
    assert page.told == {"chosen": 3}
    assert page.said.startswith("Sample 4: proven to be one sample of the batch.")
    getattr(page, hand)(middle(page, "recovered", 6), middle(page, "recovered", 5))
    assert page.told == {"chosen": 5}


def test_a_sample_is_chosen_by_key_and_slider(page: StagePage):
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert page.told == {"chosen": 1}
    page.press("End", "ArrowRight")
    assert page.told == {"chosen": 7}
    page.slide("look at sample", 3)
    assert page.said.startswith("Sample 3:")


def test_what_is_drawn_is_what_came_back(browser: Browser, full: FullRun):
    """The recovered picture on the canvas is the private one."""
    with on_page(browser, full.live, calm=True) as page:
        looks_alike(page)
    assert full.live.data["claims"] == ["sample"] * 8 and full.outcome.inversion.certified


def looks_alike(page: StagePage) -> None:
    shot = np.asarray(
        Image.open(io.BytesIO(page.page.locator("canvas").screenshot())).convert("RGB"), dtype=float
    )
    for place in range(8):
        patches = []
        for band in ("private", "recovered"):
            x, y = (round(at) for at in middle(page, band, place))
            patches.append(shot[y - 16 : y + 16, x - 16 : x + 12])
        assert np.abs(patches[0] - patches[1]).mean() < 8


def test_it_fits_with_everything_that_can_come(browser: Browser, full: FullRun):
    """Tables, one sample, sixteen; waiting, running, refused: one height, nothing cut off."""
    full.set(data="breast_cancer", batch_size=16, width=100, depth=8)
    full.run_now()
    done = shown(full.stage, full.outcome)
    cases = [done, shown(full.stage, None), done | {"phase": "running"}]
    cases += [
        shown(full.stage, Outcome(None, None, 0.0, "no")),
        done | {"claims": ["missing", "nothing"] * 8},
    ]
    for width, height in ((336, 560), (934, 430), (1600, 430)):
        for case in cases:
            full.live.put(**case, chosen=15)
            with on_page(browser, full.live, width=width, calm=True) as page:
                assert page.height() == height and page.overflow() <= 0
                bands = page.js(
                    "['private', 'recovered'].map(band => [...state.at[band].cells.at(-1) ? "
                    "[state.at[band].cells.at(-1).y + state.at[band].side] : []])"
                )
                assert bands[0][0] < page.js("state.at.sent.y") - 15
                assert bands[1][0] < page.js("state.at.legend.y") - 10
                assert page.js("state.at.sent.height") > 20
    full.reset()


# ---------------------------------------------------------------- a file of one's own, in JupyterLab
def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(buffer, "png")
    made = Image.open(io.BytesIO(buffer.getvalue()))
    made.paste(colour, (0, 0, 150, 200))
    buffer = io.BytesIO()
    made.save(buffer, "png")
    return buffer.getvalue()


HERE = [path for path in NOTEBOOKS if path.stem == "00_start_here"]

DROP = """(zone, [name, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(bytes)], name, { type: 'image/png' }));
    for (const kind of ['dragover', 'drop'])
        zone.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.mark.parametrize("opened", HERE, ids=lambda path: path.stem, indirect=True, scope="module")
def test_a_file_is_dropped_and_chosen(opened: Lab):
    widget = opened.widget("spear-full-run")
    zone, input_ = widget.root.locator(".spear-own"), widget.root.locator("input[type=file]")

    def in_it(name: str) -> None:
        zone.get_by_text(f"“{name}” is sample 1.").wait_for()
        widget.root.get_by_text("came back in").wait_for()
        opened.wait_quiet()

    before = widget.picture()
    zone.evaluate(DROP, ["dropped.png", list(picture("crimson"))])
    in_it("dropped.png")
    assert (
        "Sample 1, your picture: proven to be one sample" in widget.root.locator(".spear-said").inner_text()
    )
    before = widget.wait_image_change(before)
    with opened.page.expect_file_chooser() as chooser:
        zone.get_by_role("button", name="Choose a picture").focus()
        opened.page.keyboard.press("Enter")
    chooser.value.set_files({"name": "chosen.png", "mimeType": "image/png", "buffer": picture("teal")})
    in_it("chosen.png")
    widget.wait_image_change(before)
    opened.check("two pictures")

    for name, content, says in (
        ("notes.txt", b"Dear diary", "Error: the file must be a picture"),
        (
            "long.png",
            bytes(9 * 2**20),
            "Error: a picture's file must be 1 byte to 8 MiB, got 'long.png' of 9.0 MiB",
        ),
    ):
        input_.set_input_files({"name": name, "mimeType": "image/png", "buffer": content})
        widget.root.locator(".spear-status", has_text=says).first.wait_for()
    assert zone.get_by_text("“chosen.png” is sample 1.").is_visible()
    zone.get_by_role("button", name="Take it out again").click()
    zone.get_by_text("A picture of your own").wait_for()
    opened.wait_quiet()
    opened.check("taking it out")
