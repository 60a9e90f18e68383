"""Exercises of notebook 07, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- how far from the row space
def misfit(next_grad: Tensor, y: Tensor) -> float:
    """‖(I − Y Yᵀ) y‖ / ‖y‖, Y an orthonormal basis of the row space of the gradient."""
    _, S, Vh = torch.linalg.svd(next_grad.double(), full_matrices=False)
    rows = Vh[: int((1e-6 * S[0] < S).sum())]
    left = y.double() - rows.T @ (rows @ y.double())
    return float(left.norm() / y.norm())


def _inside(next_grad: Tensor, y: Tensor) -> float:
    _, S, Vh = torch.linalg.svd(next_grad.double(), full_matrices=False)
    return float((Vh[: int((1e-6 * S[0] < S).sum())] @ y.double()).norm() / y.norm())


def _all_vectors(next_grad: Tensor, y: Tensor) -> float:
    Vh = torch.linalg.svd(next_grad.double(), full_matrices=False).Vh
    return float((y.double() - Vh.T @ (Vh @ y.double())).norm() / y.norm())


def _not_orthonormal(next_grad: Tensor, y: Tensor) -> float:
    b = int(torch.linalg.matrix_rank(next_grad.double(), rtol=1e-6))
    rows = next_grad.double()[:b]
    return float((y.double() - rows.T @ (rows @ y.double())).norm() / y.norm())


def _vectors() -> Cases:
    for b, width in ((2, 30), (3, 50), (5, 40)):
        stage = scene("photos", b, width)
        z, grad = stage.preactivations, stage.gradients["2.weight"]
        yield f"b = {b}, m = {width}, y of a sample", (grad, torch.relu(z[0]))
        yield (
            f"b = {b}, m = {width}, relu of the mean of two samples' z",
            (grad, torch.relu(z[:2].mean(dim=0))),
        )


def _both_small(wanted: float, yours: object) -> bool:
    """Equal to a millionth: where the truth is rounding, any rounding will do."""
    return isinstance(yours, (int, float, Tensor)) and abs(float(yours) - wanted) < 1e-6


MISFIT = Exercise(
    name="06/misfit",
    level="task",
    minutes=15,
    task="Write `misfit(next_grad, y)`: the distance of y from the row space of ∂L/∂W₂, over its length.",
    reference=misfit,
    cases=_vectors,
    mistakes=(
        Mistake(_inside, "That is the share inside the row space. The misfit is what is left outside."),
        Mistake(
            _all_vectors,
            "After the cliff the singular vectors are rounding. Keep those whose singular value is above a "
            "millionth of the first.",
        ),
        Mistake(
            lambda next_grad, y: misfit(next_grad, y) * float(y.norm()),
            "Divide by the length of y: a longer y must not look worse.",
        ),
        Mistake(
            lambda next_grad, y: misfit(next_grad.T, y),
            "That is the column space, where the next layer's ∂L/∂z lie. The y lie in rows.",
        ),
        Mistake(
            _not_orthonormal,
            "Rows of the gradient are not orthonormal, so `rows.T @ rows` is no projection. Take singular "
            "vectors.",
        ),
    ),
    hints=(
        "Which vectors span the rows of ∂L/∂W₂? Notebook 01 split a gradient in the same way.",
        "With orthonormal rows V of the row space, y − Vᵀ (V y) is the part of y outside.",
        "V: the rows of Vh of the SVD with a singular value above 1e-6 times the first. Return a float.",
    ),
    agree=_both_small,
)


# ---------------------------------------------------------------- counting
def free_directions(M: Tensor, R2: Tensor, slope: Tensor) -> int:
    """Number of independent (dc, dp) with σ'(z) ∘ (M dc) = R₂ᵀ dp."""
    equations = torch.cat([slope[:, None] * M, -R2.T], dim=1)
    return equations.shape[1] - int(torch.linalg.matrix_rank(equations))


def _rank(M: Tensor, R2: Tensor, slope: Tensor) -> int:
    return int(torch.linalg.matrix_rank(torch.cat([slope[:, None] * M, -R2.T], dim=1)))


def _systems() -> Cases:
    for seed, (m, b, active) in enumerate(((20, 6, 12), (20, 13, 12), (30, 18, 20), (24, 8, 3))):
        generator = torch.Generator().manual_seed(seed)
        M = torch.randn(m, b, generator=generator, dtype=torch.float64)
        R2 = torch.randn(b, m, generator=generator, dtype=torch.float64)
        slope = torch.zeros(m, dtype=torch.float64)
        slope[torch.randperm(m, generator=generator)[:active]] = 1
        yield f"m = {m}, b = {b}, {active} active units", (M, R2, slope)


FREE_DIRECTIONS = Exercise(
    name="06/free_directions",
    level="warm-up",
    minutes=10,
    task=(
        "Write `free_directions(M, R2, slope)`: how many independent pairs (dc, dp) solve "
        "slope ∘ (M dc) = R2ᵀ dp? M is (m, b), R2 is (b, m), slope is σ'(z), shape (m,)."
    ),
    reference=free_directions,
    cases=_systems,
    mistakes=(
        Mistake(_rank, "That is the number of independent equations. What is left of the unknowns?"),
        Mistake(
            lambda M, R2, slope: len(M) - _rank(M, R2, slope),
            "That counts spare equations. Subtract the rank from the unknowns, 2b.",
        ),
        Mistake(
            lambda M, R2, slope: free_directions(M, R2, torch.ones_like(slope)),
            "A silent unit passes on nothing: multiply row j of M by `slope[j]`.",
        ),
        Mistake(
            lambda M, R2, slope: M.shape[1] - int(torch.linalg.matrix_rank(slope[:, None] * M)),
            "The right-hand side has unknowns as well: b numbers dp.",
        ),
    ),
    hints=(
        "Bring both sides together: one matrix times the vector of all unknowns is zero.",
        "The matrix is [slope ∘ M, −R2ᵀ], m rows and 2b columns. Its null space is what is asked for.",
        "Columns minus `torch.linalg.matrix_rank` of that matrix, as an int.",
    ),
)
