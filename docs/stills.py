"""The stored pictures of all stages, drawn by their own modules in a browser.

    python docs/stills.py           # all of them
    python docs/stills.py dial      # one

They stand beside the modules, and are shown where there is no kernel. Needs Chromium or Chrome and the extra [dev].
"""

import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "widgets")]

from spear_widgets.kit.base import Explorer  # noqa: E402
from spear_widgets.kit.machine.machine import Machine  # noqa: E402
from spear_widgets.kit.stage import Stage  # noqa: E402
from spear_widgets.sparsity.dial import DialExplorer  # noqa: E402
from spear_widgets.two_shadows.circle import CircleExplorer  # noqa: E402
from spear_widgets.two_shadows.wells import WellsExplorer  # noqa: E402


def live(explorer: Explorer) -> Stage:
    """The stage of an explorer that has one."""
    assert explorer.live is not None
    return explorer.live


STILLS: dict[str, Callable[[], Stage]] = {
    "film": lambda: live(Machine(film=True)),
    "machine-split": lambda: live(Machine()),
    "machine-draw": lambda: live(Machine("draw", "filter", batch_size=3, width=60)),
    "machine-wipe": lambda: live(Machine("wipe", "reconstruct", batch_size=4, twins="same")),
    "dial": lambda: live(DialExplorer()),
    "circle": lambda: live(CircleExplorer()),
    "wells": lambda: live(WellsExplorer()),
}
WIDTH = 900  # CSS pixels


def make_still(browser: Browser, stage: Stage) -> bytes:
    """PNG of a stage's canvas, at rest."""
    context = browser.new_context(viewport={"width": WIDTH + 24, "height": 768}, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.set_content(stage.page())
        page.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
        page.wait_for_timeout(300)
        return page.locator("canvas").screenshot()
    finally:
        context.close()


def main() -> None:
    """Write the pictures that were asked for."""
    from tests.browser.lab import launch

    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name in sys.argv[1:] or STILLS:
            stage = STILLS[name]()
            stage.still_path.write_bytes(make_still(browser, stage))
            print(f"{stage.still_path.name}: {stage.still_path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
