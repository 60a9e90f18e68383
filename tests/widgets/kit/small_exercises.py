"""Two small exercises on which the checker is tested."""

import torch
from torch import Tensor

from spear_widgets.kit.compare import close
from spear_widgets.kit.exercise import Cases, Exercise, Mistake


# ---------------------------------------------------------------- from Q to the batch
def batch_from(rows: Tensor, Q: Tensor) -> Tensor:
    """X as rows, shape (b, n), from R and Q: solve Q X = R."""
    return torch.linalg.solve(Q, rows)


def _splits() -> Cases:
    for seed, (b, n) in enumerate([(3, 7), (5, 5), (2, 30)]):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(b, n, generator=generator, dtype=torch.float64)
        Q = torch.randn(b, b, generator=generator, dtype=torch.float64)
        yield f"b = {b}, n = {n}", (rows, Q)


BATCH_FROM = Exercise(
    name="small/batch_from",
    level="warm-up",
    minutes=5,
    task="Write `batch_from(rows, Q)`: given R, shape (b, n), and the right Q, the batch, one sample a row.",
    reference=batch_from,
    cases=_splits,
    mistakes=(
        Mistake(
            lambda rows, Q: Q @ rows, "That is Q R. From R = Q Xᵀ, Q must be undone, not applied once more."
        ),
        Mistake(
            lambda rows, Q: Q.T @ rows, "Qᵀ undoes Q only if its columns are orthonormal. These are not."
        ),
        Mistake(lambda rows, Q: rows, "R mixes the samples; it is not the batch yet."),
        Mistake(lambda rows, Q: torch.linalg.solve(Q.T, rows), "That undoes Qᵀ. R = Q Xᵀ needs Q itself."),
        Mistake(
            lambda rows, Q: torch.linalg.solve(Q, rows).T,
            "That has one sample a column. Return one sample a row, the shape of R.",
        ),
    ),
    hints=(
        "Which equation ties R, Q and the batch together?",
        "R = Q Xᵀ, and Xᵀ has one sample a row: exactly what is asked for.",
        "`torch.linalg.solve(A, B)` gives the C with A C = B.",
    ),
)


# ---------------------------------------------------------------- b − 1 rows give one direction
def direction_from(rows: Tensor) -> Tensor:
    """The unit q with rows · q = 0, shape (b,), from b − 1 rows of length b."""
    return torch.linalg.svd(rows, full_matrices=True).Vh[-1]


def _same_line(wanted: Tensor, yours: Tensor) -> bool:
    """Whether two unit vectors agree: q and −q are the same direction."""
    return close(wanted, yours) or close(-wanted, yours)


def _row_sets() -> Cases:
    for seed, b in enumerate([2, 3, 6]):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(b - 1, b, generator=generator, dtype=torch.float64)
        yield f"b = {b}: {b - 1} rows of length {b}", (rows,)


DIRECTION_FROM = Exercise(
    name="small/direction_from",
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
