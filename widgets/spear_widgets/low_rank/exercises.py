"""Exercises of notebook 01, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- how many samples?
def count_samples(weight_grad: Tensor) -> int:
    """The batch size behind a gradient: its numerical rank."""
    values = torch.linalg.svdvals(weight_grad.double())
    return int((values > 1e-6 * values[0]).sum())


def _gradients() -> Cases:
    return [
        ("3 photographs, width 100", (scene("photos", 3, 100, 5).layer.weight_grad,)),
        ("6 photographs, width 60", (scene("photos", 6, 60, 6).layer.weight_grad,)),
        ("4 photographs, the loss scaled by 1/1000", (scene("photos", 4, 80, 7).layer.weight_grad / 1000,)),
        ("1 photograph, width 50", (scene("photos", 1, 50, 8).layer.weight_grad,)),
    ]


COUNT_SAMPLES = Exercise(
    name="01/count_samples",
    level="warm-up",
    minutes=5,
    task="Write `count_samples(weight_grad)`: how many samples are in the batch behind this gradient?",
    reference=count_samples,
    cases=_gradients,
    mistakes=(
        Mistake(
            lambda weight_grad: int((torch.linalg.svdvals(weight_grad.double()) > 0).sum()),
            "Rounding keeps every singular value above zero, so all of them are counted. "
            "Compare them with the largest one.",
        ),
        Mistake(
            lambda weight_grad: int((torch.linalg.svdvals(weight_grad.double()) > 1e-3).sum()),
            "A fixed threshold depends on the scale of the loss. Compare with the largest singular value.",
        ),
        Mistake(
            lambda weight_grad: len(weight_grad),
            "The number of rows is the width m of the layer. The batch size is the rank.",
        ),
    ),
    hints=(
        "The batch size is the rank of the gradient. Which numbers tell the rank?",
        "`torch.linalg.svdvals` gives the singular values, largest first. In 32-bit numbers, those after the "
        "cliff are about 1e-8 of the largest.",
        "Count the values above one millionth of the first one, and return the count as an int.",
    ),
)


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
    name="01/batch_from",
    level="warm-up",
    minutes=5,
    task="Write `batch_from(rows, Q)`: given R, shape (b, n), and the right Q, the batch, one sample a row.",
    reference=batch_from,
    cases=_splits,
    mistakes=(
        Mistake(
            lambda rows, Q: Q @ rows, "That is Q R. From R = Q Xᵀ, Q must be undone, not applied once more."
        ),
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
