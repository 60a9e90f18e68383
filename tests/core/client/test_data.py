"""Real data that ships with scikit-image and scikit-learn; torchvision's sets from files."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from spear_core.client.data import SKIMAGE_PHOTOS, SKLEARN_PHOTOS, TABLES, load, photographs
from tests.core.zoo import seeded

TABLE_SIZES = {
    "breast_cancer": (569, 30, 2),
    "wine": (178, 13, 3),
    "iris": (150, 4, 3),
    "diabetes": (442, 10, 2),
}


def test_every_photograph_is_there_in_colour():
    photos = photographs()
    assert len(photos) == len(SKIMAGE_PHOTOS) + len(SKLEARN_PHOTOS)
    assert all(photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 for photo in photos)
    assert all(photo.std() > 20 for photo in photos)
    assert len({photo.tobytes() for photo in photos}) == len(photos)


@pytest.mark.parametrize("size", [8, 32])
def test_standardised_crops_are_crops(size, dtype):
    batch = load("photos", 6, size=size, generator=seeded(), dtype=dtype)
    assert batch.inputs.shape == (6, 3 * size * size)
    assert batch.inputs.dtype == dtype
    assert batch.shape == (3, size, size)
    assert float(batch.inputs.mean()) == pytest.approx(0, abs=1e-4)
    assert float(batch.inputs.std()) == pytest.approx(1, abs=1e-4)
    raw = load("photos", 6, size=size, generator=seeded(), dtype=dtype, standardize=False)
    torch.testing.assert_close(batch.original(batch.inputs), raw.inputs)
    assert float(raw.inputs.min()) >= 0
    assert float(raw.inputs.max()) <= 1
    assert float(raw.inputs.std()) > 0.1
    assert batch.labels.dtype == torch.int64
    assert bool(((batch.labels >= 0) & (batch.labels < batch.classes)).all())


def test_a_crop_is_cut_from_a_photograph():
    """A crop at its photograph's own scale would be found pixel by pixel; scaled ones have its colours."""
    raw = load("photos", 20, size=16, generator=seeded(), standardize=False)
    pixels = raw.inputs.reshape(20, 3, -1)
    photos = [torch.from_numpy(photo.reshape(-1, 3).T.copy()) / 255 for photo in photographs()]
    for crop in pixels:
        inside = [
            bool(
                (
                    (crop >= photo.amin(dim=1)[:, None] - 0.02) & (crop <= photo.amax(dim=1)[:, None] + 0.02)
                ).all()
            )
            for photo in photos
        ]
        assert any(inside)
    assert float(torch.cdist(raw.inputs, raw.inputs).fill_diagonal_(1).min()) > 0


def test_pictures_undo_everything():
    raw = load("photos", 3, size=12, generator=seeded(), standardize=False)
    batch = load("photos", 3, size=12, generator=seeded())
    pictures = batch.pictures(batch.inputs)
    assert pictures.shape == (3, 12, 12, 3)
    np.testing.assert_allclose(
        pictures, raw.inputs.reshape(3, 3, 12, 12).permute(0, 2, 3, 1).numpy(), atol=1e-6
    )
    wild = batch.pictures(100 * batch.inputs)
    assert wild.min() >= 0
    assert wild.max() <= 1
    digits = load("digits", 2, generator=seeded())
    grey = digits.pictures(digits.inputs)
    assert grey.shape == (2, 8, 8, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_digits_are_those_of_scikit_learn():
    batch = load("digits", 40, generator=seeded(), standardize=False)
    everything = datasets.load_digits()
    rows = {image.tobytes(): target for image, target in zip(everything.data / 16, everything.target)}
    assert len(rows) == len(everything.data)
    for row, label in zip(batch.inputs, batch.labels):
        assert rows[row.double().numpy().tobytes()] == int(label)
    assert batch.shape == (1, 8, 8)
    assert batch.classes == 10


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_standardised_by_column(name):
    length, n, classes = TABLE_SIZES[name]
    whole = load(name, length, generator=seeded(), dtype=torch.float64)
    assert whole.inputs.shape == (length, n)
    assert whole.classes == classes
    assert len(whole.columns) == n
    torch.testing.assert_close(
        whole.inputs.mean(dim=0), torch.zeros(n, dtype=torch.float64), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(whole.inputs.std(dim=0), torch.ones(n, dtype=torch.float64))
    assert whole.labels.unique().tolist() == list(range(classes))
    raw = load(name, length, generator=seeded(), dtype=torch.float64, standardize=False)
    torch.testing.assert_close(whole.original(whole.inputs), raw.inputs)
    data = torch.as_tensor(getattr(datasets, f"load_{name}")().data)
    torch.testing.assert_close(raw.inputs.sort(dim=0).values, data.sort(dim=0).values)


def test_table_rows_are_no_pictures():
    batch = load("iris", 3, generator=seeded())
    with pytest.raises(ValueError, match="must be pictures to be shown as pictures, got table rows"):
        batch.pictures(batch.inputs)


@pytest.mark.parametrize("name", ["photos", "digits", "wine"])
def test_the_seed_decides(name):
    first, second, other = (load(name, 5, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.labels, second.labels)
    assert not torch.equal(first.inputs, other.inputs)
    state = torch.get_rng_state()
    load(name, 5, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_folder_of_pictures(tmp_path):
    colours = {"green": (0, 255, 0), "red": (255, 0, 0)}
    for name, colour in colours.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30), colour).save(tmp_path / name / "a.png")
    batch = load("ImageFolder", 2, size=10, root=tmp_path, generator=seeded(), standardize=False)
    assert batch.shape == (3, 10, 10)
    assert batch.classes == 2
    for row, label in zip(batch.inputs.reshape(2, 3, -1), batch.labels):
        wanted = torch.tensor(list(colours.values())[int(label)]) / 255
        torch.testing.assert_close(row, wanted[:, None].expand_as(row))


def test_a_set_that_is_not_there_is_named_and_others_are_offered(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ImageFolder must be under .*need no download"):
        load("ImageFolder", 2, root=tmp_path / "missing")


def test_a_failed_download_is_named_and_others_are_offered(tmp_path, monkeypatch):
    from torchvision import datasets as sets

    def refuse(*args, **kwargs):
        raise RuntimeError("Error downloading\nand a long story")

    monkeypatch.setattr(sets, "CIFAR10", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"CIFAR10 must be under .*got 'Error downloading'. Without a network"
    ):
        load("CIFAR10", 2, root=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("photographs", 2), "name must be one of photos, digits, .*got 'photographs'"),
        (("photos", 0), "batch_size must be at least 1, got 0"),
        (("iris", 151), "batch_size must be at most 150 for iris, got 151"),
        (("digits", 5000), "batch_size must be at most 1797 for digits, got 5000"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        load(*arguments)
