"""Questions of notebook 01. They stand here so that the cell does not tell the answer."""

from torch import Tensor

from spear_core.spear import low_rank
from spear_widgets.kit.predict import Prediction

# what the picture shows, which the cell must not tell
ROWS = "Six rows of the gradient, divided by their entries of the bias gradient: mixed-up photographs."


def row_of_a_batch() -> Prediction:
    """What is a row of the gradient of several samples?"""
    return Prediction(
        "Now the client sends the gradient of all four photographs. You divide a row again. What do you see?",
        ["the first photograph", "a mixture of the photographs", "noise"],
        "a mixture of the photographs",
        "Row j of the gradient adds up (∂L/∂z<sub>i</sub>)<sub>j</sub> x<sub>i</sub>. "
        "The division makes the weights add up to one.",
    )


def rank_of(weight_grad: Tensor) -> Prediction:
    """Which rank has the gradient of a batch of 4?"""
    m, n = weight_grad.shape
    return Prediction(
        f"G has {m} rows and {n} columns, and comes from a batch of 4. What is its rank?",
        ["1", "4", str(m), str(n)],
        lambda: str(low_rank.split(weight_grad).batch_size),
        "Each outer product has rank 1, a sum of four has rank 4 at most, and these four are independent.",
    )


def number_of_splits() -> Prediction:
    """How many pairs L, R are there?"""
    return Prediction(
        "How many pairs L (200 × 4) and R (4 × 3072) multiply to the same G?",
        ["exactly one", "24, one for each order of the four samples", "infinitely many"],
        "infinitely many",
        "For every invertible 4 × 4 matrix A, (L A)(A<sup>−1</sup> R) is the same product.",
    )
