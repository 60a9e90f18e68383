"""Exercises of notebook 02, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- counting zeros
def zero_share(factor: Tensor, direction: Tensor) -> float:
    """Share of the entries of L q that are zero, whatever the length of q."""
    entries = (factor @ direction).abs()
    return float((entries < 1e-5 * entries.max()).double().mean())


def _count(factor: Tensor, direction: Tensor) -> int:
    entries = (factor @ direction).abs()
    return int((entries < 1e-5 * entries.max()).sum())


def _directions() -> Cases:
    for b, length in ((3, 1.0), (4, 1000.0), (2, 1e-4)):
        stage = scene("photos", b, 100)
        right = stage.true_directions[:, 0]
        wrong = torch.randn(b, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
        yield f"b = {b}, a right q of length {length:g}", (stage.low_rank.factor, length * right)
        yield f"b = {b}, a wrong q", (stage.low_rank.factor, length * wrong)


ZERO_SHARE = Exercise(
    name="02/zero_share",
    level="warm-up",
    minutes=8,
    task="Write `zero_share(factor, direction)`: which share of the entries of L q is zero, to rounding?",
    reference=zero_share,
    cases=_directions,
    mistakes=(
        Mistake(
            lambda factor, direction: float(((factor @ direction) == 0).double().mean()),
            "After a matrix product hardly any number is exactly 0.0. Allow for rounding.",
        ),
        Mistake(
            lambda factor, direction: float(((factor @ direction).abs() < 1e-5).double().mean()),
            "A longer q makes every entry larger, so a fixed threshold changes its verdict. "
            "Compare with the largest entry.",
        ),
        Mistake(_count, "That is the number of zeros. A share is between 0 and 1."),
        Mistake(
            lambda factor, direction: 1 - float(zero_share(factor, direction)),
            "That is the share of entries that are not zero.",
        ),
    ),
    hints=(
        "Compute L q first. What is the smallest entry that you would not call zero?",
        "Where the truth is zero, rounding leaves about 1e-7 of the largest entry; elsewhere far more.",
        "Compare the magnitudes with 1e-5 times the largest, and take the mean of the result as numbers.",
    ),
)


# ---------------------------------------------------------------- b − 1 rows give one direction
def direction_from(rows: Tensor) -> Tensor:
    """The unit q with rows · q = 0, shape (b,), from b − 1 rows of length b."""
    return torch.linalg.svd(rows, full_matrices=True).Vh[-1]


def _same_line(wanted: Tensor, yours: Tensor) -> bool:
    """Whether two unit vectors agree: q and −q are the same direction."""
    yours = torch.as_tensor(yours).to(wanted)
    unit = abs(float(yours.norm()) - 1) < 1e-8
    return yours.shape == wanted.shape and unit and abs(abs(float(wanted @ yours)) - 1) < 1e-8


def _row_sets() -> Cases:
    for seed, b in enumerate([2, 3, 6]):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(b - 1, b, generator=generator, dtype=torch.float64)
        yield f"b = {b}: {b - 1} rows of length {b}", (rows,)


DIRECTION_FROM = Exercise(
    name="02/direction_from",
    level="warm-up",
    minutes=8,
    task="Write `direction_from(rows)`: from b − 1 rows of L, the unit vector q that all of them make zero.",
    reference=direction_from,
    cases=_row_sets,
    mistakes=(
        Mistake(
            lambda rows: torch.linalg.svd(rows, full_matrices=True).Vh[0],
            "That is the direction in which the rows say most. The one they say nothing about is last.",
        ),
        Mistake(
            lambda rows: torch.linalg.svd(rows, full_matrices=False).Vh[-1],
            "The thin SVD of b − 1 rows has only b − 1 vectors, and the null vector is the one left out: "
            "`full_matrices=True`.",
        ),
        Mistake(
            lambda rows: torch.linalg.svd(rows, full_matrices=True).Vh[:, -1],
            "That is a column of Vh. Right singular vectors are the rows of Vh.",
        ),
        Mistake(
            lambda rows: torch.linalg.svd(rows, full_matrices=True).Vh[-1:],
            "That is a matrix of one row. Return the vector, shape (b,).",
        ),
    ),
    hints=(
        "q is the null vector of the rows: `rows @ q = 0`.",
        "A full SVD lists b right singular vectors; the singular value that belongs to the last is zero.",
        "`torch.linalg.svd(rows, full_matrices=True)` returns `U, S, Vh`. Which row of Vh is it?",
    ),
    agree=_same_line,
)
