"""A reader's own picture: files of all kinds, good and bad, become a sample of the batch or an error in words."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from spear_widgets.kit.scene import SIDE, scene
from spear_widgets.start import full_run
from spear_widgets.start.own import MOST_BYTES, OwnPicture, with_picture

RED, BLUE = (220, 30, 30), (30, 30, 220)


def halves(size=(120, 90), mode="RGB", left=RED, right=BLUE) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture.convert(mode)


def file(picture: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> torch.Tensor:
    made = OwnPicture.read("mine", len(content), content).pixels
    assert made.shape == (3, SIDE, SIDE) and made.dtype == torch.float32
    assert float(made.min()) >= 0 and float(made.max()) <= 1
    return made


def is_halves(made: torch.Tensor, tolerance: float = 0.06) -> bool:
    colours = torch.tensor([RED, BLUE]) / 255
    left, right = made[:, 4:-4, 2:12].mean(dim=(1, 2)), made[:, 4:-4, -12:-2].mean(dim=(1, 2))
    return bool((torch.stack([left, right]) - colours).abs().max() < tolerance)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff"])
def test_kinds_of_files(kind: str):
    assert is_halves(pixels(file(halves(), kind)))


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA", "LA"])
def test_kinds_of_colours(mode: str):
    kind = "tiff" if mode == "CMYK" else "png"
    made = pixels(file(halves(mode=mode), kind))
    assert mode == "LA" or is_halves(made, 0.1)
    assert float((made[0] - made[2]).abs().max()) < 1e-6 or mode != "LA"


def test_as_the_camera_was_held():
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    sideways = halves().transpose(Image.Transpose.ROTATE_90)
    assert is_halves(pixels(file(sideways, "jpeg", exif=turned, quality=95)))


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert float(pixels(file(clear)).min()) == 1
    half = pixels(file(Image.new("RGBA", (50, 50), (0, 0, 0, 128))))
    assert abs(float(half.mean()) - 127 / 255) < 0.01
    indexed = halves().quantize(2)
    assert float(pixels(file(indexed, transparency=indexed.getpixel((0, 0))))[:, :, :12].min()) > 0.98


@pytest.mark.parametrize(("kind", "dtype", "top"), [("png", np.uint16, 65535), ("tiff", np.float32, 1.0)])
def test_sixteen_bits_and_floats(kind: str, dtype: type, top: float):
    ramp = np.linspace(0, top, 64).astype(dtype)[None].repeat(64, axis=0)
    made = pixels(file(Image.fromarray(ramp), kind))
    assert torch.equal(made[0], made[2])
    assert float((made[0, 0] - torch.linspace(0, 1, SIDE)).abs().max()) < 0.04


def test_black_and_white_grey_and_the_first_of_several():
    assert set(pixels(file(Image.new("1", (9, 9), 1))).unique().tolist()) == {1.0}
    assert set(pixels(file(Image.new("L", (9, 9), 51))).unique().tolist()) == {float(torch.tensor(0.2))}
    first = file(halves(), "gif", save_all=True, append_images=[Image.new("RGB", (120, 90))])
    assert is_halves(pixels(first), 0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3000, 2), (32, 32), (6000, 5000)])
def test_tiny_long_and_huge_pictures(size: tuple[int, int]):
    made = pixels(file(halves(size), "jpeg" if size[0] > 4000 else "png"))
    assert size[0] < 4000 or is_halves(made)


# ---------------------------------------------------------------- bad files
def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Dear diary,", r"the file must be a picture \(PNG, JPEG, .*\), got 'mine', which is none"),
        (b"", "a picture's file must be 1 byte to 8 MiB, got 'mine' of 0.0 MiB"),
        (b"%PDF-1.7 and so on", "must be a picture"),
        (file(halves((400, 300)), "png")[:400], "a picture must be whole, got 'mine', which is damaged"),
        (file(halves((400, 300)), "jpeg")[:700], "a picture must be whole, got 'mine', which is damaged"),
        (
            png_of(12_000, 12_000),
            r"must have at most [0-9,]+ pixels, got 'mine': Image size \(144000000 pixels\)",
        ),
        (png_of(60_000, 60_000), r"must have at most [0-9,]+ pixels, got 'mine': Image size"),
        (png_of(0, 10), "must be"),
    ],
)
def test_bad_files_are_told_in_words(content: bytes, words: str):
    with pytest.raises(ValueError, match=words):
        OwnPicture.read("mine", len(content), content)


def test_a_file_too_large_is_not_even_sent():
    with pytest.raises(ValueError, match=r"1 byte to 8 MiB, got 'film\.tiff' of 12\.0 MiB"):
        OwnPicture.read("film.tiff", 12 * 2**20, b"")
    assert OwnPicture.read("film.tiff", MOST_BYTES, file(halves())).name == "film.tiff"


# ---------------------------------------------------------------- in the batch
@pytest.mark.parametrize(("data", "shape"), [("photos", (3, 32, 32)), ("digits", (1, 8, 8))])
def test_it_is_the_first_sample_in_the_batchs_own_form(data: str, shape: tuple[int, ...]):
    batch = scene(data, 4).batch
    own = OwnPicture.read("mine", 1000, file(halves()))
    mixed = with_picture(batch, own)
    assert mixed.shape == shape and mixed.inputs.dtype == batch.inputs.dtype
    assert abs(float(mixed.inputs.mean())) < 1e-5 and abs(float(mixed.inputs.std()) - 1) < 1e-4
    assert torch.allclose(mixed.original(mixed.inputs)[1:], batch.original(batch.inputs)[1:], atol=1e-5)
    first = torch.from_numpy(mixed.pictures(mixed.inputs)[0])
    wanted = own.pixels if data == "photos" else own.pixels.mean(dim=0).expand(3, -1, -1)
    assert abs(float(first.mean() - wanted.mean())) < 1e-3
    with pytest.raises(ValueError, match="must hold pictures"):
        with_picture(scene("breast_cancer", 4).batch, own)


@pytest.fixture
def full() -> full_run.FullRun:
    made = full_run.FullRun()
    made.set(batch_size=4, width=100)
    return made


def send(full: full_run.FullRun, name: str, content: bytes, size: int | None = None) -> None:
    """As the page does."""
    size = len(content) if size is None else size
    buffers = [memoryview(content)] if content else []
    full.upload._handle_custom_msg({"name": name, "size": size}, buffers)


def test_it_comes_back_among_the_others(full):
    send(full, "cat.png", file(halves()))
    assert full.status.value == "" and full.upload.name == "cat.png"
    assert full.outcome.inversion.certified and full.outcome.score.exact.all()
    back = full.stage.batch.pictures(full.outcome.inversion.inputs)[int(full.outcome.score.order[0])]
    assert is_halves(torch.from_numpy(back).permute(2, 0, 1))
    assert full.live.data["names"][0] == "sample 1, your picture"
    assert full.live.data["said"][0].startswith("Sample 1, your picture: proven to be one sample")
    assert full.live.data["phase"] == "fresh"
    send(full, "", b"")
    assert full.upload.name == "" and full.live.data["names"][0] == "sample 1"


def test_it_stays_while_the_setting_changes_and_leaves_with_reset(full):
    full.set(data="breast_cancer")
    send(full, "cat.png", file(halves()))
    assert full.values["data"] == "photos", "the table has no pictures"
    full.set(data="digits", batch_size=6)
    assert full.upload.name == "cat.png" and full.outcome is None
    full.run_now()
    assert full.outcome.score.exact.all()
    full.set(data="breast_cancer")
    assert full.upload.name == "" and full.status.value == ""
    full.set(data="photos")
    assert full.upload.name == "cat.png"
    full.reset()
    assert full.upload.name == "" and full.own is None


def test_a_bad_file_changes_nothing(full):
    full.run_now()
    outcome = full.outcome
    bad = [("notes.txt", b"hello", 5), ("film.tiff", b"", 40 * 2**20), ("bomb", png_of(60_000, 60_000), 99)]
    for name, content, size in bad:
        send(full, name, content, size)
        assert full.status.value.startswith("Error: ") and name in full.status.value
        assert full.own is None and full.outcome is outcome
    send(full, "cat.png", file(halves()))
    assert full.status.value == ""


def test_a_picture_of_one_colour_alone(full):
    """Nothing is left of it when its mean is taken off: refused in words, not a division by zero."""
    full.set(batch_size=1)
    send(full, "grey.png", file(Image.new("L", (9, 9), 128)))
    assert full.status.value == ""
    assert full.stage.batch.inputs.isfinite().all()
    assert full.outcome is not None


def test_the_file_is_no_part_of_the_widgets_state(full):
    content = file(halves())
    send(full, "cat.png", content)
    state = full.upload.get_state()
    assert content not in [bytes(v) for v in state.values() if isinstance(v, (bytes, memoryview))]
    assert set(state) >= {"name", "most"} and "content" not in state
