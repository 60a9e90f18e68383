"""Drawing for the explorers: grids of small pictures, text, safe colours.

All functions take arrays and return pictures (PIL images or encoded bytes). Lengths are in pixels of the page, of which
each is `SCALE` pixels of the picture, so that it is sharp on fine screens and at any width. Colours are those on
white paper; `tint` says what they are on the page around the picture, which may be dark. Samples are told apart by
colour *and* marker: the colours are Okabe and Ito's, which stay apart in all common kinds of colour blindness.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = "#1a1a1a", "#9a9a9a", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
WIDTH = 960  # page pixels of a whole-width picture
SCALE = 2  # picture pixels of a page pixel
MOST_BYTES = 300_000  # of a stored picture, as far as it can be helped
# Turns each colour's hue by half a circle and keeps its lightness; rows of red, green and blue.
TURN = np.array([[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]])


@dataclass(frozen=True)
class Look:
    """The page around the pictures.

    Attributes:
        paper: its colour, as red, green and blue of 255.
        dark: whether it is dark: lightness is then turned over, and hues stay.
    """

    paper: tuple[int, int, int] = (255, 255, 255)
    dark: bool = False

    @property
    def matrix(self) -> tuple[float, ...]:
        """What a colour on white paper becomes, as Pillow wants it: affine, so edges between colours stay smooth."""
        paper = np.array(self.paper, dtype=float)
        if self.dark:
            reach = (255 - paper) / 255
            rows = np.column_stack([-reach[:, None] * TURN, paper + 255 * reach])
        else:
            rows = np.column_stack([np.diag(paper / 255), np.zeros(3)])
        return tuple(rows.flatten().tolist())


ON_PAPER = Look()
_page, _now = ON_PAPER, ON_PAPER


def page() -> Look:
    """The page as it was last seen."""
    return _page


def set_page(seen: Look) -> None:
    """From now on, the page looks like this."""
    global _page
    _page = seen


@contextmanager
def on_page() -> Iterator[None]:
    """What is drawn inside is for the page; all else is for white paper, since it may be stored."""
    global _now
    before, _now = _now, _page
    try:
        yield
    finally:
        _now = before


@contextmanager
def page_is_paper() -> Iterator[None]:
    """As if the page were white paper."""
    before = page()
    set_page(ON_PAPER)
    try:
        yield
    finally:
        set_page(before)


def fitted(picture: Image.Image) -> Image.Image:
    """A picture on white paper as it looks on the page. Photographs go on afterwards, as they are."""
    return picture if _now == ON_PAPER else picture.convert("RGB", _now.matrix)


def tint(colour: str) -> str:
    """The page's colour for one on white paper, "#rrggbb" or "#rrggbbaa"."""
    red, green, blue = np.asarray(fitted(Image.new("RGB", (1, 1), colour[:7])))[0, 0].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}{colour[7:]}"


def sheet(width: float, height: float) -> Image.Image:
    """An empty sheet in the page's colour."""
    return Image.new("RGB", (round(width * SCALE), round(height * SCALE)), tint(PAPER))


def enlarged(pixels: np.ndarray, width: float, height: float) -> Image.Image:
    """Pixels as a picture, enlarged without smoothing.

    Args:
        pixels: shape (H, W, 3), float in [0, 1] or uint8.
        width: on the page.
        height: on the page.
    """
    size = (round(width * SCALE), round(height * SCALE))
    return Image.fromarray(as_bytes(pixels)).resize(size, Image.Resampling.NEAREST)


def colour(sample: int) -> str:
    """Colour of a sample."""
    return COLOURS[sample % len(COLOURS)]


def marker(sample: int) -> str:
    """Marker of a sample; with the colour, a dozen samples stay apart."""
    return MARKERS[sample % len(MARKERS)]


def encode(picture: Image.Image) -> bytes:
    """A picture as a JPEG, several times faster than PNG where there are many lines."""
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=88)
    return buffer.getvalue()


def stored(picture: Image.Image) -> bytes:
    """A picture as a PNG in full colour; half as fine where hundreds of thin lines would make it large."""
    fine = _png(picture)
    return fine if len(fine) <= MOST_BYTES else min(fine, _png(picture.reduce(SCALE)), key=len)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def signed_colours(values: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Signed numbers as colours, uint8 (…, 3): blue below zero, white at zero, orange above.

    Args:
        values: any shape.
        limit: magnitude of full colour; default: the largest. Zero everywhere gives white.
    """
    largest = float(np.abs(values).max(initial=0.0)) if limit is None else limit
    share = np.clip(values / largest, -1, 1)[..., None] if largest > 0 else np.zeros((*values.shape, 1))
    ends = np.where(share < 0, _rgb(BLUE), _rgb(ORANGE))
    return np.asarray(255 + np.abs(share) ** 0.7 * (ends - 255), dtype=np.uint8)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)


def as_bytes(pictures: np.ndarray) -> np.ndarray:
    """Pictures as uint8, from floats in [0, 1] or as they are; what is not a number is black."""
    if pictures.dtype == np.uint8:
        return pictures
    return np.asarray(np.clip(np.nan_to_num(pictures), 0, 1) * 255 + 0.5, dtype=np.uint8)


def picture_grid(
    pictures: np.ndarray,
    *,
    side: int = 96,
    columns: int | None = None,
    labels: Sequence[str] = (),
    frames: Sequence[str | None] = (),
) -> Image.Image:
    """Small pictures in a grid, enlarged without smoothing, each with a label below it.

    Args:
        pictures: shape (k, H, W, 3), float in [0, 1] or uint8.
        side: height of one picture on the page, in pixels.
        columns: pictures in a row; default: all.
        labels: texts below the pictures, at most k.
        frames: colours of the frames, None for no frame, at most k.

    Raises:
        ValueError: if the array has another shape.
    """
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(f"pictures must be (k, H, W, 3), got {pictures.shape}")
    pictures = as_bytes(pictures)
    k, height, width = pictures.shape[:3]
    columns = max(1, columns or k)
    across = max(1, round(side * width / height))
    gap, under = 8, 20 if labels else 0
    step_x, step_y = across + gap, side + gap + under
    grid = sheet(columns * step_x + gap, -(-k // columns) * step_y + gap)
    draw, line = ImageDraw.Draw(grid), 4 * SCALE
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * step_x, gap + i // columns * step_y
        left, top, right, bottom = (SCALE * end for end in (x, y, x + across, y + side))
        grid.paste(enlarged(picture, across, side), (left, top))
        if i < len(frames) and (frame := frames[i]):
            box = (left - line, top - line, right + line - 1, bottom + line - 1)
            draw.rectangle(box, outline=tint(frame), width=line)
        if i < len(labels):
            write(grid, (x + across / 2, y + side + 5), labels[i], 13, anchor="mt")
    return grid


def beside(images: Sequence[Image.Image], gap: int = 16) -> Image.Image:
    """Pictures side by side, centred on a line."""
    height, gap = max(image.height for image in images), gap * SCALE
    row = Image.new("RGB", (sum(i.width + gap for i in images) - gap, height), tint(PAPER))
    left = 0
    for image in images:
        row.paste(image, (left, (height - image.height) // 2))
        left += image.width + gap
    return row


def named(rows: Sequence[tuple[str, Image.Image]], width: int) -> Image.Image:
    """Pictures below each other, each with its name before it in a column of a given width."""
    return below([beside([headline(name, 14, width), picture]) for name, picture in rows], gap=2)


def below(images: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures below each other, flush left."""
    width, gap = max(image.width for image in images), gap * SCALE
    column = Image.new("RGB", (width, sum(i.height + gap for i in images) - gap), tint(PAPER))
    top = 0
    for image in images:
        column.paste(image, (0, top))
        top += image.height + gap
    return column


def on_width(picture: Image.Image, height: int = 0) -> Image.Image:
    """A picture on a sheet of the whole width and at least so high, on which the page does not jump."""
    size = (max(picture.width, WIDTH * SCALE), max(picture.height, height))
    if picture.size == size:
        return picture
    wide = Image.new("RGB", size, tint(PAPER))
    wide.paste(picture, (0, 0))
    return wide


def headline(text: str, size: int = 14, width: int = 0) -> Image.Image:
    """A line of text as a picture, at least as wide as asked."""
    line = sheet(max(width, font(size * SCALE).getlength(text) / SCALE + 16), size + 10)
    write(line, (8, 4), text, size, anchor="la")
    return line


def write(
    picture: Image.Image,
    at: tuple[float, float],
    text: str,
    size: int = 14,
    *,
    anchor: str = "ls",
    bold: bool = False,
    ink: str = INK,
    paper: str = "",
) -> None:
    """Write on a picture, in a tenth of the time that matplotlib takes.

    Args:
        picture: is changed.
        at: pixels from the left and from the top.
        text: one line.
        size: of the letters, in pixels.
        anchor: what of the text is at that place, see Pillow's "text anchors".
        bold: whether in bold letters.
        ink: colour of the letters.
        paper: colour of a box behind them, with opacity as in "#ffffffd8"; none if empty.
    """
    draw, letters = ImageDraw.Draw(picture, "RGBA"), font(size * SCALE, bold=bold)
    place, rim = (at[0] * SCALE, at[1] * SCALE), 3 * SCALE
    if paper:
        left, top, right, bottom = draw.textbbox(place, text, letters, anchor)
        draw.rectangle((left - rim, top - rim, right + rim, bottom + rim), fill=tint(paper))
    draw.text(place, text, tint(ink), letters, anchor)


def paragraph(text: str, size: int = 14, width: int = WIDTH) -> Image.Image:
    """Text as a picture of a given width, in as many lines as it takes."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(size * SCALE).getlength(longer) > (width - 16) * SCALE:
            lines.append(word)
        else:
            lines[-1] = longer
    return below([headline(line, size, width) for line in lines], gap=0)


def captioned(picture: Image.Image, words: str) -> Image.Image:
    """A picture with words below it."""
    return below([picture, paragraph(words, width=max(picture.width // SCALE, WIDTH))], gap=4)


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: it has the mathematical signs. Its size is in pixels of the picture."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / name), size)
