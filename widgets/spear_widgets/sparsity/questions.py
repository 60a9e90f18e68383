"""Questions of notebook 02. They stand here so that the cell does not tell the answer."""

from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import scene
from spear_widgets.sparsity.dial import DIAL_UNITS, dial_angles, zero_counts

MANY = 10  # zeros at once


def share_of_zeros() -> Prediction:
    """How much of ∂L/∂Z is zero?"""
    return Prediction(
        "Photographs are fed to a network that has not been trained yet. Which share of the entries of ∂L/∂Z is zero?",
        ["none", "about one half", "nearly all"],
        lambda: float((scene().output_grads == 0).double().mean()),
        "The weights are as often positive as negative, so the sign of each z is like the toss of a coin.",
        limits=(0.4, 0.6),
    )


def angles_with_many_zeros() -> Prediction:
    """At how many angles of the dial do many entries vanish?"""
    choices = [
        "at none: they vanish one by one",
        "at exactly two",
        "over a range of some degrees around each sample",
    ]

    def measured() -> int:
        stage = scene("photos", 2, DIAL_UNITS)
        return int((zero_counts(stage, dial_angles(stage)) >= MANY).sum())

    return Prediction(
        f"b = 2. You turn q by 180 degrees. At how many angles are {MANY} or more entries of L q zero?",
        choices,
        measured,
        "One for each sample. Beside them, even by a hundredth of a degree, the zeros are gone.",
        limits=(2, 3),
    )


def circles_to_find_a_point() -> Prediction:
    """How many rows give a direction?"""
    return Prediction(
        "How many great circles through a sample's point do you need to know to find the point?",
        ["one", "two", "all of them"],
        "two",
        "Two different great circles cross in one point and its opposite. In general it takes b − 1 rows.",
    )
