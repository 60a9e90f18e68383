"""Real batches without a download: photographs, digits and tables; torchvision's sets where there are files.

The photographs ship with scikit-image and scikit-learn: the astronaut Eileen Collins (NASA), coffee, Chelsea
the cat, a rocket launch (SpaceX), a retina, a stained tissue section, a temple in China and a flower. Crops
are cut at random places by a seeded generator, so any number of different "private photos" comes out of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from spear_core.client import census
from spear_core.errors import check_generator

SKIMAGE_PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")
SKLEARN_PHOTOS = ("china", "flower")
TABLES = ("breast_cancer", "wine", "iris", "diabetes")
MIXED_TABLES = ("people", "adult")
PEOPLE = 2000  # rows of the made table
TORCHVISION_SETS = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "ImageFolder")
NAMES = ("photos", "digits", *TABLES, *MIXED_TABLES, *TORCHVISION_SETS)


@dataclass(frozen=True)
class Batch:
    """A private batch, ready for a network.

    Attributes:
        inputs: one sample per row, shape (b, n).
        labels: shape (b,), int64.
        classes: how many labels there are.
        shape: (C, H, W) of a picture, None for a table row.
        shift: what standardising subtracted, broadcastable to inputs.
        scale: what standardising divided by.
        columns: names of the n columns of a table, else empty.
    """

    inputs: Tensor
    labels: Tensor
    classes: int
    shape: tuple[int, int, int] | None
    shift: Tensor
    scale: Tensor
    columns: tuple[str, ...] = ()

    def original(self, inputs: Tensor) -> Tensor:
        """Undo the standardising: rows in the data's own units."""
        return inputs * self.scale.to(inputs) + self.shift.to(inputs)

    def pictures(self, inputs: Tensor) -> np.ndarray:
        """Rows as pictures, shape (b, H, W, 3), float in [0, 1]; clipped, since a guess may lie outside.

        Raises:
            ValueError: if the rows are not pictures.
        """
        if self.shape is None:
            raise ValueError("inputs must be pictures to be shown as pictures, got table rows")
        return as_pictures(self.original(inputs.detach().cpu()), self.shape)


def as_pictures(rows: Tensor, shape: Sequence[int]) -> np.ndarray:
    """Flat pictures of this (C, H, W) as (b, H, W, 3), clipped to [0, 1]; grey ones in three equal colours."""
    pixels = rows.detach().cpu().reshape(-1, *shape).permute(0, 2, 3, 1).clamp(0, 1)
    return pixels.expand(*pixels.shape[:3], 3).numpy()


def load(
    name: str,
    batch_size: int,
    *,
    size: int = 32,
    standardize: bool = True,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    root: str | Path = "data",
) -> Batch:
    """A batch of real data by name.

    Args:
        name: "photos", "digits", a table ("breast_cancer", "wine", "iris", "diabetes"; "people", made, or "adult"
            from the file adult.data, with continuous and one-hot columns) or a torchvision set
            ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "ImageFolder"), which needs files or a network.
        batch_size: b ≥ 1.
        size: side of the photographs in pixels; pictures of a torchvision folder are cropped to it.
        standardize: pictures: minus the mean and divided by the deviation of the batch; tables: of each
            column of the whole table. If not, pictures are in [0, 1] and tables in their own units.
        generator: source of the choice of samples, crops and of the photographs' labels, which are random.
        dtype: of the inputs.
        root: folder of the torchvision sets.

    Raises:
        ValueError: unknown name, batch size below 1 or above the size of the data set.
        FileNotFoundError: a torchvision set that is not there and cannot be downloaded.

    >>> batch = load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
    >>> batch.inputs.shape, batch.shape
    (torch.Size([4, 768]), (3, 16, 16))
    """
    check_generator(generator)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    if name in (*TABLES, *MIXED_TABLES):
        values, target, columns, measured = _table(name, Path(root))
        rows = _choose(len(values), batch_size, name, generator)
        shift, scale = torch.zeros_like(values[0]), torch.ones_like(values[0])
        if standardize:  # of one-hot columns nothing: they stay 0 and 1
            shift[:measured] = values[:, :measured].mean(dim=0)
            scale[:measured] = values[:, :measured].std(dim=0)
        inputs, classes = ((values[rows] - shift) / scale).to(dtype), int(target.max()) + 1
        return Batch(inputs, target[rows], classes, None, shift.to(dtype), scale.to(dtype), columns)
    pictures = {"photos": _photos, "digits": _digits}.get(name) or partial(_torchvision, name, Path(root))
    pixels, labels, classes = pictures(batch_size, size, generator)
    pixels = pixels.to(dtype)
    shift = pixels.mean() if standardize else torch.zeros((), dtype=dtype)
    scale = pixels.std() if standardize else torch.ones((), dtype=dtype)
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    return Batch(((pixels - shift) / scale).flatten(1), labels, classes, shape, shift, scale)


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """The photographs themselves, each (height, width, 3), uint8."""
    import skimage.data

    photos = [getattr(skimage.data, name)()[..., :3] for name in SKIMAGE_PHOTOS]
    for name in SKLEARN_PHOTOS:  # what `sklearn.datasets.load_sample_image` reads
        with Image.open(_sklearn_data("images", f"{name}.jpg")) as photo:
            photos.append(np.asarray(photo))
    return tuple(photos)


def _sklearn_data(*path: str) -> Path:
    """A file that comes with scikit-learn, without half a second for importing it."""
    package = find_spec("sklearn")
    assert package is not None and package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0], "datasets", *path)


def _photos(count: int, size: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, int]:
    """Square crops at random places, each a quarter to a whole of a photograph's height, scaled to `size`."""
    photos, crops = photographs(), []
    for _ in range(count):
        number = _below(len(photos), generator)
        height, width = photos[number].shape[:2]
        side = height // 4 + _below(height - height // 4 + 1, generator)
        top, left = _below(height - side + 1, generator), _below(width - side + 1, generator)
        crops.append(_crop(number, top, left, side, size))
    return torch.stack(crops), torch.randint(10, (count,), generator=generator), 10


@lru_cache(maxsize=256)  # a batch begins with the crops of a smaller one of the same seed
def _crop(number: int, top: int, left: int, side: int, size: int) -> Tensor:
    photo = photographs()[number]
    crop = torch.from_numpy(np.ascontiguousarray(photo[top : top + side, left : left + side]))
    pixels = crop.permute(2, 0, 1)[None].to(torch.float32).div_(255)
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0]


def _digits(count: int, size: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, int]:
    images, labels = _all_digits()
    rows = _choose(len(images), count, "digits", generator)
    return images[rows, None] / 16, labels[rows], 10


@cache
def _all_digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 8×8 digits, 0 to 16, and what they show, as `sklearn.datasets.load_digits` reads them."""
    rows = torch.from_numpy(np.loadtxt(_sklearn_data("data", "digits.csv.gz"), delimiter=","))
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].to(torch.int64)


def _table(name: str, root: Path) -> tuple[Tensor, Tensor, tuple[str, ...], int]:
    """A whole table: values, labels, names of the columns, and how many of these, the first ones, are measured."""
    if name in MIXED_TABLES:
        made = torch.Generator().manual_seed(0)  # the table is one and the same; which rows are drawn is not
        table = census.people(PEOPLE, made) if name == "people" else census.read(root / "adult.data")
        return *table, census.COLUMNS, len(census.CONTINUOUS)
    import sklearn.datasets

    found = getattr(sklearn.datasets, f"load_{name}")()
    values, target = torch.as_tensor(found.data), torch.as_tensor(found.target)
    if name == "diabetes":  # a regression set: above or below the median progression
        target = target > target.median()
    return values, target.to(torch.int64), tuple(found.feature_names), values.shape[1]


def _torchvision(
    name: str, root: Path, count: int, size: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, int]:
    from torchvision import datasets, transforms

    try:
        if name == "ImageFolder":
            steps = transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()
            found = datasets.ImageFolder(str(root), transforms.Compose(steps))
        else:
            found = getattr(datasets, name)(
                str(root), train=False, download=True, transform=transforms.ToTensor()
            )
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} must be under {root}/ or downloadable, got {str(error).splitlines()[0]!r}. "
            'Without a network, "photos", "digits" and the tables need no download.'
        ) from error
    rows = _choose(len(found), count, name, generator)
    pictures, labels = zip(*(found[int(row)] for row in rows))
    return torch.stack(pictures), torch.tensor(labels), len(found.classes)


def _choose(available: int, count: int, name: str, generator: torch.Generator | None) -> Tensor:
    if count > available:
        raise ValueError(f"batch_size must be at most {available} for {name}, got {count}")
    return torch.randperm(available, generator=generator)[:count]


def _below(limit: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(limit, (), generator=generator))
