"""Questions of notebook 06. They stand here so that the cell does not tell the answer."""

import torch

from spear_core.linalg import least_squares
from spear_core.spear import low_rank
from spear_widgets.kit.predict import Prediction
from spear_widgets.two_shadows.circle import profile
from spear_widgets.two_shadows.grounds import NEAR_DEGREES, ground, nearest
from spear_widgets.two_shadows.wells import WALKERS, descents

WELL = 1e-4  # misfit below which a local minimum counts as a well down to rounding


def rows_of_the_next_gradient() -> Prediction:
    """What lies in the rows of ∂L/∂W₂?"""
    choices = [
        "the four photographs",
        "the four vectors y = relu(z) of the first layer",
        "nothing that tells of the batch",
    ]

    def measured() -> str:
        stage = ground(4)
        R2 = low_rank.split(stage.gradients["2.weight"]).rows
        with torch.no_grad():
            y = torch.relu(stage.model[0](stage.batch.inputs)).T.double()
        left = y - R2.T @ least_squares(R2.T, y)
        return choices[1] if float(left.norm()) < 1e-4 * float(y.norm()) else choices[2]

    return Prediction(
        "∂L/∂W₂ is the gradient of the second layer. Four vectors span all of its rows. Which?",
        choices,
        measured,
        "Each layer's gradient is ∂L/∂Z times its own inputs, and the inputs of layer 2 are the y.",
    )


def wells_on_the_circle() -> Prediction:
    """How many directions fit both layers?"""
    return Prediction(
        "b = 2. At how many directions of the circle does the misfit go down to rounding?",
        ["none", "exactly two", "a whole range"],
        lambda: wells(2),
        "One for each sample. A blend of the two has a z of the right kind, but its relu leaves 𝒴.",
        limits=(2, 3),
    )


def wells(batch_size: int, activation: str = "ReLU") -> int:
    """Local minima around the circle that go down to rounding."""
    stage = ground(batch_size, activation)
    _, misfit = profile(stage)
    # one well is one run of small values: the grid is close together there
    small = misfit < WELL
    return int((small & ~small.roll(1)).sum())


def starts_that_arrive() -> Prediction:
    """How many of twenty random starts find a sample?"""
    return Prediction(
        f"b = 3. {WALKERS} searches start at random directions. How many end at a sample?",
        ["one or two", "about half", "all"],
        lambda: arrivals("ReLU"),
        "The wells are wide: from every start the way leads down into one of the three.",
        limits=(WALKERS / 4, WALKERS),
    )


def arrivals(activation: str, seen: int | None = None) -> int:
    """How many of the twenty walkers of the sphere end at a sample."""
    stage = ground(3, activation) if seen is None else ground(3, activation, seen)
    return int((nearest(stage, descents(stage)[-1])[1] < NEAR_DEGREES).sum())


def wells_with_gelu() -> Prediction:
    """What do the wells become without zeros?"""
    choices = ["they are gone, as the zeros are", "they become shallow", "they remain, down to rounding"]

    def measured() -> str:
        stage = ground(3, "GELU")
        deepest = float(stage.landscape.misfit(stage.samples).max())
        return choices[2] if deepest < WELL else choices[1] if deepest < 0.1 else choices[0]

    return Prediction(
        "GELU never has slope zero: notebook 02 finds nothing to count. What becomes of the wells?",
        choices,
        measured,
        "σ(z) lies in the row space of ∂L/∂W₂ for every σ. No step of the argument used a zero.",
    )
