"""Exercises of notebook 04, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- λ
def sparsity_match(output_grads, preactivations):  # type: ignore[no-untyped-def]  # shown as the solution
    """λ, the share of entries with [∂L/∂Z = 0] = [Z ≤ 0]."""
    agree = (output_grads == 0) == (preactivations <= 0)
    return float(agree.double().mean())


def _patterns() -> Cases:
    stage = scene("photos", 3, 60)
    D, Z = stage.output_grads, stage.preactivations
    another = scene("photos", 5, 80, 1)
    return [
        ("the true batch", (D, Z)),
        ("two samples exchanged", (D[[1, 0, 2]], Z)),
        ("five samples exchanged", (another.output_grads.flip(0), another.preactivations)),
        ("pre-activations of another batch", (D, scene("photos", 3, 60, 5).preactivations)),
        ("one sample, a z of exactly 0", (torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[0.0, 1.0, 1.0]]))),
    ]


SPARSITY_MATCH = Exercise(
    name="04/sparsity_match",
    level="warm-up",
    minutes=5,
    task="Write `sparsity_match(output_grads, preactivations)`: λ, the share of all entries where ∂L/∂Z is zero if and "
    "only if Z ≤ 0. Both are of shape (b, m); zeros are exactly 0.",
    reference=sparsity_match,
    cases=_patterns,
    mistakes=(
        Mistake(
            lambda output_grads, preactivations: 1 - float(sparsity_match(output_grads, preactivations)),
            "That is the share of entries that disagree: λ = 1 means that all agree.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) & (preactivations <= 0)).double().mean()
            ),
            "Entries that are both *not* zero agree, too. Compare the two conditions with ==, not with &.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) == (preactivations == 0)).double().mean()
            ),
            "Silent means Z ≤ 0, not Z = 0.",
        ),
        Mistake(
            lambda output_grads, preactivations: (
                ((output_grads == 0) == (preactivations <= 0)).double().mean(dim=1)
            ),
            "That is one share for each sample. λ is one number, over all samples and units.",
        ),
        Mistake(
            lambda output_grads, preactivations: int(((output_grads == 0) == (preactivations <= 0)).sum()),
            "That is the number of entries that agree. A share is between 0 and 1.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                (preactivations[output_grads == 0] <= 0).double().mean()
            ),
            "That asks only where ∂L/∂Z is zero. An active unit with a zero gradient counts, and so does a silent "
            "one without.",
        ),
    ),
    hints=(
        "Two conditions for each entry. When do they agree?",
        "`(output_grads == 0)` and `(preactivations <= 0)` are two tables of True and False.",
        "Compare the two tables with ==, and take the mean as a number: `.double().mean()`.",
    ),
)


# ---------------------------------------------------------------- the scales
def scales(factor, directions, bias_grad):  # type: ignore[no-untyped-def]  # shown as the solution
    """The lengths s with g = L Q̄ s, by least squares."""
    return torch.linalg.lstsq(factor @ directions, bias_grad[:, None]).solution[:, 0]


def _signless(factor: Tensor, directions: Tensor, bias_grad: Tensor) -> Tensor:
    found: Tensor = scales(factor, directions, bias_grad)
    return found.abs()


def _splits() -> Cases:
    for b, seed in ((2, 1), (3, 2), (6, 3)):
        stage = scene("photos", b, 100, seed)
        signs = torch.where(torch.arange(b) % 2 == 0, 1.0, -1.0).double()
        directions = stage.true_directions * signs
        yield f"b = {b}", (stage.low_rank.factor, directions, stage.layer.bias_grad.double())


SCALES = Exercise(
    name="04/scales",
    level="warm-up",
    minutes=8,
    task="Write `scales(factor, directions, bias_grad)`: the numbers s, shape (b,), with g = L Q̄ s. factor is L, "
    "shape (m, b), the columns of directions are unit vectors, shape (b, b), and bias_grad is g, shape (m,).",
    reference=scales,
    cases=_splits,
    mistakes=(
        Mistake(
            lambda factor, directions, bias_grad: torch.linalg.lstsq(factor, bias_grad[:, None]).solution[
                :, 0
            ],
            "That solves L v = g, so v = Q̄ s. The directions are still to be undone.",
        ),
        Mistake(
            lambda factor, directions, bias_grad: (factor @ directions).T @ bias_grad,
            "Multiplying by the transpose solves only if the columns are orthonormal. They are not.",
        ),
        Mistake(
            lambda factor, directions, bias_grad: (
                torch.linalg.lstsq(factor @ directions, bias_grad[:, None]).solution
            ),
            "That is a matrix of one column. Return the vector, shape (b,).",
        ),
        Mistake(
            lambda factor, directions, bias_grad: directions * scales(factor, directions, bias_grad),
            "Those are the scaled directions Q. Return the scales alone.",
        ),
        Mistake(
            _signless, "A scale may be negative: q and −q are the same direction, and s puts the sign right."
        ),
    ),
    hints=(
        "m equations for b unknowns, linear. Which matrix multiplies s?",
        "The matrix is L Q̄, that is `factor @ directions`. Least squares solves it: `torch.linalg.lstsq(A, "
        "B).solution`.",
        "lstsq wants B as a matrix: `bias_grad[:, None]`. Take column 0 of the solution.",
    ),
)
