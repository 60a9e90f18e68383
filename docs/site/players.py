"""A player: the picture and the words of an explorer at each position of its main control, and of one choice beside it.

In the dark, charts are drawn in other colours and photographs are not. A position is therefore stored as layers: the
chart, whose colours the page turns over by the same matrix as Python does, and above it the photographs. Of a chart
only what differs from the one that the row starts with is stored, and layers that are alike are stored once. All are
lossless: charts are a third smaller so than at WebP's quality 80, and every pixel is what the explorer shows.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import ipywidgets as W
from PIL import Image, ImageChops

from spear_widgets.kit import drawing
from spear_widgets.kit.base import Explorer

DARK = drawing.Look(paper=(18, 18, 18), dark=True)  # the theme's dark page
ROUNDING = 2  # of 255: so far may a colour that was turned over lie from the one that was drawn in the dark

# the control that carries the lesson, and one choice beside it; of an explorer that is not here, the last slider
MAIN: dict[str, tuple[str, str | None]] = {
    "PeelExplorer": ("terms", "data"),
    "PatternExplorer": ("batch_size", "data"),
    "DrawExplorer": ("draw", "data"),
    "ThresholdExplorer": ("threshold", "data"),
    "StageExplorer": ("zeros", None),
    "CollectExplorer": ("batch_size", None),
    "SwapExplorer": ("position", "ranking"),
    "OddsExplorer": ("batch_size", "kind"),
    "RejectionExplorer": ("threshold", "kind"),
    "FailureExplorer": ("doublings", "batch_size"),
    "WallExplorer": ("batch_size", None),
    "SearchExplorer": ("batch_size", "activation"),
    "ReachExplorer": ("width", None),
    "DefenceExplorer": ("knob", "defence"),
    "CountExplorer": ("b", "pool"),
}
MOST = {"DrawExplorer": 100}  # of hundreds of positions of which each is a picture of its own


def steps(control: W.Widget, most: int | None = None) -> list[tuple[str, Any]]:
    """All positions of a control, as (text, value); or at most so many, its present one among them."""
    if hasattr(control, "options"):
        every = [option if isinstance(option, tuple) else (str(option), option) for option in control.options]
    else:
        count = round((control.max - control.min) / control.step)
        values = [control.min + k * control.step for k in range(count + 1)]
        every = [(f"{value:g}", type(control.value)(round(value, 9))) for value in values]
    if most is None or len(every) <= most:
        return every
    now = next((k for k, (_, value) in enumerate(every) if value == control.value), 0)
    kept = sorted({round(k * (len(every) - 1) / (most - 1)) for k in range(most)} | {now})
    return [every[k] for k in kept]


def main_controls(explorer: Explorer) -> tuple[str, str | None]:
    """The control that is played, and the choice beside it."""
    if type(explorer).__name__ in MAIN:
        return MAIN[type(explorer).__name__]
    sliders = [name for name, control in explorer.control.items() if hasattr(control, "step")]
    return sliders[-1], None


def at(explorer: Explorer, **values: Any) -> str:
    """Set an explorer; returns its words, or the error that it would show."""
    try:
        explorer.set(**values)
    except Exception as error:
        explorer.fail(error)
        return explorer.status.value
    return explorer.caption.value


def on_paper(explorer: Explorer) -> Image.Image:
    """What an explorer shows now. Its static picture may be another, for a reader who cannot move it."""
    return drawing.below(list(explorer._drawn.values()), gap=0).convert("RGB")


def in_the_dark(explorer: Explorer) -> Image.Image:
    """The same on the theme's dark page."""
    drawing.set_page(DARK)
    try:
        explorer.guard(explorer.redraw)
        return on_paper(explorer)
    finally:
        drawing.set_page(drawing.ON_PAPER)


def parted(light: Image.Image, dark: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture as chart and photographs: photographs are where turning its colours over does not give the dark one."""
    wrong = _differs(light.convert("RGB", DARK.matrix), dark, ROUNDING)
    if wrong.getbbox() is None:
        return light, None
    chart, photographs = light.copy(), Image.new("RGBA", light.size)
    chart.paste("white", mask=wrong)
    photographs.paste(light, mask=wrong)
    return chart, photographs


def _differs(one: Image.Image, other: Image.Image, by: int = 0) -> Image.Image:
    red, green, blue = ImageChops.difference(one, other).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return most.point([255 * (value > by) for value in range(256)])


class Layers:
    """Pictures of a folder, numbered; those that are alike are stored once.

    Attributes:
        folder: where they are.
        count: how many there are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count = folder, 0
        self._known: dict[bytes, int] = {}
        self._sizes: list[int] = []

    def add(self, picture: Image.Image, instead: Image.Image | None = None) -> int:
        """Store a picture, or the other one that does as well if it is smaller; returns its number."""
        key = hashlib.sha256(picture.mode.encode() + picture.tobytes()).digest()
        if key not in self._known:
            stored = _webp(picture)
            if instead is not None and len(stored) > max(self._sizes, default=0) / 2:
                stored = min(stored, _webp(instead), key=len)
            (self.folder / f"{self.count}.webp").write_bytes(stored)
            self._known[key] = self.count
            self._sizes.append(len(stored))
            self.count += 1
        return self._known[key]


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "webp", lossless=True, quality=40, method=2)
    return buffer.getvalue()


def write_row(explorer: Explorer, main: str, start: Any, layers: Layers, most: int | None) -> dict[str, Any]:
    """All positions of the main control; returns their names, words and layers."""
    limits = [limit for limit in (most, MOST.get(type(explorer).__name__)) if limit is not None]
    every = steps(explorer.control[main], min(limits, default=None))
    at_first = next((k for k, (_, value) in enumerate(every) if value == start), 0)
    explorer._drawn.clear()  # sheets as high as this row needs
    words, frames = [""] * len(every), [[0]] * len(every)
    base, base_number = None, 0
    for k in [at_first, *(k for k in range(len(every)) if k != at_first)]:
        words[k] = at(explorer, **{main: every[k][1]})
        light = on_paper(explorer)
        chart, photographs = parted(light, in_the_dark(explorer))
        if base is None:
            base, base_number = chart, layers.add(chart)
            frames[k] = [base_number]
        elif base.size != chart.size:
            frames[k] = [layers.add(chart)]
        else:
            frames[k] = [base_number, *_beside(base, chart, layers)]
        frames[k] = [-1 if photographs is None else layers.add(photographs), *frames[k]]
    return {"names": [text for text, _ in every], "words": words, "start": at_first, "frames": frames}


def _beside(base: Image.Image, chart: Image.Image, layers: Layers) -> list[int]:
    differs = _differs(base, chart)
    if differs.getbbox() is None:
        return []
    own = Image.new("RGBA", chart.size)
    own.paste(chart, mask=differs)
    return [layers.add(own, instead=chart)]


def write_player(explorer: Explorer, folder: Path, most: int | None) -> dict[str, Any]:
    """Positions of an explorer, all or at most so many of a control; returns what the page around them must know."""
    main, choice = main_controls(explorer)
    chooser = explorer.control.get(choice or "")
    choices = steps(chooser, most) if chooser is not None else [("", None)]
    first = next((k for k, (_, value) in enumerate(choices) if chooser and value == chooser.value), 0)
    start, layers, rows = explorer.values[main], Layers(folder), []
    for _, chosen in choices:
        if choice:
            at(explorer, **{choice: chosen})
        rows.append(write_row(explorer, main, start, layers, most))
    return {
        "kind": "player",
        "description": explorer.description,
        "height": max(_height(folder, frame[1]) for row in rows for frame in row["frames"]),
        "label": explorer.control[main].description or main,
        "choice": chooser.description if chooser is not None else None,
        "choices": [text for text, _ in choices],
        "first": first,
        "rows": rows,
    }


def _height(folder: Path, number: int) -> int:
    with Image.open(folder / f"{number}.webp") as picture:
        return picture.height // drawing.SCALE
