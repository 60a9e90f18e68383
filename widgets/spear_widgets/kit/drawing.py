"""Drawing for the explorers: grids of small pictures, text, safe colours.

All functions take arrays and return pictures (PIL images or encoded bytes). Pictures bring their own white
background, so they read the same in light and dark themes. Samples are told apart by colour *and* marker:
the colours are Okabe and Ito's, which stay apart in all common kinds of colour blindness.
"""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = "#1a1a1a", "#9a9a9a", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
WIDTH = 960  # pixels of a whole-width picture


def colour(sample: int) -> str:
    """Colour of a sample."""
    return COLOURS[sample % len(COLOURS)]


def marker(sample: int) -> str:
    """Marker of a sample; with the colour, a dozen samples stay apart."""
    return MARKERS[sample % len(MARKERS)]


def encode(image: Image.Image, format: str = "png") -> bytes:
    """A picture as bytes, encoded for speed rather than for size."""
    buffer = io.BytesIO()
    options = {"compress_level": 1} if format == "png" else {"quality": 88}
    image.save(buffer, format, **options)
    return buffer.getvalue()


def stack_pictures(pictures: Sequence[bytes]) -> bytes:
    """Encoded pictures below each other, as one small PNG.

    Raises:
        ValueError: if there are none.
    """
    if not pictures:
        raise ValueError("there must be at least one picture, got none")
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in pictures]
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    # a palette makes a notebook a quarter as large, and the eye hardly sees it
    buffer = io.BytesIO()
    sheet.quantize(128, Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
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
    gap, below = 8, 20 if labels else 0
    step_x, step_y = across + gap, side + gap + below
    sheet = Image.new("RGB", (columns * step_x + gap, -(-k // columns) * step_y + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * step_x, gap + i // columns * step_y
        sheet.paste(Image.fromarray(picture).resize((across, side), Image.Resampling.NEAREST), (x, y))
        if i < len(frames) and frames[i]:
            draw.rectangle((x - 4, y - 4, x + across + 3, y + side + 3), outline=frames[i], width=4)
        if i < len(labels):
            draw.text((x + across / 2, y + side + 5), labels[i], fill=INK, font=font(13), anchor="mt")
    return sheet


def beside(images: Sequence[Image.Image], gap: int = 16) -> Image.Image:
    """Pictures side by side, centred on a line."""
    height = max(image.height for image in images)
    sheet = Image.new("RGB", (sum(i.width for i in images) + gap * (len(images) - 1), height), PAPER)
    left = 0
    for image in images:
        sheet.paste(image, (left, (height - image.height) // 2))
        left += image.width + gap
    return sheet


def named(rows: Sequence[tuple[str, Image.Image]], width: int) -> Image.Image:
    """Pictures below each other, each with its name before it in a column of a given width."""
    return below([beside([headline(name, 14, width), picture]) for name, picture in rows], gap=2)


def below(images: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures below each other, flush left."""
    sheet = Image.new(
        "RGB", (max(i.width for i in images), sum(i.height for i in images) + gap * (len(images) - 1)), PAPER
    )
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + gap
    return sheet


def headline(text: str, size: int = 14, width: int = 0) -> Image.Image:
    """A line of text as a picture, at least as wide as asked."""
    box = font(size).getbbox(text)
    sheet = Image.new("RGB", (max(width, int(box[2]) + 10), size + 10), PAPER)
    ImageDraw.Draw(sheet).text((8, 4), text, fill=INK, font=font(size))
    return sheet


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
    draw, letters = ImageDraw.Draw(picture, "RGBA"), font(size, bold=bold)
    if paper:
        left, top, right, bottom = draw.textbbox(at, text, letters, anchor)
        draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=paper)
    draw.text(at, text, ink, letters, anchor)


def paragraph(text: str, size: int = 14, width: int = WIDTH) -> Image.Image:
    """Text as a picture of a given width, in as many lines as it takes."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(size).getlength(longer) > width - 16:
            lines.append(word)
        else:
            lines[-1] = longer
    return below([headline(line, size, width) for line in lines], gap=0)


def captioned(png: bytes, words: str) -> bytes:
    """A PNG with words below it; one with a palette keeps having one."""
    picture = Image.open(io.BytesIO(png))
    whole = below([picture.convert("RGB"), paragraph(words, width=max(picture.width, WIDTH))], gap=4)
    if picture.mode == "P":
        whole = whole.quantize(128, Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    whole.save(buffer, "png", optimize=True)
    return buffer.getvalue()


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: it has the mathematical signs."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / name), size)
