"""A stage by itself on a page, without Jupyter: `with on_page(browser, stage) as page: page.drag(…)`."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page

from spear_widgets.kit.stage import Stage

WIDTH = 934  # CSS pixels of an output cell at 1366 × 768
FRAME = 1 / 50  # seconds that a frame may take
SERIOUS = ("serious", "critical")  # of what axe-core finds
FAINT = 0.3  # opacity below which words are on their way in or out
# keeps the words of the last frame of the canvas on the page, each with left, top, right, bottom
HEARD = """(() => {
    const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
    window.labels = [];
    CanvasRenderingContext2D.prototype.clearRect = function (...box) {
        if (this.canvas.isConnected) window.labels = [];
        return clearRect.apply(this, box);
    };
    CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
        if (this.canvas.isConnected && this.globalAlpha > FAINT && words.trim()) {
            const { actualBoundingBoxLeft: left, actualBoundingBoxRight: right, actualBoundingBoxAscent: up,
                actualBoundingBoxDescent: down } = this.measureText(words);
            const at = this.getTransform(), scale = devicePixelRatio;
            const corners = [[x - left, y - up], [x + right, y - up], [x - left, y + down], [x + right, y + down]]
                .map(([a, b]) => [(at.a * a + at.c * b + at.e) / scale, (at.b * a + at.d * b + at.f) / scale]);
            const [xs, ys] = [0, 1].map(k => corners.map(corner => corner[k]));
            window.labels.push([words, Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
        }
        return fillText.call(this, words, x, y);
    };
})()""".replace("FAINT", str(FAINT))


class StagePage:
    """A stage in a browser: what it shows, says and tells, and hands that touch it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)

    def load(self, stage: Stage) -> None:
        self.page.set_content(stage.page())
        self.page.wait_for_function("document.querySelector('.spear-stage')?.stage.frames > 0")

    def js(self, expression: str, argument: object = None) -> Any:
        """An expression of `stage` (the page's side), `state` and `argument`, when all has been drawn."""
        self.settle()
        return self.page.evaluate(
            f"argument => {{ const stage = document.querySelector('.spear-stage').stage, state = stage.state;"
            f" return {expression}; }}",
            argument,
        )

    def settle(self, timeout: float = 5.0) -> None:
        """Until nothing moves any more."""
        moves = self.page.evaluate(
            """async limit => {
                const stage = document.querySelector('.spear-stage').stage, began = performance.now();
                do {
                    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
                } while (stage.wanted && performance.now() - began < limit);
                return Boolean(stage.wanted);
            }""",
            1000 * timeout,
        )
        assert not moves, f"still moving after {timeout} s"

    def numbers(self, expression: str) -> list[float]:
        """An array of the state as a list."""
        return json.loads(self.js(f"JSON.stringify(Array.from({expression}))"))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the canvas in page coordinates."""
        box = self.page.locator("canvas").bounding_box()
        assert box is not None
        return box["x"] + x, box["y"] + y

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """By mouse, between two points of the canvas."""
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down()
        mouse.move(*self.at(*end), steps=steps)
        mouse.up()

    def swipe(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """The same by one finger."""
        client = self.page.context.new_cdp_session(self.page)
        points = [
            tuple(a + (b - a) * k / steps for a, b in zip(start, end, strict=True)) for k in range(steps + 1)
        ]
        kinds = ["touchStart", *["touchMove"] * steps]
        for kind, (x, y) in zip(kinds, points, strict=True):
            px, py = self.at(x, y)
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": px, "y": py}]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def press(self, *keys: str) -> None:
        """On the canvas."""
        self.page.locator("canvas").focus()
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, button: str) -> None:
        self.page.get_by_role("button", name=button).click()

    def slide(self, label: str, value: float) -> None:
        """A slider of the page to a value, as a reader's input does, who sees its range first."""
        self.page.get_by_role("slider", name=label, exact=True).evaluate(
            """async (input, value) => {
                for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
                input.value = value;
                input.dispatchEvent(new Event('input'));
            }""",
            value,
        )

    @property
    def said(self) -> str:
        self.settle()
        return self.page.locator(".spear-said").inner_text()

    @property
    def told(self) -> dict[str, Any]:
        """What the module would have told Python by now."""
        return self.js("stage.scene.told(state)")

    def faulty_labels(self) -> list[str]:
        """Words on the canvas that are cut off at its edge, or lie on others."""
        labels = self.js("(stage.ask(), 0)") or self.js("window.labels")
        width, height = self.js("[stage.pen.canvas.clientWidth, stage.pen.canvas.clientHeight]")
        cut = [
            words
            for words, left, top, right, bottom in labels
            if min(left, top) < -1 or right > width + 1 or bottom > height + 1
        ]
        over = [
            f"{one[0]} / {two[0]}"
            for one, two in itertools.combinations(labels, 2)
            if one[0] != two[0]
            and all(
                min(one[k + 2], two[k + 2]) - max(one[k], two[k]) > 1 for k in (1, 2)
            )  # a shadow is the same words
        ]
        return cut + over

    def height(self) -> float:
        """Of the canvas, in CSS pixels."""
        self.settle()
        box = self.page.locator("canvas").bounding_box()
        assert box is not None
        return box["height"]

    def overflow(self) -> float:
        """By how much the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def frame_seconds(self, seconds: float = 0.9) -> float:
        """While something moves: seconds of the page's processor for a frame, whatever else the machine does."""
        client = self.page.context.new_cdp_session(self.page)
        client.send("Performance.enable", {"timeDomain": "threadTicks"})

        def now() -> tuple[float, int]:
            found = {
                entry["name"]: entry["value"] for entry in client.send("Performance.getMetrics")["metrics"]
            }
            frames = self.page.evaluate("document.querySelector('.spear-stage').stage.frames")
            return found["TaskDuration"], frames

        before, drawn = now()
        self.page.wait_for_timeout(1000 * seconds)
        after, frames = now()
        assert frames > drawn, "nothing moves"
        return (after - before) / (frames - drawn)

    def unreadable(self) -> list[str]:
        """What axe-core finds serious."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{fault['id']}: {fault['help']}" for fault in found if fault["impact"] in SERIOUS]


@contextlib.contextmanager
def on_page(
    browser: Browser,
    stage: Stage,
    *,
    width: int = WIDTH,
    theme: str = "light",
    scale: float = 1,
    calm: bool = False,
    touch: bool = False,
) -> Iterator[StagePage]:
    """A stage on a page of its own, `width` CSS pixels wide without its margins; nothing may have gone wrong in it."""
    context = browser.new_context(
        viewport={"width": width + 24, "height": 768},
        color_scheme=theme,
        device_scale_factor=scale,
        reduced_motion="reduce" if calm else "no-preference",
        has_touch=touch,
    )
    context.add_init_script(HEARD)
    try:
        shown = StagePage(context.new_page())
        shown.load(stage)
        yield shown
        assert not shown.faults, shown.faults
        assert shown.page.locator(".spear-status").inner_text() == ""
    finally:
        context.close()
