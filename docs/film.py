"""The README's first picture: fifteen seconds of the machine, drawn by the machine itself in a browser.

    python docs/film.py      # writes docs/film.webp

Needs Chromium or Chrome and the extra [dev].
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "widgets")]

from spear_widgets.kit.machine.machine import Machine  # noqa: E402

PATH = Path(__file__).with_name("film.webp")
SECONDS, PER_SECOND, REST = 15, 10, 2500  # REST: milliseconds for which the last frame stays
WIDTH, QUALITY = 760, 62


def frames() -> list[Image.Image]:
    """The film, frame by frame."""
    from tests.browser.lab import launch

    live = Machine(film=True).live
    assert live is not None
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": WIDTH + 24, "height": 700}, reduced_motion="reduce")
        page.set_content(live.page())
        page.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
        pictures = []
        for k in range(SECONDS * PER_SECOND + 1):
            page.evaluate(
                """seconds => new Promise(done => {
                    document.querySelector('.spear-stage').stage.change(state => { state.film = seconds; });
                    requestAnimationFrame(() => requestAnimationFrame(done));
                })""",
                k / PER_SECOND,
            )
            shot = page.locator("canvas").screenshot()
            pictures.append(Image.open(io.BytesIO(shot)).convert("RGB"))
        browser.close()
    return pictures


def main() -> None:
    """Write the film."""
    first, *others = frames()
    times = [1000 // PER_SECOND] * len(others) + [REST]
    first.save(PATH, save_all=True, append_images=others, duration=times, loop=0, quality=QUALITY, method=4)
    print(f"{PATH.name}: {PATH.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
