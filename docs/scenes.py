"""Four scenes as pictures for the README, in light and in dark: docs/scene-NAME-THEME.webp.

    python docs/scenes.py

Needs Chromium or Chrome and the extra [dev].
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "widgets")]

from spear_widgets.kit.base import Explorer  # noqa: E402
from spear_widgets.kit.machine.machine import Machine  # noqa: E402
from spear_widgets.sparsity.sphere import SphereExplorer  # noqa: E402
from spear_widgets.two_shadows.wells import WellsExplorer  # noqa: E402

WIDTH = 900  # CSS pixels
# what is shown, and what a reader would have done to see it, as JavaScript on the stage's state
SCENES: dict[str, tuple[Callable[[], Explorer], str]] = {
    "filter": (
        Machine,
        "const at = state.found[0].number;"
        "Object.assign(state, { scene: 'filter', share: 1 }); Object.assign(state.at, { draw: at, filter: at });",
    ),
    "wipe": (Machine, "Object.assign(state, { scene: 'wipe' }); state.at.wipe = 6;"),
    "sphere": (lambda: SphereExplorer(marked=True), ""),
    "wells": (WellsExplorer, ""),
}


def picture(browser: Browser, make: Callable[[], Explorer], doing: str, theme: str) -> Image.Image:
    """A stage's canvas at rest, after something was done."""
    live = make().live
    assert live is not None
    context = browser.new_context(
        viewport={"width": WIDTH + 24, "height": 768}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_content(live.page())
    page.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")
    page.evaluate(
        "doing => document.querySelector('.spear-stage').stage.change(state => Function('state', doing)(state))",
        doing,
    )
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB")
    context.close()
    return shot


def main() -> None:
    """Write them."""
    from tests.browser.lab import launch

    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name, (make, doing) in SCENES.items():
            for theme in ("light", "dark"):
                path = Path(__file__).with_name(f"scene-{name}-{theme}.webp")
                picture(browser, make, doing, theme).save(path, quality=82, method=6)
                print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
