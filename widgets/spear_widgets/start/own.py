"""A reader's own picture: from a file of any kind to a sample of the batch. It stays in the kernel."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from spear_core.client.data import Batch
from spear_widgets.kit.scene import SIDE
from spear_widgets.kit.stage import bundled

MOST_BYTES = 8 * 2**20  # of a file: Jupyter's connection breaks at a message of 10 MiB
KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF"


@dataclass(frozen=True, eq=False)
class OwnPicture:
    """The square middle of a reader's picture.

    Attributes:
        name: of the file.
        pixels: shape (3, SIDE, SIDE), in [0, 1].
    """

    name: str
    pixels: Tensor

    @classmethod
    def read(cls, name: str, size: int, content: bytes) -> "OwnPicture":
        """Read a file: turned as its camera says, on white where it is transparent, the first picture of several.

        Args:
            name: of the file.
            size: of the file, in bytes.
            content: of the file; of one that is too large, nothing.

        Raises:
            ValueError: if it is no picture, too large or damaged.
        """
        if not 0 < size <= MOST_BYTES:
            most = f"{MOST_BYTES / 2**20:.0f} MiB"
            raise ValueError(
                f"a picture's file must be 1 byte to {most}, got {name!r} of {size / 2**20:.1f} MiB"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(io.BytesIO(content)) as image:
                    pixels = _square(image)
            except UnidentifiedImageError:
                raise ValueError(
                    f"the file must be a picture ({KINDS}), got {name!r}, which is none"
                ) from None
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise ValueError(
                    f"a picture must have at most {Image.MAX_IMAGE_PIXELS:,} pixels, got {name!r}: {error}"
                ) from error
            except Exception as error:  # a damaged file can raise anything
                raise ValueError(
                    f"a picture must be whole, got {name!r}, which is damaged: {error}"
                ) from error
        return cls(name, torch.from_numpy(pixels).permute(2, 0, 1))


def _square(image: Image.Image) -> np.ndarray:
    """The middle of a picture as numbers in [0, 1], shape (SIDE, SIDE, 3)."""
    image.draft("RGB", (8 * SIDE, 8 * SIDE))  # a large JPEG is read at a fraction of its size
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more
        grey = np.asarray(image, dtype=np.float32)
        top = 65535 if image.mode.startswith("I") else max(1.0, float(grey.max()))
        small = ImageOps.fit(Image.fromarray(np.clip(grey / top, 0, 1)), (SIDE, SIDE))
        return np.repeat(np.asarray(small)[..., None], 3, axis=2).clip(0, 1)
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small = ImageOps.fit(image, (SIDE, SIDE)).convert("RGBA")
    white = Image.new("RGBA", small.size, "white")
    return np.asarray(Image.alpha_composite(white, small).convert("RGB"), dtype=np.float32) / 255


def with_picture(batch: Batch, own: OwnPicture) -> Batch:
    """A batch of pictures with a reader's as its first sample, in the batch's own size and colours.

    Raises:
        ValueError: if the batch holds no pictures.
    """
    if batch.shape is None:
        raise ValueError("the batch must hold pictures to take one more, got table rows")
    channels, height, width = batch.shape
    picture = own.pixels if channels == 3 else own.pixels.mean(dim=0, keepdim=True)
    picture = F.interpolate(picture[None], (height, width), mode="bilinear", antialias=True).flatten(1)
    pixels = torch.cat([picture.to(batch.inputs), batch.original(batch.inputs[1:])])
    shift, scale = pixels.mean(), pixels.std()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a batch of one colour
    return replace(batch, inputs=(pixels - shift) / scale, shift=shift, scale=scale)


class Upload(anywidget.AnyWidget):
    """Where a picture is dropped or chosen. The file is a message to the kernel and no part of the widget's state.

    Attributes:
        name: of the picture that is in the batch, or empty.
        most: bytes of a file that the page sends at all.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)
    most = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(self, take: Callable[[str, int, bytes], None]) -> None:
        """Make one.

        Args:
            take: gets name, size and content of each file, without content if it is too large; no name takes it back.
        """
        super().__init__(_esm=bundled(Path(__file__).with_suffix(".js")))
        self._take = take
        self.on_msg(self._on_file)

    def _on_file(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        self._take(str(content["name"]), int(content["size"]), bytes(buffers[0]) if buffers else b"")
