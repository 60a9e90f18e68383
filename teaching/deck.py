"""The deck: the slides of deck.md with the pictures that the notebooks have stored, as one page that needs no network.

A slide ends at a line of three dashes; what follows a line `Notes:` is for the speaker. `![](sampling: Threshold)` is
the first picture of the first cell with `Threshold` in its code, in the notebook whose name has `sampling` in it.
"""

import base64
import html
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from PIL import Image, ImageChops, ImageOps

from spear_widgets.kit import base, drawing
from spear_widgets.kit.ribbon import NOT_IN_PAPER
from teaching import pages

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"
MARGIN = 10  # pixels of white around a picture, for dark pages


@dataclass(frozen=True)
class Slide:
    """A slide, in HTML: what is shown, and what is said."""

    shown: str
    notes: str


@cache
def picture(notebook: str, code: str) -> str:
    """A stored picture as a <figure>, with its text alternative.

    Raises:
        ValueError: if there is no such notebook or picture.
    """
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if notebook in path.stem]
    if len(paths) != 1:
        raise ValueError(
            f"{notebook!r} must be in the name of one notebook, got {[path.name for path in paths]}"
        )
    for cell in nbformat.read(paths[0], as_version=4).cells:
        for output in cell.get("outputs", []) if code in cell.source else []:
            stored = output.get("data", {}).get("image/png")
            if stored:
                words = output.metadata["image/png"]["alt"]
                with Image.open(io.BytesIO(base64.b64decode(stored))) as image:
                    data = base64.b64encode(_png(trimmed(image.convert("RGB"), words))).decode()
                alt = html.escape(words, quote=True)
                return f"<figure><img alt='{alt}' src='data:image/png;base64,{data}'></figure>"
    raise ValueError(f"{paths[0].name} must have a picture stored below a cell with {code!r} in it, got none")


def trimmed(image: Image.Image, words: str) -> Image.Image:
    """A stored picture with narrow margins, without an explorer's caption, which holds its text alternative `words`."""
    scale = 1 if image.width <= drawing.WIDTH else drawing.SCALE
    for ribbon in ("", f"{NOT_IN_PAPER}. "):
        text = f"{ribbon}{words} {base.ALIVE}"
        caption = drawing.paragraph(text, width=max(image.width // scale, drawing.WIDTH))
        caption = caption.reduce(drawing.SCALE // scale)
        rest = image.height - caption.height
        if rest > 0 and _inked(image.crop((0, rest, *image.size))) == _inked(caption):
            image = image.crop((0, 0, image.width, rest))
            break
    return ImageOps.expand(image.crop(_inked(image)), MARGIN, drawing.PAPER)


def _inked(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box of all that is not white paper."""
    return ImageChops.difference(image, Image.new("RGB", image.size, drawing.PAPER)).getbbox()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def slides(text: str) -> list[Slide]:
    """The slides of a text like deck.md."""
    made = []
    for part in re.split(r"^---$", text, flags=re.MULTILINE):
        shown, _, notes = part.partition("\nNotes:")
        shown = re.sub(r"!\[\]\((\w+): ([^)]+)\)", lambda found: picture(found[1], found[2]), shown)
        made.append(Slide(pages.as_html(shown), pages.as_html(notes)))
    return made


def page() -> str:
    """The whole deck."""
    made = slides((HERE / "deck.md").read_text(encoding="utf-8"))
    body = "".join(
        f"<section id='{number}'><div class='shown'>{slide.shown}</div><aside>{slide.notes}</aside></section>\n"
        for number, slide in enumerate(made, 1)
    )
    style, script = ((HERE / f"deck.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    keys = "<p id='keys'>← → · <kbd>n</kbd> notes · <kbd>s</kbd> notes in a window of their own · <b id='at'></b></p>"
    return pages.page("SPEAR, step by step", f"<main>{body}</main>{keys}<script>{script}</script>", style)
