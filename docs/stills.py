"""The stored pictures of all stages, drawn by their own modules in a browser.

    python docs/stills.py           # all of them
    python docs/stills.py dial      # one

They stand beside the modules, and are shown where there is no kernel. Needs Chromium or Chrome and the extra [dev].
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "widgets")]

from spear_widgets.kit.base import Explorer  # noqa: E402
from spear_widgets.kit.machine.machine import Machine  # noqa: E402
from spear_widgets.kit.stage import Stage  # noqa: E402
from spear_widgets.low_rank.ghosts import GhostExplorer  # noqa: E402
from spear_widgets.scale.races import RaceExplorer  # noqa: E402
from spear_widgets.scale.wall import WallExplorer, record  # noqa: E402
from spear_widgets.sparsity.dial import DialExplorer  # noqa: E402
from spear_widgets.sparsity.sphere import SphereExplorer  # noqa: E402
from spear_widgets.start.full_run import FullRun  # noqa: E402
from spear_widgets.two_shadows.circle import CircleExplorer  # noqa: E402
from spear_widgets.two_shadows.wells import WellsExplorer  # noqa: E402


def live(explorer: Explorer) -> Stage:
    """The stage of an explorer that has one."""
    assert explorer.live is not None
    return explorer.live


STILLS: dict[str, Callable[[], Stage]] = {
    "film": lambda: live(Machine(film=True)),
    "machine": lambda: live(Machine()),
    "machine-split": lambda: live(Machine("split", batch_size=4)),
    "machine-draw-filter": lambda: live(Machine("draw", "filter", batch_size=3, width=100, seed=4)),
    "machine-wipe-reconstruct": lambda: live(Machine("wipe", "reconstruct", batch_size=4, twins="same")),
    "full_run": lambda: live(FullRun()),
    "ghosts": lambda: live(GhostExplorer()),
    "dial": lambda: live(DialExplorer()),
    "sphere": lambda: live(SphereExplorer(marked=True)),
    "circle": lambda: live(CircleExplorer()),
    "wells": lambda: live(WellsExplorer()),
    "race": lambda: live(RaceExplorer(at=0.03)),  # before the guesses are anything
    "wall": lambda: live(WallExplorer(at=record()["rounds"][3][0])),  # half of them found
}
WIDTH = 900  # CSS pixels
LARGEST = 300 * 1024  # bytes of a stored picture in full colour


def make_still(browser: Browser, stage: Stage) -> bytes:
    """PNG of a stage's canvas, at rest; colours in steps of 3 of 255, which nobody sees, make it a quarter smaller."""
    context = browser.new_context(viewport={"width": WIDTH + 24, "height": 768}, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.set_content(stage.page())
        page.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
        page.wait_for_function("!document.querySelector('.spear-stage').stage.wanted")
        page.wait_for_timeout(300)
        shot = np.asarray(Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB"))
        png = io.BytesIO()
        Image.fromarray(np.round(shot / 3).astype(np.uint8) * np.uint8(3)).save(png, "png", optimize=True)
        return png.getvalue()
    finally:
        context.close()


def compact(still: bytes) -> bytes:
    """As it is; if it is large, as a mosaic of photographs, in 256 colours of its own."""
    if len(still) <= LARGEST:
        return still
    made = io.BytesIO()
    Image.open(io.BytesIO(still)).convert("RGB").quantize(256, kmeans=2).save(made, "png", optimize=True)
    return made.getvalue()


def main() -> None:
    """Write the pictures that were asked for."""
    from tests.browser.lab import launch

    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name in sys.argv[1:] or STILLS:
            stage = STILLS[name]()
            stage.still_path.write_bytes(compact(make_still(browser, stage)))
            print(f"{stage.still_path.name}: {stage.still_path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
